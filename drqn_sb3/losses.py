"""Pure functions from Q-values to a loss. Axis order ``(time, batch)``."""

import torch as th
from torch.nn import functional as F


def n_step_targets(
    rewards: th.Tensor,
    terminated: th.Tensor,
    truncated: th.Tensor,
    values: th.Tensor,
    gamma: float,
    n_steps: int,
) -> th.Tensor:
    """
    Targets of ``n_steps`` rewards and a bootstrap, for all but the last ``n_steps`` slots.

    The sum of rewards stops where the episode does. After a *terminated* step there is nothing more; a *truncated* step
    bootstraps from the value of the next slot, which holds the observation the episode was cut off at.

    :param rewards: ``(time, batch)``, of the action taken in each slot
    :param terminated: ``(time, batch)``, bool
    :param truncated: ``(time, batch)``, bool
    :param values: ``(time, batch)``, the value of each slot's observation
    :param gamma: discount factor per step
    :param n_steps: the number of rewards, 1 or more, below ``time``
    :return: ``(time - n_steps, batch)``
    """
    continues = gamma * (~terminated[:-1]).float()
    targets = values  # of zero steps
    for _ in range(n_steps):
        # What follows slot t: the value of the slot after it if the episode was cut off there, else a target one step shorter
        count = len(targets) - 1
        following = th.where(truncated[:count], values[1 : count + 1], targets[1:])
        targets = rewards[:count] + continues[:count] * following
    return targets


def masked_mean(values: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    Mean of those entries that count.

    :param values: any shape
    :param mask: of the same shape, bool
    :return: a scalar; zero where nothing counts
    """
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_huber_loss(q_values: th.Tensor, targets: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    Huber loss as the stock DQN has it, over those slots that are trained on.

    :param q_values: ``(time, batch)``, of the actions taken
    :param targets: ``(time, batch)``
    :param mask: ``(time, batch)``, bool
    :return: a scalar
    """
    return masked_mean(F.smooth_l1_loss(q_values, targets, reduction="none"), mask)
