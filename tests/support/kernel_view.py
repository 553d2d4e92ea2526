"""What the kernel itself says about a process, and a child process that a test may crash."""

import ctypes
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import attrs

PAGE = resource.getpagesize()
MIB = 1 << 20

# What a child process finds: this directory, and each that holds test modules.
_SUPPORT = Path(__file__).parent
_ROOMS = sorted({str(module.parent) for module in _SUPPORT.parent.glob("*/test_*.py")})

# Start, end, letters, offset, inode, path.
_MAPS_LINE = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ (\d+) *(.*)$", re.MULTILINE
)
# An entry of smaps: such a line, then lines that begin with a capital letter.
_SMAPS_ENTRY = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*\n(?:[A-Z].*\n)+", re.MULTILINE)
_AMOUNT_LINE = re.compile(r"(?P<field>\w+): +(?P<kib>\d+) kB")


@attrs.frozen
class Vma:
    """One line of ``/proc/self/maps``."""

    start: int
    end: int
    perms: str
    offset: int
    inode: int
    path: str

    @property
    def is_plain_heap(self) -> bool:
        """Whether it may be the interpreter's own heap or stack, which grow at any time."""
        return self.perms == "rw-p" and self.path in {"", "[heap]", "[stack]"}


@attrs.frozen
class Usage:
    """One entry of ``/proc/self/smaps``: the mapping, its amounts in bytes, its VmFlags."""

    vma: Vma
    amounts: dict[str, int]
    flags: frozenset[str]


def _parsed(maps: str) -> list[Vma]:
    return [
        Vma(int(start, 16), int(end, 16), perms, int(offset, 16), int(inode), path)
        for start, end, perms, offset, inode, path in _MAPS_LINE.findall(maps)
    ]


def vmas() -> list[Vma]:
    """Every mapping of this process, in order of address."""
    maps = Path("/proc/self/maps").read_text()
    found = _parsed(maps)
    assert len(found) == maps.count("\n"), "/proc/self/maps has a line that these tests cannot read"
    return found


def vmas_in(address: int, count: int) -> list[Vma]:
    """The mappings that overlap a range of addresses."""
    return [vma for vma in vmas() if vma.start < address + count and address < vma.end]


def is_mapped(address: int, count: int = 1) -> bool:
    """Whether anything is mapped in a range of addresses."""
    return bool(vmas_in(address, count))


def perms(address: int, count: int) -> list[str]:
    """The ``rwxp`` letters of each page of a range, one string a page; ``''`` for a hole."""
    overlapping = vmas_in(address, count)
    return [
        next((vma.perms for vma in overlapping if vma.start <= page < vma.end), "")
        for page in range(address - address % PAGE, address + count, PAGE)
    ]


def usages(address: int, count: int) -> list[Usage]:
    """The entries of ``/proc/self/smaps`` that overlap a range of addresses."""
    smaps = Path("/proc/self/smaps").read_text()
    return [
        _usage(entry[0])
        for entry in _SMAPS_ENTRY.finditer(smaps)
        if int(entry[1], 16) < address + count and address < int(entry[2], 16)
    ]


def _usage(entry: str) -> Usage:
    first, *lines = entry.splitlines()
    (vma,) = _parsed(first)
    amounts = [amount for line in lines if (amount := _AMOUNT_LINE.fullmatch(line)) is not None]
    (flags,) = [line.split()[1:] for line in lines if line.startswith("VmFlags:")]
    return Usage(
        vma=vma,
        amounts={amount["field"]: int(amount["kib"]) * 1024 for amount in amounts},
        flags=frozenset(flags),
    )


def vm_flags(address: int, count: int) -> frozenset[str]:
    """The VmFlags that every mapping of a range has."""
    entries = usages(address, count)
    assert entries, f"nothing is mapped at {address:#x}"
    return entries[0].flags.intersection(*(entry.flags for entry in entries))


def any_vm_flags(address: int, count: int) -> frozenset[str]:
    """The VmFlags that at least one mapping of a range has."""
    entries = usages(address, count)
    assert entries, f"nothing is mapped at {address:#x}"
    return frozenset[str]().union(*(entry.flags for entry in entries))


def amount(field: str, address: int, count: int) -> int:
    """The sum, in bytes, of a field of smaps (``Rss``, ``Locked`` ...) over a range's mappings."""
    return sum(entry.amounts[field] for entry in usages(address, count))


def dirty(address: int, count: int) -> int:
    """How many bytes of a range's mappings are changed and not yet written out."""
    return amount("Shared_Dirty", address, count) + amount("Private_Dirty", address, count)


def own_status(field: str) -> int:
    """An amount of ``/proc/self/status`` (``VmData``, ``VmLck`` ...), in bytes."""
    return _amount_of(Path("/proc/self/status"), field)


def shared_memory_in_use() -> int:
    """The bytes of all shared memory of the machine."""
    return _amount_of(Path("/proc/meminfo"), "Shmem")


def _amount_of(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        found = _AMOUNT_LINE.match(" ".join(line.split()))
        if found is not None and found["field"] == field:
            return int(found["kib"]) * 1024
    raise AssertionError(f"{path} says nothing of {field}")


def mapped_ranges() -> list[tuple[int, int]]:
    """The address ranges in use, but not the interpreter's heap and stack; neighbours joined."""
    return _joined((vma.start, vma.end) for vma in vmas() if not vma.is_plain_heap)


def newly_mapped(before: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The address ranges that are in use now and were not in an earlier `mapped_ranges`."""
    added: list[tuple[int, int]] = []
    known = set(before)
    for start, end in mapped_ranges():
        if (start, end) in known:
            continue
        rest = start
        for old_start, old_end in before:
            if old_start < end and rest < old_end:
                if rest < old_start:
                    added.append((rest, old_start))
                rest = max(rest, old_end)
        if rest < end:
            added.append((rest, end))
    return _joined(added)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def free_address(count: int) -> int:
    """An address on a page with `count` unmapped bytes at it and a wide gap on both sides."""
    used = [vma for vma in vmas() if vma.path != "[vsyscall]"]  # beyond what can be mapped
    gaps = [(left.end, right.start) for left, right in pairwise(used)]
    # The middle of the widest gap: the kernel hands out addresses of its own choice from its top.
    start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    assert end - start > 4 * count
    middle = (start + end) // 2
    return middle - middle % (1 << 30)


def open_descriptors() -> dict[int, str]:
    """Each open descriptor of this process and what it refers to."""
    found: dict[int, str] = {}
    for link in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the descriptor that listed the directory
            found[int(link.name)] = str(link.readlink())
    return found


@contextmanager
def process_unchanged() -> Generator[None]:
    """Fail when the block leaves a descriptor open, or memory mapped, that was not before it."""
    gc.collect()  # an earlier test's garbage may hold some
    descriptors = open_descriptors()
    ranges = mapped_ranges()
    yield
    assert open_descriptors() == descriptors
    assert [leak for leak in newly_mapped(ranges) if not _is_reserve_of_malloc(leak)] == []


def _is_reserve_of_malloc(found: tuple[int, int]) -> bool:
    """Whether a range is what glibc reserves for a thread's heap, when that thread first asks.

    The test runner's own threads may do so at any time. What the library reserves is left out of
    core dumps.
    """
    start, end = found
    return all(
        entry.vma.perms == "---p" and not entry.vma.path and "dd" not in entry.flags
        for entry in usages(start, end - start)
    )


_libc = ctypes.CDLL(None, use_errno=True)


def resident_pages(address: int, count: int) -> bytes:
    """What mincore says of each page of a range: one byte a page, 1 where it is in memory."""
    start = address - address % PAGE
    pages = (ctypes.c_ubyte * -((start - address - count) // PAGE))()
    if _libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(address + count - start), pages) != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    return bytes(page & 1 for page in pages)


def kernel_knows_advice(advice: int) -> bool:
    """Whether madvise accepts an advice for an empty range, asked without the library."""
    result: int = _libc.madvise(None, ctypes.c_size_t(0), ctypes.c_int(advice))
    return result == 0


def kernel_names_memory(address: int, count: int) -> bool:
    """Whether prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME) works on this memory."""
    pr_set_vma, pr_set_vma_anon_name = 0x53564D41, ctypes.c_ulong(0)
    where = (ctypes.c_ulong(address), ctypes.c_ulong(count))
    result: int = _libc.prctl(pr_set_vma, pr_set_vma_anon_name, *where, b"probe")
    return result == 0


def become_unprivileged() -> None:
    """Give up root for good, for a child in which limits and file modes have to count."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


def spare_memory() -> list[bytes]:
    """Make the interpreter hold free memory of all sizes, as long as what is returned is kept.

    Where the kernel gives no more, Python has a MemoryError at any place, and what measures
    coverage crashes.
    """
    made = [bytes(size) for size in (*range(16, 513, 16), 4096, 1 << 16) for _ in range(100)]
    return made[::2]  # what lies between is free, and too small to be given back


@attrs.frozen
class Child:
    """How a child process ended: an exit status or the name of the signal that killed it."""

    status: int | None
    killed_by: str | None
    output: str
    errors: str

    def succeeded(self) -> str:
        """Its output; fails the test, with all that is known, where it did not exit with 0."""
        assert self.status == 0, (
            f"the child ended with status {self.status}, signal {self.killed_by}\n"
            f"{self.output}\n{self.errors}"
        )
        return self.output

    def succeeded_silently(self) -> None:
        """Fails the test where it did not exit with 0, or has written anything."""
        assert (self.succeeded(), self.errors) == ("", "")


def child(program: str, *arguments: object, timeout: float = 120, measured: bool = True) -> Child:
    """Run the text of a Python program in a process of its own.

    The program finds the modules of tests/support and all test modules; the working directory is
    not on its path. Its arguments are passed as strings. Where coverage would be in the way, it is
    not measured.
    """
    environment = dict(os.environ)
    if not measured:
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    path = os.pathsep.join(filter(None, [str(_SUPPORT), *_ROOMS, os.getenv("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**environment, "PYTHONPATH": path},
    )
    killed = ended.returncode < 0
    return Child(
        status=None if killed else ended.returncode,
        killed_by=signal.Signals(-ended.returncode).name if killed else None,
        output=ended.stdout,
        errors=ended.stderr,
    )


def in_process(
    function: Callable[..., None],
    *arguments: object,
    timeout: float = 100,
    measured: bool = True,
    watched: bool = True,
) -> Child:
    """Run a function of a test module in a process of its own; its arguments are strings there.

    A watched process that hangs says where, shortly before its time is up. A thread watches it:
    where that is in the way of the test, the process is just ended.
    """
    watch = f"faulthandler.dump_traceback_later({timeout - 5}, exit=True)" if watched else ""
    program = f"""
        import faulthandler, sys
        {watch}
        from {function.__module__} import {function.__name__}
        {function.__name__}(*sys.argv[1:])
        faulthandler.cancel_dump_traceback_later()
    """
    return child(program, *arguments, timeout=timeout, measured=measured)


def say(*words: object) -> None:
    """Print at once, past every buffer: the process may not live to flush one."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def known_bytes(count: int) -> bytes:
    """Bytes that are never zero and differ from page to page."""
    cycle = bytes(range(1, 252))  # 251 is prime: no page size is a multiple of it
    return (cycle * (count // len(cycle) + 1))[:count]


@attrs.frozen
class KnownFile:
    """A file and the bytes that were written to it."""

    path: Path
    content: bytes


class Index:
    """An integer only by ``__index__``."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value
