"""The arguments of the command line."""

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

import mmapwrap
from mmapwrap._cli.text import printable

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

EXIT_STATUSES = {
    0: "success",
    1: "a path failed (the rest was done)",
    2: "wrong usage",
    130: "interrupted",
    141: "the reader of the output went away",
}
_EPILOG = f"exit status: {', '.join(f'{status} {text}' for status, text in EXIT_STATUSES.items())}"
_PATHS = (
    "a file, a block device, or a directory, which stands for every regular file below it; a file "
    "with several names is taken once, and symbolic links below a directory are not followed"
)
_OVER_FILES = {
    "residency": "show how much of each file is in the page cache, and where; bring nothing in",
    "prefetch": "bring files into the page cache",
    "evict": "write files to storage and remove them from the page cache",
}
_SHELLS = ("bash", "zsh", "tcsh")
# What shtab is to complete a path by, in each shell: its FILE, which an import would take time for.
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_SUPPORT = "show what the running kernel supports of what the library can ask"


def parse(arguments: Sequence[str], program: str) -> argparse.Namespace:
    """Parse the arguments; an error shows the usage of the command that it is about.

    argparse alone shows the main usage for an unknown option of a command, and it suggests the
    right name for a misspelt one only since Python 3.14.

    Args:
        arguments: The words after the program's name.
        program: The words that start the program, for its usage.

    Returns:
        The name of the `command`, its `paths`, and whether it writes `json`.

    Raises:
        SystemExit: the arguments are wrong, or ask for the help, the version or the completion.
    """
    parser, commands = parsers(program)
    first = arguments[0] if arguments else "-"
    if not first.startswith("-") and first not in commands:
        parser.error(f"unknown command '{first}'; {_hint(first, commands)}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        # No option before the command has a value: the first argument that equals it is it.
        command = options.command
        before_command = arguments[: arguments.index(command)] if command else arguments
        is_before = not set(unknown).isdisjoint(before_command)
        blamed = parser if is_before else commands[command]
        blamed.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command is None:
        parser.error("the following arguments are required: COMMAND")
    if options.command in _OVER_FILES and not options.paths:
        commands[options.command].error("the following arguments are required: PATH")
    return options


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # An argument that the message repeats must not control the terminal.
        super().error(" ".join(printable(word, "ascii") for word in message.split(" ")))

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        # That of argparse ignores a failure of the output.
        print(self.format_help(), end="", file=file)


class _ShowVersion(argparse.Action):
    # The action of argparse needs the version in advance. Reading it takes longer than all else.
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"mmapwrap {mmapwrap.__version__}")  # noqa: T201, the output that was asked for
        parser.exit()


class _ShowCompletion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, _options: object, shell: object, *_: object
    ) -> NoReturn:
        try:
            import shtab  # noqa: PLC0415, an extra
        except ImportError:
            parser.error("the completion needs shtab: pip install 'mmapwrap[cli]'")
        # A shell completes the command `mmapwrap`, however this process was started.
        of_command = parsers("mmapwrap")[0]
        print(shtab.complete(of_command, str(shell)), end="")  # noqa: T201, as above
        parser.exit()


def _hint(word: str, commands: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415, only a mistake needs it

    close = get_close_matches(word.lower(), commands, n=1)
    return f"did you mean '{close[0]}'?" if close else f"the commands are {', '.join(commands)}"


def parsers(program: str) -> tuple[Parser, dict[str, Parser]]:
    """Make the main parser, and the parser of each command by the command's name."""
    parser = Parser(
        prog=program,
        description="Ask what the page cache holds of files, bring them in and out of it, "
        "and ask what the kernel supports.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    parser.add_argument(
        "--completion",
        action=_ShowCompletion,
        choices=_SHELLS,
        metavar="SHELL",
        help=f"show what lets a shell ({', '.join(_SHELLS)}) complete the command, and exit",
    )
    adder = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands: dict[str, Parser] = {}
    for name, summary in {**_OVER_FILES, "support": _SUPPORT}.items():
        command = commands[name] = adder.add_parser(
            name, help=summary, description=f"{summary.capitalize()}."
        )
        command.add_argument("--json", action="store_true", help="write one JSON document")
        if name in _OVER_FILES:
            command.usage = "%(prog)s [-h] [--json] PATH [PATH ...]"
            command.epilog = _EPILOG
            # `nargs="+"` would complain about a missing PATH before an unknown option.
            paths = command.add_argument("paths", nargs="*", metavar="PATH", help=_PATHS)
            paths.complete = _FILES  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    return parser, commands
