"""Targets and losses against their definitions, spelled out slot by slot."""

import pytest
import torch as th
from torch.nn import functional as F

from drqn_sb3.losses import masked_huber_loss, masked_mean, n_step_targets

TIME, BATCH = 12, 40


def target_by_definition(
    rewards: list[float], terminated: list[bool], truncated: list[bool], values: list[float], gamma: float, n_steps: int
) -> float:
    """Target of the first slot: up to ``n_steps`` rewards, then what the slot after them is worth, if anything."""
    target = 0.0
    for step in range(n_steps):
        target += gamma**step * rewards[step]
        if terminated[step]:
            return target
        if truncated[step]:
            return target + gamma ** (step + 1) * values[step + 1]
    return target + gamma**n_steps * values[n_steps]


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5])
def test_targets_equal_their_definition_whatever_ends_where(n_steps: int, gamma: float) -> None:
    rewards, values = th.randn(TIME, BATCH), th.randn(TIME, BATCH)
    ends, is_truncated = th.rand(TIME, BATCH) < 0.3, th.rand(TIME, BATCH) < 0.5
    terminated, truncated = ends & ~is_truncated, ends & is_truncated
    targets = n_step_targets(rewards, terminated, truncated, values, gamma, n_steps)
    assert targets.shape == (TIME - n_steps, BATCH)
    for batch in range(BATCH):
        for time in range(TIME - n_steps):
            r, end, cut, v = (column[time:, batch].tolist() for column in (rewards, terminated, truncated, values))
            expected = target_by_definition(r, end, cut, v, gamma, n_steps)
            assert targets[time, batch].item() == pytest.approx(expected, abs=1e-5)


ENDINGS = {
    "no end: all rewards, and the value behind them": ([], [], 1 + 10 + 100 + 5000),
    "terminated at once: one reward": ([0], [], 1),
    "terminated later: the rewards so far": ([1], [], 1 + 10),
    "terminated with the last reward: no value": ([2], [], 1 + 10 + 100),
    "terminated behind the last reward: no matter": ([3], [], 1 + 10 + 100 + 5000),
    "truncated at once: the value of the next slot": ([], [0], 1 + 3000),
    "truncated later": ([], [1], 1 + 10 + 4000),
    "truncated with the last reward": ([], [2], 1 + 10 + 100 + 5000),
    "truncated, then terminated: the first end counts": ([1], [0], 1 + 3000),
    "terminated, then truncated: the first end counts": ([0], [1], 1),
}


@pytest.mark.parametrize(("terminated_at", "truncated_at", "expected"), ENDINGS.values(), ids=ENDINGS.keys())
def test_an_end_stops_the_sum_where_it_must(terminated_at: list[int], truncated_at: list[int], expected: float) -> None:
    rewards = th.tensor([[1.0], [10.0], [100.0], [1000.0]])
    values = th.tensor([[2000.0], [3000.0], [4000.0], [5000.0]])
    terminated, truncated = th.zeros(4, 1, dtype=th.bool), th.zeros(4, 1, dtype=th.bool)
    terminated[terminated_at] = True
    truncated[truncated_at] = True
    assert n_step_targets(rewards, terminated, truncated, values, 1.0, 3).tolist() == [[expected]]


def test_the_huber_loss_is_the_mean_over_the_slots_that_count() -> None:
    q_values, targets, mask = 3 * th.randn(TIME, BATCH), 3 * th.randn(TIME, BATCH), th.rand(TIME, BATCH) < 0.5
    losses = []
    for time in range(TIME):
        for batch in range(BATCH):
            if mask[time, batch]:
                error = abs((q_values[time, batch] - targets[time, batch]).item())
                losses.append(error**2 / 2 if error < 1 else error - 0.5)
    assert masked_huber_loss(q_values, targets, mask).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_with_every_slot_counting_the_loss_is_the_stock_dqns() -> None:
    q_values, targets = 3 * th.randn(TIME, BATCH), 3 * th.randn(TIME, BATCH)
    mask = th.ones(TIME, BATCH, dtype=th.bool)
    th.testing.assert_close(masked_huber_loss(q_values, targets, mask), F.smooth_l1_loss(q_values, targets))


@pytest.mark.parametrize("rubbish", [1e30, float("inf")])
def test_what_is_masked_reaches_neither_loss_nor_gradient(rubbish: float) -> None:
    q_values = th.randn(TIME, BATCH, requires_grad=True)
    targets, mask = th.randn(TIME, BATCH), th.ones(TIME, BATCH, dtype=th.bool)
    mask[3] = False
    loss = masked_huber_loss(q_values, targets.index_fill(0, th.tensor([3]), rubbish), mask)
    th.testing.assert_close(loss, masked_huber_loss(q_values, targets, mask))
    loss.backward()
    assert q_values.grad is not None
    assert (q_values.grad[3] == 0).all() and (q_values.grad[:3] != 0).all()


def test_the_mean_of_nothing_is_zero() -> None:
    values = th.randn(3, 2, requires_grad=True)
    mean = masked_mean(values, th.zeros(3, 2, dtype=th.bool))
    mean.backward()
    assert mean.item() == 0.0
    assert values.grad is not None and (values.grad == 0).all()
