"""Bytes in and out of a region, by copying.

Every copy is guarded: a page that cannot be read in, because the file was truncated or its disk
failed, is a MappingFaultError and not the end of the process.
"""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final, SupportsIndex, cast, overload

from mmapwrap._core import buffers, calls, failures
from mmapwrap._core.arguments import ReadableBuffer, WritableBuffer, as_byte, as_integer
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._regions.base import RegionBase
from mmapwrap._regions.volatile import slice_of
from mmapwrap.errors import ClosedMappingError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmapwrap._core._mman import CData


_ITERATED_AT_ONCE: Final = 4096


class ContentRegion(RegionBase):
    """Read and write the bytes of a region."""

    __slots__ = ()

    def read_slice(self, buffer: WritableBuffer, offset: SupportsIndex) -> int:
        """Copy from the region into a buffer, as many bytes as both have.

        Args:
            buffer: A writable, contiguous buffer of any item type, such as a bytearray.
            offset: The first byte of the region to copy.

        Returns:
            The bytes copied: `min(size of buffer, size of region - offset)`.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The offset is negative, or past the region's end.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in; what came before it may be
                copied.
            BadAddressError: The buffer's own memory is not mapped.
            InvalidArgumentError: The buffer holds Python objects.
            TypeError: The argument is no buffer, or a read-only one.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[6:8] = b"hi"
            >>> buffer = bytearray(4)
            >>> mapping.read_slice(buffer, 6)
            2
            >>> bytes(buffer[:2])
            b'hi'
        """
        into = buffers.bytes_to_fill(buffer)
        try:
            return self._copy(PROT_READ, calls.read, into, offset)
        finally:
            buffers.release(into)

    def write_slice(self, data: ReadableBuffer, offset: SupportsIndex) -> int:
        """Copy from a buffer into the region, as many bytes as both have.

        Args:
            data: A contiguous buffer of any item type, such as bytes.
            offset: The first byte of the region to overwrite.

        Returns:
            The bytes copied: `min(size of data, size of region - offset)`.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The offset is negative, or past the region's end.
            ProtectionError: Some of the range cannot be written.
            MappingFaultError: Some of the range could not be read in; what came before it may be
                copied.
            BadAddressError: The buffer's own memory is not mapped.
            InvalidArgumentError: The buffer holds Python objects.
            TypeError: The data is no contiguous buffer.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.write_slice(b"hello", 6)
            2
            >>> mapping[6:8]
            b'he'
        """
        source = buffers.bytes_in(data)
        try:
            return self._copy(PROT_WRITE, calls.write, source, offset)
        finally:
            buffers.release(source)

    def read_exact(self, buffer: WritableBuffer, offset: SupportsIndex) -> None:
        """Copy from the region into a buffer, which is filled.

        As `read_slice`, but a region that has too few bytes is an error, and not a smaller result.
        Other errors: see `read_slice`.

        Args:
            buffer: A writable, contiguous buffer of any item type, such as a bytearray.
            offset: The first byte of the region to copy.

        Raises:
            InvalidRangeError: The region has fewer bytes from the offset on than the buffer, or the
                offset is negative; nothing is copied.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[4:] = b"data"
            >>> buffer = bytearray(4)
            >>> mapping.read_exact(buffer, 4)
            >>> buffer
            bytearray(b'data')
            >>> mapping.read_exact(buffer, 6)
            Traceback (most recent call last):
            mmapwrap.errors.InvalidRangeError: the range of 4 bytes at offset 6 ends at 10, ...
        """
        into = buffers.bytes_to_fill(buffer)
        try:
            self._pages.run_on_range(calls.read, offset, len(into), into, PROT_READ)
        finally:
            buffers.release(into)

    def write_all(self, data: ReadableBuffer, offset: SupportsIndex) -> None:
        """Copy all of a buffer into the region.

        As `write_slice`, but a region that has too few bytes is an error, and not a smaller result.
        Other errors: see `write_slice`.

        Args:
            data: A contiguous buffer of any item type, such as bytes.
            offset: The first byte of the region to overwrite.

        Raises:
            InvalidRangeError: The region has fewer bytes from the offset on than the data, or the
                offset is negative; nothing is copied.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping.write_all(b"data", 4)
            >>> mapping[4:]
            b'data'
            >>> mapping.write_all(b"data", 6)
            Traceback (most recent call last):
            mmapwrap.errors.InvalidRangeError: the range of 4 bytes at offset 6 ends at 10, ...
        """
        source = buffers.bytes_in(data)
        try:
            self._pages.run_on_range(calls.write, offset, len(source), source, PROT_WRITE)
        finally:
            buffers.release(source)

    def _copy(
        self,
        need: int,
        function: "Callable[..., int]",
        buffer: "CData",
        offset: SupportsIndex,
    ) -> int:
        """Run a copying C function on as many bytes as the buffer and the region have."""
        start = offset if type(offset) is int else as_integer(offset, "offset")
        pages = self._pages
        count, rest = len(buffer), pages.size - start
        if count > rest:
            count = max(rest, 0)
        return pages.run_on_range(function, start, count, buffer, need)

    def move(self, target: SupportsIndex, source: SupportsIndex, count: SupportsIndex) -> None:
        """Copy bytes from one place of the region to another; the places may overlap. memmove(3).

        Args:
            target: The first byte to overwrite.
            source: The first byte to copy.
            count: The bytes to copy.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: One of the two ranges is not inside the region.
            ProtectionError: The source cannot be read, or the target cannot be written.
            MappingFaultError: Some of the two ranges could not be read in.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(8)
            >>> mapping[:4] = b"data"
            >>> mapping.move(2, 0, 4)
            >>> mapping[:6]
            b'dadata'
        """
        pages = self._pages
        length = pages.integer(count, "count")
        place, start = pages.integer(target, "target"), pages.integer(source, "source")
        pages.checked_range(place, length)
        pages.checked_range(start, length)
        copied = slice_of(pages, start, length)
        copied.copy_to_volatile_slice(slice_of(pages, place, length))

    # --- As a sequence of bytes -----------------------------------------------------------------

    def __bytes__(self) -> bytes:
        """Return a copy of the whole region. Errors: see `read_slice`."""
        return self._read_bytes(slice(None))

    def __iter__(self) -> Iterator[int]:
        """Return an iterator of the bytes as ints. Errors: see `read_slice`.

        The iterator copies 4096 bytes at a time.
        """
        return chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[bytes]:
        """Yield copies of the region's bytes, in order, until it ends."""
        start = 0
        while part := self[start : start + _ITERATED_AT_ONCE]:
            yield part
            start += len(part)

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> int | bytes:
        """Return one byte as an int, or a copy of a slice as bytes.

        Errors: see `read_slice`.

        Raises:
            InvalidIndexError: The region has no byte at this index; also an IndexError.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4)
            >>> mapping[0:2] = b"hi"
            >>> mapping[0], mapping[-1], mapping[:2]
            (104, 0, b'hi')
        """
        pages = self._pages
        if type(key) is int and key >= 0 and pages.access.by_range is None:
            index = key
        elif isinstance(key, slice):
            return self._read_bytes(key)
        else:
            index = pages.index_of(PROT_READ, key)
        try:
            byte = calls.read_byte(pages.handle, index)
        except OverflowError:
            byte = failures.out_of_range(index)
        if byte < 0:
            raise pages.index_error(-byte, key, index)
        return byte

    @overload
    def __setitem__(self, key: SupportsIndex, value: SupportsIndex, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: ReadableBuffer, /) -> None: ...
    def __setitem__(
        self, key: SupportsIndex | slice, value: "SupportsIndex | ReadableBuffer", /
    ) -> None:
        r"""Set one byte, or a slice from data of the slice's length.

        Errors: see `write_slice`.

        Raises:
            InvalidIndexError: The region has no byte at this index; also an IndexError.
            InvalidArgumentError: The value is not between 0 and 255, or the data is not as long as
                the slice.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4)
            >>> mapping[0] = 65
            >>> mapping[1::2] = b"BD"
            >>> mapping[:]
            b'AB\x00D'
        """
        if isinstance(key, slice):
            self._write_bytes(key, cast("ReadableBuffer", value))
        else:
            self._write_byte(key, as_byte(cast("SupportsIndex", value)))

    def _write_byte(self, key: SupportsIndex, byte: int) -> None:
        """Set one byte; a negative key counts from the end."""
        pages = self._pages
        index = pages.index_of(PROT_WRITE, key)
        try:
            result = calls.write_byte(pages.handle, index, byte)
        except OverflowError:
            result = failures.out_of_range(index)
        if result < 0:
            raise pages.index_error(-result, key, index)

    def _read_bytes(self, key: slice) -> bytes:
        """Return a copy of the bytes of a slice."""
        pages = self._pages
        start, stop, step = key.indices(pages.size)
        if pages.is_closed:  # an `__index__` of the slice has closed it
            raise ClosedMappingError
        if step == 1 and start <= stop:
            content, memory = buffers.new_bytes(stop - start)
            pages.run_on_range(calls.read_new, start, stop - start, memory, PROT_READ)
        else:
            chosen = range(start, stop, step)
            content, memory = buffers.new_bytes(len(chosen))
            self._copy_steps(PROT_READ, calls.read_steps, chosen, memory)
        return content

    def _write_bytes(self, key: slice, data: ReadableBuffer) -> None:
        """Set the bytes of a slice from data of the same length."""
        source = buffers.bytes_in(data)
        try:
            chosen = range(*key.indices(len(self)))
            if len(source) != len(chosen):
                raise InvalidArgumentError(
                    f"{len(source)} bytes of data do not fit a slice of {len(chosen)} bytes"
                )
            if chosen.step == 1:
                self._pages.run_on_range(calls.write, chosen.start, len(source), source, PROT_WRITE)
            else:
                self._copy_steps(PROT_WRITE, calls.write_steps, chosen, source)
        finally:
            buffers.release(source)

    def _copy_steps(
        self, need: int, function: "Callable[..., int]", chosen: range, memory: "CData"
    ) -> None:
        """Copy between the bytes of a range with a step and memory.

        Only these bytes are touched and need access; the bytes between them may be a hole of an
        arena.
        """
        pages = self._pages
        first, last = sorted((chosen[0], chosen[-1])) if chosen else (0, -1)
        pages.access.require_each(need, range(first, last + 1, abs(chosen.step)))
        step = chosen.step if len(chosen) > 1 else 1  # the step of one byte may be any number
        pages.run_on_range(function, first, last + 1 - first, (memory, step))
