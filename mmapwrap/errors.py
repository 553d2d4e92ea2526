"""The error tree: one root, a named class for each cause, and the table of errnos.

Every error is also the builtin that Python code already catches, carries its numbers as attributes,
can be matched by position, and survives pickling and copying. An errno has one class
for every call; EEXIST alone has two.
"""

from __future__ import annotations

import errno as codes
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmapwrap._core.protection import Protection
    from mmapwrap._core.seals import MemfdSeals

_Filename: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def in_digits(number: int) -> str:
    """Return a number as messages show it: a long one in hexadecimal digits.

    Python may be told to make no more than 640 decimal digits (2048 bits are 617 digits).
    """
    return str(number) if number.bit_length() <= 2048 else f"{number:#x}"


def _counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{in_digits(number)} {noun}" if number == 1 else f"{in_digits(number)} {noun}s"


def shown(value: object) -> str:
    """Return a wrong argument as messages show it."""
    return in_digits(value) if type(value) is int else repr(value)


def _accesses(protection: Protection) -> str:
    """Return the names of the accesses that a protection allows."""
    accesses = {
        "read": protection.readable,
        "write": protection.writable,
        "execute": protection.executable,
    }
    return "/".join(name for name, allowed in accesses.items() if allowed) or "no"


class MmapError(Exception):
    """The root of every error of this library; never raised itself.

    An error is made of the values that `__match_args__` names, and is pickled and copied from them.

    Example:
        >>> from mmapwrap import MemoryMapping, MmapError
        >>> try:
        ...     MemoryMapping.from_file("/missing")
        ... except MmapError as error:
        ...     print(error)
        [Errno 2] open: No such file or directory: '/missing'
    """

    __match_args__: ClassVar[tuple[Any, ...]] = ()  # of str; each class names its own

    def __repr__(self) -> str:
        if not self.__match_args__:
            return super().__repr__()
        numbers = (f"{name}={shown(getattr(self, name))}" for name in self.__match_args__)
        return f"{type(self).__name__}({', '.join(numbers)})"


# --- Arguments ---------------------------------------------------------------------------------


class InvalidAddressError(MmapError, ValueError):
    """An address or a range that no mapping can have."""

    def __init__(self, message: str = "the address or range cannot be right") -> None:
        super().__init__(message)


class InvalidRangeError(InvalidAddressError):
    """A range that is not inside its region: past the end, negative, or past 2**64.

    Attributes:
        offset: The start of the range in the region, in bytes.
        count: Its length in bytes.
        region_size: The size of the region in bytes.
    """

    __match_args__: ClassVar[tuple[Literal["offset"], Literal["count"], Literal["region_size"]]] = (
        "offset",
        "count",
        "region_size",
    )

    holder = "region"
    """What does not hold the range: a region, or a slice of one."""
    hint: str | None = None
    """Where the range comes from, if it was not given as such."""

    def __init__(self, offset: int, count: int, region_size: int) -> None:
        MmapError.__init__(
            self, offset, count, region_size
        )  # InvalidAddressError would take a message
        self.offset = offset
        self.count = count
        self.region_size = region_size

    def __str__(self) -> str:
        if self.offset < 0:
            return f"the offset {in_digits(self.offset)} is negative"
        if self.count < 0:
            return f"the count {in_digits(self.count)} is negative"
        holder = f"but the {self.holder} has {_counted(self.region_size, 'byte')}"
        report = (
            f"the range of {_counted(self.count, 'byte')} at offset {in_digits(self.offset)} ends "
            f"at {in_digits(self.offset + self.count)}, "
            + ("past 2**64" if self.region_size == 2**64 else holder)
        )
        return report if self.hint is None else f"{report}; {self.hint}"


class CapacityExceededError(InvalidRangeError):
    """A size that is larger than the capacity of its region.

    Attributes:
        offset: 0.
        count: The size in bytes.
        region_size: The capacity in bytes.
    """

    def __str__(self) -> str:
        capacity = _counted(self.region_size, "byte")
        return f"the size of {_counted(self.count, 'byte')} is past the capacity of {capacity}"


