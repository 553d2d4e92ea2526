"""The ten constructors of `MemoryMapping`: what they map, what they refuse, what they leave."""

import errno
import fcntl
import gc
import mmap
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from files import opened
from kernel_view import (
    MIB,
    PAGE,
    Index,
    KnownFile,
    amount,
    any_vm_flags,
    child,
    free_address,
    in_process,
    is_mapped,
    kernel_names_memory,
    known_bytes,
    mapped_ranges,
    newly_mapped,
    open_descriptors,
    perms,
    process_unchanged,
    vm_flags,
    vmas_in,
)
from protections import READ, RW

from mmapwrap import (
    AccessDeniedError,
    AddressInUseError,
    BadDescriptorError,
    InvalidAddressError,
    InvalidAlignmentError,
    InvalidArgumentError,
    InvalidOffsetError,
    InvalidSystemCallError,
    IsDirectoryError,
    MappingFaultError,
    MemoryMapping,
    MmapError,
    NoSuchFileError,
    NotDirectoryError,
    NotMappableError,
    NotPageAlignedError,
    OffsetOverflowError,
    OperationNotPermittedError,
    OutOfMemoryError,
    PastEndOfFileError,
    Protection,
    ProtectionError,
    SharedMemory,
    Sharing,
    UnsupportedByKernelError,
)

GIB = 1 << 30
ROOM = 64 * PAGE  # the free range that a test of a fixed address gets

Error = TypeVar("Error", bound=Exception)


def whole_pages(size: int) -> int:
    """A size as the kernel maps it."""
    return -(-size // PAGE) * PAGE


@contextmanager
def refused(
    *kinds: type[Error], also: type[Exception] | None = None
) -> Generator[pytest.ExceptionInfo[Error]]:
    """Expect one of these errors, and nothing left while its traceback is still alive.

    Args:
        kinds: the errors of the library, any of which fits the contract.
        also: the builtin that it must be as well.
    """
    with process_unchanged():
        with pytest.raises(kinds) as caught:
            yield caught
        assert also is None or isinstance(caught.value, also)


def _into_page(offset: object) -> int:
    """How far into a page the address of a file offset has to be, if it is one."""
    return offset % PAGE if isinstance(offset, int) else 0


# Each constructor in one form: (path, size) for those that map from the start of a file or
# nothing, (fd, size, offset, prot) for those that take a descriptor.
ByPath = Callable[[Path, Any], MemoryMapping]
ByDescriptor = Callable[[Any, Any, Any, Any], MemoryMapping]

ANONYMOUS: dict[str, Callable[[Any], MemoryMapping]] = {
    "new": MemoryMapping.new,
    "new_protection": lambda size: MemoryMapping.new_protection(size, None, RW),
    "new_protection_fixed": lambda size: MemoryMapping.new_protection_fixed(
        free_address(ROOM), size, RW
    ),
    "anonymous": MemoryMapping.anonymous,
}
WITH_PROTECTION: dict[str, ByDescriptor] = {
    "from_fd_offset_protection": MemoryMapping.from_fd_offset_protection,
    "from_fd_offset_protection_populate": lambda fd, size, offset, prot: (
        MemoryMapping.from_fd_offset_protection_populate(fd, size, offset, None, prot, False)
    ),
    "from_descriptor_offset_protection_fixed": lambda fd, size, offset, prot: (
        MemoryMapping.from_descriptor_offset_protection_fixed(
            free_address(ROOM) + _into_page(offset), fd, size, offset, prot
        )
    ),
    "from_file": lambda fd, size, offset, prot: MemoryMapping.from_file(
        fd, size, offset=offset, prot=prot
    ),
}
WITH_OFFSET: dict[str, ByDescriptor] = {
    "from_fd_offset": lambda fd, size, offset, prot: MemoryMapping.from_fd_offset(fd, size, offset),
    **WITH_PROTECTION,
}
WITH_DESCRIPTOR: dict[str, ByDescriptor] = {
    "from_fd": lambda fd, size, offset, prot: MemoryMapping.from_fd(fd, size),
    **WITH_OFFSET,
}


def _through_descriptor(make: ByDescriptor) -> ByPath:
    def through(path: Path, size: Any) -> MemoryMapping:
        with opened(path) as fd:
            return make(fd, size, 0, RW)

    return through


def _without_path(make: Callable[[Any], MemoryMapping]) -> ByPath:
    return lambda path, size: make(size)


OF_A_FILE: dict[str, ByPath] = {
    **{name: _through_descriptor(make) for name, make in WITH_DESCRIPTOR.items()},
    "from_file_path": MemoryMapping.from_file,
}
EVERY: dict[str, ByPath] = {
    **{name: _without_path(make) for name, make in ANONYMOUS.items()},
    **OF_A_FILE,
}


def _populated(path: Path, size: Any, align: Any) -> MemoryMapping:
    with opened(path) as fd:
        return MemoryMapping.from_fd_offset_protection_populate(fd, size, 0, align, RW, True)


WITH_ALIGNMENT: dict[str, Callable[[Path, Any, Any], MemoryMapping]] = {
    "new_protection": lambda path, size, align: MemoryMapping.new_protection(size, align, RW),
    "anonymous": lambda path, size, align: MemoryMapping.anonymous(size, align=align),
    # Read-only, so that `mapped_ranges` can tell it from the interpreter's heap.
    "anonymous_private": lambda path, size, align: MemoryMapping.anonymous(
        size, align=align, prot=READ, sharing=Sharing.PRIVATE
    ),
    "from_file": lambda path, size, align: MemoryMapping.from_file(path, size, align=align),
    "from_fd_offset_protection_populate": _populated,
}


def over(table: dict[str, Any]) -> pytest.MarkDecorator:
    """Run a test once for each constructor of a table."""
    return pytest.mark.parametrize("make", table.values(), ids=table.keys())


# What every constructor gives


@over(EVERY)
@pytest.mark.parametrize("size", [1, PAGE, 3 * PAGE, 3 * PAGE + 5])
def test_constructor_any_size_maps_its_pages_shared_and_writable(
    make: ByPath, size: int, known_file: KnownFile
) -> None:
    with make(known_file.path, size) as m:
        assert m.size == len(m) == size
        assert m.prot == RW
        assert m.sharing is Sharing.SHARED
        assert not m.closed
        assert m.live_views == 0
        (vma,) = vmas_in(m.as_ptr(), size)
        assert (vma.start, vma.end) == (m.as_ptr(), m.as_ptr() + whole_pages(size))
        assert vma.perms == "rw-s"


@over(ANONYMOUS)
def test_constructor_anonymous_reads_as_zeros_and_has_no_file_offset(
    make: Callable[[Any], MemoryMapping],
) -> None:
    with make(2 * PAGE) as m:
        assert bytes(m.view()) == bytes(2 * PAGE)
        assert m.file_offset is None
        m[PAGE - 1 : PAGE + 1] = b"ab"
        assert bytes(m.view()) == bytes(PAGE - 1) + b"ab" + bytes(PAGE - 1)


@over(OF_A_FILE)
def test_constructor_file_maps_its_bytes(make: ByPath, known_file: KnownFile) -> None:
    with make(known_file.path, 2 * PAGE) as m:
        assert bytes(m.view()) == known_file.content[: 2 * PAGE]
        assert m.file_offset == 0
        assert {vma.path for vma in vmas_in(m.as_ptr(), m.size)} == {str(known_file.path)}


@over(OF_A_FILE)
def test_constructor_file_written_through_changes(make: ByPath, known_file: KnownFile) -> None:
    with make(known_file.path, 2 * PAGE) as m:
        m[PAGE - 2 : PAGE + 2] = b"abcd"
    expected = bytearray(known_file.content)
    expected[PAGE - 2 : PAGE + 2] = b"abcd"
    assert known_file.path.read_bytes() == expected


@over(EVERY)
def test_constructor_leaves_the_mapping_out_of_core_dumps(
    make: ByPath, known_file: KnownFile
) -> None:
    with make(known_file.path, 3 * PAGE + 5) as m:
        assert "dd" in vm_flags(m.as_ptr(), m.size)


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2",
    reason="vm.overcommit_memory is 2: the kernel takes no notice of MAP_NORESERVE",
)
@pytest.mark.parametrize("name", EVERY)
def test_constructor_anonymous_or_fixed_reserves_no_swap(name: str, known_file: KnownFile) -> None:
    expected = name in ANONYMOUS or name.endswith("_fixed")
    with EVERY[name](known_file.path, 2 * PAGE) as m:
        assert ("nr" in vm_flags(m.as_ptr(), m.size)) is expected


