"""Wrong uses of outcomes. Type checkers find each line that says `wrong`; nothing runs it."""

from mmapwrap import (
    Err,
    InvalidRangeError,
    MemoryMapping,
    MmapError,
    Ok,
    ProtectionError,
    Result,
    attempt,
)


def value_of(result: Result[int]) -> int:
    return result.value  # wrong: union


def error_of(result: Result[int]) -> MmapError:
    return result.error  # wrong: union


def unwrapped_by_nobody(result: Result[int]) -> int:
    return result  # wrong: return


def size_of(result: Result[MemoryMapping]) -> int:
    return result.size  # wrong: unwrap


def text() -> Ok[str]:
    return Ok(1)  # wrong: generic


def only_values(result: Result[int]) -> str:  # wrong: partial
    if isinstance(result, Ok):
        return str(result.value)


def calls() -> None:
    attempt(MemoryMapping.new, "4096")  # wrong: type
    attempt(MemoryMapping.new)  # wrong: missing
    attempt(4)  # wrong: type
    attempt(MemoryMapping.new(4096))  # wrong: type
    Err(ValueError("no error of the library"))  # wrong: bound


def frozen(value: Ok[int]) -> None:
    value.value = 3  # wrong: frozen


def errors(error: MmapError, refused: ProtectionError) -> None:
    _ = error.offset  # wrong: unknown
    _ = refused.errno  # wrong: unknown
    InvalidRangeError(0, 1)  # wrong: missing
