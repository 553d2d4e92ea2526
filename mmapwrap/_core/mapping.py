"""Map pages, borrow them and unmap them; and the cause where the kernel refuses to map a file."""

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from mmapwrap._core import calls, constants, descriptors
from mmapwrap._core._mman import ffi, lib
from mmapwrap._core.failures import Refusal, call_failure, errno_of, raise_if_failed
from mmapwrap._core.owners import new_pages
from mmapwrap.errors import (
    CapacityExceededError,
    InvalidArgumentError,
    MappingFaultError,
    MmapError,
    PastEndOfFileError,
    SystemCallError,
    UnsupportedOperationError,
    hinted,
    system_call_error,
)

if TYPE_CHECKING:
    from mmapwrap._core._mman import CData

_map: Final = lib.mmw_map


_USER_SPACE_END: Final = (
    1 << 48 if os.uname().machine == "aarch64" else (1 << 47) - constants.PAGE_SIZE
)
"""The address at which user space ends on most machines; with larger page tables it ends later."""

_UNMAPPABLE: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe or FIFO",
    stat.S_IFSOCK: "a socket",
}
"""The kinds of files that no access mode and no size makes mappable."""


class Request(NamedTuple):
    """The arguments of a mapping that failed."""

    address: int
    size: int
    align: int
    prot: int
    flags: int
    fd: int
    file_offset: int
    capacity: int = 0
    path: "descriptors.Path | None" = None

    @property
    def file(self) -> str:
        """The file as hints call it: the error names a path, but no descriptor."""
        return "this file" if self.path is not None else f"the file of descriptor {self.fd}"


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
    capacity: int = 0,
) -> calls.Handle:
    """Map pages, mmap(2), by one C function; the handle's owner unmaps them.

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
        capacity: The bytes that the pages may become; 0: as many as there are.
    """
    handle = new_pages()
    # SAFETY: `as_fixed_address` has checked an address that is not 0. Only MAP_FIXED in the flags
    # replaces mappings, and only `mmapwrap.unsafe`, whose caller answers for the range, passes it.
    result = _map(handle, address, size, align, prot, flags, fd, file_offset, capacity, options)
    if result < 0:
        request = Request(address, size, align, prot, flags, fd, file_offset, capacity, path)
        raise with_path(_mapping_error(-result, request), path)
    return handle


def with_path(error: MmapError, path: "descriptors.Path | None") -> MmapError:
    """Return the error, which now names the file's path."""
    named = (SystemCallError, PastEndOfFileError, MappingFaultError)
    if path is not None and isinstance(error, named):
        error.filename = os.fspath(path)
    return error


def _mapping_error(failure: int, request: Request) -> MmapError:
    """Return the error of a failed `map_pages`."""
    fd, size = request.fd, request.size
    if error := call_failure(failure):
        return with_cause(error, request)
    if failure == Refusal.PAST_END:  # the error has the length of now, which may be larger
        return PastEndOfFileError(request.file_offset, size, descriptors.file_status(fd).size)
    if failure == Refusal.NO_SIZE:
        return _no_length(request)
    if failure == Refusal.NOT_GROWABLE:
        hint = f"{request.file} is no regular file, or has huge pages, and cannot grow"
        return hinted(UnsupportedOperationError("capacity"), hint)
    if failure == Refusal.PAST_CAPACITY:
        wanted = size or descriptors.file_status(fd).size - request.file_offset
        return CapacityExceededError(0, wanted, request.capacity)
    largest = max(size, request.capacity)
    return InvalidArgumentError(f"size {largest} with align {request.align} goes past 2**64")


