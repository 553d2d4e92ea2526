"""A plug-in window: addresses reserved once, into which files are mapped and taken out again.

    python examples/plugin_window.py FILE...

A program that shows files to a plug-in (or to a guest, or to a decoder) at addresses that never
change reserves a window of them. The window costs no memory; each file plugged in takes the first
gap that is large enough, read-only; what is taken out leaves a gap, where an access is an error
and no crash. A file cannot go while somebody looks at it.
"""

import argparse
import os
import zlib
from pathlib import Path

from mmapwrap import (
    MemoryMappingArena,
    MmapError,
    Protection,
    ProtectionError,
    Segment,
    ViewsExportedError,
    page_size,
)

MIB = 1 << 20
WINDOW = 1024 * MIB


class WindowFullError(Exception):
    """No gap of the window is as large as the file."""


class Window:
    """A window of `size` bytes, and which file is where in it."""

    def __init__(self, size: int) -> None:
        self.arena = MemoryMappingArena.new(size)
        self.plugged: dict[int, tuple[Path, int]] = {}

    def plug(self, path: Path) -> int:
        """Map a file into the first gap that is large enough, and give its offset."""
        with path.open("rb") as file:  # the mapping needs no open file later
            size = os.fstat(file.fileno()).st_size
            offset = self.gap(size)
            self.arena.add_fd_offset_protection(offset, size, file, 0, Protection.read())
        self.plugged[offset] = path, size
        return offset

    def unplug(self, offset: int) -> None:
        """Take a file out; a ViewsExportedError where somebody looks at it."""
        _, size = self.plugged[offset]
        self.arena.remove(offset, size)
        del self.plugged[offset]

    def gap(self, size: int) -> int:
        """Find room for `size` bytes with an empty page on both sides, and give its offset.

        Who reads past a file's end then meets a gap, and not the next file.
        """
        offset = 0
        for segment in self.arena.segments():
            if segment.offset - offset >= size + page_size():
                return offset
            offset = segment.offset + segment.size + page_size()
        if self.arena.size - offset < size:
            raise WindowFullError(f"no gap of {size} bytes is left")
        return offset

    def checksum(self, offset: int) -> int:
        """Give the CRC of a file in the window, without a copy of it."""
        _, size = self.plugged[offset]
        with self.arena.view(offset, size) as view:
            return zlib.crc32(view)


def describe(segment: Segment, window: Window) -> str:
    """Give a line about a segment: where it is, its access, where in which file it starts."""
    access = ("r" if segment.prot.readable else "-") + ("w" if segment.prot.writable else "-")
    path, _ = window.plugged[segment.offset]
    end = segment.offset + segment.size
    return f"{segment.offset:08x}-{end:08x} {access} {segment.fd_offset} {path.name}"


def show(window: Window, title: str) -> None:
    """Print what is in the window."""
    print(f"{title}:")
    for segment in window.arena.segments():
        print(f"  {describe(segment, window)}")


def main() -> None:
    """Plug files in, take the first one out while it is looked at and when it is not."""
    parser = argparse.ArgumentParser(description="Map files into a window and out again.")
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+")
    window = Window(WINDOW)
    offsets: list[int] = []
    for path in parser.parse_args().files:
        try:
            offsets.append(window.plug(path))
        except (OSError, MmapError, WindowFullError) as error:
            print(f"not plugged in: {path.name}: {error}")
    show(window, "plugged in")
    for offset in offsets:
        print(f"{window.plugged[offset][0].name} has CRC {window.checksum(offset):08x}")
    if not offsets:
        return

    first = offsets[0]
    view = window.arena.view(first, 1)
    try:
        window.unplug(first)
    except ViewsExportedError as error:
        print(f"in use: {error}")
    view.release()
    path, _ = window.plugged[first]
    window.unplug(first)
    show(window, f"without {path.name}")
    try:
        window.arena.read_slice(bytearray(1), first)
    except ProtectionError as error:
        print(f"gap at {first:08x}: {error}")

    assert window.plug(path) == first  # into the gap that it left
    show(window, f"{path.name} again")


if __name__ == "__main__":
    main()
