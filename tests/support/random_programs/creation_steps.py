"""Files by their paths: created, mapped, and what else is there already."""

import os
import stat
from typing import TYPE_CHECKING, Final

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from kernel_view import PAGE

from mmapwrap import (
    AlreadyExistsError,
    CapacityExceededError,
    InvalidArgumentError,
    IsDirectoryError,
    NoSuchFileError,
    UnsupportedOperationError,
)
from random_programs.arguments import Spot, bits_of, picks, protections, sizes, spots
from random_programs.growth_steps import CAPACITY, GrowthSteps
from random_programs.model import READ, WRITE, File, Memory, Page, Store
from random_programs.region_steps import RegionSteps

if TYPE_CHECKING:
    from random_programs.program import Errors

PATHS: Final = ("one", "two", "three")
LINK: Final = "three"
"""The path at which there may be a link, to the first one."""

SPELLINGS: Final = ("{}", "os.fsencode({})", "Path({})")


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class CreationSteps(RegionSteps, GrowthSteps):
    """What has a path in the folder of the program."""

    @rule(
        path=st.sampled_from((*PATHS, "missing/one")),
        size=sizes,
        overwrite=st.booleans(),
        allocates=st.booleans(),
        capacity=st.sampled_from((None, None, CAPACITY, CAPACITY, PAGE, 0)),
        mode=st.sampled_from((None, None, 0o600, 0o640, 0o10000)),
        spelling=st.sampled_from(SPELLINGS),
    )
    def create(
        self,
        path: str,
        size: int,
        overwrite: bool,
        allocates: bool,
        capacity: int | None,
        mode: int | None,
        spelling: str,
    ) -> None:
        """A new file, which replaces one that is there only where it may."""
        must: Errors = set()
        if capacity == 0 or (capacity is None and size == 0) or mode == 0o10000:
            must.add(InvalidArgumentError)
        if capacity is not None and size > capacity:
            must.add(CapacityExceededError)
        if path.startswith("missing"):
            must.add(NoSuchFileError)
        elif path in self.paths and not (overwrite and isinstance(self.paths[path], Store)):
            must.add(AlreadyExistsError)
        options = [f"overwrite={overwrite}", f"allocate={allocates}", f"capacity={capacity}"]
        if mode is not None:
            options.append(f"mode={mode:#o}")
        name, text = self.new_name("r"), spelling.format(f"folder + '/{path}'")
        if self.step(f"{name} = MemoryMapping.create({text}, {size}, {', '.join(options)})", must):
            store = self.paths[path] = Store(size)
            pages = [Page(store, i, False, READ | WRITE) for i in range(-(-size // PAGE))]
            memory = Memory(size, 0, pages, capacity=capacity, last_bits=READ | WRITE)
            memory.room = -(-(capacity or size) // PAGE)
            memory.file = File(f"folder + '/{path}'", store, size, is_memfd=False)
            memory.store = store  # also of an empty one
            self.add_region(name, memory)
            self.step(f"_ = {name}[:], os.stat(folder + '/{path}')")
            content, status = self.result
            assert content == bytes(size)
            assert status.st_size == size
            assert stat.S_IMODE(status.st_mode) == (mode or 0o666) & ~umask()
            assert not allocates or status.st_blocks * 512 >= size
        self.compare_names()

    def compare_names(self) -> None:
        """No call leaves a name behind, or takes one that is not its own."""
        self.step("_ = listed(folder)")
        assert self.result == (sorted(self.paths), sorted(self.named))

    @precondition(lambda self: bool(self.paths))
    @rule(pick=picks, way=st.sampled_from(("unlink", "unlink", "mkdir", "symlink", "rename")))
    def change_path(self, pick: int, way: str) -> None:
        """Somebody else makes room at a path, or takes it."""
        path = self.some(sorted(self.paths), pick)
        if way in ("unlink", "rename"):
            content = self.paths.pop(path)
            if way == "rename" and isinstance(content, Store):
                other = self.some(PATHS, pick)
                if isinstance(self.paths.get(other), str):
                    self.remove_path(other, self.paths.pop(other))
                self.step(f"os.rename(folder + '/{path}', folder + '/{other}')")
                self.paths[other] = content
            else:
                self.remove_path(path, content)
        elif LINK not in self.paths:
            target = "'one', " if way == "symlink" else ""
            self.step(f"os.{way}({target}folder + '/{LINK}')")
            self.paths[LINK] = way

    def remove_path(self, path: str, content: Store | str) -> None:
        call = "rmdir" if content == "mkdir" else "unlink"
        self.step(f"os.{call}(folder + '/{path}')")

    def at_path(self, path: str) -> Store | str | None:
        """What a path leads to, past a link."""
        found = self.paths.get(path)
        return self.paths.get("one") if found == "symlink" else found

    @precondition(lambda self: len(self.files) < 6)
    @rule(path=st.sampled_from(PATHS))
    def open_path(self, path: str) -> None:
        """What was created is a file as any other."""
        found = self.at_path(path)
        if isinstance(found, Store):
            name = self.new_name("t")
            assert found.size is not None
            self.step(f"{name} = open(folder + '/{path}', 'r+b', buffering=0)")
            self.files.append(File(name, found, found.size, is_memfd=False))

    @rule(
        path=st.sampled_from(PATHS),
        spot=spots,
        protection=protections,
        way=st.sampled_from(("shared", "private")),
        populates=st.booleans(),
        grows=st.booleans(),
        spelling=st.sampled_from(SPELLINGS),
    )
    def map_path(
        self,
        path: str,
        spot: Spot,
        protection: str,
        way: str,
        populates: bool,
        grows: bool,
        spelling: str,
    ) -> None:
        text, found = spelling.format(f"folder + '/{path}'"), self.at_path(path)
        if isinstance(found, Store):
            assert found.size is not None
            file = File(text, found, found.size, is_memfd=False)
            file.is_read_only = way == "shared" and not bits_of(protection) & WRITE
            offset, size = spot.of(found.size if spot.page else 3 * PAGE)
            if not grows:
                self.new_mapping(file, offset, size or None, protection, way, populates=populates)
            elif "execute" not in protection:
                self.new_growing_mapping(file, max(offset, 0), protection, way)
            return
        must: Errors = {NoSuchFileError}
        if found is not None:
            must = {IsDirectoryError, UnsupportedOperationError}
        options = f"sharing=Sharing.{way.upper()}, capacity={CAPACITY if grows else None}"
        self.step(f"_ = MemoryMapping.from_file({text}, {options})", must)

    def remove_paths(self) -> None:
        """The end: nothing is left in the folder, which goes."""
        self.compare_names()
        for path, content in self.paths.items():
            self.remove_path(path, content)
        self.step("os.rmdir(folder)")
