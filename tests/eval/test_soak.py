"""``python -m eval soak``: what it concludes from samples, how it watches a process, and a short real one."""

import argparse
import csv
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from drqn_sb3.checkpoints.callback import EXIT_STATUS
from eval.__main__ import main
from eval.soak import cli
from eval.soak.cli import Sample

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
WARM_UP = 1000

NOT_OVER = (
    "the warm-up, 1,000 steps, was not over, as far as checkpoints tell: take more minutes, or --params with a callback of a "
    "smaller save_freq"
)


def made_up(growth: float = 0.0, leaked: int = 0, n: int = 100, steps_per_sample: int = 50) -> list[Sample]:
    """
    Twenty samples of a buffer that fills, then one that is full.

    :param growth: of the peak, from the first sample after the warm-up to the last
    :param leaked: descriptors that are opened and never closed, at even distances after the warm-up
    :param n: number of samples, ten seconds apart
    :param steps_per_sample: environment steps between two samples; a checkpoint follows at once
    """
    samples = []
    for index in range(n):
        steps = index * steps_per_sample
        part = max(index - 21, 0) / max(n - 22, 1)
        peak = 500.0 + 25 * min(index, 20) if part == 0 else 1000.0 * (1 + growth * part)
        opened = 12 + int(leaked * part) + index % 2  # every other sample meets a file that is being written
        samples.append(Sample(10.0 * index, steps, peak - 5, peak, opened, 20))
    return samples


# --- what is concluded ---

CONCLUSIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "flat": ({}, []),
    "grown a little": ({"growth": 0.019}, []),
    "grown by three percent": ({"growth": 0.03}, ["the peak of memory grew by 3.00%"]),
    "grown by as much as is not allowed": ({"growth": 0.0200001}, ["the peak of memory grew by 2.00%"]),
    "leaking descriptors": ({"leaked": 30}, ["open descriptors grew from 12 to 35"]),
    "leaking few": ({"leaked": 2}, ["open descriptors grew from 12 to 13"]),
    "leaking both": (
        {"growth": 0.5, "leaked": 8},
        ["the peak of memory grew by 50.00%", "open descriptors grew from 12 to 18"],
    ),
    "too short": ({"n": 30}, ["9 samples after the warm-up are too few, 10 are needed"]),
    "just long enough": ({"n": 31}, []),
    "never warm": ({"n": 21}, [NOT_OVER]),
}


@pytest.mark.parametrize("case", CONCLUSIONS)
def test_growth_and_leaks_are_found_and_named(case: str) -> None:
    world, reasons = CONCLUSIONS[case]
    results = cli.summarize(made_up(**world), WARM_UP, EXIT_STATUS)
    assert results["reasons"] == reasons
    assert results["is_flat"] == (not reasons)
    told = cli.describe(results)
    assert told.endswith("\nflat") if not reasons else told.endswith(f"\nNOT FLAT: {'; '.join(reasons)}")


def test_figures_are_of_the_samples_after_the_warm_up() -> None:
    samples = made_up(growth=0.01)
    results = cli.summarize(samples, WARM_UP, EXIT_STATUS)
    assert {name: value for name, value in results.items() if name != "peak_growth"} == {
        **{"n_samples": 100, "minutes": 16.5, "exit_status": 143, "warm_up_steps": 1000, "steps": 4950},
        **{"warm_up_minutes": 3.5, "peak_rss_after_warm_up_mb": 1000.0, "peak_rss_at_the_end_mb": 1010.0},
        **{"descriptors": [12, 13], "is_flat": True, "reasons": []},
    }
    assert results["peak_growth"] == pytest.approx(0.01)


def test_the_warm_up_ends_after_the_checkpoint_that_follows_it() -> None:
    at_the_end = Sample(0.0, WARM_UP, 1.0, 1.0, 5, 1)
    behind = Sample(1.0, WARM_UP + 1, 2.0, 2.0, 5, 1)
    assert "peak_growth" not in cli.summarize([at_the_end], WARM_UP, 0)
    assert cli.summarize([at_the_end, behind], WARM_UP, 0)["peak_rss_after_warm_up_mb"] == 2.0


def test_a_file_that_is_just_being_written_is_no_leak() -> None:
    samples = [sample._replace(descriptors=12) for sample in made_up()]
    samples[-1] = samples[-1]._replace(descriptors=14)
    results = cli.summarize(samples, WARM_UP, EXIT_STATUS)
    assert results["is_flat"] and results["descriptors"] == [12, 14]


