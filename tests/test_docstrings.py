"""Every example in a docstring runs, and whatever a user would look up has one."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import mmapwrap

_LEFT_OUT = (
    "mmapwrap._cli",  # its texts are for a terminal: the tests of the command line run them
    "mmapwrap.mmap",  # its docstrings are those of the standard library's module
)


def _modules() -> Iterator[ModuleType]:
    yield mmapwrap
    for found in pkgutil.walk_packages(mmapwrap.__path__, "mmapwrap."):
        if not found.name.startswith(_LEFT_OUT):
            yield importlib.import_module(found.name)


def _docstrings_with_examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in _modules():
        # Without names of the module, so that an example has all that a reader must type.
        found = finder.find(module, globs={"__name__": "__main__"})
        yield from (test for test in found if test.examples)


@pytest.mark.parametrize("example", list(_docstrings_with_examples()), ids=lambda found: found.name)
def test_example_of_a_docstring_shows_what_it_says(example: doctest.DocTest) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


# --- Which docstrings have an example --------------------------------------------------------------

_NO_EXAMPLE_NEEDED = {
    "is_ok",
}


def _is_documented_elsewhere(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)
