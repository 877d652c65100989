"""
A replay buffer on the disk, written as it fills: a checkpoint costs what was added since the last one.

Slots (:mod:`drqn_sb3.slots`) hardly change once they are written: of each environment only the newest two may. So what is new
goes into one more segment (:mod:`drqn_sb3.checkpoints.segments`), which begins with the two that were newest before, and a
later segment counts where two hold the same slot::

    slot                 0  1  2  3  4  5  6  7  8  9
    first checkpoint     #  #  #  #  #                   segment 1
    second checkpoint             #  #  #  #  #          segment 2: two slots again, and three new ones
    third checkpoint                       #  #  #  #    segment 3

A segment goes when the ring has overwritten the last of its slots that no later one holds: the first goes with slot 2.
What is small (counters, generators, where sequential windows are) stands in the *description*, plain data that belongs into
the checkpoint. Restoring a buffer takes its description and the segments that it names.
"""

import hashlib
from collections.abc import Collection, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from drqn_sb3.checkpoints.files import remove_unfinished
from drqn_sb3.checkpoints.replay_state import (
    FORMAT,
    JournaledBuffer,
    check_actions,
    check_settings,
    checked,
    drawing_state,
    field,
    restore_drawing,
    settings_of,
)
from drqn_sb3.checkpoints.segments import (
    FILE_NAME,
    Segment,
    read_segment,
    slot_numbers,
    slot_rows,
    verify_segment,
    write_segment,
)
from drqn_sb3.slots import SlotStorage

PIECE_BYTES = 2**24  # of a segment, before it is compressed
UNSETTLED = 2  # the newest slots, which may still change


