"""Cells against PyTorch's own, unrolling against stepping, and what a reset changes."""

import math

import pytest
import torch as th
from torch import nn

from drqn_sb3.recurrent import CELLS, GRU, LSTM, RecurrentCell, reset_states, unroll, zero_states
from drqn_sb3.type_aliases import RecurrentStates

TIME, BATCH, FEATURES, HIDDEN = 7, 4, 5, 6
EACH_CELL = pytest.mark.parametrize("cell_class", CELLS.values(), ids=CELLS)
EACH_DEPTH = pytest.mark.parametrize("n_layers", [1, 2], ids=["1 layer", "2 layers"])


def make_cell(cell_class: type[RecurrentCell], n_layers: int) -> RecurrentCell:
    return cell_class(FEATURES, HIDDEN, n_layers)


def random_states(cell: RecurrentCell) -> RecurrentStates:
    return tuple(th.randn(cell.n_layers, BATCH, cell.hidden_size) for _ in range(cell.n_states))


def no_starts() -> th.Tensor:
    return th.zeros(TIME, BATCH, dtype=th.bool)


def assert_states_equal(first: RecurrentStates, second: RecurrentStates) -> None:
    for one, other in zip(first, second, strict=True):
        th.testing.assert_close(one, other)


def torchs_own(cell: RecurrentCell) -> nn.RNNBase:
    """PyTorch's layers with a copy of a cell's weights."""
    own_class = {LSTM: nn.LSTM, GRU: nn.GRU}[type(cell)]
    own = own_class(FEATURES, HIDDEN, cell.n_layers)
    for name, parameter in cell.named_parameters():
        _, layer, weight = name.split(".")
        with th.no_grad():
            getattr(own, f"{weight}_l{layer}").copy_(parameter)
    return own


@EACH_DEPTH
@EACH_CELL
def test_a_cell_gives_the_outputs_and_gradients_of_pytorchs_own(cell_class: type[RecurrentCell], n_layers: int) -> None:
    cell = make_cell(cell_class, n_layers)
    own = torchs_own(cell)
    inputs, states = th.randn(TIME, BATCH, FEATURES), random_states(cell)
    outputs, last = unroll(cell, inputs, states, no_starts())
    own_outputs, own_last = own(inputs, states if len(states) > 1 else states[0])
    th.testing.assert_close(outputs, own_outputs)
    assert_states_equal(last, own_last if isinstance(own_last, tuple) else (own_last,))
    weighting = th.randn_like(outputs)
    (outputs * weighting).sum().backward()
    (own_outputs * weighting).sum().backward()
    own_gradients = {name: parameter.grad for name, parameter in own.named_parameters()}
    assert len(own_gradients) == 4 * n_layers
    for name, parameter in cell.named_parameters():
        _, layer, weight = name.split(".")
        th.testing.assert_close(parameter.grad, own_gradients[f"{weight}_l{layer}"])


@EACH_DEPTH
@EACH_CELL
def test_unrolling_equals_stepping_in_outputs_states_and_gradients(cell_class: type[RecurrentCell], n_layers: int) -> None:
    cell = make_cell(cell_class, n_layers)
    inputs, states = th.randn(TIME, BATCH, FEATURES), random_states(cell)
    starts = th.rand(TIME, BATCH) < 0.3
    unrolled, last = unroll(cell, inputs, states, starts)
    outputs, stepped = [], states
    for time in range(TIME):
        output, stepped = unroll(cell, inputs[time : time + 1], stepped, starts[time : time + 1])
        outputs.append(output)
    th.testing.assert_close(unrolled, th.cat(outputs))
    assert_states_equal(last, stepped)
    parameters = list(cell.parameters())
    gradients = th.autograd.grad(unrolled.pow(2).sum(), parameters)
    for one, other in zip(gradients, th.autograd.grad(th.cat(outputs).pow(2).sum(), parameters), strict=True):
        th.testing.assert_close(one, other)


@EACH_DEPTH
@EACH_CELL
def test_a_reset_inside_a_window_equals_separate_sequences(cell_class: type[RecurrentCell], n_layers: int) -> None:
    cell = make_cell(cell_class, n_layers)
    inputs, states = th.randn(TIME, BATCH, FEATURES), random_states(cell)
    starts = no_starts()
    starts[3] = True
    outputs, last = unroll(cell, inputs, states, starts)
    before, _ = unroll(cell, inputs[:3], states, no_starts()[:3])
    after, after_last = unroll(cell, inputs[3:], zero_states(cell, BATCH, "cpu"), no_starts()[3:])
    th.testing.assert_close(outputs, th.cat((before, after)))
    assert_states_equal(last, after_last)


