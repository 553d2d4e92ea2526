"""The one translator of failures: from the negative result of a C function to a named error.

A C function returns its result, or a negative number: a refusal of the library, a failed system
call with its errno, or a page that could not be read in. `csrc/declarations.h` explains the bits.
"""

import enum
import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from mmapwrap._core._mman import lib
from mmapwrap._core.constants import ADDRESS_SPACE
from mmapwrap.errors import SystemCallError, hinted, system_call_error

if TYPE_CHECKING:
    from collections.abc import Callable


class Refusal(enum.IntEnum):
    """The reasons why a C function refuses without asking the kernel: `enum mmw_refusal`."""

    CLOSED = lib.MMW_CLOSED
    FAULTED = lib.MMW_FAULTED
    OUT_OF_RANGE = lib.MMW_OUT_OF_RANGE
    START_NOT_ON_PAGE = lib.MMW_START_NOT_ON_PAGE
    END_NOT_ON_PAGE = lib.MMW_END_NOT_ON_PAGE
    NOT_READABLE = lib.MMW_NOT_READABLE
    NOT_WRITABLE = lib.MMW_NOT_WRITABLE
    SIZE_OVERFLOW = lib.MMW_SIZE_OVERFLOW
    MISALIGNED = lib.MMW_MISALIGNED
    NO_SUCH_VALUE = lib.MMW_NO_SUCH_VALUE
    NO_LINE_FLUSH = lib.MMW_NO_LINE_FLUSH
    NO_SIZE = lib.MMW_NO_SIZE
    PAST_END = lib.MMW_PAST_END
    NOT_GROWABLE = lib.MMW_NOT_GROWABLE
    MOVED = lib.MMW_MOVED
    PAST_CAPACITY = lib.MMW_PAST_CAPACITY
    CONTENT_LOST = lib.MMW_CONTENT_LOST
    UNRECOVERABLE = lib.MMW_UNRECOVERABLE


_CALL: Final = "MMW_CALL_"
_CALL_NAMES: Final[dict[int, str]] = {
    getattr(lib, name): name.removeprefix(_CALL).lower()
    for name in dir(lib)
    if name.startswith(_CALL)
}
"""The system calls by their numbers in `enum mmw_call`."""

_FAULT_FLAG: Final = 1 << 62
_PARTNER_FLAG: Final = 1 << 61


class Fault(NamedTuple):
    """A page that could not be read in or written to, as a C function reports it."""

    offset: int
    """The offset of its first byte in its region."""
    is_of_partner: bool
    """Whether the page is in the second of the two regions of a copy."""


def fault_in(failure: int) -> Fault | None:
    """Return the page that a C function failed at, None where it failed for another reason."""
    if not failure & _FAULT_FLAG:
        return None
    offset = failure & ~(_FAULT_FLAG | _PARTNER_FLAG)
    return Fault(offset, is_of_partner=bool(failure & _PARTNER_FLAG))


def call_failure(failure: int) -> SystemCallError | None:
    """Return the error of a failed system call, None where the library refused."""
    call = failure >> 12
    return system_call_error(errno_of(failure), _CALL_NAMES[call]) if call else None


def errno_of(failure: int) -> int:
    """Return the errno of a failed system call, 0 where the library refused."""
    return failure & 0xFFF if failure >> 12 else 0


def raise_if_failed(result: int, given: str | None = None) -> int:
    """Return a result that is no failed system call.

    Args:
        result: What a C function returned.
        given: What the call was given, such as "4096 bytes": the error's hint.

    Raises:
        SystemCallError: The system call failed; the error is of its errno's class.
    """
    if result < 0 and (error := call_failure(-result)):
        try:
            raise hinted(error, given)
        finally:
            del error  # its traceback holds this frame, and the frame would hold it
    return result


def retry_on_eintr(function: "Callable[..., int]", *arguments: object) -> int:
    """Call a C function until no signal interrupts it; Python runs the handlers in between."""
    while True:
        result = function(*arguments)
        if result >= 0 or errno_of(-result) != errno.EINTR:
            return result


def out_of_range(*numbers: int) -> int:
    """Return the refusal of numbers that C's unsigned integers cannot hold.

    The caller handles an OverflowError of cffi. Where C can hold all the numbers, a signal handler
    has raised that error, and it propagates.
    """
    if all(0 <= number < ADDRESS_SPACE for number in numbers):
        raise  # noqa: PLE0704  # the OverflowError that is being handled
    return -Refusal.OUT_OF_RANGE
