"""New files, mapped: where a step fails, a file that is new is removed."""

import errno
import os
import stat
from contextlib import suppress
from typing import SupportsIndex

from mmapwrap._core import constants, descriptors, file_length, mapping
from mmapwrap._core.arguments import Path, as_capacity, as_path, as_permissions, as_size
from mmapwrap._core.creation import map_file_range, map_growing_file
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import READ_WRITE, Sharing
from mmapwrap.errors import (
    AlreadyExistsError,
    CapacityExceededError,
    MmapError,
    SystemCallError,
    hinted,
    system_call_error,
)


def create_file(
    path: Path,
    size: SupportsIndex,
    capacity: SupportsIndex | None,
    mode: SupportsIndex,
    *,
    overwrite: bool,
    allocate: bool,
) -> Pages:
    """Create a file of zeros, and map it; where that fails, remove a file that is new."""
    as_path(path)
    length = as_size(size, bits=63, least=1 if capacity is None else 0)
    room = None if capacity is None else as_capacity(capacity)
    if room is not None and length > room:
        raise CapacityExceededError(0, length, room)
    file, is_new = _open_new(path, as_permissions(mode), overwrite=overwrite)
    try:
        file_length.cut_file(file[0], 0, constants.LARGEST_FILE_OFFSET)
        file_length.extend_file(file[0], 0, length, allocate=allocate)
        if room is not None:
            return map_growing_file(file, None, 0, READ_WRITE, Sharing.SHARED, room, path=path)
        pages = map_file_range(file[0], length, 0, READ_WRITE, Sharing.SHARED, path=path)
    except BaseException as error:
        if is_new:
            with suppress(SystemCallError):
                descriptors.remove_name(path)
        descriptors.close_file(file[1])
        if isinstance(error, MmapError):
            mapping.with_path(error, path)
        raise
    descriptors.close_file(file[1])
    return pages


def _open_new(
    path: Path, mode: int, *, overwrite: bool
) -> tuple[descriptors.OwnedDescriptor, bool]:
    """Return a descriptor of a new file, or of one to overwrite; and whether it is new."""
    flags = os.O_RDWR | os.O_CREAT
    try:
        return descriptors.open_file(path, flags | os.O_EXCL, mode), True
    except AlreadyExistsError:
        if not overwrite:
            raise
    file = descriptors.open_file(path, flags, mode)
    if not stat.S_ISREG(descriptors.file_status(file[0]).mode):
        descriptors.close_file(file[1])
        error = system_call_error(errno.EEXIST, "open", os.fsdecode(path))
        raise hinted(error, "only a regular file is overwritten")
    return file, False
