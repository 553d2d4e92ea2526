"""Count the records that processes lose which grow one file at once; see docs/growth.md.

    python tools/growth_loss.py FOLDER [--record BYTES] [--whole-pages] [--runs N] [--seconds S]

Four processes append records through mappings, each in places of its own, and make the file longer
where their next record does not fit. Afterwards each record is looked for in the file.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from mmapwrap import MemoryMapping, page_size

PROCESSES: Final = 4
CAPACITY: Final = 1 << 34


def record(process: int, number: int, size: int) -> bytes:
    """Return the content of a record."""
    return bytes([(process + 1) * 10 + number % 10]) * size


def append(path: Path, process: int, size: int, seed: int, *, pages: bool, seconds: float) -> int:
    """Append records until the time is up; return their number."""
    choice = random.Random(f"{seed} {process}")  # noqa: S311
    end, number = time.monotonic() + seconds, 0
    with MemoryMapping.from_file(path, capacity=CAPACITY) as mapping:
        while time.monotonic() < end:
            place = (number * PROCESSES + process) * size
            if mapping.size < place + size and choice.random() < 0.5:
                mapping.refresh()
            if mapping.size < place + size:
                length = place + size + choice.randrange(3 * size)
                if pages:
                    length = -(-length // page_size()) * page_size()
                mapping.resize(length, allocate=choice.random() < 0.5)
            mapping.write_all(record(process, number, size), place)
            number += 1
    return number


def run(folder: Path, size: int, seed: int, *, pages: bool, seconds: float) -> tuple[int, int]:
    """Let the processes append to a new file; return the records lost and those written."""
    path = folder / f"run-{seed}"
    MemoryMapping.create(path, page_size() if pages else size).close()
    readers: list[int] = []
    for process in range(PROCESSES):
        reader, writer = os.pipe()
        if os.fork() == 0:
            status = 1
            try:
                number = append(path, process, size, seed, pages=pages, seconds=seconds)
                os.write(writer, str(number).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        readers.append(reader)
    numbers = [int(os.read(reader, 100)) for reader in readers]
    for reader in readers:
        os.close(reader)
        os.wait()
    content = path.read_bytes()
    path.unlink()
    lost = 0
    for process, number in enumerate(numbers):
        for each in range(number):
            place = (each * PROCESSES + process) * size
            lost += content[place : place + size] != record(process, each, size)
    return lost, sum(numbers)


def main() -> None:
    """Run as often as asked for, and print the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", type=int, default=1000, metavar="BYTES")
    parser.add_argument("--whole-pages", action="store_true", help="grow by whole pages")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = [
            run(
                Path(folder),
                options.record,
                seed,
                pages=options.whole_pages,
                seconds=options.seconds,
            )
            for seed in range(options.runs)
        ]
    lost, written = (sum(counts) for counts in zip(*results, strict=True))
    runs = sum(each > 0 for each, _ in results)
    sys.stdout.write(f"{lost} of {written} records lost, in {runs} of {len(results)} runs\n")


if __name__ == "__main__":
    main()
