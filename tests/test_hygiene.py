"""What holds for the project as a whole."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import fairlth
from fairlth.config import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=paths.ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
TEXTS = [
    name
    for name in TRACKED
    if name.endswith(
        (".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".ipynb", "Makefile", "Snakefile")
    )
]


def plain(name):
    """A package's name as registries compare it."""
    return name.lower().replace("_", "-")


def names(requirements):
    return {plain(re.match(r"[\w-]+", requirement)[0]) for requirement in requirements}


def test_environment_yml_keeps_step_with_pyproject():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    python, pip, nested = environment["dependencies"]
    assert environment["name"] == PROJECT["project"]["name"] and pip == "pip"
    assert environment["channels"] == ["conda-forge"]
    low, high = re.fullmatch(
        r">=(3\.\d+),<(3\.\d+)", PROJECT["project"]["requires-python"]
    ).groups()
    assert (
        tuple(map(int, low.split(".")))
        <= tuple(map(int, python.removeprefix("python=").split(".")))
        < tuple(map(int, high.split(".")))
    )
    assert nested == {"pip": ["-e .[all]", *PROJECT["dependency-groups"]["dev"]]}


def test_the_required_packages_are_required():
    wanted = {
        "torch",
        "torchvision",
        "jupyterlab",
        "papermill",
        "nbval",
        "matplotlib",
        "seaborn",
        "pandas",
    }
    extras = PROJECT["project"]["optional-dependencies"]
    required = [
        *PROJECT["project"]["dependencies"],
        *(name for extra in extras.values() for name in extra),
    ]
    assert wanted <= names(required)
    assert extras["all"] == ["fairlth[notebooks,workflow,export,units,timm]"]


def imported(path):
    """Packages that a file imports when it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"fairlth"}


EXTRAS = {
    "workflow": {"workflow"},
    "export": {"export"},
}  # part of a file's path -> extras that it may need
COME_ALONG = {
    "PIL": "torchvision",
    "nbformat": "papermill",
    "nbclient": "papermill",
    "pydantic_settings": "pydantic-settings",
    "sklearn": "scikit-learn",
}


@pytest.mark.parametrize("path", sorted(paths.PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_a_plain_install_brings_what_is_imported(path):
    required = [*PROJECT["project"]["dependencies"]]
    for part in path.relative_to(paths.PACKAGE).with_suffix("").parts:
        for extra in EXTRAS.get(part, set()):
            required += PROJECT["project"]["optional-dependencies"][extra]
    wanted = {plain(COME_ALONG.get(name, name)) for name in imported(path)}
    assert wanted <= names(required)


def test_a_module_imports_only_what_stands_below_it():
    """The contracts of import-linter in pyproject.toml."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in done.stdout


def test_every_module_stands_somewhere_in_the_order():
    """A new module without a place would be let in by every contract."""
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    placed = {name for layer in layers for name in re.findall(r"fairlth\.(\w+)", layer)}
    there = {path.stem for path in paths.PACKAGE.glob("[a-z]*.py")}
    there |= {path.parent.name for path in paths.PACKAGE.glob("*/__init__.py")}
    assert placed == there


def test_the_map_of_the_package_names_every_module_and_wing():
    there = {path.stem for path in paths.PACKAGE.glob("[a-z]*.py")}
    core = re.findall(r"^- (\w+):", fairlth.__doc__, re.M)
    wings = set(re.findall(r"`(\w+)`", fairlth.__doc__))
    assert set(core) == there and len(core) == len(there)
    assert wings == {path.parent.name for path in paths.PACKAGE.glob("*/__init__.py")}


def test_no_two_test_files_have_one_name():
    """Pytest takes each file's stem for a module's name."""
    stems = [path.stem for path in (paths.ROOT / "tests").rglob("test_*.py")]
    assert len(set(stems)) == len(stems)


def test_one_version_everywhere():
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text())
    changes = (paths.ROOT / "CHANGELOG.md").read_text()
    assert fairlth.__version__ == PROJECT["project"]["version"] == citation["version"]
    assert f"## {fairlth.__version__}" in changes


def test_the_citation_prefers_the_paper():
    paper = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text())["preferred-citation"]
    assert paper["doi"] == "10.1145/3650212.3680336" and len(paper["authors"]) == 6


def test_the_readme_names_the_commands_and_ci_calls_the_tests():
    readme = (paths.ROOT / "README.md").read_text()
    for command in (
        "make reproduce",
        "make test",
        "make figures",
        "make bench",
        "make lab",
        "VENV=",
        "environment.yml",
    ):
        assert command in readme, command
    commands = [
        line
        for line in (paths.ROOT / ".ci/run").read_text().splitlines()
        if line.startswith("make")
    ]
    assert commands == ["make test"]


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_carries_a_path_of_a_machine(name):
    if name.startswith("tests/"):
        return
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/", (paths.ROOT / name).read_text())


def test_no_data_weights_or_pickles_are_tracked_and_none_are_read():
    assert not [
        name
        for name in TRACKED
        if name.endswith((".parquet", ".pt", ".pth", ".pkl", ".npz", ".safetensors", ".zlib"))
    ]
    for name in TRACKED:
        if name.startswith(("fairlth/", "notebooks/", "benchmarks/", "studies/")) and name in TEXTS:
            text = (paths.ROOT / name).read_text()
            if name == "studies/given_network.py":  # stands in for a user's own code
                assert text.count("torch.load(") == text.count("weights_only=True") == 1
                text = text.replace("torch.load(", "").replace("torch.save(", "")
            assert not re.search(
                r"pickle|torch\.(load|save)\b|export\.(load|save)\b|joblib|\bdill\b", text
            ), name


def test_nothing_that_smoke_writes_is_tracked():
    made = [
        "runs/smoke/records/x.json",
        "figures/smoke/x.png",
        "data/results/smoke.csv",
        "data/cache/x",
        "data/sets/x",
        ".venv/x",
    ]
    ignored = subprocess.run(
        ["git", "check-ignore", *made], cwd=paths.ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert ignored.split() == made
