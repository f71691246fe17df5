"""Tables of methods over class splits: which rows share one, means over seeds and splits, ranks, and missing results."""

from __future__ import annotations

from typing import Any

import pytest
from rows_factory import make_row

from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.tables.by_split import SplitTable, compare_splits
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.formats.by_split import csv_by_split, markdown_by_split

# Score of each method on three splits.
SCORES = {"untrained": (0.9, 0.1, 0.1), "contrastive": (0.3, 0.4, 0.2), "triplet": (0.2, 0.3, 0.25), "arcface": (0.1, 0.3, 0.3)}


def make_rows(**columns: Any) -> list[Row]:
    """Rows of two seeds, whose scores are 0.01 below and above those of `SCORES`; ArcFace has one weight per training class."""
    return [
        make_row(
            score + 0.01 * (2 * seed - 1),
            **{"loss": loss, "seed": seed, "split_seed": split, "split_digest": f"d{split}", "n_train_classes": 10 + split},
            **({"loss_make_num_classes": 10 + split} if loss == "arcface" else {}),
            **columns,
        )
        for loss, scores in SCORES.items()
        for split, score in enumerate(scores)
        for seed in (0, 1)
    ]


def only(rows: list[Row]) -> SplitTable:
    [table] = compare_splits(rows)
    return table


def test_a_method_has_its_mean_over_seeds_for_each_split_and_an_interval_over_splits() -> None:
    table = only(make_rows())
    assert table.seeds == (0, 1, 2)
    assert table.n_seeds == 2
    assert [row.loss for row in table.rows] == list(SCORES)
    for row in table.rows:
        assert row.scores == pytest.approx(SCORES[row.loss])
        assert row.mean is not None
        assert (row.mean.mean, row.mean.half_width) == pytest.approx(t_interval(SCORES[row.loss]))


def test_ranks_are_those_among_trained_methods_and_equal_scores_share_one() -> None:
    ranks = {row.loss: row.ranks for row in only(make_rows()).rows}
    assert ranks["untrained"] == (None, None, None)
    assert ranks["contrastive"] == (1, 1, 3)
    assert (ranks["triplet"][0], ranks["arcface"][0]) == (2, 3)
    assert ranks["triplet"][1] == ranks["arcface"][1] == 2


def test_the_correlation_is_the_mean_over_pairs_of_splits() -> None:
    rows = [row for row in make_rows() if row["split_seed"] != 1]
    assert only(rows).correlation == pytest.approx(-1)
    assert only([row for row in rows if row["loss"] != "triplet"]).correlation is None


def test_a_method_whose_number_of_classes_depends_on_the_split_is_one_row_but_other_values_are_several() -> None:
    rows = make_rows()
    assert sum(row.loss == "arcface" for row in only(rows).rows) == 1
    others = make_rows(loss_make_neg_margin=0.7)
    assert len(only([*rows, *others]).rows) == 2 * len(SCORES)


def test_a_tuned_method_is_one_row_although_each_split_has_other_values() -> None:
    rows = [
        make_row(loss="triplet", split_seed=split, loss_make_margin=0.1 * split, tuning_trials=5, tuning_folds=4)
        for split in (1, 2)
    ]
    assert len(only(rows).rows) == 1


def test_rows_that_differ_in_the_protocol_are_in_different_tables() -> None:
    tables = compare_splits([*make_rows(), *make_rows(protocol_epochs=7)])
    assert len(tables) == 2
    assert [len(table.rows) for table in tables] == [4, 4]


def test_a_missing_or_failed_run_leaves_the_score_and_the_mean_empty_and_a_note_says_so() -> None:
    rows = [row for row in make_rows() if not (row["loss"] == "triplet" and row["split_seed"] == 2)]
    failed = make_row(loss="contrastive", seed=2, split_seed=0, split_digest="d0", status="failed", n_train_classes=10)
    by_loss = {row.loss: row for row in only([*rows, failed]).rows}
    assert by_loss["triplet"].scores[2] is by_loss["triplet"].mean is by_loss["contrastive"].scores[0] is None
    assert by_loss["triplet"].notes == ("Triplet, split 2: no run",)
    assert by_loss["contrastive"].notes == ("Contrastive, split 0: no result for seed 2",)
    assert by_loss["arcface"].ranks[2] == 1


def test_rows_of_a_single_split_and_unknown_metrics_are_refused() -> None:
    with pytest.raises(UserError, match="no method has results on several class splits; run `dmlbench sweep sweep=splits`"):
        compare_splits([row for row in make_rows() if row["split_seed"] == 0])
    with pytest.raises(UserError, match="--metrics map_at_rr: no row has this metric; did you mean 'map_at_r'"):
        compare_splits(make_rows(), "map_at_rr")


def test_the_text_has_scores_with_ranks_and_says_what_the_interval_means() -> None:
    text = markdown_by_split([only(make_rows())])
    words = " ".join(text.split())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert cells[0] == ["Method", "Split 0", "Split 1", "Split 2", "Mean"]
    assert cells[1] == ["Untrained trunk", "90.0", "10.0", "10.0", "36.7 ± 114.7"]
    assert cells[2] == ["Contrastive", "30.0 (1)", "40.0 (1)", "20.0 (3)", "30.0 ± 24.8"]
    assert "MAP@R in %, mean over 2 seeds, over class splits." in words
    assert "takes the splits as independent although they share classes" in words


def test_comma_separated_values_have_a_line_per_method_and_split_and_one_for_the_mean() -> None:
    lines = csv_by_split([only(make_rows())]).splitlines()
    assert lines[0] == "table,loss,label,metric,split_seed,mean,half_width,rank"
    assert len(lines) == 1 + 4 * (3 + 1)
    assert lines[5].startswith("1,contrastive,Contrastive,map_at_r,0,0.3")
    assert lines[5].endswith(",,1")
