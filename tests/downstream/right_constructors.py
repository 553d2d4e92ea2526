"""The types that the constructors take and give. Type checkers read it; nothing runs it."""

import io
import os
import socket
import tempfile
from pathlib import Path
from typing import SupportsIndex, assert_type

import numpy as np

from mmapwrap import (
    ExternalMapping,
    MappedRegion,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    Protection,
    Segment,
    SharedMemory,
    Sharing,
    unsafe,
)


class Count:
    """An integer by ``__index__`` alone."""

    def __index__(self) -> int:
        return 4096


class Handle:
    """What has a descriptor."""

    def fileno(self) -> int:
        return 3


class Place:
    """A path by ``__fspath__`` alone."""

    def __fspath__(self) -> str:
        return "/dev/zero"


class BytesPlace:
    """A path of bytes by ``__fspath__`` alone."""

    def __fspath__(self) -> bytes:
        return b"/dev/zero"


def mappings(count: SupportsIndex, address: int) -> None:
    read = Protection.read()
    assert_type(MemoryMapping.new(4096), MemoryMapping)
    assert_type(MemoryMapping.new(count), MemoryMapping)
    assert_type(MemoryMapping.new(Count()), MemoryMapping)
    assert_type(MemoryMapping.new(np.int64(4096)), MemoryMapping)
    assert_type(MemoryMapping.new(True), MemoryMapping)
    assert_type(MemoryMapping.new_protection(count, None, read), MemoryMapping)
    assert_type(MemoryMapping.new_protection(4096, Count(), read), MemoryMapping)
    assert_type(MemoryMapping.from_fd(3, count), MemoryMapping)
    assert_type(MemoryMapping.from_fd(Handle(), 4096), MemoryMapping)
    assert_type(MemoryMapping.from_fd_offset(3, 4096, Count()), MemoryMapping)
    assert_type(MemoryMapping.from_fd_offset_protection(3, 4096, 0, read), MemoryMapping)
    assert_type(
        MemoryMapping.from_fd_offset_protection_populate(3, 4096, 0, None, read, True),
        MemoryMapping,
    )
    assert_type(MemoryMapping.new_protection_fixed(address, 4096, read), MemoryMapping)
    assert_type(
        MemoryMapping.from_descriptor_offset_protection_fixed(address, 3, 4096, 0, read),
        MemoryMapping,
    )
    assert_type(MemoryMapping.anonymous(4096), MemoryMapping)
    assert_type(
        MemoryMapping.anonymous(
            Count(),
            prot=read,
            sharing=Sharing.PRIVATE,
            align=1 << 21,
            populate=True,
            reserve=True,
            name="cache",
        ),
        MemoryMapping,
    )


def files(path: Path, pair: tuple[socket.socket, socket.socket]) -> None:
    for given in ("/dev/zero", b"/dev/zero", path, Place(), BytesPlace(), 3, Handle(), pair[0]):
        assert_type(MemoryMapping.from_file(given), MemoryMapping)
    for entry in os.scandir("/"):
        assert_type(MemoryMapping.from_file(entry), MemoryMapping)
    with (
        path.open("rb") as buffered,
        path.open() as text,
        io.FileIO(path) as raw,
        tempfile.TemporaryFile() as temporary,
        tempfile.NamedTemporaryFile() as named,
    ):
        assert_type(MemoryMapping.from_file(buffered), MemoryMapping)
        assert_type(MemoryMapping.from_file(text), MemoryMapping)
        assert_type(MemoryMapping.from_file(raw), MemoryMapping)
        assert_type(MemoryMapping.from_file(temporary), MemoryMapping)
        assert_type(MemoryMapping.from_file(named), MemoryMapping)
        assert_type(MemoryMapping.from_fd(buffered, 4096), MemoryMapping)
    assert_type(
        MemoryMapping.from_file(
            path, Count(), offset=Count(), prot=None, sharing=Sharing.PRIVATE, align=None
        ),
        MemoryMapping,
    )


def attributes(mapping: MemoryMapping) -> None:
    assert_type(mapping.prot, Protection)
    assert_type(mapping.sharing, Sharing)
    assert_type(mapping.file_offset, int | None)
    assert_type(mapping.size, int)
    assert_type(len(mapping), int)
    assert_type(mapping.as_ptr(), int)
    assert_type(mapping.closed, bool)
    assert_type(mapping.live_views, int)
    with mapping as entered:
        assert_type(entered, MemoryMapping)


def arenas(mapping: MemoryMapping, memory: SharedMemory) -> None:
    assert_type(mapping.into_arena(), MemoryMappingArena)
    assert_type(MemoryMappingArena.from_mapping(mapping), MemoryMappingArena)
    arena = MemoryMappingArena.new(Count())
    assert_type(arena, MemoryMappingArena)
    arena.add_anon(0, Count())
    arena.add_fd(Count(), 4096, memory)
    assert_type(arena.segments(), tuple[Segment, ...])
    for segment in arena.segments():
        assert_type(segment.offset, int)
        assert_type(segment.size, int)
        assert_type(segment.prot, Protection)
        assert_type(segment.fd_offset, int | None)
    with arena as entered:
        assert_type(entered, MemoryMappingArena)


def shared_memory(path: Path) -> None:
    with SharedMemory.new("frames", Count(), allocate=True) as memory:
        assert_type(memory, SharedMemory)
        assert_type(memory.map(), MemoryMapping)
        assert_type(memory.map(4096, offset=Count()), MemoryMapping)
        assert_type(memory.size, int)
        assert_type(memory.name, str)
        assert_type(memory.fileno(), int)
        assert_type(memory.get_seals(), MemfdSeals)
        assert_type(memory.try_clone(), SharedMemory)
        memory.add_seals(MemfdSeals.GROW | MemfdSeals.SHRINK)
        assert_type(SharedMemory.from_fd(memory), SharedMemory)
        assert_type(
            SharedMemory.from_fd(memory.fileno(), required_seals=MemfdSeals.SHRINK), SharedMemory
        )
        assert_type(MemoryMapping.from_file(memory), MemoryMapping)
    with path.open("r+b") as file:
        assert_type(SharedMemory.from_file(file), SharedMemory)


def memory_of_others(address: int, owner: object) -> None:
    region = unsafe.from_raw_parts(address, Count(), owner=owner)
    assert_type(region, ExternalMapping)
    with region as entered:
        assert_type(entered, ExternalMapping)
    regions: list[MappedRegion] = [region, MemoryMapping.new(1), MemoryMappingArena.new(1)]
    assert_type(regions[0].size, int)
    assert_type(unsafe.new_protection_fixed(address, 4096, Protection.read()), MemoryMapping)
