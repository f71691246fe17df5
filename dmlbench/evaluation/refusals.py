"""Refuse embeddings and settings for which metrics would be meaningless."""

from __future__ import annotations

from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation.config import EvaluationConfig
from dmlbench.evaluation.embedding_rows import Rows
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.queries import draw_queries

_ROWS_COMPARED = 4096  # rows read at a time to find a second value


def refuse_impossible(embeddings: Embeddings, config: EvaluationConfig, path: str = "") -> None:
    """Refuse evaluations whose metrics would be meaningless.

    Args:
        embeddings: Embeddings to evaluate.
        config: How to evaluate them.
        path: File or directory of the embeddings, for the message; empty if there is none.

    Raises:
        UserError: There is only one class, k is larger than the gallery and all values of k have to be computed, more queries
            are drawn than there are, or a full gallery has no training items.
    """
    refuse_one_class(embeddings, path)
    draw_queries(embeddings, config.queries, config.query_seed, path)
    if config.full_gallery and not len(embeddings.training):
        raise UserError(
            f"{path}{': ' * bool(path)}there are no training items, so a full gallery would be the same as the test gallery; "
            "training items are those that are neither query nor gallery"
        )
    size, k = int(embeddings.is_gallery.sum()), max(config.ks)
    gallery = f"{path} has a gallery of {size:,} items" if path else f"the gallery has {size:,} items"
    if config.all_ks and k > size:
        raise UserError(f"ks={k}: {gallery}; k can be at most that")
    if config.all_ks and k == size and not (embeddings.is_query & ~embeddings.is_gallery).any():
        raise UserError(f"ks={k}: {gallery}, including the query itself; k can be at most {size - 1:,}")


def refuse_one_class(embeddings: Embeddings, path: str = "") -> None:
    """Refuse a gallery with one class, because no result could be wrong: every method would have 100 %.

    Args:
        embeddings: Embeddings to evaluate.
        path: File or directory of the embeddings, for the message; empty if there is none.

    Raises:
        UserError: All items of the gallery are of one class.
    """
    classes = embeddings.labels[embeddings.is_gallery].unique()
    if len(classes) < 2:
        evaluated = embeddings.labels[embeddings.is_query | embeddings.is_gallery]
        every = len(evaluated.unique()) < 2
        items = f"{len(evaluated):,} embeddings" if every else f"{int(embeddings.is_gallery.sum()):,} items of the gallery"
        raise UserError(
            f"{path}{': ' * bool(path)}all {items} are of class {int(classes[0])}; retrieval needs two classes"
            f"{', because otherwise no result could be wrong' * (not every)}"
        )


def refuse_equal_rows(rows: Rows) -> None:
    """Refuse embeddings that are all equal; different ones are recognised in the first part.

    Args:
        rows: float32 `(N, D)`.

    Raises:
        MethodFailure: All rows are equal.
    """
    for start in range(0, len(rows), _ROWS_COMPARED):
        if not (rows[start : start + _ROWS_COMPARED] == rows[:1]).all():
            return
    value = "zero" if not rows[:1].any() else "equal"
    raise MethodFailure(f"the embedding collapsed: all {len(rows):,} embeddings are {value}, so nothing can be retrieved")
