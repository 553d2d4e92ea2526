"""`recover`: the pages that a guard replaced by zeros are mapped anew, and no others."""

import contextlib
import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import injection
import numpy as np
import pytest
from files import memory_file
from forks import run_forked
from injection import Rule
from kernel_view import (
    PAGE,
    in_process,
    is_mapped,
    known_bytes,
    perms,
    process_unchanged,
    say,
    usages,
    vm_flags,
)
from lost_pages import KEPT, PAGES, SIZE, fault_of, grow_again, touch_in_guard
from marks import needs
from meanwhile import run_for
from protections import READ, RW

from mmapwrap import (
    ClosedMappingError,
    DestructiveAdvice,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    OutOfMemoryError,
    Protection,
    ProtectionError,
    Sharing,
    UnsupportedOperationError,
    u8,
    unsafe,
)
from mmapwrap._core import calls
from mmapwrap._core._mman import lib

Make = Callable[[int], MappedRegion]


def an_arena(fd: int) -> MappedRegion:
    arena = MemoryMappingArena.new(SIZE)
    arena.add_fd_offset(0, 10 * PAGE, fd, 0)
    arena.add_fd_offset_protection(10 * PAGE, 6 * PAGE, fd, 10 * PAGE, RW)
    return arena


def memory_of_others(fd: int) -> MappedRegion:
    owner = MemoryMapping.from_fd(fd, SIZE)
    return unsafe.from_raw_parts(owner.as_ptr(), SIZE, owner=owner)


def by_range(fd: int) -> MappedRegion:
    m = MemoryMapping.from_fd(fd, SIZE)
    m.protect(READ, 5 * PAGE, 2 * PAGE)
    return m


REGIONS: dict[str, Make] = {
    "shared": lambda fd: MemoryMapping.from_fd(fd, SIZE),
    "private": lambda fd: MemoryMapping.from_file(fd, sharing=Sharing.PRIVATE),
    "read-only": lambda fd: MemoryMapping.from_file(fd, prot=READ),
    "by range": by_range,
    "arena": an_arena,
    "of others": memory_of_others,
}
every_region = pytest.mark.parametrize("kind", REGIONS)
LOST = (5, 6, 9, 15)


@pytest.fixture(params=["memfd", "disk"])
def whole_file(request: pytest.FixtureRequest, disk_path: Path) -> Iterator[int]:
    """A descriptor of a file of 16 pages."""
    if request.param == "memfd":
        fd = memory_file(known_bytes(SIZE))
    else:
        path = disk_path / "whole"
        path.write_bytes(known_bytes(SIZE))
        fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def lose(m: MappedRegion, fd: int, pages: tuple[int, ...] = LOST) -> None:
    """Cut the file, and let a guard replace these pages by zeros."""
    os.ftruncate(fd, KEPT * PAGE)
    error = fault_of(lambda: touch_in_guard(m, *pages))
    assert (error.offset, error.pages) == (min(pages) * PAGE, len(pages))


def kernels_view(m: MappedRegion) -> list[object]:
    """What the kernel says of each page: its protection, file offset, inode and flags."""
    start, seen = m.as_ptr(), list[object]()
    for usage in usages(start, m.size):
        first, last = max(usage.vma.start, start), min(usage.vma.end, start + m.size)
        for page in range(first, last, PAGE):
            offset = usage.vma.offset + page - usage.vma.start
            seen.append((page, usage.vma.perms, offset, usage.vma.inode, usage.flags))
    return seen


@every_region
def test_recover_shows_the_file_that_has_grown_again(kind: str, whole_file: int) -> None:
    content = known_bytes(SIZE)
    with process_unchanged(), REGIONS[kind](whole_file) as m:
        before, view = kernels_view(m), m.view()
        lose(m, whole_file)
        grow_again(whole_file)
        for use in (lambda: m[0], m.view, lambda: m.protect(READ), lambda: memoryview(m)):
            assert fault_of(use).pages == len(LOST)
        m.recover()
        assert m[:] == bytes(m) == bytes(view) == bytes(memoryview(m)) == content
        assert kernels_view(m) == before
        if not view.readonly:
            view[9 * PAGE] = 0xFF
            assert os.pread(whole_file, 1, 9 * PAGE) == (
                content[9 * PAGE : 9 * PAGE + 1] if kind == "private" else b"\xff"
            )
        del view


