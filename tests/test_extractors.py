"""The parts that make features of single observations."""

import re
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import CombinedExtractor

from drqn_sb3.extractors import CombinedConvolutions, NatureConvolutions, standardize

MIXED = spaces.Dict(
    screen=spaces.Box(0, 255, (2, 36, 40), np.uint8),
    speed=spaces.Box(-1.0, 1.0, (3, 2), np.float32),
    map=spaces.Box(0, 255, (1, 40, 36), np.uint8),
    room=spaces.Discrete(4),
)


@pytest.mark.parametrize("size", [(36, 36), (37, 52), (84, 84), (96, 64)])
def test_the_convolutions_know_how_many_features_they_give(size: tuple[int, int]) -> None:
    extractor = NatureConvolutions(spaces.Box(0, 255, (2, *size), np.uint8))
    assert extractor(th.zeros(5, 2, *size)).shape == (5, extractor.features_dim)


def test_the_convolutions_may_have_other_numbers_of_filters() -> None:
    extractor = NatureConvolutions(spaces.Box(0, 255, (1, 84, 84), np.uint8), filters=[16, 32, 8])
    assert [tuple(weights.shape) for weights in extractor.parameters() if weights.ndim > 1] == [
        (16, 1, 8, 8),
        (32, 16, 4, 4),
        (8, 32, 3, 3),
    ]
    assert extractor.features_dim == 8 * 7 * 7
    assert extractor(th.zeros(5, 1, 84, 84)).shape == (5, 8 * 7 * 7)


@pytest.mark.parametrize("filters", [np.array([3, 2, 1]), (np.int64(3), np.int32(2), 1)], ids=["an array", "numpy's"])
def test_numbers_of_filters_may_be_numpys(filters: Any) -> None:
    extractor = NatureConvolutions(spaces.Box(0, 255, (1, 36, 36), np.uint8), filters)
    assert [len(weights) for weights in extractor.parameters() if weights.ndim > 1] == [3, 2, 1]
    assert type(extractor.features_dim) is int


@pytest.mark.parametrize("filters", [(32, 64), (32, 0, 64), (32, 64, 6.4), 32, None, "abc", (True, True, True)])
def test_wrong_numbers_of_filters_are_refused(filters: Any) -> None:
    with pytest.raises(ValueError, match=rf"filters must be three whole numbers of at least 1, got {re.escape(str(filters))}"):
        NatureConvolutions(spaces.Box(0, 255, (1, 84, 84), np.uint8), filters)
    with pytest.raises(ValueError, match="filters must be three whole numbers"):
        CombinedConvolutions(spaces.Dict(speed=MIXED["speed"]), filters)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_each_image_is_standardised_by_its_own_pixels(n_channels: int) -> None:
    images = th.rand(4, n_channels, 84, 84, generator=th.Generator().manual_seed(0)) * th.tensor([1.0, 0.5, 0.1, 0.02]).view(
        4, 1, 1, 1
    )
    for image, standardized in zip(images.numpy().astype(np.float64), standardize(images).numpy(), strict=True):
        np.testing.assert_allclose(standardized, (image - image.mean()) / np.sqrt(image.var() + 1e-4), atol=1e-4)


def test_an_image_of_one_colour_becomes_zero() -> None:
    assert standardize(th.full((1, 1, 84, 84), 0.7)).abs().max() < 1e-4


def test_standardised_convolutions_do_not_see_brightness_and_contrast() -> None:
    th.manual_seed(0)
    space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    blind, seeing = NatureConvolutions(space, standardize=True), NatureConvolutions(space)
    seeing.load_state_dict(blind.state_dict())
    frames = th.rand(3, 1, 84, 84)
    th.testing.assert_close(blind(frames * 0.5 + 0.3), blind(frames), atol=1e-3, rtol=0)
    assert (seeing(frames * 0.5 + 0.3) - seeing(frames)).abs().max() > 0.01
    th.testing.assert_close(blind(frames), seeing.convolutions(standardize(frames)))


