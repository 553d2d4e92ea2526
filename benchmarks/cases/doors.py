"""A region as a file and as an array."""

import io
import mmap
import os
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.bench import MIB, Bench
from benchmarks.case import Case, Peer, itself, more, speed, times
from benchmarks.timing import Measure, once
from mmapwrap import MemoryMapping, SharedMemory, mmap as replacement
from mmapwrap._core import buffers, calls

LINE = b"this is a line of a file, and it is one of many\n"
PIECE = 1 << 16


@contextmanager
def same_file(bench: Bench, fill: bytes) -> Generator[tuple[MemoryMapping, mmap.mmap, bytes]]:
    """A file of 8 MiB, mapped by both, and its content."""
    with (
        bench.file(8 * MIB, fill) as path,
        MemoryMapping.from_file(path) as m,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as peer,
    ):
        yield m, peer, path.read_bytes()


def all_of(read: Callable[[], object]) -> Callable[[], None]:
    """Give what reads until nothing comes."""

    def work() -> None:
        while read():
            pass

    return work


@contextmanager
def lines(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read all lines of a file."""
    with same_file(bench, LINE) as (m, peer, content):

        def iterate(open_it: Callable[[], Any]) -> Callable[[], None]:
            def work() -> None:
                for _ in open_it():
                    pass

            return work

        def by_mmap() -> None:
            peer.seek(0)
            all_of(peer.readline)()

        yield once(iterate(m.open)), once(by_mmap), once(iterate(lambda: io.BytesIO(content)))


@contextmanager
def pieces(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read a file in pieces of 64 KiB."""
    with same_file(bench, LINE) as (m, peer, content):

        def ours() -> None:
            file = m.open()
            all_of(lambda: file.read(PIECE))()

        def by_mmap() -> None:
            peer.seek(0)
            all_of(lambda: peer.read(PIECE))()

        def by_bytes_io() -> None:
            file = io.BytesIO(content)
            all_of(lambda: file.read(PIECE))()

        yield once(ours), once(by_mmap), once(by_bytes_io)


@contextmanager
def array(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Make an array of 1,000 numbers at an offset."""
    m, peer = MemoryMapping.new(MIB), mmap.mmap(-1, MIB)
    yield (
        bench.timed("m.array('f4', 1000, offset=64)", m=m),
        bench.timed("frombuffer(m, 'f4', 1000, 64)", m=peer, frombuffer=np.frombuffer),
    )


@contextmanager
def growth(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Make shared memory longer by 64 bytes, within a capacity, under a live array."""
    size = 0

    def longer() -> int:
        nonlocal size
        size += 64
        return size

    peer = os.memfd_create("peer")
    with SharedMemory.new("growth", 64) as memory, memory.map(capacity=1 << 40) as m:
        array = m.array(np.uint8)
        yield (
            bench.timed("m.resize(longer())", m=m, longer=longer),
            bench.timed(
                "ftruncate(peer, longer())", peer=peer, longer=longer, ftruncate=os.ftruncate
            ),
        )
        assert len(array) == 64
        del array
    os.close(peer)


@contextmanager
def drop_in(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read a byte by the drop-in for `mmap`."""
    ours, peer = replacement.mmap(-1, MIB), mmap.mmap(-1, MIB)
    yield (
        bench.timed("m[1025]", m=ours),
        bench.timed("m[1025]", m=ours.mapping),
        bench.timed("m[1025]", m=peer),
    )


@contextmanager
def unpack(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Unpack two numbers out of a buffer that is made for each."""
    ours, peer = MemoryMapping.new(MIB), mmap.mmap(-1, MIB)
    unpack_from = struct.Struct("<IQ").unpack_from
    yield (
        bench.timed("unpack_from(m, 1025)", m=ours, unpack_from=unpack_from),
        bench.timed("unpack_from(m, 1025)", m=ours.view(), unpack_from=unpack_from),
        bench.timed("unpack_from(m, 1025)", m=peer, unpack_from=unpack_from),
    )


@contextmanager
def drop_in_lines(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read a line of a file by the drop-in, the same each time."""
    with bench.file(MIB, LINE) as path, path.open("r+b") as file:
        measures: list[Measure] = []
        for module in (replacement, mmap):
            m = module.mmap(file.fileno(), 0)
            measures.append(bench.timed("m.seek(0); m.readline()", m=m))
        yield tuple(measures)


@contextmanager
def near(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Find what is near in a short text."""
    m, peer = MemoryMapping.new(4096), mmap.mmap(-1, 4096)
    m[: len(LINE)] = peer[: len(LINE)] = LINE
    pages = m._pages  # pyright: ignore[reportPrivateUsage]
    bare = "needle = bytes_in(b'of a'); find(handle, 0, 4096, (needle, len(needle)))"
    yield (
        bench.timed("m.find(b'of a')", m=m),
        bench.timed(bare, find=calls.find, handle=pages.handle, bytes_in=buffers.bytes_in),
        bench.timed("m.find(b'of a')", m=peer),
    )


CASES = (
    Case(
        "lines of a file of 8 MiB",
        lines,
        (Peer("mmap.readline", times(2)), Peer("io.BytesIO", times())),
    ),
    Case(
        "such a file in pieces of 64 KiB",
        pieces,
        (Peer("mmap.read", speed(0.8)), Peer("io.BytesIO", speed())),
    ),
    Case(
        "memory grows by 64 bytes under an array",
        growth,
        (Peer("os.ftruncate", itself(at_most=5e-6)),),
    ),
    Case("drop-in[i]", drop_in, (Peer("region[i]", times(1.3)), Peer("mmap[i]", times()))),
    Case("seek and readline of the drop-in", drop_in_lines, (Peer("mmap.readline", times()),)),
    Case(
        "struct.unpack_from(region)",
        unpack,
        (Peer("of its view", times()), Peer("of mmap", times())),
    ),
    Case(
        "find what is near in a short text",
        near,
        (Peer("the bare cffi call", more(0.6e-6)), Peer("mmap.find", times())),
    ),
    Case("an array of a range", array, (Peer("numpy.frombuffer(mmap)", times()),)),
)
