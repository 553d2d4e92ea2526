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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from mmapwrap._mman import ffi, lib
from mmapwrap.errors import (
    InvalidArgumentError,
    MmapError,
    PastEndOfFileError,
    SystemCallError,
    hinted,
    system_call_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from mmapwrap import _mman
    from mmapwrap._mman import CData

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

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
REFUSED_LOST: Final = lib.MMW_CONTENT_LOST

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
tells_residency: Final = lib.mmw_tells_residency
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
page_size_of: Final = lib.mmw_page_size_of
mapped_size: Final = lib.mmw_mapped_size
guard_enter: Final = lib.mmw_guard_enter
guard_leave: Final = lib.mmw_guard_leave
recover: Final = lib.mmw_recover
fault_offset: Final = lib.mmw_fault_offset
fault_pages: Final = lib.mmw_fault_pages
fault_address: Final = lib.mmw_fault_address

file_page_size: Final = lib.mmw_file_page_size


def new_guard() -> "CData":
    """A guard that can be entered once; one that is not left is left as it goes."""
    return _gc(_new_guard(), _free_guard)


_new_guard: Final = lib.mmw_new_guard
_free_guard: Final = lib.mmw_free_guard


def _python_types() -> list[object]:
    """What is written in C for Python: Exporter, new_export, SequenceLock."""
    types: list[object] = []
    # SAFETY: the list lives as long as the call, and nobody else knows of it.
    _checked(lib.mmw_python_types(id(types)))
    return types


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
    lib.MMW_CALL_READLINK: "readlink",
}

_FAULT_FLAG: Final = 1 << 62
_PARTNER_FLAG: Final = 1 << 61


class Fault(NamedTuple):
    """A page that could not be read in or written to, as a helper reports it."""

    offset: int
    """Of its first byte in its region."""
    is_of_partner: bool
    """Whether the region is the other one of a copy between two."""


def fault_in(failure: int) -> Fault | None:
    """The page that a helper failed at, None where it failed for another reason."""
    if not failure & _FAULT_FLAG:
        return None
    offset = failure & ~(_FAULT_FLAG | _PARTNER_FLAG)
    return Fault(offset, is_of_partner=bool(failure & _PARTNER_FLAG))


def call_failure(failure: int) -> SystemCallError | None:
    """The error of a failed system call, None where the failure is a refusal of the library."""
    call = failure >> 12
    return system_call_error(failure & 0xFFF, _CALLS[call]) if call else None


def has_numbers(*numbers: int) -> bool:
    """Whether C has unsigned integers of these values: then no helper overflows over them."""
    return all(0 <= number < ADDRESS_SPACE for number in numbers)


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
    path: "Path | None" = None,
) -> Handle:
    """mmap(2) and what belongs to it, in one crossing; the handle unmaps when nobody holds it."""
    handle = _gc(_new(), _release)
    result = _map(handle, address, size, align, prot, flags, fd, file_offset, mapping)
    if result < 0:
        raise _of_path(_failed_mapping(-result, size, align, flags, fd, file_offset), path)
    return handle


def _of_path(error: MmapError, path: Path | None) -> MmapError:
    if path is not None and isinstance(error, (SystemCallError, PastEndOfFileError)):
        error.filename = os.fspath(path)
    return error


def _failed_mapping(
    failure: int, size: int, align: int, flags: int, fd: int, file_offset: int
) -> MmapError:
    if error := call_failure(failure):
        if error.errno == errno.ENODEV and fd >= 0 and stat.S_ISDIR(file_status(fd).mode):
            return system_call_error(errno.EISDIR, "mmap")
        is_shared_file = fd >= 0 and bool(flags & MAP_SHARED)
        is_refused_so = is_shared_file and error.errno in (errno.ENODEV, errno.EACCES)
        return hinted(error, _why_not_shared(fd)) if is_refused_so else error
    if failure == lib.MMW_PAST_END:  # of what the file has now: maybe more than it had
        return PastEndOfFileError(file_offset, size, file_status(fd).size)
    if failure == lib.MMW_NO_SIZE:
        return _no_length(file_status(fd).mode)
    return InvalidArgumentError(f"size {size} with align {align} goes past 2**64")


def _why_not_shared(fd: int) -> str | None:
    if try_to_map(PAGE_SIZE, MAP_PRIVATE | MAP_NORESERVE, fd) is None:
        return "this file or its driver cannot be mapped"
    return "this file or its driver cannot be mapped shared; sharing=Sharing.PRIVATE may work"


def _no_length(mode: int) -> MmapError:
    if stat.S_ISDIR(mode):
        return system_call_error(errno.EISDIR, "mmap")
    if stat.S_ISCHR(mode):
        return InvalidArgumentError("size is needed: a device has no length of its own")
    if stat.S_IFMT(mode) == 0:  # an anonymous inode: eventfd, io_uring, perf ...
        return InvalidArgumentError("size is needed: the file of this descriptor has no length")
    return system_call_error(errno.ENODEV, "mmap")


