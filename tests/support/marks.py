"""Marks that tests of several files carry."""

import pytest

# For tests that count the pages of a file in the page cache: the kernel may take clean ones away at
# any moment, and where it reclaims ahead of need (DAMON) it does.
kernel_may_take_pages = pytest.mark.flaky(reruns=4, only_rerun=["AssertionError"])
