"""The replay buffer's journal: what it restores is what there was, and a checkpoint costs what is new."""

import errno
import itertools
import os
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_world import ACTIONS, KINDS, Buffer, World, assert_same, assert_same_samples, contents, cut, sample
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from drqn_sb3.checkpoints import replay_journal
from drqn_sb3.checkpoints.files import UNFINISHED, DamagedFileError
from drqn_sb3.checkpoints.plain import pack, unpack
from drqn_sb3.checkpoints.replay_journal import ReplayJournal

ENDS = (None, None, "terminated", "truncated")


def names_of(description: dict[str, Any]) -> list[str]:
    return [segment["name"] for segment in description["segments"]]


def bytes_of(description: dict[str, Any]) -> int:
    return sum(segment["n_bytes"] for segment in description["segments"])


def restored(world: World, folder: Path, description: dict[str, Any]) -> Buffer:
    buffer = world.make_buffer()
    ReplayJournal(folder).restore(buffer, description)
    return buffer


# --- whatever happens ---


class Run:
    """A run with a journal, killed now and then, and a copy of what its last checkpoint must restore."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.buffer, self.journal = world.make_buffer(), ReplayJournal(folder)
        self.checkpoint()

    def checkpoint(self) -> None:
        needed, before = self.journal.bytes_needed(self.buffer), set(self.folder.glob("*"))
        # As the checkpoint's file has it
        self.description = unpack(*pack(self.journal.append(self.buffer)))
        assert sum(path.stat().st_size for path in set(self.folder.glob("*")) - before) <= needed
        self.copy = deepcopy(self.buffer)

    def resume(self) -> None:
        self.buffer, self.journal = self.world.make_buffer(), ReplayJournal(self.folder)
        self.journal.verify(self.description)
        self.journal.restore(self.buffer, self.description)
        assert_same(self.copy, self.buffer)

    def lose_a_checkpoint(self) -> None:
        """Die behind the segment, before the checkpoint's file."""
        self.journal.append(self.buffer)
        self.resume()

    def prune(self) -> None:
        self.journal.remove_all_but(names_of(self.description))
        self.journal.verify(self.description)

    def do(self, operation: Any) -> None:
        if isinstance(operation, tuple):
            self.world.step(self.buffer, ends=operation)
        elif operation == "cut":
            cut(self.buffer)
        elif operation == "forget":
            self.buffer.reset()
        elif operation == "sample" and self.buffer.storage.n_written.any():
            sample(self.buffer)
        elif operation in ("checkpoint", "resume", "lose_a_checkpoint", "prune"):
            getattr(self, operation)()


STEPS = st.tuples(*[st.sampled_from(ENDS)] * 3)
OPERATIONS = st.sampled_from(["cut", "sample", "checkpoint", "checkpoint", "prune", "resume", "lose_a_checkpoint", "forget"])


