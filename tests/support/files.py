"""Files and file systems that tests make for themselves."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def opened(path: Path | str, flags: int = os.O_RDWR) -> Generator[int]:
    """A raw descriptor of a file, closed afterwards."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def memory_file(content: bytes) -> int:
    """A descriptor of a memfd of this content."""
    fd = os.memfd_create("content")
    os.pwrite(fd, content, 0)
    return fd


@contextmanager
def mounted_image(kind: str, size: int) -> Generator[Path]:
    """The directory of a file system of this kind in an image, which only root can mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    if (mkfs := shutil.which(f"mkfs.{kind}")) is None:
        pytest.skip(f"there is no mkfs.{kind}")
    with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile() as image:
        image.truncate(size)
        subprocess.run([mkfs, "-q", "-F", image.name], check=True, capture_output=True)
        mount = ["mount", "-o", "loop", "-t", kind, image.name, directory]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"an image of {kind} cannot be mounted here: {mounted.stderr}")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def mounted_tmpfs(options: str) -> Generator[Path]:
    """The directory of a file system kept in memory, which only root can mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tests", directory]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr}")
        try:
            yield Path(directory)
        finally:
            # Lazily: an error that pytest still shows may hold a file.
            subprocess.run(["umount", "--lazy", directory], check=True)
