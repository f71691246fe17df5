"""What a table warns of: proxies that never moved, an embedding of one line, rows of an earlier version."""

from __future__ import annotations

import pytest
from dmlbench.launch import compose
from rows_factory import make_row

from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.tables.table import compare
from dmlbench.tables.warnings import outdated, protocol_version, sentinels


def test_proxies_that_never_moved_are_told_with_their_seeds() -> None:
    dead = [12, 0, 12, 3]
    [table] = compare([make_row(seed=seed, n_proxies=100, n_dead_proxies=n) for seed, n in enumerate(dead)])
    assert table.lines[0].notes == ("12 of 100 proxies (seeds 0, 2), 3 of 100 proxies (seed 3) never moved",)


def test_an_embedding_of_nearly_one_line_is_told() -> None:
    [table] = compare([make_row(seed=seed, effective_rank=rank) for seed, rank in enumerate((1.26, 2.0, 30.0))])
    assert table.lines[0].notes == ("the embedding is nearly one line: effective rank 1.3 (seed 0)",)


def test_trials_that_failed_in_tuning_are_told_and_their_seeds_where_they_differ() -> None:
    [table] = compare([make_row(seed=seed, n_tuning_trials=3, n_tuning_failed=3) for seed in range(2)])
    assert table.lines[0].notes == ("3 of 3 trials of its tuning failed",)
    [table] = compare([make_row(seed=seed, n_tuning_trials=20, n_tuning_failed=n) for seed, n in enumerate((0, 2, 2))])
    assert table.lines[0].notes == ("2 of 20 trials (seeds 1, 2) of its tuning failed",)


@pytest.mark.parametrize(
    "columns",
    [
        {"n_tuning_trials": 3, "n_tuning_failed": 0},
        {},
        {"n_proxies": 0, "n_dead_proxies": 0},
        {"n_dead_proxies": "x", "effective_rank": None},
    ],
)
def test_nothing_odd_is_nothing_said(columns: dict[str, object]) -> None:
    assert sentinels([make_row(**columns)]) == []


@pytest.mark.parametrize("name", ["quick", "standard", "best_practice", "reality_check"])
def test_the_version_of_today_is_the_one_that_a_run_would_get(name: str) -> None:
    assert protocol_version(name) == compose([f"protocol={name}", "dataset=digits"])[0].protocol.version


def test_rows_of_an_earlier_version_of_a_protocol_are_told() -> None:
    [table] = compare([make_row(protocol_version=0, seed=seed) for seed in range(2)])
    assert table.notes == ("made under quick version 0; today's is version 1: run the sweep again",)


@pytest.mark.parametrize(
    "columns",
    [
        {"protocol_version": 1},
        {"protocol_version": 99},
        {"protocol_version": None},
        {"protocol": "of_my_own", "protocol_version": 0},
        {"protocol": "../protocol/quick", "protocol_version": 0},
        {"protocol": "external"},
    ],
)
def test_of_todays_rows_and_of_protocols_that_are_not_ours_nothing_is_said(columns: dict[str, object]) -> None:
    assert outdated([make_row(**columns)]) == []


def test_rows_of_an_earlier_schema_are_told() -> None:
    [note] = outdated([make_row(schema_version=SCHEMA_VERSION - 1), make_row()])
    assert note == f"written under schema {SCHEMA_VERSION - 1} of rows; today's is {SCHEMA_VERSION}: run the sweep again"
