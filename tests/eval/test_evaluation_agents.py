"""Agents: models of the zoo's algorithms, and plug-ins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_world import CARTPOLE, SLIME_PIXELS, BySight
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from drqn_sb3 import DRQN, FrameStackReplayBuffer
from eval.conditions import Condition
from eval.evaluation.agents import RandomAgent, check_plug_in, fit_env, load_agent, make_plug_in
from eval.evaluation.environments import EnvSpec, make_env
from eval.evaluation.playing import Settings, evaluate

PENDULUM = EnvSpec("Pendulum-v1", {"max_episode_steps": 20}, [])
STACKED_PIXELS = SLIME_PIXELS._replace(frame_stack=3)
DICT = EnvSpec("CartPole-v1", {}, ["test_evaluation_agents.AsDict"])
SMALL: dict[str, Any] = {"buffer_size": 300, "learning_starts": 10, "seed": 0}
SMALL_DRQN: dict[str, Any] = {**SMALL, "sequence_length": 4, "batch_size": 2, "policy_kwargs": {"hidden_size": 8}}
STACK: dict[str, Any] = {
    "replay_buffer_class": FrameStackReplayBuffer,
    "replay_buffer_kwargs": {"n_stack": 3},
    "optimize_memory_usage": False,
}


class AsDict(gym.ObservationWrapper):
    """Observations as a dict."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict(numbers=env.observation_space)

    def observation(self, observation: Any) -> Any:
        return {"numbers": observation}


# algorithm, spec, model, steps of training
MODELS: dict[str, tuple[str, EnvSpec, Callable[[VecEnv], BaseAlgorithm], int]] = {
    "DRQN, numbers": ("drqn", CARTPOLE, lambda env: DRQN("MlpLstmPolicy", env, **SMALL_DRQN), 30),
    "DRQN, pixels": ("drqn", SLIME_PIXELS, lambda env: DRQN("CnnLstmPolicy", env, **SMALL_DRQN), 0),
    "DRQN, dict": ("drqn", DICT, lambda env: DRQN("MultiInputLstmPolicy", env, **SMALL_DRQN), 0),
    "DQN, stacked pixels, our buffer": ("dqn", STACKED_PIXELS, lambda env: DQN("CnnPolicy", env, **SMALL, **STACK), 12),
    "DQN, stacked numbers": ("dqn", CARTPOLE._replace(frame_stack=4), lambda env: DQN("MlpPolicy", env, **SMALL), 30),
    "DQN, saves memory": (
        *("dqn", CARTPOLE),
        lambda env: DQN(
            *("MlpPolicy", env),
            optimize_memory_usage=True,
            replay_buffer_kwargs={"handle_timeout_termination": False},
            **SMALL,
        ),
        30,
    ),
    "DQN, n-step": ("dqn", CARTPOLE, lambda env: DQN("MlpPolicy", env, n_steps=3, **SMALL), 30),
    "QRDQN": ("qrdqn", CARTPOLE, lambda env: QRDQN("MlpPolicy", env, **SMALL), 0),
    "PPO": (
        "ppo",
        CARTPOLE,
        lambda env: PPO("MlpPolicy", env, n_steps=16, batch_size=16, learning_rate=lambda x: x, seed=0),
        32,
    ),
    "RecurrentPPO": ("ppo_lstm", CARTPOLE, lambda env: RecurrentPPO("MlpLstmPolicy", env, n_steps=16, batch_size=16), 32),
    "A2C, dict": ("a2c", DICT, lambda env: A2C("MultiInputPolicy", env), 0),
    "SAC, continuous": ("sac", PENDULUM, lambda env: SAC("MlpPolicy", env, **SMALL), 0),
    "TQC, continuous": ("tqc", PENDULUM, lambda env: TQC("MlpPolicy", env, **SMALL), 0),
}


def stored(tmp_path: Path, spec: EnvSpec, make: Callable[[VecEnv], BaseAlgorithm], n_steps: int) -> tuple[Path, BaseAlgorithm]:
    env = make_env(spec, Condition(), 0, 100, 1)
    model = make(env)
    if n_steps:
        model.learn(n_steps)
    model.save(tmp_path / "model.zip")
    return tmp_path / "model.zip", model


