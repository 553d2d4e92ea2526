"""Range operations of `MemoryMapping`: their effect as the kernel, the file and others see it."""

import errno
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kernel_view import (
    MIB,
    PAGE,
    Index,
    KnownFile,
    amount,
    any_vm_flags,
    child,
    dirty,
    free_address,
    known_bytes,
    open_descriptors,
    perms,
    resident_pages,
    usages,
    vm_flags,
)
from marks import LOCKS_DO_NOTHING, kernel_may_take_pages
from protections import NONE, READ, RW

from mmapwrap import (
    AccessDeniedError,
    Advice,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidRangeError,
    InvalidSystemCallError,
    MappingFaultError,
    MemoryMapping,
    MmapError,
    NotPageAlignedError,
    Protection,
    ProtectionError,
    RegionBusyError,
    Residency,
    Sharing,
    SyncMode,
    UnsupportedOperationError,
    ViewsExportedError,
)

HUGE_PAGE_SIZE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


def needs(advice: Advice | DestructiveAdvice) -> pytest.MarkDecorator:
    """Skip where the running kernel does not know an advice."""
    return pytest.mark.skipif(
        not advice.is_supported(), reason=f"this kernel does not know MADV_{advice.name}"
    )


needs_huge_pages = pytest.mark.skipif(
    not HUGE_PAGE_SIZE_FILE.exists(), reason="this kernel has no transparent huge pages"
)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Four pages of shared memory, known bytes in all."""
    with MemoryMapping.new(4 * PAGE) as m:
        m[:] = known_bytes(m.size)
        yield m


@pytest.fixture
def private() -> Iterator[MemoryMapping]:
    """Four pages of private memory, known bytes in all."""
    with MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(m.size)
        yield m


@pytest.fixture
def of_file(known_file: KnownFile) -> Iterator[MemoryMapping]:
    """A whole file, 16 pages, mapped shared and writable."""
    with MemoryMapping.from_file(known_file.path) as m:
        yield m


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether a condition holds by then, for what the kernel does on its own time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# The rules of ranges

Ranged = Callable[[MemoryMapping, Any, Any], object]

WIDENED: dict[str, Ranged] = {
    "advise": lambda m, offset, count: m.advise(Advice.NORMAL, offset, count),
    "msync": lambda m, offset, count: m.msync(offset, count),
    "lock": lambda m, offset, count: m.lock(offset, count),
    "lock_on_fault": lambda m, offset, count: m.lock_on_fault(offset, count),
    "unlock": lambda m, offset, count: m.unlock(offset, count),
    "async_prefetch": lambda m, offset, count: m.async_prefetch(offset, count),
    "populate": lambda m, offset, count: m.populate(offset, count),
    "populate_write": lambda m, offset, count: m.populate(offset, count, write=True),
    "residency": lambda m, offset, count: m.residency(offset, count),
}
STRICT: dict[str, Ranged] = {
    "advise_destructive": lambda m, offset, count: m.advise_destructive(
        DestructiveAdvice.DONTNEED, offset, count
    ),
    "protect": lambda m, offset, count: m.protect(NONE, offset, count),
    "drop_page_cache": lambda m, offset, count: m.drop_page_cache(offset, count),
    "remove_range": lambda m, offset, count: m.remove_range(offset, count),
    "evict": lambda m, offset, count: m.evict(offset, count),
}
RANGED = WIDENED | STRICT
TO_THE_END = {"advise", "msync", "populate", "populate_write", "residency"} | {
    "advise_destructive",
    "protect",
    "evict",
}
WHOLE: dict[str, Callable[[MemoryMapping], object]] = {
    "lock_all": lambda m: m.lock_all(),
    "unlock_all": lambda m: m.unlock_all(),
    "use_dontfork": lambda m: m.use_dontfork(),
    "use_hugepages": lambda m: m.use_hugepages(),
}


def over(table: dict[str, Any]) -> pytest.MarkDecorator:
    """Run a test once for each operation of a table."""
    return pytest.mark.parametrize("operation", table.values(), ids=table.keys())


@over(RANGED)
@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (-PAGE, PAGE),
        (0, -PAGE),
        (0, 17 * PAGE),
        (16 * PAGE, PAGE),
        (17 * PAGE, 0),
        (PAGE, 16 * PAGE),
        (2**63, PAGE),
        (2**64 - PAGE, PAGE),
        (2**64, 0),
        (0, 2**64),
        (PAGE, 2**64),
        (-(2**64), 2**64),
    ],
)
def test_range_outside_is_refused_and_nothing_happens(
    operation: Ranged, offset: int, count: int, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        operation(of_file, offset, count)
    error = caught.value
    assert (error.offset, error.count, error.region_size) == (offset, count, of_file.size)
    assert "lo" not in any_vm_flags(of_file.as_ptr(), of_file.size)
    assert of_file[:] == known_file.content


@pytest.mark.parametrize("name", sorted(TO_THE_END))
def test_range_without_count_starting_past_the_end_is_refused(
    name: str, of_file: MemoryMapping
) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        RANGED[name](of_file, 17 * PAGE, None)
    assert (caught.value.offset, caught.value.region_size) == (17 * PAGE, of_file.size)


@over(RANGED)
@pytest.mark.parametrize(
    ("offset", "count"), [(0.0, PAGE), (0, float(PAGE)), ("0", PAGE), (0, "1"), (None, PAGE)]
)
def test_range_not_of_integers_is_refused(
    operation: Ranged, offset: object, count: object, of_file: MemoryMapping
) -> None:
    with pytest.raises(TypeError) as caught:
        operation(of_file, offset, count)
    assert not isinstance(caught.value, ProtectionError)


@over(RANGED)
def test_range_by_index_methods_is_taken(operation: Ranged, of_file: MemoryMapping) -> None:
    operation(of_file, Index(PAGE), Index(PAGE))


@over(RANGED)
@pytest.mark.parametrize("offset", [0, PAGE, 16 * PAGE])
def test_range_of_no_bytes_does_nothing(
    operation: Ranged, offset: int, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    before = [(usage.vma, usage.flags) for usage in usages(of_file.as_ptr(), of_file.size)]
    operation(of_file, offset, 0)
    after = [(usage.vma, usage.flags) for usage in usages(of_file.as_ptr(), of_file.size)]
    assert before == after
    of_file[0] = 9
    assert of_file[:] == b"\x09" + known_file.content[1:]


@over(WIDENED)
@pytest.mark.parametrize(
    ("offset", "count"), [(1, 1), (PAGE - 1, 2), (5, 3 * PAGE), (16 * PAGE - 1, 1), (0, 1)]
)
def test_range_harmless_is_widened_to_its_pages(
    operation: Ranged, offset: int, count: int, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    operation(of_file, offset, count)
    assert of_file[:] == known_file.content


@over(WIDENED)
@pytest.mark.parametrize("name", ["from inside a page", "to inside a page"])
def test_range_harmless_of_a_region_inside_pages_is_widened(
    operation: Ranged, name: str, known_file: KnownFile
) -> None:
    offset = PAGE + 100 if name == "from inside a page" else PAGE
    with MemoryMapping.from_file(known_file.path, 2 * PAGE + 5, offset=offset) as m:
        operation(m, 0, m.size)
        operation(m, 0, 1)
        operation(m, m.size - 1, 1)
        assert m[:] == known_file.content[offset : offset + m.size]


@over(STRICT)
@pytest.mark.parametrize(
    ("offset", "count"),
    [(1, PAGE), (0, 1), (0, PAGE + 1), (PAGE, 1), (PAGE - 1, PAGE), (1, None), (16 * PAGE - 1, 1)],
)
def test_range_destructive_not_on_pages_is_refused_and_nothing_happens(
    operation: Ranged,
    offset: int,
    count: int | None,
    of_file: MemoryMapping,
    known_file: KnownFile,
) -> None:
    of_file[0] = 9
    if count is None:
        count = of_file.size - offset
    with pytest.raises(NotPageAlignedError) as caught:
        operation(of_file, offset, count)
    assert isinstance(caught.value, ValueError)
    assert caught.value.page_size == PAGE
    assert caught.value.value % PAGE != 0
    assert set(perms(of_file.as_ptr(), of_file.size)) == {"rw-s"}
    assert of_file[:] == b"\x09" + known_file.content[1:]
    assert known_file.path.read_bytes() == b"\x09" + known_file.content[1:]


@over(STRICT)
def test_range_destructive_of_no_bytes_is_still_checked(
    operation: Ranged, of_file: MemoryMapping
) -> None:
    with pytest.raises(NotPageAlignedError):
        operation(of_file, 1, 0)
    with pytest.raises(InvalidRangeError):
        operation(of_file, 16 * PAGE + 1, 0)


@over(STRICT)
def test_range_destructive_may_end_with_the_region_inside_a_page(
    operation: Ranged, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, 2 * PAGE + 5) as m:
        with pytest.raises(NotPageAlignedError):
            operation(m, PAGE, PAGE + 4)
        operation(m, PAGE, PAGE + 5)


@over(STRICT)
def test_range_destructive_must_start_on_a_page_of_memory_not_of_the_region(
    operation: Ranged, known_file: KnownFile
) -> None:
    # A region that starts 100 bytes into a page: what is before it in that page is not its own.
    with MemoryMapping.from_file(known_file.path, 3 * PAGE, offset=PAGE + 100) as m:
        for offset in (0, PAGE):
            with pytest.raises(NotPageAlignedError):
                operation(m, offset, PAGE)
        assert known_file.path.read_bytes() == known_file.content
        operation(m, PAGE - 100, PAGE)


@over(RANGED)
def test_range_of_a_closed_mapping_is_refused(operation: Ranged) -> None:
    m = MemoryMapping.new(PAGE)
    m.close()
    with pytest.raises(ClosedMappingError):
        operation(m, 0, PAGE)


@over(WHOLE)
def test_whole_mapping_operation_of_a_closed_mapping_is_refused(
    operation: Callable[[MemoryMapping], object],
) -> None:
    m = MemoryMapping.new(PAGE)
    m.close()
    with pytest.raises(ClosedMappingError):
        operation(m)


# advise


@pytest.mark.parametrize(
    ("advice", "undo", "flag"),
    [
        pytest.param(Advice.RANDOM, Advice.NORMAL, "rr", id="random"),
        pytest.param(Advice.SEQUENTIAL, Advice.NORMAL, "sr", id="sequential"),
        pytest.param(Advice.DONTFORK, Advice.DOFORK, "dc", id="dontfork"),
        pytest.param(
            Advice.HUGEPAGE, Advice.NOHUGEPAGE, "hg", id="hugepage", marks=needs_huge_pages
        ),
        pytest.param(
            Advice.NOHUGEPAGE, Advice.HUGEPAGE, "nh", id="nohugepage", marks=needs_huge_pages
        ),
        pytest.param(
            Advice.MERGEABLE,
            Advice.UNMERGEABLE,
            "mg",
            id="mergeable",
            marks=needs(Advice.MERGEABLE),
        ),
        pytest.param(
            Advice.WIPEONFORK,
            Advice.KEEPONFORK,
            "wf",
            id="wipeonfork",
            marks=needs(Advice.WIPEONFORK),
        ),
    ],
)
def test_advise_sets_and_clears_the_flag_of_the_pages(
    advice: Advice, undo: Advice, flag: str, private: MemoryMapping
) -> None:
    address = private.as_ptr()
    private.advise(advice)
    assert flag in vm_flags(address, 4 * PAGE)
    private.advise(undo)
    assert flag not in any_vm_flags(address, 4 * PAGE)
    private.advise(advice, PAGE + 1, PAGE)  # widened to the second and third page
    assert flag not in any_vm_flags(address, PAGE)
    assert flag in vm_flags(address + PAGE, 2 * PAGE)
    assert flag not in any_vm_flags(address + 3 * PAGE, PAGE)
    assert private[:] == known_bytes(4 * PAGE)


def test_advise_dodump_puts_the_pages_into_core_dumps(mapping: MemoryMapping) -> None:
    mapping.advise(Advice.DODUMP, 0, PAGE)
    assert "dd" not in any_vm_flags(mapping.as_ptr(), PAGE)
    assert "dd" in vm_flags(mapping.as_ptr() + PAGE, 3 * PAGE)
    mapping.advise(Advice.DONTDUMP)
    assert "dd" in vm_flags(mapping.as_ptr(), 4 * PAGE)


@needs(Advice.POPULATE_READ)
@pytest.mark.parametrize("advice", [Advice.POPULATE_READ, Advice.POPULATE_WRITE])
def test_advise_populate_brings_the_pages_in(advice: Advice) -> None:
    with MemoryMapping.new(8 * PAGE) as m:
        m.advise(advice, 2 * PAGE, 3 * PAGE)
        assert resident_pages(m.as_ptr(), m.size) == b"\0\0\1\1\1\0\0\0"
        assert amount("Rss", m.as_ptr(), m.size) == 3 * PAGE


@kernel_may_take_pages
def test_advise_willneed_reads_the_file_in(of_file: MemoryMapping) -> None:
    of_file.evict()
    assert resident_pages(of_file.as_ptr(), of_file.size) == bytes(16)
    of_file.advise(Advice.WILLNEED)
    assert eventually(lambda: resident_pages(of_file.as_ptr(), of_file.size) == b"\1" * 16)


@needs(Advice.PAGEOUT)
def test_advise_pageout_takes_the_pages_of_a_file_out(of_file: MemoryMapping) -> None:
    of_file.populate()
    of_file.msync()
    assert amount("Rss", of_file.as_ptr(), of_file.size) == 16 * PAGE
    of_file.advise(Advice.PAGEOUT)
    assert amount("Rss", of_file.as_ptr(), of_file.size) < 16 * PAGE


@needs(Advice.COLD)
def test_advise_cold_keeps_the_content(mapping: MemoryMapping) -> None:
    mapping.advise(Advice.COLD)
    assert mapping[:] == known_bytes(4 * PAGE)


@needs_huge_pages
@needs(Advice.COLLAPSE)
def test_advise_collapse_makes_huge_pages() -> None:
    huge = int(HUGE_PAGE_SIZE_FILE.read_text())
    with MemoryMapping.anonymous(2 * huge, sharing=Sharing.PRIVATE, align=huge) as m:
        m.advise(Advice.NOHUGEPAGE)
        m.populate(write=True)
        assert amount("AnonHugePages", m.as_ptr(), m.size) == 0
        m.advise(Advice.HUGEPAGE)
        m.advise(Advice.COLLAPSE)
        assert amount("AnonHugePages", m.as_ptr(), m.size) == 2 * huge


@pytest.mark.parametrize("wrong", [DestructiveAdvice.DONTNEED, 4, 9, "DONTNEED", None, 0.0])
def test_advise_takes_only_harmless_advice(wrong: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping.advise(wrong)
    assert mapping[:] == known_bytes(4 * PAGE)


def test_advise_that_does_not_fit_the_memory_is_an_error(mapping: MemoryMapping) -> None:
    with pytest.raises(InvalidSystemCallError) as caught:
        mapping.advise(Advice.WIPEONFORK)  # only for private memory
    assert isinstance(caught.value, ValueError)
    assert (caught.value.errno, caught.value.syscall) == (errno.EINVAL, "madvise")


# advise_destructive


def test_advise_destructive_dontneed_drops_private_copies(private: MemoryMapping) -> None:
    private.advise_destructive(DestructiveAdvice.DONTNEED, PAGE, 2 * PAGE)
    content = known_bytes(4 * PAGE)
    assert private[:] == content[:PAGE] + bytes(2 * PAGE) + content[3 * PAGE :]


def test_advise_destructive_dontneed_keeps_shared_memory(mapping: MemoryMapping) -> None:
    assert amount("Rss", mapping.as_ptr(), mapping.size) == 4 * PAGE
    mapping.advise_destructive(DestructiveAdvice.DONTNEED)
    assert amount("Rss", mapping.as_ptr(), mapping.size) == 0
    assert mapping[:] == known_bytes(4 * PAGE)


def test_advise_destructive_remove_frees_the_pages(mapping: MemoryMapping) -> None:
    mapping.advise_destructive(DestructiveAdvice.REMOVE, PAGE, PAGE)
    assert resident_pages(mapping.as_ptr(), mapping.size) == b"\1\0\1\1"
    assert mapping[PAGE : 2 * PAGE] == bytes(PAGE)


@needs(DestructiveAdvice.FREE)
def test_advise_destructive_free_leaves_each_page_old_or_zero(private: MemoryMapping) -> None:
    assert dirty(private.as_ptr(), private.size) == 4 * PAGE
    private.advise_destructive(DestructiveAdvice.FREE)
    assert dirty(private.as_ptr(), private.size) == 0  # nothing that would have to be kept
    content = known_bytes(4 * PAGE)
    for start in range(0, 4 * PAGE, PAGE):
        assert private[start : start + PAGE] in (content[start : start + PAGE], bytes(PAGE))


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@needs(DestructiveAdvice.DONTNEED_LOCKED)
def test_advise_destructive_locked_pages_need_the_advice_for_them(private: MemoryMapping) -> None:
    private.lock(0, PAGE)
    with pytest.raises(InvalidSystemCallError):
        private.advise_destructive(DestructiveAdvice.DONTNEED)
    assert private[:PAGE] == known_bytes(PAGE)
    private.advise_destructive(DestructiveAdvice.DONTNEED_LOCKED)
    assert private[:] == bytes(4 * PAGE)


@pytest.mark.parametrize("wrong", [Advice.NORMAL, 4, "DONTNEED", None])
def test_advise_destructive_takes_only_its_own(wrong: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping.advise_destructive(wrong)
    assert mapping[:] == known_bytes(4 * PAGE)


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_advise_destructive_guard_pages_are_refused_and_never_a_signal() -> None:
    program = """
        from kernel_view import PAGE
        from mmapwrap import (
            DestructiveAdvice, MemoryMapping, MmapError, Sharing, ViewsExportedError
        )

        m = MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE)
        m[:] = b"x" * m.size
        with m.view():
            try:
                m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, PAGE, PAGE)
            except ViewsExportedError as error:
                print(error.views)
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, PAGE, PAGE)
        print(m[PAGE - 1], m[2 * PAGE])
        uses = [
            lambda: m[PAGE],
            lambda: m[:],
            lambda: m.view(),
            lambda: m.view(PAGE, PAGE),
            lambda: m.read_slice(bytearray(4 * PAGE), 0),
            lambda: m.write_slice(b"y" * PAGE, PAGE),
        ]
        for use in uses:
            try:
                use()
            except MmapError:
                print("refused")
        m.advise_destructive(DestructiveAdvice.GUARD_REMOVE, PAGE, PAGE)
        print(m[PAGE], m[PAGE - 1])
    """
    expected = "1\n120 120\n" + "refused\n" * 6 + "0 120\n"
    assert child(program).succeeded() == expected


# msync


def test_msync_writes_the_pages_out(of_file: MemoryMapping) -> None:
    of_file[0] = of_file[5 * PAGE] = 9
    address, size = of_file.as_ptr(), of_file.size
    assert dirty(address, size) >= 2 * PAGE
    of_file.msync()
    assert dirty(address, size) == 0


def test_msync_of_a_range_writes_out_its_pages_at_least(of_file: MemoryMapping) -> None:
    of_file[5 * PAGE + 1] = 9
    of_file.msync(5 * PAGE + 1, 1)
    assert dirty(of_file.as_ptr(), of_file.size) == 0


@pytest.mark.parametrize("mode", SyncMode)
@pytest.mark.parametrize("invalidate", [False, True])
def test_msync_any_mode_keeps_the_content(
    mode: SyncMode, invalidate: bool, of_file: MemoryMapping, known_file: KnownFile
) -> None:
    of_file[3] = 0
    of_file.msync(mode=mode, invalidate=invalidate)
    of_file.msync(1, 2, mode, invalidate)
    expected = known_file.content[:3] + b"\0" + known_file.content[4:]
    assert of_file[:] == expected
    assert known_file.path.read_bytes() == expected


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_msync_invalidate_of_locked_pages_is_busy(of_file: MemoryMapping) -> None:
    of_file.lock(0, PAGE)
    with pytest.raises(RegionBusyError) as caught:
        of_file.msync(invalidate=True)
    assert (caught.value.errno, caught.value.syscall) == (errno.EBUSY, "msync")
    of_file.msync()
    of_file.msync(PAGE, invalidate=True)


@pytest.mark.parametrize("mode", [0, 4, "SYNC", None])
def test_msync_mode_of_a_wrong_type_is_refused(mode: Any, of_file: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        of_file.msync(mode=mode)


def test_msync_of_memory_or_without_access_is_allowed(
    mapping: MemoryMapping, private: MemoryMapping, known_file: KnownFile
) -> None:
    mapping.msync()
    private.msync()
    with MemoryMapping.from_file(known_file.path, prot=READ) as m:
        m.msync()
    with MemoryMapping.from_file(known_file.path, prot=NONE) as m:
        m.msync()


# protect


def test_protect_changes_the_pages_of_the_range(mapping: MemoryMapping) -> None:
    address = mapping.as_ptr()
    mapping.protect(READ, PAGE, 2 * PAGE)
    assert perms(address, 4 * PAGE) == ["rw-s", "r--s", "r--s", "rw-s"]
    mapping.protect(NONE, 2 * PAGE)
    assert perms(address, 4 * PAGE) == ["rw-s", "r--s", "---s", "---s"]
    mapping.protect(Protection.read_execute(), 0, PAGE)
    assert perms(address, 4 * PAGE) == ["r-xs", "r--s", "---s", "---s"]
    mapping.protect(RW)
    assert perms(address, 4 * PAGE) == ["rw-s"] * 4
    assert mapping[:] == known_bytes(4 * PAGE)


def test_protect_keeps_the_pages_out_of_core_dumps(mapping: MemoryMapping) -> None:
    mapping.protect(READ, PAGE, PAGE)
    assert "dd" in vm_flags(mapping.as_ptr(), mapping.size)


def test_protect_refused_by_the_kernel_is_not_remembered(known_file: KnownFile) -> None:
    with known_file.path.open("rb") as file, MemoryMapping.from_file(file) as m:
        with pytest.raises(AccessDeniedError) as caught:
            m.protect(RW)
        assert isinstance(caught.value, PermissionError)
        assert (caught.value.errno, caught.value.syscall) == (errno.EACCES, "mprotect")
        with pytest.raises(ProtectionError):
            m[0] = 1
        assert m.view().readonly
        assert m[:] == known_file.content


@pytest.mark.parametrize("prot", [3, "rw", None, Sharing.SHARED])
def test_protect_to_a_wrong_type_is_refused(prot: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping.protect(prot)
    assert perms(mapping.as_ptr(), PAGE) == ["rw-s"]


def test_protect_under_a_view_that_it_would_crash_is_refused(mapping: MemoryMapping) -> None:
    writer = mapping.view(0, PAGE)
    with pytest.raises(ViewsExportedError) as caught:
        mapping.protect(READ)
    assert isinstance(caught.value, BufferError)
    assert caught.value.views == 1
    assert perms(mapping.as_ptr(), 4 * PAGE) == ["rw-s"] * 4
    writer[0] = 9
    mapping.protect(Protection.read_write(), 0, PAGE)  # takes nothing from it
    part = writer[5:6]
    del writer
    with pytest.raises(ViewsExportedError):
        mapping.protect(NONE)
    del part
    gc.collect()
    mapping.protect(READ)
    assert perms(mapping.as_ptr(), 4 * PAGE) == ["r--s"] * 4


def test_protect_under_a_reading_view_may_take_the_writing(mapping: MemoryMapping) -> None:
    mapping.protect(READ)
    reader = mapping.view()
    mapping.protect(RW)
    mapping.protect(READ)
    with pytest.raises(ViewsExportedError):
        mapping.protect(NONE, 3 * PAGE, PAGE)
    assert reader == known_bytes(4 * PAGE)


def test_protect_beside_a_view_is_allowed(mapping: MemoryMapping) -> None:
    first = mapping.view(0, PAGE)
    mapping.protect(NONE, PAGE)
    assert perms(mapping.as_ptr(), 4 * PAGE) == ["rw-s", "---s", "---s", "---s"]
    first[0] = 5
    assert mapping[0] == 5


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


def test_unlock_of_what_is_not_locked_does_nothing(mapping: MemoryMapping) -> None:
    mapping.unlock(0, PAGE)
    mapping.unlock_all()
    assert "lo" not in any_vm_flags(mapping.as_ptr(), mapping.size)


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


# use_dontfork and use_hugepages


def test_use_dontfork_keeps_the_mapping_from_children(mapping: MemoryMapping) -> None:
    mapping.use_dontfork()
    assert "dc" in vm_flags(mapping.as_ptr(), mapping.size)


def test_use_dontfork_child_has_no_mapping_and_no_crash() -> None:
    program = """
        import os
        from kernel_view import PAGE, is_mapped
        from mmapwrap import MemoryMapping, MmapError, Protection

        m = MemoryMapping.new(2 * PAGE)
        m[0] = 7
        address = m.as_ptr()
        m.use_dontfork()

        def in_child():
            assert not is_mapped(address, 2 * PAGE)
            uses = [
                lambda: m[0],
                lambda: m[0:3],
                lambda: m.view(),
                lambda: m.write_slice(b"x", 0),
                lambda: m.read_slice(bytearray(2), 0),
                lambda: m.msync(),
            ]
            for use in uses:
                try:
                    use()
                except MmapError:
                    continue
                raise SystemExit("used what is not there")
            # What moved in at the address belongs to its new owner.
            rw = Protection.read_write()
            with MemoryMapping.new_protection_fixed(address, 2 * PAGE, rw) as other:
                other[0] = 5
                m.close()
                globals().pop("m")
                assert is_mapped(address, 2 * PAGE)
                assert other[0] == 5

        child = os.fork()
        if child == 0:
            in_child()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, m[0])
    """
    ended = child(program)
    assert ended.succeeded() == "0 7\n", ended.errors


def test_advise_dontfork_of_a_range_is_no_crash_in_children_either() -> None:
    program = """
        import os
        from kernel_view import PAGE
        from mmapwrap import Advice, MemoryMapping, MmapError

        def in_child(call):
            child = os.fork()
            if child == 0:
                try:
                    call()
                except MmapError:
                    os._exit(1)
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        m = MemoryMapping.new(3 * PAGE)
        m.advise(Advice.DONTFORK, PAGE, PAGE)
        for call in (
            lambda: m[PAGE],
            lambda: m[:],
            lambda: m.view(),
            lambda: m.write_slice(b"x", PAGE),
            lambda: m.populate(),
        ):
            print(in_child(call))
        m.advise(Advice.DOFORK)
        print(in_child(lambda: m[PAGE]))
    """
    assert child(program).succeeded() == "1\n" * 5 + "0\n"


@needs(Advice.WIPEONFORK)
def test_advise_wipeonfork_gives_children_zeros() -> None:
    program = """
        import os
        from kernel_view import PAGE
        from mmapwrap import Advice, MemoryMapping, Sharing

        m = MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE)
        m[:] = b"x" * m.size
        m.advise(Advice.WIPEONFORK, PAGE, PAGE)
        child = os.fork()
        if child == 0:
            os._exit(0 if m[:] == b"x" * PAGE + bytes(PAGE) else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), m[:] == b"x" * m.size)
    """
    assert child(program).succeeded() == "0 True\n"


@needs_huge_pages
def test_use_hugepages_asks_for_huge_pages() -> None:
    huge = int(HUGE_PAGE_SIZE_FILE.read_text())
    enabled = HUGE_PAGE_SIZE_FILE.with_name("enabled").read_text()
    with MemoryMapping.anonymous(2 * huge, sharing=Sharing.PRIVATE, align=huge) as m:
        m.use_hugepages()
        assert "hg" in vm_flags(m.as_ptr(), m.size)
        m[0] = 1
        expected = 0 if "[never]" in enabled else huge
        assert amount("AnonHugePages", m.as_ptr(), m.size) == expected


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


# Dropping, removing, evicting


def test_drop_page_cache_of_shared_memory_keeps_the_content(mapping: MemoryMapping) -> None:
    address = mapping.as_ptr()
    assert amount("Rss", address, mapping.size) == 4 * PAGE
    mapping.drop_page_cache(PAGE, 2 * PAGE)
    assert amount("Rss", address, mapping.size) == 2 * PAGE
    assert mapping[:] == known_bytes(4 * PAGE)


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


def test_remove_range_of_memory_frees_the_pages(mapping: MemoryMapping) -> None:
    mapping.remove_range(0, 2 * PAGE)
    assert resident_pages(mapping.as_ptr(), mapping.size) == b"\0\0\1\1"
    assert mapping[:] == bytes(2 * PAGE) + known_bytes(4 * PAGE)[2 * PAGE :]


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


def test_evict_of_memory_is_unsupported(mapping: MemoryMapping, private: MemoryMapping) -> None:
    for m in (mapping, private):
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


def test_out_of_memory_is_what_the_limit_on_mappings_gives() -> None:
    # Each change of protection splits a mapping; the kernel allows a limited number of them.
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 1 << 18:
        pytest.skip(f"vm.max_map_count is {limit}: it would take too long to reach")
    program = """
        import sys
        from kernel_view import PAGE, spare_memory, vmas
        from mmapwrap import MemoryMapping, OutOfMemoryError, Protection, ProtectionError

        limit, spare = int(sys.argv[1]), spare_memory()
        with MemoryMapping.new((limit + 10) * PAGE) as m:
            done = 0
            try:
                while True:
                    m.protect(Protection.read(), done * PAGE, PAGE)
                    done += 2
            except OutOfMemoryError as error:
                print(error.errno, error.syscall)
            m[(done + 1) * PAGE] = m[done * PAGE] = 1  # was not changed, and is known not to be
            try:
                m[(done - 2) * PAGE] = 1
            except ProtectionError:
                print("read-only")
        assert len(vmas()) < 1000
    """
    assert child(program, limit).succeeded() == f"{errno.ENOMEM} mprotect\nread-only\n"
