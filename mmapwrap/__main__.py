"""The command line: ask the page cache about files, bring them in and out, ask the kernel."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
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
    "a file, a block device, or a directory of which every regular file below is taken; a file "
    "with several names is taken once, and symbolic links below a directory are not followed"
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
        options = _parse(sys.argv[1:] if arguments is None else arguments)
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


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; an error shows the usage of the command that it is about.

    argparse alone shows the main usage for an unknown option of a command, and it suggests the
    right name for a misspelt one only since Python 3.14.
    """
    parser, commands = _parsers()
    first = arguments[0] if arguments else "-"
    if not first.startswith("-") and first not in commands:
        parser.error(f"unknown command '{first}'; {_hint(first, commands)}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        # No option before the command has a value, so the first argument that equals it is it.
        before_command = arguments[: arguments.index(options.command)]
        is_before = not set(unknown).isdisjoint(before_command)
        blamed = parser if is_before else commands[options.command]
        blamed.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command != "support" and not options.paths:
        commands[options.command].error("the following arguments are required: PATH")
    return options


def _hint(word: str, commands: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415, only a mistake needs it

    close = get_close_matches(word.lower(), commands, n=1)
    return f"did you mean '{close[0]}'?" if close else f"the commands are {', '.join(commands)}"


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Make the main parser, and the parser of each command by the command's name."""
    parser = _Parser(
        prog="python -m mmapwrap",
        description="Ask what the page cache holds of files, bring them in and out of it, "
        "and ask what the kernel supports.",
        epilog=_EXIT_STATUSES,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    adder = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands: dict[str, argparse.ArgumentParser] = {}
    for name, summary, detail in (
        ("residency", "show how much of each file is in the page cache", _RESIDENCY),
        ("prefetch", "bring files into the page cache", _PREFETCH),
        ("evict", "write files to storage and remove them from the page cache", _EVICT),
    ):
        command = adder.add_parser(
            name,
            usage="%(prog)s [-h] [--json] PATH [PATH ...]",
            help=summary,
            description=detail,
            epilog=_EXIT_STATUSES,
        )
        # `nargs="+"` would complain about a missing PATH before an unknown option.
        command.add_argument("paths", nargs="*", metavar="PATH", help=_PATHS)
        _add_json(command)
        commands[name] = command
    supported = "show what the running kernel supports of what the library can ask"
    commands["support"] = adder.add_parser("support", help=supported, description=f"{supported}.")
    _add_json(commands["support"])
    return parser, commands


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write one JSON document")


if __name__ == "__main__":
    sys.exit(main())
