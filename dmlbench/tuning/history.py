"""A study's history as a CSV, a picture and its best values; each is made anew from the trials."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from dmlbench.system.atomic_write import atomic_write
from dmlbench.tuning.space import Space, overrides
from dmlbench.tuning.trials import Trial, best_trial

CSV, PICTURE, BEST_VALUES = "history.csv", "history.svg", "best.json"


def write_history(folder: Path, space: Space, trials: Sequence[Trial], picture: bool) -> None:
    """Write `history.csv` and `best.json`, and `history.svg` where it is asked for and not of the same trials already.

    Args:
        folder: of the study.
        space: gives the columns.
        trials: by number, at least one.
        picture: also draw it.
    """
    text, file = table_of(space, trials), folder / CSV
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        atomic_write(file, text)
        (folder / PICTURE).unlink(missing_ok=True)  # of other trials
    best = best_trial(trials)
    found = {"trial": best.number, "of": len(trials), "validation_map_at_r": best.score, "words": overrides(best.values)}
    atomic_write(folder / BEST_VALUES, json.dumps(found, indent=1) + "\n")
    if picture and not (folder / PICTURE).is_file():
        atomic_write(folder / PICTURE, drawn(f"{folder.parent.name} on {folder.parent.parent.name}", trials))


def table_of(space: Space, trials: Sequence[Trial]) -> str:
    """A line a trial, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["trial", "state", "validation_map_at_r", "best_so_far", *space, "epochs", "seconds", "n_resumed", "reason"]
    )
    for place, trial in enumerate(trials):
        best = best_trial(trials[: place + 1]).score
        values = [trial.values.get(key) for key in space]
        cost = [trial.epochs, trial.seconds, trial.n_resumed, trial.reason]
        writer.writerow([trial.number, trial.state, trial.score, best, *values, *cost])
    return out.getvalue()


def drawn(title: str, trials: Sequence[Trial]) -> str:
    """Score by trial and the best so far, as SVG; the same text for the same trials."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    marks = {"complete": ("o", "#1f77b4"), "pruned": ("x", "#999999"), "failed": ("v", "#d62728")}
    with rc_context({"svg.hashsalt": "dmlbench", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        best = [best_trial(trials[: place + 1]).score for place in range(len(trials))]
        axes.step([trial.number for trial in trials], best, where="post", color="black", linewidth=1, label="best so far")
        for state, (marker, colour) in marks.items():
            points = [(trial.number, trial.score) for trial in trials if trial.state == state]
            if points:
                numbers, scores = zip(*points, strict=True)
                axes.scatter(numbers, scores, marker=marker, color=colour, s=24, label=state, zorder=3)
        axes.set(title=title, xlabel="trial (1: the method's own values)", ylabel="validation MAP@R")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside right upper", frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
