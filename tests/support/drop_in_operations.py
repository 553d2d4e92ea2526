"""Calls of the drop-in for `mmap`, ready to be made on demand: see operations."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from operations import (
    SEGMENT,
    SIZE,
    Prepare,
    Region,
    Room,
    Stage,
    displaced,
    making,
    making_of_file,
    seen,
)

from mmapwrap import mmap


def length_of(m: mmap.mmap) -> int:
    """The length of a drop-in that is closed afterwards."""
    with m:
        return len(m)


@contextmanager
def of_file(room: Room) -> Generator[mmap.mmap]:
    with room.file() as fd, mmap.mmap(fd, SIZE) as m:
        yield m


@contextmanager
def of_memory(room: Room) -> Generator[mmap.mmap]:
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE) as m:
        yield m


@contextmanager
def of_cut_file(room: Room) -> Generator[mmap.mmap]:
    """One whose file was truncated since."""
    with of_file(room) as m:
        os.truncate(room.path, 7 * mmap.PAGESIZE)
        yield m


def on(region: Region, act: Callable[[mmap.mmap], object]) -> Prepare:
    """A method of a drop-in."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with region(room) as m:
            yield Stage(lambda: act(m), lambda: seen(m.mapping))

    return prepared


def resize(m: mmap.mmap) -> None:
    """A change of the length, and back.

    Of what a failure leaves, the file's length is not looked at: as that of the standard library,
    the file has its new length before it is mapped.
    """
    m.resize(SIZE + SEGMENT)
    m.resize(SIZE)


DROP_IN_OPERATIONS: Final[dict[str, Prepare]] = {
    "drop-in of a file": making_of_file(lambda fd: length_of(mmap.mmap(fd, 0))),
    "drop-in of memory": making(lambda room: length_of(mmap.mmap(-1, SIZE))),
    "drop-in size": on(of_file, lambda m: m.size()),
    "drop-in flush": on(of_file, lambda m: m.flush()),
    "drop-in madvise": on(of_file, lambda m: m.madvise(mmap.MADV_WILLNEED)),
    "drop-in set_name": on(of_memory, lambda m: m.set_name("n")),
    "drop-in resize of a file": on(of_file, resize),
    "drop-in resize of memory": on(of_memory, resize),
    "drop-in read": displaced(lambda m: m.read(), of_cut_file),
}
DISPLACED_DROP_INS: Final = {"drop-in read"}
