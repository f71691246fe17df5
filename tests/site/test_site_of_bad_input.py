"""Entries that contradict themselves, that say little, or that were made to do harm; and outputs that are no sites."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from published_study import PAGE_BYTES, publish, read, rows, site

from dmlbench.cli import run
from dmlbench.results.columns import column
from dmlbench.site import render
from dmlbench.site.paths import slug
from dmlbench.site.render import packed
from dmlbench.site.write import write_site

BOARD = "boards/digits/quick-v1.html"


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The sentence with which the command is refused."""
    assert run(["site", *argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.removeprefix("dmlbench: ").strip()


# --- entries


def test_an_empty_directory_gives_a_site_that_says_so() -> None:
    Path("results").mkdir()
    folder = site("results")
    assert "There are no entries yet" in read(folder, "index.html").text
    assert json.loads((folder / "index.json").read_text())["entries"] == []
    assert "published/cub.html" in {one.attributes["href"] for one in read(folder, "published.html").all("a")}
    ElementTree.parse(folder / "feed.xml")


def test_two_data_sets_with_one_name_and_other_splits_are_in_two_tables() -> None:
    publish("triplet", 0)
    publish("arcface", 0)
    publish("triplet", 0, split_digest="f" * 16)
    page = read(site("results"), BOARD)
    sections = page.all("section", class_="table-section")
    assert sorted(len(rows(one)) for one in sections) == [1, 2]
    assert "split_digest = 01234567" in sections[0].one("p", class_="distinction").text
    assert "split_digest = ffffffff" in sections[1].one("p", class_="distinction").text


def test_an_entry_without_scores_of_queries_is_claimed_and_in_no_table() -> None:
    publish("triplet", 0)
    entry = publish("arcface", 0)
    (entry / "scores.safetensors").unlink()
    claim = [line for line in (entry / "claim.yaml").read_text().splitlines() if "scores.safetensors" not in line]
    (entry / "claim.yaml").write_text("\n".join(claim) + "\n")
    page = read(site("results"), BOARD)
    assert list(rows(page.one("section", class_="table-section"))) == ["Triplet"]
    apart = page.one("section", class_="apart")
    assert "ArcFace" in apart.text
    assert "claimed: no scores of single queries" in apart.text


def test_an_inconsistent_entry_is_listed_and_in_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    publish("triplet", 0)
    entry = publish("arcface", 0)
    change_row(entry, map_at_r=0.99)
    folder = site("results")
    assert "inconsistent entries, which are in no table: 1" in capsys.readouterr().err
    page = read(folder, BOARD)
    assert list(rows(page.one("section", class_="table-section"))) == ["Triplet"]
    assert page.one("section", class_="apart").one("span", class_="tier").text == "inconsistent"
    assert "ArcFace" in read(folder, "problems.html").text
    assert "1 file or entry could not be accepted" in read(folder, "index.html").text
    own = read(folder, f"entries/digits/quick-v1/arcface/{entry.name}.html")
    assert "contradicts itself" in own.one("div", class_="notice").text
    assert not own.all("table", class_="bars")


def change_row(entry: Path, **columns: Any) -> None:
    """Change a row, and the digests and files that follow from it, as somebody would who knows the format."""
    from mutations import sign

    row = json.loads((entry / "row.json").read_text())
    (entry / "row.json").write_text(json.dumps({**row, **columns}))
    sign(entry)


def test_files_that_are_not_entries_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    publish("triplet", 0)
    broken = publish("arcface", 0)
    (broken / "claim.yaml").write_text("- [")
    Path("results/notes.txt").write_text("hello")
    folder = site("results")
    error = capsys.readouterr().err
    assert "skipped results/notes.txt: it belongs to no entry" in error
    listed = read(folder, "problems.html").one("section", class_="skipped").text
    assert "results/notes.txt" in listed
    assert f"results/digits/quick-v1/arcface/{broken.name}" in listed


def test_two_entries_with_one_run_id_are_apart() -> None:
    entry = publish("triplet", 0)
    copy = Path("results/elsewhere") / entry.relative_to("results")
    shutil.copytree(entry, copy)
    folder = site("results")
    page = read(folder, BOARD)
    assert not page.all("section", class_="table-section")
    reasons = page.one("section", class_="apart").text
    assert "its run id is also that of results/" in reasons
    assert len(list(folder.glob(f"entries/**/{entry.name}*.html"))) == 2


def test_a_failed_run_is_shown_with_its_reason_and_no_rank() -> None:
    for seed in range(2):
        publish("triplet", seed)
        publish("contrastive", seed)
    columns = json.loads(next(Path("results").rglob("row.json")).read_text())
    no_scores = {name: None for name in columns if column(name).role == "metric"}
    failed = publish("arcface", 0, status="failed", reason="the loss is not finite", **no_scores)
    page = read(site("results"), BOARD)
    ranks = {name.split()[0]: cells[0] for name, cells in rows(page.one("section", class_="table-section")).items()}
    assert ranks.pop("ArcFace") == "--"
    assert set(ranks.values()) <= {"1", "2", "1\N{EN DASH}2"}
    assert "the loss is not finite" in page.text
    assert "the loss is not finite" in read(Path("site"), f"entries/digits/quick-v1/arcface/{failed.name}.html").text


def test_a_protocol_that_is_called_like_a_version_has_a_page_of_its_own() -> None:
    publish("triplet", 0)
    publish("triplet", 0, protocol="quick-v1", protocol_version=None)
    folder = site("results")
    assert {one.name for one in folder.glob("boards/digits/*.html")} == {"quick-v1.html", "quick-v1-unversioned.html"}
    assert len(list(folder.glob("entries/**/*.html"))) == 2


def test_an_entry_with_a_version_that_is_true_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    publish("triplet", 0, protocol_version=True)
    assert "There are no entries yet" in read(site("results"), "index.html").text
    assert "its protocol_version is 'True'; it needs a whole number" in capsys.readouterr().err


def test_an_entry_with_a_day_that_no_calendar_has_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    claim = publish("triplet", 0) / "claim.yaml"
    lines = ["published: '2026-02-30'" if one.startswith("published:") else one for one in claim.read_text().splitlines()]
    claim.write_text("\n".join(lines) + "\n")
    assert "There are no entries yet" in read(site("results"), "index.html").text
    assert "which is no day of the calendar" in capsys.readouterr().err


def test_a_row_cannot_name_its_tier_its_page_or_its_claim() -> None:
    columns = {"tier": "retrained", "verified_tier": "retrained", "page": "https://evil.example/", "rank_best": 1}
    change_row(publish("my_loss", 0), **columns, claim_paper="A paper", claim_commit="abcdef")
    folder = site("results")
    [line] = csv.DictReader((folder / "entries.csv").read_text().splitlines())
    assert (line["tier"], line["verified_tier"], line["claim_paper"]) == ("consistent", "consistent", "Doe, A paper, 2026")
    assert line.get("claim_commit") != "abcdef"
    assert (folder / line["page"]).is_file()
    names, values = csv.reader((folder / "boards/digits/quick-v1.csv").read_text().splitlines())
    assert len(set(names)) == len(names)
    board = dict(zip(names, values, strict=True))
    assert (board["tier"], board["rank_best"]) == ("consistent", "")


def test_methods_with_almost_equal_long_names_are_not_both_bold() -> None:
    begun = "A very long name " * 8
    for loss, noise in (("first", 0.3), ("the_second", 1.6)):
        for seed in range(3):
            publish(loss, seed, noise=noise, loss_label=f"{begun}{loss}")
    section = read(site("results"), BOARD).one("section", class_="table-section")
    assert len(rows(section)) == 2
    found = [bool(row.all("b") or row.all("strong")) for row in section.one("table", class_="sortable").all("tr")[1:]]
    assert found == [True, False]
    assert section.one("pre", data_source="latex").raw.count(r"\textbf") == 1


def test_one_entry_with_another_label_does_not_change_the_heading() -> None:
    for loss in ("triplet", "arcface"):
        publish(loss, 0)
    publish("contrastive", 0, dataset_label="A better name")
    assert read(site("results"), BOARD).one("h1").text == "Digit pairs"


def test_text_from_entries_is_escaped_everywhere() -> None:
    evil = "<script>alert(1)<img src=x onerror=alert(2)>&\"'"
    entry = publish("my_loss", 0, loss_label=evil, dataset_label=evil)
    publish("other", 0, dataset_label=evil)
    folder = site("results", "--title", evil)
    for file in folder.rglob("*.html"):
        page = read(folder, str(file.relative_to(folder)))
        assert {one.attributes.get("src", "").rpartition("/")[2] for one in page.all("script")} <= {"site.js", "search-1.js"}
        assert not page.all("img")
        assert not any(name.startswith("on") for one in page.all() for name in one.attributes)
    assert evil in read(folder, f"entries/digits/quick-v1/my_loss/{entry.name}.html").one("h1").raw
    assert ElementTree.parse(folder / "feed.xml").getroot().findtext("{http://www.w3.org/2005/Atom}title") == evil
    assert "<" not in (folder / "static/search-1.js").read_text().partition("push(")[2]


def test_text_that_a_spreadsheet_would_execute_gets_an_apostrophe() -> None:
    publish("my_loss", 0, loss_label="=1+1")
    assert "'=1+1" in (site("results") / "entries.csv").read_text()


@pytest.mark.parametrize("name", ["../../etc", "a/b", "CON", "Ä", "x" * 300, "", "a..b", ".git", "a b", "A"])
def test_a_file_name_from_a_name_is_safe_on_every_file_system(name: str) -> None:
    found = slug(name)
    assert found == found.lower()
    assert ".." not in found
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert found != slug(name + " ")
    assert 0 < len(found) < 90


# --- long pages


def test_parts_are_divided_in_their_order() -> None:
    parts = [Markup("a" * 40), Markup("b" * 40), Markup("c" * 200), Markup("d")]
    assert packed(parts, 100) == [parts[:2], [parts[2]], [parts[3]]]
    assert packed([], 100) == [[]]


def test_many_results_are_divided_into_pages_with_links_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.packed, "__defaults__", (20_000,))
    for loss in ("triplet", "arcface"):
        for table in range(4):
            publish(loss, 0, split_seed=table)
    folder = site("results")
    pages = sorted((folder / "boards/digits").glob("*.html"))
    assert len(pages) > 1
    assert (folder / "boards/digits/quick-v1.page2.html") in pages
    found = [
        one.attributes["id"]
        for page in pages
        for one in read(folder, str(page.relative_to(folder))).all("section", class_="table-section")
    ]
    assert sorted(found) == [f"table-{n}" for n in range(1, 5)]
    second = read(folder, "boards/digits/quick-v1.page2.html")
    assert "../../boards/digits/quick-v1.html" in [
        one.attributes["href"] for one in second.all("nav", class_="pages")[0].all("a")
    ]
    for page in folder.glob("methods/*.html"):
        for link in read(folder, str(page.relative_to(folder))).all("a"):
            target, _, anchor = link.attributes["href"].partition("#")
            if target and anchor:
                assert f'id="{anchor}"' in (page.parent / target).read_text()


def test_long_texts_are_cut_so_that_pages_stay_small() -> None:
    publish("my_loss", 0, status_note="x" * 100_000)
    folder = site("results")
    assert max(file.stat().st_size for file in folder.rglob("*.html")) < PAGE_BYTES / 2


# --- the output


def test_a_site_is_replaced_and_other_directories_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    publish("triplet", 0)
    publish("arcface", 0)
    folder = site("results")
    shutil.rmtree("results/digits/quick-v1/arcface")
    site("results")
    assert not (folder / "methods/arcface.html").exists()
    for name in ("mine.html", "boards/notes.txt", "boards/digits/mine.html", "boards/CNAME"):
        (folder / name).write_text("mine")
        assert f"would be replaced, but it contains {name}" in refused(capsys, "results")
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()
    (folder / "boards/link").symlink_to("../methods")
    assert "would be replaced, but it contains boards/link" in refused(capsys, "results")
    (folder / "boards/link").unlink()
    Path("mine").mkdir()
    Path("mine/index.html").write_text("mine")
    assert "it is no site of dmlbench" in refused(capsys, "results", "--output", "mine")
    assert Path("mine/index.html").read_text() == "mine"
    Path("link").symlink_to("site")
    assert "is not a directory" in refused(capsys, "results", "--output", "link")


def test_the_files_of_a_host_are_kept() -> None:
    publish("triplet", 0)
    folder = site("results")
    (folder / "CNAME").write_text("example.org")
    (folder / ".nojekyll").touch()
    site("results")
    site("results")
    assert (folder / "CNAME").read_text() == "example.org"
    assert (folder / ".nojekyll").is_file()


def test_a_site_that_is_not_replaced_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    publish("triplet", 0)
    folder = site("results")
    before = (folder / "index.html").read_bytes()
    genuine = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return genuine(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            write_site(Path("results"), folder)
    assert (folder / "index.html").read_bytes() == before
    assert {one.name for one in Path().iterdir()} == {"results", "runs", "site"}


def test_a_former_site_of_a_command_that_was_killed_is_used_or_removed() -> None:
    publish("triplet", 0)
    folder = site("results")
    folder.rename(".site.former")
    site("results")
    shutil.copytree(folder, ".site.former")
    site("results")
    assert {one.name for one in Path().iterdir()} == {"results", "runs", "site"}


@pytest.mark.parametrize("output", ["results", "results/site", "."])
def test_an_output_among_the_entries_or_around_them_is_refused(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").mkdir()
    assert "lie in each other" in refused(capsys, "results", "--output", output)


def test_a_missing_directory_and_an_address_that_is_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere is not a directory" in refused(capsys, "nowhere")
    Path("results").mkdir()
    for address in ("javascript:x", "https://example.org/a?b=1&c", "https://example.org/#top"):
        assert f"--url {address} is not an address" in refused(capsys, "results", "--url", address)


def test_without_jinja2_one_sentence_says_how_to_install_it(
    without_module: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results").mkdir()
    without_module("jinja2")
    assert "pip install 'dmlbench[report]'" in refused(capsys, "results")


def test_neither_torch_nor_hydra_is_imported() -> None:
    publish("triplet", 0)
    publish("arcface", 0)
    code = "import sys; from dmlbench.cli import run; run(['site', 'results']); print({'torch', 'hydra'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("set()\n")
