"""Each public name, and each public method of a class, must be described on some page."""

import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

import mmapwrap
from mmapwrap import errors, mmap, result, unsafe

LOG = logging.getLogger(__name__)

# What is public in each module, of the names without an underscore; modules have helpers too.
CONSTANTS = ("ACCESS_", "ALLOCATIONGRANULARITY", "MADV_", "MAP_", "MS_", "PAGESIZE", "PROT_")
PUBLIC: dict[ModuleType, Callable[[str, object], bool]] = {
    mmapwrap: lambda _, value: not inspect.ismodule(value),
    errors: lambda name, value: is_error(value) or name == "system_call_error",
    result: lambda name, _: name in {"Ok", "Err", "Result", "attempt"},
    unsafe: lambda name, _: name in unsafe.__all__,
    mmap: lambda name, _: (
        name in {"mmap", "error"} or (name.startswith(CONSTANTS) and name != "PROT_ANY")
    ),
}
# Regions and slices call these; users call `read_obj`, `load` and their kin.
INTERNAL = {f"Scalar.{name}" for name in ("load", "store", "plain", "require_holds")}


def is_error(value: object) -> bool:
    """Return whether a value is a class of the library's errors."""
    return inspect.isclass(value) and issubclass(value, errors.MmapError)


def public_methods(kind: type) -> Iterator[str]:
    """Yield the names of the methods and properties of a class that the package defines."""
    for owner in kind.__mro__:
        if owner.__module__.startswith("mmapwrap"):
            for name, value in vars(owner).items():
                is_property = isinstance(value, property | cached_property)
                if not name.startswith("_") and (is_property or callable(getattr(owner, name))):
                    yield name


def public_names() -> Iterator[tuple[str, ...]]:
    """Yield the places at which each public name may be described; one is enough."""
    for module, is_public in PUBLIC.items():
        for name, value in vars(module).items():
            if name.startswith("_") or not is_public(name, value):
                continue
            places = (f"{module.__name__}.{name}", f"mmapwrap.{name}")
            yield places
            for method in public_methods(value) if inspect.isclass(value) else ():
                if f"{name}.{method}" not in INTERNAL:
                    owners = (*places, "mmapwrap.MappedRegion")
                    yield tuple(f"{owner}.{method}" for owner in owners)


def check(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each name that no page describes."""
    described = env.domains.python_domain.objects
    for places in public_names():
        if not described.keys() & set(places):
            LOG.warning("%s is public, and no page describes it", places[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the check to the build."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
