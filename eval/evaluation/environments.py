"""The environments of an evaluation: those of training, with another condition of observation, playing numbered games."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eval.conditions import KINDS, OUTERMOST, WRAPPERS, Condition, split_wrappers

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

_NATIVE_ATARI = "native_atari"
_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"
# Of native_atari: how it runs and where it writes, nothing that the games depend on.
_NATIVE_ONLY = {"num_threads", "monitor_dir", "override_existing"}


class EnvSpec(NamedTuple):
    """
    How an environment is made.

    :param env_id: its id
    :param env_kwargs: of ``gym.make``
    :param env_wrapper: as in a zoo config, a list, without those of a condition
    :param frame_stack: number of frames that are stacked, 1 for no stack
    :param vec_normalize: file of the running statistics that observations are normalised with
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    env_wrapper: list[Any]
    frame_stack: int = 1
    vec_normalize: Path | None = None


def spec_from_config(
    env_id: str, config: Mapping[str, Any], vec_normalize: Path | None, trained_under: Condition | None = None
) -> EnvSpec:
    """
    Read how an environment is made from the hyperparameters that an agent was trained with.

    :param env_id: the environment's id
    :param config: hyperparameters as the zoo's ``config.yml`` has them; ``native_atari`` becomes the stock wrapper with the
        same arguments, for native games can't be recorded
    :param vec_normalize: file of running statistics; ``None`` where observations are not normalised
    :param trained_under: the training's condition, where it is known. Without, a ``FrameSkip`` belongs to the task; with it,
        the last one is that of ``repeat``
    :return: the same environment without its condition
    :raises ValueError: if an entry has a form, or names a ``vec_env_wrapper``, that can't be dealt with
    """
    entries = _entries(config, "env_wrapper")
    _check_order(entries)
    wrappers = [entry for entry in entries if _part_of(entry) is None]
    n_repeats = 1 if trained_under is None else trained_under.level("repeat")
    if n_repeats != 1:
        wrappers, own = split_wrappers(wrappers)
        if not wrappers or dict(_named(wrappers[-1])[1]).get("skip") != n_repeats:
            raise ValueError(f"env_wrapper must end in the FrameSkip of {trained_under}, got {[*wrappers, *own]}")
        wrappers = [*wrappers[:-1], *own]
    for name, arguments in map(_named, _entries(config, "vec_env_wrapper")):
        if name.rsplit(".", 1)[-1] != _NATIVE_ATARI or wrappers:
            raise ValueError(f"vec_env_wrapper must be native_atari, without any env_wrapper, or none, got {name}")
        kept = {key: value for key, value in arguments.items() if key not in _NATIVE_ONLY}
        wrappers = [{_ATARI_WRAPPER: kept}]
    env_kwargs = config.get("env_kwargs") or {}
    if not isinstance(env_kwargs, Mapping):
        raise ValueError(f"env_kwargs must be a dict, got {env_kwargs!r}")
    frame_stack = config.get("frame_stack") or 1
    if isinstance(frame_stack, bool) or not isinstance(frame_stack, int) or frame_stack < 1:
        raise ValueError(f"frame_stack must be a whole number above 0, got {frame_stack!r}")
    return EnvSpec(env_id, dict(env_kwargs), wrappers, frame_stack, vec_normalize)


def condition_from_config(config: Mapping[str, Any]) -> Condition:
    """
    Read the condition of observation that an agent was trained under.

    :param config: hyperparameters as the zoo's ``config.yml`` has them
    :return: the condition; what its ``env_wrapper`` has no wrapper for is as usual
    :raises ValueError: if a wrapper of a condition is there twice
    """
    parts = [part for part in map(_part_of, _entries(config, "env_wrapper")) if part is not None]
    return Condition.parse("+".join(parts) or "normal")


