"""Build, train and validate one model of a run; shared by runs and tuning trials."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch

from dmlbench.config.plan import Plan
from dmlbench.data.loader import AnyBatches, Batches, FeatureBatches
from dmlbench.data.split import Split
from dmlbench.evaluation.embedding_files import Embeddings
from dmlbench.evaluation.evaluator import refuse_one_class
from dmlbench.evaluation.queries import draw_queries
from dmlbench.evaluation.single_metric import single_metric
from dmlbench.losses.objective import Objective, build_objective
from dmlbench.losses.proxies import copy_proxies
from dmlbench.losses.proxy_diagnostics import count_proxies, mean_turn
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.system.seeding import derive_seed, torch_stream
from dmlbench.training import processes
from dmlbench.training.checkpoint import History
from dmlbench.training.embed import embed, refuse_not_finite
from dmlbench.training.feature_cache import cached_features
from dmlbench.training.global_batch_norm import use_global_batch_norm
from dmlbench.training.trainer import ValidateFunction, train


@dataclass
class TrainedModel:
    """A model, its objective, and the history of its training.

    Args:
        model: The model; `fit` trains it in place.
        objective: Objective that is minimised; None if nothing is trained.
        folder: Directory of its files.
        batches: Batches that it reads: images, or the features of its frozen trunk.
        features_seconds: Time spent on computing features, in seconds; 0 if they were cached, None if the model reads images.
        history: History of its training.
        trunk_score: Validation score of the untrained trunk without projection; None without validation.
        proxies: Numbers of proxies and of dead proxies; None until training has ended.
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
        """Return a context in which the model accepts what `batches` yields."""
        return self.model.over_features() if isinstance(self.batches, FeatureBatches) else nullcontext()


def build_model(plan: Plan, folder: Path, split: Split, images: Batches | None) -> TrainedModel:
    """Build a plan's model and objective, before the first step.

    Args:
        plan: Plan of this model.
        folder: Directory for its files.
        split: The whole data set, so that the models of all folds share their features.
        images: Batches of images; None for the features of a frozen trunk.
    """
    model = build_embedder(plan)
    if processes.count() > 1:
        use_global_batch_norm(model)
    model = model.to(plan.device).to(memory_format=torch.channels_last)
    if plan.compile:
        model.trunk.compile()
    objective = initial_objective(plan)
    if objective is not None:
        objective = objective.to(plan.device)
    if images is not None:
        return TrainedModel(model, objective, folder, images)
    features, seconds = cached_features(model, plan, split)
    return TrainedModel(model, objective, folder, features, seconds)


def initial_objective(plan: Plan) -> Objective | None:
    """Build the objective of the plan's method. Its parameters are initialised from a separate random stream.

    Args:
        plan: Plan of the model.

    Returns:
        The objective; None for a method that trains nothing.
    """
    with torch_stream(derive_seed(plan.seed, "initialise loss")):
        return build_objective(plan.method, plan.sampler or None)


def fit(trained: TrainedModel, split: Split, plan: Plan, name: str = "") -> None:
    """Train a model in place, if its method trains anything.

    Args:
        trained: Model to train, with its objective.
        split: Training and validation images.
        plan: Plan of this model.
        name: Name of this training if a run has several, such as `fold 2 of 4`, for the lines about its progress.
    """
    if trained.objective is None:
        trained.proxies = 0, 0
        return
    with trained.reading():
        if plan.protocol.selection == "validation":
            with trained.model.without_projection():
                trained.trunk_score = validation_score(trained.model, split, trained.batches, plan)
        validate = validation_function(split, trained.batches, plan)
        objective, dim = trained.objective, plan.protocol.embedding_dim
        initial = copy_proxies(objective, dim)  # before a checkpoint is loaded

        def proxy_turn() -> float | None:
            return mean_turn(initial, copy_proxies(objective, dim))

        trained.history = train(
            trained.model,
            objective,
            split,
            trained.batches,
            plan,
            trained.folder,
            validate,
            name=name,
            proxy_turn=proxy_turn,
        )
        trained.proxies = count_proxies(initial, copy_proxies(objective, dim))


def validation_function(split: Split, batches: AnyBatches, plan: Plan) -> ValidateFunction | None:
    """Return the function that scores a model during training.

    Args:
        split: Data set with validation images, and test images for the oracle.
        batches: Loads the images, or their features.
        plan: Plan of the model.

    Returns:
        The function; None if the plan needs no scores during training.
    """
    validates = plan.protocol.selection == "validation"
    if not validates and not plan.oracle:
        return None

    def validate(model: Embedder) -> dict[str, float]:
        scores = {}
        if validates:
            scores[plan.protocol.validation_score] = validation_score(model, split, batches, plan)
        if plan.oracle:
            scores["test_map_at_r"] = metric_on(model, split, ("query", "gallery"), batches, plan, "map_at_r")
        return scores

    return validate


def validation_score(model: Embedder, split: Split, batches: AnyBatches, plan: Plan) -> float:
    """Return the metric on which the protocol selects models, on the validation images.

    Args:
        model: Model to evaluate.
        split: Data set with validation images.
        batches: Loads the images, or their features.
        plan: Plan of the model.
    """
    return metric_on(model, split, ("val", "val"), batches, plan, plan.protocol.selection_metric)


def metric_on(model: Embedder, split: Split, roles: tuple[str, str], batches: AnyBatches, plan: Plan, metric: str) -> float:
    """Return one metric of a model on some images. Test images are evaluated with the queries of the protocol.

    Args:
        model: Model to evaluate.
        split: Data set.
        roles: Roles of the queries and of the gallery.
        batches: Loads the images, or their features.
        plan: Device and precision, and the protocol with its queries and clusters.
        metric: Name of a retrieval or clustering metric, such as `map_at_r`.

    Raises:
        MethodFailure: An embedding is not finite. A collapsed embedding is accepted: another epoch may be selected.
        UserError: The images are of one class.
    """
    embeddings = embed_split(model, split, roles, batches, plan)
    refuse_one_class(embeddings, f"{plan.dataset.name}, {roles[1]} images")
    refuse_not_finite(cast(torch.Tensor, embeddings.rows))
    if roles[0] == "query":
        embeddings = draw_queries(embeddings, plan.protocol.evaluation_queries, plan.dataset.split_seed)
    return processes.on_first(lambda: single_metric(embeddings.on(plan.device), metric, plan.protocol.clusters_per_class))


def embed_split(
    model: Embedder,
    split: Split,
    roles: tuple[str, str],
    batches: AnyBatches,
    plan: Plan,
    also: Sequence[str] = (),
    unit: bool = True,
) -> Embeddings:
    """Embed the query and gallery images of a split.

    Args:
        model: Model to embed with.
        split: Data set.
        roles: Roles of the queries and of the gallery.
        batches: Loads the images, or their features.
        plan: Device and precision.
        also: Other roles whose images are embedded, as neither query nor gallery.
        unit: Whether to normalise the embeddings to unit length.

    Returns:
        Embeddings float32 `(N, D)` with their labels, ids and roles, ordered by id.
    """
    queries, gallery = (split.ids(role) for role in roles)
    ids = np.union1d(queries, gallery)
    for role in also:
        ids = np.union1d(ids, split.ids(role))
    return Embeddings(
        rows=embed(model, batches, ids.tolist(), plan.device, unit=unit),
        labels=torch.from_numpy(split.frame["label"].to_numpy()[ids]),
        ids=torch.from_numpy(ids),
        is_query=torch.from_numpy(np.isin(ids, queries)),
        is_gallery=torch.from_numpy(np.isin(ids, gallery)),
    )
