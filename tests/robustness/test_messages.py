"""What errors say: what was given, under its own name, what is wrong with it, and what works."""

import ctypes
import errno
import inspect
import os
import pickle
import re
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest
from arena_view import assert_as_the_kernel_lists, unchanged
from kernel_view import (
    PAGE,
    KnownFile,
    child,
    free_address,
    in_process,
    is_mapped,
    known_bytes,
    process_unchanged,
    say,
)
from marks import LOCKS_DO_NOTHING, MEMORY_IS_PAST_THE_LIMIT, MEMORY_IS_REPORTED, needs
from messages import nearest_offsets
from protections import READ, RW

from mmapwrap import (
    AccessDeniedError,
    Advice,
    BadAddressError,
    BadDescriptorError,
    DestructiveAdvice,
    InvalidArgumentError,
    InvalidRangeError,
    InvalidSystemCallError,
    IsDirectoryError,
    MappedRegion,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    NoSpaceError,
    NoSuchFileError,
    NotMappableError,
    NotPageAlignedError,
    OperationNotPermittedError,
    OutOfMemoryError,
    PastEndOfFileError,
    Protection,
    ProtectionError,
    ReadToMemoryError,
    RegionBusyError,
    Scalar,
    SharedMemory,
    Sharing,
    SyncMode,
    SystemCallError,
    UnsupportedOperationError,
    VolatileMisalignedError,
    VolatileOutOfBoundsError,
    VolatileSlice,
    WriteFromMemoryError,
    f32,
    f64,
    u8,
    u32,
    unsafe,
)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Four pages of memory."""
    with MemoryMapping.anonymous(4 * PAGE) as m:
        yield m


@pytest.fixture
def arena() -> Iterator[MemoryMappingArena]:
    """An arena of eight pages that holds memory in its first four."""
    with MemoryMappingArena.new(8 * PAGE) as a:
        a.add_anon(0, 4 * PAGE)
        a[: 4 * PAGE] = known_bytes(4 * PAGE)
        yield a


# TypeErrors


STR_FOR_BYTES: dict[str, Callable[[Any], object]] = {
    "find": lambda m: m.find("PK"),
    "rfind": lambda m: m.rfind("PK"),
    "in": lambda m: "PK" in m,
    "slice": lambda m: m.__setitem__(slice(0, 4), "PK.."),
    "step": lambda m: m.__setitem__(slice(0, 8, 2), "PK.."),
    "write_slice": lambda m: m.write_slice("PK", 0),
    "copy_from": lambda m: m.get_slice(0, 4).copy_from("PK"),
    "write_all": lambda m: m.write_all("PK", 0),
    "write_all of a slice": lambda m: m.get_slice(0, 4).write_all("PK"),
}


@pytest.mark.parametrize("call", STR_FOR_BYTES.values(), ids=STR_FOR_BYTES.keys())
def test_str_instead_of_bytes_is_told_that_bytes_are_needed(
    call: Callable[[Any], object], mapping: MemoryMapping
) -> None:
    with pytest.raises(TypeError, match="bytes are needed, not str"):
        call(mapping)
    assert mapping.is_all_zero()


def test_mode_of_open_instead_of_a_size_is_a_type_error_that_names_it(
    known_file: KnownFile,
) -> None:
    with pytest.raises(TypeError, match=r"\bsize\b.*\bstr\b"):
        MemoryMapping.from_file(known_file.path, "r")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("arguments", [("/etc/passwd",), (3, 4096), ()])
def test_mapping_made_by_its_class_is_told_the_constructors(arguments: tuple[Any, ...]) -> None:
    wrong: Any = MemoryMapping
    with pytest.raises(TypeError, match=r"from_file\(path\).*anonymous\(size\)"):
        wrong(*arguments)
    with pytest.raises(TypeError, match=r"from_file\(path\).*anonymous\(size\)"):
        wrong(path="/etc/passwd")


class Nothing:
    """An object that is none of what any argument takes."""


# Something right for each argument, by its name.
RIGHT: Final[dict[str, Any]] = {
    "addr": 1 << 44,
    "advice": Advice.NORMAL,
    "align": None,
    "buffering": 0,
    "allocate": False,
    "buffer": bytearray(4),
    "capacity": None,
    "count": 8,
    "data": b"data",
    "debug_name": "name",
    "dtype": "u1",
    "end": None,
    "fd_offset": 0,
    "file_offset": 0,
    "invalidate": False,
    "len": 8,
    "mem_offset": 0,
    "mode": SyncMode.SYNC,
    "name": None,
    "needle": b"needle",
    "offset": 0,
    "order": "C",
    "populate": False,
    "progress": None,
    "prot": RW,
    "required_seals": MemfdSeals(0),
    "reserve": False,
    "scalar": u32,
    "seals": MemfdSeals(0),
    "shape": 1,
    "sharing": Sharing.SHARED,
    "size": PAGE,
    "source": 0,
    "start": 0,
    "target": 0,
    "value": 1,
    "values": [1],
    "write": False,
}
# Any object will do: it is asked whether it is true, kept, or called later.
ANY_OBJECT = {
    "allocate",
    "invalidate",
    "overwrite",
    "owner",
    "populate",
    "progress",
    "reserve",
    "write",
}
# What a module of the package makes regions and slices of; and what takes no argument.
NOT_FOR_USERS = {"holding", "owning", "of"}
# Not on this kind of region, whatever is given.
UNSUPPORTED = {
    ("MemoryMapping", "add_fd_mapping"),
    ("MemoryMapping", "remove_mapping"),
    ("MemoryMappingArena", "resize"),
    ("MemoryMappingArena", "refresh"),
}


def parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def public_calls() -> list[tuple[str, str, str]]:
    """The class or module, the function and the argument, of all that users call."""
    kinds: dict[str, Any] = {
        kind.__name__: kind
        for kind in (MemoryMapping, MemoryMappingArena, SharedMemory, VolatileSlice)
    }
    return [
        (owner, name, parameter.name)
        for owner, kind in {**kinds, "unsafe": unsafe}.items()
        for name in (unsafe.__all__ if kind is unsafe else dir(kind))
        if not name.startswith("_") and name not in NOT_FOR_USERS
        if callable(getattr(kind, name)) and (owner, name) not in UNSUPPORTED
        for parameter in parameters(getattr(kind, name))
        if parameter.name != "self" and parameter.name not in ANY_OBJECT
    ]


SAID_AS: Final = {"mem_offset": "offset", "len": "count", "file": "fd"}
"""Arguments that the calls share a check of."""


@pytest.mark.parametrize(("owner", "name", "argument"), public_calls())
def test_argument_of_a_wrong_type_is_a_type_error_that_names_it(
    owner: str,
    name: str,
    argument: str,
    mapping: MemoryMapping,
    arena: MemoryMappingArena,
    disk_path: Path,
) -> None:
    with SharedMemory.new("right", PAGE) as memory:
        slice_ = mapping.get_slice(0, 64)
        objects: dict[str, Any] = {
            "MemoryMapping": mapping,
            "MemoryMappingArena": arena,
            "SharedMemory": memory,
            "VolatileSlice": slice_,
            "unsafe": unsafe,
        }
        right = {**RIGHT, "fd": memory, "file": memory, "mapping": mapping, "slice": slice_}
        if name == "advise_destructive":
            right["advice"] = DestructiveAdvice.DONTNEED
        if name == "open":
            right["mode"] = "rb"
        if name in {"create", "create_named"}:
            # What is wrong is found out before anything is created.
            right.update(mode=0o600, path=disk_path / "new", name="mmapwrap-wrong-types")
        function = getattr(objects[owner], name)
        given: Any
        for given in (Nothing(), 1.5, "text"):
            if type(given) is str and argument in {"debug_name", "file", "name", "path"}:
                continue  # a path, for example
            if type(given) is str and (name, argument) in {("open", "mode"), ("array", "order")}:
                continue  # it is no such mode or order
            if argument == "dtype":
                continue  # NumPy says what it is not
            with pytest.raises(TypeError) as caught:
                call_with(function, {**right, argument: given})
            if sys.version_info < (3, 12) and argument in {"buffer", "data", "needle"}:
                continue  # nothing tells an object without a buffer from one before memoryview does
            names = {argument, SAID_AS.get(argument, argument)}
            said = re.search(r"\w+", str(caught.value))
            assert said is not None
            assert said[0] in names, str(caught.value)


def call_with(function: Any, values: dict[str, Any]) -> object:
    named = {
        parameter.name: values[parameter.name]
        for parameter in parameters(function)
        if parameter.name in values
    }
    return function(**named)


# Files


@pytest.mark.parametrize("make", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
@pytest.mark.parametrize("name", ["plain", "with a\nnewline", "ünïcode"])
def test_error_of_a_file_names_its_path(
    make: Callable[[Any], Any], name: str, disk_path: Path
) -> None:
    path = disk_path / name
    given = make(path)
    names = {repr(os.fspath(path)), repr(os.fsencode(path))}

    with pytest.raises(NoSuchFileError) as missing:
        MemoryMapping.from_file(given)
    path.mkdir()
    with pytest.raises(IsDirectoryError) as directory:
        MemoryMapping.from_file(given)
    path.rmdir()
    path.write_bytes(b"abc")
    with pytest.raises(PastEndOfFileError) as past:
        MemoryMapping.from_file(given, 4)
    path.write_bytes(b"")
    with pytest.raises(PastEndOfFileError) as empty:
        MemoryMapping.from_file(given)

    for caught in (missing, directory, past, empty):
        assert any(name in str(caught.value) for name in names)
        assert "Path(" not in str(caught.value)
        assert caught.value.filename in {given, os.fspath(path)}
    assert "3 bytes" in str(past.value)


@pytest.mark.parametrize("size", [None, PAGE])
@pytest.mark.parametrize("prot", [None, READ], ids=["to write", "to read"])
@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize("is_open", [False, True], ids=["path", "descriptor"])
def test_directory_is_said_to_be_one(
    is_open: bool, sharing: Sharing, prot: Protection | None, size: int | None, disk_path: Path
) -> None:
    fd = os.open(disk_path, os.O_RDONLY)
    try:
        file = fd if is_open else disk_path
        with process_unchanged(), pytest.raises(IsADirectoryError) as caught:
            MemoryMapping.from_file(file, size, prot=prot, sharing=sharing)
    finally:
        os.close(fd)
    assert isinstance(caught.value, IsDirectoryError)
    assert is_open or str(disk_path) in str(caught.value)


def test_file_that_the_user_may_not_open_is_named(disk_path: Path) -> None:
    path = disk_path / "kept"
    path.write_bytes(b"abc")
    path.chmod(0o400)
    disk_path.chmod(0o755)
    program = """
        import sys
        from kernel_view import become_unprivileged
        from mmapwrap import AccessDeniedError, MemoryMapping, Protection

        become_unprivileged()
        for prot in (None, Protection.read()):
            try:
                MemoryMapping.from_file(sys.argv[1], prot=prot)
            except AccessDeniedError as error:
                print(error.filename, sys.argv[1] in str(error), error.syscall)
    """
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    assert child(program, path).succeeded() == f"{path} True open\n" * 2


def refused(path: str, **arguments: Any) -> SystemCallError:
    if not os.access(path, os.R_OK):
        pytest.skip(f"{path} is not here, or cannot be read")
    try:
        MemoryMapping.from_file(path, PAGE, **arguments).close()
    except SystemCallError as error:
        return error
    pytest.skip(f"{path} can be mapped shared here")


def test_file_that_can_only_be_mapped_privately_is_said_to_be_one() -> None:
    # The kernel's own type information: readable, and never shared.
    path = "/sys/kernel/btf/vmlinux"
    error = refused(path, prot=READ)
    assert isinstance(error, AccessDeniedError)
    assert path in str(error)
    assert "shared" in str(error)
    assert "PRIVATE" in str(error)
    with MemoryMapping.from_file(path, PAGE, prot=READ, sharing=Sharing.PRIVATE) as mapping:
        assert mapping[:2] in {b"\x9f\xeb", b"\xeb\x9f"}  # as it says, it may work
    with pytest.raises(AccessDeniedError) as caught:  # and to write it does not
        MemoryMapping.from_file(path, PAGE, sharing=Sharing.PRIVATE)
    assert "PRIVATE may work" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/sys/kernel/mm/transparent_hugepage/enabled", "/dev/null", "/dev/urandom"]
)
def test_file_whose_driver_cannot_map_it_shared_is_said_to_be_one(path: str) -> None:
    error = refused(path, prot=READ)
    assert isinstance(error, NotMappableError)
    assert path in str(error)
    assert "cannot be mapped" in str(error)


def timer() -> int:
    """A descriptor of a timer; Python has no call for it before 3.13."""
    fd: int = ctypes.CDLL(None).timerfd_create(0, os.O_CLOEXEC)
    return fd


def duplicated_epoll() -> int:
    with select.epoll() as epoll:
        return os.dup(epoll.fileno())


ANONYMOUS_INODES: dict[str, Callable[[], int]] = {
    "eventfd": lambda: os.eventfd(0),
    "epoll": duplicated_epoll,
    "timerfd": timer,
    "pidfd": lambda: os.pidfd_open(os.getpid()),
}


@pytest.mark.parametrize("make", ANONYMOUS_INODES.values(), ids=ANONYMOUS_INODES.keys())
def test_descriptor_of_an_anonymous_inode_cannot_be_mapped_with_any_size(
    make: Callable[[], int],
) -> None:
    fd = make()
    try:
        for size in (None, PAGE):
            with process_unchanged(), pytest.raises(NotMappableError, match=f"descriptor {fd} or"):
                MemoryMapping.from_file(fd, size)
    finally:
        os.close(fd)


def test_character_device_is_told_that_a_size_is_needed() -> None:
    with pytest.raises(InvalidArgumentError, match="size is needed: the device '/dev/zero' has"):
        MemoryMapping.from_file("/dev/zero")
    with (
        open("/dev/zero", "r+b", buffering=0) as zero,
        pytest.raises(InvalidArgumentError, match=f"the device of descriptor {zero.fileno()} has"),
    ):
        MemoryMapping.from_file(zero)


@pytest.mark.parametrize("prot", [None, READ], ids=["to write", "to read"])
@pytest.mark.parametrize("path", ["/dev/null", "/dev/full", "/dev/urandom"])
def test_character_device_that_no_size_helps_is_told_no_size(
    path: str, prot: Protection | None
) -> None:
    for size in (None, PAGE):
        with process_unchanged(), pytest.raises(NotMappableError) as caught:
            MemoryMapping.from_file(path, size, prot=prot)
        assert path in str(caught.value)
        assert "cannot be mapped" in str(caught.value)


@pytest.mark.parametrize("size", [None, PAGE])
@pytest.mark.parametrize("prot", [None, READ], ids=["to write", "to read"])
def test_fifo_is_said_to_be_one(prot: Protection | None, size: int | None, disk_path: Path) -> None:
    path = disk_path / "fifo"
    os.mkfifo(path)
    with process_unchanged(), pytest.raises(NotMappableError, match=r"FIFO.*cannot be") as caught:
        MemoryMapping.from_file(path, size, prot=prot)
    assert str(path) in str(caught.value)


# Descriptors


def place_over(fd: Any, start: int) -> None:
    with MemoryMappingArena.new(2 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        arena.add_fd(start, PAGE, fd)


MAPPED_TO_WRITE: dict[str, Callable[[Any], object]] = {
    "from_fd": lambda fd: MemoryMapping.from_fd(fd, PAGE),
    "from_file": lambda fd: MemoryMapping.from_file(fd, PAGE, prot=RW),
    "fixed": lambda fd: MemoryMapping.from_descriptor_offset_protection_fixed(
        free_address(PAGE), fd, PAGE, 0, RW
    ),
    "arena": lambda fd: place_over(fd, 0),
    "hole of an arena": lambda fd: place_over(fd, PAGE),
}
to_write = pytest.mark.parametrize("make", MAPPED_TO_WRITE.values(), ids=MAPPED_TO_WRITE.keys())


@to_write
@pytest.mark.parametrize(
    ("mode", "kind", "said"),
    [
        (os.O_RDONLY, AccessDeniedError, "is open for reading only"),
        (os.O_WRONLY, AccessDeniedError, "is open for writing only"),
        (os.O_PATH, BadDescriptorError, "was opened with O_PATH"),
    ],
    ids=["read-only", "write-only", "path only"],
)
def test_descriptor_opened_in_a_wrong_mode_is_named_with_its_mode(
    mode: int,
    kind: type[MmapError],
    said: str,
    make: Callable[[Any], object],
    known_file: KnownFile,
) -> None:
    fd = os.open(known_file.path, mode)
    try:
        with process_unchanged(), pytest.raises(kind, match=f"descriptor {fd} {said}"):
            make(fd)
    finally:
        os.close(fd)


@to_write
def test_descriptor_that_is_not_open_is_named(make: Callable[[Any], object]) -> None:
    with process_unchanged(), pytest.raises(BadDescriptorError, match="descriptor 999 is not open"):
        make(999)


def test_descriptor_that_is_not_open_is_named_where_its_mode_is_asked_for() -> None:
    for call in (MemoryMapping.from_file, SharedMemory.from_fd):
        with pytest.raises(BadDescriptorError, match="descriptor 999 is not open"):
            call(999)


@contextmanager
def end_of_a_pipe(path: Path, end: int) -> Generator[int]:
    ends = os.pipe()
    try:
        yield ends[end]
    finally:
        for each in ends:
            os.close(each)


@contextmanager
def connection(path: Path) -> Generator[int]:
    one, other = socket.socketpair()
    with one, other:
        yield one.fileno()


@contextmanager
def directory(path: Path) -> Generator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


NO_FILES: dict[str, tuple[Callable[[Path], AbstractContextManager[int]], type[MmapError], str]] = {
    "reading end": (lambda path: end_of_a_pipe(path, 0), NotMappableError, "a pipe"),
    "writing end": (lambda path: end_of_a_pipe(path, 1), NotMappableError, "a pipe"),
    "socket": (connection, NotMappableError, "a socket"),
    "directory": (directory, IsDirectoryError, "a directory"),
}


@to_write
@pytest.mark.parametrize(("opened", "kind", "said"), NO_FILES.values(), ids=NO_FILES.keys())
def test_descriptor_of_what_cannot_be_mapped_is_named_with_its_kind(
    opened: Callable[[Path], AbstractContextManager[int]],
    kind: type[MmapError],
    said: str,
    make: Callable[[Any], object],
    disk_path: Path,
) -> None:
    with (
        opened(disk_path) as fd,
        process_unchanged(),
        pytest.raises(kind, match=f"the file of descriptor {fd} is {said}"),
    ):
        make(fd)


# Addresses


def test_alignment_that_no_address_has_is_named(known_file: KnownFile) -> None:
    align = 1 << 62
    with pytest.raises(OutOfMemoryError, match=f"{PAGE} bytes with align {align}"):
        MemoryMapping.anonymous(PAGE, align=align)
    size = known_file.path.stat().st_size
    with pytest.raises(OutOfMemoryError, match=f"; {size} bytes with align {align}"):
        MemoryMapping.from_file(known_file.path, align=align)


def test_address_above_user_space_is_named_as_such(known_file: KnownFile) -> None:
    address = 1 << 60
    said = f"{PAGE} bytes at address {address:#x}; user space ends at 0x"
    with pytest.raises(OutOfMemoryError, match=said):
        MemoryMapping.new_protection_fixed(address, PAGE, READ)
    with pytest.raises(OutOfMemoryError, match=said), open(known_file.path, "rb") as file:
        MemoryMapping.from_descriptor_offset_protection_fixed(address, file, PAGE, 0, READ)


def map_low_at_the_limit_of_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY))
    try:
        MemoryMapping.new_protection_fixed(1 << 44, 1 << 40, READ)
    except OutOfMemoryError as error:
        say(error.hint)


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_address_in_user_space_is_named_alone() -> None:
    ended = in_process(map_low_at_the_limit_of_addresses)
    assert ended.succeeded() == f"{1 << 40} bytes at address {1 << 44:#x}\n"


@pytest.fixture
def device(disk_path: Path) -> Iterator[Path]:
    """A block device of 16 pages with known content."""
    if os.geteuid() != 0:
        pytest.skip("only root can attach a loop device")
    backing = disk_path / "backing"
    backing.write_bytes(known_bytes(16 * PAGE))
    command = ["losetup", "--find", "--show", os.fspath(backing)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a loop device cannot be attached here: {error}")
    path = Path(ended.stdout.strip())
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def test_block_device_has_a_length_of_its_own(device: Path) -> None:
    with MemoryMapping.from_file(device) as mapping:
        assert mapping[:] == known_bytes(16 * PAGE)
        mapping[PAGE] = 0
        mapping.msync()
    with MemoryMapping.from_file(device, offset=15 * PAGE + 5) as mapping:
        assert mapping.size == PAGE - 5
    assert device.read_bytes()[PAGE] == 0


def test_block_device_keeps_its_position(device: Path) -> None:
    fd = os.open(device, os.O_RDWR)
    try:
        os.lseek(fd, 777, os.SEEK_SET)
        with MemoryMapping.from_file(fd) as mapping:
            assert mapping.size == 16 * PAGE
        with pytest.raises(PastEndOfFileError) as caught:
            MemoryMapping.from_file(fd, 16 * PAGE + 1)
        assert caught.value.file_size == 16 * PAGE
        assert os.lseek(fd, 0, os.SEEK_CUR) == 777
    finally:
        os.close(fd)


def test_block_device_past_its_end_is_named(device: Path) -> None:
    for offset, size in ((0, 17 * PAGE), (16 * PAGE, None), (16 * PAGE, 1)):
        with pytest.raises(PastEndOfFileError, match=str(device)):
            MemoryMapping.from_file(device, size, offset=offset)


ODD_NAMES = {
    "newline": "a\nb",
    "literal escape": "a\\012b",
    "backslash": "a\\134b",
    "deleted": "a (deleted)",
    "trailing space": "a ",
    "no UTF-8": "a\udcffb",
}


@pytest.mark.parametrize("user", ["root", "ordinary"])
@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_evict_finds_a_file_of_any_name_again(name: str, user: str, disk_path: Path) -> None:
    if os.geteuid() != 0 and user == "root":
        pytest.skip("this is for root")
    disk_path.chmod(0o755)
    path = disk_path / name
    path.write_bytes(known_bytes(4 * PAGE))
    path.chmod(0o666)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    program = """
        import os, sys
        from kernel_view import become_unprivileged
        from mmapwrap import MemoryMapping

        if sys.argv[1] == "ordinary":
            become_unprivileged()
        with MemoryMapping.from_file(os.fsdecode(bytes.fromhex(sys.argv[2]))) as mapping:
            content = mapping[:]
            mapping.evict()
            print(mapping[:] == content)
    """
    assert child(program, user, os.fsencode(path).hex()).succeeded() == "True\n"


# Pages


@pytest.mark.parametrize("lead_in", [1, 5, PAGE - 1])
@pytest.mark.parametrize("wanted", [1, 100, PAGE, 2 * PAGE + 50])
@pytest.mark.parametrize("name", ["drop_page_cache", "remove_range", "protect"])
def test_nearest_offsets_of_a_mapping_inside_a_page_work(
    name: str, wanted: int, lead_in: int, known_file: KnownFile
) -> None:
    calls: dict[str, Callable[[MappedRegion, int], None]] = {
        "drop_page_cache": lambda region, offset: region.drop_page_cache(
            offset, region.size - offset
        ),
        "remove_range": lambda region, offset: region.remove_range(offset, region.size - offset),
        "protect": lambda region, offset: region.protect(RW, offset),
    }
    with MemoryMapping.from_file(known_file.path, offset=PAGE + lead_in) as mapping:
        if (wanted + lead_in) % PAGE == 0:
            calls[name](mapping, wanted)
            return
        with pytest.raises(NotPageAlignedError) as caught:
            calls[name](mapping, wanted)
        assert (caught.value.value, caught.value.page_size) == (wanted, PAGE)
        assert str(wanted) in str(caught.value)
        nearest = nearest_offsets(caught.value)
        assert nearest
        assert all(abs(offset - wanted) < PAGE for offset in nearest)
        for offset in nearest:
            calls[name](mapping, offset)


@pytest.mark.parametrize(("offset", "size"), [(5, 10), (PAGE // 2, PAGE // 2), (PAGE - 1, 1)])
def test_nearest_offsets_are_none_that_the_region_does_not_have(
    offset: int, size: int, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, size, offset=offset) as mapping:
        with pytest.raises(NotPageAlignedError) as caught:
            mapping.drop_page_cache(0, size)
        for nearest in nearest_offsets(caught.value):
            mapping.drop_page_cache(nearest, size - nearest)


def test_end_of_a_range_inside_a_page_is_named_with_the_nearest_that_work(
    known_file: KnownFile,
) -> None:
    with MemoryMapping.from_file(known_file.path, offset=5) as mapping:
        with pytest.raises(NotPageAlignedError) as caught:
            mapping.drop_page_cache(PAGE - 5, PAGE + 1)
        assert caught.value.value == 2 * PAGE - 4
        for end in nearest_offsets(caught.value):
            mapping.drop_page_cache(PAGE - 5, end - (PAGE - 5))


# Arenas


def add_file(arena: MemoryMappingArena, offset: int, size: int) -> None:
    with SharedMemory.new("file", 16 * PAGE) as memory:
        arena.add_fd(offset, size, memory)


CHANGES: dict[str, Callable[[MemoryMappingArena, int, int], None]] = {
    "add_anon": MemoryMappingArena.add_anon,
    "add_fd": add_file,
    "remove": MemoryMappingArena.remove,
    "remove_mapping": MemoryMappingArena.remove_mapping,
}
over_changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())


@pytest.mark.parametrize("offset", [1, PAGE + 1, 8 * PAGE + 1, 2**40 + 1])
@pytest.mark.parametrize("size", [1, 0x100, 100 * PAGE])
@over_changes
def test_offset_in_an_arena_inside_a_page_is_that_before_the_range_is_looked_at(
    change: Callable[[MemoryMappingArena, int, int], None],
    size: int,
    offset: int,
    arena: MemoryMappingArena,
) -> None:
    with unchanged(arena), pytest.raises(NotPageAlignedError) as caught:
        change(arena, offset, size)
    assert (caught.value.value, caught.value.page_size) == (offset, PAGE)
    assert str(offset) in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "size"), [(7 * PAGE, PAGE + 1), (8 * PAGE, 1), (0, 9 * PAGE - 1), (-PAGE, 5)]
)
@over_changes
def test_range_past_an_arena_is_given_as_the_caller_gave_it(
    change: Callable[[MemoryMappingArena, int, int], None],
    offset: int,
    size: int,
    arena: MemoryMappingArena,
) -> None:
    with unchanged(arena), pytest.raises(InvalidRangeError) as caught:
        change(arena, offset, size)
    error = caught.value
    assert (error.offset, error.count, error.region_size) == (offset, size, 8 * PAGE)
    assert str(offset) in str(error)


def test_file_that_the_kernel_refuses_at_an_address_leaves_the_arena(
    arena: MemoryMappingArena,
) -> None:
    # io_uring_setup(2): the ring's own driver refuses addresses that it did not choose.
    parameters_ = ctypes.create_string_buffer(120)
    fd: int = ctypes.CDLL(None).syscall(425, 8, parameters_)
    if fd < 0:
        pytest.skip("this kernel has no io_uring")
    try:
        with pytest.raises(MmapError):
            arena.add_fd(PAGE, PAGE, fd)
    finally:
        os.close(fd)
    assert all(is_mapped(arena.as_ptr() + page * PAGE) for page in range(8)), "a hole is left"
    assert arena[:PAGE] == known_bytes(PAGE)
    assert arena[2 * PAGE : 4 * PAGE] == known_bytes(4 * PAGE)[2 * PAGE :]
    assert_as_the_kernel_lists(arena)


# Slices


@pytest.fixture
def slice_(mapping: MemoryMapping) -> VolatileSlice:
    """100 bytes from offset 1024 on."""
    return mapping.get_slice(1024, 100)


OUTSIDE: dict[str, tuple[Callable[[VolatileSlice], object], int]] = {
    "sub_slice": (lambda s: s.sub_slice(57, 51), 57),
    "sub_slice of nothing": (lambda s: s.sub_slice(101, 0), 101),
    "offset": (lambda s: s.offset(103), 103),
    "advance": (lambda s: s.advance(104), 104),
    "load": (lambda s: s.load(u32, 98), 98),
    "store": (lambda s: s.store(u32, 1, 99), 99),
    "load_many": (lambda s: s.load_many(u32, 13, 60), 60),
    "load_many, its bytes": (lambda s: s.load_many(u32, 26), 104),
    "store_many": (lambda s: s.store_many(u32, [1, 2], 96), 96),
    "read_exact": (lambda s: s.read_exact(bytearray(5), 97), 97),
    "write_all": (lambda s: s.write_all(b"12", 99), 99),
    "read_from_fd": (lambda s: s.read_from_fd(0, 105), 105),
    "write_to_fd": (lambda s: s.write_to_fd(1, 106), 106),
}


@pytest.mark.parametrize(("call", "number"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_error_of_a_slice_gives_offset_and_size(
    call: Callable[[VolatileSlice], object], number: int, slice_: VolatileSlice
) -> None:
    with pytest.raises(VolatileOutOfBoundsError) as caught:
        call(slice_)
    assert re.search(rf"(?<!\d){number}\b", str(caught.value)), str(caught.value)
    assert re.search(r"\b100 bytes\b", str(caught.value)), str(caught.value)
    assert "0x" not in str(caught.value)


def test_error_of_a_negative_offset_in_a_slice_does_not_speak_of_the_end(
    slice_: VolatileSlice,
) -> None:
    with pytest.raises(VolatileOutOfBoundsError, match="negative"):
        slice_.load(u8, -4)


@pytest.mark.parametrize("scalar", [u32, f64], ids=repr)
def test_error_of_a_misaligned_number_gives_its_offset(
    scalar: Scalar[Any], mapping: MemoryMapping, slice_: VolatileSlice
) -> None:
    loads: list[Callable[[], object]] = [
        lambda: slice_.load(scalar, 3),
        lambda: slice_.load_many(scalar, 2, 3),
        lambda: slice_.store_many(scalar, [1, 2], 3),
        lambda: mapping.read_obj_volatile(scalar, 3),
    ]
    for load in loads:
        with pytest.raises(VolatileMisalignedError) as caught:
            load()
        assert re.search(rf"\b{scalar.size}\b", str(caught.value))
        assert "offset" in str(caught.value)


OUTSIDE_A_SLICE: dict[str, Callable[[VolatileSlice], object]] = {
    "sub_slice": lambda s: s.sub_slice(57, 51),
    "offset": lambda s: s.offset(103),
    "advance": lambda s: s.advance(104),
    "load": lambda s: s.load(u32, 98),
    "write_to_fd": lambda s: s.write_to_fd(1, 106),
}


@pytest.mark.parametrize("call", OUTSIDE_A_SLICE.values(), ids=OUTSIDE_A_SLICE.keys())
def test_error_of_a_slice_does_not_speak_of_the_region(
    call: Callable[[VolatileSlice], object], slice_: VolatileSlice
) -> None:
    with pytest.raises(VolatileOutOfBoundsError, match="but the slice has 100 bytes") as caught:
        call(slice_)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_error_of_a_slice_that_the_region_does_not_hold_speaks_of_the_region(
    mapping: MemoryMapping,
) -> None:
    with pytest.raises(VolatileOutOfBoundsError, match=f"but the region has {4 * PAGE} bytes"):
        mapping.get_slice(0, 5 * PAGE)


@pytest.mark.parametrize("length", [-1, -(2**64)])
def test_slice_truncated_to_a_negative_length_is_told_so(
    length: int, slice_: VolatileSlice
) -> None:
    with pytest.raises(VolatileOutOfBoundsError, match=f"^the count {length} is negative$"):
        slice_.truncate(length)
    assert slice_.size == 100


# Residency


@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize("kind", ["mapping", "arena"])
def test_residency_that_the_kernel_withholds_is_an_error_that_says_so(
    kind: str, sharing: Sharing, known_file: KnownFile
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    known_file.path.chmod(0o644)
    known_file.path.parent.chmod(0o755)
    program = """
        import sys
        from kernel_view import PAGE, become_unprivileged
        from mmapwrap import MemoryMapping, OperationNotPermittedError, Protection, Sharing

        become_unprivileged()
        region = MemoryMapping.from_file(
            sys.argv[1], prot=Protection.read(), sharing=Sharing[sys.argv[3]]
        )
        if sys.argv[2] == "arena":
            region = region.into_arena()
        for offset, count in ((0, None), (0, 1), (PAGE + 5, PAGE)):
            try:
                print(region.residency(offset, count))
            except OperationNotPermittedError as error:
                print(error.syscall, error)
        print(region.residency(PAGE, 0).total)
    """
    *lines, nothing = child(program, known_file.path, kind, sharing.name).succeeded().splitlines()
    assert nothing == "0"
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("mincore ")
        assert "owner" in line
        assert "write" in line


def test_residency_of_an_own_file_is_told_to_an_ordinary_user(disk_path: Path) -> None:
    disk_path.chmod(0o777)
    program = """
        import sys
        from kernel_view import PAGE, become_unprivileged, known_bytes
        from mmapwrap import MemoryMapping, Protection, Sharing

        become_unprivileged()
        with open(sys.argv[1], "wb") as file:
            file.write(known_bytes(4 * PAGE))
        for sharing in Sharing:
            with MemoryMapping.from_file(sys.argv[1], prot=Protection.read(), sharing=sharing) as m:
                m[:]
                print(m.residency().resident)
    """
    assert child(program, disk_path / "own").succeeded() == "4\n4\n"


# Values


@pytest.mark.parametrize("write", [2**40, None, 0, "", "yes", [], 1.5])
def test_populate_takes_the_truth_of_any_object(write: Any, mapping: MemoryMapping) -> None:
    mapping.populate(write=write)
    assert mapping.residency().resident == 4
    with MemoryMapping.anonymous(PAGE, prot=READ) as readable:
        if write:
            with pytest.raises(TypeError, match="write access is needed"):
                readable.populate(write=write)
        else:
            readable.populate(write=write)


TOO_LARGE = [
    10**400,
    -(10**400),
    Fraction(10**400),
    Fraction(-(10**400), 3),
    2**1024,
    2**1024 - 2**970,
]


@pytest.mark.parametrize("scalar", [f32, f64], ids=repr)
@pytest.mark.parametrize("value", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_number_that_no_float_holds_is_an_error_that_names_the_type(
    value: Any, scalar: Scalar[float], mapping: MemoryMapping
) -> None:
    for write in (mapping.write_obj, mapping.write_obj_volatile):
        with pytest.raises(InvalidArgumentError, match=f"too large for {scalar.name}"):
            write(scalar, value, 0)
    assert mapping.is_all_zero()


@pytest.mark.parametrize("scalar", [f32, f64], ids=repr)
@pytest.mark.parametrize("value", [Decimal("sNaN"), Decimal("-sNaN12")], ids=str)
def test_signaling_nan_is_an_error_that_says_so(
    value: Any, scalar: Scalar[float], mapping: MemoryMapping
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"signaling NaN.*{scalar.name}"):
        mapping.write_obj(scalar, value, 0)
    assert mapping.is_all_zero()


class Metres(float):
    """A float of a program's own."""


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Metres(1.5), 1.5),
        (Fraction(1, 4), 0.25),
        (Decimal("0.125"), 0.125),
        (True, 1.0),
        (3, 3.0),
        (Fraction(10**400, 10**399), 10.0),
        (Decimal("-Infinity"), float("-inf")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("scalar", [f32, f64], ids=repr)
def test_number_of_any_kind_is_written_as_the_float_it_is(
    scalar: Scalar[float], value: Any, stored: float, mapping: MemoryMapping
) -> None:
    mapping.write_obj(scalar, value, 8)
    assert mapping.read_obj(scalar, 8) == stored
    mapping.get_slice(0, 8).store(scalar, value)
    assert mapping.read_obj(scalar, 0) == stored


# Kinds of memory


@pytest.fixture
def private() -> Iterator[MemoryMapping]:
    """Four private pages."""
    with MemoryMapping.anonymous(4 * PAGE, sharing=Sharing.PRIVATE) as m:
        yield m


@needs(Advice.WIPEONFORK)
def test_advice_that_is_for_other_memory_names_itself_and_that_memory(
    mapping: MemoryMapping, private: MemoryMapping
) -> None:
    calls: list[tuple[Callable[[], None], str]] = [
        (lambda: mapping.advise(Advice.WIPEONFORK), "MADV_WIPEONFORK needs private anonymous"),
        (
            lambda: mapping.advise_destructive(DestructiveAdvice.FREE),
            "MADV_FREE needs private anonymous memory",
        ),
        (lambda: private.remove_range(0, PAGE), "MADV_REMOVE needs memory that is shared"),
    ]
    for call, said in calls:
        with pytest.raises(InvalidSystemCallError, match=said):
            call()


def test_removal_from_a_private_mapping_of_a_file_names_the_advice(known_file: KnownFile) -> None:
    with (
        MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as mapping,
        pytest.raises(AccessDeniedError, match="MADV_REMOVE needs memory that is shared"),
    ):
        mapping.remove_range(0, PAGE)


@needs(Advice.POPULATE_READ)
def test_advice_that_fails_in_another_way_is_named(known_file: KnownFile) -> None:
    size = known_file.path.stat().st_size
    with (
        open(known_file.path, "r+b") as file,
        MemoryMapping.from_fd(file, size + 2 * PAGE) as mapping,
        pytest.raises(BadAddressError, match=r"; MADV_POPULATE_READ$"),
    ):
        mapping.advise(Advice.POPULATE_READ)


def test_advice_of_a_newer_kernel_is_said_to_be_unknown(
    mapping: MemoryMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_unknown(_: Advice) -> bool:
        return False

    monkeypatch.setattr(Advice, "is_supported", is_unknown)
    with pytest.raises(InvalidSystemCallError, match="this kernel does not know MADV_WIPEONFORK"):
        mapping.advise(Advice.WIPEONFORK)


@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_locked_pages_that_forbid_a_call_are_said_to_be_locked(mapping: MemoryMapping) -> None:
    mapping.lock(0, PAGE)
    with pytest.raises(RegionBusyError, match="locked: unlock it first"):
        mapping.msync(invalidate=True)
    with pytest.raises(InvalidSystemCallError, match="locked: unlock it first"):
        mapping.remove_range(0, 2 * PAGE)
    mapping.msync(PAGE, PAGE, invalidate=True)


def open_for_reading(path: Path) -> MemoryMapping:
    with open(path, "rb") as file:
        return MemoryMapping.from_file(file)


def sealed_against_writing(path: Path) -> MemoryMapping:
    with SharedMemory.new("sealed", 4 * PAGE) as memory:
        memory.add_seals(MemfdSeals.FUTURE_WRITE)
        return memory.map(prot=READ)


@pytest.mark.parametrize("count", [None, PAGE])
@pytest.mark.parametrize("make", [open_for_reading, sealed_against_writing])
def test_write_access_that_a_file_does_not_give_is_explained(
    make: Callable[[Path], MemoryMapping], count: int | None, known_file: KnownFile
) -> None:
    said = "open for reading only, or is sealed against writing"
    with make(known_file.path) as mapping:
        with pytest.raises(AccessDeniedError, match=said):
            mapping.protect(RW, 0, count)
        with mapping.into_arena() as arena, pytest.raises(AccessDeniedError, match=said):
            arena.protect(RW, 0, count)


def test_populating_without_access_gives_the_range(known_file: KnownFile) -> None:
    with pytest.raises(ProtectionError, match=rf"no access \({PAGE} bytes at offset 0\)"):
        MemoryMapping.anonymous(PAGE, prot=Protection.none(), populate=True)
    with pytest.raises(ProtectionError, match=r"no access$"):  # the size is not known yet
        MemoryMapping.from_file(known_file.path, prot=Protection.none(), populate=True)


def test_evict_of_what_is_no_file_says_so(mapping: MemoryMapping) -> None:
    with pytest.raises(UnsupportedOperationError) as caught:
        mapping.evict()
    assert str(caught.value) == (
        "evict is not supported here: some of the range is no shared mapping of a file"
    )


def test_evict_of_a_file_that_is_gone_names_it(disk_path: Path) -> None:
    disk_path.chmod(0o777)
    program = """
        import os, sys
        from kernel_view import become_unprivileged
        from mmapwrap import MemoryMapping, UnsupportedOperationError

        become_unprivileged()
        with open(sys.argv[1], "w+b") as file:
            file.truncate(4096)
            with MemoryMapping.from_file(file) as mapping:
                os.unlink(sys.argv[1])
                try:
                    mapping.evict()
                except UnsupportedOperationError as error:
                    print(error.hint)
    """
    path = disk_path / "gone"
    said = f"the file '{path} (deleted)' cannot be opened again\n"
    assert child(program, path).succeeded() == said


# Transfers


def transfer_past(call: str, mapping: MemoryMapping, fd: int, **arguments: Any) -> str:
    """What the error of a transfer says after the errno."""
    kind = ReadToMemoryError if call == "read_from_fd" else WriteFromMemoryError
    with pytest.raises(kind) as caught:
        getattr(mapping.get_slice(0, 8), call)(fd, **arguments)
    return str(caught.value.hint)


@pytest.mark.parametrize(
    ("call", "mode", "said"),
    [
        ("read_from_fd", os.O_WRONLY, "is open for writing only: reading is needed"),
        ("write_to_fd", os.O_RDONLY, "is open for reading only: writing is needed"),
        ("read_from_fd", os.O_PATH, "was opened with O_PATH, which allows no access"),
        ("write_to_fd", os.O_PATH, "was opened with O_PATH, which allows no access"),
    ],
)
def test_transfer_with_a_descriptor_opened_in_a_wrong_mode_names_it(
    call: str, mode: int, said: str, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    fd = os.open(known_file.path, mode)
    try:
        for file_offset in (None, 3):
            hint = transfer_past(call, mapping, fd, file_offset=file_offset)
            assert hint == f"descriptor {fd} {said}"
    finally:
        os.close(fd)


@pytest.mark.parametrize("call", ["read_from_fd", "write_to_fd"])
def test_transfer_with_a_descriptor_that_is_not_open_names_it(
    call: str, mapping: MemoryMapping
) -> None:
    assert transfer_past(call, mapping, 999) == "descriptor 999 is not open"


@pytest.mark.parametrize(("call", "end"), [("read_from_fd", 0), ("write_to_fd", 1)])
def test_transfer_at_an_offset_of_a_pipe_says_that_it_has_none(
    call: str, end: int, mapping: MemoryMapping, disk_path: Path
) -> None:
    with end_of_a_pipe(disk_path, end) as fd:
        hint = transfer_past(call, mapping, fd, file_offset=3)
    assert hint == f"descriptor {fd} has no positions: leave file_offset out"


def test_transfer_from_a_directory_names_the_descriptor(
    mapping: MemoryMapping, disk_path: Path
) -> None:
    with directory(disk_path) as fd:
        assert transfer_past("read_from_fd", mapping, fd) == f"descriptor {fd} is of a directory"


# Shared memory


def test_seals_of_what_is_no_memfd_are_said_to_be_none(known_file: KnownFile) -> None:
    with open(known_file.path, "r+b") as file, SharedMemory.from_file(file) as memory:
        for call in (memory.get_seals, lambda: memory.add_seals(MemfdSeals.WRITE)):
            with pytest.raises(InvalidSystemCallError, match="this is no memfd"):
                call()


@pytest.mark.parametrize("bit", [30, 31, 40, 64])
def test_seal_that_the_kernel_does_not_know_is_named(bit: int) -> None:
    with (
        SharedMemory.new("sealed", PAGE) as memory,
        pytest.raises(InvalidSystemCallError, match=f"does not know .* {1 << bit:#x}"),
    ):
        memory.add_seals(MemfdSeals(1 << bit))


def test_seal_against_writing_is_told_of_the_mapping_in_its_way() -> None:
    with (
        SharedMemory.new("sealed", PAGE) as memory,
        memory.map(),
        pytest.raises(RegionBusyError, match="a writable mapping of the memory exists"),
    ):
        memory.add_seals(MemfdSeals.WRITE)


def test_seal_that_is_not_permitted_says_why() -> None:
    with SharedMemory.new("sealed", PAGE) as memory:
        with (
            open(f"/proc/self/fd/{memory.fileno()}", "rb") as file,
            SharedMemory.from_file(file) as read_only,
            pytest.raises(OperationNotPermittedError, match=r"\d is open for reading only"),
        ):
            read_only.add_seals(MemfdSeals.WRITE)
        memory.add_seals(MemfdSeals.SEAL)
        with pytest.raises(OperationNotPermittedError, match="seal against more seals"):
            memory.add_seals(MemfdSeals.WRITE)


def test_memory_that_is_not_there_says_how_much_is() -> None:
    with pytest.raises(NoSpaceError, match=rf"{1 << 60} bytes are wanted, and \d+ are available"):
        SharedMemory.new("large", 1 << 60, allocate=True)


def create_past_the_limit_of_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, resource.RLIM_INFINITY))
    try:
        SharedMemory.new("large", 2 * PAGE)
    except SystemCallError as error:
        say(error)


def test_memory_past_the_limit_of_files_says_its_size() -> None:
    said = in_process(create_past_the_limit_of_files).succeeded()
    assert said.endswith(f"ftruncate: {os.strerror(errno.EFBIG)}; {2 * PAGE} bytes\n")


@pytest.mark.parametrize("size", [-1, 2**63, 2**64])
def test_size_that_no_shared_memory_has_is_told_the_largest(size: int) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"{size} is not between 0 and 2\*\*63 - 1"):
        SharedMemory.new("sized", size)


