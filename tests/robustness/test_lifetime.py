"""Who lives how long: threads, calls in the middle of calls, garbage, and the interpreter's end.

What may crash runs in a child process.
"""

import gc
import inspect
import os
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest
from kernel_view import PAGE, Index, KnownFile, child, in_process, is_mapped, process_unchanged
from marks import MEMORY_IS_COUNTED, needs_python_buffers
from meanwhile import interrupted_after
from protections import NONE, READ, RW

import mmapwrap
from mmapwrap import (
    Advice,
    BadDescriptorError,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidRangeError,
    MappedRegion,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    ProtectionError,
    SharedMemory,
    Sharing,
    VolatileSlice,
    u8,
    u64,
)

SIZE = 4 * PAGE


# A handler that raises, as that of Ctrl-C does, while the kernel is at work


LARGE = 256 << 20


def populated_file() -> MemoryMapping:
    with SharedMemory.new("interrupted", LARGE) as memory:
        return MemoryMapping.from_file(memory, populate=True)


LONG: dict[str, Callable[[], MemoryMapping | SharedMemory]] = {
    "shared": lambda: MemoryMapping.anonymous(LARGE, populate=True),
    "private": lambda: MemoryMapping.anonymous(LARGE, sharing=Sharing.PRIVATE, populate=True),
    "file": populated_file,
    "memfd": lambda: SharedMemory.new("interrupted", LARGE, allocate=True),
}


def interrupt_constructor(name: str) -> None:
    """It is interrupted, or comes to its end before that, and leaves nothing behind."""
    interruptions = 0
    for _ in range(5):
        with process_unchanged():
            interruptions += interrupted_after(0.005, lambda: LONG[name]().close())
    assert interruptions > 0


@pytest.mark.race
@pytest.mark.parametrize("name", LONG)
def test_interrupted_constructor_leaves_nothing(name: str) -> None:
    in_process(interrupt_constructor, name).succeeded_silently()


def interrupt_opening(path: str) -> None:
    """Wherever a call is interrupted that opens a file, it closes it."""

    def open_again_and_again() -> None:
        while True:
            MemoryMapping.from_file(path)

    interruptions, end = 0, time.monotonic() + 1.5
    with process_unchanged():
        while time.monotonic() < end:
            seconds = 0.000002 * (1 + interruptions % 30)
            interruptions += interrupted_after(seconds, open_again_and_again)
    assert interruptions > 100


@pytest.mark.race
def test_interrupted_opening_of_a_file_leaves_nothing(known_file: KnownFile) -> None:
    # Coverage takes locks of its own, which an interruption would leave locked.
    in_process(interrupt_opening, known_file.path, measured=False).succeeded_silently()


# Calls in the middle of calls
#
# A Python signal handler runs between two calls of the library's own code, a finalizer of garbage
# wherever something is allocated. The interpreter's profile function is called at these places too,
# so one that acts at the first of them, then at the second, and so on, is once at each.

Act = Callable[[], object]


@contextmanager
def interrupted(at: int, act: Act) -> Generator[list[int]]:
    """Do something at the place of this number inside the library; gives how many there were."""
    places = [0]

    def look(frame: FrameType, event: str, argument: object) -> None:
        if "mmapwrap" in frame.f_code.co_filename and event != "c_call":
            places[0] += 1
            if places[0] == at:
                with suppress(MmapError):
                    act()

    sys.setprofile(look)
    try:
        yield places
    finally:
        sys.setprofile(None)


def touch_everywhere(view: memoryview) -> None:
    for at in range(0, view.nbytes, PAGE):
        byte = view[at]
        if not view.readonly:
            view[at] = byte


class Scene:
    """Regions to call and to interrupt, and what the interruptions keep of them."""

    def __init__(self, kind: str) -> None:
        self.region: MappedRegion
        if kind == "arena":
            arena = MemoryMappingArena.new(SIZE)
            arena.add_anon(0, SIZE // 2)
            arena.add_anon_protection(SIZE // 2, PAGE, READ)
            self.region = arena
        elif kind == "ranged":
            self.region = MemoryMapping.new(SIZE)
            self.region.protect(READ, 2 * PAGE, PAGE)
        else:
            sharing = Sharing.PRIVATE if kind == "private" else Sharing.SHARED
            self.region = MemoryMapping.anonymous(SIZE, sharing=sharing)
        self.slice: VolatileSlice = self.region.get_slice(0, SIZE)
        self.kept: list[memoryview | MappedRegion] = []

    @property
    def mapping(self) -> MemoryMapping:
        assert isinstance(self.region, MemoryMapping)
        return self.region

    @property
    def arena(self) -> MemoryMappingArena:
        assert isinstance(self.region, MemoryMappingArena)
        return self.region

    def assert_sound(self) -> None:
        """Every view can be touched, and what a region allows is what the kernel allows."""
        for kept in self.kept:
            if isinstance(kept, memoryview):
                touch_everywhere(kept)
        for region in [self.region, *self.kept]:
            if isinstance(region, MappedRegion) and not region.closed:
                for at in range(0, region.size, PAGE):
                    with suppress(ProtectionError):
                        touch_everywhere(region.view(at, PAGE))
                    with suppress(ProtectionError):
                        region.write_slice(b"\1", at)


def keep_view(scene: Scene) -> None:
    scene.kept.append(scene.region.view(0, PAGE))


def keep_arena(scene: Scene) -> None:
    scene.kept.append(scene.mapping.into_arena())


def fail_otherwise(scene: Scene) -> None:
    """Leave another errno behind, and another failure."""
    with suppress(MmapError):
        scene.region.advise(Advice.WIPEONFORK)
    with suppress(MmapError):
        MemoryMapping.anonymous(1 << 62)
    with suppress(MmapError):
        scene.region.read_obj(u64, SIZE)


ACTS: dict[str, Callable[[Scene], object]] = {
    "close": lambda scene: scene.region.close(),
    "view": keep_view,
    "protect nothing": lambda scene: scene.region.protect(NONE, 0, PAGE),
    "protect all": lambda scene: scene.region.protect(RW),
    "install guards": lambda scene: scene.region.advise_destructive(
        DestructiveAdvice.GUARD_INSTALL, 0, PAGE
    ),
    "add": lambda scene: scene.arena.add_anon(0, PAGE),
    "add read-only": lambda scene: scene.arena.add_anon_protection(PAGE, PAGE, READ),
    "remove": lambda scene: scene.arena.remove(0, SIZE),
    "into arena": keep_arena,
    "fail otherwise": fail_otherwise,
    "collect garbage": lambda scene: gc.collect(0),
}

CALLS: dict[str, Callable[[Scene], object]] = {
    "view": lambda scene: scene.region.view(0, PAGE)[0],
    "read": lambda scene: scene.region.read_slice(bytearray(PAGE), 0),
    "write": lambda scene: scene.region.write_slice(b"\1" * PAGE, 0),
    "index": lambda scene: scene.region[:PAGE],
    "assign": lambda scene: scene.region.__setitem__(slice(0, 5), b"12345"),
    "find": lambda scene: scene.region.find(b"\2", 0, PAGE),
    "read_obj": lambda scene: scene.region.read_obj(u64, 0),
    "write_obj": lambda scene: scene.region.write_obj(u64, 2**64 - 1, 0),
    "copy slice": lambda scene: scene.slice.sub_slice(0, 8).copy_to_volatile_slice(scene.slice),
    "load": lambda scene: scene.slice.load(u8, 3),
    "load_many": lambda scene: scene.slice.load_many(u64, 3, 8),
    "store_many": lambda scene: scene.slice.store_many(u64, [2**64 - 1] * 3, 8),
    "read_exact": lambda scene: scene.region.read_exact(bytearray(PAGE), 0),
    "write_all": lambda scene: scene.slice.write_all(b"\1" * PAGE, 0),
    "protect some": lambda scene: scene.region.protect(READ, 0, PAGE),
    "protect nothing": lambda scene: scene.region.protect(NONE, PAGE, PAGE),
    "protect all": lambda scene: scene.region.protect(READ),
    "install guards": lambda scene: scene.region.advise_destructive(
        DestructiveAdvice.GUARD_INSTALL, 0, 2 * PAGE
    ),
    "remove guards": lambda scene: scene.region.advise_destructive(
        DestructiveAdvice.GUARD_REMOVE, 0, 2 * PAGE
    ),
    "drop": lambda scene: scene.region.drop_page_cache(0, PAGE),
    "remove_range": lambda scene: scene.region.remove_range(0, PAGE),
    "populate": lambda scene: scene.region.populate(0, 2 * PAGE, write=True),
    "residency": lambda scene: scene.region.residency(),
    "lock": lambda scene: scene.region.lock(0, PAGE),
    "msync": lambda scene: scene.region.msync(),
    "guard": lambda scene: scene.region.fault_guard().__enter__(),
    "into arena": keep_arena,
    "add": lambda scene: scene.arena.add_anon(0, 2 * PAGE),
    "add beside": lambda scene: scene.arena.add_anon_protection(3 * PAGE, PAGE, READ),
    "remove": lambda scene: scene.arena.remove(0, 2 * PAGE),
    "segments": lambda scene: scene.arena.segments(),
    "close": lambda scene: scene.region.close(),
}

ARENA_ONLY = {"add", "add beside", "add read-only", "remove", "segments"}
KINDS = ("shared", "private", "ranged", "arena")


def fits(name: str, kind: str) -> bool:
    return name != "into arena" if kind == "arena" else name not in ARENA_ONLY


def interrupt_everywhere(kind: str, act_name: str) -> None:
    """Interrupt each call at each place with one act; the last line tells what was going on."""
    # Before anybody can interrupt: the first access of a process puts the fault handlers in place.
    MemoryMapping.new(PAGE)[0] = 1
    gc.disable()
    for call_name, call in CALLS.items():
        if not fits(call_name, kind):
            continue
        for at in count(1):
            scene = Scene(kind)
            print(f"{kind}: {act_name!r} at place {at} of {call_name!r}", flush=True)  # noqa: T201
            act = partial(ACTS[act_name], scene)
            with interrupted(at, act) as places, suppress(MmapError):
                call(scene)
            scene.assert_sound()
            if places[0] < at:
                break
    gc.enable()


@pytest.mark.race
@pytest.mark.parametrize(
    ("kind", "act"),
    [(kind, act) for kind in KINDS for act in ACTS if fits(act, kind)],
)
def test_call_in_the_middle_of_any_call_leaves_everything_sound(kind: str, act: str) -> None:
    ended = in_process(interrupt_everywhere, kind, act, watched=False)
    where = ended.output.splitlines()[-1] if ended.output else "at the start"
    assert (ended.status, ended.killed_by) == (0, None), f"{where}\n{ended.errors}"


def answer_while(call: Callable[[], object], act: Act) -> set[object]:
    """What a call answers, or its error's class, wherever in it an act takes place."""
    answers: set[object] = set()
    for at in count(1):
        with interrupted(at, act) as places:
            try:
                answer = call()
            except MmapError as error:
                answer = type(error)
        answers.add(answer)
        if places[0] < at:
            return answers
    raise AssertionError


def test_number_is_not_mistaken_for_the_failure_of_another_call() -> None:
    """The largest number is also what a failed load returns, and errno then tells them apart."""
    scene = Scene("shared")
    scene.region.write_obj(u64, 2**64 - 1, 0)
    act = partial(fail_otherwise, scene)
    assert answer_while(lambda: scene.region.read_obj(u64, 0), act) == {2**64 - 1}
    assert answer_while(lambda: scene.slice.load(u64), act) == {2**64 - 1}
    assert answer_while(lambda: scene.region.read_obj(u64, SIZE - 7), act) == {InvalidRangeError}


def test_failed_constructor_tells_its_own_failure() -> None:
    scene = Scene("shared")

    def succeed() -> None:
        MemoryMapping.new(PAGE).close()
        scene.region.read_obj(u64, 0)

    for act in (partial(fail_otherwise, scene), succeed):
        answers = answer_while(lambda: MemoryMapping.from_fd(2**30, PAGE), act)
        assert answers == {BadDescriptorError}


class ClosingIndex(Index):
    """A number that closes a region as it is asked for."""

    def __init__(self, value: int, region: MappedRegion) -> None:
        super().__init__(value)
        self._region = region

    def __index__(self) -> int:
        self._region.close()
        return super().__index__()


WITH_AN_INDEX: dict[str, Callable[[Any, Any], object]] = {
    "read_slice": lambda region, number: region.read_slice(bytearray(8), number),
    "write_slice": lambda region, number: region.write_slice(b"12345678", number),
    "read_exact": lambda region, number: region.read_exact(bytearray(8), number),
    "write_all": lambda region, number: region.write_all(b"12345678", number),
    "item": lambda region, number: region[number],
    "slice": lambda region, number: region[number:8],
    "slice end": lambda region, number: region[0:number],
    "slice step": lambda region, number: region[0:9:number],
    "set item": lambda region, number: region.__setitem__(number, 1),
    "set value": lambda region, number: region.__setitem__(0, number),
    "set slice": lambda region, number: region.__setitem__(slice(number, 3), b"ab"),
    "view": lambda region, number: region.view(number),
    "view count": lambda region, number: region.view(0, number),
    "read_obj": lambda region, number: region.read_obj(u64, number),
    "write_obj": lambda region, number: region.write_obj(u64, number, number),
    "find": lambda region, number: region.find(b"a", number),
    "is_all_zero": lambda region, number: region.is_all_zero(number, number),
    "get_slice": lambda region, number: region.get_slice(number, number),
    "range_end": lambda region, number: region.range_end(number, number),
    "advise": lambda region, number: region.advise(Advice.RANDOM, number),
    "protect": lambda region, number: region.protect(READ, Index(0), number),
    "protect start": lambda region, number: region.protect(READ, number),
    "drop": lambda region, number: region.drop_page_cache(0, number),
    "remove_range": lambda region, number: region.remove_range(0, number),
    "guards": lambda region, number: region.advise_destructive(
        DestructiveAdvice.GUARD_INSTALL, 0, number
    ),
    "msync": lambda region, number: region.msync(number),
    "lock": lambda region, number: region.lock(number),
    "populate": lambda region, number: region.populate(number),
    "residency": lambda region, number: region.residency(number),
    "flush": lambda region, number: region.flush_region(number, number),
}


def close_by_index(kind: str) -> None:
    """A call works to its end, or finds the region closed; nothing else, and no signal."""
    for name, call in WITH_AN_INDEX.items():
        for value in (0, 1, PAGE, SIZE, SIZE + 1, -1):
            scene = Scene(kind)
            address = scene.region.as_ptr()
            del scene.slice
            try:
                kept = call(scene.region, ClosingIndex(value, scene.region))
            except (MmapError, ValueError):
                kept = None
            assert scene.region.closed, name
            if isinstance(kept, memoryview) and kept.nbytes:
                kept[0]
            del kept
            assert not is_mapped(address), f"{name} keeps the pages"


@pytest.mark.not_sanitized(MEMORY_IS_COUNTED)
@pytest.mark.parametrize("kind", KINDS)
def test_index_that_closes_the_region_is_survived(kind: str) -> None:
    in_process(close_by_index, kind).succeeded_silently()


def test_index_that_closes_an_arena_while_it_changes_is_survived() -> None:
    calls: list[Callable[[MemoryMappingArena, Any], None]] = [
        lambda arena, number: arena.add_anon(number, PAGE),
        lambda arena, number: arena.add_anon(0, number),
        lambda arena, number: arena.remove(number, PAGE),
        lambda arena, number: arena.remove(0, number),
    ]
    for call in calls:
        arena = MemoryMappingArena.new(SIZE)
        address = arena.as_ptr()
        with suppress(ClosedMappingError):
            call(arena, ClosingIndex(PAGE, arena))
        assert arena.closed
        assert not is_mapped(address, SIZE)


class ChangingIndex:
    """A number that is another one each time it is asked for."""

    def __init__(self, *values: int) -> None:
        self._values = iter(values)

    def __index__(self) -> int:
        return next(self._values)


def test_index_is_asked_once_or_checked_each_time() -> None:
    """A second number cannot reach where the first was refused."""
    mapping = MemoryMapping.new(SIZE)
    mapping[:] = b"\7" * SIZE
    mapping.protect(READ, 2 * PAGE, PAGE)
    calls: list[Callable[[ChangingIndex], object]] = [
        lambda number: mapping.remove_range(number, PAGE),
        lambda number: mapping.write_slice(b"\1" * PAGE, number),
        lambda number: mapping.populate(number, PAGE, write=True),
        lambda number: mapping.write_obj(u64, 0, number),
    ]
    for call in calls:
        with suppress(ProtectionError, StopIteration):
            call(ChangingIndex(0, 2 * PAGE, 2 * PAGE))
        assert mapping[2 * PAGE : 3 * PAGE] == b"\7" * PAGE


def buffers_that_close() -> None:
    """Sources and targets of copies that close the region as their memory is asked for."""

    class Closing:
        def __init__(self, region: MappedRegion) -> None:
            self.region = region

        def __buffer__(self, flags: int) -> memoryview:
            self.region.close()
            return memoryview(bytearray(8))

    for kind in KINDS:
        calls: list[Callable[[Any, Any], object]] = [
            lambda region, buffer: region.read_slice(buffer, 0),
            lambda region, buffer: region.write_slice(buffer, 0),
            lambda region, buffer: region.find(buffer),
            lambda region, buffer: region.__setitem__(slice(0, 8), buffer),
            lambda region, buffer: region.__setitem__(slice(0, 16, 2), buffer),
            lambda region, buffer: region.get_slice(0, 8).copy_to(buffer),
            lambda region, buffer: region.get_slice(0, 8).copy_from(buffer),
            lambda region, buffer: region.read_exact(buffer, 0),
            lambda region, buffer: region.write_all(buffer, 0),
            lambda region, buffer: region.get_slice(0, 8).read_exact(buffer),
            lambda region, buffer: region.get_slice(0, 8).write_all(buffer),
        ]
        for call in calls:
            region = Scene(kind).region
            address = region.as_ptr()
            with suppress(MmapError):
                call(region, Closing(region))
            assert region.closed
            assert not is_mapped(address)


@needs_python_buffers
def test_buffer_that_closes_the_region_is_survived() -> None:
    in_process(buffers_that_close).succeeded_silently()


@pytest.mark.parametrize("kind", KINDS)
def test_progress_that_closes_the_region_is_survived(kind: str) -> None:
    region = Scene(kind).region
    address = region.as_ptr()

    def progress(done: int, total: int) -> None:
        region.close()

    region.populate(0, PAGE, progress=progress)
    assert region.closed
    assert not is_mapped(address)


def test_progress_that_closes_between_two_windows_is_a_closed_error() -> None:
    mapping = MemoryMapping.new(33 << 20)
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        mapping.close()

    with pytest.raises(ClosedMappingError):
        mapping.populate(progress=progress)
    assert len(seen) == 1


def test_progress_may_call_the_mapping_again() -> None:
    mapping = MemoryMapping.new(SIZE)
    views: list[memoryview] = []

    def progress(done: int, total: int) -> None:
        mapping.populate(0, PAGE)
        mapping.protect(RW, 0, PAGE)
        views.append(mapping.view())
        mapping[0] = done % 251

    mapping.populate(progress=progress)
    assert views[0][0] == SIZE % 251


def collect_in_arena_add() -> None:
    """Garbage whose finalizers change the arena, collected in the middle of its own changes."""
    arena = MemoryMappingArena.new(16 * PAGE)
    kept: list[memoryview] = []
    finalized = [0]

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            finalized[0] += 1
            page = finalized[0] % 16
            with suppress(MmapError):
                arena.add_anon(page * PAGE, PAGE)
            with suppress(MmapError):
                arena.remove((page + 7) % 16 * PAGE, PAGE)
            with suppress(MmapError):
                kept[:] = [arena.view(page * PAGE, PAGE)]

    gc.set_threshold(1)
    for turn in range(2000):
        Garbage()
        page = turn % 12
        with suppress(MmapError):
            arena.add_anon(page * PAGE, 4 * PAGE)
        with suppress(MmapError):
            arena.remove(page * PAGE, 3 * PAGE)
        for view in kept:
            view[0] = view[-1] = 1
    gc.set_threshold(700)
    assert finalized[0] > 1000
    kept.clear()
    for page in range(16):
        with suppress(ProtectionError):
            arena.view(page * PAGE, PAGE)[0] = 1


def test_garbage_that_changes_an_arena_inside_its_own_change_is_survived() -> None:
    in_process(collect_in_arena_add).succeeded_silently()


def signals_in_arena_changes() -> None:
    """A signal handler that looks at an arena, and changes it, whatever it is just doing."""
    arena = MemoryMappingArena.new(8 * PAGE)
    kept: list[memoryview] = []
    handled = [0]

    def handle(number: int, frame: FrameType | None) -> None:
        handled[0] += 1
        page = handled[0] % 8
        with suppress(MmapError):
            kept[:] = [arena.view(page * PAGE, PAGE)]
        with suppress(MmapError):
            arena.add_anon((page + 3) % 8 * PAGE, PAGE)
        if time.monotonic() < end:
            # Not before: where all is slow they pile up.
            signal.setitimer(signal.ITIMER_REAL, 0.00005)

    end = time.monotonic() + 1
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.00005)
    while time.monotonic() < end:
        with suppress(MmapError):
            arena.add_anon(0, 8 * PAGE)
        for page in range(8):
            with suppress(MmapError):
                arena.remove(page * PAGE, PAGE)
            for view in tuple(kept):
                view[0] = 1
    assert handled[0] > 100


@pytest.mark.race
def test_signal_handler_that_uses_an_arena_inside_its_change_is_survived() -> None:
    in_process(signals_in_arena_changes).succeeded_silently()


def test_finalizers_and_weak_references_may_call_and_close() -> None:
    events: list[str] = []

    class Owner:
        def __init__(self) -> None:
            self.mapping = MemoryMapping.new(PAGE)
            self.view = self.mapping.view()
            self.itself = self

        def __del__(self) -> None:
            self.view[0] = 5
            assert self.mapping[0] == 5
            self.mapping.close()
            self.mapping.close()
            events.append("finalized")

    def gone(reference: "weakref.ref[MemoryMapping]") -> None:
        other.close()
        events.append("gone")

    other = MemoryMapping.new(PAGE)
    owner = Owner()
    addresses = [owner.mapping.as_ptr(), other.as_ptr()]
    reference = weakref.ref(owner.mapping, gone)
    del owner
    gc.collect()
    assert sorted(events) == ["finalized", "gone"]
    assert reference() is None
    assert other.closed
    assert not any(map(is_mapped, addresses))


# Garbage


def closed_view(mapping: MemoryMapping) -> memoryview:
    view = mapping.view()
    mapping.close()
    return view


def used_by_a_guard(mapping: MemoryMapping) -> None:
    with mapping.fault_guard():
        mapping.view()[0] = 1


# Each works on an open mapping of a page that nobody else uses.
LAST_USES: dict[str, Callable[[MemoryMapping], object]] = {
    "read": lambda mapping: mapping[:],
    "write": lambda mapping: mapping.write_slice(b"last", 0),
    "load": lambda mapping: mapping.get_slice(0, 8).load(u64),
    "view": lambda mapping: bytes(mapping.view()),
    "file": lambda mapping: mapping.open().read(),
    "protect": lambda mapping: mapping.protect(READ),
    "resize": lambda mapping: mapping.resize(10),
    "advise": lambda mapping: mapping.advise(Advice.RANDOM),
    "guard": used_by_a_guard,
    "arena": lambda mapping: mapping.into_arena().add_anon(0, PAGE),
    "close": lambda mapping: mapping.close(),
}


def use_last_in_finalizers(name: str) -> None:
    """A finalizer in a garbage cycle uses a mapping that was made before the finalizer's object."""
    ended: list[int] = []

    class Node:
        def __init__(self, mapping: MemoryMapping) -> None:
            self.mapping, self.itself = mapping, self

        def __del__(self) -> None:
            address = self.mapping.as_ptr()
            assert is_mapped(address)
            LAST_USES[name](self.mapping)
            ended.append(address)

    for _ in range(100):
        Node(MemoryMapping.anonymous(PAGE))
        gc.collect()
        assert not is_mapped(ended[-1])
    assert len(ended) == 100


@pytest.mark.parametrize("name", LAST_USES)
def test_finalizer_of_a_garbage_cycle_uses_a_region_of_the_cycle(name: str) -> None:
    in_process(use_last_in_finalizers, name).succeeded_silently()


def leave_a_guard_in_a_finalizer() -> None:
    class Guarded:
        def __init__(self, mapping: MemoryMapping) -> None:
            self.guard, self.itself = mapping.fault_guard(), self
            self.guard.__enter__()

        def __del__(self) -> None:
            self.guard.__exit__(None, None, None)

    for _ in range(100):
        Guarded(MemoryMapping.anonymous(PAGE))
        gc.collect()


def test_finalizer_of_a_garbage_cycle_leaves_its_guard() -> None:
    in_process(leave_a_guard_in_a_finalizer).succeeded_silently()


def test_finalizer_of_a_garbage_cycle_uses_the_descriptor_of_its_shared_memory() -> None:
    lengths: list[tuple[int, int]] = []

    class Node:
        def __init__(self, memory: SharedMemory) -> None:
            self.memory, self.itself = memory, self

        def __del__(self) -> None:
            with tempfile.TemporaryFile() as other:  # has the lowest number that is free
                other.truncate(PAGE)
                self.memory.resize(10)
                lengths.append(
                    (os.fstat(self.memory.fileno()).st_size, os.fstat(other.fileno()).st_size)
                )

    with process_unchanged():
        Node(SharedMemory.new("finalized", PAGE))
        gc.collect()
        assert lengths == [(10, PAGE)]


def test_generator_of_a_garbage_cycle_ends_with_a_write() -> None:
    view: list[memoryview] = []

    def writer(mapping: MemoryMapping, box: list[object]) -> Generator[list[object]]:
        view.append(mapping.view())
        try:
            yield box
        finally:
            mapping[:4] = b"last"

    box: list[object] = []
    generator = writer(MemoryMapping.anonymous(PAGE), box)
    box.append(generator)
    next(generator)
    del generator, box
    gc.collect()
    assert bytes(view[0][:4]) == b"last"


CYCLES: dict[str, Callable[[MemoryMapping], object]] = {
    "region": lambda mapping: mapping,
    "view": lambda mapping: mapping.view(),
    "part of a view": lambda mapping: mapping.view()[5:9].cast("H"),
    "slice": lambda mapping: mapping.get_slice(0, 8),
    "guard": lambda mapping: mapping.fault_guard(),
    "entered guard": lambda mapping: mapping.fault_guard().__enter__(),
    "bound method": lambda mapping: (mapping.close, mapping.view().tobytes),
    "arena": lambda mapping: mapping.into_arena(),
    "array": lambda mapping: mapping.__array__(),
    "closed": closed_view,
}


@pytest.mark.parametrize("make", CYCLES.values(), ids=CYCLES.keys())
def test_garbage_cycle_is_unmapped_when_it_is_collected(
    make: Callable[[MemoryMapping], object],
) -> None:
    gc.collect()
    mapping = MemoryMapping.new(PAGE)
    address = mapping.as_ptr()
    cycle: list[object] = [mapping, make(mapping)]
    cycle.append(cycle)
    del mapping
    assert is_mapped(address)
    del cycle
    gc.collect()
    assert not is_mapped(address)


def test_view_in_a_garbage_cycle_no_longer_counts() -> None:
    mapping = MemoryMapping.new(PAGE)
    cycle: list[object] = [mapping.view()]
    cycle.append(cycle)
    assert mapping.live_views == 1
    del cycle
    gc.collect()
    assert mapping.live_views == 0
    mapping.protect(NONE)


class Marker:
    pass


def test_error_that_is_caught_keeps_nothing() -> None:
    """Where an error and a frame that it passed know each other, both stay, and what they hold."""

    def caught(call: Callable[[], object]) -> "weakref.ref[Marker]":
        marker = Marker()
        with suppress(mmapwrap.MmapError):
            call()
            pytest.fail("no error")
        return weakref.ref(marker)

    with MemoryMapping.new(PAGE) as m, MemoryMappingArena.new(PAGE) as a:
        m.protect(READ)
        with SharedMemory.new("sealed", PAGE) as memory:
            memory.add_seals(mmapwrap.MemfdSeals.SEAL)
            calls: list[Callable[[], object]] = [
                lambda: memory.add_seals(mmapwrap.MemfdSeals.GROW),
                lambda: memory.map(2 * PAGE),
                lambda: SharedMemory.new("x", -1),
                lambda: MemoryMapping.new(0),
                lambda: MemoryMapping.new(2**63),
                lambda: MemoryMapping.from_fd(10**6, PAGE),
                lambda: MemoryMapping.from_file(10**6),
                lambda: MemoryMapping.from_file("/missing"),
                lambda: MemoryMapping.from_file("a\0b"),
                lambda: MemoryMapping.anonymous(PAGE, prot=NONE, populate=True),
                lambda: MemoryMapping.anonymous(PAGE, name="[name]"),
                lambda: m[PAGE],
                lambda: m.write_slice(b"a", 0),
                lambda: m.view(0, 2 * PAGE),
                lambda: m.write_obj(mmapwrap.u64, 1, 0),
                lambda: m.read_obj(mmapwrap.u64, PAGE),
                lambda: m.get_slice(0, 9).load(mmapwrap.u64, 1),
                lambda: m.advise(mmapwrap.Advice.NORMAL, 1, PAGE),
                m.evict,
                a.view,
                lambda: a.add_anon(1, PAGE),
                lambda: a.add_fd(0, PAGE, 10**6),
                lambda: a.protect(RW),
            ]
            gc.collect()
            gc.disable()
            try:
                kept = [at for at, call in enumerate(calls) if caught(call)() is not None]
            finally:
                gc.enable()
    assert kept == []


# Threads


def unexpected_in_threads(seconds: float, *calls: Callable[[], object]) -> list[BaseException]:
    """Repeats the calls, each in a thread of its own; what is no error of the library."""
    stop, unexpected = threading.Event(), list[BaseException]()

    def repeat(call: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                call()
            except MmapError:
                continue
            except BaseException as error:  # noqa: BLE001  # for the main thread to show
                unexpected.append(error)
                return

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    return unexpected


def everything_at_once(kind: str) -> None:
    """Close, views, slices and calls from several threads, on regions that come and go."""
    sys.setswitchinterval(1e-5)
    scenes = [Scene(kind) for _ in range(3)]
    turns = [0]

    def replace() -> None:
        turns[0] += 1
        old = scenes[turns[0] % 3]
        scenes[turns[0] % 3] = Scene(kind)
        old.region.close()

    def use(number: int) -> None:
        scene = scenes[number % 3]
        for call in CALLS.values():
            with suppress(MmapError, AssertionError):
                call(scene)
        part = scene.region.get_slice(0, PAGE)
        with suppress(ProtectionError):
            view = scene.region.view(0, PAGE)
            scene.region.close()
            view[0] = view[1]
        part.copy_to(bytearray(8))

    unexpected = unexpected_in_threads(0.8, replace, *[partial(use, number) for number in range(3)])
    assert not unexpected, unexpected
    assert turns[0] > 10


@pytest.mark.race
@pytest.mark.parametrize("kind", KINDS)
def test_everything_at_once_in_threads_is_survived(kind: str) -> None:
    in_process(everything_at_once, kind).succeeded_silently()


def race_of_access_and_layout(kind: str) -> None:
    """Readers and writers in the middle of their copies while the pages under them change."""
    sys.setswitchinterval(1e-5)
    size = 64 * PAGE
    region: Any = MemoryMapping.new(size)
    changes: list[Callable[[], object]] = [
        lambda: region.protect(NONE, 0, size // 2),
        lambda: region.protect(RW, 0, size // 2),
        lambda: region.protect(READ),
        lambda: region.protect(RW),
    ]
    if DestructiveAdvice.GUARD_INSTALL.is_supported():
        install, take_back = DestructiveAdvice.GUARD_INSTALL, DestructiveAdvice.GUARD_REMOVE
        changes += [
            lambda: region.advise_destructive(install, PAGE, 20 * PAGE),
            lambda: region.advise_destructive(take_back),
        ]
    if kind == "arena":
        region = region.into_arena()
        changes += [
            lambda: region.remove(0, size),
            lambda: region.add_anon(0, size),
            lambda: region.remove(4 * PAGE, 40 * PAGE),
            lambda: region.add_anon(0, size),
        ]
    part = region.get_slice(0, size)
    buffer, counts = bytearray(size), {"allowed": 0, "refused": 0, "changed": 0}

    def change() -> None:
        for call in changes:
            call()
        counts["changed"] += 1

    def access(call: Callable[[], object]) -> None:
        try:
            call()
        except ProtectionError:
            counts["refused"] += 1
        else:
            counts["allowed"] += 1

    unexpected = unexpected_in_threads(
        1.2,
        change,
        lambda: access(lambda: region.read_slice(buffer, 0)),
        lambda: access(lambda: region.write_slice(bytes(size), 0)),
        lambda: access(lambda: region.find(b"\1" * 8)),
        lambda: access(lambda: region.rfind(b"\1" * 8)),
        lambda: access(part.is_all_zero),
        lambda: access(lambda: part.copy_to_volatile_slice(part.sub_slice(PAGE, PAGE))),
        lambda: access(lambda: region.read_obj(u64, PAGE - 4)),
        lambda: access(lambda: sum(region.view(PAGE, PAGE))),
    )
    assert not unexpected, unexpected
    assert all(counts.values()), counts


@pytest.mark.race
@pytest.mark.parametrize("kind", ["mapping", "arena"])
def test_access_that_races_with_a_change_of_layout_is_an_error_or_works(kind: str) -> None:
    in_process(race_of_access_and_layout, kind).succeeded_silently()


def test_layout_is_not_locked_while_an_index_waits_for_another_thread() -> None:
    """A number may come from where another thread has to use a region first."""
    one, two = MemoryMapping.new(SIZE), MemoryMapping.new(SIZE)

    class WaitingIndex(Index):
        def __index__(self) -> int:
            thread = threading.Thread(target=two.protect, args=(READ,), daemon=True)
            thread.start()
            thread.join(5)
            waited.append(thread.is_alive())
            return super().__index__()

    waited: list[bool] = []
    arena = MemoryMappingArena.new(SIZE)
    one.protect(READ, 0, WaitingIndex(PAGE))
    one.view(WaitingIndex(0), PAGE).release()
    arena.add_anon(WaitingIndex(0), PAGE)
    arena.remove(0, WaitingIndex(PAGE))
    assert not any(waited), waited


@pytest.mark.race
def test_shared_memory_closed_while_threads_use_it_never_hits_another_descriptor() -> None:
    memory = [SharedMemory.new("lifetime", PAGE)]
    others: list[int] = []

    def replace() -> None:
        memory[0].close()
        others.append(os.open(os.devnull, os.O_RDONLY))
        memory[0] = SharedMemory.new("lifetime", PAGE)
        os.close(others.pop())

    def use() -> None:
        with memory[0].try_clone() as clone, clone.map() as mapping:
            mapping[0] = 1

    assert unexpected_in_threads(0.7, replace, use, use) == []


# The interpreter's end

ENDINGS = {
    "everything open": """
        import mmapwrap, numpy as np
        mapping = mmapwrap.MemoryMapping.new(99999)
        view, part = mapping.view(), mapping.get_slice(0, 8)
        array = np.asarray(mapping)
        guard = mapping.fault_guard()
        guard.__enter__()
        arena = mmapwrap.MemoryMappingArena.new(1 << 20)
        arena.add_anon(0, 4096)
        memory = mmapwrap.SharedMemory.new("end", 4096)
        mapped = memory.map()
        mapped.use_dontfork()
    """,
    "cycles": """
        import gc, mmapwrap
        gc.disable()
        mapping = mmapwrap.MemoryMapping.new(4096)
        cycle = [mapping, mapping.view(), mapping.get_slice(0, 8), mapping.fault_guard()]
        cycle.append(cycle)
        del cycle, mapping
    """,
    "finalizers": """
        import mmapwrap
        class Last:
            def __init__(self):
                self.mapping = mmapwrap.MemoryMapping.new(4096)
                self.view = self.mapping.view()
                self.memory = mmapwrap.SharedMemory.new("end", 4096)
            def __del__(self):
                self.view[0] = 1
                self.mapping.write_slice(b"x", 0)
                self.mapping.close()
                self.memory.close()
        last = Last()
        mmapwrap.kept = Last()
        import sys
        sys.kept = Last()
    """,
    "held by a module that goes last": """
        import builtins, sys, mmapwrap
        mapping = mmapwrap.MemoryMapping.new(4096)
        builtins.kept = mapping.view()
        sys.modules["kept"] = mapping
        del mapping
    """,
    "inside a guard": """
        import sys, mmapwrap
        mapping = mmapwrap.MemoryMapping.new(4096)
        with mapping.fault_guard():
            view = mapping.view()
            sys.exit(0)
    """,
    "daemon threads in calls": """
        import threading, mmapwrap
        mapping = mmapwrap.MemoryMapping.new(64 << 20)
        def run():
            while True:
                mapping.populate()
                mapping.find(b"x")
                mapping.view(0, 9)
        for _ in range(4):
            threading.Thread(target=run, daemon=True).start()
        mapping.find(b"x")
    """,
    "at exit": """
        import atexit, mmapwrap
        mapping = mmapwrap.MemoryMapping.new(4096)
        view = mapping.view()
        atexit.register(mapping.close)
        atexit.register(lambda: view[0])
        atexit.register(lambda: mapping.protect(mmapwrap.Protection.read_write()))
    """,
    "a fault before": """
        import os, tempfile, mmapwrap
        file = tempfile.TemporaryFile()
        file.truncate(8192)
        mapping = mmapwrap.MemoryMapping.from_file(file)
        file.truncate(0)
        try:
            mapping[:]
        except mmapwrap.MappingFaultError:
            pass
        else:
            raise AssertionError
        view = mapping
    """,
    "a guarded fault before": """
        import os, tempfile, mmapwrap
        file = tempfile.TemporaryFile()
        file.truncate(8192)
        mapping = mmapwrap.MemoryMapping.from_file(file)
        view = mapping.view()
        file.truncate(0)
        try:
            with mapping.fault_guard():
                view[0]
        except mmapwrap.MappingFaultError:
            pass
        else:
            raise AssertionError
    """,
}


@pytest.mark.parametrize("program", ENDINGS.values(), ids=ENDINGS.keys())
def test_interpreter_ends_quietly(program: str) -> None:
    # Cut loose from the indentation here; sys.exit(0) inside is part of it.
    ended = child(inspect.cleandoc("\n" + program))
    assert (ended.succeeded(), ended.errors) == ("", "")
