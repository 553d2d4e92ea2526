"""`mmapwrap.mmap`: the same as the standard library's module, and no death where files are cut."""

import copy
import errno
import fcntl
import importlib.util
import mmap as standard
import operator
import os
import pickle
import resource
import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Self

import attrs
import numpy as np
import pytest
from kernel_view import (
    PAGE,
    child,
    in_process,
    is_mapped,
    kernel_names_memory,
    known_bytes,
    open_descriptors,
    process_unchanged,
    vmas_in,
)
from marks import MEMORY_IS_PAST_THE_LIMIT
from meanwhile import joined_at

from mmapwrap import (
    MappingFaultError,
    MemoryMapping,
    Protection,
    ProtectionError,
    RegionBusyError,
    mmap,
)

SIZE = 2 * PAGE + 100


@pytest.fixture
def path(disk_path: Path) -> Path:
    """A file of two pages and a bit."""
    path = disk_path / "file"
    path.write_bytes(known_bytes(SIZE))
    return path


# --- The tests of others ----------------------------------------------------------------------

CPYTHONS = """
    import sys, unittest
    import mmapwrap.mmap
    sys.modules["mmap"] = mmapwrap.mmap
    import test.test_mmap as tests
    assert tests.mmap is mmapwrap.mmap
    result = unittest.main(module=tests, argv=["test_mmap"], exit=False).result
    print(result.testsRun, len(result.failures), len(result.errors))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_mmap") is None,
    reason="a Python without its own tests",
)
def test_cpythons_own_tests_pass(tmp_path: Path) -> None:
    program = f"import os; os.chdir({str(tmp_path)!r})\n" + CPYTHONS.replace("\n    ", "\n")
    run, failures, errors = map(int, child(program).succeeded().split())
    assert run > 30
    assert (failures, errors) == (0, 0)


def test_numpys_own_tests_of_memmap_pass() -> None:
    program = """
        import sys
        import mmapwrap.mmap
        sys.modules["mmap"] = mmapwrap.mmap
        import pytest
        arguments = ["-q", "-p", "no:cacheprovider", "--pyargs", "numpy._core.tests.test_memmap"]
        sys.exit(pytest.main(arguments))
    """
    assert "passed" in child(program).succeeded()


# --- The same as the standard module ------------------------------------------------------------

Use = Callable[[Any, Any], object]

USES: dict[str, Use] = {
    "index": lambda m, _: [m[0], m[-1], m[SIZE - 1]],
    "index past the end": lambda m, _: m[SIZE],
    "index before the start": lambda m, _: m[-SIZE - 1],
    "index of no int": lambda m, _: m["a"],
    "slice": lambda m, _: [m[3:9], m[::-7][:9], m[5:2], m[-3:], m[SIZE + 5 :]],
    "set": lambda m, _: [m.__setitem__(3, 9), m.__setitem__(-1, 0), m[:5]],
    "set past the end": lambda m, _: m.__setitem__(SIZE, 1),
    "set to 256": lambda m, _: m.__setitem__(0, 256),
    "set to -1": lambda m, _: m.__setitem__(0, -1),
    "set to no int": lambda m, _: m.__setitem__(0, b"a"),
    "set slice": lambda m, _: [m.__setitem__(slice(2, 5), b"abc"), m[:7]],
    "set slice with a step": lambda m, _: [m.__setitem__(slice(9, 3, -2), b"abc"), m[:10]],
    "set empty slice": lambda m, _: m.__setitem__(slice(5, 5), b""),
    "set slice of another length": lambda m, _: m.__setitem__(slice(2, 5), b"ab"),
    "set slice to str": lambda m, _: m.__setitem__(slice(2, 5), "abc"),
    "delete": lambda m, _: operator.delitem(m, 0),
    "length": lambda m, _: [len(m), m.size(), bool(m)],
    "iterate": lambda m, _: list(m)[:300],
    "contains": lambda m, _: [b"a" in m, b"ab" in m, m[1] in m, b"" in m],
    "read": lambda m, _: [m.read(3), m.read(0), m.tell(), m.read(None)[:2], m.read(5), m.tell()],
    "read all": lambda m, _: [m.seek(5), m.read()[:3], m.read(-1)][1:],
    "read past the end": lambda m, _: [m.seek(-2, 2), m.read(10), m.tell()][1:],
    "read byte": lambda m, _: [m.read_byte(), m.tell()],
    "read byte at the end": lambda m, _: [m.seek(0, 2), m.read_byte()],
    "read line": lambda m, _: [m.readline()[:20], m.tell(), m.readline()[:9], m.tell()],
    "write": lambda m, _: [m.write(b"abc"), m.tell(), m.write(b""), m[:5]],
    "write too much": lambda m, _: [m.seek(-2, 2), m.write(b"abc")],
    "write str": lambda m, _: m.write("abc"),
    "write byte": lambda m, _: [m.write_byte(7), m.tell(), m[:2]],
    "write byte 256": lambda m, _: m.write_byte(256),
    "write byte at the end": lambda m, _: [m.seek(0, 2), m.write_byte(1)],
    "seek": lambda m, _: [m.seek(9), m.seek(-4, 1), m.tell(), m.seek(-1, 2), m.tell()][2::2],
    "seek before the start": lambda m, _: m.seek(-1),
    "seek past the end": lambda m, _: m.seek(SIZE + 1),
    "seek from nowhere": lambda m, _: m.seek(0, 7),
    "find": lambda m, _: [m.find(b"\x05\x06"), m.find(b"\x05", 6), m.find(b"no", -9), m.find(b"")],
    "find from the position": lambda m, _: [m.seek(300), m.find(b"\x05"), m.rfind(b"\x05")][1:],
    "find with an end": lambda m, _: [m.find(b"\x05", 0, 4), m.rfind(b"\x05", 0, -4)],
    "find of str": lambda m, _: m.find("a"),
    "move": lambda m, _: [m.move(0, 5, 10), m.move(7, 5, 9), m[:30]],
    "move past the end": lambda m, _: m.move(0, SIZE - 3, 4),
    "move by a negative count": lambda m, _: m.move(0, 1, -1),
    "flush": lambda m, _: [m.flush(), m.flush(0, PAGE), m.flush(PAGE, PAGE)],
    "flush past the end": lambda m, _: m.flush(0, SIZE + 1),
    "flush inside a page": lambda m, _: m.flush(1, 5),
    "advise": lambda m, s: [m.madvise(s.MADV_NORMAL), m.madvise(s.MADV_WILLNEED, 0, 10)],
    "advise that pages are dropped": lambda m, s: [m.madvise(s.MADV_DONTNEED, 0, 5), m[:5]],
    "advise past the end": lambda m, s: m.madvise(s.MADV_NORMAL, SIZE),
    "advise nothing known": lambda m, _: m.madvise(12345),
    "resize up": lambda m, _: [m.seek(5), m.resize(4 * PAGE), len(m), m.size(), m[-1], m.read(2)][
        1:
    ],
    "resize of what was changed": lambda m, _: [m.write(b"new"), m.resize(4 * PAGE), m[:5]],
    "resize down": lambda m, _: [m.resize(100), len(m), m.size(), m[-1]],
    "resize under a view": lambda m, _: [memoryview(m), m.resize(PAGE)],
    "resize to a negative size": lambda m, _: m.resize(-1),
    "close twice": lambda m, _: [m.close(), m.close(), m.closed],
    "close under a view": lambda m, _: [memoryview(m), m.close()],
    "read when closed": lambda m, _: [m.close(), m.read(1)],
    "index when closed": lambda m, _: [m.close(), m[0]],
    "length when closed": lambda m, _: [m.close(), len(m)],
    "enter when closed": lambda m, _: [m.close(), m.__enter__()],
    "pickle": lambda m, _: pickle.dumps(m),
    "copy": lambda m, _: copy.copy(m),
    "buffer": lambda m, _: [bytes(m)[:4], memoryview(m).readonly, memoryview(m).nbytes],
    "bytes": lambda m, _: bytes(m),
    "add": lambda m, _: m + b"a",
    "call with a keyword": lambda m, _: m.read(n=3),
}

OPENINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "read": {"access": standard.ACCESS_READ},
    "write": {"access": standard.ACCESS_WRITE},
    "copy": {"access": standard.ACCESS_COPY},
    "private": {"flags": standard.MAP_PRIVATE},
    "only read": {"prot": standard.PROT_READ},
    "only write": {"prot": standard.PROT_WRITE},
}


@attrs.frozen
class Outcome:
    """What came of a call: a value, or an error."""

    value: object = None
    error: Exception | None = None

    @staticmethod
    def of(call: Callable[[], object]) -> "Outcome":
        """Make a call."""
        try:
            return Outcome(call())
        except Exception as error:  # noqa: BLE001, which one is the question
            return Outcome(error=error.with_traceback(None))

    def require_same(self, wanted: "Outcome") -> None:
        """Require the same value, or an error that is one of the same kind as well."""
        assert self.value == wanted.value, self.error
        kind = type(wanted.error) if wanted.error else type(None)
        assert isinstance(self.error, kind), repr(self.error)
        assert getattr(self.error, "errno", None) == getattr(wanted.error, "errno", None)


def outcome(module: Any, path: Path, opening: dict[str, Any], use: Use) -> Outcome:
    """What comes of a use of a mapping, and of the file."""
    path.write_bytes(known_bytes(SIZE))
    with path.open("r+b") as file:
        m = module.mmap(file.fileno(), 0, **opening)
        return Outcome.of(lambda: (use(m, module), path.read_bytes()))


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("use", USES)
def test_use_has_the_outcome_of_the_standard_module(use: str, opening: str, path: Path) -> None:
    wanted = outcome(standard, path, OPENINGS[opening], USES[use])
    outcome(mmap, path, OPENINGS[opening], USES[use]).require_same(wanted)


CONSTRUCTIONS: dict[str, Callable[[Any, int], Any]] = {
    "length": lambda s, fd: s.mmap(fd, 100),
    "too long": lambda s, fd: s.mmap(fd, SIZE + 1),
    "negative length": lambda s, fd: s.mmap(fd, -1),
    "negative offset": lambda s, fd: s.mmap(fd, 1, offset=-1),
    "offset": lambda s, fd: s.mmap(fd, 0, offset=PAGE),
    "offset inside a page": lambda s, fd: s.mmap(fd, 10, offset=10),
    "offset past the end": lambda s, fd: s.mmap(fd, 0, offset=8 * PAGE),
    "bad descriptor": lambda s, _: s.mmap(12345, 10),
    "no descriptor": lambda s, _: s.mmap("file", 10),
    "anonymous": lambda s, _: s.mmap(-1, 100),
    "anonymous of no bytes": lambda s, _: s.mmap(-1, 0),
    "access and flags": lambda s, fd: s.mmap(fd, 0, flags=s.MAP_PRIVATE, access=s.ACCESS_READ),
    "no access": lambda s, fd: s.mmap(fd, 0, access=9),
    "no flags": lambda s, fd: s.mmap(fd, 0, flags=0),
    "populated": lambda s, fd: s.mmap(fd, 0, flags=s.MAP_SHARED | s.MAP_POPULATE),
    "by keyword": lambda s, fd: s.mmap(fileno=fd, length=0, prot=s.PROT_READ),
    "too few": lambda s, fd: s.mmap(fd),
    "unknown keyword": lambda s, fd: s.mmap(fd, 0, tagname="x"),
}


@pytest.mark.parametrize("make", CONSTRUCTIONS)
def test_construction_has_the_outcome_of_the_standard_module(make: str, path: Path) -> None:
    def construct(module: Any) -> object:
        with path.open("r+b") as file, CONSTRUCTIONS[make](module, file.fileno()) as m:
            return len(m), m[:10], m.tell(), repr(m)

    wanted = Outcome.of(lambda: construct(standard))
    Outcome.of(lambda: construct(mmap)).require_same(wanted)


def test_constants_are_those_of_the_standard_module() -> None:
    for name in dir(standard):
        if name.isupper():
            assert getattr(mmap, name) == getattr(standard, name), name
    assert mmap.error is OSError
    assert mmap.MS_SYNC == 4


# --- More than the standard module ----------------------------------------------------------------


def test_truncated_file_is_an_error_and_no_signal(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as m:
        os.truncate(path, 10)
        for use in (lambda: m[2 * PAGE], lambda: m.find(b"no such bytes"), m.read, lambda: list(m)):
            with pytest.raises(MappingFaultError):
                use()
        assert m[:10] == known_bytes(10)


def test_mapping_leads_to_everything_else(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as m:
        assert type(m.mapping) is MemoryMapping
        assert len(m.mapping.residency().pages) == 3
        with m.mapping.fault_guard():
            assert memoryview(m)[0] == known_bytes(1)[0]


def test_arrays_keep_the_pages_and_the_mapping_open() -> None:
    m = mmap.mmap(-1, PAGE)
    array = np.frombuffer(m, np.uint8)
    with pytest.raises(BufferError, match="exported pointers exist"):
        m.close()
    address = m.mapping.as_ptr()
    del m
    array[0] = 1
    assert is_mapped(address)
    del array
    assert not is_mapped(address)


def test_threads_read_each_byte_once() -> None:
    pieces = 4_000
    with mmap.mmap(-1, 8 * pieces) as m:
        m[:] = b"".join(b"%07d\n" % number for number in range(pieces))
        read: list[bytes] = []

        def read_lines() -> None:
            while line := m.readline():
                read.append(line)

        threads = [threading.Thread(target=read_lines) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert b"".join(sorted(read)) == m[:]


def test_nothing_stays_open_or_mapped(path: Path) -> None:
    with path.open("r+b") as file, process_unchanged():
        before = len(open_descriptors())
        with mmap.mmap(file.fileno(), 0) as m:
            assert len(open_descriptors()) == before + 1
            m.resize(4 * PAGE)
        with mmap.mmap(file.fileno(), 0, trackfd=False) as m:
            assert len(open_descriptors()) == before
            with pytest.raises(ValueError, match="trackfd=False"):
                m.resize(PAGE)
            with pytest.raises(OSError, match="Bad file descriptor"):
                m.size()
        lost = mmap.mmap(file.fileno(), 0)
        del lost, m
        assert len(open_descriptors()) == before


# --- A resize, and what comes in its middle ---------------------------------------------------


def close_and_open(m: mmap.mmap, other: Path, taken: list[BinaryIO]) -> None:
    """Close a mapping and open another file, which gets the lowest free descriptor."""
    m.close()
    taken.append(other.open("r+b"))


@pytest.mark.parametrize("newsize", [100, 4 * PAGE])
@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE])
def test_close_in_the_middle_of_a_resize_touches_no_other_file(
    newsize: int, flags: int, path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"v" * SIZE)
    outcomes: set[str] = set()

    def resize(m: mmap.mmap) -> None:
        try:
            m.resize(newsize)
            outcomes.add("no error")
        except ValueError as error:
            outcomes.add(str(error))

    with path.open("r+b") as file, process_unchanged():
        for moment in count():  # pragma: no branch
            os.ftruncate(file.fileno(), SIZE)
            m = mmap.mmap(file.fileno(), 0, flags=flags)
            taken: list[BinaryIO] = []

            if not joined_at(moment, partial(resize, m), partial(close_and_open, m, other, taken)):
                m.close()
                del m
                break
            assert m.closed
            assert m.mapping.closed
            assert other.stat().st_size == SIZE
            taken[0].close()
    assert outcomes == {"no error", "mmap closed or invalid"}


def test_close_by_the_truncation_of_a_resize_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above at one moment, where what measures the lines of a test sees it."""
    with path.open("r+b") as file:
        m = mmap.mmap(file.fileno(), 0)
        truncate = os.ftruncate

        def close_and_truncate(fd: int, length: int) -> None:
            m.close()
            truncate(fd, length)

        monkeypatch.setattr(os, "ftruncate", close_and_truncate)
        with pytest.raises(ValueError, match=r"^mmap closed or invalid$"):
            m.resize(PAGE)
        assert (m.closed, m.mapping.closed) == (True, True)
        assert path.stat().st_size == PAGE


