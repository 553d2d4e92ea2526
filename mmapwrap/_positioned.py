"""PositionedMemory: the content of the drop-in for `mmap`, and the position in it."""

import os
from operator import index
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex, overload

from mmapwrap._core import python_types
from mmapwrap._core.constants import PAGE_SIZE
from mmapwrap._mapping import MemoryMapping
from mmapwrap._regions.file import RegionIO
from mmapwrap.errors import ClosedMappingError, InvalidRangeError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmapwrap._core.arguments import ReadableBuffer
    from mmapwrap._core.python_types import Export

ACCESS_READ: Final = 1
CLOSED: Final = "mmap closed or invalid"


class PositionedMemory(python_types.Exporter):
    """A mapping with a position, and the methods on bytes that `mmap.mmap` has."""

    __slots__ = ("_access", "_file", "_is_closed", "_mapping")

    _mapping: MemoryMapping
    _file: RegionIO | None
    """The position; None where the memory cannot be read."""
    _access: int
    _is_closed: bool
    """Whether `close` was called, also where a `resize` in the middle has yet to notice it."""

    def __len__(self) -> int:
        return self._mapping.size

    def _export(self, flags: int) -> "Export":
        return self._mapping._export(flags)  # pyright: ignore[reportPrivateUsage]

    if TYPE_CHECKING:

        def __buffer__(self, flags: int, /) -> memoryview: ...

    # --- The position ---------------------------------------------------------------------------

    def _open_file(self) -> RegionIO:
        """Return the file over the open mapping."""
        self._require_open()
        if self._file is None:
            self._file = self._mapping.open(buffering=0)  # the error of memory without access
        return self._file

    def _require_open(self) -> None:
        if self._is_closed or self._mapping.closed:
            raise ValueError(CLOSED)

    def tell(self) -> int:
        """Return the position."""
        return self._open_file().tell()

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, pos: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position: from the start, from itself (1) or from the end (2); return it."""
        distance = index(pos)
        file = self._open_file()
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError("unknown seek type")
        start = (0, file.tell(), len(self))[whence]
        if not 0 <= start + distance <= len(self):
            raise ValueError("seek out of range")
        return file.seek(distance, whence)

    def read(self, n: int | None = None, /) -> bytes:
        """Read `n` bytes; None or a negative number: up to the end."""
        count = -1 if n is None else index(n)
        return self._open_file().read(max(count, -1))

    def read_byte(self) -> int:
        """Read one byte as an int."""
        byte = self._open_file().read(1)
        if not byte:
            raise ValueError("read byte out of range")
        return byte[0]

    def readline(self) -> bytes:
        """Read up to the next newline and past it, or up to the end."""
        return self._open_file().readline()

    def write(self, bytes: "ReadableBuffer", /) -> int:  # noqa: A002
        """Write all of the bytes, or nothing where they do not fit."""
        file = self._writable_file()
        with memoryview(bytes) as data:
            if file.tell() + data.nbytes > len(self):
                raise ValueError("data out of range")
            return file.write(data)

    def write_byte(self, byte: int, /) -> None:
        """Write one byte."""
        value = index(byte)
        if not 0 <= value <= 255:
            limit = "greater than maximum" if value > 255 else "less than minimum"
            raise OverflowError(f"unsigned byte integer is {limit}")
        try:
            self._writable_file().write(value.to_bytes(1, "little"))
        except NoSpaceError:
            raise ValueError("write byte out of range") from None

    def _writable_file(self) -> RegionIO:
        """Return the file over the open mapping, which can be written."""
        file = self._open_file()
        self._require_writable()
        return file

    def _require_writable(self) -> None:
        if self._access == ACCESS_READ:
            raise TypeError("mmap can't modify a readonly memory map.")

    # --- Content --------------------------------------------------------------------------------

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> int | bytes:
        try:
            return self._mapping[key]
        except ClosedMappingError:
            raise ValueError(CLOSED) from None

    @overload
    def __setitem__(self, key: SupportsIndex, value: int, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: "ReadableBuffer", /) -> None: ...
    def __setitem__(self, key: SupportsIndex | slice, value: "int | ReadableBuffer", /) -> None:
        self._require_open()
        self._require_writable()
        if isinstance(key, slice):
            chosen = range(*key.indices(len(self)))
            self._require_open()  # an `__index__` may have closed it
            with memoryview(value) as data:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                if data.nbytes != len(chosen):
                    raise IndexError("mmap slice assignment is wrong size")
            if not chosen:
                return
            key = slice(chosen.start, None if chosen.stop < 0 else chosen.stop, chosen.step)
        else:
            key = index(key)
            self._require_open()
            if not -len(self) <= key < len(self):
                raise IndexError("mmap index out of range")
        self._mapping[key] = value  # type: ignore[index,assignment]  # pyright: ignore[reportArgumentType, reportCallIssue]

    def __delitem__(self, key: SupportsIndex | slice, /) -> NoReturn:
        raise TypeError("mmap object doesn't support item deletion")

    def __iter__(self) -> "Iterator[bytes]":
        """Return an iterator of the bytes, each as a bytes object, as `mmap` has it."""
        for start in range(0, len(self), PAGE_SIZE):
            part = self._mapping[start : start + PAGE_SIZE]
            yield from (part[at : at + 1] for at in range(len(part)))

    def __reversed__(self) -> "Iterator[bytes]":
        """Return an iterator of the bytes from the last to the first."""
        for end in range(len(self), 0, -PAGE_SIZE):
            part = self._mapping[max(end - PAGE_SIZE, 0) : end]
            yield from (part[at : at + 1] for at in reversed(range(len(part))))

    def __contains__(self, item: object) -> bool:
        """Return whether a byte, as a bytes object, is there, as `mmap` has it."""
        return isinstance(item, bytes | bytearray) and len(item) == 1 and item in self._mapping

    def find(
        self, sub: "ReadableBuffer", start: int | None = None, end: int | None = None, /
    ) -> int:
        """Return where `sub` is first; from the position on, where no start is given. Or -1."""
        first, last = self._bounds(start, end)
        return self._mapping.find(sub, first, last)

    def rfind(
        self, sub: "ReadableBuffer", start: int | None = None, end: int | None = None, /
    ) -> int:
        """Return where `sub` is last; from the position on, where no start is given. Or -1."""
        first, last = self._bounds(start, end)
        return self._mapping.rfind(sub, first, last)

    def _bounds(self, start: int | None, end: int | None) -> tuple[int, int]:
        """Return the range in which to search."""
        self._require_open()
        first, last, _ = slice(self.tell() if start is None else start, end).indices(len(self))
        self._require_open()  # an `__index__` may have closed it
        return first, last

    def move(self, dest: int, src: int, count: int, /) -> None:
        """Copy bytes to another place, which may overlap."""
        self._require_open()
        self._require_writable()
        target, source, length = index(dest), index(src), index(count)
        self._require_open()
        try:
            self._mapping.move(target, source, length)
        except InvalidRangeError:
            raise ValueError("source, destination, or count out of range") from None
