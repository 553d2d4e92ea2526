"""Growth: the size of a region that changes, and the length of its file with it.

A region grows in the room that its mapping has (`csrc/resize.c` explains it). A mapping that was
given a capacity has that room from the start, and keeps a descriptor of its file; any other one
gets more room by moving its pages, and finds its file again for each call.

A call that makes a file longer may take long, so that it runs before the change of the layout,
which is exclusive. Each change has the order that `changes.py` describes: no more access is
remembered than there is, wherever it ends.
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVarTuple

from mmapwrap._core import (
    calls,
    changes,
    constants,
    descriptors,
    file_length,
    mapped_files,
    python_types,
)
from mmapwrap._core.access import GUARDED
from mmapwrap._core.advice import DestructiveAdvice
from mmapwrap._core.constants import PROT_ANY, PROT_WRITE
from mmapwrap._core.failures import call_failure
from mmapwrap._core.locked_ranges import LockCall
from mmapwrap._core.mapping import new_record
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import Sharing
from mmapwrap.errors import (
    CapacityExceededError,
    MmapError,
    SystemCallError,
    UnsupportedOperationError,
    hinted,
    system_call_error,
)

Ts = TypeVarTuple("Ts")

_GIVE_A_CAPACITY: Final = "give it a capacity when it is mapped"


def resize(pages: Pages, size: int, *, allocate: bool) -> None:
    """Change the size of a region, and the length of its file with it."""
    if pages.file_offset is None:
        _make_room(pages, size)
        pages.exclusively(_set_size, pages, size, None)
    elif pages.sharing is Sharing.PRIVATE:
        hint = "a private mapping does not change its file, whose length refresh() follows"
        raise hinted(UnsupportedOperationError("resize"), hint)
    else:
        _with_file(pages, os.O_RDWR, _resize_with_file, size, allocate)


def _resize_with_file(pages: Pages, fd: int, size: int, allocate: object) -> None:
    """Change the size of a region, and the length of its file."""
    # What is refused changes nothing, the file neither.
    pages.raise_failure(calls.check_range(pages.handle, 0, 0))
    if size < pages.size:
        pages.views.refuse(size, pages.size, 0)
    _make_room(pages, size)
    start = pages.file_offset or 0
    file_length.extend_file(fd, start + pages.size, start + size, allocate=bool(allocate))
    pages.exclusively(_set_size, pages, size, fd)


def refresh(pages: Pages) -> int:
    """Give a region the size that its file has for it now; return the size."""
    if pages.file_offset is not None:
        _with_file(pages, os.O_RDONLY, _follow)
    return pages.size


def _follow(pages: Pages, fd: int) -> None:
    """Take the size that the file has for a region, as far as its capacity goes."""
    pages.exclusively(_follow_now, pages, fd)


def _follow_now(pages: Pages, fd: int) -> None:
    """Likewise; run exclusively, so that no other thread changes the length meanwhile."""
    size = max(descriptors.file_status(fd).size - (pages.file_offset or 0), 0)
    if pages.capacity is None:
        _move(pages, size)
    else:
        size = min(size, pages.capacity.size)
    _set_size(pages, size, None)


def _with_file(
    pages: Pages, flags: int, change: Callable[[Pages, int, *Ts], None], *arguments: *Ts
) -> None:
    """Call a function with a descriptor of a region's file: its own, or one for this call."""
    operation = "resize" if flags == os.O_RDWR else "refresh"
    if pages.capacity is not None and pages.capacity.file is not None:
        change(pages, pages.capacity.file[0], *arguments)
        return
    if pages.page_size != constants.PAGE_SIZE:
        raise hinted(UnsupportedOperationError(operation), "the file has huge pages")
    if flags == os.O_RDWR and not pages.access.allows_somewhere(PROT_WRITE, pages.size):
        hint = "the mapping is read-only"
        raise hinted(system_call_error(errno.EACCES, "open"), hint)
    address = calls.address(pages.handle)
    files = mapped_files.files_between(address, address + 1)
    if not files:
        raise hinted(UnsupportedOperationError(operation), "this is no regular file")
    fd, owner = files[0].reopen(flags, operation)
    try:
        if not stat.S_ISREG(descriptors.file_status(fd).mode):
            raise hinted(UnsupportedOperationError(operation), "this is no regular file")
        change(pages, fd, *arguments)
    finally:
        descriptors.close_file(owner)


# --- The region -----------------------------------------------------------------------------------


def _make_room(pages: Pages, size: int) -> None:
    """Give a region room for this size: where it has less, and no capacity, its pages move."""
    if pages.capacity is None:
        pages.exclusively(_move, pages, size)
    elif size > pages.capacity.size:
        raise CapacityExceededError(0, size, pages.capacity.size)


