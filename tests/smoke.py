"""Try an installed mmapwrap on any interpreter, with nothing but the package and what it needs.

    python -P tests/smoke.py [--emulated]

Each check uses another part of the compiled module and looks at what it has done: bytes in the
file, or what another process sees. The tests of the project do far more, but need pytest and
NumPy, which not every platform has.

A check that needs something of the kernel is left out where that is missing, in one line that says
so. With `--emulated` so is a check of advice to the kernel, most of which qemu's user mode does not
pass on. The exit status is 1 where a check has failed.
"""

import contextlib
import errno
import hashlib
import io
import mmap
import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import mmapwrap
from mmapwrap import (
    Advice,
    DestructiveAdvice,
    LockLimitError,
    MappingFaultError,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    Protection,
    ProtectionError,
    SharedMemory,
    Sharing,
    SystemCallError,
    UnsupportedByKernelError,
    UnsupportedOperationError,
    attempt,
    le_f64,
    le_u16,
    le_u32,
    mmap as drop_in,
    u32,
    u64,
)
from mmapwrap.__main__ import main as command_line

PAGE = mmapwrap.page_size()
SIZE = 16 * PAGE
E = TypeVar("E", bound=Exception)
CHECKS: list[Callable[[], None]] = []


class NotHereError(Exception):
    """The kernel, or the emulation of it, lacks what the check needs."""


def check(function: Callable[[], None]) -> Callable[[], None]:
    """Add a check to the list."""
    CHECKS.append(function)
    return function


@contextlib.contextmanager
def may_be_missing(*errors: type[MmapError]) -> Generator[None]:
    """Leave the check out where the kernel does not support what the block asks for."""
    try:
        yield
    except (UnsupportedByKernelError, UnsupportedOperationError) as error:
        raise NotHereError(str(error)) from error
    except MmapError as error:
        is_missing = isinstance(error, SystemCallError) and error.errno == errno.ENOSYS
        if is_missing or isinstance(error, errors):
            raise NotHereError(str(error)) from error
        raise


def needs_advice() -> None:
    """Leave the check out under qemu, which passes on little advice."""
    if "--emulated" in sys.argv:
        raise NotHereError("the emulation does not pass advice on")


@contextlib.contextmanager
def a_file() -> Generator[Path]:
    """Give a file of 16 pages, each full of the letter of its number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages"
        path.write_bytes(b"".join(bytes([65 + index]) * PAGE for index in range(16)))
        yield path


def error_of(kind: type[E], call: Callable[[], object]) -> E:
    """Give the error of this kind that a call ends in."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


# --- mappings -------------------------------------------------------------------------------------


@check
def memory_is_zeros_and_keeps_what_is_written() -> None:
    with MemoryMapping.new(SIZE) as mapping:
        assert mapping.is_all_zero()
        mapping[5:8] = b"abc"
        assert mapping[4:9] == b"\0abc\0"
        assert hashlib.sha256(mapping).digest() == hashlib.sha256(mapping[:]).digest()


@check
def a_file_gets_what_is_written_to_its_mapping() -> None:
    with a_file() as path:
        with MemoryMapping.from_file(path, PAGE, offset=PAGE + 3) as mapping:
            mapping[0:4] = b"disk"
            mapping.msync()
        assert path.read_bytes()[PAGE : PAGE + 8] == b"BBBdiskB"


@check
def memory_that_is_read_only_refuses_a_write() -> None:
    with MemoryMapping.new(SIZE) as mapping:
        mapping.protect(Protection.read(), PAGE, PAGE)
        error_of(ProtectionError, lambda: mapping.write_slice(b"x", PAGE))
        mapping[0] = 1


@check
def a_file_grows_with_its_mapping() -> None:
    with a_file() as path, MemoryMapping.create(path.with_name("new"), 3, capacity=SIZE) as mapping:
        view = mapping.view()
        mapping[:] = b"abc"
        mapping.resize(2 * PAGE + 1)
        assert mapping[:4] == b"abc\0"
        assert view.tobytes() == b"abc"
        view.release()
        mapping.resize(2)
        assert path.with_name("new").read_bytes() == b"ab"


