"""Numbers in a region, and slices of it that others change meanwhile."""

from typing import SupportsIndex, TypeVar

from mmapwrap._core.arguments import as_integer
from mmapwrap._regions.base import RegionBase
from mmapwrap._regions.scalars import Scalar, not_a_scalar
from mmapwrap._regions.volatile import VolatileSlice, slice_of, volatile_end

N = TypeVar("N", int, float)


class TypedRegion(RegionBase):
    """A region that holds numbers."""

    __slots__ = ()

    def read_obj(self, scalar: Scalar[N], offset: SupportsIndex) -> N:
        """Reads a number, at any alignment.

        Args:
            scalar: What is there, such as `mmapwrap.u32` or `mmapwrap.be_f64`.
            offset: Its first byte.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: It is not all inside the region.
            ProtectionError: It cannot be read.
            MappingFaultError: It could not be read in.
            TypeError: `scalar` is none of the package's.
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        return scalar.load(self._pages, offset, scalar.mode)

    def write_obj(self, scalar: Scalar[N], value: N, offset: SupportsIndex) -> None:
        """Writes a number, at any alignment; all of it or nothing.

        Args:
            scalar: What is there, such as `mmapwrap.u32` or `mmapwrap.be_f64`.
            value: The number.
            offset: Its first byte.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: It is not all inside the region.
            InvalidArgumentError: The scalar cannot hold the value.
            ProtectionError: It cannot be written.
            MappingFaultError: It could not be read in.
            TypeError: `scalar` is none of the package's, or the value no number.
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        value = scalar.plain(value)
        scalar.store(self._pages, value, offset, scalar.mode)

    def read_obj_volatile(self, scalar: Scalar[N], offset: SupportsIndex) -> N:
        """Reads a number by exactly one load of its width.

        Raises:
            VolatileMisalignedError: Its address is not a multiple of its width.
            The errors of `read_obj`.
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        return scalar.load(self._pages, offset, scalar.volatile_mode)

    def write_obj_volatile(self, scalar: Scalar[N], value: N, offset: SupportsIndex) -> None:
        """Writes a number by exactly one store of its width.

        Raises:
            VolatileMisalignedError: Its address is not a multiple of its width.
            The errors of `write_obj`.
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        value = scalar.plain(value)
        scalar.store(self._pages, value, offset, scalar.volatile_mode)

    def get_slice(self, offset: SupportsIndex, count: SupportsIndex) -> VolatileSlice:
        """Returns a range for memory that others change meanwhile; it keeps the pages alive.

        Raises:
            ClosedMappingError: The region is closed.
            VolatileOutOfBoundsError: The range is not inside the region.
            VolatileOverflowError: The range ends past 2**64.
        """
        start, size = as_integer(offset, "offset"), as_integer(count, "count")
        pages = self._open_pages()
        end = volatile_end(start, size, pages.size)
        return slice_of(pages, start, end - start)
