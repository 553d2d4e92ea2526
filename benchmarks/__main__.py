"""Measures mmapwrap beside its peers, and says which targets are reached.

    nox -s bench -- [--quick] [--only PATTERN] [--output DIR] [--write docs/performance.md]

It needs a C compiler, 3 GiB of memory, and 2 GiB on a disk.

Every case is measured in rounds, each of which measures mmapwrap and all its peers. The table has
medians over the rounds; its ratio is the median of the rounds' ratios.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

from benchmarks import cases, page, store, table
from benchmarks.bench import Bench, UnavailableError
from benchmarks.c_peers import compiled_peers
from benchmarks.case import Case
from benchmarks.picture import picture as drawn
from benchmarks.result import Result, measured
from benchmarks.timing import FULL, QUICK
from mmapwrap import MmapError

RESULTS = ("benchmarks.json", "benchmarks.md", "benchmarks.svg")
LIBRARIES = ("mmapwrap", "cffi", "attrs", "numpy")


def arguments() -> argparse.Namespace:
    """Read the command line, and find what is wrong with it before anything is measured."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench --", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under two minutes")
    parser.add_argument(
        "--only", metavar="PATTERN", type=pattern, help="cases whose name this regex finds"
    )
    parser.add_argument("--list", action="store_true", help="name the cases and do nothing")
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="build/benchmarks",
        help="where benchmarks.json, .md and .svg are saved (%(default)s)",
    )
    parser.add_argument("--write", metavar="PAGE", help="put table and picture into this page too")
    parser.add_argument("--base", default=".", metavar="DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.cases = [case for case in cases.ALL if not args.only or args.only.search(case.name)]
    args.output = Path(args.base, args.output)
    args.write = Path(args.base, args.write) if args.write else None
    if not args.cases:
        parser.error(f"--only: no case has a name with {args.only.pattern!r} in it")
    if args.write and args.only:
        parser.error("--write is for all cases, and --only leaves some out")
    try:
        if args.write:
            page.parts(args.write)
        if not args.list:
            args.output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(f"--output or --write: {error}")
    written = [args.output / name for name in RESULTS]
    if args.write:
        written += [args.write, args.write.with_suffix(".svg")]
    for path in written:
        if not args.list and not os.access(path if path.exists() else path.parent, os.W_OK):
            parser.error(f"{path} cannot be written")
    return args


def pattern(text: str) -> re.Pattern[str]:
    """Read a regular expression."""
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


@attrs.define
class Outcome:
    """What came of the cases."""

    results: list[Result] = attrs.Factory(list[Result])
    left_out: list[str] = attrs.Factory(list[str])
    failed: list[str] = attrs.Factory(list[str])


def run(wanted: list[Case], bench: Bench) -> Outcome:
    """Run cases, and say so on stderr; one that fails does not take the others with it."""
    outcome = Outcome()
    for number, case in enumerate(wanted, 1):
        start = time.monotonic()
        print(f"[{number}/{len(wanted)}] {case.name}", end="", file=sys.stderr, flush=True)
        try:
            outcome.results.append(measured(case, bench))
        except UnavailableError as error:
            outcome.left_out.append(f"{case.name}: not measured: {error}")
        except (OSError, MemoryError, MmapError, subprocess.SubprocessError) as error:
            outcome.failed.append(f"{case.name}: failed: {type(error).__name__}: {error}")
        print(f" ({time.monotonic() - start:.1f} s)", file=sys.stderr, flush=True)
    return outcome


def summary(results: list[Result]) -> str:
    """Say how many targets are reached."""
    compared = [each for result in results for each in result.comparisons()]
    aimed = [each for each in compared if each.peer.target.bound is not None]
    return f"{sum(each.is_reached for each in aimed)} of {len(aimed)} targets reached."


def description(about: dict[str, Any], results: list[Result], *, is_quick: bool) -> str:
    """Say what was measured, on what."""
    rounds = [len(result.samples[0]) for result in results]
    system = os.uname()
    return (
        f"A {'quick' if is_quick else 'full'} run, {min(rounds)} to {max(rounds)} rounds a case, "
        f"on {about.get('cpu_model_name', system.machine)}, {about.get('cpu_count')} CPUs, "
        f"{system.sysname} {system.release}, Python {about['python_version']}; "
        f"{', '.join(f'{name} {version(name)}' for name in LIBRARIES)}."
    )


def report(outcome: Outcome, about: dict[str, Any], args: argparse.Namespace) -> None:
    """Print, save and put into the page what was found."""
    results = outcome.results
    lines, others = table.rows(results), [*outcome.left_out, *outcome.failed]
    what = description(about, results, is_quick=args.quick)
    print(what, "", table.plain(lines), *others, summary(results), sep="\n")
    text = [
        f"{what}\n",
        table.markdown(lines),
        *(f"{line}\n" for line in others),
        f"{summary(results)}\n",
    ]
    samples, written, picture = (args.output / name for name in RESULTS)
    store.save(results, samples, about)
    picture.write_text(drawn(results))
    written.write_text("\n".join([*text, f"![]({picture.name})\n"]))
    print(f"The samples, the table and the picture are in {args.output}.")
    if args.write:
        args.write.with_suffix(".svg").write_text(drawn(results))
        shown = f"![How far each figure is from its target]({args.write.stem}.svg)\n"
        page.write_between_marks(args.write, "\n".join([*text, shown]))


def main() -> None:
    """Run what is asked for."""
    args = arguments()
    if args.list:
        print("\n".join(case.name for case in args.cases))
        return
    bench = Bench(QUICK if args.quick else FULL, args.quick, compiled_peers())
    about = store.metadata()
    outcome = run(args.cases, bench)
    if outcome.results:
        report(outcome, about, args)
    else:
        print(*outcome.left_out, *outcome.failed, sep="\n")
    if outcome.failed:
        sys.exit(f"{len(outcome.failed)} of {len(args.cases)} cases failed")


if __name__ == "__main__":
    main()
