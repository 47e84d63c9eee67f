import sys

import nbformat
import pytest

from fairlth import config, pages


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Two committed notebooks, of which the first links to the second; the second has been executed at smoke."""
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(config, "RUNS", tmp_path / "runs")

    def write(folder, name, text):
        cells = [nbformat.v4.new_markdown_cell(f"# {name} · <Title>\n\n{text}")]
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)

    write(tmp_path / "notebooks", "01_a", "see [the other](02_b.ipynb)")
    write(tmp_path / "notebooks", "02_b", "committed words")
    write(tmp_path / "runs/smoke/notebooks", "02_b", "executed words")
    write(tmp_path / "runs/smoke/notebooks", "digits_mlp_lth_d0.02_s0", "one of many")
    return tmp_path


def test_pages_are_those_executed_at_the_preset_else_the_committed(notebooks):
    index = pages.render("smoke")
    folder = notebooks / "runs/smoke/html"
    assert index == folder / "index.html"
    assert sorted(path.name for path in folder.iterdir()) == ["01_a.html", "02_b.html", "index.html"]
    assert (
        "executed words" in (folder / "02_b.html").read_text() and "committed words" not in (folder / "02_b.html").read_text()
    )
    assert 'href="02_b.html"' in (folder / "01_a.html").read_text()
    text = index.read_text()
    assert '<a href="01_a.html">01_a · &lt;Title&gt;</a><br><small>as committed' in text
    assert '<a href="02_b.html">02_b · &lt;Title&gt;</a><br><small>executed at smoke' in text
    assert "committed words" in (pages.render("small").parent / "02_b.html").read_text()


def test_the_command_says_where_the_pages_are_and_refuses_an_unknown_preset(notebooks, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pages", "small"])
    assert pages.main() == 0
    assert capsys.readouterr().out.strip().endswith("runs/small/html/index.html")
    monkeypatch.setattr(sys, "argv", ["pages", "huge"])
    assert pages.main() == 2
    assert "preset='huge' is refused" in capsys.readouterr().err
