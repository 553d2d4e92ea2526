"""Every system call that the library makes, failed with every errno that its manual page documents.

Each case makes one call of the library in which one system call fails. It must end in the error
that the contract names, leave no mapping and no descriptor behind, change nothing, and work when
it is made again. The cases run in a child process, one after another; a signal ends the child and
fails that one case.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import pytest
from drop_in_operations import DISPLACED_DROP_INS, DROP_IN_OPERATIONS
from errno_classes import NAMED
from injection import Argument, Rule, attempt, why_unavailable
from kernel_view import (
    PAGE,
    become_unprivileged,
    child,
)
from operations import (
    ALIGN,
    DISPLACED as DISPLACED_REGIONS,
    OPERATIONS as OWN_OPERATIONS,
    SEGMENT,
    SIZE,
    WINDOW,
    WITHOUT_SYSTEM_CALLS,
    Room,
    Traces,
    as_usual,
    next_descriptor,
    outcome_of,
    result_of,
)
from protections import READ, RW

from mmapwrap import (
    AccessDeniedError,
    Advice,
    AlreadyExistsError,
    DestructiveAdvice,
    MappingFaultError,
    MemoryMapping,
    MissingSealsError,
    ReadToMemoryError,
    SystemCallError,
    UnsupportedByKernelError,
    UnsupportedOperationError,
    WriteFromMemoryError,
)
from mmapwrap._core._mman import lib

EHWPOISON: Final = 133  # which Python does not name
MAP_FIXED: Final = 0x10
MAP_NORESERVE: Final = 0x4000
MFD_NOEXEC_SEAL: Final = 8
M_ARENA_MAX: Final = -8
PR_SET_VMA: Final = 0x53564D41
READ_BITS, RW_BITS = int(READ), int(RW)

OPERATIONS: Final = {**OWN_OPERATIONS, **DROP_IN_OPERATIONS}
DISPLACED: Final = DISPLACED_REGIONS | DISPLACED_DROP_INS

# What manual pages document -------------------------------------------------------------------

DOCUMENTED: Final = {
    call: names.split()
    for call, names in {
        "close": "EBADF EINTR EIO ENOSPC EDQUOT",
        "fadvise64": "EBADF EINVAL ESPIPE",
        "fallocate": "EBADF EFBIG EINVAL EIO ENODEV ENOSPC ENOSYS EOPNOTSUPP EPERM ESPIPE ETXTBSY",
        "fcntl": "EBADF EBUSY EINVAL EMFILE EPERM",
        "fdatasync": "EBADF EDQUOT EINVAL EIO ENOSPC EROFS",
        "fstat": "EBADF EFAULT ENOMEM EOVERFLOW",
        "ftruncate": "EACCES EBADF EFBIG EINVAL EIO EISDIR EPERM EROFS ETXTBSY",
        "getsockopt": "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK",
        "madvise": "EACCES EAGAIN EBADF EBUSY EFAULT EHWPOISON EINVAL EIO ENOMEM EPERM",
        "memfd_create": "EACCES EFAULT EINVAL EMFILE ENFILE ENOMEM EPERM",
        "mincore": "EAGAIN EFAULT EINVAL ENOMEM",
        "mlock": "EAGAIN EINVAL ENOMEM EPERM",
        "mlock2": "EAGAIN EINVAL ENOMEM EPERM",
        "mmap": "EACCES EAGAIN EBADF EEXIST EINVAL ENFILE ENODEV ENOMEM EOVERFLOW EPERM ETXTBSY",
        "mprotect": "EACCES EINVAL ENOMEM",
        "mremap": "EAGAIN EFAULT EINVAL ENOMEM",
        "msync": "EBUSY EINVAL EIO ENOMEM ENOSPC",
        "munlock": "EAGAIN EINVAL ENOMEM EPERM",
        "munmap": "EINVAL ENOMEM",
        "openat": "EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EINVAL EISDIR ELOOP EMFILE ENAMETOOLONG "
        "ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY "
        "EWOULDBLOCK",
        "prctl": "EBADF EFAULT EINVAL ENOMEM",
        "pread64": "EAGAIN EBADF EFAULT EINVAL EIO EISDIR ENXIO EOVERFLOW ESPIPE",
        "pwrite64": "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINVAL EIO ENOSPC ENXIO "
        "EOVERFLOW EPERM EPIPE ESPIPE",
        "read": "EAGAIN EBADF EFAULT EINVAL EIO EISDIR",
        "readlink": "EACCES EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
        "rename": "EACCES EBUSY EDQUOT EEXIST EFAULT EINVAL EISDIR ELOOP EMLINK ENAMETOOLONG "
        "ENOENT ENOMEM ENOSPC ENOTDIR ENOTEMPTY EPERM EROFS EXDEV",
        "sigaction": "EFAULT EINVAL",
        "unlink": "EACCES EBUSY EFAULT EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM "
        "EROFS",
        "write": "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINVAL EIO ENOSPC EPERM EPIPE",
    }.items()
}


def number_of(name: str) -> int:
    """The errno of a name."""
    number: int = EHWPOISON if name == "EHWPOISON" else getattr(errno, name)
    return number


# What the contract names ----------------------------------------------------------------------

# By the name that a program uses, where the kernel's is another.
NAME_OF: Final = {"fadvise64": "posix_fadvise", "openat": "open"}


# What fails -----------------------------------------------------------------------------------

LONG: Final = 2**64 - 1
INT: Final = 2**32 - 1
"""The bits of an argument that is an int: the rest of the register is undefined."""

FIRST: Final = range(1)

NEXT_FD: Final = 2**40
"""As an argument's value: the descriptor that is opened next."""


