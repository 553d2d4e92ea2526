"""Memory and files mapped, looked at, and closed."""

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE, known_bytes

from mmapwrap import (
    AccessDeniedError,
    AddressInUseError,
    ClosedMappingError,
    InvalidAlignmentError,
    InvalidArgumentError,
    InvalidOffsetError,
    InvalidRangeError,
    MappingFaultError,
    MemfdSeals,
    OperationNotPermittedError,
    PastEndOfFileError,
    ProtectionError,
)
from random_programs.arguments import Spot, bits_of, picks, place, protections, sizes, spots
from random_programs.file_steps import FileSteps
from random_programs.model import EXEC, READ, WRITE, File, Memory, Page, Region, Store, break_copies
from random_programs.program import Errors, Program


class RegionSteps(FileSteps):
    """Mappings from their start to their end."""

    @rule(
        size=sizes,
        protection=protections,
        populates=st.booleans(),
        way=st.sampled_from(("shared", "shared", "private", "private", "new", "aligned", "fixed")),
        align=st.sampled_from((None, 1, 1 << 20, 3)),
    )
    def map_memory(
        self, size: int, protection: str, populates: bool, way: str, align: int | None
    ) -> None:
        must: Errors = set() if size else {InvalidArgumentError}
        prot, is_private = f"Protection.{protection}()", way == "private"
        if way == "new":
            protection, populates, call = "read_write", False, f"new({size})"
        elif way == "aligned":
            populates, call = False, f"new_protection({size}, {align}, {prot})"
            if align == 3:
                must.add(InvalidAlignmentError)
        elif way == "fixed":
            populates, call = False, f"new_protection_fixed(free_address({size}), {size}, {prot})"
        else:
            call = (
                f"anonymous({size}, prot={prot}, sharing=Sharing.{way.upper()},"
                f" populate={populates})"
            )
        name, bits = self.new_name("r"), bits_of(protection)
        if populates and not bits:
            must.add(ProtectionError)
        if self.step(f"{name} = MemoryMapping.{call}", must):
            if way == "aligned" and align is not None:
                self.step(f"_ = {name}.as_ptr()")
                assert self.result % align == 0
            store = None if is_private else Store()
            pages = [Page(store, i, is_private, bits) for i in range(-(-size // PAGE))]
            memory = Memory(size, 0, pages)
            self.add_region(name, memory)
            if self.names % 2 and bits & WRITE:
                call = f"{name}.write_slice(known_bytes({size}), 0)"
                self.write_and_model(call, memory, 0, known_bytes(size))

    @precondition(Program.has_regions)
    @rule(pick=picks, size=sizes)
    def map_over(self, pick: int, size: int) -> None:
        """Nothing is mapped where something is."""
        region = self.a_region(pick)
        if region.memory is not None and region.memory.size:
            address = f"{region.name}.as_ptr() // {PAGE} * {PAGE}"
            call = f"MemoryMapping.new_protection_fixed({address}, {size}, Protection.read())"
            self.step(call, {AddressInUseError if size else InvalidArgumentError})

    @precondition(Program.has_files)
    @rule(
        pick=picks,
        spot=spots,
        protection=protections,
        way=st.sampled_from(("shared", "private", "fd", "fd", "fixed", "map")),
        populates=st.booleans(),
    )
    def map_file(self, pick: int, spot: Spot, protection: str, way: str, populates: bool) -> None:
        file = self.some(self.files, pick)
        assert file.store.size is not None
        offset, size = spot.of(file.store.size if spot.page else 3 * PAGE)
        self.new_mapping(file, offset, size or None, protection, way, populates=populates)

    def new_mapping(  # noqa: C901, PLR0912 - what may go wrong is a list
        self,
        file: File,
        offset: int,
        size: int | None,
        protection: str,
        way: str,
        *,
        populates: bool,
    ) -> None:
        store, bits = file.store, bits_of(protection)
        assert store.size is not None
        is_unchecked = way in ("fd", "fixed")
        if is_unchecked and size is None:
            size = PAGE
        prot = f"Protection.{protection}()"
        if way == "map" and file.is_memfd:
            call, populates = f"{file.name}.map({size}, offset={offset}, prot={prot})", False
        elif way == "fixed":
            address, populates = f"free_address({size}) + {offset % PAGE}", False
            call = (
                "MemoryMapping.from_descriptor_offset_protection_fixed("
                f"{address}, {file.name}, {size}, {offset}, {prot})"
            )
        elif way == "fd":
            call = self.unchecked_call(file, offset, size, protection, populates=populates)
        else:
            sharing = "PRIVATE" if way == "private" else "SHARED"
            call = (
                f"MemoryMapping.from_file({file.name}, {size}, offset={offset}, prot={prot},"
                f" sharing=Sharing.{sharing}, populate={populates})"
            )
        rest = known_size = store.size
        if way == "map" and file.is_memfd:  # which keeps to the size that it was made with
            rest, known_size = file.size, min(store.size, file.size)
        length = max(rest - offset, 0) if size is None else size
        must: Errors = set()
        may: Errors = {AccessDeniedError, OperationNotPermittedError} if bits & EXEC else set()
        if file.is_closed:
            must |= {ClosedMappingError, ValueError}
        if offset < 0:
            must.add(InvalidOffsetError)
        if size is not None and size <= 0:
            must.add(InvalidArgumentError)
        if not is_unchecked and (length <= 0 or offset + length > known_size):
            must.add(PastEndOfFileError)
        if populates and not bits:
            must.add(ProtectionError)
        sealed = store.seals & (MemfdSeals.WRITE | MemfdSeals.FUTURE_WRITE)
        if sealed and bits & WRITE and way != "private":
            must.add(OperationNotPermittedError)
        if must:
            self.step(f"_ = {call}", must)
            return
        head = offset % PAGE
        memory = Memory(
            length,
            head,
            [
                Page(
                    store,
                    offset // PAGE + i,
                    way == "private",
                    bits,
                    is_read_only=file.is_read_only,
                )
                for i in range(-(-(head + length) // PAGE))
            ],
        )
        if populates and memory.missing(0, length):
            must.add(MappingFaultError)
        memory.file, memory.offset = file, offset
        name = self.new_name("r")
        if self.step(f"{name} = {call}", must, may):
            if populates and bits & WRITE:
                break_copies(memory.pages)
            self.add_region(name, memory)

    def unchecked_call(
        self, file: File, offset: int, size: int | None, protection: str, *, populates: bool
    ) -> str:
        """The shortest constructor that maps a range of a file whether the file has it or not."""
        prot = f"Protection.{protection}()"
        if populates:
            tail = f"_offset_protection_populate({file.name}, {size}, {offset}, None, {prot}, True)"
        elif protection != "read_write":
            tail = f"_offset_protection({file.name}, {size}, {offset}, {prot})"
        elif offset:
            tail = f"_offset({file.name}, {size}, {offset})"
        else:
            tail = f"({file.name}, {size})"
        return f"MemoryMapping.from_fd{tail}"

    @precondition(Program.has_regions)
    @rule(pick=picks, way=st.sampled_from(("del", "del", "close", "with")))
    def close_region(self, pick: int, way: str) -> None:
        region = self.a_region(pick)
        if way == "del":
            self.step(f"del {region.name}")
            self.regions.remove(region)
        elif way == "close":
            self.step(f"{region.name}.close()")
            region.memory = None
        else:
            must: Errors = {ClosedMappingError} if region.memory is None else set()
            self.step(f"with {region.name}: pass", must)
            region.memory = None

    @precondition(Program.has_regions)
    @rule(pick=picks)
    def look_at_region(self, pick: int) -> None:
        region = self.a_region(pick)
        memory = region.memory
        self.step(f"_ = {region.name}.closed, repr({region.name}), {region.name}.live_views")
        is_closed, _, live_views = self.result
        assert is_closed is (memory is None)
        if memory is None:
            self.step(f"len({region.name})", {ClosedMappingError})
            return
        assert live_views == len(memory.exports)
        self.step(f"_ = len({region.name}), {region.name}.size, {region.name}.capacity")
        capacity = None if memory.is_arena else memory.capacity
        assert self.result == (memory.size, memory.size, capacity or memory.size)
        if not memory.is_arena:
            self.step(f"_ = {region.name}.sharing is Sharing.PRIVATE, {region.name}.file_offset")
            offset = memory.offset if memory.is_of_file else None
            assert self.result == (memory.is_private, offset)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots)
    def ask_range_end(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        count = PAGE if count is None else count
        must: Errors = set()
        if memory is None:
            must.add(ClosedMappingError)
        elif not 0 <= start <= start + count <= memory.size:
            must.add(InvalidRangeError)
        if self.step(f"_ = {region.name}.range_end({start}, {count})", must):
            assert self.result == start + count

    def compare_all(self, region: Region) -> None:
        """All of a region that can be read."""
        memory = region.memory
        if memory is None:
            return
        edges = [0, *(i * PAGE - memory.head for i in range(1, len(memory.pages))), memory.size]
        for start, end in pairwise(edges):
            call = f"_ = READERS['slice']({region.name}, {start}, {end - start})"
            if self.touch(call, memory, start, end - start, READ):
                self.compare(memory, start, self.result)

    @precondition(Program.has_regions)
    @rule(pick=picks)
    def read_all(self, pick: int) -> None:
        self.compare_all(self.a_region(pick))
