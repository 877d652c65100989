from pathlib import Path

import pytest
from resumable_runs import run

from drqn_sb3.checkpoints.__main__ import main
from drqn_sb3.checkpoints.store import list_checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder, as the zoo has it: its checkpoints are in one within."""
    run("a GRU, an average, and short episodes", tmp_path / "checkpoints", 210)
    return tmp_path


def test_whole_checkpoints_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == f"{folder}/checkpoints: "
    assert [line.split()[0] for line in lines] == ["204", "210"]
    assert all("DRQN in 3 environments, drqn_sb3 0." in line and line.endswith(", whole") for line in lines)


@pytest.mark.parametrize("what", ["checkpoint", "segment"])
def test_a_damaged_one_is_told_apart(folder: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    newest = list_checkpoints(folder / "checkpoints")[-1]
    damaged = newest if what == "checkpoint" else max((folder / "checkpoints" / "replay").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert main([str(folder / "checkpoints")]) == 1
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("whole") and "210 steps  NOT WHOLE: " in second and damaged.name in second


def test_an_empty_folder_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{tmp_path}: no checkpoints\n"
