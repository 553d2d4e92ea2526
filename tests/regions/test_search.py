"""`find`, `rfind` and `is_all_zero`: against `bytes`, at every place, and not a byte outside."""

import time
from collections.abc import Callable, Iterator
from itertools import product
from operator import contains
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from kernel_view import PAGE, Index, KnownFile, child, known_bytes
from marks import MEMORY_IS_COUNTED
from protections import NONE, READ

from mmapwrap import (
    ClosedMappingError,
    InvalidArgumentError,
    InvalidRangeError,
    MemoryMapping,
    MemoryMappingArena,
    ProtectionError,
)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Three pages and five bytes of known bytes, which repeat after 251."""
    with MemoryMapping.new(3 * PAGE + 5) as m:
        m[:] = known_bytes(m.size)
        yield m


@pytest.fixture
def island() -> Iterator[MemoryMappingArena]:
    """An arena whose second page is memory and whose first and third are holes.

    What reads a byte outside the second page, reads where nothing may be read.
    """
    with MemoryMappingArena.new(3 * PAGE) as arena:
        arena.add_anon(PAGE, PAGE)
        yield arena


# find and rfind

few_letters = st.text("ab", max_size=12).map(str.encode)
needles = st.one_of(few_letters, st.binary(max_size=3))
haystacks = st.one_of(
    st.text("ab", min_size=1, max_size=60).map(str.encode),
    st.binary(min_size=1, max_size=60),
)
bounds = st.integers(-70, 70) | st.sampled_from([2**63, -(2**63), 2**64, -(2**64), 2**100])


@given(haystacks, needles, st.lists(bounds, max_size=2))
@example(b"a", b"", [])
@example(b"a", b"", [1])
@example(b"a", b"", [2])
@example(b"a", b"", [1, 0])
@example(b"abab", b"ab", [0, 3])
@example(b"aab", b"ab", [-2])
@example(b"abaab", b"aab", [])
def test_find_and_rfind_are_those_of_bytes(
    haystack: bytes, needle: bytes, start_and_end: list[int]
) -> None:
    with MemoryMapping.new(len(haystack)) as m:
        m[:] = haystack
        assert m.find(needle, *start_and_end) == haystack.find(needle, *start_and_end)
        assert m.rfind(needle, *start_and_end) == haystack.rfind(needle, *start_and_end)
        assert m.count(needle, *start_and_end) == haystack.count(needle, *start_and_end)


@given(haystacks, needles, st.none() | bounds, st.none() | bounds)
def test_find_and_rfind_take_start_and_end_by_name_and_index_method(
    haystack: bytes, needle: bytes, start: int | None, end: int | None
) -> None:
    with MemoryMapping.new(len(haystack)) as m:
        m[:] = haystack
        first = None if start is None else Index(start)
        last = None if end is None else Index(end)
        assert m.find(needle, first, last) == haystack.find(needle, start, end)
        assert m.rfind(needle, start=start, end=end) == haystack.rfind(needle, start, end)
        assert m.find(needle, end=end) == haystack.find(needle, 0, end)
        assert m.count(needle, Index(start or 0), end) == haystack.count(needle, start or 0, end)


@given(st.data())
def test_find_and_rfind_of_what_is_there_find_it(data: st.DataObject) -> None:
    haystack = data.draw(st.text("abc", min_size=1, max_size=400).map(str.encode))
    start = data.draw(st.integers(0, len(haystack) - 1))
    needle = haystack[start : data.draw(st.integers(start + 1, len(haystack)))]
    with MemoryMapping.new(len(haystack)) as m:
        m[:] = haystack
        first, last = m.find(needle), m.rfind(needle)
        assert first <= start <= last
        assert (first, last) == (haystack.find(needle), haystack.rfind(needle))


def test_find_and_rfind_of_all_short_words_of_two_letters_are_those_of_bytes() -> None:
    words = [bytes(word) for count in range(10) for word in product(b"ab", repeat=count)]
    with MemoryMapping.new(9) as m:
        for haystack in words:
            m[: len(haystack)] = haystack
            for needle in words[: 2**6 - 1]:  # those of up to five letters
                end = len(haystack)
                assert m.find(needle, 0, end) == haystack.find(needle)
                assert m.rfind(needle, 0, end) == haystack.rfind(needle)
                assert m.count(needle, 0, end) == haystack.count(needle)


def test_find_and_rfind_of_words_that_overlap_themselves_are_those_of_bytes() -> None:
    words = [bytes(word) for count in range(1, 9) for word in product(b"ab", repeat=count)]
    with MemoryMapping.new(16) as m:
        for word in words:
            for cut in range(len(word)):
                for haystack in (word[:cut] + word, word + word[cut:], word[cut:] + word[1:]):
                    m[: len(haystack)] = haystack
                    end = len(haystack)
                    assert m.find(word, 0, end) == haystack.find(word)
                    assert m.rfind(word, 0, end) == haystack.rfind(word)


def test_find_and_rfind_across_pages_find_first_and_last(mapping: MemoryMapping) -> None:
    everything = known_bytes(mapping.size)
    for start, count in ((PAGE - 3, 6), (2 * PAGE - 1, 2), (3 * PAGE, 5), (10, 2 * PAGE), (0, 1)):
        needle = everything[start : start + count]
        assert mapping.find(needle) == everything.find(needle)
        assert mapping.rfind(needle) == everything.rfind(needle)
    assert mapping.find(everything) == mapping.rfind(everything) == 0
    assert mapping.find(everything + b"x") == mapping.rfind(everything + b"x") == -1
    assert mapping.find(b"\0") == mapping.rfind(b"\0") == -1


@pytest.mark.parametrize(
    "needle",
    [
        bytearray(b"\5\6"),
        memoryview(b"\5\6"),
        np.array([5, 6], dtype=np.uint8),
        np.array([0x0605], dtype="<u2"),
    ],
)
def test_find_takes_any_buffer(needle: Any, mapping: MemoryMapping) -> None:
    assert mapping.find(needle) == 4
    assert mapping.rfind(needle) == known_bytes(mapping.size).rfind(b"\5\6")


def test_find_of_a_view_of_the_region_itself_finds_it(mapping: MemoryMapping) -> None:
    with mapping.view(251, 20) as needle:
        assert mapping.find(needle) == 0
        assert mapping.find(needle, 1) == 251


@pytest.mark.parametrize("needle", ["a", 97, None, 1.0, [97]])
def test_find_of_what_is_no_buffer_is_refused(needle: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        mapping.find(needle)
    with pytest.raises(TypeError):
        mapping.rfind(needle)


@pytest.mark.parametrize("bound", [0.0, "0", b"0"])
def test_find_bound_that_is_no_integer_is_refused(bound: Any, mapping: MemoryMapping) -> None:
    for search in (mapping.find, mapping.rfind):
        with pytest.raises(TypeError):
            search(b"a", bound)
        with pytest.raises(TypeError):
            search(b"a", 0, bound)


@given(haystacks, st.one_of(needles, st.integers(0, 255)))
def test_in_is_that_of_bytes(haystack: bytes, item: bytes | int) -> None:
    with MemoryMapping.new(len(haystack)) as m:
        m[:] = haystack
        assert (item in m) is (item in haystack)
        assert (haystack in m) is True
        assert (Index(haystack[-1]) in m) is True
        assert (np.frombuffer(haystack[:3], np.uint8) in m) is True
        assert (np.uint8(haystack[0]) in m) is True


@pytest.mark.parametrize("item", [-1, 256, 2**64])
def test_in_of_what_is_no_byte_is_refused(item: int, mapping: MemoryMapping) -> None:
    with pytest.raises(InvalidArgumentError):
        contains(mapping, item)


@pytest.mark.parametrize("item", ["a", None, 1.0, [97]])
def test_in_of_another_type_is_refused(item: Any, mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError):
        contains(mapping, item)


def test_find_at_every_place_reads_nothing_outside(island: MemoryMappingArena) -> None:
    edge = b"edge of nothing"
    expected = known_bytes(PAGE)
    island[PAGE : 2 * PAGE] = expected
    for cut in range(40):
        for start, end in ((PAGE, 2 * PAGE - cut), (PAGE + cut, 2 * PAGE), (PAGE, PAGE + cut)):
            inner = expected[start - PAGE : end - PAGE]
            for needle in (b"\0", edge, inner[-2:], inner[:3], inner + b"\1", b""):
                found, last = inner.find(needle), inner.rfind(needle)
                assert island.find(needle, start, end) == (found if found < 0 else found + start)
                assert island.rfind(needle, start, end) == (last if last < 0 else last + start)


@pytest.mark.parametrize("start", range(0, 64, 7))
def test_find_at_every_alignment_and_length_is_that_of_bytes(
    start: int, mapping: MemoryMapping
) -> None:
    everything = known_bytes(mapping.size)
    for length in [*range(70), 127, 128, 129, 255, 256, 257, 600]:
        end = start + length
        for needle in (everything[end - 1 : end], everything[end : end + 1], b"\7\7", b"\7\10"):
            assert mapping.find(needle, start, end) == everything.find(needle, start, end)
            assert mapping.rfind(needle, start, end) == everything.rfind(needle, start, end)


def test_find_in_a_hole_or_unreadable_page_is_refused(island: MemoryMappingArena) -> None:
    calls: list[Callable[[], object]] = [
        lambda: island.find(b"a"),
        lambda: island.rfind(b"a"),
        lambda: island.find(b"a", PAGE - 1, PAGE + 1),
        lambda: island.rfind(b"a", 2 * PAGE - 1, 2 * PAGE + 1),
        island.is_all_zero,
        lambda: island.is_all_zero(PAGE, PAGE + 1),
        lambda: island.is_all_zero(PAGE - 1, 2),
    ]
    for call in calls:
        with pytest.raises(ProtectionError) as caught:
            call()
        assert (caught.value.required, caught.value.actual) == (READ, NONE)
    assert island.find(b"a", PAGE, 2 * PAGE) == -1
    assert island.is_all_zero(PAGE, PAGE)


def test_search_of_a_read_only_region_works_and_of_an_unreadable_one_does_not(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path, prot=READ) as m:
        assert m.find(b"\1\2") == 0
        assert m.rfind(b"\1\2") == known_file.content.rfind(b"\1\2")
        assert not m.is_all_zero()
        m.protect(NONE)
        calls: list[Callable[[], object]] = [
            lambda: m.find(b"\1"),
            lambda: m.rfind(b"\1"),
            m.is_all_zero,
        ]
        for call in calls:
            with pytest.raises(ProtectionError):
                call()


def test_search_of_a_closed_region_is_refused() -> None:
    m = MemoryMapping.new(PAGE)
    m.close()
    calls: list[Callable[[], object]] = [
        lambda: m.find(b"a"),
        lambda: m.find(b"", 5, 1),
        lambda: m.rfind(b"a"),
        lambda: m.rfind(b""),
        lambda: b"a" in m,
        lambda: 5 in m,
        m.is_all_zero,
        lambda: m.is_all_zero(0, 0),
        lambda: m.is_all_zero(PAGE + 1, 0),
    ]
    for call in calls:
        with pytest.raises(ClosedMappingError):
            call()


def seconds(call: Callable[[], object]) -> float:
    """The processor time of a call in this thread, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best


