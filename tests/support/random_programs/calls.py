"""What the lines of a program are written with, beside the library itself."""

import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import mmapwrap
from mmapwrap import MmapError

# What a program is told of itself, so that it runs on its own beside this package.
PROLOGUE = """\
import os, tempfile
import numpy as np
from contextlib import suppress
from pathlib import Path
from mmapwrap import *
from mmapwrap import mmap
from kernel_view import free_address, known_bytes
from random_programs.calls import READERS, guarded, in_threads, interrupted
from random_programs.names import listed

folder = tempfile.mkdtemp(prefix="random-program-")
prefix = os.path.basename(folder)

"""

_LIBRARY = str(Path(mmapwrap.__file__).parent)


def in_threads(*calls: Callable[[], object], rounds: int = 10) -> None:
    """Repeat each call in a thread of its own; errors of the library are what threads may get."""
    barrier = threading.Barrier(len(calls))
    unexpected: list[BaseException] = []

    def repeat(call: Callable[[], object]) -> None:
        barrier.wait()
        for _ in range(rounds):
            try:
                call()
            except MmapError:
                continue
            except BaseException as error:  # noqa: BLE001 - raised below, in the step itself
                unexpected.append(error)
                return

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if unexpected:
        raise unexpected.pop()


def interrupted(call: Callable[[], object], *between: Callable[[], object], every: int) -> None:
    """Make a call, and others in the middle of it, as a signal handler or a finalizer does.

    They come after so many lines that the call runs in the library, again after as many more, and
    once when it is over. Errors of the library end the call that they come from, nothing else.
    """
    lines, times = 0, 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines, times
        if not frame.f_code.co_filename.startswith(_LIBRARY):
            return None
        if event == "line":
            lines += 1
            # Not for ever: what tries again after an interruption must get its turn.
            if lines % every == 0 and times < 200:
                times += 1
                _without_library_errors(between)
        return trace

    traced = sys.gettrace()
    sys.settrace(trace)
    try:
        _without_library_errors([call])
    finally:
        sys.settrace(traced)
    _without_library_errors(between)


def _without_library_errors(calls: Iterable[Callable[[], object]]) -> None:
    for call in calls:
        try:
            call()
        except MmapError:
            continue


def guarded(region: mmapwrap.MappedRegion) -> bytes:
    """All of a region through a view, under a guard."""
    with region.fault_guard():
        return bytes(region.view())


def _read_slice(region: Any, start: int, count: int) -> bytes:
    buffer = bytearray(count)
    assert region.read_slice(buffer, start) == count
    return bytes(buffer)


def _read_exact(region: Any, start: int, count: int) -> bytes:
    buffer = bytearray(count)
    region.read_exact(buffer, start)
    return bytes(buffer)


# Each way to copy a range out of a region.
READERS: dict[str, Callable[[Any, int, int], bytes]] = {
    "read_slice": _read_slice,
    "read_exact": _read_exact,
    "slice": lambda region, start, count: region[start : start + count],
    "every byte": lambda region, start, count: bytes(region[start : start + count : 1]),
    "strided": lambda region, start, count: region[start : start + count : 3],
}
