"""Limits that bite: what the library does where the process may have no more of something.

The calls of the injected failures are made again where nothing is left of a resource. Each works
all the same, or ends in the error of that limit and changes nothing. The limits are set in child
processes: they would bite the tests too.
"""

import ctypes
import errno
import functools
import mmap
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import numpy as np
import pytest
from files import memory_file, mounted_tmpfs
from injection import Outcome
from kernel_view import (
    PAGE,
    amount,
    any_vm_flags,
    become_unprivileged,
    child,
    in_process,
    is_mapped,
    known_bytes,
    own_status,
    process_unchanged,
    resident_pages,
    say,
    spare_memory,
)
from libc import MAP_FAILED, libc
from limits import MAX_MAP_COUNT, Filler, needs_few_mappings
from lost_pages import KEPT, SIZE, fault_of
from marks import LOCKS_DO_NOTHING, MEMORY_IS_PAST_THE_LIMIT, PYTHON_HAS_NO_MEMORY
from operations import (
    OPERATIONS,
    Prepare,
    Room,
    Stage,
    Traces,
    as_usual,
    of_cut_file,
    of_file,
    on,
    outcome_of,
    result_of,
    touch_in_guard,
)
from protections import READ, RW

from mmapwrap import (
    AccessDeniedError,
    Advice,
    DestructiveAdvice,
    InvalidSystemCallError,
    LockLimitError,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    OperationNotPermittedError,
    OutOfMemoryError,
    Protection,
    ReadToMemoryError,
    SharedMemory,
    Sharing,
    SystemCallError,
    TooManyFilesError,
    UnsupportedOperationError,
    WriteFromMemoryError,
    attempt,
    u8,
    u32,
)
from mmapwrap._core import mapped_files

Limited: TypeAlias = Callable[[], AbstractContextManager[None]]

# The call that touches a raw view: without a page of zeros only a signal could end it.
IN_GUARD: Final = "fault_guard"


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A directory for everybody, also for who gave up root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


# All calls under a limit ----------------------------------------------------------------------


def _problems(stage: Stage, state: object, outcome: Outcome, usual: tuple[str, object]) -> str:
    """What is wrong with how a call ended under a limit that is lifted now, if anything is."""
    error, result = outcome.error, result_of(outcome)
    if result == usual[0]:
        return ""
    if not isinstance(error, MmapError):
        return f"{result} is no error of the library"
    if stage.state() != state:
        return f"{result} changed {state} into {stage.state()}"
    again = result_of(outcome_of(stage.act)), stage.state()
    return "" if again == usual else f"after {result} it gives {again} in place of {usual}"


def refused_under(limited: Limited, names: set[str], folder: Path) -> dict[str, Outcome]:
    """Make calls under a limit; returns those that it refused, and fails where one is wrong."""
    room = Room(folder)
    refused: dict[str, Outcome] = {}
    wrong: dict[str, str] = {}
    for name in sorted(names):
        say(name)  # the last one is what a signal ended
        as_usual(OPERATIONS[name], room)  # the first time takes memory for good
        usual = as_usual(OPERATIONS[name], room)
        before = Traces()
        with OPERATIONS[name](room) as stage:
            state = stage.state()
            with limited():
                outcome = outcome_of(stage.act)
            wrong[name] = _problems(stage, state, outcome, usual)
            if result_of(outcome) != usual[0]:
                refused[name] = outcome
        wrong[name] += before.difference()
    wrong = {name: problem for name, problem in wrong.items() if problem}
    assert not wrong, "\n".join(f"{name}: {problem}" for name, problem in wrong.items())
    return refused


@contextmanager
def lowered(limit: int, to: int) -> Generator[None]:
    soft, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (to, hard))
    try:
        yield
    finally:
        resource.setrlimit(limit, (soft, hard))


def without_descriptors() -> AbstractContextManager[None]:
    free = os.open("/", os.O_RDONLY)
    os.close(free)
    return lowered(resource.RLIMIT_NOFILE, free)


def without_addresses() -> AbstractContextManager[None]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    return lowered(resource.RLIMIT_AS, used)


def identify_files_without_addresses(folder: str) -> None:
    with Room(Path(folder)).file() as fd:
        identity = mapped_files.identity_of(fd)
        assert identity is not None
        with without_addresses(), pytest.raises(OutOfMemoryError):
            mapped_files.identity_of(fd)
    with open("/dev/null", "rb", buffering=0) as unmappable:
        assert mapped_files.identity_of(unmappable.fileno()) is None


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_file_that_cannot_be_mapped_to_be_compared_is_no_other_file(shared_folder: Path) -> None:
    in_process(identify_files_without_addresses, shared_folder, watched=False).succeeded()


