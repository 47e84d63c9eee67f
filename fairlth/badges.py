"""Gives every notebook in the README a badge that opens it in Colab, once the address is known where the project is published.

python -m fairlth.badges owner/name
"""

import argparse
import re
import sys

from fairlth import command, config

README = config.ROOT / "README.md"
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({})"
COLAB = "https://colab.research.google.com/github/{}/blob/main/notebooks/{}.ipynb"
INSTALL = (
    "In Colab, run `!pip install git+https://github.com/{}` first; what a notebook reads at `small` is not there, `smoke` is."
)


def badged(text: str, repository: str) -> str:
    """The README with a badge after each link to a notebook and a line on how to install; older badges are replaced.

    Raises:
        ValueError: the repository is not named as owner/name.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository={repository!r} is refused: expected owner/name, as its address has it.")
    text = re.sub(r" ?\[!\[Open in Colab\].*?\)\]\(.*?\)", "", text)
    text = re.sub(r"In Colab, run .*\n\n", "", text)
    badge = BADGE.format(COLAB.format(repository, r"\2"))
    text = re.sub(r"(\[[\w ]+\]\(notebooks/(\w+)\.ipynb\))", rf"\1 {badge}", text)
    return text.replace("## What is where\n\n", f"## What is where\n\n{INSTALL.format(repository)}\n\n", 1)


def main() -> int:
    """The command line; 2 for bad input."""
    parser = argparse.ArgumentParser(description="Badges in the README that open the notebooks in Colab.")
    parser.add_argument("repository", help="owner/name")
    repository = parser.parse_args().repository
    return command.ended(lambda: config.write_atomically(README, badged(README.read_text(), repository).encode()))


if __name__ == "__main__":
    sys.exit(main())
