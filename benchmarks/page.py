"""A page that holds generated text between two marks."""

from pathlib import Path

BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->"


def parts(page: Path) -> tuple[str, str, str]:
    """Give what stands before, between and after the marks of a page, which must have both."""
    before, begin, rest = page.read_text().partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN.strip()} and {END}")
    return before, between, after


def write_between_marks(page: Path, made: str) -> None:
    """Replace what is between the marks of a page."""
    before, _, after = parts(page)
    page.write_text(before + BEGIN + made + END + after)
