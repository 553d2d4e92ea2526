"""What has a position in a region: files over it, and drop-ins."""

import attrs

from random_programs.model import Memory, Region, Store


@attrs.define(eq=False)
class Opened:
    """A RegionIO: a range of a region, and a position in it.

    Args:
        name: The variable.
        memory: Where the range is.
        start: The first byte.
        count: Bytes; None: up to the end, wherever that is.
        is_writable: Whether it was opened for writing.
        position: Bytes from the start.
        is_closed: Whether it is closed.
    """

    name: str
    memory: Memory
    start: int
    count: int | None
    is_writable: bool
    position: int = 0
    is_closed: bool = False

    @property
    def size(self) -> int:
        rest = max(self.memory.size - self.start, 0)
        return rest if self.count is None else min(self.count, rest)

    @property
    def rest(self) -> int:
        return max(self.size - self.position, 0)

    @property
    def at(self) -> int:
        """The next byte's place in the region."""
        return min(self.start, self.memory.size) + min(self.position, self.size)


@attrs.define(eq=False)
class DropIn:
    """A `mmap` of the drop-in: a region, and a position in it.

    Args:
        name: The variable.
        region: That of its mapping.
        opened: Its position.
        access: The ACCESS_* that it comes to.
        bits: The PROT_* bits that it was mapped with.
        is_private: Whether writes make copies.
        store: What is in its file; None: it has none.
        offset: Where in the file it starts.
        is_tracked: Whether it keeps a descriptor.
    """

    name: str
    region: Region
    opened: Opened
    access: int
    bits: int
    is_private: bool
    store: Store | None
    offset: int
    is_tracked: bool

    @property
    def memory(self) -> Memory | None:
        return self.region.memory
