"""Calls that drop pages: the kernel refuses them where pages are locked."""

import errno
from collections.abc import Callable
from typing import Final

from mmapwrap._core import calls, mapped_files
from mmapwrap._core.advice import Advice, AnyAdvice, DestructiveAdvice
from mmapwrap.errors import SystemCallError

_DROPPING: Final[frozenset[AnyAdvice]] = frozenset(
    {
        Advice.COLD,
        Advice.PAGEOUT,
        DestructiveAdvice.DONTNEED,
        DestructiveAdvice.FREE,
        DestructiveAdvice.REMOVE,
        DestructiveAdvice.GUARD_INSTALL,
    }
)


def advice_of(function: Callable[..., int], argument: object) -> AnyAdvice | None:
    """Return the advice that a function of `calls.py` gives to the kernel, None for the others."""
    if function is calls.evict:
        return DestructiveAdvice.DONTNEED
    return argument if isinstance(argument, (Advice, DestructiveAdvice)) else None


def is_refused_for_a_lock(
    handle: calls.Handle, number: int, advice: AnyAdvice | None, offset: int, count: int
) -> bool:
    """Return whether a lock can be the only cause of this errno of a call on a range.

    msync with MS_INVALIDATE is EBUSY, advice that drops pages EINVAL. FREE is for private anonymous
    memory and REMOVE for shared memory, locked or not.
    """
    if number != errno.EINVAL:
        return number == errno.EBUSY
    if advice is None or advice not in _DROPPING or not advice.is_supported():
        return False
    if advice not in (DestructiveAdvice.FREE, DestructiveAdvice.REMOVE):
        return True
    start = calls.address(handle) + offset
    try:
        found = mapped_files.mappings_between(start, start + count)
    except SystemCallError:
        return False
    if advice is DestructiveAdvice.REMOVE:
        return all(each.is_shared for each in found)
    return not any(each.is_shared or each.is_file for each in found)
