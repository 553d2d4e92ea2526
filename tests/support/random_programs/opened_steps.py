"""Files over regions that stay open: a position that moves, in a region that changes."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import (
    InvalidArgumentError,
    InvalidSystemCallError,
    MappingFaultError,
    NoSpaceError,
)
from random_programs.arguments import Spot, patterns, picks, place, repeated, sizes, spots
from random_programs.model import READ, WRITE
from random_programs.positions import Opened
from random_programs.program import Errors, Program

counts = st.sampled_from((-1, None, 0, 1, 5, 100, PAGE, PAGE + 1, 3 * PAGE))


class OpenedSteps(Program):
    """RegionIO from its start to its end."""

    @precondition(lambda self: self.has_regions() and len(self.opened) < 5)
    @rule(pick=picks, spot=spots, mode=st.sampled_from(("rb", "r+b", "rb+", "w")))
    def open_region(self, pick: int, spot: Spot, mode: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        need = READ if mode == "rb" else READ | WRITE
        must, may = self.refusals(memory, start, count, need)
        if mode == "w":
            must.add(InvalidArgumentError)
        name = self.new_name("o")
        call = f"{region.name}.open({mode!r}, offset={start}, count={count}, buffering=0)"
        if self.step(f"{name} = {call}", must, may):
            assert memory is not None
            self.opened.append(Opened(name, memory, start, count, mode != "rb"))

    @precondition(Program.has_opened)
    @rule(pick=picks, way=st.sampled_from(("look", "look", "del", "close", "with")))
    def end_opened(self, pick: int, way: str) -> None:
        opened = self.some(self.opened, pick)
        name = opened.name
        must: Errors = {ValueError} if opened.is_closed else set()
        if way == "look":
            call = f"{name}.readable(), {name}.seekable(), {name}.writable(), {name}.tell()"
            if self.step(f"_ = {call}", must):
                assert self.result == (True, True, opened.is_writable, opened.position)
            self.step(f"_ = {name}.mode, {name}.closed, repr({name})")
            mode = "rb+" if opened.is_writable else "rb"
            assert self.result[:2] == (mode, opened.is_closed)
        elif way == "del":
            self.step(f"del {name}")
            self.opened.remove(opened)
        elif way == "close":
            self.step(f"{name}.close()")
            opened.is_closed = True
        else:
            self.step(f"with {name}: pass", must)
            opened.is_closed = True

    @precondition(Program.has_opened)
    @rule(pick=picks, spot=spots, whence=st.sampled_from((0, 0, 1, 2, 3)))
    def seek_opened(self, pick: int, spot: Spot, whence: int) -> None:
        opened = self.some(self.opened, pick)
        distance, _ = spot.of(opened.size)
        if whence == 2:
            distance = -distance
        must: Errors = {ValueError} if opened.is_closed else set()
        if whence == 3:
            must.add(InvalidArgumentError)
        to = distance + (0, opened.position, opened.size, 0)[whence]
        if to < 0:
            must.add(InvalidSystemCallError)
        if self.step(f"_ = {opened.name}.seek({distance}, {whence})", must):
            assert self.result == to
            opened.position = to

    @precondition(Program.has_opened)
    @rule(pick=picks, count=counts, way=st.sampled_from(("read", "readinto", "readall")))
    def read_opened(self, pick: int, count: int | None, way: str) -> None:
        opened = self.some(self.opened, pick)
        name = opened.name
        if way == "readall":
            call, count = f"_ = {name}.readall()", None
        elif way == "readinto":
            count = 50 if count is None or count < 0 else count
            call = f"_ = bytearray({count}); del _[{name}.readinto(_):]"
        else:
            call = f"_ = {name}.read({count})"
        self.read_on(opened, call, count)

    def read_on(self, opened: Opened, call: str, count: int | None) -> None:
        """Reads from the position on: all that there is, or up to a page that is missing."""
        memory, at = opened.memory, opened.at
        if opened.is_closed:
            self.step(call, {ValueError})
            return
        is_all = count is None or count < 0
        length = opened.rest if count is None or count < 0 else min(count, opened.rest)
        must, may = self.refusals(memory, at, length, READ)
        lacking = set[int]() if must else memory.missing(at, at + length)
        until = at + length
        if lacking:
            first = max(min(lacking) * PAGE - memory.head, 0)
            if is_all or first <= at:
                must.add(MappingFaultError)
            else:
                until = first
        done = self.step(call, must, may)
        if done:
            content = bytes(self.result)
            assert len(content) == until - at or (memory.is_doubtful and len(content) < until - at)
            self.compare(memory, at, content)
            opened.position += len(content)
        elif isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure, lacking)

    @precondition(Program.has_opened)
    @rule(pick=picks, count=counts)
    def read_line_of(self, pick: int, count: int | None) -> None:
        opened = self.some(self.opened, pick)
        self.read_line(opened, f"_ = {opened.name}.readline({count})", count)

    def read_line(self, opened: Opened, call: str, count: int | None) -> None:
        memory, at = opened.memory, opened.at
        if opened.is_closed:
            self.step(call, {ValueError})
            return
        length = opened.rest if count is None or count < 0 else min(count, opened.rest)
        must, may = self.refusals(memory, at, length, READ)
        if not length:
            must, may = set[type[Exception]](), must | may
        lacking = set[int]() if must else memory.missing(at, at + length)
        if lacking:  # behind the end of the line perhaps
            may = may | {MappingFaultError}
        done = self.step(call, must, may)
        if done:
            line = self.result
            assert line.find(b"\n") in (-1, len(line) - 1)
            assert len(line) == length or line.endswith(b"\n")
            self.compare(memory, at, line)
            opened.position += len(line)
        elif isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure, lacking)

    @precondition(Program.has_opened)
    @rule(pick=picks, pattern=patterns, count=sizes, is_line=st.booleans())
    def write_opened(self, pick: int, pattern: bytes, count: int, is_line: bool) -> None:
        opened = self.some(self.opened, pick)
        data, text = repeated(pattern, count)
        if is_line:
            data = pattern[:1] + b"\n"
            text = repr(data)
        also: Errors = set() if opened.is_writable else {ValueError}
        self.write_on(opened, f"_ = {opened.name}.write({text})", data, also)

    def write_on(self, opened: Opened, call: str, data: bytes, also: Errors) -> None:
        """Writes from the position on, as much as there is room for."""
        if opened.is_closed:
            self.step(call, {ValueError})
            return
        memory = opened.memory
        if data and not opened.rest:
            also = also | {NoSpaceError}
        written = data[: opened.rest]
        if not written and not also:
            must, may = self.refusals(memory, opened.at, 0, WRITE)
            self.step(call, must, may)
        else:
            self.write_and_model(call, memory, opened.at, written, also=also)
        if self.failure is None:
            assert self.result in (len(written), None)
            opened.position += len(written)
