"""Verify rows beyond the tier `consistent`: evaluate saved embeddings again, or embed the images again."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.nn.functional import normalize

from dmlbench.config.schema import Scalar
from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation.config import EvaluationConfig
from dmlbench.evaluation.embedding_files import Embeddings, load_embeddings
from dmlbench.evaluation.metrics import PRECISION_DEPTH
from dmlbench.evaluation.reranking import KReciprocal
from dmlbench.evaluation.several_models import evaluate_models
from dmlbench.results import run_files
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.results.row_files import read_row
from dmlbench.runs.evaluation_settings import config_for_run
from dmlbench.runs.reevaluate import RunRequest, embed_again, model_folders, saved_embeddings
from dmlbench.runs.tolerances import AGAIN, TOLERANCES, Tolerance, differences
from dmlbench.system.regular_files import parse_json, sha256
from dmlbench.verification import Finding, Tier, Verdict, scores_beside
from dmlbench.verification.row_checks import INCONSISTENT

NOT_EMBEDDED = "its images were not embedded again"
NOT_RETRAINED = "no row of the same run from another machine was given"


def rescored(verdict: Verdict, embeddings: Path | None = None) -> Verdict:
    """Evaluate the embeddings of a row again, and compare all metrics.

    Args:
        verdict: Verdict of a consistent row.
        embeddings: File of embeddings, such as a downloaded one; None for those that the run saved.

    Returns:
        The verdict with the tier `rescored`, with findings, or with the reason why it could not be rescored.
    """
    row = verdict.row
    if verdict.tier is not Tier.CONSISTENT or not row.ok:
        return verdict
    try:
        if embeddings is None and (replaced := _replaced(row, "embeddings_sha256", run_files.EMBEDDINGS)):
            return _inconsistent(verdict, [replaced])
        found, tolerance, is_own = _embeddings_of(row, embeddings)
        columns, tensors = _evaluated(row, found)
        if is_own and (other := _other_queries(row, tensors)):
            return _inconsistent(verdict, [other])
    except (UserError, MethodFailure, OSError) as error:
        return replace(verdict, why_not_next=f"its embeddings cannot be evaluated: {error}")
    return _compared(verdict, Tier.RESCORED, columns, tolerance, is_own, NOT_EMBEDDED)


def reembedded(verdict: Verdict, options: Sequence[str] = (), config_dir: Path | None = None) -> Verdict:
    """Embed the images of a row again with its models, evaluate them, and compare all metrics.

    Args:
        verdict: Verdict of a consistent row.
        options: Overrides for reading the images, such as `dataset.root=photos`. They are trusted.
        config_dir: Directory of the user's own configuration files, which are trusted.

    Returns:
        The verdict with the tier `re-embedded`, with findings, or with the reason why its images could not be embedded.

    Raises:
        HydraException, OmegaConfBaseException: The options do not compose.
    """
    row = verdict.row
    if verdict.tier.rank < Tier.CONSISTENT.rank or not row.ok:
        return verdict
    try:
        if replaced := _replaced(row, "model_sha256", run_files.MODEL):
            return _inconsistent(verdict, [replaced])
        run = _run_of(row)
        config = _config(row)
        layer = str(row.get("evaluation_layer", "embedding"))
        request = RunRequest(config, layer, tuple(options), config_dir)  # type: ignore[arg-type]  # the row is consistent
        assert run.folder is not None
        found, _ = embed_again(model_folders(run.folder, run), run, request, config)
        columns = evaluate_models(found, config, row.get("protocol_fold") == "all").columns
    except (UserError, MethodFailure, OSError) as error:
        return replace(verdict, why_not_next=f"its images cannot be embedded again: {error}")
    return _compared(verdict, Tier.REEMBEDDED, columns, AGAIN, True, NOT_RETRAINED)


def _inconsistent(verdict: Verdict, findings: Sequence[Finding]) -> Verdict:
    return replace(verdict, tier=Tier.CLAIMED, findings=(*verdict.findings, *findings), why_not_next=INCONSISTENT)


def _replaced(row: Row, column: str, name: str) -> Finding | None:
    """Return whether files of a run are not what it wrote; None if they are, are missing, or their digest was not recorded."""
    if row["protocol"] == EXTERNAL or row.folder is None:
        return None
    run = _run_of(row)
    files = [folder / name for folder in model_folders(run.folder or row.folder, run)]
    if run.get(column) is None or not all(file.exists() for file in files) or sha256(*files) == run[column]:
        return None
    return Finding(column, f"{name} is not what the run wrote ({column})")


def _run_of(row: Row) -> Row:
    """Return the row of the training run: the row itself, or the one in the directory above an evaluation."""
    if row["protocol"] == EXTERNAL or row.folder is None:
        raise UserError("it is of external embeddings, so it has no model")
    if row.get("parent") is None:
        return row
    parent = read_row(row.folder.parent / run_files.ROW)
    if parent["run_id"] != row["parent"]:
        raise UserError(f"{row.folder.parent} is not the run {row['parent']}, of which it is an evaluation")
    return parent


def _embeddings_of(row: Row, file: Path | None) -> tuple[list[Embeddings], Tolerance, bool]:
    """Return the embeddings of each model, the tolerance, and whether the file is what the run wrote."""
    if file is not None:
        tolerance = TOLERANCES.get(_dtype(file))
        if tolerance is None:
            raise UserError(f"{file} has embeddings of the type {_dtype(file)}; known: {', '.join(TOLERANCES)}")
        is_own = row.get("embeddings_sha256") == sha256(file.resolve())
        found = load_embeddings(file, follow_links=True)
        if not tolerance.has_all_digits and row["protocol"] != EXTERNAL:  # embeddings of runs have unit length
            found = replace(found, rows=normalize(found.rows[: len(found)]))
        return [found], tolerance, is_own
    if row["protocol"] == EXTERNAL:
        raise UserError("a row of external embeddings needs --embeddings FILE")
    if row.get("evaluation_layer", "embedding") != "embedding" or {"evaluation_whiten", "evaluation_beta"} & row.columns.keys():
        raise UserError("they are not what the run saved, but of another layer or length; use --tier re-embedded")
    run = _run_of(row)
    if row.get("evaluation_gallery") == "full" and not run.get("protocol_full_gallery"):
        raise UserError("the run saved no embeddings of the training images, which are in its gallery; use --tier re-embedded")
    assert run.folder is not None
    files = [folder / run_files.EMBEDDINGS for folder in model_folders(run.folder, run)]
    return saved_embeddings(files, run), TOLERANCES["F32"], True


def _dtype(file: Path) -> str:
    """Return the type of the embeddings in a file: that of the tensor, or F32 for files of NumPy."""
    if file.suffix != ".safetensors":
        return "F32"
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))
        try:
            header = parse_json(stream.read(min(length, 2**23)))
            return str(header["embeddings"]["dtype"]).replace("F64", "F32").replace("U8", "I8")
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{file} is not a safetensors file with embeddings") from None


def _evaluated(row: Row, embeddings: Sequence[Embeddings]) -> tuple[Mapping[str, Scalar], Mapping[str, Tensor]]:
    """Return the columns of an evaluation, and the scores of its queries."""
    config = _config(row)
    per_fold = row["protocol"] != EXTERNAL and row.get("protocol_fold") == "all"
    result = evaluate_models(embeddings, config, per_fold)
    return result.columns, result.tensors


def _other_queries(row: Row, tensors: Mapping[str, Tensor]) -> Finding | None:
    """Return whether ids or labels of the queries are not those of the embeddings."""
    scores = scores_beside(row)
    if scores is None:
        return None
    saved, found = (
        {int(i): int(c) for i, c in zip(one["ids"], one["labels"], strict=True)}
        for one in ({"ids": scores.ids, "labels": scores.labels}, tensors)
    )
    return None if saved == found else Finding("scores", "the ids or labels of the queries are not those of the embeddings")


def _config(row: Row) -> EvaluationConfig:
    """Return how a row was evaluated. The row is not trusted: values of other types are refused."""
    found = {name.removeprefix("evaluation_"): value for name, value in row.columns.items() if name.startswith("evaluation_")}
    try:
        ks = tuple(map(int, parse_json(str(found.get("recall_at", "[]")).encode())))
        queries = found.get("queries")
        rerank = None
        if found.get("rerank") is not None:
            rerank = KReciprocal(int(found["rerank_k1"]), int(found["rerank_k2"]), float(found["rerank_lambda"]))  # type: ignore[arg-type]
        precision = [one.k for name in row.metrics if (one := parse_metric(name)) and one.spec.name == "precision_at_<k>"]
        config = EvaluationConfig(
            ks=ks,
            clusters_per_class=None if (clusters := found.get("clusters")) is None else int(clusters),
            distance=str(found.get("distance", "inner_product")),  # type: ignore[arg-type]  # checked by its user
            whiten=None if (whiten := found.get("whiten")) is None else int(whiten),
            beta=None if (beta := found.get("beta")) is None else float(beta),
            rerank=rerank,
            queries=None if queries is None else 0 if queries == "all" else int(queries),
            full_gallery=found.get("gallery") == "full",
            all_ks=max((k for k in precision if k is not None), default=0) > PRECISION_DEPTH,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"its settings of the evaluation cannot be read: {error}") from None
    if row["protocol"] == EXTERNAL:
        return replace(config, queries=config.queries or None)
    return config_for_run(config, row)


def _compared(
    verdict: Verdict, tier: Tier, columns: Mapping[str, Scalar], tolerance: Tolerance, is_own: bool, why_not_next: str
) -> Verdict:
    """Compare metrics with the row. Differences contradict the row only if the files are those that the run wrote."""
    findings = list(differences(verdict.row, columns, tolerance))
    if not findings:
        return replace(verdict, tier=tier, why_not_next=why_not_next)
    if is_own:
        return _inconsistent(verdict, findings)
    return replace(verdict, why_not_next=f"the file is not the one of the row, and {findings[0].message}")
