"""A comparison of two methods as one screen of text, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from dmlbench.results.formatting import format_difference, format_percent, format_seeds, metric_label
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.confidence import CONFIDENCE
from dmlbench.tables.formats.pairwise_verdict import (
    format_interval,
    format_p,
    method_name,
    short_column,
    short_value,
    verdict,
)
from dmlbench.tables.formats.text import aligned, printable, shorten, wrap
from dmlbench.tables.pairwise import ClassMeans, Comparison, Pair

_MAX_CLASSES = 5


def as_text(comparison: Comparison, names: tuple[str, str]) -> str:
    """Write a comparison as one screen of text.

    Args:
        comparison: Comparison of two methods.
        names: Selectors of the runs of A and of B.
    """
    notes = [line for note in comparison.notes for line in wrap(f"{note}.")]
    parts = [
        _sides(comparison, names),
        [*_not_comparable(comparison), *wrap(verdict(comparison)), *notes],
        _metrics(comparison),
        _classes(comparison),
        _costs(comparison),
        _rest(comparison),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def as_json(comparison: Comparison, names: tuple[str, str]) -> str:
    """Write a comparison as JSON; numbers are fractions.

    Args:
        comparison: Comparison of two methods.
        names: Selectors of the runs of A and of B.
    """
    sides = {
        side: {"runs": name, "loss_label": rows[0].get("loss_label"), "seeds": [row.seed for row in rows]}
        for side, name, rows in zip("ab", names, (comparison.a, comparison.b), strict=True)
    }
    found = {
        **sides,
        "verdict": verdict(comparison),
        "notes": comparison.notes,
        "differences": [
            {**dataclasses.asdict(one), "value": one.value, "better": one.better} for one in comparison.differences
        ],
        "classes": [{**dataclasses.asdict(one), "gain": one.gain} for one in comparison.classes],
        "costs": {one.column.name: [one.a, one.b] for one in comparison.costs},
        **{name: getattr(comparison, name) for name in ("not_comparable", "method", "circumstances")},
    }
    return json.dumps(found, indent=1, ensure_ascii=False, default=dict) + "\n"


def _sides(comparison: Comparison, names: tuple[str, str]) -> list[str]:
    lines = []
    for side, name, rows in zip("AB", names, (comparison.a, comparison.b), strict=True):
        seeds = format_seeds([row.seed for row in rows])
        parts = [method_name(rows), printable(rows[0].get("dataset_label") or rows[0]["dataset"]), seeds, printable(name)]
        lines += wrap(" · ".join(parts), "   ", f"{side}  ", max_lines=2)
    return lines


def _not_comparable(comparison: Comparison) -> list[str]:
    if not comparison.not_comparable:
        return []
    text = f"Not comparable, so the difference may not be due to the methods: {_pairs(comparison.not_comparable)}."
    return wrap(text, max_lines=4)


def _pairs(pairs: Mapping[str, Pair]) -> str:
    return "; ".join(f"{name} {short_value(a)} -> {short_value(b)}" for name, (a, b) in pairs.items())


def _metrics(comparison: Comparison) -> list[str]:
    rows = [["%", "A", "B", "B - A", f"{100 * CONFIDENCE:.0f} % interval", "p"]]
    for one in comparison.differences:
        tested = [format_interval(one), format_p(one.p)] if one.half_width is not None and one.p is not None else ["--", "--"]
        rows.append(
            [metric_label(one.metric), format_percent(one.a), format_percent(one.b), format_difference(one.value), *tested]
        )
    bases = {one.basis for one in comparison.differences}
    sentences = []
    if "seeds and classes" in bases:
        sentences.append(
            "Interval and p: mixed model with random effects of seeds and classes, Satterthwaite degrees of freedom"
        )
    if "classes only" in bases:
        sentences.append("Interval and p: paired t test over class means, which does not account for seed variance")
    reasons = {one.untested: None for one in comparison.differences if one.basis == "none"}
    sentences += [f"Metrics with `--` were not tested: {reason}" for reason in reasons]
    return [*aligned(rows), *(line for sentence in sentences for line in wrap(f"{sentence}."))]


def _classes(comparison: Comparison) -> list[str]:
    if not comparison.classes:
        return []
    ahead = sum(one.gain > 0 for one in comparison.classes)
    behind = sum(one.gain < 0 for one in comparison.classes)
    title = (
        f"Classes, {metric_label(comparison.differences[0].metric)} in %, number of queries in brackets: "
        f"B is higher in {ahead} of {len(comparison.classes)}, lower in {behind}."
    )
    gains = [one for one in comparison.classes if one.gain > 0][:_MAX_CLASSES]
    losses = [one for one in reversed(comparison.classes) if one.gain < 0][:_MAX_CLASSES]
    parts = [(heading, some) for heading, some in (("largest gains of B", gains), ("largest losses of B", losses)) if some]
    height = max((len(some) for _, some in parts), default=0)
    columns = []
    for heading, some in parts:
        rows = [[heading, "A", "B", "B - A"], *(_class_cells(one, 26 if len(parts) > 1 else 60) for one in some)]
        columns.append(aligned(rows) + [""] * (height - len(some)))
    width = max((len(line) for line in columns[0]), default=0) + 4 if columns else 0
    return [*wrap(title), *("".join(f"{part:<{width}}" for part in line).rstrip() for line in zip(*columns, strict=True))]


def _class_cells(one: ClassMeans, width: int) -> list[str]:
    count = f" ({one.n_queries})"
    return [
        shorten(one.name, width - len(count)) + count,
        format_percent(one.a),
        format_percent(one.b),
        format_difference(one.gain),
    ]


def _costs(comparison: Comparison) -> list[str]:
    rows = [["Cost", "A", "B", "B / A"]]
    on_cpu = any(str(row.get("device")).startswith("cpu") for row in (*comparison.a, *comparison.b))
    for one in comparison.costs:
        label = f"{one.column.heading}, whole process" if on_cpu and one.column.name == "memory_gib" else one.column.heading
        ratio = f"{one.b / one.a:.2f}" if one.a and one.b is not None else "--"
        rows.append([label, _amount(one.a), _amount(one.b), ratio])
    return aligned(rows) if len(rows) > 1 else []


def _amount(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:,.0f}" if value >= 1000 or value == 0 else f"{value:#.3g}".rstrip(".")


def _rest(comparison: Comparison) -> list[str]:
    texts = _methods(comparison)
    if comparison.circumstances:
        texts.append((f"Other differences: {_pairs(comparison.circumstances)}.", 2))
    if not comparison.not_comparable:
        row = comparison.a[0]
        version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
        equal = f"split, trunk {row['trunk']}, protocol {row['protocol']}{version}, optimizer and sampler"
        texts.append((f"Identical in both: {equal}.", 2))
    return [line for text, max_lines in texts for line in wrap(text, max_lines=max_lines)]


def _methods(comparison: Comparison) -> list[tuple[str, int]]:
    """Return texts on how the methods differ, each with its maximum number of lines.

    Methods with the same loss differ in values; of two losses, the values of each are listed.
    """
    values = {short_column(name): pair for name, pair in comparison.method.items() if name != "loss"}
    if not comparison.method:
        return [("The methods do not differ.", 1)]
    if "loss" not in comparison.method:
        return [(f"The methods differ in: {_pairs(values)}.", 4)]
    sides = []
    for side, rows in enumerate((comparison.a, comparison.b)):
        listed = [f"{name}={short_value(pair[side])}" for name, pair in values.items() if pair[side] not in (ABSENT, None)]
        values_text = f": {', '.join(listed)}" if listed else ""
        sides.append((f"{'AB'[side]} is {rows[0]['loss']}{values_text}.", 3))
    return sides
