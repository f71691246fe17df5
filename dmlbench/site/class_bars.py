"""The score of an entry in each test class, as tables with bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from dmlbench.results import run_files
from dmlbench.results.class_files import class_names
from dmlbench.results.formatting import format_percent, metric_label
from dmlbench.site.entries import SiteEntry
from dmlbench.site.render import clipped
from dmlbench.tables.class_scores import read_class_means

METRICS = ("map_at_r", "r_precision", "recall_at_1", "precision_at_1")
MAX_ALL = 40  # classes up to which all are listed
N_ENDS = 12  # classes at each end of a longer list
N_BINS = 10
_MAX_NAME = 40


@dataclass(frozen=True)
class BarTable:
    """A table whose rows have a bar.

    Args:
        caption: What it shows.
        names: Heading of the names.
        counts: Heading of the numbers of queries; empty without these.
        values: Heading of the values.
        rows: Its rows as HTML.
    """

    caption: str
    names: str
    counts: str
    values: str
    rows: Markup


def class_bars(entry: SiteEntry) -> list[BarTable]:
    """Return the scores of the classes of an entry: of all classes, or if there are many, of the worst and the best ones.

    Args:
        entry: Entry.

    Returns:
        Tables of the first of `METRICS` that the entry has; none if it has no scores of its queries.
    """
    row = entry.row
    for metric in METRICS:
        found = read_class_means(row, metric) if row.number(metric) is not None else None
        if found is not None:
            break
    else:
        return []
    names, label, n_classes = _names(entry), metric_label(metric), len(found.means)
    means, counts, labels = np.clip(found.means, 0, 1).tolist(), found.counts.tolist(), list(map(str, found.labels.tolist()))
    order = sorted(range(n_classes), key=means.__getitem__)

    def table(caption: str, places: Sequence[int]) -> BarTable:
        rows = (_row(names.get(labels[i], f"class {labels[i]}"), means[i], format_percent(means[i]), counts[i]) for i in places)
        return BarTable(caption, "Class", "Queries", f"{label}, %", Markup("\n".join(rows)))

    if n_classes <= MAX_ALL:
        return [table(f"All {n_classes} test classes, worst first", order)]
    worst, best = order[:N_ENDS], order[: -N_ENDS - 1 : -1]
    return [
        _histogram(means, label),
        table(f"The {len(worst)} worst of {n_classes:,} classes", worst),
        table(f"The {len(best)} best of {n_classes:,} classes", best),
    ]


_names_by_digest: dict[str, dict[str, str]] = {}
MAX_REMEMBERED = 100


def _names(entry: SiteEntry) -> dict[str, str]:
    """Return the names of the classes; entries with the same file, which the claim identifies, share them."""
    digest = entry.entry.claim.files.get(run_files.CLASSES, "")
    found = _names_by_digest.get(digest)
    if found is None:
        if len(_names_by_digest) >= MAX_REMEMBERED:
            _names_by_digest.clear()
        found = _names_by_digest[digest] = class_names(entry.row)
    return found


def _histogram(means: Sequence[float], label: str) -> BarTable:
    """Count the classes by score; a class on the border of two bins belongs to the upper one."""
    counts = [0] * N_BINS
    for mean in means:
        counts[min(int(mean * N_BINS), N_BINS - 1)] += 1
    highest, width = max(counts), 100 // N_BINS
    rows = (_row(f"{i * width} to {(i + 1) * width} %", count / highest, f"{count:,}") for i, count in enumerate(counts))
    return BarTable(f"Number of classes by {label}", label, "", "Classes", Markup("\n".join(rows)))


def _row(name: str, share: float, value: str, count: int | None = None) -> str:
    """Return a row. It is escaped here, because a template would take most of the time of a page."""
    number = "" if count is None else f'<td class="number">{count:,}</td>'
    bar = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none"><path d="M0 0h{100 * share:.1f}v10H0z"/></svg>'
    heading = f'<th scope="row">{escape(clipped(name, _MAX_NAME))}</th>'
    return f'<tr>{heading}{number}<td class="bar" aria-hidden="true">{bar}</td><td class="number">{value}</td></tr>'
