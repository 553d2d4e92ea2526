"""Measures mmapwrap beside its peers, and says which targets are reached.

    nox -s bench -- [--quick] [--only PATTERN] [--output DIR] [--write docs/performance.md]

Every case is measured in rounds, each of which measures mmapwrap and all its peers. The table has
medians over the rounds; its ratio is the median of the rounds' ratios.
"""

import argparse
import os
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import cases, store, table
from benchmarks.bench import Bench, UnavailableError
from benchmarks.c_peers import compiled_peers
from benchmarks.case import Case
from benchmarks.page import write_between_marks
from benchmarks.picture import picture
from benchmarks.result import Result, measured
from benchmarks.timing import FULL, QUICK

LIBRARIES = ("mmapwrap", "cffi", "attrs", "numpy")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under two minutes")
    parser.add_argument("--only", metavar="PATTERN", help="cases whose name this regex finds")
    parser.add_argument("--list", action="store_true", help="name the cases and do nothing")
    parser.add_argument("--output", metavar="DIR", help="save benchmarks.json, .md and .svg there")
    parser.add_argument("--write", metavar="PAGE", help="put table and picture into this page")
    parser.add_argument("--base", default=".", metavar="DIR", help="where relative paths start")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write is for all cases, and --only leaves some out")
    return args


def chosen(pattern: str | None) -> list[Case]:
    """Give the cases to run."""
    return [case for case in cases.ALL if re.search(pattern or "", case.name, re.IGNORECASE)]


def run(wanted: list[Case], bench: Bench) -> tuple[list[Result], list[str]]:
    """Run cases, say so on stderr, and give what came of them and of those that cannot be run."""
    results: list[Result] = []
    left_out: list[str] = []
    for number, case in enumerate(wanted, 1):
        start = time.monotonic()
        print(f"[{number}/{len(wanted)}] {case.name}", end="", file=sys.stderr, flush=True)
        try:
            results.append(measured(case, bench))
        except UnavailableError as error:
            left_out.append(f"{case.name}: not measured: {error}")
        print(f" ({time.monotonic() - start:.1f} s)", file=sys.stderr, flush=True)
    return results, left_out


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


def main() -> None:
    """Run what is asked for."""
    args = arguments()
    wanted = chosen(args.only)
    if args.list or not wanted:
        print("\n".join(case.name for case in wanted) or "no case has such a name")
        return
    bench = Bench(QUICK if args.quick else FULL, args.quick, compiled_peers())
    about = store.metadata()
    results, left_out = run(wanted, bench)
    lines = table.rows(results)
    print(table.plain(lines), *left_out, summary(results), sep="\n")
    if not results:
        return
    text = [
        f"{description(about, results, is_quick=args.quick)}\n",
        table.markdown(lines),
        *(f"{line}\n" for line in left_out),
        f"{summary(results)}\n",
    ]
    base = Path(args.base)
    if args.output:
        folder = base / args.output
        folder.mkdir(parents=True, exist_ok=True)
        store.save(results, folder / "benchmarks.json", about)
        (folder / "benchmarks.svg").write_text(picture(results))
        (folder / "benchmarks.md").write_text("\n".join([*text, "![](benchmarks.svg)\n"]))
    if args.write:
        page = base / args.write
        page.with_suffix(".svg").write_text(picture(results))
        shown = f"![How far each figure is from its target]({page.stem}.svg)\n"
        write_between_marks(page, "\n".join([*text, shown]))


if __name__ == "__main__":
    main()
