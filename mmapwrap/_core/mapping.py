"""Map pages, borrow them and unmap them; and the cause where the kernel refuses to map a file."""

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from mmapwrap._core import calls, constants, descriptors
from mmapwrap._core._mman import ffi, lib
from mmapwrap._core.failures import Refusal, call_failure, raise_if_failed
from mmapwrap.errors import (
    InvalidArgumentError,
    MmapError,
    PastEndOfFileError,
    SystemCallError,
    hinted,
    system_call_error,
)

if TYPE_CHECKING:
    from mmapwrap._core._mman import CData

_gc: Final = ffi.gc
_new: Final = lib.mmw_new
_map: Final = lib.mmw_map
_release: Final = lib.mmw_release


class _Request(NamedTuple):
    """The arguments of a `map_pages` that failed."""

    address: int
    size: int
    align: int
    prot: int
    flags: int
    fd: int
    file_offset: int


def map_pages(
    address: int,
    size: int,
    align: int,
    prot: int,
    flags: int,
    fd: int,
    file_offset: int,
    options: int,
    path: "descriptors.Path | None" = None,
) -> calls.Handle:
    """Map pages, mmap(2), by one C function; the handle's destructor unmaps them.

    Args:
        address: The address of the first byte; 0: the kernel chooses.
        size: Bytes; 0 with MapOption.IN_FILE: the rest of the file.
        align: The power of two that divides the address of the first page.
        prot: The PROT_* bits.
        flags: The MAP_* bits.
        fd: The file's descriptor; -1: anonymous.
        file_offset: Bytes into the file.
        options: The bits of MapOption.
        path: The file's path, which errors name.
    """
    handle = _gc(_new(), _release)
    # SAFETY: `as_fixed_address` has checked an address that is not 0. Only MAP_FIXED in the flags
    # replaces mappings, and only `mmapwrap.unsafe`, whose caller answers for the range, passes it.
    result = _map(handle, address, size, align, prot, flags, fd, file_offset, options)
    if result < 0:
        request = _Request(address, size, align, prot, flags, fd, file_offset)
        raise _with_path(_mapping_error(-result, request), path)
    return handle


def _with_path(error: MmapError, path: "descriptors.Path | None") -> MmapError:
    """Return the error, which now names the file's path."""
    if path is not None and isinstance(error, (SystemCallError, PastEndOfFileError)):
        error.filename = os.fspath(path)
    return error


def _mapping_error(failure: int, request: _Request) -> MmapError:
    """Return the error of a failed `map_pages`."""
    fd, size = request.fd, request.size
    if error := call_failure(failure):
        if fd >= 0:
            error = _file_error(error, request)
        numbers = {
            errno.EBADF: f"descriptor {fd}",
            errno.EEXIST: f"the {size} bytes at address {request.address:#x} are in use",
            errno.EFAULT: "some of the pages to populate cannot be read in",
            errno.ENOMEM: f"{size} bytes",
            errno.EOVERFLOW: f"{size} bytes at offset {request.file_offset}",
        }
        return error if error.hint is not None else hinted(error, numbers.get(error.errno))
    if failure == Refusal.PAST_END:  # the error has the length of now, which may be larger
        return PastEndOfFileError(request.file_offset, size, descriptors.file_status(fd).size)
    if failure == Refusal.NO_SIZE:
        return _no_length(descriptors.file_status(fd).mode)
    return InvalidArgumentError(f"size {size} with align {request.align} goes past 2**64")


def _file_error(error: SystemCallError, request: _Request) -> SystemCallError:
    """Return the error of a file that cannot be mapped, with its cause."""
    fd = request.fd
    if error.errno == errno.ENODEV and stat.S_ISDIR(descriptors.file_status(fd).mode):
        return system_call_error(errno.EISDIR, "mmap")
    if error.errno == errno.EACCES:
        mode = descriptors.access_mode(fd)
        if mode == os.O_WRONLY:
            return hinted(error, f"descriptor {fd} is open for writing only: reading is needed too")
        if mode == os.O_RDONLY and request.prot & constants.PROT_WRITE:
            return hinted(error, f"descriptor {fd} is open for reading only")
    if request.flags & constants.MAP_SHARED and error.errno in (errno.ENODEV, errno.EACCES):
        private = constants.MAP_PRIVATE | constants.MAP_NORESERVE
        if try_to_map(constants.PAGE_SIZE, private, fd) is None:
            return hinted(error, "this file or its driver cannot be mapped")
        hint = "this file or its driver cannot be mapped shared; sharing=Sharing.PRIVATE may work"
        return hinted(error, hint)
    return error


def _no_length(mode: int) -> MmapError:
    """Return the error of a file without a length, of which "the rest" was to be mapped."""
    if stat.S_ISDIR(mode):
        return system_call_error(errno.EISDIR, "mmap")
    if stat.S_ISCHR(mode):
        return InvalidArgumentError("size is needed: a device has no length of its own")
    if stat.S_IFMT(mode) == 0:  # an anonymous inode: eventfd, io_uring, perf ...
        return InvalidArgumentError("size is needed: the file of this descriptor has no length")
    return system_call_error(errno.ENODEV, "mmap")


def try_to_map(size: int, flags: int, fd: int) -> "CData | None":
    """Map a file's start without any access; return None where the kernel refuses."""
    handle = _gc(_new(), _release)
    # SAFETY: address 0, so the kernel chooses one that is free.
    result = _map(handle, 0, size, constants.PAGE_SIZE, 0, flags, fd, 0, 0)
    return handle if result >= 0 else None


def unmap(handle: calls.Handle) -> None:
    """Unmap pages now, munmap(2): pages that were not given to any caller."""
    ffi.release(handle)


def borrow_pages(address: int, size: int, prot: int, owner: object) -> calls.Handle:
    """Return a handle of memory that its owner unmaps; the handle keeps the owner.

    Args:
        address: The address of the first byte.
        size: Bytes.
        prot: The PROT_* bits that the memory has.
        owner: The object to keep.

    Safety:
        The caller has checked that the memory is mapped while the owner lives.
    """
    handle = _gc(_new(), partial(_release_borrowed, owner))
    # SAFETY: `as_address` has checked that the range ends before 2**64. The caller of
    # `unsafe.from_raw_parts` answers for the memory, and the handle keeps its owner.
    raise_if_failed(lib.mmw_borrow(handle, address, size, prot))
    return handle


def _release_borrowed(owner: object, pages: calls.Handle) -> None:
    """Release the handle, then its owner."""
    _release(pages)
    del owner  # after the release
