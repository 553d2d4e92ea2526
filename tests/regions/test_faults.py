"""Pages that cannot be read in: an error of the library's own calls, zeros under a guard.

Files are cut short under their mappings. What may kill the process runs in one of its own.
"""

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_programs import run_faulting
from files import memory_file
from kernel_view import (
    PAGE,
    KnownFile,
    in_process,
    is_mapped,
    known_bytes,
    process_unchanged,
    say,
)
from lost_pages import SIZE, fault_of
from marks import COPIES_ARE_REORDERED

import mmapwrap
from mmapwrap import (
    Advice,
    BadAddressError,
    ClosedMappingError,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    Protection,
)

KEPT = 8  # pages of the 16 that are left when the file has been cut
END = KEPT * PAGE


@pytest.fixture
def lost(known_file: KnownFile) -> Iterator[MemoryMapping]:
    """A mapping of 16 pages, of which the file has lost the second half."""
    with MemoryMapping.from_file(known_file.path) as m:
        os.truncate(known_file.path, END)
        yield m


def touch_in_guard(m: MappedRegion, offset: int) -> None:
    """Read a byte of a view under a guard."""
    with m.fault_guard(), m.view() as view:
        assert view[offset] == 0


def touch_after_truncating(m: MappedRegion, path: Path) -> None:
    os.truncate(path, END)
    touch_in_guard(m, 9 * PAGE)


# The library's own calls


def _slice(m: MappedRegion, page: int, pages: int = 1) -> mmapwrap.VolatileSlice:
    return m.get_slice(page * PAGE, pages * PAGE)


def _assign(m: MappedRegion, key: Any, value: Any) -> None:
    m[key] = value


