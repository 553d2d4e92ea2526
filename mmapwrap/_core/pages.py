"""Pages: the owner of mapped pages, and the way to every call on a range of them.

The pages belong to a cffi handle whose owner unmaps them. The region, each exported buffer,
each slice and each call in flight hold that handle, so closing needs no lock, no page is unmapped
under a view or a call, and no page is unmapped twice.

Pages has a handle, an access map, live views, locked ranges, page sizes and a layout lock. It
checks a range and runs a C function on it; `changes.py` changes the access and content of ranges.
"""

from collections.abc import Callable
from typing import Final, SupportsIndex, TypeVar, TypeVarTuple

from mmapwrap._core import calls, python_types
from mmapwrap._core.access import AccessMap
from mmapwrap._core.advice import AnyAdvice, cause_of_refusal
from mmapwrap._core.arguments import as_integer
from mmapwrap._core.capacity import Capacity
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.dropping import advice_of, is_refused_for_a_lock
from mmapwrap._core.failures import Refusal, call_failure, fault_in, out_of_range
from mmapwrap._core.faults import fault_error, first_missing, replaced_error
from mmapwrap._core.layout import LayoutLock
from mmapwrap._core.locked_ranges import LockedRanges
from mmapwrap._core.page_sizes import PageSizes
from mmapwrap._core.protection import Sharing
from mmapwrap._core.views import LiveViews, View
from mmapwrap.errors import (
    ClosedMappingError,
    InvalidIndexError,
    InvalidRangeError,
    MmapError,
    NotPageAlignedError,
    UnsupportedByKernelError,
    VolatileMisalignedError,
    hinted,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Pages:
    """Mapped pages: their handle, the access that each range of them allows, and their live views.

    Args:
        handle: The owner of the pages.
        bits: The PROT_* bits that all pages have.
        sharing: Who sees the writes.
        file_offset: The offset in the file of the first byte; None: anonymous.
    """

    __slots__ = (
        "access",
        "capacity",
        "file_offset",
        "handle",
        "is_closed",
        "layout",
        "locked",
        "page_sizes",
        "sharing",
        "views",
    )

    capacity: Capacity | None
    page_sizes: PageSizes | None
    """The size of the kernel's pages by range; None where it is the same everywhere."""
    is_closed: bool
    """Whether the region was closed; its slices and views may go on."""

    def __init__(
        self, handle: calls.Handle, bits: int, sharing: Sharing, file_offset: int | None = None
    ) -> None:
        self.handle: calls.Handle = handle
        self.sharing: Sharing = sharing
        self.file_offset: int | None = file_offset
        self.access: AccessMap = AccessMap(bits)
        self.views: LiveViews = LiveViews()
        self.locked: LockedRanges = LockedRanges()
        self.layout: LayoutLock = LayoutLock()
        self.capacity = self.page_sizes = None
        self.is_closed = False

    @property
    def size(self) -> int:
        """The bytes of the region. C alone knows them, so that all threads see one change."""
        return calls.size(self.handle)

    @property
    def page_size(self) -> int:
        """The bytes of a page, as the kernel maps the region: those of a huge page of hugetlbfs."""
        return calls.page_size_of(self.handle)

    @property
    def lead_in(self) -> int:
        """The bytes of the first page that come before the region."""
        return calls.lead_in(self.handle, self.page_size)

    # --- Ranges and offsets that callers give -----------------------------------------------------

    def integer(self, value: SupportsIndex, name: str) -> int:
        """Return the integer of a caller's object, whose `__index__` may close the region.

        Raises:
            ClosedMappingError: The `__index__` has closed the region.
        """
        number = as_integer(value, name)
        if self.is_closed:
            raise ClosedMappingError
        return number

    def checked_range(self, offset: SupportsIndex, count: SupportsIndex | None) -> tuple[int, int]:
        """Return the start and end of a range that the region holds; None: up to its end."""
        start = offset if type(offset) is int else self.integer(offset, "offset")
        if count is None:
            length = max(self.size - start, 0)
        else:
            length = count if type(count) is int else self.integer(count, "count")
        self.run_on_range(calls.check_range, start, length)
        return start, start + length

    def checked_offset(self, need: int, offset: SupportsIndex, count: int) -> int:
        """Return a range's offset. Python checks access that differs by range; elsewhere C does."""
        start = offset if type(offset) is int else self.integer(offset, "offset")
        if self.access.by_range is not None:
            self.access.require(need, *self.checked_range(start, count))
        return start

    def index_of(self, need: int, key: SupportsIndex) -> int:
        """Return the offset of a byte to access: a negative key counts from the end."""
        index = self.integer(key, "index")
        if index < 0:
            index += self.size
        if self.access.by_range is not None and 0 <= index < self.size:
            self.access.require(need, index, index + 1)
        return index

    # --- Calls ------------------------------------------------------------------------------------

    def run_on_range(
        self,
        function: Callable[..., int],
        offset: SupportsIndex,
        count: SupportsIndex | None,
        argument: object = None,
        need: int = 0,
    ) -> int:
        """Run a C function on a range, which it checks, and return its result.

        Args:
            function: One of `calls.py` that takes a range.
            offset: The first byte.
            count: The bytes; None: up to the region's end.
            argument: The function's argument beside the range.
            need: The PROT_* bits that a function which touches the range needs.
        """
        if type(offset) is not int:
            offset = self.integer(offset, "offset")
        if count is None:
            count = self.size - offset
        elif type(count) is not int:
            count = self.integer(count, "count")
        if need and self.access.by_range is not None:
            self.access.require(need, *self.checked_range(offset, count))
        try:
            if argument is None:
                result = function(self.handle, offset, count)
            else:
                result = function(self.handle, offset, count, argument)
        except OverflowError:
            result = out_of_range(offset, count)
            count = max(count, 0) if offset > self.size else count  # past the end it has no bytes
        if result < 0:
            raise self.error(-result, offset, count, advice_of(function, argument))
        return result

    def raise_failure(
        self, result: int, offset: int = 0, count: int = 0, advice: AnyAdvice | None = None
    ) -> None:
        """Raise the error of a C function's result, if it is a failure."""
        if result < 0:
            raise self.error(-result, offset, count, advice)

    def error(
        self, failure: int, offset: int, count: int, advice: AnyAdvice | None = None
    ) -> MmapError:
        """Return the error of a C function that failed; if advice was refused, its hint says so."""
        if fault := fault_in(failure):
            offset = first_missing(self.handle, offset, count, fault.offset)
            return fault_error(self.handle, offset)
        if error := call_failure(failure):
            number, touched = error.errno, self.whole_pages(offset, offset + count)
            is_locked = self.locked.overlap(*touched) and is_refused_for_a_lock(
                self.handle, number, advice, offset, count
            )
            return hinted(error, cause_of_refusal(number, advice, is_locked=is_locked))
        if failure == Refusal.CLOSED or not calls.is_open(self.handle):
            return ClosedMappingError()
        return self._refusal(failure, offset, count)

    def _refusal(self, refusal: int, offset: int, count: int) -> MmapError:
        """Return the error of a refusal."""
        match refusal:
            case Refusal.OUT_OF_RANGE:
                return InvalidRangeError(offset, count, self.size)
            case Refusal.START_NOT_ON_PAGE | Refusal.END_NOT_ON_PAGE:
                edge = offset if refusal == Refusal.START_NOT_ON_PAGE else offset + count
                misaligned = NotPageAlignedError(edge, self.page_size, self.lead_in)
                misaligned.region_size = self.size
                return misaligned
            case Refusal.FAULTED:
                return replaced_error(self.handle)
            case Refusal.MISALIGNED:
                unaligned = VolatileMisalignedError(calls.address(self.handle) + offset, count)
                unaligned.offset = offset
                return unaligned
            case Refusal.NO_LINE_FLUSH:
                return UnsupportedByKernelError("flushing of cache lines")
            case _:
                need = PROT_READ if refusal == Refusal.NOT_READABLE else PROT_WRITE
                return self.access.error(need, offset, offset + count)

    def index_error(self, failure: int, key: SupportsIndex, index: int) -> MmapError:
        """Return the error of a C function that failed to touch one byte."""
        error = self.error(failure, index, 1)
        if isinstance(error, InvalidRangeError):
            return InvalidIndexError(as_integer(key, "index"), 1, self.size)
        return error

    # --- Whole pages ------------------------------------------------------------------------------

    def whole_pages(self, start: int, end: int) -> tuple[int, int]:
        """Return the pages that a range touches, in bytes from the start of the first page."""
        page_size, lead_in = self.page_size, self.lead_in
        return (
            (lead_in + start) // page_size * page_size,
            -(-(lead_in + end) // page_size) * page_size,
        )

    def require_whole_pages(self, start: int, end: int) -> None:
        """Require that a checked range cuts no page in two.

        The region's own start and end are allowed, also inside a page.

        Raises:
            NotPageAlignedError: An edge of the range lies inside a page.
        """
        self.run_on_range(calls.check_pages, start, end - start)
        if self.page_sizes is not None and start < end:
            self.page_sizes.require_edges(start, end)

    def widened(self, offset: SupportsIndex, count: SupportsIndex | None) -> tuple[int, int]:
        """Return a range's start and bytes, widened to huge pages; C widens to other pages."""
        start, end = self.checked_range(offset, count)
        if self.page_sizes is not None and start < end:
            start, end = self.page_sizes.widened(start, end)
        return start, end - start

    # --- The layout, and exports of it ------------------------------------------------------------

    def exclusively(self, change: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call a function that changes the layout, while no other thread changes it.

        Raises:
            RegionBusyError: The same thread is in the middle of such a call, and a signal handler
                or a finalizer has made this one.
        """
        return self.layout.exclusively(change, *arguments)

    def consistently(self, ask: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call a function that reads the layout; if that changes meanwhile, again, exclusively."""
        return self.layout.consistently(ask, *arguments)

    def export(self, offset: SupportsIndex, count: SupportsIndex | None) -> "python_types.Export":
        """Return the buffer of a range, which keeps the pages and counts as a live view."""
        return self.consistently(self._export, *self.checked_range(offset, count))

    def _export(self, start: int, end: int) -> "python_types.Export":
        """Return the buffer of a checked range, writable where every byte of it is."""
        if end > self.size:  # it has become smaller since
            raise InvalidRangeError(start, end - start, self.size)
        access = self.access.allowed(start, end) & (PROT_READ | PROT_WRITE)
        if not access & PROT_READ:
            raise self.access.error(PROT_READ, start, end)
        # SAFETY: `checked_range` found the range in the region, and the export keeps the handle.
        export = python_types.new_export(
            self.handle,
            calls.address(self.handle) + start,
            end - start,
            not access & PROT_WRITE,
            self.views,
        )
        self.views[id(export)] = View(start, end, access)
        return export


CLOSED_PAGES: Final = Pages(calls.NULL_HANDLE, 0, Sharing.PRIVATE)
CLOSED_PAGES.is_closed = True
"""The pages of every closed region: each C function refuses their handle."""
