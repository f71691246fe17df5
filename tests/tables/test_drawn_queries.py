"""Intervals over seeds and drawn queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import save_file
from scipy import stats

from dmlbench.results.row import Row
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.drawn_queries import drawn_queries, query_interval, two_way_interval
from dmlbench.tables.formats import render
from dmlbench.tables.table import compare


def oracle(scores: np.ndarray) -> tuple[float, float]:
    """The interval from the sums of squares of the two-way analysis of variance, with loops."""
    n_seeds, n_queries = scores.shape
    mean = scores.sum() / scores.size
    rows = [scores[s].sum() / n_queries for s in range(n_seeds)]
    columns = [scores[:, q].sum() / n_seeds for q in range(n_queries)]
    ms_seed = n_queries * sum((row - mean) ** 2 for row in rows) / (n_seeds - 1)
    ms_query = n_seeds * sum((column - mean) ** 2 for column in columns) / (n_queries - 1)
    squares = sum((scores[s, q] - rows[s] - columns[q] + mean) ** 2 for s in range(n_seeds) for q in range(n_queries))
    ms_residual = squares / ((n_seeds - 1) * (n_queries - 1))
    total = ms_seed + ms_query - ms_residual
    parts = [(ms_seed, n_seeds - 1), (ms_query, n_queries - 1), (ms_residual, (n_seeds - 1) * (n_queries - 1))]
    degrees_of_freedom = total**2 / sum(part**2 / df for part, df in parts)
    return mean, stats.t.ppf(0.975, degrees_of_freedom) * np.sqrt(total / scores.size)


def simulated(generator: np.random.Generator, seed_sd: float, query_sd: float, n_seeds: int = 3, n: int = 60) -> np.ndarray:
    noise = generator.normal(0, 0.2, (n_seeds, n))
    return 0.5 + generator.normal(0, seed_sd, (n_seeds, 1)) + generator.normal(0, query_sd, (1, n)) + noise


def test_the_interval_is_that_of_a_two_way_analysis_of_variance() -> None:
    for number in range(5):
        scores = simulated(np.random.default_rng(number), 0.1, 0.3)
        assert two_way_interval(scores) == pytest.approx(oracle(scores), rel=1e-9)


@pytest.mark.parametrize(("seed_sd", "query_sd"), [(0.1, 0.3), (0.0, 0.3), (0.1, 0.0), (0.02, 0.3)])
def test_the_interval_covers_the_true_mean_in_about_95_percent_of_studies(seed_sd: float, query_sd: float) -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        mean, half_width = two_way_interval(simulated(generator, seed_sd, query_sd))
        hits += abs(mean - 0.5) <= half_width
    assert 0.92 < hits / 600 <= 1


def test_an_interval_over_seeds_alone_would_be_too_narrow_if_queries_vary() -> None:
    generator = np.random.default_rng(0)
    found = [t_interval(simulated(generator, 0.0, 0.3).mean(1).tolist()) for _ in range(400)]
    covered = sum(half_width is not None and abs(mean - 0.5) <= half_width for mean, half_width in found) / 400
    assert covered < 0.9


def test_with_one_seed_the_interval_is_over_queries() -> None:
    scores = simulated(np.random.default_rng(0), 0.1, 0.3, n_seeds=1)
    mean, half_width = two_way_interval(scores)
    expected = stats.ttest_1samp(scores[0], 0).confidence_interval()
    assert (mean - half_width, mean + half_width) == pytest.approx((expected.low, expected.high))


def test_without_any_variance_the_interval_is_a_point() -> None:
    assert two_way_interval(np.full((3, 10), 0.25)) == (0.25, 0.0)


def study(tmp_path: Path, drawn: int | None = 40, ids_of_last: int = 0) -> list[Row]:
    """Rows of two methods with three seeds, with scores of 40 queries beside them."""
    rows = []
    for loss in ("contrastive", "triplet"):
        for seed in range(3):
            values = simulated(np.random.default_rng([seed, len(loss)]), 0.05, 0.2, 1, 40)[0].clip(0, 1)
            folder = tmp_path / f"{loss}{seed}"
            folder.mkdir()
            ids = np.arange(40) + (ids_of_last if seed == 2 else 0)
            labels = np.arange(40) % 10
            save_file({"ids": ids, "labels": labels, "map_at_r": values}, folder / "per_query.safetensors")
            columns = {"loss": loss, "seed": seed, "protocol_evaluation_queries": drawn, "map_at_r": float(values.mean())}
            rows.append(Row(make_row(**columns).columns, folder))
    return rows


def test_a_table_of_drawn_queries_has_the_interval_over_both_and_says_so(tmp_path: Path) -> None:
    rows = study(tmp_path)
    [table] = compare(rows, metrics=("map_at_r",))
    cell = table.rows[0].cells["map_at_r"]
    assert cell is not None
    assert (cell.mean, cell.half_width) == query_interval(rows[:3], "map_at_r")
    assert "Mean ± 95 % confidence interval over n = 3 seeds and 40 drawn queries, in %" in table.caption


def test_a_table_of_all_queries_has_the_interval_over_seeds_as_before(tmp_path: Path) -> None:
    rows = study(tmp_path, drawn=None)
    [table] = compare(rows, metrics=("map_at_r",))
    cell = table.rows[0].cells["map_at_r"]
    assert cell is not None
    assert (cell.mean, cell.half_width) == t_interval([float(row["map_at_r"]) for row in rows[:3]])  # type: ignore[arg-type]
    assert "Mean ± 95 % confidence interval over n = 3 seeds, in %" in table.caption


def test_scores_of_other_queries_or_of_another_run_are_not_used(tmp_path: Path) -> None:
    rows = study(tmp_path, ids_of_last=1)
    [table] = compare(rows, metrics=("map_at_r",))
    assert query_interval(rows[:3], "map_at_r") is None
    note = "the intervals of MAP@R are over seeds only: scores of the drawn queries are missing"
    assert all(note in row.notes for row in table.rows)
    other = Row({**rows[0].columns, "map_at_r": 0.1}, rows[0].folder)
    assert query_interval([other], "map_at_r") is None


def test_metrics_that_are_no_means_over_queries_are_named(tmp_path: Path) -> None:
    rows = [Row({**row.columns, "nmi": 0.5}, row.folder) for row in study(tmp_path)]
    text = " ".join(render(compare(rows, metrics=("map_at_r", "nmi")), "markdown").split())
    assert "The intervals of NMI are over seeds only, because they are not means over queries" in text


def test_an_evaluation_of_all_queries_of_such_a_run_has_no_drawn_queries() -> None:
    row = make_row(protocol_evaluation_queries=200)
    assert drawn_queries(row) == 200
    assert drawn_queries(make_row(protocol_evaluation_queries=200, evaluation_queries="all")) is None
    assert drawn_queries(make_row(evaluation_queries=50)) == 50
    assert drawn_queries(make_row()) is None
