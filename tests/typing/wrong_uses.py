"""Uses that type checkers must refuse; an ignore that is not needed is an error. Nothing runs it.

Each line has the ignore of each checker that refuses it, with the rule by which it does.
"""

from pathlib import Path

from mmapwrap import (
    Advice,
    DestructiveAdvice,
    Err,
    ExternalMapping,
    MappedRegion,
    MemfdSeals,
    MemoryMapping,
    MemoryMappingArena,
    MmapError,
    Ok,
    Protection,
    Result,
    SharedMemory,
    Sharing,
    VolatileSlice,
    attempt,
    f64,
    u8,
    unsafe,
)


def constructors(path: Path) -> None:
    MemoryMapping.new("4096")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.new(4096.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.new(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.new()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryMapping.new_protection(4096, None, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.from_fd("file", 4096)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.from_fd(path, 4096)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.from_fd(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryMapping.from_file(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.from_file(path, 4096, 4096)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryMapping.from_file(path, prot="r")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.anonymous(4096, Protection.read())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryMapping.anonymous(4096, sharing=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping.anonymous(4096, name=b"name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SharedMemory.new(b"name", 4096)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SharedMemory.new("name", 4096, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SharedMemory.from_fd("file")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SharedMemory.from_fd(3, required_seals=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMappingArena.new(4096.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    unsafe.from_raw_parts(0, 4096.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    unsafe.from_raw_parts(0, 4096, object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def classes_without_a_constructor() -> None:
    MemoryMapping()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryMapping(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryMapping(3, 4096)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    MemoryMapping(path="file")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryMappingArena(1 << 20)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SharedMemory("name", 5)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    VolatileSlice(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ExternalMapping(1, 2)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


def content(region: MappedRegion) -> None:
    _ = region["0"]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    _ = region[0.0]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    _ = region[0, 1]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    region[0] = b"a"  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    region[0:1] = 1  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    region[0:1] = "a"  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    region.view("0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    region.view(0, 1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    region.read_slice(4, 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    region.write_slice("ab", 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    region.find("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def text_of(region: MappedRegion) -> str:
    return region[0:1]  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def numbers(region: MappedRegion) -> None:
    region.read_obj(int, 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    region.read_obj("u8", 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    region.read_obj(u8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    region.write_obj(u8, 1.5, 0)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    region.write_obj(u8, "1", 0)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    region.write_obj(f64, "1.5", 0)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


def many_numbers(part: VolatileSlice) -> None:
    part.load_many(u8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    part.load_many("u8", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    part.load_many(u8, 1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    part.store_many(u8, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    part.store_many(u8, [1.5])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    part.store_many(f64, ["1.5"])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    part.read_exact(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    part.write_all("ab")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def integers_of(part: VolatileSlice) -> list[int]:
    return part.load_many(f64, 1)  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]


def integer_of(region: MappedRegion) -> int:
    return region.read_obj(f64, 0)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def tell(done: int) -> None: ...


def pages(mapping: MemoryMapping, arena: MemoryMappingArena) -> None:
    mapping.advise(DestructiveAdvice.DONTNEED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.advise(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.advise_destructive(Advice.RANDOM)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.protect(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.protect("rw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.msync(mode=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.lock("0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mapping.populate(progress=tell)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    arena.add_anon(0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    arena.add_fd(0, 4096, "file")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    arena.segments()[0].prot = Protection.read()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mapping.size = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mapping.prot = Protection.read()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Protection.read().allows(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def value_of(result: Result[int]) -> int:
    return result.value  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def error_of(result: Result[int]) -> MmapError:
    return result.error  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def text() -> Ok[str]:
    return Ok(1)  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]


def seals_of(memory: SharedMemory) -> MemfdSeals:
    return memory.size  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def files(mapping: MemoryMapping) -> None:
    mapping.open("wb")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    mapping.open("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    mapping.open("rb", 0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    mapping.open(buffering=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    mapping.open(buffering=0).write("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def arrays(mapping: MemoryMapping) -> None:
    mapping.array("u1", 1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    mapping.array("u1", 1, 8)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    mapping.array("u1", 1, order="A")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def outcomes(memory: SharedMemory) -> None:
    attempt(MemoryMapping.new, "4096")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    attempt(MemoryMapping.new)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    attempt(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Err(ValueError("no error of the library"))  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    memory.add_seals(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    memory.add_seals(Sharing.SHARED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def subclass_of_mapping() -> None:
    class Other(MemoryMapping): ...  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues, reportUnusedClass]


def subclass_of_arena() -> None:
    class Other(MemoryMappingArena): ...  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues, reportUnusedClass]


def subclass_of_external() -> None:
    class Other(ExternalMapping): ...  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues, reportUnusedClass]


def subclass_of_slice() -> None:
    class Other(VolatileSlice): ...  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues, reportUnusedClass]


def subclass_of_shared_memory() -> None:
    class Other(SharedMemory): ...  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues, reportUnusedClass]
