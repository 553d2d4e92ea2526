"""Advice to the kernel about pages: the MADV_* numbers, and how msync(2) waits.

Advice that changes the pages' content, or the access to them, is a type of its own.
"""

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from mmapwrap._core._mman import lib


class _KernelAdvice(enum.IntEnum):
    def is_supported(self) -> bool:
        """Return whether the running kernel knows this advice.

        madvise(2) of no bytes succeeds exactly then. A kernel that knows an advice may still refuse
        it for some kinds of memory.

        Example:
            >>> from mmapwrap import Advice
            >>> Advice.WILLNEED.is_supported()
            True
        """
        return lib.mmw_advice_is_known(self) != 0


class Advice(_KernelAdvice):
    """Advice that changes neither content nor access (MADV_* of madvise(2)).

    Example:
        >>> from mmapwrap import Advice, MemoryMapping
        >>> mapping = MemoryMapping.anonymous(1 << 20)
        >>> if Advice.COLD.is_supported():
        ...     mapping.advise(Advice.COLD)
    """

    NORMAL = lib.MADV_NORMAL
    """Access in no particular order: undo RANDOM and SEQUENTIAL."""
    RANDOM = lib.MADV_RANDOM
    """Access in random order: do not read ahead."""
    SEQUENTIAL = lib.MADV_SEQUENTIAL
    """Access from front to back: read far ahead, drop pages soon after."""
    WILLNEED = lib.MADV_WILLNEED
    """Access soon: start to read now."""
    DONTFORK = lib.MADV_DONTFORK
    """Keep the pages out of child processes, in which the region is closed."""
    DOFORK = lib.MADV_DOFORK
    """Undo DONTFORK."""
    MERGEABLE = lib.MADV_MERGEABLE
    """Merge equal pages where the kernel finds them (KSM)."""
    UNMERGEABLE = lib.MADV_UNMERGEABLE
    """Undo MERGEABLE: copy merged pages."""
    HUGEPAGE = lib.MADV_HUGEPAGE
    """Use transparent huge pages where possible."""
    NOHUGEPAGE = lib.MADV_NOHUGEPAGE
    """Use no transparent huge pages."""
    DONTDUMP = lib.MADV_DONTDUMP
    """Leave the pages out of core dumps; every mapping starts so."""
    DODUMP = lib.MADV_DODUMP
    """Put the pages into core dumps."""
    WIPEONFORK = lib.MADV_WIPEONFORK
    """Give child processes zeros; private anonymous memory only. Linux 4.14."""
    KEEPONFORK = lib.MADV_KEEPONFORK
    """Undo WIPEONFORK. Linux 4.14."""
    COLD = lib.MADV_COLD
    """No access soon: reclaim these pages first. Linux 5.4."""
    PAGEOUT = lib.MADV_PAGEOUT
    """No access soon: reclaim these pages now. Linux 5.4."""
    POPULATE_READ = lib.MADV_POPULATE_READ
    """Fault the pages in for reading; failures are reported. Linux 5.14."""
    POPULATE_WRITE = lib.MADV_POPULATE_WRITE
    """Fault the pages in for writing; failures are reported. Linux 5.14."""
    COLLAPSE = lib.MADV_COLLAPSE
    """Make huge pages of these pages now. Linux 6.1."""


class DestructiveAdvice(_KernelAdvice):
    """Advice that changes or drops content, or takes access away (MADV_* of madvise(2)).

    Example:
        >>> from mmapwrap import DestructiveAdvice, MemoryMapping
        >>> mapping = MemoryMapping.anonymous(4096)
        >>> mapping[0] = 1
        >>> mapping.advise_destructive(DestructiveAdvice.REMOVE)
        >>> mapping[0]
        0
    """

    DONTNEED = lib.MADV_DONTNEED
    """Drop the pages: private ones read as the file, or as zeros, afterwards."""
    FREE = lib.MADV_FREE
    """Let the kernel drop private anonymous pages until they are written again. Linux 4.5."""
    REMOVE = lib.MADV_REMOVE
    """Drop the pages and the file or shared memory behind them: a hole, which reads as zeros."""
    DONTNEED_LOCKED = lib.MADV_DONTNEED_LOCKED
    """Drop the pages as DONTNEED does, locked pages too. Linux 5.18."""
    GUARD_INSTALL = lib.MADV_GUARD_INSTALL
    """Drop the pages and forbid all access to them. Linux 6.13."""
    GUARD_REMOVE = lib.MADV_GUARD_REMOVE
    """Undo GUARD_INSTALL: the pages read as zeros. Linux 6.13."""


AnyAdvice: TypeAlias = Advice | DestructiveAdvice

_NEEDED: Final[Mapping[int, str]] = MappingProxyType(
    {
        Advice.WIPEONFORK: "private anonymous memory",
        Advice.COLLAPSE: "memory that can have transparent huge pages",
        DestructiveAdvice.FREE: "private anonymous memory",
        DestructiveAdvice.REMOVE: "memory that is shared",
    }
)
"""The kind of memory that an advice is for, where it is not for every kind."""


def cause_of_refusal(number: int, advice: AnyAdvice | None, *, is_locked: bool) -> str | None:
    """Return the hint for a call on a range that the kernel refused; None: no cause is known.

    Args:
        number: The errno.
        advice: The advice that was refused; None: another call was.
        is_locked: Whether some of the range is locked, and the errno may say so.
    """
    if is_locked:
        return "some of the range is locked: unlock it first"
    if advice is None:
        return None
    name = f"MADV_{advice.name}"
    if number not in (errno.EINVAL, errno.EACCES):
        return name
    if not advice.is_supported():
        return f"this kernel does not know {name}"
    needed = _NEEDED.get(advice)
    return f"{name} of this memory" if needed is None else f"{name} needs {needed}"


class SyncMode(enum.IntEnum):
    """Whether msync(2) waits.

    Example:
        >>> from mmapwrap import MemoryMapping, SyncMode
        >>> mapping = MemoryMapping.anonymous(4096)
        >>> mapping.msync(mode=SyncMode.ASYNC)
    """

    SYNC = lib.MS_SYNC
    """Write back and wait until it is done."""
    ASYNC = lib.MS_ASYNC
    """Ask for writing back soon. Linux does that without being asked, so this has no effect."""
