"""ExternalMapping: memory that something else owns."""

from typing import NoReturn, final

from mmapwrap._region import MappedRegion


@final
class ExternalMapping(MappedRegion):
    """Memory that a driver, another library or a foreign allocator mapped and will unmap.

    Made by `mmapwrap.unsafe.from_raw_parts`. It does all that a region does, and never unmaps.
    """

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError("use mmapwrap.unsafe.from_raw_parts(addr, size)")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("ExternalMapping is final")
