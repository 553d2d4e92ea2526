"""NumPy arrays over a region's pages."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, SupportsIndex, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmapwrap._core import buffers, calls
from mmapwrap._core.arguments import as_integer
from mmapwrap._core.constants import PROT_READ
from mmapwrap._core.pages import Pages
from mmapwrap.errors import (
    ClosedMappingError,
    InvalidArgumentError,
    shown,
)


def array_over(
    pages: Pages,
    dtype: DTypeLike,
    shape: SupportsIndex | Sequence[SupportsIndex] | None,
    offset: int,
    order: str,
) -> NDArray[Any]:
    """Return an array of the pages' own memory, which counts as a live view.

    Raises:
        InvalidRangeError: The array is not inside the region.
        InvalidArgumentError: NumPy allows no such array, or it would be of Python objects.
    """
    items = np.dtype(dtype)
    if items.hasobject:
        raise InvalidArgumentError(f"dtype {items} holds Python objects, which memory cannot keep")
    lengths = _whole_items(pages, items, offset) if shape is None else _lengths(shape)
    if pages.is_closed:  # an `__index__` of the shape has closed the region
        raise ClosedMappingError
    count = prod(lengths) * items.itemsize
    memory = memoryview(pages.export(offset, count))
    try:
        return np.ndarray(lengths, items, memory, order=cast("Literal['C', 'F']", order))
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"shape {lengths} of {items}: {error}") from None


def _whole_items(pages: Pages, items: "np.dtype[Any]", offset: int) -> tuple[int]:
    """Return the number of items from an offset to the region's end.

    Raises:
        InvalidArgumentError: The last of them is cut off, or they have no bytes.
    """
    if items.itemsize == 0:
        raise InvalidArgumentError(f"dtype {items} has no bytes: give a shape")
    start, end = pages.checked_range(offset, None)
    count, rest = divmod(end - start, items.itemsize)
    if rest:
        there = f"the {end - start} bytes from offset {start} on"
        raise InvalidArgumentError(
            f"{there} are {count} items of {items.itemsize} bytes and {rest} more: give a shape"
        )
    return (count,)


def _lengths(shape: SupportsIndex | Sequence[SupportsIndex]) -> tuple[int, ...]:
    """Return the length of each dimension."""
    if type(shape) is int:
        lengths: tuple[int, ...] = (shape,)
    elif _has_items(shape):
        lengths = tuple([as_integer(length, "shape") for length in cast("list[Any]", shape)])
    elif hasattr(shape, "__index__"):
        lengths = (as_integer(cast("SupportsIndex", shape), "shape"),)
    else:
        raise TypeError(f"shape must be an int or a tuple of ints, not {type(shape).__name__}")
    if min(lengths, default=0) < 0:
        raise InvalidArgumentError(f"shape has a negative dimension, {shown(min(lengths))}")
    return lengths


def _has_items(shape: object) -> bool:
    """Return whether a shape is a sequence; a string is none, nor is an array of no dimension."""
    if isinstance(shape, np.ndarray):
        return shape.ndim > 0
    return isinstance(shape, Sequence) and not isinstance(shape, str | bytes)


def array_of(pages: Pages, dtype: Any, *, copy: bool | None) -> Any:
    """Return all of the pages as an array of bytes, or a copy of another dtype.

    Raises:
        ValueError: `copy` is False, and the dtype needs a copy.
        OutOfMemoryError: There is no memory for the copy.
    """
    wanted = np.dtype(np.uint8 if dtype is None else dtype)
    if wanted == np.uint8 and not copy:
        return np.frombuffer(memoryview(pages.export(0, None)), np.uint8)
    if copy is False:
        raise ValueError("a region is bytes: another dtype needs a copy")
    size = pages.size
    try:
        content = bytearray(size)
    except MemoryError:
        raise buffers.out_of_memory(size) from None
    memory = buffers.bytes_to_fill(content)
    try:
        pages.run_on_range(calls.read, 0, len(content), memory, PROT_READ)
    finally:
        buffers.release(memory)
    try:
        return np.frombuffer(content, np.uint8).astype(wanted, copy=False)
    except MemoryError:
        raise buffers.out_of_memory(size * wanted.itemsize) from None
