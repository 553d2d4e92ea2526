"""Finding the files behind a region again: a mapping keeps no descriptor of its file."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, NamedTuple

from mmapwrap import _syscalls
from mmapwrap.errors import UnsupportedOperationError, system_call_error

_OUT_OF_REACH: Final = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""What fails one way of opening a file fails the other as well."""


class MappedFile(NamedTuple):
    """One mapping of the kernel's list, /proc/self/maps."""

    start: int
    end: int
    is_shared: bool
    file_offset: int
    inode: int
    path: bytes

    def reopen(self) -> _syscalls.OwnedDescriptor:
        """Returns a new read-only descriptor of the file, and what owns it.

        The kernel opens the very file through /proc/self/map_files for those who may ask it; for
        others the path that it was mapped by is opened, if the same file is still there.

        Raises:
            UnsupportedOperationError: The file can be opened neither way.
        """
        link = f"/proc/self/map_files/{self.start:x}-{self.end:x}".encode()
        for path in (link, self.path.replace(rb"\012", b"\n")):
            fd, owner = _syscalls.try_to_open(path, os.O_RDONLY)
            if -fd in _OUT_OF_REACH:
                raise system_call_error(-fd, "open", os.fsdecode(path))
            if fd < 0:
                continue
            with ExitStack() as undo:
                undo.callback(_syscalls.close_file, owner)
                if _syscalls.file_status(fd).st_ino == self.inode:
                    undo.pop_all()
                    return fd, owner
        raise UnsupportedOperationError("evict of a file that cannot be opened again")


def shared_files(start: int, end: int) -> list[MappedFile]:
    """Returns the mappings between two addresses, which are all shared and of files.

    Raises:
        UnsupportedOperationError: One of them is private, or anonymous.
    """
    found = [mapping for mapping in _mappings() if mapping.start < end and start < mapping.end]
    for mapping in found:
        is_file = mapping.path.startswith(b"/") and mapping.path != b"/dev/zero (deleted)"
        if not mapping.is_shared or not is_file:
            raise UnsupportedOperationError("evict of what is no shared mapping of a file")
    return found


def _mappings() -> Iterator[MappedFile]:
    for line in _syscalls.lines_of("/proc/self/maps"):
        addresses, flags, offset, _, inode, *path = line[:-1].split(None, 5)
        start, end = (int(edge, 16) for edge in addresses.split(b"-"))
        yield MappedFile(
            start, end, flags.endswith(b"s"), int(offset, 16), int(inode), b"".join(path)
        )
