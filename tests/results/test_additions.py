"""What it takes to add a field of the protocol, a cost, and a metric.

a field of the protocol   its declaration in `config/schema.py` (one line, and its meaning in the docstring), and its use
a cost                    nothing: a column `*_seconds` is printed; a declaration in `column_specs` gives it a label
a metric                  its declaration in `results/metric_specs.py`, and its function in `evaluation`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grown_package import FIELD, MEANING
from rows_factory import COST, make_row

from dmlbench.api import evaluate
from dmlbench.cli import run
from dmlbench.evaluation.attribute_quality import attribute_quality
from dmlbench.results import metric_specs
from dmlbench.results.columns import column
from dmlbench.results.metric_specs import METRIC_SPECS, MetricSpec, parse_metric
from dmlbench.results.row_files import write_row
from dmlbench.tables.table import compare

# --- a field of the protocol; `test_schema_growth` adds one to a copy of the package


def test_the_declaration_of_a_field_is_one_line_and_its_meaning() -> None:
    assert (FIELD.count("\n"), MEANING.count("\n")) == (1, 1)


# --- a cost


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write runs of two methods with an undeclared cost, below `runs` in the current directory."""
    monkeypatch.chdir(tmp_path)
    for loss, seconds in (("triplet", 3.0), ("arcface", 6.0)):
        for seed in (0, 1):
            row = make_row(0.4 + 0.01 * seed, loss=loss, seed=seed, warp_seconds=seconds + seed, **COST)
            write_row(tmp_path / "runs" / "digits" / loss / str(row["run_id"]), row)
    return tmp_path / "runs"


def test_an_undeclared_cost_is_printed_by_show_compare_and_csv(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (column("warp_seconds").role, column("warp_seconds").heading) == ("cost", "warp_seconds (s)")
    [path] = (runs / "digits" / "arcface").glob("*-0")
    assert run(["show", str(path)]) == 0
    assert "warp_seconds 6 s" in " ".join(capsys.readouterr().out.split())
    assert run(["compare", "triplet", "arcface"]) == 0
    assert ["warp_seconds", "(s)", "3.50", "6.50", "0.54"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert run(["table", "--format", "csv"]) == 0
    header, *_ = capsys.readouterr().out.splitlines()
    assert "warp_seconds" in header.split(",")


def test_an_undeclared_cost_is_not_part_of_what_a_run_reproduces() -> None:
    assert make_row(warp_seconds=1.0).outcome == make_row(warp_seconds=2.0).outcome


# --- a metric


def test_an_undeclared_metric_is_not_printed_and_a_declared_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_row(hubness=0.3), make_row(0.6, loss="triplet", hubness=0.2)]
    assert parse_metric("hubness") is None
    assert "hubness" not in compare(rows)[0].metrics
    spec = MetricSpec("hubness", "Hubness", "retrieval", True, 0, 1, "An example.", "An example")
    monkeypatch.setattr(metric_specs, "METRIC_SPECS", (*METRIC_SPECS, spec))
    column.cache_clear()
    parse_metric.cache_clear()
    rows = [make_row(hubness=0.3, undeclared=seed, seed=seed) for seed in (0, 1)]  # with columns that are not cached by role
    try:
        [table] = compare(rows, metrics=["hubness"])
        assert table.rows[0].cells["hubness"].mean == 0.3  # type: ignore[union-attr]
        assert column("macro_hubness").role == "metric"
    finally:
        column.cache_clear()
        parse_metric.cache_clear()


def test_the_evaluator_computes_exactly_the_declared_metrics() -> None:
    rng = np.random.default_rng(0)
    found = evaluate(rng.standard_normal((24, 4)), np.repeat(np.arange(4), 6), ks=(1, 2))
    found |= attribute_quality(rng.standard_normal((24, 3)), np.tile([[0.0, 1.0, 1.0]], (24, 1)), np.ones(3, bool))
    columns = {name: parse_metric(name) for name in found}
    computed = {one.spec for one in columns.values() if one is not None}
    assert computed == set(METRIC_SPECS)
    assert [name for name in found if column(name).meaning == "Not declared."] == []
