"""Arenas: what is put in and taken out."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE, known_bytes

from mmapwrap import (
    AccessDeniedError,
    InvalidArgumentError,
    MappingFaultError,
    MemfdSeals,
    NotPageAlignedError,
    OperationNotPermittedError,
    UnsupportedOperationError,
)
from random_programs.arguments import (
    Spot,
    bits_of,
    picks,
    protections,
    sizes,
    spots,
    whole_pages,
)
from random_programs.model import EXEC, READ, WRITE, Memory, Page, Region, Store, hole
from random_programs.program import Errors, Program


class ArenaSteps(Program):
    """Arenas, and what becomes one."""

    @rule(size=sizes, start=st.sampled_from(range(4)))
    def make_arena(self, size: int, start: int) -> None:
        name = self.new_name("a")
        if self.step(
            f"{name} = MemoryMappingArena.new({size})", set() if size else {InvalidArgumentError}
        ):
            pages = [hole() for _ in range(-(-size // PAGE))]
            memory = Memory(len(pages) * PAGE, 0, pages, is_arena=True)
            self.add_region(name, memory)
            if start < len(pages):
                self.step(f"{name}.add_anon({start * PAGE}, {(len(pages) - start) * PAGE})")
                store = Store()
                for i in range(start, len(pages)):
                    pages[i] = Page(store, i, is_private=False, bits=READ | WRITE)
                count = (len(pages) - start) * PAGE
                call = f"{name}.write_slice(known_bytes({count}), {start * PAGE})"
                self.write_and_model(call, memory, start * PAGE, known_bytes(count))

    @precondition(Program.has_regions)
    @rule(
        pick=picks, way=st.sampled_from(("{}.into_arena()", "MemoryMappingArena.from_mapping({})"))
    )
    def into_arena(self, pick: int, way: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        if memory is None or memory.is_arena:
            return
        must: Errors = {NotPageAlignedError} if memory.head else set()
        if memory.faults:
            must.add(MappingFaultError)
        if memory.room > len(memory.pages):
            must.add(UnsupportedOperationError)
        may: Errors = {MappingFaultError} if memory.is_doubtful else set()
        name = self.new_name("a")
        if self.step(f"{name} = {way.format(region.name)}", must, may):
            memory.size, memory.is_arena = len(memory.pages) * PAGE, True
            region.memory = None
            self.regions.append(Region(name, memory))

    def change_arena(
        self, region: Region, start: int, size: int, call: str, must: Errors, may: Errors
    ) -> range | None:
        """Runs a line that changes what an arena holds; gives the pages that it changed."""
        memory = region.memory
        assert memory is not None
        count = -(-size // PAGE) * PAGE
        refused, allowed = self.refusals(memory, start, count, whole="yes", keeps=0)
        must = must | refused
        if start % PAGE:  # which is looked at before the range
            must.add(NotPageAlignedError)
        if size <= 0:
            must.add(InvalidArgumentError)
        if self.step(call, must, may | allowed):
            return range(start // PAGE, (start + count) // PAGE)
        return None

    @precondition(Program.has_arenas)
    @rule(pick=picks, spot=spots, protection=protections)
    def add_memory(self, pick: int, spot: Spot, protection: str) -> None:
        region = self.an_arena(pick)
        assert region.memory is not None
        start, size = whole_pages(spot, region.memory)
        size = PAGE if size is None else size
        call = f"{region.name}.add_anon_protection({start}, {size}, Protection.{protection}())"
        if protection == "read_write" and pick % 2:
            call = f"{region.name}.add_anon({start}, {size})"
        if changed := self.change_arena(region, start, size, call, set(), set()):
            store = Store()
            for i in changed:
                region.memory.pages[i] = Page(store, i, is_private=False, bits=bits_of(protection))

    @precondition(lambda self: self.has_arenas() and self.has_files())
    @rule(
        pick=picks,
        which=picks,
        spot=spots,
        offset=st.sampled_from((0, 0, 0, 1, 2, 4, -1)),
        protection=protections,
    )
    def add_file(self, pick: int, which: int, spot: Spot, offset: int, protection: str) -> None:
        region, file = self.an_arena(pick), self.some(self.files, which)
        assert region.memory is not None
        start, size = whole_pages(spot, region.memory)
        size = PAGE if size is None else size
        bits, prot = bits_of(protection), f"Protection.{protection}()"
        must: Errors = {ValueError} if file.is_closed else set()
        may: Errors = {AccessDeniedError, OperationNotPermittedError} if bits & EXEC else set()
        file_offset = offset * PAGE if offset >= 0 else 100
        if offset < 0:
            must.add(NotPageAlignedError)
        sealed = file.store.seals & (MemfdSeals.WRITE | MemfdSeals.FUTURE_WRITE)
        if sealed and bits & WRITE:
            must.add(OperationNotPermittedError)
        call = f"add_fd_offset_protection({start}, {size}, {file.name}, {file_offset}, {prot})"
        if pick % 3 == 0:
            call = f"add_fd_mapping({start}, {size}, {file.name}, {file_offset}, {prot})"
        elif protection == "read_write" and offset:
            call = f"add_fd_offset({start}, {size}, {file.name}, {file_offset})"
        elif protection == "read_write":
            call = f"add_fd({start}, {size}, {file.name})"
        call = f"{region.name}.{call}"
        if changed := self.change_arena(region, start, size, call, must, may):
            for i in changed:
                index = offset + i - changed.start
                region.memory.pages[i] = Page(file.store, index, is_private=False, bits=bits)

    @precondition(Program.has_arenas)
    @rule(pick=picks, spot=spots, way=st.sampled_from(("remove", "remove_mapping")))
    def remove(self, pick: int, spot: Spot, way: str) -> None:
        region = self.an_arena(pick)
        assert region.memory is not None
        start, size = whole_pages(spot, region.memory)
        size = PAGE if size is None else size
        call = f"{region.name}.{way}({start}, {size})"
        if changed := self.change_arena(region, start, size, call, set(), set()):
            for i in changed:
                region.memory.pages[i] = hole()

    @precondition(Program.has_regions)
    @rule(pick=picks, adds=st.booleans())
    def change_another_region(self, pick: int, adds: bool) -> None:
        """Only an arena holds mappings."""
        region = self.a_region(pick)
        if region.memory is not None and not region.memory.is_arena:
            call = f"{region.name}.remove_mapping(0, {PAGE})"
            if adds:
                call = f"{region.name}.add_fd_mapping(0, {PAGE}, 0, 0, Protection.read())"
            self.step(call, {UnsupportedOperationError})

    @precondition(Program.has_arenas)
    @rule(pick=picks)
    def list_segments(self, pick: int) -> None:
        region = self.an_arena(pick)
        assert region.memory is not None
        self.step(f"_ = {region.name}.segments()")
        listed: dict[int, tuple[int, int | None]] = {}
        for segment in self.result:
            for at in range(0, segment.size, PAGE):
                offset = None if segment.fd_offset is None else segment.fd_offset + at
                listed[segment.offset + at] = (int(segment.prot), offset)
        if not region.memory.faults:  # what the handler put there is no news to the arena
            assert listed == {
                i * PAGE: (
                    page.allowed,
                    None if page.store is None or page.store.size is None else page.index * PAGE,
                )
                for i, page in enumerate(region.memory.pages)
                if page.is_mapped
            }
        if not region.memory.faults and not region.memory.is_doubtful:
            self.compare_layout(region, region.memory)
