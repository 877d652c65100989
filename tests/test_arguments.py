"""What DRQN refuses to be made with, and the words it does so with."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.dqn.policies import DQNPolicy
from toy_env import SPACES, ToyEnv

from drqn_sb3 import DRQN, SequenceReplayBuffer
from drqn_sb3.policies import CnnLstmPolicy, MlpLstmPolicy

SMALL: dict[str, Any] = {"buffer_size": 200, "learning_starts": 20}


def make(**kwargs: Any) -> DRQN:
    kwargs = {"policy": "MlpLstmPolicy", "env": ToyEnv(), **SMALL, **kwargs}
    return DRQN(**kwargs)


class OwnBuffer(SequenceReplayBuffer):
    """A subclass may be used."""


ACCEPTED: dict[str, dict[str, Any]] = {
    "bounds, low": {"gamma": 0, "tau": 0.0, "exploration_final_eps": 0, "exploration_fraction": 0.0, "learning_rate": 0.0},
    "bounds, high": {"gamma": 1, "tau": 1.0, "exploration_final_eps": 1.0, "max_grad_norm": float("inf")},
    "numpy numbers": {"gamma": np.float32(0.5), "batch_size": np.int64(4), "sequence_length": np.int32(5)},
    "shortest window": {"sequence_length": 1, "learning_starts": 2, "buffer_size": 2},
    "schedule": {"learning_rate": lambda progress: progress * 1e-3},
    "own buffer": {"replay_buffer_class": OwnBuffer},
    "episodes": {"train_freq": (2, "episode"), "gradient_steps": -1},
    "steps of several": {"train_freq": (2, "step"), "env": make_vec_env(ToyEnv, n_envs=2)},
    "policy class": {"policy": MlpLstmPolicy},
    "no timeout": {"step_timeout": None},
    "short timeout": {"step_timeout": 1},
    "id": {"env": "CartPole-v1"},
}


@pytest.mark.parametrize("kwargs", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_lies_within_the_bounds_is_accepted(kwargs: dict[str, Any]) -> None:
    make(**kwargs)


INTEGERS = {
    "buffer_size": 1,
    "batch_size": 1,
    "gradient_steps": -1,
    "sequence_length": 1,
    "burn_in": 0,
    "n_steps": 1,
    "learning_starts": 0,
    "target_update_interval": 1,
    "exploration_steps": 1,
    "train_freq": 1,
    "seed": 0,
    "verbose": 0,
    "stats_window_size": 1,
}


@pytest.mark.parametrize(("name", "least"), INTEGERS.items(), ids=INTEGERS.keys())
def test_an_integer_below_its_bound_is_refused(name: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least {least}, got {least - 1}$"):
        make(**{name: least - 1})


@pytest.mark.parametrize("value", [5.0, True, "5", [5], float("nan")], ids=repr)
@pytest.mark.parametrize("name", INTEGERS)
def test_what_is_no_integer_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be an integer, got {re.escape(repr(value))}$"):
        make(**{name: value})


UNIT_INTERVAL = ["tau", "gamma", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps"]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True, [0.5]], ids=repr)
@pytest.mark.parametrize("name", UNIT_INTERVAL)
def test_what_lies_outside_the_unit_interval_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must lie between 0 and 1, got {re.escape(repr(value))}$"):
        make(**{name: value})


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "prediction below": ({"prediction_coef": -0.1}, ValueError, "prediction_coef must be finite and at least 0, got -0.1"),
    "prediction nan": ({"prediction_coef": float("nan")}, ValueError, "prediction_coef must be finite and .* got nan"),
    "prediction text": ({"prediction_coef": "1"}, ValueError, "prediction_coef must be finite and at least 0, got '1'"),
    "clip at zero": ({"max_grad_norm": 0}, ValueError, "max_grad_norm must be above 0, got 0"),
    "clip below": ({"max_grad_norm": -1.0}, ValueError, "max_grad_norm must be above 0, got -1.0"),
    "clip nan": ({"max_grad_norm": float("nan")}, ValueError, "max_grad_norm must be above 0, got nan"),
    "clip text": ({"max_grad_norm": "10"}, ValueError, "max_grad_norm must be above 0, got '10'"),
    "clip true": ({"max_grad_norm": True}, ValueError, "max_grad_norm must be above 0, got True"),
    "rate below": ({"learning_rate": -1e-4}, ValueError, "learning_rate must be .* at least 0, or a schedule, got -0.0001"),
    "rate nan": ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite .* got nan"),
    "rate infinite": ({"learning_rate": float("inf")}, ValueError, "learning_rate must be finite .* got inf"),
    "rate text": ({"learning_rate": "1e-4"}, ValueError, "learning_rate must be .* got '1e-4'"),
    "no rate": ({"learning_rate": None}, ValueError, "learning_rate must be .* got None"),
    "log folder": ({"tensorboard_log": 5}, TypeError, "tensorboard_log must be the path of a folder or None, got 5"),
    "optimizer": ({"policy_kwargs": {"optimizer_class": 3}}, TypeError, "optimizer_class must be a class, got 3"),
    "activation": ({"policy_kwargs": {"activation_fn": "relu"}}, TypeError, "activation_fn must be a class, got 'relu'"),
    "state": ({"initial_state": "burned"}, ValueError, r"initial_state must be one of \('zero', 'stored'\), got 'burned'"),
    "state true": ({"initial_state": True}, ValueError, "initial_state must be one of .* got True"),
    "replay": ({"replay": "ordered"}, ValueError, r"replay must be one of \('random', 'sequential'\), got 'ordered'"),
    "double": ({"double_q": "yes"}, ValueError, r"double_q must be one of \(True, False\), got 'yes'"),
    "precision": (
        {"precision": "half"},
        ValueError,
        r"precision must be one of \('auto', 'float32', 'bfloat16'\), got 'half'",
    ),
    "timeout zero": ({"step_timeout": 0}, ValueError, "step_timeout must be a finite number .* above 0, or None, got 0"),
    "timeout infinite": ({"step_timeout": float("inf")}, ValueError, "step_timeout must be .* or None, got inf"),
    "timeout nan": ({"step_timeout": float("nan")}, ValueError, "step_timeout must be .* or None, got nan"),
    "timeout text": ({"step_timeout": "60"}, ValueError, "step_timeout must be .* or None, got '60'"),
    "capture": ({"capture_graph": "yes"}, ValueError, r"capture_graph must be one of \(True, False\), got 'yes'"),
    "buffer elsewhere": ({"buffer_device": "meta"}, ValueError, 'buffer_device must be "auto", "cpu" or .* "cpu", got "meta"'),
    "buffer nowhere": ({"buffer_device": "gpu"}, ValueError, 'buffer_device must be "auto", "cpu" or .* "cpu", got "gpu"'),
    "buffer number": ({"buffer_device": 0}, TypeError, 'buffer_device must be "auto" or the name of a device, got 0'),
    "double number": ({"double_q": 1}, ValueError, "double_q must be one of .* got 1"),
    "sequential burn-in": (
        {"replay": "sequential", "burn_in": 4},
        ValueError,
        'replay="sequential" .* needs burn_in=0 and initial_state="zero", got burn_in=4',
    ),
    "sequential stored": (
        {"replay": "sequential", "initial_state": "stored"},
        ValueError,
        "replay=\"sequential\" .* got burn_in=0 and initial_state='stored'",
    ),
    "frequency unit": ({"train_freq": (1, "epoch")}, ValueError, 'train_freq must be "step" or "episode", got \'epoch\''),
    "no frequency": ({"train_freq": (0, "episode")}, ValueError, "train_freq must be at least 1, got 0"),
    "frequency triple": ({"train_freq": (1, "step", 2)}, TypeError, r"train_freq must be an integer, got \(1, 'step', 2\)"),
    "episodes of several": (
        {"train_freq": (1, "episode"), "env": make_vec_env(ToyEnv, n_envs=3)},
        ValueError,
        r"train_freq must be in steps with more than one environment, got \(1, 'episode'\) with 3",
    ),
    "learning starts early": (
        {"learning_starts": 17, "burn_in": 4, "sequence_length": 10, "n_steps": 4},
        ValueError,
        r"learning_starts must be at least a window \(burn_in \+ sequence_length \+ n_steps = 18\), got 17",
    ),
    "small buffer": (
        {"buffer_size": 10},
        ValueError,
        r"buffer_size must be at least a window \(burn_in \+ sequence_length \+ n_steps = 11\).* got 10",
    ),
    "small buffers": (
        {"buffer_size": 32, "env": make_vec_env(ToyEnv, n_envs=3)},
        ValueError,
        "buffer_size must be at least a window .* for each of 3 environments, 33 in all, got 32",
    ),
    "stock buffer": ({"replay_buffer_class": ReplayBuffer}, TypeError, "must be a SequenceReplayBuffer, got .*ReplayBuffer"),
    "stock dict buffer": (
        {"replay_buffer_class": DictReplayBuffer},
        TypeError,
        "replay_buffer_class must be a SequenceReplayBuffer, got .*DictReplayBuffer",
    ),
    "buffer text": ({"replay_buffer_class": "own"}, TypeError, "must be a SequenceReplayBuffer, got 'own'"),
    "buffer kwargs": ({"replay_buffer_kwargs": ["seed"]}, TypeError, r"replay_buffer_kwargs must be a dict, got \['seed'\]"),
    "buffer kwargs of DRQN": (
        {"replay_buffer_kwargs": {"n_steps": 3, "burn_in": 1}},
        ValueError,
        r"replay_buffer_kwargs must not set \['burn_in', 'n_steps'\]: these are arguments of DRQN itself",
    ),
    "buffer seed": ({"replay_buffer_kwargs": {"seed": 3}}, ValueError, r"replay_buffer_kwargs must not set \['seed'\]"),
    "memory": ({"optimize_memory_usage": True}, ValueError, "optimize_memory_usage must be False, got True"),
    "policy kwargs": ({"policy_kwargs": "lstm"}, TypeError, "policy_kwargs must be a dict, got 'lstm'"),
    "policy kwarg": ({"policy_kwargs": {"hidden_size": 0}}, ValueError, "hidden_size must be .* at least 1, got 0"),
    "stock policy": (
        {"policy": "MlpPolicy"},
        ValueError,
        "policy must be one of MlpLstmPolicy, CnnLstmPolicy, .* 'MlpPolicy'",
    ),
    "stock policy class": (
        {"policy": DQNPolicy},
        TypeError,
        "MultiInputLstmPolicy, or a subclass of .* got <class .*DQNPolicy",
    ),
    "no policy": ({"policy": None}, TypeError, "policy must be one of MlpLstmPolicy, .* got None"),
    "no env": ({"env": None}, ValueError, "env must be an environment or the id of one, got None"),
    "number of an env": ({"env": 3}, TypeError, "env must be an environment or the id of one, got 3"),
    "unknown id": ({"env": "NoSuchGame-v0"}, gym.error.NameNotFound, "NoSuchGame"),
    "continuous actions": ({"env": "Pendulum-v1"}, ValueError, r"DRQN supports only Discrete action spaces, got Box\("),
    "dict, mlp": ({"env": ToyEnv(SPACES["dict"])}, ValueError, "dict observations need MultiInputLstmPolicy"),
    "dict, cnn class": (
        {"env": ToyEnv(SPACES["dict"]), "policy": CnnLstmPolicy},
        ValueError,
        "CnnLstmPolicy needs image observations, .* got Dict",
    ),
    "vector, cnn": ({"policy": "CnnLstmPolicy"}, ValueError, r"CnnLstmPolicy needs image .* got Box of shape \(3,\)"),
    "vector, multi": ({"policy": "MultiInputLstmPolicy"}, ValueError, "MultiInputLstmPolicy needs dict observations, got Box"),
    "tuple observations": ({"env": ToyEnv(spaces.Tuple([spaces.Discrete(2)]))}, NotImplementedError, "Tuple"),
    "argument of nobody": ({"sequence_len": 3}, TypeError, "sequence_len"),
}


@pytest.mark.parametrize(("kwargs", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_argument_is_refused(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(**kwargs)


ACTION_SPACES: dict[str, tuple[spaces.Space, str]] = {
    "box": (spaces.Box(-1, 1, (2,)), r"only Discrete action spaces, got Box\("),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), r"only Discrete action spaces, got MultiDiscrete\("),
    "multi-binary": (
        spaces.MultiBinary(3),
        r"only Discrete action spaces, got MultiBinary\(3\) \(for SlimeVolley's three buttons, .*DiscreteActions\)",
    ),
    "counted from one": (
        spaces.Discrete(3, start=1),
        r"only Discrete action spaces that start at 0, got Discrete\(3, start=1\)",
    ),
}


@pytest.mark.parametrize(("space", "message"), ACTION_SPACES.values(), ids=ACTION_SPACES.keys())
@pytest.mark.parametrize("is_vectorized", [False, True], ids=["env", "vec env"])
def test_other_than_plain_discrete_actions_are_refused(space: spaces.Space, message: str, is_vectorized: bool) -> None:
    class Other(ToyEnv):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = space

    with pytest.raises(ValueError, match=f"DRQN supports {message}"):
        make(env=make_vec_env(Other, n_envs=2) if is_vectorized else Other())
