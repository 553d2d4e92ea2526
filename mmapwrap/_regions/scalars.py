"""Scalars: numbers in memory, by their width, their sign and their byte order."""

import sys
from collections.abc import Callable
from math import isfinite
from typing import (
    TYPE_CHECKING,
    Final,
    Generic,
    Literal,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    final,
)

from mmapwrap._core import buffers, calls, constants, failures
from mmapwrap._core.arguments import as_integer
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap.errors import InvalidArgumentError, in_digits, shown

if TYPE_CHECKING:
    from mmapwrap._core.pages import Pages

N = TypeVar("N", bound=float)
ByteOrder: TypeAlias = Literal["little", "big"]


@final
class Scalar(Generic[N]):
    """A type of numbers of 1, 2, 4 or 8 bytes: `u8`, `le_u32`, `be_f64` and so on.

    `u` is unsigned, `i` signed and `f` floating point, before the width in bits. `le_` is little
    endian, `be_` big endian; without them the byte order is the machine's.

    Attributes:
        name: Its name in the package.
        size: The width in bytes.

    Example:
        >>> from mmapwrap import MemoryMapping, be_u32, le_u32
        >>> be_u32, be_u32.size
        (mmapwrap.be_u32, 4)
        >>> mapping = MemoryMapping.anonymous(8)
        >>> mapping.write_obj(be_u32, 1, 0)
        >>> mapping.read_obj(le_u32, 0)
        16777216
    """

    __slots__ = (
        "_as_value",
        "_decode",
        "_failed",
        "_kind",
        "_load",
        "_store",
        "code",
        "mode",
        "name",
        "size",
        "volatile_mode",
    )

    def __init__(
        self,
        name: str,
        mode: int,
        code: str,
        as_value: Callable[[N], N],
        load: Callable[..., N],
        store: Callable[..., int],
        failed: N,
        decode: Callable[[bytes], N],
    ) -> None:
        self.name: Final = name
        self.size: Final = mode & 0xF
        self.mode: Final = mode
        self.code: Final = code  # the number's format in `struct`, without a byte order
        self.volatile_mode: Final = mode | constants.ScalarMode.VOLATILE.value
        self._as_value: Callable[[N], N] = as_value
        self._load: Callable[..., N] = load
        self._store: Final = store
        self._failed: N = failed  # the result of a failed load
        self._kind: type[N] = type(failed)
        self._decode: Callable[[bytes], N] = decode

    def __repr__(self) -> str:
        return f"mmapwrap.{self.name}"

    def load(self, pages: "Pages", offset: SupportsIndex, mode: int) -> N:
        """Read the number, with the errors of the pages.

        Args:
            pages: The pages.
            offset: The number's first byte in them.
            mode: The scalar's `mode` or its `volatile_mode`.
        """
        if pages.access.by_range is not None or type(offset) is not int:
            offset = pages.checked_offset(PROT_READ, offset, self.size)
        try:
            value = self._load(pages.handle, offset, mode)
        except OverflowError:
            failure = -failures.out_of_range(offset)
            raise pages.error(failure, offset, self.size) from None
        if value == self._failed:
            # errno does not tell: a signal handler may have made a system call since the load.
            pages.raise_failure(calls.check_scalar(pages.handle, offset, mode), offset, self.size)
            return self._read(pages, offset)
        return value

    def _read(self, pages: "Pages", offset: int) -> N:
        """Read a number that has the value of a failed load, although the load has not failed."""
        content, memory = buffers.new_bytes(self.size)
        pages.run_on_range(calls.read_new, offset, self.size, memory, PROT_READ)
        return self._decode(content)

    def plain(self, value: N) -> N:
        """Return the value as an int or a float of Python's own.

        An exception of the value's own code (`__index__`, `__float__`) propagates.
        """
        return value if type(value) is self._kind else self._as_value(value)

    def require_holds(self, value: N) -> None:
        """Require that the scalar can hold a plain number.

        Raises:
            InvalidArgumentError: The number is past the scalar's smallest or largest.
        """
        self._as_value(value)
        if self.code == "f" and isfinite(value) and abs(value) >= _PAST_NARROW_FLOATS:
            raise self._too_large(value)

    def _too_large(self, value: N) -> InvalidArgumentError:
        """Return the error of a finite number that would be an infinite one."""
        return InvalidArgumentError(f"{value} is too large for {self.name}")

    def store(self, pages: "Pages", value: N, offset: SupportsIndex, mode: int) -> None:
        """Write a plain number, with the errors of the pages.

        Args:
            pages: The pages.
            value: The number, as `plain` returns it.
            offset: The number's first byte in them.
            mode: The scalar's `mode` or its `volatile_mode`.
        """
        if pages.access.by_range is not None or type(offset) is not int:
            offset = pages.checked_offset(PROT_WRITE, offset, self.size)
        try:
            result = self._store(pages.handle, offset, mode, value)
        except OverflowError:
            self._as_value(value)  # raises if the value is the number that C cannot hold
            result = failures.out_of_range(offset)
        if result < 0:
            if result == -failures.Refusal.NO_SUCH_VALUE:
                self._as_value(value)
                raise self._too_large(value)
            raise pages.error(-result, offset, self.size)


