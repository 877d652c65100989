"""
``python -m eval ship RESULT_FOLDER...``: small agents with model cards, out of finished results, where the zoo finds them.

``--check`` has those that are shipped play fresh games, each in the condition that it was trained in, and compares.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eval.suite import LOWEST_FIRST_SEED

if TYPE_CHECKING:
    from eval.shipping.check import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of the subcommand
    """
    parser.add_argument(
        "results", metavar="RESULT_FOLDER", nargs="*", type=Path, help="of python -m eval run, with the zoo's run in it"
    )
    parser.add_argument("--to", type=Path, default=Path("agents"), help="folder of all shipped agents (default: %(default)s)")
    parser.add_argument(
        "--exp-id", type=int, help="number of the agent's folder (default: that which it has, else the next free one)"
    )
    check = parser.add_argument_group("checking")
    check.add_argument(
        "--check",
        action="store_true",
        help="have each shipped agent play fresh games in the condition that it was trained in, and no other: does it play as"
        " its card says?",
    )
    check.add_argument("--games", type=int, help="for each agent (default: as many as its card's figures are of)")
    check.add_argument("--seed", type=int, help="of the first fresh game (default: 1,000,000 above that of the card's games)")
    check.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="that agents act on (default: auto)")


def main(args: argparse.Namespace) -> int:
    """
    :param args: of the subcommand
    :return: the exit status: 0; 1 if an agent plays otherwise than its card says; 130 after Ctrl-C
    :raises SystemExit: if something is missing, or in the way: before any game is played, or anything written
    """
    try:
        _check_arguments(args)
        return _check(args) if args.check else _ship(args)
    except (ValueError, OSError) as error:
        sys.exit(f"python -m eval ship: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _check_arguments(args: argparse.Namespace) -> None:
    if args.check and (args.results or args.exp_id is not None):
        raise ValueError("--check must stand without a RESULT_FOLDER and --exp-id: it checks what is shipped")
    if not args.check and not args.results:
        raise ValueError("there must be a RESULT_FOLDER to ship, or --check")
    if not args.check and (args.games is not None or args.seed is not None):
        raise ValueError("--games and --seed must go with --check: what is shipped has played its games")
    if args.seed is not None and args.seed < LOWEST_FIRST_SEED:
        raise ValueError(f"--seed must be at least {LOWEST_FIRST_SEED:,}, far from the seeds of training, got {args.seed}")
    if args.games is not None and args.games < 1:
        raise ValueError(f"--games must be 1 at least, got {args.games}")


def _ship(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from eval.shipping.card import read_card
    from eval.shipping.ship import ship

    with tqdm(total=len(args.results), unit="agent", file=sys.stderr) as bar:
        folders = ship(args.results, args.to, args.exp_id, lambda: bar.update(1))
    for folder in folders:
        print(f"{folder}: {read_card(folder)['bytes'] / 1e6:.2f} MB, acts as the trained agent does")
    print(f"all agents: {args.to / 'README.md'}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from eval.shipping.card import shipped_agents
    from eval.shipping.check import LEVEL, check_playable, play_fresh, settings_for

    agents = shipped_agents(args.to)
    if not agents:
        raise ValueError(f"--to must be a folder with shipped agents, got {args.to}, which has none")
    ways = {folder: settings_for(card, args.games, args.seed) for folder, card in agents.items()}
    for folder, card in agents.items():
        check_playable(folder, card, ways[folder])
    level, findings = LEVEL / len(agents), []
    with tqdm(total=sum(way.games for way in ways.values()), unit="game", file=sys.stderr) as bar:
        for folder, card in agents.items():
            bar.set_description(f"{folder.parent.name}/{folder.name}")
            findings.append(play_fresh(folder, card, ways[folder], level, args.device, lambda: bar.update(1)))
    _tell(findings, level)
    return 1 if any(found.is_otherwise for found in findings) else 0


def _tell(findings: "list[Finding]", level: float) -> None:
    from eval.report.words import plural

    for found in findings:
        print(
            f"{found.folder}, {found.condition}: mean {found.mean:.3f} over {plural(found.games, 'fresh game')},"
            f" expected about {found.low:.3f} to {found.high:.3f}, p = {found.p_value:.2g}: {found.verdict}"
        )
    print(f"p-values are of permutation tests; up to {level:.2g}, an agent counts as playing otherwise")
