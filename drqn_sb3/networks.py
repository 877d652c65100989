"""
Recurrent Q-network, and the parts it is made of.

Features of each observation -> encoder layers -> recurrent cell -> head layers -> one Q-value per action.
Axis order ``(time, batch, ...)``; recurrent states are tuples of ``(n_layers, batch, hidden_size)``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from drqn_sb3.extractors import CombinedConvolutions, NatureConvolutions
from drqn_sb3.prediction import NextObservation, make_predictor
from drqn_sb3.recurrent import CELLS, RecurrentCell, unroll, zero_states
from drqn_sb3.type_aliases import RecurrentStates


class DuelingHead(nn.Module):
    """
    Q-values as a state's value plus centred advantages (Wang et al. 2016, arXiv 1511.06581, equation 9).

    :param input_size: number of input features
    :param n_actions: number of actions
    :param net_arch: sizes of the hidden layers of both streams
    :param activation_fn: activation function
    :param layer_norm: whether hidden layers are normalised before it
    """

    def __init__(
        self,
        input_size: int,
        n_actions: int,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.value = _layers(input_size, 1, net_arch, activation_fn, layer_norm)
        self.advantage = _layers(input_size, n_actions, net_arch, activation_fn, layer_norm)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: ``(..., input_size)``
        :return: ``(..., n_actions)``
        """
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)


def _layers(
    input_size: int, output_size: int, net_arch: list[int], activation_fn: type[nn.Module], layer_norm: bool
) -> nn.Sequential:
    """Fully connected layers; ``output_size`` -1 ends with the last hidden one."""
    normalization: list[type[nn.Module]] = [nn.LayerNorm] if layer_norm else []
    return nn.Sequential(*create_mlp(input_size, output_size, net_arch, activation_fn, post_linear_modules=normalization))