class InvalidIndexError(InvalidRangeError, IndexError):
    """An index at which the region has no byte; it ends a loop over a region.

    Attributes:
        offset: The index.
        count: 1.
        region_size: The size of the region in bytes.
    """

    def __str__(self) -> str:
        region_size = _counted(self.region_size, "byte")
        return f"the index {in_digits(self.offset)} is outside a region of {region_size}"


class InvalidAlignmentError(MmapError, ValueError):
    """An alignment that is not a power of two, or one given together with a fixed address.

    Attributes:
        align: The alignment in bytes.
    """

    __match_args__: ClassVar[tuple[Literal["align"]]] = ("align",)

    def __init__(self, align: int) -> None:
        super().__init__(align)
        self.align = align

    def __str__(self) -> str:
        align = in_digits(self.align)
        if self.align > 0 and self.align.bit_count() == 1:
            return f"the alignment {align} cannot be given with a fixed address"
        return f"the alignment {align} is not a power of two"


class InvalidArgumentError(MmapError, ValueError):
    """An argument that cannot be right, for a reason that has no error of its own.

    Attributes:
        message: The argument, and what is wrong with it.
    """

    __match_args__: ClassVar[tuple[Literal["message"]]] = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class InvalidOffsetError(MmapError, ValueError):
    """A file offset that is negative, or past the 2**63 - 1 that an `off_t` holds.

    Attributes:
        offset: The offset in bytes.
    """

    __match_args__: ClassVar[tuple[Literal["offset"]]] = ("offset",)

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset

    def __str__(self) -> str:
        offset = in_digits(self.offset)
        if self.offset < 0:
            return f"the file offset {offset} is negative"
        return f"the file offset {offset} is past 2**63 - 1, the last that a file can have"


def page_size_name(page_size: int) -> str:
    """Return the name that messages give to the size of a page."""
    return "huge page size" if page_size > os.sysconf("SC_PAGESIZE") else "page size"


class NotPageAlignedError(MmapError, ValueError):
    """An address, or a start or end of a range, that must be on a page and is not.

    Attributes:
        value: The address or offset in bytes, as it was given.
        page_size: The size in bytes of the pages that it must fit.
        lead_in: The bytes of the region's first page before the region: its pages are at multiples
            of the page size less this.
        rule: The rule that the value breaks; None: it must be a multiple of the page size.
    """

    __match_args__: ClassVar[tuple[Literal["value"], Literal["page_size"]]] = ("value", "page_size")

    region_size: int | None = None
    """The size of the region in bytes, where the value is an offset in one."""

    def __init__(
        self, value: int, page_size: int, lead_in: int = 0, rule: str | None = None
    ) -> None:
        super().__init__(value, page_size)
        self.value = value
        self.page_size = page_size
        self.lead_in = lead_in
        self.rule = rule

    def __str__(self) -> str:
        if self.rule is not None:
            return self.rule
        size = page_size_name(self.page_size)
        if not self.lead_in:
            return f"{in_digits(self.value)} is not a multiple of the {size} {self.page_size}"
        below = self.value - (self.value + self.lead_in) % self.page_size
        end = self.region_size if self.region_size is not None else below + self.page_size
        edges = (below, below + self.page_size)
        nearest = " and ".join(str(edge) for edge in edges if 0 < edge <= end)
        return (
            f"{in_digits(self.value)} is not on a page: the region starts {self.lead_in} bytes "
            f"inside a page, and the {size} is {self.page_size}; the nearest offsets on a page: "
            f"{nearest or 'none in this region'}"
        )


