"""What every test file shares: one thread per worker, no screen, and generators that start from the same seeds."""

import os

# Before torch, pygame and matplotlib are imported, and for every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")

import random

import cv2
import numpy as np
import pytest
import torch as th

th.set_num_threads(1)
cv2.setNumThreads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same state of the ``random``, NumPy and torch generators."""
    random.seed(0)
    np.random.seed(0)
    th.manual_seed(0)
