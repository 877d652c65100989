"""A run that was stopped and resumed ends as one that was never stopped, to the bit."""

from pathlib import Path

import pytest
from resumable_runs import MODELS, KilledError, run

TOTAL = 440


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_killed_twice_and_resumed_a_run_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    _, expected = run(name, tmp_path / "undisturbed", TOTAL)
    folder = tmp_path / "killed"
    for kill_at in (150, 333):
        with pytest.raises(KilledError):
            run(name, folder, TOTAL, kill_at)
    resumed_at, found = run(name, folder, TOTAL)
    assert resumed_at >= 300
    assert found == expected
