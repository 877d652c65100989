"""
sb3-contrib's RecurrentPPO, the recurrent agent that the zoo has today, with the paper's network shared by actor and critic.

An update is a minibatch of as many windows and steps as ours, drawn from its rollout buffer. One reset falls inside, which
is what episodes of 300 steps make of 320 frames on average; it sends the whole minibatch through a Python loop over time.
PPO has no target network: only one network goes forward, over the windows alone.
"""

from typing import Any

import numpy as np
import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from drqn_sb3.extractors import NatureConvolutions
from eval.throughput.experience import Experience, experience_of
from eval.throughput.protocol import Task, Work, serve
from eval.throughput.workers.models import (
    MAX_GRAD_NORM,
    count_parameters,
    frame_envs,
    silence,
    versions,
    wait_for,
)


def make_model(work: Work, n_envs: int) -> RecurrentPPO:
    """
    :param work: sizes, seed and device
    :param n_envs: environments of the model
    :return: a RecurrentPPO whose rollouts are one minibatch each
    """
    model = RecurrentPPO(
        "CnnLstmPolicy",
        frame_envs(work, n_envs),
        n_steps=work.sequence_length,
        batch_size=work.sequence_length * n_envs,
        n_epochs=1,
        max_grad_norm=MAX_GRAD_NORM,
        policy_kwargs={
            "features_extractor_class": NatureConvolutions,
            "lstm_hidden_size": work.hidden_size,
            "net_arch": [],
            "shared_lstm": True,
            "enable_critic_lstm": False,
        },
        seed=work.seed,
        device=work.device,
    )
    silence(model)
    return model


def zero_states(model: RecurrentPPO, n_envs: int) -> RNNStates:
    """
    :param model: the model
    :param n_envs: number of environments
    :return: the actor's states, which are the critic's too
    """
    lstm: Any = model.policy.lstm_actor
    zeros = th.zeros(lstm.num_layers, n_envs, lstm.hidden_size, device=model.device)
    return RNNStates((zeros, zeros), (zeros, zeros))


def fill_rollout(model: RecurrentPPO, experience: Experience) -> None:
    """
    Tell the rollout buffer one rollout, in which the first environment's episode ends half-way.

    :param model: the model
    :param experience: as long as a rollout
    """
    n_steps, n_envs = experience.dones.shape
    starts = np.zeros((n_steps, n_envs), dtype=np.float32)
    starts[n_steps // 2, 0] = 1
    values = th.zeros(n_envs)
    buffer: Any = model.rollout_buffer
    for step in range(n_steps):
        arrays = experience.frames[step], experience.actions[step][:, None], experience.rewards[step], starts[step]
        buffer.add(*arrays, values, values, lstm_states=zero_states(model, n_envs))
    buffer.compute_returns_and_advantage(values, np.zeros(n_envs))


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task: an operation is a minibatch, or an action in each environment
    """
    th.set_num_threads(work.threads)
    is_update = work.measurement == "updates"
    n_envs = work.batch_size if is_update else work.n_envs
    model = make_model(work, n_envs)
    experience = experience_of(work, work.sequence_length, n_envs)
    fill_rollout(model, experience)
    states, starts = zero_states(model, n_envs), th.zeros(n_envs, device=model.device)

    def update(n_operations: int) -> int:
        for _ in range(n_operations):
            model.train()
        wait_for(model.device)
        return n_operations

    def act(n_operations: int) -> int:
        nonlocal states
        model.policy.set_training_mode(False)
        for i in range(n_operations):
            with th.no_grad():
                observations = th.as_tensor(experience.frames[i % work.sequence_length], device=model.device)
                actions, _, _, states = model.policy(observations, states, starts)
            actions.cpu().numpy()
        return n_operations * n_envs

    info = {
        "parameters": count_parameters(model.policy),
        "frames_per_update": work.batch_size * work.sequence_length,
        "precision": "float32",
        "versions": versions(),
    }
    return Task(update if is_update else act, info)


if __name__ == "__main__":
    serve(build)
