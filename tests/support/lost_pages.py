"""Pages that a mapping has and its file has no more, and the errors that they make."""

import errno
import os
from collections.abc import Callable

from kernel_view import PAGE, known_bytes

from mmapwrap import MappedRegion, MappingFaultError, MmapError

PAGES = 16
SIZE = PAGES * PAGE
KEPT = 4  # pages that a file has left when it has been cut


def grow_again(fd: int) -> None:
    """Give a file that was cut all of its bytes back."""
    os.pwrite(fd, known_bytes(SIZE), 0)


def fault_of(call: Callable[[], object]) -> MappingFaultError:
    """The error of a call that meets pages which are not there; it keeps no region."""
    found: MappingFaultError | None = None
    try:
        call()
    except MappingFaultError as error:
        found = error.with_traceback(None)
    assert found is not None, "no page is missing"
    assert found.errno == errno.EIO
    assert isinstance(found, OSError)
    assert isinstance(found, MmapError)
    return found


def touch_in_guard(m: MappedRegion, *pages: int) -> None:
    """Read a byte of each of these pages, which are lost, in a view under a guard."""
    with m.view() as view, m.fault_guard():
        assert [view[page * PAGE] for page in pages] == [0] * len(pages)
