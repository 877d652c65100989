"""Deep Recurrent Q-Network: act, store, train."""

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from drqn_sb3.arguments import check_arguments, check_env, check_normalization, check_policy, check_prediction
from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.experience import ExperienceCheck
from drqn_sb3.learner import Learner, LearnerSettings
from drqn_sb3.model_files import VERSION_KEY
from drqn_sb3.networks import RecurrentQNetwork
from drqn_sb3.out_of_memory import memory_advice
from drqn_sb3.overlap import WorkWhileStepping
from drqn_sb3.persistence import PersistentDQN
from drqn_sb3.policies import CnnLstmPolicy, DRQNPolicy, MlpLstmPolicy, MultiInputLstmPolicy
from drqn_sb3.precision import compute_dtype
from drqn_sb3.type_aliases import RecurrentStates
from drqn_sb3.version import __version__
from drqn_sb3.workers import WorkerWatch

SelfDRQN = TypeVar("SelfDRQN", bound="DRQN")


class DRQN(PersistentDQN):
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
    :param prediction_coef: weight of the prediction's error (:meth:`drqn_sb3.prediction.NextObservation.error`), 0 or more,
        where the policy has a ``predictor`` (without effect elsewhere): its gradients are added to those of the loss before
        these are clipped. What is logged as ``train/loss`` is without it, ``train/prediction_error`` is the error
    :param precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where the device is fast at it and the network
        large enough to gain. Weights, targets, losses and the optimiser's steps are in float32 with each. What ``"auto"``
        has come to is :attr:`compute_precision`: a seed gives another run in another precision
    :param buffer_device: where the replay buffer keeps its observations: ``"cpu"``, the model's device, or ``"auto"``: on the
        model's device if that is a GPU and they fit in half of its free memory. Not saved with the model
    :param capture_graph: whether updates on a CUDA device are captured as a graph and launched at once, which optimisers
        with an argument ``capturable`` allow; ``False`` for networks of one's own that can't be captured
    :param step_timeout: seconds that environments in processes of their own (``SubprocVecEnv``) may take to answer, after
        which :meth:`learn` ends with an error; ``None`` waits for ever. Others (``DummyVecEnv``, ``AtariVecEnv``) can't be
        watched. Not saved with the model
    :param target_update_interval: environment steps between two updates of the target network
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": MlpLstmPolicy,
        "CnnLstmPolicy": CnnLstmPolicy,
        "MultiInputLstmPolicy": MultiInputLstmPolicy,
    }

    policy: DRQNPolicy
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]

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
        prediction_coef: float = 0.5,
        precision: str = "auto",
        buffer_device: str = "auto",
        capture_graph: bool = True,
        step_timeout: float | None = 600.0,
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
        self.prediction_coef = prediction_coef
        self.precision = precision
        self.buffer_device = buffer_device
        self.capture_graph = capture_graph
        self.step_timeout = step_timeout
        self.exploration_rate = exploration_initial_eps
        if _init_setup_model:
            self._setup_model()

    # --- setting up ---

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return check_normalization(DQN._wrap_env(env, verbose, monitor_wrapper))

    def _setup_model(self) -> None:
        check_arguments(self)
        # What acting carries along; zeros when None
        self._lstm_states: RecurrentStates | None = None
        self._acted_on_states: RecurrentStates | None = None
        self._due_updates: list[tuple[int, int]] = []
        self._is_learning = False
        self._no_updates_until = 0
        self._stepping: WorkWhileStepping | None = None
        self._check: ExperienceCheck | None = None
        setattr(self, VERSION_KEY, __version__)
        own_kwargs, n_steps = self.replay_buffer_kwargs, self.n_steps
        self.replay_buffer_kwargs = {
            "sequence_length": self.sequence_length,
            "burn_in": self.burn_in,
            "n_steps": n_steps,
            "replay": self.replay,
            "buffer_device": self.buffer_device,
            **own_kwargs,
        }
        self.n_steps = 1  # else SB3 warns that a buffer of one's own must see to its n-step returns: this one does
        super()._setup_model()
        self.replay_buffer_kwargs, self.n_steps = own_kwargs, n_steps
        assert self.replay_buffer is not None
        self.replay_buffer.seed(self._replay_seed)
        settings = LearnerSettings(*(getattr(self, name) for name in LearnerSettings._fields))
        self._learner = Learner(self.policy, settings, compute_dtype(self.precision, self.q_net), self.capture_graph)
        check_prediction(self)
        if self.verbose >= 1:
            print(f"Computing in {self.compute_precision}")

    @property
    def compute_precision(self) -> str:
        """What ``precision`` has come to: ``"float32"`` or ``"bfloat16"``."""
        return str(self._learner.dtype).removeprefix("torch.")

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
        assert self.env is not None
        check_prediction(self)
        self._learner.pull_weights()
        if self._acted_on_states is not None or self._lstm_states is None:
            # Learning was stopped before its last step was stored, or the model was loaded without its recurrent states:
            # the episodes can't be gone on with
            self._last_obs, self._acted_on_states = None, None
        is_reset = reset_num_timesteps or self._last_obs is None
        if is_reset:
            self.begin_new_episodes()
        if reset_num_timesteps:
            self._no_updates_until = 0
        results = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if is_reset:
            self._experience_check(self.env).check_observations(self._last_obs)
        return results

    def _experience_check(self, env: VecEnv) -> ExperienceCheck:
        if self._check is None or self._check.env is not env:
            self._check = ExperienceCheck(env, lambda: self.num_timesteps)
        return self._check

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
        network = self._learner.acting_network
        with th.inference_mode():
            observations = obs_as_tensor(self._last_obs, self.device)
            starts = th.as_tensor(self._last_episode_starts, dtype=th.bool, device=self.device)
            # The state advances whether or not the action will be a random one
            q_values, self._lstm_states = network(observations, self._lstm_states, starts)
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
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            self._learner.target.pull_weights()
        if self.exploration_steps is not None:
            share = min(self.num_timesteps / self.exploration_steps, 1.0)
            fall = self.exploration_initial_eps - self.exploration_final_eps
            self.exploration_rate = self.exploration_initial_eps - share * fall
            self.logger.record("rollout/exploration_rate", self.exploration_rate)

    # --- training ---

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> RolloutReturn:
        """
        Step the environments and store what happens; updates that are due are made while they step.

        :param env: the environments
        :return: how many steps were taken, and whether to go on
        """
        self._learner.set_training_mode(False)
        if self._stepping is None or self._stepping.venv is not env:
            self._stepping = WorkWhileStepping(env, self._make_due_updates, self._experience_check(env).check_step)
        return super().collect_rollouts(self._stepping, *args, **kwargs)

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """
        Update the Q-network: while the environments take their next step if there will be one, else at once.

        :param gradient_steps: number of updates
        :param batch_size: number of windows in each
        """
        if self._is_learning and self.num_timesteps <= self._no_updates_until:
            return
        self._due_updates.append((gradient_steps, batch_size))
        if not self._is_learning or self.num_timesteps >= self._total_timesteps:
            self._make_due_updates()

    def fill_buffer_first(self) -> None:
        """
        Make no update within the next ``learning_starts`` steps: the run goes on without the replay buffer that it had, and
        with new episodes.
        """
        self._no_updates_until = self.num_timesteps + self.learning_starts
        self._due_updates = []
        self._learner.forget()

    def _make_due_updates(self) -> None:
        assert self.replay_buffer is not None
        due, self._due_updates = self._due_updates, []
        self._learner.n_updates = self._n_updates
        for gradient_steps, batch_size in due:
            self._learner.set_training_mode(True)
            self._update_learning_rate(self.policy.optimizer)
            for _ in range(gradient_steps):
                self._learner.update(self.replay_buffer.sample(batch_size, env=self._vec_normalize_env))
                self._n_updates += 1
            self._learner.set_training_mode(False)
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def dump_logs(self) -> None:
        """
        Write log data; what is logged of training are means over the updates since the last time.

        :raises NotFiniteError: if the loss or the gradients have become NaN or infinite
        """
        for name, mean in self._learner.read_statistics().items():
            self.logger.record(f"train/{name}", mean)
        super().dump_logs()

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
        :raises RuntimeError, TimeoutError: if an environment in a process of its own dies or hangs; all of them are ended
        :raises NotFiniteError: if NaN or infinity is in an observation, a reward, the loss or the gradients
        :raises torch.OutOfMemoryError, MemoryError, RuntimeError: if memory runs out, naming what takes it
        """
        self._is_learning = True
        try:
            with memory_advice(self), WorkerWatch(self.env, self.step_timeout, lambda: self.num_timesteps):
                super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
                self._make_due_updates()
        finally:
            self._is_learning = False
            _tell_of_exit(callback)
        return self


def _tell_of_exit(callback: Any) -> None:
    """Tell callbacks with a method ``on_learn_exit`` that learning is over: of one that ends by an error SB3 tells none."""
    for one in callback if isinstance(callback, list) else [callback]:
        if hasattr(one, "on_learn_exit"):
            one.on_learn_exit()
        _tell_of_exit(getattr(one, "callbacks", []))
