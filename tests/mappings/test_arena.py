"""`MemoryMappingArena`: what it reserves, what it maps in, what it takes out and takes over."""

import gc
import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest
from arena_view import (
    RESERVED,
    Page,
    assert_as_the_kernel_lists,
    kernel_pages,
    listed_pages,
    runs,
    unchanged,
)
from kernel_view import (
    PAGE,
    Index,
    KnownFile,
    amount,
    child,
    is_mapped,
    known_bytes,
    open_descriptors,
    perms,
    process_unchanged,
    vm_flags,
    vmas_in,
)
from marks import LOCKS_DO_NOTHING, MEMORY_IS_COUNTED, MEMORY_IS_PAST_THE_LIMIT, needs
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    ClosedMappingError,
    DestructiveAdvice,
    InvalidArgumentError,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    NotPageAlignedError,
    OutOfMemoryError,
    Protection,
    ProtectionError,
    Segment,
    Sharing,
    unsafe,
)

SIZE = 16 * PAGE

EVERY_PROTECTION = [
    Protection(readable=r, writable=w, executable=x) for r, w, x in product([False, True], repeat=3)
]

AddAnon = Callable[[MemoryMappingArena, Any, Any], None]
AddFd = Callable[[MemoryMappingArena, Any, Any, Any], None]
AddFdOffset = Callable[[MemoryMappingArena, Any, Any, Any, Any], None]

# Each way in, in one form.
ADD_ANON: dict[str, AddAnon] = {
    "add_anon": MemoryMappingArena.add_anon,
    "add_anon_protection": lambda arena, offset, size: arena.add_anon_protection(offset, size, RW),
}
ADD_FD_OFFSET: dict[str, AddFdOffset] = {
    "add_fd_offset": MemoryMappingArena.add_fd_offset,
    "add_fd_offset_protection": lambda arena, offset, size, fd, fd_offset: (
        arena.add_fd_offset_protection(offset, size, fd, fd_offset, RW)
    ),
    "add_fd_mapping": lambda arena, offset, size, fd, fd_offset: arena.add_fd_mapping(
        offset, size, fd, fd_offset, RW
    ),
}


def from_its_start(
    add: AddFdOffset, arena: MemoryMappingArena, offset: int, size: int, fd: Any
) -> None:
    """Add the start of a file with what takes an offset in it."""
    add(arena, offset, size, fd, 0)


ADD_FD: dict[str, AddFd] = {
    "add_fd": MemoryMappingArena.add_fd,
    **{name: partial(from_its_start, add) for name, add in ADD_FD_OFFSET.items()},
}
TAKE_OUT: dict[str, Callable[[MemoryMappingArena, Any, Any], None]] = {
    "remove": MemoryMappingArena.remove,
    "remove_mapping": MemoryMappingArena.remove_mapping,
}


def over(table: dict[str, Any]) -> pytest.MarkDecorator:
    """Run a test once for each entry of a table."""
    return pytest.mark.parametrize("call", table.values(), ids=table.keys())


@pytest.fixture
def arena() -> Iterator[MemoryMappingArena]:
    """An arena of 16 pages with nothing in it."""
    with MemoryMappingArena.new(SIZE) as a:
        yield a


def pages(*wanted: tuple[int, Page]) -> list[Page]:
    """A list of pages from (how many, what) pairs; the file offsets go up."""
    return [
        page if page.fd_offset is None else attrs.evolve(page, fd_offset=page.fd_offset + i * PAGE)
        for count, page in wanted
        for i in range(count)
    ]


MEMORY = Page("rw-s", "memory", None)


def in_file(page: int, letters: str = "rw-s") -> Page:
    """A page of a file."""
    return Page(letters, "file", page * PAGE)


# The reservation


