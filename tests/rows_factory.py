"""Result rows with the columns that a run writes, for tests."""

from collections.abc import Mapping
from typing import Any

from dmlbench.results import columns as registry
from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row import Row

METRICS = (
    "recall_at_1",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
    "precision_at_1",
    "r_precision",
    "map_at_r",
)
DEFAULTS = {
    "schema_version": SCHEMA_VERSION,
    "fingerprint": "",
    "status": "ok",
    "reason": None,
    "dataset": "digits",
    "dataset_label": "Digit pairs",
    "trunk": "convnet",
    "trunk_label": "ConvNet",
    "trunk_weights": "none",
    "trunk_weights_sha256": None,
    "trunk_width": 32,
    "loss": "contrastive",
    "seed": 0,
    "protocol": "quick",
    "protocol_version": 1,
    "protocol_epochs": 6,
    "protocol_batch_size": 64,
    "protocol_embedding_dim": 64,
    "protocol_image_px": 32,
    "protocol_freeze_batch_norm": False,
    "protocol_lr": 0.001,
    "optimizer": "adamw",
    "optimizer_target": "torch.optim.AdamW",
    "optimizer_weight_decay": 0.0001,
    "sampler": "m_per_class",
    "sampler_samples_per_class": "${loss.samples_per_class}",
    "precision": "float32",
    "split_digest": "0123456789abcdef",
    "split_seed": 0,
    "loss_kind": "pair",
    "loss_samples_per_class": 4,
    "loss_make_neg_margin": 0.5,
    "selected_on": "last",
    "n_queries": 1200,
    "n_test_classes": 50,
    "device": "cpu",
    "torch_version": "2.11.0",
    "overrides": "[]",
    "config_files": "{}",
}
COST = {
    "train_seconds": 120.0,
    "images_per_second": 61.5,
    "memory_gib": 1.25,
    "n_model_parameters": 2_300_000,
    "n_loss_parameters": 100_000,
    "hostname": "alpha",
}
LABELS = {
    "untrained": "Untrained trunk",
    "contrastive": "Contrastive",
    "triplet": "Triplet",
    "proxy_nca": "Proxy-NCA",
    "softtriple": "SoftTriple",
    "multi_similarity": "Multi-Similarity",
    "cosface": "CosFace",
    "arcface": "ArcFace",
}


def make_row(score: float = 0.5, **columns: Any) -> Row:
    """Return a valid row. Metrics that are not given equal `score`; method digest and run id follow from the columns."""
    row = {**DEFAULTS, **dict.fromkeys(METRICS, score), **columns}
    row.setdefault("loss_label", LABELS.get(row["loss"], row["loss"]))
    if row["status"] == "failed":
        row |= {"reason": "no reason given", **dict.fromkeys(METRICS), **columns}
    return with_identity(row, **columns)


def with_identity(row: Mapping[str, Any], **columns: Any) -> Row:
    """Return a row whose digests and run id follow from its columns, except for those that are given."""
    read = Row({**dict.fromkeys(("fingerprint", "method_digest", "run_id"), ""), **row})
    method = {name: value for name, value in read.method.items() if name != "loss"}
    given = {"fingerprint": registry.fingerprint(read.shared), "method_digest": registry.method_digest(method), **columns}
    run_id = registry.run_id(str(given["fingerprint"]), str(given["method_digest"]), read.seed)
    return Row({**row, **given, "run_id": columns.get("run_id", run_id)})


def make_study(**columns: Any) -> list[Row]:
    """Return rows of the untrained trunk and three losses with three seeds each: a loss adds 0.1, a seed 0.01 to the score."""
    losses = ("untrained", "contrastive", "triplet", "arcface")
    return [
        make_row(0.1 * (i + 1) + 0.01 * seed, **{"loss": loss, "seed": seed, **columns})
        for i, loss in enumerate(losses)
        for seed in range(3)
    ]
