"""Checks of a configuration that need torch, but neither the data nor any constructor to be called."""

from __future__ import annotations

from dataclasses import replace

import torch

from dmlbench.config.compose import Composed, resolve
from dmlbench.config.instantiate import check, source_sha256
from dmlbench.config.schema import Dataset, Method, Protocol, Trunk
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.models.weights import sha256, weights_file


def check_composed(composed: Composed) -> None:
    """Check the device and the arguments of every constructor, without building anything or reading the data.

    Args:
        composed: Composed configuration.

    Raises:
        UserError: A constructor cannot be imported, an argument is unknown or missing, or the device is not available.
    """
    settings = resolve(composed)
    available_device(settings.device)
    check("dataset.make", settings.dataset.make)
    check("trunk.make", settings.trunk.make)
    for path, spec in (("loss.make", settings.method.make), ("loss.miner", settings.method.miner)):
        if spec is not None:
            check(path, spec)
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


def check_recall(dataset: Dataset, split: Split) -> None:
    """Refuse values of k that are all at least the size of the gallery, because every Recall@k would be 100 %.

    Args:
        dataset: Data set, with the values of k.
        split: Its images. They may have no gallery.

    Raises:
        UserError: Names the values and the size.
    """
    size, ks = int(split.frame["gallery"].sum()), dataset.recall_at
    if 0 < size <= min(ks):
        raise UserError(f"dataset.recall_at is {list(ks)}, but the gallery has {size:,} images; use smaller values")


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
    return replace(method, source_sha256=source_sha256("loss.make", method.make, method.miner))


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
