"""Errors as values: `Ok`, `Err`, and `attempt`, which turns a raised error into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Never, ParamSpec, TypeAlias, TypeVar

from attrs import frozen

from mmapwrap.errors import MmapError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Err", "Ok", "Result", "attempt"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_U = TypeVar("_U")
_T_co = TypeVar("_T_co", covariant=True)
# Bounded, because `unwrap` raises what it holds, and nothing else than an error of this library
# should be kept as a value: a KeyboardInterrupt or a bug belongs to the caller at once.
_E_co = TypeVar("_E_co", bound=MmapError, covariant=True)


@frozen
class Ok(Generic[_T_co]):
    """What a call returned.

    Attributes:
        value: the value.
    """

    value: _T_co

    def is_ok(self) -> bool:
        """Tell that this is a value: True."""
        return True

    def is_err(self) -> bool:
        """Tell that this is no error: False."""
        return False

    def unwrap(self) -> _T_co:
        """Return the value."""
        return self.value

    def unwrap_or(self, _default: object, /) -> _T_co:
        """Return the value; the default is for an `Err`."""
        return self.value

    def map(self, function: Callable[[_T_co], _U], /) -> Ok[_U]:
        """Return `Ok` of what the function makes of the value; what it raises is not caught."""
        return Ok(function(self.value))


@frozen
class Err(Generic[_E_co]):
    """What a call raised.

    The error keeps its traceback, hence the frames of the call and what they hold, such as a view.
    Two are equal only where they hold the very same error.

    Attributes:
        error: the error.
    """

    error: _E_co

    def is_ok(self) -> bool:
        """Tell that this is no value: False."""
        return False

    def is_err(self) -> bool:
        """Tell that this is an error: True."""
        return True

    def unwrap(self) -> Never:
        """Raise the error.

        Raises:
            MmapError: the error that this holds.
        """
        raise self.error

    def unwrap_or(self, default: _U, /) -> _U:
        """Return the default, as there is no value."""
        return default

    def map(self, _function: Callable[[Never], object], /) -> Err[_E_co]:
        """Return this error unchanged; the function is not called."""
        return self


Result: TypeAlias = Ok[_T] | Err[MmapError]


def attempt(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Result[_T]:
    """Call a function and return its outcome as a value.

    Args:
        function: what to call.
        *args: passed on to it.
        **kwargs: passed on to it.

    Returns:
        `Ok` of what it returned, or `Err` of the `MmapError` that it raised. Any other exception
        passes through.
    """
    try:
        return Ok(function(*args, **kwargs))
    except MmapError as error:
        return Err(error)
