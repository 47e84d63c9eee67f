"""The order of the modules: each imports only what stands above it."""

import ast
from pathlib import Path

import pytest

import fairlth

PACKAGE = Path(fairlth.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ALONE = {
    "masks": {"config"},
    "metrics": set(),
    "figures": {"config", "figures", "metrics"},
    "config": set(),
    "progress": set(),
}


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Modules of the package that a file imports, each folder as one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "fairlth":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fairlth."):
            found.add(node.module.split(".")[1])
    return found & set(fairlth.ORDER)


def test_every_module_is_in_the_order():
    assert {module_of(path) for path in FILES} == {"__init__", *fairlth.ORDER}


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path) != "__init__"], ids=lambda path: path.stem)
def test_a_module_imports_only_modules_above_it(path):
    own = module_of(path)
    own_wing = {own} if (PACKAGE / own).is_dir() else set()
    above = set(fairlth.ORDER[: fairlth.ORDER.index(own)])
    assert imported(path) <= above | own_wing


@pytest.mark.parametrize("module", ALONE)
def test_what_stands_nearly_alone(module):
    for path in FILES:
        if module_of(path) == module:
            assert imported(path) <= ALONE[module]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_is_over_40_lines(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 40, f"{path.name}: {node.name} has {length} lines"


def test_training_does_not_know_masks():
    assert "masks" not in imported(PACKAGE / "training.py")
