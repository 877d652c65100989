"""
The state of a training run, as plain data: everything that the rest of the run depends on.

It is taken and put back between two rollouts, where no step is half done. The replay buffer is not part of it
(:mod:`~drqn_sb3.checkpoints.replay_journal` writes it), nor is what the run was configured with: a run is resumed by a model
that was made anew from the same configuration.
"""

import inspect
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from drqn_sb3.checkpoints.env_state import EnvStateError, get_env_state, set_env_state
from drqn_sb3.checkpoints.object_restorer import check_generator_state
from drqn_sb3.checkpoints.plain import is_plain
from drqn_sb3.drqn import DRQN
from drqn_sb3.finite import diverged, find_spoilt

# What SB3's algorithms, on-policy and off-policy, count and carry along.
_COUNTERS = (
    *("num_timesteps", "_num_timesteps_at_start", "_episode_num", "_n_updates", "_n_calls", "exploration_rate"),
    *("_current_progress_remaining", "ep_info_buffer", "ep_success_buffer"),
    *("_last_obs", "_last_original_obs", "_last_episode_starts"),
)
# Arguments of algorithms that a run does not depend on, or that are compared in another way.
_FREE_ARGUMENTS = {
    *("self", "policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size", "_init_setup_model"),
    *("buffer_device", "step_timeout", "capture_graph", "learning_rate", "replay_buffer_class", "policy_kwargs", "precision"),
}
# Of a callback: what SB3 sets anew each time, or belongs to the process.
_CALLBACK_REFERENCES = {"model", "logger", "locals", "globals", "parent", "verbose", "training_env"}
# Callbacks that may come and go between one start and the next.
_STATELESS = {"CallbackList", "ProgressBarCallback"}


# --- the whole ---


def get_run_state(model: BaseAlgorithm, callbacks: BaseCallback) -> dict[str, Any]:
    """
    Take the state of a run, between two rollouts.

    :param model: the algorithm, which is learning
    :param callbacks: the root of the callbacks that :meth:`learn` was given
    :return: plain data; ``envs`` is a string, the reason, where the environments' state can't be had
    :raises NotFiniteError: if weights are not finite, or a DRQN's losses: such a state must not replace a sound one
    """
    assert model.env is not None
    spoilt = None if isinstance(model, DRQN) else find_spoilt(model.policy, model.policy.optimizer)
    if spoilt is not None:
        raise diverged(model._n_updates, f"{spoilt} is not finite", is_taken=True)
    return {
        "algorithm": type(model).__name__,
        "settings": describe_settings(model),
        "total_timesteps": model._total_timesteps,
        "elapsed_ns": time.time_ns() - model.start_time,
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "parameters": model.get_parameters(),
        "generators": get_generators(model),
        "agent": _agent_state(model),
        "callbacks": [_callback_state(callback) for callback in walk_callbacks(callbacks)],
        "envs": try_env_state(model.env),
    }


def set_run_state(model: BaseAlgorithm, callbacks: BaseCallback, state: dict[str, Any], begin_episodes: str = "") -> list[str]:
    """
    Put a run's state into a model made from the same configuration, whose replay buffer has been filled already.

    :param model: the algorithm, about to learn
    :param callbacks: the root of the callbacks, the same as then
    :param state: what :func:`get_run_state` returned
    :param begin_episodes: why the environments are to begin new episodes, if they are, though their state can be had
    :return: what is not as it was, for the user to know; empty if the run goes on exactly
    :raises ValueError: if the state is of another algorithm, network or environment; of the first two before anything is
        changed
    """
    check_fits(model, state)
    remarks = [f"{name} was {old} and is {new} now" for name, old, new in changed_settings(model, state)]
    _set_parameters(model, state["parameters"])
    # By the names known here, not by those of the file
    for name in _COUNTERS:
        if name in state["counters"]:
            setattr(model, name, state["counters"][name])
    model.start_time = time.time_ns() - state["elapsed_ns"]
    if isinstance(model, DRQN):
        model.set_run_state(state["agent"])
    elif "_last_lstm_states" in state["agent"]:
        _set_contrib_states(model, state["agent"]["_last_lstm_states"])
    remarks += _set_callback_states(list(walk_callbacks(callbacks)), state["callbacks"])
    remarks += _set_envs(model, state["envs"], begin_episodes)
    # Last, for anything before may have drawn
    set_generators(model, state["generators"])
    return remarks


