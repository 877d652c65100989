"""Deep Recurrent Q-Network: act, store, train."""

import io
import pathlib
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from drqn_sb3.arguments import check_arguments, check_env, check_normalization, check_policy, check_replay_buffer
from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.losses import masked_huber_loss, masked_mean, n_step_targets
from drqn_sb3.policies import CnnLstmPolicy, DRQNPolicy, MlpLstmPolicy, MultiInputLstmPolicy, RecurrentQNetwork
from drqn_sb3.type_aliases import RecurrentStates, SequenceSamples
from drqn_sb3.windows import SequentialWindows

SelfDRQN = TypeVar("SelfDRQN", bound="DRQN")


class DRQN(DQN):
    """
    Deep Recurrent Q-Network (DRQN), for partially observable problems.

    Paper: Hausknecht & Stone 2015, https://arxiv.org/abs/1507.06527. Double Q-learning (https://arxiv.org/abs/1509.06461)
    is on by default, stored states and burn-in are those of R2D2 (https://openreview.net/forum?id=r1lyTjAqYX).

    Arguments not named here are those of SB3's :class:`~stable_baselines3.dqn.dqn.DQN`.

    :param policy: ``"MlpLstmPolicy"``, ``"CnnLstmPolicy"``, ``"MultiInputLstmPolicy"``, or a policy class
    :param env: the environment to learn from, with discrete actions
    :param buffer_size: number of observations kept, over all environments. Each is stored once; an episode of ``n`` steps
        takes ``n + 1``
    :param learning_starts: number of environment steps taken at random before learning, at least a window
    :param batch_size: number of windows in a minibatch
    :param sequence_length: number of steps in a window that are trained on
    :param burn_in: number of steps before them that only warm up the recurrent state
    :param n_steps: number of rewards in a target before it bootstraps
    :param double_q: whether the online network chooses the action whose value the target network gives
    :param initial_state: the recurrent state a window starts from: ``"zero"`` as in the paper, or the one ``"stored"``
        when the window's first step was taken (in half precision: 2 KB a step for an LSTM of 512)
    :param replay: ``"random"`` windows, or ``"sequential"``: whole episodes in order, the state carried from window to
        window (the paper's section 4.2 has both)
    :param exploration_steps: number of environment steps over which epsilon falls to its final value; ``None`` leaves it to
        ``exploration_fraction``
    :param target_update_interval: environment steps between two updates of the target network
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": MlpLstmPolicy,
        "CnnLstmPolicy": CnnLstmPolicy,
        "MultiInputLstmPolicy": MultiInputLstmPolicy,
    }

    policy: DRQNPolicy
    q_net: RecurrentQNetwork  # type: ignore[assignment]
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]
    replay_buffer: SequenceReplayBuffer | None

    def __init__(
        self,
        policy: str | type[DRQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-4,
        buffer_size: int = 100_000,
        learning_starts: int = 1_000,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[SequenceReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        sequence_length: int = 10,
        burn_in: int = 0,
        double_q: bool = True,
        initial_state: str = "zero",
        replay: str = "random",
        exploration_steps: int | None = None,
    ) -> None:
        super().__init__(
            check_policy(policy, self.policy_aliases),
            check_env(env, verbose),
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class or SequenceReplayBuffer,
            replay_buffer_kwargs,
            optimize_memory_usage,
            n_steps,
            target_update_interval,
            exploration_fraction,
            exploration_initial_eps,
            exploration_final_eps,
            max_grad_norm,
            stats_window_size,
            tensorboard_log,
            policy_kwargs,
            verbose,
            seed,
            device,
            _init_setup_model=False,
        )
        self.sequence_length = sequence_length
        self.burn_in = burn_in
        self.double_q = double_q
        self.initial_state = initial_state
        self.replay = replay
        self.exploration_steps = exploration_steps
        self.exploration_rate = exploration_initial_eps
        if _init_setup_model:
            self._setup_model()

    # --- setting up ---

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return check_normalization(DQN._wrap_env(env, verbose, monitor_wrapper))

    def _setup_model(self) -> None:
        check_arguments(self)
        # What acting and sequential replay carry along; zeros when None
        self._lstm_states: RecurrentStates | None = None
        self._acted_on_states: RecurrentStates | None = None
        self._carried_states: tuple[RecurrentStates, RecurrentStates] | None = None
        self._train_sums: dict[str, th.Tensor] = {}
        self._n_summed = 0
        own_kwargs, n_steps = self.replay_buffer_kwargs, self.n_steps
        self.replay_buffer_kwargs = {
            "sequence_length": self.sequence_length,
            "burn_in": self.burn_in,
            "n_steps": n_steps,
            "replay": self.replay,
            **own_kwargs,
        }
        self.n_steps = 1  # else SB3 warns that a buffer of one's own must see to its n-step returns: this one does
        super()._setup_model()
        self.replay_buffer_kwargs, self.n_steps = own_kwargs, n_steps
        assert self.replay_buffer is not None
        self.replay_buffer.seed(self._replay_seed)

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything that draws: Python, numpy, PyTorch, the environments, exploration and replay.

        :param seed: the seed; ``None`` leaves the global generators alone
        """
        super().set_random_seed(seed)
        exploration_seed, self._replay_seed = np.random.SeedSequence(seed).spawn(2)
        self._exploration_rng = np.random.default_rng(exploration_seed)
        if self.replay_buffer is not None:
            self.replay_buffer.seed(self._replay_seed)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> Any:
        assert self.replay_buffer is not None
        if self._acted_on_states is not None or self._lstm_states is None:
            # Learning was stopped before its last step was stored, or the model was loaded without its recurrent states:
            # the episodes can't be gone on with
            self._last_obs, self._acted_on_states = None, None
        if reset_num_timesteps or self._last_obs is None:
            # The environments are about to be reset
            self.replay_buffer.end_open_episodes()
            self._lstm_states = None
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    # --- acting and storing ---

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Actions for observations, epsilon-greedy unless ``deterministic``; arguments and results as RecurrentPPO has them.

        :param observation: of one environment, or of ``n_envs``
        :param state: what the last call returned, each ``(n_layers, n_envs, hidden_size)``; ``None`` starts from zeros
        :param episode_start: ``(n_envs,)``, bool: whose episode has just begun, whose state is zeroed therefore
        :param deterministic: whether to act greedily
        :return: the actions, and the states to pass to the next call
        """
        actions, state = self.policy.predict(observation, state, episode_start)
        if not deterministic:
            actions = self._explore(actions, self.exploration_rate)
        return actions, state

    def _explore(self, actions: np.ndarray, epsilon: float) -> np.ndarray:
        """Replace each action with probability ``epsilon`` by one drawn uniformly: one decision per environment."""
        shape, n_actions = np.shape(actions), int(self.action_space.n)  # type: ignore[attr-defined]
        explores = self._exploration_rng.random(shape) < epsilon
        return np.where(explores, self._exploration_rng.integers(n_actions, size=shape), actions)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        assert self._last_obs is not None and self._last_episode_starts is not None
        if self._lstm_states is None:
            self._lstm_states = self.q_net.zero_states(n_envs)
        self._acted_on_states = self._lstm_states
        with th.no_grad():
            observations = obs_as_tensor(self._last_obs, self.device)
            starts = th.as_tensor(self._last_episode_starts, dtype=th.bool, device=self.device)
            # The state advances whether or not the action will be a random one
            q_values, self._lstm_states = self.q_net(observations, self._lstm_states, starts)
        epsilon = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        actions = self._explore(q_values.argmax(dim=1).cpu().numpy(), epsilon)
        return actions, actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if self.initial_state == "stored":
            assert isinstance(replay_buffer, SequenceReplayBuffer) and self._acted_on_states is not None
            replay_buffer.add_lstm_states(self._acted_on_states)
        self._acted_on_states = None
        self._last_episode_starts = dones

    def _on_step(self) -> None:
        super()._on_step()
        if self.exploration_steps is not None:
            share = min(self.num_timesteps / self.exploration_steps, 1.0)
            fall = self.exploration_initial_eps - self.exploration_final_eps
            self.exploration_rate = self.exploration_initial_eps - share * fall
            self.logger.record("rollout/exploration_rate", self.exploration_rate)

    # --- training ---

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """
        Update the Q-network.

        :param gradient_steps: number of updates
        :param batch_size: number of windows in each
        """
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            samples = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            loss, statistics = self._compute_loss(samples)
            self.policy.optimizer.zero_grad()
            loss.backward()
            grad_norm = th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            self._sum_up({"grad_norm": grad_norm, **statistics})
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _compute_loss(self, samples: SequenceSamples) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        Loss of a batch of windows, and what is worth watching.

        Both networks are unrolled over the whole window, each from its own state; gradients come from the training slots.
        """
        begin, stop = self.burn_in, self.burn_in + self.sequence_length
        online_initial, target_initial = self._initial_states(samples)
        q_values, last_q_values, online_states = self._unroll(self.q_net, samples, online_initial)
        with th.no_grad():
            *target_parts, target_states = self._unroll(self.q_net_target, samples, target_initial)
            # (sequence_length + n_steps, batch, n_actions)
            target_q_values = th.cat(target_parts)
            judges = th.cat((q_values, last_q_values)) if self.double_q else target_q_values
            values = target_q_values.gather(2, judges.argmax(dim=2, keepdim=True)).squeeze(2)
            ends = (samples.terminated[begin:], samples.truncated[begin:])
            targets = n_step_targets(samples.rewards[begin:], *ends, values, self.gamma, self.n_steps)
        # (sequence_length, batch, n_actions) -> (sequence_length, batch)
        chosen = q_values.gather(2, samples.actions[begin:stop].unsqueeze(2)).squeeze(2)
        loss = masked_huber_loss(chosen, targets, samples.mask)
        if self.replay == "sequential":
            self._carried_states = tuple(state.detach() for state in online_states), target_states
        with th.no_grad():
            statistics = {
                "loss": loss.detach(),
                "q_mean": masked_mean(chosen, samples.mask),
                "td_error": masked_mean((chosen - targets).abs(), samples.mask),
                "terminal_share": masked_mean(samples.terminated[begin:stop].float(), samples.mask),
                "state_norm": online_states[0].norm(dim=-1).mean(),
            }
        return loss, statistics

    def _initial_states(self, samples: SequenceSamples) -> tuple[RecurrentStates, RecurrentStates]:
        """Where the online and the target network start from."""
        if self.replay == "sequential":
            if self._carried_states is not None and self._carried_states[0][0].shape[1] == samples.mask.shape[1]:
                return self._carried_states
        elif self.initial_state == "stored":
            if samples.lstm_states is None:
                raise ValueError('initial_state="stored" needs a replay buffer filled with stored states, this one has none')
            return samples.lstm_states, samples.lstm_states
        zeros = self.q_net.zero_states(samples.mask.shape[1])
        return zeros, zeros

    def _unroll(
        self, q_net: RecurrentQNetwork, samples: SequenceSamples, initial_states: RecurrentStates
    ) -> tuple[th.Tensor, th.Tensor, RecurrentStates]:
        """Q-values of the training and of the bootstrap slots, and the states between; only the former carry gradients."""
        begin, stop = self.burn_in, self.burn_in + self.sequence_length

        def run(part: slice, states: RecurrentStates) -> tuple[th.Tensor, RecurrentStates]:
            starts = (samples.episode_starts[part], samples.window_starts[part])
            return q_net.unroll(_time_slice(samples.observations, part), states, *starts, initial_states)

        states = initial_states
        if begin > 0:
            with th.no_grad():
                _, states = run(slice(begin), states)
        q_values, states = run(slice(begin, stop), states)
        with th.no_grad():
            last_q_values, _ = run(slice(stop, None), states)
        return q_values, last_q_values, states

    # --- logging ---

    def _sum_up(self, statistics: dict[str, th.Tensor]) -> None:
        """Keep sums on the device: nothing waits for a number that is not logged."""
        for name, value in statistics.items():
            self._train_sums[name] = self._train_sums.get(name, th.zeros_like(value)) + value
        self._n_summed += 1

    def dump_logs(self) -> None:
        """Write log data; what is logged of training are means over the updates since the last time."""
        for name, value in self._train_sums.items():
            self.logger.record(f"train/{name}", value.item() / self._n_summed)
        self._train_sums, self._n_summed = {}, 0
        super().dump_logs()

    # --- saving and loading ---

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer that :meth:`save_replay_buffer` wrote. It is a pickle: load only what you trust.

        :param path: where it is
        :param truncate_last_traj: whether the running episodes are over (as they are when the environments will be reset)
        :raises TypeError: if it holds something else
        :raises ValueError: if it is damaged, or was made for other environments, windows or states than the model's
        """
        try:
            loaded = load_from_pkl(path, self.verbose)
        except OSError:
            raise
        except Exception as error:  # there is no telling what a damaged pickle raises
            raise ValueError(f"{path} holds no replay buffer, or is damaged: {error!r}") from error
        check_replay_buffer(self, loaded, path)
        loaded.device = self.device
        if truncate_last_traj:
            loaded.end_open_episodes()
        if isinstance(loaded.sampler, SequentialWindows):
            loaded.sampler.forget()  # the states that its rows would go on from are not saved
        self.replay_buffer = loaded
        self._carried_states = None

    def _excluded_save_params(self) -> list[str]:
        carried = ["_lstm_states", "_acted_on_states", "_carried_states", "_train_sums", "_n_summed"]
        carried += ["_exploration_rng", "_replay_seed"]
        return [*super()._excluded_save_params(), *carried]

    def learn(
        self: SelfDRQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "DRQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDRQN:
        """
        Learn; arguments as in SB3.

        :param total_timesteps: number of environment steps to take
        :param callback: called at every step
        :param log_interval: number of episodes between two logs
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether to count steps from zero. If not, running episodes go on where they were, except
            where that can't be: after a callback stopped learning, and in a model just loaded, they begin anew
        :param progress_bar: whether to show one
        :return: itself
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)


def _time_slice(observations: PyTorchObs, part: slice) -> PyTorchObs:
    if isinstance(observations, dict):
        return {key: value[part] for key, value in observations.items()}
    return observations[part]
