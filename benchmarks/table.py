"""The table: one line for each peer of each case."""

from collections.abc import Iterable, Sequence

from benchmarks.case import Figure, Target, Unit
from benchmarks.result import Result

HEADINGS = ("case", "mmapwrap", "peer", "its median", "ratio", "target", "reached")


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """Give the lines of the table, without its headings."""
    return [row for result in results for row in rows_of(result)]


def rows_of(result: Result) -> list[tuple[str, ...]]:
    """Give the lines of one case."""
    unit = result.case.unit
    return [
        (
            result.case.name,
            amount(result.value, unit),
            each.peer.name,
            amount(each.value, unit),
            figure(each.figure, each.peer.target, unit),
            bound(each.peer.target, unit),
            reached(each.is_reached, each.peer.target),
        )
        for each in result.comparisons()
    ]


def amount(value: float, unit: Unit) -> str:
    """Say a value in its unit."""
    match unit:
        case Unit.SHARE:
            return f"{100 * value:.0f} %"
        case Unit.BYTES:
            return f"{value:.0f} bytes"
        case Unit.SECONDS:
            return seconds(value)


def seconds(value: float) -> str:
    """Say a time with three digits."""
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


def figure(value: float, target: Target, unit: Unit) -> str:
    """Say what the target is about."""
    match target.figure:
        case Figure.TIMES | Figure.SPEED:
            return f"{value:.2f} {target.figure.value}"
        case Figure.MORE:
            return f"{amount(value, unit)} {target.figure.value}"
        case Figure.ITSELF:
            return amount(value, unit)


def bound(target: Target, unit: Unit) -> str:
    """Say what was to be reached."""
    if target.bound is None:
        return "-"
    is_ratio = target.figure in {Figure.TIMES, Figure.SPEED}
    number = f"{target.bound:g}" if is_ratio else amount(target.bound, unit)
    return f"{'≥' if target.at_most is None else '≤'} {number}"


def reached(is_reached: bool, target: Target) -> str:  # noqa: FBT001
    """Say whether it was."""
    if target.bound is None:
        return "-"
    return "yes" if is_reached else "NO"


def plain(lines: Sequence[Sequence[str]]) -> str:
    """Give the table in columns, for a terminal and for a pipe."""
    everything = [HEADINGS, *lines]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in everything]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text) + "\n"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Give the table for a page."""
    text = [HEADINGS, tuple("---" for _ in HEADINGS), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in text)
