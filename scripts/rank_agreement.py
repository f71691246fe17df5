"""Compare the order of methods on several data sets: Spearman's rank correlation of each pair, with a 95 % interval.

python scripts/rank_agreement.py omniglot=runs/omniglot grocery=runs/grocery cub=published

Each argument is NAME=DIRECTORY, a directory with the runs of one comparison, or NAME=published, the table of the reality check
(Musgrave et al., 2020; conf/published/reality_check.yaml, means over four 128-d models) for the data set NAME: cub, cars, sop.
Scores are means over seeds. A pair is compared on the methods that both have; raw pixels and the untrained trunk are left out.

The interval is Fisher's z with the standard error sqrt((1 + r^2 / 2) / (n - 3)) for Spearman's r (Bonett and Wright, Sample
size requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 2000). A bootstrap would need more
methods: resampling seven of them repeats some and leaves out others. The p value is two-sided, over all permutations of up to
eight methods and over 100,000 random ones of more.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import stats

import dmlbench
from dmlbench.errors import UserError
from dmlbench.results.literature import find_published
from dmlbench.results.row import BASELINES

PUBLISHED = "published"
SOURCE_ID = "2003.08505"
# Methods of the reality check as dmlbench names them. Its contrastive loss has the form of `contrastive`.
LOSSES = {
    "Contrastive": "contrastive",
    "Triplet": "triplet",
    "NT-Xent": "ntxent",
    "ProxyNCA": "proxy_nca",
    "Margin": "margin",
    "Margin/class": "margin_per_class",
    "N. Softmax": "normalized_softmax",
    "CosFace": "cosface",
    "ArcFace": "arcface",
    "FastAP": "fastap",
    "SNR": "snr_contrastive",
    "MS": "multi_similarity_no_miner",
    "MS+Miner": "multi_similarity",
    "SoftTriple": "softtriple",
}
MOST_PERMUTED = 8  # methods; 40,320 orders
RANDOM_ORDERS = 100_000
LEAST_METHODS = 4  # the standard error needs n > 3


def published_scores(dataset: str, metric: str) -> dict[str, float]:
    """Return the scores of the reality check on one data set.

    Args:
        dataset: Name of the data set on the command line of dmlbench.
        metric: Name of the metric.

    Returns:
        Loss to fraction.

    Raises:
        UserError: The table has no such data set or metric.
    """
    found = {
        LOSSES[one.label]: one.values[metric]
        for one in find_published(dataset, [metric])
        if one.source.arxiv == SOURCE_ID and one.label in LOSSES and metric in one.values
    }
    if not found:
        raise UserError(
            f"{dataset}={PUBLISHED}: the reality check has no {metric} on {dataset}; its data sets are cub, cars, sop"
        )
    return found


def scores_of_runs(runs: Path, metric: str) -> dict[str, float]:
    """Return the mean score over seeds of each trained loss below a directory.

    Args:
        runs: Directory with the runs of one comparison.
        metric: Name of the metric.

    Returns:
        Loss to fraction.

    Raises:
        UserError: There is no finished run, or the runs are not comparable, or a loss has several variants.
    """
    frame = dmlbench.load_results(runs)
    trained = frame[(frame["status"] == "ok") & ~frame["loss"].isin(list(BASELINES))] if len(frame) else frame
    if "parent" in trained:
        trained = trained[trained["parent"].isna()]
    if not len(trained) or metric not in trained:
        raise UserError(f"{runs} contains no finished run with the metric {metric}")
    for column, what in (("fingerprint", "runs that are not comparable"), ("method_digest", "several variants of a loss")):
        if trained.groupby("loss" if column == "method_digest" else lambda _: 0)[column].nunique().max() > 1:
            raise UserError(f"{runs} contains {what}; name a directory with the runs of one comparison")
    return {str(loss): float(score) for loss, score in trained.groupby("loss")[metric].mean().items()}


def spearman(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Compute Spearman's rank correlation.

    Args:
        a: Scores of n methods, `(n,)`.
        b: Other scores of the same methods, `(n,)`.

    Returns:
        The correlation, both ends of its 95 % interval, and the p value of a permutation test. For equal or opposite orders,
        whose standard error is not defined, the inner end is that of the closest other correlation without ties.

    Raises:
        UserError: There are fewer than four methods, or all scores of one side are equal.
    """
    n = len(a)
    if n < LEAST_METHODS:
        raise UserError(f"{n} common methods are too few for an interval; it needs at least {LEAST_METHODS}")
    ranks = stats.rankdata(a), stats.rankdata(b)
    if any(np.ptp(one) == 0 for one in ranks):
        raise UserError("all scores are equal, so the methods have no order")
    r = _correlation(*ranks)
    closest = 1 - 12 / (n * (n * n - 1))  # two neighbours exchanged
    inner = math.copysign(min(abs(r), closest), r)
    half = stats.norm.ppf(0.975) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half)
    if abs(r) > closest:
        low, high = (low, 1.0) if r > 0 else (-1.0, high)
    return r, low, high, _p_value(*ranks, abs(r))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def _p_value(a: np.ndarray, b: np.ndarray, r: float) -> float:
    """Return how often a random order of b has a correlation with a that is at least as strong."""
    if len(b) <= MOST_PERMUTED:
        orders = np.array(list(itertools.permutations(b)))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(b, (RANDOM_ORDERS, 1)), axis=1)
    centred = orders - b.mean()
    correlations = centred @ (a - a.mean()) / (len(a) * a.std() * b.std())
    exceeding = int((np.abs(correlations) >= r - 1e-9).sum())
    return exceeding / len(orders) if len(b) <= MOST_PERMUTED else (exceeding + 1) / (len(orders) + 1)


