"""Downloads with their SHA-256: embeddings, rows, scores, paths of images, and tables. No request supplies a path."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, render_template
from werkzeug.wrappers import Response as AnyResponse

from dmlbench.results import run_files
from dmlbench.results.formatting import spreadsheet_cell
from dmlbench.system.regular_files import MAX_TEXT_BYTES, open_regular, sha256
from dmlbench.tables.formats import FORMATS, render
from dmlbench.tables.table import compare
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.run_state import Run, Stamp
from dmlbench.web.services import chosen_collection, services, snapshot, whole_number
from dmlbench.web.snapshot import Collection, Model, Snapshot

PAGES = Blueprint("downloads", __name__, url_prefix="/downloads")
_PER_PAGE = 10
_PART_BYTES = 2**20
_MOST_HASHED = 2**33
# Files of a run that are offered. The model is not among them: nobody should load a pickle from elsewhere.
_FILES = {
    run_files.ROW: "row",
    run_files.EMBEDDINGS: "embeddings",
    run_files.PER_QUERY: "scores per query",
    run_files.CLASSES: "names of classes",
    run_files.HISTORY: "history of training",
}
_TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/plain", "md": "text/plain", "tex": "text/plain"}
_hashes: LeastUsed[tuple[str, int, int, int], str] = LeastUsed(10_000)
_tables: LeastUsed[tuple[str, tuple[Stamp, ...]], dict[str, str]] = LeastUsed(8)


@PAGES.get("")
def _overview() -> str:
    collection = chosen_collection()
    page = whole_number("others", 0, 0, 10**6)
    models = list(collection.models) if collection else []
    shown = models[page * _PER_PAGE : (page + 1) * _PER_PAGE]
    return render_template(
        "downloads.html",
        page="downloads",
        collections=snapshot().collections,
        collection=collection,
        models=[(model, list(_listed(model))) for model in shown],
        number=page,
        n_pages=-(-len(models) // _PER_PAGE),
        skipped=snapshot().skipped,
    )


@PAGES.get("/tables/<key>")
def _tables_page(key: str) -> str:
    collection = _collection(key)
    listed = [
        (name, len(text.encode()), hashlib.sha256(text.encode()).hexdigest()) for name, text in _rendered(collection).items()
    ]
    return render_template(
        "tables.html", page="downloads", collection=collection, tables=listed, text=_rendered(collection)["markdown"]
    )


@PAGES.get("/tables/<key>/<name>")
def _table(key: str, name: str) -> AnyResponse:
    rendered = _rendered(_collection(key))
    if name not in rendered:
        abort(404, "There is no such format.")
    return _attached(rendered[name], f"{key}{FORMATS[name]}")


@PAGES.get("/images/<key>.csv")
def _images(key: str) -> AnyResponse:
    return _attached(_path_map(_collection(key)), f"{key}-images.csv")


@PAGES.get("/runs/<key>/<name>")
def _file(key: str, name: str) -> AnyResponse:
    model = snapshot().models.get(key)
    if model is None or name not in _FILES:
        abort(404, "There is no such file (any more).")
    try:
        stream = open_regular(_path(model, name))
    except OSError:
        abort(404, "There is no such file (any more).")
    size = os.fstat(stream.fileno()).st_size

    def parts() -> Iterator[bytes]:
        with stream:
            while part := stream.read(_PART_BYTES):
                yield part

    response = Response(parts(), mimetype=_TYPES.get(name.rpartition(".")[2], "application/octet-stream"))
    response.headers["Content-Length"] = str(size)
    response.headers["Content-Disposition"] = f"attachment; filename={key}-{name}"
    return response


def _collection(key: str) -> Collection:
    found = snapshot().collections.get(key)
    if found is None:
        abort(404, "There is no such data set (any more).")
    return found


def _path(model: Model, name: str) -> Path:
    return model.file if name == run_files.EMBEDDINGS else Path(model.row.folder or "") / name


def _listed(model: Model) -> Iterator[dict[str, Any]]:
    """Return the files of a run that exist, with size and SHA-256."""
    for name, meaning in _FILES.items():
        path = _path(model, name)
        try:
            status = path.lstat()
            identity = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
            limit = _MOST_HASHED if name.endswith(".safetensors") else MAX_TEXT_BYTES
            digest = "too large to be computed"
            if status.st_size <= limit:
                digest = _hashes.get(identity, lambda path=path: sha256(path))  # type: ignore[misc]
        except OSError:
            continue
        yield {"name": name, "meaning": meaning, "bytes": status.st_size, "sha256": digest}


def _rendered(collection: Collection) -> dict[str, str]:
    """Return the tables of a data set in all formats, as `dmlbench table` prints them."""
    runs = _runs(collection, snapshot())
    key = collection.key, tuple(run.stamp for run in runs)

    def make() -> dict[str, str]:
        tables = compare([run.row for run in runs if run.row], config_dir=services().settings.config_dir)
        return {name: render(tables, name) for name in FORMATS}

    return _tables.get(key, make)


def _runs(collection: Collection, found: Snapshot) -> list[Run]:
    """Return all runs of a data set, also failed ones, which tables list."""
    first = collection.models[0].row
    same = ("dataset", "split_digest")
    return [run for run in found.runs if run.row and all(run.row.get(name) == first.get(name) for name in same)]


def _path_map(collection: Collection) -> str:
    """Return a CSV file with the path, class and roles of every image that has an embedding."""
    model = collection.models[0]
    embeddings, files = services().catalogue.embeddings(model), services().pictures.files(collection)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "path", "label", "class_name", "is_query", "is_gallery"])
    for i, image_id in enumerate(embeddings.ids.tolist()):
        path = files.paths[files.index[image_id]] if image_id in files.index else ""
        label = int(embeddings.labels[i])
        roles = (bool(embeddings.is_query[i]), bool(embeddings.is_gallery[i]))
        writer.writerow(map(spreadsheet_cell, (image_id, path, label, model.class_name(label), *roles)))
    return out.getvalue()


def _attached(text: str, name: str) -> AnyResponse:
    response = Response(text, mimetype=_TYPES.get(name.rpartition(".")[2], "text/plain"))
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    response.headers["X-SHA256"] = hashlib.sha256(text.encode()).hexdigest()
    return response