def length(count: int) -> Argument:
    return Argument(1, count)


def advice(which: int) -> Argument:
    return Argument(2, which, INT)


def allows(prot: int) -> Argument:
    return Argument(2, prot, INT)


def flags(which: int, mask: int = INT) -> Argument:
    return Argument(3, which, mask)


def of_fd(fd: int) -> Argument:
    return Argument(0, fd, 2**41 - 1 if fd == NEXT_FD else INT)


def command(which: int) -> Argument:
    return Argument(1, which, INT)


@attrs.frozen
class Report:
    """What came of one case."""

    matched: int
    """How many system calls the step meant, where none of them failed."""
    error: BaseException | None
    value: str
    left: str
    """What is mapped or open, and was not before, as the call fails."""
    changed: str
    """What a failure changed."""
    again: str
    """What differs from a call that never failed, when the call is made again."""
    lost: str
    """What is mapped or open when all is closed."""


Expectation: TypeAlias = Callable[[Report, str, int], None]


def typed(report: Report, call: str, number: int) -> None:
    """The error that the table has for the errno, with its numbers."""
    error = report.error
    assert isinstance(error, SystemCallError), f"it ended in {report!r}"
    named, _ = NAMED.get(number, (SystemCallError, OSError))
    if number == errno.EEXIST and call != "mmap":  # there it tells of an address
        named = AlreadyExistsError
    assert type(error) is named
    assert (error.errno, error.syscall) == (number, NAME_OF.get(call, call))


def plain(report: Report, call: str, number: int) -> None:
    """The error of the standard library's own call, as its `mmap` has it."""
    error = report.error
    assert isinstance(error, OSError), f"it ended in {report!r}"
    assert type(error) is type(OSError(number, ""))
    assert error.errno == number


def not_created(report: Report, call: str, number: int) -> None:
    """The error is that of the file's length, and not that of the way back."""
    typed(report, "fallocate", errno.ENOSPC)


def succeeded(report: Report, call: str, number: int) -> None:
    """No error: there is another way, or another try."""
    assert report.error is None, f"it ended in {report!r}"


def typed_if_any(report: Report, call: str, number: int) -> None:
    """A failure that need not be one; if it is, it is the table's."""
    if report.error is not None:
        typed(report, call, number)


def typed_out_of_memory(report: Report, call: str, number: int) -> None:
    """EAGAIN is what madvise says in place of ENOMEM."""
    typed(report, call, errno.ENOMEM if number == errno.EAGAIN else number)


def unnameable(report: Report, call: str, number: int) -> None:
    """PR_SET_VMA_ANON_NAME: a kernel without it says EINVAL, an older one EBADF."""
    if number in {errno.EINVAL, errno.EBADF}:
        assert type(report.error) is UnsupportedByKernelError
    else:
        typed(report, call, number)


def unsupported_by_kernel(report: Report, call: str, number: int) -> None:
    """A call or an advice that an older kernel does not have."""
    assert type(report.error) is UnsupportedByKernelError


def not_reopened(report: Report, call: str, number: int) -> None:
    """A file that cannot be opened again is unsupported; one that could be, later, is not."""
    if number in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}:
        typed(report, call, number)
    else:
        assert type(report.error) is UnsupportedOperationError


def reopened(report: Report, call: str, number: int) -> None:
    """There is another path by which the file can be opened."""
    if number not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO} or report.error is None:
        succeeded(report, call, number)
    else:
        typed(report, call, number)


def extended(report: Report, call: str, number: int) -> None:
    """A file system that cannot take blocks gets zeros instead."""
    if number == errno.EOPNOTSUPP:
        succeeded(report, call, number)
    else:
        typed(report, call, number)


def unsupported(report: Report, call: str, number: int) -> None:
    """A region whose file cannot be found."""
    assert type(report.error) is UnsupportedOperationError


def unmoved(report: Report, call: str, number: int) -> None:
    """Pages that the kernel does not move."""
    if number in {errno.EFAULT, errno.EINVAL}:
        unsupported(report, call, number)
    else:
        typed(report, call, number)


def no_room(report: Report, call: str, number: int) -> None:
    """EINVAL is what mremap says of a length for which there are no addresses."""
    if number == errno.EFAULT:
        unsupported(report, call, number)
    else:
        typed(report, call, errno.ENOMEM if number == errno.EINVAL else number)


