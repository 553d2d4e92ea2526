"""`MemoryMapping` in many threads and over many rounds: nobody waits, nothing is left."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from kernel_view import (
    MIB,
    PAGE,
    KnownFile,
    child,
    is_mapped,
    mapped_ranges,
    newly_mapped,
    open_descriptors,
    process_unchanged,
    vmas,
)
from marks import MEMORY_IS_COUNTED

from mmapwrap import (
    AddressInUseError,
    Advice,
    ClosedMappingError,
    LockLimitError,
    MemoryMapping,
    Protection,
    Sharing,
)
from mmapwrap._core import buffers

BIG = 512 * MIB


class Counter:
    """A thread that counts for as long as it can."""

    def __init__(self) -> None:
        self.count = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped:
            self.count += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped = True
        self._thread.join()


def rate_while(counter: Counter, call: Callable[[], object]) -> float:
    """How fast the counter counts while a call runs."""
    start, count = time.perf_counter(), counter.count
    call()
    return (counter.count - count) / (time.perf_counter() - start)


GOES_ON = 0.3


@pytest.fixture
def prompt_switches() -> Iterator[None]:
    """Threads take turns every 0.1 ms, so that a counter gets next to nothing between two calls."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(interval)


def best_share(prepare: Callable[[], object], call: Callable[[], object]) -> float:
    """The counter's rate during a call as a part of its rate beside a sleep, the best of five.

    Other programs on the machine can only lower it, so the best says most. A call that kept the
    interpreter to itself would give about 0 each time.
    """
    shares: list[float] = []
    with Counter() as counter:
        for _ in range(5):
            prepare()
            idle = rate_while(counter, lambda: time.sleep(0.2))
            shares.append(rate_while(counter, call) / idle)
            if shares[-1] >= GOES_ON:
                break
    return max(shares)


@pytest.fixture
def big_file(disk_path: Path) -> Iterator[MemoryMapping]:
    """512 MiB of a file, not yet written."""
    path = disk_path / "big"
    path.touch()
    space = os.statvfs(disk_path)
    if space.f_bavail * space.f_frsize < 2 * BIG:
        pytest.skip("less than 1 GiB is free on the disk")
    os.truncate(path, BIG)
    with MemoryMapping.from_file(path) as m:
        yield m


@pytest.mark.alone
@pytest.mark.usefixtures("prompt_switches")
def test_counting_goes_on_during_msync(big_file: MemoryMapping) -> None:
    assert best_share(lambda: big_file.populate(write=True), big_file.msync) >= GOES_ON


@pytest.mark.alone
@pytest.mark.usefixtures("prompt_switches")
@pytest.mark.parametrize("write", [False, True])
def test_counting_goes_on_during_populate(write: bool) -> None:
    held: list[MemoryMapping] = []

    def prepare() -> None:
        held[:] = [MemoryMapping.new(BIG)]

    assert best_share(prepare, lambda: held[0].populate(write=write)) >= GOES_ON
    held[0].close()


@pytest.mark.alone
@pytest.mark.usefixtures("prompt_switches")
def test_counting_goes_on_during_one_long_advice() -> None:
    if not Advice.POPULATE_WRITE.is_supported():
        pytest.skip("this kernel does not know MADV_POPULATE_WRITE")
    held: list[MemoryMapping] = []

    def prepare() -> None:
        held[:] = [MemoryMapping.new(BIG)]

    assert best_share(prepare, lambda: held[0].advise(Advice.POPULATE_WRITE)) >= GOES_ON
    held[0].close()


LONG = 128 * MIB
HALF = LONG // 2

