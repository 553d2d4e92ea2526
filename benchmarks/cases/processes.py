"""What takes processes: sharing memory, passing messages, importing, and what a mapping keeps."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from multiprocessing import shared_memory
from pathlib import Path

from benchmarks.bench import MIB, Bench
from benchmarks.case import Case, Peer, Unit, itself, more, speed, times
from benchmarks.timing import Measure
from mmapwrap import SharedMemory

EXAMPLES = Path(__file__).parents[2] / "examples"
BATCH = 256


def run(program: str, *arguments: object) -> str:
    """Run a program in a fresh interpreter, and give what it prints."""
    command = [sys.executable, "-P", "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


# --- Shared memory ------------------------------------------------------------------------------


def share() -> None:
    """Create shared memory, map it, and let go of it."""
    with SharedMemory.new("bench", MIB) as memory, memory.map():
        pass


def share_by_name() -> None:
    """Do the same with multiprocessing, which maps what it creates and removes it when told."""
    memory = shared_memory.SharedMemory(create=True, size=MIB)
    memory.close()
    memory.unlink()


@contextmanager
def shared(bench: Bench) -> Generator[tuple[Measure, ...]]:
    """Create shared memory, map it and close it."""
    yield (
        bench.timed("share()", share=share),
        bench.timed("share()", share=share_by_name),
    )


# --- Messages -----------------------------------------------------------------------------------

EXCHANGE = """
import argparse, multiprocessing, sys
folder, way, count, batch = sys.argv[1:]
sys.path.insert(0, folder)
import ring_buffer as example
args = argparse.Namespace(count=int(count), batch=int(batch))
if way == "ring":
    ends = example.make_ring(8192, 64)
    rate = example.exchange(example.send_all, example.receive_all, ends, args)
else:
    reading, writing = multiprocessing.Pipe(duplex=False)
    ends = writing, reading
    rate = example.exchange(example.send_all_by_pipe, example.receive_all_by_pipe, ends, args)
print(1 / rate)
"""

# What a pipe does with a batch of messages as one, which are made and checked alike.
BLOCKS = """
import multiprocessing, os, sys, time
folder, count, batch = sys.argv[1], *map(int, sys.argv[2:])
sys.path.insert(0, folder)
from ring_buffer import message_of
reading, writing = multiprocessing.Pipe(duplex=False)
if os.fork() == 0:
    reading.close()
    for first in range(0, count, batch):
        writing.send_bytes(b"".join([message_of(n) for n in range(first, first + batch)]))
    os._exit(0)
writing.close()
start, received = 0.0, 0
while received < count:
    block = reading.recv_bytes()
    start = start or time.perf_counter()
    messages = [block[at : at + 64] for at in range(0, len(block), 64)]
    following = received + len(messages)
    assert messages == [message_of(n) for n in range(received, following)]
    received = following
print((time.perf_counter() - start) / received)
os.wait()
"""


@contextmanager
def messages(bench: Bench, batch: int) -> Generator[tuple[Measure, ...]]:
    """Pass messages of 64 bytes from one process to another: the time of one message."""
    count = 100_000 if bench.is_quick else 400_000

    def exchange(way: str) -> float:
        return float(run(EXCHANGE, EXAMPLES, way, count, batch).split()[-1])

    ring, pipe = partial(exchange, "ring"), partial(exchange, "pipe")
    if batch == 1:
        yield ring, pipe
    else:
        yield ring, pipe, lambda: float(run(BLOCKS, EXAMPLES, count, batch))


# --- Import -------------------------------------------------------------------------------------


def processor_time(program: str) -> float:
    """Run a program in a fresh interpreter, and give the seconds that it had a processor."""
    command = [sys.executable, "-P", "-c", program]
    process = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(process, 0)
    assert status == 0, f"{program} ended with {status}"
    return usage.ru_utime + usage.ru_stime


@contextmanager
def importing(_: Bench) -> Generator[tuple[Measure, ...]]:
    """Import in a fresh interpreter, which keeps a processor busy and waits for nothing."""
    yield (
        lambda: processor_time("import mmapwrap"),
        lambda: processor_time("import attrs, _cffi_backend"),
        lambda: processor_time("pass"),
    )


# --- Memory -------------------------------------------------------------------------------------

# What maps a page, for as long as what it gives is kept.
MAPPING = "from mmapwrap import MemoryMapping; new = MemoryMapping.new"
MMAP = "from mmap import mmap; new = lambda size: mmap(-1, size)"
# RssAnon is what the process itself keeps: the pages that it maps are not touched, and are shared.
KEEPING = """
import os, re
def own():
    return int(re.search("RssAnon:\\\\s+(\\\\d+)", open("/proc/self/status").read())[1]) * 1024
count = 20_000
kept = [None] * count
new(4096)
before = own()
for i in range(count):
    kept[i] = new(4096)
print((own() - before) / count, flush=True)
os._exit(0)  # the system unmaps faster
"""


@contextmanager
def keeping(_: Bench) -> Generator[tuple[Measure, ...]]:
    """Keep 20,000 mappings open: the memory of one of them."""
    yield (
        lambda: float(run(MAPPING + KEEPING)),
        lambda: float(run(MMAP + KEEPING)),
    )


PIPE = Peer("multiprocessing.Pipe", speed(3.0))

SHARED_CASES = (
    Case(
        "shared memory: create, map 1 MiB, close",
        shared,
        (Peer("multiprocessing.shared_memory", times(0.6)),),
    ),
    Case(
        f"a message through the ring buffer, in batches of {BATCH}",
        partial(messages, batch=BATCH),
        (PIPE, Peer("Pipe, a batch in one message", speed())),
    ),
    Case(
        "a message through the ring buffer, one at a time",
        partial(messages, batch=1),
        (PIPE,),
    ),
)

FOOTPRINT_CASES = (
    Case(
        "processor time of Python that imports mmapwrap",
        importing,
        (Peer("import attrs, _cffi_backend", more(0.010)), Peer("import nothing", times())),
    ),
    Case(
        "own memory of an open mapping",
        keeping,
        (Peer("an mmap object", itself(at_most=1024)),),
        Unit.BYTES,
    ),
)
