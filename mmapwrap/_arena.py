"""MemoryMappingArena: reserved addresses, into which memory and files are mapped and taken out."""

import errno
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, SupportsIndex, final

import attrs

from mmapwrap._core import calls, changes, constants, descriptors, failures
from mmapwrap._core.arguments import (
    Descriptor,
    as_descriptor,
    as_file_offset,
    as_integer,
    as_protection,
    as_size,
)
from mmapwrap._core.construction import NamedConstructors
from mmapwrap._core.creation import map_memory
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap._core.range_map import RangeMap
from mmapwrap._regions.base import region_of
from mmapwrap._regions.region import MappedRegion
from mmapwrap.errors import NotPageAlignedError, OutOfMemoryError, hinted

if TYPE_CHECKING:
    from collections.abc import Callable


_ANONYMOUS_FLAGS: Final = constants.MAP_SHARED | constants.MAP_ANONYMOUS | constants.MAP_NORESERVE
_FILE_FLAGS: Final = constants.MAP_SHARED | constants.MAP_NORESERVE
_READ_WRITE: Final = Protection.read_write()


@attrs.frozen
class Segment:
    """A range of an arena that holds something.

    Args:
        offset: Where it starts in the arena, in bytes.
        size: Its bytes.
        prot: What it allows.
        fd_offset: Where in its file it starts, in bytes; None where it is anonymous.
    """

    offset: int
    size: int
    prot: Protection
    fd_offset: int | None


class _IntoArena(Protocol):
    """A MemoryMapping, which this module is below."""

    def into_arena(self) -> "MemoryMappingArena": ...


class _Placement(NamedTuple):
    """What is to be mapped into the arena: the arguments of mmap(2)."""

    bits: int
    flags: int
    fd: int
    """-1: anonymous memory."""
    file_offset: int


class _Source:
    """Where the content of a segment comes from.

    Two segments of the same origin that were added one by one have two of these, so that they stay
    two segments.
    """

    __slots__ = ("origin",)

    def __init__(self, origin: int | None) -> None:
        self.origin: Final = origin
        """The file offset that the arena's first byte would have; None: anonymous."""


