"""Search by a test query, by an embedding, and in all data sets at once. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dmlbench.errors import UserError
from dmlbench.pictures.neighbours import nearest, search
from dmlbench.pictures.saved_embeddings import SavedEmbeddings
from dmlbench.web.catalogue import Collection, Model

MAX_K = 100


def use_one_thread_per_product() -> None:
    """Let the BLAS library of NumPy use one thread per product from now on.

    A matrix-vector product waits for the memory, not for the processor. With ten users, the threads of ten products would
    wait for each other: the 95th percentile of a search was ten times higher.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, "blas")


@dataclass(frozen=True)
class Hit:
    """One image of a result.

    Args:
        collection: Key of its data set.
        image_id: Its id.
        class_name: Name of its class.
        score: Inner product with the query.
        relevant: Whether it is of the query's class; None if that class is not known.
        deviations: In a search of all data sets: standard deviations by which the score exceeds the mean score of its gallery.
    """

    collection: str
    image_id: int
    class_name: str
    score: float
    relevant: bool | None
    deviations: float | None = None


def hits_of_query(collection: Collection, model: Model, embeddings: SavedEmbeddings, image_id: int, k: int) -> list[Hit]:
    """Search the gallery for the images nearest to a test image, without that image.

    Args:
        collection: Data set.
        model: Model.
        embeddings: Its embeddings.
        image_id: Id of the query.
        k: Number of images.

    Raises:
        UserError: The image has no embedding.
    """
    if image_id not in embeddings.index:
        raise UserError(f"there is no test image {image_id} in {collection.label}")
    found = nearest(embeddings, image_id, k)
    return [
        Hit(collection.key, int(one), model.class_name(int(label)), float(score), bool(label == found.label))
        for one, label, score in zip(found.ids, found.labels, found.scores, strict=True)
    ]


def hits_of_vector(
    collection: Collection, model: Model, embeddings: SavedEmbeddings, query: np.ndarray, k: int, standardise: bool = False
) -> list[Hit]:
    """Search the gallery for the images nearest to an embedding.

    Args:
        collection: Data set.
        model: Model.
        embeddings: Its embeddings.
        query: float32 `(D,)`.
        k: Number of images.
        standardise: Also express scores in standard deviations above the mean score of the gallery.

    Raises:
        UserError: The embedding has another number of dimensions.
    """
    if query.shape != embeddings.rows.shape[1:]:
        raise UserError(f"the model of {model.key} gives {query.shape[0]} dimensions; its embeddings have another number")
    found, scores = search(embeddings, query, embeddings.is_gallery, k)
    order = np.lexsort((embeddings.ids[found], -scores))[:k]
    found, scores = found[order], scores[order]
    deviations: Sequence[float | None] = [None] * len(found)
    if standardise:
        gallery = (embeddings.rows @ query)[embeddings.is_gallery].astype(np.float64)
        deviations = ((scores - gallery.mean()) / max(float(gallery.std()), 1e-12)).tolist()
    return [
        Hit(collection.key, int(embeddings.ids[i]), model.class_name(int(embeddings.labels[i])), float(score), None, more)
        for i, score, more in zip(found, scores, deviations, strict=True)
    ]


def merged(lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Merge the results of several data sets. Scores of different models are not comparable, so deviations decide.

    Args:
        lists: Results with `deviations`.
        k: Number of images to keep.
    """
    everything = [hit for hits in lists for hit in hits]
    return sorted(everything, key=lambda hit: (-(hit.deviations or 0.0), hit.collection, hit.image_id))[:k]
