"""Guard pages: the region remembers where they are, whatever comes in between."""

import errno
from contextlib import suppress

import injection
import pytest
from injection import Argument, Rule
from kernel_view import PAGE
from marks import LOCKS_DO_NOTHING, needs
from meanwhile import pages_of
from protections import READ, RW

from mmapwrap import (
    DestructiveAdvice,
    InvalidSystemCallError,
    MemoryMapping,
    ProtectionError,
    Sharing,
)
from mmapwrap._core import changes


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_guard_pages_stay_through_a_change_of_protection() -> None:
    with MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE) as mapping:
        mapping.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, PAGE)
        mapping.protect(READ)
        with pytest.raises(ProtectionError):
            mapping[0]
        assert mapping[PAGE] == 0
        mapping.advise_destructive(DestructiveAdvice.GUARD_REMOVE, 0, PAGE)
        assert mapping[0] == 0
        with pytest.raises(ProtectionError):
            mapping[0] = 1


@needs(DestructiveAdvice.GUARD_INSTALL)
def test_guard_pages_are_remembered_through_an_interrupted_change() -> None:
    with MemoryMapping.anonymous(2 * PAGE, sharing=Sharing.PRIVATE) as mapping:
        pages = pages_of(mapping)
        mapping.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, PAGE)

        def interrupt() -> int:
            assert pages.access.ranges(0, PAGE) == [(0, PAGE, 0)]
            raise KeyboardInterrupt

        for act in (interrupt, lambda: 0):
            with suppress(KeyboardInterrupt):
                pages.exclusively(
                    changes.change_access, pages, 0, 2 * PAGE, READ.bits, act, 1 << 16
                )
            assert pages.access.ranges(0, PAGE) == [(0, PAGE, 0)]
            with pytest.raises(ProtectionError):
                mapping.view(0, PAGE)
        assert mapping[PAGE] == 0


@needs(DestructiveAdvice.GUARD_INSTALL)
@pytest.mark.not_sanitized(LOCKS_DO_NOTHING)
def test_guard_pages_that_cannot_be_installed_leave_those_that_were_there() -> None:
    with MemoryMapping.anonymous(3 * PAGE, sharing=Sharing.PRIVATE) as mapping:
        mapping.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, PAGE)
        mapping.lock(2 * PAGE, PAGE)  # no guard pages are installed in what is locked
        with pytest.raises(InvalidSystemCallError):
            mapping.advise_destructive(DestructiveAdvice.GUARD_INSTALL)
        with pytest.raises(ProtectionError):
            mapping[0]
        mapping[PAGE:] = b"\1" * (2 * PAGE)


def test_guard_pages_that_the_kernel_does_not_know_leave_the_range_usable() -> None:
    """As before Linux 6.13."""
    m = MemoryMapping.new(4 * PAGE)
    m[0] = 1
    m.protect(READ, 2 * PAGE, PAGE)
    rules = [Rule("madvise", errno.EINVAL, (Argument(2, advice),)) for advice in (102, 103)]

    def install() -> None:
        m.advise_destructive(DestructiveAdvice.GUARD_INSTALL, 0, 4 * PAGE)

    if reason := injection.why_unavailable():
        pytest.skip(reason)
    outcome = injection.attempt(install, rules)
    assert isinstance(outcome.error, InvalidSystemCallError)
    assert m[0] == 1
    assert m.view()[0] == 1
    m[PAGE] = m[3 * PAGE] = 2
    m.protect(RW)
    m[2 * PAGE] = 3
