"""The command line of ``python -m eval throughput``."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from eval.throughput.contestants import OURS, OWN, PARTS, Measurement, Plan, measurements, memory_contestants
from eval.throughput.pool import ROOT, interpreters
from eval.throughput.protocol import Work
from eval.throughput.rounds import Extras, Field, n_ticks, run_measurement, run_memory

SCHEMA = 1
ALL_PARTS = (*PARTS, "memory")
FULL = {"rounds": 7, "seconds": 1.0, "learn_seconds": 5.0, "buffer_size": 20_000}
QUICK = {"rounds": 2, "seconds": 0.3, "learn_seconds": 2.0, "buffer_size": 12_000}
# Where things lie on this machine is nobody else's business, and decides nothing
PRIVATE = {"out", "python_pfrl", "python_torchrl", "timeout"}


def positive(text: str) -> int:
    """
    :param text: a number
    :return: the number
    :raises argparse.ArgumentTypeError: if it is below 1
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def positive_seconds(text: str) -> float:
    """
    :param text: a number
    :return: the number
    :raises argparse.ArgumentTypeError: if it is not above 0
    """
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: to be told of the benchmark's arguments
    """
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where networks are (default: a GPU if any)")
    add("--threads", type=positive, default=2, help="of PyTorch on the CPU (default: 2)")
    add("--seed", type=int, default=0, help="of networks, experience and games (default: 0)")
    add("--rounds", type=positive, default=FULL["rounds"], help="measurements of each contestant (default: 7)")
    add("--seconds", type=positive_seconds, default=FULL["seconds"], help="about how long each takes (default: 1)")
    add("--learn-seconds", type=positive_seconds, default=FULL["learn_seconds"], help="the same, end to end (default: 5)")
    add("--quick", action="store_true", help="two short rounds, to see that everything works")
    add("--parts", nargs="+", choices=ALL_PARTS, default=list(ALL_PARTS), help="what to measure (default: everything)")
    add(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="contestants whose name holds one of these words, in capitals or not",
    )
    add("--profile", action="store_true", help="also say where an update's time goes")
    add("--out", type=Path, default=Path("throughput"), help="folder of the results (default: throughput)")
    sizes = parser.add_argument_group("sizes, by default the paper's")
    add = sizes.add_argument
    add("--image-size", type=positive, default=84, help="height and width of a frame (default: 84)")
    add("--hidden-size", type=positive, default=512, help="features of the LSTM (default: 512)")
    add("--n-actions", type=positive, default=6, help="number of actions (default: 6)")
    add("--batch-size", type=positive, default=32, help="windows in an update (default: 32)")
    add("--sequence-length", type=positive, default=10, help="steps in a window (default: 10)")
    add("--buffer-size", type=positive, default=FULL["buffer_size"], help="frames in each replay buffer (default: 20000)")
    add("--episode-length", type=positive, default=300, help="steps of an episode, on average (default: 300)")
    add("--n-envs", type=positive, default=16, help="environments acted in and stepped at once (default: 16)")
    add("--peak-size", type=positive, help="of the matrices that measure the peak (default: 2048, on a GPU 8192)")
    learning = parser.add_argument_group("end to end")
    add = learning.add_argument
    add("--env-ids", nargs="+", default=["SlimeVolleyNoFrameskip-v0"], help="games (default: SlimeVolleyNoFrameskip-v0)")
    add("--learn-envs", type=positive, help="environments learned in (default: 8, with a GPU 16)")
    add("--vec-env", choices=("dummy", "subproc"), help="of SlimeVolley (default: dummy, with a GPU subproc)")
    add("--steps-per-update", type=positive, default=40, help="agent steps per update of the DRQN (default: 40)")
    peers = parser.add_argument_group("interpreters of the peers' environments (make bench-peers)")
    add = peers.add_argument
    add("--python-pfrl", type=Path, default=ROOT / ".venv-pfrl" / "bin" / "python", help="(default: %(default)s)")
    add("--python-torchrl", type=Path, default=ROOT / ".venv-torchrl" / "bin" / "python", help="(default: %(default)s)")
    add("--timeout", type=positive_seconds, default=600.0, help="seconds to wait for a worker's answer (default: 600)")


def check(args: argparse.Namespace) -> None:
    """
    :param args: of the command line
    :raises SystemExit: if they do not go together
    """
    if args.image_size < 36:
        sys.exit(f"--image-size must be 36 or more for the convolutions, got {args.image_size}")
    names = {contestant.name for part in measurements(make_plan(args, "cpu"), args.parts) for contestant in part.contestants}
    for word in args.only:
        if not any(word.lower() in name.lower() for name in names):
            sys.exit(f"--only {word}: no contestant's name holds this word, they are {', '.join(sorted(names))}")
    if args.episode_length < 2 * args.sequence_length:
        sys.exit(
            "--episode-length must be twice --sequence-length or more, so that the peers' windows fit into the shortest "
            f"episodes, got {args.episode_length} and {args.sequence_length}"
        )


def resolve_device(device: str) -> str:
    """
    :param device: ``"auto"``, ``"cpu"`` or ``"cuda"``
    :return: ``"cpu"`` or ``"cuda"``
    :raises SystemExit: if there is no GPU where one is asked for
    """
    if device == "cpu":
        return device
    import torch as th

    if device == "cuda" and not th.cuda.is_available():
        sys.exit("--device cuda: PyTorch finds no GPU")
    return "cuda" if th.cuda.is_available() else "cpu"


def make_plan(args: argparse.Namespace, device: str) -> Plan:
    """
    :param args: of the command line
    :param device: ``"cpu"`` or ``"cuda"``
    :return: what decides about the measurements
    """
    return Plan(
        seconds=args.seconds,
        learn_seconds=args.learn_seconds,
        n_envs=args.n_envs,
        learn_envs=args.learn_envs or (16 if device == "cuda" else 8),
        learn_env_ids=tuple(args.env_ids),
        learn_kind=args.vec_env or ("subproc" if device == "cuda" else "dummy"),
        steps_per_update=args.steps_per_update,
        peak_size=args.peak_size,
    )


def make_work(args: argparse.Namespace, device: str) -> Work:
    """
    :param args: of the command line
    :param device: ``"cpu"`` or ``"cuda"``
    :return: what all workers are told; each measurement adds what it decides
    """
    sizes = ("threads", "seed", "seconds", "image_size", "hidden_size", "n_actions", "batch_size", "sequence_length")
    more = ("n_envs", "buffer_size", "episode_length")
    values = {name: getattr(args, name) for name in (*sizes, *more)}
    return Work(measurement="", device=device, options={}, **values)


def questions(measurement: Measurement, with_profile: bool) -> Extras:
    """
    :param measurement: about to be run
    :param with_profile: whether to ask for profiles
    :return: what else to ask the contestants
    """
    if measurement.name != "updates":
        return {}
    plain = OWN[-1].name
    profile = ["profile"] if with_profile else []
    return {OURS: profile, plain: [*profile, "flops"]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """
    Measure everything.

    :param args: of the command line
    :return: the results: what was asked (``command``, ``arguments``), on what (``machine``, ``device``), and what came of it:
        ``measurements``, each with every round of every contestant; ``bytes_per_step``; ``roofline``
    """
    from tqdm import tqdm

    from eval.machine import describe_machine
    from eval.throughput.report import roofline

    device = resolve_device(args.device)
    work = make_work(args, device)
    field = Field(interpreters(args.python_pfrl, args.python_torchrl), args.out / "logs", args.timeout)
    chosen = measurements(make_plan(args, device), args.parts, args.only)
    buffers = memory_contestants() if "memory" in args.parts else ()
    extras = {measurement.name: questions(measurement, args.profile) for measurement in chosen}
    n_more = len(buffers) + sum(len(names) for asked in extras.values() for names in asked.values())
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command_of(args),
        "arguments": _asked(args),
        "device": device,
        "machine": describe_machine(),
    }
    start = time.perf_counter()
    with tqdm(total=n_ticks(chosen, args.rounds, n_more), unit="turn", file=sys.stderr, disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        results["measurements"] = []
        for measurement in chosen:
            if bar.disable:  # not on a terminal
                print(measurement.title, file=sys.stderr, flush=True)
            result = run_measurement(measurement, work, field, args.rounds, tick, extras[measurement.name])
            results["measurements"].append(result)
            save(results, args.out)  # what is there stays, should the rest be interrupted
        results["bytes_per_step"] = run_memory(buffers, work, field, tick)
    results["roofline"] = roofline(results)
    return {**results, "seconds": round(time.perf_counter() - start, 1)}


def save(results: dict[str, Any], out: Path) -> None:
    """
    :param results: so far
    :param out: folder to write ``results.json`` to
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name not in PRIVATE | {"subcommand"}}


