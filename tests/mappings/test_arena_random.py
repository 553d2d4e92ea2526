"""Arenas under random calls, and with very many segments: they agree with the kernel throughout."""

import gc
import os
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import groupby

import attrs
import pytest
from arena_view import assert_as_the_kernel_lists, runs
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)
from kernel_view import PAGE, process_unchanged
from limits import MAX_MAP_COUNT
from protections import NONE, READ, RW, WRITE

from mmapwrap import (
    MemoryMappingArena,
    Protection,
    ProtectionError,
    Segment,
    ViewsExportedError,
    u8,
)

PAGES = 16
PROTECTIONS = [NONE, READ, WRITE, RW, Protection.read_execute()]


@attrs.define(eq=False)
class Source:
    """What one call put in: where a file's first page would be in the arena, or memory."""

    file: int | None = None
    origin: int = 0
    memory: dict[int, int] = attrs.field(factory=dict[int, int])


@attrs.frozen
class Held:
    """What the model has on a page of the arena."""

    source: Source
    prot: Protection


@attrs.frozen(eq=False)
class LiveView:
    """A view of the arena, the pages it shows, and the access that it gives."""

    view: memoryview
    first: int
    last: int
    access: Protection


protections = st.sampled_from(PROTECTIONS)
page_ranges = st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES)).map(
    lambda drawn: (drawn[0], min(drawn[0] + drawn[1], PAGES))
)


