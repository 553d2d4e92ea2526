"""Names, sizes, shares and places in a file as text."""

from collections.abc import Iterable


def printable(text: str, encoding: str) -> str:
    r"""Escape a file name so that it is safe on a terminal, and different names stay different.

    A byte that is not valid in the name's encoding becomes `\xNN`; a control, an invisible or an
    unencodable character `\xNN` below U+0080 and `\uNNNN` or `\UNNNNNNNN` above; a backslash is
    doubled.

    Args:
        text: the name, with undecodable bytes as `os.fsdecode` leaves them.
        encoding: that of the stream on which the name is written.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_escaped(character, encoding) for character in text)


def size_text(count: int) -> str:
    """Return a number of bytes with a binary unit and one decimal."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, 0
    while value >= 1023.95:  # would be rounded to 1024.0, which belongs to the next unit
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {'KMGTPEZY'[unit]}iB"


def count_text(count: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless there is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(part: int, whole: int) -> float | None:
    """Return the share in percent; `None` where the whole is 0."""
    return 100 * part / whole if whole else None


def percent_text(part: int, whole: int) -> str:
    """Return the share in percent with one decimal: 100.0% is exactly all, 0.0% exactly none."""
    return f"{_in_steps(part, whole, 1000) / 10:.1f}%" if whole else "-"


def places_text(parts: Iterable[tuple[int, int]]) -> str:
    """Return a digit for each part of a file: 0 for nothing resident, 8 for all, 1 to 7 between.

    Args:
        parts: the resident pages and all pages of each part; none for an empty file.
    """
    return "".join(str(_in_steps(resident, pages, 8)) for resident, pages in parts) or "-"


def _in_steps(part: int, whole: int, steps: int) -> int:
    """Return the share rounded to steps, of which 0 is exactly none, and the last exactly all."""
    nearest = (2 * steps * part + whole) // (2 * whole)
    return min(max(nearest, 1), steps - 1) if 0 < part < whole else nearest


def _escaped(character: str, encoding: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    if character != "\\" and character.isprintable() and character.encode(encoding, "ignore"):
        return character
    if 0x80 <= code <= 0xFF:  # Python would write \xNN, which stands for a byte here
        return f"\\u{code:04x}"
    return character.encode("unicode_escape").decode()
