"""Which files a command works on: paths walked, each file once, opened without surprises."""

import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from attrs import frozen

# A device or a fifo that took the place of a file after it was seen must neither block the open
# nor become the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_KINDS = {
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class NotRegularFileError(Exception):
    """The path is neither a regular file nor a directory."""

    def __init__(self, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "another kind of file")
        super().__init__(f"is {kind}, not a regular file or a directory")


@frozen
class FoundFile:
    """A regular file as the walk saw it.

    Attributes:
        path: the argument, or the argument joined with the names below it.
        size: in bytes, when it was seen.
        follow: whether the last part of the path may be a symbolic link.
    """

    path: str
    size: int
    follow: bool


@frozen
class FailedPath:
    """A path that could not be worked on, and why."""

    path: str
    error: Exception


@frozen
class OpenedFile:
    """A regular file open for reading, and its size in bytes when it was opened."""

    descriptor: int
    size: int


Sighting: TypeAlias = FoundFile | FailedPath


def find_files(paths: Iterable[str]) -> Iterator[Sighting]:
    """Find the regular files that the paths name or hold, each once.

    A named symbolic link is followed, one met below a directory is not. A file with several hard
    links, or reached through several arguments, comes once, under the first of its names.

    Args:
        paths: files and directories.

    Returns:
        An iterator over the files, in the order of the arguments and of the names below them, with
        a `FailedPath` in the place of what could not be read or is of another kind.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116, a Path takes an empty name for "."
        except OSError as error:
            yield FailedPath(path, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _files_below(path, seen)
        elif not stat.S_ISREG(status.st_mode):
            yield FailedPath(path, NotRegularFileError(status.st_mode))
        elif _is_new(status, seen):
            yield FoundFile(path, status.st_size, follow=True)


@contextmanager
def opened(file: FoundFile) -> Generator[OpenedFile]:
    """Open a file that was found, and close it at the end of the block.

    Raises:
        OSError: it could not be opened.
        NotRegularFileError: something else has taken its place since it was found.
    """
    flags = _OPEN_FLAGS if file.follow else _OPEN_FLAGS | os.O_NOFOLLOW
    descriptor = os.open(file.path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularFileError(status.st_mode)
        yield OpenedFile(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _files_below(top: str, seen: set[tuple[int, int]]) -> Iterator[Sighting]:
    """Walk one directory; a list instead of recursion, so that no depth of it is too deep."""
    pending = [top]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield FailedPath(directory, error)
            continue
        below: list[str] = []
        for entry in listed:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield FailedPath(entry.path, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                below.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and _is_new(status, seen):
                yield FoundFile(entry.path, status.st_size, follow=False)
        pending.extend(reversed(below))


def _is_new(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    """Whether the file was not seen under another name; remembers it."""
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True
