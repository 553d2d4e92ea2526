"""Memory mappings on Linux: typed, range-checked, and safe by default."""

import sys
import typing

if sys.implementation.name != "cpython":
    # PyPy builds and imports the compiled module, which then reads wrong bytes.
    raise ImportError(f"mmapwrap works on CPython only, and this is {sys.implementation.name}")

try:
    from mmapwrap._core.constants import page_size  # imports the compiled module
except ImportError as error:
    # The name in two parts: a test takes a module with the whole name for one that imports it.
    if (error.name or "").split("._") != ["mmapwrap", "core", "mman"]:
        raise
    raise ImportError(
        f"{__path__[0]} holds the source of mmapwrap without its compiled module: install mmapwrap "
        "with `pip install .`, then start Python outside the clone or with `python -P`",
        name=error.name,
    ) from None

from mmapwrap._arena import MemoryMappingArena, Segment
from mmapwrap._core.advice import Advice, DestructiveAdvice, SyncMode
from mmapwrap._core.protection import Protection, Sharing
from mmapwrap._core.seals import MemfdSeals
from mmapwrap._external import ExternalMapping
from mmapwrap._mapping import MemoryMapping
from mmapwrap._ranges import ByteRange, range_end
from mmapwrap._regions.region import MappedRegion
from mmapwrap._regions.residency import Residency
from mmapwrap._regions.scalars import (
    Scalar,
    be_f32,
    be_f64,
    be_i16,
    be_i32,
    be_i64,
    be_u16,
    be_u32,
    be_u64,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    le_f32,
    le_f64,
    le_i16,
    le_i32,
    le_i64,
    le_u16,
    le_u32,
    le_u64,
    u8,
    u16,
    u32,
    u64,
)
from mmapwrap._regions.volatile import VolatileSlice
from mmapwrap._shared_memory import SharedMemory
from mmapwrap.errors import (
    AccessDeniedError,
    AddFdMappingUnsupportedError,
    AddressInUseError,
    BadAddressError,
    BadDescriptorError,
    ClosedMappingError,
    InputOutputError,
    InvalidAddressError,
    InvalidAlignmentError,
    InvalidArgumentError,
    InvalidIndexError,
    InvalidOffsetError,
    InvalidRangeError,
    InvalidSystemCallError,
    IsDirectoryError,
    LockLimitError,
    MappingFaultError,
    MissingSealsError,
    MmapError,
    NoSpaceError,
    NoSuchFileError,
    NotDirectoryError,
    NotMappableError,
    NotPageAlignedError,
    OffsetOverflowError,
    OperationNotPermittedError,
    OutOfMemoryError,
    PastEndOfFileError,
    ProtectionError,
    ReadToMemoryError,
    RegionBusyError,
    RemoveMappingUnsupportedError,
    SystemCallError,
    TextFileBusyError,
    TooManyFilesError,
    UnsupportedByKernelError,
    UnsupportedOperationError,
    ViewsExportedError,
    VolatileMemoryError,
    VolatileMisalignedError,
    VolatileOutOfBoundsError,
    VolatileOverflowError,
    WriteFromMemoryError,
)
from mmapwrap.result import Err, Ok, Result, attempt

if typing.TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Return the version. Reading it takes longer than importing the package, so it is lazy."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415

        return version(__name__)


__all__ = [
    "AccessDeniedError",
    "AddFdMappingUnsupportedError",
    "AddressInUseError",
    "Advice",
    "BadAddressError",
    "BadDescriptorError",
    "ByteRange",
    "ClosedMappingError",
    "DestructiveAdvice",
    "Err",
    "ExternalMapping",
    "InputOutputError",
    "InvalidAddressError",
    "InvalidAlignmentError",
    "InvalidArgumentError",
    "InvalidIndexError",
    "InvalidOffsetError",
    "InvalidRangeError",
    "InvalidSystemCallError",
    "IsDirectoryError",
    "LockLimitError",
    "MappedRegion",
    "MappingFaultError",
    "MemfdSeals",
    "MemoryMapping",
    "MemoryMappingArena",
    "MissingSealsError",
    "MmapError",
    "NoSpaceError",
    "NoSuchFileError",
    "NotDirectoryError",
    "NotMappableError",
    "NotPageAlignedError",
    "OffsetOverflowError",
    "Ok",
    "OperationNotPermittedError",
    "OutOfMemoryError",
    "PastEndOfFileError",
    "Protection",
    "ProtectionError",
    "ReadToMemoryError",
    "RegionBusyError",
    "RemoveMappingUnsupportedError",
    "Residency",
    "Result",
    "Scalar",
    "Segment",
    "SharedMemory",
    "Sharing",
    "SyncMode",
    "SystemCallError",
    "TextFileBusyError",
    "TooManyFilesError",
    "UnsupportedByKernelError",
    "UnsupportedOperationError",
    "ViewsExportedError",
    "VolatileMemoryError",
    "VolatileMisalignedError",
    "VolatileOutOfBoundsError",
    "VolatileOverflowError",
    "VolatileSlice",
    "WriteFromMemoryError",
    "attempt",
    "be_f32",
    "be_f64",
    "be_i16",
    "be_i32",
    "be_i64",
    "be_u16",
    "be_u32",
    "be_u64",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "le_f32",
    "le_f64",
    "le_i16",
    "le_i32",
    "le_i64",
    "le_u16",
    "le_u32",
    "le_u64",
    "page_size",
    "range_end",
    "u8",
    "u16",
    "u32",
    "u64",
]
