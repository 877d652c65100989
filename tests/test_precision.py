"""Which precision is chosen, and that a copy in another one follows its source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from toy_env import POLICIES, SPACES, ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.precision import WORTHWHILE_PARAMETERS, Replica, compute_dtype, has_fast_bfloat16

CPU = th.device("cpu")


def make_model(**kwargs: Any) -> DRQN:
    policy_kwargs = {"hidden_size": 8, **kwargs.pop("policy_kwargs", {})}
    name = kwargs.pop("space", "vector")
    policy = POLICIES.get(name, "MlpLstmPolicy")
    env = make_vec_env(lambda: ToyEnv(SPACES[name]), n_envs=2, seed=0)
    kwargs = {"seed": 1, **kwargs}
    return DRQN(policy, env, learning_starts=40, train_freq=2, policy_kwargs=policy_kwargs, **kwargs)


def test_bfloat16_is_fast_where_the_processor_has_instructions_for_it() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "avx2" not in flags:
        pytest.skip("Linux tells the instructions of x86 processors only")
    assert has_fast_bfloat16(CPU) == ("avx512_bf16" in flags)
    assert not has_fast_bfloat16(th.device("meta"))


@pytest.mark.parametrize(("hidden_size", "is_large"), [(8, False), (400, True)])
def test_left_to_itself_a_network_computes_in_bfloat16_if_large_and_on_a_fast_device(hidden_size: int, is_large: bool) -> None:
    q_net = make_model(policy_kwargs={"hidden_size": hidden_size}).q_net
    assert (sum(parameter.numel() for parameter in q_net.parameters()) >= WORTHWHILE_PARAMETERS) == is_large
    expected = th.bfloat16 if is_large and has_fast_bfloat16(CPU) else th.float32
    assert compute_dtype("auto", q_net) == expected
    assert compute_dtype("float32", q_net) == th.float32
    assert compute_dtype("bfloat16", q_net) == th.bfloat16


@pytest.mark.parametrize("is_fast", [True, False])
def test_the_device_decides_for_a_large_network(is_fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th.cpu, "_is_avx512_bf16_supported", lambda: is_fast)
    model = make_model(policy_kwargs={"hidden_size": 400})
    assert model.compute_precision == ("bfloat16" if is_fast else "float32")
    assert make_model(policy_kwargs={"hidden_size": 8}).compute_precision == "float32"


def test_weights_set_by_any_way_are_acted_with() -> None:
    model, other = make_model(precision="bfloat16"), make_model(seed=2, precision="bfloat16")
    for change in (
        lambda: model.policy.load_state_dict(other.policy.state_dict()),
        lambda: model.policy.load_from_vector(make_model(seed=3).policy.parameters_to_vector()),
    ):
        change()
        expected = [parameter.to(own.dtype) for parameter, own in own_parameters(model)]
        acting = model._learner.acting_network.parameters()
        assert all(th.equal(one, two) for one, two in zip(expected, acting, strict=True))


def own_parameters(model: DRQN) -> list[tuple[th.Tensor, th.Tensor]]:
    """The online network's weights, and those of its copy."""
    return list(zip(model.q_net.parameters(), model._learner.online.network.parameters(), strict=True))


def test_running_means_are_refused_in_bfloat16_and_never_chosen() -> None:
    q_net = make_model(policy_kwargs={"hidden_size": 400}).q_net
    q_net.encoder.append(th.nn.BatchNorm1d(64))
    assert compute_dtype("auto", q_net) == th.float32
    with pytest.raises(ValueError, match=r"precision=\"bfloat16\" needs a network without buffers.*encoder.2.running_mean"):
        compute_dtype("bfloat16", q_net)


@pytest.mark.parametrize("precision", ["half", "", None, 32])
def test_another_precision_is_refused(precision: Any) -> None:
    with pytest.raises(ValueError, match=r"precision must be one of \('auto', 'float32', 'bfloat16'\), got"):
        make_model(precision=precision)


def test_in_float32_the_replica_is_its_source() -> None:
    source = make_model().q_net
    replica = Replica(source, th.float32)
    assert replica.network is source


