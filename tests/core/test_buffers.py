"""Regions as exporters of the buffer protocol, and the buffers of callers that are copied.

What may crash runs in a child process.
"""

import array
import contextlib
import ctypes
import functools
import gc
import io
import itertools
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import run_forked
from kernel_view import PAGE, in_process, is_mapped, known_bytes, perms, vmas_in
from marks import needs_python_buffers
from protections import NONE, READ, RW

from mmapwrap import (
    Advice,
    ClosedMappingError,
    DestructiveAdvice,
    InvalidArgumentError,
    MappedRegion,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    Protection,
    ProtectionError,
    SharedMemory,
    ViewsExportedError,
    VolatileSlice,
    f32,
    f64,
    i8,
    u8,
    u64,
    unsafe,
)

SIZE = 4 * PAGE

Export = Callable[[Any], Any]


def filled(size: int = SIZE) -> MemoryMapping:
    m = MemoryMapping.new(size)
    m[:] = known_bytes(size)
    return m


def an_arena() -> MemoryMappingArena:
    arena = MemoryMappingArena.new(SIZE)
    arena.add_anon(0, SIZE)
    arena[:] = known_bytes(SIZE)
    return arena


def memory_of_others() -> MappedRegion:
    owner = filled()
    return unsafe.from_raw_parts(owner.as_ptr(), SIZE, owner=owner)


def by_range() -> MappedRegion:
    m = filled()
    m.protect(RW, PAGE, PAGE)
    return m


REGIONS: dict[str, Callable[[], MappedRegion]] = {
    "mapping": filled,
    "by range": by_range,
    "arena": an_arena,
    "of others": memory_of_others,
}
every_region = pytest.mark.parametrize("region", REGIONS)

# What holds the buffer of a region, or keeps the object that it came from.
EXPORTS: dict[str, Export] = {
    "memoryview": memoryview,
    "view": lambda m: m.view(),
    "cast": lambda m: memoryview(m).cast("I"),
    "part": lambda m: memoryview(m)[PAGE : 2 * PAGE],
    "object of a memoryview": lambda m: memoryview(m).obj,
    "frombuffer": lambda m: np.frombuffer(m, np.uint8),
    "frombuffer of words": lambda m: np.frombuffer(m, np.uint32, 10, 100),
    "array of an array": lambda m: np.frombuffer(m, np.uint8)[5:][::3].reshape(-1, 1),
    "ndarray of a memoryview": lambda m: np.ndarray((PAGE,), np.uint8, buffer=memoryview(m)),
    "asarray": np.asarray,
    "array without a copy": lambda m: np.array(m, copy=False),
    "ctypes": (ctypes.c_char * PAGE).from_buffer,
    "pickle buffer": pickle.PickleBuffer,
    "buffered": lambda m: io.BufferedReader(Reader(memoryview(m))),
}
every_export = pytest.mark.parametrize("form", EXPORTS)

# What copies and lets go at once.
COPIES: dict[str, Export] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "list": list,
    "tuple": tuple,
    "reversed": lambda m: bytes(reversed(m))[::-1],
    "iterator": lambda m: bytes(iter(m)),
    "unpacked": lambda m: bytes([*m]),
    "set": lambda m: set(m) == set(known_bytes(SIZE)) and known_bytes(SIZE),
    "slice": lambda m: m[:],
    "array": np.array,
    "array of a type": lambda m: np.asarray(m, np.uint16).astype(np.uint8),
    "BytesIO": lambda m: io.BytesIO(m).getvalue(),
    "joined": lambda m: b"".join([m]),
    "added": lambda m: b"" + m,
    "to_bytes of a view": lambda m: memoryview(m).tobytes(),
}


class Reader(io.RawIOBase):
    """A file that keeps a view."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        buffer[:1] = self._view[:1]
        return 1


def first_byte(export: Any) -> int:
    """The first byte that an export shows."""
    if isinstance(export, io.BufferedReader):
        return export.read(1)[0]
    if isinstance(export, np.ndarray):
        return export.tobytes()[0]
    with memoryview(export) as view:
        return view.tobytes()[0]


@pytest.fixture(autouse=True)
def _without_garbage() -> Iterator[None]:
    """What goes in these tests goes with its last reference, and needs no collection."""
    gc.disable()
    yield
    gc.enable()


# A memoryview of a region


@every_region
def test_memoryview_of_a_region_shows_all_of_it_as_bytes(region: str) -> None:
    m = REGIONS[region]()
    with memoryview(m) as view:
        assert (view.format, view.itemsize, view.ndim) == ("B", 1, 1)
        assert (view.nbytes, view.shape, view.strides) == (SIZE, (SIZE,), (1,))
        assert view.contiguous
        assert not view.readonly
        assert view == known_bytes(SIZE)
        view[PAGE] = 0xFE
        assert m[PAGE] == 0xFE
        m[PAGE] = 0xFD
        assert view[PAGE] == 0xFD
        assert view[PAGE : PAGE + 1].tolist() == [0xFD]


@every_region
def test_memoryview_of_what_cannot_be_written_is_read_only(region: str) -> None:
    m = REGIONS[region]()
    m.protect(READ, PAGE, PAGE)
    with memoryview(m) as view:
        assert view.readonly
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1
    with memoryview(m.view(0, PAGE)) as part:
        assert not part.readonly
    assert not np.frombuffer(m, np.uint8).flags.writeable
    assert not np.ndarray((4,), np.uint8, buffer=m).flags.writeable
    m.close()


def test_object_of_a_memoryview_keeps_the_pages() -> None:
    m = filled()
    address = m.as_ptr()
    view = memoryview(m)
    kept: Any = view.obj
    assert kept is not m
    view.release()
    assert m.live_views == 1
    with memoryview(kept) as again:
        assert again == known_bytes(SIZE)
    m.close()
    del view
    assert is_mapped(address, SIZE)
    with memoryview(kept) as again:
        assert again == known_bytes(SIZE)
        again[0] = 9
    del kept, again
    assert not is_mapped(address, SIZE)


def test_type_of_the_object_of_a_memoryview_makes_no_object() -> None:
    m = filled()
    made: Any = type(memoryview(m).obj)
    with pytest.raises(TypeError):
        made(None, m.as_ptr(), SIZE, True, {})


class Buffer(ctypes.Structure):
    """Py_buffer of Python's C API."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


@contextlib.contextmanager
def requested(m: MappedRegion, flags: int) -> Generator[Buffer]:
    """The buffer that PyObject_GetBuffer gives for these flags."""
    buffer = Buffer()
    api = ctypes.pythonapi
    api.PyObject_GetBuffer(ctypes.py_object(m), ctypes.byref(buffer), flags)
    try:
        yield buffer
    finally:
        api.PyBuffer_Release(ctypes.byref(buffer))


SIMPLE, WRITABLE, FORMAT, ND, STRIDES = 0, 1, 4, 8, 0x18
C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT = 0x38, 0x58, 0x98, 0x118
REQUESTS = (SIMPLE, FORMAT, ND, STRIDES, C_CONTIGUOUS, F_CONTIGUOUS, INDIRECT, 0x11C)


