"""One of the processes that grow one file at once, each for records of its own; a program.

Its arguments: a descriptor of the file, the first record to write, and the number of all records.
It says each record that it has written on standard output.
"""

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import numpy
from kernel_view import PAGE, known_bytes

from mmapwrap import MemoryMapping, Protection

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROCESSES: Final = 3
BEGINNING: Final = known_bytes(3 * PAGE + 8)
"""What the file has before anybody grows it."""
RECORD: Final = 512
REPORT: Final = 256
"""The bytes of a report: a pipe of one page is soon full, so that no process gets far ahead."""


def place_of(record: int) -> int:
    """The offset of a record; the file is so long when the record before it is there."""
    return len(BEGINNING) + record * RECORD


def content_of(record: int) -> bytes:
    """The bytes of a record: its number, counted from 1, in each word."""
    return (record + 1).to_bytes(8, "little") * (RECORD // 8)


def write_records(fd: int, first: int, records: int) -> None:
    """Grow a mapping record by record, with arrays over all that it has, and write the records."""
    size = place_of(max(first - PROCESSES + 1, 0))
    capacity = place_of(records) + PAGE
    mapping = MemoryMapping.from_file(fd, size, capacity=capacity)
    reader = MemoryMapping.from_file(fd, size, prot=Protection.read(), capacity=capacity)
    places = mapping.as_ptr(), reader.as_ptr()
    beginnings = [region.array("u1", len(BEGINNING)) for region in (mapping, reader)]
    arrays: list[tuple[int, NDArray[Any]]] = []
    for record in range(first, records, PROCESSES):
        start, half = place_of(record), RECORD // 2
        mapping.resize(start + RECORD)
        mapping[start : start + half] = content_of(record)[:half]
        array = mapping.array("<u8", RECORD // 8, offset=start)
        array[half // 8 :] = record + 1
        arrays.append((record, array))
        os.write(1, record.to_bytes(REPORT, "little"))
        if record % 16 == 0:
            assert reader.refresh() >= start + RECORD, f"the file is cut after record {record}"
            arrays.append((record, reader.array("<u8", RECORD // 8, offset=start)))
    assert (mapping.as_ptr(), reader.as_ptr()) == places
    assert all(numpy.array_equal(array, list(BEGINNING)) for array in beginnings)
    for record, array in arrays:
        assert array.tobytes() == content_of(record), f"record {record} at the end"


if __name__ == "__main__":
    write_records(*map(int, sys.argv[1:]))
