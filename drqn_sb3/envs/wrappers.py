"""Wrappers for SlimeVolley: discrete actions, and Atari's preprocessing without drawing what nobody sees."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper, MaxAndSkipEnv, NoopResetEnv, StickyActionEnv
from stable_baselines3.common.type_aliases import AtariStepReturn

from drqn_sb3.envs.slimevolley import ACTION_TABLE, SlimeVolleyEnv


class DiscreteActions(gym.ActionWrapper[np.ndarray, np.int64, np.ndarray], gym.utils.RecordConstructorArgs):
    """
    Act on SlimeVolley's three buttons with one of the six sensible combinations of them.

    The actions are those of ``SlimeVolleyNoFrameskip-v0``: NOOP, LEFT, UPLEFT, UP, UPRIGHT, RIGHT.

    Example::

        env = DiscreteActions(gym.make("SlimeVolley-v0"))
        env.step(2)  # presses forward and jump

    :param env: a SlimeVolley environment whose actions are ``MultiBinary(3)``
    :raises ValueError: if its actions are something else
    """

    def __init__(self, env: gym.Env[np.ndarray, np.ndarray]) -> None:
        if env.action_space != spaces.MultiBinary(3):
            raise ValueError(f"env must act with MultiBinary(3), got {env.action_space}")
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ActionWrapper.__init__(self, env)
        self.action_space = spaces.Discrete(len(ACTION_TABLE))

    def action(self, action: np.int64) -> np.ndarray:
        """
        The buttons that an action presses.

        :param action: 0 to 5
        :return: forward, backward, jump: ``(3,)`` int8
        :raises ValueError: if the action is out of range
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action must be a whole number from 0 to 5, got {action!r}")
        buttons: np.ndarray = ACTION_TABLE[action]
        return buttons


class SkipUnseenFrames(MaxAndSkipEnv):
    """
    SB3's ``MaxAndSkipEnv`` for SlimeVolley: of the skipped frames only the last two, which it looks at, are drawn.

    Results are the same, bit for bit. What an episode ends on early is the maximum over older frames here too.

    :param env: a SlimeVolley environment that observes pixels; wrappers may lie between as long as they leave
        observations alone
    :param skip: how many frames an action is repeated for, 2 or more
    :raises ValueError: if the environment is another one, or a wrapper changes its observations, or ``skip`` is
        below 2
    """

    def __init__(self, env: gym.Env, skip: int = 4) -> None:
        base = env.unwrapped
        if not isinstance(base, SlimeVolleyEnv) or not base.from_pixels:
            raise ValueError(f"env must be a SlimeVolley environment that observes pixels, got {env}")
        if env.observation_space != base.observation_space or _changes_observations(env):
            raise ValueError(f"wrappers that change observations must come after this one, got {env}")
        if skip < 2:
            raise ValueError(f"skip must be 2 or more, got {skip}")
        super().__init__(env, skip=skip)
        self._base = base

    def step(self, action: int) -> AtariStepReturn:
        """
        Repeat an action, add the rewards up, take the maximum over the last two frames.

        :param action: the action
        :return: observation, reward, terminated, truncated, ``info`` of the last frame played
        """
        total_reward = 0.0
        terminated = truncated = False
        info: dict[str, Any] = {}
        try:
            for frames_left in reversed(range(self._skip)):
                self._base.draws_observations = frames_left < 2
                obs, reward, terminated, truncated, info = self.env.step(action)
                if frames_left < 2:
                    self._obs_buffer[1 - frames_left] = obs
                total_reward += float(reward)
                if terminated or truncated:
                    break
        finally:
            self._base.draws_observations = True
        return self._obs_buffer.max(axis=0), total_reward, terminated, truncated, info


def _changes_observations(env: gym.Env) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.ObservationWrapper):
            return True
        env = env.env
    return False


class SlimeVolleyAtariWrapper(AtariWrapper):
    """
    SB3's ``AtariWrapper`` for SlimeVolley, several times faster: frames that frame skip throws away are not drawn.

    Results are the same, bit for bit; the parts other than frame skip are SB3's.

    Example::

        env = SlimeVolleyAtariWrapper(gym.make("SlimeVolleyNoFrameskip-v0"))

    :param env: a SlimeVolley environment that observes pixels
    :param noop_max: most no-ops at the start of a match, 0 for none
    :param frame_skip: how many frames an action is repeated for, 1 for no repetition
    :param screen_size: height and width of the observation
    :param terminal_on_life_loss: end an episode whenever the learner loses a life
    :param clip_reward: replace a reward by its sign
    :param action_repeat_probability: how likely the previous action is repeated in a frame
    :raises ValueError: if the environment is another one, or an argument is out of range
    """

    def __init__(
        self,
        env: gym.Env,
        noop_max: int = 30,
        frame_skip: int = 4,
        screen_size: int = 84,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.0,
    ) -> None:
        _check_range("noop_max", noop_max, 0)
        _check_range("frame_skip", frame_skip, 1)
        _check_range("screen_size", screen_size, 1)
        _check_range("action_repeat_probability", action_repeat_probability, 0.0, 1.0)
        if action_repeat_probability > 0.0:
            env = StickyActionEnv(env, action_repeat_probability)
        if noop_max > 0:
            env = NoopResetEnv(env, noop_max=noop_max)
        if frame_skip > 1:
            env = SkipUnseenFrames(env, skip=frame_skip)
        # those three are in place: SB3's own are turned off
        super().__init__(
            env,
            noop_max=0,
            frame_skip=1,
            screen_size=screen_size,
            terminal_on_life_loss=terminal_on_life_loss,
            clip_reward=clip_reward,
            action_repeat_probability=0.0,
        )


def _check_range(name: str, value: float, lowest: float, highest: float = float("inf")) -> None:
    if not lowest <= value <= highest:
        bound = f"{lowest} or more" if highest == float("inf") else f"from {lowest} to {highest}"
        raise ValueError(f"{name} must be {bound}, got {value}")
