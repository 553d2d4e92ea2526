"""The public calls of the library, and which of them programs make."""

import inspect
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import mmapwrap
from mmapwrap import (
    MappedRegion,
    MemoryMapping,
    MemoryMappingArena,
    RegionIO,
    SharedMemory,
    VolatileSlice,
    mmap,
)

_LIBRARY: Final = str(Path(mmapwrap.__file__).parent)
# A call is named by the first that has it.
_CLASSES: Final = (
    MappedRegion,
    MemoryMapping,
    MemoryMappingArena,
    SharedMemory,
    RegionIO,
    VolatileSlice,
    mmap.mmap,
)


def public_calls() -> dict[CodeType, str]:
    """Each function and property of a public class that the library itself has written."""
    found: dict[CodeType, str] = {}
    for kind in _CLASSES:
        for name in dir(kind):
            if not name.startswith("_") or name.endswith("__"):
                code = _code_of(inspect.getattr_static(kind, name))
                if code is not None and code.co_filename.startswith(_LIBRARY):
                    found.setdefault(code, f"{kind.__name__}.{name}")
    return found


def _code_of(attribute: Any) -> CodeType | None:
    if isinstance(attribute, property):
        attribute = attribute.fget
    function = getattr(attribute, "__func__", attribute)  # of a class method
    code: CodeType | None = getattr(function, "__code__", None)
    return code


class Calls:
    """The public calls that are made from outside of the library."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self._names = public_calls()

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        """What `sys.setprofile` takes."""
        if event == "call" and frame.f_code in self._names:
            caller = frame.f_back
            if caller is None or not caller.f_code.co_filename.startswith(_LIBRARY):
                self.made.add(self._names[frame.f_code])
