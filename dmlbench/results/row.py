"""A result row: one finished run as flat columns.

A row maps snake_case columns, which `column_specs` declares, to scalars. It is self-contained: reading it requires neither
the code nor the configuration that produced it. Fractions are in [0, 1], times in seconds, memory in GiB.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.columns import REQUIRED, SCHEMA_VERSION, column, migrated, value_range
from dmlbench.system.regular_files import parse_json, read_json

MISSING = "missing"  # status of a run that was started but has no row
# Methods without training, and what they are called in sentences.
BASELINES = {"raw_pixels": "raw pixels", "untrained": "the untrained trunk"}
EXTERNAL = "external"  # the protocol of external embeddings
ADDED = "added"  # the preset of models that were trained elsewhere and added to the search application
ROUNDING = 1e-6  # by which the mean of a metric may exceed its range
LARGEST = 1e100  # larger numbers are not used, because sums and squares of them could overflow
# How training runs are evaluated, with the values of k of their data set (`split_recall_at`).
_EVALUATION_OF_RUNS = {"evaluation_distance": "inner_product", "evaluation_layer": "embedding"}
_SCALAR_TYPES = frozenset((str, int, float, bool, type(None)))


@dataclass(frozen=True)
class Row:
    """One finished run.

    Args:
        columns: Column name to scalar. Every column of `columns.REQUIRED` must be present with its type. They are brought up to
            date: see `columns.migrated`.
        folder: Directory from which it was read, which contains the other files of the run.

    Raises:
        UserError: A required column is missing or has another type, a column holds no scalar, or the row was written by a
            newer version.
    """

    columns: Mapping[str, Scalar]
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, kind in REQUIRED.items():
            if type(self.columns.get(name)) is not kind:  # true is an int, and no seed
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
        object.__setattr__(self, "columns", migrated(self.columns))

    def __getitem__(self, name: str) -> Scalar:
        return self.columns[name]

    def get(self, name: str, default: Scalar = None) -> Scalar:
        """Return the value of a column.

        Args:
            name: Name of the column.
            default: Value to return if the row does not have the column.
        """
        return self.columns.get(name, default)

    def number(self, name: str) -> float | None:
        """Return the value of a column as a finite number.

        Args:
            name: Name of the column.

        Returns:
            The number; None if the value is missing, not a number, outside the range of its metric, or beyond `LARGEST`.
        """
        value = self.columns.get(name)
        low, high = _range(name)
        if type(value) is float:  # the most frequent case
            return value if low <= value <= high else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if low <= value <= high else None

    @cached_property
    def _roles(self) -> _Roles:
        return _by_role(tuple(self.columns))

    @property
    def ok(self) -> bool:
        """Whether the run has results: it neither failed nor is unfinished."""
        return self.columns["status"] == "ok"

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.columns["seed"])  # type: ignore[arg-type]  # required to be an int

    @property
    def shared(self) -> dict[str, Scalar]:
        """The columns that must be equal in two rows that are compared.

        Settings of `dmlbench evaluate` that equal those of training runs are left out, because such runs do not have them.
        """
        shared = {name: self.columns[name] for name in self._roles.shared}
        if "evaluation_distance" not in shared:
            return shared
        usual = {**_EVALUATION_OF_RUNS, "evaluation_recall_at": shared.get("split_recall_at")}
        return {name: value for name, value in shared.items() if name not in usual or value != usual[name]}

    @property
    def method(self) -> dict[str, Scalar]:
        """The columns that describe the method: `loss` and its hyper-parameters."""
        return {name: self.columns[name] for name in self._roles.method}

    @property
    def metrics(self) -> dict[str, Scalar]:
        """The metrics as fractions, in the order of the row."""
        return {name: self.columns[name] for name in self._roles.metrics}

    @cached_property
    def kind(self) -> Hashable:
        """A value that is equal for two rows with equal shared columns and method; 1, 1.0 and true count as different."""
        names = self._roles.kind
        values = tuple(map(self.columns.__getitem__, names))
        return _same_object((names, values, tuple(map(type, values))))

    @property
    def outcome(self) -> dict[str, Scalar]:
        """All columns that the same plan and seed reproduce."""
        return {name: value for name, value in self.columns.items() if column(name).reproducible}

    @cached_property
    def overrides(self) -> tuple[str, ...] | None:
        """Values that were overridden on the command line, as `key=value`; None if they were not recorded.

        The column is null in rows of schema 1; their overrides are read from the file beside the row of the training run.
        """
        text = self.columns.get("overrides")
        folder = self.folder.parent if self.folder and self.columns.get("parent") else self.folder
        try:
            if isinstance(text, str):
                return _parsed_overrides(text)
            return None if folder is None else _texts(read_json(folder / run_files.OVERRIDES_SCHEMA_1))
        except (OSError, ValueError):
            return None


@lru_cache(256)
def _parsed_overrides(text: str) -> tuple[str, ...] | None:
    """Parse the column. The cache helps because the rows of a sweep have few different overrides."""
    return _texts(parse_json(text.encode()))


def _texts(found: Any) -> tuple[str, ...] | None:
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else None


@lru_cache(1024)
def _same_object(kind: Hashable) -> Hashable:
    """Return the same object for equal kinds, because identical objects are compared faster."""
    return kind


class _Roles(NamedTuple):
    shared: tuple[str, ...]
    method: tuple[str, ...]
    metrics: tuple[str, ...]
    kind: tuple[str, ...]


@lru_cache(256)
def _by_role(names: tuple[str, ...]) -> _Roles:
    """Group the columns of a row by role. The cache helps because thousands of rows have the same columns."""
    shared, method, metrics = (
        tuple(name for name in names if column(name).role == role) for role in ("shared", "method", "metric")
    )
    return _Roles(shared, method, metrics, tuple(sorted({*shared, *method})))


@lru_cache(1024)
def _range(name: str) -> tuple[float, float]:
    low, high = value_range(name)
    return max(low - ROUNDING, -LARGEST), min(high + ROUNDING, LARGEST)
