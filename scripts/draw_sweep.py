"""Draw the table of a sweep: each metric of each method with its 95 % confidence interval over seeds.

python scripts/draw_sweep.py runs/digits docs/sweep.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

import dmlbench

METRICS = {"map_at_r": "MAP@R, %", "recall_at_1": "Recall@1, %"}
BEST, OTHER = "#1b6ca8", "#8a8f94"


def draw(runs: Path, picture: Path) -> None:
    """Draw the first table of some runs.

    Args:
        runs: Directory of runs.
        picture: File to write, PNG or SVG.
    """
    frame = dmlbench.load_results(runs)
    table = dmlbench.compare_table(frame, metrics=list(METRICS)).query("table == 1").iloc[::-1]
    first = frame.iloc[0]
    n_classes, n_seeds = int(first["n_test_classes"]), int(table["n"].max())
    title = f"{first['dataset_label']}, {n_classes} unseen classes, {first['trunk_label']}, {n_seeds} seeds"
    with rc_context({"font.size": 10, "svg.hashsalt": "dmlbench", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.4), dpi=130, layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharey=True)
        for panel, (metric, label) in zip(panels, METRICS.items(), strict=True):
            for height, (_, row) in enumerate(table.iterrows()):
                best = bool(row[f"{metric}_best"])
                mean, half_width = 100 * row[metric], 100 * (row[f"{metric}_half_width"] or 0)
                style = {"color": BEST if best else OTHER, "fmt": "o" if best else "D", "capsize": 3, "markersize": 5}
                panel.errorbar(mean, height, xerr=half_width, **style)
                panel.annotate(f"{mean:.1f}", (mean, height), (0, 5), textcoords="offset points", ha="center", fontsize=8)
            panel.set(xlabel=label, yticks=range(len(table)), yticklabels=list(table["method"]), ylim=(-0.6, len(table) - 0.2))
            panel.grid(axis="x", color="#e3e5e8")
            panel.set_axisbelow(True)
        figure.suptitle(f"{title}: mean and 95 % interval; blue circles: not significantly worse than the best", fontsize=10)
        figure.savefig(picture, metadata={"Software": None} if picture.suffix == ".png" else {"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
