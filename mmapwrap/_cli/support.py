"""What the running kernel supports of what the library can ask of it."""

import errno
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version

from attrs import frozen

from mmapwrap import (
    AddressInUseError,
    Advice,
    DestructiveAdvice,
    MemoryMapping,
    Protection,
    SystemCallError,
    UnsupportedByKernelError,
    page_size,
)
from mmapwrap._cli.output import Output, Style
from mmapwrap.result import Err, attempt


@frozen
class Feature:
    """Something that a kernel may lack.

    Attributes:
        group: what kind of thing it is, in a word.
        name: its name in the kernel's interface.
        use: what of the library needs it.
        is_supported: asks the running kernel.
    """

    group: str
    name: str
    use: str
    is_supported: Callable[[], bool]


def maps_without_replacing() -> bool:
    """Ask whether MAP_FIXED_NOREPLACE refuses an address that is in use."""
    with MemoryMapping.anonymous(page_size()) as occupied:
        fixed = attempt(
            MemoryMapping.new_protection_fixed, occupied.as_ptr(), page_size(), Protection.none()
        )
    match fixed:
        case Err(AddressInUseError()):
            return True
        case _:
            return False


def locks_on_fault() -> bool:
    """Ask whether mlock2 knows MLOCK_ONFAULT; a limit that is reached does not mean it is not."""
    with MemoryMapping.anonymous(page_size()) as mapping:
        locked = attempt(mapping.lock_on_fault, 0, page_size())
    match locked:
        case Err(UnsupportedByKernelError() | SystemCallError(errno=errno.ENOSYS | errno.EINVAL)):
            return False
        case _:
            return True


def features() -> Iterator[Feature]:
    """List what a kernel may lack. A new feature of the library gets its line here."""
    for advice in Advice:
        use = f"advise(Advice.{advice.name})"
        yield Feature("advice", f"MADV_{advice.name}", use, advice.is_supported)
    for destructive in DestructiveAdvice:
        use = f"advise_destructive(DestructiveAdvice.{destructive.name})"
        yield Feature("advice", f"MADV_{destructive.name}", use, destructive.is_supported)
    yield Feature(
        "mapping", "MAP_FIXED_NOREPLACE", "new_protection_fixed()", maps_without_replacing
    )
    yield Feature("locking", "MLOCK_ONFAULT", "lock_on_fault()", locks_on_fault)


def support(output: Output, *, as_json: bool) -> None:
    """Show what the running kernel supports."""
    answers = [(feature, feature.is_supported()) for feature in features()]
    kernel = os.uname()
    if as_json:
        output.document(
            {
                "command": "support",
                "mmapwrap": version("mmapwrap"),
                "kernel": {
                    "system": kernel.sysname,
                    "release": kernel.release,
                    "machine": kernel.machine,
                },
                "page_size": page_size(),
                "features": [
                    {
                        "group": feature.group,
                        "name": feature.name,
                        "use": feature.use,
                        "supported": supported,
                    }
                    for feature, supported in answers
                ],
            }
        )
        return
    output.line(
        (f"{kernel.sysname} {kernel.release} {kernel.machine}, ", Style.PLAIN),
        (f"pages of {page_size()} bytes, mmapwrap {version('mmapwrap')}", Style.PLAIN),
    )
    output.line((f"{'group':<8} {'feature':<20} {'supported':<9} used by", Style.HEADING))
    for feature, supported in answers:
        answer = ("yes", Style.YES) if supported else ("no", Style.NO)
        output.line(
            (f"{feature.group:<8} {feature.name:<20} ", Style.PLAIN),
            (f"{answer[0]:<9}", answer[1]),
            (f" {feature.use}", Style.PLAIN),
        )
