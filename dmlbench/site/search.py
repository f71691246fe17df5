"""The search: a list of texts and pages in script files, because a page opened from a disk may not read other files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from dmlbench.results.literature import read_published
from dmlbench.site.catalogue import Catalogue
from dmlbench.site.entries import SiteEntry
from dmlbench.site.paths import method_page
from dmlbench.site.render import Writer, clipped
from dmlbench.site.standings import Standings
from dmlbench.system.terminal import escaped_for_json

_FILE_BYTES = 900_000


class Target(NamedTuple):
    """Something that can be found: its kind, its title, further words, and its page."""

    kind: str
    title: str
    words: str
    page: str


def write_search(writer: Writer, catalogue: Catalogue, links: Mapping[Standings, str], published: Mapping[str, str]) -> None:
    """Write the page of the search and its data.

    Args:
        writer: Writes files.
        catalogue: Everything on the site.
        links: Path of each table.
        published: Data set to the path of the page with its published numbers.
    """
    files = []
    for number, lines in enumerate(_files(_targets(catalogue, links, published)), 1):
        files.append(f"static/search-{number}.js")
        writer.file(files[-1], f'"use strict";\n(window.targets ??= []).push(\n{lines}\n);\n')
    writer.page("search.html", "search.html", files=files)


def _files(targets: Iterable[Target]) -> Iterator[str]:
    """Yield the lines of each file."""
    lines: list[str] = []
    size = 0
    for target in dict.fromkeys(targets):
        # A script may contain any JSON if "<" is escaped, so that no "</script" ends it.
        line = escaped_for_json(json.dumps(target, ensure_ascii=False)).replace("<", "\\u003c")
        if lines and size + len(line.encode()) > _FILE_BYTES:
            yield ",\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line.encode()) + 2
    yield ",\n".join(lines)


def _targets(catalogue: Catalogue, links: Mapping[Standings, str], published: Mapping[str, str]) -> Iterator[Target]:
    for board in catalogue.boards:
        trunks = " ".join(dict.fromkeys(table.trunk for table in board.standings))
        yield Target("data set", clipped(board.title), clipped(f"{board.key.dataset} {trunks}"), board.key.page)
        for table in board.standings:
            for method in table.methods:
                entry = method.entries[0]
                title = f"{method.row.label}, {board.label}, {table.title}{f' ({table.brief})' if table.distinction else ''}"
                words = f"{method.row.loss} {board.key.dataset} {board.key.protocol} {method.tier} {_claims(method.entries)}"
                yield Target("result", clipped(title), clipped(words), entry.page)
        for entry, _ in board.apart:
            words = f"{entry.row['loss']} {board.key.protocol} {entry.badge} {_claims([entry])}"
            yield Target("entry", clipped(f"{entry.label}, {board.label}, seed {entry.row.seed}"), clipped(words), entry.page)
    for entry in catalogue.entries:
        yield Target("method", clipped(entry.label), clipped(entry.row["loss"]), method_page(str(entry.row["loss"])))
        yield Target("run", clipped(entry.row["run_id"]), "", entry.page)
    for paper in read_published():
        for dataset in paper.columns:
            labels = " ".join(dict.fromkeys(one.label for one in paper.lines if one.dataset == dataset))
            title = f"{dataset}: {paper.source.cite}, {paper.source.where}"
            yield Target(
                "paper", clipped(title), clipped(f"{dataset} {paper.source.arxiv or ''} {labels}", 1000), published[dataset]
            )


def _claims(entries: Iterable[SiteEntry]) -> str:
    return " ".join(dict.fromkeys(text for entry in entries for text in entry.claim.values()))
