"""Real worker processes that are measured in turn, and what becomes of those that are missing, fail, or end."""

import sys
from pathlib import Path
from typing import Any

import pytest

from eval.throughput.contestants import Contestant, Measurement
from eval.throughput.pool import NOT_INSTALLED, Worker, WorkerError, interpreters
from eval.throughput.protocol import Work
from eval.throughput.rounds import Field, n_ticks, run_measurement

WORK = Work("", "cpu", 1, 0, 0.005, 36, 16, 3, 2, 4, 2, 100, 20, {})
MODULE = "tests.eval.clock_worker"


def make_field(folder: Path, timeout: float = 30) -> Field:
    missing = folder / "nowhere" / "python"
    return Field(interpreters(missing, missing), folder / "logs", timeout)


def measure(folder: Path, options: dict[str, dict[str, Any]], n_rounds: int = 3, **kwargs: Any) -> tuple[Any, list[str]]:
    """Measure contestants of these names and options; what came of it, and the ticks."""
    contestants = tuple(
        Contestant(name, MODULE, "pfrl" if "missing" in name else "own", {"name": name, **entry})
        for name, entry in options.items()
    )
    measurement = Measurement("ticks", "Ticking", "ticks", "a", contestants, 0.005, 2, "updates")
    ticks: list[str] = []
    result = run_measurement(measurement, WORK, make_field(folder), n_rounds, ticks.append, **kwargs)
    assert len(ticks) <= n_ticks([measurement], n_rounds, sum(map(len, kwargs.get("extras", {}).values())))
    return result["contestants"], ticks


class Diary:
    """Begins with the first round: what workers do to warm up is not written down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, tick: str) -> None:
        if "round" in tick:
            self.path.touch()


def test_workers_take_turns_in_an_order_that_rotates(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary")
    contestants = tuple(Contestant(name, MODULE, options={"name": name, "diary": str(diary.path)}) for name in "abc")
    measurement = Measurement("ticks", "Ticking", "ticks", "a", contestants, 0.005, 2, "updates")
    result = run_measurement(measurement, WORK, make_field(tmp_path), 3, diary.begin)
    assert diary.path.read_text().split() == [*"abc", *"bca", *"cab"]
    places = {name: [entry["position"] for entry in result["contestants"][name]["rounds"]] for name in "abc"}
    assert places == {"a": [0, 2, 1], "b": [1, 0, 2], "c": [2, 1, 0]}


def test_each_contestant_has_a_process_and_a_rate_of_its_own(tmp_path: Path) -> None:
    entries, _ = measure(tmp_path, {"a": {}, "b": {}})
    assert entries["a"]["info"]["pid"] != entries["b"]["info"]["pid"]
    for entry in entries.values():
        assert entry["status"] == "measured" and [round_["round"] for round_ in entry["rounds"]] == [0, 1, 2]
        assert all(0 < round_["count"] / round_["seconds"] <= 10_000 for round_ in entry["rounds"])


def test_who_is_not_installed_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    entries, ticks = measure(tmp_path, {"a": {}, "missing": {}})
    assert entries["missing"]["status"] == NOT_INSTALLED == "not installed: make bench-peers"
    assert len(entries["a"]["rounds"]) == 3 and entries["missing"]["rounds"] == []
    assert "missing: building" in ticks


def test_who_ends_is_reported_as_failed(tmp_path: Path) -> None:
    entries, _ = measure(tmp_path, {"a": {}, "b": {"dies": True}})
    assert entries["b"]["status"].startswith("failed: ended with status 3, see logs/")
    assert (tmp_path / entries["b"]["status"].split(" see ")[1]).exists()
    assert len(entries["a"]["rounds"]) == 3


def test_who_fails_in_a_round_is_not_asked_again(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary")
    options = {"diary": str(diary.path)}
    contestants = (
        Contestant("a", MODULE, options={**options, "name": "a"}),
        Contestant("b", MODULE, options={**options, "name": "b", "fails": True}),
    )
    measurement = Measurement("ticks", "Ticking", "ticks", "a", contestants, 0.005, 2, "updates")
    entries = run_measurement(measurement, WORK, make_field(tmp_path), 3, diary.begin)["contestants"]
    assert entries["b"]["status"] == "failed: ValueError: no more" and entries["b"]["rounds"] == []
    assert len(entries["a"]["rounds"]) == 3


def test_extras_are_asked_for_and_a_failure_leaves_the_rounds_alone(tmp_path: Path) -> None:
    entries, _ = measure(tmp_path, {"a": {}, "b": {}}, extras={"a": ["double", "broken"], "nobody": ["double"]})
    assert entries["a"]["extras"]["double"] == 42
    assert "ZeroDivisionError" in entries["a"]["extras"]["broken_error"]
    assert entries["a"]["status"] == "measured" and entries["b"]["extras"] == {}


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    contestant = Contestant("a", MODULE, options={"hangs": True})
    field = make_field(tmp_path, timeout=3)
    with field.start("ticks", contestant, 1) as worker, pytest.raises(WorkerError, match="ended with status -9"):
        worker.build(WORK._replace(options=contestant.options))


def test_closing_ends_the_process(tmp_path: Path) -> None:
    python = {"own": Path(sys.executable)}
    worker = Worker(Contestant("a", MODULE), python, 1, tmp_path / "log", 30)
    worker.build(WORK)
    worker.close()
    assert worker.process.returncode == 0
