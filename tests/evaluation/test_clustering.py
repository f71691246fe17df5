"""Clustering: scores against scikit-learn and against every pair; k-means pinned."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from dmlbench.errors import UserError
from dmlbench.evaluation.clustering import cluster_scores, clusters, contingency_scores

PARTITIONS = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 7), min_size=n, max_size=n).map(np.array) for _ in range(2)])
)


def blobs(n: int = 120, n_classes: int = 6, noise: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % n_classes
    return torch.randn(n_classes, 16, generator=generator)[labels] + noise * torch.randn(n, 16, generator=generator), labels


@settings(max_examples=150, deadline=None)
@given(PARTITIONS)
def test_scores_equal_scikit_learns_and_those_of_every_pair(partitions):
    found, classes = (np.unique(values, return_inverse=True)[1] for values in partitions)
    scores = contingency_scores(found, classes)
    assert scores["nmi"] == pytest.approx(peer.normalized_mutual_info_score(classes, found), abs=1e-9)
    assert scores["ami"] == pytest.approx(peer.adjusted_mutual_info_score(classes, found), abs=1e-6)
    pairs = list(itertools.combinations(range(len(classes)), 2))
    both = sum(found[i] == found[j] and classes[i] == classes[j] for i, j in pairs)
    of_cluster, of_class = (sum(values[i] == values[j] for i, j in pairs) for values in (found, classes))
    assert scores["pairwise_f1"] == (2 * both / (of_cluster + of_class) if of_cluster + of_class else 1.0)
    commonest = sum(np.bincount(classes[found == cluster]).max() for cluster in set(found.tolist()))
    assert scores["purity"] == commonest / len(classes)


def test_a_cluster_that_stayed_empty_counts_nothing():
    assert contingency_scores(np.array([0, 0, 3, 3]), np.array([0, 0, 1, 1])) == {
        "nmi": pytest.approx(1.0),
        "ami": pytest.approx(1.0),
        "pairwise_f1": 1.0,
        "purity": 1.0,
    }


def test_well_parted_classes_are_found_again_and_random_ones_are_not():
    rows, labels = blobs(noise=0.05)
    # One initialisation may join two blobs and halve a third: the mean of five is high, not always 1.
    assert cluster_scores(rows, labels)["nmi"] > 0.9
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    assert abs(cluster_scores(rows, shuffled)["ami"]) < 0.1


def test_the_same_seed_gives_the_same_scores_and_how_they_came_about_is_recorded():
    rows, labels = blobs()
    scores = cluster_scores(rows, labels, seed=3)
    assert scores == cluster_scores(rows, labels, seed=3)
    assert (scores["n_clusters"], scores["n_clusterings"], scores["cluster_seed"]) == (6, 5, 3)
    assert "greedy k-means++" in str(scores["cluster_init"])


def test_the_number_is_the_mean_of_the_runs_and_its_spread_stands_beside_it():
    rows, labels = blobs(noise=1.0)
    runs = [contingency_scores(clusters(rows.numpy(), 6, seed), labels.numpy())["nmi"] for seed in range(5)]
    scores = cluster_scores(rows, labels)
    assert scores["nmi"] == pytest.approx(np.mean(runs), abs=1e-12)
    assert scores["nmi_std"] == pytest.approx(np.std(runs), abs=1e-12)


def test_several_clusters_a_class_can_be_asked_for():
    rows, labels = blobs()
    assert cluster_scores(rows, labels, per_class=3)["n_clusters"] == 18


def test_more_clusters_than_items_are_refused():
    rows, labels = blobs(n=12)
    with pytest.raises(UserError, match="3 clusters for each of 6 classes are more than 12 items"):
        cluster_scores(rows, labels, per_class=3)
