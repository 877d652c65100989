"""
The state of environments as plain data: everything that the rest of a run with them depends on.

::

    state = get_env_state(env)   # between two steps
    ...
    env = make_it_again()        # the same configuration, in another process or on another day
    env.reset()
    set_env_state(env, state)    # goes on as the first one would have

What is shown need not be: an Atari game's picture is the old one until the next step. What is drawn from generators that no
layer holds, numpy's global one for example, goes on only with the process that it is in: ``ResumableEnv`` saves it with the
environments of worker processes, in the main process it is the caller's.
"""

from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

from drqn_sb3.checkpoints.env_layers import (
    capture_env,
    capture_layer,
    check_classes,
    layers_of,
    restore_env,
    restore_layer,
)
from drqn_sb3.checkpoints.object_graph import EnvStateError, Recorder, class_name
from drqn_sb3.checkpoints.object_restorer import Restorer
from drqn_sb3.checkpoints.resumable_env import ResumableEnv
from drqn_sb3.envs.atari import AtariVecEnv
from drqn_sb3.overlap import WorkWhileStepping

__all__ = ["EnvStateError", "get_env_state", "set_env_state"]

# What is written anew by every step, and how the processes are reached.
_BUFFERS = {"actions", "buf_obs", "buf_dones", "buf_rews", "buf_infos", "keys"}
_PROCESSES = {"remotes", "work_remotes", "processes", "waiting", "closed"}
_CONFIGURATION = {"envs", "num_envs", "metadata", "render_mode"}


def get_env_state(env: VecEnv) -> dict[str, Any]:
    """
    Save everything that the rest of a run depends on.

    :param env: environments, between two steps; they are not changed
    :return: plain data, for :func:`set_env_state` of environments made in the same way
    :raises EnvStateError: if they hold something that cannot be saved, or if they are of a kind that gives no access to it
    """
    wrappers, base = _layers(env)
    _check_access(base)
    recorder = Recorder([*wrappers, base])
    layers = [capture_layer(wrapper, recorder) for wrapper in wrappers]
    own = recorder.attributes(base, _names(base))
    return {
        "layers": [*layers, {"class": class_name(base), "attributes": own}],
        "objects": recorder.finish(),
        "envs": _capture_processes(base) if isinstance(base, SubprocVecEnv) else _capture_envs(base),
    }


def set_env_state(env: VecEnv, state: dict[str, Any]) -> None:
    """
    Go on from a saved state.

    :param env: environments made as the saved ones were, and reset
    :param state: what :func:`get_env_state` returned; it is not changed and can be used again
    :raises ValueError: if it is of other environments. If their number or classes differ, nothing has been changed
    """
    if not isinstance(state, dict) or set(state) != {"layers", "objects", "envs"}:
        raise ValueError(f"state must be what get_env_state() returned, got {type(state).__name__}")
    wrappers, base = _layers(env)
    _check_access(base)
    if len(state["envs"]) != env.num_envs:
        raise ValueError(f"the state is of {len(state['envs'])} environments, got {env.num_envs}")
    check_classes([class_name(layer) for layer in (*wrappers, base)], state["layers"])
    for classes, saved in zip(_classes(base), state["envs"], strict=True):
        check_classes(classes, saved["layers"])
    _restore_envs(base, state["envs"])
    restorer = Restorer(state["objects"])
    for wrapper, saved in zip(wrappers, state["layers"], strict=False):  # the base comes last
        restore_layer(wrapper, saved, restorer)
    restorer.attributes(base, state["layers"][-1]["attributes"], _names(base))


def _layers(env: VecEnv) -> tuple[list[VecEnvWrapper], VecEnv]:
    wrappers = []
    while isinstance(env, VecEnvWrapper):
        if not isinstance(env, WorkWhileStepping):
            wrappers.append(env)
        env = env.venv
    return wrappers, env


def _check_access(base: VecEnv) -> None:
    if isinstance(base, AtariVecEnv):
        raise EnvStateError(
            "ale_py's native environments (AtariVecEnv) give no access to the state of their games: when the run is resumed, "
            "games begin anew; AtariWrapper in a DummyVecEnv or SubprocVecEnv goes on with them"
        )
    if not isinstance(base, DummyVecEnv | SubprocVecEnv):
        raise EnvStateError(f"{class_name(base)} gives no access to the state of its environments, DummyVecEnv does")
    if isinstance(base, SubprocVecEnv):
        if base.waiting:
            raise EnvStateError("the environments are in the middle of a step: call step_wait() first")
        # Outermost: else the wrappers around it would be left out
        is_wrapped = all(base.env_is_wrapped(ResumableEnv))
        if not is_wrapped or set(base.env_method("class_name")) != {ResumableEnv.__name__}:
            raise EnvStateError(
                "the environments of a SubprocVecEnv must have drqn_sb3.checkpoints.ResumableEnv as their "
                "outermost wrapper, put around them last, for their state to be saved"
            )


def _names(base: VecEnv) -> list[str]:
    skipped = _CONFIGURATION | (_PROCESSES if isinstance(base, SubprocVecEnv) else _BUFFERS)
    return [name for name in vars(base) if name not in skipped]


def _classes(base: VecEnv) -> list[list[str]]:
    """Name the classes of every environment's layers."""
    if isinstance(base, DummyVecEnv):
        return [[class_name(layer) for layer in layers_of(env)] for env in base.envs]
    return base.env_method("get_layer_names")


def _capture_envs(base: Any) -> list[dict[str, Any]]:
    states = []
    for index, env in enumerate(base.envs):
        try:
            states.append(capture_env(env))
        except EnvStateError as error:
            raise EnvStateError(f"environment {index}: {error}") from error
    return states


def _capture_processes(base: SubprocVecEnv) -> list[dict[str, Any]]:
    states = base.env_method("get_run_state")
    for index, state in enumerate(states):
        if "error" in state:
            raise EnvStateError(f"environment {index}: {state['error']}")
    return states


def _restore_envs(base: Any, states: list[dict[str, Any]]) -> None:
    if isinstance(base, DummyVecEnv):
        for env, state in zip(base.envs, states, strict=True):
            restore_env(env, state)
        return
    for index, state in enumerate(states):
        (error,) = base.env_method("set_run_state", state, indices=[index])
        if error is not None:
            raise ValueError(f"environment {index}: {error}")
