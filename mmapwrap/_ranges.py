"""Ranges of bytes: whether one lies inside a region, and what differs from range to range."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs

from mmapwrap.errors import InvalidRangeError

T = TypeVar("T")


def range_end(offset: int, count: int, region_size: int) -> int:
    """Returns `offset + count`, in bytes, of a range that a region of this size holds.

    Raises:
        InvalidRangeError: The range starts before the region or ends after it.
    """
    if offset < 0 or count < 0 or offset + count > region_size:
        raise InvalidRangeError(offset, count, region_size)
    return offset + count


@attrs.frozen
class ByteRange:
    """`count` bytes from `offset` on.

    Args:
        offset: The first byte, 0 or more.
        count: The number of bytes, 0 or more.

    Raises:
        InvalidRangeError: A number is negative, or the end is past 2**64.
    """

    offset: int
    count: int

    def __attrs_post_init__(self) -> None:
        self.range_end(2**64)

    @property
    def end(self) -> int:
        """The first byte after the range."""
        return self.offset + self.count

    def range_end(self, region_size: int) -> int:
        """Returns the end of the range inside a region of `region_size` bytes.

        Raises:
            InvalidRangeError: The region does not hold the range.
        """
        return range_end(self.offset, self.count, region_size)

    def overlaps(self, other: "ByteRange") -> bool:
        """Whether some byte is in both."""
        return self.offset < other.end and other.offset < self.end and bool(self.count)

    def widened(self, page_size: int) -> "ByteRange":
        """The whole pages that the range touches."""
        offset = self.offset // page_size * page_size
        return ByteRange(offset, -(-self.end // page_size) * page_size - offset)


class RangeMap(Generic[T]):
    """A value for each byte of a region, the same over long ranges.

    Ranges are kept in order and found by bisection; neighbours of equal value are one range.
    """

    __slots__ = ("_size", "_starts", "_values")

    def __init__(self, size: int, value: T) -> None:
        self._size = size
        self._starts = [0]
        self._values = [value]

    def __len__(self) -> int:
        return len(self._starts)

    def assign(self, start: int, end: int, value: T) -> None:
        """Gives the bytes from `start` to `end` this value."""
        if start >= end:
            return
        first = self._cut(start)
        last = self._cut(end)
        # One slice assignment a list, so that nobody sees a range half changed for long.
        starts, values = [start], [value]
        if first > 0 and self._values[first - 1] == value:
            starts, values = [], []
        if last < len(self._starts) and self._values[last] == value:
            last += 1
        self._starts[first:last] = starts
        self._values[first:last] = values

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, T]]:
        """The ranges of one value between `start` and `end`, as (start, end, value), in order."""
        index = bisect_right(self._starts, start) - 1
        while start < end:
            following = index + 1
            stop = self._starts[following] if following < len(self._starts) else self._size
            yield start, min(stop, end), self._values[index]
            start, index = stop, following

    def _cut(self, position: int) -> int:
        """Makes a range start at the position, and returns its index."""
        index = bisect_right(self._starts, position) - 1
        if self._starts[index] == position:
            return index
        if position < self._size:
            self._starts.insert(index + 1, position)
            self._values.insert(index + 1, self._values[index])
        return index + 1
