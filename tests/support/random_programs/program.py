"""A program: what it holds, its steps, and the errors that they may end with."""

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine
from kernel_view import PAGE, vmas

from mmapwrap import (
    Advice,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidIndexError,
    InvalidRangeError,
    MappingFaultError,
    MmapError,
    NotPageAlignedError,
    ProtectionError,
    ViewsExportedError,
)
from random_programs.arguments import agrees
from random_programs.model import (
    EXEC,
    READ,
    WRITE,
    File,
    Guard,
    Memory,
    Part,
    Region,
    Store,
    View,
)
from random_programs.public_calls import Calls

if TYPE_CHECKING:
    from random_programs.positions import DropIn, Opened

T = TypeVar("T")
Errors = set[type[Exception]]

HAS_GUARD_PAGES = DestructiveAdvice.GUARD_INSTALL.is_supported()
HAS_POPULATE = Advice.POPULATE_WRITE.is_supported()


def bits_of_permissions(permissions: str) -> int:
    bits = zip((READ, WRITE, EXEC), permissions, strict=False)
    return sum(bit for bit, letter in bits if letter != "-")


class Log:
    """The lines of the program that runs now, in a file that outlives the process."""

    def __init__(self, path: str | None) -> None:
        self.fd = -1 if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        self.steps = 0

    def start(self) -> None:
        if self.fd >= 0:
            os.ftruncate(self.fd, 0)
            os.lseek(self.fd, 0, os.SEEK_SET)

    def add(self, line: str) -> None:
        self.steps += 1
        if self.fd >= 0:
            os.write(self.fd, f"with suppress(Exception): {line}\n".encode())


