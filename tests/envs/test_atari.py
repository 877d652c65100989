"""AtariVecEnv beside the stock environments: ``gym.make``, ``Monitor``, ``AtariWrapper``, ``DummyVecEnv``."""

import gc
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
import yaml
from ale_py.env import AtariEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper, EpisodicLifeEnv, MaxAndSkipEnv, NoopResetEnv
from stable_baselines3.common.env_util import make_atari_env, make_vec_env, unwrap_wrapper
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack

from drqn_sb3 import DRQN
from drqn_sb3.envs import AtariVecEnv, native_atari
from drqn_sb3.zoo import hyperparams_file

PONG, BREAKOUT, FREEWAY = (f"{name}NoFrameskip-v4" for name in ("Pong", "Breakout", "Freeway"))
N_ENVS = 2
SHORT = {"max_num_frames_per_episode": 200}
THREADS = Path("/proc/self/task")


def play(venv: VecEnv, n_steps: int, reset_at: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Play at random, but always the same, and note all that is returned and shown."""
    actions = np.random.default_rng(0)
    n_actions = venv.get_attr("action_space")[0].n
    seen = [{"observations": venv.reset(), "reset_infos": list(venv.reset_infos)}]
    for count in range(n_steps):
        observations, rewards, dones, infos = venv.step(actions.integers(n_actions, size=venv.num_envs))
        assert isinstance(observations, np.ndarray)
        seen.append({"observations": observations, "rewards": rewards, "dones": dones, "infos": infos})
        if count in reset_at:
            venv.seed(count)
            seen[-1]["after reset"] = venv.reset()
        seen[-1]["reset_infos"] = list(venv.reset_infos)
    return seen


def play_with_noops(venv: DummyVecEnv, native: list[dict[str, Any]], n_steps: int, frame_skip: int) -> list[dict[str, Any]]:
    """Play in stock environments that make the no-ops which the native ones were seen to have made."""
    for index, env in enumerate(venv.envs):
        noops = unwrap_wrapper(env, NoopResetEnv)
        assert isinstance(noops, NoopResetEnv)
        is_first = [True] + [bool("episode" in step["infos"][index]) for step in native[1:-1]]
        lengths = [step["infos"][index]["episode_frame_number"] for step in native[1:]]
        before = frame_skip * (3 if "FIRE" in env.unwrapped.get_action_meanings() else 1)  # type: ignore[attr-defined]
        counts = iter([length - before for first, length in zip(is_first, lengths, strict=True) if first] + [1])
        stock_reset = noops.reset

        def reset(noops: NoopResetEnv = noops, counts: Any = counts, stock_reset: Any = stock_reset, **kwargs: Any) -> Any:
            noops.override_num_noops = next(counts)
            return stock_reset(**kwargs)

        noops.reset = reset  # type: ignore[method-assign]
    return play(venv, n_steps)


def assert_equal(native: list[dict[str, Any]], stock: list[dict[str, Any]], frame_skip: int = 4) -> None:
    """Compare all of it: bit for bit, but for wall-clock times and the last picture of a game that is over."""
    for count, (ours, theirs) in enumerate(zip(native, stock, strict=True)):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"infos", "reset_infos"}:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{name}, step {count}", strict=True)
        for info in theirs["reset_infos"]:
            info.pop("seeds", None)
        assert ours["reset_infos"] == theirs["reset_infos"]
        for index in range(N_ENVS if count else 0):
            our_info, their_info = dict(ours["infos"][index]), dict(theirs["infos"][index])
            final, their_final = (info.pop("terminal_observation", None) for info in (our_info, their_info))
            for info in (our_info, their_info):
                if "episode" in info:
                    info["episode"] = {**info["episode"], "t": 0}
            assert our_info == their_info
            if final is None or not shows_the_end_only_in_stock(native, count, index, frame_skip):
                np.testing.assert_array_equal(final, their_final, strict=True)


def shows_the_end_only_in_stock(native: list[dict[str, Any]], count: int, index: int, frame_skip: int) -> bool:
    """Tell whether a game ended on one of the last two frames of a step's ``frame_skip``."""
    info = native[count]["infos"][index]
    if "episode" not in info or info["TimeLimit.truncated"]:
        return False
    before = native[count - 1]["infos"][index]["episode_frame_number"]
    return bool(info["episode_frame_number"] - before >= frame_skip - 1)


# The native emulators drop the sign of a seed. This one, and the next, make seeds that have none.
SEED_WITHOUT_SIGN = 15

# Game, arguments of AtariWrapper, of the environment, steps
SIDE_BY_SIDE: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "Pong, without lives, a whole game": (PONG, {"frame_skip": 12}, {}, 350),
    "Breakout, with lives and FIRE": (BREAKOUT, {}, {}, 280),
    "Ms. Pac-Man, with lives, ghosts that flicker and no FIRE": ("MsPacmanNoFrameskip-v4", {}, {}, 450),
    "Space Invaders, which flickers": ("SpaceInvadersNoFrameskip-v4", {"noop_max": 1}, {}, 60),
    "Freeway, without lives and FIRE, truncated": (FREEWAY, {"noop_max": 0}, {"max_num_frames_per_episode": 200}, 70),
    "Breakout, truncated": (BREAKOUT, {"noop_max": 0}, {"max_num_frames_per_episode": 400}, 110),
    "games, not lives": (BREAKOUT, {"terminal_on_life_loss": False}, {}, 140),
    "unclipped rewards": ("MsPacmanNoFrameskip-v4", {"clip_reward": False}, {}, 100),
    "other sizes": (BREAKOUT, {"frame_skip": 3, "screen_size": 64}, {}, 50),
    "no frame skip": (BREAKOUT, {"frame_skip": 1}, {}, 80),
    "a larger screen": ("CarnivalNoFrameskip-v4", {}, {}, 40),
    "another id": ("ALE/Pong-v5", {}, {"frameskip": 1, "repeat_action_probability": 0.0}, 40),
    "all 18 actions": (BREAKOUT, {}, {"full_action_space": True}, 40),
}


