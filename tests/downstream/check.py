"""Check the uses in this folder with five type checkers: right ones pass, wrong ones are found.

In `right_*.py` there must be no report. In `wrong_*.py` each line that ends in `# wrong: MISTAKE`
must have a report with the code that the checker has for that mistake, and no other line may have
one. The package is the one that is installed for the Python that runs this.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

HERE = Path(__file__).parent
FILES = sorted(path.name for path in [*HERE.glob("right_*.py"), *HERE.glob("wrong_*.py")])
VERSIONS = ["3.11", "3.14"]

# mistake, and its code for mypy, for pyright and basedpyright, for pyrefly and for ty
MISTAKES = """
bound   type-var      reportArgumentType         bad-specialization    invalid-argument-type
final   misc          reportGeneralTypeIssues    invalid-inheritance   subclass-of-final-class
frozen  misc          reportAttributeAccessIssue read-only             invalid-assignment
generic arg-type      reportReturnType           bad-return            invalid-explicit-return
index   call-overload reportArgumentType         bad-index             invalid-argument-type
item    call-overload reportArgumentType         unsupported-operation invalid-assignment
keyword call-arg      reportCallIssue            unexpected-keyword    unknown-argument
missing call-arg      reportCallIssue            missing-argument      missing-argument
no-init call-arg      reportCallIssue            bad-argument-count    missing-argument
number   misc          reportArgumentType         no-matching-overload  no-matching-overload
options call-overload reportCallIssue            no-matching-overload  no-matching-overload
partial return        reportReturnType           bad-return            invalid-implicit-return
return  return-value  reportReturnType           bad-return            invalid-explicit-return
surplus call-arg      reportCallIssue            bad-argument-count    too-many-positional-arguments
type    arg-type      reportArgumentType         bad-argument-type     invalid-argument-type
union   union-attr    reportAttributeAccessIssue missing-attribute     missing-union-attribute
unknown attr-defined  reportAttributeAccessIssue missing-attribute     missing-attribute
unwrap  union-attr    reportAttributeAccessIssue missing-attribute     missing-attribute
"""
CODES = {line.split()[0]: line.split()[1:] for line in MISTAKES.strip().splitlines()}

Report: TypeAlias = tuple[str, int, str]
"""A file, a line and a code."""


def pyright_reports(output: str) -> Iterator[Report]:
    """Yield the reports in the JSON of pyright and basedpyright."""
    for report in json.loads(output)["generalDiagnostics"]:
        line = report["range"]["start"]["line"] + 1
        yield Path(report["file"]).name, line, report.get("rule", report["message"])


def reports_in_lines(pattern: str) -> Callable[[str], Iterator[Report]]:
    """Return a function that yields the reports in an output with one in each line."""

    def reports(output: str) -> Iterator[Report]:
        for file, line, code in re.findall(pattern, output, re.MULTILINE):
            yield Path(file).name, int(line), code

    return reports


class Checker(NamedTuple):
    """A type checker: its command, how it prints reports, and its column in the table."""

    command: str
    reports: Callable[[str], Iterator[Report]]
    column: int


PYRIGHT = "{} --outputjson --pythonversion {{version}} --pythonpath {{python}}"
CHECKERS = {
    "mypy": Checker(
        "mypy --hide-error-context --python-version {version} --python-executable {python}",
        reports_in_lines(r"^(.+?):(\d+): error: .*\[([\w-]+)\]$"),
        0,
    ),
    "pyright": Checker(PYRIGHT.format("pyright"), pyright_reports, 1),
    "basedpyright": Checker(PYRIGHT.format("basedpyright"), pyright_reports, 1),
    "pyrefly": Checker(
        "pyrefly check --output-format min-text --python-version {version} "
        "--python-interpreter-path {python}",
        reports_in_lines(r"^ *[A-Z]+ (.+?):(\d+):\S+ .*\[([\w-]+)\]$"),
        2,
    ),
    "ty": Checker(
        "ty check --output-format concise --python-version {version} --python {python}",
        reports_in_lines(r"^(.+?):(\d+):\d+: \w+\[([\w-]+)\]"),
        3,
    ),
}


def mistakes() -> dict[tuple[str, int], str]:
    """Return the mistakes that the files name, by file and line."""
    found: dict[tuple[str, int], str] = {}
    for file in FILES:
        for number, line in enumerate((HERE / file).read_text().splitlines(), 1):
            if match := re.search(r"  # wrong: (\S+)$", line):
                found[file, number] = match[1]
    return found


def run(checker: Checker, version: str) -> dict[tuple[str, int], set[str]]:
    """Return the codes that a checker reports, by file and line."""
    command = checker.command.format(version=version, python=sys.executable)
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), *FILES],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 1:  # there is something wrong to find
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    codes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for file, line, code in checker.reports(done.stdout):
        codes[file, line].add(code)
    return codes


def differences(checker: Checker, version: str) -> Iterator[str]:
    """Yield what a checker reports too much or too little."""
    reported, expected = run(checker, version), mistakes()
    for place in sorted(reported.keys() | expected.keys()):
        codes = ", ".join(sorted(reported.get(place, {"no report"})))
        where = f"{place[0]}:{place[1]}"
        if place not in expected:
            yield f"{where}: {codes} where nothing is wrong"
        elif (code := CODES[expected[place]][checker.column]) not in reported.get(place, ()):
            yield f"{where}: {codes} instead of {code}"


def main() -> None:
    """Run all checkers for all versions; exit with the differences, if there are any."""
    found = [
        f"{name} for Python {version}: {difference}"
        for version in VERSIONS
        for name, checker in CHECKERS.items()
        for difference in differences(checker, version)
    ]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
