"""The parts of a Q-network, and the network in another precision."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from drqn_sb3.extractors import NatureConvolutions
from drqn_sb3.networks import DuelingHead, RecurrentQNetwork

N_ACTIONS = 4
FRAMES = spaces.Box(0, 255, (2, 36, 36), np.uint8)


def make_q_net(normalize_images: bool = True, **kwargs: Any) -> RecurrentQNetwork:
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
        **kwargs,
    )


@pytest.mark.parametrize("dueling", [False, True])
def test_normalised_layers_have_mean_0_and_deviation_1_before_the_activation(dueling: bool) -> None:
    th.manual_seed(0)
    q_net = make_q_net(layer_norm=True, dueling=dueling)
    features, outputs = th.randn(5, q_net.features_extractor.features_dim), th.randn(5, 8)
    heads = [q_net.head.value, q_net.head.advantage] if isinstance(q_net.head, DuelingHead) else [q_net.head]
    for layers, given in ((q_net.encoder, features), *((head, outputs) for head in heads)):
        assert isinstance(layers, nn.Sequential) and isinstance(layers[0], nn.Linear)
        plain = given @ layers[0].weight.T + layers[0].bias
        mean, variance = plain.mean(1, keepdim=True), plain.var(1, unbiased=False, keepdim=True)
        hidden = ((plain - mean) / (variance + 1e-5).sqrt()).clamp(min=0)
        if layers is q_net.encoder:
            th.testing.assert_close(layers(given), hidden)
        else:
            assert isinstance(layers[-1], nn.Linear)
            th.testing.assert_close(layers(given), hidden @ layers[-1].weight.T + layers[-1].bias)


def test_layers_are_not_normalised_unless_asked_for() -> None:
    assert not any(isinstance(part, nn.LayerNorm) for part in make_q_net(dueling=True).modules())


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
