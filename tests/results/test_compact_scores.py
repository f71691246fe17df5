"""The compact form of per-query scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, evaluate
from dmlbench.evaluation.several_models import evaluate_models
from dmlbench.results import run_files
from dmlbench.results.compact_scores import CompactScores, parse_compact_scores
from dmlbench.results.query_scores import read_query_scores
from dmlbench.results.score_packing import compact_scores

Arrays = dict[str, np.ndarray]
CONFIG = EvaluationConfig(ks=(1, 2, 4, 8), clusters_per_class=0)


def items(n_classes: int = 20, per_class: int = 12, codes: bool = False, seed: int = 0) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    rows = torch.randn(n_classes, 8, generator=generator)[labels] + torch.randn(len(labels), 8, generator=generator)
    rows = rows.sign() if codes else torch.nn.functional.normalize(rows)
    every = torch.ones(len(labels), dtype=torch.bool)
    return Embeddings(rows, labels, torch.arange(len(labels)) + 300, every, every)


def arrays(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def restored(scores: Arrays, n_models: int = 1) -> CompactScores:
    return parse_compact_scores(save(compact_scores(scores, n_models)))


@pytest.mark.parametrize("codes", [False, True], ids=["no ties", "binary codes with many ties"])
def test_all_scores_of_one_model_are_restored_bit_by_bit(codes: bool) -> None:
    scores = arrays(evaluate(items(codes=codes), CONFIG).tensors)
    found = restored(scores)
    assert found.metrics == scores.keys() - {"ids", "labels"}
    assert all(np.array_equal(found.values(name), scores[name]) for name in found.metrics)
    np.testing.assert_array_equal(found.ids, scores["ids"])
    np.testing.assert_array_equal(found.labels, scores["labels"])


def test_without_ties_a_query_takes_at_most_20_bytes() -> None:
    scores = arrays(evaluate(items(n_classes=100, per_class=60), CONFIG).tensors)
    found = compact_scores(scores)
    assert len(scores["ids"]) == 6_000
    assert len(save(found)) <= 20 * 6_000
    assert not [name for name in found if name.endswith(".index")]


def test_means_over_several_models_are_restored() -> None:
    result = evaluate_models([items(seed=seed) for seed in range(3)], CONFIG, per_fold=True)
    scores = arrays(dict(result.tensors))
    found = restored(scores, n_models=3)
    assert found.metrics == scores.keys() - {"ids", "labels"}
    assert max(np.abs(found.values(name) - scores[name]).max() for name in found.metrics) <= 1e-12
    assert any(name.startswith("concatenated_") for name in found.metrics)


def test_drawn_queries_keep_their_ids_and_a_full_gallery_its_metrics() -> None:
    every = items()
    train = torch.zeros(len(every), dtype=torch.bool)
    train[:60] = True
    data = Embeddings(every.rows, every.labels, every.ids, ~train, ~train)
    config = EvaluationConfig(ks=(1, 2), clusters_per_class=0, queries=40, full_gallery=True)
    scores = arrays(evaluate(data, config).tensors)
    found = restored(scores)
    np.testing.assert_array_equal(found.ids, scores["ids"])
    assert "full_map_at_r" in found.metrics
    assert all(np.array_equal(found.values(name), scores[name]) for name in found.metrics)


def test_scores_in_single_precision_stay_in_single_precision() -> None:
    scores = arrays(evaluate(items(), CONFIG).tensors)
    single = {name: values if values.dtype.kind == "i" else values.astype(np.float32) for name, values in scores.items()}
    found = restored(single)
    assert found.tolerance == 1e-6
    assert max(np.abs(found.values(name) - scores[name]).max() for name in found.metrics) < 1e-7


def test_metrics_of_earlier_versions_without_precision_are_restored() -> None:
    scores = arrays(evaluate(items(), CONFIG).tensors)
    old = {name: scores[name] for name in ("ids", "labels", "recall_at_1", "r_precision", "map_at_r")}
    found = restored(old)
    assert found.metrics == {"recall_at_1", "r_precision", "map_at_r"}
    assert all(np.array_equal(found.values(name), old[name]) for name in found.metrics)


def test_scores_without_queries_are_restored() -> None:
    none = {"ids": np.zeros(0, int), "labels": np.zeros(0, int), "map_at_r": np.zeros(0)}
    assert restored(none).values("map_at_r").shape == (0,)


def test_query_scores_are_read_from_the_compact_file_if_there_is_no_other(tmp_path: Path) -> None:
    scores = arrays(evaluate(items(), CONFIG).tensors)
    (tmp_path / run_files.COMPACT_SCORES).write_bytes(save(compact_scores(scores)))
    found = read_query_scores(tmp_path / run_files.PER_QUERY, "map_at_r")
    assert found is not None
    np.testing.assert_array_equal(found.values, scores["map_at_r"])
    assert read_query_scores(tmp_path / run_files.PER_QUERY, "nmi") is None
    (tmp_path / run_files.COMPACT_SCORES).write_bytes(b"damaged")
    assert read_query_scores(tmp_path / run_files.PER_QUERY, "map_at_r") is None


VALID: Arrays = {
    "first_id": np.array([0], np.uint8),
    "labels": np.array([0, 0, 1], np.uint8),
    "best_rank": np.array([1, 2, 3], np.uint8),
    "hits_at_2": np.array([2, 1, 0], np.uint8),
    "hits_at_r": np.array([1, 1, 0], np.uint8),
    "n_relevant": np.array([2, 2, 2], np.uint8),
    "map_at_r": np.array([0.5, 0.25, 0.0]),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": None}, "it needs 'labels'"),
        ({"first_id": None}, "either 'ids' or 'first_id'"),
        ({"ids": np.arange(3)}, "either 'ids' or 'first_id'"),
        ({"first_id": None, "ids": np.array([1, 1, 2])}, "an id occurs twice"),
        ({"first_id": np.array([-1])}, "needs one value"),
        ({"n_models": np.array([0], np.uint8)}, "needs one value"),
        ({"labels": np.array([0, 1], np.uint8)}, "values for 2 queries"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "has the type float64"),
        ({"labels": np.zeros((3, 1), np.uint8)}, r"shape \(3, 1\)"),
        ({"secret": np.zeros(3)}, "the unknown array 'secret'"),
        ({"map_at_r": np.array([0.5, np.nan, 0.0])}, "not from 0 to 1"),
        ({"map_at_r": np.array([0.5, 1.5, 0.0])}, "not from 0 to 1"),
        ({"map_at_r": np.array([1, 0, 1], np.uint8)}, "has the type uint8"),
        ({"hits_at_2": np.array([3, 0, 0], np.uint8)}, "its scores of precision_at_2 are not from 0 to 1"),
        ({"hits_at_r": np.array([3, 0, 0], np.uint8)}, "its scores of r_precision are not from 0 to 1"),
        ({"best_rank": np.array([-1, 1, 1], np.int8)}, "its scores of mean_reciprocal_rank are not from 0 to 1"),
        ({"recall_at_1.index": np.array([3], np.uint32), "recall_at_1.value": np.array([0.5])}, "does not name the queries"),
        ({"recall_at_1.index": np.array([0, 0]), "recall_at_1.value": np.array([0.5, 0.5])}, "does not name the queries"),
        ({"recall_at_1.index": np.array([0], np.uint32)}, "does not name the queries"),
        ({"recall_at_1.value": np.array([0.5])}, "has no index"),
    ],
    ids=str,
)
def test_arrays_that_are_no_compact_scores_are_refused(changed: dict[str, np.ndarray | None], message: str) -> None:
    CompactScores(VALID)
    tensors = {name: values for name, values in {**VALID, **changed}.items() if values is not None}
    with pytest.raises(ValueError, match=message):
        CompactScores(tensors)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 64, b"PK\x03\x04" + bytes(60)], ids=str)
def test_a_file_that_is_no_safetensors_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is no safetensors file"):
        parse_compact_scores(content)
