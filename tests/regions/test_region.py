"""`MappedRegion`: what mappings, arenas and external memory have in common, seen from outside."""

import copy
import ctypes
import os
import pickle
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
import pytest
from kernel_view import (
    PAGE,
    Index,
    KnownFile,
    amount,
    any_vm_flags,
    child,
    dirty,
    known_bytes,
    open_descriptors,
    perms,
    process_unchanged,
    resident_pages,
    usages,
    vm_flags,
)
from marks import LOCKS_DO_NOTHING, kernel_may_take_pages, needs
from protections import READ, RW

from mmapwrap import (
    AddFdMappingUnsupportedError,
    Advice,
    ClosedMappingError,
    DestructiveAdvice,
    Err,
    ExternalMapping,
    InvalidIndexError,
    InvalidRangeError,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    Protection,
    ProtectionError,
    RemoveMappingUnsupportedError,
    Result,
    SyncMode,
    UnsupportedByKernelError,
    UnsupportedOperationError,
    ViewsExportedError,
    attempt,
    be_u16,
    f64,
    le_i32,
    u8,
    u32,
    unsafe,
)

SIZE = 16 * PAGE

T = TypeVar("T")

# Each kind of region, of a whole file.


def mapped(path: Path) -> MappedRegion:
    return MemoryMapping.from_file(path)


def plugged(path: Path) -> MappedRegion:
    arena = MemoryMappingArena.new(path.stat().st_size)
    with path.open("r+b") as file:
        arena.add_fd(0, arena.size, file)
    return arena


def plugged_in_pieces(path: Path) -> MappedRegion:
    arena = MemoryMappingArena.new(path.stat().st_size)
    with path.open("r+b") as file:
        for offset in range(0, arena.size, 4 * PAGE):
            arena.add_fd_mapping(offset, 4 * PAGE, file, offset, RW)
    return arena


def taken_over(path: Path) -> MappedRegion:
    return MemoryMapping.from_file(path).into_arena()


def borrowed(path: Path) -> MappedRegion:
    owner = MemoryMapping.from_file(path)
    return unsafe.from_raw_parts(owner.as_ptr(), owner.size, owner=owner)


KINDS: dict[str, Callable[[Path], MappedRegion]] = {
    "mapping": mapped,
    "arena": plugged,
    "arena in pieces": plugged_in_pieces,
    "arena from a mapping": taken_over,
    "external": borrowed,
}
of_each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())

needs_huge_pages = pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="this kernel has no transparent huge pages",
)


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def region(request: pytest.FixtureRequest, known_file: KnownFile) -> Iterator[MappedRegion]:
    """Each kind of region in turn, of the known file."""
    make: Callable[[Path], MappedRegion] = request.param
    with make(known_file.path) as r:
        assert isinstance(r, MappedRegion)
        yield r


def patched(content: bytes, offset: int, new: bytes) -> bytes:
    """The content with other bytes from the offset on."""
    return content[:offset] + new + content[offset + len(new) :]


# The type


def test_region_is_abstract() -> None:
    with pytest.raises(TypeError):
        MappedRegion()


def test_regions_are_made_by_name_and_final() -> None:
    kinds: list[Any] = [MemoryMapping, MemoryMappingArena, ExternalMapping]
    for kind in kinds:
        assert issubclass(kind, MappedRegion)
        with pytest.raises(TypeError):
            kind()
        with pytest.raises(TypeError, match="final"):
            type("Own", (kind,), {})


def test_region_is_a_handle_and_no_value(region: MappedRegion) -> None:
    assert region != MemoryMapping.new(PAGE)
    assert len({region, region}) == 1
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="copied or pickled"):
            duplicate(region)
    assert weakref.ref(region)() is region
    with pytest.raises(AttributeError):
        region.unknown = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_region_shows_what_it_is(region: MappedRegion) -> None:
    name, where = type(region).__name__, f"{region.as_ptr():#x}"
    assert all(part in repr(region) for part in (name, str(SIZE), where))
    region.close()
    assert "closed" in repr(region)
    assert name in repr(region)


