"""Mappings that grow and shrink: their size, their file, and what stays valid meanwhile."""

import errno
import fcntl
import os
import resource
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from files import mounted_image, mounted_tmpfs, opened
from hugetlb import huge_memfd, pool_of
from kernel_view import (
    PAGE,
    KnownFile,
    amount,
    any_vm_flags,
    become_unprivileged,
    child,
    in_process,
    is_mapped,
    known_bytes,
    open_descriptors,
    perms,
    process_unchanged,
    vm_flags,
)
from libc import libc
from limits import Filler, needs_few_mappings
from marks import LOCKS_DO_NOTHING, MEMORY_IS_PAST_THE_LIMIT, PYTHON_HAS_NO_MEMORY, needs
from meanwhile import interrupted_at, pages_of
from protections import NONE, READ, RW

from mmapwrap import (
    AccessDeniedError,
    Advice,
    CapacityExceededError,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidArgumentError,
    InvalidIndexError,
    InvalidRangeError,
    MappingFaultError,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    NoSpaceError,
    OffsetOverflowError,
    OperationNotPermittedError,
    OutOfMemoryError,
    Protection,
    ProtectionError,
    RegionBusyError,
    SharedMemory,
    Sharing,
    SystemCallError,
    UnsupportedOperationError,
    ViewsExportedError,
    u8,
    u32,
    unsafe,
)
from mmapwrap._core import calls
from mmapwrap._core._mman import lib
from mmapwrap._core.access import AccessMap
from mmapwrap._core.constants import PROT_READ
from mmapwrap._core.pages import Pages
from mmapwrap._regions.fault_guard import FaultGuard

ROOM: Final = 1 << 24


@pytest.fixture
def file_path(disk_path: Path) -> Path:
    """A file of four pages and ten bytes, all known."""
    path = disk_path / "file"
    path.write_bytes(known_bytes(4 * PAGE + 10))
    return path


@contextmanager
def growing(path: Path, **arguments: Any) -> Generator[MemoryMapping]:
    with MemoryMapping.from_file(path, capacity=ROOM, **arguments) as m:
        yield m


# Where nothing moves


@pytest.mark.parametrize("kind", ["disk", "memfd", "private memory", "shared memory"])
def test_what_was_made_before_stays_valid(kind: str, file_path: Path) -> None:
    memory = SharedMemory.new("grows", 0)
    size = 4 * PAGE + 10
    make: dict[str, Callable[[], MemoryMapping]] = {
        "disk": lambda: MemoryMapping.from_file(file_path, capacity=ROOM),
        "memfd": lambda: memory.map(capacity=ROOM),
        "private memory": lambda: MemoryMapping.anonymous(
            size, capacity=ROOM, sharing=Sharing.PRIVATE
        ),
        "shared memory": lambda: MemoryMapping.anonymous(size, capacity=ROOM),
    }
    with make[kind]() as m:
        m.resize(size)
        m[:] = known_bytes(size)
        address = m.as_ptr()
        view, array, file = m.view(), m.array(np.uint8), m.open("r+b")
        part, rest = m.get_slice(PAGE, PAGE), memoryview(m)
        for larger in (size + 1, 5 * PAGE, 1 << 20, ROOM):
            m.resize(larger)
            assert m.size == len(m) == larger
        m[ROOM - 3 :] = b"end"
        assert m.as_ptr() == address
        assert bytes(view) == bytes(rest) == array.tobytes() == known_bytes(size)
        array[PAGE] = 0
        assert part.load(u8, 0) == view[PAGE] == 0
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"
        assert len(m.array(np.uint8)) == ROOM
        assert (m.capacity, m.live_views) == (ROOM, 3)
        del view, array, rest
    memory.close()


def test_other_mappings_of_the_file_see_it(file_path: Path) -> None:
    with growing(file_path) as m, growing(file_path, prot=READ) as other:
        view = other.view()
        m.resize(1 << 20)
        m[1 << 19] = 7
        m[0] = 9
        assert (other.size, view[0]) == (4 * PAGE + 10, 9)
        with pytest.raises(InvalidIndexError):
            other[1 << 19]
        assert other.refresh() == other.size == 1 << 20
        assert other[1 << 19] == 7


def test_size_is_that_of_the_file(file_path: Path) -> None:
    with growing(file_path) as m:
        for size in (1 << 20, 100, 5000, 0, 1, ROOM, 2 * PAGE):
            m.resize(size, allocate=size != ROOM)
            assert (m.size, file_path.stat().st_size) == (size, size)
        m.resize(2 * PAGE)
        assert m.is_all_zero()


def test_blocks_are_taken_where_they_are_wanted(file_path: Path) -> None:
    with growing(file_path) as m:
        m.resize(1 << 20, allocate=False)
        few = file_path.stat().st_blocks * 512
        m.resize(2 << 20)
        assert few < 1 << 17
        assert file_path.stat().st_blocks * 512 >= 1 << 20


def test_child_that_shrinks_shared_memory_takes_nothing_from_its_parent() -> None:
    program = """
        import os
        from forks import forked
        from kernel_view import PAGE, known_bytes
        from mmapwrap import MemoryMapping

        m = MemoryMapping.anonymous(2 * PAGE, capacity=1 << 20)
        m[:] = known_bytes(2 * PAGE)
        view = m.view()

        def work():
            view.release()
            m.resize(10)
            os._exit(0)

        assert forked(work) == 0
        assert view == known_bytes(2 * PAGE)
        view.release()
        m.resize(10)
        m.resize(2 * PAGE)
        assert m[:] == known_bytes(2 * PAGE)
    """
    child(program).succeeded()