def agreement(sources: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table in markdown with one line for each pair of sources.

    Args:
        sources: Name to the score of each loss.

    Raises:
        UserError: A pair has too few common methods.
    """
    lines = ["| order on | and on | methods | Spearman | 95 % interval | p |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for (first, a), (second, b) in itertools.combinations(sources.items(), 2):
        common = sorted(a.keys() & b.keys())
        try:
            r, low, high, p = spearman(np.array([a[one] for one in common]), np.array([b[one] for one in common]))
        except UserError as error:
            raise UserError(f"{first} and {second}: {error}") from None
        lines.append(f"| {first} | {second} | {len(common)} | {r:.2f} | {low:.2f} to {high:.2f} | {p:.3f} |")
    return "\n".join(lines)


def read(argument: str, metric: str) -> tuple[str, dict[str, float]]:
    """Read the scores that an argument of the command names.

    Args:
        argument: NAME=DIRECTORY, or NAME=published.
        metric: Name of the metric.

    Returns:
        The name, and the score of each loss.

    Raises:
        UserError: The argument has another form, or there are no such scores.
    """
    name, equals, source = argument.partition("=")
    if not (name and equals and source):
        raise UserError(f"'{argument}' is neither NAME=DIRECTORY nor NAME={PUBLISHED}")
    return name, published_scores(name, metric) if source == PUBLISHED else scores_of_runs(Path(source), metric)


def main(argv: list[str]) -> int:
    """Print the agreement of the sources, and return the exit status.

    Args:
        argv: Arguments of the command.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--metric", default="map_at_r", help="metric that orders the methods (default: map_at_r)")
    arguments = parser.parse_args(argv)
    try:
        if len(arguments.sources) < 2:
            raise UserError("an agreement needs two sources, such as omniglot=runs/omniglot cub=published")
        sources = dict(read(one, arguments.metric) for one in arguments.sources)
        if len(sources) < len(arguments.sources):
            raise UserError("two sources have the same name; give each its own")
        print(agreement(sources))
    except UserError as error:
        print(f"rank_agreement: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
