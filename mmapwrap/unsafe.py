"""The functions that can crash the process or corrupt its memory if they are used wrongly.

No public call outside of this module can.
"""

from typing import SupportsIndex

from mmapwrap._core import constants, mapping
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
    """Map anonymous shared memory at this address, over whatever is mapped there. MAP_FIXED.

    Errors: see `MemoryMapping.new_protection_fixed`, all but AddressInUseError.

    Args:
        addr: The address of the first byte, on a page.
        size: Bytes.
        prot: The access to allow.

    Safety:
        All pages of the range are replaced, whichever code uses them: code, stacks, the allocator's
        memory, other mappings. The caller knows that the range is not in use, and that no other
        owner will unmap it.

    Example:
        >>> from mmapwrap import MemoryMapping, Protection, page_size, unsafe
        >>> with MemoryMapping.anonymous(page_size()) as reserved:
        ...     address = reserved.as_ptr()
        >>> mapping = unsafe.new_protection_fixed(address, page_size(), Protection.read())
        >>> mapping.as_ptr() == address
        True
    """
    # SAFETY: `map_memory_at` checks the address; the caller answers for the pages that it replaces.
    return region_of(MemoryMapping, map_memory_at(addr, size, prot, constants.MAP_FIXED))


def from_descriptor_offset_protection_fixed(
    addr: SupportsIndex,
    fd: Descriptor,
    size: SupportsIndex,
    offset: SupportsIndex,
    prot: Protection,
) -> MemoryMapping:
    """Map a range of a file at this address, shared, over whatever is mapped there. MAP_FIXED.

    Errors: see `MemoryMapping.from_descriptor_offset_protection_fixed`, all but AddressInUseError.

    Args:
        addr: The address of the byte at `offset`: as far into a page as that is.
        fd: A descriptor, or an object with one; it may be closed afterwards.
        size: Bytes.
        offset: Bytes into the file, at any alignment.
        prot: The access to allow.

    Safety:
        As for `new_protection_fixed`.

    Example:
        >>> from mmapwrap import MemoryMapping, Protection, page_size, unsafe
        >>> with MemoryMapping.anonymous(page_size()) as reserved:
        ...     address = reserved.as_ptr()
        >>> with open("/proc/self/exe", "rb") as program:
        ...     mapping = unsafe.from_descriptor_offset_protection_fixed(
        ...         address, program, page_size(), 0, Protection.read()
        ...     )
        >>> mapping[1:4]
        b'ELF'
    """
    # SAFETY: `map_file_at` checks the address; the caller answers for the pages that it replaces.
    pages = map_file_at(addr, fd, size, offset, prot, constants.MAP_FIXED)
    return region_of(MemoryMapping, pages)


def from_raw_parts(
    addr: SupportsIndex,
    size: SupportsIndex,
    prot: Protection = Protection.read_write(),  # noqa: B008  # a value, the same for ever
    *,
    owner: object = None,
) -> ExternalMapping:
    """Return a region of memory that another owner mapped and unmaps.

    Args:
        addr: The address of the first byte, at any alignment.
        size: Bytes.
        prot: The access that the memory allows; it is not changed.
        owner: An object to keep while the region, a view or a slice of it lives: the one that
            unmaps.

    Raises:
        InvalidAddressError: The address is 0 or negative, or the end past 2**64.
        InvalidArgumentError: The size is 0 or negative.
        TypeError: An argument has a wrong type.

    Safety:
        The memory is mapped with this protection, and stays so while the region, a view or a slice
        of it lives. The region's calls that work on whole pages reach to the ends of the pages that
        the range touches.

    Example:
        >>> import ctypes
        >>> from mmapwrap import u32, unsafe
        >>> owner = (ctypes.c_uint32 * 4)(1, 2, 3, 4)
        >>> region = unsafe.from_raw_parts(ctypes.addressof(owner), 16, owner=owner)
        >>> region.read_obj(u32, 8)
        3
    """
    length = as_size(size)
    address = as_address(addr, length)
    bits = as_protection(prot).bits
    # SAFETY: `as_address` has checked the range; the caller answers for the memory in it.
    handle = mapping.borrow_pages(address, length, bits, owner)
    return region_of(ExternalMapping, Pages(handle, bits, Sharing.SHARED))
