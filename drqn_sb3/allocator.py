"""Memory of the process, between two updates."""

import ctypes
import functools
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as malloc.h has them
KEPT_BYTES = 256 * 2**20
LARGEST_MMAP_THRESHOLD = 32 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """
    Have the C library keep what is freed for the next time, instead of giving it back to the system at once.

    An update takes and frees a hundred megabytes in pieces of up to 26. glibc gives that back after each, and the system
    hands it out anew with the next, page by page: 20,000 page faults an update in float32, a tenth of its time. From here on
    the process keeps up to :data:`KEPT_BYTES` that it has freed, and more beneath what lives on: arrays of up to
    :data:`LARGEST_MMAP_THRESHOLD` no longer go back one by one. Nothing is done elsewhere than under glibc, or where one of
    its own environment variables, ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_``, says what to do.

    :return: whether anything was done
    """
    is_decided = any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if is_decided or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    done = [libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES), libc.mallopt(_M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)]
    return all(done)
