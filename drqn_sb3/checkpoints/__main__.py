"""``python -m drqn_sb3.checkpoints FOLDER...``: list runs' checkpoints, and verify them."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from drqn_sb3.checkpoints.archive import read_archive, read_summary
from drqn_sb3.checkpoints.replay_journal import ReplayJournal
from drqn_sb3.checkpoints.store import REPLAY, list_checkpoints, steps_of


def main(argv: Sequence[str] | None = None) -> int:
    """
    List and verify checkpoints. Of a run that is going on, some may vanish meanwhile.

    :param argv: command line arguments, by default the process's
    :return: the exit status: 1 if there are none, or any is not whole
    """
    parser = argparse.ArgumentParser(prog="python -m drqn_sb3.checkpoints", description=str(__doc__).partition(": ")[2])
    parser.add_argument("folder", nargs="+", type=Path, help="of checkpoints, or a run's (logs/drqn/<run>)")
    args = parser.parse_args(argv)
    status = 0
    for given in args.folder:
        folder = given / "checkpoints" if (given / "checkpoints").is_dir() else given
        paths = list_checkpoints(folder)
        print(f"{folder}: {'' if paths else 'no checkpoints' if folder.is_dir() else 'no such folder'}")
        status |= not paths
        for path in paths:
            try:
                print(f"  {describe(path)}")
            except (ValueError, OSError) as error:
                print(f"  {steps_of(path):>12,} steps  NOT WHOLE: {error}")
                status = 1
    return status


def describe(path: Path) -> str:
    """
    Verify a checkpoint, its replay segments included, and say what it is.

    :param path: the checkpoint
    :return: steps, time, sizes, algorithm
    :raises ValueError: if it is damaged, or of another format
    """
    state, versions = read_archive(path)
    summary, replay = read_summary(path), state["replay"]
    n_bytes = 0
    if replay is not None:
        ReplayJournal(path.parent / REPLAY).verify(replay)
        n_bytes = sum(segment["n_bytes"] for segment in replay["segments"])
    written = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{steps_of(path):>12,} steps  {written}  {path.stat().st_size / 1e6:,.1f} MB + {n_bytes / 1e6:,.1f} MB of replay  "
        f"{summary.get('algorithm')} in {summary.get('n_envs')} environments, drqn_sb3 {versions.get('drqn_sb3')}, whole"
    )


if __name__ == "__main__":
    sys.exit(main())
