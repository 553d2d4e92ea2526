"""Examples in docstrings run, and each public name that a user looks up has one."""

import doctest
import importlib
import inspect
import io
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Final

import pytest

import mmapwrap
from mmapwrap import unsafe

_LEFT_OUT: Final = (
    "mmapwrap._cli",  # its texts are for a terminal: the tests of the command line read them
    "mmapwrap.mmap",  # its docstrings are those of the standard library's module
)


def _modules() -> Iterator[ModuleType]:
    yield mmapwrap
    for found in pkgutil.walk_packages(mmapwrap.__path__, "mmapwrap."):
        if not found.name.startswith(_LEFT_OUT):
            yield importlib.import_module(found.name)


def _examples() -> list[doctest.DocTest]:
    # Without the module's names, so that an example imports each name that it uses.
    names = {"__name__": "__main__"}
    finder = doctest.DocTestFinder()
    return [
        found
        for module in _modules()
        for found in finder.find(module, globs=names)
        if found.examples
    ]


@pytest.mark.parametrize("example", _examples(), ids=lambda found: found.name)
def test_example_in_a_docstring_shows_what_happens(example: doctest.DocTest) -> None:
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert result.failed == 0, "".join(report)


# --- Names that have an example -------------------------------------------------------------------

_NO_EXAMPLE_NEEDED: Final = {
    # Each is another method with fewer arguments, or under a second name.
    "MappedRegion.lock_all",
    "MappedRegion.unlock_all",
    "MappedRegion.flush_all",
    "MemoryMappingArena.add_fd_mapping",
    "MemoryMappingArena.remove_mapping",
    # Regions and slices call these; users call `read_obj`, `load` and their kin.
    "Scalar.load",
    "Scalar.plain",
    "Scalar.require_holds",
    "Scalar.store",
    # Each returns a constant.
    "Ok.is_ok",
    "Ok.is_err",
    "Err.is_ok",
    "Err.is_err",
}
_INDEXING: Final = ("__contains__", "__getitem__", "__setitem__")


def _is_documented(value: object) -> bool:
    """Whether a public value is a function or a class; errors are found by their messages."""
    if inspect.isclass(value):
        return not issubclass(value, Exception)
    return inspect.isfunction(value)


def _public() -> dict[str, object]:
    """The public functions and classes, and the methods of these, by their names."""
    found = {
        name: value
        for names in (vars(mmapwrap), {name: getattr(unsafe, name) for name in unsafe.__all__})
        for name, value in names.items()
        if not name.startswith("_") and _is_documented(value)
    }
    for name, value in list(found.items()):
        for kind in value.__mro__ if inspect.isclass(value) else ():
            if not kind.__module__.startswith("mmapwrap."):
                continue  # a method of Python's own
            for attribute, defined in vars(kind).items():
                method = getattr(defined, "__func__", defined)
                is_public = attribute in _INDEXING or not attribute.startswith("_")
                if hasattr(io.RawIOBase, attribute) and issubclass(kind, io.RawIOBase):
                    continue  # `io` documents what files have
                if is_public and inspect.isfunction(method):
                    owner = "MappedRegion" if "._regions." in kind.__module__ else name
                    owner = name if kind is value else owner
                    found.setdefault(f"{owner}.{attribute}", method)
    return found


@pytest.mark.parametrize("name", sorted(_public().keys() - _NO_EXAMPLE_NEEDED))
def test_public_name_has_an_example(name: str) -> None:
    documented = inspect.cleandoc(_public()[name].__doc__ or "")
    assert re.search(r"^Example:\n    >>> ", documented, re.MULTILINE)


def test_exceptions_name_what_there_is_and_has_no_example() -> None:
    public = _public()
    assert public.keys() >= _NO_EXAMPLE_NEEDED
    assert [name for name in _NO_EXAMPLE_NEEDED if ">>>" in (public[name].__doc__ or "")] == []


# --- Sections -------------------------------------------------------------------------------------


def _documented() -> list[tuple[str, str]]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        (found.name, inspect.cleandoc(found.docstring))
        for module in _modules()
        for found in finder.find(module, globs={})
        if found.docstring
    ]


def _section(docstring: str, title: str) -> list[str]:
    found = re.search(rf"^{title}:\n((?:    .*\n?)+)", docstring, re.MULTILINE)
    lines = found[1].splitlines() if found else []
    return [line.strip() for line in lines if not line.startswith("     ")]


def test_raises_sections_name_one_class_an_entry() -> None:
    wrong = [
        f"{name}: {entry}"
        for name, docstring in _documented()
        for entry in _section(docstring, "Raises")
        if not re.match(r"(?:[A-Z]\w*Error|io\.UnsupportedOperation): [A-Z`]", entry)
    ]
    assert wrong == []


def test_entries_of_arguments_and_attributes_begin_with_a_capital() -> None:
    wrong = [
        f"{name}: {entry}"
        for name, docstring in _documented()
        for title in ("Args", "Attributes")
        for entry in _section(docstring, title)
        if re.match(r"[\w*]+: [^A-Z0-9`]", entry)
    ]
    assert wrong == []
