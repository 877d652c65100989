"""What an evaluation has finished is kept, and taken only for the same evaluation."""

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eval.conditions import Condition
from eval.evaluation.parts import Parts, changes_among
from eval.results import EPISODE_COLUMNS

FLICKER = Condition.parse("hide_velocity+flicker-0.5")
KEY: dict[str, Any] = {"files": "ab12", "settings": {"games": 2, "epsilon": 0.1}, "spec": {"env_id": "X-v0"}}
ORIGIN: dict[str, Any] = {
    "versions": {"torch": "2.13"},
    "git": {"commit": "c0ffee", "dirty": False},
    "machine": {"cpu": "a", "device": "cpu", "load": 0.5},
}


def games() -> pd.DataFrame:
    rows = [(str(FLICKER), game, 7 + game, 0.1 + 0.2 * game, 9, 0, 1) for game in range(2)]
    return pd.DataFrame(rows, columns=list(EPISODE_COLUMNS)).astype(EPISODE_COLUMNS)


def test_what_is_kept_is_read_back_to_the_bit(tmp_path: Path) -> None:
    kept = Parts(tmp_path / "new", KEY).keep(FLICKER, games(), 1.25, {**ORIGIN, "command": "not kept"})
    found = Parts(tmp_path / "new", dict(reversed(KEY.items()))).read(FLICKER)  # the order of a key's names is none of it
    assert found is not None and found[0].equals(games()) and found[0].equals(kept[0])
    assert found[1] == kept[1] == {"seconds": 1.25, **ORIGIN}
    assert Parts(tmp_path / "new", KEY).read(Condition()) is None


OTHERS: dict[str, dict[str, Any]] = {
    "another model": {"files": "ab13"},
    "other settings": {"settings": {"games": 3, "epsilon": 0.1}},
    "another environment": {"spec": {"env_id": "X-v1"}},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_parts_of_anything_else_are_not_taken(other: dict[str, Any], tmp_path: Path) -> None:
    Parts(tmp_path, KEY).keep(FLICKER, games(), 1.0, ORIGIN)
    assert Parts(tmp_path, {**KEY, **other}).read(FLICKER) is None


def test_half_a_part_is_none(tmp_path: Path) -> None:
    Parts(tmp_path, KEY).keep(FLICKER, games(), 1.0, ORIGIN)
    (table,) = tmp_path.rglob("*.csv")
    table.unlink()  # it is written last
    assert Parts(tmp_path, KEY).read(FLICKER) is None


def test_in_the_end_all_parts_go(tmp_path: Path) -> None:
    Parts(tmp_path, KEY).keep(FLICKER, games(), 1.0, ORIGIN)
    other = Parts(tmp_path, {**KEY, "files": "other"})
    other.remove()
    other.remove()
    assert list(tmp_path.iterdir()) == []


def changed(*path: str, to: Any) -> dict[str, Any]:
    origin = copy.deepcopy(ORIGIN)
    inner = origin
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return origin


BUSY, NEW_TORCH = changed("machine", "load", to=9.0), changed("versions", "torch", to="3.0")
ON_GPU, NO_GIT = changed("machine", "device", to="H200"), changed("git", to=None)
CHANGES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "one part": ([ORIGIN], []),
    "the same": ([ORIGIN, ORIGIN], []),
    "busier": ([ORIGIN, BUSY, ORIGIN], []),
    "another version": ([ORIGIN, NEW_TORCH, NEW_TORCH], [NEW_TORCH]),
    "there and back": ([ORIGIN, ON_GPU, ORIGIN], [ON_GPU, ORIGIN]),
    "one after the other": ([ORIGIN, NO_GIT, NEW_TORCH], [NO_GIT, NEW_TORCH]),
}


@pytest.mark.parametrize(("origins", "changes"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_noted_each_time_it_is_gone_on_with_differently(
    origins: list[dict[str, Any]], changes: list[dict[str, Any]]
) -> None:
    assert changes_among({**origin, "seconds": 1.0} for origin in origins) == (ORIGIN, changes)