def test_close_in_the_middle_of_a_size_asks_no_other_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"v")
    answers: set[object] = set()

    def ask(m: mmap.mmap) -> None:
        try:
            answers.add(m.size())
        except ValueError as error:
            answers.add(str(error))

    with path.open("r+b") as file:
        for moment in count():  # pragma: no branch
            m = mmap.mmap(file.fileno(), 0)
            taken: list[BinaryIO] = []

            if not joined_at(moment, partial(ask, m), partial(close_and_open, m, other, taken)):
                break
            taken[0].close()
    assert SIZE in answers
    assert not answers & {1}


OF_THE_START: list[Callable[[mmap.mmap], object]] = [
    lambda m: m.read(5),
    lambda m: m.readline(),
    lambda m: m.tell(),
    lambda m: m.seek(7),
    lambda m: m[3],
    lambda m: m[1:9],
]
OF_WHOLE_RANGES: list[Callable[[mmap.mmap], object]] = [
    lambda m: m.find(b"none of it", PAGE - 100),
    lambda m: m.flush(),
    lambda m: m.madvise(mmap.MADV_NORMAL),
]


@pytest.mark.parametrize("newsize", [PAGE, 4 * PAGE])
@pytest.mark.parametrize("fileno", [None, -1])
def test_resize_in_the_middle_of_a_read_fails_it_not(
    fileno: int | None, newsize: int, path: Path
) -> None:
    # A file is mapped anew, so that calls on whole ranges end in the old mapping.
    uses = OF_THE_START if fileno == -1 else OF_THE_START + OF_WHOLE_RANGES
    with path.open("r+b") as file:
        for use in uses:
            for moment in count():  # pragma: no branch
                os.ftruncate(file.fileno(), SIZE)
                flags = mmap.MAP_SHARED if fileno is None else mmap.MAP_PRIVATE
                fd = file.fileno() if fileno is None else fileno
                with mmap.mmap(fd, SIZE, flags=flags) as m:
                    try:
                        if not joined_at(moment, partial(use, m), partial(m.resize, newsize)):
                            break
                    except MappingFaultError as error:  # of bytes that were really cut
                        assert (newsize, error.offset) == (PAGE, PAGE)  # noqa: PT017


