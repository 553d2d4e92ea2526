"""Buffers of callers, whose bytes the C functions read and write, and new bytes objects.

A call releases a caller's buffer when it ends, also where it fails. Otherwise the frames of the
error would hold it: a bytearray could not be resized as long as the error lives, and CPython up to
3.11.7 and 3.12.1 crashes where it collects a cycle with a memoryview that has an export (gh-77894).
"""

import errno
import gc
from typing import TYPE_CHECKING, Any, Final, cast

from mmapwrap._core._mman import ffi, lib
from mmapwrap._core.failures import raise_if_failed
from mmapwrap._core.python_types import Export, is_buffer
from mmapwrap.errors import (
    InvalidArgumentError,
    SystemCallError,
    hinted,
    system_call_error,
)

if TYPE_CHECKING:
    from typing import TypeGuard

    from typing_extensions import Buffer

    from mmapwrap._core._mman import CData


def bytes_in(buffer: "Buffer", name: str = "data") -> "CData":
    """Return a buffer's bytes for a C function to read, until `release`.

    Raises:
        TypeError: The object is no buffer, or not contiguous.
        InvalidArgumentError: The buffer holds Python objects.
    """
    if type(buffer) is not bytes and not _is_of_bytes(buffer):
        buffer = _as_plain(buffer, name, is_filled=False)
    return _from_buffer(_BYTES, buffer)


def bytes_to_fill(buffer: "Buffer", name: str = "buffer") -> "CData":
    """Return a buffer's bytes for a C function to write, until `release`.

    Raises:
        TypeError: The object is no buffer, read-only, or not contiguous.
        InvalidArgumentError: The buffer holds Python objects.
    """
    if type(buffer) is not bytearray and (not _is_of_bytes(buffer) or buffer.readonly):
        buffer = _as_plain(buffer, name, is_filled=True)
    return _from_buffer(_BYTES, buffer, True)  # noqa: FBT003  # faster than as a keyword


release: Final = ffi.release
_from_buffer: Final = ffi.from_buffer
_BYTES: Final = ffi.typeof("char[]")


def _as_plain(buffer: "Buffer", name: str, *, is_filled: bool) -> "Buffer":
    """Return a buffer whose bytes are contiguous and are not the addresses of Python objects."""
    kind = "a writable" if is_filled else "a"
    if isinstance(buffer, str):
        raise TypeError(f"{name} must be {kind} bytes-like object: bytes are needed, not str")
    if not is_buffer(buffer):
        raise TypeError(f"{name} must be {kind} bytes-like object, not {type(buffer).__name__}")
    dtype: Any = getattr(buffer, "dtype", None)
    try:
        view = memoryview(buffer)
    except ValueError:
        if not hasattr(dtype, "hasobject"):
            raise
        # NumPy does not describe every item type to a memoryview: dates, for example.
        flags: Any = getattr(buffer, "flags")  # noqa: B009  # NumPy's types are not known here
        has_objects, item = _exporter_has_objects(buffer), str(dtype)
        is_contiguous, is_writable = bool(flags.c_contiguous), bool(flags.writeable)
    else:
        buffer = view
        item = str(dtype) if hasattr(dtype, "hasobject") else view.format
        has_objects = _has_objects(view)
        is_contiguous, is_writable = view.c_contiguous, not view.readonly
    if not is_contiguous or (is_filled and not is_writable):
        raise TypeError(f"{name} must be {kind} contiguous bytes-like object")
    if has_objects:
        raise InvalidArgumentError(f"{name} holds Python objects (format {item!r}), not bytes")
    return buffer


def _is_of_bytes(buffer: "Buffer") -> "TypeGuard[memoryview]":
    """Return whether a buffer is a view of contiguous bytes of a region, or of Python's own."""
    return type(buffer) is memoryview and type(buffer.obj) in _PLAIN and buffer.c_contiguous


_PLAIN: Final = (type(None), bytes, bytearray, Export)
"""Exporters whose memory holds no Python objects; None: the memory of a buffered file of `io`."""


