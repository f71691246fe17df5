"""Re-evaluation of saved runs with other settings, as additional rows.

Metrics are computed from the embeddings beside the run's row. What these do not contain (another layer, training images, the
lengths of embeddings) needs the model and the images, which `recorded_plan` finds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dmlbench.config.identity import digest
from dmlbench.config.schema import Scalar
from dmlbench.errors import MethodFailure, UserError, describe_os_error
from dmlbench.evaluation.embedding_files import Embeddings, load_embeddings, save_tensors
from dmlbench.evaluation.evaluator import EvaluationConfig, refuse_impossible
from dmlbench.evaluation.several_models import evaluate_models
from dmlbench.models.state_files import UnreadableStateError, load_state, load_tensors
from dmlbench.results import columns as registry
from dmlbench.results import run_files
from dmlbench.results.columns import column
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.results.row_files import read_row, read_rows, write_row
from dmlbench.runs.evaluation_settings import config_for_run
from dmlbench.system.own_directory import refuse_links
from dmlbench.system.regular_files import sha256
from dmlbench.training.environment import device_name, make_deterministic, versions

if TYPE_CHECKING:  # models and images are imported only by what embeds again, because importing them takes seconds
    from dmlbench.config.plan import Plan
    from dmlbench.models.embedder import Embedder, Layer


@dataclass(frozen=True)
class RunRequest:
    """How to evaluate a saved run.

    Args:
        config: How to process and evaluate embeddings; empty `ks` for those of the run.
        layer: Layer of the model whose output is evaluated.
        options: Overrides for reading the images, such as `dataset.root=photos`.
        config_dir: Directory of the user's own configuration files.
    """

    config: EvaluationConfig
    layer: Layer = "embedding"
    options: tuple[str, ...] = ()
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
    config = config_for_run(request.config, parent)
    models = model_folders(folder, parent)
    device = parent.get("device")
    has_training = not config.full_gallery or parent.get("protocol_full_gallery")
    if request.layer == "embedding" and config.whiten is None and config.beta is None and has_training:
        found = saved_embeddings([model / run_files.EMBEDDINGS for model in models], parent)
    else:
        found, device = embed_again(models, parent, request, config)
    refuse_impossible(found[0], config, str(folder))
    try:
        result = evaluate_models(found, config, parent.get("protocol_fold") == "all")
    except MethodFailure as failure:
        raise UserError(f"{folder}: {failure}") from None
    requested = replace(request.config, ks=config.ks)  # without what the row has as columns of its protocol
    settings: dict[str, Scalar] = {**requested.columns, "evaluation_layer": request.layer}
    columns: dict[str, Scalar] = {
        **{name: value for name, value in parent.columns.items() if not column(name).evaluated},
        **settings,
        "schema_version": registry.SCHEMA_VERSION,
        "parent": parent["run_id"],
        "overrides": None if parent.overrides is None else json.dumps(parent.overrides),  # schema 1 has them in a file
        "device": device,
        **result.columns,
        "embedding_dim": found[0].rows.shape[1],
        **evaluation_provenance(began),
    }
    fingerprint = registry.fingerprint(Row(columns).shared)
    run_id = registry.run_id(fingerprint, str(parent["method_digest"]), parent.seed)
    row = Row({**columns, "fingerprint": fingerprint, "run_id": run_id})
    return write_evaluation(folder / f"evaluate-{digest(settings)[:8]}", row, result.tensors)


def model_folders(folder: Path, parent: Row) -> list[Path]:
    """Return the directory of each model: one per fold, or the directory of the run.

    Args:
        folder: Directory of the run.
        parent: Its row.

    Raises:
        UserError: A model is missing, or a directory is a link.
    """
    refuse_links(folder, run_files.NAMES)
    folds = sorted(folder.glob("fold[0-9]*/"))
    expected = parent.get("n_models", len(folds) or 1)  # rows of earlier versions may lack it
    if (len(folds) or 1) != expected:
        raise UserError(
            f"{folder} contains {len(folds)} of {expected} models, which are in fold0, fold1, ...; copy the whole run directory"
        )
    return folds or [folder]


def saved_embeddings(files: Sequence[Path], parent: Row) -> list[Embeddings]:
    """Read the embeddings of a run.

    Args:
        files: The file of each model.
        parent: Row of the run.

    Raises:
        UserError: A file is missing, or is not what the run wrote.
    """
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} does not exist, so the run cannot be evaluated; `dmlbench train` writes it")
    _refuse_replaced(files, parent, "embeddings_sha256")
    return [load_embeddings(file) for file in files]


def _refuse_replaced(files: Sequence[Path], parent: Row, column: str) -> None:
    """Refuse files that are not those that the run wrote. Rows of earlier versions do not record their digest."""
    try:
        replaced = parent.get(column) is not None and sha256(*files) != parent[column]
    except OSError as error:
        raise UserError(describe_os_error(error)) from error
    if replaced:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise UserError(
            f"{files[0]}{more} cannot be evaluated: the content is not what the run wrote ({column} in {run_files.ROW}); "
            f"restore it, or delete {run_files.ROW} and train the run again"
        )


def embed_again(
    models: Sequence[Path], parent: Row, request: RunRequest, config: EvaluationConfig
) -> tuple[list[Embeddings], Scalar]:
    """Embed the images again with the models of a run.

    Args:
        models: Directory of each model.
        parent: Row of the run. It is not trusted.
        request: Layer, and overrides for reading the images.
        config: How the embeddings will be evaluated.

    Returns:
        The embeddings of each model, and the name of the device.

    Raises:
        UserError: A file is missing or is not what the run wrote, or the row does not determine its plan.
    """
    from dmlbench.data.loader import make_batches
    from dmlbench.runs.recorded_plan import recorded_plan
    from dmlbench.training.trained_model import embed_split

    plan, split = recorded_plan(parent, request.options, request.config_dir)
    make_deterministic(plan.protocol.threads)
    batches = make_batches(plan, split)
    also = ("train", "val") if config.full_gallery else ("train",) if config.whiten is not None else ()
    found = []
    _refuse_replaced([folder / run_files.MODEL for folder in models], parent, "model_sha256")
    for folder in models:
        model = _load_model(folder / run_files.MODEL, plan)
        with model.at_layer(request.layer):
            found.append(embed_split(model, split, ("query", "gallery"), batches, plan, also, unit=config.beta is None))
    return found, device_name(plan.device)


def load_saved_model(row: Row, plan: Plan) -> Embedder:
    """Load the model of a finished run; the first one if it has one per fold. Nothing in the file is executed.

    A run directory that was made elsewhere may contain `model.safetensors` instead of `model.pt`.

    Args:
        row: Row of the run, with its directory. It is not trusted.
        plan: Result of `recorded_plan`.

    Raises:
        UserError: There is no model, it is not what the run wrote, or its tensors are those of another one.
    """
    assert row.folder is not None
    file = row.folder / run_files.MODEL_SAFETENSORS
    if file.is_file():
        return _load_model(file, plan)
    folders = model_folders(row.folder, row)
    _refuse_replaced([folder / run_files.MODEL for folder in folders], row, "model_sha256")
    return _load_model(folders[0] / run_files.MODEL, plan)


def _load_model(file: Path, plan: Plan) -> Embedder:
    from dmlbench.models.embedder import build_embedder

    try:
        model = build_embedder(plan)
    except (RuntimeError, MemoryError, ArithmeticError) as error:
        raise UserError(f"{file}: the model that the row describes cannot be built: {_first_line(error)}") from error
    try:
        model.load_state_dict(load_tensors(file) if file.suffix == ".safetensors" else load_state(file)["model"])
    except UnreadableStateError as error:
        raise UserError(f"{file} does not contain the model of this run: {error}") from error
    except (RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{file} does not contain the model of this run: its tensors are those of another one") from error
    return model.to(plan.device).to(memory_format=torch.channels_last)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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

    Raises:
        UserError: The directory, or one in it, is a link.
    """
    refuse_links(folder, run_files.NAMES)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / run_files.PER_QUERY, tensors)
    row = Row({**row.columns, run_files.PER_QUERY_DIGEST: sha256(folder / run_files.PER_QUERY)})
    return write_row(folder, row), row
