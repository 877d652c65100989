"""
Watching jobs run: how far they are, how long it will take, and what became of them.

On a terminal, bars that are drawn over; in a file, a line whenever a job begins or ends.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from eval.run.execution import TOLD_TO_STOP, TRAINING_LOG, Executor, State
from eval.run.progress import PHASES, read_progress

POLL_SECONDS = 0.5
MAX_LINES = 12
"""Jobs that are shown at once on a terminal."""
EVALUATING = 0.15
"""Share of a job's time that is taken to be its evaluation, as long as nothing is known."""


def watch(executor: Executor, folders: Sequence[Path], results: Path, finished: Callable[[Path], bool]) -> dict[Path, State]:
    """
    Look at jobs until all have ended.

    :param executor: that runs them
    :param folders: the jobs'
    :param results: the suite's folder, of which names are told
    :param finished: tells whether a job's result is there
    :return: how it went with each
    """
    console = Console(highlight=False)
    display = Display(console, folders, results)
    with display:
        while True:
            states = executor.states()
            display.show(states)
            if all(states[folder].name == "ended" for folder in folders):
                return {folder: _judged(states[folder], finished(folder)) for folder in folders}
            time.sleep(POLL_SECONDS)


def _judged(state: State, is_finished: bool) -> State:
    """A result that is there has the last word: some executors don't know how a process ended."""
    return state._replace(status=0) if is_finished else state._replace(status=state.status or 1)


class Display:
    """
    Shows how it stands.

    :param console: where
    :param folders: the jobs'
    :param results: the suite's folder
    """

    def __init__(self, console: Console, folders: Sequence[Path], results: Path) -> None:
        self.console = console
        self.folders = folders
        self.results = results
        self.start = time.monotonic()
        self.began: dict[Path, float] = {}
        self.took: dict[Path, float] = {}
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, states: Mapping[Path, State]) -> None:
        """
        :param states: how it stands with the jobs
        """
        now = time.monotonic()
        for folder in self.folders:
            state = states[folder]
            if state.name == "running" and folder not in self.began:
                self.began[folder] = now
                if self._live is None:
                    self.console.print(f"{_beginning(folder)} {self._name(folder)}", soft_wrap=True)
            elif state.name == "ended" and folder not in self.took:
                self.took[folder] = now - self.began.setdefault(folder, now)
                self._tell_end(folder, state, states)
        if self._live is not None:
            self._live.update(self._bars(states))

    def _tell_end(self, folder: Path, state: State, states: Mapping[Path, State]) -> None:
        if state.status in (0, None):
            words = "finished"
        elif state.status == TOLD_TO_STOP:
            words = "stopped "
        else:
            words = "FAILED  "
        text = f"{words} {self._name(folder)} after {clock(self.took[folder])}{_in_brackets(state.told)}; {self._left(states)}"
        self.console.print(text, soft_wrap=True)
        if words == "FAILED  ":
            self.console.print(last_lines(folder / TRAINING_LOG), soft_wrap=True)

    def _left(self, states: Mapping[Path, State]) -> str:
        n_ended = sum(state.name == "ended" for state in states.values())
        text = f"{n_ended} of {len(self.folders)} jobs"
        seconds = self._seconds_left(states)
        return text if seconds is None or seconds < 1 else f"{text}, about {clock(seconds)} left"

    def _seconds_left(self, states: Mapping[Path, State]) -> float | None:
        fractions = {
            folder: fraction(folder) for folder in self.folders if states[folder].name == "running" and folder in self.began
        }
        now = time.monotonic()
        known = dict(self.took)
        for folder, done in fractions.items():
            if done > 0.05:
                known[folder] = (now - self.began[folder]) / done
        return seconds_left(self.folders, known, {**fractions, **dict.fromkeys(self.took, 1.0)}, max(len(fractions), 1))

    def _bars(self, states: Mapping[Path, State]) -> Group:
        bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), console=self.console
        )
        running = [folder for folder in self.folders if states[folder].name == "running"]
        for folder in running[:MAX_LINES]:
            progress = read_progress(folder)
            phase = progress.phase if progress else "starting"
            bars.add_task(f"{self._name(folder)} {phase}", total=100, completed=round(100 * fraction(folder)))
        more = f", {len(running) - MAX_LINES} more running" if len(running) > MAX_LINES else ""
        return Group(bars, Text(f"{self._left(states)}{more}; {clock(time.monotonic() - self.start)} so far"))

    def _name(self, folder: Path) -> str:
        return folder.relative_to(self.results).as_posix()


def _beginning(folder: Path) -> str:
    """Whether the job begins, or was begun before."""
    return "goes on " if read_progress(folder) else "begins  "


def fraction(folder: Path) -> float:
    """
    :param folder: a job's
    :return: share of the job's time that is done, as far as that is known
    """
    progress = read_progress(folder)
    if progress is None:
        return 0.0
    if progress.phase == PHASES[0]:
        return (1 - EVALUATING) * progress.fraction
    return 1 - EVALUATING * (1 - progress.fraction)


def seconds_left(
    folders: Sequence[Path], known: Mapping[Path, float], done: Mapping[Path, float], n_parallel: int
) -> float | None:
    """
    Estimate the time that is left. A job is taken to need as long as those of its environment and agent did.

    :param folders: the jobs', ``<env>/<agent>/<condition>/seed-<seed>``
    :param known: seconds that jobs took, or will take if they go on as they do
    :param done: share of each job that is done; 0 for those that are not named
    :param n_parallel: jobs at once
    :return: seconds, None as long as nothing is known
    """
    if not known:
        return None
    mean = sum(known.values()) / len(known)
    left = 0.0
    for folder in folders:
        alike = [seconds for other, seconds in known.items() if other.parts[-4:-2] == folder.parts[-4:-2]]
        expected = known.get(folder, sum(alike) / len(alike) if alike else mean)
        left += expected * (1 - done.get(folder, 0.0))
    return left / n_parallel


def clock(seconds: float) -> str:
    """
    :param seconds: a time
    :return: it in words, such as ``1 h 5 min``, ``3 min`` or ``20 s``
    """
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes // 60:.0f} h {minutes % 60:.0f} min"


def last_lines(path: Path, n_lines: int = 8) -> str:
    """
    :param path: a log
    :param n_lines: how many lines of it
    :return: its last lines, indented, with its name
    """
    lines = path.read_text(errors="replace").splitlines()[-n_lines:] if path.exists() else []
    return "\n".join([f"    {path}:", *(f"    | {line}" for line in lines)])


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
