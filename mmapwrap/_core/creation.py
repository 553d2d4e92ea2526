"""What is mapped anew: where what a caller asks for is checked and becomes pages."""

from typing import Final, SupportsIndex

from mmapwrap._core import calls, constants, descriptors
from mmapwrap._core.arguments import (
    Descriptor,
    Path,
    as_alignment,
    as_descriptor,
    as_file_offset,
    as_fixed_address,
    as_protection,
    as_sharing,
    as_size,
)
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap.errors import ProtectionError

_PAGE: Final = constants.PAGE_SIZE
_UNRESERVED_MEMORY: Final = constants.MAP_ANONYMOUS | constants.MAP_NORESERVE


def map_memory(
    size: SupportsIndex,
    prot: Protection,
    sharing: Sharing = Sharing.SHARED,
    *,
    align: SupportsIndex | None = None,
    populate: bool = False,
    flags: int = _UNRESERVED_MEMORY,
) -> Pages:
    """Maps memory that no file is behind; the flags say so."""
    return _map(as_size(size), prot, sharing, -1, 0, flags, align, populate)


def map_memory_at(addr: SupportsIndex, size: SupportsIndex, prot: Protection, flag: int) -> Pages:
    """Maps anonymous shared memory at an address; the flag is one of MAP_FIXED's kind."""
    length = as_size(size)
    flags = flag | _UNRESERVED_MEMORY
    address = as_fixed_address(addr, length)
    return _map(length, prot, Sharing.SHARED, -1, 0, flags, address=address)


def map_file(
    fd: Descriptor,
    size: SupportsIndex,
    offset: SupportsIndex,
    prot: Protection,
    sharing: Sharing = Sharing.SHARED,
    *,
    align: SupportsIndex | None = None,
    populate: bool = False,
) -> Pages:
    """Maps a range of a file, whose length is not checked."""
    number, start = as_descriptor(fd), as_file_offset(offset)
    return _map(as_size(size), prot, sharing, number, start, 0, align, populate)


def map_file_range(
    fd: int,
    size: SupportsIndex | None,
    start: int,
    prot: Protection,
    sharing: Sharing,
    *,
    align: SupportsIndex | None = None,
    populate: bool = False,
    path: Path | None = None,
) -> Pages:
    """Maps a range that the file has, if it is one that has a length; None: the rest of it.

    The path is what errors name.
    """
    length = 0 if size is None else as_size(size)
    return _map(
        length,
        prot,
        sharing,
        fd,
        start,
        0,
        align,
        populate,
        options=constants.MapOption.IN_FILE,
        path=path,
    )


def map_file_at(
    addr: SupportsIndex,
    fd: Descriptor,
    size: SupportsIndex,
    offset: SupportsIndex,
    prot: Protection,
    flag: int,
) -> Pages:
    """Maps a range of a file, shared, at an address; the flag is one of MAP_FIXED's kind."""
    length, start = as_size(size), as_file_offset(offset)
    number = as_descriptor(fd)
    address = as_fixed_address(addr, length, start, descriptors.file_page_size(number))
    flags = flag | constants.MAP_NORESERVE
    return _map(length, prot, Sharing.SHARED, number, start, flags, address=address)


def _map(
    size: int,
    prot: Protection,
    sharing: Sharing,
    fd: int,  # -1: anonymous
    file_offset: int,
    flags: int,
    align: SupportsIndex | None = None,
    populate: bool = False,  # noqa: FBT001, FBT002  # every mapping comes by: keywords take time
    address: int = 0,
    options: int = 0,
    path: Path | None = None,
) -> Pages:
    bits = as_protection(prot).bits
    if populate and not bits & (PROT_READ | PROT_WRITE):
        raise ProtectionError(Protection.read(), prot)
    flags |= as_sharing(sharing)
    alignment = _PAGE if align is None else as_alignment(align)
    if populate:
        options |= constants.MapOption.POPULATE
    handle = calls.map_pages(address, size, alignment, bits, flags, fd, file_offset, options, path)
    return Pages(handle, bits, sharing, None if fd < 0 else file_offset)