@pytest.mark.parametrize("newsize", [PAGE, 4 * PAGE])
def test_read_in_the_middle_of_a_resize_moves_the_position(newsize: int, path: Path) -> None:
    with path.open("r+b") as file:
        for moment in count():  # pragma: no branch
            os.ftruncate(file.fileno(), SIZE)
            read: list[bytes] = []
            with mmap.mmap(file.fileno(), 0) as m:
                m.seek(7)

                def read_on(m: mmap.mmap = m, read: list[bytes] = read) -> None:
                    read.append(m.read(5))

                if not joined_at(moment, partial(m.resize, newsize), read_on):
                    break
                assert (read, m.tell()) == ([known_bytes(SIZE)[7:12]], 12)


def test_resize_in_the_middle_of_a_resize_is_refused(path: Path) -> None:
    refused = 0
    with path.open("r+b") as file:
        for moment in count():  # pragma: no branch
            os.ftruncate(file.fileno(), SIZE)
            with mmap.mmap(file.fileno(), 0) as m:
                again = partial(m.resize, PAGE)
                try:
                    if not joined_at(moment, partial(m.resize, 100), again):
                        break
                except RegionBusyError:
                    refused += 1
    assert refused > 5


def test_shared_memory_that_shrinks_is_shared_with_children_still() -> None:
    with mmap.mmap(-1, 2 * PAGE) as m:
        go, may_go = os.pipe()

        def write() -> None:
            os.read(go, 1)
            m[0] = 77

        child_id = os.fork()
        if child_id == 0:  # pragma: no cover  # the child
            write()
            os._exit(0)
        before = m.mapping
        m.resize(PAGE)
        os.write(may_go, b"x")
        os.waitpid(child_id, 0)
        os.close(go)
        os.close(may_go)
        assert (m[0], len(m), m.size(), m.mapping is before) == (77, PAGE, PAGE, True)
        with pytest.raises(ValueError, match="can't expand"):
            m.resize(PAGE + 1)


