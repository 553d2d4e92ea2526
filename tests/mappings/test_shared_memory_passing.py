"""`SharedMemory` between processes: passed as a descriptor, and gone with its last holder.

Each scenario is a function of this module that a process of its own runs, because the threads and
helper processes of `multiprocessing` stay for as long as the process does.
"""

import fcntl
import gc
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.context import ForkContext, ForkServerContext, SpawnContext
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import pytest
from kernel_view import (
    MIB,
    PAGE,
    child,
    in_process,
    known_bytes,
    open_descriptors,
    say,
    shared_memory_in_use,
)
from waiting import wait_until

from mmapwrap import (
    BadDescriptorError,
    ClosedMappingError,
    InvalidArgumentError,
    MappingFaultError,
    MemfdSeals,
    MissingSealsError,
    PastEndOfFileError,
    Protection,
    SharedMemory,
    _shared_memory,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import Queue

Method: TypeAlias = Literal["fork", "spawn", "forkserver"]
Context: TypeAlias = ForkContext | SpawnContext | ForkServerContext
Pipe: TypeAlias = "Connection[object, object]"

METHODS: list[Method] = ["fork", "spawn", "forkserver"]
PATIENCE = 30  # seconds, for what takes a moment
SIZE = 2 * PAGE + 5
# Names that no other process of the machine uses; the processes of a scenario inherit them.
NAME = os.environ.get("NAME_OF_SHARED_MEMORY", f"passed {os.getpid()}")
ANSWER = f"answer to {NAME}"


CONTEXTS: dict[Method, Context] = {
    "fork": multiprocessing.get_context("fork"),
    "spawn": multiprocessing.get_context("spawn"),
    "forkserver": multiprocessing.get_context("forkserver"),
}


def run(scenario: Callable[[Method], None], method: Method) -> None:
    """Run a scenario in a process of its own, which complains of nothing."""
    program = f"""
        import os
        os.environ["NAME_OF_SHARED_MEMORY"] = f"passed {{os.getpid()}}"
        import test_shared_memory_passing as here
        here.{scenario.__name__}({method!r})
    """
    ended = child(program)
    ended.succeeded()
    # What multiprocessing's resource tracker finds left behind, it says there.
    assert ended.errors == ""


every_method = pytest.mark.parametrize("method", METHODS)


def target_of(link: Path) -> str:
    """What a descriptor's link in /proc refers to; nothing where it has been closed meanwhile."""
    with suppress(FileNotFoundError):
        return str(link.readlink())
    return ""


def holders(name: str) -> set[int]:
    """The processes that have memory of this name open or mapped."""
    wanted = f"/memfd:{name} "
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            links = [target_of(link) for link in (process / "fd").iterdir()]
            if wanted in (process / "maps").read_text() or any(
                link.startswith(wanted) for link in links
            ):
                found.add(int(process.name))
    return found


def open_memory() -> list[str]:
    """The names of the memory that this process has open, one for each descriptor."""
    kept = [link for link in open_descriptors().values() if link.startswith("/memfd:")]
    return [link.removeprefix("/memfd:").removesuffix(" (deleted)") for link in kept]


def received(end: Pipe) -> object:
    """What comes through a pipe; fails where nothing comes."""
    assert end.poll(PATIENCE)
    return end.recv()


def join(process: "BaseProcess") -> None:
    """Wait for a process that ends without an error."""
    process.join(PATIENCE)
    assert process.exitcode == 0, process.exitcode


# As an argument


def check_and_write(shared: SharedMemory, others: list[SharedMemory]) -> None:
    """What a process does with memory that it was given."""
    assert (shared.name, shared.size) == (NAME, SIZE)
    assert shared.get_seals() & MemfdSeals.SHRINK
    assert [other.size for other in others] == [PAGE, SIZE]
    with shared.map() as m:
        assert m[:] == known_bytes(SIZE)
        m[:] = b"\xff" * SIZE
    with others[1].map() as m:
        assert m[0] == 0xFF
    with others[0].map() as m:
        assert m.is_all_zero()
        m[PAGE - 1] = 1
    for each in (shared, *others):
        each.close()


def passes_as_an_argument(method: Method) -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208  # names are all that is needed
    with (
        SharedMemory.new(NAME, SIZE) as shared,
        SharedMemory.new(f"another {NAME}", PAGE) as another,
    ):
        shared.add_seals(MemfdSeals.SHRINK)
        with shared.map() as m, another.map() as other:
            m[:] = known_bytes(SIZE)
            others = [another, shared.try_clone()]
            process = CONTEXTS[method].Process(target=check_and_write, args=(shared, others))
            process.start()
            join(process)
            assert m[:] == b"\xff" * SIZE
            assert other[-1] == 1
            assert not any(NAME in name for name in set(os.listdir("/dev/shm")) - before)  # noqa: PTH208
        others[1].close()
        assert holders(NAME) == {os.getpid()}
    assert holders(NAME) == holders(f"another {NAME}") == set()


@every_method
def test_passes_as_a_process_argument(method: Method) -> None:
    run(passes_as_an_argument, method)


def write_when_told(shared: SharedMemory, told: Pipe) -> None:
    received(told)
    with shared.map() as m:
        assert m[0] == 5
        m[1] = 6
    told.send(None)
    received(told)


def outlives_the_sender(method: Method) -> None:
    context = CONTEXTS[method]
    here, there = context.Pipe()
    shared = SharedMemory.new(NAME, SIZE)
    with shared.map() as m:
        m[0] = 5
    process = context.Process(target=write_when_told, args=(shared, there))
    process.start()
    watcher = shared.try_clone()
    shared.close()
    here.send(None)
    received(here)
    with watcher.map() as m:
        assert m[:2] == b"\5\6"
    watcher.close()
    assert holders(NAME) == {process.pid}
    here.send(None)
    join(process)
    assert holders(NAME) == set()


@every_method
def test_passed_memory_outlives_the_senders_close(method: Method) -> None:
    run(outlives_the_sender, method)


def send_and_end(there: Pipe) -> None:
    with SharedMemory.new(NAME, SIZE) as shared:
        there.send_bytes(ForkingPickler.dumps(shared))


def is_lost_with_its_sender(method: Method) -> None:
    here, there = CONTEXTS[method].Pipe()
    process = CONTEXTS[method].Process(target=send_and_end, args=(there,))
    process.start()
    data = here.recv_bytes()
    join(process)
    before = open_descriptors()
    with pytest.raises(BadDescriptorError, match="the process that sent this SharedMemory"):
        pickle.loads(data)
    assert open_descriptors() == before


@every_method
def test_memory_of_a_sender_that_has_ended_is_a_bad_descriptor(method: Method) -> None:
    run(is_lost_with_its_sender, method)


# Through queues, pipes and pools


def echo_queue(
    inbox: "Queue[SharedMemory]", outbox: "Queue[SharedMemory | None]", rounds: int
) -> None:
    """Writes to what comes in, and sends it and something of its own back."""
    for _ in range(rounds):
        with inbox.get(timeout=PATIENCE) as shared:
            assert (shared.name, shared.size) == (NAME, SIZE)
            with shared.map() as m:
                m[0] += 1
            own = SharedMemory.new(ANSWER, PAGE)
            with own.map() as m:
                m[0] = 42
            outbox.put(own)
        inbox.get(timeout=PATIENCE).close()  # the other side has it now
        own.close()
    outbox.put(None)


def passes_through_a_queue(method: Method) -> None:
    context = CONTEXTS[method]
    inbox: Queue[SharedMemory] = context.Queue()
    outbox: Queue[SharedMemory | None] = context.Queue()
    rounds = 20
    process = context.Process(target=echo_queue, args=(inbox, outbox, rounds))
    process.start()
    with SharedMemory.new(NAME, SIZE) as shared, shared.map() as m:
        for done in range(rounds):
            inbox.put(shared)
            answer = outbox.get(timeout=PATIENCE)
            assert answer is not None
            assert (answer.name, answer.size) == (ANSWER, PAGE)
            with answer, answer.map() as other:
                assert other[0] == 42
            assert m[0] == done + 1
            inbox.put(shared)
        assert outbox.get(timeout=PATIENCE) is None
        wait_until(lambda: open_memory() == [NAME])
    join(process)
    wait_until(lambda: holders(NAME) == holders(ANSWER) == set())


@every_method
def test_passes_through_a_queue_both_ways(method: Method) -> None:
    run(passes_through_a_queue, method)


def echo_pipe(there: Pipe) -> None:
    while isinstance(shared := received(there), SharedMemory):
        with shared, shared.map() as m:
            m[0] += 1
            with SharedMemory.new(ANSWER, m[0]) as own:
                there.send(own)
                received(there)  # the other side has it now
        wait_until(lambda: open_memory() == [])


def passes_through_a_pipe(method: Method) -> None:
    context = CONTEXTS[method]
    here, there = context.Pipe()
    process = context.Process(target=echo_pipe, args=(there,))
    process.start()
    with SharedMemory.new(NAME, SIZE) as shared, shared.map() as m:
        for done in range(50):
            here.send(shared)
            answer = received(here)
            assert isinstance(answer, SharedMemory)
            here.send(None)
            assert answer.size == m[0] == done + 1
            answer.close()
            # The thread that hands descriptors out closes its own a moment later.
            wait_until(lambda: open_memory() == [NAME])
    here.send(None)
    join(process)
    assert holders(NAME) == holders(ANSWER) == set()


@every_method
def test_passes_through_a_pipe_and_leaves_no_descriptor(method: Method) -> None:
    run(passes_through_a_pipe, method)


def report_inheritable(argument: SharedMemory, there: Pipe) -> None:
    with argument:
        there.send(os.get_inheritable(argument.fileno()))
    sent = received(there)
    assert isinstance(sent, SharedMemory)
    with sent:
        there.send(os.get_inheritable(sent.fileno()))


def arrives_close_on_exec(method: Method) -> None:
    context = CONTEXTS[method]
    here, there = context.Pipe()
    with SharedMemory.new(NAME, SIZE) as shared:
        process = context.Process(target=report_inheritable, args=(shared, there))
        process.start()
        here.send(shared)
        reports = (received(here), received(here))
        assert reports == (False, False), reports
    join(process)


@every_method
def test_received_descriptor_is_close_on_exec(method: Method) -> None:
    run(arrives_close_on_exec, method)


def add_up(shared: SharedMemory, place: int) -> int:
    """What a process of a pool does."""
    with shared, shared.map() as m:
        m[place] = place
        return sum(m[: place + 1])


def passes_to_a_pool(method: Method) -> None:
    with SharedMemory.new(NAME, SIZE) as shared:
        with ProcessPoolExecutor(1, mp_context=CONTEXTS[method]) as pool:
            sums = [pool.submit(add_up, shared, place).result() for place in range(10)]
        assert sums == [sum(range(place + 1)) for place in range(10)]
    wait_until(lambda: holders(NAME) == set())


@every_method
def test_passes_to_a_process_pool(method: Method) -> None:
    run(passes_to_a_pool, method)


def cut_and_send(method: Method) -> None:
    context = CONTEXTS[method]
    here, there = context.Pipe()
    with SharedMemory.new(NAME, SIZE) as shared:
        here.send(shared)
        os.ftruncate(shared.fileno(), PAGE)
        try:
            received(there)
        except PastEndOfFileError as error:
            told = error.offset, error.count, error.file_size
            assert told == (0, SIZE, PAGE)  # pytest is not at work here
        else:
            raise AssertionError("more was received than there is")
        gc.collect()
        assert holders(NAME) == {os.getpid()}
        os.ftruncate(shared.fileno(), 2 * SIZE)
        here.send(shared)
        grown = received(there)
        assert isinstance(grown, SharedMemory)
        with grown, grown.map() as m:
            assert m.size == grown.size == SIZE
            assert m.is_all_zero()


def test_memory_that_was_cut_on_its_way_is_refused_as_it_is_received() -> None:
    run(cut_and_send, "fork")


def test_pickle_whose_descriptor_did_not_arrive_can_be_loaded_again() -> None:
    class Sender:
        """The descriptor of a sender that is interrupted at first."""

        def __init__(self, fd: int) -> None:
            self.fd, self.asked = fd, 0

        def detach(self) -> int:
            self.asked += 1
            if self.asked == 1:
                raise KeyboardInterrupt
            return os.dup(self.fd)

    with SharedMemory.new("sent", PAGE) as memory:
        load = _shared_memory._received  # pyright: ignore[reportPrivateUsage]
        sender, rest = Sender(memory.fileno()), (PAGE, "sent", (0, 0))
        with pytest.raises(KeyboardInterrupt):
            load(sender, *rest)
        with load(sender, *rest) as received:
            assert (received.size, received.name) == (PAGE, "sent")
        with pytest.raises(InvalidArgumentError, match="loaded before"):
            load(sender, *rest)


def test_closed_memory_is_not_sent() -> None:
    here, there = multiprocessing.get_context("fork").Pipe()
    shared = SharedMemory.new(NAME, SIZE)
    shared.close()
    with here, there, pytest.raises(ClosedMappingError):
        here.send(shared)


def tells_no_tracker(method: Method) -> None:
    context = CONTEXTS[method]
    here, there = context.Pipe()
    process = context.Process(target=echo_pipe, args=(there,))
    process.start()
    with SharedMemory.new(NAME, SIZE) as shared:
        here.send(shared)
        answer = received(here)
        assert isinstance(answer, SharedMemory)
        here.send(None)
        answer.close()
    here.send(None)
    join(process)
    # The tracker is a process that is started when it is first told something.
    try:
        left = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise AssertionError(f"there still is a process: {left}")


def test_passing_starts_no_resource_tracker() -> None:
    run(tells_no_tracker, "fork")


# Over a Unix socket


RECEIVER = """
    import os, socket, sys
    from mmapwrap import MemfdSeals, MissingSealsError, SharedMemory

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        while True:
            message, fds, _, _ = socket.recv_fds(connection, 100, 1)
            if not fds:
                break
            try:
                received = SharedMemory.from_fd(fds[0], required_seals=MemfdSeals.SHRINK)
            except MissingSealsError as error:
                assert error.required == MemfdSeals.SHRINK
                connection.sendall(b"missing")
                os.close(fds[0])
                continue
            os.close(fds[0])
            with received, received.map() as m:
                assert received.name == "sent", received.name
                assert m[: len(message)] == message
                m[0] = 7
                connection.sendall(b"written")
"""


def test_passes_over_a_unix_socket_to_any_process_that_may_require_seals(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    pid = os.getpid()
    with socket.socket(socket.AF_UNIX) as listener, SharedMemory.new("sent", SIZE) as shared:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)
        answers: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for message in (b"unsealed", b"sealed"):
                    with shared.map() as m:
                        m[: len(message)] = message
                    socket.send_fds(connection, [message], [shared.fileno()])
                    answers.append(connection.recv(100))
                    if message == b"unsealed":
                        shared.add_seals(MemfdSeals.SHRINK)

        thread = threading.Thread(target=serve)
        thread.start()
        ended = child(RECEIVER, path)
        thread.join()
        ended.succeeded()
        assert ended.errors == ""
        assert answers == [b"missing", b"written"]
        with shared.map() as m:
            assert m[:6] == b"\7ealed"
        assert holders("sent") == {pid}


def test_receiver_that_requires_shrink_need_fear_no_cut() -> None:
    left, right = socket.socketpair()
    with left, right, SharedMemory.new("sealed", SIZE) as shared:
        shared.add_seals(MemfdSeals.SHRINK)
        socket.send_fds(left, [b"x"], [shared.fileno()])
        _, fds, _, _ = socket.recv_fds(right, 1, 1)
        with SharedMemory.from_fd(fds[0], required_seals=MemfdSeals.SHRINK) as received:
            os.close(fds[0])
            with received.map(prot=Protection.read()) as m:
                with pytest.raises(PermissionError):
                    os.ftruncate(shared.fileno(), 1)
                assert m.is_all_zero()


def test_receiver_without_required_seals_meets_the_cut_as_an_error() -> None:
    with SharedMemory.new("unsealed", SIZE) as shared:
        with pytest.raises(MissingSealsError):
            SharedMemory.from_fd(shared, required_seals=MemfdSeals.SHRINK)
        with SharedMemory.from_fd(shared) as received, received.map() as m:
            os.ftruncate(shared.fileno(), PAGE)
            assert m[:PAGE] == bytes(PAGE)
            with pytest.raises(MappingFaultError) as caught:
                m[PAGE:]
            assert (caught.value.offset, caught.value.pages) == (PAGE, 1)


def seal_while_it_is_received() -> None:
    """A sender cuts the memory and seals it so, at any moment of the receiver's call."""
    handed_over: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            if handed_over:
                fd = handed_over.pop()
                os.ftruncate(fd, PAGE)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)

    sender = threading.Thread(target=send)
    sender.start()
    sys.setswitchinterval(1e-5)
    end = time.monotonic() + 1
    rounds = 0
    try:
        while time.monotonic() < end:
            fd = os.memfd_create("sender", os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, MIB)
            handed_over.append(fd)
            while True:
                try:
                    memory = SharedMemory.from_fd(fd, required_seals=MemfdSeals.SHRINK)
                except MissingSealsError:
                    continue
                break
            if memory.size != PAGE:
                say(memory, "of", os.fstat(fd).st_size, "bytes after", rounds, "rounds")
                os._exit(1)
            memory.close()
            os.close(fd)
            rounds += 1
    finally:
        over.set()
        sender.join()
    assert rounds > 10


