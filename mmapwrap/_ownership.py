"""Who owns the pages, who looks at them, and what each range of them allows.

The pages belong to a cffi handle whose destructor unmaps them. A region, each exported buffer, each
slice and each call in flight hold that handle, so closing needs no lock, no page goes away under
a view or a call, and nothing is unmapped twice.
"""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import index
from typing import Final, NamedTuple, SupportsIndex, TypeVar, TypeVarTuple

from mmapwrap import _syscalls
from mmapwrap._protection import Protection, Sharing
from mmapwrap._ranges import RangeMap
from mmapwrap.errors import (
    ClosedMappingError,
    InvalidIndexError,
    InvalidRangeError,
    MappingFaultError,
    MmapError,
    NotPageAlignedError,
    ProtectionError,
    RegionBusyError,
    UnsupportedByKernelError,
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

# Held while a layout changes (`Pages.alone`): between the check and the act nobody else may change
# the answer. One for the process, as the kernel has one for its list of mappings. Held across a
# fork, or a child could inherit it locked.
_layout_lock: Final = threading.RLock()


# Where a signal handler raises while a fork waits, that goes on all the same, without the lock. The
# region that another thread is changing then stays busy in the child.


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # the fork did not wait
        _layout_lock.release()


def _after_fork_in_child() -> None:
    try:
        _layout_lock.release()
    except RuntimeError:  # the fork did not wait, and whoever has the lock is not in this process
        _layout_lock._at_fork_reinit()  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


os.register_at_fork(
    before=_layout_lock.acquire,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


class View(NamedTuple):
    """A live export: the range it shows, the access it gives, and the pages it keeps."""

    start: int
    end: int
    access: int
    handle: _syscalls.Handle


class Pages:
    """Mapped pages: the handle that owns them, their protection by range, and their live views."""

    __slots__ = (
        "_bits",
        "_turns",
        "file_offset",
        "handle",
        "protections",
        "sharing",
        "size",
        "views",
    )

    handle: _syscalls.Handle
    size: int
    sharing: Sharing
    file_offset: int | None
    """None: anonymous."""
    views: dict[object, View]
    protections: RangeMap[int] | None
    """The PROT_* bits by range; None where they are the same everywhere."""
    _bits: int
    _turns: int
    """How many changes began and ended: odd during one."""

    @classmethod
    def of(
        cls,
        handle: _syscalls.Handle,
        size: int,
        bits: int,
        sharing: Sharing,
        file_offset: int | None = None,
    ) -> "Pages":
        """Makes what a mapping is known by; each makes one, and an `__init__` takes longer."""
        pages = cls.__new__(cls)
        pages.handle, pages.size, pages._bits = handle, size, bits
        pages.sharing, pages.file_offset = sharing, file_offset
        pages.views, pages.protections, pages._turns = {}, None, 0
        return pages

    @property
    def head(self) -> int:
        """The bytes of the first page that come before the region."""
        return _syscalls.address(self.handle) % _syscalls.PAGE_SIZE

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
            offset = index(offset)
        if count is None:
            count = self.size - offset
        elif type(count) is not int:
            count = index(count)
        if need and self.protections is not None:
            self.require(need, *self.span(offset, count))
        try:
            if argument is None:
                result = helper(self.handle, offset, count)
            else:
                result = helper(self.handle, offset, count, argument)
        except OverflowError:
            if _syscalls.has_numbers(offset, count):
                raise  # a signal handler did
            result = -_syscalls.REFUSED_RANGE
            if offset > self.size:
                count = max(count, 0)  # there is no rest
        if result < 0:
            raise self.error(-result, offset, count)
        return result

    def position(self, need: int, key: SupportsIndex) -> int:
        """Where a byte is that is to be touched: a negative index counts from the end."""
        position = index(key)
        if position < 0:
            position += self.size
        if self.protections is not None and 0 <= position < self.size:
            self.require(need, position, position + 1)
        return position

    def index_error(self, failure: int, key: SupportsIndex, position: int) -> MmapError:
        """The error that a helper's failure to touch one byte stands for."""
        error = self.error(failure, position, 1)
        if isinstance(error, InvalidRangeError):
            return InvalidIndexError(index(key), 1, self.size)
        return error

    def checked(self, need: int, offset: SupportsIndex, count: int) -> int:
        """The offset, for a helper that touches the range: C knows only what holds everywhere."""
        start = offset if type(offset) is int else index(offset)
        if self.protections is not None:
            self.require(need, *self.span(start, count))
        return start

    def span(self, offset: SupportsIndex, count: SupportsIndex | None) -> tuple[int, int]:
        """The start and end of a range that the region holds."""
        start = index(offset)
        length = max(self.size - start, 0) if count is None else index(count)
        self.call(_syscalls.check_range, start, length)
        return start, start + length

    def raise_failure(self, result: int, offset: int = 0, count: int = 0) -> None:
        """Raises what a helper failed with, if it did."""
        if result < 0:
            raise self.error(-result, offset, count)

    def error(self, failure: int, offset: int, count: int) -> MmapError:
        """The error that a helper's failure stands for."""
        if error := _syscalls.call_failure(failure):
            return error
        if failure == _syscalls.REFUSED_CLOSED or not _syscalls.is_open(self.handle):
            return ClosedMappingError()
        if failure == _syscalls.REFUSED_RANGE:
            return InvalidRangeError(offset, count, self.size)
        if failure in (_syscalls.REFUSED_START, _syscalls.REFUSED_END):
            edge = offset if failure == _syscalls.REFUSED_START else offset + count
            # Of a region that starts inside a page, the position in the file says it better.
            origin = self.file_offset if self.file_offset and self.head else 0
            return NotPageAlignedError(origin + edge, _syscalls.PAGE_SIZE)
        if failure == _syscalls.REFUSED_FAULTED:
            return MappingFaultError(
                _syscalls.fault_offset(self.handle), _syscalls.fault_pages(self.handle)
            )
        if failure == _syscalls.REFUSED_ALIGNMENT:
            return VolatileMisalignedError(_syscalls.address(self.handle) + offset, count)
        if failure == _syscalls.REFUSED_HERE:
            return UnsupportedByKernelError("flushing of cache lines")
        need = READ if failure == _syscalls.REFUSED_READING else WRITE
        return self._protection_error(need, offset, offset + count)

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

    def alone(self, change: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Calls what changes the layout while nobody else does.

        Raises:
            RegionBusyError: This very thread is in the middle of such a call: a signal handler or
                a finalizer came in between. Or another thread was, as this process was forked.
        """
        with _layout_lock:
            if self._turns % 2:
                raise RegionBusyError(errno.EBUSY, "a call inside a change of the same region")
            self._turns += 1
            try:
                return change(*arguments)
            finally:
                self._turns += 1

    def steady(self, ask: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Calls what depends on the layout, and does not wait unless a change comes in between.

        Then it is called anew, `alone`.
        """
        turns = self._turns
        if not turns % 2:
            answer = ask(*arguments)
            if self._turns == turns:
                return answer
            del answer
        return self.alone(ask, *arguments)

    def change(self, start: int, end: int, bits: int, act: Callable[[], int], kept: int = 0) -> int:
        """Acts on a range that allows `bits` afterwards, and remembers that; `alone`.

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
        if result < 0:
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
        """Remembers that a range allows nothing, whatever the kernel says; `alone`."""
        self._by_range().assign(start, end, 0)

    def remove(self, start: int, end: int) -> None:
        """Gives the memory of a checked range back, where that may be written; `alone`.

        The kernel does not ask whether it may, and C knows only what holds everywhere.
        """
        if start < end:
            self.require(WRITE, start, end)
        self.call(_syscalls.remove, start, end - start)

    def become_arena(self) -> None:
        """Ends where the last page does, and keeps the protection by range; `alone`."""
        if self.head:
            raise self.error(_syscalls.REFUSED_START, 0, 0)
        old_size = self.size
        size = -(-old_size // _syscalls.PAGE_SIZE) * _syscalls.PAGE_SIZE
        protections = RangeMap(size, self._bits)
        for start, end, bits in self._by_range().pieces(0, old_size):
            protections.assign(start, size if end == old_size else end, bits)
        # C is not relied on to know the protection from here on. Nothing interrupts what is between
        # these assignments and what C does; afterwards all is as it is to be.
        self.protections, self.size = protections, size
        result = _syscalls.become_arena(self.handle)
        if result < 0:
            self.size = old_size
            raise self.error(-result, 0, 0)

    def protect(self, bits: int, start: int, end: int) -> None:
        """Changes the protection of a checked range and remembers it; `alone`."""
        self.call(_syscalls.check_pages, start, end - start)
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
        """Installs guard pages and remembers them: nobody can touch those; `alone`."""
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
        """Removes guard pages; `alone`."""
        result = self._advise_guards(start, end, _syscalls.MADV_GUARD_REMOVE)
        self.raise_failure(result, start, end - start)
        for first, last, old in self._by_range().pieces(start, end):
            self._by_range().assign(first, last, old & _ANY)

    def _advise_guards(self, start: int, end: int, advice: int) -> int:
        return _syscalls.advise_destructive(self.handle, start, end - start, advice)

    def _is_unguarded(self, start: int, end: int) -> bool:
        return self._advise_guards(start, end, _syscalls.MADV_GUARD_REMOVE) >= 0

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
        return self.steady(self._view, *self.span(offset, count))

    def _view(self, start: int, end: int) -> memoryview:
        access = self.allowed(start, end) & (READ | WRITE)
        if not access & READ:
            raise self._protection_error(READ, start, end)
        key = object()
        # What it is called with is pop's default: it may come before the view is counted.
        forget = partial(self.views.pop, key)
        exported = _syscalls.buffer_of(self.handle, start, end - start, forget)
        self.views[key] = View(start, end, access, self.handle)
        return exported if access & WRITE else exported.toreadonly()

    def refuse_views(self, start: int, end: int, bits: int) -> None:
        """Raises ViewsExportedError where a view of the range gives more access than `bits`."""
        if not self.views:
            return
        broken = sum(
            max(view.start, start) < min(view.end, end) and bool(view.access & ~bits)
            for view in list(self.views.values())
        )
        if broken:
            raise ViewsExportedError(broken)


CLOSED: Final = Pages.of(_syscalls.CLOSED, 0, 0, Sharing.PRIVATE)
"""What a closed region has instead of pages: every helper refuses it."""
