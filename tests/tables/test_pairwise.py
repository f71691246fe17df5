"""`dmlbench compare`: tests checked against independent computations, the verdict, and cases in which no test is possible."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows_factory import METRICS, make_row
from safetensors.numpy import save_file
from scipy import stats

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.tables.formats.pairwise_text import as_json, as_text
from dmlbench.tables.formats.pairwise_verdict import verdict
from dmlbench.tables.pairwise import Comparison, compare_pair
from dmlbench.tables.significance import spread_of_difference
from dmlbench.tables.variance_components import Study, difference_variance

N_CLASSES = 30


def simulate(
    seed: float, by_class: float, residual: float, difference: float, rng: np.random.Generator, n_seeds: int = 5
) -> np.ndarray:
    """Draw class means of two methods, `(2, S, C)`, with the given standard deviations and true difference."""
    values = 0.4 + 0.1 * rng.standard_normal((1, 1, N_CLASSES)) + seed * rng.standard_normal((2, n_seeds, 1))
    values = (
        values + by_class * rng.standard_normal((2, 1, N_CLASSES)) + residual * rng.standard_normal((2, n_seeds, N_CLASSES))
    )
    values[1] += difference
    return values


def write_runs(runs: Path, loss: str, means: np.ndarray, counts: np.ndarray | None = None, **columns: Any) -> list[Row]:
    """Write runs of one method with per-query scores, one run for each row of `means` `(S, C)`."""
    counts = np.full(means.shape[1], 4) if counts is None else counts
    labels = np.repeat(np.arange(len(counts)), counts)
    seeds = columns.pop("seeds", range(len(means)))
    rows = []
    for seed, class_means in zip(seeds, means, strict=True):
        scores = class_means[labels]
        made = {"hostname": "here", "train_seconds": 60.0, "n_queries": len(labels), **columns}
        row = make_row(float(scores.mean()), loss=loss, seed=seed, **made)
        folder = runs / str(row["dataset"]) / loss / f"{row['fingerprint']}-{row['method_digest']}-{seed}"
        row = Row({**row.columns, "run_id": folder.name}, folder)
        write_row(folder, row)
        queries = {"labels": labels, "ids": np.arange(len(labels))}
        save_file({**queries, **{name: scores.copy() for name in METRICS}}, folder / "per_query.safetensors")
        rows.append(row)
    return rows


def write_two_methods(runs: Path, values: np.ndarray, **columns: Any) -> tuple[list[Row], list[Row]]:
    return write_runs(runs, "triplet", values[0], **columns), write_runs(runs, "arcface", values[1], **columns)


def noisy(difference: float = 0.0, n_seeds: int = 5) -> np.ndarray:
    return simulate(0.01, 0.02, 0.02, difference, np.random.default_rng(0), n_seeds)


def unwrapped(found: Comparison) -> str:
    """Return the text of a comparison on one line."""
    return " ".join(as_text(found, ("a", "b")).split())


# --- interval and p-value


def test_interval_and_p_value_are_those_of_the_variance_components(tmp_path: Path) -> None:
    values = noisy(0.03)
    [difference, *_] = compare_pair(*write_two_methods(tmp_path, values)).differences
    variance, degrees_of_freedom = difference_variance(Study(values, np.full(N_CLASSES, 1 / N_CLASSES)), 0, 1)
    expected = values[0].mean() - values[1].mean()
    assert difference.value == pytest.approx(expected, abs=1e-9)
    assert difference.p == pytest.approx(2 * stats.t.sf(abs(expected) / variance**0.5, degrees_of_freedom), rel=1e-6)
    assert difference.half_width == pytest.approx(stats.t.isf(0.025, degrees_of_freedom) * variance**0.5, rel=1e-6)


def test_a_difference_that_is_the_same_in_every_class_has_no_uncertainty_whatever_the_class_sizes(tmp_path: Path) -> None:
    values = np.full((2, 3, 6), 0.4) + 0.05 * np.arange(6)
    values[1] += 0.1
    [difference, *_] = compare_pair(*write_two_methods(tmp_path, values, counts=np.array([1, 2, 4, 8, 16, 50]))).differences
    assert difference.value == pytest.approx(-0.1)
    assert difference.half_width == pytest.approx(0, abs=1e-9)


def test_exchanging_a_and_b_only_changes_the_sign(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(0.02))
    [one, *_], [other, *_] = compare_pair(a, b).differences, compare_pair(b, a).differences
    assert (one.value, one.p, one.half_width) == pytest.approx((-other.value, other.p, other.half_width))


def test_all_classes_have_the_same_weight_in_macro_metrics(tmp_path: Path) -> None:
    values, counts = noisy(0.03), np.repeat([2, 10, 18], 10)
    a, b = (
        [Row({**row.columns, "macro_map_at_r": float(one.mean())}, row.folder) for row, one in zip(rows, each, strict=True)]
        for rows, each in zip(write_two_methods(tmp_path, values, counts=counts), values, strict=True)
    )
    [difference, *_] = compare_pair(a, b, "macro_map_at_r").differences
    assert difference.value == pytest.approx(values[0].mean() - values[1].mean())
    equal = spread_of_difference(Study(values, np.full(N_CLASSES, 1 / N_CLASSES)), 0, 1)
    assert difference.half_width == pytest.approx(equal.half_width())


# --- the verdict


def test_a_significant_difference_is_reported_with_interval_p_value_and_sample_sizes(tmp_path: Path) -> None:
    found = compare_pair(*write_two_methods(tmp_path, noisy(0.1)))
    first = found.differences[0]
    assert first.better == "b"
    low, high = 100 * (first.value - first.half_width), 100 * (first.value + first.half_width)  # type: ignore[operator]
    assert verdict(found) == (
        f"B (ArcFace) is significantly better than A (Triplet) in MAP@R (5 % level): A - B = {100 * first.value:.1f} points, "
        f"95 % interval [{low:.1f}, {high:.1f}], p < 0.001, n = 5 seeds, 30 classes."
    )


def test_a_significant_difference_in_favour_of_a_names_a_as_better(tmp_path: Path) -> None:
    found = compare_pair(*write_two_methods(tmp_path, noisy(-0.1)))
    assert verdict(found).startswith("A (Triplet) is significantly better than B (ArcFace) in MAP@R (5 % level): A - B = +")


def test_a_difference_that_is_not_significant_is_reported_with_a_remark_on_few_seeds(tmp_path: Path) -> None:
    found = compare_pair(*write_two_methods(tmp_path, noisy(0.0, n_seeds=3)))
    assert found.differences[0].better is None
    sentence = "No significant difference between A (Triplet) and B (ArcFace) in MAP@R (5 % level): A - B = "
    assert verdict(found).startswith(sentence)
    assert verdict(found).endswith("n = 3 seeds, 30 classes; so few seeds give the test little power.")


def test_the_verdict_is_about_the_requested_metric(tmp_path: Path) -> None:
    found = compare_pair(*write_two_methods(tmp_path, noisy(0.1)), metric="recall_at_1")
    assert [one.metric for one in found.differences] == ["recall_at_1", "map_at_r", "r_precision"]
    assert "in R@1" in verdict(found)


def test_a_missing_metric_is_refused_with_a_similar_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--metric recal_at_1: not every row of A has this metric; did you mean 'recall_at_1'"):
        compare_pair(*write_two_methods(tmp_path, noisy()), metric="recal_at_1")


def test_methods_with_the_same_name_are_distinguished_by_their_values(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = write_runs(tmp_path, "triplet", values[0], loss_make_margin=0.1)
    b = write_runs(tmp_path, "triplet", values[1], loss_make_margin=0.2)
    found = compare_pair(a, b)
    assert found.method == {"loss_make_margin": (0.1, 0.2)}
    assert verdict(found).startswith("B (Triplet, margin 0.2) is significantly better than A (Triplet, margin 0.1)")
    assert "The methods differ in (A | B): margin 0.1 | 0.2." in unwrapped(found)


# --- fewer data


def test_single_seeds_are_compared_over_classes_with_a_remark_on_seed_variance(tmp_path: Path) -> None:
    values = noisy(0.05, n_seeds=2)[:, :1]
    found = compare_pair(*write_two_methods(tmp_path, values))
    first = found.differences[0]
    expected = stats.ttest_rel(values[0, 0], values[1, 0])
    interval = expected.confidence_interval()
    assert first.basis == "classes only"
    assert first.p == pytest.approx(expected.pvalue)
    assert (first.value - first.half_width, first.value + first.half_width) == pytest.approx((interval.low, interval.high))  # type: ignore[operator]
    assert verdict(found).startswith("B (ArcFace) is significantly better than A (Triplet) in MAP@R (5 % level): A - B = -")
    limits = (
        "the test allows for chance between classes, which it takes as independent, but not between seeds, and another seed "
        "may reverse the result."
    )
    assert verdict(found).endswith(f"n = 30 classes. Because each has one seed, {limits}")
    assert f"Interval and p: {limits}" in unwrapped(found)


def test_the_difference_of_single_seeds_may_not_be_significant(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    found = compare_pair(*write_two_methods(tmp_path, 0.5 + 0.05 * rng.standard_normal((2, 1, N_CLASSES))))
    assert found.differences[0].p > 0.05  # type: ignore[operator]
    sentence = "No significant difference between A (Triplet) and B (ArcFace) in MAP@R (5 % level): A - B = "
    assert verdict(found).startswith(sentence)
    assert "n = 30 classes. Because each has one seed, the test allows for chance between classes, which" in verdict(found)


def test_seeds_that_only_one_method_has_are_not_used_and_named(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = write_runs(tmp_path, "triplet", values[0])
    b = write_runs(tmp_path, "arcface", values[1], seeds=[0, 1, 2, 7, 8])
    found = compare_pair(a, b)
    assert [row["seed"] for row in found.a] == [row["seed"] for row in found.b] == [0, 1, 2]
    assert found.differences[0].b == pytest.approx(values[1, :3].mean())
    assert "Only A has seeds 3, 4, which are not used. Only B has seeds 7, 8, which are not used." in unwrapped(found)


def test_without_two_common_seeds_all_seeds_are_used_and_the_test_is_over_classes(tmp_path: Path) -> None:
    values = noisy(0.1)
    found = compare_pair(
        write_runs(tmp_path, "triplet", values[0]), write_runs(tmp_path, "arcface", values[1], seeds=range(10, 15))
    )
    assert found.differences[0].value == pytest.approx(values[0].mean() - values[1].mean())
    assert (found.differences[0].basis, found.differences[0].untested) == ("classes only", "they have no seed in common")


def test_without_per_query_scores_only_the_difference_is_reported(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(0.1))
    assert b[3].folder is not None
    (b[3].folder / "per_query.safetensors").unlink()
    found = compare_pair(a, b)
    first = found.differences[0]
    assert (first.basis, first.p, first.half_width, found.classes) == ("none", None, None, ())
    assert verdict(found).startswith("B (ArcFace) scores higher than A (Triplet) in MAP@R: A - B = -10.1 points.")
    assert verdict(found).endswith("Significance was not tested: per-query scores are missing.")
    assert "Metrics with `--` were not tested: per-query scores are missing." in unwrapped(found)


def test_scores_that_do_not_match_the_rows_are_not_used(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(0.1))
    b = [Row({**row.columns, "map_at_r": 0.9}, row.folder) for row in b]
    assert compare_pair(a, b).differences[0].untested == "the per-query scores do not match the rows"


def test_methods_with_different_queries_are_not_tested(tmp_path: Path) -> None:
    values = noisy(0.1)
    other = write_runs(tmp_path, "arcface", values[1], counts=np.full(N_CLASSES, 5))
    found = compare_pair(write_runs(tmp_path, "triplet", values[0]), other)
    assert found.differences[0].untested == "the rows were not evaluated on the same queries"


def test_one_test_class_is_not_tested(tmp_path: Path) -> None:
    a, b = (write_runs(tmp_path, loss, np.full((2, 1), score)) for loss, score in (("triplet", 0.4), ("arcface", 0.5)))
    assert compare_pair(a, b).differences[0].untested == "there is only one test class"


def test_clustering_metrics_are_not_tested(tmp_path: Path) -> None:
    found = compare_pair(*write_two_methods(tmp_path, noisy(0.1), nmi=0.5), metric="nmi")
    assert found.differences[0].untested == "clustering metrics have no per-query scores"
    assert found.differences[1].p is not None


def test_a_failed_seed_is_reported_and_a_method_without_results_is_refused(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(0.1))
    failed = [make_row(loss="arcface", seed=seed, status="failed", reason="the loss is nan") for seed in range(5)]
    found = compare_pair(a, [*b[:4], failed[4]])
    assert len(found.a) == 4
    assert "B: seed 4 failed: the loss is nan; only the other seeds are used." in unwrapped(found)
    with pytest.raises(UserError, match=r"B \(ArcFace\) has no results to compare: seed 0 failed: the loss is nan"):
        compare_pair(a, failed)


def test_warnings_about_each_method_are_reported(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(0.1))
    b = [Row({**row.columns, "n_proxies": 9, "n_dead_proxies": 2}, row.folder) for row in b]
    assert "B: 2 of 9 proxies (seeds 0, 1, 2, 3, 4) did not move during training." in unwrapped(compare_pair(a, b))


# --- classes, costs and other differences


def test_classes_are_listed_by_name_from_the_largest_gain_to_the_largest_loss(tmp_path: Path) -> None:
    values = np.full((2, 3, 12), 0.5)
    values[0] += np.array([-0.3, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, -0.01, -0.02, -0.03, 0, 0])
    a, b = write_two_methods(tmp_path, values)
    for row in a:
        assert row.folder is not None
        (row.folder / "classes.json").write_text(json.dumps({"0": "Heron", "1": "Größe\x1b[31m"}))
    found = compare_pair(a, b)
    assert [one.label for one in found.classes] == [1, 2, 3, 4, 5, 6, 10, 11, 7, 8, 9, 0]
    assert (found.classes[-1].name, found.classes[-1].n_queries, found.classes[1].name) == ("Heron", 4, "class 2")
    assert found.classes[0].gain == pytest.approx(0.2)
    text = as_text(found, ("a", "b"))
    assert "A is higher in 6 of 12, lower in 4." in text
    lines = text.splitlines()
    best = next(i for i, line in enumerate(lines) if line.startswith("largest gains of A"))
    assert "Größe?[31m (4)" in lines[best + 1]
    assert "Heron (4)" in lines[best + 1]
    assert "-30.0" in lines[best + 1]
    assert "class 6" not in text  # the sixth gain


def test_costs_are_listed_with_their_ratio_and_different_machines_are_reported(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy())
    b = [Row({**row.columns, "train_seconds": 150.0, "hostname": "there"}, row.folder) for row in b]
    found = compare_pair(a, b)
    assert [(one.column.name, one.a, one.b) for one in found.costs] == [("train_seconds", 60.0, 150.0)]
    assert ["Train", "(s)", "60.0", "150", "0.40"] in [line.split() for line in as_text(found, ("a", "b")).splitlines()]
    assert "Costs were measured on different machines: here | there." in unwrapped(found)


def test_differences_that_prevent_a_comparison_are_above_the_verdict(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = write_runs(tmp_path, "triplet", values[0])
    b = write_runs(tmp_path, "triplet", values[1], protocol_epochs=20, fingerprint="e" * 16, torch_version="3.0")
    found = compare_pair(a, b)
    assert found.not_comparable == {"protocol_epochs": (6, 20)}
    text = unwrapped(found)
    assert text.index("Not comparable, so the difference may not be due to the methods") < text.index("is significantly better")
    assert "protocol_epochs 6 | 20." in text
    assert "Other differences (A | B): torch_version 2.11.0 | 3.0." in text
    assert "The methods do not differ." in text
    assert "Identical in both" not in text


def test_columns_that_are_unset_on_both_sides_are_last_and_do_not_distinguish_methods(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = write_runs(tmp_path, "triplet", values[0])
    b = write_runs(tmp_path, "triplet", values[1], fingerprint="e" * 16, protocol_patience=None, protocol_steps=5)
    found = compare_pair(a, b)
    assert list(found.not_comparable) == ["protocol_steps", "protocol_patience"]
    assert verdict(found).startswith("B (Triplet) is significantly better than A (Triplet)")


def test_methods_with_different_losses_are_described_by_the_values_of_each(tmp_path: Path) -> None:
    values = noisy()
    a = write_runs(tmp_path, "triplet", values[0], loss_make_margin=0.1)
    b = write_runs(tmp_path, "arcface", values[1])
    text = unwrapped(compare_pair(a, b))
    assert "A is triplet: neg_margin=0.5, margin=0.1. B is arcface: neg_margin=0.5." in text


def test_an_argument_that_two_different_losses_have_in_common_is_listed_for_both(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(), loss_make_margin=0.2)
    text = unwrapped(compare_pair(a, b))
    assert "A is triplet: neg_margin=0.5, margin=0.2. B is arcface: neg_margin=0.5, margin=0.2." in text


def test_identical_configuration_is_listed_with_every_override_and_the_number_of_seeds(tmp_path: Path) -> None:
    chosen = {"protocol_epochs": 2, "protocol_lr": 0.003, "overrides": '["protocol.lr=0.003", "protocol.epochs=2"]'}
    text = unwrapped(compare_pair(*write_two_methods(tmp_path, noisy(), **chosen)))
    values = "protocol quick (version 1) with protocol.epochs=2, protocol.lr=0.003"
    assert f"Identical in both: split, trunk convnet, {values}, optimizer and sampler; 5 seeds each." in text


def test_the_model_selection_of_both_methods_is_printed(tmp_path: Path) -> None:
    chosen = {"selected_on": "validation", "protocol_fold": 0, "protocol_folds": 4}
    a, b = write_two_methods(tmp_path, noisy(), **chosen)
    selection = "best epoch on held-out training classes, fold 0 of 4; hyper-parameters not tuned"
    assert f"Model selection: {selection}; the test set chose nothing." in unwrapped(compare_pair(a, b))
    tuned = [Row({**row.columns, "tuning_trials": 20}, row.folder) for row in b]
    text = unwrapped(compare_pair(a, tuned))
    assert f"Model selection of A: {selection}." in text
    assert "Model selection of B: best epoch on held-out training classes, fold 0 of 4; hyper-parameters tuned with 20" in text


def test_few_test_classes_and_two_seeds_are_reported(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(n_seeds=2), n_test_classes=12)
    text = unwrapped(compare_pair(a, b))
    assert "Only 12 test classes: with other classes, the results may be quite different." in text
    assert "The 95 % interval of two seeds is very wide; use three seeds or more." in text
    text = unwrapped(compare_pair(a[:1], b[:1]))
    assert "interval of two seeds" not in text
    assert "Only" not in unwrapped(compare_pair(*write_two_methods(tmp_path, noisy(), n_test_classes=20)))


def test_long_class_names_are_printed_in_full(tmp_path: Path) -> None:
    a, b = write_two_methods(tmp_path, noisy(n_seeds=2))
    names = {str(label): f"square orange dots large number {label}" for label in range(N_CLASSES)}
    for row in a:
        assert row.folder is not None
        (row.folder / "classes.json").write_text(json.dumps(names))
    text = as_text(compare_pair(a, b), ("a", "b"))
    assert len([line for line in text.splitlines() if line.startswith("square orange dots large number")]) == 6


# --- external embeddings


def external_pair(runs: Path, **columns: Any) -> tuple[list[Row], list[Row]]:
    """Write two external methods; `columns` are those of the second."""
    external = {"protocol": "external", "trunk": "external", "split_digest": "a" * 64, "overrides": None, "selected_on": None}
    values = noisy(0.1)
    return write_runs(runs, "one", values[0], **external), write_runs(runs, "other", values[1], **{**external, **columns})


def test_a_run_and_external_embeddings_are_not_compared_because_their_images_are_unknown(tmp_path: Path) -> None:
    a = write_runs(tmp_path, "triplet", noisy()[0])
    _, b = external_pair(tmp_path)
    for found, name in ((compare_pair(a, b), "B"), (compare_pair(b, a), "A")):
        assert f"cannot tell whether the images are the same, because {name} is a file of embeddings" in verdict(found)
        text = unwrapped(found)
        assert "evaluate the file embeddings.safetensors of the run too" in text
        assert f"{name} contains external embeddings: nothing is known about their training." in text
        assert "not set" not in text
        assert "different images" not in text


def test_external_embeddings_with_the_same_labels_and_ids_are_compared(tmp_path: Path) -> None:
    found = compare_pair(*external_pair(tmp_path))
    assert found.differences[0].basis == "seeds and classes"
    text = unwrapped(found)
    assert "B (other) is significantly better than A (one)" in text
    assert "Both contain external embeddings: nothing is known about their training." in text
    assert "Identical in both: labels, ids and roles of the items, evaluation; 5 seeds each." in text
    assert "Model selection" not in text


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"split_digest": "b" * 64},
            "their labels or ids differ; take those of both files from the file embeddings.safetensors",
        ),
        ({"split_digest": "b" * 64, "n_queries": 3}, "they have different numbers of queries"),
        ({"dataset": "birds"}, "their data sets are digits and birds; give both the same name with --dataset"),
    ],
)
def test_external_embeddings_that_cannot_be_compared_name_the_reason(
    columns: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    found = compare_pair(*external_pair(tmp_path, fingerprint="e" * 16, **columns))
    assert found.differences[0].basis == "none"
    assert reason in verdict(found)


def test_external_embeddings_that_were_evaluated_differently_are_not_comparable(tmp_path: Path) -> None:
    found = compare_pair(*external_pair(tmp_path, evaluation_distance="euclidean", fingerprint="e" * 16))
    assert "Not comparable" in unwrapped(found)
    assert "evaluation_distance not set | euclidean" in unwrapped(found)


def test_scores_on_different_images_are_not_compared(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = write_runs(tmp_path, "triplet", values[0])
    b = write_runs(tmp_path, "triplet", values[1], split_digest="fedcba9876543210", fingerprint="e" * 16)
    found = compare_pair(a, b)
    assert found.differences[0].basis == "none"
    assert verdict(found).endswith("cannot be compared in MAP@R: they were evaluated on different images.")
    assert "better than" not in unwrapped(found)


def test_the_text_is_one_screen_even_if_everything_differs(tmp_path: Path) -> None:
    values = noisy(0.01)
    many = {f"protocol_field_{i}": "x" * 30 for i in range(40)}
    a = write_runs(tmp_path, "triplet", values[0], loss_label="A name " * 10, n_model_parameters=25_000_000, **many)
    hyper_parameters = {f"loss_make_value_{i}": "y" * 30 for i in range(40)}
    versions = {f"library_{i}_version": "1.0" for i in range(30)}
    b = write_runs(
        tmp_path,
        "arcface",
        values[1],
        n_loss_parameters=100,
        device="cuda",
        **hyper_parameters,
        **versions,
    )
    for row in a:
        assert row.folder is not None
        (row.folder / "classes.json").write_text(json.dumps({str(i): f"{i} " + "long name " * 9 for i in range(N_CLASSES)}))
    lines = as_text(compare_pair(a, b), ("runs/" + "a" * 90, "runs/b")).splitlines()
    assert len(lines) <= 44
    assert max(map(len, lines)) <= 100


def test_json_contains_the_whole_comparison(tmp_path: Path) -> None:
    found = compare_pair(*write_two_methods(tmp_path, noisy(0.1)))
    read = json.loads(as_json(found, ("one", "other")))
    assert read["verdict"] == verdict(found)
    assert read["b"] == {"runs": "other", "loss_label": "ArcFace", "seeds": [0, 1, 2, 3, 4]}
    assert read["differences"][0]["value"] == pytest.approx(found.differences[0].value)
    assert len(read["classes"]) == N_CLASSES


# --- the command


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write runs of two methods below `runs` in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_two_methods(Path("runs"), noisy(0.1, n_seeds=2), fingerprint="aaaa0000")
    return Path("runs")


def test_the_command_prints_the_comparison(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "digits/triplet", "digits/arcface", "--metric=recall_at_1"]) == 0
    assert "B (ArcFace) is significantly better than A (Triplet) in R@1" in " ".join(capsys.readouterr().out.split())


def test_the_command_prints_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "triplet", "arcface", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"][0]["metric"] == "map_at_r"


def test_the_command_imports_neither_torch_nor_hydra_nor_pandas(runs: Path) -> None:
    code = (
        "import sys; from dmlbench.cli import run; status = run(['compare', 'digits/triplet', 'digits/arcface']); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'hydra', 'pandas', 'scipy.stats')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
