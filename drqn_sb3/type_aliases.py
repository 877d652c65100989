"""
Shapes that the whole package agrees on.

Axis order is ``(time, batch, ...)``. A *window* is ``burn_in + sequence_length + n_steps`` consecutive slots of one
environment's ring::

    slot      0 ......... burn_in ............... burn_in + sequence_length ......... window_length
              |  burn-in  |  training slots                |  bootstrap slots         |
              | no grad   |  Q-value of the action taken   |  Q-values for the target |
"""

from typing import NamedTuple

import torch as th
from stable_baselines3.common.type_aliases import TensorDict

RecurrentStates = tuple[th.Tensor, ...]
"""What a recurrent cell carries from step to step, each ``(n_layers, batch, hidden_size)``; ``(h, c)`` for an LSTM."""


class SequenceSamples(NamedTuple):
    """
    A batch of windows, as :meth:`drqn_sb3.buffers.SequenceReplayBuffer.sample` gives it.

    ``window`` is the window's length, ``sequence`` the number of its training slots. What lies at time ``t`` belongs to
    slot ``t``: the observation, the action taken *there*, and what followed.

    :param observations: ``(window, batch, *observation_shape)``, or a dict of such
    :param actions: ``(window, batch)``, int64
    :param rewards: ``(window, batch)``, float32, received for the action of the same slot
    :param terminated: ``(window, batch)``, bool: the action ended the episode, there is nothing to bootstrap from
    :param truncated: ``(window, batch)``, bool: the episode was cut off after the action; the next slot holds its last
        observation, from which to bootstrap
    :param episode_starts: ``(window, batch)``, bool: an episode begins here, the state is zero
    :param window_starts: ``(window, batch)``, bool: the window's history begins here, the state is the initial one. True
        at time 0, and on up to the first stored slot where a window overhangs the oldest one
    :param mask: ``(sequence, batch)``, bool: the training slots that count
    :param lstm_states: the states stored with the first slot, each ``(n_layers, batch, hidden_size)``, or ``None`` when
        none are stored
    """

    observations: th.Tensor | TensorDict
    actions: th.Tensor
    rewards: th.Tensor
    terminated: th.Tensor
    truncated: th.Tensor
    episode_starts: th.Tensor
    window_starts: th.Tensor
    mask: th.Tensor
    lstm_states: RecurrentStates | None
