"""Draw a projection of embeddings. Each class has its own colour and its own marker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dmlbench.pictures.labels import wrapped
from dmlbench.pictures.projection import Projection
from dmlbench.pictures.sheet import MUTED, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 20
# Paul Tol's scheme "muted", whose colours are also different for colour-blind readers, and grey.
_COLOURS = ("#332288", "#44aa99", "#cc6677", "#ddaa33", "#88ccee", "#117733", "#882255", "#999933", "#aa4499", "#777777")
_MARKERS = "osD^vPX*<>d"  # 10 colours and 11 markers: no pair occurs twice
_NAME = 34  # characters of a line of the legend


def legend_height(projection: Projection, names: Mapping[int, str]) -> float:
    """Return the height that the legend of a projection needs, in inches.

    Args:
        projection: What is drawn.
        names: Label to name.
    """
    return sum(0.125 * (_shown(names, label).count("\n") + 1) + 0.06 for label in projection.classes)


def _shown(names: Mapping[int, str], label: int) -> str:
    return wrapped(names.get(label) or f"class {label}", _NAME)


def draw_projection(axes: Axes, projection: Projection, names: Mapping[int, str]) -> None:
    """Draw the points of a projection, with a legend on the right.

    Args:
        axes: Axes to draw in; the legend is outside of them.
        projection: What to draw, at most `MOST_CLASSES` classes.
        names: Label to name; other classes are named by their label.
    """
    for number, label in enumerate(projection.classes):
        marker = _MARKERS[number % len(_MARKERS)]
        x, y = projection.points[projection.labels == label].T
        axes.scatter(
            *(x, y),
            s=60 if marker in "*d" else 34,
            c=_COLOURS[number % len(_COLOURS)],
            marker=marker,
            edgecolors="white",
            linewidths=0.4,
            alpha=0.9,
            label=_shown(names, label),
        )
    for axis, share in zip((axes.xaxis, axes.yaxis), projection.explained, strict=True):
        axis.set_ticks([])
        which = "first" if axis is axes.xaxis else "second"
        axis.set_label_text(f"{which} principal component ({100 * share:.0f} % of the variance)", fontsize=8, color=MUTED)
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#d5d9de")
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_color(TEXT)


def sentence(projection: Projection) -> str:
    """Describe a projection.

    Args:
        projection: What was drawn.
    """
    n, total = len(projection.classes), projection.n_classes
    which = f"all {n} test classes" if n == total else f"{n} of {total:,} test classes, drawn at random"
    left_out = f" ({projection.n_left_out:,} images of large classes are left out)" if projection.n_left_out else ""
    return f"Embeddings of {which}, projected onto their first two principal components{left_out}."
