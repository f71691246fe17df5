"""One method over two hyper-parameters: a table, its CSV form and a heat map."""

from __future__ import annotations

import csv
import doctest
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.tables import grid
from dmlbench.tables.formats.grid import csv_grid, markdown_grid
from dmlbench.tables.grid import compare_grid

KEYS = ("loss.make.alpha", "loss.make.beta")
ALPHAS, BETAS = (2, 2.5, 10.0), (0.0, 0.5)


def row_at(alpha: float, beta: float, score: float, seed: int = 0, **columns: object) -> Row:
    names = {"loss": "sgml", "loss_label": "SGML", "loss_make_alpha": alpha, "loss_make_beta": beta}
    return make_row(score, seed=seed, **{**names, **columns})  # type: ignore[arg-type]


@pytest.fixture
def rows() -> list[Row]:
    found = [
        row_at(alpha, beta, 0.1 * (i + 1) + 0.05 * j + 0.02 * seed, seed)
        for i, alpha in enumerate(ALPHAS)
        for j, beta in enumerate(BETAS)
        for seed in (0, 1)
    ]
    return [*found, *(make_row(0.08, loss="untrained", seed=seed) for seed in (0, 1))]


def test_each_cell_is_the_mean_over_seeds_and_the_best_one_is_marked(rows: Sequence[Row]) -> None:
    [table] = compare_grid(rows, KEYS)
    assert (table.label, table.keys, table.values) == ("SGML", KEYS, (ALPHAS, BETAS))
    means = [[table.cells[alpha, beta].mean for beta in BETAS] for alpha in ALPHAS]  # type: ignore[union-attr]
    assert [value for line in means for value in line] == pytest.approx([0.11, 0.16, 0.21, 0.26, 0.31, 0.36])
    assert table.cells[2, 0.0].half_width == pytest.approx(0.127, abs=1e-3)  # type: ignore[union-attr]
    assert table.best == (10.0, 0.5)
    assert [cell.mean for cell in table.baselines.values()] == [0.08]  # type: ignore[union-attr]
    assert table.notes == ()
    [turned] = compare_grid(rows, (KEYS[1], KEYS[0]), "recall_at_1")
    assert turned.values == (BETAS, ALPHAS)
    assert turned.cells[0.5, 10.0] == table.cells[10.0, 0.5]


def test_a_whole_number_and_the_same_decimal_are_one_value(rows: list[Row]) -> None:
    same = [row_at(2.0, 0.5, 0.4, seed=2), row_at(2, 0.0, 0.4, seed=2)]
    [table] = compare_grid([*rows, *same], KEYS)
    assert table.values == (ALPHAS, BETAS)


def test_missing_runs_failed_runs_and_missing_seeds_are_noted(rows: list[Row]) -> None:
    kept = [row for row in rows if (row.get("loss_make_alpha"), row.get("loss_make_beta")) != (2.5, 0.5)]
    kept = [row for row in kept if (row.get("loss_make_alpha"), row.get("loss_make_beta"), row.seed) != (2, 0.0, 1)]
    kept += [row_at(10.0, 0.5, 0.9, seed=2, status="failed", reason="the loss is nan")]
    [table] = compare_grid(kept, KEYS)
    assert table.cells[10.0, 0.5] is None
    assert (2.5, 0.5) not in table.cells
    assert table.best == (10.0, 0.0)
    assert table.notes[0] == "At alpha 2, beta 0: no seeds 1, 2, which other runs have"
    assert "At alpha 10, beta 0.5: no result for seed 2" in table.notes
    assert table.notes[-1] == "No run at alpha 2.5, beta 0.5"


def test_variants_of_the_method_that_make_no_grid_are_noted(rows: list[Row]) -> None:
    detached = [row_at(2.0, beta, 0.4, loss_make_detach=True) for beta in BETAS]
    [table] = compare_grid([*rows, *detached], KEYS)
    [note] = table.notes
    assert note.startswith("1 variant of the method, with another value of something else, is not in this table")


def test_methods_and_protocols_that_differ_in_something_else_have_tables_of_their_own(rows: list[Row]) -> None:
    others = [row_at(alpha, beta, 0.2, loss_make_detach=True) for alpha in ALPHAS for beta in BETAS]
    others += [row_at(alpha, beta, 0.3, optimizer="sgd") for alpha in ALPHAS for beta in BETAS]
    tables = compare_grid([*rows, *others, make_row(0.3, loss="triplet")], KEYS)
    assert len(tables) == 3
    assert {table.label for table in tables} > {"SGML"}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (KEYS[:1] * 2, "--by loss.make.alpha,loss.make.alpha needs two different values"),
        (
            ("loss.make.alpha", "loss.make.bta"),
            "--by loss.make.bta is not an axis of these rows; did you mean 'loss.make.beta'",
        ),
        (
            ("trunk", "loss.make.beta"),
            "--by trunk,loss.make.beta needs two single values, such as loss.make.alpha; use --vary trunk",
        ),
        (
            ("loss.make.alpha", "protocol.lr"),
            "no method has results at several values of both loss.make.alpha and protocol.lr; run `dmlbench sweep` with a list",
        ),
    ],
)
def test_keys_without_a_grid_are_refused(rows: Sequence[Row], keys: tuple[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        compare_grid(rows, keys)
    assert str(refused.value).startswith(sentence)


def test_the_table_as_markdown_and_csv(rows: Sequence[Row]) -> None:
    text = markdown_grid(compare_grid(rows, KEYS))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert cells[0] == ["alpha / beta", "0", "0.5"]
    assert [row[0] for row in cells[2:]] == ["2", "2.5", "10"]
    assert cells[-1][2] == "**36.0 ± 12.7**"
    assert "MAP@R of SGML: rows are loss.make.alpha, columns are loss.make.beta." in text.replace("\n", " ")
    assert "Untrained trunk: 8.0" in text
    lines = list(csv.DictReader(io.StringIO(csv_grid(compare_grid(rows, KEYS)))))
    assert len(lines) == 6
    assert [line["best"] for line in lines] == ["False"] * 5 + ["True"]
    assert (lines[5]["row_value"], lines[5]["column_value"], float(lines[5]["mean"])) == ("10.0", "0.5", pytest.approx(0.36))


@pytest.mark.usefixtures("runs")
def test_one_command_prints_the_table_and_draws_the_same_heat_map_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for name in ("first.png", "second.png"):
        assert run(["table", "--by", ",".join(KEYS), "--picture", name]) == 0
        pictures.append(Path(name).read_bytes())
    assert "| alpha / beta" in capsys.readouterr().out
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 5000


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("value", ["speed", "loss.make.alpha", "a,b,c", "loss.make.alpha,"])
def test_another_value_of_by_is_refused_with_those_that_work(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "--by", value]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"dmlbench: --by {value} is not known; use lr, split, or two values such as loss.make.alpha,loss.make.beta\n"
    )


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(grid).failed == 0