def test_one_file_that_was_being_written_hides_no_leak() -> None:
    samples = [sample._replace(descriptors=13) for sample in made_up()]
    samples[30] = samples[30]._replace(descriptors=12)
    assert cli.summarize(samples, WARM_UP, EXIT_STATUS)["reasons"] == ["open descriptors grew from 12 to 13"]


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples must hold at least one, got none"):
        cli.summarize([], WARM_UP, 0)


def test_the_words_say_all_that_is_asked_of_a_soak() -> None:
    assert cli.describe(cli.summarize(made_up(growth=0.01), WARM_UP, EXIT_STATUS)).splitlines() == [
        "16.5 minutes, 100 samples, last checkpoint at 4,950 steps",
        "peak of resident memory: 1,000.0 MB after a warm-up of 3.5 minutes, 1,010.0 MB at the end: +1.00% (allowed: +2%)",
        "descriptors after the warm-up: 12, 13",
        "exit status: 143 (expected after SIGTERM: 143)",
        "flat",
    ]


def test_the_words_say_what_to_do_about_a_warm_up_that_never_ended() -> None:
    assert cli.describe(cli.summarize(made_up(n=21), WARM_UP, 1)).splitlines() == [
        "3.3 minutes, 21 samples, last checkpoint at 1,000 steps",
        "there is nothing after the warm-up: take more minutes",
        "exit status: 1 (expected after SIGTERM: 143)",
        f"NOT FLAT: {NOT_OVER}",
    ]


# --- what is written ---


def test_the_picture_shows_memory_descriptors_and_the_warm_up() -> None:
    samples = made_up(growth=0.03)
    figure = cli.draw(samples, cli.summarize(samples, WARM_UP, EXIT_STATUS))
    memory, descriptors = figure.axes
    columns = {name: [getattr(sample, name) for sample in samples] for name in Sample._fields}
    minutes = np.array(columns["seconds"]) / 60
    drawn = {str(line.get_label()): line for line in memory.get_lines()}
    (drawn["descriptors"],) = descriptors.get_lines()
    shown = {"resident": "rss_mb", "peak so far": "peak_rss_mb", "descriptors": "descriptors"}
    assert drawn.keys() == shown.keys()
    for label, name in shown.items():
        np.testing.assert_array_equal(np.asarray(drawn[label].get_xdata()), minutes)
        np.testing.assert_array_equal(np.asarray(drawn[label].get_ydata()), columns[name])
    assert memory.get_title(loc="left") == "One training process (n = 1), 4,950 agent steps"
    assert (memory.get_ylabel(), descriptors.get_ylabel(), descriptors.get_xlabel()) == (
        "memory, MB",
        "descriptors",
        "minutes",
    )
    assert memory.get_ylim()[0] == descriptors.get_ylim()[0] == 0, "growth is seen as what it is"
    for axes in (memory, descriptors):
        (shade,) = axes.patches
        extent = shade.get_path().get_extents(shade.get_patch_transform())
        assert (extent.x0, extent.x1) == (0.0, 3.5)
    legend = memory.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["resident", "peak so far", "warm-up: the buffer fills"]
    assert to_hex(drawn["resident"].get_color()) != to_hex(drawn["peak so far"].get_color())


def test_without_an_end_of_the_warm_up_nothing_is_shaded() -> None:
    samples = made_up(n=5)
    figure = cli.draw(samples, cli.summarize(samples, WARM_UP, EXIT_STATUS))
    assert [len(axes.patches) for axes in figure.axes] == [0, 0]


@pytest.mark.parametrize("n", [100, 5], ids=["watched", "never warm"])
def test_what_is_written_can_be_read_again(tmp_path: Path, n: int) -> None:
    samples = made_up(growth=0.01, n=n)
    results = cli.summarize(samples, WARM_UP, EXIT_STATUS)
    cli.write_results(tmp_path, samples, results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "samples.csv", "soak.png", "summary.txt"]
    assert read_samples(tmp_path) == samples
    read = json.loads((tmp_path / "results.json").read_text())
    assert read == results
    assert (tmp_path / "summary.txt").read_text() == cli.describe(read) + "\n"
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def read_samples(folder: Path) -> list[Sample]:
    header, *rows = csv.reader((folder / "samples.csv").read_text().splitlines())
    assert tuple(header) == ("seconds", "checkpoint_steps", "rss_mb", "peak_rss_mb", "descriptors", "threads")
    return [
        Sample(float(row[0]), int(row[1]), float(row[2]), float(row[3]), int(row[4]), int(row[5]))  # columns, by position
        for row in rows
    ]


# --- what is watched ---


