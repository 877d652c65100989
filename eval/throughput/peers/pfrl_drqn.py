"""
PFRL's DRQN: ``DoubleDQN(recurrent=True)`` with the network, replay buffer and settings of its ``train_drqn_ale.py``.

An update is what its ``ReplayUpdater`` does: draw whole episodes, cut a window of each, batch them, update. Unlike ours,

- three passes go forward: the online network over the windows, and for double Q both networks over the next frames, which
  are batched a second time; each starts from its own stored state;
- an episode is drawn first and a window within it second, windows stay within their episode, so there are no resets inside;
- all steps of a window are trained on, as with ours; frames become float32 on the way into the batch.

Added to its example: gradients clipped at 10. Left out: the copy to the target network, as with everyone.
"""

import logging
from importlib.metadata import version
from itertools import count
from typing import Any

import numpy as np
import pfrl  # type: ignore[import-not-found]
import torch as th
from torch import nn

from eval.throughput.experience import Experience, experience_of
from eval.throughput.protocol import Task, Work, serve

REPLAY_ENVS = 8
N_STATES = 16  # stored recurrent states, shared by all steps: what they hold makes no difference to the speed


def make_network(work: Work) -> nn.Module:
    """
    :param work: sizes
    :return: the network of PFRL's example
    """
    size = ((work.image_size - 8) // 4 + 1 - 4) // 2 + 1 - 2
    return pfrl.nn.RecurrentSequential(
        nn.Conv2d(1, 32, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1),
        nn.Flatten(),
        nn.ReLU(),
        nn.LSTM(input_size=64 * size**2, hidden_size=work.hidden_size),
        nn.Linear(work.hidden_size, work.n_actions),
        pfrl.q_functions.DiscreteActionValueHead(),
    )


def scale(frame: np.ndarray) -> np.ndarray:
    """
    :param frame: uint8
    :return: the same in float32, from 0 to 1
    """
    return np.asarray(frame, dtype=np.float32) / 255


def make_agent(work: Work) -> Any:
    """
    :param work: sizes and device
    :return: PFRL's agent, its replay buffer empty
    """
    network = make_network(work)
    explorer = pfrl.explorers.LinearDecayEpsilonGreedy(0.0, 0.0, 1, lambda: np.random.randint(work.n_actions))
    return pfrl.agents.DoubleDQN(
        network,
        th.optim.Adam(network.parameters(), lr=1e-4, eps=1e-4),
        pfrl.replay_buffers.EpisodicReplayBuffer(work.buffer_size),
        gpu=0 if work.device == "cuda" else -1,
        gamma=0.99,
        explorer=explorer,
        replay_start_size=work.batch_size,
        target_update_interval=10_000,
        update_interval=1,
        batch_accumulator="mean",
        phi=scale,
        minibatch_size=work.batch_size,
        episodic_update_len=work.sequence_length,
        recurrent=True,
        max_grad_norm=10.0,
    )


def fill(buffer: Any, experience: Experience, hidden_size: int, seed: int) -> None:
    """
    Tell the replay buffer the experience, as the agent tells it.

    :param buffer: PFRL's
    :param experience: made up
    :param hidden_size: features of the LSTM
    :param seed: of the stored states
    """
    rng = np.random.default_rng(seed)
    # As its LSTM hands them over: for each recurrent layer, hidden state and memory, (1, hidden_size)
    pool = [(tuple(rng.normal(size=(2, 1, hidden_size)).astype(np.float32)),) for _ in range(N_STATES)]
    n_steps, n_envs = experience.dones.shape
    # A frame is one object, be it a step's or that of the step before: so PFRL keeps them too
    frames = [list(experience.frames[step]) for step in range(n_steps + 1)]
    for step in range(n_steps):
        for env in range(n_envs):
            buffer.append(
                state=frames[step][env],
                action=int(experience.actions[step, env]),
                reward=float(experience.rewards[step, env]),
                next_state=frames[step + 1][env],
                is_state_terminal=bool(experience.dones[step, env]),
                env_id=env,
                recurrent_state=pool[step % N_STATES],
                next_recurrent_state=pool[(step + 1) % N_STATES],
            )
    for env in range(n_envs):
        buffer.stop_current_episode(env_id=env)


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task: an operation is an update, or an action in each environment
    """
    logging.getLogger("pfrl").setLevel(logging.ERROR)
    th.set_num_threads(work.threads)
    pfrl.utils.set_random_seed(work.seed)
    agent, clock = make_agent(work), count(1)
    is_update = work.measurement == "updates"
    n_envs = REPLAY_ENVS if is_update else work.n_envs
    experience = experience_of(work, work.buffer_size // n_envs if is_update else 64, n_envs)
    if is_update:
        fill(agent.replay_buffer, experience, work.hidden_size, work.seed)
        if agent.replay_buffer.n_episodes < work.batch_size:
            raise ValueError(
                f"buffer_size must hold {work.batch_size} episodes, as PFRL draws so many different ones, got "
                f"{work.buffer_size} frames and {agent.replay_buffer.n_episodes} episodes"
            )

    def wait() -> None:
        if work.device == "cuda":
            th.cuda.synchronize()

    def update(n_operations: int) -> int:
        for _ in range(n_operations):
            assert agent.replay_updater.update_if_necessary(next(clock))
        wait()
        return n_operations

    def act(n_operations: int) -> int:
        for _ in range(n_operations):
            agent.batch_act(list(experience.frames[next(clock) % 64]))
        wait()
        return n_operations * n_envs

    info = {
        "parameters": sum(parameter.numel() for parameter in agent.model.parameters()),
        "frames_per_update": work.batch_size * work.sequence_length,
        "precision": "float32",
        "versions": {"pfrl": version("pfrl"), "torch": th.__version__, "numpy": np.__version__},
    }
    return Task(update if is_update else act, info)


if __name__ == "__main__":
    serve(build)
