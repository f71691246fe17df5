"""Results that others published, which tables print below a rule.

They are read from the files in `conf/published/`; see `literature_files` for their form. Published results are not comparable
with result rows, because trunk, crops, tuning and model selection differ. They are selected by data set and split, and are
never averaged, tested or printed in bold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from dmlbench.config.files import conf_dir
from dmlbench.results.literature_files import read_tables
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.published_result import KINDS, SPLIT, PublishedResult, PublishedTable, Source

__all__ = ["KINDS", "SPLIT", "PublishedResult", "PublishedTable", "Source", "find_published", "read_published"]


def read_published(config_dir: Path | None = None) -> tuple[PublishedTable, ...]:
    """Read every published table.

    Args:
        config_dir: Directory of the user's own configuration files, whose `published/*.yaml` are read too.

    Returns:
        The tables of each file in their order; files in the order of their names, those of the user last.

    Raises:
        UserError: A file is not in the required form; the message names the file and the table.
    """
    return _shipped() + (read_tables(config_dir / "published") if config_dir else ())


@cache
def _shipped() -> tuple[PublishedTable, ...]:
    return read_tables(conf_dir() / "published")


def find_published(
    dataset: str,
    metrics: Collection[str],
    trunks: Collection[str] = (),
    split: str = SPLIT,
    ablations: bool = False,
    config_dir: Path | None = None,
    clusters_per_class: int = 1,
) -> list[PublishedResult]:
    """Find the published results to print below a table.

    Args:
        dataset: Name of the data set on the command line.
        metrics: Metrics that the table prints; a result without any of them is left out.
        trunks: Trunks whose results are wanted; empty for all trunks.
        split: Split rule of the table's data set. Results on other splits are left out.
        ablations: Whether to include ablations, which compare a method with variants of itself. Validation numbers are never
            included.
        config_dir: Directory of the user's own configuration files.
        clusters_per_class: Clusters per class of the table's clustering metrics. Those of other clusterings are left out.

    Returns:
        Comparisons, followed by ablations; each in the order of `read_published`.

    Raises:
        UserError: A file is not in the required form.
    """
    kinds = KINDS[: 1 + ablations]
    found = [
        result
        for table in read_published(config_dir)
        for result in _clustered_alike(table.lines, clusters_per_class)
        if result.dataset == dataset
        and result.source.split == split
        and result.source.kind in kinds
        and (not trunks or result.trunk in trunks)
        and any(metric in result.values for metric in metrics)
    ]
    return sorted(found, key=lambda result: kinds.index(result.source.kind))


def _clustered_alike(results: Sequence[PublishedResult], clusters_per_class: int) -> Iterator[PublishedResult]:
    """Yield results without the clustering metrics of another number of clusters."""
    for result in results:
        if result.source.clusters_per_class == clusters_per_class:
            yield result
        else:
            yield replace(result, values={name: value for name, value in result.values.items() if not _is_clustering(name)})


def _is_clustering(metric: str) -> bool:
    column = parse_metric(metric)
    return column is not None and column.spec.kind == "clustering"
