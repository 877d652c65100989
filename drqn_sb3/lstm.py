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
    hidden_size)`` before the first step. Before each step the state is multiplied by ``keeps`` ``(time, batch, 1)``, then
    the ``*_put_back`` ``(time, batch, hidden_size)`` are added, unless they are ``None``.

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
        memories_in, memories_out, outputs = (memory.new_empty(n_time, batch, hidden_size) for _ in range(3))
        for time in range(n_time):
            hidden, memory = hidden * keeps[time], th.mul(memory, keeps[time], out=memories_in[time])
            if hidden_put_back is not None and memory_put_back is not None:
                hidden, memory = hidden + hidden_put_back[time], memory.add_(memory_put_back[time])
            hiddens_in[time] = hidden
            gates[time] = th.addmm(projected[time], hiddens_in[time], weight.t())
            _activate(gates[time], hidden_size)
            input_gate, forget_gate, candidate, output_gate = gates[time].chunk(4, dim=1)
            memory = (forget_gate * memory).addcmul_(input_gate, candidate)
            squashed = th.tanh(memory, out=memories_out[time])
            hidden = th.mul(output_gate, squashed, out=outputs[time])
        ctx.save_for_backward(weight, keeps, gates, hiddens_in, memories_in, memories_out)
        ctx.puts_back = hidden_put_back is not None
        return outputs, hidden.clone(), memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: th.Tensor, d_hidden: th.Tensor, d_memory: th.Tensor) -> Gradients:
        """Run backward; ``d_`` marks the gradient by what follows it."""
        weight, keeps, gates, hiddens_in, memories_in, squashed = ctx.saved_tensors
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=2)
        # How the memory and the output gate change with the output, the other gates with the memory: for all steps at once
        memory_by_hidden = output_gate * (1 - squashed * squashed)
        output_by_hidden = squashed * output_gate * (1 - output_gate)
        # (time, batch, 3, hidden_size)
        gates_by_memory = th.stack(
            (
                candidate * input_gate * (1 - input_gate),
                memories_in * forget_gate * (1 - forget_gate),
                input_gate * (1 - candidate * candidate),
            ),
            dim=2,
        )
        d_projected = hiddens_in.new_empty(gates.shape)
        d_gates = d_projected.unflatten(2, (4, -1))
        d_hiddens_in, d_memories_in = [], []
        for time in reversed(range(len(gates))):
            d_hidden = d_hidden + d_outputs[time]
            d_memory = th.addcmul(d_memory, d_hidden, memory_by_hidden[time])
            d_gates[time, :, :3] = gates_by_memory[time] * d_memory.unsqueeze(1)
            d_gates[time, :, 3] = d_hidden * output_by_hidden[time]
            d_hidden_in, d_memory_in = d_projected[time] @ weight, d_memory * forget_gate[time]
            d_hidden, d_memory = d_hidden_in * keeps[time], d_memory_in * keeps[time]
            d_hiddens_in.append(d_hidden_in)
            d_memories_in.append(d_memory_in)
        d_weight = d_projected.flatten(0, 1).t() @ hiddens_in.flatten(0, 1)
        put_back: Gradients = (None, None)
        if ctx.puts_back:
            put_back = th.stack(d_hiddens_in[::-1]).to(gates.dtype), th.stack(d_memories_in[::-1])
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
    :param keeps: what states are multiplied by before each step, ``(time, batch, 1)``, of the states' precision
    :param put_back: what is added to them then, each ``(time, batch, hidden_size)``, or ``None``
    :return: the outputs ``(time, batch, hidden_size)``, and the states after the last step
    """
    outputs, *last = LSTMLoop.apply(projected, weight, *states, keeps, *(put_back or (None, None)))
    return outputs, tuple(last)


def _activate(gates: th.Tensor, hidden_size: int) -> None:
    """Squash the gates of one step ``(batch, 4 * hidden_size)``, in place."""
    gates[:, : 2 * hidden_size].sigmoid_()
    gates[:, 2 * hidden_size : 3 * hidden_size].tanh_()
    gates[:, 3 * hidden_size :].sigmoid_()
