"""How the command line shows names of files that are not plain text."""

import os
from pathlib import Path

import pytest
from command_line import run, write_out
from kernel_view import PAGE
from marks import kernel_may_take_pages

pytestmark = kernel_may_take_pages

STRANGE = [
    b"caf\xe9",
    b"line\nbreak\ttab\rreturn",
    b"\x1b[31mred\x1b[0m\x07",
    "right\u202eleft".encode(),
    "naïve".encode(),
    b"back\\xe9slash",
]
STRANGE_SHOWN = {
    r"caf\xe9",
    r"line\nbreak\ttab\rreturn",
    r"\x1b[31mred\x1b[0m\x07",
    r"right\u202eleft",
    "naïve",
    r"back\\xe9slash",
}


@pytest.fixture
def strange_names(disk_path: Path) -> Path:
    for name in STRANGE:
        try:
            write_out(Path(os.fsdecode(os.fsencode(disk_path) + b"/" + name)), PAGE)
        except OSError as error:
            pytest.skip(f"the filesystem does not take the name {name!r}: {error}")
    return disk_path


def test_names_are_shown_without_control_characters(strange_names: Path) -> None:
    ended = run("residency", ".", cwd=strange_names)

    assert ended.status == 0
    assert {line.partition("./")[2] for line in ended.lines[1:-1]} == STRANGE_SHOWN


def test_names_are_ascii_where_the_output_is(strange_names: Path) -> None:
    ended = run("residency", ".", cwd=strange_names, PYTHONIOENCODING="ascii")

    assert ended.status == 0
    assert ended.out.isascii()
    assert {line.partition("./")[2] for line in ended.lines[1:-1]} == {
        *STRANGE_SHOWN - {"naïve"},
        r"na\u00efve",
    }


def test_names_come_back_from_json_as_they_were(strange_names: Path) -> None:
    ended = run("residency", "--json", ".", cwd=strange_names)

    assert ended.out.isascii()
    assert {os.fsencode(file["path"]) for file in ended.document["files"]} == {
        b"./" + name for name in STRANGE
    }


def test_names_in_complaints_are_shown_without_control_characters(disk_path: Path) -> None:
    ended = run("residency", b"gone\xff\x1b[2J", cwd=disk_path)

    assert ended.err == "mmapwrap: gone\\xff\\x1b[2J: No such file or directory\n"
