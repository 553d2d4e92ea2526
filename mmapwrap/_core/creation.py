"""New mappings: checks of their arguments, and the calls that make the pages."""

from typing import Final, SupportsIndex

from mmapwrap._core import calls, constants, descriptors, mapping
from mmapwrap._core.arguments import (
    Descriptor,
    Path,
    as_alignment,
    as_capacity,
    as_descriptor,
    as_file_offset,
    as_fixed_address,
    as_protection,
    as_sharing,
    as_size,
    as_size_and_capacity,
)
from mmapwrap._core.capacity import Capacity
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.faults import populating_error
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap.errors import (
    BadAddressError,
    MappingFaultError,
    ProtectionError,
)

_UNRESERVED_MEMORY: Final = constants.MAP_ANONYMOUS | constants.MAP_NORESERVE


def map_memory(
    size: SupportsIndex,
    prot: Protection,
    sharing: Sharing = Sharing.SHARED,
    *,
    align: SupportsIndex | None = None,
    populate: bool = False,
    flags: int = _UNRESERVED_MEMORY,
    capacity: SupportsIndex | None = None,
) -> Pages:
    """Map anonymous memory.

    Args:
        size: Bytes.
        prot: The access to allow.
        sharing: Who sees the writes.
        align: The power of two that divides the address, in bytes; None: the page size.
        populate: Allocate all pages.
        flags: The MAP_* bits beside the sharing, MAP_ANONYMOUS among them.
        capacity: The bytes that it may grow to; None: it gets no room to grow.
    """
    length, room = as_size_and_capacity(size, capacity)
    pages = _map(length, prot, sharing, -1, 0, flags, align, populate, capacity=room)
    if room:
        pages.capacity = Capacity(room, None)
    return pages


def map_memory_at(addr: SupportsIndex, size: SupportsIndex, prot: Protection, flag: int) -> Pages:
    """Map anonymous shared memory at an address.

    Args:
        addr: The address of the first byte, on a page.
        size: Bytes.
        prot: The access to allow.
        flag: MAP_FIXED_NOREPLACE, or MAP_FIXED, whose caller answers for the range.
    """
    length = as_size(size)
    flags = flag | _UNRESERVED_MEMORY
    address = as_fixed_address(addr, length)
    # SAFETY: `as_fixed_address` has checked the address; without MAP_FIXED nothing is replaced.
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
    """Map a range of a file, whose length is not checked."""
    number, start = as_descriptor(fd), as_file_offset(offset)
    return _map(as_size(size), prot, sharing, number, start, 0, align, populate)


def map_file_range(
    fd: int,
    size: SupportsIndex | None,
    start: int,
    prot: Protection,
    sharing: Sharing = Sharing.SHARED,
    *,
    align: SupportsIndex | None = None,
    populate: bool = False,
    path: Path | None = None,
    capacity: SupportsIndex | None = None,
) -> Pages:
    """Map a range of a file that the file has; a device without a length has any.

    Args:
        fd: The file's descriptor.
        size: Bytes, with a capacity also 0, whatever the file has; None: the rest of the file.
        start: Bytes into the file.
        prot: The access to allow.
        sharing: Who sees the writes.
        align: The power of two that divides the address of the first page, in bytes.
        populate: Read all pages in.
        path: The file's path, which errors name.
        capacity: The bytes that the range may grow to, by a descriptor of its own; then the rest
            of the file may be empty. None: it gets no room to grow.
    """
    length = 0 if size is None else as_size(size, least=1 if capacity is None else 0)
    in_file = constants.MapOption.IN_FILE if size is None or length else 0
    if capacity is None:
        return _map(
            length, prot, sharing, fd, start, 0, align, populate, options=in_file, path=path
        )
    room, file = as_capacity(capacity), descriptors.duplicate(fd)
    try:
        pages = _map(
            length,
            prot,
            sharing,
            fd,
            start,
            0,
            align,
            populate,
            options=in_file,
            path=path,
            capacity=room,
        )
    except BaseException:
        descriptors.close_file(file[1])  # now: the frames of the error hold it longer
        raise
    pages.capacity = Capacity(room, file)
    return pages


def map_file_at(
    addr: SupportsIndex,
    fd: Descriptor,
    size: SupportsIndex,
    offset: SupportsIndex,
    prot: Protection,
    flag: int,
) -> Pages:
    """Map a range of a file, shared, at an address.

    Args:
        addr: The address of the byte at `offset`: as far into a page as that is.
        fd: A descriptor, or an object with one.
        size: Bytes.
        offset: Bytes into the file.
        prot: The access to allow.
        flag: MAP_FIXED_NOREPLACE, or MAP_FIXED, whose caller answers for the range.
    """
    length, start = as_size(size), as_file_offset(offset)
    number = as_descriptor(fd)
    address = as_fixed_address(addr, length, start, descriptors.file_page_size(number))
    flags = flag | constants.MAP_NORESERVE
    # SAFETY: `as_fixed_address` has checked the address; without MAP_FIXED nothing is replaced.
    return _map(length, prot, Sharing.SHARED, number, start, flags, address=address)


def _map(
    size: int,
    prot: Protection,
    sharing: Sharing,
    fd: int,  # -1: anonymous
    file_offset: int,
    flags: int,
    align: SupportsIndex | None = None,
    populate: bool = False,  # noqa: FBT001, FBT002  # on the way of every mapping: keywords are slower
    address: int = 0,
    options: int = 0,
    path: Path | None = None,
    capacity: int = 0,
) -> Pages:
    """Check the other arguments, and map the pages."""
    bits = as_protection(prot).bits
    if populate and not bits & (PROT_READ | PROT_WRITE):
        raise _unreadable(prot, size)
    flags |= as_sharing(sharing)
    alignment = constants.PAGE_SIZE if align is None else as_alignment(align)
    if populate:
        options |= constants.MapOption.POPULATE
    try:
        handle = mapping.map_pages(
            address, size, alignment, bits, flags, fd, file_offset, options, path, capacity
        )
    except BadAddressError as error:
        if fd < 0 or not populate or error.syscall != "madvise":
            raise
        missing = _missing_page(size, bits, flags, fd, file_offset, options)
        raise mapping.with_path(missing, path) from None
    return Pages(handle, bits, sharing, None if fd < 0 else file_offset)


def _unreadable(prot: Protection, size: int) -> ProtectionError:
    """Return the error of pages to populate that allow neither reading nor writing."""
    error = ProtectionError(Protection.read(), prot)
    error.range = (0, size) if size else None  # 0: the rest of the file, which is not known yet
    return error


def _missing_page(
    size: int, bits: int, flags: int, fd: int, file_offset: int, options: int
) -> MappingFaultError:
    """Return the error of a file's page that could not be populated.

    Nothing stays mapped where populating fails, so that the page is looked for in another mapping.
    """
    options &= ~constants.MapOption.POPULATE
    page = constants.PAGE_SIZE
    handle = mapping.map_pages(0, size, page, bits, flags, fd, file_offset, options)
    # As C populates it: what is private, or cannot be read, by writing.
    is_written = bits & PROT_WRITE and (flags & constants.MAP_PRIVATE or not bits & PROT_READ)
    try:
        return populating_error(handle, 0, calls.size(handle), write=bool(is_written))
    finally:
        mapping.unmap(handle)
