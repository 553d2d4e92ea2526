"""The lock of a region's layout: which calls wait for a change, and what a change leaves behind."""

import contextlib
import gc
import logging.config
import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from forks import run_forked
from kernel_view import MIB, PAGE, child, in_process, say
from meanwhile import changing, interrupted_after, pages_of, run_for
from protections import NONE, READ, RW

import mmapwrap
from mmapwrap import (
    ClosedMappingError,
    DestructiveAdvice,
    MappedRegion,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    ProtectionError,
    RegionBusyError,
    SharedMemory,
)
from mmapwrap._core import changes, python_types
from mmapwrap._core.access import AccessMap


def test_change_in_the_middle_of_a_change_is_refused_and_changes_nothing() -> None:
    with MemoryMapping.new(4 * PAGE) as mapping, MemoryMapping.new(PAGE) as other:
        pages = pages_of(mapping)
        refused: list[str] = []

        def handler() -> int:
            other.protect(READ)
            with pytest.raises(RegionBusyError) as raised:
                mapping.protect(READ, 0, PAGE)
            refused.append(str(raised.value))
            with pytest.raises(RegionBusyError):
                mapping.view()
            return 0

        pages.exclusively(changes.change_access, pages, 0, 4 * PAGE, READ.bits, handler)
        assert refused == [
            "[Errno 16] a call inside a change of the same region: Device or resource busy"
        ]
        assert pages.access.ranges(0, 4 * PAGE) == [(0, 4 * PAGE, READ.bits)]
        assert mapping.view().nbytes == 4 * PAGE


def test_other_regions_do_not_wait_for_a_change() -> None:
    with MemoryMapping.new(PAGE) as changed, MemoryMapping.new(PAGE) as other:
        arena = MemoryMappingArena.new(4 * PAGE)
        arena.add_anon(PAGE, PAGE)
        with changing(changed):
            assert other.view().nbytes == PAGE
            assert arena.view(PAGE, PAGE).nbytes == PAGE
            assert arena[PAGE] == 0
            arena[PAGE : 2 * PAGE] = b"a" * PAGE
            assert arena.get_slice(PAGE, 8).copy_to(bytearray(8)) == 8
            with pytest.raises(ProtectionError):
                arena.view()
        arena.close()


def test_what_reads_a_region_does_not_wait_for_its_change_but_a_view_does() -> None:
    with MemoryMapping.new(2 * PAGE) as mapping:
        mapping.protect(READ, 0, PAGE)
        views: list[memoryview] = []
        viewer = threading.Thread(target=lambda: views.append(mapping.view()))
        with changing(mapping):
            viewer.start()
            assert mapping[0] == mapping[PAGE] == 0
            viewer.join(0.2)
            assert not views
            assert mapping.live_views == 0
        viewer.join()
        assert views[0].readonly
        assert mapping.live_views == 1


def test_remove_range_waits_for_a_change() -> None:
    with MemoryMapping.new(PAGE) as mapping:
        mapping[0] = 1
        remover = threading.Thread(target=mapping.remove_range, args=(0, PAGE))
        with changing(mapping):
            remover.start()
            remover.join(0.2)
            assert mapping[0] == 1
        remover.join()
        assert mapping[0] == 0


def test_view_that_a_change_came_in_between_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    export = python_types.new_export

    def after_a_change(*arguments: Any) -> object:
        monkeypatch.undo()
        mapping.protect(READ)
        return export(*arguments)

    with MemoryMapping.new(PAGE) as mapping:
        monkeypatch.setattr(python_types, "new_export", after_a_change)
        view = mapping.view()
        assert view.readonly
        assert mapping.live_views == 1
        with pytest.raises(mmapwrap.ViewsExportedError):
            mapping.protect(NONE)


def test_wait_for_a_change_ends_with_what_a_signal_handler_raises() -> None:
    with MemoryMapping.new(PAGE) as mapping:
        for call in (mapping.view, lambda: mapping.protect(READ)):
            with changing(mapping):
                assert interrupted_after(0.05, call)
            assert mapping.live_views == 0
            mapping.view().release()
        mapping[0] = 1


def test_change_that_raises_lets_the_next_one_in() -> None:
    class Expected(Exception):  # noqa: N818
        pass

    def fail() -> None:
        raise Expected

    with MemoryMapping.new(PAGE) as mapping:
        pages = pages_of(mapping)
        for lock in (pages.exclusively, pages.consistently):
            with pytest.raises(Expected):
                lock(fail)
            thread = threading.Thread(target=mapping.protect, args=(RW,))
            thread.start()
            thread.join(20)
            assert not thread.is_alive()


def test_segments_that_a_change_came_in_between_are_listed_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranges = AccessMap.ranges

    def after_a_change(pages: AccessMap, start: int, end: int) -> list[tuple[int, int, int]]:
        monkeypatch.undo()
        arena.remove(PAGE, PAGE)
        return ranges(pages, start, end)

    with MemoryMappingArena.new(4 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        arena.add_anon(PAGE, PAGE)
        monkeypatch.setattr(AccessMap, "ranges", after_a_change)
        assert [segment.offset for segment in arena.segments()] == [0]
        with pytest.raises(RegionBusyError):
            pages_of(arena).exclusively(arena.segments)


def test_change_that_is_interrupted_remembers_no_more_than_both_allow() -> None:
    with MemoryMapping.new(2 * PAGE) as mapping:
        pages = pages_of(mapping)

        def interrupt() -> int:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pages.exclusively(changes.change_access, pages, 0, PAGE, READ.bits, interrupt)
        assert pages.access.ranges(0, 2 * PAGE) == [(0, PAGE, READ.bits), (PAGE, 2 * PAGE, RW.bits)]
        mapping.protect(RW)
        assert pages.access.ranges(0, 2 * PAGE) == [(0, 2 * PAGE, RW.bits)]


def test_ranges_of_what_is_the_same_everywhere_are_one_or_none() -> None:
    with MemoryMapping.new(2 * PAGE) as mapping:
        pages = pages_of(mapping)
        assert pages.access.ranges(1, PAGE) == [(1, PAGE, RW.bits)]
        assert pages.access.ranges(PAGE, PAGE) == []


# A daemon thread that Python leaves in the middle of a change: it never gets the GIL again.
LEFT_IN_A_CHANGE = """
import os, threading, time
from mmapwrap import MemoryMapping, Protection, RegionBusyError

mapping = MemoryMapping.new(4096)

class AtEnd:
    def __init__(self, call):
        self.call, self.error, self.write = call, RegionBusyError, os.write

    def __del__(self):
        try:
            self.call()
        except self.error as error:
            self.write(1, f"{error}\\n".encode())

at_end = AtEnd(CALL)
threading.Thread(
    target=mapping._pages.exclusively, args=(time.sleep, 600), daemon=True
).start()
time.sleep(0.1)
"""


@pytest.mark.parametrize(
    "call", ["mapping.view", "lambda to=Protection.read(): mapping.protect(to)"]
)
def test_change_that_python_exits_inside_of_is_waited_for_by_nobody(call: str) -> None:
    ended = child(LEFT_IN_A_CHANGE.replace("CALL", call), timeout=20)
    assert ended.errors == ""
    assert ended.succeeded() == (
        "[Errno 16] a call while Python exits, inside a change that never ends:"
        " Device or resource busy\n"
    )


def finalizers_and_an_application_lock(regions: str) -> None:
    """One thread changes a region under a lock, another makes garbage that takes that lock."""
    app_lock = threading.RLock()

    class Resource:
        """A finalizer that takes the lock of its pool, as many do."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            with app_lock:
                pass

    one = MemoryMapping.new(MIB)
    two = one if regions == "one region" else MemoryMapping.new(MIB)

    def change_under_the_lock() -> None:
        with app_lock:
            for page in range(3):
                one.protect(READ, page * PAGE, PAGE)
                one.protect(RW, page * PAGE, PAGE)
        time.sleep(0)

    def change_and_make_garbage() -> None:
        for page in range(50):
            Resource()
            two.protect(READ, page * PAGE, PAGE)
        two.protect(RW)
        time.sleep(0)

    gc.set_threshold(50)
    counts = run_for(1.5, change_under_the_lock, change_and_make_garbage)
    assert min(counts) > 0
    os._exit(0)


@pytest.mark.parametrize(
    "regions",
    [
        "two regions",
        pytest.param(
            "one region",
            marks=pytest.mark.xfail(
                run=False, reason="it hangs: the collector runs finalizers inside a change"
            ),
        ),
    ],
)
def test_finalizer_that_takes_a_lock_of_the_application_blocks_no_change(regions: str) -> None:
    in_process(finalizers_and_an_application_lock, regions, measured=False).succeeded()


class RingHandler(logging.Handler):
    """A handler of logging that keeps its records in an arena."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = MemoryMappingArena.new(MIB)
        for page in range(8):
            self.arena.add_anon(page * 2 * PAGE, PAGE)


def fork_and_end() -> None:
    """Fork a child that does nothing."""
    run_forked(lambda: None)


def configure_and_fork() -> None:
    def configure() -> None:
        config: dict[str, Any] = {
            "version": 1,
            "handlers": {"ring": {"()": RingHandler}},
            "root": {"handlers": ["ring"]},
        }
        logging.config.dictConfig(config)

    counts = run_for(1.5, configure, fork_and_end)
    assert min(counts) > 0
    os._exit(0)


@pytest.mark.race
def test_arena_made_by_logging_config_hangs_no_fork() -> None:
    in_process(configure_and_fork, measured=False).succeeded()


def hole_of_a_region_and_others() -> None:
    """While a large hole is punched, another region changes, and the process forks."""
    size = 256 * MIB
    memory = SharedMemory.new("large", size)
    large, other = memory.map(), MemoryMapping.new(2 * PAGE)

    def blocks() -> int:
        return os.fstat(memory.fileno()).st_blocks

    def is_done_meanwhile(act: Callable[[], object]) -> bool:
        large.populate(write=True)
        full = blocks()
        thread = threading.Thread(target=large.remove_range, args=(0, size))
        thread.start()
        while thread.is_alive() and blocks() == full:
            pass
        was_under_way = blocks() > 0
        act()
        is_under_way = was_under_way and blocks() > 0
        thread.join()
        assert blocks() == 0
        return is_under_way

    for act in (lambda: other.protect(READ), fork_and_end):
        assert any(is_done_meanwhile(act) for _ in range(10))
    os._exit(0)


def test_long_remove_range_delays_no_other_region_and_no_fork() -> None:
    in_process(hole_of_a_region_and_others, measured=False).succeeded()


def change_in_a_child(kind: str) -> None:
    """The process forks while another thread changes a region, and the child changes it."""
    size = 128 * MIB
    memory = SharedMemory.new("large", size)
    m = memory.map()

    def blocks() -> int:
        return os.fstat(memory.fileno()).st_blocks

    def use() -> bool:
        m.protect(READ, 0, PAGE)
        m.protect(RW)
        m.view()[0] = 1
        return True

    def use_in_a_thread() -> None:
        """The first thread of a child may have the identity of one that the parent has."""
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(use()))
        thread.start()
        thread.join()
        assert ended == [True]

    met = 0
    for _ in range(10):
        m.populate(write=True)
        full = blocks()
        thread = threading.Thread(target=m.remove_range, args=(0, size))
        thread.start()
        while thread.is_alive() and blocks() == full:
            pass
        met += blocks() > 0
        run_forked(use if kind == "main thread" else use_in_a_thread)
        thread.join()
    assert met > 0
    os._exit(0)


@pytest.mark.parametrize("kind", ["main thread", "new thread"])
def test_child_of_a_fork_inside_a_change_changes_the_region(kind: str) -> None:
    in_process(change_in_a_child, kind, measured=False).succeeded()


class Quit(BaseException):
    """What a debugger's trace function raises."""


TRACED: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "protect": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.protect(READ, 0, PAGE)),
    "protect all": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.protect(READ)),
    "guards": (
        lambda: MemoryMapping.new(4 * PAGE),
        lambda m: m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, PAGE),
    ),
    "remove_range": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.remove_range(0, PAGE)),
    "view": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.view()),
    "guard": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.fault_guard().__enter__()),
    "recover": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.recover()),
    "into_arena": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.into_arena()),
    "add_anon": (lambda: MemoryMappingArena.new(4 * PAGE), lambda a: a.add_anon(0, PAGE)),
    "remove": (
        lambda: MemoryMapping.new(4 * PAGE).into_arena(),
        lambda a: a.remove(0, PAGE),
    ),
    "segments": (lambda: MemoryMappingArena.new(4 * PAGE), lambda a: a.segments()),
}


def quits_at(place: int, region: MappedRegion, act: Callable[[Any], object]) -> bool:
    """Call with a trace function that raises at the place of this number; False past the last."""
    places = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal places
        if "mmapwrap" in frame.f_code.co_filename:
            places += 1
            if places > place:
                raise Quit
        return trace

    sys.settrace(trace)
    try:
        act(region)
    except Quit:
        return True
    finally:
        sys.settrace(None)
    return False


def use_after_quit(region: MappedRegion) -> None:
    with contextlib.suppress(ClosedMappingError):
        if isinstance(region, MemoryMapping):
            region.advise_destructive(DestructiveAdvice.GUARD_REMOVE)
            region.protect(RW)
        else:
            assert isinstance(region, MemoryMappingArena)
            region.add_anon(0, 4 * PAGE)
        region.view(0, 100)[0] = 1


def quit_everywhere() -> None:
    """A trace function raises at each place of each call in turn: the region is busy at none."""
    for name, (make, act) in TRACED.items():
        act(make())  # the first call of a process does more
        region, place = make(), 0
        while quits_at(place, region, act):
            try:
                use_after_quit(region)
            except MmapError as error:
                say(name, "left at place", place, "gives", repr(error))
            region, place = make(), place + 1
        assert place > 5


def test_trace_function_that_raises_leaves_no_region_busy() -> None:
    assert in_process(quit_everywhere, measured=False).succeeded() == ""


def test_change_inside_a_change_of_the_same_region_is_busy() -> None:
    m = MemoryMapping.new(4 * PAGE)
    seen: list[type[BaseException]] = []
    is_asked = False

    def look(frame: FrameType, event: str, argument: object) -> None:
        nonlocal is_asked
        if frame.f_code.co_name == "change_access" and event == "call" and not is_asked:
            is_asked = True
            try:
                m.protect(READ)
            except MmapError as error:
                seen.append(type(error))

    sys.setprofile(look)
    try:
        m.protect(READ, 0, PAGE)
    finally:
        sys.setprofile(None)
    assert seen == [RegionBusyError]
    m.protect(RW)
    m[0] = 1


def test_child_of_a_fork_inside_a_change_of_another_thread_can_tell_its_own_changes() -> None:
    program = """
        import os, threading, time
        from mmapwrap._core.layout import LayoutLock

        lock = LayoutLock()
        started = threading.Event()

        def hold(seconds):
            started.set()
            time.sleep(seconds)

        threading.Thread(target=lock.exclusively, args=(hold, 0.5)).start()
        started.wait()
        if (pid := os.fork()) == 0:
            lock.exclusively(int)
            started.clear()
            threading.Thread(target=lock.exclusively, args=(hold, 0.5)).start()
            started.wait()
            begin = time.monotonic()
            lock.consistently(int)
            os._exit(7 if time.monotonic() - begin > 0.3 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert child(program, measured=False).succeeded() == "7\n"
