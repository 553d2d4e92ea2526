"""Where names in the reference lead.

- A name in backquotes in a docstring is a link if it is a public name, and code if it is none.
- `MemoryMapping.find` leads to `MappedRegion.find`, where the method is described.
- A name that no module exports leads to the paragraph that explains it.
- A link to the README leads to the start page, which says the same.
- A name of Python's library leads to Python's manual, by the list in `python_names.txt`, so that no
  build needs the network.
"""

import re
import zlib
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

NAMES_OF_PYTHON = Path(__file__).with_name("python_names.txt")

# Names in signatures that no module exports, and the labels of the paragraphs about them.
EXPLAINED = {
    "FaultGuard": "fault-guard",
    "HasFileno": "argument-descriptor",
    "Buffer": "argument-buffer",
    "DTypeLike": "argument-array",
    "Shape": "argument-array",
    "NDArray": "argument-array",
    "N": "argument-number",
    **dict.fromkeys(("T", "U", "E", "P", "P.args", "P.kwargs"), "argument-variable"),
}
# The classes whose methods are described with their base.
REGIONS = ("MemoryMapping", "MemoryMappingArena", "ExternalMapping")


class NameRole(PyXRefRole):
    """Text in backquotes: a link where it is a public name."""

    def process_link(
        self,
        env: BuildEnvironment,
        refnode: nodes.Element,
        has_explicit_title: bool,  # noqa: FBT001, the signature is Sphinx's
        title: str,
        target: str,
    ) -> tuple[str, str]:
        """Note that the link may lead nowhere."""
        title, target = super().process_link(env, refnode, has_explicit_title, title, target)
        refnode["refdomain"], refnode["reftype"], refnode["is_optional"] = "py", "obj", True
        # `mmap` in a docstring is the system call.
        return title, "" if target == "mmap" else target.removesuffix("()")


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Resolve a link whose target has no description of its own."""
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"]
    domains, page = env.domains, node.get("refdoc", "")
    if label := EXPLAINED.get(target) or EXPLAINED.get(target.rpartition(".")[2]):
        link = pending_xref(refdomain="std", reftype="ref", refexplicit=True, refwarn=True)
        link += text.deepcopy()
        return domains.standard_domain.resolve_xref(
            env, page, app.builder, "ref", label, link, text
        )
    kind, _, attribute = target.removeprefix("mmapwrap.").rpartition(".")
    places = [f"mmapwrap.{target}"]
    if (kind or node.get("py:class")) in REGIONS:
        places.append(f"mmapwrap.MappedRegion.{attribute}")
    for place in places:
        found = domains.python_domain.resolve_xref(env, page, app.builder, "obj", place, node, text)
        if found is not None:
            return found
    return text if node.get("is_optional") else None


def lead_to_start_page(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Replace the README in links, which are written for those who read the files."""
    source[0] = re.sub(r"\]\(\.\./((?:\.\./)*)README\.md", r"](\1index.md", source[0])


def write_inventory(app: Sphinx, config: Config) -> None:
    """Write the names of Python's library in the form that Sphinx reads."""
    lines = []
    for line in NAMES_OF_PYTHON.read_text().splitlines():
        name, kind, page = line.split()
        lines.append(f"{name} py:{kind} 1 {page}#$ -\n")
    head = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    inventory = Path(app.doctreedir) / "python.inv"
    inventory.parent.mkdir(parents=True, exist_ok=True)
    inventory.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))
    config.intersphinx_mapping = {"python": ("https://docs.python.org/3", str(inventory))}


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the role, and connect the functions to the build."""
    app.add_role("name", NameRole())
    app.connect("config-inited", write_inventory, priority=100)  # before intersphinx reads it
    app.connect("source-read", lead_to_start_page)
    app.connect("missing-reference", resolve, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
