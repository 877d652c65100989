"""Environments in processes of their own that die, raise or hang: what is said of them, and that nothing hangs then."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor, VecNormalize
from toy_env import ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.workers import WorkerWatch, find_subprocesses

N_ENVS, FAULTY, N_STEPS = 3, 1, 20


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leave() -> None:
    os._exit(3)


def fail() -> None:
    raise KeyError("a user's mistake")


def hang() -> None:
    time.sleep(600)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


STOPPED = """
import sys, time
sys.path[:0] = sys.argv[1:]
from functools import partial
from stable_baselines3.common.vec_env import SubprocVecEnv
from test_workers import FaultyEnv
from drqn_sb3.workers import WorkerWatch
if __name__ == "__main__":
    env = SubprocVecEnv([partial(FaultyEnv, partial(time.sleep, 2.0))])
    env.reset()
    with WorkerWatch(env, 3.0, lambda: 0):
        for step in range(20):
            if step == 19:
                print("a step of two seconds begins", flush=True)
            env.step([0])
    env.close()
    print("ended", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSTOP")
def test_a_job_that_was_suspended_has_not_hung() -> None:
    tests = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tests), str(tests.parent)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and "begins" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4.0)  # longer than an answer may take
    os.killpg(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == "ended\n"
    assert process.returncode == 0


class FaultyEnv(ToyEnv):
    """Has something happen in its 20th step, or in its first reset, after a while or at once."""

    def __init__(self, fault: Callable[[], Any], in_reset: bool = False) -> None:
        super().__init__()
        self.fault, self.in_reset = fault, in_reset
        self.n_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.in_reset:
            self.fault()
        return super().reset(seed=seed, options=options)

    def step(self, action: np.int64) -> Any:
        self.n_steps += 1
        if self.n_steps == N_STEPS:
            self.fault()
        return super().step(action)


def make_envs(fault: Callable[[], Any], start_method: str | None = None, **kwargs: Any) -> SubprocVecEnv:
    makers: list[Any] = [ToyEnv] * N_ENVS
    makers[FAULTY] = partial(FaultyEnv, fault, **kwargs)
    return SubprocVecEnv(makers, start_method=start_method)


def make_model(env: VecEnv, **kwargs: Any) -> DRQN:
    kwargs = {"buffer_size": 300, "learning_starts": 20, "step_timeout": 60.0, "seed": 0, **kwargs}
    return DRQN("MlpLstmPolicy", env, policy_kwargs={"hidden_size": 8}, **kwargs)


def assert_over(env: SubprocVecEnv) -> None:
    """See that all workers have ended, and that closing, as is done afterwards, neither fails nor waits."""
    assert not any(process.is_alive() for process in env.processes)
    begin = time.monotonic()
    env.close()
    assert time.monotonic() - begin < 1


DEATHS: dict[str, tuple[Callable[[], None], str]] = {
    "killed": (die, "was killed by SIGKILL: often the kernel, out of memory"),
    "terminated": (be_terminated, "was killed by SIGTERM"),
    "left": (leave, "ended with exit code 3: most likely an exception in the environment, whose traceback is on stderr"),
    "raised": (fail, "ended with exit code 1: most likely an exception in the environment, whose traceback is on stderr"),
}


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
@pytest.mark.parametrize(("fault", "cause"), DEATHS.values(), ids=DEATHS.keys())
def test_a_worker_that_dies_is_named_and_so_is_the_cause(fault: Callable[[], Any], cause: str, start_method: str) -> None:
    env = make_envs(fault, start_method)
    pid = env.processes[FAULTY].pid
    n_steps = N_ENVS * (N_STEPS - 1)
    message = f"1 of 3 environments died after {n_steps} steps: environment 1 (process {pid}) {cause}. The other"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}.*can be resumed"):
        make_model(env).learn(300)
    assert_over(env)


HANGS: dict[str, Callable[[], None]] = {"busy": hang, "stopped": stop}


@pytest.mark.parametrize("fault", HANGS.values(), ids=HANGS.keys())
def test_a_worker_that_hangs_is_named_and_ended(fault: Callable[[], Any]) -> None:
    env = make_envs(fault)
    begin = time.monotonic()
    message = r"^1 of 3 environments did not answer for 1.5 seconds \(step_timeout\) after 57 steps: environment 1\. If"
    with pytest.raises(TimeoutError, match=message):
        make_model(env, step_timeout=1.5).learn(300)
    assert 1.5 <= time.monotonic() - begin < 20
    assert_over(env)


@pytest.mark.parametrize(("fault", "error"), [(die, RuntimeError), (hang, TimeoutError)])
def test_the_first_reset_is_watched(fault: Callable[[], Any], error: type[Exception]) -> None:
    env = make_envs(fault, in_reset=True)
    with pytest.raises(error, match=r"after 0 steps: environment 1\b"):
        make_model(env, step_timeout=1.0).learn(300)
    assert_over(env)


