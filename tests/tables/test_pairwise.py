"""`dmlbench compare`: whether B is better than A, against statistics written by hand; and what is said where none can know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import save_file
from scipy import stats

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results.find_runs import Group, groups, pair
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.tables.formats.pairwise_text import as_json, as_text, verdict
from dmlbench.tables.pairwise import Comparison, compare
from dmlbench.tables.significance import estimate_spread, weighted

N_CLASSES = 30


def study(seed: float, by_class: float, rest: float, ahead: float, rng: Any, n_seeds: int = 5) -> np.ndarray:
    """Class means of two methods, `(2, S, C)`; the second is ahead."""
    values = 0.4 + 0.1 * rng.standard_normal((1, 1, N_CLASSES)) + seed * rng.standard_normal((2, n_seeds, 1))
    values = values + by_class * rng.standard_normal((2, 1, N_CLASSES)) + rest * rng.standard_normal((2, n_seeds, N_CLASSES))
    values[1] += ahead
    return values


def saved(place: Path, loss: str, means: np.ndarray, counts: np.ndarray | None = None, **columns: Any) -> list[Row]:
    """Runs of one method, a seed a row of `means` `(S, C)`, with the scores of each query beside them."""
    counts = np.full(means.shape[1], 4) if counts is None else counts
    labels = np.repeat(np.arange(len(counts)), counts)
    seeds = columns.pop("seeds", range(len(means)))
    rows = []
    for seed, own in zip(seeds, means, strict=True):
        scores = own[labels]
        row = make_row(float(scores.mean()), loss=loss, seed=seed, hostname="here", train_seconds=60.0, **columns)
        folder = place / str(row["dataset"]) / loss / f"{row['fingerprint']}-{row['method_digest']}-{seed}"
        row = Row({**row.columns, "run_id": folder.name}, folder)
        write_row(folder, row)
        kept = {"labels": labels, "ids": np.arange(len(labels))}
        metrics = ("map_at_r", "recall_at_1", "r_precision")
        save_file({**kept, **{name: scores.copy() for name in metrics}}, folder / "per_query.safetensors")
        rows.append(row)
    return rows


def two(place: Path, values: np.ndarray, **columns: Any) -> tuple[list[Row], list[Row]]:
    return saved(place, "triplet", values[0], **columns), saved(place, "arcface", values[1], **columns)


def noisy(ahead: float = 0.0, n_seeds: int = 5) -> np.ndarray:
    return study(0.01, 0.02, 0.02, ahead, np.random.default_rng(0), n_seeds)


def told(found: Comparison) -> str:
    return " ".join(as_text(found, ("a", "b")).split())


# How sure


def test_interval_and_p_are_those_of_mean_squares_summed_by_hand(tmp_path: Path) -> None:
    values = noisy(0.03)
    [difference, *_] = compare(*two(tmp_path, values)).differences
    n_seeds, grand = 5, values.mean()
    seed = by_class = rest = 0.0
    for m in range(2):
        for s in range(n_seeds):
            seed += N_CLASSES * (values[m, s].mean() - values[m].mean()) ** 2 / (2 * (n_seeds - 1))
            for c in range(N_CLASSES):
                apart = values[m, s, c] - values[m, s].mean() - values[m, :, c].mean() + values[m].mean()
                rest += apart**2 / (2 * (n_seeds - 1) * (N_CLASSES - 1))
        for c in range(N_CLASSES):
            apart = values[m, :, c].mean() - values[m].mean() - values[:, :, c].mean() + grand
            by_class += n_seeds * apart**2 / (N_CLASSES - 1)
    total = seed + by_class - rest
    assert total > max(seed, by_class)  # else another branch is tested
    freedom = total**2 / (seed**2 / (2 * 4) + by_class**2 / (N_CLASSES - 1) + rest**2 / (2 * 4 * (N_CLASSES - 1)))
    error = (2 * total / (n_seeds * N_CLASSES)) ** 0.5
    expected = values[1].mean() - values[0].mean()
    assert difference.value == pytest.approx(expected, abs=1e-9)
    assert difference.p == pytest.approx(2 * stats.t.sf(abs(expected) / error, freedom), rel=1e-6)
    assert difference.half_width == pytest.approx(stats.t.isf(0.025, freedom) * error, rel=1e-6)


def test_where_seeds_alone_matter_it_is_the_t_test_over_seeds() -> None:
    values = study(0.02, 0, 0, 0.01, np.random.default_rng(1))
    p = estimate_spread(values).p_value(float(values[1].mean() - values[0].mean()))
    assert p == pytest.approx(stats.ttest_ind(values[1].mean(1), values[0].mean(1)).pvalue, rel=1e-6)


def test_where_classes_alone_matter_it_is_the_paired_t_test_over_classes() -> None:
    values = study(0, 0.05, 0, 0.01, np.random.default_rng(1))
    p = estimate_spread(values).p_value(float(values[1].mean() - values[0].mean()))
    assert p == pytest.approx(stats.ttest_rel(values[1].mean(0), values[0].mean(0)).pvalue, rel=1e-6)


def test_of_two_methods_it_is_tukeys_test_of_the_tables() -> None:
    values = noisy(0.02)
    spread = estimate_spread(values)
    difference = float(values[1].mean() - values[0].mean())
    expected = stats.studentized_range.sf(abs(difference) / spread.variance**0.5, 2, spread.freedom)
    assert spread.p_value(difference) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sizes", ["equal", "very unequal"])
@pytest.mark.parametrize(("seed", "by_class", "rest"), [(0.02, 0.01, 0.02), (0.002, 0.08, 0.03), (0.01, 0.05, 0.03)])
def test_the_interval_holds_a_true_difference_as_often_as_it_says(
    seed: float, by_class: float, rest: float, sizes: str
) -> None:
    rng = np.random.default_rng([3, len(sizes)])
    counts = np.full(N_CLASSES, 10) if sizes == "equal" else np.repeat([2, 10, 18], N_CLASSES // 3)
    held = 0
    for _ in range(600):
        values = weighted(study(seed, by_class, rest, 0.3, rng), counts)
        held += abs(values[1].mean() - values[0].mean() - 0.3) <= estimate_spread(values).half_width()
    assert 0.93 <= held / 600 <= 0.97


def test_a_lead_that_is_the_same_in_every_class_is_sure_whatever_the_classes_sizes(tmp_path: Path) -> None:
    values = np.full((2, 3, 6), 0.4) + 0.05 * np.arange(6)
    values[1] += 0.1
    [difference, *_] = compare(*two(tmp_path, values, counts=np.array([1, 2, 4, 8, 16, 50]))).differences
    assert difference.value == pytest.approx(0.1)
    assert difference.half_width == pytest.approx(0, abs=1e-9)


def test_b_against_a_is_a_against_b_with_the_other_sign(tmp_path: Path) -> None:
    a, b = two(tmp_path, noisy(0.02))
    [one, *_], [other, *_] = compare(a, b).differences, compare(b, a).differences
    assert (one.value, one.p, one.half_width) == pytest.approx((-other.value, other.p, other.half_width))


def test_of_macro_metrics_each_class_counts_alike(tmp_path: Path) -> None:
    values, counts = noisy(0.03), np.repeat([2, 10, 18], 10)
    a, b = (
        [Row({**row.columns, "macro_map_at_r": float(own.mean())}, row.folder) for row, own in zip(rows, each, strict=True)]
        for rows, each in zip(two(tmp_path, values, counts=counts), values, strict=True)
    )
    [difference, *_] = compare(a, b, "macro_map_at_r").differences
    assert difference.value == pytest.approx(values[1].mean() - values[0].mean())
    assert difference.half_width == pytest.approx(estimate_spread(values).half_width())


# The verdict


def test_a_clear_lead_of_b_is_called_better_with_how_much_and_how_sure(tmp_path: Path) -> None:
    found = compare(*two(tmp_path, noisy(0.1)))
    first = found.differences[0]
    assert first.better == "b"
    low, high = 100 * (first.value - first.half_width), 100 * (first.value + first.half_width)  # type: ignore[operator]
    assert verdict(found) == (
        f"B (ArcFace) is better than A (Triplet) in MAP@R: +{100 * first.value:.1f} points [{low:.1f}, {high:.1f}], p < 0.001, "
        "n = 5 seeds, 30 classes."
    )


def test_a_lead_of_a_is_told_as_such(tmp_path: Path) -> None:
    found = compare(*two(tmp_path, noisy(-0.1)))
    assert verdict(found).startswith("A (Triplet) is better than B (ArcFace) in MAP@R: +")


def test_like_methods_cannot_be_told_apart_and_few_seeds_are_named_as_weak(tmp_path: Path) -> None:
    found = compare(*two(tmp_path, noisy(0.0, n_seeds=3)))
    assert found.differences[0].better is None
    assert "A (Triplet) and B (ArcFace) cannot be told apart in MAP@R: B - A is " in verdict(found)
    assert verdict(found).endswith("n = 3 seeds, 30 classes; so few seeds have little power.")


def test_another_metric_may_be_what_the_verdict_is_about(tmp_path: Path) -> None:
    found = compare(*two(tmp_path, noisy(0.1)), metric="recall_at_1")
    assert [one.metric for one in found.differences] == ["recall_at_1", "map_at_r", "r_precision"]
    assert "in R@1" in verdict(found)


def test_a_metric_that_is_not_there_is_refused_with_a_near_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--metric recal_at_1: not every row of A has this metric; did you mean 'recall_at_1'"):
        compare(*two(tmp_path, noisy()), metric="recal_at_1")


def test_methods_of_one_name_are_called_by_what_differs(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = saved(tmp_path, "triplet", values[0], loss_make_margin=0.1)
    b = saved(tmp_path, "triplet", values[1], loss_make_margin=0.2)
    found = compare(a, b)
    assert found.method == {"loss_make_margin": (0.1, 0.2)}
    assert verdict(found).startswith("B (Triplet, margin 0.2) is better than A (Triplet, margin 0.1)")
    assert "Methods differ in: margin 0.1 -> 0.2." in told(found)


# Where a test is impossible


def test_single_seeds_are_compared_over_classes_and_the_noise_of_seeds_is_named_as_missing(tmp_path: Path) -> None:
    values = noisy(0.05, n_seeds=2)[:, :1]
    found = compare(*two(tmp_path, values))
    first = found.differences[0]
    expected = stats.ttest_rel(values[1, 0], values[0, 0])
    interval = expected.confidence_interval()
    assert first.basis == "classes alone"
    assert first.p == pytest.approx(expected.pvalue)
    assert (first.value - first.half_width, first.value + first.half_width) == pytest.approx((interval.low, interval.high))  # type: ignore[operator]
    assert "is ahead of" in verdict(found)
    assert "each has one seed, so the noise of seeds is not in this" in verdict(found)
    assert "paired t over class means" in told(found)


def test_single_seeds_whose_difference_may_be_chance_cannot_be_told_apart_either(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    found = compare(*two(tmp_path, 0.5 + 0.05 * rng.standard_normal((2, 1, N_CLASSES))))
    assert found.differences[0].p > 0.05  # type: ignore[operator]
    assert verdict(found).startswith("A (Triplet) and B (ArcFace) cannot be told apart in MAP@R: B - A is ")
    assert "over 30 classes alone; each has one seed, so the noise of seeds is not in this" in verdict(found)


def test_seeds_that_only_one_has_are_left_out_and_named(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = saved(tmp_path, "triplet", values[0])
    b = saved(tmp_path, "arcface", values[1], seeds=[0, 1, 2, 7, 8])
    found = compare(a, b)
    assert [row["seed"] for row in found.a] == [row["seed"] for row in found.b] == [0, 1, 2]
    assert found.differences[0].b == pytest.approx(values[1, :3].mean())
    assert "A alone has seeds 3, 4, left out. B alone has seeds 7, 8, left out." in told(found)


def test_without_two_seeds_in_common_all_count_and_it_is_said(tmp_path: Path) -> None:
    values = noisy(0.1)
    found = compare(saved(tmp_path, "triplet", values[0]), saved(tmp_path, "arcface", values[1], seeds=range(10, 15)))
    assert found.differences[0].value == pytest.approx(values[1].mean() - values[0].mean())
    assert (found.differences[0].basis, found.differences[0].untested) == ("classes alone", "they have no seed in common")


def test_without_each_querys_scores_plain_differences_remain(tmp_path: Path) -> None:
    a, b = two(tmp_path, noisy(0.1))
    assert b[3].folder is not None
    (b[3].folder / "per_query.safetensors").unlink()
    found = compare(a, b)
    first = found.differences[0]
    assert (first.basis, first.p, first.half_width, found.classes) == ("nothing", None, None, ())
    assert "whether that is chance was not tested, for the scores of each query are not there." in verdict(found)


def test_scores_that_are_not_the_rows_are_not_believed(tmp_path: Path) -> None:
    a, b = two(tmp_path, noisy(0.1))
    b = [Row({**row.columns, "map_at_r": 0.9}, row.folder) for row in b]
    assert compare(a, b).differences[0].untested == "the scores of each query are not those of the rows"


def test_other_queries_of_the_same_data_are_not_tested(tmp_path: Path) -> None:
    values = noisy(0.1)
    other = saved(tmp_path, "arcface", values[1], counts=np.full(N_CLASSES, 5))
    found = compare(saved(tmp_path, "triplet", values[0]), other)
    assert found.differences[0].untested == "the rows were not scored on the same queries"


def test_one_test_class_is_told_as_such(tmp_path: Path) -> None:
    a, b = (saved(tmp_path, loss, np.full((2, 1), score)) for loss, score in (("triplet", 0.4), ("arcface", 0.5)))
    assert compare(a, b).differences[0].untested == "there is one test class"


def test_a_clustering_has_no_test(tmp_path: Path) -> None:
    found = compare(*two(tmp_path, noisy(0.1), nmi=0.5), metric="nmi")
    assert found.differences[0].untested == "a clustering has no score of each query"
    assert found.differences[1].p is not None


def test_a_failed_seed_is_left_out_and_told_and_a_method_of_failures_is_refused(tmp_path: Path) -> None:
    a, b = two(tmp_path, noisy(0.1))
    failed = [make_row(loss="arcface", seed=seed, status="failed", reason="the loss is nan") for seed in range(5)]
    found = compare(a, [*b[:4], failed[4]])
    assert len(found.a) == 4
    assert "B: seed 4 failed: the loss is nan; its numbers are those of the seeds that ended well." in told(found)
    with pytest.raises(UserError, match=r"B \(ArcFace\) has no numbers to compare: seed 0 failed: the loss is nan"):
        compare(a, failed)


def test_what_is_odd_about_a_side_is_told(tmp_path: Path) -> None:
    a, b = two(tmp_path, noisy(0.1))
    b = [Row({**row.columns, "n_proxies": 9, "n_dead_proxies": 2}, row.folder) for row in b]
    assert "B: 2 of 9 proxies (seeds 0, 1, 2, 3, 4) never moved." in told(compare(a, b))


# Which classes, at what cost, what else


def test_classes_are_told_from_the_greatest_gain_to_the_greatest_loss_by_name(tmp_path: Path) -> None:
    values = np.full((2, 3, 12), 0.5)
    values[1] += np.array([-0.3, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, -0.01, -0.02, -0.03, 0, 0])
    a, b = two(tmp_path, values)
    for row in a:
        assert row.folder is not None
        (row.folder / "classes.json").write_text(json.dumps({"0": "Heron", "1": "Größe\x1b[31m"}))
    found = compare(a, b)
    assert [one.label for one in found.classes] == [1, 2, 3, 4, 5, 6, 10, 11, 7, 8, 9, 0]
    assert (found.classes[-1].name, found.classes[-1].n_queries, found.classes[1].name) == ("Heron", 4, "class 2")
    assert found.classes[0].gain == pytest.approx(0.2)
    text = as_text(found, ("a", "b"))
    assert "B is ahead in 6 of 12, behind in 4." in text
    lines = text.splitlines()
    best = next(i for i, line in enumerate(lines) if line.startswith("B gains most"))
    assert "Größe?[31m (4)" in lines[best + 1]
    assert "Heron (4)" in lines[best + 1]
    assert "-30.0" in lines[best + 1]
    assert "class 6" not in text  # the sixth gain


def test_costs_stand_beside_each_other_with_their_ratio_and_other_machines_are_told(tmp_path: Path) -> None:
    a, b = two(tmp_path, noisy())
    b = [Row({**row.columns, "train_seconds": 150.0, "hostname": "there"}, row.folder) for row in b]
    found = compare(a, b)
    assert found.costs["training, s"] == (60.0, 150.0)
    assert ["training,", "s", "60.0", "150", "2.50"] in [line.split() for line in as_text(found, ("a", "b")).splitlines()]
    assert "Costs were measured on different machines: here | there." in told(found)


def test_what_was_not_made_alike_stands_above_the_verdict(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = saved(tmp_path, "triplet", values[0])
    b = saved(tmp_path, "triplet", values[1], protocol_epochs=20, fingerprint="e" * 16, torch_version="3.0")
    found = compare(a, b)
    assert found.not_alike == {"protocol_epochs": (6, 20)}
    text = told(found)
    assert text.index("Not made alike") < text.index("is better than")
    assert "protocol_epochs 6 -> 20." in text
    assert "What else differed: torch_version 2.11.0 -> 3.0." in text
    assert "The methods do not differ." in text
    assert "Made alike" not in text


def test_what_one_lacks_and_the_other_leaves_unset_is_told_last_and_names_neither(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = saved(tmp_path, "triplet", values[0])
    b = saved(tmp_path, "triplet", values[1], fingerprint="e" * 16, protocol_patience=None, protocol_steps=5)
    found = compare(a, b)
    assert list(found.not_alike) == ["protocol_steps", "protocol_patience"]
    assert verdict(found).startswith("B (Triplet) is better than A (Triplet)")


def test_what_was_made_alike_is_said_too(tmp_path: Path) -> None:
    assert "Made alike: split, trunk convnet, protocol quick (version 1)" in told(compare(*two(tmp_path, noisy())))


def test_scores_on_other_images_say_nothing_of_which_is_better(tmp_path: Path) -> None:
    values = noisy(0.1)
    a = saved(tmp_path, "triplet", values[0])
    b = saved(tmp_path, "triplet", values[1], split_digest="fedcba9876543210", fingerprint="e" * 16)
    found = compare(a, b)
    assert found.differences[0].basis == "nothing"
    assert "were scored on different images" in verdict(found)
    assert "is better than" not in told(found)


def test_it_is_one_screen_even_where_everything_differs(tmp_path: Path) -> None:
    values = noisy(0.01)
    many = {f"protocol_field_{i}": "x" * 30 for i in range(40)}
    a = saved(tmp_path, "triplet", values[0], loss_label="A name " * 10, n_model_parameters=25_000_000, **many)
    own = {f"loss_make_value_{i}": "y" * 30 for i in range(40)}
    versions = {f"library_{i}_version": "1.0" for i in range(30)}
    b = saved(tmp_path, "arcface", values[1], n_loss_parameters=100, device="cuda", fingerprint="e" * 16, **own, **versions)
    for row in a:
        assert row.folder is not None
        (row.folder / "classes.json").write_text(json.dumps({str(i): f"{i} " + "long name " * 9 for i in range(N_CLASSES)}))
    lines = as_text(compare(a, b), ("runs/" + "a" * 90, "runs/b")).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    found = compare(*two(tmp_path, noisy(0.1)))
    read = json.loads(as_json(found, ("one", "other")))
    assert read["verdict"] == verdict(found)
    assert read["b"] == {"runs": "other", "loss_label": "ArcFace", "seeds": [0, 1, 2, 3, 4]}
    assert read["differences"][0]["value"] == pytest.approx(found.differences[0].value)
    assert len(read["classes"]) == N_CLASSES


# What a user types


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    values = noisy(0.1, n_seeds=2)
    for place, columns in (("digits", {"fingerprint": "aaaa0000"}), ("cub", {"fingerprint": "bbbb0000"})):
        two(Path("runs"), values, dataset=place, **columns)
    saved(Path("runs"), "triplet", values[0], fingerprint="cccc0000", protocol_epochs=20)
    saved(Path("runs"), "triplet_margin", values[0], fingerprint="aaaa0000")
    return Path("runs")


def ids(group: Group) -> tuple[str, str, tuple[int, ...]]:
    return str(group.first["dataset"]), str(group.first["fingerprint"]), group.seeds


@pytest.mark.parametrize(
    "word",
    ["digits/arcface", "runs/digits/arcface", "runs/digits/arc", "dig/arc", "digits/arcface/aaaa", "arcface/aaaa0000"],
)
def test_a_place_or_its_parts_or_their_beginnings_name_a_method_with_all_its_seeds(word: str, runs: Path) -> None:
    [group] = groups(word, runs)
    assert ids(group) == ("digits", "aaaa0000", (0, 1))


def test_a_whole_name_comes_before_the_beginning_of_another(runs: Path) -> None:
    assert {group.first["loss"] for group in groups("triplet", runs)} == {"triplet"}
    assert {group.first["loss"] for group in groups("triplet_", runs)} == {"triplet_margin"}


def test_the_name_that_a_listing_gives_names_just_that(runs: Path) -> None:
    for group in groups("triplet", runs):
        [found] = groups(group.name, runs)
        assert ids(found) == ids(group)


def test_of_several_protocols_the_one_that_both_have_is_meant(runs: Path) -> None:
    a, b = pair("digits/triplet", "digits/arcface", runs)
    assert ids(a)[:2] == ids(b)[:2] == ("digits", "aaaa0000")


def test_where_several_could_be_meant_they_are_listed_with_what_tells_them_apart(runs: Path) -> None:
    with pytest.raises(UserError) as refused:
        pair("triplet", "arcface", runs)
    said = str(refused.value)
    assert said.startswith("triplet names 3 kinds of runs; name one of them:")
    assert "digits/triplet/cccc0000-" in said
    assert "protocol_epochs=20, seeds 0, 1" in said


def test_a_method_is_not_compared_with_itself(runs: Path) -> None:
    with pytest.raises(UserError, match=r"digits/arcface and runs/digits/arcface are the same runs \(ArcFace, seeds 0, 1\)"):
        pair("digits/arcface", "runs/digits/arcface", runs)


def test_a_seed_that_is_there_twice_with_other_numbers_is_refused(runs: Path) -> None:
    [row, *_] = groups("digits/arcface", runs)[0].rows
    write_row(Path("runs/copy/arcface/again"), Row({**row.columns, "map_at_r": 0.1}))
    with pytest.raises(UserError, match="are the same run with different numbers; name one of them"):
        groups("arcface", runs)


def test_rows_scored_again_count_only_where_they_are_asked_for(runs: Path) -> None:
    [group] = groups("digits/arcface", runs)
    for row in group.rows:
        assert row.folder is not None
        write_row(row.folder / "evaluate-1234", Row({**row.columns, "evaluation_whiten": 16, "parent": row["run_id"]}))
    assert [one.seeds for one in groups("digits/arcface", runs)] == [(0, 1)]
    [again] = groups("digits/arcface/evaluate-1234", runs)
    assert again.first["evaluation_whiten"] == 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trplet", "arcface"], "trplet names no run under runs; did you mean 'triplet'?"),
        (["digits/triplet"], "needs two runs or methods"),
        (["digits/arcface", "digits/triplet_", "--metrik", "nmi"], "does not know '--metrik'; did you mean '--metric'?"),
        (["digits/arcface", "digits/triplet_", "--format", "jsn"], "--format jsn is not known; did you mean 'json'?"),
        (["digits/arcface", "digits/triplet_", "--runs"], "--runs needs a value"),
        (["a", "b", "--runs", "nowhere"], "there is no run under nowhere"),
        (["/nowhere/at/all", "b"], "/nowhere/at/all holds no run"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_command_prints_the_screen(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "digits/triplet", "digits/arcface", "--metric=recall_at_1"]) == 0
    assert "B (ArcFace) is better than A (Triplet) in R@1" in " ".join(capsys.readouterr().out.split())


def test_neither_torch_nor_hydra_nor_pandas_is_loaded(runs: Path) -> None:
    code = (
        "import sys; from dmlbench.cli import run; status = run(['compare', 'digits/triplet', 'digits/arcface']); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'hydra', 'pandas', 'scipy.stats')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
