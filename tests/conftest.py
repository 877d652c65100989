"""What every test file shares: one thread per worker, no screen, and generators that start from the same seeds."""

import os

# Before torch, pygame and matplotlib are imported, and for every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")

import multiprocessing
import random
import signal
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch as th

# Whoever starts the tests in the background, or with nohup, has their processes ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Environments' processes come of a server that has imported what is slow to import, and no threads: a process that forks while
# it has threads of others (torch's, emulators', pytest's own) may lose a child before it has begun.
multiprocessing.set_forkserver_preload(["drqn_sb3", "stable_baselines3"])

th.set_num_threads(1)
cv2.setNumThreads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same state of the ``random``, NumPy and torch generators."""
    random.seed(0)
    np.random.seed(0)
    th.manual_seed(0)


@pytest.fixture(autouse=True)
def sigterm_is_what_it_was() -> Iterator[None]:
    """See that nothing under test goes on catching SIGTERM, which would make later tests' processes immune to it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    after = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert after is before


LONG = ("test_smoke.py", "test_zoo_cli.py", "test_zoo_runs.py", "test_run_job.py", "test_resume.py", "test_atari.py")
"""Files that take minutes: begun first, they don't have all workers but one wait for them in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
