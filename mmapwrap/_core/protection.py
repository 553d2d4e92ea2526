"""What may be done with pages: the PROT_* bits as a value, and who sees the writes."""

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
    """Which accesses a mapping allows; the PROT_* bits of mmap(2) and mprotect(2).

    The default allows nothing: pages that are reserved and cannot be touched.

    Args:
        readable: PROT_READ.
        writable: PROT_WRITE.
        executable: PROT_EXEC.
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
        """No access (PROT_NONE)."""
        return _BY_BITS[0]

    @staticmethod
    def read() -> "Protection":
        """Reading only."""
        return _BY_BITS[PROT_READ]

    @staticmethod
    def write() -> "Protection":
        """Writing only. x86 lets such pages be read too; this library does not."""
        return _BY_BITS[PROT_WRITE]

    @staticmethod
    def read_write() -> "Protection":
        """Reading and writing."""
        return _BY_BITS[PROT_READ | PROT_WRITE]

    @staticmethod
    def read_execute() -> "Protection":
        """Reading and executing."""
        return _BY_BITS[PROT_READ | PROT_EXEC]

    @staticmethod
    def from_bits(bits: int) -> "Protection":
        """The protection with these PROT_* bits; bits that are none of the three do not count."""
        return _BY_BITS[bits & PROT_ANY]

    def set_read(self) -> "Protection":
        """A copy that can also be read."""
        return attrs.evolve(self, readable=True)

    def set_write(self) -> "Protection":
        """A copy that can also be written."""
        return attrs.evolve(self, writable=True)

    def allows(self, other: "Protection") -> bool:
        """Whether everything that `other` allows is allowed here too."""
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
        """As /proc/self/maps writes it, such as `rw-`."""
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


class Sharing(enum.IntEnum):
    """Who sees what is written to a mapping."""

    SHARED = MAP_SHARED
    """Everybody who maps the same memory or file, and the file itself."""
    PRIVATE = MAP_PRIVATE
    """This mapping alone: a page is copied when it is first written (copy-on-write)."""
