"""What callers may pass: each check is named by what it makes of the argument."""

import errno
import os
from operator import index
from typing import TYPE_CHECKING, Protocol, SupportsIndex, TypeAlias, cast

from mmapwrap import _syscalls
from mmapwrap._protection import Protection, Sharing
from mmapwrap.errors import (
    InvalidAddressError,
    InvalidAlignmentError,
    InvalidArgumentError,
    InvalidOffsetError,
    NotPageAlignedError,
    in_digits,
    system_call_error,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer


class HasFileno(Protocol):
    """Anything with a descriptor: a file, a socket, a SharedMemory."""

    def fileno(self) -> int: ...


Descriptor: TypeAlias = int | HasFileno
Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
ReadableBuffer: TypeAlias = "Buffer"
WritableBuffer: TypeAlias = "Buffer"


def as_descriptor(fd: Descriptor) -> int:
    """The number of a descriptor that may be open."""
    if type(fd) is int:
        number = fd
    elif (fileno := getattr(fd, "fileno", None)) is None:
        number = _as_number(fd)
    else:
        try:
            number = index(fileno())
        except (ValueError, OSError) as error:  # a closed file, or one without a descriptor
            if _syscalls.is_of_a_handler(error):
                raise
            failure = getattr(error, "errno", None) or errno.EBADF
            raise system_call_error(failure, "fileno") from error
    if not 0 <= number <= _syscalls.LARGEST_DESCRIPTOR:
        raise system_call_error(errno.EBADF, "mmap")
    return number


def _as_number(fd: object) -> int:
    if not hasattr(fd, "__index__"):
        raise TypeError(f"an int or an object with fileno() is needed, not {type(fd).__name__}")
    return index(cast("SupportsIndex", fd))


def as_size(size: SupportsIndex) -> int:
    """A number of bytes that a mapping can have: at least one."""
    number = size if type(size) is int else index(size)
    if not 0 < number < _syscalls.ADDRESS_SPACE:
        raise InvalidArgumentError(f"size {in_digits(number)} is not between 1 and 2**64 - 1")
    return number


def as_alignment(align: SupportsIndex) -> int:
    """A power of two."""
    number = index(align)
    if number <= 0 or number & (number - 1):
        raise InvalidAlignmentError(number)
    if number >= _syscalls.ADDRESS_SPACE:
        raise InvalidArgumentError(f"align {in_digits(number)} goes past 2**64")
    return number


def as_file_offset(offset: SupportsIndex) -> int:
    """An offset that an off_t holds."""
    number = offset if type(offset) is int else index(offset)
    if not 0 <= number <= _syscalls.LARGEST_FILE_OFFSET:
        raise InvalidOffsetError(number)
    return number


def as_address(address: SupportsIndex, size: int) -> int:
    """The address of as many bytes as there can be from there on."""
    number = index(address)
    if not 0 < number < _syscalls.ADDRESS_SPACE or number + size > _syscalls.ADDRESS_SPACE:
        raise InvalidAddressError(
            f"{size} bytes at address {number:#x} are not between 1 and 2**64"
        )
    return number


def as_fixed_address(address: SupportsIndex, size: int, file_offset: int) -> int:
    """An address at which the byte at this file offset can be mapped."""
    number = as_address(address, size)
    if (number - file_offset) % _syscalls.PAGE_SIZE:
        raise NotPageAlignedError(number, _syscalls.PAGE_SIZE)
    return number


def as_protection(prot: Protection) -> Protection:
    """A Protection, and not the integer that it stands for."""
    if type(prot) is not Protection:
        raise TypeError(f"prot must be a Protection, not {type(prot).__name__}")
    return prot


def as_sharing(sharing: Sharing) -> Sharing:
    """A Sharing, and not the integer that it stands for."""
    if type(sharing) is not Sharing:
        raise TypeError(f"sharing must be a Sharing, not {type(sharing).__name__}")
    return sharing


def as_byte(value: SupportsIndex) -> int:
    """An integer that a byte holds."""
    number = index(value)
    if not 0 <= number <= 0xFF:
        raise InvalidArgumentError(f"{in_digits(number)} is not between 0 and 255, as a byte is")
    return number
