"""Numbers of the kernel and of the C code, as the compiler knows them, and limits of C types."""

import enum
import os
from typing import Final

from mmapwrap._core._mman import ffi, lib

PROT_READ: Final = lib.PROT_READ
PROT_WRITE: Final = lib.PROT_WRITE
PROT_EXEC: Final = lib.PROT_EXEC
PROT_ANY: Final = PROT_READ | PROT_WRITE | PROT_EXEC

MAP_SHARED: Final = lib.MAP_SHARED
MAP_PRIVATE: Final = lib.MAP_PRIVATE
MAP_ANONYMOUS: Final = lib.MAP_ANONYMOUS
MAP_NORESERVE: Final = lib.MAP_NORESERVE
MAP_FIXED: Final = lib.MAP_FIXED
MAP_FIXED_NOREPLACE: Final = lib.MAP_FIXED_NOREPLACE

MS_INVALIDATE: Final = lib.MS_INVALIDATE
MLOCK_ONFAULT: Final = lib.MLOCK_ONFAULT

PAGE_SIZE: Final = os.sysconf("SC_PAGESIZE")
ADDRESS_SPACE: Final = 2**64
LARGEST_FILE_OFFSET: Final = 2**63 - 1
POINTER_SIZE: Final = ffi.sizeof("void *")
LARGEST_INT: Final = 2**31 - 1
"""C's int: a descriptor, an argument of fcntl(2)."""


def named(*starts: str) -> dict[str, int]:
    """Return the kernel's constants whose names start so, by their names."""
    return {name: getattr(lib, name) for name in dir(lib) if name.startswith(starts)}


class MapOption(enum.IntFlag):
    """The work of `mmw_map` beside mmap(2)."""

    POPULATE = lib.MMW_POPULATE
    """Read every page in."""
    IN_FILE = lib.MMW_IN_FILE
    """Require that the file has the whole range; a size of 0 means the rest of the file."""


class ScalarMode(enum.IntFlag):
    """The way in which a number is accessed, beside its width."""

    VOLATILE = lib.MMW_VOLATILE
    """One access of its width."""
    SWAPPED = lib.MMW_SWAPPED
    """In the byte order that is not the machine's."""


def page_size() -> int:
    """Return the bytes of a page, the unit in which the kernel maps. sysconf(_SC_PAGESIZE).

    Example:
        >>> import mmapwrap
        >>> mmapwrap.page_size() % 4096
        0
    """
    return PAGE_SIZE
