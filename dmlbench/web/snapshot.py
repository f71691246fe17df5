"""What the application offers: finished runs as models, grouped by data set. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dmlbench.results.class_files import class_names
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.axis import Axis
from dmlbench.tables.grouping import ORDER, group_by_method, group_by_table
from dmlbench.tables.row_labels import row_labels
from dmlbench.web.run_state import Run, Stamp, embeddings_file

ADDED = "added"  # loss of models that were trained elsewhere
_AXIS = Axis("loss")


@dataclass(frozen=True, eq=False)
class Model:
    """A finished run that has embeddings.

    Args:
        key: Its run id, which identifies it in addresses.
        row: Its row.
        method: Name of its method, unique among the comparable runs.
        group: Its fingerprint: runs with the same one are comparable.
        stamp: Identity of its files. Everything that is computed from them is remembered by it.
    """

    key: str
    row: Row
    method: str
    group: str
    stamp: Stamp

    @property
    def label(self) -> str:
        """Name of the method, and the seed."""
        return f"{self.method}, seed {self.row.seed}"

    @property
    def file(self) -> Path:
        """Its file of embeddings; of the first model if it has one per fold."""
        return embeddings_file(self.row)

    @property
    def trained(self) -> bool:
        """Whether it is not a baseline."""
        return self.row.get("loss_kind") != "none"

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
    def dataset(self) -> str:
        """Name of the data set, which other splits of it have too."""
        return str(self.models[0].row["dataset"])

    @cached_property
    def stamp(self) -> tuple[Stamp, ...]:
        """Identity of the files of its models."""
        return tuple(model.stamp for model in self.models)

    @property
    def groups(self) -> dict[str, list[Model]]:
        """Models by fingerprint; the group with the most methods first."""
        found: dict[str, list[Model]] = {}
        for model in self.models:
            found.setdefault(model.group, []).append(model)
        return dict(sorted(found.items(), key=lambda item: (-len({one.row["loss"] for one in item[1]}), len(item[1]), item[0])))

    @property
    def defaults(self) -> list[Model]:
        """One model for each loss of the first group, and models that were added.

        Of a loss, it is the one with the lowest seed and the learning rate nearest to the protocol's. No test score has an
        influence.
        """
        chosen: dict[str, Model] = {}
        for model in sorted(next(iter(self.groups.values())), key=_distance_from_default):
            chosen.setdefault(str(model.row["loss"]), model)
        own = sorted((one for loss, one in chosen.items() if loss != ADDED), key=lambda model: model.order)
        return [*own, *(model for model in self.models if model.row["loss"] == ADDED)]

    @property
    def default(self) -> Model:
        """The first of `defaults` that is trained."""
        return next((model for model in self.defaults if model.trained), self.defaults[0])


@dataclass(frozen=True)
class Snapshot:
    """What was found at one time.

    Args:
        runs: All runs with a row, also those without embeddings.
        collections: Data sets by key, by name.
        models: Models by key.
        skipped: Reason for each run that cannot be used, by path.
        refused: The same, by run id.
    """

    runs: tuple[Run, ...] = ()
    collections: Mapping[str, Collection] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def collection_of(self, model: Model) -> Collection:
        """Return the data set of a model.

        Args:
            model: One of `models`.
        """
        return self.collections[collection_key(model.row)]


def make_snapshot(runs: Mapping[Path, Run]) -> Snapshot:
    """Group runs by data set.

    Args:
        runs: Runs by the path of their row.
    """
    skipped = {str(path): run.problem for path, run in runs.items() if run.problem is not None}
    refused = {str(run.row["run_id"]): run.problem for run in runs.values() if run.row and run.problem is not None}
    models: dict[str, Model] = {}
    usable = [run for run in runs.values() if run.is_usable]
    for model in sorted(_models(usable, skipped), key=lambda model: model.order):
        if models.setdefault(model.key, model) is not model:
            skipped[str(model.row.folder)] = f"{models[model.key].row.folder} has the same run id"
    by_split: dict[str, list[Model]] = {}
    for model in models.values():
        by_split.setdefault(collection_key(model.row), []).append(model)
    labels = _collection_labels({key: found[0].row for key, found in by_split.items()})
    collections = {key: Collection(key, labels[key], tuple(found)) for key, found in by_split.items()}
    ordered = dict(sorted(collections.items(), key=lambda item: (item[1].label, item[0])))
    return Snapshot(tuple(run for run in runs.values() if run.row), ordered, models, skipped, refused)


def collection_key(row: Row) -> str:
    """Return the key of the data set and split of a row.

    Args:
        row: Row of a run.
    """
    return re.sub(r"[^\w.-]", "_", f"{row['dataset']}-{str(row.get('split_digest'))[:8]}", flags=re.ASCII)


def _models(runs: Sequence[Run], skipped: dict[str, str]) -> Iterator[Model]:
    """Return one model for each method and seed; another run of it is skipped."""
    stamps = {id(run.row): run.stamp for run in runs}
    for group in group_by_table([run.row for run in runs if run.row], _AXIS):
        methods, _ = group_by_method(group)
        labels = row_labels([next(iter(seeds.values())) for seeds in methods.values()], _AXIS)
        for label, seeds in zip(labels, methods.values(), strict=True):
            for row in seeds.values():
                yield Model(str(row["run_id"]), row, label, str(row["fingerprint"]), stamps.pop(id(row)))
    for run in runs:
        if id(run.row) in stamps and run.row:
            skipped[str(run.row.folder)] = "another run has the same method, protocol and seed"


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
