"""The resident pages of one open file: measured, brought in, removed."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

from attrs import frozen

from mmapwrap import MemoryMapping, OperationNotPermittedError, Protection, page_size
from mmapwrap._cli.files import OpenedFile
from mmapwrap._cli.text import percent

_CELLS = 32

# The kernel answers with a byte for each page, so a window of 16 GiB needs 4 MiB.
_MEASURE_WINDOW = 16 << 30

# The kernel keeps a large page of which only a part is to go. Large pages are aligned to their
# size, so a window that is a multiple of every such size never cuts one in two.
_EVICT_WINDOW = 128 << 20

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of bytes of the file that are done; may raise to stop."""

Operation: TypeAlias = Callable[[MemoryMapping, Progress], None]
"""Brings the pages of a mapped file in, or removes them."""


class FiguresWithheldError(Exception):
    """The kernel does not tell this user what the page cache holds of the file."""

    def __init__(self) -> None:
        super().__init__(
            "the kernel shows which pages of a file are resident only to its owner, to users who "
            "may write the file, and to root"
        )


@frozen
class Figures:
    """How much of a file is in the page cache, and where; the JSON has the same members.

    Attributes:
        resident_pages: the number of pages in the page cache.
        resident_bytes: the bytes of the file that they hold, as the last page may hold less.
        percent: the share of the file's pages; `None` for an empty file.
        cells: the resident pages of each part of the file, see `cell_bounds`.
    """

    resident_pages: int
    resident_bytes: int
    percent: float | None
    cells: tuple[int, ...]


def page_count(size: int) -> int:
    """Return the number of pages of a file of `size` bytes."""
    return -(-size // page_size())


def cell_bounds(pages: int) -> list[tuple[int, int]]:
    """Return the first page and the end of each part of a file: of 32 parts, or a part a page."""
    count = min(pages, _CELLS)
    return list(pairwise(part * pages // max(count, 1) for part in range(count + 1)))


def measure(
    file: OpenedFile, operation: Operation | None, progress: Progress
) -> list[Figures | None]:
    """Measure what the page cache holds of a file; with an operation, before and after it.

    Returns:
        The figures of one or two measurements; `None` where the kernel withholds them.

    Raises:
        FiguresWithheldError: the kernel withholds them, and there is no operation.
        MmapError: the file cannot be mapped, or the operation failed.
    """
    if operation is not None:
        progress(0)
    if file.size == 0:
        return [Figures(0, 0, None, ())] * (1 if operation is None else 2)
    # With its size given, a file that grows meanwhile is measured as it was opened.
    with MemoryMapping.from_file(file.descriptor, file.size, prot=Protection.read()) as mapping:
        measured = [_figures(mapping)]
        if operation is not None:
            operation(mapping, progress)
            measured.append(_figures(mapping))
        elif measured[0] is None:
            raise FiguresWithheldError
        return measured


def prefetch(mapping: MemoryMapping, progress: Progress) -> None:
    """Bring a whole file into the page cache."""
    mapping.populate(progress=lambda done, _total: progress(done))


def evict(mapping: MemoryMapping, progress: Progress) -> None:
    """Write the changed pages of a file to storage and remove the file from the page cache."""
    for start in range(0, len(mapping), _EVICT_WINDOW):
        end = min(start + _EVICT_WINDOW, len(mapping))
        mapping.evict(start, end - start)
        progress(end)


def _figures(mapping: MemoryMapping) -> Figures | None:
    size, page = len(mapping), page_size()
    pages = page_count(size)
    bounds = cell_bounds(pages)
    cells = [0] * len(bounds)
    is_last_resident = 0
    for start in range(0, size, _MEASURE_WINDOW):
        try:
            seen = mapping.residency(start, min(_MEASURE_WINDOW, size - start)).pages
        except OperationNotPermittedError:
            return None
        first = start // page
        for cell, (low, high) in enumerate(bounds):
            # bytes.count makes no Python object for a page.
            cells[cell] += seen.count(1, max(low - first, 0), max(high - first, 0))
        is_last_resident = seen[-1]
    resident = sum(cells)
    resident_bytes = resident * page - is_last_resident * (pages * page - size)
    return Figures(resident, resident_bytes, percent(resident, pages), tuple(cells))
