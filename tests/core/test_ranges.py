"""Byte ranges: their ends, what they say of other ranges, and the size of a page."""

import os
import pickle
import resource
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, strategies as st
from kernel_view import child

from mmapwrap import (
    ByteRange,
    InvalidArgumentError,
    InvalidRangeError,
    page_size,
    range_end,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# page_size


def test_page_size_is_the_systems() -> None:
    assert page_size() == resource.getpagesize() == os.sysconf("SC_PAGE_SIZE")
    assert type(page_size()) is int


# Ranges


def test_byte_range_end_is_the_first_byte_after_it() -> None:
    where = ByteRange(10, 5)
    assert (where.offset, where.count, where.end) == (10, 5, 15)
    assert ByteRange(7, 0).end == 7


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_byte_range_is_a_value(offset: int, count: int) -> None:
    where = ByteRange(offset, count)
    assert where == ByteRange(offset, count)
    assert hash(where) == hash(ByteRange(offset, count))
    assert where != ByteRange(offset, count + 1)
    assert pickle.loads(pickle.dumps(where)) == where
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        where.offset = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@given(st.integers(0, 2**64), st.integers(0, 2**64), st.integers(0, 2**64))
def test_range_end_is_the_sum_inside_and_an_error_outside(
    offset: int, count: int, size: int
) -> None:
    if offset + count <= size:
        assert range_end(offset, count, size) == offset + count
    else:
        with pytest.raises(InvalidRangeError) as caught:
            range_end(offset, count, size)
        error = caught.value
        assert (error.offset, error.count, error.region_size) == (offset, count, size)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(-1, 0), (-1, 2), (0, -1), (5, -5), (11, 0), (10, 1), (0, 11), (2**64, 0), (2**64 - 1, 2)],
)
def test_range_end_outside_or_negative_is_refused(offset: int, count: int) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        range_end(offset, count, 10)
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.offset, error.count, error.region_size) == (offset, count, 10)


@pytest.mark.parametrize(("offset", "count"), [(0, 0), (0, 10), (10, 0), (3, 7)])
def test_range_end_at_the_edge_is_inside(offset: int, count: int) -> None:
    assert range_end(offset, count, 10) == offset + count


def test_range_checks_stay_where_attrs_validators_are_switched_off() -> None:
    # attrs validators can be switched off for a whole process; the range check may not be one.
    program = """
        import attrs
        attrs.validators.set_disabled(True)
        from mmapwrap import ByteRange, InvalidRangeError, MemoryMapping, range_end

        m = MemoryMapping.new(4096)
        for call in (lambda: range_end(1, 10, 10), lambda: m.view(0, 4097), lambda: m.msync(-1, 1)):
            try:
                call()
            except InvalidRangeError:
                print("refused")
    """
    assert child(program).succeeded() == "refused\n" * 3


# What a byte range says of others

SIZE = 24

counts = st.integers(0, SIZE)
byte_ranges = st.builds(ByteRange, counts, counts)


@given(byte_ranges, byte_ranges)
def test_byte_range_overlaps_where_some_byte_is_in_both(one: ByteRange, other: ByteRange) -> None:
    common = set(range(one.offset, one.end)) & set(range(other.offset, other.end))
    assert one.overlaps(other) is bool(common)
    assert other.overlaps(one) is bool(common)


@pytest.mark.parametrize(
    ("empty", "other"), [((5, 0), (0, 10)), ((0, 0), (0, 1)), ((3, 0), (3, 0)), ((4, 0), (0, 4))]
)
def test_byte_range_of_no_bytes_overlaps_nothing(
    empty: tuple[int, int], other: tuple[int, int]
) -> None:
    assert not ByteRange(*empty).overlaps(ByteRange(*other))
    assert not ByteRange(*other).overlaps(ByteRange(*empty))


