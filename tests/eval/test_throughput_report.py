"""Tables, picture and roofline of made-up results."""

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

from eval.throughput import report
from eval.throughput.flops import update_flops
from eval.throughput.plots import draw
from eval.throughput.pool import NOT_INSTALLED
from eval.throughput.stats import Spread


def contestant(rates: list[float], status: str = "measured", **info: Any) -> dict[str, Any]:
    rounds = [{"round": i, "position": 0, "count": 2 * rate, "seconds": 2.0} for i, rate in enumerate(rates)]
    return {"status": status, "info": info, "rounds": rounds, "extras": {}}


def make_results() -> dict[str, Any]:
    size: dict[str, Any] = {"parameters": 7_550_118, "frames_per_update": 320}
    updates = {
        "drqn_sb3": contestant([10.0, 12.0, 14.0], **size, precision="bfloat16"),
        "plain DRQN, float32": contestant([5.0, 5.0, 7.0], **size, precision="float32"),
        "SB3 DQN": contestant([50.0, 48.0, 56.0], parameters=1_687_206, frames_per_update=32, precision="float32"),
        "PFRL DRQN": contestant([], NOT_INSTALLED),
        "TorchRL DRQN": contestant([4.0], "failed: RuntimeError: out of luck", **size, precision="float32"),
    }
    updates["drqn_sb3"]["extras"]["profile"] = [
        {"part": "gather", "seconds_per_update": 0.01, "share": 0.1},
        {"part": "convolutions", "seconds_per_update": 0.09, "share": 0.9},
    ]
    peak = {"bfloat16": contestant([1e12, 1e12, 2e12]), "float32": contestant([4e11, 5e11, 6e11])}
    results: dict[str, Any] = {
        "arguments": {"image_size": 84, "hidden_size": 512, "n_actions": 6, "batch_size": 32, "sequence_length": 10},
        "device": "cpu",
        "machine": {"cpu": "An abacus", "cores": 2, "instructions": ["avx2"], "load": 0.1},
        "measurements": [
            {"name": name, "title": title, "unit": unit, "reference": reference, "contestants": contestants}
            for name, title, unit, reference, contestants in (
                ("updates", "Learner updates", "updates", "drqn_sb3", updates),
                ("peak", "Peak", "FLOP", "float32", peak),
            )
        ],
        "bytes_per_step": {
            "SequenceReplayBuffer": {"status": "measured", "steps": 900, "traced": 7100.0, "resident": 7408.8, "device": 0.0},
            "ReplayBuffer": {"status": "failed: MemoryError: "},
        },
    }
    results["arguments"]["threads"] = 2
    return {**results, "roofline": report.roofline(results)}


def row_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def test_a_row_holds_median_spread_frames_ratio_and_size() -> None:
    table = report.measurement_table(make_results()["measurements"][0])
    cells = row_of(table, "plain DRQN, float32").split()[3:]
    assert cells == ["5", "5", "7", "1,600", "3", "2.00", "(2.00", "to", "2.40)", "7,550,118", "float32"]
    assert row_of(table, "SB3 DQN").split()[2:6] == ["50", "48", "56", "1,600"]


def test_columns_that_hold_nothing_are_left_out() -> None:
    assert report.lay_out([["", "a", "b"], ["x", "", "2"]]) == "   b\n----\nx  2"


def test_who_is_missing_or_has_failed_is_named() -> None:
    text = report.render(make_results())
    assert row_of(text, "PFRL DRQN") == "PFRL DRQN: not installed: make bench-peers"
    assert "TorchRL DRQN: failed: RuntimeError: out of luck" in text.splitlines()
    assert "ReplayBuffer: failed: MemoryError: " in text.splitlines()


def test_only_what_is_broken_is_a_failure() -> None:
    results = make_results()
    results["measurements"][0]["contestants"]["drqn_sb3"]["extras"]["flops_error"] = "lost count"
    assert report.failures(results) == [
        "TorchRL DRQN: failed: RuntimeError: out of luck",
        "ReplayBuffer: failed: MemoryError: ",
        "drqn_sb3: flops_error: lost count",
    ]


