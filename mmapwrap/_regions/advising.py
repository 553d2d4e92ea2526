"""Advice to the kernel about a region's pages, their protection, and their locks.

The kernel works on whole pages. A call that changes no content takes any range and widens it to the
pages that the range touches. A call that drops content or changes access never widens: its range
starts on a page, and ends on one or at the region's end. A range of no bytes is checked, and the
call then does nothing.
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
    """Tell the kernel how to keep a region's pages."""

    __slots__ = ()

    def _run_on_touched_pages(
        self,
        function: Callable[..., int],
        offset: SupportsIndex,
        count: SupportsIndex | None,
        argument: int,
    ) -> None:
        """Run a C function that widens its range to the pages that it touches."""
        pages = self._pages
        if pages.page_sizes is not None:  # an arena, which may hold huge pages
            offset, count = pages.widened(offset, count)
        pages.run_on_range(function, offset, count, argument)

    # --- Advice ---------------------------------------------------------------------------------

    def advise(
        self, advice: Advice, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Tell the kernel how the range is used. madvise(2).

        Args:
            advice: Advice that changes no content.
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            InvalidSystemCallError: The kernel does not know the advice, or not for such memory.
            BadAddressError: POPULATE_READ or POPULATE_WRITE met a page that cannot be read in.
            LockLimitError: The process has as many mappings as vm.max_map_count allows, and a part
                of one would become one more; madvise reports that as EAGAIN.
            SystemCallError: The kernel refused for another reason.
            TypeError: The advice is not an `Advice`.

        Example:
            >>> from mmapwrap import Advice, MemoryMapping
            >>> mapping = MemoryMapping.anonymous(1 << 20)
            >>> mapping.advise(Advice.SEQUENTIAL)
            >>> mapping.advise(Advice.DONTFORK, 0, 4096)
        """
        if type(advice) is not Advice:
            raise TypeError(f"advice must be an Advice, not {shown(advice)}")
        self._run_on_touched_pages(calls.advise, offset, count, advice)

    def advise_destructive(
        self,
        advice: DestructiveAdvice,
        offset: SupportsIndex = 0,
        count: SupportsIndex | None = None,
    ) -> None:
        """Give advice that drops content or takes access away. madvise(2).

        REMOVE is `remove_range`. After GUARD_INSTALL the range allows no access until GUARD_REMOVE.

        Args:
            advice: The kernel's action on the range.
            offset: The first byte of the range, on a page.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            ViewsExportedError: GUARD_INSTALL under a live view.
            ProtectionError: REMOVE of a range that cannot be written.
            InvalidSystemCallError: The kernel does not know the advice, or not for such memory.
            SystemCallError: The kernel refused for another reason.
            TypeError: The advice is not a `DestructiveAdvice`.

        Example:
            >>> from mmapwrap import DestructiveAdvice, MemoryMapping, Sharing
            >>> mapping = MemoryMapping.anonymous(4096, sharing=Sharing.PRIVATE)
            >>> mapping[0] = 65
            >>> mapping.advise_destructive(DestructiveAdvice.DONTNEED)
            >>> mapping[0]
            0
        """
        if type(advice) is not DestructiveAdvice:
            raise TypeError(f"advice must be a DestructiveAdvice, not {shown(advice)}")
        pages = self._pages
        start, end = pages.checked_range(offset, count)
        if advice is DestructiveAdvice.REMOVE:
            self._change(pages, changes.remove, pages, start, end)
        elif advice is DestructiveAdvice.GUARD_INSTALL:
            self._change(pages, changes.install_guard_pages, pages, start, end)
        elif advice is DestructiveAdvice.GUARD_REMOVE:
            self._change(pages, changes.remove_guard_pages, pages, start, end)
        else:
            pages.require_whole_pages(start, end)
            pages.run_on_range(calls.advise_destructive, start, end - start, advice)

    def use_dontfork(self) -> None:
        """Keep the region out of child processes, in which it is closed. madvise(MADV_DONTFORK).

        Raises:
            ClosedMappingError: The region is closed.
            SystemCallError: The kernel refused.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping.use_dontfork()
        """
        self._pages.run_on_range(calls.advise, 0, None, Advice.DONTFORK)

    def use_hugepages(self) -> None:
        """Let transparent huge pages back the region. madvise(MADV_HUGEPAGE).

        Raises:
            ClosedMappingError: The region is closed.
            InvalidSystemCallError: The kernel has no transparent huge pages.

        Example:
            >>> from mmapwrap import MemoryMapping, attempt
            >>> mapping = MemoryMapping.anonymous(4 << 20, align=2 << 20)
            >>> result = attempt(mapping.use_hugepages)  # an Err where the kernel has none
        """
        self._pages.run_on_range(calls.advise, 0, None, Advice.HUGEPAGE)

    def async_prefetch(
        self, mem_offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Start to read the range in, without waiting. madvise(MADV_WILLNEED).

        Args:
            mem_offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            SystemCallError: The kernel refused.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> with open("/proc/self/exe", "rb") as program:
            ...     mapping = MemoryMapping.from_file(program)
            >>> mapping.async_prefetch()
        """
        self._run_on_touched_pages(calls.advise, mem_offset, count, Advice.WILLNEED)

    # --- Content that goes ------------------------------------------------------------------------

    def drop_page_cache(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Drop the range's pages from this process. madvise(MADV_DONTNEED).

        Shared pages lose no content: the next access finds them in the page cache, which this call
        leaves alone; `evict` takes them out of it. Private pages lose the bytes that were written
        to them.

        Args:
            mem_offset: The first byte of the range, on a page.
            count: The bytes of the range.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            InvalidSystemCallError: Some of the range is locked.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)  # shared
            >>> mapping[0] = 65
            >>> mapping.drop_page_cache(0, 4096)
            >>> mapping[0]
            65
        """
        self.advise_destructive(DestructiveAdvice.DONTNEED, mem_offset, count)

    def remove_range(self, mem_offset: SupportsIndex, count: SupportsIndex) -> None:
        """Free the range's memory and file blocks; it then reads as zeros. madvise(MADV_REMOVE).

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

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping[0] = 65
            >>> mapping.remove_range(0, 4096)
            >>> mapping[0]
            0
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
        """Write changes of the range back to its file, and wait for the disk by default.

        The call is msync(2). Where most of a large range of a shared mapping has changed, and other
        threads run on other processors, `drop_page_cache` of the range first saves interrupting
        those threads.

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.
            mode: Whether to wait for the disk.
            invalidate: Add MS_INVALIDATE, which fails where pages are locked.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            MappingFaultError: A fault guard has replaced pages of the region by zeros.
            InputOutputError: The disk failed.
            NoSpaceError: The file system is full.
            RegionBusyError: `invalidate`, and some of the range is locked.
            TypeError: The mode is not a `SyncMode`.

        Example:
            >>> import tempfile
            >>> from mmapwrap import MemoryMapping
            >>> with tempfile.TemporaryFile() as file:
            ...     size = file.truncate(4096)
            ...     mapping = MemoryMapping.from_file(file)
            ...     mapping[:4] = b"data"
            ...     mapping.msync()
            ...     file.read(4)
            b'data'
        """
        if type(mode) is not SyncMode:
            raise TypeError(f"mode must be a SyncMode, not {shown(mode)}")
        flags = mode | constants.MS_INVALIDATE if invalidate else mode
        self._run_on_touched_pages(calls.msync, offset, count, flags)

    def protect(
        self, prot: Protection, offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Change the access that the range allows, which every later access is checked against.

        mprotect(2).

        Args:
            prot: The access to allow from now on.
            offset: The first byte of the range: on a page, or the region's first.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            NotPageAlignedError: The range is not of whole pages.
            ViewsExportedError: A live view of the range gives access that the change takes away.
            AccessDeniedError: The file was not opened for that access.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
            RegionBusyError: A signal handler or a finalizer made the call inside another change of
                the region by the same thread.
            TypeError: `prot` is not a `Protection`.

        Example:
            >>> from mmapwrap import MemoryMapping, Protection
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping.protect(Protection.read())
            >>> mapping[0] = 1
            Traceback (most recent call last):
            mmapwrap.errors.ProtectionError: write access is needed, but the range allows ...
        """
        pages, wanted = self._pages, as_protection(prot)
        self._change(pages, self._protect, pages, wanted, *pages.checked_range(offset, count))

    def _protect(self, pages: Pages, prot: Protection, start: int, end: int) -> None:
        """Change the protection of a checked range; `MemoryMappingArena` refuses some changes."""
        changes.protect(pages, prot.bits, start, end)

    def _change(self, pages: Pages, change: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a change of the layout while no other thread changes it.

        Raises:
            ClosedMappingError: The region was closed, or became an arena, before the change could
                begin.
        """

        def change_if_open() -> None:
            if self._pages is not pages:
                raise ClosedMappingError
            change(*arguments)

        pages.exclusively(change_if_open)

    def lock(self, offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> None:
        """Read the range in and keep it in memory. mlock(2).

        Args:
            offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            OutOfMemoryError: RLIMIT_MEMLOCK is reached, or some of the range allows no reading.
            MappingFaultError: Some of the range could not be read in.
            OperationNotPermittedError: RLIMIT_MEMLOCK is 0.
            LockLimitError: Some of the range could not be locked.
            RegionBusyError: A signal handler or a finalizer made the call inside a change of the
                region by the same thread.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> secret = MemoryMapping.anonymous(4096)
            >>> secret.lock()  # the key is never written to swap
            >>> secret.unlock()
        """
        self._lock(offset, count, 0)

    def lock_on_fault(
        self, mem_offset: SupportsIndex = 0, count: SupportsIndex | None = None
    ) -> None:
        """Keep each page of the range in memory from its first access on. mlock2(2), Linux 4.4.

        Errors: see `lock`.

        Args:
            mem_offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping.lock_on_fault()
            >>> mapping.unlock()
        """
        self._lock(mem_offset, count, constants.MLOCK_ONFAULT)

    def lock_all(self) -> None:
        """Lock the whole region. Errors: see `lock`."""
        self._lock(0, None, 0)

    def _lock(self, offset: SupportsIndex, count: SupportsIndex | None, flags: int) -> None:
        """Lock a range, with the flags of mlock2(2)."""
        pages = self._pages
        start, size = pages.widened(offset, count)
        locking.lock(pages, start, size, flags)

    def unlock(self, mem_offset: SupportsIndex = 0, count: SupportsIndex | None = None) -> None:
        """Unlock the range, however often it was locked. munlock(2).

        Args:
            mem_offset: The first byte of the range, which is widened to whole pages.
            count: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            OutOfMemoryError: The process has as many mappings as vm.max_map_count allows.
            RegionBusyError: A signal handler or a finalizer made the call inside a change of the
                region by the same thread.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping.lock()
            >>> mapping.unlock(0, 4096)
        """
        pages = self._pages
        locking.unlock(pages, *pages.widened(mem_offset, count))

    def unlock_all(self) -> None:
        """Unlock the whole region. Errors: see `unlock`."""
        pages = self._pages
        locking.unlock(pages, *pages.widened(0, None))

    # --- CPU caches -----------------------------------------------------------------------------

    def flush_region(
        self,
        offset: SupportsIndex = 0,
        len: SupportsIndex | None = None,  # noqa: A002
    ) -> None:
        """Write the CPU's cache lines of the range back to memory and drop them.

        x86-64: clflush, mfence; aarch64: `dc civac`, dsb.

        Args:
            offset: The first byte of the range, which is widened to whole cache lines.
            len: The bytes of the range; None: up to the region's end.

        Raises:
            ClosedMappingError: The region is closed.
            InvalidRangeError: The range is not inside the region.
            ProtectionError: Some of the range cannot be read.
            MappingFaultError: Some of the range could not be read in.
            UnsupportedByKernelError: The library has no instructions for this processor.

        Example:
            >>> from mmapwrap import MemoryMapping
            >>> mapping = MemoryMapping.anonymous(4096)
            >>> mapping[0:4] = b"data"
            >>> mapping.flush_region(0, 4)
        """
        self._pages.run_on_range(calls.flush_lines, offset, len, None, PROT_READ)

    def flush_all(self) -> None:
        """Flush the CPU's cache lines of the whole region. Errors: see `flush_region`."""
        self._pages.run_on_range(calls.flush_lines, 0, None, None, PROT_READ)
