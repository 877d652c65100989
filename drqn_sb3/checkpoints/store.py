"""
The folder of a run's checkpoints.

::

    checkpoint_000000120000.zip     one file per checkpoint, named by the number of environment steps
    checkpoint_000000140000.zip
    replay/                         segments of the replay buffer, shared by the checkpoints
"""

import errno
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from stable_baselines3.common.buffers import ReplayBuffer

from drqn_sb3.checkpoints.archive import is_archive, read_archive, read_summary, write_archive
from drqn_sb3.checkpoints.files import DamagedFileError, remove_unfinished, sync_folder
from drqn_sb3.checkpoints.replay_journal import ReplayJournal

REPLAY = "replay"
"""Name of the folder, within a run's, that the segments of its replay buffer lie in."""
_NAME = re.compile(r"checkpoint_(\d{12})\.zip")
_ROOM = 3
"""Checkpoints' worth of free space below which a warning is due."""


class CheckpointStore:
    """
    Writes a run's checkpoints into a folder, and reads them.

    One process at a time may use a folder; the lock vanishes with the process, however that ends. What killed writers have
    left behind is removed first.

    :param folder: where to; made if need be
    :param keep: how many checkpoints are kept
    :raises ValueError: if another process uses the folder
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(folder.parent)
        self._lock = lock_folder(folder)
        remove_unfinished(folder, "checkpoint_*.zip")
        self._journal = ReplayJournal(folder / REPLAY)
        self._has_warned = False
        self._remove_unused_segments()

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None

    # --- writing ---

    def write(
        self, n_steps: int, state: dict[str, Any], buffer: ReplayBuffer | None, about: dict[str, Any] | None = None
    ) -> Path:
        """
        Write a checkpoint, then remove those that are too many.

        :param n_steps: number of environment steps taken
        :param state: the run's state, see :mod:`~drqn_sb3.checkpoints.run_state`
        :param buffer: the replay buffer, if the algorithm has one
        :param about: what can be read without reading all, as JSON has it
        :return: the checkpoint
        :raises OSError: if it can't be written; those before are still there
        """
        self._warn_of_full_disk(buffer)
        if buffer is None:
            self._journal.forget()
        replay = None if buffer is None else self._journal.append(buffer)
        path = self.folder / f"checkpoint_{n_steps:012d}.zip"
        write_archive(
            path, {"run": state, "replay": replay}, {**(about or {}), "n_steps": n_steps, "segments": _segment_names(replay)}
        )
        self.go_back_to(path)
        for old in list_checkpoints(self.folder)[: -self.keep]:
            old.unlink()
        self._remove_unused_segments()
        return path

    def go_back_to(self, checkpoint: Path) -> list[Path]:
        """
        Remove the checkpoints of more steps than one has: they belong to a future that will be another one.

        :param checkpoint: one of the folder's
        :return: those removed
        """
        paths = list_checkpoints(self.folder)
        # The newest first: else a kill would leave a gap
        newer = paths[paths.index(checkpoint) + 1 :][::-1]
        for path in newer:
            path.unlink()
        return newer

    def _remove_unused_segments(self) -> None:
        used: set[str] = set()
        for path in list_checkpoints(self.folder):
            try:
                used.update(read_summary(path)["segments"])
            except (ValueError, KeyError, OSError):
                return  # what it needs can't be told: a disk that can't be read now, or another version of this package
        self._journal.remove_all_but(used)

    def _warn_of_full_disk(self, buffer: ReplayBuffer | None) -> None:
        existing = list_checkpoints(self.folder)
        needed = existing[-1].stat().st_size if existing else 0
        needed += 0 if buffer is None else self._journal.bytes_needed(buffer)
        free = shutil.disk_usage(self.folder).free
        if free >= _ROOM * needed:
            self._has_warned = False
        elif not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"The disk is nearly full: {free / 1e6:,.0f} MB are free for {self.folder}, and a checkpoint takes up to "
                f"{needed / 1e6:,.0f} MB. Make room, or checkpoints will fail, and the run will be resumed from an older one",
                stacklevel=2,
            )

    # --- reading ---

    def read_newest(self) -> tuple[Path, dict[str, Any], dict[str, str]] | None:
        """
        Read the newest checkpoint that is whole; of each that is not, a warning tells.

        :return: the checkpoint, its state (``"run"``, ``"replay"``), versions of libraries; ``None`` if there is none
        :raises ValueError: if there are checkpoints, and all are damaged
        """
        paths = list_checkpoints(self.folder)
        for path in reversed(paths):
            try:
                return path, *self.read(path)
            except DamagedFileError as error:
                warnings.warn(f"Passing over a damaged checkpoint: {error}", stacklevel=2)
        if paths:
            raise ValueError(f"no checkpoint in {self.folder} is whole, {len(paths)} are damaged: remove them to start anew")
        return None

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
        """
        Read a checkpoint, its replay segments included.

        :param path: one of the folder's checkpoints
        :return: its state (``"run"``, ``"replay"``), versions of libraries
        :raises DamagedFileError: if it is damaged
        """
        state, versions = read_archive(path)
        if state["replay"] is not None:
            self._journal.verify(state["replay"])
        return state, versions

    def restore_buffer(self, buffer: ReplayBuffer, replay: dict[str, Any]) -> None:
        """
        Fill a replay buffer.

        :param buffer: an empty one, made with the same arguments
        :param replay: what :meth:`read` returned as such
        :raises ValueError: if the buffer was made with others
        """
        self._journal.restore(buffer, replay)


def list_checkpoints(folder: Path) -> list[Path]:
    """
    List a folder's checkpoints, whole or damaged.

    :param folder: the folder, which need not exist
    :return: their paths, oldest first
    """
    return sorted(path for path in folder.glob("checkpoint_*.zip") if _NAME.fullmatch(path.name))


def is_checkpoint(path: Path) -> bool:
    """
    Tell a checkpoint from other files, such as a model's zip file.

    :param path: the file
    :return: whether it is named as one, be it damaged, or is one
    """
    return _NAME.fullmatch(path.name) is not None or is_archive(path)


def steps_of(path: Path) -> int:
    """
    Tell after how many environment steps a checkpoint was written.

    :param path: the checkpoint
    :return: the number in its name
    :raises ValueError: if it has no such name
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"a checkpoint must be named checkpoint_<12 digits>.zip, got {path.name}")
    return int(match[1])


def lock_folder(folder: Path) -> int | None:
    """
    Claim a folder for this process, until the process ends or the descriptor is closed. No file is made for it.

    :param folder: the folder
    :return: a descriptor; ``None`` where the system or the file system has no such locks
    :raises ValueError: if another process has claimed it
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise ValueError(
                f"folder must be this run's alone, and another process (or callback of this one) is writing into {folder}"
            ) from error
        return None  # some network file systems
    _locks.add(descriptor)
    return descriptor


def unlock(lock: int) -> None:
    """
    Let others claim a folder.

    :param lock: what :func:`lock_folder` returned
    """
    _locks.discard(lock)
    os.close(lock)


def _leave_locks_to_parent() -> None:
    """A forked process, such as an environment's, would hold its parent's locks beyond the parent's end."""
    for lock in list(_locks):
        unlock(lock)


_locks: set[int] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks_to_parent)


def _segment_names(replay: dict[str, Any] | None) -> list[str]:
    return [] if replay is None else [segment["name"] for segment in replay["segments"]]
