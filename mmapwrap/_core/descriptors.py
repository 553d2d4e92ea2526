"""Descriptors and files: opening, duplicating and sealing them, and their status in the kernel."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from mmapwrap._core import constants
from mmapwrap._core._mman import ffi, lib
from mmapwrap._core.failures import call_failure, errno_of, raise_if_failed, retry_on_eintr
from mmapwrap._core.owners import new_descriptor
from mmapwrap.errors import InvalidArgumentError, SystemCallError, hinted, system_call_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmapwrap._core._mman import CData

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

OwnedDescriptor: TypeAlias = "tuple[int, CData]"
"""A descriptor, and the record whose owner closes it when no call in flight uses it."""

file_page_size: Final = lib.mmw_file_page_size
"""The bytes of a page of a file: those of a huge page on hugetlbfs."""
keeps_messages_apart: Final = lib.mmw_keeps_messages_apart
_fcntl: Final = lib.mmw_fcntl


# --- The causes of refusals -----------------------------------------------------------------------


def reason(fd: int, *, to_read: bool = False, to_write: bool = False) -> str | None:
    """Return why a call refused a descriptor, or None where the descriptor does not tell.

    Args:
        fd: The descriptor.
        to_read: Whether the call reads the file.
        to_write: Whether the call writes to the file.
    """
    status = _fcntl(fd, lib.F_GETFL, 0)
    if status < 0:
        return f"descriptor {fd} is not open"
    if status & os.O_PATH:
        return f"descriptor {fd} was opened with O_PATH, which allows no access"
    mode = status & os.O_ACCMODE
    if to_read and mode == os.O_WRONLY:
        return f"descriptor {fd} is open for writing only: reading is needed"
    if to_write and mode == os.O_RDONLY:
        return f"descriptor {fd} is open for reading only: writing is needed"
    return None


def _of_descriptor(result: int, fd: int) -> int:
    """Return the result of a call on a descriptor.

    Raises:
        SystemCallError: The call failed; where the descriptor is the cause, the hint says so.
    """
    if result < 0:
        raise _error_of(-result, fd)
    return result


def _error_of(failure: int, fd: int) -> SystemCallError:
    """Return the error of a failed call on a descriptor."""
    error = cast("SystemCallError", call_failure(failure))  # these functions refuse nothing
    return hinted(error, reason(fd) if error.errno == errno.EBADF else None)


# --- New descriptors ------------------------------------------------------------------------------


def create_memfd(name: bytes, size: int, *, allocate: bool) -> OwnedDescriptor:
    """Create a memfd: memfd_create(2), ftruncate(2) and, to have the memory now, fallocate(2)."""
    owner = new_descriptor()
    result = retry_on_eintr(lib.mmw_create_memfd, owner, name, size, allocate)
    if result < 0:
        raise _memfd_error(-result, size)
    return result, owner


def _memfd_error(failure: int, size: int) -> SystemCallError:
    """Return the error of a memfd that could not be created, or not in this size."""
    error = cast("SystemCallError", call_failure(failure))
    is_of_size = error.syscall in ("ftruncate", "fallocate")
    return hinted(error, f"{size} bytes" if is_of_size else None)


def duplicate(fd: int) -> OwnedDescriptor:
    """Return another descriptor of the same file. fcntl(F_DUPFD_CLOEXEC)."""
    owner = new_descriptor()
    return _of_descriptor(lib.mmw_duplicate(owner, fd), fd), owner


def own_descriptor(release: "Callable[[], int]") -> OwnedDescriptor:
    """Take a descriptor over from another owner.

    Args:
        release: Ends the other ownership, and returns the descriptor.
    """
    owner = new_descriptor()
    return raise_if_failed(lib.mmw_own(owner, release())), owner


def open_file(path: Path, flags: int, mode: int = 0) -> OwnedDescriptor:
    """Open a file, close-on-exec; never wait for the other end of a FIFO. open(2).

    Args:
        path: The file's path.
        flags: The O_* bits.
        mode: The permissions of a file that is created, before the umask.
    """
    fd, owner = try_to_open(path, flags, mode)
    if fd < 0:
        raise system_call_error(-fd, "open", os.fsdecode(path))
    return fd, owner


def try_to_open(path: Path, flags: int, mode: int = 0) -> OwnedDescriptor:
    """Open a file as `open_file` does, but return the negative errno instead of raising it."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"path {path!r}: {error}") from None
    if b"\0" in name:
        raise InvalidArgumentError(f"path {path!r}: embedded null byte")
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    sys.audit("open", path, None, flags)  # as os.open does
    owner = new_descriptor()
    result = retry_on_eintr(lib.mmw_open, owner, name, flags, mode)
    return (result if result >= 0 else -errno_of(-result)), owner


