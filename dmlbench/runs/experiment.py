"""One run, from plan to row: train, embed, evaluate."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import torch

from dmlbench.config.plan import Plan, method_columns
from dmlbench.config.schema import Scalar
from dmlbench.data.folds import training_splits
from dmlbench.data.loader import make_batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure
from dmlbench.evaluation.embedding_files import Embeddings, save_embeddings, save_tensors
from dmlbench.evaluation.several_models import evaluate_models
from dmlbench.models.state_files import save_state
from dmlbench.results import run_files
from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row import MISSING, Row
from dmlbench.runs.attribute_columns import attribute_columns
from dmlbench.runs.class_files import write_classes
from dmlbench.runs.evaluation_settings import evaluation_config
from dmlbench.runs.image_list import write_images
from dmlbench.runs.loss_columns import memory_columns, proxy_columns
from dmlbench.system.regular_files import sha256
from dmlbench.system.seeding import derive_seed
from dmlbench.training import processes
from dmlbench.training.embed import refuse_collapse
from dmlbench.training.environment import begin_memory_peak, cpu_columns, device_name, make_deterministic, memory_gib, versions
from dmlbench.training.trained_model import TrainedModel, build_model, embed_split, fit


def run(plan: Plan, split: Split) -> Row | None:
    """Train, embed and evaluate one plan. The same plan gives the same row.

    Several processes train and embed together. The first one evaluates and writes all files.

    Args:
        plan: What to run; its directory exists. Training resumes from a checkpoint in it.
        split: Data set of the plan, before any fold is held out.

    Returns:
        The row. If the method failed, its `status` is `failed` and `reason` says why. None in all processes but the first.
    """
    make_deterministic(plan.protocol.threads)
    begin_memory_peak(plan.device)
    images = None if plan.protocol.trunk_frozen else make_batches(plan, split)
    untrained = plan.method.make is None
    parts = training_splits(split, plan.protocol)[: 1 if untrained else None]
    models: list[TrainedModel] = []
    try:
        for fold, part in enumerate(parts):
            folder = plan.folder / f"fold{fold}" if len(parts) > 1 else plan.folder
            if processes.is_first():
                folder.mkdir(exist_ok=True)
            fold_plan = replace(plan, seed=derive_seed(plan.seed, "fold", fold)) if len(parts) > 1 else plan
            models.append(build_model(fold_plan, folder, split, images))
            fit(models[-1], part, fold_plan, f"fold {fold + 1} of {len(parts)}" if len(parts) > 1 else "")
        began = time.perf_counter()
        embeddings = [embedded_test_images(one, split, plan) for one in models]
        if not processes.is_first():
            return None
        with processes.alone():
            metrics = evaluated(models, embeddings, split, plan)
    except MethodFailure as failure:
        return finished_row(plan, parts[0], models, status="failed", reason=str(failure))
    for one in models:
        save_state(one.folder / run_files.MODEL, {"model": one.model.state_dict()})
    write_classes(plan.folder, split)
    write_images(plan.folder, split, training=plan.protocol.full_gallery)
    written = digest_columns(models, plan.folder)
    seconds = round(time.perf_counter() - began, 3)
    return finished_row(plan, parts[0], models, status="ok", reason=None, evaluate_seconds=seconds, **metrics, **written)


def embedded_test_images(trained: TrainedModel, split: Split, plan: Plan) -> Embeddings:
    """Embed the test images, and all others if the gallery consists of all images.

    Args:
        trained: Trained model.
        split: Data set of the plan, before any fold is held out.
        plan: The plan of the run.

    Raises:
        MethodFailure: An embedding is not finite, or all embeddings are equal.
    """
    with trained.reading():
        also = ("train", "val") if plan.protocol.full_gallery else ()
        embeddings = embed_split(trained.model, split, ("query", "gallery"), trained.batches, plan, also)
    refuse_collapse(cast(torch.Tensor, embeddings.rows))
    return embeddings


def evaluated(
    models: Sequence[TrainedModel], embeddings: Sequence[Embeddings], split: Split, plan: Plan
) -> Mapping[str, Scalar]:
    """Compute the metrics on the test classes, of one model or of one model per fold.

    Writes the embeddings of each model and the scores of each query to the run directory.

    Args:
        models: Trained models.
        embeddings: Embeddings of the test images by each model.
        split: Data set of the plan, before any fold is held out.
        plan: The plan of the run.

    Returns:
        Column name to value.
    """
    for one, found in zip(models, embeddings, strict=True):
        save_embeddings(one.folder / run_files.EMBEDDINGS, found)
    result = evaluate_models([one.on(plan.device) for one in embeddings], evaluation_config(plan), plan.protocol.fold == "all")
    for one, own in zip(models, result.each, strict=True):
        if one.folder != plan.folder:
            save_tensors(one.folder / run_files.PER_QUERY, own.tensors)
    save_tensors(plan.folder / run_files.PER_QUERY, result.tensors)
    return {**result.columns, **attribute_columns(models, split, plan)}


def digest_columns(models: Sequence[TrainedModel], folder: Path) -> dict[str, Scalar]:
    """Return the digests of the files from which `dmlbench evaluate` and `dmlbench verify` compute metrics.

    Args:
        models: Models, whose files are written.
        folder: Directory of the run, with the scores of its queries.
    """
    names = {"embeddings_sha256": run_files.EMBEDDINGS, "model_sha256": run_files.MODEL}
    columns: dict[str, Scalar] = {column: sha256(*(one.folder / name for one in models)) for column, name in names.items()}
    return {**columns, run_files.PER_QUERY_DIGEST: sha256(folder / run_files.PER_QUERY)}


def selection_columns(models: Sequence[TrainedModel], plan: Plan) -> dict[str, Scalar]:
    """Return the columns that describe model selection: on what, which epoch, which score, and the oracle's choice.

    Args:
        models: Models, of which the last may not have been trained to the end.
        plan: The plan of the run.

    Returns:
        Column name to value; scores are fractions, averaged over the models.
    """
    if models[0].objective is None:
        return {"selected_on": "none", "selected_epoch": 0}
    histories = [one.history for one in models]
    validated = plan.protocol.selection == "validation"
    if (validated or plan.oracle) and not all(history.evaluations for history in histories):  # training failed
        return {"selected_on": plan.protocol.selection, "selected_epoch": None}
    columns: dict[str, Scalar] = {"selected_on": plan.protocol.selection}
    if validated:
        score = plan.protocol.validation_score
        best = [history.best(score) for history in histories]
        epochs = [int(one["epoch"]) for one in best]
        columns["selected_score"] = float(np.mean([one[score] for one in best]))
        columns["untrained_trunk_score"] = float(np.mean([one.trunk_score for one in models]))
        columns["untrained_score"] = float(np.mean([history.evaluations[0][score] for history in histories]))
    else:
        epochs = [len(history.epochs) for history in histories]
    columns["selected_epoch"] = epochs[0] if len(epochs) == 1 else str(epochs)
    if plan.oracle:
        best = [history.best("test_map_at_r") for history in histories]
        columns["oracle_map_at_r"] = float(np.mean([one["test_map_at_r"] for one in best]))
        oracles = [int(one["epoch"]) for one in best]
        columns["oracle_epoch"] = oracles[0] if len(oracles) == 1 else str(oracles)
    return columns


def pending_row(plan: Plan) -> Row:
    """Return the columns of a run's row that are known before it ends.

    Args:
        plan: The plan of the run.

    Returns:
        A row whose status says that the run has not finished.
    """
    columns: dict[str, Scalar] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.run_id,
        "fingerprint": plan.fingerprint,
        "method_digest": plan.method_digest,
        "status": MISSING,
        "reason": None,
        "dataset_label": plan.dataset.label,
        "trunk_label": plan.trunk.label,
        "loss": plan.method.name,
        "loss_label": plan.method.label,
        "seed": plan.seed,
        **plan.shared,
        **method_columns(plan.method),
        "trunk_weights": Path(plan.trunk.weights).name,
        **plan.provenance,
    }
    return Row(columns)


def finished_row(
    plan: Plan, split: Split, models: Sequence[TrainedModel], status: str, reason: str | None, **metrics: Scalar
) -> Row:
    """Return the complete row of a run.

    Args:
        plan: The plan of the run.
        split: Data set with the first fold held out, for the counts of images and classes.
        models: Models, of which the last may not have been trained to the end.
        status: `ok` or `failed`.
        reason: Why the method failed; None for `ok`.
        metrics: Metrics and the duration of the evaluation; none if the method failed.
    """
    first, epochs = models[0], [one.history.epochs for one in models if one.history.epochs]
    features = [one.features_seconds for one in models if one.features_seconds is not None]
    speeds = [one.history.images_per_second for one in models if one.history.images_per_second is not None]
    columns: dict[str, Scalar] = {
        **pending_row(plan).columns,
        "status": status,
        "reason": reason,
        **selection_columns(models, plan),
        **plan.tuned,
        **{f"n_{fact}": count for fact, count in split.facts.items()},
        "n_images_skipped": split.n_skipped,
        **split.columns,
        **metrics,
        "final_loss": float(np.mean([one[-1]["loss"] for one in epochs])) if epochs else None,
        "embedding_dim": first.model.embedding_dim,
        "n_models": len(models),
        "n_model_parameters": _n_parameters(first.model),
        "n_loss_parameters": _n_parameters(first.objective) if first.objective else 0,
        **proxy_columns(models),
        **memory_columns(models),
        "device": device_name(plan.device),
        "n_processes": processes.count(),
        "compiled": plan.compile,
        **cpu_columns(),
        **versions(),
        "features_seconds": round(sum(features), 3) if features else None,
        "train_seconds": round(sum(one.history.seconds for one in models), 3),
        "images_per_second": float(np.median(speeds)) if speeds else None,
        "n_resumed": sum(one.history.n_resumed for one in models),
        "memory_gib": memory_gib(plan.device),
        "hostname": socket.gethostname(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Row(columns)


def _n_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
