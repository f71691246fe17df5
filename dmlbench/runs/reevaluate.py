"""Re-evaluation of saved runs with other settings, as additional rows.

Metrics are computed from the embeddings beside the run's row. What these do not contain (another layer, training images, the
lengths of embeddings) needs the model, which is built from the overrides of the run. Because a run directory may come from
somebody else, only constructors that a shipped configuration file, or one in the user's `--config-dir`, names are called.
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from dmlbench.config.compose import compose
from dmlbench.config.files import conf_dir
from dmlbench.config.identity import digest
from dmlbench.config.schema import Scalar
from dmlbench.data.loader import make_batches
from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation.embedding_files import Embeddings, load_embeddings, save_tensors
from dmlbench.evaluation.evaluator import EvaluationConfig, refuse_impossible
from dmlbench.evaluation.several_models import evaluate_models
from dmlbench.models.embedder import Layer, build_embedder
from dmlbench.results import columns as registry
from dmlbench.results import run_files
from dmlbench.results.columns import column
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.results.row_files import read_row, read_rows, write_row
from dmlbench.runs.prepare import prepare
from dmlbench.training.environment import make_deterministic, versions
from dmlbench.training.trained_model import embed_split


@dataclass(frozen=True)
class RunRequest:
    """How to evaluate a saved run.

    Args:
        config: How to process and evaluate embeddings; empty `ks` for those of the run.
        layer: Layer of the model whose output is evaluated.
        config_dir: Directory of the user's own configuration files.
    """

    config: EvaluationConfig
    layer: Layer = "embedding"
    config_dir: Path | None = None


def reevaluate(path: Path, request: RunRequest) -> list[tuple[Path, Row]]:
    """Evaluate every finished run at or below a path.

    Args:
        path: Directory, or a `row.json`.
        request: How to evaluate them.

    Returns:
        The file of each new row, and the row.

    Raises:
        UserError: There is no finished run, or one cannot be evaluated as requested.
    """
    if path.is_file():
        return [_reevaluate_run(path.parent, read_row(path), request)]
    rows, _ = read_rows(path)
    runs = [row for row in rows if row.ok and row.get("parent") is None and row["protocol"] != EXTERNAL]
    if not runs:
        raise UserError(f"{path} contains no finished run to evaluate")
    return [_reevaluate_run(row.folder, row, request) for row in runs if row.folder is not None]


def _reevaluate_run(folder: Path, parent: Row, request: RunRequest) -> tuple[Path, Row]:
    began = time.perf_counter()
    config = request.config if request.config.ks else replace(request.config, ks=_ks_of(parent))
    models = sorted(folder.glob("fold*/")) or [folder]
    if request.layer == "embedding" and config.whiten is None and config.beta is None:
        found = [_saved(model / run_files.EMBEDDINGS) for model in models]
    else:
        found = _embed_again(folder, models, parent, request, config)
    refuse_impossible(found[0], config, str(folder), given=bool(request.config.ks))
    try:
        result = evaluate_models(found, config, parent.get("protocol_fold") == "all")
    except MethodFailure as failure:
        raise UserError(f"{folder}: {failure}") from None
    settings: dict[str, Scalar] = {**config.columns, "evaluation_layer": request.layer}
    columns: dict[str, Scalar] = {
        **{name: value for name, value in parent.columns.items() if not column(name).evaluated},
        **settings,
        "parent": parent["run_id"],
        **result.columns,
        "embedding_dim": found[0].rows.shape[1],
        **evaluation_provenance(began),
    }
    fingerprint = registry.fingerprint(Row(columns).shared)
    run_id = registry.run_id(fingerprint, str(parent["method_digest"]), parent.seed)
    row = Row({**columns, "fingerprint": fingerprint, "run_id": run_id})
    return write_evaluation(folder / f"evaluate-{digest(settings)[:8]}", row, result.tensors)


def _ks_of(row: Row) -> tuple[int, ...]:
    """The values of k of a run's Recall@k."""
    found = [parse_metric(name) for name in row.metrics]
    return tuple(
        one.k for one in found if one and one.k and one.spec.name == "recall_at_<k>" and not (one.macro or one.concatenated)
    )


