"""`MemoryMapping.create` and shared memory with a name: what is new, and what errors leave."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest
from files import mounted_tmpfs
from kernel_view import PAGE, become_unprivileged, child, in_process, known_bytes, process_unchanged
from meanwhile import interrupted_at

from mmapwrap import (
    AccessDeniedError,
    AlreadyExistsError,
    ClosedMappingError,
    InvalidArgumentError,
    MemoryMapping,
    MmapError,
    NoSpaceError,
    NoSuchFileError,
    NotDirectoryError,
    NotMappableError,
    OperationNotPermittedError,
    PastEndOfFileError,
    SharedMemory,
    SystemCallError,
)
from mmapwrap._core import descriptors, file_length


@pytest.fixture
def path(disk_path: Path) -> Path:
    return disk_path / "made"


@pytest.fixture
def name() -> Iterator[str]:
    """A name for shared memory, which is free again afterwards."""
    given = f"mmapwrap-{os.getpid()}"
    yield given
    Path("/dev/shm", given).unlink(missing_ok=True)


# Files


@pytest.mark.parametrize("make", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
def test_created_file_is_of_zeros_and_mapped(make: Callable[[Path], Any], path: Path) -> None:
    with process_unchanged(), MemoryMapping.create(make(path), 3 * PAGE + 1) as m:
        assert (m.size, m.capacity, str(m.prot)) == (3 * PAGE + 1, 3 * PAGE + 1, "rw-")
        assert m.is_all_zero()
        assert path.stat().st_blocks * 512 >= 3 * PAGE
        m[-1] = 65
        assert path.read_bytes() == bytes(3 * PAGE) + b"A"


def test_created_file_without_blocks(path: Path) -> None:
    with MemoryMapping.create(path, 1 << 30, allocate=False) as m:
        assert m.size == path.stat().st_size == 1 << 30
        assert path.stat().st_blocks * 512 < 1 << 20


def test_mode_is_that_of_open(path: Path) -> None:
    mask = os.umask(0o027)
    try:
        for mode, expected in ((None, 0o640), (0o600, 0o600), (0o777, 0o750)):
            if mode is None:
                MemoryMapping.create(path, 1).close()
            else:
                MemoryMapping.create(path, 1, mode=mode).close()
            assert stat.S_IMODE(path.stat().st_mode) == expected
            path.unlink()
    finally:
        os.umask(mask)


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link"])
def test_what_is_there_already_stays(kind: str, path: Path) -> None:
    target = path.with_name("target")
    match kind:
        case "file":
            path.write_bytes(b"old")
        case "directory":
            path.mkdir()
        case "link":
            target.write_bytes(b"old")
            path.symlink_to(target)
        case _:
            path.symlink_to(target)
    with process_unchanged(), pytest.raises(AlreadyExistsError) as caught:
        MemoryMapping.create(path, PAGE)
    assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(path))
    assert target.exists() == (kind == "link")
    if kind == "file":
        assert path.read_bytes() == b"old"


def test_overwriting_replaces_the_content(path: Path) -> None:
    path.write_bytes(known_bytes(4 * PAGE))
    with MemoryMapping.create(path, PAGE, overwrite=True) as m:
        assert m.is_all_zero()
    assert path.read_bytes() == bytes(PAGE)
    path.unlink()
    with MemoryMapping.create(path, 7, overwrite=True) as m:
        assert m[:] == bytes(7)
    assert [*path.parent.iterdir()] == [path]


def test_file_that_is_replaced_stays_to_those_who_have_it_mapped(path: Path) -> None:
    path.write_bytes(known_bytes(4 * PAGE))
    with MemoryMapping.from_file(path) as old, old.view() as view:
        with MemoryMapping.create(path, PAGE, overwrite=True, mode=0o600) as new:
            new[:4] = b"new "
            assert view == known_bytes(4 * PAGE)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes()[:4] == b"new "


def test_file_that_is_not_replaced_stays(path: Path) -> None:
    path.write_bytes(b"old")
    for size, capacity in ((1 << 62, None), (PAGE, 1 << 61)):
        with process_unchanged(), pytest.raises(MmapError):
            MemoryMapping.create(path, size, capacity=capacity, overwrite=True)
        assert [*path.parent.iterdir()] == [path]
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "link"])
def test_only_a_regular_file_is_overwritten(kind: str, path: Path) -> None:
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("missing")
        case _:
            path = Path("/dev/null")
    before = path.lstat()
    with process_unchanged(), pytest.raises(AlreadyExistsError, match="regular"):
        MemoryMapping.create(path, PAGE, overwrite=True)
    assert path.lstat().st_mode == before.st_mode


@pytest.mark.parametrize("size", [0, -1, 2**63, 2**64])
def test_size_that_no_file_has_is_refused(size: int, path: Path) -> None:
    with process_unchanged(), pytest.raises(InvalidArgumentError):
        MemoryMapping.create(path, size)
    assert not path.exists()


@pytest.mark.parametrize("mode", [-1, 0o10000, 2**70])
def test_mode_that_is_none_is_refused(mode: int, path: Path, name: str) -> None:
    with process_unchanged():
        with pytest.raises(InvalidArgumentError, match=r"mode .*0o"):
            MemoryMapping.create(path, PAGE, mode=mode)
        with pytest.raises(InvalidArgumentError, match="mode"):
            SharedMemory.create_named(name, PAGE, mode=mode)
    assert not path.exists()


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("missing/made", NoSuchFileError),
        ("file/made", NotDirectoryError),
        ("x" * 300, SystemCallError),
        ("made\0", InvalidArgumentError),
        ("", NoSuchFileError),
    ],
    ids=["no directory", "no directory but a file", "long", "NUL", "empty"],
)
def test_path_that_cannot_be_created_is_told(
    where: str, kind: type[MmapError], disk_path: Path
) -> None:
    (disk_path / "file").touch()
    with process_unchanged(), pytest.raises(kind):
        MemoryMapping.create(f"{disk_path}/{where}" if where else "", PAGE)
    assert [each.name for each in disk_path.iterdir()] == ["file"]


def create_where_nothing_may_be(folder: str) -> None:
    become_unprivileged()
    with pytest.raises(AccessDeniedError) as caught:
        MemoryMapping.create(f"{folder}/made", PAGE)
    assert caught.value.filename == f"{folder}/made"


def test_directory_of_another_user_is_refused(disk_path: Path) -> None:
    disk_path.chmod(0o755)
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory of another user")
    in_process(create_where_nothing_may_be, disk_path).succeeded()


def test_read_only_file_system_is_refused() -> None:
    with mounted_tmpfs("ro") as folder, process_unchanged():
        with pytest.raises(SystemCallError) as caught:
            MemoryMapping.create(folder / "made", PAGE)
        assert caught.value.errno == errno.EROFS


def test_file_that_finds_no_addresses_is_not_left(path: Path) -> None:
    with process_unchanged(), pytest.raises(MmapError):
        MemoryMapping.create(path, PAGE, capacity=1 << 61)
    assert not path.exists()


def test_exception_at_any_line_leaves_no_file_that_is_half_made(path: Path) -> None:
    class Interruption(BaseException):
        pass

    moment = 0
    while interrupted_at(moment, lambda: MemoryMapping.create(path, PAGE), Interruption):
        if path.exists():  # it is whole, or nothing has come after its name
            assert path.read_bytes() in {b"", bytes(PAGE)}
            path.unlink()
        assert [*path.parent.iterdir()] == []
        moment += 1
    assert moment > 10


def test_interrupted_create_takes_the_file_back(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(file_length, "extend_file", interrupt)
    with process_unchanged():
        with pytest.raises(KeyboardInterrupt):
            MemoryMapping.create(path, PAGE)
        with pytest.raises(KeyboardInterrupt):
            SharedMemory.create_named(name, PAGE)
    assert not path.exists()
    assert not Path("/dev/shm", name).exists()


class OnceAPath:
    """A path that its maker can be asked for once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked = 0

    def __fspath__(self) -> str:
        self.asked += 1
        if self.asked > 1:
            raise ZeroDivisionError
        return str(self._path)


