"""The only door to C: the compiled helpers, the kernel's constants, and the translator of failures.

A helper takes and gives integers, drops the GIL while it runs, and reports a failure as a negative
number, which `csrc/declarations.h` explains. `_ownership.Pages` calls those that work on a range of
pages; the system calls that need no pages are functions here.
"""

import errno
import os
import stat
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from mmapwrap._mman import ffi, lib
from mmapwrap.errors import (
    InvalidArgumentError,
    MmapError,
    PastEndOfFileError,
    SystemCallError,
    system_call_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
LARGEST_ARGUMENT: Final = 2**31 - 1
"""Of fcntl(2): an int."""

# Refusals: what a helper says without asking the kernel.
REFUSED_CLOSED: Final = lib.MMW_CLOSED
REFUSED_FAULTED: Final = lib.MMW_FAULTED
REFUSED_RANGE: Final = lib.MMW_OUT_OF_RANGE
REFUSED_START: Final = lib.MMW_START_NOT_ON_PAGE
REFUSED_END: Final = lib.MMW_END_NOT_ON_PAGE
REFUSED_READING: Final = lib.MMW_NOT_READABLE
REFUSED_WRITING: Final = lib.MMW_NOT_WRITABLE
REFUSED_ALIGNMENT: Final = lib.MMW_MISALIGNED
REFUSED_VALUE: Final = lib.MMW_NO_SUCH_VALUE
REFUSED_HERE: Final = lib.MMW_NOT_HERE

MODE_VOLATILE: Final = lib.MMW_VOLATILE
MODE_SWAPPED: Final = lib.MMW_SWAPPED

POPULATED: Final = lib.MMW_POPULATED
IN_FILE: Final = lib.MMW_IN_FILE

F_SEAL_SEAL: Final = lib.F_SEAL_SEAL
F_SEAL_SHRINK: Final = lib.F_SEAL_SHRINK
F_SEAL_GROW: Final = lib.F_SEAL_GROW
F_SEAL_WRITE: Final = lib.F_SEAL_WRITE
F_SEAL_FUTURE_WRITE: Final = lib.F_SEAL_FUTURE_WRITE
F_SEAL_EXEC: Final = lib.F_SEAL_EXEC


def _with_arguments(helper: "Callable[..., int]") -> "Callable[..., int]":
    """A helper that takes what comes after its range as one tuple."""

    def call(handle: Handle, offset: int, count: int, arguments: tuple[object, ...]) -> int:
        return helper(handle, offset, count, *arguments)

    return call


# Helpers on a range of pages: (handle, offset, count), and maybe one argument more. They give what
# they did, or a failure.
protect: Final = _with_arguments(lib.mmw_protect)
advise: Final = lib.mmw_advise
advise_destructive: Final = lib.mmw_advise_destructive
remove: Final = lib.mmw_remove
msync: Final = lib.mmw_msync
lock: Final = lib.mmw_lock
unlock: Final = lib.mmw_unlock
populate: Final = lib.mmw_populate
residency: Final = lib.mmw_residency
evict: Final = _with_arguments(lib.mmw_evict)
check_range: Final = lib.mmw_check_range
check_pages: Final = lib.mmw_check_pages
read: Final = lib.mmw_read
read_new: Final = lib.mmw_read_new
read_steps: Final = _with_arguments(lib.mmw_read_steps)
write: Final = lib.mmw_write
write_steps: Final = _with_arguments(lib.mmw_write_steps)
read_byte: Final = lib.mmw_read_byte
write_byte: Final = lib.mmw_write_byte
fill: Final = lib.mmw_fill
copy: Final = _with_arguments(lib.mmw_copy)
equals: Final = _with_arguments(lib.mmw_equals)
find: Final = _with_arguments(lib.mmw_find)
rfind: Final = _with_arguments(lib.mmw_rfind)
is_all_zero: Final = lib.mmw_is_all_zero
flush_lines: Final = lib.mmw_flush_lines
read_from_fd: Final = _with_arguments(lib.mmw_read_from_fd)
write_to_fd: Final = _with_arguments(lib.mmw_write_to_fd)
reserve: Final = lib.mmw_reserve
place: Final = _with_arguments(lib.mmw_place)

keeps_messages_apart: Final = lib.mmw_keeps_messages_apart

# Helpers on a number: (handle, offset, mode, ...). A failed load gives one of the FAILED values.
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

# A mapping's life, of which every one has its share.
_new: Final = lib.mmw_new
_map: Final = lib.mmw_map
_release: Final = lib.mmw_release
_gc: Final = ffi.gc
_fcntl: Final = lib.mmw_fcntl

# Helpers on a handle.
address: Final = lib.mmw_address
size: Final = lib.mmw_size
is_open: Final = lib.mmw_is_open
become_arena: Final = lib.mmw_become_arena
guard_enter: Final = lib.mmw_guard_enter
guard_leave: Final = lib.mmw_guard_leave
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
    lib.MMW_CALL_READ: "read",
    lib.MMW_CALL_WRITE: "write",
    lib.MMW_CALL_MREMAP: "mremap",
    lib.MMW_CALL_MEMFD_CREATE: "memfd_create",
    lib.MMW_CALL_FTRUNCATE: "ftruncate",
    lib.MMW_CALL_FALLOCATE: "fallocate",
    lib.MMW_CALL_FCNTL: "fcntl",
    lib.MMW_CALL_FSTAT: "fstat",
    lib.MMW_CALL_OPEN: "open",
    lib.MMW_CALL_CLOSE: "close",
}


