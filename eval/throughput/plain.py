"""
The plain implementation of acting and learning: the reference that the fast one is measured and tested against.

Everything is in float32, as one would write it down first: PyTorch's layers as they are, every step of the recurrent cell
left to autograd, Adam parameter by parameter, environments that wait while the learner learns.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn
from torch.nn import functional as F

from drqn_sb3 import DRQN
from drqn_sb3.extractors import CombinedConvolutions, NatureConvolutions, standardize
from drqn_sb3.losses import masked_huber_loss, n_step_targets
from drqn_sb3.networks import RecurrentQNetwork
from drqn_sb3.recurrent import LSTM, reset_states
from drqn_sb3.type_aliases import RecurrentStates, SequenceSamples


class PlainDRQN(DRQN):
    """
    DRQN with random replay, written down plainly. Arguments as :class:`~drqn_sb3.drqn.DRQN`; ``precision`` is float32.

    For the cells ``"lstm"`` and ``"gru"`` with one layer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["policy_kwargs"] = {"optimizer_kwargs": {"fused": False, "foreach": False}, **kwargs.get("policy_kwargs", {})}
        super().__init__(*args, **{**kwargs, "precision": "float32"})

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> tuple[np.ndarray, np.ndarray]:
        assert self._last_obs is not None
        if self._lstm_states is None:
            self._lstm_states = self.q_net.zero_states(n_envs)
        self._acted_on_states = self._lstm_states
        starts = th.as_tensor(self._last_episode_starts, dtype=th.bool, device=self.device).unsqueeze(0)
        with th.no_grad():
            observations = _each(obs_as_tensor(self._last_obs, self.device), lambda value: value.unsqueeze(0))
            outputs, self._lstm_states = unroll_plainly(self.q_net, observations, self._lstm_states, starts, starts & False)
            q_values = self.q_net.head(outputs)
        epsilon = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        actions = self._explore(q_values[0].argmax(dim=1).cpu().numpy(), epsilon)
        return actions, actions

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """
        Update the Q-network at once.

        :param gradient_steps: number of updates
        :param batch_size: number of windows in each
        """
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            loss = self.compute_loss(self.replay_buffer.sample(batch_size, env=self._vec_normalize_env))
            self.policy.optimizer.zero_grad()
            loss.backward()
            th.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            self.policy.update_average()
        self._n_updates += gradient_steps

    def compute_loss(self, samples: SequenceSamples) -> th.Tensor:
        """
        Loss of a batch of windows.

        :param samples: the windows
        :return: the loss, a scalar
        """
        begin, stop = self.burn_in, self.burn_in + self.sequence_length
        outputs, last_q_values = self._unroll_parts(self.q_net, samples)
        q_values = self.q_net.head(outputs)
        with th.no_grad():
            target_outputs, last_target_q_values = self._unroll_parts(self.q_net_target, samples)
            target_q_values = th.cat((self.q_net_target.head(target_outputs), last_target_q_values))
            judges = th.cat((q_values, last_q_values)) if self.double_q else target_q_values
            values = target_q_values.gather(2, judges.argmax(dim=2, keepdim=True)).squeeze(2)
            ends = (samples.terminated[begin:], samples.truncated[begin:])
            targets = n_step_targets(samples.rewards[begin:], *ends, values, self.gamma, self.n_steps)
        chosen = q_values.gather(2, samples.actions[begin:stop].unsqueeze(2)).squeeze(2)
        loss = masked_huber_loss(chosen, targets, samples.mask)
        if self.q_net.predictor is None:
            return loss
        predictions = self.q_net.predictor(outputs, samples.actions[begin:stop])
        following = _each(samples.observations, lambda value: value[begin + 1 : stop + 1])
        error = self.q_net.predictor.error(predictions, following, samples.terminated[begin:stop], samples.mask)
        return loss + self.prediction_coef * error

    def _unroll_parts(self, q_net: RecurrentQNetwork, samples: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
        """What the cell gives in the training slots, with gradients, and Q-values of the bootstrap slots, without."""
        begin, stop = self.burn_in, self.burn_in + self.sequence_length
        initial = q_net.zero_states(samples.mask.shape[1])
        if self.initial_state == "stored":
            assert samples.lstm_states is not None
            initial = samples.lstm_states

        def run(part: slice, states: RecurrentStates) -> tuple[th.Tensor, RecurrentStates]:
            observations = _each(samples.observations, lambda value: value[part])
            starts = (samples.episode_starts[part], samples.window_starts[part])
            return unroll_plainly(q_net, observations, states, *starts, initial)

        with th.no_grad():
            states = run(slice(begin), initial)[1] if begin > 0 else initial
        outputs, states = run(slice(begin, stop), states)
        with th.no_grad():
            last_outputs, _ = run(slice(stop, None), states)
            return outputs, q_net.head(last_outputs)


def unroll_plainly(
    q_net: RecurrentQNetwork,
    observations: PyTorchObs,
    states: RecurrentStates,
    episode_starts: th.Tensor,
    window_starts: th.Tensor,
    initial_states: RecurrentStates | None = None,
) -> tuple[th.Tensor, RecurrentStates]:
    """
    What the recurrent cell gives along sequences, step by step; see
    :meth:`drqn_sb3.networks.RecurrentQNetwork.unroll_cell`.

    :param q_net: the network, whose recurrent cell has one layer
    :param observations: ``(time, batch, *observation_shape)``, or a dict of such
    :param states: before the first step, each ``(1, batch, hidden_size)``
    :param episode_starts: ``(time, batch)``, bool
    :param window_starts: ``(time, batch)``, bool
    :param initial_states: what states are put back to where a window starts; zeros when ``None``
    :return: ``(time, batch, hidden_size)``, and the states after the last step
    """
    flat = _each(observations, lambda value: value.flatten(0, 1))
    weights = q_net.cell.weights(0)
    scaled = preprocess_obs(flat, q_net.observation_space, q_net.normalize_images)
    features = q_net.encoder(_features(q_net.features_extractor, scaled))
    # (time * batch, features) -> (time, batch, gates * hidden_size)
    projected = F.linear(features, weights.weight_ih, weights.bias_ih).unflatten(0, tuple(episode_starts.shape))
    layer = tuple(state[0] for state in states)
    initial = None if initial_states is None else tuple(state[0] for state in initial_states)
    outputs = []
    for time in range(len(projected)):
        layer = reset_states(reset_states(layer, window_starts[time], initial), episode_starts[time])
        projected_t = projected[time] + weights.bias_hh if isinstance(q_net.cell, LSTM) else projected[time]
        layer = q_net.cell.step(0, projected_t, layer)
        outputs.append(layer[0])
    return th.stack(outputs), tuple(state.unsqueeze(0) for state in layer)


def _features(extractor: nn.Module, scaled: Any) -> th.Tensor:
    """Of observations that are scaled."""
    if isinstance(extractor, CombinedConvolutions):
        parts = extractor.extractors
        return th.cat(
            [_features(parts[key], value) if key in parts else value.flatten(1) for key, value in scaled.items()], dim=1
        )
    if isinstance(extractor, NatureConvolutions):
        return extractor.convolutions(standardize(scaled) if extractor.standardize else scaled)
    return extractor(scaled)


def _each(observations: Any, change: Any) -> Any:
    """Apply to an observation, or to each in a dict of them."""
    if isinstance(observations, dict):
        return {key: change(value) for key, value in observations.items()}
    return change(observations)