def memfd(size: int, seals: int = 0) -> int:
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize(
    ("seal", "newsize", "error"),
    [
        pytest.param(fcntl.F_SEAL_SHRINK, PAGE, PermissionError, id="cut"),
        pytest.param(fcntl.F_SEAL_GROW, 4 * PAGE, PermissionError, id="lengthen"),
        pytest.param(0, 1 << 48, OSError, id="map what is longer"),
    ],
)
def test_resize_that_fails_leaves_the_file_and_the_mapping(
    seal: int, newsize: int, error: type[OSError]
) -> None:
    fd = memfd(2 * PAGE, seal)
    with mmap.mmap(fd, 0) as m:
        m[:3] = b"abc"
        m.seek(1)
        with process_unchanged(), pytest.raises(error):
            m.resize(newsize)
        assert (len(m), m.size(), m[:3], m.read(2)) == (2 * PAGE, 2 * PAGE, b"abc", b"bc")
        assert not m.closed
    os.close(fd)


def shrink_without_addresses() -> None:
    fd = memfd(2 * PAGE)
    with mmap.mmap(fd, 0) as m:
        resource.setrlimit(resource.RLIMIT_AS, (PAGE, resource.RLIM_INFINITY))
        with pytest.raises(OSError, match="Cannot allocate memory"):
            m.resize(PAGE)
        assert (len(m), os.fstat(fd).st_size, m[-1]) == (2 * PAGE, 2 * PAGE, 0)


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
def test_shrinking_that_finds_no_addresses_leaves_the_file() -> None:
    in_process(shrink_without_addresses).succeeded_silently()


