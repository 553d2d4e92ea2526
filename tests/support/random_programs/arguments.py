"""What the steps are given: ranges, sizes, protections, bytes, numbers."""

from typing import Any

import attrs
import hypothesis.strategies as st
from kernel_view import PAGE

from mmapwrap import Protection
from random_programs.model import Memory

SCALARS = {
    "u8": "=B",
    "i8": "=b",
    "u16": "=H",
    "be_i16": ">h",
    "le_u32": "<I",
    "i32": "=i",
    "u64": "=Q",
    "be_u64": ">Q",
    "i64": "=q",
    "f32": "=f",
    "be_f64": ">d",
}

EDGE = object()


@attrs.frozen
class Spot:
    """Where a range starts and how long it is, before it is known in what."""

    page: int
    near: Any
    pages: int | None
    more: int
    is_wild: bool

    def of(self, size: int, head: int = 0) -> tuple[int, int | None]:
        """The start and count in a region; mostly inside of it."""
        near: int = -head if self.near is EDGE else self.near
        if self.is_wild:
            start = self.page * PAGE + near
            return start, None if self.pages is None else self.pages * PAGE + self.more
        start = self.page % (-(-(size + head) // PAGE) or 1) * PAGE + near
        if self.near is not EDGE or start > size:
            start = min(start, size)
        if self.pages is None:
            return start, None
        return start, max(min(self.pages * PAGE + self.more, size - start), 0)


# Drawn from lists, because from a range of numbers the ends would come most often.
picks = st.sampled_from(range(32))
spots = st.builds(
    Spot,
    page=st.sampled_from(range(6)),
    near=st.sampled_from((0, 0, 0, 0, 1, 8, -1, 2000, EDGE)),
    pages=st.sampled_from((0, 0, 1, 1, 1, 2, 3, None)),
    more=st.sampled_from((0, 0, 0, 1, 8, 100, -1)),
    is_wild=st.sampled_from((*[False] * 15, True)),
)
sizes = st.sampled_from(
    [pages * PAGE + more for pages in range(1, 7) for more in (0, 0, 0, 1, -1, 100)] + [0]
)
patterns = st.binary(min_size=1, max_size=3)
protections = st.sampled_from(
    ("read_write",) * 10 + ("read",) * 5 + ("none", "write", "read_execute")
)


def bits_of(protection: str) -> int:
    made: Protection = getattr(Protection, protection)()
    return int(made)


def repeated(pattern: bytes, count: int) -> tuple[bytes, str]:
    """Bytes, and the text that makes them."""
    times = -(-count // len(pattern))
    return (pattern * times)[:count], f"({pattern!r} * {times})[:{count}]"


def agrees(actual: bytes, data: bytes, known: bytes) -> bool:
    """Whether bytes are as the model has them, where it knows."""
    differ = int.from_bytes(actual) ^ int.from_bytes(data)
    return len(actual) == len(data) and not differ & int.from_bytes(known)


def whole_pages(spot: Spot, memory: Memory | None) -> tuple[int, int | None]:
    """A range for a call that takes whole pages only; mostly of these."""
    start, count = spot.of(*place(memory))
    if memory is None or spot.is_wild or spot.near == 1:
        return start, count
    start = -(-(start + memory.head) // PAGE) * PAGE - memory.head
    if start >= memory.size:
        start = 0
    if count is not None:
        end = -(-(start + count + memory.head) // PAGE) * PAGE - memory.head
        count = min(end, memory.size) - start
    return start, count


def place(memory: Memory | None) -> tuple[int, int]:
    return (3 * PAGE, 0) if memory is None else (memory.size, memory.head)
