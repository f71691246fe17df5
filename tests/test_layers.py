"""The structure of the package: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dmlbench"
# From the bottom to the top: a package imports only from those before it.
LAYERS = (
    *("errors", "system", "config", "results", "evaluation", "data", "losses", "models", "training", "tuning"),
    *("verification", "tables", "pictures", "api", "runs", "publication", "report", "site", "web", "cli", "__main__"),
)
READING = ("results", "verification", "tables")
READING_MAY_IMPORT = {"errors", "system", "config", "results", "verification", "tables"}


def package_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_packages(path: Path) -> set[str]:
    """The packages of dmlbench that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "dmlbench":
            names = [f"dmlbench.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("dmlbench.") and not name.startswith("dmlbench.__")}
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_package_has_a_layer() -> None:
    assert {package_of(path) for path in MODULES} == set(LAYERS)


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_from_layers_below(package: str) -> None:
    allowed = {package, *LAYERS[: LAYERS.index(package)]}
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in MODULES
        if package_of(path) == package
        for name in imported_packages(path) - allowed
    }
    assert not wrong


def test_the_reading_side_imports_nothing_that_trains() -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in MODULES
        if package_of(path) in READING
        for name in imported_packages(path) - READING_MAY_IMPORT
    }
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
    }
    imports = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    while leaves := [name for name, others in imports.items() if not others]:
        for leaf in leaves:
            del imports[leaf]
        imports = {name: others - set(leaves) for name, others in imports.items()}
    assert not imports


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of dmlbench that a module imports, anywhere in it except for type checking."""
    found = set()
    tree = ast.parse(path.read_text())
    for_types = [
        node
        for one in ast.walk(tree)
        if isinstance(one, ast.If) and "TYPE_CHECKING" in ast.unparse(one.test)
        for node in ast.walk(one)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in for_types:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else node.module)
    return found & set(known)
