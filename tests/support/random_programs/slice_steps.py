"""Volatile slices."""

import struct

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import ClosedMappingError, VolatileMisalignedError, VolatileOutOfBoundsError
from random_programs.arguments import SCALARS, Spot, patterns, picks, place, repeated, sizes, spots
from random_programs.model import READ, UNKNOWN, Part
from random_programs.program import Errors, Program


class SliceSteps(Program):
    """Slices made, cut and used."""

    @precondition(lambda self: self.has_regions() and len(self.parts) < 6)
    @rule(pick=picks, spot=spots)
    def get_slice(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        count = 100 if count is None else count
        must: Errors = set()
        if memory is None:
            must.add(ClosedMappingError)
        elif not 0 <= start <= start + count <= memory.size:
            must.add(VolatileOutOfBoundsError)
        name = self.new_name("p")
        if self.step(f"{name} = {region.name}.get_slice({start}, {count})", must):
            assert memory is not None
            self.parts.append(Part(name, memory, start, count))
            self.compare_part(self.parts[-1])

    def compare_part(self, part: Part) -> None:
        count = min(part.size, 3 * PAGE)
        call = f"_ = bytearray({count}); {part.name}.copy_to(_)"
        if self.touch(call, part.memory, part.start, count, READ):
            self.compare(part.memory, part.start, bytes(self.result))

    @precondition(Program.has_parts)
    @rule(pick=picks)
    def look_at_slice(self, pick: int) -> None:
        part = self.some(self.parts, pick)
        self.step(f"_ = {part.name}.size, len({part.name}), repr({part.name})")
        assert self.result[:2] == (part.size, part.size)
        for region in self.regions:
            if region.memory is part.memory:
                self.step(f"_ = {part.name}.address - {region.name}.as_ptr()")
                assert self.result == part.start

    @precondition(Program.has_parts)
    @rule(
        pick=picks, spot=spots, way=st.sampled_from(("sub", "offset", "advance", "truncate", "del"))
    )
    def change_slice(self, pick: int, spot: Spot, way: str) -> None:
        part = self.some(self.parts, pick)
        at, count = spot.of(part.size)
        count = 10 if count is None else count
        outside: Errors = {VolatileOutOfBoundsError}
        if way == "del":
            self.step(f"del {part.name}")
            self.parts.remove(part)
        elif way == "truncate":
            if self.step(f"{part.name}.truncate({at})", outside if at < 0 else set()):
                part.size = min(part.size, at)
        elif way == "advance":
            must = set[type[Exception]]() if 0 <= at <= part.size else outside
            if self.step(f"{part.name}.advance({at})", must):
                part.start, part.size = part.start + at, part.size - at
                self.compare_part(part)
        elif len(self.parts) < 8:
            name = self.new_name("p")
            if way == "offset":
                call, count = f"offset({at})", part.size - at
            else:
                call = f"sub_slice({at}, {count})"
            must = set[type[Exception]]() if 0 <= at <= at + count <= part.size else outside
            if self.step(f"{name} = {part.name}.{call}", must):
                self.parts.append(Part(name, part.memory, part.start + at, count))
                self.compare_part(self.parts[-1])

    @precondition(Program.has_parts)
    @rule(
        pick=picks,
        count=sizes,
        pattern=patterns,
        way=st.sampled_from(("read", "write", "fill", "zeros", "load", "store")),
        at=st.sampled_from((0, 8, 1, 4000, 5000)),
    )
    def use_slice(self, pick: int, count: int, pattern: bytes, way: str, at: int) -> None:
        part = self.some(self.parts, pick)
        memory, start, size = part.memory, part.start, part.size
        count = min(count, size)
        if way == "read":
            call = f"_ = bytearray({count}); {part.name}.copy_to(_)"
            if self.touch(call, memory, start, count, READ):
                self.compare(memory, start, bytes(self.result))
        elif way == "write":
            data, text = repeated(pattern, count)
            self.write_and_model(f"{part.name}.copy_from({text})", memory, start, data)
        elif way == "fill":
            call = f"{part.name}.write_bytes({pattern[0]})"
            self.write_and_model(call, memory, start, pattern[:1] * size)
        elif way == "zeros":
            call = f"_ = {part.name}.is_all_zero()"
            if self.touch(call, memory, start, size, READ, scans=True):
                data, known = memory.content(start, start + size)
                assert UNKNOWN in known or self.result == (not any(data))
        else:
            also: Errors = {VolatileMisalignedError} if (memory.head + start + at) % 8 else set()
            if at + 8 > size:
                is_load = way == "load"
                call = f"load(u64, {at})" if is_load else f"store(u64, 1, {at})"
                self.step(f"{part.name}.{call}", {VolatileOutOfBoundsError})
            elif way == "load":
                if self.touch(
                    f"_ = {part.name}.load(u64, {at})", memory, start + at, 8, READ, also=also
                ):
                    self.compare(memory, start + at, struct.pack("=Q", self.result))
            else:
                data = (pattern * 8)[:8]
                value = int.from_bytes(data, "little")
                call = f"{part.name}.store(le_u64, {value}, {at})"
                self.write_and_model(call, memory, start + at, data, also=also)

    @precondition(Program.has_parts)
    @rule(pick=picks, spot=spots, pattern=patterns, reads=st.booleans())
    def copy_exactly(self, pick: int, spot: Spot, pattern: bytes, reads: bool) -> None:
        part = self.some(self.parts, pick)
        at, count = spot.of(part.size)
        count = 10 if count is None else count
        start = part.start + at
        data, text = repeated(pattern, count)
        call = f"{part.name}.write_all({text}, {at})"
        if reads:
            call = f"_ = bytearray({len(data)}); {part.name}.read_exact(_, {at})"
        if not 0 <= at <= at + len(data) <= part.size:
            self.step(call, {VolatileOutOfBoundsError})
        elif not reads:
            self.write_and_model(call, part.memory, start, data)
        elif self.touch(call, part.memory, start, len(data), READ):
            self.compare(part.memory, start, bytes(self.result))

    @precondition(Program.has_parts)
    @rule(
        pick=picks,
        count=sizes,
        pattern=patterns,
        name=st.sampled_from(sorted(SCALARS)),
        at=st.sampled_from((0, 8, 1, 4000, 5000)),
        is_load=st.booleans(),
    )
    def use_numbers(
        self, pick: int, count: int, pattern: bytes, name: str, at: int, is_load: bool
    ) -> None:
        """Numbers in a row, loaded from a slice or stored into it."""
        part = self.some(self.parts, pick)
        memory, start = part.memory, part.start + at
        code = SCALARS[name]
        width = struct.calcsize(code)
        count //= width
        also: Errors = {VolatileMisalignedError} if (memory.head + start) % width else set()
        value = min(pattern) // 2  # every scalar holds half of what a byte does
        call = f"{part.name}.store_many({name}, [{value}] * {count}, {at})"
        if is_load:
            call = f"_ = {part.name}.load_many({name}, {count}, {at})"
        if at + count * width > part.size:
            self.step(call, {VolatileOutOfBoundsError})
        elif not is_load:
            data = struct.pack(code, value) * count
            self.write_and_model(call, memory, start, data, also=also)
        elif self.touch(call, memory, start, count * width, READ, also=also):
            content, known = memory.content(start, start + count * width)
            if UNKNOWN not in known:
                wanted = struct.unpack(f"{code[0]}{count}{code[1]}", content)
                assert list(map(repr, self.result)) == list(map(repr, wanted))
