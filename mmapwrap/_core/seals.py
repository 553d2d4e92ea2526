"""MemfdSeals: the F_SEAL_* bits of fcntl(2) as a value."""

import enum

from mmapwrap._core._mman import lib


class MemfdSeals(enum.IntFlag):
    """Changes that a memfd refuses for ever: no seal can be removed. F_SEAL_* of fcntl(2).

    Example:
        >>> from mmapwrap import MemfdSeals, SharedMemory
        >>> with SharedMemory.new("example", 4096) as memory:
        ...     memory.add_seals(MemfdSeals.SHRINK | MemfdSeals.GROW)
        ...     MemfdSeals.SHRINK in memory.get_seals()
        True
    """

    SEAL = lib.F_SEAL_SEAL
    """Add seals."""
    SHRINK = lib.F_SEAL_SHRINK
    """Make it smaller. With this seal no mapping of it can meet SIGBUS."""
    GROW = lib.F_SEAL_GROW
    """Make it larger."""
    WRITE = lib.F_SEAL_WRITE
    """Write to it; cannot be added while a writable shared mapping exists."""
    FUTURE_WRITE = lib.F_SEAL_FUTURE_WRITE
    """Write to it, except by the writable mappings that exist already. Linux 5.1."""
    EXEC = lib.F_SEAL_EXEC
    """Change whether it can be executed. Linux 6.3."""
