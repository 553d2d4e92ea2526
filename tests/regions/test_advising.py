"""Advice: its effect on the pages, as the kernel and children see it."""

import errno
from pathlib import Path
from typing import Any

import pytest
from kernel_view import (
    PAGE,
    amount,
    any_vm_flags,
    child,
    dirty,
    known_bytes,
    resident_pages,
    vm_flags,
)
from marks import LOCKS_DO_NOTHING, kernel_may_take_pages, needs
from waiting import eventually

from mmapwrap import Advice, DestructiveAdvice, InvalidSystemCallError, MemoryMapping, Sharing

HUGE_PAGE_SIZE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


needs_huge_pages = pytest.mark.skipif(
    not HUGE_PAGE_SIZE_FILE.exists(), reason="this kernel has no transparent huge pages"
)


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
    advice: Advice, undo: Advice, flag: str, of_private_memory: MemoryMapping
) -> None:
    address = of_private_memory.as_ptr()
    of_private_memory.advise(advice)
    assert flag in vm_flags(address, 4 * PAGE)
    of_private_memory.advise(undo)
    assert flag not in any_vm_flags(address, 4 * PAGE)
    of_private_memory.advise(advice, PAGE + 1, PAGE)  # widened to the second and third page
    assert flag not in any_vm_flags(address, PAGE)
    assert flag in vm_flags(address + PAGE, 2 * PAGE)
    assert flag not in any_vm_flags(address + 3 * PAGE, PAGE)
    assert of_private_memory[:] == known_bytes(4 * PAGE)


def test_advise_dodump_puts_the_pages_into_core_dumps(of_memory: MemoryMapping) -> None:
    of_memory.advise(Advice.DODUMP, 0, PAGE)
    assert "dd" not in any_vm_flags(of_memory.as_ptr(), PAGE)
    assert "dd" in vm_flags(of_memory.as_ptr() + PAGE, 3 * PAGE)
    of_memory.advise(Advice.DONTDUMP)
    assert "dd" in vm_flags(of_memory.as_ptr(), 4 * PAGE)


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
def test_advise_cold_keeps_the_content(of_memory: MemoryMapping) -> None:
    of_memory.advise(Advice.COLD)
    assert of_memory[:] == known_bytes(4 * PAGE)


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
def test_advise_takes_only_harmless_advice(wrong: Any, of_memory: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        of_memory.advise(wrong)
    assert of_memory[:] == known_bytes(4 * PAGE)


def test_advise_that_does_not_fit_the_memory_is_an_error(of_memory: MemoryMapping) -> None:
    with pytest.raises(InvalidSystemCallError) as caught:
        of_memory.advise(Advice.WIPEONFORK)  # only for private memory
    assert isinstance(caught.value, ValueError)
    assert (caught.value.errno, caught.value.syscall) == (errno.EINVAL, "madvise")


# advise_destructive


def test_advise_destructive_dontneed_drops_private_copies(of_private_memory: MemoryMapping) -> None:
    of_private_memory.advise_destructive(DestructiveAdvice.DONTNEED, PAGE, 2 * PAGE)
    content = known_bytes(4 * PAGE)
    assert of_private_memory[:] == content[:PAGE] + bytes(2 * PAGE) + content[3 * PAGE :]


def test_advise_destructive_dontneed_keeps_shared_memory(of_memory: MemoryMapping) -> None:
    assert amount("Rss", of_memory.as_ptr(), of_memory.size) == 4 * PAGE
    of_memory.advise_destructive(DestructiveAdvice.DONTNEED)
    assert amount("Rss", of_memory.as_ptr(), of_memory.size) == 0
    assert of_memory[:] == known_bytes(4 * PAGE)


def test_advise_destructive_remove_frees_the_pages(of_memory: MemoryMapping) -> None:
    of_memory.advise_destructive(DestructiveAdvice.REMOVE, PAGE, PAGE)
    assert resident_pages(of_memory.as_ptr(), of_memory.size) == b"\1\0\1\1"
    assert of_memory[PAGE : 2 * PAGE] == bytes(PAGE)


@needs(DestructiveAdvice.FREE)
def test_advise_destructive_free_leaves_each_page_old_or_zero(
    of_private_memory: MemoryMapping,
) -> None:
    assert dirty(of_private_memory.as_ptr(), of_private_memory.size) == 4 * PAGE
    of_private_memory.advise_destructive(DestructiveAdvice.FREE)
    assert (
        dirty(of_private_memory.as_ptr(), of_private_memory.size) == 0
    )  # nothing that would have to be kept
    content = known_bytes(4 * PAGE)
    for start in range(0, 4 * PAGE, PAGE):
        assert of_private_memory[start : start + PAGE] in (
            content[start : start + PAGE],
            bytes(PAGE),
        )


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@needs(DestructiveAdvice.DONTNEED_LOCKED)
def test_advise_destructive_locked_pages_need_the_advice_for_them(
    of_private_memory: MemoryMapping,
) -> None:
    of_private_memory.lock(0, PAGE)
    with pytest.raises(InvalidSystemCallError):
        of_private_memory.advise_destructive(DestructiveAdvice.DONTNEED)
    assert of_private_memory[:PAGE] == known_bytes(PAGE)
    of_private_memory.advise_destructive(DestructiveAdvice.DONTNEED_LOCKED)
    assert of_private_memory[:] == bytes(4 * PAGE)


@pytest.mark.parametrize("wrong", [Advice.NORMAL, 4, "DONTNEED", None])
def test_advise_destructive_takes_only_its_own(wrong: Any, of_memory: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        of_memory.advise_destructive(wrong)
    assert of_memory[:] == known_bytes(4 * PAGE)


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


# use_dontfork and use_hugepages


def test_use_dontfork_keeps_the_mapping_from_children(of_memory: MemoryMapping) -> None:
    of_memory.use_dontfork()
    assert "dc" in vm_flags(of_memory.as_ptr(), of_memory.size)


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
