"""What the pages and the API ask: which image is the query, and which images a model returns for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from flask import abort, request

from dmlbench.errors import UserError
from dmlbench.web.catalogue import RunChangedError
from dmlbench.web.search import Hit, calibrate, hits_of_query, hits_of_vector, merged
from dmlbench.web.services import services, snapshot, whole_number
from dmlbench.web.snapshot import Collection, Model
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
    named = request.args.get("from")
    source = snapshot().collections.get(named) if named else collection
    if source is None:
        abort(404, "There is no such data set (any more).")
    return Query(source, whole_number("query", 0, 0, 2**62))


def find(query: Query, collection: Collection, model: Model, k: int) -> list[Hit]:
    """Search one data set with one model.

    Args:
        query: The query.
        collection: Data set to search.
        model: Model of that data set.
        k: Number of images.

    Raises:
        UserError: The query cannot be embedded.
    """
    embeddings = services().catalogue.embeddings(model)
    if query.collection is not None and query.collection.key == collection.key:
        return hits_of_query(collection, model, embeddings, query.image_id, k)
    return hits_of_vector(collection, model, embeddings, _embedding(query, model), k)


def find_in_all(query: Query, loss: str, k: int) -> tuple[list[Hit], list[tuple[Collection, Model]], list[str]]:
    """Search every data set, each with its own model.

    Args:
        query: The query.
        loss: Loss of the models; a data set without it, and any if it is empty, is searched with its first trained model.
        k: Number of images.

    Returns:
        The images, the model of each data set, and the reason for each data set that could not be searched.
    """
    parts = services()
    lists, used, problems = [], [], []
    for collection in snapshot().collections.values():
        candidates = (*collection.defaults, *collection.models)
        model = next((one for one in candidates if one.row["loss"] == loss), collection.default)
        try:
            hits, embeddings = find(query, collection, model, k), parts.catalogue.embeddings(model)
            calibration = parts.calibrations.get((model.key, model.stamp), lambda found=embeddings: calibrate(found))  # type: ignore[misc]
            lists.append((marked(hits, query, collection), calibration))
            used.append((collection, model))
        except RunChangedError:
            raise
        except UserError as error:
            problems.append(f"{collection.label}: {error}")
    return merged(lists, k), used, problems


def marked(hits: list[Hit], query: Query, collection: Collection) -> list[Hit]:
    """Mark the images of the query's class. Other splits of its data set may contain it, other data sets do not.

    Args:
        hits: Images of one data set.
        query: The query.
        collection: The data set that was searched.
    """
    if query.collection in (None, collection):
        return hits
    name = query.class_name() if query.collection.dataset == collection.dataset else None
    return [replace(hit, relevant=hit.class_name == name) for hit in hits]


def _embedding(query: Query, model: Model) -> np.ndarray:
    parts = services()
    upload = query.upload
    if upload is None:
        assert query.collection is not None
        upload = parts.uploads.of_pixels(parts.pictures.pixels(query.collection, query.image_id))
    pixels = upload.pixels
    return parts.uploads.embedding(upload, model, lambda: parts.models.embed(model, pixels))