# RLIMIT_NOFILE


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_refusal_without_a_descriptor_left_does_not_blame_the_lock() -> None:
    # Which memory it is stands in /proc/self/maps, which cannot be opened then.
    with MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE) as m:
        m.lock()
        with pytest.raises(InvalidSystemCallError, match="unlock it first"):
            m.advise_destructive(DestructiveAdvice.FREE)
        with lowered(resource.RLIMIT_NOFILE, 3), pytest.raises(InvalidSystemCallError) as caught:
            m.advise_destructive(DestructiveAdvice.FREE)
        assert "lock" not in str(caught.value)


NEED_A_DESCRIPTOR: Final = {
    "arena add_fd",
    "arena add_fd over",
    "from_file of a path",
    "create",
    "create over",
    "create with a capacity",
    "from_file of a descriptor with a capacity",
    "from_file of a path with a capacity",
    "refresh without a capacity",
    "shared memory map with a capacity",
    "shared memory open_named",
    "evict",
    "arena evict",
    "resize that moves a file",
    "shared memory create_named",
    "shared memory new",
    "shared memory new allocate",
    "shared memory from_fd",
    "shared memory from_fd with seals",
    "shared memory try_clone",
}


def exhaust_descriptors(folder: str) -> None:
    names = set(OPERATIONS) - {"read_from_fd of messages"}  # which opens sockets first
    refused = refused_under(without_descriptors, names, Path(folder))
    assert set(refused) == NEED_A_DESCRIPTOR
    for name, outcome in refused.items():
        error = outcome.error
        assert isinstance(error, TooManyFilesError), name
        assert error.errno == errno.EMFILE


def test_call_without_descriptors_left_works_or_is_too_many_files(shared_folder: Path) -> None:
    in_process(exhaust_descriptors, shared_folder, watched=False).succeeded()


def test_evict_where_no_descriptor_is_left_says_so(known_file: Any) -> None:
    program = """
        import os, resource, sys
        from mmapwrap import MemoryMapping, TooManyFilesError
        from mmapwrap._core import descriptors, mapped_files

        mapping = MemoryMapping.from_file(sys.argv[1])
        start = mapping.as_ptr()
        (file,) = mapped_files.shared_files(start, start + mapping.size)
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
        (file,) = mapped_files.shared_files(start, start + mapping.size)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            # No errors in a variable: their tracebacks would keep it, and all that is open.
            calls: list[Any] = [mapping.evict, file.reopen, memory.try_clone]
            are_refused = [attempt(call).is_err() for call in calls]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(are_refused)


# RLIMIT_AS

NEED_ADDRESSES: Final = {
    "create",
    "create over",
    "create with a capacity",
    "anonymous with a capacity",
    "from_file of a descriptor with a capacity",
    "from_file of a path with a capacity",
    "refresh without a capacity",
    "shared memory map with a capacity",
    "resize that moves a file",
    "resize that moves memory",
    "new",
    "new_protection aligned",
    "new_protection_fixed",
    "from_descriptor_offset_protection_fixed",
    "from_fd",
    "from_fd_offset_protection_populate",
    "from_file of a path",
    "from_file of a descriptor",
    "anonymous populate",
    "anonymous private populate",
    "anonymous name",
    "arena new",
    "shared memory map",
    "residency",
    # Beside what is to be replaced, for a moment; a file also beside a place that is reserved.
    "recover",
    "arena add_fd",
    "arena add_anon over",
    "arena add_fd over",
}


def exhaust_addresses(folder: str) -> None:
    refused = refused_under(without_addresses, set(OPERATIONS) - {IN_GUARD}, Path(folder))
    assert set(refused) == NEED_ADDRESSES
    for name, outcome in refused.items():
        error = outcome.error
        assert isinstance(error, OutOfMemoryError), name
        assert error.errno == errno.ENOMEM, name
        moves = name.startswith(("recover", "refresh", "resize"))
        assert error.syscall == ("mremap" if moves else "mmap"), name


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_call_without_addresses_left_works_or_is_out_of_memory(shared_folder: Path) -> None:
    in_process(exhaust_addresses, shared_folder, watched=False).succeeded()


def guard_without_addresses(folder: str) -> None:
    with of_cut_file(Room(Path(folder))) as m, without_addresses():
        assert isinstance(outcome_of(lambda: touch_in_guard(m)).error, MmapError)


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_guard_without_addresses_left_is_an_error_and_no_signal(shared_folder: Path) -> None:
    in_process(guard_without_addresses, shared_folder, watched=False).succeeded()


# vm.max_map_count


PART: Final = 3 * PAGE, 2 * PAGE

SPLITTING: Final[dict[str, Prepare]] = {
    "advise RANDOM": on(of_file, lambda m: m.advise(Advice.RANDOM, *PART)),
    "advise DONTFORK": on(of_file, lambda m: m.advise(Advice.DONTFORK, *PART)),
    "advise DODUMP": on(of_file, lambda m: m.advise(Advice.DODUMP, *PART)),
    "lock": on(of_file, lambda m: m.lock(*PART)),
    "lock_on_fault": on(of_file, lambda m: m.lock_on_fault(*PART)),
    "protect": on(of_file, lambda m: m.protect(READ, *PART)),
    "protect again": OPERATIONS["protect of a part"],
    "arena add_anon": OPERATIONS["arena add_anon"],
    "arena add_anon over": OPERATIONS["arena add_anon over"],
    "arena add_fd": OPERATIONS["arena add_fd"],
    "arena add_fd over": OPERATIONS["arena add_fd over"],
    "arena remove": OPERATIONS["arena remove"],
    "arena protect": OPERATIONS["arena protect"],
}
MAPPING: Final[dict[str, Prepare]] = {
    name: OPERATIONS[name]
    for name in NEED_ADDRESSES
    # At the limit Python has no memory of its own left to look for the files of a region in.
    if not name.startswith("arena add") and not name.endswith("_fixed") and name != "residency"
}
NEITHER: Final[dict[str, Prepare]] = {
    name: OPERATIONS[name]
    for name in (
        "msync",
        "populate write",
        "remove_range",
        "drop_page_cache",
        "protect",
        "lock_all",
        "unlock_all",
        "use_dontfork",
        "evict",
        "close",
        "close of the last view",
        "fault_guard of a cut file",
    )
}


@attrs.frozen
class Prepared:
    """A call that waits for the limit, with what it does and is without one."""

    name: str
    stage: Stage
    state: object
    usual: tuple[str, object]


@contextmanager
def prepared(operations: dict[str, Prepare], folder: Path) -> Generator[list[Prepared]]:
    """Everything that is looked up in the kernel's list, before that gets long."""
    with ExitStack() as stack:
        found: list[Prepared] = []
        for name, prepare in operations.items():
            room = Room(Path(tempfile.mkdtemp(dir=folder)))
            as_usual(prepare, room)
            usual = as_usual(prepare, room)
            stage = stack.enter_context(prepare(room))
            found.append(Prepared(name, stage, stage.state(), usual))
        yield found


