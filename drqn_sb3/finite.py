"""Numbers that are none: what is said of them, and where they hide in networks and optimisers."""

from collections.abc import Iterator

import torch as th

_CAUSES = (
    "usual causes are a learning_rate that is too high, rewards of a large scale (which VecNormalize or a wrapper that "
    "clips them sees to), and a max_grad_norm that is too high"
)


class NotFiniteError(FloatingPointError, ValueError):
    """
    Something is NaN or infinite that must not be.

    It is a ``ValueError`` too, which the zoo's hyperparameter search takes for a trial to be given up.
    """


def diverged(n_updates: int, what: str, is_taken: bool) -> NotFiniteError:
    """
    Make the error of a network that has diverged.

    :param n_updates: which update it was found at
    :param what: what was not finite
    :param is_taken: whether the weights may have been spoilt, in place of those of the last good update
    :return: the error
    """
    if is_taken:
        state = "The weights are spoilt or may be: resume from the last checkpoint or saved model"
    else:
        state = "Its step was not taken: the weights are those of the update before"
    return NotFiniteError(f"update {n_updates}: {what}. {state}. The {_CAUSES}")


def find_spoilt(module: th.nn.Module, optimizer: th.optim.Optimizer) -> str | None:
    """
    Look for NaN and infinity in weights, buffers and the optimiser's state. On a GPU this waits for it, once.

    :param module: the networks
    :param optimizer: the optimiser
    :return: the name of one that has some, ``None`` if there is none
    """
    named = dict(_floats(module, optimizer))
    if not named:
        return None
    # Optimisers keep their step counts on the CPU, or not
    device = next(iter(named.values())).device
    are_finite = th.stack([tensor.detach().isfinite().all().to(device) for tensor in named.values()])
    return next((name for name, is_finite in zip(named, are_finite.tolist(), strict=True) if not is_finite), None)


def _floats(module: th.nn.Module, optimizer: th.optim.Optimizer) -> Iterator[tuple[str, th.Tensor]]:
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, th.Tensor) and tensor.is_floating_point():
            yield name, tensor
    for index, state in enumerate(optimizer.state.values()):
        for name, tensor in state.items():
            if isinstance(tensor, th.Tensor) and tensor.is_floating_point():
                yield f"optimizer.{name}[{index}]", tensor