@pytest.mark.parametrize("sharing", Sharing)
def test_anonymous_reserve_reserves_swap(sharing: Sharing) -> None:
    with MemoryMapping.anonymous(PAGE, reserve=True, sharing=sharing) as m:
        assert "nr" not in any_vm_flags(m.as_ptr(), m.size)


@over(EVERY)
def test_constructor_closed_leaves_nothing_mapped_or_open(
    make: ByPath, known_file: KnownFile
) -> None:
    with process_unchanged():
        make(known_file.path, 5 * PAGE + 1).close()


@over(EVERY)
def test_constructor_dropped_without_close_leaves_nothing_mapped(
    make: ByPath, known_file: KnownFile
) -> None:
    with process_unchanged():
        m = make(known_file.path, 5 * PAGE + 1)
        address = m.as_ptr()
        del m
        gc.collect()  # for an interpreter that does not free at once
        assert not is_mapped(address, PAGE)


@over(EVERY)
def test_constructor_keeps_no_descriptor(make: ByPath, known_file: KnownFile) -> None:
    before = open_descriptors()
    with make(known_file.path, PAGE):
        assert open_descriptors() == before


@over(EVERY)
def test_constructor_size_by_index_method_is_taken(make: ByPath, known_file: KnownFile) -> None:
    with make(known_file.path, Index(PAGE)) as m:
        assert m.size == PAGE
        assert type(m.size) is int


every_protection = pytest.mark.parametrize(
    ("prot", "letters"),
    [
        (Protection.none(), "---"),
        (READ, "r--"),
        (Protection.write(), "-w-"),
        (RW, "rw-"),
        (Protection.read_execute(), "r-x"),
    ],
    ids=["none", "read", "write", "read_write", "read_execute"],
)


@every_protection
def test_constructor_anonymous_maps_exactly_the_protection(prot: Protection, letters: str) -> None:
    made = [
        (MemoryMapping.anonymous(PAGE, prot=prot), "s"),
        (MemoryMapping.anonymous(PAGE, prot=prot, sharing=Sharing.PRIVATE), "p"),
        (MemoryMapping.new_protection(PAGE, None, prot), "s"),
        (MemoryMapping.new_protection_fixed(free_address(ROOM), PAGE, prot), "s"),
    ]
    for m, shared in made:
        assert perms(m.as_ptr(), PAGE) == [letters + shared]
        assert m.prot == prot
        assert m.sharing is (Sharing.SHARED if shared == "s" else Sharing.PRIVATE)
        m.close()


@every_protection
@over(WITH_PROTECTION)
def test_constructor_file_maps_exactly_the_protection(
    make: ByDescriptor, prot: Protection, letters: str, known_file: KnownFile
) -> None:
    if prot.executable and os.statvfs(known_file.path).f_flag & os.ST_NOEXEC:
        pytest.skip("the temporary directory is mounted noexec")
    with opened(known_file.path) as fd, make(fd, PAGE, 0, prot) as m:
        assert perms(m.as_ptr(), PAGE) == [letters + "s"]
        assert (m.prot, m.sharing) == (prot, Sharing.SHARED)


@over(WITH_DESCRIPTOR)
def test_constructor_file_object_counts_as_its_descriptor(
    make: ByDescriptor, known_file: KnownFile
) -> None:
    with known_file.path.open("r+b") as file:
        with make(file, PAGE, 0, RW) as m:
            m[0] = 7
        assert not file.closed
        assert file.tell() == 0
        assert file.read(1) == b"\7"


# Alignment


@over(WITH_ALIGNMENT)
@pytest.mark.parametrize("align", [1, 16, PAGE, 16 * PAGE, 2 * MIB, GIB])
@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 7])
def test_align_any_size_maps_the_pages_and_nothing_beside_them(
    make: Callable[[Path, Any, Any], MemoryMapping], size: int, align: int, known_file: KnownFile
) -> None:
    before = mapped_ranges()
    m = make(known_file.path, size, align)
    address = m.as_ptr()
    assert address % align == 0
    assert newly_mapped(before) == [(address, address + whole_pages(size))]
    assert m.size == size
    m.close()
    assert newly_mapped(before) == []


