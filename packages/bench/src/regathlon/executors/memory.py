"""What a trial's process does with the memory that it frees."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have the process, and those that it forks, keep what they free until they end; on glibc only.

    By default, a map of some megabytes goes back to the system and is asked for again in every step, page by page, which
    takes a tenth of a small network's time on a CPU.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.malloc_trim(0)  # what importing left, which is no trial's
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
