"""The only door to C: the compiled helpers, the kernel's constants, and the translator of failures.

A helper takes and gives integers, drops the GIL while it runs, and reports a failure as a negative
number, which `csrc/declarations.h` explains. `_ownership.Pages` calls those that work on a range of
pages; the system calls that need no pages are functions here.
"""

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final, TypeAlias

from mmapwrap._mman import ffi, lib
from mmapwrap.errors import InvalidArgumentError, SystemCallError, system_call_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from mmapwrap._mman import CData

Handle: TypeAlias = "CData"
"""A `mmw_pages *` whose destructor unmaps, or CLOSED."""

CLOSED: Final[Handle] = ffi.NULL

PROT_READ: Final = lib.PROT_READ
PROT_WRITE: Final = lib.PROT_WRITE
PROT_EXEC: Final = lib.PROT_EXEC

MAP_SHARED: Final = lib.MAP_SHARED
MAP_PRIVATE: Final = lib.MAP_PRIVATE
MAP_ANONYMOUS: Final = lib.MAP_ANONYMOUS
MAP_NORESERVE: Final = lib.MAP_NORESERVE
MAP_FIXED: Final = lib.MAP_FIXED
MAP_FIXED_NOREPLACE: Final = lib.MAP_FIXED_NOREPLACE

MS_SYNC: Final = lib.MS_SYNC
MS_ASYNC: Final = lib.MS_ASYNC
MS_INVALIDATE: Final = lib.MS_INVALIDATE

MLOCK_ONFAULT: Final = lib.MLOCK_ONFAULT

MADV_NORMAL: Final = lib.MADV_NORMAL
MADV_RANDOM: Final = lib.MADV_RANDOM
MADV_SEQUENTIAL: Final = lib.MADV_SEQUENTIAL
MADV_WILLNEED: Final = lib.MADV_WILLNEED
MADV_DONTFORK: Final = lib.MADV_DONTFORK
MADV_DOFORK: Final = lib.MADV_DOFORK
MADV_MERGEABLE: Final = lib.MADV_MERGEABLE
MADV_UNMERGEABLE: Final = lib.MADV_UNMERGEABLE
MADV_HUGEPAGE: Final = lib.MADV_HUGEPAGE
MADV_NOHUGEPAGE: Final = lib.MADV_NOHUGEPAGE
MADV_DONTDUMP: Final = lib.MADV_DONTDUMP
MADV_DODUMP: Final = lib.MADV_DODUMP
MADV_WIPEONFORK: Final = lib.MADV_WIPEONFORK
MADV_KEEPONFORK: Final = lib.MADV_KEEPONFORK
MADV_COLD: Final = lib.MADV_COLD
MADV_PAGEOUT: Final = lib.MADV_PAGEOUT
MADV_POPULATE_READ: Final = lib.MADV_POPULATE_READ
MADV_POPULATE_WRITE: Final = lib.MADV_POPULATE_WRITE
MADV_COLLAPSE: Final = lib.MADV_COLLAPSE
MADV_DONTNEED: Final = lib.MADV_DONTNEED
MADV_FREE: Final = lib.MADV_FREE
MADV_REMOVE: Final = lib.MADV_REMOVE
MADV_DONTNEED_LOCKED: Final = lib.MADV_DONTNEED_LOCKED
MADV_GUARD_INSTALL: Final = lib.MADV_GUARD_INSTALL
MADV_GUARD_REMOVE: Final = lib.MADV_GUARD_REMOVE

PAGE_SIZE: Final = os.sysconf("SC_PAGESIZE")
ADDRESS_SPACE: Final = 2**64
LARGEST_FILE_OFFSET: Final = 2**63 - 1
LARGEST_DESCRIPTOR: Final = 2**31 - 1

# Refusals: what a helper says without asking the kernel.
REFUSED_CLOSED: Final = lib.MMW_CLOSED
REFUSED_FAULTED: Final = lib.MMW_FAULTED
REFUSED_RANGE: Final = lib.MMW_OUT_OF_RANGE
REFUSED_START: Final = lib.MMW_START_NOT_ON_PAGE
REFUSED_END: Final = lib.MMW_END_NOT_ON_PAGE
REFUSED_READING: Final = lib.MMW_NOT_READABLE
REFUSED_WRITING: Final = lib.MMW_NOT_WRITABLE

# Helpers on a range of pages: (handle, offset, count, ...) -> what they did, or a failure.
protect: Final = lib.mmw_protect
advise: Final = lib.mmw_advise
advise_destructive: Final = lib.mmw_advise_destructive
remove: Final = lib.mmw_remove
msync: Final = lib.mmw_msync
lock: Final = lib.mmw_lock
unlock: Final = lib.mmw_unlock
populate: Final = lib.mmw_populate
residency: Final = lib.mmw_residency
evict: Final = lib.mmw_evict
check_range: Final = lib.mmw_check_range
read: Final = lib.mmw_read
write: Final = lib.mmw_write
read_byte: Final = lib.mmw_read_byte
write_byte: Final = lib.mmw_write_byte

