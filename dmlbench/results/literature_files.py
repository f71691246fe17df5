"""Read and check files of published results.

One file describes one source and contains the tables taken from it. Numbers are transcribed as printed and converted to
fractions when they are read.

    cite: "Qian et al., SoftTriple loss, ICCV 2019"
    arxiv: "1909.05235"                                 optional
    tables:
      - where: Table 2                                  number of the table in the source
        kind: comparison                                or ablation (variants of one method), or validation (no test numbers)
        unit: percent                                   or fraction
        split: zero_shot                                name of the split rule, or a description of another split
        clusters_per_class: 1                           of clustering metrics; 1 if it is left out
        columns: {cub: [recall_at_1, nmi]}              data set to columns: metrics, or names explained in `other`
        rows:
          - {label: SoftTriple, trunk: bn_inception, embedding_dim: 512, cub: [65.4, 69.3 ± 0.2]}

A missing value is `~`. If `trunk`, `embedding_dim` or `image_px` is the same in all rows of a table, it may be given beside
`columns`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dmlbench.errors import UserError, suggest
from dmlbench.results.metric_specs import CONCATENATED, parse_metric
from dmlbench.results.published_result import KINDS, PublishedResult, PublishedTable, Source

UNITS = {"percent": 100.0, "fraction": 1.0}  # with the value that stands for 1
MISSING_VALUE = "~"

_FILE_KEYS = {"cite", "arxiv", "tables"}
_SHARED_ROW_KEYS = {"trunk", "embedding_dim", "image_px"}
_TABLE_KEYS = {
    "where",
    "kind",
    "unit",
    "split",
    "note",
    "plus_minus",
    "other",
    "columns",
    "rows",
    "clusters_per_class",
} | _SHARED_ROW_KEYS
_ROW_KEYS = {"label", "cite", "note"} | _SHARED_ROW_KEYS
_TEXT_KEYS = {"cite", "arxiv", "where", "kind", "unit", "split", "note", "plus_minus", "label", "trunk"}
_NUMBER = re.compile(r"(\d*\.?\d+)(?: ± (\d*\.?\d+))?")


def read_tables(folder: Path) -> tuple[PublishedTable, ...]:
    """Read the published tables of a directory.

    Args:
        folder: Directory of YAML files; it need not exist.

    Returns:
        The tables of each file in their order; files in the order of their names.

    Raises:
        UserError: A file is not in the required form; the message names the file and the table.
    """
    return tuple(table for file in sorted(folder.glob("*.yaml")) for table in _read(file))


def _read(file: Path) -> Iterator[PublishedTable]:
    content = _require_mapping(_load(file), str(file), _FILE_KEYS, {"cite", "tables"})
    for number, table in enumerate(_require_list(content["tables"], f"{file}, tables"), 1):
        yield _table(file.stem, content, table, f"{file}, table {number}")


def _load(file: Path) -> Any:
    """Load a file with every scalar as its text, so that 70.0 stays 70.0."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return yaml.load(file.read_text(encoding="utf-8"), loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None


def _table(name: str, content: Mapping[str, Any], values: Any, location: str) -> PublishedTable:
    """Make a table.

    Args:
        name: Stem of the file.
        content: Content of the file.
        values: The table, as loaded.
        location: File and number of the table, for error messages.
    """
    table = _require_mapping(values, location, _TABLE_KEYS, {"where", "kind", "unit", "columns", "rows"})
    for key, known in (("kind", KINDS), ("unit", tuple(UNITS))):
        if table[key] not in known:
            raise UserError(f"{location}: {key} is {table[key]!r}{suggest(table[key], known)}")
    details = {key: table[key] for key in ("where", "kind", "split", "note", "plus_minus") if key in table}
    clusters = _whole_number(table.get("clusters_per_class", "1"), f"{location}: clusters_per_class")
    source = Source(cite=content["cite"], arxiv=content.get("arxiv"), **details, clusters_per_class=clusters)
    other = _require_mapping(table.get("other", {}), f"{location}, other")
    columns = _columns(table["columns"], other, location)
    shared = {key: table[key] for key in _SHARED_ROW_KEYS if key in table}
    results: list[PublishedResult] = []
    for row in _require_list(table["rows"], f"{location}, rows"):
        results += _results(shared, row, columns, source, UNITS[table["unit"]], location)
    return PublishedTable(name, source, table["unit"], columns, other, tuple(results))


