"""
SB3's own DQN with its own network (Nature convolutions, 512 features), on stacks of 4 frames.

An update trains a batch of single transitions, 32 by default, a tenth of the frames of a DRQN's update; no double Q.
"""

import torch as th
from stable_baselines3 import DQN

from eval.throughput.experience import experience_of
from eval.throughput.protocol import Task, Work, serve
from eval.throughput.workers.models import (
    MAX_GRAD_NORM,
    REPLAY_ENVS,
    acting,
    count_parameters,
    fill,
    frame_envs,
    silence,
    versions,
    wait_for,
)

N_STACK = 4


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task: an operation is an update, or an action in each environment
    """
    th.set_num_threads(work.threads)
    is_update = work.measurement == "updates"
    n_envs = REPLAY_ENVS if is_update else work.n_envs
    model = DQN(
        "CnnPolicy",
        frame_envs(work, n_envs, N_STACK),
        buffer_size=work.buffer_size if is_update else n_envs,
        batch_size=work.batch_size,
        learning_starts=1_000_000,
        max_grad_norm=MAX_GRAD_NORM,
        exploration_initial_eps=0.0,
        seed=work.seed,
        device=work.device,
    )
    model.exploration_rate = 0.0  # else a share of the calls draws at random, for all environments at once, and is free
    silence(model)
    experience = experience_of(work, work.buffer_size // n_envs if is_update else 64, n_envs)
    if is_update:
        fill(model.replay_buffer, experience, N_STACK)

    def update(n_operations: int) -> int:
        for _ in range(n_operations):
            model.train(gradient_steps=1, batch_size=work.batch_size)
        wait_for(model.device)
        return n_operations

    info = {
        "parameters": count_parameters(model.q_net),
        "frames_per_update": work.batch_size,
        "precision": "float32",
        "versions": versions(),
    }
    return Task(update if is_update else acting(model, experience, N_STACK), info)


if __name__ == "__main__":
    serve(build)
