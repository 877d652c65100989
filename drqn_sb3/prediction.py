"""
The next observation as a second lesson for the memory.

What a Q-network's memory keeps is what its temporal-difference errors ask for; a predictor asks it to keep track of what is
not seen as well. ``docs/experiments.md`` tells where it helped. Axis order ``(time, batch, ...)``.
"""

from collections.abc import Sequence

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn
from torch.nn import functional as F

from drqn_sb3.last_action import OBSERVATION
from drqn_sb3.losses import masked_mean


class NextObservation(nn.Module):
    """
    Predicts the next observation from what the recurrent cell gives and the action taken.

    :param observation_space: of vectors, or a dict with the entry ``"observation"``, which is then predicted
    :param hidden_size: features of the recurrent cell
    :param n_actions: number of actions
    :param net_arch: sizes of the hidden layers
    :param activation_fn: activation function
    :raises ValueError: if there is no vector to predict
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        hidden_size: int,
        n_actions: int,
        net_arch: Sequence[int],
        activation_fn: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.n_actions = n_actions
        size = _vector_size(observation_space)
        self.layers = nn.Sequential(*create_mlp(hidden_size + n_actions, size, list(net_arch), activation_fn))

    def forward(self, outputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param outputs: of the recurrent cell, ``(time, batch, hidden_size)``
        :param actions: taken there, ``(time, batch)``, int64
        :return: what is seen then, ``(time, batch, size)``
        """
        taken = F.one_hot(actions, self.n_actions).to(outputs.dtype)
        return self.layers(th.cat((outputs, taken), dim=-1))


def prediction_error(predictions: th.Tensor, observations: PyTorchObs, terminated: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    Mean absolute error of the predictions, over those that can be judged.

    After a terminated step there is nothing to see, and an observation of nothing but zeros is a hidden one
    (:class:`~drqn_sb3.wrappers.FlickerObservation`).

    :param predictions: ``(time, batch, size)``
    :param observations: the next ones, ``(time, batch, size)``, or a dict with such an ``"observation"``
    :param terminated: ``(time, batch)``, bool: the step ended the episode
    :param mask: ``(time, batch)``, bool: the slots that count
    :return: a scalar, in the observations' unit; zero where nothing can be judged
    """
    seen = (observations[OBSERVATION] if isinstance(observations, dict) else observations).to(predictions.dtype)
    is_judged = mask & ~terminated & (seen != 0).any(dim=-1)
    return masked_mean((predictions - seen).abs().mean(dim=-1), is_judged)


def _vector_size(observation_space: spaces.Space) -> int:
    space = observation_space.get(OBSERVATION) if isinstance(observation_space, spaces.Dict) else observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(
            f'predictor needs observations that are vectors, or dicts with a vector "{OBSERVATION}", got {observation_space}'
        )
    return space.shape[0]
