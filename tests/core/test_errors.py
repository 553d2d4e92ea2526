"""The error tree: what each error is, carries, says and survives."""

from __future__ import annotations

import copy
import errno as codes
import inspect
import os
import pickle
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pytest
from attrs import Factory, frozen
from errno_classes import NAMED
from protections import READ

import mmapwrap
from mmapwrap import MemfdSeals, Protection, errors
from mmapwrap.errors import (
    InvalidAddressError,
    InvalidAlignmentError,
    InvalidIndexError,
    InvalidOffsetError,
    InvalidRangeError,
    MappingFaultError,
    MmapError,
    OutOfMemoryError,
    PastEndOfFileError,
    ProtectionError,
    SystemCallError,
    UnsupportedOperationError,
    VolatileMemoryError,
    system_call_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

READ_WRITE = Protection.read_write()
PAGE = os.sysconf("SC_PAGESIZE")


@frozen
class Case:
    """One class of the tree as the contract has it."""

    kind: type[MmapError]
    builtin: type[Exception]
    attributes: dict[str, object]
    text: str
    match_args: tuple[str, ...] = Factory(lambda case: tuple(case.attributes), takes_self=True)

    def make(self) -> MmapError:
        return self.kind(*self.attributes.values())


# Every class but those of NAMED.
VALUE_CASES = [
    Case(InvalidAddressError, ValueError, {}, "the address or range cannot be right"),
    Case(
        InvalidRangeError,
        ValueError,
        {"offset": 4000, "count": 100, "region_size": 4096},
        "the range of 100 bytes at offset 4000 ends at 4100, but the region has 4096 bytes",
    ),
    Case(
        InvalidIndexError,
        IndexError,
        {"offset": -4097, "count": 1, "region_size": 4096},
        "the index -4097 is outside a region of 4096 bytes",
    ),
    Case(
        errors.CapacityExceededError,
        ValueError,
        {"offset": 0, "count": 4097, "region_size": 4096},
        "the size of 4097 bytes is past the capacity of 4096 bytes",
    ),
    Case(
        errors.AlreadyExistsError,
        FileExistsError,
        {"errno": codes.EEXIST, "syscall": "open"},
        f"[Errno {codes.EEXIST}] open: {os.strerror(codes.EEXIST)}",
    ),
    Case(
        InvalidAlignmentError,
        ValueError,
        {"align": 4097},
        "the alignment 4097 is not a power of two",
    ),
    Case(
        errors.InvalidArgumentError,
        ValueError,
        {"message": "the size is zero"},
        "the size is zero",
    ),
    Case(
        InvalidOffsetError,
        ValueError,
        {"offset": 2**63},
        "the file offset 9223372036854775808 is past 2**63 - 1, the last that a file can have",
    ),
    Case(
        errors.NotPageAlignedError,
        ValueError,
        {"value": 4095, "page_size": 4096},
        "4095 is not a multiple of the page size 4096",
    ),
    Case(
        PastEndOfFileError,
        ValueError,
        {"offset": 8, "count": 1, "file_size": 5},
        "the range of 1 byte at offset 8 ends at 9, but the file has 5 bytes",
    ),
    Case(errors.ClosedMappingError, ValueError, {}, "the region or shared memory is closed"),
    Case(
        ProtectionError,
        TypeError,
        {"required": READ_WRITE, "actual": READ},
        "read/write access is needed, but the range allows read access",
    ),
    Case(
        errors.MissingSealsError,
        ValueError,
        {"required": MemfdSeals.SHRINK | MemfdSeals.GROW, "actual": MemfdSeals.GROW},
        "the memory lacks seals that are required: SHRINK",
    ),
    Case(
        errors.ViewsExportedError, BufferError, {"views": 2}, "2 live views must be released first"
    ),
    Case(
        UnsupportedOperationError,
        NotImplementedError,
        {"operation": "msync"},
        "msync is not supported by this kind of region",
    ),
    Case(
        errors.AddFdMappingUnsupportedError,
        NotImplementedError,
        {},
        "add_fd_mapping is not supported by this kind of region",
        ("operation",),
    ),
    Case(
        errors.RemoveMappingUnsupportedError,
        NotImplementedError,
        {},
        "remove_mapping is not supported by this kind of region",
        ("operation",),
    ),
    Case(
        errors.UnsupportedByKernelError,
        NotImplementedError,
        {"feature": "MADV_COLLAPSE"},
        "MADV_COLLAPSE is not supported by this kernel or architecture",
    ),
    Case(
        errors.VolatileOutOfBoundsError,
        ValueError,
        {"addr": 0x1010},
        "the range ends at 0x1010, which is past the end of the memory",
    ),
    Case(
        errors.VolatileOverflowError,
        ValueError,
        {"base": 2**64 - 1, "offset": 16},
        "0xffffffffffffffff + 0x10 is past 2**64",
    ),
    Case(
        errors.VolatileMisalignedError,
        ValueError,
        {"addr": 0x1003, "alignment": 4},
        "the address 0x1003 is not a multiple of 4",
    ),
    Case(
        MappingFaultError,
        OSError,
        {"offset": 4096, "pages": 3},
        "[Errno 5] 3 pages at offset 4096 could not be read in: Input/output error",
    ),
    Case(
        errors.ReadToMemoryError,
        OSError,
        {"errno": codes.EISDIR},
        "[Errno 21] reading from a file into memory: Is a directory",
    ),
    Case(
        errors.WriteFromMemoryError,
        OSError,
        {"errno": codes.ENOSPC},
        "[Errno 28] writing from memory to a file: No space left on device",
    ),
    Case(
        SystemCallError,
        OSError,
        {"errno": codes.EINTR, "syscall": "msync"},
        "[Errno 4] msync: Interrupted system call",
    ),
]

ROOTS = {MmapError: Exception, VolatileMemoryError: ValueError}

CASES = VALUE_CASES + [
    Case(
        kind,
        builtin,
        {"errno": code, "syscall": "mmap"},
        f"[Errno {code}] mmap: {os.strerror(code)}",
    )
    for code, (kind, builtin) in NAMED.items()
]

KINDS = {case.kind for case in CASES}
OS_CASES = [case for case in CASES if issubclass(case.kind, OSError)]


def pickled(error: MmapError, *, protocol: int) -> MmapError:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert isinstance(again, MmapError)
    return again


CLONES: dict[str, Callable[[MmapError], MmapError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle-{protocol}": partial(pickled, protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}

every_case = pytest.mark.parametrize("case", CASES, ids=[case.kind.__name__ for case in CASES])
every_os_case = pytest.mark.parametrize(
    "case", OS_CASES, ids=[case.kind.__name__ for case in OS_CASES]
)
every_clone = pytest.mark.parametrize("clone", CLONES.values(), ids=CLONES)


# --- The tree ----------------------------------------------------------------------------------


def test_tree_every_public_class_is_listed_and_has_a_case() -> None:
    classes = {
        kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, BaseException) and not name.startswith("_")
    }
    listed = KINDS | ROOTS.keys()
    assert classes == listed, "each class needs a Case in VALUE_CASES, or an entry in NAMED"
    assert all(getattr(mmapwrap, kind.__name__) is kind for kind in classes)


@pytest.mark.parametrize("kind", [*ROOTS, *(case.kind for case in CASES)])
def test_class_docstring_is_its_own_sentence(kind: type[MmapError]) -> None:
    assert "__doc__" in vars(kind)
    assert kind.__doc__ is not None
    assert kind.__doc__.splitlines()[0].endswith(".")


@every_case
def test_error_raised_is_caught_as_root_and_as_builtin(case: Case) -> None:
    for expected in (MmapError, case.builtin):
        with pytest.raises(expected) as caught:
            raise case.make()
        assert type(caught.value) is case.kind


@pytest.mark.parametrize(("root", "builtin"), ROOTS.items())
def test_root_itself_is_builtin_and_matches_no_position(
    root: type[MmapError], builtin: type[Exception]
) -> None:
    assert issubclass(root, builtin)
    assert root.__match_args__ == ()


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (InvalidRangeError, InvalidAddressError),
        (InvalidIndexError, InvalidRangeError),
        (errors.AddFdMappingUnsupportedError, UnsupportedOperationError),
        (errors.RemoveMappingUnsupportedError, UnsupportedOperationError),
        (errors.VolatileOutOfBoundsError, VolatileMemoryError),
        (errors.VolatileOverflowError, VolatileMemoryError),
        (errors.VolatileMisalignedError, VolatileMemoryError),
        *((kind, SystemCallError) for kind, _ in NAMED.values()),
    ],
)
def test_subclass_raised_is_caught_as_its_parent(
    kind: type[MmapError], parent: type[MmapError]
) -> None:
    assert issubclass(kind, parent)


