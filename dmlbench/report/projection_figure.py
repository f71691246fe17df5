"""The embeddings of some test classes, projected onto their first two principal components, one panel per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from dmlbench.pictures.labels import shortened
from dmlbench.pictures.projection import Projection, project
from dmlbench.report.figure import Figure
from dmlbench.report.query_pictures import Shown
from dmlbench.report.scales import linear
from dmlbench.report.svg import N_COLOURS, element, number, picture, text, with_hint
from dmlbench.results.class_files import class_names
from dmlbench.results.formatting import format_percent

N_CLASSES, MAX_PER_CLASS, MAX_PANELS = 7, 40, 12
MIN_UMAP = 20  # images; UMAP needs more of them than neighbours
_SIDE, _TOP = 260.0, 22.0
# Outlines of small markers, short because there are thousands of points: disc, square, diamond, triangles, plus, cross.
_OUTLINES = (
    "h0",
    "m-2 -2h4v4h-4z",
    "m0 -3l3 3l-3 3l-3 -3z",
    "m0 -3l3 5h-6z",
    "m0 3l3 -5h-6z",
    "m-3 0h6m-3 -3v6",
    "m-2 -2l4 4m0 -4l-4 4",
)


def projection_figure(runs: Sequence[Shown], method: str = "pca") -> Figure:
    """Draw the same classes in the embedding of every method.

    Args:
        runs: One run per method.
        method: `pca`, or `umap` if it is installed.
    """
    title = "Embeddings of some test classes"
    if not runs:
        return Figure(title, "No projection, because no finished run has embeddings.")
    names = next((known for run in runs if (known := class_names(run.row))), {})
    panels: list[Markup] = []
    projections: list[Projection] = []
    for run in runs[:MAX_PANELS]:
        projections.append(_with_method(project(run.embeddings, N_CLASSES, most_per_class=MAX_PER_CLASS), run, method))
        panels.append(_panel(run, projections[-1], names, method))
    found = projections[0]  # all have the same classes, because all have the same images
    left_out = f" At most {MAX_PER_CLASS} images of each class." if found.n_left_out else ""
    more = f" The first {MAX_PANELS} of {len(runs)} methods." if len(runs) > MAX_PANELS else ""
    how = _variance(projections) if method == "pca" else "by UMAP, whose distances between groups have no meaning."
    caption = f"{len(found.classes)} of {found.n_classes} test classes, drawn at random, {how}{left_out}{more}"
    return Figure(title, caption, [*panels, _legend(found.classes, names)], "small")


def _variance(projections: Sequence[Projection]) -> str:
    """Return what principal components are, and in how many panels they explain less than half of the variance."""
    n_low, n = sum(sum(one.explained) < 0.5 for one in projections), len(projections)
    how = "on the first two principal components of each method, with their shares of the variance of the drawn images."
    if not n_low:
        return how
    which = "" if n_low == n else f" of {n_low} of {n} methods"
    return f"{how} Most of the variance{which} is in other directions."


def _with_method(found: Projection, run: Shown, method: str) -> Projection:
    """Replace principal components by the points of UMAP, if it is requested and there are enough images for it."""
    if method == "pca" or len(found.ids) < MIN_UMAP:
        return found
    from umap import UMAP  # takes ten seconds to import; the command has checked that it is installed

    rows = run.embeddings.rows[[run.embeddings.index[int(image_id)] for image_id in found.ids]]
    points = UMAP(n_components=2, metric="cosine", random_state=0).fit_transform(rows)
    return replace(found, points=np.asarray(points, dtype=np.float64))


def _panel(run: Shown, found: Projection, names: Mapping[str, str], method: str) -> Markup:
    x = linear(found.points[:, 0].tolist(), 4, _SIDE - 4)
    y = linear(found.points[:, 1].tolist(), _SIDE + _TOP - 4, _TOP + 4)
    groups = []
    for place, label in enumerate(found.classes):
        points = [(x(float(across)), y(float(up))) for across, up in found.points[found.labels == label]]
        groups.append(with_hint(_name(names, label), _marks(points, place)))
    shares = " + ".join(f"{format_percent(share, 0)} %" for share in found.explained) if method == "pca" else ""
    heading = with_hint(run.method.row.label, text(0, 14, run.method.label, class_="heading"))
    share = text(_SIDE, 14, shares, "end", "tick")
    frame = element("rect", x=0.5, y=_TOP, width=_SIDE - 1, height=_SIDE, class_="frame")
    described = f"Projection of {len(found.classes)} classes in the embedding of {run.method.row.label}"
    return picture(_SIDE, _SIDE + _TOP + 1, described, heading, share, frame, *groups, **run.method.mark)


def _marks(points: Sequence[tuple[float, float]], place: int) -> Markup:
    outline = _OUTLINES[place % len(_OUTLINES)]
    steps = "".join(f"M{number(x)} {number(y)}{outline}" for x, y in points)
    return element("path", d=steps, class_=f"dots {'disc ' if outline == 'h0' else ''}c{place % N_COLOURS}")


def _legend(classes: Sequence[int], names: Mapping[str, str]) -> Markup:
    height = 24.0 * len(classes) + _TOP
    rows = []
    for place, label in enumerate(classes):
        at = _TOP + 24 * place + 12
        shown = text(22, at + 4, shortened(_name(names, label), 36))
        rows.append(with_hint(_name(names, label), _marks([(9, at)], place), shown))
    described = f"Classes: {', '.join(_name(names, label) for label in classes)}"
    return picture(_SIDE, height, described, text(0, 14, "classes", class_="heading"), *rows)


def _name(names: Mapping[str, str], label: int) -> str:
    return names.get(str(label)) or f"class {label}"