@linux
def test_usage_counts_memory_descriptors_and_threads(tmp_path: Path) -> None:
    rss, peak, descriptors, threads = cli.usage(os.getpid())
    assert 20 < rss <= peak
    # Pages of its own: what earlier tests have freed would do for a bytearray
    held = mmap.mmap(-1, 64 << 20)
    for page in range(0, len(held), mmap.PAGESIZE):
        held[page] = 1
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with open(tmp_path / "one", "w"), open(tmp_path / "two", "w"):
        more = cli.usage(os.getpid())
    stop.set()
    thread.join()
    assert more[0] - rss > 0.9 * len(held) / 1e6 and more[1] >= more[0]
    held.close()
    assert more[2:] == (descriptors + 2, threads + 1)
    assert cli.usage(os.getpid())[2:] == (descriptors, threads)


@linux
def test_a_process_that_has_ended_uses_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has asked yet how
    with pytest.raises(ProcessLookupError, match=rf"process {process.pid} has ended"):
        cli.usage(process.pid)
    process.wait()
    with pytest.raises(ProcessLookupError, match=rf"process {process.pid} has ended"):
        cli.usage(process.pid)


def test_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    assert cli.newest_checkpoint(tmp_path) == 0
    folder = tmp_path / "logs" / "drqn" / "Recall-v0_1" / "checkpoints"
    folder.mkdir(parents=True)
    assert cli.newest_checkpoint(tmp_path) == 0
    for name in ("checkpoint_000000000900.zip", "checkpoint_000000001000.zip", "other.zip"):
        (folder / name).touch()
    assert cli.newest_checkpoint(tmp_path) == 1000


STOPPABLE = """
import signal, sys, time
def stop(number, frame):
    print("told to stop", flush=True)
    sys.exit({status})
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
print("runs", flush=True)
time.sleep({seconds})
"""


def asked(folder: Path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(["--folder", str(folder), *arguments])


def a_process(status: int = EXIT_STATUS, seconds: float = 60) -> list[str]:
    return [sys.executable, "-S", "-c", STOPPABLE.format(status=status, seconds=seconds)]


@linux
def test_a_process_is_watched_until_the_time_is_over_and_then_told_to_stop(tmp_path: Path, capsys: Any) -> None:
    start = time.monotonic()
    samples, status, is_whole = cli.soak(a_process(), asked(tmp_path, "--minutes", "0.02", "--interval", "0.25"), 10)
    assert 1.2 <= time.monotonic() - start < 10
    assert (status, is_whole) == (EXIT_STATUS, True)
    assert 2 <= len(samples) <= 6
    assert samples[0].seconds < 0.3 and samples[-1].seconds >= 1.2, "the first at once, the last in the end"
    assert samples[-1].rss_mb > 1 and samples[-1].threads == 1
    assert (tmp_path / "training.log").read_text() == "runs\ntold to stop\n"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(samples)
    assert all("of 0.02 min, warm-up: checkpoint at 0 steps" in line for line in lines)


@linux
def test_a_process_that_ends_by_itself_leaves_its_samples(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import time; time.sleep(0.7); raise SystemExit(3)"]
    start = time.monotonic()
    samples, status, is_whole = cli.soak(command, asked(tmp_path, "--interval", "0.2"), 10)
    assert (status, is_whole) == (3, False)
    assert len(samples) >= 2
    assert time.monotonic() - start < 10


@linux
def test_a_process_whose_memory_is_gone_before_its_status_is_known_ended_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(pid: int) -> tuple[float, float, int, int]:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(cli, "usage", gone)
    command = [sys.executable, "-S", "-c", "import time; time.sleep(0.5); raise SystemExit(3)"]
    assert cli.soak(command, asked(tmp_path, "--interval", "0.2"), 10) == ([], 3, False)


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_soak_tells_the_process_to_stop_and_leaves_its_samples(tmp_path: Path, number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def interrupt() -> None:
        while (tmp_path / "training.log").read_text() != "runs\n":
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), number)

    (tmp_path / "training.log").touch()
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    samples, status, is_whole = cli.soak(a_process(), asked(tmp_path, "--interval", "0.2"), 10)
    interrupter.join()
    assert (status, is_whole) == (EXIT_STATUS, False)
    assert len(samples) >= 2
    assert (tmp_path / "training.log").read_text() == "runs\ntold to stop\n", "Ctrl-C is not for the run"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@linux
def test_a_process_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "STOP_SECONDS", 0.3)
    stubborn = [
        sys.executable,
        "-S",
        "-c",
        "import signal, time\nsignal.signal(15, lambda *_: None)\ntime.sleep(60)\ntime.sleep(60)",
    ]
    _, status, is_whole = cli.soak(stubborn, asked(tmp_path, "--minutes", "0.015", "--interval", "0.2"), 10)
    assert (status, is_whole) == (-signal.SIGKILL, True)


