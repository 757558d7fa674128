"""The rooms of the design: pure files import nothing that reads, writes, logs or configures."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import crome_jax

ROOT = Path(crome_jax.__file__).parent
PURE_FOLDERS = ("models", "objectives")
PURE_FILES = ("groups.py", "batch.py", "scored.py", "errors.py", "data/cutting.py", "data/packing.py")
PURE = sorted(
    [ROOT / name for name in PURE_FILES] + [path for folder in PURE_FOLDERS for path in (ROOT / folder).rglob("*.py")]
)
KNOWN = {"bisect", "einops", "flax", "jax", "jaxtyping", "numpy", "qwix"} | {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
}
KNOWN |= {"functools", "itertools", "json", "math", "operator", "types", "typing"}
OPTIONAL = {"apache_beam"}
"""Packages that a module may want which not every installation has."""

FILE_SYSTEM = {"open", "input", "print"}


def imported(path: Path) -> set[str]:
    """Return the modules a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module)
    return names


def as_file(module: str) -> Path:
    path = ROOT.parent / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PURE, ids=name)
def test_a_pure_file_imports_only_what_computes(path):
    own = {module for module in imported(path) if module.split(".")[0] == "crome_jax"}
    assert {module.split(".")[0] for module in imported(path) - own} <= KNOWN
    assert {name(as_file(module)) for module in own} <= {name(pure) for pure in PURE}


@pytest.mark.parametrize("path", PURE, ids=name)
def test_a_pure_file_touches_no_file_and_no_terminal(path):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & FILE_SYSTEM


@pytest.mark.parametrize("folder", ["augment", "objectives"])
def test_what_makes_and_weighs_comparisons_knows_no_spurious_attributes(folder):
    known = ("crome_jax.data.datasets", "crome_jax.evaluation.strata", "crome_jax.evaluation.style_attributes")
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        assert not {module for module in imported(path) if module.startswith(known)}, path


def test_gin_is_imported_at_the_edge_alone():
    users = {name(path) for path in ROOT.rglob("*.py") if any(m.split(".")[0] == "gin" for m in imported(path))}
    assert users == {"configuration.py"}


def test_the_check_sees_an_impure_import(tmp_path):
    path = tmp_path / "impure.py"
    path.write_text("def f():\n    import logging\n    from os import path\n")
    assert imported(path) == {"logging", "os"}


def test_every_module_can_be_imported_by_itself():
    for module in pkgutil.walk_packages([str(ROOT)], "crome_jax."):
        if module.name == "crome_jax.__main__":  # Importing that runs the command.
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as e:
            if e.name not in OPTIONAL:
                raise
