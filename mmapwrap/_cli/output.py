"""Where a command writes: lines on standard output, complaints on standard error."""

import codecs
import enum
import json
import os
from collections.abc import Sequence
from typing import Protocol, TextIO, TypeAlias, final

from mmapwrap._cli.progress import Drawing, PlainDrawing, ProgressBar, can_draw
from mmapwrap._cli.text import printable


class Style(enum.Enum):
    """What a part of a line is; on a terminal with rich each has its own look."""

    PLAIN = enum.auto()
    HEADING = enum.auto()
    PLACE = enum.auto()
    NAME = enum.auto()
    YES = enum.auto()
    NO = enum.auto()


Span: TypeAlias = tuple[str, Style]


class LineWriter(Protocol):
    """Something that writes lines on one stream."""

    def write(self, spans: Sequence[Span]) -> None:
        """Write one line."""


@final
class PlainLines:
    """Writes lines as they are."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, spans: Sequence[Span]) -> None:
        """Write one line."""
        self._out.write("".join(words for words, _ in spans) + "\n")


@final
class Output:
    """The two streams of one command, and the progress bar between their lines.

    Args:
        out: standard output.
        err: standard error.

    Attributes:
        blocks: whether block characters can be shown on standard output.
        progress: the progress bar, on standard error; it draws where both streams are terminals.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._encoding = _encoding(out)
        self.blocks = self._encoding == "utf-8"
        self._lines = _line_writer(out)
        # A bar between the lines that a pager or a log shows would be in the way: both must be
        # terminals, though the bar is drawn on one.
        self.progress = ProgressBar(_drawing(err) if can_draw(out, err) else None)

    def name(self, path: str) -> Span:
        """Make a file name fit for a line."""
        return printable(path, self._encoding), Style.NAME

    def line(self, *spans: Span) -> None:
        """Write one line on standard output, at once: a reader in a pipe waits for it."""
        self.progress.hide()
        self._lines.write(spans)
        self._out.flush()

    def document(self, document: object) -> None:
        """Write one JSON document, as one line of ASCII, on standard output."""
        self.progress.hide()
        self._out.write(json.dumps(document) + "\n")
        self._out.flush()

    def complaint(self, message: str, *, path: str | None = None) -> None:
        """Write one line on standard error, about a path or about the whole command."""
        self.progress.hide()
        about = "" if path is None else f"{printable(path, _encoding(self._err))}: "
        complain(self._err, about + message)


def complain(err: TextIO, message: str) -> None:
    """Write one line on standard error; where that fails there is nowhere left to say so."""
    try:
        err.write(f"mmapwrap: {message}\n")
        err.flush()
    except OSError:
        abandon(err)


def abandon(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, nowhere.

    What is left in it would be written when the process exits, which would fail, or wait, again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _encoding(stream: TextIO) -> str:
    # A stream in memory has none, and takes everything.
    return codecs.lookup(stream.encoding or "utf-8").name


def _line_writer(out: TextIO) -> LineWriter:
    if can_draw(out):
        try:
            from mmapwrap._cli.rich_terminal import RichLines  # noqa: PLC0415, an extra
        except ImportError:
            pass
        else:
            return RichLines(out)
    return PlainLines(out)


def _drawing(terminal: TextIO) -> Drawing:
    try:
        from mmapwrap._cli.rich_terminal import RichDrawing  # noqa: PLC0415, an extra
    except ImportError:
        return PlainDrawing(terminal)
    return RichDrawing(terminal)
