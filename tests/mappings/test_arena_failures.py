"""Calls of an arena that fail: the arena, what it holds and the kernel's list stay as they were."""

import ctypes
import mmap
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from arena_view import (
    RESERVED,
    assert_as_the_kernel_lists,
    content,
    kernel_pages,
    listed_pages,
    runs,
    unchanged,
)
from files import opened
from forks import run_forked
from kernel_view import (
    MIB,
    PAGE,
    KnownFile,
    free_address,
    in_process,
    known_bytes,
    perms,
    process_unchanged,
    say,
    vm_flags,
    vmas_in,
)
from libc import libc
from limits import Filler, needs_few_mappings
from meanwhile import Interruption, interrupted_after, interrupted_at
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    AccessDeniedError,
    BadDescriptorError,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidArgumentError,
    InvalidOffsetError,
    InvalidRangeError,
    InvalidSystemCallError,
    IsDirectoryError,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    NotMappableError,
    NotPageAlignedError,
    OffsetOverflowError,
    OperationNotPermittedError,
    OutOfMemoryError,
    Protection,
    ProtectionError,
    Segment,
    SharedMemory,
)
from mmapwrap._core import calls, failures

SIZE = 16 * PAGE

Errors = type[Exception] | tuple[type[Exception], ...]

# Where the refused calls are aimed: at nothing, at what is there, and at some of both.
TARGETS = {
    "hole": (9 * PAGE, 2 * PAGE),
    "exact": (4 * PAGE, 2 * PAGE),
    "inside": (PAGE, PAGE),
    "across": (3 * PAGE, 4 * PAGE),
}
at_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@pytest.fixture
def arena(known_file: KnownFile) -> Iterator[MemoryMappingArena]:
    """An arena that holds memory, a hole, a file, a read-only part of it and memory."""
    with MemoryMappingArena.new(SIZE) as a, known_file.path.open("r+b") as file:
        a.add_anon(0, 3 * PAGE)
        a[: 3 * PAGE] = known_bytes(3 * PAGE)
        a.add_fd_offset(4 * PAGE, 2 * PAGE, file, 3 * PAGE)
        a.add_fd_offset_protection(6 * PAGE, PAGE, file, 7 * PAGE, READ)
        a.add_anon_protection(12 * PAGE, PAGE, NONE)
        a.add_anon(13 * PAGE, 3 * PAGE)
        yield a


# Descriptors that cannot be mapped so


@contextmanager
def closed_descriptor(path: Path) -> Generator[int]:
    fd = os.open(path, os.O_RDWR)
    os.close(fd)
    yield fd


@contextmanager
def closed_file(path: Path) -> Generator[object]:
    with path.open("r+b") as file:
        pass
    yield file


@contextmanager
def sealed(path: Path) -> Generator[object]:
    with SharedMemory.new("sealed", SIZE) as memory:
        memory.add_seals(MemfdSeals.WRITE)
        yield memory


@contextmanager
def pipe_end(path: Path) -> Generator[int]:
    reading, writing = os.pipe()
    os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)


@contextmanager
def connection(path: Path) -> Generator[object]:
    one, other = socket.socketpair()
    with one, other:
        yield one


def install_guards(arena: MemoryMappingArena, count: int = 3 * PAGE) -> None:
    with suppress(InvalidSystemCallError):  # before Linux 6.15 not in shared memory
        arena.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, count)


@contextmanager
def just(value: object) -> Generator[object]:
    yield value


Made = Callable[[Path], Any]