@pytest.mark.parametrize("size", [0, 1, 4 * PAGE - 1, 4 * PAGE, 4 * PAGE + 3])
def test_memory_that_shrinks_and_grows_again_is_zeros(size: int) -> None:
    with MemoryMapping.anonymous(8 * PAGE + 5, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m[:] = known_bytes(8 * PAGE + 5)
        m.resize(size)
        assert m[:] == known_bytes(size)
        m.resize(16 * PAGE)
        assert m[:size] == known_bytes(size)
        assert m.is_all_zero(size)


def test_memory_that_is_cut_off_is_given_back() -> None:
    with MemoryMapping.anonymous(64 * PAGE, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m[:] = known_bytes(64 * PAGE)
        assert amount("Rss", m.as_ptr(), ROOM) >= 64 * PAGE
        m.resize(PAGE)
        assert amount("Rss", m.as_ptr(), ROOM) <= 4 * PAGE


def test_mapping_keeps_a_descriptor_only_where_it_has_a_capacity(file_path: Path) -> None:
    with process_unchanged():
        before = open_descriptors()
        with MemoryMapping.from_file(file_path):
            assert open_descriptors() == before
        with growing(file_path):
            assert list(open_descriptors().values()).count(str(file_path)) == 1
        with opened(file_path) as fd, MemoryMapping.from_file(fd, capacity=ROOM) as m:
            kept = list(open_descriptors().values()).count(str(file_path))
            m.resize(1 << 20)
            assert kept == 2


def test_descriptor_that_is_kept_is_not_passed_to_programs(file_path: Path) -> None:
    with growing(file_path):
        (fd,) = (fd for fd, path in open_descriptors().items() if path == str(file_path))
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


# Past the end


def test_access_past_the_end_is_refused_and_no_fault(file_path: Path) -> None:
    with growing(file_path) as m:
        end = m.size
        for call in (
            lambda: m.view(0, end + 1),
            lambda: m.read_obj(u32, end - 3),
            lambda: m.get_slice(end, 1),
            lambda: m.range_end(end, 1),
            lambda: m.array(np.uint8, end + 1),
        ):
            with pytest.raises((InvalidRangeError, MmapError, ValueError)):
                call()
        assert m[end : end + 10] == b""


def test_peer_that_cuts_the_file_is_a_fault_until_refresh(file_path: Path) -> None:
    with growing(file_path) as m:
        os.truncate(file_path, PAGE + 1)
        assert m[PAGE] == known_bytes(PAGE + 1)[PAGE]
        with pytest.raises(MappingFaultError):
            m[2 * PAGE]
        assert m.refresh() == m.size == PAGE + 1
        with pytest.raises(InvalidIndexError):
            m[2 * PAGE]
        os.truncate(file_path, 8 * PAGE)
        assert m.refresh() == 8 * PAGE
        assert m.is_all_zero(PAGE + 1)


def test_refresh_stops_at_the_capacity_and_starts_at_the_offset(file_path: Path) -> None:
    with MemoryMapping.from_file(file_path, 10, offset=100, capacity=PAGE) as m:
        assert m.size == 10
        assert m.refresh() == PAGE
        assert m[:] == known_bytes(PAGE + 100)[100:]
        os.truncate(file_path, 150)
        assert m.refresh() == 50
        os.truncate(file_path, 99)
        assert (m.refresh(), m[:]) == (0, b"")


def test_part_of_a_file_leaves_the_rest_of_it(file_path: Path) -> None:
    content = known_bytes(4 * PAGE + 10)
    with MemoryMapping.from_file(file_path, PAGE, offset=100, capacity=ROOM) as m:
        m.resize(50)
        assert file_path.read_bytes() == content
        m.resize(2 * PAGE)
        assert m[:] == content[100 : 100 + 2 * PAGE]
        assert file_path.read_bytes() == content
        m.resize(5 * PAGE)
        assert file_path.stat().st_size == 5 * PAGE + 100


def test_what_a_peer_has_added_is_not_cut(file_path: Path) -> None:
    with growing(file_path) as m, growing(file_path) as peer:
        peer.resize(1 << 20)
        peer[-4:] = b"mine"
        m.resize(5 * PAGE)
        m.resize(PAGE)
        assert peer[-4:] == b"mine"
        assert m.refresh() == 1 << 20


# Views


def test_shrinking_below_a_live_view_is_refused_and_changes_nothing(file_path: Path) -> None:
    whole_array: Any = np.ndarray
    with growing(file_path) as m:
        end = m.size
        for make in (
            lambda: m.view(end - 1, 1),
            lambda: memoryview(m),
            lambda: m.array(np.uint8)[-1:],
            lambda: whole_array(end, np.uint8, buffer=m),
        ):
            exported: Any = make()
            with pytest.raises(ViewsExportedError):
                m.resize(end - 1)
            assert (m.size, file_path.stat().st_size) == (end, end)
            m.resize(end)
            del exported
            if m.live_views:  # what `np.ndarray` asked for stays with the region
                return
            m.resize(end - 1)
            m.resize(end)


def test_refused_size_does_not_lengthen_a_file_that_was_cut(file_path: Path) -> None:
    with growing(file_path) as m, m.view():
        os.truncate(file_path, PAGE)
        with pytest.raises(ViewsExportedError):
            m.resize(2 * PAGE)
        assert file_path.stat().st_size == PAGE


def test_view_below_the_new_end_is_in_nobodys_way(file_path: Path) -> None:
    with growing(file_path) as m, m.view(0, PAGE) as view:
        m.resize(PAGE)
        assert view == known_bytes(PAGE)


def test_refresh_below_a_live_view_is_refused(file_path: Path) -> None:
    with growing(file_path) as m, m.view():
        os.truncate(file_path, 10)
        with pytest.raises(ViewsExportedError):
            m.refresh()
        assert m.size == 4 * PAGE + 10


def test_views_of_an_empty_mapping(disk_path: Path) -> None:
    with MemoryMapping.create(disk_path / "empty", 0, capacity=ROOM) as m:
        with m.view() as view, m.open() as file:
            assert (view.nbytes, file.read(), m[:], bytes(m)) == (0, b"", b"", b"")
        assert (m.find(b"a"), m.is_all_zero(), list(m), m.array(np.uint8).size) == (-1, True, [], 0)
        m.resize(3)
        m[:] = b"abc"
        assert bytes(m) == b"abc"


# What was set on the pages


@pytest.mark.parametrize("size", [4 * PAGE, 4 * PAGE + 10])
def test_protection_of_the_end_holds_for_what_is_added(size: int, file_path: Path) -> None:
    os.truncate(file_path, size)
    with growing(file_path) as m:
        m.protect(READ)
        m.resize(8 * PAGE)
        assert set(perms(m.as_ptr(), 8 * PAGE)) == {"r--s"}
        with pytest.raises(ProtectionError):
            m[6 * PAGE] = 1
        m.protect(RW, 2 * PAGE, 2 * PAGE)
        m.protect(NONE, 6 * PAGE, 2 * PAGE)
        m.resize(16 * PAGE)
        with pytest.raises(ProtectionError):
            m[15 * PAGE]
        m.resize(3 * PAGE)  # what is added now is as the last byte that is left
        m.resize(16 * PAGE)
        m[2 * PAGE :] = bytes(14 * PAGE)
        with pytest.raises(ProtectionError):
            m[PAGE] = 1
        m.resize(PAGE)
        m.resize(16 * PAGE)
        with pytest.raises(ProtectionError):
            m[15 * PAGE] = 1
        assert set(perms(m.as_ptr(), 16 * PAGE)) == {"r--s"}
        m.resize(0)
        m.resize(8 * PAGE)
        assert str(m.prot) == "r--"


def test_protection_of_an_empty_mapping_holds_for_what_is_added() -> None:
    with MemoryMapping.anonymous(0, capacity=ROOM) as m:
        m.protect(READ)
        m.resize(PAGE)
        assert perms(m.as_ptr(), PAGE) == ["r--s"]
        with pytest.raises(ProtectionError):
            m[0] = 1


def test_protection_of_a_mapping_that_has_become_empty() -> None:
    with MemoryMapping.anonymous(4 * PAGE, capacity=ROOM) as m:
        m.protect(READ, PAGE, PAGE)
        m.resize(0)
        m.protect(NONE)
        m.resize(4 * PAGE)
        assert set(perms(m.as_ptr(), 4 * PAGE)) == {"---s"}
        for read in (lambda: m[0], m.view):
            with pytest.raises(ProtectionError):
                read()


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_guard_pages_that_are_cut_off_are_gone() -> None:
    with MemoryMapping.anonymous(8 * PAGE, prot=RW, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 6 * PAGE, 2 * PAGE)
        m.resize(12 * PAGE)
        assert m.is_all_zero(8 * PAGE)
        with pytest.raises(ProtectionError):
            m[7 * PAGE]
        m.resize(6 * PAGE)
        m.resize(12 * PAGE)
        assert m.is_all_zero()


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_guard_pages_of_a_mapping_that_was_empty_are_gone() -> None:
    with MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, PAGE)
        m.resize(0)
        m.protect(READ)
        m.resize(2 * PAGE)
        with m.view() as view:
            assert bytes(view) == bytes(2 * PAGE)
        assert set(perms(m.as_ptr(), 2 * PAGE)) == {"r--p"}


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_guard_page_stays_one_where_the_end_moves_inside_it() -> None:
    with MemoryMapping.anonymous(3 * PAGE + 100, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 3 * PAGE, 100)
        m.resize(8 * PAGE)
        for start in (3 * PAGE, 3 * PAGE + 100, 4 * PAGE - 1):
            with pytest.raises(ProtectionError):
                m.view(start, 1)
        assert m.is_all_zero(4 * PAGE)


@pytest.mark.parametrize(
    ("advice", "flag"),
    [(Advice.DONTFORK, "dc"), (Advice.DODUMP, "dd"), (Advice.SEQUENTIAL, "sr")],
)
@pytest.mark.parametrize("size", [0, PAGE + 1])
def test_advice_on_all_holds_for_what_is_added(size: int, advice: Advice, flag: str) -> None:
    with MemoryMapping.anonymous(size, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        address = m.as_ptr()
        had = flag in any_vm_flags(address, PAGE)
        m.advise(advice)
        m.resize(64 * PAGE)
        assert (flag in vm_flags(address, 64 * PAGE)) is not had


def test_advice_on_a_part_stays_there() -> None:
    with MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m.advise(Advice.SEQUENTIAL, 0, 2 * PAGE)
        m.resize(8 * PAGE)
        assert "sr" not in any_vm_flags(m.as_ptr() + 2 * PAGE, 6 * PAGE)


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_of_the_end_holds_for_what_is_added(file_path: Path) -> None:
    with growing(file_path) as m:
        m.lock(PAGE, 2 * PAGE)
        m.resize(8 * PAGE)
        assert amount("Locked", m.as_ptr(), ROOM) == 2 * PAGE
        m.lock()
        m.resize(16 * PAGE)
        assert "lo" in vm_flags(m.as_ptr(), 16 * PAGE)
        m[8 * PAGE :] = bytes(8 * PAGE)  # it is locked as it is touched
        assert amount("Locked", m.as_ptr(), ROOM) == 16 * PAGE
        m.resize(2 * PAGE + 1)
        assert "lo" in vm_flags(m.as_ptr(), 3 * PAGE)
        assert "lo" not in any_vm_flags(m.as_ptr() + 3 * PAGE, 13 * PAGE)
        m.unlock(0, m.size)
        m.resize(8 * PAGE)
        assert "lo" not in any_vm_flags(m.as_ptr(), ROOM)


def grow_past_the_lock_limit(path: str) -> None:
    """Print the error, and what is then."""
    become_unprivileged()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 * PAGE, 8 * PAGE))
    with MemoryMapping.from_file(path, capacity=ROOM) as m:
        m.lock()
        before = m.size
        with pytest.raises(SystemCallError) as caught:
            m.resize(64 * PAGE)
        assert (m.size, Path(path).stat().st_size) == (before, before)
        m.resize(6 * PAGE)
        print(caught.value.syscall, m.size // PAGE)  # noqa: T201
        m.unlock(0, m.size)
    with MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m.lock()
        with pytest.raises(SystemCallError):
            m.resize(64 * PAGE)
        assert m.size == PAGE


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_limit_that_is_in_the_way_of_growth_changes_nothing(file_path: Path) -> None:
    file_path.chmod(0o666)
    file_path.parent.chmod(0o777)
    assert in_process(grow_past_the_lock_limit, file_path).succeeded() == "mlock2 6\n"


def test_lock_that_memory_is_refused_as_it_grows_leaves_the_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        return -(lib.MMW_CALL_MLOCK2 << 12 | errno.ENOMEM)

    with MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m.lock()
        with monkeypatch.context() as patched:
            patched.setattr(calls, "lock_room", refuse)
            with pytest.raises(OutOfMemoryError, match="locked too"):
                m.resize(4 * PAGE)
        assert m.size == PAGE
        m.resize(4 * PAGE)
        assert m.is_all_zero()


def test_fault_guard_covers_what_is_added(file_path: Path) -> None:
    with growing(file_path) as m:
        guard = m.fault_guard()
        with pytest.raises(MappingFaultError) as caught, guard:  # noqa: PT012  # all of the block
            m.resize(8 * PAGE)
            view = m.view()
            os.truncate(file_path, PAGE)
            assert view[7 * PAGE] == 0
            del view
        assert caught.value.offset == 7 * PAGE
        os.truncate(file_path, 8 * PAGE)
        m.recover()
        assert m[7 * PAGE] == 0


# Without a capacity


def test_private_memory_moves_with_all_that_is_set_on_it() -> None:
    with MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(4 * PAGE)
        m.use_dontfork()
        part, file = m.get_slice(0, 4), m.open("r+b")
        old = m.as_ptr()
        m.resize(1 << 26)
        assert m[: 4 * PAGE] == known_bytes(4 * PAGE)
        assert m.is_all_zero(4 * PAGE)
        assert "dc" in vm_flags(m.as_ptr(), 1 << 26)
        assert hex(m.as_ptr()) in repr(part)
        assert m.as_ptr() != old
        assert file.seek(0, os.SEEK_END) == 1 << 26
        assert not is_mapped(old)
        assert m.capacity == m.size
        # There is no more room to give back, so that it grows again where it is.
        new = m.as_ptr()
        m.resize(10)
        m.resize(1 << 26)
        assert m.as_ptr() == new
        assert m[:20] == known_bytes(10) + bytes(10)


def test_memory_that_moves_takes_no_more_than_it_has() -> None:
    with MemoryMapping.anonymous(1 << 30, sharing=Sharing.PRIVATE) as m:
        m[1 << 29] = 1
        m.resize(1 << 31)
        assert amount("Rss", m.as_ptr(), 1 << 31) < 1 << 22
        assert m[1 << 29] == 1


def test_file_is_found_again(file_path: Path) -> None:
    with process_unchanged(), MemoryMapping.from_file(file_path, offset=5) as m:
        content = m[:]
        m.resize(1 << 20)
        assert m[: len(content)] == content
        assert file_path.stat().st_size == 5 + (1 << 20)
        with m.view() as view, pytest.raises(ViewsExportedError):
            m.resize(2 << 20)
        view.release()
        os.truncate(file_path, 100)
        assert m.refresh() == 95


def test_pages_do_not_move_under_views_or_guards(file_path: Path) -> None:
    for m in (
        MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE),
        MemoryMapping.from_file(file_path, PAGE),
    ):
        with m:
            address = m.as_ptr()
            with m.view(0, 1), pytest.raises(ViewsExportedError):
                m.resize(1 << 20)
            with m.fault_guard(), pytest.raises(RegionBusyError):
                m.resize(1 << 20)
            assert (m.as_ptr(), m.size) == (address, PAGE)
            assert m[:10] in {bytes(10), known_bytes(10)}