def _has_objects(view: memoryview) -> bool:
    """Return whether a buffer has a Python object in it.

    Its format has an `O` then, outside of the names of fields. The function also asks exporters of
    ctypes and NumPy, because a union has no format, the name of a field may look like the end of
    one, and the memory may be that of another exporter.
    """
    exporter: Any = view.obj
    if type(exporter) in _PLAIN:
        return False
    if _exporter_has_objects(exporter):
        return True
    item = view.format
    return "O" in item and any("O" in codes for codes in item.split(":")[::2])


def _exporter_has_objects(exporter: Any) -> bool:
    """Return whether an exporter, or one that its memory may belong to, has a Python object.

    Raises:
        InvalidArgumentError: There are more of them behind each other than are looked at.
    """
    rest = [exporter]
    for _ in range(_MOST_EXPORTERS):
        if not rest:
            return False
        each: Any = rest.pop()
        owners: list[Any] = []
        if hasattr(each, "_b_base_"):  # of ctypes
            kept: Any = getattr(each, "_objects", None) or {}
            # c_char_p and py_object keep the value itself there, and no dictionary of what is kept.
            if type(kept) is not dict or _ctypes_has_objects(type(each)):
                return True
            owners = [each._b_base_, cast("dict[str, Any]", kept).get(_FROM_BUFFER)]
        elif isinstance(each, memoryview):
            owners = [each.obj]
        elif type(each).__name__ == "_buffer_wrapper":  # of what a class's __buffer__ returned
            owners = [one for one in gc.get_referents(each) if type(one) is memoryview]
        elif getattr(getattr(each, "dtype", None), "hasobject", False):
            return True
        else:
            owners = [getattr(each, "base", None)]  # of NumPy's arrays
        rest += [owner for owner in owners if owner is not None]
    raise InvalidArgumentError(
        f"more than {_MOST_EXPORTERS} buffers are behind this one, and one of them may hold Python "
        "objects: copy it with bytes()"
    )


_FROM_BUFFER: Final = "ffffffff"
"""The key by which ctypes keeps the buffer that `from_buffer` was given."""
_MOST_EXPORTERS: Final = 1000
"""The exporters behind each other that are looked at; each takes about a microsecond."""


def _ctypes_has_objects(kind: Any) -> bool:
    """Return whether a type of ctypes, or one that it is made of, has a Python object in it."""
    rest, seen = [kind], set[int]()
    while rest:
        each = rest.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))  # `kind` keeps all of them
        if hasattr(each, "_length_"):  # an array
            rest.append(each._type_)
            continue
        bases: tuple[type, ...] = getattr(each, "__mro__", ())
        fields = [field for base in bases for field in vars(base).get("_fields_", ())]
        if not fields and getattr(each, "_type_", None) == "O":
            return True
        rest += [field[1] for field in fields]
    return False


def out_of_memory(count: int) -> SystemCallError:
    """Return the error of memory for so many bytes that Python could not get. malloc(3)."""
    return hinted(system_call_error(errno.ENOMEM, "malloc"), f"{count} bytes")


def new_bytes(count: int) -> "tuple[bytes, CData]":
    """Return a new bytes object, and its memory for a C function to fill.

    No other code has the object yet, so that its change is not seen.
    """
    if count < _LONG_TO_CLEAR:
        content = bytes(count)
    else:
        made: list[bytes] = []
        # SAFETY: the local list outlives the call, and no other thread has a reference to it.
        raise_if_failed(lib.mmw_new_bytes(id(made), count), f"{count} bytes")
        (content,) = made
    return content, _from_buffer(_BYTES, content)


_LONG_TO_CLEAR: Final = 1 << 16


def count_resident(flags: "Buffer") -> int:
    """Count the pages in memory among those whose flags `residency` has set."""
    memory = bytes_in(flags)
    return lib.mmw_count_resident(memory, len(memory))