BAD_DESCRIPTORS: dict[str, tuple[Made, Protection, Errors]] = {
    "negative": (lambda path: just(-1), RW, BadDescriptorError),
    "never opened": (lambda path: just(2**20), RW, BadDescriptorError),
    "past an int": (lambda path: just(2**31), RW, BadDescriptorError),
    "closed": (closed_descriptor, RW, BadDescriptorError),
    "closed file": (closed_file, RW, ValueError),
    "read-only, to write": (lambda path: opened(path, os.O_RDONLY), RW, AccessDeniedError),
    "read-only, only to write": (lambda path: opened(path, os.O_RDONLY), WRITE, AccessDeniedError),
    "write-only": (lambda path: opened(path, os.O_WRONLY), RW, AccessDeniedError),
    "write-only, to write": (lambda path: opened(path, os.O_WRONLY), WRITE, AccessDeniedError),
    "path only": (lambda path: opened(path, os.O_PATH), READ, BadDescriptorError),
    "directory, to write": (lambda path: opened(path.parent, os.O_RDONLY), RW, IsDirectoryError),
    "pipe": (pipe_end, READ, NotMappableError),
    "pipe, to write": (pipe_end, RW, NotMappableError),
    "socket": (connection, RW, NotMappableError),
    "directory": (lambda path: opened(path.parent, os.O_RDONLY), READ, IsDirectoryError),
    "sealed": (sealed, RW, OperationNotPermittedError),
    "None": (lambda path: just(None), RW, TypeError),
    "str": (lambda path: just("0"), RW, TypeError),
    "float": (lambda path: just(0.0), RW, TypeError),
    "path": (just, RW, TypeError),
}


@at_target
@pytest.mark.parametrize(
    ("make", "prot", "error"), BAD_DESCRIPTORS.values(), ids=BAD_DESCRIPTORS.keys()
)
def test_add_of_a_bad_descriptor_changes_nothing(
    make: Made,
    prot: Protection,
    error: Errors,
    target: tuple[int, int],
    arena: MemoryMappingArena,
    known_file: KnownFile,
) -> None:
    offset, size = target
    with ExitStack() as stack:
        fd = stack.enter_context(make(known_file.path))
        calls: list[Callable[[], None]] = [
            lambda: arena.add_fd_offset_protection(offset, size, fd, 0, prot),
            lambda: arena.add_fd_mapping(offset, size, fd, 0, prot),
        ]
        if prot == RW:
            calls += [
                lambda: arena.add_fd(offset, size, fd),
                lambda: arena.add_fd_offset(offset, size, fd, 0),
            ]
        for call in calls:
            with unchanged(arena), pytest.raises(error):
                call()
    assert known_file.path.read_bytes() == known_file.content


def test_add_of_what_is_sealed_against_writing_works_read_only() -> None:
    with MemoryMappingArena.new(SIZE) as arena, SharedMemory.new("sealed", SIZE) as memory:
        memory.map()[:3] = b"abc"
        memory.add_seals(MemfdSeals.WRITE)
        with unchanged(arena), pytest.raises(OperationNotPermittedError):
            arena.add_fd(0, PAGE, memory)
        try:
            arena.add_fd_offset_protection(0, PAGE, memory, 0, READ)
        except OperationNotPermittedError:
            pytest.skip("this kernel maps no sealed memory shared, not even read-only")
        assert arena[:3] == b"abc"
        assert_as_the_kernel_lists(arena)


# Ranges that cannot be

