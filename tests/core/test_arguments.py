"""Arguments: objects that lie about their type, and integers of thousands of digits."""

from collections.abc import Callable
from typing import Any

import pytest
from kernel_view import PAGE

import mmapwrap
from mmapwrap import MemoryMapping, Protection, SharedMemory


class Lying(int):
    """An integer that says it is of the library's kind."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.kind

    kind: Any = None


OF_A_KIND: list[tuple[type, Callable[[MemoryMapping, Any], object]]] = [
    (mmapwrap.Advice, lambda mapping, value: mapping.advise(value)),
    (mmapwrap.DestructiveAdvice, lambda mapping, value: mapping.advise_destructive(value)),
    (mmapwrap.SyncMode, lambda mapping, value: mapping.msync(mode=value)),
    (Protection, lambda mapping, value: mapping.protect(value)),
    (Protection, lambda mapping, value: mapping.prot.allows(value)),
    (mmapwrap.Sharing, lambda _, value: MemoryMapping.anonymous(PAGE, sharing=value)),
    (mmapwrap.Scalar, lambda mapping, value: mapping.read_obj(value, 0)),
    (mmapwrap.Scalar, lambda mapping, value: mapping.get_slice(0, 8).load_many(value, 1)),
    (mmapwrap.Scalar, lambda mapping, value: mapping.get_slice(0, 8).store_many(value, [1])),
    (
        mmapwrap.VolatileSlice,
        lambda mapping, value: mapping.get_slice(0, 1).copy_to_volatile_slice(value),
    ),
]


@pytest.mark.parametrize(("kind", "use"), OF_A_KIND)
def test_object_that_says_it_is_of_a_kind_is_not_believed(
    kind: type, use: Callable[[MemoryMapping, Any], object]
) -> None:
    value = Lying(102)
    value.kind = kind
    assert isinstance(value, kind)
    with MemoryMapping.new(PAGE) as mapping:
        for given in (value, HUGE):
            with pytest.raises(TypeError):
                use(mapping, given)


HUGE = 10**5000
"""Python makes no decimal digits of it."""


USES_OF_A_NUMBER: list[Callable[[MemoryMapping], object]] = [
    lambda _: MemoryMapping.new(HUGE),
    lambda _: MemoryMapping.anonymous(PAGE, align=1 << 20_000),
    lambda _: MemoryMapping.anonymous(PAGE, align=HUGE),
    lambda _: MemoryMapping.from_fd(HUGE, PAGE),
    lambda _: SharedMemory.new("huge", HUGE),
    lambda mapping: mapping[HUGE],
    lambda mapping: mapping.__setitem__(0, HUGE),
    lambda mapping: HUGE in mapping,
    lambda mapping: mapping.view(HUGE),
    lambda mapping: mapping.view(-HUGE),
    lambda mapping: mapping.view(0, HUGE),
    lambda mapping: mapping.view(0, -HUGE),
    lambda mapping: mapping.read_obj(mmapwrap.u8, HUGE),
    lambda mapping: mapping.write_obj(mmapwrap.u8, HUGE, 0),
    lambda mapping: mapping.write_obj(mmapwrap.f64, HUGE, 0),
    lambda mapping: mapping.get_slice(0, HUGE),
    lambda mapping: mapping.get_slice(0, 8).load(mmapwrap.u8, HUGE),
    lambda mapping: mapping.get_slice(0, 8).load_many(mmapwrap.u8, HUGE),
    lambda mapping: mapping.get_slice(0, 8).load_many(mmapwrap.u32, -HUGE),
    lambda mapping: mapping.get_slice(0, 8).load_many(mmapwrap.u8, 1, HUGE),
    lambda mapping: mapping.get_slice(0, 8).store_many(mmapwrap.u8, [HUGE]),
    lambda mapping: mapping.get_slice(0, 8).store_many(mmapwrap.f64, [HUGE]),
    lambda mapping: mapping.get_slice(0, 8).store_many(mmapwrap.u8, [1], -HUGE),
    lambda mapping: mapping.get_slice(0, 8).read_exact(bytearray(1), HUGE),
    lambda mapping: mapping.read_exact(bytearray(1), HUGE),
    lambda mapping: mapping.write_all(b"a", -HUGE),
    lambda mapping: mapping.get_slice(0, 8).write_bytes(HUGE),
]


@pytest.mark.parametrize("use", USES_OF_A_NUMBER)
def test_number_of_thousands_of_digits_is_refused_by_name(
    use: Callable[[MemoryMapping], object],
) -> None:
    with MemoryMapping.new(PAGE) as mapping, pytest.raises(mmapwrap.MmapError) as caught:
        use(mapping)
    assert str(caught.value)
    assert repr(caught.value)


def test_offset_of_thousands_of_digits_is_refused_by_name() -> None:
    with SharedMemory.new("offset", PAGE) as memory:
        for offset in (HUGE, -HUGE):
            # The error is not kept: its frames hold the descriptor.
            with pytest.raises(mmapwrap.InvalidOffsetError, match="0x31e2"):
                memory.map(1, offset=offset)
            assert "0x31e2" in repr(mmapwrap.InvalidOffsetError(offset))
