"""The values: `Protection`, `Sharing`, advice, `SyncMode`, `page_size` and byte ranges."""

import copy
import enum
import mmap
import os
import pickle
import resource
from itertools import product
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_view import child, kernel_knows_advice

import mmapwrap
from mmapwrap import (
    Advice,
    ByteRange,
    DestructiveAdvice,
    InvalidRangeError,
    Protection,
    Sharing,
    SyncMode,
    page_size,
    range_end,
)

EVERY_PROTECTION = [
    Protection(readable=r, writable=w, executable=x) for r, w, x in product([False, True], repeat=3)
]
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

protections = st.sampled_from(EVERY_PROTECTION)


# Protection


def test_protection_default_allows_nothing() -> None:
    assert Protection() == Protection.none()
    assert attrs.astuple(Protection()) == (False, False, False)


@pytest.mark.parametrize(
    ("made", "access", "bits"),
    [
        (Protection.none(), (False, False, False), 0),
        (Protection.read(), (True, False, False), mmap.PROT_READ),
        (Protection.write(), (False, True, False), mmap.PROT_WRITE),
        (Protection.read_write(), (True, True, False), mmap.PROT_READ | mmap.PROT_WRITE),
        (Protection.read_execute(), (True, False, True), mmap.PROT_READ | mmap.PROT_EXEC),
        (Protection(executable=True), (False, False, True), mmap.PROT_EXEC),
    ],
)
def test_protection_constructors_allow_what_they_say(
    made: Protection, access: tuple[bool, bool, bool], bits: int
) -> None:
    assert (made.readable, made.writable, made.executable) == access
    assert made == Protection(readable=access[0], writable=access[1], executable=access[2])
    assert int(made) == bits


def test_protection_bits_are_those_of_each_access_together() -> None:
    assert len({int(each) for each in EVERY_PROTECTION}) == 8
    for each in EVERY_PROTECTION:
        bits = mmap.PROT_READ * each.readable
        bits |= mmap.PROT_WRITE * each.writable | mmap.PROT_EXEC * each.executable
        assert int(each) == bits


@given(protections)
def test_protection_set_adds_one_access_to_a_copy(prot: Protection) -> None:
    before = attrs.astuple(prot)
    assert prot.set_read() == attrs.evolve(prot, readable=True)
    assert prot.set_write() == attrs.evolve(prot, writable=True)
    assert attrs.astuple(prot) == before


@given(protections, protections)
def test_protection_union_and_allows_agree_with_the_bits(
    one: Protection, other: Protection
) -> None:
    assert int(one | other) == int(one) | int(other)
    assert (one | other).allows(one)
    assert (one | other).allows(other)
    assert one.allows(other) is (int(one) & int(other) == int(other))


@pytest.mark.parametrize("wrong", [1, "r", None])
def test_protection_union_with_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        _ = Protection.read() | wrong


@given(protections, protections)
def test_protection_is_a_value(one: Protection, other: Protection) -> None:
    same = attrs.evolve(one)
    assert same == one
    assert hash(same) == hash(one)
    assert (one == other) is (int(one) == int(other))
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.copy(one) == one


def test_protection_cannot_be_changed() -> None:
    prot = Protection.read()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        prot.writable = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert prot == Protection.read()


@pytest.mark.parametrize("other", [1, None, "rw"])
def test_protection_compares_with_protections_only(other: Any) -> None:
    with pytest.raises(TypeError):
        Protection.read().allows(other)


# Enums


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
    assert set(names.split()) <= set(Advice.__members__)


def test_advice_that_destroys_is_another_type() -> None:
    names = "DONTNEED FREE REMOVE DONTNEED_LOCKED GUARD_INSTALL GUARD_REMOVE"
    assert set(names.split()) <= set(DestructiveAdvice.__members__)
    assert not set(Advice.__members__) & set(DestructiveAdvice.__members__)
    assert not {each.value for each in Advice} & {each.value for each in DestructiveAdvice}
    assert not issubclass(Advice, DestructiveAdvice)
    assert not issubclass(DestructiveAdvice, Advice)


@pytest.mark.parametrize("advice", EVERY_ADVICE, ids=lambda advice: advice.name)
def test_advice_value_is_the_kernels(advice: Advice | DestructiveAdvice) -> None:
    expected = getattr(mmap, f"MADV_{advice.name}", NEWER_ADVICE.get(advice.name))
    if expected is None:
        pytest.skip(f"nothing else on this machine knows the number of MADV_{advice.name}")
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


# page_size


def test_page_size_is_the_systems() -> None:
    assert page_size() == resource.getpagesize() == os.sysconf("SC_PAGE_SIZE")
    assert type(page_size()) is int


# Ranges


def test_byte_range_end_is_the_first_byte_after_it() -> None:
    where = ByteRange(10, 5)
    assert (where.offset, where.count, where.end) == (10, 5, 15)
    assert ByteRange(7, 0).end == 7


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_byte_range_is_a_value(offset: int, count: int) -> None:
    where = ByteRange(offset, count)
    assert where == ByteRange(offset, count)
    assert hash(where) == hash(ByteRange(offset, count))
    assert where != ByteRange(offset, count + 1)
    assert pickle.loads(pickle.dumps(where)) == where
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        where.offset = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@given(st.integers(0, 2**64), st.integers(0, 2**64), st.integers(0, 2**64))
def test_range_end_is_the_sum_inside_and_an_error_outside(
    offset: int, count: int, size: int
) -> None:
    if offset + count <= size:
        assert range_end(offset, count, size) == offset + count
    else:
        with pytest.raises(InvalidRangeError) as caught:
            range_end(offset, count, size)
        error = caught.value
        assert (error.offset, error.count, error.region_size) == (offset, count, size)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(-1, 0), (-1, 2), (0, -1), (5, -5), (11, 0), (10, 1), (0, 11), (2**64, 0), (2**64 - 1, 2)],
)
def test_range_end_outside_or_negative_is_refused(offset: int, count: int) -> None:
    with pytest.raises(InvalidRangeError) as caught:
        range_end(offset, count, 10)
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.offset, error.count, error.region_size) == (offset, count, 10)


@pytest.mark.parametrize(("offset", "count"), [(0, 0), (0, 10), (10, 0), (3, 7)])
def test_range_end_at_the_edge_is_inside(offset: int, count: int) -> None:
    assert range_end(offset, count, 10) == offset + count


# The import


def test_values_are_public() -> None:
    names = {"Advice", "DestructiveAdvice", "Protection", "Sharing", "SyncMode", "page_size"}
    assert names <= set(mmapwrap.__all__)


def test_range_checks_stay_where_attrs_validators_are_switched_off() -> None:
    # attrs validators can be switched off for a whole process; the range check may not be one.
    program = """
        import attrs
        attrs.validators.set_disabled(True)
        from mmapwrap import ByteRange, InvalidRangeError, MemoryMapping, range_end

        m = MemoryMapping.new(4096)
        for call in (lambda: range_end(1, 10, 10), lambda: m.view(0, 4097), lambda: m.msync(-1, 1)):
            try:
                call()
            except InvalidRangeError:
                print("refused")
    """
    assert child(program).succeeded() == "refused\n" * 3