# Helpers on a handle.
address: Final = lib.mmw_address
is_open: Final = lib.mmw_is_open
fault_offset: Final = lib.mmw_fault_offset
fault_pages: Final = lib.mmw_fault_pages

_CALLS: Final = {
    lib.MMW_CALL_MMAP: "mmap",
    lib.MMW_CALL_MUNMAP: "munmap",
    lib.MMW_CALL_MPROTECT: "mprotect",
    lib.MMW_CALL_MADVISE: "madvise",
    lib.MMW_CALL_MSYNC: "msync",
    lib.MMW_CALL_MLOCK: "mlock",
    lib.MMW_CALL_MLOCK2: "mlock2",
    lib.MMW_CALL_MUNLOCK: "munlock",
    lib.MMW_CALL_MINCORE: "mincore",
    lib.MMW_CALL_PRCTL: "prctl",
    lib.MMW_CALL_FDATASYNC: "fdatasync",
    lib.MMW_CALL_POSIX_FADVISE: "posix_fadvise",
    lib.MMW_CALL_SIGACTION: "sigaction",
    lib.MMW_CALL_MALLOC: "malloc",
    lib.MMW_CALL_MEMCPY: "memcpy",
}


def call_failure(failure: int) -> SystemCallError | None:
    """The error of a failed system call, None where the failure is a refusal of the library."""
    call = failure >> 12
    return system_call_error(failure & 0xFFF, _CALLS[call]) if call else None


def page_size() -> int:
    """The bytes of a page, the unit in which the kernel maps."""
    return PAGE_SIZE


def advice_is_known(advice: int) -> bool:
    """Whether the running kernel takes the advice: madvise of no bytes succeeds exactly then."""
    return lib.mmw_advice_is_known(advice) != 0


def map_pages(
    address: int,
    size: int,
    align: int,
    prot: int,
    flags: int,
    fd: int,
    file_offset: int,
    populate: bool,
) -> Handle:
    """mmap(2) and what belongs to it, in one crossing; the handle unmaps when nobody holds it."""
    pages = lib.mmw_map(address, size, align, prot, flags, fd, file_offset, populate)
    if not pages:
        error = call_failure(ffi.errno)
        if error is None:
            raise InvalidArgumentError(f"size {size} with align {align} goes past 2**64")
        raise error
    return ffi.gc(pages, lib.mmw_release)


def name_pages(handle: Handle, name: bytes) -> int:
    """prctl(PR_SET_VMA_ANON_NAME): the name that /proc/self/maps shows."""
    return lib.mmw_name(handle, name)


def buffer_of(
    handle: Handle, offset: int, count: int, forget: "Callable[[Handle], object]"
) -> memoryview:
    """A writable view of a checked range; calls `forget` when nothing exports it any more."""
    # SAFETY: `forget` is held by the pointer, the pointer by the buffer, and the buffer by each memoryview;
    # it keeps the handle and so the pages.
    pointer = ffi.gc(lib.mmw_base(handle) + offset, forget)
    return memoryview(ffi.buffer(pointer, count))


def bytes_in(buffer: "Buffer") -> "CData":
    """A buffer's bytes for a helper to read; TypeError where it has none in one piece."""
    return _from_buffer(buffer, writable=False)


def bytes_to_fill(buffer: "Buffer") -> "CData":
    """A buffer's bytes for a helper to write; TypeError where it is read-only."""
    return _from_buffer(buffer, writable=True)


def new_bytes(count: int) -> "tuple[bytes, CData]":
    """New bytes, and the memory of them for a helper to fill before anybody else sees them."""
    content = bytes(count)
    return content, ffi.from_buffer("char[]", content)


def _from_buffer(buffer: "Buffer", *, writable: bool) -> "CData":
    try:
        return ffi.from_buffer("char[]", buffer, writable)
    except (BufferError, ValueError) as error:
        kind = "a writable" if writable else "a"
        message = f"{kind} contiguous bytes-like object is needed, not {type(buffer).__name__}"
        raise TypeError(message) from error


def open_file(path: "str | bytes | os.PathLike[str] | os.PathLike[bytes]", flags: int) -> int:
    """open(2), close-on-exec; never waits for the other end of a FIFO."""
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _translated(error, "open", os.fsdecode(path)) from None


def file_status(fd: int) -> os.stat_result:
    """fstat(2)."""
    try:
        return os.fstat(fd)
    except OSError as error:
        raise _translated(error, "fstat") from None


def access_mode(fd: int) -> int:
    """fcntl(F_GETFL): O_RDONLY, O_WRONLY or O_RDWR."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        raise _translated(error, "fcntl") from None


def _translated(error: OSError, syscall: str, filename: str | None = None) -> SystemCallError:
    return system_call_error(error.errno or errno.EIO, syscall, filename)