def try_to_map(size: int, flags: int, fd: int) -> "CData | None":
    """A mapping of a file's start that allows nothing, None where the kernel refuses."""
    handle = _gc(_new(), _release)
    return handle if _map(handle, 0, size, PAGE_SIZE, 0, flags, fd, 0, 0) >= 0 else None


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


def open_file(path: Path, flags: int) -> OwnedDescriptor:
    """open(2), close-on-exec; never waits for the other end of a FIFO."""
    fd, owner = try_to_open(path, flags)
    if fd < 0:
        raise system_call_error(-fd, "open", os.fsdecode(path))
    return fd, owner


def try_to_open(path: Path, flags: int) -> OwnedDescriptor:
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


# --- Buffers of callers -----------------------------------------------------------------------


def bytes_in(buffer: "Buffer", name: str = "data") -> "CData":
    """A buffer's bytes for a helper to read.

    Raises:
        TypeError: It is no buffer, or not contiguous.
        InvalidArgumentError: It holds Python objects.
    """
    if type(buffer) is not bytes:
        buffer = _as_plain(buffer, name, is_filled=False)
    return _from_buffer(_BYTES, buffer)


def bytes_to_fill(buffer: "Buffer", name: str = "buffer") -> "CData":
    """A buffer's bytes for a helper to write.

    Raises:
        TypeError: It is no buffer, read-only, or not contiguous.
        InvalidArgumentError: It holds Python objects.
    """
    if type(buffer) is not bytearray:
        buffer = _as_plain(buffer, name, is_filled=True)
    return _from_buffer(_BYTES, buffer, True)  # noqa: FBT003  # faster than by its name


_from_buffer: Final = ffi.from_buffer
_BYTES: Final = ffi.typeof("char[]")


def _as_plain(buffer: "Buffer", name: str, *, is_filled: bool) -> "Buffer":
    """The buffer, whose bytes are contiguous and are not the addresses of Python objects."""
    kind = "a writable" if is_filled else "a"
    if isinstance(buffer, str):
        raise TypeError(f"{name} must be {kind} bytes-like object: bytes are needed, not str")
    if sys.version_info >= (3, 12) and not hasattr(type(buffer), "__buffer__"):
        raise TypeError(f"{name} must be {kind} bytes-like object, not {type(buffer).__name__}")
    dtype: Any = getattr(buffer, "dtype", None)
    if hasattr(dtype, "hasobject"):  # NumPy describes not every item type to a memoryview
        flags: Any = getattr(buffer, "flags")  # noqa: B009  # NumPy's types are not known here
        is_plain, item = not dtype.hasobject, str(dtype)
        is_contiguous, is_writable = bool(flags.c_contiguous), bool(flags.writeable)
    else:
        view = memoryview(buffer)
        buffer, item = view, view.format
        is_plain = not _holds_objects(item)
        is_contiguous, is_writable = view.c_contiguous, not view.readonly
    if not is_contiguous or (is_filled and not is_writable):
        raise TypeError(f"{name} must be {kind} contiguous bytes-like object")
    if not is_plain:
        raise InvalidArgumentError(f"{name} holds Python objects (format {item!r}), not bytes")
    return buffer


def _holds_objects(item: str) -> bool:
    """Whether a buffer's item has a Python object in it: `O`, outside of the names of fields."""
    return "O" in item and any("O" in codes for codes in item.split(":")[::2])


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


# --- Files --------------------------------------------------------------------------------------


class FileStatus(NamedTuple):
    """What fstat(2) says of a file; the length of a block device is that of the device."""

    size: int
    device: int
    inode: int
    mode: int


def file_status(fd: int) -> FileStatus:
    """fstat(2)."""
    status = ffi.new("mmw_file_status *")
    _checked(lib.mmw_fstat(fd, status))
    return FileStatus(status.size, status.device, status.inode, status.mode)


def lines_of(path: str) -> "Iterator[bytes]":
    """The lines of a file such as those of /proc, which have no length: there may be many."""
    fd, owner = open_file(path, os.O_RDONLY)
    rest = b""
    try:
        room = ffi.new("char[]", _PART)
        while count := _finish_reading(fd, room, path):
            *lines, rest = (rest + bytes(ffi.buffer(room, count))).split(b"\n")
            yield from lines
    finally:
        close_file(owner)


_PART: Final = 1 << 13


def _finish_reading(fd: int, room: "CData", path: str) -> int:
    result = _finished(lib.mmw_read_file, fd, room, _PART)
    if result < 0:
        raise system_call_error(-result & 0xFFF, "read", path)
    return result


def link_target(path: str) -> bytes | None:
    """Where a symbolic link leads, at most 4096 bytes; None where there is none. readlink(2)."""
    room = ffi.new("char[]", _LONGEST_PATH)
    length: int = lib.mmw_readlink(os.fsencode(path), room, _LONGEST_PATH)
    return bytes(ffi.buffer(room, length)) if length >= 0 else None


_LONGEST_PATH: Final = 4096

if TYPE_CHECKING:
    Export = _mman.Export
    Exporter = _mman.Exporter
    SequenceLock = _mman.SequenceLock
    new_export = _mman.new_export
else:
    Exporter, new_export, SequenceLock = _python_types()
