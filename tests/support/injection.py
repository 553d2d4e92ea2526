"""System calls that fail on demand: a seccomp filter on one thread, which matches by arguments.

A filter is the thread's own and dies with it. So a call is made in a thread of its own, in which
exactly the system call that is meant fails; what it left behind is looked at, and the call is
repeated, by the thread that waits, in which nothing fails. It needs no privilege and no other
program.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

_MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*

# The numbers of x86-64 and of aarch64; where two calls do the same, libraries differ in which.
_NUMBERS: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "close": ((3,), (57,)),
    "fadvise64": ((221,), (223,)),
    "fallocate": ((285,), (47,)),
    "fcntl": ((72,), (25,)),
    "fdatasync": ((75,), (83,)),
    "fstat": ((5, 262), (80, 79)),  # and newfstatat
    "ftruncate": ((77,), (46,)),
    "getsockopt": ((55,), (209,)),
    "madvise": ((28,), (233,)),
    "memfd_create": ((319,), (279,)),
    "mincore": ((27,), (232,)),
    "mlock": ((149,), (228,)),
    "mlock2": ((325,), (284,)),
    "mmap": ((9,), (222,)),
    "mprotect": ((10,), (226,)),
    "mremap": ((25,), (216,)),
    "msync": ((26,), (227,)),
    "munlock": ((150,), (229,)),
    "munmap": ((11,), (215,)),
    "openat": ((257, 2), (56,)),  # and open
    "prctl": ((157,), (167,)),
    "pread64": ((17,), (67,)),
    "pwrite64": ((18,), (68,)),
    "read": ((0,), (63,)),
    "readlink": ((89, 267), (78,)),  # and readlinkat
    "rename": ((82, 264), (38,)),  # and renameat
    "seccomp": ((317,), (277,)),
    "sigaction": ((13,), (134,)),  # rt_sigaction
    "unlink": ((87, 263), (35,)),  # and unlinkat
    "write": ((1,), (64,)),
}

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 8
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_NOTIFY: Final = 0x7FC00000

_LOAD, _JUMP_IF_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16

_RECEIVE: Final = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND: Final = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_CONTINUE: Final = 1

_WORD: Final = 2**32 - 1
_LONG: Final = 2**64 - 1


class UnavailableError(Exception):
    """This machine cannot make system calls fail; the text says why."""


@attrs.frozen
class Argument:
    """What one argument of a system call must be: `value`, in the bits of `mask`."""

    index: int
    value: int
    mask: int = _LONG


@attrs.frozen
class Rule:
    """Which system calls fail with which errno. An errno of 0 lets them through."""

    call: str
    errno: int
    arguments: tuple[Argument, ...] = ()


@attrs.frozen
class Outcome:
    """What the call under test returned or raised."""

    value: object = None
    error: BaseException | None = None
    matched: int = 0
    """How many system calls the rules matched; counted with `only` alone."""


def attempt(
    act: Callable[[], object], rules: Sequence[Rule], *, only: range | None = None
) -> Outcome:
    """Make a call in a thread in which the system calls that the rules name fail.

    The first rule that a system call matches decides. With `only` those fail that it counts, from
    0 on. What makes them must then have dropped the GIL, which this thread needs to answer.

    Raises:
        UnavailableError: system calls cannot be made to fail here.
    """
    asks = only is not None
    code = _filter(rules, asks=asks)
    outcome: Outcome | None = None
    refused: Exception | None = None
    listeners: list[int] = []
    installed, go = threading.Event(), threading.Event()

    def run() -> None:
        nonlocal outcome, refused
        try:
            listeners.extend(_install(code, asks=asks))
        except UnavailableError as error:
            refused = error
            return
        finally:
            installed.set()
        go.wait()
        try:
            outcome = Outcome(value=act())
        except BaseException as error:  # noqa: BLE001  # it is looked at by who waits
            outcome = Outcome(error=error)

    thread = threading.Thread(target=run)
    thread.start()
    installed.wait()
    # Out of the way: the descriptor that is opened next has the number that it had without this.
    listeners[:] = [_moved_up(listener) for listener in listeners]
    go.set()
    # Python's threads are detached: until the kernel has seen it off, a thread makes system calls
    # and has its stack, so that the next one would have to map another.
    matched, task = 0, Path(f"/proc/self/task/{thread.native_id}")
    if not listeners:
        thread.join()
    while task.exists():
        os.sched_yield()
        for listener in listeners:
            is_counted = outcome is None
            error = 0
            if only is not None and matched in only and is_counted:
                error = next(rule.errno for rule in rules if rule.errno)
            matched += _answer(listener, error) and is_counted
    thread.join()
    for listener in listeners:
        os.close(listener)
    if refused is not None:
        raise refused
    return attrs.evolve(outcome or Outcome(), matched=matched)


def why_unavailable() -> str | None:
    """Why this process cannot make system calls fail, None where it can."""
    fails = Rule("mlock", errno.EXFULL, (Argument(0, 0), Argument(1, 0)))

    def lock_nothing() -> int:
        result: int = _libc.mlock(None, ctypes.c_size_t(0))
        return ctypes.get_errno() if result else 0

    try:
        for only in (None, range(1)):
            if attempt(lock_nothing, [fails], only=only).value != errno.EXFULL:
                return "seccomp filters have no effect here"
    except UnavailableError as error:
        return str(error)
    return None


# How

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _numbers(call: str) -> tuple[int, ...]:
    return _NUMBERS[call][list(_MACHINES).index(platform.machine())]


def _install(code: bytes, *, asks: bool) -> list[int]:
    """Put a filter on this thread; returns the descriptor on which it asks, if it does."""
    program = _Program(len(code) // 8, code)
    nothing = ctypes.c_ulong(0)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), nothing, nothing, nothing)
    result: int = _libc.syscall(
        ctypes.c_long(_numbers("seccomp")[0]),
        ctypes.c_ulong(_SET_MODE_FILTER),
        ctypes.c_ulong(_NEW_LISTENER if asks else 0),
        ctypes.byref(program),
    )
    if result < 0:
        raise UnavailableError(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")
    return [result] if asks else []


def _filter(rules: Sequence[Rule], *, asks: bool) -> bytes:
    """The instructions of the filter; a call without an entry in `_NUMBERS` is a KeyError."""
    if platform.machine() not in _MACHINES:
        raise UnavailableError(f"no system call numbers of {platform.machine()} are known here")
    machine = _MACHINES[platform.machine()]
    code = [_instruction(_LOAD, _MACHINE_AT), _instruction(_JUMP_IF_EQUAL, machine, yes=1)]
    code.append(_instruction(_RETURN, _ALLOW))
    for rule in rules:
        action = (_NOTIFY if asks else _ERRNO | rule.errno) if rule.errno else _ALLOW
        for number in _numbers(rule.call):
            code += _block(number, rule.arguments, action)
    code.append(_instruction(_RETURN, _ALLOW))
    return b"".join(code)


def _block(number: int, arguments: Sequence[Argument], action: int) -> list[bytes]:
    """The instructions of one rule: each test that fails jumps behind them."""
    tests: list[tuple[int, int, int]] = [(_NUMBER_AT, number, _WORD)]
    for argument in arguments:
        at = _ARGUMENTS_AT + 8 * argument.index
        for half, shift in ((at, 0), (at + 4, 32)):  # both machines are little-endian
            mask = argument.mask >> shift & _WORD
            if mask:
                tests.append((half, argument.value >> shift & mask, mask))
    code = [_instruction(_RETURN, action)]
    for at, value, mask in reversed(tests):
        code.insert(0, _instruction(_JUMP_IF_EQUAL, value, no=len(code)))
        if mask != _WORD:
            code.insert(0, _instruction(_AND, mask))
        code.insert(0, _instruction(_LOAD, at))
    return code


def _instruction(operation: int, operand: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, yes, no, operand)


def _moved_up(fd: int) -> int:
    """Give a descriptor a higher number, so that the lowest stay free."""
    higher = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(fd)
    return higher


def _answer(listener: int, error: int) -> bool:
    """Wait a moment for a system call that the filter asks about, and tell it that it failed.

    An error of 0 lets it be.
    """
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if not any(event & select.POLLIN for _, event in poll.poll(1)):
        return False
    question = bytearray(80)
    fcntl.ioctl(listener, _RECEIVE, question)
    (call,) = struct.unpack_from("=Q", question)
    fcntl.ioctl(listener, _SEND, struct.pack("=QqiI", call, 0, -error, 0 if error else _CONTINUE))
    return True
