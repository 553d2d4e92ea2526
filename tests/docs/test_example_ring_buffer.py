"""The ring buffer of examples/: nothing is lost, and nothing stays, however a process ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest
from kernel_view import child, shared_memory_in_use
from waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = [sys.executable, str(EXAMPLES / "ring_buffer.py")]
MESSAGE, NUMBER = 64, 8
WITHOUT_END = 10**12  # messages
TICKS = os.sysconf("SC_CLK_TCK")


def exchanged(count: int, *options: str) -> list[str]:
    """The output of an exchange that must end well."""
    ended = subprocess.run(
        [*COMMAND, f"--count={count}", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


# --- Nothing is lost ----------------------------------------------------------------------------


@pytest.mark.alone
def test_ring_of_two_processes_loses_none_of_a_million_and_is_3_times_as_fast_as_a_pipe() -> None:
    factors: list[float] = []
    for _ in range(3):  # what else the machine does is not the ring's fault
        _, ring, _, _, factor = exchanged(1_000_000, "--compare")
        assert ring.startswith("ring: 1000000 messages of 64 bytes, none lost, ")
        found = re.fullmatch(r"the ring is (\d+\.\d) times as fast", factor)
        assert found is not None
        factors.append(float(found[1]))
        if factors[-1] >= 3:
            return
    pytest.fail(f"the ring was only {factors} times as fast as multiprocessing.Pipe")


@pytest.mark.parametrize(
    ("count", "batch", "capacity"),
    [(0, 1, 1), (1, 1, 1), (3000, 1, 1), (20_000, 7, 5), (20_000, 5, 7), (50_000, 1, 64)],
)
def test_ring_of_any_shape_loses_nothing(count: int, batch: int, capacity: int) -> None:
    _, ring = exchanged(count, f"--batch={batch}", f"--capacity={capacity}")
    assert ring.startswith(f"ring: {count} messages of 64 bytes, none lost, ")


# --- Processes that die -------------------------------------------------------------------------


@attrs.frozen
class Exchange:
    """A running exchange: the program, and its two processes."""

    program: subprocess.Popen[str]
    sender: int
    receiver: int

    def end(self) -> str:
        """Wait for the end of an exchange that fails, and give what it said about that."""
        _, errors = self.program.communicate(timeout=60)
        assert self.program.returncode == 1
        return errors


def rings_of(pid: int | str) -> set[str]:
    """The inodes of rings that a process has mapped."""
    with suppress(OSError):  # the process has ended, or is somebody else's
        maps = Path(f"/proc/{pid}/maps").read_text()
        return set(re.findall(r" (\d+) +/memfd:ring \(deleted\)", maps))
    return set()


def is_held(ring: str) -> bool:
    """Whether any process has the ring mapped, or a descriptor of it."""
    for process in Path("/proc").glob("[0-9]*"):
        if ring in rings_of(process.name):
            return True
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    name = str(descriptor.readlink())
                    if name.startswith("/memfd:ring") and str(descriptor.stat().st_ino) == ring:
                        return True
    return False


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def named_shared_memory() -> set[Path]:
    """What is in /dev/shm."""
    return set(Path("/dev").glob("shm/*"))


def wait_until_at_work(pid: int) -> None:
    """Wait until a process has used a tenth of a second more of processor time."""
    goal = cpu_seconds(pid) + 0.1
    wait_until(lambda: cpu_seconds(pid) > goal)


@contextmanager
def started(capacity: int) -> Generator[Exchange]:
    """An exchange without end, for as long as the block takes."""
    with subprocess.Popen(
        [*COMMAND, f"--count={WITHOUT_END}", f"--capacity={capacity}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            found = re.fullmatch(r"sender is (\d+), receiver is (\d+)\n", line)
            assert found is not None
            yield Exchange(program, int(found[1]), int(found[2]))
        finally:
            with suppress(ProcessLookupError):  # where the test went well, all have ended
                os.killpg(program.pid, signal.SIGKILL)


@contextmanager
def exchange_that_fails(capacity: int = 1 << 16) -> Generator[Exchange]:
    """An exchange for the block to end; afterwards nothing of it is left on the system."""
    names = named_shared_memory()
    with started(capacity) as exchange:
        sides = exchange.sender, exchange.receiver
        wait_until(lambda: all(rings_of(pid) for pid in sides))
        (ring,) = rings_of(exchange.sender)
        assert rings_of(exchange.receiver) == {ring}
        for pid in sides:
            wait_until_at_work(pid)
            assert "/dev/shm/" not in Path(f"/proc/{pid}/maps").read_text()
        yield exchange
        for pid in sides:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert not is_held(ring)
        # Other programs come and go; what an exchange left would stay.
        wait_until(lambda: named_shared_memory() <= names)


def wait_until_asleep(pid: int) -> None:
    """Wait until a process has done its work: then it only looks around now and then."""

    def used_in_a_second() -> float:
        before = cpu_seconds(pid)
        time.sleep(1)
        return cpu_seconds(pid) - before

    wait_until(lambda: used_in_a_second() < 0.1)


def test_ring_sender_killed_ends_the_receiver_with_a_typed_error_and_leaves_nothing() -> None:
    with exchange_that_fails() as exchange:
        os.kill(exchange.sender, signal.SIGKILL)
        errors = exchange.end()
        assert "receiver: PeerGoneError: the sender is gone" in errors
        assert "sender ended with -9, receiver with 1" in errors


def test_ring_receiver_killed_ends_the_sender_with_a_typed_error_and_leaves_nothing() -> None:
    with exchange_that_fails() as exchange:
        os.kill(exchange.receiver, signal.SIGKILL)
        errors = exchange.end()
        assert "sender: PeerGoneError: the receiver is gone" in errors
        assert "sender ended with 1, receiver with -9" in errors


@pytest.mark.alone
def test_ring_both_killed_leaves_nothing_and_gives_all_memory_back() -> None:
    capacity = 1 << 22
    freed: list[int] = []
    for _ in range(3):  # other programs use shared memory too
        with exchange_that_fails(capacity) as exchange:
            in_use = shared_memory_in_use()
            os.kill(exchange.sender, signal.SIGKILL)
            os.kill(exchange.receiver, signal.SIGKILL)
            assert "sender ended with -9, receiver with -9" in exchange.end()
            freed.append(in_use - shared_memory_in_use())
        if freed[-1] > capacity * (NUMBER + MESSAGE) * 3 // 4:
            return
    pytest.fail(f"only {freed} bytes were freed")


def test_ring_that_is_empty_puts_the_receiver_to_sleep_until_the_senders_death() -> None:
    with exchange_that_fails() as exchange:
        os.kill(exchange.sender, signal.SIGSTOP)
        wait_until_asleep(exchange.receiver)
        os.kill(exchange.sender, signal.SIGCONT)
        wait_until_at_work(exchange.receiver)
        os.kill(exchange.sender, signal.SIGSTOP)
        wait_until_asleep(exchange.receiver)
        os.kill(exchange.sender, signal.SIGKILL)
        assert "receiver: PeerGoneError" in exchange.end()


def test_ring_that_is_full_puts_the_sender_to_sleep_until_the_receivers_death() -> None:
    with exchange_that_fails() as exchange:
        os.kill(exchange.receiver, signal.SIGSTOP)
        wait_until_asleep(exchange.sender)
        os.kill(exchange.receiver, signal.SIGCONT)
        wait_until_at_work(exchange.sender)
        os.kill(exchange.receiver, signal.SIGSTOP)
        wait_until_asleep(exchange.sender)
        os.kill(exchange.receiver, signal.SIGKILL)
        assert "sender: PeerGoneError" in exchange.end()


# --- One side at a time -------------------------------------------------------------------------


def child_with_ring(program: str) -> None:
    """Run a program that has both ends of a ring of 4 messages of 2 bytes."""
    start = """