@pytest.mark.parametrize("kind", KINDS)
@given(n_envs=st.integers(1, 3), spare=st.integers(0, 8), operations=st.lists(STEPS | STEPS | OPERATIONS, max_size=60))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_whatever_happens_a_resumed_run_has_the_buffer_that_was_checkpointed(
    kind: str, n_envs: int, spare: int, operations: list[Any]
) -> None:
    with TemporaryDirectory() as name:
        run = Run(World(kind, n_envs, capacity=7 + spare), Path(name))
        for operation in operations:
            run.do(operation)
        run.checkpoint()
        run.resume()
        # What comes later is the same as well, as the ring goes round
        for number in range(20):
            run.world.step(run.buffer, run.copy, ends=(ENDS[number % 4], ENDS[number // 3 % 4], None))
            assert_same_samples(run.copy, run.buffer)
        assert_same(run.copy, run.buffer)
        run.checkpoint()
        run.prune()
        assert sorted(os.listdir(name)) == sorted(names_of(run.description))


# --- what it costs ---


@pytest.mark.parametrize("kind", ["random windows", "stacked images, three steps"])
def test_a_checkpoint_costs_what_was_added_not_what_is_stored(kind: str, tmp_path: Path) -> None:
    world = World(kind, n_envs=2, capacity=3_000)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 1_000)
    everything = bytes_of(journal.append(buffer))
    for n_steps in (10, 100, 10):
        before, slots = set(os.listdir(tmp_path)), buffer.storage.n_written.sum()
        world.play(buffer, n_steps)
        new_slots = buffer.storage.n_written.sum() - slots
        description = journal.append(buffer)
        (name,) = set(os.listdir(tmp_path)) - before
        with np.load(tmp_path / name, allow_pickle=False) as arrays:
            # Of both environments the two slots that were newest, too
            assert len(arrays["actions"]) == new_slots + 4
        assert (tmp_path / name).stat().st_size < everything * (new_slots + 4) / 2_400 + 4_000
        assert names_of(description)[-1] == name


def test_nothing_new_costs_nothing(tmp_path: Path) -> None:
    world = World("random windows, with states", n_envs=2)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    assert names_of(journal.append(buffer)) == []
    world.play(buffer, 8)
    first = journal.append(buffer)
    assert journal.bytes_needed(buffer) == 0
    sample(buffer)
    second = journal.append(buffer)
    assert names_of(first) == names_of(second) == os.listdir(tmp_path)
    # The draws were, and they are in the description
    assert second["drawing"] != first["drawing"]


def test_a_change_of_the_newest_slots_alone_is_written(tmp_path: Path) -> None:
    world = World("random windows, with states", n_envs=2)
    changes = [
        lambda buffer: buffer.end_open_episodes(),
        lambda buffer: buffer.add_lstm_states((th.ones(2, 2, 3), th.ones(2, 2, 3))),
    ]
    for change in changes:
        buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
        world.play(buffer, 8)
        journal.append(buffer)
        change(buffer)
        assert_same(buffer, restored(world, tmp_path, journal.append(buffer)))


def test_segments_that_were_overwritten_are_named_no_more(tmp_path: Path) -> None:
    world = World(capacity=20)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    for _ in range(30):
        world.play(buffer, 4)
        description = journal.append(buffer)
        held = {segment["name"]: range(segment["starts"][0], segment["stops"][0]) for segment in description["segments"]}
        oldest = buffer.storage.oldest[0]
        # Four new slots each, so six at most reach into twenty
        assert len(held) <= 6
        assert all(slots[-1] >= oldest for slots in held.values())
        journal.remove_all_but(held)
        assert sorted(os.listdir(tmp_path)) == sorted(held)
        assert_same(buffer, restored(world, tmp_path, description))


def test_much_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_journal, "PIECE_BYTES", 20_000)
    world = World("stacked images, three steps", n_envs=3, capacity=60)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 70)
    needed = journal.bytes_needed(buffer)
    description = journal.append(buffer)
    assert bytes_of(description) <= needed
    sizes = []
    for name in names_of(description):
        with np.load(tmp_path / name) as arrays:
            sizes.append(sum(arrays[array].nbytes for array in arrays.files))
    assert len(sizes) >= 180 * 36 * 36 // 20_000
    # A slot of every environment more or less
    assert max(sizes) < 20_000 + 3 * 1_400
    assert_same(buffer, restored(world, tmp_path, description))


def test_pieces_of_less_than_a_slot_hold_one_of_each_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_journal, "PIECE_BYTES", 1)
    world = World(n_envs=2)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 9)
    description = journal.append(buffer)
    assert len(description["segments"]) == 11
    assert_same(buffer, restored(world, tmp_path, description))


# --- another past ---

OTHER_PASTS = {
    "another buffer": lambda world, buffer: world.make_buffer(),
    "a copy": lambda world, buffer: deepcopy(buffer),
    "a buffer that was reset": lambda world, buffer: [buffer.reset(), buffer][1],
    "a storage that was cleared": lambda world, buffer: [buffer.storage.clear(), buffer][1],
}


@pytest.mark.parametrize("replace", OTHER_PASTS.values(), ids=OTHER_PASTS.keys())
def test_what_does_not_continue_the_segments_is_written_as_a_whole(replace: Any, tmp_path: Path) -> None:
    world = World(n_envs=2, capacity=50)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 10)
    first = journal.append(buffer)
    other = replace(world, buffer)
    world.play(other, 30)
    second = journal.append(other)
    assert not set(names_of(first)) & set(names_of(second))
    assert_same(other, restored(world, tmp_path, second))


