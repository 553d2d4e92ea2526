"""Regions read, written and looked through."""

import struct

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from mmapwrap import (
    InvalidArgumentError,
    MappingFaultError,
    UnsupportedByKernelError,
    VolatileMisalignedError,
)
from random_programs.arguments import SCALARS, Spot, agrees, patterns, picks, place, repeated, spots
from random_programs.calls import READERS
from random_programs.model import KNOWN, READ, UNKNOWN, WRITE, Memory, Region
from random_programs.program import Errors, Program


class ContentSteps(Program):
    """Bytes and numbers in and out."""

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, way=st.sampled_from(sorted(READERS)))
    def read(self, pick: int, spot: Spot, way: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        count = 50 if count is None else max(count, 0)
        if way == "strided":
            count = min(count, 100)
        if memory is not None:
            # As of any sequence, what is past the end is cut off; only read_slice refuses it, and
            # read_exact a range that ends there.
            start = max(start, 0)
            if way != "read_exact":
                count = min(count, max(memory.size - start, 0))
        call = f"_ = READERS[{way!r}]({region.name}, {start}, {count})"
        if memory is not None and not way.startswith("read_") and start > memory.size:
            start = memory.size
        is_strided = way == "strided"
        # Nothing is touched after the last byte that is wanted.
        needed = (count - 1) // 3 * 3 + 1 if is_strided and count else count
        if self.touch(call, memory, start, needed, READ, by_byte=is_strided):
            assert memory is not None
            data, known = memory.content(start, start + count)
            stride = 3 if is_strided else 1
            assert agrees(self.result, data[::stride], known[::stride])

    @precondition(Program.has_regions)
    @rule(pick=picks, way=st.sampled_from(("bytes({})", "bytes(iter({}))")))
    def copy_all(self, pick: int, way: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        call = f"_ = {way.format(region.name)}"
        # The iterator asks in pages, the last time behind the end.
        if self.touch(call, memory, 0, None, READ, by_byte="iter" in way):
            assert memory is not None
            self.compare(memory, 0, self.result)

    @precondition(Program.has_regions)
    @rule(pick=picks, item=st.sampled_from(("0", "65", "b'xy'", "b''")))
    def look_for_item(self, pick: int, item: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        if self.touch(f"_ = {item} in {region.name}", memory, 0, None, READ, scans=True):
            assert memory is not None
            data, known = memory.content(0, memory.size)
            assert UNKNOWN in known or self.result is (eval(item) in data)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, pattern=patterns, way=st.integers(0, 3))
    def write(self, pick: int, spot: Spot, pattern: bytes, way: int) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        count = 50 if count is None else max(count, 0)
        also: Errors = set()
        if way == 0:
            data, text = repeated(pattern, count)
            if memory is not None:
                data = data[: max(memory.size - start, 0)]
            call = f"{region.name}.write_slice({text}, {start})"
        elif way == 3:
            data, text = repeated(pattern, count)
            call = f"{region.name}.write_all({text}, {start})"
        elif way == 1:
            data, text = repeated(pattern, count)
            start = max(start, 0)
            call = f"{region.name}[{start}:{start + count}] = {text}"
            if memory is not None and count > max(memory.size - start, 0):
                also.add(InvalidArgumentError)
            if memory is not None:
                start = min(start, memory.size)
                data = data[: memory.size - start]
        else:
            data = pattern[:1]
            call = f"{region.name}[{start}] = {pattern[0]}"
            if memory is not None and -memory.size <= start < 0:
                start += memory.size
        self.write_and_model(call, memory, start, data, also=also)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, pattern=patterns)
    def write_strided(self, pick: int, spot: Spot, pattern: bytes) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        start, count = max(start, 0), 30 if count is None else min(max(count, 0), 100)
        if memory is not None:
            start = min(start, memory.size)
            count = min(count, memory.size - start)
        data, text = repeated(pattern, -(-count // 3))
        call = f"{region.name}[{start}:{start + count}:3] = {text}"
        needed = (count - 1) // 3 * 3 + 1 if count else 0
        was_whole = memory is not None and not memory.faults
        done = self.touch(call, memory, start, needed, WRITE, by_byte=True)
        if memory is not None and done:
            before, known = map(bytearray, memory.content(start, start + needed))
            before[::3], known[::3] = data, bytes([KNOWN]) * len(data)
            memory.put(start, bytes(before), bytes(known))
        elif memory is not None and was_whole:
            for page in memory.touched(start, start + needed):
                page.forget()  # how far it came, nobody knows

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, name=st.sampled_from(sorted(SCALARS)), is_volatile=st.booleans())
    def read_number(self, pick: int, spot: Spot, name: str, is_volatile: bool) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, _ = spot.of(*place(memory))
        self.number(region, memory, start, name, is_volatile=is_volatile)

    @precondition(Program.has_regions)
    @rule(
        pick=picks,
        spot=spots,
        name=st.sampled_from(sorted(SCALARS)),
        value=st.integers(-200, 2**33),
        is_volatile=st.booleans(),
    )
    def write_number(self, pick: int, spot: Spot, name: str, value: int, is_volatile: bool) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, _ = spot.of(*place(memory))
        self.number(region, memory, start, name, value, is_volatile=is_volatile)

    def number(
        self,
        region: Region,
        memory: Memory | None,
        start: int,
        name: str,
        value: int | None = None,
        *,
        is_volatile: bool,
    ) -> None:
        code = SCALARS[name]
        width = struct.calcsize(code)
        suffix = "_volatile" if is_volatile else ""
        also: Errors = set()
        if memory is not None and is_volatile and (memory.head + start) % width:
            also.add(VolatileMisalignedError)
        if value is None:
            call = f"_ = {region.name}.read_obj{suffix}({name}, {start})"
            if self.touch(call, memory, start, width, READ, also=also):
                assert memory is not None
                data, known = memory.content(start, start + width)
                if UNKNOWN not in known:
                    wanted, got = struct.unpack(code, data)[0], self.result
                    assert repr(got) == repr(wanted), f"{call} is {got} and should be {wanted}"
            return
        try:
            data = struct.pack(code, value)
        except struct.error:
            data = bytes(width)
            also.add(InvalidArgumentError)
        call = f"{region.name}.write_obj{suffix}({name}, {value}, {start})"
        self.write_and_model(call, memory, start, data, also=also)

    @precondition(Program.has_regions)
    @rule(
        pick=picks,
        spot=spots,
        needle=st.binary(max_size=3),
        taken=st.sampled_from((None, 0, -1, 50)),
        way=st.sampled_from(("find", "rfind")),
        from_end=st.booleans(),
    )
    def search(
        self, pick: int, spot: Spot, needle: bytes, taken: int | None, way: str, from_end: bool
    ) -> None:
        """A needle is looked for: any, or one of its size that is there, `taken` from the range."""
        region = self.a_region(pick)
        memory = region.memory
        first, count = spot.of(*place(memory))
        last = None if count is None else first + count
        if memory is not None and taken is not None:
            end = memory.size if last is None else min(last, memory.size)
            within, _ = memory.content(max(first, 0), end)
            at = taken if taken >= 0 else len(within) - len(needle)
            needle = within[at : at + len(needle)]
        if from_end and memory is not None:
            first -= memory.size
        call = f"_ = {region.name}.{way}({needle!r}, {first}, {last})"
        start, end, _ = slice(first, last).indices(memory.size if memory else 0)
        if memory is not None and (first > memory.size or start > end):
            self.step(call)  # no range, so nothing to check
            assert self.result == -1
            return
        if self.touch(call, memory, start, end - start, READ, scans=True):
            assert memory is not None
            data, known = memory.content(start, end)
            found = self.result
            if UNKNOWN not in known and not memory.faults:
                wanted = getattr(data, way)(needle)
                assert found == (wanted if wanted < 0 else wanted + start)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots)
    def look_for_zeros(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        call = f"_ = {region.name}.is_all_zero({start}, {count})"
        if self.touch(call, memory, start, count, READ, scans=True):
            assert memory is not None
            data, known = memory.content(start, memory.size if count is None else start + count)
            if UNKNOWN not in known:
                assert self.result == (not any(data))

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots)
    def flush(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        call = f"{region.name}.flush_region({start}, {count})"
        if count is None:
            start, count = 0, 0 if memory is None else memory.size
            call = f"{region.name}.flush_all()"
        if memory is not None and 0 <= start <= start + count <= memory.size:
            # The range is widened to whole cache lines, never past a page.
            self.flush_lines(call, memory, start, count)
        else:
            self.touch(call, memory, start, count, READ)

    def flush_lines(self, call: str, memory: Memory, start: int, count: int) -> None:
        must, may = self.refusals(memory, start, count, READ)
        lacking = set[int]() if must else memory.missing(start, start + count)
        may = may | {UnsupportedByKernelError}
        if lacking:
            may.add(MappingFaultError)
        self.step(call, must, may)
        if isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure, lacking)