def make_env(
    spec: EnvSpec,
    condition: Condition,
    first_seed: int,
    n_games: int,
    n_envs: int,
    render_mode: str | None = None,
    epsilon: float = 0.0,
) -> "VecEnv":
    """
    Make environments that play games ``0`` to ``n_games - 1``, environment ``i`` each ``n_envs``-th from ``i`` on.

    Game ``k`` is seeded with ``first_seed + k``, whatever else is played. When a game is over, its
    :class:`~eval.evaluation.games.Row` is in a step's ``info``, under :data:`~eval.evaluation.games.FINISHED`. An environment
    that has played all its games rests.

    :param spec: how they are made
    :param condition: what is to be seen
    :param first_seed: seed of game 0
    :param n_games: number of games
    :param n_envs: number of environments; no more than there are games
    :param render_mode: ``"rgb_array"`` for pictures
    :param epsilon: probability that an action drawn uniformly takes the place of the agent's
    :return: the environments, observations normalised and stacked as in training
    :raises ValueError: if the environment can't be made, the condition does not suit it, or the file of running statistics is
        not there
    """
    know_envs()
    from rl_zoo3.utils import get_wrapper_class
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

    from eval.evaluation.games import GameRecorder, GameSeeder

    n_envs = min(n_envs, n_games)
    wrappers = condition.around(spec.env_wrapper)
    try:
        wrap = get_wrapper_class({"env_wrapper": wrappers})
    except (ImportError, AttributeError) as error:
        raise ValueError(f"a wrapper of {wrappers} can't be had: {error}") from error
    assert wrap is not None

    def make(index: int) -> GameSeeder:
        games = range(index, n_games, n_envs)
        recorder = GameRecorder(_make_bare(spec, render_mode), games, first_seed)
        return GameSeeder(wrap(recorder), recorder, epsilon)

    env: VecEnv = DummyVecEnv([lambda index=index: make(index) for index in range(n_envs)])  # type: ignore[misc]
    if spec.vec_normalize is not None:
        if not spec.vec_normalize.is_file():
            raise ValueError(f"vec_normalize must be a file of running statistics, got {spec.vec_normalize}")
        env = VecNormalize.load(str(spec.vec_normalize), env)
        env.training = env.norm_reward = False
    return VecFrameStack(env, spec.frame_stack) if spec.frame_stack > 1 else env


def check_conditions(
    spec: EnvSpec, conditions: Sequence[Condition], check: "Callable[[VecEnv], object] | None" = None
) -> None:
    """
    Find what would keep an environment from being made, without playing in it: make one per condition, and close it.

    :param spec: how it is made
    :param conditions: what is to be seen
    :param check: is called with each, and may raise what it finds
    :raises ValueError: if the environment can't be made, a wrapper can't be had or refuses, or a condition does not suit the
        environment; it names the environment and the condition
    """
    for condition in conditions:
        try:
            env = make_env(spec, condition, 0, 1, 1)
        except Exception as error:  # wrappers are anybody's, and may raise anything
            what = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(f"{spec.env_id} can't be played under {condition}: {what}") from error
        try:
            if check is not None:
                check(env)
        finally:
            env.close()


def know_envs() -> None:
    """Make the algorithms and environments of the zoo, and ours, known."""
    import drqn_sb3.zoo  # it keeps gym quiet, which the zoo imports

    importlib.import_module("rl_zoo3.import_envs")
    drqn_sb3.zoo.register()


def _make_bare(spec: EnvSpec, render_mode: str | None) -> Any:
    import gymnasium as gym

    kwargs = dict(spec.env_kwargs)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    try:
        return gym.make(spec.env_id, **kwargs)
    except (gym.error.Error, TypeError, ImportError) as error:
        raise ValueError(f"the environment {spec.env_id} can't be made with {kwargs}: {error}") from error


def _entries(config: Mapping[str, Any], key: str) -> list[Any]:
    entries = config.get(key) or []
    return list(entries) if isinstance(entries, list | tuple) else [entries]


def _named(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """Take an entry apart: a dotted name, or a dict of one with arguments."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, arguments),) = entry.items()
        if isinstance(name, str) and isinstance(arguments or {}, Mapping):
            return name, arguments or {}
    raise ValueError(f"a wrapper must be a dotted name, or a dict of one with its arguments, got {entry!r}")


def _check_order(entries: Sequence[Any]) -> None:
    """A condition's wrappers are put beneath the outermost ones: what was elsewhere in training would be changed unseen."""
    names = [_named(entry)[0].rsplit(".", 1)[-1] for entry in entries]
    first = next((place for place, name in enumerate(names) if name in OUTERMOST), len(names))
    outside = [name for name, entry in zip(names[first:], entries[first:], strict=True) if _part_of(entry) is not None]
    if outside:
        raise ValueError(
            f"env_wrapper must have {names[first]} outside of what hides observations, got {', '.join(outside)} behind it"
        )


def _part_of(entry: Any) -> str | None:
    """Tell which part of a condition a wrapper is; ``None`` for one that belongs to the task."""
    name, arguments = _named(entry)
    class_name = name.rsplit(".", 1)[-1]
    if class_name not in WRAPPERS or arguments.get("indices") is not None:  # chosen for this environment
        return None
    kind_name, kind = next(item for item in KINDS.items() if item[1].wrapper.endswith(f".{class_name}"))
    if kind.argument is None:
        return kind_name
    level = arguments.get(kind.argument, _default(kind.wrapper, kind.argument))
    return f"{kind_name}-{level}"


def _default(wrapper: str, argument: str) -> Any:
    module, name = wrapper.rsplit(".", 1)
    return inspect.signature(getattr(importlib.import_module(module), name)).parameters[argument].default
