"""
``python -m eval soak``: train at the shipped settings for an hour, and watch the process' memory and descriptors.

The run is the zoo's own command, in a process of its own, with its checkpoints. The replay buffer takes its memory as it
fills, so the first part, until it is full, is a warm-up. In the end the run is told to stop (SIGTERM), as a scheduler would.
Ctrl-C or SIGTERM end the soak early, in the same way. Linux only: ``/proc`` tells what a process uses.
"""

import argparse
import csv
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from matplotlib.figure import Figure

from drqn_sb3.checkpoints.archive import versions
from drqn_sb3.checkpoints.callback import EXIT_STATUS
from drqn_sb3.checkpoints.store import list_checkpoints, steps_of
from drqn_sb3.zoo import hyperparams_file
from eval.interruption import interrupted_by_signals
from eval.machine import describe_machine

MAX_GROWTH = 0.02
"""Of the peak of resident memory, after the warm-up."""

MIN_WATCHED = 10
"""Samples after the warm-up without which nothing is called flat."""

STOP_SECONDS = 300
"""How long the run may take to stop before it is killed."""


class Sample(NamedTuple):
    """What the process uses at a moment."""

    seconds: float
    checkpoint_steps: int
    rss_mb: float
    peak_rss_mb: float
    descriptors: int
    threads: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of the subcommand
    """
    parser.add_argument("--env", default="SlimeVolleyNoFrameskip-v0", help="environment (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=_positive, default=60.0, help="how long to train, warm-up included (default: %(default)s)"
    )
    parser.add_argument("--interval", type=_positive, default=10.0, help="seconds between two samples (default: %(default)s)")
    parser.add_argument(
        "--warm-up-steps", type=int, help="environment steps until all memory is in use (default: buffer_size)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the run (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="for the run and the results (default: %(default)s)")
    parser.add_argument(
        "--params", nargs="*", default=[], help="overrides of hyperparameters, as the zoo's -params takes them"
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def main(args: argparse.Namespace) -> int:
    """
    :param args: of the subcommand
    :return: the exit status: 0 if memory and descriptors stayed flat to the end and the run stopped as it should
    :raises SystemExit: where there is no ``/proc``, or the folder holds an earlier run, or nothing was to be seen
    """
    if not Path("/proc/self/status").exists():
        sys.exit("the soak reads /proc, which only Linux has")
    if (args.folder / "logs").exists():
        sys.exit(f"--folder must hold no earlier run, and {args.folder} does: remove it, or use another")
    warm_up_steps = find_warm_up_steps(args)
    args.folder.mkdir(parents=True, exist_ok=True)
    command = training_command(args)
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    samples, status, is_whole = soak(command, args, warm_up_steps)
    log = args.folder / "training.log"
    if not samples:
        sys.exit(f"training ended with status {status} at once, see {log}")
    results = summarize(samples, warm_up_steps, status)
    # Where things lie on this machine is nobody else's business
    words = ["logs" if word == str(args.folder / "logs") else word for word in command[1:]]
    results |= {"command": shlex.join(words), "versions": versions(), "machine": describe_machine()}
    write_results(args.folder, samples, results)
    print(describe(results))
    if not is_whole:
        print(f"it ended before {args.minutes:g} minutes were over, see {log}")
    return 0 if is_whole and results["is_flat"] and status == EXIT_STATUS else 1


def find_warm_up_steps(args: argparse.Namespace) -> int:
    """
    :param args: of the subcommand
    :return: environment steps until all memory is in use: as given, or until the replay buffer is full
    :raises SystemExit: if neither is known
    """
    if args.warm_up_steps is not None:
        return int(args.warm_up_steps)
    entries = yaml.safe_load(hyperparams_file("drqn.yml").read_text())
    overrides = dict(param.split(":", 1) for param in args.params if ":" in param)
    size = overrides.get("buffer_size", entries.get(args.env, {}).get("buffer_size"))
    try:
        return int(float(size))
    except (TypeError, ValueError):
        sys.exit(f"--warm-up-steps must be given: buffer_size is {size!r} for {args.env}")


def training_command(args: argparse.Namespace) -> list[str]:
    """
    :param args: of the subcommand
    :return: the zoo's command, with shipped hyperparameters but for ``--params``
    """
    zoo = [sys.executable, "-m", "rl_zoo3.train", "--algo", "drqn", "--env", args.env, "--seed", str(args.seed)]
    zoo += ["-f", str(args.folder / "logs"), "--eval-freq", "-1"]
    return [*zoo, "-params", *args.params] if args.params else zoo


def soak(command: list[str], args: argparse.Namespace, warm_up_steps: int) -> tuple[list[Sample], int, bool]:
    """
    Start the process, watch it, and tell it to stop.

    :param command: the process'
    :param args: of the subcommand
    :param warm_up_steps: environment steps until all memory is in use
    :return: what it used, sample by sample; its exit status; whether it was watched as long as it should be
    """
    samples: list[Sample] = []
    is_whole = False
    with open(args.folder / "training.log", "w") as log, interrupted_by_signals():
        # In a session of its own: Ctrl-C is for the soak alone, which then tells the run to stop
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            try:
                for sample in watch(process, args, warm_up_steps):
                    samples.append(sample)
                is_whole = process.poll() is None
            except KeyboardInterrupt:
                print("\ninterrupted: the run is told to stop", flush=True)
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_SECONDS)
        finally:
            process.kill()
            status = process.wait()
    return samples, status, is_whole


def watch(process: subprocess.Popen[bytes], args: argparse.Namespace, warm_up_steps: int) -> Iterator[Sample]:
    """
    Look at the process now and then, and tell how it goes, until the time is over or the process ends by itself.

    :param process: the process
    :param args: of the subcommand
    :param warm_up_steps: environment steps until all memory is in use
    :return: what it uses, sample by sample
    """
    start, length = time.monotonic(), 60 * args.minutes
    while process.poll() is None:
        seconds = time.monotonic() - start
        try:
            used = usage(process.pid)
        except ProcessLookupError:  # its memory is gone already: it ends by itself, and has a status in a moment
            process.wait(timeout=STOP_SECONDS)
            break
        sample = Sample(round(seconds, 1), newest_checkpoint(args.folder), *used)
        _tell(sample, args.minutes, warm_up_steps)
        yield sample
        if seconds >= length:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=min(args.interval, length - seconds))
    if sys.stdout.isatty():
        print()


def _tell(sample: Sample, minutes: float, warm_up_steps: int) -> None:
    """Write over the line before on a terminal; in a file, write one line each."""
    stage = "watching" if _is_warm(sample, warm_up_steps) else "warm-up"
    line = (
        f"{sample.seconds / 60:5.1f} of {minutes:g} min, {stage}: checkpoint at {sample.checkpoint_steps:,} steps, "
        f"{sample.rss_mb:,.0f} MB, {sample.descriptors} descriptors"
    )
    if sys.stdout.isatty():
        print(f"\r{line:<100}", end="", flush=True)
    else:
        print(line, flush=True)


def newest_checkpoint(folder: Path) -> int:
    """
    :param folder: of the soak
    :return: environment steps of the run's newest checkpoint, 0 without any
    """
    checkpoints = [path for run in folder.glob("logs/drqn/*/checkpoints") for path in list_checkpoints(run)]
    return max(map(steps_of, checkpoints), default=0)


def usage(pid: int) -> tuple[float, float, int, int]:
    """
    :param pid: of a process
    :return: its resident memory and the peak of it so far, in MB (1e6 bytes), its open descriptors, its threads
    :raises ProcessLookupError: if it has ended, or belongs to somebody else
    """
    try:
        lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        status = {name: value.split()[0] for name, value in lines if value.strip()}
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        rss, peak_rss = (int(status[name]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))  # /proc's kB have 1024 bytes
        return round(rss, 3), round(peak_rss, 3), descriptors, int(status["Threads"])
    except (OSError, KeyError) as error:  # one that nobody has waited for yet has a status, but no memory
        raise ProcessLookupError(f"process {pid} has ended, or belongs to somebody else") from error


def _is_warm(sample: Sample, warm_up_steps: int) -> bool:
    # A checkpoint's own memory belongs to the warm-up: the first one behind it may still set a new peak
    return sample.checkpoint_steps > warm_up_steps


def summarize(samples: list[Sample], warm_up_steps: int, status: int) -> dict[str, Any]:
    """
    :param samples: all of them, in order
    :param warm_up_steps: environment steps until all memory is in use
    :param status: exit status of the process
    :return: the figures, and whether memory and descriptors were flat: ``is_flat``, and why not: ``reasons``
    :raises ValueError: if there are no samples
    """
    if not samples:
        raise ValueError("samples must hold at least one, got none")
    watched = [sample for sample in samples if _is_warm(sample, warm_up_steps)]
    results: dict[str, Any] = {"n_samples": len(samples), "minutes": samples[-1].seconds / 60, "exit_status": status}
    results |= {"warm_up_steps": warm_up_steps, "steps": samples[-1].checkpoint_steps}
    if not watched:
        return results | {"is_flat": False, "reasons": [_not_over(warm_up_steps)]}
    first, last = watched[0], watched[-1]
    growth = last.peak_rss_mb / first.peak_rss_mb - 1
    reasons = []
    if len(watched) < MIN_WATCHED:
        reasons.append(f"{len(watched)} samples after the warm-up are too few, {MIN_WATCHED} are needed")
    if not growth < MAX_GROWTH:
        reasons.append(f"the peak of memory grew by {growth:.2%}")
    early, late = _open_for_good(watched)
    if late > early:
        reasons.append(f"open descriptors grew from {early} to {late}")
    return results | {
        "warm_up_minutes": first.seconds / 60,
        "peak_rss_after_warm_up_mb": first.peak_rss_mb,
        "peak_rss_at_the_end_mb": last.peak_rss_mb,
        "peak_growth": growth,
        "descriptors": sorted({sample.descriptors for sample in watched}),
        "is_flat": not reasons,
        "reasons": reasons,
    }


def _open_for_good(watched: list[Sample]) -> tuple[int, int]:
    """Count descriptors in the first and in the last quarter. The fewest: a file that is being written comes and goes."""
    n = max(len(watched) // 4, 1)
    early, late = (min(sample.descriptors for sample in part) for part in (watched[:n], watched[-n:]))
    return early, late


def _not_over(warm_up_steps: int) -> str:
    return (
        f"the warm-up, {warm_up_steps:,} steps, was not over, as far as checkpoints tell: take more minutes, or "
        "--params with a callback of a smaller save_freq"
    )


def describe(results: dict[str, Any]) -> str:
    """
    :param results: of :func:`summarize`
    :return: the same in words
    """
    minutes, n_samples = results["minutes"], results["n_samples"]
    lines = [f"{minutes:.1f} minutes, {n_samples} samples, last checkpoint at {results['steps']:,} steps"]
    if "peak_growth" in results:
        lines += [
            f"peak of resident memory: {results['peak_rss_after_warm_up_mb']:,.1f} MB after a warm-up of "
            f"{results['warm_up_minutes']:.1f} minutes, {results['peak_rss_at_the_end_mb']:,.1f} MB at the end: "
            f"{results['peak_growth']:+.2%} (allowed: {MAX_GROWTH:+.0%})",
            f"descriptors after the warm-up: {', '.join(map(str, results['descriptors']))}",
        ]
    else:
        lines.append("there is nothing after the warm-up: take more minutes")
    lines.append(f"exit status: {results['exit_status']} (expected after SIGTERM: {EXIT_STATUS})")
    lines.append("flat" if results["is_flat"] else f"NOT FLAT: {'; '.join(results['reasons'])}")
    return "\n".join(lines)


def write_results(folder: Path, samples: list[Sample], results: dict[str, Any]) -> None:
    """
    Write samples, figures, text and picture.

    :param folder: where to
    :param samples: all of them, in order
    :param results: of :func:`summarize`
    """
    with open(folder / "samples.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Sample._fields)
        writer.writerows(samples)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "summary.txt").write_text(describe(results) + "\n")
    draw(samples, results).savefig(folder / "soak.png", dpi=120)


def draw(samples: list[Sample], results: dict[str, Any]) -> Figure:
    """
    :param samples: all of them, in order
    :param results: of :func:`summarize`
    :return: a figure: memory above, descriptors below, over time
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    memory, descriptors = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    minutes = [sample.seconds / 60 for sample in samples]
    memory.plot(minutes, [sample.rss_mb for sample in samples], label="resident", color="tab:blue", linewidth=1)
    memory.plot(minutes, [sample.peak_rss_mb for sample in samples], label="peak so far", color="0.7", linewidth=3, zorder=1.5)
    descriptors.plot(minutes, [sample.descriptors for sample in samples], color="tab:blue", linewidth=1)
    for axes in (memory, descriptors):
        if "warm_up_minutes" in results:
            axes.axvspan(0, results["warm_up_minutes"], color="0.93", label="warm-up: the buffer fills")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    memory.set_ylabel("memory, MB")
    memory.legend(frameon=False, fontsize=8, loc="lower right")
    memory.set_title(f"One training process (n = 1), {results['steps']:,} agent steps", fontsize=9, loc="left")
    descriptors.set_ylabel("descriptors")
    descriptors.set_xlabel("minutes")
    return figure
