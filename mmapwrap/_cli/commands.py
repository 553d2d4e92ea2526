"""The commands over files: residency, prefetch and evict."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from mmapwrap import MmapError
from mmapwrap._cli.files import (
    FailedPath,
    FoundFile,
    NotRegularFileError,
    OpenedFile,
    UnreadableFileError,
    find_files,
    opened,
)
from mmapwrap._cli.output import Output
from mmapwrap._cli.page_cache import Change, FiguresWithheldError, Measurement, Progress, measure
from mmapwrap._cli.progress import ProgressState
from mmapwrap._cli.report import ChangeLayout, Report, ResidencyLayout

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

Result = TypeVar("Result")
ChangeFile: TypeAlias = Callable[[OpenedFile, Progress], Change]


def residency(paths: Sequence[str], output: Output, *, as_json: bool) -> int:
    """Show of each file how many of its pages are in the page cache, and where.

    Returns:
        The exit status.
    """
    report = Report[Measurement](ResidencyLayout(), output, as_json=as_json)
    try:
        for sighting in find_files(paths):
            if isinstance(sighting, FailedPath):
                report.add_failure(sighting)
            else:
                _work(sighting, measure, report)
    except KeyboardInterrupt:
        return _interrupted(report, output, f"{report.counts} done")
    return _ended(report)


def change(
    command: str, act: ChangeFile, paths: Sequence[str], output: Output, *, as_json: bool
) -> int:
    """Bring each file in or out of the page cache, and show what was there before and after.

    Args:
        command: its name.
        act: what is done with each file.
        paths: files and directories.
        output: where it is shown.
        as_json: as one document instead of lines.

    Returns:
        The exit status.
    """
    report = Report[Change](ChangeLayout(command), output, as_json=as_json)
    state = ProgressState(command)

    def progress(done: int) -> None:
        state.reach(done)
        output.progress.update(state)

    def changed(file: OpenedFile) -> Change:
        return act(file, progress)

    try:
        found: list[FoundFile] = []
        # All are found before the first is worked on: else nobody knows how far the work is.
        for sighting in find_files(paths):
            if isinstance(sighting, FailedPath):
                report.add_failure(sighting)
            else:
                found.append(sighting)
                state.expect(sighting.size)
        for file in found:
            state.begin(file.size)

            progress(0)
            _work(file, changed, report)
            state.finish()
    except KeyboardInterrupt:
        how_far = f"{state.files_done} of {state.files} files done, {state.amount}"
        return _interrupted(report, output, how_far)
    return _ended(report)


def _work(file: FoundFile, act: Callable[[OpenedFile], Result], report: Report[Result]) -> None:
    """Do something with one file, and report what came of it.

    A file that this user may not read, or not ask about, is a failure where it was named. Where a
    walk found it, the report leaves it out.
    """
    try:
        with opened(file) as handle:
            size, result = handle.size, act(handle)
    except (UnreadableFileError, FiguresWithheldError) as error:
        if file.named:
            report.add_failure(FailedPath(file.path, error))
        else:
            report.leave_out(file, error)
    except (OSError, MmapError, NotRegularFileError) as error:
        report.add_failure(FailedPath(file.path, error))
    else:
        report.add(file.path, size, result)


def _interrupted(report: Report[Result], output: Output, how_far: str) -> int:
    report.end(interrupted=True)
    output.complaint(f"interrupted: {how_far}")
    return EXIT_INTERRUPTED


def _ended(report: Report[Result]) -> int:
    report.end(interrupted=False)
    return EXIT_FAILED if report.failed else EXIT_OK
