"""Floor 2: the schema of a result, which the training tower writes and the paper tower reads.

A row is one finished run: a flat mapping of snake_case columns to scalars. It stands alone: reading it needs none of the
code that made it. Fractions lie in [0, 1], times are in seconds, memory in GiB; percent appears in `render` alone.

Columns come in these families (`n_` counts, `_seconds` and `_gib` say their unit):

    identity   schema_version run_id fingerprint method_digest status (ok | failed) reason (null unless failed)
               While a run has no row, its `PLAN_FILE` holds what the row will begin with: read, a row of status `missing`
    what       dataset dataset_label trunk trunk_label loss loss_label seed protocol
    shared     stands in `SHARED` or starts with one of `SHARED_PREFIXES`: must be equal to compare. So
               trunk_weights_sha256, protocol_version, protocol_epochs, optimizer_betas, split_digest, split_seed ...
               evaluation_*: what was done otherwise by `dmlbench evaluate`, whose row also names its `parent`
               tuning_*: how the method's values were searched for; tuning_trials, for each method alike
    method     loss_*: the method's own values, which may differ between two compared rows: loss_kind,
               loss_samples_per_class, loss_lr_scale, loss_make_la, loss_miner_epsilon ...
    chosen     selected_on selected_epoch
    tuned      the budget, tuning_*, is shared (tuning_trials tuning_fold ..., absent where nothing was tuned); what came of it
               is not: tuned_values (JSON) tuned_score (validation MAP@R) tuned_trial tuned_space n_tuning_pruned ...
    counts     n_train_images n_train_classes n_queries n_excluded n_gallery n_test_classes n_images_skipped ...
    metrics    what `measures` declares: recall_at_<k> map_at_r macro_map_at_r nmi ...; with a model a fold also
               concatenated_<metric>, and separated_<metric>, which the plain names repeat; a failed row has none
    sentinels  effective_rank n_proxies n_dead_proxies (of the method's own vectors, those that never moved), sums over models
    clusters   n_clusters n_clusterings cluster_init cluster_seed, and the spread nmi_std ...
    machine    device *_version code_revision
    cost       `COST`: differs from one machine and moment to the next, and never decides anything
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dmlbench.errors import UserError
from dmlbench.measures import column_of
from dmlbench.unfinished import why_unfinished

SCHEMA_VERSION = 1
ROW_FILE = "row.json"
PLAN_FILE = "plan.json"  # in its stead while a run has not ended
# Beside it:
PER_QUERY = "per_query.safetensors"  # ids, labels, and a vector a metric
CLASSES = "classes.json"  # the name of each class that was tested, by its label
HISTORY = "history.jsonl"  # a line an epoch
CHECKPOINT = "checkpoint.pt"  # all that resuming needs; gone once the row exists
WORDS = "words.json"  # the overrides that the run was made of

MISSING = "missing"  # the status of a run that has begun and has no row
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
    "features_seconds",
    "train_seconds",
    "evaluate_seconds",
    "tuned_hours",
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
        if not _SCALAR_TYPES.issuperset(map(type, self.columns.values())):
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
        """The column as a finite number, or None: a boolean, a text, NaN and a measure outside its range are none."""
        value = self.columns.get(name)
        low, high = _range(name)
        if type(value) is float:  # as nearly always
            return value if low <= value <= high else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if low <= value <= high else None

    @property
    def ok(self) -> bool:
        """Whether the run ended with numbers (`status` is `ok`) and not as a failed method."""
        return self.columns["status"] == "ok"

    @property
    def shared(self) -> dict[str, Scalar]:
        """The columns that must be equal before this row may stand beside another."""
        return {name: self.columns[name] for name in _families(tuple(self.columns)).shared}

    @property
    def metrics(self) -> dict[str, Scalar]:
        """The columns that are metrics, in the row's order; fractions."""
        return {name: self.columns[name] for name in _families(tuple(self.columns)).metrics}

    @cached_property
    def kind(self) -> Hashable:
        """Equal where two rows agree in every shared column and every one of the method; 1, 1.0 and true do not."""
        names = _families(tuple(self.columns)).kind
        values = tuple(map(self.columns.__getitem__, names))
        return names, values, tuple(map(type, values))

    @property
    def outcome(self) -> dict[str, Scalar]:
        """Every column but the cost: what the same plan and seed always give again."""
        return {name: value for name, value in self.columns.items() if name not in COST}


ROUNDING = 1e-6  # by which a mean may miss its measure's range
_SCALAR_TYPES = frozenset((str, int, float, bool, type(None)))


class _Families(NamedTuple):
    shared: tuple[str, ...]
    metrics: tuple[str, ...]
    kind: tuple[str, ...]


@lru_cache(256)
def _families(names: tuple[str, ...]) -> _Families:
    """Which of a row's columns are what; thousands of rows have the same columns."""
    shared = tuple(filter(is_shared, names))
    own = (name for name in names if name == "loss" or name.startswith("loss_"))
    return _Families(shared, tuple(filter(is_metric, names)), tuple(sorted({*shared, *own})))


@lru_cache(1024)
def _range(column: str) -> tuple[float, float]:
    """The least and the greatest number that a column may hold; of a measure, but for rounding, its own."""
    found = column_of(column)
    low, high = (found.measure.low, found.measure.high) if found else (-math.inf, math.inf)
    return max(low - ROUNDING, -sys.float_info.max), min(high + ROUNDING, sys.float_info.max)


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


