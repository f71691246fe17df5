"""Where the numbers of a table come from: what was held equal, versions and machines, files, warnings, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dmlbench.config.schema import Scalar
from dmlbench.report.commands import Commands, commands_of
from dmlbench.report.epoch_plots import Histories
from dmlbench.report.figure import Method
from dmlbench.results import run_files
from dmlbench.results.columns import column
from dmlbench.results.formatting import format_seeds, format_value
from dmlbench.results.row import MISSING, Row
from dmlbench.results.run_status import RUNNING
from dmlbench.system.regular_files import parse_json
from dmlbench.tables.table import Table

_GROUPS = (
    "dataset",
    "split",
    "trunk",
    "preset",
    "protocol",
    "precision",
    "optimizer",
    "sampler",
    "tuning",
    "evaluation",
    "loss",
)
_MACHINE = ("device", "cpu_model", "cpu_capability", "cpu_libraries", "hostname", "code_revision")
_FILES = {run_files.EMBEDDINGS: "embeddings", run_files.PER_QUERY: "per-query scores", run_files.HISTORY: "history"}


@dataclass(frozen=True)
class Fact:
    """A column and its value.

    Args:
        name: Name of the column.
        meaning: What it means.
        value: Value in print.
    """

    name: str
    meaning: str
    value: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers of a table come from.

    Args:
        equal: Group of columns to the columns in which all rows agree.
        versions: Versions and machines; several values are separated by a bar.
        files: Configuration files with their SHA-256.
        commands: Commands that make the rows again.
        warnings: Warnings about runs and about the table, each with the methods that it concerns.
        missing: What is not there, sentences.
    """

    equal: Mapping[str, Sequence[Fact]]
    versions: Sequence[Fact]
    files: Sequence[tuple[str, str]]
    commands: Commands
    warnings: Sequence[tuple[str, str]]
    missing: Sequence[str]


def provenance_of(table: Table, methods: Sequence[Method], histories: Histories) -> Provenance:
    """Collect what is known about the rows of a table.

    Args:
        table: A table.
        methods: Its methods.
        histories: Histories of the runs.
    """
    rows = [row for one in table.rows for row in one.rows]
    return Provenance(
        equal=_equal(table.shared),
        versions=_versions(rows),
        files=_config_files(rows),
        commands=commands_of(table),
        warnings=_warnings(table),
        missing=_missing(methods, histories),
    )


def _equal(shared: Mapping[str, Scalar]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for name, value in shared.items():
        group = next((one for one in _GROUPS if name == one or name.startswith(f"{one}_")), "other")
        found.setdefault(group, []).append(Fact(name, column(name).meaning, format_value(value)))
    return {group: found[group] for group in (*_GROUPS, "other") if group in found}


def _versions(rows: Sequence[Row]) -> list[Fact]:
    names = dict.fromkeys(name for row in rows for name in row.columns if name.endswith("_version") and _is_provenance(name))
    found = []
    for name in (*names, *_MACHINE):
        values = dict.fromkeys(format_value(value) for row in rows if (value := row.get(name)) is not None)
        if values:
            found.append(Fact(name, column(name).meaning, " | ".join(values)))
    return found


def _is_provenance(name: str) -> bool:
    return column(name).role == "provenance"


def _config_files(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return the configuration files of all rows; a file that changed is listed once per content."""
    found: dict[tuple[str, str], None] = {}
    for text in dict.fromkeys(str(row.get("config_files")) for row in rows):
        try:
            files = parse_json(text.encode())
        except ValueError:
            continue
        if isinstance(files, dict):
            found |= dict.fromkeys((name, digest) for name, digest in files.items() if isinstance(digest, str))
    return sorted(found)


def _warnings(table: Table) -> list[tuple[str, str]]:
    """Return each warning with the methods that it concerns; those about the whole table concern none."""
    found: dict[str, list[str]] = {}
    for one in table.rows:
        for note in one.notes:
            found.setdefault(note, []).append(one.label)
    return [*(("", note) for note in table.notes), *((", ".join(labels), note) for note, labels in found.items())]


def _missing(methods: Sequence[Method], histories: Histories) -> list[str]:
    sentences = []
    for one in methods:
        for status, text in ((True, "still in training"), (False, "not finished")):
            waiting = [row for row in one.row.rows if row["status"] == MISSING and (row.get("reason") == RUNNING) is status]
            for row in waiting:
                sentences.append(f"{one.row.label}, seed {row.seed}: {text}{_progress(one, row, histories)}.")
        for name, what in _FILES.items():
            if name == run_files.HISTORY and not one.row.trained:
                continue
            lacking = [row.seed for row in one.row.rows if row.ok and not _has(row, name)]
            if lacking:
                sentences.append(f"{one.row.label}: no {what} ({name}) for {format_seeds(lacking)}.")
    return sentences


def _progress(method: Method, row: Row, histories: Histories) -> str:
    epochs = [epochs for name, epochs in histories.get(method.index, ()) if name == f"seed {row.seed}"]
    last = max((one.get("epoch", 0) for each in epochs for one in each), default=0)
    total = row.number("protocol_epochs")
    after = f", after epoch {last:.0f}" + ("" if total is None else f" of {total:.0f}") if last else ""
    return f" ({row.get('reason')}){after}" if row.get("reason") != RUNNING else after


def _has(row: Row, name: str) -> bool:
    """Whether a run has a file; evaluations have the files of their run, and several models one file each."""
    if row.folder is None:
        return False
    folder = row.folder.parent if row.get("parent") is not None and name != run_files.PER_QUERY else row.folder
    return (folder / name).is_file() or any(folder.glob(f"fold[0-9]*/{name}"))