def test_align_larger_than_a_page_holds_for_many_at_once() -> None:
    before = mapped_ranges()
    held = [MemoryMapping.new_protection(PAGE, 64 * PAGE, RW) for _ in range(50)]
    assert {m.as_ptr() % (64 * PAGE) for m in held} == {0}
    assert sum(end - start for start, end in newly_mapped(before)) == 50 * PAGE
    for m in held:
        m.close()
    assert newly_mapped(before) == []


@over(WITH_ALIGNMENT)
def test_align_none_is_a_page(
    make: Callable[[Path, Any, Any], MemoryMapping], known_file: KnownFile
) -> None:
    with make(known_file.path, PAGE, None) as m:
        assert m.as_ptr() % PAGE == 0


@over(WITH_ALIGNMENT)
@pytest.mark.parametrize("align", [0, 3, PAGE + 1, 3 * PAGE, -1, -PAGE, 2**64 + 1])
def test_align_not_a_power_of_two_is_refused(
    make: Callable[[Path, Any, Any], MemoryMapping], align: int, known_file: KnownFile
) -> None:
    with refused(InvalidAlignmentError, also=ValueError) as caught:
        make(known_file.path, PAGE, align)
    assert caught.value.align == align


@over(WITH_ALIGNMENT)
@pytest.mark.parametrize("align", [1.0, "4096", b"\0"])
def test_align_not_an_integer_is_refused(
    make: Callable[[Path, Any, Any], MemoryMapping], align: object, known_file: KnownFile
) -> None:
    with refused(TypeError):
        make(known_file.path, PAGE, align)


@pytest.mark.parametrize(
    ("size", "align"),
    [(2**63, 2**63), (2**64 - PAGE, MIB), (2**64 - 1, 1 << 62), (PAGE, 2**64), (PAGE, 2**70)],
)
@pytest.mark.parametrize("sharing", Sharing)
def test_align_and_size_past_the_address_space_are_refused(
    size: int, align: int, sharing: Sharing
) -> None:
    with refused(InvalidArgumentError, InvalidAlignmentError, OutOfMemoryError):
        MemoryMapping.anonymous(size, align=align, sharing=sharing)
    with refused(InvalidArgumentError, InvalidAlignmentError, OutOfMemoryError):
        MemoryMapping.new_protection(size, align, RW)


def test_align_more_than_the_address_space_is_out_of_memory() -> None:
    with refused(OutOfMemoryError, also=MemoryError) as caught:
        MemoryMapping.new_protection(PAGE, 2**62, RW)
    assert caught.value.errno == errno.ENOMEM
    assert caught.value.syscall == "mmap"


def test_align_of_a_mapping_that_fails_later_leaves_no_reservation(known_file: KnownFile) -> None:
    with opened(known_file.path, os.O_RDONLY) as fd, refused(AccessDeniedError):
        MemoryMapping.from_fd_offset_protection_populate(fd, PAGE, 0, 2 * MIB, RW, False)


# Size


@over(EVERY)
@pytest.mark.parametrize("size", [0, -1, -PAGE, -(2**64)])
def test_size_zero_or_negative_is_refused(make: ByPath, size: int, known_file: KnownFile) -> None:
    with refused(InvalidArgumentError, also=ValueError) as caught:
        make(known_file.path, size)
    assert "size" in caught.value.message
    assert caught.value.message in str(caught.value)


@over(EVERY)
@pytest.mark.parametrize("size", [2**64, 2**64 + PAGE, 2**100])
def test_size_past_64_bits_is_refused(make: ByPath, size: int, known_file: KnownFile) -> None:
    with refused(InvalidArgumentError, PastEndOfFileError, also=ValueError):
        make(known_file.path, size)


@over(ANONYMOUS)
@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 2**64 - PAGE, 2**64 - 1])
def test_size_more_than_the_address_space_is_refused(
    make: Callable[[Any], MemoryMapping], size: int
) -> None:
    with refused(OutOfMemoryError, InvalidArgumentError, InvalidAddressError):
        make(size)


@over(WITH_DESCRIPTOR)
@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 2**64 - PAGE, 2**64 - 1])
def test_size_of_a_file_more_than_the_address_space_is_refused(
    make: ByDescriptor, size: int, known_file: KnownFile
) -> None:
    kinds = (
        OutOfMemoryError,
        OffsetOverflowError,
        InvalidArgumentError,
        InvalidAddressError,
        PastEndOfFileError,
    )
    with opened(known_file.path) as fd, refused(*kinds):
        make(fd, size, 0, RW)


def test_size_more_than_the_address_space_is_out_of_memory() -> None:
    with refused(OutOfMemoryError, also=MemoryError) as caught:
        MemoryMapping.new(2**62)
    assert caught.value.errno == errno.ENOMEM
    assert caught.value.syscall == "mmap"


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [4096.0, "4096", b"4096", None, [4096]])
def test_size_not_an_integer_is_refused(name: str, size: object, known_file: KnownFile) -> None:
    if size is None and name.startswith("from_file"):
        with EVERY[name](known_file.path, size) as m:  # here None has a meaning
            assert m.size == len(known_file.content)
        return
    with refused(TypeError):
        EVERY[name](known_file.path, size)


def test_size_past_the_limit_on_address_space_is_out_of_memory(known_file: KnownFile) -> None:
    program = """
        import resource, sys
        from pathlib import Path
        from kernel_view import process_unchanged
        from mmapwrap import MemoryMapping, OutOfMemoryError, Protection, Sharing

        path = sys.argv[1]
        rw = Protection.read_write()
        sparse = open(path, "r+b")
        sparse.truncate(1 << 30)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        calls = {
            "anonymous": lambda: MemoryMapping.new(1 << 30),
            "private": lambda: MemoryMapping.anonymous(1 << 30, sharing=Sharing.PRIVATE),
            "reservation": lambda: MemoryMapping.new_protection(4096, 1 << 30, rw),
            "file": lambda: MemoryMapping.from_fd(sparse, 1 << 30),
            "path": lambda: MemoryMapping.from_file(path),
            "aligned": lambda: MemoryMapping.from_file(path, align=1 << 21),
        }
        resource.setrlimit(resource.RLIMIT_AS, (in_use + (256 << 20), hard))
        for name, call in calls.items():
            with process_unchanged():
                try:
                    call()
                except OutOfMemoryError as error:
                    assert isinstance(error, MemoryError)
                    assert (error.errno, error.syscall) == (12, "mmap"), error
                else:
                    raise SystemExit(f"{name}: mapped more than the limit")
            MemoryMapping.new(1 << 20).close()
        print("done")
    """
    assert child(program, known_file.path).succeeded() == "done\n"


