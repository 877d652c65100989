"""What a replay buffer must share with the one that was written, and what else it is made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from replay_world import STACKED_VECTORS, World, assert_same, sample

from drqn_sb3 import FrameStackReplayBuffer
from drqn_sb3.checkpoints.files import DamagedFileError
from drqn_sb3.checkpoints.replay_journal import ReplayJournal
from drqn_sb3.checkpoints.replay_state import FORMAT

SEQUENCE, STACKED = "random windows", "stacked vectors"
DIFFERENCES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a smaller buffer": (SEQUENCE, {"buffer_size": 10_000}, "buffer_size is 10,000 now and was 20,000 when"),
    "fewer environments": (SEQUENCE, {"n_envs": 1}, "n_envs is 1 now and was 2 when the replay buffer was written"),
    "longer windows": (SEQUENCE, {"sequence_length": 4}, "sequence_length is 4 now and was 3"),
    "burn-in": (SEQUENCE, {"burn_in": 2}, "burn_in is 2 now and was 0"),
    "more steps to a target": (SEQUENCE, {"n_steps": 5}, "n_steps is 5 now and was 1"),
    "sequential windows": (SEQUENCE, {"replay": "sequential"}, "replay is sequential now and was random"),
    "both": (SEQUENCE, {"n_steps": 5, "burn_in": 2}, "n_steps is 5 now and was 1, burn_in is 2 now and was 0 when"),
    "other observations": (
        SEQUENCE,
        {"observation_space": spaces.Box(-1, 1, (3,), dtype=np.float64)},
        "observation_space is [['', 3, '<f8']] now and was [['', 2, '<f4']]",
    ),
    "fewer actions": (SEQUENCE, {"action_space": spaces.Discrete(5)}, "action_space is [0, 5] now and was [0, 7]"),
    "a smaller stacked buffer": (STACKED, {"buffer_size": 10_000}, "buffer_size is 10,000 now and was 20,000"),
    "other stacks": (STACKED, {"n_stack": 2}, "n_stack is 2 now and was 3"),
    "the other axis": (STACKED, {"channels_order": "first"}, "channels_order is first now and was last"),
    "another discount": (STACKED, {"gamma": 0.9}, "gamma is 0.9 now and was 1.0"),
    "timeouts that terminate": (
        STACKED,
        {"handle_timeout_termination": False},
        "handle_timeout_termination is False now and was True",
    ),
}


@pytest.mark.parametrize(("kind", "changes", "words"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_a_buffer_made_with_other_arguments_is_refused_naming_both(
    kind: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    world = World(kind, n_envs=2, capacity=10_000)
    buffer = world.make_buffer()
    world.play(buffer, 5)
    description = ReplayJournal(tmp_path).append(buffer)
    with pytest.raises(ValueError) as caught:
        ReplayJournal(tmp_path).restore(world.make_buffer(**changes), description)
    assert words in str(caught.value)
    assert str(caught.value).endswith("when the replay buffer was written: continue with the same arguments")


def test_a_buffer_of_the_other_class_is_refused(tmp_path: Path) -> None:
    world = World(SEQUENCE)
    description = ReplayJournal(tmp_path).append(world.make_buffer())
    other = FrameStackReplayBuffer(12, STACKED_VECTORS, spaces.Discrete(7), "cpu", n_stack=3)
    words = "^replay_buffer_class is FrameStackReplayBuffer now and was SequenceReplayBuffer when"
    with pytest.raises(ValueError, match=words):
        ReplayJournal(tmp_path).restore(other, description)


FORMATS: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": FORMAT + 1}, f"format must be {FORMAT}, got {FORMAT + 1}: written by another version"),
    "no format": ({"format": None}, "format must be of type int, got None"),
    "no settings": ({"settings": []}, r"settings must be of type dict, got \[\]"),
    "settings of another version": (
        {"settings": {"replay_buffer_class": "SequenceReplayBuffer", "colour": 1}},
        "settings must be replay_buffer_class, n_envs, .*, got replay_buffer_class, colour",
    ),
}


@pytest.mark.parametrize(("changes", "words"), FORMATS.values(), ids=FORMATS.keys())
def test_another_version_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    world = World(SEQUENCE)
    description = ReplayJournal(tmp_path).append(world.make_buffer())
    with pytest.raises(ValueError, match=words):
        ReplayJournal(tmp_path).restore(world.make_buffer(), {**description, **changes})


ROWS = np.arange(6)
DRAWINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "rows of no environment": ("sequential windows", {"envs": ROWS + 1}, "must be of slots that were written"),
    "rows ahead of what was written": ("sequential windows", {"indices": ROWS + 90}, "must be of slots that were written"),
    "rows before the first": ("sequential windows", {"indices": ROWS - 1}, "must be of slots that were written"),
    "rows without an environment": ("sequential windows", {"envs": None}, "envs must be an array of .* int64, got None"),
    "half a row": ("sequential windows", {"indices": ROWS / 2}, r"indices must be an array of \(6,\) int64, got .* float64"),
    "too few rows": ("sequential windows", {"is_last": ROWS[:2] > 0}, r"is_last must be .*\(6,\) bool, got \(2,\) bool"),
    "a matrix of rows": ("sequential windows", {"envs": ROWS[None]}, r"envs must be an array of .* got \(1, 6\)"),
    "a generator's state that is none": ("random windows", {"rng": {"bit_generator": "PCG64", "state": 3}}, "rng must be"),
    "too large a state": (
        "random windows",
        {"rng": {"bit_generator": "PCG64", "state": {"state": -(2**200), "inc": 1}, "has_uint32": 0, "uinteger": 0}},
        "rng must be the state of the sampler's generator",
    ),
    "no last frames": (STACKED, {"last_frames": None}, r"last_frames must be an array of \(1, 3, 2\) float32, got None"),
    "other last frames": (STACKED, {"last_frames": ROWS}, r"last_frames must be .*\(1, 3, 2\) float32, got \(6,\) int64"),
}


@pytest.mark.parametrize(("kind", "changes", "words"), DRAWINGS.values(), ids=DRAWINGS.keys())
def test_what_draws_depend_on_is_checked(kind: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    world = World(kind)
    buffer, fresh = world.make_buffer(), world.make_buffer()
    world.play(buffer, 8)
    sample(buffer)
    description = ReplayJournal(tmp_path).append(buffer)
    changed = {**description, "drawing": {**description["drawing"], **changes}}
    with pytest.raises(ValueError, match=words):
        ReplayJournal(tmp_path).restore(fresh, changed)
    assert fresh.storage.n_written.tolist() == [0]
    # Nothing of it has stuck
    ReplayJournal(tmp_path).restore(fresh, description)
    assert_same(buffer, fresh)


def test_an_action_that_cant_be_taken_is_refused(tmp_path: Path) -> None:
    world = World(SEQUENCE)
    buffer = world.make_buffer()
    world.play(buffer, 8)
    buffer.storage.actions[4] = 7
    description = ReplayJournal(tmp_path).append(buffer)
    with pytest.raises(DamagedFileError, match=r"replay_00000001.npz holds .*: actions must be from 0 to 6, got 7"):
        ReplayJournal(tmp_path).restore(world.make_buffer(), description)


def test_what_was_described_does_not_change_with_the_buffer(tmp_path: Path) -> None:
    for kind in ("sequential windows", STACKED):
        world = World(kind)
        buffer = world.make_buffer()
        world.play(buffer, 8)
        sample(buffer)
        drawing = ReplayJournal(tmp_path).append(buffer)["drawing"]
        before = {name: np.array(value) for name, value in drawing.items() if name != "rng"}
        for _ in range(4):
            world.play(buffer, 4)
            sample(buffer)
        np.testing.assert_equal({name: drawing[name] for name in before}, before)