class PastEndOfFileError(MmapError, ValueError):
    """A mapping of bytes that the file does not have: an access to them would be SIGBUS.

    Attributes:
        offset: The start of the mapping in the file, in bytes.
        count: Its length in bytes; 0 where the rest of the file was asked for and there is none.
        file_size: The size of the file in bytes.
    """

    __match_args__: ClassVar[tuple[Literal["offset"], Literal["count"], Literal["file_size"]]] = (
        "offset",
        "count",
        "file_size",
    )

    filename: _Filename | None = None
    """The path that was given; None if the file was given by a descriptor."""
    holder: str = "the file"
    """What has too few bytes."""

    def __init__(self, offset: int, count: int, file_size: int) -> None:
        super().__init__(offset, count, file_size)
        self.offset = offset
        self.count = count
        self.file_size = file_size

    def __str__(self) -> str:
        file_size = _counted(self.file_size, "byte")
        file = self.holder if self.filename is None else f"the file {self.filename!r}"
        if self.count == 0:
            return f"there is nothing to map at offset {self.offset}: {file} has {file_size}"
        return (
            f"the range of {_counted(self.count, 'byte')} at offset {self.offset} ends at "
            f"{self.offset + self.count}, but {file} has {file_size}"
        )


# --- The state of the region -------------------------------------------------------------------


class ClosedMappingError(MmapError, ValueError):
    """A region, a slice or shared memory was used after its `close()`."""

    def __str__(self) -> str:
        return "the region or shared memory is closed"


class ProtectionError(MmapError, TypeError):
    """An access that the protection of the range does not allow, found before it is made.

    Attributes:
        required: The protection that the access needs.
        actual: The protection that all of the range has.
    """

    __match_args__: ClassVar[tuple[Literal["required"], Literal["actual"]]] = ("required", "actual")

    range: tuple[int, int] | None = None
    """The offset and the count of the range, in bytes, if it is a range of a region."""
    hint: str | None = None
    """Why the range allows no more, if the cause is not its protection."""

    def __init__(self, required: Protection, actual: Protection) -> None:
        super().__init__(required, actual)
        self.required = required
        self.actual = actual

    def __str__(self) -> str:
        report = (
            f"{_accesses(self.required)} access is needed, "
            f"but the range allows {_accesses(self.actual)} access"
        )
        if self.range is not None:
            offset, count = self.range
            report += f" ({_counted(count, 'byte')} at offset {in_digits(offset)})"
        return report if self.hint is None else f"{report}; {self.hint}"


class MissingSealsError(MmapError, ValueError):
    """Shared memory without the seals that its receiver requires.

    Attributes:
        required: The seals that the memory must have.
        actual: The seals that it has; none if it is no memfd.
    """

    __match_args__: ClassVar[tuple[Literal["required"], Literal["actual"]]] = ("required", "actual")

    def __init__(self, required: MemfdSeals, actual: MemfdSeals) -> None:
        super().__init__(required, actual)
        self.required = required
        self.actual = actual

    def __str__(self) -> str:
        missing = type(self.required)(int(self.required) & ~int(self.actual))
        return f"the memory lacks seals that are required: {missing.name or hex(missing)}"


class ViewsExportedError(MmapError, BufferError):
    """A change of the region that would take pages or access away from live views.

    Attributes:
        views: The number of live views that forbid the change.
    """

    __match_args__: ClassVar[tuple[Literal["views"]]] = ("views",)

    def __init__(self, views: int) -> None:
        super().__init__(views)
        self.views = views

    def __str__(self) -> str:
        return f"{_counted(self.views, 'live view')} must be released first"


# --- Unsupported operations --------------------------------------------------------------------


class UnsupportedOperationError(MmapError, NotImplementedError):
    """An operation that this kind of region, or its memory, does not support.

    Attributes:
        operation: The name of the method.
    """

    __match_args__: ClassVar[tuple[Literal["operation"]]] = ("operation",)

    hint: str | None = None
    """Why it is not supported, where another region of this kind may support it."""

    def __init__(self, operation: str) -> None:
        super().__init__(operation)
        self.operation = operation

    def __str__(self) -> str:
        if self.hint is not None:
            return f"{self.operation} is not supported here: {self.hint}"
        return f"{self.operation} is not supported by this kind of region"


