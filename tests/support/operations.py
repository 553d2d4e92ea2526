"""Each call of the library, ready to be made on demand, and how its end and traces are compared."""

import os
import signal
import socket
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
from arena_view import runs
from injection import Outcome
from kernel_view import PAGE, free_address, is_mapped, known_bytes, open_descriptors
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    Advice,
    DestructiveAdvice,
    MappedRegion,
    MappingFaultError,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    ProtectionError,
    SharedMemory,
    Sharing,
    SyncMode,
    u32,
    unsafe,
)

# No mapping but those under test has this size, so that it tells their system calls from others.
SIZE: Final = 23 * PAGE
WINDOW: Final = 16 << 20
ALIGN: Final = 1 << 40
SEGMENT: Final = 5 * PAGE


@attrs.frozen
class Room:
    """Where the calls find a file: in a directory of their own."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "file"

    @contextmanager
    def file(self) -> Generator[int]:
        """The file, of SIZE known bytes, and open."""
        self.path.unlink(missing_ok=True)  # it may be another user's
        self.path.write_bytes(known_bytes(SIZE))
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def nothing() -> object:
    return None


def next_descriptor() -> int:
    fd = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return fd


@attrs.frozen
class Stage:
    """A call that is ready to be made, as often as one likes, and what a failure may not change."""

    act: Callable[[], object]
    state: Callable[[], object] = nothing
    next_fd: int = attrs.field(factory=next_descriptor)


Prepare: TypeAlias = Callable[[Room], AbstractContextManager[Stage]]


def _content(region: MappedRegion, offset: int, count: int) -> list[object]:
    """The bytes of a range, and the name of the error where there are none to be had.

    They are read and written back, and looked at in a view: no signal may come of that.
    """
    try:
        content = region[offset : offset + count]
        with suppress(ProtectionError):
            region[offset : offset + count] = content
        with region.view(offset, count) as view:
            assert view == content
    except MmapError as error:
        if count == PAGE:
            return [type(error).__name__]
        pages = range(offset, offset + count, PAGE)
        return [part for page in pages for part in _content(region, page, PAGE)]
    else:
        return [content]


def _listed(region: MappedRegion) -> list[tuple[int, int, str, str, int]]:
    """The kernel's list of a region; whether what is reserved is one mapping does not matter."""
    joined: list[tuple[int, int, str, str, int]] = []
    for run in runs(region):
        if joined and run[2:] == joined[-1][2:] == ("---p", "", 0):
            joined[-1] = (joined[-1][0], run[1], *run[2:])
        else:
            joined.append(run)
    return joined


def seen(region: MappedRegion) -> object:
    """What a region is, to itself and to the kernel, and what it holds."""
    if region.closed:
        return "closed"
    segments = region.segments() if isinstance(region, MemoryMappingArena) else ()
    content = _content(region, 0, region.size)
    return _listed(region), segments, region.live_views, content


def making(make: Callable[[Room], object]) -> Prepare:
    """A constructor."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        yield Stage(lambda: make(room))

    return prepared


def making_of_file(make: Callable[[int], object]) -> Prepare:
    """A constructor that takes a descriptor."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with room.file() as fd:
            yield Stage(lambda: make(fd))

    return prepared


def making_of_path(make: Callable[[Path], object]) -> Prepare:
    """A constructor that takes a path."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with room.file():
            yield Stage(lambda: make(room.path))

    return prepared


def making_at_address(make: Callable[[int, int], object]) -> Prepare:
    """A constructor that takes a free address and a descriptor."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        address = free_address(SIZE)
        with room.file() as fd:
            yield Stage(lambda: make(address, fd), lambda: is_mapped(address, SIZE))

    return prepared


@contextmanager
def replacing(room: Room) -> Generator[Stage]:
    """An unsafe constructor over what is mapped already."""
    with MemoryMapping.new(SIZE) as owner:
        owner[:] = known_bytes(SIZE)
        made: list[MemoryMapping] = []

        def replace() -> None:
            # What is replaced is the owner's to unmap.
            made.append(unsafe.new_protection_fixed(owner.as_ptr(), SIZE, READ))

        yield Stage(replace, lambda: seen(owner))
        made.clear()