# Place, size and ranges


def test_region_has_a_place_and_a_size(region: MappedRegion, known_file: KnownFile) -> None:
    assert region.size == len(region) == SIZE
    assert ctypes.string_at(region.as_ptr(), SIZE) == known_file.content
    paths = {usage.vma.path for usage in usages(region.as_ptr(), SIZE)}
    assert paths == {str(known_file.path)}


def test_range_end_is_the_sum_inside(region: MappedRegion) -> None:
    assert region.range_end(PAGE, 5) == PAGE + 5
    assert region.range_end(Index(SIZE), Index(0)) == SIZE
    for offset, count in [(0, SIZE + 1), (SIZE, 1), (-1, 2), (1, -1), (2**64, 0), (1, 2**64)]:
        with pytest.raises(InvalidRangeError) as caught:
            region.range_end(offset, count)
        error = caught.value
        assert (error.offset, error.count, error.region_size) == (offset, count, SIZE)


RANGED: dict[str, Callable[[MappedRegion, int, int], object]] = {
    "view": lambda r, o, n: r.view(o, n),
    "is_all_zero": lambda r, o, n: r.is_all_zero(o, n),
    "advise": lambda r, o, n: r.advise(Advice.NORMAL, o, n),
    "advise_destructive": lambda r, o, n: r.advise_destructive(DestructiveAdvice.DONTNEED, o, n),
    "msync": lambda r, o, n: r.msync(o, n),
    "protect": lambda r, o, n: r.protect(READ, o, n),
    "lock": lambda r, o, n: r.lock(o, n),
    "lock_on_fault": lambda r, o, n: r.lock_on_fault(o, n),
    "unlock": lambda r, o, n: r.unlock(o, n),
    "async_prefetch": lambda r, o, n: r.async_prefetch(o, n),
    "populate": lambda r, o, n: r.populate(o, n),
    "drop_page_cache": lambda r, o, n: r.drop_page_cache(o, n),
    "remove_range": lambda r, o, n: r.remove_range(o, n),
    "evict": lambda r, o, n: r.evict(o, n),
    "residency": lambda r, o, n: r.residency(o, n),
    "flush_region": lambda r, o, n: r.flush_region(o, n),
}


@pytest.mark.parametrize("call", RANGED.values(), ids=RANGED.keys())
def test_range_outside_is_refused_and_changes_nothing(
    call: Callable[[MappedRegion, int, int], object], region: MappedRegion, known_file: KnownFile
) -> None:
    bad = [(SIZE, PAGE), (0, SIZE + PAGE), (-PAGE, PAGE), (2**64, PAGE), (PAGE, 2**64 - PAGE)]
    for offset, count in bad:
        with process_unchanged(), pytest.raises(InvalidRangeError) as caught:
            call(region, offset, count)
        error = caught.value
        assert (error.offset, error.count, error.region_size) == (offset, count, SIZE)
    assert perms(region.as_ptr(), SIZE) == ["rw-s"] * 16
    assert region[:] == known_file.content


# Content


def test_view_is_the_memory_itself(region: MappedRegion, known_file: KnownFile) -> None:
    view = region.view(PAGE, 2 * PAGE)
    assert (view.format, view.ndim, view.nbytes, view.readonly) == ("B", 1, 2 * PAGE, False)
    assert view == known_file.content[PAGE : 3 * PAGE]
    view[5:8] = b"new"
    assert region[PAGE + 5 : PAGE + 8] == b"new"
    assert known_file.path.read_bytes() == patched(known_file.content, PAGE + 5, b"new")
    assert region.live_views == 1
    view.release()
    assert region.live_views == 0


def test_numpy_array_is_the_memory_itself(region: MappedRegion, known_file: KnownFile) -> None:
    array = np.asarray(region)
    assert array.dtype == np.dtype(np.uint8)
    assert array.shape == (SIZE,)
    array[7] = 0
    assert region[7] == 0
    assert known_file.path.read_bytes() == patched(known_file.content, 7, b"\0")


