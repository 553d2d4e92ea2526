"""What memory and files hold after each step, in plain Python."""

from collections.abc import Iterable, Iterator

import attrs
from kernel_view import PAGE

from mmapwrap import MemfdSeals, Protection

READ, WRITE, EXEC = (int(Protection(*(i == bit for i in range(3)))) for bit in range(3))
KNOWN, UNKNOWN = 0xFF, 0


class Cell:
    """The bytes of a page, as far as they are known."""

    __slots__ = ("data", "known")

    def __init__(self, data: bytes = bytes(PAGE), known: bytes = bytes([KNOWN]) * PAGE) -> None:
        self.data, self.known = bytearray(data), bytearray(known)

    def copy(self) -> "Cell":
        return Cell(bytes(self.data), bytes(self.known))

    def put(self, at: int, data: bytes, known: bytes) -> None:
        self.data[at : at + len(data)] = data
        self.known[at : at + len(data)] = known

    def forget(self, at: int = 0, end: int = PAGE) -> None:
        self.known[at:end] = bytes(max(end - at, 0))


class Store:
    """What is behind pages: a file of some size, or shared memory without one."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size
        self.cells: dict[int, Cell] = {}
        self.seals = MemfdSeals(0)

    def cell(self, index: int) -> Cell:
        return self.cells.setdefault(index, Cell())

    def lacks(self, index: int) -> bool:
        return self.size is not None and index * PAGE >= self.size

    def put(self, index: int, at: int, data: bytes, known: bytes) -> None:
        cell = self.cell(index)
        cell.put(at, data, known)
        if self.size is not None:
            # What a mapping writes past the file's end may be there later, or may not.
            cell.forget(max(self.size - index * PAGE, at), at + len(data))

    def write(self, offset: int, data: bytes, known: bytes) -> None:
        """What write(2) does: the file grows, unless there is nothing to write."""
        assert self.size is not None
        if data:
            self.size = max(self.size, offset + len(data))
        while data:
            index, at = divmod(offset, PAGE)
            part = min(PAGE - at, len(data))
            self.put(index, at, data[:part], known[:part])
            offset, data, known = offset + part, data[part:], known[part:]

    def content(self, offset: int, count: int) -> tuple[bytes, bytes]:
        data, known = bytearray(), bytearray()
        for index in range(offset // PAGE, -(-(offset + count) // PAGE)):
            data += self.cell(index).data
            known += self.cell(index).known
        start = offset % PAGE
        return bytes(data[start : start + count]), bytes(known[start : start + count])

    def resize(self, size: int) -> None:
        assert self.size is not None
        if size < self.size:
            whole, rest = divmod(size, PAGE)
            for index in [index for index in self.cells if index >= whole + bool(rest)]:
                del self.cells[index]
            if rest and whole in self.cells:
                self.cells[whole].put(rest, bytes(PAGE - rest), bytes([KNOWN]) * (PAGE - rest))
        self.size = size


@attrs.define(eq=False)
class Page:
    """A page of a region.

    Args:
        store: What is behind it; None: nothing (private memory, or a hole of an arena).
        index: Which page of the store.
        is_private: Whether writes make a copy.
        bits: The PROT_* bits.
        is_mapped: Whether an arena holds something there.
        is_guarded: Whether it is a guard page.
        own: The private copy, where there is one.
        aside: What a guard has replaced by zeros: the store, whether it is private, the copy.
        is_read_only: Whether its file was opened for reading only.
    """

    store: Store | None
    index: int
    is_private: bool
    bits: int
    is_mapped: bool = True
    is_guarded: bool = False
    own: Cell | None = None
    aside: tuple[Store | None, bool, Cell | None] | None = None
    is_read_only: bool = False

    @property
    def allowed(self) -> int:
        return 0 if self.is_guarded else self.bits

    @property
    def is_missing(self) -> bool:
        return self.own is None and self.store is not None and self.store.lacks(self.index)

    def cell(self) -> Cell:
        if self.own is not None:
            return self.own
        return Cell() if self.store is None or self.is_missing else self.store.cell(self.index)

    def copied(self) -> Cell:
        if self.own is None:
            self.own = self.cell().copy()
        return self.own

    def put(self, at: int, data: bytes, known: bytes) -> None:
        if self.is_private or self.store is None:
            self.copied().put(at, data, known)
        else:
            self.store.put(self.index, at, data, known)

    def forget(self) -> None:
        if not self.is_missing:
            self.put(0, bytes(PAGE), bytes(PAGE))

    def doubt_copy(self) -> None:
        """The kernel may have made the private copy, of which a later change of the file says."""
        if self.is_private and self.store is not None and self.own is None:
            self.forget()

    def drop(self) -> None:
        """What MADV_DONTNEED does."""
        if self.is_private:
            self.own = None

    def replace(self) -> None:
        """What a guard does: a private page of zeros, until the region recovers."""
        if self.aside is None:
            self.aside = self.store, self.is_private, self.own
        self.store, self.is_private, self.own = None, True, Cell()

    def recover(self) -> None:
        """What a guard has set aside comes back."""
        if self.aside is not None:
            self.store, self.is_private, self.own = self.aside
            self.aside = None


@attrs.define(eq=False)
class Export:
    """A view that the region knows of, and what depends on it."""

    start: int
    end: int
    access: int
    names: set[str] = attrs.field(factory=set[str])


@attrs.define(eq=False)
class Memory:
    """Mapped pages, whoever holds them."""

    size: int
    head: int
    pages: list[Page]
    is_arena: bool = False
    is_locked: bool = False  # maybe, and maybe in part
    guards: int = 0
    exports: list[Export] = attrs.field(factory=list[Export])
    faults: set[int] = attrs.field(factory=set[int])
    is_doubtful: bool = False  # pages may have faulted that nobody counted
    capacity: int | None = None  # what it was given to grow to
    last_bits: int = 0  # of what is added to an empty region
    file: "File | None" = None  # whose length follows, and is followed
    offset: int = 0  # in that file
    room: int = 0  # the pages for which there are addresses

    def __attrs_post_init__(self) -> None:
        self.room = max(self.room, len(self.pages))
        first = self.pages[0] if self.pages else None
        self.store = None if first is None else first.store
        self.is_private = first is not None and first.is_private

    store: Store | None = attrs.field(init=False, default=None)
    is_private: bool = attrs.field(init=False, default=False)

    @property
    def is_of_file(self) -> bool:
        return self.store is not None and self.store.size is not None

    def spans(self, start: int, end: int) -> Iterator[tuple[Page, int, int]]:
        """The pages of a range, each with the part of it that is in the range."""
        start, end = start + self.head, end + self.head
        while start < end:
            index, at = divmod(start, PAGE)
            until = min(PAGE, at + end - start)
            yield self.pages[index], at, until
            start += until - at

    def touched(self, start: int, end: int) -> list[Page]:
        return [page for page, _, _ in self.spans(start, end)]

    def allowed(self, start: int, end: int) -> int:
        bits = READ | WRITE | EXEC
        for page in self.touched(start, end):
            bits &= page.allowed
        return bits

    def missing(self, start: int, end: int) -> set[int]:
        if start >= end:
            return set()
        first, last = (start + self.head) // PAGE, (end + self.head - 1) // PAGE
        return {index for index in range(first, last + 1) if self.pages[index].is_missing}

    def content(self, start: int, end: int) -> tuple[bytes, bytes]:
        data, known = bytearray(), bytearray()
        for page, at, until in self.spans(start, end):
            cell = page.cell()
            data += cell.data[at:until]
            known += cell.known[at:until]
        return bytes(data), bytes(known)

    def put(self, start: int, data: bytes, known: bytes | None = None) -> None:
        mask = bytes([KNOWN]) * len(data) if known is None else known
        written = self.touched(start, start + len(data))
        is_written_twice = are_aliases(written, written)
        done = 0
        for page, at, until in self.spans(start, start + len(data)):
            count = until - at
            page.put(at, data[done : done + count], mask[done : done + count])
            done += count
        if is_written_twice:  # memcpy(3) may begin at either end, so either write may be the last
            for page in written:
                page.forget()

    def forget(self, start: int, end: int) -> None:
        """A call that failed may have written some of the bytes, or none."""
        for page, at, until in self.spans(start, end):
            page.doubt_copy()
            if not page.is_missing:
                page.put(at, bytes(until - at), bytes(until - at))

    def fault(self, lacking: set[int], *, certain: bool) -> None:
        """Pages could not be read in; not `certain`: some of them, at least one."""
        for index in lacking:
            self.pages[index].replace()
            if not certain:
                self.pages[index].forget()
        self.faults |= lacking
        self.is_doubtful |= not certain

    def recover(self) -> None:
        """What `recover` does."""
        for page in self.pages:
            page.recover()
        self.faults, self.is_doubtful = set(), False

    def is_whole(self, start: int, end: int, *, from_start: bool) -> bool:
        is_start = (start + self.head) % PAGE == 0 or (from_start and start == 0)
        return is_start and ((end + self.head) % PAGE == 0 or end == self.size)

    @property
    def may_fault(self) -> bool:
        """Whether a page is not there, or may be cut off at any time."""
        return any(
            page.is_missing
            or (
                page.store is not None
                and page.store.size is not None
                and not page.store.seals & MemfdSeals.SHRINK
            )
            for page in self.pages
        )


@attrs.define(eq=False)
class File:
    """A file of a program: a descriptor of its own and what is in it."""

    name: str
    store: Store
    size: int  # when it was opened; SharedMemory keeps to that
    is_memfd: bool  # a SharedMemory, whatever is behind it
    is_closed: bool = False
    is_sealable: bool = True
    label: str | None = None  # the name of shared memory, where it is known
    is_read_only: bool = False  # a path that a mapping opens for reading only


@attrs.define(eq=False)
class Region:
    name: str
    memory: Memory | None  # None: closed


@attrs.define(eq=False)
class Part:
    """A VolatileSlice."""

    name: str
    memory: Memory
    start: int
    size: int


@attrs.define(eq=False)
class View:
    name: str
    memory: Memory
    export: Export
    start: int
    size: int
    is_writable: bool


@attrs.define(eq=False)
class Guard:
    name: str
    memory: Memory
    depth: int = 0


def hole() -> Page:
    """What an arena has where it holds nothing."""
    return Page(None, 0, is_private=True, bits=0, is_mapped=False)


def break_copies(pages: Iterable[Page]) -> None:
    """Writing made private copies of the pages of files."""
    for page in pages:
        if page.is_private and page.store is not None:
            page.copied()


def are_aliases(some: Iterable[Page], others: Iterable[Page]) -> bool:
    """Whether one of some pages shows the same memory, at another address, as one of others."""
    held = {(page.store, page.index): page for page in some}
    return any(
        page.store is not None and held.get((page.store, page.index), page) is not page
        for page in others
    )
