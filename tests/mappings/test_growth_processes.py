"""Several processes that grow one file at once, and that kill -9 ends at any moment."""

import fcntl
import os
import random
import select
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import growing_process
import pytest
from files import memory_file, opened
from growing_process import BEGINNING, PROCESSES, REPORT, content_of, place_of
from kernel_view import PAGE

from mmapwrap import MemoryMapping

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = 10_000  # each is a growth of a mapping, and of the file where no other one was faster
KILLS = 4 * PROCESSES
AHEAD = 8  # records of one process beyond those of another: so they meet at the file's end


@pytest.fixture(params=["disk", "memfd"])
def grown_fd(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor of a file with the beginning, on a disk or in memory."""
    if request.param == "memfd":
        fd = memory_file(BEGINNING)
        yield fd
        os.close(fd)
        return
    path: Path = request.getfixturevalue("disk_path") / "grown"
    path.write_bytes(BEGINNING)
    with opened(path) as fd:
        yield fd
    assert list(path.parent.iterdir()) == [path]


@attrs.define(eq=False)
class Grower:
    """One of the processes, or its replacement."""

    fd: int
    next: int
    """The record that it has not reported yet."""
    process: subprocess.Popen[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start()

    @property
    def is_done(self) -> bool:
        """Whether all of its records are reported."""
        return self.next >= RECORDS

    @property
    def pipe(self) -> int:
        """The pipe of its reports."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def start(self) -> None:
        """Start a process at the first record that is not reported."""
        arguments = map(str, (self.fd, self.next, RECORDS))
        self.process = subprocess.Popen(
            [sys.executable, growing_process.__file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(self.fd,),
        )
        fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, PAGE)  # who is not read soon waits

    def take(self) -> int:
        """Take reports; 0 where the process has ended."""
        reports = os.read(self.pipe, 32 * REPORT)
        for start in range(0, len(reports), REPORT):
            record = int.from_bytes(reports[start : start + REPORT], "little")
            assert record == self.next
            self.next += PROCESSES
        return len(reports) // REPORT

    def replace(self) -> int:
        """Kill the process, take what it has reported by then, and start another in its place."""
        assert self.process.poll() is None
        self.process.kill()
        taken = 0
        while count := self.take():
            taken += count
        assert self.process.wait() == -9
        self.process.communicate()  # closes the pipes
        self.start()
        return taken

    def end(self) -> None:
        """Wait for the process, which must have found all its arrays right."""
        _, errors = self.process.communicate(timeout=60)
        assert (self.process.returncode, errors.decode()) == (0, "")


@contextmanager
def growing(fd: int) -> Generator[list[Grower]]:
    """Processes that grow a file, for as long as the block takes."""
    growers: list[Grower] = []
    try:
        growers += [Grower(fd, first) for first in range(PROCESSES)]
        yield growers
    finally:
        for grower in growers:
            grower.process.kill()
            grower.process.communicate()


def take_some(growers: list[Grower]) -> int:
    """Wait for reports, but for those of a process that is far ahead of another; take some."""
    slowest = min(grower.next for grower in growers)
    waited = {
        grower.pipe: grower
        for grower in growers
        if not grower.is_done and grower.next < slowest + AHEAD * PROCESSES
    }
    ready, _, _ = select.select(list(waited), [], [], 60)
    assert ready, "the processes hang"
    taken = 0
    for pipe in ready:
        count = waited[pipe].take()
        if count == 0:  # it has ended too early
            waited[pipe].end()
        taken += count
    return taken


def test_ten_thousand_growths_under_arrays_in_three_processes_lose_and_tear_nothing(
    grown_fd: int,
) -> None:
    chance = random.Random(2)
    victims = list(range(PROCESSES)) * (KILLS // PROCESSES)
    chance.shuffle(victims)
    # All of them while each process still has records to write.
    moments = sorted(chance.sample(range(RECORDS * 9 // 10), KILLS))
    capacity = place_of(RECORDS)
    with MemoryMapping.from_file(grown_fd, len(BEGINNING), capacity=capacity) as mapping:
        beginning = mapping.array("u1")
        with growing(grown_fd) as growers:
            reported = 0
            for moment, victim in zip(moments, victims, strict=True):
                while reported < moment:
                    reported += take_some(growers)
                reported += growers[victim].replace()
            while reported < RECORDS:
                reported += take_some(growers)
            for grower in growers:
                grower.end()
        assert reported == RECORDS
        assert mapping.refresh() == os.fstat(grown_fd).st_size == place_of(RECORDS)
        assert beginning.tobytes() == BEGINNING
        assert mapping[: len(BEGINNING)] == BEGINNING
        for record in range(RECORDS):
            start = place_of(record)
            assert mapping[start : place_of(record + 1)] == content_of(record), record
