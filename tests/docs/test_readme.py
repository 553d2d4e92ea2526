"""The examples of the README and of the pages of the manual, run as they stand there.

An example is a block of Python with an import. It runs as a program of its own in an empty
directory, and prints what its comments say. A line `# needs: pandas` in it names a library; without
that library the example is skipped.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A page on which each example needs the files of those before it has this line.
IN_ORDER = "<!-- examples: one after the other -->"


def blocks_of(page: Path) -> list[str]:
    """The programs on a page; a block without an import is a fragment."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    return [block for block in blocks if "import" in block]


def runs_of(page: Path) -> list[tuple[str, list[str]]]:
    """The programs of each run: one, or all of a page in their order."""
    name, blocks = str(page.relative_to(ROOT)), blocks_of(page)
    if IN_ORDER in page.read_text():
        return [(name, blocks)]
    return [(f"{name}-{number}", [block]) for number, block in enumerate(blocks, start=1)]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNS = [run for page in PAGES for run in runs_of(page)]


@pytest.mark.parametrize("blocks", [blocks for _, blocks in RUNS], ids=[name for name, _ in RUNS])
def test_example_prints_what_its_comments_say(blocks: list[str], tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    # A file, because processes that multiprocessing spawns import it; and not in the room.
    program = tmp_path / "example.py"
    for block in blocks:
        for needed in re.findall(r"^# needs: (\w+)$", block, re.MULTILINE):
            pytest.importorskip(needed, reason=f"the example needs {needed}")
        program.write_text(block)
        expected = re.findall(r"print\(.*\)  # (.*)", block)
        command = [sys.executable, str(program)]
        run = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert expected
        assert run.stdout.splitlines() == expected


def test_pages_with_examples_are_found() -> None:
    assert {str(page.relative_to(ROOT)) for page in PAGES if blocks_of(page)} >= {
        "README.md",
        "docs/arrays.md",
        "docs/errors.md",
        "docs/files.md",
        "docs/from-crosvm.md",
        "docs/from-memmap2.md",
        "docs/from-numpy-memmap.md",
        "docs/from-shared-memory.md",
        "docs/growth.md",
        "docs/index.md",
        "docs/mmap.md",
        "docs/tutorial.md",
    }
