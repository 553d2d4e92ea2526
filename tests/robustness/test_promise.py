"""What may not crash, hang or mislead: whole programs that use the library as its users do.

What may end or hang the process runs in a child process.
"""

import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import functools
import gc
import itertools
import logging.config
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, SupportsIndex

import injection
import numpy as np
import pytest
from injection import Argument, Rule
from kernel_view import (
    PAGE,
    KnownFile,
    any_vm_flags,
    become_unprivileged,
    in_process,
    is_mapped,
    known_bytes,
    perms,
    process_unchanged,
    say,
    spare_memory,
    usages,
    vm_flags,
)

from mmapwrap import (
    ClosedMappingError,
    DestructiveAdvice,
    InvalidArgumentError,
    InvalidSystemCallError,
    MappedRegion,
    MappingFaultError,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MissingSealsError,
    MmapError,
    NotMappableError,
    PastEndOfFileError,
    Protection,
    ProtectionError,
    RegionBusyError,
    SharedMemory,
    Sharing,
    UnsupportedOperationError,
    ViewsExportedError,
    f64,
    u8,
    u64,
    unsafe,
)
from mmapwrap._ranges import RangeMap

R, RW = Protection.read(), Protection.read_write()
MIB = 1 << 20
PAGES = 16
SIZE = PAGES * PAGE
KEPT = 4  # pages that a file has left when it has been cut

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(3 * [ctypes.c_int]), ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
FAILED = 2**64 - 1


def run_for(seconds: float, *loops: Callable[[], object]) -> list[int]:
    """Repeat each function in a thread of its own for so long; returns how often each ran.

    Fails where one of them hangs.
    """
    counts = [0] * len(loops)
    end = time.monotonic() + seconds
    errors: list[BaseException] = []

    def repeat(index: int) -> None:
        try:
            while time.monotonic() < end:
                loops[index]()
                counts[index] += 1
        except BaseException as error:  # noqa: BLE001  # it is raised below
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(i,), daemon=True) for i in range(len(loops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0) + 10)
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback()
        say("hangs after", *counts)
        os._exit(1)
    for error in errors:
        raise error
    return counts


def memory_file(content: bytes) -> int:
    """A descriptor of a memfd of this content."""
    fd = os.memfd_create("promise")
    os.pwrite(fd, content, 0)
    return fd


def fault_of(call: Callable[[], object]) -> MappingFaultError:
    """The error of a call that meets pages which are not there; it keeps no region."""
    try:
        call()
    except MappingFaultError as error:
        return error.with_traceback(None)
    pytest.fail("no page is missing")


# Copies and buffers


def copy_of_a_truncated_file() -> None:
    fd = memory_file(bytes(2 * PAGE))
    with MemoryMapping.from_fd(fd, 2 * PAGE) as m:
        os.ftruncate(fd, 0)
        say(fault_of(lambda: bytes(m)).offset)


def test_bytes_of_a_truncated_file_is_a_mapping_fault() -> None:
    assert in_process(copy_of_a_truncated_file).succeeded() == "0\n"


def array_of_a_region(form: str) -> None:
    size = 1 << 24  # a chunk of this size is unmapped at once when nobody holds it
    m = MemoryMapping.new(size)
    m[0] = 7
    array: np.ndarray[Any, np.dtype[np.uint8]]
    if form == "frombuffer":
        array = np.frombuffer(m, np.uint8)
        m.close()
    elif form == "ndarray":
        with m:
            array = np.ndarray((size,), np.uint8, buffer=m)
    elif form == "protect":
        array = np.frombuffer(m, np.uint8)
        with pytest.raises(ViewsExportedError):
            m.protect(Protection.none())
    else:
        array = np.ndarray((size,), np.uint8, buffer=memoryview(m))
        del m
    say(array[0], array.sum())


@pytest.mark.parametrize("form", ["frombuffer", "ndarray", "protect", "ndarray of a memoryview"])
def test_numpy_array_of_a_region_outlives_what_is_done_to_it(form: str) -> None:
    assert in_process(array_of_a_region, form).succeeded() == "7 7\n"


def copy_into_objects() -> None:
    m = MemoryMapping.new(PAGE)
    m[0:64] = b"\x41" * 64
    array = np.array([object() for _ in range(8)], dtype=object)
    with pytest.raises(InvalidArgumentError, match="object"):
        m.read_slice(array, 0)
    say(type(array[0]).__name__)


