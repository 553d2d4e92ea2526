"""The drop-in for the standard library's `mmap`, beside its mapping: made, resized, closed."""

from typing import Final

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import (
    ClosedMappingError,
    MappingFaultError,
    MemfdSeals,
    OperationNotPermittedError,
    SystemCallError,
    UnsupportedByKernelError,
)
from random_programs.arguments import picks, sizes
from random_programs.model import READ, WRITE, File, Memory, Page, Region, Store
from random_programs.positions import DropIn, Opened
from random_programs.program import Errors, Program
from random_programs.view_steps import ViewSteps

DEFAULT, READ_ONLY, THROUGH, COPY = range(4)

# Each way to say what is allowed, and what it comes to: the access, and whether writes make copies.
WAYS: Final[dict[str, tuple[int, bool]]] = {
    "access=mmap.ACCESS_DEFAULT": (DEFAULT, False),
    "access=mmap.ACCESS_READ": (READ_ONLY, False),
    "access=mmap.ACCESS_WRITE": (THROUGH, False),
    "access=mmap.ACCESS_COPY": (COPY, True),
    "flags=mmap.MAP_PRIVATE": (DEFAULT, True),
    "prot=mmap.PROT_READ": (READ_ONLY, False),
    "prot=mmap.PROT_WRITE": (THROUGH, False),
    "access=mmap.ACCESS_READ, flags=mmap.MAP_PRIVATE": (-1, False),
}


