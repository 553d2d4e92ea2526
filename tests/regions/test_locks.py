"""Locks: a failed one changes nothing and says why; what is locked stays so, and is named."""

import errno
import os
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kernel_view import MIB, PAGE, KnownFile, child, in_process, known_bytes, own_status, usages
from marks import LOCKS_DO_NOTHING
from meanwhile import Interruption, interrupted_after, interrupted_at, pages_of

from mmapwrap import (
    Advice,
    DestructiveAdvice,
    InvalidSystemCallError,
    MappedRegion,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    Protection,
    ProtectionError,
    RegionBusyError,
    Sharing,
    SystemCallError,
)
from mmapwrap._core import calls
from mmapwrap._core._mman import lib

pytestmark = pytest.mark.not_sanitized(LOCKS_DO_NOTHING)

PAGES = 16
LEFT = 8  # pages of the file that is cut short


def locked_pages(region: MappedRegion) -> list[int]:
    """The numbers of the region's pages that the kernel keeps in memory, from its first on."""
    start = region.as_ptr() - region.as_ptr() % PAGE
    return [
        (address - start) // PAGE
        for entry in usages(region.as_ptr(), region.size)
        if "lo" in entry.flags
        for address in range(max(entry.vma.start, start), entry.vma.end, PAGE)
        if address < region.as_ptr() + region.size
    ]


@contextmanager
def locks_unchanged(region: MappedRegion) -> Generator[None]:
    before = locked_pages(region)
    yield
    assert locked_pages(region) == before


Lock = Callable[[MappedRegion, int, int], None]

LOCKS: dict[str, Lock] = {
    "lock": lambda region, offset, count: region.lock(offset, count),
    "populate": lambda region, offset, count: region.populate(offset, count),
    "populate to write": lambda region, offset, count: region.populate(offset, count, write=True),
}
over_locks = pytest.mark.parametrize("call", LOCKS.values(), ids=LOCKS.keys())


def cut_short(path: Path) -> None:
    os.truncate(path, LEFT * PAGE)


@pytest.fixture
def mapping(known_file: KnownFile) -> Iterator[MemoryMapping]:
    """A mapping of 16 pages whose file will have eight; its pages 2 and 3 are locked."""
    with MemoryMapping.from_file(known_file.path) as m:
        m.lock(2 * PAGE, 2 * PAGE)
        yield m


# A lock that fails


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, PAGES * PAGE),
        (3 * PAGE, 6 * PAGE),
        (2 * PAGE + 7, 10 * PAGE),
        (7 * PAGE, 2 * PAGE),
        (LEFT * PAGE, PAGE),
        (10 * PAGE + 1, 1),
    ],
)
def test_failed_lock_leaves_the_locks_as_they_were(
    offset: int, count: int, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    cut_short(known_file.path)
    with locks_unchanged(mapping), pytest.raises(MappingFaultError):
        mapping.lock(offset, count)
    assert locked_pages(mapping) == [2, 3]
    if offset == 0:
        with locks_unchanged(mapping), pytest.raises(MappingFaultError):
            mapping.lock_all()
    # What was not locked can be dropped, and what was cannot.
    mapping.drop_page_cache(4 * PAGE, 12 * PAGE)
    mapping.drop_page_cache(0, 2 * PAGE)
    with pytest.raises(InvalidSystemCallError):
        mapping.drop_page_cache(3 * PAGE, PAGE)


def test_failed_lock_after_many_leaves_the_locks_as_they_were(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    for page in (6, 0, 4, 0, 5):
        mapping.lock(page * PAGE, PAGE)
    mapping.unlock(3 * PAGE, PAGE)
    cut_short(known_file.path)
    with locks_unchanged(mapping), pytest.raises(MappingFaultError):
        mapping.lock()
    assert locked_pages(mapping) == [0, 2, 4, 5, 6]


@pytest.mark.parametrize(("offset", "count"), [(0, 1), (7, PAGE), (PAGE - 1, 2), (PAGE + 9, 5)])
def test_failed_lock_keeps_pages_of_which_a_part_was_locked(
    offset: int, count: int, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path) as mapping:
        mapping.lock(offset, count)
        locked = locked_pages(mapping)
        assert locked == list(range(offset // PAGE, (offset + count - 1) // PAGE + 1))
        cut_short(known_file.path)
        with pytest.raises(MappingFaultError):
            mapping.lock()
        assert locked_pages(mapping) == locked


def test_failed_lock_leaves_pages_unlocked_of_which_a_part_was_unlocked(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    mapping.unlock(3 * PAGE + 5, 1)
    assert locked_pages(mapping) == [2]
    cut_short(known_file.path)
    with locks_unchanged(mapping), pytest.raises(MappingFaultError):
        mapping.lock()


def test_failed_lock_can_be_done_again_once_the_file_has_grown(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    cut_short(known_file.path)
    with pytest.raises(MappingFaultError):
        mapping.lock()
    os.truncate(known_file.path, PAGES * PAGE)
    mapping.lock()
    assert locked_pages(mapping) == list(range(PAGES))
    mapping.unlock_all()
    assert locked_pages(mapping) == []


def test_failed_lock_of_a_mapping_inside_a_page_leaves_the_locks_as_they_were(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path, offset=PAGE - 5) as mapping:
        mapping.lock(0, 1)
        cut_short(known_file.path)
        for offset, count in ((0, None), (10, 9 * PAGE), (7 * PAGE, PAGE)):
            with locks_unchanged(mapping), pytest.raises(MappingFaultError):
                mapping.lock(offset, count)
        assert locked_pages(mapping) == [0]


def test_failed_lock_in_a_child_leaves_no_lock_that_its_parent_had(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    cut_short(known_file.path)
    if (pid := os.fork()) == 0:
        status = 1
        try:
            assert locked_pages(mapping) == []  # no child inherits locks
            with pytest.raises(MappingFaultError):
                mapping.lock()
            status = 0 if locked_pages(mapping) == [] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert locked_pages(mapping) == [2, 3]


def test_failed_lock_over_a_hole_in_an_arena_leaves_the_locks_as_they_were() -> None:
    with MemoryMappingArena.new(8 * PAGE) as arena:
        arena.add_anon(0, 3 * PAGE)
        arena.add_anon(5 * PAGE, 3 * PAGE)
        arena.lock(PAGE, PAGE)
        for offset, count in ((0, 8 * PAGE), (2 * PAGE, 2 * PAGE), (3 * PAGE, PAGE), (4 * PAGE, 9)):
            with locks_unchanged(arena), pytest.raises((SystemCallError, ProtectionError)):
                arena.lock(offset, count)
        assert locked_pages(arena) == [1]


def test_lock_on_fault_past_the_end_of_the_file_is_kept_for_pages_that_come(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    cut_short(known_file.path)
    mapping.lock_on_fault(0, PAGES * PAGE)
    assert locked_pages(mapping) == list(range(PAGES))
    with locks_unchanged(mapping), pytest.raises(MappingFaultError):
        mapping.lock()


# Calls at the same time: what one does while another is in its C function, or just out of it


def test_failed_lock_keeps_what_another_call_has_just_locked(
    mapping: MemoryMapping, known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = calls.lock

    def lock_while_another_fails(*arguments: Any) -> int:
        result: int = lock(*arguments)
        monkeypatch.undo()
        with pytest.raises(MappingFaultError):
            mapping.lock()
        return result

    cut_short(known_file.path)
    monkeypatch.setattr(calls, "lock", lock_while_another_fails)
    mapping.lock(0, PAGE)
    assert locked_pages(mapping) == [0, 2, 3]
    with locks_unchanged(mapping), pytest.raises(MappingFaultError):
        mapping.lock()


@pytest.mark.parametrize("is_before", [False, True])
def test_pages_unlocked_during_a_lock_are_unlocked_and_not_remembered(
    is_before: bool,
    mapping: MemoryMapping,
    known_file: KnownFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = calls.lock

    def lock_while_another_unlocks(*arguments: Any) -> int:
        monkeypatch.undo()
        if is_before:
            mapping.unlock(PAGE, PAGE)
        result: int = lock(*arguments)
        if not is_before:
            mapping.unlock(PAGE, PAGE)
        return result

    monkeypatch.setattr(calls, "lock", lock_while_another_unlocks)
    mapping.lock(0, 6 * PAGE)
    assert locked_pages(mapping) == [0, 2, 3, 4, 5]
    cut_short(known_file.path)
    with locks_unchanged(mapping), pytest.raises(MappingFaultError):
        mapping.lock()


def test_pages_that_a_failed_lock_cannot_unlock_are_remembered(
    mapping: MemoryMapping, known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(known_file.path)

    def fail(*arguments: object) -> int:
        return -(lib.MMW_CALL_MUNLOCK << 12 | errno.ENOMEM)

    with monkeypatch.context() as patched:
        patched.setattr(calls, "unlock", fail)
        with pytest.raises(MappingFaultError):
            mapping.lock()
    with pytest.raises(InvalidSystemCallError, match="locked"):
        mapping.drop_page_cache(0, PAGE)
    mapping.unlock_all()
    mapping.drop_page_cache(0, PAGE)


def test_lock_during_which_a_handler_forks_is_remembered_in_both_processes(
    mapping: MemoryMapping, known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = calls.lock
    pids: list[int] = []

    def lock_after_a_fork(*arguments: Any) -> int:
        monkeypatch.undo()
        pids.append(os.fork())
        result: int = lock(*arguments)
        return result

    cut_short(known_file.path)
    monkeypatch.setattr(calls, "lock", lock_after_a_fork)
    status = 1
    try:
        mapping.lock(0, PAGE)
        assert locked_pages(mapping) == ([0, 2, 3] if pids[0] else [0])
        with locks_unchanged(mapping), pytest.raises(MappingFaultError):
            mapping.lock()
        status = 0
    finally:
        if pids == [0]:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0


def interrupt_locks(path: str) -> None:
    """Interrupt a lock before each of its lines: what is locked then is remembered."""
    moment = 0
    is_interrupted = True
    while is_interrupted:
        with MemoryMapping.from_file(path) as m:
            m.lock(2 * PAGE, 2 * PAGE)
            call = partial(m.lock, 0, 6 * PAGE)
            is_interrupted = interrupted_at(moment, call, Interruption)
            remembered = [
                page
                for page in range(PAGES)
                if not pages_of(m).locked.gaps(page * PAGE, (page + 1) * PAGE)
            ]
            assert locked_pages(m) == remembered
            assert remembered in ([2, 3], [*range(6)])
        moment += 1
    assert moment > 10


def test_lock_that_is_interrupted_anywhere_is_remembered_or_taken_back(
    known_file: KnownFile,
) -> None:
    in_process(interrupt_locks, known_file.path, watched=False).succeeded()


def test_lock_inside_a_change_of_the_same_thread_is_refused_and_locks_nothing(
    mapping: MemoryMapping,
) -> None:
    def lock_and_unlock() -> None:
        with pytest.raises(RegionBusyError):
            mapping.lock(0, PAGE)
        with pytest.raises(RegionBusyError):
            mapping.unlock(2 * PAGE, PAGE)

    pages_of(mapping).exclusively(lock_and_unlock)
    assert locked_pages(mapping) == [2, 3]
    mapping.drop_page_cache(0, PAGE)


# Pages that are missing


@over_locks
@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, PAGES * PAGE), (LEFT * PAGE, PAGE), (LEFT * PAGE - 1, 2), (3 * PAGE + 7, 12 * PAGE)],
)
def test_missing_page_is_a_fault_with_the_offset_of_the_first(
    call: Lock, offset: int, count: int, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    cut_short(known_file.path)
    with locks_unchanged(mapping), pytest.raises(MappingFaultError) as caught:
        call(mapping, offset, count)
    error = caught.value
    assert (error.offset, error.pages, error.errno) == (LEFT * PAGE, 1, errno.EIO)
    assert f"the file has {LEFT * PAGE} bytes now" in str(error)


@over_locks
def test_missing_page_behind_others_is_a_fault_at_its_own_start(
    call: Lock, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    cut_short(known_file.path)
    for offset in (LEFT * PAGE + 5, 12 * PAGE, 15 * PAGE + 1):
        with pytest.raises(MappingFaultError) as caught:
            call(mapping, offset, 1)
        assert caught.value.offset == offset - offset % PAGE


@over_locks
@pytest.mark.parametrize("lead_in", [1, 5, PAGE - 1])
def test_missing_page_of_a_mapping_inside_a_page_is_a_fault_at_its_own_start(
    call: Lock, lead_in: int, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, offset=PAGE + lead_in) as mapping:
        cut_short(known_file.path)
        first = (LEFT - 1) * PAGE - lead_in
        call(mapping, 0, first)  # all that is there
        for offset, count in ((0, mapping.size), (first - 1, 2), (first, 1), (first + 9, PAGE)):
            with pytest.raises(MappingFaultError, match=f"the file has {LEFT * PAGE}") as caught:
                call(mapping, offset, count)
            assert caught.value.offset == first


@over_locks
def test_missing_page_in_an_arena_is_a_fault_with_the_offset_in_the_arena(
    call: Lock, known_file: KnownFile
) -> None:
    with MemoryMappingArena.new(4 * PAGE) as arena, known_file.path.open("r+b") as file:
        arena.add_anon(0, PAGE)
        arena.add_fd_offset(PAGE, 3 * PAGE, file, (LEFT - 1) * PAGE)
        cut_short(known_file.path)
        with locks_unchanged(arena), pytest.raises(MappingFaultError) as caught:
            call(arena, 0, 4 * PAGE)
        assert caught.value.offset == 2 * PAGE


@over_locks
def test_pages_of_a_private_mapping_that_are_missing_are_a_fault(
    call: Lock, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as mapping:
        cut_short(known_file.path)
        with pytest.raises(MappingFaultError) as caught:
            call(mapping, 0, mapping.size)
        assert caught.value.offset == LEFT * PAGE
        assert locked_pages(mapping) == []


def test_populate_that_fails_has_reported_the_windows_before_the_missing_page(
    known_file: KnownFile,
) -> None:
    size = 40 << 20
    os.truncate(known_file.path, size)
    done: list[int] = []
    with MemoryMapping.from_file(known_file.path, prot=Protection.read()) as mapping:
        os.truncate(known_file.path, 20 << 20)
        with pytest.raises(MappingFaultError) as caught:
            mapping.populate(progress=lambda so_far, of: done.append(so_far))
    assert done == [16 << 20]
    assert caught.value.offset == 20 << 20


# RLIMIT_MEMLOCK


def test_lock_past_the_limit_names_the_limit_and_its_value(known_file: KnownFile) -> None:
    program = """
        import resource, sys
        from kernel_view import PAGE, any_vm_flags, become_unprivileged, vm_flags
        from mmapwrap import MemoryMapping, MmapError

        become_unprivileged()
        for limit in (5 * PAGE, 5 * PAGE + 100, 0):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, 5 * PAGE + 100))
            m = MemoryMapping.new(16 * PAGE)
            if limit:
                m.lock(15 * PAGE, PAGE)
            locks = [
                m.lock_all,
                lambda: m.lock(PAGE, 5 * PAGE),
                lambda: m.lock_on_fault(0, 6 * PAGE),
            ]
            for lock in locks:
                try:
                    lock()
                except MmapError as error:
                    print(limit, type(error).__name__, error)
                assert "lo" not in any_vm_flags(m.as_ptr(), 15 * PAGE)
                assert not limit or "lo" in vm_flags(m.as_ptr() + 15 * PAGE, PAGE)
            if limit:
                m.lock(0, 4 * PAGE)  # as much as there is left
            m.close()
    """
    lines = child(program).succeeded().splitlines()
    assert len(lines) == 9
    for line in lines:
        limit, name, message = line.split(maxsplit=2)
        kind = "OutOfMemoryError" if int(limit) else "OperationNotPermittedError"
        assert name == kind
        assert "RLIMIT_MEMLOCK" in message
        assert f" {limit} bytes" in message


def test_lock_of_a_missing_page_inside_the_limit_is_a_fault_for_an_ordinary_user(
    known_file: KnownFile,
) -> None:
    program = """
        import os, sys
        from kernel_view import PAGE, any_vm_flags, become_unprivileged
        from mmapwrap import MappingFaultError, MemoryMapping

        m = MemoryMapping.from_file(sys.argv[1])
        os.truncate(sys.argv[1], 8 * PAGE)
        become_unprivileged()
        try:
            m.lock()
        except MappingFaultError as error:
            print(error.offset, "RLIMIT" in str(error))
        assert "lo" not in any_vm_flags(m.as_ptr(), m.size)
    """
    assert child(program, known_file.path).succeeded() == f"{LEFT * PAGE} False\n"


def test_lock_past_the_limit_by_a_privileged_process_works() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may lock past RLIMIT_MEMLOCK")
    program = """
        import resource
        from kernel_view import PAGE, vm_flags
        from mmapwrap import MemoryMapping

        resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE, PAGE))
        with MemoryMapping.new(16 * PAGE) as m:
            m.lock()
            assert "lo" in vm_flags(m.as_ptr(), m.size)
    """
    child(program).succeeded()


# Calls that the kernel refuses for locked pages


DROPS: dict[str, Callable[[MappedRegion, int, int], None]] = {
    "evict": lambda region, offset, count: region.evict(offset, count),
    "drop_page_cache": lambda region, offset, count: region.drop_page_cache(offset, count),
    "remove_range": lambda region, offset, count: region.remove_range(offset, count),
    "DONTNEED": lambda region, offset, count: region.advise_destructive(
        DestructiveAdvice.DONTNEED, offset, count
    ),
    "REMOVE": lambda region, offset, count: region.advise_destructive(
        DestructiveAdvice.REMOVE, offset, count
    ),
}
over_drops = pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS.keys())


@over_drops
@pytest.mark.parametrize(
    ("offset", "count"), [(0, 16 * PAGE), (3 * PAGE, PAGE), (0, 3 * PAGE), (3 * PAGE, 5 * PAGE)]
)
def test_drop_of_locked_pages_says_that_they_are_locked(
    drop: Lock, offset: int, count: int, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    with (
        locks_unchanged(mapping),
        pytest.raises(InvalidSystemCallError, match="locked") as caught,
    ):
        drop(mapping, offset, count)
    assert caught.value.errno == errno.EINVAL
    assert mapping[2 * PAGE : 4 * PAGE] == known_file.content[2 * PAGE : 4 * PAGE]


@over_drops
def test_drop_beside_locked_pages_works(drop: Lock, mapping: MemoryMapping) -> None:
    drop(mapping, 0, 2 * PAGE)
    drop(mapping, 4 * PAGE, 12 * PAGE)
    assert locked_pages(mapping) == [2, 3]


@over_drops
def test_drop_of_pages_that_were_unlocked_works(drop: Lock, mapping: MemoryMapping) -> None:
    mapping.lock(3 * PAGE, 2 * PAGE)  # twice, which unlock takes back at once
    mapping.unlock(2 * PAGE, 2 * PAGE)
    assert locked_pages(mapping) == [4]
    drop(mapping, 0, 4 * PAGE)
    with pytest.raises(InvalidSystemCallError, match="locked"):
        drop(mapping, 4 * PAGE, PAGE)
    mapping.unlock_all()
    drop(mapping, 0, 16 * PAGE)


def test_refusal_for_another_reason_does_not_speak_of_locks(mapping: MemoryMapping) -> None:
    # MADV_FREE is for private memory, locked or not.
    with pytest.raises(InvalidSystemCallError) as caught:
        mapping.advise_destructive(DestructiveAdvice.FREE, 0, PAGE)
    assert "locked" not in str(caught.value)


KINDS: dict[str, Callable[[KnownFile], MemoryMapping]] = {
    "shared memory": lambda file: MemoryMapping.anonymous(4 * PAGE),
    "private memory": lambda file: MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE),
    "shared file": lambda file: MemoryMapping.from_file(file.path),
    "private file": lambda file: MemoryMapping.from_file(file.path, sharing=Sharing.PRIVATE),
}


@pytest.mark.parametrize("advice", [*Advice, *DestructiveAdvice])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_refusal_speaks_of_locks_where_it_works_without_them(
    make: Callable[[KnownFile], MemoryMapping],
    advice: Advice | DestructiveAdvice,
    known_file: KnownFile,
) -> None:
    def refusal(*, is_locked: bool) -> str:
        with make(known_file) as mapping:
            if is_locked:
                mapping.lock(0, PAGE)
            try:
                if isinstance(advice, Advice):
                    mapping.advise(advice)
                else:
                    mapping.advise_destructive(advice)
            except SystemCallError as error:
                return str(error)
        return ""

    unlocked, locked = refusal(is_locked=False), refusal(is_locked=True)
    assert "locked" not in unlocked
    assert ("locked" in locked) == (not unlocked and locked != "")


@over_drops
def test_drop_in_a_child_is_not_refused_for_its_parents_locks(
    drop: Lock, mapping: MemoryMapping
) -> None:
    if (pid := os.fork()) == 0:
        status = 1
        try:
            drop(mapping, 0, 16 * PAGE)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# Parts, and segments that are replaced


@pytest.mark.parametrize(
    ("offset", "count", "left"),
    [
        (0, PAGE, [1, 2, 3]),
        (PAGE, PAGE, [0, 2, 3]),
        (PAGE + 1, 1, [0, 2, 3]),
        (2 * PAGE - 1, 2, [0, 3]),
        (3 * PAGE, PAGE, [0, 1, 2]),
        (0, 4 * PAGE, []),
        (2 * PAGE, 0, [0, 1, 2, 3]),
    ],
)
def test_unlock_of_a_part_keeps_the_rest_locked(offset: int, count: int, left: list[int]) -> None:
    with MemoryMapping.anonymous(4 * PAGE) as mapping:
        mapping.lock()
        mapping.unlock(offset, count)
        assert locked_pages(mapping) == left
        for page in range(4):
            if page in left:
                with pytest.raises(InvalidSystemCallError, match="locked"):
                    mapping.drop_page_cache(page * PAGE, PAGE)
            else:
                mapping.drop_page_cache(page * PAGE, PAGE)


@pytest.mark.parametrize("how", ["add_anon", "add_fd", "remove and add"])
def test_segment_that_is_replaced_is_not_locked_any_more(how: str, known_file: KnownFile) -> None:
    with MemoryMappingArena.new(6 * PAGE) as arena, known_file.path.open("r+b") as file:
        arena.add_anon(0, 6 * PAGE)
        arena.lock(PAGE, 4 * PAGE)
        if how == "add_anon":
            arena.add_anon(2 * PAGE, 2 * PAGE)
        elif how == "add_fd":
            arena.add_fd(2 * PAGE, 2 * PAGE, file)
        else:
            arena.remove(2 * PAGE, 2 * PAGE)
            assert locked_pages(arena) == [1, 4]
            arena.add_anon(2 * PAGE, 2 * PAGE)
        assert locked_pages(arena) == [1, 4]
        arena.drop_page_cache(2 * PAGE, 2 * PAGE)
        for page in (1, 4):
            with pytest.raises(InvalidSystemCallError, match="locked"):
                arena.drop_page_cache(page * PAGE, PAGE)


def test_failed_lock_of_a_replaced_segment_leaves_it_unlocked(known_file: KnownFile) -> None:
    with MemoryMappingArena.new(6 * PAGE) as arena, known_file.path.open("r+b") as file:
        arena.add_anon(0, 6 * PAGE)
        arena.lock()
        arena.add_fd_offset(2 * PAGE, 2 * PAGE, file, (LEFT - 1) * PAGE)
        cut_short(known_file.path)
        with locks_unchanged(arena), pytest.raises(MappingFaultError):
            arena.lock()
        assert locked_pages(arena) == [0, 1, 4, 5]


def test_locks_of_a_mapping_stay_in_the_arena_that_it_becomes(known_file: KnownFile) -> None:
    arena = MemoryMapping.from_file(known_file.path).into_arena()
    with arena:
        arena.lock(2 * PAGE, PAGE)
        cut_short(known_file.path)
        with locks_unchanged(arena), pytest.raises(MappingFaultError):
            arena.lock()
        assert locked_pages(arena) == [2]
    mapping = MemoryMapping.anonymous(4 * PAGE)
    mapping.lock(PAGE, PAGE)
    with mapping.into_arena() as arena:
        with pytest.raises(InvalidSystemCallError, match="locked"):
            arena.drop_page_cache(0, 2 * PAGE)
        arena.unlock(PAGE, PAGE)
        arena.drop_page_cache(0, 2 * PAGE)


# Many calls


def kept_by(calls: Callable[[], None]) -> int:
    """The bytes that Python holds after calls and did not before them."""
    calls()  # what is made once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        calls()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_many_locks_of_the_same_pages_keep_no_memory() -> None:
    with MemoryMapping.anonymous(16 * PAGE) as mapping:

        def lock_often() -> None:
            for call in range(2000):
                mapping.lock(call % 16 * PAGE, PAGE)
                mapping.lock()
                mapping.lock(call % 7, 0)

        assert kept_by(lock_often) < 16 << 10
        assert locked_pages(mapping) == list(range(16))


def test_many_locks_and_unlocks_keep_no_memory() -> None:
    with MemoryMapping.anonymous(16 * PAGE) as mapping:

        def lock_often() -> None:
            for call in range(2000):
                mapping.lock(call % 16 * PAGE, PAGE)
                mapping.unlock(call % 16 * PAGE, PAGE)

        assert kept_by(lock_often) < 16 << 10
        assert locked_pages(mapping) == []


def test_many_locks_that_fail_keep_no_memory(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as mapping:
        cut_short(known_file.path)

        def fail_often() -> None:
            for _ in range(100):
                try:
                    mapping.lock()
                except MmapError:
                    continue
                raise AssertionError("the file has no such pages")

        assert kept_by(fail_often) < 16 << 10


@pytest.mark.alone
def test_locks_of_many_single_pages_take_time_in_proportion_to_their_number() -> None:
    def seconds(count: int) -> float:
        with MemoryMapping.anonymous(2 * count * PAGE) as mapping:
            start = time.perf_counter()
            for page in range(count):
                mapping.lock(2 * page * PAGE, PAGE)
            return time.perf_counter() - start

    few = min(seconds(500) for _ in range(3))
    assert min(seconds(4000) for _ in range(2)) < 8 * 4 * few


def test_locked_pages_hold_their_content(mapping: MemoryMapping) -> None:
    assert mapping[2 * PAGE : 4 * PAGE] == known_bytes(16 * PAGE)[2 * PAGE : 4 * PAGE]
    mapping[2 * PAGE] = 0
    mapping.unlock_all()
    assert mapping[2 * PAGE] == 0


@pytest.mark.alone
def test_interrupted_lock_leaves_nothing_locked_that_is_not_remembered() -> None:
    size = 64 * MIB
    before = own_status("VmLck")
    interruptions = 0
    with MemoryMapping.anonymous(size) as m:
        for attempt in range(20):
            # The pages are read in by the first lock, and the later ones are fast.
            interrupted = interrupted_after(0.0005 * (attempt + 1), m.lock)
            interruptions += interrupted
            locked = own_status("VmLck") - before
            assert locked == (0 if interrupted else size)
            m.unlock(0, size)
            m.advise_destructive(DestructiveAdvice.REMOVE)
    assert interruptions > 0
