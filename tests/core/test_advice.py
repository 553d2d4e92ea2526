"""Advice, `Sharing` and `SyncMode`: their members are the kernel's numbers."""

import enum
import mmap
import pickle

import pytest
from kernel_view import kernel_knows_advice

import mmapwrap
from mmapwrap import Advice, DestructiveAdvice, Sharing, SyncMode

EVERY_ADVICE: list[Advice | DestructiveAdvice] = [*Advice, *DestructiveAdvice]


# The numbers of all but a few old architectures; `mmap` has the older ones.
NEWER_ADVICE = {
    "WIPEONFORK": 18,
    "KEEPONFORK": 19,
    "COLD": 20,
    "PAGEOUT": 21,
    "POPULATE_READ": 22,
    "POPULATE_WRITE": 23,
    "DONTNEED_LOCKED": 24,
    "COLLAPSE": 25,
    "GUARD_INSTALL": 102,
    "GUARD_REMOVE": 103,
}


def test_sharing_values_are_the_kernels() -> None:
    assert {each.name: each.value for each in Sharing} == {
        "SHARED": mmap.MAP_SHARED,
        "PRIVATE": mmap.MAP_PRIVATE,
    }


def test_advice_has_the_harmless_names() -> None:
    names = (
        "NORMAL RANDOM SEQUENTIAL WILLNEED DONTFORK DOFORK MERGEABLE UNMERGEABLE HUGEPAGE "
        "NOHUGEPAGE DONTDUMP DODUMP WIPEONFORK KEEPONFORK COLD PAGEOUT POPULATE_READ "
        "POPULATE_WRITE COLLAPSE"
    )
    assert set(names.split()) == set(Advice.__members__)


def test_advice_that_destroys_is_another_type() -> None:
    names = "DONTNEED FREE REMOVE DONTNEED_LOCKED GUARD_INSTALL GUARD_REMOVE"
    assert set(names.split()) == set(DestructiveAdvice.__members__)
    assert not set(Advice.__members__) & set(DestructiveAdvice.__members__)
    assert not {each.value for each in Advice} & {each.value for each in DestructiveAdvice}
    assert not issubclass(Advice, DestructiveAdvice)
    assert not issubclass(DestructiveAdvice, Advice)


@pytest.mark.parametrize("advice", EVERY_ADVICE, ids=lambda advice: advice.name)
def test_advice_value_is_the_kernels(advice: Advice | DestructiveAdvice) -> None:
    expected = getattr(mmap, f"MADV_{advice.name}", NEWER_ADVICE.get(advice.name))
    assert expected is not None, f"add MADV_{advice.name} to NEWER_ADVICE"
    assert advice.value == expected


@pytest.mark.parametrize("advice", EVERY_ADVICE, ids=lambda advice: advice.name)
def test_advice_is_supported_is_what_the_kernel_says(advice: Advice | DestructiveAdvice) -> None:
    assert advice.is_supported() is kernel_knows_advice(advice.value)


def test_advice_values_are_distinct() -> None:
    assert len({each.value for each in EVERY_ADVICE}) == len(EVERY_ADVICE)
    assert len(Advice) == len(Advice.__members__)
    assert len(DestructiveAdvice) == len(DestructiveAdvice.__members__)


def test_sync_mode_values_are_the_kernels() -> None:
    ms_async, ms_sync = 1, 4
    assert {each.name: each.value for each in SyncMode} == {"SYNC": ms_sync, "ASYNC": ms_async}


@pytest.mark.parametrize("kind", [Sharing, Advice, DestructiveAdvice, SyncMode])
def test_enum_members_survive_a_pickle(kind: type[enum.Enum]) -> None:
    for member in kind:
        assert pickle.loads(pickle.dumps(member)) is member


def test_values_are_public() -> None:
    names = {"Advice", "DestructiveAdvice", "Protection", "Sharing", "SyncMode", "page_size"}
    assert names <= vars(mmapwrap).keys()
