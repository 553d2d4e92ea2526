"""The command that asks what the running kernel supports of what the library can ask of it."""

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

import mmapwrap
from mmapwrap import (
    AddressInUseError,
    Advice,
    DestructiveAdvice,
    MemoryMapping,
    Protection,
    SystemCallError,
    page_size,
)
from mmapwrap._cli.output import Output
from mmapwrap.result import Err, attempt


class Feature(NamedTuple):
    """Something that a kernel may lack; the JSON has the same members."""

    group: str
    name: str  # in the kernel's interface
    use: str  # the call of the library that needs it
    supported: bool


def support(output: Output) -> None:
    """Print what the running kernel supports."""
    kernel = os.uname()
    if output.as_json:
        names = {"system": kernel.sysname, "release": kernel.release, "machine": kernel.machine}
        output.document(
            {
                "command": "support",
                "mmapwrap": mmapwrap.__version__,
                "kernel": names,
                "page_size": page_size(),
                "features": [feature._asdict() for feature in features()],
            }
        )
        return
    output.line(
        f"{kernel.sysname} {kernel.release} {kernel.machine}, pages of {page_size()} bytes, "
        f"mmapwrap {mmapwrap.__version__}"
    )
    output.heading("group", "feature", "supported", "used by")
    for feature in features():
        answer = "yes" if feature.supported else "no"
        output.row(feature.group, feature.name, answer, feature.use)


def features() -> Iterator[Feature]:
    """Ask the kernel about all that it may lack. A new feature gets its line here."""
    for advice in (*Advice, *DestructiveAdvice):
        call = "advise" if isinstance(advice, Advice) else "advise_destructive"
        use = f"{call}({type(advice).__name__}.{advice.name})"
        yield Feature("advice", f"MADV_{advice.name}", use, advice.is_supported())
    refuses = _refuses_address_in_use()
    yield Feature("mapping", "MAP_FIXED_NOREPLACE", "new_protection_fixed()", refuses)
    yield Feature("locking", "MLOCK_ONFAULT", "lock_on_fault()", _knows_lock_on_fault())


def _refuses_address_in_use() -> bool:
    size = page_size()
    with MemoryMapping.anonymous(size) as occupied:
        address, protection = occupied.as_ptr(), Protection.none()
        match attempt(MemoryMapping.new_protection_fixed, address, size, protection):
            case Err(AddressInUseError()):
                return True
            case _:
                return False


def _knows_lock_on_fault() -> bool:
    with MemoryMapping.anonymous(page_size()) as mapping:
        match attempt(mapping.lock_on_fault, 0, page_size()):
            case Err(SystemCallError(errno=errno.ENOSYS | errno.EINVAL)):
                return False
            case _:  # a limit may prevent the lock
                return True
