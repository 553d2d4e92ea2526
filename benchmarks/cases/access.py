"""Small accesses: a byte or a number at a time."""

import mmap
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

from benchmarks.bench import MIB, Bench
from benchmarks.case import Case, Peer, Prepared, times
from benchmarks.timing import Measure
from mmapwrap import MemoryMapping, u32, u64


@contextmanager
def view_byte(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read one byte through a view that is held."""
    m, peer = MemoryMapping.new(MIB), mmap.mmap(-1, MIB)
    yield (
        bench.timed("view[1025]", view=m.view()),
        bench.timed("view[1025]", view=memoryview(peer)),
    )


@contextmanager
def view_u64(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Read one u64 through a view that is held."""
    m, peer = MemoryMapping.new(MIB), mmap.mmap(-1, MIB)
    yield (
        bench.timed("view[129]", view=m.view().cast("Q")),
        bench.timed("view[129]", view=memoryview(peer).cast("Q")),
    )


@contextmanager
def regions(bench: Bench, *, of_file: bool) -> Generator[tuple[MemoryMapping, mmap.mmap]]:
    """The same memory, or the same file, mapped by both."""
    if not of_file:
        with MemoryMapping.new(MIB) as m, mmap.mmap(-1, MIB) as peer:
            yield m, peer
        return
    with (
        bench.file(MIB) as path,
        MemoryMapping.from_file(path) as m,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), MIB) as peer,
    ):
        yield m, peer


@contextmanager
def number(bench: Bench, *, of_file: bool) -> Generator[tuple[Measure, ...]]:
    """Read one u64 from anywhere."""
    with regions(bench, of_file=of_file) as (m, peer):
        yield (
            bench.timed("m.read_obj(u64, 1032)", m=m, u64=u64),
            bench.timed("unpack_from('Q', m, 1032)[0]", m=peer, unpack_from=struct.unpack_from),
        )


@contextmanager
def indexed(bench: Bench, *, of_file: bool) -> Generator[tuple[Measure, ...]]:
    """Read one byte by its index."""
    with regions(bench, of_file=of_file) as (m, peer):
        yield (
            bench.timed("m[1025]", m=m),
            bench.timed("unpack_from('B', m, 1025)[0]", m=peer, unpack_from=struct.unpack_from),
            bench.timed("m[1025]", m=peer),
        )


@contextmanager
def volatile_load(bench: Bench, *, of_file: bool) -> Generator[tuple[Measure, ...]]:
    """Load a u32 by one load of its width."""
    with regions(bench, of_file=of_file) as (m, peer):
        load, address = bench.lib.peer_load_u32, m.as_ptr()
        yield (
            bench.timed("part.load(u32, 1024)", part=m.get_slice(0, 4096), u32=u32),
            bench.timed("load(address, 1024)", load=load, address=address),
            bench.timed("unpack_from('I', m, 1024)[0]", m=peer, unpack_from=struct.unpack_from),
        )


@contextmanager
def volatile_store(bench: Bench, *, of_file: bool) -> Generator[tuple[Measure, ...]]:
    """Store a u32 by one store of its width."""
    with regions(bench, of_file=of_file) as (m, peer):
        store, address = bench.lib.peer_store_u32, m.as_ptr()
        yield (
            bench.timed("part.store(u32, 7, 1024)", part=m.get_slice(0, 4096), u32=u32),
            bench.timed("store(address, 1024, 7)", store=store, address=address),
            bench.timed("pack_into('I', m, 1024, 7)", m=peer, pack_into=struct.pack_into),
        )


@contextmanager
def beside_memory(bench: Bench, statement: str) -> Generator[tuple[Measure, ...]]:
    """The same small access to a file and to memory."""
    with (
        regions(bench, of_file=True) as (of_file, _),
        regions(bench, of_file=False) as (of_memory, _),
    ):
        part_of_file, part_of_memory = of_file.get_slice(0, 4096), of_memory.get_slice(0, 4096)
        yield (
            bench.timed(statement, m=of_file, part=part_of_file, u32=u32, u64=u64),
            bench.timed(statement, m=of_memory, part=part_of_memory, u32=u32, u64=u64),
        )


# The same object to the interpreter, and so the same time; a twentieth is what rounds differ by.
VIEW = (Peer("memoryview(mmap)", times(1.05)),)
UNPACK = Peer("struct.unpack_from on mmap", times(3))
BARE = Peer("the bare cffi call", times(3))


def small(name: str, prepare: Callable[..., Prepared], *peers: Peer) -> tuple[Case, Case]:
    """Give the case twice: in memory, and in a file, which may be cut short meanwhile."""
    return (
        Case(name, partial(prepare, of_file=False), peers),
        Case(f"{name} of a file", partial(prepare, of_file=True), peers),
    )


CASES = (
    Case("one byte through a view", view_byte, VIEW),
    Case("one u64 through a view", view_u64, VIEW),
    *small("read_obj(u64)", number, UNPACK),
    *small("region[i]", indexed, UNPACK, Peer("mmap[i]", times())),
    *small(
        "volatile load of a u32",
        volatile_load,
        BARE,
        Peer("struct.unpack_from on mmap", times()),
    ),
    *small(
        "volatile store of a u32",
        volatile_store,
        BARE,
        Peer("struct.pack_into on mmap", times()),
    ),
    *(
        Case(
            f"{statement}, of a file",
            partial(beside_memory, statement=statement),
            (Peer("the same of memory", times(1.3)),),
        )
        for statement in ("m[1025]", "m.read_obj(u64, 1032)", "part.load(u32, 1024)")
    ),
)
