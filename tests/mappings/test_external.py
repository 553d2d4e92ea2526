"""`ExternalMapping`: all that a region does, over memory that something else owns."""

import array
import ctypes
import gc
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from foreign_memory import ForeignMemory
from kernel_view import (
    PAGE,
    KnownFile,
    amount,
    any_vm_flags,
    in_process,
    is_mapped,
    known_bytes,
    perms,
    process_unchanged,
    vm_flags,
    vmas_in,
)
from marks import LOCKS_DO_NOTHING
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    Advice,
    ClosedMappingError,
    ExternalMapping,
    InvalidRangeError,
    MemoryMapping,
    NotPageAlignedError,
    Protection,
    ProtectionError,
    UnsupportedOperationError,
    ViewsExportedError,
    VolatileMisalignedError,
    le_u32,
    u8,
    u16,
    u64,
    unsafe,
)


@pytest.fixture
def foreign() -> Iterator[ForeignMemory]:
    """Four pages of somebody else's, with known bytes."""
    memory = ForeignMemory(4 * PAGE)
    memory.write(known_bytes(memory.size))
    yield memory
    memory.unmap()


# Whose memory it is


def _of_ctypes() -> tuple[int, object]:
    buffer = (ctypes.c_ubyte * 1000)()
    return ctypes.addressof(buffer), buffer


def _of_numpy() -> tuple[int, object]:
    values = np.zeros(1000, np.uint8)
    return values.ctypes.data, values


def _of_array() -> tuple[int, object]:
    values = array.array("B", bytes(1000))
    return values.buffer_info()[0], values


def _of_mmap() -> tuple[int, object]:
    mapped = mmap.mmap(-1, 1000)
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped)), mapped


def _of_foreign() -> tuple[int, object]:
    memory = ForeignMemory(PAGE)
    return memory.address, memory


def _of_mapping() -> tuple[int, object]:
    mapping = MemoryMapping.new(1000)
    return mapping.as_ptr(), mapping


OWNERS: dict[str, Callable[[], tuple[int, object]]] = {
    "ctypes": _of_ctypes,
    "numpy": _of_numpy,
    "array": _of_array,
    "mmap": _of_mmap,
    "foreign": _of_foreign,
    "mapping": _of_mapping,
}


@pytest.mark.parametrize("own", OWNERS.values(), ids=OWNERS.keys())
@pytest.mark.parametrize("start", [0, 1, 13])
def test_external_memory_is_the_owners(own: Callable[[], tuple[int, object]], start: int) -> None:
    address, owner = own()
    with unsafe.from_raw_parts(address + start, 900, owner=owner) as region:
        assert isinstance(region, ExternalMapping)
        assert (region.as_ptr(), region.size) == (address + start, 900)
        assert region.is_all_zero()
        region[:] = known_bytes(900)
        assert ctypes.string_at(address + start, 900) == known_bytes(900)
        ctypes.memset(address + start + 7, 0, 2)
        assert region[6:10] == known_bytes(7)[-1:] + b"\0\0" + known_bytes(10)[-1:]
        assert region.find(b"\0\0") == 7
        assert region.rfind(b"\0") == 8
        region.write_obj(le_u32, 0x01020304, 3)
        assert ctypes.string_at(address + start + 3, 4) == b"\4\3\2\1"
        view = region.view(100, 5)
        view[:] = b"views"
        assert ctypes.string_at(address + start + 100, 5) == b"views"
        region.get_slice(200, 4).write_bytes(9)
        assert ctypes.string_at(address + start + 200, 4) == b"\t" * 4


def test_external_memory_ends_where_it_was_said_to(foreign: ForeignMemory) -> None:
    region = unsafe.from_raw_parts(foreign.address + 10, 20)
    before = foreign.read()
    assert region.read_slice(bytearray(100), 15) == 5
    assert region.write_slice(b"\0" * 100, 15) == 5
    assert foreign.read() == before[:25] + bytes(5) + before[30:]
    for call in (
        lambda: region.view(0, 21),
        lambda: region.view(21),
        lambda: region.read_obj(u16, 19),
        lambda: region.msync(20, 1),
    ):
        with pytest.raises(InvalidRangeError):
            call()


