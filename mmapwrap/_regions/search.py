"""Looking through a region, without a copy and without the GIL."""

from typing import TYPE_CHECKING, SupportsIndex, cast

from mmapwrap._core import buffers, calls
from mmapwrap._core.arguments import ReadableBuffer, as_byte, as_integer
from mmapwrap._core.constants import PROT_READ
from mmapwrap._regions.base import RegionBase

if TYPE_CHECKING:
    from collections.abc import Callable


class SearchableRegion(RegionBase):
    """A region that is looked through."""

    __slots__ = ()

    def find(
        self,
        needle: ReadableBuffer,
        start: SupportsIndex | None = 0,
        end: SupportsIndex | None = None,
    ) -> int:
        """Returns the offset of the first occurrence of `needle`, or -1. memmem(3).

        Args:
            needle: What to look for; one of no bytes is found at `start`.
            start: The first byte to look at; like `end` as in `bytes.find`: negative numbers count
                from the region's end, and what is past it is cut off.
            end: The byte after the last to look at; None: the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.
            TypeError: The needle is in no contiguous buffer.
        """
        return self._search(calls.find, needle, start, end)

    def rfind(
        self,
        needle: ReadableBuffer,
        start: SupportsIndex | None = 0,
        end: SupportsIndex | None = None,
    ) -> int:
        """Returns the offset of the last occurrence of `needle`, or -1; otherwise as `find`.

        Where much of the range looks like the needle, the call takes 8 bytes of memory for each of
        the needle's.

        Raises:
            OutOfMemoryError: There is no such memory.
            The errors of `find`.
        """
        return self._search(calls.rfind, needle, start, end)

    def _search(
        self,
        helper: "Callable[..., int]",
        needle: ReadableBuffer,
        start: SupportsIndex | None,
        end: SupportsIndex | None,
    ) -> int:
        wanted = buffers.bytes_in(needle, "needle")
        begin = 0 if start is None else as_integer(start, "start")
        stop = None if end is None else as_integer(end, "end")
        size = len(self)
        first, last, _ = slice(begin, stop).indices(size)
        if begin > size or first > last:
            return -1
        arguments = wanted, len(wanted)
        return self._pages.run_on_range(helper, first, last - first, arguments, PROT_READ) - 1

    def __contains__(self, item: object) -> bool:
        """Whether a byte, or a run of bytes, is somewhere in the region; as `find`."""
        # An array has an __index__ as well, for what it has one item of.
        if hasattr(item, "__index__") and not getattr(item, "shape", ()):
            item = bytes((as_byte(cast("SupportsIndex", item)),))
        return self.find(cast("ReadableBuffer", item)) >= 0

    def is_all_zero(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> bool:
        """Whether every byte of the range is 0.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.
        """
        return self._pages.run_on_range(calls.is_all_zero, offset, count, None, PROT_READ) == 1
