"""
How fast SlimeVolley's pixels come, beside slimevolleygym's own.

Three measurements, each of both, in turns: frames per second of the bare environment, agent steps per second under
Atari's preprocessing with frame skip 4, and agent steps per second as training sees them: eight environments, each with
a Monitor and that preprocessing, in a DummyVecEnv, channels first. Run with ``python -m eval.render_speed``.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from drqn_sb3.envs import SlimeVolleyAtariWrapper, SlimeVolleyEnv, import_quietly, register_envs
from eval.machine import describe_machine
from eval.throughput.cli import positive

FRAME_SKIP = 4
N_ENVS = 8

FRAMES = "frames/s"
STEPS = f"agent steps/s (frame skip {FRAME_SKIP})"
TRAINING = f"agent steps/s of {N_ENVS} envs"
FRAMES_PER_STEP = {FRAMES: 1, STEPS: FRAME_SKIP, TRAINING: FRAME_SKIP * N_ENVS}


class OriginalEnv(gym.Env[np.ndarray, Any]):
    """
    slimevolleygym's environment, as it is, with Gymnasium's interface and nothing else.

    Making one switches slimevolleygym's module globals to pixels, as making any of its pixel environments does.

    :param original: one of slimevolleygym's environments, its class
    """

    def __init__(self, original: type) -> None:
        self.original = original()
        self.observation_space = spaces.Box(0, 255, shape=(84, 168, 3), dtype=np.uint8)
        space = self.original.action_space
        self.action_space = spaces.Discrete(6) if hasattr(space, "n") and space.shape == () else spaces.MultiBinary(3)

    @property
    def ale(self) -> Any:
        """What knows the lives."""
        return self.original.ale

    def get_action_meanings(self) -> list[str]:
        """
        Names of the actions, in slimevolleygym's order.

        :return: the names
        """
        return list(self.original.get_action_meanings())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start a match; the opponent's memory is emptied, which slimevolleygym leaves out.

        :param seed: for slimevolleygym's ``seed()``
        :param options: ignored
        :return: observation and an empty ``info``
        """
        super().reset(seed=seed)
        if seed is not None:
            self.original.seed(seed)
        self.original.policy.reset()
        return self.original.reset(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Play one frame.

        :param action: handed on
        :return: as slimevolleygym returns it: every end counts as terminated
        """
        observation, reward, done, info = self.original.step(action)
        return observation, float(reward), done, False, info


def _play(env: gym.Env, n_steps: int, seed: int) -> float:
    """
    Steps per second over matches of random actions.

    :param env: the environment, which acts with ``Discrete(6)``
    :param n_steps: how many steps are timed
    :param seed: of environment and actions
    :return: steps per second, resets included
    """
    actions = np.random.default_rng(seed).integers(6, size=n_steps)
    env.reset(seed=seed)
    start = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return n_steps / (time.perf_counter() - start)


def _play_together(vec_env: VecEnv, n_steps: int, seed: int) -> float:
    """
    Steps per second, those of all environments counted, over matches of random actions.

    :param vec_env: the environments, which act with ``Discrete(6)``
    :param n_steps: how often all of them step
    :param seed: of environments and actions
    :return: steps per second, resets included
    """
    actions = np.random.default_rng(seed).integers(6, size=(n_steps, vec_env.num_envs))
    vec_env.seed(seed)
    vec_env.reset()
    start = time.perf_counter()
    for actions_t in actions:
        vec_env.step(actions_t)
    return n_steps * vec_env.num_envs / (time.perf_counter() - start)


def _makers() -> dict[str, dict[str, Callable[[], gym.Env | VecEnv]]]:
    """What is measured, and for whom: measurement -> implementation -> how to make the environment."""
    register_envs()
    original = import_quietly("slimevolleygym.slimevolley").SlimeVolleyAtariEnv
    kwargs: dict[str, Any] = {"frame_skip": FRAME_SKIP}

    def make_original() -> OriginalEnv:
        return OriginalEnv(original)

    def make_ours() -> SlimeVolleyEnv:
        return SlimeVolleyEnv(from_pixels=True, discrete_actions=True)

    def together(env_id: str | Callable[[], gym.Env], wrapper_class: Callable[..., gym.Env]) -> VecEnv:
        return VecTransposeImage(make_vec_env(env_id, N_ENVS, wrapper_class=wrapper_class, wrapper_kwargs=kwargs))

    return {
        FRAMES: {"original": make_original, "ours": make_ours},
        STEPS: {
            "original": lambda: AtariWrapper(make_original(), **kwargs),
            "ours": lambda: SlimeVolleyAtariWrapper(make_ours(), **kwargs),
        },
        TRAINING: {
            "original": lambda: together(make_original, AtariWrapper),
            "ours": lambda: together("SlimeVolleyNoFrameskip-v0", SlimeVolleyAtariWrapper),
        },
    }


def measure(n_frames: int, n_rounds: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """
    Measure the original and ours in turns, so that whatever else the machine does hits both.

    :param n_frames: frames that the games advance per measurement, all together
    :param n_rounds: measurements of each
    :param seed: of the first round; the following rounds count up from it
    :return: measurement -> "original" and "ours" -> one rate per round
    """
    makers = _makers()
    rates: dict[str, dict[str, list[float]]] = {what: {who: [] for who in whos} for what, whos in makers.items()}
    envs = {what: {who: make() for who, make in whos.items()} for what, whos in makers.items()}
    n_steps = {what: max(n_frames // FRAMES_PER_STEP[what], 1) for what in makers}
    n_done, n_total = 0, sum(map(len, makers.values())) * n_rounds
    for i in range(n_rounds):
        for what, whos in envs.items():
            for who, env in whos.items():
                print(f"\r{n_done}/{n_total} round {i + 1}: {who}, {what}".ljust(78), end="", file=sys.stderr)
                play: Callable[[Any, int, int], float] = _play_together if isinstance(env, VecEnv) else _play
                rates[what][who].append(play(env, n_steps[what], seed + i))
                n_done += 1
    print("\r" + " " * 78 + "\r", end="", file=sys.stderr, flush=True)
    return rates


def table(rates: dict[str, dict[str, list[float]]]) -> str:
    """
    Lay out what ``measure`` returned.

    :param rates: measurement -> "original" and "ours" -> rates
    :return: medians, their ratio, and the range of the rounds' ratios, one line per measurement
    """
    lines = [f"{'median':34}{'original':>10}{'ours':>10}{'ratio':>8}   ratios of the rounds"]
    for what, whos in rates.items():
        original, ours = statistics.median(whos["original"]), statistics.median(whos["ours"])
        ratios = [b / a for a, b in zip(whos["original"], whos["ours"], strict=True)]
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        lines.append(f"{what:34}{original:10.0f}{ours:10.0f}{ours / original:8.1f}   {spread}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """
    Measure and print the table.

    :param argv: command line arguments, by default the process's
    """
    parser = argparse.ArgumentParser(prog="python -m eval.render_speed", description=__doc__)
    parser.add_argument("--frames", type=positive, default=2000, help="frames per measurement (default: 2000)")
    parser.add_argument("--rounds", type=positive, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of environments and actions (default: 0)")
    args = parser.parse_args(argv)
    rates = measure(args.frames, args.rounds, args.seed)
    machine = describe_machine()
    where = f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}"
    print(f"{where}; {args.rounds} rounds of {args.frames} frames")
    print(table(rates))


if __name__ == "__main__":
    main()
