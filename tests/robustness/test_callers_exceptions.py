"""What the caller's own code raises in the middle of a call comes out of it as it is.

A signal handler, `fileno()`, `__index__` and `__buffer__` are the caller's.
"""

import bz2
import errno
import functools
import io
import multiprocessing
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any, SupportsIndex

import pytest
from kernel_view import PAGE, KnownFile, in_process
from marks import needs_python_buffers
from meanwhile import interrupted_after
from protections import READ, RW

import mmapwrap
from mmapwrap import (
    ClosedMappingError,
    MemoryMapping,
    RegionBusyError,
    SharedMemory,
    f64,
    u64,
)
from mmapwrap._core import arguments, buffers, calls, descriptors
from mmapwrap._regions import transfers

# Signal handlers, wherever Python runs them


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
    "evict, open": (descriptors, "try_to_open", busy, lambda mapping, _: mapping.evict()),
    "evict, maps": (descriptors, "lines_of", numbered, lambda mapping, _: mapping.evict()),
    "from_fd, fstat": (descriptors, "file_status", AlarmError, take),
    "from_fd, name": (descriptors, "link_target", numbered, take),
    "from_fd, fileno": (arguments, "index", ClosedMappingError, take),
    "from_fd, seals": (
        descriptors,
        "_fcntl",
        busy,
        lambda _, memory: SharedMemory.from_fd(memory, required_seals=mmapwrap.MemfdSeals.SHRINK),
    ),
    **{
        f"{name}, {raised.__name__}": (buffers, "_from_buffer", raised, use)
        for name, use in TAKE_BUFFERS.items()
        for raised in (exported, ValueError)
    },
    "msync": (calls, "msync", OverflowError, lambda mapping, _: mapping.msync()),
    "read a byte": (calls, "read_byte", OverflowError, lambda mapping, _: mapping[0]),
    "write a byte": (
        calls,
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
    "store_many": (
        struct,
        "pack",
        OverflowError,
        lambda mapping, _: mapping.get_slice(0, 8).store_many(mmapwrap.u8, [1, 2]),
    ),
    "store a number": (
        Number,
        "__float__",
        OverflowError,
        lambda mapping, _: mapping.write_obj(mmapwrap.f64, Number(), 0),
    ),
    "read_from_fd": (
        calls,
        "read_from_fd",
        busy,
        lambda mapping, memory: mapping.get_slice(0, PAGE).read_from_fd(memory),
    ),
    "write_to_fd, the descriptor": (
        transfers,
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


# Arguments of the caller's


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


# Signals in the middle of arguments


class Raising:
    """An argument in the middle of whose evaluation a signal comes."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd

    def fileno(self) -> int:
        signal.raise_signal(signal.SIGUSR1)
        return self._fd

    def __index__(self) -> int:
        signal.raise_signal(signal.SIGUSR1)
        return 0

    def __float__(self) -> float:
        signal.raise_signal(signal.SIGUSR1)
        return 0.0

    def __buffer__(self, flags: int) -> memoryview:
        signal.raise_signal(signal.SIGUSR1)
        return memoryview(bytearray(8))


class CallableHandler:
    """A signal handler that is no function."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, number: int, frame: FrameType | None) -> None:
        raise self._error


def raise_error(number: int, frame: FrameType | None, error: Exception) -> None:
    raise error


def plain_handler(error: Exception) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raise error

    return handle


def disarming_handler(error: Exception) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        raise error

    return handle


HANDLERS: dict[str, Callable[[Exception], Callable[[int, FrameType | None], None]]] = {
    "plain": plain_handler,
    "disarms itself": disarming_handler,
    "partial": lambda error: functools.partial(raise_error, error=error),
    "object": CallableHandler,
}


def index_from(raising: Any) -> SupportsIndex:
    """The same object, which type checkers take for an index."""
    index: SupportsIndex = raising
    return index


INTERRUPTED: dict[str, Callable[[MemoryMapping, Any], object]] = {
    "from_fd": lambda m, raising: MemoryMapping.from_fd(raising, PAGE),
    "from_file": lambda m, raising: MemoryMapping.from_file(raising),
    "shared from_fd": lambda m, raising: SharedMemory.from_fd(raising),
    "read_from_fd": lambda m, raising: m.get_slice(0, PAGE).read_from_fd(raising),
    "write_to_fd": lambda m, raising: m.get_slice(0, PAGE).write_to_fd(raising),
    "index": lambda m, raising: m[index_from(raising)],
    "slice": lambda m, raising: m[index_from(raising) :],
    "view": lambda m, raising: m.view(raising),
    "lock": lambda m, raising: m.lock(raising),
    "read_obj": lambda m, raising: m.read_obj(u64, raising),
    "write_obj": lambda m, raising: m.write_obj(u64, raising, 0),
    "write_obj of a float": lambda m, raising: m.write_obj(f64, raising, 0),
    "read_exact": lambda m, raising: m.read_exact(bytearray(1), raising),
    "write_all": lambda m, raising: m.write_all(b"a", raising),
    "load_many": lambda m, raising: m.get_slice(0, 8).load_many(u64, raising),
    "store_many": lambda m, raising: m.get_slice(0, 8).store_many(u64, [raising]),
    "store_many of floats": lambda m, raising: m.get_slice(0, 8).store_many(f64, [raising]),
    "get_slice": lambda m, raising: m.get_slice(raising, 1),
    "find": lambda m, raising: m.find(b"a", raising),
    "protect": lambda m, raising: m.protect(READ, raising),
    "into an arena": lambda m, raising: m.into_arena().add_anon(raising, PAGE),
    "progress": lambda m, raising: m.populate(progress=lambda done, total: raising.fileno()),
}


BUFFERS: dict[str, Callable[[MemoryMapping, Any], object]] = {
    "read_slice": lambda m, raising: m.read_slice(raising, 0),
    "write_slice": lambda m, raising: m.write_slice(raising, 0),
    "find of": lambda m, raising: m.find(raising),
    "assign": lambda m, raising: m.__setitem__(slice(0, 8), raising),
    "copy_to": lambda m, raising: m.get_slice(0, 8).copy_to(raising),
    "read_exact into": lambda m, raising: m.read_exact(raising, 0),
    "write_all of": lambda m, raising: m.get_slice(0, 8).write_all(raising),
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(
    "call", [*INTERRUPTED, *(pytest.param(name, marks=needs_python_buffers) for name in BUFFERS)]
)
def test_what_a_signal_handler_raises_comes_out_of_the_call(
    call: str, handler: str, known_file: KnownFile
) -> None:
    calls = INTERRUPTED | BUFFERS
    errors = [
        TimeoutError("too slow"),
        OverflowError("of the handler"),
        ValueError("of the handler"),
        TypeError("of the handler"),
        AttributeError("of the handler"),
        IndexError("of the handler"),
        ClosedMappingError(),
    ]
    before = signal.getsignal(signal.SIGUSR1)
    with known_file.path.open("r+b") as file:
        for error in errors:
            signal.signal(signal.SIGUSR1, HANDLERS[handler](error))
            try:
                with MemoryMapping.new(PAGE) as m, pytest.raises(type(error)) as caught:
                    calls[call](m, Raising(file.fileno()))
            finally:
                signal.signal(signal.SIGUSR1, before)
            assert caught.value is error
            error.__traceback__ = None  # whose frames keep the mapping
