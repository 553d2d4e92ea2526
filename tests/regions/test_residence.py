"""Pages that are brought in, ahead of need or for good."""

import errno
import os
from contextlib import suppress

import pytest
from kernel_view import MIB, PAGE, KnownFile, amount, any_vm_flags, child, resident_pages, vm_flags
from marks import LOCKS_DO_NOTHING, kernel_may_take_pages
from protections import NONE, READ
from waiting import eventually

from mmapwrap import (
    ClosedMappingError,
    MappingFaultError,
    MemoryMapping,
    Protection,
    ProtectionError,
    Sharing,
)

# Locks


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_brings_the_pages_in_and_keeps_them() -> None:
    with MemoryMapping.new(4 * PAGE) as m:
        address = m.as_ptr()
        m.lock(PAGE, PAGE + 1)  # widened to the second and third page
        assert resident_pages(address, m.size) == b"\0\1\1\0"
        assert "lo" in vm_flags(address + PAGE, 2 * PAGE)
        assert "lo" not in any_vm_flags(address, PAGE)
        assert "lo" not in any_vm_flags(address + 3 * PAGE, PAGE)
        assert amount("Locked", address, m.size) == 2 * PAGE
        m.unlock(2 * PAGE, PAGE)
        assert amount("Locked", address, m.size) == PAGE
        m.unlock(PAGE + 5, 1)
        assert amount("Locked", address, m.size) == 0
        assert "lo" not in any_vm_flags(address, m.size)
        m.lock()
        assert amount("Locked", address, m.size) == 4 * PAGE


def test_lock_on_fault_keeps_the_pages_once_they_are_used() -> None:
    with MemoryMapping.new(4 * PAGE) as m:
        address = m.as_ptr()
        m.lock_on_fault(0, 3 * PAGE)
        assert "lo" in vm_flags(address, 3 * PAGE)
        assert "lo" not in any_vm_flags(address + 3 * PAGE, PAGE)
        assert resident_pages(address, m.size) == bytes(4)
        m[PAGE] = 1
        assert amount("Locked", address, m.size) == PAGE


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_all_and_unlock_all_are_for_the_whole_mapping() -> None:
    with MemoryMapping.new(3 * PAGE + 1) as m:
        m.lock_all()
        assert "lo" in vm_flags(m.as_ptr(), m.size)
        assert amount("Locked", m.as_ptr(), m.size) == 4 * PAGE
        m.unlock_all()
        assert "lo" not in any_vm_flags(m.as_ptr(), m.size)


def test_unlock_of_what_is_not_locked_does_nothing(of_memory: MemoryMapping) -> None:
    of_memory.unlock(0, PAGE)
    of_memory.unlock_all()
    assert "lo" not in any_vm_flags(of_memory.as_ptr(), of_memory.size)


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_past_the_limit_of_an_unprivileged_process_is_an_error() -> None:
    program = """
        import resource
        from kernel_view import PAGE, amount, any_vm_flags, become_unprivileged
        from mmapwrap import MemoryMapping, OperationNotPermittedError, OutOfMemoryError

        become_unprivileged()
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (2 * PAGE, 2 * PAGE))
        m = MemoryMapping.new(4 * PAGE)
        locks = [
            m.lock_all,
            lambda: m.lock(0, 3 * PAGE),
            lambda: m.lock_on_fault(PAGE, 3 * PAGE),
        ]
        for lock in locks:
            try:
                lock()
            except OutOfMemoryError as error:
                assert isinstance(error, MemoryError)
                print(error.errno, error.syscall)
            assert "lo" not in any_vm_flags(m.as_ptr(), m.size)
        m.lock(0, 2 * PAGE)
        print(amount("Locked", m.as_ptr(), m.size) // PAGE)
        m.unlock_all()
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        for lock in locks:
            try:
                lock()
            except OperationNotPermittedError as error:
                assert isinstance(error, PermissionError)
                print(error.errno)
    """
    lines = child(program).succeeded().splitlines()
    failed = [line.split()[0] for line in lines[:3]]
    assert failed == [str(errno.ENOMEM)] * 3
    assert {line.split()[1] for line in lines[:3]} <= {"mlock", "mlock2"}
    assert lines[3:] == ["2"] + [str(errno.EPERM)] * 3


# Prefetch and populate


@kernel_may_take_pages
def test_async_prefetch_reads_the_file_in(of_file: MemoryMapping) -> None:
    of_file.evict()
    assert resident_pages(of_file.as_ptr(), of_file.size) == bytes(16)
    of_file.async_prefetch(0, of_file.size)
    assert eventually(lambda: resident_pages(of_file.as_ptr(), of_file.size) == b"\1" * 16)
    assert amount("Rss", of_file.as_ptr(), of_file.size) == 0  # in the cache, not yet mapped


def test_populate_brings_the_pages_of_the_range_in() -> None:
    with MemoryMapping.new(8 * PAGE) as m:
        m.populate(PAGE + 1, PAGE)  # widened to the second and third page
        assert resident_pages(m.as_ptr(), m.size) == b"\0\1\1\0\0\0\0\0"
        m.populate(6 * PAGE)
        assert resident_pages(m.as_ptr(), m.size) == b"\0\1\1\0\0\0\1\1"
        m.populate()
        assert amount("Rss", m.as_ptr(), m.size) == 8 * PAGE


def test_populate_to_write_makes_the_private_copies(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as m:
        m.populate()
        assert amount("Anonymous", m.as_ptr(), m.size) == 0
        m.populate(PAGE, PAGE, write=True)
        assert amount("Anonymous", m.as_ptr(), m.size) == PAGE
        assert m[:] == known_file.content


def test_populate_reports_its_progress_to_the_end() -> None:
    size = 96 * MIB
    with MemoryMapping.new(size) as m:
        seen: list[tuple[int, int]] = []
        in_memory: list[int] = []

        def progress(done: int, total: int) -> None:
            seen.append((done, total))
            in_memory.append(amount("Rss", m.as_ptr(), size))

        m.populate(progress=progress)
        assert {total for _, total in seen} == {size}
        done = [done for done, _ in seen]
        assert done == sorted(set(done))
        assert done[-1] == size
        assert len(done) > 2, "96 MiB in a single window"
        assert all(rss >= at for rss, at in zip(in_memory, done, strict=True))


def test_populate_progress_that_raises_stops_it() -> None:
    size = 96 * MIB
    with MemoryMapping.new(size) as m:

        def progress(done: int, total: int) -> None:
            if done >= total // 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            m.populate(write=True, progress=progress)
        populated = amount("Rss", m.as_ptr(), size)
        assert size // 4 <= populated < size
        m.populate(write=True)
        assert amount("Rss", m.as_ptr(), size) == size


def test_populate_progress_that_closes_the_mapping_does_not_crash() -> None:
    m = MemoryMapping.new(96 * MIB)

    def progress(done: int, total: int) -> None:
        m.close()

    with suppress(ClosedMappingError):
        m.populate(progress=progress)
    assert m.closed


def test_populate_of_a_small_range_reports_the_range() -> None:
    with MemoryMapping.new(8 * PAGE) as m:
        seen: list[tuple[int, int]] = []
        m.populate(2 * PAGE, 3 * PAGE, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (3 * PAGE, 3 * PAGE)


@pytest.mark.parametrize(
    ("prot", "write"), [(NONE, False), (NONE, True), (READ, True)], ids=["none", "none_w", "read_w"]
)
def test_populate_without_the_access_is_refused(prot: Protection, write: bool) -> None:
    with MemoryMapping.anonymous(2 * PAGE, prot=prot) as m:
        with pytest.raises(ProtectionError) as caught:
            m.populate(write=write)
        assert caught.value.actual == prot
        assert amount("Rss", m.as_ptr(), m.size) == 0


def test_populate_past_the_end_of_the_file_is_an_error_and_not_a_signal(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        os.truncate(known_file.path, 8 * PAGE)
        m.populate(0, 8 * PAGE)
        with pytest.raises(MappingFaultError) as caught:
            m.populate()
        assert (caught.value.offset, caught.value.pages) == (8 * PAGE, 1)


def test_populate_progress_that_is_no_function_is_a_type_error() -> None:
    with MemoryMapping.new(PAGE) as mapping, pytest.raises(TypeError, match="progress must be"):
        mapping.populate(progress=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