# --- The numbers -------------------------------------------------------------------------------


@every_case
def test_error_positional_arguments_become_attributes(case: Case) -> None:
    error = case.make()
    assert {name: getattr(error, name) for name in case.attributes} == case.attributes


@every_case
def test_error_keyword_arguments_give_the_same_error(case: Case) -> None:
    by_keyword: Callable[..., MmapError] = case.kind
    error = by_keyword(**case.attributes)
    assert {name: getattr(error, name) for name in case.attributes} == case.attributes
    assert (str(error), error.args) == (str(case.make()), case.make().args)


@every_case
def test_error_match_args_are_its_attributes_in_order(case: Case) -> None:
    assert case.kind.__match_args__ == case.match_args


@every_case
def test_error_without_an_argument_is_type_error(case: Case) -> None:
    if not case.attributes:
        assert str(case.kind()) == case.text
        return
    with pytest.raises(TypeError, match="missing"):
        case.kind(*list(case.attributes.values())[:-1])


@every_case
def test_error_equality_is_identity(case: Case) -> None:
    error = case.make()
    assert error == error  # noqa: PLR0124
    assert error != case.make()
    assert len({error, case.make()}) == 2


@pytest.mark.parametrize(
    ("kind", "operation"),
    [
        (errors.AddFdMappingUnsupportedError, "add_fd_mapping"),
        (errors.RemoveMappingUnsupportedError, "remove_mapping"),
    ],
)
def test_unsupported_mapping_error_made_bare_names_its_operation(
    kind: Callable[[], UnsupportedOperationError], operation: str
) -> None:
    assert kind().operation == operation


