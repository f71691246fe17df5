"""Floor 3: which methods a study cannot tell from the best one.

Two sources of chance make a number: the seeds, and the classes that happen to be in the test set (the queries of a class are
not independent). A test that sees one of them alone finds differences where there are none. So the means of each method,
seed and class are taken as

    y[m, s, c] = method[m] + seed[m, s] + class[c] + method x class[m, c] + rest[m, s, c]

with all but the methods random. Classes are shared by the methods, so their own effect cancels in a difference; the rest is
estimated by mean squares. The degrees of freedom are Satterthwaite's. Every method is compared with the best, which is chosen
on the same numbers: Tukey's studentised range over all methods allows for the choice. `scripts/simulate_significance.py` shows
how often it errs; docs/significance.md holds what it printed.

Source: Montgomery, Design and analysis of experiments, 2017, chapter 13; Satterthwaite, An approximate distribution of
estimates of variance components, Biometrics 1946; Tukey, The problem of multiple comparisons, 1953.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmlbench.measures import MACRO
from dmlbench.rows import PER_QUERY, Row

LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Study:
    """What methods scored on the same queries, seed by seed.

    Args:
        labels: int `(C,)`, of the classes.
        counts: int `(C,)`, queries of each.
        means: float64 `(M, S, C)`, of each method, seed and class, a fraction.
        macro: whether classes count alike; else each counts by its queries.
    """

    labels: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    macro: bool = False

    @property
    def values(self) -> np.ndarray:
        """The means, such that all classes weigh the same: `(M, S, C)`."""
        return self.means if self.macro else weighted(self.means, self.counts)


@dataclass(frozen=True)
class Spread:
    """How uncertain the mean of a method is, but for what all methods share.

    Args:
        variance: of a method's mean; a difference of two has twice as much.
        freedom: Satterthwaite's degrees of freedom.
        n_methods: M.
    """

    variance: float
    freedom: float
    n_methods: int

    def p_value(self, difference: float) -> float:
        """How likely the greatest difference among equal methods is as large as this one."""
        if difference == 0 or self.variance == 0:
            return float(difference == 0)
        if self.n_methods == 2:  # what the studentised range comes to, and near 0 more exact
            from scipy.special import stdtr

            return float(2 * stdtr(self.freedom, -abs(difference) / (2 * self.variance) ** 0.5))
        from scipy.stats import studentized_range  # half a second to load

        return float(studentized_range.sf(abs(difference) / self.variance**0.5, self.n_methods, self.freedom))

    def half_width(self) -> float:
        """Of the 95 % interval of the difference of two methods that were named beforehand."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, 1 - LEVEL / 2)) * (2 * self.variance) ** 0.5


def spread_of(values: np.ndarray) -> Spread:
    """The spread of methods' means from the means of each class.

    Args:
        values: `(M, S, C)`, methods, seeds and classes, each at least 2; of equal weight (see `weighted`).

    >>> values = np.random.default_rng(0).standard_normal((2, 4, 30))
    >>> spread = spread_of(values)
    >>> 0.005 < spread.variance < 0.02
    True
    """
    n_methods, n_seeds, n_classes = values.shape
    whole = values.mean((1, 2), keepdims=True)
    of_seed, of_class = values.mean(2, keepdims=True), values.mean(1, keepdims=True)
    freedom = {
        "seed": n_methods * (n_seeds - 1),
        "class": (n_methods - 1) * (n_classes - 1),
        "rest": n_methods * (n_seeds - 1) * (n_classes - 1),
    }
    interaction = of_class - whole - values.mean((0, 1), keepdims=True) + values.mean()
    seed = n_classes * float(np.square(of_seed - whole).sum()) / freedom["seed"]
    by_class = n_seeds * float(np.square(interaction).sum()) / freedom["class"]
    rest = float(np.square(values - of_seed - of_class + whole).sum()) / freedom["rest"]
    total = seed + by_class - rest
    # A component that is estimated below zero is none.
    if total <= max(seed, by_class):
        largest = "seed" if seed >= by_class else "class"
        return Spread(max(seed, by_class) / (n_seeds * n_classes), freedom[largest], n_methods)
    scale = seed**2 / freedom["seed"] + by_class**2 / freedom["class"] + rest**2 / freedom["rest"]
    return Spread(total / (n_seeds * n_classes), total**2 / scale, n_methods)


