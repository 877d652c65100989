"""Numbers and names as the page shows them."""

import math
from collections.abc import Sequence

from eval.conditions import KINDS, NORMAL, Condition


def number(value: float) -> str:
    """
    :param value: a score
    :return: with as many digits as its size calls for: no decimals from 1,000 on, one from 100 on, else two
    """
    if not math.isfinite(value):
        return "-"
    digits = 0 if abs(value) >= 999.95 else 1 if abs(value) >= 99.995 else 2
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text


def signed(value: float) -> str:
    """
    :param value: a difference of scores
    :return: with its sign
    """
    text = number(value)
    return text if value < 0 or text == "-" else f"+{text}"


def percent(value: float) -> str:
    """
    :param value: a share
    :return: in whole percent
    """
    return "-" if not math.isfinite(value) else f"{round(100 * value):d}%"


def interval(low: float, high: float, n_runs: int) -> str:
    """
    :param low: lower end
    :param high: upper end
    :param n_runs: that it is estimated from; one run has no interval
    :return: both ends, or that there is none
    """
    return f"{number(low)} to {number(high)}" if n_runs > 1 and math.isfinite(low) and math.isfinite(high) else "-"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """
    :param count: of things
    :param noun: for one
    :param nouns: for another count; the noun with an ``s`` by default
    :return: count and noun
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(items: Sequence[str]) -> str:
    """
    :param items: of a list
    :return: in a sentence
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def steps_text(steps: int) -> str:
    """
    :param steps: agent steps
    :return: with thousands apart, or that there was no training
    """
    return f"{steps:,}" if steps else "-"


def describe(condition: str) -> str:
    """
    :param condition: a canonical text
    :return: what it means
    """
    if condition == NORMAL:
        return "everything is seen"
    return "; ".join(_describe_part(kind, level) for kind, level in Condition.parse(condition).parts)


def _describe_part(kind: str, level: float | None) -> str:
    means = {
        "repeat": f"each action is held for {level or 0:g} steps of the environment",
        "hide_velocity": "velocities are hidden",
        "noise": f"Gaussian noise of standard deviation {level or 0:g} is added",
        "freeze": f"with probability {level or 0:g} the last observation stays",
        "flicker": f"each observation is shown with probability {level or 0:g}, else zeros",
    }
    return means.get(kind, KINDS[kind].means)