def _set_parameters(model: BaseAlgorithm, parameters: dict[str, Any]) -> None:
    """Weights and the optimiser's state are those of then, its options those of now."""
    options = [{name: value for name, value in group.items() if name != "params"} for group in _groups(model)]
    model.set_parameters(parameters, device=model.device)
    for group, own in zip(_groups(model), options, strict=True):
        group.update(own)


def _groups(model: BaseAlgorithm) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = model.policy.optimizer.param_groups
    return groups


def _set_envs(model: BaseAlgorithm, envs: dict[str, Any] | str, begin_episodes: str) -> list[str]:
    assert model.env is not None
    if not isinstance(envs, str):
        set_env_state(model.env, envs)
        if not begin_episodes:
            return []
    # They have been reset, and begin new episodes
    model._last_obs = model.env.reset()  # type: ignore[assignment]
    model._last_episode_starts = np.ones(model.n_envs, dtype=bool)
    if model.get_vec_normalize_env() is not None:
        model._last_original_obs = model.get_vec_normalize_env().get_original_obs()  # type: ignore[union-attr]
    if isinstance(model, DRQN):
        model.begin_new_episodes()
    return [f"the environments begin new episodes: {envs if isinstance(envs, str) else begin_episodes}"]


def try_env_state(env: VecEnv) -> dict[str, Any] | str:
    """
    Take the environments' state, if it can be had.

    :param env: the environments
    :return: their state, or the reason why not
    """
    try:
        return get_env_state(env)
    except (EnvStateError, EOFError, ConnectionError) as error:
        return str(error) or repr(error)


# --- what must agree ---


def describe_settings(model: BaseAlgorithm) -> dict[str, str]:
    """
    Describe what an algorithm was configured with, for comparison.

    :param model: the algorithm
    :return: by the argument's name
    """
    names = [name for name in inspect.signature(type(model).__init__).parameters if name not in _FREE_ARGUMENTS]
    values = {name: getattr(model, name) for name in names if hasattr(model, name)}
    described = {name: str(value) for name, value in values.items() if is_plain(value) or name == "train_freq"}
    # Functions and objects have an address that says nothing
    described["policy_kwargs"] = re.sub(r" at 0x[0-9a-f]+", "", str(model.policy_kwargs))
    rates = [model.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)]
    described["learning_rate"] = str(rates[0]) if len(set(rates)) == 1 else f"{rates[0]} falling to {rates[-1]}"
    if len(set(rates)) > 1 or (hasattr(model, "exploration_fraction") and getattr(model, "exploration_steps", None) is None):
        # Schedules count in shares of it
        described["total_timesteps"] = str(model._total_timesteps)
    # What decides on the last bit
    described["device"] = f"{model.device.type} ({th.backends.cpu.get_cpu_capability()}, {th.get_num_threads()} threads)"
    if isinstance(model, DRQN):
        described["compute_precision"] = model.compute_precision
    return described


