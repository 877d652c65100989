"""
Where an update's time goes: PyTorch's profiler, its operations put into a few named parts.

An operation's time is its own, without what it calls. What no operation accounts for is Python and the waiting between them:
``other``. On a GPU kernels are told apart by their names, which do not say whose product of matrices it is.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch as th
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from drqn_sb3 import DRQN

GATHER, OPTIMISER = "benchmark.gather", "Optimizer.step"
PARTS = (
    "gather",
    "convolutions",
    "input projection",
    "recurrent matmuls",
    "other matmuls",
    "pointwise",
    "optimiser",
    "copies",
    "other",
)

MATRIX_PRODUCT = re.compile(r"mm\b|addmm|matmul|linear|gemm|nvjet|cutlass|cublas|mkl", re.IGNORECASE)
CONVOLUTION = re.compile(r"conv|cudnn|fprop|wgrad|dgrad|nchw|nhwc", re.IGNORECASE)
COPY = re.compile(r"copy|reorder|_to_copy|clone|contiguous|memcpy|memset|aten::to|aten::cat|aten::stack", re.IGNORECASE)
# What says so by its name alone: clipping stands between the backward pass and the step, and a GPU's kernels have no callers
UPDATING = re.compile(r"norm|_foreach|adam|multi_tensor_apply", re.IGNORECASE)
GATHERING_KERNEL = re.compile(r"^(?!aten::).*(index|gather)", re.IGNORECASE)


class Network(NamedTuple):
    """
    Sizes by which products of matrices are told apart.

    :param n_features: what the LSTM sees of a frame
    :param hidden_size: of the LSTM
    """

    n_features: int
    hidden_size: int


def part_of(name: str, shapes: Sequence[Any], ancestors: Sequence[str], network: Network) -> str:
    """
    Which part of an update an operation belongs to.

    :param name: the operation's, or the kernel's
    :param shapes: of the tensors it is given
    :param ancestors: what it was called by
    :param network: sizes
    :return: one of :data:`PARTS`
    """
    lineage = (name, *ancestors)
    if GATHER in lineage or GATHERING_KERNEL.search(name):
        return "gather"
    if any(entry.startswith(OPTIMISER) for entry in lineage) or UPDATING.search(name):
        return "optimiser"
    if CONVOLUTION.search(name):
        return "convolutions"
    if MATRIX_PRODUCT.search(name):
        sizes = {size for shape in shapes for size in shape}
        if network.n_features in sizes:
            return "input projection"
        return "recurrent matmuls" if 4 * network.hidden_size in sizes else "other matmuls"
    if COPY.search(name):
        return "copies"
    return "pointwise" if name.startswith("aten::") or "elementwise" in name or "reduce" in name else "other"


def ancestors_of(event: FunctionEvent) -> list[str]:
    """
    :param event: of the profiler
    :return: names of what it was called by
    """
    names, parent = [], event.cpu_parent
    while parent is not None:
        names.append(parent.name)
        parent = parent.cpu_parent
    return names


def sum_up(events: Sequence[FunctionEvent], network: Network, on_device: bool) -> dict[str, float]:
    """
    :param events: of the profiler
    :param network: sizes
    :param on_device: whether to sum up kernels of the GPU rather than operations of the CPU
    :return: part -> seconds
    """
    seconds = dict.fromkeys(PARTS, 0.0)
    for event in events:
        is_kernel = event.device_type == th.autograd.DeviceType.CUDA
        if is_kernel != on_device:
            continue
        own = event.self_device_time_total if on_device else event.self_cpu_time_total
        seconds[part_of(event.name, event.input_shapes or [], ancestors_of(event), network)] += own * 1e-6
    return seconds


def profile_updates(model: DRQN, run: Callable[[int], int], n_updates: int) -> list[dict[str, Any]]:
    """
    :param model: a DRQN whose replay buffer is full
    :param run: does so many updates, and waits for them
    :param n_updates: how many to look at
    :return: a row per part: its name, seconds per update, share of the whole
    """
    q_net: Any = model.q_net
    buffer: Any = model.replay_buffer
    network = Network(q_net.cell.layers[0].weight_ih.shape[1], q_net.cell.hidden_size)
    sample = buffer.sample

    def marked_sample(*args: Any, **kwargs: Any) -> Any:
        with record_function(GATHER):
            return sample(*args, **kwargs)

    on_device = model.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    buffer.sample = marked_sample
    try:
        run(1)
        with profile(activities=activities, record_shapes=True) as profiler:
            start = time.perf_counter()
            run(n_updates)
            elapsed = time.perf_counter() - start
    finally:
        buffer.sample = sample
    seconds = sum_up(profiler.events(), network, on_device)
    seconds["other"] += max(elapsed - sum(seconds.values()), 0.0)
    whole = sum(seconds.values())
    return [{"part": part, "seconds_per_update": value / n_updates, "share": value / whole} for part, value in seconds.items()]
