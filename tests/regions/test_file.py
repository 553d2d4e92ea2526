"""`open()`: a region as a file, against `io.BytesIO`, for real clients, and where it refuses."""

import bz2
import copy
import csv
import errno
import gc
import gzip
import io
import lzma
import os
import pickle
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from files import memory_file
from forks import forked
from hypothesis import given, settings, strategies as st
from kernel_view import PAGE, Index, KnownFile, in_process, is_mapped, known_bytes
from marks import MEMORY_IS_REPORTED
from meanwhile import joined_at
from protections import NONE, READ, RW

from mmapwrap import (
    ClosedMappingError,
    InvalidArgumentError,
    InvalidRangeError,
    InvalidSystemCallError,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    NoSpaceError,
    OutOfMemoryError,
    ProtectionError,
    RegionIO,
    Sharing,
)
from mmapwrap._core import calls

SIZE = 3 * PAGE + 100


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Three pages and a bit of known bytes."""
    with MemoryMapping.anonymous(SIZE) as m:
        m.write_slice(known_bytes(SIZE), 0)
        yield m


def holding(content: bytes) -> MemoryMapping:
    """Memory with this content."""
    m = MemoryMapping.anonymous(len(content))
    m.write_slice(content, 0)
    return m


# --- As other files ---------------------------------------------------------------------------


def test_types_of_files_are_those_of_io(mapping: MemoryMapping) -> None:
    assert type(mapping.open()) is io.BufferedReader
    assert type(mapping.open("r+b")) is io.BufferedRandom
    assert type(mapping.open("rb+")) is io.BufferedRandom
    assert type(mapping.open(buffering=0)) is RegionIO
    assert type(mapping.open("r+b", buffering=0)) is RegionIO
    assert type(mapping.open(buffering=Index(100))) is io.BufferedReader


@pytest.mark.parametrize(("mode", "named"), [("rb", "rb"), ("r+b", "rb+"), ("rb+", "rb+")])
def test_file_says_what_it_can(mapping: MemoryMapping, mode: str, named: str) -> None:
    opened: Any = mapping.open
    for buffering in (0, -1):
        with opened(mode, buffering=buffering) as file:
            assert (file.readable(), file.seekable()) == (True, True)
            assert file.writable() == (named != "rb")
            assert file.mode == named
            assert not file.isatty()
            with pytest.raises(io.UnsupportedOperation):
                file.fileno()
            with pytest.raises(io.UnsupportedOperation):
                file.truncate(1)
    raw = opened(mode, buffering=0)
    assert repr(raw) == f"<RegionIO of {SIZE} bytes, mode {named!r}>"
    raw.close()
    assert repr(raw) == "<RegionIO, closed>"


SMALL = 300
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["read", "readline"]), st.integers(-1, SMALL + 10)),
    st.tuples(st.just("readinto"), st.integers(0, SMALL + 10)),
    st.tuples(st.just("write"), st.binary(max_size=40)),
    st.tuples(st.just("set"), st.integers(0, SMALL)),
    st.tuples(st.just("skip"), st.integers(-20, 20)),
    st.tuples(st.just("end"), st.integers(-SMALL, 0)),
)


def run(file: Any, operation: str, argument: Any, room: int) -> object:
    """Do one thing with a file of SMALL bytes, and return what came."""
    match operation:
        case "readinto":
            buffer = bytearray(argument)
            return file.readinto(buffer), bytes(buffer)
        case "write":
            return file.write(argument[:room])
        case "set":
            return file.seek(argument)
        case "skip":
            return file.seek(max(argument, -file.tell()), os.SEEK_CUR)
        case "end":
            return file.seek(argument, os.SEEK_END)
        case _:
            return getattr(file, operation)(argument)


@settings(deadline=None)
@given(
    operations=st.lists(OPERATIONS, max_size=30),
    buffering=st.sampled_from([-1, 0, 1, 7]),
    start=st.sampled_from([0, 1, PAGE - 150]),
    by_range=st.booleans(),
)
def test_file_does_what_bytesio_does(
    operations: list[tuple[str, Any]], buffering: int, start: int, by_range: bool
) -> None:
    content = (known_bytes(SMALL // 2) + b"\n" * 4) * 2
    content = content[:SMALL]
    with MemoryMapping.anonymous(3 * PAGE) as m:
        m.write_slice(content, start)
        if by_range:
            m.protect(READ, 2 * PAGE)
        with (
            m.open("r+b", offset=start, count=SMALL, buffering=buffering) as ours,
            io.BytesIO(content) as theirs,
        ):
            for operation, argument in operations:
                room = max(SMALL - theirs.tell(), 0)
                wanted = run(theirs, operation, argument, room)
                assert run(ours, operation, argument, room) == wanted
                assert ours.tell() == theirs.tell()
            ours.flush()
            assert m[start : start + SMALL] == theirs.getvalue()
        assert m[:start].count(0) == start
        assert m[start + SMALL : 2 * PAGE].count(0) == 2 * PAGE - start - SMALL


def test_lines_are_those_of_the_content() -> None:
    content = b"first\nsecond\n\nlast without end"
    with holding(content).open() as file:
        assert list(file) == content.splitlines(keepends=True)
    with holding(content).open(buffering=0) as raw:
        assert raw.readlines() == content.splitlines(keepends=True)


def test_range_of_a_region_is_a_file_of_its_own(mapping: MemoryMapping) -> None:
    content = known_bytes(SIZE)
    with mapping.open(offset=Index(10), count=Index(20)) as file:
        assert file.read() == content[10:30]
        assert file.seek(-1, os.SEEK_END) == 19
    with mapping.open(offset=SIZE - 3) as file:
        assert file.read() == content[-3:]
    with mapping.open(offset=SIZE) as file:
        assert file.read() == b""
    with mapping.open(count=0) as file:
        assert file.read() == b""


def test_long_reads_and_writes_are_whole() -> None:
    size = 3 << 20
    with MemoryMapping.anonymous(size) as m:
        content = np.random.default_rng(1).bytes(size)
        with m.open("r+b") as file:
            assert file.write(content) == size
        with m.open() as file:
            assert file.read() == content
        with m.open(buffering=0) as raw:
            assert raw.readall() == content
            assert raw.read() == raw.readall() == raw.read(5) == b""


def test_position_past_the_end_reads_nothing(mapping: MemoryMapping) -> None:
    with mapping.open("r+b", buffering=0) as file:
        assert file.seek(SIZE + 10) == SIZE + 10
        assert file.read() == file.read(3) == b""
        assert file.readinto(bytearray(3)) == 0
        assert file.seek(-11, os.SEEK_CUR) == SIZE - 1
        assert file.read(5) == known_bytes(SIZE)[-1:]
        assert file.seek(2**63 - 1) == 2**63 - 1
        assert file.read(2**70) == b""


# --- Writing ------------------------------------------------------------------------------------


def test_write_that_reaches_the_end_writes_what_fits(mapping: MemoryMapping) -> None:
    with mapping.open("r+b", buffering=0) as file:
        file.seek(-2, os.SEEK_END)
        assert file.write(b"abc") == 2
        assert mapping[-3:] == known_bytes(SIZE)[-3:-2] + b"ab"
        assert file.write(b"") == 0
        with pytest.raises(NoSpaceError, match=rf"write: .*; the file ends at {SIZE}$") as caught:
            file.write(b"c")
        assert caught.value.errno == 28
        assert file.tell() == SIZE
        file.seek(5, os.SEEK_END)
        assert file.write(b"") == 0
        with pytest.raises(NoSpaceError):
            file.write(b"c")


def test_buffered_write_past_the_end_is_an_error_when_it_is_flushed(
    mapping: MemoryMapping,
) -> None:
    file = mapping.open("r+b")
    file.seek(SIZE - 2)
    assert file.write(b"abc") == 3
    with pytest.raises(NoSpaceError):
        file.flush()
    assert mapping[-2:] == b"ab"
    with pytest.raises(NoSpaceError):
        file.close()
    assert file.closed
    with pytest.raises(NoSpaceError), mapping.open("r+b") as other:
        other.write(bytes(SIZE + 1))
    assert mapping.is_all_zero()


def test_write_to_a_file_for_reading_is_unsupported(mapping: MemoryMapping) -> None:
    with mapping.open() as file, pytest.raises(io.UnsupportedOperation):
        file.write(b"x")
    with (
        mapping.open(buffering=0) as raw,
        pytest.raises(io.UnsupportedOperation, match=r"use mode 'r\+b'$"),
    ):
        raw.write(b"x")


def test_what_is_written_reaches_the_file(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, prot=RW) as m, m.open("r+b") as file:
        file.seek(PAGE)
        file.write(b"new")
    assert known_file.path.read_bytes()[PAGE - 1 : PAGE + 4] == (
        known_file.content[PAGE - 1 : PAGE] + b"new" + known_file.content[PAGE + 3 : PAGE + 4]
    )


# --- Clients --------------------------------------------------------------------------------------


def zip_of(content: bytes) -> bytes:
    """A zip archive that holds the content."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("content", content)
    return target.getvalue()