def test_a_segment_that_has_gone_is_made_up_for(tmp_path: Path) -> None:
    world = World(capacity=50)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 10)
    (tmp_path / names_of(journal.append(buffer))[0]).unlink()
    world.play(buffer, 3)
    assert_same(buffer, restored(world, tmp_path, journal.append(buffer)))


def test_a_restored_buffer_is_continued_not_written_again(tmp_path: Path) -> None:
    world = World("stacked vectors", n_envs=2, capacity=500)
    buffer = world.make_buffer()
    world.play(buffer, 400)
    first = ReplayJournal(tmp_path).append(buffer)
    for _ in range(3):
        buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
        journal.restore(buffer, first)
        np.testing.assert_equal(journal.append(buffer), first)
        world.play(buffer, 5)
        second = journal.append(buffer)
        assert names_of(second)[:-1] == names_of(first)
        assert second["segments"][-1]["n_bytes"] < bytes_of(first) / 5
        first = second


def test_a_name_is_never_given_twice(tmp_path: Path) -> None:
    world = World(capacity=50)
    seen: list[str] = []
    (tmp_path / "replay_00000041.npz").touch()
    buffer = world.make_buffer()
    for _ in range(3):
        journal = ReplayJournal(tmp_path)
        for _ in range(2):
            world.play(buffer, 3)
            new = set(names_of(journal.append(buffer))) - set(seen)
            assert len(new) == 1
            seen += new
    assert seen == [f"replay_{number:08d}.npz" for number in range(42, 48)]


def test_only_segments_that_nothing_needs_and_leftovers_are_removed(tmp_path: Path) -> None:
    world = World(capacity=50)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    journal.remove_all_but([])
    kept: dict[str, Any] = journal.append(buffer)
    for _ in range(3):
        world.play(buffer, 3)
        kept = journal.append(buffer)
    other = world.make_buffer()
    world.play(other, 3)
    journal.append(other)
    orphan, newest = "replay_00000077.npz", names_of(journal.append(other))
    for name in (orphan, f"{orphan}{UNFINISHED}", "notes.txt", "replay_best.npz"):
        (tmp_path / name).touch()
    journal.remove_all_but(names_of(kept)[:2])
    # What the next checkpoint builds upon stays
    assert sorted(os.listdir(tmp_path)) == sorted([*names_of(kept)[:2], *newest, "notes.txt", "replay_best.npz"])


# --- what fails ---


def test_a_full_disk_leaves_nothing_behind_and_the_next_checkpoint_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_journal, "PIECE_BYTES", 1_000)
    world = World(n_envs=2, capacity=70)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 10)
    before = journal.append(buffer)
    world.play(buffer, 40)
    calls, fsync = itertools.count(), os.fsync

    def full(descriptor: int) -> None:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        journal.append(buffer)
    assert sorted(os.listdir(tmp_path)) == sorted(names_of(before))
    after = journal.append(buffer)
    assert names_of(after)[: len(names_of(before))] == names_of(before)
    assert_same(buffer, restored(world, tmp_path, after))


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


DAMAGES = {
    "missing": r"replay_00000002\.npz is missing",
    "truncated": r"replay_00000002\.npz is damaged: it has [0-9,]+ bytes and had [0-9,]+ when it was written",
    "empty": r"replay_00000002\.npz is damaged: it has 0 bytes and had [0-9,]+ when it was written",
    "edited": r"replay_00000002\.npz is damaged: its SHA-256 is not",
}


@pytest.mark.parametrize(("how", "words"), DAMAGES.items(), ids=DAMAGES.keys())
def test_a_damaged_segment_is_named_and_leaves_an_empty_buffer(how: str, words: str, tmp_path: Path) -> None:
    world = World(n_envs=2, capacity=50)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    for _ in range(3):
        world.play(buffer, 5)
        description = journal.append(buffer)
    good = deepcopy(buffer)
    damage(tmp_path / "replay_00000002.npz", how)
    with pytest.raises(DamagedFileError, match=words):
        journal.verify(description)
    with pytest.raises(DamagedFileError, match=words):
        journal.restore(buffer, description)
    assert buffer.storage.n_written.tolist() == [0, 0]
    with pytest.raises(ValueError, match="holds no transition yet"):
        sample(buffer)
    # It is as good as new
    world.play(good, 3)
    assert_same(good, restored(world, tmp_path, ReplayJournal(tmp_path).append(good)))