@pytest.mark.parametrize("n_channels", [1, 2])
def test_channels_last_is_what_the_convolutions_get(n_channels: int) -> None:
    extractor = NatureConvolutions(spaces.Box(0, 255, (n_channels, 84, 84), np.uint8))
    frames, got = th.rand(3, n_channels, 84, 84), []
    extractor.convolutions.register_forward_pre_hook(lambda _module, args: got.append(args[0]))
    for images in (frames, frames[:, :, ::2, 3:]):  # one that does not lie in one piece
        extractor(images)
        assert th.equal(got[-1], images) and got[-1].is_contiguous(memory_format=th.channels_last)
    assert (got[0].data_ptr() == frames.data_ptr()) == (n_channels == 1), "one channel needs no copy"


@pytest.mark.parametrize("n_channels", [1, 2])
def test_channels_last_gives_the_same_features_and_gradients(n_channels: int) -> None:
    th.manual_seed(0)
    extractor = NatureConvolutions(spaces.Box(0, 255, (n_channels, 84, 84), np.uint8))
    frames = th.rand(3, n_channels, 84, 84)
    fast, plain = extractor(frames), extractor.convolutions(frames)
    th.testing.assert_close(fast, plain)
    weighting, parameters = th.randn_like(plain), list(extractor.parameters())
    gradients = [th.autograd.grad((features * weighting).sum(), parameters) for features in (fast, plain)]
    for one, other in zip(*gradients, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 1e-5 * other.norm()


def some_of(space: spaces.Dict, n: int) -> dict[str, th.Tensor]:
    """What SB3's preprocessing makes of observations."""
    sizes = {key: get_flattened_obs_dim(part) for key, part in space.items()}
    return {key: th.rand(n, *(space[key].shape or (size,))) for key, size in sizes.items()}


@pytest.mark.parametrize("standardized", [False, True])
def test_images_beside_vectors_go_through_the_convolutions(standardized: bool) -> None:
    th.manual_seed(0)
    extractor = CombinedConvolutions(MIXED, filters=(3, 4, 5), standardize=standardized)
    observations = some_of(MIXED, 6)
    features = extractor(observations)
    convolved = {}
    for key in ("screen", "map"):
        space = MIXED[key]
        assert isinstance(space, spaces.Box)
        one = NatureConvolutions(space, (3, 4, 5), standardized)
        one.load_state_dict(extractor.extractors[key].state_dict())
        convolved[key] = one(observations[key])
    parts = (convolved["screen"], observations["speed"].flatten(1), convolved["map"], observations["room"])
    th.testing.assert_close(features, th.cat(parts, dim=1))
    assert features.shape == (6, extractor.features_dim)
    assert th.equal(extractor(extractor.prepare(observations), is_prepared=True), features)


def test_vectors_alone_are_what_sb3_makes_of_them() -> None:
    space = spaces.Dict({key: MIXED[key] for key in ("speed", "room")})
    ours, theirs, observations = CombinedConvolutions(space), CombinedExtractor(space), some_of(space, 3)
    assert th.equal(ours(observations), theirs(observations))
    assert ours.features_dim == theirs.features_dim and list(ours.parameters()) == []


def test_images_of_floats_are_images_if_told_so() -> None:
    space = spaces.Dict(screen=spaces.Box(0.0, 1.0, (1, 36, 36), np.float32))
    assert CombinedConvolutions(space).features_dim == 36 * 36
    assert CombinedConvolutions(space, (3, 4, 5), normalized_image=True).features_dim == 5


def test_an_image_too_small_for_the_convolutions_is_named() -> None:
    space = spaces.Dict(screen=spaces.Box(0, 255, (1, 36, 35), np.uint8))
    with pytest.raises(ValueError, match=r'images, .* of 36x36 or more, got "screen" of shape \(1, 36, 35\)'):
        CombinedConvolutions(space)
