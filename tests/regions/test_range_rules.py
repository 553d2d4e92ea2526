"""The ranges that operations on pages take, widen to whole pages, or refuse."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from kernel_view import PAGE, Index, KnownFile, any_vm_flags, perms, usages, vm_flags
from marks import LOCKS_DO_NOTHING
from protections import NONE

from mmapwrap import (
    Advice,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidRangeError,
    MemoryMapping,
    MemoryMappingArena,
    NotPageAlignedError,
    ProtectionError,
    VolatileOutOfBoundsError,
)

Ranged = Callable[[MemoryMapping, Any, Any], object]


WIDENED: dict[str, Ranged] = {
    "advise": lambda m, offset, count: m.advise(Advice.NORMAL, offset, count),
    "msync": lambda m, offset, count: m.msync(offset, count),
    "lock": lambda m, offset, count: m.lock(offset, count),
    "lock_on_fault": lambda m, offset, count: m.lock_on_fault(offset, count),
    "unlock": lambda m, offset, count: m.unlock(offset, count),
    "async_prefetch": lambda m, offset, count: m.async_prefetch(offset, count),
    "populate": lambda m, offset, count: m.populate(offset, count),
    "populate_write": lambda m, offset, count: m.populate(offset, count, write=True),
    "residency": lambda m, offset, count: m.residency(offset, count),
}


STRICT: dict[str, Ranged] = {
    "advise_destructive": lambda m, offset, count: m.advise_destructive(
        DestructiveAdvice.DONTNEED, offset, count
    ),
    "protect": lambda m, offset, count: m.protect(NONE, offset, count),
    "drop_page_cache": lambda m, offset, count: m.drop_page_cache(offset, count),
    "remove_range": lambda m, offset, count: m.remove_range(offset, count),
    "evict": lambda m, offset, count: m.evict(offset, count),
}


RANGED = WIDENED | STRICT


TO_THE_END = RANGED.keys() - {"drop_page_cache", "remove_range"}


WANTS_ITS_RANGE = {
    "drop_page_cache",  # of private pages it drops the content
    "remove_range",
    "range_end",  # only adds
}


WHOLE: dict[str, Callable[[MemoryMapping], object]] = {
    "lock_all": lambda m: m.lock_all(),
    "unlock_all": lambda m: m.unlock_all(),
    "use_dontfork": lambda m: m.use_dontfork(),
    "use_hugepages": lambda m: m.use_hugepages(),
}


def over(table: dict[str, Any]) -> pytest.MarkDecorator:
    """Run a test once for each operation of a table."""
    return pytest.mark.parametrize("operation", table.values(), ids=table.keys())


def range_calls() -> dict[str, dict[str, object]]:
    """The methods of regions that take a range, and the defaults of its offset and its count."""
    found: dict[str, dict[str, object]] = {}
    for kind in (MemoryMapping, MemoryMappingArena):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            of_range = {
                parameter: each.default
                for parameter, each in inspect.signature(method).parameters.items()
                if parameter in {"offset", "mem_offset", "count", "len"}
            }
            if len(of_range) == 2 and not name.startswith("_"):
                found[name] = of_range
    return found


def test_range_call_takes_the_whole_region_by_default_where_it_drops_no_content() -> None:
    given = range_calls()
    assert given.keys() >= {"advise", "lock", "get_slice", "flush_region", *WANTS_ITS_RANGE}
    for name, defaults in given.items():
        wanted = [inspect.Parameter.empty] * 2 if name in WANTS_ITS_RANGE else [0, None]
        assert list(defaults.values()) == wanted, name


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_on_fault_and_unlock_without_a_range_reach_all_pages(of_file: MemoryMapping) -> None:
    of_file.lock_on_fault()
    assert "lo" in vm_flags(of_file.as_ptr(), of_file.size)
    of_file.unlock()
    assert "lo" not in any_vm_flags(of_file.as_ptr(), of_file.size)


def test_flush_region_without_a_range_reaches_the_last_page(of_file: MemoryMapping) -> None:
    of_file.flush_region()
    of_file.protect(NONE, 15 * PAGE)
    with pytest.raises(ProtectionError) as caught:
        of_file.flush_region()
    assert caught.value.range == (0, of_file.size)


def test_get_slice_without_a_range_is_the_whole_region(of_file: MemoryMapping) -> None:
    whole, rest = of_file.get_slice(), of_file.get_slice(Index(PAGE + 1))
    assert (whole.address, whole.size) == (of_file.as_ptr(), of_file.size)
    assert (rest.address, rest.size) == (of_file.as_ptr() + PAGE + 1, 15 * PAGE - 1)
    assert of_file.get_slice(of_file.size).size == 0
    with pytest.raises(VolatileOutOfBoundsError) as caught:
        of_file.get_slice(of_file.size + 1)
    assert caught.value.addr == of_file.size + 1
    with pytest.raises(VolatileOutOfBoundsError):
        of_file.get_slice(-1)


@over(RANGED)
@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (-PAGE, PAGE),
        (0, -PAGE),
        (0, 17 * PAGE),
        (16 * PAGE, PAGE),
        (17 * PAGE, 0),
        (PAGE, 16 * PAGE),
        (2**63, PAGE),
        (2**64 - PAGE, PAGE),
        (2**64, 0),
        (0, 2**64),
        (PAGE, 2**64),
        (-(2**64), 2**64),
    ],
)
def test_range_outside_is_refused_and_nothing_happens(
    operation: Ranged, offset: int, count: int, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        operation(of_file, offset, count)
    error = caught.value
    assert (error.offset, error.count, error.region_size) == (offset, count, of_file.size)
    assert "lo" not in any_vm_flags(of_file.as_ptr(), of_file.size)
    assert of_file[:] == known_file.content


@pytest.mark.parametrize("name", sorted(TO_THE_END))
def test_range_without_count_starting_past_the_end_is_refused(
    name: str, of_file: MemoryMapping
) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        RANGED[name](of_file, 17 * PAGE, None)
    assert (caught.value.offset, caught.value.region_size) == (17 * PAGE, of_file.size)


@over(RANGED)
@pytest.mark.parametrize(
    ("offset", "count"), [(0.0, PAGE), (0, float(PAGE)), ("0", PAGE), (0, "1"), (None, PAGE)]
)
def test_range_not_of_integers_is_refused(
    operation: Ranged, offset: object, count: object, of_file: MemoryMapping
) -> None:
    with pytest.raises(TypeError) as caught:
        operation(of_file, offset, count)
    assert not isinstance(caught.value, ProtectionError)


@over(RANGED)
def test_range_by_index_methods_is_taken(operation: Ranged, of_file: MemoryMapping) -> None:
    operation(of_file, Index(PAGE), Index(PAGE))


@over(RANGED)
@pytest.mark.parametrize("offset", [0, PAGE, 16 * PAGE])
def test_range_of_no_bytes_does_nothing(
    operation: Ranged, offset: int, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    before = [(usage.vma, usage.flags) for usage in usages(of_file.as_ptr(), of_file.size)]
    operation(of_file, offset, 0)
    after = [(usage.vma, usage.flags) for usage in usages(of_file.as_ptr(), of_file.size)]
    assert before == after
    of_file[0] = 9
    assert of_file[:] == b"\x09" + known_file.content[1:]


@over(WIDENED)
@pytest.mark.parametrize(
    ("offset", "count"), [(1, 1), (PAGE - 1, 2), (5, 3 * PAGE), (16 * PAGE - 1, 1), (0, 1)]
)
def test_range_harmless_is_widened_to_its_pages(
    operation: Ranged, offset: int, count: int, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    operation(of_file, offset, count)
    assert of_file[:] == known_file.content


@over(WIDENED)
@pytest.mark.parametrize("name", ["from inside a page", "to inside a page"])
def test_range_harmless_of_a_region_inside_pages_is_widened(
    operation: Ranged, name: str, known_file: KnownFile
) -> None:
    offset = PAGE + 100 if name == "from inside a page" else PAGE
    with MemoryMapping.from_file(known_file.path, 2 * PAGE + 5, offset=offset) as m:
        operation(m, 0, m.size)
        operation(m, 0, 1)
        operation(m, m.size - 1, 1)
        assert m[:] == known_file.content[offset : offset + m.size]


@over(STRICT)
@pytest.mark.parametrize(
    ("offset", "count"),
    [(1, PAGE), (0, 1), (0, PAGE + 1), (PAGE, 1), (PAGE - 1, PAGE), (1, None), (16 * PAGE - 1, 1)],
)
def test_range_destructive_not_on_pages_is_refused_and_nothing_happens(
    operation: Ranged,
    offset: int,
    count: int | None,
    of_file: MemoryMapping,
    known_file: KnownFile,
) -> None:
    of_file[0] = 9
    if count is None:
        count = of_file.size - offset
    with pytest.raises(NotPageAlignedError) as caught:
        operation(of_file, offset, count)
    assert isinstance(caught.value, ValueError)
    assert caught.value.page_size == PAGE
    assert caught.value.value % PAGE != 0
    assert set(perms(of_file.as_ptr(), of_file.size)) == {"rw-s"}
    assert of_file[:] == b"\x09" + known_file.content[1:]
    assert known_file.path.read_bytes() == b"\x09" + known_file.content[1:]


@over(STRICT)
def test_range_destructive_of_no_bytes_is_still_checked(
    operation: Ranged, of_file: MemoryMapping
) -> None:
    with pytest.raises(NotPageAlignedError):
        operation(of_file, 1, 0)
    with pytest.raises(InvalidRangeError):
        operation(of_file, 16 * PAGE + 1, 0)


@over(STRICT)
def test_range_destructive_may_end_with_the_region_inside_a_page(
    operation: Ranged, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, 2 * PAGE + 5) as m:
        with pytest.raises(NotPageAlignedError):
            operation(m, PAGE, PAGE + 4)
        operation(m, PAGE, PAGE + 5)


@over(STRICT)
def test_range_destructive_must_start_on_a_page_of_memory_not_of_the_region(
    operation: Ranged, known_file: KnownFile
) -> None:
    # A region that starts 100 bytes into a page: what is before it in that page is not its own.
    with MemoryMapping.from_file(known_file.path, 3 * PAGE, offset=PAGE + 100) as m:
        for offset in (0, PAGE):
            with pytest.raises(NotPageAlignedError):
                operation(m, offset, PAGE)
        assert known_file.path.read_bytes() == known_file.content
        operation(m, PAGE - 100, PAGE)


@over(RANGED)
def test_range_of_a_closed_mapping_is_refused(operation: Ranged) -> None:
    m = MemoryMapping.new(PAGE)
    m.close()
    with pytest.raises(ClosedMappingError):
        operation(m, 0, PAGE)


@over(WHOLE)
def test_whole_mapping_operation_of_a_closed_mapping_is_refused(
    operation: Callable[[MemoryMapping], object],
) -> None:
    m = MemoryMapping.new(PAGE)
    m.close()
    with pytest.raises(ClosedMappingError):
        operation(m)