def test_ranges_that_differ_do_not_move() -> None:
    with MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(4 * PAGE)
        m.protect(READ, 0, PAGE)
        with pytest.raises(UnsupportedOperationError, match="capacity"):
            m.resize(1 << 20)
        assert (m.size, m[:]) == (4 * PAGE, known_bytes(4 * PAGE))


def in_an_arena() -> MemoryMappingArena:
    arena = MemoryMappingArena.new(PAGE)
    arena.add_anon(0, PAGE)
    return arena


@pytest.mark.parametrize("size", [0, PAGE - 1, PAGE, 1 << 20])
def test_regions_that_cannot_say_so(size: int, file_path: Path) -> None:
    owner = bytearray(PAGE)
    address = np.frombuffer(owner, np.uint8).ctypes.data
    arena = in_an_arena()
    borrowed = unsafe.from_raw_parts(address, PAGE, owner=owner)
    private = MemoryMapping.from_file(file_path, PAGE, sharing=Sharing.PRIVATE)
    for region in (arena, borrowed, private):
        with region, pytest.raises(UnsupportedOperationError):
            region.resize(size)
        if region is not private:
            with pytest.raises(UnsupportedOperationError):
                region.refresh()
    with in_an_arena() as open_arena:
        assert open_arena.capacity == PAGE
    with MemoryMapping.anonymous(PAGE) as shared:
        with pytest.raises(UnsupportedOperationError, match="capacity"):
            shared.resize(1 << 20)
        assert shared.refresh() == PAGE


