"""k-means with one initialisation, relative to ten, at the size of CUB; time of the clustering metrics at the size of SOP."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.embeddings import NOISE, embeddings_of, labels_of
from benchmarks.timing import alternate, wall_seconds
from dmlbench.evaluation.clustering import cluster_scores, contingency_scores


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print NMI and time of both, at several levels of noise, and the time of the metrics.

    Args:
        quick: Use one level of noise and one seed.
        overrides: Not used.
    """
    labels = labels_of("cub")
    levels, seeds = ((1.8,), 1) if quick else ((1.8, 3.0, NOISE["cub", 512]), 5)
    for noise in levels:
        x = embeddings_of("cub", 512, labels, noise)
        once, ten, seconds = [], [], {"once": 0.0, "ten": 0.0}
        for seed in range(seeds):
            began = time.perf_counter()
            once.append(cluster_scores(x, labels, seed=seed, n_runs=1)["nmi"])
            seconds["once"] += time.perf_counter() - began
            began = time.perf_counter()
            with threadpool_limits(1):
                found = KMeans(100, n_init=10, random_state=seed).fit(x.numpy()).labels_
            ten.append(contingency_scores(found, labels.numpy())["nmi"])
            seconds["ten"] += time.perf_counter() - began
        difference, share = abs(np.mean(once) - np.mean(ten)), seconds["once"] / seconds["ten"]
        print(
            f"cluster noise {noise}: NMI over {seeds} seeds: once {np.mean(once):.4f} (std {np.std(once):.4f}), "
            f"n_init=10 {np.mean(ten):.4f} (std {np.std(ten):.4f}); difference {difference:.4f} (at most 0.01), "
            f"time {share:.3f} (at most 0.125)",
            flush=True,
        )
    classes = np.random.default_rng(0).permutation(np.arange(60_502) % 11_316)
    other = np.random.default_rng(2).permutation(classes)
    found = np.where(np.random.default_rng(1).random(60_502) < 0.6, classes, other)
    took = alternate(2 if quick else 20, scores=lambda: wall_seconds(lambda: contingency_scores(found, classes)))
    print(f"cluster metrics of a partition of SOP: {took['scores'] * 1e3:.1f} ms (at most 10)")
