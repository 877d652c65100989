"""
Recurrent cells, and pure functions on their states.

Axis order ``(time, batch, ...)``; states are tuples of ``(n_layers, batch, hidden_size)``. A cell is unrolled by a loop over
time whose input projection is done for all steps at once. That makes it free to reset single sequences in the middle of a
window, where an episode starts. A cell's weights may be of a lower precision than its states, which are those of float32.
"""

from typing import ClassVar, NamedTuple, cast

import torch as th
from torch import nn
from torch.nn import functional as F

from drqn_sb3.lstm import run_lstm
from drqn_sb3.type_aliases import RecurrentStates


class Resets(NamedTuple):
    """
    Where states are put back before a step, and to what.

    :param episode_starts: ``(time, batch)``, bool: to zero
    :param window_starts: ``(time, batch)``, bool: to ``initial_states``, short of an episode's start
    :param initial_states: of one layer, each ``(batch, hidden_size)``; zeros when ``None``
    """

    episode_starts: th.Tensor
    window_starts: th.Tensor | None
    initial_states: RecurrentStates | None

    def apply(self, states: RecurrentStates, time: int) -> RecurrentStates:
        """
        Put states back.

        :param states: each ``(batch, hidden_size)``
        :param time: before which step
        :return: the states to take the step with
        """
        if self.window_starts is not None:
            states = reset_states(states, self.window_starts[time], self.initial_states)
        return reset_states(states, self.episode_starts[time])

    def at_once(self) -> tuple[th.Tensor, RecurrentStates | None]:
        """
        The same for all steps at once.

        :return: where states go on, ``(time, batch, 1)``, bool, and what they are put back to elsewhere, each ``(time, batch,
            hidden_size)``, or ``None`` for zeros
        """
        starts = self.episode_starts
        if self.window_starts is None:
            return ~starts.unsqueeze(-1), None
        keeps = ~(starts | self.window_starts).unsqueeze(-1)
        if self.initial_states is None:
            return keeps, None
        puts_back = (self.window_starts & ~starts).unsqueeze(-1)
        return keeps, tuple(th.where(puts_back, state, 0.0) for state in self.initial_states)


class RecurrentCell(nn.Module):
    """
    A stack of recurrent layers, one weight matrix for the inputs and one for the hidden state each.

    Subclasses give ``n_states``, how many tensors a state has (the first of them is the layer's output),
    ``cell_class``, the PyTorch cell that holds a layer's weights, and :meth:`step`.

    :param input_size: number of input features
    :param hidden_size: number of output features of every layer
    :param n_layers: how many layers are stacked
    """

    n_states: ClassVar[int]
    cell_class: ClassVar[type[nn.RNNCellBase]]

    def __init__(self, input_size: int, hidden_size: int, n_layers: int = 1) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        sizes = [input_size] + [hidden_size] * (n_layers - 1)
        self.layers = nn.ModuleList(self.cell_class(size, hidden_size) for size in sizes)  # type: ignore[call-arg]

    def set_memory_span(self, n_steps: float) -> None:
        """
        Have every layer begin with gates that keep what they have seen for up to so many steps, where PyTorch's initial
        weights forget half of it at each step (Tallec & Ollivier 2018, arXiv 1804.11188, chrono initialisation).

        Draws from PyTorch's generator.

        :param n_steps: the longest time between something seen and its use, in steps, 2 or more
        :raises NotImplementedError: if the cell does not say how
        """
        raise NotImplementedError(f"memory_span needs a cell that defines set_memory_span(), got {type(self).__name__}")

    def weights(self, layer: int) -> nn.RNNCellBase:
        """
        Where a layer's weights are.

        :param layer: which layer
        :return: PyTorch's cell, with ``weight_ih``, ``bias_ih``, ``weight_hh`` and ``bias_hh``
        """
        return cast(nn.RNNCellBase, self.layers[layer])

    def project(self, layer: int, inputs: th.Tensor) -> th.Tensor:
        """
        The part of a layer that does not depend on its state, for any number of steps at once.

        :param layer: which layer
        :param inputs: ``(..., features)``
        :return: ``(..., gates * hidden_size)``
        """
        weights = self.weights(layer)
        return F.linear(inputs.to(weights.weight_ih.dtype), weights.weight_ih, weights.bias_ih)

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        """
        One step of one layer.

        :param layer: which layer
        :param projected: what :meth:`project` made of this step's input, ``(batch, gates * hidden_size)``
        :param states: the layer's states before the step, each ``(batch, hidden_size)``
        :return: the states after it; the first is the layer's output
        """
        raise NotImplementedError(f"{type(self).__name__} must define step()")

    def run(
        self, layer: int, projected: th.Tensor, states: RecurrentStates, resets: Resets
    ) -> tuple[th.Tensor, RecurrentStates]:
        """
        All steps of one layer.

        :param layer: which layer
        :param projected: what :meth:`project` made of the inputs, ``(time, batch, gates * hidden_size)``
        :param states: the layer's states before the first step, each ``(batch, hidden_size)``
        :param resets: where states are put back
        :return: the outputs ``(time, batch, hidden_size)``, and the states after the last step
        """
        outputs = []
        for time, projected_t in enumerate(projected):
            states = self.step(layer, projected_t, resets.apply(states, time))
            outputs.append(states[0])
        return th.stack(outputs), states


