"""Which files a command works on: paths walked, each file once, opened without surprises."""

import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from attrs import evolve, frozen

from mmapwrap import MemoryMapping, MmapError, PastEndOfFileError, Protection

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
    """A regular file, or a named block device, as it was seen.

    Attributes:
        path: the argument, or the argument joined with the names below it.
        size: in bytes, when it was seen.
        named: whether the path is an argument itself. Then its last part may be a symbolic link,
            and the file may be a block device.
    """

    path: str
    size: int
    named: bool


@frozen
class FailedPath:
    """A path that could not be worked on, and why."""

    path: str
    error: Exception


@frozen
class OpenedFile:
    """A file open for reading, and its size in bytes when it was opened."""

    descriptor: int
    size: int


Sighting: TypeAlias = FoundFile | FailedPath


def find_files(paths: Iterable[str]) -> Iterator[Sighting]:
    """Find the regular files that the paths name or hold, and the named block devices, each once.

    A named symbolic link is followed, one met below a directory is not. A file with several hard
    links, or reached through several arguments, comes once, under the first of its names.

    Args:
        paths: files, directories and block devices.

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
        elif stat.S_ISBLK(status.st_mode):
            if _is_new(status, seen):
                yield _found_device(path)
        elif not stat.S_ISREG(status.st_mode):
            yield FailedPath(path, NotRegularFileError(status.st_mode))
        elif _is_new(status, seen):
            yield FoundFile(path, status.st_size, named=True)


@contextmanager
def opened(file: FoundFile) -> Generator[OpenedFile]:
    """Open a file that was found, and close it at the end of the block.

    Raises:
        OSError: it could not be opened.
        UnreadableFileError: the user may not read it, and it was not named.
        NotRegularFileError: something else has taken its place since it was found.
        MmapError: it is a block device, and the library cannot map it.
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
            size = _device_size(descriptor)
        else:
            raise NotRegularFileError(status.st_mode)
        yield OpenedFile(descriptor, size)
    finally:
        os.close(descriptor)


def _found_device(path: str) -> Sighting:
    """Open a named block device to learn its size, which its status does not tell."""
    device = FoundFile(path, 0, named=True)
    try:
        with opened(device) as handle:
            return evolve(device, size=handle.size)
    except (OSError, MmapError, NotRegularFileError) as error:
        return FailedPath(path, error)


def _device_size(descriptor: int) -> int:
    """Ask the library how many bytes it maps of a whole block device; no page is touched."""
    try:
        with MemoryMapping.from_file(descriptor, prot=Protection.read()) as mapping:
            return len(mapping)
    except PastEndOfFileError:  # of 0 bytes: a drive without a medium, for example
        return 0


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
                yield FoundFile(entry.path, status.st_size, named=False)
        pending.extend(reversed(below))


def _is_new(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    """Whether the file was not seen under another name; remembers it."""
    identity = (status.st_dev, status.st_ino)
    if stat.S_ISBLK(status.st_mode):
        identity = (status.st_rdev, -1)  # two nodes of a device lead to the same pages
    if identity in seen:
        return False
    seen.add(identity)
    return True
