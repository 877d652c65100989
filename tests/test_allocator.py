"""Page faults, counted in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes
import resource
import torch as th
from drqn_sb3.allocator import keep_freed_memory
ctypes.CDLL(None).mallopt(-3, 2**20)  # arrays of a megabyte or more go back to the system one by one
if {keeps}:
    assert keep_freed_memory()
def work():
    pieces = [th.ones(2**20) for _ in range(20)]
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(keeps: bool) -> int:
    return int(run(COUNT.format(keeps=keeps)))


def run(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**environment, **variables}).stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells of glibc's allocator")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    # Five times 80 MB are 100,000 pages
    assert count_faults(keeps=False) > 50_000
    assert count_faults(keeps=True) < 1_000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_whoever_tells_glibc_what_to_do_is_not_overruled(name: str) -> None:
    code = "from drqn_sb3.allocator import keep_freed_memory; print(keep_freed_memory())"
    assert run(code, **{name: "131072"}) == "False\n"
