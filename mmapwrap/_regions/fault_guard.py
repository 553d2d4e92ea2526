"""FaultGuard: a block that ends with an error where a page is missing, instead of by a signal."""

from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, final

from mmapwrap._core import calls
from mmapwrap._core.failures import Refusal
from mmapwrap._core.owners import new_guard
from mmapwrap._core.pages import Pages
from mmapwrap.errors import MappingFaultError

if TYPE_CHECKING:
    from mmapwrap._core._mman import CData


@final
class FaultGuard:
    """A context manager that `MappedRegion.fault_guard` returns; it may be nested and reused.

    Each entry makes a guard in C, whose owner leaves it. So an interruption between two steps
    of entering or leaving keeps no region under a guard.
    """

    __slots__ = ("_entered", "_pages")

    def __init__(self, pages: Pages) -> None:
        self._pages: Final = pages
        self._entered: Final[list[CData]] = []

    def __reduce__(self) -> NoReturn:
        raise TypeError("a FaultGuard cannot be copied or pickled: ask the region for another")

    def __enter__(self) -> None:
        pages = self._pages
        guard = new_guard()
        result = calls.guard_enter(guard, pages.handle)
        while result == -Refusal.MOVED:  # by a thread that has not said yet where to
            result = calls.guard_enter(guard, pages.handle)
        if result < 0:
            raise pages.error(-result, 0, 0)
        self._entered.append(guard)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._entered:
            return  # never entered: a guard in C, if there is one, is not of this block
        pages = self._pages
        result = calls.guard_leave(self._entered.pop())
        if result < 0 and not isinstance(exception, MappingFaultError):
            raise pages.error(-result, 0, 0)
