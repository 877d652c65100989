"""
SlimeVolley under Gymnasium.

The game's physics and the built-in opponent are slimevolleygym's, imported, not rewritten. What surrounds them is
Gymnasium's interface: seeding through ``reset``, won or lost matches apart from the time limit, pictures without a
screen, and no state shared between environments.
"""

import copy
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from drqn_sb3.envs import opponent, renderer, scene
from drqn_sb3.envs.quiet import import_quietly
from drqn_sb3.envs.viewer import Window

_original = import_quietly("slimevolleygym.slimevolley")

T_LIMIT = 3000
"""Steps after which a match is cut off."""

# what each of the six discrete actions presses, and its name in Atari's words
_BUTTONS = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1), (0, 1, 1), (0, 1, 0))
_MEANINGS = ("NOOP", "LEFT", "UPLEFT", "UP", "UPRIGHT", "RIGHT")

ACTION_TABLE = np.array(_BUTTONS, dtype=np.int8)
"""``(6, 3)``: the buttons (forward, backward, jump) that each discrete action presses. Not to be written to."""
ACTION_TABLE.flags.writeable = False

# where the opponent's network keeps what it has seen
_OPPONENT_MEMORY = ("inputState", "outputState", "prevOutputState")

_METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 50}


class SlimeVolleyEnv(gym.Env[np.ndarray, Any]):
    """
    A match of slime volleyball against the built-in opponent; the learner plays the right agent.

    Each side starts with five lives and loses one whenever the ball touches its ground; the match ends
    (``terminated``) when a side has none left, or is cut off (``truncated``) after 3000 steps. The reward is 1 for a
    point won, -1 for a point lost.

    Observations are 12 numbers (position and velocity of agent, ball and opponent, seen from the right, in tens of
    units; float32), or with ``from_pixels`` pictures of shape (84, 168, 3), uint8, equal to slimevolleygym's. Actions
    are the three buttons (forward, backward, jump), or with ``discrete_actions`` one of the six sensible combinations
    of them, in the order of ``get_action_meanings()``. ``info`` holds both sides' lives and states.

    ``reset(seed=s)`` starts the match that a fresh slimevolleygym environment starts after ``seed(s)``, and everything
    after it follows from the actions: the opponent's memory starts empty in every match.

    Source: https://github.com/hardmaru/slimevolleygym (the ids under which it is registered there are kept).

    :param from_pixels: observe pictures in place of the state
    :param discrete_actions: act with ``Discrete(6)`` in place of ``MultiBinary(3)``
    :param survival_bonus: add 0.01 to the reward of every step
    :param render_mode: ``None``, ``"rgb_array"`` (no screen needed) or ``"human"`` (a window, needs pygame)
    :raises ValueError: if ``render_mode`` is none of these
    """

    metadata = _METADATA

    def __init__(
        self,
        from_pixels: bool = False,
        discrete_actions: bool = False,
        survival_bonus: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f'render_mode must be None, "rgb_array" or "human", got {render_mode!r}')
        self.from_pixels = from_pixels
        self.discrete_actions = discrete_actions
        self.survival_bonus = survival_bonus
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(6) if discrete_actions else spaces.MultiBinary(3)
        if from_pixels:
            shape = (renderer.HEIGHT, renderer.WIDTH, 3)
            self.observation_space = spaces.Box(low=0, high=255, shape=shape, dtype=np.uint8)
        else:
            high = np.full(12, np.finfo(np.float32).max, dtype=np.float32)
            self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.draws_observations = True
        """Set to False while nobody looks: pixel observations are then blank and cost nothing. The match goes on."""
        self.tells_states = True
        """Set to False while nobody looks: of the steps only a match's last one then puts the states into ``info``."""
        self.opponent = _original.BaselinePolicy()
        # until the first reset only something to ask for lives; its draws come from nowhere else
        self.game = _original.Game(np_random=np.random.default_rng(0))
        self._renderer = renderer.PixelRenderer()
        self._t = 0
        self._was_reset = False
        self._window: Window | None = None
        self._is_shown = False

    @property
    def ale(self) -> Any:
        """The learner's agent, whose ``lives()`` SB3's ``EpisodicLifeEnv`` asks for under this name."""
        return self.game.agent_right

    def get_action_meanings(self) -> list[str]:
        """
        What the six discrete actions do.

        :return: their names in Atari's words, in the actions' order
        """
        return list(_MEANINGS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start a match.

        :param seed: determines the match, together with the actions; None goes on with the present generator
        :param options: ignored
        :return: the first observation and ``info``
        """
        super().reset(seed=seed)
        if seed is not None or not self._was_reset:
            self.game = _original.Game(np_random=self.np_random)
        self.game.np_random = self.np_random
        # a Game that has just been made has served a ball already: slimevolleygym serves twice then, and so does this
        self.game.reset()
        self.opponent.reset()
        self._t = 0
        self._was_reset = True
        self._on_new_frame()
        return self._observation(), self.lives() | self.states()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Play one frame.

        :param action: 0 to 5 with discrete actions, otherwise three numbers that are 0 or 1
        :return: observation, reward, terminated (a side has no lives left), truncated (the time is up before that),
            ``info``
        :raises ValueError: if the action is not one of these
        :raises gymnasium.error.ResetNeeded: before the first ``reset``
        """
        if not self._was_reset:
            raise ResetNeeded("call reset() before step()")
        buttons = self._buttons_of(action)
        game = self.game
        game.agent_left.setAction(opponent.act(self.opponent, game.agent_left.state))
        game.agent_right.setAction(buttons)
        reward = float(game.step())
        if self.survival_bonus:
            reward += 0.01
        self._t += 1
        terminated = game.agent_left.life <= 0 or game.agent_right.life <= 0
        truncated = self._t >= T_LIMIT and not terminated
        self._on_new_frame()
        info = self.lives()
        if self.tells_states or terminated or truncated:
            info.update(self.states())
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """
        Show the present frame.

        Of a pixel environment one sees the observation four times enlarged, of the others slimevolleygym's window.

        :return: RGB, ``(336, 672, 3)`` or ``(500, 1200, 3)`` uint8, if ``render_mode`` is ``"rgb_array"``
        """
        if self.render_mode == "rgb_array":
            return self._picture()
        if self.render_mode == "human":
            self._show()
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def lives(self) -> dict[str, Any]:
        """
        The part of ``info`` that every step has.

        :return: the lives left, of the learner (``ale.lives``) and of the opponent (``ale.otherLives``)
        """
        return {"ale.lives": self.game.agent_right.life, "ale.otherLives": self.game.agent_left.life}

    def states(self) -> dict[str, np.ndarray]:
        """
        The part of ``info`` that takes time to put together.

        :return: what the learner (``state``) and the opponent (``otherState``) see, ``(12,)`` float64 each
        """
        return {"state": self.game.agent_right.getObservation(), "otherState": self.game.agent_left.getObservation()}

    def get_state(self) -> dict[str, Any]:
        """
        Everything that the rest of the match depends on, random draws included.

        :return: a copy, for ``set_state`` of an environment made with the same arguments: nested dicts of numbers, strings,
            tuples and arrays, which can be pickled or written down in any other way
        """
        opponent_memory = {name: getattr(self.opponent, name).copy() for name in _OPPONENT_MEMORY}
        return {
            "game": _attributes(self.game),
            "opponent": opponent_memory,
            "np_random": copy.deepcopy(self.np_random.bit_generator.state),
            "t": self._t,
            "was_reset": self._was_reset,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Go on from where ``get_state`` was called.

        :param state: what it returned; it is not changed and can be used again
        :raises ValueError: if it is something else; the match is as it was then
        """
        if not isinstance(state, dict) or set(state) != {"game", "opponent", "np_random", "t", "was_reset"}:
            raise ValueError(f"state must be what get_state() returned, got {type(state).__name__}")
        if not _has_attributes(self.game, state["game"]) or set(state["opponent"]) != set(_OPPONENT_MEMORY):
            raise ValueError("state must be what get_state() returned, got one of another game")
        self.np_random.bit_generator.state = copy.deepcopy(state["np_random"])
        _set_attributes(self.game, state["game"])
        self.game.np_random = self.np_random
        for name in _OPPONENT_MEMORY:
            setattr(self.opponent, name, np.array(state["opponent"][name]))
        self._t = state["t"]
        self._was_reset = state["was_reset"]
        self._is_shown = False

    def _buttons_of(self, action: Any) -> Any:
        if self.discrete_actions:
            try:
                index = int(action)
                if index == action and 0 <= index < len(_BUTTONS):
                    return _BUTTONS[index]
            except (TypeError, ValueError):
                pass
            raise ValueError(f"action must be a whole number from 0 to 5, got {action!r}")
        try:
            forward, backward, jump = action
            if forward in (0, 1) and backward in (0, 1) and jump in (0, 1):
                return forward, backward, jump
        except (TypeError, ValueError):
            pass
        raise ValueError(f"action must be three numbers that are 0 or 1, got {action!r}")

    def _observation(self) -> np.ndarray:
        if not self.from_pixels:
            state: np.ndarray = self.game.agent_right.getObservation()
            return state.astype(np.float32)
        if self.draws_observations:
            return self._renderer.render(self.game)
        # Never twice the same array: Gymnasium's checker would take that for a mistake
        return np.zeros((renderer.HEIGHT, renderer.WIDTH, 3), dtype=np.uint8)

    def _picture(self) -> np.ndarray:
        if not self.from_pixels:
            return scene.draw_scene(self.game, scene.WINDOW_VIEW)
        size = (renderer.WIDTH * renderer.CELL, renderer.HEIGHT * renderer.CELL)
        return cv2.resize(self._renderer.render(self.game), size, interpolation=cv2.INTER_NEAREST)

    def _on_new_frame(self) -> None:
        self._is_shown = False
        if self.render_mode == "human":
            self._show()

    def _show(self) -> None:
        """Show a frame once, however often ``render`` is called: each showing waits for the frame's time."""
        if self._is_shown:
            return
        if self._window is None:
            self._window = Window("SlimeVolley", self.metadata["render_fps"])
        self._window.show(self._picture())
        self._is_shown = True


def _attributes(thing: Any) -> dict[str, Any]:
    """Take one of slimevolleygym's objects apart, and those that it is made of."""
    return {name: _attributes(value) if hasattr(value, "__dict__") else value for name, value in _state_of(thing).items()}


def _set_attributes(thing: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if isinstance(value, dict):
            _set_attributes(getattr(thing, name), value)
        else:
            setattr(thing, name, value)


def _has_attributes(thing: Any, attributes: Any) -> bool:
    present = _state_of(thing)
    if not isinstance(attributes, dict) or set(attributes) != set(present):
        return False
    parts = {name for name, value in present.items() if hasattr(value, "__dict__")}
    return all(isinstance(attributes[name], dict) == (name in parts) for name in present) and all(
        _has_attributes(present[name], attributes[name]) for name in parts
    )


def _state_of(thing: Any) -> dict[str, Any]:
    # Generators are shared: the environment's own is the game's
    return {name: value for name, value in vars(thing).items() if name != "np_random"}