def test_private_memory_grows_with_its_content() -> None:
    with mmap.mmap(-1, 100, flags=mmap.MAP_PRIVATE) as m:
        m[:3] = b"abc"
        m.seek(2)
        m.resize(3 * PAGE)
        assert (len(m), m[:4], m[-1], m.tell()) == (3 * PAGE, b"abc\0", 0, 2)
        m.resize(2)
        assert m[:] == b"ab"
    with mmap.mmap(-1, 100) as shared, pytest.raises(ValueError, match="can't expand"):
        shared.resize(101)


def test_resize_needs_no_access_to_what_is_dropped(path: Path) -> None:
    with path.open("r+b") as file:
        for fd in (-1, file.fileno()):
            with mmap.mmap(fd, 2 * PAGE, flags=mmap.MAP_PRIVATE) as m:
                m[:3] = b"abc"
                m.mapping.protect(Protection.none(), PAGE)
                m.resize(100)
                assert (len(m), m[:3]) == (100, b"abc")


def test_subclass_adds_to_its_base() -> None:
    class Log(mmap.mmap):
        def __new__(cls, size: int) -> Self:
            return super().__new__(cls, -1, size)

        def line(self) -> bytes:
            return self.readline().strip()

    with Log(100) as log:
        log.write(b"one\ntwo\n")
        log.seek(0)
        assert [log.line(), log.line()] == [b"one", b"two"]
        assert repr(log).startswith("<Log closed=False, access=ACCESS_DEFAULT, length=100, pos=8")
        assert weakref.ref(log)() is log


