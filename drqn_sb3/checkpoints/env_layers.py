"""
One environment's state, layer by layer: each of its wrappers from the outermost on, then the environment itself.

What a layer depends on are its attributes, with three exceptions. A layer some of whose attributes cannot be saved is asked,
if it has ``get_state()`` and ``set_state(state)``, which must leave nothing out; the Arcade Learning Environment has a state
of its own; and what measures time, as SB3's ``Monitor`` does, goes on from the time that had passed.
"""

import copy
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from ale_py import ALEState
from ale_py.env import AtariEnv
from gymnasium.wrappers import PassiveEnvChecker, RecordEpisodeStatistics
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from drqn_sb3.checkpoints.object_graph import EnvStateError, Recorder, check_plain, class_name, slots_of
from drqn_sb3.checkpoints.object_restorer import Restorer

# What a layer is made of or with, never where it stands.
_CONFIGURATION = {"num_envs", "spec", "metadata", "_metadata", "render_mode", "class_attributes"}
_CONFIGURATION |= {"_cached_spec", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs"}
_RESULTS = "results_writer"
_OF_CLASSES: dict[type, set[str]] = {
    AtariEnv: {"ale", "_action_set"},
    # What it has looked at: see _end_checks
    PassiveEnvChecker: {"checked_reset", "checked_step", "checked_render", "checked_data_reuse", "_previous_data"},
    VecNormalize: {"training", "norm_obs", "norm_reward"},
}
# What a layer that is asked for its state does not think of.
_BESIDES = {"action_space", "observation_space", "_action_space", "_observation_space", "_np_random_seed"}
_CLOCKS: dict[type, tuple[str, Callable[[], float]]] = {
    Monitor: ("t_start", time.time),
    VecMonitor: ("t_start", time.time),
    RecordEpisodeStatistics: ("episode_start_time", time.perf_counter),
}


def layers_of(env: gym.Env) -> list[gym.Env]:
    """
    List the layers that have a state.

    :param env: an environment
    :return: its wrappers from the outermost on, without those that only pass the state on (``ResumableEnv``), and the
        environment itself
    """
    layers = _all_layers(env)
    return [layer for layer in layers if not hasattr(type(layer), "get_run_state")]


def _all_layers(env: gym.Env) -> list[gym.Env]:
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def capture_env(env: gym.Env) -> dict[str, Any]:
    """
    Save everything that the rest of an environment's run depends on.

    :param env: an environment; it is not changed
    :return: plain data
    :raises EnvStateError: if a layer holds something that cannot be saved
    """
    recorder = Recorder([*_all_layers(env), getattr(env.unwrapped, "ale", None)])
    layers = [capture_layer(layer, recorder) for layer in layers_of(env)]
    return {"layers": layers, "objects": recorder.finish()}


def restore_env(env: gym.Env, state: dict[str, Any]) -> None:
    """
    Go on from a saved state.

    :param env: an environment made as the saved one was, and reset
    :param state: what :func:`capture_env` returned; it is not changed
    :raises ValueError: if it is another environment's; unless only its contents tell, nothing has been changed then
    """
    layers = layers_of(env)
    check_classes([class_name(layer) for layer in layers], state["layers"])
    restorer = Restorer(state["objects"])
    for layer, saved in zip(layers, state["layers"], strict=True):
        restore_layer(layer, saved, restorer)


def check_classes(classes: list[str], saved_layers: list[dict[str, Any]]) -> None:
    """
    Make sure that a state is of layers of the same classes.

    :param classes: their classes' names, from the outermost on
    :param saved_layers: what :func:`capture_layer` returned for each
    :raises ValueError: if it is of others
    """
    saved_classes = [saved["class"] for saved in saved_layers]
    if classes != saved_classes:
        raise ValueError(f"the state is of other environments: of {saved_classes}, not {classes}")


def capture_layer(layer: Any, recorder: Recorder) -> dict[str, Any]:
    """
    Save a layer's part of the state.

    :param layer: a wrapper or an environment, or a ``VecEnvWrapper``
    :param recorder: saves its attributes
    :return: plain data, with references to the recorder's objects
    :raises EnvStateError: if the layer holds something that cannot be saved
    """
    if slots_of(layer):
        raise EnvStateError(f"{class_name(layer)} keeps {slots_of(layer)} in __slots__, which cannot be saved")
    state: dict[str, Any] = {"class": class_name(layer)}
    is_asked = _is_asked(layer, recorder)
    if is_asked:
        state["own"] = _ask(layer)
    elif isinstance(layer, AtariEnv):
        state["ale"] = layer.clone_state(include_rng=True).serialize()
    state["attributes"] = recorder.attributes(layer, _names(layer, is_asked))
    clock = _clock_of(layer)
    if clock is not None:
        name, now = clock
        state["elapsed"] = now() - getattr(layer, name)
    if _RESULTS in vars(layer):
        state["results"] = _capture_results(layer.results_writer)
    return state


def restore_layer(layer: Any, state: dict[str, Any], restorer: Restorer) -> None:
    """
    Put a layer's part of the state back.

    :param layer: one of the same class
    :param state: what :func:`capture_layer` returned
    :param restorer: has the objects that it refers to
    :raises ValueError: if it is another layer's
    """
    if "own" in state and _can_tell(layer):
        layer.set_state(copy.deepcopy(state["own"]))
    elif "ale" in state:
        layer.restore_state(ALEState(state["ale"]))
    restorer.attributes(layer, state["attributes"], _names(layer, "own" in state))
    clock = _clock_of(layer)
    if clock is not None:
        name, now = clock
        setattr(layer, name, now() - state["elapsed"])
    if state.get("results") is not None:
        _restore_results(getattr(layer, _RESULTS, None), state["results"])
    if isinstance(layer, PassiveEnvChecker):
        _end_checks(layer)


def _end_checks(checker: PassiveEnvChecker) -> None:
    """Have it check no more: it expects a reset first, and fails where a run goes on in the midst of an episode."""
    checker.checked_reset = checker.checked_step = checker.checked_data_reuse = True
    checker._previous_data = None


def _can_tell(layer: Any) -> bool:
    return hasattr(type(layer), "get_state") and hasattr(type(layer), "set_state")


def _is_asked(layer: Any, recorder: Recorder) -> bool:
    """Only if need be: there are environments whose ``get_state()`` tells a part of it, such as the observation."""
    if not _can_tell(layer):
        return False
    try:
        recorder.alike().attributes(layer, _names(layer, is_asked=False))
    except EnvStateError:
        return True
    return False


def _ask(layer: Any) -> Any:
    try:
        state = layer.get_state()
    except Exception as error:
        raise EnvStateError(f"{class_name(layer)}.get_state() failed: {error!r}") from error
    check_plain(state, f"{class_name(layer)}.get_state()")
    return copy.deepcopy(state)


def _names(layer: Any, is_asked: bool) -> list[str]:
    """List the attributes that are saved one by one."""
    if is_asked:
        return [name for name in vars(layer) if name in _BESIDES]
    skipped = _CONFIGURATION | {_RESULTS}
    for cls, names in _OF_CLASSES.items():
        if isinstance(layer, cls):
            skipped = skipped | names
    clock = _clock_of(layer)
    return [name for name in vars(layer) if name not in skipped and (clock is None or name != clock[0])]


def _clock_of(layer: Any) -> tuple[str, Callable[[], float]] | None:
    """Name the attribute that holds when a layer began to measure time, and what it measures with."""
    return next((clock for cls, clock in _CLOCKS.items() if isinstance(layer, cls)), None)


def _capture_results(writer: ResultsWriter | None) -> dict[str, Any] | None:
    """Remember how far a monitor file goes, and its first line to know it again."""
    if writer is None or writer.file_handler.closed:
        return None
    writer.file_handler.flush()
    return {"header": _header(writer), "position": os.fstat(writer.file_handler.fileno()).st_size}


def _restore_results(writer: ResultsWriter | None, results: dict[str, Any]) -> None:
    """Take back the rows that were written after the state was saved: they will be written again."""
    if writer is None or writer.file_handler.closed:
        return
    file, position = writer.file_handler, results["position"]
    file.flush()
    size = os.fstat(file.fileno()).st_size
    if size < position:
        warnings.warn(
            f"{file.name} has {size} bytes, {position} when the state was saved: episodes of that time are missing from it. "
            "Monitor(..., override_existing=False) keeps them",
            stacklevel=2,
        )
    elif _header(writer) == results["header"]:  # else it is another file that was begun anew
        file.truncate(position)
        file.seek(0, os.SEEK_END)


def _header(writer: ResultsWriter) -> bytes:
    try:
        with open(writer.file_handler.name, "rb") as file:
            return file.readline()
    except FileNotFoundError:
        return b""
