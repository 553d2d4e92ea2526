"""What uses up a limit of this process."""

import mmap
from pathlib import Path
from typing import Final

import pytest
from kernel_view import PAGE, spare_memory
from libc import MAP_FAILED, libc

MAX_MAP_COUNT: Final = int(Path("/proc/sys/vm/max_map_count").read_text())


needs_few_mappings = pytest.mark.skipif(
    MAX_MAP_COUNT > 1 << 18,
    reason=f"vm.max_map_count is {MAX_MAP_COUNT}: to use it up takes long",
)


class Filler:
    """Takes up as many of the process's mappings as it is told, in one region of its own."""

    def __init__(self) -> None:
        self._spare: Final = spare_memory()
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
        self._size: Final = 2 * (MAX_MAP_COUNT + 16) * PAGE
        self._base: Final = libc.mmap(None, self._size, 0, flags, -1, 0)
        assert self._base != MAP_FAILED
        self.pairs = 0

    def _protect(self, pair: int, prot: int) -> bool:
        return bool(libc.mprotect(self._base + (2 * pair + 1) * PAGE, PAGE, prot) == 0)

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
        libc.munmap(self._base, self._size)
