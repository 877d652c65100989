"""
Recurrent Q-network and the policies made of it.

Features of each observation -> encoder layers -> recurrent cell -> head layers -> one Q-value per action.
Axis order ``(time, batch, ...)``; recurrent states are tuples of ``(n_layers, batch, hidden_size)``.
"""

from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    create_mlp,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from drqn_sb3.recurrent import CELLS, RecurrentCell, unroll, zero_states
from drqn_sb3.type_aliases import RecurrentStates

NetArch = list[int] | dict[str, list[int]] | None
"""Sizes of fully connected layers: a list for those after the recurrent cell, a dict for ``encoder`` and ``head``."""


class NatureConvolutions(BaseFeaturesExtractor):
    """
    The convolutions of the Nature DQN without its fully connected layer, whose place the recurrent cell takes
    (Hausknecht & Stone 2015, section 4).

    32 filters of 8x8 every 4 pixels, 64 of 4x4 every 2, 64 of 3x3 every 1, a ReLU after each: 3136 features of an 84x84
    frame.

    :param observation_space: image space, channels first, 36x36 or larger
    """

    def __init__(self, observation_space: spaces.Box) -> None:
        shape = observation_space.shape
        if shape is None or len(shape) != 3 or min(shape[1:]) < 36:
            raise ValueError(
                "CnnLstmPolicy needs image observations, (channels, height, width) of 36x36 or more, got "
                f"{type(observation_space).__name__} of shape {shape}"
            )
        height, width = (((size - 8) // 4 + 1 - 4) // 2 + 1 - 2 for size in shape[1:])
        super().__init__(observation_space, features_dim=64 * height * width)
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape[0], 32, kernel_size=8, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: ``(n, channels, height, width)``, float
        :return: ``(n, features_dim)``
        """
        # Channels last, which costs nothing to change to with one channel and is faster on processors and GPUs alike
        return self.convolutions(observations.to(memory_format=th.channels_last))


class DuelingHead(nn.Module):
    """
    Q-values as a state's value plus centred advantages (Wang et al. 2016, arXiv 1511.06581, equation 9).

    :param input_size: number of input features
    :param n_actions: number of actions
    :param net_arch: sizes of the hidden layers of both streams
    :param activation_fn: activation function
    """

    def __init__(self, input_size: int, n_actions: int, net_arch: list[int], activation_fn: type[nn.Module]) -> None:
        super().__init__()
        self.value = nn.Sequential(*create_mlp(input_size, 1, net_arch, activation_fn))
        self.advantage = nn.Sequential(*create_mlp(input_size, n_actions, net_arch, activation_fn))

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: ``(..., input_size)``
        :return: ``(..., n_actions)``
        """
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)


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
    ) -> None:
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        n_actions = int(action_space.n)
        cell_class = CELLS[recurrent_cell] if isinstance(recurrent_cell, str) else recurrent_cell
        self.encoder = nn.Sequential(*create_mlp(features_dim, -1, encoder, activation_fn))
        encoded_dim = encoder[-1] if encoder else features_dim
        self.cell = cell_class(encoded_dim, hidden_size, n_recurrent_layers)
        self.head: nn.Module
        if dueling:
            self.head = DuelingHead(hidden_size, n_actions, net_arch, activation_fn)
        else:
            self.head = nn.Sequential(*create_mlp(hidden_size, n_actions, net_arch, activation_fn))

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
        if isinstance(observations, dict):
            flat: PyTorchObs = {key: value.flatten(0, 1) for key, value in observations.items()}
        else:
            flat = observations.flatten(0, 1)
        with self._autocast():
            # (time * batch, features) -> (time, batch, features)
            features = self.encoder(self.extract_features(flat, self.features_extractor))
            features = features.unflatten(0, tuple(episode_starts.shape))
            outputs, states = unroll(self.cell, features, states, episode_starts, window_starts, initial_states)
        return self.head(outputs), states

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        """
        Preprocess observations and extract their features.

        :param obs: ``(n, *observation_shape)``, or a dict of such
        :param features_extractor: makes the features
        :return: ``(n, features_dim)``
        """
        is_scaled_image = self.normalize_images and is_image_space(self.observation_space)
        if self.compute_dtype != th.float32 and is_scaled_image and isinstance(obs, th.Tensor):
            # Without the detour by way of float32: pixels are exact in bfloat16
            return features_extractor(obs.to(self.compute_dtype) / 255)
        return super().extract_features(obs, features_extractor)

    def lower_precision(self, dtype: th.dtype) -> "RecurrentQNetwork":
        """
        Compute in another precision from now on. States stay in float32, and so does the head: it is small, and Q-values
        need the digits.

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
        if isinstance(observations, dict):
            one_step: PyTorchObs = {key: value.unsqueeze(0) for key, value in observations.items()}
        else:
            one_step = observations.unsqueeze(0)
        q_values, states = self.unroll(one_step, states, episode_starts.unsqueeze(0))
        return q_values.squeeze(0), states

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """Greedy actions on first observations; to go on from there, use :meth:`DRQNPolicy.predict`."""
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        starts = th.ones(len(first), dtype=th.bool, device=first.device)
        return self(observation, self.zero_states(len(first)), starts)[0].argmax(dim=1)


class DRQNPolicy(DQNPolicy):
    """
    Policy with a recurrent Q-network and its target network.

    Arguments not named here are those of SB3's :class:`~stable_baselines3.dqn.policies.DQNPolicy`.

    :param observation_space: observation space
    :param action_space: action space, discrete
    :param lr_schedule: learning rate schedule
    :param net_arch: sizes of the fully connected layers: a list for those after the recurrent cell, or a dict with the
        keys ``encoder`` (before it) and ``head`` (after it). By default one of 64 before it and none after it, with
        :class:`CnnLstmPolicy` none at all
    :param optimizer_kwargs: arguments of the optimiser; Adam is PyTorch's fused one unless they say ``fused=False``
    :param recurrent_cell: ``"lstm"``, ``"gru"``, or a subclass of :class:`~drqn_sb3.recurrent.RecurrentCell`
    :param hidden_size: features of the recurrent cell
    :param n_recurrent_layers: how many recurrent layers are stacked
    :param dueling: whether the Q-values are a state's value plus advantages
    """

    q_net: RecurrentQNetwork  # type: ignore[assignment]
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]

    default_encoder: tuple[int, ...] = (64,)

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: NetArch = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        recurrent_cell: str | type[RecurrentCell] = "lstm",
        hidden_size: int = 64,
        n_recurrent_layers: int = 1,
        dueling: bool = False,
    ) -> None:
        encoder, head = _parse_net_arch(net_arch, list(self.default_encoder))
        _check_cell(recurrent_cell, hidden_size, n_recurrent_layers, dueling)
        _check_extractor(features_extractor_class, observation_space)
        for name, part in (("activation_fn", activation_fn), ("optimizer_class", optimizer_class)):
            if not isinstance(part, type):
                raise TypeError(f"{name} must be a class, got {part!r}")
        if optimizer_class in (th.optim.Adam, th.optim.AdamW) and not {"foreach", "differentiable"} & set(
            optimizer_kwargs or {}
        ):
            optimizer_kwargs = {"fused": True, **(optimizer_kwargs or {})}
        self.recurrent_args: dict[str, Any] = {
            "recurrent_cell": recurrent_cell,
            "hidden_size": hidden_size,
            "n_recurrent_layers": n_recurrent_layers,
            "dueling": dueling,
        }
        self.encoder = encoder
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            head,
            activation_fn,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images,
            optimizer_class,
            optimizer_kwargs,
        )

    def make_q_net(self) -> RecurrentQNetwork:  # type: ignore[override]
        """
        Make the online or the target network.

        :return: a Q-network with a features extractor of its own
        """
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return RecurrentQNetwork(**net_args, encoder=self.encoder, **self.recurrent_args).to(self.device)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Greedy actions; arguments and results as RecurrentPPO has them.

        :param observation: of one environment, or of ``n_envs``
        :param state: each ``(n_layers, n_envs, hidden_size)``; ``None`` starts from zeros
        :param episode_start: ``(n_envs,)``, bool: whose state is put back to zeros first; nobody's by default
        :param deterministic: without effect here, :meth:`drqn_sb3.drqn.DRQN.predict` explores
        :return: the actions, and the states to pass to the next call
        """
        self.set_training_mode(False)
        if isinstance(observation, tuple):
            raise TypeError(
                "observation must be an array or a dict, got a tuple: reset() of a Gymnasium env gives (obs, info)"
            )
        obs_tensor, is_vectorized = self.obs_to_tensor(observation)
        n_envs = len(next(iter(obs_tensor.values())) if isinstance(obs_tensor, dict) else obs_tensor)
        starts = np.zeros(n_envs, dtype=bool) if episode_start is None else np.atleast_1d(episode_start).astype(bool)
        if starts.shape != (n_envs,):
            raise ValueError(f"episode_start must have shape ({n_envs},), one per environment, got {starts.shape}")
        with th.no_grad():
            states = self.q_net.zero_states(n_envs) if state is None else self._states_to_tensors(state, n_envs)
            q_values, states = self.q_net(obs_tensor, states, th.as_tensor(starts, device=self.device))
        actions = q_values.argmax(dim=1).cpu().numpy()
        return actions if is_vectorized else actions.squeeze(axis=0), tuple(tensor.cpu().numpy() for tensor in states)

    def _states_to_tensors(self, state: tuple[np.ndarray, ...], n_envs: int) -> RecurrentStates:
        cell = self.q_net.cell
        expected = (cell.n_layers, n_envs, cell.hidden_size)
        shapes = [np.shape(array) for array in state] if isinstance(state, tuple | list) else [np.shape(state)]
        if len(shapes) != cell.n_states or any(shape != expected for shape in shapes):
            raise ValueError(
                f"state must be a tuple of {cell.n_states} arrays of shape (n_layers, n_envs, hidden_size) = {expected}, "
                f"got {len(shapes)} of shapes {shapes}"
            )
        return tuple(th.as_tensor(array, dtype=th.float32, device=self.device) for array in state)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(self.recurrent_args, net_arch={"encoder": self.encoder, "head": self.net_arch})
        return data