def test_object_that_is_a_path_is_asked_once(path: Path) -> None:
    with process_unchanged():
        with pytest.raises(MmapError):
            MemoryMapping.create(OnceAPath(path), PAGE, capacity=1 << 61)
        assert not path.exists()
        MemoryMapping.create(OnceAPath(path), PAGE).close()
        MemoryMapping.create(OnceAPath(path), 2 * PAGE, overwrite=True).close()
        with pytest.raises(PastEndOfFileError) as caught:
            MemoryMapping.from_file(OnceAPath(path), 3 * PAGE)
    assert caught.value.filename == str(path)
    assert path.stat().st_size == 2 * PAGE


def test_file_with_the_longest_name_is_overwritten(disk_path: Path) -> None:
    path = disk_path / ("n" * 255)
    path.write_bytes(b"old")
    with process_unchanged(), MemoryMapping.create(path, PAGE, overwrite=True) as m:
        assert m.size == PAGE
    assert path.read_bytes() == bytes(PAGE)
    assert [*disk_path.iterdir()] == [path]


def test_file_in_the_current_folder_is_overwritten(
    disk_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(disk_path)
    Path("old").write_bytes(b"old")
    MemoryMapping.create("old", PAGE, overwrite=True).close()
    assert [(each.name, each.stat().st_size) for each in disk_path.iterdir()] == [("old", PAGE)]


def test_file_that_cannot_be_taken_back_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    fd, owner = descriptors.open_file(path, os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(descriptors, "remove_name", interrupt)
    with pytest.raises(KeyboardInterrupt):
        descriptors.take_back(path, owner)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# Shared memory with a name


@pytest.mark.parametrize("slash", ["", "/"])
def test_named_memory_is_found_by_its_name(slash: str, name: str) -> None:
    with process_unchanged():
        with SharedMemory.create_named(slash + name, 3 * PAGE) as memory, memory.map() as m:
            m[:5] = b"hello"
            with SharedMemory.open_named(name) as other, other.map() as theirs:
                assert (memory.name, other.name, other.size) == (name, name, 3 * PAGE)
                assert theirs[:5] == b"hello"
                assert stat.S_IMODE(os.fstat(other.fileno()).st_mode) == 0o600
        SharedMemory.unlink_named(slash + name)
        with pytest.raises(NoSuchFileError):
            SharedMemory.open_named(name)


def test_named_memory_is_that_of_multiprocessing(name: str) -> None:
    with SharedMemory.create_named(name, PAGE) as memory, memory.map() as m:
        m[:5] = b"hello"
        theirs = shared_memory.SharedMemory(name)
        try:
            assert theirs.buf is not None
            assert bytes(theirs.buf[:5]) == b"hello"
        finally:
            theirs.close()
            theirs.unlink()
    assert not Path("/dev/shm", name).exists()


def test_named_memory_lasts_when_its_maker_is_gone(name: str) -> None:
    program = """
        import sys
        from mmapwrap import SharedMemory
        SharedMemory.create_named(sys.argv[1], 0).resize(5)
        SharedMemory.open_named(sys.argv[1]).map()[:] = b"hello"
    """
    child(program, name).succeeded()
    with SharedMemory.open_named(name) as memory:
        assert memory.map()[:] == b"hello"


def unlink_what_is_of_another_user(name: str) -> None:
    become_unprivileged()
    with pytest.raises(OperationNotPermittedError):
        SharedMemory.unlink_named(name)


def test_name_of_another_user_stays(name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make memory for another user")
    with SharedMemory.create_named(name, PAGE, mode=0o777):
        in_process(unlink_what_is_of_another_user, name).succeeded()
        assert Path("/dev/shm", name).exists()


def test_name_that_is_taken_or_free_is_told(name: str) -> None:
    with process_unchanged():
        for call in (SharedMemory.open_named, SharedMemory.unlink_named):
            with pytest.raises(NoSuchFileError):
                call(name)
        with SharedMemory.create_named(name, PAGE) as memory:
            with pytest.raises(AlreadyExistsError):
                SharedMemory.create_named(name, 1)
            assert memory.map().size == PAGE


@pytest.mark.parametrize("wrong", ["", "/", ".", "..", "a/b", "//a", "a\0", "x" * 256, "é" * 128])
def test_name_that_is_none_is_refused(wrong: str) -> None:
    with process_unchanged():
        for call in (
            lambda: SharedMemory.create_named(wrong, 1),
            lambda: SharedMemory.open_named(wrong),
            lambda: SharedMemory.unlink_named(wrong),
        ):
            with pytest.raises(InvalidArgumentError, match="name"):
                call()


def test_longest_name_works() -> None:
    name = f"{os.getpid():0255}"
    with SharedMemory.create_named(name, 1) as memory:
        SharedMemory.unlink_named(name)
        assert memory.name.startswith(name)


@pytest.mark.parametrize("wrong", [None, 1, b"bytes"])
def test_name_of_a_wrong_type_is_told(wrong: Any) -> None:
    with pytest.raises(TypeError, match="name must be a str"):
        SharedMemory.create_named(wrong, 1)


def test_link_or_directory_in_place_of_memory_is_refused(name: str, path: Path) -> None:
    place = Path("/dev/shm", name)
    path.write_bytes(b"content")
    place.symlink_to(path)
    with process_unchanged():
        with pytest.raises(SystemCallError) as caught:
            SharedMemory.open_named(name)
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(AlreadyExistsError):
            SharedMemory.create_named(name, 1)
    place.unlink()
    os.mkfifo(place)
    with process_unchanged(), pytest.raises(NotMappableError):
        SharedMemory.open_named(name)


def test_memory_that_is_not_to_be_had_is_not_left(name: str) -> None:
    for size in (1 << 50, 1 << 62):
        with process_unchanged(), pytest.raises(NoSpaceError):
            SharedMemory.create_named(name, size)
        assert not Path("/dev/shm", name).exists()


# The size of shared memory


def test_shared_memory_grows_for_all_its_holders() -> None:
    with (
        SharedMemory.new("grows", 0) as memory,
        memory.try_clone() as clone,
        memory.map(capacity=1 << 30) as m,
    ):
        assert (memory.size, m.size) == (0, 0)
        memory.resize(PAGE)
        assert (memory.size, clone.size, clone.refresh()) == (PAGE, 0, PAGE)
        assert (m.size, m.refresh()) == (0, PAGE)
        m.resize(3 * PAGE)
        assert (memory.refresh(), clone.refresh()) == (3 * PAGE, 3 * PAGE)
        memory.resize(10)
        assert os.fstat(clone.fileno()).st_size == 10
        clone.resize(2 * PAGE)  # what it still had for the size is cut by nobody
        assert os.fstat(memory.fileno()).st_size == 2 * PAGE
        assert m.refresh() == 2 * PAGE


def test_empty_shared_memory_is_received() -> None:
    program = """
        import multiprocessing
        from mmapwrap import SharedMemory

        def work(memory, connection):
            memory.resize(5)
            memory.map()[:] = b"hello"
            connection.send("done")

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            memory = SharedMemory.new("empty", 0)
            here, there = context.Pipe()
            process = context.Process(target=work, args=(memory, there))
            process.start()
            here.recv()
            process.join()
            print(memory.refresh(), memory.map()[:].decode())
    """
    assert child(program).succeeded() == "5 hello\n"


@pytest.mark.parametrize("room", [50, 1000, 1 << 20])
def test_mapping_of_no_shared_bytes_is_empty_where_the_file_has_more(room: int, path: Path) -> None:
    path.write_bytes(known_bytes(8192))
    with path.open("r+b") as file, process_unchanged(), SharedMemory.from_fd(file, 100) as memory:
        with memory.map(offset=100, capacity=room) as m:
            assert (m.size, m.capacity, m.file_offset) == (0, room, 100)
            assert m.refresh() == min(room, 8192 - 100)
            assert m[:50] == known_bytes(150)[100:]
        with pytest.raises(PastEndOfFileError):
            memory.map(offset=100)


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ([b"MemTotal: 1 kB"], False),
        ([b"", b"nothing"], False),
        ([b"MemAvailable: 100 kB"], True),
        ([b"MemAvailable: 100 kB", b"SwapFree: 1000000 kB"], False),
    ],
)
def test_memory_that_the_kernel_does_not_tell_of_is_not_required(
    lines: list[bytes], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines_of(path: str) -> Iterator[bytes]:
        yield from lines if path == "/proc/meminfo" else ()

    monkeypatch.setattr(descriptors, "lines_of", lines_of)
    with pytest.raises(NoSpaceError) if refused else nullcontext():
        SharedMemory.new("enough", 1 << 20, allocate=True).close()


def test_shared_memory_that_is_closed_does_not_grow() -> None:
    memory = SharedMemory.new("closed", 0)
    memory.close()
    for call in (lambda: memory.resize(1), memory.refresh):
        with pytest.raises(ClosedMappingError):
            call()


@pytest.mark.parametrize("size", [-1, 2**63, 2**64])
def test_size_that_no_memory_has_is_refused(size: int) -> None:
    with SharedMemory.new("sized", PAGE) as memory:
        with pytest.raises(InvalidArgumentError):
            memory.resize(size)
        with pytest.raises(NoSpaceError):
            memory.resize(1 << 50)
        assert memory.size == os.fstat(memory.fileno()).st_size == PAGE