def changed_settings(model: BaseAlgorithm, state: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """
    Compare what a run was configured with.

    :param model: the algorithm as it is configured now
    :param state: the run's state
    :return: each setting that differs: its name, what it was, what it is
    """
    now = describe_settings(model)
    for name, old in state["settings"].items():
        if name in now and now[name] != old:
            yield name, old, now[name]


def check_fits(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """
    Make sure that a run's state is of such a model.

    :param model: the algorithm
    :param state: the run's state
    :raises ValueError: naming what differs
    """
    assert model.env is not None
    if state["algorithm"] != type(model).__name__:
        raise ValueError(f"the checkpoint must be of {type(model).__name__}, got one of {state['algorithm']}")
    parameters = model.get_parameters()
    if set(parameters) != set(state["parameters"]):
        raise ValueError(f"the checkpoint must hold {sorted(parameters)}, got {sorted(state['parameters'])}")
    ours, theirs = (_shapes(found["policy"]) for found in (parameters, state["parameters"]))
    for name in sorted(set(ours) | set(theirs)):
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"the checkpoint must be of the same network: {name} is {_shape(ours.get(name))} in the model and "
                f"{_shape(theirs.get(name))} in the checkpoint; use the policy, policy_kwargs and environment of then"
            )
    n_envs = len(state["counters"]["_last_episode_starts"])
    if n_envs != model.n_envs:
        raise ValueError(f"n_envs must be {n_envs}, as when the checkpoint was written, got {model.n_envs}")


def _shapes(weights: dict[str, th.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(shape)


# --- generators ---


def get_generators(model: BaseAlgorithm) -> dict[str, Any]:
    """
    Take the state of the generators that belong to no part in particular.

    :param model: the algorithm
    :return: plain data
    """
    generators = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": th.get_rng_state(),
        "action_space": model.action_space.np_random.bit_generator.state,
    }
    if th.cuda.is_initialized():
        generators["cuda"] = th.cuda.get_rng_state_all()
    return generators


def set_generators(model: BaseAlgorithm, generators: dict[str, Any]) -> None:
    """
    Put these generators' state back.

    :param model: the algorithm
    :param generators: what :func:`get_generators` returned
    """
    own = model.action_space.np_random.bit_generator
    # NumPy takes a state as it is, and may crash on one that can't be
    check_generator_state(generators["numpy"], "MT19937")
    check_generator_state(generators["action_space"], type(own).__name__)
    version, internal, gauss = generators["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(generators["numpy"])
    th.set_rng_state(generators["torch"])
    own.state = generators["action_space"]
    if "cuda" in generators and th.cuda.is_available():
        th.cuda.set_rng_state_all(generators["cuda"][: th.cuda.device_count()])


# --- the agent ---


def _agent_state(model: BaseAlgorithm) -> dict[str, Any]:
    if isinstance(model, DRQN):
        return model.get_run_state()
    if hasattr(model, "_last_lstm_states"):
        # contrib's RecurrentPPO
        return {"_last_lstm_states": [tuple(states) for states in model._last_lstm_states]}
    return {}


def _set_contrib_states(model: BaseAlgorithm, states: list[tuple[th.Tensor, ...]]) -> None:
    kind: Any = type(model._last_lstm_states)  # type: ignore[attr-defined]
    on_device = [tuple(tensor.to(model.device) for tensor in part) for part in states]
    model._last_lstm_states = kind(*on_device)  # type: ignore[attr-defined]


# --- callbacks ---


def walk_callbacks(root: BaseCallback) -> Iterator[BaseCallback]:
    """
    Go through a callback and those within it.

    :param root: the callback
    :return: itself, then those within
    """
    yield root
    within = [*getattr(root, "callbacks", []), *(getattr(root, name, None) for name in ("callback", "callback_on_new_best"))]
    for callback in within:
        if isinstance(callback, BaseCallback):
            yield from walk_callbacks(callback)


def _remembered(callback: BaseCallback) -> dict[str, Any]:
    """What a callback remembers: its plain attributes, but for its arguments."""
    if getattr(callback, "remembers_nothing", False):
        return {}
    classes = [kind for kind in type(callback).__mro__ if issubclass(kind, BaseCallback)]
    arguments = {name for kind in classes for name in inspect.signature(kind).parameters}
    forgets = arguments | _CALLBACK_REFERENCES
    return {name: value for name, value in vars(callback).items() if name not in forgets and is_plain(value)}


def _callback_state(callback: BaseCallback) -> dict[str, Any]:
    env = getattr(callback, "eval_env", None)
    return {
        "class": type(callback).__name__,
        "attributes": _remembered(callback),
        "eval_env": try_env_state(env) if isinstance(env, VecEnv) else None,
    }


def _set_callback_states(callbacks: list[BaseCallback], states: list[dict[str, Any]]) -> list[str]:
    """Give each callback its state back: the first of a class that of the first of that class, and so on."""
    remarks, waiting = [], list(callbacks)
    for state in states:
        callback = next((found for found in waiting if type(found).__name__ == state["class"]), None)
        if callback is None:
            if state["class"] not in _STATELESS:
                remarks.append(f"there was a callback {state['class']}, and there is none now")
            continue
        waiting.remove(callback)
        known = _remembered(callback).keys()
        vars(callback).update({name: value for name, value in state["attributes"].items() if name in known})
        reason = _set_eval_env(callback, state["eval_env"])
        if reason is not None:
            remarks.append(f"{state['class']}'s environments begin anew: {reason}")
    return remarks


def _set_eval_env(callback: BaseCallback, state: dict[str, Any] | str | None) -> str | None:
    """Put the state of the environments that a callback evaluates in back, or tell why not."""
    if not isinstance(state, dict):
        return state
    env = getattr(callback, "eval_env", None)
    if not isinstance(env, VecEnv):
        return "there are none now"
    try:
        set_env_state(env, state)
    except ValueError as error:
        return str(error)
    return None
