"""What the commands over files say: a row or a JSON object for each file, and a total."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias, final

from attrs import asdict

from mmapwrap import MmapError, page_size
from mmapwrap._cli.files import FoundFile
from mmapwrap._cli.output import Output
from mmapwrap._cli.page_cache import Figures, cell_bounds, page_count
from mmapwrap._cli.text import count_text, percent, percent_text, places_text, size_text

JsonObject: TypeAlias = dict[str, Any]

_MOMENTS = ("before", "after")
_NOTHING = {"pages": 0, "resident_pages": 0, "resident_bytes": 0}


@final
class Report:
    """What one run of a command did, file by file.

    `residency` has one measurement of each file; the other commands have one before and one after.
    """

    def __init__(self, command: str, output: Output) -> None:
        self._command = command
        self._output = output
        self._files: list[JsonObject] = []
        self._errors: list[JsonObject] = []
        self._left_out: list[JsonObject] = []
        self._total = Counter(files=0, size=0, pages=0)
        if command == "residency":
            headings = ["resident/pages", "percent", "where"]
            self._sums = [Counter(_NOTHING)]
        else:
            headings = ["pages", *_MOMENTS]
            self._sums = [Counter({**_NOTHING, "unknown_files": 0}) for _ in _MOMENTS]
        if not output.as_json:
            output.heading("size", *headings, "file")

    @property
    def has_failures(self) -> bool:
        """Whether a path could not be worked on."""
        return bool(self._errors)

    @property
    def counts(self) -> str:
        """The number of files done and of paths failed, in words."""
        files = count_text(self._total["files"], "file")
        return f"{files}, {len(self._errors)} failed" if self._errors else files

    def add(self, path: str, size: int, measured: Sequence[Figures | None]) -> None:
        """Print the row of a file, or keep its JSON object for the document."""
        pages = page_count(size)
        self._total.update(files=1, size=size, pages=pages)
        for total, figures in zip(self._sums, measured, strict=True):
            if figures is None:
                total.update(unknown_files=1)
            else:
                resident, held = figures.resident_pages, figures.resident_bytes
                total.update(pages=pages, resident_pages=resident, resident_bytes=held)
        if self._output.as_json:
            members = _by_moment([None if each is None else asdict(each) for each in measured])
            self._files.append({"path": path, "size": size, "pages": pages, **members})
        else:
            fields = _fields(pages, measured)
            self._output.row(size_text(size), *fields, self._output.name(path))

    def add_failure(self, path: str, error: Exception) -> None:
        """Count a path that could not be worked on, and print a message about it."""
        number = getattr(error, "errno", None)
        self._errors.append({"path": path, "errno": number, **_error_members(error)})
        self._output.complain(_message(error), path=path)

    def leave_out(self, file: FoundFile, error: Exception) -> None:
        """Count a file that the user may not work on; `end` sums these files up in one line."""
        self._left_out.append({"path": file.path, "size": file.size, **_error_members(error)})

    def end(self, *, interrupted: bool) -> None:
        """Print the total, or the whole document."""
        if self._output.as_json:
            self._output.document(self._document(interrupted=interrupted))
            return
        sizes: dict[str, list[int]] = {}
        for file in self._left_out:
            sizes.setdefault(file["message"], []).append(file["size"])
        for message, of_files in sizes.items():
            amount = f"{count_text(len(of_files), 'file')}, {size_text(sum(of_files))}"
            self._output.line(f"left out: {amount}; {message}")
        self._output.line(f"total: {self.counts}; {self._total_text()}")

    def _total_text(self) -> str:
        size = size_text(self._total["size"])
        texts = [
            f"{total['resident_pages']} of {count_text(total['pages'], 'page')}"
            for total in self._sums
        ]
        last = self._sums[-1]
        if len(texts) == 1:
            share = percent_text(last["resident_pages"], last["pages"])
            return f"{texts[0]} resident, {size_text(last['resident_bytes'])} of {size} ({share})"
        # The kernel withholds both figures of a file, or none.
        count = last["unknown_files"]
        unknown = f"; unknown of {count_text(count, 'file')}" if count else ""
        return f"{size}; resident: {texts[0]} before, {texts[1]} after{unknown}"

    def _document(self, *, interrupted: bool) -> JsonObject:
        left_out_bytes = sum(file["size"] for file in self._left_out)
        return {
            "command": self._command,
            "page_size": page_size(),
            "interrupted": interrupted,
            "files": self._files,
            "total": {
                **self._total,
                "failed": len(self._errors),
                "left_out_files": len(self._left_out),
                "left_out_bytes": left_out_bytes,
                **_by_moment([_sum_members(total) for total in self._sums]),
            },
            "errors": self._errors,
            "left_out": self._left_out,
        }


def _fields(pages: int, measured: Sequence[Figures | None]) -> list[str]:
    """Return the fields of a row between the file's size and its name."""
    match measured:
        case [Figures() as figures]:
            parts = [end - start for start, end in cell_bounds(pages)]
            return [
                f"{figures.resident_pages}/{pages}",
                percent_text(figures.resident_pages, pages),
                places_text(zip(figures.cells, parts, strict=True)),
            ]
        case _:
            unknown_or_pages = (
                "unknown" if figures is None else str(figures.resident_pages)
                for figures in measured
            )
            return [str(pages), *unknown_or_pages]


def _by_moment(measurements: Sequence[JsonObject | None]) -> JsonObject:
    """Return the members of the only measurement, or an object for each moment."""
    match measurements:
        case [dict() as members]:
            return members
        case _:
            return dict(zip(_MOMENTS, measurements, strict=True))


def _sum_members(total: Counter[str]) -> JsonObject:
    share = percent(total["resident_pages"], total["pages"])
    return {**{name: total[name] for name in total if name != "pages"}, "percent": share}


def _error_members(error: Exception) -> JsonObject:
    return {"error": type(error).__name__, "message": _message(error)}


def _message(error: Exception) -> str:
    """Return the error's message without its path, which the line names already."""
    if isinstance(error, OSError) and not isinstance(error, MmapError):
        return str(error.strerror)
    return str(error)