# What copies or reads all of a region: each keeps to C for some milliseconds.
LONG_CALLS: dict[str, Callable[[MemoryMapping, bytearray], object]] = {
    "m[:]": lambda m, _: m[:],
    "m[::2]": lambda m, _: m[::2],
    "m[:] = data": lambda m, data: m.__setitem__(slice(None), data),
    "m[::-1] = data": lambda m, data: m.__setitem__(slice(None, None, -1), data),
    "read_slice": lambda m, data: m.read_slice(data, 0),
    "write_slice": lambda m, data: m.write_slice(data, 0),
    "find": lambda m, _: m.find(b"nowhere"),
    "rfind": lambda m, _: m.rfind(b"nowhere"),
    "is_all_zero": lambda m, _: m.is_all_zero(),
    "==": lambda m, _: m.get_slice(0, HALF) == m.get_slice(HALF, HALF),
    "write_bytes": lambda m, _: m.get_slice(0, LONG).write_bytes(0),
    "copy_to": lambda m, data: m.get_slice(0, LONG).copy_to(data),
    "copy_to_volatile_slice": lambda m, _: m.get_slice(0, HALF).copy_to_volatile_slice(
        m.get_slice(HALF, HALF)
    ),
    "lock": lambda m, _: m.lock(),
    "close": lambda m, _: m.close(),
}


@pytest.mark.alone
@pytest.mark.usefixtures("prompt_switches")
@pytest.mark.parametrize("name", LONG_CALLS)
def test_counting_goes_on_during_a_long_call(name: str) -> None:
    data = bytearray(LONG)
    held: list[MemoryMapping] = []
    if name == "lock":
        try:
            MemoryMapping.new(LONG).lock()
        except LockLimitError:
            pytest.skip("RLIMIT_MEMLOCK is too low")

    def prepare() -> None:
        held[:] = [MemoryMapping.anonymous(LONG, populate=name != "lock")]

    assert best_share(prepare, lambda: LONG_CALLS[name](held[0], data)) >= GOES_ON
    held[0].close()


