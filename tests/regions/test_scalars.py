"""Numbers in a region: `read_obj`, `write_obj` and their volatile pair, against `struct`."""

import ctypes
import math
import struct
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, assert_type

import numpy as np
import pytest
from hypothesis import given, strategies as st
from kernel_view import PAGE, Index, KnownFile, child, known_bytes
from protections import READ, RW

import mmapwrap
from mmapwrap import (
    ClosedMappingError,
    InvalidArgumentError,
    InvalidRangeError,
    MemoryMapping,
    Protection,
    ProtectionError,
    Scalar,
    VolatileMemoryError,
    VolatileMisalignedError,
)
from mmapwrap._core._mman import lib

INTEGER_CODES: dict[str, str] = dict(
    zip("u8 i8 u16 i16 u32 i32 u64 i64".split(), "BbHhIiQq", strict=True)
)
FLOAT_CODES = {"f32": "f", "f64": "d"}
ORDERS = {"": "=", "le_": "<", "be_": ">"}


def formats(codes: dict[str, str]) -> dict[str, str]:
    """The name of each scalar and what `struct` calls it; a byte has no order."""
    return {
        order_name + name: order + code
        for name, code in codes.items()
        for order_name, order in ORDERS.items()
        if order_name == "" or not name.endswith("8")
    }


INTEGERS: list[tuple[Scalar[int], str]] = [
    (getattr(mmapwrap, name), code) for name, code in formats(INTEGER_CODES).items()
]
FLOATS: list[tuple[Scalar[float], str]] = [
    (getattr(mmapwrap, name), code) for name, code in formats(FLOAT_CODES).items()
]
SCALARS: list[tuple[Scalar[Any], str]] = [*INTEGERS, *FLOATS]

every_scalar = pytest.mark.parametrize(
    ("scalar", "code"), SCALARS, ids=[scalar.name for scalar, _ in SCALARS]
)
every_integer = pytest.mark.parametrize(
    ("scalar", "code"), INTEGERS, ids=[scalar.name for scalar, _ in INTEGERS]
)
every_float = pytest.mark.parametrize(
    ("scalar", "code"), FLOATS, ids=[scalar.name for scalar, _ in FLOATS]
)


def limits(code: str) -> tuple[int, int]:
    """The least and the greatest integer of a format."""
    bits = 8 * struct.calcsize(code)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if code[1].islower() else (0, 2**bits - 1)


def samples(code: str) -> list[Any]:
    """Values of a format with each byte different, and its edges."""
    if code[1] in "fd":
        odd = float.fromhex("-0x1.234568p+5")  # what f32 holds too
        return [0.0, odd, -0.0, 1.5, 2.0**-126, 2.0**-149, math.inf, -math.inf]
    low, high = limits(code)
    return [0, 1, low, low + 1, high, high - 1, 0x0102030405060708 & high]


def same(left: float, right: float) -> bool:
    """Whether two numbers are the same, signs of zeros and what is no number included."""
    if math.isnan(right):
        return math.isnan(left)
    return left == right and math.copysign(1, left) == math.copysign(1, right)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """A page of known bytes."""
    with MemoryMapping.new(PAGE) as m:
        m[:] = known_bytes(PAGE)
        yield m


# What there is


def test_every_scalar_is_public_and_names_itself() -> None:
    of_pointers = {"usize": "N", "isize": "n"}
    for name, code in (formats(INTEGER_CODES) | formats(FLOAT_CODES) | of_pointers).items():
        scalar: Any = getattr(mmapwrap, name)
        assert scalar.__class__ is Scalar
        assert scalar.name == name
        assert scalar.size == struct.calcsize(code)
        assert repr(scalar) == f"mmapwrap.{name}"


def test_integer_scalar_is_typed_int_and_float_scalar_float(mapping: MemoryMapping) -> None:
    part = mapping.get_slice(0, 8)
    assert type(assert_type(mapping.read_obj(mmapwrap.u32, 0), int)) is int
    assert type(assert_type(mapping.read_obj(mmapwrap.be_i64, 0), int)) is int
    assert type(assert_type(mapping.read_obj(mmapwrap.f64, 0), float)) is float
    assert type(assert_type(mapping.read_obj(mmapwrap.le_f32, 0), float)) is float
    assert type(assert_type(mapping.read_obj_volatile(mmapwrap.u8, 0), int)) is int
    assert type(assert_type(mapping.read_obj_volatile(mmapwrap.f32, 0), float)) is float
    assert type(assert_type(part.load(mmapwrap.u16, 0), int)) is int
    assert type(assert_type(part.load(mmapwrap.f64, 0), float)) is float


