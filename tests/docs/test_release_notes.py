"""The notes of a release are the changelog's section of its version, and nothing without one."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "release_notes.py"
notes: Callable[[str, str, str], str] = runpy.run_path(str(TOOL))["notes"]

PROJECT = '[project]\nversion = "1.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

- Not yet.

## [1.2.0] - 2026-12-01

### Added

- This.

## [1.1.0] - 2026-11-01

- That.

[1.2.0]: https://example.org/
"""


def test_notes_are_the_section_of_the_version() -> None:
    assert notes("v1.2.0", PROJECT, CHANGELOG) == "### Added\n\n- This."


def test_notes_of_the_last_section_end_before_the_links() -> None:
    project = PROJECT.replace("1.2.0", "1.1.0")
    assert notes("v1.1.0", project, CHANGELOG) == "- That."


@pytest.mark.parametrize(
    ("tag", "version", "said"),
    [
        ("v1.3.0", "1.2.0", "the tag is v1.3.0, and the version in pyproject.toml 1.2.0"),
        ("1.2.0", "1.2.0", "the tag is 1.2.0, and the version"),
        ("v1.3.0", "1.3.0", "CHANGELOG.md has no section of 1.3.0 with a date"),
        ("v1x2.0", "1x2.0", "CHANGELOG.md has no section"),
    ],
)
def test_a_version_without_a_section_is_refused(tag: str, version: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        notes(tag, PROJECT.replace("1.2.0", version), CHANGELOG)


def test_a_wrong_tag_ends_the_tool_with_1() -> None:
    command = [sys.executable, str(TOOL), "nothing"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("the tag is nothing, and the version in pyproject.toml ")
