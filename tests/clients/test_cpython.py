"""CPython's own tests of `mmap` and of `shared_memory`, with the drop-in in the place of `mmap`."""

import importlib.util
import mmap
import sys
import unittest
from pathlib import Path

import pytest
from drop_in import in_place_of_mmap
from kernel_view import in_process, say

# The tests of CPython that pass with its own module alone: the end of the name, and the reason.
EXCEPTIONS: dict[str, str] = {}


def needs_cpythons(module: str) -> pytest.MarkDecorator:
    """Skip where Python was installed without a module of its `test` package."""
    is_there = importlib.util.find_spec("test") and importlib.util.find_spec(f"test.{module}")
    reason = f"this Python was installed without its test.{module}"
    return pytest.mark.skipif(is_there is None, reason=reason)


class Passed(unittest.TestResult):
    """A result that prints the name of each test that passes, at once."""

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802, unittest's name
        super().addSuccess(test)
        say("passed", test.id())


def run_suite(name: str) -> None:
    say("mmap is", mmap.__name__)
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    result = Passed()
    suite.run(result)
    for test, report in [*result.failures, *result.errors]:
        sys.stderr.write(f"{test}: {report}\n")


def passed(suite: str, module: str) -> tuple[set[str], str]:
    """The tests that pass with a module in the place of `mmap`, and why others fail."""
    ended = in_process(run_suite, suite)
    lines = ended.succeeded().splitlines()
    assert f"mmap is {module}" in lines
    names = {line.removeprefix("passed ") for line in lines if line.startswith("passed ")}
    return names, ended.errors


def assert_the_drop_in_passes(suite: str, at_least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that all tests pass with the drop-in that pass with the standard module."""
    with_mmap, report = passed(suite, "mmap")
    assert len(with_mmap) >= at_least, report
    in_place_of_mmap(monkeypatch)
    with_drop_in, report = passed(suite, "mmapwrap.mmap")
    excepted = {name for name in with_mmap if name.endswith(tuple(EXCEPTIONS))}
    assert with_mmap - with_drop_in == excepted, report


@needs_cpythons("test_mmap")
def test_cpythons_tests_of_mmap_pass(disk_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk_path)  # the tests make files where they run, one of 6 GB with a hole
    assert_the_drop_in_passes("test.test_mmap", 30, monkeypatch)


@needs_cpythons("_test_multiprocessing")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_cpythons_tests_of_shared_memory_pass(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("START_METHOD_OF_THE_TESTS", method)
    assert_the_drop_in_passes("shared_memory_tests.WithProcessesTestSharedMemory", 10, monkeypatch)


def test_exceptions_are_at_most_three() -> None:
    assert len(EXCEPTIONS) <= 3