@check
def a_page_is_replaced_inside_an_arena() -> None:
    with a_file() as path, MemoryMappingArena.new(SIZE) as arena, path.open("r+b") as file:
        arena.add_fd_offset(PAGE, 2 * PAGE, file, 4 * PAGE)
        arena.add_anon(8 * PAGE, PAGE)
        assert [segment.offset for segment in arena.segments()] == [PAGE, 8 * PAGE]
        assert arena[PAGE : PAGE + 1] + arena[2 * PAGE : 2 * PAGE + 1] == b"EF"


@check
def shared_memory_reaches_a_child_and_keeps_its_seals() -> None:
    with SharedMemory.new("smoke", SIZE) as shared, MemoryMapping.from_fd(shared, SIZE) as mapping:
        child = os.fork()
        if child == 0:
            mapping[0:5] = b"child"
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert mapping[0:5] == b"child"
        shared.add_seals(MemfdSeals.SHRINK | MemfdSeals.GROW)
        assert MemfdSeals.SHRINK in shared.get_seals()
        error_of(PermissionError, lambda: os.ftruncate(shared.fileno(), PAGE))


# --- content --------------------------------------------------------------------------------------


@check
def numbers_have_their_width_and_order() -> None:
    with MemoryMapping.new(SIZE) as mapping:
        mapping.write_obj(le_u32, 0x01020304, 1)
        assert mapping[1:5] == b"\4\3\2\1"
        mapping.write_obj(le_f64, -2.5, 8)
        assert mapping.read_obj(le_f64, 8) == -2.5
        part = mapping.get_slice(64, 64)
        part.store(u64, 2**64 - 1, 8)
        assert part.load(u64, 8) == 2**64 - 1
        part.store_many(u32, range(8))
        assert list(part.load_many(u32, 8)) == list(range(8))
        assert mapping.read_obj(le_u16, 64 + 4) == 1


@check
def a_search_finds_what_bytes_find() -> None:
    content = os.urandom(SIZE - 100) + b"needle" * 4
    with MemoryMapping.new(len(content)) as mapping:
        mapping[:] = content
        for needle in (b"needle", b"n", b"need" * 9, content[77:99], b""):
            assert mapping.find(needle) == content.find(needle)
            assert mapping.rfind(needle) == content.rfind(needle)
            assert mapping.count(needle) == content.count(needle)


@check
def a_copy_goes_through_descriptors() -> None:
    with a_file() as path, MemoryMapping.new(SIZE) as mapping, path.open("r+b") as file:
        part = mapping.get_slice(0, PAGE)
        assert part.read_from_fd(file, PAGE) == PAGE
        assert mapping[PAGE - 1 : PAGE + 1] == b"A\0"
        mapping.move(PAGE, 0, 10)
        assert mapping[PAGE : PAGE + 11] == b"A" * 10 + b"\0"


@check
def a_region_is_a_file() -> None:
    with MemoryMapping.new(SIZE) as mapping, mapping.open("r+b") as file:
        file.write(b"one\ntwo\n")
        file.seek(0)
        assert file.readline() == b"one\n"
        assert mapping[:8] == b"one\ntwo\n"


@check
def the_drop_in_is_what_mmap_is() -> None:
    with a_file() as path, path.open("r+b") as file:
        theirs = mmap.mmap(file.fileno(), 0)
        ours = drop_in.mmap(file.fileno(), 0)
        assert ours[:] == theirs[:]
        assert ours.find(b"C") == theirs.find(b"C") == 2 * PAGE
        ours.close()
        theirs.close()


# --- pages ----------------------------------------------------------------------------------------


@check
def all_pages_are_resident_when_they_are_populated() -> None:
    needs_advice()
    with MemoryMapping.new(SIZE) as mapping, may_be_missing():
        mapping.populate()
        assert mapping.residency().resident == 16


@check
def pages_are_locked() -> None:
    with MemoryMapping.new(SIZE) as mapping, may_be_missing(LockLimitError):
        mapping.lock(0, PAGE)
        mapping.lock_on_fault(PAGE, PAGE)
        mapping.unlock_all()


@check
def memory_is_zeros_again_when_it_is_removed() -> None:
    needs_advice()
    with MemoryMapping.new(SIZE) as mapping:
        mapping[0:3] = b"abc"
        mapping.advise(Advice.SEQUENTIAL)
        mapping.remove_range(0, PAGE)
        assert mapping.is_all_zero()


