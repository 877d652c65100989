"""The answer at the top of the page."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from made_results import SWEEP, Made, make
from test_report_numbers import page_of, table_of, texts_of

from eval.report.comparison import Comparison
from eval.report.estimates import Estimate
from eval.report.page import Bullets

VERDICTS = {
    "above": (Estimate(2.0, 1.0, 3.0, 5), "helps"),
    "below": (Estimate(-2.0, -3.0, -1.0, 5), "costs"),
    "across": (Estimate(2.0, -1.0, 5.0, 5), "undecided"),
    "two runs": (Estimate(2.0, 1.0, 3.0, 2), "too few runs"),
    "one run": (Estimate(2.0, np.nan, np.nan, 1), "too few runs"),
}


@pytest.mark.parametrize(("gain", "expected"), VERDICTS.values(), ids=VERDICTS.keys())
def test_the_verdict_goes_by_the_gains_interval(gain: Estimate, expected: str) -> None:
    assert Comparison("drqn", "dqn", gain, Estimate(0.5, 0.1, 0.9, 5), 0.6).verdict == expected


def big_suite(root: Path, games: int = 4) -> None:
    """Memory helps a little in some games and costs in none, and with flicker it helps in all."""
    for number_of, game in enumerate(("Asteroids", "BeamRider", "Bowling", "Pong")[:games]):
        for condition, seed in product(("normal", "flicker-0.5"), range(3)):
            gain = 1.0 + number_of if condition == "flicker-0.5" else 0.0
            env = f"{game}NoFrameskip-v4"
            make(root, Made("drqn", env, condition, seed), 10.0 + seed / 4 + gain, [condition])
            make(root, Made("dqn", env, condition, seed), 10.0 + seed / 4, [condition])


def test_with_many_games_the_answer_is_that_of_all_together_and_the_table(tmp_path: Path) -> None:
    big_suite(tmp_path)
    page = page_of(tmp_path)
    first = next(block for block in page.blocks if isinstance(block, Bullets))
    assert [item.split(": ")[0] for item in first.items] == [
        "No clear difference in all 4 environments (normalised), normal",
        "Memory helps in all 4 environments (normalised), flicker-0.5",
    ]
    text = texts_of(page)
    assert "in PongNoFrameskip-v4, normal: drqn scores" not in text
    assert "One by one, of 8 cases: memory helps in" in text
    assert "These are 10 comparisons at 95% each: about one in twenty would show a difference by chance alone" in text
    table = table_of(page, "summary")
    assert len(table) == 10
    assert (table["env"].head(2) == "all 4 environments (normalised)").all()


def test_with_few_games_each_has_its_sentence_below_that_of_all(tmp_path: Path) -> None:
    big_suite(tmp_path, games=3)
    bullets = [block.items for block in page_of(tmp_path).blocks if isinstance(block, Bullets)]
    assert [len(items) for items in bullets[:2]] == [2, 6]


SAYS_MORE = {2: "", 3: "with 3 runs of each it reaches 0.50 even if every run of one beats every run of the other", 4: ""}


@pytest.mark.parametrize("n_runs", SAYS_MORE)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_probability_that_cannot_be_clearer_is_no_contradiction(tmp_path: Path, n_runs: int, sign: int) -> None:
    for seed in range(n_runs):
        make(tmp_path, Made("drqn", seed=seed), sign * (9.0 + seed))
        make(tmp_path, Made("dqn", seed=seed), sign * (1.0 + seed))
    text = texts_of(page_of(tmp_path))
    words = SAYS_MORE[n_runs]
    assert ("even if every run" in text) is bool(words)
    assert words in text
    assert "comparisons at 95% each" not in text


def test_an_agent_that_was_not_trained_here_keeps_no_share_in_the_summary(tmp_path: Path) -> None:
    make(tmp_path, Made(), 5.0, SWEEP)
    make(tmp_path, Made("visitor", condition=None, steps=7), 5.0, SWEEP, algo="drqn", trained_env="CartPole-v1")
    text = texts_of(page_of(tmp_path))
    assert "drqn keeps 100% (" in text
    assert "visitor keeps" not in text


def test_an_agent_that_was_not_trained_here_is_compared_with_nobody(tmp_path: Path) -> None:
    make(tmp_path, Made("dqn"), 1.0)
    make(tmp_path, Made("visitor", condition=None, steps=7), 5.0, algo="drqn", trained_env="CartPole-v1")
    page = page_of(tmp_path)
    assert "These results do not tell" in texts_of(page)
    assert table_of(page, "runs").set_index("agent")["trained_on"].to_dict() == {
        "dqn": "normal",
        "visitor": "not trained here",
    }
