"""ResidentRegion: pages that are read in, taken out of the page cache, and listed."""

import errno
from collections.abc import Callable
from typing import Final, SupportsIndex

from mmapwrap._core import buffers, calls, constants, descriptors, mapped_files
from mmapwrap._core.advice import Advice
from mmapwrap._core.constants import PROT_READ, PROT_WRITE
from mmapwrap._core.failures import call_failure, errno_of
from mmapwrap._core.faults import populating_error
from mmapwrap._core.pages import Pages
from mmapwrap._regions.base import RegionBase
from mmapwrap._regions.residency import Residency
from mmapwrap.errors import OperationNotPermittedError, UnsupportedByKernelError, hinted

POPULATE_WINDOW: Final = 16 * 1024 * 1024
"""Bytes that are populated between two reports of progress, and two chances for a signal."""

_CANNOT_BE_ASKED: Final = (errno.EINVAL, errno.ENOMEM, errno.EAGAIN)
"""The errnos of a kernel that cannot be asked for the truth, because the mapping is private, no
addresses are left, or the locked memory is at its limit."""


class ResidentRegion(RegionBase):
    """Bring a region's pages into memory and out of it, and list those that are there."""

    __slots__ = ()

    def populate(
        self,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        write: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Read the range in and map it, so that no later access waits. Linux 5.14.

        madvise(MADV_POPULATE_READ or MADV_POPULATE_WRITE), a window of 16 MiB at a time.

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.
            write: Prepare for writing: private pages are copied, blocks of a file allocated.
            progress: A function that is called after each window with the bytes done and the bytes
                in all. An exception of it stops the call; the pages that were read in stay.

        Raises:
            ClosedMappingError: The region is closed, maybe by `progress`.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read, or with `write` not be written.
            MappingFaultError: A page could not be read in: the file is shorter, or its disk failed.
            OutOfMemoryError: Memory ran out.
            UnsupportedByKernelError: The kernel is older than Linux 5.14.
            TypeError: `progress` cannot be called.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(64 << 10)
            >>> mapping.populate(progress=lambda done, size: print(done, "of", size))
            65536 of 65536
        """
        advice = Advice.POPULATE_WRITE if write else Advice.POPULATE_READ
        if not advice.is_supported():
            raise UnsupportedByKernelError(f"MADV_{advice.name}")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        pages = self._pages
        start, size = pages.widened(offset, count)
        end = start + size
        need = PROT_WRITE if write else PROT_READ
        pages.access.require(need, start, end)
        for window in range(start, end, POPULATE_WINDOW):
            done = min(window + POPULATE_WINDOW, end)
            self._populate(window, done - window, bool(write))
            if progress is not None:
                progress(done - start, end - start)

    def _populate(self, start: int, size: int, write: bool) -> None:
        """Populate one window; raise the error of the first page that cannot be read in."""
        pages = self._pages
        result = calls.populate(pages.handle, start, size, write)
        if result >= 0:
            return
        error = call_failure(-result)
        if error is not None and error.errno == errno.EFAULT:
            raise populating_error(pages.handle, start, size, write=write)
        raise pages.error(-result, start, size)

    def residency(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> Residency:
        """Return which pages of the range are in memory now. mincore(2).

        Of a file these are the pages in the page cache, whichever process read them. The kernel
        tells this only to those who own the file or may write it.

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Returns:
            A flag for each page, and the sums of them.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            OperationNotPermittedError: The kernel does not tell this user. In an arena it is no
                error: there the kernel's answer, that all pages of such a file are resident, is
                returned.
            LockLimitError: All new memory is to be locked (mlockall), and RLIMIT_MEMLOCK is used
                up, so that the kernel cannot be asked whether it tells this user.

        Example:
            >>> from mmapwrap import MemoryMapping, page_size
            >>> mapping = MemoryMapping.anonymous(8 * page_size())
            >>> mapping[0] = 1
            >>> residency = mapping.residency()
            >>> residency.resident, residency.total
            (1, 8)
        """
        pages = self._pages
        start, end = pages.checked_range(offset, count)
        page = constants.PAGE_SIZE
        lead_in = calls.lead_in(pages.handle, page)
        first = (lead_in + start) // page
        total = -(-(lead_in + end) // page) - first if end > start else 0
        flags, memory = buffers.new_bytes(total)
        pages.run_on_range(calls.residency, start, end - start, memory)
        found = Residency(first * page - lead_in, page, flags)
        # A kernel that does not tell this user calls every page resident.
        if 0 < found.total == found.resident and pages.file_offset is not None:
            self._require_true_residency(pages, start, end)
        return found

    def _require_true_residency(self, pages: Pages, start: int, end: int) -> None:
        """Require that the kernel's answer, that all pages of a range are resident, is true.

        Raises:
            OperationNotPermittedError: The kernel gives that answer for each file of another user.
        """
        base = calls.address(pages.handle)
        tells = calls.tells_residency(pages.handle, start, end - start)
        if tells < 0 and errno_of(-tells) in _CANNOT_BE_ASKED:
            tells = all(
                mapped_files.tells_residency(file)
                for file in mapped_files.files_between(base + start, base + end)
            )
        if tells < 0:
            raise pages.error(-tells, start, end - start)
        if not tells:
            raise hinted(
                OperationNotPermittedError(errno.EPERM, "mincore"),
                "the kernel tells this only to the file's owner and to users who may write it",
            )

    def evict(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> None:
        """Take the range out of the page cache: MADV_DONTNEED, fdatasync(2), posix_fadvise(2).

        Some pages stay: those that another process has mapped or that are locked, those of tmpfs
        and of a memfd, which are nowhere else, and those that the kernel keeps in one piece (a
        large folio) with pages outside of the range, which may be all of a small range. The file is
        opened again through /proc to do this, because a mapping keeps no descriptor.

        Args:
            offset: The first byte of the range: on a page, or the region's first.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            UnsupportedOperationError: Some of the range is no shared mapping of a file, or a file
                cannot be opened again.
            InvalidSystemCallError: Some of the range is locked.
            InputOutputError: Changes could not be written back.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.NamedTemporaryFile() as file:
            ...     size = file.truncate(1 << 20)
            ...     mapping = MemoryMapping.from_file(file.name)
            ...     mapping.populate()
            ...     mapping.evict()
        """
        pages = self._pages
        start, end = pages.checked_range(offset, count)
        pages.require_whole_pages(start, end)
        base = calls.address(pages.handle)
        for file in mapped_files.shared_files(base + start, base + end):
            first, last = max(file.start, base + start), min(file.end, base + end)
            fd, owner = file.reopen()
            try:
                file_offset = file.file_offset + first - file.start
                pages.run_on_range(calls.evict, first - base, last - first, (fd, file_offset))
            finally:
                descriptors.close_file(owner)
