"""`into_arena` beside other calls and in the middle of them: a region is one or the other."""

import contextlib
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from kernel_view import PAGE, KnownFile, in_process
from meanwhile import interrupted_at, run_for
from protections import NONE, READ, RW

import mmapwrap
from mmapwrap import (
    ClosedMappingError,
    MemoryMapping,
    MemoryMappingArena,
    Protection,
    ProtectionError,
)
from mmapwrap._core import calls


def destructive(advice: mmapwrap.DestructiveAdvice) -> Callable[[MemoryMapping, Any], None]:
    return lambda mapping, offset: mapping.advise_destructive(advice, offset, PAGE)


CHANGES: dict[str, Callable[[MemoryMapping, Any], None]] = {
    "protect": lambda mapping, offset: mapping.protect(READ, offset, PAGE),
    "remove_range": lambda mapping, offset: mapping.remove_range(offset, PAGE),
    "REMOVE": destructive(mmapwrap.DestructiveAdvice.REMOVE),
    "GUARD_INSTALL": destructive(mmapwrap.DestructiveAdvice.GUARD_INSTALL),
    "GUARD_REMOVE": destructive(mmapwrap.DestructiveAdvice.GUARD_REMOVE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_what_has_become_an_arena_is_refused(change: str, known_file: KnownFile) -> None:
    arenas: list[MemoryMappingArena] = []

    class Offset:
        def __index__(self) -> int:
            arenas.append(mapping.into_arena())
            with known_file.path.open("r+b") as file:
                arenas[0].add_fd(0, PAGE, file)
            return 0

    mapping = MemoryMapping.new(PAGE)
    with pytest.raises(ClosedMappingError):
        CHANGES[change](mapping, Offset())
    with arenas[0] as arena:
        assert arena.segments()[0].prot == RW
        assert arena[:] == known_file.content[:PAGE] == known_file.path.read_bytes()[:PAGE]


@pytest.mark.parametrize("bits", [READ, RW])
def test_mapping_whose_way_to_an_arena_is_interrupted_anywhere_can_be_used(
    bits: Protection, known_file: KnownFile
) -> None:
    before, after = 2 * PAGE - 5, 2 * PAGE
    sizes: list[int] = []
    is_interrupted = True
    while is_interrupted:
        with MemoryMapping.from_file(known_file.path, before) as mapping:
            mapping.protect(bits)
            is_interrupted = interrupted_at(len(sizes), mapping.into_arena, KeyboardInterrupt)
            if not mapping.closed:
                size = mapping.size
                sizes.append(size)
                view = mapping.view()
                assert (view.nbytes, view.readonly) == (size, bits == READ)
                view.release()
                assert mapping[:] == known_file.content[:size]
                mapping.protect(NONE)
                mapping.protect(READ)
                with mapping.into_arena() as arena:
                    assert arena[:] == known_file.content[:after]
            elif is_interrupted:
                sizes.append(after)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (before, after)
    assert len(sizes) > 5


def test_read_only_mapping_stays_so_where_its_way_to_an_arena_is_interrupted(
    known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_arena = calls.become_arena

    def interrupted(handle: Any) -> int:
        become_arena(handle)
        raise KeyboardInterrupt

    with MemoryMapping.from_file(known_file.path, 2 * PAGE - 5) as mapping:
        mapping.protect(READ)
        monkeypatch.setattr(calls, "become_arena", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mapping.into_arena()
        assert mapping.size == mapping.view().nbytes == 2 * PAGE
        with pytest.raises(ProtectionError):
            mapping.remove_range(0, PAGE)
        with pytest.raises(ProtectionError):
            mapping[0] = 1
        assert mapping[:] == known_file.content[: 2 * PAGE]


def test_read_only_mapping_that_is_an_arena_all_at_once_loses_nothing(
    known_file: KnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = calls.remove

    def of_an_arena(*arguments: Any) -> int:
        mapping.into_arena().close()
        return remove(*arguments)

    with MemoryMapping.from_file(known_file.path, PAGE) as mapping:
        mapping.protect(READ)
        monkeypatch.setattr(calls, "remove", of_an_arena)
        with pytest.raises(ProtectionError):
            mapping.remove_range(0, PAGE)
    assert known_file.path.read_bytes() == known_file.content


def call_beside_into_arena() -> None:
    box = [MemoryMapping.new(8 * PAGE + 100)]

    def make() -> None:
        box[0].into_arena()
        box[0] = MemoryMapping.new(8 * PAGE + 100)

    def use() -> None:
        with contextlib.suppress(ClosedMappingError):
            m = box[0]
            m.view()
            assert len(m[:]) in {8 * PAGE + 100, 9 * PAGE}
            m.protect(RW)
            m.residency()

    sys.setswitchinterval(1e-5)
    run_for(1, make, use, use)


@pytest.mark.race
def test_call_beside_into_arena_works_or_is_a_closed_error() -> None:
    in_process(call_beside_into_arena, measured=False).succeeded()


@pytest.mark.xfail(reason="for a moment the mapping has the size that its arena will have")
def test_size_of_a_mapping_that_becomes_an_arena_stays_what_it_is() -> None:
    m = MemoryMapping.new(8 * PAGE + 100)
    sizes: list[int] = []

    def look(frame: FrameType, event: str, argument: object) -> None:
        if "mmapwrap" in frame.f_code.co_filename and event != "c_call":
            with contextlib.suppress(ClosedMappingError):
                sizes.append(m.size)

    sys.setprofile(look)
    try:
        arena = m.into_arena()
    finally:
        sys.setprofile(None)
    assert len(arena) == 9 * PAGE
    assert len(sizes) > 1
    assert set(sizes) == {8 * PAGE + 100}