# File offsets

SOME_OFFSETS = [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 77, 15 * PAGE, 16 * PAGE - 1]


@pytest.mark.parametrize("offset", SOME_OFFSETS)
@pytest.mark.parametrize("size", [1, 100, PAGE, PAGE + 1, 3 * PAGE - 1])
@pytest.mark.parametrize("name", WITH_OFFSET)
def test_offset_any_maps_the_bytes_from_there(
    name: str, offset: int, size: int, known_file: KnownFile
) -> None:
    size = min(size, len(known_file.content) - offset)
    before = mapped_ranges()
    with opened(known_file.path) as fd:
        m = WITH_OFFSET[name](fd, size, offset, RW)
    assert bytes(m.view()) == known_file.content[offset : offset + size]
    assert m.size == size
    assert m.file_offset == offset
    assert m.as_ptr() % PAGE == offset % PAGE
    start = m.as_ptr() - offset % PAGE
    end = start + whole_pages(offset % PAGE + size)
    assert newly_mapped(before) == [(start, end)]
    assert "dd" in vm_flags(start, end - start)
    m.close()
    assert newly_mapped(before) == []


@pytest.mark.parametrize("offset", [PAGE - 3, PAGE, 5 * PAGE + 1])
@pytest.mark.parametrize("sharing", Sharing)
def test_offset_any_writes_only_the_bytes_asked_for(
    offset: int, sharing: Sharing, known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(known_file.path, 6, offset=offset, sharing=sharing) as m:
        m[:] = b"\0\0\0\0\0\0"
        assert bytes(m.view()) == bytes(6)
    expected = bytearray(known_file.content)
    if sharing is Sharing.SHARED:
        expected[offset : offset + 6] = bytes(6)
    assert known_file.path.read_bytes() == expected


def test_offset_not_on_a_page_with_a_fixed_address_on_one_is_refused(
    known_file: KnownFile,
) -> None:
    address = free_address(ROOM)
    with (
        opened(known_file.path) as fd,
        refused(NotPageAlignedError, InvalidArgumentError, InvalidOffsetError, also=ValueError),
    ):
        MemoryMapping.from_descriptor_offset_protection_fixed(address, fd, 10, 1, RW)


@over(WITH_OFFSET)
@pytest.mark.parametrize("offset", [-1, -PAGE, 2**63, 2**63 + PAGE, 2**64, 2**64 + PAGE, -(2**70)])
def test_offset_negative_or_past_off_t_is_refused(
    make: ByDescriptor, offset: int, known_file: KnownFile
) -> None:
    with (
        opened(known_file.path) as fd,
        refused(InvalidOffsetError, also=ValueError) as caught,
    ):
        make(fd, PAGE, offset, RW)
    assert caught.value.offset == offset


@pytest.mark.parametrize("name", WITH_OFFSET)
def test_offset_and_size_past_off_t_are_refused(name: str, known_file: KnownFile) -> None:
    kinds = (PastEndOfFileError,) if name == "from_file" else (OffsetOverflowError,)
    with opened(known_file.path) as fd, refused(*kinds) as caught:
        WITH_OFFSET[name](fd, 2 * PAGE, 2**63 - PAGE, RW)
    if isinstance(caught.value, OffsetOverflowError):
        assert isinstance(caught.value, OverflowError)
        assert caught.value.errno == errno.EOVERFLOW


@over(WITH_OFFSET)
@pytest.mark.parametrize("offset", [0.0, "0", None, b"\0"])
def test_offset_not_an_integer_is_refused(
    make: ByDescriptor, offset: object, known_file: KnownFile
) -> None:
    with opened(known_file.path) as fd, refused(TypeError):
        make(fd, PAGE, offset, RW)


@over(WITH_OFFSET)
def test_offset_by_index_method_is_taken(make: ByDescriptor, known_file: KnownFile) -> None:
    with opened(known_file.path) as fd, make(fd, PAGE, Index(PAGE), RW) as m:
        assert m.file_offset == PAGE
        assert type(m.file_offset) is int
        assert bytes(m.view()) == known_file.content[PAGE : 2 * PAGE]


# Descriptors


@over(WITH_DESCRIPTOR)
def test_descriptor_closed_is_refused(make: ByDescriptor, known_file: KnownFile) -> None:
    with opened(known_file.path) as fd:
        pass
    with refused(BadDescriptorError, also=OSError) as caught:
        make(fd, PAGE, 0, RW)
    assert caught.value.errno == errno.EBADF
    assert caught.value.syscall


@over(WITH_DESCRIPTOR)
def test_descriptor_negative_is_refused(make: ByDescriptor) -> None:
    # -1 with MAP_ANONYMOUS would be memory: it must not become that.
    with refused(BadDescriptorError, also=OSError) as caught:
        make(-1, PAGE, 0, RW)
    assert caught.value.errno == errno.EBADF


@over(WITH_DESCRIPTOR)
@pytest.mark.parametrize("fd", [2**31, 2**32, 2**64, -(2**31) - 1, -(2**64)])
def test_descriptor_out_of_range_is_refused(make: ByDescriptor, fd: int) -> None:
    # 2**32 cut to an int would be standard input.
    with refused(BadDescriptorError, InvalidArgumentError):
        make(fd, PAGE, 0, RW)


@over(WITH_DESCRIPTOR)
def test_descriptor_of_a_closed_file_object_is_the_files_own_error(
    make: ByDescriptor, known_file: KnownFile
) -> None:
    file = known_file.path.open("r+b")
    file.close()
    with process_unchanged(), pytest.raises(ValueError, match="closed file") as caught:
        make(file, PAGE, 0, RW)
    assert not isinstance(caught.value, MmapError)


@pytest.mark.parametrize("name", WITH_DESCRIPTOR)
@pytest.mark.parametrize("fd", [0.0, "0", None, object(), []])
def test_descriptor_of_a_wrong_type_is_refused(name: str, fd: object) -> None:
    if name == "from_file" and isinstance(fd, str):
        with refused(NoSuchFileError):  # here a string is a path
            WITH_DESCRIPTOR[name](fd, PAGE, 0, RW)
        return
    with refused(TypeError):
        WITH_DESCRIPTOR[name](fd, PAGE, 0, RW)


@over(WITH_DESCRIPTOR)
def test_descriptor_of_a_directory_is_refused(make: ByDescriptor, disk_path: Path) -> None:
    # Asked for write access the kernel finds the descriptor read-only before it sees a directory.
    with opened(disk_path, os.O_RDONLY) as fd, refused(IsDirectoryError, also=IsADirectoryError):
        make(fd, PAGE, 0, READ)


@over(WITH_DESCRIPTOR)
@pytest.mark.parametrize("end", [0, 1], ids=["read_end", "write_end"])
def test_descriptor_of_a_pipe_is_refused(make: ByDescriptor, end: int) -> None:
    pipe = os.pipe()
    try:
        with refused(NotMappableError, also=OSError):
            make(pipe[end], PAGE, 0, READ)
    finally:
        os.close(pipe[0])
        os.close(pipe[1])


@over(WITH_PROTECTION)
def test_descriptor_of_a_socket_is_not_mappable(make: ByDescriptor) -> None:
    left, right = socket.socketpair()
    with left, right, refused(NotMappableError) as caught:
        make(left, PAGE, 0, READ)
    assert caught.value.errno == errno.ENODEV


@over(WITH_DESCRIPTOR)
@pytest.mark.parametrize("prot", [READ, Protection.write(), RW], ids=["r", "w", "rw"])
def test_descriptor_write_only_is_refused(
    make: ByDescriptor, prot: Protection, known_file: KnownFile
) -> None:
    with (
        opened(known_file.path, os.O_WRONLY) as fd,
        refused(AccessDeniedError, also=PermissionError) as caught,
    ):
        make(fd, PAGE, 0, prot)
    assert caught.value.errno == errno.EACCES


@over(WITH_DESCRIPTOR)
def test_descriptor_read_only_with_write_protection_is_refused(
    make: ByDescriptor, known_file: KnownFile
) -> None:
    with (
        opened(known_file.path, os.O_RDONLY) as fd,
        refused(AccessDeniedError, also=PermissionError) as caught,
    ):
        make(fd, PAGE, 0, RW)
    assert caught.value.errno == errno.EACCES
    assert caught.value.syscall == "mmap"


@over(WITH_PROTECTION)
def test_descriptor_read_only_with_read_protection_is_mapped(
    make: ByDescriptor, known_file: KnownFile
) -> None:
    with opened(known_file.path, os.O_RDONLY) as fd, make(fd, PAGE, 0, READ) as m:
        assert bytes(m.view()) == known_file.content[:PAGE]


@contextmanager
def sealed_memfd(content: bytes) -> Generator[int]:
    """A memfd that nobody can write any more."""
    fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        yield fd
    finally:
        os.close(fd)


@over(WITH_DESCRIPTOR)
def test_descriptor_sealed_against_writing_refuses_read_write(make: ByDescriptor) -> None:
    with (
        sealed_memfd(known_bytes(PAGE)) as fd,
        refused(OperationNotPermittedError, also=PermissionError) as caught,
    ):
        make(fd, PAGE, 0, RW)
    assert caught.value.errno == errno.EPERM
    assert caught.value.syscall == "mmap"


def test_descriptor_sealed_against_writing_refuses_the_default_of_from_file() -> None:
    # The descriptor itself is writable, so the default is read/write: never a private copy.
    with sealed_memfd(known_bytes(PAGE)) as fd, refused(OperationNotPermittedError):
        MemoryMapping.from_file(fd)


@over(WITH_PROTECTION)
def test_descriptor_sealed_against_writing_maps_read_only(make: ByDescriptor) -> None:
    with sealed_memfd(known_bytes(PAGE)) as fd:
        try:
            mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ).close()
        except PermissionError:
            pytest.skip("this kernel refuses every shared mapping of a write-sealed descriptor")
        with make(fd, PAGE, 0, READ) as m:
            assert bytes(m.view()) == known_bytes(PAGE)
            assert perms(m.as_ptr(), PAGE) == ["r--s"]


