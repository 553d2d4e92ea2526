"""Access to an arena: what its segments do not allow is an error, and never a signal."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from arena_view import assert_as_the_kernel_lists, unchanged
from kernel_view import PAGE, KnownFile, amount, in_process, is_mapped, known_bytes, say
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    Err,
    MappedRegion,
    MemoryMapping,
    MemoryMappingArena,
    Ok,
    Protection,
    ProtectionError,
    UnsupportedByKernelError,
    ViewsExportedError,
    VolatileSlice,
    attempt,
    be_f32,
    f64,
    i64,
    le_u64,
    u8,
    u64,
)

EXECUTE = Protection(executable=True)

# What each page of the arena under test allows, and whether a file is behind it; None: a hole.
LAYOUT: list[tuple[Protection, bool] | None] = [
    (RW, False),
    (RW, True),
    None,
    (READ, False),
    (READ, True),
    (WRITE, False),
    (NONE, False),
    (RW, True),
    None,
    None,
    (EXECUTE, False),
    (WRITE, True),
]
SIZE = len(LAYOUT) * PAGE


def laid_out(path: Path) -> MemoryMappingArena:
    """An arena of the layout above; the bytes of the file are at their own place in it."""
    arena = MemoryMappingArena.new(SIZE)
    fd = os.open(path, os.O_RDWR)
    for page, held in enumerate(LAYOUT):
        if held is not None and held[1]:
            arena.add_fd_offset_protection(page * PAGE, PAGE, fd, page * PAGE, held[0])
        elif held is not None:
            arena.add_anon_protection(page * PAGE, PAGE, held[0])
    os.close(fd)
    return arena


def allowed(offset: int, count: int) -> int:
    """The PROT_* bits of every byte of a range of that arena."""
    bits = int(Protection(readable=True, writable=True, executable=True))
    for page in range(offset // PAGE, -(-(offset + count) // PAGE)):
        held = LAYOUT[page]
        bits &= 0 if held is None else int(held[0])
    return bits


# Each way to touch a range. Those with a width touch as many bytes, and no others.


@attrs.frozen
class Access:
    """A call of the library that touches a range of a region."""

    need: Protection
    run: Callable[[MappedRegion, int, int], object]
    width: int | None = None
    whole_pages: bool = False


def _spare() -> VolatileSlice:
    """Memory to copy to and from, as much as any range has."""
    return MemoryMapping.new(SIZE).get_slice(0, SIZE)


def _transfer(flags: int, run: Callable[[int], object]) -> object:
    fd = os.open("/dev/zero", flags)
    try:
        return run(fd)
    finally:
        os.close(fd)


def _set(region: MappedRegion, key: Any, value: Any) -> None:
    region[key] = value


ACCESSES: dict[str, Access] = {
    "view": Access(READ, lambda r, o, n: r.view(o, n)),
    "index": Access(READ, lambda r, o, n: r[o], 1),
    "index from the end": Access(READ, lambda r, o, n: r[o - r.size], 1),
    "slice": Access(READ, lambda r, o, n: r[o : o + n]),
    "stepped slice": Access(READ, lambda r, o, n: r[o : o + n : max(n - 1, 1)]),
    "read_slice": Access(READ, lambda r, o, n: r.read_slice(bytearray(n), o)),
    "read_exact": Access(READ, lambda r, o, n: r.read_exact(bytearray(n), o)),
    "read_obj u8": Access(READ, lambda r, o, n: r.read_obj(u8, o), 1),
    "read_obj u64": Access(READ, lambda r, o, n: r.read_obj(u64, o), 8),
    "read_obj i64": Access(READ, lambda r, o, n: r.read_obj(i64, o), 8),
    "read_obj f64": Access(READ, lambda r, o, n: r.read_obj(f64, o), 8),
    "read_obj le_u64": Access(READ, lambda r, o, n: r.read_obj(le_u64, o), 8),
    "read_obj be_f32": Access(READ, lambda r, o, n: r.read_obj(be_f32, o), 4),
    "read_obj_volatile": Access(READ, lambda r, o, n: r.read_obj_volatile(u8, o), 1),
    "find": Access(READ, lambda r, o, n: r.find(b"\xff", o, o + n)),
    "rfind": Access(READ, lambda r, o, n: r.rfind(b"\xff", o, o + n)),
    "is_all_zero": Access(READ, lambda r, o, n: r.is_all_zero(o, n)),
    "flush_region": Access(READ, lambda r, o, n: r.flush_region(o, n)),
    "populate": Access(READ, lambda r, o, n: r.populate(o, n)),
    "load": Access(READ, lambda r, o, n: r.get_slice(o, n).load(u8), 1),
    "load_many": Access(READ, lambda r, o, n: r.get_slice(o, n).load_many(u8, n)),
    "copy_to": Access(READ, lambda r, o, n: r.get_slice(o, n).copy_to(bytearray(n))),
    "slice is_all_zero": Access(READ, lambda r, o, n: r.get_slice(o, n).is_all_zero()),
    "equality": Access(READ, lambda r, o, n: r.get_slice(o, n) == _spare().sub_slice(0, n)),
    "equality, right": Access(READ, lambda r, o, n: _spare().sub_slice(0, n) == r.get_slice(o, n)),
    "copy from": Access(
        READ, lambda r, o, n: r.get_slice(o, n).copy_to_volatile_slice(_spare().sub_slice(0, n))
    ),
    "write_to_fd": Access(
        READ, lambda r, o, n: _transfer(os.O_WRONLY, lambda fd: r.get_slice(o, n).write_to_fd(fd))
    ),
    "set index": Access(WRITE, lambda r, o, n: _set(r, o, 0), 1),
    "set slice": Access(WRITE, lambda r, o, n: _set(r, slice(o, o + n), bytes(n))),
    "set stepped slice": Access(
        WRITE, lambda r, o, n: _set(r, slice(o, o + n, max(n - 1, 1)), bytes(min(n, 2)))
    ),
    "write_slice": Access(WRITE, lambda r, o, n: r.write_slice(bytes(n), o)),
    "write_all": Access(WRITE, lambda r, o, n: r.write_all(bytes(n), o)),
    "write_obj u8": Access(WRITE, lambda r, o, n: r.write_obj(u8, 0, o), 1),
    "write_obj u64": Access(WRITE, lambda r, o, n: r.write_obj(u64, 0, o), 8),
    "write_obj i64": Access(WRITE, lambda r, o, n: r.write_obj(i64, 0, o), 8),
    "write_obj f64": Access(WRITE, lambda r, o, n: r.write_obj(f64, 0, o), 8),
    "write_obj le_u64": Access(WRITE, lambda r, o, n: r.write_obj(le_u64, 0, o), 8),
    "write_obj be_f32": Access(WRITE, lambda r, o, n: r.write_obj(be_f32, 0, o), 4),
    "write_obj_volatile": Access(WRITE, lambda r, o, n: r.write_obj_volatile(u8, 0, o), 1),
    "populate to write": Access(WRITE, lambda r, o, n: r.populate(o, n, write=True)),
    "remove_range": Access(WRITE, lambda r, o, n: r.remove_range(o, n), whole_pages=True),
    "store": Access(WRITE, lambda r, o, n: r.get_slice(o, n).store(u8, 0), 1),
    "store_many": Access(WRITE, lambda r, o, n: r.get_slice(o, n).store_many(u8, bytes(n))),
    "write_bytes": Access(WRITE, lambda r, o, n: r.get_slice(o, n).write_bytes(0)),
    "copy_from": Access(WRITE, lambda r, o, n: r.get_slice(o, n).copy_from(bytes(n))),
    "copy into": Access(
        WRITE, lambda r, o, n: _spare().sub_slice(0, n).copy_to_volatile_slice(r.get_slice(o, n))
    ),
    "read_from_fd": Access(
        WRITE,
        lambda r, o, n: _transfer(os.O_RDONLY, lambda fd: r.get_slice(o, n).read_from_fd(fd)),
    ),
}


def ranges(access: Access) -> Iterator[tuple[int, int]]:
    """Ranges inside each page, across each edge, of every run of pages."""
    pages = range(len(LAYOUT))
    if access.width is not None:
        for page in pages:
            yield page * PAGE, access.width
            yield (page + 1) * PAGE - access.width, access.width
            if page and access.width > 1:
                yield page * PAGE - 1, access.width
        return
    for first in pages:
        for last in range(first, len(LAYOUT)):
            yield first * PAGE, (last - first + 1) * PAGE
    if not access.whole_pages:
        for page in pages[1:]:
            yield page * PAGE - 1, 2
            yield page * PAGE + 5, 10


def attempt_accesses(path: str, *names: str) -> None:
    """Say what goes otherwise than the layout has it; run in a process that may crash."""
    with laid_out(Path(path)) as arena:
        for name in names:
            access = ACCESSES[name]
            for offset, count in ranges(access):
                expected = not int(access.need) & ~allowed(offset, count)
                if "stepped" in name and count > 1:  # touches the first byte and the last only
                    ends = allowed(offset, 1) & allowed(offset + count - 1, 1)
                    expected = not int(access.need) & ~ends
                result = attempt(access.run, arena, offset, count)
                happened = isinstance(result, Ok)
                match result:
                    case Err(ProtectionError() as error):
                        assert error.required == access.need, name
                        assert not error.actual.allows(error.required), name
                    case Err(UnsupportedByKernelError()):
                        continue  # cache lines cannot be flushed on every processor
                    case _:
                        result.unwrap()
                if happened is not expected:
                    say(f"{name}({offset / PAGE}, {count}): allowed is {happened}")
        assert amount("Rss", arena.as_ptr() + 8 * PAGE, 2 * PAGE) == 0
        assert_as_the_kernel_lists(arena)


@pytest.mark.parametrize("need", [READ, WRITE], ids=str)
def test_access_is_what_the_segments_allow_and_never_a_signal(
    need: Protection, known_file: KnownFile
) -> None:
    names = [name for name, access in ACCESSES.items() if access.need == need]
    ended = in_process(attempt_accesses, known_file.path, *names, watched=False)
    assert ended.succeeded() == ""


STEPS = [2, 3, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 7 * PAGE + 5]
EDGES = [0, 1, PAGE - 1, 2 * PAGE, 3 * PAGE, 7 * PAGE + 9, SIZE - 1]


def attempt_steps(path: str) -> None:
    """Read and write stepped slices; fails where one reaches what it does not choose."""
    refused = 0
    with laid_out(Path(path)) as arena:
        for start in EDGES:
            for step in (sign * step for step in STEPS for sign in (1, -1)):
                chosen = range(start, SIZE if step > 0 else -1, step)
                key = slice(start, None, step)
                read = attempt(arena.__getitem__, key)
                if all(allowed(at, 1) & READ.bits for at in chosen):
                    assert read.unwrap() == bytes(arena[at] for at in chosen)
                else:
                    assert isinstance(read, Err), key
                    assert isinstance(read.error, ProtectionError), key
                    refused += 1
                readable = [at for at in chosen if allowed(at, 1) == RW.bits]
                before = {at: arena[at] for at in readable}
                data = bytes((at + step) % 251 for at in chosen)
                written = attempt(arena.__setitem__, key, data)
                if all(allowed(at, 1) & WRITE.bits for at in chosen):
                    written.unwrap()
                    before = {at: (at + step) % 251 for at in readable}
                else:
                    assert isinstance(written, Err), key
                    refused += 1
                assert {at: arena[at] for at in readable} == before, key
    assert refused > 100


def test_stepped_slice_touches_what_it_chooses_and_is_written_whole_or_not(
    known_file: KnownFile,
) -> None:
    in_process(attempt_steps, known_file.path, watched=False).succeeded()


def test_access_of_no_bytes_needs_nothing(known_file: KnownFile) -> None:
    with laid_out(known_file.path) as arena:
        for page in range(len(LAYOUT) + 1):
            where = page * PAGE
            assert arena.view(where, 0).nbytes == 0
            assert arena[where:where] == b""
            assert arena.read_slice(bytearray(), where) == 0
            assert arena.write_slice(b"", where) == 0
            assert arena.is_all_zero(where, 0)
            arena.remove_range(where, 0)


def test_error_tells_what_was_needed_and_what_is_there(known_file: KnownFile) -> None:
    with laid_out(known_file.path) as arena:
        with pytest.raises(ProtectionError) as hole:
            _ = arena[2 * PAGE]
        assert (hole.value.required, hole.value.actual) == (READ, NONE)
        with pytest.raises(ProtectionError) as read_only:
            arena[3 * PAGE] = 1
        assert (read_only.value.required, read_only.value.actual) == (WRITE, READ)


def test_refused_write_changes_nothing(known_file: KnownFile) -> None:
    with laid_out(known_file.path) as arena:
        before = arena[: 2 * PAGE]
        for offset, count in [(0, 3 * PAGE), (PAGE, PAGE + 1)]:
            with pytest.raises(ProtectionError):
                arena.write_slice(b"\1" * count, offset)
        assert arena[: 2 * PAGE] == before
    assert known_file.path.read_bytes() == known_file.content


# Views


def test_view_is_writable_where_all_of_it_is(known_file: KnownFile) -> None:
    with laid_out(known_file.path) as arena:
        both = arena.view(0, 2 * PAGE)
        assert not both.readonly
        both[PAGE - 1 : PAGE + 1] = b"xy"
        assert arena[PAGE - 1 : PAGE + 1] == b"xy"
        assert arena.view(3 * PAGE, 2 * PAGE).readonly
        assert arena.view(4 * PAGE, PAGE).tobytes() == known_file.content[4 * PAGE : 5 * PAGE]
        assert arena.live_views == 1


def test_view_over_a_hole_is_refused(known_file: KnownFile) -> None:
    with laid_out(known_file.path) as arena:
        for call in (arena.view, lambda: np.asarray(arena), lambda: arena.view(PAGE, PAGE + 1)):
            with pytest.raises(ProtectionError):
                call()
        assert arena.live_views == 0


def test_memoryview_of_an_arena_is_its_view() -> None:
    with MemoryMappingArena.new(2 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        exported: Any = arena
        with pytest.raises(ProtectionError):
            memoryview(exported)
        arena.add_anon_protection(PAGE, PAGE, READ)
        view = memoryview(exported)
        assert (view.nbytes, view.readonly, arena.live_views) == (2 * PAGE, True, 1)


def test_numpy_array_of_a_full_arena_is_its_memory() -> None:
    with MemoryMappingArena.new(2 * PAGE) as arena:
        arena.add_anon(0, 2 * PAGE)
        array = np.asarray(arena)
        array[:3] = [1, 2, 3]
        assert arena[:4] == b"\1\2\3\0"
        assert arena.live_views == 1
        del array
        gc.collect()
        assert arena.live_views == 0


# Changes under live views

Change = Callable[[MemoryMappingArena, int, int, int], None]

CHANGES: dict[str, Change] = {
    "add_anon": lambda arena, o, n, fd: arena.add_anon(o, n),
    "add_anon_protection": lambda arena, o, n, fd: arena.add_anon_protection(o, n, READ),
    "add_fd": lambda arena, o, n, fd: arena.add_fd(o, n, fd),
    "add_fd_offset": lambda arena, o, n, fd: arena.add_fd_offset(o, n, fd, PAGE),
    "add_fd_offset_protection": lambda arena, o, n, fd: arena.add_fd_offset_protection(
        o, n, fd, PAGE, RW
    ),
    "add_fd_mapping": lambda arena, o, n, fd: arena.add_fd_mapping(o, n, fd, PAGE, RW),
    "remove": lambda arena, o, n, fd: arena.remove(o, n),
    "remove_mapping": lambda arena, o, n, fd: arena.remove_mapping(o, n),
    "protect": lambda arena, o, n, fd: arena.protect(NONE, o, n),
}
changing = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())


@pytest.fixture
def full(known_file: KnownFile) -> Iterator[MemoryMappingArena]:
    """Eight pages: four of memory with known bytes, four of the known file."""
    with MemoryMappingArena.new(8 * PAGE) as arena, known_file.path.open("r+b") as file:
        arena.add_anon(0, 4 * PAGE)
        arena[: 4 * PAGE] = known_bytes(4 * PAGE)
        arena.add_fd(4 * PAGE, 4 * PAGE, file)
        yield arena


@changing
@pytest.mark.parametrize(
    ("offset", "size"),
    [(2, 4), (0, 8), (2, 1), (5, 1), (3, 2), (0, 3), (5, 3)],
    ids=["exact", "around", "first", "last", "inside", "left", "right"],
)
def test_change_under_a_live_view_is_refused(
    change: Change, offset: int, size: int, full: MemoryMappingArena, known_fd: int
) -> None:
    view = full.view(2 * PAGE, 4 * PAGE)
    before = bytes(view)
    with unchanged(full), pytest.raises(ViewsExportedError) as caught:
        change(full, offset * PAGE, size * PAGE, known_fd)
    assert caught.value.views == 1
    assert bytes(view) == before
    view.release()
    change(full, offset * PAGE, size * PAGE, known_fd)
    assert_as_the_kernel_lists(full)


@changing
def test_change_beside_live_views_is_not_hindered(
    change: Change, full: MemoryMappingArena, known_fd: int
) -> None:
    left, right = full.view(0, 2 * PAGE), full.view(6 * PAGE, 2 * PAGE)
    left[-1], right[0] = 1, 2
    change(full, 2 * PAGE, 4 * PAGE, known_fd)
    assert (left[-1], right[0], full.live_views) == (1, 2, 2)
    assert_as_the_kernel_lists(full)


@changing
def test_change_is_not_hindered_by_views_of_no_bytes(
    change: Change, full: MemoryMappingArena, known_fd: int
) -> None:
    empty = [full.view(offset, 0) for offset in (2 * PAGE, 3 * PAGE, 3 * PAGE + 7, 6 * PAGE)]
    change(full, 2 * PAGE, 4 * PAGE, known_fd)
    assert {view.tobytes() for view in empty} == {b""}


@changing
def test_change_of_the_page_of_a_one_byte_view_is_refused(
    change: Change, full: MemoryMappingArena, known_fd: int
) -> None:
    view = full.view(4 * PAGE - 1, 1)
    with pytest.raises(ViewsExportedError):
        change(full, 3 * PAGE, PAGE, known_fd)
    change(full, 4 * PAGE, PAGE, known_fd)
    change(full, 2 * PAGE, PAGE, known_fd)
    assert bytes(view) == known_bytes(4 * PAGE)[-1:]


@changing
def test_change_counts_the_views_in_the_way(
    change: Change, full: MemoryMappingArena, known_fd: int
) -> None:
    views = [full.view(page * PAGE, PAGE) for page in range(8)]
    with pytest.raises(ViewsExportedError) as caught:
        change(full, 2 * PAGE, 3 * PAGE, known_fd)
    assert caught.value.views == 3
    del views[2:5]
    gc.collect()
    change(full, 2 * PAGE, 3 * PAGE, known_fd)
    assert full.live_views == 5


DERIVED: dict[str, Callable[[memoryview], object]] = {
    "slice": lambda view: view[3:4],
    "array": lambda view: np.frombuffer(view, np.uint8),
    "cast": lambda view: view.cast("Q"),
}


@changing
@pytest.mark.parametrize("derive", DERIVED.values(), ids=DERIVED.keys())
def test_change_under_what_was_made_of_a_view_is_refused(
    change: Change,
    derive: Callable[[memoryview], object],
    full: MemoryMappingArena,
    known_fd: int,
) -> None:
    derived: object = derive(full.view(2 * PAGE, PAGE))
    gc.collect()
    with unchanged(full), pytest.raises(ViewsExportedError):
        change(full, 2 * PAGE, PAGE, known_fd)
    del derived
    gc.collect()
    change(full, 2 * PAGE, PAGE, known_fd)


def test_protect_that_a_view_survives_is_not_hindered(full: MemoryMappingArena) -> None:
    full.protect(READ, 0, PAGE)
    view = full.view(0, PAGE)
    assert view.readonly
    full.protect(RW, 0, PAGE)
    full.protect(READ, 0, PAGE)
    assert view[0] == full[0]


def test_closed_arena_stays_for_its_views(full: MemoryMappingArena) -> None:
    address = full.as_ptr()
    view = full.view(3 * PAGE, 2 * PAGE)
    before = bytes(view)
    full.close()
    assert full.live_views == 1
    assert bytes(view) == before
    assert is_mapped(address, 8 * PAGE)
    view.release()
    assert not is_mapped(address, 8 * PAGE)


# Slices and calls in flight


def test_slice_hinders_no_change_and_sees_what_is_there(
    full: MemoryMappingArena, known_fd: int, known_file: KnownFile
) -> None:
    part = full.get_slice(2 * PAGE, PAGE)
    assert part.load(u8) == known_bytes(4 * PAGE)[2 * PAGE]
    full.remove(2 * PAGE, PAGE)
    for call in (lambda: part.load(u8), lambda: part.store(u8, 1), part.is_all_zero):
        with pytest.raises(ProtectionError):
            call()
    full.add_fd_offset_protection(2 * PAGE, PAGE, known_fd, 9 * PAGE, READ)
    content = bytearray(PAGE)
    assert part.copy_to(content) == PAGE
    assert content == known_file.content[9 * PAGE : 10 * PAGE]
    with pytest.raises(ProtectionError):
        part.write_bytes(0)


def test_slice_outlives_the_closed_arena(full: MemoryMappingArena) -> None:
    part, address = full.get_slice(0, 2 * PAGE), full.as_ptr()
    full.remove(PAGE, PAGE)
    full.close()
    assert part.load(u8) == known_bytes(1)[0]
    with pytest.raises(ProtectionError):
        part.load(u8, PAGE)
    del part
    gc.collect()
    assert not is_mapped(address, 8 * PAGE)


def use(view: memoryview) -> None:
    """Reads all of a view, and writes it where it may be written."""
    sum(view)
    if not view.readonly:
        view[:] = bytes(view.nbytes)


def hammer() -> None:
    """Access an arena in threads while its layout changes; run in a process that may crash."""
    arena, stop = MemoryMappingArena.new(8 * PAGE), threading.Event()
    done = dict.fromkeys(["read", "written", "viewed", "refused", "changed"], 0)
    wrong: list[BaseException] = []

    def repeat(name: str, call: Callable[[], object], refusal: type[Exception]) -> None:
        while not stop.is_set():
            try:
                call()
            except refusal:
                done["refused"] += 1
            except BaseException as error:  # noqa: BLE001  # the main thread raises it
                wrong.append(error)
                return
            else:
                done[name] += 1

    def change() -> None:
        arena.add_anon(PAGE, 6 * PAGE)
        arena.protect(READ, 3 * PAGE, PAGE)
        arena.remove(2 * PAGE, 5 * PAGE)
        arena.add_anon_protection(0, 3 * PAGE, READ)
        arena.remove(0, 8 * PAGE)

    calls: list[tuple[str, Callable[[], object], type[Exception]]] = [
        ("read", lambda: arena.read_slice(bytearray(6 * PAGE), PAGE), ProtectionError),
        ("read", lambda: arena.find(b"\1" * 9, PAGE, 3 * PAGE), ProtectionError),
        ("written", lambda: arena.write_slice(bytes(6 * PAGE), PAGE), ProtectionError),
        ("written", lambda: arena.write_obj(u64, 1, 3 * PAGE - 4), ProtectionError),
        ("viewed", lambda: use(arena.view(2 * PAGE, PAGE)), ProtectionError),
        ("changed", change, ViewsExportedError),
    ]
    threads = [threading.Thread(target=repeat, args=call) for call in calls]
    for thread in threads:
        thread.start()
    stop.wait(2)
    stop.set()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    assert_as_the_kernel_lists(arena)
    assert all(done.values()), done


@pytest.mark.race
def test_access_while_another_thread_changes_the_arena_is_never_a_signal() -> None:
    in_process(hammer, watched=False).succeeded()
