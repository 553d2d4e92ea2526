"""Views and guards."""

from typing import Final

import attrs
import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from mmapwrap import ClosedMappingError, MappingFaultError, UnsupportedOperationError
from random_programs.arguments import Spot, patterns, picks, place, repeated, sizes, spots
from random_programs.file_steps import FileSteps
from random_programs.model import READ, WRITE, Export, Guard, Memory, Region, View
from random_programs.program import Errors, Program

EXPORTS: Final = (
    "memoryview({})",
    "memoryview(np.frombuffer({}, np.uint8))",
    "memoryview(np.asarray({}))",
    "memoryview(np.ndarray(len({0}), np.uint8, buffer=memoryview({0})))",
)


class ViewSteps(FileSteps):
    """Memory that is used without the library, and what makes that safe."""

    @precondition(lambda self: self.has_regions() and len(self.views) < 8)
    @rule(pick=picks, spot=spots)
    def make_view(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        self.new_view(region, *spot.of(*place(region.memory)))

    @precondition(lambda self: self.has_regions() and len(self.views) < 8)
    @rule(pick=picks, way=st.sampled_from(EXPORTS))
    def make_array(self, pick: int, way: str) -> None:
        """A consumer asks a region for its buffer: NumPy, in its ways."""
        region = self.a_region(pick)
        self.new_view(region, 0, None, way)

    def new_view(
        self, region: Region, start: int, count: int | None, way: str | None = None
    ) -> View | None:
        memory = region.memory
        must, may = self.refusals(memory, start, count, READ)
        name = self.new_name("v")
        made_by = f"{region.name}.view({start}, {count})"
        if way is not None:
            made_by = way.format(region.name)
        if not self.step(f"{name} = {made_by}", must, may):
            return None
        assert memory is not None
        end = memory.size if count is None else start + count
        access = memory.allowed(start, end) & (READ | WRITE)
        export = Export(start, end, access, {name})
        memory.exports.append(export)
        is_writable = end > start and bool(access & WRITE)
        view = View(name, memory, export, start, end - start, is_writable)
        self.views.append(view)
        made = self.space[name]
        assert made.nbytes == view.size
        assert view.size == 0 or made.readonly is not view.is_writable
        return view

    @precondition(lambda self: self.has_views() and len(self.views) < 8)
    @rule(pick=picks, spot=spots)
    def cut_view(self, pick: int, spot: Spot) -> None:
        view = self.some(self.views, pick)
        start, count = spot.of(view.size)
        start = min(max(start, 0), view.size)
        end = view.size if count is None else min(max(start + count, start), view.size)
        name = self.new_name("v")
        self.step(f"{name} = {view.name}[{start}:{end}]")
        view.export.names.add(name)
        made = attrs.evolve(view, name=name, start=view.start + start, size=end - start)
        self.views.append(made)

    @precondition(Program.has_views)
    @rule(pick=picks)
    def drop_view(self, pick: int) -> None:
        self.drop(self.some(self.views, pick))

    def drop(self, view: View) -> None:
        self.step(f"del {view.name}")
        self.views.remove(view)
        view.export.names.remove(view.name)
        if not view.export.names:
            view.memory.exports.remove(view.export)

    @precondition(Program.has_views)
    @rule(pick=picks)
    def read_view(self, pick: int) -> None:
        view = self.some(self.views, pick)
        if self.can_touch(view):
            self.read_through(view)

    def read_through(self, view: View) -> None:
        memory, end = view.memory, view.start + view.size
        lacking = memory.missing(view.start, end)
        self.step(f"_ = bytes({view.name})")
        memory.fault(lacking, certain=True)
        self.compare(memory, view.start, self.result)

    @precondition(Program.has_views)
    @rule(pick=picks, spot=spots, pattern=patterns)
    def write_view(self, pick: int, spot: Spot, pattern: bytes) -> None:
        view = self.some(self.views, pick)
        if view.is_writable and self.can_touch(view):
            start, count = spot.of(view.size)
            start = min(max(start, 0), view.size)
            count = min(max(count or 9, 0), view.size - start)
            data, text = repeated(pattern, count)
            memory, at = view.memory, view.start + start
            lacking = memory.missing(at, at + count)
            self.step(f"{view.name}[{start}:{start + count}] = {text}")
            memory.fault(lacking, certain=True)
            memory.put(at, data)

    @precondition(Program.has_regions)
    @rule(pick=picks)
    def recover(self, pick: int) -> None:
        region = self.a_region(pick)
        must: Errors = {ClosedMappingError} if region.memory is None else set()
        may: Errors = {UnsupportedOperationError}
        if self.step(f"{region.name}.recover()", must, may) and region.memory is not None:
            region.memory.recover()

    # --- Guards ---------------------------------------------------------------------------------

    @precondition(lambda self: self.has_regions() and len(self.guards) < 5)
    @rule(pick=picks, enters=st.booleans())
    def make_guard(self, pick: int, enters: bool) -> None:
        region = self.a_region(pick)
        if region.memory is not None:
            guard = self.new_guard(region.name, region.memory)
            if enters:
                self.enter(guard)

    def new_guard(self, region: str, memory: Memory) -> Guard:
        name = self.new_name("g")
        self.step(f"{name} = {region}.fault_guard()")
        self.guards.append(Guard(name, memory))
        return self.guards[-1]

    @precondition(Program.has_guards)
    @rule(pick=picks)
    def enter_guard(self, pick: int) -> None:
        self.enter(self.some(self.guards, pick))

    def enter(self, guard: Guard) -> bool:
        must, may = self.refusals(guard.memory, 0, 0)
        if self.step(f"{guard.name}.__enter__()", must, may):
            guard.depth += 1
            guard.memory.guards += 1
            return True
        return False

    @precondition(Program.has_guards)
    @rule(pick=picks)
    def leave_guard(self, pick: int) -> None:
        guard = self.some(self.guards, pick)
        if guard.depth:
            self.leave(guard)
        else:
            self.step(f"del {guard.name}")
            self.guards.remove(guard)

    def leave(self, guard: Guard) -> None:
        memory = guard.memory
        guard.depth -= 1
        memory.guards -= 1
        must, may = self.refusals(memory, 0, 0)
        self.step(f"{guard.name}.__exit__(None, None, None)", must, may)
        if isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure)

    @precondition(lambda self: self.has_files() and len(self.guards) < 5 and len(self.views) < 8)
    @rule(pick=picks, which=picks, size=sizes, nests=st.booleans(), keeps=st.booleans())
    def cut_short_in_guard(
        self, pick: int, which: int, size: int, nests: bool, keeps: bool
    ) -> None:
        """A file is cut short under a view, which is then read."""
        file = self.some(self.files, which)
        over = [
            (region, region.memory)
            for region in self.regions
            if region.memory is not None
            and not region.memory.is_doubtful
            and any(page.store is file.store for page in region.memory.pages)
        ]
        if file.is_closed or not over:
            return
        region, memory = self.some(over, pick)
        view = self.new_view(region, 0, None)
        if view is None:
            return
        guard = self.new_guard(region.name, memory)
        if self.enter(guard):
            if nests and self.enter(guard):
                self.leave(guard)
            self.truncate(file, size)
            self.read_through(view)
            self.leave(guard)
        if not keeps:
            self.drop(view)
