"""Methods over learning rates: one line per method, ranks at every rate, and how far neighbouring rates agree; and pictures."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.tables import by_rate
from dmlbench.tables.by_rate import compare_rates, spearman
from dmlbench.tables.formats.by_rate import csv_by_rate, markdown_by_rate
from dmlbench.tables.table import compare

RATES = (1e-4, 1e-3, 1e-2)
SCORES = {"contrastive": (0.2, 0.3, 0.4), "triplet": (0.3, 0.4, 0.3), "cosface": (0.4, 0.2, 0.1)}


def row_at(loss: str, rate: float, score: float, seed: int = 0, **columns: object) -> Row:
    """A row whose method owns its rate, unless it is that of the protocol."""
    own = {"loss_lr": rate, "lr_from": "method"} if rate != 1e-3 else {"loss_lr": None, "lr_from": "protocol"}
    return make_row(score, loss=loss, seed=seed, **{**own, **columns})  # type: ignore[arg-type]


@pytest.fixture
def rows() -> list[Row]:
    trained = [
        row_at(loss, rate, score + 0.01 * seed, seed)
        for loss, scores in SCORES.items()
        for rate, score in zip(RATES, scores, strict=True)
        for seed in (0, 1)
    ]
    return [*trained, *(make_row(0.1, loss="untrained", seed=seed) for seed in (0, 1))]


def test_each_method_is_a_line_with_its_mean_rank_and_best_rate(rows: Sequence[Row]) -> None:
    [table] = compare_rates(rows)
    assert table.rates == RATES
    assert [row.label for row in table.rows] == ["Contrastive", "Triplet", "CosFace"]
    contrastive = table.rows[0]
    assert [contrastive.cells[rate].mean for rate in RATES] == pytest.approx([0.205, 0.305, 0.405])  # type: ignore[union-attr]
    assert contrastive.cells[1e-4].half_width == pytest.approx(0.0635, abs=1e-4)  # type: ignore[union-attr]
    assert [row.best for row in table.rows] == [1e-2, 1e-3, 1e-4]
    assert [[row.ranks[rate] for rate in RATES] for row in table.rows] == [[3, 2, 1], [2, 1, 2], [1, 3, 3]]
    assert table.correlations == {1e-3: -0.5, 1e-2: 0.5}
    assert [row.cells[None].mean for row in table.baselines] == [0.1]  # type: ignore[union-attr]


def test_the_rate_of_the_protocol_and_that_of_a_method_are_the_same_column() -> None:
    rows = [row_at("triplet", 1e-2, 0.2), row_at("triplet", 1e-3, 0.3), row_at("cosface", 1e-2, 0.1)]
    typed = make_row(0.2, loss="cosface", loss_lr=None, lr_from="protocol", protocol_lr=1e-3)
    [table] = compare_rates([*rows, typed])
    assert table.rates == (1e-3, 1e-2)
    assert all(len(row.cells) == 2 for row in table.rows)


def test_rows_that_differ_in_more_than_the_rate_are_in_other_tables_or_lines(rows: Sequence[Row]) -> None:
    others = [row_at(str(row["loss"]), float(row["loss_lr"] or 1e-3), 0.5, optimizer="sgd") for row in rows[:18]]  # type: ignore[arg-type]
    assert len(compare_rates([*rows, *others])) == 2
    [table] = compare_rates([row_at("triplet", rate, 0.2, loss_make_margin=margin) for rate in RATES for margin in (0.1, 0.2)])
    assert [row.label for row in table.rows] == ["Triplet (margin=0.1)", "Triplet (margin=0.2)"]


def test_rows_whose_rates_were_searched_differently_are_in_other_tables(rows: Sequence[Row]) -> None:
    others = [row_at("triplet", rate, 0.5, lr_from="method: head_lr_scale not searched") for rate in RATES]
    tables = compare_rates([*rows, *others])
    assert [[row.label for row in table.rows] for table in tables] == [["Contrastive", "Triplet", "CosFace"], ["Triplet"]]
    assert "head_lr_scale not searched" in tables[1].caption


def test_a_failed_and_an_absent_run_have_no_mean_and_a_note(rows: list[Row]) -> None:
    rows = [row for row in rows if (row["loss"], row["loss_lr"], row.seed) != ("triplet", 1e-2, 1)]
    rows[0] = row_at("contrastive", 1e-4, 0.2, status="failed", reason="the loss is nan")
    [table] = compare_rates(rows)
    contrastive, triplet, _ = table.rows
    assert contrastive.cells[1e-4] is None
    assert 1e-4 not in contrastive.ranks
    assert triplet.cells[1e-2].half_width is None  # type: ignore[union-attr]
    assert table.notes == (
        "Contrastive at 0.0001: no result for seed 0",
        "Triplet at 0.01: no seed 1, which other runs have",
    )


def test_rows_at_one_rate_and_an_unknown_metric_are_refused(rows: Sequence[Row]) -> None:
    with pytest.raises(UserError, match=r"^no method has results at several learning rates; run `dmlbench sweep"):
        compare_rates([row for row in rows if row["loss_lr"] is None])
    with pytest.raises(UserError, match=r"^--metrics recall_at_3: no row has this metric"):
        compare_rates(rows, "recall_at_3")


def test_the_table_as_markdown_and_csv(rows: Sequence[Row]) -> None:
    lines = markdown_by_rate(compare_rates(rows)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert [cell.strip() for cell in table[0].strip("|").split("|")] == ["Method", "0.0001", "0.001", "0.01"]
    assert [cell.strip() for cell in table[2].strip("|").split("|")] == [
        "Contrastive",
        "20.5 ± 6.4 (3)",
        "30.5 ± 6.4 (2)",
        "**40.5 ± 6.4** (1)",
    ]
    assert [cell.strip() for cell in table[-1].strip("|").split("|")] == [
        "Spearman with the rate before",
        "--",
        "-0.50",
        "0.50",
    ]
    assert any("Untrained trunk, without a rate: 10.0" in line for line in lines)
    csv = csv_by_rate(compare_rates(rows)).splitlines()
    assert csv[0] == "table,loss,label,metric,lr,mean,half_width,rank,best"
    assert len(csv) == 1 + 1 + 9


def test_spearman_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = [3.0, 1.0, 2.0, 2.0, 5.0], [1.0, 1.0, 4.0, 2.0, 3.0]
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


# --- the command and its pictures


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_one_command_prints_and_draws_the_rates_and_the_same_rows_give_the_same_picture(
    suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = []
    for name in ("first", "second"):
        assert run(["table", "--by", "lr", "--picture", name + suffix]) == 0
        pictures.append(Path(name + suffix).read_bytes())
    assert "MAP@R over learning rates" in capsys.readouterr().out
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 5000


@pytest.mark.usefixtures("runs")
def test_a_table_of_methods_is_drawn_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "runs/digits/untrained", "--picture", "one.svg"]) == 0
    assert Path("one.svg").stat().st_size > 3000
    capsys.readouterr()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--by", "lr", "--vary", "trunk"], "--by lr prints one metric of methods, without --vary, --explain and --oracle"),
        (["--by", "lr", "--format", "latex"], "--by lr is printed as markdown or csv, not as latex"),
        (["--by", "lr", "--metrics", "map_at_r,recall_at_1"], "--by lr prints one metric; use --metrics map_at_r"),
        (["--by", "lr", "--picture", "a.gif"], "--picture a.gif needs one of the suffixes .png, .svg, .pdf"),
        (["--picture", "none/a.png"], "--picture none/a.png: none is not a directory"),
        (["--picture", "a.png"], "--picture draws one table, but these rows make 2; name the directories of one of them"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table", *arguments]) == 2
    assert capsys.readouterr().err == f"dmlbench: {sentence}\n"
    assert not list(Path.cwd().glob("a.*"))


@pytest.mark.usefixtures("runs")
def test_a_picture_without_matplotlib_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["table", "--picture", "a.png"]) == 2
    assert "--picture needs matplotlib: pip install 'dmlbench[pictures]'" in capsys.readouterr().err


def test_a_table_without_a_picture_imports_no_matplotlib(runs: Path) -> None:
    program = (
        "import sys; from dmlbench.cli import run; assert run(['table', '--by', 'lr']) == 0; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=runs.parent, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_method_with_its_own_rate_is_split_from_one_without(rows: Sequence[Row]) -> None:
    tables = compare(rows, tested=False)
    assert [table.shared["lr_from"] for table in tables] == ["method", "protocol"]


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(by_rate).failed == 0
