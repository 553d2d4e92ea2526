"""Reads by another library, of a mapped file that is whole, or truncated before it has read all."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_view import PAGE, Child, say

from mmapwrap import MemoryMapping

CONTENT = np.random.default_rng(7).bytes(400_000)  # nothing makes it smaller


class Stage:
    """Where a client reads a file: `cut` says when the file is truncated to half its length.

    That is "before" the library opens the mapped file, "after" it has opened the file and while it
    still has to read it, or "never". The file ends at a page then: what is left of the page would
    read as zeros, as in every mapping.
    """

    def __init__(self, path: Path, cut: str) -> None:
        self.path = path
        self._cut = cut
        self.is_cut = False

    def map(self, content: bytes) -> MemoryMapping:
        """Write the file and map it."""
        self.path.write_bytes(content)
        mapping = MemoryMapping.from_file(self.path)
        self._now("before")
        return mapping

    def file(self, content: bytes) -> Any:
        """Write the file, and give `open()` of its mapping."""
        return self.map(content).open()

    def opened(self) -> None:
        """Say that the library has opened the file."""
        self._now("after")

    def _now(self, moment: str) -> None:
        if self._cut == moment:
            half = self.path.stat().st_size // 2
            os.truncate(self.path, half - half % PAGE)
            self.is_cut = True


Client = Callable[[Stage], bool]
"""Make a file, read it on a stage, and return whether what was read is right."""


def run_client(client: Client, path: str, cut: str) -> None:
    """Print "right" or "wrong", or the error and those that it comes from."""
    stage = Stage(Path(path), cut)
    try:
        words = ["right" if client(stage) else "wrong"]
    except Exception as raised:  # noqa: BLE001, each is an outcome
        error: BaseException | None = raised
        words = list[str]()
        while error is not None:
            words.append(type(error).__name__)
            error = error.__cause__ or error.__context__
    assert stage.is_cut == (cut != "never")
    say(*words)


def read_parquet(source: Any, stage: Stage) -> Any:
    """Read a Parquet file with pyarrow, in the calling thread alone.

    A thread of Arrow may still let go of what it has read, of any file or buffer, while the
    interpreter ends. Python before 3.14 then ends that thread in the middle of C++, and the process
    aborts (apache/arrow#34314).
    """
    parquet: Any = importlib.import_module("pyarrow.parquet")
    file = parquet.ParquetFile(source, pre_buffer=False)
    stage.opened()
    return file.read(use_threads=False)


def outcome(ended: Child) -> list[str]:
    """What `run_client` printed last."""
    return ended.succeeded().splitlines()[-1].split()


def skip_without(module: str) -> None:
    """Skip the test where a module is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: it may have no wheel for this Python")


def module_of(client: str) -> str:
    """The module that a client is about: its name up to a comma, behind which is a note."""
    return client.partition(",")[0]
