"""Data classes for results that others published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import yaml

from dmlbench.config.files import conf_dir

KINDS = ("comparison", "ablation", "validation")
SPLIT = "zero_shot"  # the split rule of tables that do not name one


@dataclass(frozen=True)
class Source:
    """Where a table was published, and what its numbers mean.

    Args:
        cite: Citation of the source.
        where: Number of the table, or of the slide.
        kind: One of `KINDS`.
        split: Split rule of the data set, or a description if dmlbench does not have the rule.
        arxiv: Identifier on arXiv, without the prefix `arXiv:`.
        note: Remark about all numbers of the table.
        plus_minus: Meaning of the number after ±.
        clusters_per_class: Clusters of k-means per class, for clustering metrics.
    """

    cite: str
    where: str
    kind: str
    split: str = SPLIT
    arxiv: str | None = None
    note: str | None = None
    plus_minus: str | None = None
    clusters_per_class: int = 1

    @property
    def text(self) -> str:
        """The text of its footnote.

        >>> Source("Shah, 2017", "Table 1", "comparison", arxiv="0000.00000", note="cropped").text
        'Shah, 2017, arXiv:0000.00000, Table 1; cropped'
        """
        parts = [self.cite, f"arXiv:{self.arxiv}" if self.arxiv else "", self.where]
        return ", ".join(part for part in parts if part) + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class PublishedResult:
    """The published numbers of one method on one data set.

    Args:
        label: Name of the method in print.
        dataset: Name of the data set on the command line.
        source: Source of its table.
        printed: Column to the text in the source; missing values are left out.
        values: Metric to fraction. `precision_at_1` and `recall_at_1` are the same quantity; if the source has one of them,
            both are present.
        trunk: Name of the trunk on the command line, or as the source writes it; None if the source does not state it.
        embedding_dim: Size of the embedding; None if the source does not state it.
        image_px: Side of the crop in pixels; None if the source does not state it.
        cite: Paper that the source cites for these numbers.
        note: Remark about these numbers.
    """

    label: str
    dataset: str
    source: Source
    printed: Mapping[str, str]
    values: Mapping[str, float]
    trunk: str | None = None
    embedding_dim: int | None = None
    image_px: int | None = None
    cite: str | None = None
    note: str | None = None

    @property
    def size(self) -> str:
        """Trunk, embedding size and crop in print, such as `BN-Inception, 512-d`."""
        trunk = trunk_label(self.trunk) if self.trunk else "trunk not stated"
        parts = [trunk, f"{self.embedding_dim}-d" if self.embedding_dim else "", f"{self.image_px} px" if self.image_px else ""]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class PublishedTable:
    """One published table.

    Args:
        name: Stem of its file.
        source: Where it was published.
        unit: Unit of its numbers in print: `percent` or `fraction`.
        columns: Data set to its columns, as transcribed.
        other: Column that is not a metric of dmlbench, to its meaning.
        lines: Results, one per method and data set.
    """

    name: str
    source: Source
    unit: str
    columns: Mapping[str, tuple[str, ...]]
    other: Mapping[str, str]
    lines: tuple[PublishedResult, ...]


@cache
def trunk_label(trunk: str) -> str:
    """Return the name of a trunk in print: the label of its shipped configuration, or the name itself.

    Args:
        trunk: Name of the trunk.

    >>> trunk_label("bn_inception"), trunk_label("VGG")
    ('BN-Inception', 'VGG')
    """
    file = conf_dir() / "trunk" / f"{trunk}.yaml"
    return str(yaml.safe_load(file.read_text(encoding="utf-8"))["label"]) if file.is_file() else trunk
