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
        pages = self._pages
        result = _syscalls.guard_enter(pages.handle)
        if result < 0:
            raise pages.error(-result, 0, 0)
        self._entered.append(None)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._entered.pop()
        except IndexError as error:
            if not _syscalls.is_from_c(error):
                raise
            return  # never entered: there may be a guard of somebody else
        pages = self._pages
        result = _syscalls.guard_leave(pages.handle)
        if result < 0 and not isinstance(exception, MappingFaultError):
            raise pages.error(-result, 0, 0)
