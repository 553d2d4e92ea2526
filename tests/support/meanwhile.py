"""What may come in the middle of a call: an exception of a signal's handler, another thread."""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from kernel_view import say

from mmapwrap import MemoryMapping, MemoryMappingArena
from mmapwrap._core.pages import Pages


class Interruption(BaseException):
    """What no code expects, at a place that no code expects."""


def do_nothing(number: int, frame: FrameType | None) -> None:
    """For a signal that Python handles late; of one without a handler it would complain."""


def interrupted_after(
    seconds: float, call: Callable[[], object], exception: BaseException | None = None
) -> bool:
    """Make a call that a signal's handler interrupts after so long; False where it ended before.

    What the handler raises must come out of the call.
    """
    raised = Interruption() if exception is None else exception
    is_running, has_raised = True, False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal has_raised
        # Python handles a signal some time after it came: the call may have ended meanwhile.
        if is_running:
            has_raised = True
            raise raised

    signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        is_running = False
    except type(raised) as error:
        if error is not raised:
            raise
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, do_nothing)
        # Or this frame and the exception would keep each other, and all that the others hold.
        raised.__traceback__ = raised.__context__ = None
    assert not has_raised, "the handler's exception was swallowed"
    return False


def interrupted_at(moment: int, call: Callable[[], object], exception: type[BaseException]) -> bool:
    """Make a call that is interrupted before so many of its lines; False where it has fewer."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if "mmapwrap" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        if lines > moment:
            sys.settrace(None)
            raise exception
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except exception:
        return True
    finally:
        sys.settrace(before)
    return False


def joined_at(moment: int, call: Callable[[], object], act: Callable[[], object]) -> bool:
    """Make a call, and another before so many of its lines; False where it has fewer.

    What both raise comes out.
    """
    lines, has_acted = 0, False

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines, has_acted
        if "mmapwrap" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        if lines > moment and not has_acted:
            has_acted = True
            act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return has_acted


def pages_of(region: MemoryMapping | MemoryMappingArena) -> Pages:
    return region._pages  # pyright: ignore[reportPrivateUsage]


@contextmanager
def changing(region: MemoryMapping | MemoryMappingArena) -> Generator[None]:
    """While another thread is in the middle of changing the layout of the region."""
    begun, over, waited = threading.Event(), threading.Event(), list[bool]()

    def change() -> None:
        begun.set()
        waited.append(over.wait(20))

    thread = threading.Thread(target=pages_of(region).exclusively, args=(change,))
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert waited == [True]


def run_for(seconds: float, *loops: Callable[[], object]) -> list[int]:
    """Repeat each function in a thread of its own for so long; returns how often each ran.

    Fails where one of them hangs.
    """
    counts = [0] * len(loops)
    end = time.monotonic() + seconds
    errors: list[BaseException] = []

    def repeat(index: int) -> None:
        try:
            while time.monotonic() < end:
                loops[index]()
                counts[index] += 1
        except BaseException as error:  # noqa: BLE001  # it is raised below
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(i,), daemon=True) for i in range(len(loops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0) + 10)
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback()
        say("hangs after", *counts)
        os._exit(1)
    for error in errors:
        raise error
    return counts
