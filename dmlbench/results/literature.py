"""Results that others published, as `conf/published/` holds them; what a table shows below its rule.

One file is one source and holds the tables taken from it, a line for each of theirs. Numbers stand there as they were printed,
and become fractions here, once. None of them was made alike with a row of ours: trunk, crops, tuning and the choice of the
epoch differ. So they are told apart by data set and split, and none of them is ever averaged, tested or bold.

    cite: "Qian et al., SoftTriple loss, ICCV 2019"     who made the numbers
    arxiv: "1909.05235"                                 if there
    tables:
      - where: Table 2                                  where they stand
        kind: comparison                                or ablation: a method against itself; or validation: no test numbers
        unit: percent                                   or fraction
        split: zero_shot                                the rule's name here; any other words where it has none
        columns: {cub: [recall_at_1, nmi]}              data set to columns, each known to `measures` or explained in `other`
        rows:
          - {label: SoftTriple, trunk: bn_inception, embedding_dim: 512, cub: [65.4, 69.3 ± 0.2]}

A hole is `~`. What holds for all rows of a table (trunk, embedding_dim, image_px) may stand beside `columns`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.errors import UserError, suggest
from dmlbench.results.metric_specs import CONCATENATED, parse_metric

KINDS = ("comparison", "ablation", "validation")
UNITS = {"percent": 100.0, "fraction": 1.0}
SPLIT = "zero_shot"  # unless a table says otherwise
HOLE = "~"

_FILE_KEYS = {"cite", "arxiv", "tables"}
_OF_A_LINE = {"trunk", "embedding_dim", "image_px"}
_TABLE_KEYS = {"where", "kind", "unit", "split", "note", "plus_minus", "other", "columns", "rows"} | _OF_A_LINE
_ROW_KEYS = {"label", "cite", "note"} | _OF_A_LINE
_TEXTS = {"cite", "arxiv", "where", "kind", "unit", "split", "note", "plus_minus", "label", "trunk"}
_NUMBER = re.compile(r"(\d*\.?\d+)(?: ± (\d*\.?\d+))?")


@dataclass(frozen=True)
class Source:
    """Where a published table stands, and what its numbers are.

    Args:
        cite: who made the numbers.
        where: its number, or the slide.
        kind: one of `KINDS`.
        split: the rule that divides the data set, or words where dmlbench has no such rule.
        arxiv: without the word.
        note: what else a reader must know of its numbers.
        plus_minus: what stands after ±.
    """

    cite: str
    where: str
    kind: str
    split: str = SPLIT
    arxiv: str | None = None
    note: str | None = None
    plus_minus: str | None = None

    @property
    def text(self) -> str:
        """As a footnote has it.

        >>> Source("Shah, 2017", "Table 1", "comparison", arxiv="0000.00000", note="cropped").text
        'Shah, 2017, arXiv:0000.00000, Table 1; cropped'
        """
        parts = [self.cite, f"arXiv:{self.arxiv}" if self.arxiv else "", self.where]
        return ", ".join(part for part in parts if part) + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class PublishedResult:
    """One method's numbers on one data set.

    Args:
        label: the method's name in print.
        dataset: as the command line names it.
        source: of its table.
        printed: column to text, as the source has it, holes left out.
        values: metric to fraction; `precision_at_1` and `recall_at_1`, which are one quantity, both where one is.
        trunk: as the command line names it, or the source; None where the source does not tell.
        embedding_dim: None where the source does not tell.
        image_px: the side of the crop; None where the source does not tell.
        cite: the paper that the source has the line from.
        note: what else a reader must know of this line.
    """

    label: str
    dataset: str
    source: Source
    printed: Mapping[str, str]
    values: Mapping[str, float]
    trunk: str | None = None
    embedding_dim: int | None = None
    image_px: int | None = None
    cite: str | None = None
    note: str | None = None

    @property
    def size(self) -> str:
        """Trunk, embedding and crop in print: `BN-Inception, 512-d`."""
        trunk = trunk_label(self.trunk) if self.trunk else "trunk not told"
        parts = [trunk, f"{self.embedding_dim}-d" if self.embedding_dim else "", f"{self.image_px} px" if self.image_px else ""]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class PublishedTable:
    """One table of a source.

    Args:
        name: of its file, without the suffix.
        source: where it stands.
        unit: of its numbers in print, one of `UNITS`.
        columns: data set to its columns, as transcribed.
        other: a column that no measure of ours is, to what it is.
        lines: the rows, each once for every data set for which it has a number.
    """

    name: str
    source: Source
    unit: str
    columns: Mapping[str, tuple[str, ...]]
    other: Mapping[str, str]
    lines: tuple[PublishedResult, ...]


def read_published(config_dir: Path | None = None) -> tuple[PublishedTable, ...]:
    """Read every published table.

    Args:
        config_dir: a folder of the user's own configurations; its `published/*.yaml` are read too.

    Returns:
        The tables of each file in its order, files in the order of their names, the user's last.

    Raises:
        UserError: names the file, the place in it, and what would have worked.
    """
    return _shipped() + (_of_folder(config_dir) if config_dir else ())


def find_published(
    dataset: str,
    metrics: Collection[str],
    trunks: Collection[str] = (),
    split: str = SPLIT,
    ablations: bool = False,
    config_dir: Path | None = None,
) -> list[PublishedResult]:
    """Find the published results that belong below a table.

    Args:
        dataset: as the command line names it.
        metrics: those that the table prints; a result that shares none is left out.
        trunks: keep the results of these; empty keeps all.
        split: the rule that divides the table's data set; another one is another task.
        ablations: also those that set a method against itself. Validation numbers are never among them.
        config_dir: a folder of the user's own configurations.

    Returns:
        Comparisons first, then ablations; in each the order of `read_published`.

    Raises:
        UserError: a file is not as it should be.
    """
    kinds = KINDS[: 1 + ablations]
    found = [
        line
        for table in read_published(config_dir)
        for line in table.lines
        if line.dataset == dataset
        and line.source.split == split
        and line.source.kind in kinds
        and (not trunks or line.trunk in trunks)
        and any(metric in line.values for metric in metrics)
    ]
    return sorted(found, key=lambda line: kinds.index(line.source.kind))


@cache
def trunk_label(trunk: str) -> str:
    """A trunk's name in print: that of its configuration, or as it is.

    >>> trunk_label("bn_inception"), trunk_label("VGG")
    ('BN-Inception', 'VGG')
    """
    file = conf_dir() / "trunk" / f"{trunk}.yaml"
    return str(_load(file)["label"]) if file.is_file() else trunk


@cache
def _shipped() -> tuple[PublishedTable, ...]:
    return _of_folder(conf_dir())


def _of_folder(folder: Path) -> tuple[PublishedTable, ...]:
    return tuple(table for file in sorted((folder / "published").glob("*.yaml")) for table in _read(file))


def _load(file: Path) -> Any:
    """A file's content with every scalar as its text, so that 70.0 stays 70.0."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return yaml.load(file.read_text(encoding="utf-8"), loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no YAML: {' '.join(str(error).split())}") from None


