"""The length of a file: made longer without ever making it shorter, and cut."""

import errno
import os
from typing import TYPE_CHECKING, Final, cast

from mmapwrap._core import descriptors
from mmapwrap._core._mman import lib
from mmapwrap._core.failures import call_failure, retry_on_eintr
from mmapwrap.errors import hinted, system_call_error

if TYPE_CHECKING:
    from mmapwrap.errors import SystemCallError

_MUCH: Final = 1 << 20
"""Bytes from which on the free memory is asked for: to take them takes longer than to ask."""


def extend_file(fd: int, start: int, end: int, *, allocate: bool) -> None:
    """Make a file longer, if it is shorter. fallocate(2).

    Args:
        fd: The file's descriptor.
        start: The first byte that is new.
        end: The length that the file has at least afterwards.
        allocate: Take the blocks of all new bytes, and not only of the last one.
    """
    if allocate and end - start >= _MUCH and descriptors.has_seals(fd):
        require_memory(end - start)
    result = retry_on_eintr(lib.mmw_extend_file, fd, min(start, end), end, allocate)
    if result < 0:
        raise _length_error(-result, fd, f"the file would have {end} bytes")


def cut_file(fd: int, end: int, old_end: int) -> None:
    """Make a file shorter, unless it goes on behind `old_end`. ftruncate(2)."""
    result = retry_on_eintr(lib.mmw_cut_file, fd, end, old_end)
    if result < 0:
        raise _length_error(-result, fd, f"the file would have {end} bytes")


def _length_error(failure: int, fd: int, given: str) -> "SystemCallError":
    """Return the error of a file whose length could not be changed, with its cause."""
    error = cast("SystemCallError", call_failure(failure))
    match error.errno:
        case errno.EBADF | errno.EINVAL if descriptors.access_mode(fd) == os.O_RDONLY:
            denied = system_call_error(errno.EACCES, error.syscall)
            return hinted(denied, "the file was opened for reading only")
        case errno.EPERM if descriptors.get_seals_if_any(fd):
            return hinted(error, "the memory is sealed against this change of its length")
        case _:
            return hinted(error, given)


def require_memory(size: int) -> None:
    """Require that the kernel could still give away so many bytes without ending a process.

    fallocate(2) of a memfd has no limit: it takes memory until the kernel kills processes. Where
    /proc/meminfo does not say how much there is, nothing is required.

    Raises:
        NoSpaceError: There are fewer.
    """
    lines = (line.partition(b":") for line in descriptors.lines_of("/proc/meminfo"))
    fields = {name: rest for name, _, rest in lines}
    if b"MemAvailable" not in fields:
        return  # as where a container's file system has a /proc/meminfo of its own
    found = [fields[name] for name in (b"MemAvailable", b"SwapFree") if name in fields]
    available = sum(int(each.split()[0]) for each in found) * 1024
    if size > available:
        hint = f"{size} bytes are wanted, and {available} are available"
        raise hinted(system_call_error(errno.ENOSPC, "fallocate"), hint)
