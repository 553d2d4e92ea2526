"""What the command line does with what fails: paths, figures, interruption, its output."""

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from command_line import (
    AS_NOBODY,
    COMMAND,
    bring_in,
    drop,
    environment,
    full_pipe,
    needs_root,
    read_all,
    resident_pages,
    run,
    started,
    wait_until_full,
    write_out,
)
from kernel_view import PAGE, KnownFile
from marks import kernel_may_take_pages

from mmapwrap._cli.files import FoundFile, NotRegularFileError, opened

pytestmark = kernel_may_take_pages

# --- what cannot be worked on -------------------------------------------------------------------


def test_what_fails_is_reported_and_counted_and_the_rest_goes_on(disk_path: Path) -> None:
    write_out(disk_path / "all", 16 * PAGE)
    os.mkfifo(disk_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(disk_path / "socket"))
    paths = ["missing", "fifo", "socket", "/dev/null", "", "all/below", "all"]

    ended = run("residency", *paths, cwd=disk_path)

    assert ended.status == 1
    assert ended.err.splitlines() == [
        "mmapwrap: missing: No such file or directory",
        "mmapwrap: fifo: is a fifo, not a regular file or a directory",
        "mmapwrap: socket: is a socket, not a regular file or a directory",
        "mmapwrap: /dev/null: is a character device, not a regular file or a directory",
        "mmapwrap: : No such file or directory",
        "mmapwrap: all/below: Not a directory",
    ]
    assert ended.lines[-1].startswith("total: 1 file, 6 failed; 16 of 16 pages resident")
    document = run("evict", "--json", *paths, cwd=disk_path).document
    assert [file["path"] for file in document["files"]] == ["all"]
    assert (document["total"]["files"], document["total"]["failed"]) == (1, 6)
    assert document["errors"][:2] == [
        {
            "path": "missing",
            "error": "FileNotFoundError",
            "errno": 2,
            "message": "No such file or directory",
        },
        {
            "path": "fifo",
            "error": "NotRegularFileError",
            "errno": None,
            "message": "is a fifo, not a regular file or a directory",
        },
    ]


def test_other_kinds_of_files_met_in_a_walk_are_passed_by(disk_path: Path) -> None:
    write_out(disk_path / "file", PAGE)
    os.mkfifo(disk_path / "fifo")
    (disk_path / "gone").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(disk_path / "socket"))

    ended = run("residency", "--json", disk_path)

    assert (ended.status, ended.err) == (0, "")
    assert [Path(file["path"]).name for file in ended.document["files"]] == ["file"]


@needs_root
def test_directories_that_the_user_may_not_read_are_failures(disk_path: Path) -> None:
    disk_path.chmod(0o755)
    write_out(disk_path / "open", PAGE).chmod(0o666)
    for name, mode in (("unlisted", 0o311), ("unentered", 0o744)):
        (disk_path / name).mkdir()
        write_out(disk_path / name / "file", PAGE)
        (disk_path / name).chmod(mode)

    ended = run("residency", ".", command=AS_NOBODY, cwd=disk_path)

    assert ended.status == 1
    assert ended.err.splitlines() == [
        "mmapwrap: ./unentered/file: Permission denied",
        "mmapwrap: ./unlisted: Permission denied",
    ]
    assert "./open" in ended.out
    assert ended.lines[-1].startswith("total: 1 file, 2 failed; ")


