"""The examples of the README and of the pages of the manual, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (f"{page.relative_to(ROOT)}-{number}", block)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), start=1
    )
    if "import" in block  # else it is a fragment
]


@pytest.mark.parametrize("block", [block for _, block in BLOCKS], ids=[name for name, _ in BLOCKS])
def test_example_prints_what_its_comments_say(block: str, tmp_path: Path) -> None:
    expected = re.findall(r"print\(.*\)  # (.*)", block)
    run = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert expected
    assert run.stdout.splitlines() == expected


def test_pages_with_examples_are_found() -> None:
    assert {name.rpartition("-")[0] for name, _ in BLOCKS} >= {
        "README.md",
        "docs/arrays.md",
        "docs/files.md",
        "docs/from-crosvm.md",
        "docs/from-memmap2.md",
        "docs/from-numpy-memmap.md",
        "docs/from-shared-memory.md",
        "docs/growth.md",
        "docs/index.md",
        "docs/mmap.md",
    }