class ReplayJournal:
    """
    Writes a replay buffer into a folder, bit by bit, and reads it from there.

    :param folder: where the segments lie; made when needed. Nobody else may write there
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._segments: list[Segment] = []
        self._last_number = 0
        # What the segments hold: the slots that were written in this history, up to these
        self._history: object | None = None
        self._lstm_shapes: list[tuple[int, ...]] = []
        self._n_written = np.zeros(0, dtype=np.int64)
        self._unsettled = b""

    def append(self, buffer: Any) -> dict[str, Any]:
        """
        Write what was added to a buffer since the last time, or all of it if that is not what the segments continue.

        :param buffer: a :class:`SequenceReplayBuffer` or :class:`FrameStackReplayBuffer`
        :return: a description of the whole buffer, in plain data, from which :meth:`restore` restores it
        :raises TypeError: if the buffer is another one
        :raises OSError: if a file can't be written; none of this call's files stays then
        """
        storage = checked(buffer).storage
        starts, is_continued = self._first_to_write(storage)
        segments = list(self._segments) if is_continued else []
        paths: list[Path] = []
        try:
            for first, stop in pieces(storage, starts):
                paths.append(self._next_path())
                segments.append(write_segment(paths[-1], storage, first, stop))
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
        self._remember(storage, still_needed(segments, storage.oldest))
        return {
            "format": FORMAT,
            "settings": settings_of(buffer),
            "n_written": storage.n_written.tolist(),
            "is_open": storage.is_open.tolist(),
            "lstm_shapes": [list(shape) for shape in storage.lstm_shapes],
            "drawing": drawing_state(buffer),
            "segments": [segment.as_plain() for segment in self._segments],
        }

    def bytes_needed(self, buffer: Any) -> int:
        """
        Estimate what the next :meth:`append` will write.

        :param buffer: what would be appended
        :return: an upper bound in bytes, as if nothing could be compressed
        :raises TypeError: if :meth:`append` does not take such a buffer
        """
        storage = checked(buffer).storage
        starts, _ = self._first_to_write(storage)
        n_bytes = 0
        for first, stop in pieces(storage, starts):
            content = int((stop - first).sum()) * slot_bytes(storage)
            # Deflate adds 5 bytes to 16 kB that it can't compress; names and headers
            n_bytes += content + content // 1_000 + 1_000 * (len(storage.columns(storage.lstm_shapes)) + 2)
            n_bytes += 20 * storage.n_envs
        return n_bytes

    def verify(self, description: dict[str, Any]) -> None:
        """
        Check that every file that a description names is there and what was written.

        :param description: what :meth:`append` returned
        :raises DamagedFileError: naming the file that is not
        :raises ValueError: if the description is none
        """
        for segment in segments_of(description, len(field(description, "n_written", list))):
            verify_segment(self.folder, segment)

    def restore(self, buffer: Any, description: dict[str, Any]) -> None:
        """
        Make a buffer what it was when it was described; the next :meth:`append` continues there.

        :param buffer: one made with the same arguments; what it holds is forgotten, and if this fails, it may be empty
        :param description: what :meth:`append` returned
        :raises TypeError: if the buffer is of a kind that is never described
        :raises DamagedFileError: naming the file that is missing, or not what was written
        :raises ValueError: saying in what the buffer differs from the one described, or what is wrong with the description
        """
        storage = checked(buffer).storage
        check_settings(buffer, description)
        n_written = slot_numbers("n_written", field(description, "n_written", list), storage.n_envs)
        is_open = flags_of(description, n_written)
        segments = segments_of(description, storage.n_envs)
        check_coverage(segments, n_written, storage.capacity)
        lstm_shapes = shapes_of(description)
        buffer.reset()
        for segment in segments:
            self._fill(buffer, segment, lstm_shapes, np.maximum(n_written - storage.capacity, 0))
        check_newest(storage, n_written, is_open)
        # Until here the buffer is empty, whatever its rows hold
        restore_drawing(buffer, field(description, "drawing", dict), n_written)
        storage.n_written, storage.is_open = n_written, is_open
        fewest = int(n_written.min())
        buffer.pos, buffer.full = fewest % storage.capacity, fewest >= storage.capacity
        self._remember(storage, segments)

    def forget(self) -> None:
        """Build upon nothing any more: the next :meth:`append` writes the whole buffer."""
        self._segments, self._history = [], None

    def remove_all_but(self, names: Collection[str]) -> None:
        """
        Delete segments that are no longer needed, and what writers that were killed have left.

        :param names: of the segments that checkpoints still need; those that the next :meth:`append` builds upon stay too
        """
        needed = {*names, *(segment.name for segment in self._segments)}
        for path in self.folder.glob("replay_*.npz"):
            if FILE_NAME.fullmatch(path.name) and path.name not in needed:
                path.unlink()
        remove_unfinished(self.folder)

    # --- what is on the disk ---

    def _first_to_write(self, storage: SlotStorage) -> tuple[np.ndarray, bool]:
        """Of every environment the first slot to write, ``(n_envs,)``, and whether that continues the segments."""
        is_continued = (
            self._history is storage.history
            and self._lstm_shapes == storage.lstm_shapes
            and all(self._is_there(segment) for segment in self._segments)
        )
        if not is_continued:
            return storage.oldest, False
        if np.array_equal(self._n_written, storage.n_written) and self._unsettled == digest_of_unsettled(storage):
            return storage.n_written.copy(), True
        return np.maximum(self._n_written - UNSETTLED, storage.oldest), True

    def _is_there(self, segment: Segment) -> bool:
        path = self.folder / segment.name
        return path.exists() and path.stat().st_size == segment.n_bytes

    def _remember(self, storage: SlotStorage, segments: list[Segment]) -> None:
        self._segments = segments
        self._history, self._lstm_shapes = storage.history, storage.lstm_shapes
        self._n_written, self._unsettled = storage.n_written.copy(), digest_of_unsettled(storage)

    def _next_path(self) -> Path:
        """A file of a name that none has, nor had since this journal was made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = [FILE_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        self._last_number = max(self._last_number, *(int(name[1]) for name in names if name), 0) + 1
        return self.folder / f"replay_{self._last_number:08d}.npz"

    def _fill(self, buffer: JournaledBuffer, segment: Segment, lstm_shapes: list[tuple[int, ...]], oldest: np.ndarray) -> None:
        """Read a segment into the ring, but for what was overwritten."""
        storage = buffer.storage
        columns = read_segment(self.folder, segment, storage.columns(lstm_shapes))
        check_actions(buffer, columns["actions"], segment.name)
        starts = np.maximum(segment.starts, oldest)
        is_stored = np.concatenate(
            [np.arange(*ends) >= least for *ends, least in zip(segment.starts, segment.stops, oldest, strict=True)]
        )
        if is_stored.any():
            columns = columns if is_stored.all() else {name: column[is_stored] for name, column in columns.items()}
            storage.write(slot_rows(storage, starts, np.maximum(segment.stops, starts)), columns)


# --- slots ---


def slot_bytes(storage: SlotStorage) -> int:
    """
    Add up what a slot takes.

    :param storage: of what
    :return: bytes
    """
    columns = storage.columns(storage.lstm_shapes).values()
    return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in columns)


