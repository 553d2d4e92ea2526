"""Bytes of a `MemoryMapping`: views, indexing, copying, what protection and `close` forbid."""

import array
import gc
import hashlib
import io
import os
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
    perms,
    process_unchanged,
    resident_pages,
)
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    ClosedMappingError,
    InvalidArgumentError,
    InvalidRangeError,
    MappingFaultError,
    MemoryMapping,
    Protection,
    ProtectionError,
    Sharing,
)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Three pages and five bytes of known bytes."""
    with MemoryMapping.new(3 * PAGE + 5) as m:
        m[:] = known_bytes(m.size)
        yield m


@pytest.fixture
def read_only(known_file: KnownFile) -> Iterator[MemoryMapping]:
    """A file mapped to be read."""
    with MemoryMapping.from_file(known_file.path, prot=READ) as m:
        yield m


# Views


def test_view_whole_is_the_memory_itself(mapping: MemoryMapping) -> None:
    view = mapping.view()
    assert (view.format, view.itemsize, view.ndim, view.nbytes) == ("B", 1, 1, mapping.size)
    assert view.contiguous
    assert not view.readonly
    assert view == known_bytes(mapping.size)
    view[PAGE] = 0
    assert mapping[PAGE] == 0
    mapping[PAGE] = 77
    assert view[PAGE] == 77


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 1), (1, 10), (PAGE - 1, 2), (3 * PAGE, 5), (3 * PAGE + 4, 1), (0, 0), (3 * PAGE + 5, 0)],
)
def test_view_range_is_that_range(offset: int, count: int, mapping: MemoryMapping) -> None:
    view = mapping.view(offset, count)
    assert len(view) == count
    assert bytes(view) == known_bytes(mapping.size)[offset : offset + count]
    assert mapping.view(offset) == known_bytes(mapping.size)[offset:]


def test_view_of_any_address_is_zero_copy(mapping: MemoryMapping) -> None:
    first = np.frombuffer(mapping.view(), dtype=np.uint8)
    assert first.ctypes.data == mapping.as_ptr()
    inner = np.frombuffer(mapping.view(PAGE + 1, 3), dtype=np.uint8)
    assert inner.ctypes.data == mapping.as_ptr() + PAGE + 1


OUTSIDE: list[tuple[int, int | None]] = [
    (-1, 1),
    (-1, None),
    (0, -1),
    (0, 3 * PAGE + 6),
    (3 * PAGE + 5, 1),
    (3 * PAGE + 6, 0),
    (3 * PAGE + 6, None),
    (1, 3 * PAGE + 5),
    (2**63, 1),
    (2**64 - 1, 2),
    (1, 2**64 - 1),
    (2**64, 0),
    (0, 2**64 + 1),
    (-(2**64), 2**64 + 1),
]


@pytest.mark.parametrize(("offset", "count"), OUTSIDE)
def test_view_outside_the_mapping_is_refused(
    offset: int, count: int | None, mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        mapping.view(offset, count)
    assert isinstance(caught.value, ValueError)
    assert (caught.value.offset, caught.value.region_size) == (offset, mapping.size)
    if count is not None:
        assert caught.value.count == count
    assert mapping.live_views == 0


@pytest.mark.parametrize(("offset", "count"), [(0.0, 1), (0, 1.0), ("0", 1), (0, "1"), (None, 1)])
def test_view_range_not_of_integers_is_refused(
    offset: Any, count: Any, mapping: MemoryMapping
) -> None:
    with pytest.raises(TypeError):
        mapping.view(offset, count)


def test_view_range_by_index_methods_is_taken(mapping: MemoryMapping) -> None:
    assert mapping.view(Index(1), Index(2)) == known_bytes(3)[1:]


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 0), (1, 2), (0, 3 * PAGE + 5), (3 * PAGE + 5, 0)]
)
def test_range_end_inside_is_the_sum(offset: int, count: int, mapping: MemoryMapping) -> None:
    assert mapping.range_end(offset, count) == offset + count


@pytest.mark.parametrize(("offset", "count"), [each for each in OUTSIDE if each[1] is not None])
def test_range_end_outside_is_refused(offset: int, count: int, mapping: MemoryMapping) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        mapping.range_end(offset, count)
    error = caught.value
    assert (error.offset, error.count, error.region_size) == (offset, count, mapping.size)


# Counting views


def test_live_views_counts_each_export_and_not_its_slices(mapping: MemoryMapping) -> None:
    assert mapping.live_views == 0
    first = mapping.view()
    assert mapping.live_views == 1
    second = mapping.view(PAGE, 1)
    assert mapping.live_views == 2
    part = first[10:20]
    as_words = np.frombuffer(first[: 2 * PAGE], dtype=np.uint32)
    assert mapping.live_views == 2
    del first
    assert mapping.live_views == 2
    del part
    assert mapping.live_views == 2
    del as_words
    assert mapping.live_views == 1
    second.release()
    assert mapping.live_views == 0


def test_live_views_are_not_raised_by_copies_or_failures(mapping: MemoryMapping) -> None:
    copies = [mapping[0], mapping[:], mapping[::7], mapping.read_slice(bytearray(9), 0)]
    mapping[0:2] = b"ab"
    mapping.write_slice(b"cd", 0)
    for wrong in ((-1, 1), (0, mapping.size + 1)):
        with pytest.raises(InvalidRangeError):
            mapping.view(*wrong)
    assert len(copies) == 4
    assert mapping.live_views == 0


# Indexing


@pytest.mark.parametrize("index", [0, 1, PAGE, -1, -2, 3 * PAGE + 4, -(3 * PAGE + 5)])
def test_index_reads_and_writes_one_byte_as_an_int(index: int, mapping: MemoryMapping) -> None:
    expected = bytearray(known_bytes(mapping.size))
    assert mapping[index] == expected[index]
    assert type(mapping[index]) is int
    mapping[index] = expected[index] = 200
    assert mapping[index] == 200
    assert mapping[:] == expected


@pytest.mark.parametrize(
    "index", [3 * PAGE + 5, -(3 * PAGE + 6), 2**63, -(2**63) - 1, 2**64, 2**100]
)
def test_index_past_the_end_is_an_index_error(index: int, mapping: MemoryMapping) -> None:
    with pytest.raises(IndexError):
        mapping[index]
    with pytest.raises(IndexError):
        mapping[index] = 1
    assert mapping[:] == known_bytes(mapping.size)


@pytest.mark.parametrize("index", [0.0, "0", None, b"\0", (0, 1)])
def test_index_of_a_wrong_type_is_refused(index: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping[index]
    with pytest.raises(TypeError):
        mapping[index] = 1


@pytest.mark.parametrize("bound", [0.0, "0", b"\0"])
def test_index_slice_bound_of_a_wrong_type_is_refused(bound: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping[bound:]
    with pytest.raises(TypeError):
        mapping[:bound] = b"x"


def test_index_by_index_method_is_taken(mapping: MemoryMapping) -> None:
    assert mapping[Index(-1)] == known_bytes(mapping.size)[-1]
    mapping[Index(-1)] = Index(3)
    assert mapping[-1] == 3
    assert mapping[Index(0) : Index(3)] == known_bytes(3)


@pytest.mark.parametrize("value", [256, -1, 2**64])
def test_index_assigned_a_value_that_is_no_byte_is_refused(
    value: int, mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidArgumentError):
        mapping[0] = value
    assert mapping[0] == known_bytes(1)[0]


@pytest.mark.parametrize("value", ["a", b"a", 1.0, None])
def test_index_assigned_a_wrong_type_is_refused(value: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping[0] = value
    assert mapping[0] == known_bytes(1)[0]


SMALL = 40
slices = st.slices(SMALL)


@given(slices)
def test_slice_reads_what_bytes_would(where: slice) -> None:
    with MemoryMapping.new(SMALL) as m:
        m[:] = known_bytes(SMALL)
        assert m[where] == known_bytes(SMALL)[where]
        assert type(m[where]) is bytes


@given(slices, st.data())
def test_slice_assigned_its_length_writes_what_bytearray_would(
    where: slice, data: st.DataObject
) -> None:
    expected = bytearray(known_bytes(SMALL))
    count = len(expected[where])
    new = data.draw(st.binary(min_size=count, max_size=count))
    with MemoryMapping.new(SMALL) as m:
        m[:] = known_bytes(SMALL)
        expected[where] = new
        m[where] = new
        assert m[:] == expected


@given(slices, st.binary(max_size=SMALL + 5))
def test_slice_assigned_another_length_is_refused(where: slice, new: bytes) -> None:
    with MemoryMapping.new(SMALL) as m:
        m[:] = known_bytes(SMALL)
        if len(new) == len(m[where]):
            new += b"x"
        with pytest.raises(InvalidArgumentError) as caught:
            m[where] = new
        assert str(len(new)) in str(caught.value)
        assert m[:] == known_bytes(SMALL)


@pytest.mark.parametrize(
    "data",
    [
        b"wxyz",
        bytearray(b"wxyz"),
        memoryview(b"wxyz"),
        np.frombuffer(b"wxyz", dtype=np.uint16),
        np.frombuffer(b"wxyz", dtype=np.uint8).reshape(2, 2),
    ],
)
def test_slice_assigned_any_buffer_takes_its_bytes(data: Any, mapping: MemoryMapping) -> None:
    mapping[PAGE - 2 : PAGE + 2] = data
    assert mapping[PAGE - 3 : PAGE + 3] == (
        known_bytes(PAGE - 2)[-1:] + b"wxyz" + known_bytes(PAGE + 3)[-1:]
    )


@pytest.mark.parametrize("value", ["ab", 5, None, 1.5, [1, 2]])
def test_slice_assigned_no_buffer_is_refused(value: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping[0:2] = value
    assert mapping[:] == known_bytes(mapping.size)


def test_slice_step_zero_is_refused(mapping: MemoryMapping) -> None:
    with pytest.raises(ValueError, match="zero"):
        mapping[::0]
    with pytest.raises(ValueError, match="zero"):
        mapping[::0] = b""


def test_slice_assigned_its_own_overlapping_view_copies_as_if_aside(
    mapping: MemoryMapping,
) -> None:
    before = known_bytes(mapping.size)
    mapping[1 : PAGE + 1] = mapping.view(0, PAGE)
    assert mapping[: PAGE + 1] == before[:1] + before[:PAGE]
    mapping[:] = before
    mapping[0:PAGE] = mapping.view(1, PAGE)
    assert mapping[:PAGE] == before[1 : PAGE + 1]


@pytest.mark.parametrize("step", [2**63 - 1, 2**63, 2**70, -(2**63), -(2**70)])
def test_slice_of_a_step_past_the_end_is_one_byte(step: int, mapping: MemoryMapping) -> None:
    expected = bytearray(known_bytes(mapping.size))
    assert mapping[::step] == expected[::step]
    mapping[::step] = expected[::step] = b"!"
    assert mapping[:] == expected


@pytest.mark.parametrize("step", [2, 3, -1, -2, -PAGE])
def test_stepped_slice_assigned_its_own_overlapping_view_copies_as_if_aside(
    step: int, mapping: MemoryMapping
) -> None:
    count = len(range(0, mapping.size, abs(step)))
    for start in (0, mapping.size - count):
        expected = bytearray(mapping[:])
        expected[::step] = expected[start : start + count]
        mapping[::step] = mapping.view(start, count)
        assert mapping[:] == expected


# read_slice and write_slice


@pytest.mark.parametrize(
    ("length", "offset"), [(0, 0), (1, 0), (10, PAGE - 5), (5, 3 * PAGE), (9, 3 * PAGE + 1)]
)
def test_read_slice_copies_what_both_hold(length: int, offset: int, mapping: MemoryMapping) -> None:
    buffer = bytearray(b"\xff" * length)
    copied = mapping.read_slice(buffer, offset)
    assert copied == min(length, mapping.size - offset)
    content = known_bytes(mapping.size)[offset : offset + copied]
    assert buffer == content + b"\xff" * (length - copied)


@pytest.mark.parametrize(
    ("length", "offset"), [(0, 0), (1, 0), (10, PAGE - 5), (5, 3 * PAGE), (9, 3 * PAGE + 1)]
)
def test_write_slice_copies_what_both_hold(
    length: int, offset: int, mapping: MemoryMapping
) -> None:
    expected = bytearray(known_bytes(mapping.size))
    copied = mapping.write_slice(b"\xff" * length, offset)
    assert copied == min(length, mapping.size - offset)
    expected[offset : offset + copied] = b"\xff" * copied
    assert mapping[:] == expected


def test_slice_copy_at_the_end_copies_nothing(mapping: MemoryMapping) -> None:
    assert mapping.read_slice(bytearray(4), mapping.size) == 0
    assert mapping.write_slice(b"abcd", mapping.size) == 0


@pytest.mark.parametrize("offset", [3 * PAGE + 6, -1, 2**63, 2**64, 2**64 + 1, -(2**64)])
def test_slice_copy_past_the_end_is_refused(offset: int, mapping: MemoryMapping) -> None:
    buffer = bytearray(4)
    calls: list[Callable[[], int]] = [
        lambda: mapping.read_slice(buffer, offset),
        lambda: mapping.write_slice(b"abcd", offset),
        lambda: mapping.write_slice(b"", offset),
    ]
    for call in calls:
        with pytest.raises(InvalidRangeError) as caught:
            call()
        assert (caught.value.offset, caught.value.region_size) == (offset, mapping.size)
    assert buffer == bytes(4)
    assert mapping[:] == known_bytes(mapping.size)


@pytest.mark.parametrize("offset", [0.0, "0", None])
def test_slice_copy_offset_not_an_integer_is_refused(offset: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping.read_slice(bytearray(4), offset)
    with pytest.raises(TypeError):
        mapping.write_slice(b"abcd", offset)


def test_slice_copy_counts_bytes_of_wider_items(mapping: MemoryMapping) -> None:
    words = np.zeros(3, dtype=np.uint32)
    assert mapping.read_slice(words, 1) == 12
    assert words.tobytes() == known_bytes(13)[1:]
    grid = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert mapping.write_slice(grid, 0) == 12
    assert mapping[:12] == grid.tobytes()
    assert mapping.write_slice(array.array("d", [1.5]), 3) == 8
    assert mapping[3:11] == struct.pack("d", 1.5)


# read_exact and write_all


@pytest.mark.parametrize(
    ("length", "offset"), [(0, 0), (1, 0), (10, PAGE - 5), (0, 3 * PAGE + 5), (5, 3 * PAGE)]
)
def test_exact_copies_are_of_the_whole_buffer(
    length: int, offset: int, mapping: MemoryMapping
) -> None:
    assert mapping.size == 3 * PAGE + 5
    content = known_bytes(mapping.size)
    buffer = bytearray(length)
    mapping.read_exact(buffer, offset)
    assert buffer == content[offset : offset + length]
    mapping.write_all(b"\xff" * length, Index(offset))
    assert mapping[:] == content[:offset] + b"\xff" * length + content[offset + length :]


@pytest.mark.parametrize(
    ("length", "offset"),
    [
        (1, 3 * PAGE + 5),
        (6, 3 * PAGE),
        (3 * PAGE + 6, 0),
        (0, 3 * PAGE + 6),
        (4, -1),
        (0, -1),
        (4, 2**63),
        (4, 2**64 - 4),
        (4, 2**64),
        (4, -(2**64)),
    ],
)
def test_exact_copy_past_the_end_is_refused_before_anything_is_copied(
    length: int, offset: int, mapping: MemoryMapping
) -> None:
    buffer = bytearray(length)
    calls: list[Callable[[], None]] = [
        lambda: mapping.read_exact(buffer, offset),
        lambda: mapping.write_all(b"\xff" * length, offset),
    ]
    for call in calls:
        with pytest.raises(InvalidRangeError) as caught:
            call()
        error = caught.value
        assert (error.offset, error.count, error.region_size) == (offset, length, mapping.size)
    assert buffer == bytes(length)
    assert mapping[:] == known_bytes(mapping.size)


def test_exact_copies_count_bytes_of_wider_items(mapping: MemoryMapping) -> None:
    words = np.zeros(3, dtype=np.uint32)
    mapping.read_exact(words, 1)
    assert words.tobytes() == known_bytes(13)[1:]
    mapping.write_all(array.array("d", [1.5]), 3)
    assert mapping[3:11] == struct.pack("d", 1.5)
    with pytest.raises(InvalidRangeError) as caught:
        mapping.write_all(array.array("d", [1.5]), mapping.size - 7)
    assert caught.value.count == 8


def test_write_all_of_the_region_itself_is_as_if_aside(mapping: MemoryMapping) -> None:
    content = known_bytes(mapping.size)
    with mapping.view(0, 2 * PAGE) as view:
        mapping.write_all(view, 7)
    assert mapping[:] == content[:7] + content[: 2 * PAGE] + content[2 * PAGE + 7 :]


def test_exact_copies_of_what_cannot_be_copied_are_refused(mapping: MemoryMapping) -> None:
    target: Any
    for target in (bytes(4), memoryview(bytes(4)), "text", None, 4, [0, 0]):
        with pytest.raises(TypeError, match="buffer must be a writable"):
            mapping.read_exact(target, 0)
    source: Any
    for source in ("text", None, 4, [0, 0]):
        with pytest.raises(TypeError, match="data must be a"):
            mapping.write_all(source, 0)
    offset: Any
    for offset in (0.0, "0", None):
        with pytest.raises(TypeError, match="offset must be an int"):
            mapping.read_exact(bytearray(4), offset)
        with pytest.raises(TypeError, match="offset must be an int"):
            mapping.write_all(b"abcd", offset)
    assert mapping[:] == known_bytes(mapping.size)


def test_exact_copies_need_the_access_of_the_bytes_they_copy(mapping: MemoryMapping) -> None:
    mapping.protect(READ, PAGE, PAGE)
    mapping.write_all(b"\xff" * 4, PAGE - 4)
    with pytest.raises(ProtectionError) as caught:
        mapping.write_all(b"\xee" * 5, PAGE - 4)
    assert (caught.value.required, caught.value.actual) == (WRITE, READ)
    mapping.protect(NONE, PAGE, PAGE)
    buffer = bytearray(4)
    mapping.read_exact(buffer, PAGE - 4)
    assert buffer == b"\xff" * 4
    with pytest.raises(ProtectionError) as caught:
        mapping.read_exact(bytearray(5), PAGE - 4)
    assert (caught.value.required, caught.value.actual) == (READ, NONE)


def test_read_slice_into_what_cannot_be_written_is_refused(mapping: MemoryMapping) -> None:
    constant = bytes(4)
    target: Any
    for target in (constant, memoryview(constant), "text", None, 4, [0, 0]):
        with pytest.raises((TypeError, BufferError)):
            mapping.read_slice(target, 0)
    assert constant == b"\0\0\0\0"


@pytest.mark.parametrize("data", ["text", None, 4, [0, 0]])
def test_write_slice_of_no_buffer_is_refused(data: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping.write_slice(data, 0)
    assert mapping[:] == known_bytes(mapping.size)


@pytest.mark.parametrize("kind", [memoryview, np.asarray])
def test_bytes_from_a_strided_buffer_are_refused(kind: Any, mapping: MemoryMapping) -> None:
    strided = kind(memoryview(bytearray(b"a-b-c-d-")))[::2]
    volatile = mapping.get_slice(0, 4)

    def assign() -> None:
        mapping[:4] = strided

    for name, take in (
        ("data", lambda: mapping.write_slice(strided, 0)),
        ("data", assign),
        ("needle", lambda: mapping.find(strided)),
        ("data", lambda: volatile.copy_from(strided)),
    ):
        with pytest.raises(TypeError, match=f"^{name} must be a contiguous bytes-like object$"):
            take()
    assert mapping[:] == known_bytes(mapping.size)


def test_slice_copy_of_a_strided_buffer_is_exact_or_refused(mapping: MemoryMapping) -> None:
    backing = np.full(16, 0xFF, dtype=np.uint8)
    try:
        copied = mapping.read_slice(backing[::2], 0)
    except (BufferError, TypeError, ValueError):
        assert backing.tobytes() == b"\xff" * 16
    else:
        assert copied == 8
        assert backing[::2].tobytes() == known_bytes(8)
        assert backing[1::2].tobytes() == b"\xff" * 8


def test_write_slice_of_its_own_overlapping_view_copies_as_if_aside(
    mapping: MemoryMapping,
) -> None:
    before = known_bytes(mapping.size)
    assert mapping.write_slice(mapping.view(0, PAGE), 1) == PAGE
    assert mapping[: PAGE + 1] == before[:1] + before[:PAGE]


# NumPy and the buffer protocol


def test_numpy_frombuffer_of_a_view_is_zero_copy(mapping: MemoryMapping) -> None:
    words = np.frombuffer(mapping.view(0, 2 * PAGE), dtype=np.uint32)
    assert words.ctypes.data == mapping.as_ptr()
    words[3] = 0x01020304
    assert mapping[12:16] == words[3:4].tobytes()
    assert mapping.live_views == 1


def test_numpy_asarray_is_zero_copy(mapping: MemoryMapping) -> None:
    whole = np.asarray(mapping)
    assert (whole.dtype, whole.shape) == (np.dtype(np.uint8), (mapping.size,))
    assert whole.ctypes.data == mapping.as_ptr()
    assert np.shares_memory(whole, np.frombuffer(mapping.view(), dtype=np.uint8))
    whole[PAGE] = 0
    assert mapping[PAGE] == 0
    assert mapping.live_views == 1
    del whole
    assert mapping.live_views == 0


def test_numpy_asarray_keeps_the_pages_after_close(mapping: MemoryMapping) -> None:
    address = mapping.as_ptr()
    whole = np.asarray(mapping)
    mapping.close()
    assert whole.tobytes() == known_bytes(3 * PAGE + 5)
    assert is_mapped(address)
    del whole
    gc.collect()
    assert not is_mapped(address)


def test_numpy_asarray_of_a_read_only_mapping_is_read_only(
    read_only: MemoryMapping, known_file: KnownFile
) -> None:
    whole = np.asarray(read_only)
    assert not whole.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        whole[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        whole.flags.writeable = True
    assert whole.tobytes() == known_file.content


def test_numpy_asarray_of_an_unreadable_mapping_is_refused() -> None:
    with MemoryMapping.anonymous(PAGE, prot=Protection.none()) as m:
        with pytest.raises((ProtectionError, BufferError)):
            np.asarray(m)
        assert m.live_views == 0


def test_numpy_asarray_of_a_closed_mapping_is_refused(mapping: MemoryMapping) -> None:
    mapping.close()
    with pytest.raises(ClosedMappingError):
        np.asarray(mapping)


def test_buffer_memoryview_is_the_memory_itself(mapping: MemoryMapping) -> None:
    view = memoryview(mapping)
    assert (view.format, view.nbytes, view.readonly) == ("B", mapping.size, False)
    assert mapping.live_views == 1
    view[0] = 99
    assert mapping[0] == 99
    view.release()
    assert mapping.live_views == 0


def test_object_of_a_view_gives_the_same_view_again(
    mapping: MemoryMapping, read_only: MemoryMapping
) -> None:
    for region, is_readonly in ((mapping, False), (read_only, True)):
        for view in (memoryview(region), region.view(), region.view(3, 5)):
            count = region.live_views
            with memoryview(view.obj) as again:
                assert again == view
                assert again.readonly == view.readonly == is_readonly
                assert region.live_views == count


def test_object_of_a_view_keeps_the_pages_after_close(mapping: MemoryMapping) -> None:
    address, exported = mapping.as_ptr(), mapping.view(0, 9).obj
    assert mapping.live_views == 1
    mapping.close()
    gc.collect()
    assert is_mapped(address)
    assert memoryview(exported) == known_bytes(9)
    del exported
    gc.collect()
    assert not is_mapped(address)


def test_buffer_numpy_frombuffer_is_zero_copy(mapping: MemoryMapping) -> None:
    whole = np.frombuffer(mapping, dtype=np.uint8)
    assert whole.ctypes.data == mapping.as_ptr()
    assert whole.size == mapping.size


def test_buffer_keeps_the_pages_after_close(mapping: MemoryMapping) -> None:
    address = mapping.as_ptr()
    view = memoryview(mapping)
    mapping.close()
    assert view == known_bytes(3 * PAGE + 5)
    del view
    gc.collect()
    assert not is_mapped(address)


def test_buffer_of_a_read_only_mapping_is_read_only(
    read_only: MemoryMapping, known_file: KnownFile
) -> None:
    assert memoryview(read_only).readonly
    assert bytes(read_only) == known_file.content
    with pytest.raises((BufferError, TypeError)):
        io.BytesIO(b"x").readinto(read_only)
    with pytest.raises((BufferError, TypeError)):
        struct.pack_into("B", read_only, 0, 1)
    assert known_file.path.read_bytes() == known_file.content
    assert read_only.live_views == 0


def test_buffer_is_taken_by_whoever_takes_buffers(mapping: MemoryMapping) -> None:
    assert hashlib.sha256(mapping).digest() == hashlib.sha256(known_bytes(mapping.size)).digest()
    assert io.BytesIO(b"abc").readinto(mapping) == 3
    assert mapping[:4] == b"abc" + known_bytes(4)[3:]
    assert mapping.live_views == 0


def test_buffer_of_a_closed_or_unreadable_mapping_is_refused(mapping: MemoryMapping) -> None:
    mapping.close()
    with pytest.raises(ClosedMappingError):
        memoryview(mapping)
    with (
        MemoryMapping.anonymous(PAGE, prot=Protection.none()) as m,
        pytest.raises((ProtectionError, BufferError)),
    ):
        memoryview(m)


def test_closed_mapping_as_the_buffer_of_a_call_says_so(mapping: MemoryMapping) -> None:
    with MemoryMapping.new(PAGE) as other:
        mapping.close()
        calls: list[Callable[[], object]] = [
            lambda: other.find(mapping),
            lambda: other.write_slice(mapping, 0),
            lambda: other.read_slice(mapping, 0),
        ]
        for call in calls:
            with pytest.raises(ClosedMappingError):
                call()


# Protection


def _writes(m: MemoryMapping) -> list[Callable[[], object]]:
    def assign_index() -> None:
        m[0] = 1

    def assign_slice() -> None:
        m[0:1] = b"x"

    def assign_steps() -> None:
        m[0:4:2] = b"xy"

    return [assign_index, assign_slice, assign_steps, lambda: m.write_slice(b"x", 0)]


def _reads(m: MemoryMapping) -> list[Callable[[], object]]:
    return [
        lambda: m[0],
        lambda: m[0:1],
        lambda: m[::3],
        m.view,
        lambda: m.view(0, 1),
        lambda: m.read_slice(bytearray(1), 0),
    ]


def test_read_only_mapping_reads_and_refuses_writes(
    read_only: MemoryMapping, known_file: KnownFile
) -> None:
    for write in _writes(read_only):
        with pytest.raises(ProtectionError) as caught:
            write()
        assert isinstance(caught.value, TypeError)
        assert caught.value.required.allows(Protection.write())
        assert caught.value.actual == READ
    assert read_only[:] == known_file.content
    view = read_only.view()
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1
    assert known_file.path.read_bytes() == known_file.content


@pytest.mark.parametrize("prot", [Protection.none(), Protection.write()], ids=["none", "write"])
def test_unreadable_mapping_refuses_reads(prot: Protection) -> None:
    with MemoryMapping.anonymous(PAGE, prot=prot) as m:
        for read in _reads(m):
            with pytest.raises(ProtectionError) as caught:
                read()
            assert caught.value.required.allows(READ)
            assert caught.value.actual == prot
        assert m.live_views == 0


def test_write_only_mapping_is_written_and_not_read(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, prot=Protection.write()) as m:
        assert m.write_slice(b"\0\0", 0) == 2
        m[2] = 0
        m[3:5] = b"\0\0"
        with pytest.raises(ProtectionError):
            m[0]
    assert known_file.path.read_bytes() == bytes(5) + known_file.content[5:]


def test_mapping_without_access_refuses_reads_and_writes() -> None:
    with MemoryMapping.anonymous(PAGE, prot=Protection.none()) as m:
        for access in _reads(m) + _writes(m):
            with pytest.raises(ProtectionError):
                access()


def test_protected_pages_are_refused_and_the_others_are_not(mapping: MemoryMapping) -> None:
    mapping.protect(READ, PAGE, PAGE)
    mapping.protect(Protection.none(), 2 * PAGE)
    mapping[PAGE - 1] = 9
    assert mapping[PAGE - 1] == 9
    assert mapping[PAGE] == known_bytes(PAGE + 1)[-1]
    for index in (PAGE, 2 * PAGE - 1):
        with pytest.raises(ProtectionError) as caught:
            mapping[index] = 1
        assert caught.value.actual == READ
    for index in (2 * PAGE, 3 * PAGE + 4, -1):
        with pytest.raises(ProtectionError) as caught:
            mapping[index]
        assert caught.value.actual == Protection.none()
    with pytest.raises(ProtectionError):
        mapping[0 : PAGE + 1] = bytes(PAGE + 1)
    with pytest.raises(ProtectionError):
        mapping[PAGE : 2 * PAGE + 1]
    with pytest.raises(ProtectionError):
        mapping.write_slice(bytes(PAGE + 2), 0)
    assert mapping[: PAGE - 1] == known_bytes(PAGE - 1)  # nothing of it was written


def test_view_across_protections_is_what_all_of_it_allows(mapping: MemoryMapping) -> None:
    mapping.protect(READ, PAGE, PAGE)
    mapping.protect(Protection.none(), 2 * PAGE)
    assert not mapping.view(0, PAGE).readonly
    assert mapping.view(0, PAGE + 1).readonly
    assert mapping.view(PAGE, PAGE).readonly
    for offset, count in ((0, None), (PAGE, PAGE + 1), (2 * PAGE, 1)):
        with pytest.raises(ProtectionError):
            mapping.view(offset, count)
    # A view of nothing touches nothing.
    assert len(mapping.view(2 * PAGE, 0)) == 0


# Closing


def test_close_makes_every_use_an_error(mapping: MemoryMapping) -> None:
    mapping.close()
    assert mapping.closed
    uses: list[Callable[[], object]] = [
        *_reads(mapping),
        *_writes(mapping),
        lambda: mapping[:],
        mapping.as_ptr,
        lambda: mapping.range_end(0, 1),
        lambda: mapping.write_slice(b"", 0),
    ]
    for use in uses:
        with pytest.raises(ClosedMappingError) as caught:
            use()
        assert isinstance(caught.value, ValueError)
    with pytest.raises(ClosedMappingError), mapping:
        pass


def test_close_may_be_repeated_and_unmaps_once(mapping: MemoryMapping) -> None:
    address = mapping.as_ptr()
    mapping.close()
    assert not is_mapped(address, 4 * PAGE)
    # What moves in at the address is not the closed mapping's to unmap.
    with MemoryMapping.new_protection_fixed(address, 4 * PAGE, RW) as other:
        other[0] = 5
        mapping.close()
        assert other[0] == 5
        del mapping
        gc.collect()
        assert other[0] == 5


def test_close_with_live_views_keeps_the_pages_until_the_last_goes(
    mapping: MemoryMapping,
) -> None:
    address = mapping.as_ptr()
    view = mapping.view()
    part = mapping.view(PAGE, 10)[2:4]
    mapping.close()
    assert mapping.closed
    view[0] = 200
    assert bytes(view) == b"\xc8" + known_bytes(3 * PAGE + 5)[1:]
    with pytest.raises(ClosedMappingError):
        mapping[0]
    del view
    gc.collect()
    assert perms(address, 4 * PAGE) == ["rw-s"] * 4
    assert part == known_bytes(PAGE + 4)[-2:]
    del part
    gc.collect()
    assert not is_mapped(address, 4 * PAGE)


def test_close_by_with_and_a_live_view_does_not_fail() -> None:
    with MemoryMapping.new(PAGE) as m:
        view = m.view()
        m[:3] = b"abc"
    assert m.closed
    assert bytes(view[:3]) == b"abc"


def test_dropped_mapping_with_a_live_view_keeps_the_pages() -> None:
    m = MemoryMapping.new(PAGE)
    address = m.as_ptr()
    view = m.view(0, 3)
    del m
    gc.collect()
    view[:] = b"abc"
    assert bytes(view) == b"abc"
    assert is_mapped(address)
    view.release()
    del view
    gc.collect()
    assert not is_mapped(address)


def test_close_leaves_nothing_of_many_views() -> None:
    with process_unchanged():
        m = MemoryMapping.new(PAGE)
        views = [m.view(i, 1) for i in range(1000)]
        assert m.live_views == 1000
        m.close()
        del m, views
        gc.collect()


# Files and other processes


def test_private_mapping_leaves_the_file_as_it_was(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as m:
        m[:] = bytes(m.size)
        m.msync()
        assert m[:] == bytes(m.size)
        seen = child(
            "import sys; print(open(sys.argv[1], 'rb').read().hex())", known_file.path
        ).succeeded()
        assert bytes.fromhex(seen) == known_file.content
    assert known_file.path.read_bytes() == known_file.content


def test_shared_mapping_synced_is_read_by_another_process(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        m[PAGE : PAGE + 5] = b"hello"
        m.view()[3 * PAGE] = 0
        m.msync()
        seen = child(
            "import sys; print(open(sys.argv[1], 'rb').read().hex())", known_file.path
        ).succeeded()
    expected = bytearray(known_file.content)
    expected[PAGE : PAGE + 5] = b"hello"
    expected[3 * PAGE] = 0
    assert bytes.fromhex(seen) == expected


def test_shared_mapping_shows_what_another_process_maps_and_writes(
    known_file: KnownFile,
) -> None:
    program = """
        import sys
        from mmapwrap import MemoryMapping

        with MemoryMapping.from_file(sys.argv[1], 4, offset=5) as m:
            m[:] = b"ABCD"
    """
    with MemoryMapping.from_file(known_file.path) as m:
        view = m.view()
        child(program, known_file.path).succeeded()
        assert m[4:10] == view[4:10] == known_file.content[4:5] + b"ABCD" + known_file.content[9:10]


def test_anonymous_shared_mapping_is_shared_with_a_forked_child() -> None:
    program = """
        import os
        from mmapwrap import MemoryMapping, Sharing

        shared = MemoryMapping.new(4096)
        private = MemoryMapping.anonymous(4096, sharing=Sharing.PRIVATE)
        if os.fork() == 0:
            shared[0] = private[0] = 7
            shared.close()
            os._exit(0)
        assert os.wait()[1] == 0
        print(shared[0], private[0])
    """
    assert child(program).succeeded() == "7 0\n"


def test_page_that_a_truncated_file_lost_is_an_error_and_not_a_signal(
    known_file: KnownFile,
) -> None:
    program = """
        import os, sys
        from kernel_view import PAGE
        from mmapwrap import MappingFaultError, MemoryMapping

        uses = [
            lambda m: m[9 * PAGE],
            lambda m: m[:],
            lambda m: m.read_slice(bytearray(16 * PAGE), 0),
            lambda m: m.write_slice(b"x", 9 * PAGE),
        ]
        mappings = [MemoryMapping.from_file(sys.argv[1]) for _ in uses]
        os.truncate(sys.argv[1], 8 * PAGE)
        for m, use in zip(mappings, uses):
            print(m[8 * PAGE - 1])
            try:
                use(m)
            except MappingFaultError as error:
                assert isinstance(error, OSError)
                print("lost", 8 * PAGE <= error.offset < 16 * PAGE, error.pages >= 1)
    """
    last = known_file.content[8 * PAGE - 1]
    expected = f"{last}\nlost True True\n" * 4
    assert child(program, known_file.path).succeeded() == expected


# What a mapping is


def test_mapping_compares_by_identity(known_file: KnownFile) -> None:
    with (
        MemoryMapping.from_file(known_file.path) as one,
        MemoryMapping.from_file(known_file.path) as other,
    ):
        assert one == one  # noqa: PLR0124
        assert one != other
        assert len({one, other}) == 2


def test_view_reading_brings_pages_in_and_making_one_does_not() -> None:
    with MemoryMapping.new(4 * PAGE) as m:
        view = m.view()
        assert resident_pages(m.as_ptr(), m.size) == bytes(4)
        view[2 * PAGE] = 1
        assert resident_pages(m.as_ptr(), m.size) == b"\0\0\1\0"


def test_mapping_of_a_replaced_file_keeps_the_old_one(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        replacement = known_file.path.with_name("replacement")
        replacement.write_bytes(b"new")
        replacement.replace(known_file.path)
        assert m[:] == known_file.content
        m.msync()
    assert known_file.path.read_bytes() == b"new"


# --- move ----------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_move_is_that_of_a_bytearray(target: int, source: int, count: int) -> None:
    content = bytearray(known_bytes(60))
    with MemoryMapping.anonymous(60) as m:
        m.write_slice(content, 0)
        if max(target, source) + count > 60:
            with pytest.raises(InvalidRangeError):
                m.move(target, source, count)
        else:
            m.move(Index(target), Index(source), Index(count))
            content[target : target + count] = content[source : source + count]
        assert m[:] == content


def test_move_checks_both_ranges_and_both_accesses() -> None:
    with MemoryMapping.anonymous(3 * PAGE) as m:
        m.protect(READ, PAGE, PAGE)
        m.move(0, PAGE, PAGE)
        with pytest.raises(ProtectionError) as caught:
            m.move(PAGE - 1, 0, 2)
        assert caught.value.range == (PAGE - 1, 2)
        for arguments in [(-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 2**64, 1), (2**70, 0, 1)]:
            with pytest.raises(InvalidRangeError):
                m.move(*arguments)
    with pytest.raises(ClosedMappingError):
        m.move(0, 0, 0)


def test_move_from_a_missing_page_is_a_fault(disk_path: Path) -> None:
    path = disk_path / "file"
    path.write_bytes(bytes(3 * PAGE))
    with MemoryMapping.from_file(path) as m:
        os.truncate(path, PAGE)
        for arguments in [(0, 2 * PAGE, 5), (2 * PAGE, 0, 5)]:
            with pytest.raises(MappingFaultError) as caught:
                m.move(*arguments)
            assert caught.value.offset == 2 * PAGE
        m.move(0, 10, 20)