# Populate


@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize("populate", [False, True])
def test_anonymous_populate_brings_the_pages_in(sharing: Sharing, populate: bool) -> None:
    size = 64 * PAGE
    with MemoryMapping.anonymous(size, sharing=sharing, populate=populate) as m:
        assert amount("Rss", m.as_ptr(), size) == (size if populate else 0)


@pytest.mark.parametrize("populate", [False, True])
@pytest.mark.parametrize("align", [None, 2 * MIB])
def test_file_populate_brings_the_pages_in(
    populate: bool, align: int | None, known_file: KnownFile
) -> None:
    size = len(known_file.content)
    with (
        opened(known_file.path) as fd,
        MemoryMapping.from_fd_offset_protection_populate(fd, size, 0, align, RW, populate) as m,
    ):
        assert amount("Rss", m.as_ptr(), size) == (size if populate else 0)
    with MemoryMapping.from_file(known_file.path, populate=populate, align=align) as m:
        assert amount("Rss", m.as_ptr(), size) == (size if populate else 0)


@pytest.mark.parametrize("align", [None, 2 * MIB])
def test_file_populate_of_pages_that_the_file_lacks_is_refused(
    align: int | None, known_file: KnownFile
) -> None:
    with opened(known_file.path) as fd:
        for prot in (READ, RW, Protection.write()):
            for offset in (0, 5):
                with refused(MappingFaultError, also=OSError) as caught:
                    MemoryMapping.from_fd_offset_protection_populate(
                        fd, 20 * PAGE, offset, align, prot, True
                    )
                # As the method says it of the same mapping.
                assert (caught.value.offset, caught.value.pages) == (16 * PAGE - offset, 1)
                assert f"the file has {16 * PAGE} bytes now" in str(caught.value)


# Names of memory


@pytest.mark.parametrize("sharing", Sharing)
def test_anonymous_name_is_the_kernels_name_or_unsupported(sharing: Sharing) -> None:
    with MemoryMapping.anonymous(PAGE, sharing=sharing) as m:
        supported = kernel_names_memory(m.as_ptr(), PAGE)
    # Read-only, so that what is left of it cannot pass for the interpreter's heap.
    if supported:
        with MemoryMapping.anonymous(PAGE, name="guest ram", sharing=sharing, prot=READ) as m:
            (vma,) = vmas_in(m.as_ptr(), PAGE)
            assert "guest ram" in vma.path
    else:
        with refused(UnsupportedByKernelError, also=NotImplementedError) as caught:
            MemoryMapping.anonymous(PAGE, name="guest ram", sharing=sharing, prot=READ)
        assert caught.value.feature
        assert caught.value.feature in str(caught.value)


