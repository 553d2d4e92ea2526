"""Reading a file that is in the page cache."""

import mmap
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

from benchmarks.bench import GIB, Bench
from benchmarks.case import Case, Peer, speed
from benchmarks.timing import Measure, once
from mmapwrap import MemoryMapping, Protection


def total(buffer: "mmap.mmap | memoryview | bytearray") -> int:
    """Sum a buffer; NumPy does all the sums here."""
    return int(np.frombuffer(buffer, np.uint64).sum())


def large(bench: Bench) -> int:
    """The bytes of a large file."""
    return GIB // 4 if bench.is_quick else GIB


@contextmanager
def read_all(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Open, map and sum a file, and let go of it."""
    size = large(bench)
    with bench.file(size) as path:

        def populated() -> int:
            with MemoryMapping.from_file(path, prot=Protection.read()) as m:
                m.populate()
                return total(m.view())

        def by_mmap() -> int:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as m:
                return total(m)

        def by_memmap() -> int:
            return int(np.memmap(path, np.uint64, "r").sum())

        def by_read() -> int:
            buffer = bytearray(size)
            with path.open("rb", buffering=0) as file:
                assert file.readinto(buffer) == size
            return total(buffer)

        assert populated() == by_mmap() == by_memmap() == by_read()
        yield once(populated), once(by_mmap), once(by_memmap), once(by_read)


@contextmanager
def touch_pages(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read a byte of each page, in a phase that begins when all is mapped, and populated."""
    with bench.file(large(bench)) as path:

        def measure() -> float:
            with MemoryMapping.from_file(path, prot=Protection.read()) as m:
                m.populate()
                return pages_of(m.view())

        def measure_peer() -> float:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as m:
                return pages_of(m)

        yield measure, measure_peer


def pages_of(buffer: "mmap.mmap | memoryview") -> float:
    """Give the seconds of a read in each page of a buffer, for one page."""
    pages = np.frombuffer(buffer, np.uint8)[:: mmap.PAGESIZE]
    return once(pages.sum)() / len(pages)


CASES = (
    Case(
        "sum a large file in the page cache, populated first",
        read_all,
        (
            Peer("mmap", speed(1.0)),
            Peer("numpy.memmap", speed()),
            Peer("read into a bytearray", speed()),
        ),
    ),
    Case(
        "read a byte of each page of such a file, after populating it",
        touch_pages,
        (Peer("mmap, which faults", speed()),),
    ),
)