class ArenaMachine(RuleBasedStateMachine):
    """Random calls of an arena, each of them also made of a list of its pages."""

    views = Bundle[LiveView]("views")

    def __init__(self) -> None:
        super().__init__()
        self.arena = MemoryMappingArena.new(PAGES * PAGE)
        self.model: list[Held | None] = [None] * PAGES
        self.live: list[LiveView] = []
        # The first byte of each page of the files; no byte is the same in both.
        self.files = [[1 + file * PAGES + page for page in range(PAGES)] for file in range(2)]
        self.fds = [os.memfd_create(f"file {file}", os.MFD_CLOEXEC) for file in range(2)]
        for fd, file in zip(self.fds, self.files, strict=True):
            os.write(fd, b"".join(bytes([first]) * PAGE for first in file))

    def teardown(self) -> None:
        for live in self.live:
            live.view.release()
        self.arena.close()
        for fd in self.fds:
            os.close(fd)

    # What each call should do to the pages

    def change(
        self,
        pages: tuple[int, int],
        call: Callable[[], None],
        held: Callable[[Held | None], Held | None],
        left: Protection = NONE,
    ) -> None:
        """Make a call that leaves `left` of what views of the pages use; views may forbid it."""
        first, last = pages
        in_the_way = sum(
            live.first < last and first < live.last and not left.allows(live.access)
            for live in self.live
        )
        if in_the_way:
            with pytest.raises(ViewsExportedError) as caught:
                call()
            assert caught.value.views == in_the_way
        else:
            call()
            self.model[first:last] = [held(page) for page in self.model[first:last]]

    @rule(pages=page_ranges, prot=protections)
    def add_anon(self, pages: tuple[int, int], prot: Protection) -> None:
        added = Held(Source(), prot)
        offset, size = pages[0] * PAGE, (pages[1] - pages[0]) * PAGE
        self.change(
            pages, lambda: self.arena.add_anon_protection(offset, size, prot), lambda held: added
        )

    @rule(
        pages=page_ranges,
        prot=protections,
        file=st.integers(0, 1),
        start=st.integers(0, PAGES - 1),
    )
    def add_fd(self, pages: tuple[int, int], prot: Protection, file: int, start: int) -> None:
        first, last = pages[0], min(pages[1], pages[0] + PAGES - start)
        added = Held(Source(file, start - first), prot)
        self.change(
            (first, last),
            lambda: self.arena.add_fd_offset_protection(
                first * PAGE, (last - first) * PAGE, self.fds[file], start * PAGE, prot
            ),
            lambda held: added,
        )

    @rule(pages=page_ranges)
    def remove(self, pages: tuple[int, int]) -> None:
        offset, size = pages[0] * PAGE, (pages[1] - pages[0]) * PAGE
        self.change(pages, lambda: self.arena.remove(offset, size), lambda held: None)

    @rule(pages=page_ranges, prot=protections)
    def protect(self, pages: tuple[int, int], prot: Protection) -> None:
        first, last = pages

        def protect() -> None:
            self.arena.protect(prot, first * PAGE, (last - first) * PAGE)

        if prot != NONE and None in self.model[first:last]:
            with pytest.raises(ProtectionError):
                protect()
            return
        self.change(pages, protect, lambda held: held and attrs.evolve(held, prot=prot), left=prot)

    @rule(page=st.integers(0, PAGES - 1), value=st.integers(0, 255))
    def write(self, page: int, value: int) -> None:
        held = self.model[page]
        if held is None or not held.prot.writable:
            with pytest.raises(ProtectionError):
                self.arena.write_obj(u8, value, page * PAGE)
            return
        self.arena.write_obj(u8, value, page * PAGE)
        if held.source.file is None:
            held.source.memory[page] = value
        else:
            self.files[held.source.file][page + held.source.origin] = value

    @rule(target=views, pages=page_ranges)
    def take_view(self, pages: tuple[int, int]) -> LiveView | MultipleResults[LiveView]:
        first, last = pages
        shown = self.model[first:last]
        if not all(held and held.prot.readable for held in shown):
            with pytest.raises(ProtectionError):
                self.arena.view(first * PAGE, (last - first) * PAGE)
            return multiple()
        view = self.arena.view(first * PAGE, (last - first) * PAGE)
        is_writable = all(held and held.prot.writable for held in shown)
        assert view.readonly is not is_writable
        live = LiveView(view, first, last, RW if is_writable else READ)
        self.live.append(live)
        return live

    @rule(live=consumes(views))
    def release_view(self, live: LiveView) -> None:
        live.view.release()
        self.live.remove(live)

    # What has to hold after every call

    @invariant()
    def segments_are_the_models(self) -> None:
        expected: list[Segment] = []
        for held, run in groupby(range(PAGES), self.model.__getitem__):
            pages = list(run)
            if held is not None:
                file = held.source.file
                offset = None if file is None else (pages[0] + held.source.origin) * PAGE
                expected.append(Segment(pages[0] * PAGE, len(pages) * PAGE, held.prot, offset))
        found = list(self.arena.segments())
        assert found == expected, f"{found} is not {expected}"

    @invariant()
    def segments_are_the_kernels(self) -> None:
        assert_as_the_kernel_lists(self.arena)

    @invariant()
    def content_is_the_models(self) -> None:
        for page, held in enumerate(self.model):
            if held is None or not held.prot.readable:
                with pytest.raises(ProtectionError):
                    self.arena.read_obj(u8, page * PAGE)
            elif held.source.file is None:
                assert self.arena[page * PAGE] == held.source.memory.get(page, 0)
            else:
                expected = self.files[held.source.file][page + held.source.origin]
                assert self.arena[page * PAGE] == expected

    @invariant()
    def views_show_what_the_arena_holds(self) -> None:
        for live in self.live:
            for page in range(live.first, live.last):
                assert live.view[(page - live.first) * PAGE] == self.arena[page * PAGE]


ArenaMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_random_calls_leave_what_the_kernel_lists = ArenaMachine.TestCase


# Very many segments

FEW, MANY, MOST = 1_000, 16_000, 20_000

needs_mappings = pytest.mark.skipif(
    MAX_MAP_COUNT < 2 * MOST + 5_000,
    reason=f"vm.max_map_count is too small for {MOST} segments and as many holes",
)