class AtStep(BaseCallback):
    """Does something once."""

    def __init__(self, at: int, action: Callable[[], Any]) -> None:
        super().__init__()
        self.at, self.action = at, action

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at:
            self.action()
        return True


def kill(env: SubprocVecEnv, index: int) -> None:
    process = env.processes[index]
    process.kill()
    process.join()


def test_a_worker_that_dies_between_two_steps_is_named() -> None:
    env = make_envs(time.time)
    with pytest.raises(RuntimeError, match=r"died after 60 steps: environment 2 \(process"):
        make_model(env).learn(300, callback=AtStep(60, lambda: kill(env, 2)))
    assert_over(env)


def test_all_that_died_are_named() -> None:
    env = make_envs(time.time)

    def kill_both() -> None:
        kill(env, 0)
        kill(env, 2)

    with pytest.raises(RuntimeError, match=r"2 of 3 environments died after 60 steps: environment 0 .*; environment 2 "):
        make_model(env).learn(300, callback=AtStep(60, kill_both))
    assert_over(env)


def test_a_worker_that_died_before_learning_went_on_is_named() -> None:
    env = make_envs(time.time)
    model = make_model(env).learn(36)
    kill(env, 0)
    with pytest.raises(RuntimeError, match=r"died after 36 steps: environment 0 "):
        model.learn(30, reset_num_timesteps=False)
    assert_over(env)
    with pytest.raises(RuntimeError, match="env is closed: its processes have ended"):
        model.learn(30)


@pytest.mark.parametrize(("method", "argument"), [("env_method", "render"), ("get_attr", "max_length")])
def test_what_a_callback_asks_of_the_workers_is_watched(method: str, argument: str) -> None:
    env = make_envs(time.time)

    def ask() -> None:
        os.kill(env.processes[2].pid or 0, signal.SIGSTOP)
        getattr(env, method)(argument)

    with pytest.raises(TimeoutError, match="environment 2"):
        make_model(env, step_timeout=1.0).learn(300, callback=AtStep(60, ask))
    assert_over(env)


def test_updates_do_not_count_as_waiting() -> None:
    env = make_envs(time.time)
    model = make_model(env, step_timeout=0.5, train_freq=30)
    update = model._learner.update

    def slow_update(samples: Any) -> None:
        time.sleep(0.7)
        update(samples)

    model._learner.update = slow_update  # type: ignore[method-assign]
    model.learn(100)
    assert model._n_updates > 0
    env.close()


def test_without_a_timeout_slow_workers_are_waited_for_and_dead_ones_named() -> None:
    env = make_envs(partial(time.sleep, 1.0))
    model = make_model(env, step_timeout=None).learn(120)
    kill(env, 1)
    with pytest.raises(RuntimeError, match="environment 1"):
        model.learn(30, reset_num_timesteps=False)


def test_an_interruption_while_waiting_leaves_no_answers_behind() -> None:
    env = make_envs(partial(time.sleep, 2.0))
    model = make_model(env)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            model.learn(300)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert model.num_timesteps == 57
    model.learn(36)
    assert model.num_timesteps == 36
    env.close()


def test_an_interruption_that_the_workers_do_not_survive_leaves_nothing_that_hangs() -> None:
    """As of Ctrl-C in a terminal, which goes to the workers too."""
    env = make_envs(partial(time.sleep, 30.0))
    model = make_model(env)
    seen: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        seen.append(number)
        for process in env.processes:
            os.kill(process.pid or 0, signal.SIGINT)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            model.learn(300)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert len(seen) == 1
    assert_over(env)


@pytest.fixture
def workers() -> Iterator[SubprocVecEnv]:
    env = SubprocVecEnv([ToyEnv] * 2)
    yield env
    env.close()


def test_afterwards_the_environments_are_as_they_were(workers: SubprocVecEnv) -> None:
    remotes = workers.remotes
    with WorkerWatch(workers, 1.0, lambda: 0):
        assert workers.remotes is not remotes
        workers.reset()
        assert workers.get_attr("max_length") == [7, 7]
    assert workers.remotes is remotes
    workers.reset()


def test_workers_are_found_below_wrappers(workers: SubprocVecEnv) -> None:
    assert find_subprocesses(VecNormalize(VecMonitor(workers))) is workers
    assert find_subprocesses(VecMonitor(DummyVecEnv([lambda: Monitor(ToyEnv())]))) is None
    assert find_subprocesses(None) is None


def test_environments_of_another_kind_are_left_alone() -> None:
    env = DummyVecEnv([ToyEnv])
    with WorkerWatch(env, 1.0, lambda: 0):
        assert len(env.reset()) == 1


def test_watching_changes_nothing(workers: SubprocVecEnv) -> None:
    learned = [make_model(env).learn(100) for env in (DummyVecEnv([ToyEnv] * 2), workers)]
    for one, other in zip(*(model.q_net.parameters() for model in learned), strict=True):
        assert th.equal(one, other)
