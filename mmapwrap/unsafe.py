"""What can crash the process or corrupt its memory where it is used wrongly: here and only here."""

from typing import SupportsIndex

from mmapwrap._core import calls, constants
from mmapwrap._core.arguments import Descriptor, as_address, as_protection, as_size
from mmapwrap._core.creation import map_file_at, map_memory_at
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap._external import ExternalMapping
from mmapwrap._mapping import MemoryMapping
from mmapwrap._regions.base import region_of

__all__ = [
    "from_descriptor_offset_protection_fixed",
    "from_raw_parts",
    "new_protection_fixed",
]


def new_protection_fixed(
    addr: SupportsIndex, size: SupportsIndex, prot: Protection
) -> MemoryMapping:
    """Maps anonymous shared memory at this address, over whatever is there. MAP_FIXED.

    Args:
        addr: The address of the first byte, on a page.
        size: Bytes.
        prot: What to allow.

    Raises:
        The errors of `MemoryMapping.new_protection_fixed`, but for AddressInUseError.

    Safety:
        All pages of the range are replaced, whoever uses them: code, stacks, the allocator's
        memory, other mappings. The caller knows that nobody does, and that no other owner will
        unmap the range.
    """
    return region_of(MemoryMapping, map_memory_at(addr, size, prot, constants.MAP_FIXED))


def from_descriptor_offset_protection_fixed(
    addr: SupportsIndex,
    fd: Descriptor,
    size: SupportsIndex,
    offset: SupportsIndex,
    prot: Protection,
) -> MemoryMapping:
    """Maps a range of a file at this address, shared, over whatever is there. MAP_FIXED.

    Args:
        addr: The address of the byte at `offset`: as far into a page as that is.
        fd: A descriptor or an object with one.
        size: Bytes.
        offset: Bytes into the file, not only whole pages.
        prot: What to allow.

    Raises:
        The errors of `MemoryMapping.from_descriptor_offset_protection_fixed`, but for
        AddressInUseError.

    Safety:
        As for `new_protection_fixed`.
    """
    pages = map_file_at(addr, fd, size, offset, prot, constants.MAP_FIXED)
    return region_of(MemoryMapping, pages)


def from_raw_parts(
    addr: SupportsIndex,
    size: SupportsIndex,
    prot: Protection = Protection.read_write(),  # noqa: B008  # a value, the same for ever
    *,
    owner: object = None,
) -> ExternalMapping:
    """Makes a region of memory that something else owns and unmaps.

    Args:
        addr: The address of the first byte, at any alignment.
        size: Bytes.
        prot: What the memory allows; it is not changed.
        owner: An object to keep while the region, a view or a slice of it lives: one that unmaps.

    Raises:
        InvalidAddressError: The address is 0 or negative, or the end past 2**64.
        InvalidArgumentError: The size is 0 or negative.

    Safety:
        The memory is mapped with this protection, and stays so while the region, a view or a slice
        of it lives. The region's calls that work on whole pages reach to the ends of the
        pages that the range touches.
    """
    length = as_size(size)
    address = as_address(addr, length)
    bits = as_protection(prot).bits
    handle = calls.borrow_pages(address, length, bits, owner)
    return region_of(ExternalMapping, Pages(handle, bits, Sharing.SHARED))
