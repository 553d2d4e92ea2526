"""A region as a file and as an array, what is counted in it, and what moves inside it."""

from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from mmapwrap import InvalidArgumentError, InvalidRangeError, MappingFaultError
from random_programs.arguments import Spot, patterns, picks, place, repeated, spots
from random_programs.model import READ, UNKNOWN, WRITE, Memory
from random_programs.program import Program


class DoorSteps(Program):
    """Regions handed to what takes files and arrays."""

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, buffering=st.sampled_from((0, -1, 1000)))
    def read_file_over(self, pick: int, spot: Spot, buffering: int) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        call = (
            f"_ = {region.name}.open(offset={start}, count={count}, buffering={buffering}).read()"
        )
        if self.touch(call, memory, start, count, READ, scans=buffering != 0):
            assert memory is not None
            self.compare(memory, start, self.result)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, pattern=patterns)
    def write_file_over(self, pick: int, spot: Spot, pattern: bytes) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        if memory is None or not 0 <= start <= start + (count or 0) <= memory.size:
            return
        length = memory.size - start if count is None else count
        if length <= 0 or READ & ~memory.allowed(start, start + length):
            return  # it is opened to read as well
        data, text = repeated(pattern, length)
        opened = f"{region.name}.open('r+b', offset={start}, count={count}, buffering=0)"
        self.write_and_model(f"_ = {opened}.write({text})", memory, start, data)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots)
    def copy_array_of(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        must, may = self.refusals(memory, start, count, READ)
        if memory is not None and not must:
            end = memory.size if count is None else start + count
            if memory.may_fault or memory.is_doubtful or not READ & memory.allowed(start, end):
                return  # an array is the memory itself
        call = f"_ = {region.name}.array('u1', {count}, offset={start}).tobytes()"
        if count is not None and count < 0:
            must.add(InvalidArgumentError)
        if self.step(call, must, may):
            assert memory is not None
            self.compare(memory, start, self.result)

    @precondition(Program.has_regions)
    @rule(pick=picks, needle=st.binary(max_size=2), is_there=st.booleans())
    def count_in(self, pick: int, needle: bytes, is_there: bool) -> None:
        region = self.a_region(pick)
        memory = region.memory
        if is_there and memory is not None:
            needle = memory.content(0, min(2, memory.size))[0][: len(needle)]
        if self.touch(f"_ = {region.name}.count({needle!r})", memory, 0, None, READ, scans=True):
            assert memory is not None
            data, known = memory.content(0, memory.size)
            found = self.result
            assert UNKNOWN in known or found == data.count(needle)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, source=st.sampled_from((0, 0, 1, 100, 4096, 5000, -1)))
    def move_in(self, pick: int, spot: Spot, source: int) -> None:
        region = self.a_region(pick)
        memory = region.memory
        target, count = spot.of(*place(memory))
        count = 10 if count is None else count
        call = f"{region.name}.move({target}, {source}, {count})"
        self.move_and_model(call, memory, target, source, count)

    def move_and_model(
        self,
        call: str,
        memory: Memory | None,
        target: int,
        source: int,
        count: int,
        *,
        also: Iterable[type[Exception]] = (),
    ) -> None:
        must, may = self.refusals(memory, source, count, READ)
        other_must, other_may = self.refusals(memory, target, count, WRITE)
        must, may = must | other_must, may | other_may
        if count == 0 and memory is not None and InvalidRangeError not in must:
            may |= must
            must = set[type[Exception]]()
        must.update(also)
        lacking = set[int]()
        if memory is not None and not must:
            lacking = memory.missing(source, source + count) | memory.missing(
                target, target + count
            )
        if lacking:
            (may if source == target else must).add(MappingFaultError)
        done = self.step(call, must, may)
        if memory is None or InvalidRangeError in must:
            return
        if done and source != target:
            memory.put(target, *memory.content(source, source + count))
        elif not done and isinstance(self.failure, MappingFaultError):
            memory.forget(target, target + count)
        if done:
            for page in memory.touched(target, target + count):
                if source == target:
                    page.doubt_copy()