@pytest.mark.not_sanitized(MEMORY_IS_REPORTED)
def test_copy_that_no_memory_holds_says_its_size() -> None:
    size = 1 << 46  # more than the addresses that are left
    with MemoryMapping.anonymous(size) as mapping:
        with pytest.raises(OutOfMemoryError, match=f"malloc: .*; {size} bytes"):
            bytes(mapping)
        with pytest.raises(OutOfMemoryError, match=f"malloc: .*; {size // 2} bytes"):
            mapping[::2]


# Pickles of shared memory


# The file of a program, for `spawn` imports the main module again.
LOAD_TWICE = """
import sys
from multiprocessing import get_context
from multiprocessing.reduction import ForkingPickler
from mmapwrap import MmapError, SharedMemory


def load(data):
    try:
        with ForkingPickler.loads(data) as memory:
            return f"{memory.size}"
    except MmapError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"not the library's: {error!r}"


def load_in_child(data, results):
    results.put(load(data))
    results.put(load(data))


def in_one_process(memory, context):
    data = bytes(ForkingPickler.dumps(memory))
    for _ in range(3):
        print(load(data))


def in_a_child(memory, context):
    data = bytes(ForkingPickler.dumps(memory))
    results = context.SimpleQueue()
    process = context.Process(target=load_in_child, args=(data, results))
    process.start()
    print(results.get())
    print(results.get())
    process.join()


if __name__ == "__main__":
    with SharedMemory.new("twice", 4096) as memory:
        globals()[sys.argv[2]](memory, get_context(sys.argv[1]))
        anew = bytes(ForkingPickler.dumps(memory))
        print(load(anew))
"""


@pytest.mark.parametrize("where", ["in_one_process", "in_a_child"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pickle_of_shared_memory_loaded_twice_is_an_error_and_no_noise(
    method: str, where: str, disk_path: Path
) -> None:
    program = disk_path / "program.py"
    program.write_text(LOAD_TWICE)
    # The child is a process that starts the program as its main module.
    start = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    ended = child(start, program, method, where)
    first, *again, anew = ended.succeeded().splitlines()
    assert first == anew == "4096"
    assert again
    for line in again:
        assert line.startswith("InvalidArgumentError: ")
        assert "pickle" in line
    assert ended.errors == ""
