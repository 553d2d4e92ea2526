"""Ranges of bytes, and whether one lies inside a region."""

from typing import SupportsIndex

import attrs

from mmapwrap._core.arguments import as_integer
from mmapwrap.errors import InvalidArgumentError, InvalidRangeError, shown


def range_end(offset: SupportsIndex, count: SupportsIndex, region_size: SupportsIndex) -> int:
    """Return `offset + count`, in bytes, of a range that a region of this size holds.

    Args:
        offset: The first byte of the range.
        count: The bytes of the range.
        region_size: The bytes of the region.

    Raises:
        InvalidRangeError: The range starts before the region or ends after it.

    Example:
        >>> from mmapwrap import range_end
        >>> range_end(4, 6, region_size=10)
        10
        >>> range_end(4, 7, region_size=10)
        Traceback (most recent call last):
        mmapwrap.errors.InvalidRangeError: the range of 7 bytes at offset 4 ends at 11, but ...
    """
    start, length = as_integer(offset, "offset"), as_integer(count, "count")
    size = as_integer(region_size, "region_size")
    if start < 0 or length < 0 or start + length > size:
        raise InvalidRangeError(start, length, size)
    return start + length


def _as_offset(value: SupportsIndex) -> int:
    return as_integer(value, "offset")


def _as_count(value: SupportsIndex) -> int:
    return as_integer(value, "count")


@attrs.frozen
class ByteRange:
    """A range of `count` bytes from `offset` on.

    Args:
        offset: The first byte, 0 or more.
        count: The number of bytes, 0 or more.

    Raises:
        InvalidRangeError: A number is negative, or the end is past 2**64.

    Example:
        >>> from mmapwrap import ByteRange
        >>> header = ByteRange(offset=0, count=16)
        >>> header.end, header.overlaps(ByteRange(15, 4))
        (16, True)
    """

    offset: int = attrs.field(converter=_as_offset)
    count: int = attrs.field(converter=_as_count)

    def __attrs_post_init__(self) -> None:
        self.range_end(2**64)

    @property
    def end(self) -> int:
        """The first byte after the range."""
        return self.offset + self.count

    def range_end(self, region_size: SupportsIndex) -> int:
        """Return the end of the range inside a region of `region_size` bytes.

        Raises:
            InvalidRangeError: The region does not hold the range.

        Example:
            >>> from mmapwrap import ByteRange
            >>> ByteRange(4, 6).range_end(10)
            10
        """
        return range_end(self.offset, self.count, region_size)

    def overlaps(self, other: "ByteRange") -> bool:
        """Return whether some byte is in both ranges.

        Example:
            >>> from mmapwrap import ByteRange
            >>> ByteRange(0, 4).overlaps(ByteRange(4, 4))
            False
        """
        if type(other) is not ByteRange:
            raise TypeError(f"other must be a ByteRange, not {type(other).__name__}")
        return max(self.offset, other.offset) < min(self.end, other.end)

    def widened(self, page_size: SupportsIndex) -> "ByteRange":
        """Return the whole pages that the range touches; no bytes if it has none.

        Args:
            page_size: The bytes of a page, a power of two.

        Raises:
            InvalidArgumentError: The page size is no power of two.
            InvalidRangeError: The last page ends past 2**64.

        Example:
            >>> from mmapwrap import ByteRange
            >>> ByteRange(5000, 10).widened(4096)
            ByteRange(offset=4096, count=4096)
        """
        page = as_integer(page_size, "page_size")
        if page < 1 or page & (page - 1):
            raise InvalidArgumentError(f"page_size must be a power of two, not {shown(page)}")
        if not self.count:
            return self
        offset = self.offset // page * page
        return ByteRange(offset, -(-self.end // page) * page - offset)
