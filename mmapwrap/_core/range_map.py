"""RangeMap: a value for each byte of a region, by range."""

from bisect import bisect_right
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_PAST_ALL: Final = 2**65


class RangeMap(Generic[T]):
    """A value for each byte of a region, the same over long ranges.

    The ranges are kept in order and found by bisection; neighbours of equal value are one range. A
    change is one assignment to a slice of the list. The owner of the map has a lock under which
    only one change runs; other threads, signal handlers and finalizers may read at any time, and
    read each range as it is at that moment.
    """

    __slots__ = ("_ranges", "_size")

    def __init__(self, size: int, value: T) -> None:
        self._size = size
        self._ranges = [(0, size, value)]

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def size(self) -> int:
        """The bytes that have a value."""
        return self._size

    @property
    def last(self) -> T:
        """The value of the last byte; of a map without bytes, what a byte would have."""
        return self._ranges[-1][2]

    def assign(self, start: int, end: int, value: T) -> None:
        """Give the bytes from `start` to `end` this value."""
        if end > self._size:  # noqa: PLR1730  # on the way of every access: min() is slower
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

    def resize(self, size: int) -> None:
        """Give the map another size: what is added has the value of the last range."""
        first, _, value = self._ranges[-1]
        if size > first or first == 0:
            self._ranges[-1] = first, size, value
            self._size = size
            return
        self._size = size
        self._ranges[:] = [
            (start, min(end, size), each) for start, end, each in self._ranges if start < size
        ] or [(0, 0, self._ranges[0][2])]

    def pieces(self, start: int, end: int) -> list[tuple[int, int, T]]:
        """Return the ranges of one value between two offsets, as (start, end, value), in order."""
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
            except IndexError:  # the list is shorter now
                first, last, value = 0, 0, ranges[0][2]
            if not first <= start < last:  # the range has changed
                if start >= self._size:  # there is no more of it
                    return found
                at = self._index(start)
            elif last < end:
                found.append((start, last, value))
                start = last
                at += 1
            else:
                found.append((start, end, value))
                return found

    def _index(self, offset: int) -> int:
        """Return the index of the range that holds a byte."""
        while True:
            try:
                # Tuples, and not a key: comparing them creates no object, so no finalizer runs
                # during the bisection.
                return bisect_right(self._ranges, (offset, _PAST_ALL)) - 1
            except IndexError:  # pragma: no cover  # the list became shorter: only without a GIL
                continue