def test_copy_into_an_array_of_python_objects_is_refused() -> None:
    assert in_process(copy_into_objects).succeeded() == "object\n"


# Descriptors


def map_a_terminal() -> None:
    os.setsid()
    _, terminal = os.openpty()
    name = os.ttyname(terminal)
    calls: list[tuple[type[MmapError], Callable[[], object]]] = [
        (InvalidArgumentError, lambda: MemoryMapping.from_file(name)),
        (NotMappableError, lambda: MemoryMapping.from_file(name, PAGE)),
        (InvalidArgumentError, lambda: MemoryMapping.from_file(name, prot=R)),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()
        with pytest.raises(OSError, match="No such device") as caught:
            os.open("/dev/tty", os.O_RDWR)
        assert caught.value.errno == errno.ENXIO


def test_from_file_of_a_terminal_takes_no_controlling_terminal() -> None:
    in_process(map_a_terminal).succeeded()


def seal_while_it_is_received() -> None:
    """A sender cuts the memory and seals it so, at any moment of the receiver's call."""
    handed_over: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            if handed_over:
                fd = handed_over.pop()
                os.ftruncate(fd, 0)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)

    sender = threading.Thread(target=send)
    sender.start()
    sys.setswitchinterval(1e-5)
    end = time.monotonic() + 1
    rounds = 0
    try:
        while time.monotonic() < end:
            fd = os.memfd_create("sender", os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, MIB)
            handed_over.append(fd)
            while True:
                try:
                    memory = SharedMemory.from_fd(fd, required_seals=MemfdSeals.SHRINK)
                except MissingSealsError:
                    continue
                except PastEndOfFileError:
                    break
                say(memory, "of", os.fstat(fd).st_size, "bytes after", rounds, "rounds")
                os._exit(1)
            os.close(fd)
            rounds += 1
    finally:
        over.set()
        sender.join()
    assert rounds > 10


@pytest.mark.race
def test_from_fd_that_requires_seals_takes_the_length_that_is_sealed() -> None:
    in_process(seal_while_it_is_received).succeeded()


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
    "get_slice": lambda m, raising: m.get_slice(raising, 1),
    "find": lambda m, raising: m.find(b"a", raising),
    "protect": lambda m, raising: m.protect(R, raising),
    "into an arena": lambda m, raising: m.into_arena().add_anon(raising, PAGE),
    "progress": lambda m, raising: m.populate(progress=lambda done, total: raising.fileno()),
}
BUFFERS: dict[str, Callable[[MemoryMapping, Any], object]] = {
    "read_slice": lambda m, raising: m.read_slice(raising, 0),
    "write_slice": lambda m, raising: m.write_slice(raising, 0),
    "find of": lambda m, raising: m.find(raising),
    "assign": lambda m, raising: m.__setitem__(slice(0, 8), raising),
    "copy_to": lambda m, raising: m.get_slice(0, 8).copy_to(raising),
}
before_buffers = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before Python 3.12 C alone makes buffers"
)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(
    "call", [*INTERRUPTED, *(pytest.param(name, marks=before_buffers) for name in BUFFERS)]
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


# Locks


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
                one.protect(R, page * PAGE, PAGE)
                one.protect(RW, page * PAGE, PAGE)
        time.sleep(0)

    def change_and_make_garbage() -> None:
        for page in range(50):
            Resource()
            two.protect(R, page * PAGE, PAGE)
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


def configure_and_fork() -> None:
    def configure() -> None:
        config: dict[str, Any] = {
            "version": 1,
            "handlers": {"ring": {"()": RingHandler}},
            "root": {"handlers": ["ring"]},
        }
        logging.config.dictConfig(config)

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    counts = run_for(1.5, configure, fork)
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

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

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

    for act in (lambda: other.protect(R), fork):
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
        m.protect(R, 0, PAGE)
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
        pid = os.fork()
        if pid == 0:
            try:
                use() if kind == "main thread" else use_in_a_thread()
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        thread.join()
    assert met > 0
    os._exit(0)


@pytest.mark.parametrize("kind", ["main thread", "new thread"])
def test_child_of_a_fork_inside_a_change_changes_the_region(kind: str) -> None:
    in_process(change_in_a_child, kind, measured=False).succeeded()


class Quit(BaseException):
    """What a debugger's trace function raises."""


TRACED: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "protect": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.protect(R, 0, PAGE)),
    "protect all": (lambda: MemoryMapping.new(4 * PAGE), lambda m: m.protect(R)),
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
        if frame.f_code.co_name == "_protect_by_range" and event == "call" and not is_asked:
            is_asked = True
            try:
                m.protect(R)
            except MmapError as error:
                seen.append(type(error))

    sys.setprofile(look)
    try:
        m.protect(R, 0, PAGE)
    finally:
        sys.setprofile(None)
    assert seen == [RegionBusyError]
    m.protect(RW)
    m[0] = 1


