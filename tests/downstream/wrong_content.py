"""Wrong uses of content. Type checkers find each line that says `wrong`; nothing runs it."""

from mmapwrap import MappedRegion, MemoryMapping, Scalar, VolatileSlice, f32, f64, u8, u32


def content(region: MappedRegion) -> None:
    _ = region["0"]  # wrong: index
    _ = region[0.0]  # wrong: index
    _ = region[0, 1]  # wrong: index
    region[0] = b"a"  # wrong: item
    region[0:1] = 1  # wrong: item
    region[0:1] = "a"  # wrong: item
    region.view("0")  # wrong: type
    region.view(0, 1.0)  # wrong: type
    region.read_slice(4, 0)  # wrong: type
    region.read_slice(b"read-only", "0")  # wrong: type
    region.write_slice("ab", 0)  # wrong: type
    region.find("a")  # wrong: type


def text_of(region: MappedRegion) -> str:
    return region[0:1]  # wrong: return


def byte_of(region: MappedRegion) -> bytes:
    return region[0]  # wrong: return


def numbers(region: MappedRegion) -> None:
    region.read_obj(int, 0)  # wrong: options
    region.read_obj("u8", 0)  # wrong: options
    region.read_obj(u8)  # wrong: options
    region.write_obj(u8, 1.5, 0)  # wrong: number
    region.write_obj(u8, "1", 0)  # wrong: options
    region.write_obj(u32, b"abcd", 0)  # wrong: options
    region.write_obj(f64, "1.5", 0)  # wrong: options
    region.write_obj_volatile(u32, 1.0, 0)  # wrong: number


def numbers_of_any_type(region: MappedRegion, scalar: Scalar[int] | Scalar[float]) -> None:
    region.write_obj(scalar, 1.5, 0)  # wrong: number


def numbers_of_slices(part: VolatileSlice) -> None:
    part.store(u8, 1.5)  # wrong: number
    part.load_many(u8)  # wrong: options
    part.load_many("u8", 1)  # wrong: options
    part.load_many(u8, 1.0)  # wrong: options
    part.store_many(u8, 1)  # wrong: options
    part.store_many(u8, [1.5])  # wrong: number
    part.store_many(f64, ["1.5"])  # wrong: number
    part.read_exact(4)  # wrong: type
    part.write_all("ab")  # wrong: type


def integers_of(part: VolatileSlice) -> list[int]:
    return part.load_many(f64, 1)  # wrong: return


def integer_of(region: MappedRegion) -> int:
    return region.read_obj(f32, 0)  # wrong: return


def files(mapping: MemoryMapping) -> None:
    mapping.open("wb")  # wrong: options
    mapping.open("r")  # wrong: options
    mapping.open("rb", 0)  # wrong: options
    mapping.open(buffering=None)  # wrong: options
    mapping.open(buffering=0).write("text")  # wrong: type


def arrays(mapping: MemoryMapping) -> None:
    mapping.array("u1", 1.5)  # wrong: options
    mapping.array("u1", 1, 8)  # wrong: options
    mapping.array("u1", 1, order="A")  # wrong: options
