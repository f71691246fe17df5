"""Pictures of tables. The only module of this package that needs matplotlib, which is imported when a picture is drawn."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dmlbench.errors import UserError
from dmlbench.results.formatting import metric_label
from dmlbench.system.atomic_write import atomic_write
from dmlbench.tables.by_rate import RateTable
from dmlbench.tables.caption import dataset_label
from dmlbench.tables.table import Table
from dmlbench.tables.table_row import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
BEST, OTHER, GRID = "#1b6ca8", "#8a8f94", "#e3e5e8"
_MARKERS = "osD^vPX*<>"
_SHOWN = ("map_at_r", "recall_at_1")  # panels of a table of methods
# Installed ones of these are used for characters that the first lacks, which comes with matplotlib.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai"),
    *("WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Arial Unicode MS", "Unifont"),
)
_STYLE: dict[Any, Any] = {"font.size": 10, "svg.hashsalt": "dmlbench", "axes.spines.top": False, "axes.spines.right": False}


def check_picture(file: Path, option: str = "--picture") -> None:
    """Refuse a picture that cannot be drawn, before any work.

    Args:
        file: File to write.
        option: Option that names the file, for errors.

    Raises:
        UserError: matplotlib is not installed, the suffix is unknown, or the directory does not exist.
    """
    if file.suffix not in SUFFIXES:
        raise UserError(f"{option} {file} needs one of the suffixes {', '.join(SUFFIXES)}")
    if not file.parent.is_dir():
        raise UserError(f"{option} {file}: {file.parent} is not a directory")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(f"{option} needs matplotlib: pip install 'dmlbench[pictures]' ({error})") from None


def draw_methods(table: Table, file: Path) -> None:
    """Draw a table of methods: one panel per metric, one point with its 95 % interval per method.

    Args:
        table: Table to draw.
        file: Picture to write.

    Raises:
        UserError: The table has no scores.
    """
    metrics = [metric for metric in _SHOWN if metric in table.columns] or list(table.columns[:2])
    rows = [row for row in reversed(table.rows) if any(row.cells.get(metric) for metric in metrics)]
    if not metrics or not rows:
        raise UserError(f"--picture {file}: the table has no scores to draw")
    with figure_file(file, (9, 0.9 + 0.31 * len(rows))) as figure:
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            for height, row in enumerate(rows):
                if (cell := row.cells.get(metric)) is not None:
                    best = row.label in table.bold.get(metric, ())
                    _point(panel, height, cell, {"color": BEST if best else OTHER, "fmt": "o" if best else "D"})
            panel.set(xlabel=f"{metric_label(metric)}, %", ylim=(-0.6, len(rows) - 0.2))
            panel.set_yticks(range(len(rows)), [row.label for row in rows])
            panel.grid(axis="x", color=GRID)
            panel.set_axisbelow(True)
        intervals = "mean and 95 % interval over seeds" if any(row.n > 1 for row in rows) else "one seed"
        bold = "; blue circles: not significantly worse than the best" if table.bold else ""
        first = table.rows[0].rows[0]
        figure.suptitle(
            f"{dataset_label([first])}, {first.get('trunk_label') or first['trunk']}: {intervals}{bold}", fontsize=10
        )


def _point(panel: Axes, height: int, cell: Cell, style: dict[str, str]) -> None:
    mean, half_width = 100 * cell.mean, 100 * (cell.half_width or 0)
    panel.errorbar(mean, height, xerr=half_width, capsize=3, markersize=5, **style)  # type: ignore[arg-type]
    panel.annotate(f"{mean:.1f}", (mean, height), (0, 5), textcoords="offset points", ha="center", fontsize=8)


def draw_rates(table: RateTable, file: Path) -> None:
    """Draw a table of methods over learning rates: one line with its 95 % intervals per method.

    Args:
        table: Table to draw.
        file: Picture to write.
    """
    with figure_file(file, (8, 4.2)) as figure:
        axes = figure.subplots()
        for number, row in enumerate(table.rows):
            points = [(rate, cell) for rate in table.rates if (cell := row.cells.get(rate)) is not None]
            means = [100 * cell.mean for _, cell in points]
            widths = [100 * (cell.half_width or 0) for _, cell in points]
            marker = _MARKERS[number % len(_MARKERS)]
            # A small shift keeps the intervals of several methods at one rate apart.
            shift = 1.02 ** (number - (len(table.rows) - 1) / 2)
            rates = [rate * shift for rate, _ in points]
            axes.errorbar(rates, means, yerr=widths, label=row.label, marker=marker, markersize=5, capsize=2, linewidth=1.3)
        for number, row in enumerate(table.baselines):
            if (cell := row.cells.get(None)) is not None:
                dashes = ("--", ":")[number % 2]
                axes.axhline(100 * cell.mean, color=OTHER, linestyle=dashes, linewidth=1.2, label=row.label)
        axes.set(xscale="log", xlabel="learning rate of the trunk", ylabel=f"{metric_label(table.metric)}, %")
        axes.set_title(f"{table.title}: mean and 95 % interval over seeds", fontsize=10)
        axes.set_xticks(table.rates, [f"{rate:g}" for rate in table.rates])
        axes.minorticks_off()
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", frameon=False)


@contextmanager
def figure_file(
    file: Path, size: tuple[float, float], layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """Make a figure that is written when the context ends. The same contents give the same file, whatever the user's style.

    Args:
        file: Picture to write, with one of `SUFFIXES`.
        size: Width and height in inches.
        layout: Layout engine of matplotlib; None if the caller places all parts.

    Yields:
        The figure, which is empty.
    """
    from matplotlib import style
    from matplotlib.figure import Figure as NewFigure

    without_date = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with style.context(["default", {**_STYLE, "font.family": _fonts()}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # a box is drawn instead
        figure = NewFigure(figsize=size, dpi=130, layout=layout)
        yield figure
        out = io.BytesIO()
        figure.savefig(out, format=file.suffix[1:], metadata=without_date[file.suffix])
    atomic_write(file, out.getvalue())


def _fonts() -> list[str]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FONTS if name in installed]
