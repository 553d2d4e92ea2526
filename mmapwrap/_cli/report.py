"""What the commands over files show: a line or a JSON object a file, and a total."""

from typing import Any, Generic, Protocol, TypeAlias, TypeVar, final

from attrs import define, frozen

from mmapwrap import MmapError, page_size
from mmapwrap._cli.files import FailedPath, FoundFile
from mmapwrap._cli.output import Output, Span, Style
from mmapwrap._cli.page_cache import CELLS, Change, Measurement, page_count
from mmapwrap._cli.text import percent, percent_text, place_bar, size_text

Result = TypeVar("Result")
Shown_contra = TypeVar("Shown_contra", contravariant=True)
JsonObject: TypeAlias = dict[str, Any]


class Layout(Protocol[Shown_contra]):
    """How one command shows its results, and what it adds up."""

    command: str
    heading: str

    def add(self, result: Shown_contra) -> None:
        """Add a file's result to the totals."""
        ...

    def columns(self, size: int, result: Shown_contra, *, blocks: bool) -> list[Span]:
        """Give what stands before the file's name in its line."""
        ...

    def members(self, result: Shown_contra) -> JsonObject:
        """Give what the file's JSON object holds besides its path, size and pages."""
        ...

    def total(self, size: int) -> str:
        """Give what the total line says besides the number of files."""
        ...

    def total_members(self) -> JsonObject:
        """Give what the JSON total holds besides the numbers of files, bytes and pages."""
        ...


@frozen
class _LeftOutFile:
    """A file that a walk found and the command did not work on, and why."""

    file: FoundFile
    error: Exception


@final
class Report(Generic[Result]):
    """What one run of a command did, file by file, and how it shows it."""

    def __init__(self, layout: Layout[Result], output: Output, *, as_json: bool) -> None:
        self._layout = layout
        self._output = output
        self._as_json = as_json
        self._objects: list[JsonObject] = []
        self._failures: list[FailedPath] = []
        self._left_out: list[_LeftOutFile] = []
        self._files = 0
        self._size = 0
        self._pages = 0
        if not as_json:
            output.line((f"{layout.heading} file", Style.HEADING))

    @property
    def failed(self) -> bool:
        """Whether a path could not be worked on."""
        return bool(self._failures)

    @property
    def counts(self) -> str:
        """How many files were done, and how many paths failed, in words."""
        files = _plural(self._files, "file")
        return f"{files}, {len(self._failures)} failed" if self._failures else files

    def add(self, path: str, size: int, result: Result) -> None:
        """Show the result of a file, or keep it for the document."""
        self._files += 1
        self._size += size
        self._pages += page_count(size)
        self._layout.add(result)
        if self._as_json:
            members = self._layout.members(result)
            self._objects.append({"path": path, "size": size, "pages": page_count(size), **members})
        else:
            columns = self._layout.columns(size, result, blocks=self._output.blocks)
            self._output.line(*columns, (" ", Style.PLAIN), self._output.name(path))

    def add_failure(self, failure: FailedPath) -> None:
        """Complain about a path that could not be worked on, and count it."""
        self._failures.append(failure)
        self._output.complaint(_reason(failure.error), path=failure.path)

    def leave_out(self, file: FoundFile, error: Exception) -> None:
        """Count a file that the user may not work on; one line at the end sums all of them up."""
        self._left_out.append(_LeftOutFile(file, error))

    def end(self, *, interrupted: bool) -> None:
        """Show the total, or the whole document."""
        if self._as_json:
            total = {
                "files": self._files,
                "failed": len(self._failures),
                "left_out_files": len(self._left_out),
                "left_out_bytes": sum(left_out.file.size for left_out in self._left_out),
                "size": self._size,
                "pages": self._pages,
            }
            self._output.document(
                {
                    "command": self._layout.command,
                    "page_size": page_size(),
                    "interrupted": interrupted,
                    "files": self._objects,
                    "total": total | self._layout.total_members(),
                    "errors": [_failure_json(failure) for failure in self._failures],
                    "left_out": [_left_out_json(left_out) for left_out in self._left_out],
                }
            )
        else:
            self._show_left_out()
            total_line = f"total: {self.counts}; {self._layout.total(self._size)}"
            self._output.line((total_line, Style.PLAIN))

    def _show_left_out(self) -> None:
        sizes: dict[str, list[int]] = {}
        for left_out in self._left_out:
            sizes.setdefault(_reason(left_out.error), []).append(left_out.file.size)
        for reason, of_files in sizes.items():
            amount = f"{_plural(len(of_files), 'file')}, {size_text(sum(of_files))}"
            self._output.line((f"left out: {amount}; {reason}", Style.PLAIN))


