import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.provenance import describe_device, git_state, provenance, settings_of, versions, without_places


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_a_checkouts_commit_is_told_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    state = git_state(tmp_path)
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (tmp_path / "results").write_text("of a run")
    assert git_state(tmp_path) == state, "what git does not track is no change"
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == {**state, "dirty": True}


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() is None


def test_versions_are_those_of_what_is_loaded() -> None:
    import numpy as np
    import torch as th

    import drqn_sb3

    found = versions()
    assert found["drqn_sb3"] == drqn_sb3.__version__
    assert found["numpy"] == np.__version__
    assert found["torch"].split("+")[0] == th.__version__.split("+")[0]


def test_a_command_keeps_no_place_of_this_machine() -> None:
    facts = provenance(["-m", "eval", "evaluate", str(Path("/somewhere/of/mine/model.zip")), "--out", "a folder"])
    assert facts["command"] == "-m eval evaluate model.zip --out 'a folder'"
    assert set(facts) == {"command", "versions", "git", "machine"}
    assert facts["machine"]["device"] is None
    assert facts["machine"]["memory_gb"] > 0
    assert facts["machine"]["python"] == ".".join(map(str, sys.version_info[:3]))


PLACES = {
    "a path": ("/a/b/c.zip", "c.zip"),
    "a path upwards": ("../../home/me/y.zip", "y.zip"),
    "a path from home": ("~/x/y.yml", "y.yml"),
    "somebody's home": ("~me/x/y.yml", "y.yml"),
    "a path within the checkout": ("eval/suites/smoke.yml", "eval/suites/smoke.yml"),
    "an option": ("--out=/tmp/z", "--out=z"),
    "within a text": ("{'rom': '/home/me/rom.bin', 'k': 1/2}", "{'rom': 'rom.bin', 'k': 1/2}"),
    "a fraction": ("a / b", "a / b"),
    "a fraction, within a call": ("dict(x=1 / 3)", "dict(x=1 / 3)"),
    "a fraction, half set apart": ("dict(x=1 /3.5, y=2 // 7)", "dict(x=1 /3.5, y=2 // 7)"),
    "the root": ("/", "/"),
    "a path from two slashes": ("//a/b/c.zip", "c.zip"),
    "a path with numbers": ("in /1/2/c.zip", "in c.zip"),
    "nested": ({"env_kwargs": {"files": ["/a/b", 1, None]}}, {"env_kwargs": {"files": ["b", 1, None]}}),
}


@pytest.mark.parametrize(("value", "kept"), PLACES.values(), ids=PLACES.keys())
def test_places_of_this_machine_are_left_out(value: object, kept: object) -> None:
    assert without_places(value) == kept


def test_a_device_is_named() -> None:
    assert describe_device("cpu") == "cpu"
    assert describe_device(None) is None


def test_a_result_tells_of_callbacks_that_teach_and_of_no_others() -> None:
    teaching: list[Any] = [{"drqn_sb3.WarmStart": {"path": "agents/a.zip"}}, "drqn_sb3.FlickerCurriculum"]
    config = {"policy": "MlpLstmPolicy", "callback": ["drqn_sb3.RunCheckpointCallback", *teaching, "a.ProgressCallback"]}
    assert settings_of(config) == {"policy": "MlpLstmPolicy", "callback": teaching}
    assert settings_of({"policy": "MlpLstmPolicy", "callback": "drqn_sb3.RunCheckpointCallback"}) == {
        "policy": "MlpLstmPolicy"
    }
    assert settings_of({"callback": "drqn_sb3.FlickerCurriculum"}) == {"callback": ["drqn_sb3.FlickerCurriculum"]}
    assert settings_of({}) == {}
