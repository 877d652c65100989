"""A worker for the tests: ticks, writes down when it was asked to, and fails where ``options`` says so."""

import os
import sys
import time
from pathlib import Path

from eval.throughput.protocol import Task, Work, serve


def build(work: Work) -> Task:
    options = work.options
    print("libraries print things")
    os.write(1, b"so does what they are made of\n")
    n_measured = 0

    def run(n_operations: int) -> int:
        nonlocal n_measured
        n_measured += 1
        if options.get("dies"):
            sys.exit(3)
        if options.get("hangs"):
            time.sleep(60)
        # The measurements that warm up come before the file is there
        if "diary" in options and Path(options["diary"]).exists():
            if options.get("fails"):
                raise ValueError("no more")
            with Path(options["diary"]).open("a") as diary:
                diary.write(f"{options['name']}\n")
        time.sleep(0.001 * n_operations)
        return 10 * n_operations

    return Task(run, {"name": options.get("name"), "pid": os.getpid()}, {"double": lambda: 42, "broken": lambda: 1 // 0})


if __name__ == "__main__":
    serve(build)