def remove_name(path: Path) -> None:
    """Remove the name of a file. unlink(2)."""
    result = lib.mmw_unlink(os.fsencode(path))
    if result < 0:
        raise system_call_error(errno_of(-result), "unlink", os.fsdecode(path))


def take_back(path: Path, owner: "CData") -> None:
    """Remove a file that a call has created and cannot finish, whoever removed its name since."""
    try:
        with suppress(SystemCallError):
            remove_name(path)
    finally:
        close_file(owner)


def close_file(owner: "CData") -> None:
    """Close a descriptor now, close(2); a failed close has closed it all the same."""
    raise_if_failed(lib.mmw_close(owner))


# --- fcntl ----------------------------------------------------------------------------------------


def add_seals(fd: int, seals: int) -> None:
    """Add seals to a memfd. fcntl(F_ADD_SEALS)."""
    if not 0 <= seals <= constants.LARGEST_INT:
        raise hinted(system_call_error(errno.EINVAL, "fcntl"), _unknown(seals))
    result = _fcntl(fd, lib.F_ADD_SEALS, seals)
    if result < 0:
        raise _seal_error(-result, fd, seals)


def get_seals(fd: int) -> int:
    """Return the seals of a memfd. fcntl(F_GET_SEALS)."""
    result = _fcntl(fd, lib.F_GET_SEALS, 0)
    if result < 0:
        raise _seal_error(-result, fd)
    return result


def _seal_error(failure: int, fd: int, seals: int = 0) -> SystemCallError:
    """Return the error of a failed call on seals, with its cause."""
    error = cast("SystemCallError", call_failure(failure))
    match error.errno:
        case errno.EINVAL if _fcntl(fd, lib.F_GET_SEALS, 0) >= 0:
            return hinted(error, _unknown(seals))
        case errno.EINVAL:
            return hinted(error, "this is no memfd")
        case errno.EBUSY:
            return hinted(error, "a writable mapping of the memory exists, here or elsewhere")
        case errno.EPERM:
            sealed = "the memory has the seal against more seals"
            return hinted(error, reason(fd, to_write=True) or sealed)
        case _:
            return error


def _unknown(seals: int) -> str:
    """Return the hint about seals of which the kernel does not know one."""
    return f"the kernel does not know all of the seals {seals:#x}"


def get_seals_if_any(fd: int) -> int:
    """Return the seals of a memfd, or none for any other file. fcntl(F_GET_SEALS)."""
    return max(_fcntl(fd, lib.F_GET_SEALS, 0), 0)


def has_seals(fd: int) -> bool:
    """Return whether a file may have seals: it is in memory. fcntl(F_GET_SEALS)."""
    return bool(_fcntl(fd, lib.F_GET_SEALS, 0) >= 0)


def close_on_exec(fd: int) -> None:
    """Keep a descriptor from the programs that the process starts. fcntl(F_SETFD)."""
    raise_if_failed(_fcntl(fd, lib.F_SETFD, lib.FD_CLOEXEC))


def access_mode(fd: int) -> int:
    """Return O_RDONLY, O_WRONLY or O_RDWR. fcntl(F_GETFL)."""
    return _of_descriptor(_fcntl(fd, lib.F_GETFL, 0), fd) & os.O_ACCMODE


# --- The status and content of files --------------------------------------------------------------


class FileStatus(NamedTuple):
    """The answer of fstat(2) for a file; the length of a block device is that of the device."""

    size: int
    device: int
    inode: int
    mode: int


def file_status(fd: int) -> FileStatus:
    """Return the file's status. fstat(2)."""
    status = ffi.new("mmw_file_status *")
    _of_descriptor(lib.mmw_fstat(fd, status), fd)
    return FileStatus(status.size, status.device, status.inode, status.mode)


def lines_of(path: str) -> Iterator[bytes]:
    """Yield the lines of a file such as those of /proc, which have no length."""
    fd, owner = open_file(path, os.O_RDONLY)
    rest = b""
    try:
        buffer = ffi.new("char[]", _PART)
        while count := _read_part(fd, buffer, path):
            *lines, rest = (rest + bytes(ffi.buffer(buffer, count))).split(b"\n")
            yield from lines
    finally:
        close_file(owner)


_PART: Final = 1 << 13


def _read_part(fd: int, buffer: "CData", path: str) -> int:
    """Read the next bytes of a file into a buffer; return their number."""
    result = retry_on_eintr(lib.mmw_read_file, fd, buffer, _PART)
    if result < 0:
        raise system_call_error(errno_of(-result), "read", path)
    return result


def link_target(path: str) -> bytes | None:
    """Return the target of a symbolic link, at most 4096 bytes; None: no link. readlink(2)."""
    buffer = ffi.new("char[]", _LONGEST_PATH)
    length: int = lib.mmw_readlink(os.fsencode(path), buffer, _LONGEST_PATH)
    return bytes(ffi.buffer(buffer, length)) if length >= 0 else None


_LONGEST_PATH: Final = 4096