class AddFdMappingUnsupportedError(UnsupportedOperationError):
    """`add_fd_mapping` was called on a region into which no file can be mapped."""

    def __init__(self, operation: str = "add_fd_mapping") -> None:
        super().__init__(operation)


class RemoveMappingUnsupportedError(UnsupportedOperationError):
    """`remove_mapping` was called on a region out of which nothing can be unmapped."""

    def __init__(self, operation: str = "remove_mapping") -> None:
        super().__init__(operation)


class UnsupportedByKernelError(MmapError, NotImplementedError):
    """A feature that the running kernel, or this processor architecture, does not have.

    Attributes:
        feature: The kernel's name of it, such as `MADV_COLLAPSE`.
    """

    __match_args__: ClassVar[tuple[Literal["feature"]]] = ("feature",)

    def __init__(self, feature: str) -> None:
        super().__init__(feature)
        self.feature = feature

    def __str__(self) -> str:
        return f"{self.feature} is not supported by this kernel or architecture"


# --- Volatile access ---------------------------------------------------------------------------


class VolatileMemoryError(MmapError, ValueError):
    """The root of the errors of volatile access; never raised itself."""


class VolatileOutOfBoundsError(VolatileMemoryError):
    """A volatile access that ends past the memory it is made in.

    Attributes:
        addr: The end of the range that was asked for, in bytes; a length that is negative.
    """

    __match_args__: ClassVar[tuple[Literal["addr"]]] = ("addr",)

    range: tuple[int, int, int] | None = None
    """The offset, the count and the size of the memory, in bytes, if they are known."""
    holder = "region"
    """What does not hold the range: a region, or a slice of one."""

    def __init__(self, addr: int) -> None:
        super().__init__(addr)
        self.addr = addr

    def __str__(self) -> str:
        if self.range is not None:
            error = InvalidRangeError(*self.range)
            error.holder = self.holder
            return str(error)
        return f"the range ends at {self.addr:#x}, which is past the end of the memory"


class VolatileOverflowError(VolatileMemoryError):
    """A volatile access whose end no address can express, because it is past 2**64.

    Attributes:
        base: The address or offset that was added to, in bytes.
        offset: The number that was added to it, in bytes.
    """

    __match_args__: ClassVar[tuple[Literal["base"], Literal["offset"]]] = ("base", "offset")

    def __init__(self, base: int, offset: int) -> None:
        super().__init__(base, offset)
        self.base = base
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.base:#x} + {self.offset:#x} is past 2**64"


class VolatileMisalignedError(VolatileMemoryError):
    """A volatile load or store at an address where the processor cannot make it in one piece.

    Attributes:
        addr: The address.
        alignment: The number that must divide it, in bytes.
    """

    __match_args__: ClassVar[tuple[Literal["addr"], Literal["alignment"]]] = ("addr", "alignment")

    def __init__(self, addr: int, alignment: int) -> None:
        super().__init__(addr, alignment)
        self.addr = addr
        self.alignment = alignment

    offset: int | None = None
    """The offset in the region, in bytes, if it is known."""

    def __str__(self) -> str:
        if self.offset is None:
            return f"the address {self.addr:#x} is not a multiple of {self.alignment}"
        return f"the address of offset {self.offset} is not a multiple of {self.alignment}"


# --- Failed system calls -----------------------------------------------------------------------