def call_beside_into_arena() -> None:
    box = [MemoryMapping.new(8 * PAGE + 100)]

    def make() -> None:
        box[0].into_arena()
        box[0] = MemoryMapping.new(8 * PAGE + 100)

    def use() -> None:
        with contextlib.suppress(ClosedMappingError):
            m = box[0]
            m.view()
            assert len(m[:]) in {8 * PAGE + 100, 9 * PAGE}
            m.protect(RW)
            m.residency()

    sys.setswitchinterval(1e-5)
    run_for(1, make, use, use)


@pytest.mark.race
def test_call_beside_into_arena_works_or_is_a_closed_error() -> None:
    in_process(call_beside_into_arena, measured=False).succeeded()


@pytest.mark.xfail(reason="for a moment the mapping has the size that its arena will have")
def test_size_of_a_mapping_that_becomes_an_arena_stays_what_it_is() -> None:
    m = MemoryMapping.new(8 * PAGE + 100)
    sizes: list[int] = []

    def look(frame: FrameType, event: str, argument: object) -> None:
        if "mmapwrap" in frame.f_code.co_filename and event != "c_call":
            with contextlib.suppress(ClosedMappingError):
                sizes.append(m.size)

    sys.setprofile(look)
    try:
        arena = m.into_arena()
    finally:
        sys.setprofile(None)
    assert len(arena) == 9 * PAGE
    assert len(sizes) > 1
    assert set(sizes) == {8 * PAGE + 100}


def ask_a_range_map_while_it_changes() -> None:
    pages = 64
    ranges = RangeMap(pages * PAGE, 3)

    def write() -> None:
        for page in range(0, pages, 2):
            ranges.assign(page * PAGE, (page + 1) * PAGE, 1)
        ranges.assign(0, pages * PAGE, 3)

    def read() -> None:
        position = 0
        for start, end, value in ranges.pieces(0, pages * PAGE):
            assert (start, value) in {(position, 1), (position, 3)}
            assert end > start
            position = end
        assert position == pages * PAGE

    sys.setswitchinterval(1e-5)
    run_for(0.5, write, read, read)


@pytest.mark.race
def test_range_map_that_changes_is_read_without_a_gap() -> None:
    in_process(ask_a_range_map_while_it_changes, measured=False).succeeded()


# Arenas


def map_a_ring_over_a_segment() -> None:
    parameters = ctypes.create_string_buffer(120)
    io_uring_setup = 425  # on every machine
    ring = libc.syscall(io_uring_setup, 8, parameters)
    if ring < 0:
        say("no io_uring:", os.strerror(ctypes.get_errno()))
        return
    arena = MemoryMappingArena.new(MIB)
    arena.add_anon(0, MIB)
    arena[0:4] = b"data"
    before = arena.segments()
    with pytest.raises(InvalidSystemCallError):
        arena.add_fd(0, PAGE, ring)
    others = [mmap.mmap(-1, PAGE) for _ in range(64)]
    assert arena.segments() == before
    assert arena[0:4] == b"data"
    assert bytes(arena.view(0, 4)) == b"data"
    assert perms(arena.as_ptr(), MIB) == (MIB // PAGE) * ["rw-s"]
    for other in others:
        other.close()


def test_file_that_cannot_be_mapped_leaves_what_the_arena_holds() -> None:
    output = in_process(map_a_ring_over_a_segment).succeeded()
    if output:
        pytest.skip(output.strip())


def test_guard_pages_that_the_kernel_does_not_know_leave_the_range_usable() -> None:
    """As before Linux 6.13."""
    m = MemoryMapping.new(4 * PAGE)
    m[0] = 1
    m.protect(R, 2 * PAGE, PAGE)
    rules = [Rule("madvise", errno.EINVAL, (Argument(2, advice),)) for advice in (102, 103)]

    def install() -> None:
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, 4 * PAGE)

    if reason := injection.why_unavailable():
        pytest.skip(reason)
    outcome = injection.attempt(install, rules)
    assert isinstance(outcome.error, InvalidSystemCallError)
    assert m[0] == 1
    assert m.view()[0] == 1
    m[PAGE] = m[3 * PAGE] = 2
    m.protect(RW)
    m[2 * PAGE] = 3


