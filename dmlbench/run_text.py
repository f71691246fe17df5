"""Floor 5: one run as one screen of text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from dmlbench.caption import SELECTED
from dmlbench.labels import shown
from dmlbench.measures import Column, column_of
from dmlbench.rows import UNTRAINED, Row, Scalar
from dmlbench.run_folder import Epochs, RunFolder
from dmlbench.screen import BOUND, paragraph, percent, plain, sparkline, titled
from dmlbench.sentinels import outdated, sentinels
from dmlbench.unfinished import RUNNING

_SEPARATED = "separated_"  # repeats the plain names


def as_text(run: RunFolder) -> str:
    """One screen: what was run and how it ended, its numbers, its cost, its training, its files."""
    if run.row is None:
        parts = [_unfinished(run), _what(run.plan) if run.plan else [], [*_training(run), *_files(run)]]
    else:
        parts = [_ending(run.row), [*_numbers(run.row), *_training(run)], _what(run.row), [*_machine(run.row), *_files(run)]]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _unfinished(run: RunFolder) -> list[str]:
    """What a folder without a row tells."""
    said = [f"{run.unreadable}."] if run.unreadable else [f"{run.place} has no row: {run.why}"]
    if run.words:
        said.append(f"Made of: {' '.join(run.words)}")
    if run.checkpoint and run.why != RUNNING:
        said.append(f"It goes on from its checkpoint of {run.checkpoint:%Y-%m-%d %H:%M} UTC when its command is given again.")
    elif not run.unreadable and run.why != RUNNING:
        said.append("There is no checkpoint: its command begins it anew.")
    return [line for sentence in said for line in paragraph(sentence)]


def _ending(row: Row) -> list[str]:
    label, data = row.get("loss_label") or row["loss"], row.get("dataset_label") or row["dataset"]
    lines = paragraph(f"{label} on {data}, seed {row['seed']}: run {row['run_id']}")
    if not row.ok:
        lines = [*paragraph(f"FAILED: {row.get('reason') or 'no reason given'}"), *lines]
    else:
        lines += paragraph(f"Chosen: {_chosen(row)}")
        lines += [line for warning in (*sentinels([row]), *outdated([row])) for line in paragraph(f"Mind: {warning}")]
    if row.get("parent"):
        lines += paragraph(f"Scored again from run {row['parent']}")
    return lines


def _what(row: Row) -> list[str]:
    """All that the run was made of, a paragraph each."""
    weights = row.get("trunk_weights")
    loads = "" if weights is None else ", no pretrained weights" if weights == "none" else f", weights {weights}"
    counts = [
        f"{row[name]:,} {what}"
        for name, what in (
            *(("n_train_images", "images of"), ("n_train_classes", "classes to train on"), ("n_queries", "queries")),
            *(("n_gallery", "in the gallery"), ("n_test_classes", "test classes"), ("n_images_skipped", "skipped")),
        )
        if isinstance(row.get(name), int) and (row[name] or name != "n_images_skipped")
    ]
    data = ", ".join(counts).replace("images of, ", "images of ")
    version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
    preset = "" if row.get("preset") in (None, "none") else f"preset {row['preset']}, "
    parts = [
        ("data set", f"{row['dataset']}: {data}", _values(row, "split_")),
        ("trunk", f"{row['trunk']}{loads}", _values(row, "trunk_", "weights", "label")),
        ("loss", f"{row['loss']}", _values(row, "loss_", "label")),
        ("protocol", f"{preset}{row['protocol']}{version}", _values(row, "protocol_", "version")),
        ("optimizer", f"{row.get('optimizer') or ''}", _values(row, "optimizer_")),
        ("sampler", f"{row.get('sampler') or ''}", _values(row, "sampler_")),
        ("evaluation", "", _values(row, "evaluation_")),
    ]
    return [line for name, head, values in parts if head or values for line in titled(name, _joined(head, values), most=7)]


def _values(row: Row, prefix: str, *left_out: str) -> str:
    """A family's values as `margin=0.2`; those that are not set, and what is imported but for its last name, are left out."""
    found = []
    for column, value in row.columns.items():
        name = column.removeprefix(prefix)
        if not column.startswith(prefix) or name in left_out or value is None:
            continue
        if name.endswith("target") and isinstance(value, str):
            value = value.rpartition(".")[2]
        found.append(f"{name.removeprefix('make_')}={shown(value)}".replace(" ", BOUND))
    return ", ".join(found)


def _joined(head: str, values: str) -> str:
    return f"{head}; {values}" if head and values else head or values


def _chosen(row: Row) -> str:
    on = row.get("selected_on")
    if row["loss"] == UNTRAINED or on in (None, "none"):
        return "nothing was trained or chosen" if row["loss"] == UNTRAINED else "how, is not known here"
    epoch = row.get("selected_epoch")
    said = f"{SELECTED.get(str(on), on)}" + ("" if epoch is None else f", epoch {epoch}")
    for name, what in (
        ("selected_score", "its validation MAP@R"),
        ("untrained_score", "before training"),
        ("untrained_trunk_score", "of the trunk"),
        ("oracle_map_at_r", "best on the test set, which chose nothing"),
    ):
        if isinstance(value := row.get(name), float):
            said += f"; {what} {percent(value)} %"
    return said


