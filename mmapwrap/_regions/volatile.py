"""VolatileSlice: a range of memory that others change while it is looked at."""

from typing import TYPE_CHECKING, Final, SupportsIndex, TypeVar, final

from mmapwrap._core import buffers, calls, constants, failures
from mmapwrap._core.arguments import Descriptor, ReadableBuffer, WritableBuffer, as_byte, as_integer
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.construction import NamedConstructors
from mmapwrap._core.pages import Pages
from mmapwrap._regions import transfers
from mmapwrap._regions.scalars import Scalar, not_a_scalar
from mmapwrap.errors import BadAddressError, VolatileOutOfBoundsError, VolatileOverflowError

if TYPE_CHECKING:
    from collections.abc import Callable

N = TypeVar("N", int, float)


def volatile_end(offset: int, count: int, size: int) -> int:
    """Returns `offset + count`, in bytes, of a range inside `size` bytes of volatile memory.

    Raises:
        VolatileOverflowError: The end is past 2**64.
        VolatileOutOfBoundsError: The end is past the memory's, or a number is negative.
    """
    end = offset + count
    if offset < 0 or count < 0:
        raise _out_of_bounds(min(offset, end), offset, count, size)
    if end >= constants.ADDRESS_SPACE:
        raise VolatileOverflowError(offset, count)
    if end > size:
        raise _out_of_bounds(end, offset, count, size)
    return end


def _out_of_bounds(addr: int, offset: int, count: int, size: int) -> VolatileOutOfBoundsError:
    error = VolatileOutOfBoundsError(addr)
    error.range = offset, count, size
    return error