def _columns(values: Any, other: Mapping[str, str], location: str) -> dict[str, tuple[str, ...]]:
    """Return the columns of each data set, all of which have to be metrics or explained in `other`."""
    columns = {}
    for dataset, names in _require_mapping(values, f"{location}, columns").items():
        columns[dataset] = tuple(_require_list(names, f"{location}, columns of {dataset}"))
        for column in columns[dataset]:
            if parse_metric(column) is None and column not in other:
                raise UserError(
                    f"{location}, columns of {dataset}: '{column}' is not a metric of dmlbench (see docs/metrics.md); "
                    "explain it under `other:`"
                )
    return columns


def _results(
    shared: Mapping[str, str], values: Any, columns: Mapping[str, tuple[str, ...]], source: Source, unit: float, location: str
) -> Iterator[PublishedResult]:
    """Yield the results of one row of a source, one per data set.

    Args:
        shared: Values that all rows of the table have.
        values: The row, as loaded.
        columns: Data set to its columns.
        source: Source of the table.
        unit: Number that stands for 1.
        location: File and table, for error messages.
    """
    row = {**shared, **_require_mapping(values, f"{location}, a row", _ROW_KEYS | set(columns), {"label"})}
    location = f"{location}, row '{row['label']}'"
    details: dict[str, Any] = {key: row[key] for key in ("label", "trunk", "cite", "note") if key in row}
    details |= {key: _whole_number(row[key], f"{location}: {key}") for key in ("embedding_dim", "image_px") if key in row}
    if not set(columns) & set(row):
        raise UserError(f"{location} has no numbers; add those of {' or '.join(columns)}")
    for dataset, names in columns.items():
        if dataset not in row:
            continue
        cells = _require_list(row[dataset], f"{location}, {dataset}")
        if len(cells) != len(names):
            raise UserError(
                f"{location}, {dataset} has {_count(len(cells), 'value')} for {_count(len(names), 'column')}; "
                f"write {MISSING_VALUE} for a missing value"
            )
        printed = {name: text for name, text in zip(names, cells, strict=True) if text != MISSING_VALUE}
        fractions = {name: _fraction(name, text, unit, f"{location}, {dataset}") for name, text in printed.items()}
        metrics = {name: value for name, value in fractions.items() if parse_metric(name) is not None}
        yield PublishedResult(dataset=dataset, source=source, printed=printed, values=_with_synonyms(metrics), **details)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _fraction(name: str, text: str, unit: float, location: str) -> float:
    """Convert a printed number to a fraction; what follows ± is ignored."""
    parts = _NUMBER.fullmatch(str(text))
    if parts is None:
        raise UserError(f"{location}: {name} is {text!r}; it needs a number such as 65.4 or 65.4 ± 0.3")
    value = float(parts[1]) / unit
    if not 0 <= value <= 1:
        raise UserError(f"{location}: {name} is {text}, which is not between 0 and {unit:g}; check `unit`")
    return value


def _with_synonyms(values: Mapping[str, float]) -> dict[str, float]:
    """Add Recall@1 if Precision@1 is given, and the reverse: both say whether the first item is relevant."""
    found = dict(values)
    for prefix in ("", CONCATENATED):
        names = [f"{prefix}{name}" for name in ("precision_at_1", "recall_at_1")]
        for name, synonym in (names, names[::-1]):
            if name in values:
                found.setdefault(synonym, values[name])
    return found


def _whole_number(text: Any, location: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", str(text)):
        raise UserError(f"{location} is {text!r}; it needs a whole number such as 512")
    return int(text)


def _require_mapping(values: Any, location: str, known: Collection[str] = (), required: Collection[str] = ()) -> dict[str, Any]:
    """Return values if they are a mapping with known and all required keys; empty `known` allows any key."""
    if not isinstance(values, dict):
        raise UserError(f"{location} is not a mapping; it needs {', '.join(sorted(required)) or 'KEY: VALUE'}")
    for key in values:
        if known and key not in known:
            raise UserError(f"{location}: '{key}' is not known{suggest(key, known)}")
        if key in _TEXT_KEYS and not isinstance(values[key], str):
            raise UserError(f"{location}: {key} is not a text; write it in quotes")
    for key in sorted(required):
        if not values.get(key):
            raise UserError(f"{location} has no '{key}'")
    return values


def _require_list(values: Any, location: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise UserError(f"{location} is not a list; write [..., ...]")
    return values