@check
def an_advice_that_is_supported_is_taken() -> None:
    for advice in (Advice.COLD, Advice.WIPEONFORK, Advice.POPULATE_WRITE, Advice.COLLAPSE):
        with MemoryMapping.anonymous(SIZE) as mapping:
            if advice.is_supported():
                attempt(mapping.advise, advice)  # the moment may be a bad one for the kernel
    with MemoryMapping.anonymous(SIZE, sharing=Sharing.PRIVATE) as mapping, may_be_missing():
        mapping[0] = 1
        mapping.advise_destructive(DestructiveAdvice.DONTNEED)
        assert mapping[0] == 0


@check
def cache_lines_are_flushed() -> None:
    with MemoryMapping.new(SIZE) as mapping, may_be_missing():
        mapping[0:3] = b"abc"
        mapping.flush_region(0, PAGE)
        mapping.flush_all()
        assert mapping[0:3] == b"abc"


# --- faults ---------------------------------------------------------------------------------------


@check
def a_copy_of_a_truncated_file_is_an_error() -> None:
    with a_file() as path, MemoryMapping.from_file(path) as mapping:
        os.truncate(path, PAGE)
        error = error_of(MappingFaultError, lambda: mapping.read_slice(bytearray(2 * PAGE), 0))
        assert error.offset == PAGE
        assert mapping[0:2] == b"AA"


@check
def a_guard_puts_zeros_and_recover_the_pages() -> None:
    with a_file() as path, MemoryMapping.from_file(path) as mapping:

        def read_in_guard() -> None:
            with mapping.fault_guard(), mapping.view() as view:
                assert view[3 * PAGE] == 0

        os.truncate(path, PAGE)
        assert error_of(MappingFaultError, read_in_guard).offset == 3 * PAGE
        os.truncate(path, SIZE)
        with may_be_missing():
            mapping.recover()
        mapping[3 * PAGE] = 7
        assert path.read_bytes()[3 * PAGE] == 7


@check
def faults_of_threads_are_their_own() -> None:
    with a_file() as path, MemoryMapping.from_file(path) as mapping:
        os.truncate(path, 8 * PAGE)
        offsets: dict[int, set[int]] = {index: set() for index in range(8)}

        def read(index: int) -> None:
            lost = (8 + index) * PAGE
            for _ in range(50):
                offsets[index].add(error_of(MappingFaultError, lambda: mapping[lost]).offset)
                assert mapping[index * PAGE] == 65 + index

        threads = [threading.Thread(target=read, args=(index,)) for index in offsets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert offsets == {index: {(8 + index) * PAGE} for index in offsets}


@check
def a_view_without_a_guard_dies_as_it_would_without_the_library() -> None:
    with a_file() as path, MemoryMapping.from_file(path) as mapping, mapping.view() as view:
        os.truncate(path, 0)
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os._exit(view[0])
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGBUS


# --- everything else ------------------------------------------------------------------------------


@check
def an_error_says_what_happened_in_another_process_too() -> None:
    with MemoryMapping.new(SIZE) as mapping:
        error = error_of(IndexError, lambda: mapping[SIZE])
        assert str(SIZE) in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@check
def a_mapping_lives_as_long_as_its_view() -> None:
    view = memoryview(MemoryMapping.new(SIZE))
    assert bytes(view[:3]) == b"\0\0\0"
    view.release()


@check
def the_command_line_shows_what_is_resident() -> None:
    with a_file() as path:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert command_line(["residency", str(path)]) == 0
        assert "16/16" in output.getvalue(), output.getvalue()


def main() -> int:
    """Run all checks, print a line for each that fails or is left out, and give the exit status."""
    failed = left_out = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function()
        except NotHereError as reason:
            left_out += 1
            print(f"left out: {name}: {reason}")
        except Exception:  # noqa: BLE001, whatever it is, the next check is tried
            failed += 1
            print(f"failed: {name}\n{traceback.format_exc()}")
    passed = len(CHECKS) - failed - left_out
    system = f"{sys.implementation.name} {sys.version.split()[0]}, {os.uname().machine}"
    print(f"{passed} checks passed, {failed} failed, {left_out} left out ({system})")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