class Mappings:
    """Mappings of one page each, made until the kernel refuses."""

    def __init__(self) -> None:
        self._made: list[MemoryMapping] = []
        with suppress(OutOfMemoryError):
            while True:
                self._made.append(MemoryMapping.new(PAGE))

    def close(self) -> None:
        for mapping in self._made:
            mapping.close()


def exhaust_mappings(folder: str, kind: str) -> None:
    """Make the calls of one kind with no mapping left: all, some or none of them are refused."""
    operations = {"splitting": SPLITTING, "mapping": MAPPING, "neither": NEITHER}[kind]
    before = Traces()
    with prepared(operations, Path(folder)) as calls:
        filler = Filler()
        outcomes: dict[str, Outcome] = {}
        for each in calls:
            filler.fill()
            # The kernel lets mmap make one mapping more than there may be.
            more = Mappings() if kind == "mapping" else None
            outcomes[each.name] = outcome_of(each.stage.act)
            if more is not None:
                more.close()
            filler.free(64)
        filler.close()
        refused = {
            each.name: outcomes[each.name].error
            for each in calls
            if result_of(outcomes[each.name]) != each.usual[0]
        }
        for each in calls:
            problem = _problems(each.stage, each.state, outcomes[each.name], each.usual)
            assert not problem, f"{each.name}: {problem}"
    MemoryMapping.new(PAGE).close()
    assert before.difference() == ""
    assert set(refused) == (set() if kind == "neither" else set(operations))
    for name, error in refused.items():
        # Of advice that would split a mapping the kernel says EAGAIN in place of ENOMEM.
        is_advice = isinstance(error, LockLimitError) and error.syscall == "madvise"
        assert is_advice or isinstance(error, OutOfMemoryError), f"{name}: {error!r}"


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
@needs_few_mappings
@pytest.mark.parametrize("kind", ["splitting", "mapping", "neither"])
def test_call_without_mappings_left_works_or_is_out_of_memory(
    kind: str, shared_folder: Path
) -> None:
    in_process(exhaust_mappings, shared_folder, kind, watched=False).succeeded()