class RecurrentQNetwork(BasePolicy):
    """
    Q-values of every action, from the observations so far.

    :param observation_space: observation space
    :param action_space: action space, discrete
    :param features_extractor: makes features of single observations
    :param features_dim: how many
    :param encoder: sizes of the layers between the features and the recurrent cell
    :param net_arch: sizes of the layers between the recurrent cell and the Q-values
    :param activation_fn: activation function of both
    :param normalize_images: whether to divide image pixels by 255
    :param recurrent_cell: ``"lstm"``, ``"gru"``, or a class like those
    :param hidden_size: features of the recurrent cell
    :param n_recurrent_layers: how many recurrent layers are stacked
    :param dueling: whether the head splits into value and advantage
    :param memory_span: steps that the cell's initial weights keep what was seen for; ``None`` leaves them PyTorch's
    :param predictor: sizes of the hidden layers that predict the next observation; ``None`` predicts nothing
    :param layer_norm: whether the layers of encoder and head, but for the one that gives the Q-values, are normalised before
        their activation function
    :raises ValueError: if there is nothing that can be predicted
    :raises NotImplementedError: if the cell does not say how to begin with such a span
    """

    action_space: spaces.Discrete
    compute_dtype: th.dtype = th.float32

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        encoder: list[int],
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        recurrent_cell: str | type[RecurrentCell] = "lstm",
        hidden_size: int = 512,
        n_recurrent_layers: int = 1,
        dueling: bool = False,
        memory_span: float | None = None,
        predictor: list[int] | None = None,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        n_actions = int(action_space.n)
        cell_class = CELLS[recurrent_cell] if isinstance(recurrent_cell, str) else recurrent_cell
        self.encoder = _layers(features_dim, -1, encoder, activation_fn, layer_norm)
        encoded_dim = encoder[-1] if encoder else features_dim
        self.cell = cell_class(encoded_dim, hidden_size, n_recurrent_layers)
        if memory_span is not None:
            self.cell.set_memory_span(memory_span)
        self.head: nn.Module
        if dueling:
            self.head = DuelingHead(hidden_size, n_actions, net_arch, activation_fn, layer_norm)
        else:
            self.head = _layers(hidden_size, n_actions, net_arch, activation_fn, layer_norm)
        self.predictor: NextObservation | None = None
        if predictor is not None:
            self.predictor = make_predictor(observation_space, hidden_size, n_actions, predictor, activation_fn)

    def zero_states(self, batch_size: int) -> RecurrentStates:
        """
        :param batch_size: number of sequences
        :return: the states before anything was seen
        """
        return zero_states(self.cell, batch_size, self.device)

    def unroll(
        self,
        observations: PyTorchObs,
        states: RecurrentStates,
        episode_starts: th.Tensor,
        window_starts: th.Tensor | None = None,
        initial_states: RecurrentStates | None = None,
    ) -> tuple[th.Tensor, RecurrentStates]:
        """
        Q-values along sequences; see :func:`drqn_sb3.recurrent.unroll` for the arguments not named here.

        :param observations: ``(time, batch, *observation_shape)``, or a dict of such
        :param states: before the first step
        :param episode_starts: ``(time, batch)``, bool
        :return: ``(time, batch, n_actions)``, and the states after the last step
        """
        outputs, states = self.unroll_cell(observations, states, episode_starts, window_starts, initial_states)
        return self.head(outputs), states

    def unroll_cell(
        self,
        observations: PyTorchObs,
        states: RecurrentStates,
        episode_starts: th.Tensor,
        window_starts: th.Tensor | None = None,
        initial_states: RecurrentStates | None = None,
    ) -> tuple[th.Tensor, RecurrentStates]:
        """
        What the recurrent cell gives along sequences, of which the head makes Q-values; arguments as of :meth:`unroll`.

        :return: ``(time, batch, hidden_size)``, and the states after the last step
        """
        starts = (episode_starts, window_starts)
        return self.unroll_prepared(self.prepare(observations), states, *starts, initial_states)

    def prepare(self, observations: PyTorchObs) -> PyTorchObs:
        """
        What comes before the weights: another network of the same policy can go on with it.

        :param observations: ``(time, batch, *observation_shape)``, or a dict of such
        :return: the same shapes, float; discrete ones as one-hot vectors
        """
        shape = _first(observations).shape[:2]
        with self._autocast():
            flat = self._scale(map_observations(observations, lambda value: value.flatten(0, 1)))
            if (extractor := self._preparing_extractor()) is not None:
                flat = extractor.prepare(flat)
            return map_observations(flat, lambda value: value.unflatten(0, shape))

    def unroll_prepared(
        self,
        observations: PyTorchObs,
        states: RecurrentStates,
        episode_starts: th.Tensor,
        window_starts: th.Tensor | None = None,
        initial_states: RecurrentStates | None = None,
    ) -> tuple[th.Tensor, RecurrentStates]:
        """
        As :meth:`unroll_cell`, of what :meth:`prepare` made of the observations.

        :return: ``(time, batch, hidden_size)``, and the states after the last step
        """
        flat = map_observations(observations, lambda value: value.flatten(0, 1))
        with self._autocast():
            # (time * batch, features) -> (time, batch, features)
            extractor = self._preparing_extractor()
            features = self.features_extractor(flat) if extractor is None else extractor(flat, is_prepared=True)
            features = self.encoder(features).unflatten(0, tuple(episode_starts.shape))
            outputs, states = unroll(self.cell, features, states, episode_starts, window_starts, initial_states)
        return outputs, states

    def _preparing_extractor(self) -> Any:
        """The extractor, if what it prepares is known: a subclass may do other things."""
        extractor = self.features_extractor
        return extractor if type(extractor) in (NatureConvolutions, CombinedConvolutions) else None

    def _scale(self, obs: PyTorchObs) -> PyTorchObs:
        """SB3's preprocessing: pixels divided by 255, one-hot vectors of what is discrete."""
        if isinstance(obs, dict):
            assert isinstance(self.observation_space, spaces.Dict)
            return {key: self._scale_one(value, self.observation_space[key]) for key, value in obs.items()}
        return self._scale_one(obs, self.observation_space)

    def _scale_one(self, obs: th.Tensor, space: spaces.Space) -> th.Tensor:
        if self.compute_dtype != th.float32 and self.normalize_images and is_image_space(space):
            # Without the detour by way of float32: pixels are exact in bfloat16
            return obs.to(self.compute_dtype) / 255
        scaled = preprocess_obs(obs, space, normalize_images=self.normalize_images)
        assert isinstance(scaled, th.Tensor)
        return scaled

    def lower_precision(self, dtype: th.dtype) -> "RecurrentQNetwork":
        """
        Compute in another precision from now on. States stay in float32, and so do head and predictor: they are small, and
        Q-values need the digits.

        :param dtype: ``bfloat16``
        :return: itself
        """
        for part in (self.features_extractor, self.encoder, self.cell):
            part.to(dtype)
        self.compute_dtype = dtype
        return self

    def _autocast(self) -> AbstractContextManager[Any]:
        """For what parts of the user's own bring along in float32."""
        if self.compute_dtype == th.float32:
            return nullcontext()
        return th.autocast(self.device.type, dtype=self.compute_dtype, cache_enabled=False)

    def forward(
        self, observations: PyTorchObs, states: RecurrentStates, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, RecurrentStates]:
        """
        Q-values of one step.

        :param observations: ``(batch, *observation_shape)``, or a dict of such
        :param states: before the step
        :param episode_starts: ``(batch,)``, bool
        :return: ``(batch, n_actions)``, and the states after the step
        """
        one_step = map_observations(observations, lambda value: value.unsqueeze(0))
        q_values, states = self.unroll(one_step, states, episode_starts.unsqueeze(0))
        return q_values.squeeze(0), states

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """Greedy actions on first observations; to go on from there, use :meth:`DRQNPolicy.predict`."""
        first = _first(observation)
        starts = th.ones(len(first), dtype=th.bool, device=first.device)
        return self(observation, self.zero_states(len(first)), starts)[0].argmax(dim=1)


def map_observations(observations: PyTorchObs, change: Callable[[th.Tensor], th.Tensor]) -> PyTorchObs:
    """
    Change observations, or each entry of them.

    :param observations: a tensor, or a dict of such
    :param change: what to do with a tensor
    :return: what comes of it, a dict if they were one
    """
    if isinstance(observations, dict):
        return {key: change(value) for key, value in observations.items()}
    return change(observations)


def _first(observations: PyTorchObs) -> th.Tensor:
    """The observations, or the first entry of them."""
    return next(iter(observations.values())) if isinstance(observations, dict) else observations
