"""Block devices on the command line: named, they are worked on as files are."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import AS_NOBODY, bring_in, run
from kernel_view import PAGE
from marks import kernel_may_take_pages

pytestmark = kernel_may_take_pages


def attached(file: Path, size: int) -> Iterator[Path]:
    """A loop device over a file of `size` bytes, held open: the last close drops its pages."""
    if os.geteuid() != 0:
        pytest.skip("only root can attach a loop device")
    with file.open("wb") as backing:
        backing.truncate(size)
    command = ["losetup", "--find", "--show", os.fspath(file)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a loop device cannot be attached here: {error}")
    device = Path(ended.stdout.strip())
    try:
        with device.open("rb"):
            yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def device(disk_path: Path) -> Iterator[Path]:
    """A block device of 64 pages."""
    yield from attached(disk_path / "backing", 64 * PAGE)


@pytest.fixture
def empty_device(disk_path: Path) -> Iterator[Path]:
    """A block device of no bytes."""
    yield from attached(disk_path / "backing", 0)


def test_named_block_device_is_worked_on_like_a_file(device: Path) -> None:
    prefetch = run("prefetch", "--json", device)
    evict = run("evict", "--json", device)
    bring_in(device, 10, 4)
    residency = run("residency", "--json", device)

    for ended in (prefetch, evict, residency):
        assert (ended.status, ended.err) == (0, "")
    (brought,), (dropped,), (shown,) = (
        ended.document["files"] for ended in (prefetch, evict, residency)
    )
    assert (brought["path"], brought["size"], brought["pages"]) == (str(device), 64 * PAGE, 64)
    assert brought["after"]["resident_pages"] == 64
    assert (dropped["before"]["resident_pages"], dropped["after"]["resident_pages"]) == (64, 0)
    assert shown["resident_pages"] == 4
    assert shown["cells"] == [0] * 5 + [2, 2] + [0] * 25


def test_block_device_of_two_names_counts_once(device: Path, disk_path: Path) -> None:
    other = disk_path / "other"
    (disk_path / "link").symlink_to(device)
    try:
        os.mknod(other, 0o600 | 0o060000, device.stat().st_rdev)
    except OSError as error:
        pytest.skip(f"a device node cannot be made here: {error}")

    ended = run("residency", "--json", disk_path / "link", other, device)

    assert [file["path"] for file in ended.document["files"]] == [str(disk_path / "link")]


def test_block_device_met_in_a_walk_is_passed_by(device: Path, disk_path: Path) -> None:
    try:
        os.mknod(disk_path / "node", 0o600 | 0o060000, device.stat().st_rdev)
    except OSError as error:
        pytest.skip(f"a device node cannot be made here: {error}")

    ended = run("residency", "--json", disk_path)

    assert (ended.status, ended.err) == (0, "")
    assert [Path(file["path"]).name for file in ended.document["files"]] == ["backing"]


def test_block_device_without_bytes_has_no_pages(empty_device: Path) -> None:
    for command in ("residency", "prefetch", "evict"):
        ended = run(command, empty_device)
        assert (ended.status, ended.err) == (0, "")
        assert ended.lines[-1].startswith("total: 1 file; 0 ")


def test_block_device_that_the_user_may_not_read_is_a_failure(device: Path) -> None:
    ended = run("residency", device, command=AS_NOBODY)
    assert (ended.status, ended.err) == (1, f"mmapwrap: {device}: Permission denied\n")