@pytest.mark.race
def test_from_fd_that_requires_seals_takes_the_length_that_is_sealed() -> None:
    in_process(seal_while_it_is_received).succeeded()


# However its holders end


def hold_and_wait(shared: SharedMemory, told: Pipe) -> None:
    view = shared.map().view()
    view[0] = 1
    told.send(None)
    time.sleep(600)


def goes_with_its_last_holder(method: Method) -> None:
    context = CONTEXTS[method]
    here, there = context.Pipe()
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    shared = SharedMemory.new(NAME, 1 << 20, allocate=True)
    process = context.Process(target=hold_and_wait, args=(shared, there))
    process.start()
    received(here)
    shared.close()
    gc.collect()
    assert process.pid is not None
    assert holders(NAME) == {process.pid}
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    wait_until(lambda: holders(NAME) == set())
    assert not any(NAME in name for name in set(os.listdir("/dev/shm")) - before)  # noqa: PTH208


@every_method
def test_memory_goes_when_the_last_holder_is_killed(method: Method) -> None:
    run(goes_with_its_last_holder, method)


@pytest.mark.alone
def test_memory_of_a_killed_process_is_given_back() -> None:
    # Others on the machine use shared memory too, so a round that they disturb is repeated.
    program = """
        import os, signal
        from mmapwrap import SharedMemory

        shared = SharedMemory.new("killed", 256 << 20, allocate=True)
        view = shared.map().view()
        print(next(int(line.split()[1]) for line in open("/proc/meminfo") if "Shmem:" in line),
              flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    rounds: list[tuple[int, int, int]] = []
    for _ in range(5):
        before = shared_memory_in_use()
        ended = child(program)
        assert ended.killed_by == "SIGKILL"
        assert ended.errors == ""
        during, after = int(ended.output) * 1024, shared_memory_in_use()
        rounds.append((before, during, after))
        if during - before > 200 << 20 and after - before < 50 << 20:
            return
        time.sleep(1)
    pytest.fail(f"shared memory in use before, during and after: {rounds}")
