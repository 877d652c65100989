"""
Files that hold a stretch of a replay buffer each.

A segment is an ``.npz`` archive, as ``np.load(path, allow_pickle=False)`` reads it. It holds, of every environment ``e``, the
slots ``starts[e]`` to ``stops[e] - 1`` (logical indices, see :mod:`drqn_sb3.slots`), one environment behind the other: an
array for each of :meth:`SlotStorage.columns`. Frames of games shrink to a few hundredths.
"""

import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from drqn_sb3.checkpoints.files import DamagedFileError, read_verified, write_atomically
from drqn_sb3.slots import SlotStorage

FILE_NAME = re.compile(r"replay_([0-9]{8,18})\.npz")
"""How segments are named; the numbers count up."""
DEFLATE_LEVEL = 3  # game frames: 500 MB/s; more takes longer and gives little
DEFLATE_LIMIT = 1_032  # no byte of deflate's stands for more
CHUNK = 2**20
UNREADABLE = (BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError)


class Segment(NamedTuple):
    """
    What a checkpoint says of a segment.

    :param name: its file's name
    :param sha256: its SHA-256
    :param n_bytes: its size
    :param starts: of every environment the first slot, ``(n_envs,)``
    :param stops: of every environment the slot behind the last, ``(n_envs,)``
    """

    name: str
    sha256: str
    n_bytes: int
    starts: np.ndarray
    stops: np.ndarray

    @property
    def n_slots(self) -> int:
        """Number of slots, of all environments."""
        return int((self.stops - self.starts).sum())

    def as_plain(self) -> dict[str, Any]:
        """
        Say the same in plain data.

        :return: strings, integers and lists of integers by field
        """
        return {**self._asdict(), "starts": self.starts.tolist(), "stops": self.stops.tolist()}

    @classmethod
    def from_plain(cls, plain: Any, n_envs: int) -> "Segment":
        """
        Read what :meth:`as_plain` has said.

        :param plain: that
        :param n_envs: number of environments
        :return: the segment
        :raises ValueError: if it is no such thing
        """
        if not isinstance(plain, dict) or set(plain) != set(cls._fields):
            raise ValueError(f"a segment must have {', '.join(cls._fields)}, got {plain!r:.200}")
        name, size = plain["name"], plain["n_bytes"]
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise ValueError(f"a segment must be named like replay_00000001.npz, got {name!r:.200}")
        if not isinstance(plain["sha256"], str) or type(size) is not int or size < 0:
            raise ValueError(f"{name} must have a SHA-256 and a size, got {plain['sha256']!r:.200} and {size!r:.200}")
        starts, stops = (slot_numbers(f"{side} of {name}", plain[side], n_envs) for side in ("starts", "stops"))
        if (starts > stops).any():
            raise ValueError(f"{name} must not stop before it starts, got {starts.tolist()} and {stops.tolist()}")
        return cls(name, plain["sha256"], size, starts, stops)


def slot_numbers(what: str, values: Any, n_envs: int) -> np.ndarray:
    """
    Check a number of slots for each environment.

    :param what: what they are
    :param values: a list of integers from 0 on
    :param n_envs: number of environments
    :return: them, ``(n_envs,)``
    :raises ValueError: if they are something else
    """
    is_list = isinstance(values, list | tuple) and len(values) == n_envs
    if not is_list or any(type(value) is not int or not 0 <= value < 2**62 for value in values):
        raise ValueError(f"{what} must be a number of slots for each of {n_envs} environments, got {values!r:.200}")
    return np.array(values, dtype=np.int64)


def slot_rows(storage: SlotStorage, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """
    Find where the slots of a segment lie.

    :param storage: in what
    :param starts: of every environment the first slot, ``(n_envs,)``
    :param stops: of every environment the slot behind the last, ``(n_envs,)``
    :return: rows, in a segment's order, ``(n_slots,)``
    """
    ranges = enumerate(zip(starts.tolist(), stops.tolist(), strict=True))
    return np.concatenate([storage.rows(env, np.arange(start, stop)) for env, (start, stop) in ranges])


def write_segment(path: Path, storage: SlotStorage, starts: np.ndarray, stops: np.ndarray) -> Segment:
    """
    Write slots to a file.

    :param path: where to, by a name like :data:`FILE_NAME`
    :param storage: where the slots are
    :param starts: of every environment the first slot, ``(n_envs,)``
    :param stops: of every environment the slot behind the last, ``(n_envs,)``
    :return: what was written
    :raises OSError: if that fails, of which nothing is left behind
    """
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED, compresslevel=DEFLATE_LEVEL) as archive:
        for name, column in storage.read(slot_rows(storage, starts, stops)):
            _write_array(archive, name, column)
        _write_array(archive, "starts", starts)
        _write_array(archive, "stops", stops)
    content = packed.getbuffer()
    sha256 = write_atomically(path, (content[first : first + CHUNK] for first in range(0, len(content), CHUNK)))
    return Segment(path.name, sha256, len(content), starts, stops)