def unsealed(report: Report, call: str, number: int) -> None:
    """What has no seals lacks those that are required."""
    assert type(report.error) is MissingSealsError


def populated(report: Report, call: str, number: int) -> None:
    """A page that cannot be read in is a fault of the mapping."""
    if number == errno.EFAULT:
        faulted(report, call, number)
    else:
        typed(report, call, number)


def faulted(report: Report, call: str, number: int) -> None:
    """The fault of the page itself: for the page of zeros there is another way."""
    assert type(report.error) is MappingFaultError, f"it ended in {report!r}"


def not_read(report: Report, call: str, number: int) -> None:
    error = report.error
    assert type(error) is ReadToMemoryError
    assert error.errno == number


def not_written(report: Report, call: str, number: int) -> None:
    error = report.error
    assert type(error) is WriteFromMemoryError
    assert error.errno == number


def refused(report: Report, call: str, number: int) -> None:
    """The error is that of the call, and not that of the way back."""
    error = report.error
    assert type(error) is AccessDeniedError
    assert (error.errno, error.syscall) == (errno.EACCES, "mprotect")


def not_undone(report: Report, call: str, number: int) -> None:
    """Likewise."""
    typed(report, "madvise", number)


def messages(report: Report, call: str, number: int) -> None:
    """Where the kind of a socket cannot be had, both messages are read, and nothing is lost."""
    assert (report.error, report.value) in {(None, "5"), (None, "11")}


def first_part(report: Report, call: str, number: int) -> None:
    """What was moved before the failure counts."""
    assert (report.error, report.value) == (None, str(SIZE))


@attrs.frozen
class Step:
    """One system call of an operation, which fails."""

    operation: str
    call: str
    arguments: tuple[Argument, ...] = ()
    expected: Expectation = typed
    errnos: str = ""
    """Which errnos; those that are documented where none is named."""
    which: str = ""
    """Which of an operation's system calls of that name."""
    only: range | None = None
    """Which of those that match fail, counted from 0; all where it is not given."""
    but: tuple[Rule, ...] = ()
    """Those that do not fail."""
    also: tuple[Rule, ...] = ()
    """What fails beside it."""
    may_change: bool = False
    """The way back fails too, so what the call had done so far may stay, as long as it is safe."""
    is_kept: bool = False
    """What the call maps besides stays until the region goes."""


@attrs.frozen
class Case:
    """One step, failed with one errno."""

    step: Step
    errno_name: str

    @property
    def errno(self) -> int:
        return number_of(self.errno_name)

    @property
    def name(self) -> str:
        step = self.step
        words = (step.call, self.errno_name, f"in {step.operation}", step.which)
        return " ".join(filter(None, words))


def _mapping_steps() -> Iterator[Step]:
    plain = """
        new, from_fd, new_protection_fixed, from_descriptor_offset_protection_fixed,
        from_file of a path, from_file of a descriptor, anonymous populate,
        anonymous private populate, anonymous name, arena new, shared memory map
    """
    dump = advice(Advice.DONTDUMP)
    for operation in map(str.strip, plain.split(",")):
        yield Step(operation, "mmap", (length(SIZE),))
        yield Step(operation, "madvise", (length(SIZE), dump), typed_out_of_memory)

    yield Step("unsafe.new_protection_fixed", "mmap", (length(SIZE),))

    room = SIZE + ALIGN - PAGE
    for operation in ("new_protection aligned", "from_fd_offset_protection_populate"):
        tail = Argument(0, SIZE, ALIGN - 1)
        # The head may have almost any length; Python never unmaps its own memory in such lengths.
        short = Argument(1, 0, LONG & ~((1 << 22) - 1))
        all_but_head = tuple(Rule("munmap", 0, (one,)) for one in (tail, length(room), short))
        yield Step(operation, "mmap", (length(room),), which="(reservation)")
        yield Step(operation, "munmap", which="(head)", but=all_but_head)
        yield Step(operation, "munmap", (tail,), which="(tail)")
        fixed = flags(MAP_FIXED, MAP_FIXED)
        yield Step(operation, "mmap", (length(SIZE), fixed), which="(over the reservation)")
        yield Step(operation, "madvise", (length(SIZE), dump), typed_out_of_memory)

    for operation, populating, expected in (
        ("from_fd_offset_protection_populate", Advice.POPULATE_READ, populated),
        ("anonymous populate", Advice.POPULATE_WRITE, typed),
        ("anonymous private populate", Advice.POPULATE_READ, typed),
    ):
        arguments = length(SIZE), advice(populating)
        yield Step(operation, "madvise", arguments, expected, which="(populate)")
        unknown = length(0), advice(populating)
        yield Step(operation, "madvise", unknown, succeeded, "EINVAL", "(older kernel)")

    opened = Argument(2, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, INT)
    operation = "from_file of a path"
    yield Step(operation, "openat", (opened,))
    yield Step(operation, "openat", (opened,), succeeded, "EINTR", only=FIRST)
    yield Step(operation, "fstat", (of_fd(NEXT_FD),))
    yield Step(operation, "close", (of_fd(NEXT_FD),), typed_if_any)
    operation = "from_file of a descriptor"
    yield Step(operation, "fcntl", (command(fcntl.F_GETFL),), errnos="EBADF")
    yield Step(operation, "fstat")
    yield Step("anonymous name", "prctl", (Argument(0, PR_SET_VMA, INT),), unnameable)
    yield Step("from_fd", "fstat", (), typed_if_any)
    for operation in ("close", "close of the last view"):
        yield Step(operation, "munmap", (length(SIZE),), succeeded)


