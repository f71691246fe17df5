"""Pictures of many methods can be read, and pages of many tables or images stay small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_pages import parse, report, write_photos, write_study
from rows_factory import make_row

from dmlbench.report import contents
from dmlbench.report.cost_plot import MAX_LABELLED, cost_figure
from dmlbench.report.figure import Method, methods_of
from dmlbench.report.recall_plot import recall_figure
from dmlbench.tables.table import Table, compare

N = 35


@pytest.fixture(scope="module")
def table() -> Table:
    """A table of many methods whose names differ at their end, and two baselines, one far below them."""
    rows = [
        make_row(
            0.5 + 0.005 * (n % 9) + 0.01 * seed,
            seed=seed,
            loss="multi_similarity",
            loss_make_neg_margin=round(0.001 * (n + 1), 3),
            train_seconds=10.0 + n % 7,
        )
        for n in range(N)
        for seed in range(2)
    ]
    rows += [
        make_row(score, seed=seed, loss=loss) for loss, score in (("untrained", 0.49), ("raw_pixels", 0.01)) for seed in (0, 1)
    ]
    [found] = compare(rows, tested=False)
    return found


@pytest.fixture(scope="module")
def methods(table: Table) -> list[Method]:
    return methods_of(table)


def test_shortened_names_of_methods_differ(methods: list[Method]) -> None:
    labels = [one.label for one in methods]
    assert len(set(labels)) == len(labels)
    assert all(re.search(r"0\.0\d+\)$", label) for label in labels[2:])
    assert max(map(len, labels)) <= 48


def test_markers_of_recall_are_at_their_k_and_few_methods_have_them(table: Table, methods: list[Method]) -> None:
    found = recall_figure(table, methods)
    drawing = str(found.panels[0])
    ticks = [float(x) for x in re.findall(r'<text x="([0-9.]+)" y="292" text-anchor="middle" class="tick">', drawing)]
    markers = [float(x) for x in re.findall(r"translate\(([0-9.]+) ", drawing)]
    assert len(ticks) == 4
    assert max(min(abs(x - tick) for tick in ticks) for x in markers) <= 8.05
    assert 44 + 5 <= min(markers) <= max(markers) <= 460 - 5
    assert len(found.legend) == 9  # seven methods and the baselines
    assert {int(index) for index in re.findall(r'data-m="(\d+)"', drawing)} == set(range(N + 2))
    assert "Thin grey lines: the 28 others" in found.caption


def test_labels_of_the_cost_plot_stay_inside_and_all_but_some_appear_on_demand(table: Table, methods: list[Method]) -> None:
    found = cost_figure(table, methods, "map_at_r")
    marks = [group for group in parse(str(found.panels[0])).all("g") if "after" in group.one("title").text]
    assert len(marks) == N
    visible = []
    for mark in marks:
        label = mark.one("text")
        if "on-demand" in label.attributes.get("class", ""):
            continue
        visible.append(label)
        begin, size = float(label.attributes["x"]), 7.2 * len(label.text)
        begin -= {"start": 0, "middle": size / 2, "end": size}[label.attributes.get("text-anchor", "start")]
        assert begin + 0.1 >= 44
        assert begin + size <= 448.1
    n_front = sum(label.attributes.get("class") == "strong" for label in visible)
    assert 1 <= n_front <= len(visible) <= n_front + MAX_LABELLED
    assert f"{N - len(visible)} markers have no names for lack of room" in found.caption


def test_baselines_outside_of_the_cost_plot_are_named(table: Table, methods: list[Method]) -> None:
    found = cost_figure(table, methods, "map_at_r")
    assert "Dashed lines are baselines" in found.caption
    assert "Outside of the picture: raw_pixels (1.0 %)." in found.caption
    without = [one for one in methods if one.row.loss != "untrained"]
    assert "Dashed lines" not in cost_figure(table, without, "map_at_r").caption


def test_queries_are_left_out_until_the_images_fit_and_only_the_largest_tables_have_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = write_photos(Path("photos"))
    write_study(Path("runs"), ("contrastive",), photos=photos, dataset="aircraft")
    write_study(Path("runs"), ("contrastive", "triplet"), photos=photos, dataset="birds")
    monkeypatch.setattr(contents, "IMAGE_BYTES", 12_000)
    monkeypatch.setattr(contents, "PICTURE_BYTES", 1)
    page = report()
    problems = page.one("section", class_="problems").text
    assert re.search(r"\d queries are not shown, because the images of all queries have more than 0\.0 MB", problems)
    store = page.one("svg", class_="store").all("image")
    assert 0 < sum(len(image.attributes["href"]) for image in store) <= 12_000
    assert {use.attributes["href"] for use in page.all("use")} == {f"#{image.attributes['id']}" for image in store}
    kinds = [heading.text.partition(" ")[0] for heading in page.one("figure", class_="queries").all("h5")]
    assert kinds
    assert kinds == ["Worst:", "Most"][: len(kinds)]
    assert not page.all("span", class_="absent")
    assert "Table 1 has no pictures" in problems
    assert [len(page.one("section", id=f"table-{number}").all("figure", class_="picture")) > 0 for number in (1, 2)] == [
        False,
        True,
    ]