def with_cause(error: SystemCallError, request: Request) -> SystemCallError:
    """Return the error of a mapping that the kernel refused, with its cause."""
    size = request.size
    match error.errno:
        case errno.EACCES | errno.ENODEV if request.fd >= 0:
            return _file_error(error, request)
        case errno.EBADF:
            return hinted(error, descriptors.reason(request.fd))
        case errno.EEXIST:
            return hinted(error, f"the {size} bytes at address {request.address:#x} are in use")
        case errno.EFAULT:
            return hinted(error, "some of the pages to populate cannot be read in")
        case errno.ENOMEM:
            return hinted(error, _place(request))
        case errno.EOVERFLOW:
            return hinted(error, f"{size} bytes at offset {request.file_offset}")
        case _:
            return error


def _place(request: Request) -> str:
    """Return the size and the address that a mapping asked for, as a hint says them."""
    size = request.capacity or request.size
    if size == 0:
        size = descriptors.file_status(request.fd).size - request.file_offset
    if request.align > constants.PAGE_SIZE:
        return f"{size} bytes with align {request.align}"
    if not request.address:
        return f"{size} bytes"
    place = f"{size} bytes at address {request.address:#x}"
    if request.address + size <= _USER_SPACE_END:
        return place
    return f"{place}; user space ends at {_USER_SPACE_END:#x} on most machines"


def _file_error(error: SystemCallError, request: Request) -> SystemCallError:
    """Return the error of a file that cannot be mapped, with its cause.

    Where the kernel compares the modes of access before it looks at the kind of the file, the
    error is still that of the kind, which no other mode would help.
    """
    fd, file = request.fd, request.file
    kind = stat.S_IFMT(descriptors.file_status(fd).mode)
    if kind in _UNMAPPABLE:
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.ENODEV
        hint = f"{file} is {_UNMAPPABLE[kind]}, which cannot be mapped"
        return hinted(system_call_error(number, "mmap"), hint)
    is_written = request.flags & constants.MAP_SHARED and request.prot & constants.PROT_WRITE
    reason = descriptors.reason(fd, to_read=True, to_write=bool(is_written))
    if error.errno == errno.EACCES and reason is not None:
        return hinted(error, reason)
    if request.flags & constants.MAP_SHARED:
        private = constants.MAP_PRIVATE | constants.MAP_NORESERVE
        if try_to_map(constants.PAGE_SIZE, private, fd) is None:
            return hinted(error, f"{file} or its driver cannot be mapped")
        remedy = "MemoryMapping.from_file with sharing=Sharing.PRIVATE may work"
        return hinted(error, f"{file} or its driver cannot be mapped shared; {remedy}")
    return error


def _no_length(request: Request) -> MmapError:
    """Return the error of a file without a length, of which "the rest" was to be mapped.

    The kernel is asked for a page of it, because a size is no remedy where nothing can be mapped.
    """
    fd, path = request.fd, request.path
    kind = stat.S_IFMT(descriptors.file_status(fd).mode)
    _, result = _map_start(constants.PAGE_SIZE, request.flags, fd)
    if kind in _UNMAPPABLE or (result < 0 and errno_of(-result) == errno.ENODEV):
        return _file_error(system_call_error(errno.ENODEV, "mmap"), request)
    noun = "device" if kind == stat.S_IFCHR else "file"
    name = f"of descriptor {fd}" if path is None else repr(os.fspath(path))
    return InvalidArgumentError(f"size is needed: the {noun} {name} has no length of its own")


def _map_start(size: int, flags: int, fd: int) -> "tuple[CData, int]":
    """Map a file's start without any access; return the handle, and the result or the failure."""
    handle = new_pages()
    # SAFETY: address 0, so the kernel chooses one that is free.
    return handle, _map(handle, 0, size, constants.PAGE_SIZE, 0, flags, fd, 0, 0, 0)


def try_to_map(size: int, flags: int, fd: int) -> "CData | None":
    """Map a file's start without any access; return None where the kernel refuses."""
    handle, result = _map_start(size, flags, fd)
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
    handle = new_pages(owner)
    # SAFETY: `as_address` has checked that the range ends before 2**64. The caller of
    # `unsafe.from_raw_parts` answers for the memory, and the handle keeps its owner.
    raise_if_failed(lib.mmw_borrow(handle, address, size, prot))
    return handle
