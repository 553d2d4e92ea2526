"""`load_many` and `store_many`: numbers in a row, each of which is accessed exactly once."""

import array
import math
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, assert_type

import numpy as np
import pytest
from breakpoints import accesses, needs_breakpoints
from hypothesis import given, strategies as st
from kernel_view import PAGE, Index, KnownFile, known_bytes
from lost_pages import fault_of
from protections import NONE, READ, RW, WRITE

import mmapwrap
from mmapwrap import (
    InvalidArgumentError,
    MemoryMapping,
    MemoryMappingArena,
    ProtectionError,
    Scalar,
    VolatileMisalignedError,
    VolatileOutOfBoundsError,
    VolatileOverflowError,
    VolatileSlice,
    be_u16,
    be_u32,
    f32,
    f64,
    i8,
    u8,
    u16,
    u32,
    u64,
    unsafe,
)

START, COUNT = PAGE - 16, 48

CODES: dict[str, str] = {
    "u8": "=B", "i8": "=b", "u16": "=H", "i16": "=h", "u32": "=I", "i32": "=i", "u64": "=Q",
    "i64": "=q", "f32": "=f", "f64": "=d", "le_u16": "<H", "le_i16": "<h", "le_u32": "<I",
    "le_i32": "<i", "le_u64": "<Q", "le_i64": "<q", "le_f32": "<f", "le_f64": "<d", "be_u16": ">H",
    "be_i16": ">h", "be_u32": ">I", "be_i32": ">i", "be_u64": ">Q", "be_i64": ">q", "be_f32": ">f",
    "be_f64": ">d", "usize": "=Q", "isize": "=q",
}  # fmt: skip

every_scalar = pytest.mark.parametrize(
    ("scalar", "code"), [(getattr(mmapwrap, name), code) for name, code in CODES.items()], ids=CODES
)


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


def many(code: str, count: int, packed: bytes) -> list[Any]:
    """The numbers that `struct` finds in the first bytes."""
    width = struct.calcsize(code)
    return [struct.unpack_from(code, packed, at * width)[0] for at in range(count)]


def texts(numbers: Iterable[object]) -> list[str]:
    """Numbers that are not equal to themselves, and the signs of zeros, can be compared so."""
    return list(map(repr, numbers))


def with_bytes(offset: int, data: bytes) -> bytes:
    """The known bytes with some of them replaced."""
    changed = bytearray(known_bytes(2 * PAGE))
    changed[offset : offset + len(data)] = data
    return bytes(changed)


# --- Numbers in and out ---------------------------------------------------------------------------


