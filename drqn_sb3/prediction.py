"""
The next observation as a second lesson for the memory.

What a Q-network's memory keeps is what its temporal-difference errors ask for; a predictor asks it to keep track of what is
not seen as well. ``docs/experiments.md`` tells where it helped. Axis order ``(time, batch, ...)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn
from torch.nn import functional as F

from drqn_sb3.last_action import OBSERVATION
from drqn_sb3.losses import masked_mean

CELL = 4
"""Pixels, across and down, whose mean is one cell of a predicted picture: 21x21 cells of an 84x84 frame."""
_LEAST_DEVIATION = 0.003  # of cells from 0 to 1: what is added to their standard deviations
_MOST_DEVIATIONS = 10.0  # beyond which a cell's value counts as this
_MOMENTS_OVER = 100  # updates that a cell's mean and variance are means of, about


class NextObservation(nn.Module, ABC):
    """
    Predicts the next observation from what the recurrent cell gives and the action taken.

    :param size: numbers to predict
    :param hidden_size: features of the recurrent cell
    :param n_actions: number of actions
    :param net_arch: sizes of the hidden layers
    :param activation_fn: activation function
    """

    def __init__(
        self, size: int, hidden_size: int, n_actions: int, net_arch: Sequence[int], activation_fn: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.n_actions = n_actions
        self.layers = nn.Sequential(*create_mlp(hidden_size + n_actions, size, list(net_arch), activation_fn))

    def forward(self, outputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param outputs: of the recurrent cell, ``(time, batch, hidden_size)``
        :param actions: taken there, ``(time, batch)``, int64
        :return: what is seen then, ``(time, batch, size)``
        """
        taken = F.one_hot(actions, self.n_actions).to(outputs.dtype)
        return self.layers(th.cat((outputs, taken), dim=-1))

    def error(self, predictions: th.Tensor, observations: PyTorchObs, terminated: th.Tensor, mask: th.Tensor) -> th.Tensor:
        """
        How wrong the predictions are, on average over those that can be judged.

        After a terminated step there is nothing to see, and an observation of nothing but zeros is a hidden one
        (:class:`~drqn_sb3.wrappers.FlickerObservation`).

        :param predictions: ``(time, batch, size)``
        :param observations: the next ones, ``(time, batch, *shape)``, or a dict with such an ``"observation"``
        :param terminated: ``(time, batch)``, bool: the step ended the episode
        :param mask: ``(time, batch)``, bool: the slots that count
        :return: a scalar; zero where nothing can be judged
        """
        seen = observations[OBSERVATION] if isinstance(observations, dict) else observations
        return self.error_of_seen(predictions, seen, mask & ~terminated)

    @abstractmethod
    def error_of_seen(self, predictions: th.Tensor, seen: th.Tensor, is_judged: th.Tensor) -> th.Tensor:
        """
        :param predictions: ``(time, batch, size)``
        :param seen: ``(time, batch, *shape)``
        :param is_judged: ``(time, batch)``, bool: those that count, if they are not hidden
        :return: a scalar; zero where nothing can be judged
        """


class NextVector(NextObservation):
    """Predicts vectors. Its error is the mean absolute one, in the observations' unit."""

    def error_of_seen(self, predictions: th.Tensor, seen: th.Tensor, is_judged: th.Tensor) -> th.Tensor:
        """See :meth:`NextObservation.error_of_seen`."""
        seen = seen.to(predictions.dtype)
        is_judged = is_judged & (seen != 0).any(dim=-1)
        return masked_mean((predictions - seen).abs().mean(dim=-1), is_judged)


class NextPicture(NextObservation):
    """
    Predicts images, channels first, as the means of cells of 4x4 pixels, each minus its usual value and divided by its usual
    deviation from it: what moves counts as much as what is large. What is left over at the right and the bottom is not
    predicted.

    Its error is the mean square, in these units: 1 is what is got by telling the usual value. What is usual is learnt in
    training, from the pictures that are judged, and is part of the weights.

    :param shape: of the images, ``(channels, height, width)``
    :param hidden_size: features of the recurrent cell
    :param n_actions: number of actions
    :param net_arch: sizes of the hidden layers
    :param activation_fn: activation function
    """

    mean: th.Tensor
    variance: th.Tensor
    n_updates: th.Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden_size: int,
        n_actions: int,
        net_arch: Sequence[int],
        activation_fn: type[nn.Module] = nn.ReLU,
    ) -> None:
        channels, height, width = shape
        size = channels * (height // CELL) * (width // CELL)
        super().__init__(size, hidden_size, n_actions, net_arch, activation_fn)
        self.register_buffer("mean", th.zeros(size))
        self.register_buffer("variance", th.zeros(size))
        self.register_buffer("n_updates", th.zeros(()))

    def error_of_seen(self, predictions: th.Tensor, seen: th.Tensor, is_judged: th.Tensor) -> th.Tensor:
        """See :meth:`NextObservation.error_of_seen`."""
        cells = F.avg_pool2d(seen.flatten(0, 1).to(predictions.dtype) / 255, CELL).flatten(1).unflatten(0, is_judged.shape)
        is_judged = is_judged & (cells != 0).any(dim=-1)
        if self.training:
            self._follow(cells, is_judged)
        usual = (cells - self.mean) / (self.variance.sqrt() + _LEAST_DEVIATION)
        misses = predictions - usual.clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        return masked_mean(misses.square().mean(dim=-1), is_judged)

    @th.no_grad()
    def _follow(self, cells: th.Tensor, is_judged: th.Tensor) -> None:
        """Move mean and variance, towards those of the cells that are judged, if there are any. In place, for CUDA graphs."""
        weights = is_judged.to(cells.dtype)
        count = weights.sum()
        weights = (weights / count.clamp(min=1)).unsqueeze(-1)
        self.n_updates += (count > 0).to(cells.dtype)
        rate = (count > 0) / self.n_updates.clamp(1, _MOMENTS_OVER)
        self.mean += rate * ((weights * cells).sum(dim=(0, 1)) - self.mean)
        self.variance += rate * ((weights * (cells - self.mean).square()).sum(dim=(0, 1)) - self.variance)


def make_predictor(
    observation_space: spaces.Space,
    hidden_size: int,
    n_actions: int,
    net_arch: Sequence[int],
    activation_fn: type[nn.Module] = nn.ReLU,
) -> NextObservation:
    """
    Make the predictor that observations ask for.

    :param observation_space: of vectors, or of images, channels first; or a dict with such an entry ``"observation"``, which
        is then predicted
    :param hidden_size: features of the recurrent cell
    :param n_actions: number of actions
    :param net_arch: sizes of the hidden layers
    :param activation_fn: activation function
    :return: the predictor, not trained
    :raises ValueError: if there is nothing that can be predicted
    """
    space = observation_space.get(OBSERVATION) if isinstance(observation_space, spaces.Dict) else observation_space
    box = space if isinstance(space, spaces.Box) else None
    shape = () if box is None else box.shape
    arguments = (hidden_size, n_actions, net_arch, activation_fn)
    if len(shape) == 1:
        return NextVector(shape[0], *arguments)
    if box is not None and is_image_space(box) and is_image_space_channels_first(box) and min(shape[1:]) >= CELL:
        return NextPicture(shape, *arguments)
    raise ValueError(
        f"predictor needs observations that are vectors, or images, channels first, of {CELL}x{CELL} pixels or more, or dicts "
        f'with such an "{OBSERVATION}", got {observation_space}'
    )