Region: TypeAlias = Callable[[Room], AbstractContextManager[Any]]


@contextmanager
def of_file(room: Room) -> Generator[MemoryMapping]:
    """A shared, writable mapping of a file."""
    with room.file() as fd, MemoryMapping.from_fd(fd, SIZE) as m:
        yield m


@contextmanager
def of_memory(room: Room) -> Generator[MemoryMapping]:
    """Private memory; more of it than is populated at a time."""
    with MemoryMapping.anonymous(WINDOW + SIZE, sharing=Sharing.PRIVATE) as m:
        yield m


@contextmanager
def of_two_protections(room: Room) -> Generator[MemoryMapping]:
    """A mapping of which a part is read-only."""
    with of_file(room) as m:
        m.protect(READ, 3 * PAGE, 2 * PAGE)
        yield m


@contextmanager
def of_cut_file(room: Room, sharing: Sharing = Sharing.SHARED) -> Generator[MemoryMapping]:
    """A mapping of a file that was truncated since."""
    with room.file() as fd, MemoryMapping.from_file(fd, SIZE, sharing=sharing) as m:
        os.ftruncate(fd, 7 * PAGE)
        yield m


@contextmanager
def of_arena(room: Room) -> Generator[MemoryMappingArena]:
    """An arena that holds memory, a hole, a file, and another hole."""
    with room.file() as fd, MemoryMappingArena.new(32 * PAGE) as arena:
        arena.add_anon(0, 8 * PAGE)
        arena[: 8 * PAGE] = known_bytes(8 * PAGE)
        arena.add_fd_offset(10 * PAGE, 6 * PAGE, fd, PAGE)
        yield arena


def on(region: Region, act: Callable[[Any], object]) -> Prepare:
    """A method of a region."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with region(room) as r:
            yield Stage(lambda: act(r), lambda: seen(r))

    return prepared


def advising(advice: Advice) -> Prepare:
    """Harmless advice."""
    return on(of_file, lambda m: m.advise(advice))


def advising_destructively(advice: DestructiveAdvice) -> Prepare:
    """Advice that is not."""
    return on(of_file, lambda m: m.advise_destructive(advice))


def on_arena(act: Callable[[MemoryMappingArena, int], object]) -> Prepare:
    """A method of an arena that takes a descriptor."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with of_arena(room) as arena, room.path.open("r+b") as file:
            yield Stage(lambda: act(arena, file.fileno()), lambda: seen(arena))

    return prepared


def on_cut_file(
    act: Callable[[MemoryMapping], object], sharing: Sharing = Sharing.SHARED
) -> Prepare:
    """A method that meets a page which the file does not have any more."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with of_cut_file(room, sharing) as m:
            yield Stage(lambda: act(m), lambda: runs(m)[0][:1])

    return prepared


@contextmanager
def recovering(room: Room) -> Generator[Stage]:
    """The return of a page that a guard has replaced by zeros."""
    with of_cut_file(room) as m:
        with suppress(MappingFaultError):
            touch_in_guard(m)
        yield Stage(m.recover, lambda: runs(m)[0][:1])


def displaced(act: Callable[[Any], object], region: Region = of_cut_file) -> Prepare:
    """A guarded method, where somebody replaced the handlers of the library."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with region(room) as m:
            for number in (signal.SIGBUS, signal.SIGSEGV):
                signal.signal(number, signal.SIG_DFL)
            time.sleep(TICK)
            yield Stage(lambda: act(m), lambda: m.closed)

    return prepared


TICK: Final = 0.02
"""Longer than a tick of the coarse clock: until then the library takes its handlers for granted."""


def touch_in_guard(m: MemoryMapping, offset: int = -1) -> None:
    """Read a byte of a view, which is not there any more."""
    with m.fault_guard(), m.view() as view:
        assert view[offset] == 0


def sum_up_in_guard(m: MemoryMapping) -> None:
    """Read all of a view, some of which is not there any more, without the GIL."""
    with m.fault_guard(), m.view() as view:
        zlib.crc32(view)


