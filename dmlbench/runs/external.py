"""Evaluation of an external file of embeddings, as a row that tables can show."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dmlbench.config.identity import digest
from dmlbench.config.schema import Scalar
from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation.embedding_files import Embeddings, load_embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, evaluate, refuse_impossible
from dmlbench.models.weights import sha256
from dmlbench.results import columns as registry
from dmlbench.results import run_files
from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row import BASELINES, EXTERNAL, Row
from dmlbench.results.row_files import read_row
from dmlbench.runs.reevaluate import evaluation_provenance, write_evaluation

DEFAULT_KS = (1, 2, 4, 8)


@dataclass(frozen=True)
class ExternalRequest:
    """How to evaluate a file of embeddings, and the names in its row.

    Args:
        config: How to process and evaluate the embeddings; empty `ks` for `DEFAULT_KS`.
        name: Name of the method in print; None for the file's stem.
        runs_dir: Directory for the row.
        dataset: Name of the data set; None for the file's stem.
        trunk: Name of the trunk.
        seed: Seed of the run.
        labels: CSV file that goes with a `.npy` file.
    """

    config: EvaluationConfig
    name: str | None = None
    runs_dir: Path = Path("runs")
    dataset: str | None = None
    trunk: str = EXTERNAL
    seed: int = 0
    labels: Path | None = None


def evaluate_file(file: Path, request: ExternalRequest) -> tuple[Path, Row]:
    """Evaluate a file of embeddings.

    Args:
        file: `.safetensors`, `.npz` or `.npy`; see `load_embeddings`.
        request: How to evaluate it.

    Returns:
        The file of the row, and the row.

    Raises:
        UserError: The file cannot be read, or nothing can be retrieved.
    """
    if file.suffix == ".csv":
        raise UserError(
            f"{file} is a CSV file, which can contain labels only; name the file of embeddings (.npy, .npz or .safetensors), "
            "and the labels of an .npy file with --labels"
        )
    embeddings = load_embeddings(file, request.labels, follow_links=True)
    config = replace(request.config, ks=request.config.ks or DEFAULT_KS, queries=request.config.queries or None)
    refuse_impossible(embeddings, config, str(file))
    began = time.perf_counter()
    try:
        result = evaluate(embeddings, config, progress=True)
    except MethodFailure as failure:
        raise UserError(f"{file}: {failure}") from None
    name = request.name or file.stem
    loss = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "unnamed"
    if loss in BASELINES:
        raise UserError(f"--name {name} is the name of {BASELINES[loss]} in tables; give the method another one")
    shared: dict[str, Scalar] = {
        "dataset": request.dataset or file.stem,
        "trunk": request.trunk,
        "protocol": EXTERNAL,
        "split_digest": _digest(embeddings),
        **config.columns,
    }
    fingerprint, method_digest = registry.fingerprint(shared), digest({"name": name})[:8]
    columns: dict[str, Scalar] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": registry.run_id(fingerprint, method_digest, request.seed),
        "fingerprint": fingerprint,
        "method_digest": method_digest,
        "status": "ok",
        "reason": None,
        **shared,
        "dataset_label": shared["dataset"],
        "trunk_label": request.trunk,
        "loss": loss,
        "loss_label": name,
        "embedding_dim": embeddings.rows.shape[1],
        "embeddings_sha256": sha256(file),
        "seed": request.seed,
        "n_test_classes": len(embeddings.evaluated.labels.unique()),
        **result.columns,
        **evaluation_provenance(began),
    }
    row = Row(columns)
    folder = request.runs_dir / _directory_name(str(row["dataset"])) / loss / str(row["run_id"])
    _refuse_other_embeddings(folder, row, name)
    return write_evaluation(folder, row, result.tensors)


def _refuse_other_embeddings(folder: Path, row: Row, name: str) -> None:
    file = folder / run_files.ROW
    if file.is_file() and read_row(file).get("embeddings_sha256") != row["embeddings_sha256"]:
        raise UserError(
            f"{folder} contains the row of other embeddings called '{name}'; use --seed {row.seed + 1} for another run of the "
            "same method, or --name for another method"
        )


def _digest(embeddings: Embeddings) -> str:
    """Digest of labels, ids and roles, which is equal if two methods were evaluated on the same queries and gallery.

    It does not depend on the order of the rows.
    """
    whole, order = hashlib.sha256(), embeddings.ids.argsort()
    for values in (embeddings.labels, embeddings.ids, embeddings.is_query, embeddings.is_gallery):
        whole.update(np.ascontiguousarray(values[order].numpy()).tobytes())
    return whole.hexdigest()


def _directory_name(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z._-]+", "_", name).strip(".") or "unnamed"