@pytest.mark.parametrize(("game", "kwargs", "env_kwargs", "n_steps"), SIDE_BY_SIDE.values(), ids=SIDE_BY_SIDE.keys())
def test_all_is_as_in_the_stock_environments(
    game: str, kwargs: dict[str, Any], env_kwargs: dict[str, Any], n_steps: int
) -> None:
    frame_skip = kwargs.get("frame_skip", 4)
    native_env = AtariVecEnv(game, N_ENVS, seed=3, env_kwargs=env_kwargs, **kwargs)
    native = play(native_env, n_steps)
    assert kwargs.get("clip_reward", True) == all(abs(step["rewards"]).max() <= 1 for step in native[1:])
    stock_env = make_atari_env(game, N_ENVS, seed=3, env_kwargs=env_kwargs, wrapper_kwargs=kwargs)
    assert isinstance(stock_env, DummyVecEnv)
    assert native_env.observation_space == stock_env.observation_space
    assert native_env.action_space == stock_env.action_space
    assert native_env.action_space.sample() == stock_env.action_space.sample()
    assert native_env.metadata == stock_env.metadata
    if kwargs.get("noop_max") == 0:
        assert_equal(native, play(stock_env, n_steps), frame_skip)
    else:
        assert_equal(native, play_with_noops(stock_env, native, n_steps, frame_skip), frame_skip)
    native_env.close()


@pytest.mark.parametrize("terminal_on_life_loss", [False, True])
def test_a_reset_amid_a_game_is_as_in_the_stock_environments(terminal_on_life_loss: bool) -> None:
    kwargs: dict[str, Any] = {"noop_max": 0, "terminal_on_life_loss": terminal_on_life_loss}
    resets = [0, 1, 40, 41, 110]
    native = play(AtariVecEnv(BREAKOUT, N_ENVS, seed=0, **kwargs), 120, resets)
    stock = play(make_atari_env(BREAKOUT, N_ENVS, seed=0, wrapper_kwargs=kwargs), 120, resets)
    assert_equal(native, stock)


