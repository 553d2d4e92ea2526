"""What pyproject.toml cannot say: the compiled module, and the wheel's tag where it is stable."""

import sys
import sysconfig

if sys.implementation.name != "cpython":
    sys.exit(f"mmapwrap works on CPython only, and this is {sys.implementation.name}.")

from setuptools import setup

# A free-threaded CPython has no stable ABI, so its wheel keeps the exact tag.
has_gil = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if has_gil else {},
)