@every_region
@pytest.mark.parametrize("flags", REQUESTS)
def test_buffer_is_given_for_every_request(flags: int, region: str) -> None:
    m = REGIONS[region]()
    for wanted in (flags, flags | WRITABLE):
        with requested(m, wanted) as buffer:
            assert (buffer.buf, buffer.len, buffer.itemsize) == (m.as_ptr(), SIZE, 1)
            assert (buffer.readonly, buffer.ndim) == (0, 1)
            assert buffer.format == (b"B" if flags & FORMAT else None)
            assert bool(buffer.shape) == bool(flags & ND)
            assert bool(buffer.strides) == (flags & STRIDES == STRIDES)
            assert not buffer.suboffsets
            assert m.live_views == 1
        assert m.live_views == 0
    m.protect(READ)
    with requested(m, flags) as buffer:
        assert buffer.readonly == 1
    with pytest.raises(BufferError), requested(m, flags | WRITABLE):
        pass
    assert m.live_views == 0
    m.protect(NONE)
    with pytest.raises(ProtectionError), requested(m, flags):
        pass
    m.close()
    with pytest.raises(ClosedMappingError), requested(m, flags):
        pass
    assert m.live_views == 0


def test_object_of_a_buffer_that_is_released_keeps_the_pages() -> None:
    """As torch.frombuffer does: it takes the object of the buffer, and releases that."""
    m = filled()
    address = m.as_ptr()
    with requested(m, WRITABLE) as buffer:
        kept: Any = ctypes.cast(buffer.obj, ctypes.py_object).value
    assert m.live_views == 1
    with pytest.raises(ViewsExportedError):
        m.protect(READ)
    m.close()
    assert ctypes.string_at(address, SIZE) == known_bytes(SIZE)
    assert kept is not None
    del kept
    assert m.live_views == 0
    assert not is_mapped(address, SIZE)


def test_buffer_of_any_contiguity_is_kept_by_the_region_once() -> None:
    m = filled()
    address = m.as_ptr()
    for _ in range(3):
        with requested(m, ANY_CONTIGUOUS) as buffer:
            assert buffer.len == SIZE
        assert m.live_views == 1
    m.close()
    assert is_mapped(address, SIZE)
    del m
    assert not is_mapped(address, SIZE)


def test_buffer_asked_for_writing_of_a_read_only_region_is_a_buffer_error() -> None:
    m = filled()
    m.protect(READ)
    with pytest.raises(BufferError, match="not writable"), requested(m, WRITABLE):
        pass
    with pytest.raises(TypeError, match="not writable"):
        (ctypes.c_char * 4).from_buffer(m)
    assert m.live_views == 0
    assert np.ndarray((4,), np.uint8, buffer=m).tobytes() == known_bytes(4)
    m.close()


# Closed and inaccessible regions

ASKING: dict[str, Export] = {
    **EXPORTS,
    "ndarray": lambda m: np.ndarray((4,), np.uint8, buffer=m),
    "array of objects": lambda m: np.array(m, dtype=object),
    "array of a list": lambda m: np.array([m]),
    "ascontiguousarray": np.ascontiguousarray,
    "asanyarray": np.asanyarray,
    "operand": lambda m: np.zeros(SIZE, np.uint8) + m,
    "sum": np.sum,
    **COPIES,
}


# bytes.join and + give a TypeError of their own in place of what a buffer's owner raises.
every_asking = pytest.mark.parametrize(
    "form", [form for form in ASKING if form not in {"joined", "added"}]
)


@every_asking
def test_buffer_of_a_closed_region_is_a_closed_error(form: str) -> None:
    m = filled()
    m.close()
    with pytest.raises(ClosedMappingError):
        ASKING[form](m)


@every_asking
def test_buffer_of_a_region_without_any_access_is_a_protection_error(form: str) -> None:
    m = filled()
    m.protect(NONE, PAGE, PAGE)
    for _ in range(2):
        with pytest.raises(ProtectionError, match="read access is needed"):
            ASKING[form](m)
        assert m.live_views == 0
        m.protect(NONE)


# What lives how long


@every_region
@every_export
def test_export_counts_as_a_live_view_until_it_goes(form: str, region: str) -> None:
    m = REGIONS[region]()
    assert m.live_views == 0
    first = EXPORTS[form](m)
    assert m.live_views == 1
    second = EXPORTS[form](m)
    assert m.live_views == 2
    assert first_byte(first) == first_byte(second)
    assert m.live_views == 2
    del first
    assert m.live_views == 1
    del second
    assert m.live_views == 0


@every_region
@every_export
def test_export_keeps_the_pages_of_a_closed_region_until_it_goes(form: str, region: str) -> None:
    m = REGIONS[region]()
    address = m.as_ptr()
    export = EXPORTS[form](m)
    expected = first_byte(export)
    m.close()
    assert m.closed
    assert m.live_views == 1
    del m
    assert "" not in perms(address, SIZE)
    assert first_byte(export) == expected
    del export
    assert not is_mapped(address, SIZE)


def test_exports_of_all_forms_keep_the_pages_in_whatever_order_they_go() -> None:
    forms = ["memoryview", "frombuffer", "ndarray of a memoryview", "ctypes"]
    for order in itertools.permutations(range(len(forms))):
        m = filled()
        address = m.as_ptr()
        exports = [EXPORTS[form](m) for form in forms]
        m.close()
        for gone, index in enumerate(order):
            assert is_mapped(address, SIZE)
            assert m.live_views == len(forms) - gone
            exports[index] = None
        assert m.live_views == 0
        assert not is_mapped(address, SIZE)


