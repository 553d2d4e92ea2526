"""`mmapwrap.unsafe`: what is mapped over something else, and memory that others own."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign_memory import ForeignMemory
from kernel_view import (
    PAGE,
    Index,
    KnownFile,
    free_address,
    is_mapped,
    known_bytes,
    perms,
    process_unchanged,
    vm_flags,
    vmas_in,
)
from protections import NONE, READ, RW

from mmapwrap import (
    AccessDeniedError,
    AddressInUseError,
    BadDescriptorError,
    InvalidAddressError,
    InvalidArgumentError,
    InvalidOffsetError,
    IsDirectoryError,
    MemoryMapping,
    NotPageAlignedError,
    OffsetOverflowError,
    OutOfMemoryError,
    Protection,
    Sharing,
    SystemCallError,
    unsafe,
)

Errors = type[Exception] | tuple[type[Exception], ...]


@pytest.fixture
def foreign() -> Iterator[ForeignMemory]:
    """Eight pages of somebody else's, with known bytes."""
    memory = ForeignMemory(8 * PAGE)
    memory.write(known_bytes(memory.size))
    yield memory
    memory.unmap()


def test_unsafe_functions_say_what_makes_them_safe() -> None:
    names = {
        "new_protection_fixed",
        "from_descriptor_offset_protection_fixed",
        "from_raw_parts",
    }
    assert set(unsafe.__all__) == names
    for name in names:
        assert "Safety:" in str(getattr(unsafe, name).__doc__).replace(" ", "").splitlines(), name


# Over what is there


@pytest.mark.parametrize(
    ("first", "pages"), [(0, 8), (0, 2), (6, 2), (3, 2)], ids=["exact", "left", "right", "middle"]
)
def test_new_protection_fixed_replaces_what_is_there(
    first: int, pages: int, foreign: ForeignMemory
) -> None:
    address, size = foreign.address + first * PAGE, pages * PAGE
    with pytest.raises(AddressInUseError):
        MemoryMapping.new_protection_fixed(address, size, RW)
    mapping = unsafe.new_protection_fixed(address, size, RW)
    assert isinstance(mapping, MemoryMapping)
    assert (mapping.as_ptr(), mapping.size) == (address, size)
    assert (mapping.prot, mapping.sharing, mapping.file_offset) == (RW, Sharing.SHARED, None)
    assert mapping.is_all_zero()
    mapping[:] = b"\xff" * size
    content = known_bytes(8 * PAGE)
    assert (
        foreign.read()
        == content[: first * PAGE] + b"\xff" * size + content[(first + pages) * PAGE :]
    )
    assert {"dd", "nr"} <= vm_flags(address, size)
    mapping.close()
    assert not is_mapped(address, size)
    rest = [*range(first), *range(first + pages, 8)]
    for page in rest:
        assert foreign.read(page * PAGE, PAGE) == content[page * PAGE : (page + 1) * PAGE]


