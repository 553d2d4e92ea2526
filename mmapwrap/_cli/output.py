"""Plain lines on standard output, messages on standard error."""

import codecs
import json
import os
from typing import TextIO

from mmapwrap._cli.text import printable


class Output:
    """The two streams of one command, with plain lines: the fields of a row stand between tabs.

    Args:
        out: standard output.
        err: standard error.
        as_json: whether the command writes one JSON document instead of lines.

    Attributes:
        as_json: the argument.
    """

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool) -> None:
        self._out = out
        self._err = err
        self.as_json = as_json

    def heading(self, *names: str) -> None:
        """Print the names of the fields that each row below has."""
        self.row(*names)

    def row(self, *fields: str) -> None:
        """Print one row."""
        self.line("\t".join(fields))

    def name(self, path: str) -> str:
        """Return a file name as a row's field."""
        return printable(path, _encoding(self._out))

    def line(self, text: str) -> None:
        """Print one line, at once: a reader in a pipe waits for it."""
        self.hide_progress()
        self._out.write(text + "\n")
        self._out.flush()

    def document(self, document: object) -> None:
        """Print one JSON document, as one line of ASCII."""
        self.line(json.dumps(document))

    def complain(self, message: str, *, path: str | None = None) -> None:
        """Print one line on standard error, about a path or about the whole command."""
        self.hide_progress()
        about = "" if path is None else f"{printable(path, _encoding(self._err))}: "
        write_message(self._err, about + message)

    def show_progress(self, label: str, done: int, size: int) -> None:
        """Show how many bytes of the work are done; plain lines have no progress."""

    def hide_progress(self) -> None:
        """Take the progress off the terminal; the next `show_progress` brings it back."""


def write_message(err: TextIO, message: str) -> None:
    """Print one line on standard error; a failure of standard error is ignored."""
    try:
        err.write(f"mmapwrap: {message}\n")
        err.flush()
    except OSError:
        discard(err)


def discard(stream: TextIO) -> None:
    """Send the rest of a stream's buffer, and all later writes, to the null device.

    Python writes the buffer when the process exits. That write would fail, or wait, once more.
    """
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, stream.fileno())
    os.close(null)


def _encoding(stream: TextIO) -> str:
    # A stream in memory has no encoding, and takes every character.
    return codecs.lookup(stream.encoding or "utf-8").name