@pytest.fixture
def closed_files(disk_path: Path) -> Path:
    """Files of root's that others may not read, and one that others may read and write."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    disk_path.chmod(0o755)
    write_out(disk_path / "closed", 3 * PAGE).chmod(0o600)
    write_out(disk_path / "open", PAGE).chmod(0o666)
    (disk_path / "below").mkdir()
    write_out(disk_path / "below" / "closed", 2 * PAGE).chmod(0)
    return disk_path


@pytest.mark.parametrize("command", ["residency", "prefetch", "evict"])
def test_directory_with_unreadable_files_sums_them_up_in_one_line(
    command: str, closed_files: Path
) -> None:
    ended = run(command, closed_files, command=AS_NOBODY)

    assert (ended.status, ended.err) == (0, "")
    _, file, left_out, total = ended.lines
    assert file.endswith(f"\t{closed_files / 'open'}")
    size = f"{5 * PAGE / 1024:.1f} KiB"
    assert left_out == f"left out: 2 files, {size}; permission denied"
    assert total.startswith("total: 1 file; ")


@pytest.mark.parametrize("command", ["residency", "prefetch", "evict"])
def test_document_of_unreadable_files_lists_them_apart_from_errors(
    command: str, closed_files: Path
) -> None:
    ended = run(command, "--json", ".", command=AS_NOBODY, cwd=closed_files)

    document = ended.document
    assert (ended.status, ended.err, document["errors"]) == (0, "", [])
    assert document["left_out"] == [
        {
            "path": path,
            "size": size,
            "error": "UnreadableFileError",
            "message": "permission denied",
        }
        for path, size in (("./closed", 3 * PAGE), ("./below/closed", 2 * PAGE))
    ]
    total = document["total"]
    assert (total["files"], total["failed"], total["size"]) == (1, 0, PAGE)
    assert (total["left_out_files"], total["left_out_bytes"]) == (2, 5 * PAGE)


@pytest.mark.parametrize("command", ["residency", "prefetch", "evict"])
def test_named_unreadable_file_is_a_failure_with_its_name(command: str, closed_files: Path) -> None:
    ended = run(command, "closed", "open", command=AS_NOBODY, cwd=closed_files)

    assert (ended.status, ended.err) == (1, "mmapwrap: closed: Permission denied\n")
    assert ended.lines[-1].startswith("total: 1 file, 1 failed; ")


def test_a_file_that_cannot_be_mapped_fails_with_the_library_s_error() -> None:
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not Path(path).exists():
        pytest.skip("this kernel has no file here that can be read and not mapped")

    ended = run("residency", "--json", path)

    (error,) = ended.document["errors"]
    assert ended.status == 1
    assert (error["path"], error["error"]) == (path, "NotMappableError")
    assert ended.err == f"mmapwrap: {path}: {error['message']}\n"


def test_what_took_a_file_s_place_is_not_opened_as_one(disk_path: Path) -> None:
    os.mkfifo(disk_path / "fifo")
    (disk_path / "link").symlink_to("fifo")
    found = FoundFile(os.fspath(disk_path / "fifo"), 0, named=True)
    with pytest.raises(NotRegularFileError, match="is a fifo"), opened(found):
        pass
    found = FoundFile(os.fspath(disk_path / "link"), 0, named=False)
    with pytest.raises(OSError, match="symbolic links"), opened(found):
        pass


# --- whom the kernel tells ----------------------------------------------------------------------


@pytest.fixture
def others_files(disk_path: Path) -> Path:
    """Files of root's, of which nothing is resident; two of them others may only read."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    disk_path.chmod(0o755)
    for name, mode in (("hidden", 0o644), ("hidden too", 0o444), ("writable", 0o666)):
        path = write_out(disk_path / name, 4 * PAGE)
        path.chmod(mode)
        drop(path)
    path = write_out(disk_path / "own", 4 * PAGE)
    path.chmod(0o400)
    os.chown(path, 65534, 65534)
    return disk_path


WITHHELD = (
    "the kernel shows which pages of a file are resident only to its owner, to users who may write "
    "the file, and to root"
)


