"""Run the command line: `python -m mmapwrap`, or the command `mmapwrap`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from mmapwrap._cli.commands import ExitStatus, work_on_files
from mmapwrap._cli.output import Output, discard, write_message
from mmapwrap._cli.page_cache import evict, prefetch
from mmapwrap._cli.parser import parse
from mmapwrap._cli.support import support

_OPERATIONS = {"prefetch": prefetch, "evict": evict}


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m mmapwrap") -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; None: those of this process.
        program: The words that start the program, for its usage.

    Returns:
        The exit status.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as null:
        # Python has no stream where the descriptor was closed before the process started.
        out, err = sys.stdout or null, sys.stderr or null
        try:
            words = sys.argv[1:] if arguments is None else arguments
            status = _run(words, program, out, err)
            out.flush()
        except KeyboardInterrupt:
            status = ExitStatus.INTERRUPTED
        except BrokenPipeError:
            status = ExitStatus.BROKEN_PIPE
        except OSError as error:
            # The commands catch the errors of files, so this is an error of the output.
            write_message(err, f"standard output: {error.strerror}")
            status = ExitStatus.FAILED
        else:
            return status
        discard(out)
        return status


def command() -> int:
    """Run the command line as the command `mmapwrap`, which an installation makes of this."""
    return main(program="mmapwrap")


def _run(arguments: Sequence[str], program: str, out: TextIO, err: TextIO) -> ExitStatus:
    """Run the command of the arguments."""
    try:
        options = parse(arguments, program)
    except SystemExit as finished:
        return ExitStatus.USAGE if finished.code else ExitStatus.OK
    output = _output_type(out)(out, err, as_json=options.json)
    try:
        if options.command != "support":
            operation = _OPERATIONS.get(options.command)
            return work_on_files(options.command, operation, options.paths, output)
        support(output)
        return ExitStatus.OK
    finally:
        output.hide_progress()


def _output_type(out: TextIO) -> type[Output]:
    """Choose rich for a terminal that can redraw lines, else plain lines."""
    if out.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        try:
            from mmapwrap._cli.drawing import RichOutput  # noqa: PLC0415, an extra
        except ImportError:
            return Output
        return RichOutput
    return Output


if __name__ == "__main__":
    sys.exit(main())
