"""Huge pages of hugetlbfs for tests: the system's pool of them, files, and neighbours."""

import fcntl
import mmap
import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kernel_view import PAGE, known_bytes, perms

from mmapwrap import AddressInUseError, MemoryMapping, Protection

_POOL = Path("/proc/sys/vm/nr_hugepages")


def _amounts() -> dict[str, int]:
    """The numbers of ``/proc/meminfo``, in its own units."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}


HUGE = _amounts().get("Hugepagesize", 2048) * 1024


def _require(condition: object, reason: str) -> None:
    if not condition:
        pytest.skip(reason)


def free_huge_pages() -> int:
    """The huge pages of the pool that a new mapping can have."""
    amounts = _amounts()
    return amounts["HugePages_Free"] - amounts["HugePages_Rsvd"]


def make_free(count: int) -> None:
    """Change the pool so that this many huge pages are free; its size is what `pool_of` keeps."""
    total = _amounts()["HugePages_Total"] - free_huge_pages() + count
    _POOL.write_text(str(total))
    _require(free_huge_pages() == count, f"the kernel does not give {count} huge pages")


@contextmanager
def locked_pool() -> Generator[None]:
    """Keep other test runs from changing the pool."""
    _require(_POOL.exists(), "this kernel has no hugetlb memory")
    _require(os.geteuid() == 0, "only root can change the number of huge pages")
    with _POOL.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def raised_pool(count: int) -> Generator[None]:
    """Have this many free huge pages in the locked pool; afterwards it has the size of before."""
    before = _POOL.read_text()
    try:
        make_free(count)
        yield
    finally:
        _POOL.write_text(before)


@contextmanager
def pool_of(count: int) -> Generator[None]:
    """Have this many free huge pages in a pool that no other test run changes."""
    with locked_pool(), raised_pool(count):
        yield


@contextmanager
def huge_memfd(count: int) -> Generator[int]:
    """A descriptor of memory of this many huge pages, none of which is there yet."""
    fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, count * HUGE)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def mounted_hugetlbfs() -> Generator[Path]:
    """The directory of a hugetlbfs of the default huge page."""
    with tempfile.TemporaryDirectory() as directory:
        options = f"pagesize={HUGE // 1024}K"
        mount = ["mount", "-t", "hugetlbfs", "-o", options, "tests", directory]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        _require(mounted.returncode == 0, f"hugetlbfs cannot be mounted here: {mounted.stderr}")
        try:
            yield Path(directory)
        finally:
            # Lazily: an error that pytest still shows may hold a file.
            subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def hugetlbfs_file(count: int) -> Generator[int]:
    """A descriptor of a file of this many huge pages on a mounted hugetlbfs."""
    with mounted_hugetlbfs() as directory:
        fd = os.open(directory / "huge", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, count * HUGE)
            yield fd
        finally:
            os.close(fd)


def fill(fd: int, content: bytes) -> None:
    """Write a file of huge pages, without the library; write(2) cannot."""
    with mmap.mmap(fd, len(content)) as mapped:
        mapped[:] = content


def content_of(fd: int, offset: int, count: int) -> bytes:
    """What a file holds, without a mapping."""
    parts: list[bytes] = []
    while count > 0:
        part = os.pread(fd, count, offset)
        assert part, "the file has ended"
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return b"".join(parts)


@contextmanager
def neighbours(start: int, end: int) -> Generator[None]:
    """Memory of others right before and right after a range: unchanged when the block ends."""
    count = 16 * PAGE
    mine = known_bytes(count)
    with (
        _at(start - count, count) as before,
        _at(end, count) as after,
    ):
        before[:] = after[:] = mine
        yield
        for other in (before, after):
            assert perms(other.as_ptr(), count) == ["rw-s"] * 16, "memory of others was unmapped"
            assert other[:] == mine, "memory of others was written"


def _at(address: int, count: int) -> MemoryMapping:
    try:
        return MemoryMapping.new_protection_fixed(address, count, Protection.read_write())
    except AddressInUseError:
        pytest.fail(f"the address {address:#x} is in use: the test must choose another place")