def test_directory_with_withheld_files_sums_them_up_in_one_line(others_files: Path) -> None:
    write_out(others_files / "closed", PAGE).chmod(0o600)

    ended = run("residency", ".", command=AS_NOBODY, cwd=others_files)

    assert (ended.status, ended.err) == (0, "")
    size = f"{8 * PAGE / 1024:.1f} KiB"
    assert ended.lines[-3:-1] == [
        f"left out: 1 file, {PAGE / 1024:.1f} KiB; permission denied",
        f"left out: 2 files, {size}; {WITHHELD}",
    ]
    assert ended.lines[-1].startswith("total: 2 files; 4 of 8 pages resident, ")
    assert len(ended.lines) == 6


def test_document_of_withheld_files_lists_them_apart_from_errors(others_files: Path) -> None:
    ended = run("residency", "--json", ".", command=AS_NOBODY, cwd=others_files)

    document = ended.document
    assert (ended.status, ended.err, document["errors"]) == (0, "", [])
    assert {file["path"]: file["resident_pages"] for file in document["files"]} == {
        "./own": 4,
        "./writable": 0,
    }
    assert document["left_out"] == [
        {"path": path, "size": 4 * PAGE, "error": "FiguresWithheldError", "message": WITHHELD}
        for path in ("./hidden", "./hidden too")
    ]
    total = document["total"]
    assert (total["files"], total["pages"]) == (2, 8)
    assert (total["left_out_files"], total["left_out_bytes"]) == (2, 8 * PAGE)
    assert resident_pages(others_files / "hidden") == 0


def test_directory_of_withheld_files_alone_is_no_failure(others_files: Path) -> None:
    for name in ("own", "writable"):
        (others_files / name).unlink()

    ended = run("residency", others_files, command=AS_NOBODY)

    assert (ended.status, ended.err) == (0, "")
    assert [line.split(";")[0] for line in ended.lines[1:]] == [
        f"left out: 2 files, {8 * PAGE / 1024:.1f} KiB",
        "total: 0 files",
    ]


def test_named_withheld_file_is_a_failure_with_its_name(others_files: Path) -> None:
    ended = run("residency", "hidden", "own", command=AS_NOBODY, cwd=others_files)

    assert (ended.status, ended.err) == (1, f"mmapwrap: hidden: {WITHHELD}\n")
    assert ended.lines[-1].startswith("total: 1 file, 1 failed; 4 of 4 pages resident, ")


def test_prefetch_of_another_s_file_does_not_make_figures_up(others_files: Path) -> None:
    ended = run("prefetch", "--json", "hidden", "own", command=AS_NOBODY, cwd=others_files)

    hidden, own = ended.document["files"]
    assert (ended.status, ended.err) == (0, "")
    assert (hidden["before"], hidden["after"]) == (None, None)
    assert own["after"]["resident_pages"] == 4
    after = ended.document["total"]["after"]
    assert (after["unknown_files"], after["resident_pages"], after["percent"]) == (1, 4, 100)
    assert resident_pages(others_files / "hidden") == 4


@needs_root
def test_evict_of_another_s_file_says_that_the_figures_are_unknown() -> None:
    # Below directories that everybody may search, as the file is opened again by its path.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = write_out(Path(directory) / "hidden", 4 * PAGE)
        drop(path)
        if resident_pages(path) != 0:
            pytest.skip("/var/tmp is on a filesystem kept in memory")
        bring_in(path, 0, 4)
        path.parent.chmod(0o755)

        ended = run("evict", path, command=AS_NOBODY)

        assert (ended.status, ended.err) == (0, "")
        assert ended.lines[1].split("\t")[1:] == ["4", "unknown", "unknown", str(path)]
        assert ended.lines[-1].endswith(" after; unknown of 1 file")
        assert resident_pages(path) == 0


# --- interruption, broken output ----------------------------------------------------------------


NUMBERED = "{:03}" + "-" * 150
# How much of a line stands before the file's name.
LINE_BEFORE = {
    "residency": len("1 B\t1/1\t100.0%\t8\t"),
    "prefetch": len("1 B\t1\t1\t1\t"),
    "evict": len("1 B\t1\t1\t0\t"),
}