import socket
import sys
from contextlib import suppress

sys.path.insert(0, sys.argv[1])
from mmapwrap import MissingSealsError, PastEndOfFileError, SharedMemory, u64
import ring_buffer
from ring_buffer import LostMessageError, PeerGoneError, Receiver, RingTimeoutError, Sender

def fails(expected, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except expected as error:
        return str(error)
    raise AssertionError(f"no {expected.__name__}")

ends = ring_buffer.make_ring(4, 2)
memory = ends[0].memory.try_clone().map()
"""
    child(start + program, EXAMPLES).succeeded()


def test_ring_messages_arrive_one_by_one_and_in_order_until_the_end() -> None:
    child_with_ring(
        """
with Receiver(ends[1]) as receiver:
    with Sender(ends[0]) as sender:
        sender.send(b"ab")
        sender.send_many([b"cd", b"ef"])
        assert receiver.receive() == b"ab"
        assert receiver.receive_many(1) == [b"cd"]
        sender.send_many([b"gh", b"ij", b"kl"])  # around the ring's end
        assert receiver.receive_many() == [b"ef", b"gh", b"ij", b"kl"]
        sender.send(b"mn")
    assert receiver.receive_many() == [b"mn"]
    assert receiver.receive() is None
    assert receiver.receive_many() == []
"""
    )


def test_ring_wait_past_its_time_is_a_timeout_and_loses_nothing() -> None:
    child_with_ring(
        """
import time
with Sender(ends[0]) as sender, Receiver(ends[1]) as receiver:
    start = time.monotonic()
    fails(RingTimeoutError, receiver.receive, timeout=0.1)
    fails(TimeoutError, receiver.receive_many, timeout=0)
    sender.send_many([b"ab"] * 3, timeout=0)
    fails(RingTimeoutError, sender.send_many, [b"cd"] * 2, timeout=0.1)
    assert 0.2 <= time.monotonic() - start < 5
    assert receiver.receive_many(timeout=0) == [b"ab"] * 3 + [b"cd"]
"""
    )


def test_ring_peer_gone_without_its_end_is_an_error_once_all_is_received() -> None:
    child_with_ring(
        """
with Receiver(ends[1]) as receiver:
    with suppress(RuntimeError), Sender(ends[0]) as sender:
        sender.send(b"ab")
        raise RuntimeError
    assert receiver.receive() == b"ab"
    fails(PeerGoneError, receiver.receive)
ends = ring_buffer.make_ring(4, 2)
with Sender(ends[0]) as sender:
    with Receiver(ends[1]):
        sender.send(b"ab")
    fails(PeerGoneError, sender.send_many, [b"cd"] * 4)
"""
    )


def test_ring_slot_with_another_number_is_a_lost_message() -> None:
    child_with_ring(
        """
with Sender(ends[0]) as sender, Receiver(ends[1]) as receiver:
    sender.send_many([b"ab", b"cd", b"ef"])
    memory.write_obj(u64, 2, ring_buffer.NUMBERS + u64.size)
    assert "message 0 or one of the 3" in fails(LostMessageError, receiver.receive_many)
"""
    )


def test_ring_position_that_cannot_be_is_refused_by_both_sides() -> None:
    child_with_ring(
        """
with Sender(ends[0]) as sender, Receiver(ends[1]) as receiver:
    for position in (5, 2**64 - 1):
        memory.write_obj(u64, position, ring_buffer.HEAD)
        fails(LostMessageError, receiver.receive)
    for position in (1, 2**64 - 1):
        memory.write_obj(u64, position, ring_buffer.TAIL)
        fails(LostMessageError, sender.send, b"ab")
"""
    )


def test_ring_message_of_another_size_is_refused() -> None:
    child_with_ring(
        """
with Sender(ends[0]) as sender, Receiver(ends[1]) as receiver:
    fails(ValueError, sender.send, b"abc")
    fails(ValueError, sender.send_many, [b"a", b"bcd"])
    fails(RingTimeoutError, receiver.receive, timeout=0)
"""
    )


def test_ring_memory_that_could_be_cut_short_or_is_too_short_is_refused() -> None:
    child_with_ring(
        """
def end(size, seals):
    memory = SharedMemory.new("ring", size)
    memory.add_seals(seals)
    return ring_buffer.End(memory, socket.socketpair()[0], 4, 2)

needed = ring_buffer.bytes_needed(4, 2)
fails(MissingSealsError, Receiver, end(needed, ring_buffer.MemfdSeals.GROW))
fails(PastEndOfFileError, Receiver, end(needed - 1, ring_buffer.SEALS))
with Receiver(end(needed, ring_buffer.SEALS)):
    pass
"""
    )
