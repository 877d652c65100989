"""A network that diverges is noticed before its weights are spoilt, or before they are written somewhere."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from toy_env import ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.finite import NotFiniteError, find_spoilt


class Divergent(ToyEnv):
    """Gives rewards that are finite, until they are squared."""

    def __init__(self, reward: float = 3e38) -> None:
        super().__init__()
        self.reward = reward
        self.n_steps = 0

    def step(self, action: np.int64) -> Any:
        observation, reward, *rest = super().step(action)
        self.n_steps += 1
        return observation, self.reward if self.n_steps > 50 else reward, *rest


def make_model(env: Any = None, **kwargs: Any) -> DRQN:
    kwargs = {"buffer_size": 300, "learning_starts": 20, "batch_size": 8, "seed": 0, "train_freq": 1, **kwargs}
    return DRQN("MlpLstmPolicy", env or make_vec_env(ToyEnv), policy_kwargs={"hidden_size": 8}, **kwargs)


def weights(model: DRQN) -> list[th.Tensor]:
    return [parameter.detach().clone() for parameter in model.policy.parameters()]


PATHS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "sequential": {"replay": "sequential"},
    "without clipping": {"max_grad_norm": float("inf")},
}


@pytest.mark.parametrize("kwargs", PATHS.values(), ids=PATHS.keys())
def test_a_loss_that_is_not_finite_leaves_the_weights_of_the_last_good_update(kwargs: dict[str, Any]) -> None:
    model = make_model(Divergent(), n_steps=3, gamma=1.0, **kwargs)
    seen: list[list[th.Tensor]] = []
    step = model.policy.optimizer.step

    def noted_step(*args: Any) -> Any:
        result = step(*args)
        seen.append(weights(model))
        return result

    model.policy.optimizer.step = noted_step  # type: ignore[assignment, method-assign]
    with pytest.raises(NotFiniteError) as caught:
        model.learn(200)
    n_updates = len(seen)
    assert 20 < n_updates == model._n_updates
    message = str(caught.value)
    assert message.startswith(f"update {n_updates + 1}: the ") and "the weights are those of the update before" in message
    assert "learning_rate" in message and "rewards" in message
    for one, other in zip(weights(model), seen[-1], strict=True):
        assert th.equal(one, other) and bool(one.isfinite().all())
    model._learner.check_finite()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_told_of(value: float) -> None:
    model = make_model()
    model.learn(40)
    before = weights(model)
    next(model.q_net.parameters()).register_hook(lambda gradient: th.full_like(gradient, value))
    with pytest.raises(NotFiniteError, match=f"^update {model._n_updates + 1}: the norm of the gradients is {value}"):
        model.train(1, 8)
    assert all(th.equal(one, other) for one, other in zip(before, weights(model), strict=True))


def test_learning_can_go_on_after_an_update_that_was_not_made() -> None:
    model = make_model()
    model.learn(40)
    handle = next(model.q_net.parameters()).register_hook(lambda gradient: gradient * th.nan)
    with pytest.raises(NotFiniteError):
        model.learn(40)
    handle.remove()
    model.learn(40)
    model._learner.check_finite()


SPOILT = ["q_net.cell", "q_net_target.head", "optimizer.exp_avg["]


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_networks_that_are_spoilt_are_not_fit_for_a_checkpoint(name: str, value: float) -> None:
    model = make_model()
    model.learn(40)
    model._learner.check_finite()
    with th.no_grad():
        if name.startswith("optimizer"):
            state = next(iter(model.policy.optimizer.state.values()))
            state["exp_avg"].view(-1)[0] = value
        else:
            part = model.policy.get_submodule(name)
            next(part.parameters()).view(-1)[-1] = value
    message = (
        f"^update {model._n_updates}: {name.replace('[', '.')}.* has NaN or infinity in it. .* resume from the last checkpoint"
    )
    with pytest.raises(NotFiniteError, match=message):
        model._learner.check_finite()


def test_what_was_summed_on_a_device_is_looked_at_when_it_is_read() -> None:
    model = make_model()
    model.learn(40)
    model._learner.read_statistics()
    model.train(1, 8)
    # As a captured update leaves it
    model._learner._sums["loss"].fill_(th.nan)
    with pytest.raises(NotFiniteError, match=r"loss, summed over the updates since the last log, is nan\. The weights"):
        model._learner.check_finite()
    model.set_logger(Logger(None, []))
    with pytest.raises(NotFiniteError, match="loss, a mean over the updates since the last log, is nan"):
        model.dump_logs()
    model._learner.check_finite()


def test_a_model_that_has_not_learned_is_fit_for_a_checkpoint() -> None:
    model = make_model()
    model._learner.check_finite()
    assert find_spoilt(model.policy, model.policy.optimizer) is None


def test_nothing_but_numbers_is_looked_at() -> None:
    assert find_spoilt(th.nn.ReLU(), th.optim.SGD([th.zeros(1, requires_grad=True)])) is None


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("capture_graph", [True, False])
def test_on_a_gpu_it_is_noticed_before_a_checkpoint_and_in_the_log(capture_graph: bool) -> None:
    model = make_model(Divergent(), n_steps=3, gamma=1.0, device="cuda", capture_graph=capture_graph)
    with pytest.raises(NotFiniteError, match="resume from the last checkpoint"):
        model.learn(400, log_interval=10)
    with pytest.raises(NotFiniteError, match="resume from the last checkpoint"):
        model._learner.check_finite()
