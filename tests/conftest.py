"""Fixtures for the tests of every room: directories, a known file, mappings of four pages.

The rooms:
    support     what tests share and is no test; pytest and child processes find it
    core        ranges, arguments, values, errors, buffers, the lock of a layout, injected failures
    regions     what can be done with pages: content, numbers, paging, faults and their guards
    mappings    how regions come about: constructors, arenas, shared memory, huge pages
    cli         the command line
    robustness  threads, forks, limits, messages, random programs: the whole, used as users do
    docs        the examples and the README
    clients     other libraries, and the tests of CPython and NumPy, on what the package gives them
    typing      what type checkers must accept, and what they must refuse; nothing runs it
"""

import ctypes
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from files import mounted_tmpfs, opened
from kernel_view import PAGE, KnownFile, known_bytes

from mmapwrap import MemoryMapping, Sharing

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


@pytest.fixture
def known_fd(known_file: KnownFile) -> Iterator[int]:
    """A descriptor of the known file, to read and write."""
    with opened(known_file.path) as fd:
        yield fd


@pytest.fixture
def small_filesystem() -> Iterator[Path]:
    """A file system of 64 KiB."""
    with mounted_tmpfs("size=64k") as directory:
        yield directory


@pytest.fixture
def large_blocks() -> Iterator[Path]:
    """A file system whose blocks are huge pages where there are such, and that is no hugetlbfs."""
    with mounted_tmpfs("size=16m,huge=always") as directory:
        yield directory


@pytest.fixture
def of_memory() -> Iterator[MemoryMapping]:
    """Four pages of shared memory, known bytes in all."""
    with MemoryMapping.new(4 * PAGE) as m:
        m[:] = known_bytes(m.size)
        yield m


@pytest.fixture
def of_private_memory() -> Iterator[MemoryMapping]:
    """Four pages of private memory, known bytes in all."""
    with MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE) as m:
        m[:] = known_bytes(m.size)
        yield m


@pytest.fixture
def of_file(known_file: KnownFile) -> Iterator[MemoryMapping]:
    """A whole file, 16 pages, mapped shared and writable."""
    with MemoryMapping.from_file(known_file.path) as m:
        yield m


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `not_sanitized` where AddressSanitizer is loaded."""
    if not hasattr(ctypes.CDLL(None), "__asan_init"):
        return
    for item in items:
        for mark in item.iter_markers("not_sanitized"):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking at the objects that the collection of tests made.

    There are some 200,000 of them. Many tests call `gc.collect` to see a mapping go, and each call
    would take 100 ms.
    """
    gc.collect()
    gc.freeze()
