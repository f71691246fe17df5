"""The house stands: a module imports only from floors below its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dmlbench"

# Floor of each module or family; a family's modules may know each other.
FLOORS = {
    "__init__": 0,
    "errors": 0,
    "configs": 1,
    "machine": 2,
    "measures": 1,
    "plan": 1,
    "presets": 1.5,
    "randomness": 1,
    "screen": 1,
    "locks": 1,
    "unfinished": 1.5,
    "rows": 2,
    "axes": 3,
    "costs": 3,
    "deviations": 3,
    "published": 3,
    "stats": 3,
    "sentinels": 3,
    "labels": 3.5,
    "caption": 3.5,
    "lines": 3.7,
    "marks": 3.7,
    "significance": 3,
    "lookup": 3,
    "run_folder": 3,
    "build": 3,
    "download": 3,
    "samplers": 3,
    "data": 3.5,
    "trunks": 3.5,
    "losses": 3.5,
    "comparison": 4,
    "table": 4,
    "train": 4,
    "embed": 4,
    "evaluate": 4,
    "features": 4.2,
    "judge": 4.5,
    "render": 5,
    "comparison_text": 5,
    "run_text": 5,
    "explanation": 5,
    "experiment": 5,
    "ledger": 5,
    "tuning": 5.5,
    "launch": 6,
    "launchers": 6.5,
    "mistakes": 6.5,
    "rescore": 6.5,
    "cli": 7,
    "__main__": 8,
}
TRAINING = {
    "machine",
    "randomness",
    "build",
    "download",
    "samplers",
    "data",
    "trunks",
    "losses",
    "train",
    "embed",
    "evaluate",
    "features",
    "judge",
    "experiment",
    "tuning",
}
PAPER = {
    "axes",
    "sentinels",
    "stats",
    "significance",
    "lookup",
    "run_folder",
    "screen",
    "costs",
    "deviations",
    "labels",
    "caption",
    "explanation",
    "lines",
    "marks",
    "published",
    "comparison",
    "table",
    "render",
    "comparison_text",
    "run_text",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def family(module: str) -> str:
    """`dmlbench.data.split` -> `data`; `dmlbench` -> `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def home(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path: Path) -> set[str]:
    """The families of dmlbench that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {family(alias.name) for alias in node.names if alias.name.split(".")[0] == "dmlbench"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dmlbench":
            assert node.module
            names = {family(f"{node.module}.{alias.name}") for alias in node.names}
            found |= {name if name in FLOORS else family(node.module) for name in names}
    return found


def test_every_module_has_a_floor() -> None:
    assert {home(path) for path in MODULES} == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_floors_below_its_own(path: Path) -> None:
    own = home(path)
    wrong = {name for name in imported(path) if name != own and FLOORS[name] >= FLOORS[own]}
    assert not wrong, f"{path.name} (floor {FLOORS[own]}) imports {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_two_towers_never_import_each_other(path: Path) -> None:
    own = home(path)
    other = PAPER if own in TRAINING else TRAINING if own in PAPER else set()
    assert not imported(path) & other


def test_only_build_calls_hydras_instantiate() -> None:
    callers = {home(path) for path in MODULES if "instantiate(" in path.read_text()}
    assert callers == {"build"}


def test_every_torch_load_reads_weights_only() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
