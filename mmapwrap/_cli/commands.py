"""The commands over files: residency, prefetch and evict."""

import enum
from collections.abc import Iterable, Sequence
from functools import partial

from attrs import define

from mmapwrap import MmapError
from mmapwrap._cli.files import (
    FoundFile,
    NotRegularFileError,
    UnreadableFileError,
    find_files,
    opened,
)
from mmapwrap._cli.output import Output
from mmapwrap._cli.page_cache import FiguresWithheldError, Operation, Progress, measure
from mmapwrap._cli.report import Report
from mmapwrap._cli.text import size_text


class ExitStatus(enum.IntEnum):
    """How a command ended, as its parent process sees it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # the status that a shell shows of a process ended by SIGPIPE


def work_on_files(
    command: str, operation: Operation | None, paths: Sequence[str], output: Output
) -> ExitStatus:
    """Work on each file that the paths name or hold, and report the figures.

    Args:
        command: the command's name.
        operation: brings a file in or out; `None` for a command that only measures.
        paths: files, directories and block devices.
        output: the streams of the command.
    """
    report = Report(command, output)
    work = _Work(command, output)
    try:
        files: Iterable[FoundFile] = find_files(paths, report.add_failure)
        if operation is not None:
            # The progress is a share of all bytes, so all files are found before the work begins.
            files = [work.expect(file) for file in files]
        for file in files:
            start = work.size_done
            _work_on(file, operation, partial(work.show, start, file.size), report)
            work.files_done += 1
            work.size_done = start + file.size
    except KeyboardInterrupt:
        report.end(interrupted=True)
        how_far = f"{report.counts} done" if operation is None else work.text
        output.complain(f"interrupted: {how_far}")
        return ExitStatus.INTERRUPTED
    report.end(interrupted=False)
    return ExitStatus.FAILED if report.has_failures else ExitStatus.OK


def _work_on(
    file: FoundFile, operation: Operation | None, progress: Progress, report: Report
) -> None:
    """Open one file, work on it, and report the figures.

    A file that this user may not read, or not ask about, is a failure where the user named it. The
    report leaves it out where a walk found it.
    """
    try:
        with opened(file) as handle:
            measured = measure(handle, operation, progress)
    except (UnreadableFileError, FiguresWithheldError) as error:
        if file.named:
            report.add_failure(file.path, error)
        else:
            report.leave_out(file, error)
    except (OSError, MmapError, NotRegularFileError) as error:
        report.add_failure(file.path, error)
    else:
        report.add(file.path, handle.size, measured)


@define
class _Work:
    """How much of a command's work is done, in files and in the bytes that they were found with."""

    command: str
    output: Output
    files: int = 0
    size: int = 0
    files_done: int = 0
    size_done: int = 0

    @property
    def text(self) -> str:
        amount = f"{size_text(self.size_done)} of {size_text(self.size)}"
        return f"{self.files_done} of {self.files} files done, {amount}"

    def expect(self, file: FoundFile) -> FoundFile:
        self.files += 1
        self.size += file.size
        return file

    def show(self, start: int, size: int, done: int) -> None:
        """Show that so many bytes of a file are done; it may have grown since it was found."""
        self.size_done = start + min(done, size)
        label = f"{self.command} {self.files_done} of {self.files} files"
        self.output.show_progress(label, self.size_done, self.size)
