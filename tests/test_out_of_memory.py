"""Memory that runs out while acting, updating, or moving the buffer: what is advised, and that the error stays of its kind."""

import re
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from toy_env import ToyEnv

from drqn_sb3 import DRQN

TOO_MUCH = 2**60


def take_on_cpu() -> None:
    th.empty(TOO_MUCH, dtype=th.uint8)


def take_in_numpy() -> None:
    np.empty(TOO_MUCH, np.uint8)


def take_on_gpu() -> None:
    """What PyTorch raises where a GPU is too small."""
    raise th.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class GreedyExtractor(BaseFeaturesExtractor):
    """Takes too much memory, in updates or in acting."""

    def __init__(self, space: spaces.Box, take: Any, in_updates: bool) -> None:
        super().__init__(space, features_dim=3)
        self.take, self.in_updates = take, in_updates

    def forward(self, observations: th.Tensor) -> th.Tensor:
        if self.in_updates == th.is_grad_enabled():
            self.take()
        return observations


def make_model(take: Any = None, in_updates: bool = True, **kwargs: Any) -> DRQN:
    policy_kwargs: dict[str, Any] = {"hidden_size": 8}
    if take is not None:
        extractor_kwargs = {"take": take, "in_updates": in_updates}
        policy_kwargs |= {"features_extractor_class": GreedyExtractor, "features_extractor_kwargs": extractor_kwargs}
    kwargs = {"buffer_size": 600, "learning_starts": 20, "batch_size": 7, "policy_kwargs": policy_kwargs, **kwargs}
    return DRQN("MlpLstmPolicy", make_vec_env(ToyEnv, n_envs=2), **kwargs)


ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "cpu": (take_on_cpu, RuntimeError, "DefaultCPUAllocator"),
    "numpy": (take_in_numpy, MemoryError, "Unable to allocate"),
    "gpu": (take_on_gpu, th.OutOfMemoryError, "Tried to allocate 2.00 GiB"),
}


@pytest.mark.parametrize("in_updates", [True, False], ids=["updating", "acting"])
@pytest.mark.parametrize(("take", "kind", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_sizes_are_named_and_the_error_stays_of_its_kind(take: Any, kind: Any, words: str, in_updates: bool) -> None:
    with pytest.raises(kind, match="batch_size=7 windows of 11 observations") as caught:
        make_model(take, in_updates).learn(100)
    assert type(caught.value) is kind
    message = str(caught.value)
    for word in ("burn_in=0 + sequence_length=10 + n_steps=1", "buffer_size=600 observations", "n_envs=2", words):
        assert word in message
    assert caught.value.__cause__ is not None and words in str(caught.value.__cause__)
    assert "buffer_device" not in message  # it lies in the machine's memory already


def test_sizes_are_those_of_what_is_stored() -> None:
    class Large(ToyEnv):
        def __init__(self) -> None:
            super().__init__(spaces.Box(-1.0, 1.0, (2**18,), np.float32))

    model = DRQN("MlpLstmPolicy", Large(), buffer_size=64, batch_size=2, learning_starts=20, policy_kwargs={"hidden_size": 2})
    model.lr_schedule = lambda progress: take_in_numpy()  # type: ignore[assignment, return-value]
    with pytest.raises(MemoryError, match=re.escape("22.0 MiB before") + ".*" + re.escape("64 observations, 64.0 MiB")):
        model.learn(40)


def test_other_errors_are_left_as_they_are() -> None:
    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes cannot be multiplied$"):
        make_model(fail).learn(100)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_too_small_is_told_of() -> None:
    def take() -> None:
        th.empty(TOO_MUCH, dtype=th.uint8, device="cuda")

    with pytest.raises(th.OutOfMemoryError, match='or buffer_device="cpu"'):
        make_model(take, device="cuda", buffer_device="cuda", capture_graph=False).learn(100)