def test_private_mapping_follows_its_file(file_path: Path) -> None:
    with growing(file_path, sharing=Sharing.PRIVATE) as m:
        m[0] = 0
        with opened(file_path) as fd:
            os.pwrite(fd, b"new", 8 * PAGE)
        assert m.refresh() == 8 * PAGE + 3
        assert (m[0], m[8 * PAGE :]) == (0, b"new")
        assert m[1 : 4 * PAGE] == known_bytes(4 * PAGE)[1:]


def test_device_cannot_grow() -> None:
    with process_unchanged():
        with pytest.raises(UnsupportedOperationError):
            MemoryMapping.from_file("/dev/zero", PAGE, capacity=ROOM)
        with pytest.raises(UnsupportedOperationError):
            MemoryMapping.from_file("/dev/zero", PAGE, capacity=ROOM, sharing=Sharing.PRIVATE)


def test_what_has_no_file_of_its_own_is_said_so(disk_path: Path) -> None:
    with MemoryMapping.from_file("/dev/zero", PAGE) as m:
        for call in (lambda: m.resize(2 * PAGE), m.refresh):
            with pytest.raises(UnsupportedOperationError, match="no regular file"):
                call()


def test_read_only_mapping_without_a_capacity_does_not_change_its_file(file_path: Path) -> None:
    with MemoryMapping.from_file(file_path) as m:
        for start, count in ((0, PAGE), (PAGE, None)):
            m.protect(READ, start, count)
        with pytest.raises(AccessDeniedError, match="read-only"):
            m.resize(1 << 20)
        assert file_path.stat().st_size == 4 * PAGE + 10
        os.truncate(file_path, 1 << 20)
        assert m.refresh() == 1 << 20


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_locked_memory_moves_locked() -> None:
    with MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE) as m:
        m.lock()
        m.resize(16 * PAGE)
        assert "lo" in vm_flags(m.as_ptr(), 16 * PAGE)
        m.unlock(0, 16 * PAGE)
        assert "lo" not in any_vm_flags(m.as_ptr(), 16 * PAGE)


