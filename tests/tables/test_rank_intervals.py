"""Ranks that a significance test supports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import save_file

from dmlbench.results.row import Row
from dmlbench.tables import rank_intervals
from dmlbench.tables.class_scores import class_scores
from dmlbench.tables.rank_intervals import RankInterval, rank_methods
from dmlbench.tables.significance import LEVEL, Spread, not_significantly_worse, spread_of_difference

N_CLASSES, PER_CLASS = 30, 4
LABELS = np.repeat(np.arange(N_CLASSES), PER_CLASS)
EASE = np.random.default_rng(1).normal(0, 0.05, N_CLASSES)  # which all methods share


def write_rows(folder: Path, loss: str, score: float, seeds: Sequence[int] = range(3), ids: int = 0) -> list[Row]:
    """Write scores of queries, and return the rows of a method."""
    rows = []
    for seed in seeds:
        generator = np.random.default_rng([seed, *loss.encode()])
        values = np.clip(score + EASE[LABELS] + generator.normal(0, 0.05, len(LABELS)), 0, 1)
        run = folder / loss / str(seed)
        run.mkdir(parents=True)
        save_file({"ids": np.arange(len(LABELS)) + ids, "labels": LABELS, "map_at_r": values}, run / "per_query.safetensors")
        rows.append(Row(make_row(loss=loss, seed=seed, map_at_r=float(values.mean())).columns, run))
    return rows


def intervals(methods: dict[str, list[Row]]) -> dict[str, str]:
    return {name: str(one) for name, one in rank_methods(methods, "map_at_r").intervals.items()}


def test_methods_that_cannot_be_distinguished_share_their_ranks(tmp_path: Path) -> None:
    scores = {"a": 0.60, "b": 0.501, "c": 0.50, "d": 0.30}
    found = intervals({name: write_rows(tmp_path, name, score) for name, score in scores.items()})
    assert found == {"a": "1", "b": "2\N{EN DASH}3", "c": "2\N{EN DASH}3", "d": "4"}


def test_a_method_between_two_groups_belongs_to_both() -> None:
    assert str(RankInterval(2, 3)) == "2\N{EN DASH}3"
    assert str(RankInterval(2, 2)) == "2"


def test_intervals_and_the_best_methods_follow_from_the_test_of_every_pair(tmp_path: Path) -> None:
    scores = {f"method {i}": 0.5 + 0.004 * i for i in range(8)}
    methods = {name: write_rows(tmp_path, name, score) for name, score in scores.items()}
    study = class_scores(list(methods.values()), "map_at_r")[0].study
    means = study.method_means()
    found = rank_methods(methods, "map_at_r")
    for i, name in enumerate(methods):
        p_values = {
            j: spread_of_difference(study, i, j).p_value(float(means[i] - means[j])) for j in range(len(methods)) if j != i
        }
        better = sum(p <= LEVEL and means[j] > means[i] for j, p in p_values.items())
        worse = sum(p <= LEVEL and means[j] < means[i] for j, p in p_values.items())
        assert found.intervals[name] == (1 + better, len(methods) - worse)
    assert found.best == {name for name in methods if found.intervals[name].best == 1}
    assert found.best <= not_significantly_worse(methods, "map_at_r")[0]
    assert 1 < len(found.best) < len(methods)


def test_the_decision_about_a_pair_is_that_of_its_p_value() -> None:
    generator = np.random.default_rng(0)
    for _ in range(60):  # ratios near the critical value, where the bounds do not decide
        spread = Spread(
            1.0, float(generator.choice([2, 5, 20, 117]) * generator.uniform(0.9, 1.1)), int(generator.choice([3, 12]))
        )
        difference = float(generator.uniform(2, 5)) * (-1) ** int(generator.integers(2))
        assert spread.is_significant(difference) == (spread.p_value(difference) <= LEVEL)
    assert Spread(0.0, 4.0, 3).is_significant(0.1)
    assert not Spread(0.0, 4.0, 3).is_significant(0.0)


def test_the_seeds_that_most_methods_have_in_common_are_tested(tmp_path: Path) -> None:
    methods = {
        "a": write_rows(tmp_path, "a", 0.6, range(5)),
        "b": write_rows(tmp_path, "b", 0.5),
        "c": write_rows(tmp_path, "c", 0.4),
        "one": write_rows(tmp_path, "one", 0.9, range(1)),
        "other": write_rows(tmp_path, "other", 0.9, range(7, 10)),
    }
    found = rank_methods(methods, "map_at_r")
    assert found.seeds == (0, 1, 2)
    assert {name: str(one) for name, one in found.intervals.items()} == {"a": "1", "b": "2", "c": "3"}
    assert found.not_ranked == {
        "one": "it has only one seed",
        "other": "it lacks seeds 0, 1, 2; the test uses seeds 0, 1, 2, which 3 methods have",
    }


def study(folder: Path, seeds: dict[str, tuple[int, ...]]) -> dict[str, list[Row]]:
    """Methods of descending score with these seeds."""
    return {name: write_rows(folder, name, 0.6 - 0.1 * i, of) for i, (name, of) in enumerate(seeds.items())}


def test_a_method_with_fewer_seeds_does_not_take_seeds_from_the_others(tmp_path: Path) -> None:
    three = dict.fromkeys("abcd", (0, 1, 2))
    found = rank_methods(study(tmp_path, {**three, "new": (0, 1)}), "map_at_r")
    assert found.seeds == (0, 1, 2)
    assert found.intervals.keys() == set("abcd")
    assert found.not_ranked == {"new": "it lacks seed 2; the test uses seeds 0, 1, 2, which 4 methods have"}


def test_seeds_in_common_are_found_if_no_method_has_only_these(tmp_path: Path) -> None:
    found = rank_methods(study(tmp_path, {"a": (0, 1, 2), "b": (1, 2, 3), "c": (1, 2, 4)}), "map_at_r")
    assert found.seeds == (1, 2)
    assert {name: str(one) for name, one in found.intervals.items()} == {"a": "1", "b": "2", "c": "3"}
    assert not found.not_ranked


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ([(0, 1, 2), (0, 1, 2), (0, 1)], {0, 1}),  # 2 x 3 and 3 x 2: more methods
        ([(5, 6), (5, 6), (1, 2), (1, 2)], {1, 2}),  # the smallest ones
        ([(0, 1, 2, 3, 4, 5, 6), (0, 1), (0, 1)], {0, 1}),  # not 1 x 7
        ([tuple(range(20))] * 2 + [(0, 1, 2)] * 4, {0, 1, 2}),  # not 2 x 20
        ([tuple(range(20))] * 2, set(range(20))),
        ([(0, 1), (2, 3)], set()),
        ([(0, 1), (1, 2)], set()),
        ([], set()),
    ],
)
def test_most_methods_times_seeds_are_tested(seeds: list[tuple[int, ...]], expected: set[int]) -> None:
    assert rank_intervals._common_seeds([frozenset(one) for one in seeds]) == expected


def test_many_different_sets_of_seeds_take_little_memory() -> None:
    every = frozenset(range(20))
    found = rank_intervals._common_seeds([every, every, *(every - {seed} for seed in every)])
    assert len(found) >= rank_intervals.COUNTED_SEEDS  # of a million of intersections


def test_methods_without_seeds_in_common_are_not_ranked(tmp_path: Path) -> None:
    found = rank_methods(study(tmp_path, {"a": (0, 1), "b": (2, 3), "c": (7,)}), "map_at_r")
    assert found.not_ranked == {
        "c": "it has only one seed",
        **dict.fromkeys("ab", "no other method has two of its seeds"),
    }


def test_the_best_methods_are_those_whose_rank_begins_at_one() -> None:
    found = rank_intervals.Ranking({"a": RankInterval(1, 3), "b": RankInterval(1, 2), "c": RankInterval(2, 3)})
    assert found.best == {"a", "b"}


def test_methods_without_scores_or_with_other_queries_do_not_prevent_a_ranking(tmp_path: Path) -> None:
    methods = {
        name: write_rows(tmp_path, name, score) for name, score in {"a": 0.6, "b": 0.5, "none": 0.5, "false": 0.5}.items()
    }
    methods["other"] = write_rows(tmp_path, "other", 0.5, ids=1000)
    (tmp_path / "none" / "1" / "per_query.safetensors").unlink()
    methods["false"] = [Row({**row.columns, "map_at_r": 0.9}, row.folder) for row in methods["false"]]
    found = rank_methods(methods, "map_at_r")
    assert {name: str(one) for name, one in found.intervals.items()} == {"a": "1", "b": "2"}
    assert found.not_ranked == {
        "none": "per-query scores are missing",
        "false": "the per-query scores do not match the rows",
        "other": "it has other queries",
    }


@pytest.mark.parametrize("names", [[], ["a"]])
def test_fewer_than_two_methods_are_not_ranked(names: list[str], tmp_path: Path) -> None:
    found = rank_methods({name: write_rows(tmp_path, name, 0.5) for name in names}, "map_at_r")
    assert not found.intervals
    assert not found.best
    assert found.not_ranked == dict.fromkeys(names, "no other method can be tested with it")


def test_of_many_methods_only_the_best_are_tested_but_the_test_allows_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_intervals, "MAX_RANKED", 2)
    methods = {name: write_rows(tmp_path, name, score) for name, score in {"a": 0.4, "b": 0.6, "c": 0.5}.items()}
    found = rank_methods(methods, "map_at_r")
    assert {name: str(one) for name, one in found.intervals.items()} == {"b": "1", "c": "2"}
    assert found.not_ranked == {"a": "only the 2 highest means are tested"}
    assert found.n_methods == 3


def test_scores_that_change_on_the_disk_are_read_again(tmp_path: Path) -> None:
    methods = {name: write_rows(tmp_path, name, score) for name, score in {"a": 0.6, "b": 0.5}.items()}
    assert intervals(methods) == {"a": "1", "b": "2"}
    for seed in range(3):
        (tmp_path / "a" / str(seed) / "per_query.safetensors").write_bytes(b"torn")
    assert intervals(methods) == {}
