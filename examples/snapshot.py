"""A snapshot that holds the data of a sparse region and none of its holes, and its way back.

    python examples/snapshot.py save FILE SNAPSHOT
    python examples/snapshot.py restore SNAPSHOT FILE

FILE is a disk image or a machine's memory: large, mostly never written, and at rest meanwhile. The
snapshot holds, packed, the pages that are not zero; what is restored has holes where the original
had them, and where it had pages of zeros.

A page that is not in memory (`residency`) is not therefore a hole: it may be on the disk or in
swap. The file system knows its holes (SEEK_DATA, SEEK_HOLE), and in the rest `is_all_zero` finds
the pages that were written and hold nothing. Holes are not even read, which in shared memory would
fill them with pages of zeros: that is what the residency in the output shows.
"""

import argparse
import errno
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mmapwrap import MappedRegion, MemoryMapping, MmapError, Protection, page_size

MAGIC = b"SNAPSHOT"
HEADER = struct.Struct("<8sqq")  # MAGIC, size of the region, number of ranges
RANGE = struct.Struct("<QQ")  # offset and count of each range; after the last comes their content


class SnapshotError(Exception):
    """The file is no snapshot, or not all of one, or could not be written in full."""


def allocated_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the start and end of each range that is no hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, end


def data_ranges(region: MappedRegion, fd: int) -> list[tuple[int, int]]:
    """Give the offset and count of each range of pages that are not zero."""
    ranges: list[tuple[int, int]] = []
    for start, end in allocated_ranges(fd, region.size):
        for offset in range(start, end, page_size()):
            count = min(page_size(), end - offset)
            if region.is_all_zero(offset, count):
                continue
            if ranges and sum(ranges[-1]) == offset:
                first, length = ranges.pop()
                ranges.append((first, length + count))
            else:
                ranges.append((offset, count))
    return ranges


def save(region: MappedRegion, fd: int, snapshot: Path) -> list[tuple[int, int]]:
    """Write the data of a region, which maps `fd` from its start; returns the ranges written."""
    ranges = data_ranges(region, fd)
    with snapshot.open("wb") as file:
        file.write(HEADER.pack(MAGIC, region.size, len(ranges)))
        for offset, count in ranges:
            file.write(RANGE.pack(offset, count))
        file.flush()
        position = file.tell()
        for offset, count in ranges:
            # From the mapping to the file, with no buffer in between.
            written = region.get_slice(offset, count).write_to_fd(file, file_offset=position)
            position += written
            if written < count:
                raise SnapshotError(f"{snapshot.name} takes no more than {position} bytes")
    return ranges


def read_table(file: BinaryIO) -> tuple[int, list[tuple[int, int]]]:
    """Read what comes before the data: the region's size, and its ranges."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise SnapshotError("this is no snapshot")
    size: int
    number: int
    _, size, number = HEADER.unpack(header)
    ranges: list[tuple[int, int]] = []
    for _ in range(number):
        entry = file.read(RANGE.size)
        if len(entry) < RANGE.size:
            raise SnapshotError("the snapshot ends inside its table")
        offset, count = RANGE.unpack(entry)
        ranges.append((offset, count))
    return size, ranges


def fill(made: BinaryIO, snapshot: BinaryIO) -> list[tuple[int, int]]:
    """Fill a new file from a snapshot; returns the ranges read."""
    size, ranges = read_table(snapshot)
    position = snapshot.tell()
    made.truncate(size)  # one hole
    with MemoryMapping.from_file(made) as region:
        for offset, count in ranges:
            data = region.get_slice(offset, count)
            if data.read_from_fd(snapshot, file_offset=position) < count:
                raise SnapshotError("the snapshot ends inside its data")
            position += count
        region.msync()
    return ranges


def restore(snapshot: Path, target: Path) -> list[tuple[int, int]]:
    """Make a file of what a snapshot holds; returns the ranges read."""
    with snapshot.open("rb") as file, target.open("x+b") as made:
        try:
            return fill(made, file)
        except BaseException:
            target.unlink()  # half a region is none
            raise


def main() -> None:
    """Save or restore, and say what was copied and what was not even read."""
    parser = argparse.ArgumentParser(description="Save and restore the data of a sparse file.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, names in [("save", ["file", "snapshot"]), ("restore", ["snapshot", "file"])]:
        arguments = commands.add_parser(command)
        for name in names:
            arguments.add_argument(name, type=Path)
    args = parser.parse_args()
    try:
        if args.command == "save":
            with (
                args.file.open("rb") as file,
                MemoryMapping.from_file(file, prot=Protection.read()) as region,
            ):
                ranges = save(region, file.fileno(), args.snapshot)
                print(region.residency())
        else:
            ranges = restore(args.snapshot, args.file)
    except (OSError, MmapError, SnapshotError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    size = args.file.stat().st_size
    print(f"{len(ranges)} ranges with {sum(count for _, count in ranges)} of {size} bytes")


if __name__ == "__main__":
    main()