def _read(file: Path) -> Iterator[PublishedTable]:
    found = _mapping(_load(file), str(file), _FILE_KEYS, {"cite", "tables"})
    for number, given in enumerate(_list(found["tables"], f"{file}, tables"), 1):
        yield _table(file.stem, found, given, f"{file}, table {number}")


def _table(name: str, file: Mapping[str, Any], given: Any, place: str) -> PublishedTable:
    table = _mapping(given, place, _TABLE_KEYS, {"where", "kind", "unit", "columns", "rows"})
    for key, known in (("kind", KINDS), ("unit", tuple(UNITS))):
        if table[key] not in known:
            raise UserError(f"{place}: {key} is {table[key]!r}{suggest(table[key], known)}")
    told = {key: table[key] for key in ("where", "kind", "split", "note", "plus_minus") if key in table}
    source = Source(cite=file["cite"], arxiv=file.get("arxiv"), **told)
    other = _mapping(table.get("other", {}), f"{place}, other")
    columns = {}
    for dataset, names in _mapping(table["columns"], f"{place}, columns").items():
        columns[dataset] = tuple(_list(names, f"{place}, columns of {dataset}"))
        for column in columns[dataset]:
            if parse_metric(column) is None and column not in other:
                raise UserError(
                    f"{place}, columns of {dataset}: '{column}' is no column of dmlbench (docs/metrics.md has them); "
                    "say under `other:` what it is"
                )
    lines: list[PublishedResult] = []
    for row in _list(table["rows"], f"{place}, rows"):
        lines += _lines(
            {key: table[key] for key in _OF_A_LINE if key in table}, row, columns, source, UNITS[table["unit"]], place
        )
    return PublishedTable(name, source, table["unit"], columns, other, tuple(lines))


