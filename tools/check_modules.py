"""Hold the compiled module in each wheel against the platforms that the wheel's tag promises.

    python tools/check_modules.py WHEEL...

auditwheel reads which platforms the module runs on from the versions of the names that it takes
from the C library. It passes over a name without a version, which the linker makes of a function
that the C library of the tag does not have. Such a module would fail when it is imported there, so
this looks for those names too. Prints a line for each wheel; the exit status tells whether
something is wrong.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerSymSection
from elftools.elf.sections import SymbolTableSection
from packaging.utils import parse_wheel_filename

# What a module may take from elsewhere than the C library.
PYTHON = ("Py", "_Py")


def read_module(wheel: Path) -> ELFFile:
    """Give the one compiled module of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        return ELFFile(io.BytesIO(archive.read(name)))


def audit(wheel: Path) -> str:
    """Give the oldest platform on which auditwheel finds that the wheel runs."""
    auditwheel = (sys.executable, "-m", "auditwheel", "show", "--json")
    # It would look for the libraries of this machine, which is not the wheel's.
    with tempfile.TemporaryDirectory() as nothing:
        command = [*auditwheel, "--ldpaths", nothing, str(wheel)]
        shown = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    report: dict[str, Any] = json.loads(shown.stdout)
    return str(report.get("overall_tag", report.get("error")))


def symbols(module: ELFFile) -> Iterator[tuple[str, bool, bool]]:
    """Give the name of each dynamic symbol, whether it is defined, and whether it has a version."""
    table = module.get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)
    versions = module.get_section_by_name(".gnu.version")
    for index, symbol in enumerate(table.iter_symbols()):
        has_version = False
        if isinstance(versions, GNUVerSymSection):
            # A number, or a name that says that it has none.
            has_version = isinstance(versions.get_symbol(index)["ndx"], int)
        if symbol.name:
            yield symbol.name, symbol["st_shndx"] != "SHN_UNDEF", has_version


def problems(wheel: Path) -> Iterator[str]:
    """Tell what is wrong with the module of a wheel."""
    platforms = {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}
    module = read_module(wheel)
    if (oldest := audit(wheel)) not in platforms:
        yield f"runs on {oldest}, which is no tag of the wheel"
    if extra := [section.name for section in module.iter_sections() if is_extra(section.name)]:
        yield f"is not stripped of {', '.join(extra)}"
    exported = [name for name, is_defined, _ in symbols(module) if is_defined]
    if exported != ["PyInit__mman"]:
        yield f"exports {', '.join(exported)}"
    if not any(platform.startswith("manylinux") for platform in platforms):
        return
    for name, is_defined, has_version in symbols(module):
        if not (is_defined or has_version or name.startswith(PYTHON)):
            yield f"takes {name}, which the C library of the tag does not have"


def is_extra(section: str) -> bool:
    """Tell whether a section is for debuggers alone."""
    return section == ".symtab" or section.startswith(".debug")


def main(*wheels: Path) -> int:
    """Check the wheels, print a report, and give the exit status."""
    failed = False
    for wheel in wheels:
        found = list(problems(wheel))
        print(f"{wheel.name}: the module {'does not fit' if found else 'fits'} the tag")
        for problem in found:
            print(f"  {problem}")
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