# --- how it is called ---


def test_the_run_is_the_zoos_with_shipped_hyperparameters(tmp_path: Path) -> None:
    args = asked(tmp_path)
    command = cli.training_command(args)
    assert command[:3] == [sys.executable, "-m", "rl_zoo3.train"]
    assert "SlimeVolleyNoFrameskip-v0" in command and "-params" not in command
    assert args.minutes == 60
    changed = cli.training_command(asked(tmp_path, "--params", "n_envs:1", "batch_size:2"))
    assert changed == [*command, "-params", "n_envs:1", "batch_size:2"]


WARM_UPS: dict[str, tuple[list[str], int]] = {
    "shipped": ([], 200_000),
    "overridden": (["--params", "n_envs:1", "buffer_size:1_500"], 1500),
    "overridden, with an exponent": (["--params", "buffer_size:2e4"], 20_000),
    "given": (["--warm-up-steps", "70", "--params", "buffer_size:500"], 70),
    "none": (["--warm-up-steps", "0"], 0),
}


@pytest.mark.parametrize("case", WARM_UPS)
def test_the_warm_up_lasts_until_the_buffer_is_full(tmp_path: Path, case: str) -> None:
    arguments, steps = WARM_UPS[case]
    assert cli.find_warm_up_steps(asked(tmp_path, *arguments)) == steps


@pytest.mark.parametrize("arguments", [["--env", "Unheard-of-v0"], ["--params", "buffer_size:10 ** 5"]], ids=" ".join)
def test_an_unknown_warm_up_must_be_given(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="--warm-up-steps must be given: buffer_size is"):
        cli.find_warm_up_steps(asked(tmp_path, *arguments))


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--interval", "-1"], ["--minutes", "nan"], ["--interval", "inf"]])
def test_times_that_are_none_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["soak", *arguments])
    assert raised.value.code == 2
    assert f"argument {arguments[0]}: must be above 0, got {arguments[1]}" in capsys.readouterr().err


@linux
def test_an_earlier_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(SystemExit, match=r"--folder must hold no earlier run, and .* does"):
        main(["soak", "--folder", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_the_command_line_says_what_can_be_asked_for() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "eval", "soak", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Whether memory and descriptors stay flat" in run.stdout
    for option in ("--env", "--minutes", "--interval", "--warm-up-steps", "--seed", "--folder", "--params"):
        assert option in run.stdout


SMALL = ("n_envs:1", "buffer_size:500", "learning_starts:50", "batch_size:2", "sequence_length:2", "train_freq:4")
OFTEN = "callback:{'drqn_sb3.RunCheckpointCallback':{'save_freq':50}}"


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


@linux
@pytest.mark.slow
def test_a_short_real_soak_ends_with_results(tmp_path: Path) -> None:
    brief = ("--minutes", "0.4", "--interval", "0.2", "--warm-up-steps", "100")
    run = python(
        "-m", "eval", "soak", "--folder", str(tmp_path), *brief, "--params", *SMALL, "policy_kwargs:{'hidden_size':8}", OFTEN
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["exit_status"] == EXIT_STATUS == 143, (tmp_path / "training.log").read_text()
    assert "Told to stop (SIGTERM): the run can be resumed from step" in (tmp_path / "training.log").read_text()
    # So short a run may still grow; whether it did is for the samples to say
    samples = read_samples(tmp_path)
    expected = cli.summarize(samples, 100, 143)
    assert {name: results[name] for name in expected} == expected
    assert run.returncode == (0 if expected["is_flat"] else 1)
    assert run.stdout.endswith((tmp_path / "summary.txt").read_text())
    assert results["steps"] > 100 and results["minutes"] == pytest.approx(0.4, abs=0.01)
    assert str(tmp_path) not in json.dumps(results), "the results name no path of this machine"
    assert results["command"].startswith("-m rl_zoo3.train --algo drqn") and "-f logs" in results["command"]
    assert {"drqn_sb3", "torch"} <= set(results["versions"])


@linux
def test_a_training_that_ends_by_itself_is_told_of(tmp_path: Path) -> None:
    run = python("-m", "eval", "soak", "--folder", str(tmp_path), "--interval", "0.5", "--params", "gamma:2")
    assert run.returncode == 1
    assert "NOT FLAT: the warm-up, 200,000 steps, was not over" in run.stdout
    assert f"it ended before 60 minutes were over, see {tmp_path / 'training.log'}" in run.stdout
    assert json.loads((tmp_path / "results.json").read_text())["exit_status"] not in (0, EXIT_STATUS)
    assert read_samples(tmp_path)
