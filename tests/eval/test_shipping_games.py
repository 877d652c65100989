"""Whether fresh games are like those of a card: the test behind the verdict, and the games that it is made with."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import FIRST_SEED, Made, make

from eval.shipping.card import expected_interval, fresh_seed, make_card
from eval.shipping.check import Finding, settings_for
from eval.shipping.games import GAMES, can_differ, permutation_p_value, read_games, write_games

EVALUATED = ("normal", "flicker-0.5")


def a_shipped(folder: Path) -> dict[str, Any]:
    """Write the games of a made-up agent; return its card."""
    result = make(folder / "result", Made(), lambda _, game: [-3.1, 0.0, 4.7][game % 3], EVALUATED, 6)
    write_games(folder, result.episodes())
    return make_card(result, "DRQN", [], {}, 1)


def test_the_p_value_is_the_share_of_partitions_that_are_as_far_apart() -> None:
    own, fresh = np.array([1.0, 1.0, 2.0, 5.0, 0.5]), np.array([4.0, 5.0, 5.0])
    pooled = np.concatenate([own, fresh])
    means = [
        (pooled[list(chosen)].mean(), np.delete(pooled, list(chosen)).mean()) for chosen in itertools.combinations(range(8), 3)
    ]
    apart = abs(fresh.mean() - own.mean()) - 1e-12
    exact = np.mean([abs(one - other) >= apart for one, other in means])
    assert 0.02 < exact < 0.5
    assert permutation_p_value(own, fresh, 20_000) == pytest.approx(exact, abs=4 * 0.5 / 20_000**0.5)
    assert permutation_p_value(own, fresh, 500, seed=3) == permutation_p_value(own, fresh, 500, seed=3)


SCORES: dict[str, Any] = {
    "nearly perfect": lambda generator, n: (generator.random(n) < 0.99).astype(float),
    "far from normal": lambda generator, n: generator.exponential(size=n) ** 3,
}


@pytest.mark.parametrize("draw", SCORES.values(), ids=SCORES.keys())
def test_an_agent_that_plays_as_its_card_says_is_seldom_found_to_play_otherwise(draw: Any) -> None:
    generator, repetitions = np.random.default_rng(0), 300
    p_values = [permutation_p_value(draw(generator, 100), draw(generator, 100), 199, seed) for seed in range(repetitions)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / repetitions) ** 0.5


def test_the_interval_holds_far_fewer_means_where_few_games_differ() -> None:
    generator, repetitions, inside = np.random.default_rng(0), 300, 0
    for _ in range(repetitions):
        own, fresh = (SCORES["nearly perfect"](generator, 100) for _ in range(2))
        low, high = expected_interval(float(own.mean()), float(own.std(ddof=1)), 100, 100)
        inside += low <= fresh.mean() <= high
    assert inside / repetitions < 0.9


def test_an_agent_that_plays_otherwise_is_found() -> None:
    generator = np.random.default_rng(0)
    well, badly = ((generator.random(100) < share).astype(float) for share in (0.99, 0.8))
    assert permutation_p_value(well, badly) < 0.001
    assert permutation_p_value(badly, well) < 0.001
    assert permutation_p_value(np.full(8, 5.0), np.full(8, 4.0)) < 0.001


def test_games_that_all_end_alike_are_alike() -> None:
    assert permutation_p_value(np.full(7, 0.1), np.full(3, 0.1), 99) == 1.0


@pytest.mark.parametrize(("own", "fresh", "resamples"), [(0, 2, 9), (2, 0, 9), (2, 2, 0)])
def test_nothing_cannot_be_compared(own: int, fresh: int, resamples: int) -> None:
    with pytest.raises(ValueError, match="own, fresh and resamples must be 1 at least"):
        permutation_p_value(np.zeros(own), np.zeros(fresh), resamples)


def test_few_games_cannot_differ() -> None:
    assert not can_differ(2, 2, 0.05)
    assert not can_differ(100, 1, 0.05 / 10)
    assert can_differ(8, 8, 0.05) and can_differ(1_000, 1_000, 0.05)


VERDICTS = {
    "as told": ({"p_value": 0.3}, False, "as its card says"),
    "just so": ({"p_value": 0.0101}, False, "as its card says"),
    "otherwise": ({"p_value": 0.01}, True, "OTHERWISE THAN ITS CARD SAYS"),
    "too few": ({"p_value": 0.3, "games": 1}, False, "too few games to tell"),
}


@pytest.mark.parametrize(("changes", "is_otherwise", "words"), VERDICTS.values(), ids=VERDICTS.keys())
def test_a_p_value_above_the_level_is_no_finding(changes: dict[str, Any], is_otherwise: bool, words: str) -> None:
    found = Finding(Path(), "normal", 50, 50, 0.5, 1.0, 2.0, 0.3, 0.01)._replace(**changes)
    assert (found.is_otherwise, found.verdict) == (is_otherwise, words)


def test_games_are_read_back_to_the_bit(tmp_path: Path) -> None:
    card = a_shipped(tmp_path)
    games = read_games(tmp_path, card)
    assert list(games.columns) == ["condition", "seed", "score"]
    assert games["score"].tolist() == [-3.1, 0.0, 4.7, -3.1, 0.0, 4.7] * 2
    assert games["seed"].tolist() == [*range(FIRST_SEED, FIRST_SEED + 6)] * 2


BAD_GAMES = {
    "missing": (None, "is missing: ship the agent again"),
    "no table": (lambda _: "", "can't be read"),
    "no score": (lambda text: text.replace("score", "points"), "can't be read"),
    "no number": (lambda text: text.replace("4.7", "many", 1), "can't be read"),
    "another score": (lambda text: text.replace("4.7", "4.8", 1), "must be the games of the card: under normal, mean and"),
    "another seed": (lambda text: text.replace("1000002", "1000022", 1), "6 games under normal, with seeds from 1000000 on"),
    "a game less": (lambda text: text[: text.rindex("flicker")], "must have 6 games under flicker-0.5"),
    "a condition less": (lambda text: text[: text.index("flicker")], r"under normal, flicker-0\.5, as the card, got normal"),
}


@pytest.mark.parametrize(("change", "message"), BAD_GAMES.values(), ids=BAD_GAMES.keys())
def test_games_that_are_not_the_cards_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    card, path = a_shipped(tmp_path), tmp_path / GAMES
    text = path.read_text()
    path.unlink() if change is None else path.write_text(change(text))
    with pytest.raises(ValueError, match=message):
        read_games(tmp_path, card)


def test_fresh_games_are_played_as_the_cards_but_for_their_seeds(tmp_path: Path) -> None:
    card = a_shipped(tmp_path)
    settings = settings_for(card)
    assert settings._asdict() == {**card["evaluation"], "first_seed": 2_000_000}
    assert settings_for(card, 3, 500_000)._replace(games=6, first_seed=2_000_000) == settings


def test_fresh_games_are_never_the_cards_own(tmp_path: Path) -> None:
    card = a_shipped(tmp_path)
    card["evaluation"].update(first_seed=2_000_000)
    assert fresh_seed(card) == settings_for(card).first_seed == 3_000_000
    card["evaluation"].update(games=1_500_000)
    assert fresh_seed(card) == 3_500_000
    card["evaluation"].update(games=6)
    assert settings_for(card, 4, 2_000_006).first_seed == 2_000_006
    assert settings_for(card, 4, 1_999_996).first_seed == 1_999_996
    for seed in (1_999_997, 2_000_000, 2_000_005):
        with pytest.raises(ValueError, match=f"whose seeds are 2000000 to 2000005, got {seed} for the first of 4"):
            settings_for(card, 4, seed)
