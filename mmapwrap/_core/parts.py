"""join_parts: one class for users, where the source has a base class for each subject."""

from types import FunctionType


def join_parts(kind: type) -> None:
    """Make a class hold the methods and properties of its base classes, under its own name.

    A TypeError about the arguments of a method says the method's `__qualname__`, and `help()` lists
    a method under the class that holds it. A base class that is one subject of the public class
    means nothing to users.
    """
    for part in kind.__mro__[1:]:
        for name, member in vars(part).items():
            if isinstance(member, FunctionType):
                member.__module__, member.__qualname__ = (
                    kind.__module__,
                    f"{kind.__qualname__}.{name}",
                )
            if isinstance(member, FunctionType | property) and name not in vars(kind):
                setattr(kind, name, member)
