"""Opening again the file behind a mapping, which keeps no descriptor of it."""

import os
from typing import NamedTuple

from mmapwrap import _syscalls
from mmapwrap.errors import SystemCallError, UnsupportedOperationError


class _MappedFile(NamedTuple):
    addresses: str
    inode: int
    path: bytes


def reopen(address: int) -> int:
    """Returns a new read-only descriptor of the file that is mapped at the address.

    The kernel opens the very file through /proc/self/map_files for those who may ask it; for others
    the path that it was mapped by is opened, if the same file is still there.

    Raises:
        UnsupportedOperationError: The file can be opened neither way.
    """
    mapped = _find(address)
    if mapped is not None:
        for path in (b"/proc/self/map_files/" + mapped.addresses.encode(), mapped.path):
            try:
                fd = _syscalls.open_file(path, os.O_RDONLY)
            except SystemCallError:
                continue
            if _syscalls.file_status(fd).st_ino == mapped.inode:
                return fd
            os.close(fd)
    raise UnsupportedOperationError("evict: the mapped file cannot be opened again")


def _find(address: int) -> _MappedFile | None:
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            addresses, _, _, _, inode, *path = line.rstrip(b"\n").split(None, 5)
            start, end = (int(edge, 16) for edge in addresses.split(b"-"))
            if start <= address < end and path:
                return _MappedFile(addresses.decode(), int(inode), _unescaped(path[0]))
    return None


def _unescaped(path: bytes) -> bytes:
    return path.replace(rb"\012", b"\n")
