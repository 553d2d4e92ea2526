"""Faults in unusual places: on other stacks, among thousands of guards, with handlers of others.

Whatever may end with a signal runs in a process of its own.
"""

import ctypes
import errno
import faulthandler
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kernel_view import MIB, PAGE, Child, KnownFile, in_process, known_bytes, say
from libc import libc
from marks import STACK_IS_UNKNOWN

from mmapwrap import BadAddressError, MappingFaultError, MemoryMapping
from mmapwrap._regions.fault_guard import FaultGuard

KEPT = 8  # pages of the 16 that are left when the file has been cut
END = KEPT * PAGE


def cut(path: str) -> MemoryMapping:
    """A mapping of 16 pages, of which the file has lost the second half."""
    os.truncate(path, 16 * PAGE)
    mapping = MemoryMapping.from_file(path)
    os.truncate(path, END)
    return mapping


def say_fault(call: Callable[[], object]) -> None:
    """Print the page and the number of pages of the error that a call ends with."""
    try:
        call()
    except MappingFaultError as error:
        say(error.offset // PAGE, error.pages)


def guarded_touch(mapping: MemoryMapping, page: int) -> None:
    """Read a lost page through a view, inside a guard."""
    view = mapping.view()
    with mapping.fault_guard():
        assert view[page * PAGE] == 0


# The C library, for what Python has no name for. The layouts are glibc's and musl's, on 64 bits.


Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

SA_SIGINFO, SA_ONSTACK, SA_RESTART = 4, 0x08000000, 0x10000000
SA_NODEFER, SA_RESETHAND = 0x40000000, 0x80000000
SIG_IGN = 1


class SigAction(ctypes.Structure):
    """``struct sigaction``."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_uint),
        ("restorer", ctypes.c_void_p),
    )
    handler: int
    mask: "ctypes.Array[ctypes.c_ulong]"
    flags: int


class SigInfo(ctypes.Structure):
    """The start of ``siginfo_t``, of a fault."""

    _fields_ = (
        ("number", ctypes.c_int),
        ("errno", ctypes.c_int),
        ("code", ctypes.c_int),
        ("address", ctypes.c_void_p),
    )
    code: int
    address: int | None


class Stack(ctypes.Structure):
    """``stack_t``."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))
    start: int
    flags: int
    size: int


def succeed(result: int) -> None:
    assert result == 0, os.strerror(ctypes.get_errno())


def action_of(number: int) -> SigAction:
    """What handles a signal now."""
    now = SigAction()
    succeed(libc.sigaction(number, None, ctypes.byref(now)))
    return now


def handle(number: int, address: int | None, flags: int = 0, masked: int = 0) -> None:
    """Handle a signal as only C can ask for it."""
    action = SigAction(handler=address, flags=flags)
    if masked:
        action.mask[0] = 1 << (masked - 1)
    succeed(libc.sigaction(number, ctypes.byref(action), None))


def address_of(function: Any) -> int:
    """The address of a callback or of a function of the C library."""
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found


def private_pages(address: int | None, count: int, protection: int = 3) -> int:
    """Map fresh pages, at an address or anywhere."""
    fixed = 0 if address is None else 0x10
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed
    place = libc.mmap(address, count * PAGE, protection, flags, -1, 0)
    assert isinstance(place, int)
    return place


def use_alternate_stack(pages: int) -> Stack:
    """Give this thread an alternate signal stack, all of it 0xA5 until it is used."""
    stack = Stack(start=private_pages(None, pages), size=pages * PAGE)
    ctypes.memset(stack.start, 0xA5, stack.size)
    succeed(libc.sigaltstack(ctypes.byref(stack), None))
    return stack


def is_used(stack: Stack) -> bool:
    return ctypes.string_at(stack.start, stack.size).strip(b"\xa5") != b""


def stack_pointer() -> int:
    """Where on its stack this thread is, about: the kernel tells each system call's."""
    return int(Path("/proc/thread-self/syscall").read_text().split()[-2], 16)


def foreign_pages(path: str) -> tuple[mmap.mmap, int]:
    """The standard library's mapping of a file that has lost its second half, and its address."""
    os.truncate(path, 16 * PAGE)
    with open(path, "r+b") as file:
        theirs = mmap.mmap(file.fileno(), 0)
    os.truncate(path, END)
    return theirs, ctypes.addressof(ctypes.c_ubyte.from_buffer(theirs))


def byte_at(address: int) -> int:
    return ctypes.c_ubyte.from_address(address).value


# Many guards

MANY = 1000
ORDERS: dict[str, Callable[[int], Sequence[int]]] = {
    "as entered": range,
    "the last first": lambda count: range(count)[::-1],
    "mixed": lambda count: [number * 1291 % count for number in range(count)],
}


@pytest.fixture
def many(disk_path: Path) -> Iterator[list[MemoryMapping]]:
    """A thousand mappings, of three pages each, of one file that has lost everything."""
    path = disk_path / "many"
    path.touch()
    os.truncate(path, MANY * 3 * PAGE)
    with ExitStack() as stack:
        mappings = [
            MemoryMapping.from_file(path, 3 * PAGE, offset=number * 3 * PAGE)
            for number in range(MANY)
        ]
        for mapping in mappings:
            stack.callback(mapping.close)
        os.truncate(path, 0)
        yield mappings


@pytest.mark.race
@pytest.mark.parametrize("order", list(ORDERS))
def test_a_thousand_guards_tell_their_faults_apart(order: str, many: list[MemoryMapping]) -> None:
    views = [mapping.view() for mapping in many]
    guards = [mapping.fault_guard() for mapping in many]
    left = ORDERS[order](MANY)
    assert sorted(left) == list(range(MANY))
    for guard in guards:
        guard.__enter__()
    expected: dict[int, tuple[int, int]] = {}
    for number in left[::7]:
        assert bytes(views[number][PAGE:]) == bytes(2 * PAGE)
        expected[number] = (PAGE, 2)
    found: dict[int, tuple[int, int]] = {}
    for done, number in enumerate(left):
        if done % 7 == 3:  # while others are left and not left
            assert views[number][2 * PAGE + 5] == 0
            expected[number] = (2 * PAGE, 1)
        try:
            guards[number].__exit__(None, None, None)
        except MappingFaultError as error:
            found[number] = (error.offset, error.pages)
    assert found == expected


def leave_guards(path: str, order: str) -> None:
    """Leave one guard after the other; forked processes tell which views are still guarded."""
    os.truncate(path, 16 * PAGE)
    mappings = [MemoryMapping.from_file(path) for _ in range(20)]
    views = [mapping.view() for mapping in mappings]
    guards = [mapping.fault_guard() for mapping in mappings]
    os.truncate(path, END)
    first, rest = ORDERS[order](20)[:12], ORDERS[order](20)[12:]
    for guard in guards:
        guard.__enter__()
    for leaving, staying in ((first, rest), (rest, range(0))):
        for number in leaving:
            guards[number].__exit__(None, None, None)
        alive: set[int] = set()
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                assert views[number][END] == 0
                os._exit(0)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGBUS:
                alive.add(number)
        say(alive == set(staying))


@pytest.mark.parametrize("order", list(ORDERS))
def test_guard_that_is_left_guards_no_longer_and_the_others_do(
    order: str, known_file: KnownFile
) -> None:
    assert (
        in_process(leave_guards, known_file.path, order, watched=False).succeeded()
        == "True\nTrue\n"
    )


@pytest.mark.alone
def test_guard_costs_the_same_among_thousands() -> None:
    guards = [MemoryMapping.new(PAGE).fault_guard() for _ in range(10_000)]

    def shortest(active: list[FaultGuard]) -> float:
        """The shortest time in which the guard that was entered first is left and entered anew."""
        times: list[float] = []
        for oldest in active * (300 // len(active) or 1):
            begin = time.perf_counter()
            oldest.__exit__(None, None, None)
            oldest.__enter__()
            times.append(time.perf_counter() - begin)
        return min(times)

    with ExitStack() as stack:
        stack.enter_context(guards[0])
        alone = shortest(guards[:1])
        for guard in guards[1:]:
            stack.enter_context(guard)
        assert shortest(guards) < 10 * alone


# Other stacks


def faults_on_an_alternate_stack(path: str, handler: str) -> None:
    theirs = Handler(lambda *_: say("theirs"))
    if handler != "none":
        handle(signal.SIGBUS, address_of(theirs), SA_ONSTACK if handler == "on it" else 0)

    def thread() -> None:
        stack = use_alternate_stack(16)
        assert not is_used(stack)
        say_fault(lambda: guarded_touch(cut(path), 9))
        assert is_used(stack)
        ctypes.memset(stack.start, 0xA5, stack.size)
        say_fault(lambda: cut(path)[:])
        assert is_used(stack)
        sound, lost = MemoryMapping.new(PAGE), cut(path)
        for _ in range(3):  # each jumps out of the handler, and leaves the alternate stack with it
            ctypes.memset(stack.start, 0xA5, stack.size)
            try:
                sound.read_slice(lost.view(END, PAGE), 0)
            except BadAddressError:
                say("bad address")
            assert is_used(stack)
            now = Stack()
            succeed(libc.sigaltstack(None, ctypes.byref(now)))
            assert (now.start, now.flags, now.size) == (stack.start, 0, stack.size)
        say_fault(lambda: guarded_touch(cut(path), 10))

    run_in_thread(thread)
    say_fault(lambda: guarded_touch(cut(path), 11))  # of this thread, which has none


@pytest.mark.parametrize("handler", ["none", "on it", "not on it"])
def test_fault_on_an_alternate_stack_is_an_error(handler: str, known_file: KnownFile) -> None:
    ended = in_process(faults_on_an_alternate_stack, known_file.path, handler, watched=False)
    assert ended.succeeded() == "9 1\n8 1\n" + 3 * "bad address\n" + "10 1\n11 1\n"


def run_in_thread(work: Callable[[], None]) -> None:
    """Run in a thread; what it raises is raised here."""
    failures: list[BaseException] = []

    def thread() -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001  # raised again where it is seen
            failures.append(failure)

    worker = threading.Thread(target=thread)
    worker.start()
    worker.join()
    for failure in failures:
        raise failure


def fault_on_a_full_stack(path: str, room: str, alternate: str) -> None:
    """Let strlen meet a lost page on a stack of so many bytes, below which nothing is mapped."""
    mapping = cut(path)
    view = mapping.view()
    lost = ctypes.addressof(ctypes.c_ubyte.from_buffer(view)) + 9 * PAGE
    low = private_pages(None, 2 + int(room) // PAGE)
    succeed(libc.mprotect(ctypes.c_void_p(low), ctypes.c_size_t(PAGE), 0))

    def thread() -> None:
        if alternate == "with":
            use_alternate_stack(16)
        size = 4096  # more than a ucontext_t
        context, back = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
        succeed(libc.getcontext(context))
        link = ctypes.c_void_p.from_buffer(context, 8)
        stack = Stack.from_buffer(context, 16)
        link.value = ctypes.addressof(back)
        stack.start, stack.size = low + PAGE, int(room)
        strlen = ctypes.c_void_p(address_of(libc.strlen))
        libc.makecontext(context, strlen, 1, ctypes.c_void_p(lost))
        with mapping.fault_guard():
            succeed(libc.swapcontext(back, context))

    say_fault(lambda: run_in_thread(thread))


@pytest.mark.not_sanitized(STACK_IS_UNKNOWN)
@pytest.mark.skipif(not hasattr(libc, "makecontext"), reason="this C library has no makecontext")
@pytest.mark.parametrize(
    ("room", "alternate"), [(1024, "with"), (16 * 1024, "without")], ids=["alternate", "own"]
)
def test_fault_on_a_nearly_full_stack_is_an_error_where_the_handler_finds_room(
    room: int, alternate: str, known_file: KnownFile
) -> None:
    ended = in_process(fault_on_a_full_stack, known_file.path, room, alternate, watched=False)
    assert ended.succeeded() == "9 1\n"


@pytest.mark.not_sanitized(STACK_IS_UNKNOWN)
@pytest.mark.skipif(not hasattr(libc, "makecontext"), reason="this C library has no makecontext")
def test_fault_on_a_full_stack_without_another_dies_as_with_any_handler(
    known_file: KnownFile,
) -> None:
    ended = in_process(fault_on_a_full_stack, known_file.path, 1024, "without", watched=False)
    assert (ended.killed_by, ended.output) == ("SIGSEGV", "")


# Handlers of others: what they see, and how it ends, is as it is without the library


def as_without(function: Callable[..., None], *arguments: object) -> Child:
    """How a process ends in which the library is at work: just as without it."""
    ended = in_process(function, *arguments, "at work", watched=False)
    assert ended == in_process(function, *arguments, "idle", watched=False)
    return ended


def work(path: str, library: str) -> None:
    """Let the library, if it is to be at work, meet faults of its own and repair them."""
    calls: list[Callable[[], object]] = [
        lambda: guarded_touch(cut(path), 9),
        lambda: cut(path)[:],
    ]
    for call in calls if library == "at work" else []:
        with pytest.raises(MappingFaultError):
            call()


FLAGS = {
    "": 0,
    "SIGINFO": SA_SIGINFO,
    "NODEFER": SA_NODEFER,
    "SIGINFO NODEFER": SA_SIGINFO | SA_NODEFER,
    "SIGINFO ONSTACK": SA_SIGINFO | SA_ONSTACK,
    "SIGINFO RESETHAND": SA_SIGINFO | SA_RESETHAND,
}


def foreign_faults(path: str, kind: str, named: str, library: str) -> None:
    """Meet faults in memory of others, whose handler maps pages there and says what it sees."""
    faulting = signal.Signals[kind]
    flags, address = FLAGS[named], 0
    own = path + " of the library"
    Path(own).touch()

    def theirs(number: int, info: int, context: int) -> None:
        seen: list[object] = [number == faulting]
        if flags & SA_SIGINFO:
            details = SigInfo.from_address(info)
            seen += [details.code, details.address == address, context != 0]
        if flags & SA_ONSTACK:
            seen.append(stack.start <= stack_pointer() < stack.start + stack.size)
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        say("handled", *seen, *sorted(signal.Signals(one).name for one in masked))
        private_pages(address, 1)

    callback = Handler(theirs)
    handle(faulting, address_of(callback), flags, masked=signal.SIGUSR1)
    stack = use_alternate_stack(64) if flags & SA_ONSTACK else Stack()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    work(own, library)
    keeps_it, start = foreign_pages(path)
    if faulting == signal.SIGSEGV:
        start = private_pages(None, 16, protection=0)
    for page in (9, 10, 11):
        address = start + page * PAGE
        say("read", byte_at(address))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
        work(own, library)
    assert not keeps_it.closed


@pytest.mark.parametrize(
    ("kind", "flags"), [*(("SIGBUS", flags) for flags in FLAGS), ("SIGSEGV", "SIGINFO")]
)
def test_foreign_fault_goes_to_the_handler_before_with_its_flags_and_mask(
    kind: str, flags: str, known_file: KnownFile
) -> None:
    ended = as_without(foreign_faults, known_file.path, kind, flags)
    lines = ended.output.splitlines()
    assert lines[0].startswith("handled True")
    assert ("SIGUSR1" in lines[0], "SIGUSR2" in lines[0]) == (True, True)
    assert (kind in lines[0]) == ("NODEFER" not in flags)
    if "RESETHAND" in flags:
        assert (ended.killed_by, lines[1:]) == (kind, ["read 0"])
    else:
        assert (ended.status, lines[1::2], lines[::2]) == (0, 3 * ["read 0"], 3 * lines[:1])


def interrupted_read(path: str, handler: str, library: str) -> None:
    """Say how a read(2) ends during which somebody sends the signal."""
    heard: list[str] = []
    callback = Handler(lambda *_: heard.append("heard"))
    address = SIG_IGN if handler == "ignoring" else address_of(callback)
    handle(signal.SIGBUS, address, SA_RESTART if handler == "restarting" else 0)
    work(path, library)
    reading, writing = os.pipe()
    reader, in_call = threading.get_ident(), Path(f"/proc/{os.getpid()}/syscall")

    def send() -> None:
        while in_call.read_text().split()[1:2] != [hex(reading)]:  # the call's first argument
            time.sleep(0.001)
        signal.pthread_kill(reader, signal.SIGBUS)
        time.sleep(0.05)
        os.write(writing, b"a")

    sender = threading.Thread(target=send)
    sender.start()
    result = libc.read(reading, ctypes.create_string_buffer(1), ctypes.c_size_t(1))
    say(result, errno.errorcode[ctypes.get_errno()] if result < 0 else "", *heard)
    sender.join()


@pytest.mark.parametrize(
    ("handler", "output"),
    [("restarting", "1  heard"), ("interrupting", "-1 EINTR heard"), ("ignoring", "1 ")],
)
def test_signal_that_is_sent_interrupts_what_it_did_before(
    handler: str, output: str, known_file: KnownFile
) -> None:
    assert as_without(interrupted_read, known_file.path, handler).succeeded() == f"{output}\n"


def misaligned(path: str, library: str) -> None:
    """Be told of an access that the processor refuses for its alignment, at a guarded address."""
    mapping = MemoryMapping.from_file(path)
    view = mapping.view()
    theirs = Handler(lambda *_: say("handled"))
    handle(signal.SIGBUS, address_of(theirs), SA_SIGINFO)
    info = ctypes.create_string_buffer(128)
    told = SigInfo.from_buffer(info)
    told.number, told.code, told.address = signal.SIGBUS, 1, mapping.as_ptr()  # BUS_ADRALN
    with ExitStack() as stack:
        if library == "at work":
            stack.enter_context(mapping.fault_guard())
        # Only what a process sends to itself may look as if it came from the kernel.
        succeed(
            libc.syscall(
                SYS_RT_TGSIGQUEUEINFO[os.uname().machine],
                os.getpid(),
                threading.get_native_id(),
                signal.SIGBUS,
                info,
            )
        )
        say(bytes(view[:3]))


SYS_RT_TGSIGQUEUEINFO = {"x86_64": 297, "aarch64": 240}


@pytest.mark.skipif(
    os.uname().machine not in SYS_RT_TGSIGQUEUEINFO, reason="a system call of unknown number"
)
def test_signal_of_an_alignment_is_not_taken_for_a_lost_page(known_file: KnownFile) -> None:
    ended = as_without(misaligned, known_file.path)
    assert ended.succeeded() == f"handled\n{known_file.content[:3]!r}\n"


def handler_that_calls_the_one_before_it(path: str, when: str) -> None:
    """Put a handler on top of the library's, which calls the library's."""
    say_fault(lambda: guarded_touch(cut(path), 9))
    before = action_of(signal.SIGBUS)
    call_before = Handler(before.handler)

    def theirs(number: int, info: int, context: int) -> None:
        say("theirs")
        call_before(number, info, context)

    callback = Handler(theirs)
    mapping = cut(path)
    view = mapping.view()

    def guarded() -> None:
        with mapping.fault_guard():
            if when == "inside":
                handle(signal.SIGBUS, address_of(callback), SA_SIGINFO, masked=signal.SIGUSR1)
            assert view[10 * PAGE] == view[10 * PAGE + 1] == 0

    if when == "between":
        handle(signal.SIGBUS, address_of(callback), SA_SIGINFO, masked=signal.SIGUSR1)
    say_fault(guarded)
    say_fault(lambda: cut(path)[:])
    _, start = foreign_pages(path)
    byte_at(start + 9 * PAGE)


@pytest.mark.parametrize("when", ["between", "inside"])
def test_handler_on_top_that_calls_the_librarys_is_heard_and_harmless(
    when: str, known_file: KnownFile
) -> None:
    ended = in_process(handler_that_calls_the_one_before_it, known_file.path, when, watched=False)
    inside = "theirs\n" if when == "inside" else ""
    assert ended.output == f"9 1\n{inside}10 1\n8 1\ntheirs\n"
    assert ended.killed_by == "SIGBUS"


# faulthandler, which puts the handler before it back and raises the signal anew

REPORT = "Fatal Python error: "


def faulthandler_and_guards(path: str, steps: str, end: str) -> None:
    """Enable (e) and disable (d) it, and enter guards and meet faults in them (g), in an order."""
    for step in steps:
        if step == "e":
            faulthandler.enable()
        elif step == "d":
            faulthandler.disable()
        else:
            say_fault(lambda: guarded_touch(cut(path), 9))
    sound = MemoryMapping.new(PAGE)
    with sound.fault_guard() if end == "inside a guard" else ExitStack():
        assert sys.stderr.write("no crash yet\n")
        _, start = foreign_pages(path)
        byte_at(start + 9 * PAGE)


ENABLED = "ge gege egdeg egdgeg gegdgegdgeg".split()
DISABLED = "egd egdg gedg".split()


@pytest.mark.parametrize("end", ["outside", "inside a guard"])
@pytest.mark.parametrize("steps", [*ENABLED, *DISABLED])
def test_faulthandler_reports_a_crash_once_if_it_is_enabled_whenever_that_was(
    steps: str, end: str, known_file: KnownFile
) -> None:
    ended = in_process(faulthandler_and_guards, known_file.path, steps, end, watched=False)
    assert ended.killed_by == "SIGBUS"
    assert ended.output == "9 1\n" * steps.count("g")
    before, _, after = ended.errors.partition("no crash yet\n")
    assert before == ""
    assert after.count(REPORT) == (steps in ENABLED)


def faulthandler_inside_a_guard(path: str) -> None:
    say_fault(lambda: guarded_touch(cut(path), 9))
    mapping = cut(path)
    view = mapping.view()

    def guarded() -> None:
        with mapping.fault_guard():
            faulthandler.enable()
            assert sum(view[END::PAGE]) == 0
            say("went on")

    say_fault(guarded)


def test_faulthandler_enabled_inside_a_guard_lets_it_go_on(known_file: KnownFile) -> None:
    ended = in_process(faulthandler_inside_a_guard, known_file.path, watched=False)
    assert ended.succeeded() == "9 1\nwent on\n8 8\n"


def test_faulthandler_cannot_be_registered_for_these_signals() -> None:
    for number in (signal.SIGBUS, signal.SIGSEGV):  # or it would have to be chained here
        with pytest.raises(RuntimeError, match="use enable"):
            faulthandler.register(number, chain=True)


# A large file that is cut while threads read it

LARGE, QUARTER = 64 * MIB, 16 * MIB
LEFT = 20 * MIB + 100
FIRST_LOST = 20 * MIB + PAGE
PAGES_LOST = (LARGE - FIRST_LOST) // PAGE


@pytest.fixture
def large_file(disk_path: Path) -> Path:
    """64 MiB, each byte of it a one."""
    path = disk_path / "large"
    path.write_bytes(b"\1" * LARGE)
    return path


def cut_while_read(path: str, read: Callable[[int], bool]) -> None:
    """Cut a file while four threads read a quarter each, time and again until that gives True."""
    have_read = threading.Barrier(5)
    until = time.monotonic() + 30

    def thread(start: int) -> None:
        assert not read(start)
        have_read.wait()
        while not read(start):
            assert time.monotonic() < until, f"the cut is not seen at {start}"

    threads = [threading.Thread(target=thread, args=(start,)) for start in range(0, LARGE, QUARTER)]
    for one in threads:
        one.start()
    have_read.wait()
    time.sleep(0.01)  # let them be in the middle of it
    os.truncate(path, LEFT)
    for one in threads:
        one.join()


def cut_under_sums(path: str) -> None:
    import numpy as np  # noqa: PLC0415  # the other processes, and they are many, need none

    mapping = MemoryMapping.from_file(path)
    array = np.asarray(mapping)
    changed: dict[int, int] = {}

    def read(start: int) -> bool:
        """Whether a sum has seen the cut from its first page on, and any other end of the file."""
        part = array[start : start + QUARTER]
        total = int(part.sum(dtype=np.uint64))
        left = min(max(LEFT - start, 0), QUARTER)
        if total == left and (left < QUARTER or array[-1] == 0):
            changed[start] = total
            return True
        assert left <= total <= QUARTER  # what was there when it came by
        return False

    def guarded() -> None:
        with mapping.fault_guard():
            cut_while_read(path, read)
            say(*(changed[start] for start in sorted(changed)))

    try:
        guarded()
    except MappingFaultError as error:
        say(error.offset, error.pages)


def test_large_file_that_is_cut_under_four_sums_is_an_error_of_the_guard(
    large_file: Path,
) -> None:
    ended = in_process(cut_under_sums, large_file, watched=False)
    sums = f"{QUARTER} {LEFT - QUARTER} 0 0\n"
    assert ended.succeeded() == f"{sums}{FIRST_LOST} {PAGES_LOST}\n"
    assert ended.errors == ""


def cut_under_reads(path: str) -> None:
    mapping = MemoryMapping.from_file(path)
    buffers = {start: bytearray(QUARTER) for start in range(0, LARGE, QUARTER)}

    def read(start: int) -> bool:
        try:
            assert mapping.read_slice(buffers[start], start) == QUARTER
        except MappingFaultError as error:
            first = max(FIRST_LOST, start)
            say("fault", first <= error.offset < start + QUARTER and error.pages == 1)
            return True
        assert not buffers[start].strip(b"\1")
        return start + QUARTER <= FIRST_LOST and Path(path).stat().st_size < LARGE

    cut_while_read(path, read)


def test_large_file_that_is_cut_under_four_reads_is_an_error_of_those_that_meet_it(
    large_file: Path,
) -> None:
    ended = in_process(cut_under_reads, large_file, watched=False)
    # The first quarter is still there, and the file's end is no matter to who reads it.
    assert ended.succeeded() == 3 * "fault True\n"
    assert ended.errors == ""


# A file that grows again


def test_page_that_was_lost_stays_lost_where_the_file_grows_again_inside_the_guard(
    known_file: KnownFile,
) -> None:
    content = known_bytes(16 * PAGE)
    with MemoryMapping.from_file(known_file.path) as mapping:
        view = mapping.view()

        def guarded() -> None:
            with mapping.fault_guard():
                os.truncate(known_file.path, END)
                assert view[9 * PAGE] == 0
                known_file.path.write_bytes(content)
                assert bytes(view[:END]) == content[:END]  # the file's own, before and after
                assert bytes(view[END : 9 * PAGE]) == content[END : 9 * PAGE]
                assert bytes(view[9 * PAGE : 10 * PAGE]) == bytes(PAGE)
                view[9 * PAGE] = view[10 * PAGE] = 0xFF

        with pytest.raises(MappingFaultError) as caught:
            guarded()
        assert (caught.value.offset, caught.value.pages) == (9 * PAGE, 1)
        assert view[9 * PAGE] == 0xFF
    with MemoryMapping.from_file(known_file.path) as again:
        assert again[9 * PAGE] == content[9 * PAGE]
        assert again[10 * PAGE] == 0xFF
