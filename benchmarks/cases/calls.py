"""Short calls: what a mapping costs, and what the library adds to a system call."""

import ctypes
import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager

from benchmarks.bench import MIB, Bench
from benchmarks.case import Case, Peer, times
from benchmarks.timing import Measure
from mmapwrap import Advice, MemoryMapping

PAGE = mmap.PAGESIZE


@contextmanager
def anonymous(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Map a page of memory and close it."""
    yield (
        bench.timed("new(4096).close()", new=MemoryMapping.new),
        bench.timed("mmap(-1, 4096).close()", mmap=mmap.mmap),
        bench.looped(lambda loops: bench.lib.peer_map_close(4096, -1, loops)),
    )


@contextmanager
def file_range(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Map 1 MiB of a file and close it."""
    with bench.file(MIB) as path, path.open("r+b") as file:
        fd = file.fileno()
        yield (
            bench.timed("from_fd(fd, 1048576).close()", from_fd=MemoryMapping.from_fd, fd=fd),
            bench.timed("mmap(fd, 1048576).close()", mmap=mmap.mmap, fd=fd),
            bench.looped(lambda loops: bench.lib.peer_map_close(MIB, fd, loops)),
        )


@contextmanager
def advice(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Give advice that changes nothing."""
    with MemoryMapping.new(MIB) as m, mmap.mmap(-1, MIB) as peer:
        address = m.as_ptr()
        yield (
            bench.timed("m.advise(normal)", m=m, normal=Advice.NORMAL),
            bench.timed("m.madvise(normal)", m=peer, normal=mmap.MADV_NORMAL),
            bench.looped(lambda loops: bench.lib.peer_madvise_normal(address, MIB, loops)),
        )


@contextmanager
def sync_memory(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Write back a page of memory, which there is nowhere to write to."""
    with MemoryMapping.new(MIB) as m, mmap.mmap(-1, MIB) as peer:
        address = m.as_ptr()
        yield (
            bench.timed("m.msync(0, 4096)", m=m),
            bench.timed("m.flush(0, 4096)", m=peer),
            bench.looped(lambda loops: bench.lib.peer_msync(address, PAGE, loops)),
        )


@contextmanager
def sync(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Write back a page of a file that has not changed: the disk is asked all the same."""
    with (
        bench.file(MIB) as path,
        MemoryMapping.from_file(path) as m,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), MIB) as peer,
    ):
        os.fsync(file.fileno())
        address = m.as_ptr()
        yield (
            bench.timed("m.msync(0, 4096)", m=m),
            bench.timed("m.flush(0, 4096)", m=peer),
            bench.looped(lambda loops: bench.lib.peer_msync(address, PAGE, loops)),
        )


@contextmanager
def locks(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Lock a page that is in memory, and unlock it."""
    libc = ctypes.CDLL(None, use_errno=True)
    for function in (libc.mlock, libc.munlock):
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with MemoryMapping.new(MIB) as m:
        m[0] = 1
        address = m.as_ptr()
        yield (
            bench.timed("m.lock(0, 4096); m.unlock(0, 4096)", m=m),
            bench.timed(
                "lock(address, 4096); unlock(address, 4096)",
                lock=libc.mlock,
                unlock=libc.munlock,
                address=address,
            ),
            bench.looped(lambda loops: bench.lib.peer_lock_unlock(address, PAGE, loops)),
        )


IN_C = Peer("the bare calls in C", times())

CASES = (
    Case("map and close: anonymous 4 KiB", anonymous, (Peer("mmap.mmap", times(1.5)), IN_C)),
    Case("map and close: 1 MiB of a file", file_range, (Peer("mmap.mmap", times(1.5)), IN_C)),
    Case("advise(NORMAL)", advice, (Peer("mmap.madvise", times(1.5)), IN_C)),
    Case("msync of a page of memory", sync_memory, (Peer("mmap.flush", times(1.5)), IN_C)),
    Case("msync of a clean page of a file", sync, (Peer("mmap.flush", times(1.5)), IN_C)),
    Case("lock and unlock", locks, (Peer("mlock, munlock by ctypes", times(1.3)), IN_C)),
)
