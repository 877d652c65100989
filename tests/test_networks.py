"""The parts of a Q-network, and the network in another precision."""

import re
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from drqn_sb3.networks import DuelingHead, NatureConvolutions, RecurrentQNetwork, standardize

N_ACTIONS = 4
FRAMES = spaces.Box(0, 255, (2, 36, 36), np.uint8)


def make_q_net(normalize_images: bool = True) -> RecurrentQNetwork:
    extractor = NatureConvolutions(FRAMES)
    return RecurrentQNetwork(
        FRAMES,
        spaces.Discrete(N_ACTIONS),
        extractor,
        extractor.features_dim,
        encoder=[16],
        net_arch=[8],
        hidden_size=8,
        normalize_images=normalize_images,
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


def test_dueling_adds_centred_advantages_to_a_value() -> None:
    head = DuelingHead(8, N_ACTIONS, [5], nn.ReLU)
    features = th.randn(6, 2, 8)
    value, advantage = head.value(features), head.advantage(features)
    q_values = head(features)
    assert q_values.shape == (6, 2, N_ACTIONS)
    th.testing.assert_close(q_values.mean(dim=-1, keepdim=True), value)
    th.testing.assert_close(q_values - q_values.mean(dim=-1, keepdim=True), advantage - advantage.mean(dim=-1, keepdim=True))
    sizes = [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(8, 5), (5, 1), (8, 5), (5, N_ACTIONS)]


@pytest.mark.parametrize("dtype", [th.float32, th.bfloat16])
def test_images_are_scaled_unless_told_otherwise(dtype: th.dtype) -> None:
    frames = th.full((1, 2, 36, 36), 255, dtype=th.uint8)
    for q_net, expected in ((make_q_net(), 1.0), (make_q_net(normalize_images=False), 255.0)):
        if dtype != th.float32:
            q_net.lower_precision(dtype)
        seen: list[th.Tensor] = []
        q_net.features_extractor.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        q_net(frames, q_net.zero_states(1), th.ones(1, dtype=th.bool))
        assert (seen[0] == expected).all()


def test_pixels_are_exact_in_bfloat16() -> None:
    pixels = th.arange(256, dtype=th.uint8)
    assert th.equal(pixels.to(th.bfloat16).float(), pixels.float())


def test_a_lower_precision_leaves_head_and_states_alone() -> None:
    q_net = make_q_net().lower_precision(th.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in q_net.named_parameters()}
    assert {name.split(".")[0] for name, dtype in dtypes.items() if dtype == th.float32} == {"head"}
    assert {name.split(".")[0] for name, dtype in dtypes.items() if dtype == th.bfloat16} == {
        "features_extractor",
        "encoder",
        "cell",
    }
    frames = th.randint(0, 255, (2, 2, 36, 36), dtype=th.uint8)
    q_values, states = q_net(frames, q_net.zero_states(2), th.ones(2, dtype=th.bool))
    assert {tensor.dtype for tensor in (q_values, *states)} == {th.float32}


def test_vectors_may_be_of_any_kind_in_a_lower_precision() -> None:
    space = spaces.Box(-1, 1, (3,), np.float64)
    extractor = FlattenExtractor(space)
    q_net = RecurrentQNetwork(space, spaces.Discrete(2), extractor, 3, encoder=[], net_arch=[], hidden_size=4)
    q_net.lower_precision(th.bfloat16)
    q_values, _ = q_net(th.rand(5, 3, dtype=th.float64), q_net.zero_states(5), th.zeros(5, dtype=th.bool))
    assert q_values.shape == (5, 2)
