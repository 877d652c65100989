"""Medians and ratios of rounds. Imports neither PyTorch nor Stable-Baselines3."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """A median, and what it is the median of: the smallest, the largest, and how many."""

    median: float
    lowest: float
    highest: float
    n: int


class Summary(NamedTuple):
    """
    What became of a contestant's rounds.

    :param rate: units per second
    :param ratio: how many times as fast the reference was in the same round; ``None`` if they share no round
    """

    rate: Spread
    ratio: Spread | None


def spread(values: Sequence[float]) -> Spread:
    """
    :param values: at least one
    :return: median, extremes and number
    :raises ValueError: if there are none
    """
    if not values:
        raise ValueError("values must hold at least one, got none")
    return Spread(median(values), min(values), max(values), len(values))


def summarize(rates: Mapping[str, Mapping[int, float]], reference: str) -> dict[str, Summary]:
    """
    Medians over rounds, and ratios round by round: whatever slowed a round down slowed both sides of its ratio.

    :param rates: contestant -> round -> units per second; a contestant without rounds is left out
    :param reference: the contestant that the others are compared with; it need not have any
    :return: contestant -> summary
    """
    base = rates.get(reference, {})
    summaries = {}
    for name, rounds in rates.items():
        if not rounds:
            continue
        ratios = [base[i] / rate for i, rate in rounds.items() if i in base]
        summaries[name] = Summary(spread(list(rounds.values())), spread(ratios) if ratios else None)
    return summaries


def rotated(names: Sequence[str], by: int) -> list[str]:
    """
    The order of a round: each contestant comes first, second and so on equally often.

    :param names: the contestants
    :param by: the round's number
    :return: the same names, those of the first ``by`` moved behind the others
    """
    if not names:
        return []
    by %= len(names)
    return [*names[by:], *names[:by]]