def _lines(
    shared: Mapping[str, str], given: Any, columns: Mapping[str, tuple[str, ...]], source: Source, unit: float, place: str
) -> Iterator[PublishedResult]:
    """A row of a source, once for each of its data sets."""
    row = {**shared, **_mapping(given, f"{place}, a row", _ROW_KEYS | set(columns), {"label"})}
    place = f"{place}, row '{row['label']}'"
    told: dict[str, Any] = {key: row[key] for key in ("label", "trunk", "cite", "note") if key in row}
    told |= {key: _size(row[key], f"{place}: {key}") for key in ("embedding_dim", "image_px") if key in row}
    if not set(columns) & set(row):
        raise UserError(f"{place} has no numbers; give those of {' or '.join(columns)}")
    for dataset, names in columns.items():
        if dataset not in row:
            continue
        cells = _list(row[dataset], f"{place}, {dataset}")
        if len(cells) != len(names):
            raise UserError(f"{place}, {dataset}: {len(cells)} numbers for {len(names)} columns; write ~ for a hole")
        printed = {name: text for name, text in zip(names, cells, strict=True) if text != HOLE}
        values = {name: _fraction(name, text, unit, f"{place}, {dataset}") for name, text in printed.items()}
        known = {name: value for name, value in values.items() if parse_metric(name) is not None}
        yield PublishedResult(dataset=dataset, source=source, printed=printed, values=_with_twins(known), **told)


def _fraction(name: str, text: str, unit: float, place: str) -> float:
    """A number as printed, without what follows ±, as a fraction."""
    parts = _NUMBER.fullmatch(str(text))
    if parts is None:
        raise UserError(f"{place}: {name} is {text!r}, which is no number such as 65.4 or 65.4 ± 0.3")
    value = float(parts[1]) / unit
    if not 0 <= value <= 1:
        raise UserError(f"{place}: {name} is {text}, outside 0 to {unit:g}; is `unit` right?")
    return value


def _with_twins(values: Mapping[str, float]) -> dict[str, float]:
    """The same, with precision at 1 also as recall at 1 and the other way round: the first item is relevant or not."""
    found = dict(values)
    for prefix in ("", CONCATENATED):
        pair = [f"{prefix}{name}" for name in ("precision_at_1", "recall_at_1")]
        for name, twin in (pair, pair[::-1]):
            if name in values:
                found.setdefault(twin, values[name])
    return found


def _size(text: Any, place: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", str(text)):
        raise UserError(f"{place} is {text!r}; it needs a whole number such as 512")
    return int(text)


def _mapping(given: Any, place: str, known: Collection[str] = (), needed: Collection[str] = ()) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UserError(f"{place} is no mapping; it needs {', '.join(sorted(needed)) or 'KEY: VALUE'}")
    for key in given:
        if known and key not in known:
            raise UserError(f"{place}: '{key}' is not known here{suggest(key, known)}")
        if key in _TEXTS and not isinstance(given[key], str):
            raise UserError(f"{place}: {key} is no text; write it in quotes")
    for key in sorted(needed):
        if not given.get(key):
            raise UserError(f"{place} has no '{key}'")
    return given


def _list(given: Any, place: str) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise UserError(f"{place} is no list; write [..., ...]")
    return given
