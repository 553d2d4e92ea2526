"""`array()`: NumPy arrays of a region's own memory, and what it refuses."""

import gc
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from files import memory_file
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as numpy_strategies
from kernel_view import PAGE, Index, child, in_process, is_mapped, known_bytes
from marks import MEMORY_IS_REPORTED
from protections import NONE, READ, RW

from mmapwrap import (
    ClosedMappingError,
    InvalidArgumentError,
    InvalidRangeError,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    OutOfMemoryError,
    ProtectionError,
    SharedMemory,
    ViewsExportedError,
)

SIZE = 2 * PAGE + 24


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Two pages and 24 bytes of known bytes."""
    with MemoryMapping.anonymous(SIZE) as m:
        m.write_slice(known_bytes(SIZE), 0)
        yield m


# --- What it gives --------------------------------------------------------------------------------


def test_array_without_arguments_is_of_all_bytes(mapping: MemoryMapping) -> None:
    array = mapping.array()
    assert array.dtype == np.uint8
    assert array.shape == (SIZE,)
    assert array.tobytes() == known_bytes(SIZE)
    assert array.ctypes.data == mapping.as_ptr()
    array[3] = 0
    assert mapping[3] == 0


DTYPES = st.one_of(
    numpy_strategies.scalar_dtypes(),
    numpy_strategies.array_dtypes(),
    numpy_strategies.nested_dtypes(),
)


@settings(deadline=None)
@given(
    dtype=DTYPES,
    shape=numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    offset=st.integers(0, 70),
    order=st.sampled_from(["C", "F"]),
)
def test_array_is_what_numpy_makes_of_the_same_bytes(
    dtype: "np.dtype[Any]", shape: tuple[int, ...], offset: int, order: Any
) -> None:
    content = known_bytes(SIZE)
    count = math.prod(shape) * dtype.itemsize
    with MemoryMapping.anonymous(SIZE) as m:
        m.write_slice(content, 0)
        if offset + count > SIZE:
            with pytest.raises(InvalidRangeError):
                m.array(dtype, shape, offset=offset, order=order)
            return
        wanted: Any = np.ndarray(shape, dtype, content, offset, order=order)
        array = m.array(dtype, shape, offset=offset, order=order)
        assert array.dtype == wanted.dtype
        assert (array.shape, array.strides) == (wanted.shape, wanted.strides)
        assert array.tobytes() == wanted.tobytes()
        assert array.flags.writeable
        if array.size:
            assert array.ctypes.data == m.as_ptr() + offset


@pytest.mark.parametrize(
    "shape", [3, Index(3), (3,), [3], np.int64(3), np.array([3]), np.array(3), (Index(3),)]
)
def test_shape_of_one_dimension_is_a_number_or_a_sequence(
    mapping: MemoryMapping, shape: Any
) -> None:
    assert mapping.array("<u2", shape).shape == (3,)


def test_array_without_a_shape_takes_what_is_left(mapping: MemoryMapping) -> None:
    assert mapping.array(np.uint16, offset=SIZE - 6).shape == (3,)
    assert mapping.array(np.uint16, offset=SIZE).shape == (0,)
    remainder = (
        f"^the 6 bytes from offset {SIZE - 6} on are 1 items of 4 bytes and 2 more: give a shape$"
    )
    with pytest.raises(InvalidArgumentError, match=remainder):
        mapping.array(np.uint32, offset=SIZE - 6)
    with pytest.raises(InvalidRangeError):
        mapping.array(np.uint16, offset=SIZE + 1)


def test_arrays_over_the_same_bytes_see_each_others_changes(mapping: MemoryMapping) -> None:
    record = np.dtype({"names": ["low", "all"], "formats": ["<u2", "<u4"], "offsets": [0, 0]})
    records, numbers = mapping.array(record, 5), mapping.array("<u4", 5)
    numbers[2] = 0x10002
    assert records[2]["low"] == 2
    records["low"][2] = 3
    assert numbers[2] == 0x10003


def test_array_is_writable_where_all_of_it_is(mapping: MemoryMapping) -> None:
    mapping.protect(READ, PAGE, PAGE)
    assert mapping.array("u1", PAGE).flags.writeable
    assert not mapping.array("u1", PAGE + 1).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        mapping.array("u1", PAGE + 1)[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        mapping.array("u1", PAGE + 1).flags.writeable = True
    mapping.protect(NONE, PAGE, PAGE)
    with pytest.raises(ProtectionError):
        mapping.array("u1", PAGE + 1)
    mapping.protect(RW)


# --- How long it lives ----------------------------------------------------------------------------


def test_array_is_a_live_view(mapping: MemoryMapping) -> None:
    array = mapping.array("<u4", 4)
    part = array[1:].reshape(3, 1)
    del array
    assert mapping.live_views == 1
    with pytest.raises(ViewsExportedError):
        mapping.protect(NONE)
    del part
    assert mapping.live_views == 0
    mapping.protect(NONE)


USES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda array: array,
    "slice": lambda array: array[2:],
    "view": lambda array: array.view(np.uint16),
    "transposed": lambda array: array.reshape(4, -1).T,
    "memoryview": memoryview,
    "frombuffer": lambda array: np.frombuffer(array, np.uint8),
    "asarray": np.asarray,
    "dlpack": np.from_dlpack,
    "strided": lambda array: np.lib.stride_tricks.as_strided(array, (4,), (2,)),
}


@pytest.mark.parametrize("use", USES)
def test_what_is_made_of_an_array_keeps_the_pages(use: str) -> None:
    with MemoryMapping.anonymous(PAGE) as m:
        address = m.as_ptr()
        kept = USES[use](m.array("u1", 64))
    gc.collect()
    assert is_mapped(address, PAGE)
    assert bytes(kept)[:4] == bytes(4)
    del kept
    gc.collect()
    assert not is_mapped(address, PAGE)


def test_array_of_an_arena_keeps_its_segment() -> None:
    with MemoryMappingArena.new(4 * PAGE) as arena:
        arena.add_anon(PAGE, PAGE)
        array = arena.array("<u8", PAGE // 8, offset=PAGE)
        array[:] = 7
        with pytest.raises(ViewsExportedError):
            arena.remove(PAGE, PAGE)
        with pytest.raises(ProtectionError):
            arena.array("u1", 1)
        assert array.sum() == 7 * (PAGE // 8)


def sum_a_truncated_file() -> None:
    fd = memory_file(bytes(4 * PAGE))
    m = MemoryMapping.from_fd(fd, 4 * PAGE)
    array = m.array("<u4")
    array[:] = 1
    os.truncate(fd, PAGE)
    try:
        with m.fault_guard():
            assert array.sum() == PAGE // 4
    except MappingFaultError:
        return
    raise AssertionError("the guard has told nothing")


def test_array_of_a_truncated_file_reads_zeros_in_a_guard() -> None:
    in_process(sum_a_truncated_file).succeeded_silently()


# --- What it refuses ------------------------------------------------------------------------------

OBJECTS: list[Any] = [
    object,
    "O",
    [("number", "<u4"), ("object", "O")],
    [("outer", [("inner", "O")])],
    ("O", (2,)),
    np.dtypes.StringDType(),
]


@pytest.mark.parametrize("dtype", OBJECTS, ids=str)
def test_python_objects_are_refused(mapping: MemoryMapping, dtype: Any) -> None:
    for shape in (None, 0, 1):
        with pytest.raises(InvalidArgumentError, match="holds Python objects"):
            mapping.array(dtype, shape)


def test_items_without_bytes_need_a_shape(mapping: MemoryMapping) -> None:
    for dtype in ("V0", "S0", "U0"):
        assert mapping.array(dtype, 3).shape == (3,)
        with pytest.raises(InvalidArgumentError, match=r"has no bytes: give a shape$"):
            mapping.array(dtype)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (-1, r"^shape has a negative dimension, -1$"),
        ((2, -3), r"^shape has a negative dimension, -3$"),
        ((-1, -1), r"^shape has a negative dimension, -1$"),
        ((1,) * 100, r"^shape \(1, 1, .* of float32: .*"),
        ((0, 2**62, 2**62), r"^shape \(0, .* of float32: "),
        ((0, 2**70), r"^shape \(0, .* of float32: "),
    ],
)
def test_shape_that_no_array_has_is_refused(
    mapping: MemoryMapping, shape: Any, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        mapping.array("f4", shape)


@pytest.mark.parametrize("shape", [SIZE + 1, (SIZE, 2), 2**64, (2**40, 2**40), 2**200])
def test_shape_past_the_region_is_refused(mapping: MemoryMapping, shape: Any) -> None:
    with pytest.raises(InvalidRangeError):
        mapping.array("u1", shape)


@pytest.mark.parametrize("offset", [-1, SIZE, SIZE + 1, 2**64, -(2**70)])
def test_offset_outside_the_region_is_refused(mapping: MemoryMapping, offset: int) -> None:
    with pytest.raises(InvalidRangeError):
        mapping.array("u1", 1, offset=offset)


@pytest.mark.parametrize("order", ["A", "K", "c", ""])
def test_order_that_is_none_is_refused(mapping: MemoryMapping, order: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^order must be 'C' or 'F', not "):
        mapping.array("u1", 1, order=order)


@pytest.mark.parametrize("shape", ["3", b"3", 1.5, {3}, {3: 3}, object()])
def test_shape_of_a_wrong_type_is_named(mapping: MemoryMapping, shape: Any) -> None:
    with pytest.raises(TypeError, match=r"^shape must be an int or a tuple of ints, not "):
        mapping.array("u1", shape)


def test_other_wrong_types_are_named(mapping: MemoryMapping) -> None:
    wrong: Any = mapping
    with pytest.raises(TypeError, match=r"^shape must be an int, not str$"):
        wrong.array("u1", ("3",))
    with pytest.raises(TypeError, match=r"^offset must be an int, not str$"):
        wrong.array("u1", 1, offset="0")
    with pytest.raises(TypeError, match=r"^order must be a str, not NoneType$"):
        wrong.array("u1", 1, order=None)
    with pytest.raises(TypeError, match="not understood"):
        wrong.array("no such type")


def test_closed_region_has_no_array(mapping: MemoryMapping) -> None:
    class Closing:
        def __index__(self) -> int:
            mapping.close()
            return 1

    with pytest.raises(ClosedMappingError):
        mapping.array("u1", Closing())
    for shape in (None, 1):
        with pytest.raises(ClosedMappingError):
            mapping.array("u1", shape)
    other = MemoryMapping.anonymous(PAGE)

    class ClosingOther:
        def __index__(self) -> int:
            other.close()
            return 1

    with pytest.raises(ClosedMappingError):
        other.array("u1", 1, offset=ClosingOther())


def test_shared_memory_says_to_map_it_first() -> None:
    with SharedMemory.new("array", PAGE) as memory:
        for make in (np.asarray, np.array):
            with pytest.raises(TypeError, match=r"map\(\)"):
                make(memory)
        array = memory.map().array()
        array[0] = 1
        assert memory.map()[0] == 1


def test_numpy_is_imported_where_an_array_is_asked_for() -> None:
    program = """
        import sys
        from mmapwrap import MemoryMapping
        m = MemoryMapping.anonymous(8)
        assert "numpy" not in sys.modules
        m.array()
        assert "numpy" in sys.modules
    """
    child(program, measured=False).succeeded_silently()


def test_without_numpy_the_import_error_names_it() -> None:
    program = """
        import sys
        sys.modules["numpy"] = None
        from mmapwrap import MemoryMapping
        try:
            MemoryMapping.anonymous(8).array()
        except ImportError as error:
            print(error.name)
    """
    assert child(program, measured=False).succeeded() == "numpy\n"


def test_array_keeps_its_region_alone(mapping: MemoryMapping) -> None:
    before = sys.getrefcount(mapping)
    array = mapping.array("u1", 8)
    assert sys.getrefcount(mapping) == before
    assert array.base is not None


@pytest.mark.not_sanitized(MEMORY_IS_REPORTED)
@pytest.mark.parametrize(("size", "dtype"), [(1 << 46, "u2"), (1 << 20, "S1000000000")])
def test_conversion_that_no_memory_holds_is_out_of_memory(size: int, dtype: str) -> None:
    with (
        MemoryMapping.anonymous(size) as m,
        pytest.raises(OutOfMemoryError, match=r"malloc: Cannot allocate memory; \d+ bytes"),
    ):
        m.__array__(np.dtype(dtype))


def test_conversion_without_a_copy_is_refused_where_it_needs_one(mapping: MemoryMapping) -> None:
    with pytest.raises(ValueError, match="needs a copy"):
        mapping.__array__(np.dtype(np.uint16), copy=False)