class LSTM(RecurrentCell):
    """Long short-term memory, the paper's cell; PyTorch's equations and weight layout, states ``(h, c)``."""

    n_states = 2
    cell_class = nn.LSTMCell

    @th.no_grad()
    def set_memory_span(self, n_steps: float) -> None:
        """See :meth:`RecurrentCell.set_memory_span`; what is kept for long is let in slowly."""
        for layer in range(self.n_layers):
            weights, keeps = self.weights(layer), _keeping_biases(self.hidden_size, n_steps)
            weights.bias_hh.zero_()
            weights.bias_ih.zero_()
            weights.bias_ih[: 2 * self.hidden_size] = th.cat([-keeps, keeps])  # input gates, forget gates

    def project(self, layer: int, inputs: th.Tensor) -> th.Tensor:
        """See :meth:`RecurrentCell.project`; both biases are added here, at once for all steps."""
        weights = self.weights(layer)
        return F.linear(inputs.to(weights.weight_ih.dtype), weights.weight_ih, weights.bias_ih + weights.bias_hh)

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        """See :meth:`RecurrentCell.step`."""
        hidden, memory = states
        weight = self.weights(layer).weight_hh
        gates = (projected + F.linear(hidden.to(weight.dtype), weight)).to(memory.dtype)
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
        memory = th.sigmoid(forget_gate) * memory + th.sigmoid(input_gate) * th.tanh(candidate)
        return th.sigmoid(output_gate) * th.tanh(memory), memory

    def run(
        self, layer: int, projected: th.Tensor, states: RecurrentStates, resets: Resets
    ) -> tuple[th.Tensor, RecurrentStates]:
        """See :meth:`RecurrentCell.run`; the same as stepping, faster. Subclasses with steps of their own take those."""
        if type(self).step is not LSTM.step:
            return super().run(layer, projected, states, resets)
        return run_lstm(projected, self.weights(layer).weight_hh, states, *resets.at_once())


