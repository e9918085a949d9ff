"""Spike trains are large and short-lived: keep the memory they free, rather than fetch it anew from the system."""

import ctypes
import platform

from las_sj.neurons.buffers import BUFFERS

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep freed blocks of up to 1 GiB for reuse on the CPU.

    By default glibc returns every large block to the system, and the page faults of getting it back can cost more than
    the arithmetic of a temporal run. The commands call this; a program that imports las_sj decides for itself.

    Returns:
        Whether the C library could be told; False where it is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES - 1))


def release_freed_memory() -> bool:
    """Give freed blocks back to the system, those that layers keep for their outputs among them.

    What a monitored call leaves behind, small and long-lived, lies between large blocks that are free again but too
    scattered for the next call, so that each call takes more: call this between them.

    Returns:
        Whether anything was given back; False where the C library is not glibc.
    """
    BUFFERS.release()
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))