def test_actions_repeated_by_the_emulator_are_those_of_the_stock_environment() -> None:
    game, seed = "BreakoutNoFrameskip-v0", SEED_WITHOUT_SIGN
    native = play(AtariVecEnv(game, N_ENVS, seed=seed, noop_max=0), 200)
    assert_equal(native, play(make_atari_env(game, N_ENVS, seed=seed, wrapper_kwargs={"noop_max": 0}), 200))


def test_a_game_that_ends_on_the_last_frame_but_one_shows_the_step_before() -> None:
    native = play(AtariVecEnv("QbertNoFrameskip-v4", N_ENVS, seed=0), 300)
    lengths = [[info["episode_frame_number"] for info in step["infos"]] for step in native[1:]]
    ends = [(count, index) for count in range(2, 301) for index in range(N_ENVS) if "episode" in native[count]["infos"][index]]
    (count, index) = next((count, i) for count, i in ends if lengths[count - 1][i] - lengths[count - 2][i] == 3)
    info = native[count]["infos"][index]
    assert info["lives"] == 0 and not info["TimeLimit.truncated"]
    np.testing.assert_array_equal(info["terminal_observation"], native[count - 1]["observations"][index])


@pytest.mark.parametrize("limit", [101, 102, 103])
def test_a_truncation_within_a_step_comes_at_its_end(limit: int) -> None:
    env_kwargs = {"max_num_frames_per_episode": limit}
    native = play(AtariVecEnv(FREEWAY, N_ENVS, seed=0, noop_max=0, env_kwargs=env_kwargs), 40)
    stock = play(make_atari_env(FREEWAY, N_ENVS, seed=0, wrapper_kwargs={"noop_max": 0}, env_kwargs=env_kwargs), 40)
    (ends,) = np.nonzero([step["dones"].any() for step in native[1:]])
    assert list(ends) == [25]
    for ours, theirs in zip(native[1:], stock[1:], strict=True):
        np.testing.assert_array_equal(ours["observations"], theirs["observations"])
        np.testing.assert_array_equal(ours["dones"], theirs["dones"])
    for ours, theirs in zip(native[26]["infos"], stock[26]["infos"], strict=True):
        assert ours["TimeLimit.truncated"] and theirs["TimeLimit.truncated"]
        assert ours["episode"]["l"] == theirs["episode"]["l"] == limit
        assert ours["frame_number"] == theirs["frame_number"]


def test_from_1_to_noop_max_no_ops_are_made_each_number_as_often() -> None:
    env = AtariVecEnv(FREEWAY, 2, seed=0, noop_max=3, terminal_on_life_loss=False)
    counts = []
    for _ in range(30):
        env.reset()
        counts += [info["episode_frame_number"] for info in env.reset_infos]
    frequencies = np.bincount(counts)
    assert len(frequencies) == 4 and frequencies[0] == 0
    assert frequencies[1:].min() > 7  # of 60, 20 each expected: 3.5 standard deviations


def test_a_seed_decides_everything_and_the_number_of_threads_nothing() -> None:
    runs = [
        play(AtariVecEnv(BREAKOUT, N_ENVS, seed=seed, num_threads=threads, action_repeat_probability=0.25), 60)
        for seed, threads in ((0, None), (0, 1), (5, None))
    ]
    assert_equal(runs[0], runs[1])
    assert any(
        not np.array_equal(ours["observations"], other["observations"]) for ours, other in zip(runs[0], runs[2], strict=True)
    )
    first, second = (step[0] for step in (runs[0][60]["observations"], runs[0][60]["observations"][::-1]))
    assert not np.array_equal(first, second), "each game has a seed of its own"


