"""Copies out and in, and what guarding them costs."""

import mmap
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from functools import partial

from benchmarks.bench import MIB, Bench
from benchmarks.case import Case, Peer, itself, speed, times
from benchmarks.timing import Measure
from mmapwrap import MemoryMapping

KIB = 1 << 10


def filled(size: int) -> tuple[MemoryMapping, MemoryMapping]:
    """Two mappings of memory that is all there: the one to measure, and a buffer for it."""
    return (
        MemoryMapping.anonymous(size, populate=True),
        MemoryMapping.anonymous(size, populate=True),
    )


@contextmanager
def copy_out(bench: Bench, size: int) -> Generator[tuple[Measure, ...]]:
    """Copy into a buffer."""
    m, other = filled(size)
    with m, other:
        to, start = other.as_ptr(), m.as_ptr()
        yield (
            bench.timed("m.read_slice(buffer, 0)", m=m, buffer=other.view()),
            bench.looped(lambda loops: bench.lib.peer_memcpy(to, start, size, loops)),
        )


@contextmanager
def copy_in(bench: Bench, size: int) -> Generator[tuple[Measure, ...]]:
    """Copy from a buffer."""
    m, other = filled(size)
    with m, other:
        to, start = m.as_ptr(), other.as_ptr()
        yield (
            bench.timed("m.write_slice(buffer, 0)", m=m, buffer=other.view()),
            bench.looped(lambda loops: bench.lib.peer_memcpy(to, start, size, loops)),
        )


@contextmanager
def sliced(bench: Bench, size: int) -> Generator[tuple[Measure, ...]]:
    """Copy out as new bytes."""
    m, _ = filled(size)
    with m, mmap.mmap(-1, size) as peer:
        assert m[0:size] == peer[0:size]
        yield (
            bench.timed("m[0:size]", m=m, size=size),
            bench.timed("m[0:size]", m=peer, size=size),
        )


@contextmanager
def whole(bench: Bench, statement: str, size: int) -> Generator[tuple[Measure, ...]]:
    """Something that takes all of a region, or all of a mmap object."""
    with MemoryMapping.new(size) as m, mmap.mmap(-1, size) as peer:
        m[:] = peer[:] = bytes(range(256)) * (size // 256)
        yield bench.timed(statement, m=m), bench.timed(statement, m=peer)


@contextmanager
def guard(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Enter and leave a guard, in which nothing faults."""
    with bench.file(MIB) as path, MemoryMapping.from_file(path) as m:
        yield (
            bench.timed("with m.fault_guard(): pass", m=m),
            bench.timed("with nothing(): pass", nothing=nullcontext),
        )


@contextmanager
def guarded_copy(bench: Bench, size: int) -> Generator[tuple[Measure, ...]]:
    """Copy out of a file through a view, in a guard and without one; the library's is always so."""
    with bench.file(size) as path, MemoryMapping.from_file(path) as m:
        buffer = memoryview(bytearray(size))
        yield (
            bench.timed(
                "with m.fault_guard(): buffer[:] = view", m=m, view=m.view(), buffer=buffer
            ),
            bench.timed("buffer[:] = view", view=m.view(), buffer=buffer),
            bench.timed("m.read_slice(buffer, 0)", m=m, buffer=buffer),
        )


C_COPY = "memcpy in C"

CASES = (
    Case("copy 4 KiB out", partial(copy_out, size=4 * KIB), (Peer(C_COPY, speed()),)),
    Case("copy 1 MiB out", partial(copy_out, size=MIB), (Peer(C_COPY, speed(0.9)),)),
    Case("copy 256 MiB out", partial(copy_out, size=256 * MIB), (Peer(C_COPY, speed(0.9)),)),
    Case("copy 4 KiB in", partial(copy_in, size=4 * KIB), (Peer(C_COPY, speed()),)),
    Case("copy 1 MiB in", partial(copy_in, size=MIB), (Peer(C_COPY, speed(0.9)),)),
    Case("copy 256 MiB in", partial(copy_in, size=256 * MIB), (Peer(C_COPY, speed(0.9)),)),
    Case("4 KiB as new bytes", partial(sliced, size=4 * KIB), (Peer("mmap[a:b]", speed()),)),
    Case("1 MiB as new bytes", partial(sliced, size=MIB), (Peer("mmap[a:b]", speed()),)),
    Case(
        "bytes(region) of 256 MiB",
        partial(whole, statement="bytes(m)", size=256 * MIB),
        (Peer("bytes(mmap)", times(1.2)),),
    ),
    Case(
        "bytearray(region) of 256 MiB",
        partial(whole, statement="bytearray(m)", size=256 * MIB),
        (Peer("bytearray(mmap)", times(1.2)),),
    ),
    Case(
        "a loop over the bytes of 1 MiB",
        partial(whole, statement="for _ in m: pass", size=MIB),
        (Peer("a loop over a mmap object", times(1.2)),),
    ),
    Case(
        "memoryview(region)",
        partial(whole, statement="memoryview(m)", size=MIB),
        (Peer("memoryview(mmap)", times()),),
    ),
)

READ_SLICE = Peer("read_slice, always guarded", times())

GUARD_CASES = (
    Case(
        "fault guard entered and left",
        guard,
        (Peer("contextlib.nullcontext", itself(at_most=1e-6)),),
    ),
    Case(
        "guarded copy of 4 KiB of a file",
        partial(guarded_copy, size=4 * KIB),
        (Peer("the copy unguarded", times()), READ_SLICE),
    ),
    Case(
        "guarded copy of 1 MiB of a file",
        partial(guarded_copy, size=MIB),
        (Peer("the copy unguarded", times(1.05)), READ_SLICE),
    ),
)