@every_region
def test_recover_of_a_file_that_is_still_too_short_leaves_an_error(
    kind: str, whole_file: int
) -> None:
    with REGIONS[kind](whole_file) as m:
        lose(m, whole_file)
        m.recover()
        assert m[: KEPT * PAGE] == known_bytes(SIZE)[: KEPT * PAGE]
        error = fault_of(lambda: m[:])
        assert (error.offset, error.pages) == (KEPT * PAGE, 1)
        assert fault_of(lambda: m[9 * PAGE]).offset == 9 * PAGE
        assert m[0] == 1
        lose(m, whole_file, (7, 8))
        m.recover()
        grow_again(whole_file)
        assert m[:] == known_bytes(SIZE)


@every_region
def test_recover_again_and_again_leaves_nothing_behind(kind: str, whole_file: int) -> None:
    with REGIONS[kind](whole_file) as m:
        before = kernels_view(m)
        touch_in_guard(m)  # the first guard of a region keeps a page of zeros
        with process_unchanged():
            for _ in range(20):
                lose(m, whole_file)
                m.recover()
                m.recover()
                grow_again(whole_file)
                assert m[:] == known_bytes(SIZE)
        assert kernels_view(m) == before


@every_region
def test_recover_where_nothing_was_lost_changes_nothing(kind: str, whole_file: int) -> None:
    with REGIONS[kind](whole_file) as m:
        before = kernels_view(m)
        m.recover()
        with m.fault_guard():
            m.recover()
        assert kernels_view(m) == before
        assert m[:] == known_bytes(SIZE)


@every_region
def test_recover_of_a_closed_region_is_a_closed_error(kind: str, whole_file: int) -> None:
    with process_unchanged():
        m = REGIONS[kind](whole_file)
        lose(m, whole_file)
        m.close()
        with pytest.raises(ClosedMappingError):
            m.recover()
        del m


@every_region
def test_recover_inside_the_guard_ends_it_without_an_error(kind: str, whole_file: int) -> None:
    with REGIONS[kind](whole_file) as m:
        os.ftruncate(whole_file, KEPT * PAGE)
        with m.view() as view, m.fault_guard():
            assert view[5 * PAGE] == 0
            grow_again(whole_file)
            m.recover()
            assert view[5 * PAGE] == known_bytes(SIZE)[5 * PAGE]
            os.ftruncate(whole_file, KEPT * PAGE)
            with pytest.raises(MappingFaultError), m.fault_guard():
                assert view[6 * PAGE] == 0
            m.recover()
        grow_again(whole_file)
        assert m[:] == known_bytes(SIZE)


def test_recover_loses_what_was_written_to_the_zeros(whole_file: int) -> None:
    with MemoryMapping.from_fd(whole_file, SIZE) as m, m.view() as view:
        os.ftruncate(whole_file, KEPT * PAGE)
        with pytest.raises(MappingFaultError), m.fault_guard():
            view[5 * PAGE] = 0xAA
        grow_again(whole_file)
        assert view[5 * PAGE] == 0xAA
        m.recover()
        assert view[5 * PAGE] == known_bytes(SIZE)[5 * PAGE]
    assert os.pread(whole_file, SIZE, 0) == known_bytes(SIZE)


def test_recover_of_hundreds_of_pages_brings_all_of_them_back(disk_path: Path) -> None:
    pages = 1500
    content = known_bytes(pages * PAGE)
    path = disk_path / "many"
    path.write_bytes(content)
    chance = random.Random(5)
    lost = sorted(chance.sample(range(1, pages), 700))
    with process_unchanged(), MemoryMapping.from_file(path) as m, m.view() as view:
        before = kernels_view(m)
        os.truncate(path, 1)

        def touch() -> None:
            with m.fault_guard():
                assert not any(view[page * PAGE] for page in lost)

        error = fault_of(touch)
        assert (error.offset, error.pages) == (lost[0] * PAGE, len(lost))
        path.write_bytes(content)
        m.recover()
        assert m[:] == bytes(view) == content
        assert kernels_view(m) == before


