"""The compiled module: what `build_ffi.py` declares, with the types that cffi takes and gives."""

from collections.abc import Callable
from typing import Final, Self

from typing_extensions import Buffer

class CData:
    """A C pointer; two share what they point to."""

    def __add__(self, offset: int, /) -> Self: ...
    def __bool__(self) -> bool: ...
    def __len__(self) -> int: ...

class _FFI:
    NULL: Final[CData]
    @property
    def errno(self) -> int: ...
    def gc(self, cdata: CData, destructor: Callable[[CData], object], /) -> CData: ...
    def release(self, cdata: CData, /) -> None: ...
    def buffer(self, cdata: CData, size: int, /) -> Buffer: ...
    def from_buffer(
        self, cdecl: str, python_buffer: Buffer, require_writable: bool = ..., /
    ) -> CData: ...
    def typeof(self, cdecl: object, /) -> object: ...

class _Lib:
    PROT_READ: Final[int]
    PROT_WRITE: Final[int]
    PROT_EXEC: Final[int]
    MAP_SHARED: Final[int]
    MAP_PRIVATE: Final[int]
    MAP_ANONYMOUS: Final[int]
    MAP_NORESERVE: Final[int]
    MAP_FIXED: Final[int]
    MAP_FIXED_NOREPLACE: Final[int]
    MS_SYNC: Final[int]
    MS_ASYNC: Final[int]
    MS_INVALIDATE: Final[int]
    MLOCK_ONFAULT: Final[int]
    F_SEAL_SEAL: Final[int]
    F_SEAL_SHRINK: Final[int]
    F_SEAL_GROW: Final[int]
    F_SEAL_WRITE: Final[int]
    F_SEAL_FUTURE_WRITE: Final[int]
    F_SEAL_EXEC: Final[int]
    MADV_NORMAL: Final[int]
    MADV_RANDOM: Final[int]
    MADV_SEQUENTIAL: Final[int]
    MADV_WILLNEED: Final[int]
    MADV_DONTFORK: Final[int]
    MADV_DOFORK: Final[int]
    MADV_MERGEABLE: Final[int]
    MADV_UNMERGEABLE: Final[int]
    MADV_HUGEPAGE: Final[int]
    MADV_NOHUGEPAGE: Final[int]
    MADV_DONTDUMP: Final[int]
    MADV_DODUMP: Final[int]
    MADV_WIPEONFORK: Final[int]
    MADV_KEEPONFORK: Final[int]
    MADV_COLD: Final[int]
    MADV_PAGEOUT: Final[int]
    MADV_POPULATE_READ: Final[int]
    MADV_POPULATE_WRITE: Final[int]
    MADV_COLLAPSE: Final[int]
    MADV_DONTNEED: Final[int]
    MADV_FREE: Final[int]
    MADV_REMOVE: Final[int]
    MADV_DONTNEED_LOCKED: Final[int]
    MADV_GUARD_INSTALL: Final[int]
    MADV_GUARD_REMOVE: Final[int]
    MMW_CALL_MMAP: Final[int]
    MMW_CALL_MUNMAP: Final[int]
    MMW_CALL_MPROTECT: Final[int]
    MMW_CALL_MADVISE: Final[int]
    MMW_CALL_MSYNC: Final[int]
    MMW_CALL_MLOCK: Final[int]
    MMW_CALL_MLOCK2: Final[int]
    MMW_CALL_MUNLOCK: Final[int]
    MMW_CALL_MINCORE: Final[int]
    MMW_CALL_PRCTL: Final[int]
    MMW_CALL_FDATASYNC: Final[int]
    MMW_CALL_POSIX_FADVISE: Final[int]
    MMW_CALL_SIGACTION: Final[int]
    MMW_CALL_MALLOC: Final[int]
    MMW_CALL_MEMCPY: Final[int]
    MMW_CALL_READ: Final[int]
    MMW_CALL_WRITE: Final[int]
    MMW_CALL_MREMAP: Final[int]
    MMW_CALL_MEMFD_CREATE: Final[int]
    MMW_CALL_FTRUNCATE: Final[int]
    MMW_CALL_FALLOCATE: Final[int]
    MMW_CALL_FCNTL: Final[int]
    MMW_CLOSED: Final[int]
    MMW_FAULTED: Final[int]
    MMW_OUT_OF_RANGE: Final[int]
    MMW_START_NOT_ON_PAGE: Final[int]
    MMW_END_NOT_ON_PAGE: Final[int]
    MMW_NOT_READABLE: Final[int]
    MMW_NOT_WRITABLE: Final[int]
    MMW_SIZE_OVERFLOW: Final[int]
    MMW_MISALIGNED: Final[int]
    MMW_NO_SUCH_VALUE: Final[int]
    MMW_NOT_HERE: Final[int]
    MMW_VOLATILE: Final[int]
    MMW_SWAPPED: Final[int]
    def mmw_map(
        self,
        address: int,
        size: int,
        align: int,
        prot: int,
        flags: int,
        fd: int,
        file_offset: int,
        populate: int,
        /,
    ) -> CData: ...
    def mmw_borrow(self, address: int, size: int, prot: int, /) -> CData: ...
    def mmw_release(self, pages: CData, /) -> None: ...
    def mmw_base(self, pages: CData, /) -> CData: ...
    def mmw_address(self, pages: CData, /) -> int: ...
    def mmw_check_range(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_is_open(self, pages: CData, /) -> int: ...
    def mmw_check_pages(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_protect(
        self, pages: CData, offset: int, count: int, prot: int, common: int, /
    ) -> int: ...
    def mmw_name(self, pages: CData, name: bytes, /) -> int: ...
    def mmw_advice_is_known(self, advice: int, /) -> int: ...
    def mmw_advise(self, pages: CData, offset: int, count: int, advice: int, /) -> int: ...
    def mmw_advise_destructive(
        self, pages: CData, offset: int, count: int, advice: int, /
    ) -> int: ...
    def mmw_remove(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_msync(self, pages: CData, offset: int, count: int, flags: int, /) -> int: ...
    def mmw_lock(self, pages: CData, offset: int, count: int, flags: int, /) -> int: ...
    def mmw_unlock(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_populate(self, pages: CData, offset: int, count: int, write: int, /) -> int: ...
    def mmw_residency(self, pages: CData, offset: int, count: int, flags: CData, /) -> int: ...
    def mmw_evict(
        self, pages: CData, offset: int, count: int, fd: int, file_offset: int, /
    ) -> int: ...
    def mmw_read(self, pages: CData, offset: int, count: int, into: CData, /) -> int: ...
    def mmw_write(self, pages: CData, offset: int, count: int, source: CData, /) -> int: ...
    def mmw_read_byte(self, pages: CData, offset: int, /) -> int: ...
    def mmw_write_byte(self, pages: CData, offset: int, value: int, /) -> int: ...
    def mmw_fill(self, pages: CData, offset: int, count: int, value: int, /) -> int: ...
    def mmw_copy(
        self, pages: CData, offset: int, count: int, target: CData, target_offset: int, /
    ) -> int: ...
    def mmw_read_from_fd(
        self, pages: CData, offset: int, count: int, fd: int, file_offset: int, /
    ) -> int: ...
    def mmw_write_to_fd(
        self, pages: CData, offset: int, count: int, fd: int, file_offset: int, /
    ) -> int: ...
    def mmw_load_signed(self, pages: CData, offset: int, mode: int, /) -> int: ...
    def mmw_load_unsigned(self, pages: CData, offset: int, mode: int, /) -> int: ...
    def mmw_load_float(self, pages: CData, offset: int, mode: int, /) -> float: ...
    def mmw_store_signed(self, pages: CData, offset: int, mode: int, value: int, /) -> int: ...
    def mmw_store_unsigned(self, pages: CData, offset: int, mode: int, value: int, /) -> int: ...
    def mmw_store_float(self, pages: CData, offset: int, mode: int, value: float, /) -> int: ...
    def mmw_find(
        self, pages: CData, offset: int, count: int, needle: CData, needle_size: int, /
    ) -> int: ...
    def mmw_rfind(
        self, pages: CData, offset: int, count: int, needle: CData, needle_size: int, /
    ) -> int: ...
    def mmw_is_all_zero(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_equals(
        self, pages: CData, offset: int, count: int, other: CData, other_offset: int, /
    ) -> int: ...
    def mmw_flush_lines(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_reserve(self, pages: CData, offset: int, count: int, /) -> int: ...
    def mmw_place(
        self,
        pages: CData,
        offset: int,
        count: int,
        prot: int,
        flags: int,
        fd: int,
        file_offset: int,
        replaces: int,
        /,
    ) -> int: ...
    def mmw_become_arena(self, pages: CData, /) -> int: ...
    def mmw_create_memfd(self, name: bytes, size: int, allocate: int, /) -> int: ...
    def mmw_add_seals(self, fd: int, seals: int, /) -> int: ...
    def mmw_get_seals(self, fd: int, /) -> int: ...
    def mmw_guard_enter(self, pages: CData, /) -> int: ...
    def mmw_guard_leave(self, pages: CData, /) -> int: ...
    def mmw_fault_offset(self, pages: CData, /) -> int: ...
    def mmw_fault_pages(self, pages: CData, /) -> int: ...

ffi: Final[_FFI]
lib: Final[_Lib]
