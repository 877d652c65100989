"""Killed at three points, twice in a row, and resumed: to the bit the agent of a run that was never stopped."""

import os
import signal
from pathlib import Path

import pytest
from forked_runs import fork_run
from resumable_runs import run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")]

TOTAL = 900
# Early, while actions are random; as learning begins; late. Amid a rollout, behind a checkpoint, just before one
POINTS = [(31, 38), (117, 241), (598, 801)]


@pytest.mark.parametrize("name", ["slimevolley pixels", "slimevolley pixels in bfloat16", "pong"])
@pytest.mark.parametrize("points", POINTS, ids=str)
def test_killed_twice_in_a_row(name: str, points: tuple[int, int], tmp_path: Path) -> None:
    _, expected = run(name, tmp_path / "undisturbed", TOTAL, save_freq=30)
    for point in points:
        status, _, _ = fork_run(name, tmp_path / "killed", TOTAL, save_freq=30, kill_at=point)
        assert status == -signal.SIGKILL
    status, told, found = fork_run(name, tmp_path / "killed", TOTAL, save_freq=30)
    assert status == 0 and told[0] >= points[1] // 30 * 30
    assert found == expected
