"""Floor 5: one run, from plan to row: the page where all parts meet."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import torch

from dmlbench.data.folds import training_parts
from dmlbench.data.loader import AnyBatches, Batches, FeatureBatches, batches_of
from dmlbench.data.split import Split
from dmlbench.embed import embed, refuse_collapse, refuse_not_finite
from dmlbench.errors import MethodFailure
from dmlbench.evaluate.embeddings import Embeddings, save_embeddings, save_tensors
from dmlbench.evaluate.metrics import score
from dmlbench.features import features_of
from dmlbench.judge import Judgement, Judging, judge
from dmlbench.losses.objective import Objective, objective_of
from dmlbench.losses.proxies import count_proxies, matrices_of
from dmlbench.machine import device_name, memory_gib, versions
from dmlbench.measures import JOINED
from dmlbench.plan import Plan
from dmlbench.randomness import seed_of, torch_stream
from dmlbench.rows import CLASSES, MISSING, PER_QUERY, SCHEMA_VERSION, Row, Scalar, write_text
from dmlbench.train import History, Watch, save, train
from dmlbench.trunks.embedder import Embedder, embedder_of

MODEL = "model.pt"
EMBEDDINGS = "embeddings.safetensors"


def run(plan: Plan, split: Split) -> Row:
    """Train, embed and score one plan; the same plan and seed give the same row.

    Args:
        plan: what to run; its folder exists. A checkpoint there is taken up.
        split: of the plan's data set, before any fold of it is held out.

    Returns:
        The row; a method that broke down gives one with `status: failed` and the reason. A plan with a model a fold gives one
        row: `separated_*` are the means over its models, `concatenated_*` are scored on their embeddings side by side, and the
        plain names are the separated ones.
    """
    compute_alike(plan)
    images = None if plan.protocol.trunk_frozen else batches_of(plan, split)
    untrained = plan.method.make is None
    parts = training_parts(split, plan.protocol)[: 1 if untrained else None]
    models: list[Trained] = []
    try:
        for fold, part in enumerate(parts):
            folder = plan.folder / f"fold{fold}" if len(parts) > 1 else plan.folder
            folder.mkdir(exist_ok=True)
            own = replace(plan, seed=seed_of(plan.seed, "fold", fold)) if len(parts) > 1 else plan
            models.append(assembled(own, folder, split, images))
            fit(models[-1], part, own)
        began = time.perf_counter()
        scores = scores_of(models, split, plan)
    except MethodFailure as failure:
        return row_of(plan, parts[0], models, status="failed", reason=str(failure))
    for one in models:
        save(one.folder / MODEL, {"model": one.model.state_dict()})
    write_text(plan.folder / CLASSES, json.dumps(split.class_names("query"), ensure_ascii=False, indent=1) + "\n")
    seconds = round(time.perf_counter() - began, 3)
    return row_of(plan, parts[0], models, status="ok", reason=None, evaluate_seconds=seconds, **scores)


@dataclass
class Trained:
    """A model, and how it came about.

    Args:
        model: as built, then as trained and selected.
        objective: what it is trained with; None trains nothing.
        folder: where its files are.
        batches: what it reads: images, or the features of its frozen trunk.
        features_seconds: spent on computing these; 0 where they were there; None where it reads images.
        history: of its training.
        trunk_score: validation MAP@R of its trunk as it came, without projection; None where nothing is validated.
        proxies: how many there are, and how many of them are dead; None before the training has ended.
    """

    model: Embedder
    objective: Objective | None
    folder: Path
    batches: AnyBatches
    features_seconds: float | None = None
    history: History = field(default_factory=History)
    trunk_score: float | None = None
    proxies: tuple[int, int] | None = None

    def reading(self) -> AbstractContextManager[None]:
        """Within, the model takes what its batches give."""
        return self.model.over_features() if isinstance(self.batches, FeatureBatches) else nullcontext()


def assembled(plan: Plan, folder: Path, split: Split, images: Batches | None) -> Trained:
    """A plan's model and objective, before the first step, and what it reads.

    Args:
        plan: of this model.
        folder: for its files.
        split: the whole one, so that the models of all folds share their features.
        images: to read; None for the features of a frozen trunk.
    """
    model = embedder_of(plan).to(plan.device).to(memory_format=torch.channels_last)
    objective = initialised_objective(plan)
    if objective is not None:
        objective = objective.to(plan.device)
    if images is not None:
        return Trained(model, objective, folder, images)
    features, seconds = features_of(model, plan, split)
    return Trained(model, objective, folder, features, seconds)


def fit(one: Trained, split: Split, plan: Plan) -> None:
    """Train a model in place, if its method trains anything."""
    if one.objective is None:
        one.proxies = 0, 0
        return
    with one.reading():
        if plan.protocol.selection == "validation":
            with one.model.without_projection():
                one.trunk_score = map_at_r_on(one.model, split, ("val", "val"), one.batches, plan)
        watch = watch_of(split, one.batches, plan)
        drawn = matrices_of(one.objective)  # before a checkpoint is taken up
        one.history = train(one.model, one.objective, split, one.batches, plan, one.folder, watch)
        one.proxies = count_proxies(drawn, matrices_of(one.objective), plan.protocol.embedding_dim)


def watch_of(split: Split, batches: AnyBatches, plan: Plan) -> Watch | None:
    """What scores a model in the midst of its training; None where nobody asks."""
    validates = plan.protocol.selection == "validation"
    if not validates and not plan.oracle:
        return None

    def watch(model: Embedder) -> dict[str, float]:
        found = {}
        if validates:
            found["validation_map_at_r"] = map_at_r_on(model, split, ("val", "val"), batches, plan)
        if plan.oracle:
            found["test_map_at_r"] = map_at_r_on(model, split, ("query", "gallery"), batches, plan)
        return found

    return watch


def map_at_r_on(model: Embedder, split: Split, roles: tuple[str, str], batches: AnyBatches, plan: Plan) -> float:
    """MAP@R of a model between two roles of a split."""
    embeddings = embedded(model, split, roles, batches, plan)
    refuse_not_finite(cast(torch.Tensor, embeddings.rows))  # a collapse may pass: another epoch may be chosen
    return score(embeddings.ranking(depth=1), (1,))["map_at_r"]


def embedded(model: Embedder, split: Split, roles: tuple[str, str], batches: AnyBatches, plan: Plan) -> Embeddings:
    """The embeddings of the images of two roles of a split, the queries and the gallery."""
    queries, gallery = (split.ids(role) for role in roles)
    ids = np.union1d(queries, gallery)
    return Embeddings(
        rows=embed(model, batches, ids.tolist(), plan.device, plan.precision),
        labels=torch.from_numpy(split.frame["label"].to_numpy()[ids]),
        ids=torch.from_numpy(ids),
        is_query=torch.from_numpy(np.isin(ids, queries)),
        is_gallery=torch.from_numpy(np.isin(ids, gallery)),
    )


def scores_of(models: list[Trained], split: Split, plan: Plan) -> dict[str, Scalar]:
    """The metrics on the unseen classes, of one model or of one a fold; each model's embeddings are written beside it."""
    how = Judging(plan.dataset.recall_at)
    found: list[Embeddings] = []
    judgements: list[Judgement] = []
    for one in models:
        with one.reading():
            embeddings = embedded(one.model, split, ("query", "gallery"), one.batches, plan)
        refuse_collapse(cast(torch.Tensor, embeddings.rows))
        save_embeddings(one.folder / EMBEDDINGS, embeddings)
        judgement = judge(embeddings, how, progress=True)
        save_tensors(one.folder / PER_QUERY, judgement.tensors)
        found.append(embeddings)
        judgements.append(judgement)
    scores = [dict(one.columns) for one in judgements]
    if plan.protocol.fold != "all":
        return scores[0]
    joined = joined_models(found)
    together = judge(joined, how, progress=True)
    save_tensors(plan.folder / PER_QUERY, averaged_tensors(judgements, together))
    return {
        **averaged(scores, together.columns),
        **{f"fold{fold}_map_at_r": one["map_at_r"] for fold, one in enumerate(scores)},
        "concatenated_dim": joined.rows.shape[1],
    }