@pytest.mark.parametrize("size", [1, PAGE, PAGE + 1, 3 * PAGE, Index(2 * PAGE)])
def test_new_reserves_whole_pages_without_access(size: Any) -> None:
    whole = -(-int(size.__index__()) // PAGE) * PAGE
    with MemoryMappingArena.new(size) as arena:
        assert arena.size == len(arena) == whole
        assert runs(arena) == [(0, whole, "---p", "", 0)]
        assert {"dd", "nr"} <= vm_flags(arena.as_ptr(), whole)
        assert arena.segments() == ()
        assert isinstance(arena, MappedRegion)


def resident() -> int:
    """The bytes of this process that are in memory."""
    status = Path("/proc/self/status").read_text()
    return next(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")
    )


@pytest.mark.not_sanitized(MEMORY_IS_COUNTED)
def test_new_costs_no_memory() -> None:
    tib = 1 << 40
    before = resident()
    with MemoryMappingArena.new(tib) as arena:
        assert arena.size == tib
        assert resident() - before < 16 << 20
        assert amount("Rss", arena.as_ptr(), tib) == 0
        arena.add_anon(tib - PAGE, PAGE)
        arena[-1] = 1
        assert amount("Rss", arena.as_ptr(), tib) == PAGE
        assert resident() - before < 16 << 20
        arena.remove(tib - PAGE, PAGE)
        assert amount("Rss", arena.as_ptr(), tib) == 0


@pytest.mark.parametrize(
    ("size", "error"),
    [
        (0, InvalidArgumentError),
        (-1, InvalidArgumentError),
        (2**64, InvalidArgumentError),
        (2**64 - 1, (InvalidArgumentError, OutOfMemoryError)),
        (2**62, OutOfMemoryError),
        ("4096", TypeError),
        (4096.0, TypeError),
        (None, TypeError),
    ],
)
def test_new_of_a_wrong_size_is_refused(size: Any, error: Any) -> None:
    with process_unchanged(), pytest.raises(error):
        MemoryMappingArena.new(size)


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_new_past_the_address_space_limit_is_refused() -> None:
    program = """
        import resource
        from mmapwrap import MemoryMappingArena, OutOfMemoryError

        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        try:
            MemoryMappingArena.new(2 << 30)
        except OutOfMemoryError as error:
            print(error.syscall)
        print(MemoryMappingArena.new(1 << 20).size)
    """
    assert child(program).succeeded() == f"mmap\n{1 << 20}\n"


def test_arena_is_made_by_name_and_final() -> None:
    with pytest.raises(TypeError, match="new"):
        MemoryMappingArena()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="final"):
        type("Own", (MemoryMappingArena,), {})


def test_segment_is_a_value() -> None:
    segment = Segment(0, PAGE, READ, None)
    assert segment == Segment(offset=0, size=PAGE, prot=Protection.read(), fd_offset=None)
    assert segment != Segment(0, PAGE, READ, 0)
    assert hash(segment) == hash(attrs.evolve(segment))
    assert pickle.loads(pickle.dumps(segment)) == segment
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        segment.size = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("end", ["close", "drop"])
def test_arena_that_goes_leaves_nothing_mapped(end: str, known_file: KnownFile) -> None:
    fd = os.open(known_file.path, os.O_RDWR)
    with process_unchanged():
        arena = MemoryMappingArena.new(SIZE)
        address = arena.as_ptr()
        arena.add_anon(PAGE, 2 * PAGE)
        arena.add_fd(5 * PAGE, 4 * PAGE, fd)
        arena.remove(6 * PAGE, PAGE)
        arena.add_anon_protection(15 * PAGE, PAGE, NONE)
        arena.protect(READ, PAGE, PAGE)
        if end == "close":
            arena.close()
        del arena
        gc.collect()  # for an interpreter that does not free at once
        assert not is_mapped(address, SIZE)
    os.close(fd)


# What is added


@over(ADD_ANON)
def test_add_anon_maps_zeros_that_can_be_written(call: AddAnon, arena: MemoryMappingArena) -> None:
    call(arena, 2 * PAGE, 3 * PAGE)
    assert arena.segments() == (Segment(2 * PAGE, 3 * PAGE, RW, None),)
    expected = pages((2, RESERVED), (3, MEMORY), (11, RESERVED))
    assert kernel_pages(arena) == listed_pages(arena) == expected
    assert bytes(arena.view(2 * PAGE, 3 * PAGE)) == bytes(3 * PAGE)
    arena[3 * PAGE - 2 : 3 * PAGE + 2] = b"abcd"
    assert arena[2 * PAGE : 5 * PAGE] == bytes(PAGE - 2) + b"abcd" + bytes(2 * PAGE - 2)


def test_add_anon_is_shared_with_children() -> None:
    program = """
        import os
        from mmapwrap import MemoryMappingArena, u32

        arena = MemoryMappingArena.new(1 << 20)
        arena.add_anon(65536, 65536)
        child = os.fork()
        if child == 0:
            arena.write_obj(u32, 0xCAFE, 65536)
            arena.add_anon(0, 65536)  # the child's own arena
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(hex(arena.read_obj(u32, 65536)), len(arena.segments()))
    """
    assert child(program).succeeded() == "0xcafe 1\n"


@pytest.mark.parametrize("prot", EVERY_PROTECTION, ids=str)
def test_add_anon_protection_maps_exactly_that(prot: Protection, arena: MemoryMappingArena) -> None:
    arena.add_anon_protection(4 * PAGE, PAGE, prot)
    assert arena.segments() == (Segment(4 * PAGE, PAGE, prot, None),)
    assert perms(arena.as_ptr() + 4 * PAGE, PAGE) == [f"{prot}s"]
    assert_as_the_kernel_lists(arena)


