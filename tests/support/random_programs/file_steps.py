"""Files and shared memory: made, written, cut short, sealed, closed."""

import attrs
import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE, known_bytes

from mmapwrap import (
    ClosedMappingError,
    InvalidSystemCallError,
    MemfdSeals,
    OperationNotPermittedError,
    RegionBusyError,
)
from random_programs.arguments import Spot, agrees, patterns, picks, repeated, sizes, spots
from random_programs.model import KNOWN, File, Store
from random_programs.program import Errors, Program


class FileSteps(Program):
    """What there is to map."""

    @precondition(lambda self: len(self.files) < 6)
    @rule(size=sizes, is_memfd=st.integers(0, 3))
    def make_file(self, size: int, is_memfd: int) -> None:
        self.new_file(size, is_memfd=bool(is_memfd))

    def new_file(self, size: int, *, is_memfd: bool) -> None:
        if is_memfd:
            name = self.new_name("s")
            made = self.step(
                f"{name} = SharedMemory.new('random', {size}, allocate={size % 3 == 0})"
            )
        else:
            name = self.new_name("t")  # no "f": `f32` is a scalar
            made = self.step(f"{name} = tempfile.TemporaryFile()")
            self.step(f"{name}.truncate({size})")
        if made:
            file = File(name, Store(size), size, is_memfd, label="random" if is_memfd else None)
            self.files.append(file)
            if self.names % 2:
                self.step(f"os.pwrite({name}.fileno(), known_bytes({size}), 0)")
                file.store.write(0, known_bytes(size), bytes([KNOWN]) * size)

    @precondition(Program.has_files)
    @rule(pick=picks)
    def clone_file(self, pick: int) -> None:
        file = self.some(self.files, pick)
        if file.is_memfd and len(self.files) < 6:
            name = self.new_name("s")
            must: Errors = {ClosedMappingError} if file.is_closed else set()
            if self.step(f"{name} = {file.name}.try_clone()", must):
                self.files.append(attrs.evolve(file, name=name))

    @precondition(Program.has_files)
    @rule(pick=picks, drops=st.booleans(), way=st.sampled_from(("close", "close", "with")))
    def close_file(self, pick: int, drops: bool, way: str) -> None:
        file = self.some(self.files, pick)
        if way == "close":
            self.step(f"{file.name}.close()")
        else:
            must: Errors = {ValueError} if file.is_closed else set()
            self.step(f"with {file.name}: pass", must)
        file.is_closed = True
        if drops:
            self.step(f"del {file.name}")
            self.files.remove(file)

    @precondition(Program.has_files)
    @rule(pick=picks, size=sizes)
    def truncate_file(self, pick: int, size: int) -> None:
        file = self.some(self.files, pick)
        if not file.is_closed:
            self.truncate(file, size)

    def truncate(self, file: File, size: int) -> None:
        store, sealed = file.store, MemfdSeals.SHRINK
        assert store.size is not None
        if size > store.size:
            sealed = MemfdSeals.GROW
        is_refused = size != store.size and bool(store.seals & sealed)
        must: Errors = {PermissionError} if is_refused else set()
        if self.step(f"os.ftruncate({file.name}.fileno(), {size})", must):
            self.model_resize(file, size)

    @precondition(Program.has_files)
    @rule(pick=picks, spot=spots, pattern=patterns)
    def write_file(self, pick: int, spot: Spot, pattern: bytes) -> None:
        file = self.some(self.files, pick)
        start, count = spot.of(5 * PAGE)
        if not file.is_closed and start >= 0:
            data, text = repeated(pattern, max(count or 9, 0))
            may: Errors = {PermissionError} if file.store.seals else set()
            line = f"_ = os.pwrite({file.name}.fileno(), {text}, {start})"
            if self.step(line, may=may) and data:
                done = self.result
                file.store.write(start, data[:done], bytes([KNOWN]) * done)

    def compare_file(self, file: File) -> None:
        if not file.is_closed:
            assert file.store.size is not None
            self.step(f"_ = os.pread({file.name}.fileno(), {file.store.size + 1}, 0)")
            assert agrees(self.result, *file.store.content(0, file.store.size))

    @precondition(Program.has_files)
    @rule(pick=picks)
    def read_file(self, pick: int) -> None:
        self.compare_file(self.some(self.files, pick))

    @precondition(Program.has_files)
    @rule(pick=picks, seal=st.sampled_from("SHRINK GROW FUTURE_WRITE WRITE SEAL".split()))
    def seal_file(self, pick: int, seal: str) -> None:
        file = self.some(self.files, pick)
        if file.is_memfd and pick % 4 == 3:
            must: Errors = set()
            if file.is_closed:
                must.add(ClosedMappingError)
            elif not file.is_sealable:  # the kernel says one of two things, by the file system
                must |= {OperationNotPermittedError, InvalidSystemCallError}
            elif file.store.seals & MemfdSeals.SEAL:
                must.add(OperationNotPermittedError)
            may: Errors = {RegionBusyError} if seal == "WRITE" else set()
            if self.step(f"{file.name}.add_seals(MemfdSeals.{seal})", must, may):
                file.store.seals |= MemfdSeals[seal]
                self.step(f"_ = {file.name}.get_seals()")
                assert file.store.seals in self.result

    def model_resize(self, file: File, size: int) -> None:
        file.store.resize(size)
        for page in (page for memory in self.memories for page in memory.pages):
            if page.store is file.store and file.store.lacks(page.index):
                page.own = None  # truncation takes private copies too
