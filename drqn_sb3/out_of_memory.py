"""What to say when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch as th

if TYPE_CHECKING:
    from drqn_sb3.persistence import PersistentDQN

_WORDS = (
    *("defaultcpuallocator", "can't allocate memory", "not enough memory"),
    *("cuda out of memory", "cuda error: out of memory", "backend out of memory", "alloc_failed"),
)
_MIB = 2**20


@contextmanager
def memory_advice(model: "PersistentDQN") -> Iterator[None]:
    """
    Add advice to an error that tells of too little memory.

    :param model: the model whose sizes matter
    :raises torch.OutOfMemoryError, MemoryError, RuntimeError: of the same kind as the error, naming sizes and what to change
    """
    try:
        yield
    except th.OutOfMemoryError as error:
        raise th.OutOfMemoryError(f"{_advise(model)}. {error}") from error
    except MemoryError as error:
        raise MemoryError(f"{_advise(model)}. {error}") from error
    except RuntimeError as error:
        # PyTorch has no class of its own for what happens on a processor, or in a library of CUDA's
        if not any(word in str(error).lower() for word in _WORDS):
            raise
        raise RuntimeError(f"{_advise(model)}. {error}") from error


def _advise(model: "PersistentDQN") -> str:
    assert model.replay_buffer is not None
    storage = model.replay_buffer.storage
    n_bytes = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in storage.observation_shapes.values())
    window = model.burn_in + model.sequence_length + model.n_steps
    batch = model.batch_size * window * n_bytes / _MIB
    buffer = storage.capacity * storage.n_envs * n_bytes / _MIB
    on_device = f', or buffer_device="cpu" (the buffer lies on {storage.device})' if storage.device.type != "cpu" else ""
    return (
        f"out of memory on {model.device}, the model's device, or beside it. A batch holds batch_size={model.batch_size} "
        f"windows of {window} observations (burn_in={model.burn_in} + sequence_length={model.sequence_length} + "
        f"n_steps={model.n_steps}), {batch:.1f} MiB before the network makes features of them; the replay buffer holds "
        f"buffer_size={model.buffer_size} observations, {buffer:.1f} MiB; there are n_envs={model.n_envs} environments. "
        f"Lower batch_size, sequence_length or burn_in for updates, buffer_size for the buffer{on_device}, "
        "n_envs for the environments"
    )
