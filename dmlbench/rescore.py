"""Floor 6.5: `dmlbench evaluate`: a saved run scored again, or anyone's embeddings, as a row of its own.

A run is scored from the embeddings that lie beside its row. Only what these do not hold (another layer, training images,
lengths) needs the model: it is built from the words that the run was made of, and from nothing else in its folder; what they
would build must be among what the shipped configurations, or those of `--config-dir`, build.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import re
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import yaml

from dmlbench.configs import conf_dir
from dmlbench.data.loader import batches_of
from dmlbench.embed import embed
from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluate.embeddings import SUFFIXES, Embeddings, load_embeddings, save_tensors
from dmlbench.evaluate.reranking import KReciprocal
from dmlbench.experiment import (
    EMBEDDINGS,
    MODEL,
    averaged,
    averaged_tensors,
    compute_alike,
    joined_models,
)
from dmlbench.judge import Distance, Judging, judge
from dmlbench.launch import compose, prepare
from dmlbench.machine import versions
from dmlbench.measures import JOINED, column_of
from dmlbench.plan import digest
from dmlbench.rows import (
    COST,
    EXTERNAL,
    PER_QUERY,
    ROW_FILE,
    SCHEMA_VERSION,
    UNTRAINED,
    WORDS,
    Row,
    Scalar,
    read_row,
    read_rows,
    write_row,
)
from dmlbench.trunks.embedder import Layer, embedder_of
from dmlbench.trunks.weights import sha256

T = TypeVar("T", int, float)

_NOT_OURS = ("separated_", JOINED, "oracle_", "cluster_")
_COUNTS = ("n_queries", "n_excluded", "n_gallery", "n_tied_queries", "n_clusters", "n_clusterings")


@dataclass(frozen=True)
class Request:
    """What was asked for, beside the places.

    Args:
        how: to judge; `ks` empty for those of the data set.
        layer: of a run's model.
        name: of a stranger's method, in print.
        runs: where a stranger's row goes.
        dataset: of a stranger's embeddings; None for the file's name.
        trunk: likewise, in print.
        seed: likewise.
        labels: a CSV that goes with a `.npy`.
        config_dir: of the user's own configurations.
    """

    how: Judging
    layer: Layer = "embedding"
    name: str | None = None
    runs: Path = Path("runs")
    dataset: str | None = None
    trunk: str = EXTERNAL
    seed: int = 0
    labels: Path | None = None
    config_dir: str | None = None


def request_of(values: Mapping[str, str], name: str | None, runs: str | None, is_file: bool, config_dir: str | None) -> Request:
    """What the words of the command ask for.

    Args:
        values: key to text, as typed.
        name: of `--name`.
        runs: of `--runs`.
        is_file: whether a stranger's file is scored; decides defaults.
        config_dir: of `--config-dir`.

    Raises:
        UserError: a value is not what its key needs.
    """
    for key in ("rerank.k1", "rerank.k2", "rerank.lambda"):
        if key in values and values.get("rerank") != "k_reciprocal":
            raise UserError(f"{key} is given, but not rerank=k_reciprocal, which it belongs to")
    rerank = None
    if _one_of("rerank", values.get("rerank", "none"), ("none", "k_reciprocal")) == "k_reciprocal":
        rerank = KReciprocal(
            k1=_number("rerank.k1", values.get("rerank.k1", "20"), int),
            k2=_number("rerank.k2", values.get("rerank.k2", "6"), int),
            share=_number("rerank.lambda", values.get("rerank.lambda", "0.3"), float),
        )
    ks = tuple(_number("ks", k, int) for k in values["ks"].split(",")) if "ks" in values else ()
    if ks and min(ks) < 1:
        raise UserError(f"ks is {values['ks']}; it needs one or more ks of at least 1")
    distances = typing.get_args(Distance)
    usual = "euclidean" if "beta" in values else "cosine" if is_file else "inner_product"
    how = Judging(
        ks=tuple(sorted(set(ks))),
        clusters=_number("clusters", values["clusters"], int) if "clusters" in values else None,
        distance=_one_of("distance", values.get("distance", usual), distances),
        whiten=_number("whiten", values["whiten"], int) if "whiten" in values else None,
        beta=_number("beta", values["beta"], float) if "beta" in values else None,
        rerank=rerank,
    )
    for key in ("name", "labels", "dataset", "trunk", "seed"):
        if not is_file and (key in values or (key == "name" and name)):
            raise UserError(f"{'--' if key == 'name' else ''}{key} is for a file of embeddings; a run has its own")
    return Request(
        how,
        layer=_one_of("layer", values.get("layer", "embedding"), typing.get_args(Layer)),
        name=name,
        runs=Path(runs or "runs"),
        dataset=values.get("dataset"),
        trunk=values.get("trunk", EXTERNAL),
        seed=_number("seed", values.get("seed", "0"), int),
        labels=Path(values["labels"]) if "labels" in values else None,
        config_dir=config_dir,
    )


def _one_of(key: str, value: str, choices: Sequence[str]) -> Any:
    if value not in choices:
        raise UserError(f"{key} is '{value}'; it must be one of {', '.join(choices)}")
    return value


def _number(key: str, text: str, kind: Callable[[str], T]) -> T:
    try:
        number = kind(text)
    except ValueError:
        raise UserError(f"{key} is '{text}', but a {'whole ' if kind is int else ''}number is needed") from None
    if not 0 <= number < math.inf:
        raise UserError(f"{key} is {text}; it must be at least 0")
    return number


def evaluate(place: Path, request: Request) -> list[tuple[Path, Row]]:
    """Score a file of embeddings, or every finished run in a folder.

    Returns:
        The rows written, each with its file.

    Raises:
        UserError: there is nothing to score, or it cannot be.
    """
    if not place.exists():
        raise UserError(f"{place} does not exist; name a run's folder, or a file of embeddings ({', '.join(SUFFIXES)})")
    if place.is_file() and place.name != ROW_FILE:
        return [_stranger(place, request)]
    rows, _ = read_rows(place)
    runs = [(row.folder, row) for row in rows if row.ok and row.get("parent") is None and row["protocol"] != EXTERNAL]
    if not runs:
        raise UserError(f"{place} holds no finished run to score again")
    return [_run(cast(Path, folder), row, request) for folder, row in runs]


# A stranger's embeddings


def _stranger(file: Path, request: Request) -> tuple[Path, Row]:
    if request.layer != "embedding":
        raise UserError(f"layer={request.layer} is for a run of dmlbench; {file} holds embeddings of one layer")
    embeddings = load_embeddings(file, request.labels)
    how = request.how if request.how.ks else replace(request.how, ks=(1, 2, 4, 8))
    _fitting(embeddings, how, str(file), given=bool(request.how.ks))
    began = time.perf_counter()
    try:
        judgement = judge(embeddings, how, progress=True)
    except MethodFailure as failure:
        raise UserError(f"{file}: {failure}") from None
    name = request.name or file.stem
    loss = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "unnamed"
    if loss == UNTRAINED:
        raise UserError(f"--name {name} is what tables call the trunk as it came; give the method another")
    shared: dict[str, Scalar] = {
        "dataset": request.dataset or file.stem,
        "trunk": request.trunk,
        "protocol": EXTERNAL,
        "split_digest": _digest(embeddings),
        **how.columns,
    }
    about: dict[str, Scalar] = {
        "dataset_label": shared["dataset"],
        "trunk_label": request.trunk,
        "loss": loss,
        "loss_label": name,
        "embedding_dim": embeddings.rows.shape[1],
        "embeddings_sha256": sha256(file),
    }
    fingerprint, method = digest(shared)[:8], digest({"name": name})[:8]
    columns = {
        "schema_version": SCHEMA_VERSION,
        "run_id": f"{fingerprint}-{method}-{request.seed}",
        "fingerprint": fingerprint,
        "method_digest": method,
        "status": "ok",
        "reason": None,
        **shared,
        **about,
        "seed": request.seed,
        "n_test_classes": len(embeddings.judged.labels.unique()),
        **judgement.columns,
        **_now(began),
    }
    row = Row(columns)
    folder = request.runs / _folder(str(row["dataset"])) / str(row["loss"]) / str(row["run_id"])
    if (folder / ROW_FILE).is_file() and read_row(folder / ROW_FILE).get("embeddings_sha256") != row["embeddings_sha256"]:
        raise UserError(
            f"{folder} holds the row of other embeddings called '{name}'; give seed={request.seed + 1} for another run of the "
            "same method, or --name for another method"
        )
    return _written(folder, row, judgement.tensors)


def _digest(embeddings: Embeddings) -> str:
    """Of labels, ids and roles: equal where two methods were asked the same."""
    whole = hashlib.sha256()
    for values in (embeddings.labels, embeddings.ids, embeddings.is_query, embeddings.is_gallery):
        whole.update(np.ascontiguousarray(values.numpy()).tobytes())
    return whole.hexdigest()


def _folder(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z._-]+", "_", name).strip(".") or "unnamed"


# A run


def _run(folder: Path, parent: Row, request: Request) -> tuple[Path, Row]:
    began = time.perf_counter()
    how = request.how if request.how.ks else replace(request.how, ks=_own_ks(parent))
    models = sorted(folder.glob("fold*/")) or [folder]
    if request.layer == "embedding" and how.whiten is None and how.beta is None:
        found = [_saved(model / EMBEDDINGS) for model in models]
    else:
        found = _again(folder, models, parent, request, how)
    _fitting(found[0], how, str(folder), given=bool(request.how.ks))
    try:
        judgements = [judge(one, how, progress=True) for one in found]
        scores: Mapping[str, Scalar] = judgements[0].columns
        tensors: Mapping[str, torch.Tensor] = judgements[0].tensors
        if parent.get("protocol_fold") == "all":
            together = judge(joined_models(found), how, progress=True)
            scores = averaged([dict(one.columns) for one in judgements], together.columns)
            tensors = averaged_tensors(judgements, together)
    except MethodFailure as failure:
        raise UserError(f"{folder}: {failure}") from None
    again: dict[str, Scalar] = {**how.columns, "evaluation_layer": request.layer}
    kept = {name: value for name, value in parent.columns.items() if not _replaced(name)}
    columns: dict[str, Scalar] = {
        **kept,
        **again,
        "parent": parent["run_id"],
        **scores,
        "embedding_dim": found[0].rows.shape[1],
        **_now(began),
    }
    fingerprint = digest(Row(columns).shared)[:8]
    columns |= {"fingerprint": fingerprint, "run_id": f"{fingerprint}-{parent['method_digest']}-{parent['seed']}"}
    return _written(folder / f"evaluate-{digest(again)[:8]}", Row(columns), tensors)


def _own_ks(row: Row) -> tuple[int, ...]:
    found = [column_of(name) for name in row.metrics]
    return tuple(
        one.k for one in found if one and one.k and one.measure.name == "recall_at_<k>" and not (one.macro or one.joined)
    )


def _replaced(name: str) -> bool:
    """Whether scoring again gives the column anew, or makes it void."""
    plain = name.removesuffix("_std")
    return (
        column_of(plain) is not None
        or name in COST
        or name in _COUNTS
        or name.startswith(_NOT_OURS)
        or re.fullmatch(r"fold\d+_map_at_r", name) is not None
    )


def _saved(file: Path) -> Embeddings:
    if not file.is_file():
        raise UserError(f"{file} does not exist, so that nothing can be scored again; `dmlbench train` writes it")
    return load_embeddings(file)


def _again(folder: Path, models: Sequence[Path], parent: Row, request: Request, how: Judging) -> list[Embeddings]:
    """Embed the images again with a run's models: what the saved embeddings do not hold."""
    file = folder / WORDS
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{file} does not hold the words that the run was made of; train it again, or use what needs no model")
    if any("${" in word for word in words):
        raise UserError(
            f"{file} holds an interpolation, which is not resolved from a run's folder; train the run again without"
        )
    cfg, choices = compose(words, request.config_dir)
    if missing := [group for group in ("dataset", "trunk", "loss", "protocol") if group not in cfg or group not in choices]:
        raise UserError(f"{file} leaves out {missing[0]}, without which there is no run")
    _refuse_foreign(cfg, request.config_dir, file)
    plan, split = prepare(cfg, choices)
    if plan.run_id != parent["run_id"]:
        raise UserError(
            f"{file} makes the run {plan.run_id} here, not {parent['run_id']}: configurations, data or own code have changed"
        )
    compute_alike(plan)
    batches = batches_of(plan, split)
    queries, gallery = split.ids("query"), split.ids("gallery")
    ids = np.union1d(queries, gallery)
    if how.whiten is not None:
        ids = np.union1d(ids, split.ids("train"))
    found = []
    for place in models:
        model = embedder_of(plan)
        try:
            model.load_state_dict(torch.load(place / MODEL, map_location="cpu", weights_only=True)["model"])
        except (OSError, RuntimeError, LookupError, TypeError, EOFError, pickle.UnpicklingError):
            raise UserError(f"{place / MODEL} holds no model of this run; it is torn, or not what was written there") from None
        model.to(plan.device).to(memory_format=torch.channels_last)
        with model.at_layer(request.layer):
            rows = embed(model, batches, ids.tolist(), plan.device, plan.precision, unit=how.beta is None)
        labels = torch.from_numpy(split.frame["label"].to_numpy()[ids])
        roles = (torch.from_numpy(np.isin(ids, of)) for of in (queries, gallery))
        found.append(Embeddings(rows, labels, torch.from_numpy(ids), *roles))
    return found


