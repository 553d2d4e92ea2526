"""A drop-in for the standard library's `mmap` module, over a `MemoryMapping`.

    from mmapwrap import mmap

It has the class, the constants and the errors of Python 3.14's module, and the additions of 3.15,
on every Python that the package supports. Beyond them: a file that was cut short is a
`MappingFaultError` and not SIGBUS, nothing holds the GIL, and `mmap.mapping` leads to all that a
`MemoryMapping` can.

`python -m mmapwrap.mmap script.py ...` runs a script with this module in the place of `mmap`;
`python -m mmapwrap.mmap -m module ...` runs a module.
"""

import errno
import importlib
import mmap as _standard
import os
import stat
import sys
from contextlib import suppress
from operator import index
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast

from mmapwrap._core import descriptors
from mmapwrap._core.advice import Advice, DestructiveAdvice, SyncMode
from mmapwrap._core.constants import (
    MAP_ANONYMOUS as MAP_ANONYMOUS,
    MAP_NORESERVE as MAP_NORESERVE,
    MAP_PRIVATE as MAP_PRIVATE,
    MAP_SHARED as MAP_SHARED,
    MS_INVALIDATE as MS_INVALIDATE,
    PAGE_SIZE,
    PROT_ANY,
    PROT_READ as PROT_READ,
    PROT_WRITE as PROT_WRITE,
    named,
)
from mmapwrap._core.layout import LayoutLock
from mmapwrap._core.parts import join_parts
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap._mapping import MemoryMapping, set_name
from mmapwrap._positioned import ACCESS_READ as ACCESS_READ, CLOSED, PositionedMemory
from mmapwrap._regions.file import move_file
from mmapwrap.errors import ClosedMappingError

if TYPE_CHECKING:
    from typing import Self

    # What `globals().update` below gives.
    MADV_DODUMP: int
    MADV_DOFORK: int
    MADV_DONTDUMP: int
    MADV_DONTFORK: int
    MADV_DONTNEED: int
    MADV_FREE: int
    MADV_HUGEPAGE: int
    MADV_HWPOISON: int
    MADV_MERGEABLE: int
    MADV_NOHUGEPAGE: int
    MADV_NORMAL: int
    MADV_RANDOM: int
    MADV_REMOVE: int
    MADV_SEQUENTIAL: int
    MADV_UNMERGEABLE: int
    MADV_WILLNEED: int
    MAP_32BIT: int
    MAP_ANON: int
    MAP_DENYWRITE: int
    MAP_EXECUTABLE: int
    MAP_POPULATE: int
    MAP_STACK: int
    MS_ASYNC: int
    MS_SYNC: int
    PROT_EXEC: int

ACCESS_DEFAULT: Final = 0
ACCESS_WRITE: Final = 2
ACCESS_COPY: Final = 3
PAGESIZE: Final = PAGE_SIZE
ALLOCATIONGRANULARITY: Final = PAGE_SIZE
error = OSError

# The standard module's other constants, and those that only a newer one has.
_STARTS: Final = ("MADV_", "MAP_", "PROT_", "MS_")
globals().update(named(*_STARTS))
globals().update(
    {name: getattr(_standard, name) for name in dir(_standard) if name.startswith(_STARTS)}
)

_ACCESS_NAMES: Final = ("ACCESS_DEFAULT", "ACCESS_READ", "ACCESS_WRITE", "ACCESS_COPY")
_READ_WRITE: Final = PROT_READ | PROT_WRITE
# What the kernel takes and passes over, and what MemoryMapping does on its own.
_IGNORED: Final = 0x800 | 0x1000 | 0x20000 | MAP_NORESERVE  # DENYWRITE, EXECUTABLE, STACK
_POPULATE: Final = 0x8000