@pytest.mark.parametrize("prot", EVERY_PROTECTION, ids=str)
def test_add_fd_offset_protection_maps_exactly_that(
    prot: Protection, arena: MemoryMappingArena, known_fd: int
) -> None:
    if prot.executable and os.fstatvfs(known_fd).f_flag & os.ST_NOEXEC:
        pytest.skip("the temporary directory is mounted noexec")
    arena.add_fd_offset_protection(4 * PAGE, 2 * PAGE, known_fd, PAGE, prot)
    assert arena.segments() == (Segment(4 * PAGE, 2 * PAGE, prot, PAGE),)
    assert perms(arena.as_ptr() + 4 * PAGE, 2 * PAGE) == [f"{prot}s"] * 2
    assert_as_the_kernel_lists(arena)


@over(ADD_FD)
def test_add_fd_maps_the_files_bytes(
    call: AddFd, arena: MemoryMappingArena, known_fd: int, known_file: KnownFile
) -> None:
    call(arena, PAGE, 4 * PAGE, known_fd)
    assert arena.segments() == (Segment(PAGE, 4 * PAGE, RW, 0),)
    assert kernel_pages(arena) == pages((1, RESERVED), (4, in_file(0)), (11, RESERVED))
    assert arena[PAGE : 5 * PAGE] == known_file.content[: 4 * PAGE]
    (vma,) = vmas_in(arena.as_ptr() + PAGE, 4 * PAGE)
    assert (vma.path, vma.inode) == (str(known_file.path), os.fstat(known_fd).st_ino)


@over(ADD_FD_OFFSET)
def test_add_fd_offset_maps_the_files_bytes_from_there(
    call: AddFdOffset, arena: MemoryMappingArena, known_fd: int, known_file: KnownFile
) -> None:
    call(arena, 8 * PAGE, 2 * PAGE, known_fd, 5 * PAGE)
    assert arena.segments() == (Segment(8 * PAGE, 2 * PAGE, RW, 5 * PAGE),)
    assert kernel_pages(arena) == pages((8, RESERVED), (2, in_file(5)), (6, RESERVED))
    assert arena[8 * PAGE : 10 * PAGE] == known_file.content[5 * PAGE : 7 * PAGE]


@over(ADD_FD_OFFSET)
def test_add_fd_offset_is_written_through_to_the_file(
    call: AddFdOffset, arena: MemoryMappingArena, known_fd: int, known_file: KnownFile
) -> None:
    call(arena, 8 * PAGE, 2 * PAGE, known_fd, 5 * PAGE)
    arena[9 * PAGE - 1 : 9 * PAGE + 1] = b"ab"
    expected = bytearray(known_file.content)
    expected[6 * PAGE - 1 : 6 * PAGE + 1] = b"ab"
    assert known_file.path.read_bytes() == expected
    arena.msync(8 * PAGE, 2 * PAGE)
    arena.remove(0, SIZE)
    assert known_file.path.read_bytes() == expected


def test_add_fd_shows_what_another_process_writes(
    arena: MemoryMappingArena, known_fd: int, known_file: KnownFile
) -> None:
    arena.add_fd_offset(0, PAGE, known_fd, 3 * PAGE)
    program = """
        import os, sys
        fd = os.open(sys.argv[1], os.O_WRONLY)
        os.pwrite(fd, b"from elsewhere", int(sys.argv[2]))
    """
    child(program, known_file.path, 3 * PAGE + 7).succeeded()
    assert arena[7:21] == b"from elsewhere"
    assert arena.find(b"elsewhere", 0, PAGE) == 12


@over(ADD_FD)
def test_add_fd_keeps_no_descriptor(
    call: AddFd, arena: MemoryMappingArena, known_file: KnownFile
) -> None:
    before = open_descriptors()
    with known_file.path.open("r+b") as file:
        call(arena, 0, PAGE, file)
    assert open_descriptors() == before
    assert arena[:PAGE] == known_file.content[:PAGE]


def test_add_takes_numbers_by_index_method(arena: MemoryMappingArena, known_fd: int) -> None:
    arena.add_anon(Index(PAGE), Index(PAGE))
    arena.add_fd_offset(Index(3 * PAGE), Index(PAGE), known_fd, Index(2 * PAGE))
    arena.remove(Index(PAGE), Index(PAGE))
    assert arena.segments() == (Segment(3 * PAGE, PAGE, RW, 2 * PAGE),)
    assert_as_the_kernel_lists(arena)


@pytest.mark.parametrize(("size", "whole"), [(1, 1), (PAGE - 1, 1), (PAGE + 1, 2)])
def test_size_is_rounded_up_to_whole_pages(
    size: int, whole: int, arena: MemoryMappingArena, known_fd: int
) -> None:
    arena.add_anon(0, size)
    arena.add_fd(8 * PAGE, size, known_fd)
    assert arena.segments() == (
        Segment(0, whole * PAGE, RW, None),
        Segment(8 * PAGE, whole * PAGE, RW, 0),
    )
    assert_as_the_kernel_lists(arena)
    arena.remove(8 * PAGE, size)
    assert arena.segments() == (Segment(0, whole * PAGE, RW, None),)
    assert_as_the_kernel_lists(arena)


