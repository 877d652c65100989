"""The callback that has a run survive: it writes checkpoints, and resumes from them."""

import os
import signal
import threading
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.checkpoints.archive import versions
from drqn_sb3.checkpoints.files import DamagedFileError
from drqn_sb3.checkpoints.plain import pack
from drqn_sb3.checkpoints.run_state import check_fits, get_run_state, set_run_state
from drqn_sb3.checkpoints.store import CheckpointStore, is_checkpoint, list_checkpoints, steps_of
from drqn_sb3.checks import check_integer
from drqn_sb3.drqn import DRQN
from drqn_sb3.frame_stack import FrameStackReplayBuffer

EXIT_STATUS = 128 + signal.SIGTERM
"""What a run exits with that was told to stop: as any process that SIGTERM has ended, 143. It is not finished."""
PATIENCE_SECONDS = 5.0
"""SIGTERM that comes within this time of the first one is taken for the same: schedulers send several at once."""


class RunCheckpointCallback(BaseCallback):
    """
    Write checkpoints that a run can be resumed from exactly, and resume it.

    A checkpoint holds all that the rest of the run depends on: networks, optimiser, replay buffer, recurrent states,
    counters, random generators, what other callbacks remember, and the environments' state where these allow it. Started
    again with the same configuration, a run on a processor ends with the same weights, bit for bit, as one that was never
    stopped. Where the environments' state can't be had, they begin new episodes; a warning says so, and why.

    In a zoo config (``folder`` is the run's own there, and ``-params resume:True`` resumes)::

        callback:
          - drqn_sb3.RunCheckpointCallback:
              save_freq: 20_000

    In Python, the same script can be run again and again::

        callback = RunCheckpointCallback("checkpoints", resume=True)
        model.learn(1_000_000, callback=callback)

    It should be the first of several callbacks. ``learn`` takes the budget of the whole run, not what is left of it.
    SIGTERM, with which schedulers announce the end, makes a last checkpoint; the process then exits with status 143
    (``SystemExit``, so that ``finally`` blocks are run).

    A replay buffer of images takes gigabytes. Without it (``save_replay_buffer=False``) a DRQN's checkpoint takes what its
    networks and optimiser take, and is whole by itself. Such a run does not go on exactly: environments begin new episodes,
    and updates begin again after ``learning_starts`` steps, which the agent takes as it is. They are part of the budget; who
    stops a run more often than that never learns again.

    It works for DRQN, for off-policy algorithms whose replay buffer is a ``FrameStackReplayBuffer``, and for on-policy
    algorithms (PPO, A2C, RecurrentPPO) without ``use_sde``. Of other callbacks it keeps what is plain: numbers, texts, arrays,
    lists and dicts of these.

    :param folder: where checkpoints are written; the zoo fills in the run's own
    :param save_freq: environment steps, over all environments, between two checkpoints. Those are written before the next
        rollout (of ``train_freq`` steps) begins
    :param keep: how many checkpoints are kept
    :param resume: ``True``: from the newest whole checkpoint in ``folder``, if there is one; or the path of a checkpoint
        there, after which those of more steps are removed; ``False``: not, and ``folder`` must hold none
    :param verbose: 1 to print what is written and resumed
    :param save_replay_buffer: whether checkpoints have the replay buffer. A DRQN can do without, other off-policy algorithms
        can't, and on-policy ones have none
    :raises ValueError, TypeError: if an argument is out of bounds
    """

    # What it knows is of the process, not of the run
    remembers_nothing = True

    def __init__(
        self,
        folder: str | Path | None = None,
        save_freq: int = 20_000,
        keep: int = 2,
        resume: bool | str | Path = False,
        verbose: int = 1,
        save_replay_buffer: bool = True,
    ) -> None:
        super().__init__(verbose)
        check_integer("save_freq", save_freq, 1)
        check_integer("keep", keep, 1)
        if not isinstance(resume, bool | str | Path):
            raise TypeError(f"resume must be True, False or the path of a checkpoint, got {resume!r}")
        if not isinstance(save_replay_buffer, bool):
            raise TypeError(f"save_replay_buffer must be True or False, got {save_replay_buffer!r}")
        self.folder = None if folder is None else Path(folder)
        self.save_freq = int(save_freq)
        self.keep = int(keep)
        self.resume = resume
        self.save_replay_buffer = save_replay_buffer
        self.store: CheckpointStore | None = None
        self.resumed_from: Path | None = None
        """The checkpoint that the run was resumed from, if any."""
        self.has_ended = False
        """Whether ``learn`` has come to its end by itself: its budget is spent, or a callback has stopped it."""
        self._is_between = False
        self._is_told_to_stop = False
        self._last_saved = -1
        self._next_save = 0
        self._has_learned = False
        self._catches = False
        self._former_handler: Any = None
        self._told_at = 0.0
        self._told_reason = ""

    # --- beginning and end ---

    def open(self) -> CheckpointStore:
        """
        Claim the folder, before anything else is done; ``learn`` does so by itself.

        :return: the folder's checkpoints
        :raises ValueError: if there is no folder, another process uses it, or it holds what is not to be resumed
        """
        if self.store is None:
            folder = self._find_folder()
            self.store = CheckpointStore(folder, self.keep)
            if self.resume is False and not self._has_learned and list_checkpoints(folder):
                self.close()
                raise ValueError(
                    f"folder must hold no checkpoints if resume is False, and {folder} does: go on with resume=True, "
                    "or use another folder, or remove them"
                )
        return self.store

    def on_learn_exit(self) -> None:
        """DRQN's ``learn`` calls this when it is left, be it by an error."""
        self.close()

    def close(self) -> None:
        """Let others use the folder, and SIGTERM do what it did."""
        self._release_sigterm()
        if self.store is not None:
            self.store.close()
            self.store = None

    def _find_folder(self) -> Path:
        if isinstance(self.resume, str | Path):
            path = Path(self.resume)
            if not is_checkpoint(path):
                raise ValueError(f"resume must be True, False or the path of a checkpoint, got {path}, which is none")
            steps_of(path)
            if self.folder is None:
                self.folder = path.parent
            elif self.folder.resolve() != path.parent.resolve():
                raise ValueError(f"resume must be a checkpoint in folder {self.folder}, got {path}")
        if self.folder is None:
            raise ValueError("folder must be given, got None: where to write checkpoints")
        return self.folder

    def _init_callback(self) -> None:
        if isinstance(self.parent, EventCallback):
            raise ValueError(f"RunCheckpointCallback must be one of learn's own callbacks, got one within {self.parent}")
        if isinstance(self.model, OffPolicyAlgorithm):
            buffer = self.model.replay_buffer
            if not isinstance(buffer, SequenceReplayBuffer | FrameStackReplayBuffer):
                raise TypeError(
                    "replay_buffer_class must be SequenceReplayBuffer or FrameStackReplayBuffer, whose contents can be "
                    f"written piece by piece, got {type(buffer).__name__}; FrameStackReplayBuffer gives the same samples"
                )
            if not self.save_replay_buffer and not isinstance(self.model, DRQN):
                raise ValueError(
                    f"save_replay_buffer must be True for {type(self.model).__name__}, got False: resumed, it would learn "
                    "from its first few steps over and over"
                )
        elif not isinstance(self.model, OnPolicyAlgorithm):
            raise TypeError(f"model must be an off-policy or on-policy algorithm, got {type(self.model).__name__}")
        elif self.model.use_sde:
            raise ValueError("use_sde must be False, got True: its noise is drawn where no checkpoint can see it")
        self.open()

    def _on_training_start(self) -> None:
        try:
            if not self._has_learned:
                self._resume()
            self._has_learned, self.has_ended, self._is_told_to_stop = True, False, False
            # What can't be written had better be known now
            state = get_run_state(self.model, self.locals["callback"])
            pack(state)
        except BaseException:
            self.close()
            raise
        self._tell_of_lost_episodes(state["envs"])
        self._catch_sigterm()
        self._next_save = (self.model.num_timesteps // self.save_freq + 1) * self.save_freq

    def _on_rollout_start(self) -> None:
        self._is_between = False
        if self._is_told_to_stop:
            self._stop()
        if self.model.num_timesteps >= self._next_save:
            self._next_save = (self.model.num_timesteps // self.save_freq + 1) * self.save_freq
            self._try_to_save()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        # Not called when a callback has stopped learning amid a rollout
        self._is_between = True

    def _on_training_end(self) -> None:
        self.has_ended = True
        if self.store is not None and self._is_between and self._last_saved != self.model.num_timesteps:
            self._try_to_save()
        self.close()

    # --- resuming ---

    def _resume(self) -> None:
        assert self.store is not None
        if self.resume is False:
            return
        if self.resume is True:
            found = self.store.read_newest()
            if found is None:
                self._print("There is no checkpoint to resume from: the run begins")
                return
            path, state, written_with = found
        else:
            path = Path(self.resume)
            try:
                state, written_with = self.store.read(path)
            except DamagedFileError as error:
                raise DamagedFileError(f"{error}; resume=True takes the newest checkpoint that is whole") from error
        if not self.locals["reset_num_timesteps"]:
            raise ValueError(
                "reset_num_timesteps must be True where a run is resumed, got False: learn takes the budget of the whole run"
            )
        self._warn_of_versions(written_with)
        check_fits(self.model, state["run"])
        if state["replay"] is not None:
            assert isinstance(self.model, OffPolicyAlgorithm) and self.model.replay_buffer is not None
            self.store.restore_buffer(self.model.replay_buffer, state["replay"])
        lacks_experience = isinstance(self.model, DRQN) and state["replay"] is None
        # Of episodes that were running, the replay buffer would have no beginning
        why = "the checkpoint was written without the replay buffer" if lacks_experience else ""
        remarks = set_run_state(self.model, self.locals["callback"], state["run"], why)
        if lacks_experience:
            assert isinstance(self.model, DRQN)
            self.model.fill_buffer_first()
            remarks.append(f"{why}, updates begin again after {self.model.learning_starts:,} steps")
        self._go_on_from(path, state["run"], remarks)

    def _go_on_from(self, path: Path, state: dict[str, Any], remarks: list[str]) -> None:
        """Say from where, and what of it is not as it was; forget the future that the run had there."""
        assert self.store is not None
        for remark in remarks:
            warnings.warn(f"Resumed from {path}, but not exactly: {remark}", stacklevel=2)
        if isinstance(state["envs"], str):
            self._told_reason = state["envs"]
        for newer in self.store.go_back_to(path):
            self._print(f"Removed {newer}: what comes after step {self.model.num_timesteps:,} will be another future")
        self._last_saved, self.resumed_from = self.model.num_timesteps, path
        self._print(f"Resumed from {path}, at step {self.model.num_timesteps:,} of {self.model._total_timesteps:,}")
        if self.model.num_timesteps >= self.model._total_timesteps:
            self._print("Nothing is left to do: the run's budget is spent")

    @staticmethod
    def _warn_of_versions(written_with: dict[str, str]) -> None:
        now = versions()
        changed = [f"{name} {old} (now {now.get(name)})" for name, old in written_with.items() if now.get(name) != old]
        if changed:
            warnings.warn(
                f"The checkpoint was written with other versions: {', '.join(changed)}. The run goes on, but perhaps not as "
                "it would have with these",
                stacklevel=2,
            )

    # --- writing ---

    def save(self) -> Path:
        """
        Write a checkpoint, between two rollouts.

        :return: where
        :raises FloatingPointError: if weights or losses are not finite: the checkpoints from before stay
        :raises OSError: if it can't be written: those from before stay
        """
        assert self.store is not None
        start, n_steps = time.monotonic(), self.model.num_timesteps
        state = get_run_state(self.model, self.locals["callback"])
        self._tell_of_lost_episodes(state["envs"])
        about = {"algorithm": type(self.model).__name__, "n_envs": self.model.n_envs}
        buffer = getattr(self.model, "replay_buffer", None) if self.save_replay_buffer else None
        path = self.store.write(n_steps, state, buffer, about)
        self._last_saved = n_steps
        seconds = time.monotonic() - start
        self._print(f"Checkpoint at step {n_steps:,}: {path} ({path.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s)")
        return path

    def _tell_of_lost_episodes(self, envs: dict[str, Any] | str) -> None:
        """Once for each reason, and as soon as it is known: whoever minds may start again with other environments."""
        if isinstance(envs, str) and envs != self._told_reason:
            self._told_reason = envs
            warnings.warn(f"When resumed, the run's environments will begin new episodes: {envs}", stacklevel=2)

    def _try_to_save(self) -> None:
        """A full disk does not end a run: what it has learned so far would be lost."""
        try:
            self.save()
        except TimeoutError:  # an OSError, too, but it tells of environments that hang
            raise
        except OSError as error:
            warnings.warn(
                f"No checkpoint could be written at step {self.model.num_timesteps:,}: {error}. The run goes on, and tries "
                f"again in {self.save_freq:,} steps; until then it can be resumed from {self._describe_last()}",
                stacklevel=2,
            )

    def _describe_last(self) -> str:
        return f"step {self._last_saved:,}" if self._last_saved >= 0 else "nowhere"

    def _print(self, text: str) -> None:
        if self.verbose >= 1:
            print(text, flush=True)

    # --- SIGTERM ---

    def _catch_sigterm(self) -> None:
        if threading.current_thread() is threading.main_thread() and not self._catches:
            self._catches = True
            self._former_handler = signal.signal(signal.SIGTERM, self._on_sigterm)

    def _release_sigterm(self) -> None:
        if self._catches and threading.current_thread() is threading.main_thread():
            self._catches = False
            # None stands for a handler that is not Python's
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._former_handler is None else self._former_handler)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._is_told_to_stop:
            self._is_told_to_stop, self._told_at = True, now
        elif now - self._told_at > PATIENCE_SECONDS:
            # Whoever insists is obeyed at once
            self._release_sigterm()
            os.kill(os.getpid(), number)

    def _stop(self) -> None:
        if self._last_saved != self.model.num_timesteps:
            self._try_to_save()
        print(f"Told to stop (SIGTERM): the run can be resumed from {self._describe_last()} in {self.folder}", flush=True)
        self.close()
        raise SystemExit(EXIT_STATUS)
