"""Floor 2: the schema of a result, which the training tower writes and the paper tower reads.

A row is one finished run: a flat mapping of snake_case columns to scalars. It stands alone: reading it needs none of the
code that made it. Fractions lie in [0, 1], times are in seconds, memory in GiB; percent appears in `render` alone.

Columns come in these families (`n_` counts, `_seconds` and `_gib` say their unit):

    identity   schema_version run_id fingerprint method_digest status (ok | failed) reason (null unless failed)
    what       dataset dataset_label trunk trunk_label loss loss_label seed protocol
    shared     stands in `SHARED` or starts with one of `SHARED_PREFIXES`: must be equal to compare. So
               trunk_weights_sha256, protocol_version, protocol_epochs, optimizer_betas, split_digest, split_seed ...
               evaluation_*: what was done otherwise by `dmlbench evaluate`, whose row also names its `parent`
               tuning_*: how the method's values were searched for; tuning_trials, for each method alike
    method     loss_*: the method's own values, which may differ between two compared rows: loss_kind,
               loss_samples_per_class, loss_lr_scale, loss_make_la, loss_miner_epsilon ...
    chosen     selected_on selected_epoch
    counts     n_train_images n_train_classes n_queries n_excluded n_gallery n_test_classes n_images_skipped ...
    metrics    what `measures` declares: recall_at_<k> map_at_r macro_map_at_r nmi ...; with a model a fold also
               concatenated_<metric>, and separated_<metric>, which the plain names repeat; a failed row has none
    clusters   n_clusters n_clusterings cluster_init cluster_seed, and the spread nmi_std ...
    machine    device *_version code_revision
    cost       `COST`: differs from one machine and moment to the next, and never decides anything
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlbench.errors import UserError
from dmlbench.measures import column_of

SCHEMA_VERSION = 1
ROW_FILE = "row.json"
PER_QUERY = "per_query.safetensors"  # beside it: ids, labels, and a vector a metric
UNTRAINED = "untrained"  # the loss of the trunk as it came
EXTERNAL = "external"  # the protocol of embeddings from elsewhere

Scalar = str | int | float | bool | None

# What must stand in every row, whatever made it.
REQUIRED: dict[str, type] = {
    "schema_version": int,
    "run_id": str,
    "fingerprint": str,
    "method_digest": str,
    "status": str,
    "dataset": str,
    "trunk": str,
    "loss": str,
    "seed": int,
    "protocol": str,
}

# The columns that must be equal before two rows may stand side by side; the fingerprint is the digest of just these.
# A shared column that interpolates into the method keeps its text (`${loss.samples_per_class}`): all rows agree on it.
SHARED = ("dataset", "trunk", "preset", "protocol", "optimizer", "sampler", "precision")
SHARED_PREFIXES = ("split_", "trunk_", "protocol_", "optimizer_", "sampler_", "evaluation_", "tuning_")
NOT_SHARED = ("trunk_label", "trunk_weights")  # names in print; the weights' digest decides

# The columns that differ from one machine and moment to the next. Equality of rows is promised for all others.
COST = (
    "train_seconds",
    "evaluate_seconds",
    "images_per_second",
    "memory_gib",
    "finished_at",
    "n_resumed",
    "hostname",
)


@dataclass(frozen=True)
class Row:
    """One finished run.

    Args:
        columns: column name to scalar; every column of `REQUIRED` is there with its type.
        folder: where it was read from, with what lies beside it.

    Raises:
        UserError: a required column is missing or has another type, a column holds no scalar, or the schema is newer than
            this program.
    """

    columns: Mapping[str, Scalar]
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, kind in REQUIRED.items():
            if not isinstance(self.columns.get(name), kind):
                raise UserError(f"a row needs the column '{name}' ({kind.__name__}), not {self.columns.get(name)!r}")
        for name, value in self.columns.items():
            if value is not None and not isinstance(value, str | int | float):
                raise UserError(f"a row's column '{name}' holds {value!r}; it needs a text, a number, a boolean or null")
        version = self.columns["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UserError(
                f"a row of schema {version} was written by a newer dmlbench; this one reads schemas up to {SCHEMA_VERSION}"
            )

    def __getitem__(self, name: str) -> Scalar:
        return self.columns[name]

    def get(self, name: str, default: Scalar = None) -> Scalar:
        """The column's value, or `default` where the row lacks it."""
        return self.columns.get(name, default)

    def number(self, name: str) -> float | None:
        """The column as a finite number, or None: a boolean, a text and NaN are none."""
        value = self.columns.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    @property
    def ok(self) -> bool:
        """Whether the run ended with numbers (`status` is `ok`) and not as a failed method."""
        return self.columns["status"] == "ok"

    @property
    def shared(self) -> dict[str, Scalar]:
        """The columns that must be equal before this row may stand beside another."""
        return {name: value for name, value in self.columns.items() if is_shared(name)}

    @property
    def metrics(self) -> dict[str, Scalar]:
        """The columns that are metrics, in the row's order; fractions."""
        return {name: value for name, value in self.columns.items() if is_metric(name)}

    @property
    def outcome(self) -> dict[str, Scalar]:
        """Every column but the cost: what the same plan and seed always give again."""
        return {name: value for name, value in self.columns.items() if name not in COST}


def is_shared(column: str) -> bool:
    """Whether two rows must agree in this column to be compared."""
    return column in SHARED or (column.startswith(SHARED_PREFIXES) and column not in NOT_SHARED)


def is_metric(column: str) -> bool:
    """Whether the column is a metric that tables compare.

    >>> is_metric("recall_at_10"), is_metric("recall_speed"), is_metric("tied_share")
    (True, False, False)
    """
    found = column_of(column)
    return found is not None and found.measure.kind != "diagnostic"


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: into a temporary file beside it, then by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_row(folder: Path, row: Row) -> Path:
    """Write `folder/row.json`; its existence means that the run is done.

    Args:
        folder: the run's folder, made if need be.
        row: what to write; non-finite floats are refused, for JSON has none.

    Returns:
        The file's path.
    """
    for name, value in row.columns.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"column '{name}' is {value}; a row holds finite numbers or null")
    path = folder / ROW_FILE
    write_text(path, json.dumps(dict(row.columns), indent=1, ensure_ascii=False) + "\n")
    return path


def read_row(path: Path) -> Row:
    """Read one `row.json`.

    Raises:
        UserError: the file is no row (torn, foreign, of a newer schema); the sentence names it.
    """
    try:
        columns: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(columns, dict):
            raise UserError("it holds no object")
        return Row(columns, path.parent)
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{path} is not a row of dmlbench: {error}") from None


def find_rows(*places: Path) -> Iterator[Path]:
    """Every `row.json` at or below the given folders or files, each once, in the order of their paths."""
    found: set[Path] = set()
    for place in places:
        found.update([place] if place.is_file() else place.rglob(ROW_FILE))
    yield from sorted(found)
