"""The page of the errors tells of each class, and which builtin it is, as the code has it."""

import inspect
import re
from pathlib import Path

from mmapwrap import MmapError, errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def builtins_of(kind: type) -> set[str]:
    """The builtin exceptions that a class is, without those that are bases of another of them."""
    found = [base for base in kind.__mro__ if base.__module__ == "builtins"]
    return {
        base.__name__
        for base in found
        if issubclass(base, Exception) and not any(base in other.__mro__[1:] for other in found)
    }


def test_tables_have_each_class_once_with_its_builtins() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| .+ \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    classes = {
        name: builtins_of(kind)
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, MmapError) and kind is not MmapError and not name.startswith("_")
    }
    assert {name: set(builtins.split(", ")) for name, builtins in rows} == classes
    assert len(rows) == len(classes)
