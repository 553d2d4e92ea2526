"""The compiled module: the types that are written in C, its one door, what an import costs."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mmapwrap
from mmapwrap._core._mman import lib

PACKAGE = Path(mmapwrap.__file__).parent

# What a light import leaves alone: each is slow to import, or has no business at run time.
HEAVY = """
    argparse asyncio cffi concurrent.futures ctypes decimal email http importlib.metadata json
    logging multiprocessing numpy pycparser rich socket ssl subprocess tempfile
    typing_extensions unittest urllib.request
""".split()


def python_parts() -> list[Any]:
    """What the module gives besides what cffi makes of it."""
    parts: list[Any] = []
    assert lib.mmw_python_types(id(parts)) == 0
    with mmapwrap.MemoryMapping.new(1) as mapping:
        return [*parts, type(mapping.view().obj)]


def test_each_type_and_function_that_is_written_in_c_says_what_it_is() -> None:
    parts = python_parts()
    assert {each.__name__ for each in parts} == {
        "Exporter",
        "Export",
        "new_export",
        "is_buffer",
        "SequenceLock",
        "move_pages",
        "Owner",
        "own_pages",
        "own_guard",
        "own_descriptor",
    }
    assert [each.__name__ for each in parts if not each.__doc__] == []
    types = [each for each in parts if isinstance(each, type)]
    assert {each.__module__ for each in types} == {"mmapwrap._core._mman"}


@pytest.mark.parametrize("number", [0, 4, 6])
@pytest.mark.parametrize("name", ["new_export", "move_pages"])
def test_wrong_number_of_arguments_is_a_type_error(name: str, number: int) -> None:
    function = next(each for each in python_parts() if each.__name__ == name)
    with pytest.raises(TypeError):
        function(*range(number))


def test_export_cannot_be_made_by_its_type() -> None:
    with mmapwrap.MemoryMapping.new(1) as mapping:
        made_by: Any = type(mapping.view().obj)
        with pytest.raises(TypeError):
            made_by(None, 16, 4096, True, {})


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules, and the names of modules, that code imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import():
                yield from (each.name for each in node.names)
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                yield from (f"{module}.{each.name}" for each in node.names)
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]*\b_mman", text):
                yield text
            case _:
                yield from imports(node)


@pytest.mark.parametrize(
    "code",
    [
        "import mmapwrap._core._mman",
        "from mmapwrap import _mman",
        "from mmapwrap._core._mman import lib",
        "def f():\n    from ._mman import lib",
        "from . import _mman",
        "importlib.import_module('mmapwrap._core._mman')",
    ],
)
def test_door_to_c_is_seen_however_it_is_opened(code: str) -> None:
    assert any("_mman" in name.split(".") for name in imports(ast.parse(code)))


def test_door_to_c_is_the_core_alone() -> None:
    doors = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any("_mman" in name.split(".") for name in imports(ast.parse(path.read_text())))
    }
    assert {door.partition("/")[0] for door in doors} == {"_core"}


def test_public_names_are_what_the_package_imports_as_such() -> None:
    """And nothing else, which a type checker would not take for public."""
    aliases = {
        each.asname
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmapwrap")
        for each in node.names
    }
    names = {
        name
        for name, value in vars(mmapwrap).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names == aliases
    here: dict[str, object] = {}
    exec("from mmapwrap import *", here)
    assert here.keys() >= names


def test_import_is_light() -> None:
    code = """
import sys
before = set(sys.modules)
import mmapwrap
print(*(set(sys.modules) - before))
"""
    # Not measured: coverage would import some of them first, and so hide them.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    imported = set(result.stdout.split())
    assert "mmapwrap._core._mman" in imported
    assert imported & set(HEAVY) == set()
