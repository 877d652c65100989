"""What of an agent outlives its process: models, replay buffers, the state of a run."""

import io
import pathlib
from typing import Any, TypeVar

import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.save_util import load_from_pkl

from drqn_sb3.arguments import check_replay_buffer
from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.learner import Learner
from drqn_sb3.model_files import check_version, read_model_data
from drqn_sb3.networks import RecurrentQNetwork
from drqn_sb3.out_of_memory import memory_advice
from drqn_sb3.type_aliases import RecurrentStates
from drqn_sb3.windows import SequentialWindows

SelfDQN = TypeVar("SelfDQN", bound="PersistentDQN")


class PersistentDQN(DQN):
    """The part of :class:`~drqn_sb3.drqn.DRQN` that saves and loads. Its attributes are made there."""

    sequence_length: int
    burn_in: int
    replay: str
    initial_state: str
    q_net: RecurrentQNetwork  # type: ignore[assignment]
    replay_buffer: SequenceReplayBuffer | None
    _learner: Learner
    _exploration_rng: np.random.Generator
    _lstm_states: RecurrentStates | None
    _acted_on_states: RecurrentStates | None
    _due_updates: list[tuple[int, int]]
    _no_updates_until: int

    # --- models and replay buffers ---

    @classmethod
    def load(cls: type[SelfDQN], path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any) -> SelfDQN:
        """
        Load a model; arguments as in SB3. A model runs code of its own when loaded: load only what you trust.

        :param path: where it is
        :return: the model
        :raises ValueError: if the file is damaged, or holds no DRQN model
        """
        bare = cls(policy="MlpLstmPolicy", env=None, _init_setup_model=False)  # type: ignore[arg-type]
        unknown = check_version(read_model_data(path), vars(bare), path)
        model = super().load(path, *args, **kwargs)
        for name in unknown:
            vars(model).pop(name, None)
        return model

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
        assert self.replay_buffer is not None
        loaded.device = self.device
        with memory_advice(self):
            loaded.storage.to(self.replay_buffer.storage.device)
        if truncate_last_traj:
            loaded.end_open_episodes()
        if isinstance(loaded.sampler, SequentialWindows):
            loaded.sampler.forget()  # the states that its rows would go on from are not saved
        self.replay_buffer = loaded
        self._learner.forget()

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Set the weights and the optimiser's state, see SB3's method."""
        super().set_parameters(*args, **kwargs)
        self._learner.pull_weights()

    def _excluded_save_params(self) -> list[str]:
        carried = ["_lstm_states", "_acted_on_states", "_learner", "_stepping", "_check", "_due_updates", "_is_learning"]
        carried += ["_no_updates_until", "_exploration_rng", "_replay_seed"]
        carried += ["buffer_device", "step_timeout"]  # matters of the machine
        return [*super()._excluded_save_params(), *carried]

    # --- resuming a run ---

    def get_run_state(self) -> dict[str, Any]:
        """
        Take what a run depends on beyond a model's parameters and SB3's counters, between two rollouts.

        :return: plain data, for :meth:`set_run_state`
        :raises RuntimeError: amid a step, whose results are not stored yet
        :raises FloatingPointError: if weights or losses are not finite: such a state must not replace a sound one
        """
        if self._acted_on_states is not None:
            raise RuntimeError("the state of a run must be taken between two rollouts, not amid a step")
        self._learner.check_finite()
        return {
            "exploration": self._exploration_rng.bit_generator.state,
            "lstm_states": self._lstm_states,
            "due_updates": self._due_updates,
            "no_updates_until": self._no_updates_until,
            "learner": self._learner.get_run_state(),
        }

    def set_run_state(self, state: dict[str, Any]) -> None:
        """
        Go on from where :meth:`get_run_state` was called.

        :param state: what it returned
        """
        self._exploration_rng.bit_generator.state = state["exploration"]
        states = state["lstm_states"]
        self._lstm_states = None if states is None else tuple(part.to(self.device) for part in states)
        self._acted_on_states = None
        self._due_updates = list(state["due_updates"])
        self._no_updates_until = state.get("no_updates_until", 0)
        self._learner.set_run_state(state["learner"])

    def begin_new_episodes(self) -> None:
        """Take note that the environments were reset: running episodes are over, recurrent states start from zeros."""
        assert self.replay_buffer is not None
        self.replay_buffer.end_open_episodes()
        self._lstm_states, self._acted_on_states = None, None
