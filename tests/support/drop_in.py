"""The drop-in in the place of `mmap`, from the start of a process and in all its children."""

import os
from pathlib import Path

import pytest

# Python imports the `sitecustomize` that it finds here before a program runs.
_START_UP = Path(__file__).parent / "start_up"


def in_place_of_mmap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the drop-in in the place of `mmap` in each process that the test starts from now on."""
    path = filter(None, [str(_START_UP), os.getenv("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