def test_bytes_that_the_map_does_not_have_allow_nothing() -> None:
    access = AccessMap(PROT_READ)
    access.split(PAGE)
    assert access.allowed(0, PAGE) == PROT_READ
    assert access.allowed(0, PAGE + 1) == 0


def test_view_of_what_has_gone_meanwhile_is_refused(file_path: Path) -> None:
    with growing(file_path) as m:
        with pytest.raises(InvalidRangeError):
            pages_of(m)._export(0, m.size + 1)  # pyright: ignore[reportPrivateUsage]
        assert m.live_views == 0


@pytest.mark.alone
def test_huge_pages_cannot_grow() -> None:
    with pool_of(1), huge_memfd(1) as fd:
        with pytest.raises(UnsupportedOperationError):
            MemoryMapping.from_file(fd, capacity=ROOM)
        with MemoryMapping.from_file(fd) as m:
            for call in (lambda: m.resize(PAGE), m.refresh):
                with pytest.raises(UnsupportedOperationError):
                    call()


def test_mapping_with_room_is_no_arena(file_path: Path) -> None:
    with growing(file_path) as m, pytest.raises(UnsupportedOperationError, match="room"):
        m.into_arena()
    with MemoryMapping.anonymous(4 * PAGE) as m:
        m.resize(PAGE)
        with pytest.raises(UnsupportedOperationError, match="room"):
            m.into_arena()


# What is refused


@pytest.mark.parametrize("capacity", [0, -1, 2**63, 2**64])
def test_capacity_that_no_mapping_has_is_refused(capacity: int, file_path: Path) -> None:
    with process_unchanged():
        makes: list[Callable[[], MemoryMapping]] = [
            lambda: MemoryMapping.anonymous(0, capacity=capacity),
            lambda: MemoryMapping.from_file(file_path, capacity=capacity),
            lambda: MemoryMapping.create(file_path.with_name("new"), 0, capacity=capacity),
        ]
        for make in makes:
            with pytest.raises(InvalidArgumentError, match="capacity"):
                make()
    assert not file_path.with_name("new").exists()


def test_capacity_below_the_size_is_refused(file_path: Path) -> None:
    size = 4 * PAGE + 10
    with process_unchanged(), SharedMemory.new("small", size) as memory, opened(file_path) as fd:
        makes: list[Callable[[], MemoryMapping]] = [
            lambda: MemoryMapping.anonymous(size, capacity=size - 1),
            lambda: MemoryMapping.from_file(file_path, capacity=size - 1),
            lambda: MemoryMapping.from_file(fd, size, capacity=1),
            lambda: MemoryMapping.create(file_path.with_name("new"), size, capacity=size - 1),
            lambda: memory.map(capacity=size - 1),
        ]
        for make in makes:
            with pytest.raises(CapacityExceededError) as caught:
                make()
            assert caught.value.count == size
            del caught  # its frames hold a descriptor
    assert not file_path.with_name("new").exists()


def test_capacity_past_the_address_space_is_refused(file_path: Path) -> None:
    with process_unchanged():
        for capacity in (1 << 60, 2**63 - 1):
            with pytest.raises((OutOfMemoryError, OffsetOverflowError)):
                MemoryMapping.from_file(file_path, capacity=capacity)
            with pytest.raises((OutOfMemoryError, OffsetOverflowError)):
                MemoryMapping.anonymous(0, capacity=capacity)


@pytest.mark.parametrize("size", [-1, 2**63, 2**64, -(2**64)])
def test_size_that_no_mapping_has_is_refused(size: int, file_path: Path) -> None:
    with growing(file_path) as m:
        with pytest.raises(InvalidArgumentError):
            m.resize(size)
        assert m.size == 4 * PAGE + 10


