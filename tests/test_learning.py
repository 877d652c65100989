"""What the shipped hyperparameters learn: trained through the zoo's own manager, the agent at the end of training."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, sync_envs_normalization

from drqn_sb3 import DRQN
from drqn_sb3.envs import RecallEnv
from drqn_sb3.zoo import hyperparams_file, register

register()

# Evaluation episodes start from seeds that no training run here saw
EVAL_SEED = 1_000_000


def final_returns(algo: str, env_id: str, seed: int, n_episodes: int, folder: Path, **hyperparams: object) -> np.ndarray:
    """Train with the entry of our hyperparameter file, then play whole games, greedily, with what came out at the end."""
    manager = ExperimentManager(
        argparse.Namespace(),
        algo,
        env_id,
        str(folder),
        eval_freq=-1,
        log_interval=-1,
        hyperparams=dict(hyperparams),
        seed=seed,
        verbose=0,
        device="cpu",
        config=str(hyperparams_file(f"{algo}.yml")),
    )
    results = manager.setup_experiment()
    assert results is not None
    model = results[0]
    assert type(model) is {"dqn": DQN, "drqn": DRQN}[algo]
    manager.learn(model)
    assert model.num_timesteps >= manager.n_timesteps > 0
    eval_env = manager.create_envs(n_envs=10, eval_env=True)
    assert model.env is not None
    sync_envs_normalization(model.env, eval_env)
    eval_env.seed(EVAL_SEED + 1_000 * seed)
    returns, _ = evaluate_policy(model, eval_env, n_episodes, deterministic=True, return_episode_rewards=True)
    eval_env.close()
    return np.array(returns)


EACH_PRECISION = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


@pytest.mark.slow
@EACH_PRECISION
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_is_balanced_without_seeing_velocities(seed: int, precision: str, tmp_path: Path) -> None:
    returns = final_returns("drqn", "CartPoleNoVel-v1", seed, 100, tmp_path, precision=precision)
    assert returns.mean() >= 475, f"mean {returns.mean():.1f}, worst {returns.min():.0f}"


@pytest.mark.slow
@EACH_PRECISION
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_drqn_recalls_a_cue_after_five_blank_observations(seed: int, precision: str, tmp_path: Path) -> None:
    assert final_returns("drqn", "Recall-v0", seed, 400, tmp_path, precision=precision).mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [1, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dqn_recalls_no_better_than_chance_after_five_blank_observations(n_frames: int, seed: int, tmp_path: Path) -> None:
    n_episodes = 400
    success = final_returns("dqn", "Recall-v0", seed, n_episodes, tmp_path, frame_stack=n_frames).mean()
    # Its answers are independent of the cue, so the share that is right is binomial: beyond 3.3 deviations lies 1 in 2000
    assert success <= 0.5 + 3.3 * np.sqrt(0.25 / n_episodes)


def test_drqn_recalls_a_cue_after_two_blank_observations() -> None:
    env = make_vec_env(RecallEnv, n_envs=8, seed=0, env_kwargs={"delay": 2}, vec_env_cls=DummyVecEnv)
    model = DRQN(
        "MlpLstmPolicy",
        env,
        learning_rate=5e-3,
        learning_starts=400,
        buffer_size=5_000,
        sequence_length=6,
        train_freq=1,
        target_update_interval=200,
        exploration_fraction=0.5,
        exploration_final_eps=0.1,
        policy_kwargs={"hidden_size": 16, "net_arch": []},
        seed=0,
        device="cpu",
    )
    untrained = success(model)
    assert untrained < 0.75, "nothing is left to learn"
    model.learn(8_000)
    assert success(model) > 0.95


def success(model: DRQN) -> float:
    eval_env = make_vec_env(RecallEnv, n_envs=10, seed=EVAL_SEED, env_kwargs={"delay": 2})
    mean_return, _ = evaluate_policy(model, eval_env, 200, deterministic=True)
    assert isinstance(mean_return, float)
    return mean_return
