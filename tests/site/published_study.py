"""Entries for tests of the site, and a reader of its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from honest_runs import honest_run
from report_pages import Node, parse

from dmlbench.cli import run
from dmlbench.publication.pack import Statement, pack, write_entries
from dmlbench.results.row_files import read_row
from dmlbench.verification import Tier, Verdict, verify_run

NOISE = {"untrained": 1.6, "contrastive": 1.2, "triplet": 0.9, "arcface": 0.6}
STATEMENT = Statement("Jane Doe", "CC-BY-4.0", paper="Doe, A paper, 2026", paper_url="https://example.org/paper")
OLD_VERSION = 99  # of the protocol `quick`; not the current one
PAGE_BYTES = 1_000_000


def publish(loss: str, seed: int, tier: Tier = Tier.CONSISTENT, results: str = "results", **columns: Any) -> Path:
    """Publish a run with random embeddings, and return the directory of the entry."""
    noise = columns.pop("noise", NOISE.get(loss, 1.0))
    folder = honest_run(Path("runs") / results, loss, seed, noise, **columns)
    verdict = verify_run(read_row(folder / "row.json"))
    assert not verdict.findings, verdict.findings
    packed = pack(Verdict(verdict.row, tier), STATEMENT)
    write_entries([packed], Path(results))
    return Path(results) / packed.path


def publish_study() -> None:
    """Publish four methods with three seeds, two with a frozen trunk too, and one with another version of the protocol."""
    for loss in NOISE:
        for seed in range(3):
            publish(loss, seed, Tier.RESCORED if loss == "arcface" else Tier.CONSISTENT, overrides=f'["loss={loss}"]')
    for loss in ("triplet", "arcface"):
        publish(loss, 0, protocol_trunk_frozen=True, trunk="mobilenet_v2", trunk_label="MobileNetV2")
    publish("triplet", 0, protocol_version=OLD_VERSION)


def site(*arguments: str, output: str = "site") -> Path:
    """Write a site in the current directory."""
    assert run(["site", *arguments, "--output", output]) == 0
    return Path(output)


def read(folder: Path, page: str) -> Node:
    """Read a page."""
    return parse((folder / page).read_text(encoding="utf-8"))


def rows(section: Node) -> dict[str, list[str]]:
    """Return the rows of a table of results: name of the method to the text of its cells."""
    found = {}
    for row in section.one("table", class_="sortable").all("tr")[1:]:
        cells = [one for one in row.children if isinstance(one, Node)]
        name = row.one("a", class_="text").text
        found[name] = [one.text for one in cells]
    return found
