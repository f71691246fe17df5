"""The significance test: error rates under the model, and no test if the data do not allow one."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import load_file, save_file
from scipy import stats

import dmlbench.tables.significance
from dmlbench.results.row import MISSING, Row
from dmlbench.tables.class_scores import read_class_means, weighted
from dmlbench.tables.formats import render
from dmlbench.tables.significance import estimate_spread, not_significantly_worse
from dmlbench.tables.table import compare

DIFFERENT_QUERIES = "the rows were not evaluated on the same queries"
OTHER_SCORES = "the per-query scores do not match the rows"


def simulate(
    n_methods: int, n_seeds: int, seed: float, by_class: float, residual: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw class means `(M, S, 40)` of equal methods, with the given standard deviations of the random effects."""
    values = 0.5 + 0.2 * rng.standard_normal((1, 1, 40)) + seed * rng.standard_normal((n_methods, n_seeds, 1))
    values = values + by_class * rng.standard_normal((n_methods, 1, 40))
    return values + residual * rng.standard_normal((n_methods, n_seeds, 40))


# --- the model


@pytest.mark.parametrize(("seed", "by_class", "residual"), [(0.02, 0.01, 0.02), (0.002, 0.1, 0.02), (0.0, 0.0, 0.1)])
def test_the_estimated_variance_is_close_to_the_true_one_on_average(seed: float, by_class: float, residual: float) -> None:
    rng = np.random.default_rng(0)
    estimate = np.mean([estimate_spread(simulate(5, 4, seed, by_class, residual, rng)).variance for _ in range(400)])
    truth = seed**2 / 4 + by_class**2 / 40 + residual**2 / (4 * 40)
    assert truth * 0.9 < estimate < truth * 1.2  # negative components count as zero, which increases the estimate


@pytest.mark.parametrize(
    ("n_methods", "n_studies", "seed", "by_class", "residual"),
    [
        (2, 1000, 0.02, 0.01, 0.02),
        (2, 1000, 0.002, 0.1, 0.02),
        (2, 1000, 0.01, 0.05, 0.05),
        (3, 300, 0.01, 0.05, 0.05),  # the studentised range takes 10 ms per p-value
    ],
)
def test_the_type_1_error_rate_is_at_most_5_percent_whichever_variance_dominates(
    n_methods: int, n_studies: int, seed: float, by_class: float, residual: float
) -> None:
    rng = np.random.default_rng(1)
    errors = 0
    for _ in range(n_studies):
        values = simulate(n_methods, 3, seed, by_class, residual, rng)
        errors += estimate_spread(values).p_value(float(np.ptp(values.mean((1, 2))))) <= 0.05
    assert errors / n_studies <= 0.05 + 2.5 * (0.05 * 0.95 / n_studies) ** 0.5


def test_the_p_value_of_two_methods_is_that_of_a_t_test() -> None:
    values = simulate(2, 5, 0.01, 0.02, 0.02, np.random.default_rng(2))
    spread = estimate_spread(values)
    difference = float(np.ptp(values.mean((1, 2))))
    expected = 2 * stats.t.sf(difference / (2 * spread.variance) ** 0.5, spread.degrees_of_freedom)
    assert spread.p_value(difference) == pytest.approx(expected, abs=1e-6)


def test_the_p_value_of_three_methods_is_that_of_the_studentised_range() -> None:
    values = simulate(3, 5, 0.01, 0.02, 0.02, np.random.default_rng(2))
    spread = estimate_spread(values)
    difference = float(np.ptp(values.mean((1, 2))))
    expected = stats.studentized_range.sf(difference / spread.variance**0.5, 3, spread.degrees_of_freedom)
    assert spread.p_value(difference) == pytest.approx(expected, abs=1e-9)


def test_seeds_are_nested_within_methods_so_their_order_does_not_matter() -> None:
    values = simulate(3, 4, 0.02, 0.02, 0.02, np.random.default_rng(3))
    shuffled = values.copy()
    shuffled[1] = shuffled[1, [2, 0, 3, 1]]
    assert estimate_spread(shuffled).variance == pytest.approx(estimate_spread(values).variance)