def tar_of(content: bytes) -> bytes:
    """A tar archive that holds the content."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        member = tarfile.TarInfo("content")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def npy_of(content: bytes) -> bytes:
    """A file of NumPy's that holds the content as an array."""
    target = io.BytesIO()
    np.save(target, np.frombuffer(content, np.uint8))
    return target.getvalue()


def from_zip(file: Any) -> bytes:
    """The content of a zip archive."""
    return zipfile.ZipFile(file).read("content")


def from_tar(file: Any) -> bytes:
    """The content of a tar archive."""
    member = tarfile.open(fileobj=file).extractfile("content")  # noqa: SIM115
    assert member is not None
    return member.read()


CLIENTS: dict[str, tuple[Callable[[bytes], bytes], Callable[[Any], bytes]]] = {
    "zipfile": (zip_of, from_zip),
    "tarfile": (tar_of, from_tar),
    "gzip": (gzip.compress, lambda file: gzip.GzipFile(fileobj=file).read()),
    "bz2": (bz2.compress, lambda file: bz2.BZ2File(file).read()),
    "lzma": (lzma.compress, lambda file: lzma.LZMAFile(file).read()),  # noqa: SIM115
    "pickle": (pickle.dumps, pickle.load),
    "numpy": (npy_of, lambda file: np.load(file).tobytes()),
    "text": (
        lambda content: content.hex("\n").encode(),
        lambda file: bytes.fromhex("".join(line.strip() for line in io.TextIOWrapper(file))),
    ),
    "csv": (
        lambda content: content.hex(",").encode(),
        lambda file: bytes.fromhex("".join(next(csv.reader(io.TextIOWrapper(file))))),
    ),
}
CONTENT = np.random.default_rng(7).bytes(40_000)  # nothing makes it smaller


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("buffering", [-1, 0])
def test_client_reads_a_region_as_a_file(client: str, buffering: int) -> None:
    make, load = CLIENTS[client]
    if client in {"text", "csv"} and buffering == 0:
        pytest.skip("a TextIOWrapper takes no raw file")
    with holding(make(CONTENT)) as m:
        assert load(m.open(buffering=buffering)) == CONTENT


