"""Training loss and validation score of each epoch, from the history files of the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method
from dmlbench.report.scales import horizontal_axis, linear, tick_labels, vertical_axis
from dmlbench.report.svg import marker, path, picture, text, with_hint
from dmlbench.results.row import LARGEST
from dmlbench.results.run_folder import Epochs, read_folder

MAX_POINTS = 160  # of a line; more cannot be seen
_VALIDATION = "validation_map_at_r"
_SMALL, _LARGE = (230.0, 136.0), (460.0, 320.0)


@dataclass(frozen=True)
class Curve:
    """Values of one model over epochs.

    Args:
        name: Seed, and fold if there are several models.
        points: Epoch and value, by epoch.
    """

    name: str
    points: Sequence[tuple[float, float]]


Histories = Mapping[int, Sequence[tuple[str, Epochs]]]


def read_histories(methods: Sequence[Method]) -> Histories:
    """Read the history files of all runs of a table.

    Args:
        methods: Methods of the table.

    Returns:
        Index of a method to the name of each model and its epochs. Runs without a history are left out.
    """
    found: dict[int, list[tuple[str, Epochs]]] = {}
    for one in methods:
        for row in one.row.rows:
            if row.folder is None or not row.folder.is_dir():
                continue
            for part, epochs in read_folder(row.folder).histories.items():
                name = f"seed {row.seed}" + ("" if part == "." else f", {part}")
                found.setdefault(one.index, []).append((name, epochs))
    return found


def training_figure(methods: Sequence[Method], histories: Histories) -> Figure:
    """Draw the training loss, one panel per method because losses have different units.

    Args:
        methods: Methods of the table.
        histories: Their histories.
    """
    title = "Training loss per epoch"
    panels = [_loss_panel(one, curves) for one in methods if (curves := _curves(histories.get(one.index, ()), "loss"))]
    if not panels:
        return Figure(title, "The runs of this table have no history of their training.")
    caption = "One line per seed. Losses have different units, so each panel has its own scale."
    return Figure(title, caption, panels, "small")


def validation_figure(methods: Sequence[Method], histories: Histories) -> Figure:
    """Draw the validation score over epochs.

    Args:
        methods: Methods of the table.
        histories: Their histories.
    """
    title = "Validation MAP@R per epoch"
    curves = {one.index: _curves(histories.get(one.index, ()), _VALIDATION, 100) for one in methods}
    drawn = [one for one in methods if curves[one.index]]
    if not drawn:
        return Figure(title, "No run of this table was validated during training (protocol.selection=validation does).")
    points = [point for one in drawn for curve in curves[one.index] for point in curve.points]
    width, height = _LARGE
    x = linear([epoch for epoch, _ in points], 44, width - 12, whole=True)
    y = linear([value for _, value in points], height - 42, 26)
    lines = []
    for one in drawn:
        paths = [
            path([(x(epoch), y(value)) for epoch, value in curve.points], one.colour, one.dashes) for curve in curves[one.index]
        ]
        ends = [curve.points[-1] for curve in curves[one.index]]
        marks = [marker(x(epoch), y(value), one.shape, one.colour) for epoch, value in ends]
        best = "; ".join(f"{curve.name}: best {max(value for _, value in curve.points):.1f} %" for curve in curves[one.index])
        lines.append(with_hint(f"{one.row.label}: {best}", *paths, *marks, **one.mark))
    axes = [horizontal_axis(x, 26, height - 42, "epoch"), vertical_axis(y, 44, width - 12)]
    heading = text(0, 14, "MAP@R on held-out training classes, %", class_="heading")
    described = f"Validation MAP@R over epochs of {len(drawn)} methods, one line per seed"
    return Figure(
        title,
        "One line per seed, on held-out training classes.",
        [picture(width, height, described, heading, *axes, *lines)],
        legend=drawn,
    )


def _curves(histories: Sequence[tuple[str, Epochs]], key: str, scale: float = 1) -> list[Curve]:
    found = []
    for name, epochs in histories:
        points = [
            (one["epoch"], scale * one[key]) for one in epochs if _is_drawable(one.get("epoch")) and _is_drawable(one.get(key))
        ]
        if points:
            found.append(Curve(name, _thinned(sorted(points))))
    return found


def _is_drawable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and abs(value) < LARGEST


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= MAX_POINTS:
        return points
    return [points[round(place * (len(points) - 1) / (MAX_POINTS - 1))] for place in range(MAX_POINTS)]


def _loss_panel(method: Method, curves: Sequence[Curve]) -> Markup:
    width, height = _SMALL
    values = [value for curve in curves for _, value in curve.points]
    y = linear(values, height - 34, 28, n_ticks=3)
    left = max(44.0, 9.0 * max(map(len, tick_labels(y.ticks))) + 8)  # also if the text is enlarged on a small screen
    x = linear([epoch for curve in curves for epoch, _ in curve.points], left, width - 8, n_ticks=4, whole=True)
    lines = [path([(x(epoch), y(value)) for epoch, value in curve.points], method.colour) for curve in curves]
    ends = [marker(x(curve.points[-1][0]), y(curve.points[-1][1]), method.shape, method.colour) for curve in curves]
    axes = [horizontal_axis(x, 28, height - 34, ""), vertical_axis(y, left, width - 8)]
    epochs, name = text((left + width) / 2, height - 4, "epoch", "middle", "tick"), text(0, 13, method.label, class_="heading")
    last = "; ".join(f"{curve.name}: {curve.points[-1][1]:.4g} after epoch {curve.points[-1][0]:.0f}" for curve in curves)
    described = f"Training loss of {method.row.label}; {last}"
    drawn = with_hint(f"{method.row.label}; {last}", *axes, *lines, *ends, epochs, name)
    return picture(width, height, described, drawn, **method.mark)