def test_flags_that_are_not_supported_are_refused() -> None:
    fixed = 0x10
    with pytest.raises(ValueError, match=r"^mmap flags 0x10 are not supported$"):
        mmap.mmap(-1, 100, flags=mmap.MAP_PRIVATE | fixed)


def test_additions_of_newer_versions_are_there(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as m:
        assert m.seekable()
        assert m.seek(3) == 3
        m.flush(flags=mmap.MS_ASYNC)
        m.flush(0, flags=mmap.MS_SYNC | mmap.MS_INVALIDATE)
        with pytest.raises(OSError, match="Invalid argument") as caught:
            m.flush(flags=1 << 20)
        assert caught.value.errno == errno.EINVAL
        m.madvise(mmap.MADV_NORMAL, 0, None)
        with pytest.raises(ValueError, match="non-anonymous"):
            m.set_name("file")


def test_script_runs_with_the_drop_in(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    (tmp_path / "beside.py").write_text("import mmap\n")
    script.write_text(
        "import beside, mmap, sys\n"
        "print(beside.mmap.__name__, sys.argv, __name__)\n"
        "with mmap.mmap(-1, 10) as m: print(type(m.mapping).__name__)\n"
    )
    program = f"""
        import runpy, sys
        sys.argv = ["mmap", {str(script)!r}, "-x", "y"]
        runpy.run_module("mmapwrap.mmap", run_name="__main__", alter_sys=True)
    """
    lines = child(program).succeeded().splitlines()
    assert lines == [f"mmapwrap.mmap ['{script}', '-x', 'y'] __main__", "MemoryMapping"]


def test_module_runs_with_the_drop_in(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "beside.py").write_text("import mmap\n")
    (package / "__main__.py").write_text(
        "import sys\nfrom package.beside import mmap\n"
        "print(mmap.__name__, sys.argv[1:], __name__)\n"
    )
    program = f"""
        import runpy, sys
        sys.path.insert(0, {str(tmp_path)!r})
        sys.argv = ["mmap", "-m", "package", "-x", "y"]
        runpy.run_module("mmapwrap.mmap", run_name="__main__", alter_sys=True)
    """
    assert child(program).succeeded() == "mmapwrap.mmap ['-x', 'y'] __main__\n"


@pytest.mark.parametrize("arguments", [["--wrong"], ["-m"], ["/missing/script.py"]], ids=str)
def test_runner_of_what_is_no_script_says_so(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^usage: |there is no file"):
        mmap.main(arguments)


def test_runner_tells_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    mmap.main(["--help"])
    assert capsys.readouterr().out.startswith("usage: python -m mmapwrap.mmap (SCRIPT | -m MODULE)")


def test_runner_without_a_script_says_what_it_wants() -> None:
    program = """
        import runpy, sys
        sys.argv = ["mmap"]
        runpy.run_module("mmapwrap.mmap", run_name="__main__", alter_sys=True)
    """
    ended = child(program)
    assert ended.status == 1
    assert ended.errors.startswith("usage: python -m mmapwrap.mmap ")


def test_bytes_come_in_both_directions() -> None:
    with mmap.mmap(-1, PAGE + 2) as m:
        m[:2], m[PAGE:] = b"ab", b"yz"
        forwards = list(m)
        assert forwards == [bytes([each]) for each in m[:]]
        assert list(reversed(m)) == forwards[::-1]


def test_object_takes_no_other_attributes_and_a_subclass_does() -> None:
    class Named(mmap.mmap):
        pass

    with mmap.mmap(-1, 10) as m, Named(-1, 10) as named:
        with pytest.raises(AttributeError):
            setattr(m, "other", 1)  # noqa: B010, for type checkers
        setattr(named, "other", 1)  # noqa: B010
        assert weakref.ref(m)() is m


@pytest.mark.parametrize("arguments", [(-1, 2**63), (-1, 10**30), (-1, 10, 1, 3, 0, 2**64)])
def test_number_too_large_is_an_overflow(arguments: tuple[int, ...]) -> None:
    with pytest.raises(OverflowError, match="too large"):
        mmap.mmap(*arguments)


def test_size_of_anonymous_memory_is_its_own() -> None:
    with mmap.mmap(-1, 100) as m:
        assert m.size() == 100
    with mmap.mmap(-1, 100, trackfd=False) as m, pytest.raises(OSError, match="Bad file"):
        m.size()


def test_memory_without_access_is_an_error_where_it_is_read() -> None:
    with mmap.mmap(-1, PAGE, prot=0) as m:
        for use in (m.read, m.tell, lambda: m[0], lambda: bytes(m)):
            with pytest.raises(ProtectionError):
                use()


def test_device_is_mapped_by_its_length() -> None:
    with open("/dev/zero", "r+b", buffering=0) as zeros, mmap.mmap(zeros.fileno(), 100) as m:
        assert m[:] == bytes(100)


def test_name_of_anonymous_memory_is_given_to_the_kernel() -> None:
    with mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE) as m:
        if kernel_names_memory(m.mapping.as_ptr(), PAGE):
            m.set_name("drop-in")
            assert "drop-in" in vmas_in(m.mapping.as_ptr(), PAGE)[0].path
        else:
            with pytest.raises(OSError, match="prctl"):
                m.set_name("drop-in")


def test_resize_to_nothing_leaves_the_file(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as m:
        with pytest.raises(OSError, match="Invalid argument"):
            m.resize(0)
        assert (len(m), path.stat().st_size) == (SIZE, SIZE)
