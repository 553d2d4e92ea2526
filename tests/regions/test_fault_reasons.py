"""What an error says of its cause, where an ordinary user asks, or nobody can tell."""

import os
import resource
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from files import memory_file
from kernel_view import PAGE, KnownFile, known_bytes
from lost_pages import KEPT, SIZE, fault_of
from marks import LOCKS_DO_NOTHING, MAPS_ARE_READ

from mmapwrap import (
    MappingFaultError,
    MemoryMapping,
    Protection,
    Sharing,
    SystemCallError,
)

NOBODY = 65534


@pytest.fixture
def open_path(disk_path: Path) -> Path:
    """A directory in which every user may make files."""
    disk_path.chmod(0o777)
    return disk_path


@pytest.fixture
def ordinary() -> Iterator[None]:
    """The effective user of the process is an ordinary one, for as long as the test runs."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(before)


def hint_of(m: MemoryMapping) -> str | None:
    with pytest.raises(MappingFaultError) as caught:
        m[0]
    return caught.value.hint


@contextmanager
def truncated() -> Generator[MemoryMapping]:
    fd = os.memfd_create("truncated")
    os.ftruncate(fd, PAGE)
    with MemoryMapping.from_fd(fd, PAGE) as m:
        os.ftruncate(fd, 0)
        os.close(fd)
        yield m


def test_fault_of_a_file_without_a_name_has_no_reason_for_an_ordinary_user(
    ordinary: None,
) -> None:
    with truncated() as m:
        assert hint_of(m) is None


@pytest.mark.not_sanitized(MAPS_ARE_READ)
def test_fault_without_descriptors_left_has_no_reason() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with truncated() as m:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            hint = hint_of(m)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert hint is None


def test_fault_of_a_file_that_was_replaced_at_its_path_has_no_reason_for_an_ordinary_user(
    open_path: Path, ordinary: None
) -> None:
    path, other = open_path / "mapped", open_path / "other"
    for each in (path, other):
        each.write_bytes(bytes(PAGE))
    with MemoryMapping.from_file(path) as m:
        os.truncate(path, 0)
        assert hint_of(m) == "the file has 0 bytes now, and the page starts at byte 0 of it"
        other.replace(path)
        assert hint_of(m) is None


def test_residency_of_private_memory_of_a_file_without_a_name_is_told(ordinary: None) -> None:
    fd = os.memfd_create("private")
    os.ftruncate(fd, PAGE)
    with MemoryMapping.from_file(fd, prot=Protection.read(), sharing=Sharing.PRIVATE) as m:
        os.close(fd)
        m.populate()
        assert m.residency().resident == 1


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_lock_past_the_limit_names_the_limit(ordinary: None) -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit in {0, resource.RLIM_INFINITY} or limit > 1 << 30:
        pytest.skip("no limit that is worth a test")
    with MemoryMapping.new(2 * limit) as m, pytest.raises(SystemCallError) as caught:
        m.lock()
    assert caught.value.hint == f"RLIMIT_MEMLOCK allows this process to lock {limit} bytes"


def test_region_keeps_an_export_for_each_access_that_was_asked_for() -> None:
    m = MemoryMapping.new_protection(PAGE, None, Protection.read())
    reading = np.ndarray(PAGE, np.uint8, buffer=m)
    m.protect(Protection.read_write())
    arrays = [np.ndarray(PAGE, np.uint8, buffer=m) for _ in range(3)]
    assert m.live_views == 2
    assert not reading.flags.writeable
    assert all(array.flags.writeable for array in arrays)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open the file of a mapping again")
def test_fault_of_a_cut_file_says_where_the_file_ends(known_file: KnownFile) -> None:
    fd = memory_file(known_bytes(SIZE))
    files: list[int | Path] = [fd, known_file.path]
    for file in files:
        with MemoryMapping.from_file(file) as m:
            os.truncate(file, KEPT * PAGE + 1)
            error = fault_of(lambda m=m: m[6 * PAGE :])  # type: ignore[misc]
            view = m.view()

            def touch(m: MemoryMapping = m, view: memoryview = view) -> None:
                with m.fault_guard():
                    assert view[6 * PAGE] == 0

            for each in (error, fault_of(touch)):
                assert f"the file has {KEPT * PAGE + 1} bytes now" in str(each)
                assert f"byte {6 * PAGE}" in str(each)
    os.close(fd)
