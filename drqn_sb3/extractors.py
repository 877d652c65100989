"""
Features of single observations: the paper's convolutions, alone and beside vectors.

Axis order ``(n, channels, height, width)``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn import functional as F

from drqn_sb3.checks import is_positive_integer

LEAST_SIZE = 36
"""Pixels, across and down, of which the three layers leave one."""
_LEAST_VARIANCE = 1e-4  # of pixels from 0 to 1: noise of less than 2.5 grey levels is not blown up


class NatureConvolutions(BaseFeaturesExtractor):
    """
    The convolutions of the Nature DQN without its fully connected layer, whose place the recurrent cell takes
    (Hausknecht & Stone 2015, section 4).

    32 filters of 8x8 every 4 pixels, 64 of 4x4 every 2, 64 of 3x3 every 1, a ReLU after each: 3136 features of an 84x84
    frame.

    :param observation_space: image space, channels first, 36x36 or larger
    :param filters: how many there are in each of the three layers
    :param standardize: whether to subtract each image's mean from it and divide it by its standard deviation, plus a little
        that keeps images of one colour zero. Small things on a large dark ground are learned sooner then
        (``docs/experiments.md``)
    :raises ValueError: if the space is another one, or ``filters`` is not a sequence of three positive whole numbers
    """

    def __init__(
        self, observation_space: spaces.Box, filters: Sequence[int] = (32, 64, 64), standardize: bool = False
    ) -> None:
        shape = observation_space.shape
        if shape is None or len(shape) != 3 or min(shape[1:]) < LEAST_SIZE:
            raise ValueError(
                f"CnnLstmPolicy needs image observations, (channels, height, width) of {LEAST_SIZE}x{LEAST_SIZE} or more, got "
                f"{type(observation_space).__name__} of shape {shape}"
            )
        filters = _three_counts(filters)
        height, width = (((size - 8) // 4 + 1 - 4) // 2 + 1 - 2 for size in shape[1:])
        super().__init__(observation_space, features_dim=filters[2] * height * width)
        self.standardize = standardize
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape[0], filters[0], kernel_size=8, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters[0], filters[1], kernel_size=4, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters[1], filters[2], kernel_size=3, stride=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )

    def forward(self, observations: th.Tensor, is_prepared: bool = False) -> th.Tensor:
        """
        :param observations: ``(n, channels, height, width)``, float
        :param is_prepared: whether they are what :meth:`prepare` made of them
        :return: ``(n, features_dim)``
        """
        return self.convolutions(_channels_last(observations if is_prepared else self.prepare(observations)))

    def prepare(self, observations: th.Tensor) -> th.Tensor:
        """
        What comes before the weights, and is the same for the online and the target network.

        :param observations: ``(n, channels, height, width)``, float
        :return: the same shape
        """
        return standardize(observations) if self.standardize else observations


class CombinedConvolutions(BaseFeaturesExtractor):
    """
    For dict observations: images go through :class:`NatureConvolutions`, everything else is flattened, and all of it is
    joined in the order of the space. As SB3's :class:`~stable_baselines3.common.torch_layers.CombinedExtractor`, but with
    the convolutions of :class:`~drqn_sb3.policies.CnnLstmPolicy`.

    :param observation_space: of dicts, images channels first, 36x36 or larger
    :param filters: of the convolutions, see there
    :param standardize: see there
    :param normalized_image: whether images are floats from 0 to 1, not bytes
    :raises ValueError: if an image is smaller, or ``filters`` is not a sequence of three positive whole numbers
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        filters: Sequence[int] = (32, 64, 64),
        standardize: bool = False,
        normalized_image: bool = False,
    ) -> None:
        filters = _three_counts(filters)
        parts = observation_space.spaces
        images = {
            key: space
            for key, space in parts.items()
            if isinstance(space, spaces.Box) and is_image_space(space, normalized_image=normalized_image)
        }
        for key, space in images.items():
            if min(space.shape[1:]) < LEAST_SIZE:
                raise ValueError(
                    f"MultiInputLstmPolicy needs images, (channels, height, width), of {LEAST_SIZE}x{LEAST_SIZE} or more, got "
                    f'"{key}" of shape {space.shape}: smaller ones need another features_extractor_class'
                )
        vectors = (space for key, space in parts.items() if key not in images)
        convolutions = {key: NatureConvolutions(space, filters, standardize) for key, space in images.items()}
        n_features = sum(part.features_dim for part in convolutions.values()) + sum(map(get_flattened_obs_dim, vectors))
        super().__init__(observation_space, features_dim=n_features)
        self.keys = tuple(parts)
        self.extractors = nn.ModuleDict(convolutions)

    def forward(self, observations: dict[str, th.Tensor], is_prepared: bool = False) -> th.Tensor:
        """
        :param observations: each ``(n, *shape)``, float
        :param is_prepared: whether they are what :meth:`prepare` made of them
        :return: ``(n, features_dim)``
        """
        parts = observations if is_prepared else self.prepare(observations)
        return th.cat([self._features_of(key, parts[key]) for key in self.keys], dim=1)

    def prepare(self, observations: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
        """
        What comes before the weights, and is the same for the online and the target network.

        :param observations: each ``(n, *shape)``, float
        :return: the same shapes
        """
        return {
            key: part if (convolutions := self._convolutions_of(key)) is None else convolutions.prepare(part)
            for key, part in observations.items()
        }

    def _features_of(self, key: str, prepared: th.Tensor) -> th.Tensor:
        convolutions = self._convolutions_of(key)
        return prepared.flatten(1) if convolutions is None else convolutions(prepared, is_prepared=True)

    def _convolutions_of(self, key: str) -> NatureConvolutions | None:
        part = dict(self.extractors.items()).get(key)
        assert part is None or isinstance(part, NatureConvolutions)
        return part


def standardize(images: th.Tensor) -> th.Tensor:
    """
    Each image with mean 0 and standard deviation 1, or a little less; an image of one colour becomes zero.

    :param images: ``(n, channels, height, width)``, float, from 0 to 1
    :return: the same shape
    """
    return F.layer_norm(images, images.shape[1:], eps=_LEAST_VARIANCE)


def _channels_last(images: th.Tensor) -> th.Tensor:
    """The same images, laid out in memory in the way that is faster on processors and GPUs alike."""
    n_images, n_channels, height, width = images.shape
    if n_channels == 1:
        # Only the strides have to change, for which PyTorch would copy
        return images.contiguous().view(n_images, height, width, 1).permute(0, 3, 1, 2)
    return images.to(memory_format=th.channels_last)


def _three_counts(filters: Any) -> tuple[int, ...]:
    """Check numbers of filters; numpy's integers become Python's."""
    counts = tuple(filters) if isinstance(filters, Iterable) else ()
    if len(counts) != 3 or not all(map(is_positive_integer, counts)):
        raise ValueError(f"filters must be three whole numbers of at least 1, got {filters}")
    return tuple(map(int, counts))
