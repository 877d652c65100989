"""Working while environments step: in which order, and that what is learned does not depend on where they step."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from toy_env import ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.learner import Learner
from drqn_sb3.overlap import WorkWhileStepping
from drqn_sb3.type_aliases import SequenceSamples


def test_work_is_done_between_sending_actions_and_fetching_results() -> None:
    order = []

    class Recorder(DummyVecEnv):
        def step_async(self, actions: np.ndarray) -> None:
            order.append("send")
            super().step_async(actions)

        def step_wait(self) -> Any:
            order.append("fetch")
            return super().step_wait()

    env = WorkWhileStepping(Recorder([ToyEnv]), lambda: order.append("work"))
    env.reset()
    env.step(np.array([0]))
    env.step(np.array([1]))
    assert order == ["send", "work", "fetch"] * 2


class WaitingEnv(ToyEnv):
    """Steps once a file is there."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def step(self, action: np.int64) -> Any:
        give_up = time.monotonic() + 60
        while not self.file.exists():
            if time.monotonic() > give_up:
                raise TimeoutError("nobody worked while this environment stepped")
            time.sleep(0.001)
        return super().step(action)


def test_environments_in_processes_of_their_own_step_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "worked"
    env = WorkWhileStepping(SubprocVecEnv([partial(WaitingEnv, file)]), file.touch)
    try:
        env.reset()
        env.step(np.array([0]))
    finally:
        env.close()


def make_model(env: VecEnv, **kwargs: Any) -> DRQN:
    kwargs = {"train_freq": 3, "gradient_steps": 2, "learning_starts": 40, "batch_size": 8, "seed": 3, **kwargs}
    return DRQN("MlpLstmPolicy", env, policy_kwargs={"hidden_size": 8}, **kwargs)


@pytest.mark.parametrize("n_steps", [200, 201, 202], ids=["update at the end", "one step later", "two steps later"])
def test_what_is_learned_does_not_depend_on_where_environments_step(n_steps: int) -> None:
    learned = []
    for vec_env_cls in (DummyVecEnv, SubprocVecEnv):
        env = make_vec_env(ToyEnv, n_envs=2, seed=0, vec_env_cls=vec_env_cls)
        model = make_model(env).learn(2 * n_steps)
        learned.append([parameter.detach() for parameter in model.q_net.parameters()])
        env.close()
    for one, other in zip(*learned, strict=True):
        assert th.equal(one, other)


class Log(BaseCallback):
    """What an update came after."""

    def __init__(self, model: DRQN) -> None:
        super().__init__()
        self.events: list[str] = []
        self.n_updates = 0

    def _on_step(self) -> bool:
        self.note("step")
        return True

    def _on_training_end(self) -> None:
        self.note("end")

    def note(self, event: str) -> None:
        self.events += ["update"] * (self.model._n_updates - self.n_updates) + [event]
        self.n_updates = self.model._n_updates


def test_updates_are_made_in_the_next_step_and_none_is_left_at_the_end() -> None:
    model = make_model(make_vec_env(ToyEnv), learning_starts=18, gradient_steps=1)
    log = Log(model)
    model.learn(27, callback=log)
    # After the steps 21, 24 and 27 (every third, above 18) one is due: made before what step 22 gave is seen, and so on
    assert log.events == ["step"] * 21 + ["update", *["step"] * 3] * 2 + ["update", "end"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_dropout_is_off_while_acting_and_on_while_learning(precision: str) -> None:
    acting: set[bool] = set()
    learning: set[bool] = set()

    class Dropout(th.nn.Dropout):
        def forward(self, value: th.Tensor) -> th.Tensor:
            if th.is_inference_mode_enabled():
                acting.add(self.training)
            elif th.is_grad_enabled():
                learning.add(self.training)
            return super().forward(value)

    model = make_model(make_vec_env(ToyEnv), precision=precision)
    for q_net in (model.q_net, model.q_net_target):
        q_net.encoder.append(Dropout(0.5))
    model._learner = Learner(model.policy, model._learner.settings, model._learner.dtype)
    model.learn(30)
    assert (acting, learning) == ({False}, set())
    model.learn(120)
    assert (acting, learning) == ({False}, {True})


class InterruptedUpdateError(Exception):
    """What a user's Ctrl-C would be."""


def interrupt_once(model: DRQN, n_updates: int) -> None:
    """Have the next update but ``n_updates`` fail, and no other."""
    update, left = model._learner.update, [n_updates]

    def interrupted(samples: SequenceSamples) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise InterruptedUpdateError
        update(samples)

    model._learner.update = interrupted  # type: ignore[method-assign]


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_an_interrupted_update_leaves_everything_in_order(vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv]) -> None:
    env = make_vec_env(ToyEnv, n_envs=2, seed=0, vec_env_cls=vec_env_cls)
    model = make_model(env, gradient_steps=4)
    interrupt_once(model, 6)
    with pytest.raises(InterruptedUpdateError):
        model.learn(400)
    assert model._n_updates == 6
    assert model._due_updates == []
    n_steps = model.num_timesteps
    model.learn(60, reset_num_timesteps=False)
    assert model.num_timesteps == n_steps + 60
    assert model._n_updates == 6 + 4 * 10
    assert not model.q_net.training
    env.close()


def test_an_interruption_is_what_is_told_even_if_the_environments_fail_too() -> None:
    failed: list[int] = []

    class Failing(DummyVecEnv):
        def step_wait(self) -> Any:
            if model._n_updates == 6:
                failed.append(model.num_timesteps)
                raise KeyError("of the environment")
            return super().step_wait()

    model = make_model(Failing([ToyEnv]), gradient_steps=4, train_freq=1)
    interrupt_once(model, 6)
    with pytest.raises(InterruptedUpdateError):
        model.learn(400)
    assert failed == [model.num_timesteps]


def test_what_comes_is_checked_before_anybody_else_sees_it() -> None:
    checked = []
    env = WorkWhileStepping(DummyVecEnv([ToyEnv]), lambda: None, lambda *results: checked.append(results))
    env.reset()
    for n_steps in (1, 2, 3):
        results = env.step(np.array([0]))
        assert len(checked) == n_steps and checked[-1] == results


def test_updates_asked_for_by_a_callback_that_then_stops_are_made() -> None:
    class Stopper(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps < 60:
                return True
            assert isinstance(self.model, DRQN)
            self.model.train(5)
            return False

    model = make_model(make_vec_env(ToyEnv), learning_starts=50, train_freq=1000)
    model.learn(100, callback=Stopper())
    assert model._n_updates == 5


def test_the_model_keeps_the_environments_it_was_given() -> None:
    model = make_model(make_vec_env(ToyEnv))
    env = model.get_env()
    model.learn(60)
    assert model.get_env() is env and not isinstance(env, WorkWhileStepping)
