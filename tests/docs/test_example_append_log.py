"""The append-only log of examples/: what `append` has returned for is there, whole and in order."""

import fcntl
import random
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from kernel_view import PAGE, child

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDS, KILLS = 10_000, 20

# What all processes know: the payload of a record by its number.
PAYLOADS = """
import os, random, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from append_log import LogError, LogReader, LogWriter

def payload_of(number):
    return number.to_bytes(8, "little") + random.Random(number).randbytes(number % 150)

path = Path(sys.argv[2])
"""

WRITER = """
writer = LogWriter(path, chunk=4096)
os.write(1, writer.count.to_bytes(8, "little"))
for number in range(writer.count, int(sys.argv[3])):
    writer.append(payload_of(number))
    os.write(1, (number + 1).to_bytes(8, "little"))
"""

READER = """
import numpy

reader = LogReader(path)
address, arrays = reader.mapping.as_ptr(), []
while len(arrays) < int(sys.argv[3]):
    for payload in reader.read():
        array = numpy.frombuffer(payload, "u1")
        assert array.tobytes() == payload_of(len(arrays)), f"record {len(arrays)} as it came"
        arrays.append(array)
    time.sleep(0.001)
assert reader.mapping.as_ptr() == address
for number, array in enumerate(arrays):
    assert array.tobytes() == payload_of(number), f"record {number} at the end"
"""