def test_all_but_the_head_and_the_states_is_in_bfloat16() -> None:
    source = make_model().q_net
    network = Replica(source, th.bfloat16).network
    dtypes = {name: parameter.dtype for name, parameter in network.named_parameters()}
    assert {name for name, dtype in dtypes.items() if dtype == th.float32} == {"head.0.weight", "head.0.bias"}
    assert {parameter.dtype for parameter in source.parameters()} == {th.float32}
    q_values, states = network(th.rand(2, 3), network.zero_states(2), th.ones(2, dtype=th.bool))
    assert {tensor.dtype for tensor in (q_values, *states)} == {th.float32}


def test_weights_go_one_way_and_gradients_the_other() -> None:
    source = make_model().q_net
    replica = Replica(source, th.bfloat16)
    for _ in range(2):
        with th.no_grad():
            for parameter in source.parameters():
                parameter.add_(th.rand_like(parameter))
        replica.pull_weights()
        for own, parameter in zip(replica.network.parameters(), source.parameters(), strict=True):
            assert th.equal(own, parameter.to(own.dtype))
            own.grad = th.rand_like(own)
        gradients = [own.grad for own in replica.network.parameters()]
        replica.push_gradients()
        for gradient, parameter in zip(gradients, source.parameters(), strict=True):
            assert parameter.grad is not None and gradient is not None and parameter.grad.dtype == th.float32
            assert th.equal(parameter.grad, gradient.float())
        replica.clear_gradients()
        assert all(own.grad is None for own in replica.network.parameters())


def weights_followed(model: DRQN) -> bool:
    pairs = ((model._learner.online, model.q_net), (model._learner.target, model.q_net_target))
    return all(
        th.equal(own, parameter.to(own.dtype))
        for replica, q_net in pairs
        for own, parameter in zip(replica.network.parameters(), q_net.parameters(), strict=True)
    )


def load_policy(model: DRQN) -> DRQN:
    model.policy.load_state_dict(make_model(seed=2).policy.state_dict())
    return model


CHANGES: dict[str, Callable[[DRQN], Any]] = {
    "learning": lambda model: model.learn(200),
    "learning with a moving target": lambda model: model.learn(200),
    "setting parameters": lambda model: model.set_parameters(make_model(seed=2).get_parameters()),
    "an update": lambda model: model.learn(60).train(3),
    "updates after loading the policy": lambda model: load_policy(model.learn(60)).train(2),
    "learning after loading the policy": lambda model: load_policy(model.learn(60)).learn(60, reset_num_timesteps=False),
}


@pytest.mark.parametrize("change", CHANGES, ids=CHANGES.keys())
def test_both_networks_follow(change: str) -> None:
    tau = 0.1 if "moving" in change else 1.0
    model = make_model(precision="bfloat16", target_update_interval=10, learning_rate=1e-2, tau=tau)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    assert weights_followed(model)
    with th.no_grad():
        next(model.q_net.parameters()).add_(1.0)
    assert not weights_followed(model)
    CHANGES[change](model)
    assert weights_followed(model)
    assert any(not th.equal(one, other) for one, other in zip(before, model.policy.parameters(), strict=True))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("space", SPACES)
def test_every_cell_and_space_learns_in_bfloat16(cell: str, space: str) -> None:
    policy_kwargs = {"recurrent_cell": cell, "n_recurrent_layers": 2, "dueling": True}
    stored = {"burn_in": 2, "initial_state": "stored", "batch_size": 4}
    model = make_model(space=space, precision="bfloat16", policy_kwargs=policy_kwargs, **stored)
    before = [parameter.clone() for parameter in model.q_net.parameters()]
    model.learn(80)
    assert all(th.isfinite(parameter).all() for parameter in model.q_net.parameters())
    assert any(not th.equal(one, other) for one, other in zip(before, model.q_net.parameters(), strict=True))


class FloatingExtractor(th.nn.Module):
    """Brings constants along in float32, as parts of one's own may."""

    def forward(self, value: th.Tensor) -> th.Tensor:
        return value * th.ones(value.shape[-1])


def test_parts_of_ones_own_may_compute_in_float32() -> None:
    model = make_model(precision="bfloat16")
    model.q_net.encoder.append(FloatingExtractor())
    model.q_net_target.encoder.append(FloatingExtractor())
    model._setup_model()
    model.learn(60)
    assert model._n_updates > 0
