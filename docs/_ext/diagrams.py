"""The directive `diagram`: a drawing in characters, which the manual shows as an SVG.

    ```{diagram} What the drawing shows, for those who cannot see it
    +------+     +------+
    | page |---->| file |
    +------+     +------+
    ```

The SVG stands in the page itself and has the colours of its text, so that it is right in a dark
theme too.
"""

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata
from sphinxcontrib.svgbob._svgbob import to_svg


def drawn(text: str, title: str) -> str:
    """Return the SVG of a drawing in characters."""
    svg: str = to_svg(  # type: ignore[call-arg]  # its stub has another name for background_color
        text,
        font_size=13,  # a character is then no wider than its column
        font_family="var(--font-stack--monospace)",
        stroke_color="currentColor",
        fill_color="currentColor",
        background_color="transparent",
        stroke_width=1.5,
    )
    # A screen reader says the title.
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


class Diagram(SphinxDirective):
    """A drawing in characters, with a title."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the figure."""
        title = self.arguments[0]
        picture = drawn("\n".join(self.content), title)
        figure = (
            f'<figure class="diagram">{picture}<figcaption>{escape(title)}</figcaption></figure>'
        )
        return [nodes.raw("", figure, format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("diagram", Diagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
