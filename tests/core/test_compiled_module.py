"""The compiled module against its stub, in both directions; its one door; what an import costs."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import pytest

import mmapwrap
from mmapwrap._mman import ffi, lib

PACKAGE = Path(mmapwrap.__file__).parent
STUB = (PACKAGE / "_mman.pyi").read_text()

# What a light import leaves alone: each is slow to import, or has no business at run time.
HEAVY = """
    argparse asyncio cffi concurrent.futures ctypes decimal email http importlib.metadata json
    logging multiprocessing numpy pycparser rich socket ssl subprocess tempfile
    typing_extensions unittest urllib.request
""".split()


class CType(Protocol):
    """A C type, as cffi tells of it."""

    kind: str
    cname: str
    item: "CType"
    args: "tuple[CType, ...]"
    result: "CType"


def c_type_of(name: str) -> CType:
    return cast("CType", ffi.typeof(getattr(lib, name)))


def stub_class(stub: str, name: str) -> list[ast.stmt]:
    classes = {node.name: node for node in ast.parse(stub).body if isinstance(node, ast.ClassDef)}
    return classes[name].body


def variables(body: list[ast.stmt]) -> dict[str, str]:
    """The annotation of each variable."""
    return {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for node in body
        if isinstance(node, ast.AnnAssign)
    }


def functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def members(annotation: ast.expr | None) -> set[str]:
    """The types of an annotation that may be a union."""
    return set() if annotation is None else set(ast.unparse(annotation).split(" | "))


def fitting(c_type: CType) -> set[str]:
    """The Python types that cffi takes and gives for a C type."""
    match c_type.kind, c_type.cname:
        case "void", _:
            return {"None"}
        case "primitive", "float" | "double":
            return {"float"}
        case ("primitive", _) | ("enum", _):
            return {"int"}
        case "pointer", _:
            of_bytes = c_type.item.cname in {"char", "unsigned char"}
            return {"CData", "bytes"} if of_bytes else {"CData"}
        case kind, name:
            pytest.fail(f"no rule says what fits the C type {name}, a {kind}")


def function_differences(name: str, function: ast.FunctionDef) -> Iterator[str]:
    """What the stub says of a function that is not so."""
    c_type = c_type_of(name)
    arguments = function.args
    named = [*arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    if any(named) or arguments.defaults:
        yield f"{name} takes arguments by position, all of them"
    parameters = arguments.posonlyargs[1:]
    if len(parameters) != len(c_type.args):
        yield f"{name} takes {len(c_type.args)} arguments, not {len(parameters)}"
        return
    stated = [*(members(each.annotation) for each in parameters), members(function.returns)]
    for have, want in zip(stated, [*c_type.args, c_type.result], strict=True):
        if not have or not have <= fitting(want):
            yield f"{name}: {' | '.join(sorted(have))} does not fit {want.cname}"
    if members(function.returns) == {"bytes"}:
        yield f"{name} gives no bytes"


def differences(stub: str) -> list[str]:
    """What the stub says of `lib` that is not so, and what it leaves out."""
    real = {name: getattr(lib, name) for name in dir(lib)}
    body = stub_class(stub, "_Lib")
    stated = variables(body) | dict.fromkeys(functions(body), "a function")
    found = [f"{name} is not in the module" for name in stated.keys() - real.keys()]
    found += [f"{name} is not in the stub" for name in real.keys() - stated.keys()]
    for name in stated.keys() & real.keys():
        if stated[name] == "a function" and callable(real[name]):
            found += function_differences(name, functions(body)[name])
        elif stated[name] not in {"int", "Final[int]"} or type(real[name]) is not int:
            found.append(f"{name} is {type(real[name]).__name__}, not {stated[name]}")
    return sorted(found)


def test_stub_says_what_the_module_has() -> None:
    assert differences(STUB) == []


@pytest.mark.parametrize(
    ("line", "instead", "expected"),
    [
        ("PROT_READ: Final[int]", "", ["PROT_READ is not in the stub"]),
        ("PROT_READ: Final[int]", "PROT_READ: Final[str]", ["PROT_READ is int, not Final[str]"]),
        (
            "PROT_READ: Final[int]",
            "PROT_READ: Final[int]\n    PROT_MAYBE: Final[int]",
            ["PROT_MAYBE is not in the module"],
        ),
        (
            "PROT_READ: Final[int]",
            "def PROT_READ(self, /) -> int: ...",
            ["PROT_READ is int, not a function"],
        ),
        (
            "def mmw_is_open(self, pages: CData, /)",
            "def mmw_is_open(self, pages: CData)",
            [
                "mmw_is_open takes 1 arguments, not 0",
                "mmw_is_open takes arguments by position, all of them",
            ],
        ),
        (
            "def mmw_is_open(self, pages: CData, /)",
            "def mmw_is_open(self, pages: CData, offset: int, /)",
            ["mmw_is_open takes 1 arguments, not 2"],
        ),
        (
            "def mmw_is_open(self, pages: CData, /)",
            "def mmw_is_open(self, pages: int, /)",
            ["mmw_is_open: int does not fit struct mmw_pages *"],
        ),
        (
            "def mmw_is_open(self, pages: CData, /) -> int",
            "def mmw_is_open(self, pages: CData, /) -> int | None",
            ["mmw_is_open: None | int does not fit int"],
        ),
    ],
)
def test_stub_that_is_wrong_is_told(line: str, instead: str, expected: list[str]) -> None:
    wrong = STUB.replace(line, instead)
    assert wrong != STUB
    assert differences(wrong) == expected


def test_stub_names_what_the_module_exports() -> None:
    stated = {name for name in variables(ast.parse(STUB).body) if not name.startswith("_")}
    assert stated == {name for name in dir(sys.modules["mmapwrap._mman"]) if name[0] != "_"}


def python_parts() -> list[Any]:
    """What the module gives besides what cffi makes of it."""
    parts: list[Any] = []
    assert lib.mmw_python_types(id(parts)) == 0
    with mmapwrap.MemoryMapping.new(1) as mapping:
        return [*parts, type(mapping.view().obj)]


def test_stub_has_each_type_and_function_that_is_written_in_c() -> None:
    tree = ast.parse(STUB).body
    of_cffi = {"CData", "_FFI", "_Lib"}
    stated = {
        node.name
        for node in tree
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name not in of_cffi
    }
    parts = python_parts()
    assert {each.__name__ for each in parts} == stated
    assert [each.__name__ for each in parts if not each.__doc__] == []
    for each in parts:
        if isinstance(each, type):
            assert each.__module__ == "mmapwrap._mman"
            real = {name for name in vars(each) if not name.startswith("__")}
            methods = functions(stub_class(STUB, each.__name__))
            assert {name for name in methods if not name.startswith("__")} == real


@pytest.mark.parametrize("number", [0, 4, 6])
def test_export_of_wrong_arguments_is_a_type_error(number: int) -> None:
    new_export = next(each for each in python_parts() if each.__name__ == "new_export")
    with pytest.raises(TypeError):
        new_export(*range(number))


def test_export_cannot_be_made_by_its_type() -> None:
    with mmapwrap.MemoryMapping.new(1) as mapping:
        made_by: Any = type(mapping.view().obj)
        with pytest.raises(TypeError):
            made_by(None, 16, 4096, True, {})


@pytest.mark.parametrize(("name", "of"), [("_FFI", ffi), ("CData", ffi.NULL)])
def test_stub_says_nothing_of_cffi_that_is_not_so(name: str, of: object) -> None:
    body = stub_class(STUB, name)
    stated = {*variables(body), *functions(body)}
    # A pointer and an array of char have one type, but only an array has a length.
    absent = {each for each in stated if not hasattr(of, each) and not hasattr(type(of), each)}
    assert stated
    assert absent == set()


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
        "import mmapwrap._mman",
        "from mmapwrap import _mman",
        "from mmapwrap._mman import lib",
        "def f():\n    from ._mman import lib",
        "from . import _mman",
        "importlib.import_module('mmapwrap._mman')",
    ],
)
def test_door_to_c_is_seen_however_it_is_opened(code: str) -> None:
    assert any("_mman" in name.split(".") for name in imports(ast.parse(code)))


def test_door_to_c_is_syscalls_alone() -> None:
    doors = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any("_mman" in name.split(".") for name in imports(ast.parse(path.read_text())))
    }
    assert doors == {"_syscalls.py"}


def natural(name: str) -> tuple[int, list[tuple[str, int]]]:
    """The order that the linter keeps: constants, classes, the rest; u8 before u16."""
    group = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return group, [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def test_public_names_exist_once_and_in_order() -> None:
    assert [name for name in mmapwrap.__all__ if not hasattr(mmapwrap, name)] == []
    assert mmapwrap.__all__ == sorted(set(mmapwrap.__all__), key=natural)


def test_public_names_are_all_that_the_package_has() -> None:
    names = {
        name
        for name, value in vars(mmapwrap).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names == set(mmapwrap.__all__)


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
    assert "mmapwrap._mman" in imported
    assert imported & set(HEAVY) == set()
