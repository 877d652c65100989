"""
The DRQN of this project: updates and acting, in its default precision, in another, or by the plain implementation.

An update draws windows from the replay buffer, unrolls both networks over each window and the step after it, and takes the
loss over all of a window's steps; windows start from zeros, the state is reset where an episode starts. Target updates are
left out, here as with every other contestant: there is one every few hundred updates.
"""

from typing import Any

import torch as th

from drqn_sb3 import DRQN
from drqn_sb3.precision import compute_dtype
from eval.throughput.experience import experience_of
from eval.throughput.plain import PlainDRQN
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


def drqn_class(options: dict[str, Any]) -> tuple[type[DRQN], dict[str, Any]]:
    """
    :param options: ``plain``: whether to take the plain implementation; ``precision``: the argument, or ``None``
    :return: the class, and the arguments that choose the precision
    """
    if options.get("plain"):
        return PlainDRQN, {}
    return DRQN, {} if options.get("precision") is None else {"precision": options["precision"]}


def make_model(work: Work, n_envs: int) -> DRQN:
    """
    :param work: sizes, seed, device and options
    :param n_envs: environments of the model
    :return: a DRQN with the paper's network, greedy, its replay buffer empty
    """
    model_class, kwargs = drqn_class(work.options)
    model = model_class(
        "CnnLstmPolicy",
        frame_envs(work, n_envs),
        buffer_size=work.buffer_size,
        batch_size=work.batch_size,
        sequence_length=work.sequence_length,
        learning_starts=1_000_000,
        max_grad_norm=MAX_GRAD_NORM,
        exploration_initial_eps=0.0,
        policy_kwargs={"hidden_size": work.hidden_size},
        seed=work.seed,
        device=work.device,
        **kwargs,
    )
    silence(model)
    return model


def make_update_task(work: Work) -> Task:
    """
    :param work: what to do
    :return: one operation is an update, replay included, as ``learn`` does it
    """
    model = make_model(work, REPLAY_ENVS)
    fill(model.replay_buffer, experience_of(work, work.buffer_size // REPLAY_ENVS, REPLAY_ENVS))

    def run(n_operations: int) -> int:
        for _ in range(n_operations):
            model.train(gradient_steps=1, batch_size=work.batch_size)
        wait_for(model.device)
        return n_operations

    def profile() -> list[dict[str, Any]]:
        from eval.throughput.workers.profiling import profile_updates

        return profile_updates(model, run, n_updates=4)

    def flops() -> int:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            run(1)
        return int(counter.get_total_flops())

    return Task(run, describe(model, work), {"profile": profile, "flops": flops})


def make_acting_task(work: Work) -> Task:
    """
    :param work: what to do
    :return: one operation chooses an action in each environment
    """
    model = make_model(work, work.n_envs)
    return Task(acting(model, experience_of(work, 64, work.n_envs), 1), describe(model, work))


def precision_of(model: DRQN) -> str:
    """
    :param model: a DRQN
    :return: what its matrices are multiplied in, PyTorch's name of it
    """
    return str(compute_dtype(model.precision, model.q_net)).removeprefix("torch.")


def describe(model: DRQN, work: Work) -> dict[str, Any]:
    """
    :param model: the model
    :param work: what it does
    :return: what the report should know
    """
    return {
        "parameters": count_parameters(model.q_net),
        "frames_per_update": work.batch_size * work.sequence_length,
        "precision": precision_of(model),
        "versions": versions(),
    }


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task
    """
    th.set_num_threads(work.threads)
    return {"updates": make_update_task, "acting": make_acting_task}[work.measurement](work)


if __name__ == "__main__":
    serve(build)