class _ErrnoError(MmapError, OSError):
    """An error with an errno, which keeps OSError's promise that `args` is (errno, strerror)."""

    # OSError allows None here, because it can be made without an errno; these classes cannot. Each
    # class below that is also a builtin OSError inherits both declarations, and pyright reports it.
    errno: int  # pyright: ignore[reportIncompatibleVariableOverride]
    filename: _Filename | None
    hint: str | None = None
    """The cause or a remedy, if the library knows one."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno, os.strerror(errno))

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would rebuild the error from its `args`, which are not the arguments of these
        # classes, and it keeps the file name outside of `__dict__`.
        arguments = tuple(getattr(self, name) for name in self.__match_args__)
        return type(self), arguments, {**self.__dict__, "filename": self.filename}

    def _report(self, failed: str) -> str:
        """Return the message: the errno, the failed operation, the path and the hint."""
        report = f"[Errno {self.errno}] {failed}: {self.strerror}"
        if self.filename is not None:
            report += f": {self.filename!r}"
        return report if self.hint is None else f"{report}; {self.hint}"


E = TypeVar(
    "E", bound="_ErrnoError | InvalidRangeError | ProtectionError | UnsupportedOperationError"
)


def hinted(error: E, hint: str | None) -> E:
    """Return the error, with a hint: its cause, or a remedy."""
    error.hint = hint
    return error


class MappingFaultError(_ErrnoError):
    """Pages that could not be read in or written to.

    The file was truncated under the mapping, its device is full, or memory or a disk failed.

    Attributes:
        errno: Always EIO.
        offset: The start of the first such page in the region, in bytes.
        pages: 1 for a call that met such a page; after a guard, the number of pages that it
            replaced by zeros.
        hint: Which of the causes it was, if the kernel tells; else None.
    """

    __match_args__: ClassVar[tuple[Literal["offset"], Literal["pages"]]] = ("offset", "pages")

    def __init__(self, offset: int, pages: int, hint: str | None = None) -> None:
        super().__init__(codes.EIO)
        self.offset = offset
        self.pages = pages
        self.hint = hint

    def __str__(self) -> str:
        pages = _counted(self.pages, "page")
        return self._report(f"{pages} at offset {self.offset} could not be read in")


class ReadToMemoryError(_ErrnoError):
    """A transfer from a file into memory failed.

    Attributes:
        errno: The errno of the transfer.
    """

    __match_args__: ClassVar[tuple[Literal["errno"]]] = ("errno",)

    def __str__(self) -> str:
        return self._report("reading from a file into memory")


class WriteFromMemoryError(_ErrnoError):
    """A transfer from memory into a file failed.

    Attributes:
        errno: The errno of the transfer.
    """

    __match_args__: ClassVar[tuple[Literal["errno"]]] = ("errno",)

    def __str__(self) -> str:
        return self._report("writing from memory to a file")


class SystemCallError(_ErrnoError):
    """A system call failed, with an errno that has no class of its own.

    `system_call_error` picks the class for an errno; an object made by a call of this class has
    this class, whatever the errno.

    Attributes:
        errno: The errno of the call.
        syscall: The name of the call, such as `mmap`.
        filename: The path that was given to the call, or None if it had none.
    """

    __match_args__: ClassVar[tuple[Literal["errno"], Literal["syscall"]]] = ("errno", "syscall")

    def __init__(self, errno: int, syscall: str, filename: _Filename | None = None) -> None:
        super().__init__(errno)
        self.syscall = syscall
        self.filename = filename

    def __str__(self) -> str:
        return self._report(self.syscall)


class OperationNotPermittedError(SystemCallError, PermissionError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """EPERM: a seal or a missing privilege forbids the call."""


class AccessDeniedError(SystemCallError, PermissionError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """EACCES: the file, or the mode in which it is open, does not allow the access."""


class BadDescriptorError(SystemCallError):
    """EBADF: the descriptor is not open, or is not of the kind that the call needs."""


class AlreadyExistsError(SystemCallError, FileExistsError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """EEXIST of a file: there is one, or shared memory, of that name."""


class AddressInUseError(SystemCallError, FileExistsError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """EEXIST: something is mapped already at the fixed address."""


class InvalidSystemCallError(SystemCallError, ValueError):
    """EINVAL: the kernel refuses this combination of arguments, or this kind of mapping."""


class OutOfMemoryError(SystemCallError, MemoryError):
    """ENOMEM: no address space, memory or mapping is left, or part of the range is not mapped."""


class LockLimitError(SystemCallError, BlockingIOError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """EAGAIN: the pages cannot be locked, mostly because of RLIMIT_MEMLOCK."""


class NotMappableError(SystemCallError):
    """ENODEV: the file of the descriptor, such as a socket or a pipe, cannot be mapped."""


class TooManyFilesError(SystemCallError):
    """EMFILE or ENFILE: the process, or the whole system, has no descriptor left."""


class OffsetOverflowError(SystemCallError, OverflowError):
    """EOVERFLOW: the file offset plus the size is larger than an `off_t` can hold."""


class NoSpaceError(SystemCallError):
    """ENOSPC: the file system, or /dev/shm, is full."""


class RegionBusyError(SystemCallError):
    """EBUSY: the range is in a state, such as locked, that forbids the call for now.

    The library raises it too, where a signal handler or a finalizer asks for a change or a view of
    a region in the middle of a change of the same region by the same thread. Try again after that
    change. While Python exits, a daemon thread's change of the region may be one that never ends.
    """


class BadAddressError(SystemCallError):
    """EFAULT: an address is not mapped, or its page cannot be read in."""


class InputOutputError(SystemCallError):
    """EIO: the device under the file failed."""


class TextFileBusyError(SystemCallError):
    """ETXTBSY: the file is a program that runs, or one that is open for writing."""


class NoSuchFileError(SystemCallError, FileNotFoundError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """ENOENT: there is no file of that name."""


class IsDirectoryError(SystemCallError, IsADirectoryError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """EISDIR: the path is that of a directory, and a file is needed."""


class NotDirectoryError(SystemCallError, NotADirectoryError):  # pyright: ignore[reportIncompatibleVariableOverride]
    """ENOTDIR: a part of the path is a file and not a directory."""


_CLASS_OF_ERRNO: Final[Mapping[int, type[SystemCallError]]] = MappingProxyType(
    {
        codes.EPERM: OperationNotPermittedError,
        codes.EACCES: AccessDeniedError,
        codes.EBADF: BadDescriptorError,
        codes.EEXIST: AddressInUseError,
        codes.EINVAL: InvalidSystemCallError,
        codes.ENOMEM: OutOfMemoryError,
        codes.EAGAIN: LockLimitError,
        codes.ENODEV: NotMappableError,
        codes.EMFILE: TooManyFilesError,
        codes.ENFILE: TooManyFilesError,
        codes.EOVERFLOW: OffsetOverflowError,
        codes.ENOSPC: NoSpaceError,
        codes.EBUSY: RegionBusyError,
        codes.EFAULT: BadAddressError,
        codes.EIO: InputOutputError,
        codes.ETXTBSY: TextFileBusyError,
        codes.ENOENT: NoSuchFileError,
        codes.EISDIR: IsDirectoryError,
        codes.ENOTDIR: NotDirectoryError,
    }
)


def system_call_error(
    errno: int, syscall: str, filename: _Filename | None = None
) -> SystemCallError:
    """Return the error of a failed system call, of the class that its errno has.

    Args:
        errno: The errno, read right after the call.
        syscall: The name of the call, such as `mmap`.
        filename: The path that was given to the call, if any.

    Returns:
        The error, not raised: of the class named for the errno, or a plain `SystemCallError`.

    Example:
        >>> import errno
        >>> from mmapwrap.errors import system_call_error
        >>> system_call_error(errno.ENOSPC, "fallocate")
        NoSpaceError(errno=28, syscall='fallocate')
    """
    # mmap says EEXIST of an address (MAP_FIXED_NOREPLACE), every other call of a file.
    if errno == codes.EEXIST and syscall != "mmap":
        return AlreadyExistsError(errno, syscall, filename)
    return _CLASS_OF_ERRNO.get(errno, SystemCallError)(errno, syscall, filename)
