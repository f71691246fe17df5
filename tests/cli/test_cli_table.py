"""`dmlbench table`: its options, in the order and format that were typed. Tables themselves are specified in tests/tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_helpers import refused
from rows_factory import COST, make_row

from dmlbench.cli import run
from dmlbench.results.row_files import write_row


@pytest.fixture
def two_losses() -> None:
    """Rows of two losses with two seeds each, with their costs."""
    for row in (
        make_row(0.5, loss=loss, loss_make_name=loss, seed=seed, **COST) for loss in ("triplet", "arcface") for seed in (0, 1)
    ):
        write_row(Path("runs") / str(row["run_id"]), row)


def test_without_runs_a_table_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no finished run to make a table of; run `dmlbench sweep" in refused(capsys, "table")
    assert "there is no run below runs" in refused(capsys, "table", "nowhere")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--format", "htm"], "--format htm is not known; did you mean 'html'?"),
        (["--explain", "--format", "htm"], "--format htm is not known; did you mean 'html'?"),
        (["--published", "al"], "--published al is not known; did you mean 'all'?"),
        (["--metrics", "map_at_r,recal_at_1"], "--metrics recal_at_1: no row has this metric; did you mean 'recall_at_1'?"),
        (["--metrics", ","], "--metrics needs a value, such as --metrics recall_at_1,map_at_r"),
        (["--oracle"], "--oracle: no row has the column oracle_map_at_r"),
        (["vary=trunck"], "--vary trunck is not an axis"),
        (["--vary", "trunck"], "did you mean 'trunk'?"),
        (["tripelt"], "tripelt names no run below runs"),
        (["vray=trunk"], "dmlbench table does not know 'vray=trunk'; did you mean '--vary trunk'?"),
        (["metrcs=map_at_r"], "dmlbench table does not know 'metrcs=map_at_r'; did you mean '--metrics map_at_r'?"),
        (["zzz=1"], "dmlbench table does not know 'zzz=1'; known: --vary, --by, --picture, --format, --metrics, "),
    ],
    ids=lambda argv: " ".join(argv) if isinstance(argv, list) else "",
)
def test_a_misspelt_choice_is_refused_with_a_similar_one(
    two_losses: None, argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table", *argv]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert sentence in captured.err


def test_metrics_are_printed_once_each_in_the_order_of_the_option(two_losses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "--metrics", "map_at_r, recall_at_1,map_at_r", "--no-cost"]) == 0
    assert re.search(r"\| Method +\| +n \| +MAP@R \| +R@1 \|\n", capsys.readouterr().out)


def test_costs_are_printed_unless_they_are_switched_off(two_losses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table"]) == 0
    assert "| Train (s) | Images/s |" in capsys.readouterr().out
    assert run(["table", "--no-cost"]) == 0
    assert "Train (s)" not in capsys.readouterr().out


def test_an_explanation_is_printed_instead_of_tables(two_losses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "--explain"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("All rows are in one table: 4 rows, 2 methods, seeds 0, 1.\n")
    assert "|" not in output


@pytest.mark.parametrize(
    ("name", "start"), [("html", "<!doctype html>"), ("latex", "% needs"), ("csv", "dataset,"), ("markdown", "Digit")]
)
def test_a_table_is_printed_in_the_chosen_format(
    two_losses: None, name: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table", "--format", name]) == 0
    assert capsys.readouterr().out.startswith(start)


def test_files_that_are_not_rows_are_skipped_with_a_warning_each_up_to_five(
    two_losses: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(7):
        Path(f"runs/broken{k}").mkdir()
        Path(f"runs/broken{k}/row.json").write_text("{")
    assert run(["table"]) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [line.startswith("dmlbench: skipped runs/broken") for line in lines] == [True] * 5 + [False]
    assert lines[-1] == "dmlbench: skipped 2 more files"
    assert "| Triplet" in captured.out


def test_the_former_spellings_of_options_are_accepted(two_losses: None, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for argv in (["--vary", "loss", "--no-test"], ["vary=loss", "--untested"]):
        assert run(["table", *argv]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_a_selector_may_contain_an_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    write_row(Path("runs/grid/vray=1/a"), make_row(loss="triplet"))
    for selector in ("vray=1", "grid/vray=1", "runs/grid/vray=1"):
        assert run(["table", selector]) == 0
        assert "| Triplet" in capsys.readouterr().out
