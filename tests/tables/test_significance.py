"""The significance test: error rates under the model, and no test if the data do not allow one."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import load_file, save_file
from scipy import stats
from significance_worlds import draw, equal_weights

import dmlbench.tables.significance
from dmlbench.results.class_files import groups_digest
from dmlbench.results.row import MISSING, Row
from dmlbench.tables.class_scores import read_class_means
from dmlbench.tables.formats import render
from dmlbench.tables.significance import Spread, not_significantly_worse, spread_of_difference
from dmlbench.tables.table import compare
from dmlbench.tables.variance_components import Study

DIFFERENT_QUERIES = "the rows were not evaluated on the same queries"
OTHER_SCORES = "the per-query scores do not match the rows"


# --- p-values


def test_the_p_value_of_two_methods_is_that_of_a_t_test() -> None:
    spread = Spread(variance=0.04, degrees_of_freedom=7.5)
    assert spread.p_value(-0.5) == pytest.approx(2 * stats.t.sf(2.5, 7.5), abs=1e-9)
    assert spread.half_width() == pytest.approx(stats.t.isf(0.025, 7.5) * 0.2)


def test_the_p_value_of_three_methods_is_that_of_the_studentised_range() -> None:
    spread = Spread(variance=0.04, degrees_of_freedom=7.5, n_methods=3)
    assert spread.p_value(0.5) == pytest.approx(stats.studentized_range.sf(2.5 * 2**0.5, 3, 7.5), abs=1e-9)


def test_the_studentised_range_of_two_methods_equals_the_t_test() -> None:
    expected = stats.studentized_range.sf(2.5 * 2**0.5, 2, 7.5)
    assert Spread(variance=0.04, degrees_of_freedom=7.5).p_value(0.5) == pytest.approx(expected, abs=1e-6)


def test_without_any_variance_methods_differ_significantly_if_their_means_differ() -> None:
    spread = Spread(variance=0.0, degrees_of_freedom=1.0, n_methods=3)
    assert spread.p_value(0.1) == 0
    assert spread.p_value(0) == 1


def test_the_best_of_five_equal_methods_is_rarely_significantly_better_than_the_worst() -> None:
    means = draw(np.random.default_rng(1), (300, 5, 3, 40), 0.01, 0.05, 0.05)
    errors = 0
    for one in means:
        study = Study(one, equal_weights(40))
        averages = study.method_means()
        best, worst = int(averages.argmax()), int(averages.argmin())
        errors += spread_of_difference(study, best, worst).p_value(float(np.ptp(averages))) <= 0.05
    assert errors / 300 <= 0.08


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
            row = make_row(loss=loss, seed=seed, n_queries=len(labels))
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
        "Significance (5 % level, n = 3 seeds): the test allows for chance between seeds, which all methods share, and between "
        "classes, which it takes as independent (see docs/significance.md); so few seeds give the test little power"
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


def test_without_the_test_only_the_highest_mean_is_bold_and_the_caption_says_that_it_may_be_chance(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.15})
    [table] = compare(rows, tested=False)
    assert table.bold["map_at_r"] == {"ArcFace"}
    assert table.caption.endswith("by its mean alone: without a significance test, it may be best by chance.")
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


def test_rows_that_do_not_match_their_scores_are_marked_even_if_the_mean_over_seeds_matches(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    for i, error in enumerate((0.01, -0.01)):
        rows[i] = with_columns(rows[i], map_at_r=rows[i].columns["map_at_r"] + error)  # type: ignore[operator]
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == OTHER_SCORES
    [table] = compare(rows)
    assert not table.bold
    [arcface, triplet] = sorted(table.rows, key=lambda row: row.loss)
    assert triplet.inconsistent.startswith("inconsistent (see dmlbench verify): seed 0: MAP@R is 0.59")
    assert arcface.inconsistent == ""


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
    rows = [with_columns(row, nmi=0.5, r_precision=1.0) for row in rows]
    [table] = compare(rows, metrics=["map_at_r", "nmi", "r_precision"])
    assert table.bold == {"map_at_r": {"Triplet", "ArcFace"}}
    assert (
        "Nothing is bold in NMI, because significance was not tested: clustering metrics have no per-query scores"
        in table.details
    )
    assert "Nothing is bold in RP, because significance was not tested: per-query scores are missing" in table.details
    assert any(sentence.startswith("Significance (5 % level") for sentence in table.details)


def test_a_method_without_a_value_of_a_metric_is_excluded_from_its_test(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": 0.3})
    rows[-1] = with_columns(rows[-1], map_at_r=None)
    [table] = compare(rows, metrics=["map_at_r"])
    assert table.bold == {"map_at_r": {"Triplet", "ArcFace"}}


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(dmlbench.tables.significance).failed == 0


# --- groups of classes


def groups_of(n_groups: int) -> dict[str, str]:
    """Return groups of the 30 classes of `write_rows`."""
    return {str(label): f"group {label % n_groups}" for label in range(30)}


def write_groups(rows: list[Row], n_groups: int, names: dict[str, str] | None = None) -> list[Row]:
    """Write groups of classes beside rows, and return the rows with the columns of such a run."""
    groups = groups_of(n_groups) | (names or {})
    for row in rows:
        assert row.folder is not None
        (row.folder / "class_groups.json").write_text(json.dumps(groups))
    return [with_columns(row, class_group_kind="alphabet", n_test_groups=n_groups) for row in rows]


def test_classes_of_a_group_are_not_taken_as_independent(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.1}, noise=0.0001)
    assert not_significantly_worse(by_loss(rows), "map_at_r") == (frozenset({"triplet", "arcface"}), None)
    for row in rows:
        if row["loss"] == "arcface":
            assert row.folder is not None
            tensors = load_file(row.folder / "per_query.safetensors")
            better = tensors["map_at_r"] + 0.1 * (tensors["labels"] % 6 == 0) + 0.02  # mainly one group of classes
            overwrite(row, map_at_r=better)
    rows = [with_scores(row) for row in rows]
    assert not_significantly_worse(by_loss(rows), "map_at_r")[0] == frozenset({"arcface"})
    grouped = write_groups(rows, 6)
    assert not_significantly_worse(by_loss(grouped), "map_at_r") == (frozenset({"triplet", "arcface"}), None)
    [table] = compare(grouped)
    [sentence] = [one for one in table.details if one.startswith("Significance")]
    assert "between groups of classes (alphabet, 6 groups), which it takes as independent" in sentence


def with_scores(row: Row) -> Row:
    """Return a row whose metric is the mean of its per-query scores."""
    assert row.folder is not None
    return with_columns(row, map_at_r=float(load_file(row.folder / "per_query.safetensors")["map_at_r"].mean()))


def test_four_groups_are_too_few_for_the_test(tmp_path: Path) -> None:
    rows = write_groups(write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.2}), 4)
    reason = not_significantly_worse(by_loss(rows), "map_at_r")[1]
    assert reason == "the test classes come from only 4 groups (alphabet), and a test that takes groups as independent needs 5"
    [table] = compare(rows)
    assert not any(table.bold.values())


def test_groups_of_which_two_have_nearly_all_classes_are_refused(tmp_path: Path) -> None:
    names = {str(label): f"group {label // 13 if label < 26 else label}" for label in range(30)}
    rows = write_groups(write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.2}), 6, names)
    weights = np.array([13, 13, 1, 1, 1, 1]) / 30
    reason = not_significantly_worse(by_loss(rows), "map_at_r")[1]
    assert reason == (
        f"a few groups contain most queries: the 6 groups (alphabet) are worth {1 / (weights**2).sum():.1f} equal ones, and "
        "the test needs 4"
    )


def test_rows_with_different_or_missing_groups_are_not_tested(tmp_path: Path) -> None:
    plain = write_rows(tmp_path, {"triplet": 0.1, "arcface": 0.2})
    rows = write_groups(plain, 6)
    rest = [row for row in rows if row["loss"] == "arcface"]
    assert not_significantly_worse(by_loss([*plain[:3], *rest]), "map_at_r")[1] is None  # an older row, with the file added
    write_groups(plain[:1], 6, {"0": "another group"})
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == "the rows have different groups of classes"
    recorded = [with_columns(row, class_groups_digest=groups_digest(groups_of(6))) for row in rows]
    changed = "the groups of the classes are missing or damaged in 1 of 6 runs (class_groups.json); run their commands again"
    assert not_significantly_worse(by_loss(recorded), "map_at_r")[1] == changed
    (plain[0].folder or tmp_path).joinpath("class_groups.json").write_text('{"0": "only one"}')
    assert not_significantly_worse(by_loss(rows), "map_at_r")[1] == changed
