"""NumPy arrays over a region's pages."""

from typing import Any

import numpy as np

from mmapwrap._core import buffers, calls
from mmapwrap._core.constants import PROT_READ
from mmapwrap._core.pages import Pages


def array_of(pages: Pages, dtype: Any, *, copy: bool | None) -> Any:
    """Return all of the pages as an array of bytes, or a copy of another dtype.

    Raises:
        ValueError: `copy` is False, and the dtype needs a copy.
    """
    wanted = np.dtype(np.uint8 if dtype is None else dtype)
    if wanted == np.uint8 and not copy:
        return np.frombuffer(memoryview(pages.export(0, None)), np.uint8)
    if copy is False:
        raise ValueError("a region is bytes: another dtype needs a copy")
    content = bytearray(pages.size)
    memory = buffers.bytes_to_fill(content)
    pages.run_on_range(calls.read, 0, len(content), memory, PROT_READ)
    return np.frombuffer(content, np.uint8).astype(wanted, copy=False)
