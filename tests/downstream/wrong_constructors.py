"""Objects made in a wrong way. Type checkers find each line that says `wrong`; nothing runs it."""

import mmap
from pathlib import Path

from mmapwrap import (
    ExternalMapping,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    Protection,
    SharedMemory,
    Sharing,
    VolatileSlice,
    unsafe,
)


def sizes() -> None:
    MemoryMapping.new("4096")  # wrong: type
    MemoryMapping.new(4096.0)  # wrong: type
    MemoryMapping.new(None)  # wrong: type
    MemoryMapping.new()  # wrong: missing
    MemoryMappingArena.new(4096.0)  # wrong: type
    unsafe.from_raw_parts(0, 4096.0)  # wrong: type


def files(path: Path) -> None:
    MemoryMapping.from_fd("file", 4096)  # wrong: type
    MemoryMapping.from_fd(path, 4096)  # wrong: type
    MemoryMapping.from_fd(3)  # wrong: missing
    MemoryMapping.from_file(None)  # wrong: type
    SharedMemory.from_fd("file")  # wrong: type


def options(path: Path) -> None:
    MemoryMapping.new_protection(4096, None, 3)  # wrong: type
    MemoryMapping.from_file(path, prot="r")  # wrong: type
    MemoryMapping.from_file(path, prot=mmap.PROT_READ)  # wrong: type
    MemoryMapping.from_file(path, sharing=mmap.MAP_SHARED)  # wrong: type
    MemoryMapping.from_file(path, access=mmap.ACCESS_READ)  # wrong: keyword
    MemoryMapping.anonymous(4096, sharing=True)  # wrong: type
    MemoryMapping.anonymous(4096, name=b"name")  # wrong: type
    SharedMemory.new(b"name", 4096)  # wrong: type
    SharedMemory.from_fd(3, required_seals=1)  # wrong: type
    Protection.read().allows(1)  # wrong: type


def keywords_by_place(path: Path) -> None:
    MemoryMapping.from_file(path, 4096, 4096)  # wrong: surplus
    MemoryMapping.anonymous(4096, Protection.read())  # wrong: surplus
    MemoryMapping.create(path, 4096, True)  # wrong: surplus
    SharedMemory.new("name", 4096, True)  # wrong: surplus
    SharedMemory.new("name", 4096).map(4096, 0)  # wrong: surplus
    unsafe.from_raw_parts(0, 4096, object())  # wrong: type


def classes_without_a_constructor() -> None:
    MemoryMapping()  # wrong: no-init
    MemoryMapping(5)  # wrong: type
    MemoryMapping(-1, 4096)  # wrong: surplus
    MemoryMapping(path="file")  # wrong: no-init
    MemoryMappingArena()  # wrong: no-init
    MemoryMappingArena(1 << 20)  # wrong: type
    SharedMemory()  # wrong: no-init
    SharedMemory("name", 5)  # wrong: surplus
    VolatileSlice()  # wrong: no-init
    VolatileSlice(3)  # wrong: type
    ExternalMapping()  # wrong: no-init
    ExternalMapping(1, 2)  # wrong: surplus


def seals_of(memory: SharedMemory) -> MemfdSeals:
    memory.add_seals(1)  # wrong: type
    memory.add_seals(Sharing.SHARED)  # wrong: type
    return memory.size  # wrong: return


def subclass_of_mapping() -> None:
    class Other(MemoryMapping): ...  # wrong: final


def subclass_of_arena() -> None:
    class Other(MemoryMappingArena): ...  # wrong: final


def subclass_of_external() -> None:
    class Other(ExternalMapping): ...  # wrong: final


def subclass_of_slice() -> None:
    class Other(VolatileSlice): ...  # wrong: final


def subclass_of_shared_memory() -> None:
    class Other(SharedMemory): ...  # wrong: final