class mmap(PositionedMemory):  # noqa: N801, the standard module's name
    """A file or memory, mapped: what `mmap.mmap` of the standard library is.

    Args:
        fileno: A descriptor; -1: anonymous memory.
        length: Bytes; 0: the rest of the file.
        flags: MAP_SHARED or MAP_PRIVATE, and MAP_POPULATE.
        prot: PROT_READ, PROT_WRITE, PROT_EXEC.
        access: ACCESS_READ, ACCESS_WRITE or ACCESS_COPY, instead of flags and prot.
        offset: Bytes into the file, a multiple of ALLOCATIONGRANULARITY.
        trackfd: Keep a descriptor of the file, which `size` and `resize` need.

    Raises:
        ValueError: The file has no bytes at the offset, or fewer than the length; or both access
            and flags or prot are given.
        OverflowError: A number is negative.
        OSError: The system call failed.

    Example:
        >>> from mmapwrap import mmap
        >>> with mmap.mmap(-1, 16) as memory:
        ...     memory.write(b"hello")
        ...     memory[:5], memory.tell(), memory.mapping.size
        5
        (b'hello', 5, 16)
    """

    __slots__ = (
        "__weakref__",
        "_descriptor",
        "_flags",
        "_has_file",
        "_is_tracked",
        "_layout",
        "_offset",
        "_prot",
    )

    _descriptor: "descriptors.OwnedDescriptor | None"
    """Never closed by hand: a call in another thread, or the one that a signal handler interrupts,
    may be about to use its number. The owner closes it when the last of them lets go."""
    _layout: LayoutLock
    """Held by `resize`: the file's length and the mapping change together."""
    _has_file: bool
    _is_tracked: bool
    _flags: int
    _prot: int
    _offset: int

    def __new__(
        cls,
        fileno: int,
        length: int,
        flags: int = MAP_SHARED,
        prot: int = _READ_WRITE,
        access: int = ACCESS_DEFAULT,
        offset: int = 0,
        *,
        trackfd: bool = True,
    ) -> "Self":
        """Map it; see the class."""
        fd, size, start = index(fileno), index(length), index(offset)
        if size < 0:
            raise OverflowError("memory mapped length must be positive")
        if start < 0:
            raise OverflowError("memory mapped offset must be positive")
        if max(size, start) > sys.maxsize:
            raise OverflowError("Python int too large to convert to C ssize_t")
        access, flags, prot = _arguments(index(access), index(flags), index(prot))
        sys.audit("mmap.__new__", fd, size, access, start)
        self = super().__new__(cls)
        self._access, self._offset, self._descriptor = access, start, None
        self._has_file = fd != -1 and not flags & MAP_ANONYMOUS
        if self._has_file:
            size = _size_in_file(fd, size, start)
            if trackfd:
                self._descriptor = descriptors.duplicate(fd)
        if size == 0 or start % ALLOCATIONGRANULARITY:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._is_tracked, self._is_closed, self._layout = trackfd, False, LayoutLock()
        self._flags, self._prot = flags, prot
        self._mapping, self._file = self._map(fd, size), None
        if prot & PROT_READ:
            mode = "r+b" if prot & PROT_WRITE else "rb"
            self._file = self._mapping.open(mode, buffering=0)  # type: ignore[call-overload]
        return self

    def _map(self, fd: int, size: int) -> MemoryMapping:
        """Map so many bytes of a file, or of memory."""
        sharing = Sharing.PRIVATE if self._flags & MAP_PRIVATE else Sharing.SHARED
        prot = Protection.from_bits(self._prot)
        populate = bool(self._flags & _POPULATE)
        if self._has_file:
            return MemoryMapping.from_file(
                fd, size, offset=self._offset, prot=prot, sharing=sharing, populate=populate
            )
        return MemoryMapping.anonymous(
            size, prot=prot, sharing=sharing, populate=populate, reserve=True
        )

    def __reduce__(self) -> str:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # --- What it is -----------------------------------------------------------------------------

    @property
    def mapping(self) -> MemoryMapping:
        """The mapping below: another one after the `resize` of a file."""
        return self._mapping

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed or self._mapping.closed

    def size(self) -> int:
        """Return the bytes of the file, which may have more than are mapped."""
        size, descriptor = self._mapping.size, self._descriptor
        if not self._has_file and self._is_tracked:
            return size
        if descriptor is None:
            self._require_open()  # a `close` may have come in between
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return descriptors.file_status(descriptor[0]).size

    def __repr__(self) -> str:
        kind = "mmap.mmap" if type(self) is mmap else type(self).__name__
        if self.closed:
            return f"<{kind} closed=True>"
        return (
            f"<{kind} closed=False, access={_ACCESS_NAMES[self._access]}, length={len(self)}, "
            f"pos={self.tell()}, offset={self._offset}>"
        )

    # --- Its end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close it; refuse while a buffer of it is in use."""
        if self._mapping.live_views and not self.closed:
            raise BufferError("cannot close exported pointers exist")
        self._is_closed = True  # first: a `resize` that ends after this closes what it has mapped
        self._let_go()

    def _let_go(self) -> None:
        """Close the mapping and the position, and let go of the descriptor."""
        self._mapping.close()
        if self._file is not None:
            self._file.close()
        self._descriptor = None

    def __enter__(self) -> "Self":
        self._require_open()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- What the kernel does -------------------------------------------------------------------

    def flush(
        self, offset: int = 0, size: int | None = None, /, *, flags: int = SyncMode.SYNC
    ) -> None:
        """Write changes back to the file. msync(2)."""
        start, count = index(offset), None if size is None else index(size)
        self._require_open()
        mapping = self._mapping
        length = mapping.size
        count = length - start if count is None else count
        if start < 0 or count < 0 or start + count > length:
            raise ValueError("flush values out of range")
        if self._access in (ACCESS_READ, ACCESS_COPY):
            return
        mode = SyncMode.ASYNC if flags & SyncMode.ASYNC else SyncMode.SYNC
        if start % PAGE_SIZE or flags & ~(SyncMode.SYNC | SyncMode.ASYNC | MS_INVALIDATE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        mapping.msync(start, count, mode, bool(flags & MS_INVALIDATE))

    def madvise(self, option: int, start: int = 0, length: int | None = None, /) -> None:
        """Tell the kernel how a range is used.

        Args:
            option: A MADV_* constant.
            start: The first byte, on a page.
            length: Bytes; None: the rest.
        """
        first, wanted = index(start), None if length is None else index(length)
        self._require_open()
        mapping = self._mapping
        size = mapping.size
        if not 0 <= first < size:
            raise ValueError("madvise start out of bounds")
        count = size - first if wanted is None else wanted
        if count < 0:
            raise ValueError("madvise length invalid")
        if count > sys.maxsize - first:
            raise OverflowError("madvise length too large")
        count = min(count, size - first)
        kinds = (kind for kind in (Advice, DestructiveAdvice) if option in list(kind))
        kind = next(kinds, None)
        if kind is None or first % PAGE_SIZE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if kind is Advice:
            mapping.advise(Advice(option), first, count)
        else:
            whole = min(-(-count // PAGE_SIZE) * PAGE_SIZE, size - first)
            mapping.advise_destructive(DestructiveAdvice(option), first, whole)

    def resize(self, newsize: int, /) -> None:
        """Change the size of the file, and map it anew; the position stays.

        A resize that fails leaves the file and the mapping as they were. Reads in other threads end
        in the mapping in which they began; bytes that are cut are a MappingFaultError there.

        Raises:
            BufferError: A buffer of it is in use.
            TypeError: It is read-only or a private copy.
            ValueError: The size is negative, shared memory without a file would grow, or no
                descriptor is kept (`trackfd=False`). Or it is closed, maybe meanwhile.
            RegionBusyError: A signal handler or a finalizer made the call inside another resize.
            OSError: The system call failed.
        """
        size = index(newsize)
        try:
            self._layout.exclusively(self._resize, size)
        except ClosedMappingError:  # by a signal handler or another thread, meanwhile
            raise ValueError(CLOSED) from None

    def _resize(self, size: int) -> None:
        """Change the size; run exclusively."""
        file, old, descriptor = self._open_file(), self._mapping, self._descriptor
        if old.live_views:
            raise BufferError("mmap can't resize with extant buffers exported.")
        if self._access not in (ACCESS_WRITE, ACCESS_DEFAULT):
            raise TypeError("mmap can't resize a readonly or copy-on-write memory map.")
        if not self._is_tracked:
            raise ValueError("mmap can't resize with trackfd=False.")
        if size < 0 or self._offset + size >= 1 << 63:
            raise ValueError("new size out of range")
        if size == 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if self._has_file:
            self._require_open()  # and so it has a descriptor
            new = self._resize_file(cast("descriptors.OwnedDescriptor", descriptor), old, size)
            # Calls in flight keep the old mapping, and the position is the same in both.
            move_file(file, new)
            self._mapping = new
        else:
            self._resize_memory(old, size)
        if self._is_closed:  # meanwhile, so that the new mapping is open still
            self._let_go()
            raise ClosedMappingError

    def _resize_file(
        self, descriptor: "descriptors.OwnedDescriptor", old: MemoryMapping, size: int
    ) -> MemoryMapping:
        """Give the file another length, and return its new mapping; or leave it as it was."""
        fd, _owner = descriptor  # the owner keeps the number, also after `close`
        old_end, end = descriptors.file_status(fd).size, self._offset + size
        if end > old_end:
            os.ftruncate(fd, end)
        new = None
        try:
            new = self._map(fd, size)
            if self._flags & MAP_PRIVATE:  # it has what the file has not
                kept = min(size, old.size)
                old.get_slice(0, kept).copy_to_volatile_slice(new.get_slice(0, kept))
            if end < old_end:
                os.ftruncate(fd, end)
        except BaseException:
            if new is not None:
                new.close()
            if end > old_end:
                with suppress(OSError):  # the first error is the one to tell
                    os.ftruncate(fd, old_end)
            raise
        return new

    def _resize_memory(self, memory: MemoryMapping, size: int) -> None:
        """Give memory without a file another size; children that share it go on sharing it."""
        if not self._flags & MAP_PRIVATE and size > memory.size:
            raise ValueError("mmap: can't expand a shared anonymous mapping on Linux")
        memory.resize(size)

    def set_name(self, name: str, /) -> None:
        """Name anonymous memory in /proc/self/maps. prctl(PR_SET_VMA_ANON_NAME), Linux 5.17."""
        self._open_file()
        if self._has_file:
            raise ValueError("Cannot set annotation on non-anonymous mappings")
        set_name(self._mapping, name)


join_parts(mmap)


def _arguments(access: int, flags: int, prot: int) -> tuple[int, int, int]:
    """Return the access, the flags and the protection that the caller's three mean."""
    if access != ACCESS_DEFAULT and (flags != MAP_SHARED or prot != _READ_WRITE):
        raise ValueError("mmap can't specify both access and flags, prot.")
    match access:
        case 0:
            if not prot & PROT_WRITE:
                access = ACCESS_READ
            elif not prot & PROT_READ:
                access = ACCESS_WRITE
                prot |= PROT_READ  # what can be written can be read, for the processor too
        case 1:
            prot = PROT_READ
        case 2:
            pass
        case 3:
            flags = MAP_PRIVATE
        case _:
            raise ValueError("mmap invalid access parameter.")
    known = MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | _POPULATE | _IGNORED
    sharing = flags & (MAP_SHARED | MAP_PRIVATE)
    if sharing not in (MAP_SHARED, MAP_PRIVATE) or prot & ~PROT_ANY:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if flags & ~known:
        raise ValueError(f"mmap flags {flags & ~known:#x} are not supported")
    return access, flags, prot


def _size_in_file(fd: int, size: int, start: int) -> int:
    """Return the bytes to map of a file; require that a regular file has them."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return size
    if size == 0:
        if status.st_size == 0:
            raise ValueError("cannot mmap an empty file")
        if start >= status.st_size:
            raise ValueError("mmap offset is greater than file size")
        return status.st_size - start
    if start > status.st_size or status.st_size - start < size:
        raise ValueError("mmap length is greater than file size")
    return size


_USAGE: Final = "usage: python -m mmapwrap.mmap (SCRIPT | -m MODULE) [ARGUMENT ...]"


def main(arguments: list[str]) -> None:
    """Run a script or a module with this module in the place of `mmap`."""
    import runpy  # noqa: PLC0415

    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(f"{_USAGE}\n")
        return
    is_module = arguments[:1] == ["-m"]
    program = arguments[is_module:]
    if not program or program[0].startswith("-"):
        sys.exit(_USAGE)
    if not is_module and not os.path.exists(program[0]):  # noqa: PTH110
        sys.exit(f"python -m mmapwrap.mmap: there is no file {program[0]!r}")
    sys.modules["mmap"] = sys.modules["mmapwrap.mmap"]
    sys.argv[:] = program
    if is_module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(program[0]))  # noqa: PTH100, PTH120
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    # The module that everybody else imports, and not this one, which is `__main__`.
    importlib.import_module("mmapwrap.mmap").main(sys.argv[1:])
