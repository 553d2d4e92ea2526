"""ExternalMapping: memory that another library or a driver owns."""

from typing import final

from mmapwrap._core.construction import NamedConstructors
from mmapwrap._regions.region import MappedRegion


@final
class ExternalMapping(
    NamedConstructors, MappedRegion, made_by="mmapwrap.unsafe.from_raw_parts(addr, size)"
):
    """Memory that a driver, another library or a foreign allocator mapped and will unmap.

    `mmapwrap.unsafe.from_raw_parts` makes it. It has all methods of a region, and never unmaps.

    Example:
        >>> import ctypes
        >>> from mmapwrap import unsafe
        >>> owner = ctypes.create_string_buffer(b"hello")
        >>> region = unsafe.from_raw_parts(ctypes.addressof(owner), 5, owner=owner)
        >>> region[:]
        b'hello'
    """

    __slots__ = ()