@contextmanager
def started(
    program: str, log: Path, records: int, stdin: int = subprocess.DEVNULL
) -> Generator[subprocess.Popen[bytes]]:
    """Run a program on a log beside the block; it is gone when the block ends."""
    command: Sequence[object] = (sys.executable, "-c", PAYLOADS + program, EXAMPLES, log, records)
    with subprocess.Popen(
        list(map(str, command)), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a program that must end well."""
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def counts_of(process: subprocess.Popen[bytes], most: int) -> list[int]:
    """Read what a writer says it has appended, until it is so much or the writer ends."""
    assert process.stdout is not None
    counts: list[int] = []
    while (not counts or counts[-1] < most) and (report := process.stdout.read(8)):
        counts.append(int.from_bytes(report, "little"))
    return counts


def test_append_log_writer_killed_at_any_moment_loses_nothing_and_readers_keep_their_arrays(
    disk_path: Path,
) -> None:
    log = disk_path / "log"
    log.touch()  # for the readers, who start before there is a record
    stops = sorted(random.Random(1).sample(range(1, RECORDS - 1000), KILLS))
    with started(READER, log, RECORDS) as first, started(READER, log, RECORDS) as second:
        reported = 0
        for stop in (*stops, RECORDS):
            with started(WRITER, log, RECORDS) as writer:
                assert writer.stdout is not None
                fcntl.fcntl(writer.stdout, fcntl.F_SETPIPE_SZ, PAGE)  # it is never far ahead
                counts = counts_of(writer, max(stop, reported + 1))
                # The record whose report did not come may be there, and nothing else.
                assert counts, writer.communicate()
                assert counts[0] in (reported, reported + 1)
                if stop < RECORDS:
                    writer.kill()
                    counts += counts_of(writer, RECORDS + 1)
                else:
                    ended(writer)
            assert counts == list(range(counts[0], counts[-1] + 1))
            reported = counts[-1]
        assert reported == RECORDS
        ended(first)
        ended(second)
    child(
        PAYLOADS
        + """
payloads = [bytes(payload) for payload in LogReader(path).read()]
assert payloads == list(map(payload_of, range(int(sys.argv[3]))))
""",
        EXAMPLES,
        log,
        RECORDS,
    ).succeeded_silently()
    assert sorted(disk_path.iterdir()) == [log]


# --- One process --------------------------------------------------------------------------------


def child_with_log(program: str, log: Path) -> str:
    """Run a program that can make a log at `path`; returns its output."""
    start = """
from mmapwrap import MemoryMapping, le_u32, le_u64
from append_log import END, FIRST, record_size

def written(*payloads):
    writer = LogWriter(path, chunk=4096)
    for payload in payloads:
        writer.append(payload)
    writer.close()
    return writer

def read():
    return [bytes(payload) for payload in LogReader(path).read()]

def fails(expected, function, *arguments):
    try:
        function(*arguments)
    except expected as error:
        return str(error)
    raise AssertionError(f"no {expected.__name__}")
"""
    return child(PAYLOADS + start + program, EXAMPLES, log).succeeded()


def test_append_log_records_of_any_length_are_read_in_order_also_after_reopening(
    tmp_path: Path,
) -> None:
    child_with_log(
        """
payloads = [b"", b"a", b"12345678", b"", bytes(8), b"x" * 10_000, b"last"]
assert written(*payloads[:3]).count == 3
assert read() == payloads[:3]
assert written(*payloads[3:]).count == 7
assert read() == payloads
""",
        tmp_path / "log",
    )


def test_append_log_record_that_was_not_committed_is_not_there(tmp_path: Path) -> None:
    child_with_log(
        """
end = written(b"first", b"second").end
with MemoryMapping.from_file(path) as log:
    log.write_obj(le_u64, end - record_size(6), END)
assert read() == [b"first"]
written(b"2nd")
assert read() == [b"first", b"2nd"]
assert path.read_bytes()[end:] == bytes(path.stat().st_size - end)
""",
        tmp_path / "log",
    )


@pytest.mark.parametrize("damage", ["payload", "length", "zeros", "cut"])
def test_append_log_ends_before_the_first_record_that_is_not_whole(
    tmp_path: Path, damage: str
) -> None:
    child_with_log(
        f"""
written(b"first", b"second", b"x" * 5000)
second = FIRST + record_size(5)
third = second + record_size(6)
with MemoryMapping.from_file(path) as log:
    match {damage!r}:
        case "payload":
            log[second + 8] = 0
        case "length":
            log.write_obj(le_u32, 2**32 - 1, second)
        case "zeros":
            log[second:] = bytes(log.size - second)
        case _:
            os.truncate(path, third - 1)
assert read() == [b"first"]
assert written(b"new").count == 2
assert read() == [b"first", b"new"]
""",
        tmp_path / "log",
    )


def test_append_log_that_is_being_written_is_refused_to_another_writer(tmp_path: Path) -> None:
    child_with_log(
        """
writer = LogWriter(path)
writer.append(b"first")
fails(BlockingIOError, LogWriter, path)
writer.close()
assert written(b"second").count == 2
""",
        tmp_path / "log",
    )


def test_append_log_does_not_touch_a_file_that_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"This is a text, and no log.\n")
    child_with_log(
        'assert fails(LogError, LogWriter, path).endswith("is no log")', tmp_path / "text"
    )
    assert (tmp_path / "text").read_bytes() == b"This is a text, and no log.\n"


def test_append_log_on_a_full_disk_appends_nothing_and_goes_on(small_filesystem: Path) -> None:
    child_with_log(
        """
from mmapwrap import NoSpaceError

writer = LogWriter(path, chunk=4096)
writer.append(b"first")
fails(NoSpaceError, writer.append, b"x" * 100_000)
writer.append(b"second")
assert read() == [b"first", b"second"]
""",
        small_filesystem / "log",
    )


def test_append_log_command_line_appends_lines_and_prints_them(tmp_path: Path) -> None:
    def run(action: str, text: str = "") -> list[str]:
        ended = subprocess.run(
            [sys.executable, EXAMPLES / "append_log.py", action, tmp_path / "log"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout.splitlines()

    assert run("write", "first\n\n") == [
        "0 records were there",
        "2 records are there and on the disk",
    ]
    assert run("write", "third")[0] == "2 records were there"
    assert run("read") == ["first", "", "third"]