def _move(pages: Pages, size: int) -> None:
    """Move pages to a larger mapping; run exclusively. mremap(2)."""
    room = calls.mapped_size(pages.handle)
    if pages.lead_in + size <= room:
        return
    if pages.file_offset is None and pages.sharing is Sharing.SHARED:
        hint = (
            f"shared memory without a file has the size that it was made with; {_GIVE_A_CAPACITY}"
        )
        raise hinted(UnsupportedOperationError("resize"), hint)
    pages.views.refuse(0, pages.size, 0)
    moved = new_record()
    # SAFETY: both records have owners here, which outlive the call.
    result = python_types.move_pages(
        pages, moved, calls.pointer(pages.handle), calls.pointer(moved), size
    )
    if result < 0:
        raise _moving_error(pages, -result, size)
    if pages.locked.overlap(room - 1, room):  # the kernel has locked what it added
        call = LockCall(room, calls.mapped_size(moved))
        pages.locked.begin(call)
        pages.locked.end(call)


def _moving_error(pages: Pages, failure: int, size: int) -> MmapError:
    """Return the error of pages that could not be moved, with its cause."""
    error = call_failure(failure)
    if error is None:
        return pages.error(failure, 0, size)
    match error.errno:
        case errno.EFAULT:
            hint = (
                f"its ranges differ in protection or advice, so it cannot move; {_GIVE_A_CAPACITY}"
            )
            return hinted(UnsupportedOperationError("resize"), hint)
        case errno.EINVAL:
            hint = f"this memory, or a kernel before Linux 5.13, cannot move; {_GIVE_A_CAPACITY}"
            return hinted(UnsupportedOperationError("resize"), hint)
        case errno.EBUSY:
            return hinted(error, "a fault guard of the region is entered")
        case _:
            return hinted(error, f"{size} bytes")


def _set_size(pages: Pages, size: int, fd: int | None) -> None:
    """Give a region a size for which it has room; run exclusively."""
    old_size = pages.size
    if size < old_size:
        _shrink(pages, size, old_size, fd)
    elif size > old_size:
        _grow(pages, size, old_size, fd)


def _grow(pages: Pages, size: int, old_size: int, fd: int | None) -> None:
    """Grow into the room that a region has; what is locked at its end is locked behind it too."""
    if pages.access.by_range is not None:
        page_end = pages.whole_pages(0, old_size)[1] - pages.lead_in
        pages.access.grow(old_size, max(page_end, 0), size)
    pages.raise_failure(calls.resize(pages.handle, size))
    if pages.locked:
        _lock_added(pages, size, old_size, fd)


def _lock_added(pages: Pages, size: int, old_size: int, fd: int | None) -> None:
    """Lock what was added behind a locked page, or take the growth back."""
    old_end, end = (pages.whole_pages(0, each)[1] for each in (old_size, size))
    if old_end == end or not pages.locked.overlap(old_end - 1, old_end):
        return
    start, call = old_end - pages.lead_in, LockCall(old_end, end)
    pages.locked.begin(call)
    result = calls.lock(pages.handle, start, size - start, 0)
    if result >= 0:
        pages.locked.end(call)
        return
    pages.locked.remove(old_end, end)
    pages.locked.end(call)
    _shrink(pages, old_size, size, fd)
    error = call_failure(-result)
    if error is None:
        raise pages.error(-result, start, size - start)
    raise hinted(error, "the last page is locked, so that what is added is locked too")


def _shrink(pages: Pages, size: int, old_size: int, fd: int | None) -> None:
    """Take the last bytes away from a region, and from its file if it has a descriptor."""
    pages.views.refuse(size, old_size, 0)
    start, end = (pages.whole_pages(0, each)[1] for each in (size, old_size))
    first = min(start - pages.lead_in, old_size)  # of the pages that go
    if pages.locked.overlap(start, end):
        pages.run_on_range(calls.unlock, first, old_size - first)
        pages.locked.remove(start, end)
    if pages.access.by_range is not None:
        _set_rest_as_last(pages, size, first, old_size)
    if pages.file_offset is None and size < first:  # what is added later is zeros
        pages.run_on_range(calls.fill, size, first - size, 0, PROT_WRITE)
    pages.raise_failure(calls.resize(pages.handle, size))
    if fd is not None and pages.file_offset is not None:
        try:
            file_length.cut_file(fd, pages.file_offset + size, pages.file_offset + old_size)
        except SystemCallError:
            calls.resize(pages.handle, old_size)
            raise
    if pages.access.by_range is not None:
        pages.access.by_range.resize(size)


def _set_rest_as_last(pages: Pages, size: int, first: int, end: int) -> None:
    """Give the pages behind a new end the protection of the last byte, as what is added has it."""
    if first == end:
        return
    ranges = pages.access.split(end)
    if any(bits & GUARDED for _, _, bits in ranges.pieces(first, end)):
        advice = DestructiveAdvice.GUARD_REMOVE
        pages.run_on_range(calls.advise_destructive, first, end - first, advice)
    bits = ranges.pieces(max(size - 1, 0), max(size, 1))[0][2] & PROT_ANY
    act = partial(calls.protect, pages.handle, first, end - first, (bits, PROT_ANY))
    pages.raise_failure(changes.change_access(pages, first, end, bits, act), first, end - first)
