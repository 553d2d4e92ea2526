"""Waiting for what happens soon, in another process or in the kernel."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Whether a condition holds by then, for what the kernel does on its own time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something holds; fails where it does not come to that."""
    assert eventually(condition, seconds)
