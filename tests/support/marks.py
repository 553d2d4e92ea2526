"""Marks that tests of several files carry, and reasons that several marks give."""

import sys

import pytest

from mmapwrap import Advice, DestructiveAdvice

# For tests that count the pages of a file in the page cache: the kernel may take clean ones away at
# any moment, and where it reclaims ahead of need (DAMON) it does.
kernel_may_take_pages = pytest.mark.flaky(reruns=4, only_rerun=["AssertionError"])

# Reasons of `not_sanitized`.
LOCKS_DO_NOTHING = "AddressSanitizer makes mlock and munlock do nothing"
MEMORY_IS_PAST_THE_LIMIT = (
    "AddressSanitizer's own memory is past the limit, and it ends the process"
)
MEMORY_IS_COUNTED = "AddressSanitizer's own memory comes and goes in what is counted or measured"
MEMORY_IS_REPORTED = "AddressSanitizer reports a size that no memory holds"
PYTHON_HAS_NO_MEMORY = (
    "with AddressSanitizer Python itself has no memory left at the limit of mappings"
)
MAPS_ARE_READ = "AddressSanitizer reads /proc/self/maps at a jump, and dies where it cannot"
COPIES_ARE_REORDERED = "the memmove of AddressSanitizer copies in another order"
STACK_IS_UNKNOWN = "AddressSanitizer does not know of stacks made by makecontext"


needs_python_buffers = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before Python 3.12 C alone makes buffers"
)


def needs(advice: Advice | DestructiveAdvice) -> pytest.MarkDecorator:
    """Skip where the running kernel does not know an advice."""
    return pytest.mark.skipif(
        not advice.is_supported(), reason=f"this kernel does not know MADV_{advice.name}"
    )
