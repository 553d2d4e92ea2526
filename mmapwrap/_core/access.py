"""AccessMap: the access that each range of a region allows. It makes no system call."""

from typing import Final

from mmapwrap._core.constants import PROT_ANY
from mmapwrap._core.protection import Protection
from mmapwrap._core.range_map import RangeMap
from mmapwrap.errors import ProtectionError

GUARD_PAGES: Final = 1 << 16
"""A bit beside the PROT_* bits of a range: guard pages lie there, which allow no access."""


class AccessMap:
    """The PROT_* bits of a region: the same everywhere, or by range.

    The map never remembers more access than the kernel allows: a change narrows it before the
    system call and widens it afterwards. As long as the bits are the same everywhere, C knows them
    and checks each access; `by_range` is then None.
    """

    __slots__ = ("bits", "by_range")

    bits: int
    """The PROT_* bits of every byte; without meaning if the bits differ by range."""
    by_range: RangeMap[int] | None
    """The PROT_* bits by range, and GUARD_PAGES; None where they are the same everywhere."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.by_range = None

    def allowed(self, start: int, end: int) -> int:
        """Return the PROT_* bits that every byte of the range has."""
        if self.by_range is None:
            return self.bits
        if end > self.by_range.size:  # the region is being resized
            return 0
        common = PROT_ANY
        for _, _, bits in self.ranges(start, end):
            common &= bits
        return common

    def ranges(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Return the ranges of one protection, as (start, end, PROT_* bits)."""
        if self.by_range is None:
            return [(start, end, self.bits)] if start < end else []
        return [
            (first, last, 0 if bits & GUARD_PAGES else bits)
            for first, last, bits in self.by_range.pieces(start, end)
        ]

    def allows_somewhere(self, need: int, size: int) -> bool:
        """Return whether some byte of a region of this size has the bits of `need`."""
        if self.by_range is None:
            return not need & ~self.bits
        return any(not need & ~bits for _, _, bits in self.by_range.pieces(0, size))

    def require(self, need: int, start: int, end: int) -> None:
        """Require that every byte of the range has the bits of `need`.

        Raises:
            ProtectionError: Some byte lacks one of them.
        """
        if need & ~self.allowed(start, end):
            raise self.error(need, start, end)

    def require_each(self, need: int, indices: range) -> None:
        """Require that each of these bytes, in rising order, has the bits of `need`.

        Raises:
            ProtectionError: One of the bytes lacks a bit.
        """
        if self.by_range is None or not indices:
            return  # C checks each access
        first, step = indices.start, indices.step
        for start, end, bits in self.ranges(first, indices[-1] + 1):
            following = first + -(-(start - first) // step) * step
            if following < end and need & ~bits:
                raise self.error(need, following, following + 1)

    def error(self, need: int, start: int, end: int) -> ProtectionError:
        """Return the error of an access to the range that needs the bits of `need`."""
        actual = Protection.from_bits(self.allowed(start, end))
        error = ProtectionError(Protection.from_bits(need), actual)
        error.range = start, end - start
        return error

    # --- Changes, which run exclusively -----------------------------------------------------------

    def split(self, size: int) -> RangeMap[int]:
        """Return the bits by range of a region of this size; keep them by range from now on."""
        if self.by_range is None:
            self.by_range = RangeMap(size, self.bits)
        return self.by_range

    def narrow(self, size: int, start: int, end: int, bits: int) -> list[tuple[int, int, int]]:
        """Take away the access that `bits` does not allow; return the ranges as they were."""
        ranges = self.split(size)
        before = ranges.pieces(start, end)
        for first, last, old in before:
            if old & ~bits:
                ranges.assign(first, last, old & (bits | GUARD_PAGES))
        return before

    def set_empty(self, bits: int) -> None:
        """Give a region without bytes the access that it will have where it grows."""
        self.by_range = RangeMap(0, bits)

    def last(self, size: int) -> int:
        """Return the PROT_* bits that the last byte of a region of this size has below guard pages.

        An interrupted change of the size may have left a longer map.
        """
        if self.by_range is None:
            return self.bits
        self.by_range.resize(size)
        return self.by_range.last & PROT_ANY

    def grow(self, page_end: int, size: int, bits: int) -> None:
        """Give a region another size: what is added from a page's end on has these bits.

        What is added before it, in the last page, is as the last byte, where a guard page may be.
        """
        ranges = self.split(size)
        ranges.resize(size)
        ranges.assign(page_end, size, bits)

    def set_none(self, size: int, start: int, end: int) -> None:
        """Remember that a range allows no access, whatever the kernel still allows."""
        self.split(size).assign(start, end, 0)
