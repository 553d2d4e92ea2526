"""The C functions on mapped pages: integers in, integers out, and no GIL while they run.

Each takes the handle of the pages first. A function on a range takes offset and count next, checks
them, and returns a result or a failure (`failures.py`). `Pages.run_on_range` calls it.
"""

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmapwrap._core._mman import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmapwrap._core._mman import CData

Handle: TypeAlias = "CData"
"""A `mmw_pages *` whose owner unmaps (`owners.py`), or NULL_HANDLE."""

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
count: Final = _takes_tuple(lib.mmw_count)
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

# --- On numbers in a row: (handle, offset, count, mode, memory); the count is in bytes ------------

load_many: Final = lib.mmw_load_many
store_many: Final = lib.mmw_store_many

# --- On a file over a region: (handle, file, ...) -------------------------------------------------

file_size: Final = lib.mmw_file_size
file_move: Final = lib.mmw_file_move
file_read: Final = lib.mmw_file_read
file_write: Final = lib.mmw_file_write
UP_TO_END: Final = 2**64 - 1
"""The count of a file that ends where its region ends."""


def new_file(start: int, count: int) -> Any:
    """Return a `mmw_file *` of a range of a region, at its first byte."""
    return ffi.new("mmw_file *", (0, start, count))


# --- On a handle alone ----------------------------------------------------------------------------

address: Final = lib.mmw_address
size: Final = lib.mmw_size
is_open: Final = lib.mmw_is_open
become_arena: Final = lib.mmw_become_arena
page_size_of: Final = lib.mmw_page_size_of
mapped_size: Final = lib.mmw_mapped_size
resize: Final = lib.mmw_resize
protect_room: Final = lib.mmw_protect_room
lock_room: Final = lib.mmw_lock_room
name_pages: Final = lib.mmw_name
guard_enter: Final = lib.mmw_guard_enter
guard_leave: Final = lib.mmw_guard_leave
recover: Final = lib.mmw_recover
fault_offset: Final = lib.mmw_fault_offset
fault_pages: Final = lib.mmw_fault_pages
fault_address: Final = lib.mmw_fault_address


def lead_in(handle: Handle, page_size: int) -> int:
    """Return the bytes of a region's first page, of this size, that come before the region."""
    return address(handle) % page_size


def pointer(handle: Handle) -> int:
    """Return the address of a handle's record."""
    return int(ffi.cast("uintptr_t", handle))
