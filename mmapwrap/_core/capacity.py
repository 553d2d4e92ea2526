"""Capacity: the room that a region was given to grow into."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmapwrap._core import descriptors


class Capacity(NamedTuple):
    """The size up to which a region may grow while nothing of it moves."""

    size: int
    """Bytes, from the region's first one."""
    file: "descriptors.OwnedDescriptor | None"
    """A descriptor of the region's file, which only such a region keeps; None: memory."""