# Signals and guards


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


HANDLERS_IN_C = r"""
#include <setjmp.h>
#include <signal.h>

static __thread sigjmp_buf place;
static __thread volatile int is_inside;
static struct sigaction before_leaving[NSIG];

static void leave(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (is_inside) {
        is_inside = 0;
        siglongjmp(place, 1);
    }
    sigaction(number, &before_leaving[number], 0); /* the fault comes again, and goes there */
}

int install_leaving(int number, int flags)
{
    struct sigaction action = {.sa_sigaction = leave, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, &before_leaving[number]);
}

int try_read(const volatile char *address)
{
    if (sigsetjmp(place, 1)) return -1;
    is_inside = 1;
    int value = *address;
    is_inside = 0;
    return value;
}

static struct sigaction before_passing[20][NSIG];
static volatile int heard[20][NSIG];

static void pass_on(int index, int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = &before_passing[index][number];
    heard[index][number]++;
    if (before->sa_handler == SIG_DFL)
        sigaction(number, before, 0);
    else if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(number, info, context);
    else
        before->sa_handler(number);
}

#define PASSING(index)                                                  \
    static void pass_##index(int number, siginfo_t *info, void *context) \
    {                                                                   \
        pass_on(index, number, info, context);                          \
    }
PASSING(0) PASSING(1) PASSING(2) PASSING(3) PASSING(4) PASSING(5) PASSING(6) PASSING(7)
PASSING(8) PASSING(9) PASSING(10) PASSING(11) PASSING(12) PASSING(13) PASSING(14) PASSING(15)
PASSING(16) PASSING(17) PASSING(18) PASSING(19)

static void (*const passing[])(int, siginfo_t *, void *) = {
    pass_0, pass_1, pass_2, pass_3, pass_4, pass_5, pass_6, pass_7, pass_8, pass_9,
    pass_10, pass_11, pass_12, pass_13, pass_14, pass_15, pass_16, pass_17, pass_18, pass_19,
};

int install_passing(int index, int number, int flags)
{
    struct sigaction action = {.sa_sigaction = passing[index], .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, &before_passing[index][number]);
}

int times_heard(int index, int number) { return heard[index][number]; }
"""
RESETHAND = 0x80000000 - (1 << 32)  # SA_RESETHAND as an int of C
NULL_PAGE = 16


@pytest.fixture(scope="module")
def handlers() -> Iterator[Path]:
    """A library of signal handlers as those of other libraries are, which only C can be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler for the handlers of other libraries")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "handlers.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-x", "c", "-o", path, "-"],
            input=HANDLERS_IN_C,
            text=True,
            check=True,
        )
        yield path


class Others:
    """The handlers of other libraries, and a page without its file that belongs to others."""

    def __init__(self, path: str) -> None:
        self.c = ctypes.CDLL(path)
        self.c.try_read.argtypes = [ctypes.c_void_p]
        fd = memory_file(bytes(PAGE))
        self._fd = fd
        lost = libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        os.ftruncate(fd, 0)
        self.places = {signal.SIGSEGV: NULL_PAGE, signal.SIGBUS: int(lost)}

    def install_leaving(self, *, flags: int = 0) -> None:
        for number in self.places:
            assert self.c.install_leaving(number, flags) == 0

    def install_passing(self, index: int, *, flags: int = 0) -> None:
        for number in self.places:
            assert self.c.install_passing(index, number, flags) == 0

    def fault(self) -> None:
        """Faults in memory of others, which their own handler leaves."""
        for place in self.places.values():
            assert self.c.try_read(place) == -1

    def heard(self, index: int) -> list[int]:
        return [self.c.times_heard(index, number) for number in self.places]


class Cut:
    """A mapping of a file that has been cut, to see that the library's own faults are errors."""

    def __init__(self) -> None:
        fd = memory_file(known_bytes(SIZE))
        self.mapping = MemoryMapping.from_fd(fd, SIZE)
        os.ftruncate(fd, KEPT * PAGE)
        os.close(fd)

    def guard(self) -> None:
        view = self.mapping.view()

        def touch() -> None:
            with self.mapping.fault_guard():
                assert view[6 * PAGE] == view[8 * PAGE] == 0

        error = fault_of(touch)
        assert (error.offset, error.pages) == (6 * PAGE, 2)
        view.release()
        self.mapping.recover()

    def copy(self) -> None:
        assert fault_of(lambda: self.mapping[5 * PAGE :]).offset == 5 * PAGE
        assert self.mapping[: KEPT * PAGE] == known_bytes(SIZE)[: KEPT * PAGE]


