"""LayoutLock: the lock of one region's layout.

A region's layout is the access and the content of each of its ranges. Two patterns use the lock:

- A change (protect, an arena's add and remove, guard pages) runs by `exclusively`: one at a time.
- A question about the layout (a new view, the list of segments) runs by `consistently`: without
  the lock, and once more under it if a change ran at the same time.

It is a sequence lock: a number that is odd while a change runs tells a reader that its answer may
be torn. The lock is written in C (`csrc/layout_lock.c`, which explains the fork of a process and
the steps that a signal handler must not interrupt). It belongs to one region and touches no pages,
so that no fork, finalizer, file system or other region waits for it.
"""

import errno
from typing import NoReturn

from mmapwrap._core.python_types import SequenceLock
from mmapwrap.errors import RegionBusyError


class LayoutLock(SequenceLock):
    """A sequence lock whose refusal is an error of the library."""

    __slots__ = ()

    def _refuse(self, call: str) -> NoReturn:
        raise RegionBusyError(errno.EBUSY, call)
