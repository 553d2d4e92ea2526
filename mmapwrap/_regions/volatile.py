"""VolatileSlice: a range of memory that others change while it is read and written."""

from typing import TYPE_CHECKING, Any, ClassVar, Final, SupportsIndex, TypeVar, final, overload

from mmapwrap._core import buffers, calls, constants, failures
from mmapwrap._core.arguments import Descriptor, ReadableBuffer, WritableBuffer, as_byte, as_integer
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.construction import NamedConstructors
from mmapwrap._core.pages import Pages
from mmapwrap._regions import items, transfers
from mmapwrap._regions.scalars import AnyScalar, Scalar, not_a_scalar
from mmapwrap.errors import BadAddressError, VolatileOutOfBoundsError, VolatileOverflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mmapwrap._core._mman import CData

N = TypeVar("N", bound=float)


def volatile_end(offset: int, count: int, size: int, holder: str = "slice") -> int:
    """Return `offset + count`, in bytes, of a range inside `size` bytes of volatile memory.

    Args:
        offset: The first byte.
        count: The bytes.
        size: The bytes of the memory.
        holder: The memory's name in the error: a region, or a slice of one.

    Raises:
        VolatileOverflowError: The end is past 2**64.
        VolatileOutOfBoundsError: The end is past the memory's, or a number is negative.
    """
    end = offset + count
    if offset < 0 or count < 0:
        raise _out_of_bounds(min(offset, end), offset, count, size, holder)
    if end >= constants.ADDRESS_SPACE:
        raise VolatileOverflowError(offset, count)
    if end > size:
        raise _out_of_bounds(end, offset, count, size, holder)
    return end


def _out_of_bounds(
    addr: int, offset: int, count: int, size: int, holder: str
) -> VolatileOutOfBoundsError:
    """Return the error of a range that is not inside `size` bytes."""
    error = VolatileOutOfBoundsError(addr)
    error.holder = holder
    error.range = offset, count, size
    return error


