"""``predict`` in batches, one env at a time, stepped and unrolled; and what is made of a policy's arguments."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from toy_env import POLICIES, SPACES, VECTOR

from drqn_sb3.policies import CnnLstmPolicy, DRQNPolicy, MlpLstmPolicy, MultiInputLstmPolicy
from drqn_sb3.recurrent import GRU, LSTM, RecurrentCell

N_ACTIONS, N_ENVS, TIME = 4, 3, 6
CLASSES: dict[str, type[DRQNPolicy]] = {"CnnLstmPolicy": CnnLstmPolicy, "MultiInputLstmPolicy": MultiInputLstmPolicy}
Observations = Any  # numpy arrays, or dicts of them


def channels_first(space: spaces.Space) -> spaces.Space:
    """The space as SB3's image transposition leaves it, which is what policies are made with."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channels_first(part) for key, part in space.items()})
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and space.shape[-1] < 4:
        return spaces.Box(0, 255, (space.shape[2], *space.shape[:2]), np.uint8)
    return space


def make_policy(name: str = "vector", **kwargs: Any) -> DRQNPolicy:
    policy_class = CLASSES.get(POLICIES.get(name, ""), MlpLstmPolicy)
    kwargs = {"hidden_size": 8, **kwargs}
    return policy_class(channels_first(SPACES[name]), spaces.Discrete(N_ACTIONS), lambda _: 1e-3, **kwargs)


def sharpen(policy: DRQNPolicy) -> DRQNPolicy:
    """Make large weights, so that actions depend on what came before."""
    with th.no_grad():
        for name, parameter in policy.q_net.named_parameters():
            if name.startswith(("cell", "head")):
                parameter.mul_(4)
    return policy


def sample(space: spaces.Space, seed: int) -> Observations:
    """Observations ``(TIME, N_ENVS, ...)``."""
    space.seed(seed)
    return stack([stack([space.sample() for _ in range(N_ENVS)]) for _ in range(TIME)])


def stack(observations: list[Observations]) -> Observations:
    if isinstance(observations[0], dict):
        return {key: np.stack([part[key] for part in observations]) for key in observations[0]}
    return np.stack(observations)


def pick(observations: Observations, index: Any) -> Observations:
    if isinstance(observations, dict):
        return {key: value[index] for key, value in observations.items()}
    return observations[index]


def assert_states_close(first: Any, second: Any) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# --- predict ---

EACH_SPACE = pytest.mark.parametrize("name", SPACES)
CELLS = {"lstm": ("lstm", 1), "gru": ("gru", 1), "lstm, 2 layers": ("lstm", 2), "gru, 2 layers": ("gru", 2)}
EACH_CELL = pytest.mark.parametrize(("cell", "n_layers"), CELLS.values(), ids=CELLS.keys())


def random_starts() -> np.ndarray:
    starts = np.random.default_rng(5).random((TIME, N_ENVS)) < 0.3
    starts[0] = True
    return starts


@EACH_SPACE
def test_predicting_a_batch_equals_predicting_one_env_at_a_time(name: str) -> None:
    policy = sharpen(make_policy(name))
    observations, starts = sample(SPACES[name], 1), random_starts()
    state, single_states = None, [None] * N_ENVS  # type: Any, list[Any]
    for time in range(TIME):
        actions, state = policy.predict(pick(observations, time), state, starts[time])
        for env in range(N_ENVS):
            one = pick(observations, (time, slice(env, env + 1)))
            action, single_states[env] = policy.predict(one, single_states[env], starts[time, env : env + 1])
            assert action.tolist() == [actions[env]]
            assert_states_close(single_states[env], [array[:, env : env + 1] for array in state])


@EACH_SPACE
def test_a_single_observation_gives_a_single_action(name: str) -> None:
    policy = sharpen(make_policy(name))
    observations = sample(SPACES[name], 2)
    state, batch_state = None, None  # type: Any, Any
    for time in range(TIME):
        action, state = policy.predict(pick(observations, (time, 0)), state)
        actions, batch_state = policy.predict(pick(observations, time), batch_state)
        assert np.shape(action) == () and action == actions[0]
        assert_states_close(state, [array[:, :1] for array in batch_state])


