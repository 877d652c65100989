"""
``python -m eval evaluate MODEL...``: whole games and true scores of any models, under a sweep of conditions of observation.

All models play the same games. Each one's result is a folder that ``python -m eval report`` reads. What was interrupted is
gone on with by the same command: finished conditions are not played again.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eval.conditions import KINDS, Condition, describe_kinds
from eval.suite import LOWEST_FIRST_SEED

if TYPE_CHECKING:
    import pandas as pd

    from eval.evaluation.models import Contestant
    from eval.evaluation.parts import Parts
    from eval.evaluation.playing import Settings

SWEEPS = {
    "flicker": (1.0, 0.9, 0.75, 0.6, 0.5, 0.4, 0.25, 0.1, 0.0),
    "noise": (0.0, 0.02, 0.05, 0.1, 0.2, 0.4),
    "freeze": (0.0, 0.25, 0.5, 0.75, 0.9),
    "repeat": (1, 2, 3, 4),
}
"""Levels of a sweep, where none are given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of the subcommand
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"conditions, joined with +:\n{describe_kinds()}"
    parser.add_argument("models", metavar="MODEL", nargs="*", type=Path, help="zip file, or folder of a run of the zoo")
    parser.add_argument(
        "--agent",
        metavar="PATH",
        help="dotted path of a plug-in, such as eval.evaluation.agents:RandomAgent: an object with predict(obs, state, "
        "episode_start, deterministic), or what makes one when called with observation space, action space and seed",
    )
    parser.add_argument(
        "--names", nargs="+", help="of the contestants, or one for all models (default: algorithm, file's, plug-in's)"
    )
    parser.add_argument("--out", type=Path, default=Path("results/evaluate"), help="folder of results (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace results of other settings")
    _add_environment(parser.add_argument_group("where a model's run does not tell"))
    games = parser.add_argument_group("games")
    games.add_argument("--conditions", nargs="+", default=[], help="of observation, e.g. normal flicker-0.5")
    games.add_argument(
        "--sweep",
        choices=list(SWEEPS),
        help="levels of one kind, each in place of the training condition's (default: flicker, unless there are --conditions)",
    )
    games.add_argument("--levels", nargs="+", type=float, help="of the sweep (default: a choice of them)")
    games.add_argument("--games", type=int, default=100, help="per condition (default: %(default)s)")
    games.add_argument("--seed", type=int, default=1_000_000, help="of the first game (default: %(default)s)")
    games.add_argument("--n-envs", type=int, default=8, help="environments at once (default: %(default)s)")
    games.add_argument("--epsilon", type=float, default=0.0, help="probability of a random action (default: %(default)s)")
    games.add_argument("--stochastic", action="store_true", help="actions are drawn, not the best ones taken")
    games.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="that models act on (default: auto)")
    games.add_argument("--no-film", action="store_true", help="make no video.gif")


def _add_environment(group: Any) -> None:
    group.add_argument("--algo", help="the zoo's name of the algorithm")
    group.add_argument("--env", help="environment's id")
    group.add_argument("--env-wrapper", nargs="+", metavar="WRAPPER", help="dotted names, or '{name: {argument: value}}'")
    group.add_argument("--env-kwargs", type=_mapping, default={}, metavar="YAML", help="e.g. '{max_episode_steps: 1000}'")
    group.add_argument("--frame-stack", type=int, help="number of frames that are stacked")
    group.add_argument("--vec-normalize", type=Path, metavar="FILE", help="vecnormalize.pkl of the training")
    group.add_argument("--trained-on", metavar="CONDITION", help="what a model got to see in training, on --env")
    group.add_argument("--training-seeds", nargs="+", type=int, metavar="SEED", help="one for each model that has none known")
    group.add_argument("--gym-packages", nargs="+", default=[], help="modules that register further environments")
    group.add_argument("--other-env", action="store_true", help="let a model play on another --env than that of its training")


