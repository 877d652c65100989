"""
One update against a slow twin that shares neither buffer, unrolling nor targets with the package.

The twin is told the true history of every environment, walks each window one observation at a time with PyTorch's own
cells, and takes targets from their definition. With a feed-forward cell, an update is the stock DQN's.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import nn
from torch.nn import functional as F
from toy_env import ToyEnv

from drqn_sb3 import DRQN, SequenceReplayBuffer
from drqn_sb3.networks import RecurrentQNetwork
from drqn_sb3.recurrent import RecurrentCell
from drqn_sb3.slots import SlotStorage
from drqn_sb3.type_aliases import RecurrentStates
from drqn_sb3.windows import RandomWindows, SequentialWindows, Windows

GAMMA, SEQUENCE, N_ENVS, CAPACITY, HIDDEN = 0.9, 5, 2, 26, 8
States = list[list[th.Tensor]]
"""``n_layers`` lists of ``n_states`` tensors ``(hidden_size,)``: of one environment."""


# --- what truly happened ---


@dataclass
class Slot:
    """One observation, and what was done there."""

    observation: np.ndarray
    episode_start: bool
    final: bool = False
    action: int = -1
    reward: float = float("nan")
    terminated: bool = False
    truncated: bool = False
    states: States | None = None


@dataclass
class History:
    """Everything that happened in one environment."""

    slots: list[Slot] = field(default_factory=list)

    @property
    def oldest(self) -> int:
        """Where what the buffer may still know begins."""
        return max(len(self.slots) - CAPACITY, 0)

    def act(self, rng: np.random.Generator, states: States, hidden_share: float) -> None:
        """Live through one step."""
        if not self.slots or self.slots[-1].final:
            self.slots.append(Slot(random_observation(rng, hidden_share), episode_start=True))
        slot = self.slots[-1]
        slot.action, slot.reward, slot.states = int(rng.integers(3)), float(np.float32(rng.normal())), states
        end = rng.choice(["none", "terminated", "truncated"], p=[0.84, 0.08, 0.08])
        slot.terminated, slot.truncated = end == "terminated", end == "truncated"
        self.slots.append(Slot(random_observation(rng, hidden_share), episode_start=False, final=end != "none"))

    def cut_off(self) -> None:
        """End the running episode, as the environments are reset."""
        if self.slots and not self.slots[-1].final:
            self.slots[-1].final = self.slots[-2].truncated = True


def random_observation(rng: np.random.Generator, hidden_share: float) -> np.ndarray:
    observation = rng.uniform(-1, 1, 3).astype(np.float32)
    return np.zeros_like(observation) if hidden_share > 0 and rng.random() < hidden_share else observation


def live(model: DRQN, histories: list[History], n_steps: int, seed: int = 3) -> None:
    """Live on in every environment; the histories are written, the model's replay buffer is told as SB3 tells it."""
    rng, cell, buffer = np.random.default_rng(seed), model.q_net.cell, replay_buffer(model)
    hidden_share = 0.0 if model.q_net.predictor is None else 0.3
    for _ in range(n_steps):
        states = tuple(th.randn(cell.n_layers, model.n_envs, HIDDEN) for _ in range(cell.n_states))
        for env, history in enumerate(histories):
            # The buffer keeps half precision
            of_env = [[state[layer, env].half().float() for state in states] for layer in range(cell.n_layers)]
            history.act(rng, of_env, hidden_share)
        acted, came = [history.slots[-2] for history in histories], [history.slots[-1] for history in histories]
        buffer.add(
            np.stack([slot.observation for slot in acted]),
            np.stack([slot.observation for slot in came]),
            np.array([slot.action for slot in acted]),
            np.array([slot.reward for slot in acted]),
            np.array([slot.final for slot in came]),
            [{"TimeLimit.truncated": slot.truncated} for slot in acted],
        )
        if model.initial_state == "stored":
            buffer.add_lstm_states(states)


def live_twice(model: DRQN) -> list[History]:
    """Two calls of ``learn``, the environments being reset between them, and a ring that has come round."""
    histories = [History() for _ in range(model.n_envs)]
    live(model, histories, 20, seed=3)
    replay_buffer(model).end_open_episodes()
    for history in histories:
        history.cut_off()
    live(model, histories, 16, seed=4)
    return histories


