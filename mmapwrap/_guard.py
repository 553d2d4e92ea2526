"""FaultGuard: pages that cannot be read in are an error at the end of a block, and no signal."""

from types import TracebackType
from typing import Final, final

from mmapwrap import _syscalls
from mmapwrap._ownership import Pages
from mmapwrap.errors import MappingFaultError


@final
class FaultGuard:
    """What `MappedRegion.fault_guard` returns: a context manager, to be nested and reused."""

    __slots__ = ("_entered", "_pages")

    def __init__(self, pages: Pages) -> None:
        self._pages: Final = pages
        self._entered: Final[list[None]] = []

    def __enter__(self) -> None:
        self._pages.raise_failure(_syscalls.guard_enter(self._pages.handle))
        self._entered.append(None)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._entered.pop()
        except IndexError:  # never entered: there may be a guard of somebody else
            return
        result = _syscalls.guard_leave(self._pages.handle)
        if not isinstance(exception, MappingFaultError):
            self._pages.raise_failure(result)
