"""MemoryMappingArena: reserved addresses, to which memory and files are added and removed."""

import errno
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, SupportsIndex, final

import attrs

from mmapwrap._core import calls, changes, constants, descriptors, failures, mapping
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
from mmapwrap._core.protection import READ_WRITE, Protection, Sharing
from mmapwrap._core.range_map import RangeMap
from mmapwrap._regions.base import region_of
from mmapwrap._regions.region import MappedRegion
from mmapwrap.errors import (
    MmapError,
    NotPageAlignedError,
    OutOfMemoryError,
    SystemCallError,
    hinted,
)

if TYPE_CHECKING:
    from collections.abc import Callable


_ANONYMOUS_FLAGS: Final = constants.MAP_SHARED | constants.MAP_ANONYMOUS | constants.MAP_NORESERVE
_FILE_FLAGS: Final = constants.MAP_SHARED | constants.MAP_NORESERVE


@attrs.frozen
class Segment:
    """A range of an arena that holds memory or a file.

    Args:
        offset: The first byte in the arena.
        size: Bytes.
        prot: The access that the range allows.
        fd_offset: The offset in the file of the first byte; None if the memory is anonymous.

    Example:
        >>> from mmapwrap import MemoryMappingArena, page_size
        >>> arena = MemoryMappingArena.new(4 * page_size())
        >>> arena.add_anon(page_size(), page_size())
        >>> [segment] = arena.segments()
        >>> segment.offset == segment.size == page_size(), str(segment.prot), segment.fd_offset
        (True, 'rw-', None)
    """

    offset: int
    size: int
    prot: Protection
    fd_offset: int | None


class _IntoArena(Protocol):
    """A MemoryMapping, which this module is below."""

    def into_arena(self) -> "MemoryMappingArena": ...


class _Placement(NamedTuple):
    """A mapping that is to be placed in the arena: the arguments of mmap(2)."""

    bits: int
    flags: int
    fd: int
    """-1: anonymous memory."""
    file_offset: int


class _Source:
    """The origin of a segment's content.

    Segments are of one mapping if they have the same source. Two mappings of the same content have
    two sources, so that they stay two segments.
    """

    __slots__ = ("origin",)

    def __init__(self, origin: int | None) -> None:
        self.origin: Final = origin
        """The file offset that the arena's first byte would have; None: anonymous."""


