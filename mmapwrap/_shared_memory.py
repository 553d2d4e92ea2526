"""SharedMemory: memory with a descriptor, passed from process to process, or found by a name."""

import errno
import os
import stat
from collections import deque
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, SupportsIndex, TypeAlias, final

from mmapwrap._core import descriptors, file_length
from mmapwrap._core.arguments import (
    Descriptor,
    as_descriptor,
    as_file_offset,
    as_permissions,
    as_size,
)
from mmapwrap._core.construction import NamedConstructors
from mmapwrap._core.creation import map_file_range
from mmapwrap._core.protection import READ_WRITE, Protection
from mmapwrap._core.seals import MemfdSeals
from mmapwrap._mapping import MemoryMapping
from mmapwrap._regions.base import region_of
from mmapwrap.errors import (
    ClosedMappingError,
    InvalidArgumentError,
    MissingSealsError,
    PastEndOfFileError,
    hinted,
    shown,
    system_call_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_LONGEST_NAME: Final = 249


NO_SEALS: Final = MemfdSeals(0)


class _Duplicate(Protocol):
    """A descriptor as `multiprocessing` passes it."""

    def detach(self) -> int: ...


@final
class SharedMemory(
    NamedConstructors,
    made_by="SharedMemory.new(debug_name, size), "
    "create_named(name, size), open_named(name) or from_fd(fd)",
):
    """Memory that processes share by passing its descriptor; freed when its last holder is gone.

    What `new` makes has no name in any file system, so nothing is left behind however a process
    ends. Memory that must be found by a name is made by `create_named` and lasts until
    `unlink_named`. Both pass
    through `multiprocessing` as an argument and through queues and pipes, and over a Unix socket
    with `socket.send_fds`; the receiver there uses `from_fd`. A pickle that `multiprocessing` made
    keeps the descriptor until it is unpickled, once, while the sender lives. A
    `multiprocessing.Queue` pickles in a thread of its own, so close the memory only when the
    receiver has it.

    Example:
        >>> from mmapwrap import SharedMemory
        >>> with SharedMemory.new("example", 4096) as memory:
        ...     first, second = memory.map(), memory.map()
        >>> first[0:2] = b"hi"
        >>> second[0:2]
        b'hi'
    """

    __slots__ = ("__weakref__", "_descriptor", "_name", "_size")

    _descriptor: "descriptors.OwnedDescriptor | None"
    _name: str
    _size: int

    @classmethod
    def new(cls, debug_name: str, size: SupportsIndex, *, allocate: bool = False) -> "SharedMemory":
        """Create memory of zeros. memfd_create(2), close-on-exec and sealable.

        Where the kernel can (Linux 6.3), it cannot be executed, and is sealed so (MemfdSeals.EXEC).

        Args:
            debug_name: The name that /proc shows: at most 249 bytes in UTF-8, and not unique.
            size: Bytes; memory of 0 bytes may grow later (`resize`).
            allocate: Take the memory now, by fallocate(2), so that a full machine is NoSpaceError
                here and no SIGBUS later. The memory limit of a control group is not the machine's:
                the kernel ends a process that exceeds it.

        Raises:
            InvalidArgumentError: The name is too long or holds a NUL, or the size is not between 0
                and 2**63 - 1.
            NoSpaceError: `allocate`, and there is not that much memory.
            NoSuchFileError: `allocate`, and there is no /proc to read the free memory from.
            TooManyFilesError: RLIMIT_NOFILE is reached.
            SystemCallError: The kernel refused: RLIMIT_FSIZE (EFBIG) for example.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> with SharedMemory.new("frames", 1 << 20, allocate=True) as memory:
            ...     memory.name, memory.size
            ('frames', 1048576)
        """
        name = _as_name(debug_name)
        if len(name) > _LONGEST_NAME or b"\0" in name:
            raise InvalidArgumentError(
                f"debug_name has {len(name)} bytes: at most {_LONGEST_NAME} and no NUL are allowed"
            )
        length = as_size(size, bits=63, least=0)
        if allocate:
            file_length.require_memory(length)
        descriptor = descriptors.create_memfd(name, length, allocate=bool(allocate))
        return _memory_of(descriptor, length, debug_name)

    @classmethod
    def from_fd(
        cls,
        fd: Descriptor,
        size: SupportsIndex | None = None,
        *,
        required_seals: MemfdSeals = NO_SEALS,
    ) -> "SharedMemory":
        """Hold the memory of a descriptor, which is duplicated. fcntl(2), fstat(2).

        Args:
            fd: A descriptor of a memfd or a file, or an object with one; it stays the caller's.
            size: Bytes to share; None: the whole memory.
            required_seals: Seals that the memory must have. With SHRINK, for example, the sender
                cannot truncate the memory under a mapping.

        Raises:
            PastEndOfFileError: The memory has fewer bytes than `size`.
            MissingSealsError: The memory has not all of these seals, or is no memfd.
            BadDescriptorError: The descriptor is not open.
            NotMappableError: The descriptor is not of a regular file.
            TooManyFilesError: RLIMIT_NOFILE is reached.

        Example:
            >>> from mmapwrap import MemfdSeals, SharedMemory
            >>> sent = SharedMemory.new("example", 4096)
            >>> sent.add_seals(MemfdSeals.SHRINK)
            >>> received = SharedMemory.from_fd(sent, required_seals=MemfdSeals.SHRINK)
            >>> received.size
            4096
        """
        wanted = None if size is None else as_size(size)
        required = _as_seals(required_seals, "required_seals")
        return _checked_memory_of(descriptors.duplicate(as_descriptor(fd)), wanted, required)

    @classmethod
    def from_file(cls, file: Descriptor) -> "SharedMemory":
        """Hold the memory of an open file: all of it. Errors: see `from_fd`.

        The file's position is neither used nor moved.

        Args:
            file: An open file, or a descriptor.

        Example:
            >>> import tempfile
            >>> from mmapwrap import SharedMemory
            >>> with tempfile.TemporaryFile() as file:
            ...     size = file.truncate(100)
            ...     memory = SharedMemory.from_file(file)
            >>> memory.size
            100
        """
        return cls.from_fd(file)

    # --- Memory with a name -----------------------------------------------------------------------

    @classmethod
    def create_named(
        cls, name: str, size: SupportsIndex, *, allocate: bool = True, mode: SupportsIndex = 0o600
    ) -> "SharedMemory":
        """Create memory of zeros that other processes open by its name. shm_open(3).

        It lasts until `unlink_named`, also past the end of all processes.

        Args:
            name: The name in /dev/shm: 1 to 255 bytes in UTF-8 without a slash; one at its start is
                left out.
            size: Bytes; memory of 0 bytes may grow later (`resize`).
            allocate: Take the memory now, so that a full /dev/shm is an error here and no fault
                later.
            mode: The permissions, before the umask.

        Raises:
            AlreadyExistsError: There is memory of that name.
            InvalidArgumentError: The name is empty or too long, or holds a slash or a NUL; or the
                size is not between 0 and 2**63 - 1; or the mode is not between 0 and 0o7777.
            NoSpaceError: The file system of /dev/shm is full.
            TooManyFilesError: RLIMIT_NOFILE is reached.
            SystemCallError: The kernel refused: RLIMIT_FSIZE (EFBIG) for example.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.create_named("mmapwrap-example", 4096)
            >>> SharedMemory.open_named("mmapwrap-example").size
            4096
            >>> SharedMemory.unlink_named("mmapwrap-example")
        """
        path, length = _path_of(name), as_size(size, bits=63, least=0)
        permissions = as_permissions(mode)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd, owner = descriptors.open_file(path, flags, permissions)
        try:
            file_length.extend_file(fd, 0, length, allocate=bool(allocate))
        except BaseException:
            descriptors.take_back(path, owner)
            raise
        return _memory_of((fd, owner), length, name.removeprefix("/"))

    @classmethod
    def open_named(cls, name: str) -> "SharedMemory":
        """Open the memory of a name, to read and write. shm_open(3).

        Args:
            name: The name that `create_named` was given.

        Raises:
            NoSuchFileError: There is no memory of that name.
            AccessDeniedError: Its permissions do not allow this user to read and write it.
            InvalidArgumentError: The name is empty or too long, or holds a slash or a NUL.
            NotMappableError: The name is not that of memory.
            SystemCallError: The name is that of a symbolic link (ELOOP).
            TooManyFilesError: RLIMIT_NOFILE is reached.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> SharedMemory.open_named("mmapwrap-missing")
            Traceback (most recent call last):
            mmapwrap.errors.NoSuchFileError: [Errno 2] open: No such file or directory: '/dev/shm...
        """
        file = descriptors.open_file(_path_of(name), os.O_RDWR | os.O_NOFOLLOW)
        return _checked_memory_of(file, None, NO_SEALS)

    @classmethod
    def unlink_named(cls, name: str) -> None:
        """Remove the name of memory; what holds or maps the memory goes on with it. shm_unlink(3).

        Args:
            name: The name that `create_named` was given.

        Raises:
            NoSuchFileError: There is no memory of that name.
            OperationNotPermittedError: The name is another user's, whatever its permissions are:
                /dev/shm is sticky.
            InvalidArgumentError: The name is empty or too long, or holds a slash or a NUL.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.create_named("mmapwrap-example", 4096)
            >>> SharedMemory.unlink_named("mmapwrap-example")
            >>> memory.map().size
            4096
        """
        descriptors.remove_name(_path_of(name))

    def try_clone(self) -> "SharedMemory":
        """Return another holder of the same memory, with a descriptor of its own.

        Raises:
            ClosedMappingError: The memory is closed.
            TooManyFilesError: RLIMIT_NOFILE is reached.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.new("example", 4096)
            >>> clone = memory.try_clone()
            >>> memory.close()
            >>> clone.map().size
            4096
        """
        fd, _owner = self._open_descriptor()
        return _memory_of(descriptors.duplicate(fd), self._size, self._name)

    # --- Properties -----------------------------------------------------------------------------

    def __array__(self, *_: object, **__: object) -> NoReturn:
        """Refuse: without this NumPy makes an array of the object."""
        raise TypeError("SharedMemory has no bytes until it is mapped: use map().array()")

    def fileno(self) -> int:
        """Return the descriptor, which this object keeps and closes.

        Raises:
            ClosedMappingError: The memory is closed.

        Example:
            >>> import os
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.new("example", 4096)
            >>> os.fstat(memory.fileno()).st_size
            4096
        """
        return self._open_descriptor()[0]

    @property
    def size(self) -> int:
        """The shared bytes."""
        return self._size

    @property
    def name(self) -> str:
        """The name of the memory, which for `new` is only its debug name; empty if not known."""
        return self._name

    @property
    def closed(self) -> bool:
        """Whether this object is closed; other holders may go on."""
        return self._descriptor is None

    def close(self) -> None:
        """Close the descriptor; mappings stay. Closing never fails and may be repeated.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.new("example", 4096)
            >>> mapping = memory.map()
            >>> memory.close()
            >>> memory.closed, mapping.closed
            (True, False)
        """
        self._descriptor = None

    def __enter__(self) -> "Self":
        self._open_descriptor()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<SharedMemory {self._name!r} of {self._size} bytes{state}>"

    def __reduce__(self) -> "tuple[Callable[..., SharedMemory], tuple[object, int, str, _Token]]":
        """Pass the descriptor, as `multiprocessing` does with its own connections."""
        from multiprocessing import reduction  # noqa: PLC0415  # an import only for passing memory on

        fd, _owner = self._open_descriptor()
        token = os.getpid(), next(_pickle_numbers)
        return _received, (reduction.DupFd(fd), self._size, self._name, token)

    def _open_descriptor(self) -> descriptors.OwnedDescriptor:
        """Return the descriptor and its owner.

        Raises:
            ClosedMappingError: The memory is closed.
        """
        descriptor = self._descriptor
        if descriptor is None:
            raise ClosedMappingError
        return descriptor

    # --- Growth -----------------------------------------------------------------------------------

    def resize(self, size: SupportsIndex, *, allocate: bool = True) -> None:
        """Change the size of the memory, for all its holders. fallocate(2), ftruncate(2).

        Mappings stay as they are: one that was given a capacity takes the size by `refresh`. Where
        bytes are gone, copies are a MappingFaultError, and views and arrays need a `fault_guard`;
        nobody else's live views are known here. Memory that somebody else has made longer than
        this object knows is not cut.

        Args:
            size: Bytes, from 0 on.
            allocate: Take what is added now, so that a full machine is an error here and no fault
                later.

        Raises:
            ClosedMappingError: The memory is closed.
            InvalidArgumentError: The size is not between 0 and 2**63 - 1.
            NoSpaceError: There is not that much memory.
            OperationNotPermittedError: The memory is sealed against this (MemfdSeals.GROW, SHRINK).
            AccessDeniedError: The descriptor was opened for reading only.
            SystemCallError: The kernel refused: RLIMIT_FSIZE (EFBIG) for example.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.new("example", 0)
            >>> mapping = memory.map(capacity=1 << 30)
            >>> memory.resize(4096)
            >>> mapping.refresh()
            4096
        """
        length = as_size(size, bits=63, least=0)
        fd, _owner = self._open_descriptor()
        if length < self._size:
            file_length.cut_file(fd, length, self._size)
        file_length.extend_file(fd, self._size, length, allocate=bool(allocate))
        self._size = length

    def refresh(self) -> int:
        """Take the size that the memory has now, after somebody else has changed it. fstat(2).

        Returns:
            The size in bytes.

        Raises:
            ClosedMappingError: The memory is closed.

        Example:
            >>> from mmapwrap import SharedMemory
            >>> memory = SharedMemory.new("example", 0)
            >>> clone = memory.try_clone()
            >>> memory.resize(100)
            >>> clone.size, clone.refresh()
            (0, 100)
        """
        fd, _owner = self._open_descriptor()
        self._size = descriptors.file_status(fd).size
        return self._size

    # --- Seals and mappings -----------------------------------------------------------------------

    def get_seals(self) -> MemfdSeals:
        """Return the seals. fcntl(F_GET_SEALS).

        Raises:
            ClosedMappingError: The memory is closed.
            InvalidSystemCallError: The memory is no memfd.

        Example:
            >>> from mmapwrap import MemfdSeals, SharedMemory
            >>> memory = SharedMemory.new("example", 4096)
            >>> MemfdSeals.WRITE in memory.get_seals()
            False
        """
        fd, _owner = self._open_descriptor()
        return MemfdSeals(descriptors.get_seals(fd))

    def add_seals(self, seals: MemfdSeals) -> None:
        """Add seals, for every holder and for ever. fcntl(F_ADD_SEALS).

        Args:
            seals: The seals to add to those that the memory has.

        Raises:
            ClosedMappingError: The memory is closed.
            OperationNotPermittedError: The memory has the seal against seals (MemfdSeals.SEAL), or
                its descriptor is open for reading only.
            RegionBusyError: WRITE, and a writable shared mapping exists.
            InvalidSystemCallError: The memory is no memfd, or the kernel does not know a seal.
            TypeError: `seals` is not of MemfdSeals.

        Example:
            >>> from mmapwrap import MemfdSeals, SharedMemory
            >>> memory = SharedMemory.new("example", 4096)
            >>> memory.add_seals(MemfdSeals.WRITE)
            >>> memory.map()
            Traceback (most recent call last):
            mmapwrap.errors.OperationNotPermittedError: [Errno 1] mmap: Operation not permitted...
        """
        fd, _owner = self._open_descriptor()
        descriptors.add_seals(fd, _as_seals(seals))

    def map(
        self,
        size: SupportsIndex | None = None,
        *,
        offset: SupportsIndex = 0,
        prot: Protection = READ_WRITE,
        capacity: SupportsIndex | None = None,
    ) -> MemoryMapping:
        """Map the memory, shared. Errors: see `MemoryMapping`.

        Args:
            size: Bytes; None: the rest.
            offset: Bytes into the memory, at any alignment.
            prot: The access to allow.
            capacity: The bytes to which the mapping may grow while nothing of it moves; see
                `MemoryMapping.from_file`. Memory of 0 bytes is mapped with a capacity only.

        Raises:
            ClosedMappingError: The memory is closed.
            PastEndOfFileError: The memory does not have these bytes.
            CapacityExceededError: The size is larger than the capacity.
            OperationNotPermittedError: The memory has a seal against writing, and `prot` allows it.

        Example:
            >>> from mmapwrap import Protection, SharedMemory
            >>> memory = SharedMemory.new("example", 4096)
            >>> mapping = memory.map(100, offset=50, prot=Protection.read())
            >>> mapping.size, mapping.file_offset
            (100, 50)
        """
        start = as_file_offset(offset)
        length = max(self._size - start, 0) if size is None else as_size(size)
        fd, _owner = self._open_descriptor()
        if (length == 0 and capacity is None) or start + length > self._size:
            raise _past_end(start, length, self._size)
        pages = map_file_range(fd, length, start, prot, capacity=capacity)
        return region_of(MemoryMapping, pages)


def _memory_of(descriptor: descriptors.OwnedDescriptor, size: int, name: str) -> SharedMemory:
    """Return the object of a descriptor that has been checked."""
    memory = object.__new__(SharedMemory)
    memory._descriptor, memory._size = descriptor, size  # pyright: ignore[reportPrivateUsage]
    memory._name = name  # pyright: ignore[reportPrivateUsage]
    return memory


def _past_end(offset: int, count: int, size: int) -> PastEndOfFileError:
    """Return the error of bytes that an object does not share; its file may have them."""
    error = PastEndOfFileError(offset, count, size)
    error.holder = "this SharedMemory"
    return error


def _checked_memory_of(
    descriptor: descriptors.OwnedDescriptor, size: int | None, required: MemfdSeals
) -> SharedMemory:
    """Return the object of a descriptor after a check of it; close the descriptor if it fails.

    The check of the seals comes before that of the length: a sender may change the length until it
    is sealed, and a length that is sealed stays as it is.
    """
    fd, owner = descriptor
    try:
        length = _checked_length(fd, size, required)
    except BaseException:
        descriptors.close_file(owner)  # now: the frames of the error hold it longer
        raise
    return _memory_of(descriptor, length, _name_of(fd))


def _checked_length(fd: int, size: int | None, required: MemfdSeals) -> int:
    """Return the bytes to share of a descriptor with the required seals."""
    if not stat.S_ISREG(descriptors.file_status(fd).mode):
        raise hinted(
            system_call_error(errno.ENODEV, "mmap"), "only a memfd or a regular file can be shared"
        )
    if required:
        _require_seals(fd, required)
    file_size = descriptors.file_status(fd).size
    length = file_size if size is None else size
    if length > file_size:
        raise PastEndOfFileError(0, length, file_size)
    return length


_Token: TypeAlias = tuple[int, int]
"""The identity of one pickle: the process that made it, and a number that it counts up."""

_pickle_numbers: Final = count()
_loaded: Final[deque[_Token]] = deque(maxlen=1024)
"""The last pickles that this process has loaded: their senders have closed the descriptor."""


def _received(descriptor: "_Duplicate", size: int, name: str, token: _Token) -> SharedMemory:
    """Return the memory of an unpickled descriptor."""
    if token in _loaded:
        raise InvalidArgumentError("this pickle of a SharedMemory was loaded before: pickle anew")
    owned = descriptors.own_descriptor(partial(_detached, descriptor))
    _loaded.append(token)  # not before: a call that was interrupted may be made again
    descriptors.close_on_exec(owned[0])  # as Python creates every descriptor
    memory = _checked_memory_of(owned, size, NO_SEALS)
    memory._name = name  # pyright: ignore[reportPrivateUsage]
    return memory


def _detached(descriptor: "_Duplicate") -> int:
    """Return the descriptor that the sender of a pickle has kept for its receiver.

    Raises:
        BadDescriptorError: The sender does not keep it any more.
    """
    try:
        return descriptor.detach()
    except (EOFError, OSError) as error:
        gone = "the process that sent this SharedMemory has ended, or another one has received it"
        raise hinted(system_call_error(errno.EBADF, "recvmsg"), gone) from error


def _as_name(name: object, argument: str = "debug_name") -> bytes:
    """Return the bytes of a name."""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, not {type(name).__name__}")
    try:
        return name.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{argument} {name!r}: {error}") from None


_SHARED_MEMORY: Final = b"/dev/shm/"
_LONGEST_FILE_NAME: Final = 255


def _path_of(name: str) -> bytes:
    """Return the path of memory with a name, as shm_open(3) has it."""
    text = _as_name(name, "name").removeprefix(b"/")
    if text in (b"", b".", b"..") or b"/" in text or b"\0" in text:
        raise InvalidArgumentError(
            f"name {name!r} is no name of a file: no slash, no NUL, not empty"
        )
    if len(text) > _LONGEST_FILE_NAME:
        raise InvalidArgumentError(
            f"name has {len(text)} bytes: at most {_LONGEST_FILE_NAME} are allowed"
        )
    return _SHARED_MEMORY + text


def _as_seals(seals: MemfdSeals, name: str = "seals") -> MemfdSeals:
    """Return the seals, and refuse an integer of the same value."""
    if type(seals) is not MemfdSeals:
        raise TypeError(f"{name} must be MemfdSeals, not {shown(seals)}")
    return seals


def _require_seals(fd: int, required: MemfdSeals) -> None:
    """Require that a descriptor's memory has these seals.

    Raises:
        MissingSealsError: Some of them are not there.
    """
    actual = MemfdSeals(descriptors.get_seals_if_any(fd))
    if int(required) & ~int(actual):  # a bit that is no seal is missing too
        raise MissingSealsError(required, actual)


def _name_of(fd: int) -> str:
    """Return the debug name of a descriptor's memory; empty without /proc."""
    target = descriptors.link_target(f"/proc/self/fd/{fd}")
    if target is None:
        return ""  # without /proc; the name is only for people to read
    name = target.removeprefix(b"/memfd:").removeprefix(_SHARED_MEMORY).removesuffix(b" (deleted)")
    return os.fsdecode(name)
