"""What pyproject.toml cannot say: where this can be built, the README's links, the wheel's tag."""

import re
import shutil
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

if sys.platform != "linux":
    sys.exit(f"mmapwrap works on Linux only, and this is {sys.platform}.")
if sys.implementation.name != "cpython":
    sys.exit(f"mmapwrap works on CPython only, and this is {sys.implementation.name}.")

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent
# On Debian and its kin; elsewhere the names are similar.
PACKAGES = "apt install gcc libc6-dev python3-dev"

# A free-threaded CPython has no stable ABI, so its wheel keeps the exact tag.
has_gil = not sysconfig.get_config_var("Py_GIL_DISABLED")


class BuildExtension(build_ext):
    """Say in one line what is missing, before the compiler says it in many."""

    def build_extensions(self) -> None:
        """Build where a compiler, the C library's headers and Python's are there."""
        compiler: str = self.compiler.compiler_so[0]
        if shutil.which(compiler) is None:
            sys.exit(
                f"mmapwrap has to be compiled here, and there is no C compiler '{compiler}': "
                f"install one ({PACKAGES}), or name yours in the environment variable CC."
            )
        include = sysconfig.get_path("include")
        if not Path(include, "Python.h").exists():
            sys.exit(
                f"mmapwrap has to be compiled here, and {include} has no Python.h: "
                f"install the headers of this Python ({PACKAGES})."
            )
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "empty.c")
            source.write_text("#include <Python.h>\n")
            try:
                self.compiler.compile([str(source)], folder, include_dirs=[include])
            except CompileError:
                sys.exit(
                    f"mmapwrap has to be compiled here, and '{compiler}' cannot compile "
                    "'#include <Python.h>': the lines above say why; often the headers of the C "
                    f"library are missing ({PACKAGES})."
                )
        super().build_extensions()


def with_links_to(home: str | None, readme: str, version: str) -> str:
    """Give the README for a page where its relative links would lead nowhere.

    They become links into the repository at its home, or plain text where there is none.
    """
    commit = "HEAD" if "dev" in version else f"v{version}"
    target = rf"[\1]({home}/blob/{commit}/\2)" if home else r"\1"
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)", target, readme)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=with_links_to(
            project.get("urls", {}).get("Source"),
            (ROOT / "README.md").read_text(encoding="utf-8"),
            project["version"],
        ),
        long_description_content_type="text/markdown",
        cffi_modules=["build_ffi.py:ffibuilder"],
        cmdclass={"build_ext": BuildExtension},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if has_gil else {},
    )