# --- the slow twin ---


class Walker:
    """A network that sees one observation at a time."""

    def __init__(self, net: RecurrentQNetwork, states: States) -> None:
        self.net, self.states = net, states

    def see(self, slot: Slot) -> th.Tensor:
        """Q-values ``(n_actions,)`` of an observation, after all those before."""
        if slot.episode_start:
            self.states = zeros(self.net)
        x = self.net.encoder(th.as_tensor(slot.observation))
        for layer, cell in enumerate(self.net.cell.layers):
            states = self.states[layer]
            self.states[layer] = list(cell(x, tuple(states))) if isinstance(cell, nn.LSTMCell) else [cell(x, *states)]
            x = self.states[layer][0]
        self.output = x
        return self.net.head(x)

    def predict(self, action: int) -> th.Tensor:
        """The observation that follows upon an action."""
        assert self.net.predictor is not None
        return self.net.predictor.layers(th.cat((self.output, th.eye(3)[action])))

    def copy_states(self) -> States:
        return [[state.detach().clone() for state in layer] for layer in self.states]


def zeros(net: RecurrentQNetwork) -> States:
    return [[th.zeros(HIDDEN) for _ in range(net.cell.n_states)] for _ in range(net.cell.n_layers)]


def target_by_definition(slots: list[Slot], values: list[float], n_steps: int) -> float | None:
    """Target of the first slot; ``None`` where too little is known of what followed."""
    target = 0.0
    for step, slot in enumerate(slots[:n_steps]):
        if step == len(slots) - 1:
            return None
        target += GAMMA**step * slot.reward
        if slot.terminated:
            return target
        if slot.truncated:
            return target + GAMMA ** (step + 1) * values[step + 1]
    return target + GAMMA**n_steps * values[n_steps] if n_steps < len(slots) else None


@dataclass
class Walk:
    """What came of a window: an entry for each slot that is trained on, and both networks' states behind those slots."""

    losses: list[th.Tensor] = field(default_factory=list)
    chosen: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    terminal: list[bool] = field(default_factory=list)
    misses: list[th.Tensor] = field(default_factory=list)
    states: tuple[States, States] | None = None


Nets = tuple[RecurrentQNetwork, RecurrentQNetwork]


def walk(model: DRQN, nets: Nets, history: History, first: int, carried: tuple[States, States] | None = None) -> Walk:
    """
    Walk the window whose first training slot is ``first``.

    :param model: whose settings to use
    :param nets: online and target network
    :param history: of the window's environment
    :param first: counted from the history's beginning
    :param carried: the states to start from, where those are neither zero nor stored
    """
    begin, stop = max(first - model.burn_in, history.oldest), first + SEQUENCE
    slots = history.slots[begin : stop + model.n_steps]
    stored = slots[0].states if model.initial_state == "stored" else None
    initial = carried or tuple(deepcopy(stored or zeros(net)) for net in nets)
    online, target = (Walker(net, states) for net, states in zip(nets, initial, strict=True))
    result, q_values, values, predictions = Walk(), [], [], {}
    for index, slot in enumerate(slots, start=begin):
        if index == stop:
            result.states = online.copy_states(), target.copy_states()
        with th.set_grad_enabled(first <= index < stop):
            q_values.append(online.see(slot))
            if online.net.predictor is not None:
                predictions[index] = online.predict(slot.action)
        with th.no_grad():
            target_q_values = target.see(slot)
        judge = q_values[-1] if model.double_q else target_q_values
        values.append(target_q_values[int(judge.argmax())].item())
    for index in range(max(begin, first), min(stop, len(history.slots))):
        slot, offset = history.slots[index], index - begin
        if slot.final and model.replay == "sequential":
            break
        expected = None if slot.final else target_by_definition(history.slots[index:], values[offset:], model.n_steps)
        if expected is not None:
            train_on(result, slot, q_values[offset][slot.action], expected)
            following = th.as_tensor(history.slots[index + 1].observation)
            if index in predictions and not slot.terminated and following.any():
                result.misses.append((predictions[index] - following).abs().mean())
    return result


def train_on(result: Walk, slot: Slot, chosen: th.Tensor, expected: float) -> None:
    result.losses.append(F.smooth_l1_loss(chosen, th.tensor(expected)))
    result.chosen.append(chosen.item())
    result.errors.append(abs(chosen.item() - expected))
    result.terminal.append(slot.terminated)


