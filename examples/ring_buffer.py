"""A ring buffer between two processes, in memory that has no name and leaves nothing behind.

    python examples/ring_buffer.py [--count 1000000] [--batch 256] [--capacity 8192] [--compare]

One process sends, one receives. The memory is a sealed memfd; it and a socket, the bell, are passed
to the processes as descriptors. Each message has a number, which its slot holds too, so that a lost
or repeated one is seen. Who finds nothing to do looks again for a moment, then sleeps until the
peer rings. When a process dies, however it does, the kernel closes its end of the bell: the peer
takes what is left and then gets a PeerGoneError; the memory goes with the last of them.

What is relied on: a position (HEAD, TAIL) is written by one side only, by one volatile store, and
read by one volatile load. It must not be seen before what it says of the slots is true. On x86-64
that holds: the processor keeps stores in order, and loads, and no store passes an earlier load;
the compiler moves nothing across the calls into C. An aarch64 processor may move them, so there
the barrier (dsb) of a cache-line flush stands in between; elsewhere that flush raises. On all of
them a store may be seen after a load that follows it, so a bell can be missed, and naps are short.

Calls from Python cost more than the copying: send in batches. One message at a time, a pipe is
faster (`--batch 1 --compare`).
"""

import argparse
import multiprocessing
import platform
import select
import socket
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import attrs

from mmapwrap import MemfdSeals, SharedMemory, u64

# Where things are. What the sides write is 128 bytes apart, so that they do not take one cache
# line, or the pair of lines that is fetched at once, from each other.
HEAD, SENDER_SLEEPS, ENDED = 0, 8, 16
TAIL, RECEIVER_SLEEPS = 128, 136
NUMBERS = 256  # the message number of each slot; then come the messages

SEALS = MemfdSeals.SHRINK | MemfdSeals.GROW
KEEPS_ORDER = platform.machine() == "x86_64"
LOOKS = 100  # before a side goes to sleep
NAP = 0.02  # seconds; what a missed bell costs


class RingError(Exception):
    """The root of what a ring can raise."""


class PeerGoneError(RingError):
    """The other process is gone, and did not say that it had ended."""


class RingTimeoutError(RingError, TimeoutError):
    """Nothing came, or nothing was taken, in the time that was given."""


class LostMessageError(RingError):
    """A slot holds another message than the next, or the peer's position cannot be."""


@attrs.frozen
class End:
    """One end of a ring, for the process that will use it: goes as an argument of a Process."""

    memory: SharedMemory
    bell: socket.socket
    capacity: int
    message_size: int

    def close(self) -> None:
        """Let go of the descriptors: a peer that waits must not wait for this process too."""
        self.memory.close()
        self.bell.close()


def bytes_needed(capacity: int, message_size: int) -> int:
    """Give the size of a ring's memory."""
    return NUMBERS + capacity * (u64.size + message_size)


def make_ring(capacity: int, message_size: int) -> tuple[End, End]:
    """Make a ring of so many messages of so many bytes: the sender's end and the receiver's."""
    memory = SharedMemory.new("ring", bytes_needed(capacity, message_size), allocate=True)
    memory.add_seals(SEALS)  # neither process can cut the memory away from under the other
    ours, theirs = socket.socketpair()
    return (
        End(memory, ours, capacity, message_size),
        End(memory.try_clone(), theirs, capacity, message_size),
    )


