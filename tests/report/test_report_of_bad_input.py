"""A report says in its place what is missing, and never shows a part as if it were the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_pages import Node, report, write_photos, write_run, write_study
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.results.row_files import write_row

# Holds a lock, as the process of a run does.
HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The sentence with which a command is refused."""
    assert run(["report", *argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.removeprefix("dmlbench: ").strip()


def queries(page: Node) -> Node:
    return page.one("figure", class_="queries")


def test_a_directory_without_runs_gives_a_report_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    page = report()
    assert "There is no finished run here" in page.one("section", class_="problems").text
    assert not page.all("table")
    assert "no finished run" in capsys.readouterr().err


def test_a_selector_that_names_no_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("runs"), "triplet", 0)
    assert "arcface names no run" in refused(capsys, "arcface")
    assert not Path("report.html").exists()


def test_one_run_gives_a_table_and_says_what_one_run_cannot_show() -> None:
    write_run(Path("runs"), "triplet", 0, photos=write_photos(Path("photos")))
    page = report()
    assert len(page.one("figure", class_="scores").all("table")[0].all("tr")) == 2
    assert "there are not two trained methods with results" in page.text
    assert "There are not two methods with results to compare class by class." in page.text
    assert "queries are disputed between at least two methods" in queries(page).text
    assert "One seed: no intervals." in page.text


def test_runs_of_different_data_sets_are_in_different_tables() -> None:
    write_study(Path("runs"), ("contrastive", "triplet"))
    write_run(Path("runs"), "triplet", 0, dataset="cub", dataset_label="CUB", split_digest="c" * 16)
    page = report()
    assert len(page.all("figure", class_="scores")) == 2
    assert "dataset: cub | digits" in page.one("section", class_="differences").text
    assert [link.attributes["href"] for link in page.one("nav").all("a")] == ["#table-1", "#table-2"]


def test_queries_whose_image_is_gone_are_left_out_and_other_missing_images_are_drawn_as_such() -> None:
    photos = write_photos(Path("photos"))
    write_study(Path("runs"), ("contrastive", "triplet"), photos=photos)
    complete = queries(report()).all("details", class_="query")
    for image in sorted(photos.iterdir())[::2]:
        image.unlink()
    found = queries(report())
    left = found.all("details", class_="query")
    assert "Queries whose image is missing are not shown." in found.text
    assert 0 < len(left) < len(complete)
    assert all(query.one("summary").all("use") for query in left)
    assert {tile.text for tile in found.all("span", class_="absent")} == {"missing"}
    for image in photos.iterdir():
        image.unlink()
    found = queries(report())
    assert found.text.endswith("No query is shown, because its image is missing.")
    assert not found.all(class_="tile")


def test_images_outside_of_the_current_directory_are_not_read_unless_they_are_named(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "private")
    Path("here").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("here")
        write_study(Path("runs"), ("contrastive", "triplet"), photos=photos)
        page = report()
        assert "outside of the current directory" in queries(page).text
        assert not page.all("image")
        assert report(f"dataset.root={photos}").all("image")
        assert not report(f"dataset.root={photos}", "--no-images").all("image")


def test_a_run_in_training_is_listed_with_its_last_epoch() -> None:
    write_run(Path("runs"), "triplet", 0)
    columns: dict[str, Any] = dict(make_row(loss="arcface").columns)
    folder = Path("runs/digits/arcface/a-0")
    write_row(folder, make_row(**{**columns, "status": "missing", "run_id": "a-0"}), "plan.json")
    (folder / "history.jsonl").write_text('{"epoch": 1, "loss": 2}\n{"epoch": 2, "loss": 1}\n{"epo')
    page = report()
    assert "ArcFace, seed 0: not finished (not finished), after epoch 2 of 6." in page.text
    assert "ArcFace [1]" in page.text or "missing: not finished" in page.text
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder / ".lock")], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert "ArcFace, seed 0: still in training, after epoch 2 of 6." in report().text
    finally:
        process.kill()
        process.wait()


def test_rows_that_a_table_would_refuse_are_listed_also_if_they_are_named() -> None:
    write_run(Path("runs"), "triplet", 0)
    for name, text in (("torn", "{"), ("other", '{"a": 1}')):
        folder = Path("runs/digits/x") / name
        folder.mkdir(parents=True)
        (folder / "row.json").write_text(text)
    newer = make_row(loss="arcface").columns
    Path("runs/digits/x/newer").mkdir()
    Path("runs/digits/x/newer/row.json").write_text(json.dumps({**newer, "schema_version": 99}))
    for page in (report(), report("runs/digits/triplet", *map(str, sorted(Path("runs/digits/x").glob("*/row.json"))))):
        skipped = page.one("section", class_="problems").all("li")
        assert len(skipped) == 3
        assert "a row of schema 99 was written by a newer dmlbench" in skipped[0].text
        assert len(page.all("figure", class_="scores")) == 1


def test_only_failed_runs_still_give_a_report() -> None:
    write_run(Path("runs"), "triplet", 0, status="failed", reason="the loss is not finite")
    page = report()
    assert "the loss is not finite" in page.one("figure", class_="scores").text
    assert "No trained method has results." in page.text


def test_a_damaged_file_of_embeddings_leaves_out_its_method_only() -> None:
    photos = write_photos(Path("photos"))
    write_study(Path("runs"), ("contrastive", "triplet"), photos=photos)
    for path in Path("runs/digits/triplet").rglob("embeddings.safetensors"):
        path.write_bytes(b"\xff" * 100)
    found = queries(report())
    assert "Triplet is not shown:" in found.text
    assert {answer.all("span")[0].text for answer in found.all("div", class_="answer")} == {"Contrastive"}


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("runs/row.json", "needs the suffix .html or .htm"),
        ("nowhere/report.html", "nowhere is not a directory"),
        ("directory.html", "is a directory"),
    ],
)
def test_an_output_that_cannot_be_a_page_is_refused(output: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("runs"), "triplet", 0)
    Path("directory.html").mkdir()
    assert reason in refused(capsys, "--output", output)


def test_an_unknown_metric_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("runs"), "triplet", 0)
    assert "did you mean 'map_at_r'?" in refused(capsys, "--metrics", "map_at_rr")


def test_without_jinja2_one_sentence_says_how_to_install_it(
    without_module: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    without_module("jinja2")
    assert "pip install 'dmlbench[report]'" in refused(capsys)


def test_without_umap_one_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "pip install umap-learn" in refused(capsys, "--projection", "umap")