class GRU(RecurrentCell):
    """Gated recurrent unit; PyTorch's equations and weight layout, states ``(h,)``."""

    n_states = 1
    cell_class = nn.GRUCell

    @th.no_grad()
    def set_memory_span(self, n_steps: float) -> None:
        """See :meth:`RecurrentCell.set_memory_span`."""
        for layer in range(self.n_layers):
            weights = self.weights(layer)
            weights.bias_hh.zero_()
            weights.bias_ih.zero_()
            weights.bias_ih[self.hidden_size : 2 * self.hidden_size] = _keeping_biases(self.hidden_size, n_steps)

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        """See :meth:`RecurrentCell.step`."""
        (hidden,) = states
        weights = self.weights(layer)
        from_hidden = F.linear(hidden.to(weights.weight_hh.dtype), weights.weight_hh, weights.bias_hh)
        reset_x, update_x, candidate_x = projected.to(hidden.dtype).chunk(3, dim=-1)
        reset_h, update_h, candidate_h = from_hidden.to(hidden.dtype).chunk(3, dim=-1)
        update = th.sigmoid(update_x + update_h)
        candidate = th.tanh(candidate_x + th.sigmoid(reset_x + reset_h) * candidate_h)
        return ((1 - update) * candidate + update * hidden,)


def _keeping_biases(hidden_size: int, n_steps: float) -> th.Tensor:
    """Biases of gates that keep a state: each unit's for a time of its own, uniform from 1 to ``n_steps - 1``."""
    return th.empty(hidden_size).uniform_(1.0, n_steps - 1.0).log_()


CELLS: dict[str, type[RecurrentCell]] = {"lstm": LSTM, "gru": GRU}


def zero_states(cell: RecurrentCell, batch_size: int, device: th.device | str) -> RecurrentStates:
    """
    The state before anything was seen.

    :param cell: the cell whose states are wanted
    :param batch_size: number of sequences
    :param device: where to
    :return: zeros, each ``(n_layers, batch_size, hidden_size)``
    """
    shape = (cell.n_layers, batch_size, cell.hidden_size)
    return tuple(th.zeros(shape, device=device) for _ in range(cell.n_states))


def reset_states(states: RecurrentStates, starts: th.Tensor, to: RecurrentStates | None = None) -> RecurrentStates:
    """
    Put back the state of those sequences that start anew; the others keep theirs.

    :param states: each ``(..., batch, hidden_size)``
    :param starts: ``(batch,)``, bool
    :param to: what to put them back to, shaped as ``states``; zeros when ``None``
    :return: the states after the reset
    """
    starts = starts.unsqueeze(-1)
    if to is None:
        return tuple(state.masked_fill(starts, 0.0) for state in states)
    return tuple(th.where(starts, initial, state) for initial, state in zip(to, states, strict=True))


def unroll(
    cell: RecurrentCell,
    inputs: th.Tensor,
    states: RecurrentStates,
    episode_starts: th.Tensor,
    window_starts: th.Tensor | None = None,
    initial_states: RecurrentStates | None = None,
) -> tuple[th.Tensor, RecurrentStates]:
    """
    Run a cell over a sequence, putting the state back before each step that begins a window or an episode.

    :param cell: the cell to run
    :param inputs: ``(time, batch, features)``
    :param states: before the first step, each ``(n_layers, batch, hidden_size)``
    :param episode_starts: ``(time, batch)``, bool: where the state is put back to zero
    :param window_starts: ``(time, batch)``, bool: where, short of an episode's start, it is put back to
        ``initial_states``
    :param initial_states: shaped as ``states``; zeros when ``None``
    :return: the last layer's outputs ``(time, batch, hidden_size)``, and the states after the last step
    """
    last_states = []
    for layer in range(cell.n_layers):
        initial = None if initial_states is None else tuple(state[layer] for state in initial_states)
        resets = Resets(episode_starts, window_starts, initial)
        layer_states = tuple(state[layer] for state in states)
        # The outputs (time, batch, hidden_size) are the next layer's inputs
        inputs, layer_states = cell.run(layer, cell.project(layer, inputs), layer_states, resets)
        last_states.append(layer_states)
    # n_layers x n_states x (batch, hidden_size) -> n_states x (n_layers, batch, hidden_size)
    return inputs, tuple(th.stack(tensors) for tensors in zip(*last_states, strict=True))
