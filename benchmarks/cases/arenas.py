"""Many segments of an arena."""

import mmap
import time
from collections.abc import Generator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.case import Case, Peer, times
from benchmarks.timing import Measure
from mmapwrap import MemoryMappingArena

PAGE = mmap.PAGESIZE
SEGMENTS = 10_000


@contextmanager
def segments(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Add segments of a page on every second page, then remove them: the time of one of them."""

    def measure() -> float:
        with MemoryMappingArena.new(2 * SEGMENTS * PAGE) as arena:
            offsets = range(0, arena.size, 2 * PAGE)
            start = time.perf_counter()
            for offset in offsets:
                arena.add_anon(offset, PAGE)
            for offset in offsets:
                arena.remove(offset, PAGE)
            return (time.perf_counter() - start) / SEGMENTS

    yield measure, lambda: bench.lib.peer_segments(SEGMENTS) / SEGMENTS


CASES = (
    Case(
        "arena segment added and removed, 10,000 of them",
        segments,
        (Peer("the bare mmap calls in C", times(5)),),
    ),
)
