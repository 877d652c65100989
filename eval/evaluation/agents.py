"""Who plays: models of the zoo's algorithms, and whatever else has a ``predict`` like theirs."""

import importlib
import inspect
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from gymnasium import spaces
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


class Agent(Protocol):
    """Whoever chooses actions: any algorithm of SB3 and contrib, and plug-ins."""

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[Any, ...] | None]:
        """
        Choose actions.

        :param observation: ``(n_envs, ...)``, or a dict of such
        :param state: what the last call has returned; ``None`` at the start
        :param episode_start: ``(n_envs,)`` bool: whose episode has just begun
        :param deterministic: whether to take the best action, rather than to draw one
        :return: actions, ``(n_envs, ...)``, and the state for the next call
        """


class RandomAgent:
    """
    Acts uniformly at random. The same calls from the start on (``state`` is ``None``) get the same actions.

    :param observation_space: ignored
    :param action_space: what it draws from
    :param seed: of its draws
    """

    def __init__(self, observation_space: "spaces.Space", action_space: "spaces.Space", seed: int) -> None:
        self.action_space = action_space
        self.seed = seed

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[Any, ...]]:
        """
        Draw actions.

        :param observation: ``(n_envs, ...)``, or a dict of such; only their number matters
        :param state: what the last call has returned; ``None`` starts from the seed
        :param episode_start: ignored
        :param deterministic: ignored
        :return: actions, ``(n_envs, ...)``, and the state for the next call
        """
        if state is None:
            self.action_space.seed(self.seed)
        while isinstance(observation, dict):
            observation = next(iter(observation.values()))
        return np.array([self.action_space.sample() for _ in range(len(observation))]), ()


def load_agent(path: Path, algo: str, device: str = "auto") -> "BaseAlgorithm":
    """
    Load a model to act with: without the memory, or the schedules, that training needs, and without a word.

    :param path: of the zip file
    :param algo: the zoo's name of its algorithm
    :param device: that it acts on
    :return: the model
    :raises ValueError: if there is no such algorithm, or the file is not a model of it
    """
    from eval.evaluation.environments import know_envs

    know_envs()
    from rl_zoo3.utils import ALGOS
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from drqn_sb3.drqn import DRQN

    if algo not in ALGOS:
        raise ValueError(f"algo must be one of {', '.join(sorted(ALGOS))}, got {algo!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"a model must be a zip file, got {path}, which is {'another' if path.exists() else 'not there'}")
    kwargs: dict[str, Any] = {}
    if issubclass(ALGOS[algo], OffPolicyAlgorithm) and not issubclass(ALGOS[algo], DRQN):  # which has none before it learns
        kwargs = {"buffer_size": 1, "optimize_memory_usage": False, "replay_buffer_class": None, "replay_buffer_kwargs": {}}
        kwargs["n_steps"] = 1
    # What was pickled with another version of Python need not be read
    unused = {"learning_rate": 0.0, "lr_schedule": _nothing, "clip_range": _nothing}
    try:
        return ALGOS[algo].load(path, device=device, custom_objects=unused, verbose=0, **kwargs)
    except (KeyError, AttributeError, TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"{path} must be a model of {algo}, and can't be loaded as one: {error!r}") from error


def _nothing(progress_remaining: float) -> float:
    return 0.0


def check_plug_in(dotted_path: str) -> Any:
    """
    Import a plug-in, or what makes one, without making it.

    :param dotted_path: ``"package.module:name"`` or ``"package.module.name"``
    :return: what lies there
    :raises ValueError: if nothing can be had from there, or it is neither an agent nor anything that can be called
    """
    module_name, _, name = dotted_path.replace(":", ".").rpartition(".")
    expected = "agent must be the dotted path of an object with predict(), or of a class or function that makes one"
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # the module is anybody's, and may raise anything
        raise ValueError(f"{expected}, got {dotted_path!r}: {error!r}") from error
    if not callable(found) and not _can_predict(found):
        raise ValueError(f"{expected}, got {dotted_path!r}, which is {found!r}")
    return found


def _can_predict(found: Any) -> bool:
    return not inspect.isclass(found) and callable(getattr(found, "predict", None))


def make_plug_in(dotted_path: str, env: "VecEnv", seed: int) -> Agent:
    """
    Make an agent that is not one of the zoo's.

    :param dotted_path: ``"package.module:name"`` or ``"package.module.name"``: of an agent, or of what is called with the
        observation space, the action space and the seed, and returns one
    :param env: whose spaces it is told
    :param seed: of its draws
    :return: the agent
    :raises ValueError: if there is nothing at that path that is one or makes one
    """
    found = check_plug_in(dotted_path)
    if _can_predict(found):
        agent: Agent = found
        return agent
    try:
        agent = found(env.observation_space, env.action_space, seed)
    except Exception as error:  # the code is anybody's, and may raise anything
        raise ValueError(
            f"{dotted_path} is called with the observation space, the action space and a seed, and raised {error!r}"
        ) from error
    if not _can_predict(agent):
        raise ValueError(f"{dotted_path} must make something that has a predict(), got {type(agent).__name__}")
    return agent


def seed_agent(agent: Agent, seed: int, deterministic: bool) -> None:
    """
    Seed the draws of a model that is to draw its actions. A plug-in has its seed from its making.

    :param agent: who is to play
    :param seed: of its draws
    :param deterministic: whether it takes its best actions: then there is nothing to seed
    """
    if not deterministic and hasattr(agent, "set_random_seed"):
        agent.set_random_seed(seed)


def fit_env(agent: Agent, env: "VecEnv") -> "VecEnv":
    """
    Have environments show pictures with the channels first where an agent wants them so, as SB3 does in training.

    :param agent: who is to play
    :param env: where
    :return: the environments, with ``VecTransposeImage`` around them if need be
    :raises ValueError: if the agent was made for other spaces
    """
    from stable_baselines3.common.vec_env import VecTransposeImage
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv

    observations, actions = (getattr(agent, f"{kind}_space", None) for kind in ("observation", "action"))
    if observations is not None and not _is_same(observations, env.observation_space):
        transposed: VecEnv | None = None
        try:
            transposed = VecTransposeImage(env)
        except (AssertionError, ValueError):  # nothing that could be transposed
            transposed = None
        if transposed is None or not _is_same(observations, transposed.observation_space):
            raise ValueError(
                f"the agent was made for observations of {observations}, the environment's are {env.observation_space}"
            )
        env = transposed
    if actions is not None and not _is_same(actions, env.action_space):
        raise ValueError(f"the agent was made for actions of {actions}, the environment's are {env.action_space}")
    return env


def _is_same(one: "spaces.Space", other: "spaces.Space") -> bool:
    """Compare spaces. Bounds may differ: conditions widen them to hold zero, and infinity has been written in two ways."""
    from gymnasium import spaces

    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        return one.spaces.keys() == other.spaces.keys() and all(_is_same(one[key], other[key]) for key in one.spaces)
    if not isinstance(one, spaces.Box) or not isinstance(other, spaces.Box):
        return one == other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return all(np.allclose(*pair) for pair in zip(_bounds(one), _bounds(other), strict=True))


def _bounds(box: "spaces.Box") -> tuple[np.ndarray, np.ndarray]:
    low, high = (_endless(bound.astype(float)) for bound in (box.low, box.high))
    return np.minimum(low, 0), np.maximum(high, 0)


def _endless(bound: np.ndarray) -> np.ndarray:
    return np.where(np.abs(bound) >= float(np.finfo(np.float32).max), np.copysign(np.inf, bound), bound)