@every_scalar
def test_load_many_is_what_struct_unpacks(
    scalar: Scalar[Any], code: str, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    for offset in (0, scalar.size, COUNT - 16):
        for count in (0, 1, (COUNT - offset) // scalar.size):
            loaded = part.load_many(scalar, count, offset)
            assert type(loaded) is list
            wanted = many(code, count, known_bytes(2 * PAGE)[START + offset :])
            assert texts(loaded) == texts(wanted)
            one_by_one = [part.load(scalar, offset + at * scalar.size) for at in range(count)]
            assert texts(loaded) == texts(one_by_one)
    assert mapping[:] == known_bytes(2 * PAGE)


@every_scalar
def test_store_many_is_what_struct_packs(
    scalar: Scalar[Any], code: str, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    for offset in (0, scalar.size, COUNT - 16):
        for count in (0, 1, (COUNT - offset) // scalar.size):
            mapping[:] = known_bytes(2 * PAGE)
            values = many(code, count, known_bytes(500)[-8 * count :])
            part.store_many(scalar, values, offset)
            packed = b"".join(struct.pack(code, value) for value in values)
            assert mapping[:] == with_bytes(START + offset, packed)
            assert texts(part.load_many(scalar, count, offset)) == texts(values)


@every_scalar
def test_limits_of_a_scalar_are_stored_and_loaded(scalar: Scalar[Any], code: str) -> None:
    if code[1] in "fd":
        largest = (
            float.fromhex("0x1.fffffep+127") if code[1] == "f" else math.ldexp(2 - 2**-52, 1023)
        )
        values: list[Any] = [largest, -largest, math.inf, -math.inf, 0.0, -0.0, 2.0**-149]
    else:
        bits = 8 * scalar.size
        signed = code[1].islower()
        values = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1]
    with MemoryMapping.new(PAGE) as m:
        part = m.get_slice(0, PAGE)
        part.store_many(scalar, values, 8)
        assert texts(part.load_many(scalar, len(values), 8)) == texts(values)


@given(
    name=st.sampled_from(sorted(CODES)), data=st.binary(max_size=200), skipped=st.integers(0, 20)
)
def test_numbers_of_any_bytes_are_loaded_and_stored_back(
    name: str, data: bytes, skipped: int
) -> None:
    scalar: Scalar[Any] = getattr(mmapwrap, name)
    count, offset = len(data) // scalar.size, skipped * scalar.size
    with MemoryMapping.new(512) as m:
        m[offset : offset + len(data)] = data
        whole = m.get_slice(0, 512)
        loaded = whole.load_many(scalar, count, offset)
        assert texts(loaded) == texts(many(CODES[name], count, data))
        whole.store_many(scalar, loaded, offset)
        assert texts(whole.load_many(scalar, count, offset)) == texts(loaded)
        if "f" not in name:
            assert m[offset : offset + len(data)] == data


def test_numbers_of_a_slice_of_a_slice_are_at_its_place(part: VolatileSlice) -> None:
    inner = part.sub_slice(8, 24).offset(4)
    inner.store_many(be_u16, [1, 2, 3], 4)
    assert inner.load_many(be_u16, 3, 4) == [1, 2, 3]
    assert part.load_many(u8, 6, 16) == [0, 1, 0, 2, 0, 3]
    for call in (lambda: inner.load_many(be_u16, 10, 2), lambda: inner.store_many(u8, bytes(21))):
        with pytest.raises(VolatileOutOfBoundsError):
            call()


def test_numbers_are_of_the_scalars_type(part: VolatileSlice) -> None:
    part.store_many(f64, [1, 2])
    assert all(type(number) is float for number in assert_type(part.load_many(f64, 2), list[float]))
    assert all(type(number) is int for number in assert_type(part.load_many(u16, 2), list[int]))


def test_many_numbers_of_a_file_are_in_the_file(known_file: KnownFile) -> None:
    values = list(range(2 * PAGE))
    with MemoryMapping.from_file(known_file.path) as m:
        m.get_slice(PAGE, 8 * PAGE).store_many(be_u32, values)
        assert m.get_slice(PAGE, 8 * PAGE).load_many(be_u32, 2 * PAGE) == values
        m.msync()
    packed = struct.pack(f">{2 * PAGE}I", *values)
    wanted = known_file.content[:PAGE] + packed + known_file.content[9 * PAGE :]
    assert known_file.path.read_bytes() == wanted


def test_values_of_any_iterable_are_stored(part: VolatileSlice) -> None:
    iterables: list[Any] = [
        (1, 2, 3),
        range(1, 4),
        iter([1, 2, 3]),
        (number for number in (1, 2, 3)),
        b"\1\2\3",
        array.array("q", [1, 2, 3]),
        np.array([1, 2, 3], dtype=np.uint16),
        [True, Index(2), np.uint8(3)],
        {1: "a", 2: "b", 3: "c"},
    ]
    for values in iterables:
        part.write_bytes(0xFF)
        part.store_many(u32, values, 4)
        assert part.load_many(u32, 5) == [2**32 - 1, 1, 2, 3, 2**32 - 1]
    numbers: list[Any] = [1, True, Decimal("0.5"), np.float64(-2.0)]
    part.store_many(f32, numbers)
    assert part.load_many(f32, 4) == [1.0, 1.0, 0.5, -2.0]


def test_count_and_offset_by_index_methods_are_taken(part: VolatileSlice) -> None:
    part.store_many(u8, [7, 8], Index(3))
    assert part.load_many(u8, Index(2), Index(3)) == [7, 8]
    assert part.load_many(u8, count=2, offset=3) == [7, 8]
    part.store_many(u8, values=[9], offset=3)
    assert part.load_many(u8, 2, 3) == [9, 8]


# --- Exactly one access ---------------------------------------------------------------------------


@needs_breakpoints
@every_scalar
def test_each_number_is_accessed_exactly_once(scalar: Scalar[Any], code: str) -> None:
    with MemoryMapping.new(PAGE) as m:
        registers = m.get_slice(64, 64)
        count = 64 // scalar.size
        calls: list[Callable[[], object]] = [
            lambda: registers.load_many(scalar, count),
            lambda: registers.store_many(scalar, [1] * count),
        ]
        for call in calls:
            call()  # the pages are there from here on
            for at in range(0, 64, scalar.size):
                # Watching all the number's bytes: two halves would be two accesses.
                assert accesses(registers.address + at, scalar.size, call) == 1
            assert accesses(registers.address + 64, 8, call) == 0
            assert accesses(registers.address - 8, 8, call) == 0


@needs_breakpoints
def test_one_number_is_accessed_exactly_once() -> None:
    with MemoryMapping.new(PAGE) as m:
        register = m.get_slice(8, 4)
        register.store(u32, 0)
        calls: list[Callable[[], object]] = [
            lambda: register.load(u32),
            lambda: register.store(u32, 1),
            lambda: register.load_many(u32, 1),
            lambda: register.store_many(u32, [1]),
        ]
        for call in calls:
            assert accesses(register.address, 4, call) == 1


@pytest.mark.race
def test_each_number_is_read_whole_while_others_write() -> None:
    halves = [0x0000000000000000, 0xFFFFFFFFFFFFFFFF]
    with MemoryMapping.new(PAGE) as m:
        part, end = m.get_slice(0, 512), threading.Event()

        def write() -> None:
            while not end.is_set():
                for half in halves:
                    part.store_many(u64, [half] * 64)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(2000):
                assert set(part.load_many(u64, 64)) <= set(halves)
        finally:
            end.set()
            thread.join()


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [*range(1, 8), 9, 15])
def test_many_misaligned_are_refused_with_the_address(
    offset: int, mapping: MemoryMapping, part: VolatileSlice
) -> None:
    for scalar in (u16, be_u32, u64):
        if offset % scalar.size == 0:
            part.load_many(scalar, 2, offset)
            continue
        calls: list[Callable[[], object]] = [
            lambda: part.load_many(scalar, 2, offset),  # noqa: B023  # called before it changes
            lambda: part.load_many(scalar, 0, offset),  # noqa: B023
            lambda: part.store_many(scalar, [1, 2], offset),  # noqa: B023
            lambda: part.store_many(scalar, [], offset),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(VolatileMisalignedError) as caught:
                call()
            assert caught.value.addr == part.address + offset
            assert caught.value.alignment == scalar.size
            assert str(START + offset) in str(caught.value)
    assert mapping[:] == known_bytes(2 * PAGE)


def test_alignment_is_that_of_the_address_and_not_of_the_offset(mapping: MemoryMapping) -> None:
    with unsafe.from_raw_parts(mapping.as_ptr() + 1, 64) as region:
        for part, first in ((region.get_slice(0, 64), 3), (region.get_slice(2, 32), 1)):
            part.store_many(u32, [1, 2], first)
            assert mapping.get_slice(4, 8).load_many(u32, 2) == [1, 2]
            for offset in (0, first + 1, first + 2):
                if offset != first:
                    with pytest.raises(VolatileMisalignedError):
                        part.load_many(u32, 1, offset)


@pytest.mark.parametrize(
    ("count", "offset", "end"),
    [(13, 0, 52), (12, 4, 52), (1, COUNT, 52), (0, COUNT + 4, 52), (2**32, 8, 2**34 + 8)],
)
def test_many_past_the_slice_are_out_of_bounds_with_the_end(
    count: int, offset: int, end: int, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    calls: list[Callable[[], object]] = [lambda: part.load_many(u32, count, offset)]
    if count < 100:
        calls.append(lambda: part.store_many(u32, [1] * count, offset))
    for call in calls:
        with pytest.raises(VolatileOutOfBoundsError, match=rf"slice has {COUNT} bytes") as caught:
            call()
        assert caught.value.addr == end
    assert mapping[:] == known_bytes(2 * PAGE)


@pytest.mark.parametrize(("count", "offset"), [(2**62, 0), (2**64, 0), (1, 2**64 - 4), (10**30, 4)])
def test_many_past_the_address_space_are_an_overflow(
    count: int, offset: int, part: VolatileSlice
) -> None:
    with pytest.raises(VolatileOverflowError) as caught:
        part.load_many(u32, count, offset)
    assert (caught.value.base, caught.value.offset) == (offset, 4 * count)


def test_negative_count_and_offset_are_refused_by_their_numbers(part: VolatileSlice) -> None:
    with pytest.raises(VolatileOutOfBoundsError, match="the count -3 is negative"):
        part.load_many(u32, -3)
    with pytest.raises(VolatileOutOfBoundsError, match="the count -3 is negative"):
        part.load_many(u32, -3, 16)
    calls: list[Callable[[], object]] = [
        lambda: part.load_many(u32, 1, -4),
        lambda: part.store_many(u32, [1], -4),
        lambda: part.store_many(u32, [], -4),
    ]
    for call in calls:
        with pytest.raises(VolatileOutOfBoundsError, match="the offset -4 is negative"):
            call()


@pytest.mark.parametrize(
    ("scalar", "values"),
    [
        (u8, [1, 256]),
        (u8, [1, -1]),
        (i8, [1, -129]),
        (u16, [2**16]),
        (be_u32, [0, 2**32]),
        (u64, [1, 2**64]),
        (u64, [-1]),
        (mmapwrap.i64, [1, 2**63]),
        (mmapwrap.i64, [10**5000]),
        (u32, [np.int64(-1)]),
        (f32, [1.0, 1e39]),
        (mmapwrap.be_f32, [-(2.0**128 - 2.0**103)]),
        (f32, [10**400]),
        (f64, [1.0, 2**1024]),
        (f64, [Decimal("sNaN")]),
    ],
)
def test_values_out_of_range_are_refused_and_nothing_is_stored(
    scalar: Scalar[Any], values: list[Any], part: VolatileSlice, mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        part.store_many(scalar, values)
    with pytest.raises(InvalidArgumentError) as one:
        part.store(scalar, values[-1])
    assert str(caught.value) == str(one.value)
    assert mapping[:] == known_bytes(2 * PAGE)


def test_floats_that_round_to_the_largest_are_stored(part: VolatileSlice) -> None:
    largest = float.fromhex("0x1.fffffep+127")
    past = math.nextafter(2.0**128 - 2.0**103, 0.0)
    part.store_many(f32, [past, -past, math.inf])
    assert part.load_many(f32, 3) == [largest, -largest, math.inf]


@pytest.mark.parametrize(
    ("scalar", "values"),
    [
        (u32, 5),
        (u32, None),
        (u32, 1.5),
        (u32, [1, 2.0]),
        (u32, [1, "2"]),
        (u32, "12"),
        (u32, [None]),
        (u32, [[1, 2]]),
        (f64, ["1.0"]),
        (f64, [1.0, None]),
        (f64, [1j]),
    ],
)
def test_values_of_wrong_types_are_refused_and_nothing_is_stored(
    scalar: Scalar[Any], values: Any, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    with pytest.raises(TypeError, match=r"values? must be"):
        part.store_many(scalar, values)
    assert mapping[:] == known_bytes(2 * PAGE)


@pytest.mark.parametrize("scalar", ["u32", int, np.uint32, None, 4])
def test_scalar_of_another_kind_is_refused(scalar: Any, part: VolatileSlice) -> None:
    for call in (lambda: part.load_many(scalar, 1), lambda: part.store_many(scalar, [1])):
        with pytest.raises(TypeError, match="scalar must be one such as"):
            call()


@pytest.mark.parametrize("number", [1.0, "1", None])
def test_count_and_offset_that_are_no_integers_are_refused_by_name(
    number: Any, part: VolatileSlice
) -> None:
    with pytest.raises(TypeError, match="count must be an int"):
        part.load_many(u8, number)
    for call in (lambda: part.load_many(u8, 1, number), lambda: part.store_many(u8, [1], number)):
        with pytest.raises(TypeError, match="offset must be an int"):
            call()


class RaisingError(Exception):
    """What a caller's code raises."""


@pytest.mark.parametrize("error", [RaisingError(), OverflowError(), struct.error(), TypeError()])
def test_what_the_values_raise_propagates_and_nothing_is_stored(
    error: Exception, part: VolatileSlice, mapping: MemoryMapping
) -> None:
    def values() -> Iterator[int]:
        yield 1
        raise error

    class Raising:
        def __index__(self) -> int:
            raise error

        def __float__(self) -> float:
            raise error

    item: Any = Raising()
    scalars: tuple[Any, ...] = (u32, f64)
    for scalar in scalars:
        for given_values in (values(), [1, item]):
            with pytest.raises(type(error)) as caught:
                part.store_many(scalar, given_values)
            assert caught.value is error
            error.__traceback__ = None  # whose frames keep the mapping
    assert mapping[:] == known_bytes(2 * PAGE)


def test_values_that_change_the_slice_are_stored_where_it_is_then(part: VolatileSlice) -> None:
    def values() -> Iterator[int]:
        part.advance(16)
        yield 1
        yield 2

    whole = part.offset(0)
    part.store_many(u32, values())
    assert whole.load_many(u32, 2, 16) == [1, 2]

    def more() -> Iterator[int]:
        part.truncate(4)
        yield from (3, 4)

    with pytest.raises(VolatileOutOfBoundsError):
        part.store_many(u32, more())
    assert whole.load_many(u32, 2, 16) == [1, 2]


# --- Access, lifetime, missing pages --------------------------------------------------------------


@pytest.mark.parametrize("start", [0, PAGE], ids=["whole region", "a page of it"])
def test_many_need_the_access_that_they_make(start: int, mapping: MemoryMapping) -> None:
    part = mapping.get_slice(PAGE, 8)
    mapping.protect(READ, start)
    assert part.load_many(u8, 8) == list(known_bytes(PAGE + 8)[PAGE:])
    for values in ([1, 2], [], [1] * 8):
        if not values and start:  # of nothing there is no byte that could lack it
            continue
        with pytest.raises(ProtectionError) as caught:
            part.store_many(u8, values)
        assert (caught.value.required, caught.value.actual) == (WRITE, READ)
    mapping.protect(NONE, start)
    with pytest.raises(ProtectionError) as caught:
        part.load_many(u8, 8)
    assert (caught.value.required, caught.value.actual) == (READ, NONE)
    mapping.protect(RW, start)
    assert mapping[:] == known_bytes(2 * PAGE)


def test_many_over_mixed_protections_need_them_in_the_bytes_they_touch(
    mapping: MemoryMapping,
) -> None:
    across = mapping.get_slice(PAGE - 16, 32)
    mapping.protect(READ, PAGE, PAGE)
    across.store_many(u64, [1, 2])
    assert across.load_many(u64, 2) == [1, 2]
    for values, offset in (([1, 2, 3], 0), ([1], 16)):
        with pytest.raises(ProtectionError) as caught:
            across.store_many(u64, values, offset)
        assert (caught.value.required, caught.value.actual) == (WRITE, READ)
        assert caught.value.range == (PAGE - 16 + offset, 8 * len(values))
    mapping.protect(NONE, PAGE, PAGE)
    assert across.load_many(u64, 2) == [1, 2]
    with pytest.raises(ProtectionError):
        across.load_many(u64, 3)


def test_many_in_an_arena_need_a_segment() -> None:
    with MemoryMappingArena.new(4 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        part = arena.get_slice(0, 4 * PAGE)
        part.store_many(u64, [5] * (PAGE // 8))
        assert part.load_many(u64, PAGE // 8) == [5] * (PAGE // 8)
        for call in (
            lambda: part.load_many(u8, 1, PAGE),
            lambda: part.store_many(u8, [1, 2], PAGE - 1),
        ):
            with pytest.raises(ProtectionError):
                call()
        assert part.load(u64, PAGE - 8) == 5


def test_many_go_on_after_the_region_is_closed() -> None:
    m = MemoryMapping.new(PAGE)
    part = m.get_slice(0, 64)
    m.close()
    part.store_many(u64, range(8))
    assert part.load_many(u64, 8) == list(range(8))


def test_many_of_a_cut_file_are_a_fault_after_those_before_the_page(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        os.truncate(known_file.path, 2 * PAGE)
        part = m.get_slice(PAGE, 4 * PAGE)
        error = fault_of(lambda: part.load_many(u32, PAGE))
        assert (error.offset, error.pages) == (2 * PAGE, 1)
        error = fault_of(lambda: part.store_many(u32, [7] * PAGE))
        assert (error.offset, error.pages) == (2 * PAGE, 1)
        # In order, so all before the missing page and none after it.
        assert part.load_many(u32, PAGE // 4) == [7] * (PAGE // 4)
        os.truncate(known_file.path, 16 * PAGE)
        assert part.load_many(u32, PAGE // 4, PAGE) == [0] * (PAGE // 4)
        part.store_many(u32, [8] * PAGE)
        assert part.load_many(u32, PAGE) == [8] * PAGE
