"""Numbers in a region, and slices of memory that others change at the same time."""

from typing import Any, SupportsIndex, TypeVar, overload

from mmapwrap._core.arguments import as_integer
from mmapwrap._regions.base import RegionBase
from mmapwrap._regions.scalars import AnyScalar, Scalar, not_a_scalar
from mmapwrap._regions.volatile import VolatileSlice, slice_of, volatile_end

N = TypeVar("N", bound=float)


class TypedRegion(RegionBase):
    """Read and write the numbers in a region."""

    __slots__ = ()

    @overload
    def read_obj(self, scalar: Scalar[N], offset: SupportsIndex) -> N: ...
    @overload
    def read_obj(self, scalar: AnyScalar, offset: SupportsIndex) -> float: ...
    def read_obj(self, scalar: Scalar[Any], offset: SupportsIndex) -> Any:
        """Read a number, at any alignment.

        Args:
            scalar: The number's type, such as `mmapwrap.u32` or `mmapwrap.be_f64`.
            offset: The number's first byte.

        Returns:
            An int, or a float for `f32`, `f64` and their kin.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: Some of the number is outside of the region.
            ProtectionError: The number's bytes cannot be read.
            MappingFaultError: The number's page could not be read in.
            TypeError: `scalar` is not one of this package.

        Example:
            >>> from mmapwrap import MemoryMapping, be_u16, u8
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[0:3] = bytes([0, 1, 2])
            >>> mapping.read_obj(be_u16, 1), mapping.read_obj(u8, 2)
            (258, 2)
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        return scalar.load(self._pages, offset, scalar.mode)

    @overload
    def write_obj(self, scalar: Scalar[N], value: N, offset: SupportsIndex) -> None: ...
    @overload
    def write_obj(self, scalar: AnyScalar, value: int, offset: SupportsIndex) -> None: ...
    def write_obj(self, scalar: Scalar[Any], value: float, offset: SupportsIndex) -> None:
        """Write a number, at any alignment: all of it, or nothing where the call fails.

        Args:
            scalar: The number's type, such as `mmapwrap.u32` or `mmapwrap.be_f64`.
            value: The number.
            offset: The number's first byte.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: Some of the number is outside of the region.
            InvalidArgumentError: The scalar cannot hold the value.
            ProtectionError: The number's bytes cannot be written.
            MappingFaultError: The number's page could not be read in.
            TypeError: `scalar` is not one of this package, or the value is no number.

        Example:
            >>> from mmapwrap import MemoryMapping, be_u16, f64
            >>> mapping = MemoryMapping.anonymous(16)
            >>> mapping.write_obj(be_u16, 0x4142, 0)
            >>> mapping.write_obj(f64, 1.5, 3)
            >>> mapping[:2], mapping.read_obj(f64, 3)
            (b'AB', 1.5)
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        value = scalar.plain(value)
        scalar.store(self._pages, value, offset, scalar.mode)

    @overload
    def read_obj_volatile(self, scalar: Scalar[N], offset: SupportsIndex) -> N: ...
    @overload
    def read_obj_volatile(self, scalar: AnyScalar, offset: SupportsIndex) -> float: ...
    def read_obj_volatile(self, scalar: Scalar[Any], offset: SupportsIndex) -> Any:
        """Read a number by exactly one load of its width.

        Arguments and errors: see `read_obj`.

        Raises:
            VolatileMisalignedError: The number's address is not a multiple of its width.

        Example:
            >>> from mmapwrap import MemoryMapping, u32
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.read_obj_volatile(u32, 4)
            0
            >>> mapping.read_obj_volatile(u32, 2)
            Traceback (most recent call last):
            mmapwrap.errors.VolatileMisalignedError: the address of offset 2 is not a multiple of 4
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        return scalar.load(self._pages, offset, scalar.volatile_mode)

    @overload
    def write_obj_volatile(self, scalar: Scalar[N], value: N, offset: SupportsIndex) -> None: ...
    @overload
    def write_obj_volatile(self, scalar: AnyScalar, value: int, offset: SupportsIndex) -> None: ...
    def write_obj_volatile(self, scalar: Scalar[Any], value: float, offset: SupportsIndex) -> None:
        """Write a number by exactly one store of its width.

        Arguments and errors: see `write_obj`.

        Raises:
            VolatileMisalignedError: The number's address is not a multiple of its width.

        Example:
            >>> from mmapwrap import MemoryMapping, u32
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.write_obj_volatile(u32, 7, 4)
            >>> mapping.read_obj(u32, 4)
            7
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        value = scalar.plain(value)
        scalar.store(self._pages, value, offset, scalar.volatile_mode)

    def get_slice(
        self, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> VolatileSlice:
        """Return a range as a slice, for memory that others change at the same time.

        The slice keeps the pages alive.

        Args:
            offset: The first byte of the range.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            VolatileOutOfBoundsError: The range is not inside the region.
            VolatileOverflowError: The range ends past 2**64.

        Example:
            >>> from mmapwrap import MemoryMapping, u32
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> registers = mapping.get_slice(0x100, 16)
            >>> registers.store(u32, 1, 4)
            >>> mapping.read_obj(u32, 0x104)
            1
        """
        start = as_integer(offset, "offset")
        size = None if count is None else as_integer(count, "count")
        pages = self._open_pages()
        if size is None:
            size = max(pages.size - start, 0)
        end = volatile_end(start, size, pages.size, "region")
        return slice_of(pages, start, end - start)
