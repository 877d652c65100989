import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from drqn_sb3 import SequenceReplayBuffer
from drqn_sb3.checkpoints import archive
from drqn_sb3.checkpoints.files import UNFINISHED, DamagedFileError
from drqn_sb3.checkpoints.store import CheckpointStore, list_checkpoints, lock_folder, steps_of

SPACE = spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CheckpointStore]:
    store = CheckpointStore(tmp_path / "run", keep=2)
    yield store
    store.close()


def make_buffer(n_steps: int = 0) -> SequenceReplayBuffer:
    buffer = SequenceReplayBuffer(200, SPACE, spaces.Discrete(2), sequence_length=4)
    fill(buffer, n_steps)
    return buffer


def fill(buffer: SequenceReplayBuffer, n_steps: int) -> None:
    for _ in range(n_steps):
        obs, next_obs = np.random.random((2, 1, 3))
        buffer.add(obs, next_obs, np.zeros(1), np.ones(1), np.zeros(1, bool), [{}])


def write_some(store: CheckpointStore, *n_steps: int) -> SequenceReplayBuffer:
    """Write checkpoints, each with a little more in the buffer."""
    buffer = make_buffer()
    for steps in n_steps:
        fill(buffer, 30)
        store.write(steps, {"steps": steps}, buffer)
    return buffer


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_newest_is_read_with_its_buffer(store: CheckpointStore) -> None:
    buffer = write_some(store, 10, 20)
    found = store.read_newest()
    assert found is not None
    path, state, versions = found
    assert (steps_of(path), state["run"]) == (20, {"steps": 20}) and "torch" in versions
    restored = make_buffer()
    store.restore_buffer(restored, state["replay"])
    assert restored.size() == buffer.size() == 61
    np.testing.assert_array_equal(restored.storage.observations[""][:61], buffer.storage.observations[""][:61])


def test_without_a_buffer_there_are_no_segments(store: CheckpointStore) -> None:
    store.write(10, {"steps": 10}, None)
    assert files(store.folder) == ["checkpoint_000000000010.zip"]
    found = store.read_newest()
    assert found is not None and found[1] == {"run": {"steps": 10}, "replay": None}


def test_an_empty_folder_has_none(store: CheckpointStore) -> None:
    assert store.read_newest() is None


def test_no_more_are_kept_than_asked_for_and_no_segment_that_none_needs(store: CheckpointStore) -> None:
    buffer = make_buffer()
    for steps in range(1, 30):
        fill(buffer, 30)
        store.write(steps, {}, buffer)
        assert len(list_checkpoints(store.folder)) <= 2
    assert [steps_of(path) for path in list_checkpoints(store.folder)] == [28, 29]
    # The ring of 200 slots is in 7 segments of 30 and a bit, or 8; one more for the checkpoint before
    assert len(list((store.folder / "replay").iterdir())) <= 9


def test_checkpoints_of_a_past_that_was_left_are_removed(store: CheckpointStore) -> None:
    """Whoever resumes from an older one goes another way from there."""
    write_some(store, 10, 20)
    store.write(15, {}, make_buffer(30))
    assert [steps_of(path) for path in list_checkpoints(store.folder)] == [10, 15]


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "truncated" else content[:-50] + bytes(50))


DAMAGES = [
    *[("checkpoint", "truncated"), ("checkpoint", "edited")],
    *[("segment", "truncated"), ("segment", "edited"), ("segment", "missing")],
]


@pytest.mark.parametrize(("what", "how"), DAMAGES)
def test_a_damaged_one_is_passed_over_with_a_warning(store: CheckpointStore, what: str, how: str) -> None:
    write_some(store, 10, 20)
    newest = {"checkpoint": list_checkpoints(store.folder), "segment": sorted((store.folder / "replay").iterdir())}[what][-1]
    damage(newest, how)
    with pytest.warns(UserWarning, match=rf"Passing over a damaged checkpoint: .*{newest.name}.* is (damaged|missing)"):
        found = store.read_newest()
    assert found is not None and found[1]["run"] == {"steps": 10}


def test_if_none_is_whole_nothing_is_made_up(store: CheckpointStore) -> None:
    write_some(store, 10, 20)
    for path in list_checkpoints(store.folder):
        damage(path, "truncated")
    with (
        pytest.warns(UserWarning, match="damaged checkpoint"),
        pytest.raises(ValueError, match=r"no checkpoint in .* is whole, 2 are damaged: remove them to start anew"),
    ):
        store.read_newest()


