"""Protection and Sharing: the PROT_* bits as a value, and who sees the writes to a mapping."""

import enum
from functools import cached_property
from typing import Final

import attrs

from mmapwrap._core.constants import (
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_ANY,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)


@attrs.frozen(repr=False)
class Protection:
    """The accesses that a mapping allows; the PROT_* bits of mmap(2) and mprotect(2).

    The default allows no access: the pages are reserved and cannot be touched.

    Args:
        readable: PROT_READ.
        writable: PROT_WRITE.
        executable: PROT_EXEC.

    Example:
        >>> from mmapwrap import Protection
        >>> prot = Protection.read() | Protection(executable=True)
        >>> str(prot), int(prot), prot == Protection.read_execute()
        ('r-x', 5, True)
    """

    readable: bool = False
    writable: bool = False
    executable: bool = False

    @cached_property
    def bits(self) -> int:
        """The PROT_* bits."""
        return (
            (PROT_READ if self.readable else 0)
            | (PROT_WRITE if self.writable else 0)
            | (PROT_EXEC if self.executable else 0)
        )

    @staticmethod
    def none() -> "Protection":
        """Return the protection that allows no access (PROT_NONE).

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.none()
            <Protection --->
        """
        return _BY_BITS[0]

    @staticmethod
    def read() -> "Protection":
        """Return the protection that allows reading only.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.read()
            <Protection r-->
        """
        return _BY_BITS[PROT_READ]

    @staticmethod
    def write() -> "Protection":
        """Return the protection that allows writing only.

        x86 lets such pages be read too; this library does not.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.write()
            <Protection -w->
        """
        return _BY_BITS[PROT_WRITE]

    @staticmethod
    def read_write() -> "Protection":
        """Return the protection that allows reading and writing.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.read_write()
            <Protection rw->
        """
        return _BY_BITS[PROT_READ | PROT_WRITE]

    @staticmethod
    def read_execute() -> "Protection":
        """Return the protection that allows reading and executing.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.read_execute()
            <Protection r-x>
        """
        return _BY_BITS[PROT_READ | PROT_EXEC]

    @staticmethod
    def from_bits(bits: int) -> "Protection":
        """Return the protection with these PROT_* bits; other bits are ignored.

        Args:
            bits: PROT_READ, PROT_WRITE and PROT_EXEC, as the `mmap` module has the first two.

        Example:
            >>> import mmap
            >>> from mmapwrap import Protection
            >>> Protection.from_bits(mmap.PROT_READ | mmap.PROT_WRITE)
            <Protection rw->
        """
        if not hasattr(bits, "__index__"):
            raise TypeError(f"bits must be an int, not {type(bits).__name__}")
        return _BY_BITS[bits & PROT_ANY]

    def set_read(self) -> "Protection":
        """Return a copy that allows reading too.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.write().set_read()
            <Protection rw->
        """
        return attrs.evolve(self, readable=True)

    def set_write(self) -> "Protection":
        """Return a copy that allows writing too.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.read().set_write()
            <Protection rw->
        """
        return attrs.evolve(self, writable=True)

    def allows(self, other: "Protection") -> bool:
        """Return whether this protection allows every access that `other` allows.

        Args:
            other: The protection to compare with.

        Raises:
            TypeError: `other` is no Protection.

        Example:
            >>> from mmapwrap import Protection
            >>> Protection.read_write().allows(Protection.read())
            True
        """
        if type(other) is not Protection:
            raise TypeError(f"a Protection is needed, not {type(other).__name__}")
        return not other.bits & ~self.bits

    def __or__(self, other: object) -> "Protection":
        if not isinstance(other, Protection):
            return NotImplemented
        return _BY_BITS[self.bits | other.bits]

    def __int__(self) -> int:
        return self.bits

    def __str__(self) -> str:
        """Return the accesses as /proc/self/maps writes them, such as `rw-`."""
        return (
            ("r" if self.readable else "-")
            + ("w" if self.writable else "-")
            + ("x" if self.executable else "-")
        )

    def __repr__(self) -> str:
        return f"<Protection {self}>"


_BY_BITS: Final = {
    protection.bits: protection
    for readable in (False, True)
    for writable in (False, True)
    for executable in (False, True)
    for protection in [Protection(readable, writable, executable)]
}


READ_WRITE: Final = Protection.read_write()


class Sharing(enum.IntEnum):
    """Who sees the writes to a mapping.

    Example:
        >>> import tempfile
        >>> from mmapwrap import MemoryMapping, Sharing
        >>> with tempfile.TemporaryFile(buffering=0) as file:
        ...     size = file.write(b"data")
        ...     copy = MemoryMapping.from_file(file, sharing=Sharing.PRIVATE)
        ...     copy[0] = 68
        ...     copy[:], MemoryMapping.from_file(file)[:]
        (b'Data', b'data')
    """

    SHARED = MAP_SHARED
    """All mappings of the same memory or file, and the file itself."""
    PRIVATE = MAP_PRIVATE
    """This mapping alone: a page is copied when it is first written (copy-on-write)."""

    def __str__(self) -> str:
        return self.name
