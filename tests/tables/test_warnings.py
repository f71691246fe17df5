"""Warnings of a table: proxies that did not move, nearly collapsed embeddings, failed trials, old protocol versions."""

from __future__ import annotations

import pytest
from rows_factory import make_row

from dmlbench.tables.table import compare
from dmlbench.tables.warnings import newest_versions, old_version_warning, split_warnings, warnings_of


def test_proxies_that_did_not_move_are_reported_with_their_seeds() -> None:
    dead = [12, 0, 12, 3]
    [table] = compare([make_row(seed=seed, n_proxies=100, n_dead_proxies=n) for seed, n in enumerate(dead)])
    assert table.rows[0].notes == ("12 of 100 proxies (seeds 0, 2), 3 of 100 proxies (seed 3) did not move during training",)


def test_an_embedding_that_is_nearly_one_dimensional_is_reported() -> None:
    [table] = compare([make_row(seed=seed, effective_rank=rank) for seed, rank in enumerate((1.26, 2.0, 30.0))])
    assert table.rows[0].notes == ("the embedding is nearly one-dimensional: effective rank 1.3 (seed 0)",)


def test_a_memory_of_earlier_batches_that_was_never_used_is_reported() -> None:
    [table] = compare([make_row(seed=seed, n_memory_steps=n) for seed, n in enumerate((0, 5, 0))])
    assert table.rows[0].notes == (
        "the loss never used its memory of earlier batches, because training ended before loss.make.start_step (seeds 0, 2)",
    )


def test_attributes_that_no_training_image_has_are_reported() -> None:
    counts = {"n_evaluated_attributes": 25, "n_attributes_without_training": 23}
    [table] = compare([make_row(seed=seed, **counts) for seed in range(2)])
    assert table.rows[0].notes == ("23 of 25 evaluated attributes occur in no training image",)


def test_failed_tuning_trials_are_reported_with_their_seeds_if_these_differ() -> None:
    [table] = compare([make_row(seed=seed, n_tuning_trials=3, n_tuning_failed=3) for seed in range(2)])
    assert table.rows[0].notes == ("3 of 3 tuning trials failed",)
    [table] = compare([make_row(seed=seed, n_tuning_trials=20, n_tuning_failed=n) for seed, n in enumerate((0, 2, 2))])
    assert table.rows[0].notes == ("2 of 20 tuning trials (seeds 1, 2) failed",)


@pytest.mark.parametrize(
    "columns",
    [
        {"n_tuning_trials": 3, "n_tuning_failed": 0},
        {},
        {"n_proxies": 0, "n_dead_proxies": 0},
        {"n_dead_proxies": "x", "effective_rank": None},
    ],
)
def test_without_a_problem_there_is_no_warning(columns: dict[str, object]) -> None:
    assert warnings_of([make_row(**columns)]) == []


def test_a_table_of_an_older_protocol_version_than_other_rows_has_a_note() -> None:
    old = [make_row(protocol_version=1, seed=seed) for seed in range(2)]
    older_table, newer_table = compare([*old, make_row(protocol_version=2)])
    assert older_table.notes == ("Protocol quick has version 1, but other results have version 2",)
    assert newer_table.notes == ()


def test_versions_are_compared_among_the_rows_and_never_with_configuration_files() -> None:
    [table] = compare([make_row(protocol_version=0)])
    assert table.notes == ()


@pytest.mark.parametrize(
    "columns",
    [
        {"protocol_version": 2},
        {"protocol_version": 99},
        {"protocol_version": None},
        {"protocol": "own_protocol", "protocol_version": 0},
        {"protocol": "external"},
    ],
)
def test_the_newest_version_and_other_protocols_have_no_warning(columns: dict[str, object]) -> None:
    newest = newest_versions([make_row(protocol_version=version) for version in (0, 2, 1, None)])
    assert newest == {"quick": 2}
    assert old_version_warning([make_row(**columns)], newest) == []


def test_test_classes_and_images_that_are_in_training_are_reported_once_per_table() -> None:
    columns = {"split_rule": "manifest", "n_test_classes": 50, "n_shared_classes": 3, "n_duplicates_across_split": 2}
    [table] = compare([make_row(loss=loss, **columns) for loss in ("contrastive", "triplet")])
    assert "3 of 50 test classes are training classes too: they are not unseen" in table.notes
    assert "2 test images equal a training image, or nearly" in table.notes


def test_groups_of_test_classes_that_are_in_training_are_reported() -> None:
    columns = {"split_rule": "manifest", "n_test_groups": 8, "n_shared_groups": 2}
    assert split_warnings([make_row(**columns)]) == ["2 of 8 groups of the test classes also occur in training"]
    assert split_warnings([make_row(**{**columns, "split_rule": "half_per_class"})]) == []


def test_shared_classes_are_not_reported_if_the_split_rule_is_a_closed_set_and_nothing_if_rows_do_not_say() -> None:
    assert split_warnings([make_row(split_rule="half_per_class", n_shared_classes=50, n_duplicates_across_split=0)]) == []
    assert split_warnings([make_row(), make_row(n_shared_classes=None, n_duplicates_across_split="x")]) == []
