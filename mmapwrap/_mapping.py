"""MemoryMapping: memory or a file, mapped."""

import errno
import os
from typing import Final, SupportsIndex, final

from mmapwrap._arena import MemoryMappingArena, arena_holding
from mmapwrap._core import calls, constants, descriptors, failures
from mmapwrap._core.arguments import (
    Descriptor,
    Path,
    as_descriptor,
    as_file_offset,
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
from mmapwrap._core.pages import CLOSED_PAGES, Pages
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap._regions.base import region_of
from mmapwrap._regions.region import MappedRegion
from mmapwrap.errors import (
    InvalidArgumentError,
    UnsupportedByKernelError,
)

_READ: Final = Protection.read()
_READ_WRITE: Final = Protection.read_write()
_PATH: Final = (str, bytes, os.PathLike)
_FIXED: Final = constants.MAP_FIXED_NOREPLACE


def _as_name(name: object) -> bytes:
    """A name that the kernel takes for memory."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name.isascii() or not name.isprintable() or len(name) > 79 or set(name) & set("\\`$[]"):
        raise InvalidArgumentError(
            f"name {name!r} is not at most 79 printable ASCII characters other than \\ ` $ [ ]"
        )
    return name.encode()


def _name(pages: Pages, name: bytes) -> None:
    failure = failures.call_failure(-calls.name_pages(pages.handle, name))
    if failure is not None:  # pragma: no branch  # most kernels are built without names
        calls.unmap(pages.handle)
        try:
            if failure.errno in (errno.EINVAL, errno.EBADF):
                raise UnsupportedByKernelError("PR_SET_VMA_ANON_NAME") from failure
            raise failure
        finally:
            del failure  # whose traceback has this frame: neither would go


@final
class MemoryMapping(
    NamedConstructors,
    MappedRegion,
    made_by="a constructor by name, such as MemoryMapping.from_file(path) or "
    "MemoryMapping.anonymous(size)",
):
    """Memory or a range of a file, mapped; unmapped when nobody needs it. mmap(2).

    Every mapping is left out of core dumps (MADV_DONTDUMP). None of them keeps a descriptor.

    The constructors share these errors:

    Raises:
        InvalidArgumentError: The size is 0 or negative, or with the alignment goes past 2**64.
        InvalidAlignmentError: The alignment is not a power of two.
        InvalidOffsetError: The file offset is negative or past 2**63 - 1.
        OffsetOverflowError: The range ends past what a file can have.
        OutOfMemoryError: Not enough address space or memory (RLIMIT_AS, overcommit), or the process
            has as many mappings as vm.max_map_count allows.
        BadDescriptorError: The descriptor is closed, never was one, or was opened with O_PATH.
        AccessDeniedError: The descriptor was not opened for reading (the writing end of a pipe, for
            example), or not for writing where a shared mapping is to be writable.
        OperationNotPermittedError: The file is sealed, or its file system mounted, against this.
        NotMappableError: The descriptor of a socket or another file that cannot be mapped.
        IsDirectoryError: The descriptor of a directory.
        BadAddressError: `populate` met a page that the file does not have.
        ProtectionError: `populate`, and neither reading nor writing is allowed.
        TypeError: An argument of a wrong type.
    """

    __slots__ = ()

    # --- Constructors -----------------------------------------------------------------------------

    @classmethod
    def new(cls, size: SupportsIndex) -> "MemoryMapping":
        """Maps anonymous memory: zeros, shared with children, read/write.

        Args:
            size: Bytes, any number from 1 on.
        """
        return region_of(cls, map_memory(size, _READ_WRITE))

    @classmethod
    def new_protection(
        cls, size: SupportsIndex, align: SupportsIndex | None, prot: Protection
    ) -> "MemoryMapping":
        """Maps anonymous shared memory with a protection, at an aligned address.

        Args:
            size: Bytes.
            align: The address is a multiple of this power of two; None: of the page size.
            prot: What to allow.
        """
        return region_of(cls, map_memory(size, prot, align=align))

    @classmethod
    def from_fd(cls, fd: Descriptor, size: SupportsIndex) -> "MemoryMapping":
        """Maps a file from its start, shared, read/write; its length is not checked.

        Args:
            fd: A descriptor or an object with one; it may be closed afterwards.
            size: Bytes.
        """
        return region_of(cls, map_file(fd, size, 0, _READ_WRITE))

    @classmethod
    def from_fd_offset(
        cls, fd: Descriptor, size: SupportsIndex, offset: SupportsIndex
    ) -> "MemoryMapping":
        """Maps a range of a file, shared, read/write; the file's length is not checked.

        Args:
            fd: A descriptor or an object with one.
            size: Bytes.
            offset: Bytes into the file, not only whole pages.
        """
        return region_of(cls, map_file(fd, size, offset, _READ_WRITE))

    @classmethod
    def from_fd_offset_protection(
        cls, fd: Descriptor, size: SupportsIndex, offset: SupportsIndex, prot: Protection
    ) -> "MemoryMapping":
        """Maps a range of a file, shared, with a protection; the file's length is not checked.

        Args:
            fd: A descriptor or an object with one.
            size: Bytes.
            offset: Bytes into the file, not only whole pages.
            prot: What to allow.
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
        """Maps a range of a file, shared, aligned, with a protection, and reads it in if asked.

        Args:
            fd: A descriptor or an object with one.
            size: Bytes.
            offset: Bytes into the file, not only whole pages.
            align: The address of the first page is a multiple of this power of two.
            prot: What to allow.
            populate: Read all pages in before returning; one that is not there is an error.
        """
        return region_of(cls, map_file(fd, size, offset, prot, align=align, populate=populate))

    @classmethod
    def new_protection_fixed(
        cls, addr: SupportsIndex, size: SupportsIndex, prot: Protection
    ) -> "MemoryMapping":
        """Maps anonymous shared memory at this address, if it is free. MAP_FIXED_NOREPLACE.

        Args:
            addr: The address of the first byte, on a page.
            size: Bytes.
            prot: What to allow.

        Raises:
            AddressInUseError: Something is mapped there; `mmapwrap.unsafe` replaces it.
            NotPageAlignedError: The address is not on a page.
            InvalidAddressError: The address is 0, negative, or the end past 2**64.
        """
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
        """Maps a range of a file at this address, shared, if it is free. MAP_FIXED_NOREPLACE.

        Args:
            addr: The address of the byte at `offset`: as far into a page as that is.
            fd: A descriptor or an object with one.
            size: Bytes.
            offset: Bytes into the file, not only whole pages.
            prot: What to allow.

        Raises:
            AddressInUseError: Something is mapped there; `mmapwrap.unsafe` replaces it.
            NotPageAlignedError: The address and the offset are not equally far into a page.
            InvalidAddressError: The address is 0, negative, or the end past 2**64.
        """
        return region_of(cls, map_file_at(addr, fd, size, offset, prot, _FIXED))

    @classmethod
    def anonymous(
        cls,
        size: SupportsIndex,
        *,
        prot: Protection = _READ_WRITE,
        sharing: Sharing = Sharing.SHARED,
        align: SupportsIndex | None = None,
        populate: bool = False,
        reserve: bool = False,
        name: str | None = None,
    ) -> "MemoryMapping":
        """Maps memory that no file is behind; it starts as zeros.

        Args:
            size: Bytes.
            prot: What to allow.
            sharing: SHARED: children share it. PRIVATE: they get a copy.
            align: The address is a multiple of this power of two; None: of the page size.
            populate: Allocate all pages before returning. Linux 5.14 reports what fails.
            reserve: Count the size against the overcommit limit now (no MAP_NORESERVE).
            name: What /proc/self/maps shows, 79 printable characters at most. PR_SET_VMA_ANON_NAME,
                Linux 5.17, and 6.2 for shared memory.

        Raises:
            UnsupportedByKernelError: A name is given, and the kernel was built without names.
            InvalidArgumentError: The name cannot be one.
        """
        label = None if name is None else _as_name(name)
        flags = constants.MAP_ANONYMOUS | (0 if reserve else constants.MAP_NORESERVE)
        pages = map_memory(size, prot, sharing, align=align, populate=populate, flags=flags)
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
    ) -> "MemoryMapping":
        """Maps a file, or a range that it has.

        Args:
            file: A path, an open file, or a descriptor.
            size: Bytes; None: the rest of the file.
            offset: Bytes into the file, not only whole pages.
            prot: What to allow; None: reading and writing, and only reading where an open file or
                descriptor is read-only.
            sharing: SHARED: writes change the file. PRIVATE: they do not, and nobody sees them.
            align: The address of the first page is a multiple of this power of two.
            populate: Read all pages in before returning.

        Raises:
            PastEndOfFileError: The file does not have these bytes, or none at all.
            NoSuchFileError: There is no file at the path.
            IsDirectoryError: There is a directory at the path, and `prot` allows writing.
            SystemCallError: The file at the path cannot be opened: a socket (ENXIO), for example.
            InvalidArgumentError: `size` is None and the file has no length, such as a character
                device. A block device has one.
        """
        start = as_file_offset(offset)
        if type(file) is int or not isinstance(file, _PATH):
            fd = as_descriptor(file, "file must be a path,")
            if prot is None:
                prot = _READ if descriptors.access_mode(fd) == os.O_RDONLY else _READ_WRITE
            return region_of(
                cls, map_file_range(fd, size, start, prot, sharing, align=align, populate=populate)
            )
        if prot is None:
            prot = _READ_WRITE
        is_changed = as_protection(prot).writable and sharing is not Sharing.PRIVATE
        # A wrong number is one before the file is opened.
        length = None if size is None else as_size(size)
        fd, owner = descriptors.open_file(file, os.O_RDWR if is_changed else os.O_RDONLY)
        try:
            return region_of(
                cls,
                map_file_range(
                    fd, length, start, prot, sharing, align=align, populate=populate, path=file
                ),
            )
        finally:
            descriptors.close_file(owner)

    # --- What was mapped --------------------------------------------------------------------------

    @property
    def prot(self) -> Protection:
        """What every byte of the mapping allows."""
        pages = self._open_pages()
        return Protection.from_bits(pages.access.allowed(0, pages.size))

    @property
    def sharing(self) -> Sharing:
        """Who sees what is written."""
        return self._open_pages().sharing

    @property
    def file_offset(self) -> int | None:
        """Where in the file the mapping starts, in bytes; None where it is anonymous."""
        return self._open_pages().file_offset

    def into_arena(self) -> MemoryMappingArena:
        """Turns the mapping into an arena that holds it, without a copy; the mapping is closed.

        Its views stay as they are. Its size is rounded up to whole pages.

        Raises:
            ClosedMappingError: The mapping is closed.
            NotPageAlignedError: The mapping starts inside a page of its file.
        """
        return self._open_pages().exclusively(self._become_arena)

    def _become_arena(self) -> MemoryMappingArena:
        arena = arena_holding(self._open_pages())
        self._pages = CLOSED_PAGES
        return arena