@pytest.mark.parametrize("name", [5, b"ram", 1.5])
def test_anonymous_name_not_a_string_is_refused(name: Any) -> None:
    with refused(TypeError):
        MemoryMapping.anonymous(PAGE, name=name)


@pytest.mark.parametrize("name", ["nul\0", "x" * 80, "[bracket]", "tab\t"])
def test_anonymous_name_that_the_kernel_takes_no_part_of_is_refused(name: str) -> None:
    with refused(InvalidArgumentError, InvalidSystemCallError, UnsupportedByKernelError):
        MemoryMapping.anonymous(PAGE, name=name)


# Fixed addresses

AT_AN_ADDRESS: dict[str, Callable[[Any, int, Any], MemoryMapping]] = {
    "new_protection_fixed": lambda address, fd, size: MemoryMapping.new_protection_fixed(
        address, size, RW
    ),
    "from_descriptor_offset_protection_fixed": lambda address, fd, size: (
        MemoryMapping.from_descriptor_offset_protection_fixed(address, fd, size, 0, RW)
    ),
}
AtAddress = Callable[[Any, int, Any], MemoryMapping]


@over(AT_AN_ADDRESS)
def test_fixed_free_address_is_mapped_there(make: AtAddress, known_file: KnownFile) -> None:
    address = free_address(ROOM)
    with opened(known_file.path) as fd:
        for _ in range(2):  # the second time shows that the first one left it free
            with make(address, fd, 3 * PAGE + 5) as m:
                assert m.as_ptr() == address
                assert m.size == 3 * PAGE + 5
                (vma,) = vmas_in(address, 3 * PAGE + 5)
                assert (vma.start, vma.end) == (address, address + 4 * PAGE)
            assert not is_mapped(address, 4 * PAGE)


@over(AT_AN_ADDRESS)
def test_fixed_address_in_use_is_refused_and_keeps_what_is_there(
    make: AtAddress, known_file: KnownFile
) -> None:
    with (
        opened(known_file.path) as fd,
        MemoryMapping.new_protection_fixed(free_address(ROOM), 3 * PAGE, RW) as there,
    ):
        there[:] = known_bytes(3 * PAGE)
        # The whole, its first page, its last, and ranges that only begin or end in it.
        for first, count in [(0, 3), (0, 1), (2, 1), (-1, 2), (2, 4), (-1, 6)]:
            with refused(AddressInUseError, also=FileExistsError) as caught:
                make(there.as_ptr() + first * PAGE, fd, count * PAGE)
            assert caught.value.errno == errno.EEXIST
            assert caught.value.syscall == "mmap"
            assert bytes(there.view()) == known_bytes(3 * PAGE)
        # And right beside it there is room.
        with make(there.as_ptr() + 3 * PAGE, fd, PAGE), make(there.as_ptr() - PAGE, fd, PAGE):
            pass
        assert bytes(there.view()) == known_bytes(3 * PAGE)


@over(AT_AN_ADDRESS)
def test_fixed_address_not_on_a_page_is_refused(make: AtAddress, known_file: KnownFile) -> None:
    address = free_address(ROOM) + 1
    with (
        opened(known_file.path) as fd,
        refused(NotPageAlignedError, also=ValueError) as caught,
    ):
        make(address, fd, PAGE)
    assert (caught.value.value, caught.value.page_size) == (address, PAGE)


@over(AT_AN_ADDRESS)
@pytest.mark.parametrize("address", [-PAGE, 2**64, 2**64 + PAGE, 2**100])
def test_fixed_address_that_cannot_be_is_refused(
    make: AtAddress, address: int, known_file: KnownFile
) -> None:
    with opened(known_file.path) as fd, refused(InvalidAddressError, also=ValueError):
        make(address, fd, PAGE)


@over(AT_AN_ADDRESS)
@pytest.mark.parametrize(
    ("address", "size"), [(2**64 - PAGE, 2 * PAGE), (2**63, 2**63 + PAGE), (1 << 40, 2**64 - 1)]
)
def test_fixed_range_past_64_bits_is_refused(
    make: AtAddress, address: int, size: int, known_file: KnownFile
) -> None:
    with opened(known_file.path) as fd, refused(InvalidAddressError, also=ValueError):
        make(address, fd, size)


@over(AT_AN_ADDRESS)
def test_fixed_address_outside_the_address_space_is_refused(
    make: AtAddress, known_file: KnownFile
) -> None:
    with opened(known_file.path) as fd, refused(OutOfMemoryError, InvalidAddressError):
        make(2**63, fd, PAGE)


@over(AT_AN_ADDRESS)
def test_fixed_address_zero_is_refused(make: AtAddress, known_file: KnownFile) -> None:
    # It must not come to mean "anywhere".
    with opened(known_file.path) as fd, refused(InvalidAddressError, OperationNotPermittedError):
        make(0, fd, PAGE)


@over(AT_AN_ADDRESS)
@pytest.mark.parametrize("address", [65536.0, "65536", None])
def test_fixed_address_not_an_integer_is_refused(
    make: AtAddress, address: object, known_file: KnownFile
) -> None:
    with opened(known_file.path) as fd, refused(TypeError):
        make(address, fd, PAGE)


# from_file


@pytest.mark.parametrize("form", [str, Path])
def test_from_file_path_without_size_maps_all_of_it(
    form: Callable[[Path], Any], known_file: KnownFile
) -> None:
    with MemoryMapping.from_file(form(known_file.path)) as m:
        assert bytes(m.view()) == known_file.content
        assert m.prot == RW


@pytest.mark.parametrize("offset", SOME_OFFSETS)
def test_from_file_without_size_maps_the_rest(offset: int, known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, offset=offset) as m:
        assert m.size == len(known_file.content) - offset
        assert bytes(m.view()) == known_file.content[offset:]


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE + 1, 2 * PAGE + 1])
def test_from_file_of_any_size_maps_all_of_it(size: int, disk_path: Path) -> None:
    path = disk_path / "short"
    path.write_bytes(known_bytes(size))
    with MemoryMapping.from_file(path) as m:
        assert m.size == size
        assert bytes(m.view()) == known_bytes(size)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("rb", READ), ("r+b", RW), ("rb+", RW), ("a+b", RW), ("r", READ), ("r+", RW)],
)
def test_from_file_of_a_file_object_allows_what_it_allows(
    mode: str, expected: Protection, known_file: KnownFile
) -> None:
    with known_file.path.open(mode) as file, MemoryMapping.from_file(file) as m:
        assert m.prot == expected
        assert perms(m.as_ptr(), 1) == ["rw-s" if expected == RW else "r--s"]
        assert bytes(m.view()) == known_file.content


