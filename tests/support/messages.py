"""What the text of an error says, as values."""

import re

from mmapwrap import NotPageAlignedError


def nearest_offsets(error: NotPageAlignedError) -> list[int]:
    """The offsets on a page that an error names."""
    return [int(number) for number in re.findall(r"\d+", str(error).partition("nearest")[2])]
