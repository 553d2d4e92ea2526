"""MappedRegion: the methods that every mapped range of memory has."""

import abc
from typing import SupportsIndex

from mmapwrap._core.arguments import Descriptor
from mmapwrap._core.parts import join_parts
from mmapwrap._core.protection import Protection
from mmapwrap._regions.advising import AdvisedRegion
from mmapwrap._regions.arrays import ArrayRegion
from mmapwrap._regions.content import ContentRegion
from mmapwrap._regions.file import FileRegion
from mmapwrap._regions.numbers import TypedRegion
from mmapwrap._regions.residence import ResidentRegion
from mmapwrap._regions.search import SearchableRegion
from mmapwrap.errors import (
    AddFdMappingUnsupportedError,
    RemoveMappingUnsupportedError,
    UnsupportedOperationError,
)


class MappedRegion(
    ContentRegion,
    TypedRegion,
    SearchableRegion,
    FileRegion,
    ArrayRegion,
    AdvisedRegion,
    ResidentRegion,
    abc.ABC,
):
    """A range of mapped memory; the base of the kinds of regions, never made itself.

    Offsets and counts are bytes from the region's start. A count of None means up to its end, and
    a call on a range takes the whole region where no range is given. Calls that drop content have
    no such default: `remove_range`, `drop_page_cache` and `remove` of an arena want their range.
    `advise_destructive` takes the whole region too, because both its name and its advice say what
    is at stake.

    Example:
        >>> from mmapwrap import MappedRegion, MemoryMapping
        >>> with MemoryMapping.anonymous(4096) as region:
        ...     isinstance(region, MappedRegion), len(region)
        (True, 4096)
    """

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError(
            "MappedRegion is the base of the regions: use a constructor of one, such as "
            "MemoryMapping.anonymous(size)"
        )

    def add_fd_mapping(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        fd: Descriptor,
        fd_offset: SupportsIndex,
        prot: Protection,
    ) -> None:
        """Map a file into the region, if the region can hold one; `MemoryMappingArena` can.

        Args:
            offset: The first byte in the region, on a page.
            size: Bytes.
            fd: A descriptor, or an object with one.
            fd_offset: Bytes into the file, on a page.
            prot: The access to allow.

        Raises:
            AddFdMappingUnsupportedError: This kind of region cannot hold files.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> MemoryMapping.anonymous(4096).add_fd_mapping(0, 4096, 0, 0, Protection.read())
            Traceback (most recent call last):
            mmapwrap.errors.AddFdMappingUnsupportedError: add_fd_mapping is not supported ...
        """
        raise AddFdMappingUnsupportedError

    def remove_mapping(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Remove a mapping from the region, if the region can hold some; `MemoryMappingArena` can.

        Args:
            offset: The first byte in the region, on a page.
            size: Bytes.

        Raises:
            RemoveMappingUnsupportedError: This kind of region cannot hold mappings.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> MemoryMapping.anonymous(4096).remove_mapping(0, 4096)
            Traceback (most recent call last):
            mmapwrap.errors.RemoveMappingUnsupportedError: remove_mapping is not supported ...
        """
        raise RemoveMappingUnsupportedError

    @property
    def capacity(self) -> int:
        """The bytes to which the region may grow while nothing of it moves; its size if it cannot.

        Raises:
            ClosedMappingError: The region is closed.
        """
        return self._open_pages().size

    def resize(self, size: SupportsIndex, *, allocate: bool = True) -> None:
        """Change the region's size, if the region can grow and shrink; `MemoryMapping` can.

        Args:
            size: Bytes.
            allocate: Take the blocks of a file that grows.

        Raises:
            UnsupportedOperationError: This kind of region has a fixed size.

        Example:
            >>> from mmapwrap import MemoryMappingArena
            >>> MemoryMappingArena.new(4096).resize(8192)
            Traceback (most recent call last):
            mmapwrap.errors.UnsupportedOperationError: resize is not supported by this kind of ...
        """
        raise UnsupportedOperationError("resize")

    def refresh(self) -> int:
        """Follow the length of the region's file, if the region can; `MemoryMapping` can.

        Returns:
            The region's size in bytes.

        Raises:
            UnsupportedOperationError: This kind of region has a fixed size.

        Example:
            >>> from mmapwrap import MemoryMappingArena
            >>> MemoryMappingArena.new(4096).refresh()
            Traceback (most recent call last):
            mmapwrap.errors.UnsupportedOperationError: refresh is not supported by this kind of ...
        """
        raise UnsupportedOperationError("refresh")


join_parts(MappedRegion)
