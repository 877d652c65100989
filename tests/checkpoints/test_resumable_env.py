import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from drqn_sb3.checkpoints.env_state import get_env_state, set_env_state
from drqn_sb3.checkpoints.resumable_env import ResumableEnv
from drqn_sb3.envs import register_envs

register_envs()


def few_seconds(env: gym.Env) -> gym.Env:
    return ResumableEnv(env, seconds_after_sigterm=3)


def processes(wrapper: Any) -> SubprocVecEnv:
    env = make_vec_env("CartPole-v1", 2, seed=0, wrapper_class=wrapper, vec_env_cls=SubprocVecEnv)
    env.reset()
    assert isinstance(env, SubprocVecEnv)
    return env


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no SIGALRM")
def test_a_process_outlives_sigterm_for_a_while() -> None:
    env = processes(few_seconds)
    for process in env.processes:
        os.kill(process.pid, signal.SIGTERM)
    env.step(np.array([0, 1]))
    state = get_env_state(env)
    start = time.monotonic()
    for process in env.processes:
        process.join(timeout=20)
    assert [process.exitcode for process in env.processes] == [-signal.SIGALRM] * 2
    assert time.monotonic() - start < 15
    other = processes(ResumableEnv)
    set_env_state(other, state)
    other.close()


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no SIGALRM")
def test_a_process_that_got_sigterm_ends_at_once_when_closed_or_upon_another() -> None:
    env = processes(ResumableEnv)  # 30 seconds
    start = time.monotonic()
    for process in env.processes:
        os.kill(process.pid, signal.SIGTERM)
    env.step(np.array([0, 1]))  # the signals have been taken by then
    os.kill(env.processes[0].pid, signal.SIGTERM)
    env.processes[0].join(timeout=20)
    assert env.processes[0].exitcode == -signal.SIGTERM
    env.remotes[1].send(("close", None))
    env.processes[1].join(timeout=20)
    assert env.processes[1].exitcode == 0
    assert time.monotonic() - start < 15


OPEN = """
import signal, time
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from drqn_sb3.checkpoints import ResumableEnv, get_env_state

def make():
    return ResumableEnv(gym.make("CartPole-v1"))

if __name__ == "__main__":
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    env = SubprocVecEnv([make, make])
    env.reset()
"""
LEFT_OPEN = OPEN + '    print("left open", flush=True)\n'
TOLD = (
    OPEN
    + """
    print("ready", flush=True)
    while not told:
        time.sleep(0.01)
    env.step(np.array([0, 1]))
    print("saved", len(get_env_state(env)["envs"]), flush=True)
    env.close()
"""
)


def run(tmp_path: Path, source: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(source)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env, start_new_session=True)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no SIGALRM")
def test_a_script_that_leaves_its_environments_open_ends_at_once(tmp_path: Path) -> None:
    process = run(tmp_path, LEFT_OPEN)
    assert process.stdout is not None
    assert process.stdout.readline() == "left open\n"
    process.communicate(timeout=20)  # not the 30 seconds that workers would live on
    assert process.returncode == 0


POOL = """
import multiprocessing, os
import drqn_sb3
if __name__ == "__main__":
    pool = multiprocessing.get_context("forkserver").Pool(2)
    print("left open", pool.apply(os.getpid) > 0, flush=True)
"""


def test_processes_that_are_no_environments_are_left_alone(tmp_path: Path) -> None:
    """A pool whose processes are killed behind its back waits for them for ever."""
    process = run(tmp_path, POOL)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("left open True\n", 0)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no SIGALRM")
