"""The page of a report: self-contained, safe with any text from run directories, and accessible."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path

from report_pages import Node, report, write_photos, write_run

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m{{ 7 * 7 }}"


def test_the_content_security_policy_allows_the_script_and_the_style_of_the_page_only(page: Node) -> None:
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.one(tag).raw.encode()).digest()).decode()
        assert allowed[f"{tag}-src"] == f"'sha256-{digest}'"
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"


def test_nothing_on_the_page_makes_a_request_or_runs_code_of_an_attribute(page: Node) -> None:
    for node in page.all():
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href", "data", "action", "poster", "srcset"):
                assert value.startswith(("#", "data:image/webp;base64,"))
    style = page.one("style").raw
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:|innerHTML|eval\(|fetch\(", page.one("script").raw)


def test_text_from_runs_stays_text() -> None:
    photos = write_photos(Path("photos"))
    columns = {
        "loss_label": HOSTILE,
        "dataset_label": HOSTILE,
        "hostname": HOSTILE,
        "config_files": json.dumps({HOSTILE: HOSTILE}),
        "overrides": json.dumps([HOSTILE]),
        "protocol": HOSTILE,
    }
    for seed in range(2):
        folder = write_run(Path("runs"), "triplet", seed, photos=photos, **columns)
        (folder / "classes.json").write_text(json.dumps({str(label): HOSTILE + str(label) for label in range(6)}))
        write_run(Path("runs"), "arcface", seed, **columns)
    write_run(Path("runs"), "cosface", 0, **columns, status="failed", reason=HOSTILE)
    found = report("runs", "--title", HOSTILE)
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert not any("onerror" in node.attributes for node in found.all())
    text = Path("report.html").read_text()
    assert "\x1b" not in text
    assert "49" not in found.one("head").one("title").text
    assert "<script>alert" not in text


def test_every_picture_has_a_name_and_every_table_has_headings(page: Node) -> None:
    for svg in page.all("svg"):
        assert svg.attributes.get("aria-hidden") == "true" or svg.attributes.get("aria-label")
    for table in page.all("table"):
        assert all(cell.attributes.get("scope") in ("row", "col") for cell in table.all("th"))
    for label in page.all("label"):
        assert label.all("input") or label.all("select")


def test_headings_skip_no_level_and_ids_are_unique(page: Node) -> None:
    levels = [int(node.tag[1]) for node in page.all() if re.fullmatch(r"h[1-6]", node.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))


def test_images_are_embedded_once_and_framed_with_a_sign(page: Node) -> None:
    store = page.one("svg", class_="store")
    assert 1 <= len(store.all("image")) <= 24
    known = {f"#{image.attributes['id']}" for image in store.all("image")}
    assert {use.attributes["href"] for use in page.all("use")} == known
    for side, sign in (("right", "✓"), ("wrong", "✗")):
        tiles = page.all("li", class_=side)
        assert tiles
        assert all(tile.one("span", class_="sign").text == sign for tile in tiles)
        assert all(tile.one("svg").attributes["aria-label"].startswith(f"{side}, class ") for tile in tiles)


def test_every_method_answers_each_query_with_its_five_nearest_images(page: Node) -> None:
    queries = page.all("details", class_="query")
    assert [query.one("summary").text.split(" query")[0] for query in queries] == ["Worst"] * 3 + ["Disputed"] * 3 + [
        "Random"
    ] * 3
    for query in queries:
        assert [answer.all("span")[0].text for answer in query.all("div", class_="answer")] == [
            *("Untrained trunk", "Contrastive", "Triplet", "ArcFace")
        ]
        assert all(len(answer.all("li")) == 5 for answer in query.all("div", class_="answer"))


def test_the_same_runs_give_the_same_report(study: Path, page_file: Path, monkeypatch: object) -> None:
    monkeypatch.chdir(study)  # type: ignore[attr-defined]
    report("runs", output="again.html")
    assert (study / "again.html").read_bytes() == page_file.read_bytes()