def _write_array(archive: ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=array.nbytes > 2**30) as file:
        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)


def verify_segment(folder: Path, segment: Segment) -> bytes:
    """
    Read a segment's file, which must be what was written.

    :param folder: where it lies
    :param segment: what was written
    :return: its contents
    :raises DamagedFileError: if it is missing or differs
    """
    path = folder / segment.name
    size = path.stat().st_size if path.exists() else segment.n_bytes
    if size != segment.n_bytes:
        raise DamagedFileError(f"{path} is damaged: it has {size:,} bytes and had {segment.n_bytes:,} when it was written")
    return read_verified(path, segment.sha256)


def read_segment(
    folder: Path, segment: Segment, columns: dict[str, tuple[tuple[int, ...], np.dtype]]
) -> dict[str, np.ndarray]:
    """
    Read slots from a file. Whoever made it, no more memory is taken than its size allows, and nothing in it is executed.

    :param folder: where it lies
    :param segment: what was written
    :param columns: shape and dtype of what a slot holds
    :return: what the slots hold, each ``(n_slots, *shape)``
    :raises DamagedFileError: if the file is missing, differs from what was written, or holds something else
    """
    content = verify_segment(folder, segment)
    bounds = {side: (segment.starts.shape, np.dtype(np.int64)) for side in ("starts", "stops")}
    shapes: dict[str, tuple[tuple[int, ...], np.dtype]]
    shapes = {name: ((segment.n_slots, *shape), dtype) for name, (shape, dtype) in columns.items()}
    try:
        with ZipFile(BytesIO(content)) as archive:
            expected = (bounds | shapes).items()
            found = {name: _read_array(archive, name, shape, dtype, len(content)) for name, (shape, dtype) in expected}
            if len(archive.namelist()) != len(found):
                raise ValueError(f"it holds {len(archive.namelist())} arrays, not {len(found)}")
        for side, wanted in (("starts", segment.starts), ("stops", segment.stops)):
            if not np.array_equal(found.pop(side), wanted):
                raise ValueError(f"its {side} are others than the checkpoint's")
    except UNREADABLE as error:
        raise DamagedFileError(f"{folder / segment.name} holds no slots of this replay buffer: {error}") from error
    return found


def _read_array(archive: ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype, file_size: int) -> np.ndarray:
    """Read an array that must have a shape and dtype, having made sure of both before memory is taken for it."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name} must be deflated or stored, got type {info.compress_type}")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{name} must be of .npy version (1, 0), got {version}")
        header = np.lib.format.read_array_header_1_0(file)
        if header != (shape, False, dtype):
            raise ValueError(f"{name} must be {shape} {dtype} in C order, got {header[0]} {header[2]}")
        n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if n_bytes > DEFLATE_LIMIT * min(info.compress_size, file_size):
            raise ValueError(f"{name} can't be {n_bytes:,} bytes, got {info.compress_size:,} of them compressed")
        array = np.empty(shape, dtype)
        flat = array.reshape(-1).view(np.uint8)
        for first in range(0, n_bytes, CHUNK):
            chunk = file.read(min(CHUNK, n_bytes - first))
            if len(chunk) != min(CHUNK, n_bytes - first):
                raise ValueError(f"{name} must have {n_bytes:,} bytes, got {first + len(chunk):,}")
            flat[first : first + CHUNK] = np.frombuffer(chunk, np.uint8)
        if file.read(1):
            raise ValueError(f"{name} goes on behind its last element")
    if dtype == np.bool_ and flat.max(initial=0) > 1:
        raise ValueError(f"{name} must be true or false, got {flat.max()}")
    return array