def call_failure(failure: int) -> SystemCallError | None:
    """The error of a failed system call, None where the failure is a refusal of the library."""
    call = failure >> 12
    return system_call_error(failure & 0xFFF, _CALLS[call]) if call else None


def has_numbers(*numbers: int) -> bool:
    """Whether C has unsigned integers of these values: then no helper overflows over them."""
    return all(0 <= number < ADDRESS_SPACE for number in numbers)


def is_from_c(error: BaseException) -> bool:
    """Whether a function of C raised the error, asked where that is caught, by who called it.

    Otherwise Python code did that C called, or that ran beside it: a signal's handler.
    """
    return error.__traceback__ is None or error.__traceback__.tb_next is None


def is_of_a_handler(error: BaseException) -> bool:
    """Whether a signal's handler raised the error, in the middle of Python code of others."""
    import signal  # noqa: PLC0415  # only for the error's sake

    handlers = {
        getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()
    }
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code not in handlers:
        traceback = traceback.tb_next
    return traceback is not None


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
    mapping: int,
) -> Handle:
    """mmap(2) and what belongs to it, in one crossing; the handle unmaps when nobody holds it."""
    handle = _gc(_new(), _release)
    result = _map(handle, address, size, align, prot, flags, fd, file_offset, mapping)
    if result < 0:
        raise _failed_mapping(-result, size, align, fd, file_offset)
    return handle


def _failed_mapping(failure: int, size: int, align: int, fd: int, file_offset: int) -> MmapError:
    if error := call_failure(failure):
        return error
    if failure == lib.MMW_PAST_END:  # of what the file has now: maybe more than it had
        return PastEndOfFileError(file_offset, size, file_status(fd).st_size)
    if failure == lib.MMW_NO_SIZE:
        kind = file_status(fd).st_mode
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            return InvalidArgumentError("size is needed: a device has no length of its own")
        return system_call_error(errno.ENODEV, "mmap")
    return InvalidArgumentError(f"size {size} with align {align} goes past 2**64")


def unmap(handle: Handle) -> None:
    """munmap(2) now: for what nobody has seen yet and nobody will."""
    ffi.release(handle)


def borrow_pages(address: int, size: int, prot: int, owner: object) -> Handle:
    """A handle of memory that somebody else unmaps; it keeps the owner."""
    handle = _gc(_new(), partial(_release_borrowed, owner))
    _checked(lib.mmw_borrow(handle, address, size, prot))
    return handle


def _release_borrowed(owner: object, pages: Handle) -> None:
    _release(pages)
    del owner  # not before


OwnedDescriptor: TypeAlias = "tuple[int, CData]"
"""A descriptor, and what closes it when nobody holds that: no call in flight sees it reused."""


def create_memfd(name: bytes, size: int, *, allocate: bool) -> OwnedDescriptor:
    """memfd_create(2), ftruncate(2) and, to have the memory now, fallocate(2)."""
    owner = _new_owner()
    return _checked(_finished(lib.mmw_create_memfd, owner, name, size, allocate)), owner


def duplicate(fd: int) -> OwnedDescriptor:
    """fcntl(F_DUPFD_CLOEXEC): another descriptor of the same file."""
    owner = _new_owner()
    return _checked(lib.mmw_duplicate(owner, fd)), owner


def own_descriptor(let_go: "Callable[[], int]") -> OwnedDescriptor:
    """A descriptor that somebody else made, and lets go of now."""
    owner = _new_owner()
    return _checked(lib.mmw_own(owner, let_go())), owner


def _new_owner() -> "CData":
    return _gc(lib.mmw_new_descriptor(), lib.mmw_close_descriptor)


def open_file(
    path: "str | bytes | os.PathLike[str] | os.PathLike[bytes]", flags: int
) -> OwnedDescriptor:
    """open(2), close-on-exec; never waits for the other end of a FIFO."""
    fd, owner = try_to_open(path, flags)
    if fd < 0:
        raise system_call_error(-fd, "open", os.fsdecode(path))
    return fd, owner


