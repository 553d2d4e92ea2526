"""Bytes in and out of a region, by copying.

Every copy is guarded: a page that cannot be read in, because the file was cut short or its disk
failed, is a MappingFaultError and not the end of the process.
"""

from operator import index
from typing import TYPE_CHECKING, SupportsIndex, cast, overload

from mmapwrap import _syscalls
from mmapwrap._arguments import ReadableBuffer, WritableBuffer, as_byte
from mmapwrap._ownership import READ, WRITE
from mmapwrap._region_base import RegionBase
from mmapwrap.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmapwrap._mman import CData


class ContentRegion(RegionBase):
    """A region that is read and written."""

    __slots__ = ()

    def read_slice(self, buffer: WritableBuffer, offset: SupportsIndex) -> int:
        """Copies from the region into a buffer, as many bytes as both have.

        Args:
            buffer: A writable, contiguous buffer of any item type, such as a bytearray.
            offset: The first byte of the region to copy.

        Returns:
            The bytes copied: `min(size of buffer, size of region - offset)`.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The offset is negative, or past the region's end.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.
            BadAddressError: The buffer's own memory is not there.
            TypeError: The buffer is read-only, or none.
        """
        into = _syscalls.bytes_to_fill(buffer)
        return self._copy(READ, _syscalls.read, into, offset)

    def write_slice(self, data: ReadableBuffer, offset: SupportsIndex) -> int:
        """Copies from a buffer into the region, as many bytes as both have.

        Args:
            data: A contiguous buffer of any item type, such as bytes.
            offset: The first byte of the region to overwrite.

        Returns:
            The bytes copied: `min(size of data, size of region - offset)`.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The offset is negative, or past the region's end.
            ProtectionError: Some of the range cannot be written.
            MappingFaultError: Some of the range could not be read in.
            BadAddressError: The buffer's own memory is not there.
            TypeError: The data is not in a buffer.
        """
        return self._copy(WRITE, _syscalls.write, _syscalls.bytes_in(data), offset)

    def _copy(
        self,
        need: int,
        helper: "Callable[..., int]",
        buffer: "CData",
        offset: SupportsIndex,
    ) -> int:
        pages = self._pages
        start = index(offset)
        count = max(min(len(buffer), pages.size - start), 0)
        return pages.access(need, helper, start, count, buffer)

    # --- As a sequence of bytes -----------------------------------------------------------------

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> int | bytes:
        """One byte as an int, or a copy of a slice as bytes; the errors are those of `read_slice`.

        Raises:
            InvalidIndexError: The region has no byte at this index; also an IndexError.
        """
        pages = self._pages
        if type(key) is int and key >= 0 and pages.protections is None:
            try:
                byte = _syscalls.read_byte(pages.handle, key)
            except OverflowError:  # past 2**64: no byte of any region
                byte = -1
            if byte >= 0:
                return byte
        if isinstance(key, slice):
            return self._read_bytes(range(*key.indices(len(self))))
        return pages.at(READ, _syscalls.read_byte, key)

    @overload
    def __setitem__(self, key: SupportsIndex, value: SupportsIndex, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: ReadableBuffer, /) -> None: ...
    def __setitem__(
        self, key: SupportsIndex | slice, value: "SupportsIndex | ReadableBuffer", /
    ) -> None:
        """Sets one byte, or a slice from data of its length; the errors are those of `write_slice`.

        Raises:
            InvalidIndexError: The region has no byte at this index; also an IndexError.
            InvalidArgumentError: The value is no byte, or the data not as long as the slice.
        """
        if isinstance(key, slice):
            self._write_bytes(range(*key.indices(len(self))), cast("ReadableBuffer", value))
        else:
            byte = as_byte(cast("SupportsIndex", value))
            self._pages.at(WRITE, _syscalls.write_byte, key, byte)

    def _read_bytes(self, chosen: range) -> bytes:
        pages, count = self._pages, len(chosen)
        if count < 2 or chosen.step == 1:
            content, memory = _syscalls.new_bytes(count)
            pages.access(READ, _syscalls.read, chosen[0] if chosen else 0, count, memory)
        elif pages.protections is not None:
            content = bytes(map(self.__getitem__, chosen))  # what lies between may be a hole
        else:
            content, memory = _syscalls.new_bytes(count)
            start, last = sorted((chosen[0], chosen[-1]))
            arguments = (memory, chosen.step)
            pages.access(READ, _syscalls.read_steps, start, last + 1 - start, arguments)
        return content

    def _write_bytes(self, chosen: range, data: ReadableBuffer) -> None:
        source = _syscalls.bytes_in(data)
        if len(source) != len(chosen):
            raise InvalidArgumentError(
                f"{len(source)} bytes of data do not fit a slice of {len(chosen)} bytes"
            )
        pages, count = self._pages, len(chosen)
        if count < 2 or chosen.step == 1:
            pages.access(WRITE, _syscalls.write, chosen[0] if chosen else 0, count, source)
        elif pages.protections is not None:
            for position, byte in zip(chosen, _syscalls.copy_of(source), strict=True):
                self[position] = byte  # what lies between may be a hole
        else:
            start, last = sorted((chosen[0], chosen[-1]))
            arguments = (source, chosen.step)
            pages.access(WRITE, _syscalls.write_steps, start, last + 1 - start, arguments)
