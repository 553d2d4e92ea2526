"""The types of what a region holds and says. Type checkers read it; nothing runs it."""

import array
import io
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, SupportsIndex, TypeVar, assert_type

import numpy as np
from numpy.typing import NDArray

from mmapwrap import (
    Advice,
    ByteRange,
    DestructiveAdvice,
    MappedRegion,
    MemoryMapping,
    RegionIO,
    Residency,
    Scalar,
    SyncMode,
    VolatileSlice,
    be_f64,
    be_i64,
    f32,
    f64,
    i8,
    le_f32,
    le_u16,
    range_end,
    u8,
    u64,
)


def content(region: MappedRegion, at: SupportsIndex) -> None:
    assert_type(region[0], int)
    assert_type(region[-1], int)
    assert_type(region[at], int)
    assert_type(region[np.int64(3)], int)
    assert_type(region[:], bytes)
    assert_type(region[2:10:2], bytes)
    assert_type(bytes(region), bytes)
    assert_type(iter(region), Iterator[int])
    for byte in region:
        assert_type(byte, int)
    assert_type([byte + 1 for byte in region], list[int])
    assert_type(5 in region, bool)
    assert_type(b"ab" in region, bool)
    region[0] = 1
    region[at] = at
    region[:2] = b"ab"
    region[:2] = bytearray(b"ab")
    region[:2] = memoryview(b"ab")
    region[:2] = array.array("B", b"ab")


def files(region: MappedRegion, at: SupportsIndex) -> None:
    assert_type(region.open(), io.BufferedReader)
    assert_type(region.open("rb", offset=at, count=None), io.BufferedReader)
    assert_type(region.open("r+b", offset=at, count=at), io.BufferedRandom)
    assert_type(region.open("rb+", buffering=-1), io.BufferedRandom)
    assert_type(region.open(buffering=0), RegionIO)
    assert_type(region.open("r+b", buffering=0), RegionIO)
    assert_type(region.open(buffering=at), io.BufferedReader | RegionIO)
    assert_type(region.open("r+b", buffering=512), io.BufferedRandom | RegionIO)
    with region.open() as file, zipfile.ZipFile(file) as archive:
        assert_type(archive.read("name"), bytes)
    with region.open(buffering=0) as raw:
        assert_type(raw, RegionIO)
        assert_type(raw.read(), bytes)
        assert_type(raw.readinto(bytearray(4)), int)
        assert_type(raw.write(memoryview(b"ab")), int)
        assert_type(raw.seek(0, io.SEEK_END), int)
        binary: BinaryIO = raw
        assert_type(binary.tell(), int)


def arrays(region: MappedRegion, at: SupportsIndex, dtype: np.dtype[np.uint16]) -> None:
    assert_type(region.array(), NDArray[Any])
    assert_type(region.array("f4"), NDArray[Any])
    assert_type(region.array(np.float32), NDArray[np.float32])
    assert_type(region.array(dtype, (2, at)), NDArray[np.uint16])
    assert_type(region.array([("a", "<u4")], at, offset=at), NDArray[Any])
    assert_type(region.array(np.float64, [2, 3], order="F"), NDArray[np.float64])


def views(region: MappedRegion, at: SupportsIndex) -> None:
    assert_type(region.view(), memoryview)
    assert_type(region.view(at), memoryview)
    assert_type(region.view(at, at), memoryview)
    assert_type(region.view(0, None)[0], int)
    assert_type(memoryview(region), memoryview)
    if sys.version_info >= (3, 12):  # to a type checker, NumPy knows no buffers before
        assert_type(np.frombuffer(region, np.uint8).dtype, np.dtype[np.uint8])
        region.read_exact(np.zeros(4, np.uint32), 0)
    with region.view() as view:
        assert_type(view, memoryview)
    with region.fault_guard():
        region.recover()


def copies(region: MappedRegion) -> None:
    assert_type(region.read_slice(bytearray(4), 0), int)
    assert_type(region.write_slice(b"abcd", 0), int)
    region.read_exact(bytearray(4), 0)
    region.write_all(memoryview(b"abcd"), 0)
    assert_type(region.find(b"a"), int)
    assert_type(region.rfind(b"a", 0, None), int)
    assert_type(region.is_all_zero(), bool)


