"""Takes out of executed notebooks what differs from machine to machine: times of execution and versions of the kernel."""

from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tidy(path: Path) -> None:
    """Rewrites one notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for notebook_path in sorted(NOTEBOOKS.glob("*.ipynb")):
        tidy(notebook_path)
