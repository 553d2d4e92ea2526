"""Recovering pages where the process is at a limit unmaps nothing and forgets nothing."""

import copy
import os
import pickle
import resource
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from kernel_view import PAGE, child, perms
from marks import MEMORY_IS_PAST_THE_LIMIT

from mmapwrap import MappingFaultError, MemoryMapping, OutOfMemoryError

PAGES = 16


@contextmanager
def address_space_of(size: int) -> Generator[None]:
    """The process may have so many bytes of addresses and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def fd() -> Generator[int]:
    fd = os.memfd_create("recovered")
    os.ftruncate(fd, PAGES * PAGE)
    yield fd
    os.close(fd)


def lose(fd: int, m: MemoryMapping, view: memoryview) -> None:
    """Lose two pages under a guard."""

    def guarded() -> None:
        with m.fault_guard():
            os.ftruncate(fd, 0)
            assert view[0] == view[2 * PAGE] == 0

    with pytest.raises(MappingFaultError, match="recover"):
        guarded()


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_recover_without_addresses_left_fails_and_leaves_no_hole(fd: int) -> None:
    m = MemoryMapping.from_file(fd)
    view = m.view()
    guard = m.fault_guard()
    guard.__enter__()
    os.ftruncate(fd, 0)
    assert view[5 * PAGE] == 0
    os.ftruncate(fd, PAGES * PAGE)
    os.pwrite(fd, b"file", 5 * PAGE)
    with address_space_of(1 << 20), pytest.raises(OutOfMemoryError):
        m.recover()
    assert len(perms(m.as_ptr(), PAGES * PAGE)) == PAGES, "the failed call has unmapped pages"
    assert view[5 * PAGE] == 0
    m.recover()
    assert m[5 * PAGE : 5 * PAGE + 4] == b"file"
    guard.__exit__(None, None, None)


def test_recover_is_refused_where_the_first_lost_page_could_not_be_noted() -> None:
    program = """
        import os, resource
        from mmapwrap import MappingFaultError, MemoryMapping, UnsupportedOperationError

        size = 1 << 20
        fd = os.memfd_create("x")
        os.ftruncate(fd, size)
        m = MemoryMapping.from_file(fd)
        view = m.view()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        try:
            with m.fault_guard():
                os.ftruncate(fd, 0)
                used = int(open("/proc/self/statm").read().split()[0]) * 4096
                resource.setrlimit(resource.RLIMIT_AS, (used, hard))
                view[0]
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
                view[4096]
        except MappingFaultError as error:
            print(error.offset, error.pages)
        os.ftruncate(fd, size)
        try:
            m.recover()
        except UnsupportedOperationError:
            print("refused")
        try:
            m[0]
        except MappingFaultError:
            print("still an error")
    """
    assert child(program).succeeded() == "0 2\nrefused\nstill an error\n"


def test_recover_that_failed_half_way_keeps_what_was_written_since(fd: int) -> None:
    """The pages that are back have content of their own, which the next attempt leaves alone."""
    m = MemoryMapping.from_file(fd)
    view = m.view()
    lose(fd, m, view)
    os.ftruncate(fd, PAGES * PAGE)
    m.recover()
    m[0:4] = b"mine"
    m.recover()
    assert m[0:4] == b"mine"
    assert os.pread(fd, 4, 0) == b"mine"


def test_error_after_a_guard_names_the_remedy(fd: int) -> None:
    m = MemoryMapping.from_file(fd)
    view = m.view()
    lose(fd, m, view)
    os.ftruncate(fd, PAGES * PAGE)
    with pytest.raises(MappingFaultError, match="recover"):
        m[3 * PAGE]


def test_guard_and_slice_are_not_copied() -> None:
    with MemoryMapping.new(PAGE) as m:
        for one in (m.fault_guard(), m.get_slice(0, 4), m):
            for copying in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    copying(one)


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_guard_in_garbage_with_its_region_at_the_limit_of_mappings_frees_once() -> None:
    program = """
        import ctypes, gc
        from mmapwrap import MemoryMapping, Sharing

        page = 4096
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        numbers = [ctypes.c_int] * 3
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *numbers, ctypes.c_long]
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

        class Holder:
            pass

        # Neighbours that the kernel keeps as one mapping: to unmap one in the middle takes another.
        regions = [MemoryMapping.anonymous(16 * page, sharing=Sharing.PRIVATE) for _ in range(8)]
        regions.sort(key=MemoryMapping.as_ptr)
        holder = Holder()
        holder.region = regions.pop(4)
        holder.region[0] = 1
        with MemoryMapping.anonymous(page).fault_guard():
            pass
        gc.collect()
        gc.disable()
        limit = int(open("/proc/sys/vm/max_map_count").read())
        size = 2 * limit * page
        filler = libc.mmap(None, size, 0, 0x4022, -1, 0)
        index = 0
        while index < limit and libc.mprotect(filler + (2 * index + 1) * page, page, 1) == 0:
            index += 1
        count = 0
        while libc.mmap(None, page, 1 + count % 2 * 2, 0x21, -1, 0) not in (None, 2**64 - 1):
            count += 1
        holder.guard = holder.region.fault_guard()
        holder.guard.__enter__()
        holder.itself = holder
        del holder
        gc.collect()
        libc.munmap(filler, size)
        for _ in range(10):
            MemoryMapping.anonymous(page).close()
        print("survived")
    """
    assert child(program).succeeded() == "survived\n"