def write_row(folder: Path, row: Row, name: str = ROW_FILE) -> Path:
    """Write `folder/row.json`; its existence means that the run is done.

    Args:
        folder: the run's folder, made if need be.
        row: what to write; non-finite floats are refused, for JSON has none.
        name: of the file; `PLAN_FILE` for what is known of a row before its run has ended.

    Returns:
        The file's path.
    """
    for column, value in row.columns.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"column '{column}' is {value}; a row holds finite numbers or null")
    path = folder / name
    write_text(path, json.dumps(dict(row.columns), indent=1, ensure_ascii=False) + "\n")
    return path


def read_row(path: Path) -> Row:
    """Read one `row.json`.

    Raises:
        UserError: the file is no row (torn, foreign, of a newer schema); the sentence names it.
    """
    row, reason = _read(str(path))
    if row is None:
        raise UserError(f"{path} is not a row of dmlbench: {reason}")
    return row


def _read(path: str) -> tuple[Row | None, str]:
    """A row, or None and why it is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
        columns: Any = json.loads(data.decode())
        if b"\\ud" in data or b"\\uD" in data:  # perhaps half a character, which nothing can print
            json.dumps(columns, ensure_ascii=False).encode()
        if not isinstance(columns, dict):
            return None, "it holds no object"
        return Row(columns, Path(os.path.dirname(path))), ""
    except OSError as error:
        return None, error.strerror or str(error)
    except RecursionError:  # of brackets, thousands deep
        return None, "it is no JSON that a row could be"
    except UnicodeEncodeError:
        return None, "its text is no Unicode"
    except (ValueError, UserError) as error:
        return None, str(error)


class Refused(NamedTuple):
    """A file or folder that no row could be read from, and a clause that says why."""

    path: str
    reason: str


def read_rows(*places: Path) -> tuple[list[Row], list[Refused]]:
    """Read every row at or below some places, and every run there that has begun and has no row.

    Args:
        places: folders, where what is no row is left out; or files, which must be rows.

    Returns:
        The rows in the order of their paths, then those of status `missing`, without runs that another folder has a row of;
        and what was left out.

    Raises:
        UserError: a named file is no row.
    """
    rows = {str(place): read_row(place) for place in places if place.is_file()}
    files, plans, refused = _found(place for place in places if not place.is_file())
    for path in files:
        if path not in rows:
            row, reason = _read(path)
            if row is None:
                refused.append(Refused(path, reason))
            else:
                rows[path] = row
    ended = [rows[path] for path in sorted(rows, key=_parts)]
    ids = {row["run_id"] for row in ended}
    missing: dict[Scalar, Row] = {}
    for path in plans:
        row, reason = _read_unfinished(path)
        if row is None:
            refused.append(Refused(path, reason))
        elif row["run_id"] not in ids:
            missing[row["run_id"]] = row
    return [*ended, *missing.values()], sorted(refused)


def _read_unfinished(path: str) -> tuple[Row | None, str]:
    """The row that a plan stands for: of status `missing`, or that of a run which ended while we looked."""
    plan, reason = _read(path)
    folder = os.path.dirname(path)
    why = why_unfinished(Path(folder))
    if os.path.isfile(ended := os.path.join(folder, ROW_FILE)):
        return _read(ended)
    if plan is None:
        return None, reason
    return replace(plan, columns={**plan.columns, "status": MISSING, "reason": why}), ""


def find_rows(*places: Path) -> Iterator[Path]:
    """Every `row.json` at or below the given folders or files, each once, in the order of their paths."""
    files = {str(place) for place in places if place.is_file()}
    files.update(_found(place for place in places if not place.is_file())[0])
    yield from map(Path, sorted(files, key=_parts))


def _parts(path: str) -> list[str]:
    return path.split(os.sep)


def _found(folders: Iterable[Path]) -> tuple[list[str], list[str], list[Refused]]:
    """The rows below some folders, the plans that have no row beside them, and what cannot be looked at.

    Links to folders are not followed, for they may lead in a circle.
    """
    rows, plans, refused = set(), set(), set()
    left = [str(folder) for folder in folders]
    while left:
        folder = left.pop()
        prefix = "" if folder == os.curdir else os.path.join(folder, "")
        seen = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name in (ROW_FILE, PLAN_FILE):
                        seen[entry.name] = _no_file(entry)
                    elif entry.is_dir(follow_symlinks=False):
                        left.append(prefix + entry.name)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            refused.add(Refused(folder, error.strerror or str(error)))
        if why := seen.get(ROW_FILE):
            refused.add(Refused(prefix + ROW_FILE, why))
        elif ROW_FILE in seen:
            rows.add(prefix + ROW_FILE)
        elif seen.get(PLAN_FILE) == "":
            plans.add(prefix + PLAN_FILE)
    return sorted(rows, key=_parts), sorted(plans, key=_parts), list(refused)


def _no_file(entry: os.DirEntry[str]) -> str:
    """Why an entry of a folder is no file to read; empty where it is one."""
    try:
        if entry.is_file():
            return ""
        if entry.is_dir():
            return "it is a folder"
    except OSError as error:  # a link to itself
        return error.strerror or str(error)
    return "it is a link to nothing" if entry.is_symlink() else "it is no regular file"
