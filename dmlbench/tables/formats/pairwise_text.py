"""A comparison of two methods as one screen of text, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from dmlbench.results.formatting import format_difference, format_percent, format_seeds, metric_label
from dmlbench.results.row import BASELINES, EXTERNAL
from dmlbench.system.terminal import escaped_for_json, printable
from dmlbench.tables.caption import protocol_name, selection_clause
from dmlbench.tables.class_means import ClassMeans
from dmlbench.tables.confidence import CONFIDENCE
from dmlbench.tables.formats.pairwise_verdict import (
    format_interval,
    format_p,
    method_name,
    short_column,
    short_value,
    verdict,
)
from dmlbench.tables.formats.text import WIDTH, aligned, shorten, wrap
from dmlbench.tables.overrides import listed_overrides
from dmlbench.tables.pairwise import Comparison, Pair
from dmlbench.tables.significance_notes import model_statement

_MAX_CLASSES = 5
_MAX_STACKED = 3  # classes in each list if the lists are below each other because of long names
_MAX_NAME = 60
_ARGUMENTS = ("loss_make_", "loss_miner_", "loss_sampler_")


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
    return escaped_for_json(json.dumps(found, indent=1, ensure_ascii=False, default=dict)) + "\n"


def _sides(comparison: Comparison, names: tuple[str, str]) -> list[str]:
    lines = []
    for side, name, rows in zip("AB", names, (comparison.a, comparison.b), strict=True):
        seeds = format_seeds([row.seed for row in rows])
        parts = [method_name(rows), printable(rows[0].get("dataset_label") or rows[0]["dataset"]), seeds, printable(name)]
        lines += wrap(" · ".join(parts), "   ", f"{side}  ", max_lines=2)
    return lines


def _not_comparable(comparison: Comparison) -> list[str]:
    if not comparison.not_comparable or comparison.one_is_external:
        return []  # nothing is known about external embeddings; a note says so
    text = f"Not comparable, so the difference may not be due to the methods: {_pairs(comparison.not_comparable)}."
    return wrap(text, max_lines=4)


def _pairs(pairs: Mapping[str, Pair]) -> str:
    """Return the values of A and B: `margin 0.1 | 0.2`."""
    return "; ".join(f"{name} {short_value(a)} | {short_value(b)}" for name, (a, b) in pairs.items())


def _metrics(comparison: Comparison) -> list[str]:
    rows = [["%", "A", "B", "A - B", f"{100 * CONFIDENCE:.0f} % interval", "p"]]
    for one in comparison.differences:
        tested = [format_interval(one), format_p(one.p)] if one.half_width is not None and one.p is not None else ["--", "--"]
        rows.append(
            [metric_label(one.metric), format_percent(one.a), format_percent(one.b), format_difference(one.value), *tested]
        )
    bases = {one.basis for one in comparison.differences}
    sentences = []
    if "seeds and classes" in bases:
        sentences.append(f"Interval and p: {model_statement((*comparison.a, *comparison.b))}")
    if "classes only" in bases:
        sentences.append(f"Interval and p: {model_statement((*comparison.a, *comparison.b), by_seed=False)}")
    reasons = {one.untested: None for one in comparison.differences if one.basis == "none"}
    if not comparison.other_data:
        sentences += [f"Metrics with `--` were not tested: {reason}" for reason in reasons]
    return [*aligned(rows), *(line for sentence in sentences for line in wrap(f"{sentence}."))]


def _classes(comparison: Comparison) -> list[str]:
    if not comparison.classes:
        return []
    ahead = sum(one.gain > 0 for one in comparison.classes)
    behind = sum(one.gain < 0 for one in comparison.classes)
    title = (
        f"Classes, {metric_label(comparison.differences[0].metric)} in %, number of queries in brackets: "
        f"A is higher in {ahead} of {len(comparison.classes)}, lower in {behind}."
    )
    gains = [one for one in comparison.classes if one.gain > 0][:_MAX_CLASSES]
    losses = [one for one in reversed(comparison.classes) if one.gain < 0][:_MAX_CLASSES]
    parts = [(heading, some) for heading, some in (("largest gains of A", gains), ("largest losses of A", losses)) if some]
    blocks = [aligned([[heading, "A", "B", "A - B"], *map(_class_cells, some)]) for heading, some in parts]
    return [*wrap(title), *_side_by_side(blocks)]


def _side_by_side(blocks: Sequence[Sequence[str]]) -> list[str]:
    """Return blocks of lines next to each other; if they are too wide, the first lines of each below each other."""
    width = max((len(line) for line in (blocks[0] if blocks else ())), default=0) + 4
    lines = ["".join(f"{part:<{width}}" for part in line).rstrip() for line in zip_longest(*blocks, fillvalue="")]
    if max(map(len, lines), default=0) <= WIDTH:
        return lines
    return [line for block in blocks for line in block[: 1 + _MAX_STACKED]]


def _class_cells(one: ClassMeans) -> list[str]:
    count = f" ({one.n_queries})"
    return [
        shorten(one.name, _MAX_NAME - len(count)) + count,
        format_percent(one.a),
        format_percent(one.b),
        format_difference(one.gain),
    ]


def _costs(comparison: Comparison) -> list[str]:
    rows = [["Cost", "A", "B", "A / B"]]
    on_cpu = any(str(row.get("device")).startswith("cpu") for row in (*comparison.a, *comparison.b))
    for one in comparison.costs:
        label = f"{one.column.heading}, whole process" if on_cpu and one.column.name == "memory_gib" else one.column.heading
        ratio = f"{one.a / one.b:.2f}" if one.b and one.a is not None else "--"
        rows.append([label, _amount(one.a), _amount(one.b), ratio])
    return aligned(rows) if len(rows) > 1 else []


def _amount(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:,.0f}" if value >= 1000 or value == 0 else f"{value:#.3g}".rstrip(".")


def _rest(comparison: Comparison) -> list[str]:
    """Return how methods, model selection, protocols and circumstances differ, or that they are identical."""
    texts = [*_methods(comparison), *((text, 3) for text in _selection(comparison))]
    if comparison.circumstances and not comparison.one_is_external:
        texts.append((f"Other differences (A | B): {_pairs(comparison.circumstances)}.", 2))
    if not comparison.not_comparable:
        texts.append((_identical(comparison), 4))
    return [line for text, max_lines in texts for line in wrap(text, max_lines=max_lines)]


def _selection(comparison: Comparison) -> list[str]:
    """Return how models and hyper-parameters were selected; nothing is known about external embeddings."""
    sides = {
        name: "not trained" if rows[0]["loss"] in BASELINES else selection_clause(rows)
        for name, rows in (("A", comparison.a), ("B", comparison.b))
        if rows[0]["protocol"] != EXTERNAL
    }
    known = {name: text for name, text in sides.items() if text}
    if not known:
        return []
    if len(known) == 2 and len(set(known.values())) == 1:
        return [f"Model selection: {known['A']}; the test set chose nothing."]
    return [f"Model selection of {name}: {text}." for name, text in known.items()]


def _identical(comparison: Comparison) -> str:
    """Return what is equal in both: the overridden values in full, everything else by name."""
    row = comparison.a[0]
    n_seeds = f"{len(comparison.a)} seed{'s' * (len(comparison.a) > 1)}" if len(comparison.a) == len(comparison.b) else ""
    if row["protocol"] == EXTERNAL:
        parts = ["labels, ids and roles of the items", "evaluation"]
    else:
        by_all, by_some = listed_overrides([*comparison.a, *comparison.b])
        overrides = [*by_all, *(f"{one} (overridden in some runs)" for one in by_some)]
        values = f" with {', '.join(overrides)}" if overrides else ""
        parts = ["split", f"trunk {row['trunk']}", f"{protocol_name(row)}{values}", "optimizer and sampler"]
    return f"Identical in both: {', '.join(parts)}{f'; {n_seeds} each' if n_seeds else ''}."


def _methods(comparison: Comparison) -> list[tuple[str, int]]:
    """Return texts on how the methods differ, each with its maximum number of lines.

    Methods with the same loss differ in values. Of two losses, all arguments of each are listed, also those that are equal.
    """
    if not comparison.method:
        return [("The methods do not differ.", 1)]
    if "loss" not in comparison.method:
        values = {short_column(name): pair for name, pair in comparison.method.items()}
        return [(f"The methods differ in (A | B): {_pairs(values)}.", 4)]
    sides = []
    for side, rows in zip("AB", (comparison.a, comparison.b), strict=True):
        if rows[0]["protocol"] == EXTERNAL:
            sides.append((f"{side} is {method_name(rows)}, external embeddings.", 1))
            continue
        shown = {
            name: value
            for name, value in rows[0].method.items()
            if value is not None and (name.startswith(_ARGUMENTS) or (name in comparison.method and name != "loss"))
        }
        listed = ", ".join(f"{short_column(name)}={short_value(value)}" for name, value in shown.items())
        sides.append((f"{side} is {printable(rows[0]['loss'])}{f': {listed}' if listed else ''}.", 5))
    return sides