@define
class _Sum:
    """The sum of measurements, and how many files were not measured."""

    unknown: int = 0
    pages: int = 0
    resident: int = 0
    resident_bytes: int = 0

    def add(self, measurement: Measurement | None) -> None:
        if measurement is None:
            self.unknown += 1
        else:
            self.pages += measurement.pages
            self.resident += measurement.resident
            self.resident_bytes += measurement.resident_bytes

    def members(self) -> JsonObject:
        return {
            "resident_pages": self.resident,
            "resident_bytes": self.resident_bytes,
            "percent": percent(self.resident, self.pages),
        }


@final
class ResidencyLayout:
    """How much of each file is resident, and where."""

    command = "residency"
    heading = f"{'size':>10} {'resident/pages':>17} {'':>6} {'where':<{CELLS + 2}}"

    def __init__(self) -> None:
        self._sum = _Sum()

    def add(self, result: Measurement) -> None:
        """Add a file's result to the totals."""
        self._sum.add(result)

    def columns(self, size: int, result: Measurement, *, blocks: bool) -> list[Span]:
        """Give what stands before the file's name in its line."""
        pages = f"{result.resident}/{result.pages}"
        share = percent_text(result.resident, result.pages)
        parts = zip(result.cells, result.cell_pages(), strict=True)
        return [
            (f"{size_text(size):>10} {pages:>17} {share:>6} ", Style.PLAIN),
            (place_bar(parts, width=CELLS, blocks=blocks), Style.PLACE),
        ]

    def members(self, result: Measurement) -> JsonObject:
        """Give what the file's JSON object holds besides its path, size and pages."""
        return _measurement_json(result)

    def total(self, size: int) -> str:
        """Give what the total line says besides the number of files."""
        total = self._sum
        return (
            f"{total.resident} of {_plural(total.pages, 'page')} resident, "
            f"{size_text(total.resident_bytes)} of {size_text(size)} "
            f"({percent_text(total.resident, total.pages)})"
        )

    def total_members(self) -> JsonObject:
        """Give what the JSON total holds besides the numbers of files, bytes and pages."""
        return self._sum.members()


@final
class ChangeLayout:
    """How much of each file was resident before and after it was brought in or out."""

    heading = f"{'size':>10} {'pages':>10} {'before':>10} {'after':>10}"

    def __init__(self, command: str) -> None:
        self.command = command
        self._before = _Sum()
        self._after = _Sum()

    def add(self, result: Change) -> None:
        """Add a file's result to the totals."""
        self._before.add(result.before)
        self._after.add(result.after)

    def columns(self, size: int, result: Change, *, blocks: bool) -> list[Span]:  # noqa: ARG002, a layout's signature
        """Give what stands before the file's name in its line."""
        before, after = (
            "unknown" if measurement is None else str(measurement.resident)
            for measurement in (result.before, result.after)
        )
        columns = f"{size_text(size):>10} {page_count(size):>10} {before:>10} {after:>10}"
        return [(columns, Style.PLAIN)]

    def members(self, result: Change) -> JsonObject:
        """Give what the file's JSON object holds besides its path, size and pages."""
        return {
            "before": result.before and _measurement_json(result.before),
            "after": result.after and _measurement_json(result.after),
        }

    def total(self, size: int) -> str:
        """Give what the total line says besides the number of files."""
        before, after = self._before, self._after
        # Who is not told before is not told after.
        unknown = f"; unknown of {_plural(after.unknown, 'file')}" if after.unknown else ""
        return (
            f"{size_text(size)}; resident: "
            f"{before.resident} of {_plural(before.pages, 'page')} before, "
            f"{after.resident} of {_plural(after.pages, 'page')} after{unknown}"
        )

    def total_members(self) -> JsonObject:
        """Give what the JSON total holds besides the numbers of files, bytes and pages."""
        return {
            when: {"unknown_files": total.unknown, **total.members()}
            for when, total in (("before", self._before), ("after", self._after))
        }


def _measurement_json(measurement: Measurement) -> JsonObject:
    return {
        "resident_pages": measurement.resident,
        "resident_bytes": measurement.resident_bytes,
        "percent": percent(measurement.resident, measurement.pages),
        "cells": measurement.cells,
    }


def _failure_json(failure: FailedPath) -> JsonObject:
    return {
        "path": failure.path,
        "error": type(failure.error).__name__,
        "errno": getattr(failure.error, "errno", None),
        "message": _reason(failure.error),
    }


def _left_out_json(left_out: _LeftOutFile) -> JsonObject:
    return {
        "path": left_out.file.path,
        "size": left_out.file.size,
        "error": type(left_out.error).__name__,
        "message": _reason(left_out.error),
    }


def _reason(error: Exception) -> str:
    """Say what went wrong, without the path that stands before it already."""
    if isinstance(error, OSError) and not isinstance(error, MmapError):
        return str(error.strerror)
    return str(error)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
