"""Fixtures: a directory on a real disk, and a file of known bytes in it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_view import PAGE, KnownFile, known_bytes

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