class DropInSteps(ViewSteps):
    """`mmap.mmap` from its start to its end."""

    @precondition(lambda self: len(self.drop_ins) < 4)
    @rule(
        pick=picks,
        has_file=st.booleans(),
        size=sizes,
        offset=st.sampled_from((0, 0, 0, PAGE, 100)),
        way=st.sampled_from(sorted(WAYS)),
        is_tracked=st.sampled_from((True, True, True, False)),
    )
    def map_drop_in(
        self, pick: int, has_file: bool, size: int, offset: int, way: str, is_tracked: bool
    ) -> None:
        access, is_private = WAYS[way]
        must: Errors = {ValueError} if access < 0 else set()
        if offset % PAGE:
            must.add(OSError)
        bits, store, fd, length = READ | WRITE, None, "-1", size
        if access == READ_ONLY:
            bits = READ
        if has_file and self.files:
            file = self.some(self.files, pick)
            store, fd = file.store, f"{file.name}.fileno()"
            assert store.size is not None
            length = size or store.size - offset
            if file.is_closed or length <= 0 or offset + length > store.size:
                must.add(ValueError)
            sealed = store.seals & (MemfdSeals.WRITE | MemfdSeals.FUTURE_WRITE)
            if sealed and bits & WRITE and not is_private:
                must.add(OperationNotPermittedError)
        elif size == 0:
            must.add(OSError)
        options = f"{way}, offset={offset}, trackfd={is_tracked}"
        name = self.new_name("d")
        if self.step(f"{name} = mmap.mmap({fd}, {size}, {options})", must):
            memory = self.drop_in_memory(store, offset, length, bits, is_private=is_private)
            drop_in = DropIn(
                name,
                self.add_mapping_of(name, memory),
                Opened(name, memory, 0, None, access != READ_ONLY),
                access,
                bits,
                is_private,
                store,
                offset,
                is_tracked,
            )
            self.drop_ins.append(drop_in)

    def drop_in_memory(
        self, store: Store | None, offset: int, size: int, bits: int, *, is_private: bool
    ) -> Memory:
        behind = store or (None if is_private else Store())
        first = offset // PAGE if store else 0
        pages = [Page(behind, first + i, is_private, bits) for i in range(-(-size // PAGE))]
        memory = Memory(size, 0, pages)
        if store is not None:
            memory.file, memory.offset = File("", store, 0, is_memfd=False), offset
        return memory

    def add_mapping_of(self, name: str, memory: Memory) -> Region:
        """What is below a drop-in is a region as any other."""
        region = self.new_name("r")
        self.step(f"{region} = {name}.mapping")
        self.add_region(region, memory)
        return self.regions[-1]

    def a_drop_in(self, pick: int) -> DropIn:
        """One that is open, but for one pick in sixteen."""
        drop_ins = self.drop_ins
        wanted = [each for each in drop_ins if (each.memory is None) == (pick % 16 == 7)]
        drop_in = self.some(wanted or drop_ins, pick)
        drop_in.opened.is_closed = drop_in.memory is None
        return drop_in

    @precondition(Program.has_drop_ins)
    @rule(pick=picks)
    def look_at_drop_in(self, pick: int) -> None:
        drop_in = self.a_drop_in(pick)
        name, memory = drop_in.name, drop_in.memory
        self.step(f"_ = {name}.closed, {name}.mapping.closed, {name}.seekable(), repr({name})")
        assert self.result[:3] == (memory is None, memory is None, True)
        must: Errors = {ValueError} if memory is None else set()
        if self.step(f"_ = len({name}), {name}.tell()", must):
            assert memory is not None
            assert self.result == (memory.size, drop_in.opened.position)
        self.ask_size(drop_in)

    def ask_size(self, drop_in: DropIn) -> None:
        """The bytes of the file, as far as there is a descriptor to ask."""
        must: Errors = set()
        if drop_in.memory is None:
            must.add(ClosedMappingError)
        elif not drop_in.is_tracked:
            must.add(OSError)
        if self.step(f"_ = {drop_in.name}.size()", must):
            memory, store = drop_in.memory, drop_in.store
            assert self.result == (store.size if store else memory and memory.size)

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, way=st.sampled_from(("close", "with", "del")))
    def end_drop_in(self, pick: int, way: str) -> None:
        drop_in = self.a_drop_in(pick)
        name, memory = drop_in.name, drop_in.memory
        must: Errors = {BufferError} if memory and memory.exports else set()
        if way == "del":
            self.step(f"del {name}")
            self.drop_ins.remove(drop_in)
            return
        if way == "with" and memory is None:
            must.add(ValueError)
        if self.step(f"{name}.close()" if way == "close" else f"with {name}: pass", must):
            drop_in.region.memory = None

    @precondition(lambda self: self.has_drop_ins() and len(self.views) < 8)
    @rule(pick=picks)
    def view_drop_in(self, pick: int) -> None:
        drop_in = self.a_drop_in(pick)
        self.new_view(Region(drop_in.name, drop_in.memory), 0, None, "memoryview({})")

    @precondition(Program.has_drop_ins)
    @rule(pick=picks)
    def name_drop_in(self, pick: int) -> None:
        drop_in = self.a_drop_in(pick)
        must: Errors = {ValueError} if drop_in.store or drop_in.memory is None else set()
        may: Errors = {SystemCallError, UnsupportedByKernelError, MappingFaultError}
        self.step(f"{drop_in.name}.set_name('random')", must, may)

    @precondition(Program.has_drop_ins)
    @rule(pick=picks, size=sizes)
    def resize_drop_in(self, pick: int, size: int) -> None:
        """The file gets another length, and another mapping takes the place of the first.

        Memory without a file is resized in place, by the call that the steps of growth make.
        """
        drop_in = self.a_drop_in(pick)
        memory, store = drop_in.memory, drop_in.store
        call = f"{drop_in.name}.resize({size})"
        if memory is None:
            self.step(call, {ValueError})
            return
        if store is None:
            return
        must, may = self._resize_errors(drop_in, memory, size)
        if not self.step(call, must, may):
            return
        file = File("", store, 0, is_memfd=False)
        self.model_resize(file, drop_in.offset + size)
        bits, is_private = drop_in.bits, drop_in.is_private
        new = self.drop_in_memory(store, drop_in.offset, size, bits, is_private=is_private)
        if is_private:
            new.put(0, *memory.content(0, min(size, memory.size)))
        if drop_in.region in self.regions:
            self.step(f"{drop_in.region.name}.close()")
        drop_in.region.memory = None
        drop_in.region = self.add_mapping_of(drop_in.name, new)
        drop_in.opened.memory = new

    def _resize_errors(self, drop_in: DropIn, memory: Memory, size: int) -> tuple[Errors, Errors]:
        must: Errors = {BufferError} if memory.exports else set()
        may: Errors = set()
        if drop_in.access in (READ_ONLY, COPY):
            must.add(TypeError)
        if not drop_in.is_tracked:
            must.add(ValueError)
        if size == 0:
            must.add(OSError)
        store = drop_in.store
        if store is not None:
            assert store.size is not None
            end = drop_in.offset + size
            seals = store.seals
            if (end > store.size and seals & MemfdSeals.GROW) or (
                end < store.size and seals & MemfdSeals.SHRINK
            ):
                must.add(PermissionError)
            if seals & (MemfdSeals.WRITE | MemfdSeals.FUTURE_WRITE) and not drop_in.is_private:
                must.add(OperationNotPermittedError)
        elif not drop_in.is_private and size > memory.size:
            must.add(ValueError)
        if drop_in.is_private or store is None:  # its bytes are copied
            refused, may = self.refusals(memory, 0, min(size, memory.size), READ)
            must |= refused
        return must, may