# Reading and writing


@every_scalar
@pytest.mark.parametrize("alignment", range(8))
def test_read_obj_is_what_struct_unpacks(
    scalar: Scalar[Any], code: str, alignment: int, mapping: MemoryMapping
) -> None:
    for offset in (alignment, 64 + alignment, PAGE - 16 + alignment):
        if offset + scalar.size > PAGE:
            continue
        for value in samples(code):
            packed = struct.pack(code, value)
            mapping[offset : offset + scalar.size] = packed
            assert same(mapping.read_obj(scalar, offset), value)


@every_scalar
@pytest.mark.parametrize("alignment", range(8))
def test_write_obj_is_what_struct_packs_and_changes_no_neighbour(
    scalar: Scalar[Any], code: str, alignment: int, mapping: MemoryMapping
) -> None:
    expected = bytearray(known_bytes(PAGE))
    for offset in (alignment, 64 + alignment, PAGE - 16 + alignment):
        if offset + scalar.size > PAGE:
            continue
        for value in samples(code):
            mapping.write_obj(scalar, value, offset)
            struct.pack_into(code, expected, offset, value)
            assert mapping[:] == expected


@every_integer
@given(data=st.data())
def test_integer_written_is_the_bytes_of_int_to_bytes(
    scalar: Scalar[int], code: str, data: st.DataObject
) -> None:
    low, high = limits(code)
    value = data.draw(st.integers(low, high))
    offset = data.draw(st.integers(0, 24))
    order = {"=": sys.byteorder, "<": "little", ">": "big"}[code[0]]
    with MemoryMapping.new(32) as m:
        m.write_obj(scalar, value, offset)
        packed = value.to_bytes(scalar.size, "big" if order == "big" else "little", signed=low < 0)
        assert m[offset : offset + scalar.size] == packed
        assert m.read_obj(scalar, offset) == value


@every_float
@given(value=st.floats(), offset=st.integers(0, 24))
def test_float_written_is_what_struct_packs_or_refused(
    scalar: Scalar[float], code: str, value: float, offset: int
) -> None:
    with MemoryMapping.new(32) as m:
        try:
            packed = struct.pack(code, value)
        except OverflowError:
            with pytest.raises(InvalidArgumentError):
                m.write_obj(scalar, value, offset)
            assert m.is_all_zero()
            return
        m.write_obj(scalar, value, offset)
        if not math.isnan(value):  # the payload of what is no number is the processor's affair
            assert m[offset : offset + scalar.size] == packed
        assert same(m.read_obj(scalar, offset), struct.unpack(code, packed)[0])


@every_float
@given(data=st.data())
def test_float_read_is_what_struct_unpacks(
    scalar: Scalar[float], code: str, data: st.DataObject
) -> None:
    packed = data.draw(st.binary(min_size=scalar.size, max_size=scalar.size))
    with MemoryMapping.new(scalar.size) as m:
        m[:] = packed
        assert same(m.read_obj(scalar, 0), struct.unpack(code, packed)[0])


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        (mmapwrap.u64, 2**64 - 1),
        (mmapwrap.le_u64, 2**64 - 1),
        (mmapwrap.be_u64, 2**64 - 1),
        (mmapwrap.i64, -(2**63)),
        (mmapwrap.le_i64, -(2**63)),
        (mmapwrap.be_i64, -(2**63)),
        (mmapwrap.f32, math.nan),
        (mmapwrap.be_f32, math.nan),
        (mmapwrap.f64, math.nan),
        (mmapwrap.be_f64, math.nan),
    ],
)
def test_edge_of_a_type_is_read_back_right_after_a_failure(
    scalar: Scalar[Any], value: Any, mapping: MemoryMapping
) -> None:
    mapping.write_obj(scalar, value, 8)
    for read in (mapping.read_obj, mapping.read_obj_volatile):
        with pytest.raises(InvalidRangeError):
            read(scalar, PAGE)
        assert same(read(scalar, 8), value)
        assert same(read(scalar, 8), value)


UNLUCKY: list[tuple[Scalar[Any], Any]] = [
    *[(scalar, lib.mmw_failed_unsigned()) for scalar in (mmapwrap.u64, mmapwrap.be_u64)],
    *[(scalar, lib.mmw_failed_signed()) for scalar in (mmapwrap.i64, mmapwrap.be_i64)],
    *[(scalar, lib.mmw_failed_float()) for scalar in (mmapwrap.f64, mmapwrap.be_f64)],
]