def test_one_that_is_named_must_be_whole(store: CheckpointStore) -> None:
    write_some(store, 10)
    damage(next((store.folder / "replay").iterdir()), "edited")
    with pytest.raises(DamagedFileError, match=r"replay_00000001.npz is damaged"):
        store.read(list_checkpoints(store.folder)[0])


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    store = CheckpointStore(folder, keep=2)
    write_some(store, 10)
    whole = files(folder)
    store.close()
    (folder / f"checkpoint_000000000020.zip{UNFINISHED}").write_bytes(b"half")
    (folder / "replay" / f"replay_00000002.npz{UNFINISHED}").write_bytes(b"half")
    # Whole, but the checkpoint that it was written for is not there
    shutil.copy(folder / "replay" / "replay_00000001.npz", folder / "replay" / "replay_00000003.npz")
    store = CheckpointStore(folder, keep=2)
    assert store.read_newest() is not None
    store.close()
    assert files(folder) == whole


def test_a_failure_to_write_leaves_those_before(store: CheckpointStore) -> None:
    buffer = write_some(store, 10)
    before = files(store.folder)
    fill(buffer, 30)
    with pytest.raises(TypeError, match="not plain data"):
        store.write(20, {"object": object()}, buffer)
    assert [name for name in files(store.folder) if name.startswith("checkpoint")] == [before[0]]
    found = store.read_newest()
    assert found is not None and found[1]["run"] == {"steps": 10}
    store.write(20, {"steps": 20}, buffer)
    restored = make_buffer()
    store.restore_buffer(restored, store.read(list_checkpoints(store.folder)[-1])[0]["replay"])
    assert restored.size() == 61


def test_what_another_version_needs_is_kept(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows the error's advice finds all of it."""
    write_some(store, 10, 20)
    before = files(store.folder)
    store.close()
    monkeypatch.setattr(archive, "FORMAT", archive.FORMAT + 1)
    again = CheckpointStore(store.folder, keep=2)
    with pytest.raises(ValueError, match="resume it with that version"):
        again.read_newest()
    again.close()
    assert files(store.folder) == before


def test_going_back_removes_the_newest_first(store: CheckpointStore) -> None:
    write_some(store, 10, 20)
    store.go_back_to(store.folder / "checkpoint_000000000010.zip")
    assert [steps_of(path) for path in list_checkpoints(store.folder)] == [10]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"download{UNFINISHED}").write_bytes(b"mine")
    CheckpointStore(tmp_path, keep=2).close()
    assert files(tmp_path) == [f"download{UNFINISHED}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_forked_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    (begun, begin), (ended, end) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.write(begin, b"!")
        os.read(ended, 1)  # until the parent has closed its end
        os._exit(0)
    os.read(begun, 1)
    store.close()
    CheckpointStore(tmp_path, keep=1).close()
    os.close(end)
    os.waitpid(pid, 0)


HOLD = "import sys, time; from pathlib import Path; from drqn_sb3.checkpoints.store import lock_folder\n\
lock = lock_folder(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_folder_is_one_process_alone_until_it_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=r"folder must be this run's alone, and another process \(or callback"):
        CheckpointStore(tmp_path, keep=1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    CheckpointStore(tmp_path, keep=1).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_lock_is_let_go_of(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    assert lock is not None
    os.close(lock)
    second = lock_folder(tmp_path)
    assert second is not None
    os.close(second)


@pytest.mark.parametrize("name", ["checkpoint_10.zip", "model.zip", "checkpoint_000000000010.zip.unfinished"])
def test_only_checkpoints_have_steps(name: str) -> None:
    with pytest.raises(ValueError, match=f"a checkpoint must be named checkpoint_<12 digits>.zip, got {name}"):
        steps_of(Path(name))


# --- disks that are full, real ones ---

FULL_DISK = """
import sys, warnings
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_store import make_buffer, list_checkpoints, steps_of
from drqn_sb3.checkpoints.store import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]) / "run", keep=2)
for steps in range(1, 9):
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store.write(steps, {"noise": np.random.default_rng(steps).random(10**6 // 8)}, make_buffer(10))
        print(steps, "written", *(str(warning.message)[:24] for warning in caught))
    except OSError as error:
        print(steps, "failed:", error.strerror)
    if steps == 5:  # somebody else fills the disk
        Path(sys.argv[1], "other").write_bytes(bytes(7_000_000))
    if steps == 6:
        Path(sys.argv[1], "more").write_bytes(bytes(800_000))
    if steps == 7:
        Path(sys.argv[1], "other").unlink()
print("kept", [steps_of(path) for path in list_checkpoints(store.folder)])
print("newest", steps_of(store.read_newest()[0]), sorted(path.name for path in store.folder.iterdir()))
"""


def can_mount() -> bool:
    """Whether a file system of one's own can be had here, as root or in a user's namespace."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk_is_told_of_before_and_leaves_what_was_there(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("mounting a small file system is not allowed here")
    script = 'mount -t tmpfs -o size=10M none "$0" && exec "$@"'
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)]
    run = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path), *command],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[:5] == [f"{steps} written" for steps in range(1, 6)]
    assert lines[5:] == [
        "6 written The disk is nearly full:",
        "7 failed: No space left on device",
        "8 written",
        "kept [6, 8]",
        "newest 8 ['checkpoint_000000000006.zip', 'checkpoint_000000000008.zip', 'replay']",
    ]
