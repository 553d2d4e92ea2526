"""A table, colours and a progress bar on a terminal, all drawn by rich."""

import time
from typing import TextIO, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from mmapwrap._cli.output import Output
from mmapwrap._cli.text import size_text

# Each row is drawn as soon as its file is done, so a column's width does not depend on the rows.
_NUMBER = Column(min_width=10, justify="right")
_COLUMNS = {
    "resident/pages": Column(min_width=17, justify="right"),
    "percent": Column(min_width=7, justify="right"),
    "where": Column(min_width=34, style="cyan"),
    "file": Column(style="bold"),
    "group": Column(min_width=8),
    "feature": Column(min_width=20),
    "supported": Column(min_width=9),
    "used by": Column(),
}
_ANSWER_STYLES = {"yes": "green", "no": "red"}
_BLOCKS = str.maketrans("012345678", " ▁▂▃▄▅▆▇█", "-")
_ASCII_BLOCKS = str.maketrans("012345678", " .:-=+*o#", "-")
_WIDER_THAN_ANY_ROW = 1 << 20
_SECONDS_BETWEEN_DRAWINGS = 0.1


@final
class RichOutput(Output):
    """An output whose rows are those of a table, with a progress bar below them.

    The bar is drawn on standard error, and only where that is a terminal too.
    """

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool) -> None:
        super().__init__(out, err, as_json=as_json)
        # Rich would fold a long name. The terminal wraps it, and copies it as one piece.
        self._console = Console(
            file=out, width=_WIDER_THAN_ANY_ROW, highlight=False, markup=False, emoji=False
        )
        self._blocks = _ASCII_BLOCKS if self._console.options.ascii_only else _BLOCKS
        self._names: tuple[str, ...] = ()
        self._progress = _new_progress(err)
        self._next_drawing = 0.0

    def heading(self, *names: str) -> None:
        """Draw the names of the columns."""
        self._names = names
        self._draw(*names, style="bold")

    def row(self, *fields: str) -> None:
        """Draw one row."""
        self._draw(*map(self._cell, self._names, fields))

    def show_progress(self, label: str, done: int, size: int) -> None:
        """Draw the progress bar, unless it was drawn a moment ago."""
        now = time.monotonic()
        if now < self._next_drawing:
            return
        self._next_drawing = now + _SECONDS_BETWEEN_DRAWINGS
        self._progress.update(
            self._progress.task_ids[0],
            description=label,
            amount=f"{size_text(done)} of {size_text(size)}",
            # Rich draws an empty bar for 0 of 0.
            total=size or 1,
            completed=done if size else 1,
        )
        self._progress.start()  # does nothing while the bar is shown
        self._progress.refresh()

    def hide_progress(self) -> None:
        """Take the progress bar off the terminal."""
        if self._progress.live.is_started:
            self._progress.stop()

    def _draw(self, *cells: str | Text, style: str = "") -> None:
        self.hide_progress()
        columns = (_COLUMNS.get(name, _NUMBER).copy() for name in self._names)
        row = Table.grid(*columns, padding=(0, 1, 0, 0))
        row.add_row(*cells, style=style)
        self._console.print(row)

    def _cell(self, name: str, field: str) -> str | Text:
        match name:
            case "where":
                return f"[{field.translate(self._blocks)}]"
            case "supported":
                return Text(field, _ANSWER_STYLES[field])
            case _:
                return field


def _new_progress(err: TextIO) -> Progress:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(compact=True),
        console=Console(file=err),
        disable=not err.isatty(),
        # The thread that works also draws: a thread of rich's could draw into a half-written row.
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.add_task("", amount="")
    return progress
