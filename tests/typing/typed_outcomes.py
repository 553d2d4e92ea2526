"""The types of outcomes and errors. Type checkers read it; nothing runs it."""

from pathlib import Path
from typing import assert_never, assert_type

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
    match result:
        case Ok(value):
            assert_type(value, int)
        case Err(ProtectionError() as refused):
            assert_type(refused.required, Protection)
        case Err(error):
            assert_type(error, MmapError)
        case _ as other:
            assert_never(other)
    if isinstance(result, Ok):
        assert_type(result.value, int)
    else:
        assert_type(result, Err[MmapError])
        assert_type(result.error, MmapError)


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
