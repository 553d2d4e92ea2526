"""Ranges of bytes: whether one lies inside a region, and what differs from range to range."""

from bisect import bisect_right
from operator import index
from typing import Final, Generic, SupportsIndex, TypeVar

import attrs

from mmapwrap.errors import InvalidRangeError

T = TypeVar("T")


def range_end(offset: SupportsIndex, count: SupportsIndex, region_size: SupportsIndex) -> int:
    """Returns `offset + count`, in bytes, of a range that a region of this size holds.

    Raises:
        InvalidRangeError: The range starts before the region or ends after it.
    """
    start, length, size = index(offset), index(count), index(region_size)
    if start < 0 or length < 0 or start + length > size:
        raise InvalidRangeError(start, length, size)
    return start + length


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
        return max(self.offset, other.offset) < min(self.end, other.end)

    def widened(self, page_size: int) -> "ByteRange":
        """The whole pages that the range touches; none where it has no bytes."""
        if not self.count:
            return self
        offset = self.offset // page_size * page_size
        return ByteRange(offset, -(-self.end // page_size) * page_size - offset)


_PAST_ALL: Final = 2**65


class RangeMap(Generic[T]):
    """A value for each byte of a region, the same over long ranges.

    The ranges are kept in order and found by bisection; neighbours of equal value are one range. A
    change is one assignment to a slice of the list. Changes take turns by the lock of whoever has
    the map; other threads, signal handlers and finalizers may ask at any time, and get each range
    as it is when they come to it.
    """

    __slots__ = ("_ranges", "_size")

    def __init__(self, size: int, value: T) -> None:
        self._size = size
        self._ranges = [(0, size, value)]

    def __len__(self) -> int:
        return len(self._ranges)

    def assign(self, start: int, end: int, value: T) -> None:
        """Gives the bytes from `start` to `end` this value."""
        if end > self._size:  # noqa: PLR1730  # every access comes by: min() takes time
            end = self._size
        if start >= end:
            return
        ranges = self._ranges
        first = last = self._index(start)
        if ranges[first][1] < end:
            last = self._index(end - 1)
        if ranges[first][0] == start and first > 0:
            first -= 1
        if ranges[last][1] == end and last < len(ranges) - 1:
            last += 1
        before, after = ranges[first], ranges[last]
        changed: list[tuple[int, int, T]] = []
        if before[0] < start and before[2] != value:
            changed.append((before[0], start, before[2]))
            before = (start, end, value)
        stop = after[1] if after[2] == value and after[1] > end else end
        changed.append((min(before[0], start), stop, value))
        if after[1] > stop:
            changed.append((end, after[1], after[2]))
        ranges[first : last + 1] = changed

    def pieces(self, start: int, end: int) -> list[tuple[int, int, T]]:
        """The ranges of one value between `start` and `end`, as (start, end, value), in order."""
        if end > self._size:  # noqa: PLR1730  # see above
            end = self._size
        if start >= end:
            return []
        ranges = self._ranges
        found: list[tuple[int, int, T]] = []
        at = self._index(start)
        while True:
            try:
                # Not a slice: while Python 3.11 copies one, a finalizer may shorten the list.
                first, last, value = ranges[at]
            except IndexError:  # it is shorter now
                at = self._index(start)
                continue
            if not first <= start < last:  # it has changed
                at = self._index(start)
            elif last < end:
                found.append((start, last, value))
                start = last
                at += 1
            else:
                found.append((start, end, value))
                return found

    def _index(self, position: int) -> int:
        while True:
            try:
                # Tuples, and not a key: comparing them creates nothing, so no finalizer comes in
                # between.
                return bisect_right(self._ranges, (position, _PAST_ALL)) - 1
            except IndexError:  # pragma: no cover  # the list became shorter: only without a GIL
                continue