BAD_RANGES: list[tuple[Any, Any, Errors]] = [
    (SIZE, PAGE, InvalidRangeError),
    (SIZE - PAGE, 2 * PAGE, InvalidRangeError),
    (0, SIZE + 1, InvalidRangeError),
    (SIZE + PAGE, PAGE, InvalidRangeError),
    (-PAGE, PAGE, InvalidRangeError),
    (-PAGE, SIZE + PAGE, InvalidRangeError),
    (2**63, PAGE, InvalidRangeError),
    (2**64, PAGE, InvalidRangeError),
    (2**64 - PAGE, PAGE, InvalidRangeError),
    (2**64 - PAGE, 2 * PAGE, InvalidRangeError),
    (PAGE, 2**63, InvalidRangeError),
    (PAGE, 2**64 - 1, InvalidRangeError),
    (PAGE, 2**64 - PAGE, InvalidRangeError),
    (PAGE, 2**64, (InvalidRangeError, InvalidArgumentError)),
    (1, PAGE, NotPageAlignedError),
    (SIZE + 1, PAGE, NotPageAlignedError),
    (-1, PAGE, InvalidRangeError),
    (SIZE - PAGE, PAGE + 1, InvalidRangeError),
    (PAGE // 2, PAGE // 2, NotPageAlignedError),
    (PAGE - 1, 1, NotPageAlignedError),
    (0, 0, InvalidArgumentError),
    (4 * PAGE, 0, InvalidArgumentError),
    (0, -1, (InvalidArgumentError, InvalidRangeError)),
    (4 * PAGE, -PAGE, (InvalidArgumentError, InvalidRangeError)),
    ("0", PAGE, TypeError),
    (0.0, PAGE, TypeError),
    (None, PAGE, TypeError),
    (0, "1", TypeError),
    (0, 4096.0, TypeError),
    (0, None, TypeError),
]


@pytest.mark.parametrize(("offset", "size", "error"), BAD_RANGES)
def test_range_that_cannot_be_changes_nothing(
    offset: Any, size: Any, error: Errors, arena: MemoryMappingArena, known_file: KnownFile
) -> None:
    with opened(known_file.path, os.O_RDWR) as fd:
        calls: list[Callable[[], None]] = [
            lambda: arena.add_anon(offset, size),
            lambda: arena.add_anon_protection(offset, size, RW),
            lambda: arena.add_fd(offset, size, fd),
            lambda: arena.add_fd_offset(offset, size, fd, PAGE),
            lambda: arena.add_fd_offset_protection(offset, size, fd, PAGE, READ),
            lambda: arena.add_fd_mapping(offset, size, fd, PAGE, READ),
            lambda: arena.remove(offset, size),
            lambda: arena.remove_mapping(offset, size),
        ]
        for call in calls:
            with unchanged(arena), pytest.raises(error):
                call()


def test_error_of_a_range_tells_its_numbers(arena: MemoryMappingArena) -> None:
    with pytest.raises(InvalidRangeError) as outside:
        arena.add_anon(SIZE - PAGE, 2 * PAGE)
    error = outside.value
    assert (error.offset, error.count, error.region_size) == (SIZE - PAGE, 2 * PAGE, SIZE)
    with pytest.raises(InvalidRangeError) as outside:
        arena.remove(SIZE - PAGE, PAGE + 1)
    error = outside.value
    assert (error.offset, error.count, error.region_size) == (SIZE - PAGE, PAGE + 1, SIZE)
    with pytest.raises(NotPageAlignedError) as unaligned:
        arena.remove(PAGE + 5, PAGE)
    assert (unaligned.value.value, unaligned.value.page_size) == (PAGE + 5, PAGE)


@at_target
@pytest.mark.parametrize(
    ("fd_offset", "error"),
    [
        (-PAGE, InvalidOffsetError),
        (-1, InvalidOffsetError),
        (2**63, InvalidOffsetError),
        (2**64, InvalidOffsetError),
        (2**63 - PAGE, OffsetOverflowError),
        (1, NotPageAlignedError),
        (PAGE + PAGE // 2, NotPageAlignedError),
        ("0", TypeError),
        (None, TypeError),
        (1.0, TypeError),
    ],
)
def test_file_offset_that_cannot_be_changes_nothing(
    fd_offset: Any,
    error: Errors,
    target: tuple[int, int],
    arena: MemoryMappingArena,
    known_file: KnownFile,
) -> None:
    with opened(known_file.path, os.O_RDWR) as fd:
        calls: list[Callable[[], None]] = [
            lambda: arena.add_fd_offset(*target, fd, fd_offset),
            lambda: arena.add_fd_offset_protection(*target, fd, fd_offset, READ),
            lambda: arena.add_fd_mapping(*target, fd, fd_offset, READ),
        ]
        for call in calls:
            with unchanged(arena), pytest.raises(error):
                call()


@at_target
@pytest.mark.parametrize("prot", [3, None, "rw-", mmap.PROT_READ])
def test_protection_of_another_type_changes_nothing(
    prot: Any, target: tuple[int, int], arena: MemoryMappingArena, known_file: KnownFile
) -> None:
    with opened(known_file.path, os.O_RDWR) as fd:
        calls: list[Callable[[], None]] = [
            lambda: arena.add_anon_protection(*target, prot),
            lambda: arena.add_fd_offset_protection(*target, fd, 0, prot),
            lambda: arena.add_fd_mapping(*target, fd, 0, prot),
        ]
        for call in calls:
            with unchanged(arena), pytest.raises(TypeError):
                call()


def test_protect_that_is_refused_half_way_takes_back_what_it_gave(known_file: KnownFile) -> None:
    with opened(known_file.path, os.O_RDONLY) as fd, MemoryMappingArena.new(2 * PAGE) as arena:
        arena.add_anon_protection(0, PAGE, READ)
        arena.add_fd_offset_protection(PAGE, PAGE, fd, 0, READ)
        with unchanged(arena), pytest.raises(AccessDeniedError):
            arena.protect(RW)


def test_protect_that_is_refused_behind_guard_pages_leaves_what_is_below_them(
    known_file: KnownFile,
) -> None:
    with opened(known_file.path, os.O_RDONLY) as fd, MemoryMappingArena.new(2 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        arena.add_fd_offset_protection(PAGE, PAGE, fd, 0, READ)
        install_guards(arena, PAGE)
        with pytest.raises(AccessDeniedError):
            arena.protect(WRITE)
        with suppress(InvalidSystemCallError):
            arena.advise_destructive(DestructiveAdvice.GUARD_REMOVE, 0, PAGE)
        assert_as_the_kernel_lists(arena)
        assert arena.segments()[0].prot == RW


def test_protect_that_the_file_does_not_allow_changes_nothing(
    arena: MemoryMappingArena, known_file: KnownFile
) -> None:
    with opened(known_file.path, os.O_RDONLY) as fd:
        arena.add_fd_offset_protection(8 * PAGE, 4 * PAGE, fd, 0, READ)
    for offset, count in [(8 * PAGE, 4 * PAGE), (9 * PAGE, PAGE), (4 * PAGE, 8 * PAGE)]:
        with unchanged(arena), pytest.raises((AccessDeniedError, TypeError)):
            arena.protect(RW, offset, count)


def map_a_ring_over_a_segment() -> None:
    parameters = ctypes.create_string_buffer(120)
    io_uring_setup = 425  # on every machine
    ring = libc.syscall(io_uring_setup, 8, parameters)
    if ring < 0:
        say("no io_uring:", os.strerror(ctypes.get_errno()))
        return
    arena = MemoryMappingArena.new(MIB)
    arena.add_anon(0, MIB)
    arena[0:4] = b"data"
    before = arena.segments()
    with pytest.raises(InvalidSystemCallError):
        arena.add_fd(0, PAGE, ring)
    others = [mmap.mmap(-1, PAGE) for _ in range(64)]
    assert arena.segments() == before
    assert arena[0:4] == b"data"
    assert bytes(arena.view(0, 4)) == b"data"
    assert perms(arena.as_ptr(), MIB) == (MIB // PAGE) * ["rw-s"]
    for other in others:
        other.close()


def test_file_that_cannot_be_mapped_leaves_what_the_arena_holds() -> None:
    output = in_process(map_a_ring_over_a_segment).succeeded()
    if output:
        pytest.skip(output.strip())


# Huge pages: the kernel rounds the length of a fixed mapping of such a file up


@pytest.fixture
def huge_file() -> Iterator[tuple[int, int]]:
    """A descriptor of memory in huge pages, of which none need exist, and the size of one."""
    try:
        fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_HUGETLB)
    except OSError:
        pytest.skip("this kernel has no hugetlb memory")
    try:
        yield fd, os.fstat(fd).st_blksize
    finally:
        os.close(fd)


def test_add_of_a_file_with_large_blocks_goes_by_pages(large_blocks: Path) -> None:
    path = large_blocks / "file"
    path.write_bytes(known_bytes(2 * PAGE))
    if path.stat().st_blksize == PAGE:
        pytest.skip("this kernel has no huge pages of tmpfs")
    with MemoryMappingArena.new(4 * PAGE) as arena, opened(path, os.O_RDWR) as fd:
        arena.add_fd(PAGE, 2 * PAGE, fd)
        assert arena[PAGE : 3 * PAGE] == known_bytes(2 * PAGE)
        with MemoryMapping.from_fd(fd, PAGE + 1) as mapping:
            (vma,) = vmas_in(mapping.as_ptr(), PAGE)
            assert vma.end - vma.start == 2 * PAGE


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_add_of_less_than_a_huge_page_touches_nothing_beside_it(
    pages: int, is_replaced: bool, huge_file: tuple[int, int]
) -> None:
    fd, huge = huge_file
    os.ftruncate(fd, 2 * huge)
    with MemoryMappingArena.new(4 * huge) as arena:
        aligned = -arena.as_ptr() % huge
        first, beside = aligned + huge, pages * PAGE
        if is_replaced:
            arena.add_anon(first, beside)
        arena.add_anon(first + beside, PAGE)
        arena[first + beside : first + beside + PAGE] = known_bytes(PAGE)
        with unchanged(arena), pytest.raises(MmapError):
            arena.add_fd(first, beside, fd)


def test_add_of_less_than_a_huge_page_never_leaves_the_arena(
    huge_file: tuple[int, int],
) -> None:
    fd, huge = huge_file
    os.ftruncate(fd, huge)
    start = free_address(huge)
    start -= start % huge
    owned = MemoryMapping.new_protection_fixed(start, PAGE, RW)
    # The rest of the huge page belongs to somebody else.
    beside = MemoryMapping.new_protection_fixed(start + PAGE, PAGE, RW)
    with owned.into_arena() as arena, beside:
        arena.remove(0, PAGE)
        beside[:] = known_bytes(PAGE)
        with unchanged(arena), pytest.raises(MmapError):
            arena.add_fd(0, PAGE, fd)
        assert [vma.path for vma in vmas_in(start + PAGE, PAGE)] == ["/dev/zero (deleted)"]
        assert beside[:] == known_bytes(PAGE)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_add_of_whole_huge_pages_is_listed_and_never_cut(
    is_replaced: bool, huge_file: tuple[int, int]
) -> None:
    fd, huge = huge_file
    os.ftruncate(fd, 2 * huge)
    with MemoryMappingArena.new(4 * huge) as arena:
        first = -arena.as_ptr() % huge
        if is_replaced:
            arena.add_anon(first, 2 * huge)
        arena.add_fd_offset_protection(first, 2 * huge, fd, 0, NONE)
        assert arena.segments() == (Segment(first, 2 * huge, NONE, 0),)
        assert_as_the_kernel_lists(arena)
        with unchanged(arena), pytest.raises(MmapError):
            arena.remove(first + PAGE, PAGE)
        arena.remove(first, huge)
        assert_as_the_kernel_lists(arena)
        arena.remove(first + huge, huge)
        assert runs(arena) == [(0, arena.size, "---p", "", 0)]


# When the process can have no more. Both run in a child, because they need the limits to bite.


EXHAUSTING: dict[str, Callable[[MemoryMappingArena, int], None]] = {
    "add_anon in a hole": lambda arena, fd: arena.add_anon(9 * PAGE, PAGE),
    "add_anon over memory": lambda arena, fd: arena.add_anon(PAGE, PAGE),
    "add_anon over all": lambda arena, fd: arena.add_anon(PAGE, 12 * PAGE),
    "add_fd in a hole": lambda arena, fd: arena.add_fd(9 * PAGE, PAGE, fd),
    "add_fd over a file": lambda arena, fd: arena.add_fd_offset(4 * PAGE, PAGE, fd, 9 * PAGE),
    "add_fd across": lambda arena, fd: arena.add_fd(5 * PAGE, 5 * PAGE, fd),
    "remove inside": lambda arena, fd: arena.remove(PAGE, PAGE),
    "protect inside": lambda arena, fd: arena.protect(READ, PAGE, PAGE),
}


def exhaust_mappings(path: str) -> None:
    """Each call with no mapping left, and with a few: it fails and changes nothing, or works."""
    # Below the filler, so that the kernel lists it first.
    low = free_address(SIZE)
    with opened(path, os.O_RDWR) as fd:
        filler = Filler()
        filler.fill()
        filler.free(64)
        for name, call in EXHAUSTING.items():
            refusals = 0
            for left in range(6):
                arena = MemoryMapping.new_protection_fixed(low, SIZE, RW).into_arena()
                arena.remove(0, SIZE)
                arena.add_anon(0, 3 * PAGE)
                arena[: 3 * PAGE] = known_bytes(3 * PAGE)
                arena.add_fd_offset(4 * PAGE, 2 * PAGE, fd, 3 * PAGE)
                arena.add_anon(13 * PAGE, 3 * PAGE)
                before = runs(arena), arena.segments(), content(arena)
                filler.fill()
                filler.free(left)
                try:
                    call(arena, fd)
                except OutOfMemoryError:
                    filler.free(64)
                    refusals += 1
                    after = runs(arena), arena.segments(), content(arena)
                    assert after == before, f"{name} with {2 * left} mappings left: {after}"
                else:
                    filler.free(64)
                listed = [run for run in runs(arena) if run[2] != "---p"]
                held = [(s.offset, s.offset + s.size, f"{s.prot}s") for s in arena.segments()]
                assert [run[:3] for run in listed] == held, f"{name}: {listed}"
                arena.close()
            assert 0 < refusals < 6, f"{name} was refused {refusals} times"
        filler.close()


@needs_few_mappings
def test_call_without_mappings_left_changes_nothing(known_file: KnownFile) -> None:
    in_process(exhaust_mappings, known_file.path, watched=False).succeeded()


def exhaust_addresses(path: str) -> None:
    """Replacing needs room beside the arena for a moment: without it, nothing changes."""
    size = 64 << 20
    arena = MemoryMappingArena.new(size)
    arena.add_anon(0, size)
    arena[:3] = b"abc"
    with opened(path, os.O_RDWR) as fd:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
        limit = used + (16 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = runs(arena), arena.segments()
        calls: list[Callable[[], None]] = [
            lambda: arena.add_anon(0, size),
            lambda: arena.add_fd(0, size - PAGE, fd),
            lambda: arena.add_fd_offset(PAGE, size - PAGE, fd, PAGE),
        ]
        for call in calls:
            with process_unchanged():
                try:
                    call()
                except OutOfMemoryError:
                    assert (runs(arena), arena.segments()) == before
                    assert arena[:3] == b"abc"
                else:
                    pages = kernel_pages(arena)
                    assert {page.perms for page in pages} == {"rw-s"}
        arena.remove(0, size)
        arena.add_anon(0, size)  # where nothing is, no room is needed
        assert arena[:3] == bytes(3)


def test_call_without_addresses_left_changes_nothing(known_file: KnownFile) -> None:
    in_process(exhaust_addresses, known_file.path, watched=False).succeeded()


# When a signal's handler raises, as Ctrl-C does. In a child, because it traces every line.


INTERRUPTED: dict[str, Callable[[MemoryMappingArena], None]] = {
    "add in a hole": lambda arena: arena.add_anon(9 * PAGE, 2 * PAGE),
    "add over others": lambda arena: arena.add_anon_protection(PAGE, 4 * PAGE, NONE),
    "remove": lambda arena: arena.remove(PAGE, PAGE),
    "remove several": lambda arena: arena.remove(0, 14 * PAGE),
    "protect less": lambda arena: arena.protect(NONE, PAGE, PAGE),
    "protect more": lambda arena: arena.protect(RW, 6 * PAGE, PAGE),
    "guard": install_guards,
}

INTERRUPTIONS: dict[str, type[BaseException]] = {
    "interruption": Interruption,
    "error of the library": ClosedMappingError,
}


def interrupt_everywhere(name: str, exception: str) -> None:
    """Interrupt a call before each of its lines: the arena never allows what would crash."""
    moment = 0
    is_interrupted = True
    while is_interrupted:
        with MemoryMappingArena.new(SIZE) as arena:
            arena.add_anon(0, 3 * PAGE)
            arena.add_anon(4 * PAGE, 2 * PAGE)
            arena.add_anon_protection(6 * PAGE, PAGE, READ)
            arena.add_anon(13 * PAGE, 3 * PAGE)
            call = partial(INTERRUPTED[name], arena)
            is_interrupted = interrupted_at(moment, call, INTERRUPTIONS[exception])
            told = [page.perms for page in listed_pages(arena)]
            real = [page.perms for page in kernel_pages(arena)]
            for page, (letters, mapped) in enumerate(zip(told, real, strict=True)):
                extra = set(letters[:3]) - set(mapped[:3])
                assert not extra, f"{name}, line {moment}: page {page} is {mapped}, not {letters}"
                assert letters[3] == "p" or mapped[3] == "s", f"{name}, line {moment}: page {page}"
                with suppress(ProtectionError):
                    bytes(arena.view(page * PAGE, PAGE))
                if letters == RESERVED.perms:
                    with pytest.raises(ProtectionError):
                        arena[page * PAGE]
            arena.remove(0, SIZE)
            arena.add_anon(0, SIZE)
            arena[:] = known_bytes(SIZE)
            assert_as_the_kernel_lists(arena)
        moment += 1
    assert moment > 10


@pytest.mark.race
@pytest.mark.parametrize("exception", INTERRUPTIONS)
@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupted_call_allows_nothing_that_would_crash(name: str, exception: str) -> None:
    in_process(interrupt_everywhere, name, exception, watched=False).succeeded()


def interrupt_into_arena() -> None:
    """A mapping that did not become an arena is one mapping still: it has one size."""
    interruptions, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        with MemoryMapping.new(PAGE + 100) as mapping:
            seconds = 0.000002 * (1 + interruptions % 20)
            interruptions += interrupted_after(seconds, lambda: mapping.into_arena().close())
            if not mapping.closed:
                assert mapping.view().nbytes == mapping.size
                mapping.protect(READ)
    assert interruptions > 100


@pytest.mark.race
def test_interrupted_way_to_an_arena_leaves_a_mapping_of_one_size() -> None:
    # Coverage takes locks of its own, which an interruption would leave locked.
    in_process(interrupt_into_arena, measured=False, watched=False).succeeded()


def interrupt_remove() -> None:
    """A signal's handler raises while the kernel takes much out: what is told then is there."""
    size = 256 << 20
    interruptions = 0
    with SharedMemory.new("held", size, allocate=True) as memory, memory.map(PAGE) as seen:
        for _ in range(5):
            with MemoryMappingArena.new(size) as arena:
                arena.add_fd(0, size, memory)
                arena.populate(write=True)
                interruptions += interrupted_after(0.001, partial(arena.remove, 0, size))
                if arena.segments():
                    arena[0] = seen[0] + 1
                    assert arena[0] == seen[0]
                else:
                    with pytest.raises(ProtectionError):
                        arena.protect(RW)
                    with pytest.raises(ProtectionError):
                        arena[0] = 1
                arena.add_fd(0, PAGE, memory)
                assert arena[0] == seen[0]
    assert interruptions > 0


def interrupt_then_fail(where: str) -> None:
    """Interrupt an add before each of its lines, then fail to add there: all agree afterwards."""
    offset, size = TARGETS[where]
    moment = 0
    is_interrupted = True
    with socket.socket(type=socket.SOCK_DGRAM) as unmappable:
        while is_interrupted:
            with MemoryMappingArena.new(SIZE) as arena:
                arena.add_anon(4 * PAGE, 2 * PAGE)
                call = partial(arena.add_anon, offset, size)
                is_interrupted = interrupted_at(moment, call, Interruption)
                with pytest.raises(NotMappableError):
                    arena.add_fd(offset, size, unmappable)
                for page, kernel in enumerate(kernel_pages(arena)):
                    with suppress(ProtectionError):
                        bytes(arena.view(page * PAGE, PAGE))
                        assert kernel.perms == "rw-s", f"line {moment}: page {page}"
            moment += 1
    assert moment > 10


@pytest.mark.parametrize("where", ["hole", "exact", "across"])
def test_add_that_fails_after_an_interrupted_one_gives_no_access(where: str) -> None:
    in_process(interrupt_then_fail, where, watched=False).succeeded()


def test_add_that_fails_in_a_child_of_an_add_under_way_keeps_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, over = threading.Event(), threading.Event()
    place = calls.place

    def slowly(*arguments: Any) -> int:
        begun.set()
        over.wait(20)
        return place(*arguments)

    def fail_to_add() -> None:
        monkeypatch.undo()
        with pytest.raises(NotMappableError):
            arena.add_fd(0, PAGE, unmappable)
        with suppress(ProtectionError):
            bytes(arena.view(0, PAGE))

    with (
        MemoryMappingArena.new(2 * PAGE) as arena,
        socket.socket(type=socket.SOCK_DGRAM) as unmappable,
    ):
        arena.add_anon(0, PAGE)
        monkeypatch.setattr(calls, "place", slowly)
        thread = threading.Thread(target=arena.add_anon, args=(0, PAGE))
        thread.start()
        begun.wait()
        run_forked(fail_to_add)
        over.set()
        thread.join()
        assert arena[0] == 0


def interrupt_adding_huge_pages() -> None:
    fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_HUGETLB)
    huge = os.fstat(fd).st_blksize
    os.ftruncate(fd, huge)
    moment = huge_pages = 0
    is_interrupted = True
    while is_interrupted:
        with MemoryMapping.new_protection(2 * huge, huge, RW) as mapping:
            arena = mapping.into_arena()
        with arena:
            call = partial(arena.add_fd, 0, huge, fd)
            is_interrupted = interrupted_at(moment, call, Interruption)
            if "ht" in vm_flags(arena.as_ptr(), PAGE):
                huge_pages += 1
                with pytest.raises(NotPageAlignedError):
                    arena.add_anon(PAGE, PAGE)
            arena.remove(0, huge)
            arena.add_anon(PAGE, PAGE)
        moment += 1
    assert huge_pages > 2


def test_interrupted_add_of_huge_pages_cuts_none_of_them_later(huge_file: tuple[int, int]) -> None:
    in_process(interrupt_adding_huge_pages, watched=False).succeeded()


@pytest.mark.race
def test_interrupted_remove_tells_of_nothing_that_is_gone() -> None:
    in_process(interrupt_remove, watched=False).succeeded()


def test_add_whose_failure_has_unmapped_the_range_says_that_it_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose(handle: Any, offset: int, count: int, _: object) -> int:
        assert calls.reserve(handle, offset, count) == 0
        return -failures.Refusal.CONTENT_LOST

    with MemoryMappingArena.new(4 * PAGE) as arena:
        arena.add_anon(0, 2 * PAGE)
        with monkeypatch.context() as patched:
            patched.setattr(calls, "place", lose)
            with pytest.raises(OutOfMemoryError, match="they hold nothing now"):
                arena.add_anon(0, PAGE)
        assert [(each.offset, each.size) for each in arena.segments()] == [(PAGE, PAGE)]
        with pytest.raises(ProtectionError):
            arena[0]
        arena.add_anon(0, PAGE)
        assert arena[0] == 0


def test_interrupted_add_over_others_allows_no_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with MemoryMappingArena.new(2 * PAGE) as arena:
        arena.add_anon(0, 2 * PAGE)
        with monkeypatch.context() as patched:
            patched.setattr(calls, "place", interrupted)
            with pytest.raises(KeyboardInterrupt):
                arena.add_anon(0, PAGE)
        assert [segment.offset for segment in arena.segments()] == [PAGE]
        with pytest.raises(ProtectionError):
            arena[0]
        arena.add_anon(0, PAGE)
        assert arena[0] == 0


def map_where_a_failed_add_was() -> None:
    """Another thread maps memory all the time; none of it may come to lie in the arena."""
    size = 1 << 20
    with MemoryMappingArena.new(size) as arena, socket.socket(type=socket.SOCK_DGRAM) as unmappable:
        start = arena.as_ptr()
        is_running, failures = True, 0

        def fail() -> None:
            nonlocal failures
            while is_running:
                with pytest.raises(MmapError):
                    arena.add_fd(0, size, unmappable)
                failures += 1

        thread = threading.Thread(target=fail)
        thread.start()
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        end, places = time.monotonic() + 3, set[int]()
        while time.monotonic() < end:
            place = libc.mmap(None, size, mmap.PROT_READ, private, -1, 0)
            places.add(place)
            libc.munmap(place, size)
        is_running = False
        thread.join()
        assert failures > 100
        assert start not in places


def test_failed_add_leaves_no_hole_for_memory_of_other_threads() -> None:
    in_process(map_where_a_failed_add_was).succeeded_silently()
