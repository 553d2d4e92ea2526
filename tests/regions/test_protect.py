"""`protect`: what the pages allow afterwards, and what refuses a change."""

import errno
import gc
from typing import Any

import pytest
from kernel_view import (
    PAGE,
    KnownFile,
    child,
    known_bytes,
    perms,
    vm_flags,
)
from limits import MAX_MAP_COUNT, needs_few_mappings
from marks import MEMORY_IS_PAST_THE_LIMIT
from protections import NONE, READ, RW

from mmapwrap import (
    AccessDeniedError,
    MemoryMapping,
    Protection,
    ProtectionError,
    Sharing,
    ViewsExportedError,
)


def test_protect_changes_the_pages_of_the_range(of_memory: MemoryMapping) -> None:
    address = of_memory.as_ptr()
    of_memory.protect(READ, PAGE, 2 * PAGE)
    assert perms(address, 4 * PAGE) == ["rw-s", "r--s", "r--s", "rw-s"]
    of_memory.protect(NONE, 2 * PAGE)
    assert perms(address, 4 * PAGE) == ["rw-s", "r--s", "---s", "---s"]
    of_memory.protect(Protection.read_execute(), 0, PAGE)
    assert perms(address, 4 * PAGE) == ["r-xs", "r--s", "---s", "---s"]
    of_memory.protect(RW)
    assert perms(address, 4 * PAGE) == ["rw-s"] * 4
    assert of_memory[:] == known_bytes(4 * PAGE)


def test_protect_keeps_the_pages_out_of_core_dumps(of_memory: MemoryMapping) -> None:
    of_memory.protect(READ, PAGE, PAGE)
    assert "dd" in vm_flags(of_memory.as_ptr(), of_memory.size)


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
def test_protect_to_a_wrong_type_is_refused(prot: Any, of_memory: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        of_memory.protect(prot)
    assert perms(of_memory.as_ptr(), PAGE) == ["rw-s"]


def test_protect_under_a_view_that_it_would_crash_is_refused(of_memory: MemoryMapping) -> None:
    writer = of_memory.view(0, PAGE)
    with pytest.raises(ViewsExportedError) as caught:
        of_memory.protect(READ)
    assert isinstance(caught.value, BufferError)
    assert caught.value.views == 1
    assert perms(of_memory.as_ptr(), 4 * PAGE) == ["rw-s"] * 4
    writer[0] = 9
    of_memory.protect(Protection.read_write(), 0, PAGE)  # takes nothing from it
    part = writer[5:6]
    del writer
    with pytest.raises(ViewsExportedError):
        of_memory.protect(NONE)
    del part
    gc.collect()
    of_memory.protect(READ)
    assert perms(of_memory.as_ptr(), 4 * PAGE) == ["r--s"] * 4


def test_protect_under_a_reading_view_may_take_the_writing(of_memory: MemoryMapping) -> None:
    of_memory.protect(READ)
    reader = of_memory.view()
    of_memory.protect(RW)
    of_memory.protect(READ)
    with pytest.raises(ViewsExportedError):
        of_memory.protect(NONE, 3 * PAGE, PAGE)
    assert reader == known_bytes(4 * PAGE)


def test_protect_beside_a_view_is_allowed(of_memory: MemoryMapping) -> None:
    first = of_memory.view(0, PAGE)
    of_memory.protect(NONE, PAGE)
    assert perms(of_memory.as_ptr(), 4 * PAGE) == ["rw-s", "---s", "---s", "---s"]
    first[0] = 5
    assert of_memory[0] == 5


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
@needs_few_mappings
def test_out_of_memory_is_what_the_limit_on_mappings_gives() -> None:
    # Each change of protection splits a mapping; the kernel allows a limited number of them.
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
    assert child(program, MAX_MAP_COUNT).succeeded() == f"{errno.ENOMEM} mprotect\nread-only\n"
