"""`read_from_fd` and `write_to_fd`: files, pipes, sockets, signals, and what goes wrong."""

import errno
import io
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kernel_view import (
    MIB,
    PAGE,
    Index,
    KnownFile,
    child,
    known_bytes,
    open_descriptors,
    process_unchanged,
)
from protections import READ

from mmapwrap import (
    BadDescriptorError,
    InvalidOffsetError,
    MappingFaultError,
    MemoryMapping,
    MemoryMappingArena,
    Protection,
    ProtectionError,
    ReadToMemoryError,
    VolatileOutOfBoundsError,
    WriteFromMemoryError,
)


@pytest.fixture
def mapping() -> Iterator[MemoryMapping]:
    """Four pages of zeros."""
    with MemoryMapping.new(4 * PAGE) as m:
        yield m


@contextmanager
def pipe(*, blocking: bool = True) -> Generator[tuple[int, int]]:
    """A pipe: the end to read, the end to write."""
    ends = os.pipe2(0 if blocking else os.O_NONBLOCK)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


class Beside:
    """A thread that does something while the test does something else."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._error: BaseException | None = None
        self._thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self._error = error

    def finished(self) -> None:
        """Wait for the work; its error fails the test."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def read_all(fd: int, count: int, pause: float = 0) -> bytes:
    """Read as many bytes from a pipe as there will be."""
    found = bytearray()
    while len(found) < count and (piece := os.read(fd, min(count - len(found), 100_000))):
        found += piece
        time.sleep(pause)
    return bytes(found)


def write_all(fd: int, data: bytes, pause: float = 0) -> None:
    """Write bytes to a pipe, piece by piece."""
    while data:
        data = data[os.write(fd, data[:100_000]) :]
        time.sleep(pause)


# Regular files


def test_read_at_the_position_moves_it(mapping: MemoryMapping, known_file: KnownFile) -> None:
    part = mapping.get_slice(10, 3000)
    with known_file.path.open("rb", buffering=0) as file:
        file.seek(5)
        assert part.read_from_fd(file) == 3000
        assert file.tell() == 3005
        assert mapping[:] == bytes(10) + known_file.content[5:3005] + bytes(4 * PAGE - 3010)
        assert part.read_from_fd(file.fileno(), 7) == 7
        assert file.tell() == 3012
        assert mapping[10:17] == known_file.content[3005:3012]
        assert mapping[17:3010] == known_file.content[12:3005]


def test_read_at_an_offset_moves_no_position(mapping: MemoryMapping, known_file: KnownFile) -> None:
    part = mapping.get_slice(10, 3000)
    with known_file.path.open("rb", buffering=0) as file:
        file.seek(5)
        assert part.read_from_fd(file, file_offset=PAGE + 1) == 3000
        assert mapping[10:3010] == known_file.content[PAGE + 1 :][:3000]
        assert part.read_from_fd(file, Index(4), Index(0)) == 4
        assert mapping[10:14] == known_file.content[:4]
        assert file.tell() == 5


def test_write_at_the_position_moves_it(mapping: MemoryMapping, known_file: KnownFile) -> None:
    mapping.write_slice(b"abcdefgh", 10)
    part = mapping.get_slice(10, 8)
    with known_file.path.open("r+b", buffering=0) as file:
        file.seek(5)
        assert part.write_to_fd(file) == 8
        assert file.tell() == 13
        assert part.write_to_fd(file.fileno(), 2) == 2
        assert file.tell() == 15
    content = known_file.content
    assert known_file.path.read_bytes() == content[:5] + b"abcdefghab" + content[15:]


