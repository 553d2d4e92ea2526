"""Shared memory: of a descriptor, and by a name."""

import stat
from typing import Final

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from mmapwrap import (
    AlreadyExistsError,
    ClosedMappingError,
    InvalidArgumentError,
    MemfdSeals,
    MissingSealsError,
    NoSuchFileError,
    PastEndOfFileError,
)
from random_programs.arguments import picks, sizes
from random_programs.creation_steps import CreationSteps, umask
from random_programs.model import File, Store
from random_programs.program import Errors, Program

NAMES: Final = ("one", "one", "two", "three")
WRONG_NAMES: Final = ("''", "'/'", "'..'", "'a/b'", r"'a\0'", "'x' * 256")


@st.composite
def _spelled(draw: st.DrawFn) -> tuple[str | None, str]:
    """A name, or none where no memory can have it, and the text that makes it."""
    if draw(st.sampled_from((*[False] * 7, True))):
        return None, draw(st.sampled_from(WRONG_NAMES))
    name = draw(st.sampled_from(NAMES))
    start = draw(st.sampled_from(("", "'/' + ")))
    return name, f"{start}prefix + '-{name}'"


class SharedMemorySteps(CreationSteps):
    """How shared memory is come by, and what it says of itself."""

    @precondition(lambda self: self.has_files() and len(self.files) < 6)
    @rule(
        pick=picks,
        way=st.sampled_from(("from_fd", "from_file")),
        size=st.none() | sizes,
        required=st.sampled_from(("", "", "SHRINK", "GROW")),
    )
    def hold_file(self, pick: int, way: str, size: int | None, required: str) -> None:
        """Another holder of what is behind a descriptor, of a file as well."""
        file = self.some(self.files, pick)
        assert file.store.size is not None
        seals = MemfdSeals[required] if required else MemfdSeals(0)
        call = f"from_fd({file.name}, {size}, required_seals=MemfdSeals({int(seals)}))"
        if way == "from_file":
            call, size, seals = f"from_file({file.name})", None, MemfdSeals(0)
        must: Errors = {ClosedMappingError, ValueError} if file.is_closed else set()
        if size == 0:
            must.add(InvalidArgumentError)
        if size is not None and size > file.store.size:
            must.add(PastEndOfFileError)
        if seals & ~file.store.seals:
            must.add(MissingSealsError)
        name = self.new_name("s")
        if self.step(f"{name} = SharedMemory.{call}", must):
            known = file.store.size if size is None else size
            is_sealable = file.is_memfd and file.is_sealable
            self.files.append(
                File(name, file.store, known, True, is_sealable=is_sealable, label=file.label)
            )
            self.compare_memory(self.files[-1])

    @precondition(Program.has_files)
    @rule(pick=picks)
    def look_at_memory(self, pick: int) -> None:
        file = self.some(self.files, pick)
        if file.is_memfd:
            self.compare_memory(file)

    def compare_memory(self, file: File) -> None:
        name = file.name
        self.step(f"_ = {name}.size, {name}.name, {name}.closed, repr({name})")
        size, label, is_closed, _ = self.result
        assert (size, is_closed) == (file.size, file.is_closed)
        assert file.label in (None, label)
        must: Errors = {ClosedMappingError} if file.is_closed else set()
        if self.step(f"_ = os.fstat({name}.fileno()).st_size", must):
            assert self.result == file.store.size

    # --- By a name --------------------------------------------------------------------------------

    @precondition(lambda self: len(self.files) < 6)
    @rule(
        spelled=_spelled(),
        size=sizes,
        allocates=st.sampled_from((None, False, True)),
        mode=st.sampled_from((None, None, 0o600, 0o640, -1)),
    )
    def create_named(
        self,
        spelled: tuple[str | None, str],
        size: int,
        allocates: bool | None,
        mode: int | None,
    ) -> None:
        label, text = spelled
        must: Errors = {InvalidArgumentError} if label is None or mode == -1 else set()
        if label in self.named:
            must.add(AlreadyExistsError)
        options = "" if allocates is None else f", allocate={allocates}"
        options += "" if mode is None else f", mode={mode}"
        name = self.new_name("s")
        if self.step(f"{name} = SharedMemory.create_named({text}, {size}{options})", must):
            assert label is not None
            store = self.named[label] = Store(size)
            self.hold_named(name, label, store)
            self.compare_file(self.files[-1])  # of zeros
            self.step(f"_ = os.stat('/dev/shm/' + prefix + '-{label}')")
            status = self.result
            assert status.st_size == size
            assert stat.S_IMODE(status.st_mode) == (mode or 0o600) & ~umask()
            assert allocates is False or status.st_blocks * 512 >= size
        self.compare_names()

    def hold_named(self, name: str, label: str, store: Store) -> None:
        assert store.size is not None
        label = f"{self.space['prefix']}-{label}"
        self.files.append(File(name, store, store.size, True, is_sealable=False, label=label))
        self.compare_memory(self.files[-1])

    @precondition(lambda self: len(self.files) < 6)
    @rule(spelled=_spelled())
    def open_named(self, spelled: tuple[str | None, str]) -> None:
        label, text = spelled
        must: Errors = {InvalidArgumentError} if label is None else set()
        if label is not None and label not in self.named:
            must.add(NoSuchFileError)
        name = self.new_name("s")
        if self.step(f"{name} = SharedMemory.open_named({text})", must):
            assert label is not None
            self.hold_named(name, label, self.named[label])

    @rule(spelled=_spelled())
    def unlink_named(self, spelled: tuple[str | None, str]) -> None:
        """The name goes; who holds the memory keeps it."""
        label, text = spelled
        must: Errors = {InvalidArgumentError} if label is None else set()
        if label is not None and label not in self.named:
            must.add(NoSuchFileError)
        if self.step(f"SharedMemory.unlink_named({text})", must):
            assert label is not None
            del self.named[label]
        self.compare_names()

    def remove_named(self) -> None:
        for label in list(self.named):
            self.unlink_named((label, f"prefix + '-{label}'"))