@given(byte_ranges.filter(lambda where: where.count > 0), st.sampled_from([1, 2, 8]))
def test_byte_range_widened_is_the_pages_that_it_touches(where: ByteRange, page: int) -> None:
    pages = {position // page for position in range(where.offset, where.end)}
    widened = where.widened(page)
    assert (widened.offset, widened.end) == (min(pages) * page, (max(pages) + 1) * page)


@pytest.mark.parametrize("offset", [0, 5, 4096, 4100])
def test_byte_range_of_no_bytes_touches_no_page(offset: int) -> None:
    assert ByteRange(offset, 0).widened(4096).count == 0


def test_byte_range_may_end_where_addresses_do() -> None:
    last = ByteRange(2**64 - 1, 1)
    assert last.end == 2**64
    assert last.widened(4096) == ByteRange(2**64 - 4096, 4096)
    assert last.range_end(2**64) == 2**64


@pytest.mark.parametrize(
    ("offset", "count"), [(-1, 1), (0, -1), (5, -5), (2**64, 1), (1, 2**64), (2**64 - 1, 2)]
)
def test_byte_range_that_cannot_be_is_refused(offset: int, count: int) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        ByteRange(offset, count)
    error = caught.value
    assert (error.offset, error.count, error.region_size) == (offset, count, 2**64)


@given(byte_ranges, st.integers(0, 3 * SIZE))
def test_byte_range_end_in_a_region_is_the_end_or_an_error(where: ByteRange, size: int) -> None:
    if where.end <= size:
        assert where.range_end(size) == where.end
    else:
        with pytest.raises(InvalidRangeError) as caught:
            where.range_end(size)
        error = caught.value
        assert (error.offset, error.count, error.region_size) == (where.offset, where.count, size)


# Wrong uses


@pytest.mark.parametrize("value", [None, 1.5, "3", b"3"])
def test_number_of_a_wrong_type_is_named(value: Any) -> None:
    kind = type(value).__name__
    calls: dict[str, Callable[[], object]] = {
        "offset": lambda: ByteRange(value, 1),
        "count": lambda: ByteRange(0, value),
        "region_size": lambda: ByteRange(0, 1).range_end(value),
        "page_size": lambda: ByteRange(0, 1).widened(value),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{name} must be an int, not {kind}$"):
            call()
    for name in ("offset", "count", "region_size"):
        numbers = {"offset": 0, "count": 0, "region_size": 0, name: value}
        with pytest.raises(TypeError, match=rf"^{name} must be an int, not {kind}$"):
            range_end(**numbers)


def test_numbers_of_a_range_become_ints() -> None:
    class Five:
        def __index__(self) -> int:
            return 5

    assert ByteRange(Five(), Five()) == ByteRange(5, 5)
    assert type(ByteRange(Five(), 1).offset) is int
    assert ByteRange(5, 1).widened(True) == ByteRange(5, 1)


@pytest.mark.parametrize("page", [0, -1, -4096, 3, 4097])
@pytest.mark.parametrize("count", [0, 10])
def test_page_size_that_is_no_power_of_two_is_refused(page: int, count: int) -> None:
    message = rf"^page_size must be a power of two, not {page}$"
    with pytest.raises(InvalidArgumentError, match=message):
        ByteRange(5000, count).widened(page)


def test_end_past_all_addresses_names_them_and_no_region() -> None:
    message = r"^the range of 10 bytes at offset 18446744073709551610 ends at .*, past 2\*\*64$"
    with pytest.raises(InvalidRangeError, match=message):
        ByteRange(2**64 - 6, 10)
    with pytest.raises(InvalidRangeError, match=r", past 2\*\*64$"):
        ByteRange(5, 5).widened(2**70)


@pytest.mark.parametrize("other", [(0, 4), None, range(4)])
def test_overlap_with_what_is_no_range_is_a_type_error(other: Any) -> None:
    with pytest.raises(TypeError, match=r"^other must be a ByteRange, not "):
        ByteRange(0, 4).overlaps(other)
