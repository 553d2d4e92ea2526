"""Locks on a region's pages: a failed call takes its own back, and its error says the cause."""

import errno
from typing import Final

from mmapwrap._core import calls, descriptors, failures
from mmapwrap._core.constants import PROT_READ
from mmapwrap._core.faults import fault_error, missing_in
from mmapwrap._core.pages import Pages
from mmapwrap.errors import MmapError, hinted

_CAP_IPC_LOCK: Final = 14


def lock(pages: Pages, start: int, size: int, flags: int) -> None:
    """Lock a checked range; after a failure unlock the pages that this call has locked."""
    if size == 0:
        return
    touched = pages.whole_pages(start, start + size)
    try:
        result = calls.lock(pages.handle, start, size, flags)
        if result >= 0:
            pages.locked.add(*touched)
            return
    except BaseException:  # a signal handler has raised as C returned
        _unlock_gaps(pages, *touched)
        raise
    _unlock_gaps(pages, *touched)
    raise _error(pages, -result, start, size)


def _unlock_gaps(pages: Pages, start: int, end: int) -> None:
    """Unlock the pages of a range that are not remembered as locked."""
    for first, last in pages.locked.gaps(start, end):
        offset = max(first - pages.lead_in, 0)
        calls.unlock(pages.handle, offset, min(last - pages.lead_in, pages.size) - offset)


def unlock(pages: Pages, start: int, size: int) -> None:
    """Unlock a checked range."""
    pages.run_on_range(calls.unlock, start, size)
    if size:
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