@pytest.mark.alone
@pytest.mark.parametrize(("scalar", "value"), UNLUCKY, ids=[scalar.name for scalar, _ in UNLUCKY])
def test_number_that_stands_for_a_failed_load_is_read_back_right(
    scalar: Scalar[Any], value: Any, mapping: MemoryMapping
) -> None:
    mapping.write_obj(scalar, value, 8)
    for read in (mapping.read_obj, mapping.read_obj_volatile):
        assert read(scalar, 8) == value
        mapping.protect(READ, 0, PAGE)
        assert read(scalar, Index(8)) == value
        with pytest.raises(InvalidRangeError):
            read(scalar, PAGE)
        mapping.protect(RW)
    assert mapping.get_slice(0, 16).load(scalar, 8) == value


@pytest.mark.race
def test_edge_of_a_type_is_undisturbed_by_signal_handlers_that_fail() -> None:
    program = """
        import math, signal, time
        import mmapwrap as mw

        closed = mw.MemoryMapping.new(8)
        closed.close()
        failures = 0

        def fail(*_):
            global failures
            try:
                closed.read_obj(mw.u64, 0)
            except mw.ClosedMappingError:
                failures += 1

        m = mw.MemoryMapping.new(24)
        m.write_obj(mw.u64, 2**64 - 1, 0)
        m.write_obj(mw.i64, -2**63, 8)
        m.write_obj(mw.f64, math.nan, 16)
        signal.signal(signal.SIGALRM, fail)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert m.read_obj(mw.u64, 0) == 2**64 - 1
            assert m.read_obj(mw.i64, 8) == -2**63
            assert math.isnan(m.read_obj(mw.f64, 16))
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert failures > 100, failures
        print("done")
    """
    assert child(program).succeeded() == "done\n"


@pytest.mark.race
def test_failed_load_is_undisturbed_by_signal_handlers_that_load() -> None:
    program = """
        import signal, time
        import mmapwrap as mw

        closed, m = mw.MemoryMapping.new(8), mw.MemoryMapping.new(8)
        closed.close()
        m.write_obj(mw.u64, 2**64 - 1, 0)
        loads = 0

        def load(*_):
            global loads
            assert m.read_obj(mw.u64, 0) == 2**64 - 1
            loads += 1

        signal.signal(signal.SIGALRM, load)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                raise SystemExit(f"a closed region gave {closed.read_obj(mw.u64, 0)}")
            except mw.ClosedMappingError:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert loads > 100, loads
        print("done")
    """
    assert child(program).succeeded() == "done\n"


# Values


@every_integer
def test_integer_out_of_range_is_refused_and_nothing_is_written(
    scalar: Scalar[int], code: str, mapping: MemoryMapping
) -> None:
    low, high = limits(code)
    for value in (low - 1, high + 1, low - 2**64, high + 2**64, -(2**200), 2**200):
        for write in (mapping.write_obj, mapping.write_obj_volatile):
            with pytest.raises(InvalidArgumentError) as caught:
                write(scalar, value, 0)
            assert str(value) in str(caught.value)
            assert isinstance(caught.value, ValueError)
    assert mapping[:] == known_bytes(PAGE)


LARGEST_F32 = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
ROUNDS_TO_INFINITY = LARGEST_F32 + 2.0**103  # half of the last digit's worth more


@pytest.mark.parametrize("scalar", [mmapwrap.f32, mmapwrap.le_f32, mmapwrap.be_f32])
@pytest.mark.parametrize(
    "value", [ROUNDS_TO_INFINITY, -ROUNDS_TO_INFINITY, 3.5e38, -1e39, sys.float_info.max, 10**39]
)
def test_f32_overflow_is_refused_and_nothing_is_written(
    scalar: Scalar[float], value: float, mapping: MemoryMapping
) -> None:
    for write in (mapping.write_obj, mapping.write_obj_volatile):
        with pytest.raises(InvalidArgumentError) as caught:
            write(scalar, value, 0)
        assert scalar.name in str(caught.value)
    assert mapping[:] == known_bytes(PAGE)


def test_f32_rounds_to_the_nearest_as_struct_does(mapping: MemoryMapping) -> None:
    below_half = math.nextafter(ROUNDS_TO_INFINITY, 0)
    for value in (below_half, -below_half, 0.1, 1 + 2.0**-24, 1 + 3 * 2.0**-24, 2.0**-150, 1e-46):
        mapping.write_obj(mmapwrap.f32, value, 0)
        assert mapping[:4] == struct.pack("=f", value)