def test_add_fills_the_arena_to_its_last_byte(arena: MemoryMappingArena, known_fd: int) -> None:
    arena.add_fd(0, SIZE - PAGE, known_fd)
    arena.add_anon(SIZE - PAGE, PAGE)
    arena[-1] = 7
    assert arena.segments() == (
        Segment(0, SIZE - PAGE, RW, 0),
        Segment(SIZE - PAGE, PAGE, RW, None),
    )
    assert_as_the_kernel_lists(arena)


# Overlaps


def half_full(arena: MemoryMappingArena, file: int) -> None:
    """Pages 4 to 11 are a file's pages 2 to 9, and all of them are written to."""
    arena.add_fd_offset(4 * PAGE, 8 * PAGE, file, 2 * PAGE)


# Pages (from, to) and what is left of the file on the left and on the right of them.
OVERLAPS: dict[str, tuple[int, int, tuple[int, int], tuple[int, int]]] = {
    "left": (2, 6, (0, 0), (6, 12)),
    "right": (10, 14, (4, 10), (0, 0)),
    "middle": (6, 9, (4, 6), (9, 12)),
    "one page": (7, 8, (4, 7), (8, 12)),
    "exact": (4, 12, (0, 0), (0, 0)),
    "same start": (4, 6, (0, 0), (6, 12)),
    "same end": (9, 12, (4, 9), (0, 0)),
    "around": (3, 13, (0, 0), (0, 0)),
    "everything": (0, 16, (0, 0), (0, 0)),
    "beside": (12, 14, (4, 12), (0, 0)),
    "before": (2, 4, (0, 0), (4, 12)),
}
overlapping = pytest.mark.parametrize(
    ("start", "end", "left", "right"), OVERLAPS.values(), ids=OVERLAPS.keys()
)


def rest(*parts: tuple[int, int]) -> list[Segment]:
    """What is left of the file that `half_full` mapped."""
    return [
        Segment(first * PAGE, (last - first) * PAGE, RW, (first - 2) * PAGE)
        for first, last in parts
        if first < last
    ]


@overlapping
@pytest.mark.parametrize("prot", [RW, READ, NONE], ids=str)
def test_add_anon_over_a_file_replaces_that_part(
    start: int,
    end: int,
    left: tuple[int, int],
    right: tuple[int, int],
    prot: Protection,
    arena: MemoryMappingArena,
    known_fd: int,
    known_file: KnownFile,
) -> None:
    half_full(arena, known_fd)
    arena.add_anon_protection(start * PAGE, (end - start) * PAGE, prot)
    added = Segment(start * PAGE, (end - start) * PAGE, prot, None)
    assert list(arena.segments()) == sorted(
        [*rest(left, right), added], key=lambda segment: segment.offset
    )
    assert_as_the_kernel_lists(arena)
    if prot.readable:
        assert arena.is_all_zero(added.offset, added.size)
    for segment in rest(left, right):
        where = (segment.offset, segment.offset + segment.size)
        assert arena[slice(*where)] == known_file.content[slice(*(x - 2 * PAGE for x in where))]
    assert known_file.path.read_bytes() == known_file.content


@overlapping
def test_add_fd_over_the_same_file_shows_the_other_part(
    start: int,
    end: int,
    left: tuple[int, int],
    right: tuple[int, int],
    arena: MemoryMappingArena,
    known_fd: int,
    known_file: KnownFile,
) -> None:
    half_full(arena, known_fd)
    arena.add_fd_offset_protection(start * PAGE, (end - start) * PAGE, known_fd, 0, READ)
    added = Segment(start * PAGE, (end - start) * PAGE, READ, 0)
    assert list(arena.segments()) == sorted(
        [*rest(left, right), added], key=lambda segment: segment.offset
    )
    assert_as_the_kernel_lists(arena)
    assert arena[added.offset : added.offset + added.size] == known_file.content[: added.size]


@overlapping
@over(TAKE_OUT)
def test_remove_leaves_the_rest_and_restores_the_reservation(
    call: Callable[[MemoryMappingArena, int, int], None],
    start: int,
    end: int,
    left: tuple[int, int],
    right: tuple[int, int],
    arena: MemoryMappingArena,
    known_fd: int,
    known_file: KnownFile,
) -> None:
    half_full(arena, known_fd)
    call(arena, start * PAGE, (end - start) * PAGE)
    assert list(arena.segments()) == rest(left, right)
    assert_as_the_kernel_lists(arena)
    # Each hole is one mapping of the kernel's, whatever it was before.
    edges = [0, *(page * PAGE for part in (left, right) if part[1] for page in part), SIZE]
    holes = list(zip(edges[::2], edges[1::2], strict=True))
    assert [run[:2] for run in runs(arena) if run[2] == "---p"] == holes
    for segment in arena.segments():
        where = (segment.offset, segment.offset + segment.size)
        assert arena[slice(*where)] == known_file.content[slice(*(x - 2 * PAGE for x in where))]


