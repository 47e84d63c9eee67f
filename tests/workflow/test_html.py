"""The pages of `make html`: what they show and that they need no network."""

import re
import subprocess
import sys

import nbformat
import pytest

from fairlth.config import paths

TEXT = """# Formulas

In the text $a_c$ and $\\\\bar a$, prices of 5\\\\$ and 6\\\\$, then

$$\\\\mathrm{CWV} = \\\\frac1C\\\\sum_c (a_c-\\\\bar a)^2, \\\\qquad w_c \\\\leftarrow w_c\\\\, e^{\\\\eta} .$$

See [the other](02_b.ipynb), [a part of it](02_b.ipynb#part) and [elsewhere](https://example.org/a.ipynb).
""".replace("\\\\", "\\")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page rendered from a notebook with formulas, a widget's state and links."""
    folder = tmp_path_factory.mktemp("pages with a space")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TEXT)])
    state = {"state": {}, "version_major": 2, "version_minor": 0}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    nbformat.write(notebook, folder / "01_a.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "html"]
    command += [
        "--config",
        paths.ROOT / "notebooks/html/config.py",
        "--output-dir",
        folder / "html",
    ]
    subprocess.run([*command, folder / "01_a.ipynb"], check=True, capture_output=True)
    return (folder / "html/01_a.html").read_text()


def test_formulas_are_mathml(page):
    assert len(re.findall(r"<math ", page)) == 3
    assert len(re.findall(r'<math [^>]*display="block"', page)) == 1
    assert "<mfrac>" in page and "<msub>" in page
    assert "$$" not in page and "$a_c$" not in page and "5$ and 6$" in page


def test_a_page_loads_nothing_from_a_network(page):
    assert not re.findall(r"<script", page)
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//(?!example\.org)""", page)
    assert not re.findall(r"@import|url\(['\"]?https?:|import\(", page)


def test_links_between_notebooks_lead_to_pages(page):
    assert 'href="02_b.html"' in page and 'href="02_b.html#part"' in page
    assert 'href="https://example.org/a.ipynb"' in page


def test_every_formula_of_the_notebooks_is_understood():
    from latex2mathml.converter import convert

    formulas = set()
    for path in (paths.ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown":
                formulas |= set(re.findall(r"\$\$(.+?)\$\$", cell.source, re.S))
                formulas |= set(re.findall(r"(?<![$\\])\$([^$]+?)\$(?!\$)", cell.source))
    assert len(formulas) >= 10
    for formula in formulas:
        assert "\\" not in convert(formula), formula
