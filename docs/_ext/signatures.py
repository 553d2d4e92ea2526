"""How the reference shows names: with the types that users have, and not with the package's own.

- `SupportsIndex` in a signature reads `int`; the page `api/index` says what is accepted.
- A private name gives way to the public one that stands for it, and a private base of an error to
  its own bases.
"""

import inspect
import re
import typing

import numpy  # noqa: F401  # isort: skip  # it has a use of its own for SupportsIndex
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

# The package's modules import the name when they are imported, so all annotations have `int`.
_supports_index = typing.SupportsIndex
typing.SupportsIndex = int  # type: ignore[misc]
import mmapwrap.mmap  # noqa: E402
import mmapwrap.unsafe  # noqa: E402, F401

typing.SupportsIndex = _supports_index  # type: ignore[misc]

# Private names in signatures, as patterns, and what is shown.
SHOWN = {
    "_([TUEP])(?:_co)?": r"\1",
    "_IntoArena": "MemoryMapping",
    "(?:Readable|Writable)Buffer": "Buffer",
    "SupportsIndex": "int",
    "READ_WRITE": "Protection.read_write()",
    "_READ_WRITE": "PROT_READ | PROT_WRITE",
    "NO_SEALS": "MemfdSeals(0)",
    "([A-Z][A-Za-z]*)": r"\1",  # of a private module
}

# A line without a colon, which napoleon reads in place of the first line.
NO_TYPE = ".."


def show_public_names(
    _app: Sphinx,
    _what: str,
    _name: str,
    _obj: object,
    _options: object,
    arguments: str | None,
    returned: str | None,
) -> tuple[str, str] | None:
    """Put public names into a signature."""
    if not arguments:
        return None

    def shown(text: str) -> str:
        for name, public in SHOWN.items():
            text = re.sub(rf"(?:~mmapwrap\.[\w.]+\.)?\b{name}\b", public, text)
        return text

    return shown(arguments), shown(returned or "")


def show_public_bases(
    _app: Sphinx, _name: str, _obj: type, _options: object, bases: list[type]
) -> None:
    """Put the bases of a private base in its place."""
    for base in list(bases):
        if inspect.isclass(base) and base.__name__.startswith("_"):
            at = bases.index(base)
            bases[at : at + 1] = [kind for kind in base.__bases__ if kind not in bases]


def keep_first_line(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Keep a colon in the docstring of an attribute: napoleon would read a type before it."""
    if what in {"attribute", "property"}:
        lines[:0] = [NO_TYPE, ""]


def mend(
    _app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Drop the line that `keep_first_line` has put in front; keep a number from being a list."""
    if lines[:1] == [NO_TYPE]:
        del lines[:2]
    lines[:] = [re.sub(r"^(:ivar \w+: \d+)\.$", r"\1\.", line) for line in lines]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the functions to autodoc."""
    app.connect("autodoc-process-docstring", keep_first_line, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", mend, priority=900)  # and after it
    app.connect("autodoc-process-signature", show_public_names)
    app.connect("autodoc-process-bases", show_public_bases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