@pytest.mark.parametrize(("flags", "expected"), [(os.O_RDONLY, READ), (os.O_RDWR, RW)])
def test_from_file_of_a_descriptor_allows_what_it_allows(
    flags: int, expected: Protection, known_file: KnownFile
) -> None:
    with opened(known_file.path, flags) as fd, MemoryMapping.from_file(fd) as m:
        assert m.prot == expected
        assert bytes(m.view()) == known_file.content


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_from_file_of_a_descriptor_leaves_it_open_and_its_position(
    flags: int, known_file: KnownFile
) -> None:
    with opened(known_file.path, flags) as fd:
        os.lseek(fd, 100, os.SEEK_SET)
        MemoryMapping.from_file(fd).close()
        assert os.lseek(fd, 0, os.SEEK_CUR) == 100


def test_from_file_explicit_protection_is_taken(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, prot=READ) as m:
        assert m.prot == READ
        assert perms(m.as_ptr(), 1) == ["r--s"]
    with known_file.path.open("r+b") as file, MemoryMapping.from_file(file, prot=READ) as m:
        assert m.prot == READ


def test_from_file_private_is_copy_on_write(known_file: KnownFile) -> None:
    with MemoryMapping.from_file(known_file.path, sharing=Sharing.PRIVATE) as m:
        assert m.sharing is Sharing.PRIVATE
        assert perms(m.as_ptr(), 1) == ["rw-p"]
        m[:4] = b"\0\0\0\0"
        assert m[:5] == b"\0\0\0\0" + known_file.content[4:5]
    assert known_file.path.read_bytes() == known_file.content


def test_from_file_private_writable_of_a_read_only_descriptor_is_mapped(
    known_file: KnownFile,
) -> None:
    with opened(known_file.path, os.O_RDONLY) as fd:
        m = MemoryMapping.from_file(fd, prot=RW, sharing=Sharing.PRIVATE)
    with m:
        m[0] = 0
        assert m[0] == 0
    assert known_file.path.read_bytes() == known_file.content


def test_from_file_unwritable_path_is_mapped_to_read_or_privately(known_file: KnownFile) -> None:
    program = """
        import os, sys
        from kernel_view import become_unprivileged, process_unchanged
        from mmapwrap import AccessDeniedError, MemoryMapping, Protection, Sharing

        path = sys.argv[1]
        os.chdir(os.path.dirname(path))
        path = os.path.basename(path)
        os.chmod(".", 0o755)
        os.chmod(path, 0o444)
        open("secret", "wb").write(b"x")
        os.chmod("secret", 0)
        MemoryMapping.from_file(path, prot=Protection.read()).close()
        become_unprivileged()
        with MemoryMapping.from_file(path, prot=Protection.read()) as m:
            print(m[0])
        with MemoryMapping.from_file(path, sharing=Sharing.PRIVATE) as m:
            m[0] = 9
            print(m[0])
        for name in (path, "secret"):
            with process_unchanged():
                try:
                    MemoryMapping.from_file(name)
                except AccessDeniedError as error:
                    assert isinstance(error, PermissionError)
                    print(error.errno, error.filename)
    """
    if any(parent.stat().st_mode & 0o001 == 0 for parent in known_file.path.parents[1:]):
        pytest.skip("another user cannot reach the temporary directory")
    assert child(program, known_file.path).succeeded() == "1\n9\n13 known\n13 secret\n"


def test_from_file_path_that_does_not_exist_is_refused(disk_path: Path) -> None:
    path = disk_path / "missing"
    with refused(NoSuchFileError, also=FileNotFoundError) as caught:
        MemoryMapping.from_file(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.syscall in {"open", "openat"}
    assert caught.value.filename == str(path)
    assert str(path) in str(caught.value)


def test_from_file_path_through_a_file_is_refused(known_file: KnownFile) -> None:
    with refused(NotDirectoryError, also=NotADirectoryError) as caught:
        MemoryMapping.from_file(known_file.path / "below")
    assert caught.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("path", ["a\0b", b"a\0b", Path("a\0b"), "\ud800"])
def test_from_file_path_that_no_file_can_have_is_refused(path: str | bytes | Path) -> None:
    with refused(InvalidArgumentError, also=ValueError) as caught:
        MemoryMapping.from_file(path)
    assert repr(os.fspath(path)) in str(caught.value)


def test_from_file_path_is_audited_as_that_of_os_open(known_file: KnownFile) -> None:
    program = """
        import os, sys
        from mmapwrap import MemoryMapping

        def hook(event, arguments):
            if event == "open" and arguments[0] == sys.argv[1]:
                opened.append(arguments)

        opened = []
        sys.addaudithook(hook)
        MemoryMapping.from_file(sys.argv[1])
        os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)
        print(len(opened), opened[0] == opened[1])
    """
    assert child(program, known_file.path).succeeded().split() == ["2", "True"]


@pytest.mark.parametrize("prot", [None, READ, RW])
def test_from_file_directory_is_refused(prot: Protection | None, disk_path: Path) -> None:
    with refused(IsDirectoryError, NotMappableError, also=OSError):
        if prot is None:
            MemoryMapping.from_file(disk_path)
        else:
            MemoryMapping.from_file(disk_path, prot=prot)


def test_from_file_fifo_is_refused_and_does_not_wait_for_a_writer(disk_path: Path) -> None:
    program = """
        import os, sys
        from kernel_view import process_unchanged
        from mmapwrap import MemoryMapping, MmapError, NotMappableError, Protection

        os.mkfifo(sys.argv[1])
        for size in (4096, None):
            for prot in (Protection.read(), Protection.read_write()):
                with process_unchanged():
                    try:
                        MemoryMapping.from_file(sys.argv[1], size, prot=prot)
                    except NotMappableError:
                        print("refused")
    """
    assert child(program, disk_path / "fifo", timeout=30).succeeded() == "refused\n" * 4


def test_from_file_device_that_cannot_be_mapped_is_refused() -> None:
    with refused(NotMappableError, PastEndOfFileError):
        MemoryMapping.from_file("/dev/null", PAGE)


@pytest.mark.parametrize("as_object", [False, True])
def test_from_file_empty_without_size_is_refused(as_object: bool, disk_path: Path) -> None:
    path = disk_path / "empty"
    path.touch()
    with path.open("r+b") as file:
        with refused(InvalidArgumentError, PastEndOfFileError, also=ValueError) as caught:
            MemoryMapping.from_file(file if as_object else path)
        assert str(caught.value)


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (0, 16 * PAGE + 1),
        (1, 16 * PAGE),
        (15 * PAGE, PAGE + 1),
        (16 * PAGE, 1),
        (16 * PAGE - 1, 2),
        (17 * PAGE, 1),
        (2**62, PAGE),
        (0, 2**62),
    ],
)
@pytest.mark.parametrize("as_object", [False, True])
def test_from_file_past_its_end_is_refused(
    offset: int, size: int, as_object: bool, known_file: KnownFile
) -> None:
    with (
        known_file.path.open("r+b") as file,
        refused(PastEndOfFileError, also=ValueError) as caught,
    ):
        MemoryMapping.from_file(file if as_object else known_file.path, size, offset=offset)
    error = caught.value
    assert (error.offset, error.count, error.file_size) == (offset, size, 16 * PAGE)


