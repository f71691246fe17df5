"""The history of a study: a CSV file, a plot, and the best hyper-parameters. All are computed from the trials."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from dmlbench.results.formatting import metric_label, spreadsheet_cell
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import read_text
from dmlbench.tuning.space import Space, overrides
from dmlbench.tuning.trials import Trial, best_trial

CSV, PICTURE, BEST_VALUES = "history.csv", "history.svg", "best.json"


def write_history(folder: Path, space: Space, trials: Sequence[Trial], picture: bool, metric: str = "map_at_r") -> None:
    """Write `history.csv` and `best.json`, and `history.svg` if it is requested and not up to date.

    Args:
        folder: Directory of the study.
        space: Search space; its keys are columns.
        trials: Finished trials, by number; at least one.
        picture: Whether to draw `history.svg`.
        metric: Metric of the validation.
    """
    text, file = history_csv(space, trials, metric), folder / CSV
    if _content(file) != text:
        atomic_write(file, text)
        (folder / PICTURE).unlink(missing_ok=True)  # it shows other trials
    best = best_trial(trials)
    result = {"trial": best.number, "of": len(trials), f"validation_{metric}": best.score}
    summary = {**result, "overrides": overrides(best.values)}
    atomic_write(folder / BEST_VALUES, json.dumps(summary, indent=1) + "\n")
    if picture and not (folder / PICTURE).is_file():
        title = f"{folder.parent.name} on {folder.parent.parent.name}"
        atomic_write(folder / PICTURE, draw_history(title, trials, metric))


def _content(file: Path) -> str | None:
    try:
        return read_text(file)
    except (OSError, ValueError):
        return None


def history_csv(space: Space, trials: Sequence[Trial], metric: str = "map_at_r") -> str:
    """Return the trials as CSV, one line per trial.

    Args:
        space: Search space; its keys are columns.
        trials: Finished trials, by number.
        metric: Metric of the validation.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["trial", "state", f"validation_{metric}", "best_so_far", *space, "epochs", "seconds", "n_resumed", "reason"]
    )
    for index, trial in enumerate(trials):
        best = best_trial(trials[: index + 1]).score
        values = [trial.values.get(key) for key in space]
        cost = [trial.epochs, trial.seconds, trial.n_resumed, trial.reason]
        writer.writerow(map(spreadsheet_cell, [trial.number, trial.state, trial.score, best, *values, *cost]))
    return out.getvalue()


def draw_history(title: str, trials: Sequence[Trial], metric: str = "map_at_r") -> str:
    """Plot the score of every trial and the best score so far, as SVG. The same trials give the same text.

    Args:
        title: Title of the plot.
        trials: Finished trials, by number.
        metric: Metric of the validation.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    marks = {"complete": ("o", "#1f77b4"), "pruned": ("x", "#999999"), "failed": ("v", "#d62728")}
    with rc_context({"svg.hashsalt": "dmlbench", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        best = [best_trial(trials[: index + 1]).score for index in range(len(trials))]
        axes.step([trial.number for trial in trials], best, where="post", color="black", linewidth=1, label="best so far")
        for state, (marker, colour) in marks.items():
            points = [(trial.number, trial.score) for trial in trials if trial.state == state]
            if points:
                numbers, scores = zip(*points, strict=True)
                axes.scatter(numbers, scores, marker=marker, color=colour, s=24, label=state, zorder=3)
        score = f"validation {metric_label(metric)}"
        axes.set(title=title, xlabel="trial (1: configured hyper-parameters)", ylabel=score)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside right upper", frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
