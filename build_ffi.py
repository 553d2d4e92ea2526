"""What is compiled: the module `mmapwrap._core._mman`, out of line and in cffi's API mode.

The functions are declared in csrc/declarations.h, which the compiler and cffi both read. The
constants are named here and valued nowhere: `#define NAME ...` makes the compiler supply them.
"""

import sysconfig
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent / "csrc"

CONSTANTS = """
    PROT_READ PROT_WRITE PROT_EXEC
    MAP_SHARED MAP_PRIVATE MAP_ANONYMOUS MAP_NORESERVE MAP_FIXED MAP_FIXED_NOREPLACE
    MS_SYNC MS_ASYNC MS_INVALIDATE
    MLOCK_ONFAULT
    F_ADD_SEALS F_GET_SEALS F_GETFL F_SETFD FD_CLOEXEC
    F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE F_SEAL_FUTURE_WRITE F_SEAL_EXEC
    MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTFORK MADV_DOFORK
    MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP
    MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD MADV_PAGEOUT MADV_POPULATE_READ
    MADV_POPULATE_WRITE MADV_COLLAPSE
    MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTNEED_LOCKED MADV_GUARD_INSTALL
    MADV_GUARD_REMOVE
""".split()

# Free-threaded CPython has no stable ABI.
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "declarations.h").read_text())
ffibuilder.cdef("\n".join(f"#define {name} ..." for name in CONSTANTS))
ffibuilder.set_source(
    "mmapwrap._core._mman",
    '#include "pages.h"',
    sources=[f"csrc/{path.name}" for path in sorted(CSRC.glob("*.c"))],
    include_dirs=["csrc"],
    depends=[f"csrc/{path.name}" for path in sorted(CSRC.glob("*.h"))],
    define_macros=[("_GNU_SOURCE", "1")]
    # The buffer slots are in the stable ABI since 3.11.
    + ([("Py_LIMITED_API", "0x030b0000")] if HAS_STABLE_ABI else []),
    extra_compile_args=["-std=gnu11", "-O3", "-fvisibility=hidden"],
    py_limited_api=HAS_STABLE_ABI,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
