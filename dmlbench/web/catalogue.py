"""The finished runs that the application offers, found again when files appear, change or vanish. Imports no torch."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.pictures.saved_embeddings import SavedEmbeddings, read_saved, refuse_without_embeddings
from dmlbench.results import run_files
from dmlbench.results.class_files import class_names
from dmlbench.results.row import BASELINES, Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.tables.axis import Axis
from dmlbench.tables.grouping import ORDER, group_by_method, group_by_table
from dmlbench.tables.row_labels import row_labels
from dmlbench.web.least_used import LeastUsed

_AXIS = Axis("loss")
_KEY = re.compile(r"[\w.-]{1,100}", re.ASCII)
_SCAN_SECONDS = 1.0  # between two searches for runs; ten times the duration of a search if that is longer
_MAPPED_FILES = 128

Stamp = tuple[int, int, int]  # inode number, size, and time of the last change


@dataclass(frozen=True, eq=False)
class Model:
    """A finished run that has embeddings.

    Args:
        key: Its run id, which identifies it in addresses.
        row: Its row.
        method: Name of its method, unique among the comparable runs.
        group: Its fingerprint: runs with the same one are comparable.
        file: Its file of embeddings; of the first model if it has one per fold.
        stamp: Identity of that file.
    """

    key: str
    row: Row
    method: str
    group: str
    file: Path
    stamp: Stamp

    @property
    def label(self) -> str:
        """Name of the method, and the seed."""
        return f"{self.method}, seed {self.row.seed}"

    def class_name(self, label: int) -> str:
        """Return the name of a class.

        Args:
            label: Label of the class.
        """
        return self._class_names.get(str(label), f"class {label}")

    @cached_property
    def _class_names(self) -> dict[str, str]:
        return class_names(self.row)

    @property
    def order(self) -> tuple[int, str, int]:
        """Sort key: order of the losses in tables, then label and seed."""
        loss = str(self.row["loss"])
        return (ORDER.index(loss) if loss in ORDER else len(ORDER), self.method, self.row.seed)


@dataclass(frozen=True, eq=False)
class Collection:
    """The models of one data set with one split, which all search the same images.

    Args:
        key: Identifies it in addresses.
        label: Name of the data set in print.
        models: Models, in the order of tables.
    """

    key: str
    label: str
    models: tuple[Model, ...]

    @property
    def groups(self) -> dict[str, list[Model]]:
        """Models by fingerprint; the group with the most methods first."""
        found: dict[str, list[Model]] = {}
        for model in self.models:
            found.setdefault(model.group, []).append(model)
        return dict(sorted(found.items(), key=lambda item: (-len({one.row["loss"] for one in item[1]}), len(item[1]), item[0])))

    @property
    def defaults(self) -> list[Model]:
        """One model for each loss of the first group: lowest seed, and the learning rate nearest to the protocol's.

        No test score has an influence.
        """
        chosen: dict[str, Model] = {}
        for model in sorted(next(iter(self.groups.values())), key=_distance_from_default):
            chosen.setdefault(str(model.row["loss"]), model)
        return sorted(chosen.values(), key=lambda model: model.order)


@dataclass(frozen=True)
class Snapshot:
    """What was found at one time.

    Args:
        rows: All rows, also those without embeddings.
        collections: Data sets by key, by name.
        models: Models by key.
        skipped: Reason for each run that cannot be used, by path.
    """

    rows: tuple[Row, ...] = ()
    collections: Mapping[str, Collection] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def collection_of(self, model: Model) -> Collection:
        """Return the data set of a model.

        Args:
            model: One of `models`.
        """
        return self.collections[collection_key(model.row)]


class Catalogue:
    """Finds runs, and maps their embeddings into memory.

    Args:
        paths: Directories that contain runs, or files `row.json`. They may be missing.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._read: dict[Path, tuple[Stamp, Row | str]] = {}
        self._snapshot = Snapshot()
        self._next_scan = 0.0
        self._lock = threading.Lock()
        self._mapped: LeastUsed[tuple[Path, Stamp], SavedEmbeddings] = LeastUsed(_MAPPED_FILES)

    def snapshot(self) -> Snapshot:
        """Return what there is now; files are searched at most once per second."""
        if time.monotonic() >= self._next_scan and self._lock.acquire(blocking=not self._next_scan):
            try:
                began = time.monotonic()
                self._snapshot = self._scan()
                ended = time.monotonic()
                self._next_scan = ended + max(_SCAN_SECONDS, 10 * (ended - began))
            finally:
                self._lock.release()
        return self._snapshot

    def embeddings(self, model: Model) -> SavedEmbeddings:
        """Return the embeddings of a model, whose rows stay in their file.

        Args:
            model: A model.

        Raises:
            UserError: The file has vanished, or is not what the run wrote.
        """
        stamp = _stamp(model.file)  # a mapped file that has become shorter would end the process
        if stamp is None:
            raise UserError(f"the embeddings of {model.key} are no longer there")
        return self._mapped.get((model.file, stamp), lambda: read_saved(model.row))

    def _scan(self) -> Snapshot:
        rows: list[Row] = []
        skipped: dict[str, str] = {}
        known: dict[Path, tuple[Stamp, Row | str]] = {}
        for path in find_rows(*self.paths):
            stamp = _stamp(path)
            if stamp is None:
                continue
            last = self._read.get(path)
            known[path] = last if last and last[0] == stamp else (stamp, _row_or_reason(path))
            found = known[path][1]
            if isinstance(found, Row):
                rows.append(found)
            else:
                skipped[str(path)] = found
        if self._is_unchanged(known):
            return self._snapshot
        self._read = known
        models = {model.key: model for model in sorted(_models(rows, skipped), key=lambda model: model.order)}
        by_split: dict[str, list[Model]] = {}
        for model in models.values():
            by_split.setdefault(collection_key(model.row), []).append(model)
        labels = _collection_labels({key: found[0].row for key, found in by_split.items()})
        collections = {key: Collection(key, labels[key], tuple(found)) for key, found in by_split.items()}
        ordered = dict(sorted(collections.items(), key=lambda item: (item[1].label, item[0])))
        return Snapshot(tuple(rows), ordered, models, skipped)

    def _is_unchanged(self, known: Mapping[Path, tuple[Stamp, Row | str]]) -> bool:
        """Return whether the rows and the embeddings are those of the last search; embeddings may be copied after a row."""
        last = self._snapshot
        same = {path: one[0] for path, one in known.items()} == {path: one[0] for path, one in self._read.items()}
        return same and not last.skipped and all(_stamp(one.file) == one.stamp for one in last.models.values())


