"""Every metric and diagnostic of a row, declared once.

`evaluation` computes them; `columns` and tables use these names; docs/metrics.md is generated from this module. Retrieval
metrics are means over queries. With the prefix `macro_`, they are means over classes of the means per class; with the prefix
`full_`, the gallery contains the training images too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

CONCATENATED = "concatenated_"  # prefix: computed on the concatenated embeddings of several models
FULL = "full_"  # prefix: the gallery contains training and test images
MACRO = "macro_"  # prefix: mean over classes
_ACCURACY = re.compile(r"(?<![a-z])accuracy_at_(?=[1-9]\d*$)")  # another name of `precision_at_<k>`

_MUSGRAVE = "Musgrave, Belongie & Lim, A metric learning reality check, ECCV 2020"
_MANNING = "Manning, Raghavan & Schütze, Introduction to information retrieval, 2008"


@dataclass(frozen=True)
class MetricSpec:
    """Declaration of one metric or diagnostic.

    Args:
        name: Name of its column; `<k>` stands for the number of ranks.
        label: Name in print.
        kind: `retrieval` and `clustering` metrics are compared by tables, and so are those of predicted `attributes`. A
            `diagnostic` describes the geometry of the embedding; it is not a performance metric.
        higher_is_better: Whether a larger value is better. True for metrics that tables compare, because they mark the largest
            value and name it as better.
        low: Smallest possible value.
        high: Largest possible value.
        definition: Definition in one sentence.
        source: Publication that defines it.

    Raises:
        ValueError: A metric that tables compare is better if it is smaller.
    """

    name: str
    label: str
    kind: Literal["retrieval", "clustering", "attributes", "diagnostic"]
    higher_is_better: bool
    low: float
    high: float
    definition: str
    source: str

    def __post_init__(self) -> None:
        if self.kind != "diagnostic" and not self.higher_is_better:
            raise ValueError(f"{self.name}: tables compare metrics of which more is better; negate it, or declare a diagnostic")


METRIC_SPECS = (
    MetricSpec(
        "recall_at_<k>",
        "R@<k>",
        "retrieval",
        True,
        0,
        1,
        "Whether at least one of the first k items is relevant (the definition used in deep metric learning).",
        "Oh Song et al., Deep metric learning via lifted structured feature embedding, CVPR 2016",
    ),
    MetricSpec(
        "r_precision", "RP", "retrieval", True, 0, 1, "Number of relevant items among the first R, divided by R.", _MUSGRAVE
    ),
    MetricSpec(
        "map_at_r",
        "MAP@R",
        "retrieval",
        True,
        0,
        1,
        "Sum of the precision at each rank up to R whose item is relevant, divided by R.",
        _MUSGRAVE,
    ),
    MetricSpec(
        "precision_at_<k>",
        "P@<k>",
        "retrieval",
        True,
        0,
        1,
        "Number of relevant items among the first k, divided by k, even if R is below k. Shah (Clustering and querying images "
        "from unknown classes) calls it accuracy.",
        _MANNING,
    ),
    MetricSpec(
        "retrieved_at_<k>",
        "Retrieved@<k>",
        "retrieval",
        True,
        0,
        1,
        "Number of relevant items among the first k, divided by R (recall in information retrieval).",
        _MANNING,
    ),
    MetricSpec(
        "mean_reciprocal_rank",
        "MRR",
        "retrieval",
        True,
        0,
        1,
        "1 divided by the rank of the first relevant item.",
        "Voorhees, The TREC-8 question answering track report, 1999",
    ),
    MetricSpec(
        "nmi",
        "NMI",
        "clustering",
        True,
        0,
        1,
        "Mutual information of clusters and classes, divided by the arithmetic mean of their entropies.",
        "Strehl & Ghosh, Cluster ensembles, JMLR 2002; the average: Vinh, Epps & Bailey, JMLR 2010",
    ),
    MetricSpec(
        "ami",
        "AMI",
        "clustering",
        True,
        -1,
        1,
        "NMI adjusted for chance: 0 for random partitions, 1 for identical ones.",
        "Vinh, Epps & Bailey, Information theoretic measures for clusterings comparison, JMLR 2010",
    ),
    MetricSpec(
        "pairwise_f1",
        "F1",
        "clustering",
        True,
        0,
        1,
        "Harmonic mean of precision and recall over pairs of items: same cluster as a prediction of same class.",
        _MANNING,
    ),
    MetricSpec(
        "purity",
        "Purity",
        "clustering",
        True,
        0,
        1,
        "Share of items that belong to the most frequent class of their cluster.",
        _MANNING,
    ),
    MetricSpec(
        "attribute_map",
        "mAP attr.",
        "attributes",
        True,
        0,
        1,
        "Average precision of an attribute over the images for which it is known, averaged over the attributes that an image "
        "has.",
        "Without interpolation; Everingham et al., The PASCAL visual object classes (VOC) challenge, IJCV 2010",
    ),
    MetricSpec(
        "attribute_f1",
        "F1 attr.",
        "attributes",
        True,
        0,
        1,
        "Harmonic mean of precision and recall of an attribute that is predicted with a probability of at least one half, "
        "averaged over the attributes that an image has.",
        "Yang, An evaluation of statistical approaches to text categorization, Information Retrieval 1999",
    ),
    MetricSpec(
        "tied_share",
        "Tied",
        "diagnostic",
        False,
        0,
        1,
        "Share of the first R ranks whose item has the same score as another one, averaged over queries.",
        "McSherry & Najork, Computing information retrieval performance measures efficiently in the presence of tied scores, "
        "ECIR 2008",
    ),
    MetricSpec(
        "effective_rank",
        "Effective rank",
        "diagnostic",
        True,
        0,
        math.inf,
        "Exponential of the entropy of the centred embeddings' singular values, at most D; 0 if all are equal.",
        "Roy & Vetterli, The effective rank, EUSIPCO 2007",
    ),
    MetricSpec(
        "intra_class_distance",
        "Intra-class",
        "diagnostic",
        False,
        0,
        2,
        "Mean of 1 - cosine similarity over all pairs of the same class.",
        "Roth et al., Revisiting training strategies and generalization performance in deep metric learning, ICML 2020",
    ),
    MetricSpec(
        "inter_class_distance",
        "Inter-class",
        "diagnostic",
        True,
        0,
        2,
        "Mean of 1 - cosine similarity over all pairs of different classes.",
        "Roth et al., Revisiting training strategies and generalization performance in deep metric learning, ICML 2020",
    ),
)


@dataclass(frozen=True)
class MetricColumn:
    """Contents of the column of a metric.

    Args:
        spec: Declaration of the metric.
        k: Number of ranks; None for metrics without one.
        macro: Whether it is a mean over classes.
        concatenated: Whether it was computed on the concatenated embeddings of several models.
        full: Whether the gallery contained training and test images.
    """

    spec: MetricSpec
    k: int | None = None
    macro: bool = False
    concatenated: bool = False
    full: bool = False

    @property
    def label(self) -> str:
        """Name in print.

        >>> [parse_metric(name).label for name in ("recall_at_10", "macro_map_at_r", "concatenated_nmi", "full_map_at_r")]
        ['R@10', 'MAP@R macro', 'NMI concat.', 'MAP@R full']
        """
        label = self.spec.label.replace("<k>", str(self.k))
        return label + " full" * self.full + " macro" * self.macro + " concat." * self.concatenated

    @property
    def sort_key(self) -> tuple[bool, bool, bool, int, int]:
        """Sort key for printing: by models, kind of mean, gallery, metric and k."""
        return self.concatenated, self.macro, not self.full, METRIC_SPECS.index(self.spec), self.k or 0

    @property
    def is_per_query(self) -> bool:
        """Whether the value is a mean over queries, whose scores are saved."""
        return self.spec.kind == "retrieval" and not self.macro


@lru_cache(4096)  # thousands of rows have the same columns
def parse_metric(name: str) -> MetricColumn | None:
    """Parse the name of a column.

    Args:
        name: Name of a column, such as `macro_recall_at_10`.

    Returns:
        What it contains; None if it is neither a metric nor a diagnostic.

    >>> parse_metric("macro_recall_at_10").k, parse_metric("recall_speed")
    (10, None)
    """
    plain, prefixes = name, []
    for prefix in (CONCATENATED, FULL, MACRO):
        prefixes.append(plain.startswith(prefix))
        plain = plain.removeprefix(prefix)
    concatenated, full, macro = prefixes
    parts = re.fullmatch(r"(.+_at_)([1-9]\d*)", plain)
    wanted, k = (f"{parts[1]}<k>", int(parts[2])) if parts else (plain, None)
    found = next((spec for spec in METRIC_SPECS if spec.name == wanted), None)
    if found is None or ((macro or full) and found.kind != "retrieval"):
        return None
    return MetricColumn(found, k, macro, concatenated, full)


def canonical_metric(name: str) -> str:
    """Return the name of a metric's column. Commands accept `accuracy_at_<k>`, another name of Precision@k.

    Args:
        name: Name of the column, or the other name.

    >>> canonical_metric("accuracy_at_5"), canonical_metric("full_accuracy_at_5"), canonical_metric("nmi")
    ('precision_at_5', 'full_precision_at_5', 'nmi')
    """
    return _ACCURACY.sub("precision_at_", name)