def test_size_past_the_capacity_is_refused(file_path: Path) -> None:
    with growing(file_path) as m:
        with pytest.raises(CapacityExceededError) as caught:
            m.resize(ROOM + 1)
        assert (caught.value.offset, caught.value.count, caught.value.region_size) == (
            0,
            ROOM + 1,
            ROOM,
        )
        assert isinstance(caught.value, InvalidRangeError)
        assert (m.size, file_path.stat().st_size) == (4 * PAGE + 10, 4 * PAGE + 10)


@pytest.mark.parametrize("size", [1.5, "1", None])
def test_size_that_is_no_integer_is_refused(size: Any, file_path: Path) -> None:
    with growing(file_path) as m, pytest.raises(TypeError, match="size"):
        m.resize(size)


def test_closed_mapping_is_refused(file_path: Path) -> None:
    with growing(file_path) as m:
        pass
    for call in (lambda: m.resize(1), m.refresh, lambda: m.capacity):
        with pytest.raises(ClosedMappingError):
            call()


class ClosingIndex:
    """A size whose `__index__` closes a mapping."""

    def __init__(self, mapping: MemoryMapping) -> None:
        self._mapping: Final = mapping

    def __index__(self) -> int:
        self._mapping.close()
        return 1 << 20


def test_close_inside_the_size_ends_the_call(file_path: Path) -> None:
    with growing(file_path) as m:
        with pytest.raises(ClosedMappingError):
            m.resize(ClosingIndex(m))
        assert file_path.stat().st_size == 4 * PAGE + 10


def test_file_that_is_open_for_reading_only_is_followed_and_not_changed(file_path: Path) -> None:
    with growing(file_path, prot=READ) as m:
        for size in (1 << 20, PAGE):
            with pytest.raises(AccessDeniedError, match="reading only"):
                m.resize(size)
        assert (m.size, file_path.stat().st_size) == (4 * PAGE + 10, 4 * PAGE + 10)
        os.truncate(file_path, 1 << 20)
        assert m.refresh() == 1 << 20


@pytest.mark.parametrize(("seal", "size"), [(MemfdSeals.GROW, 3), (MemfdSeals.SHRINK, 1)])
def test_seal_against_the_change_is_refused(seal: MemfdSeals, size: int) -> None:
    with SharedMemory.new("sealed", 2 * PAGE) as memory, memory.map(capacity=ROOM) as m:
        memory.add_seals(seal)
        for resize in (m.resize, memory.resize):
            with pytest.raises(OperationNotPermittedError, match="sealed"):
                resize(size * PAGE)
        assert (m.size, memory.size) == (2 * PAGE, 2 * PAGE)
        assert m.is_all_zero()


def test_full_file_system_is_refused() -> None:
    with mounted_tmpfs("size=64k") as folder:
        with process_unchanged(), pytest.raises(NoSpaceError):
            MemoryMapping.create(folder / "large", 1 << 20)
        assert list(folder.iterdir()) == []
        with MemoryMapping.create(folder / "small", PAGE, capacity=ROOM) as m:
            with pytest.raises(NoSpaceError):
                m.resize(1 << 20)
            assert m.size == PAGE
            m.resize(8 * PAGE)
            m[:] = known_bytes(8 * PAGE)


@pytest.mark.parametrize("kind", ["ext4", "ext2"])
def test_full_disk_keeps_nothing_of_what_it_refused(kind: str) -> None:
    with mounted_image(kind, 16 << 20) as folder:
        with MemoryMapping.create(folder / "grows", PAGE, capacity=1 << 30) as m:
            m[:] = known_bytes(PAGE)
            free = os.statvfs(folder).f_bavail
            with pytest.raises(NoSpaceError):
                m.resize(1 << 29)
            assert (m.size, (folder / "grows").stat().st_size) == (PAGE, PAGE)
            assert os.statvfs(folder).f_bavail > free - 64  # blocks that describe the file
            m.resize(3 * PAGE)
            assert m[:] == known_bytes(PAGE) + bytes(2 * PAGE)
            m.resize(1 << 24, allocate=False)
            assert (folder / "grows").stat().st_size == 1 << 24
        with pytest.raises(NoSpaceError):
            MemoryMapping.create(folder / "large", 1 << 25)
        assert not (folder / "large").exists()


