"""ExternalMapping: memory that something else owns."""

from typing import final

from mmapwrap._core.construction import NamedConstructors
from mmapwrap._regions.region import MappedRegion


@final
class ExternalMapping(
    NamedConstructors, MappedRegion, made_by="mmapwrap.unsafe.from_raw_parts(addr, size)"
):
    """Memory that a driver, another library or a foreign allocator mapped and will unmap.

    Made by `mmapwrap.unsafe.from_raw_parts`. It does all that a region does, and never unmaps.
    """

    __slots__ = ()
