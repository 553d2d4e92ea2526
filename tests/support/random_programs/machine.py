"""The machine: what a program starts with, what it does next, and what must be left at its end."""

import faulthandler
import gc
import sys
from pathlib import Path
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import initialize
from kernel_view import PAGE, mapped_ranges, newly_mapped, open_descriptors

from random_programs.arena_steps import ArenaSteps
from random_programs.arguments import sizes
from random_programs.calls import PROLOGUE
from random_programs.content_steps import ContentSteps
from random_programs.copy_steps import CopySteps
from random_programs.drop_in_content_steps import DropInContentSteps
from random_programs.meeting_steps import MeetingSteps
from random_programs.names import remove_all
from random_programs.shared_memory_steps import SharedMemorySteps
from random_programs.slice_steps import SliceSteps


class Machine(
    ArenaSteps,
    ContentSteps,
    CopySteps,
    DropInContentSteps,
    MeetingSteps,
    SharedMemorySteps,
    SliceSteps,
):
    """One program."""

    patience: ClassVar[float] = 100
    """Seconds for a program, which takes a tenth of one; after them it hangs, however slow."""

    @initialize(
        size=sizes, ways=st.lists(st.sampled_from(("shared", "private", "fd", "map")), max_size=3)
    )
    def begin(self, size: int, ways: list[str]) -> None:
        faulthandler.dump_traceback_later(self.patience, exit=True)
        self.log.start()
        exec(PROLOGUE, self.space)
        gc.collect()
        self.descriptors, self.ranges = open_descriptors(), mapped_ranges()
        self.new_file(size or PAGE, is_memfd=len(ways) % 2 == 1)
        for way in ways:
            self.new_mapping(self.files[0], 0, None, "read_write", way, populates=False)

    def teardown(self) -> None:
        """All that is left is read once more and goes, and nothing stays behind."""
        folder = self.space["folder"]
        try:
            if sys.exc_info()[0] is None:
                for region in self.regions:
                    self.compare_all(region)
                for file in self.files:
                    self.compare_file(file)
                self.remove_named()
                self.remove_paths()
                self.space.clear()
                gc.collect()
                assert open_descriptors() == self.descriptors
                assert newly_mapped(self.ranges) == []
                assert not Path(folder).exists()
        finally:
            remove_all(folder)
        faulthandler.cancel_dump_traceback_later()