def test_add_and_remove_span_several_segments(arena: MemoryMappingArena, known_fd: int) -> None:
    arena.add_anon(PAGE, 2 * PAGE)
    arena.add_fd(3 * PAGE, 2 * PAGE, known_fd)
    arena.add_anon_protection(6 * PAGE, 2 * PAGE, READ)
    arena.add_fd_offset(9 * PAGE, 4 * PAGE, known_fd, 8 * PAGE)
    arena[PAGE] = 5
    arena.add_fd_offset_protection(2 * PAGE, 8 * PAGE, known_fd, 4 * PAGE, READ)
    assert arena.segments() == (
        Segment(PAGE, PAGE, RW, None),
        Segment(2 * PAGE, 8 * PAGE, READ, 4 * PAGE),
        Segment(10 * PAGE, 3 * PAGE, RW, 9 * PAGE),
    )
    assert_as_the_kernel_lists(arena)
    assert arena[PAGE] == 5
    arena.remove(0, 11 * PAGE)
    assert arena.segments() == (Segment(11 * PAGE, 2 * PAGE, RW, 10 * PAGE),)
    assert_as_the_kernel_lists(arena)
    arena.remove(11 * PAGE, 2 * PAGE)
    assert arena.segments() == ()
    assert runs(arena) == [(0, SIZE, "---p", "", 0)]


def test_adjacent_segments_stay_two(arena: MemoryMappingArena, known_fd: int) -> None:
    arena.add_anon(0, PAGE)
    arena.add_anon(PAGE, PAGE)
    arena.add_fd(4 * PAGE, PAGE, known_fd)
    arena.add_fd(5 * PAGE, PAGE, known_fd)
    assert arena.segments() == (
        Segment(0, PAGE, RW, None),
        Segment(PAGE, PAGE, RW, None),
        Segment(4 * PAGE, PAGE, RW, 0),
        Segment(5 * PAGE, PAGE, RW, 0),
    )
    assert_as_the_kernel_lists(arena)
    assert arena[4 * PAGE : 5 * PAGE] == arena[5 * PAGE : 6 * PAGE]


def test_add_over_itself_starts_from_zeros(arena: MemoryMappingArena) -> None:
    arena.add_anon(0, 4 * PAGE)
    arena[: 4 * PAGE] = known_bytes(4 * PAGE)
    arena.add_anon(PAGE, 2 * PAGE)
    expected = bytearray(known_bytes(4 * PAGE))
    expected[PAGE : 3 * PAGE] = bytes(2 * PAGE)
    assert arena[: 4 * PAGE] == expected


# What is taken out


@over(TAKE_OUT)
def test_remove_restores_the_reservation_as_it_was(
    call: Callable[[MemoryMappingArena, int, int], None], arena: MemoryMappingArena, known_fd: int
) -> None:
    with unchanged(arena):
        arena.add_anon(PAGE, 3 * PAGE)
        arena.add_fd_offset_protection(8 * PAGE, 4 * PAGE, known_fd, PAGE, READ)
        arena.protect(NONE, 9 * PAGE, PAGE)
        for offset, size in [(8, 2), (2, 1), (1, 1), (3, 1), (10, 2)]:
            call(arena, offset * PAGE, size * PAGE)
    assert runs(arena) == [(0, SIZE, "---p", "", 0)]
    assert {"dd", "nr"} <= vm_flags(arena.as_ptr(), SIZE)


def test_remove_gives_the_memory_back(arena: MemoryMappingArena) -> None:
    arena.add_anon(0, SIZE)
    arena[:] = known_bytes(SIZE)
    assert amount("Rss", arena.as_ptr(), SIZE) == SIZE
    arena.remove(0, SIZE - PAGE)
    assert amount("Rss", arena.as_ptr(), SIZE) == PAGE
    arena.add_anon(0, SIZE - PAGE)
    assert arena.is_all_zero(0, SIZE - PAGE)
    assert arena[SIZE - PAGE :] == known_bytes(SIZE)[SIZE - PAGE :]


