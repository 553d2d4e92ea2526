"""The types and functions that are written in C for Python: exporters, owners, lock, move."""

from typing import TYPE_CHECKING

from mmapwrap._core._mman import lib
from mmapwrap._core.failures import raise_if_failed


def _made_in_c() -> list[object]:
    """Return the types and functions that `mmw_python_types` makes, in its order."""
    types: list[object] = []
    # SAFETY: the local list outlives the call, and no other thread has a reference to it.
    raise_if_failed(lib.mmw_python_types(id(types)))
    return types


if TYPE_CHECKING:
    from mmapwrap._core import _mman

    Export = _mman.Export
    Exporter = _mman.Exporter
    SequenceLock = _mman.SequenceLock
    is_buffer = _mman.is_buffer
    move_pages = _mman.move_pages
    new_export = _mman.new_export
    own_descriptor = _mman.own_descriptor
    own_guard = _mman.own_guard
    own_pages = _mman.own_pages
else:
    (
        Exporter,
        Export,
        new_export,
        is_buffer,
        SequenceLock,
        move_pages,
        _,
        own_pages,
        own_guard,
        own_descriptor,
    ) = _made_in_c()
