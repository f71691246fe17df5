"""Means of two methods per class, with the names of the classes."""

from __future__ import annotations

from dataclasses import dataclass

from dmlbench.results.class_files import class_names
from dmlbench.results.row import Row
from dmlbench.tables.class_scores import ClassScores


@dataclass(frozen=True)
class ClassMeans:
    """Means of a metric over the queries of one class and all seeds, as fractions.

    Args:
        label: Label of the class.
        name: Name of the class.
        n_queries: Number of its queries.
        a: Mean of A.
        b: Mean of B.
    """

    label: int
    name: str
    n_queries: int
    a: float
    b: float

    @property
    def gain(self) -> float:
        """A - B."""
        return self.a - self.b


def class_means(scores: ClassScores | None, *rows: Row) -> tuple[ClassMeans, ...]:
    """Return the means of both methods per class, from the largest gain of A to its largest loss.

    Args:
        scores: Scores of both methods; None if they are not known.
        rows: Rows whose directories may contain the names of the classes.
    """
    if scores is None:
        return ()
    names = next((found for row in rows if (found := class_names(row))), {})
    means_a, means_b = scores.means.mean(1)
    classes = [
        ClassMeans(int(label), names.get(str(label)) or f"class {label}", int(n), float(a), float(b))
        for label, n, a, b in zip(scores.labels, scores.counts, means_a, means_b, strict=True)
    ]
    return tuple(sorted(classes, key=lambda one: (-one.gain, one.label)))