class Side:
    """What both sides do: map the ring, look at the peer's position, wait, and wake the peer."""

    def __init__(self, end: End, sleeps: int, peer_sleeps: int) -> None:
        self.capacity, self.message_size = end.capacity, end.message_size
        size = bytes_needed(end.capacity, end.message_size)
        with SharedMemory.from_fd(end.memory, size, required_seals=SEALS) as memory:
            self._region = memory.map()
        # Plain memory, which only a peer that cuts it short could make crash: hence the seals.
        numbers_end = NUMBERS + u64.size * end.capacity
        self._numbers = self._region.view(NUMBERS, numbers_end - NUMBERS).cast("Q")
        self._messages = self._region.view(numbers_end)
        end.memory.close()  # the mapping keeps the memory
        self._bell = end.bell
        self._poll = select.poll()
        self._poll.register(end.bell, select.POLLIN)
        self._sleeps, self._peer_sleeps = sleeps, peer_sleeps
        self._position = 0  # the number of the message that comes next

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bell.close()
        self._region.close()

    def _load(self, offset: int) -> int:
        return self._region.read_obj_volatile(u64, offset)

    def _store(self, offset: int, value: int) -> None:
        self._region.write_obj_volatile(u64, value, offset)

    def _barrier(self) -> None:
        """What comes before is done before what comes after."""
        if not KEEPS_ORDER:
            self._region.flush_region(0, 1)

    def _runs(self, count: int) -> Iterator[tuple[int, int, int]]:
        """The next `count` slots: one run, or two around the ring's end: (slot, done, count)."""
        slot = self._position % self.capacity
        before_end = min(count, self.capacity - slot)
        yield slot, 0, before_end
        if before_end < count:
            yield 0, before_end, count - before_end

    def _publish(self, offset: int, count: int) -> None:
        """Move this side's position past `count` slots, and wake the peer if it sleeps."""
        self._position += count
        self._barrier()
        self._store(offset, self._position)
        if self._load(self._peer_sleeps):
            self._store(self._peer_sleeps, 0)  # one ring is enough
            # A full bell rings already; that the peer is gone shows when this side has to wait.
            with suppress(BlockingIOError, ConnectionError):
                self._bell.send(b"!", socket.MSG_DONTWAIT)

    def _wait(self, look: Callable[[], int], timeout: float | None) -> int:
        """Wait until there are slots to use; returns how many, 0 if the peer is gone instead."""
        for _ in range(LOOKS):
            if count := look():
                return count
        deadline = None if timeout is None else time.monotonic() + timeout
        peer_lives = True
        while True:
            self._store(self._sleeps, 1)
            if (count := look()) or not peer_lives:
                self._store(self._sleeps, 0)
                return count
            peer_lives = self._sleep(deadline)

    def _sleep(self, deadline: float | None) -> bool:
        """Sleep until the bell rings, but no longer than a nap; returns whether the peer lives."""
        left = NAP if deadline is None else min(NAP, deadline - time.monotonic())
        if left <= 0:
            raise RingTimeoutError("the peer did nothing in the time given")
        if not self._poll.poll(left * 1000):
            return True
        try:
            return self._bell.recv(4096) != b""
        except ConnectionError:
            return False


class Sender(Side):
    """The side that sends."""

    def __init__(self, end: End) -> None:
        super().__init__(end, SENDER_SLEEPS, RECEIVER_SLEEPS)

    def send(self, message: bytes, timeout: float | None = None) -> None:
        """Send one message."""
        self.send_many((message,), timeout)

    def send_many(self, messages: Sequence[bytes], timeout: float | None = None) -> None:
        """Send messages, as many at a time as there is room for; `timeout` is for each wait.

        Where this raises, some of the messages may have been sent.
        """
        if not set(map(len, messages)) <= {self.message_size}:
            raise ValueError(f"a message here has {self.message_size} bytes")
        sent = 0
        while sent < len(messages):
            room = self._room() or self._wait(self._room, timeout)
            if not room:
                raise PeerGoneError("the receiver is gone")
            count = min(room, len(messages) - sent)
            self._put(messages[sent : sent + count])
            sent += count

    def _room(self) -> int:
        room = self.capacity - (self._position - self._load(TAIL))
        if not 0 <= room <= self.capacity:
            raise LostMessageError(f"the receiver says that {room} slots are free")
        return room

    def _put(self, messages: Sequence[bytes]) -> None:
        size = self.message_size
        for slot, done, count in self._runs(len(messages)):
            self._numbers[slot : slot + count] = numbers_from(self._position + done, count)
            run = b"".join(messages[done : done + count])
            self._messages[size * slot : size * (slot + count)] = run
        self._publish(HEAD, len(messages))

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception is None:
            self._store(ENDED, 1)
        super().__exit__(exception_type, exception, traceback)


class Receiver(Side):
    """The side that receives."""

    def __init__(self, end: End) -> None:
        super().__init__(end, RECEIVER_SLEEPS, SENDER_SLEEPS)

    def receive(self, timeout: float | None = None) -> bytes | None:
        """Receive one message; None: the sender has ended."""
        return next(iter(self.receive_many(1, timeout)), None)

    def receive_many(self, most: int | None = None, timeout: float | None = None) -> list[bytes]:
        """Receive the messages that are there, at least one; none: the sender has ended."""
        count = self._waiting() or self._wait(self._waiting, timeout)
        if count:
            return self._take(count if most is None else min(count, most))
        if not self._load(ENDED):
            raise PeerGoneError("the sender is gone")
        return []

    def _waiting(self) -> int:
        waiting = self._load(HEAD) - self._position
        if not 0 <= waiting <= self.capacity:
            raise LostMessageError(f"the sender says that {waiting} messages are waiting")
        return waiting

    def _take(self, total: int) -> list[bytes]:
        self._barrier()
        messages: list[bytes] = []
        size = self.message_size
        for slot, done, count in self._runs(total):
            first = self._position + done
            if self._numbers[slot : slot + count] != numbers_from(first, count):
                raise LostMessageError(f"message {first} or one of the {count} from it on is lost")
            run = bytes(self._messages[size * slot : size * (slot + count)])
            messages += [run[at : at + size] for at in range(0, len(run), size)]
        self._publish(TAIL, total)
        return messages


