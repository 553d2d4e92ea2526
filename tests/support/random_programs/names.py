"""The names that a program gives: to files in a folder of its own, and to shared memory."""

import shutil
from pathlib import Path
from typing import Final

_SHARED_MEMORY: Final = Path("/dev/shm")


def listed(folder: str) -> tuple[list[str], list[str]]:
    """The names of files, and those of shared memory without what all of a program's begin with."""
    start = f"{Path(folder).name}-"
    return (
        sorted(path.name for path in Path(folder).iterdir()),
        sorted(path.name.removeprefix(start) for path in _named(folder)),
    )


def remove_all(folder: str) -> None:
    """Remove what a program that failed has left behind."""
    for path in _named(folder):
        path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _named(folder: str) -> list[Path]:
    return list(_SHARED_MEMORY.glob(f"{Path(folder).name}-*"))