@final
class VolatileSlice(NamedConstructors, made_by="get_slice() of a region"):
    """A range of a region, for memory that a device, another thread or process changes meanwhile.

    Nothing of it is cached between calls; `load` and `store` are exactly one access of their width.
    A slice keeps the pages alive, also past the region's `close()`. Its methods raise, besides what
    they name, ProtectionError where the region does not allow the access, MappingFaultError where
    pages cannot be read in, and ClosedMappingError in a child that did not inherit the pages.
    """

    __slots__ = ("_pages", "_range")

    _pages: Pages
    _range: tuple[int, int]
    """The first byte in the region, and how many: one value, for another thread may change it."""

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

    # Content changes, and so would a hash.
    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    # --- Parts ----------------------------------------------------------------------------------

    def sub_slice(self, offset: SupportsIndex, count: SupportsIndex) -> "VolatileSlice":
        """Returns `count` bytes from `offset` on as a slice.

        Raises:
            VolatileOutOfBoundsError: They are not all in this slice.
            VolatileOverflowError: They end past 2**64.
        """
        skipped = as_integer(offset, "offset")
        start, size = self._range
        end = volatile_end(skipped, as_integer(count, "count"), size)
        return slice_of(self._pages, start + skipped, end - skipped)

    def offset(self, count: SupportsIndex) -> "VolatileSlice":
        """Returns the slice without its first `count` bytes.

        Raises:
            VolatileOutOfBoundsError: The slice has fewer.
            VolatileOverflowError: They end past 2**64.
        """
        wanted = as_integer(count, "count")
        start, size = self._range
        skipped = volatile_end(0, wanted, size)
        return slice_of(self._pages, start + skipped, size - skipped)

    def advance(self, count: SupportsIndex) -> None:
        """Drops the first `count` bytes from this slice, with the errors of `offset`."""
        wanted = as_integer(count, "count")
        start, size = self._range
        skipped = volatile_end(0, wanted, size)
        self._range = start + skipped, size - skipped

    def truncate(self, len: SupportsIndex) -> None:  # noqa: A002
        """Keeps the first `len` bytes of this slice; no effect where it has no more.

        Raises:
            VolatileOutOfBoundsError: `len` is negative.
        """
        kept = as_integer(len, "len")
        if kept < 0:
            raise VolatileOutOfBoundsError(kept)
        start, size = self._range
        self._range = start, min(kept, size)

    # --- Content --------------------------------------------------------------------------------

    def load(self, scalar: Scalar[N], offset: SupportsIndex = 0) -> N:
        """Reads a number by one load of its width.

        Raises:
            VolatileMisalignedError: Its address is not a multiple of its width.
            VolatileOutOfBoundsError: It is not inside the slice.
            VolatileOverflowError: It ends past 2**64.
        """
        place = self._place_of(scalar, offset)
        return scalar.load(self._pages, place, scalar.volatile_mode)

    def store(self, scalar: Scalar[N], value: N, offset: SupportsIndex = 0) -> None:
        """Writes a number by one store of its width.

        Raises:
            VolatileMisalignedError: Its address is not a multiple of its width.
            VolatileOutOfBoundsError: It is not inside the slice.
            VolatileOverflowError: It ends past 2**64.
            InvalidArgumentError: The scalar cannot hold the value.
        """
        place = self._place_of(scalar, offset)
        scalar.store(self._pages, scalar.plain(value), place, scalar.volatile_mode)

    def _place_of(self, scalar: Scalar[N], offset: SupportsIndex) -> int:
        """Where in the region a number of the slice is."""
        if type(scalar) is not Scalar:
            raise not_a_scalar(scalar)
        if type(offset) is not int:
            offset = as_integer(offset, "offset")
        start, size = self._range
        if not 0 <= offset <= size - scalar.size:
            volatile_end(offset, scalar.size, size)
        return start + offset

    def write_bytes(self, value: SupportsIndex) -> None:
        """Sets every byte to `value`. memset(3).

        Raises:
            InvalidArgumentError: The value is not between 0 and 255.
        """
        byte = as_byte(value)
        self._pages.run_on_range(calls.fill, *self._range, byte, PROT_WRITE)

    def copy_to(self, buffer: WritableBuffer) -> int:
        """Copies from the slice into a buffer; returns the bytes: those that both have."""
        into = buffers.bytes_to_fill(buffer)
        start, size = self._range
        return self._pages.run_on_range(calls.read, start, min(len(into), size), into, PROT_READ)

    def copy_from(self, data: ReadableBuffer) -> int:
        """Copies from a buffer into the slice; returns the bytes: those that both have."""
        source = buffers.bytes_in(data)
        start, size = self._range
        count = min(len(source), size)
        return self._pages.run_on_range(calls.write, start, count, source, PROT_WRITE)

    def copy_to_volatile_slice(self, slice: "VolatileSlice") -> int:  # noqa: A002
        """Copies to another slice; returns the bytes: those that both have. They may overlap."""
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
        helper: "Callable[..., int]",
    ) -> int:
        """Call a helper that reads from here and accesses as many bytes of other pages.

        Where it is the other pages that fail, the error is theirs, with their offsets.
        """
        other.access.require(need, *other.checked_range(other_start, count))
        pages = self._pages
        if pages.access.by_range is not None:
            pages.access.require(PROT_READ, *pages.checked_range(start, count))
        result = helper(pages.handle, start, count, (other.handle, other_start))
        if result < 0:
            fault = failures.fault_in(-result)
            # Where both ranges are of one region, C does not tell which of them it was.
            if fault is not None and (
                fault.is_of_partner or not start <= fault.offset < start + count
            ):
                raise other.error(-result, other_start, count)
            if isinstance(pages.error(-result, start, count), BadAddressError):
                # The access to the other pages has been taken away meanwhile.
                other.access.require(need, *other.checked_range(other_start, count))
            raise pages.error(-result, start, count)
        return result

    def is_all_zero(self) -> bool:
        """Whether every byte is 0."""
        return self._pages.run_on_range(calls.is_all_zero, *self._range, None, PROT_READ) == 1

    # --- Files ----------------------------------------------------------------------------------

    def read_from_fd(
        self,
        fd: Descriptor,
        count: SupportsIndex | None = None,
        file_offset: SupportsIndex | None = None,
    ) -> int:
        """Reads from a file into the slice's start. read(2), or pread(2) with a `file_offset`.

        Args:
            fd: A descriptor or an object with one.
            count: Bytes; None: as many as the slice has.
            file_offset: Where in the file, in bytes; None: at its position, which moves.

        Returns:
            The bytes read: fewer than `count` at the end of the file, where a non-blocking file
            has no more, after one message of a socket that keeps messages apart, or up to a page
            of the slice that cannot be had: there the next call is a ReadToMemoryError (EFAULT).

        Raises:
            ReadToMemoryError: Nothing was read, because of this errno.
            VolatileOutOfBoundsError: The slice has fewer bytes than `count`.
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
        """Writes the slice's start to a file. write(2), or pwrite(2) with a `file_offset`.

        Args:
            fd: A descriptor or an object with one.
            count: Bytes; None: as many as the slice has.
            file_offset: Where in the file, in bytes; None: at its position, which moves.

        Returns:
            The bytes written: fewer than `count` only where the file takes no more.

        Raises:
            WriteFromMemoryError: Nothing was written, because of this errno.
            VolatileOutOfBoundsError: The slice has fewer bytes than `count`.
        """
        wanted = None if count is None else as_integer(count, "count")
        start, size = self._range
        moved = size if wanted is None else volatile_end(0, wanted, size)
        return transfers.write_to_fd(self._pages, start, moved, fd, file_offset)


_new: Final = object.__new__


def slice_of(pages: Pages, start: int, size: int) -> VolatileSlice:
    """Make a slice of a range that has been checked."""
    made = _new(VolatileSlice)
    made._pages, made._range = pages, (start, size)  # pyright: ignore[reportPrivateUsage]
    return made
