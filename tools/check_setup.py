"""Hold what setup.py says, and how it writes the README's links, against what is wanted.

    python tools/check_setup.py TREE

The tree is copied and each refusal is brought about there. Prints a line for each mistake; the
exit status tells whether there was one. setuptools and cffi must be installed.
"""

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PRETEND = """
import runpy, sys
sys.path.insert(0, "")
sys.{attribute} = {value!r}
sys.argv = ["setup.py", "--version"]
runpy.run_path("setup.py", run_name="__main__")
"""
# What the last line says where the compiler is missing, and where it fails.
NO_COMPILER = "there is no C compiler '/nonexistent': install one (apt install gcc"
NO_HEADERS = (
    "'false' cannot compile '#include <Python.h>': the lines above say why; often the headers"
)
README = "[a](docs/a.md) [`b`](b.md#c) [d](https://e) [f](#g)"


def last_line(tree: Path, *arguments: str, **variables: str) -> str:
    """Run Python in the tree, which must fail, and give the last line that it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | variables,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.splitlines()[-1] if done.returncode else f"success: {done.stdout}"


def mistakes(tree: Path) -> Iterator[str]:
    """Tell what is not as wanted."""
    pretend = PRETEND.format(attribute="platform", value="darwin")
    said = last_line(tree, "-c", pretend)
    if said != "mmapwrap works on Linux only, and this is darwin.":
        yield f"elsewhere than on Linux it ends in: {said}"
    for compiler, wanted in {"/nonexistent": NO_COMPILER, "false": NO_HEADERS}.items():
        said = last_line(tree, "setup.py", "build_ext", CC=compiler)
        if wanted not in said:
            yield f"with CC={compiler} it ends in: {said}"
    with_links_to: Callable[[str | None, str, str], str]
    with_links_to = runpy.run_path(str(tree / "setup.py"))["with_links_to"]
    for home, version, wanted in (
        (None, "1.2", "a `b`"),
        (
            "https://h",
            "1.2",
            "[a](https://h/blob/v1.2/docs/a.md) [`b`](https://h/blob/v1.2/b.md#c)",
        ),
        (
            "https://h",
            "1.2.dev0",
            "[a](https://h/blob/HEAD/docs/a.md) [`b`](https://h/blob/HEAD/b.md#c)",
        ),
    ):
        written = with_links_to(home, README, version)
        if written != f"{wanted} [d](https://e) [f](#g)":
            yield f"the links of version {version} to {home} are: {written}"


def main(tree: Path) -> int:
    """Check setup.py, print a report, and give the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = shutil.copytree(tree, Path(temporary) / "tree")
        found = list(mistakes(copy))
    print(f"setup.py: {'not right' if found else 'says and writes what it should'}")
    for mistake in found:
        print(f"  {mistake}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
