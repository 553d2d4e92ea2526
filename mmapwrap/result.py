"""Errors as values: `Ok`, `Err`, and `attempt`, which turns a raised error into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Never, ParamSpec, TypeAlias, TypeVar, final

from attrs import frozen

from mmapwrap.errors import MmapError

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")
_U = TypeVar("_U")
_T_co = TypeVar("_T_co", covariant=True)
# Bounded, because `unwrap` raises the error, and only an error of this library should be kept as a
# value: a KeyboardInterrupt or a bug must reach the caller at once.
_E_co = TypeVar("_E_co", bound=MmapError, covariant=True)


@final
@frozen
class Ok(Generic[_T_co]):
    """The value that a call returned.

    Attributes:
        value: The value.

    Example:
        >>> from mmapwrap import Ok
        >>> match Ok(3):
        ...     case Ok(value):
        ...         print(value)
        3
    """

    value: _T_co

    def is_ok(self) -> bool:
        """Return True: this is a value."""
        return True

    def is_err(self) -> bool:
        """Return False: this is no error."""
        return False

    def unwrap(self) -> _T_co:
        """Return the value.

        Example:
            >>> from mmapwrap import Ok
            >>> Ok(3).unwrap()
            3
        """
        return self.value

    def unwrap_or(self, _default: object, /) -> _T_co:
        """Return the value; the default is for an `Err`.

        Example:
            >>> from mmapwrap import Ok
            >>> Ok(3).unwrap_or(0)
            3
        """
        return self.value

    def map(self, function: Callable[[_T_co], _U], /) -> Ok[_U]:
        """Return `Ok` of the function's result for the value.

        An exception of the function propagates.

        Example:
            >>> from mmapwrap import Ok
            >>> Ok(3).map(str)
            Ok(value='3')
        """
        return Ok(function(self.value))


@final
@frozen
class Err(Generic[_E_co]):
    """The error that a call raised.

    The error keeps its traceback, hence the frames of the call and their objects, such as a view.
    Two are equal only if they hold the very same error.

    Attributes:
        error: The error.

    Example:
        >>> from mmapwrap import Err, MemoryMapping, NoSuchFileError, attempt
        >>> match attempt(MemoryMapping.from_file, "/missing"):
        ...     case Err(NoSuchFileError() as error):
        ...         print(error.filename)
        /missing
    """

    error: _E_co

    def is_ok(self) -> bool:
        """Return False: this is no value."""
        return False

    def is_err(self) -> bool:
        """Return True: this is an error."""
        return True

    def unwrap(self) -> Never:
        """Raise the error.

        Raises:
            MmapError: The error that this holds.

        Example:
            >>> from mmapwrap import MemoryMapping, attempt
            >>> attempt(MemoryMapping.anonymous, 0).unwrap()
            Traceback (most recent call last):
            mmapwrap.errors.InvalidArgumentError: size 0 is not between 1 and 2**64 - 1: ...
        """
        raise self.error

    def unwrap_or(self, default: _U, /) -> _U:
        """Return the default, as there is no value.

        Example:
            >>> from mmapwrap import MemoryMapping, attempt
            >>> attempt(MemoryMapping.anonymous, 0).unwrap_or("none")
            'none'
        """
        return default

    def map(self, _function: Callable[[Never], object], /) -> Err[_E_co]:
        """Return this error unchanged, without a call of the function.

        Example:
            >>> from mmapwrap import MemoryMapping, attempt
            >>> attempt(MemoryMapping.anonymous, 0).map(len).is_err()
            True
        """
        return self


Result: TypeAlias = Ok[_T] | Err[MmapError]


def attempt(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Result[_T]:
    """Call a function and return its outcome as a value.

    Args:
        function: The function to call.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Returns:
        `Ok` of the function's result, or `Err` of the `MmapError` that it raised. Any other
        exception propagates.

    Example:
        >>> from mmapwrap import MemoryMapping, attempt
        >>> attempt(MemoryMapping.anonymous, 4096).map(len)
        Ok(value=4096)
        >>> attempt(MemoryMapping.anonymous, 0).is_err()
        True
    """
    try:
        return Ok(function(*args, **kwargs))
    except MmapError as error:
        return Err(error)
