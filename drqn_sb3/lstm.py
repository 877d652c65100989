"""
The LSTM's loop over time, differentiated by hand.

Left to autograd, every step would record a dozen small operations and add its share to the weights' gradient by itself.
Here what does not depend on the step before is computed for all steps at once, and the recurrent weights' gradient is one
product. Matrices are multiplied in the weights' precision; states, gates and what runs backward through time stay in the
states'. Axis order ``(time, batch, ...)``.
"""

from typing import Any

import torch as th
from torch.autograd.function import once_differentiable

from drqn_sb3.type_aliases import RecurrentStates

Gradients = tuple[th.Tensor | None, ...]


class LSTMLoop(th.autograd.Function):
    """
    One layer over all steps: ``LSTMLoop.apply(projected, weight, hidden, memory, keeps, hidden_put_back, memory_put_back)``.

    ``projected`` ``(time, batch, 4 * hidden_size)`` is what inputs and biases give to the gates (input, forget, candidate,
    output: PyTorch's order), ``weight`` is the recurrent one, ``hidden`` and ``memory`` are the state ``(batch,
    hidden_size)`` before the first step. Before each step, where ``keeps`` ``(time, batch, 1)`` is false, the state is put
    back to the ``*_put_back`` ``(time, batch, hidden_size)``, or to zeros if they are ``None``.

    Gives the outputs ``(time, batch, hidden_size)`` and the state after the last step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        projected: th.Tensor,
        weight: th.Tensor,
        hidden: th.Tensor,
        memory: th.Tensor,
        keeps: th.Tensor,
        hidden_put_back: th.Tensor | None,
        memory_put_back: th.Tensor | None,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Run forward, keeping what running backward needs."""
        n_time, batch, hidden_size = *projected.shape[:2], weight.shape[1]
        gates = memory.new_empty(n_time, batch, 4 * hidden_size)
        hiddens_in = projected.new_empty(n_time, batch, hidden_size)
        memories_in, squashed, outputs = (memory.new_empty(n_time, batch, hidden_size) for _ in range(3))
        for time in range(n_time):
            hiddens_in[time] = th.where(keeps[time], hidden, 0.0 if hidden_put_back is None else hidden_put_back[time])
            memories_in[time] = th.where(keeps[time], memory, 0.0 if memory_put_back is None else memory_put_back[time])
            gates[time] = th.addmm(projected[time], hiddens_in[time], weight.t())
            _activate(gates[time], hidden_size)
            input_gate, forget_gate, candidate, output_gate = gates[time].chunk(4, dim=1)
            memory = (forget_gate * memories_in[time]).addcmul_(input_gate, candidate)
            th.tanh(memory, out=squashed[time])
            hidden = th.mul(output_gate, squashed[time], out=outputs[time])
        ctx.save_for_backward(weight, keeps, gates, hiddens_in, memories_in, squashed)
        ctx.puts_back = hidden_put_back is not None
        return outputs, hidden.clone(), memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: th.Tensor, d_hidden: th.Tensor, d_memory: th.Tensor) -> Gradients:
        """Run backward; ``d_`` marks the gradient by what follows it."""
        weight, keeps, gates, hiddens_in, memories_in, squashed = ctx.saved_tensors
        memory_by_hidden, output_by_hidden, gates_by_memory = _slopes(gates, memories_in, squashed)
        forget_gate = gates.chunk(4, dim=2)[1]
        d_projected = hiddens_in.new_empty(gates.shape)
        d_gates = d_projected.unflatten(2, (4, -1))
        d_states_in = []
        for time in reversed(range(len(gates))):
            d_hidden = d_hidden + d_outputs[time]
            d_memory = th.addcmul(d_memory, d_hidden, memory_by_hidden[time])
            d_gates[time, :, :3] = gates_by_memory[time] * d_memory.unsqueeze(1)
            d_gates[time, :, 3] = d_hidden * output_by_hidden[time]
            d_states_in.append(((d_projected[time] @ weight).to(gates.dtype), d_memory * forget_gate[time]))
            d_hidden, d_memory = (th.where(keeps[time], d_state, 0.0) for d_state in d_states_in[-1])
        d_weight = d_projected.flatten(0, 1).t() @ hiddens_in.flatten(0, 1)
        put_back: Gradients = (None, None)
        if ctx.puts_back:
            put_back = tuple(th.where(keeps, 0.0, th.stack(d_states[::-1])) for d_states in zip(*d_states_in, strict=True))
        return d_projected, d_weight, d_hidden, d_memory, None, *put_back


def run_lstm(
    projected: th.Tensor,
    weight: th.Tensor,
    states: RecurrentStates,
    keeps: th.Tensor,
    put_back: RecurrentStates | None,
) -> tuple[th.Tensor, RecurrentStates]:
    """
    Run one LSTM layer over all steps; see :class:`LSTMLoop`.

    :param projected: what inputs and biases give to the gates, ``(time, batch, 4 * hidden_size)``
    :param weight: recurrent weights, ``(4 * hidden_size, hidden_size)``
    :param states: before the first step, each ``(batch, hidden_size)``
    :param keeps: where states go on, ``(time, batch, 1)``, bool
    :param put_back: what they are put back to elsewhere, each ``(time, batch, hidden_size)``; ``None`` for zeros
    :return: the outputs ``(time, batch, hidden_size)``, and the states after the last step
    """
    outputs, *last = LSTMLoop.apply(projected, weight, *states, keeps, *(put_back or (None, None)))
    return outputs, tuple(last)


def _activate(gates: th.Tensor, hidden_size: int) -> None:
    """Squash the gates of one step ``(batch, 4 * hidden_size)``, in place."""
    gates[:, : 2 * hidden_size].sigmoid_()
    gates[:, 2 * hidden_size : 3 * hidden_size].tanh_()
    gates[:, 3 * hidden_size :].sigmoid_()


def _slopes(gates: th.Tensor, memories_in: th.Tensor, squashed: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """
    How the memory and the output gate change with the output, and the other gates with the memory, for all steps at once:
    ``(time, batch, hidden_size)`` twice, and ``(time, batch, 3, hidden_size)``.
    """
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=2)
    gates_by_memory = (
        candidate * input_gate * (1 - input_gate),
        memories_in * forget_gate * (1 - forget_gate),
        input_gate * (1 - candidate * candidate),
    )
    memory_by_hidden = output_gate * (1 - squashed * squashed)
    return memory_by_hidden, squashed * output_gate * (1 - output_gate), th.stack(gates_by_memory, dim=2)