@final
class VolatileSlice(NamedConstructors, made_by="get_slice() of a region"):
    """A range of a region, for memory that a device, another thread or process changes meanwhile.

    No content is cached between calls; `load` and `store` are exactly one access of their width. A
    slice keeps the pages alive, also past the region's `close`. The methods that read or write
    share these errors:

    Raises:
        ProtectionError: The region does not allow the access.
        MappingFaultError: Pages could not be read in.
        ClosedMappingError: The process is a child that did not inherit the pages (`use_dontfork`).

    Example:
        >>> from mmapwrap import MemoryMapping, u32
        >>> mapping = MemoryMapping.anonymous(4096)
        >>> registers = mapping.get_slice(0, 16)
        >>> registers.store(u32, 0x80, 4)
        >>> registers.load(u32, 4), mapping.read_obj(u32, 4)
        (128, 128)
    """

    __slots__ = ("_pages", "_range")

    _pages: Pages
    _range: tuple[int, int]
    """The offset in the region and the size: one tuple, because another thread may change both."""

    # --- Place and size -------------------------------------------------------------------------

    @property
    def address(self) -> int:
        """The address of the first byte."""
        return calls.address(self._pages.handle) + self._range[0]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._range[1]

    def __len__(self) -> int:
        return self._range[1]

    def __repr__(self) -> str:
        start, size = self._range
        address = calls.address(self._pages.handle) + start
        return f"<VolatileSlice of {size} bytes at {address:#x}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VolatileSlice):
            return NotImplemented
        (start, size), (other_start, other_size) = self._range, other._range
        if size != other_size:
            return False
        return self._on_both(start, size, other._pages, other_start, PROT_READ, calls.equals) == 1

    # Equality is by content, which changes, so a hash would change too.
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

    # --- Parts ----------------------------------------------------------------------------------

    def sub_slice(self, offset: SupportsIndex, count: SupportsIndex) -> "VolatileSlice":
        """Return `count` bytes from `offset` on as a slice.

        Args:
            offset: The first byte, in bytes from this slice's start.
            count: Bytes.

        Raises:
            VolatileOutOfBoundsError: Some of the bytes are outside of this slice.
            VolatileOverflowError: The range ends past 2**64.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> memory = MemoryMapping.anonymous(64).get_slice(0, 64)
            >>> memory.sub_slice(16, 8).address - memory.address
            16
        """
        skipped = as_integer(offset, "offset")
        start, size = self._range
        end = volatile_end(skipped, as_integer(count, "count"), size)
        return slice_of(self._pages, start + skipped, end - skipped)

    def offset(self, count: SupportsIndex) -> "VolatileSlice":
        """Return the slice without its first `count` bytes.

        Args:
            count: The bytes to leave out.

        Raises:
            VolatileOutOfBoundsError: The slice has fewer bytes.
            VolatileOverflowError: The count is 2**64 or more.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> memory = MemoryMapping.anonymous(64).get_slice(0, 64)
            >>> memory.offset(16).size
            48
        """
        wanted = as_integer(count, "count")
        start, size = self._range
        skipped = volatile_end(0, wanted, size)
        return slice_of(self._pages, start + skipped, size - skipped)

    def advance(self, count: SupportsIndex) -> None:
        """Drop the first `count` bytes from this slice. Errors: see `offset`.

        Args:
            count: The bytes to drop; their content stays in the region.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> memory = MemoryMapping.anonymous(64).get_slice(0, 64)
            >>> memory.advance(16)
            >>> memory.size
            48
        """
        wanted = as_integer(count, "count")
        start, size = self._range
        skipped = volatile_end(0, wanted, size)
        self._range = start + skipped, size - skipped

    def truncate(self, len: SupportsIndex) -> None:  # noqa: A002
        """Keep the first `len` bytes of this slice; do nothing if it has no more.

        Args:
            len: The bytes to keep.

        Raises:
            VolatileOutOfBoundsError: `len` is negative.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> memory = MemoryMapping.anonymous(64).get_slice(0, 64)
            >>> memory.truncate(8)
            >>> memory.size
            8
        """
        kept = as_integer(len, "len")
        start, size = self._range
        if kept < 0:
            raise _out_of_bounds(kept, 0, kept, size, "slice")
        self._range = start, min(kept, size)

    # --- Content --------------------------------------------------------------------------------

    @overload
    def load(self, scalar: Scalar[N], offset: SupportsIndex = 0) -> N: ...
    @overload
    def load(self, scalar: AnyScalar, offset: SupportsIndex = 0) -> float: ...
    def load(self, scalar: Scalar[Any], offset: SupportsIndex = 0) -> Any:
        """Read a number by one load of its width. Errors: see `VolatileSlice`.

        Args:
            scalar: The number's type, such as `mmapwrap.u32`.
            offset: The number's first byte, in bytes from the slice's start.

        Raises:
            VolatileMisalignedError: The number's address is not a multiple of its width.
            VolatileOutOfBoundsError: Some of the number is outside of the slice.
            VolatileOverflowError: The number ends past 2**64.
            TypeError: `scalar` is not one of this package.

        Example:
            >>> from mmapwrap import MemoryMapping, u16
            >>> mapping = MemoryMapping.anonymous(64)
            >>> mapping.write_obj(u16, 500, 18)
            >>> mapping.get_slice(16, 8).load(u16, 2)
            500
        """
        start = self._offset_in_region(scalar, offset)
        return scalar.load(self._pages, start, scalar.volatile_mode)

    @overload
    def store(self, scalar: Scalar[N], value: N, offset: SupportsIndex = 0) -> None: ...
    @overload
    def store(self, scalar: AnyScalar, value: int, offset: SupportsIndex = 0) -> None: ...
    def store(self, scalar: Scalar[Any], value: float, offset: SupportsIndex = 0) -> None:
        """Write a number by one store of its width. Errors: see `VolatileSlice`.

        Args:
            scalar: The number's type, such as `mmapwrap.u32`.
            value: The number.
            offset: The number's first byte, in bytes from the slice's start.

        Raises:
            VolatileMisalignedError: The number's address is not a multiple of its width.
            VolatileOutOfBoundsError: Some of the number is outside of the slice.
            VolatileOverflowError: The number ends past 2**64.
            InvalidArgumentError: The scalar cannot hold the value.
            TypeError: `scalar` is not one of this package, or the value is no number.

        Example:
            >>> from mmapwrap import MemoryMapping, u16
            >>> mapping = MemoryMapping.anonymous(64)
            >>> mapping.get_slice(16, 8).store(u16, 500, 2)
            >>> mapping.read_obj(u16, 18)
            500
        """
        start = self._offset_in_region(scalar, offset)
        scalar.store(self._pages, scalar.plain(value), start, scalar.volatile_mode)

    def _offset_in_region(self, scalar: Scalar[N], offset: SupportsIndex) -> int:
        """Return the offset in the region of a number at an offset in the slice."""
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        if type(offset) is not int:
            offset = as_integer(offset, "offset")
        start, size = self._range
        if not 0 <= offset <= size - scalar.size:
            volatile_end(offset, scalar.size, size)
        return start + offset

    @overload
    def load_many(
        self, scalar: Scalar[N], count: SupportsIndex, offset: SupportsIndex = 0
    ) -> list[N]: ...
    @overload
    def load_many(
        self, scalar: AnyScalar, count: SupportsIndex, offset: SupportsIndex = 0
    ) -> list[int] | list[float]: ...
    def load_many(
        self, scalar: Scalar[Any], count: SupportsIndex, offset: SupportsIndex = 0
    ) -> list[Any]:
        """Read numbers that lie in a row, each by exactly one load of its width, in order.

        For registers and other memory that notices each access: `copy_to` may load a byte twice, or
        several numbers at once. Errors: see `VolatileSlice`.

        Args:
            scalar: The type of the numbers, such as `mmapwrap.u32`.
            count: The number of numbers, not of bytes.
            offset: The first number's first byte, in bytes from the slice's start.

        Returns:
            The numbers: ints, or floats for `f32`, `f64` and their kin.

        Raises:
            VolatileMisalignedError: The first number's address is not a multiple of its width.
            VolatileOutOfBoundsError: Some of the numbers are outside of the slice, or the count is
                negative.
            VolatileOverflowError: The last number ends past 2**64.
            MappingFaultError: A page could not be read in; the numbers before it were loaded.
            OutOfMemoryError: There is no memory for a copy of the numbers.
            TypeError: `scalar` is not one of this package.

        Example:
            >>> from mmapwrap import MemoryMapping, u8, u16
            >>> mapping = MemoryMapping.anonymous(64)
            >>> mapping[4:8] = b"data"
            >>> mapping.get_slice(0, 16).load_many(u8, 4, 4)
            [100, 97, 116, 97]
            >>> mapping.get_slice(0, 16).load_many(u16, 2, 1)
            Traceback (most recent call last):
            mmapwrap.errors.VolatileMisalignedError: the address of offset 1 is not a multiple of 2
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        number = as_integer(count, "count")
        start = self._start_of_row(scalar, number, offset)
        return items.load_many(self._pages, scalar, start, number)

    @overload
    def store_many(
        self, scalar: Scalar[N], values: "Iterable[N]", offset: SupportsIndex = 0
    ) -> None: ...
    @overload
    def store_many(
        self, scalar: AnyScalar, values: "Iterable[int]", offset: SupportsIndex = 0
    ) -> None: ...
    def store_many(
        self, scalar: Scalar[Any], values: "Iterable[float]", offset: SupportsIndex = 0
    ) -> None:
        """Write numbers in a row, each by exactly one store of its width, in order.

        For registers and other memory that notices each access: `copy_from` may store a byte twice,
        or several numbers at once. Errors: see `VolatileSlice`.

        Args:
            scalar: The type of the numbers, such as `mmapwrap.u32`.
            values: The numbers; nothing is stored before all have been taken from the iterable.
            offset: The first number's first byte, in bytes from the slice's start.

        Raises:
            VolatileMisalignedError: The first number's address is not a multiple of its width.
            VolatileOutOfBoundsError: Some of the numbers are outside of the slice.
            VolatileOverflowError: The last number ends past 2**64.
            MappingFaultError: A page could not be read in; the numbers before it were stored.
            InvalidArgumentError: The scalar cannot hold one of the values.
            TypeError: `scalar` is not one of this package, the values are no iterable, or one of
                them is no number.

        Example:
            >>> from mmapwrap import MemoryMapping, be_u16
            >>> mapping = MemoryMapping.anonymous(64)
            >>> registers = mapping.get_slice(16, 8)
            >>> registers.store_many(be_u16, [0x6461, 0x7461], 4)
            >>> mapping[20:24], registers.load_many(be_u16, 2, 4)
            (b'data', [25697, 29793])
        """
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        packed = items.pack(scalar, values)
        start = self._start_of_row(scalar, len(packed) // scalar.size, offset)
        items.store_many(self._pages, scalar, start, packed)

    def _start_of_row(self, scalar: Scalar[N], count: int, offset: SupportsIndex) -> int:
        """Return the offset in the region of numbers in a row, at an offset in the slice."""
        skipped = as_integer(offset, "offset")
        start, size = self._range
        volatile_end(skipped, count if count < 0 else count * scalar.size, size)
        return start + skipped

    def write_bytes(self, value: SupportsIndex) -> None:
        r"""Set every byte to `value`. memset(3). Errors: see `VolatileSlice`.

        Args:
            value: 0 to 255.

        Raises:
            InvalidArgumentError: The value is not between 0 and 255.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.get_slice(2, 3).write_bytes(65)
            >>> mapping[1:6]
            b'\x00AAA\x00'
        """
        byte = as_byte(value)
        self._pages.run_on_range(calls.fill, *self._range, byte, PROT_WRITE)

    def copy_to(self, buffer: WritableBuffer) -> int:
        """Copy from the slice into a buffer, as many bytes as both have.

        By how many accesses is the C library's choice; see `load_many`. Errors: see
        `VolatileSlice`.

        Args:
            buffer: A writable, contiguous buffer of any item type.

        Returns:
            The bytes copied.

        Raises:
            TypeError: The argument is no buffer, or a read-only one.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[:4] = b"data"
            >>> buffer = bytearray(4)
            >>> mapping.get_slice(0, 8).copy_to(buffer), bytes(buffer)
            (4, b'data')
        """
        into = buffers.bytes_to_fill(buffer)
        try:
            start, size = self._range
            count = min(len(into), size)
            return self._pages.run_on_range(calls.read, start, count, into, PROT_READ)
        finally:
            buffers.release(into)

    def copy_from(self, data: ReadableBuffer) -> int:
        r"""Copy from a buffer into the slice, as many bytes as both have.

        By how many accesses is the C library's choice; see `store_many`. Errors: see
        `VolatileSlice`.

        Args:
            data: A contiguous buffer of any item type.

        Returns:
            The bytes copied.

        Raises:
            TypeError: The data is no contiguous buffer.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.get_slice(0, 2).copy_from(b"data")
            2
            >>> mapping[:3]
            b'da\x00'
        """
        source = buffers.bytes_in(data)
        try:
            start, size = self._range
            count = min(len(source), size)
            return self._pages.run_on_range(calls.write, start, count, source, PROT_WRITE)
        finally:
            buffers.release(source)

    def read_exact(self, buffer: WritableBuffer, offset: SupportsIndex = 0) -> None:
        """Copy from the slice into a buffer, which is filled; `copy_to` copies what both have.

        Errors: see `VolatileSlice`.

        Args:
            buffer: A writable, contiguous buffer of any item type.
            offset: The first byte to copy, in bytes from the slice's start.

        Raises:
            VolatileOutOfBoundsError: The slice has fewer bytes from the offset on than the buffer;
                nothing is copied.
            VolatileOverflowError: The range ends past 2**64.
            TypeError: The argument is no buffer, or a read-only one.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[:4] = b"data"
            >>> buffer = bytearray(2)
            >>> mapping.get_slice(0, 4).read_exact(buffer, 2)
            >>> buffer
            bytearray(b'ta')
        """
        into = buffers.bytes_to_fill(buffer)
        try:
            self._copy_all(calls.read, into, offset, PROT_READ)
        finally:
            buffers.release(into)

    def write_all(self, data: ReadableBuffer, offset: SupportsIndex = 0) -> None:
        """Copy all of a buffer into the slice; `copy_from` copies what both have.

        Errors: see `VolatileSlice`.

        Args:
            data: A contiguous buffer of any item type.
            offset: The first byte to overwrite, in bytes from the slice's start.

        Raises:
            VolatileOutOfBoundsError: The slice has fewer bytes from the offset on than the data;
                nothing is copied.
            VolatileOverflowError: The range ends past 2**64.
            TypeError: The data is no contiguous buffer.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.get_slice(0, 4).write_all(b"data")
            >>> mapping.get_slice(0, 4).write_all(b"data", 1)
            Traceback (most recent call last):
            mmapwrap.errors.VolatileOutOfBoundsError: the range of 4 bytes at offset 1 ends at ...
        """
        source = buffers.bytes_in(data)
        try:
            self._copy_all(calls.write, source, offset, PROT_WRITE)
        finally:
            buffers.release(source)

    def _copy_all(
        self, function: "Callable[..., int]", memory: "CData", offset: SupportsIndex, need: int
    ) -> None:
        """Run a copying C function on as many bytes as the buffer has."""
        skipped = as_integer(offset, "offset")
        start, size = self._range
        volatile_end(skipped, len(memory), size)
        self._pages.run_on_range(function, start + skipped, len(memory), memory, need)

    def copy_to_volatile_slice(self, slice: "VolatileSlice") -> int:  # noqa: A002
        """Copy to another slice, as many bytes as both have; the slices may overlap.

        Errors: see `VolatileSlice`.

        Args:
            slice: The slice to write to, of any region.

        Returns:
            The bytes copied.

        Raises:
            TypeError: The argument is no VolatileSlice.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[:4] = b"data"
            >>> mapping.get_slice(0, 4).copy_to_volatile_slice(mapping.get_slice(2, 4))
            4
            >>> mapping[:6]
            b'dadata'
        """
        if type(slice) is not VolatileSlice:
            raise TypeError(f"slice must be a VolatileSlice, not {type(slice).__name__}")
        (start, size), (other_start, other_size) = self._range, slice._range
        count = min(size, other_size)
        return self._on_both(start, count, slice._pages, other_start, PROT_WRITE, calls.copy)

    def _on_both(
        self,
        start: int,
        count: int,
        other: Pages,
        other_start: int,
        need: int,
        function: "Callable[..., int]",
    ) -> int:
        """Run a C function that reads from this slice and accesses as many bytes of other pages.

        Where the access to the other pages fails, the error has their offsets.
        """
        other.access.require(need, *other.checked_range(other_start, count))
        pages = self._pages
        if pages.access.by_range is not None:
            pages.access.require(PROT_READ, *pages.checked_range(start, count))
        result = function(pages.handle, start, count, (other.handle, other_start))
        if result < 0:
            fault = failures.fault_in(-result)
            # If both ranges are of one region, C does not tell which of them has the page.
            if fault is not None and (
                fault.is_of_partner or not start <= fault.offset < start + count
            ):
                raise other.error(-result, other_start, count)
            if isinstance(pages.error(-result, start, count), BadAddressError):
                # Another thread may have taken the access to the other pages away.
                other.access.require(need, *other.checked_range(other_start, count))
            raise pages.error(-result, start, count)
        return result

    def is_all_zero(self) -> bool:
        """Return whether every byte is 0. Errors: see `VolatileSlice`.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> MemoryMapping.anonymous(64).get_slice(0, 16).is_all_zero()
            True
        """
        return self._pages.run_on_range(calls.is_all_zero, *self._range, None, PROT_READ) == 1

    # --- Files ----------------------------------------------------------------------------------

    def read_from_fd(
        self,
        fd: Descriptor,
        count: SupportsIndex | None = None,
        file_offset: SupportsIndex | None = None,
    ) -> int:
        """Read from a file into the slice's start. read(2), or pread(2) with a `file_offset`.

        Errors: see `VolatileSlice`.

        Args:
            fd: A descriptor, or an object with one.
            count: Bytes; None: as many as the slice has.
            file_offset: Bytes into the file; None: the file's position, which moves.

        Returns:
            The bytes read. They are fewer than `count` at the end of the file, where a non-blocking
            file has no more, after one message of a socket that keeps messages apart, or up to a
            page of the slice that is missing: there the next call is a ReadToMemoryError (EFAULT).

        Raises:
            ReadToMemoryError: The first read failed, with this errno.
            VolatileOutOfBoundsError: The slice has fewer bytes than `count`.
            InvalidOffsetError: The file offset is negative or past 2**63 - 1.
            BadDescriptorError: The number cannot be a descriptor.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> with open("/dev/zero", "rb", buffering=0) as zeros:
            ...     mapping.get_slice(0, 8).read_from_fd(zeros, 5)
            5
        """
        wanted = None if count is None else as_integer(count, "count")
        start, size = self._range
        moved = size if wanted is None else volatile_end(0, wanted, size)
        return transfers.read_from_fd(self._pages, start, moved, fd, file_offset)

    def write_to_fd(
        self,
        fd: Descriptor,
        count: SupportsIndex | None = None,
        file_offset: SupportsIndex | None = None,
    ) -> int:
        """Write the slice's start to a file. write(2), or pwrite(2) with a `file_offset`.

        Errors: see `VolatileSlice`.

        Args:
            fd: A descriptor, or an object with one.
            count: Bytes; None: as many as the slice has.
            file_offset: Bytes into the file; None: the file's position, which moves.

        Returns:
            The bytes written. They are fewer than `count` only where the file takes no more.

        Raises:
            WriteFromMemoryError: The first write failed, with this errno.
            VolatileOutOfBoundsError: The slice has fewer bytes than `count`.
            InvalidOffsetError: The file offset is negative or past 2**63 - 1.
            BadDescriptorError: The number cannot be a descriptor.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[:4] = b"data"
            >>> with tempfile.TemporaryFile() as file:
            ...     mapping.get_slice(0, 4).write_to_fd(file, file_offset=0)
            ...     file.read()
            4
            b'data'
        """
        wanted = None if count is None else as_integer(count, "count")
        start, size = self._range
        moved = size if wanted is None else volatile_end(0, wanted, size)
        return transfers.write_to_fd(self._pages, start, moved, fd, file_offset)


_new: Final = object.__new__


def slice_of(pages: Pages, start: int, size: int) -> VolatileSlice:
    """Return a slice of a range that has been checked."""
    made = _new(VolatileSlice)
    made._pages, made._range = pages, (start, size)  # pyright: ignore[reportPrivateUsage]
    return made
