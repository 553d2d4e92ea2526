"""RegionBase: the place, size, lifetime and views of a region, which its other parts build on."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, TypeVar

from mmapwrap._core import calls, changes, python_types
from mmapwrap._core.arguments import as_integer
from mmapwrap._core.pages import CLOSED_PAGES, Pages
from mmapwrap._core.views import LiveViews
from mmapwrap._ranges import range_end
from mmapwrap._regions.fault_guard import FaultGuard
from mmapwrap.errors import ClosedMappingError

if TYPE_CHECKING:
    from typing import Self

_ANY_CONTIGUOUS: Final = 0x80
"""The bit of PyBUF_ANY_CONTIGUOUS that no other request has."""


class RegionBase(python_types.Exporter):
    """Hold a region's pages while it is open, and the buffers that were exported from them."""

    __slots__ = ("__weakref__", "_kept", "_pages", "_views")

    _pages: Pages
    _views: LiveViews
    _kept: "tuple[python_types.Export, ...]"
    """Exports that live as long as the region; see `_export`."""

    # --- Place and size -------------------------------------------------------------------------

    def _open_pages(self) -> Pages:
        """Return the pages of an open region.

        Raises:
            ClosedMappingError: The region is closed.
        """
        pages = self._pages
        if not calls.is_open(pages.handle):
            raise ClosedMappingError
        return pages

    def as_ptr(self) -> int:
        """Return the address of the region's first byte.

        Raises:
            ClosedMappingError: The region is closed.

        Safety:
            The number keeps no page alive. The caller keeps the region open while it uses the
            address, and stays inside the region.

        Example:
            >>> import ctypes
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping[:5] = b"hello"
            >>> ctypes.string_at(mapping.as_ptr(), 5)
            b'hello'
        """
        return calls.address(self._open_pages().handle)

    @property
    def size(self) -> int:
        """The region's size in bytes.

        Raises:
            ClosedMappingError: The region is closed.
        """
        return self._open_pages().size

    def __len__(self) -> int:
        return self._open_pages().size

    def range_end(self, offset: SupportsIndex, count: SupportsIndex) -> int:
        """Return `offset + count` if the region holds that range.

        Args:
            offset: The first byte of the range.
            count: The bytes of the range.

        Returns:
            The offset of the first byte after the range, in bytes.

        Raises:
            InvalidRangeError: The range is not inside the region: it is negative, ends past the
                region, or ends past 2**64.
            ClosedMappingError: The region is closed.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(10)
            >>> mapping.range_end(6, 4)
            10
            >>> mapping.range_end(6, 5)
            Traceback (most recent call last):
            mmapwrap.errors.InvalidRangeError: the range of 5 bytes at offset 6 ends at 11, ...
        """
        start, length = as_integer(offset, "offset"), as_integer(count, "count")
        return range_end(start, length, self.size)

    # --- Lifetime -------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the region is closed here: by `close`, or by a fork after `use_dontfork`."""
        return not calls.is_open(self._pages.handle)

    @property
    def live_views(self) -> int:
        """The number of exported views that keep the pages alive, also after `close`.

        A slice of a view, and an array that was made of it, count as that view.
        """
        return len(self._views)

    def close(self) -> None:
        """Close the region: every later use is a ClosedMappingError.

        The pages are unmapped, munmap(2), at once, or when the last view, slice or call in another
        thread that still uses them ends. Closing never fails and may be repeated.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping.close()
            >>> mapping.size
            Traceback (most recent call last):
            mmapwrap.errors.ClosedMappingError: the region or shared memory is closed
        """
        pages, self._pages = self._pages, CLOSED_PAGES
        pages.is_closed = True

    def __enter__(self) -> "Self":
        self._open_pages()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.closed:
            return f"<{name}, closed>"
        return f"<{name} of {self.size} bytes at {self.as_ptr():#x}>"

    def fault_guard(self) -> FaultGuard:
        """Return a `with` block in which a missing page does not kill the process.

        Inside the block, pages that cannot be read in (the file was truncated, its disk failed)
        read as zeros, in every thread. The block then ends with a MappingFaultError, and every
        later use of the region is that error too, until `recover`.

        Raises:
            ClosedMappingError: The region was closed before this call; raised where the block
                begins. A guard keeps the pages, and may be entered after `close` for their views.
            MappingFaultError: Pages could not be read in, in the block or before it; raised where
                the block begins or ends.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.TemporaryFile() as file:
            ...     size = file.truncate(4096)
            ...     mapping = MemoryMapping.from_file(file)
            ...     size = file.truncate(0)
            >>> with mapping.fault_guard():
            ...     first = mapping.view()[0]
            Traceback (most recent call last):
            mmapwrap.errors.MappingFaultError: [Errno 5] 1 page at offset 0 could not be ...
        """
        return FaultGuard(self._pages)

    def recover(self) -> None:
        """Map the file's pages anew that a guard has replaced by zeros. mremap(2), Linux 5.13.

        The region can be used again, and shows the file's content of now; bytes that were written
        to the zeros are lost. Where the file is still too short, the next access is a
        MappingFaultError. A region in which no page was replaced stays as it is.

        Raises:
            ClosedMappingError: The region is closed.
            RecoverUnsupportedError: The kernel could not set a page aside, because it is older
                than Linux 5.13 or the process was at its limit of mappings. Map the file anew.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows, or no
                addresses left (RLIMIT_AS) in which the pages can be for a moment.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MappingFaultError, MemoryMapping
            >>> with tempfile.TemporaryFile() as file:
            ...     size = file.truncate(4096)
            ...     mapping = MemoryMapping.from_file(file)
            ...     size = file.truncate(0)
            ...     try:
            ...         with mapping.fault_guard():
            ...             first = mapping.view()[0]
            ...     except MappingFaultError:
            ...         size = file.truncate(4096)
            ...         mapping.recover()
            >>> mapping.is_all_zero()
            True
        """
        pages = self._open_pages()
        pages.exclusively(changes.recover, pages)

    # --- Views ----------------------------------------------------------------------------------

    def view(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> memoryview:
        """Return a view of a range: the memory itself, not a copy.

        The view is one-dimensional, of format 'B', and read-only unless all of the range is
        writable. It keeps the pages alive, also past `close`. While it lives, a change that would
        take pages or access away from it is a ViewsExportedError.

        Args:
            offset: The first byte of the range.
            count: The bytes of the range; None: up to the region's end.

        Returns:
            The view. `release` it, or delete it, to end it.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: A fault guard has replaced pages of the region by zeros.

        Safety:
            A view shows the memory as the kernel does: where the file was truncated, an access to
            the view is SIGBUS, except inside `fault_guard`.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> with mapping.view(0, 8) as view:
            ...     view[:2] = b"hi"
            >>> mapping[:2]
            b'hi'
        """
        return memoryview(self._pages.export(offset, count))

    if TYPE_CHECKING:

        def __buffer__(self, flags: int, /) -> memoryview: ...

    def _export(self, flags: int) -> "python_types.Export":
        """Return the buffer that `csrc/exporter.c` gives to a consumer of the buffer protocol.

        `numpy.ndarray(buffer=region)`, which asks for any contiguous buffer, releases it at once
        and keeps the region instead, so the region keeps the export.
        """
        export = self._pages.export(0, None)
        if flags & _ANY_CONTIGUOUS:
            wanted = self._views[id(export)]
            for kept in self._kept:
                if self._views[id(kept)] == wanted:
                    return kept
            self._kept += (export,)
        return export

    # NumPy passes both by position or by name.
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001
        r"""Return the region as a NumPy array of bytes; copy only if `dtype` or `copy` asks for it.

        Errors: see `view`.

        Raises:
            MappingFaultError: The array is a copy, and some of the region could not be read in.
            ValueError: `copy` is False, and the dtype needs a copy.

        Example:
            >>> import numpy
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4)
            >>> numpy.asarray(mapping)[1] = 7
            >>> mapping[:]
            b'\x00\x07\x00\x00'
        """
        from mmapwrap._adapters import arrays  # noqa: PLC0415  # it imports NumPy

        return arrays.array_of(self._open_pages(), dtype, copy=copy)


R = TypeVar("R", bound=RegionBase)


def region_of(kind: type[R], pages: Pages) -> R:
    """Return a region of mapped pages. The kinds of regions have no constructor that does."""
    region = object.__new__(kind)
    region._pages = pages  # pyright: ignore[reportPrivateUsage]
    region._views = pages.views  # pyright: ignore[reportPrivateUsage]
    region._kept = ()  # pyright: ignore[reportPrivateUsage]
    return region
