"""Atari games for SB3, emulated by native threads, with the observations of SB3's ``AtariWrapper``."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn, tile_images

from drqn_sb3.envs.atari_arguments import check_sizes, has_fire, native_seed, repeat_probability, stock_env
from drqn_sb3.envs.emulators import GamePool
from drqn_sb3.envs.games import Game, Plan, Rules, Step
from drqn_sb3.envs.viewer import Window

_ATTRIBUTES = ("spec", "metadata", "render_mode", "observation_space", "action_space")
_FRAMES_PER_SECOND = 60
_ZOOM = 3  # of a screen of 160 x 210 pixels, in a window


class AtariVecEnv(VecEnv):
    """
    Atari games for SB3, emulated by ale_py's native environments in threads of their own::

        env = AtariVecEnv("PongNoFrameskip-v4", n_envs=16, seed=0)

    It takes the place of ``make_atari_env("PongNoFrameskip-v4", n_envs=16, seed=0)``, and returns what that returns:
    observations (bit for bit), rewards, ends of episodes, final observations and infos, those of ``Monitor`` (whole games,
    unclipped) included. ``step_async`` sets the games going and returns at once; until ``step_wait`` they run beside
    whatever else the process does.

    Emulation, frame skip and the maximum over two frames happen natively, in colour. Grey and 84x84 are made here, by the
    OpenCV calls of ``WarpFrame`` (0.1 ms of a step's 0.4), for ale_py would take the maximum of grey frames: Pong would
    differ by up to 16 grey levels, Ms. Pac-Man by up to 43. The rules of ``NoopResetEnv``, ``EpisodicLifeEnv`` and
    ``FireResetEnv`` are followed here too: the native environment has others.

    What differs from the stock environments:

    - The number of no-ops is drawn with the same probabilities by another generator, as are actions repeated because of
      ``action_repeat_probability``. The games have no other randomness.
    - The final observation of a game that is over (terminated), if it ended on the last or last but one of the frames that
      are skipped: the stock observation shows these, this one the frames before. No agent bootstraps from it. A lost life
      looks as in the stock environments.
    - A game is truncated at the first step that ends at ``max_num_frames_per_episode`` (108,000) or beyond. Where that is
      beyond, the stock game stops within the step, up to ``frame_skip - 1`` frames earlier, and so does not show, or reward,
      what happens in these. The length is reported as the limit in either.
    - Points that a game gives during the no-ops do not count in ``info["episode"]["r"]``: Skiing and Entombed do so.
    - ``render`` shows the colour picture that the observation is made of, so that nothing flickers.
    - There are no Python environments within: ``get_attr`` knows ``spec``, ``metadata``, ``render_mode`` and the spaces,
      ``env_method`` knows ``get_action_meanings``, and ``set_attr`` nothing.

    A call of :meth:`reset` amid a game does what it does in the stock environments: with ``terminal_on_life_loss``, a no-op
    step in the running game, and a seed takes no effect then.

    :param env_id: a game without frame skip, ``PongNoFrameskip-v4`` or its like; or any of ale_py's ids with
        ``env_kwargs={"frameskip": 1}``
    :param n_envs: number of games
    :param seed: of the first reset, one more for each game; ``None`` draws one from NumPy's global generator
    :param noop_max: frames without an action after a reset, 1 at least; 0 for none
    :param frame_skip: frames per step
    :param screen_size: height and width of the observations, ``(n_envs, screen_size, screen_size, 1)`` uint8
    :param terminal_on_life_loss: whether the loss of a life ends an episode
    :param clip_reward: whether rewards are replaced by their sign
    :param action_repeat_probability: that a frame repeats the action of the frame before
    :param env_kwargs: of ale_py's ``AtariEnv``; ``render_mode`` is ``"rgb_array"`` unless given
    :param monitor_dir: where ``Monitor``'s files ``0.monitor.csv``, ``1.monitor.csv``, ... are written; ``None`` for none
    :param num_threads: how many games run at once at most; ``None``: all, as far as there are cores. With fewer than
        ``n_envs``, only so many games make their step between ``step_async`` and ``step_wait``; the others wait for the latter
    :param override_existing: whether ``Monitor``'s files are begun anew, or appended to
    :raises TypeError: if an argument has the wrong type
    :raises ValueError: if a value is out of bounds, or the game or one of ``env_kwargs`` cannot be had natively
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int = 1,
        seed: int | None = None,
        *,
        noop_max: int = 30,
        frame_skip: int = 4,
        screen_size: int = 84,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.0,
        env_kwargs: dict[str, Any] | None = None,
        monitor_dir: str | None = None,
        num_threads: int | None = None,
        override_existing: bool = True,
    ) -> None:
        check_sizes(n_envs=n_envs, frame_skip=frame_skip, screen_size=screen_size, noop_max=noop_max)
        check_sizes(seed=seed, num_threads=num_threads)
        env_kwargs = {"render_mode": "rgb_array", **(env_kwargs or {})}
        stock, kwargs = stock_env(env_id, env_kwargs)
        self._meanings = stock.get_action_meanings()
        max_frames = kwargs.get("max_num_frames_per_episode") or np.inf
        rules = Rules(noop_max > 0, has_fire(self._meanings, env_id), terminal_on_life_loss, max_frames)
        height, width = stock.ale.getScreenDims()
        self._pool = GamePool(
            kwargs["game"],
            n_envs,
            picture_shape=(height, width),
            frame_skip=frame_skip,
            noop_max=noop_max,
            repeat_action_probability=repeat_probability(action_repeat_probability, kwargs["repeat_action_probability"]),
            full_action_space=kwargs.get("full_action_space", False),
            num_threads=num_threads,
        )
        self.spec, self.render_mode = stock.spec, env_kwargs["render_mode"]
        observation_space = spaces.Box(0, 255, (screen_size, screen_size, 1), np.uint8)
        super().__init__(n_envs, observation_space, stock.action_space)
        self.metadata = stock.metadata
        self._clip_reward = clip_reward
        self._wrappers = _wrappers_followed(rules, frame_skip, clip_reward, action_repeat_probability)
        self._games = _make_games(rules, n_envs, monitor_dir, env_id, override_existing)
        self._plans: list[Plan] = []
        self._was_reset = self._is_closed = False
        self._grey = np.empty((height, width), np.uint8)
        self._pictures = [np.zeros((height, width, 3), np.uint8)] * n_envs
        self._observations = np.zeros((n_envs, *observation_space.shape), np.uint8)
        self._window = Window(env_id, _FRAMES_PER_SECOND / frame_skip) if self.render_mode == "human" else None
        self.action_space.seed(seed)
        self.seed(seed)

    # --- VecEnv ---

    def reset(self) -> np.ndarray:
        """
        Reset the games; where only a life was lost, go on with the game, as the stock environments do.

        :return: observations, ``(n_envs, screen_size, screen_size, 1)``
        """
        if self._plans:
            self._finish()  # what step_async began
        for index, (game, seed) in enumerate(zip(self._games, self._seeds, strict=True)):
            if seed is not None and game.was_real_done:
                self._pool.seed(index, native_seed(seed))
        self._begin([self._reset(index) for index in range(self.num_envs)])
        self._finish()
        self._was_reset = True
        self._reset_seeds()
        self._reset_options()
        return self._observations

    def step_async(self, actions: np.ndarray) -> None:
        """
        Set the games going.

        :param actions: ``(n_envs,)``, whole numbers
        :raises ValueError: if the actions are not such, or not actions of the game
        :raises RuntimeError: before the first reset, after :meth:`close`, or if the last step has not been waited for
        """
        if self._plans or not self._was_reset:
            raise RuntimeError("step_async must come after reset() or step_wait()")
        actions, n_actions = np.asarray(actions), len(self._meanings)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(f"actions must be {self.num_envs} whole numbers, got {actions!r}")
        if actions.min() < 0 or actions.max() >= n_actions:
            raise ValueError(f"actions must be from 0 to {n_actions - 1}, got {actions}")
        self._begin([self._step(index, action) for index, action in enumerate(actions.tolist())])

    def step_wait(self) -> VecEnvStepReturn:
        """
        Wait for the games.

        :return: observations ``(n_envs, screen_size, screen_size, 1)`` uint8, rewards ``(n_envs,)`` float32, whether the
            episodes have ended ``(n_envs,)`` bool, infos
        :raises RuntimeError: if no step has been begun
        """
        if not self._plans:
            raise RuntimeError("step_wait must come after step_async()")
        steps = self._finish()
        rewards = np.array([step.reward for step in steps], np.float32)
        dones = np.array([step.is_done for step in steps])
        infos = [step.info for step in steps]
        return self._observations, np.sign(rewards) if self._clip_reward else rewards, dones, infos

    def close(self) -> None:
        """End the games' threads and close the monitor files and the window. Closing twice is harmless."""
        self._is_closed = True
        self._plans = []
        self._pool.close()
        for game in self._games:
            game.close()
        if self._window is not None:
            self._window.close()

    def get_images(self) -> Sequence[np.ndarray]:
        """
        Show the games as they are.

        :return: for each, ``(height, width, 3)`` uint8
        """
        return list(self._pictures)

    def render(self, mode: str | None = None) -> np.ndarray | None:
        """
        Show all games in one picture; in a window (``render_mode="human"``) every step has been shown already.

        :param mode: as with any ``VecEnv``
        :return: ``(height, width, 3)`` uint8, or ``None`` for a window
        """
        return None if self._window is not None else super().render(mode)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        Tell what is known of the games.

        :param attr_name: ``"spec"``, ``"metadata"``, ``"render_mode"``, ``"observation_space"`` or ``"action_space"``
        :param indices: which games
        :return: one value per game
        :raises AttributeError: for any other name
        """
        if attr_name not in _ATTRIBUTES:
            _refuse(f"no attribute {attr_name!r}, only {', '.join(_ATTRIBUTES)}")
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        Refuse: there is nothing that could be set.

        :param attr_name: any
        :param value: any
        :param indices: any
        :raises AttributeError: always
        """
        _refuse(f"no attribute that can be set, such as {attr_name!r}")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """
        Call a method.

        :param method_name: ``"get_action_meanings"``
        :param method_args: none
        :param indices: which games
        :param method_kwargs: none
        :return: one value per game
        :raises AttributeError: for any other name
        """
        if method_name != "get_action_meanings":
            _refuse(f"no method {method_name!r}, only 'get_action_meanings'")
        return [list(self._meanings) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        Tell whether the work of a wrapper is done.

        :param wrapper_class: e.g. ``Monitor``
        :param indices: which games
        :return: one answer per game
        """
        is_wrapped = any(issubclass(wrapper, wrapper_class) for wrapper in self._wrappers)
        return [is_wrapped for _ in self._get_indices(indices)]

    # --- carrying out plans ---

    def _begin(self, plans: list[Plan]) -> None:
        if self._is_closed:
            raise RuntimeError("the environment is closed, by close() or because a step was interrupted: make another one")
        self._plans = plans
        for index, plan in enumerate(plans):
            self._pool.submit(index, next(plan))

    def _finish(self) -> list[Step]:
        """Wait for all games. If that is interrupted, by Ctrl-C say, nobody can tell how far each is: they are ended."""
        try:
            steps = self._carry_out()
        except BaseException:
            self.close()
            raise
        if self._window is not None:
            self._window.show(tile_images(self._pictures).repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1))
        return steps

    def _carry_out(self) -> list[Step]:
        """Carry all plans to their ends, each as far as it goes before the next; observations are made meanwhile."""
        self._observations = np.empty_like(self._observations)
        steps: dict[int, Step] = {}
        while self._pool.is_busy:
            index, outcome = self._pool.collect()
            try:
                self._pool.submit(index, self._plans[index].send(outcome))
            except StopIteration as stop:
                steps[index] = stop.value
        self._plans = []
        return [steps[index] for index in range(self.num_envs)]

    def _step(self, index: int, action: int) -> Plan:
        """Plan a step, and a reset if it ends the episode, as DummyVecEnv has it."""
        step = yield from self._games[index].step(action)
        step.info["TimeLimit.truncated"] = step.truncated and not step.terminated
        if step.is_done:
            final = np.empty(self._observations.shape[1:], np.uint8)
            step.info["terminal_observation"] = self._warp(step.picture, final)
            yield from self._reset(index)
        else:
            self._show(index, step.picture)
        return step

    def _reset(self, index: int) -> Plan:
        step = yield from self._games[index].reset()
        self.reset_infos[index] = step.info
        self._show(index, step.picture)
        return step

    def _show(self, index: int, picture: np.ndarray) -> None:
        self._pictures[index] = picture
        self._warp(picture, self._observations[index])

    def _warp(self, picture: np.ndarray, observation: np.ndarray) -> np.ndarray:
        """Make a picture grey and square as WarpFrame does, in place."""
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY, dst=self._grey)
        cv2.resize(self._grey, observation.shape[:2], dst=observation[:, :, 0], interpolation=cv2.INTER_AREA)
        return observation


def native_atari(venv: VecEnv, **kwargs: Any) -> AtariVecEnv:
    """
    Replace environments that ``make_vec_env`` has made by native ones: same game, number, seeds and monitor files.

    For a zoo config, in place of its ``env_wrapper``::

        vec_env_wrapper: drqn_sb3.envs.native_atari

    or on the command line ``-params env_wrapper:None vec_env_wrapper:"'drqn_sb3.envs.native_atari'"``. Arguments are given
    as with any wrapper there::

        vec_env_wrapper:
          - drqn_sb3.envs.native_atari:
              terminal_on_life_loss: False

    :param venv: Atari games without any wrapper but ``Monitor``. They are closed.
    :param kwargs: of :class:`AtariVecEnv`, those named as ``AtariWrapper``'s and ``num_threads``
    :return: the native environments
    :raises ValueError: if the environments cannot be replaced
    """
    if isinstance(venv, VecEnvWrapper):
        raise ValueError(f"native_atari must be the first vec_env_wrapper, got environments in {type(venv).__name__}")
    spec = venv.get_attr("spec")[0]
    if spec is None:
        raise ValueError("native_atari needs environments that gym.make has made, got such as have no spec")
    # Runs that write checkpoints put ResumableEnv around every environment
    wrappers = [wrapper.name for wrapper in spec.additional_wrappers if wrapper.name != "ResumableEnv"]
    if wrappers not in ([], ["Monitor"]):
        raise ValueError(
            "native_atari must be given no env_wrapper (the zoo: -params env_wrapper:None), for it replaces the environments: "
            f"leave AtariWrapper out, whose arguments it takes, and put others into a vec_env_wrapper; got {wrappers}"
        )
    writer = _results_writer(venv) if wrappers else None
    if writer is not None:
        monitor_file = writer.file_handler
        kwargs = {"monitor_dir": str(Path(monitor_file.name).parent), "override_existing": "w" in monitor_file.mode, **kwargs}
    seeds, action_space = venv._seeds, venv.action_space
    venv.close()
    env = AtariVecEnv(spec.id, venv.num_envs, env_kwargs=spec.kwargs, **kwargs)
    env._seeds, env.action_space = seeds, action_space
    return env


def _results_writer(venv: VecEnv) -> ResultsWriter | None:
    """Find what the first Monitor of ``venv`` writes with, if it does."""
    if venv.get_attr("info_keywords")[0]:
        raise ValueError(f"native_atari knows no info_keywords of Monitor, got {venv.get_attr('info_keywords')[0]}")
    try:
        writer: ResultsWriter | None = venv.get_attr("results_writer")[0]
    except (EOFError, ConnectionError) as error:  # a worker process cannot send an open file
        raise ValueError(
            "native_atari cannot take over the monitor files of a SubprocVecEnv: use a DummyVecEnv (--vec-env dummy), "
            "the native environments have threads of their own"
        ) from error
    return writer


def _wrappers_followed(
    rules: Rules, frame_skip: int, clip_reward: bool, action_repeat_probability: float
) -> list[type[gym.Wrapper]]:
    """List the wrappers whose work is done here."""
    optional: dict[type[gym.Wrapper], bool] = {
        atari_wrappers.StickyActionEnv: action_repeat_probability > 0,
        atari_wrappers.NoopResetEnv: rules.has_noops,
        atari_wrappers.MaxAndSkipEnv: frame_skip > 1,
        atari_wrappers.EpisodicLifeEnv: rules.terminal_on_life_loss,
        atari_wrappers.FireResetEnv: rules.has_fire,
        atari_wrappers.ClipRewardEnv: clip_reward,
    }
    followed = [wrapper for wrapper, is_followed in optional.items() if is_followed]
    return [Monitor, atari_wrappers.AtariWrapper, atari_wrappers.WarpFrame, *followed]


def _make_games(rules: Rules, n_envs: int, monitor_dir: str | None, env_id: str, override_existing: bool) -> list[Game]:
    start_time = time.time()
    writers: list[ResultsWriter | None] = [None] * n_envs
    if monitor_dir is not None:
        header: dict[str, float | str] = {"t_start": start_time, "env_id": env_id}
        files = [str(Path(monitor_dir, str(index))) for index in range(n_envs)]
        writers = [ResultsWriter(file, header=header, override_existing=override_existing) for file in files]
    return [Game(rules, writer, start_time) for writer in writers]


def _refuse(what: str) -> NoReturn:
    raise AttributeError(f"the games of an AtariVecEnv run natively: they have {what}")
