"""RegionIO: a region as a file, for whatever takes a file and no buffer."""

import errno
import io
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsIndex, final, overload

from mmapwrap._core import buffers, calls
from mmapwrap._core.arguments import ReadableBuffer, WritableBuffer, as_integer
from mmapwrap._core.constants import LARGEST_FILE_OFFSET, PROT_READ, PROT_WRITE
from mmapwrap._core.construction import NamedConstructors
from mmapwrap._core.pages import CLOSED_PAGES, Pages
from mmapwrap._regions.base import RegionBase
from mmapwrap.errors import (
    ClosedMappingError,
    InvalidArgumentError,
    InvalidRangeError,
    MappingFaultError,
    MmapError,
    NoSpaceError,
    hinted,
    in_digits,
    shown,
    system_call_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, TypeAlias

    from mmapwrap._core._mman import CData

    ReadMode: TypeAlias = Literal["rb"]
    WriteMode: TypeAlias = Literal["r+b", "rb+"]

    class _RawFile(io.RawIOBase, BinaryIO):
        """A raw file that type checkers take for a binary one too, as they take `io.FileIO`."""

else:
    _RawFile = io.RawIOBase

_NEWLINE: Final = (buffers.bytes_in(b"\n"), 1)
_BUFFER_SIZE: Final = 1 << 16
_NEED: Final = {"rb": PROT_READ, "r+b": PROT_READ | PROT_WRITE, "rb+": PROT_READ | PROT_WRITE}
"""The access that each mode needs."""


@final
class RegionIO(NamedConstructors, _RawFile, made_by="open() of a region"):
    """A range of a region as a raw file: its reads and writes copy at once, without a buffer.

    Threads may share it: no two reads give the same bytes. It keeps the pages, also past the
    region's `close`, until it is closed. It has no descriptor, and never changes the region's size.
    The methods that read or write share these errors:

    Raises:
        ValueError: The file is closed.
        ProtectionError: The region no longer allows the access.
        MappingFaultError: Pages could not be read in; the position stays where it was.
        ClosedMappingError: The process is a child that did not inherit the pages (`use_dontfork`).

    Example:
        >>> from mmapwrap import MemoryMapping
        >>> mapping = MemoryMapping.anonymous(8)
        >>> with mapping.open("r+b", buffering=0) as file:
        ...     file.write(b"data"), file.tell(), file.seek(1), file.read(2)
        (4, 4, 1, b'at')
    """

    _pages: Pages
    _file: Any
    """A `mmw_file *`: the position, the first byte in the region and the bytes at most."""
    _mode: str

    # --- What it is -----------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """The mode: 'rb', or 'rb+' if it can be written."""
        return self._mode

    def __repr__(self) -> str:
        if self.closed:
            return "<RegionIO, closed>"
        return f"<RegionIO of {self._size()} bytes, mode {self._mode!r}>"

    def readable(self) -> bool:
        """Return True."""
        self._open_pages()
        return True

    def writable(self) -> bool:
        """Return whether the file was opened for writing."""
        self._open_pages()
        return self._mode != "rb"

    def seekable(self) -> bool:
        """Return True."""
        self._open_pages()
        return True

    def close(self) -> None:
        """Close the file, and let go of the pages. It may be repeated."""
        super().close()
        self._pages = CLOSED_PAGES

    def _open_pages(self) -> Pages:
        """Return the pages of an open file."""
        pages = self._pages
        if pages is CLOSED_PAGES:
            raise ValueError("I/O operation on closed file.")
        if not calls.is_open(pages.handle):
            raise ClosedMappingError
        return pages

    def _size(self) -> int:
        """Return the bytes that the file has now."""
        return calls.file_size(self._open_pages().handle, self._file)

    # --- The position ---------------------------------------------------------------------------

    def tell(self) -> int:
        """Return the position, in bytes from the file's start."""
        self._open_pages()
        position: int = self._file.position
        return position

    def seek(self, offset: SupportsIndex, whence: SupportsIndex = io.SEEK_SET, /) -> int:
        """Move the position, also past the end, and return it.

        Args:
            offset: Bytes from where `whence` says.
            whence: The origin: `io.SEEK_SET`, the start; `io.SEEK_CUR`, the position;
                `io.SEEK_END`, the end.

        Raises:
            ValueError: The file is closed.
            InvalidSystemCallError: The position is before the start, or no off_t holds it; an
                OSError, EINVAL, as of lseek(2).
            InvalidArgumentError: `whence` is none of the three.
        """
        distance, origin = as_integer(offset, "offset"), as_integer(whence, "whence")
        if origin not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise InvalidArgumentError(f"whence must be 0, 1 or 2, not {shown(origin)}")
        size = self._size()
        while True:
            before = self._file.position
            after = (0, before, size)[origin] + distance
            if not 0 <= after <= LARGEST_FILE_OFFSET:
                hint = f"the position {in_digits(after)} is not between 0 and 2**63 - 1"
                raise hinted(system_call_error(errno.EINVAL, "lseek"), hint)
            if calls.file_move(self._file, before, after):  # pragma: no branch  # else again
                return after

    # --- Reading and writing --------------------------------------------------------------------

    def readinto(self, buffer: WritableBuffer, /) -> int:
        """Read into a buffer, as many bytes as it and the rest of the file have.

        Errors: see `RegionIO`.

        Returns:
            The bytes read; 0 at the end.

        Raises:
            TypeError: The argument is no buffer, or a read-only one.
        """
        into = buffers.bytes_to_fill(buffer)
        try:
            return self._read_some(into)
        finally:
            buffers.release(into)

    def read(self, size: SupportsIndex | None = -1, /) -> bytes:
        """Read up to `size` bytes; -1 or None: up to the end. Errors: see `RegionIO`."""
        wanted = -1 if size is None else as_integer(size, "size")
        rest = max(self._size() - self._file.position, 0)
        content, memory = buffers.new_bytes(rest if wanted < 0 else min(wanted, rest))
        if wanted < 0:  # all or an error
            count = self._copy(calls.file_read, memory, PROT_READ)
        else:
            count = self._read_some(memory)
        return content if count == len(content) else content[:count]

    def readall(self) -> bytes:
        """Read up to the end. Errors: see `RegionIO`."""
        return self.read()

    def readline(self, size: SupportsIndex | None = -1, /) -> bytes:
        """Read up to the next newline and past it, or up to `size` bytes, or up to the end.

        Errors: see `RegionIO`.
        """
        wanted = -1 if size is None else as_integer(size, "size")
        while True:
            pages, first, start = self._open_pages(), self._file.start, self._file.position
            rest = max(self._size() - start, 0)
            count = rest if wanted < 0 else min(wanted, rest)
            if not count:
                return b""
            try:
                newline = pages.run_on_range(calls.find, first + start, count, _NEWLINE, PROT_READ)
            except InvalidRangeError:  # the region has become shorter: look at its size again
                continue
            # The search answers 1 + the offset, which is the line's end, or 0.
            end = newline - first if newline else start + count
            if calls.file_move(self._file, start, end):  # pragma: no branch  # else again
                content, memory = buffers.new_bytes(end - start)
                try:
                    count = end - start
                    pages.run_on_range(calls.read_new, first + start, count, memory, PROT_READ)
                except MmapError as error:  # pragma: no cover  # what the search has read is gone
                    calls.file_move(self._file, end, start)
                    if isinstance(error, InvalidRangeError):
                        continue
                    raise
                return content

    def write(self, data: ReadableBuffer, /) -> int:
        """Write data over the region's bytes, as many as fit before the end.

        Errors: see `RegionIO`.

        Returns:
            The bytes written, which are fewer than the data's where the file ends.

        Raises:
            NoSpaceError: The position is at the end, or past it.
            io.UnsupportedOperation: The file was opened for reading.
            TypeError: The data is no contiguous buffer.
        """
        if not self.writable():
            raise io.UnsupportedOperation("the file is open for reading: use mode 'r+b'")
        source = buffers.bytes_in(data)
        try:
            return self._copy(calls.file_write, source, PROT_WRITE)
        finally:
            buffers.release(source)

    def _copy(self, copy: "Callable[..., int]", memory: "CData", need: int) -> int:
        """Run a C function that copies between the file and memory; return the bytes copied."""
        pages, count = self._pages, len(memory)
        if pages.access.by_range is not None:
            pages.access.require(need, *self._next(count))
        copied = copy(pages.handle, self._file, memory, count)
        if copied < 0:
            raise self._error(-copied, count)
        return copied

    def _read_some(self, memory: "CData") -> int:
        """Read into memory, up to the first page that is missing; if that comes first, raise."""
        try:
            return self._copy(calls.file_read, memory, PROT_READ)
        except MappingFaultError as error:
            start, _ = self._next(len(memory))
            # Another thread may have moved the position meanwhile, or made the region shorter.
            count = min(error.offset - start, len(memory))
            if count <= 0:
                raise
        copied: int = calls.file_read(self._pages.handle, self._file, memory, count)
        if copied < 0:  # pragma: no cover  # it has become shorter again
            raise self._error(-copied, count)
        return copied

    def _error(self, failure: int, count: int) -> MmapError:
        """Return the error of a copy of up to `count` bytes that failed."""
        pages = self._open_pages()
        start, end = self._next(count)
        error = pages.error(failure, start, end - start)
        if isinstance(error, NoSpaceError):
            error.hint = f"the file ends at {self._size()}"
        return error

    def _next(self, count: int) -> tuple[int, int]:
        """Return the range of the region that the next copy of up to `count` bytes touches."""
        first: int = self._file.start
        size = self._size()
        start = first + min(self._file.position, size)
        return start, min(start + count, first + size)


def move_file(file: RegionIO, region: RegionBase) -> None:
    """Let a file that ends where its region ends go on over another region, at its position.

    Reads and writes in other threads end in the region in which they began, and move the position
    as ever: no two of them get the same bytes.
    """
    file._pages = region._open_pages()  # pyright: ignore[reportPrivateUsage]


class FileRegion(RegionBase):
    """Open a region as a file."""

    __slots__ = ()

    @overload
    def open(
        self,
        mode: "ReadMode" = "rb",
        *,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        buffering: Literal[-1] = -1,
    ) -> io.BufferedReader: ...
    @overload
    def open(
        self,
        mode: "WriteMode",
        *,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        buffering: Literal[-1] = -1,
    ) -> io.BufferedRandom: ...
    @overload
    def open(
        self,
        mode: "ReadMode | WriteMode" = "rb",
        *,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        buffering: Literal[0],
    ) -> RegionIO: ...
    @overload
    def open(
        self,
        mode: "ReadMode" = "rb",
        *,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        buffering: SupportsIndex,
    ) -> io.BufferedReader | RegionIO: ...
    @overload
    def open(
        self,
        mode: "WriteMode",
        *,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        buffering: SupportsIndex,
    ) -> io.BufferedRandom | RegionIO: ...
    def open(
        self,
        mode: str = "rb",
        *,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        buffering: SupportsIndex = -1,
    ) -> io.BufferedReader | io.BufferedRandom | RegionIO:
        r"""Open the region, or a range of it, as a file.

        Reads and writes are guarded copies. The file keeps the pages, also past the region's
        `close`, until it is closed. It never grows the region: a write past its end is a
        NoSpaceError, after what fits is written; of a buffered file when it is flushed.

        Args:
            mode: As of `open`: 'rb' to read, 'r+b' to read and write.
            offset: The first byte of the file, in bytes from the region's start.
            count: The bytes of the file; None: up to the region's end, wherever that is later.
            buffering: The bytes of the buffer; -1: 64 KiB; 0: no buffer.

        Returns:
            An `io.BufferedReader`, in mode 'r+b' an `io.BufferedRandom`, without a buffer a
            `RegionIO`.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: The region does not allow the mode's access to all of the range.
            InvalidArgumentError: The mode or the buffering is none of these.
            OutOfMemoryError: There is no memory for the buffer.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(32)
            >>> mapping[:14] = b"a,b\n1,2\n3,4\n\x00\x00"
            >>> with mapping.open(count=12) as file:
            ...     [line.decode().strip() for line in file]
            ['a,b', '1,2', '3,4']
        """
        if type(mode) is not str:
            raise TypeError(f"mode must be a str, not {type(mode).__name__}")
        if mode not in _NEED:
            raise InvalidArgumentError(f"mode must be 'rb' or 'r+b', not {mode!r}")
        size = as_integer(buffering, "buffering")
        if not -1 <= size <= LARGEST_FILE_OFFSET:
            raise InvalidArgumentError(f"buffering must be -1, 0 or a size, not {shown(size)}")
        pages = self._pages
        start, end = pages.checked_range(offset, count)
        pages.access.require(_NEED[mode], start, end)
        raw = RegionIO.__new__(RegionIO)
        raw._pages = pages  # pyright: ignore[reportPrivateUsage]
        length = calls.UP_TO_END if count is None else end - start
        raw._file = calls.new_file(start, length)  # pyright: ignore[reportPrivateUsage]
        raw._mode = "rb" if mode == "rb" else "rb+"  # pyright: ignore[reportPrivateUsage]
        if size == 0:
            return raw
        buffered = io.BufferedReader if mode == "rb" else io.BufferedRandom
        try:
            return buffered(raw, _BUFFER_SIZE if size == -1 else size)
        except MemoryError:
            raise buffers.out_of_memory(size) from None
