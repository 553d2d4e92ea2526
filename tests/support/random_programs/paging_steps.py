"""Protection, advice, locks: what the kernel is told of pages."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import (
    AccessDeniedError,
    Advice,
    DestructiveAdvice,
    InvalidRangeError,
    LockLimitError,
    MappingFaultError,
    OperationNotPermittedError,
    OutOfMemoryError,
    ProtectionError,
    RegionBusyError,
    SystemCallError,
    UnsupportedOperationError,
)
from random_programs.arguments import Spot, bits_of, picks, place, protections, spots, whole_pages
from random_programs.model import EXEC, KNOWN, READ, WRITE, Page, break_copies
from random_programs.program import HAS_GUARD_PAGES, HAS_POPULATE, Errors, Program


def possible_refusals(pages: list[Page], bits: int) -> Errors:
    """The errors that a change of what pages allow may end with, by what they are of."""
    may: Errors = set()
    if not all(page.is_mapped for page in pages):
        may.add(ProtectionError)  # a hole stays one
    if any(page.store is not None and page.store.seals for page in pages):
        may.add(AccessDeniedError)
    if bits & EXEC:
        may |= {AccessDeniedError, OperationNotPermittedError}
    return may


class PagingSteps(Program):
    """Calls on the pages of a region."""

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, protection=protections)
    def protect(self, pick: int, spot: Spot, protection: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = whole_pages(spot, memory)
        bits = bits_of(protection)
        must, may = self.refusals(memory, start, count, whole="from start", keeps=bits)
        call = f"{region.name}.protect(Protection.{protection}(), {start}, {count})"
        if memory is None or InvalidRangeError in must:
            self.step(call, must, may)
            return
        end = memory.size if count is None else start + count
        changed = memory.touched(start, end)
        # Of an empty region it is the room that changes.
        behind = changed if memory.size or memory.file is None else [memory.file]
        if bits & WRITE and any(each.is_read_only for each in behind):
            must.add(AccessDeniedError)
        if self.step(call, must, may | possible_refusals(changed, bits)):
            if memory.size == 0:
                memory.last_bits = bits
            for page in changed:
                if page.is_mapped:
                    page.bits = bits
                if memory.is_locked and bits & WRITE:
                    page.doubt_copy()

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, advice=st.sampled_from(sorted(advice.name for advice in Advice)))
    def advise(self, pick: int, spot: Spot, advice: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        must, may = self.refusals(memory, start, count)
        call = f"{region.name}.advise(Advice.{advice}, {start}, {count})"
        done = self.step(call, must, may | {SystemCallError})
        if advice == "POPULATE_WRITE" and memory is not None and not must:
            changed = memory.touched(start, memory.size if count is None else start + count)
            if done:
                break_copies(changed)
            else:
                for page in changed:
                    page.doubt_copy()

    @precondition(Program.has_regions)
    @rule(pick=picks, way=st.sampled_from(("use_dontfork", "use_hugepages")))
    def advise_all(self, pick: int, way: str) -> None:
        region = self.a_region(pick)
        must, may = self.refusals(region.memory, 0, None)
        self.step(f"{region.name}.{way}()", must, may | {SystemCallError})

    @precondition(Program.has_regions)
    @rule(
        pick=picks,
        spot=spots,
        advice=st.sampled_from(
            ["GUARD_INSTALL"] * 3 + sorted(advice.name for advice in DestructiveAdvice)
        ),
    )
    def advise_destructive(self, pick: int, spot: Spot, advice: str) -> None:
        region = self.a_region(pick)
        if advice == "REMOVE":
            self.remove_range(pick, spot)
            return
        memory = region.memory
        start, count = whole_pages(spot, memory)
        keeps = 0 if advice == "GUARD_INSTALL" else None
        must, may = self.refusals(memory, start, count, whole="yes", keeps=keeps)
        call = f"{region.name}.advise_destructive(DestructiveAdvice.{advice}, {start}, {count})"
        if memory is None or InvalidRangeError in must:
            self.step(call, must, may)
            return
        changed = memory.touched(start, memory.size if count is None else start + count)
        is_sure = advice in ("DONTNEED", "GUARD_REMOVE") and not memory.is_locked
        if not is_sure or (advice == "GUARD_REMOVE" and not HAS_GUARD_PAGES):
            may = may | {SystemCallError}
        done = self.step(call, must, may)
        if must:
            return
        for page in changed:
            self.model_advice(page, advice, done=done)

    def model_advice(self, page: Page, advice: str, *, done: bool) -> None:
        if advice in ("DONTNEED", "DONTNEED_LOCKED") and done:
            page.drop()
        elif advice == "GUARD_INSTALL" and done:
            page.is_guarded = True
            page.drop()
        elif advice == "GUARD_REMOVE":
            page.is_guarded &= not done
        elif page.own is not None:
            page.own.forget()  # MADV_FREE, or what failed after some of the pages

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots)
    def remove_range(self, pick: int, spot: Spot) -> None:  # noqa: C901
        region = self.a_region(pick)
        memory = region.memory
        start, count = whole_pages(spot, memory)
        count = PAGE if count is None else count
        must, may = self.refusals(memory, start, count, WRITE, whole="yes")
        call = f"{region.name}.remove_range({start}, {count})"
        if memory is None or InvalidRangeError in must:
            self.step(call, must, may)
            return
        changed = list(memory.spans(start, start + count))
        if memory.is_locked or any(page.store and page.store.seals for page, _, _ in changed):
            may = may | {SystemCallError}
        if any(page.is_private for page, _, _ in changed):
            may = may | {SystemCallError}
        tail = (memory.head + start + count) % PAGE
        lacking = set[int]()
        if tail and changed and not must and not memory.is_doubtful:
            page = changed[-1][0]
            if page.is_missing:
                lacking = memory.missing(start + count - tail, start + count)
                must.add(MappingFaultError)
        done = self.step(call, must, may)
        if done:
            for page, at, until in changed:
                is_anonymous = page.store is not None and page.store.size is None
                size = PAGE - at if is_anonymous else until - at
                if not page.is_missing:
                    page.put(at, bytes(size), bytes([KNOWN]) * size)
        elif lacking or not must:
            for page, _, _ in changed:
                page.forget()
            if isinstance(self.failure, MappingFaultError):
                self.check_fault(memory, self.failure, lacking)

    @precondition(Program.has_regions)
    @rule(
        pick=picks,
        spot=spots,
        way=st.sampled_from(("lock", "lock_on_fault", "lock_all", "unlock", "unlock_all")),
    )
    def lock(self, pick: int, spot: Spot, way: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        if way.endswith("_all"):
            start, count = 0, None
            arguments = ""
        else:
            count = PAGE if count is None else count
            arguments = f"{start}, {count}"
        must, may = self.refusals(memory, start, count)
        limits: Errors = {OutOfMemoryError, LockLimitError, OperationNotPermittedError}
        if not way.startswith("unlock"):
            may = may | limits
            if memory is not None and not must:
                end = memory.size if count is None else start + count
                if memory.missing(start, end):
                    may = may | {MappingFaultError}
        done = self.step(f"{region.name}.{way}({arguments})", must, may)
        if memory is None or must:
            return
        if not way.startswith("unlock"):
            memory.is_locked = True
            changed = memory.touched(start, memory.size if count is None else start + count)
            for page in changed:
                if done and way != "lock_on_fault" and page.allowed & WRITE:
                    break_copies([page])
                else:
                    page.doubt_copy()
        elif done and way == "unlock_all":
            memory.is_locked = False

    @precondition(Program.has_regions)
    @rule(
        pick=picks,
        spot=spots,
        mode=st.sampled_from(("ASYNC", "ASYNC", "ASYNC", "SYNC")),
        invalidate=st.booleans(),
    )
    def msync(self, pick: int, spot: Spot, mode: str, invalidate: bool) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        must, may = self.refusals(memory, start, count)
        if invalidate and memory is not None and memory.is_locked:
            may = may | {RegionBusyError}
        call = f"{region.name}.msync({start}, {count}, SyncMode.{mode}, {invalidate})"
        self.step(call, must, may)

    @precondition(lambda self: self.has_regions() and HAS_POPULATE)
    @rule(pick=picks, spot=spots, writes=st.booleans())
    def populate(self, pick: int, spot: Spot, writes: bool) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        must, may = self.refusals(memory, start, count, WRITE if writes else READ)
        call = f"{region.name}.populate({start}, {count}, write={writes})"
        if memory is None or must:
            self.step(call, must, may)
            return
        end = memory.size if count is None else start + count
        lacking = memory.missing(start, end)
        if lacking:
            must.add(MappingFaultError)
        changed = memory.touched(start, end)
        done = self.step(call, must, may)
        if isinstance(self.failure, MappingFaultError):
            self.check_fault(memory, self.failure, lacking)
        if writes and done:
            break_copies(changed)
        elif writes:
            for page in changed:
                page.doubt_copy()

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots, way=st.sampled_from(("drop_page_cache", "async_prefetch")))
    def drop_or_prefetch(self, pick: int, spot: Spot, way: str) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = whole_pages(spot, memory)
        count = PAGE if count is None else count
        whole = "yes" if way == "drop_page_cache" else ""
        must, may = self.refusals(memory, start, count, whole=whole)
        if way == "async_prefetch" or (memory is not None and memory.is_locked):
            may = may | {SystemCallError}
        done = self.step(f"{region.name}.{way}({start}, {count})", must, may)
        if way == "drop_page_cache" and memory is not None and not must:
            for page in memory.touched(start, start + count):
                self.model_advice(page, "DONTNEED", done=done)

    @precondition(lambda self: self.has_regions() and len(self.files) > 1)
    @rule(pick=picks, spot=spots)
    def evict(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        must, may = self.refusals(memory, start, count, whole="from start")
        may = may | {UnsupportedOperationError, SystemCallError}
        self.step(f"{region.name}.evict({start}, {count})", must, may)

    @precondition(Program.has_regions)
    @rule(pick=picks, spot=spots)
    def ask_residency(self, pick: int, spot: Spot) -> None:
        region = self.a_region(pick)
        memory = region.memory
        start, count = spot.of(*place(memory))
        must, may = self.refusals(memory, start, count)
        if self.step(f"_ = {region.name}.residency({start}, {count})", must, may):
            assert memory is not None
            end = memory.size if count is None else start + count
            assert self.result.total == len(memory.touched(start, end))