def test_index_and_slices_copy_bytes(region: MappedRegion, known_file: KnownFile) -> None:
    content = known_file.content
    assert (region[3], region[-1]) == (content[3], content[-1])
    assert region[PAGE - 2 : PAGE + 2] == content[PAGE - 2 : PAGE + 2]
    assert region[: 5 * PAGE : 1000] == content[: 5 * PAGE : 1000]
    region[-1] = 0
    region[PAGE - 2 : PAGE + 2] = b"abcd"
    expected = patched(patched(content, SIZE - 1, b"\0"), PAGE - 2, b"abcd")
    assert known_file.path.read_bytes() == expected
    with pytest.raises(InvalidIndexError):
        _ = region[SIZE]


def test_slices_copy_what_fits(region: MappedRegion, known_file: KnownFile) -> None:
    buffer = bytearray(10)
    assert region.read_slice(buffer, SIZE - 4) == 4
    assert buffer == known_file.content[-4:] + bytes(6)
    assert region.write_slice(b"0123456789", SIZE - 4) == 4
    assert known_file.path.read_bytes() == patched(known_file.content, SIZE - 4, b"0123")
    with pytest.raises(InvalidRangeError):
        region.read_slice(buffer, SIZE + 1)


def test_numbers_are_those_of_the_file(region: MappedRegion, known_file: KnownFile) -> None:
    content, where = known_file.content, PAGE - 3
    assert region.read_obj(be_u16, where) == int.from_bytes(content[where : where + 2], "big")
    region.write_obj(le_i32, -5, where)
    expected = patched(content, where, struct.pack("<i", -5))
    assert known_file.path.read_bytes() == expected
    assert region.read_obj(le_i32, where) == -5
    region.write_obj_volatile(f64, 1.5, 2 * PAGE)
    expected = patched(expected, 2 * PAGE, struct.pack("=d", 1.5))
    assert known_file.path.read_bytes() == expected
    assert region.read_obj_volatile(f64, 2 * PAGE) == 1.5


def test_slice_is_of_the_file(region: MappedRegion, known_file: KnownFile) -> None:
    part = region.get_slice(PAGE, 8)
    assert (part.address, part.size) == (region.as_ptr() + PAGE, 8)
    part.store(u32, 0, 4)
    assert part.load(u8) == known_file.content[PAGE]
    assert known_file.path.read_bytes() == patched(known_file.content, PAGE + 4, bytes(4))


def test_search_finds_what_the_bytes_have(region: MappedRegion, known_file: KnownFile) -> None:
    needle = known_file.content[5 * PAGE - 3 : 5 * PAGE + 3]
    assert region.find(needle) == known_file.content.find(needle)
    assert region.rfind(needle) == known_file.content.rfind(needle)
    assert region.find(b"\0") == -1
    assert not region.is_all_zero(PAGE, 1)
    region[PAGE : 2 * PAGE] = bytes(PAGE)
    assert region.is_all_zero(PAGE, PAGE)
    assert not region.is_all_zero(PAGE, PAGE + 1)
    assert region.find(b"\0" * 9, PAGE + 3) == PAGE + 3


# What the kernel is told


def test_advise_marks_the_pages_of_the_range(region: MappedRegion) -> None:
    region.advise(Advice.RANDOM, PAGE + 5, PAGE)  # widened: pages 1 and 2
    base = region.as_ptr()
    assert "rr" in vm_flags(base + PAGE, 2 * PAGE)
    assert "rr" not in any_vm_flags(base, PAGE)
    assert "rr" not in any_vm_flags(base + 3 * PAGE, SIZE - 3 * PAGE)
    region.advise(Advice.DODUMP)
    assert "dd" not in any_vm_flags(base, SIZE)
    region.advise(Advice.DONTDUMP)
    assert "dd" in vm_flags(base, SIZE)


def test_advise_destructive_drops_the_pages_and_keeps_the_file(
    region: MappedRegion, known_file: KnownFile
) -> None:
    region.populate()
    assert amount("Rss", region.as_ptr(), SIZE) == SIZE
    region.advise_destructive(DestructiveAdvice.DONTNEED, 0, SIZE)
    assert amount("Rss", region.as_ptr(), SIZE) == 0
    assert region[:] == known_file.content