@every_region
def test_ndarray_of_a_region_keeps_the_pages_as_long_as_it_lives(region: str) -> None:
    m = REGIONS[region]()
    address = m.as_ptr()
    first = np.ndarray((SIZE,), np.uint8, buffer=m)
    second = np.ndarray((SIZE // 4,), np.uint32, buffer=m)
    assert m.live_views == 1
    assert first.tobytes() == second.tobytes() == known_bytes(SIZE)
    m.close()
    del m, first
    assert "" not in perms(address, SIZE)
    assert second.tobytes() == known_bytes(SIZE)
    second[0] = 0
    del second
    assert not is_mapped(address, SIZE)


def test_ndarray_of_a_region_counts_as_long_as_the_region_object_lives() -> None:
    m = filled()
    made: Any = np.ndarray((SIZE,), np.uint8, buffer=m)
    assert made.base is m
    del made
    assert m.live_views == 1
    with pytest.raises(ViewsExportedError):
        m.protect(READ)
    m.close()


@pytest.mark.parametrize("form", COPIES)
def test_copy_of_a_region_is_right_and_leaves_no_view(form: str) -> None:
    for make in REGIONS.values():
        m = make()
        address = m.as_ptr()
        copy = COPIES[form](m)
        assert bytes(copy) == known_bytes(SIZE)
        assert m.live_views == 0
        m.protect(NONE)
        m.close()
        del m
        assert not is_mapped(address, SIZE)
        assert bytes(copy) == known_bytes(SIZE)


def test_iteration_that_is_not_finished_keeps_no_view() -> None:
    m = filled()
    iterator = iter(m)
    assert [next(iterator) for _ in range(5)] == list(known_bytes(5))
    assert m.live_views == 0
    m.protect(READ)
    assert next(iterator) == known_bytes(6)[5]
    m.close()
    with pytest.raises(ClosedMappingError):
        list(iterator)


def test_iteration_ends_at_the_end_of_a_region_of_any_size() -> None:
    for size in (1, 2, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 7):
        with filled(size) as m:
            assert list(m) == list(known_bytes(size))
            assert bytes(reversed(m)) == known_bytes(size)[::-1]
            *head, last = m
            assert bytes(head) + bytes([last]) == known_bytes(size)
            assert [byte for _, byte in zip(range(3), m, strict=False)] == list(m[:3])


@every_export
def test_protection_that_an_export_relies_on_cannot_be_taken_away(form: str) -> None:
    m = filled()
    export = EXPORTS[form](m)
    for protection in (NONE, READ, Protection(writable=True)):
        for args in ((), (0, PAGE), (PAGE, PAGE)):
            with pytest.raises(ViewsExportedError) as caught:
                m.protect(protection, *args)
            assert caught.value.views == 1
    with pytest.raises(ViewsExportedError):
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, PAGE)
    m.protect(RW)
    m.protect(Protection(readable=True, writable=True, executable=True))
    assert first_byte(export) in known_bytes(SIZE)
    del export
    m.protect(NONE)
    assert perms(m.as_ptr(), SIZE) == 4 * ["---s"]


# ctypes takes no read-only buffer.
@pytest.mark.parametrize("form", [form for form in EXPORTS if form != "ctypes"])
def test_export_of_a_read_only_region_lets_writing_come_and_go(form: str) -> None:
    m = filled()
    m.protect(READ)
    export = EXPORTS[form](m)
    m.protect(RW)
    m[0] = known_bytes(1)[0]
    m.protect(READ)
    with pytest.raises(ViewsExportedError):
        m.protect(NONE)
    assert first_byte(export) in known_bytes(SIZE)


@every_export
def test_export_goes_on_when_its_mapping_becomes_an_arena(form: str) -> None:
    m = filled()
    export = EXPORTS[form](m)
    expected = first_byte(export)
    arena = m.into_arena()
    assert m.closed
    del m
    assert arena.live_views == 1
    assert first_byte(export) == expected
    changes: list[Callable[[], object]] = [
        lambda: arena.add_anon(0, SIZE),
        lambda: arena.remove(0, SIZE),
        lambda: arena.remove(PAGE, PAGE),
        lambda: arena.protect(READ),
    ]
    for change in changes:
        with pytest.raises(ViewsExportedError):
            change()
    assert arena[:] == known_bytes(SIZE)
    del export
    for change in changes[:3]:
        change()
    assert arena.live_views == 0


def test_ndarray_of_a_mapping_goes_on_when_it_becomes_an_arena() -> None:
    m = filled()
    made = np.ndarray((SIZE,), np.uint8, buffer=m)
    arena = m.into_arena()
    with pytest.raises(ViewsExportedError):
        arena.remove(0, SIZE)
    del m
    with pytest.raises(ViewsExportedError):
        arena.add_anon(0, PAGE)
    assert made.tobytes() == known_bytes(SIZE)
    del made
    assert arena.live_views == 0
    arena.remove(0, SIZE)


def test_arena_changes_what_no_export_shows() -> None:
    arena = an_arena()
    with arena.view(PAGE, PAGE) as view:
        arena.remove(0, PAGE)
        arena.add_anon(2 * PAGE, 2 * PAGE)
        with pytest.raises(ViewsExportedError):
            arena.remove(0, SIZE)
        with pytest.raises(ViewsExportedError):
            arena.add_anon(PAGE, 1)
        with pytest.raises(ProtectionError):
            memoryview(arena)
        assert view == known_bytes(SIZE)[PAGE : 2 * PAGE]
    arena.add_anon(0, PAGE)
    with memoryview(arena) as view:
        assert view[PAGE : 2 * PAGE] == known_bytes(SIZE)[PAGE : 2 * PAGE]


def test_ctypes_structure_of_a_region_is_its_memory() -> None:
    class Header(ctypes.LittleEndianStructure):
        _fields_ = (("magic", ctypes.c_uint32), ("count", ctypes.c_uint64))

    with MemoryMapping.new(PAGE) as m:
        header = Header.from_buffer(m, 8)
        header.magic, header.count = 0x1234, 7
        assert m.read_obj(u64, 16) == 7
        m.write_obj(u64, 9, 16)
        assert header.count == 9
        copied = Header.from_buffer_copy(m, 8)
        assert m.live_views == 1
        del header
        assert m.live_views == 0
        assert copied.magic == 0x1234


def test_pickle_buffer_of_a_region_passes_it_out_of_band() -> None:
    with filled() as m:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(pickle.PickleBuffer(m), 5, buffer_callback=buffers.append)
        assert len(data) < 100
        assert m.live_views == 1
        loaded = pickle.loads(data, buffers=buffers)
        assert memoryview(loaded) == known_bytes(SIZE)
        buffers[0].release()
        del loaded, buffers
        assert m.live_views == 0


def test_region_is_copied_into_another_and_into_itself() -> None:
    with filled() as m, MemoryMapping.new(SIZE) as other:
        assert other.write_slice(m, 0) == SIZE
        assert other[:] == known_bytes(SIZE)
        other[:] = bytes(SIZE)
        assert m.read_slice(other, 0) == SIZE
        assert other[:] == known_bytes(SIZE)
        assert other.find(m) == 0
        m[PAGE] = 0xFF
        assert m.find(memoryview(m)[PAGE:], 1) == PAGE
        m[PAGE] = known_bytes(SIZE)[PAGE]
        assert m in other
        with memoryview(m) as view:
            assert m.write_slice(view[:-PAGE], PAGE) == SIZE - PAGE
        assert m[:] == known_bytes(SIZE)[:PAGE] + known_bytes(SIZE)[:-PAGE]
        assert other.get_slice(PAGE, PAGE).copy_from(m) == PAGE
        assert other.get_slice(0, PAGE).copy_to(m) == PAGE
        m[:] = other
        assert m[:] == other[:]
        assert m.live_views == other.live_views == 0


# Other processes and threads


@every_export
def test_export_lives_on_in_a_forked_child(form: str) -> None:
    m = filled()
    address = m.as_ptr()
    export = EXPORTS[form](m)
    expected = known_bytes(SIZE)[:PAGE]
    pid = os.fork()
    if pid == 0:
        try:
            m.close()
            is_right = is_mapped(address, SIZE) and m.live_views == 1
            is_right = is_right and first_byte(export) in expected
            del export
            os._exit(0 if is_right and not is_mapped(address, SIZE) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert m.live_views == 1
    assert m[:] == known_bytes(SIZE)
    assert first_byte(export) in known_bytes(SIZE)


@every_export
def test_export_in_a_child_that_does_not_inherit_the_pages_unmaps_nothing(form: str) -> None:
    m = filled()
    address = m.as_ptr()
    export = EXPORTS[form](m)
    m.use_dontfork()
    pid = os.fork()
    if pid == 0:
        try:
            other = unsafe.new_protection_fixed(address, SIZE, RW)
            other[0] = 5
            try:
                memoryview(m)
            except ClosedMappingError:
                del export
                m.close()
                os._exit(0 if other[0] == 5 and is_mapped(address, SIZE) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert first_byte(export) in known_bytes(SIZE)


def test_written_export_of_shared_memory_is_seen_by_the_other_process() -> None:
    m = filled()
    made = np.frombuffer(m, np.uint8)

    def write() -> None:
        made[PAGE] = 0xEE

    run_forked(write)
    assert made[PAGE] == m[PAGE] == 0xEE


def run_together(*functions: Callable[[], object]) -> None:
    """Run each function in a thread of its own; raises what one of them raised."""
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  # it is raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def touch_all(export: Any) -> None:
    data = np.asarray(export)
    for at in range(0, data.size, PAGE // data.itemsize // 4):
        item = data.flat[at]
        if data.flags.writeable:
            data.flat[at] = item


def exports_while_others_change(kind: str) -> None:
    """Threads take and release exports and touch them, others change and close the region."""
    regions = [REGIONS[kind]()]
    end = time.monotonic() + 0.6
    counts = dict.fromkeys(("touched", "changed", "refused"), 0)
    forms = [form for form in EXPORTS if form not in {"ctypes", "buffered"}]

    def touch() -> None:
        while time.monotonic() < end:
            kept: list[Any] = []
            for form in forms:
                with contextlib.suppress(ProtectionError, ClosedMappingError):
                    kept = [*kept[-2:], EXPORTS[form](regions[0])]
                for export in kept:
                    touch_all(export)
                    counts["touched"] += 1
            del kept
            time.sleep(0)

    def protect(*arguments: Any) -> None:
        try:
            regions[0].protect(*arguments)
            counts["changed"] += 1
        except ViewsExportedError:
            counts["refused"] += 1

    def change() -> None:
        while time.monotonic() < end:
            for _ in range(20):
                protect(READ, PAGE, PAGE)
                protect(NONE, PAGE, PAGE)
                protect(NONE)
                protect(RW)
            last, regions[0] = regions[0], REGIONS[kind]()
            last.close()

    sys.setswitchinterval(1e-5)
    run_together(touch, touch, change)
    assert all(counts.values()), counts
    assert regions[0].live_views == 0


@pytest.mark.race
@pytest.mark.parametrize("region", ["mapping", "by range", "arena"])
def test_export_in_threads_while_others_change_the_region_can_always_be_touched(
    region: str,
) -> None:
    in_process(exports_while_others_change, region, measured=False).succeeded()


def exports_of_one_region_in_threads() -> None:
    regions = [filled()]
    end = time.monotonic() + 0.7
    forms = [*EXPORTS.values(), ASKING["ndarray"]]

    def use() -> None:
        while time.monotonic() < end:
            for form in forms:
                export = form(regions[0])
                assert regions[0].live_views > 0
                first_byte(export)
                del export

    run_together(*(4 * [use]))
    assert regions[0].live_views >= 1  # the ndarrays
    address = regions[0].as_ptr()
    regions.pop().close()
    assert not is_mapped(address, SIZE)


@pytest.mark.race
def test_exports_that_many_threads_take_of_one_region_are_all_counted_and_released() -> None:
    in_process(exports_of_one_region_in_threads, measured=False).succeeded()


# Buffers of callers

COPYING: dict[str, Callable[[MemoryMapping, Any], object]] = {
    "read_slice": lambda m, buffer: m.read_slice(buffer, 0),
    "copy_to": lambda m, buffer: m.get_slice(0, SIZE).copy_to(buffer),
    "read_exact": lambda m, buffer: m.read_exact(buffer, 0),
    "slice read_exact": lambda m, buffer: m.get_slice(0, SIZE).read_exact(buffer),
    "write_slice": lambda m, buffer: m.write_slice(buffer, 0),
    "copy_from": lambda m, buffer: m.get_slice(0, SIZE).copy_from(buffer),
    "write_all": lambda m, buffer: m.write_all(buffer, 0),
    "slice write_all": lambda m, buffer: m.get_slice(0, SIZE).write_all(buffer),
    "assign": lambda m, buffer: assign(m, buffer, 1),
    "assign steps": lambda m, buffer: assign(m, buffer, 2),
    "find": lambda m, buffer: m.find(buffer),
    "rfind": lambda m, buffer: m.rfind(buffer),
    "in": lambda m, buffer: buffer in m,
}
EXACT = {"read_exact", "slice read_exact", "write_all", "slice write_all"}
FILLING = ("read_slice", "copy_to", "read_exact", "slice read_exact")
ARGUMENT = {
    **dict.fromkeys(FILLING, "buffer"),
    **dict.fromkeys(
        ("write_slice", "copy_from", "write_all", "slice write_all", "assign", "assign steps"),
        "data",
    ),
    **dict.fromkeys(("find", "rfind", "in"), "needle"),
}
every_copy = pytest.mark.parametrize("call", COPYING)


def size_of(buffer: Any) -> int:
    """The bytes of a buffer, also of one that NumPy does not describe to a memoryview."""
    size: int = buffer.nbytes if hasattr(buffer, "nbytes") else memoryview(buffer).nbytes
    return size


def assign(m: MemoryMapping, buffer: Any, step: int) -> None:
    """Assign to a slice as long as the buffer, if it is one."""
    size = size_of(buffer) if hasattr(buffer, "nbytes") or isinstance(buffer, BUFFERS) else 1
    m[0 : size * step : step] = buffer


BUFFERS = (bytes, bytearray, array.array, ctypes.Array, ctypes.Structure, MemoryMapping)


class WithObject(ctypes.Structure):
    """A structure that holds a Python object."""

    _fields_ = (("number", ctypes.c_int), ("item", ctypes.py_object))


class Nested(ctypes.Structure):
    """A structure of a structure that holds a Python object."""

    _fields_ = (("Offset", ctypes.c_int), ("inner", WithObject))


class Plain(ctypes.Structure):
    """A structure whose fields have the letter of Python objects in their names."""

    _fields_ = (("Offset", ctypes.c_int), ("O", ctypes.c_ushort), ("O2", ctypes.c_ushort))


def masked_objects() -> Any:
    made: Any = np.ma.array([object()], dtype=object)  # pyright: ignore[reportUnknownVariableType]
    return made


# Each with its format, as errors name it.
OBJECTS: dict[str, tuple[Callable[[], Any], str]] = {
    "array": (lambda: np.array([object() for _ in range(8)], dtype=object), "object"),
    "array of no dimension": (lambda: np.array(object(), dtype=object), "object"),
    "memoryview": (lambda: memoryview(np.array([object()], dtype=object)), "'O'"),
    "structured": (lambda: np.zeros(3, [("a", "i4"), ("o", "O")]), "('o', 'O')"),
    "structured memoryview": (
        lambda: memoryview(np.zeros(3, [("a", "i4"), ("o", "O")])),
        "T{i:a:",
    ),
    "nested": (lambda: np.zeros(3, [("a", [("x", "i4"), ("o", "O")])]), "('o', 'O')"),
    "array field": (lambda: np.zeros(3, [("a", "O", (2,))]), "'O', (2,)"),
    "record": (lambda: np.recarray(2, [("o", "O")]), "('o', 'O')"),
    "masked": (masked_objects, "object"),
    "variable strings": (
        lambda: np.array(["long" * 20], dtype=np.dtypes.StringDType()),  # type: ignore[attr-defined,unused-ignore]
        "StringDType",
    ),
    "py_object": (ctypes.py_object * 8, "O"),
    "py_object memoryview": (lambda: memoryview((ctypes.py_object * 8)()), "O"),
    "ctypes structure": (lambda: WithObject(1, object()), ":item:"),
    "ctypes array of structures": (WithObject * 2, ":item:"),
    "nested ctypes structure": (Nested, ":inner:"),
}


# What `in` is asked of an array of no dimension is whether its number is there.
@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (kind, call)
        for kind, call in itertools.product(OBJECTS, COPYING)
        if (kind, call) != ("array of no dimension", "in")
    ],
)
def test_buffer_of_python_objects_is_refused_with_its_format(kind: str, call: str) -> None:
    make, named = OBJECTS[kind]
    m = MemoryMapping.new(SIZE)
    m[:] = b"\x41" * SIZE
    buffer = make()
    size = size_of(buffer)
    before = ctypes.string_at(address_of(buffer), size)
    with pytest.raises(InvalidArgumentError, match="Python objects") as caught:
        COPYING[call](m, buffer)
    assert named in str(caught.value)
    assert str(caught.value).startswith(ARGUMENT[call])
    assert m[:] == b"\x41" * SIZE
    assert ctypes.string_at(address_of(buffer), size) == before


class Choice(ctypes.Union):
    """A union of a Python object and a number, which ctypes describes as bytes."""

    _fields_ = (("item", ctypes.py_object), ("number", ctypes.c_long))


class WithColon(ctypes.Structure):
    """A structure with the mark that ends a field's name in a name."""

    _fields_ = (("a:", ctypes.c_long), ("item", ctypes.py_object))


class Hidden(ctypes.Structure):
    """A structure in whose format the object looks like the name of a field."""

    _fields_ = (("a:b", ctypes.c_long), ("item", ctypes.py_object))


class Derived(Hidden):
    """A structure that has the object from its base."""

    _fields_ = (("more", ctypes.c_long),)  # type: ignore[assignment]


class Lying(np.ndarray[Any, Any]):
    """An array of objects that says it has none."""

    dtype = property(lambda _: np.dtype("u1"))  # pyright: ignore[reportIncompatibleMethodOverride]


def test_array_that_lies_about_its_objects_is_refused() -> None:
    lying = np.array([object(), None], dtype=object).view(Lying)
    with filled() as m, pytest.raises(InvalidArgumentError, match="Python objects"):
        m.read_slice(lying, 0)


class Overlaid(ctypes.Union):
    """A union of a Python object and of bytes, a part that is a buffer of its own."""

    _fields_ = (("item", ctypes.py_object), ("octets", ctypes.c_uint8 * 8))


class OfPython:
    """A buffer that a Python class makes, of another one."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.buffer)


HIDDEN: dict[str, Callable[[], Any]] = {
    "union": Choice,
    "colon": WithColon,
    "field's name": Hidden,
    "unions": Choice * 2,
    "derived": Derived,
    "array": lambda: np.frombuffer(Choice(), np.uint8),
    "array of an array": lambda: np.frombuffer(Choice(), np.uint8)[2:].view(np.uint16),
    "array of a memoryview": lambda: np.asarray(memoryview(Choice()).cast("B").toreadonly()),
    "array of dates": lambda: np.frombuffer(Choice(), "M8[ns]"),
    "array of an array of objects": lambda: np.frombuffer(np.array([object()]), np.uint8),
    "part of a union": lambda: Overlaid().octets,
    "ctypes from a buffer": lambda: (ctypes.c_char * 8).from_buffer(Choice()),
    "array of ctypes from a buffer": lambda: np.ctypeslib.as_array(
        (ctypes.c_uint8 * 8).from_buffer(Choice())
    ),
    "part of ctypes from a buffer": lambda: (ctypes.c_char * 4 * 2).from_buffer(Choice())[1],
    "pickle buffer": lambda: pickle.PickleBuffer(Choice()),
    "of Python": lambda: OfPython(Choice()),
    "of Python twice": lambda: OfPython(OfPython(np.frombuffer(Choice(), np.uint8))),
    "memoryview of Python": lambda: memoryview(OfPython(Choice())),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=needs_python_buffers if "of Python" in kind else ())
        for kind in HIDDEN
    ],
)
def test_buffer_of_python_objects_that_its_format_hides_is_refused(kind: str) -> None:
    with filled() as m:
        with pytest.raises(InvalidArgumentError, match="Python objects"):
            m.write_slice(HIDDEN[kind](), 0)
        assert m[:] == known_bytes(SIZE)


@pytest.mark.parametrize(
    "buffer",
    [
        ctypes.c_char_p(b"abc"),
        ctypes.c_wchar_p("abc"),
        ctypes.py_object([1]),
        ctypes.py_object(3),
    ],
    ids=["c_char_p", "c_wchar_p", "py_object of a list", "py_object of an int"],
)
def test_pointer_of_ctypes_to_a_python_object_is_refused(buffer: Any) -> None:
    with filled() as m:
        calls: tuple[Callable[[Any, int], object], ...] = (m.write_slice, m.write_all, m.read_exact)
        for call in calls:
            with pytest.raises(InvalidArgumentError, match="Python objects"):
                call(buffer, 0)
        assert m[:] == known_bytes(SIZE)


class OfItself(np.ndarray[Any, Any]):
    """An array that says it is the owner of its own memory."""

    @property
    def base(self) -> Any:
        return self


def from_buffers(number: int) -> Any:
    buffer = (ctypes.c_ubyte * 4)(1, 2, 3, 4)
    for _ in range(number):
        buffer = (ctypes.c_ubyte * 4).from_buffer(buffer)
    return buffer


@pytest.mark.parametrize(
    "make",
    [functools.partial(from_buffers, 3000), lambda: np.zeros(4, "u1").view(OfItself)],
    ids=["from_buffer of ctypes", "of itself"],
)
def test_buffer_with_no_end_of_others_behind_it_is_refused(make: Callable[[], Any]) -> None:
    with filled() as m:
        with pytest.raises(InvalidArgumentError, match="more than 1000 buffers are behind"):
            m.write_slice(make(), 0)
        assert m[:] == known_bytes(SIZE)


def test_buffer_with_many_others_behind_it_is_copied() -> None:
    with filled() as m:
        m.write_slice(from_buffers(300), 0)
        assert m[:4] == b"\1\2\3\4"


def test_structure_in_many_others_is_copied() -> None:
    kind: Any = ctypes.c_ubyte
    for _ in range(3000):
        kind = type("Around", (ctypes.Structure,), {"_fields_": [("inner", kind)]})
    with filled() as m:
        assert m.write_slice(kind.from_buffer_copy(b"a"), 0) == 1
        assert m[:1] == b"a"


def address_of(buffer: Any) -> int:
    """Where the memory of a buffer is."""
    if isinstance(buffer, memoryview):
        buffer = buffer.obj
    if isinstance(buffer, np.ndarray):
        return int(buffer.ctypes.data)
    return ctypes.addressof(buffer)


PLAIN: dict[str, Callable[[], Any]] = {
    "datetime64": lambda: np.array([1, 2, 3], "M8[ns]"),
    "timedelta64": lambda: np.arange(3, dtype="m8[s]"),
    "float16": lambda: np.arange(3, dtype=np.float16),
    "complex": lambda: np.arange(3, dtype=complex),
    "longdouble": lambda: np.arange(3, dtype=np.longdouble),
    "big-endian": lambda: np.arange(3, dtype=">i4"),
    "bool": lambda: np.array([True, False]),
    "text": lambda: np.array(["On", "Off"]),
    "bytes": lambda: np.array([b"On", b"Off"]),
    "void": lambda: np.zeros(3, "V5"),
    "structured": lambda: np.ones(3, [("Offset", "i4"), ("O", "f8"), ("Object", "u1", (3,))]),
    "padded": lambda: np.ones(3, np.dtype([("O", "i1"), ("b", "f8")], align=True)),
    "structured with dates": lambda: np.ones(3, [("Offset", "i4"), ("t", "M8[s]")]),
    "nested": lambda: np.ones(3, [("O", [("O", "i4")])]),
    "two dimensions": lambda: np.arange(12, dtype=np.int16).reshape(3, 4),
    "no dimension": lambda: np.array(7, np.int32),
    "memoryview of structures": lambda: memoryview(np.ones(3, [("Offset", "i4"), ("O", "f8")])),
    "array": lambda: array.array("d", [1, 2, 3]),
    "bytearray": lambda: bytearray(b"abc"),
    "cast memoryview": lambda: memoryview(bytearray(b"abcdefgh")).cast("I"),
    "ctypes structure": lambda: Plain(5, 7),
    "ctypes structures": Plain * 3,
    "ctypes text": lambda: ctypes.create_string_buffer(b"On"),
    "ctypes from a buffer": lambda: (ctypes.c_char * 3).from_buffer(bytearray(b"abc")),
    "array of ctypes": lambda: np.ctypeslib.as_array((ctypes.c_uint8 * 3)(1, 2, 3)),
    "array of a memoryview": lambda: np.frombuffer(memoryview(bytearray(b"abc")), np.uint8)[1:],
    "another region": lambda: filled(24),
    "array of another region": lambda: np.frombuffer(filled(24), np.uint8),
}


def bytes_of(buffer: Any) -> bytes:
    """The content of a buffer."""
    content: bytes = buffer.tobytes() if hasattr(buffer, "tobytes") else bytes(buffer)
    return content


@every_copy
@pytest.mark.parametrize("kind", PLAIN)
def test_buffer_of_plain_items_is_copied_as_bytes(kind: str, call: str) -> None:
    buffer = PLAIN[kind]()
    size = size_of(buffer)
    content = bytes_of(buffer)
    assert len(content) == size
    m = filled()
    if call in FILLING:
        assert COPYING[call](m, buffer) == (None if call in EXACT else size)
        assert bytes_of(buffer) == m[:size]
    elif call in {"write_slice", "copy_from", "write_all", "slice write_all"}:
        assert COPYING[call](m, buffer) == (None if call in EXACT else size)
        assert m[:size] == content
        assert m[size:] == known_bytes(SIZE)[size:]
    elif call == "assign":
        m[0:size] = buffer
        assert m[:size] == content
    elif call == "assign steps":
        m[0 : 2 * size : 2] = buffer
        assert m[0 : 2 * size : 2] == content
    else:
        m[:] = bytes(SIZE)
        m[PAGE : PAGE + size] = content
        found = COPYING[call](m, buffer)
        if kind == "no dimension" and call == "in":
            assert found is True  # it is a number
        else:
            assert found in ({True} if call == "in" else {m[:].find(content), m[:].rfind(content)})
            assert found is not False
            assert found != -1


WRONG: dict[str, tuple[Any, str]] = {
    "str": ("abc", "bytes are needed, not str"),
    "None": (None, "not NoneType"),
    "list": ([1, 2], "not list"),
    "steps": (np.zeros(8, np.uint8)[::2], "contiguous"),
    "steps of a memoryview": (memoryview(bytearray(8))[::2], "contiguous"),
    "reversed": (np.zeros(8, np.uint8)[::-1], "contiguous"),
    "columns first": (np.asfortranarray(np.zeros((3, 3), np.uint8)), "contiguous"),
}
READ_ONLY: dict[str, Any] = {
    "bytes": b"abc",
    "memoryview": memoryview(b"abc"),
    "array": np.frombuffer(b"abc", np.uint8),
    "date": np.datetime64("2026-01-01"),
}


@every_copy
@pytest.mark.parametrize(
    "kind",
    WRONG,
)
def test_what_is_no_contiguous_buffer_is_a_type_error_that_names_the_argument(
    kind: str, call: str
) -> None:
    wrong, word = WRONG[kind]
    with filled() as m, pytest.raises(TypeError) as caught:
        COPYING[call](m, wrong)
    assert not isinstance(caught.value, MmapError)
    assert str(caught.value).startswith(f"{ARGUMENT[call]} must be")
    assert word in str(caught.value)


@pytest.mark.parametrize("call", FILLING)
@pytest.mark.parametrize("kind", READ_ONLY)
def test_read_only_buffer_to_be_filled_is_a_type_error_that_names_it(kind: str, call: str) -> None:
    with filled() as m, pytest.raises(TypeError, match=r"^buffer must be a writable"):
        COPYING[call](m, READ_ONLY[kind])


def test_read_only_region_to_be_filled_is_a_type_error_that_names_it() -> None:
    with filled() as m, filled() as other:
        other.protect(READ)
        for call in FILLING:
            with pytest.raises(TypeError, match=r"^buffer must be a writable"):
                COPYING[call](m, other)


# Arguments that close the region as they are asked for


class Number:
    """An integer, a float or a descriptor that closes a region as it is asked for."""

    def __init__(self, region: Any, value: int) -> None:
        self._region = region
        self._value = value

    def __index__(self) -> int:
        self._region.close()
        return self._value

    def __float__(self) -> float:
        self._region.close()
        return float(self._value)


class File:
    """An object with a descriptor, that closes a region as it is asked for it."""

    def __init__(self, region: Any, fd: int) -> None:
        self._region = region
        self._fd = fd

    def fileno(self) -> int:
        self._region.close()
        return self._fd


class Bytes:
    """A buffer that closes a region as it is asked for."""

    def __init__(self, region: Any, size: int) -> None:
        self._region = region
        self._size = size

    def __buffer__(self, flags: int) -> memoryview:
        self._region.close()
        return memoryview(bytearray(self._size))


Arguments = Callable[[int], Any]
"""Makes an argument of this value that closes the region."""

Closing = Callable[[Any, Arguments], object]
SUPPORTED = [
    advice
    for advice in (
        DestructiveAdvice.DONTNEED,
        DestructiveAdvice.REMOVE,
        DestructiveAdvice.DONTNEED_LOCKED,
        DestructiveAdvice.GUARD_INSTALL,
        DestructiveAdvice.GUARD_REMOVE,
    )
    if advice.is_supported()
]


def offset_and_count(name: str, *arguments: object, last: int = PAGE) -> dict[str, Closing]:
    """A call with an offset and a count behind these arguments, each of which closes."""
    return {
        f"{name} offset": lambda r, x: getattr(r, name)(*arguments, x(0), last),
        f"{name} count": lambda r, x: getattr(r, name)(*arguments, 0, x(last)),
        f"{name} of nothing": lambda r, x: getattr(r, name)(*arguments, 0, x(0)),
    }


CLOSING: dict[str, Closing] = {
    **offset_and_count("range_end"),
    **offset_and_count("view"),
    **offset_and_count("is_all_zero"),
    **offset_and_count("get_slice"),
    **offset_and_count("advise", Advice.RANDOM),
    **offset_and_count("msync"),
    **offset_and_count("protect", READ),
    **offset_and_count("lock"),
    **offset_and_count("lock_on_fault"),
    **offset_and_count("unlock"),
    **offset_and_count("flush_region"),
    **offset_and_count("async_prefetch"),
    **offset_and_count("populate"),
    **offset_and_count("drop_page_cache"),
    **offset_and_count("remove_range"),
    **offset_and_count("evict"),
    **offset_and_count("residency"),
    **{
        f"{advice.name} {name}": call
        for advice in SUPPORTED
        for name, call in offset_and_count("advise_destructive", advice).items()
    },
    "read_slice": lambda r, x: r.read_slice(bytearray(8), x(0)),
    "read_slice of nothing": lambda r, x: r.read_slice(bytearray(), x(0)),
    "write_slice": lambda r, x: r.write_slice(b"12345678", x(0)),
    "index": lambda r, x: r[x(0)],
    "index from the end": lambda r, x: r[x(-1)],
    "index past the end": lambda r, x: r[x(SIZE)],
    "slice start": lambda r, x: r[x(0) :],
    "slice stop": lambda r, x: r[: x(8)],
    "slice step": lambda r, x: r[:: x(2)],
    "slice of nothing": lambda r, x: r[x(5) : 0],
    "assign index": lambda r, x: r.__setitem__(x(0), 1),
    "assign value": lambda r, x: r.__setitem__(0, x(1)),
    "assign slice": lambda r, x: r.__setitem__(slice(x(0), 2), b"ab"),
    "assign slice stop": lambda r, x: r.__setitem__(slice(0, x(2)), b"ab"),
    "assign slice step": lambda r, x: r.__setitem__(slice(0, 4, x(2)), b"ab"),
    "assign nothing": lambda r, x: r.__setitem__(slice(x(0), 0), b""),
    "in": lambda r, x: x(3) in r,
    "find start": lambda r, x: r.find(b"a", x(0)),
    "find end": lambda r, x: r.find(b"a", 0, x(9)),
    "rfind start": lambda r, x: r.rfind(b"a", x(0)),
    "rfind end": lambda r, x: r.rfind(b"a", 0, x(-1)),
    "find past the end": lambda r, x: r.find(b"a", x(SIZE + 1)),
    "find of no range": lambda r, x: r.find(b"a", 5, x(3)),
    "rfind past the end": lambda r, x: r.rfind(b"a", x(SIZE + 1)),
    "read_exact": lambda r, x: r.read_exact(bytearray(8), x(0)),
    "read_exact of nothing": lambda r, x: r.read_exact(bytearray(), x(0)),
    "write_all": lambda r, x: r.write_all(b"12345678", x(0)),
    "read_obj": lambda r, x: r.read_obj(u64, x(0)),
    "read_obj of a float": lambda r, x: r.read_obj(f32, x(0)),
    "read_obj_volatile": lambda r, x: r.read_obj_volatile(i8, x(0)),
    "write_obj": lambda r, x: r.write_obj(u64, 1, x(0)),
    "write_obj value": lambda r, x: r.write_obj(u64, x(1), 0),
    "write_obj of a float": lambda r, x: r.write_obj(f64, x(1), 0),
    "write_obj_volatile": lambda r, x: r.write_obj_volatile(u8, 1, x(0)),
    "write_obj_volatile value": lambda r, x: r.write_obj_volatile(f32, x(1), 0),
}
CLOSING_ARENA: dict[str, Closing] = {
    **offset_and_count("add_anon"),
    **offset_and_count("remove"),
    **offset_and_count("remove_mapping"),
    "add_anon_protection": lambda r, x: r.add_anon_protection(x(0), PAGE, READ),
    "add_anon_protection size": lambda r, x: r.add_anon_protection(0, x(PAGE), READ),
    "add_fd": lambda r, x: r.add_fd(x(0), PAGE, a_file()),
    "add_fd size": lambda r, x: r.add_fd(0, x(PAGE), a_file()),
    "add_fd file": lambda r, x: r.add_fd(0, PAGE, File(r, a_file())),
    "add_fd_offset": lambda r, x: r.add_fd_offset(0, PAGE, a_file(), x(0)),
    "add_fd_offset file": lambda r, x: r.add_fd_offset(0, PAGE, File(r, a_file()), 0),
    "add_fd_offset_protection": lambda r, x: r.add_fd_offset_protection(
        0, PAGE, a_file(), x(0), READ
    ),
    "add_fd_mapping": lambda r, x: r.add_fd_mapping(0, PAGE, a_file(), x(0), READ),
    "add_fd_mapping file": lambda r, x: r.add_fd_mapping(0, PAGE, File(r, a_file()), 0, READ),
}
del CLOSING_ARENA["add_anon of nothing"]
del CLOSING_ARENA["remove of nothing"]
del CLOSING_ARENA["remove_mapping of nothing"]


def a_file() -> int:
    """A descriptor of a file, that is never closed."""
    if not FILES:
        FILES.append(os.memfd_create("buffers"))
        os.ftruncate(FILES[0], SIZE)
    return FILES[0]


FILES: list[int] = []


@pytest.fixture(scope="module", autouse=True)
def _file_of_the_module() -> Iterator[None]:
    yield
    while FILES:
        os.close(FILES.pop())


def from_a_file() -> MemoryMapping:
    return MemoryMapping.from_fd(a_file(), SIZE)


CLOSABLE: dict[str, Callable[[], MappedRegion]] = {**REGIONS, "file": from_a_file}


def assert_closed_by(make: Callable[[], Any], call: Closing) -> None:
    """The call ends with the error of a closed region, and nothing keeps the pages."""
    region = make()
    address = region.as_ptr()
    mapped = {(vma.inode, vma.path) for vma in vmas_in(address, SIZE)}
    with pytest.raises(ClosedMappingError):
        call(region, functools.partial(Number, region))
    assert region.closed
    del region
    # Not `is_mapped`: another thread, or a sanitizer, may have mapped something there since.
    assert mapped.isdisjoint((vma.inode, vma.path) for vma in vmas_in(address, SIZE))


@pytest.mark.parametrize("region", CLOSABLE)
@pytest.mark.parametrize("call", CLOSING)
def test_number_that_closes_the_region_ends_the_call(call: str, region: str) -> None:
    assert_closed_by(CLOSABLE[region], CLOSING[call])


@pytest.mark.parametrize("call", CLOSING_ARENA)
def test_argument_that_closes_the_arena_ends_the_call(call: str) -> None:
    for make in (an_arena, lambda: filled().into_arena()):
        assert_closed_by(make, CLOSING_ARENA[call])


CLOSING_BUFFERS: dict[str, Closing] = {
    "read_slice": lambda r, x: r.read_slice(x(8), 0),
    "read_slice of nothing": lambda r, x: r.read_slice(x(0), 0),
    "write_slice": lambda r, x: r.write_slice(x(8), 0),
    "write_slice of nothing": lambda r, x: r.write_slice(x(0), 0),
    "read_exact": lambda r, x: r.read_exact(x(8), 0),
    "write_all": lambda r, x: r.write_all(x(8), 0),
    "write_all of nothing": lambda r, x: r.write_all(x(0), 0),
    "find": lambda r, x: r.find(x(1)),
    "find nothing": lambda r, x: r.find(x(0)),
    "rfind": lambda r, x: r.rfind(x(1)),
    "in": lambda r, x: x(1) in r,
    "assign": lambda r, x: r.__setitem__(slice(0, 8), x(8)),
    "assign steps": lambda r, x: r.__setitem__(slice(0, 16, 2), x(8)),
    "assign another length": lambda r, x: r.__setitem__(slice(0, 16), x(8)),
}


@needs_python_buffers
@pytest.mark.parametrize("region", CLOSABLE)
@pytest.mark.parametrize("call", CLOSING_BUFFERS)
def test_buffer_that_closes_the_region_ends_the_call(call: str, region: str) -> None:
    made = CLOSABLE[region]()
    with pytest.raises(ClosedMappingError):
        CLOSING_BUFFERS[call](made, lambda size: Bytes(made, size))
    assert made.closed


SHARED: dict[str, Callable[[SharedMemory], object]] = {
    "map size": lambda memory: memory.map(number(memory, PAGE)),
    "map offset": lambda memory: memory.map(offset=number(memory, 0)),
    "map both": lambda memory: memory.map(number(memory, PAGE), offset=number(memory, PAGE)),
    "from_fd size": lambda memory: SharedMemory.from_fd(memory, number(memory, PAGE)),
}


def number(memory: SharedMemory, value: int) -> Any:
    return Number(memory, value)


@pytest.mark.parametrize("call", SHARED)
def test_number_that_closes_shared_memory_ends_the_call(call: str) -> None:
    memory = SharedMemory.new("closing", SIZE)
    with pytest.raises(ClosedMappingError):
        SHARED[call](memory)
    assert memory.closed


SLICES: dict[str, tuple[Callable[[VolatileSlice, Arguments], object], object]] = {
    "sub_slice": (lambda s, x: s.sub_slice(x(4), 4).load(u8), known_bytes(5)[4]),
    "sub_slice count": (lambda s, x: s.sub_slice(4, x(4)).size, 4),
    "offset": (lambda s, x: s.offset(x(4)).load(u8), known_bytes(5)[4]),
    "advance": (lambda s, x: s.advance(x(4)), None),
    "truncate": (lambda s, x: s.truncate(x(4)), None),
    "write_bytes": (lambda s, x: s.write_bytes(x(4)), None),
    "load": (lambda s, x: s.load(u8, x(4)), known_bytes(5)[4]),
    "store": (lambda s, x: s.store(u8, 1, x(4)), None),
    "store value": (lambda s, x: s.store(u8, x(4), 0), None),
    "store of a float": (lambda s, x: s.store(f64, x(4), 0), None),
    "load_many": (lambda s, x: s.load_many(u8, 2, x(4)), list(known_bytes(6)[4:])),
    "load_many count": (lambda s, x: s.load_many(u8, x(2)), list(known_bytes(2))),
    "store_many": (lambda s, x: s.store_many(u8, [1], x(4)), None),
    "store_many value": (lambda s, x: s.store_many(u8, [1, x(4)]), None),
    "store_many of floats": (lambda s, x: s.store_many(f64, [x(4)]), None),
    "read_exact": (lambda s, x: s.read_exact(bytearray(4), x(4)), None),
    "write_all": (lambda s, x: s.write_all(b"abcd", x(4)), None),
    "read_from_fd count": (lambda s, x: s.read_from_fd(a_file(), x(4), 0), 4),
    "read_from_fd offset": (lambda s, x: s.read_from_fd(a_file(), 4, x(PAGE)), 4),
    "write_to_fd count": (lambda s, x: s.write_to_fd(a_file(), x(4), PAGE), 4),
    "write_to_fd offset": (lambda s, x: s.write_to_fd(a_file(), 4, x(PAGE)), 4),
}


@pytest.mark.parametrize("call", SLICES)
def test_number_that_closes_the_region_lets_its_slices_go_on(call: str) -> None:
    act, expected = SLICES[call]
    m = filled()
    address = m.as_ptr()
    part = m.get_slice(0, SIZE)
    assert act(part, lambda value: Number(m, value)) == expected
    assert m.closed
    assert is_mapped(address, SIZE)
    assert part.load(u8) >= 0
    del part
    assert not is_mapped(address, SIZE)


def test_file_that_closes_the_region_lets_its_slices_go_on() -> None:
    for transfer in (VolatileSlice.read_from_fd, VolatileSlice.write_to_fd):
        m = filled()
        part = m.get_slice(0, SIZE)
        assert transfer(part, File(m, a_file()), 8, 0) == 8
        assert m.closed
        with MemoryMapping.from_fd(a_file(), 8) as written:
            assert written[:] == bytes(part.load(u8, at) for at in range(8))


@needs_python_buffers
def test_buffer_that_closes_the_region_lets_its_slices_go_on() -> None:
    for name in ("copy_to", "copy_from"):
        m = filled()
        part = m.get_slice(0, SIZE)
        buffer: Any = Bytes(m, 8)
        assert getattr(part, name)(buffer) == 8
        assert m.closed
        assert part.load(u8) == (known_bytes(1)[0] if name == "copy_to" else 0)


def test_conversion_to_an_array_is_no_copy_but_where_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(known_bytes(SIZE))
    with MemoryMapping.from_file(path) as m:
        same = np.asarray(m)
        assert same.ctypes.data == m.as_ptr()
        assert np.asarray(m, np.uint8).ctypes.data == m.as_ptr()
        assert np.array(m).ctypes.data != m.as_ptr()
        with pytest.raises(ValueError, match="copy"):
            np.array(m, np.uint16, copy=False)
        same[0] = 0xEE
        assert path.read_bytes()[0] == 0xEE
        del same
        assert m.live_views == 0


# --- Errors that are kept -------------------------------------------------------------------------

FAILING: dict[str, Callable[[MemoryMapping, Any], object]] = {
    "read_slice": lambda m, buffer: m.read_slice(buffer, 0),
    "write_slice": lambda m, buffer: m.write_slice(buffer, 0),
    "slice": lambda m, buffer: m.__setitem__(slice(0, 4), buffer),
    "slice of another length": lambda m, buffer: m.__setitem__(slice(0, 3), buffer),
    "step": lambda m, buffer: m.__setitem__(slice(0, 8, 2), buffer),
    "find": lambda m, buffer: m.find(buffer),
    "rfind": lambda m, buffer: m.rfind(buffer),
    "in": lambda m, buffer: buffer in m,
    "copy_to": lambda m, buffer: m.get_slice(0, 4).copy_to(buffer),
    "copy_from": lambda m, buffer: m.get_slice(0, 4).copy_from(buffer),
    "read_exact": lambda m, buffer: m.read_exact(buffer, 0),
    "write_all": lambda m, buffer: m.write_all(buffer, 0),
    "slice read_exact": lambda m, buffer: m.get_slice(0, 4).read_exact(buffer),
    "slice write_all": lambda m, buffer: m.get_slice(0, 4).write_all(buffer),
}
"""Calls on memory without access, with a buffer of four bytes."""


@pytest.mark.parametrize("call", FAILING)
def test_error_that_is_kept_does_not_keep_the_buffer(call: str) -> None:
    with MemoryMapping.anonymous(PAGE, prot=NONE) as m:
        buffer = bytearray(4)
        with pytest.raises(MmapError) as caught:
            FAILING[call](m, buffer)
        buffer.append(1)
        assert caught.value is not None


def keep_errors_in_garbage(call: str) -> None:
    """Collect errors of a memoryview that lie in cycles with it."""

    class Keeper:
        error: object

    def fail(keeper: Keeper) -> None:
        view = memoryview(bytearray(4))
        try:
            FAILING[call](m, view)
        except MmapError as error:
            keeper.error = error

    with MemoryMapping.anonymous(PAGE, prot=NONE) as m:
        for _ in range(100):
            fail(Keeper())
        gc.collect()


@pytest.mark.parametrize("call", FAILING)
def test_error_in_a_garbage_cycle_with_its_buffer_is_survived(call: str) -> None:
    in_process(keep_errors_in_garbage, call).succeeded_silently()