@pytest.mark.parametrize(("algo", "spec", "make", "n_steps"), MODELS.values(), ids=MODELS.keys())
def test_a_stored_model_plays_as_it_did_before(
    tmp_path: Path, algo: str, spec: EnvSpec, make: Callable[[VecEnv], BaseAlgorithm], n_steps: int
) -> None:
    path, model = stored(tmp_path, spec, make, n_steps)
    loaded = load_agent(path, algo, "cpu")
    assert loaded.num_timesteps == model.num_timesteps >= n_steps
    buffer = getattr(loaded, "replay_buffer", None)
    assert buffer is None or buffer.buffer_size <= 1 or algo == "drqn"  # whose takes its memory when it learns
    conditions = [Condition(), Condition.parse("flicker-0.5")]
    settings = Settings(games=2, n_envs=2)
    played = evaluate(loaded, spec, conditions, settings)
    assert played.equals(evaluate(model, spec, conditions, settings))
    assert played["condition"].tolist() == ["normal"] * 2 + ["flicker-0.5"] * 2


def test_pictures_come_with_the_channels_first_as_in_training(tmp_path: Path) -> None:
    _, model = stored(tmp_path, STACKED_PIXELS, MODELS["DQN, stacked pixels, our buffer"][2], 0)
    env = fit_env(model, make_env(STACKED_PIXELS, Condition(), 0, 2, 2))
    assert isinstance(env, VecTransposeImage) and env.reset().shape == (2, 3, 84, 84)  # type: ignore[union-attr]
    plug_in = make_plug_in("eval.evaluation.agents.RandomAgent", env, 0)
    bare = make_env(STACKED_PIXELS, Condition(), 0, 2, 2)
    assert fit_env(plug_in, bare) is bare


OTHERS = {
    "another number of frames": (
        STACKED_PIXELS._replace(frame_stack=4),
        r"observations of Box.*3, 84, 84.*are Box.*84, 84, 4",
    ),
    "numbers for pictures": (CARTPOLE, r"observations of Box.*3, 84, 84.*are Box"),
    "other actions": (
        EnvSpec("BreakoutNoFrameskip-v4", {}, STACKED_PIXELS.env_wrapper, 3),
        "must be a SlimeVolley environment",
    ),
}


