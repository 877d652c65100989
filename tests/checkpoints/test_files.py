import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drqn_sb3.checkpoints.files import (
    UNFINISHED,
    DamagedFileError,
    atomic_file,
    read_verified,
    remove_unfinished,
    write_atomically,
)


def test_what_is_written_can_be_read_and_verified(tmp_path: Path) -> None:
    sha256 = write_atomically(tmp_path / "file", [b"one", memoryview(b"two")])
    assert read_verified(tmp_path / "file", sha256) == b"onetwo"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def failing_parts() -> Iterator[bytes]:
    yield b"new"
    raise OSError("the disk has gone")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", [b"old"])
    with pytest.raises(OSError, match="gone"):
        write_atomically(tmp_path / "file", failing_parts())
    assert (tmp_path / "file").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_until_it_is_whole_a_file_has_another_name(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file") as file:
        file.write(b"half")
        file.flush()
        assert [path.name for path in tmp_path.iterdir()] == ["file" + UNFINISHED]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_killed_writer_leaves_the_old_file_and_a_leftover_that_is_found(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", [b"old"])
    code = (
        "import os, signal, sys; from pathlib import Path; from drqn_sb3.checkpoints.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], cwd=Path(__file__).parents[2])
    assert run.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / ("file" + UNFINISHED)).exists()
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("content", [b"", b"onetw", b"onetwo!", b"onetwp"], ids=["empty", "truncated", "longer", "edited"])
def test_a_changed_file_is_noticed(tmp_path: Path, content: bytes) -> None:
    sha256 = write_atomically(tmp_path / "file", [b"onetwo"])
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"file is damaged: its SHA-256"):
        read_verified(tmp_path / "file", sha256)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="file is missing"):
        read_verified(tmp_path / "file", "0" * 64)
