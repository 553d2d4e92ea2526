"""The command run as its users run it, in a pipe or on a terminal, and files to run it on."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from kernel_view import PAGE, known_bytes

COMMAND = [sys.executable, "-m", "mmapwrap"]

# The same command, where rich cannot be imported.
WITHOUT_RICH = [
    sys.executable,
    "-c",
    "import sys; sys.modules['rich'] = None\nfrom mmapwrap.__main__ import main\nsys.exit(main())",
]

# The same command as somebody else, who may be unable to read the standard library: it runs once
# before, so that all is imported. The real user stays, so that the child can still write what it
# measured of itself; the kernel asks for the effective one.
AS_NOBODY = [
    sys.executable,
    "-c",
    """if True:
        import io, os, sys
        from contextlib import redirect_stderr, redirect_stdout
        from mmapwrap.__main__ import main
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main(["residency", "/dev/null"])
        os.setgroups([])
        os.setegid(65534)
        os.seteuid(65534)
        status = main()
        os.seteuid(0)
        os.setegid(0)
        sys.exit(status)
    """,
]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

_SHAPES_OUTPUT = {
    "COLUMNS",
    "FORCE_COLOR",
    "LINES",
    "NO_COLOR",
    "PYTHONIOENCODING",
    "PYTHONUNBUFFERED",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
}


@attrs.frozen
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def document(self) -> Any:
        """The JSON document, which must be all of the output and one line."""
        (line,) = self.lines
        return json.loads(line)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with UTF-8 and nothing that says how to draw."""
    kept = {name: value for name, value in os.environ.items() if name not in _SHAPES_OUTPUT}
    return {**kept, "LC_ALL": "C.UTF-8", "TERM": "xterm", **changes}


def run(
    *arguments: str | bytes | Path,
    command: Sequence[str] = COMMAND,
    cwd: Path | None = None,
    **changes: str,
) -> Ended:
    """Run the command with its output in pipes, and wait for its end."""
    ended = subprocess.run(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=cwd,
        env=environment(**changes),
        check=False,
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@contextmanager
def started(
    *arguments: str | Path, stdout: int | None = None, stderr: int | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """Run the command beside the block; it is gone when the block ends."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def full_pipe() -> tuple[int, int]:
    """Make a pipe that holds as little as the system lets it: its writer soon has to wait."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    return reader, writer


def wait_until_full(reader: int, line: int = 1) -> None:
    """Wait until a pipe has no room for another line of `line` bytes, and its writer waits."""
    capacity = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    deadline = time.monotonic() + 60
    while True:
        (waiting,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))
        if waiting > capacity - line:
            break
        assert time.monotonic() < deadline, f"only {waiting} of {capacity} bytes were written"
        time.sleep(0.01)
    time.sleep(0.5)  # what comes before the next line takes far less


def read_all(reader: int) -> str:
    """Read a pipe to its end, and close it."""
    with open(reader, "rb") as pipe:
        return pipe.read().decode()


@attrs.frozen
class OnTerminal:
    """How a command on a terminal ended, and all that it wrote there."""

    status: int
    written: str

    @property
    def screen(self) -> list[str]:
        """What can be read on the terminal afterwards."""
        return shown(self.written)


def run_on_terminal(
    *arguments: str | Path,
    command: Sequence[str] = COMMAND,
    columns: int = 200,
    interrupt_after: str | None = None,
    errors_to: Path | None = None,
    **changes: str,
) -> OnTerminal:
    """Run the command on a terminal of its own.

    Args:
        arguments: of the command.
        command: what is run.
        columns: how wide the terminal is.
        interrupt_after: send SIGINT, as Ctrl-C does, once this was written.
        errors_to: a file for standard error, in place of the terminal.
        changes: of the environment.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    err = theirs if errors_to is None else os.open(errors_to, os.O_WRONLY | os.O_CREAT, 0o600)
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=err,
        env=environment(**changes),
        start_new_session=True,
    )
    for descriptor in {theirs, err}:
        os.close(descriptor)
    written = b""
    interrupt: Callable[[int], None] | None = process.send_signal if interrupt_after else None
    while True:
        ready, _, _ = select.select([ours], [], [], 60)
        assert ready, f"the command says nothing more after {written!r}"
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: the last process has closed the terminal
            break
        written += piece
        if interrupt is not None and str(interrupt_after).encode() in written:
            interrupt(signal.SIGINT)
            interrupt = None
    os.close(ours)
    return OnTerminal(process.wait(60), written.decode())


def shown(written: str) -> list[str]:
    """Work out what a terminal shows of what was written to it: its lines, but for empty ones.

    Knows what progress bars need: carriage return, colour, cursor up, hidden cursor, and
    erasing from the cursor on or the whole line. Fails on anything else that is not text.
    """
    lines = [""]
    row = column = 0
    rest = iter(written)
    for character in rest:
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif character == "\x1b":
            assert next(rest) == "["
            numbers = ""
            while not (final := next(rest)).isalpha():
                numbers += final
            if final == "A":
                row -= int(numbers or 1)
            elif final == "K":
                lines[row] = "" if numbers == "2" else lines[row][:column]
            else:
                assert final == "m" or (numbers, final) in {("?25", "l"), ("?25", "h")}
        else:
            assert character.isprintable(), f"{character!r} reached the terminal"
            line = lines[row].ljust(column)
            lines[row] = line[:column] + character + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line]


def write_out(path: Path, count: int) -> Path:
    """Make a file of `count` bytes, on storage and in the page cache."""
    with path.open("wb") as file:
        file.write(known_bytes(count))
        file.flush()
        os.fsync(file.fileno())
    return path


def drop(path: Path) -> None:
    """Take a file out of the page cache, without the library."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bring_in(path: Path, first_page: int, pages: int) -> None:
    """Bring some pages of a file into the page cache, and no more, without the library."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), pages * PAGE, first_page * PAGE)


def resident_pages(*paths: Path | str) -> int:
    pages: int = run("residency", "--json", *paths).document["total"]["resident_pages"]
    return pages