@EACH_CELL
def test_no_gradient_passes_a_reset(cell_class: type[RecurrentCell]) -> None:
    cell = make_cell(cell_class, 2)
    inputs = th.randn(TIME, BATCH, FEATURES, requires_grad=True)
    starts = no_starts()
    starts[4, 1] = True
    outputs, _ = unroll(cell, inputs, zero_states(cell, BATCH, "cpu"), starts)
    (gradient,) = th.autograd.grad(outputs[4:].sum(), inputs)
    assert (gradient[:4, 1] == 0).all()
    assert (gradient[4:, 1] != 0).any(dim=-1).all()
    assert (gradient[:, 0] != 0).any(dim=-1).all()


@EACH_DEPTH
@EACH_CELL
def test_resetting_one_sequence_changes_only_that_one(cell_class: type[RecurrentCell], n_layers: int) -> None:
    cell = make_cell(cell_class, n_layers)
    inputs, states = th.randn(TIME, BATCH, FEATURES), random_states(cell)
    starts = no_starts()
    starts[2, 1] = True
    plain, plain_last = unroll(cell, inputs, states, no_starts())
    outputs, last = unroll(cell, inputs, states, starts)
    others = [0, 2, 3]
    assert th.equal(outputs[:, others], plain[:, others])
    assert th.equal(outputs[:2, 1], plain[:2, 1])
    assert not th.isclose(outputs[2:, 1], plain[2:, 1]).all(dim=-1).any()
    for state, plain_state in zip(last, plain_last, strict=True):
        assert th.equal(state[:, others], plain_state[:, others])
        assert not th.isclose(state[:, 1], plain_state[:, 1]).all(dim=-1).any()


@EACH_DEPTH
@EACH_CELL
def test_a_window_start_puts_back_the_initial_states_and_not_zeros(cell_class: type[RecurrentCell], n_layers: int) -> None:
    cell = make_cell(cell_class, n_layers)
    inputs, states, initial = th.randn(TIME, BATCH, FEATURES), random_states(cell), random_states(cell)
    window_starts = no_starts()
    window_starts[:3, 2] = True  # a window that overhangs two slots
    outputs, _ = unroll(cell, inputs, states, no_starts(), window_starts, initial)
    plain, _ = unroll(cell, inputs, states, no_starts())
    restarted, _ = unroll(cell, inputs[2:], initial, no_starts()[2:])
    th.testing.assert_close(outputs[2:, 2], restarted[:, 2])
    assert th.equal(outputs[:, [0, 1, 3]], plain[:, [0, 1, 3]])


@EACH_CELL
def test_where_a_window_and_an_episode_start_the_state_is_zero(cell_class: type[RecurrentCell]) -> None:
    cell = make_cell(cell_class, 2)
    inputs, states, initial = th.randn(TIME, BATCH, FEATURES), random_states(cell), random_states(cell)
    starts = no_starts()
    starts[3, 0] = True
    outputs, _ = unroll(cell, inputs, states, starts, starts, initial)
    expected, _ = unroll(cell, inputs, states, starts)
    th.testing.assert_close(outputs, expected)


@EACH_CELL
def test_the_zero_state_has_one_entry_per_layer_and_sequence(cell_class: type[RecurrentCell]) -> None:
    states = zero_states(make_cell(cell_class, 2), 3, "cpu")
    assert len(states) == cell_class.n_states
    assert all(state.shape == (2, 3, HIDDEN) and (state == 0).all() for state in states)


RESETS = {
    "to zeros": (None, [0.0, 2.0, 0.0]),
    "to given states": ((th.full((2, 3, 4), 7.0),), [7.0, 2.0, 7.0]),
}


@pytest.mark.parametrize(("to", "expected"), RESETS.values(), ids=RESETS.keys())
def test_a_reset_concerns_the_starting_sequences_only(to: RecurrentStates | None, expected: list[float]) -> None:
    states = (th.full((2, 3, 4), 2.0),)
    (after,) = reset_states(states, th.tensor([True, False, True]), to)
    assert th.equal(after, th.tensor(expected).reshape(1, 3, 1).expand(2, 3, 4))
    assert (states[0] == 2.0).all()


def test_a_cell_without_a_step_of_its_own_says_so() -> None:
    class Stepless(RecurrentCell):
        n_states = 1
        cell_class = nn.RNNCell

    cell = Stepless(FEATURES, HIDDEN)
    with pytest.raises(NotImplementedError, match=r"Stepless must define step\(\)"):
        unroll(cell, th.randn(1, BATCH, FEATURES), zero_states(cell, BATCH, "cpu"), no_starts()[:1])


def test_a_cell_that_has_no_span_of_memory_says_so() -> None:
    class Spanless(RecurrentCell):
        n_states = 1
        cell_class = nn.RNNCell

    with pytest.raises(NotImplementedError, match=r"memory_span needs a cell that defines set_memory_span\(\), got Spanless"):
        Spanless(FEATURES, HIDDEN).set_memory_span(10)