@contextmanager
def no_collection() -> Generator[None]:
    """Measure without the pauses of the garbage collector."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Striped:
    """An arena in which every second page is a segment, and the calls on one of them."""

    def __init__(self, count: int, fd: int) -> None:
        self.count = count
        self.fd = fd
        self.arena = MemoryMappingArena.new(2 * count * PAGE)
        for number in range(count):
            self.replace(number)

    def replace(self, number: int) -> None:
        self.arena.add_fd(2 * number * PAGE, PAGE, self.fd)

    def remove_and_add(self, number: int) -> None:
        self.arena.remove(2 * number * PAGE, PAGE)
        self.replace(number)

    def add_and_remove(self, number: int) -> None:
        self.arena.add_anon((2 * number + 1) * PAGE, PAGE)
        self.arena.remove((2 * number + 1) * PAGE, PAGE)

    def protect(self, number: int) -> None:
        self.arena.protect(READ, 2 * number * PAGE, PAGE)
        self.arena.protect(RW, 2 * number * PAGE, PAGE)

    def read(self, number: int) -> None:
        self.arena.read_obj(u8, 2 * number * PAGE)

    def view(self, number: int) -> None:
        self.arena.view(2 * number * PAGE, PAGE).release()

    def refuse(self, number: int) -> None:
        with suppress(ProtectionError):
            self.arena.read_obj(u8, (2 * number + 1) * PAGE)

    def seconds(self, call: Callable[["Striped", int], None], chance: random.Random) -> float:
        """The time of the call on some of the segments."""
        chosen = [chance.randrange(self.count) for _ in range(30)]
        start = time.perf_counter()
        for number in chosen:
            call(self, number)
        return time.perf_counter() - start


@pytest.mark.alone
@needs_mappings
def test_calls_do_not_slow_down_with_the_number_of_segments() -> None:
    calls = [
        Striped.replace,
        Striped.remove_and_add,
        Striped.add_and_remove,
        Striped.protect,
        Striped.read,
        Striped.view,
        Striped.refuse,
    ]
    fd = os.memfd_create("file", os.MFD_CLOEXEC)
    os.truncate(fd, PAGE)
    few, many, chance = Striped(FEW, fd), Striped(MANY, fd), random.Random(1)
    with no_collection(), few.arena, many.arena:
        for call in calls:
            # In turns, so that what else runs disturbs both; then what was disturbed least.
            pairs = [(few.seconds(call, chance), many.seconds(call, chance)) for _ in range(25)]
            of_few, of_many = (min(times) for times in zip(*pairs, strict=True))
            # In proportion to the number of segments it would be 16 times.
            assert of_many < 6 * of_few, f"{call.__name__}: {of_few} s and {of_many} s"
        assert (len(few.arena.segments()), len(many.arena.segments())) == (FEW, MANY)
    os.close(fd)


@pytest.mark.race
@needs_mappings
def test_twenty_thousand_segments_come_and_go() -> None:
    with process_unchanged():
        fd = os.memfd_create("file", os.MFD_CLOEXEC)
        os.truncate(fd, 4 * PAGE)
        arena = MemoryMappingArena.new(2 * MOST * PAGE)
        order = list(range(MOST))
        random.Random(2).shuffle(order)
        for number in order:
            arena.add_fd_offset(2 * number * PAGE, PAGE, fd, number % 4 * PAGE)
        segments = arena.segments()
        assert segments == tuple(
            Segment(2 * number * PAGE, PAGE, RW, number % 4 * PAGE) for number in range(MOST)
        )
        listed = [run for run in runs(arena) if run[2] != "---p"]
        assert [(run[0], run[1], run[4]) for run in listed] == [
            (s.offset, s.offset + s.size, s.fd_offset) for s in segments
        ]
        random.Random(3).shuffle(order)
        for number in order[: MOST // 2]:
            arena.remove(2 * number * PAGE, PAGE)
        assert len(arena.segments()) == MOST // 2
        arena.remove(0, arena.size)  # all that is left, in one call
        assert arena.segments() == ()
        assert runs(arena) == [(0, arena.size, "---p", "", 0)]
        arena.close()
        os.close(fd)
