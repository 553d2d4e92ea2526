"""The header of an ELF file, read through a mapping and patched in place.

    python examples/patch_header.py FILE [--entry ADDRESS] [--type NUMBER]

Only the header's bytes are mapped, in a file of whatever size. What the header says of itself
decides how the rest of it is read: e_ident has the width of an address and the byte order. A
patch is on the disk when the program ends; nothing else in the file is touched or copied.
"""

import argparse
import sys
from pathlib import Path

import attrs

from mmapwrap import (
    InvalidArgumentError,
    MemoryMapping,
    MmapError,
    PastEndOfFileError,
    Protection,
    Scalar,
    be_u16,
    be_u32,
    be_u64,
    le_u16,
    le_u32,
    le_u64,
)

# Of e_ident, which is bytes and the same in all files.
MAGIC = b"\x7fELF"
EI_CLASS, EI_DATA, EI_NIDENT = 4, 5, 16
# From there on numbers, in the byte order that EI_DATA says.
E_TYPE, E_MACHINE, E_VERSION, E_ENTRY = 16, 18, 20, 24
SIZE_OF_CLASS = {1: 52, 2: 64}
TYPES = {1: "relocatable", 2: "executable", 3: "shared object", 4: "core dump"}

HALF = {1: le_u16, 2: be_u16}
WORD = {1: le_u32, 2: be_u32}
ADDRESS = {(1, 1): le_u32, (1, 2): be_u32, (2, 1): le_u64, (2, 2): be_u64}


class NotElfError(Exception):
    """The file does not start with the header of an ELF file."""


@attrs.frozen(eq=False)
class ElfHeader:
    """The header in a mapping, and the numbers that it is made of."""

    mapping: MemoryMapping
    half: Scalar[int]
    word: Scalar[int]
    address: Scalar[int]

    @classmethod
    def of_file(cls, path: Path, prot: Protection) -> "ElfHeader":
        """Map the header of a file."""
        try:
            with MemoryMapping.from_file(path, EI_NIDENT, prot=Protection.read()) as ident:
                kind, order = ident[EI_CLASS], ident[EI_DATA]
                if ident[: len(MAGIC)] != MAGIC or (kind, order) not in ADDRESS:
                    raise NotElfError(f"{path.name} does not start as an ELF file does")
            mapping = MemoryMapping.from_file(path, SIZE_OF_CLASS[kind], prot=prot)
        except PastEndOfFileError as error:
            raise NotElfError(f"{path.name} has only {error.file_size} bytes") from error
        return cls(mapping, HALF[order], WORD[order], ADDRESS[kind, order])

    @property
    def type(self) -> int:
        """What kind of file it is."""
        return self.mapping.read_obj(self.half, E_TYPE)

    @property
    def machine(self) -> int:
        """The processor that it is for."""
        return self.mapping.read_obj(self.half, E_MACHINE)

    @property
    def version(self) -> int:
        """The version of the format: 1."""
        return self.mapping.read_obj(self.word, E_VERSION)

    @property
    def entry(self) -> int:
        """The address where the program starts."""
        return self.mapping.read_obj(self.address, E_ENTRY)

    def patch(self, entry: int | None, kind: int | None) -> None:
        """Change what is given, all of it or nothing, and wait until it is on the disk."""
        before = self.mapping[:]
        try:
            if entry is not None:
                self.mapping.write_obj(self.address, entry, E_ENTRY)
            if kind is not None:
                self.mapping.write_obj(self.half, kind, E_TYPE)
        except InvalidArgumentError:  # a number that the field cannot hold
            self.mapping[:] = before
            raise
        self.mapping.msync()

    def __str__(self) -> str:
        kind = TYPES.get(self.type, "unknown")
        return (
            f"{8 * self.address.size} bits, version {self.version}, type {self.type} ({kind}), "
            f"machine {self.machine}, entry {self.entry:#x}"
        )


def main() -> None:
    """Print a header, and patch it where that is asked for."""
    parser = argparse.ArgumentParser(description="Show the header of an ELF file, and patch it.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--entry", type=lambda text: int(text, 0), help="a new entry address")
    parser.add_argument("--type", type=lambda text: int(text, 0), help="a new file type")
    args = parser.parse_args()
    patches = args.entry is not None or args.type is not None
    try:
        prot = Protection.read_write() if patches else Protection.read()
        header = ElfHeader.of_file(args.file, prot)
        with header.mapping:
            print(f"{args.file.name}: {header}")
            if patches:
                header.patch(args.entry, args.type)
                print(f"patched: {header}")
    except (NotElfError, MmapError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