def test_a_reset_ends_a_step_that_nobody_waits_for() -> None:
    env, other = (AtariVecEnv(PONG, N_ENVS, seed=0, terminal_on_life_loss=False, noop_max=0) for _ in range(2))
    env.reset()
    env.step_async(np.ones(N_ENVS, int))
    np.testing.assert_array_equal(env.reset(), other.reset())


# --- what SB3 asks of a VecEnv ---


@pytest.fixture(scope="module")
def pong() -> AtariVecEnv:
    """Games that tests go on with, wherever the last one has left them."""
    return AtariVecEnv(PONG, N_ENVS, seed=0, terminal_on_life_loss=False)


def test_what_was_returned_does_not_change_later(pong: AtariVecEnv) -> None:
    returned = [pong.reset()]
    copies = [returned[0].copy()]
    for _ in range(3):
        returned.append(np.asarray(pong.step(np.full(N_ENVS, 2))[0]))
        copies.append(returned[-1].copy())
    np.testing.assert_array_equal(returned, copies)


def seconds_of_other_threads() -> float:
    """Tell how long all threads but this one have used the processor."""
    return time.process_time() - time.thread_time()


def test_games_run_between_step_async_and_step_wait(pong: AtariVecEnv) -> None:
    pong.reset()
    before = seconds_of_other_threads()
    pong.step_async(np.zeros(N_ENVS, int))
    give_up = time.perf_counter() + 10
    while seconds_of_other_threads() - before < 0.0003 and time.perf_counter() < give_up:
        time.sleep(0.01)
    assert seconds_of_other_threads() - before >= 0.0003  # two steps take longer
    assert pong.step_wait()[1].shape == (N_ENVS,)


@pytest.mark.skipif(not THREADS.exists(), reason="native threads are counted in Linux's /proc")
@pytest.mark.parametrize("ending", ["close()", "nobody's any more"])
def test_no_thread_is_left_even_amid_a_step(ending: str) -> None:
    gc.collect()
    n_before = len(list(THREADS.iterdir()))
    env = AtariVecEnv(PONG, N_ENVS, seed=0)
    env.reset()
    assert len(list(THREADS.iterdir())) > n_before
    env.step_async(np.zeros(N_ENVS, int))
    if ending == "close()":
        env.close()
    else:
        del env
        gc.collect()
    assert len(list(THREADS.iterdir())) == n_before


def test_after_an_interruption_no_step_is_mixed_up_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    env = AtariVecEnv(PONG, N_ENVS, seed=0)
    env.reset()
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(env, "_warp", interrupt)
        env.step(np.zeros(N_ENVS, int))
    for call in (env.reset, lambda: env.step(np.zeros(N_ENVS, int))):
        with pytest.raises(RuntimeError, match=r"closed, by .* because a step was interrupted: make another"):
            call()


def test_the_picture_is_what_the_observation_is_made_of(pong: AtariVecEnv) -> None:
    observations = pong.reset()
    pictures = pong.get_images()
    for picture, observation in zip(pictures, observations, strict=True):
        grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (84, 84), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(grey, observation[:, :, 0])
    tiles = pong.render()
    assert tiles is not None and tiles.shape == (420, 160, 3)
    np.testing.assert_array_equal(tiles[:210, :160], pictures[0])


def test_a_window_shows_every_step() -> None:
    env = AtariVecEnv(PONG, 1, seed=0, env_kwargs={"render_mode": "human"})
    env.reset()
    started = time.perf_counter()
    for _ in range(4):
        env.step(np.array([0]))
        assert env.render("human") is None
    assert time.perf_counter() - started > 3 * 4 / 60, "as fast as the console, for people to follow"
    env.close()