class Program(RuleBasedStateMachine):
    """What steps of every subject share; the subjects add the steps."""

    log: ClassVar[Log] = Log(None)
    calls: ClassVar[Calls | None] = None
    """What notes the calls that steps make."""

    def __init__(self) -> None:
        super().__init__()
        self.names = 0
        self.space: dict[str, Any] = {}
        self.failure: Exception | None = None
        self.regions: list[Region] = []
        self.files: list[File] = []
        self.parts: list[Part] = []
        self.views: list[View] = []
        self.guards: list[Guard] = []
        self.memories: list[Memory] = []
        self.opened: list[Opened] = []
        self.drop_ins: list[DropIn] = []
        self.paths: dict[str, Store | str] = {}  # a str: what else is there
        self.named: dict[str, Store] = {}
        self.descriptors: dict[int, str] = {}
        self.ranges: list[tuple[int, int]] = []

    # --- Steps ----------------------------------------------------------------------------------

    def step(self, line: str, must: Errors | None = None, may: Errors | None = None) -> bool:
        """Runs a line; True where it worked, which it has to unless an error `must` come."""
        self.log.add(line)
        self.failure = None
        expected = tuple((must or set()) | (may or set()))
        caught: tuple[type[Exception], ...] = (MmapError, PermissionError, ValueError, *expected)
        try:
            self.run(compile(line, "<step>", "exec"))
        except caught as error:
            # What it met on its way would hold regions and views.
            error.__context__ = error.__cause__ = None
            self.failure = error.with_traceback(None)
        is_expected = isinstance(self.failure, expected) if self.failure else not must
        assert is_expected, f"{line}\n{self.failure!r}, expected: {must or 'no error'}"
        return self.failure is None

    def run(self, line: CodeType) -> None:
        if self.calls is None:
            exec(line, self.space)
            return
        sys.setprofile(self.calls.note)
        try:
            exec(line, self.space)
        finally:
            sys.setprofile(None)

    @property
    def result(self) -> Any:
        return self.space.pop("_")

    def new_name(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    def compare(self, memory: Memory, start: int, actual: bytes, stride: int = 1) -> None:
        data, known = memory.content(start, start + len(actual) * stride)
        assert agrees(actual, data, known), f"other bytes at {start} than were written"

    def compare_layout(self, region: Region, memory: Memory) -> None:
        """What the region says of its protection, the kernel says too, or guard pages lie there."""
        told: list[tuple[int, int, int, bool]] = []
        if memory.is_arena:
            self.step(f"_ = {region.name}.as_ptr(), {region.name}.segments()")
            base, segments = self.result
            at = base
            for segment in segments:
                start, bits = base + segment.offset, int(segment.prot)
                told.append((at, start, 0, True))
                at = start + segment.size
                told.append((start, at, bits, bits != 0))
            told.append((at, base + memory.size, 0, True))
        else:
            self.step(f"_ = {region.name}.as_ptr(), int({region.name}.prot)")
            base, bits = self.result
            told.append((base, base + memory.size, bits, False))
        mapped = vmas()
        for start, end, bits, is_all in told:
            for vma in mapped:
                if max(vma.start, start) < min(vma.end, end):
                    actual = bits_of_permissions(vma.perms)
                    is_right = bits == actual if is_all else not bits & ~actual
                    assert is_right, f"{bits} from {start:#x} to {end:#x}, and {vma}"

    def refusals(
        self,
        memory: Memory | None,
        start: int,
        count: int | None,
        need: int = 0,
        *,
        whole: str = "",
        keeps: int | None = None,
    ) -> tuple[Errors, Errors]:
        """The errors one of which a call on a range must raise, and those that it may.

        `whole`: the range must be of whole pages; "from start": or begin where the region does.
        `keeps`: the PROT_* bits that stay, of those that live views need.
        """
        if memory is None:
            return {ClosedMappingError}, set()
        end = memory.size if count is None else start + count
        must: Errors = {MappingFaultError} if memory.faults else set()
        may: Errors = {MappingFaultError} if memory.is_doubtful else set()
        if not 0 <= start <= end <= memory.size:
            return must | {InvalidRangeError}, may
        if whole and not memory.is_whole(start, end, from_start=whole == "from start"):
            must.add(NotPageAlignedError)
        if need & ~memory.allowed(start, end):
            must.add(ProtectionError)
        elif need and start == end:
            may.add(ProtectionError)
        if keeps is not None and any(
            max(export.start, start) < min(export.end, end) and export.access & ~keeps
            for export in memory.exports
        ):
            must.add(ViewsExportedError)
        return must, may

    def touch(
        self,
        line: str,
        memory: Memory | None,
        start: int,
        count: int | None,
        need: int,
        *,
        also: Iterable[type[Exception]] = (),
        scans: bool = False,
        by_byte: bool = False,
    ) -> bool:
        """Runs a line that touches a range.

        `scans`: it need not touch all of it. `by_byte`: it may stop at the first byte that it must
        not, or cannot, touch.
        """
        must, may = self.refusals(memory, start, count, need)
        must.update(also)
        lacking: set[int] = set()
        if memory is not None and (not must or (by_byte and must == {ProtectionError})):
            end = memory.size if count is None else start + count
            lacking = memory.missing(start, end)
        if lacking:
            (may if scans else must).add(MappingFaultError)
        if InvalidRangeError in must:
            must.add(InvalidIndexError)
        done = self.step(line, must, may)
        if memory is not None and isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure, lacking, is_first=not scans and not by_byte)
        return done

    def write_and_model(
        self,
        call: str,
        memory: Memory | None,
        start: int,
        data: bytes,
        known: bytes | None = None,
        *,
        also: Errors | None = None,
    ) -> None:
        if self.touch(call, memory, start, len(data), WRITE, also=also or set()):
            assert memory is not None
            memory.put(start, data, known)
        elif memory is not None and isinstance(self.failure, MappingFaultError):
            end = min(start + len(data), memory.size)
            if 0 <= start < end and not WRITE & ~memory.allowed(start, end):
                memory.forget(start, end)  # of what was copied before the fault nobody knows

    def check_fault(
        self,
        memory: Memory,
        error: MappingFaultError,
        lacking: Collection[int] = (),
        *,
        is_first: bool = True,
    ) -> None:
        """The fault is of a page that the call met, or of all that guards have replaced."""
        if lacking and not memory.faults:
            places = {max(index * PAGE - memory.head, 0) for index in lacking}
            if not memory.is_doubtful:
                assert error.pages == 1
                assert error.offset in places
                assert not is_first or error.offset == min(places)
        elif not memory.faults:  # counted by nobody: threads
            memory.is_doubtful = True
        elif not memory.is_doubtful:
            first = max(min(memory.faults) * PAGE - memory.head, 0)
            assert (error.offset, error.pages) == (first, len(memory.faults))
        assert error.pages <= len(memory.pages)

    # --- Choosing -------------------------------------------------------------------------------

    def some(self, things: Sequence[T], pick: int) -> T:
        return things[pick % len(things)]

    def has_regions(self) -> bool:
        return bool(self.regions)

    def has_files(self) -> bool:
        return bool(self.files)

    def has_parts(self) -> bool:
        return bool(self.parts)

    def has_opened(self) -> bool:
        return bool(self.opened)

    def has_drop_ins(self) -> bool:
        return bool(self.drop_ins)

    def has_views(self) -> bool:
        return bool(self.views)

    def has_guards(self) -> bool:
        return bool(self.guards)

    def has_arenas(self) -> bool:
        return any(region.memory and region.memory.is_arena for region in self.regions)

    def a_region(self, pick: int) -> Region:
        """One that is open, but for one pick in sixteen."""
        wanted = [region for region in self.regions if (region.memory is None) == (pick % 16 == 7)]
        return self.some(wanted or self.regions, pick)

    def an_arena(self, pick: int) -> Region:
        held = [region for region in self.regions if region.memory and region.memory.is_arena]
        return self.some(held, pick)

    def add_region(self, name: str, memory: Memory) -> None:
        self.memories.append(memory)
        self.regions.append(Region(name, memory))
        closed = [region for region in self.regions if region.memory is None]
        for region in closed[1:] or self.regions[: len(self.regions) - 8]:
            self.step(f"del {region.name}")
            self.regions.remove(region)

    def forget_layout(self, memory: Memory) -> None:
        """Nobody knows what a closed region's memory allows: what still sees it is used no more."""
        self.parts = [part for part in self.parts if part.memory is not memory]
        self.opened = [opened for opened in self.opened if opened.memory is not memory]

    def can_touch(self, view: View) -> bool:
        memory = view.memory
        return not memory.is_doubtful and (memory.guards > 0 or not memory.may_fault)
