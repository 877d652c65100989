"""
The learner: from a batch of windows to new weights.

Axis order ``(time, batch, ...)``. Nothing here waits for the device: what is worth watching is summed up there, and read
only when it is logged. On a processor, where looking costs nothing, each update is looked at before its step is taken.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch as th
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from drqn_sb3.allocator import keep_freed_memory
from drqn_sb3.cuda_graph import CapturedUpdate, fit_optimizer
from drqn_sb3.finite import diverged, find_spoilt
from drqn_sb3.losses import masked_huber_loss, masked_mean, n_step_targets
from drqn_sb3.networks import RecurrentQNetwork, map_observations
from drqn_sb3.policies import DRQNPolicy
from drqn_sb3.precision import Replica
from drqn_sb3.type_aliases import RecurrentStates, SequenceSamples

_TELLING = ("loss", "grad_norm")  # the statistics that are not finite if anything is not


class LearnerSettings(NamedTuple):
    """What an update depends on; the names are those of :class:`~drqn_sb3.drqn.DRQN`'s arguments."""

    gamma: float
    n_steps: int
    burn_in: int
    sequence_length: int
    double_q: bool
    initial_state: str
    replay: str
    max_grad_norm: float
    prediction_coef: float


class Learner:
    """
    Updates a policy's Q-network.

    :param policy: the policy, with its optimiser
    :param settings: what an update depends on
    :param dtype: the precision to compute in, see :func:`drqn_sb3.precision.compute_dtype`
    :param capture_graph: whether to capture updates as a CUDA graph; without effect elsewhere than on CUDA devices, and with
        sequential replay, whose states are other tensors each time
    """

    def __init__(
        self, policy: DRQNPolicy, settings: LearnerSettings, dtype: th.dtype = th.float32, capture_graph: bool = True
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.dtype = dtype
        self.captures_graph = capture_graph and policy.device.type == "cuda" and settings.replay == "random"
        self.online = Replica(policy.q_net, dtype)
        self.target = Replica(policy.q_net_target, dtype)
        self.forget()
        self.pull_weights()
        self._sums: dict[str, th.Tensor] = {}
        self._n_summed = 0
        self.n_updates = 0
        """Updates so far, for errors; to be set when it is another's count that matters."""

    def forget(self) -> None:
        """Let go of the states that sequential replay carries from window to window."""
        self._carried_states: tuple[RecurrentStates, RecurrentStates] | None = None

    def set_training_mode(self, mode: bool) -> None:
        """
        Switch what behaves otherwise in training, such as dropout, in the online network.

        :param mode: whether to train
        """
        self.policy.set_training_mode(mode)
        self.online.network.set_training_mode(mode)

    def pull_weights(self) -> None:
        """Follow the policy's weights and optimiser; to be called when they were changed by others."""
        self.online.pull_weights()
        self.target.pull_weights()
        self._take_step: Callable[[SequenceSamples], None] = self._take_plain_step
        can_capture = all("capturable" in group for group in self.policy.optimizer.param_groups)
        if self.captures_graph and can_capture:
            self._take_step = CapturedUpdate(self._take_plain_step, self.policy.optimizer)
        fit_optimizer(self.policy.optimizer, is_capturable=self.captures_graph)

    @property
    def acting_network(self) -> RecurrentQNetwork:
        """The online network, with the policy's present weights."""
        if self.online.is_behind():
            self.pull_weights()
        return self.online.network

    def update(self, samples: SequenceSamples) -> None:
        """
        Take one step down the loss' gradient.

        :param samples: the windows to learn from
        :raises NotFiniteError: on a processor, before the step is taken, if the loss or the gradients are not finite
        """
        if self.policy.device.type == "cpu":
            keep_freed_memory()
        if self.online.is_behind() or self.target.is_behind():
            self.pull_weights()
        self._take_step(samples)
        self.n_updates += 1
        self._n_summed += 1

    def _take_plain_step(self, samples: SequenceSamples) -> None:
        loss, statistics = self.compute_loss(samples)
        self.online.clear_gradients()
        loss.backward()
        self.online.push_gradients()
        grad_norm = self._clip_gradients()
        if grad_norm.device.type == "cpu":
            self._check_step(statistics["loss"].item(), grad_norm.item())
        self.policy.optimizer.step()
        self.policy.update_average()
        self.online.pull_weights()
        for name, value in {"grad_norm": grad_norm, **statistics}.items():
            if name not in self._sums:
                self._sums[name] = th.zeros_like(value)
            # In place, as a captured graph has it
            self._sums[name].add_(value)

    def _check_step(self, loss: float, grad_norm: float) -> None:
        """See whether a step may be taken."""
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        self.forget()
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradients is {grad_norm}"
        raise diverged(self.n_updates + 1, what, is_taken=False)

    def check_finite(self) -> None:
        """
        See whether the networks are worth saving. On a GPU this waits for it.

        :raises NotFiniteError: if the weights or the optimiser's state have NaN or infinity in them, or a loss or gradients
            had since the statistics were read last
        """
        for name in _TELLING:
            total = self._sums[name].item() if name in self._sums else 0.0
            if not math.isfinite(total):
                raise diverged(
                    self.n_updates, f"{name}, summed over the updates since the last log, is {total}", is_taken=True
                )
        spoilt = find_spoilt(self.policy, self.policy.optimizer)
        if spoilt is not None:
            raise diverged(self.n_updates, f"{spoilt} has NaN or infinity in it", is_taken=True)

    def compute_loss(self, samples: SequenceSamples) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        Loss of a batch of windows, and what is worth watching.

        Both networks are unrolled over the whole window, each from its own state; gradients come from the training slots.

        :param samples: the windows
        :return: the loss, a scalar with gradients, and scalars without, by name
        """
        settings = self.settings
        begin, stop = settings.burn_in, settings.burn_in + settings.sequence_length
        observations = samples.observations
        # Once for both networks
        samples = samples._replace(observations=self.online.network.prepare(observations))
        online_initial, target_initial = self._initial_states(samples)
        outputs, last_q_values, online_states = self._unroll_online(samples, online_initial)
        q_values = self.online.network.head(outputs)
        with th.no_grad():
            target_q_values, target_states = self._unroll_target(samples, target_initial)
            # (sequence_length + n_steps, batch, n_actions)
            judges = target_q_values if last_q_values is None else th.cat((q_values, last_q_values))
            values = target_q_values.gather(2, judges.argmax(dim=2, keepdim=True)).squeeze(2)
            ends = (samples.terminated[begin:], samples.truncated[begin:])
            targets = n_step_targets(samples.rewards[begin:], *ends, values, settings.gamma, settings.n_steps)
        # (sequence_length, batch, n_actions) -> (sequence_length, batch)
        chosen = q_values.gather(2, samples.actions[begin:stop].unsqueeze(2)).squeeze(2)
        loss = masked_huber_loss(chosen, targets, samples.mask)
        if settings.replay == "sequential":
            self._carried_states = tuple(state.detach() for state in online_states), target_states
        with th.no_grad():
            statistics = {
                "loss": loss.detach(),
                "q_mean": masked_mean(chosen, samples.mask),
                "td_error": masked_mean((chosen - targets).abs(), samples.mask),
                "terminal_share": masked_mean(samples.terminated[begin:stop].float(), samples.mask),
                "state_norm": online_states[0].norm(dim=-1).mean(),
            }
        predictor = self.online.network.predictor
        if predictor is not None:
            following = map_observations(observations, lambda value: value[begin + 1 : stop + 1])
            predictions = predictor(outputs, samples.actions[begin:stop])
            error = predictor.error(predictions, following, samples.terminated[begin:stop], samples.mask)
            loss = loss + settings.prediction_coef * error
            statistics["prediction_error"] = error.detach()
        return loss, statistics

    def read_statistics(self) -> dict[str, float]:
        """
        Means of what was worth watching over the updates since the last time.

        :return: by name; empty where there was no update
        :raises NotFiniteError: if the mean of the loss or of the gradients' norm is not finite
        """
        if self._n_summed == 0:
            return {}
        means = {name: value.item() / self._n_summed for name, value in self._sums.items()}
        for value in self._sums.values():
            value.zero_()
        self._n_summed = 0
        for name in _TELLING:
            if not math.isfinite(means[name]):
                raise diverged(
                    self.n_updates, f"{name}, a mean over the updates since the last log, is {means[name]}", is_taken=True
                )
        return means

    def get_run_state(self) -> dict[str, Any]:
        """
        Take what is carried from update to update beside weights and optimiser.

        :return: plain data, for :meth:`set_run_state`
        """
        return {"carried_states": self._carried_states, "sums": self._sums, "n_summed": self._n_summed}

    def set_run_state(self, state: dict[str, Any]) -> None:
        """
        Go on from where :meth:`get_run_state` was called.

        :param state: what it returned
        """
        device, carried = self.policy.device, state["carried_states"]
        self._carried_states = None
        if carried is not None:
            online, target = (tuple(part.to(device) for part in states) for states in carried)
            self._carried_states = online, target
        # In place where they are there already: a captured graph adds to these very tensors
        for name, value in state["sums"].items():
            self._sums.setdefault(name, th.zeros_like(value, device=device)).copy_(value)
        self._n_summed = state["n_summed"]

    def _initial_states(self, samples: SequenceSamples) -> tuple[RecurrentStates | None, RecurrentStates | None]:
        """Where the online and the target network start from; ``None`` for zeros."""
        if self.settings.replay == "sequential":
            if self._carried_states is not None and self._carried_states[0][0].shape[1] == samples.mask.shape[1]:
                return self._carried_states
        elif self.settings.initial_state == "stored":
            if samples.lstm_states is None:
                raise ValueError('initial_state="stored" needs a replay buffer filled with stored states, this one has none')
            return samples.lstm_states, samples.lstm_states
        return None, None

    def _unroll_online(
        self, samples: SequenceSamples, initial_states: RecurrentStates | None
    ) -> tuple[th.Tensor, th.Tensor | None, RecurrentStates]:
        """
        The cell's outputs in the training slots, with gradients, Q-values of the bootstrap slots, where double Q-learning
        needs them, and the states between.
        """
        begin, stop = self.settings.burn_in, self.settings.burn_in + self.settings.sequence_length
        network, states, last_q_values = self.online.network, initial_states, None
        if begin > 0:
            with th.no_grad():
                _, states = _unroll(network, samples, slice(begin), states, initial_states)
        outputs, states = _unroll_cell(network, samples, slice(begin, stop), states, initial_states)
        if self.settings.double_q:
            with th.no_grad():
                last_q_values, _ = _unroll(network, samples, slice(stop, None), states, initial_states)
        return outputs, last_q_values, states

    def _unroll_target(
        self, samples: SequenceSamples, initial_states: RecurrentStates | None
    ) -> tuple[th.Tensor, RecurrentStates]:
        """Q-values of the training and the bootstrap slots, and, if states are carried on, those between."""
        begin, stop = self.settings.burn_in, self.settings.burn_in + self.settings.sequence_length
        if self.settings.replay == "random":
            q_values, states = _unroll(self.target.network, samples, slice(None), initial_states, initial_states)
            return q_values[begin:], states
        q_values, states = _unroll(self.target.network, samples, slice(stop), initial_states, initial_states)
        last_q_values, _ = _unroll(self.target.network, samples, slice(stop, None), states, initial_states)
        return th.cat((q_values, last_q_values)), states

    def _clip_gradients(self) -> th.Tensor:
        """Scale the gradients to a norm of at most ``max_grad_norm``; gives their norm before."""
        parameters = [parameter for parameter in self.policy.q_net.parameters() if parameter.grad is not None]
        grad_norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        # On a processor, looking costs less than multiplying by one
        if grad_norm.device.type != "cpu" or grad_norm > self.settings.max_grad_norm:
            clip_grads_with_norm_(parameters, self.settings.max_grad_norm, grad_norm)
        return grad_norm


def _unroll(
    network: RecurrentQNetwork,
    samples: SequenceSamples,
    part: slice,
    states: RecurrentStates | None,
    initial_states: RecurrentStates | None,
) -> tuple[th.Tensor, RecurrentStates]:
    """Q-values of a part of windows that are prepared, from its states on, and the states after it."""
    outputs, states = _unroll_cell(network, samples, part, states, initial_states)
    return network.head(outputs), states


def _unroll_cell(
    network: RecurrentQNetwork,
    samples: SequenceSamples,
    part: slice,
    states: RecurrentStates | None,
    initial_states: RecurrentStates | None,
) -> tuple[th.Tensor, RecurrentStates]:
    """The cell's outputs in a part of windows that are prepared, from its states on, and the states after it."""
    if states is None:
        states = network.zero_states(samples.mask.shape[1])
    starts = (samples.episode_starts[part], samples.window_starts[part])
    observations = map_observations(samples.observations, lambda value: value[part])
    return network.unroll_prepared(observations, states, *starts, initial_states)
