"""What other threads get while one is inside a call."""

import ctypes
import mmap
import os
import resource
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.bench import GIB, MIB, Bench, UnavailableError
from benchmarks.case import Case, Peer, Unit, itself, speed
from benchmarks.timing import Measure, once
from mmapwrap import MemoryMapping

MADV_POPULATE_WRITE = 23  # Python 3.11's mmap has no name for it
MS_SYNC = 4
IDLE = 0.1  # seconds over which the idle rate is taken, before the call and after

# ctypes lets other threads run as well, and adds nothing: what a thread keeps beside it is what the
# kernel and the machine leave.
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.msync.argtypes = LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Counter:
    """A thread that does nothing but count, on a processor that the calling thread keeps off."""

    def __init__(self) -> None:
        self._count = 0
        self._is_on = True
        self._thread = threading.Thread(target=self._run)
        self._processors = os.sched_getaffinity(0)
        if len(self._processors) < 2:
            raise UnavailableError("the process may use one processor only")

    def _run(self) -> None:
        os.sched_setaffinity(0, {max(self._processors)})
        while self._is_on:
            self._count += 1

    def __enter__(self) -> Self:
        self._thread.start()
        os.sched_setaffinity(0, self._processors - {max(self._processors)})
        return self

    def __exit__(self, *_: object) -> None:
        self._is_on = False
        self._thread.join()
        os.sched_setaffinity(0, self._processors)

    def _waited(self) -> float:
        """The seconds that the counter was ready to run and no processor was free."""
        path = Path(f"/proc/self/task/{self._thread.native_id}/schedstat")
        return int(path.read_text().split()[1]) * 1e-9 if path.exists() else 0.0

    def rate_during(self, work: Callable[[], object]) -> float:
        """Count per second, without those in which other processes had the processors."""
        waited = self._waited()
        before, start = self._count, time.perf_counter()
        work()
        counted, seconds = self._count - before, time.perf_counter() - start
        return counted / (seconds - (self._waited() - waited))


def share_left(work: Callable[[], object]) -> float:
    """What another thread keeps of its idle rate while this one works."""
    with Counter() as counter:
        before = counter.rate_during(lambda: time.sleep(IDLE))
        during = counter.rate_during(work)
        after = counter.rate_during(lambda: time.sleep(IDLE))
    return during / ((before + after) / 2)


def large(bench: Bench) -> int:
    """The bytes of what should take long."""
    return GIB // 4 if bench.is_quick else GIB


def change(buffer: "memoryview | mmap.mmap") -> None:
    """Change every page."""
    np.frombuffer(buffer, np.uint8)[:: mmap.PAGESIZE] += 1


@contextmanager
def sync(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Write back a file of which every page has changed."""
    size = large(bench)
    with (
        bench.file(size) as path,
        MemoryMapping.from_file(path) as m,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), size) as peer,
    ):

        def measure() -> float:
            change(m.view())
            return share_left(m.msync)

        def measure_peer() -> float:
            change(peer)
            return share_left(peer.flush)

        def measure_control() -> float:
            change(m.view())
            return share_left(lambda: LIBC.msync(m.as_ptr(), size, MS_SYNC))

        yield measure, measure_peer, measure_control


@contextmanager
def let_go_and_sync(
    bench: Bench, measure: Callable[[Callable[[], object]], float]
) -> Generator[tuple[Measure, ...]]:
    """Write it back after letting go of its pages, and as it is."""
    size = large(bench)
    with bench.file(size) as path, MemoryMapping.from_file(path) as m:

        def let_go() -> None:
            m.drop_page_cache(0, size)
            m.msync()

        def measured(work: Callable[[], object]) -> float:
            change(m.view())
            return measure(work)

        yield partial(measured, let_go), partial(measured, m.msync)


def beside_a_counter(work: Callable[[], object]) -> float:
    """The seconds of work while another thread counts."""
    with Counter():
        return once(work)()


@contextmanager
def populate(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Take all the memory of a new mapping."""
    size = large(bench)

    def measure() -> float:
        with MemoryMapping.new(size) as m:
            return share_left(lambda: m.populate(write=True))

    def measure_peer() -> float:
        with mmap.mmap(-1, size) as peer:
            return share_left(lambda: peer.madvise(MADV_POPULATE_WRITE))

    def measure_control() -> float:
        with MemoryMapping.new(size) as m:
            return share_left(lambda: LIBC.madvise(m.as_ptr(), size, MADV_POPULATE_WRITE))

    yield measure, measure_peer, measure_control


@contextmanager
def lock(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Lock all the memory of a new mapping, which takes it."""
    size = large(bench)
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with MemoryMapping.new(size) as m:
        if LIBC.mlock(m.as_ptr(), size) != 0:
            raise UnavailableError(f"RLIMIT_MEMLOCK is {limit} bytes")

    def measure() -> float:
        with MemoryMapping.new(size) as m:
            return share_left(m.lock)

    def measure_peer() -> float:
        with MemoryMapping.new(size) as m:
            return share_left(lambda: LIBC.mlock(m.as_ptr(), size))

    yield measure, measure_peer


@contextmanager
def two_copies(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Copy out in two threads at once."""
    size = 256 * MIB
    regions, buffers = (
        [MemoryMapping.anonymous(size, populate=True) for _ in range(2)] for _ in range(2)
    )
    views = [buffer.view() for buffer in buffers]
    pointers = [
        pointer
        for to, start in zip(buffers, regions, strict=True)
        for pointer in (to.as_ptr(), start.as_ptr())
    ]

    def copy() -> None:
        threads = [
            threading.Thread(target=region.read_slice, args=(view, 0))
            for region, view in zip(regions, views, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    yield once(copy), lambda: bench.lib.peer_memcpy_two(*pointers, size)


MOST, SEEN = itself(at_least=0.8), itself()

CASES = (
    Case(
        "left to a thread that counts: dirty msync",
        sync,
        (Peer("mmap.flush", MOST), Peer("msync by ctypes", SEEN)),
        Unit.SHARE,
    ),
    Case(
        "left to a thread that counts: dirty msync after drop_page_cache",
        partial(let_go_and_sync, measure=share_left),
        (Peer("msync as it is", SEEN),),
        Unit.SHARE,
    ),
    Case(
        "dirty msync after drop_page_cache, beside a thread that counts",
        partial(let_go_and_sync, measure=beside_a_counter),
        (Peer("msync as it is", speed()),),
    ),
    Case(
        "left to a thread that counts: populate",
        populate,
        (Peer("mmap.madvise", MOST), Peer("madvise by ctypes", SEEN)),
        Unit.SHARE,
    ),
    Case(
        "left to a thread that counts: lock",
        lock,
        (Peer("mlock by ctypes", MOST),),
        Unit.SHARE,
    ),
    Case("two threads copy 256 MiB out each", two_copies, (Peer("two threads in C", speed(0.9)),)),
)