@over(TAKE_OUT)
def test_remove_where_nothing_is_changes_nothing(
    call: Callable[[MemoryMappingArena, int, int], None], arena: MemoryMappingArena
) -> None:
    arena.add_anon(0, PAGE)
    with unchanged(arena):
        call(arena, PAGE, SIZE - PAGE)


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@over(TAKE_OUT)
def test_remove_drops_locks(
    call: Callable[[MemoryMappingArena, int, int], None], arena: MemoryMappingArena
) -> None:
    with unchanged(arena):
        arena.add_anon(0, 4 * PAGE)
        arena.lock(0, 4 * PAGE)
        assert amount("Locked", arena.as_ptr(), SIZE) == 4 * PAGE
        call(arena, 0, 4 * PAGE)
        assert amount("Locked", arena.as_ptr(), SIZE) == 0


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_remove_and_add_take_guards_away(arena: MemoryMappingArena) -> None:
    arena.add_anon(0, 4 * PAGE)
    arena.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, 2 * PAGE)
    with pytest.raises(ProtectionError):
        _ = arena[0]
    arena.add_anon(0, PAGE)
    arena.remove(PAGE, PAGE)
    arena.add_anon(PAGE, PAGE)
    arena[: 2 * PAGE] = known_bytes(2 * PAGE)
    assert bytes(arena.view(0, 2 * PAGE)) == known_bytes(2 * PAGE)
    assert_as_the_kernel_lists(arena)


# Protection


def test_protect_part_of_a_segment_splits_it(arena: MemoryMappingArena, known_fd: int) -> None:
    half_full(arena, known_fd)
    arena.protect(READ, 6 * PAGE, 2 * PAGE)
    assert arena.segments() == (
        Segment(4 * PAGE, 2 * PAGE, RW, 2 * PAGE),
        Segment(6 * PAGE, 2 * PAGE, READ, 4 * PAGE),
        Segment(8 * PAGE, 4 * PAGE, RW, 6 * PAGE),
    )
    assert_as_the_kernel_lists(arena)
    with pytest.raises(ProtectionError):
        arena[6 * PAGE] = 1
    arena[6 * PAGE - 1] = 1
    arena.protect(RW, 6 * PAGE, 2 * PAGE)
    assert arena.segments() == (Segment(4 * PAGE, 8 * PAGE, RW, 2 * PAGE),)
    assert_as_the_kernel_lists(arena)


def test_protect_is_forgotten_with_what_it_was_for(arena: MemoryMappingArena) -> None:
    arena.add_anon(0, 4 * PAGE)
    arena.protect(READ, 0, 4 * PAGE)
    arena.add_anon(PAGE, PAGE)
    arena[PAGE] = 1
    arena.remove(2 * PAGE, PAGE)
    arena.add_anon(2 * PAGE, PAGE)
    arena[2 * PAGE] = 1
    assert [segment.prot for segment in arena.segments()] == [READ, RW, RW, READ]
    assert_as_the_kernel_lists(arena)


@pytest.mark.parametrize("prot", [READ, WRITE, NONE], ids=str)
def test_protect_of_the_whole_arena_does_not_outlive_what_it_holds(
    prot: Protection, arena: MemoryMappingArena
) -> None:
    arena.add_anon(0, SIZE)
    arena.protect(prot)
    assert arena.segments() == (Segment(0, SIZE, prot, None),)
    assert_as_the_kernel_lists(arena)
    arena.add_anon(PAGE, PAGE)
    assert_as_the_kernel_lists(arena)
    arena[PAGE] = 3
    assert arena[PAGE] == 3
    arena.remove(2 * PAGE, PAGE)
    assert_as_the_kernel_lists(arena)
    with pytest.raises(ProtectionError):
        _ = arena[2 * PAGE]


@pytest.mark.parametrize(("offset", "size"), [(0, None), (0, 8 * PAGE), (8 * PAGE, 2 * PAGE)])
def test_protect_never_opens_a_hole(
    offset: int, size: int | None, arena: MemoryMappingArena
) -> None:
    arena.add_anon_protection(4 * PAGE, 2 * PAGE, READ)
    before = arena.segments()
    try:
        arena.protect(RW, offset, size)
    except ProtectionError:
        assert arena.segments() == before
    assert_as_the_kernel_lists(arena)
    for hole in (0, 3, 6, 8, 15):
        with pytest.raises(ProtectionError):
            _ = arena[hole * PAGE]
    assert amount("Rss", arena.as_ptr() + 6 * PAGE, 10 * PAGE) == 0


# What is taken over

TAKE_OVER: dict[str, Callable[[MemoryMapping], MemoryMappingArena]] = {
    "into_arena": MemoryMapping.into_arena,
    "from_mapping": MemoryMappingArena.from_mapping,
}


