"""Renders the notebooks to pages of HTML with an index: those executed at a preset where there are some, else as committed.

python -m fairlth.pages small
"""

import argparse
import html
import re
import sys
from pathlib import Path

import nbformat

from fairlth import command, config, progress

NOTEBOOKS = config.ROOT / "notebooks"
INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>fairlth, preset {preset}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }} li {{ margin: 0.8em 0 }}
small {{ color: #6b6b6b }}</style></head>
<body><h1>fairlth: fair lottery tickets</h1><p>The notebooks, preset {preset}.</p><ul>
{lines}
</ul></body></html>
"""


def render(preset: str) -> Path:
    """Writes runs/<preset>/html/<notebook>.html for every notebook, and index.html; returns the index.

    A notebook executed at the preset (runs/<preset>/notebooks) is shown with its outputs, else as it is committed, which is at
    the defaults, preset smoke; the index says which. Links between notebooks lead to their pages.

    Raises:
        ValueError: there is no such preset.
    """
    config.check_preset(preset)
    folder, lines = config.RUNS / preset / "html", []
    for committed in sorted(NOTEBOOKS.glob("*.ipynb")):
        progress.say(f"rendering {committed.stem}")
        executed = config.RUNS / preset / "notebooks" / committed.name
        path = executed if executed.exists() else committed
        notebook = nbformat.read(path, as_version=4)
        config.write_atomically(folder / f"{committed.stem}.html", page(notebook, committed.stem).encode())
        lines.append(line(notebook, committed.stem, f"executed at {preset}" if path == executed else "as committed"))
    index = INDEX.format(preset=html.escape(preset), lines="\n".join(lines))
    config.write_atomically(folder / "index.html", index.encode())
    return folder / "index.html"


def page(notebook: nbformat.NotebookNode, name: str) -> str:
    """A notebook as one page of HTML, links to other notebooks turned into links to their pages."""
    from nbconvert import HTMLExporter  # takes a second to import

    body, _ = HTMLExporter().from_notebook_node(notebook, resources={"metadata": {"name": name}})
    return re.sub(r'href="([\w-]+)\.ipynb"', r'href="\1.html"', body)


def line(notebook: nbformat.NotebookNode, name: str, source: str) -> str:
    """A notebook's line of the index: its title as a link and where its outputs are from."""
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    return f'<li><a href="{name}.html">{html.escape(title)}</a><br><small>{html.escape(source)}</small></li>'


def main() -> int:
    """The command line; 0 where the pages are written, 2 for bad input."""
    parser = argparse.ArgumentParser(description="Render the notebooks to HTML.")
    parser.add_argument("preset", nargs="?", default="smoke")
    preset = parser.parse_args().preset
    return command.ended(lambda: print(f"pages: {render(preset)}"))


if __name__ == "__main__":
    sys.exit(main())
