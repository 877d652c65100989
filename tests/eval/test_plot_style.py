"""The words and looks that figures share."""

import pandas as pd
import pytest

from eval.plot_style import COLORS, footnote_text, look, runs_text, steps_text, wrapped

STEPS = {0: "0", 999: "999", 1000: "1k", 250_000: "250k", 1_000_000: "1M", 1_500_000: "1.5M", 2.5e9: "2.5G", 0.5: "0.5"}


@pytest.mark.parametrize(("steps", "expected"), STEPS.items())
def test_steps_are_counted_in_thousands_millions_and_billions(steps: float, expected: str) -> None:
    assert steps_text(steps) == expected


RUNS = {
    "all alike": ({"n_runs": [5, 5]}, None, "n = 5 runs"),
    "unequal": ({"n_runs": [3, 5]}, None, "n = 3 to 5 runs"),
    "games": ({"n_runs": [5]}, 100, "n = 5 runs, 100 games each"),
    "tasks": ({"n_runs": [5], "n_tasks": [9]}, 10, "n = 5 runs on each of 9 tasks, 10 games each"),
    "one task": ({"n_runs": [5], "n_tasks": [1]}, None, "n = 5 runs"),
    "one run": ({"n_runs": [1]}, None, "n = 1 run; no interval for a single run"),
    "one run among others": ({"n_runs": [1, 3]}, None, "n = 1 to 3 runs; no interval for a single run"),
    "the other's runs count": ({"n_runs": [5], "n_other": [2]}, None, "n = 2 to 5 runs"),
}


@pytest.mark.parametrize(("columns", "games", "expected"), RUNS.values(), ids=RUNS.keys())
def test_a_figure_says_what_it_rests_on(columns: dict[str, list[int]], games: int | None, expected: str) -> None:
    assert runs_text(pd.DataFrame(columns), games) == expected


def test_text_is_broken_at_spaces_and_not_at_hyphens() -> None:
    assert wrapped("burn-in of n-step returns", 10) == "burn-in of\nn-step\nreturns"
    assert wrapped(1.5, 10) == "1.5"


def test_each_part_of_a_footnote_starts_a_line() -> None:
    assert footnote_text(["band: interval", "", "n = 5 runs"], 80) == "band: interval\nn = 5 runs"


def test_the_first_seven_agents_have_colours_of_their_own() -> None:
    agents = list("abcdefg")
    assert [look(agent, agents).color for agent in agents] == list(COLORS)


def test_a_look_is_only_for_agents_that_were_named() -> None:
    with pytest.raises(ValueError, match=r"got \['dqn'\] without 'drqn'"):
        look("drqn", ["dqn"])