@pytest.mark.parametrize("client", CLIENTS)
def test_client_of_a_truncated_file_gets_an_error(client: str, disk_path: Path) -> None:
    make, load = CLIENTS[client]
    path = disk_path / "content"
    path.write_bytes(make(CONTENT))
    with MemoryMapping.from_file(path) as m:
        for length in (PAGE, 0):
            os.truncate(path, length)
            with pytest.raises((MappingFaultError, zipfile.BadZipFile)) as caught:
                load(m.open())
            # zipfile makes its own error of every OSError while it looks for the archive's end.
            error = caught.value if client != "zipfile" else caught.value.__context__
            assert isinstance(error, MappingFaultError)
            assert f"the file has {length} bytes now" in str(error)


def keep_faults_in_garbage() -> None:
    """Collect errors of a buffered file, whose own buffer their frames know, in cycles."""

    class Keeper:
        error: object

    def fail(keeper: Keeper, m: MemoryMapping) -> None:
        try:
            m.open().read(10)
        except MappingFaultError as error:
            keeper.error = error

    fd = memory_file(bytes(PAGE))
    with MemoryMapping.from_fd(fd, PAGE) as m:
        os.truncate(fd, 0)
        for _ in range(100):
            fail(Keeper(), m)
        gc.collect()


def test_error_in_a_garbage_cycle_with_its_file_is_survived() -> None:
    in_process(keep_faults_in_garbage).succeeded_silently()


def test_zip_archive_is_made_in_a_region() -> None:
    with MemoryMapping.anonymous(1 << 20) as m:
        with m.open("r+b") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("content", CONTENT)
            length = file.tell()
        with m.open(count=length) as file:
            assert from_zip(file) == CONTENT


# --- Where pages are missing, forbidden or gone ---------------------------------------------------