def joined_models(found: Sequence[Embeddings]) -> Embeddings:
    """The embeddings of several models side by side, of unit length."""
    rows = torch.cat([cast(torch.Tensor, one.rows) for one in found], dim=1)
    return replace(found[0], rows=torch.nn.functional.normalize(rows))


def averaged(scores: Sequence[Mapping[str, Scalar]], together: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The columns of several models: means as the plain names and as `separated_*`; of the joined one as `concatenated_*`."""
    numbers = [name for name, value in scores[0].items() if isinstance(value, float)]
    separated = {name: float(np.mean([cast(float, one[name]) for one in scores])) for name in numbers}
    return {
        **scores[0],  # the counts, which are the same for all
        **separated,
        **{f"separated_{name}": value for name, value in separated.items()},
        **{f"{JOINED}{name}": together[name] for name in numbers},
    }


def averaged_tensors(judgements: Sequence[Judgement], together: Judgement) -> dict[str, torch.Tensor]:
    """Each query's scores, as `averaged` names them: means over the models, and those of the joined one."""
    names = together.per_query
    return {
        **together.tensors,
        **{name: torch.stack([one.per_query[name] for one in judgements]).mean(0) for name in names},
        **{f"{JOINED}{name}": together.per_query[name] for name in names},
    }


def compute_alike(plan: Plan) -> None:
    """Fix what torch may otherwise choose by the machine: threads, algorithms, TF32."""
    torch.set_num_threads(plan.protocol.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # the mode above would also fill every new tensor with NaN, which decides no number and costs time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def initialised_objective(plan: Plan) -> Objective | None:
    """The method's objective, its own parameters drawn from a stream of their own."""
    with torch_stream(seed_of(plan.seed, "initialise loss")):
        return objective_of(plan.method)


def proxy_counts(models: Sequence[Trained]) -> dict[str, Scalar]:
    """How many proxies the models have and how many of them never moved, sums over the models; None where one broke down."""
    counts = [one.proxies for one in models if one.proxies is not None]
    whole = len(counts) == len(models)
    names = ("n_proxies", "n_dead_proxies")
    return {name: sum(count[i] for count in counts) if whole else None for i, name in enumerate(names)}


def selected(models: list[Trained], plan: Plan) -> dict[str, Scalar]:
    """How the models were chosen: on what, which epoch, which score; and what choosing on the test set would have claimed."""
    if models[0].objective is None:
        return {"selected_on": "none", "selected_epoch": 0}
    histories = [one.history for one in models]
    validated = plan.protocol.selection == "validation"
    if (validated or plan.oracle) and not all(history.looks for history in histories):  # it broke down on the way
        return {"selected_on": plan.protocol.selection, "selected_epoch": None}
    columns: dict[str, Scalar] = {"selected_on": plan.protocol.selection}
    if validated:
        best = [history.best("validation_map_at_r") for history in histories]
        epochs = [int(look["epoch"]) for look in best]
        columns["selected_score"] = float(np.mean([look["validation_map_at_r"] for look in best]))
        columns["untrained_trunk_score"] = float(np.mean([one.trunk_score for one in models]))
        columns["untrained_score"] = float(np.mean([history.looks[0]["validation_map_at_r"] for history in histories]))
    else:
        epochs = [len(history.epochs) for history in histories]
    columns["selected_epoch"] = epochs[0] if len(epochs) == 1 else str(epochs)
    if plan.oracle:
        best = [history.best("test_map_at_r") for history in histories]
        columns["oracle_map_at_r"] = float(np.mean([look["test_map_at_r"] for look in best]))
        oracles = [int(look["epoch"]) for look in best]
        columns["oracle_epoch"] = oracles[0] if len(oracles) == 1 else str(oracles)
    return columns


def begun_row(plan: Plan) -> Row:
    """What a plan's row begins with, whatever comes of it: all that is known before the run has ended."""
    columns: dict[str, Scalar] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.run_id,
        "fingerprint": plan.fingerprint,
        "method_digest": plan.method.digest,
        "status": MISSING,
        "reason": None,
        "dataset_label": plan.dataset.label,
        "trunk_label": plan.trunk.label,
        "loss": plan.method.name,
        "loss_label": plan.method.label,
        "seed": plan.seed,
        **plan.shared,
        **plan.method.columns,
        "trunk_weights": Path(plan.trunk.weights).name,
    }
    return Row(columns)


def row_of(
    plan: Plan,
    split: Split,
    models: list[Trained],
    status: str,
    reason: str | None,
    **scores: Scalar,
) -> Row:
    """Everything a reader of the row may ask, in flat columns."""
    first, epochs = models[0], [one.history.epochs for one in models if one.history.epochs]
    features = [one.features_seconds for one in models if one.features_seconds is not None]
    speeds = [one.history.images_per_second for one in models if one.history.images_per_second is not None]
    columns: dict[str, Scalar] = {
        **begun_row(plan).columns,
        "status": status,
        "reason": reason,
        **selected(models, plan),
        **plan.tuned,
        **{f"n_{fact}": count for fact, count in split.facts.items()},
        "n_images_skipped": split.n_skipped,
        **scores,
        "final_loss": float(np.mean([one[-1]["loss"] for one in epochs])) if epochs else None,
        "embedding_dim": first.model.embedding_dim,
        "n_models": len(models),
        "n_model_parameters": _parameters(first.model),
        "n_loss_parameters": _parameters(first.objective) if first.objective else 0,
        **proxy_counts(models),
        "device": device_name(plan.device),
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


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
