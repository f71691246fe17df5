"""What cannot be told from the best: against the model's own truth, and never where the data do not allow a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import load_file, save_file
from scipy import stats

from dmlbench.results.row import MISSING, Row
from dmlbench.tables.formats import render
from dmlbench.tables.significance import alike_best, class_means, estimate_spread, weighted
from dmlbench.tables.table import compare


def study(n_methods: int, n_seeds: int, seed: float, by_class: float, rest: float, rng: np.random.Generator) -> np.ndarray:
    values = 0.5 + 0.2 * rng.standard_normal((1, 1, 40)) + seed * rng.standard_normal((n_methods, n_seeds, 1))
    values = values + by_class * rng.standard_normal((n_methods, 1, 40))
    return values + rest * rng.standard_normal((n_methods, n_seeds, 40))


@pytest.mark.parametrize(("seed", "by_class", "rest"), [(0.02, 0.01, 0.02), (0.002, 0.1, 0.02), (0.0, 0.0, 0.1)])
def test_the_variance_is_that_of_the_world_on_average(seed: float, by_class: float, rest: float):
    rng = np.random.default_rng(0)
    found = np.mean([estimate_spread(study(5, 4, seed, by_class, rest, rng)).variance for _ in range(400)])
    truth = seed**2 / 4 + by_class**2 / 40 + rest**2 / (4 * 40)
    assert truth * 0.9 < found < truth * 1.2  # components estimated below zero count as none, which errs upwards


@pytest.mark.parametrize(("seed", "by_class", "rest"), [(0.02, 0.01, 0.02), (0.002, 0.1, 0.02), (0.01, 0.05, 0.05)])
def test_equal_methods_are_seldom_told_apart_whatever_dominates(seed: float, by_class: float, rest: float):
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        values = study(3, 3, seed, by_class, rest, rng)
        means = values.mean((1, 2))
        alarms += estimate_spread(values).p_value(float(np.ptp(means))) <= 0.05
    assert alarms / 300 <= 0.08  # 5 % and two standard errors


def test_two_methods_are_compared_as_a_t_test_would():
    values = study(2, 5, 0.01, 0.02, 0.02, np.random.default_rng(2))
    spread = estimate_spread(values)
    difference = float(np.ptp(values.mean((1, 2))))
    expected = 2 * stats.t.sf(difference / (2 * spread.variance) ** 0.5, spread.degrees_of_freedom)
    assert spread.p_value(difference) == pytest.approx(expected, abs=1e-6)


def test_methods_without_any_spread_differ_where_their_means_do():
    values = np.broadcast_to(np.array([0.2, 0.3])[:, None, None], (2, 3, 5))
    spread = estimate_spread(values)
    assert spread.p_value(0.1) == pytest.approx(0, abs=1e-9)
    assert spread.p_value(0) == 1


def test_weighted_class_means_average_to_the_mean_over_queries():
    means, counts = np.array([0.2, 0.5, 1.0]), np.array([10, 1, 4])
    assert weighted(means, counts).mean() == pytest.approx((2 + 0.5 + 4) / 15)


# Rows with scores beside them


def rows_of(place: Path, offsets: dict[str, float], n_seeds: int = 3, noise: float = 0.01) -> list[Row]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 4)
    easy = 0.5 + 0.1 * rng.standard_normal(30)[labels]
    rows = []
    for loss, offset in offsets.items():
        for seed in range(n_seeds):
            scores = np.clip(easy + offset + noise * rng.standard_normal() + 0.05 * rng.standard_normal(len(labels)), 0, 1)
            folder = place / loss / str(seed)
            folder.mkdir(parents=True)
            save_file({"labels": labels, "ids": np.arange(len(labels)), "map_at_r": scores}, folder / "per_query.safetensors")
            made = make_row(loss=loss, seed=seed)
            columns = {name: value for name, value in made.columns.items() if name not in made.metrics}
            rows.append(Row({**columns, "map_at_r": float(scores.mean())}, folder))
    return rows


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    return {loss: [row for row in rows if row["loss"] == loss] for loss in {str(row["loss"]) for row in rows}}


def test_a_clear_winner_stands_alone_and_near_ones_stand_beside_it(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": -0.2})
    assert alike_best(grouped(rows), "map_at_r") == (frozenset({"triplet", "arcface"}), None)


def test_the_table_marks_all_of_them_and_says_by_which_test(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": -0.2})
    [table] = compare(rows)
    text = render([table])
    assert "Tukey; n = 3 seeds; so few have little power" in " ".join(text.split())
    bold = [line.split("|")[1].strip() for line in text.splitlines() if "**" in line]
    assert bold == ["Triplet", "ArcFace"]


@pytest.mark.parametrize("status", ["failed", MISSING])
def test_a_line_with_a_run_that_has_no_numbers_is_left_out_and_the_others_are_tested(tmp_path: Path, status: str):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": 0.3})
    rows[-1] = Row({**rows[-1].columns, "status": status}, rows[-1].folder)
    [table] = compare(rows)
    assert table.even == {"map_at_r": {"Triplet", "ArcFace"}}


def test_without_the_test_the_best_alone_is_marked(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.15})
    [table] = compare(rows, tested=False)
    assert not table.even
    assert "Tukey" not in table.caption


def test_what_cannot_be_tested_says_why(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.2})
    assert alike_best(grouped(rows[:-1]), "map_at_r")[1] == "the methods have different seeds"
    assert alike_best(grouped([rows[0], rows[-3]]), "map_at_r")[1] == "a method has one seed"
    assert alike_best(grouped(rows[:3]), "map_at_r")[1] == "there is one method"
    assert alike_best(grouped(rows), "recall_at_1")[1] == "the scores of each query are not there"
    kept = {"labels": np.repeat(np.arange(29), 4), "ids": np.arange(116), "map_at_r": np.ones(116)}
    save_file(kept, tmp_path / "triplet/0/per_query.safetensors")
    assert alike_best(grouped(rows), "map_at_r")[1] == "the rows were not scored on the same queries"


def changed(row: Row, **tensors: np.ndarray) -> None:
    """Other scores beside a row than it was written with."""
    assert row.folder is not None
    file = row.folder / "per_query.safetensors"
    save_file({**load_file(file), **tensors}, file)


def test_scores_that_are_not_those_of_the_row_are_not_tested_whatever_their_mean_over_seeds(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    for row, apart in zip(rows[:2], (0.01, -0.01), strict=True):
        rows[rows.index(row)] = Row({**row.columns, "map_at_r": row.number("map_at_r") + apart}, row.folder)  # type: ignore[operator]
    [table] = compare(rows)
    assert not table.even
    assert "What is best was not tested: the scores of each query are not those of the rows." in table.caption


def test_a_score_that_is_not_a_number_is_not_tested(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    changed(rows[1], map_at_r=np.array([np.nan, *np.full(119, 0.5)]))
    assert alike_best(grouped(rows), "map_at_r")[1] == "the scores of each query are not those of the rows"


def test_other_queries_of_as_many_in_each_class_are_not_the_same_and_their_order_does_not_matter(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    assert rows[0].folder is not None
    kept = load_file(rows[0].folder / "per_query.safetensors")
    changed(rows[0], **{name: values[::-1].copy() for name, values in kept.items()})
    assert alike_best(grouped(rows), "map_at_r")[1] is None
    changed(rows[0], ids=np.arange(1000, 1120))
    assert alike_best(grouped(rows), "map_at_r")[1] == "the rows were not scored on the same queries"


def test_queries_of_one_class_are_told_as_such(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101})
    for row in rows:
        changed(row, labels=np.zeros(120, int))
    assert alike_best(grouped(rows), "map_at_r")[1] == "there is one test class"


def test_scores_that_do_not_fit_their_labels_are_as_none(tmp_path: Path):
    [row, *_] = rows_of(tmp_path, {"triplet": 0.1})
    assert row.folder is not None
    save_file({"labels": np.arange(10), "ids": np.arange(10), "map_at_r": np.ones(9)}, row.folder / "per_query.safetensors")
    assert class_means(row, "map_at_r") is None


def test_a_torn_file_of_scores_is_as_none(tmp_path: Path):
    [row, *_] = rows_of(tmp_path, {"triplet": 0.1})
    assert row.folder is not None
    (row.folder / "per_query.safetensors").write_bytes(b"torn")
    assert class_means(row, "map_at_r") is None


def test_a_metric_that_cannot_be_tested_leaves_the_others_tested_and_is_named(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": -0.2})
    rows = [Row({**row.columns, "nmi": 0.5, "r_precision": 0.5}, row.folder) for row in rows]
    [table] = compare(rows, metrics=["map_at_r", "nmi", "r_precision"])
    assert table.even == {"map_at_r": {"Triplet", "ArcFace"}}
    assert "Tukey; n = 3 seeds" in table.caption
    assert "What is best in NMI was not tested: a clustering has no score of each query." in table.caption
    assert "What is best in RP was not tested: the scores of each query are not there." in table.caption


def test_a_method_with_a_hole_in_a_metric_is_left_out_of_its_test(tmp_path: Path):
    rows = rows_of(tmp_path, {"triplet": 0.1, "arcface": 0.101, "cosface": 0.3})
    rows[-1] = Row({**rows[-1].columns, "map_at_r": None}, rows[-1].folder)
    [table] = compare(rows, metrics=["map_at_r"])
    assert table.even == {"map_at_r": {"Triplet", "ArcFace"}}
