"""The picture: how far each figure is from its target, on a logarithmic scale."""

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape

import attrs

from benchmarks.case import Figure, Target
from benchmarks.result import Result
from benchmarks.table import bound, figure

LABELS, BARS, NOTES, LINE, TOP = 560, 320, 230, 22, 56
LEAST, MOST = 1 / 8, 8  # what the scale holds; bars that would go on end there
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.head { font-weight: 600 } .note { font-size: 12px } .scale { font-size: 11px; fill: #6e7781 }
.grid { stroke: #d0d7de } .target { stroke: #24292f; stroke-width: 1.5 }
.reached { fill: #2da44e } .missed { fill: #cf222e } .ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .scale { fill: #8d96a0 } .grid { stroke: #30363d }
.target { stroke: #e6edf3 } .ground { fill: #0d1117 }
}
"""


@attrs.frozen
class Bar:
    """One line of the picture.

    Args:
        label: The case and the peer.
        margin: How many times better than needed; below 1 the target is missed.
        note: The figure and its target.
    """

    label: str
    margin: float
    note: str


def margin(value: float, target: Target) -> float:
    """How many times better a figure is than the one that is just good enough."""
    assert target.bound is not None
    if value <= 0:
        return 0 if target.at_most is None else math.inf
    return value / target.bound if target.at_most is None else target.bound / value


def bars(results: Iterable[Result]) -> list[Bar]:
    """Give a bar for each comparison that has a target."""
    made: list[Bar] = []
    for result in results:
        for each in result.comparisons():
            target, unit = each.peer.target, result.case.unit
            if target.bound is not None:
                is_alone = target.figure is Figure.ITSELF
                label = result.case.name if is_alone else f"{result.case.name}, {each.peer.name}"
                note = f"{figure(each.figure, target, unit)} ({bound(target, unit)})"
                made.append(Bar(label, margin(each.figure, target), note))
    return made


def place(value: float) -> float:
    """Where on the scale a margin is."""
    inside = min(max(value, LEAST), MOST)
    return LABELS + BARS * math.log(inside / LEAST) / math.log(MOST / LEAST)


def text(kind: str, x: float, y: float, said: str, *, anchor: str = "start") -> str:
    """Write a line of text."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(said)}</text>'


def grid(bottom: float) -> list[str]:
    """Draw the scale: powers of two, of which the first is the target."""
    parts: list[str] = []
    for exponent in range(-3, 4):
        at = place(2.0**exponent)
        name = f"1/{2**-exponent}" if exponent < 0 else str(2**exponent)
        kind = "target" if exponent == 0 else "grid"
        ends = f'x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{bottom}"'
        parts += [text("scale", at, 44, name, anchor="middle"), f'<line class="{kind}" {ends}/>']
    return parts


def drawn_bar(bar: Bar, middle: float) -> list[str]:
    """Draw one line."""
    start, end = sorted((place(1), place(bar.margin)))
    kind = "reached" if bar.margin >= 1 else "missed"
    size = f'width="{max(end - start, 1):.1f}" height="14"'
    return [
        text("case", LABELS - 12, middle + 4, bar.label, anchor="end"),
        f'<rect class="{kind}" x="{start:.1f}" y="{middle - 7:.1f}" {size}/>',
        text("note", LABELS + BARS + 12, middle + 4, bar.note),
    ]


def picture(results: Iterable[Result]) -> str:
    """Draw all targets as an SVG."""
    drawn = bars(results)
    width, height = LABELS + BARS + NOTES, TOP + LINE * len(drawn) + 10
    size = f'width="{width}" height="{height}"'
    about = f'{size} viewBox="0 0 {width} {height}" role="img"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {about}>',
        "<title>How far mmapwrap is from each target</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" {size}/>',
        text("head", LABELS - 12, 22, "case, beside", anchor="end"),
        text("head", LABELS + BARS / 2, 22, "times as good as the target", anchor="middle"),
        text("head", LABELS + BARS + 12, 22, "measured (target)"),
        *grid(height - 10),
    ]
    for number, bar in enumerate(drawn):
        parts += drawn_bar(bar, TOP + LINE * (number + 0.5))
    return "\n".join([*parts, "</svg>"]) + "\n"