def _arena_steps() -> Iterator[Step]:
    segment = length(SEGMENT)
    dump = advice(Advice.DONTDUMP)
    for operation in ("arena add_anon", "arena add_fd"):
        yield Step(operation, "mmap", (segment, allows(RW_BITS)))
        yield Step(operation, "mmap", (segment,), which="(and the way back)")
        out_of_memory = typed_out_of_memory
        yield Step(operation, "madvise", (segment, dump), out_of_memory, only=FIRST)
        which = "(and the way back)"
        yield Step(operation, "madvise", (segment, dump), out_of_memory, which=which)
        # The reservation cannot be put back: the memory stays, and nobody may touch it.
        rest = (Rule("madvise", errno.ENOMEM, (segment, dump)),)
        yield Step(
            operation,
            "mmap",
            (segment, allows(0)),
            not_undone,
            "ENOMEM",
            "(way back)",
            also=rest,
            may_change=True,
        )
    yield Step("arena add_fd", "fstat", (), typed_if_any)
    for operation in ("arena add_anon over", "arena add_fd over"):
        yield Step(operation, "mmap", (segment, allows(0)), which="(room)")
        yield Step(operation, "mmap", (segment, allows(RW_BITS)))
        yield Step(operation, "madvise", (segment, dump), typed_out_of_memory)
        yield Step(operation, "mremap", (segment,))
    yield Step("arena remove", "mmap", (segment,))
    yield Step("arena remove", "madvise", (segment, dump), typed_if_any)
    yield Step("arena protect", "mprotect", (segment, allows(READ_BITS)))
    yield Step("arena protect", "mprotect", (segment,), which="(and the way back)", may_change=True)
    back = length(PAGE), allows(RW_BITS)
    which = "(way back)"
    yield Step("arena protect halfway", "mprotect", back, refused, "", which, may_change=True)


def _advice_steps() -> Iterator[Step]:
    for each in Advice:
        yield Step(f"advise {each.name}", "madvise", (length(SIZE), advice(each)))
    for destructive in DestructiveAdvice:
        operation = f"advise_destructive {destructive.name}"
        yield Step(operation, "madvise", (length(SIZE), advice(destructive)))
    for operation, given in (
        ("use_dontfork", Advice.DONTFORK),
        ("use_hugepages", Advice.HUGEPAGE),
        ("async_prefetch", Advice.WILLNEED),
        ("drop_page_cache", DestructiveAdvice.DONTNEED),
        ("remove_range", DestructiveAdvice.REMOVE),
    ):
        yield Step(operation, "madvise", (length(SIZE), advice(given)))
    writing = advice(Advice.POPULATE_WRITE)
    yield Step("populate write", "madvise", (length(SIZE), writing), populated)
    reading = advice(Advice.POPULATE_READ)
    first, last = "(first window)", "(last window)"
    yield Step("populate", "madvise", (length(WINDOW), reading), populated, which=first)
    yield Step("populate", "madvise", (length(SIZE), reading), populated, which=last)
    unknown = length(0), reading
    older = "(older kernel)"
    yield Step("populate", "madvise", unknown, unsupported_by_kernel, "EINVAL", older)


def _page_steps() -> Iterator[Step]:
    for operation in ("msync", "msync ASYNC", "msync invalidate"):
        yield Step(operation, "msync", (length(SIZE),))
    yield Step("protect", "mprotect", (length(SIZE), allows(READ_BITS)))
    yield Step("protect", "mprotect", (length(SIZE),), which="(and the way back)", may_change=True)
    yield Step("protect of a part", "mprotect", (length(4 * PAGE), allows(0)))
    # The way back is made of the three ranges that the part was made of.
    yield Step("protect of a part", "mprotect", which="(and the way back)", may_change=True)
    for operation, call in (
        ("lock", "mlock"),
        ("lock_all", "mlock"),
        ("lock_on_fault", "mlock2"),
        ("unlock", "munlock"),
        ("unlock_all", "munlock"),
        ("residency", "mincore"),
    ):
        yield Step(operation, call, (length(SIZE),))
    # Whether the kernel tells the truth is found out in another way as well.
    otherwise = "EAGAIN EINVAL ENOMEM"
    for call, arguments, errnos in (
        ("mremap", (), "EFAULT"),
        ("munlock", (length(PAGE),), "EPERM"),
        ("mincore", (length(PAGE),), "EFAULT"),
    ):
        yield Step("residency", call, arguments, succeeded, otherwise, "(the truth)")
        yield Step("residency", call, arguments, errnos=errnos, which="(the truth)")
    # The duplicate of one page, and its growth.
    yield Step("residency", "mremap", (length(PAGE),), succeeded, otherwise, "(the growth)")
    yield Step("recover", "mremap", (length(PAGE),))

    for operation, size in (("evict", SIZE), ("arena evict", SEGMENT)):
        yield Step(operation, "openat", which="(/proc/self/maps)")
        yield Step(operation, "read", (of_fd(NEXT_FD),), errnos="EIO", which="(/proc/self/maps)")
        later, second = range(1, 100), range(1, 2)
        yield Step(operation, "openat", (), not_reopened, which="(the file)", only=later)
        yield Step(operation, "openat", (), reopened, which="(map_files)", only=second)
        yield Step(operation, "fdatasync")
        yield Step(operation, "fdatasync", (), succeeded, "EINTR", only=FIRST)
        yield Step(operation, "madvise", (length(size), advice(DestructiveAdvice.DONTNEED)))
        yield Step(operation, "fadvise64", (Argument(2, size),))


def _access_steps() -> Iterator[Step]:
    for operation in sorted(DISPLACED):
        for number in (signal.SIGBUS, signal.SIGSEGV):
            of_signal = Argument(0, number, INT)
            asked = of_signal, Argument(1, 0)
            which = f"({number.name}, asked)"
            yield Step(operation, "sigaction", asked, which=which)
            but = (Rule("sigaction", 0, asked),)
            yield Step(operation, "sigaction", (of_signal,), which=f"({number.name})", but=but)
    zeros = flags(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED)
    notes = flags(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    spare = flags(mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    page = length(PAGE)
    errnos = "EAGAIN ENOMEM"
    for operation in ("fault_guard of a cut file", "fault_guard of a cut private mapping"):
        for call, arguments, which in (
            ("mmap", (zeros, page), "(the page of zeros)"),
            ("mmap", (notes,), "(the notes, the room aside)"),
            ("mmap", (spare,), "(the spare)"),
            ("mremap", (page,), "(setting aside)"),
        ):
            yield Step(operation, call, arguments, faulted, errnos, which, is_kept=True)
        yield Step(
            operation,
            "mmap",
            (zeros, page),
            faulted,
            errnos,
            "(and its duplicate)",
            also=(Rule("mremap", errno.ENOMEM),),
            is_kept=True,
        )

    for operation, call, failed in (
        ("read_from_fd", "read", not_read),
        ("read_from_fd at an offset", "pread64", not_read),
        ("write_to_fd", "write", not_written),
        ("write_to_fd at an offset", "pwrite64", not_written),
    ):
        whole = (Argument(2, SIZE),)
        yield Step(operation, call, whole, failed)
        yield Step(operation, call, whole, succeeded, "EINTR", only=FIRST)
    rest = (Argument(3, SIZE),)
    yield Step("read_from_fd in parts", "pread64", rest, first_part)
    yield Step("read_from_fd in parts", "pread64", rest, first_part, "EINTR", only=FIRST)
    yield Step("read_from_fd of messages", "getsockopt", (), messages)


def _shared_memory_steps() -> Iterator[Step]:
    for operation in ("shared memory new", "shared memory new allocate"):
        yield Step(operation, "memfd_create")
        not_executable = Argument(1, MFD_NOEXEC_SEAL, MFD_NOEXEC_SEAL)
        older = "(older kernel)"
        yield Step(operation, "memfd_create", (not_executable,), succeeded, "EINVAL", older)
        yield Step(operation, "ftruncate")
        yield Step(operation, "ftruncate", (), succeeded, "EINTR", only=FIRST)
    operation = "shared memory new allocate"
    yield Step(operation, "openat", (), typed_if_any, which="(/proc/meminfo)")
    yield Step(operation, "read", (of_fd(NEXT_FD),), typed_if_any, "EIO", "(/proc/meminfo)")
    yield Step("shared memory new allocate", "fallocate")
    yield Step("shared memory new allocate", "fallocate", (), succeeded, "EINTR", only=FIRST)

    another = (command(fcntl.F_DUPFD_CLOEXEC),)
    errnos = "EBADF EINVAL EMFILE"
    yield Step("shared memory from_fd", "fstat")
    yield Step("shared memory from_fd", "fcntl", another, errnos=errnos)
    yield Step("shared memory from_fd", "readlink", (), typed_if_any)
    yield Step("shared memory try_clone", "fcntl", another, errnos=errnos)
    asked = (command(fcntl.F_GET_SEALS),)
    yield Step("shared memory from_fd with seals", "fcntl", asked, unsealed, "EINVAL")
    yield Step("shared memory get_seals", "fcntl", asked, errnos="EBADF EINVAL")
    added = (command(fcntl.F_ADD_SEALS),)
    yield Step("shared memory add_seals", "fcntl", added, errnos="EBADF EBUSY EINVAL EPERM")
    yield Step("shared memory map", "fstat")


def _growth_steps() -> Iterator[Step]:
    no_space = (Rule("fallocate", errno.ENOSPC),)
    for operation in (
        "create",
        "create with a capacity",
        "create over",
        "shared memory create_named",
    ):
        yield Step(operation, "openat")
        # What cannot be removed stays.
        back = "(way back)"
        yield Step(operation, "unlink", (), not_created, "", back, also=no_space, may_change=True)
    yield Step("create over", "rename")
    for operation in ("create", "create over"):
        yield Step(operation, "mmap", (length(SIZE),))
        dump = advice(Advice.DONTDUMP)
        yield Step(operation, "madvise", (length(SIZE), dump), typed_out_of_memory)
        yield Step(operation, "close", (of_fd(NEXT_FD),), typed_if_any, may_change=True)
    for operation in (
        "create with a capacity",
        "from_file of a path with a capacity",
        "from_file of a descriptor with a capacity",
        "anonymous with a capacity",
        "shared memory map with a capacity",
    ):
        room = length(4 * SIZE)
        yield Step(operation, "mmap", (room,))
        yield Step(operation, "madvise", (room, advice(Advice.DONTDUMP)), typed_out_of_memory)
    yield Step("from_file of a path with a capacity", "openat")
    another = (command(fcntl.F_DUPFD_CLOEXEC),)
    for operation in (
        "from_file of a descriptor with a capacity",
        "shared memory map with a capacity",
    ):
        yield Step(operation, "fcntl", another, errnos="EBADF EINVAL EMFILE")
        yield Step(operation, "fstat")
    yield Step("shared memory open_named", "openat")
    yield Step("shared memory open_named", "openat", (), succeeded, "EINTR", only=FIRST)
    yield Step("shared memory open_named", "fstat")
    yield Step("shared memory open_named", "readlink", (), typed_if_any)
    yield Step("shared memory unlink_named", "unlink")
    growing = (
        "create",
        "create with a capacity",
        "create over",
        "shared memory create_named",
        "shared memory resize",
        "resize larger",
        "resize that moves a file",
    )
    for operation in growing:
        # Where the pages have moved, they have room to grow at the next call.
        has_moved = operation == "resize that moves a file"
        yield Step(operation, "fstat", is_kept=has_moved)
        yield Step(operation, "fallocate", (), extended, is_kept=has_moved)
        yield Step(operation, "fallocate", (), succeeded, "EINTR", only=FIRST)
    yield Step("resize smaller", "fstat")
    yield Step("resize smaller", "ftruncate")
    yield Step("resize smaller", "ftruncate", (), succeeded, "EINTR", only=FIRST)
    yield Step("resize smaller of memory", "madvise", (length(SEGMENT),))
    yield Step("resize with a lock", "mlock2", (length(SEGMENT),))
    yield Step("resize with a lock", "munlock", (length(SEGMENT),), succeeded)
    yield Step("resize with two protections", "mprotect")
    for operation in ("resize that moves memory", "resize that moves a file"):
        yield Step(operation, "mremap", (length(SIZE),), unmoved, which="(the move)")
        # They have moved all the same, and have room enough when the call is made again.
        growth = (Argument(2, 2 * SIZE),)
        yield Step(operation, "mremap", growth, no_room, which="(the growth)", is_kept=True)
    for operation in ("resize that moves a file", "refresh without a capacity"):
        yield Step(operation, "openat", (), which="(/proc/self/maps)", only=FIRST)
        later, second = range(1, 100), range(1, 2)
        yield Step(operation, "openat", (), not_reopened, which="(the file)", only=later)
        yield Step(operation, "openat", (), reopened, which="(map_files)", only=second)
    for operation in ("refresh", "refresh larger", "refresh without a capacity"):
        yield Step(operation, "fstat")
    yield Step("refresh larger", "mprotect")
    yield Step("shared memory refresh", "fstat")


def _drop_in_steps() -> Iterator[Step]:
    dump = advice(Advice.DONTDUMP)
    operation = "drop-in of a file"
    yield Step(operation, "fstat", (), plain)
    yield Step(operation, "fstat", which="(of the mapping)", only=range(1, 2))
    another = (command(fcntl.F_DUPFD_CLOEXEC),)
    yield Step(operation, "fcntl", another, errnos="EBADF EINVAL EMFILE")
    yield Step(operation, "close", (of_fd(NEXT_FD),), typed_if_any)
    for operation in ("drop-in of a file", "drop-in of memory"):
        yield Step(operation, "mmap", (length(SIZE),))
        yield Step(operation, "madvise", (length(SIZE), dump), typed_out_of_memory)
        yield Step(operation, "munmap", (length(SIZE),), succeeded)
    yield Step("drop-in size", "fstat")
    yield Step("drop-in flush", "msync", (length(SIZE),))
    yield Step("drop-in madvise", "madvise", (length(SIZE), advice(Advice.WILLNEED)))
    yield Step("drop-in set_name", "prctl", (Argument(0, PR_SET_VMA, INT),))
    larger = length(SIZE + SEGMENT)
    yield Step("drop-in resize of memory", "mremap", (length(SIZE),), unmoved, which="(the move)")
    yield Step("drop-in resize of a file", "mmap", (larger,))
    yield Step("drop-in resize of a file", "madvise", (larger, dump), typed_out_of_memory)
    yield Step("drop-in resize of a file", "ftruncate", (), plain)
    yield Step("drop-in resize of a file", "fstat")


def _cases() -> Iterator[Case]:
    steps = (
        _mapping_steps,
        _arena_steps,
        _advice_steps,
        _page_steps,
        _access_steps,
        _shared_memory_steps,
        _growth_steps,
        _drop_in_steps,
    )
    for step in chain.from_iterable(make() for make in steps):
        for name in step.errnos.split() or DOCUMENTED[step.call]:
            yield Case(step, name)


CASES: Final = {case.name: case for case in _cases()}


# In the child ---------------------------------------------------------------------------------


def _difference(one: object, other: object) -> str:
    return "" if one == other else f"{other} in place of {one}"


def _rule(step: Step, number: int, next_fd: int) -> Rule:
    arguments = [
        Argument(each.index, next_fd, INT) if each.value == NEXT_FD else each
        for each in step.arguments
    ]
    return Rule(step.call, number, tuple(arguments))


def _matched(step: Step, room: Room) -> int:
    """How many system calls a step means, which are made and do not fail."""
    with OPERATIONS[step.operation](room) as stage:
        rules = [*step.but, _rule(step, errno.EPERM, next_descriptor())]
        outcome = attempt(stage.act, rules, only=range(0))
        result_of(outcome)
        return outcome.matched


def _report(case: Case, room: Room, usual: tuple[str, object], matched: int) -> Report:
    step = case.step
    before = Traces()
    with OPERATIONS[step.operation](room) as stage:
        state, next_fd = stage.state(), next_descriptor()
        rules = [*step.but, *step.also, _rule(step, case.errno, next_fd)]
        ready = Traces()
        outcome = attempt(stage.act, rules, only=step.only)
        value = result_of(outcome)
        if step.call == "close":
            # The kernel closes a descriptor also where it reports an error; the filter does not.
            with suppress(OSError):
                os.close(next_fd)
        left = changed = again = ""
        if outcome.error is None:
            changed = _difference(usual[1], stage.state())
        else:
            left = "" if step.is_kept else ready.difference()
            now = stage.state()  # also where it may differ: it touches all there is
            changed = "" if step.may_change else _difference(state, now)
        if not step.may_change:
            result = result_of(outcome_of(stage.act))
            again = _difference(usual, (result, stage.state()))
    MemoryMapping.new(PAGE).close()  # what could not be unmapped before is unmapped now
    return Report(matched, outcome.error, value, left, changed, again, before.difference())


def report_cases(folder: str, is_unprivileged: str) -> None:
    """Make a report of each case that is asked for and has none yet, into a file of the folder."""
    room = Room(Path(folder))
    names: list[str] = pickle.loads((room.folder / "cases").read_bytes())
    for operation in OPERATIONS.keys() - DISPLACED:
        as_usual(OPERATIONS[operation], room)  # what is imported or mapped for good, is now
    if is_unprivileged == "True":
        become_unprivileged()
    with suppress(AttributeError):  # only glibc reserves addresses for the allocations of threads
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    reason = why_unavailable()
    usual: dict[str, tuple[str, object]] = {}
    matched: dict[Step, int] = {}
    with (room.folder / "reports").open("ab", buffering=0) as reports:
        for name in names:
            case = CASES[name]
            operation = case.step.operation
            if operation not in usual:
                usual[operation] = as_usual(OPERATIONS[operation], room)
            if reason is None and case.step not in matched:
                matched[case.step] = _matched(case.step, room)
            report = reason or _report(case, room, usual[operation], matched[case.step])
            reports.write(pickle.dumps((name, report)))


# In the tests ---------------------------------------------------------------------------------


def _run_all(folder: Path, *, is_unprivileged: bool) -> dict[str, Report | str]:
    """The report of each case; a text where there is none: why not."""
    (folder / "reports").touch()
    for path in (folder, folder / "reports"):
        path.chmod(0o777)
    program = """
        import sys
        from test_injected_failures import report_cases
        report_cases(*sys.argv[1:])
    """
    found: dict[str, Report | str] = {}
    for _ in range(40):
        rest = [name for name in CASES if name not in found]
        if not rest:
            break
        (folder / "cases").write_bytes(pickle.dumps(rest))
        (folder / "reports").write_bytes(b"")
        ended = child(program, folder, is_unprivileged)
        with (folder / "reports").open("rb") as reports:
            while True:
                try:
                    name, report = pickle.load(reports)
                except EOFError:
                    break
                found[name] = report
        culprit = next((name for name in rest if name not in found), None)
        if culprit is None:
            ended.succeeded()
        else:
            found[culprit] = f"ended: {ended.killed_by or ended.status} {ended.errors}"
    return dict.fromkeys(CASES, "ended: too many cases before this one did") | found


@pytest.fixture(scope="module", params=["as it is", "unprivileged"])
def reports(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str
) -> dict[str, Report | str]:
    """The reports of all cases, of this user and of one without privileges.

    The first worker process that needs them runs the cases, the others read its reports.
    """
    is_unprivileged = request.param == "unprivileged"
    if is_unprivileged and os.geteuid() != 0:
        pytest.skip("the user has no privileges to give up: the other run was unprivileged")
    name = f"{testrun_uid}-{request.param}"
    with (tmp_path_factory.getbasetemp().parent / name).open("a+b") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        shared.seek(0)
        if written := shared.read():
            known: dict[str, Report | str] = pickle.loads(written)
            return known
        with tempfile.TemporaryDirectory() as folder:
            found = _run_all(Path(folder), is_unprivileged=is_unprivileged)
        shared.write(pickle.dumps(found))
        return found


@pytest.mark.parametrize("name", CASES)
def test_failed_system_call_is_typed_and_changes_nothing(
    name: str, reports: dict[str, Report | str]
) -> None:
    report, case = reports[name], CASES[name]
    if isinstance(report, str):
        assert not report.startswith("ended"), report
        pytest.skip(report)
    # What is made only where another call fails cannot be met where none does.
    assert report.matched > 0 or case.step.also, "the call under test makes no such system call"
    case.step.expected(report, case.step.call, case.errno)
    assert (report.left, report.changed, report.again, report.lost) == ("", "", "", "")


def report_without_system_calls(folder: str) -> None:
    """Show which operations end otherwise where all but Python's own system calls fail."""
    own = {"madvise", "mmap", "mprotect", "mremap", "munmap", "sigaction"}
    rules = [Rule(call, errno.EIO) for call in DOCUMENTED.keys() - own]
    if reason := why_unavailable():
        sys.stdout.write(json.dumps(reason))
        return
    room, differences = Room(Path(folder)), dict[str, str]()
    for name, prepare in WITHOUT_SYSTEM_CALLS.items():
        usual, _ = as_usual(prepare, room)  # what is imported, is now
        with prepare(room) as stage:
            result = result_of(attempt(stage.act, rules))
        differences[name] = _difference(usual, result)
    sys.stdout.write(json.dumps(differences))


def test_call_in_memory_alone_makes_no_system_call(tmp_path: Path) -> None:
    program = """
        import sys
        from test_injected_failures import report_without_system_calls
        report_without_system_calls(sys.argv[1])
    """
    reported: dict[str, str] | str = json.loads(child(program, tmp_path).succeeded())
    if isinstance(reported, str):
        pytest.skip(reported)
    assert reported == dict.fromkeys(WITHOUT_SYSTEM_CALLS, "")


def report_usual(folder: str) -> None:
    """Show how the operations end where nothing is made to fail."""
    room = Room(Path(folder))
    usual = {name: as_usual(prepare, room)[0] for name, prepare in OPERATIONS.items()}
    sys.stdout.write(json.dumps(usual))


def test_operation_works_where_nothing_is_made_to_fail(tmp_path: Path) -> None:
    program = """
        import sys
        from test_injected_failures import report_usual
        report_usual(sys.argv[1])
    """
    usual: dict[str, str] = json.loads(child(program, tmp_path).succeeded())
    failed = {name: result for name, result in usual.items() if "Error" in result}
    # What a kernel or a file system may not have. The others meet a file that was cut short.
    optional = {name for name in OPERATIONS if name.startswith("advise")}
    optional |= {"anonymous name", "drop-in set_name"}
    cut = DISPLACED | {name for name in OPERATIONS if name.startswith("fault_guard of")}
    expected = dict.fromkeys(cut, f"MappingFaultError {errno.EIO}")
    expected["arena protect halfway"] = f"AccessDeniedError {errno.EACCES}"
    assert {name: failed[name] for name in failed.keys() - optional} == expected


def test_every_documented_failure_is_tried() -> None:
    tried = {(case.step.call, case.errno) for case in CASES.values()}
    documented = {(call, number_of(name)) for call, names in DOCUMENTED.items() for name in names}
    assert documented <= tried


def test_every_system_call_of_the_library_is_tried() -> None:
    prefix = "MMW_CALL_"
    named = {name.removeprefix(prefix).lower() for name in dir(lib) if name.startswith(prefix)}
    no_system_calls = {"malloc", "memcpy"}
    tried = {NAME_OF.get(case.step.call, case.step.call) for case in CASES.values()}
    missing = named - no_system_calls - tried
    assert not missing, f"no Step fails {missing}: see 'A new system call' in CONTRIBUTING.md"
