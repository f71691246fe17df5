"""Draw the queries that are evaluated, if a protocol evaluates some of the test images only."""

from __future__ import annotations

from dataclasses import replace

import torch

from dmlbench.errors import UserError
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.ranking import count_relevant, own_index
from dmlbench.system.seeding import numpy_generator

STREAM = "evaluation queries"


def draw_queries(embeddings: Embeddings, n: int | None, seed: int, path: str = "") -> Embeddings:
    """Draw queries at random from those that have a relevant item in the gallery. The other items keep their roles.

    The draw depends on the ids of these queries and on the seed only, so all methods have the same queries. A smaller draw
    is part of a larger one.

    Args:
        embeddings: Queries and gallery.
        n: Number of queries to draw; None for all.
        seed: Seed of the draw.
        path: File or directory of the embeddings, for the message; empty if there is none.

    Returns:
        The embeddings, of which the drawn ones are queries.

    Raises:
        UserError: There are not as many such queries.
    """
    if n is None:
        return embeddings
    ids = embeddings.ids[embeddings.is_query]
    own = own_index(ids, embeddings.ids[embeddings.is_gallery])
    n_relevant = count_relevant(embeddings.labels[embeddings.is_query], embeddings.labels[embeddings.is_gallery], own)
    eligible = ids[n_relevant > 0].sort().values
    if n > len(eligible):
        of = f"{path} has" if path else "there are"
        raise UserError(
            f"queries={n:,}: {of} {len(eligible):,} queries with another image of their class in the gallery; draw at most that"
        )
    drawn = numpy_generator(seed, STREAM).permutation(eligible.numpy())[:n]
    return replace(embeddings, is_query=torch.isin(embeddings.ids, torch.from_numpy(drawn)))
