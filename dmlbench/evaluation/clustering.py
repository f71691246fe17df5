"""Clustering metrics: how well k-means clusters agree with the classes.

The initialisation of k-means alone changes NMI by 0.06 on CUB, so it is fixed and recorded in the row: greedy k-means++, one
initialisation per run, several runs with consecutive seeds. A metric is the mean over the runs, and the row also has its
standard deviation. The scores are computed from a sparse contingency table, with integers wherever possible.

Source of the initialisation: Arthur & Vassilvitskii, "k-means++", SODA 2007, in the greedy form of their section 5.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.sparse import coo_array
from scipy.special import gammaln, xlogy
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from dmlbench.errors import UserError

N_RUNS = 5
MAX_CLUSTERS = 1000  # above, k-means takes longer than everything else, and only runs if the user requests it
# Candidates per centre, of which the best is chosen. Twice the usual number replaces most of ten initialisations.
TRIALS = 12
# Value of a column of result rows. Its wording is part of the data and stays the same.
INIT = f"greedy k-means++ of {TRIALS} trials a centre, then Lloyd, at most 300 iterations; NMI over the arithmetic mean"


def cluster_scores(
    embeddings: Tensor,
    labels: Tensor,
    clusters_per_class: int = 1,
    seed: int = 0,
    n_runs: int = N_RUNS,
    progress: bool = False,
) -> dict[str, float | int | str]:
    """Cluster embeddings several times and compare the clusters with the classes.

    Args:
        embeddings: float32 `(N, D)`, finite, on the CPU.
        labels: int64 `(N,)`.
        clusters_per_class: Number of clusters divided by the number of classes.
        seed: Seed of the first run. The following runs use the following integers.
        n_runs: Number of runs, at least 1.
        progress: Show a progress bar for runs of more than two seconds in total.

    Returns:
        `nmi`, `ami`, `pairwise_f1`, `purity`: means over the runs. `<name>_std`: standard deviations over the runs, with n in
        the denominator. `n_clusters`, `n_clusterings`, `cluster_init`, `cluster_seed`: how they were computed.

    Raises:
        UserError: There are more clusters than items.
    """
    _, classes = np.unique(labels.numpy(), return_inverse=True)
    n_classes = int(classes.max()) + 1
    k = clusters_per_class * n_classes
    if not 1 <= k <= len(classes):
        raise UserError(
            f"{clusters_per_class} clusters per class are {k:,} clusters of {len(classes):,} items; "
            f"use from 1 to {len(classes) // n_classes} per class"
        )
    runs = []
    for run in tqdm(range(n_runs), desc="cluster", unit="run", delay=2, leave=False, disable=None if progress else True):
        runs.append(contingency_scores(clusters(embeddings.numpy(), k, seed + run), classes))
    columns: dict[str, float | int | str] = {name: float(np.mean([one[name] for one in runs])) for name in runs[0]}
    columns |= {f"{name}_std": float(np.std([one[name] for one in runs])) for name in runs[0]}
    return columns | {"n_clusters": k, "n_clusterings": n_runs, "cluster_init": INIT, "cluster_seed": seed}


def clusters(embeddings: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Cluster embeddings by k-means.

    Args:
        embeddings: float32 `(N, D)`.
        k: Number of clusters.
        seed: Seed of the initialisation.

    Returns:
        Cluster of each row, from 0 to k - 1, `(N,)`.
    """
    with threadpool_limits(1), warnings.catch_warnings():  # with several threads, the order of summation would vary
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters lower the scores
        trials = min(TRIALS, len(embeddings))
        centres, _ = kmeans_plusplus(embeddings, k, random_state=seed, n_local_trials=trials)
        return KMeans(k, init=centres, n_init=1, algorithm="lloyd", random_state=seed).fit(embeddings).labels_


def contingency_scores(clusters: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Compute how well clusters and classes agree.

    Args:
        clusters: Integers from 0, `(N,)`.
        classes: Integers from 0, `(N,)`.

    Returns:
        `nmi` (1 if both partitions are a single group), `ami`, `pairwise_f1` (1 if no two items share a class or a cluster),
        `purity`.
    """
    n = len(classes)
    shape = int(clusters.max()) + 1, int(classes.max()) + 1
    table = coo_array((np.ones(n, dtype=np.int64), (clusters, classes)), shape).tocsr()  # sums equal indices
    cells = table.data.astype(float)
    of_cluster, of_class = (np.bincount(values) for values in (clusters, classes))
    row = np.repeat(np.arange(shape[0]), np.diff(table.indptr))
    h_cluster, h_class = _entropy(of_cluster, n), _entropy(of_class, n)
    # log of cell n / (size of its cluster times size of its class)
    information = np.log(cells) + np.log(n) - np.log(of_cluster[row]) - np.log(of_class[table.indices])
    mutual = max(0.0, float((cells / n * information).sum()))
    mean = (h_cluster + h_class) / 2
    expected = _expected_information(of_cluster, of_class)
    together, in_cluster, in_class = (int((values.astype(np.int64) * (values.astype(np.int64) - 1)).sum())
                                      for values in (table.data, of_cluster, of_class))  # fmt: skip
    largest = np.maximum.reduceat(table.data, table.indptr[:-1][of_cluster > 0])
    return {
        "nmi": mutual / mean if mean else 1.0,
        "ami": (mutual - expected) / (mean - expected) if abs(mean - expected) > 1e-15 else 1.0,
        "pairwise_f1": 2 * together / (in_cluster + in_class) if in_cluster + in_class else 1.0,
        "purity": int(largest.sum()) / n,
    }


def _entropy(sizes: np.ndarray, n: int) -> float:
    shares = sizes[sizes > 0] / n
    return float(-xlogy(shares, shares).sum())


def _expected_information(of_cluster: np.ndarray, of_class: np.ndarray) -> float:
    """Return the expected mutual information of two random partitions with these sizes: Vinh, Epps & Bailey, equation 24a.

    It depends on the sizes only, so each pair of distinct sizes is computed once.
    """
    n = int(of_class.sum())
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    (sizes, times), (b, times_b) = (np.unique(values[values > 0], return_counts=True) for values in (of_cluster, of_class))
    total = 0.0
    for a, times_a in zip(sizes, times, strict=True):
        cell = np.arange(1, min(a, b.max()) + 1)
        pair, index = np.nonzero((cell <= b[:, None]) & (cell >= a + b[:, None] - n))
        other, each = b[pair], cell[index]
        log_probability = (
            log_factorial[a] + log_factorial[n - a] + log_factorial[other] + log_factorial[n - other] - log_factorial[n]
            - log_factorial[each] - log_factorial[a - each] - log_factorial[other - each]
            - log_factorial[n - a - other + each]
        )  # fmt: skip
        information = each / n * (np.log(n) + np.log(each) - np.log(a) - np.log(other))
        total += float(times_a * (times_b[pair] * information * np.exp(log_probability)).sum())
    return total
