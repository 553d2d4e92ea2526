"""LockedRanges: the pages that a region has locked. The kernel does not list them."""

import os
from typing import Final, TypeAlias

_FEWEST_TO_MERGE: Final = 64

Ranges: TypeAlias = tuple[tuple[int, int], ...]


class LockCall:
    """A call that locks a range of whole pages, or has locked it.

    Args:
        start: The range's first byte.
        end: The byte after its last.
    """

    __slots__ = ("end", "is_under_way", "ranges", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start: Final = start
        self.end: Final = end
        self.ranges: Ranges = ((start, end),)
        """What is left of the range: other calls may have unlocked or replaced some of it."""
        self.is_under_way: bool = False


class LockedRanges:
    """Ranges of whole pages that are locked, in the process that has locked them.

    A call enters its range before it asks the kernel: until it ends, other calls count the range as
    locked. The entry of a call that has succeeded stays.

    Changes run exclusively; a range can be asked for at any time. A child process inherits no lock.
    """

    __slots__ = ("_calls", "_process")

    def __init__(self) -> None:
        self._calls: tuple[LockCall, ...] = ()
        self._process = 0

    # --- Changes ----------------------------------------------------------------------------------

    def begin(self, call: LockCall) -> None:
        """Remember that a call may lock its range from now on."""
        call.is_under_way = True
        if self._process != os.getpid():
            self._calls = ()
            self._process = os.getpid()
        self._calls = (*self._calls, call)
        count = len(self._calls)
        if count >= _FEWEST_TO_MERGE and count & (count - 1) == 0:
            self._merge()

    def keep_in_child(self, call: LockCall) -> None:
        """Remember a call also if a signal handler has forked this process since the call began."""
        if self._process != os.getpid():
            self.begin(call)

    def end(self, call: LockCall) -> None:
        """Remember what is left of a call's range as locked."""
        call.is_under_way = False
        if not call.ranges:
            self._drop_empty()

    def remove(self, start: int, end: int) -> None:
        """Remember that a range is not locked."""
        for call in self._calls:
            call.ranges = _without(call.ranges, start, end)
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Drop the entries of calls that are over and of whose range nothing is left."""
        self._calls = tuple([call for call in self._calls if call.ranges or call.is_under_way])

    def _merge(self) -> None:
        """Make fewer entries of those whose calls are over."""
        under_way = [call for call in self._calls if call.is_under_way]
        over = [each for call in self._calls if not call.is_under_way for each in call.ranges]
        self._calls = (*under_way, *(LockCall(first, last) for first, last in _merged(over)))

    # --- Questions --------------------------------------------------------------------------------

    def _all(self) -> list[tuple[int, int]]:
        """Return the ranges that are or may be locked."""
        if self._process != os.getpid():
            return []
        return [each for call in self._calls for each in call.ranges]

    def __bool__(self) -> bool:
        """Return whether any range is or may be locked."""
        return bool(self._calls)

    def overlap(self, start: int, end: int) -> bool:
        """Return whether some of a range is locked."""
        return any(max(first, start) < min(last, end) for first, last in self._all())

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of a range that are not locked, in order."""
        gaps: list[tuple[int, int]] = []
        for first, last in _merged(self._all()):
            if start < min(first, end):
                gaps.append((start, min(first, end)))
            start = max(start, last)
        return [*gaps, (start, end)] if start < end else gaps


def _without(ranges: Ranges, start: int, end: int) -> Ranges:
    """Return the parts of ranges that are outside of a range."""
    left: list[tuple[int, int]] = []
    for first, last in ranges:
        if first < start:
            left.append((first, min(last, start)))
        if last > end:
            left.append((max(first, end), last))
    return tuple(left)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged
