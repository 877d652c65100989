"""
TorchRL's DRQN, made of the parts that its tutorial ``dqn_with_rnn`` puts together, with the paper's network.

An update is its training loop's: sample slices, ``DQNLoss``, backward, Adam. Unlike ours,

- the loss has a target network but no double Q (the tutorial's ``delay_value=True``): two passes go forward, the online
  network over the slices and the target network over the next frames, which are stored and sampled a second time;
- slices stay within their episode, start from stored states, and all their steps are trained on.

Where the tutorial leaves a choice, the faster one was taken: frames are stored as bytes, not as float32, in memory instead
of a memory map, and the sample is folded to ``(slices, steps)``. Flat, as the sampler returns it, the pass over the next
frames would go through all slices in one sequence, as nothing marks there where a slice begins. Samples are prefetched by
threads of its own, as in the tutorial, whatever the number of threads. Added: clipping at 10.
"""

import warnings
from typing import Any

import numpy as np
import tensordict  # type: ignore[import-not-found]
import torch as th
import torchrl  # type: ignore[import-not-found]
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential  # type: ignore[import-not-found]
from torch import nn
from torchrl.data import (  # type: ignore[import-not-found]
    LazyTensorStorage,
    OneHot,
    SliceSampler,
    TensorDictReplayBuffer,
)
from torchrl.modules import ConvNet, EGreedyModule, LSTMModule, QValueModule  # type: ignore[import-not-found]
from torchrl.objectives import DQNLoss, SoftUpdate  # type: ignore[import-not-found]

from eval.throughput.experience import Experience, experience_of
from eval.throughput.protocol import Task, Work, serve

STATES = ("recurrent_state_h", "recurrent_state_c")


class Scale(nn.Module):
    """Frames to float, from 0 to 1."""

    def forward(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: uint8
        :return: float32
        """
        return frames.float() / 255


def make_policy(work: Work) -> Any:
    """
    :param work: sizes and device
    :return: features, LSTM, Q-values, and the greedy action
    """
    size = ((work.image_size - 8) // 4 + 1 - 4) // 2 + 1 - 2
    convolutions = ConvNet(
        in_features=1,
        num_cells=[32, 64, 64],
        kernel_sizes=[8, 4, 3],
        strides=[4, 2, 1],
        activation_class=nn.ReLU,
        device=work.device,
    )
    head = nn.Linear(work.hidden_size, work.n_actions, device=work.device)
    return TensorDictSequential(
        TensorDictModule(nn.Sequential(Scale(), convolutions), in_keys=["pixels"], out_keys=["embed"]),
        LSTMModule(
            input_size=64 * size**2,
            hidden_size=work.hidden_size,
            in_key="embed",
            out_key="embed",
            device=work.device,
        ),
        TensorDictModule(head, in_keys=["embed"], out_keys=["action_value"]),
        QValueModule(action_space=None, spec=OneHot(work.n_actions)),
    )


def steps_of(experience: Experience, env: int, work: Work) -> Any:
    """
    One environment's steps, as a collector writes them down.

    :param experience: made up
    :param env: which environment
    :param work: sizes
    :return: a tensordict of ``n_steps``; the steps after the last episode's end are left out, so that none runs on
    """
    n_steps = int(np.flatnonzero(experience.dones[:, env])[-1]) + 1

    def column(values: np.ndarray) -> th.Tensor:
        return th.as_tensor(values[:n_steps, env]).unsqueeze(1)

    frames, dones = th.as_tensor(experience.frames[: n_steps + 1, env]), column(experience.dones)
    states = {key: th.zeros(n_steps, 1, work.hidden_size) for key in STATES}
    came = {"reward": column(experience.rewards), "done": dones, "terminated": dones, "is_init": th.zeros_like(dones)}
    actions = th.as_tensor(experience.actions[:n_steps, env])
    fields = {
        "pixels": frames[:-1],
        "is_init": column(experience.episode_starts),
        "action": nn.functional.one_hot(actions, work.n_actions),
        **states,
        "next": {"pixels": frames[1:], **came, **states},
    }
    return TensorDict(fields, [n_steps])


def make_buffer(work: Work) -> Any:
    """
    :param work: sizes and seed
    :return: the tutorial's replay buffer, full
    """
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(work.buffer_size),
        sampler=SliceSampler(slice_len=work.sequence_length, end_key=("next", "done"), cache_values=True, strict_length=False),
        batch_size=work.batch_size * work.sequence_length,
        prefetch=10,
        transform=lambda sample: sample.to(work.device),
    )
    experience = experience_of(work, work.buffer_size // 8, 8)
    for env in range(8):
        buffer.extend(steps_of(experience, env, work))
    return buffer


def make_update_task(work: Work) -> Task:
    """
    :param work: what to do
    :return: one operation is an update, replay included
    """
    policy = make_policy(work)
    loss = DQNLoss(policy, action_space=OneHot(work.n_actions), delay_value=True)
    SoftUpdate(loss, eps=0.95)  # its step is left out, as with everyone
    optimizer = th.optim.Adam(policy.parameters(), lr=3e-4)
    buffer = make_buffer(work)

    def run(n_operations: int) -> int:
        for _ in range(n_operations):
            sample = buffer.sample().reshape(work.batch_size, work.sequence_length)
            loss(sample)["loss"].backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()
        if work.device == "cuda":
            th.cuda.synchronize()
        return n_operations

    return Task(run, describe(policy, work))


def make_acting_task(work: Work) -> Task:
    """
    :param work: what to do
    :return: one operation chooses an action in each environment
    """
    policy = make_policy(work)
    exploration = EGreedyModule(spec=OneHot(work.n_actions), eps_init=0.0, eps_end=0.0, device=work.device)
    actor = TensorDictSequential(policy, exploration)
    experience = experience_of(work, 64, work.n_envs)
    starts = experience.episode_starts[..., None]
    states = {key: th.zeros(work.n_envs, 1, work.hidden_size, device=work.device) for key in STATES}

    def run(n_operations: int) -> int:
        nonlocal states
        for i in range(n_operations):
            fields = {"pixels": experience.frames[i % 64], "is_init": starts[i % 64]}
            tensors = {key: th.as_tensor(value, device=work.device) for key, value in fields.items()}
            with th.no_grad():
                acted = actor(TensorDict({**tensors, **states}, [work.n_envs]))
            states = {key: acted["next", key] for key in STATES}
            acted["action"].cpu().numpy()
        return n_operations * work.n_envs

    return Task(run, describe(policy, work))


def describe(policy: nn.Module, work: Work) -> dict[str, Any]:
    """
    :param policy: the policy
    :param work: what it does
    :return: what the report should know
    """
    libraries = {"torchrl": torchrl.__version__, "tensordict": tensordict.__version__}
    return {
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "frames_per_update": work.batch_size * work.sequence_length,
        "precision": "float32",
        "versions": {**libraries, "torch": th.__version__, "numpy": np.__version__},
    }


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(work.threads)
    th.manual_seed(work.seed)
    return {"updates": make_update_task, "acting": make_acting_task}[work.measurement](work)


if __name__ == "__main__":
    serve(build)