@over(TAKE_OVER)
@pytest.mark.parametrize("size", [1, PAGE, 4 * PAGE, 3 * PAGE + 5])
def test_into_arena_moves_the_pages_and_closes_the_mapping(
    call: Callable[[MemoryMapping], MemoryMappingArena], size: int
) -> None:
    mapping = MemoryMapping.new(size)
    mapping[:] = known_bytes(size)
    address, whole = mapping.as_ptr(), -(-size // PAGE) * PAGE
    before = vmas_in(address, whole)
    with process_unchanged():
        arena = call(mapping)
        assert mapping.closed
        with pytest.raises(ClosedMappingError):
            mapping.view()
        assert (arena.as_ptr(), arena.size) == (address, whole)
        assert vmas_in(address, whole) == before
        assert arena.segments() == (Segment(0, whole, RW, None),)
        assert arena[:size] == known_bytes(size)
        mapping.close()
        del mapping
        gc.collect()
        assert arena[:size] == known_bytes(size)
        assert_as_the_kernel_lists(arena)
    arena.close()
    assert not is_mapped(address, whole)


@over(TAKE_OVER)
def test_into_arena_copies_nothing(call: Callable[[MemoryMapping], MemoryMappingArena]) -> None:
    size = 64 << 20
    mapping = MemoryMapping.new(size)
    mapping.populate(write=True)
    before = resident()
    with call(mapping) as arena:
        assert abs(resident() - before) < 16 << 20
        assert amount("Rss", arena.as_ptr(), size) == size


@over(TAKE_OVER)
def test_into_arena_of_a_file_keeps_the_file_behind_it(
    call: Callable[[MemoryMapping], MemoryMappingArena], known_file: KnownFile
) -> None:
    mapping = MemoryMapping.from_file(known_file.path, 6 * PAGE, offset=2 * PAGE)
    with call(mapping) as arena:
        assert arena.segments() == (Segment(0, 6 * PAGE, RW, 2 * PAGE),)
        assert_as_the_kernel_lists(arena)
        arena[PAGE : PAGE + 3] = b"new"
        arena.add_anon(2 * PAGE, PAGE)
        arena.remove(4 * PAGE, PAGE)
        assert arena.segments() == (
            Segment(0, 2 * PAGE, RW, 2 * PAGE),
            Segment(2 * PAGE, PAGE, RW, None),
            Segment(3 * PAGE, PAGE, RW, 5 * PAGE),
            Segment(5 * PAGE, PAGE, RW, 7 * PAGE),
        )
        assert_as_the_kernel_lists(arena)
        assert arena[5 * PAGE : 6 * PAGE] == known_file.content[7 * PAGE : 8 * PAGE]
    expected = bytearray(known_file.content)
    expected[3 * PAGE : 3 * PAGE + 3] = b"new"
    assert known_file.path.read_bytes() == expected


def test_into_arena_of_a_private_mapping_stays_private(known_file: KnownFile) -> None:
    mapping = MemoryMapping.from_file(known_file.path, 4 * PAGE, sharing=Sharing.PRIVATE)
    mapping[0] = 0
    with mapping.into_arena() as arena:
        assert arena[:2] == b"\0" + known_file.content[1:2]
        assert listed_pages(arena, "p") == kernel_pages(arena)
        arena.remove(PAGE, 3 * PAGE)
        assert listed_pages(arena, "p") == kernel_pages(arena)
    assert known_file.path.read_bytes() == known_file.content


@pytest.mark.parametrize("prot", [READ, WRITE, NONE, RW], ids=str)
def test_into_arena_keeps_the_protection(prot: Protection) -> None:
    mapping = MemoryMapping.new(4 * PAGE)
    mapping.protect(prot)
    with mapping.into_arena() as arena:
        assert arena.segments() == (Segment(0, 4 * PAGE, prot, None),)
        if not prot.writable:
            with pytest.raises(ProtectionError):
                arena[0] = 1
        if not prot.readable:
            with pytest.raises(ProtectionError):
                _ = arena[0]
        arena.add_anon(PAGE, PAGE)
        arena[PAGE] = 1
        assert arena[PAGE] == 1
        assert_as_the_kernel_lists(arena)


def test_into_arena_keeps_the_protection_of_each_range() -> None:
    mapping = MemoryMapping.new(3 * PAGE + 1)
    mapping.protect(READ, PAGE, PAGE)
    mapping.protect(NONE, 3 * PAGE)  # up to the mapping's end, inside a page
    with mapping.into_arena() as arena:
        assert arena.segments() == (
            Segment(0, PAGE, RW, None),
            Segment(PAGE, PAGE, READ, None),
            Segment(2 * PAGE, PAGE, RW, None),
            Segment(3 * PAGE, PAGE, NONE, None),
        )
        assert_as_the_kernel_lists(arena)


@over(TAKE_OVER)
def test_into_arena_views_and_slices_from_before_stay_valid(
    call: Callable[[MemoryMapping], MemoryMappingArena],
) -> None:
    mapping = MemoryMapping.new(3 * PAGE + 5)
    view, part = mapping.view(PAGE, 10), mapping.get_slice(2 * PAGE, 10)
    arena = call(mapping)
    assert arena.live_views == mapping.live_views == 1
    view[:3] = b"abc"
    part.write_bytes(7)
    assert arena[PAGE : PAGE + 3] == b"abc"
    assert arena[2 * PAGE : 2 * PAGE + 10] == bytes([7] * 10)
    arena[PAGE : PAGE + 3] = b"def"
    assert bytes(view[:3]) == b"def"
    address = arena.as_ptr()
    arena.close()
    assert bytes(view[:3]) == b"def"
    view.release()
    assert part.size == 10
    assert not part.is_all_zero()
    del part
    gc.collect()
    assert not is_mapped(address, 4 * PAGE)


@over(TAKE_OVER)
def test_into_arena_of_a_closed_mapping_is_refused(
    call: Callable[[MemoryMapping], MemoryMappingArena],
) -> None:
    mapping = MemoryMapping.new(PAGE)
    mapping.close()
    with process_unchanged(), pytest.raises(ClosedMappingError):
        call(mapping)


@over(TAKE_OVER)
def test_into_arena_twice_is_refused(
    call: Callable[[MemoryMapping], MemoryMappingArena],
) -> None:
    mapping = MemoryMapping.new(PAGE)
    with call(mapping) as arena:
        with pytest.raises(ClosedMappingError):
            call(mapping)
        assert arena[0] == 0


@over(TAKE_OVER)
def test_into_arena_from_inside_a_page_is_refused_and_the_mapping_stays(
    call: Callable[[MemoryMapping], MemoryMappingArena], known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, 2 * PAGE, offset=5) as mapping:
        with process_unchanged(), pytest.raises(NotPageAlignedError) as caught:
            call(mapping)
        assert caught.value.page_size == PAGE
        assert not mapping.closed
        assert (mapping.size, mapping[0]) == (2 * PAGE, known_file.content[5])


@over(TAKE_OVER)
def test_into_arena_of_pages_that_could_not_be_read_in_is_refused(
    call: Callable[[MemoryMapping], MemoryMappingArena], known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path) as mapping:
        view = mapping.view()
        os.truncate(known_file.path, 0)
        with pytest.raises(MappingFaultError), mapping.fault_guard():
            assert view[0] == 0
        with pytest.raises(MappingFaultError):
            call(mapping)
        assert not mapping.closed


@over(TAKE_OVER)
def test_into_arena_after_a_failed_read_takes_the_pages_over(
    call: Callable[[MemoryMapping], MemoryMappingArena], known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path) as mapping:
        os.truncate(known_file.path, PAGE)
        with pytest.raises(MappingFaultError):
            _ = mapping[PAGE]
        with call(mapping) as arena:
            assert arena[:PAGE] == known_file.content[:PAGE]
            with pytest.raises(MappingFaultError) as caught:
                _ = arena[PAGE]
            assert (caught.value.offset, caught.value.pages) == (PAGE, 1)


@pytest.mark.parametrize("wrong", [None, 0, b"", "mapping", MemoryMapping])
def test_from_mapping_of_anything_else_is_refused(wrong: Any) -> None:
    with process_unchanged(), pytest.raises(TypeError):
        MemoryMappingArena.from_mapping(wrong)


def test_from_mapping_of_another_region_is_refused_and_it_stays() -> None:
    take_over: Any = MemoryMappingArena.from_mapping
    arena, external = MemoryMappingArena.new(PAGE), unsafe.from_raw_parts(PAGE, PAGE, NONE)
    for region in (arena, external):
        with process_unchanged(), pytest.raises(TypeError):
            take_over(region)
        assert not region.closed


# After the end

AFTER_CLOSE: dict[str, Callable[[MemoryMappingArena], object]] = {
    "segments": MemoryMappingArena.segments,
    "add_anon": lambda arena: arena.add_anon(0, PAGE),
    "add_anon_protection": lambda arena: arena.add_anon_protection(0, PAGE, RW),
    "add_fd": lambda arena: arena.add_fd(0, PAGE, 0),
    "add_fd_offset": lambda arena: arena.add_fd_offset(0, PAGE, 0, 0),
    "add_fd_offset_protection": lambda arena: arena.add_fd_offset_protection(0, PAGE, 0, 0, RW),
    "add_fd_mapping": lambda arena: arena.add_fd_mapping(0, PAGE, 0, 0, RW),
    "remove": lambda arena: arena.remove(0, PAGE),
    "remove_mapping": lambda arena: arena.remove_mapping(0, PAGE),
}


@over(AFTER_CLOSE)
def test_arena_used_after_close_is_refused(call: Callable[[MemoryMappingArena], object]) -> None:
    arena = MemoryMappingArena.new(SIZE)
    arena.add_anon(0, PAGE)
    view = arena.view(0, PAGE)
    arena.close()
    with process_unchanged(), pytest.raises(ClosedMappingError):
        call(arena)
    assert bytes(view) == bytes(PAGE)