@pytest.mark.parametrize(("spec", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_a_model_made_for_other_spaces_plays_no_game(tmp_path: Path, spec: EnvSpec, words: str) -> None:
    _, model = stored(tmp_path, STACKED_PIXELS, MODELS["DQN, stacked pixels, our buffer"][2], 0)
    n_games = []
    with pytest.raises(ValueError, match=words):
        evaluate(model, spec, [Condition()], Settings(games=1), lambda condition, n: n_games.append(n))
    assert n_games == []


def test_actions_must_be_those_that_a_model_was_made_for() -> None:
    model = PPO("MlpPolicy", make_env(CARTPOLE, Condition(), 0, 1, 1))
    model.action_space = spaces.Discrete(3)
    with pytest.raises(ValueError, match=r"made for actions of Discrete\(3\), the environment's are Discrete\(2\)"):
        evaluate(model, CARTPOLE, [Condition()], Settings(games=1))


def test_bounds_that_mean_the_same_are_the_same() -> None:
    model = PPO("MlpPolicy", make_env(CARTPOLE, Condition(), 0, 1, 1))
    box = model.observation_space
    assert isinstance(box, spaces.Box)
    greatest = np.finfo(np.float32).max
    model.observation_space = spaces.Box(np.maximum(box.low, -greatest), np.minimum(box.high, greatest))
    env = make_env(CARTPOLE, Condition(), 0, 1, 1)
    assert fit_env(model, env) is env
    model.observation_space = spaces.Box(box.low / 2, box.high / 2)
    with pytest.raises(ValueError, match="made for observations"):
        fit_env(model, env)


def test_a_model_trained_under_a_condition_that_widens_bounds_plays_without_it() -> None:
    space = spaces.Box(0.5, 1.0, (2,), np.float32)
    agent = BySight(None, spaces.Discrete(3))
    agent.observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)  # type: ignore[attr-defined]
    env = make_env(CARTPOLE, Condition(), 0, 1, 1)
    env.observation_space = space
    assert fit_env(agent, env) is env


BAD_FILES: dict[str, tuple[str, str, str]] = {
    "unknown algorithm": ("model.zip", "dqrn", "algo must be one of .*drqn.*, got 'dqrn'"),
    "not there": ("none.zip", "dqn", r"a model must be a zip file, got .*none\.zip, which is not there"),
    "no zip": ("text.zip", "dqn", r"a model must be a zip file, got .*text\.zip, which is another"),
    "of another algorithm": ("model.zip", "drqn", r"model\.zip must be a model of drqn, and can't be loaded as one"),
}


@pytest.mark.parametrize(("name", "algo", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_is_no_model_of_the_algorithm_is_named(tmp_path: Path, name: str, algo: str, words: str) -> None:
    PPO("MlpPolicy", make_env(CARTPOLE, Condition(), 0, 1, 1)).save(tmp_path / "model.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=words):
        load_agent(tmp_path / name, algo)


def not_an_agent(observation_space: Any, action_space: Any, seed: int) -> int:
    return 3


class Unmade:
    """Has a predict, and can't be made of spaces and a seed."""

    def predict(self, obs: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False) -> Any:
        return np.zeros(len(obs), dtype=int), state


AN_AGENT = Unmade()


def test_plug_ins_are_made_with_spaces_and_seed() -> None:
    env = make_env(CARTPOLE, Condition(), 0, 1, 1)
    for path in ("eval.evaluation.agents:RandomAgent", "eval.evaluation.agents.RandomAgent"):
        agent = make_plug_in(path, env, 5)
        assert isinstance(agent, RandomAgent)
        assert (agent.action_space, agent.seed) == (env.action_space, 5)
    with pytest.raises(ValueError, match="not_an_agent must make something that has a predict"):
        make_plug_in("test_evaluation_agents:not_an_agent", env, 0)
    assert make_plug_in("test_evaluation_agents:AN_AGENT", env, 0) is AN_AGENT, "it need not be made"
    with pytest.raises(
        ValueError, match=r"Unmade is called with the observation space, the action space and a seed, and raised"
    ):
        make_plug_in("test_evaluation_agents:Unmade", env, 0)
    for path in ("RandomAgent", "eval.evaluation.agents:Nobody", "eval.nowhere.Agent", ""):
        with pytest.raises(ValueError, match=rf"agent must be the dotted path of an object with predict\(\), .* got '{path}'"):
            make_plug_in(path, env, 0)


BROKEN_PLUG_INS = {
    "nowhere": "eval.nowhere:Agent",
    "no such name": "eval.evaluation.agents:Nobody",
    "no module": "RandomAgent",
    "nothing to call": "test_evaluation_agents:SMALL",
    "not Python": "not_python:Agent",
    "fails at import": "failing:Agent",
}


@pytest.mark.parametrize("path", BROKEN_PLUG_INS.values(), ids=BROKEN_PLUG_INS.keys())
def test_a_plug_in_that_cannot_be_had_is_named(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not_python.py").write_text("class Agent:")
    (tmp_path / "failing.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=rf"agent must be the dotted path of an object with predict\(\), .* got '{path}'"):
        check_plug_in(path)


def test_a_plug_in_is_checked_without_being_made() -> None:
    assert check_plug_in("eval.evaluation.agents.RandomAgent") is RandomAgent
    assert check_plug_in("test_evaluation_agents:not_an_agent").__name__ == "not_an_agent"


@pytest.mark.parametrize("spec", [CARTPOLE, PENDULUM, DICT], ids=["numbers", "continuous", "dict"])
def test_the_random_agent_draws_the_same_again(spec: EnvSpec) -> None:
    env = make_env(spec, Condition(), 0, 4, 4)
    agent = make_plug_in("eval.evaluation.agents:RandomAgent", env, 1)
    obs = env.reset()

    def draw() -> list[np.ndarray]:
        state, drawn = None, []
        for _ in range(20):
            actions, state = agent.predict(obs, state)
            drawn.append(actions)
        return drawn

    first = draw()
    np.testing.assert_array_equal(draw(), first)
    assert first[0].shape[0] == 4 and len(np.unique(first)) > 1
    conditions = [Condition(), Condition.parse("noise-0.1")]
    played = evaluate(agent, spec, conditions, Settings(games=4, n_envs=2))
    assert played["score"].tolist()[:4] == played["score"].tolist()[4:]
