"""Residency: which pages of a range are in memory."""

from collections.abc import Iterator

import attrs

from mmapwrap._core import buffers


@attrs.frozen(repr=False)
class Residency:
    """The answer of mincore(2) for each page that a range touches, at one moment.

    Args:
        offset: The start of the first page, in bytes from the region's start; negative, by less
            than a page, where the region starts inside that page.
        page_size: The bytes of a page.
        pages: A byte for each page: 1 in memory, 0 not.

    Example:
        >>> from mmapwrap import MemoryMapping, page_size
        >>> mapping = MemoryMapping.anonymous(4 * page_size())
        >>> mapping[0] = 1
        >>> residency = mapping.residency()
        >>> residency.fraction, list(residency.pages)
        (0.25, [1, 0, 0, 0])
    """

    offset: int
    page_size: int
    pages: bytes = attrs.field(converter=bytes)

    @property
    def total(self) -> int:
        """The number of pages."""
        return len(self.pages)

    @property
    def resident(self) -> int:
        """The number of pages in memory."""
        return buffers.count_resident(self.pages)

    @property
    def resident_bytes(self) -> int:
        """The bytes of the pages in memory."""
        return self.resident * self.page_size

    @property
    def fraction(self) -> float:
        """The resident part of all pages, 0.0 to 1.0; of no pages it is 1.0."""
        return self.resident / self.total if self.pages else 1.0

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of resident pages as (offset, count), in bytes and in order.

        Example:
            >>> from mmapwrap import Residency
            >>> residency = Residency(offset=0, page_size=4096, pages=bytes([1, 1, 0, 1]))
            >>> list(residency.ranges())
            [(0, 8192), (12288, 4096)]
        """
        end = 0
        while (start := self.pages.find(1, end)) >= 0:
            end = self.pages.find(0, start)
            if end < 0:
                end = self.total
            yield self.offset + start * self.page_size, (end - start) * self.page_size

    def __len__(self) -> int:
        return len(self.pages)

    def __repr__(self) -> str:
        return f"<Residency {self.resident} of {self.total} pages of {self.page_size} bytes>"
