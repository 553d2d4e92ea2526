"""Changes of a region's layout: the access that its ranges allow, and their content.

Each function runs by `Pages.exclusively`, on a range that was checked, or on pages that no other
code has yet. A change of access has these steps in this order, so that the access map never
remembers more access than the kernel allows, wherever an exception of a signal handler or a fork
interrupts the change:

1. Refuse a change that would break a live view.
2. Narrow the access map to the access that is allowed both before and after.
3. Act: one C function.
4. Widen the map to the access that is allowed now; after a failure restore the access that the
   kernel still allows.

`change_access` has the steps 2 to 4 for the changes by range. Two functions write them by hand:
`_protect_all`, because there the access stays the same everywhere, which C remembers too, and
`install_guard_pages`, because guard pages are a bit beside the access, which stays the same below
them, and a failed call may have installed some.
"""

import errno
from collections.abc import Callable
from functools import partial

from mmapwrap._core import calls
from mmapwrap._core.access import GUARD_PAGES
from mmapwrap._core.advice import DestructiveAdvice
from mmapwrap._core.constants import PROT_ANY, PROT_EXEC, PROT_WRITE
from mmapwrap._core.failures import Refusal, call_failure, fault_in
from mmapwrap._core.page_sizes import PageSizes
from mmapwrap._core.pages import Pages
from mmapwrap._core.range_map import RangeMap
from mmapwrap.errors import (
    AccessDeniedError,
    MmapError,
    NotPageAlignedError,
    UnsupportedOperationError,
    hinted,
    page_size_name,
)


def change_access(
    pages: Pages, start: int, end: int, bits: int, act: Callable[[], int], kept: int = 0
) -> int:
    """Narrow the access map of a range, act, then widen or restore it; return the act's result.

    Args:
        pages: The pages.
        start: The range's first byte.
        end: The byte after its last.
        bits: The PROT_* bits that the range has after the act.
        act: Runs a C function on the range.
        kept: The bits of the map that the act does not change: GUARD_PAGES or none.
    """
    size = pages.size
    before = pages.access.narrow(size, start, end, bits)
    result = act()
    ranges = pages.access.split(size)
    if result == -Refusal.CONTENT_LOST:
        ranges.assign(start, end, 0)
    elif result < 0:
        _restore(pages, before)
    elif kept:
        for first, last, old in before:
            ranges.assign(first, last, bits | (old & kept))
    elif any(old & (bits | GUARD_PAGES) != bits for _, _, old in before):
        # Narrowing has not made it `bits` everywhere: a range had less access, or guard pages.
        ranges.assign(start, end, bits)
    return result


def _restore(pages: Pages, before: list[tuple[int, int, int]]) -> None:
    """Give ranges the protection that they had, in the kernel and then in the map.

    A failed call may have changed it also where it is the protection that was asked for: a mapping
    that could not be placed leaves a reservation.
    """
    for first, last, old in before:
        result = calls.protect(pages.handle, first, last - first, (old & PROT_ANY, PROT_ANY))
        if result >= 0:
            pages.access.split(pages.size).assign(first, last, old)


# --- Protection -----------------------------------------------------------------------------------


def protect(pages: Pages, bits: int, start: int, end: int) -> None:
    """Change the protection of a range. mprotect(2)."""
    pages.require_whole_pages(start, end)
    pages.views.refuse(start, end, bits)
    if pages.size == 0 and pages.access.by_range is not None:
        # There may be guard pages behind the end, which growth takes away where it knows ranges.
        pages.raise_failure(calls.protect(pages.handle, 0, 0, (bits, PROT_ANY)))
        pages.access.set_empty(bits)
        return
    if (start, end) == (0, pages.size) and pages.access.by_range is None:
        _protect_all(pages, bits)
        return
    act = partial(calls.protect, pages.handle, start, end - start, (bits, PROT_ANY))
    # Guard pages allow no access, whatever the protection below them is.
    result = change_access(pages, start, end, bits, act, kept=GUARD_PAGES)
    if result < 0:
        raise _protecting_error(pages, -result, bits, start, end)


def _protect_all(pages: Pages, bits: int) -> None:
    """Change the protection of all pages, which stays the same everywhere: C knows it too."""
    access = pages.access
    old = access.bits
    access.bits = old & bits
    result = calls.protect(pages.handle, 0, pages.size, (bits, bits))
    if result < 0:
        if calls.protect(pages.handle, 0, pages.size, (old, old)) >= 0:
            access.bits = old
        raise _protecting_error(pages, -result, bits, 0, pages.size)
    access.bits = bits


def _protecting_error(pages: Pages, failure: int, bits: int, start: int, end: int) -> MmapError:
    """Return the error of a protection that the kernel refused, with its cause."""
    error = pages.error(failure, start, end - start)
    if isinstance(error, AccessDeniedError) and bits & (PROT_WRITE | PROT_EXEC) == PROT_WRITE:
        error.hint = "the file was open for reading only, or is sealed against writing"
    return error


# --- Guard pages ----------------------------------------------------------------------------------


def install_guard_pages(pages: Pages, start: int, end: int) -> None:
    """Install guard pages, which allow no access. madvise(MADV_GUARD_INSTALL)."""
    pages.require_whole_pages(start, end)
    pages.views.refuse(start, end, 0)
    ranges = pages.access.split(pages.size)
    before = ranges.pieces(start, end)
    for first, last, old in before:
        ranges.assign(first, last, old | GUARD_PAGES)
    result = _advise(pages, start, end, DestructiveAdvice.GUARD_INSTALL)
    if result < 0:
        was_called = call_failure(-result) is not None
        for first, last, old in before:
            # The kernel may have installed some. A range that cannot be cleared keeps the bit.
            if not old & GUARD_PAGES and (not was_called or _is_cleared(pages, first, last)):
                ranges.assign(first, last, old)
    pages.raise_failure(result, start, end - start, DestructiveAdvice.GUARD_INSTALL)


