"""ExternalMapping: memory that something else owns."""

from typing import Final, NoReturn, SupportsIndex, final

from mmapwrap import _syscalls
from mmapwrap._arguments import as_address, as_protection, as_size
from mmapwrap._ownership import Pages
from mmapwrap._protection import Protection, Sharing
from mmapwrap._region import MappedRegion

_READ_WRITE: Final = Protection.read_write()


@final
class ExternalMapping(MappedRegion):
    """Memory that a driver, another library or a foreign allocator mapped and will unmap.

    Made by `mmapwrap.unsafe.from_raw_parts`. It does all that a region does, and never unmaps.
    """

    __slots__ = ("_owner",)

    _owner: object

    def __init__(self) -> None:
        raise TypeError("use mmapwrap.unsafe.from_raw_parts(addr, size)")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("ExternalMapping is final")

    @classmethod
    def borrowing(
        cls, addr: SupportsIndex, size: SupportsIndex, prot: Protection, owner: object
    ) -> "ExternalMapping":
        """Makes a region of somebody's memory; `unsafe.from_raw_parts` does."""
        length = as_size(size)
        address = as_address(addr, length)
        bits = as_protection(prot).bits
        handle = _syscalls.borrow_pages(address, length, bits)
        region = cls.of_pages(Pages(handle, length, bits, Sharing.SHARED, address=address))
        region._owner = owner
        return region
