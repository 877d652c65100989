import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from eval.run.execution import State
from eval.run.progress import PROGRESS, Progress, Reporter, read_progress
from eval.run.watching import Display, clock, fraction, last_lines, seconds_left, watch

CLOCKS = {0: "0 s", 59.6: "60 s", 119: "119 s", 121: "2 min", 5_000: "83 min", 5_400: "1 h 30 min", 90_000: "25 h 0 min"}


@pytest.mark.parametrize(("seconds", "words"), CLOCKS.items())
def test_a_time_is_told_in_words(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_progress_is_written_and_read(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    reporter = Reporter(tmp_path)
    reporter.begin("training", 100)
    reporter.tell(50, 100)
    progress = read_progress(tmp_path)
    assert progress is not None
    assert (progress.phase, progress.done, progress.of) == ("training", 0, 100), "not more often than once in a while"
    reporter.tell(50, 100, at_once=True)
    progress = read_progress(tmp_path)
    assert progress is not None
    assert (progress.done, progress.fraction) == (50, 0.5)
    assert list(tmp_path.iterdir()) == [tmp_path / PROGRESS]


def test_the_time_of_earlier_attempts_counts(tmp_path: Path) -> None:
    first = Progress("training", 10, 100, {"training": 40.0, "evaluating": 0.0})
    (tmp_path / PROGRESS).write_text(json.dumps(first._asdict()))
    reporter = Reporter(tmp_path)
    reporter.begin("training", 100)
    reporter.begin("evaluating", 5)
    assert reporter.seconds["training"] >= 40
    assert reporter.seconds["evaluating"] < 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": "training"}'])
def test_a_damaged_file_tells_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / PROGRESS).write_text(text)
    assert read_progress(tmp_path) is None
    assert fraction(tmp_path) == 0


def wrote(folder: Path, phase: str, done: int, of: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROGRESS).write_text(json.dumps(Progress(phase, done, of, {})._asdict()))


def test_the_share_that_is_done_never_falls(tmp_path: Path) -> None:
    shares = []
    for phase in ("training", "evaluating"):
        for done in (0, 5, 10):
            wrote(tmp_path, phase, done, 10)
            shares.append(fraction(tmp_path))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def a_job(env: str, agent: str, seed: int) -> Path:
    return Path("results") / env / agent / "normal" / f"seed-{seed}"


SLOW = [a_job("Pong", "drqn", seed) for seed in range(3)]
QUICK = [a_job("Pong", "random", seed) for seed in range(2)]
LEFT: dict[str, tuple[dict[Path, float], dict[Path, float], int, float | None]] = {
    "nothing is known": ({}, {}, 1, None),
    "one of each is done": ({SLOW[0]: 100, QUICK[0]: 1}, {SLOW[0]: 1, QUICK[0]: 1}, 1, 100 + 100 + 1),
    "two at once": ({SLOW[0]: 100, QUICK[0]: 1}, {SLOW[0]: 1, QUICK[0]: 1}, 2, (100 + 100 + 1) / 2),
    "one is half done": ({SLOW[0]: 100}, {SLOW[0]: 0.5}, 1, 50 + 100 + 100 + 100 + 100),
    "a kind of which nothing is known": ({SLOW[0]: 100, SLOW[1]: 200}, {SLOW[0]: 1, SLOW[1]: 1}, 1, 150 + 150 + 150),
    "all are done": (dict.fromkeys([*SLOW, *QUICK], 7), dict.fromkeys([*SLOW, *QUICK], 1), 2, 0),
}


@pytest.mark.parametrize(("known", "done", "n_parallel", "expected"), LEFT.values(), ids=LEFT.keys())
def test_the_time_left_is_that_of_jobs_alike(
    known: dict[Path, float], done: dict[Path, float], n_parallel: int, expected: float | None
) -> None:
    assert seconds_left([*SLOW, *QUICK], known, done, n_parallel) == expected


class Script:
    """An executor whose jobs go as they are told to."""

    def __init__(self, steps: list[dict[Path, State]], then: Callable[[int], None] = lambda i: None) -> None:
        self.steps = steps
        self.then = then
        self.i = -1

    def start(self, folders: object) -> None:
        raise AssertionError("watching starts nothing")

    def states(self) -> dict[Path, State]:
        self.i += 1
        self.then(self.i)
        return self.steps[self.i]

    def stop(self) -> str:
        raise AssertionError("watching stops nothing")


def test_what_becomes_of_jobs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.run.watching.POLL_SECONDS", 0)
    good, bad, stopped = (tmp_path / "env" / name / "normal" / "seed-0" for name in ("good", "bad", "stopped"))
    for folder in (good, bad, stopped):
        folder.mkdir(parents=True)
    (bad / "training.log").write_text("long ago\n" * 20 + "ValueError: it can't be done\n")
    queued, running = State("queued"), State("running")
    steps = [
        {good: running, bad: queued, stopped: queued},
        {good: State("ended", 0), bad: running, stopped: running},
        {good: State("ended", 0), bad: State("ended", 1, "on a bad node"), stopped: State("ended", 143)},
    ]
    wrote(stopped, "training", 5, 10)
    ended = watch(Script(steps), [good, bad, stopped], tmp_path, lambda folder: folder == good)
    assert [ended[folder].status for folder in (good, bad, stopped)] == [0, 1, 143]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "begins   env/good/normal/seed-0"
    assert lines[1].startswith("finished env/good/normal/seed-0 after 0 s; 1 of 3 jobs")
    assert lines[2:4] == ["begins   env/bad/normal/seed-0", "goes on  env/stopped/normal/seed-0"]
    assert "FAILED   env/bad/normal/seed-0 after 0 s (on a bad node); 3 of 3 jobs" in lines
    assert lines[-2].endswith("| ValueError: it can't be done")
    assert sum("long ago" in line for line in lines) == 7
    assert lines[-1].startswith("stopped  env/stopped/normal/seed-0")


def test_a_result_that_is_there_has_the_last_word(tmp_path: Path) -> None:
    folder = tmp_path / "env" / "agent" / "normal" / "seed-0"
    for told, is_there, status in ((None, True, 0), (None, False, 1), (0, False, 1), (9, False, 9), (1, True, 0)):
        ended = watch(Script([{folder: State("ended", told)}]), [folder], tmp_path, {folder: is_there}.__getitem__)
        assert ended[folder].status == status


def test_a_terminal_shows_bars_of_what_is_running(tmp_path: Path) -> None:
    folders = [tmp_path / "env" / "drqn" / "normal" / f"seed-{seed}" for seed in range(20)]
    for folder in folders:
        wrote(folder, "training", 50, 100)
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=True, width=100), folders, tmp_path)
    states = {folder: State("running") for folder in folders}
    display.show(states)
    display.console.print(display._bars(states))
    text = screen.getvalue()
    assert "env/drqn/normal/seed-11 training" in text
    assert "seed-12" not in text
    assert "8 more running" in text
    assert "42%" in text
    assert "0 of 20 jobs" in text


def test_the_end_of_a_log_is_shown(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none.log") == f"    {tmp_path / 'none.log'}:"