def test_sb3_takes_it_for_monitored_and_wrapped(pong: AtariVecEnv) -> None:
    env = pong
    assert env.env_is_wrapped(Monitor) == env.env_is_wrapped(AtariWrapper) == env.env_is_wrapped(MaxAndSkipEnv) == [True] * 2
    assert env.env_is_wrapped(EpisodicLifeEnv, indices=0) == [False]
    assert env.get_attr("render_mode") == ["rgb_array"] * 2
    assert env.get_attr("spec", indices=[1])[0].id == PONG
    assert env.env_method("get_action_meanings", indices=0)[0][:2] == ["NOOP", "FIRE"]
    assert env.has_attr("action_space") and not env.has_attr("ale")


def test_an_agent_learns_and_is_evaluated_on_whole_games() -> None:
    kwargs: dict[str, Any] = {"policy_kwargs": {"hidden_size": 8}, "buffer_size": 200, "learning_starts": 30, "batch_size": 2}
    model = DRQN("CnnLstmPolicy", AtariVecEnv(BREAKOUT, N_ENVS, seed=0), sequence_length=4, seed=0, **kwargs)
    model.learn(60)
    env = AtariVecEnv(BREAKOUT, 1, seed=0, env_kwargs={"max_num_frames_per_episode": 300})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, lengths = evaluate_policy(model, env, n_eval_episodes=2, return_episode_rewards=True)
    assert lengths == [300, 300]  # frames: Monitor's, of whole games


def test_monitor_files_hold_whole_games(tmp_path: Path) -> None:
    env = AtariVecEnv(BREAKOUT, N_ENVS, seed=0, monitor_dir=str(tmp_path))
    games = [info["episode"] for step in play(env, 200)[1:] for info in step["infos"] if "episode" in info]
    env.close()
    env.close()
    assert {path.name for path in tmp_path.iterdir()} == {"0.monitor.csv", "1.monitor.csv"}
    assert f'"env_id": "{BREAKOUT}"' in (tmp_path / "0.monitor.csv").read_text()
    rows = load_results(str(tmp_path))
    assert sorted(zip(rows["r"], rows["l"], strict=True)) == sorted((game["r"], game["l"]) for game in games)
    assert len(games) == 2


