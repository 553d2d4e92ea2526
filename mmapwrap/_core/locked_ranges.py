"""LockedRanges: the pages that a region has locked. The kernel does not list them."""

import os
from typing import Final

_FEWEST_TO_MERGE: Final = 64


class LockedRanges:
    """Ranges of whole pages that are locked, in the process that has locked them.

    A child process inherits no lock.
    """

    __slots__ = ("_process", "_ranges")

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._process = 0

    def _of_this_process(self) -> list[tuple[int, int]]:
        """Return the ranges; forget those that a parent process has locked."""
        if self._ranges and self._process != os.getpid():
            self._ranges = []
        return self._ranges

    def add(self, start: int, end: int) -> None:
        """Remember that a range is locked."""
        ranges = self._of_this_process()
        self._process = os.getpid()
        ranges.append((start, end))
        count = len(ranges)
        if count >= _FEWEST_TO_MERGE and count & (count - 1) == 0:
            self._ranges = _merged(ranges)

    def remove(self, start: int, end: int) -> None:
        """Remember that a range is not locked."""
        if self._ranges:
            self._ranges = [
                (first, last)
                for old_start, old_end in self._of_this_process()
                for first, last in (
                    (old_start, min(old_end, start)),
                    (max(old_start, end), old_end),
                )
                if first < last
            ]

    def overlap(self, start: int, end: int) -> bool:
        """Return whether some of a range is locked."""
        return any(max(first, start) < min(last, end) for first, last in self._of_this_process())

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of a range that are not locked, in order."""
        gaps: list[tuple[int, int]] = []
        for first, last in _merged(self._of_this_process()):
            if start < min(first, end):
                gaps.append((start, min(first, end)))
            start = max(start, last)
        return [*gaps, (start, end)] if start < end else gaps


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged
