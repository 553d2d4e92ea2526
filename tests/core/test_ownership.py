"""Pages: what they remember of a change that is interrupted, and the errors of refusals."""

import bz2
import errno
import gc
import io
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, SupportsIndex

import numpy as np
import pytest
from kernel_view import PAGE, KnownFile, child, in_process
from meanwhile import changing, interrupted_after, interrupted_at, pages_of

import mmapwrap
from mmapwrap import (
    BadDescriptorError,
    ClosedMappingError,
    InvalidArgumentError,
    MemoryMapping,
    MemoryMappingArena,
    Protection,
    ProtectionError,
    RegionBusyError,
    SharedMemory,
    UnsupportedByKernelError,
    _arguments,
    _mapped_file,
    _syscalls,
    _transfers,
    attempt,
)
from mmapwrap._ownership import Pages

READ, RW, NONE = Protection.read(), Protection.read_write(), Protection.none()


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

        pages.exclusively(pages.change, 0, 4 * PAGE, READ.bits, handler)
        assert refused == [
            "[Errno 16] a call inside a change of the same region: Device or resource busy"
        ]
        assert pages.ranges(0, 4 * PAGE) == [(0, 4 * PAGE, READ.bits)]
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
    export = _syscalls.new_export

    def after_a_change(*arguments: Any) -> object:
        monkeypatch.undo()
        mapping.protect(READ)
        return export(*arguments)

    with MemoryMapping.new(PAGE) as mapping:
        monkeypatch.setattr(_syscalls, "new_export", after_a_change)
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
    ranges = Pages.ranges

    def after_a_change(pages: Pages, start: int, end: int) -> list[tuple[int, int, int]]:
        monkeypatch.undo()
        arena.remove(PAGE, PAGE)
        return ranges(pages, start, end)

    with MemoryMappingArena.new(4 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        arena.add_anon(PAGE, PAGE)
        monkeypatch.setattr(Pages, "ranges", after_a_change)
        assert [segment.offset for segment in arena.segments()] == [0]
        with pytest.raises(RegionBusyError):
            pages_of(arena).exclusively(arena.segments)


def destructive(advice: mmapwrap.DestructiveAdvice) -> Callable[[MemoryMapping, Any], None]:
    return lambda mapping, offset: mapping.advise_destructive(advice, offset, PAGE)


CHANGES: dict[str, Callable[[MemoryMapping, Any], None]] = {
    "protect": lambda mapping, offset: mapping.protect(READ, offset, PAGE),
    "remove_range": lambda mapping, offset: mapping.remove_range(offset, PAGE),
    "REMOVE": destructive(mmapwrap.DestructiveAdvice.REMOVE),
    "GUARD_INSTALL": destructive(mmapwrap.DestructiveAdvice.GUARD_INSTALL),
    "GUARD_REMOVE": destructive(mmapwrap.DestructiveAdvice.GUARD_REMOVE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_what_has_become_an_arena_is_refused(change: str, known_file: KnownFile) -> None:
    arenas: list[MemoryMappingArena] = []

    class Offset:
        def __index__(self) -> int:
            arenas.append(mapping.into_arena())
            with known_file.path.open("r+b") as file:
                arenas[0].add_fd(0, PAGE, file)
            return 0

    mapping = MemoryMapping.new(PAGE)
    with pytest.raises(ClosedMappingError):
        CHANGES[change](mapping, Offset())
    with arenas[0] as arena:
        assert arena.segments()[0].prot == RW
        assert arena[:] == known_file.content[:PAGE] == known_file.path.read_bytes()[:PAGE]


@pytest.mark.parametrize("bits", [READ, RW])
def test_mapping_whose_way_to_an_arena_is_interrupted_anywhere_can_be_used(
    bits: Protection, known_file: KnownFile
) -> None:
    before, after = 2 * PAGE - 5, 2 * PAGE
    sizes: list[int] = []
    is_interrupted = True
    while is_interrupted:
        with MemoryMapping.from_file(known_file.path, before) as mapping:
            mapping.protect(bits)
            is_interrupted = interrupted_at(len(sizes), mapping.into_arena, KeyboardInterrupt)
            if not mapping.closed:
                size = mapping.size
                sizes.append(size)
                view = mapping.view()
                assert (view.nbytes, view.readonly) == (size, bits == READ)
                view.release()
                assert mapping[:] == known_file.content[:size]
                mapping.protect(NONE)
                mapping.protect(READ)
                with mapping.into_arena() as arena:
                    assert arena[:] == known_file.content[:after]
            elif is_interrupted:
                sizes.append(after)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (before, after)
    assert len(sizes) > 5


def test_read_only_mapping_stays_so_where_its_way_to_an_arena_is_interrupted(
    known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_arena = _syscalls.become_arena

    def interrupted(handle: Any) -> int:
        become_arena(handle)
        raise KeyboardInterrupt

    with MemoryMapping.from_file(known_file.path, 2 * PAGE - 5) as mapping:
        mapping.protect(READ)
        monkeypatch.setattr(_syscalls, "become_arena", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mapping.into_arena()
        assert mapping.size == mapping.view().nbytes == 2 * PAGE
        with pytest.raises(ProtectionError):
            mapping.remove_range(0, PAGE)
        with pytest.raises(ProtectionError):
            mapping[0] = 1
        assert mapping[:] == known_file.content[: 2 * PAGE]


def test_read_only_mapping_that_is_an_arena_all_at_once_loses_nothing(
    known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = _syscalls.remove

    def of_an_arena(*arguments: Any) -> int:
        mapping.into_arena().close()
        return remove(*arguments)

    with MemoryMapping.from_file(known_file.path, PAGE) as mapping:
        mapping.protect(READ)
        monkeypatch.setattr(_syscalls, "remove", of_an_arena)
        with pytest.raises(ProtectionError):
            mapping.remove_range(0, PAGE)
    assert known_file.path.read_bytes() == known_file.content


# What a signal handler raises, or whatever else Python runs beside a call, is nobody's failure.


class AlarmError(TimeoutError):
    """What a handler of SIGALRM may raise: an OSError without a number."""


def numbered() -> OSError:
    return TimeoutError(errno.ETIMEDOUT, "an alarm")


def busy() -> OSError:
    return RegionBusyError(errno.EBUSY, "fcntl")


def exported() -> mmapwrap.ViewsExportedError:
    return mmapwrap.ViewsExportedError(1)


class Number(float):
    """What has a `__float__` of Python's."""


Raised = Callable[[], BaseException]
Use = Callable[[MemoryMapping, SharedMemory], object]


def take(_: MemoryMapping, memory: SharedMemory) -> object:
    return SharedMemory.from_fd(memory)


TAKE_BUFFERS: dict[str, Use] = {
    "find": lambda mapping, _: mapping.find(b"a"),
    "read_slice": lambda mapping, _: mapping.read_slice(bytearray(1), 0),
}
BESIDE: dict[str, tuple[object, str, Raised, Use]] = {
    "evict, open": (_syscalls, "try_to_open", busy, lambda mapping, _: mapping.evict()),
    "evict, maps": (_syscalls, "lines_of", numbered, lambda mapping, _: mapping.evict()),
    "from_fd, fstat": (_syscalls, "file_status", AlarmError, take),
    "from_fd, name": (_syscalls, "link_target", numbered, take),
    "from_fd, fileno": (_arguments, "index", ClosedMappingError, take),
    "from_fd, seals": (
        _syscalls,
        "_fcntl",
        busy,
        lambda _, memory: SharedMemory.from_fd(memory, required_seals=mmapwrap.MemfdSeals.SHRINK),
    ),
    **{
        f"{name}, {raised.__name__}": (_syscalls, "_from_buffer", raised, use)
        for name, use in TAKE_BUFFERS.items()
        for raised in (exported, ValueError)
    },
    "msync": (_syscalls, "msync", OverflowError, lambda mapping, _: mapping.msync()),
    "read a byte": (_syscalls, "read_byte", OverflowError, lambda mapping, _: mapping[0]),
    "write a byte": (
        _syscalls,
        "write_byte",
        OverflowError,
        lambda mapping, _: mapping.__setitem__(0, 1),
    ),
    "load": (
        mmapwrap.u64,
        "_load",
        OverflowError,
        lambda mapping, _: mapping.read_obj(mmapwrap.u64, 0),
    ),
    "store": (
        mmapwrap.u64,
        "_store",
        OverflowError,
        lambda mapping, _: mapping.write_obj(mmapwrap.u64, 1, 0),
    ),
    "store a number": (
        Number,
        "__float__",
        OverflowError,
        lambda mapping, _: mapping.write_obj(mmapwrap.f64, Number(), 0),
    ),
    "read_from_fd": (
        _syscalls,
        "read_from_fd",
        busy,
        lambda mapping, memory: mapping.get_slice(0, PAGE).read_from_fd(memory),
    ),
    "write_to_fd, the descriptor": (
        _transfers,
        "as_descriptor",
        busy,
        lambda mapping, memory: mapping.get_slice(0, PAGE).write_to_fd(memory),
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_signal_handler_raises_is_no_failure_of_the_call(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, attribute, error, use = BESIDE[name]
    raised = error()

    def interrupted(*_: object) -> None:
        raise raised

    before = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with SharedMemory.new("interrupted", PAGE) as memory, memory.map() as mapping:
            with monkeypatch.context() as patched:
                patched.setattr(module, attribute, interrupted, raising=False)
                with pytest.raises(type(raised)) as caught:
                    use(mapping, memory)
            assert caught.value is raised
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_a_signal_handler_raises_as_a_guard_is_left_comes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised = IndexError("a handler's")

    def interrupted() -> None:
        raise raised

    with MemoryMapping.new(PAGE) as mapping, ExitStack() as left:
        guard = mapping.fault_guard()
        left.push(guard)
        guard.__enter__()
        with monkeypatch.context() as patched:
            patched.setattr(guard, "_entered", SimpleNamespace(pop=partial(interrupted)))
            with pytest.raises(IndexError) as caught:
                guard.__exit__(None, None, None)
        assert caught.value is raised


def read_what_is_missing(mapping: MemoryMapping, _: SharedMemory) -> None:
    with suppress(mmapwrap.MappingFaultError):
        mapping[0]


SOONER_OR_LATER: dict[str, tuple[Raised, Use]] = {
    "from_fd": (numbered, lambda _, memory: SharedMemory.from_fd(memory.fileno())),
    "from_file": (AlarmError, lambda _, memory: MemoryMapping.from_file(memory).close()),
    "msync": (OverflowError, lambda mapping, _: mapping.msync()),
    "a byte": (OverflowError, lambda mapping, _: mapping[5]),
    "find": (exported, lambda mapping, _: mapping.find(b"abc")),
    "evict": (busy, lambda mapping, _: mapping.evict()),
    "evict, an error of a call": (numbered, lambda mapping, _: mapping.evict()),
    "reason of a fault": (numbered, read_what_is_missing),
    "protect": (ClosedMappingError, lambda mapping, _: mapping.protect(RW)),
}


def interrupt_anywhere(name: str) -> None:
    """Wherever a signal's handler raises in a call, that and nothing else comes out of it."""
    error, use = SOONER_OR_LATER[name]
    interruptions, end = 0, time.monotonic() + 1
    with SharedMemory.new("interrupted", PAGE) as memory, memory.map() as mapping:
        path = f"/proc/self/fd/{memory.fileno()}"
        is_of_file = name.startswith(("evict", "reason"))
        with MemoryMapping.from_file(path) if is_of_file else mapping as used:
            if name.startswith("reason"):
                os.ftruncate(memory.fileno(), 0)

            def use_again_and_again() -> None:
                give_up = time.monotonic() + 5
                while time.monotonic() < give_up:
                    use(used, memory)

            started = time.monotonic()
            use(used, memory)
            took = min(max(time.monotonic() - started, 0.00003), 0.01)
            while time.monotonic() < end or interruptions < 20:
                seconds = took * (1 + interruptions % 60) / 30
                interruptions += interrupted_after(seconds, use_again_and_again, error())


@pytest.mark.race
@pytest.mark.parametrize("name", SOONER_OR_LATER)
def test_exception_of_a_signal_handler_comes_out_wherever_it_is_raised(name: str) -> None:
    # Coverage takes locks of its own, which an interruption would leave locked.
    in_process(interrupt_anywhere, name, measured=False, watched=False).succeeded()


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


def test_change_that_is_interrupted_remembers_no_more_than_both_allow() -> None:
    with MemoryMapping.new(2 * PAGE) as mapping:
        pages = pages_of(mapping)

        def interrupt() -> int:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pages.exclusively(pages.change, 0, PAGE, READ.bits, interrupt)
        assert pages.ranges(0, 2 * PAGE) == [(0, PAGE, READ.bits), (PAGE, 2 * PAGE, RW.bits)]
        mapping.protect(RW)
        assert pages.ranges(0, 2 * PAGE) == [(0, 2 * PAGE, RW.bits)]


def test_ranges_of_what_is_the_same_everywhere_are_one_or_none() -> None:
    with MemoryMapping.new(2 * PAGE) as mapping:
        pages = pages_of(mapping)
        assert pages.ranges(1, PAGE) == [(1, PAGE, RW.bits)]
        assert pages.ranges(PAGE, PAGE) == []


def test_guard_pages_stay_through_a_change_of_protection() -> None:
    if not mmapwrap.DestructiveAdvice.GUARD_INSTALL.is_supported():
        pytest.skip("this kernel has no guard pages")
    with MemoryMapping.anonymous(2 * PAGE, sharing=mmapwrap.Sharing.PRIVATE) as mapping:
        mapping.advise_destructive(mmapwrap.DestructiveAdvice.GUARD_INSTALL, 0, PAGE)
        mapping.protect(READ)
        with pytest.raises(ProtectionError):
            mapping[0]
        assert mapping[PAGE] == 0
        mapping.advise_destructive(mmapwrap.DestructiveAdvice.GUARD_REMOVE, 0, PAGE)
        assert mapping[0] == 0
        with pytest.raises(ProtectionError):
            mapping[0] = 1


def test_guard_pages_are_remembered_through_an_interrupted_change() -> None:
    if not mmapwrap.DestructiveAdvice.GUARD_INSTALL.is_supported():
        pytest.skip("this kernel has no guard pages")
    with MemoryMapping.anonymous(2 * PAGE, sharing=mmapwrap.Sharing.PRIVATE) as mapping:
        pages = pages_of(mapping)
        mapping.advise_destructive(mmapwrap.DestructiveAdvice.GUARD_INSTALL, 0, PAGE)

        def interrupt() -> int:
            assert pages.ranges(0, PAGE) == [(0, PAGE, 0)]
            raise KeyboardInterrupt

        for act in (interrupt, lambda: 0):
            with suppress(KeyboardInterrupt):
                pages.exclusively(pages.change, 0, 2 * PAGE, READ.bits, act, 1 << 16)
            assert pages.ranges(0, PAGE) == [(0, PAGE, 0)]
            with pytest.raises(ProtectionError):
                mapping.view(0, PAGE)
        assert mapping[PAGE] == 0


def test_guard_pages_that_cannot_be_installed_leave_those_that_were_there() -> None:
    if not mmapwrap.DestructiveAdvice.GUARD_INSTALL.is_supported():
        pytest.skip("this kernel has no guard pages")
    with MemoryMapping.anonymous(3 * PAGE, sharing=mmapwrap.Sharing.PRIVATE) as mapping:
        mapping.advise_destructive(mmapwrap.DestructiveAdvice.GUARD_INSTALL, 0, PAGE)
        mapping.lock(2 * PAGE, PAGE)  # no guard pages are installed in what is locked
        with pytest.raises(mmapwrap.InvalidSystemCallError):
            mapping.advise_destructive(mmapwrap.DestructiveAdvice.GUARD_INSTALL)
        with pytest.raises(ProtectionError):
            mapping[0]
        mapping[PAGE:] = b"\1" * (2 * PAGE)


def test_refusal_of_a_processor_without_flushing_names_the_feature() -> None:
    with MemoryMapping.new(PAGE) as mapping:
        error = pages_of(mapping).error(_syscalls.REFUSED_HERE, 0, 1)
    assert isinstance(error, UnsupportedByKernelError)
    assert error.feature == "flushing of cache lines"


@pytest.mark.parametrize("scalar", [mmapwrap.u64, mmapwrap.i64, mmapwrap.f64, mmapwrap.be_u64])
def test_number_that_looks_like_a_failed_load_is_read(scalar: mmapwrap.Scalar[Any]) -> None:
    failed = {
        "u64": _syscalls.FAILED_UNSIGNED,
        "be_u64": _syscalls.FAILED_UNSIGNED,
        "i64": _syscalls.FAILED_SIGNED,
        "f64": _syscalls.FAILED_FLOAT,
    }[scalar.name]
    with MemoryMapping.new(PAGE) as mapping:
        mapping.write_obj(scalar, failed, 8)
        assert mapping.read_obj(scalar, 8) == failed
        assert mapping.read_obj_volatile(scalar, 8) == failed


def test_populate_without_any_access_is_refused() -> None:
    with pytest.raises(ProtectionError) as caught:
        MemoryMapping.anonymous(PAGE, prot=NONE, populate=True)
    assert (caught.value.required, caught.value.actual) == (READ, NONE)


class Broken:
    def __init__(self, raised: Exception) -> None:
        self.raised = raised

    def fileno(self) -> int:
        raise self.raised

    def __index__(self) -> int:
        raise self.raised

    def __float__(self) -> float:
        raise self.raised


class Nested(Broken):
    def fileno(self) -> int:
        return Broken(self.raised).fileno()


ERRORS: list[Exception] = [
    OSError(errno.ENXIO, "gone"),
    OSError("without a number"),
    OverflowError("far"),
    ValueError("not that"),
    TypeError("not so"),
    AttributeError("nothing there"),
    ClosedMappingError(),
    RegionBusyError(errno.EBUSY, "mmap"),
]


def byte_at(mapping: MemoryMapping, index: SupportsIndex) -> int:
    return mapping[index]


TAKE_OBJECTS: dict[str, Callable[[MemoryMapping, Any], object]] = {
    "from_fd": lambda _, given: MemoryMapping.from_fd(given, PAGE),
    "from_file": lambda _, given: MemoryMapping.from_file(given),
    "shared memory": lambda _, given: SharedMemory.from_fd(given),
    "read_from_fd": lambda mapping, given: mapping.get_slice(0, 1).read_from_fd(given),
    "write_to_fd": lambda mapping, given: mapping.get_slice(0, 1).write_to_fd(given),
    "size": lambda _, given: MemoryMapping.new(given),
    "align": lambda _, given: MemoryMapping.anonymous(PAGE, align=given),
    "index": byte_at,
    "slice": lambda mapping, given: mapping[given:],
    "byte": lambda mapping, given: mapping.__setitem__(0, given),
    "offset": lambda mapping, given: mapping.view(given),
    "count": lambda mapping, given: mapping.view(0, given),
    "number": lambda mapping, given: mapping.write_obj(mmapwrap.u64, given, 0),
    "float": lambda mapping, given: mapping.write_obj(mmapwrap.f64, given, 0),
    "needle": lambda mapping, given: given in mapping,
}


@pytest.mark.parametrize("raised", ERRORS, ids=repr)
@pytest.mark.parametrize("name", TAKE_OBJECTS)
def test_what_a_callers_object_raises_comes_out_untouched(name: str, raised: Exception) -> None:
    for kind in (Broken, Nested):
        with MemoryMapping.new(PAGE) as mapping, pytest.raises(type(raised)) as caught:
            TAKE_OBJECTS[name](mapping, kind(raised))
        assert caught.value is raised
        assert (raised.__cause__, raised.__context__) == (None, None)
        raised.__traceback__ = None


def closed(file: Any) -> Any:
    file.close()
    return file


def closed_text_of_a_socket() -> Any:
    one, other = socket.socketpair()
    with one, other:
        return closed(one.makefile())


def closed_end_of_a_pipe() -> Any:
    one, other = multiprocessing.Pipe()
    other.close()
    return closed(one)


WITHOUT: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "memory": (io.BytesIO, io.UnsupportedOperation),
    "file": (lambda: closed(open(os.devnull)), ValueError),  # noqa: SIM115
    "bz2": (lambda: closed(bz2.open(os.devnull)), ValueError),  # noqa: SIM115
    "socket": (closed_text_of_a_socket, ValueError),
    "pipe": (closed_end_of_a_pipe, OSError),
    "shared memory": (lambda: closed(SharedMemory.new("closed", PAGE)), ClosedMappingError),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_descriptor_of_what_has_none_is_the_objects_own_error(name: str) -> None:
    make, kind = WITHOUT[name]
    file = make()
    calls: list[Callable[[], object]] = [lambda: MemoryMapping.from_fd(file, PAGE), file.fileno]
    for take_file in calls:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # its type is looked at
            take_file()
        assert type(caught.value) is kind


class Lying(int):
    """An integer that says it is of the library's kind."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.kind

    kind: Any = None


OF_A_KIND: list[tuple[type, Callable[[MemoryMapping, Any], object]]] = [
    (mmapwrap.Advice, lambda mapping, value: mapping.advise(value)),
    (mmapwrap.DestructiveAdvice, lambda mapping, value: mapping.advise_destructive(value)),
    (mmapwrap.SyncMode, lambda mapping, value: mapping.msync(mode=value)),
    (Protection, lambda mapping, value: mapping.protect(value)),
    (Protection, lambda mapping, value: mapping.prot.allows(value)),
    (mmapwrap.Sharing, lambda _, value: MemoryMapping.anonymous(PAGE, sharing=value)),
    (mmapwrap.Scalar, lambda mapping, value: mapping.read_obj(value, 0)),
    (
        mmapwrap.VolatileSlice,
        lambda mapping, value: mapping.get_slice(0, 1).copy_to_volatile_slice(value),
    ),
]


@pytest.mark.parametrize(("kind", "use"), OF_A_KIND)
def test_object_that_says_it_is_of_a_kind_is_not_believed(
    kind: type, use: Callable[[MemoryMapping, Any], object]
) -> None:
    value = Lying(102)
    value.kind = kind
    assert isinstance(value, kind)
    with MemoryMapping.new(PAGE) as mapping:
        for given in (value, HUGE):
            with pytest.raises(TypeError):
                use(mapping, given)


HUGE = 10**5000
"""Python makes no decimal digits of it."""


USES_OF_A_NUMBER: list[Callable[[MemoryMapping], object]] = [
    lambda _: MemoryMapping.new(HUGE),
    lambda _: MemoryMapping.anonymous(PAGE, align=1 << 20_000),
    lambda _: MemoryMapping.anonymous(PAGE, align=HUGE),
    lambda _: MemoryMapping.from_fd(HUGE, PAGE),
    lambda _: SharedMemory.new("huge", HUGE),
    lambda mapping: mapping[HUGE],
    lambda mapping: mapping.__setitem__(0, HUGE),
    lambda mapping: HUGE in mapping,
    lambda mapping: mapping.view(HUGE),
    lambda mapping: mapping.view(-HUGE),
    lambda mapping: mapping.view(0, HUGE),
    lambda mapping: mapping.view(0, -HUGE),
    lambda mapping: mapping.read_obj(mmapwrap.u8, HUGE),
    lambda mapping: mapping.write_obj(mmapwrap.u8, HUGE, 0),
    lambda mapping: mapping.write_obj(mmapwrap.f64, HUGE, 0),
    lambda mapping: mapping.get_slice(0, HUGE),
    lambda mapping: mapping.get_slice(0, 8).load(mmapwrap.u8, HUGE),
    lambda mapping: mapping.get_slice(0, 8).write_bytes(HUGE),
]


@pytest.mark.parametrize("use", USES_OF_A_NUMBER)
def test_number_of_thousands_of_digits_is_refused_by_name(
    use: Callable[[MemoryMapping], object],
) -> None:
    with MemoryMapping.new(PAGE) as mapping, pytest.raises(mmapwrap.MmapError) as caught:
        use(mapping)
    assert str(caught.value)
    assert repr(caught.value)


def test_offset_of_thousands_of_digits_is_refused_by_name() -> None:
    with SharedMemory.new("offset", PAGE) as memory:
        for offset in (HUGE, -HUGE):
            # The error is not kept: its frames hold the descriptor.
            with pytest.raises(mmapwrap.InvalidOffsetError, match="0x31e2"):
                memory.map(1, offset=offset)
            assert "0x31e2" in repr(mmapwrap.InvalidOffsetError(offset))


def test_descriptor_may_be_any_integer() -> None:
    with SharedMemory.new("integers", PAGE) as memory:
        with MemoryMapping.from_fd(np.int64(memory.fileno()), PAGE) as mapping:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            mapping[0] = 1
        with memory.map() as mapping:
            assert mapping[0] == 1
    with pytest.raises(BadDescriptorError):
        MemoryMapping.from_fd(-1, PAGE)


def test_array_of_another_type_is_a_copy_or_refused() -> None:
    with MemoryMapping.new(8) as mapping:
        mapping[:] = bytes(range(8))
        widened = np.asarray(mapping, dtype=np.uint16)
        assert widened.tolist() == list(range(8))
        copied = mapping.__array__(np.uint16)
        assert copied.tolist() == list(range(8))
        with pytest.raises(ValueError, match="another dtype"):
            mapping.__array__(np.uint16, copy=False)
        copied = mapping.__array__(copy=True)
        copied[0] = 9
        assert mapping[0] == 0
        assert np.shares_memory(mapping.__array__(np.uint8, copy=False), np.asarray(mapping))


def test_device_needs_a_size() -> None:
    with pytest.raises(InvalidArgumentError, match="size is needed"):
        MemoryMapping.from_file("/dev/zero")


def test_residency_has_the_length_of_its_pages() -> None:
    with MemoryMapping.new(3 * PAGE) as mapping:
        assert len(mapping.residency()) == 3


@pytest.mark.parametrize("other", [1, None, "rw"])
def test_protection_compares_with_protections_only(other: Any) -> None:
    with pytest.raises(TypeError):
        READ.allows(other)


@pytest.mark.parametrize("needle", [b"cd", ord("c"), bytearray(b"abcd")])
def test_region_contains_bytes_and_runs_of_them(needle: Any) -> None:
    with MemoryMapping.new(PAGE) as mapping:
        assert needle not in mapping
        mapping[100:104] = b"abcd"
        assert needle in mapping


def test_evict_where_no_descriptor_is_left_says_so(known_file: Any) -> None:
    program = """
        import os, resource, sys
        from mmapwrap import MemoryMapping, TooManyFilesError, _mapped_file, _syscalls

        mapping = MemoryMapping.from_file(sys.argv[1])
        start = mapping.as_ptr()
        (file,) = _mapped_file.shared_files(start, start + mapping.size)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, lowest))
        for call in (mapping.evict, file.reopen):
            try:
                call()
            except TooManyFilesError as error:
                print(error.syscall)
    """
    assert child(program, known_file.path).succeeded().split() == ["open"] * 2


def test_failures_for_want_of_descriptors_are_the_librarys(known_file: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with MemoryMapping.from_file(known_file.path) as mapping, SharedMemory.new("n", 1) as memory:
        start = mapping.as_ptr()
        (file,) = _mapped_file.shared_files(start, start + mapping.size)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            # No errors in a variable: their tracebacks would keep it, and all that is open.
            calls = (mapping.evict, file.reopen, memory.try_clone)
            are_refused = [attempt(call).is_err() for call in calls]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(are_refused)
