"""What the pages of the site show."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest
from published_study import OLD_VERSION, PAGE_BYTES, publish, read, rows, site
from report_pages import Node

from dmlbench.publication.entries import read_entries
from dmlbench.results.query_scores import read_query_scores
from dmlbench.results.row_files import find_rows, read_rows
from dmlbench.site import rank_plot
from dmlbench.site.reading import read_site_entries
from dmlbench.tables import rank_intervals
from dmlbench.tables.formats.cells import percent
from dmlbench.tables.rank_intervals import rank_methods
from dmlbench.tables.table import compare

ATOM = "{http://www.w3.org/2005/Atom}"
BOARD = "boards/digits/quick-v1.html"
OLD_BOARD = f"boards/digits/quick-v{OLD_VERSION}.html"


@pytest.fixture(scope="module")
def folder(study: Path) -> Path:
    return study / "site"


@pytest.fixture(scope="module")
def board(folder: Path) -> Node:
    return read(folder, BOARD)


def entry_pages(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.glob("entries/**/*.html"))


# --- the whole site


def test_every_link_is_relative_and_leads_to_a_file_and_an_element_of_the_site(folder: Path) -> None:
    for file in folder.rglob("*.html"):
        page = read(folder, str(file.relative_to(folder)))
        for element in page.all():
            for name in ("href", "src", "action"):
                target = element.attributes.get(name, "")
                if not target or target.startswith(("#", "data:")):
                    continue
                if re.match(r"[a-z]+:|//", target):
                    assert element.tag == "a", f"{file}: <{element.tag} {name}={target}>"
                    assert "noopener" in element.attributes["rel"]
                    continue
                path, _, anchor = target.partition("#")
                found = file.parent / path if path else file
                assert found.is_file(), f"{file}: {target}"
                if anchor:
                    assert f'id="{anchor}"' in found.read_text(encoding="utf-8"), f"{file}: {target}"


def test_every_page_has_a_policy_a_title_a_language_and_one_heading(folder: Path) -> None:
    titles = []
    for file in folder.rglob("*.html"):
        page = read(folder, str(file.relative_to(folder)))
        policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert page.one("html").attributes["lang"] == "en"
        assert len(page.all("h1")) == 1
        assert not [one for one in page.all() if "style" in one.attributes or "onclick" in one.attributes]
        assert not [one for one in page.all("script") if one.raw]
        titles.append((page.one("head").one("title").text, file.name))
    assert len(set(titles)) == len(titles)


def test_the_same_entries_give_the_same_files(study: Path, folder: Path) -> None:
    again = site(str(study / "results"))
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert names == {str(file.relative_to(again)) for file in again.rglob("*") if file.is_file()}
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_no_path_of_the_machine_is_in_the_site(study: Path, folder: Path) -> None:
    for file in folder.rglob("*"):
        assert not file.is_file() or str(study) not in file.read_text(encoding="utf-8"), file


# --- pages of data sets and protocols


def test_a_page_has_the_numbers_and_ranks_of_tables(study: Path, board: Node) -> None:
    entries, _ = read_site_entries(study / "results")
    expected = compare([one.row for one in entries if one.row["trunk"] == "convnet" and one.row["protocol_version"] == 1])[0]
    ranking = rank_methods({row.label: row.rows for row in expected.rows if row.trained}, "map_at_r")
    assert ranking.intervals["ArcFace"].best == 1
    found = rows(board.one("section", id="table-1"))
    assert list(found) == ["ArcFace", "Triplet", "Contrastive", "Untrained trunk"]  # by score, baselines last
    for row in expected.rows:
        rank, _, score, tier, seeds = found[row.label][:5]
        assert rank == (str(ranking.intervals[row.label]) if row.trained else "--")
        assert score == percent(row.cells["map_at_r"])
        assert seeds == "0 1 2"
        assert tier == ("rescored (stated)" if row.label == "ArcFace" else "consistent")


def test_entries_with_another_trunk_are_in_another_table_without_ranks_because_they_have_one_seed(board: Node) -> None:
    section = board.one("section", id="table-2")
    assert section.one("h2").text == "Table 2: MobileNetV2, frozen"
    assert section.attributes["data-frozen"] == "yes"
    assert {cells[0] for cells in rows(section).values()} == {"--"}
    assert "Not ranked: Triplet, ArcFace (it has only one seed)" in section.one("ul", class_="notes").text
    assert "nothing is bold, because one seed cannot tell methods apart" in section.one("figcaption", class_="caption").text


def test_pictures_show_ranks_intervals_and_the_score_against_the_training_time(board: Node) -> None:
    titles = [one.text for one in board.one("section", id="table-1").all("h4")]
    assert titles == ["Ranks by MAP@R", "Scores with 95 % intervals", "MAP@R against training time"]
    assert all(one.attributes["aria-label"] for one in board.all("svg", role="img"))


def test_the_tables_of_a_page_are_a_csv_file_and_latex(folder: Path, board: Node) -> None:
    assert f"{Path(BOARD).stem}.csv" in [Path(one.attributes["href"]).name for one in board.all("a", download="")]
    lines = list(csv.DictReader((folder / BOARD).with_suffix(".csv").read_text().splitlines()))
    assert [line["label"] for line in lines] == ["Untrained trunk", "ArcFace", "Triplet", "Contrastive", "ArcFace", "Triplet"]
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    methods = [one for table in index["boards"][1]["tables"] for one in table["methods"]]
    assert [one["label"] for one in methods] == [line["label"] for line in lines]
    for one, line in zip(methods, lines, strict=True):
        assert (line["rank_best"], line["rank_worst"]) == tuple(map(str, one["rank"] or ("", "")))
        assert (line["not_ranked"], line["tier"]) == (one["not_ranked"] or "", one["tier"])
    assert r"\begin{table}" in board.one("section", id="table-1").one("pre", data_source="latex").raw


def test_entries_of_another_version_of_a_protocol_are_apart(folder: Path, board: Node) -> None:
    assert "quick version 99" not in board.one("main").text
    old = read(folder, OLD_BOARD)
    assert "a later version of the protocol than that of this dmlbench" in old.one("p", role="note").text
    overview = read(folder, "index.html")
    others = [one for one in overview.all("section", class_="boards") if "Other versions of protocols" in one.text]
    assert "quick version 99" in others[0].text
    assert "quick version 99" not in overview.all("section", class_="boards")[0].text


def test_bold_numbers_and_tied_methods_of_the_overview_are_those_whose_rank_begins_at_one() -> None:
    for loss, noise in (("first", 0.6), ("the_second", 0.62), ("a_third_one", 0.64), ("contrastive", 1.5)):
        for seed in range(3):
            publish(loss, seed, noise=noise)
    folder = site("results")
    section = read(folder, BOARD).one("section", id="table-1")
    found = {name: cells[0] for name, cells in rows(section).items()}
    may_be_best = [name for name, rank in found.items() if rank.startswith("1")]
    assert 1 < len(may_be_best) < 4, found
    bold = [row.one("a", class_="text").text for row in section.all("tr") if row.all("b") or row.all("strong")]
    assert bold == may_be_best
    assert "bold marks, in MAP@R, the methods whose rank begins at 1" in section.one("figcaption", class_="caption").text
    assert "the methods whose rank begins at 1" in section.one("div", class_="figures").text
    assert f"{', '.join(may_be_best)} (tied)" in read(folder, "index.html").one("dl", class_="leaders").text


@pytest.mark.parametrize(
    ("worst", "expected"), [(2, (1, 2)), (7, (1, 2, 4, 6)), (12, (1, 2, 4, 6, 8, 10, 12)), (50, (1, 10, 20, 30, 40, 50))]
)
def test_the_axis_of_ranks_has_only_ranks(worst: int, expected: tuple[int, ...]) -> None:
    assert rank_plot._ticks(worst) == expected


def test_of_many_methods_the_notes_say_how_many_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_intervals, "MAX_RANKED", 2)
    for loss in ("contrastive", "arcface", "softtriple"):
        for seed in range(2):
            publish(loss, seed)
    notes = read(site("results"), BOARD).one("ul", class_="notes").text
    assert "Rank: the ranks that a method may have by MAP@R among the 2 highest of 3 means" in notes


def test_a_tier_above_consistent_is_stated_by_the_publisher_on_every_page(folder: Path, board: Node) -> None:
    overview = read(folder, "index.html").text
    feed = (folder / "feed.xml").read_text()
    assert "Tier: rescored (stated by the publisher)" in overview
    assert "Tier: rescored (stated by the publisher)" in feed
    assert "Tier: consistent." in feed
    for page in (board, read(folder, "methods/arcface.html"), read(folder, entry_pages(folder)[0]), read(folder, "about.html")):
        badges = {one.text for one in page.all("span") if one.attributes.get("class", "").startswith("tier rescored")}
        assert badges == {"rescored (stated)"}
    about = read(folder, "about.html").one("dl", class_="tiers").text
    assert about.count("The publisher states that") == 3
    lines = list(csv.DictReader((folder / "entries.csv").read_text().splitlines()))
    assert {(line["tier"], line["verified_tier"]) for line in lines} == {
        ("rescored", "consistent"),
        ("consistent", "consistent"),
    }


def test_an_entry_says_which_metrics_were_not_recomputed() -> None:
    entry = publish("triplet", 0, nmi=0.99)
    table = read(site("results"), f"entries/digits/quick-v1/triplet/{entry.name}.html").one("table", class_="plain")
    stars = {row.one("th").attributes["title"]: row.one("th").text.endswith("*") for row in table.all("tr")[1:]}
    assert (stars["map_at_r"], stars["nmi"]) == (False, True)


def test_tables_that_differ_in_their_split_only_have_different_headings() -> None:
    publish("triplet", 0)
    publish("triplet", 0, split_digest="f" * 16)
    headings = [one.one("h2").text for one in read(site("results"), BOARD).all("section", class_="table-section")]
    assert headings == [
        "Table 1: ConvNet (split_digest = 01234567)",
        "Table 2: ConvNet (split_digest = ffffffff)",
    ]


# --- pages of entries


def test_the_page_of_an_entry_shows_its_scores_classes_command_and_claim(study: Path, folder: Path) -> None:
    entry = next(one for one in read_entries(study / "results").entries if one.row["loss"] == "arcface" and one.row.seed == 1)
    page = read(folder, f"entries/digits/quick-v1/arcface/{entry.row['run_id']}.html")
    scores = {
        row.one("th").attributes["title"]: row.all("td")[0].text for row in page.one("table", class_="plain").all("tr")[1:]
    }
    assert scores["map_at_r"] == f"{100 * entry.row['map_at_r']:.2f}"
    query = read_query_scores(entry.folder / "per_query.safetensors", "map_at_r")
    means = [query.values[query.labels == label].mean() for label in range(10)]
    bars = {row.one("th").text: row.all("td")[-1].text for row in page.one("table", class_="bars").all("tr")[1:]}
    assert bars == {f"class {label}": f"{100 * mean:.1f}" for label, mean in enumerate(means)}
    assert next(iter(bars)) == f"class {int(np.argmin(means))}"  # the worst one first
    assert "dmlbench train loss=arcface seed=1" in page.text
    assert f"dmlbench verify results/digits/quick-v1/arcface/{entry.row['run_id']}" in page.text
    claim = page.one("section", aria_labelledby="claim-title")
    assert "Jane Doe" in claim.text
    assert claim.one("a", href="https://example.org/paper").text == "https://example.org/paper"
    assert "states the tier rescored" in page.text
    assert "All seeds of this method: 0 1 2" in page.text


def test_latex_and_csv_of_an_entry_are_one_click_away(study: Path, folder: Path) -> None:
    entry = next(one for one in read_entries(study / "results").entries if one.row["loss"] == "arcface" and one.row.seed == 1)
    page = read(folder, f"entries/digits/quick-v1/arcface/{entry.row['run_id']}.html")
    [link] = page.one("section", aria_labelledby="copy-title").all("a", download="")
    file = folder / "entries/digits/quick-v1/arcface" / link.attributes["href"]
    line = {row["run_id"]: row for row in csv.DictReader(file.read_text().splitlines())}[entry.row["run_id"]]
    for name, value in entry.row.columns.items():
        assert line[name] == ("" if value is None else str(value)), name
    latex = page.one("pre", data_source="latex").raw.splitlines()
    assert "tier rescored (stated)" in latex[0]
    assert latex[1].startswith("% Method & $n$ & R@1")
    assert latex[2].startswith("ArcFace & 3 & ")
    assert latex[2].endswith(r"\\")


def test_what_is_equal_in_a_table_is_on_its_page_and_everything_else_on_that_of_the_entry(folder: Path, board: Node) -> None:
    shared = {one.text for one in board.one("section", id="table-1").all("dt")}
    assert {"protocol_epochs", "split_digest", "trunk"} <= shared
    page = read(folder, entry_pages(folder)[0])
    own = {one.text for one in page.one("section", aria_labelledby="provenance-title").all("dt")}
    assert {"loss_make_neg_margin", "device", "torch_version", "run_id"} <= own
    assert not own & shared


# --- pages of methods


def test_the_page_of_a_method_shows_all_its_results_and_its_file(folder: Path) -> None:
    page = read(folder, "methods/triplet.html")
    sections = page.all("section", class_="results")
    assert [(one.one("h2").text, one.one("p").text.partition(";")[0]) for one in sections] == [
        ("Digit pairs , ConvNet", f"Protocol quick version {OLD_VERSION} (later version)"),
        ("Digit pairs , ConvNet", "Protocol quick version 1"),
        ("Digit pairs , MobileNetV2, frozen", "Protocol quick version 1"),
    ]
    assert [[cell.text for cell in one.all("td")][-1] for one in sections] == ["0", "0 1 2", "0"]
    shipped = (Path(__file__).parents[2] / "conf/loss/triplet.yaml").read_text(encoding="utf-8")
    assert html.unescape(page.one("section", aria_labelledby="file-title").one("pre").raw).strip() == shipped.strip()


def test_the_page_of_a_method_says_which_entries_were_made_with_another_file() -> None:
    chosen = ("dataset/digits", "protocol/quick", "trunk/convnet", "optimizer/adamw", "sampler/m_per_class", "loss/triplet")
    publish("triplet", 0, config_files=json.dumps(dict.fromkeys(chosen, "0" * 64)))
    page = read(site("results"), "methods/triplet.html")
    assert "1 of 1 entries were made with another version of this file" in page.text


def test_a_method_of_somebody_else_has_a_page_without_a_file() -> None:
    publish("my_loss", 0, loss_label="My loss")
    assert "does not ship a file for this method" in read(site("results"), "methods/my_loss.html").text


# --- published numbers


def test_published_numbers_are_on_pages_of_their_own_without_ranks(folder: Path) -> None:
    page = read(folder, "published/cub.html")
    assert page.one("span", class_="tier").text == "claimed"
    headings = {one.text for one in page.all("th", scope="col")}
    assert "R@1" in headings
    assert not any("Rank" in one for one in headings)
    assert "65.4" in page.text
    assert "SoftTriple" not in read(folder, BOARD).text
    for file in folder.glob("boards/**/*.html"):
        assert "claimed" not in file.read_text(encoding="utf-8")


def test_a_board_links_to_the_published_numbers_of_its_data_set() -> None:
    publish("triplet", 0, dataset="cub", dataset_label="CUB-200-2011")
    page = read(site("results"), "boards/cub/quick-v1.html")
    assert "../../published/cub.html" in [one.attributes["href"] for one in page.all("a")]


# --- data


def test_index_json_has_all_tables_with_ranks_and_all_entries_with_metrics(study: Path, folder: Path) -> None:
    value = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert len(value["entries"]) == len(list(find_rows(study / "results"))) == 15
    table = next(one for one in value["boards"] if one["version"] == 1)["tables"][0]
    assert table["metric"] == "map_at_r"
    assert table["seeds"] == [0, 1, 2]
    best = next(one for one in table["methods"] if one["loss"] == "arcface")
    assert best["rank"][0] == 1
    assert best["tier"] == "rescored"
    assert len(best["scores"]["map_at_r"]) == 2
    assert all((folder / page).is_file() for page in best["pages"])
    assert all(isinstance(one["metrics"]["map_at_r"], float) for one in value["entries"])


def test_entries_csv_has_every_column_of_every_entry(study: Path, folder: Path) -> None:
    lines = {line["run_id"]: line for line in csv.DictReader((folder / "entries.csv").read_text().splitlines())}
    found, _ = read_rows(study / "results")
    assert set(lines) == {row["run_id"] for row in found}
    for row in found:
        assert math.isclose(float(lines[str(row["run_id"])]["map_at_r"]), row.number("map_at_r") or 0)
        assert lines[str(row["run_id"])]["claim_published by"] == "Jane Doe"


def test_the_feed_has_one_item_per_method_with_relative_links_or_the_address_of_the_site(study: Path, folder: Path) -> None:
    items = ElementTree.parse(folder / "feed.xml").getroot().findall(f"{ATOM}entry")
    assert len(items) == 7
    titles = [item.findtext(f"{ATOM}title") for item in items]
    assert "ArcFace: Digit pairs, protocol quick version 1, ConvNet" in titles
    assert len({item.findtext(f"{ATOM}id") for item in items}) == 7
    for item in items:
        assert (folder / item.find(f"{ATOM}link").attrib["href"]).is_file()
    again = site(str(study / "results"), "--url", "https://results.example.org/dml")
    root = ElementTree.parse(again / "feed.xml").getroot()
    assert root.findall(f"{ATOM}link")[1].attrib == {"rel": "self", "href": "https://results.example.org/dml/feed.xml"}
    link = root.find(f"{ATOM}entry").find(f"{ATOM}link").attrib["href"]
    assert (again / urljoin("", link.removeprefix("https://results.example.org/dml/"))).is_file()


def test_another_seed_makes_a_new_item_of_the_feed() -> None:
    def ids() -> set[str]:
        found = ElementTree.parse(site("results") / "feed.xml").getroot().findall(f"{ATOM}entry")
        return {str(one.findtext(f"{ATOM}id")) for one in found}

    publish("triplet", 0)
    publish("arcface", 0)
    before = ids()
    publish("triplet", 1)
    assert len(ids() & before) == 1
    assert len(ids()) == 2


def test_the_search_finds_boards_methods_results_and_papers(folder: Path) -> None:
    text = (folder / "static/search-1.js").read_text(encoding="utf-8")
    targets = json.loads(f"[{text.partition('push(')[2].rpartition(');')[0]}]")
    assert {kind for kind, *_ in targets} == {"data set", "method", "result", "run", "paper"}
    assert all((folder / page.partition("#")[0]).is_file() for *_, page in targets)
    assert any(kind == "result" and "Jane Doe" in words and "rescored" in words for kind, _, words, _ in targets)


def test_the_search_finds_every_run_by_its_id(study: Path, folder: Path) -> None:
    text = (folder / "static/search-1.js").read_text(encoding="utf-8")
    targets = json.loads(f"[{text.partition('push(')[2].rpartition(');')[0]}]")
    entries, _ = read_site_entries(study / "results")
    assert {title: page for kind, title, _, page in targets if kind == "run"} == {
        str(one.row["run_id"]): one.page for one in entries
    }


def test_no_page_is_larger_than_a_megabyte(folder: Path) -> None:
    assert max(file.stat().st_size for file in folder.rglob("*.html")) < PAGE_BYTES
