"""`msync`: what is written out, when, and of which pages."""

import errno
from typing import Any

import pytest
from kernel_view import PAGE, KnownFile, dirty
from marks import LOCKS_DO_NOTHING
from protections import NONE, READ

from mmapwrap import MemoryMapping, RegionBusyError, SyncMode


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
    of_memory: MemoryMapping, of_private_memory: MemoryMapping, known_file: KnownFile
) -> None:
    of_memory.msync()
    of_private_memory.msync()
    with MemoryMapping.from_file(known_file.path, prot=READ) as m:
        m.msync()
    with MemoryMapping.from_file(known_file.path, prot=NONE) as m:
        m.msync()
