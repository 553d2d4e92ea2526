"""PageSizes: the kernel's page sizes by range, where they differ: an arena with huge pages."""

from typing import Final

from mmapwrap._core.range_map import RangeMap
from mmapwrap.errors import NotPageAlignedError


class PageSizes:
    """The size of the kernel's pages by range of a region.

    Args:
        address: The address of the region's first byte.
        size: The bytes of the region, whose own start and end may lie inside a page.
        smallest: The bytes of a page, until `assign` says otherwise.
    """

    __slots__ = ("_address", "_by_range", "_size", "_smallest")

    def __init__(self, address: int, size: int, smallest: int) -> None:
        self._address: Final = address
        self._size: Final = size
        self._smallest: Final = smallest
        self._by_range = RangeMap(size, smallest)

    def assign(self, start: int, end: int, page_size: int) -> None:
        """Note the page size of a range."""
        self._by_range.assign(start, end, page_size)

    def pieces(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Return the ranges of one page size between two offsets, as (start, end, bytes)."""
        return self._by_range.pieces(start, end)

    def require_edges(self, start: int, end: int) -> None:
        """Require that a range cuts no page in two.

        Raises:
            NotPageAlignedError: An edge of the range lies inside a page.
        """
        for edge in (start, end):
            around = self._size_around(edge)
            if 0 < edge < self._size and (self._address + edge) % around:
                raise NotPageAlignedError(edge, around, self._address % around)

    def widened(self, start: int, end: int) -> tuple[int, int]:
        """Return the start and end of a range, widened to each page that it touches."""
        start -= (self._address + start) % self._size_around(start)
        end += -(self._address + end) % self._size_around(end)
        return max(start, 0), min(end, self._size)

    def _size_around(self, edge: int) -> int:
        """Return the size of the page that the bytes before and after an edge may share."""
        around = self._by_range.pieces(max(edge - 1, 0), edge + 1)
        return around[0][2] if len(around) == 1 else self._smallest