def test_the_roofline_takes_the_peak_of_the_precision() -> None:
    rows = {row["contestant"]: row for row in make_results()["roofline"]}
    assert list(rows) == ["drqn_sb3", "plain DRQN, float32"], "others compute something else"
    flops = update_flops(84, 512, 6, 32, 10)
    assert rows["drqn_sb3"]["share"] == pytest.approx(12 * flops / 1e12)
    assert rows["plain DRQN, float32"]["share"] == pytest.approx(5 * flops / 5e11)
    assert rows["drqn_sb3"]["flops_per_update"] == flops


def test_there_is_no_roofline_without_a_peak() -> None:
    results = make_results()
    results["measurements"].pop()
    assert report.roofline(results) == []


def test_memory_is_the_larger_of_both_measurements_in_frames() -> None:
    results = make_results()
    table = report.memory_table(results["bytes_per_step"], 84)
    assert row_of(table, "SequenceReplayBuffer").split()[1:] == ["7,100", "7,409", "0", "1.050", "900"]


def test_the_profile_begins_with_what_takes_longest() -> None:
    lines = report.render(make_results()).split("Where an update's time goes: drqn_sb3\n")[1].splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["convolutions", "gather"]
    assert lines[2].split()[1:] == ["90.00", "90.0%"]


@pytest.mark.parametrize(("load", "says_so"), [(0.1, False), (1.7, True), (None, False)])
def test_a_busy_machine_is_told_of(load: float | None, says_so: bool) -> None:
    results = make_results()
    results["machine"]["load"] = load
    assert ("was busy" in report.render(results)) is says_so


NUMBERS = {3.14159: "3.14", 0.5: "0.5", 99.9: "99.9", 1234.6: "1,235", 2.5e6: "2.5 M", 3.4e9: "3.4 G", 1.5e12: "1.5 T"}


@pytest.mark.parametrize(("value", "words"), NUMBERS.items())
def test_numbers_have_three_digits(value: float, words: str) -> None:
    assert report.number(value) == words


def test_results_survive_json() -> None:
    results = make_results()
    assert json.loads(json.dumps(results)) == results
    assert report.summaries(results["measurements"][0])["drqn_sb3"].rate == Spread(12, 10, 14, 3)


def test_the_picture_shows_every_contestant_and_n() -> None:
    results = make_results()
    results["measurements"].append({**deepcopy(results["measurements"][0]), "name": "acting", "title": "Acting"})
    figure = draw(results)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Learner updates", "Acting"], "the peak is no contest"
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and len(axes.containers) == 4
    assert [label.get_text() for label in axes.get_yticklabels()] == list(results["measurements"][0]["contestants"])
    texts = " ".join(text.get_text() for text in axes.texts)
    assert texts.count("(n=3)") == 3 and "(n=1)" in texts and NOT_INSTALLED in texts
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert np.ptp(np.asarray(canvas.buffer_rgba())[..., :3]) == 255


def dots(axes: Axes) -> list[Line2D]:
    """The medians, from top to bottom."""
    return [container.lines[0] for container in axes.containers if isinstance(container, ErrorbarContainer)]


def test_a_dot_lies_at_the_median_in_the_row_of_its_name() -> None:
    places = [np.asarray(dot.get_xydata()).tolist() for dot in dots(draw(make_results()).axes[0])]
    assert places == [[[12, 0]], [[5, 1]], [[50, 2]], [[4, 4]]]


def test_only_what_this_project_brings_is_in_colour() -> None:
    results = make_results()
    envs = {name: contestant([3.0]) for name in ("AtariVecEnv", "DummyVecEnv", "SubprocVecEnv")}
    entry = {"name": "envs", "title": "Stepping", "unit": "steps", "reference": "DummyVecEnv", "contestants": envs}
    updates, stepping = draw({**results, "measurements": [results["measurements"][0], entry]}).axes
    assert [dot.get_color() == "tab:blue" for dot in dots(updates)] == [True, False, False, False]
    assert [dot.get_color() == "tab:blue" for dot in dots(stepping)] == [True, False, False]
