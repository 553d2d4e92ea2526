"""LockedRanges: which pages a region has locked; the kernel names none of them before it fails."""

import os
from typing import Final

_FEWEST_TO_MERGE: Final = 64


class LockedRanges:
    """Ranges of whole pages that are locked, in the process that has locked them.

    A child of a fork inherits no lock.
    """

    __slots__ = ("_process", "_ranges")

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._process = 0

    def _own(self) -> list[tuple[int, int]]:
        if self._ranges and self._process != os.getpid():
            self._ranges = []
        return self._ranges

    def add(self, start: int, end: int) -> None:
        """Remember that a range is locked."""
        ranges = self._own()
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
                for old_start, old_end in self._own()
                for first, last in (
                    (old_start, min(old_end, start)),
                    (max(old_start, end), old_end),
                )
                if first < last
            ]

    def overlap(self, start: int, end: int) -> bool:
        """Whether some of a range is locked."""
        return any(max(first, start) < min(last, end) for first, last in self._own())

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range that are not locked, in order."""
        gaps: list[tuple[int, int]] = []
        for first, last in _merged(self._own()):
            if start < min(first, end):
                gaps.append((start, min(first, end)))
            start = max(start, last)
        return [*gaps, (start, end)] if start < end else gaps


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged
