"""What a child process gets of its parent's regions, and what it must leave alone.

The forks are made in processes of their own, which print nothing where all is well.
"""

import ctypes
import gc
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from forks import forked, run_forked
from kernel_view import PAGE, child, in_process, is_mapped, perms, vm_flags
from libc import libc
from meanwhile import changing
from protections import RW

from mmapwrap import (
    Advice,
    ClosedMappingError,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    Protection,
    ProtectionError,
    SharedMemory,
    Sharing,
    u64,
)
from mmapwrap._core import calls

SIZE = 4 * PAGE


def forking(name: str, *arguments: str) -> None:
    """Call a function of this module by its name, for a process that forks.

    Python warns of forking a process with threads, which is what these tests are about.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        globals()[name](*arguments)


def in_forking_process(function: Callable[..., None], *arguments: object) -> None:
    """Run a function of this module in a process of its own, which ends well and says nothing."""
    # Coverage takes locks and memory of its own in a forked child.
    ended = in_process(forking, function.__name__, *arguments, measured=False)
    ended.succeeded_silently()


# Made ready before a fork, as a child that allocates may get the very addresses it is to map.
FIXED_NOREPLACE = 0x100000
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def place_at(address: int, size: int, flags: int, fd: int) -> bool:
    """Map what is not the library's at an address; False where something is there."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    place = libc.mmap(address, size, protection, flags | FIXED_NOREPLACE, fd, 0)
    return bool(place == address)


def map_at(address: int, size: int, flags: int, fd: int) -> None:
    assert place_at(address, size, flags, fd), f"something is at {address:#x} already"


def move_in(address: int, size: int) -> None:
    map_at(address, size, ANONYMOUS, -1)
    ctypes.memset(address, 0x5A, size)


def enclose(address: int, size: int) -> None:
    """See that something is on both sides of a region: what is larger does not fit in its place."""
    for beside in (address - PAGE, address + size):
        place_at(beside, PAGE, ANONYMOUS, -1)


def foreign_bytes(address: int, size: int) -> bytes:
    return ctypes.string_at(address, size)


# What stays behind


def assert_closed(region: MappedRegion) -> None:
    """The region is closed, whatever is asked of it."""
    assert region.closed
    calls: list[Callable[[], object]] = [
        lambda: region.size,
        lambda: len(region),
        region.as_ptr,
        lambda: region[0],
        lambda: region.__setitem__(0, 1),
        lambda: region.read_slice(bytearray(1), 0),
        lambda: region.write_slice(b"x", 0),
        lambda: region.read_obj(u64, 0),
        lambda: region.find(b"x"),
        region.is_all_zero,
        region.view,
        lambda: region.get_slice(0, 1),
        lambda: region.fault_guard().__enter__(),
        lambda: region.advise(Advice.DOFORK),
        region.msync,
        lambda: region.protect(RW),
        region.lock,
        region.populate,
        region.residency,
        lambda: region.drop_page_cache(0, PAGE),
        lambda: region.remove_range(0, PAGE),
    ]
    if isinstance(region, MemoryMappingArena):
        arena = region
        calls += [arena.segments, lambda: arena.add_anon(0, PAGE), lambda: arena.remove(0, PAGE)]
    if isinstance(region, MemoryMapping):
        mapping = region
        calls += [mapping.into_arena, lambda: mapping.prot, lambda: mapping.file_offset]
    for call in calls:
        with pytest.raises(ClosedMappingError):
            call()
    region.close()


def make(kind: str) -> MappedRegion:
    if kind == "arena":
        arena = MemoryMappingArena.new(SIZE)
        arena.add_anon(0, SIZE)
        return arena
    if kind == "file":
        with SharedMemory.new("fork", SIZE + PAGE) as memory:
            return memory.map(SIZE - 7, offset=5)
    sharing = Sharing.PRIVATE if kind == "private" else Sharing.SHARED
    return MemoryMapping.anonymous(SIZE, sharing=sharing)


KINDS = ("shared", "private", "file", "arena")
each_kind = pytest.mark.parametrize("kind", KINDS)


def stays_behind(kind: str, how: str) -> None:
    made = make(kind)
    made[0] = 7
    address = made.as_ptr() - made.as_ptr() % PAGE
    enclose(address, SIZE)
    regions, parts, guards = [made], [made.get_slice(0, 8)], [made.fault_guard()]
    del made
    guards[0].__enter__()
    if how == "whole":
        regions[0].use_dontfork()
    else:
        regions[0].advise(Advice.DONTFORK, PAGE, 1)
    gone = (address, SIZE) if how == "whole" else (address + PAGE, PAGE)

    def work() -> None:
        move_in(*gone)
        assert_closed(regions.pop())
        with pytest.raises(ClosedMappingError):
            parts[0].is_all_zero()
        with pytest.raises(ClosedMappingError):
            parts[0].copy_to(bytearray(8))
        with suppress(MmapError):
            guards[0].__exit__(None, None, None)
        parts.clear()
        guards.clear()
        gc.collect()
        assert foreign_bytes(*gone) == b"\x5a" * gone[1], "the child's own memory was touched"

    run_forked(work)
    # The parent has it as before, also after the child's end.
    assert not regions[0].closed
    assert regions[0][0] == 7
    guards[0].__exit__(None, None, None)
    regions[0][0] = 8
    regions[0].close()


@each_kind
@pytest.mark.parametrize("how", ["whole", "a part"])
def test_region_that_stays_behind_is_closed_and_nothing_foreign_is_unmapped(
    kind: str, how: str
) -> None:
    in_forking_process(stays_behind, kind, how)


def views_stay_behind() -> None:
    mapping = MemoryMapping.new(SIZE)
    views = [mapping.view()]
    mapping.use_dontfork()
    address = mapping.as_ptr()
    enclose(address, SIZE)

    def work() -> None:
        move_in(address, SIZE)
        assert mapping.closed
        views.clear()
        mapping.close()
        gc.collect()
        assert foreign_bytes(address, SIZE) == b"\x5a" * SIZE

    run_forked(work)
    assert bytes(views[0]) == bytes(SIZE)


def test_view_dropped_in_a_child_without_the_pages_unmaps_nothing() -> None:
    in_forking_process(views_stay_behind)


def foreign_fault() -> None:
    """A region that stayed behind is under a guard; the fault is in what moved in there."""
    mapping = MemoryMapping.new(SIZE)
    mapping.use_dontfork()
    address = mapping.as_ptr()
    enclose(address, SIZE)
    guard = mapping.fault_guard()
    guard.__enter__()

    def work() -> None:
        fd = os.memfd_create("foreign")
        os.ftruncate(fd, PAGE)
        map_at(address, PAGE, mmap.MAP_SHARED, fd)
        os.ftruncate(fd, 0)
        ctypes.string_at(address, 1)

    assert os.WTERMSIG(forked(work)) == signal.SIGBUS, "somebody else's page was replaced"


def test_fault_in_what_moved_in_is_not_the_guards() -> None:
    in_forking_process(foreign_fault)


def dofork_takes_it_back(kind: str) -> None:
    region = make(kind)
    region[0] = 7
    region.use_dontfork()
    region.advise(Advice.DOFORK)
    run_forked(lambda: check_inherited(region, 7))


def dofork_of_a_part(kind: str) -> None:
    region = make(kind)
    region[0] = 7
    region.advise(Advice.DONTFORK, PAGE, PAGE)
    region.advise(Advice.DOFORK, PAGE, PAGE)
    run_forked(lambda: check_inherited(region, 7))
    region.use_dontfork()
    region.advise(Advice.DOFORK, 0, PAGE)
    run_forked(lambda: assert_closed(region))


def check_inherited(region: MappedRegion, first: int) -> None:
    """Everything works on a region that came along."""
    assert not region.closed
    assert region[0] == first
    region[1] = 9
    view = region.view()
    assert (view[0], view[1]) == (first, 9)
    region.msync()
    region.residency()
    region.advise(Advice.RANDOM)
    with region.fault_guard():
        assert region.find(bytes([first, 9])) == 0
    address = region.as_ptr()
    del view
    region.close()
    assert not is_mapped(address)


@each_kind
def test_dofork_takes_dontfork_back(kind: str) -> None:
    in_forking_process(dofork_takes_it_back, kind)


@each_kind
def test_dofork_of_a_part_takes_dontfork_of_that_part_back(kind: str) -> None:
    in_forking_process(dofork_of_a_part, kind)


def placed_after_dontfork() -> None:
    """What an arena takes in after a part of it was told to stay behind stays behind as well."""
    arena = MemoryMappingArena.new(3 * PAGE)
    arena.add_anon(0, PAGE)
    arena.advise(Advice.DONTFORK, 0, PAGE)
    arena.add_anon(2 * PAGE, PAGE)
    arena.advise(Advice.DOFORK, 0, PAGE)
    run_forked(lambda: assert_closed(arena))
    arena.advise(Advice.DOFORK)
    run_forked(lambda: arena.view(2 * PAGE, PAGE)[0])


def test_segment_placed_after_dontfork_stays_behind() -> None:
    in_forking_process(placed_after_dontfork)


def made_in_the_child(kind: str) -> None:
    """A child's own regions stay behind in its own children, and only there."""
    outer = make(kind)
    outer.use_dontfork()

    def work() -> None:
        assert outer.closed
        inner, other = make(kind), make(kind)
        inner[0] = other[0] = 7
        inner.use_dontfork()

        def grandchild() -> None:
            assert inner.closed
            assert outer.closed
            check_inherited(other, 7)

        run_forked(grandchild)
        assert not inner.closed
        check_inherited(inner, 7)

    run_forked(work)
    run_forked(work)
    assert not outer.closed


@each_kind
def test_dontfork_of_a_childs_own_region_counts_in_its_children(kind: str) -> None:
    in_forking_process(made_in_the_child, kind)


def test_dontfork_is_what_the_kernel_was_told() -> None:
    with MemoryMapping.new(SIZE) as mapping:
        mapping.use_dontfork()
        assert "dc" in vm_flags(mapping.as_ptr(), SIZE)
        mapping.advise(Advice.DOFORK)
        assert "dc" not in vm_flags(mapping.as_ptr(), SIZE)


# What comes along


def inherited(kind: str) -> None:
    region = make(kind)
    region[0] = 7
    parts, views = [region.get_slice(0, 8)], [region.view()]

    def work() -> None:
        first = bytearray(1)
        parts[0].copy_to(first)
        assert first[0] == views[0][0] == 7
        views[0][2] = 3
        assert region.live_views == 1
        region[1] = 9
        region.populate(write=True)
        region.close()
        assert region.closed
        assert views[0][:3] == bytes([7, 9, 3])

    run_forked(work)
    assert region[:3] == (bytes([7, 0, 0]) if kind == "private" else bytes([7, 9, 3]))
    assert views[0][0] == 7
    parts.clear()
    views.clear()
    check_inherited(region, 7)


@each_kind
def test_inherited_region_works_in_both(kind: str) -> None:
    in_forking_process(inherited, kind)


def inherited_protection() -> None:
    arena = MemoryMappingArena.new(SIZE)
    arena.add_anon(0, 2 * PAGE)
    arena.protect(Protection.read(), PAGE, PAGE)

    def work() -> None:
        with suppress_protection():
            arena[PAGE] = 1
        with suppress_protection():
            _ = arena[3 * PAGE]
        arena.add_anon(2 * PAGE, PAGE)
        arena.remove(0, PAGE)
        arena[2 * PAGE] = 1
        assert perms(arena.as_ptr(), SIZE) == ["---p", "r--s", "rw-s", "---p"]

    run_forked(work)
    assert perms(arena.as_ptr(), SIZE) == ["rw-s", "r--s", "---p", "---p"]
    arena[0] = 1


def suppress_protection() -> Any:
    return pytest.raises(TypeError, match="access")


def test_inherited_arena_is_changed_in_each_for_itself() -> None:
    in_forking_process(inherited_protection)


def fork_in_guard(truncates: str) -> None:
    fd = os.memfd_create("fork")
    os.ftruncate(fd, SIZE)
    mapping = MemoryMapping.from_fd(fd, SIZE)
    view = mapping.view()

    def fault_in_child() -> None:
        if truncates == "child":
            os.ftruncate(fd, PAGE)
        assert bytes(view) == bytes(SIZE)
        with pytest.raises(MappingFaultError) as caught:
            guard.__exit__(None, None, None)
        assert (caught.value.offset, caught.value.pages) == (PAGE, 3)
        with pytest.raises(MappingFaultError):
            mapping[0]

    guard = mapping.fault_guard()
    guard.__enter__()
    if truncates == "parent":
        os.ftruncate(fd, PAGE)
    run_forked(fault_in_child)
    # What the child counted is the child's.
    assert mapping[0] == 0
    assert bytes(view) == bytes(SIZE)
    with pytest.raises(MappingFaultError) as caught:
        guard.__exit__(None, None, None)
    assert (caught.value.offset, caught.value.pages) == (PAGE, 3)


@pytest.mark.parametrize("truncates", ["parent", "child"])
def test_fork_inside_a_guard_guards_both(truncates: str) -> None:
    in_forking_process(fork_in_guard, truncates)


def guard_of_the_child_alone() -> None:
    fd = os.memfd_create("fork")
    os.ftruncate(fd, SIZE)
    mapping = MemoryMapping.from_fd(fd, SIZE)
    view = mapping.view()

    def work() -> None:
        os.ftruncate(fd, 0)
        with pytest.raises(MappingFaultError), mapping.fault_guard():
            assert view[0] == 0
        os.ftruncate(fd, SIZE)

    for _ in range(20):
        run_forked(work)
    assert mapping[0] == view[0] == 0


def test_guard_in_a_child_is_none_of_the_parents() -> None:
    in_forking_process(guard_of_the_child_alone)


# Forks at bad moments

FORKS = 200


class Load:
    """All sorts of calls, to be inside of as a process is forked."""

    def __init__(self) -> None:
        fd = os.memfd_create("fork")
        os.ftruncate(fd, SIZE)
        self.mapping = MemoryMapping.from_fd(fd, SIZE)
        os.close(fd)
        self.arena = MemoryMappingArena.new(64 * PAGE)
        self.big = MemoryMapping.new(1 << 20)
        self.newest: list[MemoryMapping] = []
        self.stop = threading.Event()
        self.unexpected: list[BaseException] = []

    def change(self) -> None:
        self.arena.add_anon(0, 32 * PAGE)
        self.arena.protect(Protection.read(), 0, PAGE)
        self.arena.view(PAGE, PAGE).release()
        self.arena.remove(0, 32 * PAGE)

    def fault(self) -> None:
        own = os.memfd_create("own")
        os.ftruncate(own, PAGE)
        with MemoryMapping.from_fd(own, PAGE) as short:
            os.ftruncate(own, 0)
            os.close(own)
            with suppress(MappingFaultError), short.fault_guard():
                short.view()[0] = 1
            short[0] = 1

    def copy(self) -> None:
        self.big.find(b"no such bytes")
        self.big.write_slice(bytes(1 << 19), 0)

    def make_and_close(self) -> None:
        with MemoryMapping.new(PAGE) as made:
            self.newest[:] = [made]
            made.use_dontfork()
            made[0] = 1

    def repeat(self, call: Callable[[], None]) -> None:
        while not self.stop.is_set():
            try:
                call()
            except MmapError:
                continue
            except BaseException as error:  # noqa: BLE001  # for the main thread to show
                self.unexpected.append(error)
                return

    def in_child(self) -> None:
        """Everything works, whatever the parent's threads were doing."""
        # Where no thread of the parent is: its views stay alive here, for nobody lets go of them.
        self.arena.add_anon(60 * PAGE, 2 * PAGE)
        self.arena[60 * PAGE] = 1
        with self.mapping.fault_guard():
            assert self.mapping.view()[0] == 0
        self.mapping.protect(Protection.read())
        assert self.big.size == 1 << 20
        for made in self.newest:  # told the kernel to stay behind, or just about to
            with suppress(ClosedMappingError):
                assert is_mapped(made.as_ptr()), "open, and its pages are not there"
        with pytest.raises(MappingFaultError):
            self.fault()


def forks_under_load() -> None:
    sys.setswitchinterval(1e-5)
    load = Load()
    calls = (load.change, load.fault, load.copy, load.make_and_close)
    threads = [threading.Thread(target=load.repeat, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    try:
        for _ in range(FORKS):
            run_forked(load.in_child)
    finally:
        load.stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a thread of the parent hangs"
    assert not load.unexpected, load.unexpected


@pytest.mark.race
def test_200_forks_while_threads_are_inside_calls_hang_nobody() -> None:
    in_forking_process(forks_under_load)


def fork_inside_a_call() -> None:
    """Code that the library calls may fork, whatever the library holds at that time."""
    mapping = MemoryMapping.new(SIZE)
    arena = MemoryMappingArena.new(SIZE)

    class ForkingIndex:
        def __index__(self) -> int:
            run_forked(lambda: in_another_thread(lambda: arena.add_anon(PAGE, PAGE)))
            return PAGE

    mapping.protect(Protection.read(), ForkingIndex(), PAGE)
    mapping.view(0, ForkingIndex()).release()
    arena.add_anon(ForkingIndex(), PAGE)
    arena.remove(0, ForkingIndex())
    mapping.populate(progress=lambda done, total: ForkingIndex().__index__())
    in_another_thread(lambda: arena.add_anon(PAGE, PAGE))


def in_another_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "another thread waits for ever"


def test_fork_inside_a_call_locks_nothing_for_ever() -> None:
    in_forking_process(fork_inside_a_call)


# multiprocessing


def _use(memory: SharedMemory, answers: Connection) -> None:
    with memory.map() as mapping:
        before = mapping[0]
        mapping[1] = before + 1
        with mapping.fault_guard():
            mapping.view()[2] = before + 2
    answers.send(before)
    answers.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_shared_memory_passes_through_every_start_method(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with SharedMemory.new("fork", PAGE) as memory, memory.map() as mapping:
        mapping[0] = 41
        guard = mapping.fault_guard()
        with guard:
            answers, send = context.Pipe(duplex=False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads of the test run
                process = context.Process(target=_use, args=(memory, send))
                process.start()
            send.close()
            assert answers.poll(60)
            assert answers.recv() == 41
            process.join(60)
            assert process.exitcode == 0
            process.close()
            answers.close()
        assert mapping[:3] == bytes([41, 42, 43])


def _inherits(region: MemoryMapping, hidden: MemoryMapping) -> None:
    assert hidden.closed
    region[0] += 1


def test_mapping_is_inherited_by_a_process_of_method_fork() -> None:
    context: Any = multiprocessing.get_context("fork")
    with MemoryMapping.new(PAGE) as mapping, MemoryMapping.new(PAGE) as hidden:
        hidden.use_dontfork()
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                process = context.Process(target=_inherits, args=(mapping, hidden))
                process.start()
            process.join(60)
            assert process.exitcode == 0
            process.close()
        assert mapping[0] == 3


def test_mapping_is_not_sent_to_a_process_of_method_spawn(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("spawn")
    with MemoryMapping.new(PAGE) as mapping:
        process = context.Process(target=_inherits, args=(mapping, mapping))
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            process.start()


def other_forks() -> None:
    """A fork that Python did not make is one too."""
    mapping = MemoryMapping.new(SIZE)
    mapping.use_dontfork()
    libc = ctypes.PyDLL(None)  # keeps the GIL, so that the child has it
    pid = libc.fork()
    if pid == 0:
        os._exit(0 if mapping.closed else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not mapping.closed


def test_fork_of_the_c_library_closes_what_stays_behind() -> None:
    in_forking_process(other_forks)


Helper = Callable[..., int]


@contextmanager
def in_the_middle_of(helper: str, change: Callable[[], None], *, acts: bool) -> Generator[None]:
    """While another thread is inside a change: its helper has acted, or is just about to."""
    begun, over = threading.Event(), threading.Event()
    real: Helper = getattr(calls, helper)

    def halfway(*arguments: Any) -> int:
        result = real(*arguments) if acts else 0
        setattr(calls, helper, real)  # for all that is done meanwhile
        begun.set()
        assert over.wait(20)
        return result if acts else real(*arguments)

    setattr(calls, helper, halfway)
    thread = threading.Thread(target=change)
    thread.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        over.set()
        thread.join()


ACTS = [True, False]


def fork_in_a_protect() -> None:
    for acts in ACTS:
        mapping = MemoryMapping.new(2 * PAGE)
        mapping.protect(RW, 0, PAGE)  # its protection is known by range now

        def work(mapping: MemoryMapping = mapping) -> None:
            view = mapping.view(0, PAGE)
            assert view.readonly
            with pytest.raises(ProtectionError):
                mapping[0] = 1
            view.release()
            mapping[PAGE] = 1
            mapping.protect(RW)
            in_another_thread(lambda: mapping.protect(RW, 0, PAGE))
            mapping[0] = 2
            assert not mapping.view().readonly
            run_forked(lambda: mapping.protect(Protection.read()))

        change = partial(mapping.protect, Protection.read(), 0, PAGE)
        with in_the_middle_of("protect", change, acts=acts):
            run_forked(work)
        assert mapping.view().readonly
        assert (mapping[0], mapping[PAGE]) == (2, 1)


def fork_in_an_add() -> None:
    for acts in ACTS:
        arena = MemoryMappingArena.new(SIZE)
        arena.add_anon(0, 3 * PAGE)

        def work(arena: MemoryMappingArena = arena) -> None:
            kept = [(0, PAGE), (2 * PAGE, PAGE)]
            assert [(segment.offset, segment.size) for segment in arena.segments()] == kept
            with pytest.raises(ProtectionError):
                arena[PAGE] = 1
            with pytest.raises(ProtectionError):
                arena.protect(RW)
            arena[0] = 1
            arena.add_anon(PAGE, PAGE)
            arena[PAGE] = 2
            in_another_thread(lambda: arena.remove(0, SIZE))
            assert arena.segments() == ()
            run_forked(lambda: arena.add_anon(0, SIZE))

        change = partial(arena.add_anon_protection, PAGE, PAGE, Protection.read())
        with in_the_middle_of("place", change, acts=acts):
            run_forked(work)
        assert [segment.prot for segment in arena.segments()] == [RW, Protection.read(), RW]
        assert (arena[0], arena[PAGE]) == (1, 0)


def fork_in_a_remove() -> None:
    for acts in ACTS:
        arena = MemoryMappingArena.new(SIZE)
        arena.add_anon(0, SIZE)

        def work(arena: MemoryMappingArena = arena) -> None:
            assert [segment.offset for segment in arena.segments()] == [PAGE]
            with pytest.raises(ProtectionError):
                arena.view(0, PAGE)
            arena.remove(0, PAGE)
            arena.add_anon(0, PAGE)
            assert arena[0] == 0

        with in_the_middle_of("reserve", partial(arena.remove, 0, PAGE), acts=acts):
            run_forked(work)
        assert [segment.offset for segment in arena.segments()] == [PAGE]


@pytest.mark.parametrize("change", [fork_in_a_protect, fork_in_an_add, fork_in_a_remove])
def test_child_forked_in_the_middle_of_a_change_goes_on(change: Callable[[], None]) -> None:
    in_forking_process(change)


def fork_beside_waiting_threads() -> None:
    """Threads wait for a change: the child has neither them nor the lock that they wait for."""
    changed, other = MemoryMappingArena.new(SIZE), MemoryMappingArena.new(SIZE)

    def work() -> None:
        for arena in (changed, other):
            arena.add_anon(0, PAGE)
            arena[0] = 1
            arena.view(0, PAGE).release()
            run_forked(partial(arena.remove, 0, PAGE))

    waiting = [threading.Thread(target=changed.remove, args=(0, PAGE)) for _ in range(3)]
    with changing(changed):
        for thread in waiting:
            thread.start()
        started = time.monotonic()
        run_forked(work)
        assert time.monotonic() - started < 10
        assert all(thread.is_alive() for thread in waiting)
    for thread in waiting:
        thread.join(20)
        assert not thread.is_alive()
    run_forked(work)


def test_fork_does_not_wait_for_a_change_and_leaves_the_child_nothing_locked() -> None:
    in_forking_process(fork_beside_waiting_threads)


def test_fixed_place_of_a_region_left_behind_can_be_mapped_by_the_child() -> None:
    program = """
        import os
        from kernel_view import PAGE
        from mmapwrap import MemoryMapping, Protection
        mapping = MemoryMapping.new(PAGE)
        mapping.use_dontfork()
        address = mapping.as_ptr()
        pid = os.fork()
        if pid == 0:
            made = MemoryMapping.new_protection_fixed(address, PAGE, Protection.read_write())
            made[0] = 5
            del mapping
            os._exit(made[0])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    """
    assert child(program).succeeded() == ""
