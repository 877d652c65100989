"""Checks of what DRQN is given, before any work is lost."""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.base_class import maybe_make_env

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.policies import DRQNPolicy

if TYPE_CHECKING:
    from drqn_sb3.drqn import DRQN


def check_env(policy: str | type[DRQNPolicy], env: GymEnv | str | None, verbose: int) -> Any:
    """Make the environment if need be, and see whether the algorithm can work with it."""
    env = maybe_make_env(env, verbose)  # type: ignore[arg-type]
    if env is None:
        return None
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"DRQN supports only Discrete action spaces, got {env.action_space}")
    if env.action_space.start != 0:
        raise ValueError(f"DRQN supports only Discrete action spaces that start at 0, got {env.action_space}")
    if isinstance(env.observation_space, spaces.Dict) and policy in ("MlpLstmPolicy", "CnnLstmPolicy"):
        raise ValueError(f'dict observations need the policy "MultiInputLstmPolicy", got {policy!r}')
    return env


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
_UNIT_INTERVAL = ("tau", "gamma", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
_CHOICES = {"initial_state": ("zero", "stored"), "replay": ("random", "sequential")}


def check_arguments(model: "DRQN") -> None:
    """
    Check a model's arguments before any work is lost.

    :param model: an instance whose attributes are set
    :raises TypeError, ValueError: naming the argument, its bound and what was received
    """
    for name, least in _INTEGER_BOUNDS.items():
        _check_integer(name, getattr(model, name), least)
    if model.exploration_steps is not None:
        _check_integer("exploration_steps", model.exploration_steps, 1)
    for name in _UNIT_INTERVAL:
        value = getattr(model, name)
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    for name, choices in _CHOICES.items():
        if getattr(model, name) not in choices:
            raise ValueError(f"{name} must be one of {choices}, got {getattr(model, name)!r}")
    if not isinstance(model.max_grad_norm, Real) or not model.max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be above 0, got {model.max_grad_norm!r}")
    if not callable(model.learning_rate) and not model.learning_rate >= 0:
        raise ValueError(f"learning_rate must be at least 0, or a schedule, got {model.learning_rate!r}")
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
    _check_classes(model)


def _check_integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_classes(model: "DRQN") -> None:
    if not issubclass(model.policy_class, DRQNPolicy):
        known = ", ".join(model.policy_aliases)
        raise TypeError(f"policy must be a recurrent one ({known}, or a subclass), got {model.policy_class.__name__}")
    buffer_class = model.replay_buffer_class
    if buffer_class is None or not issubclass(buffer_class, SequenceReplayBuffer):
        raise TypeError(f"replay_buffer_class must be a SequenceReplayBuffer, got {buffer_class!r}")
    taken = {"sequence_length", "burn_in", "n_steps", "replay"} & set(model.replay_buffer_kwargs)
    if taken:
        raise ValueError(f"replay_buffer_kwargs must not set {sorted(taken)}: these are arguments of DRQN itself")
