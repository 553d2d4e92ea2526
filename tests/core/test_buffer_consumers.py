"""What takes a region itself where it takes bytes: the standard library, NumPy and others."""

import array
import base64
import binascii
import bz2
import codecs
import ctypes
import gc
import gzip
import hashlib
import hmac
import io
import lzma
import marshal
import mmap
import operator
import os
import pickle
import re
import secrets
import socket
import sqlite3
import ssl
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import Any
from xml.parsers import expat

import numpy as np
import pytest
from kernel_view import PAGE, is_mapped, process_unchanged
from protections import READ

from mmapwrap import MappedRegion, MemoryMapping, MemoryMappingArena, Protection

SIZE = 2 * PAGE
TEXT = (b"%06d: a line of text\n" * (SIZE // 22 + 1) % tuple(range(SIZE // 22 + 1)))[:SIZE]


def a_mapping() -> MappedRegion:
    m = MemoryMapping.new(SIZE)
    m[:] = TEXT
    return m


def a_read_only_file() -> MappedRegion:
    with tempfile.TemporaryFile() as file:
        file.write(TEXT)
        file.flush()
        return MemoryMapping.from_file(file, prot=READ)


def inside_a_page() -> MappedRegion:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(100) + TEXT)
        file.flush()
        return MemoryMapping.from_file(file, offset=100)


def an_arena() -> MappedRegion:
    arena = MemoryMappingArena.new(SIZE)
    arena.add_anon(0, PAGE)
    arena.add_anon(PAGE, PAGE)
    arena[:] = TEXT
    return arena


REGIONS: dict[str, Callable[[], MappedRegion]] = {
    "mapping": a_mapping,
    "read-only file": a_read_only_file,
    "inside a page": inside_a_page,
    "arena": an_arena,
}

Consumer = Callable[[Any], object]


def through_a_file(data: Any, write: Callable[[io.FileIO, Any], object]) -> bytes:
    """What a file holds to which the data was written."""
    with tempfile.TemporaryFile(buffering=0) as file:
        assert isinstance(file, io.FileIO)
        assert write(file, data) == SIZE
        return os.pread(file.fileno(), 2 * SIZE, 0)


def through_a_socket(data: Any, send: Callable[[socket.socket, Any], object]) -> bytes:
    """What comes out of a pair of sockets into which the data was sent."""
    left, right = socket.socketpair()
    with left, right:
        assert send(left, data) in {SIZE, None}
        received = b""
        while len(received) < SIZE:
            received += right.recv(SIZE)
    return received


def through_a_pipe(data: Any) -> bytes:
    left, right = Pipe()
    with left, right:
        left.send_bytes(data)
        return right.recv_bytes()


def buffered_write(data: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        assert file.write(data) == SIZE
        file.seek(0)
        return file.read()


def extended(data: Any) -> bytes:
    made = bytearray(b"<")
    made += data
    made.extend(memoryview(data))
    made[:1] = data
    return bytes(made)


def items_of(data: Any) -> list[int]:
    made = array.array("I")
    made.frombytes(data)
    return made.tolist()


def updated(data: Any) -> bytes:
    digest = hashlib.blake2b()
    digest.update(data)
    return digest.digest()


def parsed(data: Any) -> list[str]:
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.CharacterDataHandler = found.append
    parser.Parse(b"<a>")
    parser.Parse(data)
    parser.Parse(b"</a>", True)
    return ["".join(found)]


def stored(data: Any) -> bytes:
    database = sqlite3.connect(":memory:")
    try:
        (found,) = database.execute("SELECT ?", (data,)).fetchone()
        assert isinstance(found, bytes)
        return found
    finally:
        database.close()


def copied_by_numpy(data: Any) -> bytes:
    made = np.zeros(SIZE, np.uint8)
    np.copyto(made, data)
    return made.tobytes()


def in_memory_bio(data: Any) -> bytes:
    bio = ssl.MemoryBIO()
    assert bio.write(data) == SIZE
    return bio.read()


def in_another_mmap(data: Any) -> bytes:
    with mmap.mmap(-1, SIZE) as other:
        assert other.write(data) == SIZE
        assert other.find(data, 0) == 0
        return other[:]


# Each gives the same of a region as of bytes, and lets the region's buffer go as it returns.
READERS: dict[str, Consumer] = {
    "re.search": lambda data: [found.span() for found in [re.search(rb"(\d+): a", data)] if found],
    "re.finditer": lambda data: [each.group() for each in re.finditer(rb"\d+", data)],
    "re.sub": lambda data: re.sub(rb"line", b"row", data),
    "re.split": lambda data: re.split(rb"\n", data),
    "struct.unpack_from": lambda data: struct.unpack_from("<IQ", data, 3),
    "struct.iter_unpack": lambda data: list(struct.iter_unpack("<Q", data)),
    "struct.unpack": lambda data: struct.unpack(f"{SIZE}s", data),
    "zlib.crc32": zlib.crc32,
    "zlib.adler32": zlib.adler32,
    "zlib.compress": zlib.compress,
    "zlib.decompressobj": lambda data: zlib.decompressobj().decompress(zlib.compress(data)),
    "gzip.compress": lambda data: gzip.compress(data, mtime=0),
    "bz2.compress": bz2.compress,
    "lzma.compress": lzma.compress,
    "hashlib.sha256": lambda data: hashlib.sha256(data).digest(),
    "hashlib.update": updated,
    "hmac.digest": lambda data: hmac.digest(b"key", data, "sha256"),
    "hmac of a key": lambda data: hmac.new(bytes(data), data, "sha256").digest(),
    "secrets.compare_digest": lambda data: secrets.compare_digest(data, TEXT),
    "binascii.hexlify": binascii.hexlify,
    "binascii.crc32": binascii.crc32,
    "binascii.b2a_base64": binascii.b2a_base64,
    "base64.b64encode": base64.b64encode,
    "base64.b85encode": base64.b85encode,
    "int.from_bytes": lambda data: int.from_bytes(data, "little"),
    "bytes": bytes,
    "bytes.join": lambda data: b"-".join([data, b"x", data]),
    "bytes +": lambda data: b"<" + data,
    "bytes.find": lambda data: (TEXT + TEXT).find(data, 1),
    "bytes.replace": lambda data: (b"<" + TEXT + b">").replace(data, b"all"),
    "bytes.startswith": lambda data: TEXT in data and TEXT.find(data) == 0,
    "bytes ==": lambda data: bool(operator.eq(memoryview(data), TEXT)),
    "bytes % ": lambda data: b"<%b>" % (data,),
    "bytearray": bytearray,
    "bytearray +=": extended,
    "bytes.translate": lambda data: TEXT.translate(None, bytes(data)[:3]),
    "memoryview.cast": lambda data: memoryview(data).cast("I").tolist(),
    "memoryview.hex": lambda data: memoryview(data).hex(),
    "array.frombytes": items_of,
    "io.BytesIO": lambda data: io.BytesIO(data).readlines(),
    "io.BytesIO.write": lambda data: io.BytesIO().write(data),
    "file.write": buffered_write,
    "raw file.write": lambda data: through_a_file(data, io.FileIO.write),
    "os.write": lambda data: through_a_file(data, lambda file, d: os.write(file.fileno(), d)),
    "os.pwrite": lambda data: through_a_file(data, lambda file, d: os.pwrite(file.fileno(), d, 0)),
    "os.writev": lambda data: through_a_file(data, lambda file, d: os.writev(file.fileno(), [d])),
    "os.pwritev": lambda data: through_a_file(
        data, lambda file, d: os.pwritev(file.fileno(), [d], 0)
    ),
    "socket.send": lambda data: through_a_socket(data, socket.socket.send),
    "socket.sendall": lambda data: through_a_socket(data, socket.socket.sendall),
    "socket.sendmsg": lambda data: through_a_socket(data, lambda end, d: end.sendmsg([d])),
    "Connection.send_bytes": through_a_pipe,
    "ssl.MemoryBIO": in_memory_bio,
    "mmap.write": in_another_mmap,
    "sqlite3": stored,
    "expat": parsed,
    "marshal.loads": lambda data: marshal.loads(marshal.dumps(bytes(data))),
    "marshal.dumps": marshal.dumps,
    "pickle in band": lambda data: bytes(pickle.loads(pickle.dumps(pickle.PickleBuffer(data), 5))),
    "str": lambda data: str(data, "ascii"),
    "codecs.decode": lambda data: codecs.decode(data, "latin-1"),
    "codecs.ascii_decode": codecs.ascii_decode,
    "ctypes.from_buffer_copy": lambda data: bytes((ctypes.c_char * SIZE).from_buffer_copy(data)),
    "numpy.frombuffer": lambda data: np.frombuffer(data, "<u4").tolist(),
    "numpy.array": lambda data: np.array(memoryview(data)).tolist(),
    "numpy.copyto": lambda data: copied_by_numpy(np.frombuffer(data, np.uint8)),
    "numpy.fromstring": lambda data: np.frombuffer(data, "S22", count=3).tolist(),
}


@pytest.fixture(params=REGIONS)
def region(request: pytest.FixtureRequest) -> Iterator[MappedRegion]:
    """A region that holds TEXT, of each kind."""
    with REGIONS[request.param]() as made:
        yield made


@pytest.mark.parametrize("consumer", READERS)
def test_consumer_takes_a_region_as_it_takes_bytes(consumer: str, region: MappedRegion) -> None:
    consume = READERS[consumer]
    assert consume(region) == consume(TEXT)
    gc.collect()
    assert region.live_views == 0
    region.protect(Protection.none())


def test_all_of_these_consumers_are_many() -> None:
    assert len(READERS) + len(FILLERS) >= 27


# Consumers of a writable buffer


def fill_from_a_file(m: MappedRegion, fill: Callable[[Any, Any], object]) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(TEXT[::-1])
        file.seek(0)
        assert fill(file, m) == SIZE


def fill_from_a_socket(m: MappedRegion, fill: Callable[[socket.socket, Any], Any]) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(TEXT[::-1])
        filled = fill(right, m)
        assert (filled[0] if isinstance(filled, tuple) else filled) == SIZE


def fill_by_ctypes(m: MappedRegion) -> None:
    writable: Any = m
    made = (ctypes.c_char * SIZE).from_buffer(writable)
    made.raw = TEXT[::-1]


def fill_by_numpy(m: MappedRegion) -> None:
    np.copyto(np.asarray(m), np.frombuffer(TEXT[::-1], np.uint8))


def fill_by_an_ndarray(m: MappedRegion) -> None:
    writable: Any = m
    np.ndarray((SIZE,), np.uint8, buffer=memoryview(writable))[:] = np.frombuffer(TEXT, np.uint8)[
        ::-1
    ]


def fill_by_a_pipe(m: MappedRegion) -> None:
    left, right = Pipe()
    writable: Any = m
    with left, right:
        left.send_bytes(TEXT[::-1])
        assert right.recv_bytes_into(writable) == SIZE


def fill_by_struct(m: MappedRegion) -> None:
    writable: Any = m
    struct.pack_into(f"{SIZE}s", writable, 0, TEXT[::-1])


def fill_by_a_view(m: MappedRegion) -> None:
    writable: Any = m
    with memoryview(writable) as view:
        view[:] = TEXT[::-1]


FILLERS: dict[str, Callable[[MappedRegion], None]] = {
    "struct.pack_into": fill_by_struct,
    "file.readinto": lambda m: fill_from_a_file(m, lambda file, data: file.readinto(data)),
    "raw file.readinto": lambda m: fill_from_a_file(m, lambda file, data: file.raw.readinto(data)),
    "BytesIO.readinto": lambda m: fill_from_a_file(
        m, lambda file, data: io.BytesIO(file.read()).readinto(data)
    ),
    "os.readv": lambda m: fill_from_a_file(m, lambda file, data: os.readv(file.fileno(), [data])),
    "os.preadv": lambda m: fill_from_a_file(
        m, lambda file, data: os.preadv(file.fileno(), [data], 0)
    ),
    "socket.recv_into": lambda m: fill_from_a_socket(m, socket.socket.recv_into),
    "socket.recvfrom_into": lambda m: fill_from_a_socket(m, socket.socket.recvfrom_into),
    "socket.recvmsg_into": lambda m: fill_from_a_socket(
        m, lambda end, data: end.recvmsg_into([data])
    ),
    "Connection.recv_bytes_into": fill_by_a_pipe,
    "ctypes.from_buffer": fill_by_ctypes,
    "numpy.asarray": fill_by_numpy,
    "numpy.ndarray": fill_by_an_ndarray,
    "memoryview": fill_by_a_view,
}


@pytest.mark.parametrize("consumer", FILLERS)
def test_consumer_fills_a_region_as_it_fills_a_bytearray(
    consumer: str, region: MappedRegion
) -> None:
    fill = FILLERS[consumer]
    with region.view() as view:
        is_writable = not view.readonly
    if is_writable:
        fill(region)
        gc.collect()
        assert region[:] == TEXT[::-1]
    else:
        with pytest.raises((TypeError, ValueError, BufferError)):
            fill(region)
        gc.collect()
        assert region[:] == TEXT
    assert region.live_views == 0
    region.protect(Protection.none())


def test_numpy_array_by_each_way_is_the_regions_memory(region: MappedRegion) -> None:
    data: Any = region
    ways: list[Callable[[], Any]] = [
        lambda: np.frombuffer(data, np.uint8),
        lambda: np.frombuffer(data, np.uint32),
        lambda: np.ndarray((SIZE,), np.uint8, buffer=memoryview(data)),
        lambda: np.asarray(data),
        lambda: np.array(data, copy=False),
        lambda: np.ndarray((SIZE // 8,), np.uint64, buffer=data),
    ]
    for way in ways:
        made = way()
        assert made.ctypes.data == region.as_ptr()
        assert made.nbytes == SIZE
        assert made.tobytes() == TEXT
        del made
    assert region.live_views == 1  # that of ndarray(buffer=region)


def test_pickle_of_a_region_out_of_band_is_its_memory(region: MappedRegion) -> None:
    buffers: list[pickle.PickleBuffer] = []
    data: Any = region
    written = pickle.dumps([pickle.PickleBuffer(data)], 5, buffer_callback=buffers.append)
    (loaded,) = pickle.loads(written, buffers=buffers)
    with memoryview(loaded) as view:
        assert view == TEXT
        assert np.frombuffer(view, np.uint8).ctypes.data == region.as_ptr()
    del loaded, buffers
    gc.collect()
    assert region.live_views == 0


LARGE = 32 << 20


def write_to_memory(data: Any) -> int | None:
    with open(os.memfd_create("consumer"), "wb", buffering=0) as file:
        return file.write(data)


WITHOUT_THE_GIL: dict[str, Consumer] = {
    "hashlib.sha256": lambda data: hashlib.sha256(data).digest(),
    "zlib.crc32": zlib.crc32,
    "file.write": write_to_memory,
}


@pytest.mark.parametrize("consumer", WITHOUT_THE_GIL)
def test_region_that_is_closed_under_a_consumer_stays_until_that_has_ended(consumer: str) -> None:
    consume = WITHOUT_THE_GIL[consumer]
    m = MemoryMapping.new(LARGE)
    m[LARGE - 1] = 1
    address = m.as_ptr()
    expected = consume(bytes(m))
    results: list[object] = []
    begun = threading.Event()

    def run() -> None:
        begun.set()
        results.append(consume(m))

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    while thread.is_alive() and m.live_views == 0:
        pass
    m.close()
    thread.join()
    assert results == [expected]
    assert m.live_views == 0
    assert not is_mapped(address, LARGE)


# Other packages


@pytest.mark.parametrize("kind", REGIONS)
def test_pyarrow_buffer_of_a_region_is_its_memory(kind: str) -> None:
    pyarrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    made: Any = REGIONS[kind]()
    address = made.as_ptr()
    with memoryview(made) as view:
        is_writable = not view.readonly
    buffer = pyarrow.py_buffer(made)
    assert (buffer.address, buffer.size, buffer.is_mutable) == (address, SIZE, is_writable)
    assert made.live_views == 1
    numbers = pyarrow.Array.from_buffers(pyarrow.int32(), SIZE // 4, [None, buffer])
    made.close()
    del made
    assert buffer.to_pybytes() == TEXT
    assert numbers[1].as_py() == int.from_bytes(TEXT[4:8], "little")
    assert pyarrow.BufferReader(buffer).read(6) == TEXT[:6]
    del buffer, numbers
    gc.collect()
    assert not is_mapped(address, SIZE)


def test_pyarrow_buffer_of_a_view_lets_the_region_go_with_itself() -> None:
    pyarrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with a_mapping() as made:
        buffer = pyarrow.py_buffer(made.view())
        assert made.live_views == 1
        del buffer
        gc.collect()
        assert made.live_views == 0


def test_pyarrow_reads_a_stream_from_a_region() -> None:
    pyarrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    ipc: Any = pytest.importorskip("pyarrow.ipc", reason="pyarrow is not installed")
    table = pyarrow.table({"number": list(range(1000))})
    sink = pyarrow.BufferOutputStream()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    with MemoryMapping.new(len(content)) as m:
        m[:] = content
        data: Any = m
        read = ipc.open_file(pyarrow.py_buffer(data)).read_all()
        assert read.equals(table)
    assert read.column("number")[999].as_py() == 999


def test_pillow_image_of_a_region_is_its_memory(region: MappedRegion) -> None:
    image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    data: Any = region
    address = region.as_ptr()
    size = (64, SIZE // 64)
    made = image.frombuffer("L", size, data, "raw", "L", 0, 1)
    assert made.getpixel((5, 1)) == TEXT[69]
    assert image.frombytes("L", size, data).tobytes() == TEXT
    assert region.live_views == 1
    region.close()
    gc.collect()
    assert made.tobytes() == TEXT
    del made
    gc.collect()
    assert not is_mapped(address, SIZE)


def test_pillow_image_of_a_region_sees_what_is_written() -> None:
    image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with MemoryMapping.new(PAGE) as m:
        data: Any = m
        made = image.frombuffer("L", (64, 64), data, "raw", "L", 0, 1)
        m[65] = 0xAB
        assert made.getpixel((1, 1)) == 0xAB


def test_h5py_opens_a_file_image_in_a_region() -> None:
    h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")
    written = io.BytesIO()
    with h5py.File(written, "w") as file:
        file["numbers"] = np.arange(100)
    content = written.getvalue()
    with process_unchanged(), MemoryMapping.new(len(content)) as m:
        m[:] = content
        opened = h5py.File(h5py.h5f.open_file_image(m))
        try:
            assert opened["numbers"][:].tolist() == list(range(100))
        finally:
            opened.close()
        assert m.live_views == 0


def test_h5py_reads_a_file_object_over_a_region_and_fills_a_region() -> None:
    h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")
    written = io.BytesIO()
    with h5py.File(written, "w") as file:
        file["numbers"] = np.arange(PAGE // 8)
    with MemoryMapping.new(len(written.getvalue())) as m, MemoryMapping.new(PAGE) as target:
        m[:] = written.getvalue()
        data: Any = m
        with h5py.File(io.BytesIO(data), "r") as file:
            file["numbers"].read_direct(np.frombuffer(target.view(), np.int64))
        assert target[:] == np.arange(PAGE // 8).tobytes()


def test_torch_tensor_of_a_region_is_its_memory() -> None:
    torch: Any = pytest.importorskip("torch", reason="torch is not installed")
    m = a_mapping()
    data: Any = m
    address = m.as_ptr()
    made = torch.frombuffer(data, dtype=torch.uint8)
    assert made.data_ptr() == address
    m.close()
    del m, data
    gc.collect()
    assert bytes(made.tolist()) == TEXT
    del made
    gc.collect()
    assert not is_mapped(address, SIZE)
