"""What the machine can do at most: a large matrix product, in the precision and with the threads of the contestants."""

import torch as th

from eval.throughput.protocol import Task, Work, serve
from eval.throughput.workers.models import versions, wait_for

SIZE = {"cpu": 2048, "cuda": 8192}


def build(work: Work) -> Task:
    """
    :param work: what to do; ``options``: ``precision``, PyTorch's name of it, and ``size`` of the matrices
    :return: the task: an operation is a matrix product, what is counted are floating point operations
    """
    th.set_num_threads(work.threads)
    device, precision = th.device(work.device), work.options["precision"]
    size = work.options.get("size") or SIZE[device.type]
    generator = th.Generator(device).manual_seed(work.seed)
    left, right = (th.randn(size, size, generator=generator, device=device).to(getattr(th, precision)) for _ in range(2))

    def run(n_operations: int) -> int:
        for _ in range(n_operations):
            # The second factor transposed, as a linear layer's weights are
            th.nn.functional.linear(left, right)
        wait_for(device)
        return n_operations * 2 * size**3

    return Task(run, {"precision": precision, "size": size, "versions": versions()})


if __name__ == "__main__":
    serve(build)
