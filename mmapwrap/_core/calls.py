"""The C functions on mapped pages: integers in, integers out, and no GIL while they run.

Each takes the handle of the pages first. A function on a range takes offset and count next, checks
them, and returns a result or a failure (`failures.py`). `Pages.run_on_range` calls it.
"""

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from mmapwrap._core import constants, descriptors
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
    from collections.abc import Callable

    from mmapwrap._core._mman import CData

Handle: TypeAlias = "CData"
"""A `mmw_pages *` whose destructor unmaps, or NULL_HANDLE."""

NULL_HANDLE: Final[Handle] = ffi.NULL
"""The handle of a closed region: every function refuses it."""


def _takes_tuple(function: "Callable[..., int]") -> "Callable[..., int]":
    """Return a function that takes the arguments after its range as one tuple."""

    def call(handle: Handle, offset: int, count: int, arguments: tuple[object, ...]) -> int:
        return function(handle, offset, count, *arguments)

    return call


# --- On a range: (handle, offset, count), and maybe one argument more -----------------------------

protect: Final = _takes_tuple(lib.mmw_protect)
advise: Final = lib.mmw_advise
advise_destructive: Final = lib.mmw_advise_destructive
remove: Final = lib.mmw_remove
msync: Final = lib.mmw_msync
lock: Final = lib.mmw_lock
unlock: Final = lib.mmw_unlock
populate: Final = lib.mmw_populate
residency: Final = lib.mmw_residency
tells_residency: Final = lib.mmw_tells_residency
evict: Final = _takes_tuple(lib.mmw_evict)
check_range: Final = lib.mmw_check_range
check_pages: Final = lib.mmw_check_pages
read: Final = lib.mmw_read
read_new: Final = lib.mmw_read_new
read_steps: Final = _takes_tuple(lib.mmw_read_steps)
write: Final = lib.mmw_write
write_steps: Final = _takes_tuple(lib.mmw_write_steps)
read_byte: Final = lib.mmw_read_byte
write_byte: Final = lib.mmw_write_byte
fill: Final = lib.mmw_fill
copy: Final = _takes_tuple(lib.mmw_copy)
equals: Final = _takes_tuple(lib.mmw_equals)
find: Final = _takes_tuple(lib.mmw_find)
rfind: Final = _takes_tuple(lib.mmw_rfind)
is_all_zero: Final = lib.mmw_is_all_zero
flush_lines: Final = lib.mmw_flush_lines
read_from_fd: Final = _takes_tuple(lib.mmw_read_from_fd)
write_to_fd: Final = _takes_tuple(lib.mmw_write_to_fd)
reserve: Final = lib.mmw_reserve
place: Final = _takes_tuple(lib.mmw_place)

# --- On a number: (handle, offset, mode, ...); a failed load returns one of the FAILED values -----

check_scalar: Final = lib.mmw_check_scalar
load_signed: Final = lib.mmw_load_signed
load_unsigned: Final = lib.mmw_load_unsigned
load_float: Final = lib.mmw_load_float
FAILED_SIGNED: Final = lib.mmw_failed_signed()
FAILED_UNSIGNED: Final = lib.mmw_failed_unsigned()
FAILED_FLOAT: Final = lib.mmw_failed_float()
store_signed: Final = lib.mmw_store_signed
store_unsigned: Final = lib.mmw_store_unsigned
store_float: Final = lib.mmw_store_float

# --- On a handle alone ----------------------------------------------------------------------------

address: Final = lib.mmw_address
size: Final = lib.mmw_size
is_open: Final = lib.mmw_is_open
become_arena: Final = lib.mmw_become_arena
page_size_of: Final = lib.mmw_page_size_of
mapped_size: Final = lib.mmw_mapped_size
name_pages: Final = lib.mmw_name
guard_enter: Final = lib.mmw_guard_enter
guard_leave: Final = lib.mmw_guard_leave
recover: Final = lib.mmw_recover
fault_offset: Final = lib.mmw_fault_offset
fault_pages: Final = lib.mmw_fault_pages
fault_address: Final = lib.mmw_fault_address

_gc: Final = ffi.gc
_new: Final = lib.mmw_new
_map: Final = lib.mmw_map
_release: Final = lib.mmw_release
_new_guard: Final = lib.mmw_new_guard
_free_guard: Final = lib.mmw_free_guard


def new_guard() -> "CData":
    """Return a guard that can be entered once; its destructor leaves it."""
    return _gc(_new_guard(), _free_guard)


# --- A mapping's life -----------------------------------------------------------------------------


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
) -> Handle:
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
        error = partial(_mapping_error, -result, address, size, align, prot, flags, fd, file_offset)
        raise _with_path(error(), path)
    return handle


def _with_path(error: MmapError, path: "descriptors.Path | None") -> MmapError:
    """Return the error, which now names the file's path."""
    if path is not None and isinstance(error, (SystemCallError, PastEndOfFileError)):
        error.filename = os.fspath(path)
    return error


def _mapping_error(
    failure: int,
    address: int,
    size: int,
    align: int,
    prot: int,
    flags: int,
    fd: int,
    file_offset: int,
) -> MmapError:
    """Return the error of a failed `map_pages`."""
    if error := call_failure(failure):
        if fd >= 0:
            error = _file_error(error, prot, flags, fd)
        numbers = {
            errno.EBADF: f"descriptor {fd}",
            errno.EEXIST: f"something is mapped in the {size} bytes at address {address:#x}",
            errno.EFAULT: "some of the pages to populate cannot be read in",
            errno.ENOMEM: f"{size} bytes",
            errno.EOVERFLOW: f"{size} bytes at offset {file_offset}",
        }
        return error if error.hint is not None else hinted(error, numbers.get(error.errno))
    if failure == Refusal.PAST_END:  # the error has the length of now, which may be larger
        return PastEndOfFileError(file_offset, size, descriptors.file_status(fd).size)
    if failure == Refusal.NO_SIZE:
        return _no_length(descriptors.file_status(fd).mode)
    return InvalidArgumentError(f"size {size} with align {align} goes past 2**64")


def _file_error(error: SystemCallError, prot: int, flags: int, fd: int) -> SystemCallError:
    """Return the error of a file that cannot be mapped, with its cause."""
    if error.errno == errno.ENODEV and stat.S_ISDIR(descriptors.file_status(fd).mode):
        return system_call_error(errno.EISDIR, "mmap")
    if error.errno == errno.EACCES:
        mode = descriptors.access_mode(fd)
        if mode == os.O_WRONLY:
            return hinted(error, f"descriptor {fd} is open for writing only: reading is needed too")
        if mode == os.O_RDONLY and prot & constants.PROT_WRITE:
            return hinted(error, f"descriptor {fd} is open for reading only")
    if flags & constants.MAP_SHARED and error.errno in (errno.ENODEV, errno.EACCES):
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


def unmap(handle: Handle) -> None:
    """Unmap pages now, munmap(2): pages that were not given to any caller."""
    ffi.release(handle)


def borrow_pages(address: int, size: int, prot: int, owner: object) -> Handle:
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


def _release_borrowed(owner: object, pages: Handle) -> None:
    """Release the handle, then its owner."""
    _release(pages)
    del owner  # after the release