def _saved(file: Path) -> Embeddings:
    if not file.is_file():
        raise UserError(f"{file} does not exist, so the run cannot be evaluated; `dmlbench train` writes it")
    return load_embeddings(file)


def _embed_again(
    folder: Path, models: Sequence[Path], parent: Row, request: RunRequest, config: EvaluationConfig
) -> list[Embeddings]:
    """Embed the images again with the models of a run."""
    file = _overrides_file(folder)
    composed = compose(_read_overrides(file), request.config_dir)
    for group in ("dataset", "trunk", "loss", "protocol"):
        if group not in composed.cfg or group not in composed.choices:
            raise UserError(f"{file} removes {group}, without which there is no run")
    _refuse_foreign(composed.cfg, request.config_dir, file)
    plan, split = prepare(composed)
    if plan.run_id != parent["run_id"]:
        raise UserError(
            f"{file} gives the run {plan.run_id} here, not {parent['run_id']}: configuration, data or own code have changed"
        )
    make_deterministic(plan.protocol.threads)
    batches = make_batches(plan, split)
    also = "train" if config.whiten is not None else None
    found = []
    for model_folder in models:
        model = build_embedder(plan)
        try:
            state = torch.load(model_folder / run_files.MODEL, map_location="cpu", weights_only=True)
            model.load_state_dict(state["model"])
        except (OSError, RuntimeError, LookupError, TypeError, EOFError, pickle.UnpicklingError):
            raise UserError(
                f"{model_folder / run_files.MODEL} does not contain the model of this run; it is corrupt or was replaced"
            ) from None
        model.to(plan.device).to(memory_format=torch.channels_last)
        with model.at_layer(request.layer):
            found.append(embed_split(model, split, ("query", "gallery"), batches, plan, also, unit=config.beta is None))
    return found


def _overrides_file(folder: Path) -> Path:
    """The file of a run's overrides; runs of schema 1 have it under another name."""
    before = folder / run_files.OVERRIDES_SCHEMA_1
    return before if before.is_file() and not (folder / run_files.OVERRIDES).is_file() else folder / run_files.OVERRIDES


def _read_overrides(file: Path) -> list[str]:
    try:
        overrides = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        overrides = None
    if not isinstance(overrides, list) or not all(isinstance(one, str) for one in overrides):
        raise UserError(f"{file} does not contain the overrides of the run; train it again, or use options that need no model")
    if any("${" in one for one in overrides):
        raise UserError(f"{file} contains an interpolation, which is not resolved from a run directory; train the run without")
    return overrides


def _refuse_foreign(cfg: Any, config_dir: Path | None, file: Path) -> None:
    """Refuse overrides from a run directory that name a constructor which no trusted configuration file names."""
    trusted = set()
    for root in (conf_dir(), *([config_dir] if config_dir else [])):
        for path in root.rglob("*.yaml"):
            trusted |= set(_targets(yaml.safe_load(path.read_text(encoding="utf-8"))))
    # Resolved, because an interpolation may hide a target.
    for target in _targets(OmegaConf.to_container(cfg, resolve=True)):
        if target not in trusted:
            raise UserError(f"{file} names `{target}`, which no configuration file builds; own code needs its --config-dir")


def _targets(values: Any) -> list[str]:
    if isinstance(values, dict):
        own = [str(values["_target_"])] if "_target_" in values else []
        return own + [target for value in values.values() for target in _targets(value)]
    return [target for value in values for target in _targets(value)] if isinstance(values, list) else []


def evaluation_provenance(began: float) -> dict[str, Scalar]:
    """Return the columns with versions, duration and end of an evaluation.

    Args:
        began: `time.perf_counter()` at its start.
    """
    return {
        **versions(),
        "evaluate_seconds": round(time.perf_counter() - began, 3),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_evaluation(folder: Path, row: Row, tensors: Mapping[str, torch.Tensor]) -> tuple[Path, Row]:
    """Write a row and the scores of its queries.

    Args:
        folder: Directory for both; it is created.
        row: Row to write.
        tensors: Scores of the queries, by name.

    Returns:
        The file of the row, and the row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / run_files.PER_QUERY, tensors)
    return write_row(folder, row), row