def remove_guard_pages(pages: Pages, start: int, end: int) -> None:
    """Remove guard pages. madvise(MADV_GUARD_REMOVE)."""
    pages.require_whole_pages(start, end)
    result = _advise(pages, start, end, DestructiveAdvice.GUARD_REMOVE)
    pages.raise_failure(result, start, end - start, DestructiveAdvice.GUARD_REMOVE)
    ranges = pages.access.split(pages.size)
    for first, last, old in ranges.pieces(start, end):
        ranges.assign(first, last, old & PROT_ANY)


def _advise(pages: Pages, start: int, end: int, advice: DestructiveAdvice) -> int:
    """Give destructive advice on a range; return the C function's result."""
    return calls.advise_destructive(pages.handle, start, end - start, advice)


def _is_cleared(pages: Pages, start: int, end: int) -> bool:
    """Remove the guard pages that a failed call may have installed; return whether that worked.

    EINVAL: the kernel has no guard pages (before Linux 6.13), or none for this memory. Then the
    failed call has installed none either.
    """
    result = _advise(pages, start, end, DestructiveAdvice.GUARD_REMOVE)
    error = call_failure(-result) if result < 0 else None
    return error is None or error.errno == errno.EINVAL


# --- Content --------------------------------------------------------------------------------------


def remove(pages: Pages, start: int, end: int) -> None:
    """Free the memory of a range that may be written. madvise(MADV_REMOVE).

    The kernel does not check that access, and C knows only an access that is the same everywhere.
    """
    pages.require_whole_pages(start, end)
    if start < end:
        pages.access.require(PROT_WRITE, start, end)
    result = calls.remove(pages.handle, start, end - start)
    if result < 0:
        # Only the last bytes are touched, in the page that the region shares with the file's rest.
        fault = fault_in(-result)
        touched = start if fault is None else fault.offset
        raise pages.error(-result, touched, end - touched, DestructiveAdvice.REMOVE)


def replace(
    pages: Pages, start: int, end: int, bits: int, page_size: int, act: Callable[[], int]
) -> int:
    """Run a C function that maps a range anew, and remember what it has; return its result.

    Until the end the range counts as one of the larger pages, old or new. So no call cuts one of
    them in two wherever the change is interrupted.

    Args:
        pages: The pages.
        start: The range's first byte.
        end: The byte after its last.
        bits: The PROT_* bits that the range has after the act.
        page_size: The size of the new pages in bytes.
        act: Runs the C function.
    """
    if pages.page_sizes is None and page_size != pages.page_size:
        pages.page_sizes = PageSizes(calls.address(pages.handle), pages.size, pages.page_size)
    sizes = pages.page_sizes
    before = [] if sizes is None else sizes.pieces(start, end)
    if sizes is not None:
        for first, last, old in before:
            sizes.assign(first, last, max(old, page_size))
    result = change_access(pages, start, end, bits, act)
    if result >= 0 or result == -Refusal.CONTENT_LOST:
        if pages.locked:
            pages.locked.remove(*pages.whole_pages(start, end))
        before = [(start, end, page_size if result >= 0 else pages.page_size)]
    if sizes is not None:
        for first, last, old in before:
            sizes.assign(first, last, old)
    return result


def become_arena(pages: Pages) -> None:
    """Extend the region to the end of its last page, and keep the protection by range.

    From its first step on Python checks each access by range. In the last step, which other threads
    see as one, C forgets the protection and takes the new size. An interruption before that leaves
    a mapping that works.
    """
    if pages.lead_in:
        rule = (
            f"an arena starts on a page, and this mapping starts {pages.lead_in} bytes inside one: "
            f"the {page_size_name(pages.page_size)} is {pages.page_size}"
        )
        raise NotPageAlignedError(0, pages.page_size, pages.lead_in, rule)
    old_size, size = pages.size, calls.mapped_size(pages.handle)
    if pages.whole_pages(0, old_size)[1] != size:
        hint = "the mapping has room to grow, and an arena cannot grow"
        raise hinted(UnsupportedOperationError("into_arena"), hint)
    by_range = RangeMap(size, pages.access.bits)
    for start, end, bits in pages.access.split(old_size).pieces(0, old_size):
        by_range.assign(start, size if end == old_size else end, bits)
    pages.access.by_range = by_range
    pages.raise_failure(calls.become_arena(pages.handle))


def recover(pages: Pages) -> None:
    """Map the pages anew that a fault guard has replaced by zeros. mremap(2)."""
    result = calls.recover(pages.handle)
    if result == -Refusal.UNRECOVERABLE:
        raise hinted(
            UnsupportedOperationError("recover"),
            "the kernel could not set the pages aside: map the file anew",
        )
    pages.raise_failure(result)
    size, access = pages.size, pages.access
    # C knows an access that is the same everywhere, else Python checks each.
    common = access.bits if access.by_range is None else PROT_ANY
    pieces = [(0, size, common)] if access.by_range is None else access.by_range.pieces(0, size)
    for start, end, bits in pieces:
        # The pages get the protection of the access map, also below guard pages.
        result = calls.protect(pages.handle, start, end - start, (bits & PROT_ANY, common))
        pages.raise_failure(result, start, end - start)
