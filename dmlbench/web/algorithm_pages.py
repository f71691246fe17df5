"""Introductions to the losses, and charts that compare their runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from flask import Blueprint, abort, render_template, request

from dmlbench.config.files import conf_dir, entries
from dmlbench.results.formatting import format_seeds, metric_label
from dmlbench.tables.table import Table, compare
from dmlbench.web.charts import Interval, interval_chart
from dmlbench.web.formulas import formula, symbols
from dmlbench.web.services import chosen_collection, services, snapshot
from dmlbench.web.snapshot import Collection, Model, Snapshot

PAGES = Blueprint("algorithms", __name__, url_prefix="/algorithms")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DEFAULT_METRIC = "map_at_r"


@dataclass(frozen=True)
class Algorithm:
    """A loss, as its configuration file describes it.

    Args:
        name: Name of the file.
        label: Name in print.
        summary: First paragraph of its comment: what it is, source, and origin of its values.
        details: The rest of the comment.
        command: Command that trains it.
        parameters: Hyper-parameters by name.
        arxiv: Number of the paper on arXiv; empty if it has none.
        models: Runs with it.
    """

    name: str
    label: str
    summary: str
    details: str
    command: str
    parameters: dict[str, str]
    arxiv: str
    models: tuple[Model, ...]


@PAGES.get("")
def _overview() -> str:
    found = snapshot()
    names = [name for name, _ in entries("loss", services().settings.config_dir)]
    algorithms = [_algorithm(name, found) for name in names]
    algorithms.sort(key=lambda one: (not one.models, one.models[0].order[0] if one.models else 0, one.label))
    return render_template("algorithms.html", page="algorithms", algorithms=algorithms, **_charts(chosen_collection()))


@PAGES.get("/<name>")
def _one(name: str) -> str:
    if name not in dict(entries("loss", services().settings.config_dir)):
        abort(404, "There is no such loss.")
    found = snapshot()
    return render_template(
        "algorithm.html",
        page="algorithms",
        algorithm=_algorithm(name, found),
        formula=formula(name),
        symbols=symbols(),
        collections=found.collections,
        collection_of=found.collection_of,
    )


def _algorithm(name: str, found: Snapshot) -> Algorithm:
    text = _file(name).read_text(encoding="utf-8")
    comment = [line.removeprefix("#").removeprefix(" ") for line in _opening(text)]
    commands = [line.strip() for line in comment if line.startswith("  dmlbench")]
    end = next((i for i, line in enumerate(comment) if line.startswith("  dmlbench")), len(comment))
    values = yaml.safe_load(text)
    values = values if isinstance(values, dict) else {}
    summary = " ".join(line.strip() for line in comment[:end])
    arxiv = _ARXIV.search(summary)
    return Algorithm(
        name=name,
        label=str(values.get("label", name)),
        summary=summary,
        details=" ".join(line.strip() for line in comment[end:] if not line.startswith("  dmlbench")),
        command=commands[0] if commands else f"dmlbench train loss={name}",
        parameters=_parameters(values),
        arxiv=arxiv[1] if arxiv else "",
        models=tuple(model for model in found.models.values() if model.row["loss"] == name),
    )


def _file(name: str) -> Path:
    """Return the file of a loss, whose name is one of `entries`."""
    own = services().settings.config_dir
    shipped = conf_dir() / "loss" / f"{name}.yaml"
    return shipped if shipped.is_file() or own is None else own / "loss" / f"{name}.yaml"


def _opening(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def _parameters(values: dict[str, Any]) -> dict[str, str]:
    """Return the hyper-parameters of a loss and its miner, with the range in which they are searched."""
    search = values.get("search") or {}
    found: dict[str, str] = {}
    for part in ("make", "miner"):
        for key, value in (values.get(part) or {}).items():
            if isinstance(value, dict):
                value = str(value.get("_target_", "")).rpartition(".")[2]
            where = search.get(f"{part}.{key}")
            limits = f" (searched from {where['low']} to {where['high']})" if isinstance(where, dict) and "low" in where else ""
            name = {"_target_": "constructor"}.get(key, key) if part == "make" else f"miner {key}".replace("_target_", "")
            found[name.strip()] = f"{value}{limits}"
    for key in ("kind", "samples_per_class", "lr_scale", "proxy_init"):
        if key in values:
            found[key] = str(values[key])
    return found


def _charts(collection: Collection | None) -> dict[str, Any]:
    """Return charts of one metric on one data set, one per table of comparable runs."""
    context: dict[str, Any] = {"collections": snapshot().collections, "collection": collection, "charts": [], "metrics": {}}
    if collection is None:
        return context
    rows = [model.row for model in collection.models]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    usual = _DEFAULT_METRIC if _DEFAULT_METRIC in names else next(iter(names), "")
    metric = request.args.get("metric") or usual
    if metric not in names:
        abort(400, "No run on this data set has this metric.")
    tables = compare(rows, metrics=[metric], tested=False, cost=False, published="none")
    by_score = request.args.get("order") != "method"
    charts = [(table.caption, _chart(table, metric, by_score)) for table in tables]
    return {
        **context,
        "metric": metric,
        "metrics": {name: metric_label(name) for name in names},
        "by_score": by_score,
        "charts": sorted(charts, key=lambda chart: -len(chart[1])),
    }


def _chart(table: Table, metric: str, by_score: bool) -> str:
    found = [(row, cell) for row in table.rows if (cell := row.cells.get(metric)) is not None]
    if by_score:
        found.sort(key=lambda pair: -pair[1].mean)
    intervals = [Interval(f"{row.label}", cell.mean, cell.half_width) for row, cell in found]
    high = max((one.mean + (one.half_width or 0) for one in intervals), default=1.0)
    top = next((limit for limit in (0.1, 0.2, 0.5, 1.0) if high <= limit), 1.0)
    seeds = format_seeds(sorted({seed for row, _ in found for seed in row.seeds})) if found else "no seeds"
    return interval_chart(f"{metric_label(metric)} in %, mean and 95 % interval over {seeds}", intervals, 0, top, percent=True)
