"""What is compiled: the module `mmapwrap._core._mman`, out of line and in cffi's API mode.

The functions are declared in csrc/declarations.h, which the compiler and cffi both read. The
constants are named in csrc/constants.h and have no values here: `#define NAME ...` makes the
compiler supply them.
"""

import re
import sysconfig
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent / "csrc"

# In constants.h: a list of names, or a fallback. Its include guard has no value, so it is neither.
CONSTANT = re.compile(r"^MMW_CONSTANTS\(([^)]*)\)|^#define (\w+) ", re.MULTILINE)

DECLARATIONS = (CSRC / "declarations.h").read_text()
CONSTANTS: list[str] = [
    name
    for listed, fallback in CONSTANT.findall((CSRC / "constants.h").read_text())
    for name in re.findall(r"\w+", listed or fallback)
]

# Free-threaded CPython has no stable ABI.
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

SOURCES = [f"csrc/{path.name}" for path in sorted(CSRC.glob("*.c"))]
# The buffer slots are in the stable ABI since 3.11.
MACROS = {"_GNU_SOURCE": "1"} | ({"Py_LIMITED_API": "0x030b0000"} if HAS_STABLE_ABI else {})
FLAGS = ["-std=gnu11", "-O3", "-fvisibility=hidden"]

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.cdef("\n".join(f"#define {name} ..." for name in CONSTANTS))
ffibuilder.set_source(
    "mmapwrap._core._mman",
    '#include "pages.h"',
    sources=SOURCES,
    include_dirs=["csrc"],
    depends=[f"csrc/{path.name}" for path in sorted(CSRC.glob("*.h"))],
    define_macros=list(MACROS.items()),
    extra_compile_args=FLAGS,
    py_limited_api=HAS_STABLE_ABI,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
