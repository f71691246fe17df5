"""Floor 5: a comparison as one screen of text, or as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence

from dmlbench.axes import ABSENT
from dmlbench.comparison import DATA, ClassMeans, Comparison, Difference, Pair
from dmlbench.labels import shown
from dmlbench.marks import FEW_SEEDS
from dmlbench.measures import column_of
from dmlbench.rows import Row, Scalar
from dmlbench.screen import aligned, paragraph, percent, plain, seeds_told, short, signed
from dmlbench.stats import CONFIDENCE

FORMATS = ("text", "json")
_SHOWN_CLASSES = 5
_NAMED_BY = 2  # values


def as_text(found: Comparison, names: tuple[str, str]) -> str:
    """One screen.

    Args:
        found: what to tell.
        names: words for the runs of A and of B.
    """
    parts = [
        _sides(found, names),
        [*_not_alike(found), *paragraph(verdict(found)), *(line for note in found.notes for line in paragraph(f"{note}."))],
        _metrics(found),
        _classes(found),
        _costs(found),
        _rest(found),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def as_json(found: Comparison, names: tuple[str, str]) -> str:
    """Everything, for programs; numbers are fractions."""
    sides = {
        side: {"runs": name, "loss_label": rows[0].get("loss_label"), "seeds": [row["seed"] for row in rows]}
        for side, name, rows in zip("ab", names, (found.a, found.b), strict=True)
    }
    told = {
        **sides,
        "verdict": verdict(found),
        "notes": found.notes,
        "differences": [{**dataclasses.asdict(one), "value": one.value, "better": one.better} for one in found.differences],
        "classes": [{**dataclasses.asdict(one), "gain": one.gain} for one in found.classes],
        **{name: getattr(found, name) for name in ("costs", "not_alike", "method", "circumstances")},
    }
    return json.dumps(told, indent=1, ensure_ascii=False, default=dict) + "\n"


def verdict(found: Comparison) -> str:
    """Which is better, by how much and how sure, in a sentence or two."""
    first = found.differences[0]
    what, a, b = _label(first.metric), f"A ({_names(found)[0]})", f"B ({_names(found)[1]})"
    n_classes = f"{len(found.classes)} classes"
    if not found.not_alike.keys().isdisjoint(DATA):
        points = f"{signed(first.value)} points in {what}"
        return f"{a} and {b} were scored on different images: {points} say nothing of which is better."
    leader, other = (a, b) if first.value < 0 else (b, a)
    if first.basis == "seeds and classes":
        grounds = f"n = {len(found.a)} seeds, {n_classes}"
        if first.better:
            return f"{leader} is better than {other} in {what}: {_lead(first)}, {grounds}."
        few = "; so few seeds have little power" if len(found.a) <= FEW_SEEDS else ""
        return f"{a} and {b} cannot be told apart in {what}: B - A is {_numbers(first)}, {grounds}{few}."
    ahead = f"{leader} is ahead of {other} in {what}: {_lead(first)}" if first.value else f"A and B score the same in {what}"
    if first.basis == "nothing":
        return f"{ahead}; whether that is chance was not tested, for {first.untested}."
    if not first.better and first.value:
        ahead = f"{a} and {b} cannot be told apart in {what}: B - A is {_numbers(first)}"
    alone = f"over {n_classes} alone; {first.untested}, so the noise of seeds is not in this, and other seeds may disagree"
    return f"{ahead}, {alone}."


def _numbers(one: Difference) -> str:
    points = f"{signed(one.value)} points"
    if one.half_width is None or one.p is None:
        return points
    return f"{points} {_interval(one)}, {_p(one.p, 'p = ')}"


def _lead(one: Difference) -> str:
    """By how much the one that is ahead is so."""
    return _numbers(one if one.value >= 0 else dataclasses.replace(one, a=one.b, b=one.a))


def _interval(one: Difference) -> str:
    assert one.half_width is not None
    return f"[{signed(one.value - one.half_width).lstrip('+')}, {signed(one.value + one.half_width).lstrip('+')}]"


def _p(p: float, before: str = "") -> str:
    if p < 0.001:
        return before.replace("=", "<") + "0.001" if before else "< 0.001"
    return f"{before}{p:.3f}" if p < 0.1 else f"{before}{p:.2f}"


def _label(metric: str) -> str:
    column = column_of(metric)
    return column.label if column else metric


def _name(rows: Sequence[Row]) -> str:
    return plain(rows[0].get("loss_label") or rows[0]["loss"])


def _names(found: Comparison) -> tuple[str, str]:
    """What the two are called: where their methods' names are the same, with the first values in which they differ."""
    names = _name(found.a), _name(found.b)
    if names[0] != names[1]:
        return names
    pairs = {name: values for name, values in {**found.method, **found.not_alike}.items() if ABSENT not in values}
    distinct = {repr(values): name for name, values in reversed(pairs.items())}  # what follows another value says nothing new
    told = [name for name in pairs if name in distinct.values()][:_NAMED_BY]
    a, b = ([f"{_column(name)} {_word(pairs[name][side])}" for name in told] for side in (0, 1))
    return ", ".join([names[0], *a]), ", ".join([names[1], *b])


