"""`Protection`: what it allows, adds up to and compares with."""

import copy
import mmap
import pickle
from itertools import product
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from mmapwrap import Protection

EVERY_PROTECTION = [
    Protection(readable=r, writable=w, executable=x) for r, w, x in product([False, True], repeat=3)
]


protections = st.sampled_from(EVERY_PROTECTION)


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


@pytest.mark.parametrize("bits", [None, 1.5, "rw"])
def test_bits_of_a_wrong_type_are_named(bits: Any) -> None:
    with pytest.raises(TypeError, match=rf"^bits must be an int, not {type(bits).__name__}$"):
        Protection.from_bits(bits)
