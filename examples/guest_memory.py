"""The memory of a virtual machine: one sealed memfd, cut into regions at guest addresses.

    python examples/guest_memory.py [KERNEL]

A machine with 3 GiB of memory has 2 GiB of it at address 0 and 1 GiB above 4 GiB; between them is a
hole, where its devices are. The program loads a file as a kernel, leaves boot parameters for it,
and then does what a device does: it follows an address that the guest gave it. An access that is
not all in memory is a HoleError, which is the guest's mistake and not this program's.

The memfd is what a device in another process would get. It is sealed, so that nobody who has it can
cut the memory away; pages that nobody has touched cost nothing.
"""

import argparse
import os
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import attrs

from mmapwrap import (
    MemfdSeals,
    MemoryMapping,
    NotPageAlignedError,
    Scalar,
    SharedMemory,
    VolatileSlice,
    le_u32,
    le_u64,
    page_size,
)

N = TypeVar("N", int, float)

MIB, GIB = 1 << 20, 1 << 30
HUGE_PAGE = 2 * MIB
SEALS = MemfdSeals.SHRINK | MemfdSeals.GROW | MemfdSeals.SEAL

RAM = [(0, 2 * GIB), (4 * GIB, 1 * GIB)]
BOOT_PARAMETERS = 0x7000  # magic u32, version u32, address of the kernel u64, its size u64
KERNEL = 1 * MIB
MAGIC = 0x544F4F42


@attrs.define(str=True)
class HoleError(LookupError):
    """An access by the guest to `count` bytes at `address` that are not all memory."""

    address: int
    count: int


@attrs.define(str=True)
class OverlapError(ValueError):
    """A region at `address` that starts inside the one before it."""

    address: int


@attrs.frozen(eq=False)
class GuestRegion:
    """A range of guest addresses that is memory."""

    address: int
    mapping: MemoryMapping

    @property
    def end(self) -> int:
        """The first guest address after the region."""
        return self.address + self.mapping.size


class GuestMemory:
    """All of a machine's memory, by guest address.

    Args:
        ranges: The guest address and size of each region, in bytes and in whole pages.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        joined = join_neighbours(ranges)
        self.memory = SharedMemory.new("guest", sum(size for _, size in joined))
        self.memory.add_seals(SEALS)
        self.regions: list[GuestRegion] = []
        offset = 0
        for address, size in joined:
            # Aligned, so that huge pages can back it where the kernel has them for shared memory.
            mapping = MemoryMapping.from_file(self.memory, size, offset=offset, align=HUGE_PAGE)
            self.regions.append(GuestRegion(address, mapping))
            offset += size
        self._addresses = [region.address for region in self.regions]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for region in self.regions:
            region.mapping.close()
        self.memory.close()

    def find(self, address: int, count: int) -> tuple[MemoryMapping, int]:
        """Give the mapping that holds all of a range of guest addresses, and where in it."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or count < 0 or address + count > self.regions[index].end:
            raise HoleError(address, count)
        return self.regions[index].mapping, address - self.regions[index].address

    def read_obj(self, scalar: Scalar[N], address: int) -> N:
        """Read a number."""
        mapping, offset = self.find(address, scalar.size)
        return mapping.read_obj(scalar, offset)

    def write_obj(self, scalar: Scalar[N], value: N, address: int) -> None:
        """Write a number."""
        mapping, offset = self.find(address, scalar.size)
        mapping.write_obj(scalar, value, offset)

    def read(self, address: int, count: int) -> bytes:
        """Read bytes: all of them, or it is a HoleError."""
        mapping, offset = self.find(address, count)
        return mapping[offset : offset + count]

    def write(self, data: bytes, address: int) -> None:
        """Write bytes: all of them, or it is a HoleError and nothing was written."""
        mapping, offset = self.find(address, len(data))
        mapping.write_slice(data, offset)

    def get_slice(self, address: int, count: int) -> VolatileSlice:
        """Give a range itself, for a device to fill while the guest runs."""
        mapping, offset = self.find(address, count)
        return mapping.get_slice(offset, count)


def join_neighbours(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Put ranges in order, and make one of those that touch: between them is no hole."""
    joined: list[tuple[int, int]] = []
    for address, size in sorted(ranges):
        for number in (address, size):
            if number % page_size():
                raise NotPageAlignedError(number, page_size())
        end = sum(joined[-1]) if joined else -1
        if address < end:
            raise OverlapError(address)
        if address == end:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        else:
            joined.append((address, size))
    return joined


def load_kernel(guest: GuestMemory, kernel: Path) -> None:
    """Read a file into guest memory, with no buffer in between, and say where it is."""
    with kernel.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        loaded = guest.get_slice(KERNEL, size).read_from_fd(file)
    guest.write_obj(le_u32, MAGIC, BOOT_PARAMETERS)
    guest.write_obj(le_u32, 1, BOOT_PARAMETERS + 4)
    guest.write_obj(le_u64, KERNEL, BOOT_PARAMETERS + 8)
    guest.write_obj(le_u64, loaded, BOOT_PARAMETERS + 16)


def main() -> None:
    """Set up a machine's memory, and access it as the guest and its devices do."""
    parser = argparse.ArgumentParser(description="Load a file into the memory of a machine.")
    parser.add_argument("kernel", type=Path, nargs="?", default=Path("/proc/self/exe"))
    with GuestMemory(RAM) as guest:
        for region in guest.regions:
            print(f"memory at {region.address:#x}-{region.end:#x}")
        load_kernel(guest, parser.parse_args().kernel)

        address = guest.read_obj(le_u64, BOOT_PARAMETERS + 8)
        size = guest.read_obj(le_u64, BOOT_PARAMETERS + 16)
        print(f"kernel of {size} bytes at {address:#x}: {guest.read(address, 8).hex()}")

        guest.write(b"high", 4 * GIB)  # the other region, in the same memfd
        with MemoryMapping.from_file(guest.memory, 4, offset=2 * GIB) as elsewhere:
            print(f"another mapping of the memfd reads {elsewhere[:]!r}")

        for bad, count in [(3 * GIB, 4), (2 * GIB - 2, 4), (5 * GIB, 1)]:
            try:
                guest.read(bad, count)
            except HoleError as error:
                print(f"hole: {error.count} bytes at {error.address:#x}")

        seals = guest.memory.get_seals()
        print(f"seals: {', '.join(str(seal.name) for seal in seals)}")
        used = os.fstat(guest.memory.fileno()).st_blocks * 512
        print(f"{guest.memory.size // MIB} MiB of memory, {-(-used // 1024)} KiB in use")


if __name__ == "__main__":
    main()
