"""Medians, ratios and the order of rounds, against values worked out by hand."""

from collections import Counter

import pytest

from eval.throughput.stats import Spread, Summary, rotated, spread, summarize

Rounds = dict[int, float]

SPREADS = {
    "one": ([3.0], Spread(3, 3, 3, 1)),
    "odd": ([5.0, 1.0, 2.0], Spread(2, 1, 5, 3)),
    "even": ([4.0, 1.0, 2.0, 9.0], Spread(3, 1, 9, 4)),
}


@pytest.mark.parametrize(("values", "expected"), SPREADS.values(), ids=SPREADS.keys())
def test_a_spread_is_median_extremes_and_number(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected


def test_there_is_no_median_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one, got none"):
        spread([])


OURS: Rounds = {0: 10.0, 1: 20.0, 2: 40.0}
RATIOS = {
    "the same every round": ({0: 5.0, 1: 10.0, 2: 20.0}, Summary(Spread(10, 5, 20, 3), Spread(2, 2, 2, 3))),
    "round by round, not of the medians": (
        {0: 1.0, 1: 20.0, 2: 20.0},
        Summary(Spread(20, 1, 20, 3), Spread(2, 1, 10, 3)),
    ),
    "faster than the reference": ({0: 40.0, 1: 40.0, 2: 40.0}, Summary(Spread(40, 40, 40, 3), Spread(0.5, 0.25, 1, 3))),
    "not in every round": ({2: 8.0}, Summary(Spread(8, 8, 8, 1), Spread(5, 5, 5, 1))),
    "in no round of the reference": ({7: 8.0}, Summary(Spread(8, 8, 8, 1), None)),
}


@pytest.mark.parametrize(("theirs", "expected"), RATIOS.values(), ids=RATIOS.keys())
def test_ratios_say_how_many_times_as_fast_the_reference_was(theirs: Rounds, expected: Summary) -> None:
    assert summarize({"ours": OURS, "theirs": theirs}, "ours")["theirs"] == expected


def test_the_reference_is_as_fast_as_itself() -> None:
    assert summarize({"ours": OURS}, "ours")["ours"] == Summary(Spread(20, 10, 40, 3), Spread(1, 1, 1, 3))


def test_who_was_not_measured_is_left_out() -> None:
    summaries = summarize({"ours": {}, "theirs": {0: 2.0}}, "ours")
    assert summaries == {"theirs": Summary(Spread(2, 2, 2, 1), None)}


def test_everyone_has_every_place_equally_often() -> None:
    names = ["a", "b", "c"]
    orders = [rotated(names, i) for i in range(6)]
    assert orders[:4] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    places = Counter((name, place) for order in orders for place, name in enumerate(order))
    assert set(places.values()) == {2} and len(places) == 9


def test_nobody_has_no_order() -> None:
    assert rotated([], 3) == []
