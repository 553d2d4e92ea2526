"""Memory mappings on Linux: typed, range-checked, and safe by default.

What is imported here as `X as X` is public, for users and for type checkers.
"""

import sys
import typing

if sys.implementation.name != "cpython":
    # PyPy builds and imports the compiled module, which then reads wrong bytes.
    raise ImportError(f"mmapwrap works on CPython only, and this is {sys.implementation.name}")

try:
    from mmapwrap._core.constants import page_size as page_size  # imports the compiled module
except ImportError as _error:
    # The name in two parts: a test takes a module with the whole name for one that imports it.
    if (_error.name or "").split("._") != ["mmapwrap", "core", "mman"]:
        raise
    raise ImportError(
        f"{__path__[0]} holds the source of mmapwrap without its compiled module: install mmapwrap "
        "with `pip install .`, then start Python outside the clone or with `python -P`",
        name=_error.name,
    ) from None

from mmapwrap._arena import MemoryMappingArena as MemoryMappingArena, Segment as Segment
from mmapwrap._core.advice import (
    Advice as Advice,
    DestructiveAdvice as DestructiveAdvice,
    SyncMode as SyncMode,
)
from mmapwrap._core.protection import Protection as Protection, Sharing as Sharing
from mmapwrap._core.seals import MemfdSeals as MemfdSeals
from mmapwrap._external import ExternalMapping as ExternalMapping
from mmapwrap._mapping import MemoryMapping as MemoryMapping
from mmapwrap._ranges import ByteRange as ByteRange, range_end as range_end
from mmapwrap._regions.file import RegionIO as RegionIO
from mmapwrap._regions.region import MappedRegion as MappedRegion
from mmapwrap._regions.residency import Residency as Residency
from mmapwrap._regions.scalars import (
    Scalar as Scalar,
    be_f32 as be_f32,
    be_f64 as be_f64,
    be_i16 as be_i16,
    be_i32 as be_i32,
    be_i64 as be_i64,
    be_u16 as be_u16,
    be_u32 as be_u32,
    be_u64 as be_u64,
    f32 as f32,
    f64 as f64,
    i8 as i8,
    i16 as i16,
    i32 as i32,
    i64 as i64,
    isize as isize,
    le_f32 as le_f32,
    le_f64 as le_f64,
    le_i16 as le_i16,
    le_i32 as le_i32,
    le_i64 as le_i64,
    le_u16 as le_u16,
    le_u32 as le_u32,
    le_u64 as le_u64,
    u8 as u8,
    u16 as u16,
    u32 as u32,
    u64 as u64,
    usize as usize,
)
from mmapwrap._regions.volatile import VolatileSlice as VolatileSlice
from mmapwrap._shared_memory import SharedMemory as SharedMemory
from mmapwrap.errors import (
    AccessDeniedError as AccessDeniedError,
    AddFdMappingUnsupportedError as AddFdMappingUnsupportedError,
    AddressInUseError as AddressInUseError,
    AlreadyExistsError as AlreadyExistsError,
    BadAddressError as BadAddressError,
    BadDescriptorError as BadDescriptorError,
    CapacityExceededError as CapacityExceededError,
    ClosedMappingError as ClosedMappingError,
    InputOutputError as InputOutputError,
    InvalidAddressError as InvalidAddressError,
    InvalidAlignmentError as InvalidAlignmentError,
    InvalidArgumentError as InvalidArgumentError,
    InvalidIndexError as InvalidIndexError,
    InvalidOffsetError as InvalidOffsetError,
    InvalidRangeError as InvalidRangeError,
    InvalidSystemCallError as InvalidSystemCallError,
    IsDirectoryError as IsDirectoryError,
    LockLimitError as LockLimitError,
    MappingFaultError as MappingFaultError,
    MissingSealsError as MissingSealsError,
    MmapError as MmapError,
    NoSpaceError as NoSpaceError,
    NoSuchFileError as NoSuchFileError,
    NotDirectoryError as NotDirectoryError,
    NotMappableError as NotMappableError,
    NotPageAlignedError as NotPageAlignedError,
    OffsetOverflowError as OffsetOverflowError,
    OperationNotPermittedError as OperationNotPermittedError,
    OutOfMemoryError as OutOfMemoryError,
    PastEndOfFileError as PastEndOfFileError,
    ProtectionError as ProtectionError,
    ReadToMemoryError as ReadToMemoryError,
    RegionBusyError as RegionBusyError,
    RemoveMappingUnsupportedError as RemoveMappingUnsupportedError,
    SystemCallError as SystemCallError,
    TextFileBusyError as TextFileBusyError,
    TooManyFilesError as TooManyFilesError,
    UnsupportedByKernelError as UnsupportedByKernelError,
    UnsupportedOperationError as UnsupportedOperationError,
    ViewsExportedError as ViewsExportedError,
    VolatileMemoryError as VolatileMemoryError,
    VolatileMisalignedError as VolatileMisalignedError,
    VolatileOutOfBoundsError as VolatileOutOfBoundsError,
    VolatileOverflowError as VolatileOverflowError,
    WriteFromMemoryError as WriteFromMemoryError,
)
from mmapwrap.result import Err as Err, Ok as Ok, Result as Result, attempt as attempt

if typing.TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Return the version. Reading it takes longer than importing the package, so it is lazy."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415

        return version(__name__)


def __dir__() -> list[str]:
    """Return the public names; private modules are attributes too."""
    return ["__version__", *(name for name in globals() if not name.startswith("_"))]


del sys, typing
