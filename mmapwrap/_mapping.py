"""MemoryMapping: mapped memory, or a mapped range of a file."""

import errno
import os
from typing import Final, SupportsIndex, final

from mmapwrap._arena import MemoryMappingArena, arena_holding
from mmapwrap._core import calls, constants, descriptors, failures, growth, mapping
from mmapwrap._core.arguments import (
    Descriptor,
    Path,
    as_descriptor,
    as_file_offset,
    as_path,
    as_protection,
    as_size,
)
from mmapwrap._core.construction import NamedConstructors
from mmapwrap._core.creation import (
    map_file,
    map_file_at,
    map_file_range,
    map_memory,
    map_memory_at,
)
from mmapwrap._core.new_files import create_file
from mmapwrap._core.pages import CLOSED_PAGES, Pages
from mmapwrap._core.protection import READ_WRITE, Protection, Sharing
from mmapwrap._regions.base import region_of
from mmapwrap._regions.region import MappedRegion
from mmapwrap.errors import (
    InvalidArgumentError,
    UnsupportedByKernelError,
)

_READ: Final = Protection.read()
_PATH: Final = (str, bytes, os.PathLike)
_FIXED: Final = constants.MAP_FIXED_NOREPLACE


def _as_name(name: object) -> bytes:
    """Return the bytes of a name that the kernel accepts for memory."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name.isascii() or not name.isprintable() or len(name) > 79 or set(name) & set("\\`$[]"):
        raise InvalidArgumentError(
            f"name {name!r} is not at most 79 printable ASCII characters other than \\ ` $ [ ]"
        )
    return name.encode()


def set_name(mapping: "MemoryMapping", name: str) -> None:
    """Name anonymous memory in /proc/self/maps. prctl(PR_SET_VMA_ANON_NAME)."""
    pages = mapping._pages  # pyright: ignore[reportPrivateUsage]
    pages.raise_failure(calls.name_pages(pages.handle, _as_name(name)))


def _name(pages: Pages, name: bytes) -> None:
    """Name new pages; unmap them where the kernel refuses."""
    failure = failures.call_failure(-calls.name_pages(pages.handle, name))
    if failure is not None:  # pragma: no branch  # most kernels are built without names
        mapping.unmap(pages.handle)
        try:
            if failure.errno in (errno.EINVAL, errno.EBADF):
                raise UnsupportedByKernelError("PR_SET_VMA_ANON_NAME") from failure
            raise failure
        finally:
            del failure  # its traceback holds this frame, and the frame would hold it


@final
class MemoryMapping(
    NamedConstructors,
    MappedRegion,
    made_by="a constructor by name, such as MemoryMapping.from_file(path) or "
    "MemoryMapping.anonymous(size)",
):
    """Mapped memory, or a mapped range of a file; unmapped when its last user goes. mmap(2).

    Every mapping is left out of core dumps (MADV_DONTDUMP). None of them keeps a descriptor of its
    file, but for those that were given a capacity.

    The constructors share these errors:

    Raises:
        InvalidArgumentError: The size is 0 or negative, or with the alignment goes past 2**64.
        InvalidAlignmentError: The alignment is not a power of two.
        InvalidOffsetError: The file offset is negative or past 2**63 - 1.
        OffsetOverflowError: The range ends past the largest length of a file.
        OutOfMemoryError: Not enough address space or memory (RLIMIT_AS, overcommit), or the process
            has as many mappings as vm.max_map_count allows.
        BadDescriptorError: The descriptor is closed, never was one, or was opened with O_PATH.
        AccessDeniedError: The descriptor was not opened for reading, or not for writing where a
            shared mapping is to be writable.
        OperationNotPermittedError: The file is sealed, or its file system mounted, against this.
        NotMappableError: The descriptor is of a socket, a pipe or another file that cannot be
            mapped.
        IsDirectoryError: The descriptor is of a directory.
        MappingFaultError: `populate` met a page that could not be read in: the file does not have
            it, for example.
        ProtectionError: `populate`, and neither reading nor writing is allowed.
        TypeError: An argument has a wrong type.

    Example:
        >>> from mmapwrap import MemoryMapping
        >>> with MemoryMapping.anonymous(4096) as mapping:
        ...     mapping[0:5] = b"hello"
        ...     mapping.find(b"llo")
        2
    """

    __slots__ = ()

    # --- Constructors -----------------------------------------------------------------------------

    @classmethod
    def new(cls, size: SupportsIndex) -> "MemoryMapping":
        """Map anonymous memory: zeros, shared with children, read/write.

        Errors: see `MemoryMapping`.

        Args:
            size: Bytes, any number from 1 on.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.new(100)
            >>> mapping.size, str(mapping.prot), mapping.is_all_zero()
            (100, 'rw-', True)
        """
        return region_of(cls, map_memory(size, READ_WRITE))

    @classmethod
    def new_protection(
        cls, size: SupportsIndex, align: SupportsIndex | None, prot: Protection
    ) -> "MemoryMapping":
        """Map anonymous shared memory with a protection, at an aligned address.

        Errors: see `MemoryMapping`.

        Args:
            size: Bytes.
            align: The power of two that divides the address, in bytes; None: the page size.
            prot: The access to allow.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> mapping = MemoryMapping.new_protection(4096, 1 << 20, Protection.read())
            >>> mapping.as_ptr() % (1 << 20)
            0
        """
        return region_of(cls, map_memory(size, prot, align=align))

    @classmethod
    def from_fd(cls, fd: Descriptor, size: SupportsIndex) -> "MemoryMapping":
        """Map a file from its start, shared, read/write; the file's length is not checked.

        Errors: see `MemoryMapping`.

        Args:
            fd: A descriptor, or an object with one; it may be closed afterwards.
            size: Bytes.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.TemporaryFile() as file:
            ...     size = file.truncate(4096)
            ...     mapping = MemoryMapping.from_fd(file, 4096)
            >>> mapping.size
            4096
        """
        return region_of(cls, map_file(fd, size, 0, READ_WRITE))

    @classmethod
    def from_fd_offset(
        cls, fd: Descriptor, size: SupportsIndex, offset: SupportsIndex
    ) -> "MemoryMapping":
        """Map a range of a file, shared, read/write; the file's length is not checked.

        Errors: see `MemoryMapping`.

        Args:
            fd: A descriptor, or an object with one; it may be closed afterwards.
            size: Bytes.
            offset: Bytes into the file, at any alignment.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.TemporaryFile(buffering=0) as file:
            ...     size = file.write(b"0123456789")
            ...     mapping = MemoryMapping.from_fd_offset(file, 4, 3)
            >>> mapping[:]
            b'3456'
        """
        return region_of(cls, map_file(fd, size, offset, READ_WRITE))

    @classmethod
    def from_fd_offset_protection(
        cls, fd: Descriptor, size: SupportsIndex, offset: SupportsIndex, prot: Protection
    ) -> "MemoryMapping":
        """Map a range of a file, shared, with a protection; the file's length is not checked.

        Errors: see `MemoryMapping`.

        Args:
            fd: A descriptor, or an object with one; it may be closed afterwards.
            size: Bytes.
            offset: Bytes into the file, at any alignment.
            prot: The access to allow.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> with open("/proc/self/exe", "rb") as program:
            ...     elf = MemoryMapping.from_fd_offset_protection(program, 3, 1, Protection.read())
            >>> elf[:]
            b'ELF'
        """
        return region_of(cls, map_file(fd, size, offset, prot))

    @classmethod
    def from_fd_offset_protection_populate(
        cls,
        fd: Descriptor,
        size: SupportsIndex,
        offset: SupportsIndex,
        align: SupportsIndex | None,
        prot: Protection,
        populate: bool,
    ) -> "MemoryMapping":
        """Map a range of a file, shared, aligned, with a protection; read it in if asked.

        Errors: see `MemoryMapping`.

        Args:
            fd: A descriptor, or an object with one; it may be closed afterwards.
            size: Bytes.
            offset: Bytes into the file, at any alignment.
            align: The power of two that divides the address of the first page, in bytes; None: the
                page size.
            prot: The access to allow.
            populate: Read all pages in before returning; a page that the file does not have is an
                error.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> with open("/proc/self/exe", "rb") as program:
            ...     mapping = MemoryMapping.from_fd_offset_protection_populate(
            ...         program, 4096, 0, 1 << 20, Protection.read(), True
            ...     )
            >>> mapping.as_ptr() % (1 << 20)
            0
        """
        return region_of(cls, map_file(fd, size, offset, prot, align=align, populate=populate))

    @classmethod
    def new_protection_fixed(
        cls, addr: SupportsIndex, size: SupportsIndex, prot: Protection
    ) -> "MemoryMapping":
        """Map anonymous shared memory at this address, if it is free. MAP_FIXED_NOREPLACE.

        Errors: see `MemoryMapping`.

        Args:
            addr: The address of the first byte, on a page.
            size: Bytes.
            prot: The access to allow.

        Raises:
            AddressInUseError: Some of the range is mapped; `mmapwrap.unsafe` replaces it.
            NotPageAlignedError: The address is not on a page.
            InvalidAddressError: The address is 0, negative, or the end past 2**64.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> taken = MemoryMapping.anonymous(4096)
            >>> MemoryMapping.new_protection_fixed(taken.as_ptr(), 4096, Protection.read())
            Traceback (most recent call last):
            mmapwrap.errors.AddressInUseError: [Errno 17] mmap: File exists; ...
        """
        # SAFETY: `map_memory_at` checks the address, and MAP_FIXED_NOREPLACE replaces nothing.
        return region_of(cls, map_memory_at(addr, size, prot, _FIXED))

    @classmethod
    def from_descriptor_offset_protection_fixed(
        cls,
        addr: SupportsIndex,
        fd: Descriptor,
        size: SupportsIndex,
        offset: SupportsIndex,
        prot: Protection,
    ) -> "MemoryMapping":
        """Map a range of a file at this address, shared, if it is free. MAP_FIXED_NOREPLACE.

        Errors: see `MemoryMapping`.

        Args:
            addr: The address of the byte at `offset`: as far into a page as that is.
            fd: A descriptor, or an object with one; it may be closed afterwards.
            size: Bytes.
            offset: Bytes into the file, at any alignment.
            prot: The access to allow.

        Raises:
            AddressInUseError: Some of the range is mapped; `mmapwrap.unsafe` replaces it.
            NotPageAlignedError: The address and the offset are not equally far into a page.
            InvalidAddressError: The address is 0, negative, or the end past 2**64.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> taken = MemoryMapping.anonymous(4096)
            >>> with open("/proc/self/exe", "rb") as program:
            ...     mapping = MemoryMapping.from_descriptor_offset_protection_fixed(
            ...         taken.as_ptr(), program, 4096, 0, Protection.read()
            ...     )
            Traceback (most recent call last):
            mmapwrap.errors.AddressInUseError: [Errno 17] mmap: File exists; ...
        """
        # SAFETY: `map_file_at` checks the address, and MAP_FIXED_NOREPLACE replaces nothing.
        return region_of(cls, map_file_at(addr, fd, size, offset, prot, _FIXED))

    @classmethod
    def anonymous(
        cls,
        size: SupportsIndex,
        *,
        prot: Protection = READ_WRITE,
        sharing: Sharing = Sharing.SHARED,
        align: SupportsIndex | None = None,
        populate: bool = False,
        reserve: bool = False,
        name: str | None = None,
        capacity: SupportsIndex | None = None,
    ) -> "MemoryMapping":
        """Map anonymous memory, which starts as zeros.

        Errors: see `MemoryMapping`.

        Args:
            size: Bytes.
            prot: The access to allow.
            sharing: SHARED: children share it. PRIVATE: they get a copy.
            align: The power of two that divides the address, in bytes; None: the page size.
            populate: Allocate all pages before returning. Linux 5.14 reports pages that it cannot
                allocate.
            reserve: Count the size against the overcommit limit now (no MAP_NORESERVE).
            name: The name in /proc/self/maps, 79 printable characters at most.
                PR_SET_VMA_ANON_NAME, Linux 5.17, and 6.2 for shared memory.
            capacity: The bytes to which it may grow while nothing of it moves (`resize`). They are
                addresses, and take no memory unless `reserve` counts them. The size may then be 0.

        Raises:
            CapacityExceededError: The size is larger than the capacity.
            UnsupportedByKernelError: A name is given, and the kernel was built without names.
            InvalidArgumentError: The name is too long or has a character that the kernel refuses.

        Example:
            >>> from mmapwrap import MemoryMapping, Sharing
            >>> mapping = MemoryMapping.anonymous(1 << 16, sharing=Sharing.PRIVATE, populate=True)
            >>> mapping.residency().fraction
            1.0
        """
        label = None if name is None else _as_name(name)
        flags = constants.MAP_ANONYMOUS | (0 if reserve else constants.MAP_NORESERVE)
        pages = map_memory(
            size, prot, sharing, align=align, populate=populate, flags=flags, capacity=capacity
        )
        if label is not None:
            _name(pages, label)
        return region_of(cls, pages)

    @classmethod
    def from_file(
        cls,
        file: Path | Descriptor,
        size: SupportsIndex | None = None,
        *,
        offset: SupportsIndex = 0,
        prot: Protection | None = None,
        sharing: Sharing = Sharing.SHARED,
        align: SupportsIndex | None = None,
        populate: bool = False,
        capacity: SupportsIndex | None = None,
    ) -> "MemoryMapping":
        """Map a file, or a range of it that the file has.

        Errors: see `MemoryMapping`.

        Args:
            file: A path, an open file, or a descriptor.
            size: Bytes, with a capacity also 0; None: the rest of the file.
            offset: Bytes into the file, at any alignment.
            prot: The access to allow; None: reading and writing, or only reading where an open file
                or descriptor is read-only.
            sharing: SHARED: writes change the file. PRIVATE: they do not, and no other mapping sees
                them.
            align: The power of two that divides the address of the first page, in bytes; None: the
                page size.
            populate: Read all pages in before returning.
            capacity: The bytes to which the range may grow while nothing of it moves (`resize`,
                `refresh`); the mapping then keeps a descriptor of the file, and may start empty.

        Raises:
            PastEndOfFileError: The file does not have these bytes, or none at all.
            CapacityExceededError: The size is larger than the capacity.
            UnsupportedOperationError: A capacity, and the file is no regular one or has huge pages.
            NoSuchFileError: There is no file at the path.
            IsDirectoryError: There is a directory at the path, and `prot` allows writing.
            SystemCallError: The file at the path cannot be opened: a socket (ENXIO), for example.
            InvalidArgumentError: `size` is None and the file has no length, such as a character
                device that can be mapped. A block device has one.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.NamedTemporaryFile(buffering=0) as file:
            ...     size = file.write(b"hello world")
            ...     with MemoryMapping.from_file(file.name, offset=6) as mapping:
            ...         mapping[:] = mapping[:].upper()
            ...     file.seek(0), file.read()
            (0, b'hello WORLD')
        """
        start = as_file_offset(offset)
        owner = path = None
        if type(file) is int or not isinstance(file, _PATH):
            fd = as_descriptor(file, "file must be a path,")
            if prot is None:
                prot = _READ if descriptors.access_mode(fd) == os.O_RDONLY else READ_WRITE
        else:
            if prot is None:
                prot = READ_WRITE
            is_changed = as_protection(prot).writable and sharing is not Sharing.PRIVATE
            if size is not None:  # a wrong one is an error before the file is opened
                size = as_size(size, least=1 if capacity is None else 0)
            path = as_path(file)
            fd, owner = descriptors.open_file(path, os.O_RDWR if is_changed else os.O_RDONLY)
        try:
            pages = map_file_range(
                fd,
                size,
                start,
                prot,
                sharing,
                align=align,
                populate=populate,
                path=path,
                capacity=capacity,
            )
        finally:
            if owner is not None:
                descriptors.close_file(owner)
        return region_of(cls, pages)

    @classmethod
    def create(
        cls,
        path: Path,
        size: SupportsIndex,
        *,
        overwrite: bool = False,
        allocate: bool = True,
        capacity: SupportsIndex | None = None,
        mode: int = 0o666,
    ) -> "MemoryMapping":
        """Create a file of zeros, and map it, shared, read/write. open(2), fallocate(2).

        Errors: see `MemoryMapping`.

        Args:
            path: The path of the file.
            size: Bytes; with a capacity also 0.
            overwrite: If there is a regular file, replace it by the new one once that is mapped:
                rename(2). Who has the old file open or mapped keeps it.
            allocate: Take the blocks of the whole file, so that a full disk is an error here and
                no fault later.
            capacity: The bytes to which the file may grow while nothing moves; see `from_file`.
            mode: The permissions of a new file, before the umask.

        Raises:
            AlreadyExistsError: There is a file at the path, and `overwrite` is false; or something
                that is no regular file, such as a symbolic link.
            NoSpaceError: The disk is full.
            NoSuchFileError: The directory does not exist.
            SystemCallError: The file cannot be created or made so long: a read-only file system
                (EROFS) or RLIMIT_FSIZE (EFBIG), for example.
            CapacityExceededError: The size is larger than the capacity.

        Example:
            >>> import os, tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = os.path.join(folder, "log")
            ...     mapping = MemoryMapping.create(path, 100, capacity=1 << 30)
            ...     mapping.resize(200)
            ...     os.path.getsize(path)
            200
        """
        pages = create_file(
            path, size, capacity, mode, overwrite=bool(overwrite), allocate=bool(allocate)
        )
        return region_of(cls, pages)

    # --- Growth -----------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """The bytes to which the mapping may grow while nothing of it moves.

        It is the capacity that the mapping was given, and the size of one that was given none.

        Raises:
            ClosedMappingError: The mapping is closed.
        """
        pages = self._open_pages()
        return pages.size if pages.capacity is None else pages.capacity.size

    def resize(self, size: SupportsIndex, *, allocate: bool = True) -> None:
        """Change the size of the mapping, and of its file. fallocate(2), ftruncate(2), mremap(2).

        Up to the capacity nothing moves: views, arrays, open files, slices and addresses stay as
        they are, here and in other processes. Without a capacity the pages may move, which takes a
        moment without live views; what other threads do with the mapping at that moment may be
        lost. Shared memory without a file keeps its bytes: only this process' end of it moves.

        A file is made longer where it is shorter, whoever else does so at the same time. It is cut
        only where it ends with the mapping; what another process adds to it in the very moment of
        the cut is lost. Other mappings of the file, here too, meet the cut as any other: copies are
        a MappingFaultError there, and views past the new end need a `fault_guard`.

        Access and advice that were set up to the end of the mapping, and locks on its last page,
        hold for what is added. Bytes that are added are what the file has there, else zeros.

        Args:
            size: Bytes, from 0 on.
            allocate: Take the blocks of what is added to a file now, so that a full disk is an
                error here and no fault later. Memory without a file takes none.

        Raises:
            ClosedMappingError: The mapping is closed.
            InvalidArgumentError: The size is negative, or larger than 2**63 - 1.
            CapacityExceededError: The size is larger than the capacity that the mapping was given.
            ViewsExportedError: A live view shows bytes past the new end; or any does, and the pages
                have to move.
            UnsupportedOperationError: The mapping has no capacity, and cannot move: shared memory
                without a file, ranges of different protection or advice, a file that cannot be
                opened again. Or it is a private mapping of a file, a device, or on hugetlbfs.
            AccessDeniedError: The file was opened for reading only; or the mapping has no capacity
                and allows no writing.
            OperationNotPermittedError: A memfd is sealed against the change of its length.
            NoSpaceError: The disk is full.
            SystemCallError: The file cannot become so long: RLIMIT_FSIZE (EFBIG), for example.
            OutOfMemoryError: There are not so many addresses; or the last page is locked, and
                RLIMIT_MEMLOCK allows no more.
            ProtectionError: Memory that shrinks to inside a page cannot be written there.
            RegionBusyError: The pages have to move, and a fault guard is entered. Or a signal
                handler or a finalizer made the call inside a change of the mapping.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(0, capacity=1 << 30)
            >>> mapping.resize(5)
            >>> mapping[:] = b"hello"
            >>> mapping.size, mapping.capacity
            (5, 1073741824)
        """
        length = as_size(size, bits=63, least=0)
        pages = self._open_pages()
        self._change(pages, growth.resize, pages, length, allocate)

    def refresh(self) -> int:
        """Take the size that the file has for the mapping now, after somebody has changed it.

        The size becomes the file's length from the mapping's start on, at most the capacity.
        Nothing moves as long as the capacity is enough. A mapping without a file stays as it is.

        Returns:
            The mapping's size in bytes.

        Raises:
            ClosedMappingError: The mapping is closed.
            ViewsExportedError: The file has become shorter, and a live view shows bytes past its
                end; or the pages have to move.
            UnsupportedOperationError: The mapping has no capacity, and its file cannot be opened
                again; or it is a device, or on hugetlbfs.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.TemporaryFile(buffering=0) as file:
            ...     mapping = MemoryMapping.from_file(file, capacity=1 << 20)
            ...     mapping.size, file.write(b"hello"), mapping.refresh(), mapping[:]
            (0, 5, 5, b'hello')
        """
        pages = self._open_pages()
        self._change(pages, growth.refresh, pages)
        return pages.size

    # --- Properties -------------------------------------------------------------------------------

    @property
    def prot(self) -> Protection:
        """The access that every byte of the mapping allows.

        Raises:
            ClosedMappingError: The mapping is closed.
        """
        pages = self._open_pages()
        return Protection.from_bits(pages.access.allowed(0, pages.size))

    @property
    def sharing(self) -> Sharing:
        """Who sees the writes to the mapping.

        Raises:
            ClosedMappingError: The mapping is closed.
        """
        return self._open_pages().sharing

    @property
    def file_offset(self) -> int | None:
        """The offset in the file at which the mapping starts, in bytes; None if it is anonymous.

        Raises:
            ClosedMappingError: The mapping is closed.
        """
        return self._open_pages().file_offset

    def into_arena(self) -> MemoryMappingArena:
        """Turn the mapping into an arena that holds it, without a copy; close the mapping.

        Its views stay as they are. Its size is rounded up to whole pages.

        Returns:
            The arena.

        Raises:
            ClosedMappingError: The mapping is closed.
            NotPageAlignedError: The mapping starts inside a page of its file.
            UnsupportedOperationError: The mapping has room to grow, and an arena cannot.
            RegionBusyError: A signal handler or a finalizer made the call inside a change of the
                mapping by the same thread.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping[0] = 65
            >>> arena = mapping.into_arena()
            >>> arena[0], len(arena.segments()), mapping.closed
            (65, 1, True)
        """
        return self._open_pages().exclusively(self._become_arena)

    def _become_arena(self) -> MemoryMappingArena:
        """Move the pages to a new arena; run exclusively."""
        arena = arena_holding(self._open_pages())
        self._pages = CLOSED_PAGES
        return arena