def leave_by_a_jump(path: str, when: str) -> None:
    others, cut = Others(path), Cut()
    if when != "before":
        cut.copy()
        cut.guard()
    if when == "between":
        MemoryMapping.new(PAGE)[0] = 1
    others.install_leaving()
    others.fault()
    for _ in range(50):
        cut.guard()
        others.fault()
        cut.copy()
        others.fault()
    with cut.mapping.fault_guard():
        others.fault()
        others.fault()
    say("survived")
    ctypes.string_at(NULL_PAGE, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_handler_that_leaves_by_a_jump_does_so_again_and_again(when: str, handlers: Path) -> None:
    ended = in_process(leave_by_a_jump, handlers, when)
    assert (ended.output, ended.killed_by) == ("survived\n", "SIGSEGV"), ended.errors


def leave_once(path: str) -> None:
    others, cut = Others(path), Cut()
    others.install_leaving(flags=RESETHAND)
    cut.guard()
    cut.copy()
    others.fault()
    cut.guard()
    cut.copy()
    say("survived")
    others.fault()


def test_handler_that_is_reset_after_one_signal_hears_one(handlers: Path) -> None:
    ended = in_process(leave_once, handlers)
    assert (ended.output, ended.killed_by) == ("survived\n", "SIGSEGV"), ended.errors


def reset_on_top(path: str) -> None:
    """The handler that is reset is the one above the library's."""
    others, cut = Others(path), Cut()
    cut.guard()
    others.install_leaving(flags=RESETHAND)
    others.fault()
    for _ in range(3):
        cut.guard()
        cut.copy()
    say("survived")
    others.fault()


def test_handler_on_top_that_is_reset_leaves_the_place_to_the_library(handlers: Path) -> None:
    ended = in_process(reset_on_top, handlers)
    assert (ended.output, ended.killed_by) == ("survived\n", "SIGSEGV"), ended.errors


def stack_handlers(path: str, count: str) -> None:
    """Handlers that each call the one before, with the library at work between any two."""
    others, cut = Others(path), Cut()
    others.install_leaving()
    for index in range(int(count)):
        cut.guard()
        cut.copy()
        others.install_passing(index)
    cut.guard()
    cut.copy()
    before = [others.heard(index) for index in range(int(count))]
    others.fault()
    after = [others.heard(index) for index in range(int(count))]
    assert after == [[heard + 1 for heard in each] for each in before]
    cut.guard()
    cut.copy()
    others.fault()
    say("survived")
    ctypes.string_at(NULL_PAGE, 1)


@pytest.mark.parametrize("count", [1, 16, 20])
def test_stack_of_handlers_hears_each_foreign_fault_once(count: int, handlers: Path) -> None:
    ended = in_process(stack_handlers, handlers, count)
    assert (ended.output, ended.killed_by) == ("survived\n", "SIGSEGV"), ended.errors


def toggle_faulthandler(path: str, is_enabled_first: str, is_enabled_last: str) -> None:
    others, cut = Others(path), Cut()
    faulthandler.disable()
    if is_enabled_first == "True":
        faulthandler.enable()
    others.install_leaving()
    chance = random.Random(11)
    for _ in range(60):
        if chance.random() < 0.5:
            faulthandler.enable()
        else:
            faulthandler.disable()
        for act in chance.sample([cut.guard, cut.guard], chance.randrange(3)):
            act()
    faulthandler.disable()
    cut.guard()
    cut.copy()
    if is_enabled_last == "True":
        faulthandler.enable()
        cut.guard()
    say("survived")
    ctypes.string_at(NULL_PAGE, 1)


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True)])
def test_faulthandler_that_is_toggled_around_guards_reports_only_a_crash(
    first: bool, last: bool, handlers: Path
) -> None:
    ended = in_process(toggle_faulthandler, handlers, first, last)
    assert (ended.output, ended.killed_by) == ("survived\n", "SIGSEGV"), ended.errors
    assert ended.errors.count("Fatal Python error") == last


