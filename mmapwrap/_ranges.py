"""Ranges of bytes: whether one lies inside a region, and what differs from range to range."""

from bisect import bisect_right
from operator import index, itemgetter
from typing import Generic, SupportsIndex, TypeVar

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


class RangeMap(Generic[T]):
    """A value for each byte of a region, the same over long ranges.

    The ranges are kept in order and found by bisection; neighbours of equal value are one range. A
    change is one assignment to a slice of the list, and what is read is a copy of one slice: nobody
    ever sees half of a change. Changes take turns by the lock of whoever has the map; other threads
    and signal handlers may ask at any time.
    """

    __slots__ = ("_ranges", "_size")

    def __init__(self, size: int, value: T) -> None:
        self._size = size
        self._ranges = [(0, value), (size, value)]
        """Where each starts, and its value; the last is none, but where the region ends."""

    def __len__(self) -> int:
        return len(self._ranges) - 1

    def assign(self, start: int, end: int, value: T) -> None:
        """Gives the bytes from `start` to `end` this value."""
        if end > self._size:  # noqa: PLR1730  # every access comes by: min() takes time
            end = self._size
        if start >= end:
            return
        ranges = self._ranges
        first, touched = self._touched(start, end)
        following = first + len(touched) - 1
        changed = [(start, value)]
        if touched[0][0] < start:
            changed.insert(0, touched[0])
        elif first > 0:
            first -= 1
            changed.insert(0, ranges[first])
        if changed[0][1] == value:
            del changed[1:]
        last, after = touched[-2:]
        if end < after[0]:
            if last[1] != value:
                changed.append((end, last[1]))
        elif after[1] == value and following + 1 < len(ranges):
            following += 1
        ranges[first:following] = changed

    def pieces(self, start: int, end: int) -> list[tuple[int, int, T]]:
        """The ranges of one value between `start` and `end`, as (start, end, value), in order."""
        if end > self._size:  # noqa: PLR1730  # every access comes by: min() takes time
            end = self._size
        if start >= end:
            return []
        _, touched = self._touched(start, end)
        if len(touched) == 2:  # one, and what follows it
            return [(start, end, touched[0][1])]
        edges = [start, *(at for at, _ in touched[1:-1]), end]
        return [
            (at, stop, value)
            for at, stop, (_, value) in zip(edges[:-1], edges[1:], touched[:-1], strict=True)
        ]

    def _touched(self, start: int, end: int) -> tuple[int, list[tuple[int, T]]]:
        """The ranges that have a byte in this one, and what follows: where in the list, and copied.

        Between search and copy another thread may change the list: the copy itself shows whether
        it is what was searched for.
        """
        while True:
            first = self._index(start)
            touched = self._ranges[first : first + 2]
            if touched and touched[-1][0] < end:
                touched = self._ranges[first : self._index(end - 1) + 2]
            if (
                len(touched) > 1
                and touched[0][0] <= start < touched[1][0]
                and touched[-2][0] < end <= touched[-1][0]
            ):
                return first, touched

    def _index(self, position: int) -> int:
        return bisect_right(self._ranges, position, key=itemgetter(0)) - 1