@final
class MemoryMappingArena(NamedConstructors, MappedRegion, made_by="MemoryMappingArena.new(size)"):
    """A range of addresses that holds memory and files at page offsets, and nothing elsewhere.

    A part that holds nothing costs no memory and allows no access: a read there is a
    ProtectionError. Adding over something replaces that part of it; a failed call leaves the arena
    as it was.

    Example:
        >>> from mmapwrap import MemoryMappingArena, page_size
        >>> with MemoryMappingArena.new(1 << 30) as arena:
        ...     arena.add_anon(0, page_size())
        ...     arena[0:5] = b"hello"
        ...     arena[page_size()]
        Traceback (most recent call last):
        mmapwrap.errors.ProtectionError: read access is needed, but the range allows no access ...
    """

    __slots__ = ("_sources",)

    _sources: RangeMap[_Source | None]

    @classmethod
    def new(cls, size: SupportsIndex) -> "MemoryMappingArena":
        """Reserve addresses. mmap(2), PROT_NONE, MAP_PRIVATE, MAP_NORESERVE.

        Args:
            size: Bytes, rounded up to whole pages.

        Raises:
            InvalidArgumentError: The size is 0, negative or past 2**64.
            OutOfMemoryError: The address space has no room for it (RLIMIT_AS counts it).

        Example:
            >>> from mmapwrap import MemoryMappingArena
            >>> arena = MemoryMappingArena.new(1 << 30)
            >>> arena.size, arena.segments()
            (1073741824, ())
        """
        pages = map_memory(size, Protection.none(), Sharing.PRIVATE)
        changes.become_arena(pages)
        return _arena_of(pages, None)

    @classmethod
    def from_mapping(cls, mapping: _IntoArena) -> "MemoryMappingArena":
        """Take a mapping's pages over, without a copy; close the mapping.

        Errors: see `MemoryMapping.into_arena`. Its views stay as they are. Its size is rounded up
        to whole pages.

        Args:
            mapping: A MemoryMapping.

        Raises:
            TypeError: The argument is no MemoryMapping.

        Example:
            >>> from mmapwrap import MemoryMapping, MemoryMappingArena
            >>> arena = MemoryMappingArena.from_mapping(MemoryMapping.anonymous(4096))
            >>> len(arena.segments())
            1
        """
        if (into_arena := getattr(mapping, "into_arena", None)) is None:
            raise TypeError(f"mapping must be a MemoryMapping, not {type(mapping).__name__}")
        arena: MemoryMappingArena = into_arena()
        return arena

    # --- Segments -------------------------------------------------------------------------------

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments of the arena, in the order of their offsets, without overlap.

        Raises:
            ClosedMappingError: The arena is closed.
            RegionBusyError: A signal handler or a finalizer made the call inside a change of the
                arena by the same thread.

        Example:
            >>> from mmapwrap import MemoryMappingArena, Protection, page_size
            >>> arena = MemoryMappingArena.new(4 * page_size())
            >>> arena.add_anon(0, page_size())
            >>> arena.add_anon_protection(2 * page_size(), page_size(), Protection.read())
            >>> [(s.offset // page_size(), str(s.prot)) for s in arena.segments()]
            [(0, 'rw-'), (2, 'r--')]
        """
        pages = self._open_pages()
        return pages.consistently(self._segments, pages)

    def _segments(self, pages: Pages) -> tuple[Segment, ...]:
        """Return the segments; run consistently."""
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
        """Map anonymous memory into the arena, read/write. Errors: see `add_anon_protection`.

        Args:
            offset: The first byte in the arena, on a page.
            size: Bytes, rounded up to whole pages.

        Example:
            >>> from mmapwrap import MemoryMappingArena, page_size
            >>> arena = MemoryMappingArena.new(1 << 20)
            >>> arena.add_anon(0, page_size())
            >>> arena[0] = 1
        """
        self._place(offset, size, READ_WRITE)

    def add_anon_protection(
        self, offset: SupportsIndex, size: SupportsIndex, prot: Protection
    ) -> None:
        """Map anonymous memory into the arena: zeros, shared with children. mmap(2), MAP_FIXED.

        Args:
            offset: The first byte in the arena, on a page.
            size: Bytes, rounded up to whole pages.
            prot: The access to allow.

        Raises:
            ClosedMappingError: The arena is closed.
            InvalidRangeError: The range is not inside the arena.
            InvalidArgumentError: The size is 0 or negative.
            NotPageAlignedError: The offset is not on a page.
            ViewsExportedError: A live view shows some of the range that would be replaced.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
            RegionBusyError: A signal handler or a finalizer made the call inside another change of
                the arena by the same thread.
            TypeError: An argument has a wrong type.

        Example:
            >>> from mmapwrap import MemoryMappingArena, Protection, page_size
            >>> arena = MemoryMappingArena.new(1 << 20)
            >>> arena.add_anon_protection(0, page_size(), Protection.read())
            >>> arena[0]
            0
        """
        self._place(offset, size, prot)

    def add_fd(self, offset: SupportsIndex, size: SupportsIndex, fd: Descriptor) -> None:
        """Map a file from its start into the arena, read/write.

        Errors: see `add_fd_offset_protection`.

        Args:
            offset: The first byte in the arena, on a page.
            size: Bytes, rounded up to whole pages; the file's length is not checked.
            fd: A descriptor, or an object with one; it may be closed afterwards.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMappingArena
            >>> arena = MemoryMappingArena.new(1 << 20)
            >>> with tempfile.TemporaryFile(buffering=0) as file:
            ...     size = file.write(b"hello")
            ...     arena.add_fd(0, size, file)
            >>> arena[:5]
            b'hello'
        """
        self._place(offset, size, READ_WRITE, (fd, 0))

    def add_fd_offset(
        self, offset: SupportsIndex, size: SupportsIndex, fd: Descriptor, fd_offset: SupportsIndex
    ) -> None:
        """Map a range of a file into the arena, read/write.

        Errors: see `add_fd_offset_protection`.

        Args:
            offset: The first byte in the arena, on a page.
            size: Bytes, rounded up to whole pages; the file's length is not checked.
            fd: A descriptor, or an object with one; it may be closed afterwards.
            fd_offset: Bytes into the file, on a page.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMappingArena, page_size
            >>> arena = MemoryMappingArena.new(1 << 20)
            >>> with tempfile.TemporaryFile() as file:
            ...     size = file.truncate(4 * page_size())
            ...     arena.add_fd_offset(0, page_size(), file, 3 * page_size())
            >>> arena.segments()[0].fd_offset == 3 * page_size()
            True
        """
        self._place(offset, size, READ_WRITE, (fd, fd_offset))

    def add_fd_offset_protection(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        fd: Descriptor,
        fd_offset: SupportsIndex,
        prot: Protection,
    ) -> None:
        """Map a range of a file into the arena, shared. mmap(2), MAP_FIXED.

        Errors: see `add_anon_protection` and `MemoryMapping`.

        Args:
            offset: The first byte in the arena, on a page.
            size: Bytes, rounded up to whole pages; the file's length is not checked.
            fd: A descriptor, or an object with one; it may be closed afterwards.
            fd_offset: Bytes into the file, on a page.
            prot: The access to allow.

        Raises:
            NotPageAlignedError: The offset in the file is not on a page.
            InvalidOffsetError: The offset in the file is negative or past 2**63 - 1.
            TooManyFilesError: RLIMIT_NOFILE is reached: the call takes a descriptor of its own.

        Example:
            >>> from mmapwrap import MemoryMappingArena, Protection
            >>> arena = MemoryMappingArena.new(1 << 20)
            >>> with open("/proc/self/exe", "rb") as program:
            ...     arena.add_fd_offset_protection(0, 4096, program, 0, Protection.read())
            >>> arena[1:4]
            b'ELF'
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
        """Map a range of a file into the arena.

        Arguments and errors: see `add_fd_offset_protection`.
        """
        self._place(offset, size, prot, (fd, fd_offset))

    def protect(
        self, prot: Protection, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Change the access that a range allows; all of the range holds something. mprotect(2).

        Errors: see `MappedRegion.protect`.

        Args:
            prot: The access to allow from now on.
            offset: The first byte of the range, on a page.
            count: The bytes of the range; None: up to the arena's end.

        Raises:
            ProtectionError: Some of the range holds nothing, and so can allow nothing.

        Example:
            >>> from mmapwrap import MemoryMappingArena, Protection, page_size
            >>> arena = MemoryMappingArena.new(4 * page_size())
            >>> arena.add_anon(0, 2 * page_size())
            >>> arena.protect(Protection.read(), 0, page_size())
            >>> [str(segment.prot) for segment in arena.segments()]
            ['r--', 'rw-']
        """
        super().protect(prot, offset, count)

    def remove(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Remove the memory and files of a range, which is then reserved again. mmap(2), MAP_FIXED.

        Args:
            offset: The first byte in the arena, on a page.
            size: Bytes, rounded up to whole pages.

        Raises:
            ClosedMappingError: The arena is closed.
            InvalidRangeError: The range is not inside the arena.
            InvalidArgumentError: The size is 0 or negative.
            NotPageAlignedError: The offset is not on a page.
            ViewsExportedError: A live view shows some of the range.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
            RegionBusyError: A signal handler or a finalizer made the call inside another change of
                the arena by the same thread.

        Example:
            >>> from mmapwrap import MemoryMappingArena, page_size
            >>> arena = MemoryMappingArena.new(4 * page_size())
            >>> arena.add_anon(0, 4 * page_size())
            >>> arena.remove(0, 3 * page_size())
            >>> [segment.offset // page_size() for segment in arena.segments()]
            [3]
        """
        start, count = as_integer(offset, "offset"), as_size(size)
        pages = self._open_pages()
        pages.exclusively(self._remove, pages, start, count)

    def remove_mapping(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Remove the memory and files of a range. Arguments and errors: see `remove`."""
        self.remove(offset, size)

    # --- Changes, which run exclusively; the last starts one --------------------------------------

    def _range(self, pages: Pages, offset: int, size: int) -> tuple[int, int]:
        """Return the start and end of a range's whole pages, which a change may replace.

        Raises:
            NotPageAlignedError: The offset is not on a page.
            InvalidRangeError: The range is not inside the arena.
            ViewsExportedError: A live view shows some of the range.
        """
        page_size = pages.page_size
        if offset >= 0 and offset % page_size:
            raise NotPageAlignedError(offset, page_size)
        start, end = pages.checked_range(offset, size)
        end = -(-end // page_size) * page_size
        pages.require_whole_pages(start, end)
        pages.views.refuse(start, end, 0)
        return start, end

    def _protect(self, pages: Pages, prot: Protection, start: int, end: int) -> None:
        """Change the protection of a range that holds something everywhere."""
        if prot.bits and any(source is None for _, _, source in self._sources.pieces(start, end)):
            hint = "some of it holds nothing: add memory or a file first"
            raise hinted(pages.access.error(prot.bits, start, end), hint)
        super()._protect(pages, prot, start, end)

    def _remove(self, pages: Pages, offset: int, size: int) -> None:
        """Reserve a range again."""
        start, end = self._range(pages, offset, size)
        reserve = partial(calls.reserve, pages.handle, start, end - start)
        result = self._replace(pages, start, end, 0, None, reserve, pages.page_size)
        pages.raise_failure(result, start, end - start)

    def _map_over(self, pages: Pages, offset: int, size: int, placement: _Placement) -> None:
        """Map memory or a file over a range."""
        page_size = max(descriptors.file_page_size(placement.fd), pages.page_size)
        if placement.file_offset % page_size:
            raise NotPageAlignedError(placement.file_offset, page_size)
        start, end = self._range(pages, offset, size)
        if (end - start) % page_size:
            raise NotPageAlignedError(size, page_size)
        lead_in = calls.lead_in(pages.handle, page_size)
        if (start + lead_in) % page_size:
            raise NotPageAlignedError(start, page_size, lead_in)
        # In a child that was forked inside a change there may be access without a source.
        replaces = any(source for _, _, source in self._sources.pieces(start, end)) or any(
            bits for _, _, bits in pages.access.ranges(start, end)
        )
        place = partial(calls.place, pages.handle, start, end - start, (*placement, replaces))
        source = _Source(None if placement.fd < 0 else placement.file_offset - start)
        result = self._replace(pages, start, end, placement.bits, source, place, page_size)
        if result < 0:
            raise _placing_error(pages, -result, start, end - start, placement)

    def _replace(
        self,
        pages: Pages,
        start: int,
        end: int,
        bits: int,
        source: _Source | None,
        act: "Callable[[], int]",
        page_size: int,
    ) -> int:
        """Act on a range and remember its new content; return the act's result.

        Until the act has ended the range counts as one that holds nothing. That stays so if a
        signal handler raises in the middle of the change, and in a child that is forked there.

        Args:
            pages: The arena's pages.
            start: The range's first byte.
            end: The byte after its last.
            bits: The PROT_* bits that the range has after the act.
            source: The origin of the range's new content; None: it holds nothing.
            act: Runs a C function on the range.
            page_size: The size of the range's new pages in bytes.
        """
        before = self._sources.pieces(start, end)
        try:
            self._sources.assign(start, end, None)
            result = changes.replace(pages, start, end, bits, page_size, act)
            if result >= 0:
                self._sources.assign(start, end, source)
            elif result != -failures.Refusal.CONTENT_LOST:
                for first, last, old in before:
                    self._sources.assign(first, last, old)
        except BaseException:
            pages.access.set_none(pages.size, start, end)
            self._sources.assign(start, end, None)
            raise
        if result == -failures.Refusal.CONTENT_LOST:
            raise hinted(
                OutOfMemoryError(errno.ENOMEM, "mremap"),
                f"the kernel unmapped the {end - start} bytes at offset {start} before it refused; "
                "they hold nothing now",
            )
        return result

    def _place(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        prot: Protection,
        file: tuple[Descriptor, SupportsIndex] | None = None,
    ) -> None:
        """Check the arguments of a placement, and place it exclusively."""
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


def _placing_error(
    pages: Pages, failure: int, offset: int, count: int, placement: _Placement
) -> MmapError:
    """Return the error of a placement that failed, with the cause that a new mapping has."""
    bits, flags, fd, file_offset = placement
    request = mapping.Request(0, count, constants.PAGE_SIZE, bits, flags, fd, file_offset)
    error = pages.error(failure, offset, count)
    return mapping.with_cause(error, request) if isinstance(error, SystemCallError) else error


def _arena_of(pages: Pages, source: _Source | None) -> MemoryMappingArena:
    """Return an arena of pages whose content has this source."""
    arena = region_of(MemoryMappingArena, pages)
    arena._sources = RangeMap(pages.size, source)  # pyright: ignore[reportPrivateUsage]
    return arena


def arena_holding(pages: Pages) -> MemoryMappingArena:
    """Return an arena of pages that hold a mapping; run exclusively."""
    changes.become_arena(pages)
    return _arena_of(pages, _Source(pages.file_offset))
