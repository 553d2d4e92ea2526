"""Print the changelog's section of a version, as the notes of its release.

    python tools/release_notes.py TAG

The tag is `v` and the version. The exit status is 1 where pyproject.toml has another version, or
where the changelog has no section of it.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# From its heading, with the date, to the next one of its level, or to the links at the end.
SECTION = r"^## \[{version}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)"


def notes(tag: str, project: str, changelog: str) -> str:
    """Give the section of the version that the tag names.

    Raises:
        ValueError: The tag is not the version's, or there is no section.
    """
    version = tomllib.loads(project)["project"]["version"]
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, and the version in pyproject.toml {version}")
    pattern = SECTION.format(version=re.escape(version))
    found = re.search(pattern, changelog, re.MULTILINE | re.DOTALL)
    if not found or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section of {version} with a date")
    return found[1].strip()


def main(tag: str) -> int:
    """Print the notes, and give the exit status."""
    try:
        project, changelog = (
            (ROOT / name).read_text() for name in ("pyproject.toml", "CHANGELOG.md")
        )
        print(notes(tag, project, changelog))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
