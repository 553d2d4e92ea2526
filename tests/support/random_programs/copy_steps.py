"""Copies from one memory to another, and between memory and files."""

import os

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import (
    BadAddressError,
    MappingFaultError,
    ReadToMemoryError,
    WriteFromMemoryError,
)
from random_programs.arguments import Spot, picks, sizes, spots
from random_programs.model import READ, UNKNOWN, WRITE, File, Memory, are_aliases
from random_programs.program import Program


class CopySteps(Program):
    """Copies and comparisons with two sides, each of which may fail."""

    @precondition(lambda self: self.has_views() and self.has_regions())
    @rule(pick=picks, which=picks, spot=spots, into=st.booleans())
    def copy_with_view(self, pick: int, which: int, spot: Spot, into: bool) -> None:
        """A region and a view of another as the two sides of a copy; neither needs a guard."""
        lost = [
            view for view in self.views if view.memory.missing(view.start, view.start + view.size)
        ]
        view, region = self.some(lost or self.views, pick), self.a_region(which)
        memory, other = region.memory, view.memory
        if memory is None or memory.faults or memory.is_doubtful or other.is_doubtful:
            return
        start, _ = spot.of(memory.size, memory.head)
        if not 0 <= start <= memory.size or (into and not view.is_writable):
            return
        count = min(view.size, memory.size - start)
        need = READ if into else WRITE
        must, may = self.refusals(memory, start, count, need)
        own = memory.missing(start, start + count)
        others = other.missing(view.start, view.start + count)
        if memory is other or (own and others):
            return
        ends = [(memory, start), (other, view.start)]
        (source, source_start), (target, target_start) = ends if into else reversed(ends)
        content = source.content(source_start, source_start + count)
        if not must and own:
            must.add(MappingFaultError)
        elif not must and others and not other.guards:
            must.add(BadAddressError)
        method = "read_slice" if into else "write_slice"
        done = self.step(f"{region.name}.{method}({view.name}, {start})", must, may)
        if not done and not isinstance(self.failure, MappingFaultError | BadAddressError):
            return
        if isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure, own)
        if other.guards:
            other.fault(others, certain=True)
        if done:
            target.put(target_start, *content)
            self.doubt_alias(source, source_start, target, target_start, count)
        else:
            target.forget(target_start, target_start + count)

    def doubt_alias(
        self, memory: Memory, start: int, target: Memory, target_start: int, count: int
    ) -> None:
        """Of memory copied to itself at another address, nobody knows what was read when."""
        sources = memory.touched(start, start + count)
        if are_aliases(sources, target.touched(target_start, target_start + count)):
            target.forget(target_start, target_start + count)

    @precondition(Program.has_parts)
    @rule(pick=picks, which=picks, compares=st.booleans())
    def use_two_slices(self, pick: int, which: int, compares: bool) -> None:  # noqa: C901
        one, two = self.some(self.parts, pick), self.some(self.parts, which)
        memory, other = one.memory, two.memory
        count = min(one.size, two.size)
        if compares and one.size != two.size:
            self.step(f"_ = {one.name} == {two.name}")
            assert self.result is False
            return
        must, may = self.refusals(memory, one.start, count, READ)
        need = READ if compares else WRITE
        other_must, other_may = self.refusals(other, two.start, count, need)
        must, may = must | other_must, may | other_may
        own, others = set[int](), set[int]()
        if not must:
            own = memory.missing(one.start, one.start + count)
            others = other.missing(two.start, two.start + count)
        # memmove(3) need not touch what it copies to itself, and memcmp(3) ends where they differ.
        is_itself = memory is other and one.start == two.start
        if own or others:
            (may if compares or is_itself else must).add(MappingFaultError)
        source = memory.content(one.start, one.start + count)
        target = other.content(two.start, two.start + count)
        call = f"{one.name} == {two.name}"
        if not compares:
            call = f"{one.name}.copy_to_volatile_slice({two.name})"
        done = self.step(f"_ = {call}", must, may)
        if isinstance(self.failure, MappingFaultError) and (own or others):
            # Threads may have replaced pages of a doubtful region under a guard.
            assert self.failure.pages == 1 or memory.is_doubtful or other.is_doubtful
            if not compares:
                other.forget(two.start, two.start + count)
        elif done and compares:
            if UNKNOWN not in source[1] + target[1]:
                assert self.result == (source[0] == target[0])
        elif done and is_itself:
            for page in memory.touched(one.start, one.start + count):
                page.doubt_copy()  # for memmove(3) need not write where nothing changes
        elif done:
            assert self.result == count
            other.put(two.start, *source)
            self.doubt_alias(memory, one.start, other, two.start, count)

    @precondition(lambda self: self.has_parts() and self.has_files())
    @rule(pick=picks, which=picks, offset=sizes, reads=st.booleans())
    def transfer(self, pick: int, which: int, offset: int, reads: bool) -> None:  # noqa: C901
        """A file read into a slice, or written from it."""
        part, file = self.some(self.parts, pick), self.some(self.files, which)
        memory, start, store = part.memory, part.start, file.store
        assert store.size is not None
        count = min(part.size, 5 * PAGE)
        must, may = self.refusals(memory, start, count, WRITE if reads else READ)
        failed: type[Exception] = ReadToMemoryError if reads else WriteFromMemoryError
        if file.is_closed:
            must |= {ValueError, failed}
        if count == 0:  # then nobody needs the memory, or the file
            must, may = set[type[Exception]](), may | must
        lacking = set[int]() if must else memory.missing(start, start + count)
        is_sealed = not reads and bool(store.seals)
        if lacking or is_sealed:
            may = may | {failed}
        if lacking and not reads:  # it looks where the kernel's fault was
            may = may | {MappingFaultError}
        is_shared = any(page.store is store for page in memory.touched(start, start + count))
        wanted = max(min(count, store.size - offset), 0) if reads else count
        way = "read_from_fd" if reads else "write_to_fd"
        done = self.step(f"_ = {part.name}.{way}({file.name}, {count}, {offset})", must, may)
        if not done:
            self.transfer_failed(memory, start, count, file, offset, lacking, reads)
            return
        moved = self.result
        assert moved == wanted or (lacking and moved < wanted) or (is_sealed and moved < wanted)
        if reads:
            memory.put(start, *store.content(offset, moved))
        elif moved:
            data, known = memory.content(start, start + moved)
            store.write(offset, data, known)
        if is_shared:  # the kernel may have copied what it had just written
            for page in memory.touched(start, start + count):
                page.forget()
            if not reads and moved:
                store.write(offset, bytes(moved), bytes(moved))

    def transfer_failed(
        self,
        memory: Memory,
        start: int,
        count: int,
        file: File,
        offset: int,
        lacking: set[int],
        reads: bool,
    ) -> None:
        """What is known no more after a transfer that failed."""
        store = file.store
        if reads:
            if isinstance(self.failure, ReadToMemoryError):
                memory.forget(start, start + count)
        elif lacking and isinstance(self.failure, MappingFaultError):
            store.size = os.fstat(self.space[file.name].fileno()).st_size
            written = max(min(count, store.size - offset), 0)
            store.write(offset, bytes(written), bytes(written))
            memory.forget(start, start + count)
        elif isinstance(self.failure, WriteFromMemoryError) and not file.is_closed:
            # The file may end where the write would have begun.
            store.size = os.fstat(self.space[file.name].fileno()).st_size
