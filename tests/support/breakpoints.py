"""Accesses to memory, counted by the processor: a hardware breakpoint of perf_event_open(2)."""

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from functools import cache
from typing import Final

import pytest
from libc import libc

_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
_PERF_TYPE_BREAKPOINT: Final = 5
_HW_BREAKPOINT_RW: Final = 3
_EXCLUDE_KERNEL_AND_HYPERVISOR: Final = 1 << 5 | 1 << 6
_ATTRIBUTES: Final = struct.Struct("=II32xQIIQQ56x")  # those of `struct perf_event_attr` in use


def _open_counter(address: int, size: int) -> int:
    """Return a descriptor that counts this thread's accesses to 1, 2, 4 or 8 bytes."""
    attributes = ctypes.create_string_buffer(
        _ATTRIBUTES.pack(
            _PERF_TYPE_BREAKPOINT,
            _ATTRIBUTES.size,
            _EXCLUDE_KERNEL_AND_HYPERVISOR,
            0,
            _HW_BREAKPOINT_RW,
            address,
            size,
        )
    )
    fd: int = libc.syscall(_PERF_EVENT_OPEN[platform.machine()], attributes, 0, -1, -1, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    return fd


def accesses(address: int, size: int, call: Callable[[], object]) -> int:
    """Count the accesses to any of `size` bytes at an address, which a call makes in user mode."""
    fd = _open_counter(address, size)
    try:
        call()
        return int.from_bytes(os.read(fd, 8), "little")
    finally:
        os.close(fd)


@cache
def _are_available() -> bool:
    if platform.machine() not in _PERF_EVENT_OPEN:
        return False
    watched = ctypes.c_uint64(0)
    try:
        return accesses(ctypes.addressof(watched), 8, lambda: watched.value) > 0
    except OSError:
        return False


needs_breakpoints = pytest.mark.skipif(
    not _are_available(), reason="there are no hardware breakpoints: a machine or kernel without"
)