def _refuse_foreign(cfg: Any, config_dir: str | None, file: Path) -> None:
    """Let words found in a run's folder build nothing but what configurations that are trusted already build."""
    trusted = set()
    for root in (conf_dir(), *([Path(config_dir)] if config_dir else [])):
        for path in root.rglob("*.yaml"):
            trusted |= set(_targets(yaml.safe_load(path.read_text(encoding="utf-8"))))
    from omegaconf import OmegaConf

    # resolved, for an interpolation may hide a target
    for target in _targets(OmegaConf.to_container(cfg, resolve=True)):
        if target not in trusted:
            raise UserError(f"{file} names `{target}`, which no configuration builds; own code needs its --config-dir")


def _targets(values: Any) -> list[str]:
    if isinstance(values, dict):
        own = [str(values["_target_"])] if "_target_" in values else []
        return own + [target for value in values.values() for target in _targets(value)]
    return [target for value in values for target in _targets(value)] if isinstance(values, list) else []


# Both


def _fitting(embeddings: Embeddings, how: Judging, place: str, given: bool) -> None:
    """Refuse what cannot mean anything."""
    judged = embeddings.judged
    classes = judged.labels.unique()
    if len(classes) < 2:
        raise UserError(f"{place}: all {len(judged):,} embeddings are of class {int(classes[0])}; retrieval needs two classes")
    most = int(embeddings.is_gallery.sum())
    if given and max(how.ks) > most:
        raise UserError(f"ks={max(how.ks)}: {place} has a gallery of {most:,} items; k can be at most that")
    if given and max(how.ks) == most and not (embeddings.is_query & ~embeddings.is_gallery).any():
        raise UserError(
            f"ks={most}: {place} has a gallery of {most:,} items, one of them each query itself; k can be at most {most - 1:,}"
        )


def _now(began: float) -> dict[str, Scalar]:
    return {
        **versions(),
        "evaluate_seconds": round(time.perf_counter() - began, 3),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _written(folder: Path, row: Row, tensors: Mapping[str, torch.Tensor]) -> tuple[Path, Row]:
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / PER_QUERY, tensors)
    return write_row(folder, row), row