# Limits

MAX_MAP_COUNT = int(Path("/proc/sys/vm/max_map_count").read_text())


HEAD = 1024 * PAGE  # what stays of a file: the more, the longer it takes to unmap
Array = np.ndarray[Any, np.dtype[np.uint8]]


def array_without_its_end() -> tuple[MemoryMapping, Array]:
    size = HEAD + 192 * PAGE
    fd = memory_file(bytes(size))
    m = MemoryMapping.from_fd(fd, size)
    m.populate()
    os.ftruncate(fd, HEAD)
    os.close(fd)
    return m, np.frombuffer(m.view(), np.uint8)


def use_up_mappings() -> int:
    """Cut a reservation of 200,000 pages into as many mappings as there may be; its address."""
    reserved = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    room: int = libc.mmap(None, 200_000 * PAGE, 0, reserved, -1, 0)
    page = 0
    while libc.mprotect(room + page * PAGE, PAGE, mmap.PROT_READ) == 0:
        page += 2
    return room


def map_single_pages() -> None:
    """Use up what mappings are left; neighbours of another protection are others."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    number = 0
    while libc.mmap(None, PAGE, number % 2, flags, -1, 0) not in {None, FAILED}:
        number += 1


def guards_at_the_limit_of_mappings() -> None:
    """Threads read what a guarded region has, while a page that it lost is replaced by zeros.

    The process has as many mappings as it may have, so one page alone cannot be replaced.
    """
    regions = [array_without_its_end() for _ in range(12)]
    assert regions[0][0][0] == 0
    ready, over = threading.Event(), threading.Event()
    heads: list[Array] = []

    def read() -> None:
        ready.wait()  # to spin before would take the GIL from every call that uses mappings up
        while not over.is_set():
            for head in heads[-1:]:
                np.broadcast_to(head, (20, len(head))).max(axis=None)

    guards = [m.fault_guard() for m, _ in regions]
    for guard in guards:
        guard.__enter__()
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    room = use_up_mappings()
    ready.set()
    for _, array in regions:
        heads.append(array[:HEAD])
        map_single_pages()
        time.sleep(0.005)
        assert array[HEAD + 64 * PAGE :].max() == 0
    over.set()
    for thread in threads:
        thread.join()
    libc.munmap(room, 200_000 * PAGE)
    for m, _ in regions:
        assert fault_of(functools.partial(m.read_obj, u8, 0)).pages > 0
    say("survived")
    os._exit(0)


@pytest.mark.alone
@pytest.mark.skipif(
    MAX_MAP_COUNT > 1 << 18,
    reason=f"vm.max_map_count is {MAX_MAP_COUNT}: to use it up takes long",
)
def test_guard_at_the_limit_of_mappings_unmaps_nothing_under_other_threads() -> None:
    ended = in_process(guards_at_the_limit_of_mappings, measured=False)
    assert ended.succeeded() == "survived\n"


def used(field: str) -> int:
    """An amount that /proc/self/status names, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def guard_without_private_memory(limit: str, guarded: str) -> None:
    """All the memory is used up that the limit allows, and then a file is cut."""
    become_unprivileged()
    fd = memory_file(known_bytes(SIZE))
    m = MemoryMapping.from_fd(fd, SIZE)
    view = m.view()
    assert m[0] == 1
    if guarded == "guarded before":
        touch_in_guard(m)
    spare = spare_memory()
    room = 64 * PAGE
    if limit == "DATA":
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (used("VmData") + room, hard))
    else:
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (used("VmLck") + room, hard))
        mcl_future = 2
        assert libc.mlockall(mcl_future) == 0, os.strerror(ctypes.get_errno())
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    for size in (16 * PAGE, PAGE):
        while libc.mmap(None, size, writable, private, -1, 0) not in {None, FAILED}:
            pass
    os.ftruncate(fd, KEPT * PAGE)
    seen = -1
    try:
        with m.fault_guard():
            seen = view[9 * PAGE] + view[5 * PAGE] + view[0]
    except MappingFaultError as error:
        found = (error.offset, error.pages, seen)
    else:
        found = (-1, -1, -1)
    if limit == "DATA":
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    else:
        libc.munlockall()
    assert len(spare) > 0
    say(*found)


