"""Runs whose rows and scores are consistent, for tests of what is published. Nothing is trained."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rows_factory import COST, DEFAULTS, LABELS, METRICS, with_identity

from dmlbench.evaluation.embedding_files import save_tensors
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, EvaluationResult, evaluate
from dmlbench.results import run_files
from dmlbench.results.class_files import groups_digest
from dmlbench.results.row_files import write_row

CLASSES, PER_CLASS = 10, 6
LABELS_OF_CLASSES = {str(label): f"class {label}" for label in range(CLASSES)}
GROUPS = {str(label): f"group {label // 2}" for label in range(CLASSES)}


@cache
def evaluated(loss: str, seed: int, noise: float) -> EvaluationResult:
    """Evaluate random embeddings."""
    generator = torch.Generator().manual_seed(seed * 100 + len(loss))
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    centres = torch.randn(CLASSES, 8, generator=generator)
    rows = centres[labels] + noise * torch.randn(len(labels), 8, generator=generator)
    every = torch.ones(len(labels), dtype=torch.bool)
    embeddings = Embeddings(torch.nn.functional.normalize(rows), labels, torch.arange(len(labels)), every, every)
    return evaluate(embeddings, EvaluationConfig(ks=(1, 2, 4, 8), clusters_per_class=0))


def honest_run(runs: Path, loss: str = "triplet", seed: int = 0, noise: float = 1.0, **columns: Any) -> Path:
    """Write a run whose metrics belong to random embeddings, and return its directory."""
    result = evaluated(loss, seed, noise)
    row = with_identity(
        {
            **{name: value for name, value in DEFAULTS.items() if name not in METRICS},
            **COST,
            "loss_label": LABELS.get(loss, loss),
            "split_recall_at": "[1, 2, 4, 8]",
            "class_group_kind": "group",
            "class_groups_digest": groups_digest(GROUPS),
            "n_test_groups": 5,
            **{"n_train_classes": 10, "n_train_images": 100, "n_images": 160, "n_query_images": 60, "n_gallery_images": 60},
            "hostname": "secret-machine",
            "code_revision": "9a58512",
            **result.columns,
            "n_test_classes": CLASSES,
            "embeddings_sha256": f"{seed:e>64}",
            "model_sha256": f"{seed:d>64}",
            "loss": loss,
            "loss_make_target": f"losses.{loss}",
            "seed": seed,
            **columns,
        }
    )
    folder = runs / str(row["dataset"]) / loss / str(row["run_id"])
    write_row(folder, row)
    save_tensors(folder / run_files.PER_QUERY, result.tensors)
    (folder / run_files.CLASSES).write_text(json.dumps(LABELS_OF_CLASSES))
    (folder / run_files.CLASS_GROUPS).write_text(json.dumps(GROUPS))
    return folder
