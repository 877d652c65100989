"""Page faults, counted in a process of its own."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
import torch as th
from drqn_sb3.allocator import keep_freed_memory
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
    process = subprocess.run([sys.executable, "-c", COUNT.format(keeps=keeps)], capture_output=True, text=True, check=True)
    return int(process.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells of glibc's allocator")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    # Five times 80 MB are 100,000 pages
    assert count_faults(keeps=False) > 10_000
    assert count_faults(keeps=True) < 1_000