AnyScalar: TypeAlias = Scalar[int] | Scalar[float]
"""A scalar of which a type checker knows no more, such as one of several in a loop."""


def not_a_scalar(scalar: object) -> TypeError:
    """Return the error of an argument that is no Scalar, such as a name or a type of NumPy."""
    return TypeError(f"scalar must be one such as mmapwrap.u32, not {shown(scalar)}")


def _mode(size: int, order: ByteOrder) -> int:
    """Return the bits that C takes: the width, and whether to swap the bytes."""
    return size | (constants.ScalarMode.SWAPPED.value if size > 1 and order != sys.byteorder else 0)


def _integer(
    name: str, size: int, order: ByteOrder = sys.byteorder, *, signed: bool
) -> Scalar[int]:
    """Return the scalar of integers of this width."""
    bits = 8 * size
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def as_value(value: int) -> int:
        number = as_integer(value, "value")
        if not low <= number <= high:
            raise InvalidArgumentError(
                f"{in_digits(number)} is not between {low} and {high}, as {name} is"
            )
        return number

    def decode(content: bytes) -> int:
        return int.from_bytes(content, order, signed=signed)

    if signed:
        load, store = calls.load_signed, calls.store_signed
        failed = calls.FAILED_SIGNED
    else:
        load, store = calls.load_unsigned, calls.store_unsigned
        failed = calls.FAILED_UNSIGNED
    code = {1: "b", 2: "h", 4: "i", 8: "q"}[size]
    code = code if signed else code.upper()
    return Scalar(name, _mode(size, order), code, as_value, load, store, failed, decode)


def _is_past_floats(value: object) -> bool:
    """Return whether an integer or a fraction is one that rounds to no float."""
    numerator = getattr(value, "numerator", None)
    if not isinstance(numerator, int):
        return False
    denominator: int = getattr(value, "denominator", 1)
    return abs(numerator) >= _PAST_FLOATS * denominator


_PAST_FLOATS: Final = 2**1024 - 2**970
"""Halfway between the largest float and 2**1024; this number and larger ones round to no float."""
_PAST_NARROW_FLOATS: Final = 2.0**128 - 2.0**103
"""The same of floats of 4 bytes, and 2**128."""


def _float(name: str, size: int, order: ByteOrder = sys.byteorder) -> Scalar[float]:
    """Return the scalar of floats of this width."""

    def as_value(value: SupportsFloat) -> float:
        if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
            raise TypeError(f"value must be a number, as {name} is, not {type(value).__name__}")
        if _is_past_floats(value):
            number = in_digits(value) if isinstance(value, int) else f"the {type(value).__name__}"
            raise InvalidArgumentError(f"{number} is too large for {name}")
        if getattr(value, "is_snan", bool)():
            raise InvalidArgumentError(
                f"{value} is a signaling NaN, which cannot be converted to {name}"
            )
        return float(value)

    code: Literal["f", "d"] = "f" if size == 4 else "d"

    def decode(content: bytes) -> float:
        own = content if order == sys.byteorder else content[::-1]
        return memoryview(own).cast(code)[0]

    return Scalar(
        name,
        _mode(size, order),
        code,
        as_value,
        calls.load_float,
        calls.store_float,
        calls.FAILED_FLOAT,
        decode,
    )


u8: Final = _integer("u8", 1, signed=False)
i8: Final = _integer("i8", 1, signed=True)
u16: Final = _integer("u16", 2, signed=False)
i16: Final = _integer("i16", 2, signed=True)
u32: Final = _integer("u32", 4, signed=False)
i32: Final = _integer("i32", 4, signed=True)
u64: Final = _integer("u64", 8, signed=False)
i64: Final = _integer("i64", 8, signed=True)
usize: Final = _integer("usize", constants.POINTER_SIZE, signed=False)
isize: Final = _integer("isize", constants.POINTER_SIZE, signed=True)
f32: Final = _float("f32", 4)
f64: Final = _float("f64", 8)

le_u16: Final = _integer("le_u16", 2, "little", signed=False)
le_i16: Final = _integer("le_i16", 2, "little", signed=True)
le_u32: Final = _integer("le_u32", 4, "little", signed=False)
le_i32: Final = _integer("le_i32", 4, "little", signed=True)
le_u64: Final = _integer("le_u64", 8, "little", signed=False)
le_i64: Final = _integer("le_i64", 8, "little", signed=True)
le_f32: Final = _float("le_f32", 4, "little")
le_f64: Final = _float("le_f64", 8, "little")

be_u16: Final = _integer("be_u16", 2, "big", signed=False)
be_i16: Final = _integer("be_i16", 2, "big", signed=True)
be_u32: Final = _integer("be_u32", 4, "big", signed=False)
be_i32: Final = _integer("be_i32", 4, "big", signed=True)
be_u64: Final = _integer("be_u64", 8, "big", signed=False)
be_i64: Final = _integer("be_i64", 8, "big", signed=True)
be_f32: Final = _float("be_f32", 4, "big")
be_f64: Final = _float("be_f64", 8, "big")
