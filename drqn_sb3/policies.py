"""
Policies made of two recurrent Q-networks, the online and the target one, and perhaps a third, an average of the online one.

Recurrent states are tuples of ``(n_layers, batch, hidden_size)``.
"""

from copy import deepcopy
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from drqn_sb3.checks import is_number, is_positive_integer
from drqn_sb3.extractors import CombinedConvolutions, NatureConvolutions
from drqn_sb3.networks import RecurrentQNetwork
from drqn_sb3.recurrent import CELLS, RecurrentCell
from drqn_sb3.type_aliases import RecurrentStates

NetArch = list[int] | dict[str, list[int]] | None
"""Sizes of fully connected layers: a list for those after the recurrent cell, a dict for ``encoder`` and ``head``."""


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
    :param memory_span: the longest time, in agent steps, between something seen and its use: the recurrent cell's initial
        gates then keep what they see for that long (:meth:`~drqn_sb3.recurrent.RecurrentCell.set_memory_span`). By default
        its initial weights are PyTorch's, with which little is left of it after 10 steps
    :param predictor: sizes of the hidden layers of a part that learns to predict the next observation from the memory and the
        action, so that the memory keeps track of what is not seen; the algorithm's ``prediction_coef`` weighs it.
        Observations have to be vectors of a scale of about one, or images, or dicts with such an ``"observation"``, neither
        normalised by ``VecNormalize`` nor stacked: one of nothing but zeros counts as hidden, and is not predicted. ``None``
        predicts nothing
    :param ema_decay: where it is a number, :meth:`predict` asks another network, whose weights are an exponential moving
        average of the online network's: at each update they keep this share of themselves, from 0 to below 1, and take the
        rest from the online network. 0.999 is an average over about a thousand updates: it lags as far behind, and has
        forgotten the initial weights after five times as many. Learning acts with the online network all the same. Buffers
        are the online network's, weights of it that are set by hand are not followed. ``None`` keeps no average
    :param layer_norm: whether the layers of ``net_arch`` are normalised before their activation function (Ba et al. 2016,
        arXiv 1607.06450)
    :raises TypeError: if a class, or True or False, is something else
    :raises ValueError: if sizes, the cell, its span or the decay are not as above, observations are not such as the policy, or
        the predictor, is for
    """

    q_net: RecurrentQNetwork  # type: ignore[assignment]
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]
    q_net_ema: RecurrentQNetwork | None

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
        memory_span: float | None = None,
        predictor: list[int] | None = None,
        ema_decay: float | None = None,
        layer_norm: bool = False,
    ) -> None:
        encoder, head = _parse_net_arch(net_arch, list(self.default_encoder))
        _check_cell(recurrent_cell, hidden_size, n_recurrent_layers)
        for name, switch in (("dueling", dueling), ("layer_norm", layer_norm)):
            if not isinstance(switch, bool):
                raise TypeError(f"{name} must be True or False, got {switch!r}")
        _check_memory_span(memory_span, recurrent_cell)
        if predictor is not None:
            _check_sizes("predictor", predictor)
        _check_ema_decay(ema_decay)
        _check_extractor(features_extractor_class, observation_space)
        for name, part in (("activation_fn", activation_fn), ("optimizer_class", optimizer_class)):
            if not isinstance(part, type):
                raise TypeError(f"{name} must be a class, got {part!r}")
        if optimizer_class in (th.optim.Adam, th.optim.AdamW) and not {"foreach", "differentiable"} & set(
            optimizer_kwargs or {}
        ):
            optimizer_kwargs = {"fused": True, **(optimizer_kwargs or {})}
        if not normalize_images and issubclass(features_extractor_class, CombinedConvolutions):
            # As SB3 has it for its own extractor: what is not to be divided by 255 is from 0 to 1
            features_extractor_kwargs = {"normalized_image": True, **(features_extractor_kwargs or {})}
        self.recurrent_args: dict[str, Any] = {
            "recurrent_cell": recurrent_cell,
            "hidden_size": hidden_size,
            "n_recurrent_layers": n_recurrent_layers,
            "dueling": dueling,
            "memory_span": memory_span,
            "predictor": predictor,
            "layer_norm": layer_norm,
        }
        self.encoder = encoder
        self.ema_decay = ema_decay
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

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.q_net_ema = None
        if self.ema_decay is not None:
            # Unlike a network made anew it draws no random numbers: learning stays what it is without it
            self.q_net_ema = deepcopy(self.q_net)
            self.q_net_ema.set_training_mode(False)

    def update_average(self) -> None:
        """Have the average of the weights, if one is kept, take its share of the online network's; after each update."""
        if self.q_net_ema is None:
            return
        assert self.ema_decay is not None
        polyak_update(self.q_net.parameters(), self.q_net_ema.parameters(), 1 - self.ema_decay)
        for average, buffer in zip(self.q_net_ema.buffers(), self.q_net.buffers(), strict=True):
            average.copy_(buffer)

    @property
    def predicting_net(self) -> RecurrentQNetwork:
        """The network that :meth:`predict` asks: the average of the online one if such is kept, else the online one."""
        return self.q_net if self.q_net_ema is None else self.q_net_ema

    def make_q_net(self) -> RecurrentQNetwork:  # type: ignore[override]
        """
        Make one of the policy's networks.

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
            q_values, states = self.predicting_net(obs_tensor, states, th.as_tensor(starts, device=self.device))
        actions = q_values.argmax(dim=1).cpu().numpy()
        return actions if is_vectorized else actions.squeeze(axis=0), tuple(tensor.cpu().numpy() for tensor in states)

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self.predicting_net._predict(observation, deterministic=deterministic)

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
        net_arch = {"encoder": self.encoder, "head": self.net_arch}
        data.update(self.recurrent_args, net_arch=net_arch, ema_decay=self.ema_decay)
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
    """
    For dict observations: images go through the convolutions of :class:`CnnLstmPolicy`, everything else is flattened, see
    :class:`~drqn_sb3.extractors.CombinedConvolutions`. Arguments as :class:`DRQNPolicy`.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: NetArch = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedConvolutions,
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
        _check_sizes("net_arch", sizes)
    return list(parts.get("encoder", [])), list(parts.get("head", []))