class CnnLstmPolicy(DRQNPolicy):
    """
    The paper's network by default: the Nature convolutions without their fully connected layer, LSTM(512), linear Q.

    Arguments as :class:`DRQNPolicy`.
    """

    default_encoder = ()

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: NetArch = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = NatureConvolutions,
        features_extractor_kwargs: dict[str, Any] | None = None,
        *,
        hidden_size: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            features_extractor_class,
            features_extractor_kwargs,
            hidden_size=hidden_size,
            **kwargs,
        )


class MultiInputLstmPolicy(DRQNPolicy):
    """For dict observations. Arguments as :class:`DRQNPolicy`."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: NetArch = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            features_extractor_class,
            **kwargs,
        )


MlpLstmPolicy = DRQNPolicy


def _parse_net_arch(net_arch: NetArch, default_encoder: list[int]) -> tuple[list[int], list[int]]:
    """Sizes of the layers before and after the recurrent cell."""
    if net_arch is None:
        return default_encoder, []
    parts = net_arch if isinstance(net_arch, dict) else {"head": net_arch}
    unknown = set(parts) - {"encoder", "head"}
    if unknown:
        raise ValueError(f'net_arch may have the keys "encoder" and "head", got {sorted(unknown)}')
    for sizes in parts.values():
        if not isinstance(sizes, list | tuple) or not all(_is_positive_integer(size) for size in sizes):
            raise ValueError(f"net_arch must give lists of layer sizes of at least 1, got {sizes!r}")
    return list(parts.get("encoder", [])), list(parts.get("head", []))


def _check_cell(recurrent_cell: Any, hidden_size: Any, n_recurrent_layers: Any, dueling: Any) -> None:
    is_class = isinstance(recurrent_cell, type) and issubclass(recurrent_cell, RecurrentCell)
    if not is_class and not (isinstance(recurrent_cell, str) and recurrent_cell in CELLS):
        raise ValueError(f"recurrent_cell must be one of {sorted(CELLS)} or a RecurrentCell class, got {recurrent_cell!r}")
    for name, value in (("hidden_size", hidden_size), ("n_recurrent_layers", n_recurrent_layers)):
        if not _is_positive_integer(value):
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if not isinstance(dueling, bool):
        raise TypeError(f"dueling must be True or False, got {dueling!r}")


def _is_positive_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _check_extractor(features_extractor_class: type[BaseFeaturesExtractor], observation_space: spaces.Space) -> None:
    """SB3's own extractors take any space and stumble later."""
    is_dict = isinstance(observation_space, spaces.Dict)
    if is_dict and features_extractor_class is FlattenExtractor:
        raise ValueError(f"dict observations need MultiInputLstmPolicy, MlpLstmPolicy got {observation_space}")
    if not is_dict and features_extractor_class is CombinedExtractor:
        raise ValueError(f"MultiInputLstmPolicy needs dict observations, got {observation_space}")
