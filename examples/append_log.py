"""An append-only log in a file that grows: what `append` has returned for outlives kill -9.

    python examples/append_log.py write LOG < LINES
    python examples/append_log.py read LOG

A header holds the end of the committed records; each record is its length, a CRC and the payload.
`append` makes the file longer where it has to, then writes the record, then stores the new end: a
single store, so that the record is there or is not. Nothing else is needed against kill -9, since
the memory is the page cache's, which outlives the process. Against a power cut there is `sync`, and
a writer that opens the log keeps the records up to the first one whose CRC is wrong.

Readers, in any number of processes, follow by `refresh`. Up to the capacity nothing moves, so that
the views they got stay valid, and so do arrays over them, while the log grows. A processor that
may show the end before the record (not x86-64) makes a CRC wrong for a moment: the reader stops
before that record, and has it the next time.
"""

import argparse
import fcntl
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmapwrap import AlreadyExistsError, MemoryMapping, Protection, le_u32, le_u64

MAGIC = 0x31_47_4F_4C_57_50_4D_4D  # "MMPWLOG1"
END, FIRST = 8, 16  # after the magic number: the end of the records, then the records
PAYLOAD = 8  # in a record, after its length and its CRC
CAPACITY = 1 << 36  # addresses, which cost nothing
CHUNK = 1 << 20


class LogError(Exception):
    """The file is no log."""


def crc_of(payload: bytes | memoryview) -> int:
    """Return the CRC of a length and a payload: that of zeros is not zero."""
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little")))


def record_size(length: int) -> int:
    """Return the bytes of a record: payloads start on multiples of 8, as arrays like it."""
    return -(-(PAYLOAD + length) // 8) * 8


def record_at(mapping: MemoryMapping, position: int, end: int) -> memoryview | None:
    """Return a view of the payload of a record; None if no whole one is there before the end."""
    if position + PAYLOAD > end:
        return None
    length = mapping.read_obj(le_u32, position)
    if position + record_size(length) > end:
        return None
    payload = mapping.view(position + PAYLOAD, length)
    return payload if crc_of(payload) == mapping.read_obj(le_u32, position + 4) else None


class LogReader:
    """Follow a log. The file may still be empty."""

    def __init__(self, path: Path) -> None:
        self.mapping = MemoryMapping.from_file(path, prot=Protection.read(), capacity=CAPACITY)
        self.position = FIRST

    def read(self) -> Iterator[memoryview]:
        """Yield the payloads that are new since the last call, as views of the file itself."""
        if self.mapping.size < FIRST and self.mapping.refresh() < FIRST:
            return
        end = self.mapping.read_obj_volatile(le_u64, END)
        if end > self.mapping.size:
            end = min(end, self.mapping.refresh())
        while (payload := record_at(self.mapping, self.position, end)) is not None:
            self.position += record_size(len(payload))
            yield payload


class LogWriter:
    """Open or create a log, and keep its whole records; a BlockingIOError where another writes."""

    def __init__(self, path: Path, chunk: int = CHUNK) -> None:
        try:
            self.mapping = MemoryMapping.create(path, 0, capacity=CAPACITY)
        except AlreadyExistsError:
            self.mapping = MemoryMapping.from_file(path, capacity=CAPACITY)
        self._lock = path.open("rb")  # the kernel gives it back however the process ends
        self._chunk = chunk
        self.end, self.count = FIRST, 0
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover(path)
        except BaseException:
            self.close()
            raise

    def _recover(self, path: Path) -> None:
        """Find the end of the whole records, and clear what an `append` that was cut off left."""
        if self.mapping.refresh() < FIRST:
            self.mapping.resize(self._chunk)
        if self.mapping.is_all_zero():
            self.mapping.write_obj(le_u64, MAGIC, 0)
        if self.mapping.read_obj(le_u64, 0) != MAGIC:
            raise LogError(f"{path} is no log")
        committed = min(self.mapping.read_obj(le_u64, END), self.mapping.size)
        while (payload := record_at(self.mapping, self.end, committed)) is not None:
            self.end += record_size(len(payload))
            self.count += 1
        self.mapping.write_obj_volatile(le_u64, self.end, END)
        self.mapping.get_slice(self.end, self.mapping.size - self.end).write_bytes(0)

    def append(self, payload: bytes) -> None:
        """Append a record: all of it or, where the disk is full, nothing."""
        start, end = self.end, self.end + record_size(len(payload))
        if end > self.mapping.size:
            self.mapping.resize(-(-end // self._chunk) * self._chunk)
        self.mapping[start + PAYLOAD : start + PAYLOAD + len(payload)] = payload
        self.mapping.write_obj(le_u32, len(payload), start)
        self.mapping.write_obj(le_u32, crc_of(payload), start + 4)
        self.mapping.write_obj_volatile(le_u64, end, END)
        self.end, self.count = end, self.count + 1

    def sync(self) -> None:
        """Wait until all records are on the disk, where they outlive the machine too."""
        self.mapping.msync()

    def close(self) -> None:
        """Let another process write; views and readers go on."""
        self.mapping.close()
        self._lock.close()


def main() -> None:
    """Append the lines of standard input to a log, or print all of a log."""
    parser = argparse.ArgumentParser(description="Keep lines in a log that outlives kill -9.")
    parser.add_argument("action", choices=["write", "read"])
    parser.add_argument("log", type=Path)
    args = parser.parse_args()
    if args.action == "read":
        for payload in LogReader(args.log).read():
            print(bytes(payload).decode())
        return
    writer = LogWriter(args.log)
    print(f"{writer.count} records were there", flush=True)
    for line in sys.stdin:
        writer.append(line.rstrip("\n").encode())
    writer.sync()
    print(f"{writer.count} records are there and on the disk")
    writer.close()


if __name__ == "__main__":
    main()