@every_os_case
def test_os_error_args_are_errno_and_its_text(case: Case) -> None:
    error = case.make()
    assert isinstance(error, OSError)
    assert error.errno is not None
    assert error.strerror == os.strerror(error.errno)
    assert error.args == (error.errno, error.strerror)
    assert error.filename is None


def test_mapping_fault_error_errno_is_input_output() -> None:
    assert MappingFaultError(0, 1).errno == codes.EIO


# --- What they say -----------------------------------------------------------------------------


@every_case
def test_error_text_says_what_was_wrong(case: Case) -> None:
    assert str(case.make()) == case.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidAddressError("0x1000 + 4096 wraps"), "0x1000 + 4096 wraps"),
        (InvalidRangeError(-1, 10, 4096), "the offset -1 is negative"),
        (InvalidRangeError(0, -10, 4096), "the count -10 is negative"),
        (
            InvalidRangeError(2**64, 0, 1),
            (
                "the range of 0 bytes at offset 18446744073709551616 ends at 18446744073709551616, "
                "but the region has 1 byte"
            ),
        ),
        (InvalidAlignmentError(0), "the alignment 0 is not a power of two"),
        (InvalidAlignmentError(-4096), "the alignment -4096 is not a power of two"),
        (InvalidAlignmentError(8192), "the alignment 8192 cannot be given with a fixed address"),
        (InvalidOffsetError(-1), "the file offset -1 is negative"),
        (
            PastEndOfFileError(0, 0, 0),
            "there is nothing to map at offset 0: the file has 0 bytes",
        ),
        (
            ProtectionError(Protection.read_execute(), Protection.none()),
            "read/execute access is needed, but the range allows no access",
        ),
        (errors.ViewsExportedError(1), "1 live view must be released first"),
        (
            errors.NotPageAlignedError(PAGE, PAGE, 5),
            (
                f"{PAGE} is not on a page: the region starts 5 bytes inside a page, and the page "
                f"size is {PAGE}; the nearest offsets on a page: {PAGE - 5} and {2 * PAGE - 5}"
            ),
        ),
        (
            errors.NotPageAlignedError(1, PAGE, 5),
            (
                "1 is not on a page: the region starts 5 bytes inside a page, and the page size "
                f"is {PAGE}; the nearest offsets on a page: {PAGE - 5}"
            ),
        ),
        (
            errors.NotPageAlignedError(PAGE, 512 * PAGE),
            f"{PAGE} is not a multiple of the huge page size {512 * PAGE}",
        ),
        (
            MappingFaultError(0, 1, "the file has 5 bytes now"),
            (
                "[Errno 5] 1 page at offset 0 could not be read in: Input/output error; "
                "the file has 5 bytes now"
            ),
        ),
        (
            MappingFaultError(0, 1),
            "[Errno 5] 1 page at offset 0 could not be read in: Input/output error",
        ),
    ],
)
def test_error_text_other_cause_says_so(error: MmapError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("filename", ["data.bin", b"data.bin", Path("data.bin")])
def test_system_call_error_with_filename_text_ends_with_it(
    filename: str | bytes | Path,
) -> None:
    error = SystemCallError(codes.ENOMEM, "open", filename)
    assert error.filename == filename
    assert str(error) == f"[Errno 12] open: Cannot allocate memory: {filename!r}"


@every_os_case
def test_os_error_with_a_hint_text_ends_with_it(case: Case) -> None:
    error: Any = case.make()
    assert error.hint is None
    error.hint = "try again later"
    assert str(error) == f"{case.text}; try again later"
    error.filename = "data.bin"
    assert str(error) == f"{case.text}: 'data.bin'; try again later"


# --- Copies ------------------------------------------------------------------------------------


@every_clone
@every_case
def test_error_cloned_keeps_class_numbers_and_notes(
    case: Case, clone: Callable[[MmapError], MmapError]
) -> None:
    error = case.make()
    error.add_note("while mapping the header")
    again = clone(error)
    assert type(again) is case.kind
    assert {name: getattr(again, name) for name in case.attributes} == case.attributes
    assert str(again) == case.text
    assert again.args == error.args
    assert again.__notes__ == ["while mapping the header"]


@every_clone
def test_system_call_error_cloned_keeps_filename(
    clone: Callable[[MmapError], MmapError],
) -> None:
    again = clone(system_call_error(codes.ENOENT, "open", "data.bin"))
    assert isinstance(again, errors.NoSuchFileError)
    assert again.filename == "data.bin"
    assert str(again) == "[Errno 2] open: No such file or directory: 'data.bin'"


@every_clone
@every_os_case
def test_os_error_hint_is_cloned(case: Case, clone: Callable[[MmapError], MmapError]) -> None:
    error: Any = case.make()
    error.hint = "try again later"
    again: Any = clone(error)
    assert again.hint == "try again later"
    assert str(again) == str(error)


@every_clone
def test_not_page_aligned_error_cloned_keeps_lead_in(
    clone: Callable[[MmapError], MmapError],
) -> None:
    error = errors.NotPageAlignedError(PAGE, PAGE, 5)
    again = clone(error)
    assert isinstance(again, errors.NotPageAlignedError)
    assert (again.value, again.page_size, again.lead_in) == (PAGE, PAGE, 5)
    assert str(again) == str(error)


@every_clone
def test_past_end_of_file_error_filename_is_cloned(
    clone: Callable[[MmapError], MmapError],
) -> None:
    error = PastEndOfFileError(8, 1, 5)
    error.filename = "data.bin"
    again = clone(error)
    assert isinstance(again, PastEndOfFileError)
    assert again.filename == "data.bin"
    assert "'data.bin'" in str(again)


@every_clone
def test_os_error_filename_set_later_is_cloned(clone: Callable[[MmapError], MmapError]) -> None:
    error = MappingFaultError(0, 1)
    error.filename = "data.bin"
    again = clone(error)
    assert isinstance(again, MappingFaultError)
    assert again.filename == "data.bin"


@every_clone
def test_invalid_address_error_cloned_keeps_message(
    clone: Callable[[MmapError], MmapError],
) -> None:
    assert str(clone(InvalidAddressError("0x1000 + 4096 wraps"))) == "0x1000 + 4096 wraps"


# --- errno -> class ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", NAMED, ids=codes.errorcode.get)
def test_system_call_error_documented_errno_has_its_class(code: int) -> None:
    kind, builtin = NAMED[code]
    error = system_call_error(code, "mmap", "data.bin")
    assert type(error) is kind
    assert isinstance(error, builtin)
    assert (error.errno, error.syscall, error.filename) == (code, "mmap", "data.bin")


@pytest.mark.parametrize("code", [*(codes.errorcode.keys() - NAMED.keys()), 0, 4095])
def test_system_call_error_other_errno_is_the_plain_class(code: int) -> None:
    error = system_call_error(code, "mmap")
    assert type(error) is SystemCallError
    assert (error.errno, error.syscall, error.filename) == (code, "mmap", None)


def test_system_call_error_made_by_hand_keeps_its_class() -> None:
    assert type(SystemCallError(codes.ENOMEM, "mmap")) is SystemCallError


# --- match and types ---------------------------------------------------------------------------


def describe(error: MmapError) -> str:
    match error:
        case InvalidRangeError(offset, count, region_size):
            assert_type((offset, count, region_size), tuple[int, int, int])
            description = f"range {offset} {count} {region_size}"
        case ProtectionError(required, actual):
            assert_type((required, actual), tuple[Protection, Protection])
            description = f"protection {int(required)} {int(actual)}"
        case UnsupportedOperationError(operation):
            assert_type(operation, str)
            description = f"operation {operation}"
        case MappingFaultError(offset, pages):
            assert_type((offset, pages), tuple[int, int])
            description = f"fault {offset} {pages}"
        case errors.ReadToMemoryError(code):
            assert_type(code, int)
            description = f"read {code}"
        case OutOfMemoryError(_, syscall):
            assert_type(syscall, str)
            description = f"memory {syscall}"
        case SystemCallError(code, syscall):
            assert_type((code, syscall), tuple[int, str])
            description = f"call {code} {syscall}"
        case _:
            description = "other"
    return description


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (InvalidRangeError(1, 2, 3), "range 1 2 3"),
        (ProtectionError(READ_WRITE, READ), "protection 3 1"),
        (errors.AddFdMappingUnsupportedError(), "operation add_fd_mapping"),
        (MappingFaultError(4096, 2), "fault 4096 2"),
        (errors.ReadToMemoryError(codes.EIO), "read 5"),
        (system_call_error(codes.ENOMEM, "mmap"), "memory mmap"),
        (system_call_error(codes.EBUSY, "munmap"), "call 16 munmap"),
        (InvalidAddressError(), "other"),
    ],
)
def test_error_matched_by_position_binds_its_numbers(error: MmapError, description: str) -> None:
    assert describe(error) == description


def test_error_attributes_have_the_declared_types() -> None:
    error = system_call_error(codes.EPERM, "mprotect")
    assert_type(error, SystemCallError)
    assert_type(error.errno, int)
    assert_type(errors.OperationNotPermittedError(codes.EPERM, "mprotect").errno, int)
    assert_type(error.syscall, str)
    assert_type(ProtectionError(READ_WRITE, READ).actual, Protection)
    assert_type(errors.ViewsExportedError(1).views, int)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidAddressError("it wraps"), "InvalidAddressError('it wraps')"),
        (errors.ClosedMappingError(), "ClosedMappingError()"),
        (MappingFaultError(4096, 2), "MappingFaultError(offset=4096, pages=2)"),
        (
            system_call_error(codes.ENOMEM, "mmap"),
            f"OutOfMemoryError(errno={codes.ENOMEM}, syscall='mmap')",
        ),
    ],
)
def test_error_repr_names_its_numbers(error: MmapError, text: str) -> None:
    assert repr(error) == text
