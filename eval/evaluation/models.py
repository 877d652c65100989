"""What is to be evaluated: models where the zoo has left them, with what is known of them there; bare ones; and plug-ins."""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from eval.conditions import NORMAL, Condition
from eval.evaluation.environments import EnvSpec, condition_from_config, spec_from_config


class Contestant(NamedTuple):
    """
    Someone to be evaluated.

    :param name: its own, of which a folder is named
    :param algo: the zoo's name of its algorithm; of a plug-in, its dotted path
    :param model: its zip file; ``None`` for a plug-in
    :param spec: how its environment is made
    :param trained_env: id of the environment that it was trained on; ``None`` for a plug-in, and where that is not known
    :param condition: text of the condition it was trained under, in this environment; ``None`` for one that was not trained
        here, and where that is not known
    :param seed: that it was trained with; ``None`` where that is not known
    :param config: hyperparameters, as far as they are known
    """

    name: str
    algo: str
    model: Path | None
    spec: EnvSpec
    trained_env: str | None
    condition: str | None
    seed: int | None
    config: dict[str, Any]


class Run(NamedTuple):
    """
    A training run of the zoo.

    :param parameters: folder with ``args.yml``, ``config.yml`` and ``vecnormalize.pkl``
    :param args: the command line's arguments
    :param config: hyperparameters
    """

    parameters: Path
    args: dict[str, Any]
    config: dict[str, Any]


def find_contestants(args: argparse.Namespace) -> list[Contestant]:
    """
    Find out all about what the command line names.

    :param args: of the subcommand
    :return: the models in their order, then the plug-in
    :raises ValueError: if something is missing, is not there, or contradicts what is known of a model
    """
    found = [_of_model(path, args) for path in args.models]
    if args.agent is not None:
        found.append(_plug_in(args))
    if not found:
        raise ValueError("there must be a MODEL or an --agent to evaluate")
    found = _with_seeds(found, args.training_seeds)
    if args.names is not None:
        names = args.names * len(found) if len(args.names) == 1 and args.agent is None else args.names
        if len(names) != len(found):
            raise ValueError(
                f"--names must be as many as there are contestants, {len(found)}, or one for all models, got {len(names)}"
            )
        found = [one._replace(name=name) for one, name in zip(found, names, strict=True)]
    return found


def _with_seeds(found: list[Contestant], seeds: list[int] | None) -> list[Contestant]:
    """Give the seeds to those models of which none is known, in their order."""
    if seeds is None:
        return found
    unknown = [one for one in found if one.seed is None]
    if len(seeds) != len(unknown):
        raise ValueError(
            f"--training-seeds must be one for each model whose seed is not known, {len(unknown)}, got {len(seeds)}"
        )
    if min(seeds) < 0:
        raise ValueError(f"--training-seeds must be of at least 0, got {min(seeds)}")
    left = iter(seeds)
    return [one._replace(seed=next(left)) if one.seed is None else one for one in found]


def _hint(folder: Path) -> str:
    runs = sorted({file.parents[1] for file in folder.rglob("args.yml")})
    return f"; did you mean {runs[0]}?" if runs else ""


def model_sha256(model: Path, vec_normalize: Path | None) -> str:
    """
    Say which model a result is of.

    :param model: its zip file
    :param vec_normalize: file of the running statistics that its observations are normalised with
    :return: SHA-256 of the zip, and of the statistics behind it where there are some, in hexadecimal
    """
    return sha256_of([model] if vec_normalize is None else [model, vec_normalize])


def sha256_of(paths: Sequence[Path]) -> str:
    """
    :param paths: of files
    :return: SHA-256 of their contents, one behind the other, in hexadecimal
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def model_file(path: Path) -> Path:
    """
    :param path: of a model, or of a zoo run's folder
    :return: the model: of a run, that at the end of training
    :raises ValueError: if there is none
    """
    if path.is_file():
        return path
    if not path.exists():
        raise ValueError(f"a MODEL must be a zip file or a run's folder, {path} is not there")
    run = read_run(path)
    if run is None:
        raise ValueError(
            f"a MODEL must be a zip file or a run's folder of the zoo, got {path}, where no args.yml lies one level below"
            f"{_hint(path)}"
        )
    model = path / f"{run.parameters.name}.zip"
    if not model.is_file():
        others = ", ".join(sorted(file.name for file in path.glob("*.zip"))) or "no other model"
        raise ValueError(f"{path} has no {model.name}, the model at the end of training; there is {others}")
    return model


def read_run(folder: Path) -> Run | None:
    """
    :param folder: that may be a run of the zoo
    :return: what it says of itself; ``None`` if it is none
    :raises ValueError: if there are several, or a file can't be read
    """
    files = sorted(folder.glob("*/args.yml"))
    if not files:
        return None
    if len(files) > 1:
        raise ValueError(f"{folder} must hold one run, got {', '.join(file.parent.name for file in files)}")
    parameters = files[0].parent
    return Run(parameters, read_zoo_yaml(files[0]), read_zoo_yaml(parameters / "config.yml"))


class _ZooLoader(yaml.SafeLoader):
    """Reads what the zoo writes. Of the Python objects in it are made dicts, lists and texts; nothing is run."""


def _ordered_dict(loader: _ZooLoader, node: yaml.Node) -> dict[Any, Any]:
    assert isinstance(node, yaml.SequenceNode)
    pairs = loader.construct_sequence(node, deep=True)
    return dict(pairs[0] if pairs else [])


def _sequence(loader: _ZooLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True)


def _dotted_name(loader: _ZooLoader, suffix: str, node: yaml.Node) -> str:
    return suffix.partition(":")[2] or suffix


_ZooLoader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict)
_ZooLoader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)
_ZooLoader.add_multi_constructor("tag:yaml.org,2002:python/", _dotted_name)


def read_zoo_yaml(path: Path) -> dict[str, Any]:
    """
    :param path: of a ``config.yml`` or ``args.yml``
    :return: what it says. Classes and functions in it become their dotted names, and nothing is run
    :raises ValueError: if it can't be read
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_ZooLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AssertionError, TypeError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold names and values, got {content!r}")
    return content


