"""One run as one screen of text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from dmlbench.results.columns import column
from dmlbench.results.formatting import format_percent, format_value, metric_label, referenced_column, selected_by
from dmlbench.results.metric_specs import MetricColumn, parse_metric
from dmlbench.results.row import BASELINES, Row
from dmlbench.results.run_folder import Epochs, RunFolder
from dmlbench.results.run_status import RUNNING
from dmlbench.system.regular_files import parse_json
from dmlbench.system.terminal import printable
from dmlbench.tables.caption import SELECTED
from dmlbench.tables.formats.text import NO_BREAK, labelled, sparkline, wrap
from dmlbench.tables.warnings import warnings_of

_SEPARATED = "separated_"  # repeats the plain names


def as_text(run: RunFolder) -> str:
    """Write a run as one screen of text: how it ended, metrics, training, configuration, cost and files.

    Args:
        run: Contents of the run directory.
    """
    if run.row is None:
        parts = [_unfinished(run), _configuration(run.pending_row) if run.pending_row else [], [*_training(run), *_files(run)]]
    else:
        row = run.row
        parts = [_ending(row), [*_metrics(row), *_training(run)], _configuration(row), [*_provenance(row), *_files(run)]]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _unfinished(run: RunFolder) -> list[str]:
    """Return why there is no row, the overrides, and how the run will continue."""
    sentences = [f"{run.unreadable}."] if run.unreadable else [f"{run.path} has no row: {run.status}."]
    if run.overrides:
        sentences.append(f"Overrides: {' '.join(run.overrides)}")
    if run.checkpoint and run.status != RUNNING:
        time = f"{run.checkpoint:%Y-%m-%d %H:%M} UTC"
        sentences.append(f"Run its command again to resume from the checkpoint of {time}.")
    elif not run.unreadable and run.status != RUNNING:
        sentences.append("Run the same command again; training starts from epoch 1.")
    return [line for sentence in sentences for line in wrap(sentence)]


def _ending(row: Row) -> list[str]:
    label, data = row.get("loss_label") or row["loss"], row.get("dataset_label") or row["dataset"]
    lines = wrap(f"{label} on {data}, seed {row.seed}: run {row['run_id']}")
    if not row.ok:
        lines = [*wrap(f"FAILED: {row.get('reason') or 'no reason given'}"), *lines]
    else:
        lines += wrap(f"Model selection: {_selection(row)}")
        lines += [line for warning in warnings_of([row]) for line in wrap(f"Warning: {warning}")]
    if row.get("parent"):
        lines += wrap(f"Evaluation of run {row['parent']} with other settings")
    return lines


def _configuration(row: Row) -> list[str]:
    """Return the configuration of the run, one paragraph per group."""
    weights = row.get("trunk_weights")
    loaded = "" if weights is None else ", no pretrained weights" if weights == "none" else f", weights {weights}"
    version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
    preset = "" if row.get("preset") in (None, "none") else f"preset {row['preset']}, "
    overrides = ", ".join(row.overrides) if row.overrides else ""
    parts = [
        ("data set", ": ".join(filter(None, (str(row["dataset"]), _counts(row)))), _values(row, "split_")),
        ("trunk", f"{row['trunk']}{loaded}", _values(row, "trunk_", "weights", "label")),
        ("loss", f"{row['loss']}", _values(row, "loss_", "label")),
        ("protocol", f"{preset}{row['protocol']}{version}", _values(row, "protocol_", "version")),
        ("optimizer", f"{row.get('optimizer') or ''}", _values(row, "optimizer_")),
        ("sampler", f"{row.get('sampler') or ''}", _values(row, "sampler_")),
        ("evaluation", "", _values(row, "evaluation_")),
        ("overrides", overrides, ""),
        ("config", _config_files(row), ""),
    ]
    return [
        line for name, head, values in parts if head or values for line in labelled(name, _joined(head, values), max_lines=7)
    ]


def _counts(row: Row) -> str:
    names = ("n_train_images", "n_train_classes", "n_queries", "n_gallery", "n_test_classes", "n_images_skipped")
    counts = [(column(name).label.removeprefix("number of "), row.get(name)) for name in names]
    return ", ".join(f"{n:,} {label}" for label, n in counts if isinstance(n, int) and (n or label != "skipped images"))


def _config_files(row: Row) -> str:
    """Return the configuration files of the run, with the first digits of their SHA-256."""
    try:
        files = parse_json(str(row.get("config_files")).encode())
    except ValueError:
        return ""
    found = files.items() if isinstance(files, dict) else ()
    return ", ".join(f"{name} {digest[:8]}" for name, digest in found if isinstance(digest, str))


def _values(row: Row, prefix: str, *without: str) -> str:
    """Return the columns with a prefix, as `margin=0.2`, without null and empty values; paths are reduced to the last part."""
    found = []
    for name, value in row.columns.items():
        short = name.removeprefix(prefix)
        if not name.startswith(prefix) or short in without or value in (None, ""):
            continue
        value = row.get(referenced_column(value) or name, value)
        if short.endswith("target") and isinstance(value, str):
            value = value.rpartition(".")[2]
        found.append(f"{short.removeprefix('make_')}={format_value(value)}".replace(" ", NO_BREAK))
    return ", ".join(found)


def _joined(head: str, values: str) -> str:
    return f"{head}; {values}" if head and values else head or values


def _selection(row: Row) -> str:
    selected = row.get("selected_on")
    if row["loss"] in BASELINES:
        return "none, because nothing is trained"
    if selected in (None, "none"):
        return "unknown"
    epoch = row.get("selected_epoch")
    by = selected_by(row.get("protocol_selection_metric"), row.get("protocol_clusters_per_class"))
    text = f"{SELECTED.get(str(selected), selected)}{by * (selected == 'validation')}"
    text += "" if epoch is None else f", epoch {epoch}"
    score = metric_label(str(row.get("protocol_selection_metric") or "map_at_r"))
    labels = {"selected_score": f"validation {score}", "untrained_score": f"validation {score} before training"}
    for name in ("selected_score", "untrained_score", "untrained_trunk_score", "oracle_map_at_r"):
        if isinstance(value := row.get(name), float):
            text += f"; {labels.get(name, column(name).label)} {format_percent(value)} %"
    return text


def _metrics(row: Row) -> list[str]:
    """Return all metrics, one line per kind."""
    found = {name: one for name in row.columns if not name.startswith(_SEPARATED) and (one := parse_metric(name)) is not None}
    lines = []
    for title, is_kind in _KINDS.items():
        names = sorted((name for name, one in found.items() if is_kind(one)), key=lambda name: found[name].sort_key)
        texts = [f"{found[name].spec.label.replace('<k>', str(found[name].k))} {_number(row, name)}" for name in names]
        if any(f"{name}_std" in row.columns for name in names) and (runs := row.get("n_clusterings")):
            texts.append(f"(standard deviation over {runs} runs of k-means)")
        if texts and any(row[name] is not None for name in names):
            lines += labelled(title, "  ".join(text.replace(" ", NO_BREAK) for text in texts), width=18)
    folds = [f"{format_percent(value)}" for name, value in row.columns.items() if _is_fold(name) and isinstance(value, float)]
    if folds:
        lines += labelled("MAP@R by fold, %", ", ".join(folds), width=18)
    return lines


_KINDS: dict[str, Callable[[MetricColumn], bool]] = {
    "retrieval, %": lambda one: one.spec.kind == "retrieval" and not (one.macro or one.concatenated or one.full),
    "full gallery, %": lambda one: one.full and not (one.macro or one.concatenated),
    "macro average, %": lambda one: one.spec.kind == "retrieval" and one.macro and not (one.concatenated or one.full),
    "clustering, %": lambda one: one.spec.kind == "clustering" and not one.concatenated,
    "attributes, %": lambda one: one.spec.kind == "attributes",
    "diagnostics": lambda one: one.spec.kind == "diagnostic" and not one.concatenated,
    "concatenated, %": lambda one: one.concatenated and one.spec.kind != "diagnostic" and not one.macro,
}


def _number(row: Row, name: str) -> str:
    """Format a metric in percent, or a diagnostic; `--` for a missing or impossible value."""
    value, one = row.number(name), parse_metric(name)
    if value is None or one is None:
        return "--"
    if one.spec.kind == "diagnostic":
        return f"{value:.3g}"
    spread = row.get(f"{name}_std")
    return format_percent(value) + (f" (std {format_percent(spread)})" if isinstance(spread, float) else "")


def _is_fold(name: str) -> bool:
    return re.fullmatch(r"fold\d+_map_at_r", name) is not None


def _training(run: RunFolder) -> list[str]:
    """Return a sparkline of each recorded quantity."""
    lines = []
    for part, epochs in run.histories.items():
        prefix = "" if part == "." else f"{part} "
        scores = dict.fromkeys(name for epoch in epochs for name in epoch if name.startswith("validation_"))
        for name, label, in_percent in (
            ("loss", "loss", False),
            *((name, "validation", True) for name in scores),
            ("test_map_at_r", "test", True),
        ):
            lines += _curve(f"{prefix}{label}", epochs, name, in_percent)
    return lines


def _curve(label: str, epochs: Epochs, name: str, in_percent: bool) -> list[str]:
    points = [(int(one.get("epoch", 0)), one[name]) for one in epochs if name in one]
    if not points:
        return []

    def formatted(value: float) -> str:
        return f"{format_percent(value)} %" if in_percent else f"{value:.4g}"

    (first, begin), (last, end) = points[0], points[-1]
    text = f"{formatted(begin)}, epoch {first}"
    if len(points) > 1:
        text = f"{formatted(begin)} -> {formatted(end)}, epochs {first} to {last}"
    if in_percent:
        epoch, best = max(points, key=lambda point: point[1])
        text += f"; best {formatted(best)} at epoch {epoch}"
    return labelled(label, f"{sparkline([value for _, value in points])}  {text}", width=max(12, len(label) + 1))


def _provenance(row: Row) -> list[str]:
    """Return costs, hardware and versions."""
    versions = [
        f"{name.removesuffix('_version').replace('_', '-')} {printable(value)}"
        for name, value in row.columns.items()
        if name.endswith("_version") and column(name).role == "provenance" and value is not None
    ]
    if row.get("code_revision"):
        versions.insert(0, f"revision {row['code_revision']}")
    machine = [str(row[name]) for name in ("device", "hostname", "finished_at") if row.get(name)]
    return [*_list("cost", _costs(row)), *_list("hardware", machine), *_list("versions", versions)]


def _costs(row: Row) -> list[str]:
    """Return each cost of the run in its printed unit, and how often the run was resumed."""
    found = []
    for one in map(column, row.columns):
        number = row.number(one.name)
        if one.role == "cost" and number:
            value = f"{number / one.scale:,.3g}" if number / one.scale < 100 else f"{number / one.scale:,.0f}"
            found.append(f"{one.label or one.name} {value}{f' {one.unit}' if one.unit else ''}")
    resumed = row.number("n_resumed")
    return found + ([f"resumed {resumed:.0f} times"] if resumed else [])


def _list(label: str, texts: Iterable[str]) -> list[str]:
    text = ", ".join(text.replace(" ", NO_BREAK) for text in texts)
    return labelled(label, text) if text else []


def _files(run: RunFolder) -> list[str]:
    files = [f"{name} ({_size(size)})" for name, size in run.sizes.items() if size]
    return [f"{'path':12}{printable(run.path)}", *labelled("files", ", ".join(files))]  # a path is never wrapped


def _size(n_bytes: int) -> str:
    """Format a size in the unit that fits.

    >>> _size(900), _size(1_500_000)
    ('1 kB', '1.5 MB')
    """
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{max(1, round(n_bytes / 1e3))} kB"