def numbers(region: MappedRegion, part: VolatileSlice) -> None:
    assert_type(region.read_obj(u8, 0), int)
    assert_type(region.read_obj(u64, 0), int)
    assert_type(region.read_obj(i8, 0), int)
    assert_type(region.read_obj(le_u16, 0), int)
    assert_type(region.read_obj(be_i64, 0), int)
    assert_type(region.read_obj(f32, 0), float)
    assert_type(region.read_obj(f64, 0), float)
    assert_type(region.read_obj(le_f32, 0), float)
    assert_type(region.read_obj(be_f64, 0), float)
    assert_type(region.read_obj_volatile(u64, 0), int)
    assert_type(region.read_obj_volatile(f64, 0), float)
    assert_type(part.load(u8), int)
    assert_type(part.load(f64, 8), float)
    assert_type(u8, Scalar[int])
    assert_type(f64, Scalar[float])
    assert_type(u8.size, int)
    assert_type(u8.name, str)
    region.write_obj(u8, 1, 0)
    region.write_obj(f64, 1.5, 0)
    region.write_obj(f64, 1, 0)
    region.write_obj_volatile(u64, 1, 0)
    part.store(f32, 0.5)
    assert_type(part.load_many(u8, 4), list[int])
    assert_type(part.load_many(be_i64, count=4, offset=8), list[int])
    assert_type(part.load_many(le_f32, 4, 8), list[float])
    part.store_many(u8, b"abcd")
    part.store_many(u64, range(4), 8)
    part.store_many(f64, [1, 2.5], offset=8)
    part.store_many(f64, np.zeros(4))
    part.store_many(le_u16, (number for number in (1, 2)))


N = TypeVar("N", int, float)


def numbers_in_a_row(region: MappedRegion, scalar: Scalar[N], count: int) -> list[N]:
    return [region.read_obj(scalar, index * scalar.size) for index in range(count)]


def numbers_by_a_function(region: MappedRegion) -> None:
    assert_type(numbers_in_a_row(region, be_i64, 3), list[int])
    assert_type(numbers_in_a_row(region, f32, 3), list[float])


def numbers_of_several_types(region: MappedRegion, part: VolatileSlice) -> list[float]:
    numbers: list[float] = []
    for scalar in (u8, f64):
        numbers.append(region.read_obj(scalar, 0))
        numbers.append(part.load(scalar))
        numbers.extend(part.load_many(scalar, 2))
        region.write_obj(scalar, 1, 0)
        part.store(scalar, part.size)
        part.store_many(scalar, [1, 2])
    fields: dict[str, Scalar[int] | Scalar[float]] = {"count": u64, "mean": f64}
    return [*numbers, *(region.read_obj(field, 0) for field in fields.values())]


def slices(region: MappedRegion, at: SupportsIndex) -> None:
    part = region.get_slice(at, 8)
    assert_type(part, VolatileSlice)
    assert_type(region.get_slice(), VolatileSlice)
    assert_type(part.sub_slice(0, at), VolatileSlice)
    assert_type(part.offset(at), VolatileSlice)
    assert_type(part.copy_to(bytearray(8)), int)
    assert_type(part.copy_from(b"12345678"), int)
    part.read_exact(bytearray(8), at)
    part.write_all(b"1234")
    assert_type(part.copy_to_volatile_slice(region.get_slice(8, 8)), int)
    assert_type(part.read_from_fd(0), int)
    assert_type(part.write_to_fd(1, file_offset=at), int)
    assert_type(part.address, int)
    assert_type(len(part), int)


def pages(region: MappedRegion, mapping: MemoryMapping, at: SupportsIndex) -> None:
    region.advise(Advice.RANDOM)
    region.advise(Advice.WILLNEED, at, 4096)
    region.advise_destructive(DestructiveAdvice.DONTNEED, 0, at)
    mapping.msync(at, None, mode=SyncMode.ASYNC)
    mapping.protect(mapping.prot.set_read(), at, at)
    mapping.lock()
    mapping.lock(at, at)
    mapping.lock_on_fault()
    mapping.unlock()
    mapping.unlock(at, None)
    mapping.async_prefetch()
    mapping.flush_region()
    mapping.populate(progress=lambda done, total: assert_type((done, total), tuple[int, int]))
    residency = region.residency(at)
    assert_type(residency, Residency)
    assert_type(residency.pages, bytes)
    assert_type(residency.fraction, float)
    assert_type(residency.ranges(), Iterator[tuple[int, int]])
    assert_type(Advice.COLD.is_supported(), bool)
    assert_type(range_end(0, 1, 2), int)
    assert_type(ByteRange(0, 1).end, int)