def numbers_from(first: int, count: int) -> "array[int]":
    """Give `count` numbers from `first` on, as slots hold them."""
    return array("Q", range(first, first + count))


# --- The program --------------------------------------------------------------------------------


def message_of(number: int) -> bytes:
    """A message of 64 bytes, no two alike."""
    return number.to_bytes(8, "little") * 8


def send_all(end: End, count: int, batch: int) -> None:
    """Send so many messages: what the sender's process does."""
    with Sender(end) as sender:
        for first in range(0, count, batch):
            sender.send_many([message_of(n) for n in range(first, min(first + batch, count))])


def receive_all(end: End, report: Connection) -> None:
    """Receive and check all messages, and report how many in what time."""
    received, start = 0, 0.0
    with Receiver(end) as receiver:
        while messages := receiver.receive_many():
            start = start or time.perf_counter()
            following = received + len(messages)
            if messages != [message_of(n) for n in range(received, following)]:
                raise LostMessageError(f"a message from {received} on is not what was sent")
            received = following
    report.send((received, time.perf_counter() - start))


def send_all_by_pipe(pipe: Connection, count: int, _batch: int) -> None:
    """Do what `send_all` does, through a pipe."""
    for number in range(count):
        pipe.send_bytes(message_of(number))
    pipe.close()


def receive_all_by_pipe(pipe: Connection, report: Connection) -> None:
    """Do what `receive_all` does, through a pipe."""
    received, start = 0, 0.0
    with suppress(EOFError):
        while message := pipe.recv_bytes():
            start = start or time.perf_counter()
            if message != message_of(received):
                raise LostMessageError(f"message {received} is not what was sent")
            received += 1
    report.send((received, time.perf_counter() - start))


def run_side(role: str, work: Callable[..., None], *args: object) -> None:
    """Run one side in this process, and end it with a message where the ring fails."""
    try:
        work(*args)
    except RingError as error:
        sys.exit(f"{role}: {type(error).__name__}: {error}")


def exchange(
    send: Callable[..., None],
    receive: Callable[..., None],
    ends: tuple[End, End] | tuple[Connection, Connection],
    args: argparse.Namespace,
) -> float:
    """Run both sides in processes of their own, and give the messages per second."""
    context = multiprocessing.get_context("spawn")
    report, reporter = context.Pipe(duplex=False)
    sender = context.Process(
        target=run_side, args=("sender", send, ends[0], args.count, args.batch)
    )
    receiver = context.Process(target=run_side, args=("receiver", receive, ends[1], reporter))
    sender.start()
    receiver.start()
    for passed in (*ends, reporter):
        passed.close()  # or this process would seem to be a peer that lives
    print(f"sender is {sender.pid}, receiver is {receiver.pid}", flush=True)
    sender.join()
    receiver.join()
    if sender.exitcode or receiver.exitcode:
        sys.exit(f"sender ended with {sender.exitcode}, receiver with {receiver.exitcode}")
    received: int
    seconds: float
    received, seconds = report.recv()
    if received != args.count:
        sys.exit(f"{received} of {args.count} messages arrived")
    return received / seconds


def main() -> None:
    """Exchange messages through a ring, and on demand through a pipe, and say how fast it was."""
    parser = argparse.ArgumentParser(description="Exchange 64-byte messages between processes.")
    parser.add_argument("--count", type=int, default=1_000_000, help="messages to exchange")
    parser.add_argument("--batch", type=int, default=256, help="messages to send at a time")
    parser.add_argument("--capacity", type=int, default=8192, help="messages that the ring holds")
    parser.add_argument("--compare", action="store_true", help="compare with multiprocessing.Pipe")
    args = parser.parse_args()
    ring = exchange(send_all, receive_all, make_ring(args.capacity, 64), args)
    print(f"ring: {args.count} messages of 64 bytes, none lost, {ring:.0f} a second")
    if args.compare:
        reading, writing = multiprocessing.Pipe(duplex=False)
        pipe = exchange(send_all_by_pipe, receive_all_by_pipe, (writing, reading), args)
        print(f"Pipe: {args.count} messages of 64 bytes, none lost, {pipe:.0f} a second")
        print(f"the ring is {ring / pipe:.1f} times as fast")


if __name__ == "__main__":
    main()
