"""Buffers of callers, whose bytes the C functions read and write, and new bytes."""

import sys
from typing import TYPE_CHECKING, Any, Final

from mmapwrap._core._mman import ffi, lib
from mmapwrap._core.failures import raise_if_failed
from mmapwrap.errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from mmapwrap._core._mman import CData


def bytes_in(buffer: "Buffer", name: str = "data") -> "CData":
    """Return a buffer's bytes for a C function to read.

    Raises:
        TypeError: It is no buffer, or not contiguous.
        InvalidArgumentError: It holds Python objects.
    """
    if type(buffer) is not bytes:
        buffer = _as_plain(buffer, name, is_filled=False)
    return _from_buffer(_BYTES, buffer)


def bytes_to_fill(buffer: "Buffer", name: str = "buffer") -> "CData":
    """Return a buffer's bytes for a C function to write.

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
        # SAFETY: the list lives as long as the call, and no other thread knows of it.
        raise_if_failed(lib.mmw_new_bytes(id(made), count))
        (content,) = made
    return content, _from_buffer(_BYTES, content)


_LONG_TO_CLEAR: Final = 1 << 16


def count_resident(flags: "Buffer") -> int:
    """Count the pages in memory among those whose flags `residency` has set."""
    memory = bytes_in(flags)
    return lib.mmw_count_resident(memory, len(memory))