@every_float
@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_float_from_an_integer_too_large_is_refused(
    scalar: Scalar[float], code: str, value: int, mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        mapping.write_obj(scalar, value, 0)
    assert scalar.name in str(caught.value)
    assert str(value) in str(caught.value)
    assert mapping[:] == known_bytes(PAGE)


@every_float
def test_float_without_a_number_keeps_its_kind(
    scalar: Scalar[float], code: str, mapping: MemoryMapping
) -> None:
    for value in (math.inf, -math.inf):
        mapping.write_obj(scalar, value, 1)
        assert mapping[1 : 1 + scalar.size] == struct.pack(code, value)
        assert mapping.read_obj(scalar, 1) == value
    mapping.write_obj(scalar, math.nan, 1)
    assert math.isnan(struct.unpack(code, mapping[1 : 1 + scalar.size])[0])
    assert math.isnan(mapping.read_obj(scalar, 1))


def test_value_by_index_or_float_method_is_taken(mapping: MemoryMapping) -> None:
    index: Any = Index(77)
    mapping.write_obj(mmapwrap.u16, index, Index(3))
    assert mapping.read_obj(mmapwrap.u16, Index(3)) == 77
    wide: Any = np.uint32(2**32 - 1)
    mapping.write_obj(mmapwrap.u32, wide, 0)
    assert mapping.read_obj(mmapwrap.u32, 0) == 2**32 - 1
    real: Any
    for real in (np.float32(0.5), Fraction(1, 2), np.float64(0.5)):
        mapping.write_obj(mmapwrap.f64, 0, 0)
        mapping.write_obj(mmapwrap.f64, real, 0)
        assert mapping.read_obj(mmapwrap.f64, 0) == 0.5
    mapping.write_obj(mmapwrap.f64, 3, 0)
    assert mapping.read_obj(mmapwrap.f64, 0) == 3.0


@every_integer
@pytest.mark.parametrize("value", [1.0, "1", None, b"1", 1j, Fraction(1)])
def test_integer_of_a_wrong_type_is_refused(
    scalar: Scalar[int], code: str, value: Any, mapping: MemoryMapping
) -> None:
    for write in (mapping.write_obj, mapping.write_obj_volatile):
        with pytest.raises(TypeError):
            write(scalar, value, 0)
    assert mapping[:] == known_bytes(PAGE)


@every_float
@pytest.mark.parametrize("value", ["1.5", "nan", "no number", None, b"1.5", bytearray(b"1"), 1j])
def test_float_of_a_wrong_type_is_refused(
    scalar: Scalar[float], code: str, value: Any, mapping: MemoryMapping
) -> None:
    for write in (mapping.write_obj, mapping.write_obj_volatile):
        with pytest.raises(TypeError):
            write(scalar, value, 0)
    assert mapping[:] == known_bytes(PAGE)


@pytest.mark.parametrize(
    "scalar", [None, 4, "u32", "I", int, Scalar, np.uint32, ctypes.c_uint32, struct.Struct("I")]
)
def test_scalar_of_another_kind_is_refused(scalar: Any, mapping: MemoryMapping) -> None:
    part = mapping.get_slice(0, 8)
    calls: list[Callable[[], object]] = [
        lambda: mapping.read_obj(scalar, 0),
        lambda: mapping.write_obj(scalar, 1, 0),
        lambda: mapping.read_obj_volatile(scalar, 0),
        lambda: mapping.write_obj_volatile(scalar, 1, 0),
        lambda: part.load(scalar, 0),
        lambda: part.store(scalar, 1, 0),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert mapping[:] == known_bytes(PAGE)


# Ranges


@every_scalar
def test_at_the_very_end_it_is_all_or_nothing(scalar: Scalar[Any], code: str) -> None:
    for size in (PAGE, PAGE + 5, 3 * PAGE - 1, scalar.size):
        with MemoryMapping.new(size) as m:
            m[:] = known_bytes(size)
            last = size - scalar.size
            for value in samples(code):
                m.write_obj(scalar, value, last)
                assert m[last:] == struct.pack(code, value)
                assert same(m.read_obj(scalar, last), value)
            m[:] = known_bytes(size)
            for offset in range(last + 1, size + 9):
                for call in (
                    lambda: m.read_obj(scalar, offset),  # noqa: B023  # called before it changes
                    lambda: m.write_obj(scalar, samples(code)[1], offset),  # noqa: B023
                ):
                    with pytest.raises(InvalidRangeError) as caught:
                        call()
                    error = caught.value
                    assert (error.offset, error.count) == (offset, scalar.size)
                    assert error.region_size == size
            assert m[:] == known_bytes(size)


@every_scalar
@pytest.mark.parametrize("offset", [-1, -8, -(2**63), 2**63, 2**64 - 1, 2**64, 2**64 + 8, -(2**64)])
def test_offset_outside_the_region_is_refused(
    scalar: Scalar[Any], code: str, offset: int, mapping: MemoryMapping
) -> None:
    value = samples(code)[1]
    calls: list[Callable[[], object]] = [
        lambda: mapping.read_obj(scalar, offset),
        lambda: mapping.write_obj(scalar, value, offset),
        lambda: mapping.read_obj_volatile(scalar, offset),
        lambda: mapping.write_obj_volatile(scalar, value, offset),
    ]
    for call in calls:
        with pytest.raises(InvalidRangeError) as caught:
            call()
        assert (caught.value.offset, caught.value.count) == (offset, scalar.size)
        assert caught.value.region_size == PAGE
    assert mapping[:] == known_bytes(PAGE)


@pytest.mark.parametrize("offset", [0.0, "0", None, b"\0"])
def test_offset_that_is_no_integer_is_refused(offset: Any, mapping: MemoryMapping) -> None:
    calls: list[Callable[[], object]] = [
        lambda: mapping.read_obj(mmapwrap.u8, offset),
        lambda: mapping.write_obj(mmapwrap.u8, 1, offset),
        lambda: mapping.read_obj_volatile(mmapwrap.f32, offset),
        lambda: mapping.write_obj_volatile(mmapwrap.f32, 1.0, offset),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert mapping[:] == known_bytes(PAGE)


# Protection and lifetime


def test_read_only_region_is_read_and_not_written(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, prot=READ) as m:
        for scalar, code in SCALARS:
            expected = struct.unpack_from(code, known_file.content, 8)[0]
            assert same(m.read_obj(scalar, 8), expected)
            assert same(m.read_obj_volatile(scalar, 8), expected)
            for write in (m.write_obj, m.write_obj_volatile):
                with pytest.raises(ProtectionError) as caught:
                    write(scalar, samples(code)[1], 8)
                assert caught.value.required == Protection.write()
                assert caught.value.actual == READ
    assert known_file.path.read_bytes() == known_file.content


def test_region_without_access_is_neither_read_nor_written() -> None:
    with MemoryMapping.anonymous(PAGE, prot=Protection.none()) as m:
        for scalar, code in SCALARS:
            for read in (m.read_obj, m.read_obj_volatile):
                with pytest.raises(ProtectionError) as caught:
                    read(scalar, 0)
                assert caught.value.required == READ
                assert caught.value.actual == Protection.none()
            for write in (m.write_obj, m.write_obj_volatile):
                with pytest.raises(ProtectionError) as caught:
                    write(scalar, samples(code)[1], 0)
                assert caught.value.required == Protection.write()


@every_scalar
def test_number_across_two_protections_is_written_whole_or_not_at_all(
    scalar: Scalar[Any], code: str
) -> None:
    with MemoryMapping.new(3 * PAGE) as m:
        m[:] = known_bytes(3 * PAGE)
        m.protect(READ, PAGE, PAGE)
        m.protect(Protection.none(), 2 * PAGE, PAGE)
        value = samples(code)[1]
        for offset in range(PAGE - scalar.size + 1, PAGE + 1):
            expected = struct.unpack_from(code, known_bytes(3 * PAGE), offset)[0]
            assert same(m.read_obj(scalar, offset), expected)
            with pytest.raises(ProtectionError) as caught:
                m.write_obj(scalar, value, offset)
            assert caught.value.required == Protection.write()
            assert caught.value.actual == READ
        for offset in range(2 * PAGE - scalar.size + 1, 2 * PAGE + 1):
            with pytest.raises(ProtectionError) as caught:
                m.read_obj(scalar, offset)
            assert caught.value.actual == Protection.none()
        m.write_obj(scalar, value, PAGE - scalar.size)
        m.protect(RW)
        expected_bytes = bytearray(known_bytes(3 * PAGE))
        struct.pack_into(code, expected_bytes, PAGE - scalar.size, value)
        assert m[:] == expected_bytes


@every_scalar
def test_offset_outside_a_region_of_mixed_protection_is_refused(
    scalar: Scalar[Any], code: str
) -> None:
    with MemoryMapping.new(2 * PAGE) as m:
        m.protect(READ, PAGE, PAGE)
        for offset in (-1, 2 * PAGE - scalar.size + 1, 2**64):
            with pytest.raises(InvalidRangeError) as caught:
                m.read_obj(scalar, offset)
            assert (caught.value.offset, caught.value.count) == (offset, scalar.size)


@every_scalar
def test_closed_region_refuses_every_access(scalar: Scalar[Any], code: str) -> None:
    m = MemoryMapping.new(PAGE)
    m.close()
    value = samples(code)[1]
    for offset in (0, PAGE, -1, 2**64):
        calls: list[Callable[[], object]] = [
            lambda: m.read_obj(scalar, offset),  # noqa: B023  # called before it changes
            lambda: m.write_obj(scalar, value, offset),  # noqa: B023
            lambda: m.read_obj_volatile(scalar, offset),  # noqa: B023
            lambda: m.write_obj_volatile(scalar, value, offset),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(ClosedMappingError):
                call()


# Volatile


@every_scalar
def test_volatile_pair_reads_and_writes_where_it_is_aligned(
    scalar: Scalar[Any], code: str, mapping: MemoryMapping
) -> None:
    expected = bytearray(known_bytes(PAGE))
    for offset in (0, scalar.size, 64, PAGE - scalar.size):
        for value in samples(code):
            mapping.write_obj_volatile(scalar, value, offset)
            struct.pack_into(code, expected, offset, value)
            assert mapping[:] == expected
            assert same(mapping.read_obj_volatile(scalar, offset), value)


@every_scalar
def test_volatile_misaligned_is_refused_with_the_address(
    scalar: Scalar[Any], code: str, mapping: MemoryMapping
) -> None:
    value = samples(code)[1]
    refused = 0
    for offset in range(16):
        if offset % scalar.size == 0:
            continue
        calls: list[Callable[[], object]] = [
            lambda: mapping.read_obj_volatile(scalar, offset),  # noqa: B023
            lambda: mapping.write_obj_volatile(scalar, value, offset),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(VolatileMisalignedError) as caught:
                call()
            assert caught.value.addr == mapping.as_ptr() + offset
            assert caught.value.alignment == scalar.size
            assert isinstance(caught.value, VolatileMemoryError)
            refused += 1
    assert refused == 2 * (16 - 16 // scalar.size)
    assert mapping[:] == known_bytes(PAGE)


def test_volatile_alignment_is_that_of_the_address_and_not_of_the_offset(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path, offset=PAGE + 5) as m:
        assert m.as_ptr() % 8 == 5
        expected = int.from_bytes(known_file.content[PAGE + 8 : PAGE + 16], "little")
        assert m.read_obj_volatile(mmapwrap.le_u64, 3) == expected
        with pytest.raises(VolatileMisalignedError):
            m.read_obj_volatile(mmapwrap.le_u64, 0)


def test_volatile_value_stored_by_another_process_is_never_seen_torn() -> None:
    program = """
        import os
        import mmapwrap as mw

        pairs = [
            (mw.u16, 0x5555, 0xAAAA),
            (mw.u32, 0x55555555, 0xAAAAAAAA),
            (mw.u64, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA),
            (mw.be_i64, 0x0102030405060708, -0x0102030405060709),
            (mw.f64, 1.1, -3.3e300),
        ]
        m = mw.MemoryMapping.new(4096)
        ready, stop = 2048, 3072  # far from the numbers
        other = os.fork()
        if other == 0:
            m.write_obj_volatile(mw.u8, 1, ready)
            while not m.read_obj_volatile(mw.u8, stop):
                for place, (scalar, first, second) in enumerate(pairs):
                    m.write_obj_volatile(scalar, first, 8 * place)
                    m.write_obj_volatile(scalar, second, 8 * place)
            os._exit(0)
        while not m.read_obj_volatile(mw.u8, ready):
            pass
        for place, (scalar, first, second) in enumerate(pairs):
            seen = set()
            count = 0
            while count < 50_000 or len(seen - {0}) < 2:
                value = m.read_obj_volatile(scalar, 8 * place)
                assert value in (0, first, second), (scalar, value)
                seen.add(value)
                count += 1
        m.write_obj_volatile(mw.u8, 1, stop)
        assert os.waitpid(other, 0)[1] == 0
        print("done")
    """
    assert child(program).succeeded() == "done\n"
