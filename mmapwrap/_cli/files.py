"""The files that the paths of a command name or hold, each once, opened without surprises."""

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from attrs import evolve, frozen

# A device or a fifo that took the place of a file after it was seen must neither block the open
# nor become the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_KINDS = {
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

Fail: TypeAlias = Callable[[str, Exception], None]
"""Called with each path that cannot be worked on, and why."""


class NotRegularFileError(Exception):
    """The path is neither a regular file nor a directory, nor a block device that was named."""

    def __init__(self, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "another kind of file")
        super().__init__(f"is {kind}, not a regular file or a directory")


class UnreadableFileError(Exception):
    """The user may not read a file that a walk found."""

    def __init__(self) -> None:
        super().__init__("permission denied")


@frozen
class FoundFile:
    """A regular file, or a named block device, as it was found.

    Attributes:
        path: the argument, or the argument joined with the names below it.
        size: in bytes.
        named: whether the path is an argument itself. Only then may its last part be a symbolic
            link, and the file a block device.
    """

    path: str
    size: int
    named: bool


@frozen
class OpenedFile:
    """A file open for reading, and its size in bytes when it was opened."""

    descriptor: int
    size: int


def find_files(paths: Iterable[str], fail: Fail) -> Iterator[FoundFile]:
    """Find the regular files that the paths name or hold, and the named block devices, each once.

    A named symbolic link is followed, one below a directory is not. A file with several hard links,
    or reached through several arguments, comes once, under the first of its names.

    Args:
        paths: files, directories and block devices.
        fail: called with each path that cannot be read or is of another kind.

    Returns:
        An iterator over the files, in the order of the arguments and of the names below them.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116, a Path takes an empty name for "."
            if stat.S_ISDIR(status.st_mode):
                found = _files_below(path, seen, fail)
            else:
                found = _named_file(path, status, seen)
        except (OSError, NotRegularFileError) as error:
            fail(path, error)
        else:
            yield from found


@contextmanager
def opened(file: FoundFile) -> Generator[OpenedFile]:
    """Open a file that was found, and close it at the end of the block.

    Raises:
        OSError: the file could not be opened.
        UnreadableFileError: the user may not read the file, and did not name it.
        NotRegularFileError: something else has taken the file's place since it was found.
    """
    flags = _OPEN_FLAGS if file.named else _OPEN_FLAGS | os.O_NOFOLLOW
    try:
        descriptor = os.open(file.path, flags)
    except PermissionError as error:
        if file.named:
            raise
        raise UnreadableFileError from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            size = status.st_size
        elif stat.S_ISBLK(status.st_mode) and file.named:
            size = os.lseek(descriptor, 0, os.SEEK_END)  # the status has 0
        else:
            raise NotRegularFileError(status.st_mode)
        yield OpenedFile(descriptor, size)
    finally:
        os.close(descriptor)


def _named_file(
    path: str, status: os.stat_result, seen: set[tuple[int, int]]
) -> Iterator[FoundFile]:
    file = FoundFile(path, status.st_size, named=True)
    if stat.S_ISBLK(status.st_mode):
        with opened(file) as device:
            file = evolve(file, size=device.size)
    elif not stat.S_ISREG(status.st_mode):
        raise NotRegularFileError(status.st_mode)
    return iter([file] if _is_new(status, seen) else [])


def _files_below(top: str, seen: set[tuple[int, int]], fail: Fail) -> Iterator[FoundFile]:
    """Walk a directory. A list in place of recursion has no limit of depth."""
    pending = [top]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            fail(directory, error)
            continue
        below: list[str] = []
        for entry in listed:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                fail(entry.path, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                below.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and _is_new(status, seen):
                yield FoundFile(entry.path, status.st_size, named=False)
        pending.extend(reversed(below))


def _is_new(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    """Return whether the file has not been seen under another name, and remember it."""
    identity = (status.st_dev, status.st_ino)
    if stat.S_ISBLK(status.st_mode):
        identity = (status.st_rdev, -1)  # two nodes of a device lead to the same pages
    if identity in seen:
        return False
    seen.add(identity)
    return True
