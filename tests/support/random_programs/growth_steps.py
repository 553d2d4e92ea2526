"""Mappings that grow and shrink, with their files."""

from typing import Final

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import (
    AccessDeniedError,
    CapacityExceededError,
    ClosedMappingError,
    InvalidRangeError,
    LockLimitError,
    MappingFaultError,
    MemfdSeals,
    OperationNotPermittedError,
    OutOfMemoryError,
    PastEndOfFileError,
    ProtectionError,
    RegionBusyError,
    UnsupportedOperationError,
    ViewsExportedError,
)
from random_programs.arguments import bits_of, picks, protections, sizes
from random_programs.file_steps import FileSteps
from random_programs.model import KNOWN, WRITE, File, Memory, Page, Store
from random_programs.program import Errors, Program

CAPACITY: Final = 8 * PAGE


def is_changed(length: int, end: int, old_end: int) -> bool:
    """Whether a file changes its length with a mapping that ended elsewhere."""
    return end > length or end < length <= old_end


class GrowthSteps(FileSteps):
    """What changes the size of regions and of shared memory."""

    @rule(size=sizes, protection=protections, is_private=st.booleans())
    def map_growing_memory(self, size: int, protection: str, is_private: bool) -> None:
        name, bits = self.new_name("r"), bits_of(protection)
        sharing = "PRIVATE" if is_private else "SHARED"
        line = (
            f"{name} = MemoryMapping.anonymous({size}, prot=Protection.{protection}(),"
            f" sharing=Sharing.{sharing}, capacity={CAPACITY})"
        )
        if self.step(line):
            store = None if is_private else Store()
            pages = [Page(store, i, is_private, bits) for i in range(-(-size // PAGE))]
            memory = Memory(size, 0, pages, capacity=CAPACITY, last_bits=bits)
            memory.room = CAPACITY // PAGE
            memory.store, memory.is_private = store, is_private  # also of an empty one
            self.add_region(name, memory)

    @precondition(Program.has_files)
    @rule(
        pick=picks,
        offset=st.sampled_from((0, 0, 0, PAGE, 100)),
        protection=protections,
        way=st.sampled_from(("shared", "private", "map")),
    )
    def map_growing_file(self, pick: int, offset: int, protection: str, way: str) -> None:
        file = self.some(self.files, pick)
        if not file.is_closed and "execute" not in protection:
            self.new_growing_mapping(file, offset, protection, way)

    def new_growing_mapping(self, file: File, offset: int, protection: str, way: str) -> None:
        store, bits = file.store, bits_of(protection)
        assert store.size is not None
        is_private = way == "private"
        sharing = "PRIVATE" if is_private else "SHARED"
        size = max(store.size - offset, 0)
        name = self.new_name("r")
        must: Errors = set()
        rest = f"offset={offset}, prot=Protection.{protection}(), capacity={CAPACITY}"
        line = f"{name} = MemoryMapping.from_file({file.name}, sharing=Sharing.{sharing}, {rest})"
        if way == "map" and file.is_memfd:  # which keeps to the size that it knows
            line = f"{name} = {file.name}.map({rest})"
            size = max(file.size - offset, 0)
            if offset > file.size or (size and offset + size > store.size):
                must.add(PastEndOfFileError)
        if size > CAPACITY:
            must.add(CapacityExceededError)
        sealed = store.seals & (MemfdSeals.WRITE | MemfdSeals.FUTURE_WRITE)
        if sealed and bits & WRITE and not is_private:
            must.add(OperationNotPermittedError)
        if self.step(line, must):
            head = offset % PAGE
            pages = [
                Page(store, offset // PAGE + i, is_private, bits, is_read_only=file.is_read_only)
                for i in range(-(-(head + size) // PAGE))
            ]
            memory = Memory(size, head, pages, capacity=CAPACITY, last_bits=bits)
            memory.room = -(-(head + CAPACITY) // PAGE)
            memory.file, memory.offset = file, offset
            memory.store, memory.is_private = store, is_private
            self.add_region(name, memory)

    @precondition(Program.has_regions)
    @rule(pick=picks, size=sizes, allocates=st.booleans())
    def resize(self, pick: int, size: int, allocates: bool) -> None:
        region = self.a_region(pick)
        memory = region.memory
        call = f"{region.name}.resize({size}, allocate={allocates})"
        if memory is None or memory.is_arena:
            self.step(call, {ClosedMappingError, UnsupportedOperationError})
            return
        file = memory.file
        must, may = self._resize_refusals(memory, size)
        if file is not None:
            must |= self._file_refusals(memory, file, size)
            if memory.capacity is None:
                may.add(UnsupportedOperationError)
        elif size < memory.size and memory.is_private:
            end = min(-(-size // PAGE) * PAGE, memory.size)
            if size < end and WRITE & ~memory.allowed(size, end):
                must.add(ProtectionError)
        if self.step(call, must, may):
            if file is not None:
                self._resize_file(file, memory.offset + size, memory.offset + memory.size)
            self._change(memory, size)

    def _resize_refusals(self, memory: Memory, size: int) -> tuple[Errors, Errors]:
        """The errors that a new size must end with, and those that it may."""
        must: Errors = {MappingFaultError} if memory.faults else set()
        may: Errors = {MappingFaultError} if memory.is_doubtful else set()
        if memory.is_locked:
            may |= {LockLimitError, OutOfMemoryError, MappingFaultError}
        if memory.capacity is not None and size > memory.capacity:
            must.add(CapacityExceededError)
        moves = -(-(memory.head + size) // PAGE) > memory.room
        if moves and not must:
            # Ranges that differ in protection, advice or locks do not move.
            may |= {UnsupportedOperationError, OutOfMemoryError}
            if not memory.is_of_file and not memory.is_private:
                must.add(UnsupportedOperationError)
            if any(export.start < export.end for export in memory.exports):
                must.add(ViewsExportedError)
            if memory.guards:
                must.add(RegionBusyError)
        if any(size < export.end for export in memory.exports if export.start < export.end):
            must.add(ViewsExportedError)
        return must, may

    def _file_refusals(self, memory: Memory, file: File, size: int) -> Errors:
        """The errors that a file must end a change of its length with."""
        store = file.store
        assert store.size is not None
        if memory.is_private:
            return {UnsupportedOperationError}
        bits = [page.bits for page in memory.pages] or [memory.last_bits]
        if memory.capacity is None and not any(each & WRITE for each in bits):
            return {AccessDeniedError}
        end, old_end = memory.offset + size, memory.offset + memory.size
        if file.is_read_only and is_changed(store.size, end, old_end):
            return {AccessDeniedError}
        if end > store.size and store.seals & MemfdSeals.GROW:
            return {OperationNotPermittedError}
        if end < store.size <= old_end and store.seals & MemfdSeals.SHRINK:
            return {OperationNotPermittedError}
        return set()

    def _resize_file(self, file: File, end: int, old_end: int) -> None:
        assert file.store.size is not None
        if is_changed(file.store.size, end, old_end):
            self.model_resize(file, end)

    def _change(self, memory: Memory, size: int) -> None:
        """A region has another size: pages that come are new, pages that go are forgotten."""
        count = -(-(memory.head + size) // PAGE)
        store, is_private = memory.store, memory.is_private
        if size < memory.size:
            is_own = not memory.is_of_file and memory.is_private
            if is_own and size % PAGE and size // PAGE < len(memory.pages):
                rest = PAGE - size % PAGE
                memory.pages[size // PAGE].put(size % PAGE, bytes(rest), bytes([KNOWN]) * rest)
        if memory.pages and memory.size:
            last = (memory.head + min(size, memory.size) - 1) // PAGE
            memory.last_bits = memory.pages[max(last, 0)].bits
        del memory.pages[count:]
        first = memory.offset // PAGE
        is_read_only = memory.file is not None and memory.file.is_read_only
        memory.pages.extend(
            Page(store, first + i, is_private, memory.last_bits, is_read_only=is_read_only)
            for i in range(len(memory.pages), count)
        )
        memory.size, memory.room = size, max(memory.room, count)
        for part in [part for part in self.parts if part.memory is memory]:
            if part.start + part.size > size:  # its bytes are the region's no more
                self.step(f"{part.name}.copy_to(bytearray({part.size}))", {InvalidRangeError})
                self.step(f"del {part.name}")
                self.parts.remove(part)

    @precondition(Program.has_regions)
    @rule(pick=picks)
    def refresh(self, pick: int) -> None:
        region = self.a_region(pick)
        memory = region.memory
        call = f"_ = {region.name}.refresh()"
        if memory is None or memory.is_arena:
            self.step(call, {ClosedMappingError, UnsupportedOperationError})
            return
        if memory.file is None:
            self.step(call)
            assert self.result == memory.size
            return
        assert memory.file.store.size is not None
        size = max(memory.file.store.size - memory.offset, 0)
        if memory.capacity is not None:
            size = min(size, memory.capacity)
        must, may = self._resize_refusals(memory, size)
        if memory.capacity is None:
            may.add(UnsupportedOperationError)
        if size == memory.size:
            must, may = set[type[Exception]](), must | may
        if self.step(call, must, may):
            assert self.result == size
            self._change(memory, size)

    @precondition(Program.has_files)
    @rule(pick=picks, size=sizes, allocates=st.booleans())
    def resize_shared_memory(self, pick: int, size: int, allocates: bool) -> None:
        file = self.some(self.files, pick)
        if not file.is_memfd:
            return
        must: Errors = {ClosedMappingError} if file.is_closed else set()
        store = file.store
        assert store.size is not None
        if size > store.size and store.seals & MemfdSeals.GROW:
            must.add(OperationNotPermittedError)
        if size < store.size <= file.size and store.seals & MemfdSeals.SHRINK:
            must.add(OperationNotPermittedError)
        if self.step(f"{file.name}.resize({size}, allocate={allocates})", must):
            self._resize_file(file, size, file.size)
            file.size = size

    @precondition(Program.has_files)
    @rule(pick=picks)
    def refresh_shared_memory(self, pick: int) -> None:
        file = self.some(self.files, pick)
        if file.is_memfd:
            must: Errors = {ClosedMappingError} if file.is_closed else set()
            if self.step(f"_ = {file.name}.refresh()", must):
                assert file.store.size is not None
                assert self.result == file.store.size
                file.size = file.store.size
