"""Errors, help and dir() name public classes, and not the private ones that these consist of."""

import pickle
import pydoc
import re
from typing import Any

import pytest

import mmapwrap
from mmapwrap import ExternalMapping, MappedRegion, MemoryMapping, MemoryMappingArena, mmap

REGIONS = [MemoryMapping, MemoryMappingArena, ExternalMapping]


@pytest.mark.parametrize(
    ("method", "needed"),
    [("advise", "advice"), ("read_obj", "scalar"), ("find", "needle"), ("read_slice", "buffer")],
)
def test_type_error_about_arguments_names_the_public_class(method: str, needed: str) -> None:
    mapping: Any = MemoryMapping.new(1)
    with pytest.raises(TypeError, match=rf"^MappedRegion\.{method}\(\) missing .*'{needed}'"):
        getattr(mapping, method)()
    memory: Any = mmap.mmap(-1, 1)
    with pytest.raises(TypeError, match=r"^mmap\.seek\(\) missing .*'pos'"):
        memory.seek()


@pytest.mark.parametrize("kind", REGIONS)
def test_help_lists_all_methods_under_public_classes(kind: type) -> None:
    text = pydoc.plain(pydoc.render_doc(kind))
    owners = set(re.findall(r"(?:Methods|properties) inherited from (\S+):", text))
    private = {"mmapwrap._core.construction.NamedConstructors", "mmapwrap._core._mman.Exporter"}
    assert owners - private == {"mmapwrap._regions.region.MappedRegion"}
    assert "Region." not in text.replace("MappedRegion.", "")


def test_method_of_a_private_class_is_pickled_under_the_public_one() -> None:
    method = MemoryMapping.advise
    assert pickle.loads(pickle.dumps(method)) is MappedRegion.advise


def test_dir_of_the_package_is_its_public_names() -> None:
    names = dir(mmapwrap)
    assert [name for name in names if name.startswith("_")] == ["__version__"]
    assert {"MemoryMapping", "ProtectionError", "attempt", "errors", "u8"} <= set(names)
    assert set(names) - {"__version__"} <= vars(mmapwrap).keys()
