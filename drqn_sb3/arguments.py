"""Checks of what DRQN is given, before any work is lost."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, is_vecenv_wrapped, unwrap_vec_normalize

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.checks import check_integer, is_number
from drqn_sb3.last_action import OBSERVATION
from drqn_sb3.policies import DRQNPolicy
from drqn_sb3.precision import PRECISIONS

if TYPE_CHECKING:
    from drqn_sb3.drqn import DRQN
    from drqn_sb3.persistence import PersistentDQN


def check_policy(policy: Any, known: Collection[str]) -> Any:
    """
    See whether a policy is a recurrent one.

    :param policy: a name or a class
    :param known: the names there are
    :return: the policy
    :raises TypeError, ValueError: naming the policies to choose from and what was received
    """
    expected = f"policy must be one of {', '.join(known)}, or a subclass of DRQNPolicy"
    if isinstance(policy, str):
        if policy not in known:
            raise ValueError(f"{expected}, got {policy!r}")
    elif not isinstance(policy, type) or not issubclass(policy, DRQNPolicy):
        raise TypeError(f"{expected}, got {policy!r}")
    return policy


def check_env(env: GymEnv | str | None, verbose: int) -> Any:
    """
    Make the environment if need be, and see whether the algorithm can work with it.

    :param env: the environment, or its id; ``None`` when a model is loaded without one
    :param verbose: whether to tell that one is made
    :return: the environment
    :raises TypeError, ValueError: naming what is needed and what was received
    """
    check_integer("verbose", verbose, 0)
    if env is None:
        return None
    env = maybe_make_env(env, verbose)
    if not hasattr(env, "action_space"):
        raise TypeError(f"env must be an environment or the id of one, got {env!r}")
    # Spaces of other kinds (gym's) are left to SB3, which converts them
    if not isinstance(env.action_space, spaces.Space):
        return env
    if not isinstance(env.action_space, spaces.Discrete):
        hint = " (for SlimeVolley's three buttons, wrap it in drqn_sb3.envs.DiscreteActions)"
        is_buttons = env.action_space == spaces.MultiBinary(3)
        raise ValueError(f"DRQN supports only Discrete action spaces, got {env.action_space}{hint if is_buttons else ''}")
    if env.action_space.start != 0:
        raise ValueError(f"DRQN supports only Discrete action spaces that start at 0, got {env.action_space}")
    return env


def check_normalization(env: VecEnv) -> VecEnv:
    """
    See whether what ``VecNormalize`` keeps for the replay buffer, if there is one, looks like what the model is shown.

    :param env: the environments, as wrapped for the model
    :return: the environments
    :raises ValueError: if a wrapper around ``VecNormalize`` changes the observations' shape
    """
    normalize = unwrap_vec_normalize(env)
    if normalize is not None and _shapes(normalize.observation_space) != _shapes(env.observation_space):
        raise ValueError(
            "VecNormalize must come after every wrapper that changes the shape of observations, for images "
            "VecNormalize(VecTransposeImage(env), norm_obs=False): "
            f"it has {_shapes(normalize.observation_space)}, the model gets {_shapes(env.observation_space)}"
        )
    return env


def check_prediction(model: "DRQN") -> None:
    """
    See whether a predictor, if there is one, can tell hidden observations from shown ones.

    :param model: a model that is set up
    :raises ValueError: if observations are normalised, which makes something else of the zeros that a hidden one consists of,
        or stacked, where a hidden one stands beside those shown before
    """
    if model.q_net.predictor is None:
        return
    if model.env is not None and is_vecenv_wrapped(model.env, VecFrameStack):
        raise ValueError("a policy with a predictor needs single observations, got VecFrameStack: its memory does without")
    normalize = model.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs and OBSERVATION in (normalize.norm_obs_keys or [OBSERVATION]):
        raise ValueError(
            "a policy with a predictor needs observations that are not normalised, got VecNormalize with norm_obs=True: "
            "set norm_obs=False (and scale them in a wrapper inside of what hides them)"
        )


def _shapes(space: spaces.Space) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: part.shape for key, part in space.items()}
    return space.shape


_INTEGER_BOUNDS = {
    "buffer_size": 1,
    "batch_size": 1,
    "gradient_steps": -1,
    "sequence_length": 1,
    "burn_in": 0,
    "n_steps": 1,
    "learning_starts": 0,
    "target_update_interval": 1,
}
_OPTIONAL_INTEGER_BOUNDS = {"exploration_steps": 1, "seed": 0}
_UNIT_INTERVAL = ("tau", "gamma", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
_CHOICES = {
    "initial_state": ("zero", "stored"),
    "replay": ("random", "sequential"),
    "double_q": (True, False),
    "precision": PRECISIONS,
    "capture_graph": (True, False),
}


def check_arguments(model: "DRQN") -> None:
    """
    Check a model's arguments before any work is lost.

    :param model: an instance whose attributes are set
    :raises TypeError, ValueError: naming the argument, its bound and what was received
    """
    if not hasattr(model, "observation_space"):
        raise ValueError("env must be an environment or the id of one, got None")
    _check_numbers(model)
    for name, choices in _CHOICES.items():
        value = getattr(model, name)
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
            raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    if not isinstance(model.buffer_device, str | th.device):
        raise TypeError(f'buffer_device must be "auto" or the name of a device, got {model.buffer_device!r}')
    _check_train_freq(model.train_freq, model.n_envs)
    if model.tensorboard_log is not None and not isinstance(model.tensorboard_log, str):
        raise TypeError(f"tensorboard_log must be the path of a folder or None, got {model.tensorboard_log!r}")
    if model.replay == "sequential" and (model.burn_in > 0 or model.initial_state != "zero"):
        raise ValueError(
            'replay="sequential" carries the state from window to window, it needs burn_in=0 and initial_state="zero", '
            f"got burn_in={model.burn_in} and initial_state={model.initial_state!r}"
        )
    window = model.burn_in + model.sequence_length + model.n_steps
    if model.learning_starts < window:
        raise ValueError(
            f"learning_starts must be at least a window (burn_in + sequence_length + n_steps = {window}), "
            f"got {model.learning_starts}"
        )
    _check_replay_buffer_arguments(model)


def _check_numbers(model: "DRQN") -> None:
    for name, least in _INTEGER_BOUNDS.items():
        check_integer(name, getattr(model, name), least)
    for name, least in _OPTIONAL_INTEGER_BOUNDS.items():
        if getattr(model, name) is not None:
            check_integer(name, getattr(model, name), least)
    for name in _UNIT_INTERVAL:
        value = getattr(model, name)
        if not is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    if not is_number(model.max_grad_norm) or not model.max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be above 0, got {model.max_grad_norm!r}")
    coef = model.prediction_coef
    if not is_number(coef) or not 0 <= coef < float("inf"):
        raise ValueError(f"prediction_coef must be finite and at least 0, got {coef!r}")
    rate = model.learning_rate
    if not callable(rate) and (not is_number(rate) or not 0 <= rate < float("inf")):
        raise ValueError(f"learning_rate must be finite and at least 0, or a schedule, got {rate!r}")
    timeout = model.step_timeout
    if timeout is not None and (not is_number(timeout) or not 0 < timeout < float("inf")):
        raise ValueError(f"step_timeout must be a finite number of seconds above 0, or None, got {timeout!r}")
    check_integer("stats_window_size", model._stats_window_size, 1)


def _check_train_freq(train_freq: Any, n_envs: int) -> None:
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    check_integer("train_freq", frequency, 1)
    # In a loaded model it is SB3's TrainFreq, whose unit is an enum
    unit = getattr(unit, "value", unit)
    if unit not in ("step", "episode"):
        raise ValueError(f'the unit of train_freq must be "step" or "episode", got {unit!r}')
    if unit == "episode" and n_envs > 1:
        raise ValueError(f"train_freq must be in steps with more than one environment, got {train_freq} with {n_envs}")


def _check_replay_buffer_arguments(model: "DRQN") -> None:
    buffer_class = model.replay_buffer_class
    if not isinstance(buffer_class, type) or not issubclass(buffer_class, SequenceReplayBuffer):
        raise TypeError(f"replay_buffer_class must be a SequenceReplayBuffer, got {buffer_class!r}")
    for name in ("replay_buffer_kwargs", "policy_kwargs"):
        if not isinstance(getattr(model, name), dict):
            raise TypeError(f"{name} must be a dict, got {getattr(model, name)!r}")
    own = {"sequence_length", "burn_in", "n_steps", "replay", "seed", "buffer_device"}
    taken = own & set(model.replay_buffer_kwargs)
    if taken:
        raise ValueError(f"replay_buffer_kwargs must not set {sorted(taken)}: these are arguments of DRQN itself")


def check_replay_buffer(model: "PersistentDQN", loaded: Any, path: Any) -> None:
    """
    See whether a replay buffer that was loaded fits a model.

    :param model: the model
    :param loaded: what was loaded
    :param path: where it came from
    :raises TypeError: if it is no replay buffer of ours
    :raises ValueError: if it was made for other environments, windows or states
    """
    if not isinstance(loaded, SequenceReplayBuffer):
        raise TypeError(f"expected a SequenceReplayBuffer in {path}, got {type(loaded).__name__}")
    own = model.replay_buffer
    assert own is not None
    for name in ("n_envs", "observation_space", "action_space", "sequence_length", "burn_in", "n_steps"):
        if getattr(loaded, name) != getattr(own, name):
            raise ValueError(
                f"the replay buffer in {path} has {name}={getattr(loaded, name)}, the model needs {getattr(own, name)}"
            )
    if type(loaded.sampler) is not type(own.sampler):
        raise ValueError(f'the replay buffer in {path} was made for another replay than the model\'s "{model.replay}"')
    if model.initial_state == "stored" and loaded.size() > 0:
        cell = model.q_net.cell
        expected = [(cell.n_layers, cell.hidden_size)] * cell.n_states
        shapes = [stored.shape[1:] for stored in loaded.storage.lstm_states]
        if shapes != expected:
            raise ValueError(f"the replay buffer in {path} holds states of shapes {shapes}, the model needs {expected}")
