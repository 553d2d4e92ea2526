"""Growth: the size of a region that changes, and the length of its file with it.

A region grows in the room that its mapping has (`csrc/resize.c` explains it). A mapping that was
given a capacity has that room from the start, and keeps a descriptor of its file; any other one
gets more room by moving its pages, and finds its file again for each call.

Both directions run exclusively. What may be refused comes before what cannot be taken back, and the
access map is longer than the region only where a change of the size was interrupted: then the next
one begins with the length that it should have.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Final, TypeVarTuple

from mmapwrap._core import (
    calls,
    constants,
    descriptors,
    file_length,
    mapped_files,
    python_types,
)
from mmapwrap._core.constants import PROT_WRITE
from mmapwrap._core.failures import call_failure
from mmapwrap._core.locked_ranges import LockCall
from mmapwrap._core.owners import new_pages
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


def resize(pages: Pages, size: int, allocate: object) -> None:
    """Change the size of a region, and the length of its file with it; run exclusively."""
    pages.raise_failure(calls.check_range(pages.handle, 0, 0))
    if pages.file_offset is None:
        _set_size(pages, None, size, allocate)
    elif pages.sharing is Sharing.PRIVATE:
        hint = "a private mapping does not change its file, whose length refresh() follows"
        raise hinted(UnsupportedOperationError("resize"), hint)
    else:
        _with_file(pages, os.O_RDWR, _set_size, size, allocate)


def refresh(pages: Pages) -> None:
    """Give a region the size that its file has for it now; run exclusively."""
    pages.raise_failure(calls.check_range(pages.handle, 0, 0))
    if pages.file_offset is not None:
        _with_file(pages, os.O_RDONLY, _follow)


def _follow(pages: Pages, fd: int) -> None:
    """Take the size that the file has for a region, as far as its capacity goes."""
    size = max(descriptors.file_status(fd).size - (pages.file_offset or 0), 0)
    if pages.capacity is not None:
        size = min(size, pages.capacity.size)
    _set_size(pages, None, size, allocate=False)


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
        if not stat.S_ISREG(descriptors.file_status(fd).mode):  # pragma: no cover  # a block device
            raise hinted(UnsupportedOperationError(operation), "this is no regular file")
        change(pages, fd, *arguments)
    finally:
        descriptors.close_file(owner)


def _set_size(pages: Pages, fd: int | None, size: int, allocate: object) -> None:
    """Give a region another size, and its file, if there is a descriptor, another length."""
    old_size = pages.size
    if pages.capacity is None:
        _make_room(pages, size)
    elif size > pages.capacity.size:
        raise CapacityExceededError(0, size, pages.capacity.size)
    if size < old_size:
        _shrink(pages, fd, size, old_size)
    elif size > old_size:
        _grow(pages, fd, size, old_size, allocate=bool(allocate))
    elif fd is not None:
        end = (pages.file_offset or 0) + size
        file_length.extend_file(fd, end, end, allocate=False)


# --- Room -----------------------------------------------------------------------------------------


def _make_room(pages: Pages, size: int) -> None:
    """Move pages to a larger mapping, if they need one. mremap(2)."""
    room = calls.mapped_size(pages.handle)
    if pages.lead_in + size <= room:
        return
    if pages.file_offset is None and pages.sharing is Sharing.SHARED:
        hint = (
            f"shared memory without a file has the size that it was made with; {_GIVE_A_CAPACITY}"
        )
        raise hinted(UnsupportedOperationError("resize"), hint)
    pages.views.refuse(0, pages.size, 0)
    moved = new_pages()
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
    if error is None:  # pragma: no cover  # a page that is lost in this very moment
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


# --- The two directions ---------------------------------------------------------------------------


def _grow(pages: Pages, fd: int | None, size: int, old_size: int, *, allocate: bool) -> None:
    """Grow into the room that a region has; each step before the last can be taken back."""
    bits = pages.access.last(old_size)
    if pages.access.by_range is not None:
        pages.raise_failure(calls.protect_room(pages.handle, size, bits))
    start = pages.file_offset or 0
    if fd is not None:
        file_length.extend_file(fd, start + old_size, start + size, allocate=allocate)
    if pages.locked:
        try:
            _lock_added(pages, size, old_size)
        except SystemCallError:
            if fd is not None:
                file_length.cut_file(fd, start + old_size, start + size)
            raise
    if pages.access.by_range is not None:
        page_end = pages.whole_pages(0, old_size)[1] - pages.lead_in
        pages.access.grow(max(page_end, 0), size, bits)
    pages.raise_failure(calls.resize(pages.handle, size))


def _lock_added(pages: Pages, size: int, old_size: int) -> None:
    """Lock what is added behind a locked page, as it is touched. mlock2(MLOCK_ONFAULT)."""
    start, end = (pages.whole_pages(0, each)[1] for each in (old_size, size))
    if start == end or not pages.locked.overlap(start - 1, start):
        return
    call = LockCall(start, end)
    pages.locked.begin(call)
    result = calls.lock_room(pages.handle, size, 1)
    if result < 0:
        pages.locked.remove(start, end)
    pages.locked.end(call)
    if error := call_failure(-result) if result < 0 else None:
        raise hinted(error, "the last page is locked, so that what is added is locked too")


def _shrink(pages: Pages, fd: int | None, size: int, old_size: int) -> None:
    """Take the last bytes away from a region, and from its file if there is a descriptor."""
    pages.views.refuse(size, old_size, 0)
    page_end, old_page_end = (pages.whole_pages(0, each)[1] for each in (size, old_size))
    rest_end = min(page_end - pages.lead_in, old_size)
    if size < rest_end and pages.file_offset is None and pages.sharing is Sharing.PRIVATE:
        pages.access.require(PROT_WRITE, size, rest_end)  # what is added later is zeros
    start = pages.file_offset or 0
    if fd is not None:
        file_length.extend_file(fd, start + size, start + size, allocate=False)
    pages.raise_failure(calls.resize(pages.handle, size), size, old_size - size)
    if fd is not None:
        try:
            file_length.cut_file(fd, start + size, start + old_size)
        except SystemCallError:
            calls.resize(pages.handle, old_size)
            raise
    if pages.locked:
        calls.lock_room(pages.handle, old_size, 0)
        pages.locked.remove(page_end, old_page_end)
    if pages.access.by_range is not None:
        pages.access.by_range.resize(size)