def test_drop_page_cache_drops_the_pages_and_keeps_the_file(
    region: MappedRegion, known_file: KnownFile
) -> None:
    region.populate()
    region.drop_page_cache(0, SIZE)
    assert amount("Rss", region.as_ptr(), SIZE) == 0
    assert region[:] == known_file.content


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_guard_pages_are_an_error_and_no_signal(make_guarded: Callable[[], str]) -> None:
    assert make_guarded() == "ProtectionError\nProtectionError\n2\n"


@pytest.fixture(params=KINDS)
def make_guarded(request: pytest.FixtureRequest, known_file: KnownFile) -> Callable[[], str]:
    """Install guards in a child, for each kind of region, and take them away."""
    program = """
        import sys
        from pathlib import Path
        from mmapwrap import DestructiveAdvice, MmapError
        from test_region import KINDS, PAGE

        region = KINDS[sys.argv[1]](Path(sys.argv[2]))
        region.advise_destructive(DestructiveAdvice.GUARD_INSTALL, PAGE, PAGE)
        for call in (lambda: region[PAGE], lambda: region.view(0, 2 * PAGE)):
            try:
                call()
            except MmapError as error:
                print(type(error).__name__)
        region.advise_destructive(DestructiveAdvice.GUARD_REMOVE, PAGE, PAGE)
        region[PAGE] = 2
        print(region.view()[PAGE])
    """
    name: str = request.param
    return lambda: child(program, name, known_file.path).succeeded()


def test_msync_writes_back(region: MappedRegion) -> None:
    region[:] = bytes(SIZE)
    assert dirty(region.as_ptr(), SIZE) == SIZE
    region.msync(PAGE, PAGE)
    assert dirty(region.as_ptr(), SIZE) < SIZE
    region.msync(mode=SyncMode.SYNC, invalidate=True)
    assert dirty(region.as_ptr(), SIZE) == 0
    region.msync(mode=SyncMode.ASYNC)


def test_msync_lets_another_process_read_the_change(
    region: MappedRegion, known_file: KnownFile
) -> None:
    region[PAGE : PAGE + 5] = b"hello"
    region.msync(PAGE, 5)
    program = """
        import os, sys
        fd = os.open(sys.argv[1], os.O_RDONLY)
        print(os.pread(fd, 5, int(sys.argv[2])).decode())
    """
    assert child(program, known_file.path, PAGE).succeeded() == "hello\n"


def test_protect_is_the_kernels_and_remembered(region: MappedRegion) -> None:
    region.protect(READ, PAGE, 2 * PAGE)
    assert perms(region.as_ptr(), SIZE) == ["rw-s"] + ["r--s"] * 2 + ["rw-s"] * 13
    for call in (
        lambda: region.write_slice(b"x", PAGE),
        lambda: region.write_obj(u32, 1, PAGE - 2),
        lambda: region.get_slice(PAGE, 1).write_bytes(0),
    ):
        with pytest.raises(ProtectionError):
            call()
    assert region.view(PAGE, 1).readonly
    region[0] = region[3 * PAGE] = 1
    region.protect(RW)
    region[PAGE] = 1
    assert perms(region.as_ptr(), SIZE) == ["rw-s"] * 16


def test_protect_under_a_view_is_refused(region: MappedRegion) -> None:
    view = region.view(PAGE, 1)
    for prot in (READ, Protection.none()):
        with pytest.raises(ViewsExportedError) as caught:
            region.protect(prot)
        assert caught.value.views == 1
    assert perms(region.as_ptr(), SIZE) == ["rw-s"] * 16
    region.protect(READ, 2 * PAGE)
    view[0] = 1
    view.release()
    region.protect(READ)
    assert perms(region.as_ptr(), SIZE) == ["r--s"] * 16


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_locks_keep_the_pages(region: MappedRegion) -> None:
    base = region.as_ptr()
    region.lock(PAGE, 1)
    assert amount("Locked", base, SIZE) == PAGE
    region.unlock(PAGE, 1)
    assert amount("Locked", base, SIZE) == 0
    region.lock_on_fault(2 * PAGE, PAGE)
    assert "lf" in vm_flags(base + 2 * PAGE, PAGE)
    region.lock_all()
    assert amount("Locked", base, SIZE) == SIZE
    assert "lo" in vm_flags(base, SIZE)
    region.unlock_all()
    assert amount("Locked", base, SIZE) == 0
    assert "lo" not in any_vm_flags(base, SIZE)