REFUSALS = {
    "attribute": (lambda env: env.get_attr("ale"), AttributeError, "no attribute 'ale', only spec, "),
    "setting": (lambda env: env.set_attr("lives", 3), AttributeError, "no attribute that can be set, such as 'lives'"),
    "method": (lambda env: env.env_method("clone_state"), AttributeError, "no method 'clone_state'"),
    "too few actions": (lambda env: env.step(np.array([0])), ValueError, "actions must be 2 whole numbers, got"),
    "fractions": (lambda env: env.step(np.array([0.0, 1.0])), ValueError, "actions must be 2 whole numbers, got"),
    "unknown action": (lambda env: env.step(np.array([0, 6])), ValueError, r"actions must be from 0 to 5, got \[0 6\]"),
    "negative action": (lambda env: env.step(np.array([-1, 0])), ValueError, "actions must be from 0 to 5"),
    "waiting for nothing": (lambda env: env.step_wait(), RuntimeError, "step_wait must come after step_async"),
    "two steps at once": (
        lambda env: [env.step_async(np.array([0, 0])) for _ in range(2)],
        RuntimeError,
        "step_async must come after",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_cannot_be_done_is_refused(pong: AtariVecEnv, call: Any, error: type[Exception], message: str) -> None:
    pong.reset()
    with pytest.raises(error, match=message):
        call(pong)


def test_the_first_thing_is_a_reset_and_the_last_close() -> None:
    env = AtariVecEnv(PONG, 1)
    with pytest.raises(RuntimeError, match="step_async must come after reset"):
        env.step(np.array([0]))
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="the environment is closed"):
        env.reset()


V5 = "ALE/Pong-v5"
BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown game": ({"env_id": "PingNoFrameskip-v4"}, ValueError, "env_id must name an Atari game .* got 'PingNo"),
    "no Atari game": ({"env_id": "CartPole-v1"}, ValueError, "env_id must name an Atari game .* got 'CartPole-v1'"),
    "frames skipped twice": ({"env_id": V5}, ValueError, r"frameskip must be 1, .* ALE/Pong-v5 has 4: give env_kwargs="),
    "random frame skip": ({"env_id": "Pong-v4"}, ValueError, r"frameskip must be 1, .* Pong-v4 has \(2, 5\)"),
    "FIRE elsewhere": (
        {"env_id": "ALE/Backgammon-v5", "env_kwargs": {"frameskip": 1}},
        ValueError,
        "env_id must name a game whose action 1 is FIRE",
    ),
    "mode": ({"env_kwargs": {"mode": 1}}, ValueError, "mode must be None in native environments, got 1: use AtariWrapper"),
    "RAM": ({"env_kwargs": {"obs_type": "ram"}}, ValueError, "obs_type must be 'rgb' in native environments, got 'ram'"),
    "two repeats": (
        {"env_id": V5, "env_kwargs": {"frameskip": 1}, "action_repeat_probability": 0.1},
        ValueError,
        "action_repeat_probability must be 0 where the environment repeats actions itself, with probability 0.25, got 0.1",
    ),
    "no probability": ({"action_repeat_probability": 1.5}, ValueError, "action_repeat_probability must be from 0 to 1"),
    "no environment": ({"n_envs": 0}, ValueError, "n_envs must be at least 1, got 0"),
    "half an environment": ({"n_envs": 0.5}, TypeError, "n_envs must be an integer, got 0.5"),
    "no frame": ({"frame_skip": 0}, ValueError, "frame_skip must be at least 1, got 0"),
    "no screen": ({"screen_size": 0}, ValueError, "screen_size must be at least 1, got 0"),
    "fewer than no no-ops": ({"noop_max": -1}, ValueError, "noop_max must be at least 0, got -1"),
    "no thread": ({"num_threads": 0}, ValueError, "num_threads must be at least 1, got 0"),
    "negative seed": ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    "render mode": ({"env_kwargs": {"render_mode": "ansi"}}, ValueError, "render_mode must be .* got 'ansi'"),
}


