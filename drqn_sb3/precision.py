"""In which precision the networks compute, and the copies of them that compute in a lower one."""

from copy import deepcopy

import torch as th

from drqn_sb3.networks import RecurrentQNetwork

PRECISIONS = ("auto", "float32", "bfloat16")
WORTHWHILE_PARAMETERS = 500_000
"""Smaller networks spend much of their time on other things than products of matrices, and would gain little."""


def has_fast_bfloat16(device: th.device) -> bool:
    """
    Whether a device multiplies matrices of bfloat16 faster than those of float32.

    :param device: the device
    :return: True for processors with AVX512-BF16 (those with AMX have it too) and for CUDA devices from Ampere on
    """
    if device.type == "cuda":
        with th.cuda.device(device):
            return th.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and th.cpu._is_avx512_bf16_supported()


def compute_dtype(precision: str, q_net: RecurrentQNetwork) -> th.dtype:
    """
    What an argument ``precision`` means for a network where it is.

    :param precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where the device is fast at it and the network
        large enough to gain, :data:`WORTHWHILE_PARAMETERS`
    :param q_net: the network
    :return: the precision to compute in
    :raises ValueError: if the network can't compute in bfloat16
    """
    # Running means and the like would be of that precision, too; the predictor's stay as they are
    buffers = [name for name, _ in q_net.named_buffers() if not name.startswith("predictor.")]
    if precision == "bfloat16" and buffers:
        raise ValueError(f'precision="bfloat16" needs a network without buffers (as of batch normalisation), got {buffers}')
    if precision != "auto":
        return th.bfloat16 if precision == "bfloat16" else th.float32
    n_parameters = sum(parameter.numel() for parameter in q_net.parameters())
    is_worthwhile = n_parameters >= WORTHWHILE_PARAMETERS and not buffers
    return th.bfloat16 if is_worthwhile and has_fast_bfloat16(q_net.device) else th.float32


class Replica:
    """
    A network that computes in a precision of its own: its weights follow those of another one in float32, which its
    gradients go to, and its buffers are the other's. In float32 it is that other network itself.

    :param source: the network to follow
    :param dtype: ``float32`` or ``bfloat16``
    """

    def __init__(self, source: RecurrentQNetwork, dtype: th.dtype) -> None:
        self.source = source
        self.network = source
        if dtype != th.float32:
            shared = {id(buffer): buffer for buffer in source.buffers()}
            self.network = deepcopy(source, shared).lower_precision(dtype)
        self._parameters: list[th.Tensor] = list(self.network.parameters())
        self._source_parameters: list[th.Tensor] = list(source.parameters())
        self.pull_weights()

    @th.no_grad()
    def pull_weights(self) -> None:
        """Follow the source; to be called when its weights have changed."""
        if self.network is not self.source:
            th._foreach_copy_(self._parameters, self._source_parameters)
        self._followed = self._marks()

    def is_behind(self) -> bool:
        """
        Whether somebody has changed the source's weights, as far as PyTorch tells.

        :return: False also where they were changed by way of ``parameter.data``, as SB3's updates of the target network do
        """
        return self._marks() != self._followed

    def _marks(self) -> list[tuple[int, int]]:
        """What changes with a parameter: the count of changes in place, and where its data lie."""
        return [(parameter._version, parameter.data_ptr()) for parameter in self._source_parameters]

    def clear_gradients(self) -> None:
        """Forget the gradients, those of the source excepted, which keep their memory for :meth:`push_gradients`."""
        for parameter in self.network.parameters():
            parameter.grad = None

    @th.no_grad()
    def push_gradients(self) -> None:
        """Hand the gradients over to the source."""
        if self.network is self.source:
            return
        for parameter, source in zip(self._parameters, self._source_parameters, strict=True):
            if parameter.grad is None:
                source.grad = None
            elif source.grad is None:
                source.grad = parameter.grad.to(source.dtype)
            else:
                source.grad.copy_(parameter.grad)
