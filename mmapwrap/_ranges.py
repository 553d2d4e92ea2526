"""Ranges of bytes, and whether one lies inside a region."""

from operator import index
from typing import SupportsIndex

import attrs

from mmapwrap.errors import InvalidRangeError


def range_end(offset: SupportsIndex, count: SupportsIndex, region_size: SupportsIndex) -> int:
    """Returns `offset + count`, in bytes, of a range that a region of this size holds.

    Raises:
        InvalidRangeError: The range starts before the region or ends after it.
    """
    start, length, size = index(offset), index(count), index(region_size)
    if start < 0 or length < 0 or start + length > size:
        raise InvalidRangeError(start, length, size)
    return start + length


@attrs.frozen
class ByteRange:
    """`count` bytes from `offset` on.

    Args:
        offset: The first byte, 0 or more.
        count: The number of bytes, 0 or more.

    Raises:
        InvalidRangeError: A number is negative, or the end is past 2**64.
    """

    offset: int
    count: int

    def __attrs_post_init__(self) -> None:
        self.range_end(2**64)

    @property
    def end(self) -> int:
        """The first byte after the range."""
        return self.offset + self.count

    def range_end(self, region_size: int) -> int:
        """Returns the end of the range inside a region of `region_size` bytes.

        Raises:
            InvalidRangeError: The region does not hold the range.
        """
        return range_end(self.offset, self.count, region_size)

    def overlaps(self, other: "ByteRange") -> bool:
        """Whether some byte is in both."""
        return max(self.offset, other.offset) < min(self.end, other.end)

    def widened(self, page_size: int) -> "ByteRange":
        """The whole pages that the range touches; none where it has no bytes."""
        if not self.count:
            return self
        offset = self.offset // page_size * page_size
        return ByteRange(offset, -(-self.end // page_size) * page_size - offset)
