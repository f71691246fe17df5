"""What a command imports: a reading command starts without torch, and a misspelt one is refused at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rows_factory import make_row

from dmlbench.results.row_files import write_row

HEAVY = ("torch", "hydra", "numpy", "pandas", "scipy", "sklearn", "tabulate")
CODE = (
    "import sys; from dmlbench.cli import run; status = run(sys.argv[1:]); "
    f"print(status, *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
)


def status_and_imports(*argv: str) -> tuple[int, set[str]]:
    """Run a command in a new process; return its status, and which of the heavy packages it has imported."""
    done = subprocess.run([sys.executable, "-c", CODE, *argv], check=True, capture_output=True, text=True)
    status, *imported = done.stderr.splitlines()[-1].split()
    return int(status), set(imported)


@pytest.fixture
def two_methods() -> None:
    """Rows of two methods with two seeds each, below runs/."""
    for loss in ("triplet", "arcface"):
        for seed in (0, 1):
            row = make_row(0.5 + seed / 10, loss=loss, seed=seed)
            write_row(Path("runs") / "digits" / loss / str(row["run_id"]), row)


@pytest.mark.parametrize("argv", [["--help"], ["table", "--help"], ["list", "losses"]], ids=" ".join)
def test_help_and_list_import_no_heavy_package(argv: list[str]) -> None:
    assert status_and_imports(*argv) == (0, set())


def test_show_imports_no_heavy_package(two_methods: None) -> None:
    [run_directory] = Path("runs/digits/triplet").glob("*-0")
    status, imported = status_and_imports("show", str(run_directory))
    assert status == 0
    assert not imported & {"torch", "hydra", "pandas", "scipy", "sklearn"}


@pytest.mark.parametrize("argv", [["table"], ["compare", "triplet", "arcface"]], ids=" ".join)
def test_table_and_compare_import_neither_torch_nor_hydra(two_methods: None, argv: list[str]) -> None:
    status, imported = status_and_imports(*argv)
    assert status == 0
    assert not imported & {"torch", "hydra", "pandas", "sklearn"}


def test_table_without_tests_imports_neither_numpy_nor_scipy(two_methods: None) -> None:
    status, imported = status_and_imports("table", "--no-test")
    assert status == 0
    assert not imported & {"torch", "hydra", "pandas", "sklearn", "numpy", "scipy"}


REFUSED = [
    ["train", "losss=arcface"],
    ["train", "protocol.epochs=many"],
    ["sweep", "loss=arcface,softripple"],
    ["sweep", "loss=triplet,arcface", "seed=0,x"],
    ["tune", "tuning.trials=-1"],
    ["data", "check", "cubb"],
    ["train", "dataset=cub"],
    ["train", "dataset=folder", "dataset.root=nowhere"],
    ["train", "protocol.fold=9"],
    ["train", "protocol.batch_size=63"],
    ["train", "trunk=resnet18", "trunk.weights=nowhere.pth"],
    ["sweep", "dataset=cub", "loss=triplet"],
    ["sweep", "protocol.lr=1,-1"],
    ["sweep", "protocol.epochs=1,-1"],
]
CODE_OF_REFUSED = (
    "import json, sys; from dmlbench.cli import run\nfor argv in json.loads(sys.argv[1]):\n    status = run(argv)\n"
    f"    print(json.dumps([argv, status, [name for name in {HEAVY} if name in sys.modules]]))"
)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    """Run all commands of `REFUSED` in one new process; what a command imports counts for the later ones too."""
    code = [sys.executable, "-c", CODE_OF_REFUSED, json.dumps(REFUSED)]
    done = subprocess.run(code, cwd=tmp_path_factory.mktemp("refused"), check=True, capture_output=True, text=True)
    found = map(json.loads, done.stdout.splitlines())
    return {" ".join(argv): (status, set(imported)) for argv, status, imported in found}


@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_a_refused_override_exits_with_status_2_before_torch_is_imported(
    argv: list[str], refused: dict[str, tuple[int, set[str]]]
) -> None:
    status, imported = refused[" ".join(argv)]
    assert status == 2
    assert not imported & {"torch", "pandas", "scipy", "sklearn"}
