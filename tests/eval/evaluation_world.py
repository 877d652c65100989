"""What the tests of the evaluation share: a game with lives, an agent that plays by what it sees, environments."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from eval.evaluation.environments import EnvSpec

EPISODIC_LIFE = "stable_baselines3.common.atari_wrappers.EpisodicLifeEnv"
ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"
CLIP = "stable_baselines3.common.atari_wrappers.ClipRewardEnv"
SLIME_PIXELS = EnvSpec("SlimeVolleyNoFrameskip-v0", {}, ["drqn_sb3.envs.SlimeVolleyAtariWrapper"])
SLIME_NUMBERS = EnvSpec("SlimeVolley-v0", {}, ["drqn_sb3.envs.DiscreteActions", {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}])
CARTPOLE = EnvSpec("CartPole-v1", {}, [])


class Lives(gym.Env[np.ndarray, np.int64]):
    """
    Two lives, the first lost by chance, the second soon after: often in the very next step. A reward is the action taken.

    An observation is the number of the step and something drawn, both above zero.
    """

    def __init__(self, reward: float = 1.0) -> None:
        self.observation_space = spaces.Box(0.0, 100.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.reward = reward
        self.n_lives = 0
        self.ale = SimpleNamespace(lives=lambda: self.n_lives)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.n_lives = 0, 2
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.n_lives > 0, "the game is over"
        self.t += 1
        if self.np_random.random() < (0.2 if self.n_lives == 2 else 0.7):
            self.n_lives -= 1
        return self._observation(), self.reward * float(action), self.n_lives == 0, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.t + 1, self.np_random.uniform(1, 2)], np.float32)


gym.register("Lives-v0", entry_point=lambda **kwargs: Lives(**kwargs))


class BySight:
    """Acts by what it sees and by how many observations of the episode it has seen: the same on the same observations."""

    def __init__(self, observation_space: Any, action_space: Any, seed: int = 0) -> None:
        self.n_actions = int(action_space.n)

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        n = len(observation)
        assert episode_start is not None
        (counts,) = (np.zeros(n, int),) if state is None else state
        counts = np.where(episode_start, 0, counts) + 1
        sums = (observation.reshape(n, -1).astype(np.float64) * 100).sum(axis=1).astype(int)
        return (sums // 7 + counts // 5) % self.n_actions, (counts,)
