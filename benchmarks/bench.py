"""What cases are made with: how long to measure, the peers in C, and room on a disk."""

import os
import tempfile
import timeit
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.timing import Effort, Measure, looped

MEMORY_FILESYSTEMS = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"}
MIB = 1 << 20
GIB = 1 << 30


class UnavailableError(Exception):
    """The machine lacks what a case needs; the message says what."""


@attrs.frozen
class Bench:
    """What a case is prepared with.

    Args:
        effort: How much to do.
        is_quick: Whether slow things should be done smaller.
        lib: The functions of peers.h.
    """

    effort: Effort
    is_quick: bool
    lib: Any

    def timed(self, statement: str, **names: object) -> Measure:
        """Give the seconds of a statement, with the least around it; it sees these names."""
        return self.looped(timeit.Timer(statement, globals=names).timeit)

    def looped(self, run: Callable[[int], float]) -> Measure:
        """Give the seconds of one turn of what is turned so often and says what it took."""
        return looped(run, self.effort.least)

    @contextmanager
    def file(self, size: int, fill: bytes = b"mmapwrap") -> Generator[Path]:
        """Give a file of so many bytes on a disk, written out and in the page cache."""
        block = (fill * (MIB // len(fill) + 1))[:MIB]
        with tempfile.TemporaryDirectory(dir=disk_folder()) as folder:
            path = Path(folder, "file")
            with path.open("wb", buffering=0) as file:
                for start in range(0, size, MIB):
                    file.write(block[: size - start])
                os.fsync(file.fileno())
            yield path


def disk_folder() -> Path:
    """A folder that can be written, on a filesystem that is not kept in memory."""
    for folder in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()):  # noqa: S108
        if os.access(folder, os.W_OK) and filesystem(folder) not in MEMORY_FILESYSTEMS:
            return folder
    raise UnavailableError("every folder that can be written is on a filesystem kept in memory")


def filesystem(folder: Path) -> str:
    """The type of the filesystem that holds a folder, from the kernel's list of mounts."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0]
    return "unknown"