def pieces(storage: SlotStorage, starts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """
    Cut what is to be written into pieces that memory has room for.

    :param storage: where it is
    :param starts: of every environment the first slot to write, ``(n_envs,)``
    :return: of every piece its ``starts`` and ``stops``, each ``(n_envs,)``
    """
    n_slots = storage.n_written - starts
    n_pieces = -(-int(n_slots.sum()) * slot_bytes(storage) // PIECE_BYTES)
    # No piece without a slot
    n_pieces = min(n_pieces, int(n_slots.max()))
    bounds = [starts + n_slots * number // max(n_pieces, 1) for number in range(n_pieces + 1)]
    yield from pairwise(bounds)


def still_needed(segments: list[Segment], oldest: np.ndarray) -> list[Segment]:
    """
    Leave out segments of which later ones and the ring have overwritten everything.

    :param segments: from the first to the last
    :param oldest: of every environment the oldest slot in the ring, ``(n_envs,)``
    :return: the others
    """
    if not segments:
        return []
    ends = [np.minimum(segment.stops, later.starts) for segment, later in pairwise(segments)]
    ends.append(segments[-1].stops)
    return [segment for segment, end in zip(segments, ends, strict=True) if (end > oldest).any()]


def digest_of_unsettled(storage: SlotStorage) -> bytes:
    """
    Summarise what of the slots written can still change.

    :param storage: where they are
    :return: a digest that is another one afterwards
    """
    digest = hashlib.sha256(storage.is_open.tobytes())
    if storage.observations:
        starts = np.maximum(storage.n_written - UNSETTLED, storage.oldest)
        rows = slot_rows(storage, starts, storage.n_written)
        for _, column in storage.read(rows):
            digest.update(column.tobytes())
    return digest.digest()


# --- descriptions, which may have been edited ---


def segments_of(description: Any, n_envs: int) -> list[Segment]:
    """
    Get the segments of a description.

    :param description: what :meth:`ReplayJournal.append` returned
    :param n_envs: number of environments
    :return: its segments, from the first to the last
    :raises ValueError: if they are none
    """
    return [Segment.from_plain(plain, n_envs) for plain in field(description, "segments", list)]


def flags_of(description: Any, n_written: np.ndarray) -> np.ndarray:
    """
    Get which environments' episodes were running.

    :param description: what :meth:`ReplayJournal.append` returned
    :param n_written: of every environment how many slots there have been, ``(n_envs,)``
    :return: whether they were, ``(n_envs,)``
    :raises ValueError: if that is not what is there
    """
    flags = field(description, "is_open", list)
    if len(flags) != len(n_written) or any(type(flag) is not bool for flag in flags):
        raise ValueError(f"is_open must be true or false for each of {len(n_written)} environments, got {flags!r:.200}")
    return np.array(flags, dtype=bool)


def shapes_of(description: Any) -> list[tuple[int, ...]]:
    """
    Get the shapes of recurrent states.

    :param description: what :meth:`ReplayJournal.append` returned
    :return: each ``(n_layers, hidden_size)``; none if none were stored
    :raises ValueError: if they are no shapes
    """
    shapes = field(description, "lstm_shapes", list)
    is_valid = all(isinstance(shape, list | tuple) for shape in shapes)
    if not is_valid or any(type(size) is not int or not 0 < size < 2**31 for size in chain.from_iterable(shapes)):
        raise ValueError(f"lstm_shapes must be lists of sizes, got {shapes!r:.200}")
    return [tuple(shape) for shape in shapes]


def check_coverage(segments: list[Segment], n_written: np.ndarray, capacity: int) -> None:
    """
    Make sure that segments hold all that the ring held.

    :param segments: from the first to the last
    :param n_written: of every environment how many slots there have been, ``(n_envs,)``
    :param capacity: slots of a ring
    :raises ValueError: naming the first segment that leaves a gap, or goes beyond
    """
    covered = np.maximum(n_written - capacity, 0)
    for segment in segments:
        is_beyond = (segment.stops > n_written) | (segment.stops - segment.starts > capacity)
        if (segment.starts > covered).any() or is_beyond.any():
            raise ValueError(
                f"{segment.name} must hold slots from {covered.tolist()} or before up to {n_written.tolist()}, got "
                f"{segment.starts.tolist()} up to {segment.stops.tolist()}"
            )
        covered = np.maximum(covered, segment.stops)
    if (covered < n_written).any():
        raise ValueError(f"the segments must hold slots up to {n_written.tolist()}, got up to {covered.tolist()}")


def check_newest(storage: SlotStorage, n_written: np.ndarray, is_open: np.ndarray) -> None:
    """
    Make sure that the newest slots agree on which episodes are running.

    :param storage: where they are
    :param n_written: of every environment how many slots there have been, ``(n_envs,)``
    :param is_open: which episodes are said to be running, ``(n_envs,)``
    :raises ValueError: if they do not
    """
    envs = np.flatnonzero(n_written)
    expected = np.zeros_like(is_open)
    if len(envs):
        expected[envs] = ~storage.final[storage.rows(envs, n_written[envs] - 1)]
    if not np.array_equal(is_open, expected):
        raise ValueError(f"is_open must be {expected.tolist()}, as the newest slots are, got {is_open.tolist()}")