def transferring(act: Callable[[Any, int], object]) -> Prepare:
    """A transfer between a slice and a file, at the file's start."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with room.file() as fd, MemoryMapping.new(SIZE) as m:
            m[:] = bytes(SIZE)

            def transfer() -> object:
                os.lseek(fd, 0, os.SEEK_SET)
                return act(m.get_slice(0, SIZE), fd)

            yield Stage(transfer, lambda: (seen(m), room.path.read_bytes()))

    return prepared


@contextmanager
def transferring_in_parts(room: Room) -> Generator[Stage]:
    """A read into a slice of which the file fills only the start, so that there is another."""
    with room.file() as fd, MemoryMapping.new(2 * SIZE) as m:
        yield Stage(lambda: m.get_slice(0, 2 * SIZE).read_from_fd(fd, file_offset=0))


@contextmanager
def receiving_messages(room: Room) -> Generator[Stage]:
    """A read of the first of two messages from a socket that keeps them apart."""
    with MemoryMapping.new(SIZE) as m:

        def receive() -> int:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with one, other:
                other.send(b"first")
                other.send(b"second")
                other.shutdown(socket.SHUT_WR)
                return m.get_slice(0, SIZE).read_from_fd(one)

        yield Stage(receive)


@contextmanager
def protecting_halfway(room: Room) -> Generator[Stage]:
    """A change of protection that one file takes, and then another one refuses."""
    with room.file(), MemoryMappingArena.new(4 * PAGE) as arena:
        with room.path.open("r+b") as writable, room.path.open("rb") as read_only:
            arena.add_fd(0, PAGE, writable)
            arena.add_fd_offset_protection(PAGE, PAGE, read_only, 0, READ)
        yield Stage(lambda: arena.protect(WRITE, 0, 2 * PAGE), lambda: seen(arena))


def on_shared_memory(act: Callable[[SharedMemory], object]) -> Prepare:
    """A method of shared memory that is sealed against shrinking."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with SharedMemory.new("subject", SIZE) as memory:
            memory.add_seals(MemfdSeals.SHRINK)
            yield Stage(lambda: act(memory), lambda: (memory.closed, memory.get_seals()))

    return prepared


def remove(path: Path) -> None:
    """Remove a file, if there is one; if not, without a system call that is made to fail."""
    if os.access(path, os.F_OK):
        path.unlink()


def creating(capacity: int | None = None) -> Prepare:
    """A new file, which a failure may not leave behind."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        path = room.folder / "created"

        def create() -> object:
            remove(path)
            return MemoryMapping.create(path, SIZE, capacity=capacity)

        remove(path)
        yield Stage(create, path.exists)
        remove(path)

    return prepared


@contextmanager
def creating_over(room: Room) -> Generator[Stage]:
    """A file in place of another, which a failure may not touch."""
    with room.file():
        yield Stage(
            lambda: MemoryMapping.create(room.path, SIZE, overwrite=True),
            lambda: (sorted(room.folder.iterdir()), room.path.read_bytes()),
        )
    for left in room.folder.glob(".mmapwrap-*"):  # where the way back failed too
        left.unlink()


@contextmanager
def creating_by_name(room: Room) -> Generator[Stage]:
    """New memory with a name, which a failure may not leave behind."""
    path = Path(f"/dev/shm/mmapwrap-{os.getpid()}")

    def create() -> object:
        remove(path)
        return SharedMemory.create_named(path.name, SIZE)

    yield Stage(create, path.exists)
    remove(path)


@contextmanager
def opening_by_name(room: Room) -> Generator[Stage]:
    """Memory that has a name."""
    name = f"mmapwrap-{os.getpid()}"
    with SharedMemory.create_named(name, SIZE):
        yield Stage(lambda: SharedMemory.open_named(name))
    SharedMemory.unlink_named(name)


@contextmanager
def unlinking_by_name(room: Room) -> Generator[Stage]:
    """The name of memory, which has another one as well."""
    name = f"mmapwrap-{os.getpid()}"
    spare = Path("/dev/shm", f"{name}-spare")
    spare.touch()

    def unlink() -> None:
        with suppress(FileExistsError):
            spare.with_name(name).hardlink_to(spare)
        SharedMemory.unlink_named(name)

    yield Stage(unlink)
    for path in (spare, spare.with_name(name)):
        path.unlink(missing_ok=True)


@contextmanager
def of_growing_file(room: Room) -> Generator[MemoryMapping]:
    """A mapping of a file that may become four times as long."""
    with room.file() as fd, MemoryMapping.from_file(fd, capacity=4 * SIZE) as m:
        yield m


@contextmanager
def of_growing_locked_file(room: Room) -> Generator[MemoryMapping]:
    """Such a mapping, of which the last page is locked."""
    with of_growing_file(room) as m:
        m.lock(SIZE - PAGE, PAGE)
        yield m


@contextmanager
def of_growing_protections(room: Room) -> Generator[MemoryMapping]:
    """Such a mapping, of which a part is read-only."""
    with of_growing_file(room) as m:
        m.protect(READ, 3 * PAGE, 2 * PAGE)
        yield m


def resizing(size: int, region: Region = of_growing_file) -> Prepare:
    """A change of the size, and back; the length of the file may not differ from it afterwards."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with region(room) as m:

            def change() -> None:
                m.resize(size)
                m.resize(SIZE)

            yield Stage(change, lambda: (seen(m), room.path.stat().st_size))

    return prepared


