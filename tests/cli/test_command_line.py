"""The command line on real files: what it says of them, brings in and takes out."""

import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from command_line import (
    bring_in,
    drop,
    resident_pages,
    run,
    write_out,
)
from kernel_view import PAGE, KnownFile, known_bytes, process_unchanged
from marks import kernel_may_take_pages

from mmapwrap import MemoryMapping, Protection
from mmapwrap.__main__ import main

pytestmark = kernel_may_take_pages


@pytest.fixture
def tree(disk_path: Path) -> Path:
    """A directory of files of many sizes, some in the page cache, some not, some in part."""
    (disk_path / "below" / "deeper").mkdir(parents=True)
    write_out(disk_path / "all", 16 * PAGE)
    write_out(disk_path / "odd", 9 * PAGE + 100)
    drop(write_out(disk_path / "none", 8 * PAGE))
    drop(write_out(disk_path / "below" / "part", 600 * PAGE))
    bring_in(disk_path / "below" / "part", 300, 100)
    write_out(disk_path / "below" / "deeper" / "last", 1)
    (disk_path / "empty").touch()
    (disk_path / "below" / "same").hardlink_to(disk_path / "all")
    (disk_path / "below" / "link").symlink_to(disk_path / "none")
    (disk_path / "below" / "circle").symlink_to(disk_path)
    return disk_path


# --- residency ----------------------------------------------------------------------------------


def test_residency_of_a_tree_counts_each_file_once(tree: Path) -> None:
    ended = run("residency", "--json", tree)

    assert (ended.status, ended.err) == (0, "")
    document = ended.document
    assert [Path(file["path"]).relative_to(tree).as_posix() for file in document["files"]] == [
        "all",
        "empty",
        "none",
        "odd",
        "below/part",
        "below/deeper/last",
    ]
    assert {
        Path(file["path"]).name: (file["size"], file["resident_pages"], file["pages"])
        for file in document["files"]
    } == {
        "all": (16 * PAGE, 16, 16),
        "empty": (0, 0, 0),
        "none": (8 * PAGE, 0, 8),
        "odd": (9 * PAGE + 100, 10, 10),
        "part": (600 * PAGE, 100, 600),
        "last": (1, 1, 1),
    }
    assert document["total"] == {
        "files": 6,
        "failed": 0,
        "left_out_files": 0,
        "left_out_bytes": 0,
        "size": 633 * PAGE + 101,
        "pages": 635,
        "resident_pages": 127,
        "resident_bytes": 125 * PAGE + 101,
        "percent": 100 * 127 / 635,
    }
    assert document["command"] == "residency"
    assert document["page_size"] == PAGE
    assert document["interrupted"] is False
    assert document["errors"] == []
    assert document["left_out"] == []


def test_residency_lines_show_size_pages_share_and_place(tree: Path) -> None:
    ended = run("residency", tree)

    assert (ended.status, ended.err) == (0, "")
    heading, *lines, total = ended.lines
    assert heading.split("\t") == ["size", "resident/pages", "percent", "where", "file"]
    fields = {
        Path(path).name: (size, pages, share, place)
        for size, pages, share, place, path in (line.split("\t") for line in lines)
    }
    assert len(fields) == len(lines) == 6
    size = f"{600 * PAGE / 2**20:.1f} MiB"
    # Of 32 parts those from 300/600 to 400/600 of the file are there: 16 up to a part of 21.
    assert fields["part"] == (size, "100/600", "16.7%", "0" * 16 + "888883" + "0" * 10)
    assert fields["all"][1:] == ("16/16", "100.0%", "8" * 16)
    assert fields["none"][1:] == ("0/8", "0.0%", "0" * 8)
    assert fields["empty"] == ("0 B", "0/0", "-", "-")
    assert fields["last"] == ("1 B", "1/1", "100.0%", "8")
    assert total == (
        f"total: 6 files; 127 of 635 pages resident, {(125 * PAGE + 101) / 1024:.1f} KiB of "
        f"{633 * PAGE / 2**20:.1f} MiB (20.0%)"
    )