def _sides(found: Comparison, names: tuple[str, str]) -> list[str]:
    lines = []
    for side, name, rows in zip("AB", names, (found.a, found.b), strict=True):
        seeds = seeds_told([int(str(row["seed"])) for row in rows])
        told = [_name(rows), plain(rows[0].get("dataset_label") or rows[0]["dataset"]), seeds, plain(name)]
        lines += paragraph(" · ".join(told), "   ", f"{side}  ", most=2)
    return lines


def _not_alike(found: Comparison) -> list[str]:
    if not found.not_alike:
        return []
    said = f"Not made alike, so that this compares what was measured and not the methods: {_pairs(found.not_alike)}."
    return paragraph(said, most=4)


def _pairs(pairs: Mapping[str, Pair]) -> str:
    return "; ".join(f"{name} {_word(a)} -> {_word(b)}" for name, (a, b) in pairs.items())


def _metrics(found: Comparison) -> list[str]:
    lines = [["%", "A", "B", "B - A", f"{CONFIDENCE:.0%} interval", "p"]]
    for one in found.differences:
        sure = [_interval(one), _p(one.p)] if one.half_width is not None and one.p is not None else ["--", "--"]
        lines.append([_label(one.metric), percent(one.a), percent(one.b), signed(one.value), *sure])
    bases = {one.basis for one in found.differences}
    said = []
    if "seeds and classes" in bases:
        said.append("Interval and p: crossed random effects of seeds and classes, Satterthwaite")
    if "classes alone" in bases:
        said.append("Interval and p: paired t over class means, which knows nothing of the noise of seeds")
    reasons = {one.untested: None for one in found.differences if one.basis == "nothing"}
    said += [f"Not tested where `--`: {reason}" for reason in reasons]
    return [*aligned(lines), *(line for sentence in said for line in paragraph(f"{sentence}."))]


def _classes(found: Comparison) -> list[str]:
    if not found.classes:
        return []
    ahead = sum(one.gain > 0 for one in found.classes)
    behind = sum(one.gain < 0 for one in found.classes)
    title = (
        f"Classes, {_label(found.differences[0].metric)} in %, queries in brackets: "
        f"B is ahead in {ahead} of {len(found.classes)}, behind in {behind}."
    )
    gains = [one for one in found.classes if one.gain > 0][:_SHOWN_CLASSES]
    losses = [one for one in reversed(found.classes) if one.gain < 0][:_SHOWN_CLASSES]
    parts = [(f"B {does} most", some) for does, some in (("gains", gains), ("loses", losses)) if some]
    height = max((len(some) for _, some in parts), default=0)
    columns = []
    for said, some in parts:
        lines = [[said, "A", "B", "B - A"], *(_class_cells(one, 26 if len(parts) > 1 else 60) for one in some)]
        columns.append(aligned(lines + [[""] * 4] * (height - len(some)), gap=2))
    width = max((len(line) for line in columns[0]), default=0) + 4 if columns else 0
    return [*paragraph(title), *("".join(f"{part:<{width}}" for part in line).rstrip() for line in zip(*columns, strict=True))]


def _class_cells(one: ClassMeans, width: int) -> list[str]:
    count = f" ({one.n_queries})"
    return [short(one.name, width - len(count)) + count, percent(one.a), percent(one.b), signed(one.gain)]


def _costs(found: Comparison) -> list[str]:
    lines = [["Cost", "A", "B", "B / A"]]
    on_cpu = any(str(row.get("device")).startswith("cpu") for row in (*found.a, *found.b))
    for name, (a, b) in found.costs.items():
        label = f"{name}, whole process" if on_cpu and name.startswith("memory") else name
        ratio = f"{b / a:.2f}" if a and b is not None else "--"
        if a or b:
            lines.append([label, _amount(a), _amount(b), ratio])
    return aligned(lines) if len(lines) > 1 else []


def _amount(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:,.0f}" if value >= 1000 or value == 0 else f"{value:#.3g}".rstrip(".")


def _rest(found: Comparison) -> list[str]:
    said = _methods(found)
    if found.circumstances:
        said.append((f"What else differed: {_pairs(found.circumstances)}.", 2))
    if not found.not_alike:
        row = found.a[0]
        version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
        equal = f"split, trunk {row['trunk']}, protocol {row['protocol']}{version}, optimizer and sampler"
        said.append((f"Made alike: {equal} are equal.", 2))
    return [line for text, most in said for line in paragraph(text, most=most)]


def _methods(found: Comparison) -> list[tuple[str, int]]:
    """How the methods differ, each with the lines it may take: value by value, or of two losses each one's own."""
    told = {_column(name): values for name, values in found.method.items() if name != "loss"}
    if not found.method:
        return [("The methods do not differ.", 1)]
    if "loss" not in found.method:
        return [(f"Methods differ in: {_pairs(told)}.", 4)]
    sides = []
    for side, rows in enumerate((found.a, found.b)):
        values = [f"{name}={_word(pair[side])}" for name, pair in told.items() if pair[side] not in (ABSENT, None)]
        sides.append((f"{'AB'[side]} is {rows[0]['loss']}: {', '.join(values)}.", 3))
    return sides


def _column(name: str) -> str:
    """A method's value without its family."""
    return re.sub("^loss_(make_)?", "", name)


def _word(value: Scalar) -> str:
    """A value, of what is imported only the last name."""
    text = short(shown(value), 40)
    return shown(value).rpartition(".")[2] if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", shown(value)) else text
