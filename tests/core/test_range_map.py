"""`RangeMap` held against a plain list, also while it changes."""

import sys
import threading
import time
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, strategies as st
from kernel_view import PAGE, child, in_process
from meanwhile import run_for

from mmapwrap._core.range_map import RangeMap

SIZE = 24

edges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))
assignments = st.lists(st.tuples(edges, st.integers(0, 3)), max_size=25)


def ranges_of(values: list[int], start: int, end: int) -> list[tuple[int, int, int]]:
    """The longest ranges of one value, as (start, end, value)."""
    found: list[tuple[int, int, int]] = []
    for value, run in groupby(range(start, end), values.__getitem__):
        positions = list(run)
        found.append((positions[0], positions[-1] + 1, value))
    return found


@given(assignments, edges)
def test_range_map_has_what_a_list_has(
    calls: list[tuple[tuple[int, int], int]], asked: tuple[int, int]
) -> None:
    ranges, values = RangeMap(SIZE, 0), [0] * SIZE
    for (start, end), value in calls:
        ranges.assign(start, end, value)
        if start < end:
            values[start:end] = [value] * (end - start)
        # The whole after every call: as few ranges as there can be, none of them empty.
        expected = ranges_of(values, 0, SIZE)
        assert list(ranges.pieces(0, SIZE)) == expected
        assert len(ranges) == len(expected)
    assert list(ranges.pieces(*asked)) == ranges_of(values, *asked)


def test_range_map_starts_as_one_range() -> None:
    ranges = RangeMap(10, "all")
    assert len(ranges) == 1
    assert list(ranges.pieces(0, 10)) == [(0, 10, "all")]
    assert list(ranges.pieces(3, 5)) == [(3, 5, "all")]


@pytest.mark.parametrize(("start", "end"), [(0, 0), (4, 4), (10, 10), (6, 2)])
def test_range_map_of_no_bytes_has_no_pieces_and_takes_no_value(start: int, end: int) -> None:
    ranges = RangeMap(10, "old")
    ranges.assign(start, end, "new")
    assert list(ranges.pieces(0, 10)) == [(0, 10, "old")]
    assert list(ranges.pieces(start, end)) == []


def test_range_map_has_nothing_past_its_end() -> None:
    ranges = RangeMap(10, "in")
    ranges.assign(8, 20, "last")
    ranges.assign(10, 20, "out")
    assert ranges.pieces(0, 20) == [(0, 8, "in"), (8, 10, "last")]
    assert ranges.pieces(9, 20) == [(9, 10, "last")]
    assert ranges.pieces(10, 20) == []


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 10, [(0, 10, "b")]),
        (0, 4, [(0, 4, "b"), (4, 10, "a")]),
        (6, 10, [(0, 6, "a"), (6, 10, "b")]),
        (4, 6, [(0, 4, "a"), (4, 6, "b"), (6, 10, "a")]),
    ],
    ids=["exact", "left", "right", "middle"],
)
def test_range_map_assign_splits_what_it_overlaps(
    start: int, end: int, expected: list[tuple[int, int, str]]
) -> None:
    ranges = RangeMap(10, "a")
    ranges.assign(start, end, "b")
    assert list(ranges.pieces(0, 10)) == expected


def test_range_map_joins_equal_neighbours_and_keeps_others_apart() -> None:
    ranges = RangeMap(9, 0)
    ranges.assign(0, 3, 1)
    ranges.assign(6, 9, 1)
    ranges.assign(3, 6, 1)
    assert list(ranges.pieces(0, 9)) == [(0, 9, 1)]
    one, other = object(), object()  # equal to nothing but themselves
    kept: RangeMap[object] = RangeMap(4, one)
    kept.assign(2, 4, other)
    assert list(kept.pieces(0, 4)) == [(0, 2, one), (2, 4, other)]
    kept.assign(2, 3, one)
    assert list(kept.pieces(0, 4)) == [(0, 3, one), (3, 4, other)]


def test_range_map_gives_pieces_in_order() -> None:
    ranges = RangeMap(2**64, 0)
    for start in range(0, 2**20, 2**10):
        ranges.assign(start, start + 1, 1)
    pieces = ranges.pieces(0, 2**64)
    assert pieces[:3] == [(0, 1, 1), (1, 1024, 0), (1024, 1025, 1)]
    assert list(ranges.pieces(2**20 - 2**10, 2**64)) == [
        (2**20 - 2**10, 2**20 - 2**10 + 1, 1),
        (2**20 - 2**10 + 1, 2**64, 0),
    ]