def test_recover_keeps_what_each_range_allows(whole_file: int) -> None:
    with MemoryMapping.from_fd(whole_file, SIZE) as m:
        m.protect(READ, 5 * PAGE, PAGE)
        m.protect(Protection.none(), 7 * PAGE, PAGE)
        expected = perms(m.as_ptr(), SIZE)
        with m.view(0, 7 * PAGE) as view:
            os.ftruncate(whole_file, KEPT * PAGE)
            with pytest.raises(MappingFaultError), m.fault_guard():
                assert view[5 * PAGE] == view[6 * PAGE] == 0
        grow_again(whole_file)
        m.recover()
        assert perms(m.as_ptr(), SIZE) == expected
        for page, error in ((5, "write"), (7, "write"), (7, "read")):
            with pytest.raises(TypeError, match=error):
                m.__setitem__(page * PAGE, 1) if error == "write" else m[page * PAGE]
        m[6 * PAGE] = 0xAB
        assert os.pread(whole_file, 1, 6 * PAGE) == b"\xab"


@pytest.mark.xfail(reason="setting a page aside unlocks all of the mapping that it was in")
def test_recover_leaves_locked_what_was_locked(whole_file: int) -> None:
    with MemoryMapping.from_fd(whole_file, SIZE) as m:
        m.lock()
        lose(m, whole_file)
        assert "lo" in vm_flags(m.as_ptr(), KEPT * PAGE)
        grow_again(whole_file)
        m.recover()
        assert "lo" in vm_flags(m.as_ptr(), SIZE)


def recover_beside_guard_pages(is_anything_lost: str) -> None:
    fd = memory_file(known_bytes(SIZE))
    m = MemoryMapping.from_fd(fd, SIZE)
    m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 2 * PAGE, PAGE)
    if is_anything_lost == "True":
        with m.view(4 * PAGE) as view:
            os.ftruncate(fd, KEPT * PAGE)
            with pytest.raises(MappingFaultError), m.fault_guard():
                say(view[5 * PAGE])
        grow_again(fd)
    m.recover()
    with pytest.raises(ProtectionError):
        m.view()
    m.advise_destructive(DestructiveAdvice.GUARD_REMOVE)
    view = m.view()
    say(view.tobytes() == known_bytes(SIZE))
    view[2 * PAGE] = 1


@needs(DestructiveAdvice.GUARD_INSTALL)
@pytest.mark.parametrize("is_anything_lost", [True, False])
def test_recover_leaves_what_is_below_guard_pages(is_anything_lost: bool) -> None:
    ended = in_process(recover_beside_guard_pages, is_anything_lost)
    assert ended.succeeded().endswith("True\n")


def test_recover_lets_slices_and_views_of_the_region_go_on(whole_file: int) -> None:
    with MemoryMapping.from_fd(whole_file, SIZE) as m:
        part, view = m.get_slice(5 * PAGE, PAGE), m.view(5 * PAGE, PAGE)
        lose(m, whole_file)
        for use in (lambda: part.load(u8), lambda: part.copy_to(bytearray(1))):
            assert fault_of(use).pages == len(LOST)
        grow_again(whole_file)
        m.recover()
        assert part.load(u8) == view[0] == known_bytes(SIZE)[5 * PAGE]
        part.store(u8, 0xCC)
        assert os.pread(whole_file, 1, 5 * PAGE) == b"\xcc"
        del view


def test_recover_of_an_arena_lets_its_segments_be_changed(whole_file: int) -> None:
    arena = MemoryMappingArena.new(3 * SIZE)
    arena.add_anon(0, PAGE)
    arena[0] = 9
    arena.add_fd(SIZE, SIZE, whole_file)
    segments = arena.segments()
    with arena.view(SIZE, SIZE) as view:
        os.ftruncate(whole_file, KEPT * PAGE)
        with pytest.raises(MappingFaultError) as caught, arena.fault_guard():
            assert view[5 * PAGE] == 0
    assert caught.value.offset == SIZE + 5 * PAGE
    for change in (lambda: arena.remove(SIZE, SIZE), lambda: arena.add_anon(2 * SIZE, PAGE)):
        assert fault_of(change).pages == 1
    grow_again(whole_file)
    arena.recover()
    assert arena.segments() == segments
    assert arena[SIZE : 2 * SIZE] == known_bytes(SIZE)
    arena.add_anon(SIZE + 5 * PAGE, PAGE)
    assert arena[SIZE + 5 * PAGE] == 0
    assert arena[0] == 9
    arena.remove(SIZE, SIZE)
    assert perms(arena.as_ptr() + SIZE, SIZE) == PAGES * ["---p"]
    arena.close()


