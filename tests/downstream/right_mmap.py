"""The types of the drop-in for the `mmap` module. Type checkers read it; nothing runs it."""

from typing import BinaryIO, assert_type

from mmapwrap import MemoryMapping, mmap


class Counted(mmap.mmap):
    """The drop-in may be subclassed, as the standard library's class may."""

    reads: int = 0


def memory(file: BinaryIO) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert_type(mapped, mmap.mmap)
        assert_type(mapped[0], int)
        assert_type(mapped[0:4], bytes)
        assert_type(mapped.find(b"ab"), int)
        assert_type(mapped.read(4), bytes)
        assert_type(mapped.readline(), bytes)
        assert_type(mapped.mapping, MemoryMapping)
        assert_type(memoryview(mapped), memoryview)
    assert_type(Counted(-1, 4096).reads, int)
    mmap.mmap(-1, 4096).madvise(mmap.MADV_RANDOM)
