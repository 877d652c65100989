"""What several test files of the environments need: the original, and actions that lead to rallies."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from drqn_sb3.envs import import_quietly, register_envs

register_envs()

original = import_quietly("slimevolleygym.slimevolley")

PIXEL_IDS = ["SlimeVolleyPixel-v0", "SlimeVolleyNoFrameskip-v0", "SlimeVolleySurvivalNoFrameskip-v0"]
IDS = ["SlimeVolley-v0", *PIXEL_IDS]
ORIGINALS = {
    "SlimeVolley-v0": original.SlimeVolleyEnv,
    "SlimeVolleyPixel-v0": original.SlimeVolleyPixelEnv,
    "SlimeVolleyNoFrameskip-v0": original.SlimeVolleyAtariEnv,
    "SlimeVolleySurvivalNoFrameskip-v0": original.SlimeVolleySurvivalAtariEnv,
}
TABLE: list[list[int]] = original.SlimeVolleyEnv.action_table


def make(env_id: str, **kwargs: Any) -> Any:
    """Make an environment without Gymnasium's wrappers."""
    return gym.make(env_id, **kwargs).unwrapped


def random_actions(env: gym.Env, seed: int) -> Iterator[Any]:
    """Yield actions at random."""
    rng = np.random.default_rng(seed)
    while True:
        buttons = rng.integers(6)
        yield int(buttons) if env.action_space.shape == () else np.array(TABLE[buttons], dtype=np.int8)


def opponent_actions(env: Any) -> Iterator[Any]:
    """Yield what the built-in opponent would do on the learner's side: rallies of some length come of it."""
    policy = original.BaselinePolicy()
    while True:
        forward, backward, jump = policy.predict(env.game.agent_right.getObservation())
        buttons = [forward, backward, jump] if not (forward and backward) else [0, 0, jump]
        yield TABLE.index(buttons) if env.action_space.shape == () else np.array(buttons, dtype=np.int8)


def actions(env: Any, seed: int) -> Iterator[Any]:
    """Yield actions, at random for every second seed."""
    return random_actions(env, seed) if seed % 2 else opponent_actions(env)