def grow_past_the_file_limit(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with MemoryMapping.from_file(path, capacity=ROOM) as m:
        for allocate in (True, False):
            with pytest.raises(SystemCallError) as caught:
                m.resize(2 << 20, allocate=allocate)
            assert caught.value.errno == errno.EFBIG
        m.resize(1 << 20)
        assert m.size == 1 << 20
    with pytest.raises(SystemCallError):
        MemoryMapping.create(f"{path}-new", 2 << 20)
    assert not Path(f"{path}-new").exists()


def test_file_size_limit_is_an_error(file_path: Path) -> None:
    in_process(grow_past_the_file_limit, file_path).succeeded()


def grow_past_the_address_limit(path: str) -> None:
    with MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(PAGE)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        with pytest.raises(OutOfMemoryError):
            MemoryMapping.from_file(path, capacity=1 << 40)
        with pytest.raises(OutOfMemoryError):
            m.resize(1 << 40)
        assert m[:] == known_bytes(PAGE)
        m.resize(1 << 20)
        assert m[:PAGE] == known_bytes(PAGE)


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_address_space_limit_is_an_error(file_path: Path) -> None:
    in_process(grow_past_the_address_limit, file_path, measured=False).succeeded()


def resize_a_file_of_another_user(path: str) -> None:
    with MemoryMapping.from_file(path) as m:
        Path(path).unlink()
        become_unprivileged()
        with pytest.raises(UnsupportedOperationError, match="again"):
            m.resize(1 << 20)
        with pytest.raises(UnsupportedOperationError, match="again"):
            m.refresh()
        assert m[:] == known_bytes(4 * PAGE + 10)


def test_file_that_cannot_be_found_again_is_said_so(file_path: Path) -> None:
    in_process(resize_a_file_of_another_user, file_path).succeeded()


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_shrink_that_is_refused_leaves_protections_guard_pages_and_locks() -> None:
    with SharedMemory.new("sealed", 8 * PAGE) as memory, memory.map(capacity=ROOM) as m:
        m[:] = known_bytes(8 * PAGE)
        memory.add_seals(MemfdSeals.SHRINK)
        m.protect(READ, 4 * PAGE, 2 * PAGE)
        m.protect(NONE, 6 * PAGE, PAGE)
        m.lock(2 * PAGE, 2 * PAGE)
        before = perms(m.as_ptr(), 8 * PAGE)
        with pytest.raises(OperationNotPermittedError):
            m.resize(PAGE)
        assert perms(m.as_ptr(), 8 * PAGE) == before
        assert amount("Locked", m.as_ptr(), 8 * PAGE) == 2 * PAGE
        assert (m.size, m[: 6 * PAGE]) == (8 * PAGE, known_bytes(6 * PAGE))
        with pytest.raises(ProtectionError):
            m[4 * PAGE] = 1


def test_shrink_whose_last_page_cannot_be_cleared_leaves_all() -> None:
    with MemoryMapping.anonymous(8 * PAGE, sharing=Sharing.PRIVATE, capacity=ROOM) as m:
        m[:] = known_bytes(8 * PAGE)
        m.protect(READ, PAGE, PAGE)
        with pytest.raises(ProtectionError):
            m.resize(PAGE + 1)
        assert m[:] == known_bytes(8 * PAGE)
        m[7 * PAGE] = 0
        m.resize(2 * PAGE)
        with pytest.raises(ProtectionError):
            m[PAGE] = 0


def shrink_where_all_is_locked() -> None:
    with MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE, capacity=1 << 20) as m:
        m[:] = known_bytes(2 * PAGE)
        assert libc.mlockall(1) == 0  # MCL_CURRENT
        m.resize(100)
        assert m[:] == known_bytes(100)
        m.resize(2 * PAGE)
        assert m.is_all_zero(100)


@needs(DestructiveAdvice.DONTNEED_LOCKED)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may lock all of its memory")
@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_memory_that_somebody_else_has_locked_shrinks() -> None:
    in_process(shrink_where_all_is_locked).succeeded()


def move_at_the_limit_of_mappings() -> None:
    with MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(2 * PAGE)
        filler = Filler()
        filler.fill()
        filler.free(1)
        for size in (1 << 46, (1 << 47) - (1 << 20)):
            with pytest.raises(OutOfMemoryError):
                m.resize(size)
            assert (m.size, m[:]) == (2 * PAGE, known_bytes(2 * PAGE))
        filler.close()
        m.resize(1 << 20)
        assert m[: 2 * PAGE] == known_bytes(2 * PAGE)


@needs_few_mappings
@pytest.mark.not_sanitized(PYTHON_HAS_NO_MEMORY)
def test_memory_that_finds_no_place_keeps_its_content() -> None:
    in_process(move_at_the_limit_of_mappings, measured=False).succeeded()


def test_size_that_is_refused_inside_a_change_leaves_the_file(file_path: Path) -> None:
    def change() -> None:
        for size in (1 << 20, PAGE):
            with pytest.raises(RegionBusyError):
                m.resize(size)

    with growing(file_path) as m:
        pages_of(m).exclusively(change)
        assert file_path.stat().st_size == m.size == 4 * PAGE + 10


def test_growth_that_a_lost_page_refuses_leaves_no_access_behind(file_path: Path) -> None:
    os.truncate(file_path, 2 * PAGE)
    with growing(file_path) as m:
        m.protect(READ, 0, PAGE)
        m.protect(RW, 0, PAGE)
        os.truncate(file_path, 0)
        guard = m.fault_guard()
        with pytest.raises(MappingFaultError), guard:
            assert m.view()[0] == 0
        os.truncate(file_path, 8 * PAGE)
        with pytest.raises(MappingFaultError):
            m.refresh()
        m.recover()
        m.protect(NONE)
        assert m.refresh() == 8 * PAGE
        for start in range(0, 8 * PAGE, PAGE):
            with pytest.raises(ProtectionError):
                m.view(start, PAGE)


# Threads, children, interruptions


def test_threads_that_change_the_size_at_once_leave_a_file_for_it(file_path: Path) -> None:
    with growing(file_path) as m:
        barrier = threading.Barrier(2)

        def grow() -> None:
            for _ in range(300):
                m.resize(2 * PAGE)
            barrier.wait()

        def shrink() -> None:
            for _ in range(300):
                m.resize(2 * PAGE)
                m.resize(100)
            barrier.wait()

        threads = [threading.Thread(target=each) for each in (grow, shrink)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert file_path.stat().st_size >= m.size
        assert len(bytes(m.view())) == m.size


def guard_while_it_moves(path: str) -> None:
    """Move a mapping whose file is cut, while a thread reads it under guards."""
    done = threading.Event()
    m = MemoryMapping.from_file(path, 2 * PAGE)

    def read() -> None:
        while not done.is_set():
            with suppress(MappingFaultError), m.fault_guard():
                bytes(m.view())
            with suppress(MmapError):
                m.recover()

    thread = threading.Thread(target=read)
    thread.start()
    for size in range(3, 300):
        with suppress(RegionBusyError, ViewsExportedError, MappingFaultError):
            m.resize(size * PAGE)
        os.truncate(path, PAGE)
    done.set()
    thread.join()


def test_guards_hold_while_the_pages_move(file_path: Path) -> None:
    in_process(guard_while_it_moves, file_path).succeeded()


def test_guard_of_a_record_that_is_left_waits_for_the_new_one() -> None:
    class Moving:
        """Pages that name the record which they have left once more."""

        def __init__(self, pages: Pages, left: list[Any]) -> None:
            self._pages: Final = pages
            self._left: Final = left

        @property
        def handle(self) -> Any:
            return self._left.pop() if self._left else self._pages.handle

    with MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE) as m:
        left = [pages_of(m).handle]
        m.resize(64 * PAGE)
        stub: Any = Moving(pages_of(m), left)
        with FaultGuard(stub):
            assert left == []
            with pytest.raises(RegionBusyError):
                m.resize(1 << 24)


