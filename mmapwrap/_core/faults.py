"""The causes of missing pages, as far as the kernel tells them."""

import errno
from collections.abc import Callable

from mmapwrap._core import calls, failures, mapped_files
from mmapwrap.errors import MappingFaultError


def fault_error(handle: calls.Handle, offset: int) -> MappingFaultError:
    """Return the error of a call that met the missing page at this offset."""
    return MappingFaultError(offset, 1, _reason(calls.address(handle) + offset))


def replaced_error(handle: calls.Handle) -> MappingFaultError:
    """Return the error of every call on a region in which a guard has replaced pages by zeros."""
    offset = calls.fault_offset(handle)
    address = calls.fault_address(handle)
    if address == 0:
        reason = "a fault guard has put zeros there and could keep no page: map the file anew"
    else:
        reason = _after_guard(address)
    return MappingFaultError(offset, calls.fault_pages(handle), reason)


def first_missing(handle: calls.Handle, start: int, count: int, fault: int) -> int:
    """Return the first page of a range that cannot be read in, if the fault is in the range.

    A fault outside of the range (of the other range, in a copy within one region) is returned as it
    is.

    A copy need not run from front to back. Where a file has ended, all pages behind its end are
    missing, so bisection finds the first.
    """
    if not start <= fault < start + count:
        return fault
    page_size = calls.page_size_of(handle)
    lead_in = calls.lead_in(handle, page_size)

    def ends_missing(_: int, last: int) -> bool:
        result = calls.read_byte(handle, max((last - 1) * page_size - lead_in, 0))
        return result < 0 and failures.fault_in(-result) is not None

    low, high = (lead_in + start) // page_size, (lead_in + fault) // page_size + 1
    return max(_bisect(low, high, ends_missing) * page_size - lead_in, 0)


def _bisect(low: int, high: int, has_missing: Callable[[int, int], bool]) -> int:
    """Return the first missing page of those from `low` up to `high`, of which one is missing.

    Args:
        low: The number of the first page.
        high: The number of the page after the last.
        has_missing: Returns whether one of the pages of such a range is missing.
    """
    while high - low > 1:
        middle = (low + high) // 2
        if has_missing(low, middle):
            high = middle
        else:
            low = middle
    return low


def _after_guard(address: int) -> str:
    """Return the hint for a region in which a guard has replaced pages and keeps the first here."""
    # If the file has grown since, the kernel no longer tells why the pages were missing.
    reason = _reason(address, is_met=False)
    remedy = "a fault guard has put zeros there until recover() maps the pages anew"
    return remedy if reason is None else f"{reason}; {remedy}"


def _reason(address: int, *, is_met: bool = True) -> str | None:
    """Return the cause of a missing page, or None where the kernel does not tell.

    Args:
        address: The page's address.
        is_met: Whether the page is missing now; a page that a guard has replaced may be there
            again.
    """
    file = mapped_files.file_at(address)
    if file is None:
        return None
    file_offset = file.file_offset + address - file.start
    length, free = file.length_and_room()
    if length is None:
        return None
    if length <= file_offset:
        return f"the file has {length} bytes now, and the page starts at byte {file_offset} of it"
    if free == 0:
        return "no space is left on its device"
    return "its memory or disk has failed" if is_met else None


def populating_error(
    handle: calls.Handle, start: int, size: int, *, write: bool
) -> MappingFaultError:
    """Return the error of the first page of a range that could not be populated.

    If all pages can be populated by now, the error names the first page of the range.
    """
    missing = missing_in(handle, start, size, write=write)
    if missing is None:
        page_size = calls.page_size_of(handle)
        lead_in = calls.lead_in(handle, page_size)
        missing = max((lead_in + start) // page_size * page_size - lead_in, 0)
    return fault_error(handle, missing)


def missing_in(handle: calls.Handle, start: int, size: int, *, write: bool) -> int | None:
    """Return the first page of a range that cannot be populated; None where all can."""
    page_size = calls.page_size_of(handle)
    lead_in = calls.lead_in(handle, page_size)

    def has_missing(first: int, last: int) -> bool:
        begin = max(first * page_size - lead_in, start)
        end = min(last * page_size - lead_in, start + size)
        error = failures.call_failure(-calls.populate(handle, begin, end - begin, write))
        return error is not None and error.errno == errno.EFAULT

    low, high = (lead_in + start) // page_size, -(-(lead_in + start + size) // page_size)
    if not has_missing(low, high):
        return None
    return max(_bisect(low, high, has_missing) * page_size - lead_in, 0)
