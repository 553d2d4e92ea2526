"""Locks on a region's pages: a failed call takes its own back, and its error says the cause."""

import errno
from typing import Final

from mmapwrap._core import calls, descriptors, failures
from mmapwrap._core.constants import PROT_READ
from mmapwrap._core.faults import fault_error, missing_in
from mmapwrap._core.locked_ranges import LockCall
from mmapwrap._core.pages import Pages
from mmapwrap.errors import MmapError, hinted

_CAP_IPC_LOCK: Final = 14


def lock(pages: Pages, start: int, size: int, flags: int) -> None:
    """Lock a checked range; after a failure unlock the pages that this call alone has locked.

    The C function may take long, so only the steps before and after it run exclusively.
    """
    if size == 0:
        return
    call = LockCall(*pages.whole_pages(start, start + size))
    try:
        pages.layout.exclusively(pages.locked.begin, call)
        result = calls.lock(pages.handle, start, size, flags)
        pages.layout.exclusively(_end if result >= 0 else _take_back, pages, call)
    except BaseException:  # of a signal handler, or the refusal of a call inside a change
        if call.is_under_way:
            pages.layout.exclusively(_take_back, pages, call)
        raise
    if result < 0:
        raise _error(pages, -result, start, size)


# `_end` and `_take_back` end the call in their last step, so that it can be taken back after an
# interruption before that.


def _end(pages: Pages, call: LockCall) -> None:
    """End a call, and unlock the pages of its range that are not remembered as locked."""
    pages.locked.keep_in_child(call)
    if call.ranges != ((call.start, call.end),):
        for first, last in pages.locked.gaps(call.start, call.end):
            offset = max(first - pages.lead_in, 0)
            size = min(last - pages.lead_in, pages.size) - offset
            if size > 0 and failures.call_failure(-calls.unlock(pages.handle, offset, size)):
                call.ranges += ((first, last),)  # it is locked still
    pages.locked.end(call)


def _take_back(pages: Pages, call: LockCall) -> None:
    """Forget a call's range, and unlock what the call alone may have locked."""
    call.ranges = ()
    _end(pages, call)


def unlock(pages: Pages, start: int, size: int) -> None:
    """Unlock a checked range."""
    if size:
        pages.layout.exclusively(_unlock, pages, start, size)


def _unlock(pages: Pages, start: int, size: int) -> None:
    """Unlock a range and forget it; an interruption between the two leaves it remembered."""
    pages.run_on_range(calls.unlock, start, size)
    pages.locked.remove(*pages.whole_pages(start, start + size))


def _error(pages: Pages, failure: int, start: int, size: int) -> MmapError:
    """Return the error of a refused lock, with its cause: a limit, no access, or a missing page."""
    refusal = failures.call_failure(failure)
    if refusal is None or refusal.errno not in (errno.ENOMEM, errno.EAGAIN, errno.EPERM):
        return pages.error(failure, start, size)
    if (limit := _limit_in_the_way(size)) is not None:
        return hinted(refusal, f"RLIMIT_MEMLOCK allows this process to lock {limit} bytes")
    if not pages.access.allowed(start, start + size) & PROT_READ:
        return hinted(refusal, "some of the range cannot be read")
    missing = missing_in(pages.handle, start, size, write=False)
    return refusal if missing is None else fault_error(pages.handle, missing)


def _limit_in_the_way(size: int) -> int | None:
    """Return the bytes of RLIMIT_MEMLOCK if it forbids to lock that much more, else None."""
    import resource  # noqa: PLC0415  # only to explain an error

    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    status = dict(
        line.split(b":", 1) for line in descriptors.lines_of("/proc/self/status") if b":" in line
    )
    is_privileged = int(status[b"CapEff"], 16) >> _CAP_IPC_LOCK & 1
    locked = int(status[b"VmLck"].split()[0]) * 1024
    is_over = limit != resource.RLIM_INFINITY and locked + size > limit
    return limit if is_over and not is_privileged else None