def test_child_that_is_forked_while_pages_move_is_told() -> None:
    program = """
        import os, threading
        from kernel_view import PAGE
        from mmapwrap import ClosedMappingError, MemoryMapping, Sharing

        done = threading.Event()

        def move():
            while not done.is_set():
                with MemoryMapping.anonymous(64 * PAGE, sharing=Sharing.PRIVATE) as m:
                    m[0] = 7
                    regions[:] = [m]
                    for size in range(65, 200):
                        m.resize(size * PAGE)

        regions = []
        thread = threading.Thread(target=move)
        thread.start()
        statuses = set()
        for _ in range(100):
            held = list(regions)
            pid = os.fork()
            if pid == 0:
                for m in held:
                    try:
                        os._exit(0 if m[0] == 7 else 3)
                    except ClosedMappingError:
                        os._exit(1)
                os._exit(2)
            statuses.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        done.set()
        thread.join()
        assert statuses <= {0, 1, 2}, statuses
    """
    child(program, measured=False).succeeded()


def test_threads_that_read_while_it_grows_and_shrinks(file_path: Path) -> None:
    content = known_bytes(4 * PAGE + 10)
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                assert m[:100] == content[:100]
                with suppress(InvalidRangeError, MappingFaultError):
                    m.find(b"never there", 0, 1 << 19)
                with suppress(InvalidRangeError, MappingFaultError):
                    assert m.read_obj(u32, (1 << 20) - 4) == 0
                with m.view(0, 100) as view:
                    assert view == content[:100]
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with growing(file_path) as m:
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            m.resize(1 << 20, allocate=False)
            with suppress(ViewsExportedError):
                m.resize(4 * PAGE)
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_threads_that_use_memory_that_moves_touch_nothing_foreign() -> None:
    program = """
        import threading
        from contextlib import suppress
        from kernel_view import PAGE
        from mmapwrap import InvalidRangeError, MemoryMapping, Sharing, ViewsExportedError

        m = MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE)
        done = threading.Event()

        def use():
            while not done.is_set():
                with suppress(InvalidRangeError):
                    m[:16] = bytes([7]) * 16
                    m.find(b"absent")
                    m[:64]

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for size in range(2, 400):
            m.resize(size * PAGE)
        done.set()
        for thread in threads:
            thread.join()
        assert set(m[:]) <= {0, 7}
        print(m.size // PAGE)
    """
    assert child(program).succeeded() == "399\n"


def test_two_threads_that_grow_at_once_lose_nothing(file_path: Path) -> None:
    with growing(file_path) as m:
        start = m.size

        def grow() -> None:
            for _ in range(200):
                with m.view(0, 1):
                    m.resize(m.size + 1)

        threads = [threading.Thread(target=grow) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert start < m.size <= start + 800
        assert file_path.stat().st_size >= m.size


def test_child_grows_the_file_for_its_parent(file_path: Path) -> None:
    program = """
        import os, sys
        from forks import forked
        from kernel_view import PAGE
        from mmapwrap import MemoryMapping

        m = MemoryMapping.from_file(sys.argv[1], capacity=1 << 24)

        def work():
            m.resize(1 << 20)
            m[-4:] = b"done"
            os._exit(0)

        assert forked(work) == 0
        print(m.size // PAGE, m.refresh(), m[-4:].decode())
    """
    assert child(program, file_path).succeeded() == f"4 {1 << 20} done\n"


@pytest.mark.parametrize("kind", ["file", "moving", "shrinking"])
def test_exception_at_any_line_leaves_a_mapping_that_works(kind: str, file_path: Path) -> None:
    class Interruption(BaseException):
        pass

    content = known_bytes(4 * PAGE + 10)
    moment = 0
    while True:
        file_path.write_bytes(content)
        m = (
            MemoryMapping.anonymous(4 * PAGE + 10, sharing=Sharing.PRIVATE)
            if kind == "moving"
            else MemoryMapping.from_file(file_path, capacity=ROOM)
        )
        with m:
            m[:] = content
            if kind == "file":
                m.protect(RW, PAGE, PAGE)
            size = PAGE + 5 if kind == "shrinking" else 1 << 20
            was_interrupted = interrupted_at(moment, partial(m.resize, size), Interruption)
            assert m.size in {4 * PAGE + 10, size}
            assert m[: PAGE + 5] == content[: PAGE + 5]
            m.protect(NONE, 0, m.size)
            m.resize(8 * PAGE)
            with pytest.raises(ProtectionError):
                m.view(7 * PAGE, PAGE)
            m.protect(RW)
            m[-1] = 1
            assert m[: PAGE + 5] == content[: PAGE + 5]
        if not was_interrupted:
            assert moment > 5
            return
        moment += 1


def test_known_file_is_as_it_was(known_file: KnownFile) -> None:
    with growing(known_file.path, prot=READ) as m:
        assert m[:] == known_file.content


def test_protection_of_an_empty_region_with_ranges_holds_where_it_grows() -> None:
    write = Protection.write()
    with MemoryMapping.anonymous(0, prot=write, sharing=Sharing.PRIVATE, capacity=4 * PAGE) as m:
        m.advise_destructive(DestructiveAdvice.GUARD_REMOVE)
        m.protect(Protection.read())
        m.resize(PAGE)
        assert m[:] == bytes(PAGE)
        with pytest.raises(ProtectionError):
            m[0] = 1