@pytest.mark.parametrize(
    ("limit", "guarded"),
    [
        ("DATA", "guarded before"),
        ("DATA", "not yet guarded"),
        ("MEMLOCK", "guarded before"),
        pytest.param(
            "MEMLOCK",
            "not yet guarded",
            marks=pytest.mark.xfail(reason="the first guard of a region has no page of zeros"),
        ),
    ],
)
def test_guard_without_private_memory_left_gives_zeros_and_an_error(
    limit: str, guarded: str
) -> None:
    ended = in_process(guard_without_private_memory, limit, guarded)
    assert ended.succeeded() == f"{5 * PAGE} 2 1\n"


# Copies from a file that was cut

LONG = MIB

COPIES: dict[str, Callable[[MappedRegion, int], object]] = {
    "read_slice": lambda m, start: m.read_slice(bytearray(LONG), start),
    "slice": lambda m, start: m[start:],
    "steps": lambda m, start: m[start::7],
    "write_slice": lambda m, start: m.write_slice(bytes(LONG - start), start),
    "assign": lambda m, start: m.__setitem__(slice(start, LONG), bytes(LONG - start)),
    "find": lambda m, start: m.find(b"\xff\xfe", start),
    "rfind": lambda m, start: m.rfind(b"\xff\xfe", start),
    "copy_to": lambda m, start: m.get_slice(start, LONG - start).copy_to(bytearray(LONG)),
    "copy_from": lambda m, start: m.get_slice(start, LONG - start).copy_from(bytes(LONG)),
    "write_bytes": lambda m, start: m.get_slice(start, LONG - start).write_bytes(1),
    "to a slice": lambda m, start: m.get_slice(start, LONG - start).copy_to_volatile_slice(
        MemoryMapping.new(LONG).get_slice(0, LONG)
    ),
    "from a slice": lambda m, start: (
        MemoryMapping.new(LONG)
        .get_slice(0, LONG - start)
        .copy_to_volatile_slice(m.get_slice(start, LONG - start))
    ),
}
WHERE = [0, 1, PAGE - 1, 3 * PAGE + 5, LONG // 2]


def say_first_missing(path: str) -> None:
    content = known_bytes(LONG)
    Path(path).write_bytes(content)
    with MemoryMapping.from_file(path) as m:
        for name, start in itertools.product(COPIES, WHERE):
            for left in (0, PAGE, start + PAGE - 1, LONG // 2 + 3 * PAGE + 1, LONG - PAGE):
                os.truncate(path, left)
                first = max(start // PAGE, -(-left // PAGE)) * PAGE
                try:
                    COPIES[name](m, start)
                except MappingFaultError as error:
                    if (error.offset, error.pages) != (first, 1):
                        say(name, start, left, "gives", error.offset, error.pages, "not", first)
                else:
                    say(name, start, left, "is no error")
                os.truncate(path, LONG)


def test_copy_tells_the_first_page_that_is_missing(disk_path: Path) -> None:
    ended = in_process(say_first_missing, disk_path / "cut")
    assert ended.succeeded() == ""


def copy_until_it_grows_again(path: str) -> None:
    content = known_bytes(LONG)
    for left in (0, PAGE, LONG // 2 + 100):
        Path(path).write_bytes(content)
        with MemoryMapping.from_file(path) as m:
            view = m.view()
            kernels = [usage.flags for usage in usages(m.as_ptr(), LONG)]
            os.truncate(path, left)
            for _ in range(3):
                assert fault_of(lambda m=m: bytes(m)).pages == 1  # type: ignore[misc]
                assert m[:left] == content[:left]
                assert m.find(b"\xff\xfe", 0, left) == -1
                m.protect(RW)
                m.msync(0, left)
                assert m.live_views == 1
            assert [usage.flags for usage in usages(m.as_ptr(), LONG)] == kernels
            Path(path).write_bytes(content)  # of the same length: the file has grown again
            assert bytes(m) == content
            assert bytes(view) == content
            m[LONG - 1] = 0xFF
            assert Path(path).read_bytes()[-1] == 0xFF


def test_copy_that_failed_works_once_the_file_has_grown_again(disk_path: Path) -> None:
    in_process(copy_until_it_grows_again, disk_path / "cut").succeeded()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open the file of a mapping again")
def test_fault_of_a_cut_file_says_where_the_file_ends(known_file: KnownFile) -> None:
    fd = memory_file(known_bytes(SIZE))
    files: list[int | Path] = [fd, known_file.path]
    for file in files:
        with MemoryMapping.from_file(file) as m:
            os.truncate(file, KEPT * PAGE + 1)
            error = fault_of(lambda m=m: m[6 * PAGE :])  # type: ignore[misc]
            view = m.view()

            def touch(m: MemoryMapping = m, view: memoryview = view) -> None:
                with m.fault_guard():
                    assert view[6 * PAGE] == 0

            for each in (error, fault_of(touch)):
                assert f"the file has {KEPT * PAGE + 1} bytes now" in str(each)
                assert f"byte {6 * PAGE}" in str(each)
    os.close(fd)


BRINGING_IN: dict[str, tuple[Callable[[MemoryMapping], object], int]] = {
    "populate": (lambda m: m.populate(), KEPT),
    "populate for writing": (lambda m: m.populate(write=True), KEPT),
    "populate of a part": (lambda m: m.populate(7 * PAGE, 2 * PAGE), 7),
    "lock": (lambda m: m.lock(), KEPT),
    "lock of a part": (lambda m: m.lock(3 * PAGE + 1, 5 * PAGE), KEPT),
    "lock_all": (lambda m: m.lock_all(), KEPT),
    "flush_all": (lambda m: m.flush_all(), KEPT),
}


@pytest.mark.parametrize("sharing", list(Sharing))
@pytest.mark.parametrize("name", BRINGING_IN)
def test_call_that_brings_missing_pages_in_tells_the_first(
    name: str, sharing: Sharing, disk_path: Path
) -> None:
    call, first = BRINGING_IN[name]
    path = disk_path / "file"
    path.write_bytes(known_bytes(SIZE))
    with MemoryMapping.from_file(path, sharing=sharing) as m:
        os.truncate(path, KEPT * PAGE)
        error = fault_of(lambda: call(m))
        assert (error.offset, error.pages) == (first * PAGE, 1)
        assert "lo" not in any_vm_flags(m.as_ptr(), SIZE)
        assert m[: KEPT * PAGE] == known_bytes(KEPT * PAGE)
        path.write_bytes(known_bytes(SIZE))
        call(m)
        assert m[:] == known_bytes(SIZE)


# Pages that a guard replaced, mapped anew

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
    m.protect(R, 5 * PAGE, 2 * PAGE)
    return m


REGIONS: dict[str, Make] = {
    "shared": lambda fd: MemoryMapping.from_fd(fd, SIZE),
    "private": lambda fd: MemoryMapping.from_file(fd, sharing=Sharing.PRIVATE),
    "read-only": lambda fd: MemoryMapping.from_file(fd, prot=R),
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


def touch_in_guard(m: MappedRegion, *pages: int) -> None:
    with m.view() as view, m.fault_guard():
        assert [view[page * PAGE] for page in pages] == [0] * len(pages)


def lose(m: MappedRegion, fd: int, pages: tuple[int, ...] = LOST) -> None:
    """Cut the file, and let a guard replace these pages by zeros."""
    os.ftruncate(fd, KEPT * PAGE)
    error = fault_of(lambda: touch_in_guard(m, *pages))
    assert (error.offset, error.pages) == (min(pages) * PAGE, len(pages))


def grow_again(fd: int) -> None:
    os.pwrite(fd, known_bytes(SIZE), 0)


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
        for use in (lambda: m[0], m.view, lambda: m.protect(R), lambda: memoryview(m)):
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
        m.protect(R, 5 * PAGE, PAGE)
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


@pytest.mark.skipif(
    not DestructiveAdvice.GUARD_INSTALL.is_supported(), reason="guard pages came with Linux 6.13"
)
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
        pid = os.fork()
        if pid == 0:
            try:
                m.recover()
                os._exit(0 if m[:] == known_bytes(SIZE) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
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
            with pytest.raises(UnsupportedOperationError, match="recover"):
                m.recover()
        assert fault_of(lambda: m.read_obj(u8, 0)).offset == 5 * PAGE
        del outcome


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
