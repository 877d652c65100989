"""A segment's file: what it is to others, and what of it is believed."""

import hashlib
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_world import World

from drqn_sb3.checkpoints.files import DamagedFileError
from drqn_sb3.checkpoints.segments import Segment, read_segment, write_segment

NAME = "replay_00000001.npz"


def written(folder: Path, world: World) -> tuple[Any, Segment]:
    buffer = world.make_buffer()
    world.play(buffer, 8)
    storage = buffer.storage
    return buffer, write_segment(folder / NAME, storage, storage.oldest, storage.n_written)


def test_a_segment_is_an_npz_of_every_column(tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World("sequential windows of dicts, with states", n_envs=2))
    storage = buffer.storage
    with np.load(tmp_path / NAME, allow_pickle=False) as arrays:
        found = dict(arrays)
    assert (found.pop("starts").tolist(), found.pop("stops").tolist()) == ([0, 0], [10, 10])
    assert segment.n_slots == 20
    # Capacity 12: ten rows each
    rows = np.concatenate([np.arange(10), np.arange(12, 22)])
    assert {"observations_0", "observations_1", "observations_2", "lstm_states_0", "rewards"} < found.keys()
    for name, column in storage.read(rows):
        np.testing.assert_array_equal(found.pop(name), column, err_msg=name, strict=True)
    assert found == {}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World("random windows, with states", n_envs=3))
    storage = buffer.storage
    again = Segment.from_plain(segment.as_plain(), 3)
    assert again.as_plain() == segment.as_plain()
    columns = read_segment(tmp_path, again, storage.columns(storage.lstm_shapes))
    rows = np.concatenate([np.arange(10) + 12 * env for env in range(3)])
    for name, column in storage.read(rows):
        np.testing.assert_array_equal(columns.pop(name), column, err_msg=name, strict=True)
    assert columns == {}


def test_the_same_slots_make_the_same_file(tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World())
    storage = buffer.storage
    assert write_segment(tmp_path / "replay_00000002.npz", storage, storage.oldest, storage.n_written).sha256 == segment.sha256


def test_frames_that_hardly_change_shrink_to_a_few_hundredths(tmp_path: Path) -> None:
    world = World("stacked images, three steps", capacity=200)
    world.observe = lambda: np.full((1, 3, 36, 36), 7, dtype=np.uint8)  # type: ignore[method-assign]
    world.observations = np.full((1, 3, 36, 36), 7, dtype=np.uint8)
    buffer = world.make_buffer()
    for _ in range(150):
        world.step(buffer)
    storage = buffer.storage
    segment = write_segment(tmp_path / NAME, storage, storage.oldest, storage.n_written)
    assert segment.n_bytes < 0.03 * 150 * 36 * 36


# --- files that somebody else has made ---


def npy(array: np.ndarray, **kwargs: Any) -> bytes:
    file = BytesIO()
    np.lib.format.write_array(file, array, **{"version": (1, 0), **kwargs})
    return file.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


