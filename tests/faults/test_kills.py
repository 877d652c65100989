"""
A real run, killed with SIGKILL at random instants, the writing of checkpoints included, and resumed each time.

By default a hundred kills; ``DRQN_SB3_KILLS`` and ``DRQN_SB3_KILL_SEED`` ask for more, or others.
"""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from forked_runs import fork_run
from resumable_runs import run

from drqn_sb3.checkpoints.archive import read_summary
from drqn_sb3.checkpoints.files import UNFINISHED
from drqn_sb3.checkpoints.store import list_checkpoints, steps_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork"),
]

N_KILLS = int(os.environ.get("DRQN_SB3_KILLS", "100"))
LONGEST_LIFE = 2.5  # seconds
TOTAL, SAVE_FREQ = 2400, 40
NAMES = ("slimevolley pixels", "pong")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def files_needed(folder: Path) -> set[str]:
    paths = list_checkpoints(folder)
    return {path.name for path in paths} | {f"replay/{name}" for path in paths for name in read_summary(path)["segments"]}


def check_after_kill(folder: Path, told: list[int]) -> None:
    """Of what was told of, nothing is lost but what came after the last multiple of the interval."""
    newest = max(map(steps_of, list_checkpoints(folder)), default=0)
    assert newest >= max(told, default=0) // SAVE_FREQ * SAVE_FREQ


def test_a_hundred_kills_lose_nothing_beyond_the_last_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {name: run(name, tmp_path / f"{name} undisturbed", TOTAL, save_freq=SAVE_FREQ)[1] for name in NAMES}
    rng = np.random.default_rng(int(os.environ.get("DRQN_SB3_KILL_SEED", "0")))
    n_kills = n_amid_writing = n_runs = 0
    while n_kills < N_KILLS:
        name, folder = NAMES[n_runs % len(NAMES)], tmp_path / f"run {n_runs}"
        status, newest = -signal.SIGKILL, 0
        while status == -signal.SIGKILL:
            lifetime = rng.uniform(0, LONGEST_LIFE) if n_kills < N_KILLS else None
            status, told, found = fork_run(name, folder, TOTAL, save_freq=SAVE_FREQ, lifetime=lifetime)
            assert status in (0, -signal.SIGKILL)
            if told:
                # Resumed from the newest checkpoint there was, none of which was lost by the kill
                assert told[0] == newest
            if status == -signal.SIGKILL:
                n_kills += 1
                n_amid_writing += any(path.endswith(UNFINISHED) for path in files(folder))
                check_after_kill(folder, told)
            newest = max(map(steps_of, list_checkpoints(folder)), default=0)
        n_runs += 1
        assert found == expected[name]
        assert files(folder) == files_needed(folder)
    with capsys.disabled():
        print(f"\n{n_kills} kills, {n_amid_writing} amid the writing of a file; {n_runs} runs ended as if undisturbed")
    assert n_amid_writing > 0