@of_each_kind
def test_use_dontfork_keeps_the_region_out_of_children(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    with make(known_file.path) as region:
        region.use_dontfork()
        assert "dc" in vm_flags(region.as_ptr(), SIZE)
    program = """
        import os, sys
        from pathlib import Path
        from kernel_view import is_mapped
        from mmapwrap import ClosedMappingError
        from test_region import KINDS

        region = KINDS[sys.argv[1]](Path(sys.argv[2]))
        region.use_dontfork()
        address = region.as_ptr()
        if (pid := os.fork()) == 0:
            assert region.closed and not is_mapped(address)
            try:
                region.view()
            except ClosedMappingError:
                os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), region.closed)
    """
    name = next(name for name, kind in KINDS.items() if kind is make)
    assert child(program, name, known_file.path).succeeded() == "7 False\n"


@needs_huge_pages
def test_use_hugepages_marks_the_region(region: MappedRegion) -> None:
    region.use_hugepages()
    assert "hg" in vm_flags(region.as_ptr(), SIZE)


@kernel_may_take_pages
def test_evict_residency_populate_and_prefetch_agree_with_the_kernel(
    region: MappedRegion, known_file: KnownFile
) -> None:
    base = region.as_ptr()
    region[PAGE] = 0  # not yet on disk
    region.populate()
    assert resident_pages(base, SIZE) == region.residency().pages == b"\1" * 16
    descriptors = open_descriptors()
    region.evict()
    assert open_descriptors() == descriptors
    assert resident_pages(base, SIZE) == region.residency().pages == bytes(16)
    assert known_file.path.read_bytes() == patched(known_file.content, PAGE, b"\0")
    region.evict()
    region.async_prefetch(0, SIZE)
    end = time.monotonic() + 30
    while resident_pages(base, SIZE) != b"\1" * 16:
        assert time.monotonic() < end, "the prefetched pages did not come"
        time.sleep(0.01)
    assert region.residency(5, PAGE).pages == b"\1\1"


def test_populate_reports_progress_and_maps_the_pages(region: MappedRegion) -> None:
    region.drop_page_cache(0, SIZE)
    steps: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        steps.append((done, total))

    region.populate(PAGE, SIZE - PAGE, write=True, progress=report)
    assert steps[-1] == (SIZE - PAGE, SIZE - PAGE)
    assert amount("Rss", region.as_ptr(), SIZE) >= SIZE - PAGE


def test_remove_range_reads_as_zeros_everywhere(
    region: MappedRegion, known_file: KnownFile
) -> None:
    blocks = known_file.path.stat().st_blocks
    region.remove_range(4 * PAGE, 8 * PAGE)
    expected = patched(known_file.content, 4 * PAGE, bytes(8 * PAGE))
    assert region[:] == expected
    assert known_file.path.read_bytes() == expected
    assert known_file.path.stat().st_blocks <= blocks - 8 * PAGE // 512


def test_flush_changes_nothing_that_is_seen(region: MappedRegion, known_file: KnownFile) -> None:
    region[3] = 0
    try:
        region.flush_region(3, 1)
        region.flush_all()
    except UnsupportedByKernelError:
        pytest.skip("the library cannot flush the cache lines of this processor")
    assert region[:] == patched(known_file.content, 3, b"\0")


@of_each_kind
def test_fault_is_an_error_and_no_signal(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from mmapwrap import MappingFaultError
        from test_region import KINDS, PAGE, SIZE

        path = Path(sys.argv[2])
        region = KINDS[sys.argv[1]](path)
        view = region.view()
        os.truncate(path, 4 * PAGE)
        try:
            with region.fault_guard():
                assert view[5 * PAGE] == view[9 * PAGE] == 0
                assert view[0] != 0
        except MappingFaultError as error:
            print(error.offset // PAGE, error.pages)
        for call in (lambda: region[0], lambda: region.read_slice(bytearray(9), 0), region.view):
            try:
                call()
            except MappingFaultError as error:
                print(type(error).__name__)
    """
    name = next(name for name, kind in KINDS.items() if kind is make)
    expected = "5 2\n" + "MappingFaultError\n" * 3
    assert child(program, name, known_file.path).succeeded() == expected


@of_each_kind
def test_copy_of_what_the_file_lost_is_an_error_and_no_signal(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from mmapwrap import MappingFaultError
        from test_region import KINDS, PAGE, SIZE

        path = Path(sys.argv[2])
        region = KINDS[sys.argv[1]](path)
        os.truncate(path, 4 * PAGE)
        try:
            region[:]
        except MappingFaultError as error:
            print(error.offset // PAGE)
    """
    name = next(name for name, kind in KINDS.items() if kind is make)
    assert child(program, name, known_file.path).succeeded() == "4\n"


# The end


def on_a_page(call: Callable[[MappedRegion, int, int], object], region: MappedRegion) -> object:
    """Make a ranged call on the first page."""
    return call(region, 0, PAGE)


EVERY_CALL: dict[str, Callable[[MappedRegion], object]] = {
    **{name: partial(on_a_page, call) for name, call in RANGED.items()},
    "as_ptr": MappedRegion.as_ptr,
    "size": lambda r: r.size,
    "len": len,
    "range_end": lambda r: r.range_end(0, 0),
    "index": lambda r: r[0],
    "slice": lambda r: r[0:1],
    "set index": lambda r: r.__setitem__(0, 1),
    "set slice": lambda r: r.__setitem__(slice(0, 1), b"x"),
    "read_slice": lambda r: r.read_slice(bytearray(1), 0),
    "write_slice": lambda r: r.write_slice(b"x", 0),
    "read_exact": lambda r: r.read_exact(bytearray(1), 0),
    "write_all": lambda r: r.write_all(b"x", 0),
    "read_obj": lambda r: r.read_obj(u8, 0),
    "write_obj": lambda r: r.write_obj(u8, 0, 0),
    "read_obj_volatile": lambda r: r.read_obj_volatile(u8, 0),
    "write_obj_volatile": lambda r: r.write_obj_volatile(u8, 0, 0),
    "get_slice": lambda r: r.get_slice(0, 1),
    "find": lambda r: r.find(b"x"),
    "rfind": lambda r: r.rfind(b"x"),
    "lock_all": lambda r: r.lock_all(),
    "unlock_all": lambda r: r.unlock_all(),
    "use_dontfork": lambda r: r.use_dontfork(),
    "use_hugepages": lambda r: r.use_hugepages(),
    "flush_all": lambda r: r.flush_all(),
    "fault_guard": lambda r: r.fault_guard().__enter__(),
    "with": lambda r: r.__enter__(),
    "numpy": np.asarray,
}


@of_each_kind
@pytest.mark.parametrize("call", EVERY_CALL.values(), ids=EVERY_CALL.keys())
def test_use_after_close_is_an_error(
    call: Callable[[MappedRegion], object],
    make: Callable[[Path], MappedRegion],
    known_file: KnownFile,
) -> None:
    region = make(known_file.path)
    region.close()
    assert region.closed
    with process_unchanged(), pytest.raises(ClosedMappingError):
        call(region)
    assert known_file.path.read_bytes() == known_file.content


def test_close_may_be_repeated(region: MappedRegion) -> None:
    assert not region.closed
    for _ in range(3):
        region.close()
        assert region.closed


@of_each_kind
def test_with_closes_at_the_end_and_after_an_error(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    with make(known_file.path) as region:
        assert region.size == SIZE
    assert region.closed
    again = make(known_file.path)

    def fail() -> None:
        with again:
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert again.closed


@pytest.mark.parametrize("name", KINDS)
def test_pages_go_with_the_last_that_uses_them(name: str, known_file: KnownFile) -> None:
    # In a child: what keeps too little alive would be a crash.
    program = """
        import gc, sys
        from pathlib import Path
        from kernel_view import is_mapped, process_unchanged
        from mmapwrap import u8
        from test_region import KINDS, PAGE, SIZE

        make, path = KINDS[sys.argv[1]], Path(sys.argv[2])
        content = path.read_bytes()
        with process_unchanged():
            region = make(path)
            address = region.as_ptr()
            view, part = region.view(PAGE, 5), region.get_slice(0, 8)
            region.close()
            assert region.live_views == 1
            del region
            gc.collect()
            assert view == content[PAGE : PAGE + 5]
            assert part.load(u8) == content[0]
            view.release()
            gc.collect()
            assert part.load(u8) == content[0]
            del part
            gc.collect()
            assert not is_mapped(address, SIZE)
    """
    child(program, name, known_file.path).succeeded()


# Regions of every kind in one table


@attrs.define
class Window:
    """A device's table of regions, as a virtual machine has one: by the address a guest sees."""

    regions: dict[int, MappedRegion] = attrs.field(factory=dict[int, MappedRegion])

    def at(self, address: int, use: Callable[[MappedRegion, int], T]) -> T:
        """Use the region that holds the address, by the offset in it."""
        for start, region in self.regions.items():
            if start <= address < start + region.size:
                return use(region, address - start)
        raise KeyError(address)


def kind(result: Result[None]) -> type[MmapError] | None:
    """The class of the error, if it is one."""
    return type(result.error) if isinstance(result, Err) else None


def test_one_table_holds_every_kind(known_file: KnownFile) -> None:
    plain = MemoryMapping.from_file(known_file.path)
    arena = MemoryMappingArena.new(SIZE)
    owner = MemoryMapping.new(SIZE)
    owner[:] = known_bytes(SIZE)
    external = unsafe.from_raw_parts(owner.as_ptr(), SIZE)
    table = Window({0x10000000: plain, 0x20000000: arena, 0x30000000: external})
    with known_file.path.open("r+b") as file:
        added = {
            start: table.at(
                start + 4 * PAGE,
                lambda r, o: attempt(r.add_fd_mapping, o, 4 * PAGE, file, PAGE, RW),
            )
            for start in table.regions
        }
    assert [kind(result) for result in added.values()] == [
        AddFdMappingUnsupportedError,
        None,
        AddFdMappingUnsupportedError,
    ]

    contents = {
        0x10000000: known_file.content[5 * PAGE : 6 * PAGE],
        0x20000000: known_file.content[2 * PAGE : 3 * PAGE],
        0x30000000: known_bytes(SIZE)[5 * PAGE : 6 * PAGE],
    }
    for start, content in contents.items():
        address = start + 5 * PAGE
        assert table.at(address, lambda r, o: bytes(r.view(o, PAGE))) == content
        table.at(address, lambda r, o: r.advise(Advice.RANDOM, o, PAGE))
        base = table.regions[start].as_ptr()
        assert "rr" in vm_flags(base + 5 * PAGE, PAGE)
        assert "rr" not in any_vm_flags(base + 6 * PAGE, PAGE)
        table.at(address, lambda r, o: r.write_slice(b"dirty", o))
        table.at(address, lambda r, o: r.msync(o, PAGE))
    expected = patched(known_file.content, 5 * PAGE, b"dirty")
    assert known_file.path.read_bytes() == patched(expected, 2 * PAGE, b"dirty")

    before = {start: perms(region.as_ptr(), SIZE) for start, region in table.regions.items()}
    removed = {
        start: table.at(start + 5 * PAGE, lambda r, o: attempt(r.remove_mapping, o, PAGE))
        for start in table.regions
    }
    assert [kind(result) for result in removed.values()] == [
        RemoveMappingUnsupportedError,
        None,
        RemoveMappingUnsupportedError,
    ]
    assert perms(plain.as_ptr(), SIZE) == before[0x10000000]
    assert perms(external.as_ptr(), SIZE) == before[0x30000000]
    assert perms(arena.as_ptr() + 4 * PAGE, 4 * PAGE) == ["rw-s", "---p", "rw-s", "rw-s"]
    for region in table.regions.values():
        region.close()
    assert owner[5 * PAGE : 5 * PAGE + 5] == b"dirty"


@pytest.mark.parametrize("make", [mapped, borrowed], ids=["mapping", "external"])
def test_mappings_of_fixed_content_refuse_others(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    fd = os.open(known_file.path, os.O_RDWR)
    with make(known_file.path) as region:
        before = usages(region.as_ptr(), SIZE)
        with process_unchanged(), pytest.raises(AddFdMappingUnsupportedError) as add:
            region.add_fd_mapping(0, PAGE, fd, PAGE, RW)
        with process_unchanged(), pytest.raises(RemoveMappingUnsupportedError) as remove:
            region.remove_mapping(0, PAGE)
        for caught in (add.value, remove.value):
            assert isinstance(caught, MmapError)
            assert isinstance(caught, NotImplementedError)
        assert usages(region.as_ptr(), SIZE) == before
        assert region[:] == known_file.content
    os.close(fd)


@kernel_may_take_pages
def test_evict_reaches_every_file_of_an_arena(disk_path: Path) -> None:
    # The page cache keeps pages in folios of up to 2 MiB, which leave it whole.
    part = 2 << 20
    arena = MemoryMappingArena.new(2 * part)
    for place, name in enumerate(("one", "two")):
        path = disk_path / name
        path.write_bytes(known_bytes(2 * part))
        with path.open("r+b") as file:
            arena.add_fd_offset(place * part, part, file, (1 - place) * part)
    with arena:
        arena[0] = arena[-1] = 0
        arena.populate()
        assert all(resident_pages(arena.as_ptr(), arena.size))
        arena.evict()
        assert not any(resident_pages(arena.as_ptr(), arena.size))
        assert arena[0] == arena[-1] == 0
        arena.add_anon(part, PAGE)
        arena.remove(part + 2 * PAGE, PAGE)
        bad = [(part, PAGE), (0, part + PAGE), (part + 2 * PAGE, PAGE), (part + PAGE, None)]
        for offset, count in bad:
            with process_unchanged(), pytest.raises(UnsupportedOperationError):
                arena.evict(offset, count)
        arena.evict(part + PAGE, PAGE)


@of_each_kind
def test_region_of_a_guarded_fault_stays_closed_to_all_but_close(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    region = make(known_file.path)
    view = region.view()
    os.truncate(known_file.path, 0)
    with pytest.raises(MappingFaultError), region.fault_guard():
        assert view[0] == 0
    os.truncate(known_file.path, len(known_file.content))
    with pytest.raises(MappingFaultError):
        region.read_slice(bytearray(1), 0)
    with pytest.raises(MappingFaultError):
        region.write_slice(b"x", 8 * PAGE)
    region.close()
    assert region.closed


@of_each_kind
def test_region_whose_copies_failed_has_what_the_file_has(
    make: Callable[[Path], MappedRegion], known_file: KnownFile
) -> None:
    with make(known_file.path) as region:
        os.truncate(known_file.path, 4 * PAGE)
        calls: list[Callable[[], int]] = [
            lambda: region[5 * PAGE],
            lambda: region.read_slice(bytearray(5 * PAGE), 0),
            lambda: region.write_slice(b"x", 8 * PAGE),
        ]
        for call in calls:
            with pytest.raises(MappingFaultError):
                call()
            assert region[: 4 * PAGE] == known_file.content[: 4 * PAGE]
        os.truncate(known_file.path, len(known_file.content))
        assert region.write_slice(b"x", 8 * PAGE) == 1
        assert region[4 * PAGE : 8 * PAGE + 2] == bytes(4 * PAGE) + b"x\0"