def _mapping(text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be names and values such as '{{a: 1}}', got {text}")
    return value


def main(args: argparse.Namespace) -> int:
    """
    :param args: of the subcommand
    :return: the exit status: 0, or 130 after Ctrl-C
    :raises SystemExit: if something is missing, unknown, or in the way: before any game is played
    """
    try:
        return _run(args)
    except ValueError as error:
        sys.exit(f"python -m eval evaluate: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on with the conditions that are left", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from eval.evaluation.models import find_contestants
    from eval.evaluation.playing import Settings

    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out must be a folder, got {args.out}, which is a file")
    if args.seed < LOWEST_FIRST_SEED:
        raise ValueError(f"--seed must be at least {LOWEST_FIRST_SEED:,}, far from the seeds of training, got {args.seed}")
    for package in args.gym_packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ValueError(f"--gym-packages must be modules, got {package}: {error}") from error
    contestants = find_contestants(args)
    folders = [args.out / folder_of(contestant) for contestant in contestants]
    _check_apart(contestants, folders)
    conditions = [conditions_for(contestant, args) for contestant in contestants]
    settings = Settings(args.games, args.seed, args.n_envs, not args.stochastic, args.epsilon)
    everything = list(zip(contestants, folders, conditions, strict=True))
    left = [job for job in everything if not _is_finished(*job, settings, args)]
    n_games = sum(len(texts) for *_, texts in left) * settings.games
    from tqdm import tqdm

    with tqdm(total=n_games, unit="game", disable=not left, file=sys.stderr) as bar:
        for contestant, folder, texts in left:
            bar.set_description(contestant.name)
            _evaluate(contestant, folder, texts, settings, args, bar)
    print(summary(folders))
    print(f"results: {args.out}\nreport:  python -m eval report {args.out}")
    return 0


def conditions_for(contestant: "Contestant", args: argparse.Namespace) -> list[Condition]:
    """
    :param contestant: who is evaluated
    :param args: of the subcommand
    :return: the conditions, those given first, then those of the sweep
    :raises ValueError: if a text is no condition, or a level out of bounds
    """
    found = [Condition.parse(text) for text in args.conditions]
    sweep = args.sweep or (None if args.conditions else "flicker")
    if args.levels is not None and sweep is None:
        raise ValueError("--levels must go with a --sweep")
    if sweep is not None:
        trained = Condition.parse(contestant.condition or "normal")
        levels = SWEEPS[sweep] if args.levels is None else args.levels
        found += [trained.replace(sweep, KINDS[sweep].check(sweep, level)) for level in levels]
    return list(dict.fromkeys(found))


def folder_of(contestant: "Contestant") -> Path:
    """
    :param contestant: who is evaluated
    :return: the folder of its result, within that of all results
    :raises ValueError: if its name is none for a folder
    """
    from eval.suite import UNTRAINED
    from eval.suite import folder_of as folder_of_env

    if not contestant.name or contestant.name in (".", "..") or set(contestant.name) & set("/\\"):
        raise ValueError(f"a name must be one that a folder may have, got {contestant.name!r}: give --names")
    seed = "unknown" if contestant.seed is None else contestant.seed
    env = folder_of_env(contestant.spec.env_id)
    return Path(env, contestant.name, contestant.condition or UNTRAINED, f"seed-{seed}")


def _check_apart(contestants: Sequence["Contestant"], folders: Sequence[Path]) -> None:
    seen: dict[str, Contestant] = {}
    for contestant, folder in zip(contestants, folders, strict=True):
        other = seen.setdefault(str(folder).casefold(), contestant)  # some disks take upper and lower case for the same
        if other is not contestant:
            raise ValueError(
                f"{other.model} and {contestant.model} are both {contestant.name} on {contestant.spec.env_id}, seed "
                f"{contestant.seed}: tell them apart with --names, or with --training-seeds if they are of the same kind"
            )


def _is_finished(
    contestant: "Contestant", folder: Path, conditions: list[Condition], settings: "Settings", args: argparse.Namespace
) -> bool:
    """Look whether there is a result of the same settings, and whether another one would have to be replaced."""
    from eval.evaluation.playing import check_agent
    from eval.results import RESULT, read_result

    agent = _load(contestant, args)
    check_agent(agent, contestant.spec, conditions, settings)
    if not (folder / RESULT).exists() or args.force:
        return False
    facts = read_result(folder).facts
    asked = _facts(contestant, agent, conditions, settings)
    different = ["model" if name == "model_sha256" else name for name in asked if facts[name] != asked[name]]
    if different:
        raise ValueError(
            f"{folder} holds a result of another {', '.join(different)}: give another --out, or --force to replace it"
        )
    print(f"{folder}: finished")
    return True


def _load(contestant: "Contestant", args: argparse.Namespace) -> Any:
    from eval.evaluation.agents import load_agent, make_plug_in
    from eval.evaluation.environments import make_env

    if contestant.model is not None:
        return load_agent(contestant.model, contestant.algo, args.device)
    env = make_env(contestant.spec, Condition(), args.seed, 1, 1)
    try:
        return make_plug_in(contestant.algo, env, contestant.seed or 0)
    finally:
        env.close()


def _facts(contestant: "Contestant", agent: Any, conditions: list[Condition], settings: "Settings") -> dict[str, Any]:
    """What a result says of what was done, without where and when."""
    from eval.evaluation.models import jsonable, model_sha256
    from eval.provenance import settings_of, without_places

    config = settings_of(contestant.config)
    model, spec = contestant.model, contestant.spec
    return {
        "env": spec.env_id,
        "agent": contestant.name,
        "algo": contestant.algo,
        "trained_env": contestant.trained_env,
        "condition": contestant.condition,
        "seed": contestant.seed,
        "steps": int(getattr(agent, "num_timesteps", 0)),
        "suite": None,
        "evaluation": {**settings._asdict(), "conditions": [str(condition) for condition in conditions]},
        "config": without_places(jsonable(config)),
        "model_sha256": None if model is None else model_sha256(model, spec.vec_normalize),
    }


def _evaluate(
    contestant: "Contestant",
    folder: Path,
    conditions: list[Condition],
    settings: "Settings",
    args: argparse.Namespace,
    bar: Any,
) -> None:
    import pandas as pd

    from eval.evaluation.parts import Parts, changes_among
    from eval.provenance import provenance
    from eval.results import write_result

    agent = _load(contestant, args)
    facts = _facts(contestant, agent, conditions, settings)
    here = provenance(words_of(args), None if contestant.model is None else agent.device)
    parts = Parts(folder, _key(contestant, settings))
    played = _play(agent, contestant, conditions, settings, parts, here, bar)
    origin, changes = changes_among(kept for _, kept in played)
    facts |= {**here, **origin, "changes": changes}
    facts["seconds"] = {"train": 0.0, "evaluate": round(sum(kept["seconds"] for _, kept in played), 1)}
    episodes = pd.concat([games for games, _ in played], ignore_index=True)
    with tempfile.TemporaryDirectory() as temporary:
        video = None if args.no_film else Path(temporary, "video.gif")
        if video is not None:
            _film(agent, contestant, conditions, settings, video)
        write_result(folder, facts, episodes, video=video)
    parts.remove()


def _key(contestant: "Contestant", settings: "Settings") -> dict[str, Any]:
    """Tell all that games depend on, but the condition."""
    from eval.evaluation.models import jsonable, sha256_of

    spec = contestant.spec
    files = [path for path in (contestant.model, spec.vec_normalize) if path is not None]
    known = {"algo": contestant.algo, "seed": contestant.seed, "files": sha256_of(files), "settings": settings._asdict()}
    mapping: dict[str, Any] = jsonable({**known, "spec": spec._replace(vec_normalize=None)._asdict()})
    return mapping


def _play(
    agent: Any,
    contestant: "Contestant",
    conditions: list[Condition],
    settings: "Settings",
    parts: "Parts",
    here: dict[str, Any],
    bar: Any,
) -> "list[tuple[pd.DataFrame, dict[str, Any]]]":
    """Play in one condition after the other, but for those that have been finished before."""
    from eval.evaluation.playing import evaluate

    def tell(condition: str, n_games: int) -> None:
        bar.set_postfix_str(condition, refresh=False)
        bar.update(1)

    played = []
    for condition in conditions:
        part = parts.read(condition)
        if part is None:
            start = time.monotonic()
            episodes = evaluate(agent, contestant.spec, [condition], settings, tell)
            part = parts.keep(condition, episodes, time.monotonic() - start, here)
        else:
            bar.update(settings.games)
        played.append(part)
    return played


def _film(agent: Any, contestant: "Contestant", conditions: list[Condition], settings: "Settings", path: Path) -> None:
    """Film a model in its training condition; where there is none, in the first that it is evaluated in."""
    from eval.evaluation.filming import film

    condition = conditions[0] if contestant.condition is None else Condition.parse(contestant.condition)
    seed, deterministic, epsilon = settings.first_seed, settings.deterministic, settings.epsilon
    film(agent, contestant.spec, condition, path, seed, deterministic=deterministic, epsilon=epsilon)


def words_of(args: argparse.Namespace) -> list[str]:
    """
    :param args: of the subcommand
    :return: the words of a command that means the same
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["-m", "eval", "evaluate", *map(str, args.models)]
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if not action.option_strings or value == action.default:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [action.option_strings[-1], *map(str, values)]
    return words


def summary(folders: Sequence[Path]) -> str:
    """
    :param folders: of results
    :return: a table: scores per contestant and condition
    """
    from eval.results import read_result

    lines = [f"{'agent':20} {'seed':>7} {'condition':24} {'games':>6} {'mean':>9} {'std. error':>10} {'length':>8}"]
    for folder in folders:
        result = read_result(folder)
        for condition, games in result.episodes().groupby("condition", sort=False):
            seed = "-" if result.seed is None else result.seed
            lines.append(f"{result.agent:20} {seed:>7} {condition!s:24} {_numbers(games)}")
    return "\n".join(lines)


def _numbers(games: "pd.DataFrame") -> str:
    n, scores = len(games), games["score"]
    error = f"{scores.std() / n**0.5:10.2f}" if n > 1 else f"{'-':>10}"
    return f"{n:6} {scores.mean():9.2f} {error} {games['length'].mean():8.1f}"