WRONG_DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"segments": None}, "segments must be of type list, got None"),
    "no segment left": ({"segments": []}, r"must hold slots up to \[13, 13\], got up to \[0, 0\]"),
    "a number": ({"segments": [3]}, "a segment must have name, sha256, n_bytes, starts, stops, got 3"),
    "counts of another number of environments": ({"n_written": [13]}, r"n_written must be .* each of 2 .*, got \[13\]"),
    "a negative count": ({"n_written": [13, -1]}, r"n_written must be a number of slots .*, got \[13, -1\]"),
    "half a slot": ({"n_written": [13, 12.5]}, r"n_written must be a number of slots .*, got \[13, 12.5\]"),
    "more than can be counted": ({"n_written": [13, 2**70]}, "n_written must be a number of slots"),
    "more slots than segments hold": ({"n_written": [13, 14]}, r"hold slots up to \[13, 14\], got up to \[13, 13\]"),
    "fewer": ({"n_written": [13, 12]}, r"replay_00000002.npz must hold slots from .* up to \[13, 12\], got .*\[13, 13\]"),
    "flags of other environments": ({"is_open": [True]}, r"is_open must be .* each of 2 environments, got \[True\]"),
    "flags that are numbers": ({"is_open": [1, 1]}, r"is_open must be true or false .* got \[1, 1\]"),
    "flags that the slots contradict": ({"is_open": [True, False]}, r"is_open must be \[True, True\].*got \[True, False\]"),
    "shapes that are none": ({"lstm_shapes": [5]}, r"lstm_shapes must be lists of sizes, got \[5\]"),
    "a state without end": ({"lstm_shapes": [[-1]]}, r"lstm_shapes must be lists of sizes, got \[\[-1\]\]"),
    "states that are not there": ({"lstm_shapes": [[2, 3]]}, "replay_00000001.npz holds no slots .*lstm_states_0"),
    "a generator of another kind": ({"drawing": {"rng": {"bit_generator": "MT19937"}}}, "rng must be the state of"),
    "no generator": ({"drawing": {}}, "rng must be the state of the sampler's generator, got None"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG_DESCRIPTIONS.values(), ids=WRONG_DESCRIPTIONS.keys())
def test_a_description_that_was_edited_is_refused_in_words(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    world = World(n_envs=2, capacity=50)
    buffer, journal = world.make_buffer(), ReplayJournal(tmp_path)
    world.play(buffer, 6)
    journal.append(buffer)
    for _ in range(5):
        world.step(buffer)
    description = journal.append(buffer)
    fresh = world.make_buffer()
    with pytest.raises(ValueError, match=words):
        journal.restore(fresh, {**description, **changes})
    assert fresh.storage.n_written.tolist() == [0, 0]


OTHERS = {
    "SB3's": ReplayBuffer(10, spaces.Box(-1, 1, (2,)), ACTIONS),
    "SB3's for dicts": DictReplayBuffer(10, spaces.Dict({"x": spaces.Box(-1, 1, (2,))}), ACTIONS),
    "nothing": None,
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_a_buffer_of_another_kind_is_refused_with_advice(other: Any, tmp_path: Path) -> None:
    journal = ReplayJournal(tmp_path)
    words = f"got {type(other).__name__}: for SB3's algorithms give replay_buffer_class=FrameStackReplayBuffer"
    for call in (journal.append, journal.bytes_needed, lambda buffer: journal.restore(buffer, {})):
        with pytest.raises(TypeError, match=words):
            call(other)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
def test_a_buffer_on_the_gpu_is_restored_there_or_on_the_host(tmp_path: Path) -> None:
    world = World(n_envs=2)
    buffer = world.make_buffer(device="cuda", buffer_device="cuda")
    world.play(buffer, 20)
    description = ReplayJournal(tmp_path).append(buffer)
    for device in ("cuda", "cpu"):
        other = world.make_buffer(device=device, buffer_device=device)
        ReplayJournal(tmp_path).restore(other, description)
        assert other.storage.observations[""].device.type == device
        np.testing.assert_equal(contents(other), contents(buffer))
