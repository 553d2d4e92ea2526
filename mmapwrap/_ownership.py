"""Who owns the pages, who looks at them, and what each range of them allows.

The pages belong to a cffi handle whose destructor unmaps them. A region, each exported buffer, each
slice and each call in flight hold that handle, so closing needs no lock, no page goes away under
a view or a call, and nothing is unmapped twice.
"""

import errno
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, NoReturn, SupportsIndex, TypeVar, TypeVarTuple

from mmapwrap import _syscalls
from mmapwrap._arguments import as_integer
from mmapwrap._faults import fault_error
from mmapwrap._locks import Locks
from mmapwrap._protection import Protection, Sharing
from mmapwrap._ranges import RangeMap
from mmapwrap.errors import (
    ClosedMappingError,
    InvalidIndexError,
    InvalidRangeError,
    MmapError,
    NotPageAlignedError,
    ProtectionError,
    RegionBusyError,
    UnsupportedByKernelError,
    UnsupportedOperationError,
    ViewsExportedError,
    VolatileMisalignedError,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

READ: Final = _syscalls.PROT_READ
WRITE: Final = _syscalls.PROT_WRITE
_ANY: Final = _syscalls.PROT_READ | _syscalls.PROT_WRITE | _syscalls.PROT_EXEC
_GUARDED: Final = 1 << 16
"""Beside the PROT_* bits of a range: guard pages lie there, which nobody can touch."""


class _LayoutLock(_syscalls.SequenceLock):
    """The lock of one region's layout; `csrc/layout_lock.c` explains it."""

    __slots__ = ()

    def _refuse(self) -> NoReturn:
        raise RegionBusyError(errno.EBUSY, "a call inside a change of the same region")


class View(NamedTuple):
    """A live export: the range it shows and the access it gives."""

    start: int
    end: int
    access: int


class Pages:
    """Mapped pages: the handle that owns them, their protection by range, and their live views."""

    __slots__ = (
        "_bits",
        "_layout",
        "file_offset",
        "handle",
        "is_closed",
        "locks",
        "page_sizes",
        "protections",
        "sharing",
        "views",
    )

    handle: _syscalls.Handle
    sharing: Sharing
    file_offset: int | None
    """None: anonymous."""
    views: dict[int, View]
    """The live exports, by their address."""
    protections: RangeMap[int] | None
    """The PROT_* bits by range; None where they are the same everywhere."""
    page_sizes: RangeMap[int] | None
    """The size of the kernel's pages by range; None where it is the same everywhere."""
    locks: Locks
    is_closed: bool
    """Whether the region was closed; its slices and views may go on."""
    _bits: int
    _layout: _LayoutLock

    @classmethod
    def of(
        cls,
        handle: _syscalls.Handle,
        bits: int,
        sharing: Sharing,
        file_offset: int | None = None,
    ) -> "Pages":
        """Makes what a mapping is known by; each makes one, and an `__init__` takes longer."""
        pages = cls.__new__(cls)
        pages.handle, pages._bits = handle, bits
        pages.sharing, pages.file_offset = sharing, file_offset
        pages.views, pages.protections, pages.page_sizes = {}, None, None
        pages.locks, pages.is_closed, pages._layout = Locks(), False, _LayoutLock()
        return pages

    @property
    def size(self) -> int:
        """The bytes of the region, which C knows and nobody else: they change in one moment."""
        return _syscalls.size(self.handle)

    @property
    def page_size(self) -> int:
        """The bytes of a page, as the kernel maps the region: those of a huge page of hugetlbfs."""
        return _syscalls.page_size_of(self.handle)

    @property
    def head(self) -> int:
        """The bytes of the first page that come before the region."""
        return _syscalls.address(self.handle) % self.page_size

    def integer(self, value: SupportsIndex, name: str) -> int:
        """The integer of a caller's object, whose `__index__` may have closed the region."""
        number = as_integer(value, name)
        if self.is_closed:
            raise ClosedMappingError
        return number

    def call(
        self,
        helper: Callable[..., int],
        offset: SupportsIndex,
        count: SupportsIndex | None,
        argument: object = None,
        need: int = 0,
    ) -> int:
        """Calls a helper on a range, which it checks. A count of None goes to the end.

        A helper that touches the range names the access that it needs: C knows a protection that is
        the same everywhere.
        """
        if type(offset) is not int:
            offset = self.integer(offset, "offset")
        if count is None:
            count = self.size - offset
        elif type(count) is not int:
            count = self.integer(count, "count")
        if need and self.protections is not None:
            self.require(need, *self.span(offset, count))
        try:
            if argument is None:
                result = helper(self.handle, offset, count)
            else:
                result = helper(self.handle, offset, count, argument)
        except OverflowError:
            if _syscalls.has_numbers(offset, count):
                raise  # C has taken the numbers: a signal handler raised it
            result = -_syscalls.REFUSED_RANGE
            if offset > self.size:
                count = max(count, 0)  # there is no rest
        if result < 0:
            raise self.error(-result, offset, count)
        return result

    def position(self, need: int, key: SupportsIndex) -> int:
        """Where a byte is that is to be touched: a negative index counts from the end."""
        position = self.integer(key, "index")
        if position < 0:
            position += self.size
        if self.protections is not None and 0 <= position < self.size:
            self.require(need, position, position + 1)
        return position

    def index_error(self, failure: int, key: SupportsIndex, position: int) -> MmapError:
        """The error that a helper's failure to touch one byte stands for."""
        error = self.error(failure, position, 1)
        if isinstance(error, InvalidRangeError):
            return InvalidIndexError(as_integer(key, "index"), 1, self.size)
        return error

    def checked(self, need: int, offset: SupportsIndex, count: int) -> int:
        """The offset, for a helper that touches the range: C knows only what holds everywhere."""
        start = offset if type(offset) is int else self.integer(offset, "offset")
        if self.protections is not None:
            self.require(need, *self.span(start, count))
        return start

    def span(self, offset: SupportsIndex, count: SupportsIndex | None) -> tuple[int, int]:
        """The start and end of a range that the region holds."""
        start = offset if type(offset) is int else self.integer(offset, "offset")
        if count is None:
            length = max(self.size - start, 0)
        else:
            length = count if type(count) is int else self.integer(count, "count")
        self.call(_syscalls.check_range, start, length)
        return start, start + length

    def raise_failure(self, result: int, offset: int = 0, count: int = 0) -> None:
        """Raises what a helper failed with, if it did."""
        if result < 0:
            raise self.error(-result, offset, count)

    def error(self, failure: int, offset: int, count: int) -> MmapError:
        """The error that a helper's failure stands for."""
        if fault := _syscalls.fault_in(failure):
            return fault_error(self.handle, offset, count, fault.offset)
        if error := _syscalls.call_failure(failure):
            if error.errno == errno.EINVAL and self.locks.overlap(
                *self.whole_pages(offset, offset + count)
            ):
                error.hint = "some of the range is locked: unlock it first"
            return error
        if failure == _syscalls.REFUSED_CLOSED or not _syscalls.is_open(self.handle):
            return ClosedMappingError()
        if failure == _syscalls.REFUSED_RANGE:
            return InvalidRangeError(offset, count, self.size)
        if failure in (_syscalls.REFUSED_START, _syscalls.REFUSED_END):
            edge = offset if failure == _syscalls.REFUSED_START else offset + count
            misaligned = NotPageAlignedError(edge, self.page_size, self.head)
            misaligned.region_size = self.size
            return misaligned
        if failure == _syscalls.REFUSED_FAULTED:
            return fault_error(self.handle)
        if failure == _syscalls.REFUSED_ALIGNMENT:
            address = _syscalls.address(self.handle) + offset
            unaligned = VolatileMisalignedError(address, count)
            unaligned.offset = offset
            return unaligned
        if failure == _syscalls.REFUSED_HERE:
            return UnsupportedByKernelError("flushing of cache lines")
        need = READ if failure == _syscalls.REFUSED_READING else WRITE
        return self._protection_error(need, offset, offset + count)

    def whole_pages(self, start: int, end: int) -> tuple[int, int]:
        """The pages that a range touches, in bytes from the start of the first page."""
        head, page_size = self.head, self.page_size
        return (
            (head + start) // page_size * page_size,
            -(-(head + end) // page_size) * page_size,
        )

    # --- Page sizes -----------------------------------------------------------------------------

    def _page_size_around(self, page_sizes: RangeMap[int], edge: int) -> int:
        """The size of the page that the byte before an edge and the byte after it may share."""
        around = page_sizes.pieces(max(edge - 1, 0), edge + 1)
        return around[0][2] if len(around) == 1 else self.page_size

    def require_whole_pages(self, start: int, end: int) -> None:
        """Raises NotPageAlignedError where a checked range cuts a page in two.

        The region's own start and end will do, though they lie inside a page.
        """
        self.call(_syscalls.check_pages, start, end - start)
        if self.page_sizes is None or start == end:
            return
        base = _syscalls.address(self.handle)
        for edge in (start, end):
            page_size = self._page_size_around(self.page_sizes, edge)
            if 0 < edge < self.size and (base + edge) % page_size:
                raise NotPageAlignedError(edge, page_size, base % page_size)

    def widened(self, offset: SupportsIndex, count: SupportsIndex | None) -> tuple[int, int]:
        """The range and its bytes, with all of each huge page that it touches in an arena.

        Where all pages are of one size C widens the range.
        """
        start, end = self.span(offset, count)
        if self.page_sizes is None or start == end:
            return start, end - start
        base = _syscalls.address(self.handle)
        start -= (base + start) % self._page_size_around(self.page_sizes, start)
        end += -(base + end) % self._page_size_around(self.page_sizes, end)
        return max(start, 0), min(end, self.size) - max(start, 0)

    # --- Protection -----------------------------------------------------------------------------

    def allowed(self, start: int, end: int) -> int:
        """The PROT_* bits that every byte of the range has."""
        if self.protections is None:
            return self._bits
        common = _ANY
        for _, _, bits in self.ranges(start, end):
            common &= bits
        return common

    def require(self, need: int, start: int, end: int) -> None:
        """Raises ProtectionError unless every byte of the range allows `need`."""
        if need & ~self.allowed(start, end):
            raise self._protection_error(need, start, end)

    def require_each(self, need: int, positions: range) -> None:
        """Raises ProtectionError unless each of these bytes, in their order, allows `need`."""
        if self.protections is None or not positions:
            return  # C knows
        first, step = positions.start, positions.step
        for start, end, bits in self.ranges(first, positions[-1] + 1):
            following = first + -(-(start - first) // step) * step
            if following < end and need & ~bits:
                raise self._protection_error(need, following, following + 1)

    def _protection_error(self, need: int, start: int, end: int) -> ProtectionError:
        actual = Protection.from_bits(self.allowed(start, end))
        return ProtectionError(Protection.from_bits(need), actual)

    def ranges(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The ranges of one protection, as (start, end, PROT_* bits)."""
        if self.protections is None:
            return [(start, end, self._bits)] if start < end else []
        return [
            (first, last, 0 if bits & _GUARDED else bits)
            for first, last, bits in self.protections.pieces(start, end)
        ]

    def exclusively(self, change: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call what changes the layout while nobody else does.

        Raises:
            RegionBusyError: This very thread is in the middle of such a call: a signal handler or
                a finalizer came in between.
        """
        return self._layout.exclusively(change, *arguments)

    def consistently(self, ask: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call what depends on the layout; again, exclusively, where a change came in between."""
        return self._layout.consistently(ask, *arguments)

    def change(self, start: int, end: int, bits: int, act: Callable[[], int], kept: int = 0) -> int:
        """Acts on a range that allows `bits` afterwards, and remembers that; exclusively.

        Whatever interrupts it, and wherever, no more access is remembered than there is: what it
        raises is not of the helper that acts, whose failure is given back. Guard pages stay where
        `kept` names them.
        """
        ranges = self._by_range()
        before = ranges.pieces(start, end)
        for first, last, old in before:
            if old & ~bits:
                ranges.assign(first, last, old & (bits | _GUARDED))
        result = act()
        if result == -_syscalls.REFUSED_LOST:
            ranges.assign(start, end, 0)
        elif result < 0:
            self._restore(before, bits)
        elif kept:
            for first, last, old in before:
                ranges.assign(first, last, bits | (old & kept))
        elif any(old & (bits | _GUARDED) != bits for _, _, old in before):
            ranges.assign(start, end, bits)
        return result

    def _restore(self, before: list[tuple[int, int, int]], bits: int) -> None:
        """Gives ranges the protection that they had, where a failed call may have changed it."""
        for first, last, old in before:
            back = 0
            if old & _ANY != bits & _ANY:
                back = _syscalls.protect(self.handle, first, last - first, (old & _ANY, _ANY))
            if back >= 0:
                self._by_range().assign(first, last, old)

    def forbid(self, start: int, end: int) -> None:
        """Remembers that a range allows nothing, whatever the kernel says; exclusively."""
        self._by_range().assign(start, end, 0)

    def note_new_mapping(self, start: int, end: int, page_size: int) -> None:
        """Remembers that a range has been mapped anew, in pages of this size; exclusively."""
        self.locks.remove(*self.whole_pages(start, end))
        if self.page_sizes is None and page_size != self.page_size:
            self.page_sizes = RangeMap(self.size, self.page_size)
        if self.page_sizes is not None:
            self.page_sizes.assign(start, end, page_size)

    def remove(self, start: int, end: int) -> None:
        """Gives the memory of a checked range back, where that may be written; exclusively.

        The kernel does not ask whether it may, and C knows only what holds everywhere.
        """
        self.require_whole_pages(start, end)
        if start < end:
            self.require(WRITE, start, end)
        self.call(_syscalls.remove, start, end - start)

    def become_arena(self) -> None:
        """Ends where the last page does, and keeps the protection by range; exclusively.

        First Python checks each access by range. Then C, in one step, knows no protection any more
        and the new size. An interruption before that leaves a mapping that works.
        """
        if self.head:
            raise self.error(_syscalls.REFUSED_START, 0, 0)
        old_size, size = self.size, _syscalls.mapped_size(self.handle)
        protections = RangeMap(size, self._bits)
        for start, end, bits in self._by_range().pieces(0, old_size):
            protections.assign(start, size if end == old_size else end, bits)
        self.protections = protections
        self.raise_failure(_syscalls.become_arena(self.handle))

    def recover(self) -> None:
        """Maps the pages anew that a guard has replaced by zeros; exclusively."""
        result = _syscalls.recover(self.handle)
        if result == -_syscalls.REFUSED_HERE:
            raise UnsupportedOperationError("recover of pages that the kernel could not set aside")
        self.raise_failure(result)
        if self.protections is None:
            _syscalls.protect(self.handle, 0, self.size, (self._bits, self._bits))
            return
        for start, end, bits in self.protections.pieces(0, self.size):
            # They allow what they did when they were lost, below guard pages too.
            _syscalls.protect(self.handle, start, end - start, (bits & _ANY, _ANY))

    def protect(self, bits: int, start: int, end: int) -> None:
        """Changes the protection of a checked range and remembers it; exclusively."""
        self.require_whole_pages(start, end)
        self.refuse_views(start, end, bits)
        if (start, end) == (0, self.size) and self.protections is None:
            self._protect_all(bits)
        else:
            self._protect_by_range(start, end, bits)

    def _protect_all(self, bits: int) -> None:
        old = self._bits
        self._bits = old & bits
        result = _syscalls.protect(self.handle, 0, self.size, (bits, bits))
        if result < 0:
            if _syscalls.protect(self.handle, 0, self.size, (old, old)) >= 0:
                self._bits = old
            raise self.error(-result, 0, self.size)
        self._bits = bits

    def _protect_by_range(self, start: int, end: int, bits: int) -> None:
        act = partial(_syscalls.protect, self.handle, start, end - start, (bits, _ANY))
        # Guard pages allow nothing, whatever the protection below them is.
        result = self.change(start, end, bits, act, kept=_GUARDED)
        self.raise_failure(result, start, end - start)

    def install_guards(self, start: int, end: int) -> None:
        """Installs guard pages and remembers them: nobody can touch those; exclusively."""
        self.require_whole_pages(start, end)
        before = self._by_range().pieces(start, end)
        self.refuse_views(start, end, 0)
        for first, last, old in before:
            self._by_range().assign(first, last, old | _GUARDED)
        result = self._advise_guards(start, end, _syscalls.MADV_GUARD_INSTALL)
        if result < 0:
            is_tried = _syscalls.call_failure(-result) is not None
            for first, last, old in before:
                # The kernel may have come some way. What cannot be taken back stays remembered.
                if not old & _GUARDED and (not is_tried or self._is_unguarded(first, last)):
                    self._by_range().assign(first, last, old)
        self.raise_failure(result, start, end - start)

    def remove_guards(self, start: int, end: int) -> None:
        """Removes guard pages; exclusively."""
        self.require_whole_pages(start, end)
        result = self._advise_guards(start, end, _syscalls.MADV_GUARD_REMOVE)
        self.raise_failure(result, start, end - start)
        for first, last, old in self._by_range().pieces(start, end):
            self._by_range().assign(first, last, old & _ANY)

    def _advise_guards(self, start: int, end: int, advice: int) -> int:
        return _syscalls.advise_destructive(self.handle, start, end - start, advice)

    def _is_unguarded(self, start: int, end: int) -> bool:
        """Removes the guard pages that a failed call may have installed; whether that worked.

        EINVAL: the kernel knows none (before Linux 6.13), or not for this memory. Then none was
        installed either.
        """
        result = self._advise_guards(start, end, _syscalls.MADV_GUARD_REMOVE)
        error = _syscalls.call_failure(-result) if result < 0 else None
        return error is None or error.errno == errno.EINVAL

    def _by_range(self) -> RangeMap[int]:
        if self.protections is None:
            self.protections = RangeMap(self.size, self._bits)
        return self.protections

    # --- Views ----------------------------------------------------------------------------------

    def view(self, offset: SupportsIndex, count: SupportsIndex | None) -> memoryview:
        """Exports a range: writable where every byte of it is.

        A change of the layout refuses to break the views that it finds, and one that began before
        the view was there may not have found it.
        """
        return memoryview(self.export(offset, count))

    def export(self, offset: SupportsIndex, count: SupportsIndex | None) -> "_syscalls.Export":
        """The buffer of a range, which keeps the pages and counts as a live view until it goes."""
        return self.consistently(self._export, *self.span(offset, count))

    def _export(self, start: int, end: int) -> "_syscalls.Export":
        access = self.allowed(start, end) & (READ | WRITE)
        if not access & READ:
            raise self._protection_error(READ, start, end)
        # SAFETY: the range was checked, and the export holds the handle.
        export = _syscalls.new_export(
            self.handle,
            _syscalls.address(self.handle) + start,
            end - start,
            not access & WRITE,
            self.views,
        )
        self.views[id(export)] = View(start, end, access)
        return export

    def refuse_views(self, start: int, end: int, bits: int) -> None:
        """Raises ViewsExportedError where a view of the range gives more access than `bits`."""
        if not self.views:
            return
        broken = sum(
            max(view.start, start) < min(view.end, end) and bool(view.access & ~bits)
            for view in self.views.copy().values()
        )
        if broken:
            raise ViewsExportedError(broken)


CLOSED: Final = Pages.of(_syscalls.CLOSED, 0, Sharing.PRIVATE)
CLOSED.is_closed = True
"""What a closed region has instead of pages: every helper refuses it."""
