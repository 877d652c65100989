"""
An update as one CUDA graph.

An update is a few hundred small kernels: launched one by one from Python, they keep a GPU waiting. A graph launches them all
at once, on tensors that stay where they are: each batch is copied into the tensors that the graph was captured with.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch as th

from drqn_sb3.type_aliases import SequenceSamples

N_WARM_UP = 3


class CapturedUpdate:
    """
    Calls an update: the first times as it is, which PyTorch wants before a capture, then as a graph.

    What the update does must not depend on the numbers it sees, and it must not wait for the GPU. Batches of another shape
    than the captured one are given to the update as it is.

    :param update: takes one step with a batch of windows
    :param optimizer: the optimiser that it uses; its learning rate may change between calls
    """

    def __init__(self, update: Callable[[SequenceSamples], None], optimizer: th.optim.Optimizer) -> None:
        self.update = update
        self.optimizer = optimizer
        self._n_calls = 0
        self._graph: th.cuda.CUDAGraph | None = None
        self._samples: SequenceSamples | None = None
        self._rates: list[th.Tensor] = []

    def __call__(self, samples: SequenceSamples) -> None:
        """
        Take one step.

        :param samples: the windows to learn from, on the GPU
        """
        with th.cuda.device(samples.mask.device):
            self._n_calls += 1
            if self._n_calls <= N_WARM_UP:
                self._warm_up(samples)
                return
            if self._graph is None:
                self._capture(samples)
            self._replay(samples)

    def _replay(self, samples: SequenceSamples) -> None:
        assert self._graph is not None and self._samples is not None
        if samples.mask.shape != self._samples.mask.shape:
            self.update(samples)
            return
        for static, new in zip(_tensors(self._samples), _tensors(samples), strict=True):
            static.copy_(new, non_blocking=True)
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()

    def _warm_up(self, samples: SequenceSamples) -> None:
        stream = th.cuda.Stream()
        stream.wait_stream(th.cuda.current_stream())
        with th.cuda.stream(stream):
            self.update(samples)
        th.cuda.current_stream().wait_stream(stream)

    def _capture(self, samples: SequenceSamples) -> None:
        """Record an update, without taking its step."""
        self._samples = _clone(samples)
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        self._rates = [th.tensor(rate, device=samples.mask.device) for rate in rates]
        for group, static in zip(groups, self._rates, strict=True):
            group["lr"] = static
        graph = th.cuda.CUDAGraph()
        try:
            with th.cuda.graph(graph):
                self.update(self._samples)
        except RuntimeError as error:
            raise RuntimeError(
                f"the update can't be captured as a CUDA graph, capture_graph=False goes without: {error}"
            ) from error
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
        self._graph = graph


def fit_optimizer(optimizer: th.optim.Optimizer, is_capturable: bool) -> None:
    """
    Have an optimiser's flags and step counts be what they have to be here, wherever its state was saved.

    :param optimizer: any of PyTorch's
    :param is_capturable: whether its steps will be captured as a CUDA graph
    """
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"] = optimizer.defaults["fused"]
        if "capturable" in group:
            group["capturable"] = is_capturable
        for parameter in group["params"]:
            step = optimizer.state.get(parameter, {}).get("step")
            if isinstance(step, th.Tensor):
                is_on_device = is_capturable or group.get("fused")
                device = parameter.device if is_on_device else th.device("cpu")
                optimizer.state[parameter]["step"] = step.to(device, th.float32)


def _tensors(samples: SequenceSamples) -> Iterator[th.Tensor]:
    """Every tensor of a batch, in a fixed order."""
    for part in samples:
        if isinstance(part, th.Tensor):
            yield part
        elif part is not None:
            yield from part.values() if isinstance(part, dict) else part


def _clone(samples: SequenceSamples) -> SequenceSamples:
    def clone(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: value.clone() for key, value in part.items()}
        if isinstance(part, tuple):
            return tuple(value.clone() for value in part)
        return None if part is None else part.clone()

    return SequenceSamples(*(clone(part) for part in samples))
