"""The chain of signal handlers: each handler gets the faults of the memory that it is there for."""

import ctypes
import faulthandler
import mmap
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest
from fault_programs import run_faulting
from files import memory_file
from kernel_view import PAGE, KnownFile, child, in_process, known_bytes, say
from libc import libc
from lost_pages import KEPT, SIZE, fault_of

from mmapwrap import MemoryMapping

HANDLERS_IN_C = r"""
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

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

static volatile char *volatile profiled;
static volatile long profiled_pages, profiled_times;

static void read_next_page(int number)
{
    (void)number;
    (void)profiled[profiled_times++ % profiled_pages * 4096];
}

/* Reads another page each time that SIGALRM comes, which it does each `interval` microseconds. */
void profile(char *start, long pages, long interval)
{
    profiled = start;
    profiled_pages = pages;
    struct sigaction action = {.sa_handler = read_next_page, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval timer = {{0, interval}, {0, interval}};
    setitimer(ITIMER_REAL, &timer, 0);
}

long times_profiled(void) { return profiled_times; }

/* Writes to a byte of each page, beside another thread, and counts what is not there then. */
long write_pages(volatile char *start, long pages, long at, volatile long *waiting)
{
    __atomic_fetch_add(waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(waiting, __ATOMIC_SEQ_CST) < 2) {}
    for (long page = 0; page < pages; page++) start[page * 4096 + at] = 1;
    long missing = 0;
    for (long page = 0; page < pages; page++) missing += start[page * 4096 + at] != 1;
    return missing;
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


# Handlers of Python's


def test_faulthandler_enabled_before_stays_quiet_until_a_real_crash(
    known_file: KnownFile,
) -> None:
    program = """
        faulthandler.enable()
        fault(lambda: lost()[:])
        fault(lambda: guarded(lost()))
        print(flush=True)
        print("no crash yet", file=sys.stderr, flush=True)
        lost().view()[9 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "8 1\n9 1\n\n"
    assert ended.killed_by == "SIGBUS"
    assert ended.errors.startswith("no crash yet\nFatal Python error: Bus error")


def test_faulthandler_enabled_afterwards_is_quiet_in_long_copies_and_guards(
    known_file: KnownFile,
) -> None:
    program = """
        fault(lambda: lost()[9 * PAGE])
        faulthandler.enable()
        time.sleep(0.02)  # more than a tick
        fault(lambda: lost()[:])
        fault(lambda: guarded(lost()))
        print(flush=True)
        print("no crash yet", file=sys.stderr, flush=True)
        lost().view()[9 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "9 1\n8 1\n9 1\n\n"
    assert ended.killed_by == "SIGBUS"
    assert ended.errors.startswith("no crash yet\nFatal Python error: Bus error")


@pytest.mark.parametrize("access", ["lost()[9 * PAGE]", "lost().is_all_zero(9 * PAGE, 1)"])
def test_faulthandler_enabled_afterwards_lets_short_accesses_go_on(
    access: str, known_file: KnownFile
) -> None:
    program = f"""
        fault(lambda: lost()[:])
        faulthandler.enable()
        fault(lambda: {access})
        fault(lambda: {access})
        print(flush=True)
        lost().view()[9 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "8 1\n9 1\n9 1\n\n"
    assert ended.killed_by == "SIGBUS"


def test_pythons_handler_installed_before_hears_only_what_is_sent(known_file: KnownFile) -> None:
    program = """
        heard = []
        signal.signal(signal.SIGBUS, lambda *_: heard.append("bus"))
        signal.signal(signal.SIGSEGV, lambda *_: heard.append("segv"))
        fault(lambda: lost()[9 * PAGE])
        fault(lambda: lost()[:])
        fault(lambda: guarded(lost()))
        assert heard == []
        os.kill(os.getpid(), signal.SIGBUS)
        os.kill(os.getpid(), signal.SIGSEGV)
        assert heard == ["bus", "segv"], heard
        fault(lambda: lost()[9 * PAGE])
        assert heard == ["bus", "segv"], heard
    """
    ended = run_faulting(program, known_file)
    assert ended.succeeded() == "9 1\n8 1\n9 1\n9 1\n"
    assert ended.errors == ""


LATER_HANDLERS = {
    "of Python": "signal.signal(signal.SIGBUS, lambda *_: None)",
    "ignoring": "signal.signal(signal.SIGBUS, signal.SIG_IGN)",
    "the default": "signal.signal(signal.SIGBUS, signal.SIG_DFL)",
}


later_handlers = pytest.mark.parametrize(
    "handler", list(LATER_HANDLERS.values()), ids=list(LATER_HANDLERS)
)


# A handler of Python's would let a fault that nobody repairs come back for ever.
AFTERWARDS = """
    fault(lambda: lost()[9 * PAGE])
    for use in uses:
        {handler}
        time.sleep(0.02)  # more than a tick
        signal.alarm(5)
        m = lost()
        fault(lambda: use(m))
"""


@later_handlers
def test_handler_installed_afterwards_leaves_guards_and_long_copies_to_the_library(
    handler: str, known_file: KnownFile
) -> None:
    uses = """
        uses = [
            guarded, lambda m: m.read_slice(bytearray(16 * PAGE), 0), lambda m: m[:],
            lambda m: m.write_slice(bytes(16 * PAGE), 0),
            lambda m: m.get_slice(0, m.size).copy_to(bytearray(m.size)),
            lambda m: m.get_slice(0, m.size).write_bytes(1),
        ]
    """
    ended = run_faulting(dedent(uses) + dedent(AFTERWARDS).format(handler=handler), known_file)
    assert ended.succeeded() == "9 1\n9 1\n" + 5 * "8 1\n"


@later_handlers
def test_handler_installed_afterwards_leaves_long_searches_to_the_library(
    handler: str, known_file: KnownFile
) -> None:
    uses = r"""
        uses = [lambda m: m.find(b"\xff"), lambda m: m.rfind(b"\xff")]
    """
    ended = run_faulting(dedent(uses) + dedent(AFTERWARDS).format(handler=handler), known_file)
    assert ended.succeeded() == "9 1\n" + 2 * "8 1\n"


@later_handlers
def test_handler_installed_afterwards_leaves_the_other_side_of_a_copy_to_the_library(
    handler: str, known_file: KnownFile
) -> None:
    uses = """
        from mmapwrap import BadAddressError, MemoryMappingArena
        sound = MemoryMapping.new(16)
        part = sound.get_slice(0, 16)

        def refused(call):
            try:
                call()
            except BadAddressError:
                print("bad address", flush=True)

        def in_an_arena(m):
            arena = MemoryMappingArena.new(16 * PAGE)
            os.truncate(sys.argv[1], 16 * PAGE)
            with open(sys.argv[1], "r+b") as file:
                arena.add_fd(0, 16 * PAGE, file)
            os.truncate(sys.argv[1], 8 * PAGE)
            arena[9 * PAGE]

        uses = [
            lambda m: part.copy_to_volatile_slice(m.get_slice(9 * PAGE, 16)),
            lambda m: m.get_slice(9 * PAGE, 16).copy_to_volatile_slice(part),
            lambda m: part == m.get_slice(9 * PAGE, 16),
            in_an_arena,
            lambda m: refused(lambda: sound.read_slice(m.view(9 * PAGE, 16), 0)),
            lambda m: refused(lambda: sound.write_slice(m.view(9 * PAGE, 16), 0)),
            lambda m: refused(lambda: sound.find(m.view(9 * PAGE, 2))),
        ]
    """
    ended = run_faulting(dedent(uses) + dedent(AFTERWARDS).format(handler=handler), known_file)
    assert ended.succeeded() == 5 * "9 1\n" + 3 * "bad address\n"


@later_handlers
def test_handler_installed_afterwards_leaves_short_accesses_to_the_library(
    handler: str, known_file: KnownFile
) -> None:
    uses = """
        from mmapwrap import u64
        uses = [
            lambda m: m[9 * PAGE], lambda m: m[9 * PAGE : 10 * PAGE],
            lambda m: m.read_obj(u64, 9 * PAGE), lambda m: m.write_obj(u64, 1, 9 * PAGE),
            lambda m: m.is_all_zero(9 * PAGE, 1), lambda m: m.find(b"a", 9 * PAGE, 9 * PAGE + 1),
        ]
    """
    ended = run_faulting(dedent(uses) + dedent(AFTERWARDS).format(handler=handler), known_file)
    assert ended.succeeded() == 7 * "9 1\n"


LONG_READS = {
    "read_slice": "lambda: m.read_slice(into, 0)",
    "is_all_zero": "m.is_all_zero",
    "find": "lambda: m.find(b'ab')",
    "find of a byte": "lambda: m.find(b'a')",
    "rfind": "lambda: m.rfind(b'ab')",
    "steps": "lambda: m[::4099]",
}


@pytest.mark.race
@pytest.mark.parametrize("read", LONG_READS.values(), ids=LONG_READS)
def test_access_that_is_taken_away_under_a_later_handler_ends_a_long_call(
    read: str, known_file: KnownFile
) -> None:
    program = f"""
        from concurrent.futures import ThreadPoolExecutor
        import time
        from mmapwrap import Protection, ProtectionError, Sharing

        size, ended = 1 << 27, 0
        into = bytearray(size)
        lost().is_all_zero(0, 1)
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        with ThreadPoolExecutor() as threads:
            with MemoryMapping.anonymous(size, sharing=Sharing.PRIVATE) as m:
                started = time.monotonic()
                threads.submit({read}).result()
                took = time.monotonic() - started
            for tries in range(1, 20):
                with MemoryMapping.anonymous(size, sharing=Sharing.PRIVATE) as m:
                    call = threads.submit({read})
                    time.sleep(took * tries / 20)  # well into the call
                    m.protect(Protection.none())
                    try:
                        call.result()
                    except ProtectionError:
                        ended += 1
        print(ended > 0)
    """
    assert run_faulting(program, known_file).succeeded() == "True\n"


@pytest.mark.parametrize("number", ["SIGBUS", "SIGSEGV"])
def test_signal_that_somebody_sends_kills_where_nobody_handles_it(
    number: str, known_file: KnownFile
) -> None:
    program = f"""
        fault(lambda: lost()[9 * PAGE])
        os.kill(os.getpid(), signal.{number})
        print("still here")
    """
    ended = run_faulting(program, known_file)
    assert ended.killed_by == number
    assert ended.output == "9 1\n"


def test_signal_that_is_ignored_stays_ignored_but_a_fault_kills(known_file: KnownFile) -> None:
    program = """
        signal.signal(signal.SIGBUS, signal.SIG_IGN)
        fault(lambda: lost()[9 * PAGE])
        os.kill(os.getpid(), signal.SIGBUS)
        print("still here", flush=True)
        lost().view()[9 * PAGE]
    """
    ended = run_faulting(program, known_file)
    assert ended.output == "9 1\nstill here\n"
    assert ended.killed_by == "SIGBUS"


@pytest.mark.race
def test_small_access_survives_a_handler_that_was_taken_off_a_while_ago() -> None:
    program = """
        import faulthandler, sys, threading, time
        from mmapwrap import MemoryMapping, Protection, ProtectionError

        faulthandler.enable()
        m = MemoryMapping.anonymous(4096)
        m[0]
        faulthandler.disable()  # which takes the library's handlers off with its own
        time.sleep(0.05)
        end = time.monotonic() + 1

        def flip():
            while time.monotonic() < end:
                m.protect(Protection.none())
                m.protect(Protection.read_write())

        sys.setswitchinterval(1e-6)
        thread = threading.Thread(target=flip)
        thread.start()
        while time.monotonic() < end:
            try:
                m[0]
            except ProtectionError:
                pass
        thread.join()
        print("survived")
    """
    assert child(program, measured=False).succeeded() == "survived\n"


def read_a_guarded_view_in_a_handler(path: str) -> None:
    """A profiler's handler comes while its thread enters and leaves guards."""
    c = ctypes.CDLL(path)
    c.profile.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    c.times_profiled.restype = ctypes.c_long
    pages, wanted = 20_000, 5_000
    fd = memory_file(b"")
    os.ftruncate(fd, pages * PAGE)
    m, other = MemoryMapping.from_fd(fd, pages * PAGE), MemoryMapping.new(PAGE)
    os.ftruncate(fd, 0)
    end = time.monotonic() + 10

    def enter_and_leave() -> None:
        with m.fault_guard():
            c.profile(m.as_ptr(), pages, 200)
            while c.times_profiled() < wanted and time.monotonic() < end:
                with other.fault_guard():
                    pass
            signal.setitimer(signal.ITIMER_REAL, 0)

    assert fault_of(enter_and_leave).pages > 100


def test_handler_that_touches_a_guarded_view_inside_a_guards_entry_goes_on(handlers: Path) -> None:
    in_process(read_a_guarded_view_in_a_handler, handlers).succeeded_silently()


def write_lost_pages_from_two_threads(path: str) -> None:
    c = ctypes.CDLL(path)
    c.write_pages.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p]
    c.write_pages.restype = ctypes.c_long
    pages = 4096

    def write_both(m: MemoryMapping, missing: list[int]) -> None:
        waiting = ctypes.c_long(0)

        def write(at: int) -> None:
            missing.append(c.write_pages(m.as_ptr(), pages, at, ctypes.addressof(waiting)))

        threads = [threading.Thread(target=write, args=(at,)) for at in range(2)]
        with m.fault_guard():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    for _ in range(5):
        fd = memory_file(b"")
        os.ftruncate(fd, pages * PAGE)
        m = MemoryMapping.from_fd(fd, pages * PAGE)
        os.ftruncate(fd, 0)
        missing: list[int] = []
        assert fault_of(partial(write_both, m, missing)).pages == pages
        assert missing == [0, 0]
        os.close(fd)


def test_what_is_written_to_a_lost_page_in_a_guard_stays_there(handlers: Path) -> None:
    in_process(write_lost_pages_from_two_threads, handlers).succeeded_silently()


def test_failure_of_some_page_ends_a_process_without_a_handler_as_before() -> None:
    program = """
        import ctypes, os, signal, struct
        from mmapwrap import MemoryMapping

        MemoryMapping.anonymous(4096)[0]
        bus_mceerr_ao, rt_sigqueueinfo = 5, 129
        info = ctypes.create_string_buffer(struct.pack("iii", signal.SIGBUS, 0, bus_mceerr_ao), 128)
        ctypes.CDLL(None).syscall(rt_sigqueueinfo, os.getpid(), signal.SIGBUS, info)
        print("goes on")
    """
    assert child(program, measured=False).killed_by == "SIGBUS"
