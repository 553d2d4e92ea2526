"""The chain of signal handlers: those of other libraries hear their own faults, and ours ours."""

import ctypes
import faulthandler
import mmap
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_view import PAGE, in_process, known_bytes, say
from libc import libc
from lost_pages import KEPT, SIZE, fault_of, memory_file

from mmapwrap import MemoryMapping

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