def test_external_volatile_access_is_checked_by_the_address(foreign: ForeignMemory) -> None:
    region = unsafe.from_raw_parts(foreign.address + 4, 64)
    region.write_obj_volatile(u64, 5, 4)
    assert foreign.read(8, 8) == (5).to_bytes(8, "little")
    with pytest.raises(VolatileMisalignedError) as caught:
        region.read_obj_volatile(u64, 0)
    assert (caught.value.addr, caught.value.alignment) == (foreign.address + 4, 8)


@pytest.mark.parametrize(
    ("prot", "reads", "writes"),
    [(RW, True, True), (READ, True, False), (WRITE, False, True), (NONE, False, False)],
    ids=str,
)
def test_external_protection_is_what_was_said(
    prot: Protection, reads: bool, writes: bool, foreign: ForeignMemory
) -> None:
    before = foreign.read()
    region = unsafe.from_raw_parts(foreign.address, foreign.size, prot)
    assert perms(foreign.address, foreign.size) == ["rw-s"] * 4  # nothing was changed
    if reads:
        assert region[:] == before
        assert region.view().readonly is not writes
    else:
        for read in (lambda: region[0], region.view, lambda: region.get_slice(0, 1).load(u8)):
            with pytest.raises(ProtectionError):
                read()
    if writes:
        region[0] = 0
        assert foreign.read(0, 1) == b"\0"
    else:
        for write in (
            lambda: region.write_slice(b"x", 0),
            lambda: region.write_obj(u8, 0, 0),
            lambda: region.remove_range(0, PAGE),
        ):
            with pytest.raises(ProtectionError):
                write()
        assert foreign.read() == before


# Who unmaps it


@pytest.mark.parametrize("end", ["close", "with", "drop", "view"])
def test_external_memory_is_never_unmapped(end: str, foreign: ForeignMemory) -> None:
    before = vmas_in(foreign.address, foreign.size)
    region = unsafe.from_raw_parts(foreign.address + 5, PAGE)
    if end == "close":
        region.close()
    elif end == "with":
        with region:
            pass
    elif end == "view":
        view = region.view()
        region.close()
        assert view == known_bytes(PAGE + 5)[5:]
        del view
    del region
    gc.collect()
    assert vmas_in(foreign.address, foreign.size) == before
    assert foreign.read() == known_bytes(foreign.size)


def test_external_closed_is_refused(foreign: ForeignMemory) -> None:
    region = unsafe.from_raw_parts(foreign.address, PAGE)
    region.close()
    assert region.closed
    for call in (region.as_ptr, region.view, lambda: region[0], lambda: region.protect(READ)):
        with pytest.raises(ClosedMappingError):
            call()


def test_external_regions_may_overlap(foreign: ForeignMemory) -> None:
    one = unsafe.from_raw_parts(foreign.address, 2 * PAGE)
    other = unsafe.from_raw_parts(foreign.address + PAGE, 2 * PAGE)
    one[PAGE + 3] = 0
    assert other[3] == 0
    one.close()
    assert other[3] == 0


def test_external_owner_lives_as_long_as_the_region() -> None:
    owner = ForeignMemory(PAGE)
    address, gone = owner.address, weakref.ref(owner)
    region = unsafe.from_raw_parts(address, PAGE, owner=owner)
    del owner
    gc.collect()
    assert gone() is not None
    region[0] = 1
    assert region[0] == 1
    del region
    gc.collect()
    assert gone() is None
    assert not is_mapped(address, PAGE)


USERS: dict[str, Callable[[ExternalMapping], Any]] = {
    "view": lambda region: region.view(5, 10),
    "part of a view": lambda region: region.view()[5:15],
    "array": lambda region: np.frombuffer(region.view(5, 10), np.uint8),
    "slice": lambda region: region.get_slice(5, 10),
    "part of a slice": lambda region: region.get_slice(0, PAGE).sub_slice(5, 10),
}


