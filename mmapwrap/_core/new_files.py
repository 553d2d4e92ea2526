"""New files, mapped: where a step fails, a file that is new is removed."""

import errno
import os
import stat
from typing import SupportsIndex

from mmapwrap._core import descriptors, file_length, mapping
from mmapwrap._core._mman import lib
from mmapwrap._core.arguments import Path, as_path, as_permissions, as_size_and_capacity
from mmapwrap._core.creation import map_file_range
from mmapwrap._core.failures import errno_of
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import READ_WRITE
from mmapwrap.errors import (
    MmapError,
    NoSuchFileError,
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
    path = as_path(path)
    length, room = as_size_and_capacity(size, capacity, bits=63)
    permissions = as_permissions(mode)
    replaced = overwrite and _require_regular(path)
    made = _name_beside(path) if replaced else path
    file = descriptors.open_file(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, permissions)
    try:
        file_length.extend_file(file[0], 0, length, allocate=allocate)
        pages = map_file_range(file[0], length, 0, READ_WRITE, path=path, capacity=room or None)
        if replaced:
            _rename(made, path)
    except BaseException as error:
        descriptors.take_back(made, file[1])
        if isinstance(error, MmapError):
            mapping.with_path(error, path)
        raise
    descriptors.close_file(file[1])
    return pages


def _require_regular(path: Path) -> bool:
    """Return whether there is a file at the path; require that it is a regular one."""
    try:
        fd, owner = descriptors.open_file(path, os.O_PATH | os.O_NOFOLLOW)
    except NoSuchFileError:
        return False
    try:
        mode = descriptors.file_status(fd).mode
    finally:
        descriptors.close_file(owner)
    if not stat.S_ISREG(mode):
        error = system_call_error(errno.EEXIST, "open", os.fsdecode(path))
        raise hinted(error, "only a regular file is overwritten")
    return True


def _name_beside(path: Path) -> bytes:
    """Return a path in the same folder that no other file has."""
    folder = os.path.dirname(os.fsencode(path))  # noqa: PTH120
    name = f".mmapwrap-{os.getpid()}-{os.urandom(4).hex()}"  # short, however long the file's is
    return os.path.join(folder, name.encode())  # noqa: PTH118


def _rename(old: Path, new: Path) -> None:
    """Give a file the name of another one, which loses it. rename(2)."""
    result = lib.mmw_rename(os.fsencode(old), os.fsencode(new))
    if result < 0:
        raise system_call_error(errno_of(-result), "rename", os.fsdecode(new))
