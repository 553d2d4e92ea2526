"""The command line: ask the page cache about files, bring them in and out, ask the kernel."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TextIO

from mmapwrap._cli.commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, change, residency
from mmapwrap._cli.output import Output, abandon, complain
from mmapwrap._cli.page_cache import evict, prefetch
from mmapwrap._cli.support import support
from mmapwrap._cli.text import printable

EXIT_USAGE = 2
EXIT_BROKEN_PIPE = 141  # what a shell shows of a process that SIGPIPE ended

_EXIT_STATUSES = (
    "exit status: 0 all went well, 1 a path failed (the rest was done), 2 wrong usage, "
    "130 interrupted, 141 nobody read the output to its end"
)

_RESIDENCY = (
    "Show of each file how many of its pages are in the page cache, and where in the file they "
    "are. Brings nothing in."
)
_PREFETCH = (
    "Read each file into the page cache, and show how many of its pages were there before and are "
    "there after."
)
_EVICT = (
    "Write the changed pages of each file to storage, remove the file from the page cache, and "
    "show how many of its pages were there before and are there after."
)
_PATHS = (
    "a file, or a directory of which every file below is taken; a file with several names is taken "
    "once, and symbolic links below a directory are not followed"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; `None` for those of this process.

    Returns:
        The exit status.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # Python has no stream where the descriptor was closed before it started.
        out, err = sys.stdout or nowhere, sys.stderr or nowhere
        try:
            status = _run(arguments, out, err)
            out.flush()
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
        except BrokenPipeError:
            status = EXIT_BROKEN_PIPE
        except OSError as error:
            # A file's error is caught where it is worked on: this one is the output's.
            complain(err, f"standard output: {error.strerror}")
            status = EXIT_FAILED
        else:
            return status
        abandon(out)
        return status


def _run(arguments: Sequence[str] | None, out: TextIO, err: TextIO) -> int:
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as finished:
        return EXIT_USAGE if finished.code else EXIT_OK
    output = Output(out, err)
    try:
        match options.command:
            case "residency":
                return residency(options.paths, output, as_json=options.json)
            case "prefetch":
                return change("prefetch", prefetch, options.paths, output, as_json=options.json)
            case "evict":
                return change("evict", evict, options.paths, output, as_json=options.json)
            case _:
                support(output, as_json=options.json)
                return EXIT_OK
    finally:
        output.progress.hide()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # An argument that the message repeats must not control the terminal.
        super().error(" ".join(printable(word, "ascii") for word in message.split(" ")))


class _ShowVersion(argparse.Action):
    # Not argparse's own, which must know the version before it is asked for: reading the metadata
    # takes longer than all else at the start.
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"mmapwrap {version('mmapwrap')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mmapwrap",
        description="Ask what the page cache holds of files, bring them in and out of it, "
        "and ask what the kernel supports.",
        epilog=_EXIT_STATUSES,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary, detail in (
        ("residency", "show how much of each file is in the page cache", _RESIDENCY),
        ("prefetch", "bring files into the page cache", _PREFETCH),
        ("evict", "write files to storage and remove them from the page cache", _EVICT),
    ):
        command = commands.add_parser(name, help=summary, description=detail, epilog=_EXIT_STATUSES)
        command.add_argument("paths", nargs="+", metavar="PATH", help=_PATHS)
        _add_json(command)
    supported = "show what the running kernel supports of what the library can ask"
    _add_json(commands.add_parser("support", help=supported, description=f"{supported}."))
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write one JSON document")


if __name__ == "__main__":
    sys.exit(main())