def _check_sizes(name: str, sizes: Any) -> None:
    if not isinstance(sizes, list | tuple) or not all(is_positive_integer(size) for size in sizes):
        raise ValueError(f"{name} must be a list of layer sizes of at least 1, got {sizes!r}")


def _check_cell(recurrent_cell: Any, hidden_size: Any, n_recurrent_layers: Any) -> None:
    is_class = isinstance(recurrent_cell, type) and issubclass(recurrent_cell, RecurrentCell)
    if not is_class and not (isinstance(recurrent_cell, str) and recurrent_cell in CELLS):
        raise ValueError(f"recurrent_cell must be one of {sorted(CELLS)} or a RecurrentCell class, got {recurrent_cell!r}")
    for name, value in (("hidden_size", hidden_size), ("n_recurrent_layers", n_recurrent_layers)):
        if not is_positive_integer(value):
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def _check_memory_span(memory_span: Any, recurrent_cell: str | type[RecurrentCell]) -> None:
    if memory_span is None:
        return
    if not (is_number(memory_span) and 2 <= memory_span < float("inf")):
        raise ValueError(f"memory_span must be None or a number of steps of at least 2, got {memory_span!r}")
    if isinstance(recurrent_cell, type) and recurrent_cell.set_memory_span is RecurrentCell.set_memory_span:
        raise ValueError(f"memory_span must be None for {recurrent_cell.__name__}, which does not define set_memory_span()")


def _check_ema_decay(ema_decay: Any) -> None:
    if ema_decay is not None and not (is_number(ema_decay) and 0 <= ema_decay < 1):
        raise ValueError(f"ema_decay must be None or a number from 0 to below 1, got {ema_decay!r}")


def _check_extractor(features_extractor_class: type[BaseFeaturesExtractor], observation_space: spaces.Space) -> None:
    """SB3's own extractors take any space and stumble later."""
    is_dict = isinstance(observation_space, spaces.Dict)
    if is_dict and features_extractor_class is FlattenExtractor:
        raise ValueError(f"dict observations need MultiInputLstmPolicy, MlpLstmPolicy got {observation_space}")
    if not is_dict and features_extractor_class in (CombinedConvolutions, CombinedExtractor):
        raise ValueError(f"MultiInputLstmPolicy needs dict observations, got {observation_space}")
