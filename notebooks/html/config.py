"""How `make html` renders notebooks: formulas as MathML, links between pages, no network.

jupyter nbconvert --to html --config notebooks/html/config.py notebooks/02_walkthrough.ipynb
"""

import re
from pathlib import Path

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath


class Renderer(IPythonRenderer):
    """Markdown to HTML; a formula becomes MathML, which browsers draw by themselves."""

    def block_math(self, body: str) -> str:
        """A formula on a line of its own."""
        return convert(body, display="block")

    def inline_math(self, body: str) -> str:
        """A formula in the text."""
        return convert(body)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link; one to another notebook leads to its page."""
        return super().link(text, re.sub(r"^([\w-]+)\.ipynb", r"\1.html", url), title)


def markdown(source: str) -> str:
    """A Markdown cell as HTML."""
    return MarkdownWithMath(renderer=Renderer(escape=False)).render(source)


c = get_config()  # noqa: F821
c.HTMLExporter.filters = {"markdown2html": markdown}
c.HTMLExporter.extra_template_basedirs = [str(Path(__file__).resolve().parents[1])]
c.HTMLExporter.template_name = "html"
c.NbConvertApp.log_format = "== %(message)s"
