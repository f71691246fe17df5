"""Heat map of a method over two hyper-parameters. Needs matplotlib, which is imported when it is drawn."""

from __future__ import annotations

import math
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.results.formatting import metric_label
from dmlbench.tables.grid import GridTable, short, value_text
from dmlbench.tables.pictures import GRID, figure_file

FRAME = "#d1495b"  # around the best values


def draw_grid(table: GridTable, file: Path) -> None:
    """Draw a table over two hyper-parameters as a heat map. The best values have a frame, and missing ones are grey.

    Args:
        table: Table to draw.
        file: Picture to write.

    Raises:
        UserError: The table has no scores.
    """
    found = {point: cell for point, cell in table.cells.items() if cell is not None}
    if not found:
        raise UserError(f"--picture {file}: the table has no scores to draw")
    down, across = table.values
    means = [[100 * cell.mean if (cell := found.get((a, b))) else math.nan for b in across] for a in down]
    middle = (min(cell.mean for cell in found.values()) + max(cell.mean for cell in found.values())) / 2
    with figure_file(file, (2.4 + 1.0 * len(across), 1.4 + 0.62 * len(down))) as figure:
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        axes.set_facecolor(GRID)
        image = axes.imshow(means, cmap="viridis", aspect="auto", origin="lower")
        for (value, other), cell in found.items():
            interval = "" if cell.half_width is None else f"\n± {100 * cell.half_width:.1f}"
            colour = "black" if cell.mean > middle else "white"
            text = f"{100 * cell.mean:.1f}{interval}"
            axes.text(across.index(other), down.index(value), text, ha="center", va="center", color=colour, fontsize=8)
        if table.best is not None:
            corner = across.index(table.best[1]) - 0.5, down.index(table.best[0]) - 0.5
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=FRAME, linewidth=2.5, clip_on=False))
        axes.set_xticks(range(len(across)), [value_text(value) for value in across])
        axes.set_yticks(range(len(down)), [value_text(value) for value in down])
        axes.set(xlabel=short(table.keys[1]), ylabel=short(table.keys[0]))
        axes.spines[:].set_visible(False)
        axes.set_title(table.title, fontsize=10)
        figure.colorbar(image, label=f"{metric_label(table.metric)}, %")