def assert_close(actual: th.Tensor, expected: th.Tensor, name: str = "") -> None:
    th.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5, msg=lambda text: f"{name}: {text}")


def assert_update_equals(model: DRQN, nets: Nets, walks: list[Walk], statistics: dict[str, float], gradients: Any) -> None:
    """Compare the loss, every parameter's gradient and what is logged with the walks'."""
    loss = th.stack([loss for result in walks for loss in result.losses]).mean()
    assert statistics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert statistics["q_mean"] == pytest.approx(np.mean([q for result in walks for q in result.chosen]), abs=1e-5)
    assert statistics["td_error"] == pytest.approx(np.mean([error for result in walks for error in result.errors]), abs=1e-5)
    assert statistics["terminal_share"] == pytest.approx(np.mean([end for result in walks for end in result.terminal]))
    misses = [miss for result in walks for miss in result.misses]
    if misses:
        error = th.stack(misses).mean()
        assert statistics["prediction_error"] == pytest.approx(error.item(), abs=1e-5)
        loss = loss + model.prediction_coef * error
    expected = th.autograd.grad(loss, list(nets[0].parameters()))
    for (name, _), gradient, own in zip(model.q_net.named_parameters(), expected, gradients, strict=True):
        assert gradient.abs().max() > 1e-4, f"{name} takes no part"
        assert_close(own, gradient, name)


# --- the model ---


def make_model(
    cell: str = "lstm", n_layers: int = 1, dueling: bool = False, predictor: list[int] | None = None, **kwargs: Any
) -> DRQN:
    """A model with two different networks, large weights that make the past matter, and no clipping."""
    kwargs = {"max_grad_norm": float("inf"), "learning_starts": 50, **kwargs}
    policy_kwargs: dict[str, Any] = {"recurrent_cell": cell, "hidden_size": HIDDEN, "n_recurrent_layers": n_layers}
    model = DRQN(
        "MlpLstmPolicy",
        make_vec_env(ToyEnv, n_envs=N_ENVS),
        buffer_size=CAPACITY * N_ENVS,
        gamma=GAMMA,
        sequence_length=SEQUENCE,
        policy_kwargs={**policy_kwargs, "dueling": dueling, "predictor": predictor, "net_arch": {"encoder": [7]}},
        seed=1,
        **kwargs,
    )
    model.set_logger(configure(None, []))
    model._setup_learn(1000)
    with th.no_grad():
        for name, parameter in model.policy.named_parameters():
            # Small biases, so that the greedy action hangs on what was seen
            parameter.copy_((0.2 if "bias" in name else 1.2) * th.randn_like(parameter))
    return model


def replay_buffer(model: DRQN) -> SequenceReplayBuffer:
    assert model.replay_buffer is not None
    return model.replay_buffer


def every_window(histories: list[History]) -> Windows:
    """All windows with at least one training slot in the buffer."""
    starts = [
        (env, first)
        for env, history in enumerate(histories)
        for first in range(history.oldest - SEQUENCE + 1, len(history.slots) - 1)
    ]
    return Windows(*np.array(starts).T)


# --- the claims ---

COMBINATIONS = {
    f"burn_in {burn_in}, n_steps {n_steps}, {initial_state}, {cell}, {'double' if double_q else 'single'}": (
        {"burn_in": burn_in, "n_steps": n_steps, "initial_state": initial_state, "double_q": double_q, "cell": cell}
    )
    for burn_in, n_steps, initial_state, cell, double_q in product(
        (0, 3), (1, 3), ("zero", "stored"), ("lstm", "gru"), (True, False)
    )
}
COMBINATIONS["2 layers"] = {"burn_in": 3, "n_steps": 3, "initial_state": "stored", "n_layers": 2}
COMBINATIONS["dueling"] = {"burn_in": 3, "n_steps": 2, "dueling": True, "cell": "gru"}
COMBINATIONS["predictor"] = {"burn_in": 3, "n_steps": 1, "predictor": [6], "prediction_coef": 0.7}
COMBINATIONS["predictor, GRU"] = {"cell": "gru", "n_steps": 2, "predictor": [6], "prediction_coef": 0.5}
COMBINATIONS["predictor, stored"] = {"initial_state": "stored", "n_steps": 3, "predictor": [], "prediction_coef": 2}