def _of_model(path: Path, args: argparse.Namespace) -> Contestant:
    model = model_file(path)
    run = read_run(model.parent)
    try:
        return _bare(model, args) if run is None else _of_run(model, run, args)
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from error


def _bare(model: Path, args: argparse.Namespace) -> Contestant:
    missing = [f"--{name}" for name in ("algo", "env") if getattr(args, name) is None]
    if missing:
        raise ValueError(
            f"nothing is known of a model that does not lie in a run's folder of the zoo: give {' and '.join(missing)}"
        )
    config = _given(args)
    spec = spec_from_config(args.env, config, args.vec_normalize)
    trained_on = None if args.trained_on is None else str(Condition.parse(args.trained_on))
    trained_env = None if trained_on is None else args.env
    return Contestant(model.stem, args.algo, model, spec, trained_env, trained_on, None, config)


def _of_run(model: Path, run: Run, args: argparse.Namespace) -> Contestant:
    algo, env = str(run.args["algo"]), str(run.args["env"])
    if args.algo not in (None, algo):
        raise ValueError(f"it is a model of {algo}, and --algo says {args.algo}")
    if args.env not in (None, env) and not args.other_env:
        raise ValueError(f"it was trained on {env}, and --env says {args.env}: add --other-env if that is what you want")
    config = {**run.config, **_given(args)}
    env_kwargs = {**(config.get("env_kwargs") or {}), **(run.args.get("env_kwargs") or {}), **args.env_kwargs}
    trained_on = _trained_on(run, args)
    played = args.env or env
    held = None if args.env_wrapper is not None else trained_on  # wrappers that are given are the task's
    spec = spec_from_config(played, {**config, "env_kwargs": env_kwargs}, _statistics(run, args), held)
    seed = run.args.get("seed")
    condition = str(trained_on) if played == env else None
    return Contestant(algo, algo, model, spec, env, condition, None if seed is None else int(seed), config)


def _trained_on(run: Run, args: argparse.Namespace) -> Condition:
    """Read a run's condition. Of a FrameSkip, only the command line can tell whether it belongs to it."""
    known = condition_from_config(run.config)
    if args.trained_on is None:
        return known
    given = Condition.parse(args.trained_on)
    if given.replace("repeat", 1) != known:
        raise ValueError(f"it was trained under {known}, and --trained-on says {given}")
    return given


def _statistics(run: Run, args: argparse.Namespace) -> Path | None:
    if args.vec_normalize is not None or not run.config.get("normalize"):
        given: Path | None = args.vec_normalize
        return given
    path = run.parameters / "vecnormalize.pkl"
    if not path.is_file():
        raise ValueError(f"its observations were normalised, and {path} is not there: give --vec-normalize")
    return path


def _plug_in(args: argparse.Namespace) -> Contestant:
    if args.env is None:
        raise ValueError("--agent must go with --env: nothing else says where it is to play")
    config = _given(args)
    spec = spec_from_config(args.env, config, args.vec_normalize)
    name = str(args.agent).replace(":", ".").rpartition(".")[2]
    return Contestant(name, args.agent, None, spec, None, None, 0, config)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the environment, in a zoo config's words."""
    given: dict[str, Any] = {}
    if args.env_wrapper is not None:
        given["env_wrapper"] = [_yaml(text) for text in args.env_wrapper]
        condition = str(condition_from_config(given))
        if condition != NORMAL:
            raise ValueError(
                f"--env-wrapper must be what belongs to the task, got {' '.join(args.env_wrapper)}: give --trained-on "
                f"{condition} if the model was trained so, and --conditions {condition} if it is to play so"
            )
    if args.frame_stack is not None:
        given["frame_stack"] = args.frame_stack
    if args.env_kwargs:
        given["env_kwargs"] = args.env_kwargs
    return given


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--env-wrapper must be dotted names, or '{{name: {{argument: value}}}}', got {text!r}") from error


def jsonable(value: Any) -> Any:
    """
    :param value: of a config
    :return: the same as JSON has it; what it has no form for, as text
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
