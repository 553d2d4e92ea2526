"""The types of outcomes and errors. Type checkers read it; nothing runs it."""

from pathlib import Path
from typing import assert_type

from mmapwrap import (
    Err,
    InvalidRangeError,
    MappingFaultError,
    MemoryMapping,
    MmapError,
    Ok,
    Protection,
    ProtectionError,
    Result,
    SystemCallError,
    attempt,
)


def outcomes(mapping: MemoryMapping, path: Path) -> None:
    made = attempt(MemoryMapping.from_file, path, prot=Protection.read())
    assert_type(made, Ok[MemoryMapping] | Err[MmapError])
    assert_type(made.unwrap(), MemoryMapping)
    assert_type(made.unwrap_or(None), MemoryMapping | None)
    assert_type(made.is_ok(), bool)
    assert_type(attempt(mapping.view, 0, 4).unwrap(), memoryview)
    assert_type(attempt(mapping.msync), Ok[None] | Err[MmapError])
    result: Result[int] = attempt(len, mapping)
    assert_type(result.map(str), Ok[str] | Err[MmapError])
    if isinstance(result, Ok):
        assert_type(result.value, int)
    else:
        assert_type(result, Err[MmapError])
        assert_type(result.error, MmapError)


def described(result: Result[int]) -> str:
    """Return in each case: there is no other, or type checkers would miss a return."""
    match result:
        case Ok(value):
            return assert_type(str(value), str)
        case Err(ProtectionError(required, actual)):
            assert_type((required, actual), tuple[Protection, Protection])
            return f"{required} but {actual}"
        case Err(InvalidRangeError(offset, count, region_size)):
            return f"{assert_type(offset, int)}, {count} in {assert_type(region_size, int)}"
        case Err(SystemCallError(errno, syscall)):
            return f"{assert_type(syscall, str)}: {assert_type(errno, int)}"
        case Err(error):
            return str(assert_type(error, MmapError))


def errors(mapping: MemoryMapping) -> None:
    try:
        mapping.view(0, 2)
    except InvalidRangeError as error:
        assert_type(error.offset, int)
        assert_type(error.count, int)
    except MappingFaultError as error:
        assert_type(error.offset, int)
        assert_type(error.pages, int)
        assert_type(error.hint, str | None)
    except SystemCallError as error:
        assert_type(error.errno, int)
        assert_type(error.syscall, str)