def weighted(means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Class means `(..., C)` scaled such that their plain mean is the mean over all queries, `counts` of a class.

    What is scaled is a class's distance from that mean: a method that is ahead by as much in every class stays so, whatever
    the classes' sizes.
    """
    share = counts * (len(counts) / counts.sum())
    whole = (means * share).mean(-1, keepdims=True)
    return whole + share * (means - whole)


def paired_half_width(apart: np.ndarray) -> tuple[float, float]:
    """The 95 % interval's half width, and p, of a mean over classes: a t test that knows of no other chance.

    Args:
        apart: `(C,)`, how far two methods are apart in each class, at least two; of equal weight.
    """
    from scipy.special import stdtr, stdtrit

    freedom, mean = len(apart) - 1, float(apart.mean())
    error = float(apart.std(ddof=1)) / len(apart) ** 0.5
    p = float(2 * stdtr(freedom, -abs(mean) / error)) if error else float(mean == 0)
    return float(stdtrit(freedom, 1 - LEVEL / 2)) * error, p


def alike_best(methods: Mapping[str, Sequence[Row]], metric: str) -> tuple[frozenset[str], str | None]:
    """Which methods cannot be told from the best in a metric, the best one included.

    Args:
        methods: name to rows, one a seed.
        metric: of the rows.

    Returns:
        Their names, and None; or none of them, and a clause that says why nothing could be tested.
    """
    if len(methods) < 2:
        return frozenset(), "there is one method"
    if min(map(len, methods.values())) < 2:
        return frozenset(), "a method has one seed"
    study, why = study_of(list(methods.values()), metric)
    if study is None:
        return frozenset(), why
    values = study.values
    spread, means = spread_of(values), values.mean((1, 2))
    best = float(means.max())
    names = (name for name, mean in zip(methods, means, strict=True) if spread.p_value(best - float(mean)) > LEVEL)
    return frozenset(names), None


def study_of(methods: Sequence[Sequence[Row]], metric: str) -> tuple[Study | None, str | None]:
    """What methods scored in each class, where they were scored alike.

    Args:
        methods: the rows of each, one a seed.
        metric: of the rows; with `macro_` classes count alike.

    Returns:
        The study, its seeds in the rows' order, and None; or None, and a clause that says why there is none.
    """
    if len({tuple(sorted(str(row["seed"]) for row in rows)) for rows in methods}) > 1:
        return None, "the methods have different seeds"
    plain = metric.replace(MACRO, "", 1)
    found = [[class_means(row, plain) for row in rows] for rows in methods]
    parts = [part for each in found for part in each if part is not None]
    if len(parts) < sum(map(len, methods)):
        return None, "the scores of each query are not there"
    labels, _, counts = parts[0]
    if len(labels) < 2 or any(not np.array_equal(part[0], labels) or not np.array_equal(part[2], counts) for part in parts):
        return None, "the rows were not scored on the same queries"
    means = np.stack([part[1] for part in parts]).reshape(len(methods), -1, len(labels))
    return Study(labels, counts, means, macro=plain != metric), None


def class_means(row: Row, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels, the metric's mean over the queries of each, and how many these are; None where it was not kept."""
    file = row.folder / PER_QUERY if row.folder else Path(PER_QUERY)
    if row.folder is None or not file.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as scores:
            if metric not in scores.keys() or "labels" not in scores.keys():  # noqa: SIM118 -- not a mapping
                return None
            labels, values = scores.get_tensor("labels"), scores.get_tensor(metric)
            if labels.ndim != 1 or labels.shape != values.shape:
                return None
    except (SafetensorError, OSError):
        return None
    known, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return known, np.bincount(place, values) / counts, counts