@pytest.mark.parametrize("offset", [0, PAGE, 5, 3 * PAGE + 77])
@pytest.mark.parametrize("size", [1, PAGE, 2 * PAGE + 5])
def test_from_descriptor_fixed_replaces_what_is_there(
    offset: int, size: int, foreign: ForeignMemory, known_fd: int, known_file: KnownFile
) -> None:
    head = offset % PAGE
    address = foreign.address + 2 * PAGE + head
    with pytest.raises(AddressInUseError):
        MemoryMapping.from_descriptor_offset_protection_fixed(address, known_fd, size, offset, RW)
    mapping = unsafe.from_descriptor_offset_protection_fixed(address, known_fd, size, offset, RW)
    assert (mapping.as_ptr(), mapping.size, mapping.file_offset) == (address, size, offset)
    assert mapping[:] == known_file.content[offset : offset + size]
    whole = -(-(head + size) // PAGE) * PAGE
    (vma,) = vmas_in(foreign.address + 2 * PAGE, whole)
    assert (vma.start, vma.end) == (foreign.address + 2 * PAGE, foreign.address + 2 * PAGE + whole)
    assert (vma.path, vma.offset, vma.perms) == (str(known_file.path), offset - head, "rw-s")
    assert {"dd", "nr"} <= vm_flags(address, size)
    mapping[0] = 0
    assert known_file.path.read_bytes()[offset : offset + 1] == b"\0"
    content = known_bytes(8 * PAGE)
    assert foreign.read(0, 2 * PAGE) == content[: 2 * PAGE]
    assert foreign.read(2 * PAGE + whole, PAGE) == content[2 * PAGE + whole :][:PAGE]
    del mapping
    gc.collect()
    assert not is_mapped(foreign.address + 2 * PAGE, whole)


@pytest.mark.parametrize(
    "prot", [NONE, READ, RW, Protection.write(), Protection.read_execute()], ids=str
)
def test_fixed_maps_exactly_the_protection(
    prot: Protection, foreign: ForeignMemory, known_fd: int
) -> None:
    if prot.executable and os.fstatvfs(known_fd).f_flag & os.ST_NOEXEC:
        pytest.skip("the temporary directory is mounted noexec")
    one = unsafe.new_protection_fixed(foreign.address, PAGE, prot)
    other = unsafe.from_descriptor_offset_protection_fixed(
        foreign.address + PAGE, known_fd, PAGE, 0, prot
    )
    assert perms(foreign.address, 2 * PAGE) == [f"{prot}s"] * 2
    assert one.prot == other.prot == prot


def test_fixed_maps_where_nothing_is_too(known_fd: int, known_file: KnownFile) -> None:
    address = free_address(4 * PAGE)
    with process_unchanged():
        with (
            unsafe.new_protection_fixed(Index(address), Index(PAGE), RW) as one,
            unsafe.from_descriptor_offset_protection_fixed(
                Index(address + PAGE), known_fd, Index(PAGE), Index(PAGE), READ
            ) as other,
        ):
            assert one[0] == 0
            assert other[:] == known_file.content[PAGE : 2 * PAGE]
        assert not is_mapped(address, 4 * PAGE)


BAD_ADDRESSES: list[tuple[Any, Any, Errors]] = [
    (0, PAGE, InvalidAddressError),
    (-PAGE, PAGE, InvalidAddressError),
    (2**64, PAGE, InvalidAddressError),
    (2**64 - PAGE, 2 * PAGE, InvalidAddressError),
    ("here", PAGE, TypeError),
    (None, PAGE, TypeError),
    (4096.0, PAGE, TypeError),
]
BAD_SIZES: list[tuple[Any, Errors]] = [
    (0, InvalidArgumentError),
    (-1, InvalidArgumentError),
    (2**64, InvalidArgumentError),
    ("1", TypeError),
    (None, TypeError),
]


def fixed(fd: Any) -> list[Callable[[Any, Any], object]]:
    """Both functions that map at an address, as (address, size)."""
    from_descriptor = unsafe.from_descriptor_offset_protection_fixed
    return [
        lambda address, size: unsafe.new_protection_fixed(address, size, RW),
        lambda address, size: from_descriptor(address, fd, size, 0, RW),
    ]


@pytest.mark.parametrize(("address", "size", "error"), BAD_ADDRESSES)
def test_fixed_address_that_cannot_be_is_refused(
    address: Any, size: Any, error: Errors, known_fd: int
) -> None:
    for call in fixed(known_fd):
        with process_unchanged(), pytest.raises(error):
            call(address, size)


@pytest.mark.parametrize(("size", "error"), BAD_SIZES)
def test_fixed_size_that_cannot_be_is_refused_and_nothing_replaced(
    size: Any, error: Errors, known_fd: int, foreign: ForeignMemory
) -> None:
    for call in fixed(known_fd):
        with process_unchanged(), pytest.raises(error):
            call(foreign.address, size)
    assert foreign.read() == known_bytes(foreign.size)


@pytest.mark.parametrize("into", [1, 5, PAGE - 1])
def test_fixed_address_off_its_page_is_refused_and_nothing_replaced(
    into: int, known_fd: int, foreign: ForeignMemory
) -> None:
    for call in fixed(known_fd):
        with pytest.raises(NotPageAlignedError) as caught:
            call(foreign.address + into, PAGE)
        assert (caught.value.value, caught.value.page_size) == (foreign.address + into, PAGE)
    with pytest.raises(NotPageAlignedError):
        unsafe.from_descriptor_offset_protection_fixed(foreign.address, known_fd, PAGE, into, RW)
    assert foreign.read() == known_bytes(foreign.size)


def test_fixed_address_that_the_kernel_refuses_is_its_error(known_fd: int) -> None:
    for call in fixed(known_fd):
        with process_unchanged(), pytest.raises((OutOfMemoryError, SystemCallError)) as caught:
            call(2**63, PAGE)
        assert isinstance(caught.value, SystemCallError)
        assert caught.value.syscall == "mmap"


def _directory(path: Path) -> int:
    return os.open(path.parent, os.O_RDONLY)


def _read_only(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


def _write_only(path: Path) -> int:
    return os.open(path, os.O_WRONLY)


BAD_FILES: list[tuple[Callable[[Path], Any], Any, Any, Errors]] = [
    (lambda path: -1, 0, RW, BadDescriptorError),
    (lambda path: 2**20, 0, RW, BadDescriptorError),
    (_directory, 0, READ, IsDirectoryError),
    (_read_only, 0, RW, AccessDeniedError),
    (_write_only, 0, RW, AccessDeniedError),
    (_read_only, -PAGE, READ, InvalidOffsetError),
    (_read_only, 2**63, READ, InvalidOffsetError),
    (_read_only, 2**63 - PAGE, READ, OffsetOverflowError),
    (_read_only, "0", READ, TypeError),
    (_read_only, 0, 1, TypeError),
    (lambda path: None, 0, RW, TypeError),
    (lambda path: "0", 0, RW, TypeError),
]


@pytest.mark.parametrize(("open_file", "offset", "prot", "error"), BAD_FILES)
def test_fixed_file_that_cannot_be_mapped_replaces_nothing(
    open_file: Callable[[Path], Any],
    offset: Any,
    prot: Any,
    error: Errors,
    foreign: ForeignMemory,
    known_file: KnownFile,
) -> None:
    fd = open_file(known_file.path)
    before = vmas_in(foreign.address, foreign.size)
    with process_unchanged(), pytest.raises(error):
        unsafe.from_descriptor_offset_protection_fixed(foreign.address, fd, 2 * PAGE, offset, prot)
    assert vmas_in(foreign.address, foreign.size) == before
    assert foreign.read() == known_bytes(foreign.size)
    if isinstance(fd, int) and 0 <= fd < 2**20:
        os.close(fd)


def test_new_protection_fixed_of_another_protection_type_is_refused(
    foreign: ForeignMemory,
) -> None:
    wrong: Any = 3
    with pytest.raises(TypeError):
        unsafe.new_protection_fixed(foreign.address, PAGE, wrong)
    assert foreign.read() == known_bytes(foreign.size)


# Memory that something else owns


@pytest.mark.parametrize(
    ("address", "size", "prot", "error"),
    [
        *((address, size, RW, error) for address, size, error in BAD_ADDRESSES),
        *((PAGE, size, RW, error) for size, error in BAD_SIZES),
        (2**64 - 1, 2, RW, InvalidAddressError),
        (PAGE, PAGE, 3, TypeError),
        (PAGE, PAGE, None, TypeError),
    ],
)
def test_from_raw_parts_of_what_cannot_be_is_refused(
    address: Any, size: Any, prot: Any, error: Errors
) -> None:
    with process_unchanged(), pytest.raises(error):
        unsafe.from_raw_parts(address, size, prot)


def test_from_raw_parts_takes_any_address_and_defaults_to_read_write(
    foreign: ForeignMemory,
) -> None:
    region = unsafe.from_raw_parts(Index(foreign.address + 3), Index(5))
    assert (region.as_ptr(), region.size) == (foreign.address + 3, 5)
    region[:] = b"12345"
    assert foreign.read(2, 7) == known_bytes(3)[-1:] + b"12345" + known_bytes(9)[-1:]
    region.close()


def test_from_raw_parts_touches_nothing_and_may_reach_the_last_byte() -> None:
    with process_unchanged():
        region = unsafe.from_raw_parts(2**64 - PAGE, PAGE, NONE)
        assert (region.as_ptr(), region.size) == (2**64 - PAGE, PAGE)
        assert region.range_end(0, PAGE) == PAGE
        region.close()


def test_from_raw_parts_takes_the_owner_by_name_only(foreign: ForeignMemory) -> None:
    call: Any = unsafe.from_raw_parts
    with pytest.raises(TypeError):
        call(foreign.address, PAGE, RW, foreign)
