"""The command line on a terminal: with rich a table and a progress bar, without it plain lines."""

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import (
    COMMAND,
    WITHOUT_RICH,
    OnTerminal,
    bring_in,
    drop,
    run,
    run_on_terminal,
    shown,
    write_out,
)
from kernel_view import PAGE
from marks import kernel_may_take_pages

pytestmark = kernel_may_take_pages

needs_rich = pytest.mark.skipif(find_spec("rich") is None, reason="rich is not installed")

BOTH = [
    pytest.param(COMMAND, id="rich", marks=needs_rich),
    pytest.param(WITHOUT_RICH, id="plain"),
]


@pytest.fixture
def files(disk_path: Path) -> Path:
    """Some files, written out and in the page cache."""
    for number in range(3):
        with (disk_path / f"file {number}").open("wb") as file:
            file.write(b"x" * (number * 100 * PAGE))
            file.flush()
            os.fsync(file.fileno())
    return disk_path


def screen(ended: OnTerminal) -> list[str]:
    """What can be read on the terminal afterwards, where a tab between two fields is a blank."""
    return shown(ended.written.replace("\t", " "))


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize(
    "arguments", [["support"], ["residency", "."], ["evict", "."], ["prefetch", "."]]
)
def test_a_terminal_shows_what_a_pipe_gets(
    arguments: list[str], command: Sequence[str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    opposite = {"evict": "prefetch", "prefetch": "evict"}
    if arguments[0] in opposite:
        run(opposite[arguments[0]], ".")
    piped = run(*arguments)
    if arguments[0] in opposite:
        run(opposite[arguments[0]], ".")
    on_terminal = run_on_terminal(*arguments, command=command)

    assert (piped.status, on_terminal.status) == (0, 0)
    # A digit of each part of a file becomes a block in brackets.
    drawn = [
        re.sub(r"\[(█*)\]", lambda bar: "8" * len(bar[1]) or "-", line)
        for line in screen(on_terminal)
    ]
    assert [line.split() for line in drawn] == [line.split() for line in piped.lines]


@pytest.mark.parametrize("arguments", [["support"], ["residency", "."], ["evict", "."]])
def test_a_terminal_without_rich_gets_the_lines_of_a_pipe_and_nothing_else(
    arguments: list[str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    run("prefetch", ".")
    piped = run(*arguments)
    run("prefetch", ".")
    on_terminal = run_on_terminal(*arguments, command=WITHOUT_RICH)

    assert on_terminal.written.replace("\r\n", "\n") == piped.out


@pytest.mark.parametrize("command", ["prefetch", "evict"])
def test_a_pipe_gets_no_bar(command: str, files: Path) -> None:
    ended = run(command, files)
    assert ended.err == ""
    assert "\r" not in ended.out
    assert "\x1b" not in ended.out


@needs_rich
def test_rich_draws_in_colour_and_a_bar(files: Path) -> None:
    written = run_on_terminal("prefetch", files).written
    assert "\x1b[1m" in written
    assert "prefetch 0 of 3 files" in shown(written.partition("files")[0] + "files")[-1]
    assert "━" in written


@needs_rich
def test_rich_aligns_the_columns(files: Path) -> None:
    heading, *rows, _ = run_on_terminal("residency", files).screen
    for column in ("resident/pages", "percent"):
        end = heading.index(column) + len(column)
        assert all(row[end - 1] != " " and row[end] == " " for row in rows)
    for column in ("where", "file"):
        start = heading.index(column)
        assert all(row[start - 1] == " " and row[start] in "[/" for row in rows)


@needs_rich
@pytest.mark.parametrize(
    ("encoding", "drawn"),
    [("utf-8", f"[{' ' * 16}█████▃{' ' * 10}]"), ("ascii", f"[{' ' * 16}#####-{' ' * 10}]")],
)
def test_rich_draws_where_the_resident_pages_are(
    encoding: str, drawn: str, disk_path: Path
) -> None:
    path = write_out(disk_path / "part", 600 * PAGE)
    drop(path)
    bring_in(path, 300, 100)
    ended = run_on_terminal("residency", path, PYTHONIOENCODING=encoding)
    assert drawn in ended.screen[1]


@needs_rich
def test_rich_draws_a_name_as_it_is(disk_path: Path) -> None:
    (disk_path / "[red]:smile: 7[").touch()
    assert run_on_terminal("residency", disk_path).screen[1].endswith("/[red]:smile: 7[")


@needs_rich
def test_a_bar_over_empty_files_is_full(disk_path: Path) -> None:
    (disk_path / "empty").touch()
    ended = run_on_terminal("evict", disk_path)
    assert "100%" in ended.written
    assert "evict 0 of 1 files" in ended.written
    assert ended.status == 0
    assert ended.screen[-1].startswith("total: 1 file; 0 B; resident: 0 of 0 pages before")


@pytest.mark.parametrize("command", BOTH)
def test_ctrl_c_takes_the_bar_away_and_says_how_far_it_got(
    command: Sequence[str], disk_path: Path
) -> None:
    for number in range(5):
        with (disk_path / f"{number}").open("wb") as file:
            file.truncate(2 << 30 if number else 0)

    # Without a bar the row of the empty file shows that the work has begun.
    ended = run_on_terminal("prefetch", disk_path, command=command, interrupt_after="/0")

    assert ended.status == 130
    assert screen(ended)[0].split() == ["size", "pages", "before", "after", "file"]
    assert screen(ended)[-2].startswith("total: ")
    assert screen(ended)[-1].startswith("mmapwrap: interrupted: ")
    assert screen(ended)[-1].endswith("of 8.0 GiB")
    assert not any("prefetch" in line for line in screen(ended))


@pytest.mark.parametrize("command", BOTH)
def test_complaints_stand_above_the_bar(command: Sequence[str], files: Path) -> None:
    paths = [files / "missing", files / "file 2", Path("/dev/null"), files / "file 0"]

    ended = run_on_terminal("prefetch", *paths, command=command)

    assert ended.status == 1
    assert len(screen(ended)) == 6
    assert screen(ended)[0].endswith("after file")
    assert screen(ended)[1] == f"mmapwrap: {files / 'missing'}: No such file or directory"
    assert screen(ended)[2].startswith("mmapwrap: /dev/null: is a character device")
    assert screen(ended)[3].endswith("file 2")
    assert screen(ended)[4].endswith("file 0")
    assert screen(ended)[5].startswith("total: 2 files, 2 failed; ")


@pytest.mark.parametrize("command", BOTH)
def test_no_bar_where_only_one_stream_is_a_terminal(
    command: Sequence[str], files: Path, disk_path: Path
) -> None:
    errors = disk_path / "errors"
    ended = run_on_terminal("evict", files, command=command, errors_to=errors)
    assert "evict" not in ended.written
    assert errors.read_text() == ""


@pytest.mark.parametrize("command", BOTH)
def test_no_bar_and_no_colour_on_a_dumb_terminal(command: Sequence[str], files: Path) -> None:
    ended = run_on_terminal("evict", files, command=command, TERM="dumb")
    assert "\x1b" not in ended.written
    assert "\r" not in ended.written.replace("\r\n", "\n")


@pytest.mark.parametrize("command", BOTH)
def test_a_document_on_a_terminal_is_all_that_stays(command: Sequence[str], files: Path) -> None:
    ended = run_on_terminal("prefetch", "--json", files, command=command)
    assert ended.status == 0
    assert ("prefetch 0 of 3 files" in ended.written) is (command == COMMAND)
    (document,) = screen(ended)
    assert document.startswith('{"command": "prefetch"')


@pytest.mark.parametrize("command", BOTH)
def test_a_long_name_is_not_cut(command: Sequence[str], disk_path: Path) -> None:
    path = disk_path / ("long" * 60)
    path.touch()
    ended = run_on_terminal("residency", path, command=command, columns=60)
    assert f"{path}" in "".join(screen(ended))
