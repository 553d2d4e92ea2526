"""The peers that are C, compiled as the benchmarks start."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from cffi import FFI

FOLDER = Path(__file__).parent


def compiled_peers() -> Any:
    """Compile peers.c and give the functions that peers.h declares."""
    ffi = FFI()
    ffi.cdef((FOLDER / "peers.h").read_text())
    ffi.set_source(
        "_peers",
        "#include <stddef.h>\n#include <stdint.h>\n" + '#include "peers.h"',
        sources=[str(FOLDER / "peers.c")],
        include_dirs=[str(FOLDER)],
        define_macros=[("_GNU_SOURCE", "1")],
        extra_compile_args=["-O3", "-pthread"],  # -O3: as the library itself
        extra_link_args=["-pthread"],
    )
    with tempfile.TemporaryDirectory() as folder:
        module = load("_peers", ffi.compile(tmpdir=folder))
    return module.lib


def load(name: str, path: str) -> Any:
    """Import a compiled module from this path; it stays when its file is deleted."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
