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
    change is one assignment to a slice of the list: nobody ever sees half of it. Threads take turns
    by the lock of whoever has the map; a signal handler may ask at any time.
    """

    __slots__ = ("_changes", "_ranges", "_size")

    def __init__(self, size: int, value: T) -> None:
        self._size = size
        self._ranges = [(0, value)]
        self._changes = 0

    def __len__(self) -> int:
        return len(self._ranges)

    def assign(self, start: int, end: int, value: T) -> None:
        """Gives the bytes from `start` to `end` this value."""
        if start >= end:
            return
        ranges = self._ranges
        first, last = self._touched(start, end)
        changed = [(start, value)]
        if ranges[first][0] < start:
            changed.insert(0, ranges[first])
        elif first > 0:
            first -= 1
            changed.insert(0, ranges[first])
        if changed[0][1] == value:
            del changed[1:]
        if end < self._end(last):
            after = (end, ranges[last][1])
        elif end < self._size:
            last += 1
            after = ranges[last]
        else:
            after = None
        if after is not None and after[1] != value:
            changed.append(after)
        self._changes += 1
        ranges[first : last + 1] = changed

    def pieces(self, start: int, end: int) -> list[tuple[int, int, T]]:
        """The ranges of one value between `start` and `end`, as (start, end, value), in order."""
        if start >= end:
            return []
        changes = -1
        found: list[tuple[int, T]] = []
        while changes != self._changes:  # until no handler came between the search and the copy
            changes = self._changes
            first, last = self._touched(start, end)
            found = self._ranges[first : last + 1]
        if len(found) == 1:
            return [(start, end, found[0][1])]
        starts = [start, *(at for at, _ in found[1:])]
        return [
            (at, stop, value)
            for at, stop, (_, value) in zip(starts, [*starts[1:], end], found, strict=True)
        ]

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last of the list's ranges that have a byte in this one."""
        first = self._index(start)
        following = self._ranges[first + 1 : first + 2]
        is_alone = not following or end <= following[0][0]
        return first, first if is_alone else self._index(end - 1)

    def _index(self, position: int) -> int:
        return bisect_right(self._ranges, position, key=itemgetter(0)) - 1

    def _end(self, at: int) -> int:
        return self._ranges[at + 1][0] if at + 1 < len(self._ranges) else self._size