def share_kept(cell: RecurrentCell, n_steps: int) -> th.Tensor:
    """What each unit's state still tells of its beginning after steps without input: by how much it changes with it."""
    start = th.zeros(1, cell.hidden_size, requires_grad=True)
    hidden = th.zeros(1, cell.hidden_size)
    states: RecurrentStates = (start,) if cell.n_states == 1 else (hidden, start)
    projected = cell.project(0, th.zeros(1, FEATURES))
    for _ in range(n_steps):
        # Its own output, held at zero, tells it nothing new
        states = cell.step(0, projected, states if cell.n_states == 1 else (hidden, states[1]))
    return th.autograd.grad(states[-1].sum(), start)[0].squeeze(0)


@pytest.mark.parametrize("n_steps", [10, 200])
@EACH_CELL
def test_a_cell_begins_with_the_memory_it_is_given(cell_class: type[RecurrentCell], n_steps: int) -> None:
    cell = cell_class(FEATURES, 500)
    for parameter in cell.parameters():
        nn.init.zeros_(parameter)
    th.testing.assert_close(share_kept(cell, 1), th.full((500,), 0.5))
    cell.set_memory_span(n_steps)
    # A gate with the bias log(u) keeps u / (1 + u) of a state at each step: u is from 1 to n_steps - 1, uniform
    kept = share_kept(cell, 1)
    times = kept / (1 - kept)
    assert times.min() >= 0.99
    assert times.max() <= (n_steps - 1) * 1.001
    assert times.mean() == pytest.approx(n_steps / 2, rel=0.1)
    assert times.std() == pytest.approx((n_steps - 2) / 12**0.5, rel=0.1)
    th.testing.assert_close(share_kept(cell, 7), kept**7, rtol=1e-4, atol=1e-6)


def test_an_lstm_that_keeps_for_long_lets_in_slowly() -> None:
    cell = LSTM(FEATURES, HIDDEN, 2)
    cell.set_memory_span(50)
    for layer in range(2):
        weights = cell.weights(layer)
        assert (weights.bias_hh == 0).all()
        lets_in, keeps, rest = weights.bias_ih.split([HIDDEN, HIDDEN, 2 * HIDDEN])
        th.testing.assert_close(th.sigmoid(lets_in) + th.sigmoid(keeps), th.ones(HIDDEN))
        assert (rest == 0).all()
    assert not th.equal(cell.weights(0).bias_ih, cell.weights(1).bias_ih)


def test_a_gru_that_keeps_for_long_has_no_other_bias() -> None:
    cell = GRU(FEATURES, HIDDEN, 2)  # with PyTorch's initial weights
    before = [cell.weights(layer).weight_hh.clone() for layer in range(2)]
    cell.set_memory_span(50)
    for layer in range(2):
        weights = cell.weights(layer)
        assert (weights.bias_hh == 0).all()
        resets, keeps, candidate = weights.bias_ih.split(HIDDEN)
        assert (resets == 0).all() and (candidate == 0).all()
        assert (keeps >= 0).all() and (keeps <= math.log(49)).all() and (keeps > 0).any()
        assert th.equal(weights.weight_hh, before[layer])
    assert not th.equal(cell.weights(0).bias_ih, cell.weights(1).bias_ih)


class Doubling(LSTM):
    """An LSTM with steps of its own."""

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        hidden, memory = super().step(layer, projected, states)
        return 2 * hidden, memory


def test_an_lstm_with_steps_of_its_own_takes_those() -> None:
    th.manual_seed(0)
    cell, inputs = Doubling(FEATURES, HIDDEN), th.randn(1, BATCH, FEATURES)
    plain = LSTM(FEATURES, HIDDEN)
    plain.load_state_dict(cell.state_dict())
    outputs, _ = unroll(cell, inputs, zero_states(cell, BATCH, "cpu"), no_starts()[:1])
    plain_outputs, _ = unroll(plain, inputs, zero_states(cell, BATCH, "cpu"), no_starts()[:1])
    th.testing.assert_close(outputs, 2 * plain_outputs)


@EACH_CELL
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_was_lost_is_back_with_the_next_episode(cell_class: type[RecurrentCell], value: float) -> None:
    cell = make_cell(cell_class, 1)
    inputs, starts = th.randn(TIME, BATCH, FEATURES), no_starts()
    starts[0, 1] = True
    lost = tuple(state.fill_(value) for state in random_states(cell))
    outputs, last = unroll(cell, inputs, lost, starts)
    fresh, _ = unroll(cell, inputs, zero_states(cell, BATCH, "cpu"), starts)
    th.testing.assert_close(outputs[:, 1], fresh[:, 1])
    assert all(th.isfinite(state[:, 1]).all() for state in last)


@EACH_CELL
def test_initial_states_that_were_lost_do_no_harm_where_no_window_starts(cell_class: type[RecurrentCell]) -> None:
    cell = make_cell(cell_class, 1)
    inputs, window_starts = th.randn(TIME, BATCH, FEATURES), no_starts()
    window_starts[2, 0] = True
    initial = tuple(th.full_like(state, float("inf")) for state in random_states(cell))
    outputs, _ = unroll(cell, inputs, zero_states(cell, BATCH, "cpu"), no_starts(), window_starts, initial)
    assert th.isfinite(outputs[:, 1:]).all()
