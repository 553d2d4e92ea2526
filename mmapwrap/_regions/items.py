"""Numbers in a row, each of which is loaded or stored by exactly one access of its width."""

import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from mmapwrap._core import buffers, calls
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.failures import Refusal
from mmapwrap._regions.scalars import Scalar

if TYPE_CHECKING:
    from mmapwrap._core._mman import CData
    from mmapwrap._core.pages import Pages

N = TypeVar("N", bound=float)


def load_many(pages: "Pages", scalar: Scalar[N], start: int, count: int) -> list[N]:
    """Load numbers, from the first to the last, and return them.

    Args:
        pages: The pages.
        scalar: The type of the numbers.
        start: The first number's first byte in the pages.
        count: The number of numbers.
    """
    size = count * scalar.size
    pages.checked_offset(PROT_READ, start, size)
    content, memory = buffers.new_bytes(size)
    _access(pages, calls.load_many, scalar, start, memory)
    return list(struct.unpack(_format(scalar, count), content))


def store_many(pages: "Pages", scalar: Scalar[N], start: int, packed: bytes) -> None:
    """Store numbers, from the first to the last.

    Args:
        pages: The pages.
        scalar: The type of the numbers.
        start: The first number's first byte in the pages.
        packed: The numbers, as `pack` returns them.
    """
    pages.checked_offset(PROT_WRITE, start, len(packed))
    memory = buffers.bytes_in(packed)
    try:
        _access(pages, calls.store_many, scalar, start, memory)
    finally:
        buffers.release(memory)


def _access(
    pages: "Pages",
    function: Callable[..., int],
    scalar: Scalar[N],
    start: int,
    memory: "CData",
) -> None:
    """Run a C function on as many bytes of the pages as the memory has."""
    size = len(memory)
    result = function(pages.handle, start, size, scalar.volatile_mode, memory)
    if result < 0:
        # The alignment is that of one number.
        is_misaligned = result == -Refusal.MISALIGNED
        raise pages.error(-result, start, scalar.size if is_misaligned else size)


def pack(scalar: Scalar[N], values: Iterable[N]) -> bytes:
    """Return numbers as bytes, in the machine's byte order; C swaps them.

    What the iterable and its values raise propagates.

    Raises:
        InvalidArgumentError: The scalar cannot hold one of the values.
        TypeError: The values are no iterable, or one of them is no number.
    """
    given: object = values
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"values must be an iterable of numbers, not {type(values).__name__}")
    numbers = [scalar.plain(value) for value in values]
    try:
        return struct.pack(_format(scalar, len(numbers)), *numbers)
    except (struct.error, OverflowError):
        for number in numbers:
            scalar.require_holds(number)
        raise  # a signal handler has raised it


def _format(scalar: Scalar[N], count: int) -> str:
    """Return the format of numbers in a row, in the machine's byte order."""
    return f"={count}{scalar.code}"
