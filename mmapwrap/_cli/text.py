"""How names, sizes, shares and the places in a file become text."""

import math
from collections.abc import Iterable

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:-=+*o#"
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_LARGEST_UNIT = "EiB"
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def printable(text: str, encoding: str) -> str:
    r"""Write a file name so that it is safe on a terminal and still tells every name apart.

    A byte that is not valid in the name's encoding becomes `\xNN`, a control, an invisible or an
    unencodable character `\xNN` below U+0080 and `\uNNNN` or `\UNNNNNNNN` above, and a backslash is
    doubled.

    Args:
        text: the name, with undecodable bytes as `os.fsdecode` leaves them.
        encoding: that of the stream on which it is written.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_printable_character(character, encoding) for character in text)


def size_text(count: int) -> str:
    """Write a number of bytes with a binary unit and one decimal."""
    if count < 1024:
        return f"{count} B"
    value = count / 1024
    for unit in _UNITS:
        # What would be rounded to 1024.0 belongs to the next unit.
        if value < 1023.95:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_LARGEST_UNIT}"


def percent(part: int, whole: int) -> float | None:
    """Give the share in percent; None of nothing."""
    return 100 * part / whole if whole else None


def percent_text(part: int, whole: int) -> str:
    """Write the share in percent with one decimal: 100.0% is all and 0.0% is none, never nearly."""
    if not whole:
        return "-"
    tenths = round(1000 * part / whole)
    if part < whole:
        tenths = min(tenths, 999)
    if part:
        tenths = max(tenths, 1)
    return f"{tenths // 10}.{tenths % 10}%"


def place_bar(parts: Iterable[tuple[int, int]], *, width: int, blocks: bool) -> str:
    """Draw where in a file its resident pages are.

    Args:
        parts: the resident pages and all pages of each part of the file.
        width: in characters, between the brackets; what the parts leave of it follows as spaces.
        blocks: whether block characters can be shown; else ASCII.
    """
    levels = _BLOCKS if blocks else _ASCII
    drawn = "".join(levels[_level(resident, pages)] for resident, pages in parts)
    return f"[{drawn}]".ljust(width + 2)


def _level(resident: int, pages: int) -> int:
    """Grade a part from 0 (nothing) to 8 (all); what is neither never looks like one of them."""
    if resident in (0, pages):
        return 8 if resident else 0
    return max(1, min(7, math.floor(8 * resident / pages + 0.5)))


def _printable_character(character: str, encoding: str) -> str:
    short = _SHORT_ESCAPES.get(character)
    if short is not None:
        return short
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            pass
        else:
            return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
