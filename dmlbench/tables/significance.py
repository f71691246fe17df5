"""Which methods a study cannot tell from the best one.

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

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmlbench.results import run_files
from dmlbench.results.metric_specs import MACRO, parse_metric
from dmlbench.results.row import Row

LEVEL = 0.05
NEAR = 1e-6  # a row's metric and the mean of its queries' scores, which are kept in single precision


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
    degrees_of_freedom: float
    n_methods: int

    def p_value(self, difference: float) -> float:
        """How likely the greatest difference among equal methods is as large as this one."""
        if difference == 0 or self.variance == 0:
            return float(difference == 0)
        if self.n_methods == 2:  # what the studentised range comes to, and near 0 more exact
            from scipy.special import stdtr

            return float(2 * stdtr(self.degrees_of_freedom, -abs(difference) / (2 * self.variance) ** 0.5))
        from scipy.stats import studentized_range  # half a second to load

        return float(studentized_range.sf(abs(difference) / self.variance**0.5, self.n_methods, self.degrees_of_freedom))

    def half_width(self) -> float:
        """Of the 95 % interval of the difference of two methods that were named beforehand."""
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees_of_freedom, 1 - LEVEL / 2)) * (2 * self.variance) ** 0.5


def estimate_spread(values: np.ndarray) -> Spread:
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


def not_significantly_worse(methods: Mapping[str, Sequence[Row]], metric: str) -> tuple[frozenset[str], str | None]:
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
    study, why = class_scores(list(methods.values()), metric)
    if study is None:
        return frozenset(), why
    values = study.values
    spread, means = estimate_spread(values), values.mean((1, 2))
    best = float(means.max())
    names = (name for name, mean in zip(methods, means, strict=True) if spread.p_value(best - float(mean)) > LEVEL)
    return frozenset(names), None


def class_scores(methods: Sequence[Sequence[Row]], metric: str) -> tuple[Study | None, str | None]:
    """What methods scored in each class, where they were scored alike.

    Args:
        methods: the rows of each, one a seed.
        metric: of the rows; with `macro_` classes count alike.

    Returns:
        The study, its seeds in the rows' order, and None; or None, and a clause that says why there is none.
    """
    if len({tuple(sorted(str(row["seed"]) for row in rows)) for rows in methods}) > 1:
        return None, "the methods have different seeds"
    studies, why = class_scores_per_method(methods, metric)
    if studies is None:
        return None, why
    return replace(studies[0], means=np.concatenate([study.means for study in studies])), None


def class_scores_per_method(methods: Sequence[Sequence[Row]], metric: str) -> tuple[list[Study] | None, str | None]:
    """What each of some methods scored in each class, whatever its seeds; only where all scores are known to be theirs.

    Args:
        methods: the rows of each, one a seed.
        metric: of the rows; with `macro_` classes count alike.

    Returns:
        A study a method, of equal labels and counts, and None; or None, and a clause that says why there is none.
    """
    known = parse_metric(metric)
    if known is not None and known.spec.kind == "clustering":
        return None, "a clustering has no score of each query"
    plain = metric.replace(MACRO, "", 1)
    found = [[class_means(row, plain) for row in rows] for rows in methods]
    scores = [[one for one in each if one is not None] for each in found]
    if list(map(len, scores)) != list(map(len, methods)):
        return None, "the scores of each query are not there"
    first = scores[0][0]
    if any(one.queries != first.queries for each in scores for one in each):
        return None, "the rows were not scored on the same queries"
    if len(first.labels) < 2:
        return None, "there is one test class"
    macro = plain != metric
    studies = [Study(first.labels, first.counts, np.stack([one.means for one in each])[None], macro) for each in scores]
    for study, rows in zip(studies, methods, strict=True):
        # Not a number is near nothing, so neither scores nor rows with such pass.
        told = [math.nan if (value := row.number(metric)) is None else value for row in rows]
        if not np.allclose(study.values[0].mean(1), told, rtol=0, atol=NEAR):
            return None, "the scores of each query are not those of the rows"
    return studies, None


class Scores(NamedTuple):
    """The scores of a run's queries, class by class.

    Args:
        labels: int `(C,)`, of the classes, ascending.
        means: float64 `(C,)`.
        counts: int `(C,)`, queries of each.
        queries: a digest of which queries they were, and of which classes.
    """

    labels: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    queries: str


def class_means(row: Row, metric: str) -> Scores | None:
    """A metric's mean over the queries of each class; None where it was not kept."""
    file = row.folder / run_files.PER_QUERY if row.folder else Path(run_files.PER_QUERY)
    if row.folder is None or not file.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as scores:
            if not {metric, "labels", "ids"}.issubset(scores.keys()):
                return None
            ids, labels, values = (scores.get_tensor(name) for name in ("ids", "labels", metric))
            if labels.ndim != 1 or not ids.shape == labels.shape == values.shape:
                return None
    except (SafetensorError, OSError):
        return None
    order = np.argsort(ids, kind="stable")
    asked = np.stack([ids[order], labels[order]]).astype("<i8")
    known, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return Scores(known, np.bincount(place, values) / counts, counts, hashlib.sha256(asked.tobytes()).hexdigest())