WORST_CASES: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "needle ends otherwise": lambda n: (b"a" * n, b"a" * (n // 4) + b"b"),
    "needle starts otherwise": lambda n: (b"a" * n, b"b" + b"a" * (n // 4)),
    "needle is otherwise in its middle": lambda n: (
        b"a" * n,
        b"a" * (n // 8) + b"b" + b"a" * (n // 8),
    ),
    "period of two": lambda n: (b"ab" * (n // 2), b"ab" * (n // 8) + b"aa"),
    "period of two from the back": lambda n: (b"ab" * (n // 2), b"bb" + b"ab" * (n // 8)),
    "long period": lambda n: ((b"a" * 999 + b"b") * (n // 1000), b"a" * 1000 + b"b"),
    "many near matches": lambda n: ((b"a" * 63 + b"b") * (n // 64), b"a" * 63 + b"c"),
}


@pytest.mark.not_sanitized(MEMORY_IS_COUNTED)
@pytest.mark.alone
@pytest.mark.parametrize("case", list(WORST_CASES))
@pytest.mark.parametrize("search", ["find", "rfind"])
def test_search_in_the_worst_case_takes_time_in_proportion_to_the_size(
    search: str, case: str
) -> None:
    times: list[float] = []
    for size in (1 << 18, 1 << 21):
        haystack, needle = WORST_CASES[case](size)
        with MemoryMapping.new(len(haystack)) as m:
            m[:] = haystack
            assert getattr(m, search)(needle) == -1
            times.append(seconds(lambda: getattr(m, search)(needle)))  # noqa: B023
            place = len(haystack) - len(needle) if search == "find" else 0
            m.write_slice(needle, place)
            assert getattr(m, search)(needle) == place
    # Eight times the size: in proportion 8, by squares 64. The half a millisecond is for what
    # takes no time at all.
    assert times[1] < 24 * (times[0] + 0.0005)


@pytest.mark.race
def test_search_in_what_another_process_changes_finds_what_stays() -> None:
    program = """
        import os, signal, time
        from mmapwrap import MemoryMapping, MemoryMappingArena

        SIZE = 1 << 16
        text = MemoryMapping.new(1 << 20)
        arena = MemoryMappingArena.new(SIZE + 4096)
        arena.add_anon(0, SIZE)
        needle = arena.view(0, SIZE)  # what comes after it cannot be read
        needle[0] = text[0] = text[400_000] = text[800_000] = 65
        changer = os.fork()
        if not changer:
            view = text.view()
            while os.getppid() != 1:
                for end in (SIZE - 2, 800_000 + SIZE - 2):
                    view[end] = 1
                    view[end] = 0
            os._exit(0)
        found, until = set(), time.monotonic() + 2
        while time.monotonic() < until:
            found |= {text.find(needle), text.rfind(needle)}
        os.kill(changer, signal.SIGKILL)
        os.waitpid(changer, 0)
        print(400_000 in found, found <= {0, 400_000, 800_000})
    """
    assert child(program).succeeded().split() == ["True"] * 2


@pytest.mark.parametrize("needle", [b"cd", ord("c"), bytearray(b"abcd")])
def test_region_contains_bytes_and_runs_of_them(needle: Any) -> None:
    with MemoryMapping.new(PAGE) as mapping:
        assert needle not in mapping
        mapping[100:104] = b"abcd"
        assert needle in mapping


# is_all_zero


@pytest.mark.parametrize("alignment", range(64))
def test_is_all_zero_looks_at_each_byte_of_the_range_and_at_no_other(
    alignment: int, mapping: MemoryMapping
) -> None:
    mapping[:] = b"\xff" * mapping.size
    for length in range(601):
        mapping[alignment : alignment + length] = bytes(length)
        assert mapping.is_all_zero(alignment, length)
        if length:
            # The zeros end where the range does: a byte more on either side is not zero.
            assert not mapping.is_all_zero(alignment, length + 1)
            if alignment:
                assert not mapping.is_all_zero(alignment - 1, length + 1)
            assert mapping.is_all_zero(alignment + length, 0)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 600])
def test_is_all_zero_sees_one_bit_at_every_place(length: int, mapping: MemoryMapping) -> None:
    mapping[:] = bytes(mapping.size)
    for alignment in (0, 1, 7, 8, 33):
        for position in range(length):
            mapping[alignment + position] = 1 << position % 8
            assert not mapping.is_all_zero(alignment, length)
            mapping[alignment + position] = 0
        assert mapping.is_all_zero(alignment, length)


def test_is_all_zero_before_and_after_a_hole_reads_nothing_outside(
    island: MemoryMappingArena,
) -> None:
    for length in range(601):
        assert island.is_all_zero(2 * PAGE - length, length)
        assert island.is_all_zero(PAGE, length)
    island[PAGE] = island[2 * PAGE - 1] = 1
    for length in range(1, 601):
        assert not island.is_all_zero(2 * PAGE - length, length)
        assert not island.is_all_zero(PAGE, length)
        assert island.is_all_zero(PAGE + 1, length)
        assert island.is_all_zero(2 * PAGE - 1 - length, length)
    assert island.is_all_zero(PAGE + 1, PAGE - 2)
    assert island.is_all_zero(0, 0)


def test_is_all_zero_of_whole_regions() -> None:
    with MemoryMapping.new(3 * PAGE + 5) as m:
        assert m.is_all_zero()
        assert m.is_all_zero(PAGE)
        assert m.is_all_zero(Index(1), Index(PAGE))
        m[3 * PAGE + 4] = 1
        assert not m.is_all_zero()
        assert not m.is_all_zero(3 * PAGE + 4)
        assert m.is_all_zero(0, 3 * PAGE + 4)
        assert m.is_all_zero(3 * PAGE + 5)
        assert m.is_all_zero(offset=3 * PAGE + 5, count=0)


OUTSIDE = [(-1, 1), (0, -1), (0, PAGE + 1), (PAGE, 1), (PAGE + 1, 0), (1, 2**64), (2**64, 0)]


@pytest.mark.parametrize(("offset", "count"), OUTSIDE)
def test_is_all_zero_outside_the_region_is_refused(offset: int, count: int) -> None:
    with MemoryMapping.new(PAGE) as m:
        with pytest.raises(InvalidRangeError) as caught:
            m.is_all_zero(offset, count)
        assert (caught.value.offset, caught.value.count) == (offset, count)
        assert caught.value.region_size == PAGE


@pytest.mark.parametrize(("offset", "count"), [(0.0, 1), (0, 1.0), ("0", 1), (None, 1)])
def test_is_all_zero_range_not_of_integers_is_refused(offset: Any, count: Any) -> None:
    with MemoryMapping.new(PAGE) as m, pytest.raises(TypeError):
        m.is_all_zero(offset, count)
