"""The errnos that have a class of their own, as the contract names them."""

import errno
from typing import Final

from mmapwrap.errors import (
    AccessDeniedError,
    AddressInUseError,
    BadAddressError,
    BadDescriptorError,
    InputOutputError,
    InvalidSystemCallError,
    IsDirectoryError,
    LockLimitError,
    NoSpaceError,
    NoSuchFileError,
    NotDirectoryError,
    NotMappableError,
    OffsetOverflowError,
    OperationNotPermittedError,
    OutOfMemoryError,
    RegionBusyError,
    SystemCallError,
    TextFileBusyError,
    TooManyFilesError,
)

NAMED: Final[dict[int, tuple[type[SystemCallError], type[Exception]]]] = {
    errno.EPERM: (OperationNotPermittedError, PermissionError),
    errno.EACCES: (AccessDeniedError, PermissionError),
    errno.EBADF: (BadDescriptorError, OSError),
    errno.EEXIST: (AddressInUseError, FileExistsError),
    errno.EINVAL: (InvalidSystemCallError, ValueError),
    errno.ENOMEM: (OutOfMemoryError, MemoryError),
    errno.EAGAIN: (LockLimitError, BlockingIOError),
    errno.ENODEV: (NotMappableError, OSError),
    errno.EMFILE: (TooManyFilesError, OSError),
    errno.ENFILE: (TooManyFilesError, OSError),
    errno.EOVERFLOW: (OffsetOverflowError, OverflowError),
    errno.ENOSPC: (NoSpaceError, OSError),
    errno.EBUSY: (RegionBusyError, OSError),
    errno.EFAULT: (BadAddressError, OSError),
    errno.EIO: (InputOutputError, OSError),
    errno.ETXTBSY: (TextFileBusyError, OSError),
    errno.ENOENT: (NoSuchFileError, FileNotFoundError),
    errno.EISDIR: (IsDirectoryError, IsADirectoryError),
    errno.ENOTDIR: (NotDirectoryError, NotADirectoryError),
}
"""An errno, its class, and the builtin that the class also is."""
