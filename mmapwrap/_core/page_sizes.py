"""Edges of ranges where the pages of a region have different sizes: an arena with huge pages."""

from mmapwrap._core.range_map import RangeMap
from mmapwrap.errors import NotPageAlignedError


def _size_around(page_sizes: RangeMap[int], edge: int, page_size: int) -> int:
    """Return the size of the page that the bytes before and after an edge may share."""
    around = page_sizes.pieces(max(edge - 1, 0), edge + 1)
    return around[0][2] if len(around) == 1 else page_size


def require_edges(
    page_sizes: RangeMap[int], page_size: int, base: int, size: int, start: int, end: int
) -> None:
    """Require that a range cuts no page in two.

    Args:
        page_sizes: The sizes of the pages by range.
        page_size: The size of the smallest.
        base: The address of the region's first byte.
        size: The bytes of the region, whose own start and end are allowed inside a page.
        start: The range's first byte.
        end: The byte after its last.

    Raises:
        NotPageAlignedError: An edge of the range lies inside a page.
    """
    for edge in (start, end):
        around = _size_around(page_sizes, edge, page_size)
        if 0 < edge < size and (base + edge) % around:
            raise NotPageAlignedError(edge, around, base % around)


def widened_to_edges(
    page_sizes: RangeMap[int], page_size: int, base: int, size: int, start: int, end: int
) -> tuple[int, int]:
    """Return the start and end of a range, widened to each page that it touches.

    The arguments are those of `require_edges`.
    """
    start -= (base + start) % _size_around(page_sizes, start, page_size)
    end += -(base + end) % _size_around(page_sizes, end, page_size)
    return max(start, 0), min(end, size)
