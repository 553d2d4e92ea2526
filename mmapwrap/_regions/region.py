"""MappedRegion: what every mapped range of memory can do, whoever mapped it."""

import abc
from typing import SupportsIndex

from mmapwrap._core.arguments import Descriptor
from mmapwrap._core.protection import Protection
from mmapwrap._regions.advising import AdvisedRegion
from mmapwrap._regions.content import ContentRegion
from mmapwrap._regions.numbers import TypedRegion
from mmapwrap._regions.residence import ResidentRegion
from mmapwrap._regions.search import SearchableRegion
from mmapwrap.errors import AddFdMappingUnsupportedError, RemoveMappingUnsupportedError


class MappedRegion(
    ContentRegion, TypedRegion, SearchableRegion, AdvisedRegion, ResidentRegion, abc.ABC
):
    """A range of mapped memory.

    Offsets and counts are bytes from the region's start. A count of None means up to its end.
    """

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError("MappedRegion is what the kinds of regions share, and none itself")

    def add_fd_mapping(
        self,
        offset: SupportsIndex,
        size: SupportsIndex,
        fd: Descriptor,
        fd_offset: SupportsIndex,
        prot: Protection,
    ) -> None:
        """Maps a file into the region, where the region can hold one.

        Raises:
            AddFdMappingUnsupportedError: This kind of region cannot.
        """
        raise AddFdMappingUnsupportedError

    def remove_mapping(self, offset: SupportsIndex, size: SupportsIndex) -> None:
        """Takes out what was mapped into the region, where the region can hold something.

        Raises:
            RemoveMappingUnsupportedError: This kind of region cannot.
        """
        raise RemoveMappingUnsupportedError
