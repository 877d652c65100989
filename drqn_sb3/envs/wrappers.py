"""Wrappers for SlimeVolley: discrete actions, and Atari's preprocessing without drawing what nobody sees."""

from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import (
    AtariWrapper,
    ClipRewardEnv,
    EpisodicLifeEnv,
    MaxAndSkipEnv,
    NoopResetEnv,
    StickyActionEnv,
    WarpFrame,
)
from stable_baselines3.common.type_aliases import AtariStepReturn

from drqn_sb3.envs.renderer import HEIGHT, WIDTH
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
    Both sides' states are put into ``info`` once, after the last frame.

    :param env: a SlimeVolley environment that observes pixels; wrappers may lie between as long as they leave
        observations alone and do without the states that ``info`` holds, except those of a match's last frame
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
        self._older, self._newer = self._obs_buffer  # replaced, not written to: observations are never used again

    def step(self, action: int) -> AtariStepReturn:
        """
        Repeat an action, add the rewards up, take the maximum over the last two frames.

        :param action: the action
        :return: observation, reward, terminated, truncated, ``info`` of the last frame played
        """
        total_reward = 0.0
        terminated = truncated = False
        info: dict[str, Any] = {}
        base = self._base
        base.tells_states = False
        try:
            for frames_left in reversed(range(self._skip)):
                base.draws_observations = frames_left < 2
                obs, reward, terminated, truncated, info = self.env.step(action)
                if frames_left == 1:
                    self._older = obs
                elif frames_left == 0:
                    self._newer = obs
                total_reward += float(reward)
                if terminated or truncated:
                    break
        finally:
            base.draws_observations = base.tells_states = True
        info.update(base.states())
        return np.maximum(self._older, self._newer), total_reward, terminated, truncated, info


def _changes_observations(env: gym.Env) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.ObservationWrapper):
            return True
        env = env.env
    return False


class HalveFrame(WarpFrame):
    """
    SB3's ``WarpFrame`` for pictures of 84x168 that become 84x84, faster.

    OpenCV's area interpolation then takes the mean of two neighbours and rounds halves to even; whole-number arithmetic
    does so in half of the time.

    :param env: an environment that observes RGB pictures, ``(84, 168, 3)`` uint8
    :raises ValueError: if its observations are something else
    """

    def __init__(self, env: gym.Env) -> None:
        space = env.observation_space
        if space.shape != (HEIGHT, WIDTH, 3) or space.dtype != np.uint8:
            raise ValueError(f"env must observe pictures of {(HEIGHT, WIDTH, 3)} uint8, got {space}")
        super().__init__(env, width=WIDTH // 2, height=HEIGHT)

    def observation(self, frame: np.ndarray) -> np.ndarray:
        """
        Turn a picture grey and halve its width.

        :param frame: RGB, ``(84, 168, 3)`` uint8
        :return: ``(84, 84, 1)`` uint8
        """
        return halved(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))[:, :, None]


def halved(grey: np.ndarray) -> np.ndarray:
    """
    Halve the width of a grey picture.

    :param grey: ``(height, 2 * width)`` uint8, contiguous
    :return: ``(height, width)`` uint8: the means of two neighbours each, halves rounded to even
    """
    pairs = grey.view(np.uint16)
    total = (pairs & 255) + (pairs >> 8)
    total += (total >> 1) & 1  # 1.5 becomes 2 and 2.5 stays
    return (total >> 1).astype(np.uint8)


class SlimeVolleyAtariWrapper(AtariWrapper):
    """
    SB3's ``AtariWrapper`` for SlimeVolley, several times faster: frames that frame skip throws away are not drawn.

    Results are the same, bit for bit; the parts other than frame skip and picture are SB3's.

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
        if terminal_on_life_loss:
            env = EpisodicLifeEnv(env)
        has_room = env.observation_space.shape == (screen_size, 2 * screen_size, 3)
        env = HalveFrame(env) if has_room else WarpFrame(env, width=screen_size, height=screen_size)
        if clip_reward:
            env = ClipRewardEnv(env)
        # SB3's constructor would put its own wrappers around these
        gym.Wrapper.__init__(self, env)


def _check_range(name: str, value: float, lowest: float, highest: float = float("inf")) -> None:
    if not lowest <= value <= highest:
        bound = f"{lowest} or more" if highest == float("inf") else f"from {lowest} to {highest}"
        raise ValueError(f"{name} must be {bound}, got {value}")
