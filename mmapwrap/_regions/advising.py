"""What the kernel is told and asked about a region's pages.

The kernel works on whole pages. What changes no content takes any range and is widened to the pages
that the range touches. What drops content or changes access is never widened: its range starts on
a page, and ends on one or at the region's end. A range of no bytes is checked, and then left alone.
"""

from collections.abc import Callable
from typing import SupportsIndex, TypeVarTuple

from mmapwrap._core import calls, changes, constants
from mmapwrap._core.advice import Advice, DestructiveAdvice, SyncMode
from mmapwrap._core.arguments import as_protection
from mmapwrap._core.constants import PROT_READ
from mmapwrap._core.pages import Pages
from mmapwrap._core.protection import Protection
from mmapwrap._regions import locking
from mmapwrap._regions.base import RegionBase
from mmapwrap.errors import (
    ClosedMappingError,
    shown,
)

Ts = TypeVarTuple("Ts")


class AdvisedRegion(RegionBase):
    """A region whose pages the kernel is told how to keep."""

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
        pages.run_on_range(helper, offset, count, argument)

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
        self._on_touched(calls.advise, offset, count, advice)

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
            self._change(pages, changes.remove, pages, *pages.checked_range(offset, count))
        elif advice is DestructiveAdvice.GUARD_INSTALL:
            self._change(pages, changes.install_guards, pages, *pages.checked_range(offset, count))
        elif advice is DestructiveAdvice.GUARD_REMOVE:
            self._change(pages, changes.remove_guards, pages, *pages.checked_range(offset, count))
        else:
            start, end = pages.checked_range(offset, count)
            pages.require_whole_pages(start, end)
            pages.run_on_range(calls.advise_destructive, start, end - start, advice)

    def use_dontfork(self) -> None:
        """Keeps the region out of children: in them it is closed. madvise(MADV_DONTFORK).

        Raises:
            ClosedMappingError: The region is closed.
            SystemCallError: The kernel refused.
        """
        self._pages.run_on_range(calls.advise, 0, None, Advice.DONTFORK)

    def use_hugepages(self) -> None:
        """Lets transparent huge pages back the region. madvise(MADV_HUGEPAGE).

        Raises:
            ClosedMappingError: The region is closed.
            InvalidSystemCallError: The kernel has no transparent huge pages.
        """
        self._pages.run_on_range(calls.advise, 0, None, Advice.HUGEPAGE)

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
        self._on_touched(calls.advise, mem_offset, count, Advice.WILLNEED)

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
            AccessDeniedError: The region is a private mapping of a file.
            InvalidSystemCallError: Some of the range is locked, or it is private and anonymous.
            SystemCallError: The file system cannot make holes, or failed.
        """
        pages = self._pages
        self._change(pages, changes.remove, pages, *pages.checked_range(mem_offset, count))

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
        flags = mode | constants.MS_INVALIDATE if invalidate else mode
        self._on_touched(calls.msync, offset, count, flags)

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
        self._change(pages, self._protect, pages, wanted, *pages.checked_range(offset, count))

    def _protect(self, pages: Pages, prot: Protection, start: int, end: int) -> None:
        changes.protect(pages, prot.bits, start, end)

    def _change(self, pages: Pages, change: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a change of the layout while no other thread changes it.

        Raises:
            ClosedMappingError: The region was closed, or became an arena, before its turn came.
        """

        def change_what_is_open() -> None:
            if self._pages is not pages:
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
        self._lock(mem_offset, count, constants.MLOCK_ONFAULT)

    def lock_all(self) -> None:
        """Locks the whole region, as `lock` does, with its errors."""
        self._lock(0, None, 0)

    def _lock(self, offset: SupportsIndex, count: SupportsIndex | None, flags: int) -> None:
        pages = self._pages
        start, size = pages.widened(offset, count)
        locking.lock(pages, start, size, flags)

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
        locking.unlock(pages, *pages.widened(mem_offset, count))

    def unlock_all(self) -> None:
        """Unlocks the whole region, as `unlock` does, with its errors."""
        pages = self._pages
        locking.unlock(pages, *pages.widened(0, None))

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
        self._pages.run_on_range(calls.flush_lines, offset, len, None, PROT_READ)

    def flush_all(self) -> None:
        """Flushes the whole region, as `flush_region` does, with its errors."""
        self._pages.run_on_range(calls.flush_lines, 0, None, None, PROT_READ)