def command_of(args: argparse.Namespace) -> str:
    """
    :param args: of the command line
    :return: a command that measures the same, without the paths of this machine
    """
    words, defaults = ["python", "-m", "eval", "throughput"], vars(parse([]))
    for name, value in _asked(args).items():
        if value != defaults[name]:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def main(args: argparse.Namespace) -> int:
    """
    Measure everything, print the tables, write results and picture.

    :param args: of the command line
    :return: the exit status: 1 if a contestant failed; one that is not installed has not failed
    """
    if args.quick:
        # What was set to something else stands
        vars(args).update({name: value for name, value in QUICK.items() if getattr(args, name) == FULL[name]})
    check(args)
    results = run(args)

    from eval.throughput.plots import draw
    from eval.throughput.report import failures, render

    save(results, args.out)
    text = render(results)
    (args.out / "table.txt").write_text(text)
    print(text)
    written = ["results.json", "table.txt"]
    if any(measurement["name"] != "peak" for measurement in results["measurements"]):
        draw(results).savefig(args.out / "throughput.png", dpi=150)
        written.append("throughput.png")
    print(f"Written to {args.out}: {', '.join(written)}")
    broken = failures(results)
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    :param argv: arguments of the subcommand
    :return: the same, parsed
    """
    parser = argparse.ArgumentParser(prog="python -m eval throughput")
    add_arguments(parser)
    return parser.parse_args(argv)
