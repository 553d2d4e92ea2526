"""What the page cache holds of one open file, and bringing the file in and out of it."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

from attrs import frozen

from mmapwrap import MemoryMapping, OperationNotPermittedError, Protection, page_size
from mmapwrap._cli.files import OpenedFile

CELLS = 32
"""Into how many parts a file is cut to show where its resident pages are."""

# One byte a page is measured: 16 GiB are 4 MiB of answer, however large the file is.
_MEASURE_WINDOW = 16 << 30

# Large pages of the cache are aligned to their size, so a window that is a multiple of every such
# size never cuts one in two (the kernel keeps a page of which only a part is to go).
_EVICT_WINDOW = 128 << 20

Progress: TypeAlias = Callable[[int], None]
"""Called with the bytes of the file that are done; may raise to stop."""


class FiguresWithheldError(Exception):
    """The kernel does not tell this user what the page cache holds of the file."""

    def __init__(self) -> None:
        super().__init__(
            "the kernel shows which pages of a file are resident only to its owner, to users who "
            "may write the file, and to root"
        )


@frozen
class Measurement:
    """How much of a file is in the page cache, and where.

    Attributes:
        pages: the pages that the file has.
        resident: how many of them are in the page cache.
        resident_bytes: the bytes of the file that they hold; the last page counts with what the
            file has of it.
        cells: the resident pages of each part of the file. Part `i` of `n` is the pages from
            `i * pages // n` up to `(i + 1) * pages // n`; a file with fewer than `CELLS` pages has
            one part a page.
    """

    pages: int
    resident: int
    resident_bytes: int
    cells: tuple[int, ...]

    def cell_pages(self) -> list[int]:
        """Count the pages of each part, resident or not."""
        bounds = _cell_bounds(self.pages)
        return [end - start for start, end in pairwise(bounds)]


EMPTY = Measurement(pages=0, resident=0, resident_bytes=0, cells=())


@frozen
class Change:
    """What a prefetch or an eviction did; `None` where the kernel withholds the figures."""

    before: Measurement | None
    after: Measurement | None


def page_count(size: int) -> int:
    """Count the pages of a file of `size` bytes."""
    return -(-size // page_size())


def measure(file: OpenedFile) -> Measurement:
    """Measure what the page cache holds of a file, without bringing anything in.

    Raises:
        FiguresWithheldError: the kernel does not tell this user.
        MmapError: the file cannot be mapped.
    """
    if file.size == 0:
        return EMPTY
    with _mapped(file) as mapping:
        measurement = _measure_mapped(mapping, file)
    if measurement is None:
        raise FiguresWithheldError
    return measurement


def prefetch(file: OpenedFile, progress: Progress) -> Change:
    """Bring a whole file into the page cache.

    Raises:
        MmapError: the file cannot be mapped, or a part of it cannot be read in.
    """
    if file.size == 0:
        return Change(EMPTY, EMPTY)
    with _mapped(file) as mapping:
        before = _measure_mapped(mapping, file)
        mapping.populate(progress=lambda done, _total: progress(min(done, file.size)))
        return Change(before, _measure_mapped(mapping, file))


def evict(file: OpenedFile, progress: Progress) -> Change:
    """Write what is dirty of a file to storage and remove the file from the page cache.

    Raises:
        MmapError: the file cannot be mapped or written out.
    """
    if file.size == 0:
        return Change(EMPTY, EMPTY)
    with _mapped(file) as mapping:
        before = _measure_mapped(mapping, file)
        for start in range(0, file.size, _EVICT_WINDOW):
            end = min(start + _EVICT_WINDOW, file.size)
            mapping.evict(start, end - start)
            progress(end)
        return Change(before, _measure_mapped(mapping, file))


def _mapped(file: OpenedFile) -> MemoryMapping:
    # The size is given, so that a file that grows meanwhile is measured as it was opened.
    return MemoryMapping.from_file(file.descriptor, file.size, prot=Protection.read())


def _measure_mapped(mapping: MemoryMapping, file: OpenedFile) -> Measurement | None:
    """Measure a mapping of the whole file; None where the kernel withholds the figures."""
    page = page_size()
    pages = page_count(file.size)
    bounds = _cell_bounds(pages)
    cells = [0] * (len(bounds) - 1)
    last_resident = 0
    cell = 0
    for start in range(0, file.size, _MEASURE_WINDOW):
        try:
            seen = mapping.residency(start, min(_MEASURE_WINDOW, file.size - start)).pages
        except OperationNotPermittedError:
            return None
        first = start // page
        end = first + len(seen)
        # Counted by bytes.count, a cell at a time: no Python object for a page.
        while True:
            low, high = max(bounds[cell], first), min(bounds[cell + 1], end)
            cells[cell] += seen.count(1, low - first, high - first)
            if bounds[cell + 1] >= end:
                break
            cell += 1
        last_resident = seen[-1]
    resident = sum(cells)
    resident_bytes = resident * page - last_resident * (pages * page - file.size)
    return Measurement(pages, resident, resident_bytes, tuple(cells))


def _cell_bounds(pages: int) -> list[int]:
    """List the first page of each part of a file, and the end of the last."""
    count = min(pages, CELLS)
    return [part * pages // count for part in range(count)] + [pages]
