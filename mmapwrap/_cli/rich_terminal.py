"""Lines and progress bars on a terminal, drawn by rich; the only importer of rich."""

from collections.abc import Sequence
from typing import TextIO, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from mmapwrap._cli.output import Span, Style
from mmapwrap._cli.progress import ProgressState

_STYLES = {
    Style.PLAIN: "",
    Style.HEADING: "bold",
    Style.PLACE: "cyan",
    Style.NAME: "bold",
    Style.YES: "green",
    Style.NO: "red",
}


@final
class RichLines:
    """Writes lines in colour."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False)

    def write(self, spans: Sequence[Span]) -> None:
        """Write one line."""
        text = Text.assemble(*((words, _STYLES[style]) for words, style in spans))
        # A name stays whole, for copying: the terminal may wrap a line, rich may not.
        self._console.print(text, soft_wrap=True)


@final
class RichDrawing:
    """A progress bar with the time that is left."""

    def __init__(self, terminal: TextIO) -> None:
        # It draws only when told, from this thread: a file is never left half described because
        # another thread draws into its line.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(compact=True),
            console=Console(file=terminal),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", amount="")

    def draw(self, state: ProgressState) -> None:
        """Show the state."""
        self._progress.update(
            self._task,
            description=state.label,
            amount=state.amount,
            # A bar of nothing would pulse for ever.
            total=state.size or 1,
            completed=state.size_done if state.size else 1,
        )
        self._progress.start()  # which does nothing where the bar is shown
        self._progress.refresh()

    def erase(self) -> None:
        """Leave the line empty, and the cursor at its start."""
        self._progress.stop()