@EACH_CELL
def test_unrolled_equals_stepped(cell: str, n_layers: int) -> None:
    policy = sharpen(make_policy(recurrent_cell=cell, n_recurrent_layers=n_layers))
    observations, starts = sample(VECTOR, 3), random_starts()
    with th.no_grad():
        zeros = policy.q_net.zero_states(N_ENVS)
        q_values, last = policy.q_net.unroll(th.as_tensor(observations), zeros, th.as_tensor(starts))
    state: Any = None
    for time in range(TIME):
        actions, state = policy.predict(observations[time], state, starts[time])
        assert actions.tolist() == q_values[time].argmax(dim=1).tolist()
    assert_states_close(state, last)


@EACH_CELL
def test_no_state_is_the_zero_state(cell: str, n_layers: int) -> None:
    policy = make_policy(recurrent_cell=cell, n_recurrent_layers=n_layers)
    observation = sample(VECTOR, 4)[0]
    n_states = {"lstm": 2, "gru": 1}[cell]
    zeros = tuple(np.zeros((n_layers, N_ENVS, 8), np.float32) for _ in range(n_states))
    actions, state = policy.predict(observation)
    zero_actions, zero_state = policy.predict(observation, zeros)
    assert actions.tolist() == zero_actions.tolist()
    assert state is not None and zero_state is not None
    assert all(isinstance(array, np.ndarray) and array.shape == (n_layers, N_ENVS, 8) for array in state)
    assert len(state) == n_states
    assert_states_close(state, zero_state)


@EACH_CELL
def test_an_episode_start_resets_its_env_only(cell: str, n_layers: int) -> None:
    policy = make_policy(recurrent_cell=cell, n_recurrent_layers=n_layers)
    observations = sample(VECTOR, 5)
    _, state = policy.predict(observations[0])
    _, on = policy.predict(observations[1], state)
    _, reset = policy.predict(observations[1], state, np.array([False, True, False]))
    _, fresh = policy.predict(observations[1])
    assert on is not None and reset is not None and fresh is not None
    for carried, after, new in zip(on, reset, fresh, strict=True):
        np.testing.assert_allclose(after[:, [0, 2]], carried[:, [0, 2]], atol=1e-6)
        np.testing.assert_allclose(after[:, 1], new[:, 1], atol=1e-6)
        assert not np.isclose(after[:, 1], carried[:, 1]).all()


def test_a_scalar_episode_start_does_for_a_single_env() -> None:
    policy = make_policy()
    observations = sample(VECTOR, 6)
    _, state = policy.predict(observations[0, 0])
    _, reset = policy.predict(observations[1, 0], state, episode_start=np.array(True))
    _, fresh = policy.predict(observations[1, 0])
    assert_states_close(reset, fresh)


@pytest.mark.parametrize("name", ["image, channels last", "dict"])
def test_images_may_come_channels_last(name: str) -> None:
    policy = sharpen(make_policy(name))
    observation = pick(sample(SPACES[name], 7), 0)
    image = observation["image"] if isinstance(observation, dict) else observation
    moved = np.moveaxis(image, -1, 1)
    transposed = {**observation, "image": moved} if isinstance(observation, dict) else moved
    _, state = policy.predict(observation)
    _, transposed_state = policy.predict(transposed)
    assert_states_close(state, transposed_state)


