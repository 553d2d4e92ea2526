"""Records in C and their owners: each pointer keeps an owner, which releases the record at its end.

`csrc/owner.c` says why the garbage collector cannot release a record that a finalizer still uses.
"""

from typing import TYPE_CHECKING, Final

from mmapwrap._core import python_types
from mmapwrap._core._mman import ffi

if TYPE_CHECKING:
    from mmapwrap._core._mman import CData

_pointer_to: Final = ffi.from_buffer
_own_pages: Final = python_types.own_pages
_PAGES: Final = ffi.typeof("mmw_pages *")
_GUARD: Final = ffi.typeof("mmw_guard *")
_DESCRIPTOR: Final = ffi.typeof("mmw_descriptor *")


def new_pages(kept: object = None) -> "CData":
    """Return a record without pages; its owner unmaps those that it gets.

    Args:
        kept: An object to keep as long as the record.
    """
    return _pointer_to(_PAGES, _own_pages(kept))


def new_guard() -> "CData":
    """Return a guard that can be entered once; its owner leaves it."""
    return _pointer_to(_GUARD, python_types.own_guard())


def new_descriptor() -> "CData":
    """Return the record of a descriptor, which a C function gives it; its owner closes that."""
    return _pointer_to(_DESCRIPTOR, python_types.own_descriptor())
