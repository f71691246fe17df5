"""Checks of a configuration that need torch, but neither the data nor any constructor to be called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dmlbench.config.compose import Composed, resolve
from dmlbench.config.instantiate import check, source_sha256
from dmlbench.config.schema import Dataset, Method, Protocol, Trunk
from dmlbench.data.split import Split
from dmlbench.errors import UserError, suggest
from dmlbench.evaluation.single_metric import KINDS, selection_metric
from dmlbench.models.weights import sha256, weights_file
from dmlbench.results.metric_specs import METRIC_SPECS, canonical_metric


def check_composed(composed: Composed) -> None:
    """Check the device and the arguments of every constructor, without building anything or reading the data.

    Args:
        composed: Composed configuration.

    Raises:
        UserError: A constructor cannot be imported, an argument is unknown or missing, or the device is not available.
    """
    settings = resolve(composed)
    check_selection_metric(settings.protocol, settings.dataset)
    available_device(settings.device)
    check("dataset.make", settings.dataset.make)
    check("trunk.make", settings.trunk.make)
    for path, spec in (("loss.make", settings.method.make), ("loss.miner", settings.method.miner)):
        if spec is not None:
            check(path, spec)
    if settings.method.sampler is not None:
        check("loss.sampler", settings.method.sampler, positional=3)
    check("sampler", settings.sampler, positional=3)
    check("optimizer", settings.optimizer, positional=1)


def available_device(device: str) -> str:
    """Return the device on which a run computes.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Returns:
        `cpu` or `cuda`.

    Raises:
        UserError: This machine does not have the device.
    """
    available = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if device == "auto":
        return available[-1]
    if device not in available:
        raise UserError(f"device is {device!r}; this machine has {' and '.join(available)}, and auto uses the best of them")
    return device


def check_selection_metric(protocol: Protocol, dataset: Dataset) -> None:
    """Refuse a metric on which no model can be selected.

    Args:
        protocol: Protocol with the metric.
        dataset: Data set, whose values of k are suggested.

    Raises:
        UserError: The metric is unknown, or has no value on validation images.
    """
    name = protocol.selection_metric
    if selection_metric(name) is not None:
        return
    if selection_metric(own := canonical_metric(name)) is not None:
        raise UserError(f"protocol.selection_metric is '{name}', whose name here is {own}; use protocol.selection_metric={own}")
    plain = [one.name for one in METRIC_SPECS if one.kind in KINDS]
    known = [one.replace("<k>", str(k)) for one in plain for k in (dataset.recall_at if "<k>" in one else (0,))]
    raise UserError(f"protocol.selection_metric is '{name}', which is not a metric of validation images{suggest(name, known)}")


def check_evaluation(protocol: Protocol, dataset: Dataset, split: Split, overrides: Sequence[str]) -> None:
    """Refuse values of k, numbers of queries and numbers of clusters that the test images do not suffice for.

    Args:
        protocol: Protocol, with queries and clusters.
        dataset: Data set, with the values of k.
        split: Its images. They may have no gallery.
        overrides: Overrides of the job. A k that is not below the size of the gallery is allowed if neither they nor the
            protocol chose it, so that the values of a data set suit a small part of it.

    Raises:
        UserError: Names the value and the number of images.
    """
    size, ks = int(split.frame["gallery"].sum()), dataset.recall_at
    if not size:
        return
    chosen = protocol.all_ks or any(one.lstrip("+").partition("=")[0] == "dataset.recall_at" for one in overrides)
    if size <= (k := max(ks) if chosen else min(ks)):
        raise UserError(
            f"dataset.recall_at is {list(ks)}, but the gallery has {size:,} images, so any method has a Recall@{k} of 100 %; "
            f"use values below {size:,}"
        )
    n_queries, wanted = int(split.frame["query"].sum()) - split.n_queries_without_positives, protocol.evaluation_queries
    if wanted is not None and wanted > n_queries:
        raise UserError(
            f"protocol.evaluation_queries is {wanted:,}, but {dataset.name} has {n_queries:,} query images with another image "
            f"of their class in the gallery; use at most {n_queries:,}, or null for all"
        )
    _refuse_many_clusters(protocol, dataset, split, "test", ("query", "gallery"))


def check_validation(protocol: Protocol, dataset: Dataset, part: Split) -> None:
    """Refuse a selection metric that the validation images do not suffice for.

    Args:
        protocol: Protocol with the metric.
        dataset: Data set.
        part: Its images with a fold held out.

    Raises:
        UserError: Names the metric and the number of images.
    """
    metric, size = selection_metric(protocol.selection_metric), int(part.frame["val"].sum())
    if not size or metric is None:
        return
    if metric.k is not None and metric.k >= size:
        raise UserError(
            f"protocol.selection_metric is {protocol.selection_metric}, but {dataset.name} has {size:,} validation images; "
            "use a smaller k"
        )
    if metric.spec.kind == "clustering":
        _refuse_many_clusters(protocol, dataset, part, "validation", ("val",))


def _refuse_many_clusters(protocol: Protocol, dataset: Dataset, split: Split, what: str, roles: tuple[str, ...]) -> None:
    labels = split.frame["label"][split.frame[list(roles)].any(axis=1)]
    n_classes, clusters = int(labels.nunique()), protocol.clusters_per_class
    if clusters > 1 and clusters * n_classes > len(labels):
        raise UserError(
            f"protocol.clusters_per_class is {clusters}, but {dataset.name} has {len(labels):,} {what} images of {n_classes:,} "
            f"classes; use at most {len(labels) // n_classes}"
        )


def checked_method(method: Method, dataset: Dataset, protocol: Protocol) -> Method:
    """Check the arguments of loss and miner, and hash the user's own source files.

    Args:
        method: Method as configured.
        dataset: Data set, with the facts of its files; a literal `num_classes` has to equal them.
        protocol: Protocol; a literal `embedding_size` has to equal its `embedding_dim`.

    Returns:
        The method, with the SHA-256 of its source files.

    Raises:
        UserError: An argument is unknown, missing or contradicts data set or protocol.
    """
    if method.make is None:
        return method
    check("loss.make", method.make)
    if method.miner is not None:
        check("loss.miner", method.miner)
    facts = {
        "num_classes": (dataset.train_classes, f"{dataset.name} has {{}} training classes", "dataset.train_classes"),
        "embedding_size": (protocol.embedding_dim, "the protocol's embedding has {} dimensions", "protocol.embedding_dim"),
    }
    for argument, (fact, sentence, key) in facts.items():
        given = method.make.get(argument, fact)
        if given != fact:
            raise UserError(f"loss/{method.name}: {argument} is {given} but {sentence.format(fact)}; use ${{{key}}}")
    return replace(method, source_sha256=source_sha256("loss.make", method.make, method.miner, method.sampler))


def with_attributes(method: Method, dataset: Dataset, split: Split) -> Method:
    """Record in a method which attributes it uses.

    Args:
        method: Method as configured.
        dataset: Data set.
        split: Its images.

    Returns:
        The method, with number and digest of the attributes if it uses them.

    Raises:
        UserError: The method uses attributes, and the data set has none.
    """
    if method.attributes == "ignored":
        return method
    if split.attributes is None:
        raise UserError(
            f"loss/{method.name} uses attributes of the images, but dataset/{dataset.name} has none; {split.attributes_hint}"
        )
    return replace(method, n_attributes=split.n_attributes, attributes_digest=split.attributes.digest)


def checked_trunk(trunk: Trunk) -> Trunk:
    """Check the arguments of the trunk's constructor, and hash its weights.

    Args:
        trunk: Trunk as configured.

    Returns:
        The trunk, with the SHA-256 of its weights.

    Raises:
        UserError: An argument is unknown or missing, or there are no such weights.
    """
    check("trunk.make", trunk.make)
    file = weights_file(f"trunk/{trunk.name}", trunk)
    return replace(trunk, weights_sha256=sha256(file) if file else None)
