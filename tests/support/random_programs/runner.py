"""Programs run in a child process, and what became of them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from random_programs.calls import PROLOGUE
from random_programs.names import remove_all

SUPPORT = Path(__file__).parent.parent


class ProgramFailedError(AssertionError):
    """A program ended as none may; the text holds it, to be run again."""


def _run(
    command: Sequence[object], limit: float | None, folder: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(SUPPORT), os.getenv("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-P", *map(str, command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": folder},
    )


def shortened(lines: list[str], status: int, until: float, folder: str) -> list[str]:
    """The lines without those that the program dies without."""
    count = len(lines)
    while count > 1 and time.monotonic() < until:
        count = max(count // 2, 1)
        at = 0
        while at < len(lines) and time.monotonic() < until:
            fewer = lines[:at] + lines[at + count :]
            with suppress(subprocess.TimeoutExpired):
                if _run(["-c", PROLOGUE + "".join(fewer)], 20, folder).returncode == status:
                    lines = fewer
                    continue
            at += count
    return lines


@contextmanager
def _temporary_folder() -> Generator[str]:
    """A folder for the folders of programs; it goes with all that they have named."""
    with tempfile.TemporaryDirectory(prefix="random-programs-") as folder:
        try:
            yield folder
        finally:
            for left in Path(folder).glob("random-program-*"):
                remove_all(str(left))


def run_programs(
    number: int, *, steps: int, seconds: float = 3600, calls: Path | None = None
) -> int:
    """Runs random programs in a child and returns how many steps they took.

    At least so many `steps`, or fewer where the `seconds` are over: a slow machine is no failure.
    A file for `calls` gets the names of the public calls that they make.

    Raises:
        ProgramFailedError: A program ended with a signal, in an error that it should not get, with
            other bytes than the model has, or not at all.
    """
    with _temporary_folder() as folder:
        log = Path(folder, "log")
        log.touch()
        options: dict[str, object] = {
            "--seed": number,
            "--steps": steps,
            "--seconds": seconds,
            "--log": log,
        }
        if calls is not None:
            options["--calls"] = calls
        words = [word for option in options.items() for word in option]
        # No time limit: a program that hangs is ended by the child itself.
        ended = _run(["-m", "random_programs.child", *words], None, folder)
        if ended.returncode == 0:
            return int(ended.stdout.split()[-1])
        lines = log.read_text().splitlines(keepends=True)
        how = f"status {ended.returncode}"
        if ended.returncode < 0:
            how = signal.Signals(-ended.returncode).name
            lines = shortened(lines, ended.returncode, time.monotonic() + 30, folder)
    raise ProgramFailedError(
        f"seed {number}: a program ended with {how}\n\n{PROLOGUE}{''.join(lines)}\n"
        f"{ended.stdout}{ended.stderr}"
    )
