"""The programs in examples/, run as their readers run them, and checked from outside of them."""

import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from kernel_view import PAGE, child, known_bytes
from marks import kernel_may_take_pages

EXAMPLES = Path(__file__).parents[2] / "examples"
MIB, GIB = 1 << 20, 1 << 30


@attrs.frozen
class Ended:
    """How an example ended."""

    status: int
    lines: list[str]
    errors: str


def run(name: str, *arguments: str | Path) -> Ended:
    """Run an example to its end."""
    ended = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout.splitlines(), ended.stderr)


def succeeded(name: str, *arguments: str | Path) -> list[str]:
    """The output of an example that must end well and say nothing about errors."""
    ended = run(name, *arguments)
    assert (ended.status, ended.errors) == (0, "")
    return ended.lines


def failed(name: str, *arguments: str | Path) -> str:
    """The one line in which an example must say what was wrong."""
    ended = run(name, *arguments)
    assert ended.status == 1
    (line,) = ended.errors.splitlines()
    return line


def child_with_examples(program: str, *arguments: object) -> str:
    """Run a program that can import the examples; returns its output."""
    start = "import sys\nsys.path.insert(0, sys.argv.pop(1))\n"
    return child(start + program, EXAMPLES, *arguments).succeeded()


# --- guest_memory -------------------------------------------------------------------------------


def test_guest_memory_kernel_file_is_found_where_the_boot_parameters_say(tmp_path: Path) -> None:
    content = known_bytes(3 * PAGE + 5)
    (tmp_path / "kernel").write_bytes(content)
    lines = succeeded("guest_memory", tmp_path / "kernel")
    assert lines[:3] == [
        "memory at 0x0-0x80000000",
        "memory at 0x100000000-0x140000000",
        f"kernel of {len(content)} bytes at 0x100000: {content[:8].hex()}",
    ]
    assert lines[3] == "another mapping of the memfd reads b'high'"


def test_guest_memory_holes_are_reported_with_address_and_count() -> None:
    lines = [line for line in succeeded("guest_memory") if line.startswith("hole")]
    assert lines == [
        "hole: 4 bytes at 0xc0000000",
        "hole: 4 bytes at 0x7ffffffe",
        "hole: 1 bytes at 0x140000000",
    ]


