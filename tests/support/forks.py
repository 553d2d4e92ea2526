"""Forks whose child ends whatever comes, and is waited for."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable


def forked(work: Callable[[], object], timeout: float = 30) -> int:
    """Fork, do the work in the child, and give its wait status; a child that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  # all of it has to end here
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        waited, status = os.waitpid(pid, os.WNOHANG)
        if waited:
            return status
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


def run_forked(work: Callable[[], object]) -> None:
    """Fork, and do the work in the child, which must end well."""
    status = forked(work)
    assert status == 0, f"the child's wait status is {status}"
