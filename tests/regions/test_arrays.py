"""Arrays of NumPy over a region, and conversions to them."""

from typing import Any

import numpy as np
import pytest
from kernel_view import PAGE, in_process, say

from mmapwrap import InvalidArgumentError, MemoryMapping, Protection, ViewsExportedError


def test_array_of_another_type_is_a_copy_or_refused() -> None:
    with MemoryMapping.new(8) as mapping:
        mapping[:] = bytes(range(8))
        widened = np.asarray(mapping, dtype=np.uint16)
        assert widened.tolist() == list(range(8))
        copied = mapping.__array__(np.uint16)
        assert copied.tolist() == list(range(8))
        with pytest.raises(ValueError, match="another dtype"):
            mapping.__array__(np.uint16, copy=False)
        copied = mapping.__array__(copy=True)
        copied[0] = 9
        assert mapping[0] == 0
        assert np.shares_memory(mapping.__array__(np.uint8, copy=False), np.asarray(mapping))


def array_of_a_region(form: str) -> None:
    size = 1 << 24  # a chunk of this size is unmapped at once when nobody holds it
    m = MemoryMapping.new(size)
    m[0] = 7
    array: np.ndarray[Any, np.dtype[np.uint8]]
    if form == "frombuffer":
        array = np.frombuffer(m, np.uint8)
        m.close()
    elif form == "ndarray":
        with m:
            array = np.ndarray((size,), np.uint8, buffer=m)
    elif form == "protect":
        array = np.frombuffer(m, np.uint8)
        with pytest.raises(ViewsExportedError):
            m.protect(Protection.none())
    else:
        array = np.ndarray((size,), np.uint8, buffer=memoryview(m))
        del m
    say(array[0], array.sum())


@pytest.mark.parametrize("form", ["frombuffer", "ndarray", "protect", "ndarray of a memoryview"])
def test_numpy_array_of_a_region_outlives_what_is_done_to_it(form: str) -> None:
    assert in_process(array_of_a_region, form).succeeded() == "7 7\n"


def copy_into_objects() -> None:
    m = MemoryMapping.new(PAGE)
    m[0:64] = b"\x41" * 64
    array = np.array([object() for _ in range(8)], dtype=object)
    with pytest.raises(InvalidArgumentError, match="object"):
        m.read_slice(array, 0)
    say(type(array[0]).__name__)


def test_copy_into_an_array_of_python_objects_is_refused() -> None:
    assert in_process(copy_into_objects).succeeded() == "object\n"
