"""
What an evaluation has finished, condition by condition, until its result is written: little is lost when it is stopped.

::

    parts/<key>/<condition>.csv     the games
    parts/<key>/<condition>.json    how long they took, and where they come from

The key stands for all that the games depend on: what was played in another way, or by another model, is never taken.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from eval.conditions import Condition
from eval.results import EPISODE_COLUMNS

PARTS = "parts"
ORIGIN = ("versions", "git", "machine")
"""Of a part: under which code, libraries and on which machine it was played."""


class Parts:
    """
    The finished conditions of one evaluation.

    :param folder: of the result
    :param key: all that the games of a condition depend on, but the condition, as JSON has it
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self._all = folder / PARTS
        self._folder = self._all / digest[:16]

    def read(self, condition: Condition) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """
        :param condition: that was played in
        :return: its games, columns :data:`~eval.results.EPISODE_COLUMNS`, and what was kept with them; ``None`` if it has not
            been finished
        """
        path = self._folder / f"{condition}.csv"
        if not path.exists():
            return None
        episodes = pd.read_csv(path, float_precision="round_trip").astype(EPISODE_COLUMNS)
        return episodes, json.loads(path.with_name(f"{condition}.json").read_text(encoding="utf-8"))

    def keep(
        self, condition: Condition, episodes: pd.DataFrame, seconds: float, origin: Mapping[str, Any]
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """
        :param condition: that was played in
        :param episodes: its games
        :param seconds: that they took
        :param origin: of these, :data:`ORIGIN` is kept
        :return: what :meth:`read` will return
        """
        from drqn_sb3.checkpoints.files import write_atomically

        self._folder.mkdir(parents=True, exist_ok=True)
        facts = {"seconds": seconds, **{name: origin[name] for name in ORIGIN}}
        write_atomically(self._folder / f"{condition}.json", [json.dumps(facts).encode()])
        # Last: where this file is, the part is whole
        write_atomically(self._folder / f"{condition}.csv", [episodes.to_csv(index=False).encode()])
        return episodes, facts

    def remove(self) -> None:
        """Remove all parts, those of other keys too: the result is there."""
        shutil.rmtree(self._all, ignore_errors=True)


def changes_among(origins: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    Find out what an evaluation began with, and what was different when it was gone on with.

    :param origins: of its parts, in the order in which they were played; one at least
    :return: :data:`ORIGIN` of the first, and of each that differs from the one before in anything but how busy the machine was
    """
    first, *others = ({name: origin[name] for name in ORIGIN} for origin in origins)
    changes, last = [], first
    for origin in others:
        if _without_load(origin) != _without_load(last):
            changes.append(origin)
            last = origin
    return first, changes


def _without_load(origin: Mapping[str, Any]) -> dict[str, Any]:
    machine = {name: value for name, value in origin["machine"].items() if name != "load"}
    return {**origin, "machine": machine}