@pytest.mark.parametrize("buffering", [-1, 0, 100])
def test_read_ends_where_the_file_was_cut(buffering: int, disk_path: Path) -> None:
    path = disk_path / "cut"
    path.write_bytes(known_bytes(5 * PAGE))
    with MemoryMapping.from_file(path) as m, m.open(buffering=buffering) as file:
        os.truncate(path, 2 * PAGE)
        found = bytearray()

        def read_on() -> None:
            while True:
                found.extend(file.read(1000))

        with pytest.raises(MappingFaultError) as caught:
            read_on()
        assert caught.value.offset == 2 * PAGE
        assert known_bytes(2 * PAGE).startswith(found)
        assert len(found) > 2 * PAGE - 1000
        file.seek(0)
        with pytest.raises(MappingFaultError):
            file.read()


def test_missing_pages_leave_the_position_and_come_back(disk_path: Path) -> None:
    path = disk_path / "file"
    path.write_bytes(known_bytes(4 * PAGE))
    with MemoryMapping.from_file(path, prot=RW) as m, m.open("r+b", buffering=0) as file:
        os.truncate(path, PAGE)
        file.seek(PAGE // 2)
        for access in (lambda: file.write(bytes(PAGE)), file.readall):
            with pytest.raises(MappingFaultError, match=rf"at offset {PAGE} ") as caught:
                access()
            assert caught.value.offset == PAGE
            assert file.tell() == PAGE // 2
        assert file.read(PAGE) == m[PAGE // 2 : PAGE]  # what comes before
        for access in (lambda: file.read(PAGE), lambda: file.readinto(bytearray(PAGE))):
            with pytest.raises(MappingFaultError, match=rf"at offset {PAGE} ") as caught:
                access()
            assert file.tell() == PAGE
        os.truncate(path, 4 * PAGE)
        file.seek(PAGE)
        assert file.read(2 * PAGE) == bytes(2 * PAGE)


def test_file_needs_the_access_of_its_mode(mapping: MemoryMapping) -> None:
    mapping.protect(READ)
    mapping.open().close()
    with pytest.raises(ProtectionError):
        mapping.open("r+b")
    mapping.protect(RW)
    mapping.protect(NONE, PAGE, PAGE)
    mapping.open("r+b", count=PAGE).close()
    for open_it in (partial(mapping.open, "rb"), partial(mapping.open, "r+b")):
        with pytest.raises(ProtectionError):
            open_it(offset=PAGE - 1, count=2)


@pytest.mark.parametrize("count", [None, PAGE])
def test_access_that_was_taken_away_is_refused(mapping: MemoryMapping, count: int | None) -> None:
    with mapping.open("r+b", buffering=0) as file:
        mapping.protect(READ, 0, count)
        assert file.read(3) == known_bytes(3)
        with pytest.raises(ProtectionError):
            file.write(b"x")
        assert file.tell() == 3
        mapping.protect(NONE, 0, count)
        with pytest.raises(ProtectionError) as caught:
            file.read(2)
        assert caught.value.range == (3, 2)
        assert file.tell() == 3
        if count is not None:
            file.seek(PAGE)
            assert file.read(1) == known_bytes(PAGE + 1)[-1:]
            assert file.write(b"x") == 1


def test_hole_of_an_arena_is_refused_and_its_rest_is_read() -> None:
    with MemoryMappingArena.new(3 * PAGE) as arena:
        arena.add_anon(0, PAGE)
        with pytest.raises(ProtectionError):
            arena.open()
        with arena.open("r+b", count=PAGE, buffering=0) as file:
            assert file.write(known_bytes(PAGE)) == PAGE
            file.seek(0)
            assert file.readall() == known_bytes(PAGE)
            arena.remove(0, PAGE)
            file.seek(0)
            with pytest.raises(ProtectionError):
                file.read(1)


def test_file_keeps_the_pages_until_it_is_closed(mapping: MemoryMapping) -> None:
    address = mapping.as_ptr()
    for buffering in (-1, 0):
        with MemoryMapping.anonymous(SIZE) as m:
            address = m.as_ptr()
            file = m.open("r+b", buffering=buffering)
        assert is_mapped(address, SIZE)
        assert file.read(2) == bytes(2)
        file.close()
        assert not is_mapped(address, SIZE)


def test_file_that_nobody_holds_lets_go_of_the_pages() -> None:
    m = MemoryMapping.anonymous(PAGE)
    address = m.as_ptr()
    file = m.open("r+b")
    m.close()
    assert is_mapped(address)
    file.write(b"lost")
    del file, m
    assert not is_mapped(address)


def test_open_of_a_closed_region_is_refused(mapping: MemoryMapping) -> None:
    mapping.close()
    with pytest.raises(ClosedMappingError):
        mapping.open()


def test_closed_file_says_so(mapping: MemoryMapping) -> None:
    file = mapping.open("r+b", buffering=0)
    file.close()
    file.close()
    assert file.closed
    for call in (
        file.read,
        file.readall,
        file.tell,
        file.readable,
        file.writable,
        file.seekable,
        file.__enter__,
        lambda: file.seek(0),
        lambda: file.write(b"x"),
        lambda: file.readinto(bytearray(1)),
        lambda: next(file),
    ):
        with pytest.raises(ValueError, match="closed file"):
            call()


def test_child_without_the_pages_is_told(mapping: MemoryMapping) -> None:
    mapping.use_dontfork()
    file = mapping.open("r+b", buffering=0)

    def ask() -> None:
        for call in (
            lambda: file.read(1),
            lambda: file.write(b"x"),
            lambda: file.readinto(bytearray(1)),
            lambda: file.seek(0),
            file.tell,
        ):
            with pytest.raises(ClosedMappingError):
                call()

    assert forked(ask) == 0
    assert file.read(2) == known_bytes(2)


# --- Threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_range", [False, True])
def test_threads_that_share_a_file_read_each_byte_once(by_range: bool) -> None:
    number, pieces = 4, 8_000
    with MemoryMapping.anonymous(4 * pieces + PAGE) as m:
        m.write_slice(np.arange(pieces, dtype="<u4"), 0)
        if by_range:
            m.protect(READ, 2 * PAGE, PAGE)
        file = m.open(count=4 * pieces, buffering=0)
        read: list[list[bytes]] = [[] for _ in range(number)]
        begin = threading.Barrier(number)

        def take(mine: list[bytes]) -> None:
            begin.wait()
            while piece := file.read(4):
                mine.append(piece)

        threads = [threading.Thread(target=take, args=(mine,)) for mine in read]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for mine in read:
            assert mine == sorted(mine, key=lambda piece: int.from_bytes(piece, "little"))
        everything = {int.from_bytes(piece, "little") for mine in read for piece in mine}
        assert everything == set(range(pieces))
        assert sum(map(len, read)) == pieces


def test_seek_in_the_middle_of_a_read_at_the_cut_reads_no_more_than_was_asked_for(
    disk_path: Path,
) -> None:
    path = disk_path / "file"
    path.write_bytes(known_bytes(4 * PAGE))
    with MemoryMapping.from_file(path) as m, m.open(buffering=0) as file:
        os.truncate(path, 3 * PAGE)

        def seek_when_it_fails(frame: FrameType, event: str, argument: object) -> Any:
            if event == "exception" and frame.f_code.co_name == "_read_some":
                file.seek(0)  # what another thread may do
            return seek_when_it_fails

        file.seek(3 * PAGE - 5)
        before = sys.gettrace()
        sys.settrace(seek_when_it_fails)
        try:
            found = file.read(10)
        finally:
            sys.settrace(before)
        assert (found, file.tell()) == (known_bytes(10), 10)


def test_line_of_a_region_that_shrinks_meanwhile_ends_where_it_ends() -> None:
    shrunk: list[list[bytes]] = []
    for moment in count():  # pragma: no branch
        m = MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE)
        file = m.open(buffering=0)
        lines: list[bytes] = []
        read = partial(lines.extend, file)
        if not joined_at(moment, read, partial(m.resize, PAGE)):
            break
        shrunk.append(lines[:1])
        m.close()
    assert [bytes(PAGE)] in shrunk
    assert [bytes(2 * PAGE)] in shrunk


# --- Wrong uses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "w", "wb", "ab", "xb", "w+b", "rt", "", "br", "rb\0", "U"])
def test_mode_that_is_none_is_refused(mapping: MemoryMapping, mode: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^mode must be 'rb' or 'r\+b', not "):
        mapping.open(mode)


@pytest.mark.parametrize("buffering", [-2, -(2**70), 2**63, 2**70])
def test_buffering_that_is_none_is_refused(mapping: MemoryMapping, buffering: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^buffering must be -1, 0 or a size, not "):
        mapping.open(buffering=buffering)


@pytest.mark.not_sanitized(MEMORY_IS_REPORTED)
def test_buffer_that_no_memory_holds_is_out_of_memory(mapping: MemoryMapping) -> None:
    with pytest.raises(OutOfMemoryError, match=rf"malloc: Cannot allocate memory; {2**62} bytes"):
        mapping.open(buffering=2**62)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": 3}, "mode must be a str, not int"),
        ({"mode": None}, "mode must be a str, not NoneType"),
        ({"mode": b"rb"}, "mode must be a str, not bytes"),
        ({"offset": "0"}, "offset must be an int, not str"),
        ({"offset": None}, "offset must be an int, not NoneType"),
        ({"count": 1.5}, "count must be an int, not float"),
        ({"buffering": None}, "buffering must be an int, not NoneType"),
        ({"buffering": 8.0}, "buffering must be an int, not float"),
    ],
)
def test_wrong_type_is_named(
    mapping: MemoryMapping, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        mapping.open(**arguments)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(-1, 1), (0, -1), (0, SIZE + 1), (SIZE + 1, None), (2**64, None), (1, 2**70)],
)
def test_range_outside_the_region_is_refused(
    mapping: MemoryMapping, offset: int, count: int | None
) -> None:
    with pytest.raises(InvalidRangeError):
        mapping.open(offset=offset, count=count)


