"""Searches of a region, without a copy and without the GIL."""

from typing import TYPE_CHECKING, SupportsIndex, cast

from mmapwrap._core import buffers, calls
from mmapwrap._core.arguments import ReadableBuffer, as_byte, as_integer
from mmapwrap._core.constants import PROT_READ
from mmapwrap._regions.base import RegionBase

if TYPE_CHECKING:
    from collections.abc import Callable


class SearchableRegion(RegionBase):
    """Search the bytes of a region."""

    __slots__ = ()

    def find(
        self,
        needle: ReadableBuffer,
        start: SupportsIndex | None = 0,
        end: SupportsIndex | None = None,
    ) -> int:
        """Return the offset of the first occurrence of `needle`, or -1. memmem(3).

        Args:
            needle: The bytes to look for; a needle of no bytes is found at `start`.
            start: The first byte to look at. As in `bytes.find`, a negative number counts from the
                region's end, and a number past the end is the end.
            end: The byte after the last to look at, likewise; None: the region's end.

        Returns:
            The offset of the needle's first byte in the region, or -1.

        Raises:
            ClosedMappingError: The region is closed.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.
            TypeError: The needle is no contiguous buffer.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(16)
            >>> mapping[3:7] = b"abab"
            >>> mapping.find(b"ab"), mapping.find(b"ab", 4), mapping.find(b"ba", 5)
            (3, 5, -1)
        """
        return self._search(calls.find, needle, start, end) - 1

    def rfind(
        self,
        needle: ReadableBuffer,
        start: SupportsIndex | None = 0,
        end: SupportsIndex | None = None,
    ) -> int:
        """Return the offset of the last occurrence of `needle`, or -1.

        Arguments and errors: see `find`. Where much of the range looks like the needle, the call
        takes 8 bytes of memory for each byte of the needle.

        Raises:
            OutOfMemoryError: That memory is not available.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(16)
            >>> mapping[3:7] = b"abab"
            >>> mapping.rfind(b"ab"), mapping.rfind(b"ab", 0, 6)
            (5, 3)
        """
        return self._search(calls.rfind, needle, start, end) - 1

    def count(
        self,
        needle: ReadableBuffer,
        start: SupportsIndex | None = 0,
        end: SupportsIndex | None = None,
    ) -> int:
        """Return how often `needle` occurs, without overlaps. Arguments and errors: see `find`.

        As of `bytes.count`, a needle of no bytes occurs before each byte and at the end.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(16)
            >>> mapping[3:8] = b"ababa"
            >>> mapping.count(b"ab"), mapping.count(b"aba"), mapping.count(b"a", 4)
            (2, 1, 2)
        """
        return self._search(calls.count, needle, start, end)

    def _search(
        self,
        function: "Callable[..., int]",
        needle: ReadableBuffer,
        start: SupportsIndex | None,
        end: SupportsIndex | None,
    ) -> int:
        """Run a searching C function on the range that `start` and `end` mean; 0: no such range."""
        wanted = buffers.bytes_in(needle, "needle")
        try:
            if type(start) is not int:
                start = 0 if start is None else as_integer(start, "start")
            stop = None if end is None else as_integer(end, "end")
            pages = self._pages
            size = pages.size
            first, last, _ = slice(start, stop).indices(size)
            if start > size or first > last:
                self._open_pages()  # raises if the region is closed, and has no bytes therefore
                return 0
            arguments = wanted, len(wanted)
            return pages.run_on_range(function, first, last - first, arguments, PROT_READ)
        finally:
            buffers.release(wanted)

    def __contains__(self, item: object) -> bool:
        """Return whether a byte, or a run of bytes, is in the region. Errors: see `find`.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4)
            >>> mapping[1] = 65
            >>> 65 in mapping, b"AB" in mapping
            (True, False)
        """
        # An array has an `__index__` too, for an array of one item, but stands for its bytes.
        if hasattr(item, "__index__") and not getattr(item, "shape", ()):
            item = bytes((as_byte(cast("SupportsIndex", item)),))
        return self.find(cast("ReadableBuffer", item)) >= 0

    def is_all_zero(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> bool:
        """Return whether every byte of the range is 0.

        Args:
            offset: The first byte of the range.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping[9] = 1
            >>> mapping.is_all_zero(), mapping.is_all_zero(10)
            (False, True)
        """
        return self._pages.run_on_range(calls.is_all_zero, offset, count, None, PROT_READ) == 1
