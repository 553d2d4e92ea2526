"""Several calls at once."""

import attrs
import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import AccessDeniedError, MappingFaultError, SystemCallError
from random_programs.arguments import Spot, picks, protections, spots, whole_pages
from random_programs.file_steps import FileSteps
from random_programs.model import READ, Memory, Region, hole
from random_programs.program import HAS_GUARD_PAGES, Errors, Program


def content_calls(
    name: str, memory: Memory, one: tuple[int, int], two: tuple[int, int]
) -> list[str]:
    """Calls that leave the layout of a region as it is."""
    (a, n), (b, k) = one, two
    calls = [
        f"READERS['slice']({name}, {max(a, 0)}, {n})",
        f"{name}.read_slice(bytearray({n}), {a})",
        f"{name}.write_slice(b'x' * {k}, {b})",
        f"{name}.find(b'xy', {a})",
        f"{name}.write_obj(u64, 5, {b})",
        f"{name}.get_slice({a}, {n}).copy_to(bytearray({n}))",
        f"{name}.get_slice({a}, {n}).load_many(u8, {n})",
        f"{name}.get_slice({b}, {k}).store_many(u16, [5] * {k // 2})",
        f"{name}.residency()",
        f"{name}.populate({b}, {k})",
        f"{name}.msync({a}, {n}, SyncMode.ASYNC)",
        f"guarded({name})",
    ]
    if not memory.may_fault:
        calls.append(f"bytes({name}.view({a}, {n}))")
    return calls


def layout_calls(
    name: str, memory: Memory, protection: str, one: tuple[int, int], two: tuple[int, int]
) -> list[str]:
    """Calls that change what a region holds or allows."""
    (a, n), (b, k) = one, two
    calls = [f"{name}.protect({protection}, {a}, {n})", f"{name}.protect({protection}, {b}, {k})"]
    if HAS_GUARD_PAGES and not memory.head:
        calls += [
            f"{name}.advise_destructive(DestructiveAdvice.GUARD_INSTALL, {a}, {n})",
            f"{name}.advise_destructive(DestructiveAdvice.GUARD_REMOVE, {b}, {k})",
        ]
    if memory.is_arena:
        calls += [
            f"{name}.add_anon({a}, {n})",
            f"{name}.remove({b}, {k})",
            f"{name}.add_anon_protection({b}, {k}, {protection})",
        ]
    return calls


@attrs.frozen
class Meeting:
    """Which calls meet, and what they are given.

    Args:
        ways: Picks of the calls.
        spots: The two ranges that they get.
        protection: What those that take one get.
        is_layout: Only calls that change the layout meet, all in the first range.
    """

    ways: list[int]
    spots: tuple[Spot, Spot]
    protection: str
    is_layout: bool

    def ranges(self, memory: Memory) -> list[tuple[int, int]]:
        if self.is_layout:
            ranges = [whole_pages(self.spots[0], memory)] * 2
        else:
            ranges = [spot.of(memory.size, memory.head) for spot in self.spots]
        return [(start, PAGE if count is None else max(count, 0)) for start, count in ranges]


meetings = st.builds(
    Meeting,
    ways=st.lists(picks, min_size=2, max_size=4),
    spots=st.tuples(spots, spots),
    protection=protections,
    is_layout=st.booleans(),
)


class MeetingSteps(FileSteps):
    """Calls that meet in one region: in threads, and one in the middle of another."""

    @precondition(Program.has_regions)
    @rule(pick=picks, which=picks, meeting=meetings)
    def use_in_threads(self, pick: int, which: int, meeting: Meeting) -> None:
        self.make_meet("in_threads({})", pick, which, meeting)

    @precondition(Program.has_regions)
    @rule(pick=picks, which=picks, meeting=meetings, every=st.sampled_from((1, 2, 7, 19, 43, 71)))
    def interrupt(self, pick: int, which: int, meeting: Meeting, every: int) -> None:
        self.make_meet(f"interrupted({{}}, every={every})", pick, which, meeting)

    def make_meet(self, line: str, pick: int, which: int, meeting: Meeting) -> None:
        """None of several calls at once ends with anything but an error of the library."""
        region = self.a_region(pick)
        memory = region.memory
        if memory is None or memory.faults:
            return
        name = region.name
        (a, n), (b, k) = meeting.ranges(memory)
        layout: list[str] = []
        if not memory.exports:
            prot = f"Protection.{meeting.protection}()"
            layout = layout_calls(name, memory, prot, (a, n), (b, k))
        close, truncate = f"{name}.close()", ""
        file = self.some(self.files, which) if self.files else None
        if file is not None and not file.is_closed and not file.store.seals:
            truncate = f"os.ftruncate({file.name}.fileno(), {abs(b)})"
        choices = [*content_calls(name, memory, (a, n), (b, k)), *layout, close]
        if truncate:
            choices.append(truncate)
        if meeting.is_layout and layout:
            choices = layout
        calls = [self.some(choices, way) for way in meeting.ways]
        self.step(line.format(", ".join(f"lambda: {call}" for call in calls)))
        if file is not None and truncate in calls:
            self.model_resize(file, abs(b))
            memory.is_doubtful = True
        # Afterwards, for others may have written past the file's new end by then.
        self.doubt_content(memory, everywhere=file is not None)
        memory.is_doubtful |= any(page.is_missing for page in memory.pages)
        if close in calls:
            region.memory = None
        if any(call in layout for call in calls):
            self.settle(region, memory)

    def doubt_content(self, memory: Memory, *, everywhere: bool) -> None:
        """Any of a region's bytes may have changed, and those of others with the same files."""
        stores = {page.store for page in memory.pages} - {None}
        for held in self.memories if everywhere else [memory]:
            if held is memory or any(page.store in stores for page in held.pages):
                for page in held.pages:
                    page.forget()

    def settle(self, region: Region, memory: Memory) -> None:
        """Brings the layout that is left behind into one that the model knows."""
        if region.memory is None:
            self.forget_layout(memory)
            return
        if not memory.is_doubtful:
            self.compare_layout(region, memory)
        may: Errors = {MappingFaultError} if memory.is_doubtful else set()
        if memory.is_arena:
            if self.step(f"{region.name}.remove(0, {memory.size})", may=may):
                memory.pages[:] = [hole() for _ in memory.pages]
        elif self.remove_guards(region, memory, may) and self.step(
            f"{region.name}.protect(Protection.read())", may=may | {AccessDeniedError}
        ):
            memory.last_bits = READ
            for page in memory.pages:
                page.bits = READ
        if self.failure is not None:
            self.step(f"{region.name}.close()")
            region.memory = None
            self.forget_layout(memory)

    def remove_guards(self, region: Region, memory: Memory, may: Errors) -> bool:
        """Removes what guard pages there may be; none came where a region starts inside a page."""
        advice = "DestructiveAdvice.GUARD_REMOVE"
        if HAS_GUARD_PAGES and not memory.head:
            call = f"{region.name}.advise_destructive({advice})"
            if not self.step(call, may=may | {SystemCallError}):
                return False
            for page in memory.pages:
                page.is_guarded = False
        return True
