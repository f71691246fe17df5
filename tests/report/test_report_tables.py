"""The tables of a report are those of `dmlbench table`."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_pages import Node, parse, report, write_run, write_study

from dmlbench.cli import run


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `dmlbench table` prints."""
    capsys.readouterr()
    assert run(["table", *arguments]) == 0
    return capsys.readouterr().out


def cells(table: Node) -> list[list[tuple[str, bool]]]:
    """Text of all cells by row, and whether a part of it is bold."""
    return [
        [(cell.text, bool(cell.all("strong"))) for cell in row.children if isinstance(cell, Node)] for row in table.all("tr")
    ]


def scores(page: Node) -> list[Node]:
    return [figure.all("table")[0] for figure in page.all("figure", class_="scores")]


def test_the_tables_have_the_cells_captions_and_notes_of_the_printed_table(
    study: Path, page: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    other = parse(printed(capsys, str(study / "runs"), "--format", "html"))
    [table] = scores(page)
    assert cells(table) == cells(other.one("table"))
    assert len(cells(table)) == 5
    assert any(bold for row in cells(table) for _, bold in row)
    assert page.one("figcaption", class_="caption").text == other.one("figcaption").text
    [notes] = page.all("ul", class_="notes")
    assert [note.text for note in notes.all("li")] == [note.text for note in other.one("ul").all("li")]
    assert [len(body.all("tr")) for body in table.all("tbody")] == [1, 3]  # a rule after the baseline


def test_several_tables_have_the_numbers_and_captions_of_the_printed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    write_study(Path("runs"), ("contrastive", "triplet"))
    write_study(Path("runs"), ("contrastive", "arcface"), dataset="cub", dataset_label="CUB", split_digest="c" * 16)
    found = report()
    other = parse(printed(capsys, "--format", "html"))
    assert [cells(table) for table in scores(found)] == [cells(table) for table in other.all("table")]
    captions = [caption.text for caption in found.all("figcaption", class_="caption")]
    assert captions == [caption.text for caption in other.all("figcaption")]
    assert len(captions) == 2
    reasons = found.one("section", class_="differences")
    assert [item.text for item in reasons.all("li")] == [item.text for item in other.all("ul")[0].all("li")]


@pytest.mark.parametrize("format_", ["markdown", "latex", "csv"])
def test_a_table_can_be_copied_as_it_is_printed(
    study: Path, page: Node, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    assert page.one("pre", data_source=format_).raw == printed(capsys, str(study / "runs"), "--format", format_)


def test_each_score_tells_its_interval_and_the_score_of_each_seed(page: Node) -> None:
    [table] = scores(page)
    triplet = next(row for row in table.all("tr") if row.text.startswith("Triplet"))
    score = triplet.all("td")[1]
    mean, _, half_width = (float(part) if part != "±" else 0 for part in score.text.split())
    hint = score.attributes["title"]
    assert hint.startswith(f"R@1: {100 * float(score.attributes['data-value']):.2f} %, 95 % interval ")
    low, high = (float(part) for part in hint.partition("interval ")[2].partition(";")[0].split(" to "))
    assert (high + low) / 2 == pytest.approx(mean, abs=0.06)
    assert (high - low) / 2 == pytest.approx(half_width, abs=0.06)
    assert [part.split(":")[0] for part in hint.split("; ")[1:]] == ["seed 0", "seed 1", "seed 2"]


def test_scores_of_every_seed_are_listed_for_readers_without_a_pointer(page: Node) -> None:
    listed = page.one("figure", class_="scores").all("table")[1]
    assert [row.all("td")[0].text for row in listed.all("tr")[1:]] == ["0", "1", "2"] * 4


def test_cells_without_a_score_are_not_sorted_by_a_number() -> None:
    write_run(Path("runs"), "triplet", 0)
    write_run(Path("runs"), "arcface", 0, status="failed", reason="loss is not finite")
    [table] = scores(report())
    failed = next(row for row in table.all("tr") if row.text.startswith("arcface") or row.text.startswith("ArcFace"))
    assert failed.all("td")[1].text == "--"
    assert "data-value" not in failed.all("td")[1].attributes
