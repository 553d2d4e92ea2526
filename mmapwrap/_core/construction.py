"""NamedConstructors: the one idiom of the final classes that callers do not construct."""

from typing import TYPE_CHECKING, Any, ClassVar, Never


class NamedConstructors:
    """A final class whose objects come from named constructors; a call of the class is an error.

    `class Thing(NamedConstructors, made_by="Thing.open(path)")`: the error names the constructors.
    """

    __slots__ = ()
    _made_by: ClassVar[str]

    def __init_subclass__(cls, *, made_by: str | None = None) -> None:
        if made_by is None:
            final = next(base for base in cls.__mro__ if "_made_by" in vars(base))
            raise TypeError(f"{final.__name__} is final")
        cls._made_by = made_by

    if TYPE_CHECKING:
        # Nothing is a Never, so type checkers refuse each call.
        def __init__(self, _: Never, /) -> None: ...

    else:

        def __init__(self, *_: object, **__: object) -> None:
            raise TypeError(f"use {self._made_by}")

    def __reduce__(self) -> str | tuple[Any, ...]:
        name = type(self).__name__
        raise TypeError(f"{name} cannot be copied or pickled: it stands for memory of this process")
