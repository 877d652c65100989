"""Playing: the table of games, compared with what SB3 makes of the same games."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_world import ATARI, CARTPOLE, SLIME_NUMBERS, SLIME_PIXELS, BySight
from rl_zoo3.utils import get_wrapper_class
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

from drqn_sb3 import DRQN
from eval.conditions import Condition
from eval.evaluation.agents import fit_env
from eval.evaluation.environments import EnvSpec, make_env
from eval.evaluation.playing import Settings, evaluate
from eval.results import EPISODE_COLUMNS

SHORT_PONG = EnvSpec("PongNoFrameskip-v4", {"max_num_frames_per_episode": 400}, [ATARI])
AGENTS = {
    "PPO, CartPole": (PPO, "MlpPolicy", CARTPOLE, {}),
    "RecurrentPPO, CartPole": (RecurrentPPO, "MlpLstmPolicy", CARTPOLE, {}),
    "DRQN, SlimeVolley numbers": (DRQN, "MlpLstmPolicy", SLIME_NUMBERS, {"policy_kwargs": {"hidden_size": 8}}),
    "DRQN, SlimeVolley pixels": (DRQN, "CnnLstmPolicy", SLIME_PIXELS, {"policy_kwargs": {"hidden_size": 8}}),
    "DQN, stacked Pong": (DQN, "CnnPolicy", SHORT_PONG._replace(frame_stack=3), {"buffer_size": 10}),
}


def sb3_score(model: BaseAlgorithm, spec: EnvSpec, condition: str, seed: int) -> tuple[float, int]:
    """Have SB3 play one game from a seed: its Monitor is innermost, beneath lives and clipped rewards."""
    wrappers = [*spec.env_wrapper, *Condition.parse(condition).env_wrappers()]
    wrap = get_wrapper_class({"env_wrapper": wrappers})
    env: Any = make_vec_env(spec.env_id, 1, seed=seed, wrapper_class=wrap, env_kwargs=dict(spec.env_kwargs))
    if spec.frame_stack > 1:
        env = VecFrameStack(env, spec.frame_stack)
    if len(env.observation_space.shape) == 3:
        env = VecTransposeImage(env)
    scores, lengths = evaluate_policy(model, env, n_eval_episodes=1, return_episode_rewards=True)
    env.close()
    return scores[0], lengths[0]  # type: ignore[index]


@pytest.mark.parametrize(("algorithm", "policy", "spec", "kwargs"), AGENTS.values(), ids=AGENTS.keys())
def test_scores_are_those_of_sb3(algorithm: Any, policy: str, spec: EnvSpec, kwargs: dict[str, Any]) -> None:
    model = algorithm(policy, make_env(spec, Condition(), 0, 1, 1), seed=0, **kwargs)
    n, first = 3 if spec is CARTPOLE else 2, 500
    # Within a game SB3 does not seed again: conditions agree only where a game is one episode
    text = "flicker-0.5" if spec is CARTPOLE else "normal"
    played = evaluate(model, spec, [Condition.parse(text)], Settings(games=n, first_seed=first, n_envs=1))
    expected = [sb3_score(model, spec, text, first + k) for k in range(n)]
    np.testing.assert_allclose(played["score"], [score for score, _ in expected])
    if spec is CARTPOLE:
        assert played["length"].tolist() == [length for _, length in expected]
    together = evaluate(model, spec, [Condition.parse(text)], Settings(games=n, first_seed=first, n_envs=3))
    assert together.equals(played)


class Scripted:
    """Acts by a list, whatever it sees."""

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        (counts,) = (np.zeros(len(observation), int),) if state is None else state
        counts = np.where(episode_start, 0, counts) + 1
        return counts // 4 % 2, (counts,)


SWEEP = [Condition.parse(f"flicker-{prob}") for prob in (1, 0.75, 0.5, 0.25, 0)]


@pytest.mark.parametrize("spec", [SLIME_PIXELS, SLIME_NUMBERS, SHORT_PONG, CARTPOLE], ids=lambda spec: spec.env_id)
def test_the_same_actions_get_the_same_scores_at_every_observation_probability(spec: EnvSpec) -> None:
    is_slow = spec is SHORT_PONG
    sweep = SWEEP[::2] if is_slow else SWEEP
    played = evaluate(Scripted(), spec, sweep, Settings(games=2 if is_slow else 3, n_envs=3))
    assert played["condition"].unique().tolist() == [str(condition) for condition in sweep]
    games = [table.drop(columns="condition").reset_index(drop=True) for _, table in played.groupby("condition", sort=False)]
    assert all(table.equals(games[0]) for table in games)


def test_what_is_seen_does_matter_to_who_looks() -> None:
    agent = BySight(None, gym.make("CartPole-v1").action_space)
    played = evaluate(agent, CARTPOLE, SWEEP, Settings(games=5))
    assert played.groupby("condition")["score"].apply(tuple).nunique() > 3


def test_the_table_has_a_row_per_game_in_order() -> None:
    told: list[tuple[str, int]] = []
    agent = BySight(None, gym.make("CartPole-v1").action_space)
    conditions = [Condition.parse("noise-0.1"), Condition()]
    played = evaluate(agent, CARTPOLE, conditions, Settings(5, 10, 2), lambda *now: told.append(now))
    assert list(played.columns) == list(EPISODE_COLUMNS)
    assert played["condition"].tolist() == ["noise-0.1"] * 5 + ["normal"] * 5
    assert played["game"].tolist() == [0, 1, 2, 3, 4] * 2
    assert played["seed"].tolist() == [10, 11, 12, 13, 14] * 2
    assert (played["score"] == played["length"]).all() and (played["won"] == played["length"]).all()
    assert told == [(text, n) for text in ("noise-0.1", "normal") for n in range(1, 6)]


def test_an_agent_that_draws_its_actions_draws_the_same_again() -> None:
    model = RecurrentPPO("MlpLstmPolicy", make_env(CARTPOLE, Condition(), 0, 1, 1), seed=0)
    drawn = Settings(games=6, n_envs=2, deterministic=False)
    first = evaluate(model, CARTPOLE, [Condition()], drawn)
    assert evaluate(model, CARTPOLE, [Condition()], drawn).equals(first)
    assert not evaluate(model, CARTPOLE, [Condition()], drawn._replace(deterministic=True)).equals(first)


def test_epsilon_one_is_the_same_for_every_agent() -> None:
    random = Settings(games=6, n_envs=3, epsilon=1.0)
    one = evaluate(Scripted(), CARTPOLE, [Condition()], random)
    other = BySight(None, gym.make("CartPole-v1").action_space)
    assert evaluate(other, CARTPOLE, [Condition.parse("flicker-0.5")], random)["score"].equals(one["score"])
    assert one["score"].nunique() > 1


@pytest.mark.filterwarnings("ignore:.*NaN value:UserWarning")
def test_a_score_that_is_no_number_is_an_error() -> None:
    spec = EnvSpec("Lives-v0", {"reward": float("nan")}, [])
    with pytest.raises(ValueError, match=r"Lives-v0: game 0 \(seed 7\) under normal ended with a score of nan"):
        evaluate(Scripted(), spec, [Condition()], Settings(games=2, first_seed=7, n_envs=1))


BAD = {
    "no games": ({"games": 0}, "games must be a whole number of at least 1, got 0"),
    "half a game": ({"games": 0.5}, "games must be a whole number of at least 1, got 0.5"),
    "seed below": ({"first_seed": -1}, "first_seed must be a whole number of at least 0, got -1"),
    "no environments": ({"n_envs": 0}, "n_envs must be a whole number of at least 1, got 0"),
    "epsilon above": ({"epsilon": 1.5}, "epsilon must be from 0 to 1, got 1.5"),
    "epsilon of nothing": ({"epsilon": float("nan")}, "epsilon must be from 0 to 1, got nan"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD.keys())
def test_settings_out_of_bounds_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        evaluate(Scripted(), CARTPOLE, [Condition()], Settings()._replace(**changes))


def test_a_condition_that_does_not_suit_is_found_before_any_game() -> None:
    told: list[Any] = []
    with pytest.raises(ValueError, match="indices must be given"):
        evaluate(
            Scripted(),
            SLIME_PIXELS,
            [Condition(), Condition.parse("hide_velocity")],
            Settings(games=1),
            lambda *now: told.append(now),
        )
    assert told == []


def test_an_env_that_fits_is_left_as_it_is() -> None:
    env = make_env(CARTPOLE, Condition(), 0, 1, 1)
    assert fit_env(Scripted(), env) is env
