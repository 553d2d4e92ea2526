"""The drop-in for the standard library's `mmap`: its position, and its bytes."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import InvalidRangeError, RegionBusyError, SystemCallError
from random_programs.arguments import Spot, patterns, picks, place, repeated, sizes, spots
from random_programs.door_steps import DoorSteps
from random_programs.drop_in_steps import COPY, READ_ONLY, DropInSteps
from random_programs.model import READ, UNKNOWN
from random_programs.opened_steps import OpenedSteps, counts
from random_programs.paging_steps import PagingSteps
from random_programs.program import Errors, Program


class DropInContentSteps(DropInSteps, DoorSteps, OpenedSteps, PagingSteps):
    """What is read, written, looked for and flushed."""

    # --- The position -----------------------------------------------------------------------------

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, spot=spots, whence=st.sampled_from((0, 0, 1, 2, 3)))
    def seek_drop_in(self, pick: int, spot: Spot, whence: int) -> None:
        drop_in = self.a_drop_in(pick)
        opened, memory = drop_in.opened, drop_in.memory
        distance, _ = spot.of(*place(memory))
        if whence == 2:
            distance = -distance
        size = memory.size if memory else 0
        to = distance + (0, opened.position, size, 0)[whence]
        is_refused = memory is None or whence == 3 or not 0 <= to <= size
        must: Errors = {ValueError} if is_refused else set()
        if self.step(f"_ = {drop_in.name}.seek({distance}, {whence})", must):
            assert self.result == to
            opened.position = to

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, count=counts, way=st.sampled_from(("read", "read", "readline", "read_byte")))
    def read_drop_in(self, pick: int, count: int | None, way: str) -> None:
        drop_in = self.a_drop_in(pick)
        name, opened = drop_in.name, drop_in.opened
        if way == "readline":
            self.read_line(opened, f"_ = {name}.readline()", None)
        elif way == "read":
            self.read_on(opened, f"_ = {name}.read({count})", count)
        elif opened.is_closed or opened.rest:
            self.read_on(opened, f"_ = bytes([{name}.read_byte()])", 1)
        else:
            must, may = self.refusals(drop_in.memory, opened.at, 0, READ)
            self.step(f"{name}.read_byte()", must | {ValueError}, may)

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, pattern=patterns, count=sizes, is_byte=st.booleans())
    def write_drop_in(self, pick: int, pattern: bytes, count: int, is_byte: bool) -> None:
        drop_in = self.a_drop_in(pick)
        opened = drop_in.opened
        also: Errors = {TypeError} if drop_in.access == READ_ONLY else set()
        data, text = repeated(pattern, count % 3000)
        call = f"_ = {drop_in.name}.write({text})"
        if is_byte:
            data = pattern[:1]
            call = f"_ = {drop_in.name}.write_byte({data[0]})"
        if opened.position + len(data) > opened.size:
            also.add(ValueError)
        self.write_on(opened, call, data, also)

    # --- Content ----------------------------------------------------------------------------------

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, spot=spots, way=st.sampled_from(("byte", "slice", "all", "in", "delete")))
    def read_items(self, pick: int, spot: Spot, way: str) -> None:
        drop_in = self.a_drop_in(pick)
        name, memory = drop_in.name, drop_in.memory
        start, count = spot.of(*place(memory))
        size = memory.size if memory else 0
        match way:
            case "byte":
                call, count = f"_ = bytes([{name}[{start}]])", 1
                start += size if -size <= start < 0 else 0
            case "slice":
                count = 50 if count is None else max(count, 0)
                call = f"_ = {name}[{max(start, 0)}:{max(start, 0) + count}]"
                start, end, _ = slice(max(start, 0), max(start, 0) + count).indices(size)
                count = end - start
            case "all":
                call, start, count = f"_ = b''.join({name})", 0, None
            case "in":
                call, start, count = f"_ = b'A' in {name}", 0, None
            case _:
                self.step(f"del {name}[0]", {TypeError})
                return
        also: Errors = {ValueError} if memory is None else set()
        scans, by_byte = way == "in", way == "all"
        if self.touch(call, memory, start, count, READ, also=also, scans=scans, by_byte=by_byte):
            assert memory is not None
            if way == "in":
                data, known = memory.content(0, size)
                assert UNKNOWN in known or self.result is (b"A" in data)
            else:
                self.compare(memory, start, self.result)

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, spot=spots, pattern=patterns, is_byte=st.booleans())
    def write_items(self, pick: int, spot: Spot, pattern: bytes, is_byte: bool) -> None:
        drop_in = self.a_drop_in(pick)
        name, memory = drop_in.name, drop_in.memory
        start, count = spot.of(*place(memory))
        size = memory.size if memory else 0
        also: Errors = set()
        if memory is None:
            also.add(ValueError)
        elif drop_in.access == READ_ONLY:
            also.add(TypeError)
        if is_byte:
            data, call = pattern[:1], f"{name}[{start}] = {pattern[0]}"
            if not -size <= start < size:
                also.add(IndexError)
            start += size if -size <= start < 0 else 0
        else:
            start = max(start, 0)
            data, text = repeated(pattern, 50 if count is None else max(count, 0))
            call = f"{name}[{start}:{start + len(data)}] = {text}"
            first, end, _ = slice(start, start + len(data)).indices(size)
            if end - first != len(data):
                also.add(IndexError)
                data = data[: end - first]
            start = first
        if not data and not also:  # nothing, so nothing to check
            self.step(call)
        else:
            self.write_and_model(call, memory, start, data, also=also)

    @precondition(Program.has_drop_ins)
    @rule(
        pick=picks,
        spot=spots,
        needle=st.binary(max_size=2),
        way=st.sampled_from(("find", "rfind")),
        from_position=st.booleans(),
    )
    def search_drop_in(
        self, pick: int, spot: Spot, needle: bytes, way: str, from_position: bool
    ) -> None:
        drop_in = self.a_drop_in(pick)
        memory = drop_in.memory
        first, count = spot.of(*place(memory))
        last = None if count is None else first + count
        call = f"_ = {drop_in.name}.{way}({needle!r}, {first}, {last})"
        if from_position:
            call, first, last = (
                f"_ = {drop_in.name}.{way}({needle!r})",
                drop_in.opened.position,
                None,
            )
        if memory is None:
            self.step(call, {ValueError})
            return
        start, end, _ = slice(first, last).indices(memory.size)
        if start > end:
            self.step(call)  # no range, so nothing to check
            assert self.result == -1
        elif self.touch(call, memory, start, end - start, READ, scans=True):
            data, known = memory.content(0, memory.size)
            if UNKNOWN not in known:
                assert self.result == getattr(data, way)(needle, start, end)

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, spot=spots, source=st.sampled_from((0, 0, 1, 100, 4096, 5000, -1)))
    def move_in_drop_in(self, pick: int, spot: Spot, source: int) -> None:
        drop_in = self.a_drop_in(pick)
        memory = drop_in.memory
        target, count = spot.of(*place(memory))
        count = 10 if count is None else count
        call = f"{drop_in.name}.move({target}, {source}, {count})"
        also: Errors = {TypeError} if drop_in.access == READ_ONLY else set()
        if (
            memory is None
            or max(target, source) + count > memory.size
            or min(target, source, count) < 0
        ):
            also.add(ValueError)
        self.move_and_model(call, memory, target, source, count, also=also)

    # --- What the kernel does ---------------------------------------------------------------------

    @precondition(Program.has_drop_ins)
    @rule(
        pick=picks,
        spot=spots,
        flags=st.sampled_from(("MS_SYNC", "MS_ASYNC", "MS_ASYNC", "MS_INVALIDATE", "MAP_POPULATE")),
    )
    def flush_drop_in(self, pick: int, spot: Spot, flags: str) -> None:
        drop_in = self.a_drop_in(pick)
        memory = drop_in.memory
        start, count = spot.of(*place(memory))
        call = f"{drop_in.name}.flush({start}, {count}, flags=mmap.{flags})"
        must, may = self.refusals(memory, start, count)
        if memory is None or InvalidRangeError in must:
            self.step(call, {ValueError})
        elif drop_in.access in (READ_ONLY, COPY):
            self.step(call)
        else:
            if start % PAGE or flags == "MAP_POPULATE":
                must.add(OSError)
            if memory.is_locked:
                may.add(RegionBusyError)
            self.step(call, must, may)

    @precondition(Program.has_drop_ins)
    @rule(
        pick=picks,
        spot=spots,
        option=st.sampled_from(("WILLNEED", "NORMAL", "DONTNEED", "DONTNEED", "9999")),
    )
    def advise_drop_in(self, pick: int, spot: Spot, option: str) -> None:
        drop_in = self.a_drop_in(pick)
        memory = drop_in.memory
        start, count = spot.of(*place(memory))
        arguments = f"{start}" if count is None else f"{start}, {count}"
        constant = option if option.isdigit() else f"mmap.MADV_{option}"
        call = f"{drop_in.name}.madvise({constant}, {arguments})"
        if memory is None or not 0 <= start < memory.size or (count or 0) < 0:
            self.step(call, {ValueError})
            return
        end = memory.size if count is None else min(start + count, memory.size)
        if option == "DONTNEED":  # which takes whole pages
            end = min(-(-end // PAGE) * PAGE, memory.size)
        must, may = self.refusals(memory, start, end - start)
        if option == "9999" or start % PAGE:
            must.add(OSError)
        if option != "DONTNEED" or memory.is_locked:
            may.add(SystemCallError)
        done = self.step(call, must, may)
        if option == "DONTNEED" and not must:
            for page in memory.touched(start, end):
                self.model_advice(page, "DONTNEED", done=done)