def test_guest_memory_of_3_gib_is_sealed_and_takes_only_the_pages_written(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(known_bytes(8 * PAGE))
    seals, used = succeeded("guest_memory", tmp_path / "kernel")[-2:]
    assert {"SEAL", "SHRINK", "GROW"} <= set(seals.removeprefix("seals: ").split(", "))
    # The kernel, the page of the boot parameters, and the one above 4 GiB.
    assert used == f"3072 MiB of memory, {10 * PAGE // 1024} KiB in use"


def test_guest_memory_access_reaches_the_bytes_of_the_right_region_only() -> None:
    child_with_examples(
        """
from mmapwrap import be_u32, page_size
from guest_memory import GuestMemory, HoleError

page = page_size()
with GuestMemory([(8 * page, 2 * page), (0, page)]) as guest:
    guest.write_obj(be_u32, 0x01020304, page - 4)
    guest.write(b"second", 8 * page)
    guest.get_slice(9 * page, page).write_bytes(7)
    assert guest.read_obj(be_u32, page - 4) == 0x01020304
    with guest.memory.map() as whole:  # the regions lie in the memfd in order of address
        assert whole[page - 4 : page + 6] == b"\\1\\2\\3\\4second"
        assert whole[2 * page :] == b"\\7" * page
        before = whole[:]
        for address, count in [(page - 1, 2), (page, 1), (8 * page - 1, 1), (10 * page, 1)]:
            for access in [
                lambda: guest.read(address, count),
                lambda: guest.write(b"x" * count, address),
                lambda: guest.get_slice(address, count),
            ]:
                try:
                    access()
                except HoleError as error:
                    assert (error.address, error.count) == (address, count)
                else:
                    raise AssertionError("a hole was accessed")
        for address in (page - 2, -4, 2**64):
            try:
                guest.write_obj(be_u32, 5, address)
            except HoleError:
                pass
            else:
                raise AssertionError("a hole was written")
        assert whole[:] == before
"""
    )


def test_guest_memory_regions_that_touch_are_one_and_others_are_refused() -> None:
    child_with_examples(
        """
from mmapwrap import NotPageAlignedError, le_u64, page_size
from guest_memory import GuestMemory, OverlapError

page = page_size()
with GuestMemory([(page, page), (0, page)]) as guest:
    guest.write_obj(le_u64, 2**63 + 1, page - 3)
    assert guest.read_obj(le_u64, page - 3) == 2**63 + 1
    assert len(guest.regions) == 1

for ranges, expected in [
    ([(0, 2 * page), (page, page)], OverlapError(page)),
    ([(0, page), (0, page)], OverlapError(0)),
    ([(1, page)], NotPageAlignedError(1, page)),
    ([(0, page - 1)], NotPageAlignedError(page - 1, page)),
]:
    try:
        GuestMemory(ranges)
    except (OverlapError, NotPageAlignedError) as error:
        assert repr(error) == repr(expected), error
    else:
        raise AssertionError(ranges)
"""
    )


# --- plugin_window ------------------------------------------------------------------------------


@pytest.fixture
def plugins(tmp_path: Path) -> list[Path]:
    """Three files: of one page, of a bit more, of less than one."""
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path, size in zip(paths, (PAGE, 2 * PAGE + 1, 9), strict=True):
        path.write_bytes(known_bytes(size))
    return paths


def listing(lines: list[str], title: str) -> list[str]:
    """The indented lines after a title."""
    found: list[str] = []
    for line in lines[lines.index(title) + 1 :]:
        if not line.startswith("  "):
            break
        found.append(line.strip())
    return found


def test_plugin_window_segments_are_listed_as_files_come_and_go(plugins: list[Path]) -> None:
    lines = succeeded("plugin_window", *plugins)
    first = f"{0:08x}-{PAGE:08x} r- 0 first"
    rest = [
        f"{2 * PAGE:08x}-{5 * PAGE:08x} r- 0 second",
        f"{6 * PAGE:08x}-{7 * PAGE:08x} r- 0 third",
    ]
    assert listing(lines, "plugged in:") == [first, *rest]
    assert listing(lines, "without first:") == rest
    assert listing(lines, "first again:") == [first, *rest]


def test_plugin_window_shows_the_files_bytes_and_guards_them(plugins: list[Path]) -> None:
    lines = succeeded("plugin_window", *plugins)
    for path in plugins:
        assert f"{path.name} has CRC {zlib.crc32(path.read_bytes()):08x}" in lines
    assert "in use: 1 live view must be released first" in lines
    gap = "gap at 00000000: read access is needed, but the range allows no access"
    assert any(line.startswith(gap) for line in lines)


def test_plugin_window_file_that_cannot_be_mapped_is_reported_and_the_rest_goes_on(
    plugins: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    lines = succeeded("plugin_window", tmp_path / "missing", tmp_path / "empty", plugins[2])
    assert [line.split(":")[1] for line in lines[:2]] == [" missing", " empty"]
    assert listing(lines, "plugged in:") == [f"{0:08x}-{PAGE:08x} r- 0 third"]
    assert succeeded("plugin_window", tmp_path / "empty")[-1] == "plugged in:"


def test_plugin_window_is_what_the_kernel_says_it_is(plugins: list[Path]) -> None:
    child_with_examples(
        """
import sys
from pathlib import Path
from kernel_view import open_descriptors, perms, vmas_in
from mmapwrap import page_size
from plugin_window import Window, WindowFullError

page = page_size()
first, second, third = map(Path, sys.argv[1:])
window = Window(8 * page)
start = window.arena.as_ptr()

def mapped():
    return [(vma.start - start, Path(vma.path).name) for vma in vmas_in(start, 8 * page)
            if vma.inode]

descriptors = open_descriptors()
places = [window.plug(path) for path in (first, second, third)]
assert open_descriptors() == descriptors
assert mapped() == list(zip(places, ["first", "second", "third"]))
file, gap = "r--s", "---p"
assert perms(start, 8 * page) == [file, gap, file, file, file, gap, file, gap]
try:
    window.plug(second)
except WindowFullError:
    pass
else:
    raise AssertionError("there is no room for it")
window.unplug(places[1])
assert mapped() == [(places[0], "first"), (places[2], "third")]
assert window.plug(third) == places[1]
for offset in list(window.plugged):
    window.unplug(offset)
assert mapped() == [] and window.arena.segments() == ()
assert perms(start, 8 * page) == [gap] * 8
""",
        *plugins,
    )


# --- patch_header -------------------------------------------------------------------------------


def elf_header(kind: int, order: str, *, rest: bytes = b"rest of the file") -> bytes:
    """A file that starts as an ELF file does, of 32 or 64 bits."""
    ident = b"\x7fELF" + bytes([kind, 1 if order == "<" else 2, 1]).ljust(12, b"\0")
    numbers = (2, 8, 1, 0x1122) if kind == 1 else (2, 22, 1, 0x112233445566)
    body = struct.pack(order + ("HHII" if kind == 1 else "HHIQ"), *numbers)
    return (ident + body).ljust(52 if kind == 1 else 64, b"\xaa") + rest


def test_patch_header_of_a_real_program_changes_only_what_was_asked_for(disk_path: Path) -> None:
    copy = disk_path / "program"
    content = Path("/proc/self/exe").read_bytes()
    copy.write_bytes(content)
    order = "<" if content[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", content, 16)
    (entry,) = struct.unpack_from(order + "Q", content, 24)

    (shown,) = succeeded("patch_header", copy)
    assert re.search(rf"64 bits, version 1, type {kind} .*, machine {machine},", shown)
    assert shown.endswith(f"entry {entry:#x}")
    assert copy.read_bytes() == content

    _, patched = succeeded("patch_header", copy, "--entry", "0x401234", "--type", "4")
    assert patched.startswith("patched: 64 bits, version 1, type 4 (core dump)")
    assert patched.endswith("entry 0x401234")
    expected = bytearray(content)
    struct.pack_into(order + "H", expected, 16, 4)
    struct.pack_into(order + "Q", expected, 24, 0x401234)
    assert copy.read_bytes() == expected


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_patch_header_follows_the_width_and_byte_order_that_the_file_states(
    tmp_path: Path, kind: int, order: str
) -> None:
    file = tmp_path / "file"
    content = elf_header(kind, order)
    file.write_bytes(content)
    before, after = succeeded("patch_header", file, "--entry", "0x99887766")
    assert f"{32 * kind} bits, version 1, type 2 (executable), machine" in before
    assert before.endswith("entry 0x1122" if kind == 1 else "entry 0x112233445566")
    assert after.endswith("entry 0x99887766")
    width = "I" if kind == 1 else "Q"
    entry = struct.pack(order + width, 0x99887766)
    assert file.read_bytes() == content[:24] + entry + content[24 + len(entry) :]


def test_patch_header_number_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    content = elf_header(1, ">")
    file.write_bytes(content)
    assert "4294967296 is not between" in failed("patch_header", file, "--entry", str(2**32))
    assert "InvalidArgumentError: 65536" in failed(
        "patch_header", file, "--entry", "1", "--type", "65536"
    )
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [b"x", b"#!/bin/sh\n" * 9, b"\x7fELF" + bytes(60), elf_header(2, "<", rest=b"")[:63]],
    ids=["short", "script", "class", "cut"],
)
def test_patch_header_of_what_is_no_elf_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert failed("patch_header", file, "--entry", "1").startswith("NotElfError: file ")
    assert file.read_bytes() == content


def test_patch_header_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert failed("patch_header", tmp_path / "missing").startswith("NoSuchFileError: ")


# --- snapshot -----------------------------------------------------------------------------------


@pytest.fixture(params=["disk", "memory"])
def sparse_place(request: pytest.FixtureRequest, disk_path: Path) -> Iterator[Path]:
    """A directory on a disk, and one in memory."""
    if request.param == "disk":
        yield disk_path
        return
    place = Path("/dev/shm") / f"mmapwrap-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError:
        pytest.skip("there is no /dev/shm that can be written")
    try:
        yield place
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


def allocated(path: Path) -> int:
    """The bytes that a file takes."""
    return path.stat().st_blocks * 512


def make_sparse(path: Path, size: int, data: dict[int, bytes]) -> None:
    """Make a file with this data and holes; skip where the file system makes none."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, content in data.items():
            file.seek(offset)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if allocated(path) > size // 2:
        pytest.skip("the file system has no holes")


@kernel_may_take_pages
def test_snapshot_round_trip_keeps_bytes_and_holes(sparse_place: Path) -> None:
    source, snapshot, target = (sparse_place / name for name in ("source", "snapshot", "target"))
    size = 512 * MIB + 123
    data = {
        0: known_bytes(PAGE),
        5 * PAGE + 10: known_bytes(100),
        64 * MIB: known_bytes(MIB),
        100 * MIB: bytes(4 * MIB),  # written, and yet nothing
        size - 7: b"the end",
    }
    make_sparse(source, size, data)
    before = allocated(source)

    residency, copied = succeeded("snapshot", "save", source, snapshot)
    assert copied == f"4 ranges with {PAGE + PAGE + MIB + 123} of {size} bytes"
    assert succeeded("snapshot", "restore", snapshot, target) == [copied]

    assert target.stat().st_size == size
    compared = subprocess.run(["cmp", source, target], check=False, capture_output=True)
    assert compared.returncode == 0, compared
    # What a file system needs for itself is far less than the zeros that were written.
    assert MIB <= allocated(target) <= before - 3 * MIB
    assert snapshot.stat().st_size < MIB + 4 * PAGE
    # Saving read the data and no hole: reading those allocates, where the file is memory.
    assert allocated(source) == before
    found = re.fullmatch(rf"<Residency (\d+) of (\d+) pages of {PAGE} bytes>", residency)
    assert found is not None
    assert int(found[2]) == -(-size // PAGE)
    assert int(found[1]) < 16 * MIB // PAGE  # a disk is read ahead


def test_snapshot_of_one_hole_is_only_a_header(sparse_place: Path) -> None:
    source, snapshot, target = (sparse_place / name for name in ("source", "snapshot", "target"))
    make_sparse(source, GIB, {})
    assert succeeded("snapshot", "save", source, snapshot)[1] == f"0 ranges with 0 of {GIB} bytes"
    succeeded("snapshot", "restore", snapshot, target)
    assert snapshot.stat().st_size == 24
    assert (target.stat().st_size, allocated(target)) == (GIB, 0)


def test_snapshot_without_any_hole_is_restored(tmp_path: Path) -> None:
    source, snapshot, target = (tmp_path / name for name in ("source", "snapshot", "target"))
    source.write_bytes(known_bytes(3 * PAGE + 1))
    succeeded("snapshot", "save", source, snapshot)
    succeeded("snapshot", "restore", snapshot, target)
    assert target.read_bytes() == source.read_bytes()


def test_snapshot_that_is_damaged_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    source, snapshot, target = (tmp_path / name for name in ("source", "snapshot", "target"))
    source.write_bytes(known_bytes(2 * PAGE))
    succeeded("snapshot", "save", source, snapshot)
    good = snapshot.read_bytes()
    for content, message in [
        (good[:-1], "SnapshotError: the snapshot ends inside its data"),
        (good[:30], "SnapshotError: the snapshot ends inside its table"),
        (good[:10], "SnapshotError: this is no snapshot"),
        (b"x" + good[1:], "SnapshotError: this is no snapshot"),
        (good[:8] + bytes(8) + good[16:], "PastEndOfFileError: "),
        (good[:8] + b"\xff" * 8 + good[16:], "OSError: "),
        (good[:24] + b"\1" + good[25:], "VolatileOutOfBoundsError: "),
        (good[:24] + b"\xff" * 8 + good[32:], "VolatileOverflowError: "),
    ]:
        snapshot.write_bytes(content)
        assert failed("snapshot", "restore", snapshot, target).startswith(message)
        assert not target.exists()


def test_snapshot_never_overwrites_what_it_would_restore_to(tmp_path: Path) -> None:
    source, snapshot = tmp_path / "source", tmp_path / "snapshot"
    source.write_bytes(b"data")
    succeeded("snapshot", "save", source, snapshot)
    source.write_bytes(b"newer")
    assert failed("snapshot", "restore", snapshot, source).startswith("FileExistsError: ")
    assert source.read_bytes() == b"newer"


def test_snapshot_of_an_empty_file_is_an_error(tmp_path: Path) -> None:
    source, snapshot = tmp_path / "source", tmp_path / "snapshot"
    source.touch()
    assert failed("snapshot", "save", source, snapshot).startswith("PastEndOfFileError: ")
    assert not snapshot.exists()