@pytest.mark.alone
def test_range_map_finds_a_range_among_many_as_fast_as_among_few() -> None:
    def seconds(count: int) -> float:
        ranges = RangeMap(2 * count, 0)
        for start in range(0, 2 * count, 2):
            ranges.assign(start, start + 1, 1)
        best = float("inf")
        for _ in range(5):
            begin = time.perf_counter()
            for position in range(0, 2 * count, 2 * count // 200):
                list(ranges.pieces(position, position + 1))
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(50_000) < 10 * seconds(500)  # in proportion it would be 100 times


@pytest.mark.race
def test_range_map_is_read_whole_while_another_thread_changes_it() -> None:
    ranges: RangeMap[object] = RangeMap(1000, "left")
    ranges.assign(600, 700, "middle")
    ranges.assign(700, 1000, "right")
    is_read = threading.Event()

    def change() -> None:
        while not is_read.is_set():
            for start in range(0, 600, 2):
                ranges.assign(start, start + 1, start)
            ranges.assign(0, 600, "left")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(20_000):
            assert ranges.pieces(650, 651) == [(650, 651, "middle")]
            pieces = ranges.pieces(599, 800)
            assert pieces[-2:] == [(600, 700, "middle"), (700, 800, "right")]
            assert pieces[0][:2] == (599, 600)
            pieces = ranges.pieces(0, 600)
            edges = [0, *(end for _, end, _ in pieces)]
            assert edges[-1] == 600
            assert [start for start, _, _ in pieces] == edges[:-1]
    finally:
        is_read.set()
        changer.join()
        sys.setswitchinterval(interval)


def test_range_map_looks_anew_for_what_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = RangeMap(10, "a")
    ranges.assign(4, 6, "b")
    search = RangeMap[str]._index  # pyright: ignore[reportPrivateUsage]
    stale = [9, 0]

    def search_or_guess(self: RangeMap[str], position: int) -> int:
        return stale.pop() if stale else search(self, position)

    monkeypatch.setattr(RangeMap, "_index", search_or_guess)
    assert ranges.pieces(5, 9) == [(5, 6, "b"), (6, 9, "a")]
    assert not stale
    stale.append(9)
    assert ranges.pieces(5, 6) == [(5, 6, "b")]


@pytest.mark.race
def test_range_map_is_read_while_a_finalizer_empties_it() -> None:
    program = """
        import gc, sys
        from itertools import product
        from mmapwrap._core.range_map import RangeMap

        SIZE = 20_000

        class Garbage:
            def __init__(self):
                self.itself = self

            def __del__(self):
                ranges.assign(0, SIZE, 0)
                kept.append([bytes(n % 64) for n in range(SIZE)])  # where the ranges were

        def collect_after(searches, allocations):
            def profile(frame, event, argument):
                nonlocal searches
                searches -= event == "return" and frame.f_code.co_name == "_index"
                if not searches:
                    sys.setprofile(None)
                    gc.collect()
                    Garbage()
                    kept.append([[] for _ in range(100)])  # the interpreter keeps none for reuse
                    gc.set_threshold(gc.get_count()[0] + allocations)
                    gc.enable()
            return profile

        for searches, allocations in product((1, 2), range(-9, 9)):
            gc.disable()
            ranges, kept = RangeMap(SIZE, 0), []
            for start in range(0, SIZE, 2):
                ranges.assign(start, start + 1, 1)
            sys.setprofile(collect_after(searches, allocations))
            pieces = ranges.pieces(0, SIZE)
            sys.setprofile(None)
            assert pieces[0][0] == 0 and pieces[-1][1] == SIZE
    """
    child(program, measured=False).succeeded()


def ask_a_range_map_while_it_changes() -> None:
    pages = 64
    ranges = RangeMap(pages * PAGE, 3)

    def write() -> None:
        for page in range(0, pages, 2):
            ranges.assign(page * PAGE, (page + 1) * PAGE, 1)
        ranges.assign(0, pages * PAGE, 3)

    def read() -> None:
        position = 0
        for start, end, value in ranges.pieces(0, pages * PAGE):
            assert (start, value) in {(position, 1), (position, 3)}
            assert end > start
            position = end
        assert position == pages * PAGE

    sys.setswitchinterval(1e-5)
    run_for(0.5, write, read, read)


@pytest.mark.race
def test_range_map_that_changes_is_read_without_a_gap() -> None:
    in_process(ask_a_range_map_while_it_changes, measured=False).succeeded()


class ShrinkingList(list[tuple[int, int, int]]):
    """The ranges of a map that another thread makes shorter as the third is asked for."""

    def __init__(self, owner: RangeMap[int], ranges: list[tuple[int, int, int]]) -> None:
        super().__init__(ranges)
        self._owner = owner
        self._asked = 0

    def __getitem__(self, index: Any) -> Any:
        self._asked += 1
        if self._asked == 3:
            self._owner.resize(10)
        return [*self][int(index)]


def test_range_map_that_becomes_shorter_while_it_is_read_ends_the_reading() -> None:
    ranges: RangeMap[int] = RangeMap(40, 0)
    for start in (10, 20, 30):
        ranges.assign(start, start + 10, start)
    ranges._ranges = ShrinkingList(ranges, ranges._ranges)  # pyright: ignore[reportPrivateUsage]
    assert ranges.pieces(0, 40) == [(0, 10, 0)]
    assert (ranges.size, ranges.pieces(0, 40)) == (10, [(0, 10, 0)])


@pytest.mark.parametrize("sizes", [(0,), (10, 40), (20,), (21,), (0, 5, 40), (40,), (15, 0, 1)])
def test_range_map_of_another_size_goes_on_with_its_last_value(sizes: tuple[int, ...]) -> None:
    ranges: RangeMap[int] = RangeMap(30, 1)
    ranges.assign(10, 20, 2)
    ranges.assign(20, 30, 3)
    values = [1] * 10 + [2] * 10 + [3] * 10
    for size in sizes:
        last = values[-1] if values else ranges.last
        shorter = values[:size] or values[:1]
        values = (values + [last] * size)[:size]
        ranges.resize(size)
        assert ranges.size == size
        found = [each for start, end, each in ranges.pieces(0, size) for _ in range(start, end)]
        assert found == values
        assert ranges.last == (values[-1] if values else shorter[0])
