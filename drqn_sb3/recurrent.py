"""
Recurrent cells, and pure functions on their states.

Axis order ``(time, batch, ...)``; states are tuples of ``(n_layers, batch, hidden_size)``. A cell is unrolled by a plain
loop over time whose input projection is done for all steps at once. That makes it free to reset single sequences in the
middle of a window, where an episode starts.
"""

from typing import ClassVar, cast

import torch as th
from torch import nn
from torch.nn import functional as F

from drqn_sb3.type_aliases import RecurrentStates


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
        return F.linear(inputs, weights.weight_ih, weights.bias_ih)

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        """
        One step of one layer.

        :param layer: which layer
        :param projected: what :meth:`project` made of this step's input, ``(batch, gates * hidden_size)``
        :param states: the layer's states before the step, each ``(batch, hidden_size)``
        :return: the states after it; the first is the layer's output
        """
        raise NotImplementedError(f"{type(self).__name__} must define step()")


class LSTM(RecurrentCell):
    """Long short-term memory, the paper's cell; PyTorch's equations and weight layout, states ``(h, c)``."""

    n_states = 2
    cell_class = nn.LSTMCell

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        """See :meth:`RecurrentCell.step`."""
        hidden, memory = states
        weights = self.weights(layer)
        gates = projected + F.linear(hidden, weights.weight_hh, weights.bias_hh)
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
        memory = th.sigmoid(forget_gate) * memory + th.sigmoid(input_gate) * th.tanh(candidate)
        return th.sigmoid(output_gate) * th.tanh(memory), memory


class GRU(RecurrentCell):
    """Gated recurrent unit; PyTorch's equations and weight layout, states ``(h,)``."""

    n_states = 1
    cell_class = nn.GRUCell

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        """See :meth:`RecurrentCell.step`."""
        (hidden,) = states
        weights = self.weights(layer)
        reset_x, update_x, candidate_x = projected.chunk(3, dim=-1)
        reset_h, update_h, candidate_h = F.linear(hidden, weights.weight_hh, weights.bias_hh).chunk(3, dim=-1)
        update = th.sigmoid(update_x + update_h)
        candidate = th.tanh(candidate_x + th.sigmoid(reset_x + reset_h) * candidate_h)
        return ((1 - update) * candidate + update * hidden,)


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
    :param initial_states: shaped as ``states``; needed with ``window_starts``
    :return: the last layer's outputs ``(time, batch, hidden_size)``, and the states after the last step
    """
    last_states = []
    for layer in range(cell.n_layers):
        layer_states = tuple(state[layer] for state in states)
        initial = None if initial_states is None else tuple(state[layer] for state in initial_states)
        projected = cell.project(layer, inputs)
        outputs = []
        for time in range(len(inputs)):
            if window_starts is not None:
                layer_states = reset_states(layer_states, window_starts[time], initial)
            layer_states = reset_states(layer_states, episode_starts[time])
            layer_states = cell.step(layer, projected[time], layer_states)
            outputs.append(layer_states[0])
        # time x (batch, hidden_size) -> (time, batch, hidden_size), the next layer's inputs
        inputs = th.stack(outputs)
        last_states.append(layer_states)
    # n_layers x n_states x (batch, hidden_size) -> n_states x (n_layers, batch, hidden_size)
    return inputs, tuple(th.stack(tensors) for tensors in zip(*last_states, strict=True))
