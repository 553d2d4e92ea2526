"""Transfers between files and memory, without a buffer in between."""

import errno
from collections.abc import Callable
from typing import Final, SupportsIndex

from mmapwrap._core import calls, descriptors, failures
from mmapwrap._core.arguments import Descriptor, as_descriptor, as_file_offset
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.faults import fault_error, missing_in
from mmapwrap._core.pages import Pages
from mmapwrap.errors import ReadToMemoryError, WriteFromMemoryError, hinted

_AT_POSITION: Final = -1


def read_from_fd(
    pages: Pages, start: int, count: int, fd: Descriptor, file_offset: SupportsIndex | None
) -> int:
    """Read into pages until the range is full or the file ends; return the bytes read."""
    pages.checked_offset(PROT_WRITE, start, count)
    return _transfer(pages, calls.read_from_fd, start, count, fd, file_offset, ReadToMemoryError)


def write_to_fd(
    pages: Pages, start: int, count: int, fd: Descriptor, file_offset: SupportsIndex | None
) -> int:
    """Write a range of pages until all is written or the file takes no more; return the bytes."""
    pages.checked_offset(PROT_READ, start, count)
    return _transfer(pages, calls.write_to_fd, start, count, fd, file_offset, WriteFromMemoryError)


def _transfer(
    pages: Pages,
    function: Callable[..., int],
    start: int,
    count: int,
    fd: Descriptor,
    file_offset: SupportsIndex | None,
    failed: type[ReadToMemoryError] | type[WriteFromMemoryError],
) -> int:
    """Run a C function until it has moved the range; return the bytes moved.

    Where some bytes were moved before a failure, these are the result, and the next call meets the
    failure again.
    """
    number = as_descriptor(fd)
    first_offset = (
        _AT_POSITION if file_offset is None else as_file_offset(file_offset, "file_offset")
    )
    done = 0
    while done < count:
        offset = first_offset if first_offset == _AT_POSITION else first_offset + done
        # One call for all remaining bytes, so that a message to a pipe or a socket stays whole.
        moved = function(pages.handle, start + done, count - done, (number, offset))
        if moved < 0:
            failure = failures.call_failure(-moved)
            if failure is None:
                raise pages.error(-moved, start + done, count - done)
            if failure.errno == errno.EINTR:
                continue  # Python has run the signal's handler by now
            if failure.errno == errno.EFAULT and failed is WriteFromMemoryError:
                # The kernel met a page that cannot be read in.
                missing = missing_in(pages.handle, start + done, count - done, write=False)
                if missing is not None:
                    raise fault_error(pages.handle, missing)
            if done:
                break
            raise hinted(failed(failure.errno), _cause(failure.errno, number, failed)) from failure
        done += moved
        if moved == 0 or (done < count and descriptors.keeps_messages_apart(number)):
            break
    return done


def _cause(
    number: int, fd: int, failed: type[ReadToMemoryError] | type[WriteFromMemoryError]
) -> str | None:
    """Return the hint for a transfer that failed with an errno: what the descriptor is at fault."""
    match number:
        case errno.EBADF:
            is_read = failed is ReadToMemoryError
            return descriptors.reason(fd, to_read=is_read, to_write=not is_read)
        case errno.ESPIPE:
            return f"descriptor {fd} has no positions: leave file_offset out"
        case errno.EISDIR:
            return f"descriptor {fd} is of a directory"
        case _:
            return None
