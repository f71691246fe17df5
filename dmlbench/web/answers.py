"""What the pages and the API ask: which image is the query, and which images a model returns for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flask import abort, request

from dmlbench.errors import UserError
from dmlbench.web.catalogue import Collection, Model
from dmlbench.web.search import Hit, hits_of_query, hits_of_vector, merged
from dmlbench.web.services import services, snapshot, whole_number
from dmlbench.web.uploads import Upload


@dataclass(frozen=True, eq=False)
class Query:
    """The image that is searched for: a test image of a data set, or an upload.

    Args:
        collection: Data set of the test image; None for an upload.
        image_id: Id of the test image; -1 for an upload.
        upload: The upload; None for a test image.
    """

    collection: Collection | None = None
    image_id: int = -1
    upload: Upload | None = None

    @property
    def parameters(self) -> dict[str, str | int]:
        """Parameters of addresses that name this query."""
        if self.upload is not None:
            return {"upload": self.upload.token}
        assert self.collection is not None
        return {"query": self.image_id, "from": self.collection.key}

    def class_name(self) -> str | None:
        """Return the name of the query's class; None for an upload."""
        if self.collection is None:
            return None
        model = self.collection.models[0]
        embeddings = services().catalogue.embeddings(model)
        index = embeddings.index.get(self.image_id)
        return None if index is None else model.class_name(int(embeddings.labels[index]))


def requested_query(collection: Collection | None) -> Query | None:
    """Return the query that the request names; None if it names none.

    Args:
        collection: Data set of the request; None for all.
    """
    if token := request.args.get("upload"):
        return Query(upload=services().uploads.get(token))
    if not request.args.get("query"):
        return None
    source = snapshot().collections.get(request.args.get("from", "")) or collection
    if source is None:
        abort(404, "There is no such data set (any more).")
    return Query(source, whole_number("query", 0, 0, 2**62))


def find(query: Query, collection: Collection, model: Model, k: int, standardise: bool = False) -> list[Hit]:
    """Search one data set with one model.

    Args:
        query: The query.
        collection: Data set to search.
        model: Model of that data set.
        k: Number of images.
        standardise: Express scores in standard deviations too, for `find_in_all`.

    Raises:
        UserError: The query cannot be embedded.
    """
    embeddings = services().catalogue.embeddings(model)
    if query.collection is not None and query.collection.key == collection.key:
        if not standardise:
            return hits_of_query(collection, model, embeddings, query.image_id, k)
        if query.image_id not in embeddings.index:
            raise UserError(f"there is no test image {query.image_id} in {collection.label}")
        vector = np.asarray(embeddings.rows[embeddings.index[query.image_id]])
        hits = hits_of_vector(collection, model, embeddings, vector, k + 1, standardise)
        return [hit for hit in hits if hit.image_id != query.image_id][:k]
    return hits_of_vector(collection, model, embeddings, _embedding(query, model), k, standardise)


def find_in_all(query: Query, loss: str, k: int) -> tuple[list[Hit], list[tuple[Collection, Model]], list[str]]:
    """Search every data set, each with its own model.

    Args:
        query: The query.
        loss: Loss of the models; a data set without it is searched with its first trained model.
        k: Number of images.

    Returns:
        The images, the model of each data set, and the reason for each data set that could not be searched.
    """
    lists: list[Sequence[Hit]] = []
    used, problems = [], []
    for collection in snapshot().collections.values():
        trained = [model for model in collection.defaults if model.row.get("loss_kind") != "none"] or collection.defaults
        model = next((one for one in trained if one.row["loss"] == loss), trained[0])
        try:
            lists.append(find(query, collection, model, k, standardise=True))
            used.append((collection, model))
        except UserError as error:
            problems.append(f"{collection.label}: {error}")
    return merged(lists, k), used, problems


def _embedding(query: Query, model: Model) -> np.ndarray:
    parts = services()
    upload = query.upload
    if upload is None:
        assert query.collection is not None
        upload = parts.uploads.of_pixels(parts.pictures.pixels(query.collection, query.image_id))
    pixels = upload.pixels
    return parts.uploads.embedding(upload, model.key, lambda: parts.models.embed(model, pixels))