# Each call, and the first lost page that it meets.
USES: dict[str, tuple[Callable[[MemoryMapping], object], int]] = {
    "index": (lambda m: m[9 * PAGE + 7], 9),
    "index from the end": (lambda m: m[-1], 15),
    "slice": (lambda m: m[:], 8),
    "slice of a page": (lambda m: m[10 * PAGE : 11 * PAGE], 10),
    "slice with steps": (lambda m: m[7 * PAGE :: 2 * PAGE], 8),
    "assign to an index": (lambda m: _assign(m, 9 * PAGE, 1), 9),
    "assign to a slice": (lambda m: _assign(m, slice(END - 1, END + 1), b"ab"), 8),
    "read_slice": (lambda m: m.read_slice(bytearray(3 * PAGE), 7 * PAGE), 8),
    "write_slice": (lambda m: m.write_slice(b"a" * 3 * PAGE, 7 * PAGE), 8),
    "read_exact": (lambda m: m.read_exact(bytearray(3 * PAGE), 7 * PAGE), 8),
    "write_all": (lambda m: m.write_all(b"a" * 3 * PAGE, 7 * PAGE), 8),
    "read_obj": (lambda m: m.read_obj(mmapwrap.u32, 12 * PAGE + 1), 12),
    "read_obj across": (lambda m: m.read_obj(mmapwrap.be_f64, END - 4), 8),
    "read_obj across two": (lambda m: m.read_obj(mmapwrap.i64, 9 * PAGE - 1), 8),
    "write_obj": (lambda m: m.write_obj(mmapwrap.u8, 1, END), 8),
    "write_obj across": (lambda m: m.write_obj(mmapwrap.f32, 1.0, END - 2), 8),
    "read_obj_volatile": (lambda m: m.read_obj_volatile(mmapwrap.u64, 9 * PAGE), 9),
    "read_obj_volatile f32": (lambda m: m.read_obj_volatile(mmapwrap.f32, 9 * PAGE), 9),
    "write_obj_volatile": (lambda m: m.write_obj_volatile(mmapwrap.i16, 1, 9 * PAGE), 9),
    "find": (lambda m: m.find(b"\xff"), 8),
    "find where it is not": (lambda m: m.find(b"\xff", 0, 9 * PAGE), 8),
    "find of zeros": (lambda m: m.find(b"\0\0"), 8),
    "rfind": (lambda m: m.rfind(b"\xff"), 8),
    "is_all_zero": (lambda m: m.is_all_zero(END), 8),
    "is_all_zero of a page": (lambda m: m.is_all_zero(9 * PAGE + 5, 100), 9),
    "load": (lambda m: _slice(m, 9).load(mmapwrap.u16, 8), 9),
    "store": (lambda m: _slice(m, 9).store(mmapwrap.u16, 1, 8), 9),
    "load_many": (lambda m: _slice(m, 7, 3).load_many(mmapwrap.u64, PAGE // 4, 8), 8),
    "load_many of bytes": (lambda m: _slice(m, 9).load_many(mmapwrap.i8, 1, 7), 9),
    "store_many": (lambda m: _slice(m, 7, 3).store_many(mmapwrap.be_u16, [1] * PAGE), 8),
    "read_exact of a slice": (lambda m: _slice(m, 7, 3).read_exact(bytearray(3 * PAGE)), 8),
    "write_all of a slice": (lambda m: _slice(m, 7, 3).write_all(b"a" * PAGE, PAGE + 1), 8),
    "write_bytes": (lambda m: _slice(m, 7, 3).write_bytes(1), 8),
    "copy_to": (lambda m: _slice(m, 7, 3).copy_to(bytearray(9 * PAGE)), 8),
    "copy_from": (lambda m: _slice(m, 7, 3).copy_from(b"a" * 9 * PAGE), 8),
    "is_all_zero of a slice": (lambda m: _slice(m, 8, 2).is_all_zero(), 8),
    "compared": (lambda m: _slice(m, 8, 2) == _slice(m, 10, 2), 10),
    "array copied": (lambda m: m.__array__(copy=True), 8),
    "array of another type": (lambda m: m.__array__(np.uint16), 8),
    "copy between": (lambda m: _slice(m, 0, 2).copy_to_volatile_slice(_slice(m, 10, 2)), 10),
}

every_use = pytest.mark.parametrize("use", list(USES))


def assert_lost_page_is_told(use: str, m: MemoryMapping) -> None:
    call, first = USES[use]
    error = fault_of(lambda: call(m))
    if use == "compared":  # both sides are lost: which is read first is the C library's affair
        assert error.offset in (8 * PAGE, 10 * PAGE)
    else:
        assert error.offset == first * PAGE
    assert error.pages == 1


@every_use
def test_lost_page_is_an_error_with_its_place_and_number(use: str, lost: MemoryMapping) -> None:
    assert_lost_page_is_told(use, lost)


@every_use
def test_call_that_met_a_lost_page_works_when_the_file_has_grown_again(
    use: str, lost: MemoryMapping, known_file: KnownFile
) -> None:
    call, _ = USES[use]
    for _ in range(2):
        assert_lost_page_is_told(use, lost)
        assert lost[: 7 * PAGE] == known_file.content[: 7 * PAGE]
    os.truncate(known_file.path, 16 * PAGE)
    call(lost)
    gc.collect()  # the errors hold the frames, and those an array
    assert (lost.size, lost.closed, lost.live_views) == (16 * PAGE, False, 0)


@every_use
def test_lost_page_is_an_error_where_protection_differs_by_range(
    use: str, lost: MemoryMapping
) -> None:
    lost.protect(Protection.read(), PAGE, PAGE)
    assert_lost_page_is_told(use, lost)


@pytest.mark.not_sanitized(COPIES_ARE_REORDERED)
def test_lost_page_changes_nothing_of_the_file(lost: MemoryMapping, known_file: KnownFile) -> None:
    error = fault_of(lambda: lost.write_slice(b"\xff" * 3 * PAGE, 7 * PAGE))
    assert (error.offset, error.pages) == (END, 1)
    assert known_file.path.stat().st_size == END
    expected = known_file.content[: 7 * PAGE] + b"\xff" * PAGE
    assert known_file.path.read_bytes() == expected


def test_page_that_is_there_is_no_error(lost: MemoryMapping, known_file: KnownFile) -> None:
    assert lost[:END] == known_file.content[:END]
    lost[END - 1] = 1
    assert lost.find(b"\1\2") == 0
    assert not lost.is_all_zero()  # it need not look further than the first byte
    assert lost.read_obj(mmapwrap.u8, END - 1) == 1


def test_file_that_ends_inside_a_page_reads_as_zeros_up_to_its_end(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        os.truncate(known_file.path, END + 10)
        assert m[END : END + PAGE] == known_file.content[END : END + 10] + bytes(PAGE - 10)
        assert fault_of(lambda: m[END + PAGE]).offset == END + PAGE


@pytest.mark.parametrize("start", [5, PAGE - 1, PAGE + 5])
def test_fault_in_a_region_that_starts_inside_a_page_is_told_from_its_start(
    start: int, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, offset=start) as m:
        os.truncate(known_file.path, END)
        error = fault_of(lambda: m[END - start])
        assert (error.offset, error.pages) == (END - start, 1)
    with MemoryMapping.from_file(known_file.path, offset=start) as m:
        os.truncate(known_file.path, 0)
        error = fault_of(lambda: m[0])
        assert (error.offset, error.pages) == (0, 1)


def test_fault_far_into_a_large_region_is_told_from_its_start(disk_path: Path) -> None:
    path, size = disk_path / "large", 1 << 40
    path.touch()
    os.truncate(path, size)
    with MemoryMapping.from_file(path) as m:
        os.truncate(path, 0)
        error = fault_of(lambda: m[size - PAGE - 1 : size - PAGE + 1])
        assert (error.offset, error.pages) == (size - 2 * PAGE, 1)


def test_fault_in_a_guard_is_every_calls_until_the_region_recovers(
    lost: MemoryMapping, known_file: KnownFile
) -> None:
    part = lost.get_slice(0, 16)
    first = fault_of(lambda: touch_in_guard(lost, 9 * PAGE))
    os.truncate(known_file.path, 16 * PAGE)
    calls: list[Callable[[], object]] = [
        lambda: lost[0],
        lambda: lost[0:1],
        lambda: _assign(lost, 0, 1),
        lambda: lost.read_slice(bytearray(1), 0),
        lambda: lost.write_slice(b"a", 0),
        lambda: lost.read_exact(bytearray(1), 0),
        lambda: lost.write_all(b"a", 0),
        lambda: lost.read_obj(mmapwrap.u32, 0),
        lambda: lost.write_obj(mmapwrap.f64, 1.0, 0),
        lambda: lost.read_obj_volatile(mmapwrap.u32, 0),
        lambda: lost.write_obj_volatile(mmapwrap.u32, 1, 0),
        lambda: lost.find(b"\1"),
        lambda: lost.rfind(b"\1"),
        lambda: lost.is_all_zero(0, 1),
        lambda: lost.view(0, 1),
        lambda: np.asarray(lost),
        lambda: lost.flush_region(0, 1),
        lost.msync,
        lambda: lost.advise(Advice.NORMAL),
        lambda: lost.protect(Protection.read()),
        lambda: lost.populate(0, PAGE),
        lost.residency,
        lambda: lost.lock(0, PAGE),
        lost.evict,
        lambda: lost.remove_range(0, PAGE),
        lambda: lost.fault_guard().__enter__(),
        lambda: part.load(mmapwrap.u8, 0),
        lambda: part.store(mmapwrap.u8, 1, 0),
        lambda: part.load_many(mmapwrap.u8, 1),
        lambda: part.store_many(mmapwrap.u8, [1]),
        lambda: part.read_exact(bytearray(1)),
        lambda: part.write_all(b"a"),
        lambda: part.copy_to(bytearray(1)),
        lambda: part.copy_from(b"a"),
        lambda: part.write_bytes(1),
        part.is_all_zero,
        lambda: part == part.offset(0),
        lambda: part.read_from_fd(0),
        lambda: part.write_to_fd(1),
        lost.into_arena,
    ]
    for call in calls:
        error = fault_of(call)
        assert (error.offset, error.pages) == (first.offset, first.pages) == (9 * PAGE, 1)
    assert (lost.size, lost.closed, lost.live_views) == (16 * PAGE, False, 0)
    lost.recover()
    assert lost[:END] == known_file.content[:END]
    assert lost.is_all_zero(END)
    fault_of(lambda: touch_after_truncating(lost, known_file.path))
    lost.close()
    with pytest.raises(ClosedMappingError):
        lost[0]
    with pytest.raises(ClosedMappingError):
        lost.recover()
    assert fault_of(part.is_all_zero).offset == 9 * PAGE


def test_fault_of_one_region_leaves_the_others_alone(
    lost: MemoryMapping, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path) as other:
        fault_of(lambda: lost[END])
        assert other[:] == known_file.content[:END]
        other[0] = 0xFF
    with MemoryMapping.from_file(known_file.path) as again:
        assert again[0] == 0xFF


def test_closed_after_a_fault_leaves_nothing_mapped(known_file: KnownFile) -> None:
    with process_unchanged():
        for _ in range(20):
            os.truncate(known_file.path, 16 * PAGE)
            m = MemoryMapping.from_file(known_file.path)
            address = m.as_ptr()
            os.truncate(known_file.path, END)
            with suppress(MappingFaultError):
                m[:]
            m.close()
            assert not is_mapped(address, 16 * PAGE)


def test_fault_of_an_arena_is_told_from_the_arenas_start(known_file: KnownFile) -> None:
    with MemoryMappingArena.new(8 * PAGE) as arena, known_file.path.open("r+b") as file:
        arena.add_fd_offset(2 * PAGE, 2 * PAGE, file, 7 * PAGE)
        os.truncate(known_file.path, END)
        assert arena[2 * PAGE : 3 * PAGE] == known_file.content[7 * PAGE : END]
        error = fault_of(lambda: arena[2 * PAGE : 4 * PAGE])
        assert (error.offset, error.pages) == (3 * PAGE, 1)


# Two regions


def test_copy_out_of_lost_pages_is_an_error_with_their_place(lost: MemoryMapping) -> None:
    with MemoryMapping.new(16 * PAGE) as sound:
        source, target = lost.get_slice(7 * PAGE, 3 * PAGE), sound.get_slice(0, 16 * PAGE)
        error = fault_of(lambda: source.copy_to_volatile_slice(target))
        assert (error.offset, error.pages) == (END, 1)
        assert lost[:PAGE] == known_bytes(PAGE)
        assert sound[-1] == 0
        error = fault_of(lambda: source.copy_to_volatile_slice(target))
        assert (error.offset, error.pages) == (END, 1)


def test_copy_into_lost_pages_is_an_error_with_their_place(lost: MemoryMapping) -> None:
    with MemoryMapping.new(16 * PAGE) as sound:
        source, target = sound.get_slice(PAGE, 3 * PAGE), lost.get_slice(7 * PAGE, 16)
        assert source.copy_to_volatile_slice(target) == 16
        target = lost.get_slice(7 * PAGE, 3 * PAGE)
        error = fault_of(lambda: source.copy_to_volatile_slice(target))
        assert (error.offset, error.pages) == (END, 1)
        assert sound.is_all_zero()
        assert lost[:PAGE] == known_bytes(PAGE)
        error = fault_of(lambda: source.copy_to_volatile_slice(target))
        assert (error.offset, error.pages) == (END, 1)


@pytest.mark.parametrize("first", ["lost", "sound"])
def test_comparison_with_lost_pages_is_an_error_with_their_place(
    first: str, lost: MemoryMapping
) -> None:
    with MemoryMapping.new(PAGE) as sound:
        pair = [lost.get_slice(9 * PAGE, PAGE), sound.get_slice(0, PAGE)]
        left, right = pair if first == "lost" else reversed(pair)
        for _ in range(2):
            error = fault_of(lambda: left == right)
            assert (error.offset, error.pages) == (9 * PAGE, 1)
        assert sound.is_all_zero()


def test_callers_buffer_in_lost_pages_is_a_bad_address(lost: MemoryMapping) -> None:
    view = lost.view(9 * PAGE, PAGE)
    with MemoryMapping.new(2 * PAGE) as sound:
        sound[:] = known_bytes(2 * PAGE)
        calls: list[Callable[[], object]] = [
            lambda: sound.read_slice(view, 0),
            lambda: sound.write_slice(view, 0),
            lambda: sound.find(view),
            lambda: sound.rfind(view),
            lambda: sound.get_slice(0, PAGE).copy_to(view),
            lambda: sound.get_slice(0, PAGE).copy_from(view),
        ]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        for call in calls:
            with pytest.raises(BadAddressError):
                call()
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        assert sound[:] == known_bytes(2 * PAGE)
        sound.read_slice(lost.view(0, PAGE), 0)
    assert lost[:PAGE] == known_bytes(PAGE)


def test_callers_buffer_in_lost_pages_under_a_guard_is_zeros(lost: MemoryMapping) -> None:
    view = lost.view(9 * PAGE, PAGE)

    def copy() -> None:
        with MemoryMapping.new(PAGE) as sound:
            sound[:] = known_bytes(PAGE)
            with lost.fault_guard():
                assert sound.write_slice(view, 0) == PAGE
                assert sound.is_all_zero()

    error = fault_of(copy)
    assert (error.offset, error.pages) == (9 * PAGE, 1)


# Under a guard


def test_guard_reads_lost_pages_as_zeros_and_raises_at_its_end(
    lost: MemoryMapping, known_file: KnownFile
) -> None:
    view, array = lost.view(), np.asarray(lost)
    seen: list[object] = []

    def guarded() -> None:
        with lost.fault_guard():
            seen.append(bytes(view[7 * PAGE : 9 * PAGE]))
            seen.append(int(array[10 * PAGE : 12 * PAGE].sum()))
            seen.append(view[-1])
            seen.append("end")

    error = fault_of(guarded)
    assert seen == [known_file.content[7 * PAGE : END] + bytes(PAGE), 0, 0, "end"]
    assert (error.offset, error.pages) == (END, 4)
    assert error.__context__ is None
    assert fault_of(lambda: lost[0]).pages == 4


def test_guard_keeps_what_is_written_to_lost_pages_from_the_file(
    lost: MemoryMapping, known_file: KnownFile
) -> None:
    view = lost.view()

    def guarded() -> None:
        with lost.fault_guard():
            view[0] = 0xFF
            view[END : END + 3] = b"abc"
            view[7 * PAGE] = 0xFE
            assert bytes(view[END : END + 4]) == b"abc\0"

    fault_of(guarded)
    expected = bytearray(known_file.content[:END])
    expected[0], expected[7 * PAGE] = 0xFF, 0xFE
    assert known_file.path.read_bytes() == expected


def test_guard_without_faults_does_nothing(lost: MemoryMapping, known_file: KnownFile) -> None:
    view = lost.view()
    guard = lost.fault_guard()
    for _ in range(3):
        with guard:
            assert view[0] == known_file.content[0]
    with MemoryMapping.new(PAGE) as m, m.fault_guard():
        m.view()[0] = 1
    assert lost[:END] == known_file.content[:END]


def test_guard_in_many_threads_counts_each_page_once(lost: MemoryMapping) -> None:
    view = lost.view()
    barrier = threading.Barrier(8)
    sums: list[int] = []

    def touch(first: int) -> None:
        barrier.wait()
        sums.append(sum(view[END + page % 8 * PAGE] for page in range(first, first + 8)))
        sums.append(int(np.frombuffer(view[END:], np.uint8).sum()))

    def guarded() -> None:
        with lost.fault_guard():
            threads = [threading.Thread(target=touch, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    error = fault_of(guarded)
    assert (error.offset, error.pages) == (END, 8)
    assert sums == [0] * 16


def test_page_that_threads_meet_at_once_is_counted_once(disk_path: Path) -> None:
    path, pages = disk_path / "met at once", 2048
    path.touch()
    for _ in range(5):
        os.truncate(path, pages * PAGE)
        with MemoryMapping.from_file(path) as m:
            os.truncate(path, 0)
            # One thread meets the pages, the others catch up: NumPy lets them run side by side.
            touch = np.asarray(m).any

            def guarded(m: MemoryMapping = m, touch: Callable[[], object] = touch) -> None:
                with m.fault_guard():
                    threads = [threading.Thread(target=touch) for _ in range(4)]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()

            error = fault_of(guarded)
            assert (error.offset, error.pages) == (0, pages)


def test_copies_in_many_threads_are_each_right_or_an_error_of_their_own(
    lost: MemoryMapping,
) -> None:
    barrier = threading.Barrier(8)
    results: list[object] = []

    def copy() -> None:
        barrier.wait()
        for page in range(6, 10):
            try:
                results.append(
                    lost[page * PAGE : page * PAGE + PAGE] == known_bytes(END)[page * PAGE :][:PAGE]
                )
            except MappingFaultError as error:
                results.append((error.offset, error.pages))

    threads = [threading.Thread(target=copy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 32
    assert [results.count(result) for result in (True, (END, 1), (END + PAGE, 1))] == [16, 8, 8]
    assert lost[:END] == known_bytes(END)


def test_guard_around_another_error_keeps_it_as_the_context(lost: MemoryMapping) -> None:
    view = lost.view()

    def guarded(place: int) -> None:
        with lost.fault_guard():
            raise ZeroDivisionError(view[place])

    with pytest.raises(ZeroDivisionError):
        guarded(0)
    error = fault_of(lambda: guarded(END))
    assert isinstance(error.__context__, ZeroDivisionError)


def test_guard_lets_a_fault_of_the_librarys_own_calls_through(lost: MemoryMapping) -> None:
    raised: list[MappingFaultError] = []

    def guarded() -> None:
        with lost.fault_guard():
            try:
                lost[9 * PAGE]
            except MappingFaultError as error:
                raised.append(error)
                raise

    assert fault_of(guarded) is raised[0]


def test_copy_inside_a_guard_fails_alone(lost: MemoryMapping) -> None:
    view = lost.view()
    with lost.fault_guard():
        error = fault_of(lambda: lost[7 * PAGE :])
        assert (error.offset, error.pages) == (END, 1)
        assert view[0] == lost[0] == 1
    assert lost[:END] == known_bytes(END)

    def guarded() -> None:
        with lost.fault_guard():
            fault_of(lambda: lost[END])
            assert view[10 * PAGE] == 0  # the guard's own

    error = fault_of(guarded)
    assert (error.offset, error.pages) == (10 * PAGE, 1)
    assert fault_of(lambda: lost[0]).offset == 10 * PAGE


def test_fault_says_how_long_the_file_is_now(lost: MemoryMapping, known_file: KnownFile) -> None:
    expected = f"the file has {END} bytes now, and the page starts at byte {9 * PAGE} of it"
    remedy = "; a fault guard has put zeros there until recover() maps the pages anew"
    for call, more in (
        (lambda: lost[9 * PAGE + 5], ""),
        (lambda: touch_in_guard(lost, 9 * PAGE), remedy),
    ):
        error = fault_of(call)
        assert error.hint == expected + more
        assert str(error).endswith(f"; {expected}{more}")
    with MemoryMapping.from_file(known_file.path, END - 2 * PAGE - 5, offset=2 * PAGE + 5) as part:
        os.truncate(known_file.path, 3 * PAGE)
        error = fault_of(lambda: part.find(b"\xff"))
        assert error.offset == PAGE - 5
        expected = (
            f"the file has {3 * PAGE} bytes now, and the page starts at byte {3 * PAGE} of it"
        )
        assert error.hint == expected


def test_guards_nested_on_one_region_raise_at_the_inner_end(lost: MemoryMapping) -> None:
    view = lost.view()
    reached: list[str] = []

    def guarded() -> None:
        with lost.fault_guard():
            with lost.fault_guard():
                assert view[0] == 1
            assert view[END] == 0  # still guarded
            with suppress(MappingFaultError), lost.fault_guard():
                reached.append("inner")
            assert view[END + PAGE] == 0
            reached.append("outer")

    error = fault_of(guarded)
    assert (error.offset, error.pages) == (END, 2)
    assert reached == ["outer"]


def test_guards_of_two_regions_tell_them_apart(known_file: KnownFile, disk_path: Path) -> None:
    path = disk_path / "other"
    path.write_bytes(known_bytes(4 * PAGE))
    with MemoryMapping.from_file(known_file.path) as one, MemoryMapping.from_file(path) as other:
        os.truncate(known_file.path, END)
        os.truncate(path, PAGE)
        view, other_view = one.view(), other.view()

        def guarded() -> None:
            with one.fault_guard():
                with other.fault_guard():
                    assert other_view[3 * PAGE] == 0
                pytest.fail("the inner guard was silent")

        error = fault_of(guarded)
        assert (error.offset, error.pages) == (3 * PAGE, 1)
        assert one[0] == 1

        def both() -> None:
            with one.fault_guard():
                assert view[END] == 0

        assert fault_of(both).offset == END


def test_guard_of_a_region_that_is_closed_inside_still_guards(lost: MemoryMapping) -> None:
    view, address = lost.view(), lost.as_ptr()

    def guarded() -> None:
        with lost.fault_guard():
            lost.close()
            assert view[END] == 0

    assert fault_of(guarded).offset == END
    view.release()
    gc.collect()  # the error holds the frames, and those the guard
    assert not is_mapped(address, 16 * PAGE)


def test_guard_of_a_closed_region_is_refused(lost: MemoryMapping) -> None:
    early = lost.fault_guard()
    lost.close()
    with pytest.raises(ClosedMappingError):
        lost.fault_guard().__enter__()
    with early:  # it holds the pages
        pass


def test_guard_left_more_often_than_entered_is_no_guard(lost: MemoryMapping) -> None:
    guard = lost.fault_guard()
    guard.__exit__(None, None, None)
    view = lost.view()
    with guard:
        assert view[0] == 1
    guard.__exit__(None, None, None)
    assert fault_of(lambda: lost[END]).pages == 1


def test_guard_that_was_never_entered_takes_no_other_away(lost: MemoryMapping) -> None:
    def leave_another() -> int:
        with lost.fault_guard():
            lost.fault_guard().__exit__(None, None, None)
            return lost.view()[END]

    assert fault_of(leave_another).pages == 1


def test_write_of_lost_pages_to_a_file_is_a_fault(lost: MemoryMapping, disk_path: Path) -> None:
    part = lost.get_slice(0, len(lost))
    with (disk_path / "written").open("wb", buffering=0) as file:
        error = fault_of(lambda: part.write_to_fd(file))
    assert (error.offset, error.pages) == (END, 1)


def test_guard_of_an_arena_covers_what_it_holds(known_file: KnownFile) -> None:
    with MemoryMappingArena.new(8 * PAGE) as arena, known_file.path.open("r+b") as file:
        arena.add_fd_offset(2 * PAGE, 2 * PAGE, file, 7 * PAGE)
        view = arena.view(2 * PAGE, 2 * PAGE)
        os.truncate(known_file.path, END)

        def guarded() -> None:
            with arena.fault_guard():
                assert bytes(view[PAGE - 1 : PAGE + 1]) == known_file.content[END - 1 : END] + b"\0"

        error = fault_of(guarded)
        assert (error.offset, error.pages) == (3 * PAGE, 1)


def test_hole_of_a_file_that_cannot_be_filled_is_a_fault(small_filesystem: Path) -> None:
    path, size = small_filesystem / "holes", 1 << 20
    path.touch()
    os.truncate(path, size)
    with MemoryMapping.from_file(path) as m:
        error = fault_of(lambda: m.write_slice(b"a" * size, 0))
    content = path.read_bytes()
    pages = [content[start : start + PAGE] for start in range(0, size, PAGE)]
    lost = [number for number, page in enumerate(pages) if page == bytes(PAGE)]
    assert (error.offset, error.pages) == (lost[0] * PAGE, 1)
    assert error.hint == "no space is left on its device"
    # What there was room for was written, from whichever end the copy started.
    assert pages.count(b"a" * PAGE) == len(pages) - len(lost)
    assert 0 < len(pages) - len(lost) <= 64 * 1024 // PAGE


def copy_of_a_truncated_file() -> None:
    fd = memory_file(bytes(2 * PAGE))
    with MemoryMapping.from_fd(fd, 2 * PAGE) as m:
        os.ftruncate(fd, 0)
        say(fault_of(lambda: bytes(m)).offset)


def test_bytes_of_a_truncated_file_is_a_mapping_fault() -> None:
    assert in_process(copy_of_a_truncated_file).succeeded() == "0\n"


def interrupt_guards() -> None:
    """Ctrl-C in the middle of entering and leaving a guard."""
    fd = memory_file(bytes(SIZE))
    m = MemoryMapping.from_fd(fd, SIZE)
    view = m.view()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    chance = random.Random(1)
    interruptions, end = 0, time.monotonic() + 1
    while time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, 3e-6 + chance.random() * 2e-5)
            while True:
                with m.fault_guard():
                    pass
        except KeyboardInterrupt:
            interruptions += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert interruptions > 100
    os.ftruncate(fd, 0)
    say("no guard is left")
    say(view[0])  # the end of the process, as of every view outside of a guard


@pytest.mark.race
def test_guard_whose_entry_or_exit_is_interrupted_is_left() -> None:
    ended = in_process(interrupt_guards, measured=False)
    assert (ended.output, ended.killed_by) == ("no guard is left\n", "SIGBUS"), ended.errors


# What others do, each in a process of its own


@pytest.mark.parametrize(
    "access",
    [
        "lost().view()[9 * PAGE]",
        "np.asarray(lost())[END:].sum()",
        "m = lost(); m.fault_guard().__enter__(); lost().view()[9 * PAGE]",
    ],
)
def test_raw_view_outside_its_guard_dies_as_ever(access: str, known_file: KnownFile) -> None:
    ended = run_faulting(f"END = 8 * PAGE\n{access}", known_file)
    assert ended.killed_by == "SIGBUS"
    assert ended.errors == ""


def test_raw_view_after_its_guard_dies_as_ever(known_file: KnownFile) -> None:
    program = """
        m = lost()
        view = m.view()
        fault(lambda: guarded(m))
        print(view[9 * PAGE], flush=True)  # the page of zeros stays
        view[10 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "9 1\n0\n"
    assert ended.killed_by == "SIGBUS"


def test_guard_that_is_never_left_goes_with_its_region(known_file: KnownFile) -> None:
    program = """
        def forget():
            m = lost()
            view, guard = m.view(), m.fault_guard()
            guard.__enter__()
            assert view[9 * PAGE] == 0
            return m.as_ptr()

        addresses = {forget() for _ in range(50)}
        m = lost()
        assert m.as_ptr() in addresses  # where guarded regions were
        fault(lambda: guarded(lost()))
        print(flush=True)
        m.view()[9 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "9 1\n\n"
    assert ended.killed_by == "SIGBUS"


def test_crash_in_memory_of_others_is_theirs(known_file: KnownFile) -> None:
    program = """
        import ctypes
        fault(lambda: lost()[9 * PAGE])
        m = lost()
        with m.fault_guard():
            ctypes.string_at(16)
    """
    ended = run_faulting(program, known_file)
    assert ended.killed_by == "SIGSEGV"
    assert ended.output == "9 1\n"


def test_other_mapping_of_the_same_file_is_not_guarded(known_file: KnownFile) -> None:
    program = """
        import mmap
        m = lost()
        with open(sys.argv[1], "r+b") as file:
            os.truncate(sys.argv[1], 16 * PAGE)
            theirs = mmap.mmap(file.fileno(), 0)
            os.truncate(sys.argv[1], 8 * PAGE)
        view = m.view()
        with m.fault_guard():
            assert view[9 * PAGE] == 0
            print("guarded", flush=True)
            theirs[9 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "guarded\n"
    assert ended.killed_by == "SIGBUS"


def test_guard_holds_in_a_forked_child_and_its_faults_are_the_childs(
    known_file: KnownFile,
) -> None:
    program = """
        m = lost()
        view = m.view()
        with m.fault_guard():
            pid = os.fork()
            if pid == 0:
                assert view[9 * PAGE] == 0
                try:
                    m[0]
                except MappingFaultError as error:
                    os._exit(error.offset // PAGE)
                os._exit(100)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        assert m[0] == 1
        pid = os.fork()
        if pid == 0:
            try:
                m[10 * PAGE]
            except MappingFaultError as error:
                os._exit(error.offset // PAGE)
            os._exit(100)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
        assert m[0] == 1
    """
    assert run_faulting(program, known_file).succeeded() == ""


@pytest.mark.race
def test_fork_while_other_threads_meet_faults_hangs_nobody(
    known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Measuring starts anew in each forked child, and hangs there on locks of the other threads.
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)
    program = """
        import threading
        stop = False

        def meet():
            while not stop:
                try:
                    lost()[:]
                except (MappingFaultError, ValueError):
                    pass

        threads = [threading.Thread(target=meet) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                m = lost()
                try:
                    m[9 * PAGE]
                except (MappingFaultError, ValueError):
                    pass
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop = True
        for thread in threads:
            thread.join()
        print("done")
    """
    assert run_faulting(program, known_file).succeeded() == "done\n"


def test_file_cut_and_grown_while_it_is_read_is_right_or_an_error(known_file: KnownFile) -> None:
    program = """
        import threading
        from kernel_view import known_bytes
        stop = False

        def cut():
            while not stop:
                os.truncate(sys.argv[1], 8 * PAGE)
                os.truncate(sys.argv[1], 16 * PAGE)

        content = known_bytes(8 * PAGE)
        os.truncate(sys.argv[1], 8 * PAGE)
        thread = threading.Thread(target=cut, daemon=True)
        thread.start()
        faults = 0
        file = open(sys.argv[1], "r+b")
        while faults < 20:
            m = MemoryMapping.from_file(file, 8 * PAGE)
            whole = MemoryMapping.from_fd(file, 16 * PAGE)
            try:
                while True:
                    assert m[:] == content
                    assert whole[:] == content + bytes(8 * PAGE)
            except MappingFaultError as error:
                assert error.offset >= 8 * PAGE
                faults += 1
        stop = True
        thread.join()
        print("done")
    """
    assert run_faulting(program, known_file).succeeded() == "done\n"


# Protection that somebody takes away behind the library's back


def test_memory_that_another_party_made_unreadable_is_an_error_and_not_a_signal(
    known_file: KnownFile,
) -> None:
    program = """
        import ctypes
        import mmapwrap as mw

        libc = ctypes.CDLL(None, use_errno=True)

        def mprotect(address, prot):
            assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), prot) == 0

        m, sound = MemoryMapping.new(PAGE), MemoryMapping.new(PAGE)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        part, other = m.get_slice(0, 100), sound.get_slice(0, 100)
        view = m.view()
        reads = [
            lambda: m[0], lambda: m[:], lambda: m.read_obj(mw.u64, 0), lambda: m.find(b"a"),
            lambda: m.rfind(b"a"), m.is_all_zero, lambda: m.read_obj_volatile(mw.f64, 0),
            lambda: part.copy_to_volatile_slice(other), lambda: part == other, m.flush_all,
        ]
        writes = [
            lambda: m.__setitem__(0, 1), lambda: m.write_slice(b"a", 0),
            lambda: m.write_obj(mw.u32, 1, 0), lambda: part.write_bytes(1),
        ]
        others = [
            lambda: other.copy_to_volatile_slice(part), lambda: other == part,
            lambda: sound.read_slice(view, 0), lambda: sound.write_slice(view, 0),
        ]
        for needed, calls in (("read", reads), ("write", writes)):
            mprotect(m.as_ptr(), 0 if needed == "read" else 1)
            for call in calls:
                try:
                    call()
                except mw.ProtectionError as error:
                    required = mw.Protection.read() if needed == "read" else mw.Protection.write()
                    assert error.required == required, error
                else:
                    raise SystemExit("no error")
                assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        mprotect(m.as_ptr(), 0)
        for call in others:
            try:
                call()
            except mw.BadAddressError:
                pass
            else:
                raise SystemExit("no error")
        mprotect(m.as_ptr(), 3)
        assert m.is_all_zero()
        part.write_bytes(7)
        assert m[0] == view[0] == 7
        print("done")
    """
    assert run_faulting(program, known_file).succeeded() == "done\n"