def try_to_open(
    path: "str | bytes | os.PathLike[str] | os.PathLike[bytes]", flags: int
) -> OwnedDescriptor:
    """As `open_file`, but instead of a descriptor it may give the error number, negative."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"path {path!r}: {error}") from None
    if b"\0" in name:
        raise InvalidArgumentError(f"path {path!r}: embedded null byte")
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    sys.audit("open", path, None, flags)  # as os.open does
    owner = _new_owner()
    result = _finished(lib.mmw_open, owner, name, flags)
    return (result if result >= 0 else -(-result & 0xFFF)), owner


def close_file(owner: "CData") -> None:
    """close(2) now; where it fails, the descriptor is closed all the same."""
    _checked(lib.mmw_close(owner))


def _finished(helper: "Callable[..., int]", *arguments: object) -> int:
    """What a helper says that no signal interrupts; in between Python runs their handlers."""
    while True:
        result = helper(*arguments)
        if result >= 0 or -result & 0xFFF != errno.EINTR:
            return result


def add_seals(fd: int, seals: int) -> None:
    """fcntl(F_ADD_SEALS)."""
    _checked(_fcntl(fd, lib.F_ADD_SEALS, seals))


def get_seals(fd: int) -> int:
    """fcntl(F_GET_SEALS)."""
    return _checked(_fcntl(fd, lib.F_GET_SEALS, 0))


def get_seals_if_any(fd: int) -> int:
    """fcntl(F_GET_SEALS): none where it fails, as it does of what is no memfd."""
    return max(_fcntl(fd, lib.F_GET_SEALS, 0), 0)


def close_on_exec(fd: int) -> None:
    """fcntl(F_SETFD): a program that the process starts does not get the descriptor."""
    _checked(_fcntl(fd, lib.F_SETFD, lib.FD_CLOEXEC))


def access_mode(fd: int) -> int:
    """fcntl(F_GETFL): O_RDONLY, O_WRONLY or O_RDWR."""
    return _checked(_fcntl(fd, lib.F_GETFL, 0)) & os.O_ACCMODE


def _checked(result: int) -> int:
    if result < 0 and (error := call_failure(-result)):
        try:
            raise error
        finally:
            del error  # whose traceback has this frame: neither would go
    return result


def count_resident(flags: "Buffer") -> int:
    """The pages in memory, as `residency` said of each."""
    memory = bytes_in(flags)
    return lib.mmw_count_resident(memory, len(memory))


def name_pages(handle: Handle, name: bytes) -> int:
    """prctl(PR_SET_VMA_ANON_NAME): the name that /proc/self/maps shows."""
    return lib.mmw_name(handle, name)


def buffer_of(
    handle: Handle, offset: int, count: int, forget: "Callable[[Handle], object]"
) -> memoryview:
    """A writable view of a checked range; calls `forget` when nothing exports it any more."""
    # SAFETY: each memoryview holds the buffer, the buffer the pointer, the pointer `forget`, and
    # that the handle and so the pages.
    pointer = ffi.gc(lib.mmw_base(handle) + offset, forget)
    return memoryview(ffi.buffer(pointer, count))


def bytes_in(buffer: "Buffer") -> "CData":
    """A buffer's bytes for a helper to read; TypeError where it has none in one piece."""
    try:
        return _from_buffer(_BYTES, buffer)
    except (BufferError, ValueError) as error:
        if isinstance(error, MmapError) or is_of_a_handler(error):
            raise
        raise _not_contiguous(buffer, "a") from error


def bytes_to_fill(buffer: "Buffer") -> "CData":
    """A buffer's bytes for a helper to write; TypeError where it is read-only."""
    try:
        return _from_buffer(_BYTES, buffer, True)  # noqa: FBT003  # faster than by its name
    except (BufferError, ValueError) as error:
        if isinstance(error, MmapError) or is_of_a_handler(error):
            raise
        raise _not_contiguous(buffer, "a writable") from error


_from_buffer: Final = ffi.from_buffer
_BYTES: Final = ffi.typeof("char[]")


def _not_contiguous(buffer: "Buffer", kind: str) -> TypeError:
    return TypeError(f"{kind} contiguous bytes-like object is needed, not {type(buffer).__name__}")


def new_bytes(count: int) -> "tuple[bytes, CData]":
    """New bytes, and the memory of them for a helper to fill before anybody else sees them."""
    if count < _LONG_TO_CLEAR:
        content = bytes(count)
    else:
        made: list[bytes] = []
        # SAFETY: the list lives as long as the call, and nobody else knows of it.
        _checked(lib.mmw_new_bytes(id(made), count))
        (content,) = made
    return content, _from_buffer(_BYTES, content)


_LONG_TO_CLEAR: Final = 1 << 16


def lines_of(path: str) -> "Iterator[bytes]":
    """The lines of a file such as those of /proc, one at a time: there may be many."""
    try:
        file = open(path, "rb")  # noqa: SIM115  # to tell its errors from those of reading
    except OSError as error:
        raise _translated(error, "open", path) from None
    with file:
        try:
            yield from file
        except OSError as error:
            raise _translated(error, "read", path) from None


def file_status(fd: int) -> os.stat_result:
    """fstat(2)."""
    try:
        return os.fstat(fd)
    except OSError as error:
        raise _translated(error, "fstat") from None


def _translated(error: OSError, syscall: str, filename: str | None = None) -> OSError:
    """The library's error of a system call; what a signal handler raised stays as it is."""
    if error.errno is None or not is_from_c(error):
        return error
    return system_call_error(error.errno, syscall, filename)
