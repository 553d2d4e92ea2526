"""What the kernel is told and asked about a region's pages.

The kernel works on whole pages. What changes no content takes any range and is widened to the pages
that the range touches. What drops content or changes access is never widened: its range starts on
a page, and ends on one or at the region's end. A range of no bytes is checked, and then left alone.
"""

import errno
from collections.abc import Callable
from typing import Final, SupportsIndex, TypeVarTuple

from mmapwrap import _locking, _mapped_file, _syscalls
from mmapwrap._advice import Advice, DestructiveAdvice, SyncMode
from mmapwrap._arguments import as_protection
from mmapwrap._faults import fault_error, missing_in
from mmapwrap._ownership import READ, WRITE, Pages
from mmapwrap._protection import Protection
from mmapwrap._region_base import RegionBase
from mmapwrap._residency import Residency
from mmapwrap.errors import (
    ClosedMappingError,
    OperationNotPermittedError,
    UnsupportedByKernelError,
    hinted,
    shown,
)

Ts = TypeVarTuple("Ts")

POPULATE_WINDOW: Final = 16 * 1024 * 1024
"""Bytes that are populated between two reports of progress, and two chances for a signal."""


class PagedRegion(RegionBase):
    """A region whose pages the kernel keeps as it is told."""

    __slots__ = ()

    def _on_touched(
        self,
        helper: Callable[..., int],
        offset: SupportsIndex,
        count: SupportsIndex | None,
        argument: int,
    ) -> None:
        """Run a helper that widens its range to the pages that it touches."""
        pages = self._pages
        if pages.page_sizes is not None:  # an arena, which may hold huge pages
            offset, count = pages.widened(offset, count)
        pages.call(helper, offset, count, argument)

    # --- Advice ---------------------------------------------------------------------------------

    def advise(
        self, advice: Advice, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Tells the kernel how the range is used. madvise(2).

        Args:
            advice: Advice that changes no content.
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            InvalidSystemCallError: The kernel does not know the advice, or not for such memory.
            BadAddressError: POPULATE_READ or POPULATE_WRITE met a page that cannot be read in.
            LockLimitError: EAGAIN, which madvise says where the process has as many mappings as
                vm.max_map_count allows, and a part of one would become one more.
            SystemCallError: The kernel refused for another reason.
            TypeError: The advice is not an `Advice`.
        """
        if type(advice) is not Advice:
            raise TypeError(f"advice must be an Advice, not {shown(advice)}")
        self._on_touched(_syscalls.advise, offset, count, advice)

    def advise_destructive(
        self,
        advice: DestructiveAdvice,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
    ) -> None:
        """Gives advice that drops content or takes access away. madvise(2).

        REMOVE is `remove_range`. After GUARD_INSTALL the range allows no access until GUARD_REMOVE.

        Args:
            advice: What to do to the range.
            offset: The first byte of the range, on a page.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            ViewsExportedError: GUARD_INSTALL under a live view.
            InvalidSystemCallError: The kernel does not know the advice, or not for such memory.
            SystemCallError: The kernel refused for another reason.
            TypeError: The advice is not a `DestructiveAdvice`.
        """
        if type(advice) is not DestructiveAdvice:
            raise TypeError(f"advice must be a DestructiveAdvice, not {shown(advice)}")
        pages = self._pages
        if advice is DestructiveAdvice.REMOVE:
            self._change(pages, pages.remove, *pages.span(offset, count))
        elif advice is DestructiveAdvice.GUARD_INSTALL:
            self._change(pages, pages.install_guards, *pages.span(offset, count))
        elif advice is DestructiveAdvice.GUARD_REMOVE:
            self._change(pages, pages.remove_guards, *pages.span(offset, count))
        else:
            start, end = pages.span(offset, count)
            pages.require_whole_pages(start, end)
            pages.call(_syscalls.advise_destructive, start, end - start, advice)

    def use_dontfork(self) -> None:
        """Keeps the region out of children: in them it is closed. madvise(MADV_DONTFORK).

        Raises:
            ClosedMappingError: The region is closed.
            SystemCallError: The kernel refused.
        """
        self._pages.call(_syscalls.advise, 0, None, Advice.DONTFORK)

    def use_hugepages(self) -> None:
        """Lets transparent huge pages back the region. madvise(MADV_HUGEPAGE).

        Raises:
            ClosedMappingError: The region is closed.
            InvalidSystemCallError: The kernel has no transparent huge pages.
        """
        self._pages.call(_syscalls.advise, 0, None, Advice.HUGEPAGE)

    def async_prefetch(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Starts to read the range in, and does not wait. madvise(MADV_WILLNEED).

        Args:
            mem_offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            SystemCallError: The kernel refused.
        """
        self._on_touched(_syscalls.advise, mem_offset, count, Advice.WILLNEED)

    # --- Content that goes ------------------------------------------------------------------------

    def drop_page_cache(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Lets go of the range's pages in this process. madvise(MADV_DONTNEED).

        Shared pages lose nothing: the next access finds them in the page cache, which this call
        leaves alone (`evict` does not). Private pages lose what was written to them.

        Args:
            mem_offset: The first byte of the range, on a page.
            count: The bytes of the range.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            InvalidSystemCallError: Some of the range is locked.
        """
        self.advise_destructive(DestructiveAdvice.DONTNEED, mem_offset, count)

    def remove_range(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Gives the range's memory and file blocks back: it reads as zeros. madvise(MADV_REMOVE).

        Where the region ends inside a page of a file, the bytes up to there are zeroed, and the
        file's bytes after them stay.

        Args:
            mem_offset: The first byte of the range, on a page.
            count: The bytes of the range.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            ProtectionError: Some of the range cannot be written.
            AccessDeniedError: The region is private.
            InvalidSystemCallError: Some of the range is locked.
            SystemCallError: The file system cannot make holes, or failed.
        """
        pages = self._pages
        self._change(pages, pages.remove, *pages.span(mem_offset, count))

    def evict(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> None:
        """Takes the range out of the page cache: MADV_DONTNEED, fdatasync(2), posix_fadvise(2).

        Pages stay that another process has mapped or that are locked, those of tmpfs and memfd,
        which are nowhere else, and those that the kernel keeps in one piece (a large folio) with
        pages outside of the range, which may be all of a small range. The file is opened again
        through /proc to do this, for a mapping keeps no descriptor.

        Args:
            offset: The first byte of the range: on a page, or the region's first.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            UnsupportedOperationError: The range is no shared mapping of files, or a file cannot be
                opened again.
            InvalidSystemCallError: Some of the range is locked.
            InputOutputError: Changes could not be written back.
        """
        pages = self._pages
        start, end = pages.span(offset, count)
        pages.require_whole_pages(start, end)
        base = _syscalls.address(pages.handle)
        for file in _mapped_file.shared_files(base + start, base + end):
            first, last = max(file.start, base + start), min(file.end, base + end)
            fd, owner = file.reopen()
            try:
                file_offset = file.file_offset + first - file.start
                pages.call(_syscalls.evict, first - base, last - first, (fd, file_offset))
            finally:
                _syscalls.close_file(owner)

    # --- Sync, protection, locks ------------------------------------------------------------------

    def msync(
        self,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        mode: SyncMode = SyncMode.SYNC,
        invalidate: bool = False,
    ) -> None:
        """Writes changes of the range back to its file, and by default waits.

        msync(2). Where most of a large range of a shared mapping has changed, and other threads
        run on other processors, `drop_page_cache` of the range first saves interrupting those.

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.
            mode: Whether to wait for the disk.
            invalidate: MS_INVALIDATE; fails where pages are locked.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            InputOutputError: The disk failed.
            NoSpaceError: The file system is full.
            RegionBusyError: `invalidate` and some of the range is locked.
            TypeError: The mode is not a `SyncMode`.
        """
        if type(mode) is not SyncMode:
            raise TypeError(f"mode must be a SyncMode, not {shown(mode)}")
        flags = mode | _syscalls.MS_INVALIDATE if invalidate else mode
        self._on_touched(_syscalls.msync, offset, count, flags)

    def protect(
        self, prot: Protection, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Changes what the range allows; every later access is checked against it. mprotect(2).

        Args:
            prot: What to allow from now on.
            offset: The first byte of the range: on a page, or the region's first.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            ViewsExportedError: A live view of the range gives access that would go.
            AccessDeniedError: The file was not opened for that access.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
            TypeError: `prot` is not a `Protection`.
        """
        pages, wanted = self._pages, as_protection(prot)
        self._change(pages, self._protect, pages, wanted, *pages.span(offset, count))

    def _protect(self, pages: Pages, prot: Protection, start: int, end: int) -> None:
        pages.protect(prot.bits, start, end)

    def _change(self, pages: Pages, change: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Changes the layout when nobody else does; what is of the pages then is not closed yet."""

        def change_what_is_open() -> None:
            if self._pages is not pages:  # it was closed before its turn came, or is an arena now
                raise ClosedMappingError
            change(*arguments)

        pages.exclusively(change_what_is_open)

    def lock(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> None:
        """Reads the range in and keeps it in memory. mlock(2).

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            OutOfMemoryError: RLIMIT_MEMLOCK is reached, or some of the range cannot be read in.
            OperationNotPermittedError: RLIMIT_MEMLOCK is 0.
            LockLimitError: Some of the range could not be locked.
        """
        self._lock(offset, count, 0)

    def lock_on_fault(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Keeps each page of the range in memory once it is there. MLOCK_ONFAULT, Linux 4.4.

        mlock2(2).

        Args:
            mem_offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range.

        Raises:
            The errors of `lock`.
        """
        self._lock(mem_offset, count, _syscalls.MLOCK_ONFAULT)

    def lock_all(self) -> None:
        """Locks the whole region, as `lock` does, with its errors."""
        self._lock(0, None, 0)

    def _lock(self, offset: SupportsIndex, count: SupportsIndex | None, flags: int) -> None:
        pages = self._pages
        start, size = pages.widened(offset, count)
        _locking.lock(pages, start, size, flags)

    def unlock(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Takes the locks of the range back, however often it was locked. munlock(2).

        Args:
            mem_offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
        """
        pages = self._pages
        _locking.unlock(pages, *pages.widened(mem_offset, count))

    def unlock_all(self) -> None:
        """Unlocks the whole region, as `unlock` does, with its errors."""
        pages = self._pages
        _locking.unlock(pages, *pages.widened(0, None))

    # --- CPU caches -----------------------------------------------------------------------------

    def flush_region(self, offset: SupportsIndex, len: SupportsIndex) -> None:  # noqa: A002
        """Writes the CPU's cache lines of the range back to memory and drops them.

        x86-64: clflush, mfence; aarch64: `dc civac`, dsb. The range is widened to whole lines.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.
            UnsupportedByKernelError: The library does not know how on this processor.
        """
        self._pages.call(_syscalls.flush_lines, offset, len, None, READ)

    def flush_all(self) -> None:
        """Flushes the whole region, as `flush_region` does, with its errors."""
        self._pages.call(_syscalls.flush_lines, 0, None, None, READ)

    # --- Residency --------------------------------------------------------------------------------

    def populate(
        self,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        write: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Reads the range in and maps it, so that no later access waits. Linux 5.14.

        madvise(MADV_POPULATE_READ or MADV_POPULATE_WRITE), a window of 16 MiB at a time.

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.
            write: Prepare for writing: private pages are copied, blocks of a file allocated.
            progress: Called after each window with the bytes done and the bytes in all. What it
                raises stops the populating; what was done stays.

        Raises:
            ClosedMappingError: The region is closed, maybe by `progress`.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read, or with `write` not be written.
            MappingFaultError: A page could not be read in: the file is shorter, or its disk failed.
            OutOfMemoryError: Memory ran out.
            UnsupportedByKernelError: The kernel is older than Linux 5.14.
        """
        advice = Advice.POPULATE_WRITE if write else Advice.POPULATE_READ
        if not advice.is_supported():
            raise UnsupportedByKernelError(f"MADV_{advice.name}")
        pages = self._pages
        start, size = pages.widened(offset, count)
        end = start + size
        need = WRITE if write else READ
        pages.require(need, start, end)
        for window in range(start, end, POPULATE_WINDOW):
            done = min(window + POPULATE_WINDOW, end)
            self._populate(window, done - window, bool(write))
            if progress is not None:
                progress(done - start, end - start)

    def _populate(self, start: int, size: int, write: bool) -> None:
        pages = self._pages
        result = _syscalls.populate(pages.handle, start, size, write)
        if result >= 0:
            return
        error = _syscalls.call_failure(-result)
        if error is not None and error.errno == errno.EFAULT:
            missing = missing_in(pages.handle, start, size, write=write) or start
            raise fault_error(pages.handle, missing, 0, missing)
        raise pages.error(-result, start, size)

    def residency(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> Residency:
        """Says which pages of the range are in memory now. mincore(2).

        Of a file these are the pages in the page cache, whoever read them. The kernel tells this
        only to those who own the file or may write it.

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            OperationNotPermittedError: The kernel does not tell this user. An arena shows what the
                kernel says: all pages of such a file.
        """
        pages = self._pages
        start, end = pages.span(offset, count)
        page = _syscalls.PAGE_SIZE
        head = _syscalls.address(pages.handle) % page
        first = (head + start) // page
        total = -(-(head + end) // page) - first if end > start else 0
        flags, memory = _syscalls.new_bytes(total)
        pages.call(_syscalls.residency, start, end - start, memory)
        found = Residency(first * page - head, page, flags)
        # To whom it does not tell, the kernel calls every page resident.
        if 0 < found.total == found.resident and pages.file_offset is not None:
            self._require_true_residency(pages, start, end)
        return found

    def _require_true_residency(self, pages: Pages, start: int, end: int) -> None:
        base = _syscalls.address(pages.handle)
        tells = _syscalls.tells_residency(pages.handle, start, end - start)
        failure = _syscalls.call_failure(-tells) if tells < 0 else None
        if failure is not None and failure.errno not in (errno.EINVAL, errno.ENOMEM):
            raise failure
        if failure is not None:  # a private mapping cannot be duplicated, nor without addresses
            tells = all(
                _mapped_file.tells_residency(file)
                for file in _mapped_file.files_between(base + start, base + end)
            )
        if not tells:
            raise hinted(
                OperationNotPermittedError(errno.EPERM, "mincore"),
                "the kernel tells this only to the file's owner and to users who may write it",
            )
