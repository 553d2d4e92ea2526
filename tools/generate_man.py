"""Write the manual page of the command `mmapwrap` from the parser of its arguments.

    python tools/generate_man.py [--check]

With `--check` nothing is written: the difference is printed, and the exit status is 1 where the
page is not what would be written. The package must be importable.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mmapwrap._cli.parser import EXIT_STATUSES, Parser, parsers

PAGE = Path(__file__).parent.parent / "share" / "man" / "man1" / "mmapwrap.1"
EXAMPLES = {
    "mmapwrap residency /var/lib/data": "Show which files below the directory are in memory.",
    "mmapwrap evict big.iso": "Make room, and measure what a program does with a cold cache.",
    'eval "$(mmapwrap --completion bash)"': "Complete commands, options and paths in this shell.",
}
SEE_ALSO = "mincore(2), madvise(2), posix_fadvise(2), vmtouch(8)"


def escaped(text: str) -> str:
    """Write text so that troff shows it as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def usage(parser: Parser) -> str:
    """Give a usage without the word in front, with its first words bold."""
    text = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    return f"\\fB{escaped(parser.prog)}\\fR{escaped(text.removeprefix(parser.prog))}"


def arguments(parser: Parser) -> Iterator[tuple[str, str]]:
    """Give what each argument is called and its help; not the commands."""
    for action in parser._actions:
        names = [f"\\fB{escaped(name)}\\fR" for name in action.option_strings]
        value = f"\\fI{action.metavar}\\fR" if action.metavar else ""
        if action.metavar != "COMMAND":
            yield ", ".join(names) + " " * bool(names and value) + value, action.help or ""


def listed(entries: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> Iterator[str]:
    """Give the lines of a list of terms."""
    for term, text in entries:
        yield from (".TP", term, escaped(f"{text[0].upper()}{text[1:].rstrip('.')}."))


def page() -> Iterator[str]:
    """Give the lines of the page."""
    main, commands = parsers("mmapwrap")
    description = main.description or ""
    yield '.TH MMAPWRAP 1 "" mmapwrap "User Commands"'
    yield from (".SH NAME", f"mmapwrap \\- {escaped(description[0].lower() + description[1:-1])}")
    yield ".SH SYNOPSIS"
    for parser in (main, *commands.values()):
        yield from (usage(parser), ".br")
    yield from (".SH DESCRIPTION", escaped(description), ".SH COMMANDS")
    yield from listed(
        [(f"\\fB{name}\\fR", each.description or "") for name, each in commands.items()]
    )
    yield ".SH OPTIONS"
    of_commands = (pair for each in commands.values() for pair in arguments(each))
    yield from listed(list(dict.fromkeys((*arguments(main), *of_commands))))
    yield ".SH EXIT STATUS"
    yield from listed([(f"\\fB{status}\\fR", text) for status, text in EXIT_STATUSES.items()])
    yield ".SH EXAMPLES"
    yield from listed([(f"\\fB{escaped(line)}\\fR", text) for line, text in EXAMPLES.items()])
    yield from (".SH SEE ALSO", escaped(SEE_ALSO))


def main() -> int:
    """Write the page or compare it, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    is_check = parser.parse_args().check
    # argparse breaks a usage into lines of a terminal's width, and colours it.
    os.environ |= {"COLUMNS": "1000", "NO_COLOR": "1"}
    written = "\n".join([*page(), ""])
    if not is_check:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(written)
        return 0
    found = PAGE.read_text().splitlines()
    difference = list(difflib.unified_diff(found, written.splitlines(), "found", "wanted"))
    print(*difference, sep="\n", end="\n" if difference else "")
    return int(bool(difference))


if __name__ == "__main__":
    sys.exit(main())