def zeros(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


WRONG_STATES = {
    "one array": (np.zeros((1, 3, 8)), r"\(1, 3, 8\), got 1 of shapes \[\(1, 3, 8\)\]"),
    "one tensor of two": (zeros((1, 3, 8)), "got 1 of"),
    "three": (zeros(*[(1, 3, 8)] * 3), "got 3"),
    "layers": (zeros(*[(2, 3, 8)] * 2), r"\(n_layers, n_envs, hidden_size\) = \(1, 3, 8\), got 2 of shapes \[\(2, 3, 8\)"),
    "envs": (zeros(*[(1, 2, 8)] * 2), r"= \(1, 3, 8\), got .*\(1, 2, 8\)"),
    "hidden size": (zeros(*[(1, 3, 7)] * 2), r"= \(1, 3, 8\), got .*\(1, 3, 7\)"),
    "no batch": (zeros(*[(1, 8)] * 2), r"= \(1, 3, 8\), got .*\(1, 8\)"),
    "the second only": (zeros((1, 3, 8), (1, 3, 9)), r"\(1, 3, 9\)"),
    "a number": (5, r"got 1 of shapes \[\(\)\]"),
}


@pytest.mark.parametrize(("state", "message"), WRONG_STATES.values(), ids=WRONG_STATES.keys())
def test_a_wrong_state_is_refused(state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^state must be a tuple of 2 arrays of shape") as caught:
        make_policy().predict(sample(VECTOR, 8)[0], state)
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize("starts", [np.ones(2), np.ones((3, 1)), np.array(True)], ids=lambda starts: str(starts.shape))
def test_a_wrong_episode_start_is_refused(starts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"episode_start must have shape \(3,\), one per environment, got \("):
        make_policy().predict(sample(VECTOR, 8)[0], episode_start=starts)


def test_an_observation_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unexpected observation shape \(4,\)"):
        make_policy().predict(np.zeros(4, np.float32))


def test_what_gymnasiums_reset_returns_is_refused() -> None:
    with pytest.raises(TypeError, match=r"observation must be an array or a dict, got a tuple: reset\(\)"):
        make_policy().predict((np.zeros(3, np.float32), {}))  # type: ignore[arg-type]


def test_calling_the_policy_gives_the_greedy_actions_on_first_observations() -> None:
    policy = sharpen(make_policy())
    observation = sample(VECTOR, 9)[0]
    assert policy(th.as_tensor(observation)).tolist() == policy.predict(observation)[0].tolist()


# --- what is made of the arguments ---


def layer_sizes(module: nn.Module) -> list[tuple[int, int]]:
    return [(part.in_features, part.out_features) for part in module.modules() if isinstance(part, nn.Linear)]


ARCHITECTURES: dict[str, tuple[Any, list[tuple[int, int]], int, list[tuple[int, int]]]] = {
    "default": (None, [(3, 64)], 64, [(8, 4)]),
    "list": ([16, 12], [], 3, [(8, 16), (16, 12), (12, 4)]),
    "empty list": ([], [], 3, [(8, 4)]),
    "encoder": ({"encoder": [10, 9]}, [(3, 10), (10, 9)], 9, [(8, 4)]),
    "head": ({"head": [10]}, [], 3, [(8, 10), (10, 4)]),
    "both": ({"encoder": [10], "head": [11]}, [(3, 10)], 10, [(8, 11), (11, 4)]),
}


@pytest.mark.parametrize(("net_arch", "encoder", "cell_input", "head"), ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_net_arch_gives_the_layers_before_and_after_the_cell(
    net_arch: Any, encoder: list[tuple[int, int]], cell_input: int, head: list[tuple[int, int]]
) -> None:
    q_net = make_policy(net_arch=net_arch).q_net
    assert layer_sizes(q_net.encoder) == encoder
    assert q_net.cell.weights(0).input_size == cell_input
    assert layer_sizes(q_net.head) == head


def test_the_cnn_default_is_the_papers_network() -> None:
    frames = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    policy = CnnLstmPolicy(frames, spaces.Discrete(18), lambda _: 1e-3)
    convolutions = [part for part in policy.q_net.modules() if isinstance(part, nn.Conv2d)]
    shapes = [(part.out_channels, part.kernel_size[0], part.stride[0]) for part in convolutions]
    assert shapes == [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    assert layer_sizes(policy.q_net) == [(512, 18)]
    cell = policy.q_net.cell
    assert isinstance(cell, LSTM)
    assert (cell.weights(0).input_size, cell.hidden_size, cell.n_layers) == (3136, 512, 1)


def test_the_cell_is_the_one_asked_for() -> None:
    assert type(make_policy(recurrent_cell="lstm").q_net.cell) is LSTM
    assert type(make_policy(recurrent_cell="gru").q_net.cell) is GRU
    assert type(make_policy(recurrent_cell=GRU).q_net.cell) is GRU
    assert make_policy(n_recurrent_layers=3).q_net.cell.n_layers == 3


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_cell_begins_with_the_memory_asked_for(cell: str) -> None:
    th.manual_seed(0)
    policy = make_policy(recurrent_cell=cell, memory_span=1_000)
    keeps = policy.q_net.cell.weights(0).bias_ih.chunk(4 if cell == "lstm" else 3)[1]
    assert keeps.max() > 5
    assert th.equal(keeps, policy.q_net_target.cell.weights(0).bias_ih.chunk(4 if cell == "lstm" else 3)[1])


def test_the_target_network_starts_as_a_copy_and_is_another_network() -> None:
    policy = make_policy("dict")
    pairs = list(zip(policy.q_net.parameters(), policy.q_net_target.parameters(), strict=True))
    assert all(th.equal(online, target) and online is not target for online, target in pairs)
    optimized = {id(parameter) for group in policy.optimizer.param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in policy.q_net.parameters()}


ROUND_TRIPS: dict[str, Callable[[], DRQNPolicy]] = {
    "plain": make_policy,
    "normalised layers": lambda: make_policy(layer_norm=True, net_arch={"encoder": [6], "head": [5]}),
    "dueling gru": lambda: make_policy(dueling=True, recurrent_cell="gru", n_recurrent_layers=2, net_arch=[5]),
    "memory": lambda: make_policy(memory_span=20.5, n_recurrent_layers=2),
    "encoder": lambda: make_policy(net_arch={"encoder": [7], "head": [6]}, activation_fn=nn.Tanh),
    "image": lambda: make_policy("image, channels first", normalize_images=False),
    "average": lambda: make_policy(ema_decay=0.9),
    "dict": lambda: make_policy("dict", features_extractor_kwargs={"filters": (4, 8, 8)}),
    "optimizer": lambda: make_policy(optimizer_class=th.optim.RMSprop, optimizer_kwargs={"alpha": 0.9}),
}


@pytest.mark.parametrize("make", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_a_policy_survives_being_saved_and_loaded(make: Callable[[], DRQNPolicy], tmp_path: Path) -> None:
    policy = make()
    path = str(tmp_path / "policy.pth")
    policy.save(path)
    loaded = type(policy).load(path)
    assert type(loaded.optimizer) is type(policy.optimizer)
    assert loaded.normalize_images == policy.normalize_images
    assert str(loaded) == str(policy)
    for name, tensor in policy.state_dict().items():
        assert th.equal(loaded.state_dict()[name], tensor)
    observation = stack([policy.observation_space.sample() for _ in range(2)])
    assert_states_close(policy.predict(observation)[1], loaded.predict(observation)[1])


class Spanless(RecurrentCell):
    """A cell of one's own that does not say how to begin with a span of memory."""

    n_states = 1
    cell_class = nn.RNNCell


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown cell": ({"recurrent_cell": "rnn"}, ValueError, r"recurrent_cell must be one of \['gru', 'lstm'\] .* got 'rnn'"),
    "cell instance": ({"recurrent_cell": LSTM(3, 3)}, ValueError, r"recurrent_cell must be .* got LSTM\("),
    "PyTorch's class": ({"recurrent_cell": nn.LSTM}, ValueError, "or a RecurrentCell class, got <class"),
    "list of cells": ({"recurrent_cell": ["lstm"]}, ValueError, r"recurrent_cell must be .* got \['lstm'\]"),
    "no hidden unit": ({"hidden_size": 0}, ValueError, "hidden_size must be an integer of at least 1, got 0"),
    "half a unit": ({"hidden_size": 0.5}, ValueError, "hidden_size must be an integer of at least 1, got 0.5"),
    "true units": ({"hidden_size": True}, ValueError, "hidden_size must be an integer of at least 1, got True"),
    "no layer": ({"n_recurrent_layers": 0}, ValueError, "n_recurrent_layers must be an integer of at least 1, got 0"),
    "text layers": ({"n_recurrent_layers": "2"}, ValueError, "n_recurrent_layers must be .* got '2'"),
    "perhaps normalised": ({"layer_norm": 1}, TypeError, "layer_norm must be True or False, got 1"),
    "perhaps dueling": ({"dueling": "no"}, TypeError, "dueling must be True or False, got 'no'"),
    "short memory": ({"memory_span": 1}, ValueError, "memory_span must be None or a number of steps of at least 2, got 1"),
    "endless memory": ({"memory_span": float("inf")}, ValueError, "memory_span must be None or .* got inf"),
    "no memory": ({"memory_span": float("nan")}, ValueError, "memory_span must be None or .* got nan"),
    "true memory": ({"memory_span": True}, ValueError, "memory_span must be None or .* got True"),
    "text memory": ({"memory_span": "10"}, ValueError, "memory_span must be None or .* got '10'"),
    "no span": (
        {"memory_span": 5, "recurrent_cell": Spanless},
        ValueError,
        r"memory_span must be None for Spanless, which does not define set_memory_span\(\)",
    ),
    "net_arch number": ({"net_arch": 64}, ValueError, "net_arch must be a list of layer sizes of at least 1, got 64"),
    "net_arch text": ({"net_arch": "64"}, ValueError, "net_arch must be a list .* got '64'"),
    "net_arch zero": ({"net_arch": [64, 0]}, ValueError, r"net_arch must be .* at least 1, got \[64, 0\]"),
    "net_arch true": ({"net_arch": [True]}, ValueError, r"net_arch must be .* got \[True\]"),
    "net_arch key": ({"net_arch": {"pi": [64]}}, ValueError, r'keys "encoder" and "head", got \[\'pi\'\]'),
    "net_arch none": ({"net_arch": {"head": None}}, ValueError, "net_arch must be .* got None"),
    "unknown": ({"lstm_size": 3}, TypeError, "lstm_size"),
}


@pytest.mark.parametrize(("kwargs", "error", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS.keys())
def test_a_wrong_argument_is_refused(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_policy(**kwargs)


WRONG_SPACES: dict[str, tuple[type[DRQNPolicy], spaces.Space, str]] = {
    "mlp, dict": (MlpLstmPolicy, SPACES["dict"], "dict observations need MultiInputLstmPolicy, MlpLstmPolicy got Dict"),
    "cnn, dict": (CnnLstmPolicy, SPACES["dict"], "CnnLstmPolicy needs image observations.*got Dict of shape None"),
    "cnn, vector": (CnnLstmPolicy, VECTOR, r"CnnLstmPolicy needs image .* of 36x36 or more, got Box of shape \(3,\)"),
    "cnn, small image": (CnnLstmPolicy, spaces.Box(0, 255, (1, 84, 35), np.uint8), r"36x36 or more, .* \(1, 84, 35\)"),
    "multi, vector": (MultiInputLstmPolicy, VECTOR, "MultiInputLstmPolicy needs dict observations, got Box"),
}


@pytest.mark.parametrize(("policy_class", "space", "message"), WRONG_SPACES.values(), ids=WRONG_SPACES.keys())
def test_a_policy_for_other_observations_is_refused(policy_class: type[DRQNPolicy], space: spaces.Space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_class(space, spaces.Discrete(2), lambda _: 1e-3)


def test_images_of_floats_in_a_dict_go_through_the_same_convolutions_as_bytes() -> None:
    policy = make_policy("dict")
    space = policy.observation_space
    assert isinstance(space, spaces.Dict)
    floats = spaces.Dict({**space.spaces, "image": spaces.Box(0.0, 1.0, space["image"].shape, np.float32)})
    of_floats = MultiInputLstmPolicy(floats, spaces.Discrete(N_ACTIONS), lambda _: 1e-3, hidden_size=8, normalize_images=False)
    of_floats.load_state_dict(policy.state_dict())
    space.seed(0)
    seen = space.sample()
    states, float_states = policy.predict(seen)[1], of_floats.predict({**seen, "image": seen["image"] / np.float32(255)})[1]
    assert states is not None and float_states is not None
    np.testing.assert_allclose(states, float_states, atol=1e-6)


def test_an_extractor_of_ones_own_may_take_dicts_to_the_mlp_policy() -> None:
    class VectorOnly(FlattenExtractor):
        def __init__(self, observation_space: spaces.Dict) -> None:
            super().__init__(observation_space["vector"])

        def forward(self, observations: Any) -> th.Tensor:
            return super().forward(observations["vector"])

    policy = make_policy("dict", features_extractor_class=VectorOnly)
    assert policy.q_net.features_extractor.features_dim == 3


FUSED: dict[str, tuple[dict[str, Any], bool | None]] = {
    "by default": ({}, True),
    "AdamW": ({"optimizer_class": th.optim.AdamW}, True),
    "told not to": ({"optimizer_kwargs": {"fused": False}}, False),
    "told to be another": ({"optimizer_kwargs": {"foreach": True}}, None),
    "RMSprop": ({"optimizer_class": th.optim.RMSprop}, None),
}


@pytest.mark.parametrize(("kwargs", "fused"), FUSED.values(), ids=FUSED.keys())
def test_adam_is_the_fused_one_unless_told_otherwise(kwargs: dict[str, Any], fused: bool | None) -> None:
    assert make_policy(**kwargs).optimizer.param_groups[0].get("fused") == fused