def seconds_on_used_memory(make: Callable[[int], object], size: int) -> float:
    """How long it takes to make something where memory was used before; the median of nine."""
    times: list[float] = []
    for _ in range(9):
        used, pin = (
            b"x" * size,
            b"y" * (MIB // 4),
        )  # the pin keeps the allocator from giving it back
        del used
        start = time.perf_counter()
        made = make(size)
        times.append(time.perf_counter() - start)
        del made, pin
    return sorted(times)[4]


@pytest.mark.alone
def test_memory_for_a_long_slice_is_not_cleared_first() -> None:
    # Clearing takes as long as writing, and would hold the GIL.
    size = 16 * MIB
    seconds_on_used_memory(bytes, 2 * size)  # from here on so much comes from the heap
    cleared = seconds_on_used_memory(bytes, size)
    assert seconds_on_used_memory(lambda count: buffers.new_bytes(count)[0], size) < cleared / 5


def test_a_long_slice_is_made_without_ctypes_too() -> None:
    program = f"""
        import sys
        sys.modules["ctypes"] = None  # as in a Python that was built without it
        from mmapwrap import MemoryMapping
        with MemoryMapping.new({MIB}) as m:
            m[:] = b"x" * {MIB}
            assert m[:] == b"x" * {MIB}
            assert m[::2] == b"x" * {MIB // 2}
    """
    assert child(program).succeeded() == ""


@pytest.mark.race
def test_map_and_close_100000_rounds_leave_nothing() -> None:
    MemoryMapping.new(PAGE).close()
    descriptors, mappings = open_descriptors(), len(vmas())
    for _ in range(100_000):
        MemoryMapping.new(PAGE).close()
    assert open_descriptors() == descriptors
    # The interpreter's own memory may have become a mapping more or less; 100,000 would show.
    assert abs(len(vmas()) - mappings) <= 3


@pytest.mark.race
def test_map_and_close_a_file_100000_rounds_leave_nothing(known_file: KnownFile) -> None:
    MemoryMapping.from_file(known_file.path).close()
    descriptors, mappings = open_descriptors(), len(vmas())
    for _ in range(100_000):
        MemoryMapping.from_file(known_file.path, 100, offset=PAGE + 1).close()
    assert open_descriptors() == descriptors
    assert abs(len(vmas()) - mappings) <= 3
    with process_unchanged():
        for _ in range(1000):
            with MemoryMapping.from_file(known_file.path) as m:
                view = m.view()
                assert view[0] == known_file.content[0]
            del m, view


def test_refused_20000_rounds_leave_nothing(known_file: KnownFile) -> None:
    with known_file.path.open("rb") as file, process_unchanged():
        mappings = len(vmas())
        for _ in range(20_000):
            with pytest.raises(PermissionError):
                MemoryMapping.from_file(file, PAGE, prot=Protection.write(), align=2 * MIB)
        assert abs(len(vmas()) - mappings) <= 3


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run work in several threads that start together; an error in any fails the test."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def map_once_free(address: int) -> MemoryMapping:
    """Map a page at an address as soon as nothing is there: another thread may be unmapping it."""
    end = time.monotonic() + 10
    while True:
        try:
            return MemoryMapping.new_protection_fixed(address, PAGE, Protection.read_write())
        except AddressInUseError:
            if time.monotonic() > end:
                raise


def _close_and_move_in(
    m: MemoryMapping, address: int, moved_in: list[MemoryMapping], number: int
) -> None:
    m.close()
    assert m.closed
    if number == 0:
        moved_in.append(map_once_free(address))
        moved_in[0][0] = 7


@pytest.mark.not_sanitized(MEMORY_IS_COUNTED)
@pytest.mark.race
def test_close_from_many_threads_at_once_unmaps_once() -> None:
    for _ in range(200):
        m = MemoryMapping.new(PAGE)
        address = m.as_ptr()
        moved_in: list[MemoryMapping] = []
        in_threads(4, partial(_close_and_move_in, m, address, moved_in))
        assert moved_in[0][0] == 7  # nobody unmapped it a second time
        moved_in.pop().close()
        assert not is_mapped(address)


def _use_until_closed(m: MemoryMapping, number: int) -> None:
    if number == 0:
        time.sleep(0.0005)
        m.close()
        return
    with suppress(ClosedMappingError):
        while True:
            m[number] = number
            assert m[number] == number
            assert m.view(number, 1)[0] == number
            m.write_slice(b"x" * PAGE, number * PAGE)
            m.populate(number * PAGE, PAGE)
            m.residency()
            m.msync(number * PAGE, 1)
            m.advise(Advice.RANDOM, number * PAGE, PAGE)
            m.protect(Protection.read_write(), number * PAGE, PAGE)


@pytest.mark.race
def test_use_while_another_thread_closes_works_or_is_a_closed_error() -> None:
    for _ in range(100):
        m = MemoryMapping.new(16 * PAGE)
        address = m.as_ptr()

        in_threads(4, partial(_use_until_closed, m))
        del m
        gc.collect()
        assert not is_mapped(address, 16 * PAGE)


def test_close_during_a_long_call_leaves_the_pages_to_it() -> None:
    program = """
        import threading, time
        from kernel_view import is_mapped
        from mmapwrap import Advice, ClosedMappingError, MemoryMapping

        size = 256 << 20
        calls = [
            lambda m: m.populate(write=True),
            lambda m: m.advise(Advice.POPULATE_WRITE),
            lambda m: m.msync(),
            lambda m: m.write_slice(bytes(size), 0),
            lambda m: m[:],
        ]
        for call in calls:
            m = MemoryMapping.new(size)
            address = m.as_ptr()
            unexpected = []

            def run():
                try:
                    call(m)
                except ClosedMappingError:
                    pass
                except BaseException as error:
                    unexpected.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            time.sleep(0.01)
            m.close()
            thread.join()
            assert not unexpected, unexpected
            assert not is_mapped(address, size)
        print("done")
    """
    assert child(program).succeeded() == "done\n"


def test_mapping_made_in_many_threads_leaves_nothing(known_file: KnownFile) -> None:
    # The threads themselves map stacks and heaps: once before, so that those are there.
    def work(number: int) -> None:
        for _ in range(300):
            with MemoryMapping.from_file(
                known_file.path, PAGE, offset=number * PAGE, align=16 * PAGE
            ) as m:
                assert m.as_ptr() % (16 * PAGE) == 0
                assert m[0] == known_file.content[number * PAGE]
            with MemoryMapping.anonymous(PAGE, sharing=Sharing.PRIVATE) as m:
                m[0] = number

    in_threads(4, work)
    before, descriptors = mapped_ranges(), open_descriptors()
    in_threads(4, work)
    assert open_descriptors() == descriptors
    kept = [
        vma
        for start, end in newly_mapped(before)
        for vma in vmas()
        if vma.start < end and start < vma.end and vma.path not in {"", "[heap]"}
    ]
    assert kept == []