def test_the_state_can_be_saved_after_all_processes_of_a_job_got_sigterm(tmp_path: Path) -> None:
    process = run(tmp_path, TOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("saved 2\n", 0)


def test_the_main_process_answers_signals_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    ResumableEnv(gym.make("CartPole-v1"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_main_process_keeps_its_generators() -> None:
    env = ResumableEnv(gym.make("CartPole-v1"))
    env.reset(seed=0)
    state = env.get_run_state()
    assert "process" not in state
    expected = np.random.get_state()[1].copy()  # type: ignore[index]
    assert env.set_run_state({**state, "process": {}}) is None
    np.testing.assert_array_equal(np.random.get_state()[1], expected)  # type: ignore[index]


def test_what_is_wrong_is_told_not_raised() -> None:
    env, other = ResumableEnv(gym.make("CartPole-v1")), ResumableEnv(gym.make("Recall-v0"))
    assert "of other environments" in (env.set_run_state(other.get_run_state()) or "")
    env.unwrapped.oddity = {1, 2}  # type: ignore[attr-defined]
    assert env.get_run_state() == {
        "error": "CartPoleEnv.oddity is a builtins.set, which cannot be saved as plain data; "
        "give the class that holds it the methods get_state() and set_state(state)"
    }


def test_gymnasiums_checker_is_content_and_the_wrapper_can_be_made_again() -> None:
    env = ResumableEnv(gym.make("Recall-v0"), seconds_after_sigterm=5)
    check_env(env.unwrapped)
    assert env.spec is not None
    assert str(gym.make(env.spec)) == str(env)
    assert env.spec.additional_wrappers[-1].kwargs == {"seconds_after_sigterm": 5}


@pytest.mark.parametrize("seconds", [0, -1, 1.5, True, None])
def test_bad_seconds_are_named(seconds: Any) -> None:
    with pytest.raises(ValueError, match=f"seconds_after_sigterm must be a whole number, 1 or more, got {seconds!r}"):
        ResumableEnv(gym.make("CartPole-v1"), seconds_after_sigterm=seconds)


class Shows(gym.Env[Any, Any]):
    """Shows what it is given."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space, shown: Any) -> None:
        self.observation_space, self.shown = space, shown

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.shown, 0.0, False, False, {}


BYTES = spaces.Box(0, 255, (2,), np.uint8)
FLOATS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
BOTH = spaces.Dict(image=BYTES, more=spaces.Tuple([FLOATS, spaces.Discrete(4)]))


def both(image: Any = (0, 1), floats: Any = (0.5, 1.0), number: Any = 3) -> dict[str, Any]:
    return {"image": np.array(image), "more": (np.array(floats), number)}


GOOD: dict[str, tuple[spaces.Space, Any]] = {
    "same type": (BYTES, np.array([0, 255], np.uint8)),
    "wider type": (BYTES, np.array([0, 255], np.int64)),
    "whole numbers as floats": (BYTES, np.array([0.0, 255.0])),
    "list": (BYTES, [0, 255]),
    "booleans": (BYTES, np.array([True, False])),
    "float64": (FLOATS, np.array([0.1, 1e30])),
    "not finite": (FLOATS, np.array([np.nan, np.inf])),
    "numbers as floats": (FLOATS, np.array([1, 2**40])),
    "number": (spaces.Discrete(4), 3),
    "dict": (BOTH, both()),
    "buttons": (spaces.MultiBinary(2), np.array([0, 1], np.int64)),
    "text": (spaces.Text(5), "abc"),
}
BAD: dict[str, tuple[spaces.Space, Any, str]] = {
    "too large": (BYTES, np.array([0, 300]), r"of .*Shows must be Box\(0, 255, \(2,\), uint8\), got int64 .* 0 to 300"),
    "negative": (BYTES, np.array([-1, 0]), "got int64 values that it cannot hold, from -1 to 0"),
    "fraction": (BYTES, np.array([0.5, 0]), "got float64 values that it cannot hold, from 0.0 to 0.5"),
    "NaN": (BYTES, np.array([np.nan, 0]), "got float64 values that it cannot hold, from nan to nan"),
    "shape": (BYTES, np.zeros((1, 2), np.uint8), r"got shape \(1, 2\)"),
    "scalar": (BYTES, 0, r"got shape \(\)"),
    "too large for a float32": (FLOATS, np.array([1e300, 0]), "got float64 values that it cannot hold"),
    "complex": (FLOATS, np.array([1j, 0]), "got complex128 values that it cannot hold, such as"),
    "objects": (FLOATS, np.array([None, "x"], object), "got object values that it cannot hold, such as"),
    "in a dict": (BOTH, both(image=[0, 256]), r"the observation\['image'\] of .*Shows must be Box"),
    "in a tuple": (BOTH, both(floats=[0.0]), r"the observation\['more'\]\[0\] of .*got shape \(1,\)"),
    "number": (BOTH, both(number=1.5), r"the observation\['more'\]\[1\] of .*must be Discrete\(4\), got float64"),
    "key": (BOTH, {"image": [0, 1]}, r"must be a dict with \['image', 'more'\], got \['image'\]"),
    "no dict": (BOTH, np.zeros(2), r"must be a dict with \['image', 'more'\], got ndarray"),
    "no tuple": (BOTH, {"image": [0, 1], "more": 3}, r"\['more'\] of .* must be a tuple of 2, got int"),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_an_observation_that_the_space_can_hold_passes_unchanged(case: str) -> None:
    space, shown = GOOD[case]
    env = ResumableEnv(Shows(space, shown))
    assert env.reset(seed=1)[0] is shown
    assert env.step(0)[0] is shown


@pytest.mark.parametrize("case", BAD)
def test_an_observation_that_the_space_cannot_hold_is_named(case: str) -> None:
    space, shown, why = BAD[case]
    env = ResumableEnv(Shows(space, shown))
    with pytest.raises(ValueError, match=why):
        env.reset()
    with pytest.raises(ValueError, match=why):
        env.step(0)


def test_the_environment_is_named_by_its_id() -> None:
    env = gym.make("Recall-v0")
    env.unwrapped.observation_space = spaces.Box(0, 1, (4,))
    with pytest.raises(ValueError, match=r"the observation of Recall-v0 must be Box"):
        ResumableEnv(env).reset()
