"""Published numbers of papers, on pages of their own: they are never ranked among measured results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.results.formatting import metric_label
from dmlbench.results.literature import PublishedResult, PublishedTable, read_published
from dmlbench.results.metric_specs import parse_metric
from dmlbench.site.paths import published_page
from dmlbench.site.render import Writer, fragment


@dataclass(frozen=True)
class SourceTable:
    """The numbers of one published table on one data set.

    Args:
        table: The published table.
        heading: Names of its columns in print.
        rows: Results with their cells, as printed in the source.
        note: Footnotes of columns, sentences.
    """

    table: PublishedTable
    heading: Sequence[str]
    rows: Sequence[tuple[PublishedResult, Sequence[str]]]
    note: Sequence[str]


def write_published(writer: Writer, labels: dict[str, str], config_dir: Path | None = None) -> dict[str, str]:
    """Write one page per data set, and their list.

    Args:
        writer: Writes files.
        labels: Names of data sets in print, as far as entries have them.
        config_dir: Directory of the user's own configuration files.

    Returns:
        Data set to the path of its page.
    """
    tables: dict[str, list[SourceTable]] = {}
    for table in read_published(config_dir):
        for dataset, columns in table.columns.items():
            tables.setdefault(dataset, []).append(_source_table(table, dataset, columns))
    names = {dataset: labels.get(dataset) or _label(dataset) for dataset in tables}
    pages = {dataset: published_page(dataset) for dataset in sorted(tables)}
    for dataset, page in pages.items():
        parts = [fragment("published_table.html", page, one=one, number=i) for i, one in enumerate(tables[dataset], 1)]
        writer.pages(page, "published.html", parts, label=names[dataset], n_sources=len(parts))
    items = [
        (names[dataset], page, len(tables[dataset]), sum(len(one.rows) for one in tables[dataset]))
        for dataset, page in pages.items()
    ]
    writer.page("published.html", "published_list.html", items=items)
    return pages


def _source_table(table: PublishedTable, dataset: str, columns: Sequence[str]) -> SourceTable:
    results = [one for one in table.lines if one.dataset == dataset]
    rows = [(one, [one.printed.get(name, "--") for name in columns]) for one in results]
    notes = [f"{name}: {table.other[name]}." for name in columns if name in table.other]
    return SourceTable(table, [metric_label(name) if parse_metric(name) else name for name in columns], rows, notes)


def _label(dataset: str) -> str:
    """Return the name of a data set in print: the label of its shipped configuration, or the name itself."""
    file = conf_dir() / "dataset" / f"{dataset}.yaml"
    return str(yaml.safe_load(file.read_text(encoding="utf-8")).get("label", dataset)) if file.is_file() else dataset
