"""How far a long command is: a bar on a terminal, nothing elsewhere."""

import os
import shutil
import time
from typing import Protocol, TextIO, final

from mmapwrap._cli.text import percent_text, size_text

_BAR_WIDTH = 20
_SECONDS_BETWEEN_DRAWINGS = 0.1


class Drawing(Protocol):
    """Something that draws a progress bar on a terminal's last line and takes it away again."""

    def draw(self, state: "ProgressState") -> None:
        """Show the state."""

    def erase(self) -> None:
        """Leave the line empty, and the cursor at its start."""


@final
class ProgressState:
    """How much of a command's work is done.

    Attributes:
        action: the command's name.
        files: how many files there are.
        size: their size in bytes, as they were found.
        files_done: how many files are done or have failed.
        size_done: how many bytes of the files are.
    """

    def __init__(self, action: str) -> None:
        self.action = action
        self.files = 0
        self.size = 0
        self.files_done = 0
        self.size_done = 0
        self._start = 0
        self._end = 0

    @property
    def label(self) -> str:
        """The action and the files, in words."""
        return f"{self.action} {self.files_done} of {self.files} files"

    @property
    def amount(self) -> str:
        """The bytes, in words."""
        return f"{size_text(self.size_done)} of {size_text(self.size)}"

    def expect(self, size: int) -> None:
        """Count a file of so many bytes as work to do."""
        self.files += 1
        self.size += size

    def begin(self, size: int) -> None:
        """Start with the next file, expected with so many bytes."""
        self._start = self.size_done
        self._end = self._start + size

    def reach(self, done: int) -> None:
        """Be so many bytes far in the file; never further than its expected end."""
        self.size_done = min(self._start + done, self._end)

    def finish(self) -> None:
        """Be done with the file, whatever came of it."""
        self.size_done = self._end
        self.files_done += 1


@final
class ProgressBar:
    """Draws the state of the work at intervals; draws nothing where there is no drawing.

    Whoever writes to the terminal hides the bar before; the next update shows it again.
    """

    def __init__(self, drawing: Drawing | None) -> None:
        self._drawing = drawing
        self._next_drawing = 0.0
        self._shown = False

    def update(self, state: ProgressState) -> None:
        """Draw the state, unless the last drawing is only just past."""
        if self._drawing is None:
            return
        now = time.monotonic()
        if now >= self._next_drawing:
            self._next_drawing = now + _SECONDS_BETWEEN_DRAWINGS
            self._shown = True
            self._drawing.draw(state)

    def hide(self) -> None:
        """Take the bar off the terminal."""
        if self._drawing is not None and self._shown:
            self._shown = False
            self._drawing.erase()


@final
class PlainDrawing:
    """A bar of ASCII characters, for where rich is not installed."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def draw(self, state: ProgressState) -> None:
        """Show the state."""
        filled = _BAR_WIDTH * state.size_done // state.size if state.size else _BAR_WIDTH
        bar = "#" * filled + "." * (_BAR_WIDTH - filled)
        share = percent_text(state.size_done, state.size)
        line = f"{state.label} [{bar}] {share} {state.amount}"
        # A line that the terminal wraps could not be erased.
        columns = shutil.get_terminal_size().columns
        self._terminal.write(f"\r{line[: columns - 1]}\x1b[K")
        self._terminal.flush()

    def erase(self) -> None:
        """Leave the line empty, and the cursor at its start."""
        self._terminal.write("\r\x1b[K")
        self._terminal.flush()


def can_draw(*streams: TextIO) -> bool:
    """Whether all the streams are terminals that can take back what was drawn on them."""
    return os.environ.get("TERM") not in ("dumb", "unknown") and all(
        stream.isatty() for stream in streams
    )
