"""The floors of the house: every import of the package goes down, those for types included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmapwrap

PACKAGE = Path(mmapwrap.__file__).parent

# From the ground up; the modules of one line do not import each other.
FLOORS = """
    _core _regions _adapters _cli
    _core._mman
    _core.constants
    _core.advice _core.protection _core.seals
    errors
    result _core.failures _core.range_map _core.construction _core.parts _core.locked_ranges
    _core.python_types _core.views _core.access _core.page_sizes
    _core.layout _core.owners _core.buffers
    _core.descriptors
    _core.arguments _core.calls _core.capacity _core.file_length
    _ranges
    _core.mapping
    _core.mapped_files
    _core.faults _core.dropping
    _core.pages
    _core.changes _core.creation
    _core.growth _core.new_files
    _adapters.arrays _regions.residency _regions.scalars _regions.fault_guard _regions.locking
    _regions.transfers _regions.items
    _regions.base _regions.volatile
    _regions.content _regions.search _regions.numbers _regions.file _regions.arrays
    _regions.advising _regions.residence
    _regions.region
    _external _arena
    _mapping
    _shared_memory unsafe _positioned
    mmap
    __init__
    _cli.text
    _cli.output
    _cli.drawing
    _cli.files
    _cli.page_cache
    _cli.report
    _cli.commands _cli.support
    _cli.parser
    __main__
"""
FLOOR = {
    name: number for number, line in enumerate(FLOORS.strip().splitlines()) for name in line.split()
}


def modules() -> dict[str, Path]:
    """The modules of the package, by their names below it; a folder's is the folder's."""
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name.startswith("mmapwrap"))
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("mmapwrap"):
                for each in names:
                    whole = f"{module}.{each.name}".removeprefix("mmapwrap.")
                    yield whole if whole in FLOOR else module
            case _:
                pass


def test_every_module_has_a_floor() -> None:
    assert set(modules()) | {"_core._mman"} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_of_a_module_go_down(name: str) -> None:
    for whole in imported(modules()[name]):
        below = whole.removeprefix("mmapwrap").removeprefix(".") or "__init__"
        assert FLOOR[below] < FLOOR[name], f"{name} imports {below}, which is not below it"