def collection_key(row: Row) -> str:
    """Return the key of the data set and split of a row.

    Args:
        row: Row of a run.
    """
    return re.sub(r"[^\w.-]", "_", f"{row['dataset']}-{str(row.get('split_digest'))[:8]}", flags=re.ASCII)


def _models(rows: Sequence[Row], skipped: dict[str, str]) -> Iterator[Model]:
    for group in group_by_table([row for row in rows if row.ok and row.get("parent") is None], _AXIS):
        methods, _ = group_by_method(group)
        labels = row_labels([next(iter(seeds.values())) for seeds in methods.values()], _AXIS)
        for label, seeds in zip(labels, methods.values(), strict=True):
            for row in seeds.values():
                model = _model(row, label)
                if isinstance(model, Model):
                    yield model
                else:
                    skipped[str(row.folder)] = model


def _model(row: Row, label: str) -> Model | str:
    """Return the model of a row, or why it cannot be used."""
    try:
        refuse_without_embeddings(row)
    except UserError as error:
        return str(error)
    assert row.folder is not None
    key = str(row["run_id"])
    if not _KEY.fullmatch(key):
        return "its run id contains other characters than letters, digits, points and dashes"
    part = sorted(row.folder.glob("fold[0-9]*/"))[:1] if row.get("n_models", 1) != 1 else []
    file = (part or [row.folder])[0] / run_files.EMBEDDINGS
    stamp = _stamp(file)
    if stamp is None:
        return f"it has no {run_files.EMBEDDINGS}"
    return Model(key, row, label, str(row["fingerprint"]), file, stamp)


def _collection_labels(rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the names of data sets; if two have the same name, their splits are added."""
    labels = {key: str(row.get("dataset_label") or row["dataset"]) for key, row in rows.items()}
    names = list(labels.values())
    return {
        key: label if names.count(label) == 1 else f"{label}, split {str(rows[key].get('split_digest'))[:8]}"
        for key, label in labels.items()
    }


def _distance_from_default(model: Model) -> tuple[int, float, str]:
    rate, usual = model.row.number("loss_lr"), model.row.number("protocol_lr")
    known = rate is not None and usual is not None and rate > 0 and usual > 0 and model.row["loss"] not in BASELINES
    return model.row.seed, abs(math.log(rate / usual)) if known else 0.0, model.key  # type: ignore[operator]


def _row_or_reason(path: Path) -> Row | str:
    try:
        return read_row(path)
    except UserError as error:
        return str(error)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
