"""`VolatileSlice`: its place, its parts, what it copies, and what it refuses."""

import array
import gc
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from kernel_view import (
    PAGE,
    Index,
    KnownFile,
    child,
    is_mapped,
    known_bytes,
    process_unchanged,
)
from protections import NONE, READ, RW, WRITE

import mmapwrap
from mmapwrap import (
    ClosedMappingError,
    InvalidArgumentError,
    MemoryMapping,
    MemoryMappingArena,
    ProtectionError,
    Scalar,
    VolatileMemoryError,
    VolatileMisalignedError,
    VolatileOutOfBoundsError,
    VolatileOverflowError,
    VolatileSlice,
)

START, COUNT = PAGE - 16, 48


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Two pages of known bytes."""
    with MemoryMapping.new(2 * PAGE) as m:
        m[:] = known_bytes(2 * PAGE)
        yield m


@pytest.fixture
def part(mapping: MemoryMapping) -> VolatileSlice:
    """48 bytes that start 16 before the second page."""
    return mapping.get_slice(START, COUNT)


def content(part: VolatileSlice) -> bytes:
    """What a slice holds."""
    buffer = bytearray(part.size)
    assert part.copy_to(buffer) == part.size
    return bytes(buffer)


def with_bytes(count: int, offset: int, data: bytes) -> bytes:
    """Known bytes with some of them replaced."""
    changed = bytearray(known_bytes(count))
    changed[offset : offset + len(data)] = data
    return bytes(changed)


# Making one


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 0), (0, 1), (5, 7), (PAGE - 1, 2), (0, 2 * PAGE), (2 * PAGE - 1, 1), (2 * PAGE, 0)],
)
def test_get_slice_is_that_range_of_the_region(
    offset: int, count: int, mapping: MemoryMapping
) -> None:
    part = mapping.get_slice(offset, count)
    assert part.address == mapping.as_ptr() + offset
    assert part.size == count
    assert len(part) == count
    assert content(part) == known_bytes(2 * PAGE)[offset : offset + count]


def test_get_slice_by_index_methods_is_taken(mapping: MemoryMapping) -> None:
    part = mapping.get_slice(Index(3), Index(4))
    assert (part.address, part.size) == (mapping.as_ptr() + 3, 4)


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, 2 * PAGE + 1),
        (1, 2 * PAGE),
        (2 * PAGE, 1),
        (2 * PAGE + 1, 0),
        (2**32, 2**32),
        (2**63, 2**63 - 1),
        (0, 2**64 - 1),
        (2**64 - 1, 0),
    ],
)
def test_get_slice_past_the_end_is_out_of_bounds_with_the_end(
    offset: int, count: int, mapping: MemoryMapping
) -> None:
    with pytest.raises(VolatileOutOfBoundsError) as caught:
        mapping.get_slice(offset, count)
    assert caught.value.addr == offset + count
    assert isinstance(caught.value, VolatileMemoryError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(2**64 - 1, 2), (2, 2**64 - 1), (2**63, 2**63 + 1), (2**64, 2**64), (2**65, 0), (0, 2**65)],
)
def test_get_slice_past_the_address_space_is_an_overflow(
    offset: int, count: int, mapping: MemoryMapping
) -> None:
    with pytest.raises(VolatileOverflowError) as caught:
        mapping.get_slice(offset, count)
    assert (caught.value.base, caught.value.offset) == (offset, count)
    assert isinstance(caught.value, VolatileMemoryError)


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (-1, 2), (0, -1), (5, -1), (-(2**64), 1)])
def test_get_slice_of_a_negative_range_is_refused(
    offset: int, count: int, mapping: MemoryMapping
) -> None:
    with pytest.raises(VolatileOutOfBoundsError):
        mapping.get_slice(offset, count)


@pytest.mark.parametrize(("offset", "count"), [(0.0, 1), (0, 1.0), ("0", 1), (0, "1"), (None, 0)])
def test_get_slice_range_not_of_integers_is_refused(
    offset: Any, count: Any, mapping: MemoryMapping
) -> None:
    with pytest.raises(TypeError):
        mapping.get_slice(offset, count)


def test_get_slice_of_a_closed_region_is_refused(mapping: MemoryMapping) -> None:
    mapping.close()
    for offset, count in ((0, 0), (0, 1), (2**64, 1), (-1, 0)):
        with pytest.raises(ClosedMappingError):
            mapping.get_slice(offset, count)


def test_slice_is_made_by_regions_only() -> None:
    make: Any = VolatileSlice
    with pytest.raises(TypeError, match="get_slice"):
        make()
    with pytest.raises(TypeError, match="final"):
        type("Other", (VolatileSlice,), {})


def test_slice_shows_its_size_and_address(part: VolatileSlice) -> None:
    assert str(part.size) in repr(part)
    assert hex(part.address) in repr(part)


# Parts


@pytest.mark.parametrize("count", [0, 1, 15, COUNT - 1, COUNT])
def test_offset_is_the_slice_without_its_first_bytes(part: VolatileSlice, count: int) -> None:
    rest = part.offset(Index(count))
    assert (rest.address, rest.size) == (part.address + count, COUNT - count)
    assert content(rest) == content(part)[count:]
    assert (part.address % PAGE, part.size) == (PAGE - 16, COUNT)


@pytest.mark.parametrize(("offset", "count"), [(0, 0), (0, COUNT), (7, 9), (COUNT, 0), (47, 1)])
def test_sub_slice_is_that_range_of_the_slice(part: VolatileSlice, offset: int, count: int) -> None:
    inner = part.sub_slice(Index(offset), Index(count))
    assert (inner.address, inner.size) == (part.address + offset, count)
    assert content(inner) == content(part)[offset : offset + count]
    assert (part.address % PAGE, part.size) == (PAGE - 16, COUNT)


def test_parts_of_parts_add_up(part: VolatileSlice) -> None:
    inner = part.sub_slice(4, 40).offset(3).sub_slice(2, 5)
    assert (inner.address, inner.size) == (part.address + 9, 5)
    assert content(inner) == content(part)[9:14]


@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_advance_drops_the_first_bytes_of_this_slice_only(part: VolatileSlice, count: int) -> None:
    twin, before = part.offset(0), content(part)
    part.advance(Index(count))
    assert (part.address, part.size) == (twin.address + count, COUNT - count)
    assert content(part) == before[count:]
    assert content(twin) == before


@pytest.mark.parametrize("length", [0, 1, COUNT - 1, COUNT, COUNT + 1, 2**64, 2**70])
def test_truncate_keeps_the_first_bytes_and_never_grows(part: VolatileSlice, length: int) -> None:
    twin, before = part.offset(0), content(part)
    part.truncate(Index(length))
    assert (part.address, part.size) == (twin.address, min(length, COUNT))
    assert content(part) == before[:length]
    assert content(twin) == before


def test_truncated_slice_refuses_what_it_had(part: VolatileSlice) -> None:
    part.truncate(8)
    part.truncate(COUNT)
    with pytest.raises(VolatileOutOfBoundsError):
        part.sub_slice(0, 9)
    with pytest.raises(VolatileOutOfBoundsError):
        part.load(mmapwrap.u8, 8)


def test_parts_past_the_end_are_out_of_bounds_and_change_nothing(part: VolatileSlice) -> None:
    calls: list[tuple[Callable[[], object], int]] = [
        (lambda: part.offset(COUNT + 1), COUNT + 1),
        (lambda: part.advance(COUNT + 1), COUNT + 1),
        (lambda: part.sub_slice(0, COUNT + 1), COUNT + 1),
        (lambda: part.sub_slice(COUNT, 1), COUNT + 1),
        (lambda: part.sub_slice(COUNT + 1, 0), COUNT + 1),
        (lambda: part.sub_slice(2**63, 2**62), 2**63 + 2**62),
        (lambda: part.advance(2**64 - 1), 2**64 - 1),
    ]
    address = part.address
    for call, end in calls:
        with pytest.raises(VolatileOutOfBoundsError) as caught:
            call()
        assert caught.value.addr == end
        assert (part.address, part.size) == (address, COUNT)


def test_parts_past_the_address_space_are_an_overflow(part: VolatileSlice) -> None:
    calls: list[Callable[[], object]] = [
        lambda: part.sub_slice(2**64 - 1, 2),
        lambda: part.sub_slice(2**65, 0),
        lambda: part.offset(2**65),
        lambda: part.advance(2**65),
        lambda: part.load(mmapwrap.u32, 2**64 - 2),
        lambda: part.store(mmapwrap.u32, 1, 2**64 - 2),
    ]
    for call in calls:
        with pytest.raises(VolatileOverflowError):
            call()
    with pytest.raises(VolatileOverflowError) as caught:
        part.sub_slice(2**64 - 1, 2)
    assert (caught.value.base, caught.value.offset) == (2**64 - 1, 2)


def test_negative_parts_are_refused(part: VolatileSlice) -> None:
    calls: list[Callable[[], object]] = [
        lambda: part.offset(-1),
        lambda: part.advance(-1),
        lambda: part.truncate(-1),
        lambda: part.sub_slice(-1, 2),
        lambda: part.sub_slice(2, -1),
        lambda: part.load(mmapwrap.u8, -1),
        lambda: part.store(mmapwrap.u8, 1, -1),
    ]
    address = part.address
    for call in calls:
        with pytest.raises(VolatileOutOfBoundsError):
            call()
        assert (part.address, part.size) == (address, COUNT)


def test_error_of_a_negative_length_has_its_range(part: VolatileSlice) -> None:
    with pytest.raises(VolatileOutOfBoundsError) as caught:
        part.truncate(-1)
    error = caught.value
    assert (error.addr, error.range, error.holder) == (-1, (0, -1, COUNT), "slice")


def test_parts_not_of_integers_are_refused(part: VolatileSlice) -> None:
    wrong: Any
    for wrong in (1.0, "1", None):
        calls: list[Callable[[], object]] = [
            lambda: part.offset(wrong),  # noqa: B023  # called before it changes
            lambda: part.advance(wrong),  # noqa: B023
            lambda: part.truncate(wrong),  # noqa: B023
            lambda: part.sub_slice(wrong, 1),  # noqa: B023
            lambda: part.sub_slice(1, wrong),  # noqa: B023
            lambda: part.load(mmapwrap.u8, wrong),  # noqa: B023
            lambda: part.store(mmapwrap.u8, 1, wrong),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(TypeError):
                call()


# Content


def test_write_bytes_sets_the_whole_slice_and_nothing_else(mapping: MemoryMapping) -> None:
    for offset, count in ((PAGE - 3, 7), (1, 300), (0, 0), (2 * PAGE, 0)):
        mapping[:] = known_bytes(2 * PAGE)
        mapping.get_slice(offset, count).write_bytes(Index(0xA5))
        assert mapping[:] == with_bytes(2 * PAGE, offset, b"\xa5" * count)


@pytest.mark.parametrize("value", [-1, 256, 2**64])
def test_write_bytes_of_no_byte_is_refused(
    value: int, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidArgumentError):
        part.write_bytes(value)
    assert mapping[:] == known_bytes(2 * PAGE)


@pytest.mark.parametrize("value", [b"a", "a", 1.0, None])
def test_write_bytes_of_a_wrong_type_is_refused(
    value: Any, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    with pytest.raises(TypeError):
        part.write_bytes(value)
    assert mapping[:] == known_bytes(2 * PAGE)


@pytest.mark.parametrize("length", [0, 1, COUNT - 1, COUNT, COUNT + 1, 3 * PAGE])
def test_copy_to_fills_what_both_have(part: VolatileSlice, length: int) -> None:
    buffer = bytearray(b"\xff" * length)
    copied = part.copy_to(buffer)
    assert copied == min(length, COUNT)
    expected = known_bytes(2 * PAGE)[START : START + copied]
    assert buffer == expected + b"\xff" * (length - copied)


@pytest.mark.parametrize("length", [0, 1, COUNT - 1, COUNT, COUNT + 1, 3 * PAGE])
def test_copy_from_writes_what_both_have(
    part: VolatileSlice, length: int, mapping: MemoryMapping
) -> None:
    assert part.copy_from(b"\xff" * length) == min(length, COUNT)
    assert mapping[:] == with_bytes(2 * PAGE, START, b"\xff" * min(length, COUNT))


def test_copies_count_bytes_of_wider_items(part: VolatileSlice) -> None:
    words: Any = np.zeros((2, 3), dtype=np.uint32)
    assert part.copy_to(words) == 24
    assert words.tobytes() == content(part)[:24]
    assert part.copy_from(array.array("d", [1.5, -2.5])) == 16
    assert content(part)[:16] == struct.pack("2d", 1.5, -2.5)


def test_copies_of_what_is_no_buffer_are_refused(
    part: VolatileSlice, mapping: MemoryMapping
) -> None:
    target: Any
    for target in (bytes(4), memoryview(bytes(4)), "text", None, 4, [1]):
        with pytest.raises(TypeError):
            part.copy_to(target)
    source: Any
    for source in ("text", None, 4, [1]):
        with pytest.raises(TypeError):
            part.copy_from(source)
    assert mapping[:] == known_bytes(2 * PAGE)


@pytest.mark.parametrize(
    ("length", "offset"), [(0, 0), (COUNT, 0), (1, COUNT - 1), (20, 10), (0, COUNT)]
)
def test_exact_copies_are_of_the_whole_buffer(
    length: int, offset: int, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    buffer = bytearray(length)
    part.read_exact(buffer, Index(offset))
    assert buffer == known_bytes(2 * PAGE)[START + offset :][:length]
    part.write_all(b"\xff" * length, offset)
    assert mapping[:] == with_bytes(2 * PAGE, START + offset, b"\xff" * length)
    if offset == 0:
        part.write_all(buffer)
        part.read_exact(bytearray(length))
        assert mapping[:] == known_bytes(2 * PAGE)


@pytest.mark.parametrize(
    ("length", "offset", "error", "numbers"),
    [
        (COUNT + 1, 0, VolatileOutOfBoundsError, (COUNT + 1,)),
        (1, COUNT, VolatileOutOfBoundsError, (COUNT + 1,)),
        (0, COUNT + 1, VolatileOutOfBoundsError, (COUNT + 1,)),
        (3, 2**63, VolatileOutOfBoundsError, (2**63 + 3,)),
        (3, -1, VolatileOutOfBoundsError, (-1,)),
        (4, 2**64 - 4, VolatileOverflowError, (2**64 - 4, 4)),
        (4, 2**65, VolatileOverflowError, (2**65, 4)),
    ],
)
def test_exact_copy_past_the_slice_is_refused_before_anything_is_copied(
    length: int,
    offset: int,
    error: type[VolatileMemoryError],
    numbers: tuple[int, ...],
    part: VolatileSlice,
    mapping: MemoryMapping,
) -> None:
    buffer = bytearray(length)
    calls: list[Callable[[], None]] = [
        lambda: part.read_exact(buffer, offset),
        lambda: part.write_all(b"\xff" * length, offset),
    ]
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert caught.value.args == numbers
    assert buffer == bytes(length)
    assert mapping[:] == known_bytes(2 * PAGE)


def test_exact_copies_of_what_is_no_buffer_are_refused(
    part: VolatileSlice, mapping: MemoryMapping
) -> None:
    target: Any
    for target in (bytes(4), memoryview(bytes(4)), "text", None, 4, [1]):
        with pytest.raises(TypeError, match="buffer must be a writable"):
            part.read_exact(target)
    source: Any
    for source in ("text", None, 4, [1]):
        with pytest.raises(TypeError, match="data must be a"):
            part.write_all(source)
    offset: Any
    for offset in (0.0, "0", None):
        with pytest.raises(TypeError, match="offset must be an int"):
            part.read_exact(bytearray(4), offset)
        with pytest.raises(TypeError, match="offset must be an int"):
            part.write_all(b"abcd", offset)
    assert mapping[:] == known_bytes(2 * PAGE)


@given(
    start=st.integers(0, 40),
    count=st.integers(0, 40),
    target=st.integers(0, 40),
    room=st.integers(0, 40),
)
def test_copy_to_volatile_slice_is_as_if_aside(
    start: int, count: int, target: int, room: int
) -> None:
    with MemoryMapping.new(80) as m:
        m[:] = known_bytes(80)
        copied = m.get_slice(start, count).copy_to_volatile_slice(m.get_slice(target, room))
        assert copied == min(count, room)
        assert m[:] == with_bytes(80, target, known_bytes(80)[start : start + copied])


@pytest.mark.parametrize("shift", [1, 7, 64, PAGE - 1, PAGE, PAGE + 1])
def test_copy_to_volatile_slice_of_many_pages_is_as_if_aside(shift: int) -> None:
    size, count = 64 * PAGE, 60 * PAGE
    with MemoryMapping.new(size) as m:
        for start, target in ((0, shift), (shift, 0)):
            m[:] = known_bytes(size)
            m.get_slice(start, count).copy_to_volatile_slice(m.get_slice(target, count))
            assert m[:] == with_bytes(size, target, known_bytes(size)[start : start + count])


def test_copy_to_volatile_slice_of_another_region_copies_there(
    part: VolatileSlice, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path) as other:
        part.write_bytes(7)
        assert part.copy_to_volatile_slice(other.get_slice(3, PAGE)) == COUNT
        expected = bytearray(known_file.content)
        expected[3 : 3 + COUNT] = b"\x07" * COUNT
        assert other[:] == expected
        other.msync()
    assert known_file.path.read_bytes() == expected


@pytest.mark.parametrize("other", [b"bytes", bytearray(9), None, 4])
def test_copy_to_volatile_slice_of_another_type_is_refused(other: Any, part: VolatileSlice) -> None:
    with pytest.raises(TypeError):
        part.copy_to_volatile_slice(other)


def test_is_all_zero_looks_at_the_slice_only(mapping: MemoryMapping) -> None:
    part = mapping.get_slice(100, 300)
    assert not part.is_all_zero()
    part.write_bytes(0)
    assert part.is_all_zero()
    assert mapping.get_slice(5, 0).is_all_zero()
    for position in (0, 1, 150, 298, 299):
        part.store(mmapwrap.u8, 1, position)
        assert not part.is_all_zero()
        part.store(mmapwrap.u8, 0, position)
    assert part.is_all_zero()


# Numbers


@pytest.mark.parametrize(
    ("scalar", "value", "packed"),
    [
        (mmapwrap.u8, 0xFE, b"\xfe"),
        (mmapwrap.i8, -2, b"\xfe"),
        (mmapwrap.le_u16, 0x0102, b"\x02\x01"),
        (mmapwrap.be_i16, -2, b"\xff\xfe"),
        (mmapwrap.u32, 0x01020304, struct.pack("=I", 0x01020304)),
        (mmapwrap.be_u64, 2**64 - 1, b"\xff" * 8),
        (mmapwrap.i64, -(2**63), struct.pack("=q", -(2**63))),
        (mmapwrap.le_f32, -1.5, struct.pack("<f", -1.5)),
        (mmapwrap.be_f64, 1e300, struct.pack(">d", 1e300)),
    ],
)
def test_store_and_load_are_that_number_at_that_place(
    scalar: Scalar[Any], value: Any, packed: bytes, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    for offset in (0, scalar.size, COUNT - scalar.size):
        mapping[:] = known_bytes(2 * PAGE)
        part.store(scalar, value, offset)
        assert mapping[:] == with_bytes(2 * PAGE, START + offset, packed)
        assert part.load(scalar, Index(offset)) == value


def test_load_and_store_past_the_slice_are_out_of_bounds(
    part: VolatileSlice, mapping: MemoryMapping
) -> None:
    for offset in (COUNT - 3, COUNT, COUNT + 4, 2**63):
        calls: list[Callable[[], object]] = [
            lambda: part.load(mmapwrap.u32, offset),  # noqa: B023  # called before it changes
            lambda: part.store(mmapwrap.u32, 1, offset),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(VolatileOutOfBoundsError) as caught:
                call()
            assert caught.value.addr == offset + 4
    assert mapping[:] == known_bytes(2 * PAGE)


def test_load_and_store_misaligned_are_refused_with_the_address(
    mapping: MemoryMapping,
) -> None:
    part = mapping.get_slice(2, 30)
    scalars: list[Scalar[int]] = [mmapwrap.u16, mmapwrap.be_u32, mmapwrap.i64]
    for scalar in scalars:
        for offset in range(16):
            if (2 + offset) % scalar.size == 0:
                part.load(scalar, offset)
                continue
            calls: list[Callable[[], object]] = [
                lambda: part.load(scalar, offset),  # noqa: B023  # called before it changes
                lambda: part.store(scalar, 1, offset),  # noqa: B023
            ]
            for call in calls:
                with pytest.raises(VolatileMisalignedError) as caught:
                    call()
                assert caught.value.addr == part.address + offset
                assert caught.value.alignment == scalar.size
    assert mapping[:] == known_bytes(2 * PAGE)


def test_store_of_a_value_out_of_range_is_refused(
    part: VolatileSlice, mapping: MemoryMapping
) -> None:
    for value in (-1, 256, 2**64):
        with pytest.raises(InvalidArgumentError):
            part.store(mmapwrap.u8, value, 0)
    with pytest.raises(InvalidArgumentError):
        part.store(mmapwrap.f32, 1e39, 0)
    assert mapping[:] == known_bytes(2 * PAGE)


# Equality


def test_slices_are_equal_by_content(mapping: MemoryMapping, known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as other:
        for count in (0, 1, 100, PAGE + 7):
            left, right = mapping.get_slice(5, count), other.get_slice(5, count)
            assert left == right
            assert not left != right  # noqa: SIM202  # the other operator is asked here
            assert left == left.offset(0)
        left, right = mapping.get_slice(5, 100), other.get_slice(5, 100)
        for position in (0, 50, 99):
            byte = right.load(mmapwrap.u8, position)
            right.store(mmapwrap.u8, byte ^ 1, position)
            assert left != right
            assert not left == right  # noqa: SIM201
            right.store(mmapwrap.u8, byte, position)
        other[4], other[105] = 0, 0
        assert left == right


def test_slices_of_other_sizes_are_not_equal(part: VolatileSlice) -> None:
    assert part != part.sub_slice(0, COUNT - 1)
    assert part.sub_slice(0, 0) == part.sub_slice(9, 0)
    assert part != part.sub_slice(0, 0)


def test_slice_equals_nothing_of_another_type(part: VolatileSlice) -> None:
    other: Any
    for other in (content(part), bytearray(content(part)), None, 5, object()):
        assert part != other
        assert not part == other  # noqa: SIM201


def test_slice_has_no_hash(part: VolatileSlice) -> None:
    with pytest.raises(TypeError):
        hash(part)


# Lifetime


def test_slice_keeps_the_pages_after_close() -> None:
    m = MemoryMapping.new(2 * PAGE)
    address = m.as_ptr()
    m[:] = known_bytes(2 * PAGE)
    part = m.get_slice(PAGE, 8)
    inner = part.sub_slice(1, 1)
    m.close()
    del m
    assert is_mapped(address, 2 * PAGE)
    assert content(part) == known_bytes(PAGE + 8)[PAGE:]
    part.store(mmapwrap.u64, 2**64 - 1, 0)
    part.write_bytes(3)
    assert part.load(mmapwrap.u8, 7) == 3
    del part
    assert is_mapped(address, 2 * PAGE)
    assert content(inner) == b"\x03"
    del inner
    gc.collect()
    assert not is_mapped(address, 2 * PAGE)


def test_slices_of_a_dropped_region_leave_nothing() -> None:
    with process_unchanged():
        parts = [MemoryMapping.new(PAGE).get_slice(0, 8) for _ in range(50)]
        assert all(part.is_all_zero() for part in parts)
        del parts


def test_slice_in_a_child_without_the_pages_is_closed() -> None:
    program = """
        import os
        from mmapwrap import ClosedMappingError, MemoryMapping, u8

        m = MemoryMapping.new(4096)
        part, whole = m.get_slice(0, 8), MemoryMapping.new(8).get_slice(0, 8)
        m.use_dontfork()
        pid = os.fork()
        if pid == 0:
            calls = [
                lambda: part.load(u8, 0), lambda: part.store(u8, 1, 0), part.is_all_zero,
                lambda: part.copy_to(bytearray(4)), lambda: part.copy_from(b"a"),
                lambda: part.write_bytes(1), lambda: part == whole, lambda: whole == part,
                lambda: part.load_many(u8, 1), lambda: part.store_many(u8, [1]),
                lambda: part.read_exact(bytearray(4)), lambda: part.write_all(b"a"),
                lambda: part.copy_to_volatile_slice(whole),
                lambda: whole.copy_to_volatile_slice(part),
                lambda: part.read_from_fd(0), lambda: part.write_to_fd(1),
            ]
            for number, call in enumerate(calls):
                try:
                    call()
                except ClosedMappingError:
                    continue
                os.write(2, f"call {number} was made".encode())
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert part.load(u8, 0) == 0
        print("done")
    """
    assert child(program).succeeded() == "done\n"


# Protection


def _from_zeros(part: VolatileSlice) -> int:
    with Path("/dev/zero").open("rb", buffering=0) as zeros:
        return part.read_from_fd(zeros, 4)


def _to_null(part: VolatileSlice) -> int:
    with Path("/dev/null").open("wb", buffering=0) as null:
        return part.write_to_fd(null, 4)


READING: dict[str, Callable[[VolatileSlice, VolatileSlice], object]] = {
    "load": lambda part, other: part.load(mmapwrap.u32, 0),
    "load_many": lambda part, other: part.load_many(mmapwrap.u32, 2),
    "read_exact": lambda part, other: part.read_exact(bytearray(4)),
    "copy_to": lambda part, other: part.copy_to(bytearray(4)),
    "copy_to_volatile_slice": lambda part, other: part.copy_to_volatile_slice(other),
    "is_all_zero": lambda part, other: part.is_all_zero(),
    "==": lambda part, other: part == other,
    "== from the other side": lambda part, other: other == part,
    "write_to_fd": lambda part, other: _to_null(part),
}
WRITING: dict[str, Callable[[VolatileSlice, VolatileSlice], object]] = {
    "store": lambda part, other: part.store(mmapwrap.u32, 1, 0),
    "store_many": lambda part, other: part.store_many(mmapwrap.u16, [1, 2]),
    "write_all": lambda part, other: part.write_all(b"abcd", 2),
    "copy_from": lambda part, other: part.copy_from(b"abcd"),
    "write_bytes": lambda part, other: part.write_bytes(0),
    "copy_to_volatile_slice": lambda part, other: other.copy_to_volatile_slice(part),
    "read_from_fd": lambda part, other: _from_zeros(part),
}


def refusal(call: Callable[[], object]) -> ProtectionError:
    """The ProtectionError of a call."""
    with pytest.raises(ProtectionError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("start", [0, PAGE], ids=["whole region", "a page of it"])
def test_slice_checks_at_each_access_that_it_may_read(start: int, mapping: MemoryMapping) -> None:
    with MemoryMapping.new(8) as elsewhere:
        elsewhere[:] = known_bytes(8)
        part, other = mapping.get_slice(PAGE, 8), elsewhere.get_slice(0, 8)
        for call in READING.values():
            mapping.protect(NONE, start)
            error = refusal(lambda: call(part, other))  # noqa: B023  # called before it changes
            assert (error.required, error.actual) == (READ, NONE)
            assert elsewhere[:] == known_bytes(8)
            mapping.protect(RW, start)
            call(part, other)
            elsewhere[:] = known_bytes(8)


@pytest.mark.parametrize("start", [0, PAGE], ids=["whole region", "a page of it"])
def test_slice_checks_at_each_access_that_it_may_write(start: int, mapping: MemoryMapping) -> None:
    with MemoryMapping.new(8) as elsewhere:
        part, other = mapping.get_slice(PAGE, 8), elsewhere.get_slice(0, 8)
        for call in WRITING.values():
            mapping.protect(READ, start)
            error = refusal(lambda: call(part, other))  # noqa: B023  # called before it changes
            assert (error.required, error.actual) == (WRITE, READ)
            assert mapping[:] == known_bytes(2 * PAGE)
            for reading in READING.values():
                reading(part, other)
            mapping.protect(RW, start)
            elsewhere[:] = bytes(8)
            call(part, other)
            assert mapping[:] != known_bytes(2 * PAGE)
            mapping[:] = known_bytes(2 * PAGE)


def test_slice_over_mixed_protection_needs_it_in_the_bytes_it_touches(
    mapping: MemoryMapping,
) -> None:
    across = mapping.get_slice(PAGE - 8, 16)
    with MemoryMapping.new(16) as elsewhere:
        other = elsewhere.get_slice(0, 16)
        mapping.protect(READ, PAGE, PAGE)
        for reading in READING.values():
            reading(across, other)
        assert across.copy_from(b"abcdefgh") == 8
        across.store(mmapwrap.u64, 1, 0)
        across.sub_slice(0, 8).write_bytes(2)
        writes: list[Callable[[], object]] = [
            lambda: across.copy_from(b"abcdefghi"),
            lambda: across.store(mmapwrap.u64, 1, 8),
            lambda: across.write_bytes(3),
            lambda: other.copy_to_volatile_slice(across),
            lambda: across.offset(7).copy_from(b"ab"),
        ]
        for write in writes:
            error = refusal(write)
            assert (error.required, error.actual) == (WRITE, READ)
        assert mapping[PAGE - 8 : PAGE + 8] == b"\2" * 8 + known_bytes(PAGE + 8)[PAGE:]

        mapping.protect(NONE, PAGE, PAGE)
        reads: list[Callable[[], object]] = [
            across.is_all_zero,
            lambda: content(across),
            lambda: across == other,
            lambda: other == across,
            lambda: across.copy_to_volatile_slice(other),
            lambda: across.load(mmapwrap.u64, 8),
        ]
        for read in reads:
            error = refusal(read)
            assert (error.required, error.actual) == (READ, NONE)
        assert across.load(mmapwrap.u64, 0) == 0x0202020202020202
        assert across.copy_to(bytearray(8)) == 8
        assert across.sub_slice(0, 8) == across.sub_slice(0, 8)


def test_slice_of_an_arena_follows_what_the_arena_holds() -> None:
    with MemoryMappingArena.new(4 * PAGE) as arena:
        part = arena.get_slice(PAGE, 2 * PAGE)
        with pytest.raises(ProtectionError) as caught:
            part.is_all_zero()
        assert (caught.value.required, caught.value.actual) == (READ, NONE)
        arena.add_anon(PAGE, PAGE)
        with pytest.raises(ProtectionError):
            part.is_all_zero()
        assert part.sub_slice(0, PAGE).is_all_zero()
        arena.add_anon_protection(2 * PAGE, PAGE, READ)
        assert part.is_all_zero()
        with pytest.raises(ProtectionError):
            part.write_bytes(1)
        part.sub_slice(0, PAGE).write_bytes(1)
        arena.remove(PAGE, PAGE)
        with pytest.raises(ProtectionError):
            part.load(mmapwrap.u8, 0)
        assert part.load(mmapwrap.u8, PAGE) == 0


def test_slice_of_a_mapping_that_became_an_arena_follows_it(mapping: MemoryMapping) -> None:
    part = mapping.get_slice(PAGE, 8)
    with mapping.into_arena() as arena:
        assert content(part) == known_bytes(PAGE + 8)[PAGE:]
        part.store(mmapwrap.u8, 1, 0)
        assert arena[PAGE] == 1
        arena.remove(PAGE, PAGE)
        with pytest.raises(ProtectionError):
            part.load(mmapwrap.u8, 0)
