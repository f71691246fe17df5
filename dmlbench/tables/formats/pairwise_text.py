"""A comparison of two methods as one screen of text, or as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import format_difference, format_percent, format_seeds, format_value
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import Row
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.bold import FEW_SEEDS
from dmlbench.tables.confidence import CONFIDENCE
from dmlbench.tables.formats.text import aligned, printable, shorten, wrap
from dmlbench.tables.pairwise import DATA, ClassMeans, Comparison, Difference, Pair

_MAX_CLASSES = 5
_MAX_NAMED_VALUES = 2


def as_text(comparison: Comparison, names: tuple[str, str]) -> str:
    """Write one screen.

    Args:
        comparison: What to write.
        names: Names of the runs of A and of B.
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
    """Write everything for programs; numbers are fractions."""
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


def verdict(comparison: Comparison) -> str:
    """Say in a sentence or two which method is better, by how much and how certain that is."""
    first = comparison.differences[0]
    what = _metric_label(first.metric)
    a, b = (f"{side} ({name})" for side, name in zip("AB", _names(comparison), strict=True))
    if not comparison.not_comparable.keys().isdisjoint(DATA):
        points = format_difference(first.value)
        return f"{a} and {b} were evaluated on different images, so the difference of {points} points in {what} is meaningless."
    leader, other = (a, b) if first.value < 0 else (b, a)
    n_classes = f"{len(comparison.classes)} classes"
    if first.basis == "seeds and classes":
        n = f"n = {len(comparison.a)} seeds, {n_classes}"
        if first.better:
            return f"{leader} is better than {other} in {what}: {_lead(first)}, {n}."
        few = "; this few seeds give little power" if len(comparison.a) <= FEW_SEEDS else ""
        return f"No significant difference between {a} and {b} in {what}: B - A is {_numbers(first)}, {n}{few}."
    ahead = f"{leader} scores higher than {other} in {what}: {_lead(first)}" if first.value else f"A and B are equal in {what}"
    if first.basis == "none":
        return f"{ahead}; significance was not tested: {first.untested}."
    if not first.better and first.value:
        ahead = f"No significant difference between {a} and {b} in {what}: B - A is {_numbers(first)}"
    limits = f"The test covers class variance only; seed variance is not accounted for ({first.untested})"
    return f"{ahead}, over {n_classes}. {limits}."


def _numbers(one: Difference) -> str:
    points = f"{format_difference(one.value)} points"
    if one.half_width is None or one.p is None:
        return points
    return f"{points} {_interval(one)}, {_p(one.p, 'p = ')}"


def _lead(one: Difference) -> str:
    """The difference as seen from the method that is ahead."""
    return _numbers(one if one.value >= 0 else dataclasses.replace(one, a=one.b, b=one.a))


def _interval(one: Difference) -> str:
    assert one.half_width is not None
    low, high = (format_difference(one.value + sign * one.half_width).lstrip("+") for sign in (-1, 1))
    return f"[{low}, {high}]"


def _p(p: float, before: str = "") -> str:
    if p < 0.001:
        return before.replace("=", "<") + "0.001" if before else "< 0.001"
    return f"{before}{p:.3f}" if p < 0.1 else f"{before}{p:.2f}"


def _metric_label(metric: str) -> str:
    column = parse_metric(metric)
    return column.label if column else metric


def _name(rows: Sequence[Row]) -> str:
    return printable(rows[0].get("loss_label") or rows[0]["loss"])


def _names(comparison: Comparison) -> tuple[str, str]:
    """The names of the methods; if they are the same, with the first values in which the methods differ."""
    names = _name(comparison.a), _name(comparison.b)
    if names[0] != names[1]:
        return names
    pairs = {**comparison.method, **comparison.not_comparable}
    pairs = {name: values for name, values in pairs.items() if ABSENT not in values}
    distinct = {repr(values): name for name, values in reversed(pairs.items())}  # a value that follows another is not named
    named = [name for name in pairs if name in distinct.values()][:_MAX_NAMED_VALUES]
    a, b = ([f"{_short_column(name)} {_word(pairs[name][side])}" for name in named] for side in (0, 1))
    return ", ".join([names[0], *a]), ", ".join([names[1], *b])


def _sides(comparison: Comparison, names: tuple[str, str]) -> list[str]:
    lines = []
    for side, name, rows in zip("AB", names, (comparison.a, comparison.b), strict=True):
        seeds = format_seeds([row.seed for row in rows])
        parts = [_name(rows), printable(rows[0].get("dataset_label") or rows[0]["dataset"]), seeds, printable(name)]
        lines += wrap(" · ".join(parts), "   ", f"{side}  ", max_lines=2)
    return lines


def _not_comparable(comparison: Comparison) -> list[str]:
    if not comparison.not_comparable:
        return []
    text = f"Not comparable, so the difference may not be due to the methods: {_pairs(comparison.not_comparable)}."
    return wrap(text, max_lines=4)


def _pairs(pairs: Mapping[str, Pair]) -> str:
    return "; ".join(f"{name} {_word(a)} -> {_word(b)}" for name, (a, b) in pairs.items())


def _metrics(comparison: Comparison) -> list[str]:
    rows = [["%", "A", "B", "B - A", f"{CONFIDENCE:.0%} interval", "p"]]
    for one in comparison.differences:
        tested = [_interval(one), _p(one.p)] if one.half_width is not None and one.p is not None else ["--", "--"]
        rows.append(
            [_metric_label(one.metric), format_percent(one.a), format_percent(one.b), format_difference(one.value), *tested]
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
    sentences += [f"Not tested where `--`: {reason}" for reason in reasons]
    return [*aligned(rows), *(line for sentence in sentences for line in wrap(f"{sentence}."))]


def _classes(comparison: Comparison) -> list[str]:
    if not comparison.classes:
        return []
    ahead = sum(one.gain > 0 for one in comparison.classes)
    behind = sum(one.gain < 0 for one in comparison.classes)
    title = (
        f"Classes, {_metric_label(comparison.differences[0].metric)} in %, number of queries in brackets: "
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
    """How the methods differ, each text with its maximum number of lines: by value, or of two losses each one's own."""
    values = {_short_column(name): pair for name, pair in comparison.method.items() if name != "loss"}
    if not comparison.method:
        return [("The methods do not differ.", 1)]
    if "loss" not in comparison.method:
        return [(f"The methods differ in: {_pairs(values)}.", 4)]
    sides = []
    for side, rows in enumerate((comparison.a, comparison.b)):
        own = [f"{name}={_word(pair[side])}" for name, pair in values.items() if pair[side] not in (ABSENT, None)]
        sides.append((f"{'AB'[side]} is {rows[0]['loss']}: {', '.join(own)}.", 3))
    return sides


def _short_column(name: str) -> str:
    """A hyper-parameter without its prefix."""
    return re.sub("^loss_(make_)?", "", name)


def _word(value: Scalar) -> str:
    """A value; of a dotted name only the last part."""
    text = format_value(value)
    return text.rpartition(".")[2] if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) else shorten(text, 40)