def test_recover_in_a_child_is_the_childs_alone(whole_file: int) -> None:
    with MemoryMapping.from_fd(whole_file, SIZE) as m:
        lose(m, whole_file)
        grow_again(whole_file)

        def recover() -> None:
            m.recover()
            assert m[:] == known_bytes(SIZE)

        run_forked(recover)
        assert fault_of(lambda: m[0]).pages == len(LOST)
        m.recover()
        assert m[:] == known_bytes(SIZE)


def test_recover_of_a_page_that_could_not_be_set_aside_is_unsupported(whole_file: int) -> None:
    if reason := injection.why_unavailable():
        pytest.skip(reason)
    with process_unchanged(), MemoryMapping.from_fd(whole_file, SIZE) as m:
        os.ftruncate(whole_file, KEPT * PAGE)
        rules = [Rule("mremap", errno.EINVAL)]
        outcome = injection.attempt(lambda: touch_in_guard(m, 5, 6), rules)
        assert isinstance(outcome.error, MappingFaultError)
        assert outcome.error.pages == 2
        outcome.error.__traceback__ = None  # whose frames keep the region
        grow_again(whole_file)
        for _ in range(2):
            with pytest.raises(UnsupportedOperationError, match="map the file anew"):
                m.recover()
        error = fault_of(lambda: m.read_obj(u8, 0))
        assert error.offset == 5 * PAGE
        assert error.hint is not None
        assert "map the file anew" in error.hint
        assert "recover" not in error.hint
        del error
        del outcome


@pytest.mark.parametrize("is_by_range", [False, True])
def test_recover_says_where_the_protection_cannot_be_set(
    is_by_range: bool, whole_file: int, monkeypatch: pytest.MonkeyPatch
) -> None:

    def fail(*arguments: object) -> int:
        return -(lib.MMW_CALL_MPROTECT << 12 | errno.ENOMEM)

    with MemoryMapping.from_fd(whole_file, SIZE) as m:
        if is_by_range:
            m.protect(READ, 0, PAGE)
        os.ftruncate(whole_file, KEPT * PAGE)
        fault_of(lambda: touch_in_guard(m, 5, 6))
        grow_again(whole_file)
        with monkeypatch.context() as patched:
            patched.setattr(calls, "protect", fail)
            with pytest.raises(OutOfMemoryError, match="mprotect"):
                m.recover()
        m.recover()
        assert m[5 * PAGE :] == known_bytes(SIZE)[5 * PAGE :]


def write_over(path: str, content: bytes) -> None:
    with Path(path).open("r+b") as file:
        file.write(content)


def recover_while_threads_read(path: str) -> None:
    content = known_bytes(SIZE)
    Path(path).write_bytes(content)
    m = MemoryMapping.from_file(path)
    array = np.frombuffer(m, np.uint8)
    expected = int(np.frombuffer(content, np.uint8).sum())

    def read() -> None:
        with contextlib.suppress(MappingFaultError), m.fault_guard():
            assert 0 < int(array.sum()) <= expected

    def copy() -> None:
        with contextlib.suppress(MappingFaultError):
            assert set(m[5 * PAGE : 6 * PAGE]) != {0}

    def cut_and_recover() -> None:
        os.truncate(path, KEPT * PAGE)
        time.sleep(0.0005)
        write_over(path, content)
        m.recover()

    run_for(1, read, read, copy, cut_and_recover)
    m.recover()
    assert m[:] == content


@pytest.mark.race
def test_recover_while_threads_read_under_guards_is_survived(disk_path: Path) -> None:
    in_process(recover_while_threads_read, disk_path / "cut", measured=False).succeeded()


def test_region_that_lost_pages_is_closed_without_a_trace(whole_file: int) -> None:
    with process_unchanged():
        for make in REGIONS.values():
            m = make(whole_file)
            address = m.as_ptr()
            lose(m, whole_file)
            m.close()
            del m
            assert not is_mapped(address, SIZE)
            grow_again(whole_file)
