"""The files behind a region, found again: a mapping keeps no descriptor of its file."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, NamedTuple

from mmapwrap._core import buffers, calls, constants, descriptors, mapping
from mmapwrap.errors import SystemCallError, UnsupportedOperationError, hinted, system_call_error

_OUT_OF_REACH: Final = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""The errors of one way to open a file that would fail the other way too."""


class MappedFile(NamedTuple):
    """One mapping of the kernel's list, /proc/self/maps."""

    start: int
    end: int
    is_shared: bool
    file_offset: int
    identity: tuple[bytes, int]
    """The device and the inode, as the list has them."""
    path: bytes

    @property
    def is_file(self) -> bool:
        """Whether a file is behind it; /dev/zero is the kernel's name of shared memory."""
        return self.path.startswith(b"/") and self.path != b"/dev/zero (deleted)"

    def reopen(
        self, flags: int = os.O_RDONLY, operation: str = "evict"
    ) -> descriptors.OwnedDescriptor:
        r"""Return a new descriptor of the file, and its owner.

        The kernel opens the very file through /proc/self/map_files for a privileged user. For
        others the path by which it was mapped is opened, if the same file is still there. The list
        writes a newline in a path as \012, which may also be in it literally.

        Args:
            flags: How to open it, as in open(2).
            operation: The method that needs it, which the error names.

        Raises:
            UnsupportedOperationError: The file can be opened neither way.
            SystemCallError: Another way would fail as well: no memory or no descriptor is left.
        """
        link = f"/proc/self/map_files/{self.start:x}-{self.end:x}".encode()
        paths = dict.fromkeys((link, self.path.replace(rb"\012", b"\n"), self.path))
        for path in paths:
            fd, owner = descriptors.try_to_open(path, flags)
            if -fd in _OUT_OF_REACH:
                raise system_call_error(-fd, "open", os.fsdecode(path))
            if fd < 0:
                continue
            with ExitStack() as undo:
                undo.callback(descriptors.close_file, owner)
                if path == link or identity_of(fd) == self.identity:  # pragma: no branch
                    undo.pop_all()
                    return fd, owner
        hint = f"the file {os.fsdecode(self.path)!r} cannot be opened again"
        raise hinted(UnsupportedOperationError(operation), hint)

    def length_and_room(self) -> tuple[int | None, int]:
        """Return the length of the file and the free blocks of its device; (None, 0) if unknown."""
        try:
            fd, owner = self.reopen()
        except (UnsupportedOperationError, SystemCallError):
            return None, 0
        try:
            return descriptors.file_status(fd).size, os.fstatvfs(fd).f_bavail
        finally:
            descriptors.close_file(owner)


def identity_of(fd: int) -> tuple[bytes, int] | None:
    """Return the device and the inode of a file as the list has them.

    fstat(2) may tell another device, so the file is mapped for a moment. Return None for a file
    that cannot be mapped.

    Raises:
        OutOfMemoryError: No addresses are left.
        LockLimitError: All new memory is to be locked, and no more can be.
    """
    page = descriptors.file_page_size(fd)
    flags = constants.MAP_PRIVATE | constants.MAP_NORESERVE
    try:
        handle = mapping.map_pages(0, page, constants.PAGE_SIZE, 0, flags, fd, 0, 0)
    except SystemCallError as error:
        if error.errno in (*_OUT_OF_REACH, errno.EAGAIN):
            raise
        return None
    file = file_at(calls.address(handle))
    return None if file is None else file.identity


def file_at(address: int) -> MappedFile | None:
    """Return the file that is mapped at an address; None if there is none, or no list."""
    try:
        found = [each for each in _mappings() if each.start <= address < each.end]
    except SystemCallError:
        return None
    return found[0] if found and found[0].is_file else None


_FAR: Final = 1 << 40


def tells_residency(file: MappedFile) -> bool:
    """Return whether the kernel tells this user which pages of a file are resident.

    Otherwise it calls every page resident, also one far behind the end. It tells the residency of a
    file that cannot be opened again, because that is the user's own file without a name.
    """
    try:
        fd, owner = file.reopen()
    except UnsupportedOperationError:
        return True
    try:
        flags = constants.MAP_SHARED | constants.MAP_NORESERVE
        handle = mapping.map_pages(
            0, constants.PAGE_SIZE, constants.PAGE_SIZE, constants.PROT_READ, flags, fd, _FAR, 0
        )
        is_resident = bytearray(1)
        calls.residency(handle, 0, constants.PAGE_SIZE, buffers.bytes_to_fill(is_resident))
        return not is_resident[0]
    finally:
        descriptors.close_file(owner)


def files_between(start: int, end: int) -> list[MappedFile]:
    """Return the mappings of files between two addresses."""
    return [file for file in mappings_between(start, end) if file.is_file]


def mappings_between(start: int, end: int) -> list[MappedFile]:
    """Return the mappings between two addresses, also those without a file."""
    return [each for each in _mappings() if each.start < end and start < each.end]


def shared_files(start: int, end: int) -> list[MappedFile]:
    """Return the mappings between two addresses, which are all shared and of files.

    Raises:
        UnsupportedOperationError: One of them is private, or anonymous.
    """
    found = mappings_between(start, end)
    for each in found:
        if not each.is_shared or not each.is_file:
            hint = "some of the range is no shared mapping of a file"
            raise hinted(UnsupportedOperationError("evict"), hint)
    return found


def _mappings() -> Iterator[MappedFile]:
    """Yield the mappings of the kernel's list."""
    for line in descriptors.lines_of("/proc/self/maps"):
        addresses, flags, offset, device, inode, *path = line.split(None, 5)
        start, end = (int(edge, 16) for edge in addresses.split(b"-"))
        identity = device, int(inode)
        yield MappedFile(
            start, end, flags.endswith(b"s"), int(offset, 16), identity, b"".join(path)
        )
