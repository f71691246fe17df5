"""Preparation of a run: read the data set, resolve the values that depend on it, and make the plan."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dmlbench.config.compose import Composed, Settings, dataset_settings, resolve
from dmlbench.config.identity import columns_of, flatten
from dmlbench.config.instantiate import build, check, source_sha256
from dmlbench.config.plan import Plan, dataset_source, method_columns, protocol_columns
from dmlbench.config.provenance import provenance
from dmlbench.config.schema import Dataset, Scalar, Trunk
from dmlbench.data.check import readable_split
from dmlbench.data.folds import training_splits
from dmlbench.data.prepare import prepare as prepare_files
from dmlbench.data.split import Split
from dmlbench.results import columns as registry
from dmlbench.runs.checks import (
    available_device,
    check_evaluation,
    check_selection_metric,
    check_validation,
    checked_method,
    checked_trunk,
    with_attributes,
)
from dmlbench.system.atomic_write import remove_stale_temporaries
from dmlbench.tuning.rate_source import rate_source

LoadSplit = Callable[[Dataset, Path, bool], Split]
CACHES = "cache"  # directory below `paths.data`


def prepare(composed: Composed, training_only: bool = False, load: LoadSplit | None = None) -> tuple[Plan, Split]:
    """Make a checked plan; reads the data set's list of images and trains nothing.

    Args:
        composed: Composed configuration.
        training_only: Leave the test images out before any image is opened.
        load: Reads the data set, like `load_split`, which is the default.

    Raises:
        UserError: A value is wrong, or the files contradict the declared facts.
    """
    settings = resolve(composed)
    split = (load or load_split)(settings.dataset, settings.data_dir, training_only)
    return plan_for(composed, split), split


def plan_for(composed: Composed, split: Split) -> Plan:
    """Make the plan of a configuration whose data set has been read.

    Args:
        composed: Composed configuration.
        split: Data set, before any fold is held out.

    Raises:
        UserError: A value is wrong, or does not fit the data set.
    """
    protocol, dataset = resolve(composed).protocol, resolve(composed).dataset
    check_selection_metric(protocol, dataset)
    if protocol.crop_to_box:
        split.boxes()  # raises before any work if there are none
    check_evaluation(protocol, dataset, split, composed.overrides)
    part = training_splits(split, protocol)[0]  # all folds have the same number of training classes
    check_validation(protocol, dataset, part)
    return freeze(composed, resolve(composed, part.facts), split)


def load_split(dataset: Dataset, data_dir: Path, training_only: bool = False) -> Split:
    """Read a data set's list of images and compare it with the declared facts.

    Args:
        dataset: Data set.
        data_dir: Directory in which hashes and completed checks of images are remembered.
        training_only: Leave the test images out once the list is verified, before any image is opened.

    Raises:
        UserError: The files contradict the declared facts, or an image cannot be read.
    """
    split = listed_split(dataset)
    if training_only:
        split = split.training()
    split = readable_split(split, dataset.split, dataset.on_unreadable, data_dir)
    # What was killed while another process finished the same write. Other files of the user may be in `data_dir` itself.
    remove_stale_temporaries(data_dir / CACHES, recursive=False)
    if not training_only:
        split.verify(dataset.name, {})  # skipped images may have left a role empty
    return split


def listed_split(dataset: Dataset) -> Split:
    """Read a data set's list of images and compare it with the declared facts, without opening an image.

    Args:
        dataset: Data set.

    Raises:
        UserError: The files contradict the declared facts.
    """
    split = build(f"dataset/{dataset.name}", dataset.make)
    split.verify(dataset.name, dataset.declared)
    return split


def download_data(composed: Composed) -> Iterator[str]:
    """Download and unpack a data set; the files are moved to its root only if they are verified.

    Args:
        composed: Composed configuration, whose `dataset` is downloaded.

    Yields:
        Lines that report the progress.

    Raises:
        UserError: The data set cannot be downloaded, or its files are not as declared.
    """
    dataset, data_dir = dataset_settings(composed), Path(composed.cfg.paths.data)

    def verified(root: Path) -> Split:
        return load_split(dataset_settings(composed.with_values({"dataset.root": str(root)})), data_dir)

    yield from prepare_files(dataset, data_dir / "archives", verified)


def freeze(composed: Composed, settings: Settings, split: Split) -> Plan:
    """Check constructors, hash weights and sources, and compute the identity of the run.

    Args:
        composed: Composed configuration.
        settings: Its values, resolved with the facts of the split.
        split: Data set, before any fold is held out.

    Returns:
        The plan.

    Raises:
        UserError: A constructor refuses its arguments, the device is not available, or the method uses attributes and the data
            set has none.
    """
    protocol, dataset = settings.protocol, settings.dataset
    method = with_attributes(checked_method(settings.method, dataset, protocol), dataset, split)
    trunk = checked_trunk(settings.trunk)
    device = available_device(settings.device)
    check("sampler", settings.sampler, positional=3)
    check("optimizer", settings.optimizer, positional=1)
    precision = "bf16_training" if device == "cuda" and protocol.mixed_precision else "fp32"
    shared = shared_columns(composed, settings, split, trunk, precision)
    fingerprint, method_digest = registry.fingerprint(shared), registry.method_digest(method_columns(method))
    return Plan(
        dataset=dataset,
        trunk=trunk,
        method=method,
        protocol=protocol,
        sampler=settings.batch_sampler,
        optimizer=settings.optimizer,
        seed=settings.seed,
        shared=shared,
        fingerprint=fingerprint,
        method_digest=method_digest,
        run_id=registry.run_id(fingerprint, method_digest, settings.seed),
        runs=settings.runs_dir,
        device=device,
        precision=precision,
        workers=settings.workers,
        caches=settings.data_dir / CACHES,
        oracle=settings.oracle,
        compile=settings.compile and not protocol.trunk_frozen,
        provenance={
            **provenance(composed),
            "chunk_size": protocol.chunk_size,
            "dataset_source": dataset_source(dataset),
            "resolved_sampler": json.dumps(settings.batch_sampler),  # the shared columns keep references to the method as text
        },
    )


def shared_columns(composed: Composed, settings: Settings, split: Split, trunk: Trunk, precision: str) -> dict[str, Scalar]:
    """Return the columns in which two compared rows must agree; paths, labels, workers and the method are left out.

    Args:
        composed: Composed configuration.
        settings: Its values, resolved with the facts of the split.
        split: Data set, before any fold is held out.
        trunk: Trunk, with the SHA-256 of its weights.
        precision: `fp32` or `bf16_training`, as the device computes.

    Returns:
        Column name to value.
    """
    dataset, protocol = settings.dataset, settings.protocol
    columns: dict[str, Scalar] = {
        "dataset": dataset.name,
        "split_digest": split.digest,
        "split_seed": dataset.split_seed,
        "split_rule": dataset.split,
        "split_recall_at": str(list(dataset.recall_at)),
        "trunk": trunk.name,
        "trunk_source_sha256": source_sha256("trunk.make", trunk.make),
        **columns_of("trunk", trunk),
        "preset": composed.preset,
        "protocol": protocol.name,
        "precision": precision,
        **protocol_columns(protocol),
        "lr_from": rate_source(settings.method, protocol, settings.tuning.trials > 0),
    }
    for group in ("sampler", "optimizer"):
        columns[group] = composed.choices[group]
        columns[f"{group}_source_sha256"] = source_sha256(group, getattr(settings, group))
        columns |= flatten(group, _with_method_references(composed, group, getattr(settings, group)))
    return columns | (columns_of("tuning", settings.tuning) if settings.tuning.trials else {})


def _with_method_references(composed: Composed, group: str, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A group's values, in which references to the method stay text, because their values belong to the method."""
    written = OmegaConf.to_container(composed.cfg[group], resolve=False)
    assert isinstance(written, dict)
    references = {str(k): v for k, v in written.items() if isinstance(v, str) and re.search(r"\$\{\.*loss\.", v)}
    return {**resolved, **references}
