"""Fixtures: directories on a real disk and a small one, a known file; what no sanitizer can run."""

import ctypes
import gc
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_view import PAGE, KnownFile, known_bytes

# What is started in the background ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_MEMORY_FILESYSTEMS = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"}


def _filesystem(path: Path) -> str:
    """The type of the filesystem that holds a directory, from the kernel's list of mounts."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0]
    return "unknown"


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """An empty directory on a filesystem whose page cache can be written out and dropped.

    Not below `tmp_path`, which no other user can reach: some tests give up root.
    """
    for parent in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()):
        if os.access(parent, os.W_OK) and _filesystem(parent) not in _MEMORY_FILESYSTEMS:
            with tempfile.TemporaryDirectory(dir=parent) as directory:
                yield Path(directory)
            return
    pytest.skip("every directory that can be written is on a filesystem kept in memory")


@pytest.fixture
def known_file(disk_path: Path) -> KnownFile:
    """A file of 16 pages on disk, written out, with no zero byte in it."""
    content = known_bytes(16 * PAGE)
    path = disk_path / "known"
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return KnownFile(path, content)


def _mounted(options: str) -> Iterator[Path]:
    """A file system kept in memory, which only root can mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tests", directory]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr}")
        yield Path(directory)
        # Lazily: an error that pytest still shows may hold a file.
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def small_filesystem() -> Iterator[Path]:
    """A file system of 64 KiB."""
    yield from _mounted("size=64k")


@pytest.fixture
def large_blocks() -> Iterator[Path]:
    """A file system whose blocks are huge pages where there are such, and that is no hugetlbfs."""
    yield from _mounted("size=16m,huge=always")


_LOCKS = "AddressSanitizer makes mlock and munlock do nothing"
_LIMITS = "AddressSanitizer's own memory is past the limit, and it ends the process"
_COUNTS = "AddressSanitizer's own memory comes and goes in what is counted or measured"
_STACK = "AddressSanitizer does not know of stacks made by makecontext"
_NOT_UNDER_A_SANITIZER = {
    "test_arena.py::test_new_costs_no_memory": _COUNTS,
    "test_arena.py::test_new_past_the_address_space_limit_is_refused": _LIMITS,
    "test_arena.py::test_remove_drops_locks": _LOCKS,
    "test_external.py::test_external_inside_a_page_widens_hints_and_takes_whole_pages": _LOCKS,
    "test_faults_elsewhere.py::test_fault_on_a_nearly_full_stack_is_an_error_where_the_handler_"
    "finds_room": _STACK,
    "test_faults_elsewhere.py::test_fault_on_a_full_stack_without_another_dies_as_with_any_"
    "handler": _STACK,
    "test_lifetime.py::test_index_that_closes_the_region_is_survived": _COUNTS,
    "test_limits.py::test_call_without_addresses_left_works_or_is_out_of_memory": _LIMITS,
    "test_limits.py::test_call_without_mappings_left_works_or_is_out_of_memory": _LIMITS,
    "test_limits.py::test_calls_that_bring_a_hole_of_a_full_filesystem_in_are_typed": _LOCKS,
    "test_limits.py::test_guard_without_addresses_left_is_an_error_and_no_signal": _LIMITS,
    "test_limits.py::test_lock_past_the_limit_of_an_unprivileged_user_is_typed_and_locks_"
    "nothing": _LOCKS,
    "test_limits.py::test_mapping_where_all_is_locked_past_the_limit_is_a_lock_limit": _LOCKS,
    "test_paging.py::test_advise_destructive_locked_pages_need_the_advice_for_them": _LOCKS,
    "test_paging.py::test_lock_all_and_unlock_all_are_for_the_whole_mapping": _LOCKS,
    "test_paging.py::test_lock_brings_the_pages_in_and_keeps_them": _LOCKS,
    "test_paging.py::test_lock_past_the_limit_of_an_unprivileged_process_is_an_error": _LOCKS,
    "test_paging.py::test_msync_invalidate_of_locked_pages_is_busy": _LOCKS,
    "test_paging.py::test_remove_range_of_locked_pages_is_refused": _LOCKS,
    "test_mapping_threads.py::test_close_from_many_threads_at_once_unmaps_once": _COUNTS,
    "test_limits.py::test_close_without_mappings_left_gives_the_memory_back": _LIMITS,
    "test_ownership.py::test_guard_pages_that_cannot_be_installed_leave_those_that_were_"
    "there": _LOCKS,
    "test_region.py::test_locks_keep_the_pages": _LOCKS,
    "test_scale.py::test_many_mappings_open_at_once_are_all_there_and_cost_little": _COUNTS,
    "test_scale.py::test_mapping_past_the_limit_is_out_of_memory_and_leaves_nothing": _LIMITS,
    "test_search.py::test_search_in_the_worst_case_takes_time_in_proportion_to_the_size": _COUNTS,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run where AddressSanitizer is loaded."""
    if not hasattr(ctypes.CDLL(None), "__asan_init"):
        return
    for item in items:
        name = item.nodeid.partition("[")[0].rpartition("/")[2]
        if reason := _NOT_UNDER_A_SANITIZER.get(name):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking at the objects that the collection of tests made.

    There are some 200,000 of them. Many tests call `gc.collect` to see a mapping go, and each call
    would take 100 ms.
    """
    gc.collect()
    gc.freeze()