@pytest.mark.parametrize("offset", [16 * PAGE, 16 * PAGE + 1, 2**62])
def test_from_file_offset_at_or_past_its_end_without_size_is_refused(
    offset: int, known_file: KnownFile
) -> None:
    with refused(PastEndOfFileError, InvalidArgumentError, also=ValueError) as caught:
        MemoryMapping.from_file(known_file.path, offset=offset)
    if isinstance(caught.value, PastEndOfFileError):
        assert (caught.value.offset, caught.value.file_size) == (offset, 16 * PAGE)
    else:
        assert offset == 16 * PAGE


def test_from_file_past_its_end_leaves_a_given_descriptor_open(known_file: KnownFile) -> None:
    with opened(known_file.path) as fd:
        with refused(PastEndOfFileError):
            MemoryMapping.from_file(fd, 17 * PAGE)
        assert os.fstat(fd).st_size == 16 * PAGE


@pytest.mark.parametrize("file", [1.5, None, object(), ["path"]])
def test_from_file_not_a_file_is_refused(file: Any) -> None:
    with refused(TypeError):
        MemoryMapping.from_file(file)


@pytest.mark.parametrize("wrong", [3, "rw", object()])
def test_constructor_protection_or_sharing_of_a_wrong_type_is_refused(
    wrong: Any, known_file: KnownFile
) -> None:
    with refused(TypeError):
        MemoryMapping.anonymous(PAGE, prot=wrong)
    with refused(TypeError):
        MemoryMapping.anonymous(PAGE, sharing=wrong)
    with refused(TypeError):
        MemoryMapping.new_protection(PAGE, None, wrong)
    with refused(TypeError):
        MemoryMapping.new_protection_fixed(free_address(ROOM), PAGE, wrong)
    with refused(TypeError):
        MemoryMapping.from_file(known_file.path, prot=wrong)
    with refused(TypeError):
        MemoryMapping.from_file(known_file.path, sharing=wrong)
    with opened(known_file.path) as fd:
        for make in WITH_PROTECTION.values():
            with refused(TypeError):
                make(fd, PAGE, 0, wrong)


@pytest.mark.parametrize("sharing", Sharing)
def test_populate_of_what_can_be_neither_read_nor_written_is_refused(sharing: Sharing) -> None:
    for prot in (Protection.none(), Protection(executable=True)):
        with refused(ProtectionError) as caught:
            MemoryMapping.anonymous(PAGE, prot=prot, sharing=sharing, populate=True)
        assert (caught.value.required, caught.value.actual) == (READ, prot)


def test_alignment_past_the_address_space_says_so() -> None:
    with refused(InvalidArgumentError) as caught:
        MemoryMapping.anonymous(PAGE, align=2**64)
    assert "past 2**64" in str(caught.value)


def test_from_file_without_a_free_descriptor_is_too_many_files(known_file: KnownFile) -> None:
    program = """
        import os, resource, sys
        from kernel_view import mapped_ranges, newly_mapped, open_descriptors
        from mmapwrap import MemoryMapping, TooManyFilesError

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors, ranges = open_descriptors(), mapped_ranges()
        held = os.open(sys.argv[1], os.O_RDWR)
        resource.setrlimit(resource.RLIMIT_NOFILE, (held + 1, hard))
        assert set(range(held)) <= set(descriptors), "a free descriptor below the limit"
        try:
            MemoryMapping.from_file(sys.argv[1])
        except TooManyFilesError as error:
            caught = error
        with MemoryMapping.from_file(held) as m:  # what is open already needs no other
            print(m[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(held)
        assert (open_descriptors(), newly_mapped(ranges)) == (descriptors, [])
        print(caught.errno, caught.syscall, caught.filename == sys.argv[1])
    """
    output = child(program, known_file.path).succeeded()
    assert output in {"1\n24 open True\n", "1\n24 openat True\n"}


def test_descriptor_may_be_any_integer() -> None:
    with SharedMemory.new("integers", PAGE) as memory:
        with MemoryMapping.from_fd(np.int64(memory.fileno()), PAGE) as mapping:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            mapping[0] = 1
        with memory.map() as mapping:
            assert mapping[0] == 1
    with pytest.raises(BadDescriptorError):
        MemoryMapping.from_fd(-1, PAGE)


def test_device_needs_a_size() -> None:
    with pytest.raises(InvalidArgumentError, match="size is needed"):
        MemoryMapping.from_file("/dev/zero")


def map_a_terminal() -> None:
    os.setsid()
    _, terminal = os.openpty()
    name = os.ttyname(terminal)
    calls: list[tuple[type[MmapError], Callable[[], object]]] = [
        (NotMappableError, lambda: MemoryMapping.from_file(name)),
        (NotMappableError, lambda: MemoryMapping.from_file(name, PAGE)),
        (NotMappableError, lambda: MemoryMapping.from_file(name, prot=READ)),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()
        with pytest.raises(OSError, match="No such device") as caught:
            os.open("/dev/tty", os.O_RDWR)
        assert caught.value.errno == errno.ENXIO


def test_from_file_of_a_terminal_takes_no_controlling_terminal() -> None:
    in_process(map_a_terminal).succeeded()
