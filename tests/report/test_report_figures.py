"""The pictures of a report show the numbers of the tables."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_pages import Node, parse, report, write_run, write_study
from rows_factory import make_row

from dmlbench.pictures.thumbnails import View
from dmlbench.report import pair_tests
from dmlbench.report.class_gains import class_wins
from dmlbench.report.cost_plot import cost_figure
from dmlbench.report.critical_difference import critical_difference_figure
from dmlbench.report.epoch_plots import read_histories, training_figure, validation_figure
from dmlbench.report.figure import Method, methods_of, score_hint
from dmlbench.report.image_store import ImageStore
from dmlbench.report.interval_plot import interval_figure
from dmlbench.report.pair_tests import PairTests, pairwise_tests
from dmlbench.report.projection_figure import projection_figure
from dmlbench.report.query_pictures import query_pictures, shown_runs
from dmlbench.report.recall_plot import recall_figure
from dmlbench.report.scales import linear, logarithmic
from dmlbench.results.row_files import read_rows
from dmlbench.results.run_images import RunImages
from dmlbench.tables.class_scores import class_scores_per_method
from dmlbench.tables.table import Table, compare
from dmlbench.tables.table_row import Cell, TableRow


@pytest.fixture(scope="module")
def table(study: Path) -> Table:
    [found] = compare(read_rows(study / "runs")[0])
    return found


@pytest.fixture(scope="module")
def methods(table: Table) -> list[Method]:
    return methods_of(table)


def figure(page: Node, title: str) -> Node:
    return next(one for one in page.all("figure") if one.all("h4") and one.all("h4")[0].text == title)


def hints(node: Node) -> list[str]:
    return [one.text for one in node.all("title")]


def test_every_printed_metric_has_a_panel_with_the_printed_numbers(table: Table, page: Node) -> None:
    panels = figure(page, "Scores with 95 % intervals").all("svg")
    assert len(panels) == len(table.columns)
    values = [[text.text for text in panel.all("text", class_="value")] for panel in panels]
    expected = [[f"{100 * row.cells[metric].mean:.1f}" for row in table.rows] for metric in table.columns]  # type: ignore[union-attr]
    assert values == expected


def test_ties_with_the_best_are_marked_by_shape_and_weight(table: Table, methods: list[Method]) -> None:
    panel = str(interval_figure(table, methods).panels[-1])
    ties = table.bold[table.columns[-1]]
    for group in panel.split("<g ")[1:]:
        is_tie = any(f"<title>{label}:" in group for label in ties)
        assert (" full" in group) is is_tie
        assert ("value strong" in group) is is_tie


def test_methods_that_the_table_prints_in_bold_do_not_differ_significantly_from_the_best(
    table: Table, methods: list[Method]
) -> None:
    for metric in table.columns:
        tests = pairwise_tests(methods, metric)
        best = tests.methods[0]
        with_best = {best.row.label} | {one.row.label for group in tests.groups() if best in group for one in group}
        assert with_best == set(table.bold[metric])


def fake_methods(n: int) -> list[Method]:
    return [Method(index, TableRow(f"m{index}", "triplet", "0", (), {}), "c0", index) for index in range(n)]


def test_a_bar_joins_methods_of_which_no_two_differ_significantly() -> None:
    methods = fake_methods(4)
    p_values = {(0, 1): 0.5, (0, 2): 0.01, (0, 3): 0.5, (1, 2): 0.5, (1, 3): 0.001, (2, 3): 0.02}
    groups = PairTests(methods, [0.4, 0.3, 0.2, 0.1], p_values, 4).groups()
    assert [[one.index for one in group] for group in groups] == [[0, 1], [0, 3], [1, 2]]


def test_of_many_methods_the_best_are_drawn(methods: list[Method], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_tests, "MAX_METHODS", 2)
    tests = pairwise_tests(methods, "map_at_r")
    assert [one.label for one in tests.methods] == ["ArcFace", "Triplet"]
    assert tests.n_tested == 3
    assert "The best 2 of 3 trained methods." in critical_difference_figure(tests, "map_at_r").caption


def test_the_pareto_front_has_the_methods_that_no_other_beats_in_score_and_time(tmp_path: Path) -> None:
    for loss, score, seconds in (
        ("contrastive", 0.3, 10.0),
        ("triplet", 0.5, 20.0),
        ("cosface", 0.4, 30.0),
        ("arcface", 0.6, 40.0),
    ):
        for seed in range(2):
            write_run(tmp_path, loss, seed, score, train_seconds=seconds)
    write_run(tmp_path, "untrained", 0, 0.9, train_seconds=0.0)
    [table] = compare(read_rows(tmp_path)[0], tested=False)
    found = cost_figure(table, methods_of(table), "map_at_r")
    assert "(Contrastive, Triplet, ArcFace)" in found.caption
    assert "CosFace: 3" in str(found.panels[0])


def test_histories_become_one_line_per_seed(methods: list[Method]) -> None:
    histories = read_histories(methods)
    assert [len(histories[index]) for index in range(1, 4)] == [3, 3, 3]
    validation = str(validation_figure(methods, histories).panels[0])
    assert "seed 2: best 30.0 %" in validation
    training = training_figure(methods, histories)
    assert len(training.panels) == 4
    assert "seed 0: 0.3333 after epoch 3" in training.panels[1]


def test_a_history_with_numbers_that_cannot_be_drawn_is_drawn_without_them(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "triplet", 0)
    lines = [{"epoch": 1, "loss": 1e300}, {"epoch": 2}, {"loss": 1}, {"epoch": 3, "loss": 0.5}, {"epoch": 1e308, "loss": 1}]
    (folder / "history.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n[1]\nno json\n")
    [table] = compare(read_rows(tmp_path)[0])
    drawn = training_figure(methods_of(table), read_histories(methods_of(table)))
    assert "0.5 after epoch 3" in str(drawn.panels[0])
    assert "nan" not in str(drawn.panels[0])


def test_labels_of_small_panels_have_room_for_enlarged_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "triplet", 0)
    (folder / "history.jsonl").write_text('{"epoch": 1, "loss": 1234.5}\n{"epoch": 2, "loss": 1231.5}\n')
    [table] = compare(read_rows(tmp_path)[0])
    methods = methods_of(table)
    panel = parse(str(training_figure(methods, read_histories(methods)).panels[0]))
    labels = [one for one in panel.all("text", text_anchor="end") if "," in one.text]
    assert labels
    assert min(float(one.attributes["x"]) - 8.7 * len(one.text) for one in labels) >= 0


def test_queries_say_by_which_metric_they_were_chosen_if_it_is_not_that_of_the_table(
    study: Path, methods: list[Method]
) -> None:
    runs, _ = shown_runs(methods, "map_at_r")
    images = RunImages(study / "photos", range(24), [f"{image_id}.png" for image_id in range(24)])
    notes = {
        metric: query_pictures(runs, lambda row: images, ImageStore(10**6), [], metric).notes[0]
        for metric in ("map_at_r", "recall_at_1")
    }
    assert "Queries are chosen by MAP@R, and searched for among the test images." in notes["recall_at_1"]
    assert "chosen" not in notes["map_at_r"]


def test_classes_won_are_counted_from_the_means_over_seeds(methods: list[Method]) -> None:
    wins = class_wins(methods, "map_at_r", PairTests(untested="no test"))
    scores, _ = class_scores_per_method([one.row.rows for one in wins.methods], "map_at_r")
    assert scores is not None
    means = [one.means[0].mean(0) for one in scores]
    for i, one in enumerate(means):
        expected = [None if i == j else int((one > other + 0.0005).sum()) for j, other in enumerate(means)]
        assert wins.counts[i] == expected
    assert len(wins.pairs) == 6
    first = wins.pairs[0]
    assert f"better in {wins.counts[0][1]} of {wins.n_classes} classes" in first.summary
    gains = [float(one.gain) for one in first.gains]
    assert gains == sorted(gains, reverse=True)


def test_images_are_reduced_until_they_fit_into_the_budget(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for image_id in range(3):
        Image.fromarray(generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(tmp_path / f"{image_id}.png")
    images = RunImages(tmp_path, [0, 1, 2], ["0.png", "1.png", "2.png"])

    def size(budget: int) -> int:
        store = ImageStore(budget)
        for image_id in images.ids:
            store.add(images, image_id, View())
        return len(store.definitions())

    largest = size(1_000_000)
    assert 0 < size(largest // 2) <= largest // 2
    assert size(largest // 50) == 0


def test_scales_cover_their_values_with_round_ticks() -> None:
    for values in ([0.123, 0.124], [-3.0, 900.0], [5.0], [0.0, 0.0], [1e-9, 1e99]):
        scale = linear(values, 0, 100)
        assert scale.low <= min(values) <= max(values) <= scale.high
        assert 2 <= len(scale.ticks) <= 12
        assert all(0 <= scale(value) <= 100 for value in values)
    assert np.isclose(logarithmic([1.0, 100.0], 0, 100)(10), 50)


def test_a_metric_without_two_ks_and_runs_without_files_say_what_is_missing() -> None:
    write_study(Path("runs"), ("contrastive", "triplet"))
    for file in ("per_query.safetensors", "embeddings.safetensors", "history.jsonl"):
        for path in Path("runs").rglob(file):
            path.unlink()
    page = report("--metrics", "map_at_r")
    assert "per-query scores are missing" in figure(page, "Critical-difference diagram, MAP@R").text
    assert "have no history" in figure(page, "Training loss per epoch").text
    assert "per-query scores are missing" in figure(page, "Classes won and lost, MAP@R").text
    assert "no finished run has embeddings" in figure(page, "Embeddings of some test classes").text
    assert "Triplet: no history (history.jsonl) for seeds 0, 1, 2." in page.text


def test_captions_name_what_intervals_are_over(tmp_path: Path) -> None:
    for n_seeds, scope in ((1, "over 24 drawn queries."), (2, "over seeds and 24 drawn queries.")):
        runs = tmp_path / str(n_seeds)
        for loss in ("triplet", "arcface"):
            for seed in range(n_seeds):
                write_run(runs, loss, seed, protocol_evaluation_queries=24)
        [table] = compare(read_rows(runs)[0], tested=False)
        for drawn in (interval_figure(table, methods_of(table)), recall_figure(table, methods_of(table))):
            assert scope in drawn.caption
            assert "interval" in str(drawn.panels[0])
            assert "One seed" not in drawn.caption


def test_a_number_is_rounded_in_one_way() -> None:
    row = TableRow("m", "triplet", "0", (0,), {"map_at_r": Cell(0.761749, 0.01)}, rows=(make_row(0.761751),))
    assert score_hint(row, "map_at_r").startswith("76.18 %, 95 % interval ")
    assert score_hint(row, "map_at_r").endswith("seed 0: 76.18")


def test_most_variance_is_elsewhere_only_where_components_explain_less_than_half(methods: list[Method]) -> None:
    runs, _ = shown_runs(methods, "map_at_r")
    along_one = replace(runs[0].embeddings, rows=np.outer(np.arange(24.0), np.ones(8)))
    across_all = replace(runs[0].embeddings, rows=np.repeat(np.eye(8), 3, axis=0))
    one, other = replace(runs[0], embeddings=along_one), replace(runs[1], embeddings=across_all)
    assert "Most" not in projection_figure([one]).caption
    assert "Most of the variance of 1 of 2 methods is in other directions." in projection_figure([one, other]).caption
    found = projection_figure([other]).caption
    assert "shares of the variance of the drawn images. Most of the variance is in other directions." in found


def test_umap_replaces_the_principal_components_if_it_is_installed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Umap:
        def __init__(self, **options: Any) -> None:
            assert options["random_state"] == 0

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return np.stack([np.arange(len(rows)), np.arange(len(rows))], axis=1)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap, __spec__=SimpleNamespace()))
    monkeypatch.chdir(study)
    drawn = figure(report("runs/digits/triplet", "--projection", "umap", output="umap.html"), "Embeddings of some test classes")
    assert "by UMAP" in drawn.text
    assert not any(text.text.endswith("%") for text in drawn.all("text"))
