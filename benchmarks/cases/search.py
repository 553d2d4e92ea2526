"""Looking through memory."""

import mmap
import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import numpy as np

from benchmarks.bench import MIB, Bench
from benchmarks.case import Case, Peer, speed, times
from benchmarks.timing import Measure
from mmapwrap import MemoryMapping

SIZE = 256 * MIB
NEEDLE = b"\0the needle, end"


@contextmanager
def find(bench: Bench, needle: bytes, end: bytes) -> Generator[tuple[Measure, ...]]:
    """Search random bytes, none of them zero, but for what they end with."""
    block = random.Random(1).randbytes(MIB).replace(b"\0", b"\1")  # noqa: S311
    expected = SIZE - len(end) if end else -1
    with MemoryMapping.new(SIZE) as m, mmap.mmap(-1, SIZE) as peer:
        for start in range(0, SIZE, MIB):
            m.write_slice(block, start)
            peer[start : start + MIB] = block
        if end:
            m[SIZE - len(end) :] = peer[SIZE - len(end) :] = end
        assert m.find(needle) == peer.find(needle) == expected
        yield (
            bench.timed("m.find(needle)", m=m, needle=needle),
            bench.timed("m.find(needle)", m=peer, needle=needle),
        )


@contextmanager
def search_text(bench: Bench, search: str) -> Generator[tuple[Measure, ...]]:
    """Search words in random order for a sentence that is not there."""
    words = "where is a word of this that no other line of such text has but at its end".split()
    text = " ".join(random.Random(1).choices(words, k=4 * MIB)).encode()[: 16 * MIB]  # noqa: S311
    needle = b"such a word has no other end than that of this line"
    with MemoryMapping.new(len(text)) as m, mmap.mmap(-1, len(text)) as peer:
        m[:] = peer[:] = text
        assert getattr(m, search)(needle) == getattr(peer, search)(needle) == -1
        yield (
            bench.timed(f"m.{search}(needle)", m=m, needle=needle),
            bench.timed(f"m.{search}(needle)", m=peer, needle=needle),
        )


def hard_search(size: int, needle_size: int) -> tuple[bytes, bytes]:
    """Give a text and a needle that matches nearly, everywhere, until its last byte."""
    return b"a" * size, b"a" * (needle_size - 1) + b"b"


@contextmanager
def periodic(bench: Bench, text: bytes, needle: bytes) -> Generator[tuple[Measure, ...]]:
    """Search where every place, or every other one, is nearly a match."""
    with MemoryMapping.new(MIB) as m, mmap.mmap(-1, MIB) as peer:
        m[:] = peer[:] = text
        yield (
            bench.timed("m.find(needle)", m=m, needle=needle),
            bench.timed("m.find(needle)", m=peer, needle=needle),
        )


@contextmanager
def periodic_twice(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Search twice as long a text for twice as long a needle."""
    measures: list[Measure] = []
    for factor in (2, 1):
        text, needle = hard_search(8 * factor * MIB, 32 * factor * 1024)
        m = MemoryMapping.new(len(text))
        m[:] = text
        measures.append(bench.timed("m.find(needle)", m=m, needle=needle))
    yield tuple(measures)


@contextmanager
def zeros(bench: Bench, size: int) -> Generator[tuple[Measure, ...]]:
    """Look whether all is zero, which it is."""
    m = MemoryMapping.anonymous(size, populate=True)
    other = MemoryMapping.anonymous(size, populate=True)
    address, zeros = m.as_ptr(), other.as_ptr()
    yield (
        bench.timed("m.is_all_zero()", m=m),
        bench.looped(lambda loops: bench.lib.peer_read(address, size, loops)),
        bench.looped(lambda loops: bench.lib.peer_memcmp(address, zeros, size, loops)),
        bench.timed(
            "compare(address, zeros, size) == 0",
            compare=bench.lib.peer_compare,
            address=address,
            zeros=zeros,
            size=size,
        ),
        bench.timed("not array.any()", array=np.asarray(m)),
    )


# Measured on 3.11; later Pythons search in other ways, and there is no target beside them.
SEEN = (Peer("mmap.find", speed()),)
FASTER = (Peer("mmap.find", speed(2.5 if sys.version_info < (3, 12) else None)),)

CASES = (
    Case(
        "find at the end of 256 MiB",
        partial(find, needle=NEEDLE, end=NEEDLE),
        FASTER,
    ),
    Case("find nothing in 256 MiB", partial(find, needle=NEEDLE, end=b""), FASTER),
    Case("find one byte in 256 MiB", partial(find, needle=b"\0", end=b"\0"), FASTER),
    Case("find two bytes in 256 MiB", partial(find, needle=b"\1\0", end=b"\1\0"), SEEN),
    Case("find a sentence in 16 MiB of text", partial(search_text, search="find"), SEEN),
    Case(
        "find it from the end",
        partial(search_text, search="rfind"),
        (Peer("mmap.rfind", speed()),),
    ),
    Case(
        "find in 1 MiB that nearly matches everywhere",
        lambda bench: periodic(bench, *hard_search(MIB, 512)),
        FASTER,
    ),
    Case(
        "find a pattern with an error in 1 MiB of that",
        partial(periodic, text=b"ab" * (MIB // 2), needle=b"ab" * 4 + b"b" + b"ab" * 4),
        FASTER,
    ),
    Case(
        "find 64 KiB that nearly match everywhere in 16 MiB",
        periodic_twice,
        (Peer("find 32 KiB in 8 MiB", times(3)),),
    ),
    Case(
        "is_all_zero of 256 MiB",
        partial(zeros, size=SIZE),
        (
            Peer("reading it in C", speed(0.9)),
            Peer("memcmp against zeros in C", speed()),
            Peer("memcmp through cffi", speed()),
            Peer("NumPy: not array.any()", speed()),
        ),
    ),
    Case(
        "is_all_zero of 4 KiB",
        partial(zeros, size=4096),
        (
            Peer("reading it in C", speed(0.9)),
            Peer("memcmp against zeros in C", speed()),
            Peer("memcmp through cffi", speed()),
            Peer("NumPy: not array.any()", speed()),
        ),
    ),
)