def fail_to_stay_behind() -> None:
    """MADV_DONTFORK of a part, with no mapping left for it: then a child has all."""
    with MemoryMapping.new(8 * PAGE) as m:
        m[3 * PAGE] = 7
        filler = Filler()
        filler.fill()
        outcome = outcome_of(lambda: m.advise(Advice.DONTFORK, 3 * PAGE, PAGE))
        filler.close()
        assert isinstance(outcome.error, LockLimitError), outcome
        pid = os.fork()
        if pid == 0:
            address = m.as_ptr()
            works = not m.closed and m[3 * PAGE] == 7
            m.close()
            os._exit(0 if works and not is_mapped(address, 8 * PAGE) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        m.use_dontfork()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if m.closed else 1)
        assert os.waitpid(pid, 0)[1] == 0


@needs_few_mappings
def test_dontfork_that_fails_leaves_the_region_to_children() -> None:
    in_process(fail_to_stay_behind, watched=False).succeeded()


def guard_with_few_mappings(folder: str) -> None:
    """Two mappings are left: one for the notes of faults, and fewer than a single page takes."""
    with of_cut_file(Room(Path(folder))) as m:
        filler = Filler()
        filler.fill()
        filler.free(1)
        outcome = outcome_of(lambda: touch_in_guard(m, 10 * PAGE))
        filler.close()
        assert isinstance(outcome.error, MmapError), outcome


@needs_few_mappings
def test_guard_with_few_mappings_left_is_an_error_and_no_signal(shared_folder: Path) -> None:
    in_process(guard_with_few_mappings, shared_folder, watched=False).succeeded()


def touch_every_other_page(folder: str) -> None:
    """Pages of zeros that do not touch each other are a mapping each, and cut the region in two."""
    size = (MAX_MAP_COUNT + 100) * 2 * PAGE
    with Room(Path(folder)).file() as fd:
        os.ftruncate(fd, size)
        with MemoryMapping.from_fd(fd, size) as m:
            os.ftruncate(fd, 0)
            with pytest.raises(MappingFaultError) as faulted, m.fault_guard(), m.view() as view:
                assert not any(view[:: 2 * PAGE].tobytes())
    error = faulted.value
    assert error.offset == 0
    assert 0 < error.pages <= MAX_MAP_COUNT + 100


@needs_few_mappings
def test_guard_holds_where_more_pages_are_missing_than_mappings_allowed(
    shared_folder: Path,
) -> None:
    in_process(touch_every_other_page, shared_folder, watched=False).succeeded()


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
    while libc.mmap(None, PAGE, number % 2, flags, -1, 0) not in {None, MAP_FAILED}:
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
@needs_few_mappings
@pytest.mark.not_sanitized(PYTHON_HAS_NO_MEMORY)
def test_guard_at_the_limit_of_mappings_unmaps_nothing_under_other_threads() -> None:
    ended = in_process(guards_at_the_limit_of_mappings, measured=False)
    assert ended.succeeded() == "survived\n"


# Neighbours that the kernel makes one mapping of: to unmap the middle one takes one more.


def private_memory() -> MemoryMapping:
    m = MemoryMapping.anonymous(8 * PAGE, sharing=Sharing.PRIVATE)
    m[:] = known_bytes(8 * PAGE)
    return m


def reservation() -> MemoryMappingArena:
    return MemoryMappingArena.new(8 * PAGE)


def close_region(region: MappedRegion) -> None:
    region.close()


def close_view(region: MappedRegion) -> None:
    with suppress(MmapError):  # a reservation has none
        view = region.view()
        region.close()
        view.release()
    region.close()


WAYS_TO_CLOSE: Final[dict[str, Callable[[MappedRegion], None]]] = {
    "close": close_region,
    "last view": close_view,
}
NEIGHBOURS: Final[dict[str, Callable[[], MappedRegion]]] = {
    "private memory": private_memory,
    "reservation": reservation,
}


def close_in_the_middle(neighbours: str, way: str) -> None:
    regions = sorted((NEIGHBOURS[neighbours]() for _ in range(9)), key=lambda r: r.as_ptr())
    middle = next(
        region
        for below, region, above in zip(regions, regions[1:], regions[2:], strict=False)
        if below.as_ptr() + below.size == region.as_ptr() == above.as_ptr() - region.size
    )
    address, size = middle.as_ptr(), middle.size
    held = [region for region in regions if region is not middle]
    filler = Filler()
    filler.fill()
    WAYS_TO_CLOSE[way](middle)
    assert middle.closed
    filler.close()
    if is_mapped(address, size):
        assert not any(resident_pages(address, size)), "the memory is still taken"
    # What could not be unmapped then is unmapped as soon as the library maps or unmaps again.
    MemoryMapping.new(PAGE).close()
    assert not is_mapped(address, size)
    for region in held:
        assert region.size == size
        region.close()


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
@needs_few_mappings
@pytest.mark.parametrize("way", WAYS_TO_CLOSE)
@pytest.mark.parametrize("neighbours", NEIGHBOURS)
def test_close_without_mappings_left_gives_the_memory_back(neighbours: str, way: str) -> None:
    in_process(close_in_the_middle, neighbours, way, watched=False).succeeded()


# RLIMIT_MEMLOCK


def is_locked(region: MappedRegion) -> bool:
    return "lo" in any_vm_flags(region.as_ptr(), region.size)


def lock_with(limit: str) -> None:
    become_unprivileged()
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (int(limit), hard))
    with MemoryMapping.new(8 * PAGE) as m:
        calls: list[Callable[[], None]] = [
            m.lock,
            m.lock_all,
            lambda: m.lock(PAGE, 7 * PAGE),
            lambda: m.lock_on_fault(0, 8 * PAGE),
        ]
        for act in calls:
            error = outcome_of(act).error
            assert isinstance(error, SystemCallError), error
            say(type(error).__name__, error.errno, error.syscall)
            assert not is_locked(m)
            m[3] = 7
        m.unlock_all()  # needs no permission
        if int(limit):
            m.lock(PAGE, int(limit))
            assert amount("Locked", m.as_ptr(), m.size) == int(limit)
            assert isinstance(outcome_of(lambda: m.lock(0, PAGE)).error, OutOfMemoryError)
            m.unlock_all()
            assert not is_locked(m)


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@pytest.mark.parametrize(
    ("pages", "error", "number"),
    [
        (0, OperationNotPermittedError, errno.EPERM),
        (1, OutOfMemoryError, errno.ENOMEM),
        (4, OutOfMemoryError, errno.ENOMEM),
    ],
)
def test_lock_past_the_limit_of_an_unprivileged_user_is_typed_and_locks_nothing(
    pages: int, error: type[SystemCallError], number: int
) -> None:
    calls = ["mlock", "mlock", "mlock", "mlock2"]
    expected = [f"{error.__name__} {number} {name}" for name in calls]
    assert in_process(lock_with, pages * PAGE, watched=False).succeeded().splitlines() == expected


def map_where_all_is_locked() -> None:
    become_unprivileged()
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    libc = ctypes.CDLL(None, use_errno=True)
    mcl_future = 2
    with MemoryMapping.new(8 * PAGE) as before:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE, hard))
        assert libc.mlockall(mcl_future) == 0, os.strerror(ctypes.get_errno())
        makers: list[Callable[[], object]] = [
            lambda: MemoryMapping.new(8 * PAGE),
            lambda: MemoryMapping.anonymous(8 * PAGE, sharing=Sharing.PRIVATE),
            lambda: MemoryMappingArena.new(8 * PAGE),
        ]
        errors = [outcome_of(make).error for make in makers]
        before[:] = known_bytes(8 * PAGE)
        libc.munlockall()
    for error in errors:
        assert isinstance(error, LockLimitError), repr(error)
        assert (error.errno, error.syscall) == (errno.EAGAIN, "mmap")


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_mapping_where_all_is_locked_past_the_limit_is_a_lock_limit() -> None:
    in_process(map_where_all_is_locked, watched=False).succeeded()


def guard_without_private_memory(limit: str, guarded: str) -> None:
    """All the memory is used up that the limit allows, and then a file is cut."""
    become_unprivileged()
    fd = memory_file(known_bytes(SIZE))
    m = MemoryMapping.from_fd(fd, SIZE)
    view = m.view()
    assert m[0] == 1
    if guarded == "guarded before":
        with m.view(), m.fault_guard():
            pass
    spare = spare_memory()
    room = 64 * PAGE
    if limit == "DATA":
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (own_status("VmData") + room, hard))
    else:
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (own_status("VmLck") + room, hard))
        mcl_future = 2
        assert libc.mlockall(mcl_future) == 0, os.strerror(ctypes.get_errno())
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    for size in (16 * PAGE, PAGE):
        while libc.mmap(None, size, writable, private, -1, 0) not in {None, MAP_FAILED}:
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
        pytest.param(
            "MEMLOCK", "guarded before", marks=pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
        ),
        pytest.param(
            "MEMLOCK",
            "not yet guarded",
            marks=[
                pytest.mark.not_sanitized(LOCKS_DO_NOTHING),
                pytest.mark.xfail(reason="the first guard of a region has no page of zeros"),
            ],
        ),
    ],
)
def test_guard_without_private_memory_left_gives_zeros_and_an_error(
    limit: str, guarded: str
) -> None:
    ended = in_process(guard_without_private_memory, limit, guarded)
    assert ended.succeeded() == f"{5 * PAGE} 2 1\n"


# RLIMIT_FSIZE


def write_past_the_file_size(folder: str) -> None:
    limit = 3 * PAGE + 5
    with Room(Path(folder)).file() as fd, MemoryMapping.new(8 * PAGE) as m:
        os.ftruncate(fd, 0)
        m[:] = content = known_bytes(8 * PAGE)
        part = m.get_slice(0, m.size)
        with process_unchanged(), lowered(resource.RLIMIT_FSIZE, limit):
            assert part.write_to_fd(fd) == limit  # what fits, and then nothing
            for at in (None, limit, 2 * limit):
                error = outcome_of(partial(part.write_to_fd, fd, file_offset=at)).error
                assert isinstance(error, WriteFromMemoryError), error
                assert error.errno == errno.EFBIG
            assert part.write_to_fd(fd, PAGE, file_offset=limit - 7) == 7
            error = outcome_of(lambda: SharedMemory.new("large", limit + 1)).error
            assert isinstance(error, SystemCallError), error
            assert (error.errno, error.syscall) == (errno.EFBIG, "ftruncate")
            with SharedMemory.new("fits", limit, allocate=True) as memory, memory.map() as mapped:
                mapped[-1] = 1
            # What is there already may be changed and written back.
            with MemoryMapping.from_file(fd) as file:
                file[:3] = b"new"
                file.msync()
        assert os.pread(fd, limit, 0) == b"new" + content[3 : limit - 7] + content[:7]


def test_write_past_the_file_size_limit_is_what_fits_then_an_error(shared_folder: Path) -> None:
    in_process(write_past_the_file_size, shared_folder, watched=False).succeeded()


# A file system that is full


HOLE: Final = 1 << 20

FAULTING: Final[dict[str, Callable[[MemoryMapping, MemoryMapping], object]]] = {
    "write_slice": lambda m, other: m.write_slice(bytes(HOLE), 0),
    "write_slice at the end": lambda m, other: m.write_slice(b"abc", HOLE - 3),
    "index": lambda m, other: m.__setitem__(5, 1),
    "slice": lambda m, other: m.__setitem__(slice(PAGE - 1, PAGE + 1), b"ab"),
    "write_obj": lambda m, other: m.write_obj(u32, 7, PAGE - 2),
    "write_obj_volatile": lambda m, other: m.write_obj_volatile(u32, 7, PAGE),
    "write_bytes": lambda m, other: m.get_slice(0, HOLE).write_bytes(1),
    "copy_from": lambda m, other: m.get_slice(7, PAGE).copy_from(bytes(PAGE)),
    "store": lambda m, other: m.get_slice(0, PAGE).store(u32, 7, 8),
    "store_many": lambda m, other: m.get_slice(0, PAGE).store_many(u32, [7] * 9, 8),
    "copy to it": lambda m, other: other.get_slice(0, HOLE).copy_to_volatile_slice(
        m.get_slice(0, HOLE)
    ),
    # A page must be there to be read.
    "read_slice": lambda m, other: m.read_slice(bytearray(HOLE), 0),
    "read index": lambda m, other: m[-1],
    "read_obj": lambda m, other: m.read_obj(u32, 1),
    "load": lambda m, other: m.get_slice(0, PAGE).load(u32, 8),
    "load_many": lambda m, other: m.get_slice(0, PAGE).load_many(u32, 9, 8),
    "is_all_zero": lambda m, other: m.is_all_zero(),
    "find": lambda m, other: m.find(b"x"),
    "rfind": lambda m, other: m.rfind(b"x"),
    "copy from it": lambda m, other: m.get_slice(0, HOLE).copy_to_volatile_slice(
        other.get_slice(0, HOLE)
    ),
    "guard": lambda m, other: touch_in_guard(m),
}

# Where the first page of the range is not the first of the region.
FIRST_MISSING: Final = {
    "write_slice at the end": HOLE - PAGE,
    "write_obj_volatile": PAGE,
    "read index": HOLE - PAGE,
    "guard": HOLE - PAGE,
}


def use_a_full_filesystem(folder: str) -> None:
    sparse, ballast = Path(folder, "sparse"), Path(folder, "ballast")
    with sparse.open("wb") as file:
        file.truncate(HOLE)
    with suppress(OSError):
        ballast.write_bytes(bytes(HOLE))
    assert os.statvfs(folder).f_bavail == 0
    with MemoryMapping.new(HOLE) as other:
        for name, act in FAULTING.items():
            with process_unchanged(), MemoryMapping.from_file(sparse) as m:
                error = outcome_of(partial(act, m, other)).error
                assert isinstance(error, MappingFaultError), f"{name}: {error!r}"
                assert (error.offset, error.pages) == (FIRST_MISSING.get(name, 0), 1), name
                assert str(error.hint).startswith("no space is left on its device"), name
                for later in (m.msync, m.residency, m.view):
                    again = outcome_of(later).error
                    expected = MappingFaultError if name == "guard" else type(None)
                    assert isinstance(again, expected), f"{name}: {again!r}"
            other[:3] = name[:3].encode()  # the other region of a copy is sound
            assert other[:3] == name[:3].encode()
        assert sparse.stat().st_blocks == 0


def test_access_to_a_hole_of_a_full_filesystem_is_a_fault_and_no_signal(
    small_filesystem: Path,
) -> None:
    in_process(use_a_full_filesystem, small_filesystem, watched=False).succeeded()


def ask_a_full_filesystem(folder: str) -> None:
    sparse, ballast = Path(folder, "sparse"), Path(folder, "ballast")
    with sparse.open("wb") as file:
        file.truncate(HOLE)
    with suppress(OSError):
        ballast.write_bytes(bytes(HOLE))
    with SharedMemory.from_file(sparse.open("r+b")) as memory:
        error = outcome_of(lambda: MemoryMapping.from_file(sparse, populate=True)).error
        assert isinstance(error, MappingFaultError), error
        assert (error.offset, error.pages, error.filename) == (0, 1, str(sparse))
        assert error.hint == "no space is left on its device"
        with process_unchanged(), memory.map() as m:
            for act in (m.populate, lambda: m.populate(write=True), m.lock_all):
                error = outcome_of(act).error
                assert isinstance(error, MappingFaultError), error
                assert (error.offset, error.pages) == (0, 1)
                assert error.hint == "no space is left on its device"
            assert not is_locked(m)
            with ballast.open("rb") as file:
                error = outcome_of(lambda: m.get_slice(0, PAGE).read_from_fd(file)).error
            assert isinstance(error, ReadToMemoryError), error
            assert error.errno == errno.EFAULT
            assert m.residency().resident == 0
            ballast.unlink()  # now there is room, and nothing was spoilt
            m.write_slice(b"room", 0)
            m.populate(0, PAGE, write=True)
        assert sparse.read_bytes()[:5] == b"room\0"


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_calls_that_bring_a_hole_of_a_full_filesystem_in_are_typed(
    small_filesystem: Path,
) -> None:
    in_process(ask_a_full_filesystem, small_filesystem, watched=False).succeeded()


def test_mount_options_refuse_what_they_forbid() -> None:
    with mounted_tmpfs("noexec") as folder:
        path = folder / "file"
        path.write_bytes(known_bytes(PAGE))
        for prot in (Protection.read_execute(), Protection(executable=True)):
            with process_unchanged(), pytest.raises(OperationNotPermittedError) as refused:
                MemoryMapping.from_file(path, prot=prot)
            assert (refused.value.errno, refused.value.syscall) == (errno.EPERM, "mmap")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with process_unchanged(), pytest.raises(SystemCallError) as read_only:
            MemoryMapping.from_file(path)
        assert (read_only.value.errno, read_only.value.syscall) == (errno.EROFS, "open")
        assert read_only.value.filename == str(path)
        with MemoryMapping.from_file(path, prot=READ) as m:
            assert m[:] == known_bytes(PAGE)
        with MemoryMapping.from_file(path, sharing=Sharing.PRIVATE) as m:
            m[:3] = b"abc"
        assert path.read_bytes() == known_bytes(PAGE)


# A user without privileges


def map_what_others_own(folder: str) -> None:
    readable, secret = Path(folder, "readable"), Path(folder, "secret")
    readable.write_bytes(known_bytes(4 * PAGE))
    readable.chmod(0o444)
    secret.write_bytes(known_bytes(4 * PAGE))
    secret.chmod(0o600 if os.geteuid() == 0 else 0)
    low = Path("/proc/sys/vm/mmap_min_addr")
    lowest = int(low.read_text())
    given = secret.open("rb") if os.geteuid() == 0 else None
    become_unprivileged()
    refusals: list[tuple[Callable[[], object], Path]] = [
        (lambda: MemoryMapping.from_file(readable), readable),
        (lambda: MemoryMapping.from_file(secret), secret),
        (lambda: MemoryMapping.from_file(secret, prot=READ), secret),
        (lambda: MemoryMapping.from_file(secret, sharing=Sharing.PRIVATE), secret),
    ]
    for act, path in refusals:
        with process_unchanged():
            error = outcome_of(act).error
            assert isinstance(error, AccessDeniedError), error
            assert (error.errno, error.syscall) == (errno.EACCES, "open")
            assert error.filename == str(path)
    with MemoryMapping.from_file(readable, prot=READ) as m:
        assert m[:] == known_bytes(4 * PAGE)
        error = outcome_of(lambda: m.protect(RW)).error
        assert isinstance(error, AccessDeniedError), error
        assert (error.errno, error.syscall) == (errno.EACCES, "mprotect")
        assert m[:] == known_bytes(4 * PAGE)
        m.evict()
        m.populate()
    with MemoryMapping.from_file(readable, sharing=Sharing.PRIVATE) as m:
        m[:3] = b"abc"
    assert readable.read_bytes() == known_bytes(4 * PAGE)
    if given is not None:  # opened by root, who passed it on
        with given, MemoryMapping.from_file(given) as m:
            assert m[:] == known_bytes(4 * PAGE)
            error = outcome_of(m.evict).error
            assert isinstance(error, UnsupportedOperationError), error
            assert isinstance(outcome_of(lambda: m.protect(RW)).error, AccessDeniedError)
    if lowest > PAGE:
        for address in (PAGE, lowest - PAGE):
            error = outcome_of(
                partial(MemoryMapping.new_protection_fixed, address, PAGE, READ)
            ).error
            assert isinstance(error, OperationNotPermittedError), error


def test_unprivileged_user_gets_what_the_modes_allow(shared_folder: Path) -> None:
    in_process(map_what_others_own, shared_folder, watched=False).succeeded()


# Files on a disk and in memory


@pytest.fixture(params=["disk", "tmpfs"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory on each kind of file system."""
    if request.param == "disk":
        yield request.getfixturevalue("disk_path")
        return
    parent = Path("/dev/shm")
    if not os.access(parent, os.W_OK) or b"tmpfs /dev/shm" not in Path("/proc/mounts").read_bytes():
        pytest.skip("there is no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir=parent) as path:
        yield Path(path)


def test_file_of_each_kind_is_written_synced_and_read(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(known_bytes(16 * PAGE))
    with process_unchanged(), MemoryMapping.from_file(path, offset=PAGE + 3) as m:
        m[:4] = b"abcd"
        m.msync()
        m.msync(PAGE, 1, invalidate=True)
        assert (
            path.read_bytes()[PAGE : PAGE + 8]
            == known_bytes(2 * PAGE)[PAGE : PAGE + 3]
            + b"abcd"
            + known_bytes(2 * PAGE)[PAGE + 7 : PAGE + 8]
        )
    with MemoryMapping.from_file(path, sharing=Sharing.PRIVATE) as m:
        m[:] = bytes(m.size)
    assert path.read_bytes()[:PAGE] == known_bytes(PAGE)


def test_file_of_each_kind_is_paged_in_and_out_without_loss(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(known_bytes(16 * PAGE))
    with process_unchanged(), MemoryMapping.from_file(path) as m:
        m[:3] = b"abc"
        for act in (m.evict, m.populate, m.lock_all, m.unlock_all, m.flush_all):
            act()
            assert m[:3] == b"abc"
        m.populate(write=True)
        m.drop_page_cache(0, m.size)
        assert m.residency().fraction == 1
        m.protect(READ, PAGE, PAGE)
        m.protect(RW)
        assert m[:] == b"abc" + known_bytes(16 * PAGE)[3:]
    assert path.read_bytes() == b"abc" + known_bytes(16 * PAGE)[3:]


def test_file_of_each_kind_gives_its_blocks_back(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(known_bytes(16 * PAGE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    before = path.stat().st_blocks
    with MemoryMapping.from_file(path) as m:
        m.remove_range(4 * PAGE, 8 * PAGE)
        assert path.stat().st_blocks == before - 8 * PAGE // 512
        assert m.is_all_zero(4 * PAGE, 8 * PAGE)  # for which tmpfs takes memory again
    assert path.stat().st_size == 16 * PAGE
    content = known_bytes(16 * PAGE)
    assert path.read_bytes() == content[: 4 * PAGE] + bytes(8 * PAGE) + content[12 * PAGE :]


@pytest.mark.parametrize("advice", Advice)
def test_file_of_each_kind_takes_advice_or_refuses_it_and_keeps_its_content(
    advice: Advice, folder: Path
) -> None:
    path = folder / "file"
    path.write_bytes(known_bytes(16 * PAGE))
    with process_unchanged(), MemoryMapping.from_file(path) as m:
        with suppress(SystemCallError):
            m.advise(advice, PAGE, 3 * PAGE)
        assert m[:] == known_bytes(16 * PAGE)


def test_read_only_file_of_each_kind_is_mapped_read_only(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(known_bytes(PAGE))
    with path.open("rb") as file:
        for prot in (RW, Protection.write()):
            with process_unchanged(), pytest.raises(AccessDeniedError) as refused:
                MemoryMapping.from_fd_offset_protection(file, PAGE, 0, prot)
            assert (refused.value.errno, refused.value.syscall) == (errno.EACCES, "mmap")
        with MemoryMapping.from_file(file) as m:
            assert m.prot == READ
            assert m[:] == known_bytes(PAGE)
            with pytest.raises(AccessDeniedError):
                m.protect(RW)
            assert m[:] == known_bytes(PAGE)
