"""Ok, Err and attempt: outcomes as values."""

from __future__ import annotations

import pickle
import traceback
from typing import Any, assert_type, get_type_hints

import pytest
from attrs.exceptions import FrozenInstanceError

from mmapwrap.errors import (
    InvalidAddressError,
    InvalidRangeError,
    MmapError,
    OutOfMemoryError,
    SystemCallError,
    system_call_error,
)
from mmapwrap.result import Err, Ok, Result, attempt


def quotient(dividend: int, divisor: int, *, limit: int = 100) -> int:
    """Divide, with an error of ours past the limit and Python's own for zero."""
    if dividend > limit:
        raise InvalidRangeError(dividend, divisor, limit)
    return dividend // divisor


def unreachable(_value: object) -> str:
    pytest.fail("called for an Err")


# --- attempt -----------------------------------------------------------------------------------


def test_attempt_function_that_returns_is_ok() -> None:
    result = attempt(quotient, 84, 2)
    assert_type(result, Result[int])
    assert result == Ok(42)


def test_attempt_keyword_arguments_reach_the_function() -> None:
    assert attempt(quotient, 200, divisor=2, limit=300) == Ok(100)


def test_attempt_keyword_named_function_reaches_the_function() -> None:
    def name_of(*, function: str) -> str:
        return function

    assert attempt(name_of, function="mmap") == Ok("mmap")


def test_attempt_function_that_raises_mmap_error_is_err_of_it() -> None:
    error = system_call_error(12, "mmap")

    def fail() -> int:
        raise error

    result = attempt(fail)
    assert isinstance(result, Err)
    assert result.error is error


@pytest.mark.parametrize("kind", [ValueError, OSError, MemoryError, KeyboardInterrupt])
def test_attempt_function_that_raises_anything_else_raises_it(kind: type[BaseException]) -> None:
    def fail() -> int:
        raise kind

    with pytest.raises(kind) as caught:
        attempt(fail)
    assert type(caught.value) is kind


# --- Methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "ok"), [(Ok(None), True), (Err(InvalidAddressError()), False)])
def test_result_is_ok_and_is_err_are_opposites(result: Result[None], ok: bool) -> None:
    assert (result.is_ok(), result.is_err()) == (ok, not ok)


def test_ok_unwrap_returns_value() -> None:
    assert Ok(42).unwrap() == 42


def test_err_unwrap_raises_the_held_error() -> None:
    error = InvalidRangeError(1, 2, 3)
    with pytest.raises(InvalidRangeError) as caught:
        Err(error).unwrap()
    assert caught.value is error


def test_err_unwrap_traceback_reaches_where_the_error_began() -> None:
    with pytest.raises(InvalidRangeError) as caught:
        attempt(quotient, 101, 1).unwrap()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "quotient"


def test_ok_unwrap_or_returns_value() -> None:
    assert Ok(42).unwrap_or(0) == 42


def test_err_unwrap_or_returns_default() -> None:
    assert Err(InvalidAddressError()).unwrap_or(0) == 0


def test_ok_map_applies_the_function_to_the_value() -> None:
    assert Ok(42).map(str) == Ok("42")


def test_ok_map_function_that_raises_is_not_caught() -> None:
    def fail(_value: int) -> int:
        raise InvalidAddressError

    with pytest.raises(InvalidAddressError):
        Ok(42).map(fail)


def test_err_map_returns_itself_without_calling() -> None:
    result = Err(InvalidAddressError())
    assert result.map(unreachable) is result


# --- Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "attribute"), [(Ok(1), "value"), (Err(InvalidAddressError()), "error")]
)
def test_result_attribute_set_is_refused(result: Result[int], attribute: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(result, attribute, None)


def test_ok_equal_values_are_equal_and_hash_alike() -> None:
    assert Ok(1) == Ok(1)
    assert Ok(1) != Ok(2)
    assert len({Ok(1), Ok(1), Ok(2)}) == 2


def test_err_equality_is_that_of_the_held_error() -> None:
    error = InvalidAddressError()
    assert Err(error) == Err(error)
    assert Err(error) != Err(InvalidAddressError())


def test_ok_and_err_of_the_same_content_differ() -> None:
    error = InvalidAddressError()
    ok: object = Ok(error)
    assert ok != Err(error)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Ok(42), "Ok(value=42)"),
        (
            Err(InvalidRangeError(1, 2, 3)),
            "Err(error=InvalidRangeError(offset=1, count=2, region_size=3))",
        ),
    ],
)
def test_result_repr_shows_its_content(result: Result[int], text: str) -> None:
    assert repr(result) == text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_result_pickled_keeps_its_content(protocol: int) -> None:
    def clone(result: Result[int]) -> Any:
        return pickle.loads(pickle.dumps(result, protocol))

    assert clone(Ok(42)) == Ok(42)
    match clone(Err(InvalidRangeError(1, 2, 3))):
        case Err(InvalidRangeError(1, 2, 3)):
            pass
        case other:
            pytest.fail(f"became {other}")


def test_result_alias_subscripted_at_run_time_is_the_union() -> None:
    def outcome() -> Result[int]:
        return Ok(42)

    assert get_type_hints(outcome)["return"] == Ok[int] | Err[MmapError]
    assert outcome().is_ok()


# --- match and types ---------------------------------------------------------------------------


def describe(result: Result[int]) -> str:
    match result:
        case Ok(value):
            assert_type(value, int)
            return f"ok {value}"
        case Err(OutOfMemoryError(_, syscall)):
            assert_type(syscall, str)
            return f"no memory for {syscall}"
        case Err(error):
            assert_type(error, MmapError)
            return f"error {error}"


@pytest.mark.parametrize(
    ("result", "description"),
    [
        (Ok(42), "ok 42"),
        (Err(system_call_error(12, "mmap")), "no memory for mmap"),
        (Err(InvalidRangeError(-1, 2, 3)), "error the offset -1 is negative"),
    ],
)
def test_result_matched_binds_its_content(result: Result[int], description: str) -> None:
    assert describe(result) == description


def narrowed(result: Result[int]) -> int | MmapError:
    if isinstance(result, Ok):
        assert_type(result, Ok[int])
        return result.value
    assert_type(result, Err[MmapError])
    return result.error


def test_result_isinstance_narrows_to_its_class() -> None:
    error = InvalidAddressError()
    assert narrowed(Ok(42)) == 42
    assert narrowed(Err(error)) is error


def test_result_methods_have_the_declared_types() -> None:
    result = attempt(quotient, 84, 2)
    assert_type(result.unwrap(), int)
    assert_type(result.unwrap_or(None), int | None)
    assert_type(result.map(str), Ok[str] | Err[MmapError])
    assert_type(result.map(lambda value: value / 2), Ok[float] | Err[MmapError])


def test_result_narrower_content_fits_a_wider_annotation() -> None:
    wider: Ok[object] = Ok(42)
    named: Err[SystemCallError] = Err(OutOfMemoryError(12, "mmap"))
    result: Result[int] = named
    assert wider.is_ok()
    assert result.is_err()
