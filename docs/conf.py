"""The settings of the manual, which Sphinx makes of the pages in this folder.

`nox -s docs` installs the wheel, builds the manual with every warning an error, and runs every
example of every page.
"""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "mmapwrap"
author = "The mmapwrap authors"
copyright = author  # noqa: A001, the name that Sphinx has for it
release = version = version_of(project)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    # Of docs/_ext.
    "diagrams",
    "signatures",
    "links",
    "completeness",
]
exclude_patterns = ["_build", "_ext", "api/_*.md"]
templates_path: list[str] = []

# --- Markdown -------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
# The names of headings, as GitHub makes them, so that links work there and here.
myst_heading_anchors = 3

# --- The reference --------------------------------------------------------------------------------

nitpicky = True
default_role = "name"
nitpick_ignore: list[tuple[str, str]] = []
add_module_names = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 95
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Safety"]
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# --- HTML -----------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"mmapwrap {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
}
pygments_style = "default"
