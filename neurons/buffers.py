"""Memory for large outputs on a processor, kept and used again: spike trains are large and short-lived.

The C library returns every large block to the system, and the page faults of getting it back cost more than the
arithmetic of a temporal run. GPUs have torch's own caching allocator.
"""

import math
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

LEAST_BYTES = 1 << 20  # of a tensor: smaller ones the C library keeps
KEPT_BYTES = 1 << 29  # of free blocks, together
_GRAIN = 1 << 20  # sizes of blocks are multiples of it, so that tensors of almost one size share them
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # to a forked child


class Buffers:
    """Blocks of memory that tensors lie in; a block is free again when the last tensor that sees it is gone.

    Autograd, hooks and users may hold tensors as long as they like. Threads may share the object.

    Args:
        kept_bytes: free blocks are kept up to this sum; the ones free for longest go back to the system first.
        least_bytes: smaller tensors are left to torch.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, least_bytes: int = LEAST_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self.least_bytes = least_bytes
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)  # another thread may have held the lock

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._free: list[mmap.mmap] = []  # guarded by the lock
        self._returned: deque[mmap.mmap] = deque()  # appended to at any time, by the garbage collector too

    @property
    def free_bytes(self) -> int:
        """The sum of the free blocks."""
        with self._lock:
            return sum(len(block) for block in self._free)

    def serve(self, shape: Sequence[int], like: Tensor) -> bool:
        """Whether a tensor like another one, of this shape, is large and on a processor."""
        return math.prod(shape) * like.itemsize >= self.least_bytes and like.device.type == "cpu"

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of a shape, with any content, of the type and on the device of another one."""
        if not self.serve(shape, like):
            return like.new_empty(shape)
        nbytes = math.prod(shape) * like.itemsize
        try:
            block = self._take(nbytes)
        except OSError:  # torch has words for it
            return like.new_empty(shape)
        view = memoryview(block)[:nbytes]
        weakref.finalize(view, self._give_back, block).atexit = False
        return torch.frombuffer(view, dtype=like.dtype).view(shape)

    def release(self) -> None:
        """Give all free blocks back to the system."""
        self._settle()
        with self._lock:
            self._free.clear()

    def _take(self, nbytes: int) -> mmap.mmap:
        """The free block that fits best, if at most a quarter of it is too much, or a new one."""
        with self._lock:
            fitting = [block for block in self._free if nbytes <= len(block) <= nbytes + nbytes // 4 + _GRAIN]
            best = min(fitting, key=len, default=None)
            if best is not None:
                self._free = [block for block in self._free if block is not best]
        self._settle()
        return _new_block(-(-nbytes // _GRAIN) * _GRAIN) if best is None else best

    def _give_back(self, block: mmap.mmap) -> None:
        """Take a block whose last tensor is gone, in any thread, and within any other call of this object."""
        self._returned.append(block)
        self._settle()

    def _settle(self) -> None:
        """Sort in what was returned, unless somebody holds the lock, who does so after releasing it."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._free.append(self._returned.popleft())
                while sum(len(block) for block in self._free) > self.kept_bytes:
                    del self._free[0]
            finally:
                self._lock.release()


def _new_block(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)  # a page fault for 2 MiB, instead of 512 of them
    return block


BUFFERS = Buffers()