def moving(region: Region) -> Prepare:
    """A growth for which the pages have to move."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with region(room) as m:
            yield Stage(lambda: m.resize(m.size + SIZE), lambda: m[:SIZE])

    return prepared


@contextmanager
def of_small_memory(room: Room) -> Generator[MemoryMapping]:
    """Private memory, of SIZE known bytes."""
    with MemoryMapping.anonymous(SIZE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(SIZE)
        yield m


@contextmanager
def of_growing_memory(room: Room) -> Generator[MemoryMapping]:
    """Such memory, which may become four times as long."""
    with MemoryMapping.anonymous(SIZE, sharing=Sharing.PRIVATE, capacity=4 * SIZE) as m:
        m[:] = known_bytes(SIZE)
        yield m


@contextmanager
def shrinking_memory(room: Room) -> Generator[Stage]:
    """Memory of which the last pages go, which are zeros when they come again."""
    with of_growing_memory(room) as m:

        def change() -> bytes:
            m.resize(SIZE - SEGMENT)
            m.resize(SIZE)
            return m[-SEGMENT:]

        yield Stage(change, lambda: (m.size, m[: SIZE - SEGMENT]))


def following(region: Region, size: int) -> Prepare:
    """A file that has another length, and the mapping that takes it; and back."""

    @contextmanager
    def prepared(room: Room) -> Generator[Stage]:
        with region(room) as m:

            def follow() -> object:
                os.truncate(room.path, SIZE)
                m.refresh()
                os.truncate(room.path, size)
                return m.refresh()

            yield Stage(follow)

    return prepared


@contextmanager
def resizing_shared_memory(room: Room) -> Generator[Stage]:
    with SharedMemory.new("subject", SIZE) as memory:

        def change() -> None:
            memory.resize(SIZE + SEGMENT)
            memory.resize(SIZE)

        yield Stage(change, lambda: os.fstat(memory.fileno()).st_size - memory.size)


@contextmanager
def closing(room: Room) -> Generator[Stage]:
    with room.file() as fd:
        m = MemoryMapping.from_fd_offset_protection(fd, SIZE, 0, READ)
        yield Stage(m.close)
        assert m.closed


@contextmanager
def closing_the_last_view(room: Room) -> Generator[Stage]:
    with room.file() as fd:
        m = MemoryMapping.from_fd_offset_protection(fd, SIZE, 0, READ)
        views = [m.view()]
        m.close()
        yield Stage(views.clear)


OPERATIONS: Final[dict[str, Prepare]] = {
    "new": making(lambda room: MemoryMapping.new(SIZE)),
    "new_protection aligned": making(lambda room: MemoryMapping.new_protection(SIZE, ALIGN, READ)),
    "new_protection_fixed": making_at_address(
        lambda address, fd: MemoryMapping.new_protection_fixed(address, SIZE, RW)
    ),
    "from_descriptor_offset_protection_fixed": making_at_address(
        lambda address, fd: MemoryMapping.from_descriptor_offset_protection_fixed(
            address, fd, SIZE, 0, RW
        )
    ),
    "unsafe.new_protection_fixed": replacing,
    "from_fd": making_of_file(lambda fd: MemoryMapping.from_fd(fd, SIZE)),
    "from_fd_offset_protection_populate": making_of_file(
        lambda fd: MemoryMapping.from_fd_offset_protection_populate(fd, SIZE, 0, ALIGN, RW, True)
    ),
    "from_file of a path": making_of_path(MemoryMapping.from_file),
    "from_file of a descriptor": making_of_file(MemoryMapping.from_file),
    "anonymous populate": making(
        lambda room: MemoryMapping.anonymous(SIZE, populate=True, sharing=Sharing.SHARED)
    ),
    "anonymous private populate": making(
        lambda room: MemoryMapping.anonymous(
            SIZE, populate=True, prot=READ, sharing=Sharing.PRIVATE, reserve=True
        )
    ),
    "anonymous name": making(
        lambda room: MemoryMapping.anonymous(SIZE, prot=READ, sharing=Sharing.PRIVATE, name="n")
    ),
    "close": closing,
    "close of the last view": closing_the_last_view,
    # Arenas
    "arena new": making(lambda room: MemoryMappingArena.new(SIZE)),
    "arena add_anon": on_arena(lambda arena, fd: arena.add_anon(20 * PAGE, SEGMENT)),
    "arena add_anon over": on_arena(lambda arena, fd: arena.add_anon(2 * PAGE, SEGMENT)),
    "arena add_fd": on_arena(lambda arena, fd: arena.add_fd(20 * PAGE, SEGMENT, fd)),
    "arena add_fd over": on_arena(lambda arena, fd: arena.add_fd(12 * PAGE, SEGMENT, fd)),
    "arena remove": on_arena(lambda arena, fd: arena.remove(2 * PAGE, SEGMENT)),
    "arena protect": on_arena(lambda arena, fd: arena.protect(READ, 3 * PAGE, SEGMENT)),
    "arena protect halfway": protecting_halfway,
    "arena evict": on_arena(lambda arena, fd: arena.evict(10 * PAGE, SEGMENT)),
    # Regions
    **{f"advise {each.name}": advising(each) for each in Advice},
    **{
        f"advise_destructive {each.name}": advising_destructively(each)
        for each in DestructiveAdvice
    },
    "use_dontfork": on(of_file, lambda m: m.use_dontfork()),
    "use_hugepages": on(of_file, lambda m: m.use_hugepages()),
    "async_prefetch": on(of_file, lambda m: m.async_prefetch(0, SIZE)),
    "drop_page_cache": on(of_file, lambda m: m.drop_page_cache(0, SIZE)),
    "remove_range": on(of_file, lambda m: m.remove_range(0, SIZE)),
    "populate": on(of_memory, lambda m: m.populate()),
    "populate write": on(of_file, lambda m: m.populate(write=True)),
    "msync": on(of_file, lambda m: m.msync()),
    "msync ASYNC": on(of_file, lambda m: m.msync(mode=SyncMode.ASYNC)),
    "msync invalidate": on(of_file, lambda m: m.msync(invalidate=True)),
    "protect": on(of_file, lambda m: m.protect(READ)),
    "protect of a part": on(of_two_protections, lambda m: m.protect(NONE, 2 * PAGE, 4 * PAGE)),
    "lock": on(of_file, lambda m: m.lock()),
    "lock_all": on(of_file, lambda m: m.lock_all()),
    "lock_on_fault": on(of_file, lambda m: m.lock_on_fault(0, SIZE)),
    "unlock": on(of_file, lambda m: m.unlock(0, SIZE)),
    "unlock_all": on(of_file, lambda m: m.unlock_all()),
    "residency": on(of_file, lambda m: m.residency()),
    "evict": on(of_file, lambda m: m.evict()),
    # Guarded access
    "fault_guard": displaced(touch_in_guard),
    "read_slice": displaced(lambda m: m.read_slice(bytearray(SIZE), 0)),
    "write_slice": displaced(lambda m: m.write_slice(bytes(SIZE), 0)),
    "read_exact": displaced(lambda m: m.read_exact(bytearray(SIZE), 0)),
    "write_all": displaced(lambda m: m.write_all(bytes(SIZE), 0)),
    "find": displaced(lambda m: m.find(b"\0\0")),
    "read of an open file": displaced(lambda m: m.open(buffering=0).read()),
    "load_many": displaced(lambda m: m.get_slice(0, SIZE).load_many(u32, SIZE // 4)),
    "store_many": displaced(lambda m: m.get_slice(0, SIZE).store_many(u32, [0] * (SIZE // 4))),
    "fault_guard of a cut file": on_cut_file(sum_up_in_guard),
    "fault_guard of a cut private mapping": on_cut_file(sum_up_in_guard, Sharing.PRIVATE),
    "recover": recovering,
    # Transfers
    "read_from_fd": transferring(lambda s, fd: s.read_from_fd(fd)),
    "read_from_fd at an offset": transferring(lambda s, fd: s.read_from_fd(fd, file_offset=0)),
    "read_from_fd in parts": transferring_in_parts,
    "read_from_fd of messages": receiving_messages,
    "write_to_fd": transferring(lambda s, fd: s.write_to_fd(fd)),
    "write_to_fd at an offset": transferring(lambda s, fd: s.write_to_fd(fd, file_offset=0)),
    # Shared memory
    "shared memory new": making(lambda room: SharedMemory.new("made", SIZE)),
    "shared memory new allocate": making(
        lambda room: SharedMemory.new("made", SIZE, allocate=True)
    ),
    "shared memory from_fd": making_of_file(SharedMemory.from_fd),
    "shared memory from_fd with seals": on_shared_memory(
        lambda memory: SharedMemory.from_fd(memory, required_seals=MemfdSeals.SHRINK)
    ),
    "shared memory try_clone": on_shared_memory(lambda memory: memory.try_clone()),
    "shared memory get_seals": on_shared_memory(lambda memory: memory.get_seals()),
    "shared memory add_seals": on_shared_memory(lambda memory: memory.add_seals(MemfdSeals.GROW)),
    "shared memory map": on_shared_memory(lambda memory: memory.map()),
    "shared memory map with a capacity": on_shared_memory(
        lambda memory: memory.map(capacity=4 * SIZE)
    ),
    "shared memory create_named": creating_by_name,
    "shared memory open_named": opening_by_name,
    "shared memory unlink_named": unlinking_by_name,
    "shared memory resize": resizing_shared_memory,
    "shared memory refresh": on_shared_memory(lambda memory: memory.refresh()),
    # Growth
    "create": creating(),
    "create with a capacity": creating(4 * SIZE),
    "create over": creating_over,
    "from_file of a path with a capacity": making_of_path(
        lambda path: MemoryMapping.from_file(path, capacity=4 * SIZE)
    ),
    "from_file of a descriptor with a capacity": making_of_file(
        lambda fd: MemoryMapping.from_file(fd, capacity=4 * SIZE)
    ),
    "anonymous with a capacity": making(
        lambda room: MemoryMapping.anonymous(SIZE, capacity=4 * SIZE)
    ),
    "resize larger": resizing(SIZE + SEGMENT),
    "resize smaller": resizing(SIZE - PAGE),
    "resize smaller of memory": shrinking_memory,
    "resize with a lock": resizing(SIZE + SEGMENT, of_growing_locked_file),
    "resize with two protections": resizing(SIZE + SEGMENT, of_growing_protections),
    "resize that moves memory": moving(of_small_memory),
    "resize that moves a file": moving(of_file),
    "refresh": on(of_growing_file, lambda m: m.refresh()),
    "refresh larger": following(of_growing_protections, SIZE + SEGMENT),
    "refresh without a capacity": following(of_file, SIZE + SEGMENT),
}


# What is done in memory alone.
WITHOUT_SYSTEM_CALLS: Final[dict[str, Prepare]] = {
    "array": on(of_file, lambda m: m.array("u2", 5, offset=4).tolist()),
    "open": on(of_file, lambda m: m.open().read(50)),
    "open to write": on(of_file, lambda m: m.open("r+b", buffering=0).write(b"written")),
    "view": on(of_file, lambda m: m.view()[5]),
    "read_exact of a slice": on(of_file, lambda m: m.get_slice(0, 9).read_exact(bytearray(9))),
    "write_all of a slice": on(of_file, lambda m: m.get_slice(0, 9).write_all(bytes(9))),
    "count": on(of_file, lambda m: m.count(b"a")),
    "move": on(of_file, lambda m: m.move(0, PAGE, PAGE)),
    "range_end": on(of_file, lambda m: m.range_end(5, 6)),
    "capacity": on(of_growing_file, lambda m: m.capacity),
}


# In which only the library's handlers are between a fault and the end of the process.
DISPLACED: Final = {
    "fault_guard",
    "read_slice",
    "write_slice",
    "read_exact",
    "write_all",
    "find",
    "read of an open file",
    "load_many",
    "store_many",
}
Ranges: TypeAlias = list[tuple[int, int]]


def _without(ranges: Ranges, others: Ranges) -> Ranges:
    """The parts of ranges that are in none of the others; both are in order."""
    left: Ranges = []
    for start, end in ranges:
        rest = start
        for first, last in others:
            if first < end and rest < last:
                if rest < first:
                    left.append((rest, first))
                rest = max(rest, last)
        if rest < end:
            left.append((rest, end))
    return left


def _ranges(listing: str, *, is_heap_counted: bool) -> Ranges:
    """The ranges of a list like /proc/self/maps, with or without what may be the heap or a stack.

    Those grow at any time; and so does look what private memory is put in place of.
    """
    ranges: Ranges = []
    for line in listing.splitlines():
        edges, perms, _, _, _, *path = line.split(maxsplit=5)
        is_heap = perms == "rw-p" and path in ([], ["[heap]"], ["[stack]"])
        if is_heap and not is_heap_counted:
            continue
        start, end = (int(edge, 16) for edge in edges.split("-"))
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, end))
    return ranges


def _descriptors() -> dict[int, str]:
    return {fd: path.removesuffix(" (deleted)") for fd, path in open_descriptors().items()}


@attrs.frozen
class Traces:
    """What a process has mapped and open."""

    listing: str = attrs.field(factory=Path("/proc/self/maps").read_text)
    descriptors: dict[int, str] = attrs.field(factory=_descriptors)

    def difference(self) -> str:
        """What was not so, or is so no more; empty where nothing differs."""
        now = Traces()
        if now == self:
            return ""
        ranges = _ranges(now.listing, is_heap_counted=False)
        all_ranges = _ranges(now.listing, is_heap_counted=True)
        old_ranges = _ranges(self.listing, is_heap_counted=False)
        old_all_ranges = _ranges(self.listing, is_heap_counted=True)
        opened = now.descriptors.items() - self.descriptors.items()
        closed = self.descriptors.items() - now.descriptors.items()
        found = [
            *(f"{start:#x}-{end:#x} is mapped" for start, end in _without(ranges, old_all_ranges)),
            *(
                f"{start:#x}-{end:#x} is unmapped"
                for start, end in _without(old_ranges, all_ranges)
            ),
            *(f"descriptor {fd} is open: {path}" for fd, path in opened),
            *(f"descriptor {fd} is closed: {path}" for fd, path in closed),
        ]
        return ", ".join(found)


def _let_go(error: BaseException | None) -> None:
    """Forget the frames of an error, which hold what it was raised about."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def result_of(outcome: Outcome) -> str:
    """How a call ended, in a form that can be compared with another call's end."""
    error = outcome.error
    _let_go(error)
    if error is not None:
        number = error.errno if isinstance(error, OSError) else ""
        return f"{type(error).__name__} {number}"
    if isinstance(outcome.value, MappedRegion | SharedMemory):
        outcome.value.close()
        return f"a {type(outcome.value).__name__}"
    return str(outcome.value)


def outcome_of(act: Callable[[], object]) -> Outcome:
    """Make a call in which nothing is made to fail."""
    try:
        return Outcome(value=act())
    except BaseException as error:  # noqa: BLE001  # it is an outcome too
        _let_go(error)
        return Outcome(error=error)


def as_usual(prepare: Prepare, room: Room) -> tuple[str, object]:
    """How an operation ends where nothing is made to fail, and what is then."""
    with prepare(room) as stage:
        result = result_of(outcome_of(stage.act))
        return result, stage.state()
