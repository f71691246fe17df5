"""Search by a test query, by an embedding, and in all data sets at once. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dmlbench.errors import UserError
from dmlbench.pictures.neighbours import nearest, search
from dmlbench.pictures.saved_embeddings import SavedEmbeddings
from dmlbench.web.snapshot import Collection, Model

MAX_K = 100
_CALIBRATION_IMAGES = 200


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
        closeness: In a search of all data sets: see `Calibration`.
    """

    collection: str
    image_id: int
    class_name: str
    score: float
    relevant: bool | None
    closeness: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """How near the images of a gallery are to each other, so that scores of different models become comparable.

    Args:
        scores: Scores of some images and their nearest neighbours, ascending, float64 `(S,)`.
    """

    scores: np.ndarray

    def closeness(self, score: float) -> tuple[float, float]:
        """Return the share of these scores that are not higher than a score; and, for equal shares, the z-score.

        Args:
            score: Inner product of a query with an image of the gallery.
        """
        share = np.searchsorted(self.scores, score, "right") / len(self.scores)
        return float(share), float((score - self.scores.mean()) / max(float(self.scores.std()), 1e-12))


def calibrate(embeddings: SavedEmbeddings) -> Calibration:
    """Search for the nearest neighbours of some images of a gallery.

    Args:
        embeddings: Embeddings of the gallery.
    """
    gallery = np.flatnonzero(embeddings.is_gallery)
    drawn = np.random.default_rng(0).permutation(gallery)[:_CALIBRATION_IMAGES]
    highest = []
    for image in drawn:
        scores = embeddings.rows @ embeddings.rows[image]
        scores[image] = -np.inf
        highest.append(scores[gallery].max(initial=-1.0))
    return Calibration(np.sort(np.array(highest, dtype=np.float64)))


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


def hits_of_vector(collection: Collection, model: Model, embeddings: SavedEmbeddings, query: np.ndarray, k: int) -> list[Hit]:
    """Search the gallery for the images nearest to an embedding.

    Args:
        collection: Data set.
        model: Model.
        embeddings: Its embeddings.
        query: float32 `(D,)`.
        k: Number of images.

    Raises:
        UserError: The embedding has another number of dimensions.
    """
    if query.shape != embeddings.rows.shape[1:]:
        raise UserError(f"the model of {model.key} gives {query.shape[0]} dimensions; its embeddings have another number")
    found, scores = search(embeddings, query, embeddings.is_gallery, k)
    order = np.lexsort((embeddings.ids[found], -scores))[:k]
    found, scores = found[order], scores[order]
    return [
        Hit(collection.key, int(embeddings.ids[i]), model.class_name(int(embeddings.labels[i])), float(score), None)
        for i, score in zip(found, scores, strict=True)
    ]


def merged(lists: Sequence[tuple[Sequence[Hit], Calibration]], k: int) -> list[Hit]:
    """Merge the results of several data sets by their closeness, because scores of different models are not comparable.

    Args:
        lists: Result and calibration of each data set.
        k: Number of images to keep.
    """
    everything = [replace(hit, closeness=calibration.closeness(hit.score)) for hits, calibration in lists for hit in hits]
    return sorted(everything, key=lambda hit: (hit.closeness or (0.0, 0.0), hit.collection, -hit.image_id), reverse=True)[:k]
