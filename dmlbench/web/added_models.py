"""Add a model that was trained elsewhere: weights as safetensors, and the row of a run as its configuration. Imports torch.

Nothing that the row claims about results is kept. The model is built as `dmlbench evaluate --layer` builds one, embeds the test
images, and all metrics are computed from these embeddings. It has a table of its own, because its training is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.config.schema import Scalar
from dmlbench.errors import DmlbenchError, UserError
from dmlbench.results import columns as registry
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.system.atomic_write import atomic_directory, atomic_write
from dmlbench.system.own_directory import refuse_links
from dmlbench.system.regular_files import parse_json, sha256
from dmlbench.web.snapshot import ADDED

if TYPE_CHECKING:
    from dmlbench.config.plan import Plan
    from dmlbench.data.split import Split

PRESET = "added"  # instead of a preset, so that these rows share no table with rows of known training
MAX_ROW_BYTES = 4 * 2**20
MAX_WEIGHTS_BYTES = 2 * 2**30
_MAX_NAME = 80
_SEED = 0
# What the model needs to know of its method.
_OF_METHOD = ("loss_kind", "loss_features", "loss_attributes", "loss_n_attributes", "loss_layer")
_OF_DATA = ("dataset_label", "trunk_label", "trunk_weights", "dataset_source", "config_files")


def read_config(data: bytes) -> Row:
    """Read the row that describes a model.

    Args:
        data: Content of a `row.json`.

    Raises:
        UserError: It is not a row.
    """
    try:
        columns = parse_json(data) if len(data) <= MAX_ROW_BYTES else None
    except ValueError as error:
        raise UserError(f"the configuration is not a row of dmlbench: {error}") from None
    if not isinstance(columns, dict):
        raise UserError("the configuration is not a row of dmlbench; choose the row.json of a run")
    return Row(columns)


def add_model(
    config: Row, weights: bytes, name: str, directory: Path, options: Sequence[str] = (), config_dir: Path | None = None
) -> Path:
    """Evaluate a model and write it as a run.

    Args:
        config: Row of a run with the same data set, trunk and protocol. It is not trusted.
        weights: Content of a safetensors file, with the tensors of the run's model by name.
        name: Name of the model in print.
        directory: Directory of added models.
        options: Overrides that the user typed. They are trusted.
        config_dir: Directory of the user's own configuration files.

    Returns:
        The directory of the new run.

    Raises:
        UserError: The configuration is not accepted, or the weights are not those of such a model.
    """
    from dmlbench.runs.class_files import write_classes
    from dmlbench.runs.image_list import write_images
    from dmlbench.runs.recorded_plan import recorded_plan

    label = " ".join(name.split())
    if not (0 < len(label) <= _MAX_NAME and label.isprintable()):
        raise UserError(f"type a name of 1 to {_MAX_NAME} characters")
    row = _row(config, label, _tensors_digest(weights))
    folder = directory / str(row["run_id"])
    refuse_links(directory)
    if folder.exists():
        raise UserError("this model has been added already")
    plan, split = recorded_plan(row, options, config_dir)
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_directory(folder) as new:
        atomic_write(new / run_files.MODEL_SAFETENSORS, weights)
        columns = _evaluate(replace(row, folder=new), plan, split)
        write_classes(new, split)
        write_images(new, split)
        write_row(new, Row({**row.columns, **columns}))
    return folder


def _tensors_digest(weights: bytes) -> str:
    """Return 16 hex digits that identify tensors, however a file orders them and whatever else it contains."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = sorted((name, one["dtype"], one["shape"], one["data"]) for name, one in deserialize(weights))
    except (SafetensorError, TypeError) as error:
        raise UserError(f"the weights are not a safetensors file: {error}") from None
    digest = hashlib.sha256()
    for name, kind, shape, data in tensors:
        digest.update(json.dumps([name, kind, shape]).encode() + bytes(data))
    return digest.hexdigest()[:16]


def _row(config: Row, label: str, weights: str) -> Row:
    """Return the columns of the new row that are known before it is evaluated.

    Its seed is always 0: the same weights under another seed would count as a second model of the method.
    """
    shared = {**config.shared, "preset": PRESET}
    method: dict[str, Scalar] = {"loss": ADDED, "loss_make_weights_sha256": weights}
    method |= {column: config[column] for column in _OF_METHOD if column in config.columns}
    digest, fingerprint = registry.method_digest(method), registry.fingerprint(shared)
    return Row(
        {
            "schema_version": registry.SCHEMA_VERSION,
            "run_id": registry.run_id(fingerprint, digest, _SEED),
            "fingerprint": fingerprint,
            "method_digest": digest,
            "status": "ok",
            "reason": None,
            "loss_label": label,
            "seed": _SEED,
            **shared,
            **method,
            **{column: config[column] for column in _OF_DATA if column in config.columns},
        }
    )


def _evaluate(row: Row, plan: Plan, split: Split) -> dict[str, Scalar]:
    """Embed the test images, write the embeddings and the scores of the queries, and return the metrics."""
    from dmlbench.data.loader import make_batches
    from dmlbench.evaluation.embedding_files import save_embeddings, save_tensors
    from dmlbench.evaluation.evaluator import EvaluationConfig
    from dmlbench.evaluation.several_models import evaluate_models
    from dmlbench.runs.evaluation_settings import config_for_run
    from dmlbench.runs.reevaluate import load_saved_model
    from dmlbench.training.environment import versions
    from dmlbench.training.trained_model import embed_split

    assert row.folder is not None
    if plan.protocol.fold == "all":
        raise UserError("a configuration with one model per fold is not accepted, because one file of weights is one model")
    model = load_saved_model(row, plan)
    found = embed_split(model, split, ("query", "gallery"), make_batches(plan, split), plan)
    settings = config_for_run(EvaluationConfig(ks=(1, 2, 4, 8)), row)
    settings = replace(settings, full_gallery=False)
    try:
        result = evaluate_models([found], settings, per_fold=False)
    except DmlbenchError as error:
        raise UserError(f"the model cannot be evaluated: {error}") from None
    save_embeddings(row.folder / run_files.EMBEDDINGS, found)
    save_tensors(row.folder / run_files.PER_QUERY, result.tensors)
    digest = sha256(row.folder / run_files.EMBEDDINGS)
    return {**versions(), **result.columns, "embedding_dim": found.rows.shape[1], "embeddings_sha256": digest}
