"""
How far a job is: written by its process, read by whoever watches it.

``progress.json`` in the job's folder holds the phase, what is done of it, and the seconds spent so far, those of earlier
attempts included. Imports nothing that is heavy.
"""

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

PROGRESS = "progress.json"
INTERVAL = 1.0
"""Seconds between two writings at least."""
PHASES = ("training", "evaluating")


class Progress(NamedTuple):
    """
    How far a job is.

    :param phase: one of :data:`PHASES`
    :param done: steps trained, or games played
    :param of: steps or games in all
    :param seconds: spent in each phase, those of earlier attempts included
    """

    phase: str
    done: int
    of: int
    seconds: dict[str, float]

    @property
    def fraction(self) -> float:
        """Share of the phase that is done."""
        return min(self.done / self.of, 1.0) if self.of else 1.0


def read_progress(folder: Path) -> Progress | None:
    """
    :param folder: a job's
    :return: how far it is; None if it has not begun
    """
    try:
        return Progress(**json.loads((folder / PROGRESS).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # a machine that has lost power may leave an empty file: it only tells how far the job was


class Reporter:
    """
    Writes a job's progress, not too often.

    :param folder: the job's
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        before = read_progress(folder)
        self.seconds = {phase: 0.0 for phase in PHASES} | (before.seconds if before else {})
        self._began = self._written = time.monotonic()
        self._phase = PHASES[0]

    def begin(self, phase: str, of: int) -> None:
        """
        :param phase: one of :data:`PHASES`
        :param of: steps or games in all
        """
        self._phase, self._began = phase, time.monotonic()
        self.tell(0, of, at_once=True)

    def tell(self, done: int, of: int, at_once: bool = False) -> None:
        """
        :param done: steps trained, or games played
        :param of: steps or games in all
        :param at_once: whether to write even if something was written a moment ago
        """
        now = time.monotonic()
        if not at_once and now - self._written < INTERVAL:
            return
        self.seconds[self._phase] += now - self._began
        self._began = self._written = now
        unfinished = self.folder / f"{PROGRESS}.unfinished"
        unfinished.write_text(json.dumps(Progress(self._phase, done, of, self.seconds)._asdict()))
        os.replace(unfinished, self.folder / PROGRESS)
