"""What a region is before anything is done with it: a place, a size, a lifetime, and views."""

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
"""PyBUF_ANY_CONTIGUOUS without the flags that it shares with others."""


class RegionBase(python_types.Exporter):
    """A region's pages while it is open, and what looks at them."""

    __slots__ = ("__weakref__", "_kept", "_pages", "_views")

    _pages: Pages
    _views: LiveViews
    _kept: "tuple[python_types.Export, ...]"
    """Exports that live as long as the region; see `_export`."""

    # --- Place and size -------------------------------------------------------------------------

    def _open_pages(self) -> Pages:
        pages = self._pages
        if not calls.is_open(pages.handle):
            raise ClosedMappingError
        return pages

    def as_ptr(self) -> int:
        """Returns the address of the region's first byte.

        Raises:
            ClosedMappingError: The region is closed.

        Safety:
            The number keeps nothing alive: what is done with it is the caller's to get right.
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
        """Returns `offset + count` where the region holds that range.

        Args:
            offset: The first byte of the range.
            count: The bytes of the range.

        Raises:
            InvalidRangeError: The range is not inside the region; negative numbers and ends past
                2**64 are not.
            ClosedMappingError: The region is closed.
        """
        start, length = as_integer(offset, "offset"), as_integer(count, "count")
        return range_end(start, length, self.size)

    # --- Lifetime -------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the region was closed, or stayed behind in a parent process (`use_dontfork`)."""
        return not calls.is_open(self._pages.handle)

    @property
    def live_views(self) -> int:
        """How many exported views keep the pages alive, also after `close()`.

        What is derived from a view (its slices, an array made of it) counts as that view.
        """
        return len(self._views)

    def close(self) -> None:
        """Ends the region: every later use is a ClosedMappingError.

        The pages are unmapped (munmap(2)) at once, or with the last view, slice or call in another
        thread that still uses them. Closing never fails and may be repeated.
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
        """Makes a block in which views of the region cannot kill the process.

        Inside `with region.fault_guard():`, pages that cannot be read in (the file was truncated,
        its disk failed) read as zeros, in every thread. The block then ends with a
        MappingFaultError, and so does every later use of the region until `recover`.

        The block raises:
            ClosedMappingError: The region is closed.
            MappingFaultError: Pages could not be read in, in the block or before it.
        """
        return FaultGuard(self._pages)

    def recover(self) -> None:
        """Map the file's pages anew that a guard has replaced by zeros. mremap(2), Linux 5.13.

        The region can be used again, and shows what the file has now; what was written to the
        zeros is lost. Where the file is still too short, the next access is a MappingFaultError.
        A region in which no page was replaced stays as it is.

        Raises:
            ClosedMappingError: The region is closed.
            UnsupportedOperationError: The kernel could not set a page aside, because it is older
                than Linux 5.13 or the process was at its limit of mappings. Map the file anew.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows, or no
                addresses left (RLIMIT_AS) in which the pages can be for a moment.
        """
        pages = self._open_pages()
        pages.exclusively(changes.recover, pages)

    # --- Views ----------------------------------------------------------------------------------

    def view(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> memoryview:
        """Returns the range itself, not a copy: one-dimensional, format 'B'.

        The view is read-only unless all of the range is writable. It keeps the pages alive, also
        past `close()`. While it lives, nothing that would make it crash is done to the region:
        see ViewsExportedError.

        Args:
            offset: The first byte of the range.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Pages of the region could not be read in before.

        Safety:
            A view shows the memory as the kernel does: where the file was cut short, touching it
            is SIGBUS.
        """
        return self._pages.view(offset, count)

    if TYPE_CHECKING:

        def __buffer__(self, flags: int, /) -> memoryview: ...

    def _export(self, flags: int) -> "python_types.Export":
        """The buffer that `csrc/exporter.c` gives to whoever asks the region for one.

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
        """The region as a NumPy array of bytes; no copy but where `dtype` or `copy` asks for it.

        Raises:
            The errors of `view`; a copy also MappingFaultError where pages cannot be read in.
        """
        from mmapwrap._adapters import arrays  # noqa: PLC0415  # it imports NumPy

        return arrays.array_of(self._open_pages(), dtype, copy=copy)


R = TypeVar("R", bound=RegionBase)
_new: Final = object.__new__


def region_of(kind: type[R], pages: Pages) -> R:
    """Makes a region of mapped pages; the kinds have no constructor that does."""
    region = _new(kind)
    region._pages = pages  # pyright: ignore[reportPrivateUsage]
    region._views = pages.views  # pyright: ignore[reportPrivateUsage]
    region._kept = ()  # pyright: ignore[reportPrivateUsage]
    return region