def use_after_the_region(name: str, end: str) -> None:
    """Look at memory whose region is gone; run in a process that may crash."""
    with process_unchanged():
        owner = ForeignMemory(PAGE)
        owner.write(known_bytes(PAGE))
        address, gone = owner.address, weakref.ref(owner)
        region = unsafe.from_raw_parts(address, PAGE, owner=owner)
        user = USERS[name](region)
        if end == "close":
            region.close()
        del region, owner
        gc.collect()
        assert is_mapped(address, PAGE)
        first = user.load(u8) if "slice" in name else int(user[0])
        assert first == known_bytes(6)[5]
        del user
        gc.collect()
        assert gone() is None
        assert not is_mapped(address, PAGE)


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("end", ["close", "drop"])
def test_external_owner_lives_as_long_as_what_was_made_of_the_region(name: str, end: str) -> None:
    in_process(use_after_the_region, name, end, watched=False).succeeded()


# What the kernel is told


def test_external_protect_changes_the_owners_pages(foreign: ForeignMemory) -> None:
    region = unsafe.from_raw_parts(foreign.address, foreign.size)
    region.protect(READ, PAGE, PAGE)
    assert perms(foreign.address, foreign.size) == ["rw-s", "r--s", "rw-s", "rw-s"]
    with pytest.raises(ProtectionError):
        region[PAGE] = 1
    view = region.view(2 * PAGE, 1)
    with pytest.raises(ViewsExportedError):
        region.protect(NONE)
    view.release()
    region.protect(NONE)
    region.close()
    assert perms(foreign.address, foreign.size) == ["---s"] * 4


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_external_inside_a_page_widens_hints_and_takes_whole_pages(foreign: ForeignMemory) -> None:
    region = unsafe.from_raw_parts(foreign.address + 100, 2 * PAGE)
    region.advise(Advice.RANDOM, 0, 1)
    assert "rr" in vm_flags(foreign.address, PAGE)
    assert "rr" not in any_vm_flags(foreign.address + PAGE, 3 * PAGE)
    residency = region.residency()
    assert (residency.offset, residency.total) == (-100, 3)
    region.lock()
    assert amount("Locked", foreign.address, foreign.size) == 3 * PAGE
    region.unlock_all()
    with pytest.raises(NotPageAlignedError):
        region.protect(READ, 50, PAGE)
    with pytest.raises(NotPageAlignedError):
        region.remove_range(0, PAGE)
    region.protect(READ, 0, PAGE - 100)
    assert perms(foreign.address, foreign.size) == ["r--s", "rw-s", "rw-s", "rw-s"]
    region.protect(READ, PAGE - 100)
    assert perms(foreign.address, foreign.size) == ["r--s", "r--s", "r--s", "rw-s"]


def test_external_destructive_calls_reach_the_pages(foreign: ForeignMemory) -> None:
    region = unsafe.from_raw_parts(foreign.address, foreign.size)
    region.remove_range(PAGE, PAGE)
    expected = known_bytes(4 * PAGE)
    assert foreign.read() == expected[:PAGE] + bytes(PAGE) + expected[2 * PAGE :]
    with pytest.raises(UnsupportedOperationError):
        region.evict()
    assert foreign.read(2 * PAGE) == expected[2 * PAGE :]


def test_external_of_a_file_is_written_back(known_file: KnownFile) -> None:
    fd = os.open(known_file.path, os.O_RDWR)
    memory = ForeignMemory(len(known_file.content), fd)
    os.close(fd)
    region = unsafe.from_raw_parts(memory.address + 3, 100, owner=memory)
    region[:5] = b"hello"
    region.msync()
    expected = known_file.content[:3] + b"hello" + known_file.content[8:]
    assert known_file.path.read_bytes() == expected
    region.close()
