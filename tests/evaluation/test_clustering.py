"""Clustering metrics, compared with scikit-learn and with loops over all pairs; k-means is reproducible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

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
def test_scores_equal_those_of_scikit_learn_and_of_a_loop_over_pairs(partitions):
    found, classes = (np.unique(values, return_inverse=True)[1] for values in partitions)
    scores = contingency_scores(found, classes)
    assert scores["nmi"] == pytest.approx(sklearn_metrics.normalized_mutual_info_score(classes, found), abs=1e-9)
    assert scores["ami"] == pytest.approx(sklearn_metrics.adjusted_mutual_info_score(classes, found), abs=1e-6)
    pairs = list(itertools.combinations(range(len(classes)), 2))
    both = sum(found[i] == found[j] and classes[i] == classes[j] for i, j in pairs)
    of_cluster, of_class = (sum(values[i] == values[j] for i, j in pairs) for values in (found, classes))
    assert scores["pairwise_f1"] == (2 * both / (of_cluster + of_class) if of_cluster + of_class else 1.0)
    most_frequent = sum(np.bincount(classes[found == cluster]).max() for cluster in set(found.tolist()))
    assert scores["purity"] == most_frequent / len(classes)


def test_an_empty_cluster_does_not_change_the_scores():
    assert contingency_scores(np.array([0, 0, 3, 3]), np.array([0, 0, 1, 1])) == {
        "nmi": pytest.approx(1.0),
        "ami": pytest.approx(1.0),
        "pairwise_f1": 1.0,
        "purity": 1.0,
    }


def test_separated_classes_have_a_high_nmi_and_random_labels_an_ami_near_zero():
    rows, labels = blobs(noise=0.05)
    # One initialisation may merge two blobs and split a third, so the mean of five is high, but not always 1.
    assert cluster_scores(rows, labels)["nmi"] > 0.9
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    assert abs(cluster_scores(rows, shuffled)["ami"]) < 0.1


def test_the_same_seed_gives_the_same_scores_and_the_settings_are_recorded():
    rows, labels = blobs()
    scores = cluster_scores(rows, labels, seed=3)
    assert scores == cluster_scores(rows, labels, seed=3)
    assert (scores["n_clusters"], scores["n_clusterings"], scores["cluster_seed"]) == (6, 5, 3)
    assert "greedy k-means++" in str(scores["cluster_init"])


def test_a_metric_is_the_mean_over_the_runs_with_its_standard_deviation():
    rows, labels = blobs(noise=1.0)
    runs = [contingency_scores(clusters(rows.numpy(), 6, seed), labels.numpy())["nmi"] for seed in range(5)]
    scores = cluster_scores(rows, labels)
    assert scores["nmi"] == pytest.approx(np.mean(runs), abs=1e-12)
    assert scores["nmi_std"] == pytest.approx(np.std(runs), abs=1e-12)


def test_several_clusters_per_class_can_be_requested():
    rows, labels = blobs()
    assert cluster_scores(rows, labels, clusters_per_class=3)["n_clusters"] == 18


def test_more_clusters_than_items_are_refused_and_the_message_gives_the_largest_number():
    rows, labels = blobs(n=12)
    with pytest.raises(UserError, match="3 clusters per class are 18 clusters of 12 items; use from 1 to 2 per class"):
        cluster_scores(rows, labels, clusters_per_class=3)