@final
class MemoryMappingArena(NamedConstructors, MappedRegion, made_by="MemoryMappingArena.new(size)"):
    """A range of addresses that holds memory and files at page offsets, and nothing elsewhere.

    What holds nothing costs no memory and allows no access: a read there is a ProtectionError.
    Adding over something replaces that part of it; a failed call leaves the arena as it was.
    """

    __slots__ = ("_sources",)

    _sources: RangeMap[_Source | None]

    @classmethod
    def new(cls, size: SupportsIndex) -> "MemoryMappingArena":
        """Reserves addresses. mmap(2), PROT_NONE, MAP_PRIVATE, MAP_NORESERVE.

        Args:
            size: Bytes, rounded up to whole pages.

        Raises:
            InvalidArgumentError: The size is 0, negative or past 2**64.
            OutOfMemoryError: No room for it in the address space (RLIMIT_AS counts it).
        """
        pages = map_memory(size, Protection.none(), Sharing.PRIVATE)
        changes.become_arena(pages)
        return _arena_of(pages, None)

    @classmethod
    def from_mapping(cls, mapping: _IntoArena) -> "MemoryMappingArena":
        """Takes a mapping's pages over, without a copy; the mapping is closed.

        Its views stay as they are. Its size is rounded up to whole pages.

        Raises:
            ClosedMappingError: The mapping is closed.
            NotPageAlignedError: The mapping starts inside a page of its file.
        """
        if (into_arena := getattr(mapping, "into_arena", None)) is None:
            raise TypeError(f"mapping must be a MemoryMapping, not {type(mapping).__name__}")
        arena: MemoryMappingArena = into_arena()
        return arena

    # --- What it holds --------------------------------------------------------------------------

    def segments(self) -> tuple[Segment, ...]:
        """Returns what the arena holds, in the order of the addresses, without overlap.

        Raises:
            ClosedMappingError: The arena is closed.
            RegionBusyError: Asked in the middle of a change of the arena, by a signal handler or a
                finalizer.
        """
        pages = self._open_pages()
        return pages.consistently(self._segments, pages)

    def _segments(self, pages: Pages) -> tuple[Segment, ...]:
        return tuple(
            Segment(
                start,
                end - start,
                Protection.from_bits(bits),
                None if source.origin is None else source.origin + start,
            )
            for first, last, source in self._sources.pieces(0, pages.size)
            if source is not None
            for start, end, bits in pages.access.ranges(first, last)
        )

    def add_anon(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Maps anonymous memory into the arena, read/write; see `add_anon_protection`."""
        self._place(offset, size, _READ_WRITE)

    def add_anon_protection(
        self, offset: SupportsIndex, size: SupportsIndex, prot: Protection
    ) -> None:
        """Maps anonymous memory into the arena: zeros, shared with children. mmap(2), MAP_FIXED.

        Args:
            offset: Where in the arena, on a page.
            size: Bytes, rounded up to whole pages.
            prot: What to allow.

        Raises:
            ClosedMappingError: The arena is closed.
            InvalidRangeError: The range is not inside the arena.
            InvalidArgumentError: The size is 0 or negative.
            NotPageAlignedError: The offset is not on a page.
            ViewsExportedError: A live view shows some of what would be replaced.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
        """
        self._place(offset, size, prot)

    def add_fd(self, offset: SupportsIndex, size: SupportsIndex, fd: Descriptor) -> None:
        """Maps a file from its start into the arena, read/write; see `add_fd_offset_protection`."""
        self._place(offset, size, _READ_WRITE, (fd, 0))

    def add_fd_offset(
        self, offset: SupportsIndex, size: SupportsIndex, fd: Descriptor, fd_offset: SupportsIndex
    ) -> None:
        """Maps a range of a file into the arena, read/write; see `add_fd_offset_protection`."""
        self._place(offset, size, _READ_WRITE, (fd, fd_offset))

    def add_fd_offset_protection(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        fd: Descriptor,
        fd_offset: SupportsIndex,
        prot: Protection,
    ) -> None:
        """Maps a range of a file into the arena, shared. mmap(2), MAP_FIXED.

        Args:
            offset: Where in the arena, on a page.
            size: Bytes, rounded up to whole pages; the file's length is not checked.
            fd: A descriptor or an object with one; it may be closed afterwards.
            fd_offset: Where in the file, on a page.
            prot: What to allow.

        Raises:
            The errors of `add_anon_protection`, and those of a MemoryMapping of the file.
            TooManyFilesError: RLIMIT_NOFILE is reached: the call takes a descriptor of its own.
            InvalidOffsetError: The file offset is negative or past 2**63 - 1.
        """
        self._place(offset, size, prot, (fd, fd_offset))

    def add_fd_mapping(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        fd: Descriptor,
        fd_offset: SupportsIndex,
        prot: Protection,
    ) -> None:
        """Maps a range of a file into the arena; see `add_fd_offset_protection`."""
        self._place(offset, size, prot, (fd, fd_offset))

    def protect(
        self, prot: Protection, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Changes what a range allows that holds something everywhere. mprotect(2).

        Args:
            prot: What to allow from now on.
            offset: The first byte of the range, on a page.
            count: The bytes of the range; None: up to the arena's end.

        Raises:
            ProtectionError: Some of the range holds nothing, and so can allow nothing.
            The errors of `MappedRegion.protect`.
        """
        super().protect(prot, offset, count)

    def remove(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Takes out whatever the range holds: it is reserved again. mmap(2), MAP_FIXED.

        Args:
            offset: Where in the arena, on a page.
            size: Bytes, rounded up to whole pages.

        Raises:
            ClosedMappingError: The arena is closed.
            InvalidRangeError: The range is not inside the arena.
            InvalidArgumentError: The size is 0 or negative.
            NotPageAlignedError: The offset is not on a page.
            ViewsExportedError: A live view shows some of the range.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
        """
        start, count = as_integer(offset, "offset"), as_size(size)
        pages = self._open_pages()
        pages.exclusively(self._remove, pages, start, count)

    def remove_mapping(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Takes out whatever the range holds; see `remove`."""
        self.remove(offset, size)

    # --- How: each but the last is called by `Pages.exclusively` ----------------------------------

    def _range(self, pages: Pages, offset: int, size: int) -> tuple[int, int]:
        """The whole pages of a range that may change: it is inside, and no view shows any of it."""
        page_size = pages.page_size
        if offset >= 0 and offset % page_size:
            raise NotPageAlignedError(offset, page_size)
        start, end = pages.checked_range(offset, size)
        end = -(-end // page_size) * page_size
        pages.require_whole_pages(start, end)
        pages.views.refuse(start, end, 0)
        return start, end

    def _protect(self, pages: Pages, prot: Protection, start: int, end: int) -> None:
        if prot.bits and any(source is None for _, _, source in self._sources.pieces(start, end)):
            hint = "some of it holds nothing: add memory or a file first"
            raise hinted(pages.access.error(prot.bits, start, end), hint)
        super()._protect(pages, prot, start, end)

    def _remove(self, pages: Pages, offset: int, size: int) -> None:
        start, end = self._range(pages, offset, size)
        reserve = partial(calls.reserve, pages.handle, start, end - start)
        self._replace(pages, start, end, 0, None, reserve, pages.page_size)

    def _map_over(self, pages: Pages, offset: int, size: int, placement: _Placement) -> None:
        page_size = max(descriptors.file_page_size(placement.fd), pages.page_size)
        if placement.file_offset % page_size:
            raise NotPageAlignedError(placement.file_offset, page_size)
        start, end = self._range(pages, offset, size)
        if (end - start) % page_size:
            raise NotPageAlignedError(size, page_size)
        lead_in = calls.address(pages.handle) % page_size
        if (start + lead_in) % page_size:
            raise NotPageAlignedError(start, page_size, lead_in)
        replaces = any(source for _, _, source in self._sources.pieces(start, end))
        place = partial(calls.place, pages.handle, start, end - start, (*placement, replaces))
        source = _Source(None if placement.fd < 0 else placement.file_offset - start)
        self._replace(pages, start, end, placement.bits, source, place, page_size)

    def _replace(
        self,
        pages: Pages,
        start: int,
        end: int,
        bits: int,
        source: _Source | None,
        act: "Callable[[], int]",
        page_size: int,
    ) -> None:
        """Acts, and remembers what the range holds then.

        Until that is known the range counts as one that holds nothing: for good where a signal
        handler interrupts the change, and in a child that is forked in the middle of it.
        """
        before = self._sources.pieces(start, end)
        self._sources.assign(start, end, None)
        try:
            result = changes.change_access(pages, start, end, bits, act)
        except BaseException:
            pages.access.set_none(pages.size, start, end)
            raise
        if result >= 0:
            changes.note_new_mapping(pages, start, end, page_size)
            self._sources.assign(start, end, source)
        elif result == -failures.Refusal.CONTENT_LOST:
            raise hinted(
                OutOfMemoryError(errno.ENOMEM, "mremap"),
                f"the kernel unmapped the {end - start} bytes at offset {start} before it refused; "
                "they hold nothing now",
            )
        else:
            for first, last, old in before:
                self._sources.assign(first, last, old)
        pages.raise_failure(result, start, end - start)

    def _place(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        prot: Protection,
        file: tuple[Descriptor, SupportsIndex] | None = None,
    ) -> None:
        bits = as_protection(prot).bits
        if file is None:
            placement = _Placement(bits, _ANONYMOUS_FLAGS, -1, 0)
        else:
            fd, file_offset = file
            number = as_descriptor(fd)
            placement = _Placement(
                bits, _FILE_FLAGS, number, as_file_offset(file_offset, "fd_offset")
            )
        start, count = as_integer(offset, "offset"), as_size(size)
        pages = self._open_pages()
        pages.exclusively(self._map_over, pages, start, count, placement)


def _arena_of(pages: Pages, source: _Source | None) -> MemoryMappingArena:
    arena = region_of(MemoryMappingArena, pages)
    arena._sources = RangeMap(pages.size, source)  # pyright: ignore[reportPrivateUsage]
    return arena


def arena_holding(pages: Pages) -> MemoryMappingArena:
    """Make an arena of pages that hold a mapping; exclusively."""
    changes.become_arena(pages)
    return _arena_of(pages, _Source(pages.file_offset))
