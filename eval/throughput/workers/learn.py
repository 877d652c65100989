"""
End to end: agent steps per second of ``learn()``, acting, stepping, storing and training together.

``options``: ``agent`` (``"drqn"`` or ``"dqn"``), ``env_id``, ``kind`` of vector environment, ``steps_per_update`` for the
DRQN, and what :func:`eval.throughput.workers.drqn.drqn_class` knows. The stock DQN learns as ``hyperparams/dqn.yml`` ships
it for the game: its frame stack, batch size, n-step returns and replay buffer, and as many updates per agent step.
"""

from collections.abc import Callable
from math import gcd
from pathlib import Path
from typing import Any

import torch as th
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

import drqn_sb3
from drqn_sb3 import FrameStackReplayBuffer
from eval.throughput.protocol import Task, Work, serve
from eval.throughput.workers.drqn import drqn_class, precision_of
from eval.throughput.workers.envs import make_venv
from eval.throughput.workers.models import MAX_GRAD_NORM, count_parameters, versions, wait_for

LEARNING_STARTS = 1_000
EPSILON = 0.02
DQN_YML = Path(drqn_sb3.__file__).parents[1] / "hyperparams" / "dqn.yml"


def update_schedule(n_envs: int, steps_per_update: int) -> tuple[int, int]:
    """
    How to get one update per so many agent steps, whatever the number of environments.

    :param n_envs: number of environments
    :param steps_per_update: agent steps per update
    :return: SB3's ``train_freq``, in steps of all environments at once, and ``gradient_steps``
    """
    divisor = gcd(n_envs, steps_per_update)
    return steps_per_update // divisor, n_envs // divisor


def make_drqn(work: Work, venv: VecEnv) -> DQN:
    """
    :param work: sizes, seed, device and options
    :param venv: the environments
    :return: a DRQN that is about to learn
    """
    model_class, kwargs = drqn_class(work.options)
    train_freq, gradient_steps = update_schedule(venv.num_envs, work.options["steps_per_update"])
    return model_class(
        "CnnLstmPolicy",
        venv,
        buffer_size=work.buffer_size,
        batch_size=work.batch_size,
        sequence_length=work.sequence_length,
        learning_starts=LEARNING_STARTS,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        max_grad_norm=MAX_GRAD_NORM,
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        policy_kwargs={"hidden_size": work.hidden_size},
        seed=work.seed,
        device=work.device,
        **kwargs,
    )


def shipped(env_id: str, path: Path = DQN_YML) -> dict[str, Any]:
    """
    :param env_id: of the game
    :param path: where the shipped hyperparameters are
    :return: the stock DQN's for the game; SlimeVolley's, where only the zoo has some
    """
    entries = yaml.safe_load(path.read_text())
    return entries.get(env_id) or entries["SlimeVolleyNoFrameskip-v0"]


def make_dqn(work: Work, venv: VecEnv) -> DQN:
    """
    :param work: sizes, seed, device and options
    :param venv: the environments, one frame per observation
    :return: a stock DQN that is about to learn
    """
    entry = shipped(work.options["env_id"])
    # As many updates per agent step, whatever the number of environments
    steps_per_period = entry["n_envs"] * entry["train_freq"]
    divisor = gcd(work.n_envs * entry["gradient_steps"], steps_per_period)
    return DQN(
        "CnnPolicy",
        VecFrameStack(venv, entry["frame_stack"]),
        buffer_size=work.buffer_size,
        batch_size=entry["batch_size"],
        learning_starts=LEARNING_STARTS,
        train_freq=steps_per_period // divisor,
        gradient_steps=work.n_envs * entry["gradient_steps"] // divisor,
        gamma=entry["gamma"],
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        seed=work.seed,
        device=work.device,
        **replay_buffer_arguments(entry),
    )


def replay_buffer_arguments(entry: dict[str, Any]) -> dict[str, Any]:
    """
    :param entry: hyperparameters
    :return: the arguments that choose the replay buffer and its n-step returns, as the zoo plugin completes them
    """
    n_steps = {"n_steps": entry.get("n_steps", 1)}
    if entry.get("replay_buffer_class") != FrameStackReplayBuffer.__name__:
        return n_steps
    kwargs = {"n_stack": entry["frame_stack"], "gamma": entry["gamma"], **n_steps}
    return {"replay_buffer_class": FrameStackReplayBuffer, "replay_buffer_kwargs": kwargs}


AGENTS: dict[str, Callable[[Work, VecEnv], DQN]] = {"drqn": make_drqn, "dqn": make_dqn}


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task: an operation is what lies between two calls of ``train``
    """
    th.set_num_threads(work.threads)
    venv = make_venv(work.options["env_id"], work.options["kind"], work.n_envs, work.seed)
    model = AGENTS[work.options["agent"]](work, venv)
    frequency = model.train_freq.frequency  # type: ignore[union-attr]
    model.learn(LEARNING_STARTS, log_interval=10**9)

    def run(n_operations: int) -> int:
        before = model.num_timesteps
        model.learn(n_operations * frequency * work.n_envs, log_interval=10**9, reset_num_timesteps=False)
        wait_for(model.device)
        return model.num_timesteps - before

    info = {
        "parameters": count_parameters(model.q_net),
        "precision": precision_of(model) if isinstance(model, drqn_sb3.DRQN) else "float32",
        "kind": work.options["kind"],
        "n_envs": work.n_envs,
        "train_freq": frequency,
        "gradient_steps": model.gradient_steps,
        "steps_per_update": frequency * work.n_envs / model.gradient_steps,
        "replay_buffer": type(model.replay_buffer).__name__,
        "versions": versions(),
    }
    return Task(run, info)


if __name__ == "__main__":
    serve(build)