def _numbers(row: Row) -> list[str]:
    """Every measure, those of a kind on a line."""
    columns = {
        name: found for name in row.columns if not name.startswith(_SEPARATED) and (found := column_of(name)) is not None
    }
    lines = []
    for title, wanted in _KINDS.items():
        some = sorted((name for name, column in columns.items() if wanted(column)), key=lambda name: columns[name].place)
        told = [f"{columns[name].measure.label.replace('<k>', str(columns[name].k))} {_number(row, name)}" for name in some]
        if told and any(row[name] is not None for name in some):
            lines += titled(title, "  ".join(text.replace(" ", BOUND) for text in told), width=16)
    folds = [f"{percent(value)}" for name, value in row.columns.items() if _is_fold(name) and isinstance(value, float)]
    if folds:
        lines += titled("MAP@R by fold, %", ", ".join(folds), width=18)
    return lines


_KINDS: dict[str, Callable[[Column], bool]] = {
    "retrieval, %": lambda one: one.measure.kind == "retrieval" and not one.macro and not one.joined,
    "by class, %": lambda one: one.measure.kind == "retrieval" and one.macro and not one.joined,
    "clustering, %": lambda one: one.measure.kind == "clustering" and not one.joined,
    "diagnostics": lambda one: one.measure.kind == "diagnostic" and not one.joined,
    "joined, %": lambda one: one.joined and one.measure.kind != "diagnostic" and not one.macro,
}


def _number(row: Row, name: str) -> str:
    value, column = row[name], column_of(name)
    if not isinstance(value, int | float) or column is None:
        return "--"
    if column.measure.kind == "diagnostic":
        return f"{value:.3g}"
    spread = row.get(f"{name}_std")
    return percent(value) + (f" ± {percent(spread)}" if isinstance(spread, float) else "")


def _is_fold(name: str) -> bool:
    return re.fullmatch(r"fold\d+_map_at_r", name) is not None


def _training(run: RunFolder) -> list[str]:
    """A line of bars for each thing that was followed."""
    lines = []
    for part, epochs in run.histories.items():
        where = "" if part == "." else f"{part} "
        for name, what, in_percent in (
            ("loss", "loss", False),
            ("validation_map_at_r", "validation", True),
            ("test_map_at_r", "test", True),
        ):
            lines += _followed(f"{where}{what}", epochs, name, in_percent)
    return lines


def _followed(title: str, epochs: Epochs, name: str, in_percent: bool) -> list[str]:
    told = [(int(one.get("epoch", 0)), one[name]) for one in epochs if name in one]
    if not told:
        return []

    def words(value: float) -> str:
        return f"{percent(value)} %" if in_percent else f"{value:.4g}"

    values = [value for _, value in told]
    (first, begin), (last, end) = told[0], told[-1]
    said = f"{words(begin)} -> {words(end)}, epochs {first} to {last}" if len(told) > 1 else f"{words(begin)}, epoch {first}"
    if in_percent:
        epoch, best = max(told, key=lambda each: each[1])
        said += f"; best {words(best)} at epoch {epoch}"
    return titled(title, f"{sparkline(values)}  {said}", width=max(12, len(title) + 1))


def _machine(row: Row) -> list[str]:
    """Cost and versions."""
    memory = "whole process" if str(row.get("device")).startswith("cpu") else "of the device"
    costs = (
        ("train_seconds", "{:,.1f} s of training"),
        ("images_per_second", "{:,.0f} images/s"),
        ("evaluate_seconds", "{:,.1f} s of evaluation"),
        ("memory_gib", f"{{:.2f}} GiB ({memory})"),
        ("n_model_parameters", "{:,} parameters"),
        ("n_loss_parameters", "{:,} of the loss"),
        ("n_resumed", "resumed {} times"),
    )
    told = [words.format(value) for name, words in costs if _is_number(value := row.get(name)) and value]
    versions = [
        f"{name.removesuffix('_version').replace('_', '-')} {plain(value)}"
        for name, value in row.columns.items()
        if name.endswith("_version") and name not in ("schema_version", "protocol_version") and value is not None
    ]
    if row.get("code_revision"):
        versions.insert(0, f"revision {row['code_revision']}")
    on = [str(row[name]) for name in ("device", "hostname", "finished_at") if row.get(name)]
    return [*_told("cost", told), *_told("made on", on), *_told("versions", versions)]


def _told(title: str, words: Iterable[str]) -> list[str]:
    text = ", ".join(words)
    return titled(title, text) if text else []


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _files(run: RunFolder) -> list[str]:
    files = [f"{name} ({_size(size)})" for name, size in run.sizes.items() if size]
    return [f"{'place':12}{plain(run.place)}", *titled("files", ", ".join(files))]  # a path is whole, however long


def _size(n_bytes: int) -> str:
    """How large, in the unit that fits.

    >>> _size(900), _size(1_500_000)
    ('1 kB', '1.5 MB')
    """
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{max(1, round(n_bytes / 1e3))} kB"
