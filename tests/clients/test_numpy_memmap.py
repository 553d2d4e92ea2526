"""NumPy's own tests of `memmap`, with the drop-in in the place of `mmap`."""

import re
from pathlib import Path

import pytest
from drop_in import in_place_of_mmap
from kernel_view import child

PROGRAM = """
    import mmap, sys
    import pytest
    print("mmap is", mmap.__name__)
    arguments = ["-rA", "-p", "no:cacheprovider", "--pyargs", "numpy._core.tests.test_memmap"]
    sys.exit(pytest.main(arguments))
"""


def passed(module: str) -> list[str]:
    """The names of the tests that pass with a module in the place of `mmap`, if none fails."""
    output = child(PROGRAM).succeeded()
    assert f"mmap is {module}\n" in output
    return sorted(re.findall(r"^PASSED (\S+)", output, re.MULTILINE))


def test_numpys_tests_of_memmap_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no configuration of this project is found
    with_mmap = passed("mmap")
    assert len(with_mmap) >= 15
    in_place_of_mmap(monkeypatch)
    assert passed("mmapwrap.mmap") == with_mmap