class Bomb:
    """Fails the test that unpickles it."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was loaded",)


BOMB = npy(np.array([Bomb()] * 10, dtype=object), allow_pickle=True)
FLAGS = np.zeros(10, dtype=bool)
CRAFTED: dict[str, tuple[dict[str, bytes | None], str]] = {
    "a column is missing": ({"rewards": None}, "There is no item named 'rewards.npy'"),
    "a column too many": ({"more": npy(FLAGS)}, "it holds 10 arrays, not 9"),
    "another length": ({"rewards": npy(np.zeros(11, np.float32))}, r"rewards must be \(10,\) float32 .*got \(11,\) float32"),
    "another shape": ({"observations_0": npy(np.zeros((10, 3), np.float32))}, r"must be \(10, 2\) float32 .*got \(10, 3\)"),
    "another dtype": ({"actions": npy(np.zeros(10, np.int32))}, "actions must be .* int64 .*got .* int32"),
    "another order": ({"observations_0": npy(np.zeros((2, 10), np.float32).T)}, "observations_0 must be .* in C order"),
    "a pickle": ({"rewards": BOMB}, "rewards must be .* float32 .*got .* object"),
    "a bare pickle": ({"rewards": pickle.dumps(Bomb())}, "magic string is not correct"),
    "another version": ({"rewards": npy(np.zeros(10, np.float32), version=(2, 0))}, r"of .npy version \(1, 0\), got \(2, 0\)"),
    "nothing": ({"rewards": b""}, "holds no slots"),
    "a header alone": ({"rewards": header((10,))}, "rewards must have 40 bytes, got 0"),
    "too little": ({"rewards": npy(np.zeros(10, np.float32))[:-3]}, "rewards must have 40 bytes, got 37"),
    "too much": ({"rewards": npy(np.zeros(10, np.float32)) + b"x"}, "rewards goes on behind its last element"),
    "a header that is no header": ({"rewards": b"\x93NUMPY\x01\x00\x05\x00[1,2]"}, "holds no slots"),
    "neither true nor false": ({"final": npy(np.full(10, 2, np.uint8).view(bool))}, "final must be true or false, got 2"),
    "other slots": ({"starts": npy(np.array([1]))}, "its starts are others than the checkpoint's"),
}


def craft(folder: Path, segment: Segment, changes: dict[str, bytes | None], how: int = zipfile.ZIP_DEFLATED) -> Segment:
    """Replace arrays of a file, and have the checkpoint say that it has always been so."""
    path = folder / NAME
    with zipfile.ZipFile(path) as archive:
        members: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    members |= {f"{name}.npy": content for name, content in changes.items()}
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return resigned(path, segment)


def resigned(path: Path, segment: Segment) -> Segment:
    content = path.read_bytes()
    return segment._replace(sha256=hashlib.sha256(content).hexdigest(), n_bytes=len(content))


@pytest.mark.parametrize(("changes", "words"), CRAFTED.values(), ids=CRAFTED.keys())
def test_a_crafted_file_is_refused_in_words(changes: dict[str, bytes | None], words: str, tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World())
    crafted = craft(tmp_path, segment, changes)
    with pytest.raises(DamagedFileError, match=words) as caught:
        read_segment(tmp_path, crafted, buffer.storage.columns([]))
    assert str(tmp_path / NAME) in str(caught.value)


def test_a_file_that_was_packed_anew_is_as_good(tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World())
    before = read_segment(tmp_path, segment, buffer.storage.columns([]))
    stored = craft(tmp_path, segment, {}, zipfile.ZIP_STORED)
    np.testing.assert_equal(read_segment(tmp_path, stored, buffer.storage.columns([])), before)


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(how: int, tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World())
    with pytest.raises(DamagedFileError, match=f"must be deflated or stored, got type {how}"):
        read_segment(tmp_path, craft(tmp_path, segment, {}, how), buffer.storage.columns([]))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty archive"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World())
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(DamagedFileError, match="holds no slots of this replay buffer"):
        read_segment(tmp_path, resigned(tmp_path / NAME, segment), buffer.storage.columns([]))


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    buffer, segment = written(tmp_path, World())
    columns = buffer.storage.columns([])
    before, content = read_segment(tmp_path, segment, columns), (tmp_path / NAME).read_bytes()
    n_refused = 0
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0x55
        (tmp_path / NAME).write_bytes(changed)
        try:
            found = read_segment(tmp_path, resigned(tmp_path / NAME, segment), columns)
        except DamagedFileError:
            n_refused += 1
        else:
            # Dates and the like
            np.testing.assert_equal(found, before)
    assert n_refused > len(content) / 3 / 2


def test_no_memory_is_taken_for_what_so_small_a_file_cant_hold(tmp_path: Path) -> None:
    _, segment = written(tmp_path, World())
    huge = (10, 10**12)
    crafted = craft(tmp_path, segment, {"rewards": header(huge)})
    with pytest.raises(DamagedFileError, match="rewards can't be 40,000,000,000,000 bytes, got"):
        read_segment(tmp_path, crafted, {"rewards": (huge[1:], np.dtype(np.float32))})


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name that leads elsewhere": ({"name": "../replay_00000001.npz"}, "must be named like replay_00000001.npz, got '../"),
    "no name": ({"name": 7}, "must be named like replay_00000001.npz, got 7"),
    "no sum": ({"sha256": None}, "replay_00000001.npz must have a SHA-256 and a size, got None"),
    "no size": ({"n_bytes": -1}, "replay_00000001.npz must have a SHA-256 and a size, got .* and -1"),
    "slots of other environments": ({"stops": [1, 2]}, r"stops of replay_00000001.npz must be .* each of 1 .*got \[1, 2\]"),
    "slots that are none": ({"starts": "0"}, "starts of replay_00000001.npz must be a number of slots .*got '0'"),
    "a stop before the start": ({"starts": [11]}, r"must not stop before it starts, got \[11\] and \[10\]"),
    "another field": ({"more": 1}, "a segment must have name, sha256, n_bytes, starts, stops, got"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_a_checkpoint_says_of_a_segment_is_checked(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    _, segment = written(tmp_path, World())
    with pytest.raises(ValueError, match=words):
        Segment.from_plain({**segment.as_plain(), **changes}, 1)
