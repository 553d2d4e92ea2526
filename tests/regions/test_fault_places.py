"""The place of a fault: the first page that a copying or populating call misses, and its return."""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from files import memory_file
from kernel_view import MIB, PAGE, any_vm_flags, in_process, known_bytes, say, usages
from lost_pages import KEPT, SIZE, fault_of
from marks import LOCKS_DO_NOTHING
from protections import RW

from mmapwrap import MappedRegion, MappingFaultError, MemoryMapping, Sharing, u8, u32
from mmapwrap._core import faults

LONG = MIB


COPIES: dict[str, Callable[[MappedRegion, int], object]] = {
    "read_slice": lambda m, start: m.read_slice(bytearray(LONG), start),
    "slice": lambda m, start: m[start:],
    "steps": lambda m, start: m[start::7],
    "write_slice": lambda m, start: m.write_slice(bytes(LONG - start), start),
    "assign": lambda m, start: m.__setitem__(slice(start, LONG), bytes(LONG - start)),
    "find": lambda m, start: m.find(b"\xff\xfe", start),
    "rfind": lambda m, start: m.rfind(b"\xff\xfe", start),
    "copy_to": lambda m, start: m.get_slice(start, LONG - start).copy_to(bytearray(LONG)),
    "copy_from": lambda m, start: m.get_slice(start, LONG - start).copy_from(bytes(LONG)),
    "load_many": lambda m, start: m.get_slice(0, LONG).load_many(
        u32, LONG // 4 - start // 4, start // 4 * 4
    ),
    "store_many": lambda m, start: m.get_slice(0, LONG).store_many(u8, bytes(LONG - start), start),
    "write_bytes": lambda m, start: m.get_slice(start, LONG - start).write_bytes(1),
    "to a slice": lambda m, start: m.get_slice(start, LONG - start).copy_to_volatile_slice(
        MemoryMapping.new(LONG).get_slice(0, LONG)
    ),
    "from a slice": lambda m, start: (
        MemoryMapping.new(LONG)
        .get_slice(0, LONG - start)
        .copy_to_volatile_slice(m.get_slice(start, LONG - start))
    ),
}


WHERE = [0, 1, PAGE - 1, 3 * PAGE + 5, LONG // 2]


def say_first_missing(path: str) -> None:
    content = known_bytes(LONG)
    Path(path).write_bytes(content)
    with MemoryMapping.from_file(path) as m:
        for name, start in itertools.product(COPIES, WHERE):
            for left in (0, PAGE, start + PAGE - 1, LONG // 2 + 3 * PAGE + 1, LONG - PAGE):
                os.truncate(path, left)
                first = max(start // PAGE, -(-left // PAGE)) * PAGE
                try:
                    COPIES[name](m, start)
                except MappingFaultError as error:
                    if (error.offset, error.pages) != (first, 1):
                        say(name, start, left, "gives", error.offset, error.pages, "not", first)
                else:
                    say(name, start, left, "is no error")
                os.truncate(path, LONG)


def test_copy_tells_the_first_page_that_is_missing(disk_path: Path) -> None:
    ended = in_process(say_first_missing, disk_path / "cut")
    assert ended.succeeded() == ""


def copy_until_it_grows_again(path: str) -> None:
    content = known_bytes(LONG)
    for left in (0, PAGE, LONG // 2 + 100):
        Path(path).write_bytes(content)
        with MemoryMapping.from_file(path) as m:
            view = m.view()
            kernels = [usage.flags for usage in usages(m.as_ptr(), LONG)]
            os.truncate(path, left)
            for _ in range(3):
                assert fault_of(lambda m=m: bytes(m)).pages == 1  # type: ignore[misc]
                assert m[:left] == content[:left]
                assert m.find(b"\xff\xfe", 0, left) == -1
                m.protect(RW)
                m.msync(0, left)
                assert m.live_views == 1
            assert [usage.flags for usage in usages(m.as_ptr(), LONG)] == kernels
            Path(path).write_bytes(content)  # of the same length: the file has grown again
            assert bytes(m) == content
            assert bytes(view) == content
            m[LONG - 1] = 0xFF
            assert Path(path).read_bytes()[-1] == 0xFF


def test_copy_that_failed_works_once_the_file_has_grown_again(disk_path: Path) -> None:
    in_process(copy_until_it_grows_again, disk_path / "cut").succeeded()


BRINGING_IN: dict[str, tuple[Callable[[MemoryMapping], object], int]] = {
    "populate": (lambda m: m.populate(), KEPT),
    "populate for writing": (lambda m: m.populate(write=True), KEPT),
    "populate of a part": (lambda m: m.populate(7 * PAGE, 2 * PAGE), 7),
    "lock": (lambda m: m.lock(), KEPT),
    "lock of a part": (lambda m: m.lock(3 * PAGE + 1, 5 * PAGE), KEPT),
    "lock_all": (lambda m: m.lock_all(), KEPT),
    "flush_all": (lambda m: m.flush_all(), KEPT),
}


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
@pytest.mark.parametrize("sharing", list(Sharing))
@pytest.mark.parametrize("name", BRINGING_IN)
def test_call_that_brings_missing_pages_in_tells_the_first(
    name: str, sharing: Sharing, disk_path: Path
) -> None:
    call, first = BRINGING_IN[name]
    path = disk_path / "file"
    path.write_bytes(known_bytes(SIZE))
    with MemoryMapping.from_file(path, sharing=sharing) as m:
        os.truncate(path, KEPT * PAGE)
        error = fault_of(lambda: call(m))
        assert (error.offset, error.pages) == (first * PAGE, 1)
        assert "lo" not in any_vm_flags(m.as_ptr(), SIZE)
        assert m[: KEPT * PAGE] == known_bytes(KEPT * PAGE)
        path.write_bytes(known_bytes(SIZE))
        call(m)
        assert m[:] == known_bytes(SIZE)


@pytest.fixture
def cut() -> Iterator[MemoryMapping]:
    """Three pages of a memfd that has none any more."""
    fd = memory_file(bytes(3 * PAGE))
    with MemoryMapping.from_fd(fd, 3 * PAGE) as m:
        os.ftruncate(fd, 0)
        os.close(fd)
        yield m


def test_populate_inside_a_missing_first_page_tells_the_page(cut: MemoryMapping) -> None:
    for offset in (0, 8, PAGE - 1):
        error = fault_of(partial(cut.populate, offset, PAGE - offset))
        assert (error.offset, error.pages) == (0, 1)


def test_populate_of_what_has_come_back_meanwhile_tells_the_first_page_of_the_range(
    cut: MemoryMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_is_missing(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(faults, "missing_in", none_is_missing)
    assert fault_of(lambda: cut.populate(2 * PAGE + 8, 1)).offset == 2 * PAGE


def test_remove_tells_the_one_page_that_it_touches() -> None:
    fd = memory_file(bytes(3 * PAGE))
    with MemoryMapping.from_fd(fd, 2 * PAGE + 5) as m:
        os.ftruncate(fd, 0)
        os.close(fd)
        assert fault_of(lambda: m.remove_range(PAGE, PAGE + 5)).offset == 2 * PAGE
