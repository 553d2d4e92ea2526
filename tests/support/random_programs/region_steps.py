"""Memory and files mapped, looked at, and closed."""

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE, known_bytes

from mmapwrap import (
    AccessDeniedError,
    ClosedMappingError,
    InvalidArgumentError,
    InvalidOffsetError,
    MappingFaultError,
    MemfdSeals,
    OperationNotPermittedError,
    PastEndOfFileError,
    ProtectionError,
)
from random_programs.arguments import Spot, bits_of, picks, protections, sizes, spots
from random_programs.file_steps import FileSteps
from random_programs.model import EXEC, READ, WRITE, File, Memory, Page, Region, Store, break_copies
from random_programs.program import Errors, Program


class RegionSteps(FileSteps):
    """Mappings from their start to their end."""

    @rule(size=sizes, protection=protections, is_private=st.booleans(), populates=st.booleans())
    def map_memory(self, size: int, protection: str, is_private: bool, populates: bool) -> None:
        name, bits = self.new_name("r"), bits_of(protection)
        must: Errors = set() if size else {InvalidArgumentError}
        if populates and not bits:
            must.add(ProtectionError)
        sharing = "PRIVATE" if is_private else "SHARED"
        line = (
            f"{name} = MemoryMapping.anonymous({size}, prot=Protection.{protection}(),"
            f" sharing=Sharing.{sharing}, populate={populates})"
        )
        if self.step(line, must):
            store = None if is_private else Store()
            pages = [Page(store, i, is_private, bits) for i in range(-(-size // PAGE))]
            memory = Memory(size, 0, pages)
            self.add_region(name, memory)
            if self.names % 2 and bits & WRITE:
                call = f"{name}.write_slice(known_bytes({size}), 0)"
                self.write_and_model(call, memory, 0, known_bytes(size))

    @precondition(Program.has_files)
    @rule(
        pick=picks,
        spot=spots,
        protection=protections,
        way=st.sampled_from(("shared", "private", "fd", "map")),
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
        if way == "fd" and size is None:
            size = PAGE
        prot = f"Protection.{protection}()"
        if way == "map" and file.is_memfd:
            call, populates = f"{file.name}.map({size}, offset={offset}, prot={prot})", False
        elif way == "fd":
            call = (
                "MemoryMapping.from_fd_offset_protection_populate("
                f"{file.name}, {size}, {offset}, None, {prot}, {populates})"
            )
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
        if way != "fd" and (length <= 0 or offset + length > known_size):
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
                Page(store, offset // PAGE + i, way == "private", bits)
                for i in range(-(-(head + length) // PAGE))
            ],
        )
        if populates and memory.missing(0, length):
            must.add(MappingFaultError)
        name = self.new_name("r")
        if self.step(f"{name} = {call}", must, may):
            if populates and bits & WRITE:
                break_copies(memory.pages)
            self.add_region(name, memory)

    @precondition(Program.has_regions)
    @rule(pick=picks, drops=st.booleans())
    def close_region(self, pick: int, drops: bool) -> None:
        region = self.a_region(pick)
        if drops:
            self.step(f"del {region.name}")
            self.regions.remove(region)
        else:
            self.step(f"{region.name}.close()")
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
        self.step(f"_ = len({region.name}), {region.name}.size, {region.name}.as_ptr()")
        assert self.result[:2] == (memory.size, memory.size)

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
