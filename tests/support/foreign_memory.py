"""Memory that something else than the library maps and unmaps."""

import ctypes
import mmap
import os
import weakref

from libc import MAP_FAILED, libc


class ForeignMemory:
    """Memory mapped without the library, and unmapped with the object."""

    def __init__(self, size: int, fd: int = -1) -> None:
        self.size = size
        flags = mmap.MAP_SHARED | (mmap.MAP_ANONYMOUS if fd == -1 else 0)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        where = libc.mmap(None, size, access, flags, fd, 0)
        assert where != MAP_FAILED, os.strerror(ctypes.get_errno())
        self.address: int = where
        self.unmap = weakref.finalize(self, self._unmap, where, size)

    @staticmethod
    def _unmap(address: int, size: int) -> None:
        assert libc.munmap(address, size) == 0

    def read(self, offset: int = 0, count: int | None = None) -> bytes:
        size = self.size - offset if count is None else count
        return ctypes.string_at(self.address + offset, size)

    def write(self, content: bytes, offset: int = 0) -> None:
        ctypes.memmove(self.address + offset, content, len(content))
