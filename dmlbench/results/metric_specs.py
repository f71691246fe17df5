"""What is measured: every number of a row that judges embeddings, declared once.

`evaluate/` computes them, `rows` knows their columns by these names, `table` their names in print; docs/metrics.md is made of
them. Retrieval metrics are means over the queries; with `macro_` before the name, means over the classes of their means.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

JOINED = "concatenated_"  # of several models' embeddings, joined
MACRO = "macro_"  # a mean over classes

_MUSGRAVE = "Musgrave, Belongie & Lim, A metric learning reality check, ECCV 2020"
_MANNING = "Manning, Raghavan & Schütze, Introduction to information retrieval, 2008"


@dataclass(frozen=True)
class Measure:
    """One kind of number.

    Args:
        name: of its column; `<k>` stands for a number of ranks.
        label: in print.
        kind: `retrieval` and `clustering` are metrics, which tables compare; a `diagnostic` tells how an embedding lies.
        higher_is_better: whether a greater value is a better embedding.
        low, high: the range.
        definition: one sentence.
        source: where it is defined.
    """

    name: str
    label: str
    kind: Literal["retrieval", "clustering", "diagnostic"]
    higher_is_better: bool
    low: float
    high: float
    definition: str
    source: str


MEASURES = (
    Measure(
        "recall_at_<k>",
        "R@<k>",
        "retrieval",
        True,
        0,
        1,
        "Whether at least one of the first k items is relevant, as deep metric learning uses the word.",
        "Oh Song et al., Deep metric learning via lifted structured feature embedding, CVPR 2016",
    ),
    Measure("r_precision", "RP", "retrieval", True, 0, 1, "Relevant items among the first R, over R.", _MUSGRAVE),
    Measure(
        "map_at_r",
        "MAP@R",
        "retrieval",
        True,
        0,
        1,
        "Precision at each rank up to R that holds a relevant item, summed, over R.",
        _MUSGRAVE,
    ),
    Measure(
        "precision_at_<k>",
        "P@<k>",
        "retrieval",
        True,
        0,
        1,
        "Relevant items among the first k, over k, also where R is below k.",
        _MANNING,
    ),
    Measure(
        "retrieved_at_<k>",
        "Retrieved@<k>",
        "retrieval",
        True,
        0,
        1,
        "Relevant items among the first k, over R: what information retrieval calls recall.",
        _MANNING,
    ),
    Measure(
        "mean_reciprocal_rank",
        "MRR",
        "retrieval",
        True,
        0,
        1,
        "One over the rank of the first relevant item.",
        "Voorhees, The TREC-8 question answering track report, 1999",
    ),
    Measure(
        "nmi",
        "NMI",
        "clustering",
        True,
        0,
        1,
        "Mutual information of clusters and classes over the arithmetic mean of their entropies.",
        "Strehl & Ghosh, Cluster ensembles, JMLR 2002; the average: Vinh, Epps & Bailey, JMLR 2010",
    ),
    Measure(
        "ami",
        "AMI",
        "clustering",
        True,
        -1,
        1,
        "The same with its value by chance taken off above and below: 0 by chance, 1 for equal partitions.",
        "Vinh, Epps & Bailey, Information theoretic measures for clusterings comparison, JMLR 2010",
    ),
    Measure(
        "pairwise_f1",
        "F1",
        "clustering",
        True,
        0,
        1,
        "Harmonic mean of precision and recall of 'two items share a cluster' for 'they share a class'.",
        _MANNING,
    ),
    Measure(
        "purity",
        "Purity",
        "clustering",
        True,
        0,
        1,
        "Items that belong to their cluster's commonest class, over all.",
        _MANNING,
    ),
    Measure(
        "tied_share",
        "Tied",
        "diagnostic",
        False,
        0,
        1,
        "Share of each query's first R ranks whose item has the same score as another; a mean over queries.",
        "McSherry & Najork, Computing information retrieval performance measures efficiently in the presence of tied scores, "
        "ECIR 2008",
    ),
    Measure(
        "effective_rank",
        "Effective rank",
        "diagnostic",
        True,
        0,
        math.inf,
        "Exponential of the entropy of the centred embeddings' singular values, at most D; 0 where all are one point.",
        "Roy & Vetterli, The effective rank, EUSIPCO 2007",
    ),
    Measure(
        "intra_class_distance",
        "Intra-class",
        "diagnostic",
        False,
        0,
        2,
        "Mean of 1 - cosine over all pairs of one class.",
        "Roth et al., Revisiting training strategies and generalization performance in deep metric learning, ICML 2020",
    ),
    Measure(
        "inter_class_distance",
        "Inter-class",
        "diagnostic",
        True,
        0,
        2,
        "Mean of 1 - cosine over all pairs of two classes.",
        "Roth et al., Revisiting training strategies and generalization performance in deep metric learning, ICML 2020",
    ),
)


@dataclass(frozen=True)
class Column:
    """What a metric's column holds.

    Args:
        measure: of `MEASURES`.
        k: None where its name has none.
        macro: whether classes count alike.
        joined: whether of several models' embeddings, joined.
    """

    measure: Measure
    k: int | None = None
    macro: bool = False
    joined: bool = False

    @property
    def label(self) -> str:
        """In print.

        >>> [column_of(name).label for name in ("recall_at_10", "map_at_r", "macro_map_at_r", "concatenated_nmi")]
        ['R@10', 'MAP@R', 'MAP@R macro', 'NMI joined']
        """
        label = self.measure.label.replace("<k>", str(self.k))
        return label + " macro" * self.macro + " joined" * self.joined

    @property
    def place(self) -> tuple[bool, bool, int, int]:
        """In the order of print: by kind of mean, measure and k."""
        return self.joined, self.macro, MEASURES.index(self.measure), self.k or 0


def column_of(name: str) -> Column | None:
    """What a row's column holds, if it is one of these.

    >>> column_of("macro_recall_at_10").k, column_of("recall_speed")
    (10, None)
    """
    joined, macro = name.startswith(JOINED), name.removeprefix(JOINED).startswith(MACRO)
    plain = name.removeprefix(JOINED).removeprefix(MACRO)
    parts = re.fullmatch(r"(.+_at_)([1-9]\d*)", plain)
    wanted, k = (f"{parts[1]}<k>", int(parts[2])) if parts else (plain, None)
    found = next((measure for measure in MEASURES if measure.name == wanted), None)
    if found is None or (macro and found.kind != "retrieval"):
        return None
    return Column(found, k, macro, joined)
