"""LockedRanges: the pages that a region has locked. The kernel does not list them."""

import os
from typing import Final, TypeAlias

_FEWEST_TO_MERGE: Final = 64

Ranges: TypeAlias = tuple[tuple[int, int], ...]


class LockCall:
    """A call under way that locks a range of whole pages.

    Args:
        start: The range's first byte.
        end: The byte after its last.
    """

    __slots__ = ("end", "ranges", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start: Final = start
        self.end: Final = end
        self.ranges: Ranges = ((start, end),)
        """What is left of the range: other calls may have unlocked or replaced some of it."""


class LockedRanges:
    """Ranges of whole pages that are locked, in the process that has locked them.

    A call that locks is an entry of its own before it asks the kernel, so that no other call takes
    pages for unlocked that it may have locked. Success keeps its range; the entry goes at the end.

    Changes run exclusively; a range can be asked for at any time. A child process inherits no lock.
    """

    __slots__ = ("_process", "_ranges", "_under_way")

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._under_way: tuple[LockCall, ...] = ()
        self._process = 0

    def _all(self) -> list[tuple[int, int]]:
        """Return the ranges that are or may be locked."""
        if self._process != os.getpid():
            return []
        return [*self._ranges, *(each for call in self._under_way for each in call.ranges)]

    def has(self, call: LockCall) -> bool:
        """Return whether a call is an entry still."""
        return call in self._under_way

    # --- Changes ----------------------------------------------------------------------------------

    def _forget_those_of_a_parent(self) -> None:
        """Forget what a parent process has locked."""
        if self._process != os.getpid():
            self._ranges, self._under_way = [], ()
            self._process = os.getpid()

    def begin(self, call: LockCall) -> None:
        """Remember that a call may lock its range from now on."""
        self._forget_those_of_a_parent()
        self._under_way = (*self._under_way, call)

    def keep(self, call: LockCall) -> None:
        """Remember what is left of a call's range as locked."""
        self._forget_those_of_a_parent()
        for start, end in call.ranges:
            self.add(start, end)

    def drop(self, call: LockCall) -> None:
        """Forget a call."""
        self._under_way = tuple(each for each in self._under_way if each is not call)

    def add(self, start: int, end: int) -> None:
        """Remember that a range is locked."""
        self._ranges.append((start, end))
        count = len(self._ranges)
        if count >= _FEWEST_TO_MERGE and count & (count - 1) == 0:
            self._ranges = _merged(self._ranges)

    def remove(self, start: int, end: int) -> None:
        """Remember that a range is not locked."""
        if self._ranges:
            self._ranges = [*_without(self._ranges, start, end)]
        for call in self._under_way:
            call.ranges = _without(call.ranges, start, end)

    # --- Questions --------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether nothing was locked, here or in a parent process."""
        return not self._ranges and not self._under_way

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


def _without(ranges: "list[tuple[int, int]] | Ranges", start: int, end: int) -> Ranges:
    """Return the parts of ranges that are outside of a range."""
    return tuple(
        (first, last)
        for old_start, old_end in ranges
        for first, last in ((old_start, min(old_end, start)), (max(old_start, end), old_end))
        if first < last
    )


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged
