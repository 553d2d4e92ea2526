"""Pages that are given back, and which of them are in memory."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from kernel_view import (
    MIB,
    PAGE,
    KnownFile,
    amount,
    child,
    free_address,
    known_bytes,
    open_descriptors,
    resident_pages,
)
from marks import LOCKS_DO_NOTHING, kernel_may_take_pages
from protections import READ, RW

from mmapwrap import (
    AccessDeniedError,
    InvalidSystemCallError,
    MemoryMapping,
    MmapError,
    ProtectionError,
    Residency,
    Sharing,
    UnsupportedOperationError,
)

# Dropping, removing, evicting


def test_drop_page_cache_of_shared_memory_keeps_the_content(of_memory: MemoryMapping) -> None:
    address = of_memory.as_ptr()
    assert amount("Rss", address, of_memory.size) == 4 * PAGE
    of_memory.drop_page_cache(PAGE, 2 * PAGE)
    assert amount("Rss", address, of_memory.size) == 2 * PAGE
    assert of_memory[:] == known_bytes(4 * PAGE)


def test_drop_page_cache_of_a_file_keeps_what_was_written(
    of_file: MemoryMapping, known_file: KnownFile
) -> None:
    of_file[0] = 0
    of_file.drop_page_cache(0, of_file.size)
    assert amount("Rss", of_file.as_ptr(), of_file.size) == 0
    assert of_file[:] == b"\0" + known_file.content[1:]


def test_drop_page_cache_of_a_private_file_mapping_shows_the_file_again(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as m:
        m[:] = bytes(m.size)
        m.drop_page_cache(PAGE, PAGE)
        assert m[:] == bytes(PAGE) + known_file.content[PAGE : 2 * PAGE] + bytes(14 * PAGE)


def test_remove_range_reads_as_zero_in_the_file_and_frees_its_blocks(
    of_file: MemoryMapping, known_file: KnownFile
) -> None:
    blocks = known_file.path.stat().st_blocks
    of_file.remove_range(4 * PAGE, 8 * PAGE)
    content = known_file.content
    expected = content[: 4 * PAGE] + bytes(8 * PAGE) + content[12 * PAGE :]
    assert of_file[:] == expected
    assert known_file.path.read_bytes() == expected
    assert known_file.path.stat().st_blocks <= blocks - 8 * PAGE // 512


def test_remove_range_of_memory_frees_the_pages(of_memory: MemoryMapping) -> None:
    of_memory.remove_range(0, 2 * PAGE)
    assert resident_pages(of_memory.as_ptr(), of_memory.size) == b"\0\0\1\1"
    assert of_memory[:] == bytes(2 * PAGE) + known_bytes(4 * PAGE)[2 * PAGE :]


def test_remove_range_at_the_regions_end_keeps_the_file_behind_it(known_file: KnownFile) -> None:
    # The region ends 5 bytes into a page; the rest of that page in the file is not the region's.
    with MemoryMapping.from_file(known_file.path, 2 * PAGE + 5) as m:
        m.remove_range(PAGE, PAGE + 5)
        assert m[PAGE:] == bytes(PAGE + 5)
    expected = known_file.content[:PAGE] + bytes(PAGE + 5) + known_file.content[2 * PAGE + 5 :]
    assert known_file.path.read_bytes() == expected


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_remove_range_of_locked_pages_is_refused(of_file: MemoryMapping) -> None:
    of_file.lock(0, PAGE)
    before = of_file[:]
    with pytest.raises(InvalidSystemCallError) as caught:
        of_file.remove_range(0, PAGE)
    assert (caught.value.errno, caught.value.syscall) == (errno.EINVAL, "madvise")
    assert of_file[:] == before


def test_remove_range_through_a_read_only_mapping_is_refused(known_file: KnownFile) -> None:
    # The kernel would do it: the descriptor is writable.
    with (
        known_file.path.open("r+b") as file,
        MemoryMapping.from_file(file, prot=READ) as m,
        pytest.raises(ProtectionError) as caught,
    ):
        m.remove_range(0, PAGE)
    assert caught.value.actual == READ
    assert known_file.path.read_bytes() == known_file.content


def test_remove_range_of_a_private_mapping_is_refused_and_keeps_the_file(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as m:
        m[0] = 0
        with pytest.raises(MmapError) as caught:
            m.remove_range(0, PAGE)
        assert isinstance(
            caught.value, UnsupportedOperationError | AccessDeniedError | InvalidSystemCallError
        )
        assert m[:2] == b"\0" + known_file.content[1:2]
    assert known_file.path.read_bytes() == known_file.content


@kernel_may_take_pages
def test_evict_takes_the_file_out_of_the_page_cache(
    of_file: MemoryMapping, known_file: KnownFile
) -> None:
    of_file.populate()
    of_file[PAGE] = 0  # not yet on disk
    assert resident_pages(of_file.as_ptr(), of_file.size) == b"\1" * 16
    descriptors = open_descriptors()
    of_file.evict()
    assert resident_pages(of_file.as_ptr(), of_file.size) == bytes(16)
    assert open_descriptors() == descriptors
    expected = known_file.content[:PAGE] + b"\0" + known_file.content[PAGE + 1 :]
    assert of_file[:] == expected
    assert known_file.path.read_bytes() == expected


@kernel_may_take_pages
def test_evict_of_a_range_leaves_the_rest(disk_path: Path) -> None:
    # Pages go in folios of up to 2 MiB: a range of whole ones.
    path = disk_path / "large"
    path.write_bytes(known_bytes(8 * MIB))
    with MemoryMapping.from_file(path) as m:
        m.populate()
        m.evict(4 * MIB, 2 * MIB)
        pages = resident_pages(m.as_ptr(), m.size)
        assert pages[: 4 * MIB // PAGE] == b"\1" * (4 * MIB // PAGE)
        assert pages[4 * MIB // PAGE : 6 * MIB // PAGE] == bytes(2 * MIB // PAGE)
        assert pages[6 * MIB // PAGE :] == b"\1" * (2 * MIB // PAGE)
        m.evict(6 * MIB)
        assert resident_pages(m.as_ptr() + 4 * MIB, 4 * MIB) == bytes(4 * MIB // PAGE)


@kernel_may_take_pages
def test_evict_of_a_region_inside_the_file_evicts_that_part(disk_path: Path) -> None:
    path = disk_path / "large"
    path.write_bytes(known_bytes(8 * MIB))
    with (
        MemoryMapping.from_file(path) as whole,
        MemoryMapping.from_file(path, 2 * MIB, offset=4 * MIB) as part,
    ):
        whole.populate()
        whole.drop_page_cache(0, whole.size)  # a page that is mapped elsewhere stays
        part.evict()
        assert resident_pages(part.as_ptr(), part.size) == bytes(2 * MIB // PAGE)
        assert resident_pages(whole.as_ptr(), 4 * MIB) == b"\1" * (4 * MIB // PAGE)


@kernel_may_take_pages
def test_evict_of_no_bytes_at_the_end_leaves_what_is_mapped_behind_it(disk_path: Path) -> None:
    path = disk_path / "behind"
    path.write_bytes(known_bytes(16 * PAGE))
    fixed = MemoryMapping.from_descriptor_offset_protection_fixed
    address = free_address(16 * PAGE)
    with path.open("r+b") as file, fixed(address, file, 8 * PAGE, 0, RW) as m:
        with fixed(address + 8 * PAGE, file, 8 * PAGE, 8 * PAGE, RW) as behind:
            m.populate()
            behind.populate()
            m.evict(m.size, 0)
            m.evict(0, 0)
            assert resident_pages(address, 16 * PAGE) == b"\1" * 16
        m.evict(m.size, 0)  # with nothing there at all


@kernel_may_take_pages
def test_evict_follows_the_file_and_not_its_name(
    of_file: MemoryMapping, known_file: KnownFile
) -> None:
    moved = known_file.path.with_name("moved")
    known_file.path.rename(moved)
    known_file.path.write_bytes(known_bytes(16 * PAGE))
    with MemoryMapping.from_file(known_file.path, prot=READ) as other:
        other.populate()
        of_file.populate()
        of_file.evict()
        assert resident_pages(of_file.as_ptr(), of_file.size) == bytes(16)
        assert resident_pages(other.as_ptr(), other.size) == b"\1" * 16


def test_evict_of_a_private_mapping_keeps_its_copies(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as m:
        m[0] = 0
        with suppress(UnsupportedOperationError):
            m.evict()
        assert m[:] == b"\0" + known_file.content[1:]
    assert known_file.path.read_bytes() == known_file.content


def test_evict_of_memory_is_unsupported(
    of_memory: MemoryMapping, of_private_memory: MemoryMapping
) -> None:
    for m in (of_memory, of_private_memory):
        with pytest.raises(UnsupportedOperationError) as caught:
            m.evict()
        assert isinstance(caught.value, NotImplementedError)
        assert "evict" in caught.value.operation
        assert m[:] == known_bytes(4 * PAGE)


@kernel_may_take_pages
def test_evict_unprivileged_takes_the_file_out(known_file: KnownFile) -> None:
    program = """
        import os, sys
        from kernel_view import PAGE, become_unprivileged, resident_pages
        from mmapwrap import MemoryMapping

        path = sys.argv[1]
        os.chmod(os.path.dirname(path), 0o777)
        os.chmod(path, 0o666)
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        with MemoryMapping.from_file(path) as m:
            become_unprivileged()
            m.populate()
            m[0] = 7
            m.evict()
            print(sum(resident_pages(m.as_ptr(), m.size)), m[0])
    """
    if any(parent.stat().st_mode & 0o001 == 0 for parent in known_file.path.parents[1:]):
        pytest.skip("another user cannot reach the temporary directory")
    assert child(program, known_file.path).succeeded() == "0 7\n"


# residency


def test_residency_is_what_mincore_says() -> None:
    with MemoryMapping.new(6 * PAGE) as m:
        for page in (1, 2, 5):
            m[page * PAGE] = 1
        residency = m.residency()
        assert residency.pages == b"\0\1\1\0\0\1" == resident_pages(m.as_ptr(), m.size)
        assert (residency.offset, residency.page_size) == (0, PAGE)
        assert (len(residency), residency.total, residency.resident) == (6, 6, 3)
        assert residency.resident_bytes == 3 * PAGE
        assert residency.fraction == 0.5
        assert list(residency.ranges()) == [(PAGE, 2 * PAGE), (5 * PAGE, PAGE)]


def test_residency_keeps_bytes_of_its_own(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path) as m:
        told = Residency(0, PAGE, m.view())
        os.truncate(known_file.path, 0)
        assert told.pages == known_file.content
        assert told.total == len(known_file.content)
        assert told.resident <= told.total


def test_residency_of_a_range_is_of_its_pages() -> None:
    with MemoryMapping.new(6 * PAGE) as m:
        m[2 * PAGE] = 1
        residency = m.residency(PAGE + 5, PAGE)  # from inside one page to inside the next
        assert (residency.offset, residency.pages) == (PAGE, b"\0\1")
        assert list(residency.ranges()) == [(2 * PAGE, PAGE)]
        assert m.residency(3 * PAGE).pages == b"\0\0\0"
        assert m.residency(PAGE, 0).total == 0


@kernel_may_take_pages
def test_residency_of_a_region_inside_a_page_starts_before_it(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, PAGE, offset=PAGE + 100) as m:
        m.populate()
        residency = m.residency()
        assert (residency.offset, residency.pages) == (-100, b"\1\1")
        assert list(residency.ranges()) == [(-100, 2 * PAGE)]
        assert m.residency(PAGE - 100).offset == PAGE - 100


@kernel_may_take_pages
def test_residency_of_a_file_counts_what_others_read_in(
    of_file: MemoryMapping, known_file: KnownFile
) -> None:
    of_file.evict()
    assert of_file.residency().resident == 0
    assert of_file.residency().fraction == 0
    child("import sys; open(sys.argv[1], 'rb').read()", known_file.path).succeeded()
    assert of_file.residency().resident == 16
    assert of_file.residency().fraction == 1
    assert list(of_file.residency().ranges()) == [(0, 16 * PAGE)]


def test_residency_does_not_bring_anything_in() -> None:
    with MemoryMapping.new(4 * PAGE) as m:
        m.residency()
        assert amount("Rss", m.as_ptr(), m.size) == 0


@pytest.fixture
def sparse_path(disk_path: Path) -> Path:
    """A file of 64 MiB that holds nothing, which another user finds."""
    path = disk_path / "sparse"
    path.touch()
    os.truncate(path, 64 * MIB)
    disk_path.chmod(0o755)
    return path


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_residency_of_locked_pages_does_not_bring_anything_in(sparse_path: Path) -> None:
    with (
        MemoryMapping.from_file(sparse_path) as whole,
        MemoryMapping.from_file(sparse_path, PAGE) as m,
    ):
        m.lock()
        assert m.residency().pages == b"\1"
        assert whole.residency().resident_bytes <= 8 * MIB  # what was read ahead


# What comes before a file is mapped, and after.
LOCKED = {
    "locked": ("", "m.lock()"),
    "locked on fault": ("", "m.lock_on_fault(0, PAGE)"),
    "locked up to the limit": ("", "m.lock(); setrlimit(RLIMIT_MEMLOCK, (PAGE, PAGE))"),
    "all that comes": ("assert ctypes.CDLL(None).mlockall(MCL_FUTURE) == 0", ""),
}


@kernel_may_take_pages
@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@pytest.mark.parametrize("mode", [0o666, 0o644], ids=oct)
@pytest.mark.parametrize("lock", LOCKED)
def test_residency_of_locked_pages_is_told_and_withheld_like_that_of_others(
    lock: str, mode: int, sparse_path: Path
) -> None:
    before, after = LOCKED[lock]
    program = f"""
        import ctypes, sys
        from resource import RLIMIT_MEMLOCK, setrlimit
        from kernel_view import PAGE, become_unprivileged
        from mmapwrap import MemoryMapping, OperationNotPermittedError, Protection

        MCL_FUTURE = 2
        become_unprivileged()
        {before}
        m = MemoryMapping.from_file(sys.argv[1], PAGE, prot=Protection.read())
        m.populate()
        {after}
        try:
            print(m.residency().resident, "resident")
        except OperationNotPermittedError:
            print("withheld")
    """
    sparse_path.chmod(mode)
    is_withheld = mode == 0o644 and os.geteuid() == 0
    ended = child(program, sparse_path, measured=False)
    assert ended.succeeded() == ("withheld\n" if is_withheld else "1 resident\n")


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_residency_where_no_more_can_be_locked_and_all_must_be_is_an_error(
    sparse_path: Path,
) -> None:
    program = """
        import ctypes, sys
        from resource import RLIMIT_MEMLOCK, setrlimit
        from kernel_view import PAGE, become_unprivileged, spare_memory
        from mmapwrap import LockLimitError, MemoryMapping

        MCL_FUTURE = 2
        become_unprivileged()
        spare = spare_memory()
        assert ctypes.CDLL(None).mlockall(MCL_FUTURE) == 0
        m = MemoryMapping.from_file(sys.argv[1], PAGE)
        setrlimit(RLIMIT_MEMLOCK, (0, 0))
        try:
            m.residency()
        except LockLimitError as error:
            print(error.syscall)
    """
    sparse_path.chmod(0o666)
    assert child(program, sparse_path, measured=False).succeeded() == "mmap\n"
