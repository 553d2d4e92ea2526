"""Huge pages of hugetlbfs: for the kernel every edge, size and length is a multiple of one."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Final

import pytest
from arena_view import assert_as_the_kernel_lists, unchanged
from forks import run_forked
from hugetlb import (
    HUGE,
    content_of,
    fill,
    free_huge_pages,
    huge_memfd,
    hugetlbfs_file,
    locked_pool,
    make_free,
    neighbours,
    pool_of,
    raised_pool,
)
from kernel_view import (
    PAGE,
    any_vm_flags,
    child,
    free_address,
    is_mapped,
    known_bytes,
    perms,
    process_unchanged,
    resident_pages,
    vm_flags,
    vmas_in,
)
from marks import LOCKS_DO_NOTHING
from messages import nearest_offsets
from protections import NONE, READ, RW

from mmapwrap import (
    Advice,
    DestructiveAdvice,
    InvalidRangeError,
    InvalidSystemCallError,
    MappedRegion,
    MappingFaultError,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    NotPageAlignedError,
    OutOfMemoryError,
    PastEndOfFileError,
    ProtectionError,
    Segment,
    SharedMemory,
    Sharing,
    SyncMode,
    u8,
    u64,
    unsafe,
)

# They change the pool of huge pages, which is the whole machine's.
pytestmark = pytest.mark.alone

PAGES: Final = 4
SIZE: Final = PAGES * HUGE
CONTENT: Final = known_bytes(SIZE)

# Ranges of the file: (offset, size).
PLACES: dict[str, tuple[int, int]] = {
    "one": (HUGE, HUGE),
    "less than one": (HUGE, PAGE),
    "more than one": (0, HUGE + 1),
    "inside": (HUGE // 2, PAGE),
    "from the middle of one into another": (HUGE // 2, 2 * HUGE),
    "inside a small page": (5, 10),
    "across an edge": (2 * HUGE - 1, 2),
    "all": (0, SIZE),
}
at_places = pytest.mark.parametrize(("offset", "size"), PLACES.values(), ids=PLACES.keys())

Files = Callable[[int], AbstractContextManager[int]]

FILES: dict[str, Files] = {"memfd": huge_memfd, "hugetlbfs": hugetlbfs_file}


@pytest.fixture
def pool() -> Iterator[None]:
    """Twelve free huge pages."""
    with pool_of(12):
        yield


@pytest.fixture(params=list(FILES))
def empty_file(request: pytest.FixtureRequest, pool: None) -> Iterator[int]:
    """A descriptor of four huge pages that are not there yet."""
    with FILES[request.param](PAGES) as fd:
        yield fd


@pytest.fixture
def file(empty_file: int) -> int:
    """A descriptor of four huge pages with known content."""
    fill(empty_file, CONTENT)
    return empty_file


@contextmanager
def placed(fd: int, size: int = SIZE, offset: int = 0) -> Generator[MemoryMapping]:
    """A range of a file, mapped with memory of others on both sides of its huge pages."""
    start = free_address(16 * HUGE)
    head = offset % HUGE
    end = start - -(head + size) // HUGE * HUGE
    with (
        neighbours(start, end),
        MemoryMapping.from_descriptor_offset_protection_fixed(
            start + head, fd, size, offset, RW
        ) as mapping,
    ):
        yield mapping


@contextmanager
def not_on_a_huge_page(value: int | None = None) -> Generator[pytest.ExceptionInfo[Any]]:
    """Expect the error that names the huge page and its size, and the edge where it is known."""
    with pytest.raises(NotPageAlignedError) as caught:
        yield caught
    error = caught.value
    assert error.page_size == HUGE
    assert re.search(rf"\bhuge page size (is )?{HUGE}\b", str(error))
    assert f"page size is {PAGE}" not in str(error)
    if value is not None:
        assert error.value == value
        assert re.match(rf"{value}\b", str(error))


# Constructors


Constructor = Callable[[int, int, int], MemoryMapping]


def through_shared_memory(fd: int, size: int, offset: int) -> MemoryMapping:
    with SharedMemory.from_fd(fd) as memory:
        return memory.map(size, offset=offset)


CONSTRUCTORS: dict[str, Constructor] = {
    "from_fd_offset": MemoryMapping.from_fd_offset,
    "from_fd_offset_protection": lambda fd, size, offset: MemoryMapping.from_fd_offset_protection(
        fd, size, offset, READ
    ),
    "populated": lambda fd, size, offset: MemoryMapping.from_fd_offset_protection_populate(
        fd, size, offset, None, RW, True
    ),
    "aligned and populated": lambda fd, size, offset: (
        MemoryMapping.from_fd_offset_protection_populate(fd, size, offset, 4 * HUGE, RW, True)
    ),
    "from_file": lambda fd, size, offset: MemoryMapping.from_file(fd, size, offset=offset),
    "from_file, aligned": lambda fd, size, offset: MemoryMapping.from_file(
        fd, size, offset=offset, align=2 * HUGE
    ),
    "from_file, aligned less": lambda fd, size, offset: MemoryMapping.from_file(
        fd, size, offset=offset, align=2 * PAGE
    ),
    "from_file, private": lambda fd, size, offset: MemoryMapping.from_file(
        fd, size, offset=offset, sharing=Sharing.PRIVATE
    ),
    "from_file, private and populated": lambda fd, size, offset: MemoryMapping.from_file(
        fd, size, offset=offset, sharing=Sharing.PRIVATE, populate=True, align=HUGE
    ),
    "SharedMemory.map": through_shared_memory,
}


def assert_maps_whole_huge_pages(mapping: MemoryMapping, offset: int) -> None:
    start = mapping.as_ptr() - offset % HUGE
    end = start - -(offset % HUGE + mapping.size) // HUGE * HUGE
    (vma,) = [vma for vma in vmas_in(mapping.as_ptr(), mapping.size) if vma.inode]
    assert start % HUGE == 0
    assert (vma.start, vma.end) == (start, end)


@at_places
@pytest.mark.parametrize("make", CONSTRUCTORS.values(), ids=CONSTRUCTORS.keys())
def test_constructor_shows_its_range_and_unmaps_all_of_it(
    make: Constructor, offset: int, size: int, file: int
) -> None:
    with process_unchanged(), make(file, size, offset) as mapping:
        assert (mapping.size, mapping.file_offset) == (size, offset)
        assert mapping[:] == CONTENT[offset : offset + size]
        assert_maps_whole_huge_pages(mapping, offset)
        assert "dd" in vm_flags(mapping.as_ptr(), size)


@pytest.mark.parametrize("size", [1, PAGE, HUGE, HUGE + PAGE, SIZE])
def test_from_fd_of_huge_pages_shows_the_start_of_the_file(size: int, file: int) -> None:
    with process_unchanged(), MemoryMapping.from_fd(file, size) as mapping:
        assert mapping[:] == CONTENT[:size]
        assert_maps_whole_huge_pages(mapping, 0)


@at_places
def test_mapping_at_an_address_lies_there_and_replaces_nothing(
    offset: int, size: int, file: int
) -> None:
    with process_unchanged(), placed(file, size, offset) as mapping:
        assert mapping[:] == CONTENT[offset : offset + size]
        assert_maps_whole_huge_pages(mapping, offset)


@pytest.mark.parametrize("align", [PAGE, HUGE // 2, HUGE, 2 * HUGE, 16 * HUGE])
@pytest.mark.parametrize("offset", [0, HUGE // 2, HUGE])
def test_alignment_is_that_of_the_first_huge_page(align: int, offset: int, file: int) -> None:
    with MemoryMapping.from_file(file, HUGE, offset=offset, align=align) as mapping:
        assert (mapping.as_ptr() - offset % HUGE) % max(align, HUGE) == 0
        assert mapping[:] == CONTENT[offset : offset + HUGE]


def test_from_file_without_a_size_maps_the_rest_of_the_huge_pages(file: int) -> None:
    with MemoryMapping.from_file(file, offset=HUGE + 5) as mapping:
        assert mapping.size == SIZE - HUGE - 5
        assert mapping[:] == CONTENT[HUGE + 5 :]


@pytest.mark.parametrize(("offset", "size"), [(0, SIZE + 1), (SIZE, 1), (SIZE - PAGE, HUGE)])
def test_from_file_past_the_last_huge_page_is_refused_and_grows_nothing(
    offset: int, size: int, file: int
) -> None:
    with process_unchanged(), pytest.raises(PastEndOfFileError):
        MemoryMapping.from_file(file, size, offset=offset)
    assert os.fstat(file).st_size == SIZE


def test_private_mapping_writes_to_no_file(file: int) -> None:
    with MemoryMapping.from_file(
        file, 2 * HUGE, offset=HUGE // 2, sharing=Sharing.PRIVATE
    ) as mapping:
        mapping[PAGE : PAGE + 4] = b"mine"
        assert mapping[PAGE - 1 : PAGE + 5] == (
            CONTENT[HUGE // 2 + PAGE - 1 :][:1] + b"mine" + CONTENT[HUGE // 2 + PAGE + 4 :][:1]
        )
    assert content_of(file, 0, SIZE) == CONTENT


@at_places
def test_shared_mapping_writes_to_its_range_of_the_file(offset: int, size: int, file: int) -> None:
    expected = bytearray(CONTENT)
    expected[offset : offset + size] = b"\xff" * size
    with MemoryMapping.from_fd_offset(file, size, offset) as mapping:
        mapping[:] = b"\xff" * size
    assert content_of(file, 0, SIZE) == expected


def test_populate_takes_the_huge_pages_of_the_range_and_no_more(empty_file: int) -> None:
    free = free_huge_pages()
    with MemoryMapping.from_file(empty_file, HUGE, offset=HUGE // 2, populate=True):
        assert free - free_huge_pages() == 2
        assert os.fstat(empty_file).st_blocks * 512 == 2 * HUGE


FIXED = {
    "at 0": HUGE // 2,
    "below 0": PAGE,
    "inside one": 8 * HUGE + PAGE,
    "on one": 8 * HUGE,
}


@pytest.mark.parametrize("module", ["MemoryMapping", "unsafe"])
@pytest.mark.parametrize("address", FIXED.values(), ids=FIXED.keys())
def test_mapping_at_an_address_that_is_not_as_far_into_a_huge_page_is_refused(
    address: int, module: str, pool: None
) -> None:
    # The byte in the middle of a huge page, at addresses that would put the page's start at 0,
    # below it, or inside a huge page.
    program = """
        import os, sys
        from pathlib import Path
        import mmapwrap

        from mmapwrap import MemoryMapping, unsafe

        address, huge = int(sys.argv[1]), int(sys.argv[3])
        module = {"MemoryMapping": MemoryMapping, "unsafe": unsafe}[sys.argv[2]]
        fd = os.memfd_create("huge", os.MFD_HUGETLB)
        os.ftruncate(fd, 2 * huge)
        make = module.from_descriptor_offset_protection_fixed
        before = Path("/proc/self/maps").read_text().count("huge")
        try:
            kept = make(address, fd, 4096, huge // 2, mmapwrap.Protection.read_write())
            print("mapped", hex(kept.as_ptr()))
        except mmapwrap.MmapError as error:
            print(type(error).__name__, error)
        assert Path("/proc/self/maps").read_text().count("huge") == before
    """
    said = child(program, address, module, HUGE).succeeded()
    if address < HUGE:
        assert said.startswith(("InvalidAddressError", "NotPageAlignedError")), said
    else:
        assert said.startswith("NotPageAlignedError"), said
        assert str(HUGE) in said


@pytest.mark.parametrize("offset", [0, HUGE // 2])
def test_mapping_over_what_is_there_is_refused_and_changes_nothing(offset: int, file: int) -> None:
    with placed(file, PAGE, offset) as mapping:
        for address in (mapping.as_ptr(), mapping.as_ptr() - offset % HUGE + HUGE):
            with process_unchanged(), pytest.raises(FileExistsError):
                MemoryMapping.from_descriptor_offset_protection_fixed(
                    address - address % HUGE + offset % HUGE, file, PAGE, offset, RW
                )
        assert mapping[:] == CONTENT[offset : offset + PAGE]


def test_unsafe_mapping_over_a_huge_page_replaces_that_alone(file: int) -> None:
    with placed(file, 2 * HUGE) as mapping:
        over = unsafe.from_descriptor_offset_protection_fixed(
            mapping.as_ptr() + HUGE + 5, file, 10, 3 * HUGE + 5, RW
        )
        assert over[:] == CONTENT[3 * HUGE + 5 :][:10]
        assert mapping[:HUGE] == CONTENT[:HUGE]
        assert mapping[HUGE:] == CONTENT[3 * HUGE :]
        over.close()  # a hole in the mapping now, which its close leaves alone
        assert not is_mapped(mapping.as_ptr() + HUGE, HUGE)


# Ranges: what destroys or changes access is never widened


Change = Callable[[MappedRegion, int, int], None]

CHANGES: dict[str, Change] = {
    "protect": lambda region, offset, count: region.protect(READ, offset, count),
    "drop_page_cache": lambda region, offset, count: region.drop_page_cache(offset, count),
    "remove_range": lambda region, offset, count: region.remove_range(offset, count),
    "evict": lambda region, offset, count: region.evict(offset, count),
}


def advise_destructive(
    advice: DestructiveAdvice, region: MappedRegion, offset: int, count: int
) -> None:
    region.advise_destructive(advice, offset, count)


CHANGES.update(
    {
        f"advise_destructive {advice.name}": partial(advise_destructive, advice)
        for advice in DestructiveAdvice
    }
)
over_changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())

# Ranges that cut a huge page in two, and the edge where they do.
PARTS: dict[str, tuple[int, int, int]] = {
    "small page inside": (HUGE + PAGE, PAGE, HUGE + PAGE),
    "first part": (HUGE, PAGE, HUGE + PAGE),
    "last part": (2 * HUGE - PAGE, PAGE, 2 * HUGE - PAGE),
    "across an edge": (HUGE // 2, HUGE, HUGE // 2),
    "one and a part": (HUGE, HUGE + PAGE, 2 * HUGE + PAGE),
    "all but a small page": (0, SIZE - PAGE, SIZE - PAGE),
    "inside a small page": (3, 5, 3),
}


@over_changes
def test_change_of_a_part_of_a_huge_page_is_refused_and_changes_nothing(
    change: Change, file: int
) -> None:
    with placed(file) as mapping:
        for offset, count, edge in PARTS.values():
            with process_unchanged(), not_on_a_huge_page(edge):
                change(mapping, offset, count)
        assert perms(mapping.as_ptr(), SIZE) == ["rw-s"] * (SIZE // PAGE)
        assert mapping.prot == RW
        assert mapping[:] == CONTENT
    assert content_of(file, 0, SIZE) == CONTENT


def test_protect_of_a_huge_page_holds_for_that_alone(file: int) -> None:
    with placed(file) as mapping:
        mapping.protect(READ, HUGE, HUGE)
        per_page = [perms(mapping.as_ptr() + page * HUGE, HUGE) for page in range(PAGES)]
        wanted = ["rw-s", "r--s", "rw-s", "rw-s"]
        assert per_page == [[letters] * (HUGE // PAGE) for letters in wanted]
        with pytest.raises(TypeError):
            mapping[2 * HUGE - 1] = 1
        mapping[2 * HUGE] = mapping[HUGE - 1] = 1
        mapping.protect(NONE, HUGE, HUGE)
        with pytest.raises(TypeError):
            mapping.find(b"nothing")
        mapping.protect(RW)
        mapping[HUGE] = 7
    assert content_of(file, HUGE, 1) == b"\x07"


def test_remove_range_of_a_huge_page_makes_a_hole_of_that_alone(file: int) -> None:
    with placed(file) as mapping:
        free = free_huge_pages()
        mapping.remove_range(HUGE, HUGE)
        assert os.fstat(file).st_blocks * 512 == SIZE - HUGE
        assert free_huge_pages() >= free
        assert mapping.is_all_zero(HUGE, HUGE)
        assert mapping[:HUGE] == CONTENT[:HUGE]
        assert mapping[2 * HUGE :] == CONTENT[2 * HUGE :]


@pytest.mark.parametrize("advice", [DestructiveAdvice.DONTNEED, DestructiveAdvice.DONTNEED_LOCKED])
def test_dropped_huge_page_of_a_shared_mapping_loses_nothing(
    advice: DestructiveAdvice, file: int
) -> None:
    with placed(file) as mapping:
        mapping[HUGE] = 0
        mapping.advise_destructive(advice, HUGE, HUGE)
        assert mapping[: HUGE + 1] == CONTENT[:HUGE] + b"\0"
        assert mapping[HUGE + 1 :] == CONTENT[HUGE + 1 :]


def test_dropped_huge_page_of_a_private_mapping_loses_what_was_written(file: int) -> None:
    with MemoryMapping.from_file(file, sharing=Sharing.PRIVATE) as mapping:
        mapping[HUGE - 1 : HUGE + 1] = b"\0\0"
        mapping.drop_page_cache(HUGE, HUGE)
        assert mapping[HUGE - 1 : HUGE + 1] == b"\0" + CONTENT[HUGE : HUGE + 1]


def test_remove_range_of_a_private_mapping_is_refused(file: int) -> None:
    with MemoryMapping.from_file(file, sharing=Sharing.PRIVATE) as mapping:
        with pytest.raises(PermissionError):
            mapping.remove_range(HUGE, HUGE)
        assert mapping[:] == CONTENT


def test_evict_of_huge_pages_keeps_them_for_they_are_nowhere_else(file: int) -> None:
    with placed(file) as mapping:
        mapping.evict()
        mapping.evict(HUGE, HUGE)
        assert mapping[:] == CONTENT


def test_guard_pages_in_huge_pages_are_installed_or_refused_with_all_access_left(
    file: int,
) -> None:
    with placed(file) as mapping:
        try:
            mapping.advise_destructive(DestructiveAdvice.GUARD_INSTALL, HUGE, HUGE)
        except InvalidSystemCallError:
            assert mapping[:] == CONTENT
            mapping[HUGE] = 1
        else:
            with pytest.raises(TypeError):
                mapping.find(b"nothing")
            mapping.advise_destructive(DestructiveAdvice.GUARD_REMOVE, HUGE, HUGE)
        assert mapping[:HUGE] == CONTENT[:HUGE]


# Ranges: what changes no content is widened to the huge page


Hint = Callable[[MappedRegion, int, int], object]

HINTS: dict[str, Hint] = {
    "async_prefetch": lambda region, offset, count: region.async_prefetch(offset, count),
    "lock": lambda region, offset, count: region.lock(offset, count),
    "lock_on_fault": lambda region, offset, count: region.lock_on_fault(offset, count),
    "unlock": lambda region, offset, count: region.unlock(offset, count),
    "populate": lambda region, offset, count: region.populate(offset, count),
    "populate to write": lambda region, offset, count: region.populate(offset, count, write=True),
    "msync": lambda region, offset, count: region.msync(offset, count),
    "msync without waiting": lambda region, offset, count: region.msync(
        offset, count, SyncMode.ASYNC
    ),
    "msync and invalidate": lambda region, offset, count: region.msync(
        offset, count, invalidate=True
    ),
    "residency": lambda region, offset, count: region.residency(offset, count),
    "flush_region": lambda region, offset, count: region.flush_region(offset, count),
}
# What the kernel refuses for huge pages, as a whole.
REFUSED = {Advice.WIPEONFORK, Advice.COLD, Advice.PAGEOUT, Advice.COLLAPSE}


def advise(advice: Advice, region: MappedRegion, offset: int, count: int) -> None:
    try:
        region.advise(advice, offset, count)
    except InvalidSystemCallError:
        if advice not in REFUSED:
            raise


HINTS.update({f"advise {advice.name}": partial(advise, advice) for advice in Advice})
over_hints = pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS.keys())


@over_hints
def test_hint_for_a_part_of_a_huge_page_is_widened_and_changes_nothing(
    hint: Hint, file: int
) -> None:
    with placed(file) as mapping:
        for offset, count, _ in PARTS.values():
            hint(mapping, offset, count)
        assert mapping[:] == CONTENT
    assert content_of(file, 0, SIZE) == CONTENT


@over_hints
def test_hint_inside_a_huge_page_leaves_the_neighbours_alone(hint: Hint, file: int) -> None:
    with placed(file, PAGE, HUGE // 2) as mapping:
        hint(mapping, 0, PAGE)
        hint(mapping, PAGE - 1, 1)
        hint(mapping, PAGE, 0)
        assert mapping[:] == CONTENT[HUGE // 2 :][:PAGE]


@pytest.mark.parametrize(("offset", "count"), [(HUGE, 1), (HUGE + PAGE, PAGE), (2 * HUGE - 1, 1)])
def test_advice_for_a_part_of_a_huge_page_holds_for_all_of_it_and_no_more(
    offset: int, count: int, file: int
) -> None:
    with placed(file) as mapping:
        mapping.advise(Advice.RANDOM, offset, count)
        start = mapping.as_ptr()
        assert "rr" in vm_flags(start + HUGE, HUGE)
        assert "rr" not in any_vm_flags(start, HUGE) | any_vm_flags(start + 2 * HUGE, 2 * HUGE)


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@pytest.mark.parametrize("name", ["populate", "populate to write", "lock"])
def test_reading_in_takes_each_huge_page_that_the_range_touches(name: str, empty_file: int) -> None:
    with placed(empty_file) as mapping:
        HINTS[name](mapping, 2 * HUGE - 1, 2)
        assert os.fstat(empty_file).st_blocks * 512 == 2 * HUGE
        pages = resident_pages(mapping.as_ptr(), SIZE)
        by_huge_page = [
            set(pages[i : i + HUGE // PAGE]) for i in range(0, len(pages), HUGE // PAGE)
        ]
        assert by_huge_page == [{0}, {1}, {1}, {0}]


def test_residency_counts_small_pages_from_the_start_of_the_region(file: int) -> None:
    with placed(file, 2 * HUGE, HUGE // 2 + 5) as mapping:
        mapping.populate()
        whole = mapping.residency()
        assert (whole.offset, whole.page_size) == (-5, PAGE)
        assert (whole.resident, whole.total) == (2 * HUGE // PAGE + 1,) * 2
        part = mapping.residency(PAGE, PAGE)
        assert (part.offset, part.total) == (PAGE - 5, 2)


def test_residency_of_holes_in_huge_pages_is_none(empty_file: int) -> None:
    with placed(empty_file) as mapping:
        mapping[HUGE] = 1
        assert list(mapping.residency().ranges()) == [(HUGE, HUGE)]


def test_populate_of_huge_pages_reports_all_of_the_range(empty_file: int) -> None:
    seen: list[tuple[int, int]] = []
    with placed(empty_file) as mapping:
        mapping.populate(progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (SIZE, SIZE)


def test_use_hugepages_and_dontfork_take_huge_pages(file: int) -> None:
    with placed(file, PAGE, HUGE // 2) as mapping:
        mapping.use_hugepages()
        mapping.use_dontfork()
        assert "dc" in vm_flags(mapping.as_ptr(), PAGE)

        def look() -> None:
            assert mapping.closed

        run_forked(look)
        assert mapping[:] == CONTENT[HUGE // 2 :][:PAGE]


# A mapping that starts inside a huge page


@over_changes
def test_change_from_the_start_inside_a_huge_page_is_refused_or_takes_no_more_than_the_region(
    change: Change, file: int
) -> None:
    with placed(file, PAGE, HUGE // 2) as mapping:
        for offset, count in ((1, PAGE - 1), (0, PAGE - 1), (PAGE // 2, 1)):
            with not_on_a_huge_page():
                change(mapping, offset, count)
        assert mapping[:] == CONTENT[HUGE // 2 :][:PAGE]
    assert content_of(file, 0, SIZE) == CONTENT


DESTROYING = [name for name in CHANGES if name not in {"protect", "evict"}]


@pytest.mark.parametrize("name", DESTROYING)
def test_discarding_from_inside_a_huge_page_is_refused(name: str, file: int) -> None:
    # The huge page begins before the region, which must not lose what is not its own.
    with placed(file, 2 * HUGE, HUGE // 2) as mapping:
        with not_on_a_huge_page(0):
            CHANGES[name](mapping, 0, 2 * HUGE)
        with not_on_a_huge_page(100):
            CHANGES[name](mapping, 100, HUGE // 2 - 100)
        assert mapping[:] == CONTENT[HUGE // 2 :][: 2 * HUGE]
    assert content_of(file, 0, SIZE) == CONTENT


@pytest.mark.parametrize("count", [HUGE, HUGE + HUGE // 2])
def test_remove_range_to_the_end_inside_a_huge_page_spares_the_rest_of_that(
    count: int, file: int
) -> None:
    with placed(file, 2 * HUGE, HUGE // 2) as mapping:
        mapping.remove_range(HUGE // 2, count)
        assert mapping.is_all_zero(HUGE // 2, count)
        assert mapping[: HUGE // 2] == CONTENT[HUGE // 2 : HUGE]
    assert content_of(file, 0, HUGE) == CONTENT[:HUGE]
    assert content_of(file, HUGE + count, SIZE - HUGE - count) == CONTENT[HUGE + count :]


def test_protect_from_inside_a_huge_page_holds_for_the_region(file: int) -> None:
    with placed(file, 2 * HUGE, HUGE // 2) as mapping:
        mapping.protect(READ)
        with pytest.raises(TypeError):
            mapping[0] = 1
        mapping.protect(RW, 0, HUGE // 2)
        mapping[0] = 1
        with pytest.raises(TypeError):
            mapping[HUGE // 2] = 1
    assert content_of(file, HUGE // 2, 1) == b"\x01"


def test_nearest_offsets_that_the_error_names_work(file: int) -> None:
    with placed(file, 2 * HUGE, HUGE // 2) as mapping:
        with not_on_a_huge_page(HUGE) as caught:
            mapping.drop_page_cache(HUGE, HUGE)
        nearest = nearest_offsets(caught.value)
        assert nearest == [HUGE // 2, 3 * HUGE // 2]
        for offset in nearest:
            mapping.drop_page_cache(offset, 2 * HUGE - offset)


def test_nearest_offsets_that_the_error_names_are_inside_the_region(file: int) -> None:
    with placed(file, PAGE, HUGE // 2) as mapping, not_on_a_huge_page(0) as caught:
        mapping.drop_page_cache(0, PAGE)
    # The region has no edge of a huge page at all.
    assert [offset for offset in nearest_offsets(caught.value) if offset > PAGE] == []


# Content


@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize(("offset", "size"), [(0, SIZE), (HUGE // 2 + 5, 2 * HUGE)])
def test_content_of_huge_pages_is_read_and_found_as_any(
    offset: int, size: int, sharing: Sharing, file: int
) -> None:
    expected = CONTENT[offset : offset + size]
    edge = HUGE - offset % HUGE
    needle = expected[edge - 300 : edge + 300]
    with MemoryMapping.from_file(file, size, offset=offset, sharing=sharing) as mapping:
        assert bytes(mapping) == expected
        assert mapping[edge - 1] == expected[edge - 1]
        assert mapping[:: HUGE // 4] == expected[:: HUGE // 4]
        assert mapping[edge + 2 : edge - 3 : -1] == expected[edge + 2 : edge - 3 : -1]
        assert mapping.find(needle, edge - 300) == edge - 300
        assert mapping.rfind(needle, 0, edge + 300) == edge - 300
        assert not mapping.is_all_zero()
        buffer = bytearray(2 * PAGE)
        assert mapping.read_slice(buffer, edge - PAGE) == 2 * PAGE
        assert buffer == expected[edge - PAGE : edge + PAGE]
        assert mapping.read_slice(buffer, size - 7) == 7
        assert mapping.read_obj(u64, edge - 3) == int.from_bytes(
            expected[edge - 3 : edge + 5], sys.byteorder
        )
        mapping.flush_all()


@pytest.mark.parametrize("offset", [0, HUGE // 2 + 5])
def test_content_of_huge_pages_is_written_as_any(offset: int, file: int) -> None:
    edge = HUGE - offset % HUGE
    expected = bytearray(CONTENT[offset : offset + 2 * HUGE])
    with placed(file, 2 * HUGE, offset) as mapping:
        for memory in (expected, mapping):
            memory[edge - 2 : edge + 2] = b"edge"
            memory[0 : 4 * PAGE : PAGE] = b"step"
            memory[-1] = 255
        assert mapping.write_slice(b"four", 2 * HUGE - 3) == 3
        expected[-3:] = b"fou"
        mapping.write_obj(u64, 2**64 - 1, edge + 100)
        expected[edge + 100 : edge + 108] = b"\xff" * 8
        mapping.write_obj_volatile(u8, 9, edge - 9)
        expected[edge - 9] = 9
        mapping.msync()
    assert content_of(file, offset, 2 * HUGE) == expected


@pytest.mark.parametrize("offset", [0, HUGE // 2])
def test_slices_of_huge_pages_move_bytes_and_files(offset: int, file: int) -> None:
    with placed(file, 2 * HUGE, offset) as mapping:
        edge = HUGE - offset % HUGE
        across, elsewhere = mapping.get_slice(edge - PAGE, 2 * PAGE), mapping.get_slice(0, 2 * PAGE)
        assert across.copy_to_volatile_slice(elsewhere) == 2 * PAGE
        assert mapping[: 2 * PAGE] == CONTENT[offset + edge - PAGE :][: 2 * PAGE]
        assert across == elsewhere
        reading, writing = os.pipe()
        with open(reading, "rb", buffering=0), open(writing, "wb", buffering=0) as sink:
            assert across.write_to_fd(sink) == 2 * PAGE
            across.write_bytes(0)
            assert across.is_all_zero()
            assert across.read_from_fd(reading) == 2 * PAGE
        assert across == elsewhere


@pytest.mark.parametrize(("offset", "size"), [(HUGE, 2 * HUGE), (HUGE // 2, PAGE)])
def test_view_of_huge_pages_is_their_memory_and_keeps_them(
    offset: int, size: int, file: int
) -> None:
    with placed(file, size, offset) as mapping:
        address = mapping.as_ptr()
        view = mapping.view()
        assert hashlib.sha256(view).digest() == hashlib.sha256(mapping).digest()
        view[-2:] = b"ab"
        mapping.close()
        assert bytes(view) == CONTENT[offset : offset + size - 2] + b"ab"
        assert is_mapped(address, size)
        view.release()
        assert not is_mapped(address - offset % HUGE, HUGE)
    assert content_of(file, offset + size - 2, 3) == b"ab" + CONTENT[offset + size :][:1]


def test_view_of_a_huge_page_refuses_what_would_break_it(file: int) -> None:
    with placed(file) as mapping, mapping.view(HUGE, PAGE):
        with process_unchanged(), pytest.raises(BufferError):
            mapping.protect(READ, HUGE, HUGE)
        mapping.protect(READ, 2 * HUGE, HUGE)


# Shared memory


def test_shared_memory_of_huge_pages_has_all_of_them_and_maps_any_part(file: int) -> None:
    with SharedMemory.from_fd(file) as memory, SharedMemory.from_fd(file, PAGE) as part:
        assert (memory.size, part.size) == (SIZE, PAGE)
        with part.map() as mapping:
            assert mapping[:] == CONTENT[:PAGE]
            assert_maps_whole_huge_pages(mapping, 0)
        with memory.try_clone() as clone, clone.map(PAGE, offset=HUGE + PAGE) as mapping:
            mapping[0:4] = b"mine"
            with memory.map(offset=HUGE) as other:
                assert other[PAGE : PAGE + 4] == b"mine"
        for size, offset in ((None, SIZE), (SIZE + 1, 0), (1, SIZE)):
            with pytest.raises(PastEndOfFileError):
                memory.map(size, offset=offset)


def test_shared_memory_past_its_huge_pages_is_refused(file: int) -> None:
    with process_unchanged(), pytest.raises(PastEndOfFileError):
        SharedMemory.from_fd(file, SIZE + 1)


def test_shared_memory_of_a_huge_memfd_can_be_sealed(pool: None) -> None:
    with huge_memfd(2) as fd:
        sealing = MemfdSeals.SHRINK | MemfdSeals.GROW
        with SharedMemory.from_fd(fd) as memory:
            memory.add_seals(sealing)
        with SharedMemory.from_fd(fd, required_seals=sealing) as memory, memory.map() as mapping:
            with pytest.raises(PermissionError):
                os.ftruncate(fd, HUGE)
            mapping[-1] = 1
            assert (mapping.size, mapping[-1]) == (2 * HUGE, 1)


# Arenas of huge pages


@pytest.mark.parametrize("size", [HUGE, 2 * HUGE, HUGE + 1, PAGE])
def test_into_arena_of_huge_pages_has_whole_ones_and_no_more(size: int, file: int) -> None:
    with placed(file, size, HUGE) as mapping:
        start, whole = mapping.as_ptr(), -(-size // HUGE) * HUGE
        with process_unchanged():
            arena = mapping.into_arena()
        assert mapping.closed
        assert (arena.as_ptr(), arena.size) == (start, whole)
        assert arena.segments() == (Segment(0, whole, RW, HUGE),)
        assert arena[:] == CONTENT[HUGE : HUGE + whole]
        with pytest.raises(InvalidRangeError):
            arena.add_anon(whole, PAGE)
        with pytest.raises(IndexError):
            arena[whole]
        arena.close()
        assert not is_mapped(start, whole)


@pytest.mark.parametrize(("offset", "size"), [(HUGE // 2, PAGE), (PAGE, 2 * HUGE), (5, 10)])
@pytest.mark.parametrize(
    "make", [MemoryMapping.into_arena, MemoryMappingArena.from_mapping], ids=["into", "from"]
)
def test_into_arena_from_inside_a_huge_page_is_refused_and_the_mapping_stays(
    make: Callable[[MemoryMapping], MemoryMappingArena], offset: int, size: int, file: int
) -> None:
    with placed(file, size, offset) as mapping:
        with process_unchanged(), not_on_a_huge_page():
            make(mapping)
        assert not mapping.closed
        assert mapping[:] == CONTENT[offset : offset + size]
        with pytest.raises(IndexError):
            mapping[size]
        with pytest.raises(InvalidRangeError):
            mapping.view(size, 1)
        mapping.protect(READ)
        assert perms(mapping.as_ptr(), 1) == ["r--s"]


def test_arena_of_huge_pages_changes_by_whole_ones(file: int) -> None:
    with placed(file) as mapping:
        arena = mapping.into_arena()
        arena.remove(HUGE, HUGE)
        arena.add_anon(2 * HUGE, HUGE)
        assert_as_the_kernel_lists(arena)
        assert [
            (segment.offset, segment.size, segment.fd_offset) for segment in arena.segments()
        ] == [
            (0, HUGE, 0),
            (2 * HUGE, HUGE, None),
            (3 * HUGE, HUGE, 3 * HUGE),
        ]
        assert arena[:HUGE] == CONTENT[:HUGE]
        assert arena[3 * HUGE :] == CONTENT[3 * HUGE :]
        assert arena.is_all_zero(2 * HUGE, HUGE)
        arena.add_fd_offset(HUGE, 2 * HUGE, file, 0)
        assert arena[HUGE : 3 * HUGE] == CONTENT[: 2 * HUGE]
        assert_as_the_kernel_lists(arena)
        arena.close()


# Huge pages in an arena of small ones


def aligned_arena(size: int) -> MemoryMappingArena:
    """An arena that holds nothing and starts on a huge page."""
    return MemoryMapping.anonymous(size, align=HUGE, prot=NONE).into_arena()


@pytest.fixture
def arena(file: int) -> Iterator[MemoryMappingArena]:
    """An arena of memory, two huge pages of a file, memory, a hole, memory; a page's edge each."""
    with arena_of(6 * HUGE, is_replaced=False) as a:
        a.add_anon(0, HUGE)
        a.add_fd_offset(HUGE, 2 * HUGE, file, HUGE)
        a.add_anon(3 * HUGE, HUGE)
        a.add_anon(5 * HUGE, HUGE)
        for offset in (HUGE - PAGE, 3 * HUGE, 5 * HUGE):
            a[offset : offset + PAGE] = known_bytes(PAGE)
        yield a


def arena_of(size: int, *, is_replaced: bool) -> MemoryMappingArena:
    """An arena that starts on a huge page, and holds nothing or memory."""
    arena = aligned_arena(size)
    arena.remove(0, size)
    if is_replaced:
        arena.add_anon(0, size)
        arena[: 4 * PAGE] = known_bytes(4 * PAGE)
    return arena


over_what_is_there = pytest.mark.parametrize("is_replaced", [False, True])


@pytest.mark.parametrize("count", [1, 2])
@over_what_is_there
def test_add_of_huge_pages_at_one_takes_those_alone(
    count: int, is_replaced: bool, file: int
) -> None:
    size = count * HUGE
    with process_unchanged(), arena_of(4 * HUGE, is_replaced=is_replaced) as arena:
        arena.add_fd(HUGE, size, file)
        assert_as_the_kernel_lists(arena)
        assert Segment(HUGE, size, RW, 0) in arena.segments()
        assert arena[HUGE : HUGE + size] == CONTENT[:size]
        if is_replaced:
            assert arena[: 4 * PAGE] == known_bytes(4 * PAGE)
            assert arena.is_all_zero(HUGE + size)


@pytest.mark.parametrize("size", [1, PAGE, HUGE - PAGE, HUGE + 1, HUGE + PAGE])
@over_what_is_there
def test_add_of_a_part_of_a_huge_page_is_refused_and_changes_nothing(
    size: int, is_replaced: bool, file: int
) -> None:
    with arena_of(4 * HUGE, is_replaced=is_replaced) as arena:
        for offset in (0, HUGE, PAGE):
            with unchanged(arena), not_on_a_huge_page() as caught:
                arena.add_fd(offset, size, file)
            assert caught.value.value in {size, offset}
        with unchanged(arena), pytest.raises((InvalidRangeError, NotPageAlignedError)):
            arena.add_fd(4 * HUGE - PAGE, size, file)


@over_what_is_there
@pytest.mark.parametrize("offset", [PAGE, HUGE - PAGE, HUGE // 2, 2 * HUGE + PAGE])
def test_add_of_huge_pages_elsewhere_is_refused_and_changes_nothing(
    offset: int, is_replaced: bool, file: int
) -> None:
    with (
        arena_of(4 * HUGE, is_replaced=is_replaced) as arena,
        unchanged(arena),
        not_on_a_huge_page(offset),
    ):
        arena.add_fd(offset, HUGE, file)


@over_what_is_there
@pytest.mark.parametrize("offset", [3 * HUGE + PAGE, 4 * HUGE - PAGE])
def test_add_of_a_huge_page_across_the_end_is_refused(
    offset: int, is_replaced: bool, file: int
) -> None:
    with arena_of(4 * HUGE, is_replaced=is_replaced) as arena:
        with unchanged(arena), pytest.raises((InvalidRangeError, NotPageAlignedError)) as caught:
            arena.add_fd(offset, HUGE, file)
        assert str(offset) in str(caught.value)


def test_add_of_huge_pages_from_inside_one_of_the_file_is_refused(
    arena: MemoryMappingArena, file: int
) -> None:
    for offset in (0, HUGE, 4 * HUGE):
        with unchanged(arena), not_on_a_huge_page(PAGE):
            arena.add_fd_offset(offset, HUGE, file, PAGE)


def test_add_of_huge_pages_past_the_end_is_refused(arena: MemoryMappingArena, file: int) -> None:
    for offset, size in ((5 * HUGE, 2 * HUGE), (6 * HUGE, HUGE), (0, 7 * HUGE)):
        with unchanged(arena), pytest.raises(InvalidRangeError) as caught:
            arena.add_fd(offset, size, file)
        assert (caught.value.offset, caught.value.count) == (offset, size)


def test_add_of_huge_pages_to_an_arena_that_starts_inside_one_goes_by_addresses(
    file: int,
) -> None:
    start = free_address(16 * HUGE) + PAGE
    with (
        neighbours(start, start + 3 * HUGE),
        MemoryMapping.new_protection_fixed(start, 3 * HUGE, NONE).into_arena() as arena,
    ):
        arena.remove(0, 3 * HUGE)
        with unchanged(arena), not_on_a_huge_page(HUGE) as caught:
            arena.add_fd(HUGE, HUGE, file)
        nearest = nearest_offsets(caught.value)
        assert nearest == [HUGE - PAGE, 2 * HUGE - PAGE]
        for offset in nearest:
            arena.add_fd(offset, HUGE, file)
            assert arena[offset : offset + HUGE] == CONTENT[:HUGE]
        with unchanged(arena), pytest.raises((InvalidRangeError, NotPageAlignedError)):
            arena.add_fd(3 * HUGE - PAGE, HUGE, file)
        assert_as_the_kernel_lists(arena)


# Parts of the two huge pages, and the edge of the part that is inside one.
SEGMENT_PARTS: dict[str, tuple[int, int, int]] = {
    "small page inside": (HUGE + PAGE, PAGE, HUGE + PAGE),
    "first part": (HUGE, PAGE, HUGE + PAGE),
    "last part of the last": (3 * HUGE - PAGE, PAGE, 3 * HUGE - PAGE),
    "last part of the first": (2 * HUGE - PAGE, PAGE, 2 * HUGE - PAGE),
    "across both": (HUGE + HUGE // 2, HUGE, HUGE + HUGE // 2),
    "memory and the first part": (HUGE - PAGE, 2 * PAGE, HUGE + PAGE),
    "memory and more than one": (0, 2 * HUGE + PAGE, 2 * HUGE + PAGE),
    "last part and memory": (3 * HUGE - PAGE, 2 * PAGE, 3 * HUGE - PAGE),
    "last part, memory and a hole": (2 * HUGE + PAGE, 2 * HUGE, 2 * HUGE + PAGE),
    "to the end": (HUGE + PAGE, 5 * HUGE - PAGE, HUGE + PAGE),
}


def add_small_file(arena: MemoryMappingArena, offset: int, count: int) -> None:
    with SharedMemory.new("small", 6 * HUGE) as memory:
        arena.add_fd(offset, count, memory)


ARENA_CHANGES: dict[str, Callable[[MemoryMappingArena, int, int], None]] = {
    **CHANGES,
    "protect from everything": lambda arena, offset, count: arena.protect(NONE, offset, count),
    "remove": MemoryMappingArena.remove,
    "remove_mapping": MemoryMappingArena.remove_mapping,
    "add_anon": MemoryMappingArena.add_anon,
    "add_anon_protection": lambda arena, offset, count: arena.add_anon_protection(
        offset, count, NONE
    ),
    "add_fd": add_small_file,
}


@pytest.mark.parametrize("name", ARENA_CHANGES)
def test_change_of_a_part_of_a_huge_page_in_an_arena_is_refused_and_changes_nothing(
    name: str, arena: MemoryMappingArena, file: int
) -> None:
    with unchanged(arena):
        for offset, count, edge in SEGMENT_PARTS.values():
            if name == "protect" and offset + count > 4 * HUGE:
                with pytest.raises(ProtectionError):  # some of the range holds nothing
                    arena.protect(READ, offset, count)
            else:
                with not_on_a_huge_page(edge):
                    ARENA_CHANGES[name](arena, offset, count)
    assert content_of(file, 0, SIZE) == CONTENT


@over_hints
def test_hint_for_a_part_of_a_huge_page_in_an_arena_is_widened(
    hint: Hint, arena: MemoryMappingArena
) -> None:
    arena.add_anon(4 * HUGE, HUGE)  # what holds nothing cannot be read in
    before = arena[:HUGE], arena[HUGE : 3 * HUGE], arena.segments()
    for offset, count, _ in SEGMENT_PARTS.values():
        hint(arena, offset, count)
        hint(arena, offset + 1, count - 1)
    assert (arena[:HUGE], arena[HUGE : 3 * HUGE], arena.segments()) == before


@pytest.mark.parametrize(
    ("offset", "count", "first", "end"),
    [
        (HUGE + PAGE, 1, HUGE, 2 * HUGE),
        (HUGE - PAGE, PAGE + 1, HUGE - PAGE, 2 * HUGE),
        (3 * HUGE - 1, PAGE, 2 * HUGE, 3 * HUGE + PAGE),
        (3 * HUGE + PAGE, 1, 3 * HUGE + PAGE, 3 * HUGE + 2 * PAGE),
    ],
)
def test_advice_in_an_arena_holds_for_whole_huge_pages_and_single_small_ones(
    offset: int, count: int, first: int, end: int, arena: MemoryMappingArena
) -> None:
    arena.advise(Advice.RANDOM, offset, count)
    start = arena.as_ptr()
    assert "rr" in vm_flags(start + first, end - first)
    assert "rr" not in any_vm_flags(start, first)
    assert "rr" not in any_vm_flags(start + end, arena.size - end)


def test_huge_page_in_an_arena_is_changed_as_a_whole(arena: MemoryMappingArena, file: int) -> None:
    arena.protect(READ, HUGE, HUGE)
    assert_as_the_kernel_lists(arena)
    arena.remove(2 * HUGE, HUGE)
    assert_as_the_kernel_lists(arena)
    assert arena[HUGE : 2 * HUGE] == CONTENT[HUGE : 2 * HUGE]
    arena.add_anon(HUGE, HUGE)
    assert_as_the_kernel_lists(arena)
    assert arena.is_all_zero(HUGE, HUGE)
    assert content_of(file, 0, SIZE) == CONTENT


@pytest.mark.parametrize("how", ["remove", "add_anon", "add_fd"])
def test_small_pages_work_again_where_huge_ones_were(
    how: str, arena: MemoryMappingArena, file: int
) -> None:
    # From the middle of memory to the middle of memory: both edges are on small pages.
    ARENA_CHANGES[how](arena, HUGE - PAGE, 2 * HUGE + 2 * PAGE)
    assert_as_the_kernel_lists(arena)
    for page in (HUGE + PAGE, 3 * HUGE - PAGE, 2 * HUGE - PAGE):
        arena.add_anon(page, PAGE)
        arena.protect(READ, page, PAGE)
        arena.remove(page, PAGE)
    assert_as_the_kernel_lists(arena)
    assert content_of(file, 0, SIZE) == CONTENT


def test_remove_range_of_a_huge_page_in_an_arena_makes_a_hole_of_that_alone(
    arena: MemoryMappingArena, file: int
) -> None:
    arena.remove_range(HUGE, HUGE)
    assert content_of(file, HUGE, HUGE) == bytes(HUGE)
    assert arena[2 * HUGE : 3 * HUGE] == CONTENT[2 * HUGE : 3 * HUGE]
    assert arena[HUGE - PAGE : HUGE] == arena[3 * HUGE : 3 * HUGE + PAGE] == known_bytes(PAGE)


def test_guard_pages_over_a_huge_page_in_an_arena_are_installed_or_leave_all_access(
    arena: MemoryMappingArena,
) -> None:
    segments = arena.segments()
    with suppress(InvalidSystemCallError):
        arena.advise_destructive(DestructiveAdvice.GUARD_INSTALL, HUGE, HUGE)
        arena.advise_destructive(DestructiveAdvice.GUARD_REMOVE, HUGE, HUGE)
    assert arena[2 * HUGE : 3 * HUGE] == CONTENT[2 * HUGE : 3 * HUGE]
    arena[HUGE] = arena[HUGE] ^ 1
    assert arena.segments() == segments


def test_arena_that_holds_huge_pages_unmaps_them_and_nothing_beside_it(file: int) -> None:
    start = free_address(16 * HUGE)
    with process_unchanged(), neighbours(start, start + 3 * HUGE):
        arena = MemoryMapping.new_protection_fixed(start, 3 * HUGE, NONE).into_arena()
        arena.add_fd(0, HUGE, file)
        arena.add_fd(2 * HUGE, HUGE, file)
        slice_ = arena.get_slice(2 * HUGE, 8)
        arena.close()
        assert is_mapped(start, 3 * HUGE)
        assert slice_.load(u8) == CONTENT[0]
        del slice_, arena
        assert not is_mapped(start, 3 * HUGE)


# The pool without a page


EVERY_MAPPING: dict[str, Callable[[int], object]] = {
    "from_fd": lambda fd: MemoryMapping.from_fd(fd, PAGE),
    "from_file": MemoryMapping.from_file,
    "private": lambda fd: MemoryMapping.from_file(fd, sharing=Sharing.PRIVATE),
    "populated": lambda fd: MemoryMapping.from_file(fd, populate=True),
    "aligned": lambda fd: MemoryMapping.from_file(fd, align=4 * HUGE),
    "inside": lambda fd: MemoryMapping.from_file(fd, PAGE, offset=HUGE // 2),
    "SharedMemory": lambda fd: SharedMemory.from_fd(fd).map(),
}


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "exhausted"])
@pytest.mark.parametrize("make", EVERY_MAPPING.values(), ids=EVERY_MAPPING.keys())
def test_mapping_without_free_huge_pages_is_out_of_memory_and_leaves_nothing(
    make: Callable[[int], object], is_empty: bool
) -> None:
    with pool_of(0 if is_empty else PAGES), huge_memfd(PAGES) as other, ExitStack() as stack:
        if not is_empty:
            stack.enter_context(MemoryMapping.from_file(other, populate=True))
        with huge_memfd(PAGES) as fd, process_unchanged(), pytest.raises(OutOfMemoryError):
            make(fd)


# Each touches a huge page that cannot be had. Run in a child: what is wrong here is a signal.
MISSING_PAGES = """
    import os, sys
    import mmapwrap as mw

    HUGE = int(sys.argv[1])
    fd = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(fd, 4 * HUGE)

    def arena():
        made = mw.MemoryMapping.anonymous(6 * HUGE, align=HUGE).into_arena()
        made[0:4], made[-4:] = b"head", b"tail"
        made.add_fd(HUGE, HUGE, fd)
        return made, HUGE, 2 * HUGE

    def mapping():
        address = 1 << 45
        make = mw.MemoryMapping.from_descriptor_offset_protection_fixed
        return make(address, fd, 2 * HUGE, 0, mw.Protection.read_write()), 0, 2 * HUGE

    def inside():
        address = (1 << 45) + HUGE // 2
        make = mw.MemoryMapping.from_descriptor_offset_protection_fixed
        return make(address, fd, HUGE, HUGE // 2, mw.Protection.read_write()), 0, HUGE // 2

    region, first, end = {"arena": arena, "mapping": mapping, "inside": inside}[sys.argv[2]]()
"""


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@pytest.mark.parametrize("kind", ["arena", "mapping", "inside"])
def test_copying_call_without_free_huge_pages_is_a_fault_and_no_signal(kind: str) -> None:
    program = (
        MISSING_PAGES
        + """
    where = first + 5000
    part = region.get_slice(first, 100)
    null, zero = os.open("/dev/null", os.O_WRONLY), os.open("/dev/zero", os.O_RDONLY)
    reading, writing = os.pipe()
    calls = {
        "index": lambda: region[where],
        "index, written": lambda: region.__setitem__(where, 1),
        "slice": lambda: region[where : where + 10],
        "slice, written": lambda: region.__setitem__(slice(where, where + 2), b"ab"),
        "step": lambda: region[first : first + 100 : 7],
        "bytes": lambda: bytes(region),
        "read_slice": lambda: region.read_slice(bytearray(100), where),
        "write_slice": lambda: region.write_slice(b"abc", where),
        "read_obj": lambda: region.read_obj(mw.u64, where),
        "write_obj": lambda: region.write_obj(mw.u64, 1, where),
        "volatile": lambda: region.read_obj_volatile(mw.u64, first + 8),
        "find": lambda: region.find(b"needle"),
        "rfind": lambda: region.rfind(b"needle"),
        "is_all_zero": lambda: region.is_all_zero(first, end - first),
        "slice.load": lambda: part.load(mw.u8),
        "slice.copy_to": lambda: part.copy_to(bytearray(100)),
        "slice.copy_from": lambda: part.copy_from(bytes(100)),
        "slice.write_bytes": lambda: part.write_bytes(1),
        "slice.write_to_fd": lambda: part.write_to_fd(writing),
        "populate": lambda: region.populate(where, 1),
        "populate to write": lambda: region.populate(where, 1, write=True),
        "lock": lambda: region.lock(where, 1),
        "flush_region": lambda: region.flush_region(where, 1),
    }
    for name, call in calls.items():
        try:
            call()
        except mw.MappingFaultError as error:
            assert (error.offset, error.pages) == (first, 1) or first < error.offset < end, error
            print(name)
        else:
            print(name, "succeeded")
    # Calls that bring nothing in work.
    region.msync()
    region.advise(mw.Advice.RANDOM, where, 1)
    assert region.residency(first, end - first).resident == 0
    region.close()
    """
    )
    with pool_of(0):
        names = child(program, HUGE, kind).succeeded().splitlines()
    assert len(names) == 23
    assert [name for name in names if "succeeded" in name] == []


@pytest.mark.parametrize("kind", ["arena", "mapping"])
def test_fault_without_free_huge_pages_says_that_there_is_no_space(kind: str) -> None:
    program = (
        MISSING_PAGES
        + """
    try:
        region[first]
    except mw.MappingFaultError as error:
        print(error)
    """
    )
    with pool_of(0):
        assert "no space" in child(program, HUGE, kind).succeeded()


@pytest.mark.parametrize("kind", ["arena", "mapping"])
def test_region_works_once_the_pool_has_huge_pages_again(kind: str) -> None:
    program = (
        MISSING_PAGES
        + """
    from pathlib import Path

    try:
        region[first]
    except mw.MappingFaultError:
        print("missing")
    pool = Path("/proc/sys/vm/nr_hugepages")
    pool.write_text(str(int(pool.read_text()) + 2))
    region[first : first + 4] = b"data"
    assert region[first : first + 4] == b"data"
    assert os.pread(fd, 4, 0) == b"data"
    print("there")
    """
    )
    with pool_of(0):
        assert child(program, HUGE, kind).succeeded() == "missing\nthere\n"


@pytest.mark.parametrize("kind", ["arena", "mapping", "inside"])
def test_guard_without_free_huge_pages_gives_views_zeros_and_no_signal(kind: str) -> None:
    program = (
        MISSING_PAGES
        + """
    try:
        with region.fault_guard():
            view = region.view(first, end - first)
            assert (view[0], view[5000], view[-1]) == (0, 0, 0)
            view[5000] = 1
            assert view[5000] == 1
            view.release()
            print("zeros")
    except mw.MappingFaultError as error:
        print(error.offset)
    try:
        region[first]
    except mw.MappingFaultError as error:
        print(error.offset)
    try:
        region.recover()
    except mw.MmapError as error:  # the kernel sets no huge page aside
        print(type(error).__name__)
    region.close()
    """
    )
    with pool_of(0):
        lines = child(program, HUGE, kind).succeeded().splitlines()
    first = HUGE if kind == "arena" else 0
    assert lines[:3] == ["zeros", str(first), str(first)]
    assert lines[3:] in ([], ["UnsupportedOperationError"])


def test_guard_without_free_huge_pages_puts_zeros_only_there_in_an_arena() -> None:
    program = (
        MISSING_PAGES
        + """
    head, tail = region.view(0, 4), region.view(6 * HUGE - 4, 4)
    try:
        with region.fault_guard():
            view = region.view(first, HUGE)
            assert (view[0], view[5000]) == (0, 0)
            print(bytes(head), bytes(tail))
    except mw.MappingFaultError as error:
        print(error.pages)
    print(bytes(head), bytes(tail))
    """
    )
    with pool_of(0):
        said = child(program, HUGE, "arena").succeeded()
    assert said == "b'head' b'tail'\n1\nb'head' b'tail'\n"


def test_guard_with_the_pool_exhausted_puts_zeros_only_there_in_a_mapping() -> None:
    program = (
        MISSING_PAGES
        + """
    region[HUGE - 4 : HUGE] = b"tail"  # takes the only page
    view = region.view()
    try:
        with region.fault_guard():
            assert view[HUGE] == view[HUGE + 5000] == 0
            print(bytes(view[HUGE - 4 : HUGE]))
    except mw.MappingFaultError as error:
        print(error.offset == HUGE, error.pages)
    print(bytes(view[HUGE - 4 : HUGE]), os.pread(fd, 4, HUGE - 4))
    """
    )
    with pool_of(1):
        said = child(program, HUGE, "mapping").succeeded()
    assert said == "b'tail'\nTrue 1\nb'tail' b'tail'\n"


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_file_of_huge_pages_that_is_cut_short_is_a_fault_until_it_grows(file: int) -> None:
    with MemoryMapping.from_file(file, 2 * HUGE, offset=HUGE // 2) as mapping:
        os.ftruncate(file, HUGE)
        for call in (
            lambda: mapping[HUGE],
            lambda: mapping.lock(HUGE, 1),
            mapping.populate,
            lambda: mapping.populate(HUGE, 1, write=True),
            lambda: mapping.find(b"nothing"),
        ):
            with pytest.raises(MappingFaultError, match=f"the file has {HUGE} bytes") as caught:
                call()
            assert (caught.value.offset, caught.value.pages) == (HUGE // 2, 1)
        assert mapping[: HUGE // 2] == CONTENT[HUGE // 2 : HUGE]
        os.ftruncate(file, SIZE)
        assert mapping.is_all_zero(HUGE // 2, HUGE)
        assert mapping[: HUGE // 2] == CONTENT[HUGE // 2 : HUGE]


def test_private_huge_page_of_a_child_without_a_free_one_is_a_fault_in_the_child() -> None:
    # The parent's own pages are reserved; the child's copy of one is not.
    program = """
        import os, sys
        import mmapwrap as mw

        huge = int(sys.argv[1])
        fd = os.memfd_create("huge", os.MFD_HUGETLB)
        os.ftruncate(fd, huge)
        region = mw.MemoryMapping.from_file(fd, sharing=mw.Sharing.PRIVATE)
        region[0:6] = b"parent"
        if (pid := os.fork()) == 0:
            try:
                region[0:5] = b"child"
            except mw.MappingFaultError as error:
                os._exit(7 if error.offset == 0 else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        print(region[0:6])
    """
    with pool_of(1):
        assert child(program, HUGE).succeeded() == "b'parent'\n"


def test_raised_pool_is_put_back() -> None:
    with locked_pool():
        before = free_huge_pages()
        with raised_pool(3):
            assert free_huge_pages() == 3
            make_free(1)
            assert free_huge_pages() == 1
        assert free_huge_pages() == before