@pytest.fixture
def many_files(disk_path: Path) -> Path:
    """More files than a small pipe holds lines."""
    for number in range(100):
        write_out(disk_path / NUMBERED.format(number), 1)
    return disk_path


@pytest.mark.parametrize("command", LINE_BEFORE)
def test_an_interrupted_command_says_how_far_it_got(command: str, many_files: Path) -> None:
    reader, writer = full_pipe()
    with started(command, many_files, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        wait_until_full(reader, len(f"{many_files}/{NUMBERED.format(0)}\n") + LINE_BEFORE[command])
        process.send_signal(signal.SIGINT)
        lines = read_all(reader).splitlines()
        assert process.stderr is not None
        complaint = process.stderr.read().decode()
        status = process.wait()

    done = len(lines) - 2
    assert status == 130
    assert 0 < done < 100
    assert lines[-1].startswith(f"total: {done} files; ")
    if command == "residency":
        assert complaint == f"mmapwrap: interrupted: {done} files done\n"
    else:
        # The last line may have been the one that was being written.
        assert complaint in {
            f"mmapwrap: interrupted: {files} of 100 files done, {done} B of 100 B\n"
            for files in (done - 1, done)
        }


def test_an_interrupted_document_holds_what_was_done(disk_path: Path) -> None:
    write_out(disk_path / "file", PAGE)
    missing = [NUMBERED.format(number) for number in range(100)]
    reader, writer = full_pipe()
    paths = [str(disk_path / "file"), *missing]
    with started("residency", "--json", *paths, stdout=subprocess.PIPE, stderr=writer) as process:
        os.close(writer)
        wait_until_full(reader, len(f"mmapwrap: {missing[0]}: No such file or directory\n"))
        process.send_signal(signal.SIGINT)
        complaints = read_all(reader).splitlines()
        assert process.stdout is not None
        written = process.stdout.read()
        status = process.wait()

    assert status == 130
    assert complaints[-1].startswith("mmapwrap: interrupted: 1 file, ")
    assert b'"interrupted": true' in written
    assert written.endswith(b"}\n")


def test_an_interruption_does_not_wait_for_who_does_not_read(many_files: Path) -> None:
    reader, writer = full_pipe()
    with started("residency", "--json", many_files, stdout=writer) as process:
        os.close(writer)
        wait_until_full(reader)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert read_all(reader).startswith('{"command": "residency"')


@pytest.mark.parametrize("command", LINE_BEFORE)
def test_a_reader_that_goes_away_ends_the_command_quietly(command: str, many_files: Path) -> None:
    with started(command, many_files, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize("arguments", [["--help"], ["support", "--json"], ["residency", "."]])
def test_output_that_nobody_reads_is_no_traceback(arguments: list[str], disk_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [*COMMAND, *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=disk_path,
        env=environment(),
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_complaints_that_nobody_reads_change_nothing(disk_path: Path) -> None:
    write_out(disk_path / "file", PAGE)
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [*COMMAND, "residency", "missing", "file"],
        stdout=subprocess.PIPE,
        stderr=writer,
        cwd=disk_path,
        check=False,
    )
    os.close(writer)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith(b"total: 1 file, 1 failed; ")


@pytest.mark.parametrize("words", [["residency", "."], ["--help"], ["evict", "-h"], ["--version"]])
def test_output_that_cannot_be_written_is_an_error(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*COMMAND, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == b"mmapwrap: standard output: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_change_no_status(closed: str, known_file: KnownFile) -> None:
    script = f'exec "$@" {closed}'
    for path, status in ((known_file.path, 0), (known_file.path / "below", 1)):
        command: list[str | Path] = ["sh", "-c", script, "sh", *COMMAND, "residency", path]
        ended = subprocess.run(command, capture_output=True, check=False)
        assert ended.returncode == status
        assert b"Traceback" not in ended.stdout + ended.stderr
