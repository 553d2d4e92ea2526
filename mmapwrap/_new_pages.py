"""What is mapped anew: where what a caller asks for is checked and becomes pages."""

from typing import SupportsIndex

from mmapwrap import _syscalls
from mmapwrap._arguments import (
    Descriptor,
    as_alignment,
    as_descriptor,
    as_file_offset,
    as_fixed_address,
    as_protection,
    as_sharing,
    as_size,
)
from mmapwrap._ownership import Pages
from mmapwrap._protection import Protection, Sharing
from mmapwrap.errors import ProtectionError


def map_memory(
    size: SupportsIndex,
    prot: Protection,
    sharing: Sharing = Sharing.SHARED,
    *,
    align: SupportsIndex | None = None,
    populate: bool = False,
    flags: int = _syscalls.MAP_NORESERVE,
) -> Pages:
    """Maps memory that no file is behind."""
    flags |= _syscalls.MAP_ANONYMOUS
    return _map(as_size(size), prot, sharing, align=align, populate=populate, flags=flags)


def map_memory_at(addr: SupportsIndex, size: SupportsIndex, prot: Protection, flag: int) -> Pages:
    """Maps anonymous shared memory at an address; the flag is one of MAP_FIXED's kind."""
    length = as_size(size)
    flags = flag | _syscalls.MAP_ANONYMOUS | _syscalls.MAP_NORESERVE
    return _map(length, prot, address=as_fixed_address(addr, length, 0), flags=flags)


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
    file = as_descriptor(fd), as_file_offset(offset)
    return _map(as_size(size), prot, sharing, file=file, align=align, populate=populate)


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
    address = as_fixed_address(addr, length, start)
    flags = flag | _syscalls.MAP_NORESERVE
    return _map(length, prot, file=(as_descriptor(fd), start), address=address, flags=flags)


def _map(
    size: int,
    prot: Protection,
    sharing: Sharing = Sharing.SHARED,
    *,
    file: tuple[int, int] | None = None,
    address: int = 0,
    align: SupportsIndex | None = None,
    populate: bool = False,
    flags: int = 0,
) -> Pages:
    bits = as_protection(prot).bits
    if populate and not bits:
        raise ProtectionError(Protection.read(), prot)
    flags |= as_sharing(sharing)
    fd, offset = (-1, 0) if file is None else file
    handle = _syscalls.map_pages(
        address, size, as_alignment(align), bits, flags, fd, offset, bool(populate)
    )
    return Pages(handle, size, bits, sharing, None if file is None else offset)
