"""Fixtures: directories on a real disk and a small one, a known file; the skips of a marker."""

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
