"""What the checks find, and how it is put into words: every fault by name, with the folder."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from eval.conditions import Condition
from eval.report.data import NOT_TRAINED, trained_on
from eval.results import Result

ERROR, MISSING, NOTE = "error", "missing", "note"
AT_MOST = 5
"""Things that one finding lists before it counts the rest."""

Run: TypeAlias = tuple[str, str, str, int | None]
"""Environment, agent, training condition, seed."""


class Finding(NamedTuple):
    """
    One thing to know about the results.

    :param kind: :data:`ERROR`, :data:`MISSING` (an error unless it is accepted) or :data:`NOTE`
    :param text: what it is, and where
    """

    kind: str
    text: str


def run_of(result: Result) -> Run:
    """
    :param result: a result
    :return: what there may be one of
    """
    return result.env, result.agent, trained_on(result), result.seed


def trained_here(results: Sequence[Result]) -> list[Result]:
    """
    :param results: any
    :return: those of agents that were trained in the environment that they were evaluated in
    """
    return [result for result in results if trained_on(result) != NOT_TRAINED]


def canonical(text: str) -> str:
    """
    :param text: of a condition
    :return: the text that all that mean the same have
    """
    return str(Condition.parse(text))


def group(results: Sequence[Result], key: Callable[[Result], Any]) -> dict[Any, list[Result]]:
    """
    :param results: any
    :param key: what those of a group have in common
    :return: key -> results, in the order of the keys' texts
    """
    groups: dict[Any, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return dict(sorted(groups.items(), key=lambda item: str(item[0])))


def by_value(results: Sequence[Result], value: Callable[[Result], str]) -> str:
    """
    :param results: any
    :param value: in which they differ
    :return: each value with its folders
    """
    return "; ".join(f"{name} in {folders(same)}" for name, same in group(results, value).items())


def folders(results: Sequence[Result]) -> str:
    """
    :param results: any
    :return: where they lie
    """
    return some({str(result.folder) for result in results})


def some(things: Iterable[Any]) -> str:
    """
    :param things: texts, numbers or None
    :return: the first :data:`AT_MOST` of them in order, and how many more there are
    """
    ordered = sorted(things, key=lambda thing: (type(thing).__name__, thing))
    shown = ", ".join(map(str, ordered[:AT_MOST]))
    return shown if len(ordered) <= AT_MOST else f"{shown} and {len(ordered) - AT_MOST} more"


def full_name(env: str, agent: str, trained: str) -> str:
    """
    :param env: an environment
    :param agent: an agent
    :param trained: its condition of training
    :return: all three in words
    """
    return f"{agent} in {env} ({trained if trained == NOT_TRAINED else f'trained on {trained}'})"
