"""`flush_region` and `flush_all`: the lines of the range, all of them, and no page beside them."""

import os
import platform
from collections.abc import Iterator
from typing import Any

import pytest
from kernel_view import PAGE, Index, KnownFile, known_bytes, resident_pages
from meanwhile import pages_of
from protections import NONE, READ

from mmapwrap import (
    ClosedMappingError,
    InvalidRangeError,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    ProtectionError,
    UnsupportedByKernelError,
)
from mmapwrap._core import failures

FLUSHES = platform.machine() in {"x86_64", "aarch64"}

needs_flushes = pytest.mark.skipif(
    not FLUSHES, reason=f"the library does not know how to flush lines on {platform.machine()}"
)
needs_another_machine = pytest.mark.skipif(
    FLUSHES, reason=f"the library knows how to flush lines on {platform.machine()}"
)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Four pages and five bytes that nothing has touched yet."""
    with MemoryMapping.new(4 * PAGE + 5) as m:
        yield m


def touched(m: MemoryMapping) -> list[int]:
    """The pages of a new mapping that are there: those that something has touched."""
    return [page for page, there in enumerate(resident_pages(m.as_ptr(), m.size)) if there]


# A flush loads nothing, but it needs the page: of new memory, only what is flushed is allocated.
RANGES: list[tuple[int, int, list[int]]] = [
    (0, 0, []),
    (2 * PAGE, 0, []),
    (4 * PAGE + 5, 0, []),
    (0, 1, [0]),
    (PAGE - 1, 1, [0]),
    (PAGE, 1, [1]),
    (PAGE - 1, 2, [0, 1]),
    (PAGE - 63, 64, [0, 1]),  # the last line has one byte of the range
    (PAGE - 64, 65, [0, 1]),
    (PAGE - 64, 64, [0]),
    (PAGE + 63, 2, [1]),
    (2 * PAGE - 5, PAGE + 6, [1, 2, 3]),
    (3 * PAGE + 1, PAGE + 4, [3, 4]),
    (4 * PAGE + 4, 1, [4]),
    (0, 4 * PAGE + 5, [0, 1, 2, 3, 4]),
]


@needs_flushes
@pytest.mark.parametrize(("offset", "count", "pages"), RANGES)
def test_flush_region_reaches_each_line_of_the_range_and_no_page_beside(
    offset: int, count: int, pages: list[int], mapping: MemoryMapping
) -> None:
    assert touched(mapping) == []
    mapping.flush_region(Index(offset), Index(count))
    assert touched(mapping) == pages


@needs_flushes
def test_flush_region_of_any_range_changes_nothing(mapping: MemoryMapping) -> None:
    mapping[:] = known_bytes(mapping.size)
    for offset in range(130):
        for count in (0, 1, 2, 63, 64, 65, 128, 1000):
            mapping.flush_region(offset, count)
            mapping.flush_region(mapping.size - offset - count, count)
    mapping.flush_region(offset=0, len=mapping.size)
    assert mapping[:] == known_bytes(mapping.size)


@needs_flushes
def test_flush_all_is_the_whole_region(mapping: MemoryMapping) -> None:
    mapping.flush_all()
    assert touched(mapping) == [0, 1, 2, 3, 4]
    mapping[:] = known_bytes(mapping.size)
    mapping.flush_all()
    assert mapping[:] == known_bytes(mapping.size)


@needs_flushes
def test_flush_of_a_read_only_file_works(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, offset=5, prot=READ) as m:
        m.flush_region(0, 1)
        m.flush_all()
        assert m[:] == known_file.content[5:]


@pytest.mark.parametrize(
    ("offset", "count"),
    [(-1, 1), (0, -1), (0, 4 * PAGE + 6), (4 * PAGE + 5, 1), (4 * PAGE + 6, 0), (1, 2**64 - 1)],
)
def test_flush_region_outside_the_region_is_refused(
    offset: int, count: int, mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        mapping.flush_region(offset, count)
    assert (caught.value.offset, caught.value.count) == (offset, count)
    assert caught.value.region_size == mapping.size
    assert touched(mapping) == []


@pytest.mark.parametrize(("offset", "count"), [(0.0, 1), (0, 1.0), ("0", 1), (None, 1)])
def test_flush_region_range_not_of_integers_is_refused(
    offset: Any, count: Any, mapping: MemoryMapping
) -> None:
    with pytest.raises(TypeError):
        mapping.flush_region(offset, count)


def test_flush_of_a_closed_region_is_refused(mapping: MemoryMapping) -> None:
    mapping.close()
    for call in (mapping.flush_all, lambda: mapping.flush_region(0, 0)):
        with pytest.raises(ClosedMappingError):
            call()


def test_flush_of_a_region_without_access_is_refused() -> None:
    with MemoryMapping.anonymous(2 * PAGE, prot=NONE) as m:
        for call in (m.flush_all, lambda: m.flush_region(0, 1)):
            with pytest.raises(ProtectionError) as caught:
                call()
            assert (caught.value.required, caught.value.actual) == (READ, NONE)


@needs_flushes
def test_flush_across_a_page_without_access_is_refused(mapping: MemoryMapping) -> None:
    mapping.protect(NONE, PAGE, PAGE)
    for offset, count in ((PAGE, 1), (PAGE - 1, 2), (0, 3 * PAGE), (2 * PAGE - 1, 1)):
        with pytest.raises(ProtectionError):
            mapping.flush_region(offset, count)
    with pytest.raises(ProtectionError):
        mapping.flush_all()
    assert touched(mapping) == []
    mapping.flush_region(PAGE - 64, 64)
    mapping.flush_region(2 * PAGE, 1)
    assert touched(mapping) == [0, 2]


@needs_flushes
def test_flush_beside_a_hole_of_an_arena_leaves_it_alone() -> None:
    with MemoryMappingArena.new(3 * PAGE) as arena:
        arena.add_anon(PAGE, PAGE)
        arena.flush_region(PAGE, PAGE)
        arena.flush_region(PAGE, 1)
        arena.flush_region(2 * PAGE - 1, 1)
        with pytest.raises(ProtectionError):
            arena.flush_region(PAGE, PAGE + 1)
        with pytest.raises(ProtectionError):
            arena.flush_all()


@needs_flushes
def test_flush_of_a_page_that_the_file_lost_is_an_error(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        os.truncate(known_file.path, 4 * PAGE)
        m.flush_region(0, 4 * PAGE)
        with pytest.raises(MappingFaultError) as caught:
            m.flush_region(3 * PAGE, 3 * PAGE)
        assert (caught.value.offset, caught.value.pages) == (4 * PAGE, 1)


@needs_another_machine
def test_flush_on_another_machine_is_unsupported(mapping: MemoryMapping) -> None:
    for call in (mapping.flush_all, lambda: mapping.flush_region(0, 1)):
        with pytest.raises(UnsupportedByKernelError) as caught:
            call()
        assert "cache line" in caught.value.feature


def test_refusal_of_a_processor_without_flushing_names_the_feature() -> None:
    with MemoryMapping.new(PAGE) as mapping:
        error = pages_of(mapping).error(failures.Refusal.NO_LINE_FLUSH, 0, 1)
    assert isinstance(error, UnsupportedByKernelError)
    assert error.feature == "flushing of cache lines"
