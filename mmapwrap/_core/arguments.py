"""Checks of callers' arguments: each is named by the value that it returns."""

import errno
import os
from operator import index
from typing import TYPE_CHECKING, Final, Protocol, SupportsIndex, TypeAlias, cast

from mmapwrap._core import constants, descriptors
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap.errors import (
    CapacityExceededError,
    InvalidAddressError,
    InvalidAlignmentError,
    InvalidArgumentError,
    InvalidOffsetError,
    NotPageAlignedError,
    hinted,
    in_digits,
    page_size_name,
    system_call_error,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer


class HasFileno(Protocol):
    """An object with a descriptor: a file, a socket, a SharedMemory."""

    def fileno(self) -> int: ...


Descriptor: TypeAlias = int | HasFileno
Path: TypeAlias = descriptors.Path
ReadableBuffer: TypeAlias = "Buffer"
WritableBuffer: TypeAlias = "Buffer"


def as_integer(value: SupportsIndex, name: str) -> int:
    """Return the integer of an int or of an object's `__index__`, which may run a caller's code."""
    if type(value) is int:
        return value
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return index(value)


def as_descriptor(fd: Descriptor, wanted: str = "fd must be") -> int:
    """Return the number of a descriptor that may be open."""
    if type(fd) is int:
        number = fd
    elif (fileno := getattr(fd, "fileno", None)) is None:
        number = _as_number(fd, wanted)
    else:
        number = index(fileno())  # an error of the caller's own method propagates
    if not 0 <= number <= constants.LARGEST_INT:
        raise hinted(system_call_error(errno.EBADF, "mmap"), f"descriptor {in_digits(number)}")
    return number


def _as_number(fd: object, wanted: str) -> int:
    """Return the integer of an object that has no `fileno`."""
    if not hasattr(fd, "__index__"):
        raise TypeError(
            f"{wanted} a descriptor or an object with fileno(), not {type(fd).__name__}"
        )
    return index(cast("SupportsIndex", fd))


def as_path(path: object) -> str | bytes:
    """Return a path, and refuse a descriptor; call `__fspath__`, which may do anything, once."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"path must be a str, bytes or os.PathLike, not {type(path).__name__}")
    return os.fspath(cast("Path", path))


def as_size(size: SupportsIndex, bits: int = 64, least: int = 1, remedy: str = "") -> int:
    """Return a number of bytes that a mapping, or a file with 63 bits, can have.

    Args:
        size: The number.
        bits: The bits that hold every such number.
        least: 1; 0 where there may be none, because the memory can grow.
        remedy: What a size of 0 needs.
    """
    number = size if type(size) is int else as_integer(size, "size")
    if not least <= number < 1 << bits:
        range_of_sizes = f"{least} and 2**{bits} - 1"
        report = f"size {in_digits(number)} is not between {range_of_sizes}"
        raise InvalidArgumentError(report if number else report + remedy)
    return number


def as_capacity(capacity: SupportsIndex) -> int:
    """Return a number of bytes that a region can grow to."""
    number = as_integer(capacity, "capacity")
    if not 0 < number <= constants.LARGEST_FILE_OFFSET:
        raise InvalidArgumentError(f"capacity {in_digits(number)} is not between 1 and 2**63 - 1")
    return number


def as_size_and_capacity(
    size: SupportsIndex, capacity: SupportsIndex | None, bits: int = 64
) -> tuple[int, int]:
    """Return the size of a new region and its capacity, which is 0 if the region gets none.

    Args:
        size: Bytes; 0 only with a capacity.
        capacity: The bytes that the region can grow to; None: it cannot grow.
        bits: As `as_size` takes them.

    Raises:
        CapacityExceededError: The size is larger than the capacity.
    """
    if capacity is None:
        return as_size(size, bits, remedy=": 0 bytes need a capacity to grow into"), 0
    room, length = as_capacity(capacity), as_size(size, bits, least=0)
    if length > room:
        raise CapacityExceededError(0, length, room)
    return length, room


def as_alignment(align: SupportsIndex) -> int:
    """Return a power of two."""
    number = as_integer(align, "align")
    if number <= 0 or number & (number - 1):
        raise InvalidAlignmentError(number)
    if number >= constants.ADDRESS_SPACE:
        raise InvalidArgumentError(f"align {in_digits(number)} goes past 2**64")
    return number


def as_file_offset(offset: SupportsIndex, name: str = "offset") -> int:
    """Return an offset that an off_t holds."""
    number = offset if type(offset) is int else as_integer(offset, name)
    if not 0 <= number <= constants.LARGEST_FILE_OFFSET:
        raise InvalidOffsetError(number)
    return number


def as_address(address: SupportsIndex, size: int) -> int:
    """Return an address that has this many bytes after it."""
    number = as_integer(address, "addr")
    if not 0 < number < constants.ADDRESS_SPACE or number + size > constants.ADDRESS_SPACE:
        raise InvalidAddressError(
            f"{size} bytes at address {number:#x} are not between 1 and 2**64"
        )
    return number


def as_fixed_address(
    address: SupportsIndex, size: int, file_offset: int = 0, page_size: int = constants.PAGE_SIZE
) -> int:
    """Return an address at which a byte of a file can be mapped.

    Args:
        address: The address.
        size: The bytes to map there.
        file_offset: The byte's offset in the file; 0 for anonymous memory.
        page_size: The bytes of a page of the file.
    """
    number = as_address(address, size)
    if (number - file_offset) % page_size:
        rule = (
            f"the address {number:#x} is not {file_offset % page_size} bytes past a multiple of "
            f"the {page_size_name(page_size)} {page_size}, as the file offset {file_offset} is"
        )
        raise NotPageAlignedError(number, page_size, rule=rule if file_offset % page_size else None)
    if number <= file_offset % page_size:
        raise InvalidAddressError(f"the page of address {number:#x} would start at address 0")
    return number


def as_protection(prot: Protection) -> Protection:
    """Return a Protection, and refuse an integer of the same value."""
    if type(prot) is not Protection:
        raise TypeError(f"prot must be a Protection, not {type(prot).__name__}")
    return prot


def as_sharing(sharing: Sharing) -> Sharing:
    """Return a Sharing, and refuse an integer of the same value."""
    if type(sharing) is not Sharing:
        raise TypeError(f"sharing must be a Sharing, not {type(sharing).__name__}")
    return sharing


def as_permissions(mode: SupportsIndex) -> int:
    """Return the permissions of a new file."""
    number = as_integer(mode, "mode")
    if not 0 <= number <= _ALL_PERMISSIONS:
        raise InvalidArgumentError(f"mode {number:#o} is not between 0 and 0o7777")
    return number


_ALL_PERMISSIONS: Final = 0o7777


def as_byte(value: SupportsIndex, name: str = "value") -> int:
    """Return an integer that a byte holds."""
    number = as_integer(value, name)
    if not 0 <= number <= 0xFF:
        raise InvalidArgumentError(f"{in_digits(number)} is not between 0 and 255, as a byte is")
    return number