def test_write_at_an_offset_moves_no_position(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    mapping.write_slice(b"abcdefgh", 0)
    part = mapping.get_slice(0, 8)
    with known_file.path.open("r+b", buffering=0) as file:
        file.seek(5)
        assert part.write_to_fd(file, file_offset=PAGE) == 8
        assert part.write_to_fd(file, Index(3), Index(0)) == 3
        assert file.tell() == 5
    content = known_file.content
    expected = b"abc" + content[3:PAGE] + b"abcdefgh" + content[PAGE + 8 :]
    assert known_file.path.read_bytes() == expected


def test_write_past_the_end_grows_the_file(mapping: MemoryMapping, tmp_path: Path) -> None:
    mapping.write_slice(b"abcd", 0)
    path = tmp_path / "new"
    with path.open("wb") as file:
        assert mapping.get_slice(0, 4).write_to_fd(file, file_offset=100) == 4
    assert path.read_bytes() == bytes(100) + b"abcd"


def test_read_stops_at_the_end_of_the_file(mapping: MemoryMapping, known_file: KnownFile) -> None:
    size = len(known_file.content)
    part = mapping.get_slice(0, 4 * PAGE)
    part.write_bytes(0xFF)
    with known_file.path.open("rb", buffering=0) as file:
        assert part.read_from_fd(file, file_offset=size - 100) == 100
        assert mapping[:] == known_file.content[-100:] + b"\xff" * (4 * PAGE - 100)
        assert part.read_from_fd(file, file_offset=size) == 0
        assert part.read_from_fd(file, file_offset=size + PAGE) == 0
        file.seek(size - 3)
        assert part.read_from_fd(file, 10) == 3
        assert file.tell() == size
        assert part.read_from_fd(file) == 0
    assert mapping[100:] == b"\xff" * (4 * PAGE - 100)


def test_transfer_of_no_bytes_is_zero(mapping: MemoryMapping, known_file: KnownFile) -> None:
    with known_file.path.open("r+b", buffering=0) as file:
        for part, count in ((mapping.get_slice(0, 0), None), (mapping.get_slice(0, 9), 0)):
            assert part.read_from_fd(file, count) == 0
            assert part.write_to_fd(file, count) == 0
        assert file.tell() == 0
    assert known_file.path.read_bytes() == known_file.content
    assert mapping.is_all_zero()


@pytest.mark.parametrize("count", [-1, 10, 2**63, -(2**64)])
def test_count_that_the_slice_does_not_have_is_out_of_bounds(
    count: int, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    part = mapping.get_slice(0, 9)
    with known_file.path.open("r+b", buffering=0) as file:
        for transfer in (part.read_from_fd, part.write_to_fd):
            with pytest.raises(VolatileOutOfBoundsError):
                transfer(file, count)
        assert file.tell() == 0
    assert mapping.is_all_zero()


@pytest.mark.parametrize("offset", [-1, 2**63, 2**64, -(2**64)])
def test_file_offset_that_no_file_has_is_refused(
    offset: int, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    part = mapping.get_slice(0, 9)
    with known_file.path.open("r+b", buffering=0) as file:
        for transfer in (part.read_from_fd, part.write_to_fd):
            with pytest.raises(InvalidOffsetError) as caught:
                transfer(file, 1, offset)
            assert caught.value.offset == offset
    assert known_file.path.read_bytes() == known_file.content


@pytest.mark.parametrize("wrong", [1.0, "1", b"1"])
def test_argument_of_a_wrong_type_is_refused(
    wrong: Any, mapping: MemoryMapping, known_file: KnownFile
) -> None:
    part = mapping.get_slice(0, 9)
    with known_file.path.open("r+b", buffering=0) as file:
        calls: list[Callable[[], object]] = [
            lambda: part.read_from_fd(wrong),
            lambda: part.write_to_fd(wrong),
            lambda: part.read_from_fd(file, wrong),
            lambda: part.write_to_fd(file, wrong),
            lambda: part.read_from_fd(file, 1, wrong),
            lambda: part.write_to_fd(file, 1, wrong),
        ]
        for call in calls:
            with pytest.raises(TypeError):
                call()
    assert known_file.path.read_bytes() == known_file.content
    assert mapping.is_all_zero()


def test_transfer_of_more_than_one_call_moves_is_whole(disk_path: Path) -> None:
    # The kernel moves at most 2 GiB less a page in a call. A file of holes needs no disk for it.
    count = 2 * 1024 * MIB + 3 * PAGE
    path = disk_path / "sparse"
    path.touch()
    os.truncate(path, count)
    with MemoryMapping.from_file(path, prot=READ) as m, Path("/dev/null").open("wb") as null:
        assert m.get_slice(0, count).write_to_fd(null) == count


# Pipes


def test_read_from_a_pipe_waits_for_all_that_was_asked_for() -> None:
    data = known_bytes(3 * MIB + 7)
    with MemoryMapping.new(len(data)) as m, pipe() as (reading, writing):
        beside = Beside(lambda: write_all(writing, data))
        assert m.get_slice(0, len(data)).read_from_fd(reading) == len(data)
        beside.finished()
        assert m[:] == data


def test_read_from_a_pipe_stops_at_its_end() -> None:
    data = known_bytes(300_000)
    with MemoryMapping.new(MIB) as m:
        reading, writing = os.pipe()

        def write() -> None:
            write_all(writing, data)
            os.close(writing)

        beside = Beside(write)
        assert m.get_slice(0, MIB).read_from_fd(reading) == len(data)
        beside.finished()
        assert m.get_slice(0, MIB).read_from_fd(reading) == 0
        os.close(reading)
        assert m[: len(data)] == data
        assert m.is_all_zero(len(data))


def test_write_to_a_pipe_waits_until_all_is_written() -> None:
    data = known_bytes(3 * MIB + 7)
    found: list[bytes] = []
    with MemoryMapping.new(len(data)) as m, pipe() as (reading, writing):
        m[:] = data
        beside = Beside(lambda: found.append(read_all(reading, len(data))))
        assert m.get_slice(0, len(data)).write_to_fd(writing) == len(data)
        beside.finished()
    assert found == [data]


def test_read_from_a_non_blocking_pipe_is_what_it_has_then_would_block(
    mapping: MemoryMapping,
) -> None:
    part = mapping.get_slice(0, PAGE)
    with pipe(blocking=False) as (reading, writing):
        os.write(writing, b"abc")
        assert part.read_from_fd(reading) == 3
        assert mapping[:4] == b"abc\0"
        with pytest.raises(ReadToMemoryError) as caught:
            part.read_from_fd(reading)
        assert caught.value.errno == errno.EAGAIN
        assert isinstance(caught.value, OSError)
        assert mapping[:4] == b"abc\0"


def test_write_to_a_non_blocking_pipe_is_what_it_takes_then_would_block() -> None:
    data = known_bytes(MIB)
    with MemoryMapping.new(MIB) as m, pipe(blocking=False) as (reading, writing):
        m[:] = data
        part = m.get_slice(0, MIB)
        written = part.write_to_fd(writing)
        assert 0 < written < MIB
        with pytest.raises(WriteFromMemoryError) as caught:
            part.offset(written).write_to_fd(writing)
        assert caught.value.errno == errno.EAGAIN
        assert isinstance(caught.value, OSError)
        assert read_all(reading, written) == data[:written]


def test_write_that_a_pipe_takes_whole_stays_whole() -> None:
    # Up to PIPE_BUF bytes a write is one piece: those of two writers do not mix.
    rounds, count = 200, 4096
    with MemoryMapping.new(2 * count) as m, pipe() as (reading, writing):
        m[:count], m[count:] = b"a" * count, b"b" * count

        def write(offset: int) -> None:
            for _ in range(rounds):
                assert m.get_slice(offset, count).write_to_fd(writing) == count

        writers = [Beside(lambda: write(0)), Beside(lambda: write(count))]
        for _ in range(2 * rounds):
            assert read_all(reading, count) in (b"a" * count, b"b" * count)
        for writer in writers:
            writer.finished()


def test_write_to_a_pipe_that_nobody_reads_is_a_broken_pipe(mapping: MemoryMapping) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(WriteFromMemoryError) as caught:
        mapping.get_slice(0, 10).write_to_fd(writing)
    assert caught.value.errno == errno.EPIPE
    os.close(writing)


def test_pipe_has_no_offsets(mapping: MemoryMapping) -> None:
    with pipe() as (reading, writing):
        with pytest.raises(ReadToMemoryError) as caught:
            mapping.get_slice(0, 10).read_from_fd(reading, file_offset=0)
        assert caught.value.errno == errno.ESPIPE
        with pytest.raises(WriteFromMemoryError) as failed:
            mapping.get_slice(0, 10).write_to_fd(writing, file_offset=0)
        assert failed.value.errno == errno.ESPIPE


# Sockets


def test_stream_socket_is_read_until_all_is_there() -> None:
    data = known_bytes(MIB)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right, MemoryMapping.new(MIB) as m, MemoryMapping.new(MIB) as received:
        m[:] = data
        beside = Beside(lambda: m.get_slice(0, MIB).write_to_fd(left))
        assert received.get_slice(0, MIB).read_from_fd(right) == MIB
        beside.finished()
        assert received[:] == data
        left.sendall(b"end")
        left.shutdown(socket.SHUT_WR)
        assert received.get_slice(0, MIB).read_from_fd(right) == 3


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_message_socket_keeps_one_message_a_call(
    kind: socket.SocketKind, mapping: MemoryMapping
) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    with left, right, process_unchanged():
        for message in (b"first", b"second one", b"3"):
            left.send(message)
        part = mapping.get_slice(0, 100)
        for message in (b"first", b"second one", b"3"):
            part.write_bytes(0)
            assert part.read_from_fd(right) == len(message)
            assert mapping[:100] == message + bytes(100 - len(message))
        assert right.type == kind  # still a socket, and still open
        mapping[:8] = b"abcdefgh"
        assert mapping.get_slice(0, 8).write_to_fd(left) == 8
        assert mapping.get_slice(0, 2).write_to_fd(left) == 2
        assert right.recv(100) == b"abcdefgh"
        assert right.recv(100) == b"ab"


def test_message_socket_is_read_where_no_descriptor_is_left(mapping: MemoryMapping) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with left, right:
        left.send(b"first")
        left.send(b"second")
        part = mapping.get_slice(0, 100)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1, limits[1]))
        used: list[int] = []
        try:
            with suppress(OSError):  # all that the limit leaves
                while True:
                    used.append(os.dup(right.fileno()))
            assert part.read_from_fd(right) == 5
            assert part.read_from_fd(right) == 6
        finally:
            for fd in used:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert mapping[:100] == b"second" + bytes(94)


def test_message_that_is_too_long_is_an_error(mapping: MemoryMapping) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        with MemoryMapping.new(MIB) as m, pytest.raises(WriteFromMemoryError) as caught:
            m.get_slice(0, MIB).write_to_fd(left)
        assert caught.value.errno == errno.EMSGSIZE


# Signals


def test_transfer_that_signals_interrupt_goes_on() -> None:
    program = """
        import os, signal, threading, time
        from kernel_view import known_bytes
        from mmapwrap import MemoryMapping

        signals = 0

        def count(*_):
            global signals
            signals += 1

        signal.signal(signal.SIGALRM, count)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        data = known_bytes(400_000)
        with MemoryMapping.new(len(data)) as m:
            part = m.get_slice(0, len(data))
            reading, writing = os.pipe()

            def write():
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
                rest = memoryview(data)
                while rest:
                    time.sleep(0.01)
                    rest = rest[os.write(writing, rest[:40_000]):]

            thread = threading.Thread(target=write)
            thread.start()
            assert part.read_from_fd(reading) == len(data)
            thread.join()
            assert m[:] == data
            read_signals, signals = signals, 0

            found = bytearray()

            def read():
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
                while len(found) < len(data):
                    time.sleep(0.01)
                    found.extend(os.read(reading, 40_000))

            thread = threading.Thread(target=read)
            thread.start()
            assert part.write_to_fd(writing) == len(data)
            thread.join()
            assert found == data
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert read_signals > 10 and signals > 10, (read_signals, signals)
        print("done")
    """
    assert child(program).succeeded() == "done\n"


def test_signal_handler_that_raises_ends_a_transfer() -> None:
    program = """
        import os, signal
        from mmapwrap import MemoryMapping

        def stop(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, stop)
        reading, writing = os.pipe()
        os.write(writing, b"abc")
        m = MemoryMapping.new(100)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            m.get_slice(0, 100).read_from_fd(reading)
        except KeyboardInterrupt:
            print(bytes(m[:4]))
    """
    assert child(program).succeeded() == "b'abc\\x00'\n"


# Descriptors that will not do


class NotOpen:
    """An object whose descriptor is none."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number


def closed_descriptor() -> int:
    """A number that was a descriptor."""
    fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)
    return fd


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(closed_descriptor, id="closed number"),
        pytest.param(lambda: NotOpen(closed_descriptor()), id="fileno closed"),
    ],
)
def test_descriptor_that_is_not_open_is_refused(
    make: Callable[[], Any], mapping: MemoryMapping
) -> None:
    part = mapping.get_slice(0, 10)
    with pytest.raises(ReadToMemoryError) as caught:
        part.read_from_fd(make())
    assert caught.value.errno == errno.EBADF
    with pytest.raises(WriteFromMemoryError) as failed:
        part.write_to_fd(make())
    assert failed.value.errno == errno.EBADF


@pytest.mark.parametrize("fd", [-1, 2**31, NotOpen(-1)], ids=["-1", "2**31", "fileno -1"])
def test_number_that_is_no_descriptor_is_refused(fd: Any, mapping: MemoryMapping) -> None:
    part = mapping.get_slice(0, 10)
    for transfer in (part.read_from_fd, part.write_to_fd):
        with pytest.raises(BadDescriptorError):
            transfer(fd)


def test_what_a_file_without_a_descriptor_raises_comes_through(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    part = mapping.get_slice(0, 10)
    file = known_file.path.open("r+b")
    file.close()
    other: Any
    for other, its_own in ((file, "closed file"), (io.BytesIO(b"abc"), "fileno")):
        for transfer in (part.read_from_fd, part.write_to_fd):
            with pytest.raises(ValueError, match=its_own):
                transfer(other)
    assert mapping.is_all_zero()


def test_descriptor_of_another_mode_is_refused(
    mapping: MemoryMapping, known_file: KnownFile
) -> None:
    part = mapping.get_slice(0, 10)
    with known_file.path.open("r+b") as file:
        reading = os.open(known_file.path, os.O_RDONLY)
        writing = os.open(known_file.path, os.O_WRONLY)
        with pytest.raises(ReadToMemoryError) as caught:
            part.read_from_fd(writing)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(WriteFromMemoryError) as failed:
            part.write_to_fd(reading)
        assert failed.value.errno == errno.EBADF
        os.close(reading)
        os.close(writing)
        assert part.read_from_fd(file) == 10


def test_directory_is_refused(mapping: MemoryMapping, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ReadToMemoryError) as caught:
        mapping.get_slice(0, 10).read_from_fd(fd)
    assert caught.value.errno == errno.EISDIR
    os.close(fd)


def test_failed_transfers_leave_no_descriptor(mapping: MemoryMapping) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    part = mapping.get_slice(0, 10)
    with left, right, process_unchanged():
        right.setblocking(False)
        for _ in range(100):
            with pytest.raises(ReadToMemoryError):
                part.read_from_fd(right)
            with pytest.raises(ReadToMemoryError):
                part.read_from_fd(closed_descriptor())


# Full disks


def test_write_to_a_full_disk_is_what_fits_then_no_space(small_filesystem: Path) -> None:
    data = known_bytes(200 * 1024)
    path = small_filesystem / "full"
    with MemoryMapping.new(len(data)) as m, path.open("wb", buffering=0) as file:
        m[:] = data
        part = m.get_slice(0, len(data))
        written = part.write_to_fd(file)
        assert 0 < written <= 64 * 1024
        with pytest.raises(WriteFromMemoryError) as caught:
            part.offset(written).write_to_fd(file)
        assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == data[:written]


def test_write_to_a_device_that_is_full_is_no_space(mapping: MemoryMapping) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        with pytest.raises(WriteFromMemoryError) as caught:
            mapping.get_slice(0, 10).write_to_fd(full)
        assert caught.value.errno == errno.ENOSPC


# Memory that will not do


def test_read_only_slice_is_written_out_and_not_read_into(
    known_file: KnownFile, tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    with MemoryMapping.from_file(known_file.path, prot=READ) as m, path.open("w+b") as file:
        part = m.get_slice(5, 100)
        assert part.write_to_fd(file) == 100
        assert path.read_bytes() == known_file.content[5:105]
        with pytest.raises(ProtectionError) as caught:
            part.read_from_fd(file, file_offset=0)
        assert (caught.value.required, caught.value.actual) == (Protection.write(), READ)
        with pipe() as (reading, writing):
            os.write(writing, b"still here")
            with pytest.raises(ProtectionError):
                part.read_from_fd(reading, 10)
            assert os.read(reading, 100) == b"still here"
    assert known_file.path.read_bytes() == known_file.content


def test_transfer_across_a_hole_moves_nothing(known_file: KnownFile) -> None:
    with MemoryMappingArena.new(3 * PAGE) as arena, known_file.path.open("r+b", buffering=0) as f:
        arena.add_anon(0, PAGE)
        across = arena.get_slice(PAGE - 10, 20)
        for transfer in (across.read_from_fd, across.write_to_fd):
            with pytest.raises(ProtectionError):
                transfer(f)
            assert transfer(f, 10) == 10
            with pytest.raises(ProtectionError):
                transfer(f, 11)
        assert f.tell() == 20
        assert arena[PAGE - 10 : PAGE] == known_file.content[:10]


def test_transfer_of_a_page_that_the_file_lost_is_an_error_and_not_a_signal(
    known_file: KnownFile, tmp_path: Path
) -> None:
    path = tmp_path / "other"
    path.write_bytes(known_bytes(4 * PAGE))
    with MemoryMapping.from_file(known_file.path) as m, closing(path.open("r+b")) as file:
        part = m.get_slice(PAGE, 2 * PAGE)
        os.truncate(known_file.path, PAGE)
        with pytest.raises(ReadToMemoryError) as caught:
            part.read_from_fd(file)
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(MappingFaultError) as lost:
            part.write_to_fd(file)
        assert (lost.value.offset, lost.value.pages) == (PAGE, 1)
        assert m[:PAGE] == known_file.content[:PAGE]
    assert path.read_bytes() == known_bytes(4 * PAGE)
