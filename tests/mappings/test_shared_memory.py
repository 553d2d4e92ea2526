"""`SharedMemory` and `MemfdSeals` in one process: what is made, held, sealed, mapped and let go."""

import errno
import fcntl
import gc
import os
import pickle
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kernel_view import (
    PAGE,
    Index,
    KnownFile,
    child,
    free_address,
    known_bytes,
    open_descriptors,
    perms,
    process_unchanged,
    vmas_in,
)
from protections import READ, RW

import mmapwrap
from mmapwrap import (
    AccessDeniedError,
    BadDescriptorError,
    ClosedMappingError,
    InvalidArgumentError,
    InvalidOffsetError,
    InvalidSystemCallError,
    MemfdSeals,
    MemoryMapping,
    MissingSealsError,
    MmapError,
    NotMappableError,
    OperationNotPermittedError,
    PastEndOfFileError,
    Protection,
    RegionBusyError,
    SharedMemory,
    Sharing,
    SystemCallError,
    TooManyFilesError,
)

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEALS = {"SEAL": 1, "SHRINK": 2, "GROW": 4, "WRITE": 8, "FUTURE_WRITE": 16, "EXEC": 32}


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Two pages and five bytes, of zeros."""
    with SharedMemory.new("fixture", 2 * PAGE + 5) as shared:
        yield shared
    gc.collect()  # an error that a test kept holds the descriptor, which other tests count


@contextmanager
def nothing_left() -> Generator[None]:
    """`process_unchanged`, once the errors of earlier tests have let go of what they hold."""
    gc.collect()
    with process_unchanged():
        yield


def seals_of(fd: int) -> int:
    """The seals as the kernel tells them."""
    return fcntl.fcntl(fd, F_GET_SEALS)


def link_of(memory: SharedMemory) -> str:
    """What /proc says the descriptor is."""
    return str(Path(f"/proc/self/fd/{memory.fileno()}").readlink())


def knows_exec_seal() -> bool:
    """Whether the running kernel seals memory against execution as it makes it (Linux 6.3)."""
    mfd_noexec_seal = 8
    try:
        fd = os.memfd_create("probe", mfd_noexec_seal)
    except OSError:
        return False
    os.close(fd)
    return True


# Making it


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, 2 * PAGE + 5, 1 << 40])
def test_new_is_a_file_of_that_size_and_of_zeros(size: int) -> None:
    with SharedMemory.new("sized", Index(size)) as shared:
        assert shared.size == size
        status = os.fstat(shared.fileno())
        assert status.st_size == size
        assert stat.S_ISREG(status.st_mode)
        assert status.st_nlink == 0
        assert os.pread(shared.fileno(), 10, max(size - 10, 0)) == bytes(min(size, 10))


def test_new_is_close_on_exec_and_sealable(memory: SharedMemory) -> None:
    assert not os.get_inheritable(memory.fileno())
    assert not seals_of(memory.fileno()) & F_SEALS["SEAL"]
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"],
        close_fds=False,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"'{memory.fileno()}'" not in ended.stdout


def test_new_is_not_executable_where_the_kernel_can(memory: SharedMemory) -> None:
    if not knows_exec_seal():
        pytest.skip("this kernel makes every memfd executable: MFD_NOEXEC_SEAL is Linux 6.3")
    assert not os.fstat(memory.fileno()).st_mode & 0o111
    assert memory.get_seals() == MemfdSeals.EXEC
    with pytest.raises(PermissionError):
        os.chmod(memory.fileno(), 0o755)  # noqa: PTH101  # there is no path


def test_new_shows_its_name_in_proc_only() -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208  # names are all that is needed
    with SharedMemory.new("a name of mine", PAGE) as shared, shared.map() as m:
        assert shared.name == "a name of mine"
        link = link_of(shared)
        assert link == "/memfd:a name of mine (deleted)"
        assert [vma.path for vma in vmas_in(m.as_ptr(), PAGE)] == [link]
        assert not any("mine" in name for name in set(os.listdir("/dev/shm")) - before)  # noqa: PTH208
        with SharedMemory.new("a name of mine", PAGE) as other, other.map() as twin:
            m[0] = 7
            assert twin[0] == 0


@pytest.mark.parametrize(
    "name", ["", "x", "n" * 249, "é" * 124, "a/b", "a (deleted)", "\n\\\t", "\udcff"]
)
def test_new_takes_any_name_that_the_kernel_takes(name: str) -> None:
    with SharedMemory.new(name, PAGE) as shared:
        assert shared.name == name
        assert SharedMemory.from_fd(shared).name == name
        assert link_of(shared) == f"/memfd:{name} (deleted)"


@pytest.mark.parametrize("name", ["n" * 250, "é" * 125, "n" * 100_000, "a\0b", "\0"])
def test_new_refuses_a_name_that_is_too_long_or_has_a_nul(name: str) -> None:
    with nothing_left(), pytest.raises(InvalidArgumentError) as caught:
        SharedMemory.new(name, PAGE)
    assert "name" in caught.value.message


@pytest.mark.parametrize("name", ["\ud800", "a\udfff"])
def test_new_refuses_a_name_that_cannot_be_bytes(name: str) -> None:
    with nothing_left(), pytest.raises(InvalidArgumentError) as caught:
        SharedMemory.new(name, PAGE)
    assert "name" in caught.value.message


@pytest.mark.parametrize("name", [None, 5, ["a"], b"a", Path("a")])
def test_new_refuses_a_name_that_is_no_text(name: Any) -> None:
    with pytest.raises(TypeError):
        SharedMemory.new(name, PAGE)


@pytest.mark.parametrize("size", [-1, 2**63, 2**64, -(2**64)])
def test_new_refuses_a_size_that_no_file_has(size: int) -> None:
    with nothing_left(), pytest.raises(InvalidArgumentError) as caught:
        SharedMemory.new("sizeless", size)
    assert "size" in caught.value.message


@pytest.mark.parametrize("size", [1.0, "1", None])
def test_new_refuses_a_size_that_is_no_integer(size: Any) -> None:
    with nothing_left(), pytest.raises(TypeError):
        SharedMemory.new("sizeless", size)


def test_new_is_made_by_name_only() -> None:
    make: Any = SharedMemory
    with pytest.raises(TypeError, match=r"SharedMemory\.new"):
        make()
    with pytest.raises(TypeError, match="final"):
        type("Other", (SharedMemory,), {})


def test_new_where_no_descriptor_is_left_is_a_typed_error() -> None:
    program = """
        import resource
        from mmapwrap import SharedMemory, TooManyFilesError

        held = SharedMemory.new("held", 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        for make in (
            lambda: SharedMemory.new("more", 1), held.try_clone, lambda: SharedMemory.from_fd(held)
        ):
            try:
                make()
            except TooManyFilesError as error:
                print(error.syscall)
    """
    assert child(program).succeeded().split() == ["memfd_create", "fcntl", "fcntl"]


def test_new_past_the_file_size_limit_is_an_error_and_leaves_no_descriptor() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with nothing_left():
            SharedMemory.new("fits", 1 << 20).close()
            for allocate in (False, True):
                with pytest.raises(SystemCallError) as caught:
                    SharedMemory.new("does not", (1 << 20) + 1, allocate=allocate)
                assert (caught.value.errno, caught.value.syscall) == (errno.EFBIG, "ftruncate")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# Allocating


def allocated(fd: int) -> int:
    """The bytes that a file occupies."""
    return os.fstat(fd).st_blocks * 512


def test_new_takes_no_memory_until_it_is_written(memory: SharedMemory) -> None:
    assert allocated(memory.fileno()) == 0
    with memory.map() as m:
        m[PAGE] = 1
        assert allocated(memory.fileno()) == PAGE


@pytest.mark.parametrize("size", [1, PAGE, PAGE + 1, 1 << 20])
def test_new_allocated_has_all_its_memory_at_once(size: int) -> None:
    with SharedMemory.new("allocated", size, allocate=True) as shared:
        assert allocated(shared.fileno()) == -(-size // PAGE) * PAGE
        assert shared.size == os.fstat(shared.fileno()).st_size == size
        with shared.map() as m:
            assert m.is_all_zero()


def test_new_allocated_of_more_than_there_is_is_no_space() -> None:
    # Killed before it can hurt, and first in line where memory runs out, if it is not refused.
    program = """
        import signal
        from pathlib import Path
        from kernel_view import open_descriptors
        from mmapwrap import NoSpaceError, SharedMemory

        Path("/proc/self/oom_score_adj").write_text("1000")
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        before = open_descriptors()
        for size in (1 << 50, 2**63 - 1):
            signal.setitimer(signal.ITIMER_PROF, 0.2)
            try:
                SharedMemory.new("endless", size, allocate=True)
            except NoSpaceError as error:
                signal.setitimer(signal.ITIMER_PROF, 0)
                print(error.syscall)
        assert open_descriptors() == before
    """
    assert child(program).succeeded().split() == ["fallocate"] * 2


def test_new_allocated_under_signals_is_made_all_the_same() -> None:
    program = """
        import os, signal
        from mmapwrap import SharedMemory

        signals = 0

        def count(*_):
            global signals
            signals += 1

        signal.signal(signal.SIGALRM, count)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        while signals < 3:
            with SharedMemory.new("allocated", 64 << 20, allocate=True) as shared:
                assert os.fstat(shared.fileno()).st_blocks * 512 == 64 << 20
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("done")
    """
    assert child(program).succeeded() == "done\n"


# Holding what there is


def test_from_fd_holds_the_same_memory_by_its_own_descriptor(memory: SharedMemory) -> None:
    with SharedMemory.from_fd(memory.fileno()) as other:
        assert other.fileno() != memory.fileno()
        assert os.path.sameopenfile(other.fileno(), memory.fileno())
        assert not os.get_inheritable(other.fileno())
        assert (other.size, other.name) == (memory.size, memory.name)
        with memory.map() as m, other.map() as twin:
            m[PAGE] = 77
            assert twin[PAGE] == 77
    assert os.fstat(memory.fileno()).st_size == memory.size


@pytest.mark.parametrize("size", [1, PAGE, 2 * PAGE + 5])
def test_from_fd_of_a_part_has_that_size(size: int, memory: SharedMemory) -> None:
    with SharedMemory.from_fd(memory, Index(size)) as other:
        assert other.size == size
        with other.map() as m:
            assert m.size == size


@pytest.mark.parametrize("size", [2 * PAGE + 6, 3 * PAGE, 2**63 - 1, 2**63, 2**64 - 1])
def test_from_fd_of_more_than_there_is_is_refused(size: int, memory: SharedMemory) -> None:
    with nothing_left(), pytest.raises(PastEndOfFileError) as caught:
        SharedMemory.from_fd(memory, size)
    error = caught.value
    assert (error.offset, error.count, error.file_size) == (0, size, memory.size)


@pytest.mark.parametrize("size", [0, -1, -(2**63), 2**64])
def test_from_fd_refuses_a_size_that_cannot_be_right(size: int, memory: SharedMemory) -> None:
    with nothing_left(), pytest.raises(InvalidArgumentError):
        SharedMemory.from_fd(memory, size)


def test_memory_of_an_empty_file_is_mapped_with_a_capacity_only(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with path.open("r+b") as file, nothing_left():
        for make in (SharedMemory.from_fd, SharedMemory.from_file):
            with make(file) as shared:
                assert shared.size == 0
                with pytest.raises(PastEndOfFileError) as caught:
                    shared.map()
                assert (caught.value.count, caught.value.file_size) == (0, 0)
                del caught  # its frames hold the descriptor
                with shared.map(capacity=PAGE) as mapping:
                    assert (mapping.size, mapping.capacity) == (0, PAGE)


@pytest.mark.parametrize("size", [0, 100, PAGE])
def test_map_from_the_end_on_is_of_no_bytes_also_where_the_file_has_more(size: int) -> None:
    with SharedMemory.new("longer", size) as shared:
        with shared.try_clone() as other:
            other.resize(2 * PAGE)
        with nothing_left(), shared.map(offset=size, capacity=50) as mapping:
            assert (shared.size, mapping.size, mapping.capacity) == (size, 0, 50)
            assert mapping.refresh() == 50


def test_from_file_is_all_of_the_file_and_leaves_its_position(known_file: KnownFile) -> None:
    with known_file.path.open("r+b", buffering=0) as file:
        file.seek(777)
        with SharedMemory.from_file(file) as shared:
            assert shared.size == len(known_file.content)
            assert shared.name == str(known_file.path)
            with shared.map() as m:
                assert m[:] == known_file.content
                m[3] = 0
        assert file.tell() == 777
        file.seek(3)
        assert file.read(1) == b"\0"


def test_from_file_of_a_read_only_file_is_mapped_read_only(known_file: KnownFile) -> None:
    with known_file.path.open("rb") as file, SharedMemory.from_file(file) as shared:
        with pytest.raises(AccessDeniedError):
            shared.map()
        with shared.map(prot=READ) as m:
            assert m[:] == known_file.content
            assert m.prot == READ


def test_from_fd_of_what_is_no_file_is_refused(tmp_path: Path) -> None:
    left, right = socket.socketpair()
    reading, writing = os.pipe()
    directory = os.open(tmp_path, os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDWR)
    with left, right, nothing_left():
        for fd in (left, reading, writing, directory, null):
            for size in (None, PAGE):
                with pytest.raises(NotMappableError) as caught:
                    SharedMemory.from_fd(fd, size)
                assert caught.value.errno == errno.ENODEV
    for fd in (reading, writing, directory, null):
        os.close(fd)


def test_from_fd_of_a_closed_descriptor_is_refused(known_file: KnownFile) -> None:
    number = os.open("/dev/null", os.O_RDONLY)
    os.close(number)
    for fd in (number, -1, 2**31):
        for make in (SharedMemory.from_fd, SharedMemory.from_file):
            with nothing_left(), pytest.raises(BadDescriptorError) as caught:
                make(fd)
            assert fd != number or caught.value.syscall == "fcntl"


def test_from_fd_of_a_closed_file_object_is_the_files_own_error(known_file: KnownFile) -> None:
    file = known_file.path.open("rb")
    file.close()
    for make in (SharedMemory.from_fd, SharedMemory.from_file):
        with nothing_left(), pytest.raises(ValueError, match="closed file") as caught:
            make(file)
        assert not isinstance(caught.value, MmapError)


@pytest.mark.parametrize("fd", [None, "0", 1.0, b"0", object()])
def test_from_fd_of_what_has_no_descriptor_is_refused(fd: Any) -> None:
    for make in (SharedMemory.from_fd, SharedMemory.from_file):
        with pytest.raises(TypeError):
            make(fd)


def test_from_fd_of_a_closed_shared_memory_is_refused(memory: SharedMemory) -> None:
    memory.close()
    with pytest.raises(ClosedMappingError):
        SharedMemory.from_fd(memory)


# Required seals


def test_seals_that_no_kernel_knows_are_on_nothing(memory: SharedMemory) -> None:
    for bits in (0x40, 2**31, 2**40):
        with nothing_left(), pytest.raises(MissingSealsError, match=hex(bits)):
            SharedMemory.from_fd(memory, required_seals=MemfdSeals(bits))
        with nothing_left(), pytest.raises(InvalidSystemCallError):
            memory.add_seals(MemfdSeals(bits))


def test_from_fd_with_the_required_seals_is_taken(memory: SharedMemory) -> None:
    memory.add_seals(MemfdSeals.SHRINK | MemfdSeals.GROW)
    wanted = [
        MemfdSeals.SHRINK,
        MemfdSeals.GROW,
        MemfdSeals.SHRINK | MemfdSeals.GROW,
        MemfdSeals(0),
    ]
    for seals in wanted:
        with SharedMemory.from_fd(memory, required_seals=seals) as other:
            assert other.get_seals() & seals == seals


def test_from_fd_without_a_required_seal_is_refused(memory: SharedMemory) -> None:
    memory.add_seals(MemfdSeals.GROW)
    required = MemfdSeals.SHRINK | MemfdSeals.GROW
    with nothing_left(), pytest.raises(MissingSealsError) as caught:
        SharedMemory.from_fd(memory, required_seals=required)
    assert caught.value.required == required
    assert caught.value.actual == memory.get_seals()
    assert "SHRINK" in str(caught.value)
    assert "GROW" not in str(caught.value)
    assert isinstance(caught.value, MmapError)


def test_from_fd_looks_at_the_seals_before_the_length(memory: SharedMemory) -> None:
    with nothing_left(), pytest.raises(MissingSealsError):
        SharedMemory.from_fd(memory, memory.size + 1, required_seals=MemfdSeals.SHRINK)
    memory.add_seals(MemfdSeals.SHRINK)
    with nothing_left(), pytest.raises(PastEndOfFileError):
        SharedMemory.from_fd(memory, memory.size + 1, required_seals=MemfdSeals.SHRINK)


def test_from_fd_of_what_is_no_file_has_no_seals_to_look_at(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with nothing_left(), pytest.raises(NotMappableError):
        SharedMemory.from_fd(directory, required_seals=MemfdSeals.SHRINK)
    os.close(directory)


def test_from_fd_of_a_plain_file_has_no_seals(known_file: KnownFile) -> None:
    with known_file.path.open("r+b") as file, nothing_left():
        with pytest.raises(MissingSealsError) as caught:
            SharedMemory.from_fd(file, required_seals=MemfdSeals.SHRINK)
        assert caught.value.required == MemfdSeals.SHRINK
        assert not caught.value.actual & MemfdSeals.SHRINK


@pytest.mark.parametrize("seals", [2, 0, "SHRINK", None, [MemfdSeals.SHRINK]])
def test_from_fd_with_required_seals_of_another_type_is_refused(
    seals: Any, memory: SharedMemory
) -> None:
    memory.add_seals(MemfdSeals.SHRINK)
    with nothing_left(), pytest.raises(TypeError):
        SharedMemory.from_fd(memory, required_seals=seals)


# Holders


def test_try_clone_is_another_holder_of_the_same_memory(memory: SharedMemory) -> None:
    part = SharedMemory.from_fd(memory, PAGE)
    for held in (memory, part):
        with held.try_clone() as clone:
            assert clone.fileno() != held.fileno()
            assert os.path.sameopenfile(clone.fileno(), held.fileno())
            assert not os.get_inheritable(clone.fileno())
            assert (clone.size, clone.name) == (held.size, held.name)
    part.close()


def test_try_clone_outlives_what_it_was_cloned_from(memory: SharedMemory) -> None:
    with memory.map() as m:
        m[0] = 9
    with memory.try_clone() as clone:
        memory.close()
        with clone.map() as m:
            assert m[0] == 9


def test_close_ends_every_use_and_may_be_repeated(memory: SharedMemory) -> None:
    number = memory.fileno()
    memory.close()
    memory.close()
    assert memory.closed
    assert number not in open_descriptors()
    assert "closed" in repr(memory)
    calls: list[Callable[[], object]] = [
        memory.fileno,
        memory.try_clone,
        memory.get_seals,
        lambda: memory.add_seals(MemfdSeals.SHRINK),
        memory.map,
        lambda: memory.map(1, offset=0),
        memory.__enter__,
    ]
    for call in calls:
        with pytest.raises(ClosedMappingError):
            call()


def test_with_closes_at_its_end_also_when_it_fails() -> None:
    kept: list[SharedMemory] = []

    def fail() -> None:
        with SharedMemory.new("with", PAGE) as shared:
            kept.append(shared)
            assert not shared.closed
            raise ZeroDivisionError

    with nothing_left():
        with pytest.raises(ZeroDivisionError):
            fail()
        assert kept[0].closed


def test_dropped_without_close_leaves_no_descriptor() -> None:
    with nothing_left():
        for _ in range(100):
            shared = SharedMemory.new("dropped", PAGE)
            clone = shared.try_clone()
            assert clone.map()[0] == 0
            del shared, clone


def test_20000_rounds_leave_nothing() -> None:
    SharedMemory.new("rounds", PAGE).close()
    with nothing_left():
        for _ in range(20_000):
            SharedMemory.new("rounds", PAGE).close()


def test_mappings_outlive_close_and_each_other(memory: SharedMemory) -> None:
    first, second = memory.map(), memory.map(PAGE)
    first[0] = 5
    memory.close()
    assert second[0] == 5
    second[1] = 6
    second.close()
    assert first[:2] == b"\5\6"
    first.close()


@pytest.mark.race
def test_close_while_other_threads_use_it_never_meets_another_file() -> None:
    for _ in range(200):
        shared = SharedMemory.new("raced", PAGE)
        wrong: list[BaseException] = []

        def use(shared: SharedMemory = shared, wrong: list[BaseException] = wrong) -> None:
            try:
                while True:
                    with shared.map() as m:
                        assert m.size == PAGE
                    assert shared.get_seals() is not None
            except ClosedMappingError:
                pass
            except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
                wrong.append(error)

        threads = [threading.Thread(target=use) for _ in range(2)]
        for thread in threads:
            thread.start()
        shared.close()
        # What is opened next gets the lowest number that is free: that of the memory, once it is.
        others = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
        for thread in threads:
            thread.join()
        for other in others:
            other.close()
        assert wrong == []


def test_shared_memory_shows_its_name_and_size(memory: SharedMemory) -> None:
    assert "fixture" in repr(memory)
    assert str(memory.size) in repr(memory)


# Seals


def test_seals_are_the_kernels() -> None:
    assert {seal.name: int(seal) for seal in MemfdSeals} == F_SEALS


def add_or_skip(memory: SharedMemory, seal: MemfdSeals) -> None:
    """Add a seal, by the library; where the kernel itself does not know it, skip."""
    with SharedMemory.new("probe", PAGE) as probe:
        try:
            fcntl.fcntl(probe.fileno(), F_ADD_SEALS, int(seal))
        except OSError as error:
            pytest.skip(f"this kernel does not know {seal!r}: {error}")
    memory.add_seals(seal)


@pytest.mark.parametrize("seal", list(MemfdSeals))
def test_add_seals_adds_that_seal_for_every_holder(seal: MemfdSeals, memory: SharedMemory) -> None:
    before = seals_of(memory.fileno())
    with memory.try_clone() as clone:
        add_or_skip(memory, seal)
        assert seals_of(memory.fileno()) == before | seal
        assert clone.get_seals() == memory.get_seals() == seals_of(memory.fileno())
        assert seal in memory.get_seals()
        assert type(memory.get_seals()) is MemfdSeals


def test_seal_shrink_keeps_the_size_from_falling(memory: SharedMemory) -> None:
    memory.add_seals(MemfdSeals.SHRINK)
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fileno(), PAGE)
    os.ftruncate(memory.fileno(), 4 * PAGE)
    assert os.fstat(memory.fileno()).st_size == 4 * PAGE


def test_seal_grow_keeps_the_size_from_rising(memory: SharedMemory) -> None:
    memory.add_seals(MemfdSeals.GROW)
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fileno(), 4 * PAGE)
    os.ftruncate(memory.fileno(), PAGE)
    assert os.fstat(memory.fileno()).st_size == PAGE


def test_seal_seal_refuses_further_seals(memory: SharedMemory) -> None:
    memory.add_seals(MemfdSeals.SHRINK | MemfdSeals.SEAL)
    before = memory.get_seals()
    with pytest.raises(OperationNotPermittedError) as caught:
        memory.add_seals(MemfdSeals.GROW)
    assert caught.value.syscall == "fcntl"
    assert memory.get_seals() == before


def test_seal_write_is_refused_while_a_writable_mapping_exists(memory: SharedMemory) -> None:
    with memory.map():
        with pytest.raises(RegionBusyError) as caught:
            memory.add_seals(MemfdSeals.WRITE)
        assert (caught.value.errno, caught.value.syscall) == (errno.EBUSY, "fcntl")
    assert MemfdSeals.WRITE not in memory.get_seals()
    memory.add_seals(MemfdSeals.WRITE)
    assert MemfdSeals.WRITE in memory.get_seals()


def read_only_mapping(memory: SharedMemory) -> MemoryMapping:
    """A shared read-only mapping of write-sealed memory, where the kernel can (Linux 6.7)."""
    try:
        return memory.map(prot=READ)
    except OperationNotPermittedError:
        seals = memory.get_seals()
        if MemfdSeals.WRITE not in seals:
            raise
        pytest.skip("this kernel maps nothing shared that is sealed against writing")


@pytest.mark.parametrize("seal", [MemfdSeals.WRITE, MemfdSeals.FUTURE_WRITE])
def test_sealed_against_writing_is_mapped_read_only_and_not_writable(
    seal: MemfdSeals, memory: SharedMemory
) -> None:
    with memory.map() as m:
        m[:] = known_bytes(m.size)
    add_or_skip(memory, seal)
    with pytest.raises(PermissionError):
        os.pwrite(memory.fileno(), b"x", 0)
    for prot in (RW, Protection.write()):
        with nothing_left(), pytest.raises(OperationNotPermittedError) as caught:
            memory.map(prot=prot)
        assert (caught.value.errno, caught.value.syscall) == (errno.EPERM, "mmap")
    with pytest.raises(OperationNotPermittedError):
        memory.map()
    with read_only_mapping(memory) as m:
        assert m[:] == known_bytes(memory.size)
        assert m.sharing is Sharing.SHARED
        assert perms(m.as_ptr(), m.size) == ["r--s"] * 3
        with pytest.raises(AccessDeniedError):
            m.protect(RW)
        assert perms(m.as_ptr(), m.size) == ["r--s"] * 3
        assert m.prot == READ


def test_seal_future_write_leaves_writable_mappings_that_there_are(memory: SharedMemory) -> None:
    with memory.map() as m:
        add_or_skip(memory, MemfdSeals.FUTURE_WRITE)
        m[0] = 9
        with memory.map(prot=READ) as reader:
            assert reader[0] == 9
            m[0] = 10
            assert reader[0] == 10


@pytest.mark.parametrize("seals", [2, 0, None, "SHRINK", [MemfdSeals.SHRINK]])
def test_add_seals_of_another_type_is_refused(seals: Any, memory: SharedMemory) -> None:
    before = memory.get_seals()
    with pytest.raises(TypeError):
        memory.add_seals(seals)
    assert memory.get_seals() == before


def test_add_seals_that_no_kernel_knows_is_an_error(memory: SharedMemory) -> None:
    with pytest.raises(InvalidSystemCallError):
        memory.add_seals(MemfdSeals(1 << 20))


def test_seals_of_a_plain_file_are_an_error(known_file: KnownFile) -> None:
    with known_file.path.open("r+b") as file, SharedMemory.from_file(file) as shared:
        with pytest.raises(InvalidSystemCallError):
            shared.get_seals()
        with pytest.raises(InvalidSystemCallError):
            shared.add_seals(MemfdSeals.SHRINK)


# Mapping


def test_map_is_the_memory_shared_and_writable(memory: SharedMemory) -> None:
    with memory.map() as m, memory.map() as twin:
        assert (m.size, m.prot, m.sharing) == (memory.size, RW, Sharing.SHARED)
        m[:] = known_bytes(m.size)
        assert twin[:] == known_bytes(m.size)
        assert os.pread(memory.fileno(), m.size, 0) == known_bytes(m.size)


@pytest.mark.parametrize(
    ("size", "offset"),
    [
        (None, 0),
        (None, 1),
        (None, PAGE),
        (None, 2 * PAGE + 4),
        (1, 0),
        (7, PAGE - 3),
        (5, 2 * PAGE),
    ],
)
def test_map_of_a_part_is_that_part(size: int | None, offset: int, memory: SharedMemory) -> None:
    os.pwrite(memory.fileno(), known_bytes(memory.size), 0)
    with memory.map(None if size is None else Index(size), offset=Index(offset)) as m:
        end = memory.size if size is None else offset + size
        assert m[:] == known_bytes(memory.size)[offset:end]
        assert m.file_offset == offset


@pytest.mark.parametrize(
    ("size", "offset", "count"),
    [
        (None, 2 * PAGE + 5, 0),
        (None, 2**62, 0),
        (2 * PAGE + 6, 0, 2 * PAGE + 6),
        (2 * PAGE + 5, 1, 2 * PAGE + 5),
        (1, 2 * PAGE + 5, 1),
        (1, 2**63 - 1, 1),
        (2**64 - 1, 0, 2**64 - 1),
    ],
)
def test_map_past_the_end_is_refused(
    size: int | None, offset: int, count: int, memory: SharedMemory
) -> None:
    with nothing_left(), pytest.raises(PastEndOfFileError) as caught:
        memory.map(size, offset=offset)
    error = caught.value
    assert (error.offset, error.count, error.file_size) == (offset, count, memory.size)


def test_map_past_the_part_that_is_held_is_refused(memory: SharedMemory) -> None:
    with SharedMemory.from_fd(memory, PAGE) as part:
        with pytest.raises(PastEndOfFileError) as caught:
            part.map(PAGE + 1)
        assert caught.value.file_size == PAGE
        with part.map() as m:
            assert m.size == PAGE


def test_map_of_memory_that_was_cut_since_is_refused(memory: SharedMemory) -> None:
    os.ftruncate(memory.fileno(), PAGE)
    with nothing_left(), pytest.raises(PastEndOfFileError) as caught:
        memory.map()
    assert caught.value.file_size == PAGE
    with memory.map(PAGE) as m:
        assert m.is_all_zero()


@pytest.mark.parametrize("size", [0, -1, 2**64])
def test_map_of_a_size_that_cannot_be_right_is_refused(size: int, memory: SharedMemory) -> None:
    with nothing_left(), pytest.raises(InvalidArgumentError):
        memory.map(size)


@pytest.mark.parametrize("offset", [-1, 2**63, 2**64])
def test_map_at_an_offset_that_no_file_has_is_refused(offset: int, memory: SharedMemory) -> None:
    with nothing_left(), pytest.raises(InvalidOffsetError):
        memory.map(offset=offset)


def test_map_of_wrong_types_is_refused(memory: SharedMemory) -> None:
    wrong: Any
    for wrong in (1.0, "1"):
        calls: list[Callable[[], object]] = [
            lambda: memory.map(wrong),  # noqa: B023  # called before it changes
            lambda: memory.map(offset=wrong),  # noqa: B023
            lambda: memory.map(prot=wrong),  # noqa: B023
        ]
        for call in calls:
            with nothing_left(), pytest.raises(TypeError):
                call()


def test_shared_memory_is_a_descriptor_for_every_call_that_takes_one(memory: SharedMemory) -> None:
    os.pwrite(memory.fileno(), b"abc", 0)
    with MemoryMapping.from_fd(memory, 3) as m:
        assert m[:] == b"abc"
    with MemoryMapping.from_file(memory) as m:
        assert m.size == memory.size
    with mmapwrap.MemoryMappingArena.new(4 * PAGE) as arena:
        arena.add_fd(PAGE, 2 * PAGE, memory)
        assert arena[PAGE : PAGE + 3] == b"abc"
    address = free_address(PAGE)
    with MemoryMapping.from_descriptor_offset_protection_fixed(address, memory, 3, 0, RW) as m:
        assert m[:] == b"abc"
    with MemoryMapping.new(8) as m:
        assert m.get_slice(0, 8).read_from_fd(memory, 3, 0) == 3


def test_import_and_use_tell_no_resource_tracker_and_import_no_multiprocessing() -> None:
    program = """
        import sys
        before = set(sys.modules)
        from mmapwrap import MemfdSeals, SharedMemory

        with SharedMemory.new("quiet", 4096, allocate=True) as shared, shared.map() as m:
            shared.add_seals(MemfdSeals.SHRINK)
            shared.try_clone().close()
            m[0] = 1
        print([name for name in set(sys.modules) - before if name.startswith("multiprocessing")])
    """
    assert child(program).succeeded() == "[]\n"


def test_errors_of_shared_memory_are_the_librarys(memory: SharedMemory) -> None:
    assert issubclass(TooManyFilesError, SystemCallError)
    memory.close()
    with pytest.raises(MmapError):
        memory.map()


def test_bytes_that_the_object_does_not_share_are_not_said_of_the_file() -> None:
    with SharedMemory.new("grown", PAGE) as memory:
        os.ftruncate(memory.fileno(), 4 * PAGE)
        with pytest.raises(PastEndOfFileError, match=rf"but this SharedMemory has {PAGE} bytes$"):
            memory.map(2 * PAGE)
        with pytest.raises(PastEndOfFileError, match=r"this SharedMemory has") as caught:
            memory.map(offset=PAGE)
        assert caught.value.file_size == PAGE
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