def test_readline_of_a_region_that_becomes_shorter_meanwhile_ends_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find, searches = calls.find, 0
    region = MemoryMapping.anonymous(2 * PAGE, capacity=4 * PAGE)

    def shrink_and_find(*arguments: Any) -> int:
        nonlocal searches
        searches += 1
        region.resize(PAGE)
        return find(*arguments)

    monkeypatch.setattr(calls, "find", shrink_and_find)
    assert len(region.open(buffering=0).readline()) == PAGE
    assert searches == 2


def test_file_too_short_for_an_archive_is_none() -> None:
    with MemoryMapping.new(4) as short:
        for buffering in (-1, 0):
            assert not zipfile.is_zipfile(short.open(buffering=buffering))
            with pytest.raises(zipfile.BadZipFile):
                zipfile.ZipFile(short.open(buffering=buffering))


def test_position_that_no_file_has_is_refused(mapping: MemoryMapping) -> None:
    with mapping.open("r+b", buffering=0) as file:
        wrong: Any = file
        file.seek(7)
        for offset, whence in [(-1, 0), (-8, 1), (-SIZE - 1, 2), (2**63, 0), (2**63 - 7, 1)]:
            with pytest.raises(InvalidSystemCallError, match="is not between 0 and 2") as caught:
                file.seek(offset, whence)
            assert (caught.value.errno, caught.value.syscall) == (errno.EINVAL, "lseek")
        with pytest.raises(InvalidArgumentError, match=r"^whence must be 0, 1 or 2, not 3$"):
            file.seek(0, 3)
        with pytest.raises(TypeError, match=r"^offset must be an int, not float$"):
            wrong.seek(1.0)
        with pytest.raises(TypeError, match=r"^size must be an int, not str$"):
            wrong.read("1")
        with pytest.raises(TypeError, match=r"^buffer must be a writable"):
            wrong.readinto(b"123")
        with pytest.raises(TypeError, match="bytes are needed, not str"):
            wrong.write("text")
        assert file.tell() == 7


def test_file_is_made_by_open_alone(mapping: MemoryMapping) -> None:
    with pytest.raises(TypeError, match=r"^use open\(\) of a region$"):
        RegionIO()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with mapping.open(buffering=0) as file:
        for refused in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                refused(file)


def test_close_inside_an_argument_ends_the_call(mapping: MemoryMapping) -> None:
    class Closing:
        def __index__(self) -> int:
            mapping.close()
            return 0

    with pytest.raises(ClosedMappingError):
        mapping.open(offset=Closing())


def test_close_of_the_file_inside_an_argument_ends_the_call(mapping: MemoryMapping) -> None:
    file = mapping.open(buffering=0)

    class Closing:
        def __index__(self) -> int:
            file.close()
            return 1

    with pytest.raises(ValueError, match="closed file"):
        file.read(Closing())
    with suppress(ValueError):
        file.seek(Closing())
