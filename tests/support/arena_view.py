"""What the kernel lists of an arena's pages, to be held against what the arena says it holds."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs
from kernel_view import PAGE, process_unchanged

from mmapwrap import MappedRegion, MemoryMappingArena, Segment


@attrs.frozen
class Page:
    """What one page is, by the kernel's list or by the arena's own."""

    perms: str
    holds: str
    """``reserved``, ``memory`` or ``file``."""
    fd_offset: int | None
    is_dumped: bool = False


RESERVED = Page("---p", "reserved", None)


def _kind(perms: str, path: str) -> str:
    if path in {"", "/dev/zero (deleted)"}:
        return "reserved" if perms == "---p" else "memory"
    return "file"


def kernel_pages(region: MappedRegion) -> list[Page]:
    """Each page of a region, as ``/proc/self/smaps`` lists it."""
    base, size = region.as_ptr(), region.size
    pages: list[Page] = []
    start = end = offset = 0
    perms = kind = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line[0] in "0123456789abcdef":  # the names of the amounts start with capitals
            edges, perms, where, _, _, *path = line.split(maxsplit=5)
            # The kernel may have made one mapping of the region's edge and its neighbour.
            first, last = (int(edge, 16) - base for edge in edges.split("-"))
            start, end = max(first, 0), min(last, size)
            offset = int(where, 16) + start - first
            kind = _kind(perms, path[0].strip() if path else "")
        elif start < end and line.startswith("VmFlags:"):
            assert start == len(pages) * PAGE, f"a gap in the arena before {start}"
            is_dumped = "dd" not in line.split()
            pages += [
                Page(perms, kind, offset + place if kind == "file" else None, is_dumped)
                for place in range(0, end - start, PAGE)
            ]
    assert len(pages) * PAGE == size
    return pages


def listed_pages(arena: MemoryMappingArena, sharing: str = "s") -> list[Page]:
    """Each page of an arena, as its `segments()` say; the segments must be in order."""
    pages: list[Page] = []
    for segment in arena.segments():
        assert segment.offset >= len(pages) * PAGE, "segments overlap, or are out of order"
        assert segment.size > 0
        assert segment.offset % PAGE == segment.size % PAGE == 0
        pages += [RESERVED] * (segment.offset // PAGE - len(pages))
        for position in range(0, segment.size, PAGE):
            offset = None if segment.fd_offset is None else segment.fd_offset + position
            kind = "memory" if offset is None else "file"
            pages.append(Page(f"{segment.prot}{sharing}", kind, offset))
    return pages + [RESERVED] * (arena.size // PAGE - len(pages))


def assert_as_the_kernel_lists(arena: MemoryMappingArena) -> None:
    """The arena and the kernel agree on every page of it."""
    pairs = zip(listed_pages(arena), kernel_pages(arena), strict=True)
    differing = {page: pair for page, pair in enumerate(pairs) if pair[0] != pair[1]}
    assert not differing, f"the arena, and then the kernel, on some pages: {differing}"


def runs(region: MappedRegion) -> list[tuple[int, int, str, str, int]]:
    """The kernel's mappings in a region, by offset: (start, end, perms, path, file offset)."""
    base = region.as_ptr()
    found: list[tuple[int, int, str, str, int]] = []
    with Path("/proc/self/maps").open() as lines:
        for line in lines:
            edges, perms, offset, _, _, *path = line.split(maxsplit=5)
            start, end = (int(edge, 16) - base for edge in edges.split("-"))
            if start >= region.size:
                break
            if end > 0:
                first = max(start, 0)
                in_file = int(offset, 16) + first - start if path else 0
                where = path[0].strip() if path else ""
                found.append((first, min(end, region.size), perms, where, in_file))
    return found


def content(arena: MemoryMappingArena) -> list[tuple[Segment, bytes]]:
    """The bytes of every segment that can be read."""
    return [
        (segment, arena[segment.offset : segment.offset + segment.size])
        for segment in arena.segments()
        if segment.prot.readable
    ]


@contextmanager
def unchanged(arena: MemoryMappingArena) -> Generator[None]:
    """Fail when the block changes the arena, the kernel's list of it, or what it holds."""
    segments, listed, pages = arena.segments(), runs(arena), kernel_pages(arena)
    held, views = content(arena), arena.live_views
    with process_unchanged():
        yield
    assert arena.segments() == segments, f"{arena.segments()} is not {segments}"
    assert runs(arena) == listed, f"{runs(arena)} is not {listed}"
    assert kernel_pages(arena) == pages, "the kernel's flags of some pages differ"
    assert content(arena) == held, "the arena holds other bytes"
    assert arena.live_views == views
