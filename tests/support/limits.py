"""What uses up a limit of this process."""

import ctypes
import mmap
from pathlib import Path
from typing import Final

from kernel_view import PAGE, spare_memory


class Filler:
    """Takes up as many of the process's mappings as it is told, in one region of its own."""

    def __init__(self) -> None:
        self._spare: Final = spare_memory()
        self._libc: Final = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
        self._size: Final = ctypes.c_size_t(2 * (limit + 16) * PAGE)
        self._base: Final = self._libc.mmap(None, self._size, 0, flags, -1, ctypes.c_long(0))
        assert self._base != ctypes.c_void_p(-1).value
        self.pairs = 0

    def _protect(self, pair: int, prot: int) -> bool:
        where = ctypes.c_void_p(self._base + (2 * pair + 1) * PAGE)
        return bool(self._libc.mprotect(where, ctypes.c_size_t(PAGE), prot) == 0)

    def fill(self) -> None:
        """Split mappings, two at a time, until the kernel refuses."""
        while self._protect(self.pairs, mmap.PROT_READ):
            self.pairs += 1

    def free(self, pairs: int) -> None:
        """Give so many times two mappings back."""
        for _ in range(min(pairs, self.pairs)):
            self.pairs -= 1
            assert self._protect(self.pairs, 0)

    def close(self) -> None:
        self._libc.munmap(ctypes.c_void_p(self._base), self._size)
