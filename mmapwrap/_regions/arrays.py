"""Regions as NumPy arrays. NumPy is imported where an array is asked for."""

from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar, overload

from mmapwrap._regions.base import RegionBase
from mmapwrap.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    Shape: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
    Item = TypeVar("Item", bound=np.generic)


class ArrayRegion(RegionBase):
    """Give a region's memory to NumPy."""

    __slots__ = ()

    @overload
    def array(
        self,
        dtype: "type[Item] | np.dtype[Item]",
        shape: "Shape | None" = None,
        *,
        offset: SupportsIndex = 0,
        order: Literal["C", "F"] = "C",
    ) -> "NDArray[Item]": ...
    @overload
    def array(
        self,
        dtype: "DTypeLike" = "u1",
        shape: "Shape | None" = None,
        *,
        offset: SupportsIndex = 0,
        order: Literal["C", "F"] = "C",
    ) -> "NDArray[Any]": ...
    def array(
        self,
        dtype: "DTypeLike" = "u1",
        shape: "Shape | None" = None,
        *,
        offset: SupportsIndex = 0,
        order: str = "C",
    ) -> "NDArray[Any]":
        """Return a NumPy array of the memory itself, not a copy.

        The array is read-only unless all of its range is writable. It keeps the pages, also past
        `close`, and counts as a live view, as do the arrays made of it.

        Args:
            dtype: The type of the items, such as 'f4', `numpy.uint16` or a record.
            shape: The items in each dimension, or the items of one; None: one dimension of all
                items up to the region's end.
            offset: The first byte of the array, in bytes from the region's start.
            order: Which dimension is contiguous: 'C', the last; or 'F', as in Fortran, the first.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The array is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: A fault guard has replaced pages of the region by zeros.
            InvalidArgumentError: The items are Python objects. Or `shape` is None, and they have no
                bytes, or the last one is cut off by the region's end. Or a dimension is negative,
                or there are more than NumPy knows, or the order is none of these.
            TypeError: NumPy has no such dtype.

        Safety:
            As of `view`: where the file was truncated, an access to the array is SIGBUS, except
            inside `fault_guard`.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> matrix = mapping.array("<f4", (2, 3), offset=16)
            >>> matrix[1, 2] = 0.5
            >>> mapping.array("<f4", 6, offset=16).tolist()
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
        """
        from mmapwrap._adapters import arrays  # noqa: PLC0415  # it imports NumPy

        if type(order) is not str:
            raise TypeError(f"order must be a str, not {type(order).__name__}")
        if order not in {"C", "F"}:
            raise InvalidArgumentError(f"order must be 'C' or 'F', not {order!r}")
        pages = self._pages
        start = pages.integer(offset, "offset")
        return arrays.array_over(pages, dtype, shape, start, order)

    # NumPy passes both by position or by name.
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001
        r"""Return the region as a NumPy array of bytes; copy only if `dtype` or `copy` asks for it.

        Errors: see `view`.

        Raises:
            MappingFaultError: The array is a copy, and some of the region could not be read in.
            ValueError: `copy` is False, and the dtype needs a copy.
            OutOfMemoryError: There is no memory for the copy.

        Example:
            >>> import numpy
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4)
            >>> numpy.asarray(mapping)[1] = 7
            >>> mapping[:]
            b'\x00\x07\x00\x00'
        """
        from mmapwrap._adapters import arrays  # noqa: PLC0415  # it imports NumPy

        return arrays.array_of(self._open_pages(), dtype, copy=copy)