def test_methods_are_crossed_with_classes_so_an_effect_of_all_methods_cancels() -> None:
    rng = np.random.default_rng(4)
    values = simulate(3, 4, 0.02, 0.02, 0.02, rng)
    easier = values + rng.standard_normal((1, 1, 40))
    assert estimate_spread(easier).variance == pytest.approx(estimate_spread(values).variance)


def test_without_any_variance_methods_differ_significantly_if_their_means_differ() -> None:
    values = np.broadcast_to(np.array([0.2, 0.3])[:, None, None], (2, 3, 5))
    spread = estimate_spread(values)
    assert spread.p_value(0.1) == pytest.approx(0, abs=1e-9)
    assert spread.p_value(0) == 1


def test_the_mean_of_weighted_class_means_is_the_mean_over_queries() -> None:
    means, counts = np.array([0.2, 0.5, 1.0]), np.array([10, 1, 4])
    assert weighted(means, counts).mean() == pytest.approx((2 + 0.5 + 4) / 15)


# --- rows with per-query scores


def write_rows(runs: Path, offsets: dict[str, float], n_seeds: int = 3, noise: float = 0.01) -> list[Row]:
    """Write the per-query scores of 30 classes with 4 queries each, and return the rows."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 4)
    class_effect = 0.5 + 0.1 * rng.standard_normal(30)[labels]
    rows = []
    for loss, offset in offsets.items():
        for seed in range(n_seeds):
            scores = class_effect + offset + noise * rng.standard_normal() + 0.05 * rng.standard_normal(len(labels))
            scores = np.clip(scores, 0, 1)
            folder = runs / loss / str(seed)
            folder.mkdir(parents=True)
            save_file({"labels": labels, "ids": np.arange(len(labels)), "map_at_r": scores}, folder / "per_query.safetensors")
            row = make_row(loss=loss, seed=seed)
            columns = {name: value for name, value in row.columns.items() if name not in row.metrics}
            rows.append(Row({**columns, "map_at_r": float(scores.mean())}, folder))
    return rows


def by_loss(rows: list[Row]) -> dict[str, list[Row]]:
    return {loss: [row for row in rows if row["loss"] == loss] for loss in {str(row["loss"]) for row in rows}}


def overwrite(row: Row, **tensors: np.ndarray) -> None:
    """Replace tensors in the file of per-query scores beside a row."""
    assert row.folder is not None
    file = row.folder / "per_query.safetensors"
    save_file({**load_file(file), **tensors}, file)


def with_columns(row: Row, **columns: object) -> Row:
    return Row({**row.columns, **columns}, row.folder)  # type: ignore[dict-item]


def test_the_best_method_and_those_not_significantly_worse_are_found(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": -0.2})
    assert not_significantly_worse(by_loss(rows), "map_at_r") == (frozenset({"triplet", "arcface"}), None)


def test_the_table_prints_all_of_them_in_bold_and_describes_the_test(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": -0.2})
    [table] = compare(rows)
    text = render([table])
    assert table.caption.endswith("bold marks the best method and every method not significantly different from it.")
    assert (
        "Significance (5 % level, n = 3 seeds): the test allows for chance between seeds and between classes (see "
        "docs/significance.md); so few seeds give the test little power"
    ) in table.details
    bold = [line.split("|")[1].strip() for line in text.splitlines() if "**" in line]
    assert bold == ["Triplet", "ArcFace"]


def test_five_seeds_are_not_described_as_few(tmp_path: Path) -> None:
    [table] = compare(write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101}, n_seeds=5))
    [sentence] = [one for one in table.details if one.startswith("Significance")]
    assert sentence.startswith("Significance (5 % level, n = 5 seeds)")
    assert sentence.endswith("(see docs/significance.md)")


@pytest.mark.parametrize("status", ["failed", MISSING])
def test_a_method_with_a_run_without_results_is_excluded_from_the_test(tmp_path: Path, status: str) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": 0.3})
    rows[-1] = with_columns(rows[-1], status=status)
    [table] = compare(rows)
    assert table.bold == {"map_at_r": {"Triplet", "ArcFace"}}


def test_without_the_test_only_the_best_method_is_bold(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.15})
    [table] = compare(rows, tested=False)
    assert not table.bold
    assert table.caption.endswith("bold marks the best method, without a significance test.")
    assert not any("Significance" in sentence for sentence in table.details)


def test_the_result_says_why_nothing_was_tested(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.2})
    assert not_significantly_worse(by_loss(rows[:-1]), "map_at_r")[1] == "the methods have different seeds"
    assert not_significantly_worse(by_loss([rows[0], rows[-3]]), "map_at_r")[1] == "a method has only one seed"
    assert not_significantly_worse(by_loss(rows[:3]), "map_at_r")[1] == "there is only one method"
    assert not_significantly_worse(by_loss(rows), "recall_at_1")[1] == "per-query scores are missing"
    fewer = {"labels": np.repeat(np.arange(29), 4), "ids": np.arange(116), "map_at_r": np.ones(116)}
    save_file(fewer, tmp_path / "triplet/0/per_query.safetensors")
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == DIFFERENT_QUERIES


def test_scores_that_do_not_match_a_row_are_not_tested_even_if_their_mean_over_seeds_matches(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    for i, error in enumerate((0.01, -0.01)):
        rows[i] = with_columns(rows[i], map_at_r=rows[i].columns["map_at_r"] + error)  # type: ignore[operator]
    [table] = compare(rows)
    assert not table.bold
    assert f"Significance was not tested: {OTHER_SCORES}" in table.details


def test_nan_scores_are_not_tested(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    overwrite(rows[1], map_at_r=np.array([np.nan, *np.full(119, 0.5)]))
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == OTHER_SCORES


def test_queries_are_compared_by_id_and_label_and_not_by_their_order(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    assert rows[0].folder is not None
    tensors = load_file(rows[0].folder / "per_query.safetensors")
    overwrite(rows[0], **{name: values[::-1].copy() for name, values in tensors.items()})
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] is None
    overwrite(rows[0], ids=np.arange(1000, 1120))
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == DIFFERENT_QUERIES


def test_one_test_class_is_not_tested(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    for row in rows:
        overwrite(row, labels=np.zeros(120, int))
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == "there is only one test class"


def test_scores_and_labels_of_different_lengths_count_as_missing(tmp_path: Path) -> None:
    [row, *_] = write_rows(tmp_path, {"triplet": 0.1})
    assert row.folder is not None
    save_file({"labels": np.arange(10), "ids": np.arange(10), "map_at_r": np.ones(9)}, row.folder / "per_query.safetensors")
    assert read_class_means(row, "map_at_r") is None


def test_a_corrupt_file_of_scores_counts_as_missing(tmp_path: Path) -> None:
    [row, *_] = write_rows(tmp_path, {"triplet": 0.1})
    assert row.folder is not None
    (row.folder / "per_query.safetensors").write_bytes(b"corrupt")
    assert read_class_means(row, "map_at_r") is None


def test_a_metric_that_cannot_be_tested_is_named_and_the_others_are_tested(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": -0.2})
    rows = [with_columns(row, nmi=0.5, r_precision=0.5) for row in rows]
    [table] = compare(rows, metrics=["map_at_r", "nmi", "r_precision"])
    assert table.bold == {"map_at_r": {"Triplet", "ArcFace"}}
    assert "Significance was not tested in NMI: clustering metrics have no per-query scores" in table.details
    assert "Significance was not tested in RP: per-query scores are missing" in table.details
    assert any(sentence.startswith("Significance (5 % level") for sentence in table.details)


def test_a_method_without_a_value_of_a_metric_is_excluded_from_its_test(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": 0.3})
    rows[-1] = with_columns(rows[-1], map_at_r=None)
    [table] = compare(rows, metrics=["map_at_r"])
    assert table.bold == {"map_at_r": {"Triplet", "ArcFace"}}


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(dmlbench.tables.significance).failed == 0
