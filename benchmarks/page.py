"""A page that holds generated text between two marks."""

from pathlib import Path

BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->"


def write_between_marks(page: Path, made: str) -> None:
    """Replace what is between the marks of a page, which must have both."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN.strip()} and {END}")
    page.write_text(before + begin + made + end + after)