@pytest.mark.parametrize("kwargs", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_loss_and_gradients_equal_those_of_a_plain_walk(kwargs: dict[str, Any]) -> None:
    model = make_model(**kwargs)
    histories = live_twice(model)
    windows = every_window(histories)
    loss, statistics = model._learner.compute_loss(replay_buffer(model).gather(windows))
    gradients = th.autograd.grad(loss, list(model.q_net.parameters()))
    nets = model.q_net, model.q_net_target
    walks = [walk(model, nets, histories[env], int(first)) for env, first in zip(windows.envs, windows.first, strict=True)]
    assert_update_equals(model, nets, walks, {key: value.item() for key, value in statistics.items()}, gradients)


def test_the_predictions_compared_hold_every_case() -> None:
    model = make_model(predictor=[6])
    samples = replay_buffer(model).gather(every_window(live_twice(model)))
    assert isinstance(samples.observations, th.Tensor)
    follows_hidden = (samples.observations[1 : SEQUENCE + 1] == 0).all(dim=2)
    ends, cut = samples.terminated[:SEQUENCE], samples.truncated[:SEQUENCE]
    for case in (follows_hidden & ~ends, ~follows_hidden & ends, ~follows_hidden & cut, ~follows_hidden & ~ends & ~cut):
        assert (case & samples.mask).any()
    assert (~follows_hidden & ~ends & ~samples.mask).any()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_windows_compared_hold_every_case(cell: str) -> None:
    model = make_model(cell, burn_in=3, n_steps=3)
    histories = live_twice(model)
    samples = replay_buffer(model).gather(every_window(histories))
    nets, zero_states = (model.q_net, model.q_net_target), model.q_net.zero_states(samples.mask.shape[1])
    online, target = (net.unroll(samples.observations, zero_states, samples.episode_starts)[0] for net in nets)
    assert (online.argmax(dim=2) != target.argmax(dim=2)).float().mean() > 0.2, "the networks agree"
    assert (online - target).abs().max() > 1 > (online - target).abs().min(), "one side of the Huber loss only"
    training = slice(3, 3 + SEQUENCE)
    assert samples.terminated[training].any() and samples.truncated[training].any()
    assert samples.terminated[3 + SEQUENCE :].any() and samples.truncated[3 + SEQUENCE :].any()
    assert samples.episode_starts[:3].any() and samples.episode_starts[4 : 3 + SEQUENCE].any()
    assert samples.window_starts[1 : 3 + SEQUENCE].any(dim=1).all(), "no window overhangs the oldest slot this far"
    assert (~samples.mask).any() and samples.mask.any(dim=1).all()
    oldest = [history.slots[history.oldest] for history in histories if history.oldest > 0]
    assert any(not slot.episode_start and not slot.final for slot in oldest), "no ring begins within an episode"
    assert any(not history.slots[-1].final for history in histories), "no ring ends within an episode"


class PlannedWindows(RandomWindows):
    """Draws what it was told to."""

    plan: Windows

    def draw(self, storage: SlotStorage, batch_size: int) -> Windows:
        assert len(self.plan.envs) == batch_size
        return self.plan


@pytest.mark.parametrize("max_grad_norm", [0.1, 1000.0], ids=["clipped", "not clipped"])
def test_a_training_step_goes_down_the_clipped_gradient(max_grad_norm: float) -> None:
    model = make_model(max_grad_norm=max_grad_norm, learning_rate=0.5)
    model.policy.optimizer = th.optim.SGD(model.q_net.parameters(), lr=1.0)
    histories = live_twice(model)
    buffer, windows = replay_buffer(model), every_window(histories)
    buffer.sampler = PlannedWindows(SEQUENCE, np.random.default_rng())
    buffer.sampler.plan = windows
    before, target_before = deepcopy(model.q_net), deepcopy(model.q_net_target)
    walks = [
        walk(model, (before, target_before), histories[env], int(first))
        for env, first in zip(windows.envs, windows.first, strict=True)
    ]
    loss = th.stack([loss for result in walks for loss in result.losses]).mean()
    gradients = th.autograd.grad(loss, list(before.parameters()))
    norm = th.stack([gradient.norm() for gradient in gradients]).norm()
    assert norm > 0.2
    model.train(1, batch_size=len(windows.envs))
    for old, new, gradient in zip(before.parameters(), model.q_net.parameters(), gradients, strict=True):
        assert_close(new, old - 0.5 * gradient * min(max_grad_norm / norm.item(), 1.0))
    for old, new in zip(target_before.parameters(), model.q_net_target.parameters(), strict=True):
        assert th.equal(old, new)
    assert model._learner._sums["grad_norm"].item() == pytest.approx(norm.item(), rel=1e-4)


# --- sequential replay ---


class RecordedWindows(SequentialWindows):
    """Remembers what it drew."""

    last: Windows

    def draw(self, storage: SlotStorage, batch_size: int) -> Windows:
        self.last = super().draw(storage, batch_size)
        return self.last


class Row:
    """What the twin carries from window to window in one row of the batch."""

    def __init__(self) -> None:
        self.env, self.first, self.states = -1, -1, None  # type: int, int, tuple[States, States] | None
        self.n_carried = 0

    def follow(self, model: DRQN, nets: Nets, histories: list[History], env: int, first: int) -> Walk:
        passed = histories[env].slots[self.first : first]
        goes_on = env == self.env and first == self.first + SEQUENCE and not any(slot.final for slot in passed)
        if goes_on:
            assert self.states is not None, "a row goes on though its last window was not known to its end"
            self.n_carried += 1
        else:
            oldest = histories[env].oldest
            assert histories[env].slots[first].episode_start or first == oldest, "a row begins within an episode"
        result = walk(model, nets, histories[env], first, self.states if goes_on else None)
        self.env, self.first, self.states = env, first, result.states
        return result


@pytest.mark.parametrize("n_steps", [1, 3], ids=["1 step", "3 steps"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("double_q", [True, False], ids=["double", "single"])
def test_sequential_replay_carries_the_state_from_update_to_update(cell: str, n_steps: int, double_q: bool) -> None:
    assert_sequential_updates_equal(cell=cell, n_layers=2, n_steps=n_steps, double_q=double_q)


def test_sequential_replay_teaches_a_predictor() -> None:
    assert_sequential_updates_equal(n_steps=3, predictor=[6], prediction_coef=0.5)


def assert_sequential_updates_equal(**kwargs: Any) -> None:
    """Compare some updates, and the states that they hand on, with plain walks."""
    model = make_model(**kwargs, replay="sequential", learning_rate=1e-2)
    histories = live_twice(model)
    sampler = RecordedWindows(SEQUENCE, np.random.default_rng(2))
    replay_buffer(model).sampler = sampler
    rows = [Row() for _ in range(10)]
    for update in range(8):
        nets = deepcopy(model.q_net), deepcopy(model.q_net_target)
        model.train(1, batch_size=len(rows))
        envs, firsts = sampler.last.envs.tolist(), sampler.last.first.tolist()
        walks = [row.follow(model, nets, histories, env, first) for row, env, first in zip(rows, envs, firsts, strict=True)]
        gradients = [parameter.grad for parameter in model.q_net.parameters()]
        assert_update_equals(model, nets, walks, {key: value.item() for key, value in model._learner._sums.items()}, gradients)
        model.dump_logs()
        if update == 3:
            model.q_net_target.load_state_dict(model.q_net.state_dict())
        if update % 2:
            live(model, histories, 3, seed=update)
    assert sum(row.n_carried for row in rows) > 10


# --- the stock DQN as a special case ---


class FeedForward(RecurrentCell):
    """A layer with a ReLU: what it saw before is forgotten."""

    n_states = 1
    cell_class = nn.RNNCell

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        return (th.relu(projected),)


class PlannedReplayBuffer(ReplayBuffer):
    """The stock replay buffer, but it samples what it was told to."""

    plan: np.ndarray

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        assert len(self.plan) == batch_size
        return self._get_samples(self.plan, env)


def stock_parameters(q_net: nn.Module) -> list[nn.Parameter]:
    """Of the stock Q-network: weights and biases of its three layers."""
    return list(q_net.parameters())


def own_parameters(q_net: RecurrentQNetwork) -> list[nn.Parameter]:
    """The same of ours, without the hidden state's weights, which take no part."""
    return [parameter for name, parameter in q_net.named_parameters() if not name.endswith("_hh")]


def make_pair(**kwargs: Any) -> tuple[DRQN, DQN]:
    """A DRQN with a feed-forward cell and a stock DQN, with the same weights."""
    kwargs = {"buffer_size": 500, "learning_starts": 50, "gamma": GAMMA, "target_update_interval": 3, "seed": 0, **kwargs}
    own_kwargs = {"recurrent_cell": FeedForward, "hidden_size": 16, "net_arch": {"encoder": [16]}}
    policy_kwargs = kwargs.pop("policy_kwargs", {})
    own = DRQN(
        "MlpLstmPolicy", ToyEnv(), policy_kwargs={**own_kwargs, **policy_kwargs}, sequence_length=1, double_q=False, **kwargs
    )
    stock = DQN(
        "MlpPolicy",
        ToyEnv(),
        policy_kwargs={"net_arch": [16, 16], **policy_kwargs},
        replay_buffer_class=PlannedReplayBuffer,
        **kwargs,
    )
    for own_net, stock_net in ((own.q_net, stock.q_net), (own.q_net_target, stock.q_net_target)):
        for parameter, stock_parameter in zip(own_parameters(own_net), stock_parameters(stock_net), strict=True):
            with th.no_grad():
                parameter.copy_(stock_parameter)
    return own, stock


def live_in_both(own: DRQN, stock: DQN, n_steps: int) -> tuple[list[int], list[str]]:
    """Tell both buffers the same experience; where each step lies in ours, and how it ended."""
    env, slots, ends, slot = ToyEnv(), [], [], 0
    observation, _ = env.reset(seed=0)
    assert stock.replay_buffer is not None
    for step in range(n_steps):
        action = np.int64(step % 3)
        next_observation, reward, terminated, truncated, _ = env.step(action)
        for buffer in (replay_buffer(own), stock.replay_buffer):
            arrays = (np.array([action]), np.array([reward]), np.array([terminated or truncated]))
            buffer.add(observation[None], next_observation[None], *arrays, [{"TimeLimit.truncated": truncated}])
        slots.append(slot)
        ends.append("terminated" if terminated else "truncated" if truncated else "none")
        # The observation that an episode ends on takes a slot of its own
        slot += 1 if ends[-1] == "none" else 2
        observation = env.reset()[0] if terminated or truncated else next_observation
    return slots, ends


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "RMSprop": {"policy_kwargs": {"optimizer_class": th.optim.RMSprop, "optimizer_kwargs": {"alpha": 0.95, "eps": 0.01}}},
    "clipped, soft target updates": {"max_grad_norm": 0.1, "tau": 0.3},
}


@pytest.mark.parametrize("kwargs", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_with_a_feed_forward_cell_updates_are_the_stock_dqns(kwargs: dict[str, Any]) -> None:
    own, stock = make_pair(**kwargs, learning_rate=1e-3)
    slots, ends = live_in_both(own, stock, 120)
    sampler = PlannedWindows(1, np.random.default_rng())
    replay_buffer(own).sampler = sampler
    rng = np.random.default_rng(6)
    initial = [parameter.detach().clone() for parameter in own_parameters(own.q_net)]
    for model in (own, stock):
        model.set_logger(configure(None, []))
    for _ in range(8):
        plan = rng.integers(120, size=32)
        assert {ends[step] for step in plan} == {"none", "terminated", "truncated"}
        stock.replay_buffer.plan = plan  # type: ignore[union-attr]
        sampler.plan = Windows(np.zeros(32, dtype=np.int64), np.array(slots)[plan])
        for model in (own, stock):
            model.train(gradient_steps=1, batch_size=32)
            model._on_step()
        for own_net, stock_net in ((own.q_net, stock.q_net), (own.q_net_target, stock.q_net_target)):
            for parameter, stock_parameter in zip(own_parameters(own_net), stock_parameters(stock_net), strict=True):
                th.testing.assert_close(parameter, stock_parameter, atol=1e-6, rtol=1e-5)
    for net in (own.q_net, own.q_net_target):
        changes = [(one - other).abs().max() for one, other in zip(own_parameters(net), initial, strict=True)]
        assert min(changes) > 1e-4, "nothing was learned"