@pytest.mark.parametrize(("kwargs", "error", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_named(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AtariVecEnv(**{"env_id": PONG, **kwargs})


# --- native_atari, for the zoo ---


def make_pong(**kwargs: Any) -> gym.Env:
    """Make the game as the zoo does."""
    return gym.make(PONG, **kwargs)


def test_native_atari_takes_over_seeds_and_monitor_files(tmp_path: Path) -> None:
    venv = make_vec_env(make_pong, N_ENVS, seed=4, monitor_dir=str(tmp_path), env_kwargs=SHORT)
    native = native_atari(venv, noop_max=5, num_threads=1)
    other = AtariVecEnv(PONG, N_ENVS, seed=4, noop_max=5, env_kwargs=SHORT)
    assert native.action_space.sample() == other.action_space.sample()
    assert_equal(play(native, 100), play(other, 100))
    native.close()
    assert list(load_results(str(tmp_path))["l"]) == [200] * 4
    assert {path.name for path in tmp_path.iterdir()} == {"0.monitor.csv", "1.monitor.csv"}


def test_native_atari_replaces_worker_processes() -> None:
    native = native_atari(make_vec_env(make_pong, 1, seed=4, vec_env_cls=SubprocVecEnv), noop_max=5)
    ours, other = (play(venv, 20) for venv in (native, AtariVecEnv(PONG, 1, seed=4, noop_max=5)))
    np.testing.assert_array_equal([step["observations"] for step in ours], [step["observations"] for step in other])


def test_native_atari_keeps_the_arguments_of_the_game() -> None:
    native = native_atari(make_vec_env(make_pong, env_kwargs={"full_action_space": True, "max_num_frames_per_episode": 100}))
    assert native.action_space == gym.spaces.Discrete(18)
    assert [step["dones"][0] for step in play(native, 30)[1:]].count(True) == 1


def refused(tmp_path: Path, case: str) -> VecEnv:
    if case == "an env_wrapper":
        return make_vec_env(make_pong, wrapper_class=AtariWrapper)
    if case == "a vec_env_wrapper before":
        return VecFrameStack(make_vec_env(make_pong, wrapper_class=AtariWrapper), 2)
    if case == "no gym.make":
        return make_vec_env(lambda: AtariEnv("pong"))
    if case == "info_keywords":
        return make_vec_env(make_pong, monitor_kwargs={"info_keywords": ("lives",)})
    return make_vec_env(make_pong, monitor_dir=str(tmp_path), vec_env_cls=SubprocVecEnv)


NOT_REPLACED = {
    "no gym.make": "needs environments that gym.make has made",
    "an env_wrapper": "must be given no env_wrapper .*got .*'AtariWrapper'",
    "a vec_env_wrapper before": "must be the first vec_env_wrapper, got environments in VecFrameStack",
    "info_keywords": r"knows no info_keywords of Monitor, got \('lives',\)",
    "monitor files of workers": "cannot take over the monitor files of a SubprocVecEnv: use a DummyVecEnv",
}


@pytest.mark.parametrize(("case", "message"), NOT_REPLACED.items(), ids=NOT_REPLACED.keys())
def test_native_atari_drops_nothing_silently(case: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        native_atari(refused(tmp_path, case))


def test_the_preset_is_the_shipped_entry_in_native_threads() -> None:
    shipped, preset = (
        yaml.safe_load(hyperparams_file(name).read_text())["atari"] for name in ("drqn.yml", "presets/native_atari_drqn.yml")
    )
    assert shipped.pop("env_wrapper") == ["stable_baselines3.common.atari_wrappers.AtariWrapper"]
    assert preset.pop("vec_env_wrapper") == ["drqn_sb3.envs.native_atari"]
    assert preset == shipped


ONE_AFTER_ANOTHER = """
import json, runpy, sys
for script, *args in json.loads(sys.argv[1]):
    sys.argv = [script, *args]
    runpy.run_module(f"rl_zoo3.{script}", run_name="__main__")
"""


def zoo(folder: Path, *calls: Sequence[str]) -> None:
    """Run scripts of the zoo on the game in ``folder``, which have to succeed; one process, as importing it all takes long."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    lines = json.dumps([(script, "--env", PONG, *args) for script, *args in calls])
    command = (sys.executable, "-c", ONE_AFTER_ANOTHER, lines)
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NATIVE = ("env_wrapper:None", "vec_env_wrapper:'drqn_sb3.envs.native_atari'")
PRESET = ("--conf-file", str(hyperparams_file("presets/native_atari_drqn.yml")))


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "config", "params"), [("drqn", PRESET, ()), ("dqn", (), NATIVE)])
def test_the_zoo_trains_shows_and_records(algo: str, config: tuple[str, ...], params: tuple[str, ...], tmp_path: Path) -> None:
    small = ("n_envs:2", "buffer_size:500", "learning_starts:100", "batch_size:2")
    short = ("--env-kwargs", "max_num_frames_per_episode:400", "-n", "200", "--eval-freq", "100", "--eval-episodes", "1")
    of_run = ("--algo", algo, "-f", "logs")
    zoo(
        tmp_path,
        ("train", "--algo", algo, *config, *short, "-params", *small, *params),
        ("enjoy", *of_run, "-n", "10"),  # opens a window
        ("record_video", *of_run, "-n", "10", "--n-envs", "2", "-o", "videos"),
    )
    run = tmp_path / "logs" / algo / f"{PONG}_1"
    assert list(load_results(str(run))["l"]) == [400, 400]
    assert np.load(run / "evaluations.npz")["ep_lengths"].tolist() == [[400], [400]]
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000
