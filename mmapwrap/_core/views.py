"""LiveViews: the live exports of a region, and the changes that they forbid."""

from typing import NamedTuple

from mmapwrap.errors import ViewsExportedError


class View(NamedTuple):
    """A live export: the range it shows and the access it gives."""

    start: int
    end: int
    access: int


class LiveViews(dict[int, View]):
    """The live exports of a region by their addresses; an export removes itself when it ends."""

    __slots__ = ()

    def refuse(self, start: int, end: int, bits: int) -> None:
        """Require that no view of the range gives more access than `bits`.

        Raises:
            ViewsExportedError: A view gives more.
        """
        if not self:
            return
        broken = sum(
            max(view.start, start) < min(view.end, end) and bool(view.access & ~bits)
            for view in self.copy().values()
        )
        if broken:
            raise ViewsExportedError(broken)
