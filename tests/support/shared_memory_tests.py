"""CPython's tests of `shared_memory`, by the start method that the environment names.

It is a module of its own, because the processes that these tests start import the classes of the
tests from it.
"""

import importlib
import os
from typing import Any

_tests: Any = importlib.import_module("test._test_multiprocessing")
_tests.install_tests_in_module_dict(globals(), os.environ["START_METHOD_OF_THE_TESTS"])