def test_cells_say_where_the_resident_pages_are(disk_path: Path) -> None:
    path = write_out(disk_path / "file", 100 * PAGE)
    drop(path)
    bring_in(path, 0, 1)
    bring_in(path, 50, 25)

    (file,) = run("residency", "--json", path).document["files"]

    cells = file["cells"]
    bounds = [part * 100 // len(cells) for part in range(len(cells) + 1)]
    resident = {0, *range(50, 75)}
    assert len(cells) == 32
    assert cells == [len(resident & set(range(start, end))) for start, end in pairwise(bounds)]


def test_residency_brings_nothing_in(disk_path: Path) -> None:
    path = write_out(disk_path / "file", 64 * PAGE)
    drop(path)
    assert [resident_pages(path) for _ in range(3)] == [0, 0, 0]


def test_residency_of_a_huge_sparse_file_is_measured_in_windows(disk_path: Path) -> None:
    path = disk_path / "huge"
    size = 33 << 30
    pages = size // PAGE
    try:
        with path.open("wb") as file:
            file.truncate(size)
            for offset in (0, (16 << 30) - PAGE, 16 << 30, size - 2 * PAGE):
                os.pwrite(file.fileno(), b"x", offset)
            os.fsync(file.fileno())
    except OSError as error:
        pytest.skip(f"the filesystem takes no sparse file of 33 GiB: {error}")

    (file,) = run("residency", "--json", path).document["files"]

    expected = [0] * 32
    for offset in (0, (16 << 30) - PAGE, 16 << 30, size - 2 * PAGE):
        expected[-(-(offset // PAGE + 1) * 32 // pages) - 1] += 1
    assert (file["pages"], file["resident_pages"]) == (pages, 4)
    assert file["cells"] == expected


def test_residency_of_relative_and_repeated_paths(disk_path: Path) -> None:
    write_out(disk_path / "file", PAGE)
    write_out(disk_path / "-dash", PAGE)

    ended = run("residency", "--json", "file", ".", "--", "-dash", cwd=disk_path)

    assert [file["path"] for file in ended.document["files"]] == ["file", "./-dash"]


def test_a_named_symbolic_link_is_followed(disk_path: Path) -> None:
    write_out(disk_path / "file", 3 * PAGE)
    (disk_path / "link").symlink_to("file")

    (file,) = run("residency", "--json", disk_path / "link").document["files"]

    assert (Path(file["path"]).name, file["pages"]) == ("link", 3)


def test_a_file_of_proc_has_no_pages() -> None:
    ended = run("residency", "/proc/self/status", "/proc/version")
    assert (ended.status, ended.err) == (0, "")
    assert [line.split("\t")[:2] for line in ended.lines[1:-1]] == [["0 B", "0/0"]] * 2


# --- against vmtouch ----------------------------------------------------------------------------


def vmtouch(*paths: Path) -> tuple[int, int]:
    """The resident and all pages of files, as vmtouch counts them."""
    program = shutil.which("vmtouch") or shutil.which("vmtouch", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("vmtouch is not installed")
    ended = subprocess.run([program, *paths], capture_output=True, text=True, check=True)
    found = re.search(r"Resident Pages: (\d+)/(\d+)", ended.stdout)
    assert found is not None, ended.stdout
    return int(found[1]), int(found[2])


def compare_with_vmtouch(tree: Path) -> tuple[int, int]:
    document = run("residency", "--json", tree).document
    for file in document["files"]:
        figures = (file["resident_pages"], file["pages"])
        assert figures == vmtouch(Path(file["path"])), file["path"]
    figures = (document["total"]["resident_pages"], document["total"]["pages"])
    assert figures == vmtouch(tree)
    return figures


def test_figures_agree_with_vmtouch_before_and_after_evict_and_prefetch(tree: Path) -> None:
    assert compare_with_vmtouch(tree) == (127, 635)
    assert run("evict", tree).status == 0
    assert compare_with_vmtouch(tree) == (0, 635)
    assert run("prefetch", tree).status == 0
    assert compare_with_vmtouch(tree) == (635, 635)


def test_figures_of_installed_files_agree_with_vmtouch() -> None:
    directory = Path(os.__file__).parent / "json"
    if run("residency", "--json", directory).document["left_out"]:
        pytest.skip("the kernel does not tell this user what is resident of the installed files")
    compare_with_vmtouch(directory)


# --- prefetch and evict -------------------------------------------------------------------------


def test_prefetch_brings_all_in_and_evict_takes_all_out(tree: Path) -> None:
    prefetch = run("prefetch", "--json", tree)
    evict = run("evict", "--json", tree)

    assert (prefetch.status, prefetch.err, evict.status, evict.err) == (0, "", 0, "")
    before, after = (prefetch.document["total"][when] for when in ("before", "after"))
    assert (before["resident_pages"], after["resident_pages"]) == (127, 635)
    assert after["resident_bytes"] == prefetch.document["total"]["size"] == 633 * PAGE + 101
    assert after["percent"] == 100
    before, after = (evict.document["total"][when] for when in ("before", "after"))
    assert (before["resident_pages"], after["resident_pages"]) == (635, 0)
    part = next(file for file in prefetch.document["files"] if file["path"].endswith("part"))
    assert (part["size"], part["pages"]) == (600 * PAGE, 600)
    assert (part["before"]["resident_pages"], part["after"]["resident_pages"]) == (100, 600)
    assert sum(part["before"]["cells"]) == 100
    empty = next(file for file in evict.document["files"] if file["path"].endswith("empty"))
    nothing: dict[str, object] = {
        "resident_pages": 0,
        "resident_bytes": 0,
        "percent": None,
        "cells": [],
    }
    assert (empty["before"], empty["after"]) == (nothing, nothing)


def test_prefetch_and_evict_lines_show_before_and_after(disk_path: Path) -> None:
    path = write_out(disk_path / "file", 8 * PAGE)

    evict, prefetch = run("evict", path), run("prefetch", path)

    size = f"{8 * PAGE / 1024:.1f} KiB"
    assert evict.lines[0].split("\t") == ["size", "pages", "before", "after", "file"]
    assert evict.lines[1].split("\t") == [size, "8", "8", "0", str(path)]
    assert prefetch.lines[1].split("\t") == [size, "8", "0", "8", str(path)]
    assert evict.lines[2:] == [
        f"total: 1 file; {size}; resident: 8 of 8 pages before, 0 of 8 pages after"
    ]
    assert (evict.err, prefetch.err) == ("", "")


def test_evict_writes_changed_pages_out_first(disk_path: Path) -> None:
    path = disk_path / "file"
    content = known_bytes(40 * PAGE)
    path.write_bytes(content)

    assert run("evict", path).status == 0

    assert resident_pages(path) == 0
    assert path.read_bytes() == content


def test_evict_and_prefetch_of_more_than_one_window(disk_path: Path) -> None:
    path = disk_path / "file"
    with path.open("wb") as file:
        file.truncate((130 << 20) + 5)

    prefetch, evict = run("prefetch", "--json", path), run("evict", "--json", path)

    pages = (130 << 20) // PAGE + 1
    (brought,), (dropped,) = prefetch.document["files"], evict.document["files"]
    assert brought["after"]["resident_pages"] == brought["pages"] == pages
    assert dropped["before"]["resident_pages"] == pages
    assert dropped["after"]["resident_pages"] == 0


def test_evict_shows_what_another_process_keeps_in(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, prot=Protection.read()) as mapping:
        mapping.populate()
        (file,) = run("evict", "--json", known_file.path).document["files"]

    assert file["before"]["resident_pages"] == file["after"]["resident_pages"] == 16


def test_main_in_this_process_leaves_nothing_open(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with process_unchanged():
        for command in ("residency", "prefetch", "evict"):
            assert main([command, str(tree), str(tree / "missing")]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("total: 6 files, 1 failed; ") == 3
    assert shown.err.count("missing: No such file or directory") == 3
