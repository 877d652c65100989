"""The LSTM's loop over time, differentiated by hand, against the same steps left to autograd."""

from itertools import product

import pytest
import torch as th

from drqn_sb3.lstm import LSTMLoop
from drqn_sb3.recurrent import LSTM, RecurrentCell, Resets

TIME, BATCH, FEATURES, HIDDEN = 7, 4, 5, 6


def make_resets(starts_anew: bool, puts_back: bool) -> tuple[Resets, list[th.Tensor]]:
    """Resets, and those tensors in them that gradients go to."""
    episode_starts = (th.rand(TIME, BATCH) < 0.3) if starts_anew else th.zeros(TIME, BATCH, dtype=th.bool)
    if not puts_back:
        return Resets(episode_starts, None, None), []
    initial = [th.randn(BATCH, HIDDEN, requires_grad=True) for _ in range(2)]
    return Resets(episode_starts, th.rand(TIME, BATCH) < 0.4, tuple(initial)), initial


@pytest.mark.parametrize(
    ("starts_anew", "puts_back"), list(product([False, True], repeat=2)), ids=["no resets", "put back", "starts", "both"]
)
def test_outputs_states_and_all_gradients_equal_those_of_single_steps(starts_anew: bool, puts_back: bool) -> None:
    th.manual_seed(0)
    cell = LSTM(FEATURES, HIDDEN)
    inputs = th.randn(TIME, BATCH, FEATURES, requires_grad=True)
    states = tuple(th.randn(BATCH, HIDDEN, requires_grad=True) for _ in range(2))
    resets, initial = make_resets(starts_anew, puts_back)
    weightings = [th.randn(TIME, BATCH, HIDDEN), th.randn(BATCH, HIDDEN), th.randn(BATCH, HIDDEN)]
    results, gradients = [], []
    for run in (cell.run, lambda *args: RecurrentCell.run(cell, *args)):
        outputs, last = run(0, cell.project(0, inputs), states, resets)
        results.append((outputs, *last))
        totals = [(weighting * result).sum() for weighting, result in zip(weightings, results[-1], strict=True)]
        gradients.append(th.autograd.grad(th.stack(totals).sum(), [*cell.parameters(), inputs, *states, *initial]))
    assert len(gradients[0]) == (9 if puts_back else 7)
    for fast, slow in zip((*results[0], *gradients[0]), (*results[1], *gradients[1]), strict=True):
        assert slow.abs().max() > 0
        th.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    th.manual_seed(0)
    shapes = [(3, 2, 8), (8, 2), (2, 2), (2, 2), (3, 2, 2), (3, 2, 2)]
    projected, weight, hidden, memory, *put_back = (th.randn(shape, dtype=th.float64, requires_grad=True) for shape in shapes)
    keeps = th.tensor([[[True], [True]], [[False], [True]], [[True], [False]]])
    assert th.autograd.gradcheck(LSTMLoop.apply, (projected, weight, hidden, memory, keeps, *put_back))


def test_in_bfloat16_states_stay_in_float32_and_results_close() -> None:
    th.manual_seed(0)
    cell, inputs = LSTM(64, 32), th.randn(TIME, BATCH, 64)
    states = tuple(th.randn(BATCH, 32) for _ in range(2))
    resets, _ = make_resets(True, False)
    exact = cell.run(0, cell.project(0, inputs), states, resets)
    (exact_gradient,) = th.autograd.grad(exact[0].sum(), [cell.weights(0).weight_hh])
    cell.bfloat16()
    outputs, last = cell.run(0, cell.project(0, inputs), states, resets)
    (gradient,) = th.autograd.grad(outputs.sum(), [cell.weights(0).weight_hh])
    assert {tensor.dtype for tensor in (outputs, *last)} == {th.float32} and gradient.dtype == th.bfloat16
    for close, one in zip((outputs, *last), (exact[0], *exact[1]), strict=True):
        assert 0 < (close - one).abs().max() < 0.02
    assert (gradient - exact_gradient).norm() < 0.02 * exact_gradient.norm()
