"""Compare the sdist and the wheels with the tree that they were made from, in both directions.

    python tools/check_dist.py TREE SDIST WHEEL...

Nothing may be missing and nothing may be there that is not expected, and what was copied must be
the same. Prints a line for each difference; the exit status tells whether there was one.
"""

import re
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

# What setuptools adds to an sdist.
GENERATED = {
    "PKG-INFO",
    "setup.cfg",
    "mmapwrap.egg-info/PKG-INFO",
    "mmapwrap.egg-info/SOURCES.txt",
    "mmapwrap.egg-info/dependency_links.txt",
    "mmapwrap.egg-info/entry_points.txt",
    "mmapwrap.egg-info/requires.txt",
    "mmapwrap.egg-info/top_level.txt",
}
# What is made for a wheel, in its .dist-info folder.
DIST_INFO = {
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
}

LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")  # in Markdown: its text and its target

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
EXACT_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

Files = dict[str, bytes]


def read_tree(tree: Path) -> Files:
    """Read the source, without what an earlier build left beside it."""
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_relative_to(tree / "mmapwrap.egg-info")
    }


def read_sdist(sdist: Path) -> Files:
    """Read the sdist, by the names below its one top folder."""
    top = sdist.name.removesuffix(".tar.gz") + "/"
    files: Files = {}
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            if content := archive.extractfile(member):
                files[member.name.removeprefix(top)] = content.read()
    return files


def read_wheel(wheel: Path) -> Files:
    """Read the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def differences(expected: Mapping[str, bytes | None], found: Files) -> Iterator[str]:
    """Tell what differs; where None is expected the file is made by the build."""
    for name in sorted(expected.keys() - found.keys()):
        yield f"is missing: {name}"
    for name in sorted(found.keys() - expected.keys()):
        yield f"should not be there: {name}"
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] not in (None, found[name]):
            yield f"is not what the tree has: {name}"


def metadata_differences(content: bytes, tree: Path) -> Iterator[str]:
    """Tell where the metadata is invalid or not what pyproject.toml says."""
    metadata = Metadata.from_email(content, validate=True)
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    wanted = {str(Requirement(each)) for each in project["dependencies"]}
    for extra, requirements in project.get("optional-dependencies", {}).items():
        wanted |= {str(Requirement(f'{each}; extra == "{extra}"')) for each in requirements}
    stated: dict[str, tuple[object, object]] = {
        "Name": (project["name"], metadata.name),
        "Version": (project["version"], str(metadata.version)),
        "Requires-Python": (project["requires-python"], str(metadata.requires_python)),
        "License-Expression": (project["license"], metadata.license_expression),
        "License-File": (project["license-files"], metadata.license_files),
        "Requires-Dist": (wanted, {str(each) for each in metadata.requires_dist or ()}),
        "Description-Content-Type": ("text/markdown", metadata.description_content_type),
    }
    for field, (want, have) in stated.items():
        if want != have:
            yield f"{field} is {have!r}, not {want!r}"
    description = metadata.description or ""
    if LINK.sub(r"\1", description) != LINK.sub(r"\1", (tree / "README.md").read_text()):
        yield "Description is not the README, with other links"
    for _, target in LINK.findall(description):
        if not target.startswith(("https:", "#")):
            yield f"Description has a link that leads nowhere: {target}"


def check_sdist(tree: Path, sdist: Path) -> Iterator[str]:
    """Tell what is wrong with the sdist."""
    found = read_sdist(sdist)
    yield from differences(read_tree(tree) | dict.fromkeys(GENERATED), found)
    yield from metadata_differences(found["PKG-INFO"], tree)


def check_wheel(tree: Path, wheel: Path) -> Iterator[str]:
    """Tell what is wrong with the wheel, which must be for the Python that runs this."""
    found = read_wheel(wheel)
    name, version, _, tags = parse_wheel_filename(wheel.name)
    info = f"{name}-{version}.dist-info/"
    suffix = EXACT_SUFFIX if FREE_THREADED else ".abi3.so"
    made = [f"mmapwrap/_core/_mman{suffix}", *(info + each for each in DIST_INFO)]
    source = read_tree(tree)
    package = {path: data for path, data in source.items() if path.startswith("mmapwrap/")}
    # pip unpacks the data folder where the environment is.
    data = f"{name}-{version}.data/data/"
    shared = {data + path: text for path, text in source.items() if path.startswith("share/")}
    yield from differences(package | shared | dict.fromkeys(made), found)
    yield from metadata_differences(found[info + "METADATA"], tree)
    abis = {(tag.interpreter, tag.abi) for tag in tags}
    if not FREE_THREADED and abis != {("cp311", "abi3")}:
        yield f"is tagged {sorted(abis)}, not cp311-abi3"


def main(tree: Path, sdist: Path, *wheels: Path) -> int:
    """Check the files, print a report, and give the exit status."""
    failed = False
    for file, problems in (
        (sdist, list(check_sdist(tree, sdist))),
        *((wheel, list(check_wheel(tree, wheel))) for wheel in wheels),
    ):
        print(f"{file.name}: {'not right' if problems else 'holds what it should'}")
        for problem in problems:
            print(f"  {problem}")
        failed = failed or bool(problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
